//! Group commit: what arrives while a transaction is being made durable goes into the next one together, so that one
//! fsync carries many logins (P-15).
//!
//! ```text
//! calls --queue (bounded)--> writer: lock the chain's end
//!                                    steps, one after the other, each with statements of its own
//!                                    read facts, decide, write what changed
//!                                    append events, commit --> answers
//! ```
//!
//! Nobody is answered before the commit. What every login needs is decided together on facts read at once ([`decide`]); what
//! fewer need is a [`Step`]. Both write nothing unless they are let. A group that the database refuses is taken apart and each
//! operation tried alone, so that one bad operation fails only itself.

mod read;
mod write;

pub use write::use_up;

use super::decide::{Recorded, Working};
use super::prompts::{self, Resolve};
use super::secrets::{self, Counted, Outcome, Try};
use super::sent_codes::{self, Checked};
use crate::audit::{self, NewEvent};
use crate::metrics::{Metrics, Timed};
use crate::radius::accounting::{self, NewRecord};
use crate::rpc::{StoreError, chain};
use crate::rules::Rules;
use crate::seal::Seal;
use crate::sql::{Database, Session};
use crate::tell::Teller;
use proto::user_store::{
    AllowResult, CheckSentCodeRequest, CommitAllowRequest, OpenPromptReply, OpenPromptRequest, OpenSentCodeReply,
    OpenSentCodeRequest, RecordRequest, ReserveTryReply, ReserveTryRequest, ResolvePromptReply, SpendCodeRequest,
    SpendResult, TryCodeReply, TryCodeRequest,
};
use service_kit::{Clock, Shutdown};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Operations that may wait. At the bound a call is refused as unavailable: the answer to a login is no.
const QUEUE: usize = 4096;
/// Operations of one transaction.
const GROUP: usize = 256;
/// A database that says nothing for so long is away. What it did is unknown, so nobody is told that it was done. SQLite's disk holds
/// the writer's thread instead: those who ask have deadlines of their own (V-44).
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub enum Operation {
    Reserve(ReserveTryRequest),
    TryCode(Box<TryCodeRequest>),
    Spend(SpendCodeRequest),
    Allow(Box<CommitAllowRequest>),
    Record(Box<RecordRequest>),
    Step(Box<Step>),
}

/// An operation with statements of its own, in the same transaction as the others.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "an operation holds it in a box of its own")]
pub enum Step {
    OpenPrompt(OpenPromptRequest),
    ResolvePrompt(Resolve),
    OpenSentCode(OpenSentCodeRequest),
    CheckSentCode(CheckSentCodeRequest),
    CountTry(Try),
    EndTry(Outcome),
    RecordAccounting(Box<NewRecord>),
}

pub enum Answer {
    Reserved(ReserveTryReply),
    CodeTried(TryCodeReply),
    Spent(SpendResult),
    Allowed(AllowResult),
    Recorded(Recorded),
    PromptOpened(Box<OpenPromptReply>),
    PromptResolved(Box<ResolvePromptReply>),
    SentCodeOpened(OpenSentCodeReply),
    SentCodeChecked(Checked),
    TryCounted(Counted),
    TryEnded(String),
    AccountingRecorded,
}

/// What a step works on: the transaction of its group, and what is to be told after the commit.
pub struct Scene<'a> {
    pub session: &'a mut Session,
    pub seal: &'a Seal,
    pub rules: &'a Rules,
    pub events: Vec<NewEvent>,
    /// Users whose cached facts are to go.
    pub changed_users: Vec<String>,
}

struct Job {
    operation: Operation,
    answer: oneshot::Sender<Result<Answer, StoreError>>,
}

/// The way into the next group. Clones lead to the same writer.
#[derive(Clone)]
pub struct Group(mpsc::Sender<Job>);

