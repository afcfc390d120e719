//! T-04 and T-05 for RADIUS: logins of two people at two nodes, in whatever order devices and people do what they do, in simulated time.
//!
//! ```text
//! steps -> two ports of a device -> node | node -> directory, verification, bus (all in this thread)
//!            '-- every answer is held against what the model knows: who asked, what was said, what is over
//! ```
//! The runtime is never idle while a step is taken, so that its paused clock moves only where the model moves it.

mod found;
#[path = "../support/mod.rs"]
mod support;
mod verification;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use radius_gateway::{Deps, Nodes, RadiusSection};
use radius_wire::{
    Attribute, AttributeType, Code, Packet, Port, Request, RequestCode, Rule, Secret, Sent, verify_reply,
};
use service_kit::Process;
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use support::*;
use tokio::net::UdpSocket;
use tokio::task::yield_now;
use verification::{Factor, Simulated, right_answer};

/// Where a seed is given, this run is repeated.
const SEED: &str = "TWINLOCK_TEST_SEED";
const PEOPLE: [(&str, &str); 2] = [("ann", ANN), ("bob", "sesame-bob-77e2")];
const STATIONS: [&str; 2] = ["198.51.100.7", "198.51.100.8"];
const TICK_MS: u64 = 50;
/// So often everybody gets their turn before time goes on.
const TURNS: usize = 48;
/// The client's wait and what an answer may take behind it.
const WAIT_MS: u64 = 12_000;
/// A node sees within this that another one has its request.
const NOTICED_MS: i64 = 500;
const SUPERSEDED_MS: i64 = 2_600;
/// What crosses an answer on its way was sent this long before it is heard, at most.
const CROSSED_MS: i64 = 2 * TICK_MS as i64;
/// The answer of another node is found within this.
const FOUND_MS: i64 = 1_000;
/// A Reject goes out no earlier (R-07), less what a step takes.
const DECIDED_MS: i64 = 400;
/// What is asked of a directory that says nothing ends then, and nobody waits for it any more who comes behind that (R-36).
const SILENT_MS: i64 = 3_000 - CROSSED_MS;
/// Copies come while the reply is kept for certain (R-31).
const COPIED_MS: i64 = 25_000;
/// Behind it nothing of a request is kept.
const FORGOTTEN_MS: u64 = 45_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    Login(Login, Way),
    /// The very same octets.
    Copy {
        of: usize,
        node: usize,
    },
    /// The same octets from another port.
    FromOtherPort {
        of: usize,
        node: usize,
    },
    /// The same login under another authenticator.
    Again {
        of: usize,
        same_identifier: bool,
        way: Way,
    },
    /// Another login in its place (R-32).
    Instead {
        of: usize,
        login: Login,
        node: usize,
    },
    /// The answer to a challenge.
    Answer {
        of: usize,
        right: bool,
        way: Way,
    },
    PersonSays {
        who: usize,
        yes: bool,
    },
    Directory {
        silent: bool,
    },
    Pass {
        ticks: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Login {
    who: usize,
    factor: Factor,
    right_password: bool,
    station: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Way {
    port: usize,
    node: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let of = || 0..8usize;
    let node = || 0..2usize;
    let way = || (0..2usize, node()).prop_map(|(port, node)| Way { port, node });
    prop_oneof![
        6 => (login(), way()).prop_map(|(login, way)| Step::Login(login, way)),
        4 => (of(), node()).prop_map(|(of, node)| Step::Copy { of, node }),
        2 => (of(), node()).prop_map(|(of, node)| Step::FromOtherPort { of, node }),
        4 => (of(), any::<bool>(), way()).prop_map(|(of, same_identifier, way)| Step::Again { of, same_identifier, way }),
        2 => (of(), login(), node()).prop_map(|(of, login, node)| Step::Instead { of, login, node }),
        4 => (of(), prop::bool::weighted(0.7), way()).prop_map(|(of, right, way)| Step::Answer { of, right, way }),
        4 => (0..PEOPLE.len(), any::<bool>()).prop_map(|(who, yes)| Step::PersonSays { who, yes }),
        1 => any::<bool>().prop_map(|silent| Step::Directory { silent }),
        5 => (1..60u64).prop_map(|ticks| Step::Pass { ticks }),
    ]
}

fn login() -> impl Strategy<Value = Login> {
    let factor = prop_oneof![
        6 => Just(Factor::Phone),
        3 => Just(Factor::Challenge),
        2 => Just(Factor::Yes),
        1 => Just(Factor::No),
        1 => Just(Factor::LateYes),
    ];
    let station = prop_oneof![2 => Just(Some(0)), 1 => Just(Some(1)), 1 => Just(None)];
    (0..PEOPLE.len(), factor, prop::bool::weighted(0.9), station)
        .prop_map(|(who, factor, right_password, station)| Login { who, factor, right_password, station })
}

#[test]
fn every_login_is_one_bind_one_prompt_and_one_reply_and_no_accept_lacks_a_lock() {
    // T-04: I2; T-05; R-30 to R-36, R-42, R-44, R-45, R-63
    let seed: u64 = match std::env::var(SEED) {
        Ok(seed) => seed.parse().expect("a seed"),
        // The same one each time: a change that breaks the model is told by it, and not by luck.
        Err(_) => 1,
    };
    let octets: Vec<u8> = (0..4u64).flat_map(|part| (seed ^ part).to_le_bytes()).collect();
    let config = Config { cases: 64, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &octets));
    let held = runner.run(&prop::collection::vec(step(), 1..24), |steps| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let held = runtime.expect("a runtime").block_on(holds(&steps));
        held.map_err(TestCaseError::fail)
    });
    if let Err(error) = held {
        panic!("{SEED}={seed}\n{error}");
    }
}

