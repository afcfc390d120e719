//! Users from a file (FI-02): what a row says is changed in a user that is known; nobody is made, because nobody could check their
//! password. Each row gets a verdict, a dry run stops there, and what is applied is applied as a whole.

use super::edit::{self, Edit};
use super::{actor, find_names};
use crate::Store;
use crate::audit::{self, NewEvent, printable};
use crate::rpc::StoreError;
use proto::user_store::{ImportReply, ImportUsersRequest, RowVerdict, UserRow};
use std::collections::{BTreeSet, HashMap};
use tonic::Status;

const ROWS_MAX: usize = 50_000;
const FIELDS_MAX: usize = 32;

pub async fn import_users(store: &Store, request: ImportUsersRequest) -> Result<ImportReply, StoreError> {
    let actor = actor(&request.actor)?;
    if request.rows.len() > ROWS_MAX {
        let found = request.rows.len();
        return Err(Status::invalid_argument(format!("rows: found {found}; allowed are {ROWS_MAX}")).into());
    }
    // A dry run changes as the import does, and is rolled back: the verdicts cannot differ.
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let names = request.rows.iter().map(|row| row.username.trim());
    let users = find_names(&mut session, names).await?;
    let known: BTreeSet<&str> = users.values().flatten().map(String::as_str).collect();
    let records = edit::records(&mut session, known.into_iter()).await?;
    let (mut seen, mut reply) = (BTreeSet::new(), ImportReply::default());
    let (mut changed, mut events) = (Vec::new(), Vec::new());
    for row in &request.rows {
        let verdict = match (user_of(row, &users, &mut seen), edit_of(row)) {
            (Err(reason), _) | (_, Err(reason)) => Err(reason),
            (Ok(_), Ok(_)) if !request.update => Ok(Verdict { word: "unchanged", text: "known already".into() }),
            (Ok(user_id), Ok(edit)) => {
                let (lines, theirs) = edit::write(store, &mut session, &records[user_id], &actor, &edit).await?;
                events.extend(theirs);
                match lines.is_empty() {
                    true => Ok(Verdict { word: "unchanged", text: String::new() }),
                    false => {
                        changed.push(user_id.to_owned());
                        Ok(Verdict { word: "change", text: lines.join("; ") })
                    }
                }
            }
        };
        count(&mut reply, row, verdict);
    }
    if request.dry_run || changed.is_empty() {
        reply.applied = !request.dry_run;
        return Ok(reply);
    }
    let lines = reply.verdicts.iter().filter(|it| it.verdict == "change").map(|it| format!("{}: {}", it.name, it.text));
    let detail = format!(
        "{} rows: {} changed, {} unchanged, {} refused\n{}",
        request.rows.len(),
        reply.changed,
        reply.unchanged,
        reply.refused,
        lines.collect::<Vec<_>>().join("\n")
    );
    events.push(NewEvent::administrative(store.clock().now_ms(), "users.imported", &actor, detail));
    audit::append(&mut session, head, events).await?;
    session.commit().await?;
    for user_id in &changed {
        store.teller().user_changed(user_id);
    }
    reply.applied = true;
    Ok(reply)
}

struct Verdict {
    word: &'static str,
    text: String,
}

fn count(reply: &mut ImportReply, row: &UserRow, verdict: Result<Verdict, String>) {
    let Verdict { word, text } = verdict.unwrap_or_else(|text| Verdict { word: "refused", text });
    match word {
        "change" => reply.changed += 1,
        "unchanged" => reply.unchanged += 1,
        _ => reply.refused += 1,
    }
    let name = printable(row.username.trim(), 128);
    reply.verdicts.push(RowVerdict { row: row.row, name, verdict: word.into(), text });
}

/// The one user a row means.
fn user_of<'a>(
    row: &UserRow,
    users: &'a HashMap<String, Vec<String>>,
    seen: &mut BTreeSet<&'a str>,
) -> Result<&'a str, String> {
    let name = row.username.trim();
    match users.get(name).map(Vec::as_slice) {
        _ if name.is_empty() => Err("username: is empty".into()),
        None | Some([]) => Err("no user has this name; users come with the synchronisation of their directory".into()),
        Some([user_id]) if seen.insert(user_id) => Ok(user_id),
        Some([_]) => Err("the user stands twice in the file".into()),
        Some(_) => Err("more than one user has this name".into()),
    }
}

fn edit_of(row: &UserRow) -> Result<Edit, String> {
    if row.fields.len() > FIELDS_MAX {
        return Err(format!("found {} fields; allowed are {FIELDS_MAX}", row.fields.len()));
    }
    let mut edit = Edit::default();
    // In one order, so that "language" does not win over "language_call" by chance.
    let mut fields: Vec<(&String, &String)> = row.fields.iter().collect();
    fields.sort();
    for (field, text) in fields {
        // An empty cell says nothing; a file takes nothing away.
        if !text.trim().is_empty() {
            edit.set(field, text)?;
        }
    }
    Ok(edit)
}
