//! `twinlock sync`: runs of the directory synchronisation, and leavers that wait for a person.

mod history;
mod people;
mod wait;

use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, printable, say, time},
};
use clap::{Args, Subcommand};
use proto::user_store::{
    Approval, ApprovalUser, DecideApprovalRequest, ListApprovalUsersRequest, SourcePin, SyncChange, SyncChangesRequest,
    SyncRun, SyncSource, SyncStatusReply, SyncStatusRequest, UnusableValue,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf};

/// Of changes and leavers; the most the store gives at once.
const PAGE: u32 = 1000;
/// What a status shows; `history` has the rest.
const RUNS_SHOWN: usize = 10;
/// What fits on a screen before a question; `run` has the rest.
const CHANGES_ASKED_ABOUT: usize = 40;

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Who leads, how each directory stands, the last runs, what waits for approval.
    Status,
    /// Reads the directories now, all of it: shows what would change, asks, writes, and prints what changed. The first run, and the
    /// first after sync items changed, is asked for with it. Where no terminal is there to ask, it writes at once.
    Now {
        #[command(flatten)]
        which: Which,
        /// Write at once; show and ask nothing.
        #[arg(long)]
        yes: bool,
        /// Write although account, base, filter or server are others than before.
        #[arg(long)]
        accept_source: bool,
        /// Only what changed since the last run, as the schedule would; everything where that is not possible.
        #[arg(long, conflicts_with = "accept_source")]
        changes: bool,
        /// Write what this preview lists, and nothing where the list is another one by now; may stand several times, once a directory.
        #[arg(long, value_name = "RUN", conflicts_with_all = ["only", "changes", "yes"])]
        looked_at: Vec<String>,
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
    },
    /// What a run would change now, user by user. Nothing is written.
    #[command(visible_alias = "preview")]
    Plan {
        #[command(flatten)]
        which: Which,
        /// By the sync items of this document, which is not applied; `-` = stdin.
        #[arg(long, value_name = "FILE")]
        settings: Option<PathBuf>,
    },
    /// Users of a directory, chosen by name or by search, become a sync item's.
    Import(people::Import),
    /// Which sync item would own a user, as the directory is now, and which does.
    Owner(people::Owner),
    /// What a run did, user by user.
    Run {
        /// As `history` names it.
        id: String,
    },
    /// The runs, newest first, a page at a time.
    History(history::History),
    /// Lists of users that wait for approval; of one list, who they are.
    Approvals { id: Option<String> },
    /// Lets parked leavers go: all of them, or those named, while the others stay. A list is decided once.
    Approve {
        id: String,
        #[command(flatten)]
        whom: Whom,
        /// Why, for the audit; needed where somebody would be exempt from the second factor.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        reason: String,
    },
    /// Keeps all parked leavers of a list.
    Refuse { id: String },
}

#[derive(Debug, Clone, Args)]
pub struct Which {
    /// A directory, or a sync item, whose directory is read; all that have sync items if absent.
    #[arg(value_name = "DIRECTORY|ITEM", default_value = "", hide_default_value = true)]
    only: String,
    /// How long to wait for the end, in seconds.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    wait: u64,
}

