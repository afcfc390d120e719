//! Devices that repeat themselves in new packets, and people who would like to be taken for such a device, D9.

use crate::support::*;
use radius_wire::{Attribute, AttributeType, Code};
use std::time::Duration;

/// Longer than a node takes to see that a request of its own is no longer its own.
const NOTICED: Duration = Duration::from_millis(2_600);

fn station(value: &str) -> Attribute<'_> {
    attribute(AttributeType::CALLING_STATION_ID, value.as_bytes())
}

fn from_station(nas: &mut Nas, value: &str) -> Question {
    nas.with(&[user_name("ann"), station(value)], Some(ANN))
}

#[tokio::test]
async fn a_retry_with_another_identifier_or_port_gets_the_same_verdict_in_its_own_reply() {
    // R-34, T-07: one bind, one question to the person
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(PATIENT, gateway.address, SECRET).await;
    let mut other_port = Nas::new(PATIENT, gateway.address, SECRET).await;
    world.verification.hold(true);
    let first = from_station(&mut nas, "198.51.100.7");
    nas.send(&first.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    let proxy = attribute(AttributeType::PROXY_STATE, b"by another way");
    let second = nas.with(&[proxy, station("198.51.100.7"), user_name("ann")], Some(ANN));
    let third = from_station(&mut other_port, "198.51.100.7");
    nas.send(&second.octets).await;
    other_port.send(&third.octets).await;
    nas.hears_nothing().await;
    world.verification.hold(false);
    let (to_first, to_second) = (nas.hear(&first).await, nas.hear(&second).await);
    let to_third = other_port.hear(&third).await;
    for answer in [&to_first, &to_second, &to_third] {
        assert_eq!((answer.code(), answer.state()), (Code::AccessChallenge, to_first.state()));
    }
    assert_eq!(to_second.all(AttributeType::PROXY_STATE), [b"by another way"], "R-67");
    assert_eq!(nas.ask(&second).await, to_second, "a copy of it gets the same octets");
    assert_eq!((world.directory.binds(), world.verification.decisions()), (1, 1));
    let code = nas.answer_to("ann", &to_second.state(), CODE);
    assert_eq!(nas.ask(&code).await.code(), Code::AccessAccept);
    let late = from_station(&mut nas, "198.51.100.7");
    assert_eq!(nas.ask(&late).await.code(), Code::AccessChallenge);
    assert_eq!(world.directory.binds(), 2, "R-36: what was answered is no answer to who comes later");
}

#[tokio::test]
async fn a_retry_under_the_same_identifier_takes_the_place_of_the_first_and_nobody_is_asked_again() {
    // R-32 with R-34: "new authenticator on retry"
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(PATIENT, gateway.address, SECRET).await;
    world.verification.hold(true);
    let mut last = from_station(&mut nas, "198.51.100.7");
    nas.send(&last.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    for _ in 0..3 {
        nas.repeat_identifier();
        last = from_station(&mut nas, "198.51.100.7");
        nas.send(&last.octets).await;
    }
    nas.hears_nothing().await;
    world.verification.hold(false);
    // `hear` checks the answer against the last authenticator: one to an earlier packet would not pass.
    assert_eq!(nas.hear(&last).await.code(), Code::AccessChallenge);
    nas.hears_nothing().await;
    assert_eq!((world.directory.binds(), world.verification.decisions()), (1, 1));
    assert!(world.verification.cancels().is_empty(), "and nothing is withdrawn");
}

#[tokio::test]
async fn who_has_the_password_and_sits_elsewhere_is_not_let_in_by_the_victims_approval() {
    // D9: another Calling-Station-Id, none, an empty one, another port; and a guess
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(PATIENT, gateway.address, SECRET).await;
    world.verification.one_prompt_each();
    world.verification.hold(true);
    let victim = from_station(&mut nas, "198.51.100.7");
    nas.send(&victim.octets).await;
    until("the victim is asked", async || world.verification.decisions() == 1).await;
    let port = attribute(AttributeType::NAS_PORT, &[0, 0, 0, 9]);
    let attackers = [
        from_station(&mut nas, "203.0.113.66"),
        nas.question("ann", ANN),
        from_station(&mut nas, ""),
        nas.with(&[user_name("ann"), station("198.51.100.7"), port], Some(ANN)),
        nas.with(&[user_name("ANN"), station("198.51.100.7")], Some(ANN)),
    ];
    for (place, attacker) in attackers.iter().enumerate() {
        nas.send(&attacker.octets).await;
        assert_eq!(nas.hear(attacker).await.code(), Code::AccessReject, "attacker {place}");
        assert_eq!(world.directory.binds(), place + 2, "a bind of its own");
    }
    let guess = nas.with(&[user_name("ann"), station("198.51.100.7")], Some("not the password"));
    assert_eq!(nas.ask(&guess).await.code(), Code::AccessReject);
    assert_eq!(
        (world.directory.binds(), world.verification.decisions()),
        (7, 6),
        "nobody is asked after a wrong password"
    );
    world.verification.hold(false);
    assert_eq!(nas.hear(&victim).await.code(), Code::AccessChallenge);
    nas.hears_nothing().await;
}

#[tokio::test]
async fn without_a_station_a_second_request_ends_by_itself() {
    // D9, R-35: for every client
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(PATIENT, gateway.address, SECRET).await;
    world.verification.one_prompt_each();
    world.verification.hold(true);
    let first = nas.question("ann", ANN);
    nas.send(&first.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    let second = nas.question("ann", ANN);
    assert_eq!(nas.ask(&second).await.code(), Code::AccessReject);
    world.verification.hold(false);
    assert_eq!(nas.hear(&first).await.code(), Code::AccessChallenge);
    assert_eq!(world.directory.binds(), 2);
}

#[tokio::test]
async fn two_copies_of_an_answer_under_two_identifiers_are_one_answer() {
    // the second would otherwise be refused, and with that the conversation. The State says whose it is.
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(PATIENT, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    let state = nas.ask(&question).await.state();
    world.verification.hold(true);
    let (first, second) = (nas.answer_to("ann", &state, "000000"), nas.answer_to("ann", &state, "000000"));
    let another = nas.answer_to("ann", &state, CODE);
    nas.send(&first.octets).await;
    until("it is at verification", async || world.verification.decisions() == 2).await;
    nas.send(&second.octets).await;
    nas.send(&another.octets).await;
    until("the other answer is there, too", async || world.verification.decisions() == 3).await;
    world.verification.hold(false);
    let (to_first, to_second, to_other) = (nas.hear(&first).await, nas.hear(&second).await, nas.hear(&another).await);
    assert_eq!(to_first.code(), to_second.code());
    let mut codes = [to_first.code(), to_other.code()];
    codes.sort();
    // Whichever came first was evaluated: then it is a wrong code and asked again, or a right one.
    assert!(codes.contains(&Code::AccessReject) && codes != [Code::AccessReject; 2], "{codes:?}");
}

#[tokio::test]
async fn a_look_alike_is_taken_while_the_node_takes_nothing_new() {
    // it is no new conversation
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(PATIENT, gateway.address, SECRET).await;
    world.verification.hold(true);
    let first = from_station(&mut nas, "198.51.100.7");
    nas.send(&first.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    gateway.shutdown.begin();
    gateway.shutdown.draining().await;
    let (second, stranger) = (from_station(&mut nas, "198.51.100.7"), from_station(&mut nas, "203.0.113.66"));
    nas.send(&second.octets).await;
    nas.send(&stranger.octets).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.verification.hold(false);
    assert_eq!(nas.hear(&first).await.code(), Code::AccessChallenge);
    assert_eq!(nas.hear(&second).await.code(), Code::AccessChallenge);
    nas.hears_nothing().await;
    assert_eq!(world.directory.binds(), 1);
}

#[tokio::test]
async fn a_retry_at_the_next_server_waits_for_the_answer_of_the_first() {
    // "moves to the next server"; the attacker moves along
    let world = World::new().await;
    let (first_node, second_node) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(PATIENT, first_node.address, SECRET).await;
    let mut moved = Nas::new(PATIENT, second_node.address, SECRET).await;
    world.verification.one_prompt_each();
    world.verification.hold(true);
    let first = from_station(&mut nas, "198.51.100.7");
    nas.send(&first.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    let second = from_station(&mut moved, "198.51.100.7");
    let third = from_station(&mut moved, "198.51.100.7");
    let attacker = from_station(&mut moved, "203.0.113.66");
    for question in [&second, &third, &second] {
        moved.send(&question.octets).await;
    }
    assert_eq!(moved.ask(&attacker).await.code(), Code::AccessReject, "prompt_pending");
    moved.hears_nothing().await;
    world.verification.hold(false);
    let state = nas.hear(&first).await.state();
    for question in [&second, &third] {
        let answer = moved.hear(question).await;
        assert_eq!((answer.code(), answer.state()), (Code::AccessChallenge, state.clone()));
        assert_eq!(moved.ask(question).await, answer);
    }
    assert_eq!((world.directory.binds(), world.verification.decisions()), (2, 2), "the attacker's is the second");
}

#[tokio::test]
async fn a_retry_under_the_same_identifier_at_the_next_server_leaves_the_prompt_as_it_is() {
    // R-32 with R-34, across nodes: the first one is never answered
    let world = World::new().await;
    let (first_node, second_node) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(PATIENT, first_node.address, SECRET).await;
    world.verification.hold(true);
    let first = from_station(&mut nas, "198.51.100.7");
    nas.send(&first.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    nas.repeat_identifier();
    nas.gateway = second_node.address;
    let second = from_station(&mut nas, "198.51.100.7");
    nas.send(&second.octets).await;
    tokio::time::sleep(NOTICED).await;
    world.verification.hold(false);
    assert_eq!(nas.hear(&second).await.code(), Code::AccessChallenge);
    nas.hears_nothing().await;
    assert_eq!((world.directory.binds(), world.verification.decisions()), (1, 1));
    assert!(world.verification.cancels().is_empty());
}

#[tokio::test]
async fn another_request_from_the_same_station_waits_for_the_node_at_work_to_withdraw_its_prompt() {
    // it is no look-alike of the first, of which others may wait for the answer; only the first node knows whether
    let world = World::new().await;
    let (first_node, second_node) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(PATIENT, first_node.address, SECRET).await;
    world.verification.one_prompt_each();
    world.verification.hold(true);
    let first = from_station(&mut nas, "198.51.100.7");
    nas.send(&first.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    nas.repeat_identifier();
    nas.gateway = second_node.address;
    let port = attribute(AttributeType::NAS_PORT, &[0, 0, 0, 9]);
    let second = nas.with(&[user_name("ann"), station("198.51.100.7"), port], Some(ANN));
    nas.send(&second.octets).await;
    until("the person is asked anew", async || world.verification.decisions() == 2).await;
    assert_eq!(world.verification.cancels(), ["challenge_gone"], "withdrawn before that");
    world.verification.hold(false);
    assert_eq!(nas.hear(&second).await.code(), Code::AccessChallenge);
    nas.hears_nothing().await;
}

#[tokio::test]
async fn who_waits_for_what_is_being_withdrawn_begins_anew_and_does_not_go_on_with_it() {
    // R-32 with R-34: closing takes its time, and the clock of the nodes runs more than twice as fast as ours
    let world = World::new().await;
    let (first_node, second_node) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(PATIENT, first_node.address, SECRET).await;
    let mut moved = Nas::new(PATIENT, second_node.address, SECRET).await;
    world.verification.hold(true);
    world.verification.misbehave(Some(Fault::SlowToWithdraw(Duration::from_secs(5))));
    let first = from_station(&mut nas, "198.51.100.7");
    nas.send(&first.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    let third = from_station(&mut moved, "198.51.100.7");
    moved.send(&third.octets).await;
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    nas.repeat_identifier();
    let port = attribute(AttributeType::NAS_PORT, &[0, 0, 0, 9]);
    let second = nas.with(&[user_name("ann"), station("198.51.100.7"), port], Some(ANN));
    nas.send(&second.octets).await;
    for _ in 0..11 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        world.clock.advance(600);
    }
    until("both are asked about anew", async || world.verification.decisions() == 3).await;
    let transactions: std::collections::HashSet<_> =
        world.verification.attempts().into_iter().map(|(attempt, _)| attempt.transaction_id).collect();
    assert_eq!(transactions.len(), 3, "nobody has gone on with what was being withdrawn");
}

#[tokio::test]
async fn who_waits_for_a_node_that_dies_goes_on_in_its_place() {
    // R-30 with R-34: the code was spent by the dead node, and its successor hears the same of it
    let world = World::new().await;
    let (mut first_node, second_node) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(REQUIRED, first_node.address, SECRET).await;
    let mut moved = Nas::new(REQUIRED, second_node.address, SECRET).await;
    let attributes = [user_name("ann"), station("198.51.100.7")];
    world.verification.misbehave(Some(Fault::SlowToSay(Duration::from_secs(60))));
    let first = nas.with(&attributes, Some(&format!("{ANN},{CODE}")));
    nas.send(&first.octets).await;
    until("the code is spent", async || world.verification.calls().len() == 1).await;
    let second = moved.with(&attributes, Some(&format!("{ANN},{CODE}")));
    moved.send(&second.octets).await;
    moved.hears_nothing().await;
    first_node.kill();
    world.verification.misbehave(None);
    world.clock.advance(7_000);
    assert_eq!(moved.hear(&second).await.code(), Code::AccessAccept);
    assert_eq!((world.directory.binds(), world.verification.calls().len()), (2, 2));
}

#[tokio::test]
async fn a_node_whose_request_is_taken_over_does_not_take_the_prompt_along() {
    // it was alive and slow to say so. Its call to verification stays, because who leaves withdraws what is open.
    let world = World::new().await;
    let (first_node, second_node) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(PATIENT, first_node.address, SECRET).await;
    world.verification.hold(true);
    let question = nas.question("ann", ANN);
    nas.send(&question.octets).await;
    until("the person is asked", async || world.verification.decisions() == 1).await;
    world.clock.advance(7_000);
    nas.gateway = second_node.address;
    nas.send(&question.octets).await;
    until("the other node has taken over", async || world.verification.decisions() == 2).await;
    tokio::time::sleep(NOTICED).await;
    assert_eq!((world.verification.abandoned(), world.verification.cancels().len()), (0, 0));
    world.verification.hold(false);
    assert_eq!(nas.hear(&question).await.code(), Code::AccessChallenge);
    nas.hears_nothing().await;
    assert!(world.verification.cancels().is_empty());
}

#[tokio::test]
async fn of_many_nodes_one_tells_of_a_challenge_that_nobody_answers_and_none_ends_one_that_went_on() {
    // a right password and then silence
    let world = World::new().await;
    let (first_node, second_node) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(VPN, first_node.address, SECRET).await;
    let question = nas.question("ann", ANN);
    let first = nas.ask(&question).await.state();
    world.clock.advance(60_000);
    nas.gateway = second_node.address;
    let wrong = nas.answer_to("ann", &first, "000000");
    let second = nas.ask(&wrong).await;
    assert_eq!(second.code(), Code::AccessChallenge);
    world.clock.advance(61_000);
    tokio::time::sleep(NOTICED).await;
    assert!(world.verification.cancels().is_empty(), "the first question is over, the second is not");
    world.clock.advance(60_000);
    until("it is over", async || world.verification.cancels() == ["no_answer"]).await;
    tokio::time::sleep(NOTICED).await;
    assert_eq!(world.verification.cancels(), ["no_answer"], "and told once");
}
