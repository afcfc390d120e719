//! What a device hears while verification is in trouble: V-40 to V-42. An outage is 30 s long before anybody is let in, so that each
//! test makes the most of one.

use crate::support::*;
use proto::verification::outcome::Result as Said;
use radius_gateway::{Nodes, RadiusSection};
use radius_wire::Code;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// A gateway with a spool.
async fn gateway_with_spool(world: &World, directory: &tempfile::TempDir) -> (Node, PathBuf) {
    let section = RadiusSection { spool_dir: Some(directory.path().into()), ..section() };
    let node = world.node(Nodes::One, section).await;
    (node, directory.path().join("fail-open.radius-gateway.jsonl"))
}

#[tokio::test]
async fn after_thirty_seconds_without_verification_those_clients_let_people_in_whose_settings_say_so() {
    // V-40, V-61, B5
    let (world, directory) = (World::new().await, tempfile::tempdir().expect("a directory"));
    let (gateway, spool) = gateway_with_spool(&world, &directory).await;
    let mut passing = Nas::new(PASSING, gateway.address, SECRET).await;
    let mut refusing = Nas::new(VPN, gateway.address, SECRET).await;
    world.verification.misbehave(Some(Fault::Unavailable));
    let gone_since = Instant::now();
    let first = loop {
        let question = passing.question("ann", ANN);
        let answer = passing.ask(&question).await;
        if answer.code() == Code::AccessAccept {
            break (question, answer);
        }
        assert_eq!((answer.code(), world.fail_open.events().len()), (Code::AccessReject, 0));
        assert!(gone_since.elapsed() < Duration::from_secs(60), "it is down, and nobody is let in");
    };
    assert!(gone_since.elapsed() >= Duration::from_secs(30), "after {:?}", gone_since.elapsed());
    let events = world.fail_open.events();
    assert_eq!(events.len(), 1, "{events:?}");
    let event = &events[0];
    assert_eq!(
        [
            &event.client,
            &event.protocol,
            &event.username,
            &event.client_ip,
            &event.result,
            &event.reason,
            &event.source
        ],
        ["passing", "radius", "ann", PASSING, "bypass", "fail_open", "fail_open"]
    );
    let (question, answer) = first;
    assert_eq!(passing.ask(&question).await, answer, "a copy is answered with the same octets");
    assert_eq!(world.fail_open.events().len(), 1, "and is no second pass");

    // Each condition missing alone.
    let wrong = passing.question("ann", "not her password");
    assert_eq!(passing.ask(&wrong).await.code(), Code::AccessReject, "the password was wrong");
    let binds = world.directory.binds();
    let question = refusing.question("ann", ANN);
    assert_eq!(refusing.ask(&question).await.code(), Code::AccessReject, "the client refuses");
    assert_eq!(world.directory.binds(), binds, "and nobody learns whether the password was right");
    let mut required = Nas::new(PASSING_REQUIRED, gateway.address, SECRET).await;
    let with_code = required.question("ann", &format!("{ANN},{CODE}"));
    assert_eq!(required.ask(&with_code).await.code(), Code::AccessAccept, "its end is ahead");
    assert_eq!(world.directory.passwords()[binds..], [ANN], "whatever looks like a code is taken off");
    let without = required.question("ann", ANN);
    assert_eq!(required.ask(&without).await.code(), Code::AccessReject, "a code is demanded all the same");
    assert_eq!((world.fail_open.events().len(), world.directory.binds()), (2, binds + 1));
    world.clock.advance(365 * 86_400_000);
    let late = required.question("ann", &format!("{ANN},{CODE}"));
    assert_eq!(required.ask(&late).await.code(), Code::AccessReject, "its end has passed");
    world.clock.advance(-365 * 86_400_000);
    assert_eq!((world.fail_open.events().len(), world.directory.binds()), (2, binds + 1));

    // a device keeps to a node that lets it in, and leaves one that does not.
    let status = passing.status();
    assert_eq!(passing.ask(&status).await.code(), Code::AccessAccept);
    let status = refusing.status();
    refusing.send(&status.octets).await;
    refusing.hears_nothing().await;

    // Without the store the event waits on the disk.
    world.fail_open.away(true);
    let question = passing.question("ann", ANN);
    assert_eq!(passing.ask(&question).await.code(), Code::AccessAccept);
    assert_eq!(std::fs::read_to_string(&spool).expect("it is there").lines().count(), 1);
    world.fail_open.away(false);
    until("the store has it", async || world.fail_open.events().len() == 3).await;

    // And verification decides again as soon as it is there.
    world.verification.misbehave(None);
    until("it is asked", async || {
        let question = passing.question("ann", ANN);
        passing.ask(&question).await.code() == Code::AccessChallenge
    })
    .await;
    assert_eq!(world.fail_open.events().len(), 3);
}

