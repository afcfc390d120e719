//! `twinlock sync history`: the runs that are kept, page by page, and one of them.

use crate::{connect::Connection, failure::Failure, output::Output};
use clap::Args;
use proto::user_store::{ListSyncRunsRequest, SyncRun};

#[derive(Debug, Clone, Args)]
pub struct History {
    /// Only this directory; all if absent.
    #[arg(default_value = "", hide_default_value = true)]
    directory: String,
    /// Only runs that changed somebody, found a problem, or did not come to their end.
    #[arg(long)]
    changed: bool,
    /// 1 to 1000.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[arg(long, default_value = "", hide_default_value = true)]
    after: String,
}

const COLUMNS: [&str; 13] = [
    "id",
    "directory",
    "mode",
    "trigger",
    "state",
    "started",
    "added",
    "changed",
    "disabled",
    "removed",
    "parked",
    "problems",
    "error",
];

pub async fn run(history: History, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let History { directory, changed, limit, after } = history;
    let request = ListSyncRunsRequest { directory, told_only: changed, after, limit, run_id: String::new() };
    let page = connection.admin.list_sync_runs(request).await?.into_inner();
    let next = Some(page.next.as_str()).filter(|next| !next.is_empty());
    output.list(&COLUMNS, page.runs.iter().map(super::run_record).collect(), next);
    Ok(())
}

/// One run; `None` = it is kept no longer.
pub async fn find(connection: &mut Connection, run_id: &str) -> Result<Option<SyncRun>, Failure> {
    let request = ListSyncRunsRequest { run_id: run_id.to_owned(), limit: 1, ..ListSyncRunsRequest::default() };
    Ok(connection.admin.list_sync_runs(request).await?.into_inner().runs.pop())
}

/// The previews of these ids.
pub async fn of(connection: &mut Connection, run_ids: &[String]) -> Result<Vec<SyncRun>, Failure> {
    let mut runs = Vec::new();
    for run_id in run_ids {
        let run = find(connection, run_id).await?;
        let preview = run.filter(|run| run.mode == "preview");
        runs.push(
            preview.ok_or_else(|| Failure::no(format!("there is no preview {run_id:?}; see `twinlock sync plan`")))?,
        );
    }
    Ok(runs)
}
