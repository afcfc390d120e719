//! Each request is worked on once and answered once, on whichever node and however often it comes (A4).
//!
//! ```text
//! request -> this node's duplicates -> room? -> the map all nodes share -> login -> reply -> sent, kept, put into the map
//!              | copy: silence or         |         | another node has it: silence,
//!              '-> the same octets        '-> drop  '-> or its octets
//! ```
//! One task a request. It ends early when the client sends something else under the same identifier (R-32), when another node
//! has taken over (R-30), or when the process stops (R-39).

mod shared;

pub(crate) use shared::SharedRequests;

use crate::attempt::{Attempt, Ended, escaped};
use crate::listener::{Drop, Request};
use crate::login::{self, Verdict};
use crate::metrics::{InFlight, PacketCode, PacketOutcome};
use crate::{Gateway, credentials, person_address, question, reply};
use domain::{Method, Reason, TransactionId};
use radius_wire::{
    AttributeType, ExchangeId, ExchangeKey, ExchangeLimits, Exchanges, Fingerprint, Received, Transport, Verified,
};
use shared::{Claim, Lease, Lost};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

/// All exchanges of this node.
pub(crate) struct Table {
    started: Instant,
    in_work_max: usize,
    in_work_per_client_max: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    exchanges: Exchanges,
    running: HashMap<ExchangeId, Running>,
    in_work_of: HashMap<Box<str>, usize>,
}

/// A request in work.
#[derive(Clone)]
struct Running {
    client: Box<str>,
    duplicates: Arc<AtomicU32>,
    /// Nobody waits for its answer any more.
    orphaned: CancellationToken,
}

/// Takes a genuine request that is no Status-Server. Called by the receive loop, so it waits for nothing.
pub(crate) fn take(gateway: &Arc<Gateway>, request: Request, verified: &Verified<'_>) {
    let key = ExchangeKey::new(request.path.local, Transport::Udp, request.path.peer, verified);
    let fingerprint = Fingerprint::of(verified);
    let client = request.client.clone();
    let count = |outcome| gateway.metrics.packet(client.name(), PacketCode::AccessRequest, outcome);
    let id = match gateway.exchanges.receive(key, fingerprint) {
        Received::Ask(id) => id,
        Received::Replaced { orphan, ask } => {
            gateway.exchanges.orphan(&orphan);
            ask
        }
        Received::StillWaiting(id) => {
            gateway.exchanges.count_duplicate(&id);
            return count(PacketOutcome::Duplicate);
        }
        Received::Resend(octets) => {
            request.socket.send_now(&octets, &request.path);
            return count(PacketOutcome::Duplicate);
        }
        Received::Full => {
            return gateway.drop_packet(Some(&client), verified.packet().octets(), &request.path, Drop::Full);
        }
    };
    let running = match gateway.exchanges.admit(id, client.name(), gateway.shutdown.is_draining(), || {
        credentials::continues(verified, client.name(), &gateway.keys.state(), gateway.now_unix_seconds())
    }) {
        Ok(running) => running,
        Err(drop) => return gateway.drop_packet(Some(&client), verified.packet().octets(), &request.path, drop),
    };
    let gateway_of_task = gateway.clone();
    gateway.shutdown.spawn(async move {
        // Boxed: tens of thousands of them may wait.
        Box::pin(work(&gateway_of_task, &request, id, fingerprint, &running)).await;
        gateway_of_task.exchanges.leave(&id);
    });
}

/// One request from first to last.
async fn work(gateway: &Arc<Gateway>, request: &Request, id: ExchangeId, fingerprint: Fingerprint, running: &Running) {
    let client = request.client.name();
    let count = |outcome| gateway.metrics.packet(client, PacketCode::AccessRequest, outcome);
    let mut transaction = TransactionId(Uuid::now_v7());
    let mut lease = None;
    if let Some(shared) = &gateway.requests {
        match shared.claim(id.key().shared(), &fingerprint, transaction).await {
            Claim::Mine(claimed) => {
                // After a takeover the transaction of the node that is gone: verification then says what it said to that one.
                transaction = claimed.transaction();
                lease = Some(claimed);
            }
            Claim::Elsewhere => {
                gateway.exchanges.forget(&id);
                return count(PacketOutcome::Duplicate);
            }
            Claim::Answered(octets) => {
                let octets: Arc<[u8]> = octets.into();
                if gateway.exchanges.answer(&id, octets.clone()) {
                    request.socket.send_now(&octets, &request.path);
                }
                return count(PacketOutcome::Duplicate);
            }
        }
    }
    count(PacketOutcome::Ok);
    let span = tracing::info_span!(
        "radius.request",
        otel.kind = "server",
        twinlock.client = client,
        twinlock.request_id = %transaction,
    );
    let in_flight = gateway.metrics.in_flight();
    answer(gateway, request, id, transaction, lease, running, in_flight).instrument(span).await;
}