impl Group {
    /// Starts the writer. It ends when the process stops, after what it had taken.
    pub fn start(writer: Writer, shutdown: &Shutdown) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (database, ending) = (writer.database.clone(), shutdown.clone());
        shutdown.spawn_background(async move {
            if let Err(error) = database.apart("store-commits", writer.run(receiver, ending)).await {
                tracing::error!(error = %error, "nothing is committed any more");
            }
        });
        Self(sender)
    }

    pub async fn run(&self, operation: Operation) -> Result<Answer, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Job { operation, answer }).map_err(StoreError::not_taken)?;
        answered.await.map_err(|_| StoreError::Gone)?
    }

    pub async fn step(&self, step: Step) -> Result<Answer, StoreError> {
        self.run(Operation::Step(Box::new(step))).await
    }
}

/// Who takes the groups, one after the other.
pub struct Writer {
    pub database: Database,
    pub seal: Arc<Seal>,
    pub rules: Arc<Rules>,
    pub teller: Teller,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
}

impl Writer {
    async fn run(self, mut queue: mpsc::Receiver<Job>, shutdown: Shutdown) {
        let mut jobs = Vec::with_capacity(GROUP);
        loop {
            // Cancel safety: recv_many takes nothing from the queue unless it completes.
            tokio::select! {
                taken = queue.recv_many(&mut jobs, GROUP) => if taken == 0 { return },
                () = shutdown.stopping(), if !queue.is_closed() => queue.close(),
            }
            self.group(std::mem::take(&mut jobs)).await;
        }
    }

    async fn group(&self, jobs: Vec<Job>) {
        let (operations, waiting): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.operation, job.answer)).unzip();
        let mut written = self.write(&operations).await;
        // The database undid it for a transaction of somebody else, and asks for it once more.
        if written.as_ref().is_err_and(StoreError::is_conflict) {
            written = self.write(&operations).await;
        }
        let answers = match written {
            Ok(answers) => answers,
            Err(error) if operations.len() > 1 && !error.is_unavailable() => {
                tracing::warn!(error = %error, operations = operations.len(), "a group was refused, each is tried alone");
                self.one_by_one(&operations).await
            }
            Err(error) => operations.iter().map(|_| Err(error.again())).collect(),
        };
        for (waiting, answer) in waiting.into_iter().zip(answers) {
            // Nobody waits any more: what is committed stays, and the same request asking again hears it.
            let _ = waiting.send(answer);
        }
    }

    async fn one_by_one(&self, operations: &[Operation]) -> Vec<Result<Answer, StoreError>> {
        let mut answers = Vec::with_capacity(operations.len());
        let mut away: Option<StoreError> = None;
        for operation in operations {
            // A database that went away meanwhile is not waited for once more by every other.
            if let Some(away) = &away {
                answers.push(Err(away.again()));
                continue;
            }
            let written = self.write(std::slice::from_ref(operation)).await;
            let answer = written.and_then(|answers| answers.into_iter().next().expect("one operation, one answer"));
            away = answer.as_ref().err().filter(|error| error.is_unavailable()).map(StoreError::again);
            answers.push(answer);
        }
        answers
    }

    async fn write(&self, operations: &[Operation]) -> Result<Vec<Result<Answer, StoreError>>, StoreError> {
        let began = Instant::now();
        // Cancel safety: dropped before its commit, a transaction is rolled back; dropped in it, nobody is told.
        let written = write(&self.database, &self.seal, &self.rules, operations, self.clock.now_ms());
        let outcome = tokio::time::timeout(PATIENCE, written).await;
        match outcome.unwrap_or(Err(StoreError::Silent)) {
            Ok(written) => {
                self.metrics.took(Timed::Commit, began.elapsed());
                self.metrics.audited(written.events);
                self.teller.events(&written.clients);
                written.changed_users.iter().for_each(|user_id| self.teller.user_changed(user_id));
                Ok(written.answers)
            }
            Err(error) => {
                if matches!(error, StoreError::Overtaken) {
                    self.metrics.conflict();
                }
                tracing::error!(error = %chain(&error), operations = operations.len(), "a commit failed");
                Err(error)
            }
        }
    }
}

