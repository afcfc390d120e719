//! One port of one home server: which Identifiers are taken, what is to be sent again, and whether it is alive (A8).
//!
//! ```text
//!           no answer within the window           silent for zombie_period
//!    alive ----------------------------> zombie --------------------------> dead: nothing but probes
//!      ^   answer, or enough probes answered |                                |
//!      '-------------------------------------'--------------------------------'
//!          enough probes answered; without probes: after revive_interval
//! ```
//! It owns no socket: it says on which one to send, by number. Every request that was sent ends exactly once: answered, given
//! up, or cancelled. What is not genuine changes nothing (R-83).

use crate::authenticator::{Rule, Secret, Sent};
use crate::drop_reason::DropReason;
use crate::exchanges::Transport;
use crate::home_reply::HomeReply;
use crate::packet::{Code, Packet, Port};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What we have with one home server. `now` is the time since any fixed moment, on a monotonic clock.
pub struct Home {
    limits: HomeLimits,
    port: Port,
    state: HomeState,
    /// Windows without an answer, in a row.
    timeouts: u32,
    /// When it last gave a sign of life, or became a zombie.
    heard: Option<Duration>,
    revives: Option<Duration>,
    sockets: BTreeSet<SocketNumber>,
    last_socket: u32,
    /// The least recently used first (RFC 5080 section 2.2.2).
    free: VecDeque<Place>,
    taken: HashMap<Place, RequestId>,
    waiting: HashMap<RequestId, Waiting>,
    timers: BTreeSet<(Duration, RequestId)>,
    last_request: u64,
    probes: Probes,
    /// Decided, not yet said.
    outbox: VecDeque<Due>,
}

/// Where there is room for one more request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Write the request with this Identifier, then [`Home::send`].
    At(Place),
    /// Open one more socket, tell [`Home::socket_opened`], and ask again.
    OpenSocket,
    /// So many requests wait already: this one is not sent.
    Full,
    /// It is dead, and gets nothing but probes.
    Dead,
}

/// What came in.
pub enum Heard {
    /// The answer to a request, which is over with it.
    Answer { id: RequestId, reply: HomeReply },
    /// The answer to a probe.
    Probe,
    /// A genuine answer to a probe which is not the one that a server that works gives: somebody whom nobody knows was not refused
    /// (R-85). It says nothing for the server.
    WrongProbe(Code),
    /// No such request waits there: late, twice, or forged.
    Unmatched,
    /// Not a packet, or not genuine.
    Dropped(DropReason),
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Send these octets again.
    Resend { socket: SocketNumber, octets: Arc<[u8]> },
    /// The window is over. The request is still waited for and sent again; who has another server may cancel it and ask
    /// there. Never said of a request bound to a State.
    Silent(RequestId),
    /// The request is over without an answer. `elsewhere`: another server may be asked, with a new Identifier, a new
    /// authenticator and a password hidden anew (R-82).
    GaveUp { id: RequestId, elsewhere: bool },
    /// Write a Status-Server, or an Access-Request that must be refused, for [`Home::room_for_probe`], then [`Home::probe`].
    Probe,
    /// For the log and the console.
    Became(HomeState),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HomeState {
    Alive,
    /// It leaves requests unanswered: used where nothing is alive.
    Zombie,
    Dead,
}

/// A source port of ours, or a connection: counted from 1 in the order of opening, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketNumber(pub u32);

/// What a reply is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    pub socket: SocketNumber,
    pub identifier: u8,
}

/// One request to one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

/// A request that is sent for the first time.
#[derive(Clone)]
pub struct Outgoing {
    pub octets: Arc<[u8]>,
    /// It carries the State of this server, so no other can answer it (R-52, R-82).
    pub bound: bool,
    /// No other server was asked before: the shorter window applies.
    pub first_try: bool,
}

impl Home {
    /// `port` is where its replies arrive: authentication or accounting.
    pub fn new(limits: HomeLimits, port: Port) -> Self {
        Self {
            limits,
            port,
            state: HomeState::Alive,
            timeouts: 0,
            heard: None,
            revives: None,
            sockets: BTreeSet::new(),
            last_socket: 0,
            free: VecDeque::new(),
            taken: HashMap::new(),
            waiting: HashMap::new(),
            timers: BTreeSet::new(),
            last_request: 0,
            probes: Probes::default(),
            outbox: VecDeque::new(),
        }
    }

    pub fn state(&self) -> HomeState {
        self.state
    }

    /// It has answered probes, and not enough of them yet.
    pub fn is_reviving(&self) -> bool {
        self.probes.answers > 0
    }

    /// Requests that wait for an answer. Probes do not count (R-84).
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn room(&self) -> Room {
        if self.state == HomeState::Dead { Room::Dead } else { self.place() }
    }

    fn place(&self) -> Room {
        match self.free.front() {
            Some(place) => Room::At(*place),
            None if self.sockets.len() < self.limits.sockets_max => Room::OpenSocket,
            None => Room::Full,
        }
    }

