//! Neither time nor octets tell anybody who exists (L-40, L-41, T-08): thousands of binds, of two populations in random order, so that
//! whatever else the machine does, it does to both.

use crate::logins::kolmogorov_smirnov;
use crate::recorder::{self, InFront, PASSWORD, Recorder, SERVICE, Takes};
use crate::support::{Misbehaviour, Wire, capture, client, comparable, until};
use anyhow::{Context, Result};
use domain::settings::{self, Appended, Client};
use domain::{ObjectName, Reason, ResultClass};
use ldap_wire::LdapResult;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

const PEOPLE: &[&str] = &["ann"];
const SAMPLES: usize = 2_000;
/// More than the gateway remembers: what it saw while everything began is forgotten.
const LEARNED_FROM: usize = 100;
/// Of each client.
const AT_ONCE: usize = 16;

/// Two names that nobody may tell apart, as one client types them.
#[derive(Clone)]
struct Pair {
    what: &'static str,
    source: [u8; 4],
    names: [String; 2],
    code: &'static str,
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
        let coded = Pair { what: "a name and a code", source: [127, 0, 0, 1], names: names.clone(), code: ",999999" };
        let plain = Pair { what: "a name", source: [127, 0, 0, 2], names, code: "" };
        let pairs = [coded, Pair { what: "a DN", names: dns, ..plain.clone() }, plain];
        // What succeeds meanwhile is quicker than what does not, and teaches the gateway nothing about that.
        let over = Arc::new(AtomicBool::new(false));
        let busy = tokio::spawn(log_in_until(lab.clone(), over.clone()));
        let allowed = 1.95 * (2.0 / SAMPLES as f64).sqrt();
        let mut left: Vec<Pair> = pairs.into();
        let mut found = Vec::new();
        for _ in 0..2 {
            let distances = measure(&lab, &left).await?;
            found = left.into_iter().zip(distances).filter(|(_, distance)| *distance > allowed).collect();
            left = found.iter().map(|(pair, _)| pair.clone()).collect();
        }
        over.store(true, Ordering::Relaxed);
        busy.await??;
        let told: Vec<_> = found.iter().map(|(pair, distance)| format!("{}: {distance:.3}", pair.what)).collect();
        assert!(told.is_empty(), "allowed are {allowed:.3}, found {told:?}");
        Ok(())
    })
}

async fn log_in_until(lab: Arc<InFront>, over: Arc<AtomicBool>) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let mut wire = connect(&lab, [127, 0, 0, 2]).await?;
        for _ in 0..20 {
            anyhow::ensure!(wire.bind(SERVICE, PASSWORD).await? == 0, "the service account is refused");
        }
    }
    Ok(())
}

async fn connect(lab: &InFront, source: [u8; 4]) -> Result<Wire> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    let address = lab.gateway.gateway.tls_addresses().first().copied().context("a port")?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Wire::tls(stream, &lab.tls).await
}

/// How far the two populations of each pair lie apart.
async fn measure(lab: &Arc<InFront>, pairs: &[Pair]) -> Result<Vec<f64>> {
    let mut running = Vec::new();
    for source in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        let of_source: Vec<_> = pairs.iter().enumerate().filter(|(_, pair)| pair.source == source).collect();
        let tasks = of_source.iter().flat_map(|(place, _)| (0..2 * SAMPLES).map(|number| (*place, number % 2)));
        let mut tasks: Vec<_> = tasks.map(|task| (random(), task)).collect();
        tasks.sort_unstable();
        // In front, what fills the gateway's memory of how long a bind takes.
        let learning = of_source.iter().flat_map(|(place, _)| (0..LEARNED_FROM).map(|_| (0, (*place, 2))));
        let tasks: Arc<Vec<_>> = Arc::new(learning.chain(tasks).map(|(_, task)| task).collect());
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..AT_ONCE {
            let (lab, tasks, next, pairs) = (lab.clone(), tasks.clone(), next.clone(), pairs.to_vec());
            running.push(tokio::spawn(async move {
                let mut samples = Vec::new();
                let mut wire = connect(&lab, source).await?;
                while let Some((place, which)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let pair = &pairs[*place];
                    // The same password again would not be asked about (FB-02).
                    let password = format!("wrong{}{}", new_number(), pair.code);
                    let name = &pair.names[which % 2];
                    let start = Instant::now();
                    anyhow::ensure!(wire.bind(name, &password).await? == 49, "{name} was not refused");
                    samples.push((*place, *which, start.elapsed().as_secs_f64()));
                }
                Ok(samples)
            }));
        }
    }
    let mut populations = vec![[Vec::new(), Vec::new(), Vec::new()]; pairs.len()];
    for worker in running {
        worker.await??.into_iter().for_each(|(place, which, seconds)| populations[place][which].push(seconds));
    }
    let distances = populations.iter_mut().map(|[known, unknown, _]| {
        assert_eq!((known.len(), unknown.len()), (SAMPLES, SAMPLES));
        kolmogorov_smirnov(known, unknown)
    });
    Ok(distances.collect())
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
    let mut wire = connect(&lab, [127, 0, 0, 1]).await?;
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
