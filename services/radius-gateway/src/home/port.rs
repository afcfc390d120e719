//! One port of one home server. What is decided, radius-wire's [`Home`] decides; here are its sockets and its clock.
//!
//! ```text
//! ask ──> room? ──> written, sent ──> waits ──> answer | given up | silent: another server may be asked
//!           '-> one more socket        ^
//! receive (a task a socket) ───────────┤
//! drive (one task): sends again, probes, says who is alive
//! ```
//! A socket is a UDP port of ours, or a connection to a server that is asked by TLS.

use super::connection::{self, TlsWay};
use crate::stream::{Outbox, Packets, Waiting, outbox};
use radius_wire::{
    Attribute, AttributeType, DropReason, Due, Heard, Home, HomeLimits, HomeReply, HomeState, Outgoing, Place, Port,
    RequestCode, RequestId, Room, Rule, Secret, SocketNumber, Verdict, WriteError,
};
use socket2::SockRef;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How a request is put into octets for the server it goes to.
pub(crate) type Write<'a> = dyn Fn(&Envelope<'_>) -> Result<Vec<u8>, WriteError> + Sync + 'a;

/// What is new for each server and each try (R-82).
pub(crate) struct Envelope<'a> {
    pub(crate) identifier: u8,
    pub(crate) authenticator: [u8; 16],
    pub(crate) secret: &'a Secret,
}

/// Who is at the other end.
pub(crate) struct Peer {
    /// As the settings name it, for people.
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Absent: by UDP.
    pub(crate) tls: Option<Arc<TlsWay>>,
    pub(crate) secret: Arc<Secret>,
    /// Whether its replies must be signed: a rule of the settings, or what was learned (R-12).
    pub(crate) must_sign: Arc<AtomicBool>,
    /// Who is asked about to learn whether the server is back, and must be refused; absent: by Status-Server (R-84, R-85).
    pub(crate) status_user: Option<String>,
}

