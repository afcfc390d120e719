//! `twinlock import`: tokens and users out of another system's file.
//!
//! ```text
//! file -> rows (otp::import) -> the store's dry run -> a verdict a row -> question -> the store, in one transaction -> report
//! ```

use super::{confirmed, now_unix_ms, secret_from};
use crate::{
    connect::Connection,
    failure::{Exit, Failure},
    output::Output,
};
use clap::Args;
use data_encoding::HEXLOWER_PERMISSIVE;
use domain::Secret;
use otp::import::{
    BadRow, FILE_BYTES_MAX, Field, Holder, Mapping, OldDisabled, Opening, Preset, parted, read_tokens, read_users,
    recognise,
};
use portal::rows;
use proto::user_store::{
    AssignTokenRequest, GetUserRequest, ImportReply, ImportTokensRequest, ImportUsersRequest, ListTokensRequest,
    RowVerdict,
};
use serde_json::{Value, json};
use std::{
    io::Read,
    path::{Path, PathBuf},
};
use tonic::Code;

const USERS_CSV: &str = "users-csv";
const DUO_CSV: &str = "duo-csv";

#[derive(Debug, Clone, Args)]
pub struct Import {
    /// How the file is written. Tokens are recognised without.
    #[arg(long, value_parser = ["entra-oath", "pi-oath", "pi-export", "linotp", "pskc", "google-export", USERS_CSV, DUO_CSV])]
    preset: Option<String>,
    /// `-` = stdin.
    file: PathBuf,
    /// Only say what would become of each row.
    #[arg(long)]
    dry_run: bool,
    /// Replace tokens that are there already, and change users that are known, instead of leaving them alone.
    #[arg(long)]
    overwrite: bool,
    /// Leave out whose the tokens are; they are assigned later.
    #[arg(long)]
    unassigned: bool,
    /// users-csv: which column is which field: `--map "Mobile Phone=phone"`.
    #[arg(long = "map", value_name = "COLUMN=FIELD", value_parser = mapped)]
    map: Vec<(String, Field)>,
    /// users-csv: what "disabled" meant there: refuse the user (the default, after a question), or (exempt) never ask for a second
    /// factor.
    #[arg(long, value_parser = ["disabled", "exempt"])]
    old_disabled: Option<String>,
    /// pskc: the pre-shared key, its octets or hexadecimal digits.
    #[arg(long, conflicts_with = "password_file")]
    key_file: Option<PathBuf>,
    /// pskc: the password, on one line; `-` = a line of stdin.
    #[arg(long)]
    password_file: Option<PathBuf>,
    #[arg(long)]
    yes: bool,
}

pub async fn run(import: Import, connection: Connection, output: Output) -> Result<(), Failure> {
    let file = read(&import.file)?;
    match import.preset.as_deref() {
        Some(USERS_CSV | DUO_CSV) => users(&file, &import, connection, output).await,
        Some(code) => {
            let preset = Preset::from_code(code).ok_or_else(|| Failure::wrong_use("unknown preset"))?;
            tokens(preset, &file, &import, connection, output).await
        }
        None => {
            let preset = recognise(&file).ok_or_else(|| not_recognised(&import.file))?;
            crate::output::say(&format!("recognised as {}", preset.code()));
            tokens(preset, &file, &import, connection, output).await
        }
    }
}

fn not_recognised(path: &Path) -> Failure {
    let known = Preset::ALL.map(Preset::code).join(", ");
    Failure::wrong_use(format!(
        "{}: this is not recognised as a file of tokens; say what it is: --preset {known}, {USERS_CSV} or {DUO_CSV}",
        path.display()
    ))
}

async fn tokens(
    preset: Preset,
    file: &Secret,
    import: &Import,
    mut connection: Connection,
    output: Output,
) -> Result<(), Failure> {
    let key = import.key_file.as_deref().map(key).transpose()?;
    let password = import.password_file.as_deref().map(|file| secret_from(file, "password of the file")).transpose()?;
    let opening = match (&key, &password) {
        (Some(key), _) => Opening::Key(key),
        (None, Some(password)) => Opening::Password(password),
        (None, None) => Opening::Nothing,
    };
    let rows = read_tokens(preset, file, opening, now_unix_ms()).map_err(|error| refused(&import.file, &error))?;
    let (good, bad) = parted(rows);
    let rows = rows::of_tokens(good, import.unassigned);
    let request = |dry_run, rows| ImportTokensRequest {
        rows,
        dry_run,
        overwrite: import.overwrite,
        actor: connection.actor.clone(),
    };
    let plan = connection.admin.clone().import_tokens(request(true, rows.clone())).await?.into_inner();
    if import.dry_run {
        return report(output, &plan, bad, true);
    }
    go_on(&plan, bad.len(), "token", import.yes)?;
    let done = connection.admin.import_tokens(request(false, rows)).await?.into_inner();
    report(output, &done, bad, false)
}

