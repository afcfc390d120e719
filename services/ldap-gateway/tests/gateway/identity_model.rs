//! I1 and I2 of T-04, with many clients at once: whatever they do in whatever order, and however they go, the directory runs nothing as
//! somebody who was not allowed on that very connection after its last bind; and a bind succeeds exactly where one Allow was given.
//!
//! Each operation names itself, so that what the directory noted about it can be held against what its client was at that moment. A
//! scripted directory notes what no real one does, and answers what was abandoned; slapd says it in its statistics log.

use crate::recorder::{self, BASE, InFront, PASSWORD, Recorder, SERVICE, Seen, Takes};
use crate::support::{self, Lab, Misbehaviour, Running, Wanted, Wire, capture, until};
use anyhow::{Context, Result, ensure};
use domain::settings::{Anonymous, Client};
use lab::{COMPANY_BASE, Slapd, password_of};
use ldap_wire::{
    BindRequest, ExtendedRequest, ExtendedResponse, Filter, LdapResult, Message, MessageId, Op, Password, Scope,
    SearchRequest, SearchResultEntry, bind, extended,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PEOPLE: &[&str] = &["ann", "bob", "eve"];
/// Those of the sample company.
const ENGINEERS: &[&str] = &["ann.archer", "emma.irwin", "ida.reed"];
const CLIENTS: usize = 16;
/// Where a seed is given, this run is repeated.
const SEED: &str = "TWINLOCK_TEST_SEED";

/// What the second factor says; the first digit of a code tells it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Factor {
    Yes = 1,
    No = 2,
    YesLater = 3,
    NoLater = 4,
    Never = 5,
}

#[derive(Clone, Copy, Debug)]
enum Leave {
    /// FIN or RST, by the connection: half of them end so.
    Drop,
    Unbind,
}

#[derive(Clone, Debug)]
enum Step {
    Service,
    User(usize, Factor),
    WrongPassword(usize),
    UnknownUser,
    EmptyPassword,
    Nobody,
    /// Operations in the same segment behind the bind: none of them may run.
    UserAndMore(usize, Factor),
    Search,
    /// Its answer is not waited for.
    SlowSearch,
    Delete,
    WhoAmI,
    AbandonLast,
    CancelLast,
    StartTls,
    Leave(Leave),
    /// While the second factor is awaited, or just has been.
    LeaveDuring(usize, Factor, Leave, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let person = || 0..PEOPLE.len();
    let answered = || prop_oneof![3 => Just(Factor::Yes), 3 => Just(Factor::No), 2 => Just(Factor::YesLater), 2 => Just(Factor::NoLater)];
    let awaited = || prop_oneof![Just(Factor::YesLater), Just(Factor::NoLater), Just(Factor::Never), Just(Factor::Yes)];
    let leave = || prop_oneof![2 => Just(Leave::Drop), 1 => Just(Leave::Unbind)];
    prop_oneof![
        4 => Just(Step::Service),
        8 => (person(), answered()).prop_map(|(who, factor)| Step::User(who, factor)),
        2 => person().prop_map(Step::WrongPassword),
        1 => Just(Step::UnknownUser),
        1 => Just(Step::EmptyPassword),
        1 => Just(Step::Nobody),
        3 => (person(), answered()).prop_map(|(who, factor)| Step::UserAndMore(who, factor)),
        4 => Just(Step::Search),
        3 => Just(Step::SlowSearch),
        2 => Just(Step::Delete),
        3 => Just(Step::WhoAmI),
        2 => Just(Step::AbandonLast),
        1 => Just(Step::CancelLast),
        2 => Just(Step::StartTls),
        1 => leave().prop_map(Step::Leave),
        2 => (person(), awaited(), leave(), 0..8u64).prop_map(|(who, factor, leave, after)| Step::LeaveDuring(who, factor, leave, after)),
    ]
}

/// What is known about everything that was sent, by all clients of all runs.
#[derive(Default)]
struct Model {
    /// As whom an operation may run; `None`: as nobody at all, it may not run.
    operations: Mutex<HashMap<String, Option<String>>>,
    /// Codes whose bind was answered with success, and those whose client did not stay to hear.
    succeeded: Mutex<Vec<String>>,
    unheard: Mutex<HashSet<String>>,
    last: AtomicU32,
    /// Operations that the directory has seen.
    ran: AtomicUsize,
}

impl Model {
    fn number(&self) -> u32 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    fn code(&self, factor: Factor) -> String {
        format!("{}{:05}", factor as u8, self.number() % 100_000)
    }

