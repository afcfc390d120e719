//! Hands batches to the store, each under the epoch of this term (S-60).
//!
//! Applying a batch or finishing a run again changes nothing, so a store that is away for a moment costs a pause. That another leader has begun is
//! final: whoever hears it stops at once.

use crate::mode::Mode;
use crate::plan::{Problem, Problems};
use domain::ObjectId;
use prost::Message;
use proto::user_store::sync_server::Sync as Store;
use proto::user_store::{
    ApplyBatchReply, ApplyBatchRequest, BeginRunRequest, FinishRunReply, FinishRunRequest, GetSourceReply,
    GetSourceRequest, LeadRequest, LeftObject, ListPendingRequest, ListUnseenRequest, Pending, SourcePin,
    SyncedContainer, SyncedGroup, SyncedUser,
};
use service_kit::Clock;
use service_kit::grpc::{idempotent, with_deadline};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request, Response, Status};

const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A full batch is some thousand rows in one transaction; the end of a run moves all who left.
const BATCH_LIMIT: Duration = Duration::from_secs(60);
const FINISH_LIMIT: Duration = Duration::from_secs(300);
/// A store that restarts or fails over is back by then; the directory's server waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);
/// Of the sentence why a run is not complete.
const ERROR_CHARACTERS_MAX: usize = 500;
/// Objects of one batch, and octets at which it is full: with the largest group on top it is below the 64 MiB the store takes.
const OBJECTS_MAX: usize = 1_000;
const OCTETS_MAX: usize = 1 << 20;
/// A page of what is listed.
pub(crate) const PAGE: u32 = 1_000;

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
#[derive(Clone)]
pub(crate) struct Term {
    store: Arc<dyn Store>,
    clock: Clock,
    /// Whose turn it is to write. The store takes one after the other, and who waits there keeps a connection from logins.
    turn: Arc<Semaphore>,
    pub(crate) epoch: u64,
}

/// What a run says of itself when it begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opening {
    pub(crate) directory: String,
    pub(crate) mode: &'static str,
    pub(crate) why: String,
    pub(crate) feed: &'static str,
    pub(crate) trigger: &'static str,
    pub(crate) items_digest: String,
    pub(crate) mapping_digest: String,
    pub(crate) identity: String,
    pub(crate) offers: Vec<String>,
    pub(crate) base: String,
    pub(crate) actor: String,
    /// Of a preview: the one whose list it is compared with; empty = none.
    pub(crate) looked_at: String,
    /// Of a preview: the items it tries, as JSON; empty = those of the settings.
    pub(crate) draft_items: Vec<String>,
}

impl Opening {
    /// The preview before this run: does it list what somebody looked at (FS-09)?
    pub(crate) fn checking(self, looked_at: &str) -> Self {
        Self {
            mode: Mode::Preview.code(),
            why: "the list that was looked at is compared with what would change now, before it is written".into(),
            trigger: "check",
            looked_at: looked_at.to_owned(),
            ..self
        }
    }
}

/// A run that has begun.
#[derive(Clone)]
pub(crate) struct BegunRun {
    term: Term,
    pub(crate) run_id: String,
    looked_at: String,
    draft_items: Arc<[String]>,
}

impl Term {
    /// Raises the epoch: from now on the batches of every earlier leader are refused.
    pub(crate) async fn begin(store: Arc<dyn Store>, clock: Clock, holder: &str) -> Result<Self, StoreError> {
        let request = with_deadline(idempotent(LeadRequest { holder: holder.to_owned() }), CALL_LIMIT);
        let epoch = call("Lead", CALL_LIMIT, store.lead(request)).await?.epoch;
        Ok(Self { store, clock, turn: Arc::new(Semaphore::new(1)), epoch })
    }

    pub(crate) async fn source(&self, directory: &str) -> Result<GetSourceReply, StoreError> {
        let request = GetSourceRequest { epoch: self.epoch, directory: directory.to_owned() };
        patiently("GetSource", CALL_LIMIT, request, |request| self.store.get_source(request)).await
    }

