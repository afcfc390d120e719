//! Accounting: R-86, FR-19, B-31. Acknowledged only when somebody has it.

use crate::support::*;
use radius_wire::{Attribute, AttributeType, Code};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

fn start() -> [Attribute<'static>; 3] {
    [
        user_name("ann"),
        attribute(AttributeType::ACCT_STATUS_TYPE, &[0, 0, 0, 1]),
        attribute(AttributeType::ACCT_SESSION_ID, b"s-17"),
    ]
}

#[tokio::test]
async fn a_report_is_stored_then_acknowledged_and_a_copy_gets_the_same_octets() {
    // R-86, A4
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.accounting, SECRET).await;
    let report = nas.report(&start());
    nas.send(&report.octets).await;
    let answer = nas.hear_accounting(&report).await;
    assert_eq!(answer.octets.first(), Some(&(Code::AccountingResponse as u8)));
    nas.send(&report.octets).await;
    assert_eq!(nas.hear_accounting(&report).await, answer);
    let records = world.store.accounting();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].client.as_str(), records[0].status.as_str()), ("vpn", "Start"));
    assert_eq!((records[0].session_id.as_str(), records[0].at_unix_ms), ("s-17", NOW_MS));
    // The device counts how long it has waited: another packet, the same record.
    let delayed = [start().as_slice(), &[attribute(AttributeType(41), &[0, 0, 0, 5])]].concat();
    let again = nas.report(&delayed);
    nas.send(&again.octets).await;
    nas.hear_accounting(&again).await;
    let records = world.store.accounting();
    assert_eq!((records[1].at_unix_ms, &records[1].digest), (NOW_MS - 5_000, &records[0].digest));
}

#[tokio::test]
async fn a_copy_that_lands_on_another_node_is_answered_with_the_same_octets_and_recorded_once() {
    // R-86, A4, D9
    let world = World::new().await;
    let (one, other) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(VPN, one.accounting, SECRET).await;
    let report = nas.report(&start());
    nas.send(&report.octets).await;
    let answer = nas.hear_accounting(&report).await;
    nas.gateway = other.accounting;
    // The first node tells the map when it has answered.
    until("the other node knows", async || {
        nas.send(&report.octets).await;
        let heard = tokio::time::timeout(Duration::from_millis(200), nas.hear_accounting(&report)).await;
        heard.is_ok_and(|heard| heard == answer)
    })
    .await;
    assert_eq!(world.store.accounting().len(), 1);
    // What nobody recorded is no reason for silence elsewhere.
    world.store.away(true);
    let unlucky = nas.report(&start());
    nas.send(&unlucky.octets).await;
    nas.hears_nothing().await;
    world.store.away(false);
    nas.gateway = one.accounting;
    nas.send(&unlucky.octets).await;
    nas.hear_accounting(&unlucky).await;
    assert_eq!(world.store.accounting().len(), 2);
}

#[tokio::test]
async fn what_the_store_does_not_take_is_not_acknowledged() {
    // FR-19: never before it is durable; the device sends it again
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.accounting, SECRET).await;
    world.store.away(true);
    let report = nas.report(&start());
    nas.send(&report.octets).await;
    nas.hears_nothing().await;
    world.store.away(false);
    nas.send(&report.octets).await;
    nas.hear_accounting(&report).await;
    assert_eq!(world.store.accounting().len(), 1);
}

#[tokio::test]
async fn each_client_has_its_own_rule() {
    // R-86
    let world = World::new().await;
    let gateway = world.gateway().await;
    for (client, answered) in [(ACCOUNTING_OFF, false), (ACCOUNTING_FORWARDED, false), (ACCOUNTING_DISCARDED, true)] {
        let mut nas = Nas::new(client, gateway.accounting, SECRET).await;
        let report = nas.report(&start());
        nas.send(&report.octets).await;
        match answered {
            true => drop(nas.hear_accounting(&report).await),
            false => nas.hears_nothing().await,
        }
    }
    assert!(world.store.accounting().is_empty());
}