#[derive(Debug, Clone, Args)]
pub struct Whom {
    /// Only this user; may stand several times.
    #[arg(long = "user", value_name = "NAME")]
    users: Vec<String>,
    /// Only those named in this file, one a line.
    #[arg(long)]
    only: Option<PathBuf>,
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    let connection = &mut connection;
    match command {
        Command::Status => print_status(output, &status(connection).await?),
        Command::Now { which, yes, accept_source, changes, looked_at, no_wait } => {
            let how = wait::How { accept_source, preview: false, changes };
            let asks = looked_at.is_empty() && !yes && !changes && !no_wait && super::can_be_asked();
            let listed = match asks {
                true => look_first(connection, output, &which).await?,
                false => history::of(connection, &looked_at).await?,
            };
            let asked = match listed.is_empty() {
                true => wait::ask(connection, &which.only, how).await?,
                false => wait::ask_as_listed(connection, &listed, accept_source).await?,
            };
            if no_wait {
                return Ok(());
            }
            let mut runs = wait::ended(connection, asked, which.wait).await?;
            if asks {
                while let Some(asked) = once_more(connection, output, &runs, accept_source).await? {
                    let again = wait::ended(connection, asked, which.wait).await?;
                    runs.retain(|run| again.iter().all(|other| other.directory != run.directory));
                    runs.extend(again);
                }
            }
            output.list(&RUN_COLUMNS, runs.iter().map(run_record).collect(), None);
            return wait::verdict(&runs, how);
        }
        Command::Plan { which, settings } => {
            let how = wait::How { accept_source: false, preview: true, changes: false };
            let asked = match settings {
                None => wait::ask(connection, &which.only, how).await?,
                Some(file) => {
                    let text = super::settings::read(&file)?;
                    let draft = toml::from_str(&text);
                    let draft = draft.map_err(|error| Failure::no(format!("{}: {error}", file.display())))?;
                    wait::ask_of_draft(connection, &draft, &which.only).await?
                }
            };
            let runs = wait::ended(connection, asked, which.wait).await?;
            print_plan(connection, output, &runs).await?;
            return wait::verdict(&runs, how);
        }
        Command::Import(import) => people::import(import, connection, output).await?,
        Command::Owner(owner) => people::owner(owner, connection, output).await?,
        Command::Run { id } => print_run(connection, output, &id).await?,
        Command::History(history) => history::run(history, connection, output).await?,
        Command::Approvals { id: None } => {
            let approvals = status(connection).await?.approvals;
            output.list(&APPROVAL_COLUMNS, approvals.iter().map(approval_record).collect(), None);
        }
        Command::Approvals { id: Some(id) } => {
            let users = approval_users(connection, &id).await?;
            let columns = ["username", "action", "why", "dn"];
            output.list(&columns, users.iter().map(leaver_record).collect(), None);
        }
        Command::Approve { id, whom, reason } => {
            decide(connection, output, id, true, whom.usernames()?, reason).await?;
        }
        Command::Refuse { id } => decide(connection, output, id, false, Vec::new(), String::new()).await?,
    }
    Ok(())
}

/// FS-09: the change list, then the question. The previews that were said yes to.
async fn look_first(connection: &mut Connection, output: Output, which: &Which) -> Result<Vec<SyncRun>, Failure> {
    say("reading; nothing is written yet");
    let preview = wait::How { accept_source: false, preview: true, changes: false };
    let runs = wait::run(connection, &which.only, preview, which.wait).await?;
    wait::verdict(&runs, preview)?;
    for source in status(connection).await?.sources {
        if runs.iter().any(|run| run.directory == source.directory) && !source.waits_for.is_empty() {
            let why = source.waits_for.split(": ").next().unwrap_or_default();
            say(&printable(&format!(
                "directory {}: {why}; no run begins by itself until this one is written",
                source.directory
            )));
        }
    }
    show_and_ask(connection, output, &runs).await?;
    Ok(runs)
}

/// What was not written though somebody said yes, because the list has changed or the source is another one (S-44): shown, and asked
/// about once more. `None` = nothing of that kind.
async fn once_more(
    connection: &mut Connection,
    output: Output,
    runs: &[SyncRun],
    accept_source: bool,
) -> Result<Option<wait::Asked>, Failure> {
    let of = |which: fn(&&SyncRun) -> bool| runs.iter().filter(which).cloned().collect::<Vec<SyncRun>>();
    let changed = of(|run| run.list_has_changed());
    if !changed.is_empty() {
        for run in &changed {
            say(&printable(&format!("directory {}: nothing was written: {}", run.directory, run.error)));
        }
        show_and_ask(connection, output, &changed).await?;
        return wait::ask_as_listed(connection, &changed, accept_source).await.map(Some);
    }
    // Who said yes to the list has seen what the other source makes of the users.
    let others = of(|run| run.state == "done" && run.mode == "preview");
    if others.is_empty() {
        return Ok(None);
    }
    for run in &others {
        say(&printable(&format!("directory {}: {}", run.directory, run.why)));
    }
    super::confirmed("Nothing was written. Write nevertheless?", false)?;
    wait::ask_as_listed(connection, &others, true).await.map(Some)
}

