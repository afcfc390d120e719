//! Each request is worked on once and answered once, on whichever node and however often it comes (A4).
//!
//! ```text
//! request -> this node's duplicates -> room? -> the map all nodes share -> login -> reply -> sent, kept, put into the map
//!              | copy: silence or         |         | another node has it: silence,              |
//!              |  the same octets         '-> drop  |  or its octets                             |
//!              '- look-alike of one in work (R-34) -'---- waits for that one's answer <----------'
//! ```
//! One task a request. It ends early when the client sends something else under the same identifier (R-32), when another node
//! has taken over (R-30), or when the process stops (R-39).
//!
//! A look-alike is one for the name as it was typed: within the life of one attempt the same name at the same client is the same
//! person, because the attempt has resolved it once for all who wait.

mod alike;
mod notices;
mod shared;
mod table;
mod turn;

pub(crate) use shared::SharedRequests;
pub(crate) use table::{Repeat, Table};

use crate::attempt::{Attempt, Ended, escaped};
use crate::credentials::{Continues, Takes};
use crate::listener::{Drop, Request};
use crate::login::{self, Granted, Opened, Verdict};
use crate::metrics::{InFlight, PacketCode, PacketOutcome};
use crate::reply::No;
use crate::verify::Beside;
use crate::{Gateway, accounting, credentials, person_address, question, random, reply};
use alike::{NotAwaited, join, pass_on, wait_along};
use domain::{Method, Reason, TransactionId};
use login_queue::Sign;
use radius_wire::{AttributeType, Code, ExchangeId, ExchangeKey, Fingerprint, LookAlike, Verified};
use service_kit::trace;
use shared::{Claim, Given, Hold, Joined, Lost, Orphan};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use table::{Arrival, HasBegun, Interrupted, Predecessor, Running, Taken};
use tokio::time::{Instant, sleep_until, timeout};
use turn::in_turn;
use uuid::Uuid;

/// How long a request waits for the prompt of the one before it to be withdrawn (R-32). It goes on then all the same: verification has
/// one prompt open at a time (R-35).
const WITHDRAWAL: Duration = Duration::from_secs(3);

/// Takes a genuine request that is no Status-Server. Called by the receive loop, so it waits for nothing.
pub(crate) fn take(gateway: &Arc<Gateway>, request: Request, verified: &Verified<'_>) {
    let packet = verified.packet();
    let client = request.client.clone();
    let fingerprint = Fingerprint::of(verified);
    let asks = packet.code() == Code::AccessRequest;
    let takes = gateway.settings.takes(&client.settings.target);
    let terms = credentials::Terms::of(&client, takes);
    let continues = match asks {
        true => credentials::continues(verified, terms, &gateway.keys.state(), gateway.now_unix_seconds()),
        false => Continues::Nothing,
    };
    // Whoever goes on with a conversation waits for nobody (R-38), and home servers have people of their own to wait for.
    let in_turn = asks && continues == Continues::Nothing && takes != Takes::Everything;
    let begun = match &continues {
        Continues::Nothing => HasBegun::No,
        Continues::Ours => HasBegun::Yes,
        Continues::Foreign { user_name, state } => {
            match gateway.affinity.has_passed_on(&client.settings.name, user_name, state) {
                true => HasBegun::Yes,
                // While the bus is away no other node can be asked.
                false if gateway.requests.as_ref().is_some_and(|shared| !shared.is_away()) => HasBegun::Perhaps,
                false => HasBegun::No,
            }
        }
    };
    let alike = match asks {
        true => LookAlike::of(verified, client.name(), &gateway.keys.look_alikes(), continues == Continues::Ours),
        false => None,
    };
    let key = ExchangeKey::new(request.path.local, request.back.transport(), request.path.peer, verified);
    let taken = gateway.exchanges.take(Arrival {
        key,
        fingerprint,
        alike,
        client: client.name(),
        begun,
        draining: gateway.shutdown.is_draining(),
    });
    let count = |outcome| gateway.metrics.packet(client.name(), PacketCode::of(packet.octets()), outcome);
    let known = Known { key, fingerprint, alike: alike.filter(LookAlike::joins) };
    match taken {
        Taken::Copy { work, repeat } => {
            gateway.queue.heard(&client.settings.name, work.serial(), Sign::Copy, Instant::now());
            // Reports wait for nobody, and are repeated for longer.
            if asks {
                gateway.note_repeat(&client, repeat);
            }
            count(PacketOutcome::Duplicate);
        }
        Taken::Resend(octets) => {
            request.back.send_now(&octets, &request.path);
            count(PacketOutcome::Duplicate);
        }
        Taken::Refused(drop) => gateway.drop_packet(Some(&client), packet.octets(), &request.path, drop),
        Taken::Work { id, running, anew, predecessor, unless_begun } => {
            if anew {
                gateway.observed().repeats_anew(client.name(), gateway.started.elapsed());
            }
            let unless_begun = unless_begun.map(|drop| (drop, continues));
            let arrived = Box::new(Arrived { known, predecessor, unless_begun, in_turn });
            let job = Job { gateway: gateway.clone(), request, id, running };
            // Tens of thousands of them may wait for their person. Whatever comes before that, or after it, is boxed, and has no room in
            // what waits.
            gateway.shutdown.spawn(async move {
                match asks {
                    true => work(&job, arrived).await,
                    false => Box::pin(report(&job, arrived)).await,
                }
                job.leave();
            });
        }
        Taken::Joins { id, running, answered, work, repeat } => {
            gateway.queue.heard(&client.settings.name, work.serial(), Sign::LookAlike, Instant::now());
            gateway.note_repeat(&client, repeat);
            gateway.observed().repeats_anew(client.name(), gateway.started.elapsed());
            gateway.metrics.joined(client.name());
            count(PacketOutcome::Duplicate);
            let job = Job { gateway: gateway.clone(), request, id, running };
            gateway.shutdown.spawn(async move {
                Box::pin(wait_along(&job, &known, answered)).await;
                job.leave();
            });
        }
    }
}

