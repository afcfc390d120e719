//! From datagram to genuine request: the checks of A1, in that order. Nothing here waits for anybody, so one slow
//! login delays no other; what passes goes to [`crate::exchange`]. What comes by TLS is found genuine in [`radsec`].
//!
//! ```text
//! socket -> short -> whose? -> budget -> code, length, attributes -> Message-Authenticator -> Status-Server | exchange
//!              '--------'---------'---------------'------------------------'--> dropped: counted, logged now and then
//! ```

mod dropped;
mod ports;
mod radsec;
mod seats;
mod socket;

pub(crate) use dropped::{Drop, DropLog};
pub use ports::Addresses;
pub(crate) use ports::Ports;
pub(crate) use seats::Seats;
pub(crate) use socket::{Path, Socket};

use crate::Gateway;
use crate::config::BadRadiusSection;
use crate::exchange;
use crate::metrics::{PacketCode, PacketOutcome};
use crate::observed;
use crate::settings::Client;
use crate::stream::Outbox;
use domain::settings::Accounting;
use ports::Receiving;
use radius_wire::{Code, Datagram, DropReason, Port, Reply, Rules, Transport, Verified, verify_request};
use radsec::RadSec;
use service_kit::net::no_ipv6;
use service_kit::tls::TlsError;
use socket::DATAGRAM_OCTETS_MAX;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A port cannot be opened, or not with these certificates: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("radius.{key}: the {protocol} address {address} cannot be opened")]
    Address {
        /// Of the configuration.
        key: &'static str,
        protocol: &'static str,
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error("radius.radsec_listen cannot be served")]
    Tls(#[source] TlsError),
    #[error(transparent)]
    Section(#[from] BadRadiusSection),
}

/// Opens all addresses. A machine without IPv6 does without the IPv6 wildcard of the default.
fn bind(key: &'static str, addresses: &[SocketAddr]) -> Result<Vec<Arc<Socket>>, ListenError> {
    let mut sockets = Vec::new();
    for &address in addresses {
        match Socket::bind(address) {
            Ok(socket) => sockets.push(Arc::new(socket)),
            Err(cause) if no_ipv6(address, &cause) && addresses.len() > 1 => {
                tracing::warn!(service = crate::NAME, %address, "this machine has no IPv6, listening without it");
            }
            Err(cause) => return Err(ListenError::Address { key, protocol: "UDP", address, cause }),
        }
    }
    Ok(sockets)
}

/// The receive loop of one socket. Ends only when it is dropped.
async fn listen(gateway: Arc<Gateway>, socket: Arc<Socket>, port: Port) {
    let _receiving = Receiving(gateway.clone());
    let mut buffer = vec![0; DATAGRAM_OCTETS_MAX];
    loop {
        match socket.receive(&mut buffer).await {
            Ok((length, path)) => receive(&gateway, &socket, port, &buffer[..length], path),
            Err(error) => {
                tracing::warn!(service = crate::NAME, error = %error, "a datagram could not be received");
                // An error that stays would otherwise keep a processor busy.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn receive(gateway: &Arc<Gateway>, socket: &Arc<Socket>, port: Port, octets: &[u8], path: Path) {
    let received = Instant::now();
    let taken = whose(gateway, octets, &path).and_then(|(datagram, client)| {
        let arrived = Arrived { port, client: client.clone(), path, received };
        let back = || Back::Udp(socket.clone());
        take(gateway, datagram, arrived, back).map_err(|reason| (Some(client), reason))
    });
    if let Err((client, reason)) = taken {
        gateway.drop_packet(client.as_deref(), octets, &path, reason.into());
    }
}

/// A packet whose client is known.
struct Arrived {
    port: Port,
    client: Arc<Client>,
    path: Path,
    received: Instant,
}

/// From step 4 on. An error: it is not genuine.
fn take(
    gateway: &Arc<Gateway>,
    datagram: Datagram<'_>,
    arrived: Arrived,
    back: impl FnOnce() -> Back,
) -> Result<(), DropReason> {
    let Arrived { port, client, path, received } = arrived;
    let (rules, now_unix_ms) = (client.rules(), gateway.clock.now_ms());
    let packet = datagram.packet(port, gateway.config.attributes_max.size())?;
    let request = verify_request(packet, client.secrets(now_unix_ms), rules)?;
    let octets = request.packet().octets();
    note(gateway, &client, &request, now_unix_ms);
    match request.packet().code() {
        Code::StatusServer => status(gateway, &back(), &client, &request, &path),
        Code::AccountingRequest if client.accounting == Accounting::Off => {
            gateway.drop_packet(Some(&client), octets, &path, Drop::AccountingOff)
        }
        _ => {
            let octets = octets.into();
            let taken = Request { octets, port, client: client.clone(), rules, back: back(), path, received };
            exchange::take(gateway, taken, &request);
        }
    }
    Ok(())
}

/// What a genuine packet tells of its client.
fn note(gateway: &Gateway, client: &Client, request: &Verified<'_>, now_unix_ms: i64) {
    let now = gateway.started.elapsed();
    gateway.observed().packet(client.name(), request.packet(), request.lesson(), now_unix_ms, now);
    if let Some(in_use) = client.secret_in_use(request) {
        gateway.metrics.secret_used(client.name(), in_use);
        client.note_secret(in_use);
    }
    if request.packet().code() == Code::AccessRequest {
        gateway.metrics.access_request(client.name(), observed::protocol(request.packet()), request.signed());
        if !request.signed() {
            client.note_unprotected(now_unix_ms);
        }
    }
}

/// The client, as far as it is known, and why its packet goes no further.
type Unplaced = (Option<Arc<Client>>, DropReason);

/// Steps 1 to 3. Whose packet it is decides the address it came from and nothing else (R-25).
fn whose<'a>(gateway: &Gateway, octets: &'a [u8], path: &Path) -> Result<(Datagram<'a>, Arc<Client>), Unplaced> {
    let datagram = Datagram::new(octets).map_err(|reason| (None, reason))?;
    let source = path.peer.ip().to_canonical();
    let client = gateway.settings.current().client_of(source).filter(|_| is_somebody(source, path.peer.port()));
    let client = client.ok_or((None, DropReason::UnknownClient))?;
    if !gateway.within_budget(source) {
        return Err((Some(client), DropReason::Rate));
    }
    Ok((datagram, client))
}

/// Whether one host can have sent this, and be answered; a source that means none or many is spoofed (B-32, RFC 1122 section 3.2.1.3).
fn is_somebody(source: IpAddr, port: u16) -> bool {
    let many = matches!(source, IpAddr::V4(source) if source.is_broadcast()) || source.is_multicast();
    port != 0 && !many && !source.is_unspecified()
}

/// Status-Server (RFC 5997). Answered as long as this node can serve the client; otherwise silent, so that it moves on (R-84), unless
/// the client's settings say that the answer is about this node alone.
/// It asks for nothing, so it has no place among the exchanges: a copy of it gets the same octets because they are computed
/// from it alone.
fn status(gateway: &Gateway, back: &Back, client: &Client, request: &Verified<'_>, path: &Path) {
    if !gateway.is_serving(client) {
        return gateway.drop_packet(Some(client), request.packet().octets(), path, Drop::NotServing);
    }
    gateway.metrics.packet(client.name(), PacketCode::StatusServer, PacketOutcome::Ok);
    match Reply::Alive.write(request) {
        Ok(octets) => back.send_now(&octets, path),
        Err(error) => tracing::warn!(service = crate::NAME, error = %error, "a status reply could not be written"),
    }
}

/// A genuine request, with all that is needed to work on it and to answer it.
pub(crate) struct Request {
    octets: Box<[u8]>,
    port: Port,
    pub(crate) client: Arc<Client>,
    rules: Rules,
    pub(crate) back: Back,
    pub(crate) path: Path,
    pub(crate) received: Instant,
}

impl Request {
    /// The packet as it was verified. A view into octets cannot be kept beside them, so it is made anew where it is needed: one
    /// more HMAC, a microsecond. The rules are those of the first time; the client may have taught others since.
    pub(crate) fn verified(&self) -> Verified<'_> {
        Datagram::new(&self.octets)
            .and_then(|datagram| datagram.packet(self.port, usize::MAX))
            .and_then(|packet| verify_request(packet, self.client.all_secrets(), self.rules))
            .expect("the same octets, secrets and rules passed before")
    }

    /// By when the client wants its answer (FL-09).
    pub(crate) fn deadline(&self) -> Instant {
        self.received + Duration::from_secs(self.client.settings.wait_seconds.into())
    }
}

/// The way back of an answer.
pub(crate) enum Back {
    Udp(Arc<Socket>),
    /// The connection that the request came by.
    Tls(Outbox),
}

impl Back {
    pub(crate) async fn send(&self, octets: &[u8], path: &Path) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(octets, path).await,
            Self::Tls(outbox) => match outbox.put(octets.into()) {
                true => Ok(()),
                false => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the connection is closed")),
            },
        }
    }

    /// Sends, or does not where there is no room right now: for what the client repeats anyway.
    pub(crate) fn send_now(&self, octets: &[u8], path: &Path) {
        match self {
            Self::Udp(socket) => socket.send_now(octets, path),
            Self::Tls(outbox) => {
                outbox.put(octets.into());
            }
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Udp(_) => Transport::Udp,
            Self::Tls(_) => Transport::Tls,
        }
    }
}