struct Written {
    answers: Vec<Result<Answer, StoreError>>,
    /// Events of attempts.
    events: u64,
    /// Clients with a new event, and the sequence of the last event.
    clients: BTreeMap<String, u64>,
    changed_users: Vec<String>,
}

async fn write(
    database: &Database,
    seal: &Seal,
    rules: &Rules,
    operations: &[Operation],
    now_ms: i64,
) -> Result<Written, StoreError> {
    let mut session = database.write_direct().await?;
    let head = audit::lock(&mut session).await?;
    let mut scene = Scene { session: &mut session, seal, rules, events: Vec::new(), changed_users: Vec::new() };
    let mut stepped = Vec::new();
    for operation in operations {
        let Operation::Step(step) = operation else { continue };
        match Box::pin(take(&mut scene, step)).await {
            // The step's own no: it wrote nothing.
            refused @ Err(StoreError::Refused(_)) => stepped.push(refused),
            answer => stepped.push(Ok(answer?)),
        }
    }
    let Scene { events: mut step_events, changed_users, .. } = scene;
    let mut stepped = stepped.into_iter();
    let decided = operations.iter().any(|operation| !matches!(operation, Operation::Step(_)));
    let mut working = if decided { read::read_facts(&mut session, operations).await? } else { Working::default() };
    let mut answers = Vec::with_capacity(operations.len());
    for operation in operations {
        answers.push(match decide(&mut working, operation) {
            Some(answer) => Ok(answer),
            None => stepped.next().expect("every step has an answer"),
        });
    }
    write::write_changes(&mut session, seal, &working, now_ms).await?;
    let attempts = working.events.len() as u64;
    let mut events = std::mem::take(&mut working.events);
    events.append(&mut step_events);
    let mut clients: BTreeMap<String, u64> = events.iter().map(|new| (new.event.client.clone(), 0)).collect();
    if !events.is_empty() {
        let last = audit::append(&mut session, head, events).await?;
        clients.values_mut().for_each(|sequence| *sequence = last);
    }
    session.commit().await?;
    Ok(Written { answers, events: attempts, clients, changed_users })
}

/// `None` for a step, which was taken already.
fn decide(working: &mut Working, operation: &Operation) -> Option<Answer> {
    Some(match operation {
        Operation::Reserve(request) => Answer::Reserved(working.reserve(request)),
        Operation::TryCode(request) => Answer::CodeTried(try_code(working, request)),
        Operation::Spend(request) => Answer::Spent(working.spend(request)),
        Operation::Allow(request) => Answer::Allowed(working.allow(request, super::allow_digest(request))),
        Operation::Record(request) => Answer::Recorded(working.record(request, super::record_digest(request))),
        Operation::Step(_) => return None,
    })
}

fn try_code(working: &mut Working, request: &TryCodeRequest) -> TryCodeReply {
    let Some(allow) = &request.allow else { return TryCodeReply::default() };
    // Made of every try, so that one that is not granted takes as long whatever the code was worth.
    working.try_code(allow, request.matched, super::allow_digest(allow))
}

async fn take(scene: &mut Scene<'_>, step: &Step) -> Result<Answer, StoreError> {
    Ok(match step {
        Step::OpenPrompt(request) => Answer::PromptOpened(Box::new(prompts::open(scene, request).await?)),
        Step::ResolvePrompt(request) => Answer::PromptResolved(Box::new(prompts::resolve(scene, request).await?)),
        Step::OpenSentCode(request) => Answer::SentCodeOpened(sent_codes::open(scene, request).await?),
        Step::CheckSentCode(request) => Answer::SentCodeChecked(sent_codes::check(scene, request).await?),
        Step::CountTry(request) => Answer::TryCounted(secrets::count(scene, request).await?),
        Step::EndTry(outcome) => Answer::TryEnded(secrets::end(scene, outcome).await?),
        Step::RecordAccounting(new) => {
            accounting::write(scene, new).await?;
            Answer::AccountingRecorded
        }
    })
}