async fn holds(steps: &[Step]) -> Result<(), String> {
    let mut model = Model::start().await;
    for step in steps {
        model.take(*step).await.map_err(|broken| format!("{broken}, after {step:?}"))?;
    }
    model.finish().await
}

/// One text of a request, which may be sent in several packets.
struct Content {
    login: usize,
    password: String,
    state: Option<Vec<u8>>,
}

/// A packet and what became of it.
struct Sending {
    content: usize,
    key: (usize, u8),
    octets: Vec<u8>,
    sent: Sent,
    at: i64,
    node: usize,
    heard: Vec<u8>,
    heard_at: i64,
    /// Answers that may still come: its own, and one for each copy behind that, or on its way to it.
    owed: usize,
    /// When it was sent again before its answer was heard.
    copied: Vec<i64>,
    /// It has the place of another one.
    replaces: bool,
    /// Another packet has its place since then, and its node may not know of that for so long.
    replaced: Option<(i64, i64)>,
}

impl Sending {
    fn is_pending(&self) -> bool {
        self.heard.is_empty() && self.replaced.is_none()
    }
}

struct Model {
    world: World,
    verification: Arc<Simulated>,
    nodes: [SocketAddr; 2],
    _processes: [Process; 2],
    ports: [UdpSocket; 2],
    secret: Secret,
    logins: Vec<Login>,
    contents: Vec<Content>,
    sendings: Vec<Sending>,
    /// By login: packets that begin an attempt of their own, as far as can be known.
    begun: HashMap<usize, usize>,
    /// By login: which other logins it has taken the place of.
    replaces: HashMap<usize, Vec<usize>>,
    accepted: HashMap<usize, usize>,
    judged: usize,
    was_silent: bool,
    identifier: u8,
    authenticator: u128,
}

impl Model {
    async fn start() -> Self {
        Self::start_with(section()).await
    }

    async fn start_with(section: RadiusSection) -> Self {
        let (world, verification, nodes, processes) = never_idle(async {
            let world = World::new().await;
            let verification = Simulated::new(world.clock.clone());
            let processes = [Process::detached("radius-gateway"), Process::detached("radius-gateway")];
            let mut nodes = Vec::new();
            for process in &processes {
                let deps = Deps { verification: verification.clone(), ..world.deps(Nodes::Many) };
                let running = radius_gateway::start(section.clone(), deps, process).await.expect("free ports");
                nodes.push(running.addresses().authentication[0]);
            }
            (world, verification, [nodes[0], nodes[1]], processes)
        })
        .await;
        let port = async || UdpSocket::bind((REQUIRED, 0)).await.expect("all of 127.0.0.0/8 is ours");
        let ports = [port().await, port().await];
        let mut model = Self {
            world,
            verification,
            nodes,
            _processes: processes,
            ports,
            secret: Secret::new(SECRET).expect("not empty"),
            logins: Vec::new(),
            contents: Vec::new(),
            sendings: Vec::new(),
            begun: HashMap::new(),
            replaces: HashMap::new(),
            accepted: HashMap::new(),
            judged: 0,
            was_silent: false,
            identifier: 0,
            authenticator: 0,
        };
        model.pass(20).await.expect("nobody has asked anything");
        model
    }