/// What a port has to tell beside its answers.
pub(crate) trait Observer: Send + Sync {
    fn became(&self, server: &str, state: HomeState);
    /// A reply to a login carried a Message-Authenticator or did not, and was free to (R-12).
    fn taught(&self, server: &str, signs: bool);
    fn dropped(&self, server: &str, drop: &'static str);
    /// It did not refuse a name that nobody has, with a password made up for the question (R-85).
    fn admits_anybody(&self, server: &str);
    /// No connection to it can be had. `became(Alive)` follows when one can.
    fn unreachable(&self, server: &str);
}

/// No answer, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("it is dead: only probes go there until it answers them")]
    Dead,
    #[error("too many requests wait for it already")]
    Full,
    /// Another server may be asked.
    #[error("it gave no answer")]
    Silent,
    /// It may have acted on the request, which was for it alone.
    #[error("it gave no answer to a request that was for it alone")]
    GaveUp,
    #[error("the time of the login is over")]
    Deadline,
    #[error("its address cannot be used")]
    Unreachable(#[source] io::Error),
    #[error("the request cannot be written")]
    Unwritable(#[from] WriteError),
}

/// How a request stands to the other servers of its target.
#[derive(Clone, Copy)]
pub(crate) struct Ways {
    /// It carries this server's State (R-52).
    pub(crate) bound: bool,
    /// No server was asked before.
    pub(crate) first_try: bool,
    /// There is another one to ask.
    pub(crate) elsewhere: bool,
}

/// Ends its tasks when it is dropped.
pub(crate) struct HomePort {
    shared: Arc<Shared>,
    _end: DropGuard,
}

struct Shared {
    peer: Peer,
    started: Instant,
    inner: Mutex<Inner>,
    /// Something new may be due.
    changed: Notify,
    opening: tokio::sync::Mutex<()>,
    /// When its name was last looked up because it was dead.
    looked_up: Mutex<Option<Instant>>,
    /// When no connection could be had, or two in a row said nothing, since there was a better one.
    unreachable: Mutex<Option<Instant>>,
    /// The last connection ended and had said nothing.
    in_vain: AtomicBool,
    end: CancellationToken,
    observer: Arc<dyn Observer>,
}

struct Inner {
    home: Home,
    sockets: HashMap<SocketNumber, Wire>,
    waiting: HashMap<RequestId, (SocketNumber, mpsc::Sender<Event>)>,
}

enum Wire {
    /// Closed when it is dropped.
    Udp {
        socket: Arc<UdpSocket>,
        _end: DropGuard,
    },
    Tls(Outbox),
}

/// Nor is the name of a dead server looked up again so soon.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(30);

/// A server that could not be reached by TLS is not tried again so soon.
const TRY_AGAIN: Duration = Duration::from_secs(5);

enum Event {
    Answer(HomeReply),
    Silent,
    GaveUp,
    /// The connection it was sent by is gone.
    Lost,
}

impl HomePort {
    pub(crate) fn start(peer: Peer, limits: HomeLimits, replies: Port, observer: Arc<dyn Observer>) -> Self {
        let inner = Inner { home: Home::new(limits, replies), sockets: HashMap::new(), waiting: HashMap::new() };
        let end = CancellationToken::new();
        let shared = Arc::new(Shared {
            peer,
            started: Instant::now(),
            inner: Mutex::new(inner),
            changed: Notify::new(),
            opening: tokio::sync::Mutex::new(()),
            looked_up: Mutex::default(),
            unreachable: Mutex::default(),
            in_vain: AtomicBool::new(false),
            end: end.clone(),
            observer,
        });
        tokio::spawn(drive(shared.clone()));
        Self { shared, _end: end.drop_guard() }
    }

    pub(crate) fn state(&self) -> HomeState {
        match self.shared.lock().home.state() {
            HomeState::Alive if self.shared.is_out_of_reach() => HomeState::Zombie,
            state => state,
        }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// Sends a request and waits for its answer. Dropped, it waits for none.
    pub(crate) async fn ask(&self, write: &Write<'_>, ways: Ways, deadline: Instant) -> Result<HomeReply, NoAnswer> {
        let (mut asked, mut events) = self.send(write, ways, deadline).await?;
        let mut lost_before = false;
        loop {
            let Ok(event) = timeout_at(deadline, events.recv()).await else { return Err(NoAnswer::Deadline) };
            match event {
                Some(Event::Answer(reply)) => {
                    let Shared { observer, peer, .. } = asked.shared.as_ref();
                    // Over TLS nothing depends on it.
                    if let Some(signs) = reply.teaches().filter(|signs| *signs || peer.tls.is_none()) {
                        observer.taught(&peer.name, signs);
                    }
                    if reply.verdict() == Verdict::NotRecorded {
                        observer.dropped(&peer.name, "not_recorded");
                    }
                    return Ok(reply);
                }
                Some(Event::Silent) if ways.elsewhere => return Err(NoAnswer::Silent),
                Some(Event::Silent) => {}
                // Usually one that had ended long ago, which nobody notices before something is sent.
                Some(Event::Lost) if !ways.bound && !lost_before => {
                    lost_before = true;
                    (asked, events) = self.send(write, ways, deadline).await?;
                }
                Some(Event::GaveUp | Event::Lost) | None if ways.bound => return Err(NoAnswer::GaveUp),
                Some(Event::GaveUp | Event::Lost) | None => return Err(NoAnswer::Silent),
            }
        }
    }

    async fn send(
        &self,
        write: &Write<'_>,
        ways: Ways,
        deadline: Instant,
    ) -> Result<(Asked, mpsc::Receiver<Event>), NoAnswer> {
        let shared = &self.shared;
        loop {
            match shared.try_send(write, ways)? {
                Some(sent) => return Ok(sent),
                None => timeout_at(deadline, shared.open())
                    .await
                    .map_err(|_| NoAnswer::Deadline)?
                    .map_err(NoAnswer::Unreachable)?,
            }
        }
    }
}

/// A request that is waited for.
struct Asked {
    shared: Arc<Shared>,
    id: RequestId,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.waiting.remove(&self.id);
        inner.home.cancel(self.id);
    }
}

impl Shared {
    /// None where a socket has to be opened first.
    fn try_send(
        self: &Arc<Self>,
        write: &Write<'_>,
        ways: Ways,
    ) -> Result<Option<(Asked, mpsc::Receiver<Event>)>, NoAnswer> {
        let mut inner = self.lock();
        let place = match inner.home.room() {
            Room::At(place) => place,
            Room::OpenSocket => return Ok(None),
            Room::Full => return Err(NoAnswer::Full),
            Room::Dead => return Err(NoAnswer::Dead),
        };
        let octets: Arc<[u8]> = write(&self.envelope(place)).map_err(NoAnswer::Unwritable)?.into();
        let outgoing = Outgoing { octets: octets.clone(), bound: ways.bound, first_try: ways.first_try };
        let id = inner.home.send(place, outgoing, self.started.elapsed(), random());
        let id = id.expect("the place is the one that was free a moment ago, and the request is written for it");
        let (teller, events) = mpsc::channel(2);
        inner.waiting.insert(id, (place.socket, teller));
        inner.put_out(place.socket, octets);
        drop(inner);
        self.changed.notify_one();
        Ok(Some((Asked { shared: self.clone(), id }, events)))
    }

    fn envelope(&self, place: Place) -> Envelope<'_> {
        let authenticator = crate::random();
        Envelope { identifier: place.identifier, authenticator, secret: &self.peer.secret }
    }

    /// One more source port, where there is still no room once it is this one's turn.
    async fn open(self: &Arc<Self>) -> io::Result<()> {
        let _turn = self.opening.lock().await;
        {
            let home = &self.lock().home;
            if home.room() != Room::OpenSocket && home.room_for_probe() != Room::OpenSocket {
                return Ok(());
            }
        }
        match &self.peer.tls {
            None => self.open_socket().await,
            Some(way) => self.connect(way).await,
        }
    }

    async fn open_socket(self: &Arc<Self>) -> io::Result<()> {
        let address = lookup_host((self.peer.host.as_str(), self.peer.port)).await?.next();
        let address = address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
        let ours: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = Arc::new(UdpSocket::bind(ours).await?);
        // From then on the kernel drops what comes from elsewhere (B-15).
        socket.connect(address).await?;
        let end = self.end.child_token();
        let number = {
            let mut inner = self.lock();
            let number = inner.home.socket_opened();
            inner.sockets.insert(number, Wire::Udp { socket: socket.clone(), _end: end.clone().drop_guard() });
            number
        };
        tokio::spawn(receive(self.clone(), number, socket, end));
        Ok(())
    }

    /// Of a server that is dead by UDP: it may have moved. Where its name stands for other addresses now, the sockets to the former one
    /// are closed, and what is sent next opens one to where it is.
    async fn look_up_again(self: Arc<Self>) {
        let _turn = self.opening.lock().await;
        let Ok(found) = lookup_host((self.peer.host.as_str(), self.peer.port)).await else { return };
        let found: Vec<_> = found.collect();
        let is_elsewhere = |wire: &Wire| match wire {
            Wire::Udp { socket, .. } => socket.peer_addr().is_ok_and(|address| !found.contains(&address)),
            Wire::Tls(_) => false,
        };
        let left: Vec<_> = {
            let inner = self.lock();
            // It answers again where it was: nothing that is under way there is taken from it.
            if inner.home.state() != HomeState::Dead || inner.home.is_reviving() {
                return;
            }
            inner.sockets.iter().filter(|(_, wire)| is_elsewhere(wire)).map(|(number, _)| *number).collect()
        };
        if !found.is_empty() && !left.is_empty() {
            tracing::info!(service = crate::NAME, server = self.peer.name, addresses = ?found, "a home server has moved");
            left.into_iter().for_each(|number| self.closed(number));
        }
    }

    /// As soon as it has died, and every [`LOOK_UP_AGAIN`] while it is dead.
    fn is_to_be_looked_up(&self) -> bool {
        let is_due = self.looked_up_next().is_some_and(|next| next <= Instant::now());
        if is_due {
            *self.looked_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        is_due
    }

    /// When the name of a dead server is looked up; nobody else would wake up for that where there are no probes.
    fn looked_up_next(&self) -> Option<Instant> {
        let dead_by_udp = self.peer.tls.is_none() && self.lock().home.state() == HomeState::Dead;
        let last = *self.looked_up.lock().unwrap_or_else(PoisonError::into_inner);
        dead_by_udp.then(|| last.map_or_else(Instant::now, |last| last + LOOK_UP_AGAIN))
    }

    /// One more connection. Whoever waits meanwhile for a server that cannot be reached waits once, not each in turn.
    async fn connect(self: &Arc<Self>, way: &Arc<TlsWay>) -> io::Result<()> {
        if self.unreachable_since().is_some_and(|since| since.elapsed() < TRY_AGAIN) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "it could not be reached a moment ago"));
        }
        let stream =
            connection::open(&self.peer.host, self.peer.port, way).await.inspect_err(|_| self.out_of_reach())?;
        let (outbox, waiting) = outbox();
        let number = {
            let mut inner = self.lock();
            let number = inner.home.socket_opened();
            inner.sockets.insert(number, Wire::Tls(outbox));
            number
        };
        tokio::spawn(converse(self.clone(), number, stream, waiting, way.clone()));
        Ok(())
    }

    fn unreachable_since(&self) -> Option<Instant> {
        *self.unreachable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out_of_reach(&self) {
        *self.unreachable.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.observer.unreachable(&self.peer.name);
    }

    fn in_reach(&self) {
        self.in_vain.store(false, Ordering::Relaxed);
        let before = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).take();
        if before.is_some() {
            self.observer.became(&self.peer.name, HomeState::Alive);
        }
    }

    /// While it is, others are asked first, but for one request now and then that tries.
    fn is_out_of_reach(&self) -> bool {
        let is_tried = || self.opening.try_lock().is_err();
        self.unreachable_since().is_some_and(|since| since.elapsed() < TRY_AGAIN || is_tried())
    }

    /// What came in. False where nothing after it on the same connection can be believed (R-91).
    fn heard(&self, socket: SocketNumber, octets: &[u8]) -> bool {
        let rule = if self.peer.must_sign.load(Ordering::Relaxed) { Rule::Yes } else { Rule::Auto };
        let mut inner = self.lock();
        let mut sound = true;
        match inner.home.receive(socket, octets, &self.peer.secret, rule, self.started.elapsed()) {
            Heard::Answer { id, reply } => {
                if let Some((_, teller)) = inner.waiting.remove(&id) {
                    let _ = teller.try_send(Event::Answer(reply));
                }
            }
            Heard::Probe => {}
            Heard::WrongProbe(_) => self.observer.admits_anybody(&self.peer.name),
            Heard::Unmatched => self.observer.dropped(&self.peer.name, "unmatched"),
            Heard::Dropped(reason) => {
                sound = reason == DropReason::Code;
                self.observer.dropped(&self.peer.name, reason.as_str());
            }
        }
        drop(inner);
        self.changed.notify_one();
        sound
    }

    /// A connection is over, and with it what waits there.
    fn closed(&self, number: SocketNumber) {
        let mut inner = self.lock();
        inner.sockets.remove(&number);
        for (_, (_, teller)) in inner.waiting.extract_if(|_, (socket, _)| *socket == number) {
            let _ = teller.try_send(Event::Lost);
        }
        inner.home.socket_closed(number);
        drop(inner);
        self.changed.notify_one();
    }

    /// Does what is due. True where a probe is to be sent.
    fn work_off(&self) -> (bool, Option<Instant>) {
        let mut probe = false;
        let mut inner = self.lock();
        while let Some(due) = inner.home.due(self.started.elapsed(), random()) {
            match due {
                Due::Resend { socket, octets } => inner.put_out(socket, octets),
                Due::Silent(id) => {
                    if let Some((_, teller)) = inner.waiting.get(&id) {
                        let _ = teller.try_send(Event::Silent);
                    }
                }
                Due::GaveUp { id, .. } => {
                    if let Some((_, teller)) = inner.waiting.remove(&id) {
                        let _ = teller.try_send(Event::GaveUp);
                    }
                }
                Due::Probe => probe = true,
                Due::Became(state) => self.observer.became(&self.peer.name, state),
            }
        }
        (probe, inner.home.next_deadline().map(|deadline| self.started + deadline))
    }

    async fn probe(self: &Arc<Self>) {
        let room = self.lock().home.room_for_probe();
        if room == Room::OpenSocket && self.open().await.is_err() {
            return;
        }
        let mut inner = self.lock();
        let Room::At(place) = inner.home.room_for_probe() else { return };
        let octets = self.question(&self.envelope(place)).expect("as short as the settings allow, it always fits");
        if inner.home.probe(place, &octets, self.started.elapsed()) {
            inner.put_out(place.socket, octets.into());
        }
    }

    /// Whether the server is back: a Status-Server, or a login that must be refused (R-84, R-85).
    fn question(&self, envelope: &Envelope<'_>) -> Result<Vec<u8>, WriteError> {
        const NAS: Attribute<'_> = Attribute { kind: AttributeType::NAS_IDENTIFIER, value: b"twinlock" };
        let &Envelope { identifier, authenticator, secret } = envelope;
        let (code, attributes, password) = match &self.peer.status_user {
            None => (RequestCode::StatusServer, vec![], None),
            Some(user) => {
                let name = Attribute { kind: AttributeType::USER_NAME, value: user.as_bytes() };
                // 128 bits that nobody has as a password.
                let password = format!("{:032x}", u128::from_ne_bytes(crate::random()));
                (RequestCode::AccessRequest, vec![name, NAS], Some(password))
            }
        };
        let (attributes, password) = (attributes.as_slice(), password.as_deref());
        radius_wire::Request { code, identifier, authenticator, attributes, password }.write(secret)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Sends, or does not where the kernel has no room: the schedule sends again. A connection without room is closed.
    fn put_out(&self, socket: SocketNumber, octets: Arc<[u8]>) {
        match self.sockets.get(&socket) {
            Some(Wire::Udp { socket, .. }) => {
                // Past tokio, which knows of no room in a socket it has not waited for yet.
                if let Err(error) = SockRef::from(socket.as_ref()).send(&octets) {
                    tracing::debug!(service = crate::NAME, error = %error, "a request could not be sent to a home server");
                }
            }
            Some(Wire::Tls(outbox)) => {
                outbox.put(octets);
            }
            None => {}
        }
    }
}

