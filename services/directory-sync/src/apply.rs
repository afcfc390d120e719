//! Hands batches to the store, each under the epoch of this term (S-60).
//!
//! Applying a batch or finishing a run again changes nothing, so a store that is away for a moment costs a pause. That another leader has begun is
//! final: whoever hears it stops at once.

use domain::settings::SyncItem;
use proto::user_store::sync_server::Sync as Store;
use proto::user_store::{
    ApplyBatchReply, ApplyBatchRequest, BeginRunRequest, FinishRunReply, FinishRunRequest, LeadRequest, SyncedGroup,
    SyncedUser,
};
use service_kit::Clock;
use service_kit::grpc::{idempotent, with_deadline};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request, Response, Status};

const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A full batch is some thousand rows in one transaction.
const BATCH_LIMIT: Duration = Duration::from_secs(60);
/// A store that restarts or fails over is back by then; the directory's server waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);
/// Of the sentence why a run is not complete.
const ERROR_CHARACTERS_MAX: usize = 500;

/// The store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another leader has begun. Final: nothing more is sent in this term.
    #[error("another leader has begun")]
    Deposed,
    /// It is away or will not have it. Later it may.
    #[error("the store did not take {call}: {code:?}")]
    Refused { call: &'static str, code: Code },
}

/// The store as one leader sees it in one term.
pub(crate) struct Term {
    store: Arc<dyn Store>,
    clock: Clock,
    pub(crate) epoch: u64,
}

/// A run that has begun.
pub(crate) struct BegunRun<'a> {
    term: &'a Term,
    pub(crate) run_id: String,
}

impl Term {
    /// Raises the epoch: from now on the batches of every earlier leader are refused.
    pub(crate) async fn begin(store: Arc<dyn Store>, clock: Clock, holder: &str) -> Result<Self, StoreError> {
        let request = with_deadline(idempotent(LeadRequest { holder: holder.to_owned() }), CALL_LIMIT);
        let epoch = call("Lead", CALL_LIMIT, store.lead(request)).await?.epoch;
        Ok(Self { store, clock, epoch })
    }

    pub(crate) async fn begin_run(&self, item: &SyncItem) -> Result<BegunRun<'_>, StoreError> {
        let request = BeginRunRequest {
            epoch: self.epoch,
            sync_item: item.name.to_string(),
            mode: "full".to_owned(),
            now_unix_ms: self.clock.now_ms(),
        };
        let request = with_deadline(request, CALL_LIMIT);
        let run_id = call("BeginRun", CALL_LIMIT, self.store.begin_run(request)).await?.run_id;
        Ok(BegunRun { term: self, run_id })
    }
}

impl BegunRun<'_> {
    pub(crate) async fn users(&self, users: Vec<SyncedUser>) -> Result<ApplyBatchReply, StoreError> {
        self.batch(users, Vec::new()).await
    }

    pub(crate) async fn groups(&self, groups: Vec<SyncedGroup>) -> Result<ApplyBatchReply, StoreError> {
        self.batch(Vec::new(), groups).await
    }

    async fn batch(&self, users: Vec<SyncedUser>, groups: Vec<SyncedGroup>) -> Result<ApplyBatchReply, StoreError> {
        let (epoch, run_id, now_unix_ms) = (self.term.epoch, self.run_id.clone(), self.term.clock.now_ms());
        let request = ApplyBatchRequest { epoch, run_id, users, groups, now_unix_ms };
        patiently("ApplyBatch", request, |request| self.term.store.apply_batch(request)).await
    }

    /// Ends the run. `incomplete` = why the read was not complete; then the store looks for no leavers (S-41).
    pub(crate) async fn finish(self, incomplete: Option<&str>) -> Result<FinishRunReply, StoreError> {
        let request = FinishRunRequest {
            epoch: self.term.epoch,
            run_id: self.run_id,
            complete: incomplete.is_none(),
            error: incomplete.unwrap_or_default().chars().take(ERROR_CHARACTERS_MAX).collect(),
            now_unix_ms: self.term.clock.now_ms(),
        };
        patiently("FinishRun", request, |request| self.term.store.finish_run(request)).await
    }
}

/// A call that may be repeated is, while the store is away.
async fn patiently<M: Clone, T, Reply>(
    name: &'static str,
    message: M,
    send: impl Fn(Request<M>) -> Reply,
) -> Result<T, StoreError>
where
    Reply: Future<Output = Result<Response<T>, Status>>,
{
    let begun = Instant::now();
    loop {
        let request = with_deadline(idempotent(message.clone()), BATCH_LIMIT);
        match call(name, BATCH_LIMIT, send(request)).await {
            Err(StoreError::Refused { code: Code::Unavailable, .. }) if begun.elapsed() < PATIENCE => {
                sleep(PAUSE).await
            }
            result => return result,
        }
    }
}

async fn call<T>(
    call: &'static str,
    limit: Duration,
    reply: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, StoreError> {
    let code = match timeout(limit, reply).await {
        Ok(Ok(reply)) => return Ok(reply.into_inner()),
        Ok(Err(status)) => status.code(),
        Err(_) => Code::DeadlineExceeded,
    };
    match code {
        Code::FailedPrecondition | Code::Aborted => Err(StoreError::Deposed),
        code => Err(StoreError::Refused { call, code }),
    }
}