    pub(crate) async fn begin_run(&self, opening: &Opening) -> Result<BegunRun, StoreError> {
        let opening = opening.clone();
        let request = BeginRunRequest {
            epoch: self.epoch,
            directory: opening.directory,
            mode: opening.mode.to_owned(),
            why: opening.why,
            feed: opening.feed.to_owned(),
            trigger: opening.trigger.to_owned(),
            items_digest: opening.items_digest,
            mapping_digest: opening.mapping_digest,
            identity: opening.identity,
            offers: opening.offers,
            actor: opening.actor,
            base: opening.base,
            draft_items: opening.draft_items.clone(),
            now_unix_ms: self.clock.now_ms(),
        };
        let _turn = self.turn.acquire().await;
        // One that began and did not say so is abandoned by the next.
        let reply = patiently("BeginRun", CALL_LIMIT, request, |request| self.store.begin_run(request)).await?;
        let (run_id, looked_at, draft_items) = (reply.run_id, opening.looked_at, opening.draft_items.into());
        Ok(BegunRun { term: self.clone(), run_id, looked_at, draft_items })
    }

    pub(crate) async fn pending(&self, directory: &str) -> Result<Vec<Pending>, StoreError> {
        let request = ListPendingRequest { epoch: self.epoch, directory: directory.to_owned(), limit: PAGE };
        let reply = patiently("ListPending", CALL_LIMIT, request, |request| self.store.list_pending(request)).await?;
        Ok(reply.pending)
    }
}

impl BegunRun {
    /// Users and groups that this run has not met, a page of them.
    pub(crate) async fn unseen(&self, after: &str) -> Result<Vec<String>, StoreError> {
        let (epoch, run_id, after) = (self.term.epoch, self.run_id.clone(), after.to_owned());
        let request = ListUnseenRequest { epoch, run_id, after, limit: PAGE };
        let reply =
            patiently("ListUnseen", BATCH_LIMIT, request, |request| self.term.store.list_unseen(request)).await?;
        Ok(reply.object_ids)
    }

    async fn apply(self, batch: ApplyBatchRequest) -> Result<ApplyBatchReply, StoreError> {
        let _turn = self.term.turn.acquire().await;
        let (epoch, run_id, now_unix_ms) = (self.term.epoch, self.run_id.clone(), self.term.clock.now_ms());
        let draft_items = self.draft_items.to_vec();
        let batch = ApplyBatchRequest { epoch, run_id, now_unix_ms, draft_items, ..batch };
        patiently("ApplyBatch", BATCH_LIMIT, batch, |request| self.term.store.apply_batch(request)).await
    }

    /// Ends the run. `incomplete` = why the read was not complete; then the store looks for no leavers (S-41). `position` = where a
    /// full run says that the feed continues; `pins` = what items name by a DN; `problems` = what of the entries cannot be used.
    pub(crate) async fn finish(
        &self,
        incomplete: Option<&str>,
        position: Vec<u8>,
        pins: Vec<SourcePin>,
        problems: &Problems,
    ) -> Result<FinishRunReply, StoreError> {
        let _turn = self.term.turn.acquire().await;
        let request = FinishRunRequest {
            epoch: self.term.epoch,
            run_id: self.run_id.clone(),
            complete: incomplete.is_none(),
            error: incomplete.unwrap_or_default().chars().take(ERROR_CHARACTERS_MAX).collect(),
            position,
            now_unix_ms: self.term.clock.now_ms(),
            pins,
            looked_at: self.looked_at.clone(),
            draft_items: self.draft_items.to_vec(),
            unusable: problems.kept().iter().map(Problem::told).collect(),
            unusable_count: problems.count,
        };
        patiently("FinishRun", FINISH_LIMIT, request, |request| self.term.store.finish_run(request)).await
    }
}

/// Of the first problems that the store found.
const PROBLEMS_KEPT_MAX: usize = 20;

/// What the store made of the batches of a run.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) added: u64,
    pub(crate) changed: u64,
    pub(crate) unchanged: u64,
    pub(crate) problem_count: u64,
    /// The first ones.
    pub(crate) problems: Vec<String>,
}

/// Gathers objects into batches. One batch is on its way while the next is read, never two: the store takes them in their order.
pub(crate) struct Writer {
    run: BegunRun,
    batch: ApplyBatchRequest,
    objects: usize,
    octets: usize,
    /// Dropped with the writer: a leader that lost its lease sends nothing more.
    on_its_way: JoinSet<Result<ApplyBatchReply, StoreError>>,
    pub(crate) applied: Applied,
}

impl Writer {
    pub(crate) fn new(run: BegunRun) -> Self {
        Self {
            run,
            batch: ApplyBatchRequest::default(),
            objects: 0,
            octets: 0,
            on_its_way: JoinSet::new(),
            applied: Applied::default(),
        }
    }

