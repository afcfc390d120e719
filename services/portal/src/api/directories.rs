//! Directories: does one serve as it is wanted, before it is saved and afterwards (FD-11)?

use super::access::Caller;
use super::extract::{Body, Path};
use super::factors::secret;
use super::problem::Problem;
use crate::app::{App, within};
use axum::Json;
use axum::extract::State;
use domain::Secret;
use domain::settings::Settings;
use proto::directory::{InspectReply, InspectRequest};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// A directory is read for seconds, and the gateway gives up before us.
pub(crate) const DIRECTORY_LIMIT: Duration = Duration::from_secs(65);
/// For all directories that are tried once they are saved, together: the answer, which has secrets that are shown once, waits for it.
pub(crate) const ONCE_SAVED_LIMIT: Duration = Duration::from_secs(8);
/// How many of them at the same time: a gateway takes 4 such questions, and somebody else may ask, too.
pub(super) const ONCE_SAVED_AT_ONCE: usize = 3;

/// Whom to look at beside everything else.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DirectoryTrial {
    /// A user as they would type their name; the first one found if absent.
    #[serde(default)]
    user: String,
    /// Of that user, tried with one bind. Absent: nobody's is tried.
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = String)]
    password: Secret,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectoryDraft {
    /// As in the settings, in JSON. Its `query_bind.password` may be "keep": the saved one, where it goes to the same servers,
    /// by the same authority, and no less protected.
    #[schema(value_type = Object)]
    pub directory: serde_json::Value,
    /// Of `query_bind`; never given back.
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = String)]
    pub query_password: Secret,
    /// Of `sync_bind`, where it is to be tried; never given back.
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = String)]
    pub sync_password: Secret,
    #[serde(default)]
    pub user: String,
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = String)]
    pub password: Secret,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct DirectoryTested {
    /// Nothing was found that keeps it from serving.
    good: bool,
    lines: Vec<DirectoryFinding>,
}

#[derive(Serialize, ToSchema)]
struct DirectoryFinding {
    /// server, synchronisation, users, groups, containers, paging, changes, attributes, user or authentication.
    about: String,
    /// good, doubtful or bad.
    verdict: String,
    /// One sentence.
    text: String,
}

/// Try a directory of the settings
///
/// Servers, TLS, both binds, base, how many each filter finds, paging, change feeds, one user as mapped.
#[utoipa::path(post, path = "/directories/{name}/test", tag = "directories", request_body = DirectoryTrial, params(("name" = String, Path)), responses(
    (status = 200, body = DirectoryTested), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn test(
    State(app): State<Arc<App>>,
    _: Caller,
    Path(name): Path<String>,
    Body(trial): Body<DirectoryTrial>,
) -> Result<Json<DirectoryTested>, Problem> {
    let request = InspectRequest { directory: name, ..request(trial.user, trial.password)? };
    tested(&app, request).await
}

/// Try a directory before it is saved
///
/// Nothing of it is kept.
#[utoipa::path(post, path = "/directories/test", tag = "directories", request_body = DirectoryDraft, responses(
    (status = 200, body = DirectoryTested), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn test_draft(
    State(app): State<Arc<App>>,
    _: Caller,
    Body(draft): Body<DirectoryDraft>,
) -> Result<Json<DirectoryTested>, Problem> {
    let query_password = given(draft.query_password);
    let request = InspectRequest {
        draft_json: draft.directory.to_string(),
        query_password,
        sync_password: given(draft.sync_password),
        ..request(draft.user, draft.password)?
    };
    tested(&app, request).await
}

fn request(user: String, password: Secret) -> Result<InspectRequest, Problem> {
    match user.is_empty() && !password.is_empty() {
        true => Err(Problem::rule("password: of whom? Name the user as well")),
        false => Ok(InspectRequest { name: user, password: given(password), ..InspectRequest::default() }),
    }
}

fn given(secret: Secret) -> Option<proto::common::Secret> {
    (!secret.is_empty()).then(|| secret.into())
}

impl DirectoryTested {
    /// What each line is about, its verdict and its sentence.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.lines.iter().map(|line| (line.about.as_str(), line.verdict.as_str(), line.text.as_str()))
    }
}

/// A directory of the settings, without anybody's name.
pub(crate) async fn tried(app: &App, directory: &str) -> Result<DirectoryTested, Problem> {
    let request = InspectRequest { directory: directory.to_owned(), ..InspectRequest::default() };
    Ok(tested(app, request).await?.0)
}

/// FS-05, S-03: what a directory that was just saved offers, and whether the account may use it. It stays saved, whatever is found.
pub(super) async fn tried_once_saved(
    app: &App,
    settings: &Settings,
    secrets: &HashMap<String, proto::common::Secret>,
    name: &str,
    limit: Duration,
) -> DirectoryTested {
    let bad = |text: String| DirectoryTested {
        good: false,
        lines: vec![DirectoryFinding { about: "server".into(), verdict: "bad".into(), text }],
    };
    let Some(directory) = settings.directory(name) else { return bad("The document has no such directory.".into()) };
    // As the document has it, so that it does not matter whether the gateway has heard of it yet.
    let draft_json = match serde_json::to_string(directory) {
        Ok(json) => json,
        Err(error) => return bad(format!("It could not be tried: {error}.")),
    };
    let query_password = secrets.get(&format!("directory.{name}.query_bind.password")).cloned();
    let own = directory.sync_bind.as_ref().map(|_| directory.sync_password_name());
    let sync_password = own.and_then(|own| secrets.get(&own).cloned());
    let request = InspectRequest { draft_json, query_password, sync_password, ..InspectRequest::default() };
    match within(limit, request, |request| app.deps.directories.inspect(request)).await {
        Ok(reply) => shown(reply),
        Err(status) if status.code() == tonic::Code::DeadlineExceeded => bad(format!(
            "It is saved, and was not tried to the end: that takes more than a few seconds. POST /directories/{name}/test does."
        )),
        Err(status) => bad(format!("It could not be tried: {}.", status.message())),
    }
}

async fn tested(app: &App, request: InspectRequest) -> Result<Json<DirectoryTested>, Problem> {
    let reply = within(DIRECTORY_LIMIT, request, |request| app.deps.directories.inspect(request)).await?;
    Ok(Json(shown(reply)))
}

fn shown(reply: InspectReply) -> DirectoryTested {
    let line = |line: proto::directory::Inspected| DirectoryFinding {
        about: line.about,
        verdict: line.verdict,
        text: line.text,
    };
    DirectoryTested { good: reply.good, lines: reply.lines.into_iter().map(line).collect() }
}