async fn show_and_ask(connection: &mut Connection, output: Output, runs: &[SyncRun]) -> Result<(), Failure> {
    let records = planned(connection, runs).await?;
    let sentence = sum(&records);
    let shown: Vec<Value> = records.iter().take(CHANGES_ASKED_ABOUT).cloned().collect();
    let left = records.len() - shown.len();
    output.list(&PLAN_COLUMNS, shown, None);
    if left > 0 {
        let ids: Vec<&str> = runs.iter().map(|run| run.run_id.as_str()).collect();
        say(&format!("and {left} more; all of them: `twinlock sync run {}`", ids.join("` and `twinlock sync run ")));
    }
    super::confirmed(&format!("{sentence}. Write it?"), false)
}

const RUN_COLUMNS: [&str; 12] = [
    "directory",
    "mode",
    "state",
    "started",
    "added",
    "changed",
    "unchanged",
    "disabled",
    "removed",
    "parked",
    "problems",
    "error",
];
const SOURCE_COLUMNS: [&str; 8] =
    ["directory", "base", "feed", "users", "last_full", "last_complete", "next", "waits_for"];
const APPROVAL_COLUMNS: [&str; 6] = ["id", "directory", "users", "why", "created", "expires"];
const PLAN_COLUMNS: [&str; 4] = ["directory", "username", "what", "detail"];
const CHANGE_COLUMNS: [&str; 3] = ["username", "what", "detail"];

async fn status(connection: &mut Connection) -> Result<SyncStatusReply, Failure> {
    Ok(connection.admin.sync_status(SyncStatusRequest {}).await?.into_inner())
}

fn print_status(output: Output, status: &SyncStatusReply) {
    if output.is_json() {
        line(&status_record(status).to_string());
        return;
    }
    let leader = if status.leader.is_empty() { "nobody" } else { &status.leader };
    line(&format!("leader  {} (epoch {})\n", printable(leader), status.epoch));
    output.list(&SOURCE_COLUMNS, status.sources.iter().map(source_record).collect(), None);
    for source in &status.sources {
        for offer in &source.offers {
            line(&printable(&format!("{} offers {offer}", source.directory)));
        }
        for pin in &source.pins {
            let SourcePin { sync_item, kind, distinguished_name, object_id } = pin;
            line(&printable(&format!("the {kind} of {sync_item}, {distinguished_name}, is known as {object_id}")));
        }
    }
    line("");
    output.list(&RUN_COLUMNS, status.runs.iter().take(RUNS_SHOWN).map(run_record).collect(), None);
    for approval in &status.approvals {
        line(&printable(&format!(
            "waits for approval: {} users of {}{}; see `twinlock sync approvals {}`",
            approval.users,
            approval.directory,
            because(&approval.why),
            approval.approval_id
        )));
    }
}

async fn print_plan(connection: &mut Connection, output: Output, runs: &[SyncRun]) -> Result<(), Failure> {
    let records = planned(connection, runs).await?;
    let waits = runs.iter().filter(|run| !run.parked_why.is_empty());
    let waits =
        waits.map(|run| printable(&format!("; those of {} would wait because {}", run.directory, run.parked_why)));
    let sentence = sum(&records) + &not_listed(runs, &records) + &waits.collect::<String>();
    let runs: Vec<Value> = runs.iter().map(run_record).collect();
    output.summed(&PLAN_COLUMNS, records, &sentence, json!({ "runs": runs }));
    Ok(())
}

/// What previews found, user by user.
async fn planned(connection: &mut Connection, runs: &[SyncRun]) -> Result<Vec<Value>, Failure> {
    let mut records = Vec::new();
    for run in runs {
        let changes = changes(connection, &run.run_id).await?;
        let unusable = match run.problems {
            0 => None,
            _ => history::find(connection, &run.run_id).await?,
        };
        let unusable = unusable.iter().flat_map(|run| &run.unusable).map(unusable_record);
        for mut record in changes.iter().map(change_record).chain(unusable) {
            record["directory"] = json!(run.directory);
            records.push(record);
        }
    }
    Ok(records)
}

