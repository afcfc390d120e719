//! More logins of a client than can be worked on: T-10, R-38.

use crate::support::*;
use futures::future::join_all;
use radius_wire::{AttributeType, Code};
use std::time::Duration;
use tokio::time::Instant;

/// What a bind takes here: thirty-two at once are then some hundred in the ten seconds that the client waits.
const SLOW: Duration = Duration::from_millis(2_500);
const CROWD: usize = 250;
const WAIT: Duration = Duration::from_secs(10);

/// Devices of one client that ask once each, and wait.
async fn crowd(gateway: &Node) -> Vec<(Nas, Question)> {
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
        let station = format!("02-00-00-00-00-{number:02x}");
        let attributes = [user_name("ann"), attribute(AttributeType::CALLING_STATION_ID, station.as_bytes())];
        let question = nas.with(&attributes, Some("wrong password"));
        nas.send(&question.octets).await;
        crowd.push((nas, question));
    }
    crowd
}

#[tokio::test]
async fn whoever_asks_once_is_answered_within_its_wait_also_where_its_turn_does_not_come() {
    // FR-15: one attempt of as many seconds as the client waits, as the integrations' pages recommend
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.directory.delay_binds(SLOW);
    let begun = Instant::now();
    let crowd = crowd(&gateway).await;
    let answers = join_all(crowd.iter().map(|(nas, question)| nas.hear_within(question, WAIT))).await;
    assert!(begun.elapsed() < WAIT, "the last after {:?}", begun.elapsed());
    assert!(answers.iter().all(|answer| answer.code() == Code::AccessReject));
    let binds = world.directory.binds();
    assert!((32..CROWD - 50).contains(&binds), "{binds} had their turn");
    until("some are told of", async || world.verification.reports().contains(&("ann".into(), "overloaded".into())))
        .await;
}

#[tokio::test]
async fn a_device_that_repeats_itself_comes_in_before_a_crowd_that_waits() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.directory.delay_binds(SLOW);
    let _crowd = crowd(&gateway).await;
    // Nobody is served as they came any more once somebody has waited for half a second.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let question = nas.question("bob", "another wrong password");
    let begun = Instant::now();
    nas.send(&question.octets).await;
    assert_eq!(nas.hear_or_repeat(&question).await.code(), Code::AccessReject);
    assert!(begun.elapsed() < WAIT - SLOW, "after {:?}", begun.elapsed());
    assert!(world.directory.passwords().contains(&"another wrong password".to_owned()), "it was tried");
}
