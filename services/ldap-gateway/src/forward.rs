//! The connection to a directory server that belongs to one client connection (L-30), and the gate in front of it (L-31).
//!
//! ```text
//!  connect ──> BindableUpstream ── bind: code 0 ──> GatedUpstream ── open(Allow) ──> OpenUpstream ──> the client's operations
//!                     ^   (can only bind)        (can do nothing at all)                  │
//!                     └───────────────────── into_bindable, for the next bind ────────────┘
//!  connect_anonymous ─────────────────────────────────────────────────────────> OpenUpstream, as nobody
//! ```
//!
//! Only an `OpenUpstream` takes a client's operation, and only an [`Allow`] for the very attempt that bound it makes one. Dropping
//! any of them closes the connection, so whoever is refused leaves nothing behind (L-32).

use crate::duplex::Duplex;
use crate::verify::Allow;
use directory::{
    Channel, ConnectError, Directory, Ended, Entry, Exchange, LogonError, ServerName, Step, Stream, Upstream, Verdict,
};
use domain::{Secret, TransactionId};
use ldap_wire::bind::unbind_request;
use ldap_wire::connection::Cleared;
use ldap_wire::{BindResponse, Control, FrameError, Limits, Message, MessageId, Op, Peer};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// One connection and whom it leads to.
struct Link {
    duplex: Duplex<Stream>,
    server: ServerName,
    channel: Channel,
    /// Kept to see that the next bind still means the same directory, under the same settings.
    directory: Arc<Directory>,
}

impl Link {
    fn new(upstream: Upstream, directory: &Arc<Directory>) -> Self {
        let Upstream { stream, server, channel } = upstream;
        let duplex = Duplex::new(stream, Peer::Server, Limits::UPSTREAM);
        Self { duplex, server, channel, directory: Arc::clone(directory) }
    }
}

/// A connection on which a bind may be sent, and nothing else.
pub struct BindableUpstream(Link);

/// Bound as the person whose password was right. Nothing can be sent on it until both locks are open.
pub struct GatedUpstream {
    link: Link,
    transaction: TransactionId,
}

/// Bound with a decisive Allow, or anonymous from its first octet: takes the client's operations.
pub struct OpenUpstream {
    link: Link,
    /// An abandoned operation may still be answered: the connection is not used for another bind.
    abandoned: bool,
}

/// What a directory server answered to the one bind.
pub struct Answered {
    pub response: BindResponse,
    pub controls: Vec<Control>,
    pub verdict: Verdict,
    /// The connection, for a success to be gated. Dropped otherwise.
    pub upstream: BoundUpstream,
}

/// Answered, and not judged yet: becomes a [`GatedUpstream`] or is dropped.
pub struct BoundUpstream(Link);

