//! Mail that waits in the store: rendered in the person's language and handed to an SMTP server (FN-01 to FN-06).
//!
//! ```text
//! Outbox.Take (a lease) -> may it go? -> texts -> Letters, for each address -> Outbox.Done: sent | again at | never
//! ```
//!
//! At least once: a node that dies between a server's yes and Done sends it again, under the same Message-ID.

pub mod smtp;
pub mod texts;

use super::{Shared, Steps, Trial, Tried};
use crate::settings::Known;
use domain::Language;
use futures::StreamExt;
use proto::user_store::{DoneMailRequest, Mail as Queued, TakeMailRequest};
use service_kit::Process;
use smtp::{Letter, Letters, Unsent};
use std::sync::Arc;
use std::time::Duration;
use texts::Audience;
use tokio::time::Instant;
use tonic::{Request, Status};

/// How often the store is asked for mail.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const TAKE_MAX: u32 = 8;
/// Longer than a mail may take over all addresses and providers; what dies with its node is taken up again then.
const LEASE_SECONDS: u32 = 300;
const MAIL_TIME: Duration = Duration::from_secs(240);
const STORE_PATIENCE: Duration = Duration::from_secs(3);
/// Addresses of one mail: a list of administrators.
const ADDRESSES_MAX: usize = 50;
/// A minute, doubled up to an hour: with this many tries it is a day (FN-01).
const PAUSE_MIN_MS: i64 = 60_000;
const PAUSE_MAX_MS: i64 = 3_600_000;
const TRIES_MAX: u32 = 29;

/// The mail of this node.
pub struct Mail {
    shared: Shared,
    letters: Arc<Letters>,
}

/// What becomes of a mail.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    Again {
        at_unix_ms: i64,
        error: String,
    },
    Never {
        error: String,
    },
    /// The settings name nobody who wants it.
    Unwanted(&'static str),
}