/// Sends again, probes and gives up in time, until the port is dropped.
async fn drive(shared: Arc<Shared>) {
    loop {
        let (probe, next) = shared.work_off();
        if shared.is_to_be_looked_up() {
            // Beside the rest, for it may take long. Cancel safety: it only looks.
            let (shared, end) = (shared.clone(), shared.end.clone());
            tokio::spawn(async move { end.run_until_cancelled(shared.look_up_again()).await });
        }
        if probe {
            tokio::select! {
                () = shared.probe() => continue,
                () = shared.end.cancelled() => return,
            }
        }
        let due = async {
            match next.into_iter().chain(shared.looked_up_next()).min() {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        // Cancel safety: all of them only wait.
        tokio::select! {
            () = due => {}
            () = shared.changed.notified() => {}
            () = shared.end.cancelled() => return,
        }
    }
}

async fn receive(shared: Arc<Shared>, number: SocketNumber, socket: Arc<UdpSocket>, end: CancellationToken) {
    // One more than a packet may have: what is longer is seen to be.
    let mut buffer = vec![0; radius_wire::PACKET_OCTETS_MAX + 1];
    loop {
        let received = tokio::select! {
            received = socket.recv(&mut buffer) => received,
            () = end.cancelled() => return,
        };
        match received {
            Ok(length) => {
                shared.heard(number, &buffer[..length]);
            }
            // "Nobody listens there", said of an earlier request: anybody on the way could say so.
            Err(error) => {
                tracing::debug!(service = crate::NAME, server = shared.peer.name, error = %error, "a home server's port");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// One connection, from its first packet to its end.
async fn converse(
    shared: Arc<Shared>,
    number: SocketNumber,
    stream: connection::Stream,
    waiting: Waiting,
    way: Arc<TlsWay>,
) {
    let certificates = connection::certificates(&stream).to_vec();
    let (from, mut to) = tokio::io::split(stream);
    let mut packets = Packets::new(from);
    let mut in_vain = true;
    let reading = async {
        loop {
            match packets.next().await {
                Ok(packet) if shared.heard(number, &packet) => {
                    in_vain = false;
                    shared.in_reach();
                }
                Ok(_) => return "it sent what is no genuine packet".to_owned(),
                Err(end) => return service_kit::chain(&end).to_string(),
            }
        }
    };
    // Cancel safety: whichever ends, the connection does.
    let end = tokio::select! {
        end = reading => end,
        end = waiting.write_to(&mut to) => end.err().map(|error| error.to_string()).unwrap_or_default(),
        () = way.distrusts(&certificates) => "its certificate does not count any more".to_owned(),
        () = shared.end.cancelled() => return,
    };
    tracing::info!(service = crate::NAME, server = shared.peer.name, end, "a connection to a home server has ended");
    // A certificate of ours that it does not take shows only now (TLS 1.3).
    if in_vain && shared.in_vain.swap(true, Ordering::Relaxed) {
        shared.out_of_reach();
    }
    shared.closed(number);
}

fn random() -> u32 {
    getrandom::u32().expect("the kernel gives random octets")
}

#[cfg(test)]
mod tests {
    use super::*;
    use radius_wire::{Datagram, Reply, Rules, verify_request};
    use std::path::Path;
    use std::process::Command;

    const NAME: &str = "home.twinlock.example";
    /// The file that stands for /etc/hosts, where there is one of our own.
    const HOSTS: &str = "TWINLOCK_TEST_HOSTS";

    #[test]
    fn a_dead_server_that_has_moved_is_found_where_its_name_stands_now() {
        // R-81: by UDP, where a socket lives as long as its server is in the settings
        if let Some(hosts) = std::env::var_os(HOSTS) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            return runtime.block_on(moves(Path::new(&hosts)));
        }
        let dir = tempfile::tempdir().expect("a folder");
        let hosts = dir.path().join("hosts");
        std::fs::write(&hosts, "").expect("written");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", r#"mount --bind "$0" /etc/hosts && exec "$@""#]).arg(&hosts);
        command.arg(std::env::current_exe().expect("this program"));
        command.args(["--exact", "home::port::tests::a_dead_server_that_has_moved_is_found_where_its_name_stands_now"]);
        let output = command.env(HOSTS, &hosts).output().expect("unshare is installed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    async fn moves(hosts: &Path) {
        let is_at = |address: &str| std::fs::write(hosts, format!("{address} {NAME}\n")).expect("written");
        is_at("127.0.0.1");
        let former = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let port = former.local_addr().expect("it is bound").port();
        let new = UdpSocket::bind(("127.0.0.2", port)).await.expect("free there, too");
        tokio::spawn(answers(new));
        let home = HomePort::start(peer(port), limits(), Port::AuthenticationReplies, Arc::new(Nobody));
        assert!(ask(&home).await.is_err(), "nobody answers there");
        is_at("127.0.0.2");
        let begun = Instant::now();
        while ask(&home).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(8), "it is still asked where it was");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let sockets = home.shared.lock().sockets.len();
        assert_eq!(sockets, 1, "none is left to where it was");
    }

    #[tokio::test]
    async fn the_name_of_a_dead_server_is_due_again_where_nothing_else_wakes_up_for_it() {
        // R-81: without probes a dead server is woken up for when it is revived, which may be long
        let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let port = silent.local_addr().expect("it is bound").port();
        let limits = HomeLimits { status_check: radius_wire::StatusCheck::None, ..limits() };
        let peer = Peer { host: "127.0.0.1".into(), ..peer(port) };
        let home = HomePort::start(peer, limits, Port::AuthenticationReplies, Arc::new(Nobody));
        assert_eq!(home.shared.looked_up_next(), None, "it is not dead");
        let begun = Instant::now();
        while home.state() != HomeState::Dead {
            assert!(begun.elapsed() < Duration::from_secs(8), "it never dies");
            assert!(ask(&home).await.is_err());
        }
        while home.shared.looked_up.lock().expect("no panic while held").is_none() {
            assert!(begun.elapsed() < Duration::from_secs(8), "its name is not looked up");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::pause();
        for _ in 0..3 {
            let last = home.shared.looked_up.lock().expect("no panic while held").expect("it was looked up");
            tokio::time::sleep(LOOK_UP_AGAIN + Duration::from_millis(10)).await;
            let again = home.shared.looked_up.lock().expect("no panic while held").expect("it was looked up");
            assert!(again >= last + LOOK_UP_AGAIN, "only once");
        }
    }

    async fn ask(home: &HomePort) -> Result<HomeReply, NoAnswer> {
        let write = |envelope: &Envelope<'_>| {
            let &Envelope { identifier, authenticator, secret } = envelope;
            let attributes = [Attribute { kind: AttributeType::USER_NAME, value: b"ann" }];
            let code = RequestCode::AccessRequest;
            radius_wire::Request { code, identifier, authenticator, attributes: &attributes, password: Some("x") }
                .write(secret)
        };
        let ways = Ways { bound: false, first_try: true, elsewhere: true };
        home.ask(&write, ways, Instant::now() + Duration::from_secs(2)).await
    }

    /// A server that says yes to everything.
    async fn answers(socket: UdpSocket) {
        let (secret, mut buffer) = (secret(), [0; 4096]);
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.expect("loopback");
            let datagram = Datagram::new(&buffer[..length]).expect("a header");
            let packet = datagram.packet(Port::Authentication, 200).expect("well formed");
            let request = verify_request(packet, (&secret).into(), Rules::default()).expect("genuine");
            let reply = Reply::Accept { attributes: &[], message: "" }.write(&request).expect("it fits");
            socket.send_to(&reply, from).await.expect("loopback");
        }
    }

    fn secret() -> Secret {
        Secret::new("xyzzy5461").expect("not empty")
    }

    fn peer(port: u16) -> Peer {
        Peer {
            name: NAME.into(),
            host: NAME.into(),
            port,
            tls: None,
            secret: Arc::new(secret()),
            must_sign: Arc::new(AtomicBool::new(true)),
            status_user: None,
        }
    }

    /// The usual ones in a hundredth of the time.
    fn limits() -> HomeLimits {
        let usual = HomeLimits::default();
        HomeLimits {
            response_window: usual.response_window / 100,
            first_response_window: usual.first_response_window / 100,
            zombie_period: usual.zombie_period / 100,
            check_interval: usual.check_interval / 100,
            check_jitter: usual.check_jitter / 100,
            check_timeout: usual.check_timeout / 100,
            ..usual
        }
    }

    struct Nobody;

    impl Observer for Nobody {
        fn became(&self, _: &str, _: HomeState) {}
        fn taught(&self, _: &str, _: bool) {}
        fn dropped(&self, _: &str, _: &'static str) {}
        fn admits_anybody(&self, _: &str) {}
        fn unreachable(&self, _: &str) {}
    }
}