fn sum(records: &[Value]) -> String {
    let of = |what: &str| records.iter().filter(|record| record["what"] == what).count();
    format!(
        "{} users would be added, {} changed, {} enabled, {} disabled, {} removed; {} would wait for approval; {} problems",
        of("added"),
        of("changed"),
        of("enabled"),
        of("disabled"),
        of("removed"),
        of("parked"),
        of("problem")
    )
}

/// How many problems these records do not name: the store keeps the first values that cannot be used.
fn not_listed(runs: &[SyncRun], records: &[Value]) -> String {
    let all: u64 = runs.iter().map(|run| run.problems).sum();
    let listed = records.iter().filter(|record| record["what"] == "problem").count() as u64;
    match all.saturating_sub(listed) {
        0 => String::new(),
        more => format!("; {more} more problems are not listed"),
    }
}

/// A reason to append, where there is one.
fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(" ({why})") }
}

async fn print_run(connection: &mut Connection, output: Output, run_id: &str) -> Result<(), Failure> {
    let run = history::find(connection, run_id).await?;
    let mut records: Vec<Value> = changes(connection, run_id).await?.iter().map(change_record).collect();
    records.extend(run.iter().flat_map(|run| &run.unusable).map(unusable_record));
    let sentence = match &run {
        Some(run) => {
            let why = if run.why.is_empty() { String::new() } else { format!(" ({})", run.why) };
            let items = run.items.iter().map(|item| format!("; {}: {} users", item.sync_item, item.users));
            let error = if run.error.is_empty() { String::new() } else { format!("; {}", run.error) };
            let waits = match (run.parked, run.mode == "preview") {
                (0, _) => String::new(),
                (users, true) => format!("; {users} would wait for approval{}", because(&run.parked_why)),
                (users, false) => format!("; {users} wait for approval{}", because(&run.parked_why)),
            };
            let repeats = match run.repeats {
                0 => String::new(),
                more => format!(" (and {more} times more)"),
            };
            printable(&format!(
                "{}: {}{repeats}, {}{why}{error}{waits}{}{}",
                run.directory,
                run.state,
                run.mode,
                items.collect::<String>(),
                not_listed(std::slice::from_ref(run), &records)
            ))
        }
        None => format!("{} changes", records.len()),
    };
    output.summed(&CHANGE_COLUMNS, records, &sentence, json!({ "run": run.as_ref().map(run_record) }));
    Ok(())
}

/// All of them. The store keeps them for some months, so that their number has an end.
async fn changes(connection: &mut Connection, run_id: &str) -> Result<Vec<SyncChange>, Failure> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let request = SyncChangesRequest { run_id: run_id.to_owned(), after, limit: PAGE };
        let page = connection.admin.sync_changes(request).await?.into_inner().changes;
        let next = page.last().map(|change| change.number);
        all.extend(page);
        match next {
            Some(number) if number > after => after = number,
            _ => return Ok(all),
        }
    }
}

async fn approval_users(connection: &mut Connection, approval_id: &str) -> Result<Vec<ApprovalUser>, Failure> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let request =
            ListApprovalUsersRequest { approval_id: approval_id.to_owned(), after: after.clone(), limit: PAGE };
        let page = connection.admin.list_approval_users(request).await?.into_inner();
        all.extend(page.users);
        if page.next.is_empty() || page.next == after {
            return Ok(all);
        }
        after = page.next;
    }
}

async fn decide(
    connection: &mut Connection,
    output: Output,
    approval_id: String,
    approve: bool,
    usernames: Vec<String>,
    reason: String,
) -> Result<(), Failure> {
    let actor = connection.actor.clone();
    let now_unix_ms = super::now_unix_ms();
    let request = DecideApprovalRequest { approval_id, approve, usernames, actor, now_unix_ms, reason };
    let applied = connection.admin.decide_approval(request).await?.into_inner().applied;
    output.text(&format!("{applied} applied"), &json!({ "applied": applied }));
    Ok(())
}