#[tokio::test]
async fn what_is_slow_too_much_or_nonsense_lets_nobody_in() {
    // V-41, V-42: {timeout, slow 30 s, garbage reply, wrong transaction id, overload} x {refuse, pass}, each longer than the breaker
    // waits. "Refused" x {refuse, pass} is the test above.
    let faults = || {
        let foreign = Fault::twists(|outcome| outcome.transaction_id = "01890000-0000-7000-8000-000000000000".into());
        let garbled = Fault::twists(|outcome| outcome.result = None);
        let of_another = Fault::twists(|outcome| {
            if let Some(Said::Ask(ask)) = &mut outcome.result {
                ask.kind = 99;
            }
        });
        [
            ("timeout", Fault::Hangs),
            ("slow 30 s", Fault::Sluggish(Duration::from_secs(30))),
            ("garbage reply", Fault::Garbage),
            ("empty reply", garbled),
            ("unknown question", of_another),
            ("wrong transaction id", foreign),
        ]
    };
    let worlds = faults().map(|(name, fault)| async move {
        let world = World::new().await;
        let gateway = world.gateway().await;
        world.verification.misbehave(Some(fault));
        tokio::time::sleep(Duration::from_secs(35)).await;
        let mut cells = Vec::new();
        for (mode, address) in [("refuse", VPN), ("pass", PASSING)] {
            let mut nas = Nas::new(address, gateway.address, SECRET).await;
            let question = nas.question("ann", ANN);
            nas.send(&question.octets).await;
            let begun = Instant::now();
            // wait_seconds is 10 here.
            let code = nas.hear_within(&question, Duration::from_secs(12)).await.code();
            cells.push(format!("{name} x {mode}: {code:?} after {:.1} s", begun.elapsed().as_secs_f32()));
            assert_eq!(code, Code::AccessReject, "{cells:?}");
        }
        assert_eq!(world.fail_open.events(), [], "{name}");
        cells
    });
    for cell in futures::future::join_all(worlds).await.into_iter().flatten() {
        eprintln!("{cell}");
    }
}

#[tokio::test]
async fn a_flood_from_one_client_lets_nobody_else_in() {
    // V-41: a verification that can take one call in a thousand, for longer than the breaker waits
    let world = World::new().await;
    let gateway = world.gateway().await;
    let turn = std::sync::atomic::AtomicU64::new(0);
    world.verification.misbehave(Some(Fault::Overloaded(std::sync::Arc::new(move || {
        turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 1_000 != 999
    }))));
    let begun = Instant::now();
    let mut flooding = Nas::new(REQUIRED, gateway.address, SECRET).await;
    let mut passing = Nas::new(PASSING, gateway.address, SECRET).await;
    while begun.elapsed() < Duration::from_secs(40) {
        for _ in 0..20 {
            let question = flooding.question("ann", &format!("{ANN},000000"));
            flooding.send(&question.octets).await;
        }
        let question = passing.question("ann", ANN);
        assert_ne!(passing.ask(&question).await.code(), Code::AccessAccept);
    }
    assert_eq!(world.fail_open.events(), []);
}
