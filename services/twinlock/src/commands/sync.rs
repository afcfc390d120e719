//! `twinlock sync`: runs of the directory synchronisation, and removals that wait for a person.

use crate::{
    connect::Connection,
    failure::Failure,
    output::{Output, line, time},
};
use clap::Subcommand;
use proto::user_store::{DecideApprovalRequest, RequestSyncRequest, SyncRun, SyncStatusReply, SyncStatusRequest};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Reads the directories now, waits for the end and prints what changed.
    Now {
        /// Only this sync item.
        #[arg(long, default_value = "")]
        item: String,
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
        /// How long to wait, in seconds.
        #[arg(long, default_value_t = 120)]
        wait: u64,
    },
    /// Who leads, the last runs, what waits for approval.
    Status,
    /// Lets parked removals happen: all of them, or those named in a file, one a line.
    Approve {
        id: String,
        #[arg(long)]
        only: Option<PathBuf>,
    },
    /// Drops parked removals.
    Refuse { id: String },
}

pub async fn run(command: Command, mut connection: Connection, output: Output) -> Result<(), Failure> {
    match command {
        Command::Now { item, no_wait, wait } => now(&mut connection, output, item, (!no_wait).then_some(wait)).await,
        Command::Status => {
            let status = status(&mut connection).await?;
            if output.is_json() {
                line(&status_record(&status).to_string());
                return Ok(());
            }
            line(&format!("leader  {} (epoch {})", status.leader, status.epoch));
            output.list(&RUN_COLUMNS, status.runs.iter().map(run_record).collect(), None);
            for approval in &status.approvals {
                line(&format!(
                    "waits for approval: {} removals of {}, id {}: {}",
                    approval.usernames.len(),
                    approval.sync_item,
                    approval.approval_id,
                    approval.usernames.join(", ")
                ));
            }
            Ok(())
        }
        Command::Approve { id, only } => {
            let usernames = match only {
                Some(file) => super::settings::read(&file)?
                    .lines()
                    .map(|name| name.trim().to_owned())
                    .filter(|name| !name.is_empty())
                    .collect(),
                None => vec![],
            };
            decide(&mut connection, output, id, true, usernames).await
        }
        Command::Refuse { id } => decide(&mut connection, output, id, false, vec![]).await,
    }
}

const RUN_COLUMNS: [&str; 11] =
    ["item", "mode", "state", "started", "added", "changed", "unchanged", "disabled", "removed", "parked", "error"];

/// Asks, then watches the runs that began afterwards until none of them is running.
async fn now(connection: &mut Connection, output: Output, item: String, wait: Option<u64>) -> Result<(), Failure> {
    let known: Vec<String> = status(connection).await?.runs.into_iter().map(|run| run.run_id).collect();
    let request = RequestSyncRequest { sync_item: item.clone(), actor: connection.actor.clone() };
    connection.admin.request_sync(request).await?;
    let Some(seconds) = wait else { return Ok(()) };
    let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut quiet = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let runs: Vec<SyncRun> =
            status(connection).await?.runs.into_iter().filter(|run| !known.contains(&run.run_id)).collect();
        // Items run one after the other: only some quiet says that the last one is through.
        let finished = !runs.is_empty() && runs.iter().all(|run| run.state != "running");
        quiet = if finished { quiet + 1 } else { 0 };
        if quiet >= 3 {
            let bad = runs.iter().find(|run| run.state != "done");
            output.list(&RUN_COLUMNS, runs.iter().map(run_record).collect(), None);
            return match bad {
                Some(run) => Err(Failure::no(format!("sync item {}: {}: {}", run.sync_item, run.state, run.error))),
                None => Ok(()),
            };
        }
        if tokio::time::Instant::now() > end {
            return Err(Failure::new(
                crate::failure::Exit::Unreachable,
                format!("no run ended within {seconds} s; see `twinlock sync status`"),
            ));
        }
    }
}

async fn status(connection: &mut Connection) -> Result<SyncStatusReply, Failure> {
    Ok(connection.admin.sync_status(SyncStatusRequest {}).await?.into_inner())
}

async fn decide(
    connection: &mut Connection,
    output: Output,
    approval_id: String,
    approve: bool,
    usernames: Vec<String>,
) -> Result<(), Failure> {
    let actor = connection.actor.clone();
    let request = DecideApprovalRequest {
        approval_id,
        approve,
        usernames,
        actor,
        now_unix_ms: service_kit::Clock::system().now_ms(),
    };
    let applied = connection.admin.decide_approval(request).await?.into_inner().applied;
    output.text(&format!("{applied} applied"), &json!({ "applied": applied }));
    Ok(())
}

fn run_record(run: &SyncRun) -> Value {
    json!({
        "id": run.run_id, "item": run.sync_item, "mode": run.mode, "state": run.state,
        "started": time(run.started_unix_ms), "finished": time(run.finished_unix_ms),
        "added": run.added, "changed": run.changed, "unchanged": run.unchanged,
        "disabled": run.disabled, "removed": run.removed, "parked": run.parked, "error": run.error,
    })
}

fn status_record(status: &SyncStatusReply) -> Value {
    let approvals: Vec<Value> = status
        .approvals
        .iter()
        .map(|approval| {
            json!({
                "id": approval.approval_id, "item": approval.sync_item, "usernames": approval.usernames,
                "created": time(approval.created_unix_ms), "expires": time(approval.expires_unix_ms),
            })
        })
        .collect();
    json!({
        "leader": status.leader, "epoch": status.epoch, "approvals": approvals,
        "runs": status.runs.iter().map(run_record).collect::<Vec<_>>(),
    })
}
