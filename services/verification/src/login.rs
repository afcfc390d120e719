//! A login after the password: what was decided is carried out, method after method, until somebody is let in, refused, or asked.
//!
//! ```text
//! begin     the password passed          ┐             ┌ ask     a round of a conversation
//! spent     the code came before it      ├─ pursue ────┼ let in  committed first
//! answer    a round was answered         ┘             └ refuse  recorded first
//! observed  the client is only observed: let in, with a note of what would have been
//! ```

mod answer;
mod begin;
mod finish;
mod observed;
mod pursue;
mod remember;
mod spent;

pub use answer::Answered;
pub(crate) use answer::Turn;
pub use finish::ending;
pub use pursue::Step;

use crate::attempt::{Attempt, Origin};
use crate::budget::Budget;
use crate::challenges::{Held, Record, Stage};
use crate::facts::KnownUser;
use crate::settings::Rules;
use domain::Method;
use policy::Shows;
use uuid::Uuid;

/// An attempt under way, of a user the store knows.
pub struct Login {
    pub attempt: Attempt,
    pub rules: Rules,
    pub user: Box<KnownUser>,
    pub budget: Budget,
    /// The person chose it.
    pub wanted: Option<Method>,
    /// Methods that failed for technical reasons.
    pub failed: Vec<Method>,
    /// What a success is remembered by; empty = it is not.
    pub remember_key: Vec<u8>,
    /// The conversation with the person, once there is one.
    pub held: Option<Held>,
    /// Names the evaluation of an answer (R-44).
    pub evaluation: Option<Uuid>,
}

impl Login {
    pub fn origin(&self) -> &Origin {
        &self.attempt.origin
    }

    /// Can the person be asked to type something?
    pub fn can_ask(&self) -> bool {
        self.attempt.shows() >= Shows::Text
    }

    pub fn transaction(&self) -> String {
        self.attempt.origin.transaction.to_string()
    }

    /// The answer guessed nothing: the try that was taken for it is given back.
    pub fn give_back_try(&mut self) {
        if let Some(held) = &mut self.held
            && let Stage::Asked { tries_left, .. } = &mut held.record.stage
        {
            *tries_left = tries_left.saturating_add(1);
        }
    }

    /// The same conversation, taken up by an answer.
    pub fn resumed(record: &Record, rules: Rules, user: KnownUser, held: Held, budget: Budget) -> Self {
        Self {
            attempt: record.attempt.clone(),
            rules,
            user: Box::new(user),
            budget,
            wanted: record.wanted,
            failed: record.failed.clone(),
            remember_key: record.remember_key.clone(),
            held: Some(held),
            // The map alone does not make a round unique: it can be in the map and here, or be put back (V-73).
            evaluation: Some(Uuid::new_v4()),
        }
    }
}