    /// Where a probe goes: to any free Identifier, on a connection always to 0 (RFC 6613 section 2.6.5).
    pub fn room_for_probe(&self) -> Room {
        match (self.limits.transport, self.sockets.first()) {
            (Transport::Udp, _) => self.place(),
            (Transport::Tls, Some(socket)) => Room::At(Place { socket: *socket, identifier: 0 }),
            (Transport::Tls, None) => Room::OpenSocket,
        }
    }

    pub fn socket_opened(&mut self) -> SocketNumber {
        self.last_socket += 1;
        let socket = SocketNumber(self.last_socket);
        self.sockets.insert(socket);
        let first = if self.limits.transport == Transport::Tls { 1 } else { 0 };
        self.free.extend((first..=u8::MAX).map(|identifier| Place { socket, identifier }));
        socket
    }

    /// A connection broke, or a socket did: what waits there is over (R-91).
    pub fn socket_closed(&mut self, socket: SocketNumber) {
        self.sockets.remove(&socket);
        let mut lost: Vec<_> =
            self.taken.iter().filter(|(place, _)| place.socket == socket).map(|(_, id)| *id).collect();
        lost.sort_unstable();
        lost.into_iter().for_each(|id| self.give_up(id));
        if self.probes.sent.as_ref().is_some_and(|probe| probe.place.socket == socket) {
            self.probes = Probes { sent: None, answers: 0, ..self.probes };
        }
        self.free.retain(|place| place.socket != socket);
    }

    /// The request has been written for `place` and is being sent there. None where that place is not the next free one any
    /// more or the octets are not written for it: then it must not be sent.
    #[must_use]
    pub fn send(&mut self, place: Place, request: Outgoing, now: Duration, random: u32) -> Option<RequestId> {
        let sent = Sent::of(&request.octets).filter(|sent| sent.identifier == place.identifier)?;
        if self.room() != Room::At(place) {
            return None;
        }
        self.free.pop_front();
        self.last_request += 1;
        let id = RequestId(self.last_request);
        let Retransmission { initial, duration_max, .. } = self.limits.retransmission;
        let window = if request.first_try { self.limits.first_response_window } else { self.limits.response_window };
        let wait = jittered(initial, random);
        let waiting = Waiting {
            place,
            sent,
            octets: request.octets,
            bound: request.bound,
            begun: now,
            times_sent: 1,
            wait,
            next_send: now + wait,
            window_ends: Some(now + window),
            gives_up: now + duration_max,
        };
        self.timers.insert((waiting.timer(), id));
        self.taken.insert(place, id);
        self.waiting.insert(id, waiting);
        Some(id)
    }

    /// Nobody wants the answer any more.
    pub fn cancel(&mut self, id: RequestId) {
        self.end(id);
    }

    /// A probe has been written for `place` and is being sent there. False as [`Home::send`] says None.
    #[must_use]
    pub fn probe(&mut self, place: Place, octets: &[u8], now: Duration) -> bool {
        let sent = Sent::of(octets).filter(|sent| sent.identifier == place.identifier);
        let (Some(sent), None, true) = (sent, &self.probes.sent, self.room_for_probe() == Room::At(place)) else {
            return false;
        };
        if self.limits.transport == Transport::Udp {
            self.free.pop_front();
        }
        let must_refuse = octets.first() == Some(&(Code::AccessRequest as u8));
        self.probes.sent = Some(Probe { place, sent, must_refuse, ends: now + self.limits.check_timeout });
        true
    }

    /// Octets came in on a socket of ours, from the server's address and port (the socket is connected to it).
    pub fn receive(
        &mut self,
        socket: SocketNumber,
        datagram: &[u8],
        secret: &Secret,
        rule: Rule,
        now: Duration,
    ) -> Heard {
        let packet = match self.parse(socket, datagram) {
            Ok(packet) => packet,
            Err(reason) => return Heard::Dropped(reason),
        };
        let place = Place { socket, identifier: packet.identifier() };
        let probe = self.probes.sent.as_ref().filter(|probe| probe.place == place);
        let request = self.taken.get(&place).and_then(|id| Some((*id, self.waiting.get(id)?)));
        let (sent, must_refuse) = match (probe, request) {
            (Some(probe), _) => (probe.sent, probe.must_refuse),
            (None, Some((_, waiting))) => (waiting.sent, false),
            (None, None) => return Heard::Unmatched,
        };
        let request = request.map(|(id, _)| id);
        let reply = match HomeReply::verify(&packet, sent, secret, rule) {
            Ok(reply) => reply,
            Err(reason) => return Heard::Dropped(reason),
        };
        if must_refuse && packet.code() != Code::AccessReject {
            self.forget_probe();
            self.probes.answers = 0;
            return Heard::WrongProbe(packet.code());
        }
        self.heard = Some(now);
        self.timeouts = 0;
        let Some(id) = request else {
            self.probe_answered();
            return Heard::Probe;
        };
        self.end(id);
        self.become_alive();
        Heard::Answer { id, reply }
    }

