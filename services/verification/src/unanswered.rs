//! Logins that nobody goes on with: what they have open is ended, and somebody records that they are over (V-61).
//!
//! ```text
//! the caller says so             ─┐
//! a question's time is over ─ grace ├─ prompts withdrawn ─ the conversation closed, once ─ the event
//! ```
//!
//! A gateway ends a question as soon as its time is over. One that has died cannot: then the node that asked it does, a little later. What
//! becomes of a prompt whose caller is gone stands in [`prompt`](crate::methods::prompt).
//!
//! A code that was spent before its password is the same: a gateway that dies between the two leaves a code that counts no more. The node
//! that spent it says so, where no end was told.

use crate::budget::Budget;
use crate::challenges::{Came, Challenges, Held, Record, Stage};
use crate::commit::{Committer, Ending};
use crate::outcome;
use crate::providers::{Carriers, is_given_up};
use domain::{Method, Reason, TransactionId};
use futures::future::join_all;
use proto::user_store::{GetPromptsRequest, Prompt};
use service_kit::{Clock, Shutdown};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::Status;

/// What the gateway has beyond the end of a question to end it itself. A record lingers longer (R-44).
const GRACE_MS: i64 = 15_000;
/// One that could not be ended is tried again after this.
const AGAIN_MS: i64 = 5_000;
/// So long after its time: an outage that lasts longer has its event lost.
const TRIES_MS: i64 = 600_000;
/// How often it is looked for questions whose time is over.
const LOOK: Duration = Duration::from_secs(1);
/// Ending one is given this long.
const LIMIT: Duration = Duration::from_secs(10);
/// Questions remembered. What is asked beyond them has its event from the gateway alone.
const ASKED_MAX: usize = 100_000;
/// Whoever asks anew waits so long for a telephone to be free again.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Ends logins, and knows which questions of this node are open.
pub struct Unanswered {
    committer: Committer,
    challenges: Arc<Challenges>,
    carriers: Arc<dyn Carriers>,
    shutdown: Shutdown,
    asked: Mutex<Asked>,
}

/// Which question of a login was asked last, and when it is ended here.
#[derive(Default)]
struct Asked {
    questions: HashMap<TransactionId, Question>,
    ends: BTreeSet<(i64, TransactionId)>,
}

struct Question {
    /// None: it is no question, but a code that was spent before its password (L-53).
    step: Option<u32>,
    ends_unix_ms: i64,
    given_up_unix_ms: i64,
    /// It is closed, and what follows failed.
    owed: Option<Box<Owed>>,
}

/// What follows when a conversation was closed here.
struct Owed {
    /// As it was before.
    record: Record,
    /// Its prompts may still be open.
    withdraws: bool,
    reason: Reason,
}

impl Unanswered {
    pub fn new(
        committer: Committer,
        challenges: Arc<Challenges>,
        carriers: Arc<dyn Carriers>,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        Arc::new(Self { committer, challenges, carriers, shutdown, asked: Mutex::default() })
    }

    /// The person was asked, or their code was spent. An earlier question of the same login is answered by that.
    pub fn asked(&self, record: &Record) {
        let step = match record.stage {
            Stage::Asked { step, .. } => Some(step),
            Stage::CodeSpent(_) => None,
            Stage::Closed => return,
        };
        let ends_unix_ms = record.expires_unix_ms.saturating_add(GRACE_MS);
        let given_up_unix_ms = ends_unix_ms.saturating_add(TRIES_MS);
        let question = Question { step, ends_unix_ms, given_up_unix_ms, owed: None };
        self.open().insert(record.attempt.origin.transaction, question);
    }

    /// The login is over.
    pub fn ended(&self, transaction: TransactionId) {
        self.open().remove(transaction);
    }

    /// The gateway has recorded its end: a code that was spent for it waits for no password any more (L-53). What is closed here and owed,
    /// or asked, stays: it has more to it than an event.
    pub fn reported(&self, transaction: TransactionId) {
        let mut open = self.open();
        let question = open.questions.get(&transaction);
        if question.is_some_and(|question| question.step.is_none() && question.owed.is_none()) {
            open.remove(transaction);
        }
    }

    /// For ever: ends what nobody has answered or ended. May be dropped at any await.
    pub async fn watch(self: Arc<Self>, clock: Clock) {
        loop {
            tokio::time::sleep(LOOK).await;
            // One after the other: where the store is slow, nobody waits for this.
            while let Some((transaction, mut question)) = self.next_over(clock.now_ms()) {
                if let Err(error) = self.end_question(transaction, &mut question).await {
                    tracing::warn!(error = error.message(), request_id = %transaction, "an attempt that nobody answered is not recorded yet");
                    self.open().put_back(transaction, question, clock.now_ms());
                }
            }
        }
    }

    fn next_over(&self, now_unix_ms: i64) -> Option<(TransactionId, Question)> {
        self.open().take_over(now_unix_ms)
    }

    async fn end_question(&self, transaction: TransactionId, question: &mut Question) -> Result<(), Status> {
        let owed = match &question.owed {
            Some(owed) => owed,
            None => {
                let Some(held) = self.challenges.find(transaction).await? else { return Ok(()) };
                // Whoever had a code spent and says nothing of the password is gone: a fault of ours, and nobody's silence.
                let reason = question.step.map_or(Reason::InternalError, |_| Reason::NoAnswer);
                let closed = self.close(&held, question.step, reason).await?;
                let Some(owed) = closed else { return Ok(()) };
                question.owed.insert(owed.into())
            }
        };
        self.conclude(owed, Budget::lasting(LIMIT)).await
    }