async fn answer(
    gateway: &Arc<Gateway>,
    request: &Request,
    id: ExchangeId,
    transaction: TransactionId,
    mut lease: Option<Lease>,
    running: &Running,
    mut in_flight: InFlight<'_>,
) {
    let mut attempt = begin(request, transaction);
    let mut settled = None;
    let end = {
        let answering = settle(gateway, request, &mut attempt, &mut in_flight, &mut settled);
        // Cancel safety: `settle` may be dropped at any await; what it left open at verification is closed below. The others
        // only wait.
        tokio::select! {
            () = answering => End::Settled,
            () = running.orphaned.cancelled() => End::Orphaned,
            lost = keep(&mut lease) => match lost {
                Lost::TakenOver => End::TakenOver,
                Lost::Replaced => End::Orphaned,
            },
            () = gateway.shutdown.stopping() => End::Stopping,
        }
    };
    let answer = match (end, settled) {
        (End::TakenOver, _) => {
            // Another node works on this very attempt and will log it.
            gateway.exchanges.forget(&id);
            return tracing::warn!(service = crate::NAME, request_id = %transaction, "another node has taken over a request");
        }
        (End::Orphaned, settled) => return orphaned(gateway, &attempt, settled.map(|answer| answer.verdict), running),
        (End::Settled | End::Stopping, Some(answer)) => answer,
        // `Settled` always leaves an answer behind.
        (End::Settled | End::Stopping, None) => refuse(gateway, request, &mut attempt, Reason::ShuttingDown),
    };
    let Some(octets) = answer.octets else {
        gateway.exchanges.forget(&id);
        if let Some(lease) = lease {
            lease.release().await;
        }
        return;
    };
    let octets: Arc<[u8]> = octets.into();
    if !gateway.exchanges.answer(&id, octets.clone()) {
        return orphaned(gateway, &attempt, Some(answer.verdict), running);
    }
    if let Err(error) = request.socket.send(&octets, &request.path).await {
        tracing::warn!(service = crate::NAME, client = request.client.name(), error = %error, "a reply could not be sent");
    }
    if let Some(lease) = lease {
        lease.answered(&octets).await;
    }
    log(gateway, attempt, &answer.verdict, running);
}

enum End {
    Settled,
    Orphaned,
    TakenOver,
    Stopping,
}

/// What a request is answered with.
struct Answer {
    verdict: Verdict,
    octets: Option<Vec<u8>>,
}

/// Decides, writes the answer into `settled`, and waits until it may be sent.
async fn settle(
    gateway: &Arc<Gateway>,
    request: &Request,
    attempt: &mut Attempt,
    in_flight: &mut InFlight<'_>,
    settled: &mut Option<Answer>,
) {
    let verdict = login::decide(gateway, request, attempt, in_flight).await;
    let answer = write(gateway, request, attempt, verdict);
    let refused = matches!(answer.verdict, Verdict::Reject(_));
    *settled = Some(answer);
    if refused {
        // R-07: whoever guesses learns slowly, and not from how long the answer took.
        sleep_until(request.received + gateway.config.reject_delay()).await;
    }
}

