//! RADIUS by TLS (R-90, R-91). Who asks, the certificate says; both kinds of request come by one port; after one packet
//! that is not genuine the connection is closed.
//!
//! ```text
//! accept -> source? -> seat? -> handshake, certificate -> whose? -> packets -> as by UDP from step 3 on -> exchange
//!                                                                      ^                                      |
//!   end: what is in work for it ends, its answers are forgotten            '------ outbox <- answers ---------'
//! ```

use super::{Arrived, Back, Drop, ListenError, Path, take};
use crate::Gateway;
use crate::settings::Client;
use crate::stream::{Outbox, Packets, outbox};
use arc_swap::ArcSwapOption;
use radius_wire::{Datagram, DropReason, Port};
use rustls_pki_types::CertificateDer;
use service_kit::config::InputFile;
use service_kit::net::{keep_alive, listen, no_ipv6};
use service_kit::tls::{ClientAuth, Identity, ServerTls, TlsOptions, marks};
use service_kit::{Shutdown, chain};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::server::TlsStream;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How often the certificate of an open connection is looked at again: it may have expired, or its authority may be another.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The last answers of a process that stops are written within this time.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The ports of TLS, and what is shown and wanted there.
pub(crate) struct RadSec {
    addresses: Vec<SocketAddr>,
    tls: ServerTls,
}

impl RadSec {
    pub(crate) fn load(
        addresses: Vec<SocketAddr>,
        identity: Identity,
        authority: InputFile,
        revocation_lists: Option<InputFile>,
    ) -> Result<Self, ListenError> {
        let clients = ClientAuth::Required(authority);
        // Connections last, and FreeRADIUS 3.2.1 may send nothing any more after a ticket.
        let options = TlsOptions { revocation_lists, without_tickets: true, ..TlsOptions::default() };
        let tls = ServerTls::load("radsec", identity, clients, options).map_err(ListenError::Tls)?;
        Ok(Self { addresses, tls })
    }

    pub(crate) fn watch(&self, shutdown: &Shutdown) {
        self.tls.watch(shutdown);
    }

    pub(crate) fn bind(&self) -> Result<Vec<TcpListener>, ListenError> {
        let mut listeners = Vec::new();
        for &address in &self.addresses {
            match listen(address) {
                Ok(listener) => listeners.push(listener),
                Err(cause) if no_ipv6(address, &cause) && self.addresses.len() > 1 => {
                    tracing::warn!(service = crate::NAME, %address, "this machine has no IPv6, listening without it");
                }
                Err(cause) => {
                    return Err(ListenError::Address { key: "radsec_listen", protocol: "TCP", address, cause });
                }
            }
        }
        Ok(listeners)
    }

    /// Accepts until the process drains, or the port is closed.
    pub(crate) fn accept(&self, gateway: Arc<Gateway>, listener: TcpListener) -> impl Future<Output = ()> + use<> {
        let tls = self.tls.clone();
        async move {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(service = crate::NAME, %address, "listening for RADIUS by TLS");
            }
            accept(gateway, listener, tls).await;
        }
    }
}