    /// Ends a conversation, or this question of it alone. Whether it was open: of all who ask, one hears that it was.
    pub async fn end(&self, held: &Held, only: Option<u32>, reason: Reason, budget: Budget) -> Result<bool, Status> {
        let Some(owed) = self.close(held, only, reason).await? else { return Ok(false) };
        let concluded = self.conclude(&owed, budget).await;
        if concluded.is_err() {
            let ends_unix_ms = self.committer.now_ms();
            let given_up_unix_ms = ends_unix_ms.saturating_add(TRIES_MS);
            let question = Question { step: only, ends_unix_ms, given_up_unix_ms, owed: Some(owed.into()) };
            self.open().put_back(held.record.attempt.origin.transaction, question, ends_unix_ms);
        }
        concluded.map(|()| true)
    }

    /// `None`: it was not open.
    async fn close(&self, held: &Held, only: Option<u32>, reason: Reason) -> Result<Option<Owed>, Status> {
        let Record { attempt, stage, .. } = &held.record;
        let is_meant = match (stage, only) {
            (Stage::Closed, _) => false,
            (_, None) => true,
            (Stage::Asked { step, .. }, Some(only)) => *step == only,
            (Stage::CodeSpent(_), Some(_)) => false,
        };
        if !is_meant || !self.challenges.close(held, Came::Denied(reason.into())).await? {
            return Ok(None);
        }
        self.ended(attempt.origin.transaction);
        Ok(Some(Owed { record: held.record.clone(), withdraws: only.is_some(), reason }))
    }

    /// Withdraws its prompts and records its event. Neither waits for the other, or fails with it.
    async fn conclude(&self, owed: &Owed, budget: Budget) -> Result<(), Status> {
        let Owed { record: Record { attempt, user_id, stage, .. }, withdraws, reason } = owed;
        let method = match stage {
            Stage::Asked { round, .. } => outcome::method(round),
            Stage::CodeSpent(_) => Some(Method::Code),
            Stage::Closed => None,
        };
        let ending = Ending { method, ..(*reason).into() };
        let withdrawn = async {
            match withdraws {
                true => self.withdraw_all(&attempt.origin.transaction.to_string(), budget).await,
                false => Ok(()),
            }
        };
        let (withdrawn, recorded) =
            tokio::join!(withdrawn, self.committer.record(&attempt.origin, user_id, ending, budget));
        withdrawn.and(recorded)
    }

    /// Ends the prompts that an attempt has open, because nobody waits for it any more. Its telephone is free for the next one when
    /// this returns, if that can be had soon (R-32).
    pub async fn withdraw_all(&self, transaction_id: &str, budget: Budget) -> Result<(), Status> {
        let mut silent = Vec::new();
        for prompt in self.prompts(transaction_id, budget).await?.iter().filter(|prompt| prompt.outcome.is_empty()) {
            let over = self.committer.withdraw(&prompt.prompt_id, budget).await?;
            silent.extend(self.fall_silent(&over));
        }
        let _ = tokio::time::timeout(SILENCE.min(budget.left()), join_all(silent)).await;
        Ok(())
    }

    async fn prompts(&self, transaction_id: &str, budget: Budget) -> Result<Vec<Prompt>, Status> {
        let request =
            GetPromptsRequest { transaction_ids: vec![transaction_id.to_owned()], ..GetPromptsRequest::default() };
        let reply = budget.ask("prompts", request, |request| self.committer.commit.get_prompts(request)).await?;
        Ok(reply.prompts)
    }

    /// Whether a login has anything open: then somebody goes on with it, or will end it.
    pub async fn is_open(&self, transaction: TransactionId, budget: Budget) -> Result<bool, Status> {
        let held = self.challenges.find(transaction).await?;
        if held.is_some_and(|held| held.record.stage != Stage::Closed) {
            return Ok(true);
        }
        let prompts = self.prompts(&transaction.to_string(), budget).await?;
        Ok(prompts.iter().any(|prompt| prompt.outcome.is_empty()))
    }

    /// What still rings for a prompt that was given up is hung up, whoever did so.
    pub fn fall_silent(&self, prompt: &Prompt) -> Option<JoinHandle<()>> {
        let rings = prompt.method == Method::Call.code() && is_given_up(prompt);
        rings.then(|| {
            let (carriers, prompt) = (self.carriers.clone(), prompt.clone());
            self.shutdown.spawn(async move { carriers.hang_up(&prompt).await })
        })
    }

    fn open(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    fn insert(&mut self, transaction: TransactionId, question: Question) {
        self.remove(transaction);
        if self.questions.len() < ASKED_MAX {
            self.ends.insert((question.ends_unix_ms, transaction));
            self.questions.insert(transaction, question);
        }
    }

    fn remove(&mut self, transaction: TransactionId) -> Option<Question> {
        let question = self.questions.remove(&transaction)?;
        self.ends.remove(&(question.ends_unix_ms, transaction));
        Some(question)
    }

    /// One whose time is over, with the question that was asked.
    fn take_over(&mut self, now_unix_ms: i64) -> Option<(TransactionId, Question)> {
        let &(_, transaction) = self.ends.first().filter(|(ends, _)| *ends <= now_unix_ms)?;
        self.remove(transaction).map(|question| (transaction, question))
    }

    /// One that could not be ended, unless it was asked anew meanwhile.
    fn put_back(&mut self, transaction: TransactionId, question: Question, now_unix_ms: i64) {
        if now_unix_ms < question.given_up_unix_ms && !self.questions.contains_key(&transaction) {
            let ends_unix_ms = now_unix_ms.saturating_add(AGAIN_MS);
            self.insert(transaction, Question { ends_unix_ms, ..question });
        }
    }
}