fn write(gateway: &Arc<Gateway>, request: &Request, attempt: &mut Attempt, verdict: Verdict) -> Answer {
    let verified = request.verified();
    let written = match &verdict {
        Verdict::Accept(allow) => reply::accept(allow, &verified),
        Verdict::Challenge(ask) => {
            let (client, keys) = (&request.client, gateway.keys.state());
            let shown = question::text(ask, client.settings.application(), gateway.settings.current().texts());
            let (transaction, now) = (attempt.transaction, gateway.clock.now_ms());
            reply::challenge(ask, &shown, transaction, client.name(), &verified, &keys, nonce(), now)
        }
        Verdict::Reject(reason) => return refuse(gateway, request, attempt, *reason),
        Verdict::Silence(reason) => {
            gateway.drop_packet(Some(&request.client), verified.packet().octets(), &request.path, (*reason).into());
            return Answer { verdict, octets: None };
        }
    };
    match written {
        Ok(octets) => Answer { verdict, octets: Some(octets) },
        Err(error) => {
            // R-06: somebody has to look at the device or the attributes.
            tracing::error!(service = crate::NAME, client = request.client.name(), error = %error, "a reply cannot be written; the login is refused");
            refuse(gateway, request, attempt, Reason::InternalError)
        }
    }
}

/// Every No takes this way.
fn refuse(gateway: &Arc<Gateway>, request: &Request, attempt: &mut Attempt, reason: Reason) -> Answer {
    close(gateway, attempt, reason);
    attempt.recorded = true;
    let octets = reply::reject(attempt.transaction, &request.verified());
    Answer { verdict: Verdict::Reject(reason), octets: Some(octets) }
}

/// The client has given up on the request by sending another one under its identifier (R-32): its answer is not sent. In a later
/// round the conversation goes on with the new one; in the first round it is over.
fn orphaned(gateway: &Arc<Gateway>, attempt: &Attempt, verdict: Option<Verdict>, running: &Running) {
    let (reason, allow) = match &verdict {
        Some(Verdict::Accept(allow)) => (allow.reason, Some(allow)),
        Some(Verdict::Reject(reason)) => (*reason, None),
        _ if attempt.rounds > 1 => return,
        _ => (Reason::ChallengeGone, None),
    };
    close(gateway, attempt, reason);
    let duplicates = running.duplicates.load(Ordering::Relaxed);
    attempt.end(&Ended { reason, allow, reply: "none", duplicates }, &gateway.metrics);
}

/// Tells verification of an end that it has not recorded itself: what is open there is closed, and the audit hears of it.
fn close(gateway: &Gateway, attempt: &Attempt, reason: Reason) {
    if attempt.recorded {
        return;
    }
    if attempt.known_to_verification {
        gateway.verifier.cancel(attempt.transaction, reason);
    }
    gateway.verifier.report(attempt, reason);
}

fn log(gateway: &Gateway, attempt: Attempt, verdict: &Verdict, running: &Running) {
    let duplicates = running.duplicates.load(Ordering::Relaxed);
    let ended = match verdict {
        Verdict::Accept(allow) => {
            Ended { reason: allow.reason, allow: Some(allow), reply: "Access-Accept", duplicates }
        }
        Verdict::Reject(reason) => Ended { reason: *reason, allow: None, reply: "Access-Reject", duplicates },
        Verdict::Challenge(ask) => {
            let method = ask.method.map_or("none", Method::code);
            gateway.metrics.attempt(attempt.client.name(), method, question::asked(ask.kind));
            return gateway.challenges.open(attempt, ask.expires_unix_ms);
        }
        Verdict::Silence(_) => return,
    };
    // A stray copy of an answer ends nothing: the conversation may go on with the right one.
    if ended.reason != Reason::ChallengeGone {
        gateway.challenges.close(attempt.transaction);
    }
    attempt.end(&ended, &gateway.metrics);
}

fn begin(request: &Request, transaction: TransactionId) -> Attempt {
    let verified = request.verified();
    let packet = verified.packet();
    let nas_named = [AttributeType::NAS_IP_ADDRESS, AttributeType::NAS_IPV6_ADDRESS, AttributeType::NAS_IDENTIFIER]
        .into_iter()
        .any(|kind| packet.has(kind));
    request.client.note_nas(nas_named);
    let attempt = Attempt {
        transaction,
        client: request.client.clone(),
        client_ip: request.path.peer.ip().to_canonical(),
        calling_station: packet.calling_station_id().map(escaped),
        person_ip: person_address::read(request.client.settings.person_address, packet, request.path.peer.ip()),
        typed: escaped(credentials::typed_name(&verified)),
        person: None,
        begun: request.received,
        first: None,
        second: None,
        method: None,
        password_digest: Vec::new(),
        rounds: 1,
        known_to_verification: false,
        recorded: false,
    };
    tracing::debug!(service = crate::NAME, request_id = %transaction, client = attempt.client.name(), typed = attempt.typed, "request");
    attempt
}

