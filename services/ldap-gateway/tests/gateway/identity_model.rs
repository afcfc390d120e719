//! I1 and I2 of T-04, with many clients at once: whatever they do in whatever order, and however they go, the directory runs nothing as
//! somebody who was not allowed on that very connection after its last bind; and a bind succeeds exactly where one Allow was given.
//!
//! Each operation names itself, so that what the directory noted about it can be held against what its client was at that moment.

use crate::recorder::{self, BASE, InFront, PASSWORD, Recorder, SERVICE, Takes};
use crate::support::{Misbehaviour, Wire, capture, until};
use anyhow::{Context, Result, ensure};
use domain::settings::{Anonymous, Client};
use ldap_wire::{
    BindRequest, ExtendedRequest, ExtendedResponse, Filter, LdapResult, Message, MessageId, Op, Password, Scope,
    SearchRequest, SearchResultEntry, bind, extended,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PEOPLE: &[&str] = &["ann", "bob", "eve"];
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
}

impl Model {
    fn number(&self) -> u32 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    fn code(&self, factor: Factor) -> String {
        format!("{}{:05}", factor as u8, self.number() % 100_000)
    }

    /// A name for an operation that may run as this identity.
    fn operation(&self, below: &str, identity: Option<&str>) -> String {
        let name = format!("cn=op{},{below}{BASE}", self.number());
        self.operations.lock().expect("no panic").insert(name.clone(), identity.map(str::to_owned));
        name
    }
}

