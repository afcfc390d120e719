//! Group commit: what arrives while a transaction is being made durable goes into the next one together, so that one
//! fsync carries many logins (P-15).
//!
//! ```text
//! calls --queue (bounded)--> writer: lock the chain's end, read facts, decide, write, commit --> answers
//! ```
//!
//! Nobody is answered before the commit. Each operation is decided for itself and writes nothing unless it is let
//! ([`decide`]). A group that the database refuses is taken apart and each operation tried alone, so that one bad
//! operation fails only itself.

use super::decide::{Factor, Final, Guard, Source, Spend, Working};
use crate::audit::{self, NewEvent};
use crate::metrics::{Metrics, Timed};
use crate::rpc::{StoreError, chain};
use crate::sql::{Arg, Database, Session, args};
use crate::tell::Teller;
use crate::throttle::{Counter, Window};
use proto::user_store::{
    AllowResult, CommitAllowRequest, RecordRequest, ReserveTryReply, ReserveTryRequest, SpendCodeRequest, SpendResult,
};
use service_kit::Shutdown;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Operations that may wait. At the bound a call is refused as unavailable: the answer to a login is no.
const QUEUE: usize = 4096;
/// Operations of one transaction.
const GROUP: usize = 256;
/// A database that says nothing for so long is away. What it did is unknown, so nobody is told that it was done.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub enum Operation {
    Reserve(ReserveTryRequest),
    Spend(SpendCodeRequest),
    Allow(Box<CommitAllowRequest>),
    Record(Box<RecordRequest>),
}

#[derive(Clone, Copy)]
pub enum Answer {
    Reserved(ReserveTryReply),
    Spent(SpendResult),
    Allowed(AllowResult),
    Recorded,
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
    pub fn start(database: Database, teller: Teller, metrics: Arc<Metrics>, shutdown: &Shutdown) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer { database, teller, metrics };
        shutdown.spawn_background(writer.run(receiver, shutdown.clone()));
        Self(sender)
    }

    pub async fn run(&self, operation: Operation) -> Result<Answer, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Job { operation, answer }).map_err(|_| StoreError::Overloaded)?;
        answered.await.map_err(|_| StoreError::Overloaded)?
    }
}

