//! How a gateway starts, follows its settings, says how it is, and stops.

use crate::support::*;
use domain::settings::Settings;
use radius_gateway::{Deps, Nodes, RadiusSection};
use radius_wire::Code;
use service_kit::{Clock, Process};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[tokio::test]
async fn status_server_is_answered_while_logins_can_be_decided_and_not_otherwise() {
    //
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let status = nas.status();
    let answer = nas.ask(&status).await;
    assert_eq!((answer.code(), answer.kinds()), (Code::AccessAccept, vec![80]));
    assert_eq!(nas.ask(&status).await, answer);
    world.verification.misbehave(Some(Fault::Unavailable));
    until("it is silent", async || {
        let status = nas.status();
        nas.send(&status.octets).await;
        tokio::time::timeout(Duration::from_millis(100), nas.hear(&status)).await.is_err()
    })
    .await;
    assert!(gateway.process.health().is_ready(), "readiness does not depend on another part");
    world.verification.misbehave(None);
    until("it answers again", async || {
        let status = nas.status();
        nas.send(&status.octets).await;
        tokio::time::timeout(Duration::from_millis(100), nas.hear(&status)).await.is_ok()
    })
    .await;
    let unsigned = nas.status().unsigned();
    nas.send(&unsigned.octets).await;
    nas.hears_nothing().await;
    assert_eq!(world.directory.binds(), 0);
}

#[tokio::test]
async fn a_stopping_gateway_finishes_what_it_has_and_takes_nothing_new() {
    //
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let state = nas.ask(&first).await.state();
    world.verification.misbehave(Some(Fault::Slow(Duration::from_millis(700))));
    let pending = nas.question("ann", ANN);
    nas.send(&pending.octets).await;
    until("it is at work", async || world.verification.decisions() == 2).await;
    gateway.shutdown.begin();
    gateway.shutdown.draining().await;
    let (status, new) = (nas.status(), nas.question("ann", ANN));
    nas.send(&status.octets).await;
    nas.send(&new.octets).await;
    nas.send(&pending.octets).await; // a copy of what is at work
    nas.send(&first.octets).await; // a copy of what was answered
    assert_eq!(nas.hear(&first).await.code(), Code::AccessChallenge);
    let answer = nas.answer_to("ann", &state, CODE);
    nas.send(&answer.octets).await;
    assert_eq!(nas.hear(&pending).await.code(), Code::AccessChallenge);
    assert_eq!(nas.hear(&answer).await.code(), Code::AccessAccept, "a conversation goes on");
    tokio::time::timeout(Duration::from_secs(2), gateway.process.finish()).await.expect("it stops");
    nas.hears_nothing().await;
    assert_eq!(world.directory.binds(), 2);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_refused_when_the_process_stops() {
    // R-39, last step: the drain of these tests ends after one second
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    world.verification.misbehave(Some(Fault::Hangs));
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    until("it is at work", async || world.verification.decisions() == 1).await;
    gateway.shutdown.begin();
    assert_eq!(nas.hear(&question).await.code(), Code::AccessReject);
    gateway.process.finish().await;
    let shut: (String, String) = ("ann".into(), "shutting_down".into());
    until("it is reported", async || world.verification.reports() == [shut.clone()]).await;
}

#[tokio::test]
async fn new_settings_are_in_force_without_a_restart() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    world
        .store
        .change(&world.bus, |settings| {
            for client in &mut settings.clients {
                client.appended = domain::settings::Appended::Off;
            }
        })
        .await;
    until("the change is in force", async || {
        let question = nas.question("ann", ANN);
        nas.ask(&question).await.code() == Code::AccessChallenge
    })
    .await;
    world
        .store
        .change(&world.bus, |settings| settings.clients.retain(|client| client.name.as_str() != "required"))
        .await;
    until("the client is gone", async || {
        let status = nas.status();
        nas.send(&status.octets).await;
        tokio::time::timeout(Duration::from_millis(100), nas.hear(&status)).await.is_err()
    })
    .await;
}

#[tokio::test]
async fn whoever_waits_while_the_settings_change_is_answered_all_the_same() {
    // another client is gone, and the secret of this one is a new one now
    const NEW: &str = "the-next-shared-secret-of-the-lab";
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(PATIENT, gateway.address, SECRET).await;
    world.verification.hold(true);
    let waits = nas.question("ann", ANN);
    nas.send(&waits.octets).await;
    until("it is at work", async || world.verification.decisions() == 1).await;
    let gone = |settings: &mut Settings| settings.clients.retain(|client| client.name.as_str() != "required");
    world.store.change(&world.bus, gone).await;
    world.store.rotate(&world.bus, "patient", NEW, NOW_MS + 1).await;
    let mut changed = Nas::new(PATIENT, gateway.address, NEW).await;
    until("the change is in force", async || {
        let status = changed.status();
        changed.send(&status.octets).await;
        tokio::time::timeout(Duration::from_millis(100), changed.hear(&status)).await.is_ok()
    })
    .await;
    world.verification.hold(false);
    let answer = nas.hear(&waits).await;
    assert_eq!((answer.code(), nas.ask(&waits).await), (Code::AccessChallenge, answer));
    assert_eq!((world.directory.binds(), world.verification.decisions()), (1, 1));
}