    /// A name for an operation that may run as this identity.
    fn operation(&self, identity: Option<&str>) -> String {
        let name = format!("op{}", self.number());
        self.operations.lock().expect("no panic").insert(name.clone(), identity.map(str::to_owned));
        name
    }
}

/// What stands behind the gateway.
enum Behind {
    Recorder(Recorder, Box<InFront>),
    Slapd(Box<Lab>, Mutex<Statistics>),
}

impl Behind {
    async fn recorder() -> Result<Self> {
        let recorder = Recorder::start(PEOPLE, Takes::default()).await?;
        let client = Client { anonymous: Anonymous::Forward, ..recorder::listing_client("crowd") };
        let lab = recorder.behind_gateway(client).await?;
        Self::Recorder(recorder, Box::new(lab)).ready().await
    }

    async fn slapd() -> Result<Self> {
        let client = Client {
            anonymous: Anonymous::Forward,
            service_accounts: vec![support::service_account(Slapd::GITLAB_DN)],
            ..support::client("throng")
        };
        let section = |section: &mut ldap_gateway::LdapSection| section.connections_per_source_max = 2_000;
        // So many that a search which reads them all takes its time.
        let lab = Lab::start(Wanted { client, section, bulk_people: 2_000, ..Wanted::default() }).await?;
        Self::Slapd(Box::new(lab), Mutex::default()).ready().await
    }

    async fn ready(self) -> Result<Self> {
        until("the id to be kept", || !self.gateway().settings.pinned().is_empty()).await?;
        self.gateway().verification.misbehave(Misbehaviour::ByCode);
        Ok(self)
    }

    fn gateway(&self) -> &Running {
        match self {
            Self::Recorder(_, lab) => &lab.gateway,
            Self::Slapd(lab, _) => &lab.gateway,
        }
    }

    fn tls(&self) -> &Arc<rustls::ClientConfig> {
        match self {
            Self::Recorder(_, lab) => &lab.tls,
            Self::Slapd(lab, _) => &lab.tls,
        }
    }

    fn uid(&self, who: usize) -> &'static str {
        match self {
            Self::Recorder(..) => PEOPLE[who],
            Self::Slapd(..) => ENGINEERS[who],
        }
    }

    fn dn(&self, who: usize) -> String {
        match self {
            Self::Recorder(..) => recorder::dn_of(PEOPLE[who]),
            Self::Slapd(lab, _) => lab.person(ENGINEERS[who]),
        }
    }

    fn password(&self, who: usize) -> String {
        match self {
            Self::Recorder(..) => PASSWORD.to_owned(),
            Self::Slapd(..) => password_of(ENGINEERS[who]),
        }
    }

    fn service(&self) -> (&'static str, &'static str) {
        match self {
            Self::Recorder(..) => (SERVICE, PASSWORD),
            Self::Slapd(..) => (Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD),
        }
    }

    /// A search of this name; one that is not quick has to read everything.
    fn search(&self, name: &str, quick: bool) -> SearchRequest {
        match self {
            Self::Recorder(..) if quick => search(format!("cn={name},{BASE}")),
            Self::Recorder(..) => search(format!("cn={name},{},{BASE}", recorder::SLOW)),
            Self::Slapd(..) if quick => search(format!("cn={name},{COMPANY_BASE}")),
            Self::Slapd(..) => {
                let unindexed = Filter::equal("description", name.as_bytes());
                SearchRequest::new(COMPANY_BASE, Scope::Subtree, &unindexed, &[])
            }
        }
    }

