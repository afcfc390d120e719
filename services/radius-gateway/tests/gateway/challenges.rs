//! Access-Challenge: A5. The answer to a challenge never reaches a directory.

use crate::support::*;
use radius_wire::{AttributeType, Code};

fn answer(step: u32, answer: &str) -> Call {
    Call::Answer { step, answer: answer.into() }
}

#[tokio::test]
async fn a_password_alone_is_asked_for_a_code_and_the_answer_is_taken_once() {
    //
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let challenge = nas.ask(&first).await;
    assert_eq!(challenge.code(), Code::AccessChallenge);
    // Message-Authenticator, Reply-Message, State, Prompt, Session-Timeout, nothing else.
    assert_eq!(challenge.kinds(), [80, 18, 24, 76, 27]);
    assert_eq!(challenge.message(), "Enter your code");
    assert_eq!(challenge.all(AttributeType::SESSION_TIMEOUT), [120_u32.to_be_bytes()]);
    assert!(challenge.state().len() <= 253, "R-43");
    let second = nas.answer_to("ann", &challenge.state(), CODE);
    assert_eq!(nas.ask(&second).await.code(), Code::AccessAccept);
    let replay = nas.answer_to("ann", &challenge.state(), SECOND_CODE);
    assert_eq!(nas.ask(&replay).await.code(), Code::AccessReject);
    assert_eq!(world.directory.passwords(), [ANN]);
}

#[tokio::test]
async fn a_wrong_or_reused_answer_is_asked_for_again_until_the_tries_are_over() {
    // FR-14
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let mut state = nas.ask(&first).await.state();
    for (typed, message) in
        [("000000", "The code was wrong. Enter your code"), ("000001", "The code was wrong. Enter your code")]
    {
        let question = nas.answer_to("ann", &state, typed);
        let again = nas.ask(&question).await;
        assert_eq!((again.code(), again.message().as_str()), (Code::AccessChallenge, message));
        state = again.state();
    }
    let third = nas.answer_to("ann", &state, "000002");
    assert_eq!(nas.ask(&third).await.code(), Code::AccessReject);
    let dead = nas.answer_to("ann", &state, CODE);
    assert_eq!(nas.ask(&dead).await.code(), Code::AccessReject, "after Access-Reject the conversation is dead");
    assert_eq!(world.directory.passwords(), [ANN]);
    assert_eq!(world.verification.calls()[1..4], [answer(1, "000000"), answer(2, "000001"), answer(3, "000002")]);

    let first = nas.question("ann", ANN);
    let state = nas.ask(&first).await.state();
    let right = nas.answer_to("ann", &state, CODE);
    assert_eq!(nas.ask(&right).await.code(), Code::AccessAccept);
    let first = nas.question("ann", ANN);
    let state = nas.ask(&first).await.state();
    let reused = nas.answer_to("ann", &state, CODE);
    let again = nas.ask(&reused).await;
    assert_eq!(again.message(), "This code was used before. Wait for the next one and enter it");
    let right = nas.answer_to("ann", &again.state(), SECOND_CODE);
    assert_eq!(nas.ask(&right).await.code(), Code::AccessAccept);
}

#[tokio::test]
async fn a_state_that_is_altered_foreign_another_users_or_late_is_refused_and_nobody_is_asked() {
    // B-23
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let state = nas.ask(&first).await.state();
    let calls = world.verification.calls().len();
    let mut questions = Vec::new();
    for place in (0..state.len()).step_by(7) {
        let mut altered = state.clone();
        altered[place] ^= 0x20;
        questions.push(nas.answer_to("ann", &altered, CODE));
    }
    questions.push(nas.answer_to("ann", &state[..state.len() - 1], CODE));
    questions.push(nas.answer_to("ann", &[7], CODE));
    questions.push(nas.answer_to("ann", &[7; 253], CODE));
    questions.push(nas.answer_to("bob", &state, CODE));
    questions.push(nas.answer_to("ANN", &state, CODE));
    let twice = [user_name("ann"), attribute(AttributeType::STATE, &state), attribute(AttributeType::STATE, &state)];
    questions.push(nas.with(&twice, Some(CODE)));
    for (place, question) in questions.iter().enumerate() {
        let answer = nas.ask(question).await;
        assert_eq!(answer.code(), Code::AccessReject, "question {place}");
        nas.change_port().await;
    }
    let mut other_client = Nas::new(LEGACY, gateway.address, SECRET).await;
    let question = other_client.answer_to("ann", &state, CODE);
    assert_eq!(other_client.ask(&question).await.code(), Code::AccessReject);
    world.clock.advance(120_000);
    let late = nas.answer_to("ann", &state, CODE);
    assert_eq!(nas.ask(&late).await.code(), Code::AccessReject);
    let asked: Vec<_> = world.verification.calls().split_off(calls);
    assert!(!asked.iter().any(|call| matches!(call, Call::Answer { .. })), "{asked:?}");
    assert_eq!(world.directory.binds(), 1);
}