/// A request in work, and whom it is worked on for.
struct Job {
    gateway: Arc<Gateway>,
    request: Request,
    id: ExchangeId,
    running: Running,
}

impl Job {
    /// The work is over. A device that was not there any more for its answer tells how long it waits (R-37).
    fn leave(&self) {
        let Self { gateway, request, id, .. } = self;
        self.gives_place();
        if let Some(waited) = gateway.exchanges.leave(id) {
            gateway.observed().gives_up(request.client.name(), waited, gateway.started.elapsed());
        }
    }

    /// Others may be worked on: it waits for a person, or is over.
    fn gives_place(&self) {
        self.gateway.queue.leave(&self.request.client.settings.name, self.id.serial(), Instant::now());
    }
}

/// What tells a request from others.
struct Known {
    key: ExchangeKey,
    fingerprint: Fingerprint,
    /// What those have that may wait for the same answer.
    alike: Option<LookAlike>,
}

/// What is known of a request before it is worked on.
struct Arrived {
    known: Known,
    predecessor: Option<Predecessor>,
    /// Why it is not taken, and what it says that it goes on with.
    unless_begun: Option<(Drop, Continues)>,
    /// It waits for its turn where there are too many.
    in_turn: bool,
}

/// Whether a request is taken: what there was no room for, if another node has passed on the State that it goes on with (R-38, R-39). If
/// not, it is dropped.
async fn is_taken(job: &Job, unless_begun: Option<(Drop, Continues)>) -> bool {
    let Job { gateway, request, id, .. } = job;
    let Some((drop, continues)) = unless_begun else { return true };
    if let Continues::Foreign { user_name, state } = continues
        && gateway.affinity.asker(&request.client.settings.name, &user_name, &state).await.is_some()
    {
        return true;
    }
    gateway.exchanges.forget(id);
    gateway.drop_packet(Some(&request.client), request.verified().packet().octets(), &request.path, drop);
    false
}

/// One request from first to last.
#[expect(clippy::manual_async_fn, reason = "an `async fn` holds its arguments twice as long as it waits")]
fn work(job: &Job, arrived: Box<Arrived>) -> impl Future<Output = ()> + Send {
    async move {
        let Some(begun) = Box::pin(in_turn(job, arrived)).await else { return };
        let client = job.request.client.name();
        job.gateway.metrics.packet(client, PacketCode::AccessRequest, PacketOutcome::Ok);
        let span = tracing::info_span!(
            "radius.request",
            otel.kind = "server",
            twinlock.client = client,
            twinlock.request_id = %begun.transaction,
        );
        trace::in_span(span, |kept| answer(job, begun, kept)).await;
    }
}