#[tokio::test]
async fn a_gateway_waits_for_its_store_and_is_not_ready_before() {
    // FR-01: whether anybody may come the store says, so no port is open before
    let world = World::new().await;
    world.store.away(true);
    let deps = Deps { clock: Clock::system(), ..world.deps(Nodes::One) };
    let node = Node::start(deps, on_known_ports()).await;
    assert!(!node.process.health().is_ready() && !node.process.health().is_started());
    assert!(is_free(node.address) && is_free(node.accounting));
    world.store.away(false);
    until("it is ready", async || node.process.health().is_ready()).await;
    assert!(node.process.health().is_started());
    let mut nas = Nas::new(VPN, node.address, SECRET).await;
    let question = nas.question("ann", "wrong password");
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
}

#[tokio::test]
async fn ports_are_open_only_while_there_is_a_client() {
    // FR-01, FR-02: none before the first client, none after the last, with a login waiting, too, none while it is switched off; one
    // that is taken then is said, and tried until it is free
    const SECONDS_5: Duration = Duration::from_secs(5);
    let world = World::new().await;
    let mut clients = Vec::new();
    world.store.change(&world.bus, |settings| std::mem::swap(&mut clients, &mut settings.clients)).await;
    let node = Node::start(world.deps(Nodes::One), on_known_ports()).await;
    let (health, ports) = (node.process.health(), [node.address, node.accounting]);
    assert!(ports.into_iter().all(is_free));
    until("it is off", async || health.is_ready()).await;
    assert!(health.report().contains("[+] radius listener: off"), "{}", health.report());

    let changed = Instant::now();
    world.store.change(&world.bus, |settings| settings.clients.clone_from(&clients)).await;
    until("the ports are open", async || !ports.into_iter().any(is_free)).await;
    assert!(changed.elapsed() < SECONDS_5 && health.is_ready());
    let mut nas = Nas::new(PATIENT, node.address, SECRET).await;
    world.verification.misbehave(Some(Fault::Hangs));
    let waits = nas.question("ann", ANN);
    nas.send(&waits.octets).await;
    until("it is at work", async || world.verification.decisions() == 1).await;

    let changed = Instant::now();
    world.store.change(&world.bus, |settings| settings.clients.clear()).await;
    until("the ports are closed", async || ports.into_iter().all(is_free)).await;
    assert!(changed.elapsed() < SECONDS_5 && health.is_ready());
    let ended: (String, String) = ("ann".into(), "challenge_gone".into());
    until("the login has ended", async || world.verification.reports() == [ended.clone()]).await;
    nas.hears_nothing().await;

    let somebody = std::net::UdpSocket::bind(node.address).expect("it is free");
    world.store.change(&world.bus, |settings| settings.clients = clients).await;
    let address = node.address;
    let words = format!("radius.listen: the UDP address {address} cannot be opened: Address already in use");
    until("the trouble is shown", async || health.report().contains(&format!("[-] radius listener: {words}"))).await;
    assert!(!health.is_ready() && is_free(node.accounting), "all or none");
    drop(somebody);
    until("the ports are ours", async || health.is_ready()).await;
    world.verification.misbehave(None);
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);

    world.store.change(&world.bus, |settings| settings.radius.enabled = false).await;
    until("the ports are closed", async || ports.into_iter().all(is_free)).await;
    world.store.change(&world.bus, |settings| settings.radius.enabled = true).await;
    until("the ports are open", async || !ports.into_iter().any(is_free)).await;
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
}

/// Ports that nobody has now.
fn on_known_ports() -> RadiusSection {
    let free = || std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let (one, other) = (free(), free());
    let address = |socket: &std::net::UdpSocket| vec![socket.local_addr().expect("bound")];
    RadiusSection { listen: address(&one), accounting_listen: address(&other), ..section() }
}

fn is_free(port: SocketAddr) -> bool {
    std::net::UdpSocket::bind(port).is_ok()
}

#[tokio::test]
async fn a_port_in_use_stops_the_start_with_one_clear_sentence() {
    // FR-02
    let world = World::new().await;
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let mut section = section();
    section.listen = vec![taken.local_addr().expect("bound")];
    let address = section.listen[0];
    let process = Process::detached("radius-gateway");
    let started = radius_gateway::start(section, world.deps(Nodes::One), &process).await;
    let Err(error) = started else { panic!("the port was free") };
    let sentence = format!("{error:#}");
    assert!(
        sentence
            .starts_with(&format!("radius.listen: the UDP address {address} cannot be opened: Address already in use")),
        "{sentence}"
    );
}

#[tokio::test]
async fn whoever_asks_by_ipv6_is_answered_by_ipv6() {
    //
    let world = World::new().await;
    let listen = vec!["[::]:0".parse().expect("an address")];
    let node = Node::start(world.deps(Nodes::One), RadiusSection { listen, ..section() }).await;
    until("it is ready", async || node.process.health().is_ready()).await;
    let mut nas = Nas::new("::1", (std::net::Ipv6Addr::LOCALHOST, node.address.port()).into(), SECRET).await;
    let question = nas.question("ann", ANN);
    let asked = nas.ask(&question).await;
    assert_eq!(asked.code(), Code::AccessChallenge);
    let answer = nas.answer_to("ann", &asked.state(), CODE);
    assert_eq!(nas.ask(&answer).await.code(), Code::AccessAccept);
}

#[tokio::test]
async fn a_wildcard_socket_answers_from_the_address_it_was_asked_at() {
    //
    let world = World::new().await;
    let mut section = section();
    section.listen = vec!["0.0.0.0:0".parse().expect("an address")];
    let node = Node::start(world.deps(Nodes::One), section).await;
    until("it is ready", async || node.process.health().is_ready()).await;
    let mut nas = Nas::new(VPN, ([127, 0, 7, 7], node.address.port()).into(), SECRET).await;
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
}
