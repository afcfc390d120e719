//! Right password, wrong second factor, again and again: somebody may know the password (FB-08). The log is told, and the people it
//! is about.

use crate::Service;
use crate::budget::Budget;
use crate::commit::Ending;
use crate::facts::Spoken;
use crate::login::Login;
use domain::{Reason, ResultClass};
use proto::user_store::{Mail, PutMailRequest};
use std::collections::HashMap;
use std::sync::Mutex;

/// So many failures within so long are told.
const FAILURES: usize = 3;
const WINDOW_MS: i64 = 600_000;
/// Users watched at once; beyond it those who fail anew are not watched.
const USERS_MAX: usize = 10_000;

/// Failures of late, by user, as this node saw them.
#[derive(Default)]
pub struct Failing {
    lately: Mutex<HashMap<String, Vec<i64>>>,
}

impl Failing {
    /// Notes a failure; `true`: that makes it worth telling, and the count begins anew.
    pub fn note(&self, user_id: &str, now_unix_ms: i64) -> bool {
        let recent = |at: &i64| now_unix_ms - at < WINDOW_MS;
        let mut lately = self.lately.lock().expect("nobody panics while holding the failures");
        if lately.len() >= USERS_MAX && !lately.contains_key(user_id) {
            lately.retain(|_, times| times.last().is_some_and(recent));
            if lately.len() >= USERS_MAX {
                return false;
            }
        }
        let times = lately.entry(user_id.to_owned()).or_default();
        times.retain(recent);
        times.push(now_unix_ms);
        let tell = times.len() >= FAILURES;
        if tell {
            lately.remove(user_id);
        }
        tell
    }
}

/// What is told late is told wrong: by then the person has done something about it, or nothing.
const MAIL_LIFE_MS: i64 = 24 * 3_600_000;

impl Service {
    /// The password was right, and the factor failed.
    pub(crate) async fn note_failure(&self, login: &Login, ending: Ending) {
        if ending.reason == Reason::LockedOut {
            self.metrics.locked_out(ending.method);
            self.tell(login, "locked", ending.until_unix_ms).await;
        }
        if !counts(ending.reason) {
            return;
        }
        self.metrics.factor_failed(&login.origin().client);
        if self.failing.note(&login.user.id, self.clock.now_ms()) {
            tracing::warn!(
                event = "password_known_factor_failing",
                service = "verification",
                request_id = %login.origin().transaction,
                client = login.origin().client,
                user = login.user.username,
                reason = ending.reason.code(),
            );
            self.tell(login, "password_known", 0).await;
        }
    }

    /// Mail to the person and to the administrators, once in ten minutes for all nodes. That it cannot be put changes no decision.
    async fn tell(&self, login: &Login, kind: &str, until_unix_ms: i64) {
        let now = self.clock.now_ms();
        let record = &login.user.record;
        let mut variables: HashMap<String, String> = [
            ("first_name", record.first_name.as_str()),
            ("last_name", record.last_name.as_str()),
            ("username", login.user.username.as_str()),
            ("application", login.rules.application.as_str()),
            ("place", login.origin().source()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.insert("time".into(), rfc3339(now));
        if until_unix_ms > 0 {
            variables.insert("until".into(), rfc3339(until_unix_ms));
        }
        let language = login.user.language(Spoken::Text, &login.rules.known).as_str().to_owned();
        for (user_id, whose) in [(login.user.id.as_str(), "user"), ("", "administrators")] {
            let (to, language) = match user_id.is_empty() {
                // Who they are, and what they speak, is known where it is sent (FV-27).
                true => (Vec::new(), String::new()),
                false if record.mail.is_empty() => continue,
                false => (vec![record.mail.clone()], language.clone()),
            };
            let mail = Mail {
                kind: kind.into(),
                user_id: user_id.into(),
                to,
                language,
                variables: variables.clone(),
                expires_unix_ms: now.saturating_add(MAIL_LIFE_MS),
                ..Mail::default()
            };
            let once_key = format!("{kind}/{whose}/{}/{}", login.user.id, now.div_euclid(WINDOW_MS));
            let request = PutMailRequest { mail: Some(mail), once_key, now_unix_ms: now };
            let budget: Budget = login.budget;
            let put = budget.ask("put mail", service_kit::grpc::idempotent(request), |it| self.outbox.put(it)).await;
            if let Err(error) = put {
                tracing::warn!(kind, error = error.message(), "a mail could not be put");
            }
        }
    }
}

/// Failures that say that somebody has the password and not the factor. A phone that cannot be reached says nothing of the kind.
fn counts(reason: Reason) -> bool {
    match reason.class() {
        ResultClass::Failed => {
            !matches!(reason, Reason::Busy | Reason::Voicemail | Reason::Unreachable | Reason::ChallengeGone)
        }
        ResultClass::Fraud => true,
        _ => reason == Reason::UserDenied,
    }
}

fn rfc3339(unix_ms: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000))
        .ok()
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_in_ten_minutes_is_told_and_the_count_begins_anew() {
        let failing = Failing::default();
        let told: Vec<bool> = [0, 1, 2, 3, 4, 5].iter().map(|at| failing.note("ann", *at)).collect();
        assert_eq!(told, [false, false, true, false, false, true]);
        let slowly: Vec<bool> = (1..10).map(|hour| failing.note("bob", hour * 3_600_000)).collect();
        assert!(slowly.iter().all(|told| !told));
    }

    #[test]
    fn the_number_of_watched_users_is_bounded_and_the_old_ones_make_room() {
        let failing = Failing::default();
        for user in 0..USERS_MAX + 5 {
            failing.note(&user.to_string(), 0);
        }
        assert_eq!(failing.lately.lock().expect("whole").len(), USERS_MAX);
        failing.note("late", WINDOW_MS);
        assert_eq!(failing.lately.lock().expect("whole").len(), 1);
    }
}
