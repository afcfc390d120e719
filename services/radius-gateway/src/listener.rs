//! From datagram to genuine request: the checks of A1, in that order. Nothing here waits for anybody, so one slow
//! login delays no other; what passes goes to [`crate::exchange`].
//!
//! ```text
//! socket -> short -> whose? -> budget -> code, length, attributes -> Message-Authenticator -> Status-Server | exchange
//!              '--------'---------'---------------'------------------------'--> dropped: counted, logged now and then
//! ```

mod budget;
mod dropped;
mod socket;

pub(crate) use budget::Budget;
pub(crate) use dropped::{Drop, DropLog};
pub(crate) use socket::{Path, Socket};

use crate::metrics::{PacketCode, PacketOutcome};
use crate::settings::Client;
use crate::{Gateway, exchange};
use radius_wire::{Code, Datagram, DropReason, Port, Reply, Rules, Verified, verify_request};
use socket::DATAGRAM_OCTETS_MAX;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::Instant;

/// A socket cannot be opened: the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[error("radius.listen: the UDP address {address} cannot be opened")]
pub struct ListenError {
    pub address: SocketAddr,
    #[source]
    pub cause: std::io::Error,
}

/// Opens all addresses. A machine without IPv6 does without the IPv6 wildcard of the default.
pub(crate) fn bind(addresses: &[SocketAddr]) -> Result<Vec<Arc<Socket>>, ListenError> {
    let mut sockets = Vec::new();
    for &address in addresses {
        match Socket::bind(address) {
            Ok(socket) => sockets.push(Arc::new(socket)),
            Err(cause) if no_ipv6(address, &cause) && addresses.len() > 1 => {
                tracing::warn!(service = crate::NAME, %address, "this machine has no IPv6, listening without it");
            }
            Err(cause) => return Err(ListenError { address, cause }),
        }
    }
    Ok(sockets)
}

fn no_ipv6(address: SocketAddr, error: &std::io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT};
    address.is_ipv6()
        && address.ip().is_unspecified()
        && matches!(error.raw_os_error(), Some(EADDRNOTAVAIL | EAFNOSUPPORT))
}

/// The receive loop of one socket. Ends only when it is dropped.
pub(crate) async fn listen(gateway: Arc<Gateway>, socket: Arc<Socket>) {
    let mut buffer = vec![0; DATAGRAM_OCTETS_MAX];
    loop {
        match socket.receive(&mut buffer).await {
            Ok((length, path)) => receive(&gateway, &socket, &buffer[..length], path),
            Err(error) => {
                tracing::warn!(service = crate::NAME, error = %error, "a datagram could not be received");
                // An error that stays would otherwise keep a processor busy.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}

fn receive(gateway: &Arc<Gateway>, socket: &Arc<Socket>, octets: &[u8], path: Path) {
    let received = Instant::now();
    let (datagram, client) = match whose(gateway, octets, &path) {
        Ok(known) => known,
        Err((client, reason)) => return gateway.drop_packet(client.as_deref(), octets, &path, reason.into()),
    };
    let rules = client.rules();
    let verified = datagram
        .packet(Port::Authentication, gateway.config.attributes_max.size())
        .and_then(|packet| verify_request(packet, client.secrets(), rules));
    match verified {
        Err(reason) => gateway.drop_packet(Some(&client), octets, &path, reason.into()),
        Ok(request) if request.packet().code() == Code::StatusServer => {
            status(gateway, socket, &client, &request, &path)
        }
        Ok(request) => {
            let octets = request.packet().octets().into();
            let (client, socket) = (client.clone(), socket.clone());
            exchange::take(gateway, Request { octets, client, rules, socket, path, received }, &request);
        }
    }
}

/// The client, as far as it is known, and why its packet goes no further.
type Unplaced = (Option<Arc<Client>>, DropReason);

/// Steps 1 to 3. Whose packet it is decides the address it came from and nothing else (R-25).
fn whose<'a>(gateway: &Gateway, octets: &'a [u8], path: &Path) -> Result<(Datagram<'a>, Arc<Client>), Unplaced> {
    let datagram = Datagram::new(octets).map_err(|reason| (None, reason))?;
    let source = path.peer.ip().to_canonical();
    // Nobody can be answered at port 0 (B-32).
    let client = gateway.settings.current().client_of(source).filter(|_| path.peer.port() != 0);
    let client = client.ok_or((None, DropReason::UnknownClient))?;
    if !gateway.within_budget(source) {
        return Err((Some(client), DropReason::Rate));
    }
    Ok((datagram, client))
}

/// Status-Server (RFC 5997). Answered as long as this node can serve the client; otherwise silent, so that it moves on (R-84).
/// It asks for nothing, so it has no place among the exchanges: a copy of it gets the same octets because they are computed
/// from it alone.
fn status(gateway: &Gateway, socket: &Socket, client: &Client, request: &Verified<'_>, path: &Path) {
    if !gateway.is_serving(client) {
        return gateway.drop_packet(Some(client), request.packet().octets(), path, Drop::NotServing);
    }
    gateway.metrics.packet(client.name(), PacketCode::StatusServer, PacketOutcome::Ok);
    match Reply::Alive.write(request) {
        Ok(octets) => socket.send_now(&octets, path),
        Err(error) => tracing::warn!(service = crate::NAME, error = %error, "a status reply could not be written"),
    }
}

/// A genuine request, with all that is needed to work on it and to answer it.
pub(crate) struct Request {
    octets: Box<[u8]>,
    pub(crate) client: Arc<Client>,
    rules: Rules,
    pub(crate) socket: Arc<Socket>,
    pub(crate) path: Path,
    pub(crate) received: Instant,
}

impl Request {
    /// The packet as it was verified. A view into octets cannot be kept beside them, so it is made anew where it is needed: one
    /// more HMAC, a microsecond. The rules are those of the first time; the client may have taught others since.
    pub(crate) fn verified(&self) -> Verified<'_> {
        Datagram::new(&self.octets)
            .and_then(|datagram| datagram.packet(Port::Authentication, usize::MAX))
            .and_then(|packet| verify_request(packet, self.client.secrets(), self.rules))
            .expect("the same octets, secrets and rules passed before")
    }
}