    fn now(&self) -> i64 {
        self.world.clock.now_ms()
    }

    async fn take(&mut self, step: Step) -> Result<(), String> {
        let at = |of: usize, all: usize| (all > 0).then(|| all - 1 - of % all);
        let last = |model: &Self, of| at(of, model.sendings.len());
        match step {
            Step::Login(login, way) => self.begin(login, way, None).await,
            Step::Copy { of, node } => {
                if let Some(of) = last(self, of) {
                    self.copy(of, node).await;
                }
            }
            Step::FromOtherPort { of, node } => {
                if let Some(of) = last(self, of) {
                    self.ask_from_other_port(of, node).await;
                }
            }
            Step::Again { of, same_identifier, way } => {
                if let Some(of) = last(self, of) {
                    let Sending { content, key, .. } = self.sendings[of];
                    let key = if same_identifier { key } else { (way.port, self.next_identifier()) };
                    self.ask(content, key, way.node).await;
                }
            }
            Step::Instead { of, login, node } => {
                if let Some(of) = last(self, of) {
                    let Sending { key: (port, identifier), .. } = self.sendings[of];
                    self.begin(login, Way { port, node }, Some(identifier)).await;
                }
            }
            Step::Answer { of, right, way } => self.answer(of, right, way).await,
            Step::PersonSays { who, yes } => self.verification.says(PEOPLE[who].0, yes),
            Step::Directory { silent: true } => {
                self.was_silent = true;
                self.world.directory.mood(Mood::SilentToBinds);
            }
            Step::Directory { silent: false } => self.world.directory.mood(Mood::Well),
            Step::Pass { ticks } => return self.pass(ticks).await,
        }
        self.pass(1).await
    }

    async fn begin(&mut self, login: Login, Way { port, node }: Way, identifier: Option<u8>) {
        let number = self.logins.len();
        self.logins.push(login);
        let password = if login.right_password { PEOPLE[login.who].1 } else { "wrong" };
        let password = format!("{password},{}", login.factor.code(number));
        self.contents.push(Content { login: number, password, state: None });
        let identifier = identifier.unwrap_or_else(|| self.next_identifier());
        self.ask(self.contents.len() - 1, (port, identifier), node).await;
    }

    async fn answer(&mut self, of: usize, right: bool, Way { port, node }: Way) {
        let challenges: Vec<_> =
            self.sendings.iter().filter(|sending| code(&sending.heard) == Some(Code::AccessChallenge)).collect();
        let Some(challenge) = challenges.len().checked_sub(1).map(|last| challenges[last - of % challenges.len()])
        else {
            return;
        };
        let login = self.contents[challenge.content].login;
        let state = Answer { octets: challenge.heard.clone() }.state();
        let password = if right { right_answer(login) } else { "700000x".to_owned() };
        self.contents.push(Content { login, password, state: Some(state) });
        let key = (port, self.next_identifier());
        self.ask(self.contents.len() - 1, key, node).await;
    }

    fn next_identifier(&mut self) -> u8 {
        self.identifier = self.identifier.wrapping_add(1);
        self.identifier
    }

    async fn ask(&mut self, content: usize, key: (usize, u8), node: usize) {
        let Content { login, password, state } = &self.contents[content];
        let Login { who, station, .. } = self.logins[*login];
        let attribute = |kind, value| Attribute { kind, value };
        let mut attributes = vec![user_name(PEOPLE[who].0)];
        attributes
            .extend(station.map(|station| attribute(AttributeType::CALLING_STATION_ID, STATIONS[station].as_bytes())));
        attributes.extend(state.as_ref().map(|state| attribute(AttributeType::STATE, state)));
        self.authenticator += 1;
        let request = Request {
            code: RequestCode::AccessRequest,
            identifier: key.1,
            authenticator: self.authenticator.to_be_bytes(),
            attributes: &attributes,
            password: Some(password),
        };
        let (octets, sent) = (request.write(&self.secret).expect("it fits"), request.sent());
        self.send(content, key, node, octets, sent).await;
    }