async fn users(file: &Secret, import: &Import, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let mut mapping = Mapping::default();
    for (column, field) in &import.map {
        mapping.map(column, *field);
    }
    let old = match import.old_disabled.as_deref() {
        Some("exempt") => OldDisabled::Exempt,
        _ => OldDisabled::Disabled,
    };
    let read = read_users(file, &mapping, old).map_err(|error| refused(&import.file, &error))?;
    if !read.unused.is_empty() {
        crate::output::say(&format!("not imported: {}", read.unused.join(", ")));
    }
    let holders = if import.preset.as_deref() == Some(DUO_CSV) { read.holders } else { Vec::new() };
    let (good, bad) = parted(read.rows);
    let rows = rows::of_users(good);
    let actor = connection.actor.clone();
    let request = |dry_run, rows| ImportUsersRequest { rows, dry_run, update: import.overwrite, actor: actor.clone() };
    let plan = connection.admin.import_users(request(true, rows.clone())).await?.into_inner();
    let plan = with_tokens(plan, holders.clone(), true, &mut connection).await?;
    if import.dry_run {
        return report(output, &plan, bad, true);
    }
    // FI-02: where the file comes from the word may have meant something else, and nobody said what.
    let disabled = rows.iter().filter(|row| row.fields.get("state").is_some_and(|state| state == "disabled")).count();
    if import.overwrite && import.old_disabled.is_none() && disabled > 0 {
        let question = format!(
            "{disabled} users are disabled in the file, and could not log in from now on. Where \"disabled\" meant that they are not \
             asked for a second factor, say --old-disabled exempt instead. Disable them?"
        );
        confirmed(&question, import.yes)?;
    }
    go_on(&plan, bad.len(), "user", import.yes)?;
    let done = connection.admin.import_users(request(false, rows)).await?.into_inner();
    let done = with_tokens(done, holders, false, &mut connection).await?;
    report(output, &done, bad, false)
}

/// Gives the tokens to whom the file says. Their secrets come from the vendor, and before: the file holds serials alone.
async fn with_tokens(
    mut reply: ImportReply,
    holders: Vec<Holder>,
    dry_run: bool,
    connection: &mut Connection,
) -> Result<ImportReply, Failure> {
    for Holder { row, username, serial } in holders {
        let user_id = match connection.admin.get_user(GetUserRequest { name: username.clone() }).await {
            Ok(found) => found.into_inner().user.unwrap_or_default().user_id,
            // The row itself says what is wrong with the name.
            Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => continue,
            Err(status) => return Err(status.into()),
        };
        let request = ListTokensRequest { search: serial.clone(), limit: 1000, ..ListTokensRequest::default() };
        let found = connection.admin.list_tokens(request).await?.into_inner().tokens;
        let token = found.into_iter().find(|token| token.serial.eq_ignore_ascii_case(&serial));
        let (verdict, text) = match token {
            None => ("refused", "the token is not there; import what its vendor gave you first".to_owned()),
            Some(token) if token.user_id == user_id => ("unchanged", String::new()),
            Some(token) if !token.user_id.is_empty() => ("refused", format!("the token is {}'s", token.username)),
            Some(token) if dry_run => ("change", format!("token {} -> {username}", token.serial)),
            Some(token) => {
                let (serial, actor) = (token.serial, connection.actor.clone());
                let text = format!("token {serial} -> {username}");
                match connection.admin.assign_token(AssignTokenRequest { serial, user_id, actor }).await {
                    Ok(_) => ("change", text),
                    Err(status) => ("refused", status.message().to_owned()),
                }
            }
        };
        match verdict {
            "refused" => reply.refused += 1,
            "unchanged" => reply.unchanged += 1,
            _ => reply.changed += 1,
        }
        reply.verdicts.push(RowVerdict { row, name: serial, verdict: verdict.into(), text });
    }
    Ok(reply)
}