/// What all nodes agree on before a login begins; `None`: it is another's, or answered, and nothing is left to do.
async fn take_up(job: &Job, arrived: Box<Arrived>) -> Option<Box<Begun>> {
    let Job { gateway, request, id, running } = job;
    let Arrived { known, predecessor, unless_begun, in_turn: _ } = *arrived;
    if !is_taken(job, unless_begun).await {
        return None;
    }
    if let Some(predecessor) = predecessor {
        // R-32: whoever was asked for that one is asked no more when they may be asked for this one.
        let ended = timeout(WITHDRAWAL, predecessor.ended());
        if !still_wanted(gateway, id, &mut Hold::default(), running, async { drop(ended.await) }).await {
            gateway.exchanges.forget(id);
            return None;
        }
    }
    let client = request.client.name();
    let mut begun = Box::new(Begun {
        transaction: TransactionId(Uuid::now_v7()),
        likeness: known.alike.map_or(known.fingerprint.sha256, |alike| *alike.digest()),
        taken_over: false,
        hold: Hold::default(),
    });
    let Some(shared) = &gateway.requests else { return Some(begun) };
    let Some(packet) = claim(gateway, shared, request, id, &known).await else {
        gateway.metrics.packet(client, PacketCode::AccessRequest, PacketOutcome::Duplicate);
        return None;
    };
    // After a takeover the transaction of the node that is gone: verification then says what it said to that one.
    begun.taken_over = packet.taken_over();
    begun.transaction = packet.transaction();
    let (orphan, key) = (packet.orphan(), packet.key().to_owned());
    begun.hold = shared.hold(packet);
    if let Some(orphan) = orphan
        && !still_wanted(gateway, id, &mut begun.hold, running, withdrawn(gateway, shared, &orphan, &key)).await
    {
        gateway.exchanges.forget(id);
        begun.hold.release().await;
        return None;
    }
    let Some(alike) = &known.alike else { return Some(begun) };
    match join(gateway, shared, request, id, alike, &mut begun, running).await {
        Ok(Joined::Lead(common)) => {
            begun.taken_over |= common.taken_over();
            begun.transaction = common.transaction();
            if let Some(packet) = &mut begun.hold.packet {
                packet.works_on(common.transaction()).await;
            }
            begun.hold.leads(shared, common);
            Some(begun)
        }
        Ok(Joined::Answered(given)) => {
            gateway.observed().repeats_elsewhere(client, gateway.started.elapsed());
            gateway.metrics.joined(client);
            gateway.metrics.packet(client, PacketCode::AccessRequest, PacketOutcome::Duplicate);
            let given = Arc::new(given);
            gateway.exchanges.publish(id, given.clone());
            pass_on(gateway, request, id, &given, begun.hold).await;
            None
        }
        Ok(Joined::Late) | Err(NotAwaited::Here) => {
            gateway.exchanges.forget(id);
            begun.hold.release().await;
            None
        }
        Err(NotAwaited::Anywhere) => {
            gateway.exchanges.forget(id);
            let present = begun.hold.present.take();
            begun.hold.release().await;
            // Whoever has its place begins when this one is over, and so is what was asked for it alone.
            shared.left(alike).await;
            drop(present);
            None
        }
    }
}

/// Returns when nobody is asked any more for what another node had begun (R-32): that one may be gone, or know of it only later.
async fn withdrawn(gateway: &Arc<Gateway>, shared: &SharedRequests, orphan: &Orphan, key: &str) {
    let closed_there = shared.closed(orphan, key);
    if orphan.perhaps_awaited {
        return closed_there.await;
    }
    let closed = gateway.verifier.cancel(orphan.transaction, Reason::ChallengeGone).done(WITHDRAWAL);
    tokio::join!(closed, closed_there);
}

/// Waits before a request is begun, and keeps what is held meanwhile. Whether anybody still waits for it then, and for us.
async fn still_wanted(
    gateway: &Gateway,
    id: &ExchangeId,
    hold: &mut Hold,
    running: &Running,
    wait: impl Future<Output = ()>,
) -> bool {
    let mut wait = pin!(wait);
    let gone = || {
        gateway.exchanges.forget(id);
        !gateway.exchanges.is_awaited(id)
    };
    loop {
        // Cancel safety: `keep` may be dropped at any time, and the others only wait.
        tokio::select! {
            () = &mut wait => break,
            _ = running.interrupted() => return false,
            _ = hold.keep() => if gone() { return false },
        }
    }
    // Nobody is to find it silent, however long the next step takes.
    hold.lost().await.is_none() || !gone()
}

