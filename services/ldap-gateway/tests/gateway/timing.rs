//! Neither time nor octets tell anybody who exists, or whose password was right (L-40, L-41, T-08): thousands of binds, of two populations in random order, so that
//! whatever else the machine does, it does to both.

use crate::makes::Make;
use crate::recorder::{self, InFront, PASSWORD, Recorder, SERVICE, Takes};
use crate::support::{
    Lab, Misbehaviour, Running, Wanted, Wire, capture, client, comparable, directory_at, service_account, trusting,
    until,
};
use anyhow::{Context, Result};
use domain::settings::{self, Appended, BindKind, Client, Preset};
use domain::{ObjectName, Reason, ResultClass};
use lab::{Pki, Samba, password_of};
use ldap_wire::{Control, LdapResult, oid};
use proto::user_store::PasswordOutcome;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

const PEOPLE: &[&str] = &["ann", "nora", "lou", "cora"];
const MANY: Effort = Effort { samples: 2_000, learned_from: 100, at_once: 16 };
/// A directory that takes its time over a wrong password, and over one after the other.
const SLOWLY: Effort = Effort { learned_from: 40, at_once: 2, ..MANY };
/// Every refusal takes half a second.
const SHIPPED: Effort = Effort { at_once: 200, ..MANY };

#[derive(Clone, Copy)]
struct Effort {
    /// Of each name.
    samples: usize,
    /// More than the gateway remembers: what it saw while everything began is forgotten.
    learned_from: usize,
    /// Of each client.
    at_once: usize,
}

/// Two binds that nobody may tell apart, as one client sends them.
#[derive(Clone)]
struct Pair {
    what: &'static str,
    source: [u8; 4],
    names: [String; 2],
    /// `None` is a wrong one, another one each time.
    passwords: [Option<String>; 2],
    code: &'static str,
    controls: Vec<Control>,
    /// Each time on a connection of its own.
    afresh: bool,
}

impl Pair {
    /// Of a client at 127.0.0.1 that appends nothing.
    fn of(what: &'static str, names: [String; 2]) -> Self {
        let passwords = [None, None];
        Self { what, source: [127, 0, 0, 1], names, passwords, code: "", controls: Vec::new(), afresh: false }
    }

    /// A wrong password of this name, and the right one, which is not enough.
    fn right(what: &'static str, name: &str, password: &str) -> Self {
        let passwords = [None, Some(password.to_owned())];
        Self { passwords, ..Self::of(what, [name, name].map(str::to_owned)) }
    }
}

#[test]
fn no_clock_tells_an_unknown_user_from_a_wrong_password() -> Result<()> {
    // L-41: two-sample Kolmogorov-Smirnov, p > 0.001, one repeat allowed
    let runtime = capture::quiet_runtime()?;
    runtime.block_on(async {
        let millis = Duration::from_millis;
        // One directory that answers at once, and one that is slow, to a no slower than to a yes.
        let quick = Recorder::start(PEOPLE, Takes::default()).await?;
        let takes = Takes { by_dn: millis(2), by_name: millis(4), accepting: millis(1), refusing: millis(6) };
        let slow = Recorder::start(PEOPLE, takes).await?;
        let lab = Arc::new(quick.behind_gateway(client("coded")).await?);
        let other = ObjectName::new("other")?;
        let listing = Client {
            appended: Appended::Off,
            target: other.clone(),
            sources: vec!["127.0.0.2/32".parse()?],
            ..recorder::listing_client("plain")
        };
        let second = settings::Directory { name: other, ..slow.directory() };
        lab.gateway
            .change_settings(|settings| {
                settings.directories.push(second);
                settings.clients.push(listing);
            })
            .await?;
        until("the id to be kept", || !lab.gateway.settings.pinned().is_empty()).await?;
        let names = ["ann".to_owned(), "nobody".to_owned()];
        let dns = ["ann", "nobody"].map(recorder::dn_of);
        let coded = Pair { code: ",999999", ..Pair::of("a name and a code", names.clone()) };
        let plain = Pair { source: [127, 0, 0, 2], ..Pair::of("a name", names) };
        let pairs = [coded, Pair { what: "a DN", names: dns, ..plain.clone() }, plain];
        // What succeeds meanwhile is quicker than what does not, and teaches the gateway nothing about that.
        let over = Arc::new(AtomicBool::new(false));
        let busy = tokio::spawn(log_in_until(lab.clone(), over.clone()));
        let told = told_apart(&lab.front(), pairs.into(), MANY).await?;
        over.store(true, Ordering::Relaxed);
        busy.await??;
        assert!(told.is_empty(), "{told:?}");
        Ok(())
    })
}

