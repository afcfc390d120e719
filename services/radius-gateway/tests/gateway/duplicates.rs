//! Copies of a request, on one node and on several: A4.

use crate::support::*;
use radius_gateway::{Nodes, RadiusSection};
use radius_wire::Code;
use std::time::Duration;

const SLOW: Duration = Duration::from_millis(1_200);

#[tokio::test]
async fn twenty_copies_while_it_waits_are_one_bind_and_one_reply_and_later_copies_get_the_same_octets() {
    //
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    world.verification.misbehave(Some(Fault::Slow(SLOW)));
    let question = nas.question("ann", &format!("{ANN},{CODE}"));
    for _ in 0..21 {
        nas.send(&question.octets).await;
    }
    let answer = nas.hear(&question).await;
    assert_eq!(answer.code(), Code::AccessAccept);
    nas.hears_nothing().await;
    for _ in 0..3 {
        assert_eq!(nas.ask(&question).await, answer, "byte-identical");
    }
    assert_eq!((world.directory.binds(), world.verification.calls().len()), (1, 1));
}

#[tokio::test]
async fn copies_while_the_directory_is_slow_are_one_bind() {
    // the bind itself is what takes long
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    world.directory.delay_binds(SLOW);
    let question = nas.question("ann", "wrong password");
    for _ in 0..5 {
        nas.send(&question.octets).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(nas.hear(&question).await.code(), Code::AccessReject);
    nas.hears_nothing().await;
    assert_eq!(world.directory.binds(), 1);
}

#[tokio::test]
async fn a_reject_that_waits_for_its_time_is_sent_once() {
    // R-07 with R-30: a copy during the delay
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let question = nas.question("ann", "wrong password");
    nas.send(&question.octets).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    nas.send(&question.octets).await;
    let answer = nas.hear(&question).await;
    nas.hears_nothing().await;
    assert_eq!(nas.ask(&question).await, answer);
    assert_eq!(world.directory.binds(), 1);
}

#[tokio::test]
async fn another_request_under_the_same_identifier_replaces_the_first_whose_answer_never_comes() {
    //
    let world = World::new().await;
    let gateway = world.gateway().await;
    world.verification.one_prompt_each();
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    world.verification.misbehave(Some(Fault::Slow(SLOW)));
    let old = nas.question("ann", &format!("{ANN},{CODE}"));
    nas.send(&old.octets).await;
    until("the first is at verification", async || world.verification.calls().len() == 1).await;
    nas.repeat_identifier();
    let new = nas.question("ann", &format!("{ANN},{SECOND_CODE}"));
    assert_eq!((old.sent.identifier, old.octets == new.octets), (new.sent.identifier, false));
    // `ask` checks the answer against the new authenticator: the old answer would not pass.
    assert_eq!(nas.ask(&new).await.code(), Code::AccessAccept);
    nas.hears_nothing().await;
    until("the first is withdrawn", async || world.verification.cancels() == ["challenge_gone"]).await;
    until("and reported", async || world.verification.reports() == [("ann".into(), "challenge_gone".into())]).await;
}

#[tokio::test]
async fn another_request_under_the_same_identifier_at_another_node_withdraws_the_prompt_and_asks_anew() {
    // T-07: "new authenticator on retry" without a station; the node that asked is alive, or gone
    for alive in [true, false] {
        let world = World::new().await;
        let (mut first, second) = (world.one_of_many().await, world.one_of_many().await);
        world.verification.one_prompt_each();
        world.verification.hold(true);
        let mut nas = Nas::new(PATIENT, first.address, SECRET).await;
        let old = nas.question("ann", ANN);
        nas.send(&old.octets).await;
        until("the person is asked", async || world.verification.decisions() == 1).await;
        if !alive {
            first.kill();
        }
        nas.repeat_identifier();
        let new = nas.question("ann", ANN);
        nas.gateway = second.address;
        nas.send(&new.octets).await;
        until("the person is asked anew", async || world.verification.decisions() == 2).await;
        assert_eq!(world.verification.cancels(), ["challenge_gone"], "alive: {alive}; withdrawn before that");
        // Long enough for the first node to answer what was withdrawn with a Reject, or to withdraw the second prompt.
        tokio::time::sleep(Duration::from_millis(2_600)).await;
        assert_eq!(world.verification.decisions(), 2);
        world.verification.hold(false);
        // `hear` checks the answer against the new authenticator, and that it comes from the second node.
        assert_eq!(nas.hear(&new).await.code(), Code::AccessChallenge, "alive: {alive}");
        nas.hears_nothing().await;
        assert_eq!(world.verification.cancels(), ["challenge_gone"], "alive: {alive}; and once");
    }
}

#[tokio::test]
async fn a_copy_on_another_node_is_silence_while_it_waits_and_the_same_octets_afterwards() {
    // R-30, D9
    let world = World::new().await;
    let (first, second) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(REQUIRED, first.address, SECRET).await;
    world.verification.misbehave(Some(Fault::Slow(Duration::from_secs(3))));
    let question = nas.question("ann", &format!("{ANN},{CODE}"));
    nas.send(&question.octets).await;
    until("the first is at work", async || world.verification.calls().len() == 1).await;
    nas.gateway = second.address;
    nas.send(&question.octets).await;
    nas.send(&question.octets).await;
    nas.hears_nothing().await;
    nas.gateway = first.address;
    let answer = nas.hear(&question).await;
    assert_eq!(answer.code(), Code::AccessAccept);
    nas.gateway = second.address;
    // The bus may tell it a moment after the first has answered; until then a copy waits for that, and a device repeats itself.
    nas.send(&question.octets).await;
    assert_eq!(nas.hear_or_repeat(&question).await, answer, "byte-identical from the other node");
    assert_eq!(nas.ask(&question).await, answer);
    assert_eq!((world.directory.binds(), world.verification.calls().len()), (1, 1));
}

#[tokio::test]
async fn a_request_sent_to_both_nodes_at_once_is_worked_on_by_one() {
    // the map decides; 30 times, because it is a race
    let world = World::new().await;
    let (first, second) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(VPN, first.address, SECRET).await;
    for round in 0..30 {
        nas.change_port().await;
        let question = nas.question("ann", ANN);
        for node in [first.address, second.address] {
            nas.gateway = node;
            nas.send(&question.octets).await;
        }
        until("one of them works on it", async || world.verification.calls().len() > round).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await; // time for a second one to show
    assert_eq!((world.directory.binds(), world.verification.calls().len()), (30, 30));
}

#[tokio::test]
async fn a_node_that_dies_at_work_is_replaced_by_the_one_that_gets_the_next_copy() {
    // the code was spent by the dead node; its successor gets the same answer from verification, not "reused"
    let world = World::new().await;
    let (mut first, second) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(REQUIRED, first.address, SECRET).await;
    world.verification.misbehave(Some(Fault::SlowToSay(Duration::from_secs(60))));
    let question = nas.question("ann", &format!("{ANN},{CODE}"));
    nas.send(&question.octets).await;
    until("the code is spent", async || world.verification.calls().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.kill();
    world.verification.misbehave(None);
    nas.gateway = second.address;
    nas.send(&question.octets).await;
    nas.hears_nothing().await;
    assert_eq!(world.verification.calls().len(), 1, "it may still be at work: nobody else touches it yet");
    world.clock.advance(7_000);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessAccept);
    assert_eq!((world.directory.binds(), world.verification.calls().len()), (2, 2));
}

#[tokio::test]
async fn a_node_that_works_for_long_says_so_and_keeps_its_request() {
    // touched every two seconds, so that nobody takes over what is alive
    let world = World::new().await;
    let (first, second) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(REQUIRED, first.address, SECRET).await;
    world.verification.misbehave(Some(Fault::Slow(Duration::from_secs(6))));
    let question = nas.question("ann", &format!("{ANN},{CODE}"));
    nas.send(&question.octets).await;
    nas.gateway = second.address;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(1_250)).await;
        // The clock of both runs three times as fast as ours: without a touch it would be gone after 6 s of it.
        world.clock.advance(2_900);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    nas.send(&question.octets).await;
    nas.gateway = first.address;
    assert_eq!(nas.hear(&question).await.code(), Code::AccessAccept);
    assert_eq!((world.directory.binds(), world.verification.calls().len()), (1, 1));
}

#[tokio::test]
async fn without_the_bus_each_node_goes_on_with_its_own_duplicates() {
    // A4, last sentence
    let world = World::new().await;
    let (first, second) = (world.one_of_many().await, world.one_of_many().await);
    world.bus.away(true);
    let mut nas = Nas::new(VPN, first.address, SECRET).await;
    let question = nas.question("ann", ANN);
    let challenge = nas.ask(&question).await;
    assert_eq!(nas.ask(&question).await, challenge);
    assert_eq!(world.directory.binds(), 1);
    nas.gateway = second.address;
    let answer = nas.answer_to("ann", &challenge.state(), CODE);
    assert_eq!(nas.ask(&answer).await.code(), Code::AccessAccept);
    world.bus.away(false);
    world.verification.forget_spent_codes();
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
}

#[tokio::test]
async fn what_stands_on_the_bus_is_sealed_and_a_node_that_is_alone_puts_nothing_there() {
    // V-73, D2
    let world = World::new().await;
    let alone = world.gateway().await;
    let mut nas = Nas::new(VPN, alone.address, SECRET).await;
    let question = nas.question("ann", "wrong password");
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    assert_eq!(world.bus.written().len(), 0);
    let one = world.one_of_many().await;
    nas.gateway = one.address;
    let question = nas.question("ann", "wrong password");
    let answer = nas.ask(&question).await;
    until("the answer is on the bus", async || world.bus.written().len() >= 2).await;
    for value in world.bus.written() {
        // The map under the seal: neither the answer nor anything of the question.
        for secret in [
            &answer.octets[..],
            b"Sign-in failed",
            b"ann",
            b"wrong password",
            SECRET.as_bytes(),
            &question.sent.authenticator,
        ] {
            assert!(!value.windows(secret.len()).any(|window| window == secret));
        }
    }
}

#[tokio::test]
async fn beyond_the_bound_what_is_new_is_dropped_and_what_waits_is_not() {
    // R-38, B-30: ten may wait, the last of them only with a State of ours
    let world = World::new().await;
    let section = RadiusSection { in_work_max: 10_u64.try_into().expect("the least"), ..section() };
    let gateway = world.node(Nodes::One, section).await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let state = nas.ask(&first).await.state();
    world.verification.misbehave(Some(Fault::Slow(SLOW)));
    let questions: Vec<_> = (0..30).map(|_| nas.question("ann", ANN)).collect();
    for question in &questions {
        nas.send(&question.octets).await;
    }
    until("nine are at work", async || world.verification.decisions() == 1 + 9).await;
    let answer = nas.answer_to("ann", &state, CODE);
    nas.send(&answer.octets).await;
    until("the answer is taken", async || world.verification.decisions() == 1 + 10).await;
    assert_eq!(world.directory.binds(), 1 + 9);
    for question in &questions[..9] {
        assert_eq!(nas.hear(question).await.code(), Code::AccessChallenge);
    }
    assert_eq!(nas.hear(&answer).await.code(), Code::AccessAccept);
    nas.hears_nothing().await;
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge, "there is room again");
}

#[tokio::test]
async fn an_answer_while_a_touch_is_on_its_way_is_known_to_the_other_nodes_too() {
    // the touch that says that we are still here is dropped when the answer comes, and had reached the bus
    let world = World::new().await;
    let (one, other) = (world.one_of_many().await, world.one_of_many().await);
    world.bus.answers_after(Duration::from_millis(800));
    world.verification.hold(true);
    let mut nas = Nas::new(PATIENT, one.address, SECRET).await;
    let question = nas.question("ann", ANN);
    let begun = tokio::time::Instant::now();
    nas.send(&question.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    // The first touch comes after two seconds.
    tokio::time::sleep_until(begun + Duration::from_millis(2_400)).await;
    world.verification.hold(false);
    let answer = nas.hear(&question).await;
    assert!(begun.elapsed() < Duration::from_millis(2_750), "in the middle of it");
    nas.gateway = other.address;
    until("the other one knows it", async || {
        nas.send(&question.octets).await;
        let heard = tokio::time::timeout(Duration::from_millis(200), nas.hear(&question)).await;
        heard.is_ok_and(|heard| heard == answer)
    })
    .await;
    assert_eq!((world.directory.binds(), world.verification.decisions()), (1, 1));
}