async fn accept(gateway: Arc<Gateway>, listener: TcpListener, tls: ServerTls) {
    loop {
        // Cancel safety: a connection that was accepted is always handed on.
        let accepted = tokio::select! {
            biased;
            () = gateway.shutdown.draining() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, peer)| Ok((Path::of_connection(stream.local_addr()?, peer), stream))) {
            Ok((path, stream)) => admit(&gateway, stream, path, tls.clone()),
            Err(error) => {
                // Out of file descriptors, usually: others have to close first.
                tracing::warn!(service = crate::NAME, error = %error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(gateway: &Arc<Gateway>, stream: TcpStream, path: Path, tls: ServerTls) {
    let source = path.peer.ip().to_canonical();
    if !gateway.settings.current().may_come_by_tls(source) {
        return gateway.drop_packet(None, &[], &path, DropReason::UnknownClient.into());
    }
    let Some(seat) = gateway.seats.sit(source) else {
        return gateway.drop_packet(None, &[], &path, Drop::Connections);
    };
    let gateway = gateway.clone();
    // Not work that a drain waits for: the requests that it has brought are.
    gateway.clone().shutdown.spawn_background(async move {
        keep_alive(&stream);
        if let Some(stream) = handshake(&gateway, stream, &tls).await {
            Box::pin(serve(&gateway, stream, path, &tls)).await;
        }
        drop(seat);
    });
}

async fn handshake(gateway: &Gateway, stream: TcpStream, tls: &ServerTls) -> Option<TlsStream<TcpStream>> {
    tls.trust_also(gateway.settings.current().authorities());
    // Cancel safety: a connection without a handshake has no packets to lose.
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE_LIMIT, tls.acceptor().accept(stream)) => shaken,
        () = gateway.shutdown.draining() => return None,
    };
    match shaken {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(service = crate::NAME, error = %error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// One connection, from its first packet to its end.
async fn serve(gateway: &Arc<Gateway>, stream: TlsStream<TcpStream>, path: Path, tls: &ServerTls) {
    let certificates: Vec<CertificateDer<'static>> =
        stream.get_ref().1.peer_certificates().unwrap_or_default().iter().map(|it| it.clone().into_owned()).collect();
    let marks = certificates.first().map(|own| marks(own)).unwrap_or_default();
    let connection = Connection { gateway, path, marks, certificates, tls, known: ArcSwapOption::empty() };
    let Some(client) = connection.client() else {
        tracing::info!(service = crate::NAME, client_ip = %path.peer.ip().to_canonical(), certificate = ?connection.marks, "an unknown certificate");
        return gateway.drop_packet(None, &[], &path, Drop::UnknownCertificate);
    };
    let name = client.name();
    tracing::info!(service = crate::NAME, client = name, client_ip = %path.peer.ip().to_canonical(), "connected by TLS");
    let (from, mut to) = tokio::io::split(stream);
    let (outbox, waiting) = outbox();
    let mut writing = std::pin::pin!(waiting.write_to(&mut to));
    // Cancel safety: whichever ends, the connection does, but for the last answers.
    let end = tokio::select! {
        end = connection.read(Packets::new(from), &outbox) => end,
        end = &mut writing => end.err().map(|error| error.to_string()).unwrap_or_default(),
        () = gateway.shutdown.stopping() => {
            drop(outbox);
            let _ = timeout(LAST_WORDS, writing).await;
            "this process stops".to_owned()
        }
    };
    gateway.exchanges.close(path.local, path.peer);
    tracing::info!(service = crate::NAME, client = name, end, "a connection by TLS has ended");
}

struct Connection<'g> {
    gateway: &'g Arc<Gateway>,
    path: Path,
    marks: Vec<String>,
    certificates: Vec<CertificateDer<'static>>,
    tls: &'g ServerTls,
    /// Whose its certificates were found to be.
    known: ArcSwapOption<Client>,
}

impl Connection<'_> {
    /// As the settings have it now; none where they or the authorities have it no more. A certificate of one client's authority
    /// stands for no other client, whatever names are in it (CVE-2012-4523, CVE-2012-4566).
    fn client(&self) -> Option<Arc<Client>> {
        let settings = self.gateway.settings.current();
        let client = settings.client_of_certificate(&self.marks, self.source())?;
        self.tls.trust_also(settings.authorities());
        let is_trusted = match &client.settings.ca {
            Some(authority) => self.tls.still_trusts_by(authority, &self.certificates),
            None => self.tls.still_trusts(&self.certificates),
        };
        self.known.store(is_trusted.then(|| client.clone()));
        is_trusted.then_some(client)
    }

    /// The same for each packet: who was found to be trusted is looked at again only where the settings are others.
    fn client_of_packet(&self) -> Option<Arc<Client>> {
        let client = self.gateway.settings.current().client_of_certificate(&self.marks, self.source())?;
        let is_known = self.known.load().as_ref().is_some_and(|known| Arc::ptr_eq(known, &client));
        if is_known { Some(client) } else { self.client() }
    }

    fn source(&self) -> IpAddr {
        self.path.peer.ip().to_canonical()
    }

    /// Reads until the end, and says why it came.
    async fn read(&self, mut packets: Packets<tokio::io::ReadHalf<TlsStream<TcpStream>>>, outbox: &Outbox) -> String {
        let mut looks = interval(LOOK_AGAIN);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Cancel safety: what `next` has read stays in `packets`.
            tokio::select! {
                packet = packets.next() => match packet {
                    Ok(packet) => {
                        if let Err(reason) = self.receive(&packet, outbox) {
                            return format!("a packet was not genuine: {reason}");
                        }
                    }
                    Err(end) => return chain(&end).to_string(),
                },
                _ = looks.tick() => {
                    if self.client().is_none() {
                        return "its certificate does not count any more".to_owned();
                    }
                }
            }
        }
    }

    /// An error: nothing more is believed on this connection.
    fn receive(&self, octets: &[u8], outbox: &Outbox) -> Result<(), DropReason> {
        let Self { gateway, path, .. } = self;
        let received = Instant::now();
        let Some(client) = self.client_of_packet() else {
            gateway.drop_packet(None, octets, path, Drop::UnknownCertificate);
            return Err(DropReason::UnknownClient);
        };
        let taken = match gateway.within_budget(path.peer.ip().to_canonical()) {
            false => Err(DropReason::Rate),
            true => Datagram::new(octets).and_then(|datagram| {
                let arrived = Arrived { port: port_of(octets), client: client.clone(), path: *path, received };
                take(gateway, datagram, arrived, || Back::Tls(outbox.clone()))
            }),
        };
        let Err(reason) = taken else { return Ok(()) };
        gateway.drop_packet(Some(&client), octets, path, reason.into());
        match stays_open(reason, octets) {
            true => Ok(()),
            false => Err(reason),
        }
    }
}

/// One port takes both kinds of request; the Code says which it is.
fn port_of(octets: &[u8]) -> Port {
    const ACCOUNTING_REQUEST: u8 = 4;
    match octets.first() {
        Some(&ACCOUNTING_REQUEST) => Port::Accounting,
        _ => Port::Authentication,
    }
}

/// RFC 6613 section 2.6.4: a Code that we do not know says nothing against the peer; an answer where only requests come does.
fn stays_open(reason: DropReason, octets: &[u8]) -> bool {
    let is_answer = matches!(octets.first(), Some(2 | 3 | 5 | 11));
    reason == DropReason::Rate || (reason == DropReason::Code && !is_answer)
}
