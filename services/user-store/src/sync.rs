//! What the sync leader writes (S-01, S-02, S-40 to S-46, S-60). The epoch is checked, and its row locked, in the transaction of
//! every write: a leader that was overtaken writes nothing.
//!
//! ```text
//! Lead -> epoch · BeginRun -> run · ApplyBatch* -> groups (groups, members) -> who is whose
//!                                               -> users (plan, profile) -> rows         · FinishRun -> leavers -> guard
//!                                               -> pending, left marks, position                        -> gone | approvals
//! ```
//!
//! A batch is one transaction. It is planned on rows that were read before, then written under the chain's lock, so that logins
//! wait for the writing only. States change only from what was read: a hand that moved meanwhile wins. Nobody leaves before a
//! run ends complete.

pub mod approvals;
mod back_links;
mod containers;
pub mod expiry;
pub mod first_pins;
mod forest;
mod groups;
mod guard;
mod hands;
pub mod history;
mod leavers;
mod members;
mod pending;
mod phones;
pub mod pins;
pub mod preview;
pub mod problems;
mod profile;
mod rows;
mod run;
pub mod source;
mod states;
mod tell;
mod unusable;
pub mod users;
mod write;

pub use members::dn_key;

use crate::Store;
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use domain::settings::{Settings, SyncItem};
use proto::user_store::{
    ApplyBatchReply, ApplyBatchRequest, BeginRunReply, BeginRunRequest, FinishRunReply, FinishRunRequest,
    GetSourceReply, GetSourceRequest, LeadReply, LeadRequest, ListPendingReply, ListPendingRequest, ListUnseenReply,
    ListUnseenRequest, sync_server::Sync,
};
use tonic::{Request, Response, Status};

/// Objects of each kind in one batch.
const BATCH_MAX: usize = 5_000;
const DAY_MS: i64 = 24 * 3_600_000;
const MINUTE_MS: i64 = 60_000;

pub struct SyncService(pub Store);

#[tonic::async_trait]
impl Sync for SyncService {
    async fn lead(&self, request: Request<LeadRequest>) -> Result<Response<LeadReply>, Status> {
        Ok(Response::new(run::lead(&self.0, request.into_inner()).await?))
    }

    async fn get_source(&self, request: Request<GetSourceRequest>) -> Result<Response<GetSourceReply>, Status> {
        Ok(Response::new(source::get(&self.0, request.into_inner()).await?))
    }

    async fn begin_run(&self, request: Request<BeginRunRequest>) -> Result<Response<BeginRunReply>, Status> {
        Ok(Response::new(run::begin(&self.0, request.into_inner()).await?))
    }

    async fn apply_batch(&self, request: Request<ApplyBatchRequest>) -> Result<Response<ApplyBatchReply>, Status> {
        Ok(Response::new(write::apply(&self.0, request.into_inner()).await?))
    }

    async fn list_pending(&self, request: Request<ListPendingRequest>) -> Result<Response<ListPendingReply>, Status> {
        Ok(Response::new(pending::list(&self.0, request.into_inner()).await?))
    }

    async fn list_unseen(&self, request: Request<ListUnseenRequest>) -> Result<Response<ListUnseenReply>, Status> {
        Ok(Response::new(leavers::unseen(&self.0, request.into_inner()).await?))
    }

    async fn finish_run(&self, request: Request<FinishRunRequest>) -> Result<Response<FinishRunReply>, Status> {
        Ok(Response::new(run::finish(&self.0, request.into_inner()).await?))
    }
}

/// Refuses a leader that was overtaken, and keeps the epoch as it is until the transaction ends (S-60).
async fn fence(session: &mut Session, epoch: u64) -> Result<(), StoreError> {
    let sql = "UPDATE sync_state SET epoch = epoch WHERE id = 1 RETURNING epoch";
    let row = session.row(sql, args![]).await?.ok_or(StoreError::Broken("the sync state is missing"))?;
    let current = row.unsigned("epoch")?;
    compare(current, epoch).inspect_err(|_| {
        tracing::warn!(
            event = "sync_fenced",
            service = "user-store",
            epoch,
            current,
            "what a former sync leader writes is refused"
        );
    })
}

/// The same for what only reads.
async fn look(session: &mut Session, epoch: u64) -> Result<(), StoreError> {
    let row = session.row("SELECT epoch FROM sync_state WHERE id = 1", args![]).await?;
    compare(row.ok_or(StoreError::Broken("the sync state is missing"))?.unsigned("epoch")?, epoch)
}

fn compare(current: u64, epoch: u64) -> Result<(), StoreError> {
    match current == epoch && epoch > 0 {
        true => Ok(()),
        false => Err(Status::failed_precondition(format!("epoch {epoch} is over; the leader's is {current}")).into()),
    }
}

/// The items of a directory by which a run decides, in their order: a preview tries those that are only looked at, too (FS-12).
fn items<'a>(settings: &'a Settings, directory: &str, preview: bool) -> Vec<&'a SyncItem> {
    let counts = |item: &&SyncItem| item.directory.as_str() == directory && item.is_read(preview);
    settings.sync_items.iter().filter(counts).collect()
}

/// Pages of at most a thousand.
fn page(limit: u32) -> u32 {
    if limit == 0 { 1000 } else { limit.min(1000) }
}