    /// A server that takes both kinds of request at one port, as by TLS, answers the probe of accounting with Access-Accept: it cannot
    /// tell what the probe is about (R-81, RFC 5997 section 4.2). As the answer to anything else that Code is none.
    fn parse<'a>(&self, socket: SocketNumber, datagram: &'a [u8]) -> Result<Packet<'a>, DropReason> {
        let packet = Packet::parse(datagram, self.port);
        let has_one_port = self.port == Port::AccountingReplies && self.limits.transport == Transport::Tls;
        if !has_one_port || !matches!(packet, Err(DropReason::Code)) {
            return packet;
        }
        let accept = Packet::parse(datagram, Port::AuthenticationReplies)?;
        let place = Place { socket, identifier: accept.identifier() };
        let is_of_probe = self.probes.sent.as_ref().is_some_and(|probe| probe.place == place);
        if accept.code() == Code::AccessAccept && is_of_probe { Ok(accept) } else { Err(DropReason::Code) }
    }

    /// What is due, one thing at a time: ask until nothing is. `random` is another one each time.
    pub fn due(&mut self, now: Duration, random: u32) -> Option<Due> {
        loop {
            if let Some(due) = self.outbox.pop_front() {
                return Some(due);
            }
            if let Some(&(at, id)) = self.timers.first()
                && at <= now
            {
                if let Some(due) = self.request_due(id, now, random) {
                    return Some(due);
                }
            } else if !self.server_due(now, random) {
                return None;
            }
        }
    }

    /// When [`Home::due`] has something to say next.
    pub fn next_deadline(&self) -> Option<Duration> {
        if !self.outbox.is_empty() {
            return Some(Duration::ZERO);
        }
        let request = self.timers.first().map(|(at, _)| *at);
        let probe = self.probes.sent.as_ref().map(|probe| probe.ends);
        [request, probe, self.probes.next, self.dies(), self.revives].into_iter().flatten().min()
    }

    fn request_due(&mut self, id: RequestId, now: Duration, random: u32) -> Option<Due> {
        let limits = self.limits.retransmission;
        let waiting = self.waiting.get_mut(&id).expect("a timer ends with its request");
        self.timers.remove(&(waiting.timer(), id));
        let begun = waiting.begun;
        let window_over = waiting.window_ends.is_some_and(|ends| ends <= now);
        if waiting.gives_up <= now || (waiting.next_send <= now && waiting.times_sent >= limits.count_max) {
            if waiting.window_ends.is_some() {
                self.timed_out(begun, now);
            }
            self.give_up(id);
            return None;
        }
        let due = if window_over {
            waiting.window_ends = None;
            (!waiting.bound).then_some(Due::Silent(id))
        } else {
            waiting.wait = (waiting.wait * 2).min(limits.wait_max);
            waiting.wait = jittered(waiting.wait, random);
            waiting.next_send = now + waiting.wait;
            waiting.times_sent += 1;
            // On a connection TCP does that (R-91).
            let resend = Due::Resend { socket: waiting.place.socket, octets: waiting.octets.clone() };
            (self.limits.transport == Transport::Udp).then_some(resend)
        };
        self.timers.insert((waiting.timer(), id));
        if window_over {
            self.timed_out(begun, now);
        }
        due
    }

    /// False where nothing was due.
    fn server_due(&mut self, now: Duration, random: u32) -> bool {
        let reached = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if reached(self.probes.sent.as_ref().map(|probe| probe.ends)) {
            self.probes.answers = 0;
            self.forget_probe();
        } else if reached(self.dies()) {
            self.die(now);
        } else if reached(self.revives) {
            self.become_alive();
        } else if reached(self.probes.next) {
            let jitter = self.limits.check_jitter.mul_f64(2.0 * fraction(random));
            self.probes.next =
                Some((now + self.limits.check_interval + jitter).saturating_sub(self.limits.check_jitter));
            if self.probes.sent.is_none() {
                self.outbox.push_back(Due::Probe);
            }
        } else {
            return false;
        }
        true
    }

    /// One lost request says little where the server has answered others since.
    fn timed_out(&mut self, begun: Duration, now: Duration) {
        if self.state != HomeState::Alive || self.heard.is_some_and(|heard| heard > begun) {
            return;
        }
        self.timeouts += 1;
        if self.timeouts < self.limits.response_timeouts {
            return;
        }
        self.heard = Some(now);
        if self.limits.status_check == StatusCheck::Probes {
            self.probes.answers = 0;
            self.probes.next = Some(now);
        }
        self.change(HomeState::Zombie);
    }

    fn dies(&self) -> Option<Duration> {
        let heard = self.heard.filter(|_| self.state == HomeState::Zombie)?;
        Some(heard + self.limits.zombie_period)
    }

    fn die(&mut self, now: Duration) {
        let mut lost: Vec<_> = self.waiting.keys().copied().collect();
        lost.sort_unstable();
        lost.into_iter().for_each(|id| self.give_up(id));
        if self.limits.status_check == StatusCheck::None {
            self.revives = Some(now + self.limits.revive_interval);
        }
        self.change(HomeState::Dead);
    }

    fn probe_answered(&mut self) {
        self.forget_probe();
        self.probes.answers += 1;
        if self.probes.answers >= self.limits.answers_to_alive {
            self.become_alive();
        }
    }

    fn become_alive(&mut self) {
        self.timeouts = 0;
        if self.state != HomeState::Alive {
            self.revives = None;
            self.probes.next = None;
            self.change(HomeState::Alive);
        }
    }

    fn change(&mut self, state: HomeState) {
        self.state = state;
        self.outbox.push_back(Due::Became(state));
    }

    fn give_up(&mut self, id: RequestId) {
        if let Some(waiting) = self.end(id) {
            self.outbox.push_back(Due::GaveUp { id, elsewhere: !waiting.bound });
        }
    }

    fn end(&mut self, id: RequestId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.timers.remove(&(waiting.timer(), id));
        self.taken.remove(&waiting.place);
        self.release(waiting.place);
        Some(waiting)
    }

    fn forget_probe(&mut self) {
        if let Some(probe) = self.probes.sent.take()
            && self.limits.transport == Transport::Udp
        {
            self.release(probe.place);
        }
    }

    /// To the end of the queue: a late answer should find its Identifier unused as long as possible.
    fn release(&mut self, place: Place) {
        if self.sockets.contains(&place.socket) {
            self.free.push_back(place);
        }
    }
}

