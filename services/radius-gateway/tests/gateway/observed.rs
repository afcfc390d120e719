//! What an administrator is shown of a client, and what becomes of its shared secret.

use crate::support::*;
use radius_wire::{AttributeType, Code};
use std::time::Duration;

const NEW_SECRET: &str = "the-next-secret-of-the-lab-77d0";

#[tokio::test]
async fn while_a_secret_is_changed_both_count_each_in_its_own_replies_and_then_one() {
    // R-71, FR-04: `hear` checks each reply with the device's own secret
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut old = Nas::new(REQUIRED, gateway.address, SECRET).await;
    let mut new = Nas::new(REQUIRED, gateway.address, NEW_SECRET).await;
    world.store.rotate(&world.bus, "required", NEW_SECRET, NOW_MS + 1_000_000).await;
    until("the new secret is in force", async || {
        let question = new.question("ann", "no code");
        new.send(&question.octets).await;
        tokio::time::timeout(Duration::from_millis(700), new.hear(&question)).await.is_ok()
    })
    .await;
    let question = old.question("ann", &format!("{ANN},{CODE}"));
    assert_eq!(old.ask(&question).await.code(), Code::AccessAccept);
    let question = new.question("ann", &format!("{ANN},{SECOND_CODE}"));
    assert_eq!(new.ask(&question).await.code(), Code::AccessAccept);
    let binds = world.directory.binds();
    world.clock.advance(1_000_000);
    let question = old.question("ann", &format!("{ANN},{CODE}"));
    old.send(&question.octets).await;
    old.hears_nothing().await;
    assert_eq!(world.directory.binds(), binds);
    let question = new.question("ann", "no code");
    assert_eq!(new.ask(&question).await.code(), Code::AccessReject);
}

#[tokio::test]
async fn the_former_secret_counts_only_where_the_packet_proves_it() {
    // an unsigned password is read with the new one, comes out as noise, and reaches no directory
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut old = Nas::new(LEGACY, gateway.address, SECRET).await;
    let mut new = Nas::new(LEGACY, gateway.address, NEW_SECRET).await;
    world.store.rotate(&world.bus, "legacy", NEW_SECRET, NOW_MS + 1_000_000).await;
    until("the new secret is in force", async || {
        let status = new.status();
        new.send(&status.octets).await;
        tokio::time::timeout(Duration::from_millis(200), new.hear(&status)).await.is_ok()
    })
    .await;
    for _ in 0..5 {
        let question = old.question("ann", "a password of far more than thirty-two octets").unsigned();
        old.send(&question.octets).await;
    }
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(world.directory.binds(), 0);
    let mut signed = Nas::new(LEGACY, gateway.address, SECRET).await;
    let question = signed.question("ann", ANN);
    assert_eq!(signed.ask(&question).await.code(), Code::AccessChallenge);
}

#[tokio::test]
async fn a_client_may_want_to_know_of_this_node_alone() {
    // status_reflects_health = false
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut alone = Nas::new(NODE_ONLY, gateway.address, SECRET).await;
    let mut usual = Nas::new(VPN, gateway.address, SECRET).await;
    world.verification.misbehave(Some(Fault::Unavailable));
    until("the others hear nothing", async || {
        let status = usual.status();
        usual.send(&status.octets).await;
        tokio::time::timeout(Duration::from_millis(100), usual.hear(&status)).await.is_err()
    })
    .await;
    let status = alone.status();
    assert_eq!(alone.ask(&status).await.code(), Code::AccessAccept);
    gateway.shutdown.begin();
    let status = alone.status();
    alone.send(&status.octets).await;
    alone.hears_nothing().await;
}

#[tokio::test]
async fn the_store_is_told_how_a_client_behaves() {
    // T-07: signed and unsigned, every 300 ms until it gives up, then anew; and what was dropped
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(LEGACY, gateway.address, SECRET).await;
    world.verification.hold(true);
    let question = nas.question("ann", ANN);
    for _ in 0..4 {
        nas.send(&question.octets).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let unsigned = nas.question("bob", "wrong").unsigned();
    nas.send(&unsigned.octets).await;
    nas.hear(&unsigned).await;
    let anew = nas.question("ann", ANN);
    nas.send(&anew.octets).await;
    let proxy = attribute(AttributeType::PROXY_STATE, b"proxy");
    let proxied = nas.with(&[user_name("ann"), proxy], Some(ANN)).unsigned();
    nas.send(&proxied.octets).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    world.verification.hold(false);
    let report = async || {
        let reports = world.store.reports();
        let (node, clients) = reports.iter().next()?;
        assert!(!node.is_empty() && reports.len() == 1);
        clients.iter().find(|client| client.client == "legacy").cloned()
    };
    // It is told every half minute.
    let told = tokio::time::timeout(Duration::from_secs(45), async {
        loop {
            match report().await {
                Some(report) => return report,
                None => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    });
    let told = told.await.expect("it is told");
    assert_eq!(told.protocols, ["pap"]);
    assert_eq!((told.signed, told.unsigned, told.unsigned_with_proxy_state), (5, 2, 1));
    assert!((250..2_000).contains(&told.retry_interval_ms), "{told:?}");
    assert!((1_100..10_000).contains(&told.waits_ms), "{told:?}");
    assert!(told.retries_anew);
    assert_eq!(told.dropped.get("blast"), Some(&1));
    assert_eq!(told.last_seen_unix_ms, NOW_MS);
    assert!(!told.retries_elsewhere);
}
