//! One client connection from its first octet to its last: drives the core of ldap-wire, which decides, and does what it says.
//!
//! ```text
//!  client <── Duplex ──> ClientConnection (ldap-wire) <── Duplex ──> its own upstream connection
//!                            │        ^
//!                    bind: first_lock, second_lock
//! ```
//!
//! One task watches everything at once in [`Connection::poll_event`]: the client is read during a pending bind too, so that its
//! leaving is seen at once (L-12, L-13), and one event is handled after the other, so that nothing has to be locked. Buffers are
//! bounded: while much waits for a slow reader, its other end is not read (L-05).

use crate::Shared;
use crate::attempt::Attempt;
use crate::bind::{self, FirstLock, Passed, Refused, SecondLock};
use crate::bound::Person;
use crate::certificate::Certificate;
use crate::config::Timeouts;
use crate::duplex::{ClientStream, Duplex, QUEUED_OCTETS_MAX};
use crate::forward::{GatedUpstream, OpenUpstream};
use crate::limits::Seat;
use crate::listener::handshake;
use crate::reply::{self, Manner, Refusal};
use crate::settings::{Client, Snapshot};
use crate::verify::{self, Allow};
use bytes::Bytes;
use directory::{ConnectError, Directory};
use domain::{DirectoryRef, ObjectId, Reason};
use futures::future::BoxFuture;
use ldap_wire::connection::{Action, BoundAs, Cleared, FromUpstream, GatedBind, Limited, PendingBind, Primary, State};
use ldap_wire::{BindRequest, ClientConnection, FrameError, LdapResult, Message, MessageId, Op, Peer, ResultCode, oid};
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

/// How long the last words of a connection may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// As long as a directory works on an operation: by default OpenLDAP and 389 Directory Server stop a search after an hour, Active
/// Directory after two minutes.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// A connection that was accepted: who it is, and everything it needs.
pub struct Accepted {
    pub shared: Arc<Shared>,
    pub stream: ClientStream,
    pub certificate: Option<Certificate>,
    pub source: IpAddr,
    pub client: Arc<Client>,
    pub seat: Seat,
    pub changes: watch::Receiver<Arc<Snapshot>>,
}

/// Serves it to its end. In a box, and what is rare in boxes of its own: thousands of these wait at the same time.
pub async fn serve(accepted: Box<Accepted>) {
    Box::new(Connection::new(*accepted)).run().await;
}

struct Connection {
    shared: Arc<Shared>,
    timeouts: Timeouts,
    source: IpAddr,
    certificate: Option<Arc<Certificate>>,
    client: Arc<Client>,
    seat: Seat,
    changes: watch::Receiver<Arc<Snapshot>>,
    /// Of the settings, or of the process: it stops.
    news: BoxFuture<'static, ()>,
    /// `news` may be there already, or nobody would be woken for it yet.
    news_due: bool,
    /// The rules that `wire` goes by are not in force any more.
    outdated: bool,
    /// Decides. All states of the protocol are in here.
    wire: ClientConnection,
    near: Duplex<ClientStream>,
    /// Whose turn it is to be read.
    near_first: bool,
    far: Far,
    bind: Option<Bind>,
    /// Who is bound, and where they were found: another domain has the name of the directory that lists it (FD-02).
    bound: Option<(DirectoryRef, Arc<Directory>)>,
    /// The service account that is bound: it has to stay listed.
    service: Option<ObjectId>,
    /// The person who is bound: they lose the connection when they may not log in any more (S-22).
    person: Option<Person>,
    /// Passwords that the directory is changing.
    changes_of_passwords: Vec<(MessageId, Whose)>,
    /// When the core forgets what was abandoned (L-06); `None` where there is nothing to forget.
    forget_abandoned_at: Option<Instant>,
    last_activity: Instant,
    timer: Pin<Box<Sleep>>,
    /// From the moment it is known that the node drains.
    draining: bool,
}

/// The upstream connection. There is one only when there is something for it to do.
enum Far {
    None,
    /// For a client that is nobody, which is not read any further when much waits (L-05).
    Connecting {
        connecting: BoxFuture<'static, Result<OpenUpstream, ConnectError>>,
        waiting: Waiting,
    },
    Open(Box<OpenUpstream>),
}

/// What is to be sent when the upstream connection is there.
#[derive(Default)]
struct Waiting {
    operations: Vec<Cleared>,
    octets: usize,
}