#[test]
fn no_clock_tells_who_is_in_an_openldap_directory_whatever_stands_beside_the_name() -> Result<()> {
    // L-41, L-15
    let runtime = capture::quiet_runtime()?;
    runtime.block_on(async {
        let plain = Client { appended: Appended::Off, ..client("real") };
        let lab = Lab::start(Wanted { client: plain, section: many, ..Wanted::default() }).await?;
        let names = ["ann.archer", "nobody.here"];
        let pair = |what, form: &dyn Fn(&str) -> String| Pair::of(what, names.map(form));
        let some = |oid: &str, value: Option<&'static [u8]>| Control::new(oid, false, value.map(Into::into));
        let controls = vec![
            some(oid::PASSWORD_POLICY, Some(b"junk")),
            some(oid::AUTHORIZATION_IDENTITY, None),
            some("1.3.6.1.4.1.21008.108.63.1", None),
        ];
        let pairs = vec![
            pair("a name", &str::to_owned),
            pair("a DN", &|name| lab.person(name)),
            Pair { controls, ..pair("a name and controls", &str::to_owned) },
            Pair { afresh: true, ..pair("a name on a new connection", &str::to_owned) },
            Pair::right("a right password", names[0], &password_of(names[0])),
        ];
        let address = lab.gateway.gateway.tls_addresses().first().copied().context("a port")?;
        let told = told_apart(&Front { address, tls: lab.tls.clone() }, pairs, MANY).await?;
        assert!(told.is_empty(), "{told:?}");
        Ok(())
    })
}

#[test]
fn no_clock_tells_who_is_in_a_windows_domain_whatever_form_the_name_has() -> Result<()> {
    // L-41, L-20
    let runtime = capture::quiet_runtime()?;
    runtime.block_on(async {
        service_kit::tls::install_provider();
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let samba = Samba::start(dir.path(), &pki)?;
        samba.modify(&format!(
            "dn: {}\nchangetype: modify\nreplace: lockoutThreshold\nlockoutThreshold: 0\n-\n\n\
             dn: {}\nchangetype: modify\nreplace: mail\nmail: ann@mail.example\n-\n",
            Samba::BASE,
            Samba::dn_of("ann.archer")
        ))?;
        let mut directory = directory_at(&samba.ldap_url(), Samba::BASE, BindKind::Tls);
        directory.preset = Preset::ActiveDirectory;
        directory.query_bind.name = Samba::QUERY_DN.into();
        (directory.netbios_domain, directory.lockout_guard) = (Samba::DOMAIN.into(), None);
        directory.attributes.username = Some(["userPrincipalName", "sAMAccountName", "mail"].map(str::to_owned).into());
        directory.ca = Some(std::fs::read_to_string(samba.ca_file())?);
        let listing = Client {
            appended: Appended::Off,
            service_accounts: vec![service_account(&Samba::dn_of("carla.cook"))],
            ..client("wiki")
        };
        let wanted = Wanted { client: listing, section: many, ..Wanted::default() };
        let gateway = Running::start(directory, wanted, &pki).await?;
        until("the id to be kept", || !gateway.settings.pinned().is_empty()).await?;
        let address = gateway.gateway.tls_addresses().first().copied().context("a port")?;
        let front = Front { address, tls: trusting(&pki.ca_file())? };
        let pair = |what, form: &dyn Fn(&str) -> String| Pair::of(what, ["ann.archer", "nobody.here"].map(form));
        let pairs = vec![
            pair("a name", &str::to_owned),
            pair("a user principal name", &|name| format!("{name}@lab.test")),
            pair("a name of the domain", &|name| format!(r"LAB\{name}")),
            pair("a DN", &Samba::dn_of),
            pair("a mail address", &|name| format!("{}@mail.example", name.split('.').next().unwrap_or(name))),
            Pair::right("a right password", "ben.baker", &password_of("ben.baker")),
        ];
        // A domain controller needs minutes for two thousand of each: `make test-timing`.
        let samples = std::env::var("TIMING_SAMPLES").ok().map_or(Ok(400), |number| number.parse())?;
        let told = told_apart(&front, pairs, Effort { samples, ..SLOWLY }).await?;
        assert!(told.is_empty(), "{told:?}");
        Ok(())
    })
}