fn go_on(plan: &ImportReply, unread: usize, what: &str, yes: bool) -> Result<(), Failure> {
    let refused = plan.refused as usize + unread;
    let question = format!(
        "{} {what}s are added, {} changed, {} left as they are, {refused} refused (--dry-run shows each). Import them?",
        plan.added, plan.changed, plan.unchanged
    );
    confirmed(&question, yes)
}

/// A verdict a row. Rows that were refused make the answer a no; the good ones are in all the same.
fn report(output: Output, reply: &ImportReply, bad: Vec<BadRow>, dry_run: bool) -> Result<(), Failure> {
    let refused = reply.refused as usize + bad.len();
    let mut items: Vec<(u32, Value)> = reply
        .verdicts
        .iter()
        .map(|of| (of.row, json!({ "row": of.row, "name": of.name, "verdict": of.verdict, "text": of.text })))
        .collect();
    items.extend(bad.into_iter().map(|BadRow { row, name, error }| {
        (row, json!({ "row": row, "name": name, "verdict": "refused", "text": error.to_string() }))
    }));
    items.sort_by_key(|(row, _)| *row);
    let sentence = format!(
        "{} added, {} changed, {} unchanged, {refused} refused{}",
        reply.added,
        reply.changed,
        reply.unchanged,
        if dry_run { "; nothing was changed" } else { "" }
    );
    let figures = json!({
        "added": reply.added, "changed": reply.changed, "unchanged": reply.unchanged, "refused": refused,
        "applied": reply.applied, "dry_run": dry_run,
    });
    let items = items.into_iter().map(|(_, item)| item).collect();
    output.summed(&["row", "name", "verdict", "text"], items, &sentence, figures);
    match refused {
        0 => Ok(()),
        refused => Err(Failure::no(format!("{refused} rows were refused"))),
    }
}

/// At most as much as the readers take, and one octet, by which they see that it is more.
fn read(path: &Path) -> Result<Secret, Failure> {
    let failed = |error| Failure::wrong_use(format!("{}: {error}", path.display()));
    let mut content = Vec::new();
    let limit = FILE_BYTES_MAX as u64 + 1;
    match path.as_os_str() == "-" {
        true => std::io::stdin().lock().take(limit).read_to_end(&mut content).map_err(failed)?,
        false => {
            std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut content)).map_err(failed)?
        }
    };
    Ok(Secret::new(content))
}

fn refused(path: &Path, error: &otp::import::FileError) -> Failure {
    Failure::new(Exit::No, format!("{}: {error}", path.display()))
}

/// The octets of the file, or what its hexadecimal digits stand for.
fn key(path: &Path) -> Result<Secret, Failure> {
    let content = secret_from(path, "key of the file")?;
    let digits: Vec<u8> = content.expose().iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
    match HEXLOWER_PERMISSIVE.decode(&digits) {
        Ok(octets) if matches!(octets.len(), 16 | 24 | 32) => Ok(Secret::new(octets)),
        _ => Ok(content),
    }
}

fn mapped(text: &str) -> Result<(String, Field), String> {
    let (column, field) = text.rsplit_once('=').ok_or("a mapping is written COLUMN=FIELD")?;
    let known = || Field::ALL.map(Field::code).join(", ");
    let field = Field::from_code(field.trim()).ok_or_else(|| format!("unknown field; known: {}", known()))?;
    Ok((column.trim().to_owned(), field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_given_as_octets_or_as_hexadecimal_digits() {
        let folder = tempfile::tempdir().expect("a folder");
        let with = |content: &[u8]| {
            let file = folder.path().join("key");
            std::fs::write(&file, content).expect("written");
            key(&file).expect("read").expose().to_vec()
        };
        assert_eq!(with(b"00112233445566778899aabbccddeeff\n"), (0..16).map(|octet| octet * 17).collect::<Vec<u8>>());
        assert_eq!(
            with(b"00 11 22 33 44 55 66 77 88 99 AA BB CC DD EE FF"),
            (0..16).map(|octet| octet * 17).collect::<Vec<u8>>()
        );
        assert_eq!(with(b"sixteen octets!!"), b"sixteen octets!!");
    }

    #[test]
    fn a_mapping_names_a_field_that_there_is() {
        assert_eq!(mapped("Phone = Office=phone"), Ok(("Phone = Office".to_owned(), Field::Phone)));
        assert!(mapped("Phone").is_err());
        assert!(mapped("Phone=telephone").is_err_and(|text| text.contains("backup_phone")));
    }
}
