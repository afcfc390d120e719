//! Challenges this node has sent and nobody has answered here yet: who was asked, and since when. Only for the log line and to
//! close what nobody answers; the answer itself may come to any node, which then knows all that matters from the State.

use crate::attempt::Attempt;
use domain::TransactionId;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

/// Beyond it an answer's log line has no name of the person, and nothing else is lost.
const OPEN_MAX: usize = 100_000;

#[derive(Default)]
pub(crate) struct Challenges(Mutex<Open>);

#[derive(Default)]
struct Open {
    attempts: HashMap<TransactionId, Asked>,
    /// By when they end.
    ends: BTreeSet<(i64, TransactionId)>,
}

struct Asked {
    attempt: Attempt,
    /// Which question it is.
    step: u16,
    expires_unix_ms: i64,
}

impl Challenges {
    pub(crate) fn open(&self, mut attempt: Attempt, step: u16, expires_unix_ms: i64) {
        // nothing of the password is kept over rounds.
        attempt.password_digest = Box::default();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = attempt.transaction;
        open.remove(transaction);
        if open.attempts.len() < OPEN_MAX {
            open.attempts.insert(transaction, Asked { attempt, step, expires_unix_ms });
            open.ends.insert((expires_unix_ms, transaction));
        }
    }

    pub(crate) fn opened(&self, transaction: TransactionId) -> Option<Attempt> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.attempts.get(&transaction).map(|asked| asked.attempt.clone())
    }

    pub(crate) fn close(&self, transaction: TransactionId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(transaction);
    }

    /// Those whose time is over, each with the question that nobody answered here.
    pub(crate) fn expire(&self, now_unix_ms: i64) -> Vec<(Attempt, u16)> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut over = Vec::new();
        while let Some(&(ends, transaction)) = open.ends.first()
            && ends <= now_unix_ms
        {
            over.extend(open.remove(transaction).map(|asked| (asked.attempt, asked.step)));
        }
        over
    }
}

impl Open {
    fn remove(&mut self, transaction: TransactionId) -> Option<Asked> {
        let asked = self.attempts.remove(&transaction)?;
        self.ends.remove(&(asked.expires_unix_ms, transaction));
        Some(asked)
    }
}
