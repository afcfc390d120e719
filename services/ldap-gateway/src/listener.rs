//! Sockets: who connects, is it a client, is there room for it, and the TLS handshake where the port asks for one.
//!
//! A source that no client of the settings lists is closed without an octet, and so is one too many (FL-04, L-05). Behind a balancer
//! that is listed the source is whom it speaks for (FB-10): each of them has limits of its own.

use crate::Shared;
use crate::certificate::{Certificate, NoTls};
use crate::connection::{self, Accepted};
use crate::duplex::ClientStream;
use crate::metrics::{Metrics, Refused};
use crate::settings::Client;
use service_kit::net::{keep_alive, listen, no_ipv6};
use service_kit::proxy_protocol::read_header;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// A port that cannot be had. The operator's to mend.
#[derive(Debug, thiserror::Error)]
#[error("ldap.{key}: the LDAP port {address} cannot be opened")]
pub struct ListenError {
    /// Of the configuration.
    pub key: &'static str,
    pub address: SocketAddr,
    #[source]
    pub cause: io::Error,
}

/// One port.
pub struct Listener {
    socket: TcpListener,
    /// TLS from the first octet.
    tls: bool,
}

impl Listener {
    /// Opens all addresses. A machine without IPv6 does without the IPv6 wildcard of the default.
    pub fn bind(key: &'static str, addresses: &[SocketAddr], tls: bool) -> Result<Vec<Self>, ListenError> {
        let mut listeners = Vec::new();
        for &address in addresses {
            match listen(address) {
                Ok(socket) => listeners.push(Self { socket, tls }),
                Err(cause) if no_ipv6(address, &cause) && addresses.len() > 1 => {
                    tracing::warn!(%address, "this machine has no IPv6, listening without it");
                }
                Err(cause) => return Err(ListenError { key, address, cause }),
            }
        }
        Ok(listeners)
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// Accepts until the node drains. The queue of the kernel is then closed with the socket.
    pub async fn accept(self, shared: Arc<Shared>) {
        loop {
            // Cancel safety: a connection that was accepted is always handed on.
            let accepted = tokio::select! {
                biased;
                () = shared.shutdown.draining() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => admit(&shared, stream, peer, self.tls),
                Err(error) => {
                    // Out of file descriptors, usually: others have to close first.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            tokio::time::sleep_until(shared.turnstile.passed(Instant::now())).await;
        }
    }
}

/// How many connections are accepted in a second, by all ports together; the others wait in the kernel's queues (L-05).
pub struct Turnstile {
    pause: Duration,
    next_at: Mutex<Instant>,
}

impl Turnstile {
    pub fn new(per_second: u32) -> Self {
        Self { pause: Duration::from_secs(1) / per_second, next_at: Mutex::new(Instant::now()) }
    }

    /// One has passed; when its port may accept the next. A burst of one second's worth is let through at once.
    fn passed(&self, now: Instant) -> Instant {
        let mut next_at = self.next_at.lock().unwrap_or_else(PoisonError::into_inner);
        *next_at = (*next_at + self.pause).max(now - Duration::from_secs(1));
        *next_at
    }
}

fn admit(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr, tls: bool) {
    let source = peer.ip().to_canonical();
    if !shared.balancers.iter().any(|balancers| balancers.contains(&source)) {
        return serve(shared, stream, source, tls);
    }
    let waiting = match shared.limits.wait() {
        Ok(waiting) => waiting,
        Err(full) => return shared.refusals.note(&shared.metrics, source, Refused::Full(full)),
    };
    let connection = {
        let shared = Arc::clone(shared);
        async move {
            let mut stream = stream;
            let read = tokio::time::timeout(shared.timeouts.handshake, read_header(&mut stream)).await;
            drop(waiting);
            match read {
                Ok(Ok(client)) => serve(&shared, stream, client.map_or(source, |client| client.ip()), tls),
                Ok(Err(error)) => {
                    tracing::debug!(balancer = %source, %error, "a balancer does not say whom it speaks for");
                    shared.refusals.note(&shared.metrics, source, Refused::ProxyHeader);
                }
                Err(_) => shared.refusals.note(&shared.metrics, source, Refused::ProxyHeader),
            }
        }
    };
    drop(shared.shutdown.spawn(connection));
}

/// Gives a connection to the client that it is of, if there is one and room for it.
fn serve(shared: &Arc<Shared>, stream: TcpStream, source: IpAddr, tls: bool) {
    let mut changes = shared.settings.changes();
    let snapshot = Arc::clone(&changes.borrow_and_update());
    let Some(client) = snapshot.client(source) else {
        return shared.refusals.note(&shared.metrics, source, Refused::UnknownClient);
    };
    let seat = match shared.limits.sit(client.name(), source) {
        Ok(seat) => seat,
        Err(full) => return shared.refusals.note(&shared.metrics, source, Refused::Full(full)),
    };
    let connection = {
        let shared = Arc::clone(shared);
        async move {
            let counted = Counted::new(&shared, client.name());
            keep_alive(&stream);
            let shaken = match tls {
                // In a box: it is large, and is over long before the connection is.
                true => Box::pin(handshake(&shared, &client, source, stream)).await,
                false => Some((ClientStream::Clear(stream), None)),
            };
            if let Some((stream, certificate)) = shaken {
                let accepted = Box::new(Accepted { shared, stream, certificate, source, client, seat, changes });
                connection::serve(accepted).await;
            }
            drop(counted);
        }
    };
    drop(shared.shutdown.spawn(connection));
}

/// TLS, and the certificate that the client has shown, if any. `None`: it did not come to that.
pub async fn handshake(
    shared: &Shared,
    client: &Client,
    source: IpAddr,
    stream: TcpStream,
) -> Option<(ClientStream, Option<Certificate>)> {
    let shaken = shared.tls.as_ref()?.accept(client, stream);
    match tokio::time::timeout(shared.timeouts.handshake, shaken).await {
        Ok(Ok((stream, certificate))) => Some((ClientStream::Tls(Box::new(stream)), certificate)),
        Ok(Err(NoTls::Certificate)) => {
            shared.refusals.note(&shared.metrics, source, Refused::Certificate);
            None
        }
        Ok(Err(error)) => {
            tracing::debug!(client = client.name(), error = %service_kit::chain(&error), "no TLS with a client");
            None
        }
        Err(_) => None,
    }
}

/// Counts a connection as long as it lives.
struct Counted {
    shared: Arc<Shared>,
    client: String,
}

impl Counted {
    fn new(shared: &Arc<Shared>, client: &str) -> Self {
        shared.metrics.connection_opened(client);
        Self { shared: Arc::clone(shared), client: client.to_owned() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.metrics.connection_closed(&self.client);
    }
}

/// Connections closed without an octet, and binds that are answered unread: all are counted, at most one a second is logged.
pub struct Refusals {
    began: Instant,
    /// The second, from the beginning, that has its line.
    logged: AtomicU64,
    unlogged: AtomicU64,
}

impl Refusals {
    pub fn new() -> Self {
        Self { began: Instant::now(), logged: AtomicU64::new(0), unlogged: AtomicU64::new(0) }
    }

    fn note(&self, metrics: &Metrics, source: IpAddr, why: Refused) {
        metrics.connection_refused(why);
        let Some(more) = self.has_a_line() else { return };
        tracing::warn!(
            event = "packet_dropped",
            service = "ldap-gateway",
            client_ip = %source,
            drop = why.code(),
            more,
            "a connection was closed without an answer"
        );
    }

    /// A bind that was answered with 51 unread (B5).
    pub fn note_bind(&self, metrics: &Metrics, client: &str, source: IpAddr) {
        metrics.bind_limited();
        let Some(more) = self.has_a_line() else { return };
        tracing::warn!(
            event = "rate_limited",
            service = "ldap-gateway",
            client,
            client_ip = %source,
            more,
            "more binds in a second than ldap.binds_per_second_max"
        );
    }

    /// How many had none since the last line; `None` where this second has had its line.
    fn has_a_line(&self) -> Option<u64> {
        let second = self.began.elapsed().as_secs() + 1;
        if self.logged.swap(second, Ordering::Relaxed) == second {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.unlogged.swap(0, Ordering::Relaxed))
    }
}
