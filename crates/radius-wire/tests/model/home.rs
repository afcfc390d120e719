//! A home server and its network, driven by octets: two a step, what happens and to which. Shared by the property test and
//! the fuzz target. The model knows what was sent and what has become of it.

use radius_wire::{
    Code, Due, Heard, Home, HomeLimits, HomeState, Outgoing, Packet, Place, Port, Reply, Request, RequestCode,
    RequestId, Room, Rule, Rules, Secret, SocketNumber, StatusCheck, Transport, verify_request,
};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

pub fn run(input: &[u8]) {
    let Some((&kind, steps)) = input.split_first() else { return };
    let mut model = Model::new(kind);
    for step in steps.chunks_exact(2).take(400) {
        model.step(step[0], step[1]);
        model.check();
    }
}

struct Model {
    home: Home,
    limits: HomeLimits,
    now: Duration,
    random: u32,
    number: u64,
    state: HomeState,
    sockets: Vec<SocketNumber>,
    open: BTreeMap<RequestId, Asked>,
    ended: HashSet<RequestId>,
    /// Requests that are over, whose answers come too late.
    late: Vec<Asked>,
    /// Probes are logins that must be refused, and not Status-Server.
    by_name: bool,
    /// The last one sent, and when it is given up.
    probe: Option<(Place, Vec<u8>, Duration)>,
    probe_authenticators: HashSet<Vec<u8>>,
}

#[derive(Clone)]
struct Asked {
    place: Place,
    octets: Vec<u8>,
    bound: bool,
    begun: Duration,
    times_sent: u32,
}

impl Model {
    fn new(kind: u8) -> Self {
        let limits = HomeLimits {
            transport: if kind & 1 == 0 { Transport::Udp } else { Transport::Tls },
            status_check: if kind & 2 == 0 { StatusCheck::Probes } else { StatusCheck::None },
            response_timeouts: u32::from(kind >> 2 & 1) + 1,
            sockets_max: usize::from(kind >> 3 & 1) + 1,
            ..HomeLimits::default()
        };
        Self {
            home: Home::new(limits, Port::AuthenticationReplies),
            limits,
            now: Duration::from_secs(1000),
            random: u32::from(kind),
            number: 0,
            state: HomeState::Alive,
            sockets: Vec::new(),
            open: BTreeMap::new(),
            ended: HashSet::new(),
            late: Vec::new(),
            by_name: kind >> 4 & 1 == 1,
            probe: None,
            probe_authenticators: HashSet::new(),
        }
    }

    fn step(&mut self, what: u8, which: u8) {
        match what % 8 {
            0 => self.ask(which),
            1 => self.ask_many(which),
            2 => self.answer(which),
            3 => self.forge(which),
            4 => self.tick(which),
            5 => self.answer_probe(which),
            6 => {
                if let Some(id) = self.pick(which) {
                    self.home.cancel(id);
                    self.over(id);
                }
            }
            _ => self.close(which),
        }
    }

    fn check(&mut self) {
        assert_eq!(self.home.waiting(), self.open.len(), "nothing that waits is ever lost");
        if self.home.state() == HomeState::Dead {
            self.say(); // what death has ended may not be said yet
            assert!(self.open.is_empty(), "a dead server gets nothing but probes");
            assert_eq!(self.home.room(), Room::Dead);
        }
    }

