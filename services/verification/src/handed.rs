//! Facts that were read to say what could stand behind a password, kept for the decision of the same attempt: read once for both.
//!
//! A decision on them is one of a moment ago, while the password was checked. Whether the user may still enter, and whether a code is
//! used up, the store looks at again under its lock before anybody is let in (V-61).

use crate::facts::KnownUser;
use domain::{DirectoryRef, TransactionId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// As long as a directory takes to check a password; what comes later reads anew.
const LIFE: Duration = Duration::from_secs(3);
/// Attempts kept; beyond it the next ones read twice.
const KEPT_MAX: usize = 4096;

#[derive(Default)]
pub struct Handed(Mutex<HashMap<TransactionId, Kept>>);

struct Kept {
    subject: DirectoryRef,
    user: KnownUser,
    since: Instant,
}

impl Handed {
    pub fn keep(&self, transaction: TransactionId, subject: DirectoryRef, user: KnownUser, now: Instant) {
        let mut kept = self.kept();
        if kept.len() < KEPT_MAX {
            kept.insert(transaction, Kept { subject, user, since: now });
        }
    }

    /// Once: an attempt that is decided a second time is decided on what is then.
    pub fn take(&self, transaction: TransactionId, subject: &DirectoryRef, now: Instant) -> Option<KnownUser> {
        let Kept { subject: of, user, since } = self.kept().remove(&transaction)?;
        (of == *subject && now.saturating_duration_since(since) < LIFE).then_some(user)
    }

    /// Forgets what nobody came for, for ever: there are seeds in it. May be dropped at any await.
    pub async fn forget(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LIFE).await;
            self.sweep(Instant::now());
        }
    }

    fn sweep(&self, now: Instant) {
        self.kept().retain(|_, it| now.saturating_duration_since(it.since) < LIFE);
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<TransactionId, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::known_user;
    use proto::user_store::{LoginFactsReply, LoginUser};
    use uuid::Uuid;

    fn subject(directory: &str) -> DirectoryRef {
        let object_id = format!("entryUUID:{}", Uuid::nil());
        proto::common::DirectoryRef { directory: directory.into(), object_id }.try_into().expect("a reference")
    }

    fn user(id: &str) -> KnownUser {
        let user = LoginUser { user_id: id.into(), state: "enabled".into(), ..LoginUser::default() };
        known_user(LoginFactsReply { user: Some(user), ..LoginFactsReply::default() }).flatten().expect("a user")
    }

    #[test]
    fn facts_serve_one_decision_of_the_attempt_they_were_read_for() {
        let (handed, now) = (Handed::default(), Instant::now());
        let [one, other] = [1, 2].map(|number| TransactionId(Uuid::from_u128(number)));
        handed.keep(one, subject("company"), user("ann"), now);
        assert!(handed.take(other, &subject("company"), now).is_none());
        assert_eq!(handed.take(one, &subject("company"), now).map(|user| user.id).as_deref(), Some("ann"));
        assert!(handed.take(one, &subject("company"), now).is_none(), "twice");
        handed.keep(one, subject("company"), user("ann"), now);
        assert!(handed.take(one, &subject("partner"), now).is_none(), "of another entry");
        handed.keep(one, subject("company"), user("ann"), now);
        assert!(handed.take(one, &subject("company"), now + LIFE).is_none(), "too old");
    }

    #[test]
    fn there_is_an_end_to_what_is_kept_and_nothing_old_stays() {
        let (handed, now) = (Handed::default(), Instant::now());
        let keep = |number: u128, at| handed.keep(TransactionId(Uuid::from_u128(number)), subject("a"), user("x"), at);
        (0..KEPT_MAX as u128 + 10).for_each(|number| keep(number, now));
        assert_eq!(handed.kept().len(), KEPT_MAX);
        handed.kept().clear();
        keep(1, now);
        keep(2, now + LIFE / 2);
        handed.sweep(now + LIFE);
        assert_eq!(handed.kept().len(), 1);
    }
}
