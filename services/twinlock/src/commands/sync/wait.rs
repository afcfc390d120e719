//! Asking for a run, and waiting until every directory that was asked for had one.
//!
//! The leader takes requests from a queue and names no run beforehand: those are ours that were not there before and say that they
//! were asked for. Somebody else's request at the same moment does as well, for it reads the same.

use super::{Connection, Failure, status};
use crate::{commands::client::settings, failure::Exit};
use domain::settings::{Settings, SyncItem, SyncState};
use proto::user_store::{RequestSyncRequest, SyncRun, SyncStatusReply};
use std::{collections::BTreeSet, time::Duration};

const POLL: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy)]
pub struct How {
    pub accept_source: bool,
    pub preview: bool,
    /// What changed, as the schedule would.
    pub changes: bool,
}

impl How {
    fn mode(self) -> &'static str {
        match self {
            Self { preview: true, .. } => "preview",
            Self { changes: true, .. } => "incremental",
            Self { .. } => "full",
        }
    }
}

/// What was asked for.
pub struct Asked {
    /// Runs that were there before.
    known: BTreeSet<String>,
    directories: BTreeSet<String>,
}

pub async fn ask(connection: &mut Connection, only: &str, how: How) -> Result<Asked, Failure> {
    let directories = directories(&settings(connection).await?, only, how).map_err(Failure::no)?;
    let known = known(connection).await?;
    let request = RequestSyncRequest {
        only: only.to_owned(),
        mode: how.mode().to_owned(),
        accept_source: how.accept_source,
        actor: connection.actor.clone(),
        looked_at: String::new(),
        draft_items: Vec::new(),
    };
    connection.admin.request_sync(request).await?;
    Ok(Asked { known, directories })
}

/// What the sync items of a document that is not applied would do (FS-12).
pub async fn ask_of_draft(connection: &mut Connection, draft: &Settings, only: &str) -> Result<Asked, Failure> {
    let preview = How { accept_source: false, preview: true, changes: false };
    let directories = directories(draft, only, preview).map_err(Failure::no)?;
    all_have_items(&settings(connection).await?, draft, only, &directories).map_err(Failure::no)?;
    let known = known(connection).await?;
    for directory in &directories {
        let items = draft.sync_items.iter().filter(|item| item.directory.as_str() == directory);
        let request = RequestSyncRequest {
            only: directory.clone(),
            mode: preview.mode().to_owned(),
            actor: connection.actor.clone(),
            draft_items: items.filter_map(|item| serde_json::to_string(item).ok()).collect(),
            ..RequestSyncRequest::default()
        };
        connection.admin.request_sync(request).await?;
    }
    Ok(Asked { known, directories })
}

/// Of a directory without an item nobody is held any more (FS-10). No preview of a draft lists that, so it is said.
fn all_have_items(
    in_force: &Settings,
    draft: &Settings,
    only: &str,
    directories: &BTreeSet<String>,
) -> Result<(), String> {
    let has = |settings: &Settings, directory: &str| {
        settings.sync_items.iter().any(|item| item.directory.as_str() == directory && item.is_read(true))
    };
    let named = in_force.sync_items.iter().map(|item| item.directory.as_str());
    let named =
        named.filter(|directory| only.is_empty() || *directory == only).chain(directories.iter().map(String::as_str));
    let without: BTreeSet<&str> = named.filter(|directory| !has(draft, directory)).collect();
    match without.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "the file has no sync item of {} that is on: once it is applied, `twinlock sync now` lets go of all its users, which no list \
             shows before; name a directory that has one",
            without.into_iter().collect::<Vec<_>>().join(", ")
        )),
    }
}

/// What these previews list, and nothing else, is written (FS-09).
pub async fn ask_as_listed(
    connection: &mut Connection,
    previews: &[SyncRun],
    accept_source: bool,
) -> Result<Asked, Failure> {
    let known = known(connection).await?;
    for preview in previews {
        let request = RequestSyncRequest {
            only: preview.directory.clone(),
            mode: "full".to_owned(),
            accept_source,
            actor: connection.actor.clone(),
            looked_at: preview.run_id.clone(),
            draft_items: Vec::new(),
        };
        connection.admin.request_sync(request).await?;
    }
    Ok(Asked { known, directories: previews.iter().map(|preview| preview.directory.clone()).collect() })
}