struct Writer {
    database: Database,
    teller: Teller,
    metrics: Arc<Metrics>,
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
        let answers = match self.write(&operations).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
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
        for operation in operations {
            let written = self.write(std::slice::from_ref(operation)).await;
            answers.push(written.map(|answers| *answers.first().expect("one operation, one answer")));
        }
        answers
    }

    async fn write(&self, operations: &[Operation]) -> Result<Vec<Answer>, StoreError> {
        let began = Instant::now();
        // Cancel safety: dropped before its commit, a transaction is rolled back; dropped in it, nobody is told.
        let outcome = tokio::time::timeout(PATIENCE, write(&self.database, operations)).await;
        match outcome.unwrap_or(Err(StoreError::Silent)) {
            Ok(written) => {
                self.metrics.took(Timed::Commit, began.elapsed());
                self.metrics.audited(written.events);
                self.teller.events(&written.clients);
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
    answers: Vec<Answer>,
    events: u64,
    /// Clients with a new event, and the sequence of the last event.
    clients: BTreeMap<String, u64>,
}

async fn write(database: &Database, operations: &[Operation]) -> Result<Written, StoreError> {
    let mut session = database.write().await?;
    let head = audit::lock(&mut session).await?;
    let mut working = read_facts(&mut session, operations).await?;
    let answers = operations.iter().map(|operation| decide(&mut working, operation)).collect();
    let mut clients: BTreeMap<String, u64> =
        working.events.iter().map(|NewEvent { event, .. }| (event.client.clone(), 0)).collect();
    let events = working.events.len() as u64;
    write_changes(&mut session, &working).await?;
    if !working.events.is_empty() {
        let last = audit::append(&mut session, head, std::mem::take(&mut working.events)).await?;
        clients.values_mut().for_each(|sequence| *sequence = last);
    }
    session.commit().await?;
    Ok(Written { answers, events, clients })
}

fn decide(working: &mut Working, operation: &Operation) -> Answer {
    match operation {
        Operation::Reserve(request) => Answer::Reserved(working.reserve(request)),
        Operation::Spend(request) => Answer::Spent(working.spend(request)),
        Operation::Allow(request) => Answer::Allowed(working.allow(request, super::allow_digest(request))),
        Operation::Record(request) => {
            working.record(request);
            Answer::Recorded
        }
    }
}

/// What the operations stand on, in one statement a table.
async fn read_facts(session: &mut Session, operations: &[Operation]) -> Result<Working, StoreError> {
    let mut users = BTreeSet::new();
    let mut factors = BTreeSet::new();
    let mut transactions = BTreeSet::new();
    let mut counted = BTreeSet::new();
    let mut sources = false;
    for operation in operations {
        match operation {
            Operation::Reserve(request) => {
                factors.insert(request.factor_id.as_str());
                counted.insert(request.user_id.as_str());
                sources = true;
            }
            Operation::Spend(request) => {
                users.insert(request.user_id.as_str());
                factors.insert(request.factor_id.as_str());
                transactions.insert(request.transaction_id.as_str());
            }
            Operation::Allow(request) => {
                factors.insert(request.factor_id.as_str());
                if let Some(event) = &request.event {
                    users.insert(event.user_id.as_str());
                    counted.insert(event.user_id.as_str());
                    transactions.insert(event.transaction_id.as_str());
                }
                sources |= !request.source.is_empty();
            }
            Operation::Record(request) => {
                transactions.extend(request.event.as_ref().map(|event| event.transaction_id.as_str()));
            }
        }
    }
    for keys in [&mut users, &mut factors, &mut transactions, &mut counted] {
        keys.remove("");
    }
    let mut working = Working::default();
    for row in session.rows_in("SELECT user_id, state FROM users WHERE user_id IN", users, "", &[]).await? {
        working.enabled.insert(row.get("user_id")?, row.get::<String>("state")? == "enabled");
    }
    let head = "SELECT factor_id, user_id, pending, last_step, failures, open_ms, last_used_ms, revision FROM factors \
                WHERE factor_id IN";
    for row in session.rows_in(head, factors, "", &[]).await? {
        let failures = u32::try_from(row.get::<i64>("failures")?).unwrap_or(u32::MAX);
        let factor = Factor {
            user_id: row.get("user_id")?,
            pending: row.get("pending")?,
            last_step: row.get("last_step")?,
            counter: Counter { failures, open_ms: row.get("open_ms")? },
            last_used_ms: row.get("last_used_ms")?,
            revision: row.get("revision")?,
            changed: false,
        };
        working.factors.insert(row.get("factor_id")?, factor);
    }
    let head = "SELECT user_id, unverified, last_success_ms FROM guards WHERE user_id IN";
    for row in session.rows_in(head, counted.iter().copied(), "", &[]).await? {
        let unverified = Window::from_octets(&row.get::<Vec<u8>>("unverified")?);
        let guard = Guard { unverified, last_success_ms: row.get("last_success_ms")?, changed: false };
        working.guards.insert(row.get("user_id")?, guard);
    }
    if sources {
        let head = "SELECT user_id, source, last_success_ms, reserve FROM sources WHERE user_id IN";
        for row in session.rows_in(head, counted, "", &[]).await? {
            let reserve = Window::from_octets(&row.get::<Vec<u8>>("reserve")?);
            let source = Source { last_success_ms: row.get("last_success_ms")?, reserve, changed: false };
            working.sources.insert((row.get("user_id")?, row.get("source")?), source);
        }
    }
    let head = "SELECT transaction_id, request FROM audit WHERE final AND transaction_id IN";
    for row in session.rows_in(head, transactions.iter().copied(), "", &[]).await? {
        working.finals.insert(row.get("transaction_id")?, Final { request: row.get("request")? });
    }
    let spending = operations.iter().any(|operation| match operation {
        Operation::Spend(_) => true,
        Operation::Allow(request) => request.spent_before,
        Operation::Reserve(_) | Operation::Record(_) => false,
    });
    if spending {
        let head = "SELECT transaction_id, user_id, factor_id, step, spent_ms FROM code_spends WHERE transaction_id IN";
        for row in session.rows_in(head, transactions, "", &[]).await? {
            let spend = Spend {
                user_id: row.get("user_id")?,
                factor_id: row.get("factor_id")?,
                step: row.get("step")?,
                spent_ms: row.get("spent_ms")?,
                new: false,
            };
            working.spends.insert(row.get("transaction_id")?, spend);
        }
    }
    Ok(working)
}

async fn write_changes(session: &mut Session, working: &Working) -> Result<(), StoreError> {
    let changed = working.factors.iter().filter(|(_, factor)| factor.changed);
    let rows: Vec<Vec<Arg>> = changed
        .map(|(id, it)| args![id, it.revision, it.last_step, it.counter.failures, it.counter.open_ms, it.last_used_ms])
        .collect();
    let expected = rows.len() as u64;
    // V-11, V-74: the step only rises, and the row is the one that was read; a row that is not counted refuses the group.
    let tail = ") UPDATE factors SET last_step = v.last_step, failures = v.failures, open_ms = v.open_ms, \
                last_used_ms = v.last_used_ms, revision = factors.revision + 1 FROM v \
                WHERE factors.factor_id = v.factor_id AND factors.revision = v.revision AND factors.last_step <= v.last_step";
    let head = "WITH v (factor_id, revision, last_step, failures, open_ms, last_used_ms) AS (";
    if session.bulk(head, rows, tail).await? != expected {
        return Err(StoreError::Overtaken);
    }
    let changed = working.guards.iter().filter(|(_, guard)| guard.changed);
    let rows = changed.map(|(id, it)| args![id, it.unverified.to_octets(), it.last_success_ms]).collect();
    let tail = "ON CONFLICT (user_id) DO UPDATE SET unverified = excluded.unverified, \
                last_success_ms = excluded.last_success_ms";
    session.bulk("INSERT INTO guards (user_id, unverified, last_success_ms)", rows, tail).await?;
    let changed = working.sources.iter().filter(|(_, source)| source.changed);
    let rows = changed
        .map(|((user_id, source), it)| args![user_id, source, it.last_success_ms, it.reserve.to_octets()])
        .collect();
    let tail = "ON CONFLICT (user_id, source) DO UPDATE SET last_success_ms = excluded.last_success_ms, \
                reserve = excluded.reserve";
    session.bulk("INSERT INTO sources (user_id, source, last_success_ms, reserve)", rows, tail).await?;
    let new = working.spends.iter().filter(|(_, spend)| spend.new);
    let rows = new.map(|(id, it)| args![id, &it.user_id, &it.factor_id, it.step, it.spent_ms]).collect();
    session.bulk("INSERT INTO code_spends (transaction_id, user_id, factor_id, step, spent_ms)", rows, "").await?;
    Ok(())
}