/// What is settled when the login begins.
struct Begun {
    transaction: TransactionId,
    /// What whoever takes it over has in common with it.
    likeness: [u8; 32],
    /// Another node had begun it, and may have asked the person.
    taken_over: bool,
    hold: Hold,
}

/// The right to work on this very packet; `None`: it is another's, or answered, which is then done.
async fn claim(
    gateway: &Gateway,
    shared: &SharedRequests,
    request: &Request,
    id: &ExchangeId,
    known: &Known,
) -> Option<Box<shared::Lease>> {
    let transaction = TransactionId(Uuid::now_v7());
    let claim = shared.claim(known.key.shared(), &known.fingerprint, known.alike.as_ref(), transaction).await;
    let elsewhere = matches!(claim, Claim::Elsewhere { here: false } | Claim::Answered { here: false, .. });
    // R-37: how a device repeats its reports says nothing of its logins.
    if elsewhere && request.verified().packet().code() == Code::AccessRequest {
        gateway.observed().repeats_elsewhere(request.client.name(), gateway.started.elapsed());
    }
    match claim {
        Claim::Mine(lease) => return Some(lease),
        Claim::Elsewhere { .. } => gateway.exchanges.forget(id),
        Claim::Answered { octets, .. } => {
            let octets: Arc<[u8]> = octets.into();
            if gateway.exchanges.answer(id, octets.clone()) {
                request.back.send_now(&octets, &request.path);
            }
        }
    }
    None
}

/// One report from first to last: done once, on whichever node its copies land (R-86).
async fn report(job: &Job, arrived: Box<Arrived>) {
    let Job { gateway, request, id, running } = job;
    let Arrived { known, unless_begun, .. } = *arrived;
    if !is_taken(job, unless_begun).await {
        return;
    }
    let count = |outcome| gateway.metrics.packet(request.client.name(), PacketCode::AccountingRequest, outcome);
    let mut hold = Hold::default();
    if let Some(shared) = gateway.requests.as_ref().filter(|_| accounting::has_effect(request)) {
        let Some(packet) = Box::pin(claim(gateway, shared, request, id, &known)).await else {
            return count(PacketOutcome::Duplicate);
        };
        hold = shared.hold(packet);
    }
    // Cancel safety: `answer` and `keep` may be dropped at any time, and the others only wait.
    let answer = tokio::select! {
        answer = accounting::answer(gateway, request) => answer,
        why = running.interrupted() => Err(match why {
            Interrupted::Orphaned => Drop::NotStored,
            Interrupted::Stopping => Drop::Draining,
        }),
        // Another node had not heard from us and goes on with it, or has another one of this device in its place.
        _ = hold.keep() => return gateway.exchanges.forget(id),
    };
    match answer {
        Ok(octets) => {
            count(PacketOutcome::Ok);
            if gateway.exchanges.answer(id, octets.as_slice().into()) {
                send(request, &octets).await;
            }
            hold.answered(&Given { authenticator: *request.verified().packet().authenticator(), octets }).await;
        }
        Err(drop) => {
            gateway.exchanges.forget(id);
            hold.release().await;
            gateway.drop_packet(Some(&request.client), request.verified().packet().octets(), &request.path, drop);
        }
    }
}

async fn send(request: &Request, octets: &[u8]) {
    if let Err(error) = request.back.send(octets, &request.path).await {
        tracing::warn!(service = crate::NAME, client = request.client.name(), error = %error, "a reply could not be sent");
    }
}