/// The bind was sent and has no answer. Not sent again: the directory may have counted it.
#[derive(Debug, thiserror::Error)]
pub enum BindLost {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("what came was not LDAP")]
    Frame(#[from] FrameError),
    #[error("what came was not the answer to the bind")]
    Protocol,
    #[error("the Windows logon failed")]
    Logon(#[from] LogonError),
    #[error("no answer came in time")]
    Timeout,
}

impl BindableUpstream {
    /// A fresh connection, to the server that is best now.
    pub async fn connect(directory: &Arc<Directory>) -> Result<Self, ConnectError> {
        Ok(Self(Link::new(directory.connect().await?, directory)))
    }

    pub fn server(&self) -> &ServerName {
        &self.0.server
    }

    /// Does it lead where a bind of this client has to go?
    pub fn leads_to(&self, directory: &Arc<Directory>) -> bool {
        Arc::ptr_eq(&self.0.directory, directory)
    }

    /// Sends one bind of the resolved entry, in as many requests as it takes, and the client's own controls (L-15, L-20). `None`: the
    /// entry has nothing to bind with; nothing was sent.
    pub async fn bind(
        self,
        entry: &Entry,
        password: &Secret,
        controls: &[Control],
        limit: Duration,
    ) -> Result<Option<Answered>, BindLost> {
        let Self(link) = self;
        let Ok(exchange) = link.directory.exchange(entry, password, &link.server, &link.channel) else {
            return Ok(None);
        };
        let answered = tokio::time::timeout(limit, link.bind(exchange, controls)).await;
        answered.map_err(|_| BindLost::Timeout)?.map(Some)
    }
}

/// Nothing else is outstanding when a bind is sent, so that any id will do.
const BIND_ID: MessageId = MessageId::new(1).expect("1 is an id");

impl Link {
    async fn bind(mut self, mut exchange: Exchange, controls: &[Control]) -> Result<Answered, BindLost> {
        let mut request = exchange.start();
        loop {
            let message = self.ask(request.encode(BIND_ID, controls).as_slice()).await?;
            // Anything but the answer to this very request, and anything behind it, is a server we do not understand (B-59).
            if message.id() != BIND_ID || message.op() != Op::BindResponse || !self.duplex.unread().is_empty() {
                return Err(BindLost::Protocol);
            }
            let response = BindResponse::decode(&message).map_err(|_| BindLost::Protocol)?;
            match exchange.next(response)? {
                Step::Ask(next) => request = next,
                Step::Ended(Ended { response, .. }) => {
                    let controls = message.controls().map_err(|_| BindLost::Protocol)?;
                    let verdict = exchange.verdict(&response.result, &controls);
                    return Ok(Answered { response, controls, verdict, upstream: BoundUpstream(self) });
                }
            }
        }
    }

    async fn ask(&mut self, octets: &[u8]) -> Result<Message, BindLost> {
        // Not through the queue: the octets hold a password and are overwritten by their owner.
        self.duplex.write_now(octets).await?;
        loop {
            if let Some(message) = self.duplex.next_message(Instant::now())? {
                return Ok(message);
            }
            if poll_fn(|cx| self.duplex.poll_fill(cx)).await? == 0 {
                return Err(BindLost::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl BoundUpstream {
    /// The password was right: shut until verification opens it for this attempt.
    pub fn gate(self, transaction: TransactionId) -> GatedUpstream {
        GatedUpstream { link: self.0, transaction }
    }
}

impl GatedUpstream {
    /// Opens for the attempt that bound it. `None`, and closed, for any other.
    pub fn open(self, allow: &Allow) -> Option<OpenUpstream> {
        (allow.transaction() == self.transaction).then(|| OpenUpstream { link: self.link, abandoned: false })
    }
}

impl OpenUpstream {
    /// A fresh connection on which nobody has bound: what a client without a bind may do, the directory decides about nobody.
    pub async fn connect_anonymous(directory: &Arc<Directory>) -> Result<Self, ConnectError> {
        Ok(Self { link: Link::new(directory.connect().await?, directory), abandoned: false })
    }

    pub fn send(&mut self, cleared: Cleared, now: Instant) {
        self.abandoned |= cleared.op() == Op::AbandonRequest;
        self.link.duplex.send(cleared.into_octets(), now);
    }

    /// Sends what waits and an Unbind behind it, and stays until the directory closes: one that sees the connection end, or cannot
    /// answer, does less of it than where a client itself asks and unbinds. Waits at most `limit`.
    pub async fn unbind(mut self, limit: Duration) {
        self.link.duplex.send(unbind_request(MessageId::MAX), Instant::now());
        self.link.duplex.see_out(limit).await;
    }

    pub fn next_message(&mut self, now: Instant) -> Result<Option<Message>, FrameError> {
        self.link.duplex.next_message(now)
    }

    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.link.duplex.poll_fill(cx)
    }

    pub fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<()>> {
        self.link.duplex.poll_send(cx, now)
    }

    pub fn has_room(&self) -> bool {
        self.link.duplex.has_room()
    }

    pub fn stalled_since(&self) -> Option<Instant> {
        self.link.duplex.stalled_since()
    }

    /// For the next bind of the same client, which makes the directory forget whoever is bound (RFC 4511 section 4.2.1). Only
    /// where nothing is outstanding that could still be answered.
    pub fn into_bindable(self, outstanding: usize) -> Option<BindableUpstream> {
        let quiet = outstanding == 0 && !self.abandoned;
        let empty = self.link.duplex.is_drained() && self.link.duplex.unread().is_empty();
        (quiet && empty).then_some(BindableUpstream(self.link))
    }
}
