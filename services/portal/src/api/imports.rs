//! Tokens and users out of another system's file: a verdict a row, and with `dry_run` nothing but that.

use super::access::Caller;
use super::extract::Body;
use super::factors::secret;
use super::problem::Problem;
use super::secrets::given;
use crate::app::{App, within};
use crate::rows;
use axum::Json;
use axum::extract::State;
use data_encoding::HEXLOWER_PERMISSIVE;
use domain::Secret;
use otp::import::{BadRow, Field, FileError, Mapping, OldDisabled, Opening, Preset, parted, read_tokens, read_users};
use proto::user_store::{ImportReply, ImportTokensRequest, ImportUsersRequest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// Ten thousand rows and more in one transaction; the whole request has 45 seconds.
const IMPORT_LIMIT: Duration = Duration::from_secs(30);

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokensFile {
    /// entra-oath, pi-oath, pi-export, linotp, pskc or google-export.
    preset: String,
    /// The file, as text.
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    content: Secret,
    /// pskc: the pre-shared key, hexadecimal.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    key: Option<Secret>,
    /// pskc: the password.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    password: Option<Secret>,
    /// Only say what would become of each row.
    #[serde(default)]
    dry_run: bool,
    /// Replace what is there already, instead of leaving it alone.
    #[serde(default)]
    overwrite: bool,
    /// Leave out whose the tokens are.
    #[serde(default)]
    unassigned: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UsersCsv {
    /// CSV, its first line names the columns.
    content: String,
    /// Which column is which field: {"Mobile Phone": "phone"}. Others are found by their usual names.
    #[serde(default)]
    columns: BTreeMap<String, String>,
    #[serde(default)]
    old_disabled: Disabled,
    /// Only say what would become of each row.
    #[serde(default)]
    dry_run: bool,
    /// Change users that are known, instead of skipping them.
    #[serde(default)]
    overwrite: bool,
}

/// What "disabled" meant where the file comes from.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Disabled {
    #[default]
    Disabled,
    /// Not asked for a second factor.
    Exempt,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Imported {
    items: Vec<RowVerdict>,
    added: u32,
    changed: u32,
    unchanged: u32,
    refused: u32,
    /// The good rows are in.
    applied: bool,
    dry_run: bool,
    /// Columns that nothing was taken from.
    unused_columns: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct RowVerdict {
    /// The line; of a PSKC file the place of the key.
    row: u32,
    /// Serial or username.
    name: String,
    /// add, change, unchanged or refused.
    verdict: String,
    text: String,
}

/// Import tokens: the good rows in one transaction, the others with what is wrong with them
#[utoipa::path(post, path = "/tokens/import", tag = "imports", request_body = TokensFile, responses(
    (status = 200, body = Imported), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn tokens(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(file): Body<TokensFile>,
) -> Result<Json<Imported>, Problem> {
    let preset = Preset::from_code(&file.preset).ok_or_else(|| {
        let known = Preset::ALL.map(Preset::code).join(", ");
        Problem::rule(format!("preset: allowed are {known}"))
    })?;
    let key = file.key.as_ref().map(octets).transpose()?;
    if key.is_some() && file.password.is_some() {
        return Err(Problem::rule("password: not together with key"));
    }
    let (content, password, now_ms) = (file.content, file.password, app.now_ms());
    let read = aside(move || {
        let opening = match (&key, &password) {
            (Some(key), _) => Opening::Key(key),
            (None, Some(password)) => Opening::Password(password),
            (None, None) => Opening::Nothing,
        };
        read_tokens(preset, &content, opening, now_ms)
    });
    let (good, bad) = parted(read.await.map_err(refused)?);
    let request = ImportTokensRequest {
        rows: rows::of_tokens(good, file.unassigned),
        dry_run: file.dry_run,
        overwrite: file.overwrite,
        actor: caller.actor,
    };
    let reply = within(IMPORT_LIMIT, request, |request| app.deps.admin.import_tokens(request)).await?;
    Ok(Json(report(reply, bad, file.dry_run, Vec::new())))
}

/// Import fields of users: the good rows in one transaction, the others with what is wrong with them
#[utoipa::path(post, path = "/users/import", tag = "imports", request_body = UsersCsv, responses(
    (status = 200, body = Imported), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn users(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(file): Body<UsersCsv>,
) -> Result<Json<Imported>, Problem> {
    let mut mapping = Mapping::default();
    for (column, field) in &file.columns {
        let field = Field::from_code(field).ok_or_else(|| {
            let known = Field::ALL.map(Field::code).join(", ");
            Problem::rule(format!("columns: allowed fields are {known}"))
        })?;
        mapping.map(column, field);
    }
    let old = match file.old_disabled {
        Disabled::Disabled => OldDisabled::Disabled,
        Disabled::Exempt => OldDisabled::Exempt,
    };
    let content = Secret::from(file.content);
    let read = aside(move || read_users(&content, &mapping, old)).await.map_err(refused)?;
    let (good, bad) = parted(read.rows);
    let request = ImportUsersRequest {
        rows: rows::of_users(good),
        dry_run: file.dry_run,
        update: file.overwrite,
        actor: caller.actor,
    };
    let reply = within(IMPORT_LIMIT, request, |request| app.deps.admin.import_users(request)).await?;
    Ok(Json(report(reply, bad, file.dry_run, read.unused)))
}

fn octets(hexadecimal: &Secret) -> Result<Secret, Problem> {
    let decoded = HEXLOWER_PERMISSIVE.decode(hexadecimal.expose());
    decoded.map(Secret::new).map_err(|_| Problem::rule("key: hexadecimal digits are expected"))
}

fn refused(error: FileError) -> Problem {
    Problem::rule(error.to_string())
}

/// Reads a file where nobody else waits: it may have thousands of rows, and its key may cost thousands of rounds.
async fn aside<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(read).await;
    done.unwrap_or_else(|broken| std::panic::resume_unwind(broken.into_panic()))
}

/// The store's verdicts and ours, in the order of the rows.
fn report(reply: ImportReply, bad: Vec<BadRow>, dry_run: bool, unused: Vec<String>) -> Imported {
    let refused = reply.refused.saturating_add(u32::try_from(bad.len()).unwrap_or(u32::MAX));
    let told = reply.verdicts.into_iter();
    let mut items: Vec<RowVerdict> =
        told.map(|of| RowVerdict { row: of.row, name: of.name, verdict: of.verdict, text: of.text }).collect();
    items.extend(bad.into_iter().map(|BadRow { row, name, error }| RowVerdict {
        row,
        name,
        verdict: "refused".to_owned(),
        text: error.to_string(),
    }));
    items.sort_by_key(|item| item.row);
    Imported {
        items,
        added: reply.added,
        changed: reply.changed,
        unchanged: reply.unchanged,
        refused,
        applied: reply.applied,
        dry_run,
        unused_columns: unused,
    }
}