    fn ask(&mut self, which: u8) {
        let place = match self.home.room() {
            Room::At(place) => place,
            Room::OpenSocket => {
                assert!(self.sockets.len() < self.limits.sockets_max);
                self.sockets.push(self.home.socket_opened());
                return;
            }
            Room::Full => {
                let of_one = if self.limits.transport == Transport::Tls { 255 } else { 256 };
                assert!(self.open.len() + 1 >= self.limits.sockets_max * of_one, "full, but one may be a probe");
                return;
            }
            Room::Dead => return assert_eq!(self.home.state(), HomeState::Dead),
        };
        assert!(self.sockets.contains(&place.socket));
        assert!(self.open.values().all(|asked| asked.place != place), "an Identifier in use");
        let of_probe = self.probe.as_ref().is_some_and(|(probe, _, ends)| *probe == place && *ends > self.now);
        assert!(!of_probe, "the Identifier of a probe");
        let (octets, bound) = (self.request(RequestCode::AccessRequest, place), which & 1 == 1);
        let outgoing = Outgoing { octets: octets.clone().into(), bound, first_try: which & 2 == 2 };
        let random = self.random();
        let id = self.home.send(place, outgoing, self.now, random).expect("there was room");
        assert!(!self.ended.contains(&id));
        let asked = Asked { place, octets, bound, begun: self.now, times_sent: 1 };
        assert!(self.open.insert(id, asked).is_none());
    }

    fn ask_many(&mut self, which: u8) {
        (0..which / 2).for_each(|_| self.ask(which));
    }

    fn answer(&mut self, which: u8) {
        let Some(id) = self.pick(which) else { return };
        let asked = self.open[&id].clone();
        let octets = reply(&asked.octets);
        match self.receive(asked.place.socket, &octets) {
            Heard::Answer { id: found, reply } => {
                assert_eq!((found, reply.packet().octets()), (id, octets.as_slice()));
            }
            _ => panic!("a genuine answer was not taken"),
        }
        self.over(id);
        assert_eq!(self.home.state(), HomeState::Alive);
        self.say();
        self.changes_nothing(asked.place.socket, &octets); // twice
    }

    /// What is late, for another, on another socket, altered or signed by somebody else.
    fn forge(&mut self, which: u8) {
        if let Some(late) = self.late.get(usize::from(which) % self.late.len().max(1)).cloned() {
            self.changes_nothing(late.place.socket, &reply(&late.octets));
        }
        let Some(id) = self.pick(which) else { return };
        let Asked { place, octets, .. } = self.open[&id].clone();
        let mut answer = reply(&octets);
        self.changes_nothing(SocketNumber(u32::MAX), &answer);
        self.changes_nothing(place.socket, &octets);
        let at = usize::from(which) % answer.len();
        answer[at] ^= which | 1;
        self.changes_nothing(place.socket, &answer);
    }

    fn changes_nothing(&mut self, socket: SocketNumber, octets: &[u8]) {
        let look =
            |home: &Home| (home.state(), home.waiting(), home.next_deadline(), home.room(), home.room_for_probe());
        let before = look(&self.home);
        assert!(matches!(self.receive(socket, octets), Heard::Unmatched | Heard::Dropped(_)));
        assert_eq!(look(&self.home), before);
    }

    fn receive(&mut self, socket: SocketNumber, octets: &[u8]) -> Heard {
        self.home.receive(socket, octets, &secret(), Rule::Yes, self.now)
    }

    fn tick(&mut self, which: u8) {
        self.now += match which {
            0..200 => Duration::from_millis(u64::from(which) * 20),
            _ => Duration::from_secs(u64::from(which - 200)),
        };
        self.say();
        assert!(self.home.next_deadline().is_none_or(|at| at > self.now), "what was due was said");
    }

    /// All that is due now.
    fn say(&mut self) {
        loop {
            let random = self.random();
            let Some(due) = self.home.due(self.now, random) else { return };
            match due {
                Due::Resend { socket, octets } => self.resent(socket, &octets),
                Due::Silent(id) => assert!(!self.open[&id].bound),
                Due::GaveUp { id, elsewhere } => {
                    assert_eq!(elsewhere, !self.open[&id].bound);
                    self.over(id);
                }
                Due::Probe => self.send_probe(),
                Due::Became(state) => {
                    assert!(state != self.state && (self.state, state) != (HomeState::Alive, HomeState::Dead));
                    assert_ne!((self.state, state), (HomeState::Dead, HomeState::Zombie));
                    self.state = state;
                }
            }
        }
    }

