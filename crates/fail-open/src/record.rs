//! From the conditions of V-40 to a pass, and the one event that every pass leaves behind.

use crate::membership;
use crate::presence::Presence;
use crate::spool::Spool;
use directory::{Directory, Entry};
use domain::settings::{Client, RefuseOrPass};
use domain::{Assurance, Protocol, Reason, ResultClass, Source, TransactionId};
use proto::user_store::fail_open_server::FailOpen as Port;
use proto::user_store::{AuditEvent, RecordRequest};
use service_kit::grpc::{idempotent, with_deadline};
use service_kit::{Clock, Shutdown, chain};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

/// Lets people in, or says why not.
pub struct FailOpen {
    presence: Arc<Presence>,
    port: Arc<dyn Port>,
    /// Absent: without the store there is nowhere to write.
    spool: Option<Spool>,
    spooled: Notify,
    clock: Clock,
}

/// How long the store may take before the event goes to the spool.
const RECORD_LIMIT: Duration = Duration::from_secs(2);
/// What is left of a login below this is not enough to write its event.
const LEAST: Duration = Duration::from_millis(500);
/// How often a spool that the store did not take is offered again.
const SEND_ON_AGAIN: Duration = Duration::from_secs(5);

/// Why nobody is let in. The first condition that is missing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoPass {
    #[error("verification is not known to be down")]
    NotDown,
    #[error("the client's settings refuse")]
    ClientRefuses,
    #[error("the client's permission to let people in has ended")]
    Ended,
    #[error("the person is in none of the groups that are let in")]
    NotInGroup,
    #[error("it could not be read whether the person is in a group that is let in")]
    GroupUnknown,
    #[error("no time is left")]
    NoTime,
    #[error("the store refuses the event, code {0:?}")]
    Refused(Code),
    #[error("the event can be written nowhere")]
    NowhereToWrite,
}

/// Every condition but the password holds. Good for one login of this client.
#[derive(Debug)]
pub struct Admission {
    client: String,
}

/// A login whose password was right.
#[derive(Debug)]
pub struct Login<'a> {
    pub transaction: TransactionId,
    pub protocol: Protocol,
    /// The directory's canonical name, escaped.
    pub username: &'a str,
    pub client_ip: String,
    /// Escaped; empty where the client names none.
    pub calling_station: &'a str,
}

/// Let in, with its event written. Only [`FailOpen::record`] makes one.
#[derive(Debug)]
pub struct Passed {
    transaction: TransactionId,
    client: String,
}

impl Passed {
    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// The client it is for.
    pub fn client(&self) -> &str {
        &self.client
    }
}

impl FailOpen {
    /// `spool_directory` is this part's alone, or each part has its own name in it. What an earlier process left there is sent on.
    pub fn start(
        part: &'static str,
        spool_directory: Option<&Path>,
        presence: Arc<Presence>,
        port: Arc<dyn Port>,
        clock: Clock,
        shutdown: &Shutdown,
    ) -> Arc<Self> {
        let spool = spool_directory.map(|directory| Spool::in_directory(directory, part));
        let fail_open = Arc::new(Self { presence, port, spool, spooled: Notify::new(), clock });
        if let Some(spool) = fail_open.spool.clone() {
            let sender = fail_open.clone();
            shutdown.spawn_until_stopping(async move { sender.send_on(spool).await });
        }
        fail_open
    }

    /// Verification is down, for certain.
    pub fn is_down(&self) -> bool {
        self.presence.is_down()
    }

    /// Whether anybody of this client could be let in now. Groups are not looked at.
    pub fn applies_to(&self, client: &Client) -> Result<(), NoPass> {
        if !self.presence.is_down() {
            return Err(NoPass::NotDown);
        }
        if client.when_unavailable != RefuseOrPass::Pass {
            return Err(NoPass::ClientRefuses);
        }
        match &client.when_unavailable_until {
            Some(until) if !is_ahead(until, self.clock.now_ms()) => Err(NoPass::Ended),
            _ => Ok(()),
        }
    }

    /// All conditions but the password, before it is tried: who is not let in anyway must not learn whether it was right (B5).
    pub async fn admit(
        &self,
        client: &Client,
        directory: &Directory,
        entry: &Entry,
        deadline: Instant,
    ) -> Result<Admission, NoPass> {
        self.applies_to(client)?;
        let groups = &client.when_unavailable_groups;
        if !groups.is_empty() {
            let member = tokio::time::timeout_at(deadline, membership::is_member(directory, entry, groups)).await;
            match member {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Err(NoPass::NotInGroup),
                Ok(Err(error)) => {
                    tracing::warn!(client = %client.name, error = %chain(&error), "fail-open cannot see who is in its groups");
                    return Err(NoPass::GroupUnknown);
                }
                Err(_) => return Err(NoPass::GroupUnknown),
            }
        }
        Ok(Admission { client: client.name.to_string() })
    }