async fn known(connection: &mut Connection) -> Result<BTreeSet<String>, Failure> {
    Ok(status(connection).await?.runs.into_iter().map(|run| run.run_id).collect())
}

/// One run a directory, ended.
pub async fn run(
    connection: &mut Connection,
    only: &str,
    how: How,
    wait_seconds: u64,
) -> Result<Vec<SyncRun>, Failure> {
    let asked = ask(connection, only, how).await?;
    ended(connection, asked, wait_seconds).await
}

/// Waits for one run a directory that was asked for.
pub async fn ended(connection: &mut Connection, asked: Asked, wait_seconds: u64) -> Result<Vec<SyncRun>, Failure> {
    let end = tokio::time::Instant::now() + Duration::from_secs(wait_seconds);
    loop {
        tokio::time::sleep(POLL).await;
        let status = status(connection).await?;
        match asked.ended(&status) {
            Ok(runs) => return Ok(runs),
            Err(missing) if tokio::time::Instant::now() > end => {
                let text = format!("no run ended within {wait_seconds} s: {missing}; see `twinlock sync status`");
                return Err(Failure::new(Exit::Unreachable, text));
            }
            Err(_) => {}
        }
    }
}

/// What a script should know of runs that ended: the worst first.
pub fn verdict(runs: &[SyncRun], how: How) -> Result<(), Failure> {
    if let Some(run) = runs.iter().find(|run| !matches!(run.state.as_str(), "done" | "parked" | "changed")) {
        return Err(Failure::no(format!("directory {}: {}: {}", run.directory, run.state, run.error)));
    }
    if how.preview {
        return Ok(());
    }
    if let Some(run) = runs.iter().find(|run| run.list_has_changed()) {
        let text = format!(
            "directory {}: nothing was written: {}; look again: `twinlock sync run {}`",
            run.directory, run.error, run.run_id
        );
        return Err(Failure::new(Exit::Conflict, text));
    }
    if let Some(run) = runs.iter().find(|run| run.mode == "preview") {
        let text = format!(
            "directory {name}: nothing was written: {}; see `twinlock sync run {}`, and accept it with `twinlock sync now {name} \
             --accept-source`",
            run.why,
            run.run_id,
            name = run.directory
        );
        return Err(Failure::new(Exit::Conflict, text));
    }
    match runs.iter().find(|run| run.state == "parked") {
        Some(run) => {
            let text = format!(
                "directory {}: {} users wait for approval{}; see `twinlock sync approvals`",
                run.directory,
                run.parked,
                super::because(&run.parked_why)
            );
            Err(Failure::new(Exit::Conflict, text))
        }
        None => Ok(()),
    }
}

impl Asked {
    /// The newest run of each directory, or what is still missing.
    fn ended(&self, status: &SyncStatusReply) -> Result<Vec<SyncRun>, String> {
        // Newest first, so that the first of a directory is the last that began.
        let ours = |run: &&SyncRun| run.is_asked_for() && !self.known.contains(&run.run_id);
        let mut ended = Vec::new();
        let mut missing = Vec::new();
        for directory in &self.directories {
            match status.runs.iter().filter(ours).find(|run| run.directory == *directory) {
                Some(run) if !run.has_ended() => missing.push(format!("directory {directory}: {}", run.state)),
                Some(run) => ended.push(run.clone()),
                None => missing.push(format!("directory {directory}: not begun")),
            }
        }
        if missing.is_empty() { Ok(ended) } else { Err(missing.join(", ")) }
    }
}