    fn delete(&self, id: MessageId, name: &str) -> Vec<u8> {
        let base = if matches!(self, Self::Recorder(..)) { BASE } else { COMPANY_BASE };
        delete(id, &format!("cn={name},{base}"))
    }

    /// What came since the last time this was asked, by the names of the operations.
    fn take_seen(&self) -> Vec<Seen> {
        let name = |seen: Seen| {
            let about = operation_in(&seen.about).unwrap_or(&seen.about).to_owned();
            Seen { about, ..seen }
        };
        match self {
            Self::Recorder(recorder, _) => recorder.take_seen().into_iter().map(name).collect(),
            Self::Slapd(lab, statistics) => statistics.lock().expect("no panic").read_on(&lab.slapd.log()),
        }
    }
}

/// `op17` out of `cn=op17,dc=...` and `(description=op17)`.
fn operation_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("=op")?;
    let digits = rest.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(rest.len());
    text.get(text.len() - rest.len() - 2..text.len() - rest.len() + digits)
}

/// slapd's statistics log: who is bound on which connection, and what was asked there.
#[derive(Default)]
struct Statistics {
    read: usize,
    bound: HashMap<String, String>,
}

impl Statistics {
    fn read_on(&mut self, log: &str) -> Vec<Seen> {
        // The last line may not be whole yet.
        let end = log.rfind('\n').map_or(self.read, |end| end + 1);
        let news = log.get(self.read..end).unwrap_or_default();
        self.read = end;
        news.lines().filter_map(|line| self.line(line)).collect()
    }

    fn line(&mut self, line: &str) -> Option<Seen> {
        let (_, rest) = line.split_once(" conn=")?;
        let (connection, rest) = rest.split_once(' ')?;
        if let Some((_, bind)) = rest.split_once(" BIND dn=\"") {
            let (dn, how) = bind.split_once('"')?;
            // Two lines: what was asked, and, where the password was right, that it is so.
            let who = if how.contains(" mech=") { dn } else { "" };
            self.bound.insert(connection.to_owned(), who.to_owned());
            return None;
        }
        let operates = rest.contains(" SRCH base=") || rest.contains(" DEL dn=");
        let about = operation_in(rest).filter(|_| operates)?.to_owned();
        Some(Seen { who: self.bound.get(connection).cloned().unwrap_or_default(), about })
    }
}

#[test]
fn nothing_runs_as_anybody_who_was_not_allowed_since_the_last_bind_of_that_connection() -> Result<()> {
    // T-04: I1, I2; L-11, L-12, L-13, L-30, L-31, L-32, L-33
    let runtime = capture::quiet_runtime()?;
    let behind = runtime.block_on(Behind::recorder())?;
    holds(&runtime, behind, 48)
}

#[test]
fn slapd_runs_nothing_as_anybody_who_was_not_allowed_since_the_last_bind_of_that_connection() -> Result<()> {
    // The same, of the log of a real directory.
    let runtime = capture::quiet_runtime()?;
    let behind = runtime.block_on(Behind::slapd())?;
    holds(&runtime, behind, 24)
}