    /// The password was right, and verification could not be asked: writes the event, and with that lets the person in.
    pub async fn record(&self, admission: Admission, login: &Login<'_>, deadline: Instant) -> Result<Passed, NoPass> {
        // It may have come back meanwhile.
        if !self.presence.is_down() {
            return Err(NoPass::NotDown);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left < LEAST {
            return Err(NoPass::NoTime);
        }
        let event = self.event(&admission.client, login);
        match self.send(&event, false, RECORD_LIMIT.min(left / 2)).await {
            Ok(()) => {}
            Err(status) if is_final(status.code()) => return Err(NoPass::Refused(status.code())),
            // Perhaps it was written all the same: the store knows the transaction, so that the second one changes nothing.
            Err(_) => self.keep(event).await?,
        }
        tracing::warn!(
            event = "fail_open",
            client = admission.client,
            protocol = login.protocol.code(),
            request_id = %login.transaction,
            "let in on the password alone while verification is down"
        );
        Ok(Passed { transaction: login.transaction, client: admission.client })
    }

    fn event(&self, client: &str, login: &Login<'_>) -> AuditEvent {
        AuditEvent {
            at_unix_ms: self.clock.now_ms(),
            kind: "authentication".into(),
            transaction_id: login.transaction.to_string(),
            client: client.to_owned(),
            protocol: login.protocol.code().into(),
            username: login.username.to_owned(),
            client_ip: login.client_ip.clone(),
            calling_station: login.calling_station.to_owned(),
            result: ResultClass::Bypass.code().into(),
            reason: Reason::FailOpen.code().into(),
            assurance: Assurance::None.code().into(),
            source: Source::FailOpen.code().into(),
            ..AuditEvent::default()
        }
    }

    async fn send(&self, event: &AuditEvent, let_in_before: bool, limit: Duration) -> Result<(), Status> {
        let request = RecordRequest { event: Some(event.clone()), let_in_before };
        let call = self.port.record(with_deadline(idempotent(request), limit));
        timeout(limit, call).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("")))?;
        Ok(())
    }

    /// On the disk when it returns, even if whoever waits for it goes away: then there is an event too many, and never one too few.
    async fn keep(&self, event: AuditEvent) -> Result<(), NoPass> {
        let Some(spool) = self.spool.clone() else {
            tracing::error!("fail-open has nowhere to write: the store is away, and there is no spool");
            return Err(NoPass::NowhereToWrite);
        };
        let path = spool.path().to_owned();
        let written = tokio::task::spawn_blocking(move || spool.append(&event)).await.map_err(std::io::Error::other);
        match written.and_then(|written| written) {
            Ok(()) => {
                self.spooled.notify_one();
                Ok(())
            }
            Err(error) => {
                tracing::error!(path = %path.display(), error = %error, "fail-open has nowhere to write: the store is away, and the spool cannot be written");
                Err(NoPass::NowhereToWrite)
            }
        }
    }

    /// Gives the store what waits, whenever it takes it.
    async fn send_on(&self, spool: Spool) {
        loop {
            let emptied = self.send_on_once(&spool).await;
            match emptied {
                Ok(true) => self.spooled.notified().await,
                Ok(false) => tokio::time::sleep(SEND_ON_AGAIN).await,
                Err(error) => {
                    tracing::error!(path = %spool.path().display(), error = %error, "the fail-open spool cannot be read");
                    tokio::time::sleep(SEND_ON_AGAIN).await;
                }
            }
        }
    }

    /// True if nothing is left.
    async fn send_on_once(&self, spool: &Spool) -> std::io::Result<bool> {
        let reader = spool.clone();
        let waiting = tokio::task::spawn_blocking(move || reader.waiting()).await??;
        if waiting.octets == 0 {
            return Ok(true);
        }
        for event in &waiting.events {
            match self.send(event, true, SEND_ON_AGAIN).await {
                Ok(()) => {}
                Err(status) if is_final(status.code()) => tracing::error!(
                    event = "fail_open_event_refused",
                    client = event.client,
                    request_id = event.transaction_id,
                    at_unix_ms = event.at_unix_ms,
                    code = ?status.code(),
                    "the store refuses the event of somebody who was let in while verification was down; this line is its only trace"
                ),
                Err(_) => return Ok(false),
            }
        }
        let emptier = spool.clone();
        let emptied = tokio::task::spawn_blocking(move || emptier.empty(waiting.octets)).await??;
        tracing::info!(events = waiting.events.len(), "the store has the events of the fail-open spool");
        Ok(emptied)
    }
}

/// The store looked at the event and will not have it, however often it is sent.
fn is_final(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists | Code::OutOfRange)
}

/// A moment that cannot be read has passed.
fn is_ahead(until: &str, now_unix_ms: i64) -> bool {
    OffsetDateTime::parse(until, &Rfc3339)
        .is_ok_and(|until| until.unix_timestamp_nanos() / 1_000_000 > now_unix_ms.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_has_passed_or_cannot_be_read_has_passed() {
        // V-40
        let now = 1_790_000_000_000; // 2026-09-21T14:13:20Z
        assert!(is_ahead("2026-09-21T14:13:21Z", now));
        assert!(is_ahead("2026-09-21T16:13:21+02:00", now));
        for past in
            ["2026-09-21T14:13:20Z", "2026-09-21T16:13:20+02:00", "2026-01-01T00:00:00Z", "tomorrow", "", "2030-01-01"]
        {
            assert!(!is_ahead(past, now), "{past}");
        }
    }
}