/// Those that have to have a run: of the items that are read, and named by themselves or by their directory. A directory that is
/// named needs no item: then its users are let go (FS-10).
fn directories(settings: &Settings, only: &str, how: How) -> Result<BTreeSet<String>, String> {
    let named = |item: &&SyncItem| only.is_empty() || only == item.name.as_str() || only == item.directory.as_str();
    let read = |item: &&SyncItem| match item.state {
        SyncState::On => true,
        SyncState::Preview => how.preview,
        SyncState::Off => false,
    };
    let items: Vec<&SyncItem> = settings.sync_items.iter().filter(named).collect();
    let names: BTreeSet<String> = items.iter().copied().filter(read).map(|item| item.directory.to_string()).collect();
    match (names.is_empty(), items.iter().any(|item| item.state == SyncState::Preview)) {
        (false, _) => Ok(names),
        (true, true) => Err("the sync items are in preview, which `twinlock sync plan` reads".into()),
        (true, false) if settings.directory(only).is_some() => Ok(BTreeSet::from([only.to_owned()])),
        (true, false) if only.is_empty() || !items.is_empty() => {
            Err("no [[sync_item]] of it is on: there is nothing to read".into())
        }
        (true, false) => Err(format!("no directory and no sync item is named {only:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: How = How { accept_source: false, preview: false, changes: false };
    const PLAN: How = How { accept_source: false, preview: true, changes: false };

    fn run(id: &str, directory: &str, state: &str) -> SyncRun {
        SyncRun {
            run_id: id.into(),
            directory: directory.into(),
            state: state.into(),
            mode: "full".into(),
            trigger: "request".into(),
            ..SyncRun::default()
        }
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_draft_without_an_item_of_a_directory_is_not_taken_for_one_that_changes_nothing() {
        // FS-10, FS-12
        let settings = |items: &[(&str, &str)]| -> Settings {
            let item = |(directory, state): &(&str, &str)| {
                format!(
                    "[[sync_item]]\nname = \"{directory}-all\"\ndirectory = \"{directory}\"\nstate = \"{state}\"\nsource = {{ kind = \"domain\" }}\n"
                )
            };
            toml::from_str(&items.iter().map(item).collect::<String>()).expect("valid")
        };
        let in_force = settings(&[("corp", "on"), ("lab", "on")]);
        for (draft, only, directories, fails) in [
            (settings(&[("corp", "on"), ("lab", "on")]), "", &["corp", "lab"][..], None),
            (settings(&[("corp", "preview"), ("lab", "on")]), "", &["corp", "lab"], None),
            (settings(&[("corp", "on")]), "", &["corp"], Some("of lab that")),
            (settings(&[("corp", "on")]), "corp", &["corp"], None),
            (settings(&[("corp", "off"), ("lab", "on")]), "", &["lab"], Some("of corp that")),
            (settings(&[("lab", "on")]), "corp", &["corp"], Some("of corp that")),
        ] {
            match (all_have_items(&in_force, &draft, only, &names(directories)), fails) {
                (Ok(()), None) => {}
                (Err(said), Some(part)) => assert!(said.contains(part), "{said}"),
                (found, _) => panic!("{only:?} {directories:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn every_directory_that_was_asked_for_has_a_run_of_its_own_that_ended() {
        let asked = Asked { known: names(&["1"]), directories: names(&["corp", "second"]) };
        let ended = |runs: &[SyncRun]| {
            let status = SyncStatusReply { runs: runs.to_vec(), ..SyncStatusReply::default() };
            asked.ended(&status).map(|runs| runs.into_iter().map(|run| run.run_id).collect::<Vec<_>>())
        };
        let missing = |text: &str| Err(text.to_owned());
        assert_eq!(
            ended(&[run("1", "corp", "done")]),
            missing("directory corp: not begun, directory second: not begun")
        );
        let scheduled = SyncRun { trigger: "schedule".into(), ..run("2", "second", "done") };
        assert_eq!(ended(&[run("3", "corp", "done"), scheduled]), missing("directory second: not begun"));
        let (corp, second) = (run("3", "corp", "parked"), run("4", "second", "running"));
        assert_eq!(ended(&[second, corp.clone()]), missing("directory second: running"));
        assert_eq!(ended(&[run("5", "second", "done"), corp.clone()]), Ok(vec!["3".into(), "5".into()]));
        // Another leader took over: the run that counts is the one after it.
        let left = run("4", "second", "abandoned");
        assert_eq!(ended(&[left.clone(), corp.clone()]), missing("directory second: abandoned"));
        assert_eq!(ended(&[run("5", "second", "done"), left, corp]), Ok(vec!["3".into(), "5".into()]));
    }

    #[test]
    fn a_script_hears_the_worst_by_the_exit_code() {
        let exit = |runs: &[SyncRun], how| verdict(runs, how).err().map(|failure| failure.exit);
        let (done, parked) = (run("1", "corp", "done"), run("2", "corp", "parked"));
        let cut = SyncRun { error: "a page is missing".into(), ..run("3", "second", "incomplete") };
        let preview = SyncRun { mode: "preview".into(), why: "another base".into(), ..done.clone() };
        assert_eq!(exit(std::slice::from_ref(&done), NOW), None);
        let changed = SyncRun { error: "2 new (ann, ben)".into(), ..run("4", "corp", "changed") };
        assert_eq!(exit(std::slice::from_ref(&changed), NOW), Some(Exit::Conflict));
        let said = verdict(&[changed], NOW).expect_err("a conflict").to_string();
        assert!(said.contains("nothing was written: 2 new (ann, ben)") && said.contains("sync run 4"), "{said}");
        assert_eq!(exit(&[done.clone(), parked.clone()], NOW), Some(Exit::Conflict));
        assert_eq!(exit(&[parked.clone(), cut.clone()], NOW), Some(Exit::No));
        assert_eq!(exit(&[preview.clone(), done], NOW), Some(Exit::Conflict));
        let said = verdict(std::slice::from_ref(&preview), NOW).expect_err("a conflict").to_string();
        assert!(said.contains("another base") && said.contains("`twinlock sync now corp --accept-source`"), "{said}");
        let full = SyncRun { parked: 9, parked_why: "9 are too many".into(), ..parked.clone() };
        let said = verdict(&[full], NOW).expect_err("a conflict").to_string();
        assert!(said.contains("9 users wait for approval (9 are too many); see"), "{said}");
        assert_eq!((exit(&[preview, parked], PLAN), exit(&[cut], PLAN)), (None, Some(Exit::No)));
    }

    #[test]
    fn a_name_is_a_directory_or_an_item_of_one_and_none_is_all_that_have_items() {
        let directory = |name: &str| {
            format!(
                "[[directory]]\nname = \"{name}\"\nurls = [\"ldaps://x\"]\nbase = \"dc=x\"\nquery_bind = {{ kind = \"anonymous\" }}\n"
            )
        };
        let item = |name: &str, directory: &str, state: &str| {
            format!(
                "[[sync_item]]\nname = \"{name}\"\ndirectory = \"{directory}\"\nstate = \"{state}\"\nsource = {{ kind = \"domain\" }}\n"
            )
        };
        let document = [
            directory("corp"),
            directory("second"),
            directory("third"),
            item("people", "corp", "on"),
            item("guests", "second", "preview"),
            item("old", "third", "off"),
        ];
        let settings: Settings = toml::from_str(&document.concat()).expect("a document");
        let of = |only: &str, how| directories(&settings, only, how).ok();
        assert_eq!((of("", NOW), of("", PLAN)), (Some(names(&["corp"])), Some(names(&["corp", "second"]))));
        assert_eq!((of("corp", NOW), of("guests", PLAN)), (Some(names(&["corp"])), Some(names(&["second"]))));
        let refused = |settings: &Settings, only: &str, words: &str| {
            let text = directories(settings, only, NOW).expect_err("nothing to read");
            assert!(text.contains(words), "{text:?} lacks {words:?}");
        };
        refused(&settings, "crop", "no directory and no sync item is named \"crop\"");
        refused(&settings, "guests", "`twinlock sync plan`");
        refused(&settings, "old", "nothing to read");
        assert_eq!(of("third", NOW), Some(names(&["third"])), "its users are let go");
        refused(&Settings::default(), "", "nothing to read");
    }
}