    fn resent(&mut self, socket: SocketNumber, octets: &[u8]) {
        assert_eq!(self.limits.transport, Transport::Udp);
        let (now, limits) = (self.now, self.limits.retransmission);
        let mut same = self.open.values_mut().filter(|asked| asked.octets == octets);
        let asked = same.next().expect("only what waits is sent again, octet for octet");
        asked.times_sent += 1;
        assert_eq!(asked.place.socket, socket);
        assert!(asked.times_sent <= limits.count_max && now < asked.begun + limits.duration_max);
    }

    fn send_probe(&mut self) {
        assert_eq!(self.limits.status_check, StatusCheck::Probes);
        let place = match self.home.room_for_probe() {
            Room::At(place) => place,
            Room::OpenSocket => {
                self.sockets.push(self.home.socket_opened());
                let Room::At(place) = self.home.room_for_probe() else { panic!("a new socket has room") };
                place
            }
            Room::Full => return,
            Room::Dead => panic!("who is dead is probed"),
        };
        assert!(self.open.values().all(|asked| asked.place != place));
        let code = if self.by_name { RequestCode::AccessRequest } else { RequestCode::StatusServer };
        let octets = self.request(code, place);
        assert!(self.probe_authenticators.insert(octets[4..20].to_vec()), "each with an authenticator of its own");
        assert!(self.home.probe(place, &octets, self.now));
        assert!(!self.home.probe(place, &octets, self.now), "one at a time");
        self.probe = Some((place, octets, self.now + self.limits.check_timeout));
    }

    fn answer_probe(&mut self, which: u8) {
        let Some((place, octets, ends)) = self.probe.take() else { return };
        let refuses = which & 1 == 1;
        let octets = if refuses { refusal(&octets) } else { reply(&octets) };
        if ends > self.now && self.sockets.contains(&place.socket) {
            let state = self.home.state();
            match self.receive(place.socket, &octets) {
                Heard::Probe => assert!(refuses || !self.by_name),
                Heard::WrongProbe(code) => {
                    assert!(self.by_name && code == Code::AccessAccept);
                    assert_eq!(self.home.state(), state, "it has not shown that it works");
                }
                _ => panic!("a genuine answer to a probe was not taken"),
            }
            self.say();
        }
        self.changes_nothing(place.socket, &octets); // late, or twice
    }

    fn close(&mut self, which: u8) {
        if self.sockets.is_empty() {
            return;
        }
        let socket = self.sockets.remove(usize::from(which) % self.sockets.len());
        self.home.socket_closed(socket);
        self.say();
        assert!(self.open.values().all(|asked| asked.place.socket != socket));
    }

    fn pick(&self, which: u8) -> Option<RequestId> {
        self.open.keys().nth(usize::from(which) % self.open.len().max(1)).copied()
    }

    fn over(&mut self, id: RequestId) {
        self.late.push(self.open.remove(&id).expect("it ends once"));
        assert!(self.ended.insert(id));
    }

    fn request(&mut self, code: RequestCode, place: Place) -> Vec<u8> {
        self.number += 1;
        let mut authenticator = [7; 16];
        authenticator[..8].copy_from_slice(&self.number.to_be_bytes());
        let request = Request { code, identifier: place.identifier, authenticator, attributes: &[], password: None };
        request.write(&secret()).expect("it fits")
    }

    fn random(&mut self) -> u32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.random
    }
}

fn secret() -> Secret {
    Secret::new("xyzzy5461").expect("not empty")
}

/// What a home server answers.
fn reply(request: &[u8]) -> Vec<u8> {
    answered(request, Reply::Accept { attributes: &[], message: "" })
}

/// What it answers about somebody whom nobody knows; to Status-Server nobody says so, and it is an answer all the same.
fn refusal(request: &[u8]) -> Vec<u8> {
    answered(request, Reply::Reject { message: "" })
}

fn answered(request: &[u8], reply: Reply<'_>) -> Vec<u8> {
    let secret = secret();
    let packet = Packet::parse(request, Port::Authentication).expect("well formed");
    let verified =
        verify_request(packet, (&secret).into(), Rules::default()).unwrap_or_else(|reason| panic!("{reason}"));
    reply.write(&verified).expect("it fits")
}