    pub(crate) async fn user(&mut self, user: SyncedUser) -> Result<(), StoreError> {
        let octets = user.encoded_len();
        self.batch.users.push(user);
        self.grown(octets).await
    }

    /// Users of whom the store has to hear in one batch.
    pub(crate) async fn users_together(&mut self, users: Vec<SyncedUser>) -> Result<(), StoreError> {
        let octets = users.iter().map(Message::encoded_len).sum();
        // Full a little later is no harm; cut in two is.
        self.objects += users.len().saturating_sub(1);
        self.batch.users.extend(users);
        self.grown(octets).await
    }

    pub(crate) async fn group(&mut self, group: SyncedGroup) -> Result<(), StoreError> {
        let octets = group.encoded_len();
        self.batch.groups.push(group);
        self.grown(octets).await
    }

    pub(crate) async fn container(&mut self, container: SyncedContainer) -> Result<(), StoreError> {
        let octets = container.encoded_len();
        self.batch.containers.push(container);
        self.grown(octets).await
    }

    pub(crate) async fn present(&mut self, id: &ObjectId) -> Result<(), StoreError> {
        self.batch.present.push(id.to_string());
        self.grown(id.as_str().len()).await
    }

    pub(crate) async fn left(&mut self, left: LeftObject) -> Result<(), StoreError> {
        let octets = left.encoded_len();
        self.batch.left.push(left);
        self.grown(octets).await
    }

    /// All that came of this was written before.
    pub(crate) async fn settled(&mut self, pending_id: String) -> Result<(), StoreError> {
        let octets = pending_id.len();
        self.batch.settled.push(pending_id);
        self.grown(octets).await
    }

    /// The feed continues here once all that was written before is stored (S-02).
    pub(crate) fn position(&mut self, position: Vec<u8>) {
        self.batch.position = position;
    }

    /// Sends what was gathered and waits until the store has it.
    pub(crate) async fn flush(&mut self) -> Result<(), StoreError> {
        if self.objects > 0 || !self.batch.position.is_empty() {
            self.send().await?;
        }
        self.arrived().await
    }

    async fn grown(&mut self, octets: usize) -> Result<(), StoreError> {
        self.objects += 1;
        self.octets += octets;
        match self.objects >= OBJECTS_MAX || self.octets >= OCTETS_MAX {
            true => self.send().await,
            false => Ok(()),
        }
    }

    async fn send(&mut self) -> Result<(), StoreError> {
        self.arrived().await?;
        (self.objects, self.octets) = (0, 0);
        let batch = std::mem::take(&mut self.batch);
        self.on_its_way.spawn(self.run.clone().apply(batch));
        Ok(())
    }

    async fn arrived(&mut self) -> Result<(), StoreError> {
        while let Some(ended) = self.on_its_way.join_next().await {
            // A task of ours ends without a value only when the process does.
            let reply = ended.map_err(|_| StoreError::Refused { call: "ApplyBatch", code: Code::Cancelled })??;
            self.applied.add(reply);
        }
        Ok(())
    }
}

impl Applied {
    fn add(&mut self, reply: ApplyBatchReply) {
        self.added += u64::from(reply.added);
        self.changed += u64::from(reply.changed);
        self.unchanged += u64::from(reply.unchanged);
        self.problem_count += reply.problems.len() as u64;
        let room = PROBLEMS_KEPT_MAX.saturating_sub(self.problems.len());
        self.problems.extend(reply.problems.into_iter().take(room));
    }
}

/// A call that may be repeated is, while the store is away.
async fn patiently<M: Message + Default, T, Reply>(
    name: &'static str,
    limit: Duration,
    mut message: M,
    send: impl Fn(Request<M>) -> Reply,
) -> Result<T, StoreError>
where
    Reply: Future<Output = Result<Response<T>, Status>>,
{
    let begun = Instant::now();
    // For the next try. A batch is tens of thousands of texts: far more to copy than to write in a row.
    let kept = message.encode_to_vec();
    loop {
        let request = with_deadline(idempotent(message), limit);
        match call(name, limit, send(request)).await {
            Err(StoreError::Refused { code: Code::Unavailable, .. }) if begun.elapsed() < PATIENCE => {
                sleep(PAUSE).await
            }
            result => return result,
        }
        message = M::decode(kept.as_slice()).map_err(|_| StoreError::Refused { call: name, code: Code::Internal })?;
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