#[test]
fn nothing_runs_as_anybody_who_was_not_allowed_since_the_last_bind_of_that_connection() -> Result<()> {
    // T-04: I1, I2; L-11, L-12, L-13, L-30, L-31, L-32, L-33
    let runtime = capture::quiet_runtime()?;
    let client = Client { anonymous: Anonymous::Forward, ..recorder::listing_client("crowd") };
    let (recorder, lab) = runtime.block_on(async {
        let recorder = Recorder::start(PEOPLE, Takes::default()).await?;
        let lab = recorder.behind_gateway(client).await?;
        until("the id to be kept", || !lab.gateway.settings.pinned().is_empty()).await?;
        lab.gateway.verification.misbehave(Misbehaviour::ByCode);
        anyhow::Ok((recorder, lab))
    })?;
    let seed: u64 = match std::env::var(SEED) {
        Ok(seed) => seed.parse()?,
        Err(_) => getrandom::u64().expect("the kernel gives random octets"),
    };
    let octets: Vec<u8> = (0..4u64).flat_map(|part| (seed ^ part).to_le_bytes()).collect();
    let config = Config { cases: 48, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &octets));
    let scripts = proptest::collection::vec(proptest::collection::vec(step(), 1..14), 1..=CLIENTS);
    let model = Arc::new(Model::default());
    let (recorder, lab) = (Arc::new(recorder), Arc::new(lab));
    let held = runner.run(&scripts, |scripts| {
        let all = run_all(&recorder, &lab, &model, scripts);
        runtime.block_on(all).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    held.map_err(|error| anyhow::anyhow!("{SEED}={seed}\n{error}"))
}

async fn run_all(
    recorder: &Arc<Recorder>,
    lab: &Arc<InFront>,
    model: &Arc<Model>,
    scripts: Vec<Vec<Step>>,
) -> Result<()> {
    let running: Vec<_> = scripts
        .into_iter()
        .enumerate()
        .map(|(place, steps)| {
            let (lab, model) = (lab.clone(), model.clone());
            tokio::spawn(async move {
                let mut one = One::connect(&lab, &model, place).await?;
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
    for seen in recorder.take_seen() {
        let allowed = operations.get(&seen.about).with_context(|| format!("{seen:?} was sent by nobody"))?;
        ensure!(allowed.as_deref() == Some(&seen.who), "{seen:?} may run as {allowed:?} only");
    }
    // I2: a success for each Allow, and an Allow for each success.
    let mut count: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for code in lab.gateway.verification.take_allowed_codes() {
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
    lab: Arc<InFront>,
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
    async fn connect(lab: &Arc<InFront>, model: &Arc<Model>, place: usize) -> Result<Self> {
        let (wire, tls) = Self::wire(lab, place).await?;
        Ok(Self {
            lab: lab.clone(),
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
    async fn wire(lab: &InFront, number: usize) -> Result<(Wire, bool)> {
        let tls = !number.is_multiple_of(3);
        let abrupt = number.is_multiple_of(2);
        Ok((lab.gateway.connect_as(tls.then_some(&lab.tls), abrupt).await?, tls))
    }

    async fn again(&mut self) -> Result<()> {
        self.connections += 1;
        (self.wire, self.tls) = Self::wire(&self.lab, self.connections).await?;
        self.identity.clear();
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Service => {
                let expected = self.code_of_bind(0);
                self.bind(SERVICE, PASSWORD, expected, SERVICE.to_owned()).await
            }
            Step::User(who, factor) => self.user(who, factor, false).await,
            Step::UserAndMore(who, factor) => self.user(who, factor, true).await,
            Step::WrongPassword(who) => {
                let password = format!("wrong{},999999", self.model.number());
                let expected = self.code_of_bind(49);
                self.bind(PEOPLE[who], &password, expected, String::new()).await
            }
            Step::UnknownUser => {
                let expected = self.code_of_bind(49);
                self.bind("mallory", "wrong,999999", expected, String::new()).await
            }
            Step::EmptyPassword => self.bind(PEOPLE[0], "", 53, String::new()).await,
            Step::Nobody => self.bind("", "", 0, String::new()).await,
            Step::Search => {
                let about = self.model.operation("", Some(&self.identity));
                self.last = self.wire.send_search(&search(&about), &[]).await?;
                let (done, entry) = self.answer(self.last).await?;
                ensure!(LdapResult::decode(&done)?.is_success(), "{:?}", LdapResult::decode(&done));
                let entry = entry.context("an entry")?;
                let seen_as = entry.first_text("seenAs").unwrap_or_default().to_owned();
                ensure!(entry.dn == about && seen_as == self.identity, "{entry:?} for {:?}", self.identity);
                Ok(())
            }
            Step::SlowSearch => {
                let below = format!("{},", recorder::SLOW);
                let about = self.model.operation(&below, Some(&self.identity));
                self.last = self.wire.send_search(&search(&about), &[]).await?;
                Ok(())
            }
            Step::Delete => {
                let about = self.model.operation("", Some(&self.identity));
                let id = self.wire.next_id();
                self.wire.send(&delete(id, &about)).await?;
                ensure!(LdapResult::decode(&self.answer(id).await?.0)?.is_success());
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
                self.wire.send(&bind_request(id, PEOPLE[who], &format!("{PASSWORD},{code}"))).await?;
                tokio::time::sleep(Duration::from_millis(after)).await;
                if matches!(factor, Factor::NoLater | Factor::Never) {
                    // The bind is pending still, or was refused: then this is nobody's.
                    let behind = self.model.operation("", Some(""));
                    let _ = self.wire.send_search(&search(&behind), &[]).await;
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
        let mut octets = bind_request(id, PEOPLE[who], &format!("{PASSWORD},{code}"));
        // In clear text the bind is answered at once, and what stands behind it runs as nobody: not what is meant here.
        let behind = (more && self.tls).then(|| self.wire.next_id());
        if let Some(behind) = behind {
            let about = self.model.operation("", None);
            octets.extend_from_slice(&search(&about).encode(behind, &[]));
            octets.extend_from_slice(&delete(self.wire.next_id(), &about));
        }
        self.wire.send(&octets).await?;
        if let Some(behind) = behind {
            let (done, entry) = self.answer(behind).await?;
            ensure!(entry.is_none() && LdapResult::decode(&done)?.code.0 == 2, "an operation behind a bind");
        }
        let person = recorder::dn_of(PEOPLE[who]);
        self.bound(id, expected, person).await?;
        if expected == 0 {
            self.model.succeeded.lock().expect("no panic").push(code);
        }
        self.who_am_i().await
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
            let plain = std::mem::replace(&mut self.wire, self.lab.gateway.connect_as(None, false).await?);
            self.wire = plain.into_tls(&self.lab.tls).await?;
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

fn search(base: &str) -> SearchRequest {
    SearchRequest::new(base.to_owned(), Scope::Subtree, &Filter::present("objectClass"), &[])
}

fn delete(id: MessageId, name: &str) -> Vec<u8> {
    let mut writer = ldap_wire::ber::Writer::new();
    writer.nested(ldap_wire::ber::SEQUENCE, |w| {
        w.integer(ldap_wire::ber::INTEGER, id.get().into());
        w.octets(Op::DelRequest.tag(), name.as_bytes());
    });
    writer.into_vec()
}
