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

mod binds;
mod ends;
mod operations;

use crate::Shared;
use crate::attempt::Attempt;
use crate::bind::FirstLock;
use crate::bound::Person;
use crate::certificate::Certificate;
use crate::config::Timeouts;
use crate::duplex::{ClientStream, Duplex};
use crate::forward::OpenUpstream;
use crate::limits::Seat;
use crate::listener::handshake;
use crate::reply::{self, Refusal};
use crate::settings::{Client, Snapshot};
use crate::verify::Allow;
use binds::{Bind, bind_name};
use directory::{ConnectError, Directory};
use domain::{DirectoryRef, ObjectId};
use futures::future::BoxFuture;
use ldap_wire::connection::{Action, State};
use ldap_wire::{ClientConnection, FrameError, Message, MessageId, Op, Peer};
use operations::{Waiting, Whose};
use std::future::poll_fn;
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
    /// The client has asked for something and unbinds: the directory hears both.
    Unbind,
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
                Next::Unbind => {
                    Box::pin(self.unbind_upstream(FAREWELL)).await;
                    break;
                }
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
            Action::Close { .. } if op == Op::UnbindRequest && outstanding > 0 => Next::Unbind,
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