impl Mail {
    /// Sends what is due, for ever, as a task of the process.
    pub fn start(shared: Shared, letters: Arc<Letters>, process: &Process) -> Self {
        let worker = Self { shared: shared.clone(), letters: letters.clone() };
        process.shutdown().spawn_until_stopping(async move {
            loop {
                // A full hand means that more is waiting.
                if !worker.round().await {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        });
        Self { shared, letters }
    }

    /// A test mail without a user.
    pub async fn test(&self, trial: &Trial<'_>) -> Tried {
        let mut steps = Steps::begin();
        let Ok(known) = self.shared.settings.known() else {
            steps.note("this node has no settings yet");
            return steps.refused();
        };
        let company = known.settings.portal.company.as_str();
        let rendered = texts::render("test", Audience::User, &trial.language, &[("company", company)], &known.settings);
        let rendered = rendered.expect("it ships");
        let letter = Letter {
            id: uuid::Uuid::new_v4().simple().to_string(),
            to: trial.to.to_owned(),
            subject: rendered.subject,
            text: rendered.text,
            html: Some(rendered.html),
        };
        match self.letters.send(&known, trial.provider, &letter, trial.until, "", &mut steps).await {
            Ok(accepted) => steps.accepted_by(accepted.provider),
            Err(_) => steps.refused(),
        }
    }

    /// `true`: there may be more at once.
    async fn round(&self) -> bool {
        let Ok(known) = self.shared.settings.known() else { return false };
        self.letters.keep_only(&known);
        if !Letters::any(&known) {
            return false;
        }
        let request =
            TakeMailRequest { limit: TAKE_MAX, lease_seconds: LEASE_SECONDS, now_unix_ms: self.shared.clock.now_ms() };
        let mails = match within(|request| self.shared.outbox.take(request), request).await {
            Ok(reply) => reply.mails,
            Err(error) => {
                tracing::debug!(error = error.message(), "no mail could be fetched");
                return false;
            }
        };
        let full = mails.len() >= TAKE_MAX as usize;
        let known = &known;
        futures::stream::iter(mails).for_each_concurrent(4, |mail| async move { self.one(known, mail).await }).await;
        full
    }

    async fn one(&self, known: &Arc<Known>, mail: Queued) {
        let outcome = self.deliver(known, &mail).await;
        let wanted = !matches!(outcome, Outcome::Unwanted(_));
        let (sent, retry_unix_ms, error) = match outcome {
            Outcome::Sent => (true, 0, String::new()),
            Outcome::Again { at_unix_ms, error } => (false, at_unix_ms, error),
            Outcome::Never { error } => (false, 0, error),
            Outcome::Unwanted(why) => (false, 0, why.to_owned()),
        };
        if !sent && wanted {
            let (kind, again) = (mail.kind.as_str(), retry_unix_ms != 0);
            tracing::warn!(mail_id = mail.mail_id, kind, again, error, "a mail was not sent");
        }
        let now_unix_ms = self.shared.clock.now_ms();
        let done = DoneMailRequest { mail_id: mail.mail_id, sent, retry_unix_ms, error, now_unix_ms };
        if let Err(error) = within(|request| self.shared.outbox.done(request), done).await {
            tracing::warn!(error = error.message(), "the end of a mail could not be noted; it may be sent again");
        }
    }

    async fn deliver(&self, known: &Arc<Known>, mail: &Queued) -> Outcome {
        let never = |error: &str| Outcome::Never { error: error.to_owned() };
        let rules = &known.settings.mail;
        let audience = match mail.user_id.is_empty() {
            true => Audience::Administrators,
            false => Audience::User,
        };
        if audience == Audience::User && !rules.to_users {
            return Outcome::Unwanted("mail to users is off");
        }
        // FV-27: the settings say who hears of what, as they are now.
        let addresses = match audience {
            Audience::Administrators if mail.to.is_empty() => match rules.notify.get(&mail.kind) {
                Some(addresses) if !addresses.is_empty() => addresses,
                _ => return Outcome::Unwanted("mail.notify names nobody for it"),
            },
            _ => &mail.to,
        };
        if self.shared.clock.now_ms() >= mail.expires_unix_ms {
            return never("it came too late");
        }
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return never("it has no address, or too many");
        }
        let language = Language::new(&mail.language).unwrap_or_else(|_| known.settings.verification.language.clone());
        let mut variables: Vec<(&str, &str)> =
            mail.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        for (name, value) in
            [("company", known.settings.portal.company.as_str()), ("portal_url", known.portal_url.as_str())]
        {
            if !mail.variables.contains_key(name) {
                variables.push((name, value));
            }
        }
        let Some(rendered) = texts::render(&mail.kind, audience, &language, &variables, &known.settings) else {
            return never("no text has this kind");
        };
        let until = Instant::now() + MAIL_TIME;
        let (mut sent, mut refused, mut open) = (0_usize, 0_usize, 0_usize);
        for (place, to) in addresses.iter().enumerate() {
            let letter = Letter {
                id: format!("{}.{place}", mail.mail_id),
                to: to.clone(),
                subject: rendered.subject.clone(),
                text: rendered.text.clone(),
                html: Some(rendered.html.clone()),
            };
            match self.letters.send(known, "", &letter, until, &mail.user_id, &mut Steps::begin()).await {
                Ok(_) => sent += 1,
                Err(Unsent::Refused) => refused += 1,
                Err(Unsent::NotNow | Unsent::NoProvider) => open += 1,
            }
        }
        // Whoever has it must not get it again, so what some have counts as sent.
        match (sent, open) {
            (0, 0) => never(&format!("refused for {refused} of {refused}")),
            (0, _) => again(mail, self.shared.clock.now_ms()),
            (_, 0) if refused == 0 => Outcome::Sent,
            _ => {
                tracing::warn!(mail_id = mail.mail_id, sent, missed = refused + open, "a mail reached some only");
                Outcome::Sent
            }
        }
    }
}

/// When a mail is tried again: never past its own life, nor past a day.
fn again(mail: &Queued, now_unix_ms: i64) -> Outcome {
    let pause = PAUSE_MIN_MS.saturating_mul(1 << mail.tries.min(16)).min(PAUSE_MAX_MS);
    let at_unix_ms = now_unix_ms + pause;
    match mail.tries < TRIES_MAX && at_unix_ms < mail.expires_unix_ms {
        true => Outcome::Again { at_unix_ms, error: "no server took it".into() },
        false => Outcome::Never { error: "no server took it in time".into() },
    }
}

async fn within<M, R, F>(call: impl FnOnce(Request<M>) -> F, message: M) -> Result<R, Status>
where
    F: Future<Output = Result<tonic::Response<R>, Status>>,
{
    let answered = tokio::time::timeout(
        STORE_PATIENCE,
        call(service_kit::grpc::with_deadline(Request::new(message), STORE_PATIENCE)),
    );
    answered.await.map_err(|_| Status::deadline_exceeded("no answer in time"))?.map(tonic::Response::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_go_on_for_a_day_and_never_past_the_life_of_a_link() {
        // FN-01
        let mail = |tries, expires_unix_ms| Queued { tries, expires_unix_ms, ..Queued::default() };
        let (mut now, mut tries) = (0, 0);
        while let Outcome::Again { at_unix_ms, .. } = again(&mail(tries, i64::MAX), now) {
            assert!(at_unix_ms > now);
            (now, tries) = (at_unix_ms, tries + 1);
        }
        let hours = now / 3_600_000;
        assert_eq!((hours, tries), (24, TRIES_MAX), "{now}");
        assert!(matches!(again(&mail(0, 60_001), 0), Outcome::Again { at_unix_ms: 60_000, .. }));
        assert!(matches!(again(&mail(0, 60_000), 0), Outcome::Never { .. }));
    }
}