    async fn send(&mut self, content: usize, key: (usize, u8), node: usize, octets: Vec<u8>, sent: Sent) {
        let now = self.now();
        let login = self.contents[content].login;
        let first_round = self.contents[content].state.is_none();
        if !self.certainly_joins(content) {
            *self.begun.entry(login).or_default() += usize::from(first_round);
        }
        let mut replaces = false;
        for old in self.sendings.iter_mut().filter(|old| old.key == key && old.replaced.is_none()) {
            replaces = true;
            let unknown_ms = match (old.node == node, old.content == content) {
                (true, _) => 0,
                // Whoever waits for the same answer is in no hurry, and nobody is told.
                (false, true) => SUPERSEDED_MS,
                (false, false) => NOTICED_MS,
            };
            old.replaced = Some((now, unknown_ms));
            self.replaces.entry(login).or_default().push(self.contents[old.content].login);
        }
        self.may_begin_anew(key, content, now);
        self.ports[key.0].send_to(&octets, self.nodes[node]).await.expect("loopback");
        self.sendings.push(Sending {
            content,
            key,
            octets,
            sent,
            at: now,
            node,
            heard: Vec::new(),
            heard_at: 0,
            owed: 1,
            copied: Vec::new(),
            replaces,
            replaced: None,
        });
    }

    /// Whether a packet is one more of a login that is in work and stays so (R-34).
    fn certainly_joins(&self, content: usize) -> bool {
        let Content { login, state, .. } = &self.contents[content];
        let may_join = self.logins[*login].station.is_some() || state.is_some();
        let of_it = || self.sendings.iter().filter(|sending| sending.content == content);
        // What is decided is over, and no answer to one that comes now, though others still wait to hear of it (R-36).
        let over = self.verification.is_over(*login) || of_it().any(|sending| !sending.heard.is_empty());
        // The answer to a wrong password may be on its way, and that of a directory that is silent.
        let decided_ms = match (self.logins[*login].right_password, self.was_silent) {
            (false, _) => DECIDED_MS,
            (true, true) => SILENT_MS,
            (true, false) => i64::MAX,
        };
        let begun = of_it().map(|sending| sending.at).min();
        let undecided = begun.is_some_and(|begun| self.now() - begun < decided_ms);
        // What waits for another one's end has not begun.
        let in_work =
            |sending: &Sending| sending.is_pending() && !(sending.replaces && self.now() - sending.at <= FOUND_MS);
        may_join && !over && undecided && of_it().any(in_work)
    }

    /// Who waits for another node's answer to what has just been replaced there begins anew, unless it was decided.
    fn may_begin_anew(&mut self, key: (usize, u8), content: usize, now: i64) {
        let lost = |sending: &&Sending| {
            sending.key == key && sending.replaced.is_some_and(|(at, _)| at == now) && sending.content != content
        };
        let Some(lost) = self.sendings.iter().find(lost).map(|lost| lost.content) else { return };
        let Content { login, state, .. } = &self.contents[lost];
        let waits = self.sendings.iter().any(|sending| sending.content == lost && sending.is_pending());
        if waits && state.is_none() && (self.logins[*login].right_password || self.was_silent) {
            *self.begun.entry(*login).or_default() += 1;
        }
    }

    async fn ask_from_other_port(&mut self, of: usize, node: usize) {
        let Sending { content, key: (port, identifier), octets, sent, .. } = &self.sendings[of];
        let (content, key, octets, sent) = (*content, (1 - port, *identifier), octets.clone(), *sent);
        // A device that has gone on under an identifier does not go back.
        let is_there = |one: &Sending| one.key == key && one.octets == octets;
        match self.sendings.iter().rposition(is_there) {
            Some(there) => self.copy(there, node).await,
            None => self.send(content, key, node, octets, sent).await,
        }
    }

    async fn copy(&mut self, of: usize, node: usize) {
        let now = self.now();
        let sending = &mut self.sendings[of];
        let answered = !sending.heard.is_empty();
        // A device that has gone on does not go back, and a reply is kept only so long.
        if sending.replaced.is_some() || answered && now - sending.heard_at > COPIED_MS {
            return;
        }
        match answered {
            true => sending.owed += 1,
            false => sending.copied.push(now),
        }
        self.ports[sending.key.0].send_to(&sending.octets, self.nodes[node]).await.expect("loopback");
    }

    async fn pass(&mut self, ticks: u64) -> Result<(), String> {
        self.pass_in(ticks, TICK_MS).await
    }

    async fn pass_in(&mut self, ticks: u64, tick_ms: u64) -> Result<(), String> {
        for _ in 0..ticks {
            tokio::time::advance(Duration::from_millis(tick_ms)).await;
            self.world.clock.advance(tick_ms as i64);
            settle().await;
            self.listen()?;
            self.judge()?;
        }
        Ok(())
    }