#[expect(clippy::manual_async_fn, reason = "as above")]
fn answer(job: &Job, begun: Box<Begun>, span: trace::Kept) -> impl Future<Output = ()> + Send {
    async move {
        let _span = span;
        let mut in_flight = job.gateway.metrics.in_flight();
        let Begun { transaction, likeness, taken_over, mut hold } = *begun;
        let mut attempt = begin(&job.request, transaction, likeness);
        // What the other node left open is closed with ours.
        attempt.known_to_verification = taken_over;
        let stepped_back = AtomicBool::new(false);
        let mut superseded = false;
        let mut settled = None;
        let end = {
            let mut answering = pin!(settle(job, &mut attempt, &mut in_flight, &mut settled, &stepped_back));
            loop {
                // Cancel safety: `settle` may be dropped at any await; what it left open at verification is closed below. `keep` may
                // be dropped at any time, and the other only waits.
                tokio::select! {
                    () = &mut answering => break End::Settled,
                    why = job.running.interrupted() => break End::Interrupted(why),
                    lost = hold.keep() => match lost {
                        Lost::TakenOver => {
                            // Another node works on this very attempt and will log it. What we have asked verification is waited for
                            // all the same: a caller that leaves takes the prompt along, which the other has joined (R-30).
                            tracing::warn!(service = crate::NAME, request_id = %transaction, "another node has taken over a request");
                            stepped_back.store(true, Ordering::Relaxed);
                            job.gateway.exchanges.forget(&job.id);
                            hold = Hold::default();
                        }
                        Lost::Superseded => {
                            superseded = true;
                            job.gateway.exchanges.forget(&job.id);
                        }
                        Lost::Replaced => {
                            job.gateway.exchanges.forget(&job.id);
                            superseded = false;
                            if !job.gateway.exchanges.is_awaited(&job.id) {
                                break End::Interrupted(Interrupted::Orphaned);
                            }
                            // It goes on for others, and whoever has replaced it need not wait.
                            hold.present = None;
                        }
                    },
                }
            }
        };
        let stepped_back = stepped_back.into_inner();
        let over = Over { attempt, hold, end, settled, superseded, stepped_back };
        Box::pin(finish(job, over)).await;
    }
}

/// A request whose login is over, or given up.
struct Over {
    attempt: Attempt,
    hold: Hold,
    end: End,
    settled: Option<Box<Answer>>,
    /// A look-alike has its place at another node.
    superseded: bool,
    /// Another node has taken over.
    stepped_back: bool,
}

enum End {
    Settled,
    Interrupted(Interrupted),
}

/// Sends the answer if anybody waits for it, and lets everybody know.
async fn finish(job: &Job, over: Over) {
    let Job { gateway, request, id, running } = job;
    let Over { mut attempt, mut hold, mut end, settled, superseded, stepped_back } = over;
    if settled.is_none() {
        login::tell_of_change(gateway, request, &mut attempt);
    }
    if stepped_back {
        return;
    }
    // Its prompt may be gone because another request has its place at another node: then nobody waits for a Reject (R-32).
    let withdrawn = |answer: &Answer| matches!(answer.verdict, Verdict::Reject(Reason::ChallengeGone));
    if !superseded && settled.as_deref().is_some_and(withdrawn) && hold.lost().await == Some(Lost::Replaced) {
        gateway.exchanges.forget(id);
        if !gateway.exchanges.is_awaited(id) {
            end = End::Interrupted(Interrupted::Orphaned);
        }
    }
    let answer = match (end, settled) {
        (End::Interrupted(Interrupted::Orphaned), settled) => {
            let (verdict, octets) = settled.map_or((None, None), |answer| (Some(answer.verdict), answer.octets));
            let authenticator = *request.verified().packet().authenticator();
            let given = octets.filter(|_| verdict.as_ref().is_some_and(is_decided));
            let given = given.map(|octets| Given { authenticator, octets });
            let closing = orphaned(gateway, &attempt, verdict, running);
            return leave_to_look_alikes(hold, given, closing).await;
        }
        (_, Some(answer)) => answer,
        // What is settled always leaves an answer behind.
        (_, None) => Box::new(refuse(gateway, request, &mut attempt, Reason::ShuttingDown, stepped_back)),
    };
    let Some(octets) = answer.octets else {
        gateway.exchanges.forget(id);
        return hold.release().await;
    };
    let awaited = superseded || gateway.exchanges.is_awaited(id);
    let given = Arc::new(Given { authenticator: *request.verified().packet().authenticator(), octets });
    gateway.exchanges.publish(id, given.clone());
    if gateway.exchanges.answer(id, given.octets.as_slice().into()) {
        send(request, &given.octets).await;
    } else if !awaited && hold.lost().await != Some(Lost::Superseded) {
        let given = is_decided(&answer.verdict).then(|| Given::clone(&given));
        let closing = orphaned(gateway, &attempt, Some(answer.verdict), running);
        return leave_to_look_alikes(hold, given, closing).await;
    }
    hold.answered(&given).await;
    if let Some(parked) = attempt.parked.as_ref().filter(|_| is_decided(&answer.verdict)) {
        gateway.affinity.unpark(attempt.transaction, parked).await;
    }
    log(gateway, attempt, &answer.verdict, running);
}