#[tokio::test]
async fn what_is_forged_is_silence_and_what_is_absurd_is_recorded() {
    // A1 steps 4 and 11, B-31
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut forger = Nas::new(VPN, gateway.accounting, "another secret").await;
    let forged = forger.report(&start());
    forger.send(&forged.octets).await;
    let login = forger.question("ann", ANN);
    forger.send(&login.octets).await;
    forger.hears_nothing().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let elsewhere = nas.report(&start());
    nas.send(&elsewhere.octets).await;
    nas.hears_nothing().await;
    assert!(world.store.accounting().is_empty());
    nas.gateway = gateway.accounting;
    for absurd in [
        vec![],
        vec![attribute(AttributeType::ACCT_STATUS_TYPE, b""), attribute(AttributeType::ACCT_SESSION_ID, b"")],
        vec![attribute(AttributeType::ACCT_STATUS_TYPE, &[0xff; 4]), user_name("\x1b]0;\x07")],
        vec![attribute(AttributeType::VENDOR_SPECIFIC, &[0, 0, 0, 9, 1, 0])],
    ] {
        let report = nas.report(&absurd);
        nas.send(&report.octets).await;
        nas.hear_accounting(&report).await;
    }
    assert_eq!(world.store.accounting().len(), 4);
    assert_eq!(world.directory.binds(), 0);
}

#[tokio::test]
async fn the_accounting_port_says_that_it_is_alive_in_its_own_words() {
    // R-84: Accounting-Response, signed
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.accounting, SECRET).await;
    let status = nas.status();
    nas.send(&status.octets).await;
    let answer = nas.hear_accounting(&status).await;
    assert_eq!(answer.octets.first(), Some(&(Code::AccountingResponse as u8)));
    assert_eq!(answer.octets[20..22], [80, 18]);
}

#[tokio::test]
async fn a_node_that_takes_nothing_new_takes_no_report_either() {
    // R-39: the device goes to another node
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.accounting, SECRET).await;
    world.verification.hold(true);
    let mut login = Nas::new(VPN, gateway.address, SECRET).await;
    let pending = login.question("ann", ANN);
    login.send(&pending.octets).await;
    until("it is at work", async || world.verification.decisions() == 1).await;
    gateway.shutdown.begin();
    gateway.shutdown.draining().await;
    let report = nas.report(&start());
    nas.send(&report.octets).await;
    nas.hears_nothing().await;
    assert!(world.store.accounting().is_empty());
}

#[tokio::test]
async fn radclient_takes_the_acknowledgement_for_genuine() {
    // R-13: an independent client signs and verifies, with Message-Authenticator and without
    let world = World::new().await;
    let gateway = world.gateway().await;
    for more in ["", "Message-Authenticator = 0x00\n"] {
        let address = gateway.accounting;
        let said = tokio::task::spawn_blocking(move || radclient(address, more)).await.expect("radclient ran");
        assert!(said.contains("Received Accounting-Response"), "{said}");
    }
    let records = world.store.accounting();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].digest, records[1].digest);
    assert_eq!((records[0].status.as_str(), records[0].username.as_str()), ("Stop", "ann"));
    assert_eq!((records[0].input_octets, records[0].session_seconds), ((1 << 32) + 5, 300));
    assert_eq!((records[0].nas.as_str(), records[0].terminate_cause.as_str()), ("edge-1", "Idle-Timeout"));
}

fn radclient(gateway: std::net::SocketAddr, more: &str) -> String {
    let mut radclient = Command::new(lab::program("radclient").expect("radclient is installed: tests/lab/install.sh"))
        .args(["-x", "-r", "1", "-t", "5", &gateway.to_string(), "acct", SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let request = format!(
        "User-Name = \"ann\"\nAcct-Status-Type = Stop\nAcct-Session-Id = \"s-17\"\nNAS-Identifier = \"edge-1\"\n\
         Acct-Input-Octets = 5\nAcct-Input-Gigawords = 1\nAcct-Session-Time = 300\n\
         Acct-Terminate-Cause = Idle-Timeout\n{more}"
    );
    radclient.stdin.take().expect("piped").write_all(request.as_bytes()).expect("it reads");
    let output = radclient.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