    fn listen(&mut self) -> Result<(), String> {
        let mut buffer = [0; 4096];
        for port in 0..self.ports.len() {
            while let Ok((length, _)) = self.ports[port].try_recv_from(&mut buffer) {
                self.hear(port, buffer[..length].to_vec())?;
            }
        }
        Ok(())
    }

    /// An answer came to one of the ports.
    fn hear(&mut self, port: usize, octets: Vec<u8>) -> Result<(), String> {
        let now = self.now();
        let key = (port, octets[1]);
        let answers = |sending: &&mut Sending| sending.key == key && is_answer(&octets, &sending.sent, &self.secret);
        let Some(sending) = self.sendings.iter_mut().rev().find(answers) else {
            return Err(format!("an answer to nothing that was asked: {octets:?}"));
        };
        if let Some((at, unknown_ms)) = sending.replaced {
            // R-32: the old reply never goes out where that is known.
            return match now - at < unknown_ms {
                true => Ok(()),
                false => {
                    let login = self.contents[sending.content].login;
                    Err(format!("login {login} was answered after another request had its place, {:?}", self.story()))
                }
            };
        }
        if sending.owed == 0 {
            return Err(format!("one answer too many, {:?}", self.story()));
        }
        sending.owed -= 1;
        if !sending.heard.is_empty() {
            let same = sending.heard == octets;
            return same.then_some(()).ok_or_else(|| "a copy was answered with other octets".into());
        }
        (sending.heard, sending.heard_at) = (octets, now);
        sending.owed += sending.copied.iter().filter(|at| now - **at <= CROSSED_MS).count();
        let (content, at) = (sending.content, sending.at);
        match code(&sending.heard) {
            Some(Code::AccessAccept) => self.accepts(content, at),
            Some(Code::AccessReject | Code::AccessChallenge) => Ok(()),
            other => Err(format!("answered with {other:?}")),
        }
    }

    /// I2: both locks were opened, for this very person and login, and not before it was asked.
    fn accepts(&mut self, content: usize, at: i64) -> Result<(), String> {
        let number = self.contents[content].login;
        let Login { factor, right_password, station, .. } = self.logins[number];
        let seen = self.verification.seen();
        let allows: Vec<_> = seen.allows.iter().filter(|(login, _)| *login == number).collect();
        if !right_password || matches!(factor, Factor::No | Factor::LateYes) {
            return Err(format!("login {number} was let in"));
        }
        if !allows.iter().any(|(_, allowed)| at <= allowed + FOUND_MS) {
            return Err(format!("login {number} was let in without an Allow, or by one of before it asked"));
        }
        let accepted = self.accepted.entry(number).or_default();
        *accepted += 1;
        // Without a station nothing rides on another one's approval (D9).
        if station.is_none() && self.contents[content].state.is_none() && *accepted > allows.len() {
            return Err(format!("login {number} was let in {accepted} times by {} Allows", allows.len()));
        }
        Ok(())
    }

    /// What reached directory and verification.
    fn judge(&mut self) -> Result<(), String> {
        let seen = self.verification.seen();
        let most = |login: &usize| self.begun.get(login).copied().unwrap_or_default();
        for (number, begun) in &seen.begun {
            let right = self.logins[*number].right_password;
            if !right || *begun > most(number) {
                return Err(format!("login {number} was asked about {begun} times, right password: {right}"));
            }
        }
        if let Some((number, prompts)) = seen.prompts.iter().find(|(number, prompts)| **prompts > most(number)) {
            return Err(format!("login {number} was {prompts} prompts"));
        }
        for (who, (name, _)) in PEOPLE.iter().enumerate() {
            let of = |number: &usize| self.logins[*number].who == who;
            let first_locks = self.world.directory.let_in(name);
            let second_locks: usize = seen.begun.iter().filter(|(number, _)| of(number)).map(|(_, begun)| begun).sum();
            if second_locks > first_locks {
                return Err(format!("{name}: {second_locks} second factors behind {first_locks} right passwords"));
            }
        }
        let (binds, begun) = (self.world.directory.binds(), self.begun.values().sum());
        if binds > begun {
            return Err(format!("{binds} binds for {begun} attempts"));
        }
        for (login, beside) in &seen.refused_beside[self.judged..] {
            self.may_be_refused_beside(*login, *beside)?;
        }
        self.judged = seen.refused_beside.len();
        Ok(())
    }