/// The server for a new conversation, or for the next try: the first that is alive, a zombie where nothing is alive, never a
/// dead one (R-80, R-81). `tried` are those that were asked already.
pub fn choose(states: &[HomeState], tried: &[usize]) -> Option<usize> {
    let any_alive = states.contains(&HomeState::Alive);
    let wanted = if any_alive { HomeState::Alive } else { HomeState::Zombie };
    (0..).zip(states).find(|(index, state)| **state == wanted && !tried.contains(index)).map(|(index, _)| index)
}

/// The settings of R-81 and R-82.
#[derive(Debug, Clone, Copy)]
pub struct HomeLimits {
    pub transport: Transport,
    /// Each has 256 Identifiers.
    pub sockets_max: usize,
    pub retransmission: Retransmission,
    /// How long an answer may take before the server is suspected.
    pub response_window: Duration,
    /// The same for a request that no other server has had: there is time to ask another.
    pub first_response_window: Duration,
    /// So many windows without any sign of life make a zombie.
    pub response_timeouts: u32,
    /// So long a silence makes a zombie dead.
    pub zombie_period: Duration,
    pub status_check: StatusCheck,
    pub check_interval: Duration,
    /// The interval is so much longer or shorter, at random.
    pub check_jitter: Duration,
    pub check_timeout: Duration,
    /// So many probes answered in a row bring it back.
    pub answers_to_alive: u32,
    /// How long a dead server is left alone, where it is not probed.
    pub revive_interval: Duration,
}

impl Default for HomeLimits {
    fn default() -> Self {
        Self {
            transport: Transport::Udp,
            sockets_max: 16,
            retransmission: Retransmission::default(),
            response_window: Duration::from_secs(20),
            first_response_window: Duration::from_secs(5),
            response_timeouts: 1,
            zombie_period: Duration::from_secs(40),
            status_check: StatusCheck::Probes,
            check_interval: Duration::from_secs(30),
            check_jitter: Duration::from_secs(2),
            check_timeout: Duration::from_secs(4),
            answers_to_alive: 3,
            revive_interval: Duration::from_secs(120),
        }
    }
}

/// How it is found out whether a silent server is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusCheck {
    /// By Status-Server, or by somebody who must be refused.
    Probes,
    /// Not at all: it is tried again after the revive interval.
    None,
}

/// RFC 5080 section 2.2.1: each wait twice the one before, 10 % more or less at random.
#[derive(Debug, Clone, Copy)]
pub struct Retransmission {
    /// IRT
    pub initial: Duration,
    /// MRT
    pub wait_max: Duration,
    /// MRC: sent so often, the first time included.
    pub count_max: u32,
    /// MRD: and no longer than that.
    pub duration_max: Duration,
}

impl Default for Retransmission {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(2),
            wait_max: Duration::from_secs(16),
            count_max: 5,
            duration_max: Duration::from_secs(30),
        }
    }
}

/// 90 to 110 %.
fn jittered(wait: Duration, random: u32) -> Duration {
    wait.mul_f64(0.9 + 0.2 * fraction(random))
}

/// 0 to 1.
fn fraction(random: u32) -> f64 {
    f64::from(random) / f64::from(u32::MAX)
}

struct Waiting {
    place: Place,
    sent: Sent,
    octets: Arc<[u8]>,
    bound: bool,
    begun: Duration,
    times_sent: u32,
    wait: Duration,
    next_send: Duration,
    /// None once it is over.
    window_ends: Option<Duration>,
    gives_up: Duration,
}

impl Waiting {
    fn timer(&self) -> Duration {
        let send = self.next_send.min(self.gives_up);
        self.window_ends.map_or(send, |ends| ends.min(send))
    }
}

#[derive(Default)]
struct Probes {
    next: Option<Duration>,
    sent: Option<Probe>,
    answers: u32,
}