#[test]
fn no_clock_tells_anybody_apart_by_a_gateway_as_it_is_shipped() -> Result<()> {
    // L-40, L-41: half a second for every refusal, and all of a crowd at once
    let runtime = capture::quiet_runtime()?;
    runtime.block_on(async {
        let millis = Duration::from_millis;
        let takes = Takes { by_name: millis(1), accepting: millis(1), refusing: millis(6), ..Takes::default() };
        let recorder = Recorder::start(PEOPLE, takes).await?;
        let lab = recorder
            .behind(client("shipped"), |section| {
                section.refusal_ms_min = ldap_gateway::LdapSection::default().refusal_ms_min;
                many(section);
            })
            .await?;
        let verification = &lab.gateway.verification;
        verification.enrol("ann", &["111111"]);
        verification.denies("nora", "not_enrolled");
        verification.takes(millis(5));
        let mut pairs = vec![
            Pair::of("a name", ["ann", "nobody"].map(str::to_owned)),
            Pair::right("a wrong code", "ann", PASSWORD),
            Pair::right("not_enrolled", "nora", PASSWORD),
        ];
        pairs.iter_mut().for_each(|pair| pair.code = ",999999");
        let told = told_apart(&lab.front(), pairs, SHIPPED).await?;
        assert!(told.is_empty(), "{told:?}");
        Ok(())
    })
}

#[test]
fn no_clock_tells_a_right_password_from_a_wrong_one_where_no_phone_rings() -> Result<()> {
    // L-40, L-41: a directory that takes its time over a no, then one that does over a yes; verification does in both
    let runtime = capture::quiet_runtime()?;
    runtime.block_on(async {
        let millis = Duration::from_millis;
        let before = Takes { by_name: millis(1), ..Takes::default() };
        let slow_no = Takes { accepting: millis(1), refusing: millis(6), ..before };
        let slow_yes = Takes { accepting: millis(6), refusing: millis(1), ..before };
        let refusals = ["nora", "lou", "cora"].into_iter().zip(["not_enrolled", "locked_out", "client_not_allowed"]);
        for (takes, few) in [(slow_no, false), (slow_yes, true)] {
            let recorder = Recorder::start(PEOPLE, takes).await?;
            let lab = recorder.behind_gateway(client("refusing")).await?;
            let verification = &lab.gateway.verification;
            verification.enrol("ann", &["111111"]);
            refusals.clone().for_each(|(name, reason)| verification.denies(name, reason));
            verification.takes(millis(5));
            let nobody = Pair {
                passwords: [None, Some(PASSWORD.to_owned())],
                ..Pair::of("an unknown name, and a right password", ["nobody", "ann"].map(str::to_owned))
            };
            let mut pairs = vec![nobody, Pair::right("a wrong code", "ann", PASSWORD)];
            pairs.extend(refusals.clone().map(|(name, reason)| Pair::right(reason, name, PASSWORD)));
            pairs.truncate(if few { 2 } else { pairs.len() });
            pairs.iter_mut().for_each(|pair| pair.code = ",999999");
            let told = told_apart(&lab.front(), pairs, MANY).await?;
            assert!(told.is_empty(), "{told:?}");
        }
        Ok(())
    })
}