/// What is decided is so for look-alikes, too, of which others may wait at another node: nobody asks the person, or tries a wrong
/// password, for them once more. What was withdrawn is not decided, and a stray copy of an answer ends nothing.
fn is_decided(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Accept(_) => true,
        Verdict::Reject(reason) => *reason != Reason::ChallengeGone,
        Verdict::Challenge(_) | Verdict::Relayed(_) | Verdict::Silence(_) => false,
    }
}

/// Nobody waits for the request itself any more. Whoever leads its look-alikes from now on begins anew where nothing was decided: not
/// before what was open is closed.
async fn leave_to_look_alikes(mut hold: Hold, decided: Option<Given>, closing: impl Future<Output = ()>) {
    // Cancel safety: what is kept may be dropped at any time.
    tokio::select! {
        () = closing => {}
        () = hold.keep_while_closing() => {}
    }
    match (hold.common, decided) {
        (Some(common), Some(given)) => Box::pin(common.answered(given.to_octets())).await,
        (Some(common), None) => Box::pin(common.release()).await,
        (None, _) => {}
    }
}

/// What a request is answered with.
struct Answer {
    verdict: Verdict,
    octets: Option<Vec<u8>>,
}

/// Decides, writes the answer into `settled`, and waits until it may be sent. Of what a person is waited with it holds only what a
/// decision needs: the steps before and behind are boxed.
#[expect(clippy::manual_async_fn, reason = "as above")]
fn settle<'j>(
    job: &'j Job,
    attempt: &'j mut Attempt,
    in_flight: &'j mut InFlight<'_>,
    settled: &'j mut Option<Box<Answer>>,
    stepped_back: &'j AtomicBool,
) -> impl Future<Output = ()> + Send {
    async move {
        let opened = Box::pin(login::open(&job.gateway, &job.request, attempt, in_flight)).await;
        let verdict = match opened {
            Opened::Decided(verdict) => verdict,
            Opened::Asks(second) => {
                if second.question.may_wait_for_a_person() {
                    job.gives_place();
                }
                let said = job.gateway.verifier.ask(attempt, &second.question, job.request.deadline()).await;
                Box::pin(login::decide(&job.gateway, &job.request, attempt, in_flight, second, said)).await
            }
        };
        let answer = write(&job.gateway, &job.request, attempt, *verdict, stepped_back.load(Ordering::Relaxed));
        let refused = matches!(answer.verdict, Verdict::Reject(_));
        *settled = Some(Box::new(answer));
        job.gives_place();
        if refused {
            // R-07: whoever guesses learns slowly, and not from how long the answer took.
            Box::pin(sleep_until(job.request.received + job.gateway.config.reject_delay())).await;
        }
    }
}

fn write(
    gateway: &Arc<Gateway>,
    request: &Request,
    attempt: &mut Attempt,
    verdict: Verdict,
    stepped_back: bool,
) -> Answer {
    let verified = request.verified();
    let written = match &verdict {
        Verdict::Accept(granted) => {
            let accepted = reply::accept(granted.relayed.as_ref(), &granted.added, &verified);
            accepted.map(|reply::Accepted { octets, left_out }| {
                if left_out > 0 {
                    tracing::warn!(
                        service = crate::NAME,
                        event = "reply_shortened",
                        client = request.client.name(),
                        request_id = %attempt.transaction,
                        left_out,
                        "an Access-Accept would have exceeded 4096 octets: the last optional rules of the client's `reply` are left out of it"
                    );
                }
                octets
            })
        }
        Verdict::Relayed(challenge) => reply::relayed(challenge, &verified),
        Verdict::Challenge(ask) => {
            let (client, keys) = (&request.client, gateway.keys.state());
            let shown = question::text(ask, client.settings.application(), gateway.settings.current().texts());
            let conversation =
                reply::Conversation { transaction: attempt.transaction, client: client.name(), keys: &keys };
            reply::challenge(ask, &shown, &conversation, &verified, random(), gateway.clock.now_ms())
        }
        Verdict::Reject(reason) => return refuse(gateway, request, attempt, *reason, stepped_back),
        Verdict::Silence(reason) => {
            gateway.drop_packet(Some(&request.client), verified.packet().octets(), &request.path, (*reason).into());
            return Answer { verdict, octets: None };
        }
    };
    match written {
        Ok(octets) => Answer { verdict, octets: Some(octets) },
        Err(error) => {
            // R-06, B-29: somebody has to look at the device or the attributes.
            gateway.metrics.unwritten(request.client.name());
            tracing::error!(service = crate::NAME, event = "reply_not_written", client = request.client.name(), error = %error, "a reply cannot be written, usually because it would be too long; the login is refused. Fewer attributes in `reply` or from the home server, or fewer Proxy-States from the proxies before, help");
            refuse(gateway, request, attempt, Reason::InternalError, stepped_back)
        }
    }
}