#[tokio::test]
async fn any_node_takes_any_round() {
    // three nodes behind a load balancer that sends each packet to the next one
    const LOGINS: usize = 1_000;
    let world = World::new().await;
    let nodes = [world.one_of_many().await, world.one_of_many().await, world.one_of_many().await];
    let mut next = nodes.iter().map(|node| node.address).cycle();
    let mut nas = Nas::new(VPN, nodes[0].address, SECRET).await;
    for login in 0..LOGINS {
        world.verification.forget_spent_codes();
        nas.gateway = next.next().expect("it goes round");
        let first = nas.question("ann", ANN);
        let state = nas.ask(&first).await.state();
        nas.gateway = next.next().expect("it goes round");
        let second = nas.answer_to("ann", &state, CODE);
        assert_eq!(nas.ask(&second).await.code(), Code::AccessAccept, "login {login}");
    }
    assert_eq!(world.directory.binds(), LOGINS);
}

#[tokio::test]
async fn a_node_that_dies_between_challenge_and_answer_is_not_missed() {
    //
    let world = World::new().await;
    let (mut first_node, second_node) = (world.one_of_many().await, world.one_of_many().await);
    let mut nas = Nas::new(VPN, first_node.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let state = nas.ask(&first).await.state();
    first_node.kill();
    nas.gateway = second_node.address;
    let second = nas.answer_to("ann", &state, CODE);
    assert_eq!(nas.ask(&second).await.code(), Code::AccessAccept);
}

#[tokio::test]
async fn an_empty_answer_is_the_challenges_business_and_no_password() {
    //
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let state = nas.ask(&first).await.state();
    let empty = nas.answer_to("ann", &state, "");
    let again = nas.ask(&empty).await;
    assert_eq!(again.code(), Code::AccessChallenge);
    let right = nas.answer_to("ann", &again.state(), CODE);
    assert_eq!(nas.ask(&right).await.code(), Code::AccessAccept);
    assert_eq!(world.directory.binds(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_ends_the_conversation() {
    // after Access-Reject the State is unusable
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(LEGACY, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let state = nas.ask(&first).await.state();
    let mut wrong_secret = Nas::new(LEGACY, gateway.address, "not the secret").await;
    let noise = wrong_secret.answer_to("ann", &state, "an answer of far more than thirty-two octets").unsigned();
    nas.change_port().await;
    assert_eq!(nas.ask(&noise).await.code(), Code::AccessReject);
    until("the conversation is over", async || world.verification.cancels() == ["secret_mismatch"]).await;
    let right = nas.answer_to("ann", &state, CODE);
    assert_eq!(nas.ask(&right).await.code(), Code::AccessReject);
    assert_eq!(world.directory.binds(), 1);
}

#[tokio::test]
async fn a_device_that_can_show_no_challenge_gets_none() {
    //
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(NO_CHALLENGE, gateway.address, SECRET).await;
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    let ask = proto::verification::outcome::Result::Ask(proto::verification::Ask {
        method: "code".into(),
        kind: proto::verification::AskKind::Code.into(),
        step: 1,
        expires_unix_ms: NOW_MS + 120_000,
        ..Default::default()
    });
    // Even where verification asks for one all the same.
    world.verification.misbehave(Some(Fault::twists(move |outcome| outcome.result = Some(ask.clone()))));
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    until("the challenge is withdrawn", async || world.verification.cancels() == ["method_impossible"]).await;
}

#[tokio::test]
async fn an_allow_for_somebody_else_is_no_answer_to_a_challenge() {
    // V-02, R-42
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    let state = nas.ask(&first).await.state();
    world.verification.misbehave(Some(Fault::twists(|outcome| {
        if let Some(proto::verification::outcome::Result::Allow(allow)) = &mut outcome.result {
            allow.user_id = "00000000-0000-4000-8000-00000000000e".into();
        }
    })));
    let second = nas.answer_to("ann", &state, CODE);
    assert_eq!(nas.ask(&second).await.code(), Code::AccessReject);
}

#[tokio::test]
async fn a_challenge_that_nobody_answers_ends_with_that() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let first = nas.question("ann", ANN);
    assert_eq!(nas.ask(&first).await.code(), Code::AccessChallenge);
    world.clock.advance(120_000);
    until("it is over", async || world.verification.cancels() == ["no_answer"]).await;
}