impl Waiting {
    fn has_room(&self) -> bool {
        self.octets < QUEUED_OCTETS_MAX
    }

    fn push(&mut self, cleared: Cleared) {
        self.octets += cleared.size();
        self.operations.push(cleared);
    }

    /// Takes out what was abandoned before it was sent.
    fn take_out(&mut self, id: MessageId) -> bool {
        let before = self.operations.len();
        let octets = &mut self.octets;
        self.operations.retain(|cleared| {
            let stays = cleared.id() != id;
            *octets -= if stays { 0 } else { cleared.size() };
            stays
        });
        self.operations.len() < before
    }
}

/// A bind in work.
enum Bind {
    First { work: BoxFuture<'static, FirstLock>, asked_policy: bool },
    Second { work: BoxFuture<'static, (Attempt, Result<Allow, Refusal>)>, gate: Box<Gate>, asked_policy: bool },
}

/// What waits for the second lock, client side and directory side.
struct Gate {
    bind: GatedBind,
    upstream: GatedUpstream,
    entry: Option<DirectoryRef>,
    directory: Option<Arc<Directory>>,
}

/// Whose password it is.
enum Whose {
    Own,
    Named(String),
}

/// What happened.
enum Event {
    Near(io::Result<usize>),
    NearBroken,
    Far(io::Result<usize>),
    FarConnected(Result<OpenUpstream, ConnectError>),
    FarBroken,
    FirstLock(FirstLock),
    SecondLock(Box<Attempt>, Result<Allow, Refusal>),
    News,
    Timer,
}

/// Whether the connection lives on.
enum Next {
    Go,
    /// Do the handshake when everything is written.
    StartTls,
    /// Write what waits, then close.
    Close,
    /// Nobody is there to write to.
    Gone,
}

impl Connection {
    fn new(accepted: Accepted) -> Self {
        let Accepted { shared, stream, certificate, source, client, seat, changes } = accepted;
        let tls = matches!(stream, ClientStream::Tls(_));
        let wire = ClientConnection::new(Arc::clone(&client.policy), tls);
        let near = Duplex::new(stream, Peer::Client, wire.limits());
        let now = Instant::now();
        let timeouts = shared.timeouts;
        Self {
            timeouts,
            source,
            certificate: certificate.map(Arc::new),
            seat,
            news: next_change(&changes),
            news_due: true,
            changes,
            outdated: false,
            wire,
            near,
            near_first: true,
            far: Far::None,
            bind: None,
            bound: None,
            service: None,
            person: None,
            changes_of_passwords: Vec::new(),
            forget_abandoned_at: None,
            last_activity: now,
            timer: Box::pin(tokio::time::sleep_until(now + timeouts.read)),
            draining: false,
            shared,
            client,
        }
    }

    async fn run(mut self: Box<Self>) {
        // The process may have begun to stop before there was anybody to hear of it.
        let mut event = Event::News;
        loop {
            match self.handle(event) {
                Next::Go => {}
                Next::StartTls => match Box::pin(self.start_tls()).await {
                    Some(encrypted) => self = encrypted,
                    None => return,
                },
                Next::Close => break,
                Next::Gone => return self.leave_upstream(),
            }
            event = poll_fn(|cx| self.poll_event(cx)).await;
        }
        // The attempt records itself, and the upstream closes, before the client hears the last word.
        self.bind = None;
        self.leave_upstream();
        Box::pin(self.near.close(FAREWELL)).await;
    }

    /// The next thing that happens at either end. Nothing is lost when several do: whatever is not reported now still stands.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let now = Instant::now();
        if let Poll::Ready(Err(_)) = self.near.poll_send(cx, now) {
            return Poll::Ready(Event::NearBroken);
        }
        // Once it has been polled it wakes this task, and only a change makes it ready.
        if self.news_due || self.changes.has_changed().unwrap_or(false) {
            self.news_due = false;
            if self.news.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Event::News);
            }
        }
        let far_has_room = match &self.far {
            Far::Open(far) => far.has_room(),
            Far::Connecting { waiting, .. } => waiting.has_room(),
            Far::None => true,
        };
        // In turns: a client that never stops must not keep its own bind and its directory from being heard.
        let in_turn = std::mem::replace(&mut self.near_first, true);
        let readable = far_has_room && self.near.has_room();
        self.near.set_read(readable, now);
        if readable
            && in_turn
            && let Poll::Ready(read) = self.near.poll_fill(cx)
        {
            self.near_first = false;
            return Poll::Ready(Event::Near(read));
        }
        match &mut self.far {
            Far::None => {}
            Far::Connecting { connecting, .. } => {
                if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
                    return Poll::Ready(Event::FarConnected(connected));
                }
            }
            Far::Open(far) => {
                if let Poll::Ready(Err(_)) = far.poll_send(cx, now) {
                    return Poll::Ready(Event::FarBroken);
                }
                if self.near.has_room()
                    && let Poll::Ready(read) = far.poll_fill(cx)
                {
                    return Poll::Ready(Event::Far(read));
                }
            }
        }
        if let Some(event) = self.poll_bind(cx) {
            return Poll::Ready(event);
        }
        if readable
            && !in_turn
            && let Poll::Ready(read) = self.near.poll_fill(cx)
        {
            return Poll::Ready(Event::Near(read));
        }
        self.poll_timer(cx, now).map(|()| Event::Timer)
    }

    fn poll_bind(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        match self.bind.as_mut()? {
            Bind::First { work, .. } => match work.as_mut().poll(cx) {
                Poll::Ready(first) => Some(Event::FirstLock(first)),
                Poll::Pending => None,
            },
            Bind::Second { work, .. } => match work.as_mut().poll(cx) {
                Poll::Ready((attempt, decided)) => Some(Event::SecondLock(Box::new(attempt), decided)),
                Poll::Pending => None,
            },
        }
    }

    fn handle(&mut self, event: Event) -> Next {
        match event {
            // End of stream or reset: a client that has gone wants no answer (L-13).
            Event::Near(Ok(0) | Err(_)) | Event::NearBroken => {
                self.wire.closed();
                Next::Gone
            }
            Event::Near(Ok(_)) => self.read_client(),
            Event::Far(Ok(0) | Err(_)) | Event::FarBroken => self.upstream_lost(),
            Event::Far(Ok(_)) => self.read_upstream(),
            Event::FarConnected(connected) => self.connected(connected),
            Event::FirstLock(first) => self.first_lock_ended(first),
            Event::SecondLock(attempt, decided) => self.second_lock_ended(*attempt, decided),
            Event::News => self.hear_news(),
            Event::Timer => self.overdue(),
        }
    }

    // --- from the client ---------------------------------------------------------------------------------------

    fn read_client(&mut self) -> Next {
        let now = Instant::now();
        loop {
            let message = match self.near.next_message(now) {
                Ok(Some(message)) => message,
                Ok(None) => return Next::Go,
                Err(error) => return self.not_ldap(&error),
            };
            self.last_activity = now;
            if !self.follow_settings(Some(message.op())) {
                return self.end(&reply::unavailable());
            }
            match self.client_message(message, now) {
                Next::Go => self.near.set_limits(self.wire.limits()),
                end => return end,
            }
        }
    }

    fn client_message(&mut self, message: Message, now: Instant) -> Next {
        let op = message.op();
        if self.forget_abandoned_at.is_some_and(|at| at <= now) {
            self.forget_abandoned_at = self.wire.forget_abandoned().then(|| now + ABANDONED);
        }
        if self.draining
            && !self.bind_is_pending()
            && let Some(response) = op.response()
        {
            // A draining node takes nothing new.
            self.near.send(reply::shutting_down().encode(message.id(), response, &[]), now);
            return self.drained();
        }
        // Before the bind makes the core forget them (L-11).
        let outstanding = self.wire.outstanding();
        let binds = op == Op::BindRequest && !self.bind_is_pending();
        if binds && !self.shared.may_bind(self.source) {
            let Action::AnswerBind(answer) = self.wire.refuse_busy(&message) else { return Next::Go };
            self.unbind();
            self.shared.refusals.note_bind(&self.shared.metrics, self.client.name(), self.source);
            self.count(op, &answer);
            self.near.send(answer, now);
            return Next::Go;
        }
        let typed = binds.then(|| bind_name(&message)).flatten();
        match self.wire.receive(message) {
            Action::Answer(answer) => {
                self.count(op, &answer);
                self.near.send(answer, now);
                Next::Go
            }
            Action::AnswerBind(answer) => {
                self.unbind();
                self.near.send(answer.clone(), now);
                self.count(op, &answer);
                self.record_local(typed.unwrap_or_default(), &answer);
                Next::Go
            }
            Action::Bind(pending) => {
                self.begin_bind(pending, outstanding);
                Next::Go
            }
            Action::Forward(cleared) | Action::RootDse { cleared, .. } => self.forward(cleared, now),
            Action::StartTls(answer) => {
                // What came behind the request came before the handshake: somebody put it there (L-08).
                if self.wire.begin_tls(self.near.unread()).is_err() {
                    tracing::warn!(client = self.client.name(), "octets between StartTLS and the handshake");
                    return Next::Gone;
                }
                self.unbind();
                self.near.send(answer, now);
                Next::StartTls
            }
            Action::Ignore => Next::Go,
            Action::Close { notice } => {
                self.near.send(notice.unwrap_or_default(), now);
                Next::Close
            }
        }
    }

    fn not_ldap(&mut self, error: &FrameError) -> Next {
        self.wire.closed();
        match error {
            FrameError::TlsHandshake => tracing::info!(
                event = "tls_on_plain_port",
                client = self.client.name(),
                client_ip = %self.source,
                "a client speaks TLS to a port for LDAP with StartTLS; it wants an LDAPS port"
            ),
            error => {
                tracing::debug!(client = self.client.name(), client_ip = %self.source, %error, "not followed further")
            }
        }
        self.near.send(error.notice().unwrap_or_default(), Instant::now());
        Next::Close
    }

    /// Whoever only listens, as to a search that does not end, hears of it too.
    fn hear_news(&mut self) -> Next {
        // The settings first: whatever comes after they were looked at is the next news.
        let goes_on = self.follow_settings(None);
        (self.news, self.news_due) = (next_change(&self.changes), true);
        if self.shared.shutdown.is_stopping() {
            return self.end(&reply::shutting_down());
        }
        if !goes_on {
            return self.end(&reply::unavailable());
        }
        if !self.draining && self.shared.shutdown.is_draining() {
            self.draining = true;
            return self.drained();
        }
        Next::Go
    }

    /// New settings count at once, before the message that `op` is of, and so does who is shut out. False where there is nothing to
    /// go on with.
    fn follow_settings(&mut self, op: Option<Op>) -> bool {
        if self.person.as_ref().is_some_and(Person::is_shut_out) {
            tracing::info!(
                event = "shut_out",
                client = self.client.name(),
                client_ip = %self.source,
                "whoever is bound may not log in any more: the connection ends"
            );
            return false;
        }
        if self.changes.has_changed().unwrap_or(false) {
            self.news_due = true;
            let snapshot = Arc::clone(&self.changes.borrow_and_update());
            let Some(now) = snapshot.client(self.source).filter(|now| now.name() == self.client.name()) else {
                return false;
            };
            let before = std::mem::replace(&mut self.client, now);
            if self.wire.is_tls() && !self.client.admits(self.certificate.as_deref()) {
                return false;
            }
            let listed = self.service.as_ref().is_none_or(|id| self.lists(id));
            self.outdated |= !listed || !self.client.same_rules(&before);
        }
        // It may have expired, or its authority may be another one now.
        let trusted = || match (&self.certificate, &self.shared.tls) {
            (Some(certificate), Some(tls)) => tls.trusts(certificate),
            (certificate, _) => certificate.is_none(),
        };
        if op == Some(Op::BindRequest) && !trusted() {
            return false;
        }
        if !self.outdated || self.bind_is_pending() {
            return true;
        }
        // Whoever is nobody, or is about to be somebody else, goes on under the new rules. Whoever is bound was let in under the
        // old ones, and has to come again.
        let idle_nobody = self.wire.state() == State::Anonymous && self.wire.outstanding() == 0;
        if op != Some(Op::BindRequest) && !idle_nobody {
            return false;
        }
        self.unbind();
        self.wire = ClientConnection::new(Arc::clone(&self.client.policy), self.wire.is_tls());
        self.outdated = false;
        true
    }

    // --- binds -------------------------------------------------------------------------------------------------

    fn begin_bind(&mut self, pending: PendingBind, outstanding: usize) {
        let far = std::mem::replace(&mut self.far, Far::None);
        let reuse = match far {
            Far::Open(far) => far.into_bindable(outstanding),
            Far::None | Far::Connecting { .. } => None,
        };
        self.unbind();
        let asked_policy = pending.controls.iter().any(|control| control.oid == oid::PASSWORD_POLICY);
        let attempt = Attempt::begin(&self.shared, &self.client, self.source, self.certificate.clone());
        self.bind = Some(Bind::First { work: Box::pin(bind::first_lock(attempt, pending, reuse)), asked_policy });
    }

    fn first_lock_ended(&mut self, first: FirstLock) -> Next {
        let Some(Bind::First { asked_policy, .. }) = self.bind.take() else { return Next::Go };
        let (bind, attempt, refusal) = match first {
            FirstLock::Refused(refused) => {
                let Refused { bind, attempt, refusal } = *refused;
                (bind, attempt, refusal)
            }
            FirstLock::Passed(passed) => {
                let Passed { bind, response, controls, upstream, second } = *passed;
                match self.wire.primary_finished(bind, response, controls) {
                    Primary::Accepted(bind) => {
                        self.begin_second(bind, upstream, second, asked_policy);
                        return Next::Go;
                    }
                    // The core has the last word on what a success is (L-33).
                    Primary::Refused { bind, .. } => {
                        (bind, second.attempt, Refusal::Unavailable(Reason::DirectoryError))
                    }
                }
            }
        };
        let (result, controls) = self.manner(asked_policy).answer(refusal.clone());
        let answer = self.wire.bind_refused(bind, &result, &controls);
        self.bind_refused(attempt, &refusal, result.code, answer)
    }

    fn begin_second(&mut self, bind: GatedBind, upstream: GatedUpstream, second: SecondLock, asked_policy: bool) {
        let (entry, directory) = (second.attempt.subject.entry.clone(), second.attempt.directory.clone());
        let gate = Box::new(Gate { bind, upstream, entry, directory });
        self.bind = Some(Bind::Second { work: Box::pin(bind::second_lock(second)), gate, asked_policy });
    }

    fn second_lock_ended(&mut self, attempt: Attempt, decided: Result<Allow, Refusal>) -> Next {
        let Some(Bind::Second { gate, asked_policy, .. }) = self.bind.take() else { return Next::Go };
        let Gate { bind, upstream, entry, directory } = *gate;
        let opened = decided.and_then(|allow| match upstream.open(&allow) {
            Some(far) => Ok((allow, far)),
            None => Err(Refusal::Unavailable(Reason::InternalError)),
        });
        match opened {
            Ok((allow, far)) => {
                let service = allow.reason() == Reason::ServiceAccount;
                let bound_as = if service { BoundAs::Service } else { BoundAs::User };
                // `None`: the client has gone, and the Allow has no effect (L-13).
                let Some(answer) = self.wire.bind_allowed(bind, bound_as) else { return Next::Gone };
                self.far = Far::Open(Box::new(far));
                self.service = entry.as_ref().filter(|_| service).map(|entry| entry.id.clone());
                self.bound = entry.zip(directory);
                self.person = allow.user_id().filter(|_| !service).map(|user_id| self.shared.bound.enters(user_id));
                // It may have been taken off the list meanwhile.
                self.outdated |= self.service.as_ref().is_some_and(|id| !self.lists(id));
                self.seat.set_bound(true);
                self.near.set_limits(self.wire.limits());
                self.count(Op::BindRequest, &answer);
                self.near.send(answer, Instant::now());
                attempt.end_allowed(&allow);
                self.after_work()
            }
            Err(refusal) => {
                // The upstream connection is closed by now, before the client hears anything (L-32).
                let (result, controls) = self.manner(asked_policy).answer(refusal.clone());
                let answer = self.wire.bind_refused(bind, &result, &controls);
                self.bind_refused(attempt, &refusal, result.code, answer)
            }
        }
    }

    fn bind_refused(&mut self, attempt: Attempt, refusal: &Refusal, code: ResultCode, answer: Option<Bytes>) -> Next {
        let Some(answer) = answer else { return Next::Gone };
        self.count(Op::BindRequest, &answer);
        self.near.send(answer, Instant::now());
        attempt.end_refused(refusal.reason(), code);
        self.last_activity = Instant::now();
        self.after_work()
    }

    /// A bind that no directory was asked about is an attempt too, unless it only wants to be nobody.
    fn record_local(&self, typed: String, answer: &Bytes) {
        let Some(code) = result_code(answer) else { return };
        let Some(reason) = bind::local_reason(code) else { return };
        let mut attempt = Attempt::begin(&self.shared, &self.client, self.source, self.certificate.clone());
        attempt.subject.username = typed;
        attempt.end_refused(reason, code);
    }

    /// From the moment a bind begins the client is nobody (RFC 4511 section 4.2.1).
    fn unbind(&mut self) {
        self.leave_upstream();
        self.seat.set_bound(false);
    }

    fn lists(&self, id: &ObjectId) -> bool {
        self.client.lists(id, self.source, self.certificate.as_deref())
    }

    fn bind_is_pending(&self) -> bool {
        self.bind.is_some()
    }

    fn manner(&self, asked_policy: bool) -> Manner {
        Manner {
            style: self.client.policy.style,
            unavailable_code: self.client.settings.unavailable_code,
            asked_policy,
        }
    }

    // --- operations --------------------------------------------------------------------------------------------

    fn forward(&mut self, cleared: Cleared, now: Instant) -> Next {
        if cleared.changes_password() {
            let whose = cleared.password_of().map_or(Whose::Own, Whose::Named);
            self.changes_of_passwords.push((cleared.id(), whose));
        }
        if cleared.abandons().is_some() {
            self.forget_abandoned_at.get_or_insert(now + ABANDONED);
        }
        if cleared.op() == Op::SearchRequest && self.client.policy.time_limit_seconds != 0 {
            self.wire.began(cleared.id(), now.into_std());
        }
        match &mut self.far {
            Far::Open(far) => far.send(cleared, now),
            Far::Connecting { waiting, .. } => match cleared.abandons() {
                Some(id) if waiting.take_out(id) => self.wire.never_sent(id),
                _ => waiting.push(cleared),
            },
            Far::None => match (&self.client.directory, self.wire.state()) {
                (Some(directory), State::Anonymous) => {
                    let directory = Arc::clone(directory);
                    let connecting = async move { OpenUpstream::connect_anonymous(&directory).await };
                    let mut waiting = Waiting::default();
                    waiting.push(cleared);
                    self.far = Far::Connecting { connecting: Box::pin(connecting), waiting };
                }
                // Whoever is bound is so on a connection; another one would not be bound.
                _ => return self.upstream_lost(),
            },
        }
        Next::Go
    }

    fn connected(&mut self, connected: Result<OpenUpstream, ConnectError>) -> Next {
        let Far::Connecting { waiting, .. } = std::mem::replace(&mut self.far, Far::None) else { return Next::Go };
        match connected {
            Ok(mut far) => {
                let now = Instant::now();
                waiting.operations.into_iter().for_each(|cleared| far.send(cleared, now));
                self.far = Far::Open(Box::new(far));
                Next::Go
            }
            Err(error) => {
                tracing::warn!(error = %service_kit::chain(&error), "no server of the directory can be reached");
                self.upstream_lost()
            }
        }
    }

    fn read_upstream(&mut self) -> Next {
        let now = Instant::now();
        self.last_activity = now;
        loop {
            let Far::Open(far) = &mut self.far else { return Next::Go };
            let message = match far.next_message(now) {
                Ok(Some(message)) => message,
                Ok(None) => return self.after_work(),
                Err(error) => {
                    tracing::warn!(client = self.client.name(), %error, "the directory sent what is not LDAP");
                    return self.upstream_lost();
                }
            };
            match self.wire.receive_upstream(&message) {
                FromUpstream::Relay(octets) => self.near.send(octets, now),
                FromUpstream::End { octets, code } => {
                    if let Some(op) = request_of(message.op()) {
                        self.shared.metrics.operation(self.client.name(), op, code);
                    }
                    match code {
                        ResultCode::SUCCESS => self.password_changed(message.id()),
                        _ => self.changes_of_passwords.retain(|(changing, _)| *changing != message.id()),
                    }
                    self.near.send(octets, now);
                }
                FromUpstream::Limited(limited) => match self.limit_reached(limited, now) {
                    Next::Go => {}
                    end => return end,
                },
                FromUpstream::Drop => {}
                FromUpstream::Disconnect(notice) => {
                    self.wire.closed();
                    self.near.send(notice, now);
                    return Next::Close;
                }
                FromUpstream::Violation => {
                    tracing::warn!(client = self.client.name(), "the directory answered what nobody asked");
                    return self.upstream_lost();
                }
            }
        }
    }

    /// A search ends before the directory ends it (L-18).
    fn limit_reached(&mut self, limited: Limited, now: Instant) -> Next {
        self.count(Op::SearchRequest, &limited.answer);
        self.near.send(limited.answer, now);
        self.last_activity = now;
        limited.abandon.map_or(Next::Go, |abandon| self.forward(abandon, now))
    }

    /// Nothing is remembered of somebody whose password the directory has just changed (L-14, V-52).
    fn password_changed(&mut self, id: MessageId) {
        if let Some(place) = self.changes_of_passwords.iter().position(|(changing, _)| *changing == id) {
            let (_, whose) = self.changes_of_passwords.swap_remove(place);
            self.forget_remembered(whose);
        }
    }

    fn forget_remembered(&self, whose: Whose) {
        let (verifier, client, bound) = (self.shared.verifier.clone(), self.client.clone(), self.bound.clone());
        // Who is bound may be of another directory or domain than the client's (FD-19, FD-02); what they name is there, too.
        let (bound, of_bound) = bound.unzip();
        let directory = of_bound.or_else(|| client.directory.clone());
        let Ok(seat) = Arc::clone(&self.shared.reports).try_acquire_owned() else {
            return verify::password_change_lost(client.name(), &"too many reports wait already");
        };
        drop(self.shared.shutdown.spawn(async move {
            let subject = match (whose, directory) {
                (Whose::Own, _) => Ok(bound),
                (Whose::Named(name), Some(directory)) => bind::named(&directory, &name).await,
                (Whose::Named(_), None) => Ok(None),
            };
            match subject {
                Ok(Some(subject)) => verifier.password_changed(&subject, client.name()).await,
                // Of somebody whom nobody finds nothing is remembered.
                Ok(None) => {}
                Err(error) => verify::password_change_lost(client.name(), &service_kit::chain(&error)),
            }
            drop(seat);
        }));
    }

    /// The upstream connection goes, and with it whoever was bound on it.
    fn leave_upstream(&mut self) {
        self.far = Far::None;
        // Nobody hears what became of these. One's own password may be another one now; whoever only names somebody must not end
        // what is remembered of them by hanging up.
        let (own, named): (Vec<_>, Vec<_>) = std::mem::take(&mut self.changes_of_passwords)
            .into_iter()
            .map(|(_, whose)| whose)
            .partition(|whose| matches!(whose, Whose::Own));
        if let Some(own) = own.into_iter().next() {
            self.forget_remembered(own);
        }
        if !named.is_empty() {
            verify::password_change_lost(self.client.name(), &"the connection ended before the directory had answered");
        }
        (self.bound, self.service, self.person) = (None, None, None);
    }

    /// L-19.
    fn upstream_lost(&mut self) -> Next {
        self.leave_upstream();
        let lost = self.wire.upstream_lost();
        let now = Instant::now();
        lost.answers.into_iter().for_each(|answer| self.near.send(answer, now));
        match lost.notice {
            Some(notice) => {
                self.near.send(notice, now);
                Next::Close
            }
            None => self.after_work(),
        }
    }

    fn count(&self, op: Op, answer: &Bytes) {
        if let Some(code) = result_code(answer) {
            self.shared.metrics.operation(self.client.name(), op, code);
        }
    }

    // --- clocks and the end ------------------------------------------------------------------------------------

    /// The first clock that runs out. None runs for a bind: it has its own deadline, and always ends.
    fn deadline(&self) -> Option<Instant> {
        let half_message = self.near.unfinished_since().map(|since| since + self.timeouts.read);
        let stalled = self.near.stalled_since().map(|since| since + self.timeouts.write_stall);
        let far_stalled = match &self.far {
            Far::Open(far) => far.stalled_since().map(|since| since + self.timeouts.write_stall),
            Far::None | Far::Connecting { .. } => None,
        };
        let idle = (!self.is_working()).then(|| {
            let bound = matches!(self.wire.state(), State::Bound(_));
            self.last_activity + if bound { self.timeouts.bound_idle } else { self.timeouts.unbound_idle }
        });
        let limited = self.client.policy.time_limit_seconds != 0;
        let search_ends = limited.then(|| self.wire.next_end()).flatten().map(Instant::from_std);
        [half_message, stalled, far_stalled, idle, search_ends].into_iter().flatten().min()
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(deadline) = self.deadline() else { return Poll::Pending };
        if deadline <= now {
            return Poll::Ready(());
        }
        // A clock that was put off only makes the timer look once too often; one that comes sooner has to be set.
        if deadline < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx)
    }

    fn overdue(&mut self) -> Next {
        let now = Instant::now();
        let overdue = self.wire.end_overdue(now.into_std());
        let ended = !overdue.is_empty();
        for limited in overdue {
            if let end @ (Next::StartTls | Next::Close | Next::Gone) = self.limit_reached(limited, now) {
                return end;
            }
        }
        let far_stalled = match &self.far {
            Far::Open(far) => far.stalled_since().is_some_and(|since| since + self.timeouts.write_stall <= now),
            Far::None | Far::Connecting { .. } => false,
        };
        if far_stalled {
            return self.upstream_lost();
        }
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.wire.closed();
            return Next::Gone;
        }
        if ended { self.after_work() } else { Next::Go }
    }

    fn is_working(&self) -> bool {
        self.bind_is_pending() || self.wire.outstanding() > 0 || !self.near.is_drained()
    }

    /// Something has ended: a draining node lets the connection go when it was the last, and new settings may count now.
    fn after_work(&mut self) -> Next {
        if self.outdated && !self.follow_settings(None) {
            return self.end(&reply::unavailable());
        }
        if self.draining { self.drained() } else { Next::Go }
    }

    fn drained(&mut self) -> Next {
        if self.bind_is_pending() || self.wire.outstanding() > 0 {
            return Next::Go;
        }
        self.say_goodbye(&reply::shutting_down())
    }

    /// Whatever is still in work gets its 52, then the notice (L-19).
    fn end(&mut self, why: &LdapResult) -> Next {
        let now = Instant::now();
        if let State::PrimaryPending(id) | State::SecondPending(id) = self.wire.state() {
            self.bind = None;
            self.near.send(why.encode(id, Op::BindResponse, &[]), now);
        }
        let lost = self.wire.upstream_lost();
        lost.answers.into_iter().for_each(|answer| self.near.send(answer, now));
        self.say_goodbye(why)
    }

    fn say_goodbye(&mut self, why: &LdapResult) -> Next {
        self.wire.closed();
        self.near.send(ldap_wire::result::notice_of_disconnection(why), Instant::now());
        Next::Close
    }

    /// Writes the answer, then speaks TLS. `None`: it did not come to that.
    async fn start_tls(mut self: Box<Self>) -> Option<Box<Self>> {
        let answered = poll_fn(|cx| self.near.poll_send(cx, Instant::now()));
        if !matches!(tokio::time::timeout(self.timeouts.handshake, answered).await, Ok(Ok(()))) {
            return None;
        }
        // StartTLS is offered without TLS only.
        let ClientStream::Clear(tcp) = self.near.into_stream() else { return None };
        let (stream, certificate) = handshake(&self.shared, &self.client, self.source, tcp).await?;
        self.certificate = certificate.map(Arc::new);
        self.near = Duplex::new(stream, Peer::Client, self.wire.limits());
        self.last_activity = Instant::now();
        Some(self)
    }
}