/// Every No takes this way. Where another node has taken over, the end is not ours to tell.
fn refuse(
    gateway: &Arc<Gateway>,
    request: &Request,
    attempt: &mut Attempt,
    reason: Reason,
    stepped_back: bool,
) -> Answer {
    if !stepped_back {
        close(gateway, attempt, reason);
    }
    attempt.recorded = true;
    let octets = reply::reject(attempt.transaction, &attempt.no, &request.verified());
    Answer { verdict: Verdict::Reject(reason), octets: Some(octets) }
}

/// The client has given up on the request by sending another one under its identifier (R-32): its answer is not sent. In a later
/// round the conversation goes on with the new one; in the first round it is over, and so is what was open for it when this returns.
async fn orphaned(gateway: &Arc<Gateway>, attempt: &Attempt, verdict: Option<Verdict>, running: &Running) {
    let (reason, allow) = match &verdict {
        Some(Verdict::Accept(granted)) => (granted.allow.reason, Some(&granted.allow)),
        // The conversation is the home server's: the next packet is a request of its own.
        Some(Verdict::Relayed(_)) => return,
        Some(Verdict::Reject(reason)) => (*reason, None),
        _ if attempt.rounds > 1 => return,
        _ => (Reason::ChallengeGone, None),
    };
    let closed = close(gateway, attempt, reason);
    let duplicates = running.duplicates();
    attempt.end(&Ended { reason, allow, reply: "none", duplicates }, &gateway.metrics);
    if let Some(closed) = closed {
        closed.done(WITHDRAWAL).await;
    }
}

/// Tells verification of an end that it has not recorded itself: what is open there is closed, and the audit hears of it.
fn close(gateway: &Gateway, attempt: &Attempt, reason: Reason) -> Option<Beside> {
    if attempt.recorded {
        return None;
    }
    let closed = attempt.known_to_verification.then(|| gateway.verifier.cancel(attempt.transaction, reason));
    gateway.verifier.report(attempt, reason);
    closed
}

fn log(gateway: &Gateway, attempt: Attempt, verdict: &Verdict, running: &Running) {
    let duplicates = running.duplicates();
    let ended = match verdict {
        Verdict::Accept(Granted { allow, .. }) => {
            Ended { reason: allow.reason, allow: Some(allow), reply: "Access-Accept", duplicates }
        }
        Verdict::Reject(reason) => Ended { reason: *reason, allow: None, reply: "Access-Reject", duplicates },
        Verdict::Challenge(ask) => {
            let method = ask.method.map_or("none", Method::code);
            gateway.metrics.attempt(attempt.client.name(), method, question::asked(ask.kind));
            return gateway.challenges.open(attempt, ask.step, ask.expires_unix_ms);
        }
        Verdict::Silence(_) | Verdict::Relayed(_) => return,
    };
    // A stray copy of an answer ends nothing: the conversation may go on with the right one.
    if ended.reason != Reason::ChallengeGone {
        gateway.challenges.close(attempt.transaction);
    }
    attempt.end(&ended, &gateway.metrics);
}

fn begin(request: &Request, transaction: TransactionId, likeness: [u8; 32]) -> Attempt {
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
        likeness,
        calling_station: packet.calling_station_id().map(|station| escaped(station).into()),
        person_ip: person_address::read(request.client.settings.person_address, packet, request.path.peer.ip()),
        typed: escaped(credentials::typed_name(&verified)).into(),
        person: None,
        absent: None,
        begun: request.received,
        first: None,
        second: None,
        method: None,
        password_digest: Box::default(),
        asks: packet.has(AttributeType::USER_PASSWORD) && request.client.can_challenge(),
        no: No::of(packet, random()),
        parked: None,
        proven: None,
        change_untold: false,
        rounds: 1,
        known_to_verification: false,
        recorded: false,
    };
    tracing::debug!(service = crate::NAME, request_id = %transaction, client = attempt.client.name(), typed = &*attempt.typed, "request");
    attempt
}