impl Whom {
    /// Empty = all of them, which only happens where nobody was named.
    fn usernames(self) -> Result<Vec<String>, Failure> {
        let mut named = self.users;
        if let Some(file) = &self.only {
            let text = super::settings::read(file)?;
            named.extend(text.lines().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
            if named.is_empty() {
                return Err(Failure::wrong_use(format!("{}: names nobody", file.display())));
            }
        }
        match named.iter().any(String::is_empty) {
            true => Err(Failure::wrong_use("--user: is empty")),
            false => Ok(named),
        }
    }
}

fn status_record(status: &SyncStatusReply) -> Value {
    json!({
        "leader": status.leader, "epoch": status.epoch,
        "sources": status.sources.iter().map(source_record).collect::<Vec<_>>(),
        "runs": status.runs.iter().map(run_record).collect::<Vec<_>>(),
        "approvals": status.approvals.iter().map(approval_record).collect::<Vec<_>>(),
    })
}

fn source_record(source: &SyncSource) -> Value {
    json!({
        "directory": source.directory, "base": source.base, "feed": source.feed, "offers": source.offers, "users": source.users,
        "last_full": time(source.full_unix_ms), "last_complete": time(source.complete_unix_ms),
        "next": time(source.next_unix_ms), "waits_for": source.waits_for, "pins": source.pins.iter().map(pin_record).collect::<Vec<_>>(),
    })
}

fn pin_record(pin: &SourcePin) -> Value {
    json!({
        "sync_item": pin.sync_item, "kind": pin.kind, "distinguished_name": pin.distinguished_name, "object_id": pin.object_id,
    })
}

fn run_record(run: &SyncRun) -> Value {
    let items: BTreeMap<&str, u64> = run.items.iter().map(|item| (item.sync_item.as_str(), item.users)).collect();
    json!({
        "id": run.run_id, "directory": run.directory, "mode": run.mode, "why": run.why, "feed": run.feed,
        "trigger": run.trigger, "actor": run.actor, "state": run.state,
        "started": time(run.started_unix_ms), "finished": time(run.finished_unix_ms),
        "added": run.added, "changed": run.changed, "unchanged": run.unchanged,
        "disabled": run.disabled, "removed": run.removed, "parked": run.parked, "parked_why": run.parked_why, "error": run.error, "items": items,
        "problems": run.problems, "repeats": run.repeats,
    })
}

fn approval_record(approval: &Approval) -> Value {
    json!({
        "id": approval.approval_id, "directory": approval.directory, "users": approval.users, "why": approval.why,
        "created": time(approval.created_unix_ms), "expires": time(approval.expires_unix_ms),
    })
}

fn change_record(change: &SyncChange) -> Value {
    json!({ "username": change.username, "what": change.what, "detail": change.detail })
}

fn unusable_record(value: &UnusableValue) -> Value {
    json!({ "username": value.entry, "what": "problem", "detail": format!("{} {}", value.attribute, value.why) })
}

fn leaver_record(user: &ApprovalUser) -> Value {
    json!({
        "username": user.username, "action": user.action, "why": user.why, "dn": user.distinguished_name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_named_is_everybody_and_a_list_without_names_is_a_mistake() {
        // FS-07
        let whom = |users: &[&str], only: Option<&str>| {
            let users = users.iter().map(|name| (*name).to_owned()).collect();
            Whom { users, only: only.map(PathBuf::from) }.usernames()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.to_str().expect("a text").to_owned()
        };
        let (some, none) = (file("some", "ben\n\n  eve \n"), file("none", "\n \n"));
        assert_eq!(whom(&[], None).ok(), Some(vec![]));
        assert_eq!(whom(&["ann"], Some(&some)).ok(), Some(vec!["ann".into(), "ben".into(), "eve".into()]));
        assert!(whom(&[], Some(&none)).is_err() && whom(&[""], None).is_err());
    }
}