fn holds(runtime: &tokio::runtime::Runtime, behind: Behind, cases: u32) -> Result<()> {
    let seed: u64 = match std::env::var(SEED) {
        Ok(seed) => seed.parse()?,
        Err(_) => getrandom::u64().expect("the kernel gives random octets"),
    };
    let octets: Vec<u8> = (0..4u64).flat_map(|part| (seed ^ part).to_le_bytes()).collect();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &octets));
    let scripts = proptest::collection::vec(proptest::collection::vec(step(), 1..14), 1..=CLIENTS);
    let (behind, model) = (Arc::new(behind), Arc::new(Model::default()));
    let held = runner.run(&scripts, |scripts| {
        let all = run_all(&behind, &model, scripts);
        runtime.block_on(all).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    held.map_err(|error| anyhow::anyhow!("{SEED}={seed}\n{error}"))?;
    let ran = model.ran.load(Ordering::Relaxed);
    ensure!(ran > cases as usize, "{ran} operations ran");
    Ok(())
}

async fn run_all(behind: &Arc<Behind>, model: &Arc<Model>, scripts: Vec<Vec<Step>>) -> Result<()> {
    let running: Vec<_> = scripts
        .into_iter()
        .enumerate()
        .map(|(place, steps)| {
            let (behind, model) = (behind.clone(), model.clone());
            tokio::spawn(async move {
                let mut one = One::connect(&behind, &model, place).await?;
                for step in &steps {
                    one.take(step).await.with_context(|| format!("{step:?} of client {place}"))?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for one in running {
        one.await??;
    }
    // I1: every operation that ran did so as whoever its client was allowed to be.
    let operations = model.operations.lock().expect("no panic").clone();
    for seen in behind.take_seen() {
        model.ran.fetch_add(1, Ordering::Relaxed);
        let allowed = operations.get(&seen.about).with_context(|| format!("{seen:?} was sent by nobody"))?;
        ensure!(allowed.as_deref() == Some(&seen.who), "{seen:?} may run as {allowed:?} only");
    }
    // I2: a success for each Allow, and an Allow for each success.
    let mut count: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for code in behind.gateway().verification.take_allowed_codes() {
        count.entry(code).or_default().0 += 1;
    }
    for code in std::mem::take(&mut *model.succeeded.lock().expect("no panic")) {
        count.entry(code).or_default().1 += 1;
    }
    let unheard = model.unheard.lock().expect("no panic").clone();
    for (code, (allows, successes)) in count {
        let one_each = (allows, successes) == (1, 1) || (allows, successes) == (1, 0) && unheard.contains(&code);
        ensure!(one_each, "code {code}: {allows} Allows, {successes} successes");
    }
    Ok(())
}

/// One client, and what it has to be taken for.
struct One {
    behind: Arc<Behind>,
    model: Arc<Model>,
    place: usize,
    connections: usize,
    wire: Wire,
    tls: bool,
    /// Whom the directory has to see: nobody, or exactly this entry.
    identity: String,
    last: MessageId,
}

impl One {
    async fn connect(behind: &Arc<Behind>, model: &Arc<Model>, place: usize) -> Result<Self> {
        let (wire, tls) = Self::wire(behind, place).await?;
        Ok(Self {
            behind: behind.clone(),
            model: model.clone(),
            place,
            connections: place,
            wire,
            tls,
            identity: String::new(),
            last: MessageId::MAX,
        })
    }

    /// Every third begins in clear text, every second ends with a reset.
    async fn wire(behind: &Behind, number: usize) -> Result<(Wire, bool)> {
        let tls = !number.is_multiple_of(3);
        let abrupt = number.is_multiple_of(2);
        Ok((behind.gateway().connect_as(tls.then_some(behind.tls()), abrupt).await?, tls))
    }

    async fn again(&mut self) -> Result<()> {
        self.connections += 1;
        (self.wire, self.tls) = Self::wire(&self.behind, self.connections).await?;
        self.identity.clear();
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Service => {
                let expected = self.code_of_bind(0);
                let (service, password) = self.behind.service();
                self.bind(service, password, expected, service.to_owned()).await
            }
            Step::User(who, factor) => self.user(who, factor, false).await,
            Step::UserAndMore(who, factor) => self.user(who, factor, true).await,
            Step::WrongPassword(who) => {
                let password = format!("wrong{},999999", self.model.number());
                let expected = self.code_of_bind(49);
                self.bind(self.behind.uid(who), &password, expected, String::new()).await
            }
            Step::UnknownUser => {
                let expected = self.code_of_bind(49);
                self.bind("mallory", "wrong,999999", expected, String::new()).await
            }
            Step::EmptyPassword => self.bind(self.behind.uid(0), "", 53, String::new()).await,
            Step::Nobody => self.bind("", "", 0, String::new()).await,
            Step::Search => {
                let name = self.model.operation(Some(&self.identity));
                self.last = self.wire.send_search(&self.behind.search(&name, true), &[]).await?;
                let (done, entry) = self.answer(self.last).await?;
                // What slapd finds, and whom it tells, is not what this is about.
                if let Behind::Recorder(..) = *self.behind {
                    ensure!(LdapResult::decode(&done)?.is_success(), "{:?}", LdapResult::decode(&done));
                    let entry = entry.context("an entry")?;
                    let seen_as = entry.first_text("seenAs").unwrap_or_default().to_owned();
                    let found = String::from_utf8_lossy(&entry.dn).contains(&format!("cn={name},"));
                    ensure!(found && seen_as == self.identity, "{entry:?} for {:?}", self.identity);
                }
                Ok(())
            }
            Step::SlowSearch => {
                let name = self.model.operation(Some(&self.identity));
                self.last = self.wire.send_search(&self.behind.search(&name, false), &[]).await?;
                Ok(())
            }
            Step::Delete => {
                let name = self.model.operation(Some(&self.identity));
                let id = self.wire.next_id();
                self.wire.send(&self.behind.delete(id, &name)).await?;
                let done = LdapResult::decode(&self.answer(id).await?.0)?;
                ensure!(done.is_success() || matches!(*self.behind, Behind::Slapd(..)), "{done:?}");
                Ok(())
            }
            Step::WhoAmI => self.who_am_i().await,
            Step::AbandonLast => {
                let id = self.wire.next_id();
                self.wire.send(&extended::abandon_request(id, self.last)).await
            }
            Step::CancelLast => {
                let id = self.wire.next_id();
                self.wire.send(&ExtendedRequest::cancel(self.last).encode(id, &[])).await?;
                self.answer(id).await.map(drop)
            }
            Step::StartTls => self.start_tls().await,
            Step::Leave(leave) => {
                self.leave(leave).await;
                self.again().await
            }
            Step::LeaveDuring(who, factor, leave, after) => {
                if !self.tls {
                    return Ok(());
                }
                let code = self.model.code(factor);
                self.model.unheard.lock().expect("no panic").insert(code.clone());
                let id = self.wire.next_id();
                self.wire.send(&self.login(id, who, &code)).await?;
                tokio::time::sleep(Duration::from_millis(after)).await;
                if matches!(factor, Factor::NoLater | Factor::Never) {
                    // The bind is pending still, or was refused: then this is nobody's.
                    let name = self.model.operation(Some(""));
                    let _ = self.wire.send_search(&self.behind.search(&name, true), &[]).await;
                }
                self.leave(leave).await;
                self.again().await
            }
        }
    }

    /// Without TLS nobody's password is looked at (L-07).
    fn code_of_bind(&self, protected: u32) -> u32 {
        if self.tls { protected } else { 13 }
    }

    async fn user(&mut self, who: usize, factor: Factor, more: bool) -> Result<()> {
        let code = self.model.code(factor);
        let yes = matches!(factor, Factor::Yes | Factor::YesLater);
        let expected = self.code_of_bind(if yes { 0 } else { 49 });
        let id = self.wire.next_id();
        let mut octets = self.login(id, who, &code);
        // In clear text the bind is answered at once, and what stands behind it runs as nobody: not what is meant here.
        let behind = (more && self.tls).then(|| self.wire.next_id());
        if let Some(behind) = behind {
            let name = self.model.operation(None);
            octets.extend_from_slice(&self.behind.search(&name, true).encode(behind, &[]));
            octets.extend_from_slice(&self.behind.delete(self.wire.next_id(), &name));
        }
        self.wire.send(&octets).await?;
        if let Some(behind) = behind {
            let (done, entry) = self.answer(behind).await?;
            ensure!(entry.is_none() && LdapResult::decode(&done)?.code.0 == 2, "an operation behind a bind");
        }
        self.bound(id, expected, self.behind.dn(who)).await?;
        if expected == 0 {
            self.model.succeeded.lock().expect("no panic").push(code);
        }
        self.who_am_i().await
    }

    fn login(&self, id: MessageId, who: usize, code: &str) -> Vec<u8> {
        bind_request(id, self.behind.uid(who), &format!("{},{code}", self.behind.password(who)))
    }

    async fn bind(&mut self, name: &str, password: &str, expected: u32, identity: String) -> Result<()> {
        let id = self.wire.next_id();
        self.wire.send(&bind_request(id, name, password)).await?;
        self.bound(id, expected, identity).await
    }

    async fn bound(&mut self, id: MessageId, expected: u32, identity: String) -> Result<()> {
        let code = LdapResult::decode(&self.answer(id).await?.0)?.code.0;
        ensure!(code == expected, "a bind was answered with {code}, not {expected}");
        self.identity = if code == 0 { identity } else { String::new() };
        Ok(())
    }

    async fn who_am_i(&mut self) -> Result<()> {
        let id = self.wire.next_id();
        self.wire.send(&ExtendedRequest::who_am_i().encode(id, &[])).await?;
        let response = ExtendedResponse::decode(&self.answer(id).await?.0)?;
        let name = String::from_utf8(response.value.unwrap_or_default().to_vec())?;
        let wanted = if self.identity.is_empty() { String::new() } else { format!("dn:{}", self.identity) };
        ensure!(response.result.is_success() && name == wanted, "the directory sees {name:?}, not {wanted:?}");
        Ok(())
    }

    async fn start_tls(&mut self) -> Result<()> {
        let id = self.wire.next_id();
        self.wire.send(&ExtendedRequest::start_tls().encode(id, &[])).await?;
        let code = LdapResult::decode(&self.answer(id).await?.0)?.code.0;
        // 1: on already, or something is outstanding (L-08).
        ensure!(code == 1 || (code == 0 && !self.tls), "StartTLS was answered with {code}");
        if code == 0 {
            let plain = std::mem::replace(&mut self.wire, self.behind.gateway().connect_as(None, false).await?);
            self.wire = plain.into_tls(self.behind.tls()).await?;
            self.tls = true;
            self.identity.clear();
        }
        Ok(())
    }

    async fn leave(&mut self, leave: Leave) {
        if let Leave::Unbind = leave {
            let id = self.wire.next_id();
            let _ = self.wire.send(&bind::unbind_request(id)).await;
        }
    }

    /// The last message of the answer to this request, and the entry before it; those of others are passed over.
    async fn answer(&mut self, id: MessageId) -> Result<(Message, Option<SearchResultEntry>)> {
        let mut entry = None;
        loop {
            let message = self.wire.receive().await.with_context(|| format!("client {}", self.place))?;
            if message.id() != id {
                continue;
            }
            if message.op() != Op::SearchResultEntry {
                return Ok((message, entry));
            }
            entry = Some(SearchResultEntry::decode(&message)?);
        }
    }
}

fn bind_request(id: MessageId, name: &str, password: &str) -> Vec<u8> {
    BindRequest::simple(name.to_owned(), Password::new(password)).encode(id, &[]).to_vec()
}

fn search(base: String) -> SearchRequest {
    SearchRequest::new(base, Scope::Subtree, &Filter::present("objectClass"), &[])
}

fn delete(id: MessageId, name: &str) -> Vec<u8> {
    let mut writer = ldap_wire::ber::Writer::new();
    writer.nested(ldap_wire::ber::SEQUENCE, |w| {
        w.integer(ldap_wire::ber::INTEGER, id.get().into());
        w.octets(Op::DelRequest.tag(), name.as_bytes());
    });
    writer.into_vec()
}
