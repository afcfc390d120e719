//! Right password, wrong second factor, again and again: somebody may know the password (FB-08). The log is told, and the people it
//! is about.

use crate::Service;
use crate::budget::Budget;
use crate::commit::Ending;
use crate::facts::Spoken;
use crate::login::Login;
use domain::{Reason, ResultClass};
use proto::user_store::{Mail, PutMailRequest, SeeOnceRequest};
use std::collections::HashMap;

/// So many failures within so long are told.
const FAILURES: usize = 3;
const WINDOW_MS: i64 = 600_000;

/// What is told late is told wrong: by then the person has done something about it, or nothing.
const MAIL_LIFE_MS: i64 = 24 * 3_600_000;

impl Service {
    /// The password was right, and the factor failed.
    pub(crate) async fn note_failure(&self, login: &Login, ending: Ending) {
        if ending.reason == Reason::LockedOut {
            self.metrics.locked_out(ending.method);
            let (id, until) = (&login.user.id, ending.until_unix_ms);
            let once = |whose: &str| proto::once::locked(whose, id, until, self.clock.now_ms());
            self.tell(login, "locked", until, once).await;
        }
        if !counts(ending.reason) {
            return;
        }
        self.metrics.factor_failed(&login.origin().client);
        if self.is_worth_telling(login).await {
            tracing::warn!(
                event = "password_known_factor_failing",
                service = "verification",
                request_id = %login.origin().transaction,
                client = login.origin().client,
                user = login.user.username,
                reason = ending.reason.code(),
            );
            let now = self.clock.now_ms();
            let once = |whose: &str| format!("password_known/{whose}/{}/{}", login.user.id, now.div_euclid(WINDOW_MS));
            self.tell(login, "password_known", 0, once).await;
        }
    }

    /// Notes a failure, for all nodes: each takes a place in the store for ten minutes, and whoever takes the last one tells. That it
    /// cannot be noted changes no decision.
    async fn is_worth_telling(&self, login: &Login) -> bool {
        let (user_id, until) = (&login.user.id, self.clock.now_ms().saturating_add(WINDOW_MS));
        for place in 1..=FAILURES {
            let (scope, id) = (format!("failing/{user_id}"), place.to_string());
            let request = SeeOnceRequest { scope, id, expires_unix_ms: until, forget: false };
            match self.committer.see_once(request, login.budget).await {
                Ok(true) => return place == FAILURES,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        error = error.message(),
                        "a failed factor after a right password could not be noted"
                    );
                    return false;
                }
            }
        }
        // Told within these ten minutes.
        false
    }

    /// Mail to the person and to the administrators. That it cannot be put changes no decision.
    async fn tell(&self, login: &Login, kind: &str, until_unix_ms: i64, once: impl Fn(&str) -> String) {
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
            let request = PutMailRequest { mail: Some(mail), once_key: once(whose), now_unix_ms: now };
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