/// Is there when the settings have changed, or the process has begun to drain or to stop (`SettingsCopy::look_again`); never,
/// when the process ends.
fn next_change(changes: &watch::Receiver<Arc<Snapshot>>) -> BoxFuture<'static, ()> {
    let mut changes = changes.clone();
    // Not held back by the task's share of time: polled once, it must have left word where the change comes from.
    Box::pin(tokio::task::unconstrained(async move {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }))
}

fn bind_name(message: &Message) -> Option<String> {
    let request = BindRequest::decode(message).ok()?;
    Some(String::from_utf8_lossy(request.typed_name()).chars().take(NAME_SIGNS_MAX).collect())
}

/// Of a name that is only reported.
const NAME_SIGNS_MAX: usize = 256;

/// The code of a response that we built or relay; `None` for what has none.
fn result_code(response: &Bytes) -> Option<ResultCode> {
    let message = Message::parse(response.clone()).ok()?;
    LdapResult::decode(&message).ok().map(|result| result.code)
}

/// Which request a final response belongs to.
fn request_of(response: Op) -> Option<Op> {
    Some(match response {
        Op::SearchResultDone => Op::SearchRequest,
        Op::ModifyResponse => Op::ModifyRequest,
        Op::AddResponse => Op::AddRequest,
        Op::DelResponse => Op::DelRequest,
        Op::ModifyDnResponse => Op::ModifyDnRequest,
        Op::CompareResponse => Op::CompareRequest,
        Op::ExtendedResponse => Op::ExtendedRequest,
        _ => return None,
    })
}