/// Ends only when the lease is lost.
async fn keep(lease: &mut Option<Lease>) -> Lost {
    match lease {
        Some(lease) => lease.keep().await,
        None => std::future::pending().await,
    }
}

fn nonce() -> [u8; 12] {
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).expect("the kernel gives random octets");
    nonce
}

impl Table {
    pub(crate) fn new(in_work_max: usize, in_work_per_client_max: usize, reply_kept: Duration) -> Self {
        /// The longest wait of a client (FL-09) and 30 s (R-31).
        const PENDING_KEPT: Duration = Duration::from_secs(110 + 30);
        let limits = ExchangeLimits {
            // The limits below hold for what is in work; this one leaves room for the replies that are kept.
            entries_max: in_work_max.saturating_mul(4),
            pending_per_source_max: in_work_per_client_max,
            reply_kept,
            pending_kept: PENDING_KEPT,
        };
        let inner = Inner { exchanges: Exchanges::new(limits), running: HashMap::new(), in_work_of: HashMap::new() };
        Self { started: Instant::now(), in_work_max, in_work_per_client_max, inner: Mutex::new(inner) }
    }

    /// Ends what has had its time.
    pub(crate) fn expire(&self) {
        let mut inner = self.lock();
        for unanswered in inner.exchanges.expire(self.started.elapsed()) {
            if let Some(running) = inner.running.get(&unanswered) {
                running.orphaned.cancel();
            }
        }
    }

    fn receive(&self, key: ExchangeKey, fingerprint: Fingerprint) -> Received {
        self.lock().exchanges.receive(key, fingerprint, self.started.elapsed())
    }

    /// Room for a new request, or why there is none. What goes on with a conversation may use the last tenth (R-38) and is taken
    /// even while the node takes nothing new (R-39).
    fn admit(
        &self,
        id: ExchangeId,
        client: &str,
        draining: bool,
        continues: impl FnOnce() -> bool,
    ) -> Result<Running, Drop> {
        let mut inner = self.lock();
        let in_work = inner.running.len();
        let of_client = inner.in_work_of.get(client).copied().unwrap_or_default();
        let scarce = in_work >= self.in_work_max / 10 * 9 || of_client >= self.in_work_per_client_max / 10 * 9;
        let full = in_work >= self.in_work_max || of_client >= self.in_work_per_client_max;
        if full || ((draining || scarce) && !continues()) {
            inner.exchanges.forget(&id);
            return Err(if draining { Drop::Draining } else { Drop::Full });
        }
        let running = Running { client: client.into(), duplicates: Arc::default(), orphaned: CancellationToken::new() };
        inner.running.insert(id, running.clone());
        *inner.in_work_of.entry(running.client.clone()).or_default() += 1;
        Ok(running)
    }

    /// The work on a request is over, whatever became of it.
    fn leave(&self, id: &ExchangeId) {
        let mut inner = self.lock();
        let Some(running) = inner.running.remove(id) else { return };
        if let Some(in_work) = inner.in_work_of.get_mut(&running.client) {
            *in_work -= 1;
            if *in_work == 0 {
                inner.in_work_of.remove(&running.client);
            }
        }
    }

    fn orphan(&self, id: &ExchangeId) {
        if let Some(running) = self.lock().running.get(id) {
            running.orphaned.cancel();
        }
    }

    fn count_duplicate(&self, id: &ExchangeId) {
        if let Some(running) = self.lock().running.get(id) {
            running.duplicates.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answer(&self, id: &ExchangeId, octets: Arc<[u8]>) -> bool {
        self.lock().exchanges.answer(id, octets, self.started.elapsed())
    }

    fn forget(&self, id: &ExchangeId) {
        self.lock().exchanges.forget(id);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