    /// R-32: who takes the place of the one request that somebody is asked for finds the prompt withdrawn.
    fn may_be_refused_beside(&self, login: usize, asked: usize) -> Result<(), String> {
        let replaced = self.replaces.get(&login).is_some_and(|replaced| replaced.contains(&asked));
        let of = |number: usize| move |sending: &&Sending| self.contents[sending.content].login == number;
        let newest = self.sendings.iter().filter(of(login)).map(|sending| sending.at).max();
        let rival = |sending: &&Sending| sending.is_pending() && (login != asked || Some(sending.at) != newest);
        let rivals = self.sendings.iter().filter(of(asked)).filter(rival).count();
        // One of its packets that is in nobody's place does not wait for that.
        let beside = |sending: &&Sending| sending.is_pending() && !sending.replaces;
        let besides = self.sendings.iter().filter(of(login)).filter(beside).count();
        match replaced && rivals + besides == 0 {
            true => Err(format!(
                "login {login} took the place of login {asked}, whose prompt was still open, {:?}",
                self.story()
            )),
            false => Ok(()),
        }
    }

    /// What was sent, for whoever reads a failure: login, key, node, when, and what came of it.
    fn story(&self) -> Vec<String> {
        let first = self.sendings.first().map_or(0, |first| first.at);
        let line = |sending: &Sending| {
            let Sending { content, key, node, at, heard, heard_at, replaced, .. } = sending;
            let replaced = replaced.map(|(at, _)| at - first);
            format!(
                "{} {key:?} {node} {} {:?} {} {replaced:?}",
                self.contents[*content].login,
                at - first,
                code(heard),
                heard_at - first
            )
        };
        self.sendings.iter().map(line).chain([format!("now {}", self.now() - first)]).collect()
    }

    /// When nobody does anything any more: everything is answered, and then forgotten.
    async fn finish(mut self) -> Result<(), String> {
        self.world.directory.mood(Mood::Well);
        self.pass(WAIT_MS / TICK_MS).await?;
        if let Some(sending) = self.sendings.iter().find(|sending| sending.is_pending()) {
            let login = self.contents[sending.content].login;
            return Err(format!(
                "login {login} got no answer to {:?}, key {:?}",
                self.contents[sending.content].password, sending.key
            ));
        }
        self.no_allow_is_lost()?;
        self.pass_in(FORGOTTEN_MS / 1000, 1000).await?;
        let kept = self.world.bus.kept().await;
        if !kept.is_empty() {
            return Err(format!("the bus still holds {kept:?}"));
        }
        self.nothing_is_remembered().await
    }

    /// I2, the other way round.
    fn no_allow_is_lost(&self) -> Result<(), String> {
        for (login, _) in self.verification.seen().allows {
            let replaced = self
                .sendings
                .iter()
                .any(|sending| self.contents[sending.content].login == login && sending.replaced.is_some());
            if self.logins[login].factor != Factor::LateYes && !replaced && !self.accepted.contains_key(&login) {
                return Err(format!("login {login} was allowed and not let in"));
            }
        }
        Ok(())
    }

    /// A request of before is a new one; not so a password that was wrong a moment ago (L-56).
    async fn nothing_is_remembered(&mut self) -> Result<(), String> {
        let begins = |sending: &&Sending| {
            let Content { login, state, .. } = &self.contents[sending.content];
            state.is_none() && self.logins[*login].right_password
        };
        let Some(Sending { key, octets, .. }) = self.sendings.iter().find(begins) else { return Ok(()) };
        let binds = self.world.directory.binds();
        self.ports[key.0].send_to(octets, self.nodes[0]).await.expect("loopback");
        settle().await;
        match self.world.directory.binds() - binds {
            1 => Ok(()),
            other => Err(format!("a request of before was {other} binds")),
        }
    }
}

fn code(octets: &[u8]) -> Option<Code> {
    Packet::parse(octets, Port::AuthenticationReplies).ok().map(|packet| packet.code())
}

fn is_answer(octets: &[u8], sent: &Sent, secret: &Secret) -> bool {
    let packet = Packet::parse(octets, Port::AuthenticationReplies);
    packet.is_ok_and(|packet| verify_reply(&packet, sent, secret, Rule::Yes).is_ok())
}

/// Everybody does what they can do now.
async fn settle() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

/// Awaits something that also needs a little time.
async fn never_idle<T>(awaited: impl Future<Output = T>) -> T {
    let mut awaited = pin!(awaited);
    loop {
        // Cancel safety: the first is polled on, the other only waits.
        tokio::select! {
            biased;
            done = &mut awaited => return done,
            () = settle() => tokio::time::advance(Duration::from_millis(1)).await,
        }
    }
}