/// Sent once (R-84).
struct Probe {
    place: Place,
    sent: Sent,
    /// An Access-Request, and no Status-Server.
    must_refuse: bool,
    ends: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attribute, AttributeType, Reply, Request, RequestCode, Rules, verify_request};

    const MIDDLE: u32 = u32::MAX / 2; // no jitter, to a nanosecond or so

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn secret() -> Secret {
        Secret::new("xyzzy5461").expect("not empty")
    }

    fn request(code: RequestCode, identifier: u8, number: u64) -> Vec<u8> {
        let mut authenticator = [1; 16];
        authenticator[..8].copy_from_slice(&number.to_be_bytes());
        let attributes = [Attribute { kind: AttributeType::USER_NAME, value: b"nemo" }];
        Request { code, identifier, authenticator, attributes: &attributes, password: None }
            .write(&secret())
            .expect("it fits")
    }

    fn answer(request: &[u8]) -> Vec<u8> {
        let secret = secret();
        let packet = Packet::parse(request, Port::Authentication).expect("well formed");
        let verified = verify_request(packet, (&secret).into(), Rules::default()).unwrap_or_else(|r| panic!("{r}"));
        Reply::Accept { attributes: &[], message: "" }.write(&verified).expect("it fits")
    }

    /// A server and what is needed to talk to it.
    struct Talk {
        home: Home,
        number: u64,
    }

    struct Talked {
        id: RequestId,
        place: Place,
        octets: Vec<u8>,
    }

    impl Talk {
        fn new(limits: HomeLimits) -> Self {
            Self::at_port(limits, Port::AuthenticationReplies)
        }

        fn at_port(limits: HomeLimits, port: Port) -> Self {
            Self { home: Home::new(limits, port), number: 0 }
        }

        fn place(&mut self, room: impl Fn(&Home) -> Room) -> Place {
            loop {
                match room(&self.home) {
                    Room::At(place) => return place,
                    Room::OpenSocket => self.home.socket_opened(),
                    other => panic!("no room: {other:?}"),
                };
            }
        }

        fn ask(&mut self, now: u64) -> Talked {
            self.ask_as(now, false, true)
        }

        fn ask_as(&mut self, now: u64, bound: bool, first_try: bool) -> Talked {
            let place = self.place(Home::room);
            self.number += 1;
            let octets = request(RequestCode::AccessRequest, place.identifier, self.number);
            let outgoing = Outgoing { octets: octets.clone().into(), bound, first_try };
            let id = self.home.send(place, outgoing, at(now), MIDDLE).expect("there is room");
            Talked { id, place, octets }
        }

        fn probe(&mut self, now: u64) -> (Place, Vec<u8>) {
            let place = self.place(Home::room_for_probe);
            self.number += 1;
            let octets = request(RequestCode::StatusServer, place.identifier, self.number);
            assert!(self.home.probe(place, &octets, at(now)));
            (place, octets)
        }

        fn receive(&mut self, socket: SocketNumber, octets: &[u8], now: u64) -> Heard {
            self.home.receive(socket, octets, &secret(), Rule::Yes, at(now))
        }

        fn due(&mut self, now: u64) -> Vec<Due> {
            let now = at(now) + Duration::from_millis(1); // what rounding took from a jittered wait
            std::iter::from_fn(|| self.home.due(now, MIDDLE)).collect()
        }

        /// Until the server is a zombie: at 5 s.
        fn zombie(&mut self) -> Talked {
            let asked = self.ask(0);
            self.due(4);
            assert!(self.due(5).contains(&Due::Became(HomeState::Zombie)));
            asked
        }
    }

    fn is_answer(heard: &Heard, expected: RequestId) -> bool {
        matches!(heard, Heard::Answer { id, .. } if *id == expected)
    }

    #[test]
    fn a_request_is_sent_again_by_the_schedule_with_the_same_octets() {
        // R-82: 0, 2, 6, 14 s and over at 30 s; the fifth would come then.
        let mut talk = Talk::new(HomeLimits::default());
        let asked = talk.ask_as(0, false, false);
        let resend = Due::Resend { socket: asked.place.socket, octets: asked.octets.into() };
        let mut found = Vec::new();
        for second in 0..=40 {
            found.extend(talk.due(second).into_iter().map(|due| (second, due)));
        }
        found.retain(|(_, due)| *due != Due::Probe);
        let expected = [
            (2, resend.clone()),
            (6, resend.clone()),
            (14, resend),
            (20, Due::Silent(asked.id)),
            (20, Due::Became(HomeState::Zombie)),
            (30, Due::GaveUp { id: asked.id, elsewhere: true }),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn waits_differ_by_ten_percent_at_most() {
        // R-82
        for (random, milliseconds) in [(0, 1800), (MIDDLE, 2000), (u32::MAX, 2200)] {
            let found = jittered(at(2), random);
            assert!(found.abs_diff(Duration::from_millis(milliseconds)) < Duration::from_millis(1), "{found:?}");
        }
    }

    #[test]
    fn no_request_is_sent_more_than_five_times() {
        // R-82: MRC, where the waits would allow more.
        let retransmission = Retransmission { initial: at(1), wait_max: at(1), ..Retransmission::default() };
        let mut talk = Talk::new(HomeLimits { retransmission, ..HomeLimits::default() });
        let asked = talk.ask_as(0, false, false);
        let all: Vec<_> =
            (0..=40).flat_map(|second| talk.due(second).into_iter().map(move |due| (second, due))).collect();
        let resends = all.iter().filter(|(_, due)| matches!(due, Due::Resend { .. })).count();
        let gave_up = all.iter().find(|(_, due)| *due == Due::GaveUp { id: asked.id, elsewhere: true });
        assert_eq!((resends, gave_up.map(|(second, _)| *second)), (4, Some(5)));
    }

    #[test]
    fn only_the_right_answer_ends_a_request_and_only_once() {
        // B-15, R-83
        let mut talk = Talk::new(HomeLimits::default());
        let (asked, other) = (talk.ask(0), talk.ask(0));
        let (socket, good) = (asked.place.socket, answer(&asked.octets));
        let wrong_identifier = {
            let mut octets = good.clone();
            octets[1] = other.place.identifier;
            octets
        };
        let wrong_authenticator = {
            let mut octets = good.clone();
            octets[4] ^= 1;
            octets
        };
        let unasked = {
            let mut octets = good.clone();
            octets[1] = 99;
            octets
        };
        assert!(matches!(talk.receive(socket, &wrong_identifier, 1), Heard::Dropped(DropReason::MaBad)));
        assert!(matches!(talk.receive(socket, &wrong_authenticator, 1), Heard::Dropped(DropReason::RaBad)));
        assert!(matches!(talk.receive(socket, &unasked, 1), Heard::Unmatched));
        assert!(matches!(talk.receive(SocketNumber(9), &good, 1), Heard::Unmatched));
        assert!(matches!(talk.receive(socket, &good[..19], 1), Heard::Dropped(DropReason::Short)));
        assert!(matches!(talk.receive(socket, &asked.octets, 1), Heard::Dropped(DropReason::Code)));
        assert_eq!(talk.home.waiting(), 2);
        assert!(is_answer(&talk.receive(socket, &good, 1), asked.id));
        assert!(matches!(talk.receive(socket, &good, 1), Heard::Unmatched), "twice");
        assert_eq!(talk.home.waiting(), 1);
    }

    #[test]
    fn a_late_answer_is_nothing_and_marks_nothing_alive() {
        // B-15, R-83
        let mut talk = Talk::new(HomeLimits::default());
        let asked = talk.zombie();
        talk.home.cancel(asked.id);
        let before = (talk.home.state(), talk.home.dies());
        assert!(matches!(talk.receive(asked.place.socket, &answer(&asked.octets), 6), Heard::Unmatched));
        assert_eq!((talk.home.state(), talk.home.dies()), before);
    }

    #[test]
    fn an_unsigned_answer_is_taken_only_where_the_rule_allows_it() {
        // R-12, B-14: the authenticator is right, the Message-Authenticator is missing.
        let mut talk = Talk::new(HomeLimits::default());
        let asked = talk.ask(0);
        let (socket, sent) = (asked.place.socket, Sent::of(&asked.octets).expect("a packet"));
        let unsigned = crate::write::AttributeOctets::default()
            .into_unsigned_reply(2, sent.identifier, &sent.authenticator, &secret())
            .expect("it fits");
        assert!(matches!(talk.receive(socket, &unsigned, 1), Heard::Dropped(DropReason::MaMissing)));
        assert_eq!(talk.home.waiting(), 1);
        assert!(is_answer(&talk.home.receive(socket, &unsigned, &secret(), Rule::No, at(1)), asked.id));
    }

    #[test]
    fn an_identifier_is_used_again_as_late_as_possible_and_more_sockets_are_opened() {
        // R-83: 256 on each socket.
        let mut talk = Talk::new(HomeLimits { sockets_max: 2, ..HomeLimits::default() });
        let first = talk.ask(0);
        talk.home.cancel(first.id);
        let rest: Vec<_> = (0..255).map(|_| talk.ask(0)).collect();
        assert!(rest.iter().all(|asked| asked.place != first.place));
        assert_eq!(talk.ask(0).place, first.place, "the only one that is free");
        assert_eq!(talk.home.room(), Room::OpenSocket);
        let second: Vec<_> = (0..256).map(|_| talk.ask(0)).collect();
        assert!(second.iter().all(|asked| asked.place.socket == SocketNumber(2)));
        assert_eq!((talk.home.room(), talk.home.waiting()), (Room::Full, 512));
        talk.home.cancel(second[7].id);
        assert_eq!(talk.home.room(), Room::At(second[7].place));
    }

    #[test]
    fn octets_written_for_another_place_are_not_taken() {
        let mut talk = Talk::new(HomeLimits::default());
        let place = talk.place(Home::room);
        let outgoing = |identifier| Outgoing {
            octets: request(RequestCode::AccessRequest, identifier, 1).into(),
            bound: false,
            first_try: true,
        };
        assert_eq!(talk.home.send(place, outgoing(1), at(0), 0), None);
        let other = Place { identifier: 1, ..place };
        assert_eq!(talk.home.send(other, outgoing(1), at(0), 0), None);
        assert!(talk.home.send(place, outgoing(0), at(0), 0).is_some());
        assert_eq!(talk.home.send(place, outgoing(0), at(0), 0), None, "it is taken");
    }

    #[test]
    fn a_silent_server_is_a_zombie_then_dead_and_three_probes_bring_it_back() {
        // R-81: 5 s, 40 s, then probes about every 30 s.
        let mut talk = Talk::new(HomeLimits::default());
        let asked = talk.ask(0);
        talk.due(2);
        let silent = talk.due(5);
        assert_eq!(silent, [Due::Silent(asked.id), Due::Became(HomeState::Zombie), Due::Probe]);
        talk.probe(5);
        assert_eq!(talk.due(10).len(), 1, "sent again, and the probe is lost");
        assert_eq!(talk.due(30).last(), Some(&Due::GaveUp { id: asked.id, elsewhere: true }));
        assert_eq!(talk.due(36), [Due::Probe]);
        talk.probe(36);
        assert_eq!(talk.due(46), [Due::Became(HomeState::Dead)]);
        assert_eq!(talk.home.room(), Room::Dead);
        for (second, state) in [(67, HomeState::Dead), (98, HomeState::Dead), (129, HomeState::Alive)] {
            assert_eq!(talk.due(second), [Due::Probe]);
            let (place, octets) = talk.probe(second);
            assert!(matches!(talk.receive(place.socket, &answer(&octets), second), Heard::Probe));
            assert_eq!(talk.home.state(), state);
        }
        assert_eq!(talk.due(300), [Due::Became(HomeState::Alive)]);
        assert_eq!(talk.home.next_deadline(), None, "who is alive is not probed");
    }

    #[test]
    fn accounting_by_tls_is_back_when_three_probes_are_answered_with_access_accept() {
        // R-81, R-86: one port for both kinds of request; by UDP, and as the answer to a report, it is none
        for (transport, comes_back) in [(Transport::Tls, true), (Transport::Udp, false)] {
            let mut talk = Talk::at_port(HomeLimits { transport, ..HomeLimits::default() }, Port::AccountingReplies);
            let asked = talk.zombie();
            let accept = talk.receive(asked.place.socket, &answer(&asked.octets), 6);
            assert!(matches!(accept, Heard::Dropped(DropReason::Code)), "it is no report that it answers");
            assert_eq!(talk.home.state(), HomeState::Zombie);
            for second in [30, 46] {
                talk.due(second);
            }
            assert_eq!(talk.home.state(), HomeState::Dead);
            for second in [67, 98, 129] {
                assert_eq!(talk.home.state(), HomeState::Dead);
                talk.due(second);
                let (place, octets) = talk.probe(second);
                let heard = talk.receive(place.socket, &answer(&octets), second);
                assert_eq!(matches!(heard, Heard::Probe), comes_back);
                assert_eq!(matches!(heard, Heard::Dropped(DropReason::Code)), !comes_back);
            }
            assert_eq!(talk.home.state(), if comes_back { HomeState::Alive } else { HomeState::Dead });
        }
    }

    #[test]
    fn who_lets_in_somebody_who_must_be_refused_is_not_back() {
        // R-85: an Accept, or a question, counts as no answer, and those before it do not count either
        let mut talk = Talk::new(HomeLimits::default());
        let asked = talk.zombie();
        talk.home.cancel(asked.id);
        let refused = |octets: &[u8]| {
            let secret = secret();
            let packet = Packet::parse(octets, Port::Authentication).expect("well formed");
            let verified = verify_request(packet, (&secret).into(), Rules::default()).expect("genuine");
            Reply::Reject { message: "" }.write(&verified).expect("it fits")
        };
        for (number, refuses) in [true, true, false, true, true, true].into_iter().enumerate() {
            let now = 5 + number as u64 * 31;
            talk.due(now);
            assert_ne!(talk.home.state(), HomeState::Alive);
            let place = talk.place(Home::room_for_probe);
            let octets = request(RequestCode::AccessRequest, place.identifier, 900 + now);
            assert!(talk.home.probe(place, &octets, at(now)));
            let heard = match refuses {
                true => talk.receive(place.socket, &refused(&octets), now),
                false => talk.receive(place.socket, &answer(&octets), now),
            };
            match refuses {
                true => assert!(matches!(heard, Heard::Probe)),
                false => assert!(matches!(heard, Heard::WrongProbe(Code::AccessAccept))),
            }
        }
        assert_eq!(talk.home.state(), HomeState::Alive);
    }

    #[test]
    fn probes_answered_must_be_answered_in_a_row() {
        // R-81, R-84: each with another Identifier, none sent twice.
        let mut talk = Talk::new(HomeLimits::default());
        let asked = talk.zombie();
        talk.home.cancel(asked.id);
        let (mut now, mut places) = (5, Vec::new());
        for answered in [true, true, false, true, true, true] {
            assert_ne!(talk.home.state(), HomeState::Alive);
            let (place, octets) = talk.probe(now);
            places.push(place.identifier);
            assert_eq!(talk.due(now + 3).iter().filter(|due| matches!(due, Due::Resend { .. })).count(), 0);
            if answered {
                assert!(matches!(talk.receive(place.socket, &answer(&octets), now + 3), Heard::Probe));
            }
            now += 31;
            talk.due(now);
        }
        assert_eq!(talk.home.state(), HomeState::Alive);
        assert_eq!(places, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_zombie_that_answers_a_request_is_alive() {
        // R-81
        let mut talk = Talk::new(HomeLimits::default());
        let asked = talk.zombie();
        assert!(is_answer(&talk.receive(asked.place.socket, &answer(&asked.octets), 6), asked.id));
        assert_eq!((talk.home.state(), talk.due(100)), (HomeState::Alive, vec![Due::Became(HomeState::Alive)]));
    }

    #[test]
    fn one_lost_request_is_no_reason_to_suspect_who_answers_others() {
        let mut talk = Talk::new(HomeLimits::default());
        let _lost = talk.ask(0);
        let other = talk.ask(1);
        talk.receive(other.place.socket, &answer(&other.octets), 2);
        let all: Vec<_> = (2..60).flat_map(|second| talk.due(second)).collect();
        assert!(!all.iter().any(|due| matches!(due, Due::Became(_) | Due::Probe)), "{all:?}");
    }

    #[test]
    fn death_gives_back_what_waited_and_without_probes_time_brings_it_back() {
        // R-81, R-82: what is bound to a State goes nowhere else.
        let limits = HomeLimits { status_check: StatusCheck::None, ..HomeLimits::default() };
        let mut talk = Talk::new(limits);
        talk.zombie();
        talk.due(31);
        let (free, bound) = (talk.ask_as(40, false, false), talk.ask_as(40, true, false));
        talk.due(42);
        let expected = [
            Due::GaveUp { id: free.id, elsewhere: true },
            Due::GaveUp { id: bound.id, elsewhere: false },
            Due::Became(HomeState::Dead),
        ];
        assert_eq!(talk.due(45).into_iter().rev().take(3).rev().collect::<Vec<_>>(), expected);
        assert_eq!((talk.home.waiting(), talk.home.room()), (0, Room::Dead));
        assert_eq!(talk.due(164), []);
        assert_eq!(talk.due(165), [Due::Became(HomeState::Alive)]);
        assert!(matches!(talk.home.room(), Room::At(_)));
    }

    #[test]
    fn what_is_bound_to_a_state_is_never_offered_to_another_server() {
        // R-82
        let mut talk = Talk::new(HomeLimits::default());
        let asked = talk.ask_as(0, true, true);
        let all: Vec<_> = (0..=30).flat_map(|second| talk.due(second)).collect();
        assert!(!all.contains(&Due::Silent(asked.id)));
        assert!(all.contains(&Due::GaveUp { id: asked.id, elsewhere: false }));
        assert!(all.contains(&Due::Became(HomeState::Zombie)));
    }

    #[test]
    fn on_a_connection_nothing_is_sent_twice_and_its_end_is_the_end_of_all_on_it() {
        // R-91: Identifier 0 is kept for the watchdog.
        let mut talk = Talk::new(HomeLimits { transport: Transport::Tls, sockets_max: 1, ..HomeLimits::default() });
        let asked: Vec<_> = (0..255).map(|_| talk.ask_as(0, false, false)).collect();
        assert!(asked.iter().all(|asked| asked.place.identifier != 0));
        assert_eq!((talk.home.room(), talk.due(15)), (Room::Full, vec![]));
        let (place, octets) = talk.probe(15);
        assert_eq!(place.identifier, 0);
        assert!(matches!(talk.receive(place.socket, &answer(&octets), 15), Heard::Probe));
        talk.probe(15);
        talk.home.socket_closed(place.socket);
        let gave_up: Vec<_> = asked.iter().map(|asked| Due::GaveUp { id: asked.id, elsewhere: true }).collect();
        assert_eq!(talk.due(15), gave_up);
        assert!(matches!(talk.receive(place.socket, &answer(&asked[0].octets), 15), Heard::Unmatched));
        assert_eq!((talk.home.room(), talk.home.next_deadline()), (Room::OpenSocket, None));
        assert_eq!(talk.ask(15).place, Place { socket: SocketNumber(2), identifier: 1 });
    }

    #[test]
    fn the_first_alive_is_asked_and_a_zombie_only_where_nothing_lives() {
        // R-80, R-81
        use HomeState::{Alive, Dead, Zombie};
        for (states, tried, expected) in [
            (&[Alive, Alive][..], &[][..], Some(0)),
            (&[Zombie, Alive], &[], Some(1)),
            (&[Dead, Zombie, Alive], &[], Some(2)),
            (&[Dead, Zombie, Zombie], &[], Some(1)),
            (&[Dead, Dead], &[], None),
            (&[], &[], None),
            (&[Alive, Zombie, Alive], &[0], Some(2)),
            (&[Alive, Zombie], &[0], None),
            (&[Zombie, Zombie], &[0], Some(1)),
        ] {
            assert_eq!(choose(states, tried), expected, "{states:?} {tried:?}");
        }
    }
}