#[test]
fn no_clock_tells_who_exists_or_whose_password_was_right_where_unavailable_is_told_as_a_no() -> Result<()> {
    // L-40, L-41, FL-21: nobody decides about a right password, then nobody says which codes there are; both fail at once
    let runtime = capture::quiet_runtime()?;
    runtime.block_on(async {
        let millis = Duration::from_millis;
        let takes = Takes { by_name: millis(1), accepting: millis(1), refusing: millis(4), ..Takes::default() };
        let recorder = Recorder::start(PEOPLE, takes).await?;
        let lab = recorder.behind_gateway(Client { unavailable_code: 49, ..client("hiding") }).await?;
        let verification = &lab.gateway.verification;
        verification.takes(millis(5));
        let mut wire = connect(&lab.front(), [127, 0, 0, 1]).await?;
        for _ in 0..40 {
            anyhow::ensure!(wire.bind("ann", &format!("{PASSWORD},999999")).await? == 49);
        }
        verification.takes(Duration::ZERO);
        let unknown = Pair::of("nobody says which codes there are", ["ann", "nobody"].map(str::to_owned));
        for (pair, misbehaviour) in
            [(Pair::right("nobody decides", "ann", PASSWORD), Misbehaviour::Empty), (unknown, Misbehaviour::Garbage)]
        {
            verification.misbehave(misbehaviour);
            let told = told_apart(&lab.front(), vec![Pair { code: ",999999", ..pair }], MANY).await?;
            assert!(told.is_empty(), "{told:?}");
        }
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_refusals_after_the_start_take_the_time_that_the_configuration_says() -> Result<()> {
    // L-40, L-41: nothing is known yet of how long anything takes
    let least = Duration::from_millis(300);
    let recorder = Recorder::start(PEOPLE, Takes::default()).await?;
    let right = format!("{PASSWORD},999999");
    for (name, password, misbehaviour) in [
        ("nobody", "wrong,999999", Misbehaviour::None),
        ("ann", "wrong,999999", Misbehaviour::None),
        ("ann", right.as_str(), Misbehaviour::None),
        ("ann", right.as_str(), Misbehaviour::Empty),
        ("ann", right.as_str(), Misbehaviour::Garbage),
    ] {
        let cold = Client { unavailable_code: 49, ..client("cold") };
        let lab = recorder.behind(cold, |section| section.refusal_ms_min = 300).await?;
        lab.gateway.verification.misbehave(misbehaviour.clone());
        let mut wire = connect(&lab.front(), [127, 0, 0, 1]).await?;
        let start = Instant::now();
        assert_eq!(wire.bind(name, password).await?, 49);
        assert!(start.elapsed() >= least, "{name} {password} {misbehaviour:?}: {:?}", start.elapsed());
    }
    Ok(())
}

#[test]
fn no_clock_tells_who_exists_by_a_code_that_is_asked_about_before_the_bind() -> Result<()> {
    // L-41, L-52 (b): verification takes its time over it, and hears of it where what was typed looks like one
    let runtime = capture::quiet_runtime()?;
    runtime.block_on(async {
        let recorder = Recorder::start(PEOPLE, Takes::default()).await?;
        let lab = recorder.behind_gateway(Client { appended: Appended::Optional, ..client("optional") }).await?;
        lab.gateway.verification.enrol("ann", &["111111"]);
        lab.gateway.verification.takes(Duration::from_millis(6));
        let pair = |what| Pair::of(what, ["ann", "nobody"].map(str::to_owned));
        let pairs = vec![
            Pair { code: ",999999", ..pair("a password and a code") },
            pair("a password"),
            Pair { code: ",99999", ..pair("a password that looks like no code") },
        ];
        let told = told_apart(&lab.front(), pairs, MANY).await?;
        assert!(told.is_empty(), "{told:?}");
        Ok(())
    })
}

#[test]
fn no_clock_tells_who_is_in_a_389_directory_or_whose_password_was_right() -> Result<()> {
    // L-40, L-41
    let runtime = capture::quiet_runtime()?;
    runtime.block_on(async {
        let make = Make::ds389()?;
        let plain = Client { appended: Appended::Off, ..client("real") };
        let wanted = Wanted { client: plain, section: many, ..Wanted::default() };
        let gateway = Running::start(make.directory.clone(), wanted, &make.pki).await?;
        let address = gateway.gateway.tls_addresses().first().copied().context("a port")?;
        let front = Front { address, tls: trusting(&make.pki.ca_file())? };
        let names = ["ann.archer", "nobody.here"];
        let pairs = vec![
            Pair::of("a name", names.map(str::to_owned)),
            Pair::of("a DN", names.map(|name| make.dn_of(name))),
            Pair::right("a right password", names[0], &password_of(names[0])),
        ];
        let told = told_apart(&front, pairs, SLOWLY).await?;
        assert!(told.is_empty(), "{told:?}");
        Ok(())
    })
}

#[test]
fn no_clock_tells_how_often_a_name_was_looked_for() -> Result<()> {
    // L-41: a directory that takes longer over a question than over a bind, and is asked three times for a bare name of nobody
    let runtime = capture::quiet_runtime()?;
    runtime.block_on(async {
        let takes = Takes { by_name: Duration::from_millis(6), refusing: Duration::from_millis(1), ..Takes::default() };
        let recorder = Recorder::start(PEOPLE, takes).await?;
        let directory = settings::Directory { preset: Preset::ActiveDirectory, ..recorder.directory() };
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let listing = Client { appended: Appended::Off, ..recorder::listing_client("thrice") };
        let gateway =
            Running::start(directory, Wanted { client: listing, section: many, ..Wanted::default() }, &pki).await?;
        until("the id to be kept", || !gateway.settings.pinned().is_empty()).await?;
        let address = gateway.gateway.tls_addresses().first().copied().context("a port")?;
        let front = Front { address, tls: trusting(&pki.ca_file())? };
        let names = ["ann".to_owned(), "nobody".to_owned()];
        let told = told_apart(&front, vec![Pair::of("a name", names)], MANY).await?;
        assert!(told.is_empty(), "{told:?}");
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_answer_to_a_wrong_password_but_who_typed_it() -> Result<()> {
    // L-56, L-41: what became of the password is told while the directory is still asked for the name in other ways
    let takes = Takes { by_name: Duration::from_millis(1_500), ..Takes::default() };
    let recorder = Recorder::start(PEOPLE, takes).await?;
    let directory = settings::Directory { preset: Preset::ActiveDirectory, ..recorder.directory() };
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let plain = Client { appended: Appended::Off, ..client("held") };
    let gateway = Running::start(directory, Wanted { client: plain, ..Wanted::default() }, &pki).await?;
    let mut wire = gateway.connect_tls(&trusting(&pki.ca_file())?).await?;
    let bind = tokio::spawn(async move { wire.bind("ann", "wrong").await });
    until("it to be told", || gateway.password_tries.settled() == [PasswordOutcome::Wrong]).await?;
    assert!(!bind.is_finished(), "the answer is still held back");
    assert_eq!(bind.await??, 49);
    Ok(())
}

fn many(section: &mut ldap_gateway::LdapSection) {
    section.connections_per_source_max = 2_000;
}

/// A gateway's port for LDAPS.
#[derive(Clone)]
struct Front {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
}

impl InFront {
    fn front(&self) -> Front {
        let address = self.gateway.gateway.tls_addresses().first().copied();
        Front { address: address.expect("a port"), tls: self.tls.clone() }
    }
}

/// The pairs of names that time tells apart: two-sample Kolmogorov-Smirnov, p > 0.001, one repeat allowed.
async fn told_apart(front: &Front, pairs: Vec<Pair>, effort: Effort) -> Result<Vec<String>> {
    let allowed = 1.95 * (2.0 / effort.samples as f64).sqrt();
    let mut left = pairs;
    let mut found = Vec::new();
    for _ in 0..2 {
        let distances = measure(front, &left, effort).await?;
        found = left.into_iter().zip(distances).filter(|(_, distance)| *distance > allowed).collect();
        left = found.iter().map(|(pair, _)| pair.clone()).collect();
    }
    let told = |(pair, distance): &(Pair, f64)| format!("{}: {distance:.3}, allowed are {allowed:.3}", pair.what);
    Ok(found.iter().map(told).collect())
}

async fn log_in_until(lab: Arc<InFront>, over: Arc<AtomicBool>) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let mut wire = connect(&lab.front(), [127, 0, 0, 2]).await?;
        for _ in 0..20 {
            anyhow::ensure!(wire.bind(SERVICE, PASSWORD).await? == 0, "the service account is refused");
        }
    }
    Ok(())
}

async fn connect(front: &Front, source: [u8; 4]) -> Result<Wire> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let stream = socket.connect(front.address).await?;
    stream.set_nodelay(true)?;
    Wire::tls(stream, &front.tls).await
}

/// How far the two populations of each pair lie apart.
async fn measure(front: &Front, pairs: &[Pair], effort: Effort) -> Result<Vec<f64>> {
    let Effort { samples, learned_from, at_once } = effort;
    let mut running = Vec::new();
    let sources: BTreeSet<[u8; 4]> = pairs.iter().map(|pair| pair.source).collect();
    for source in sources {
        let of_source: Vec<_> = pairs.iter().enumerate().filter(|(_, pair)| pair.source == source).collect();
        let tasks = of_source.iter().flat_map(|(place, _)| (0..2 * samples).map(|number| (*place, number % 2)));
        let mut tasks: Vec<_> = tasks.map(|task| (random(), task)).collect();
        tasks.sort_unstable();
        // In front, what fills the gateway's memory of how long a bind takes.
        let learning =
            of_source.iter().flat_map(|(place, _)| (0..2 * learned_from).map(|number| (0, (*place, 2 + number % 2))));
        let tasks: Arc<Vec<_>> = Arc::new(learning.chain(tasks).map(|(_, task)| task).collect());
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..at_once {
            let (front, tasks, next, pairs) = (front.clone(), tasks.clone(), next.clone(), pairs.to_vec());
            running.push(tokio::spawn(async move {
                let mut samples = Vec::new();
                let mut wire = connect(&front, source).await?;
                while let Some((place, which)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let pair = &pairs[*place];
                    // The same password again would not be asked about (FB-02).
                    let wrong = || format!("wrong{}", new_number());
                    let password = pair.passwords[which % 2].clone().unwrap_or_else(wrong) + pair.code;
                    let name = &pair.names[which % 2];
                    if pair.afresh {
                        wire = connect(&front, source).await?;
                    }
                    let start = Instant::now();
                    wire.send_bind(name, &password, &pair.controls).await?;
                    let answer = wire.receive().await?;
                    anyhow::ensure!(LdapResult::decode(&answer)?.code.0 == 49, "{name} was not refused");
                    samples.push((*place, *which, start.elapsed().as_secs_f64()));
                }
                Ok(samples)
            }));
        }
    }
    let mut populations = vec![[const { Vec::new() }; 4]; pairs.len()];
    for worker in running {
        worker.await??.into_iter().for_each(|(place, which, seconds)| populations[place][which].push(seconds));
    }
    let distances = populations.iter_mut().map(|[first, second, ..]| {
        assert_eq!((first.len(), second.len()), (samples, samples));
        kolmogorov_smirnov(first, second)
    });
    Ok(distances.collect())
}

/// The largest distance between the two distribution functions.
fn kolmogorov_smirnov(first: &mut [f64], second: &mut [f64]) -> f64 {
    first.sort_by(f64::total_cmp);
    second.sort_by(f64::total_cmp);
    let below = |sorted: &[f64], value: f64| sorted.partition_point(|it| *it <= value) as f64 / sorted.len() as f64;
    let distances = first.iter().chain(second.iter()).map(|value| (below(first, *value) - below(second, *value)).abs());
    distances.fold(0.0, f64::max)
}

fn random() -> u64 {
    getrandom::u64().expect("the kernel gives random octets")
}

fn new_number() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_there_is_to_say_no_is_said_in_the_same_octets() -> Result<()> {
    // L-40, T-08
    let recorder = Recorder::start(PEOPLE, Takes::default()).await?;
    let lab = recorder.behind_gateway(client("reasons")).await?;
    lab.gateway.verification.enrol("ann", &["111111"]);
    let mut wire = connect(&lab.front(), [127, 0, 0, 1]).await?;
    let wrong = comparable(&wire.bind_answer("ann", "wrong,111111").await?);
    let mut said = 0;
    let mut unavailable = None;
    for reason in Reason::ALL {
        lab.gateway.verification.misbehave(Misbehaviour::Deny(reason.code()));
        let answer = wire.bind_answer("ann", "secret,111111").await?;
        // No decision, or what is no reason to say no: 52, and that in the same octets too.
        let undecided = match reason.class() {
            ResultClass::Error => !reason.is_technical(),
            class => matches!(class, ResultClass::Success | ResultClass::Bypass),
        };
        if undecided {
            assert_eq!(LdapResult::decode(&answer)?.code.0, 52, "{reason:?}");
            let first = unavailable.get_or_insert_with(|| comparable(&answer));
            assert_eq!(&comparable(&answer), first, "{reason:?}");
        } else {
            assert_eq!(comparable(&answer), wrong, "{reason:?}");
            said += 1;
        }
    }
    assert!(said > 15, "{said} reasons");
    lab.gateway.verification.misbehave(Misbehaviour::None);
    assert_eq!(wire.bind("ann", "secret,111111").await?, 0);
    Ok(())
}
