//! Tokens put right and found, recovery codes, phones proven, methods tried.

use crate::fakes::{Mood, NOW, World, factor, request};
use crate::prompts::until;
use domain::{CodeAlgorithm, PresentedCode, Secret};
use proto::user_store::CodeFactor;
use proto::verification::enrolment_server::Enrolment;
use proto::verification::{
    ConfirmPhoneRequest, FindTokenRequest, NewRecoveryCodesRequest, ResyncRequest, StartPhoneRequest, TryMethodRequest,
};
use std::time::Duration;
use tonic::Request;
use verification::Service;

fn codes(from: u64, length: u64) -> Vec<proto::common::Secret> {
    let shown = |counter| otp::hotp(&Secret::from(crate::fakes::SEED), CodeAlgorithm::Sha1, counter, 6);
    (from..from + length).map(|counter| Secret::new(&shown(counter)[..6]).into()).collect()
}

#[tokio::test]
async fn codes_in_a_row_put_a_token_right() {
    // V-12, V-13
    let world = World::new();
    world.store.give_token("bob", CodeFactor { kind: "hotp".into(), next_counter: 5, ..factor("counter") });
    let node = world.node().await;
    let step = world.step();
    for (name, factor_id, codes, reason) in [
        ("bob", "counter", codes(80, 2), ""),
        ("bob", "counter", codes(80, 3), ""),
        ("bob", "counter", codes(80, 1), "wrong_code"),
        ("bob", "counter", codes(200, 2), "wrong_code"),
        ("bob", "another", codes(80, 2), "challenge_gone"),
        ("ann", "token-of-ann", codes(step + 7, 2), ""),
        ("ann", "token-of-ann", codes(step + 20, 2), "wrong_code"),
    ] {
        let asked = ResyncRequest {
            user_id: format!("id-of-{name}"),
            factor_id: factor_id.into(),
            codes,
            actor: "self".into(),
        };
        let reply = node.resync(request(asked)).await.expect("answered").into_inner();
        assert_eq!((reply.done, reply.reason.as_str()), (reason.is_empty(), reason), "{name} {factor_id}");
    }
    let moved: Vec<_> = world.store.resynced().iter().map(|it| (it.step, it.drift)).collect();
    assert_eq!(moved, [(81, 0), (82, 0), (step + 8, 8)]);
}

#[tokio::test]
async fn a_token_is_found_by_what_it_shows_whatever_page_it_is_on() {
    // FV-07
    let world = World::new();
    let other = Secret::from("00000000000000000000");
    world.store.set_stock(
        (0..7)
            .map(|number| CodeFactor {
                serial: format!("S{number}"),
                seed: Some(if number == 5 { Secret::from(crate::fakes::SEED) } else { other.clone() }.into()),
                ..factor(&format!("f{number}"))
            })
            .collect(),
    );
    let node = world.node().await;
    let found = async |code: String| {
        let asked = FindTokenRequest { code: Some(Secret::from(code).into()), actor: "admin:x".into() };
        node.find_token(request(asked)).await.map(|reply| reply.into_inner().serials)
    };
    assert_eq!(found(world.code(0)).await.expect("answered"), ["S5"]);
    assert!(found(world.code(90)).await.expect("answered").is_empty());
    assert!(found("no code".into()).await.is_err());
}

#[tokio::test]
async fn ten_recovery_codes_are_made_and_work() {
    // FV-09
    let world = World::new();
    let node = world.node().await;
    let asked = NewRecoveryCodesRequest { user_id: "id-of-ann".into(), actor: "self".into() };
    let codes = node.new_recovery_codes(request(asked)).await.expect("made").into_inner().codes;
    let mut texts: Vec<String> =
        codes.into_iter().map(|code| Secret::from(code).expose_str().expect("text").to_owned()).collect();
    assert!(texts.iter().all(|code| code.len() == 10 && PresentedCode::parse(code.as_bytes()).is_none()));
    world.store.change("ann", |user| user.recovery_left = 10);
    use crate::fakes::{attempt, passed, said};
    use proto::verification::verification_server::Verification;
    assert_eq!(
        said(node.begin(passed(&attempt("vpn", "ann"), Some(&texts[3].to_lowercase()))).await),
        "allow valid_recovery_code"
    );
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 10);
    let nobody = NewRecoveryCodesRequest { user_id: "id-of-off".into(), actor: "self".into() };
    assert!(node.new_recovery_codes(request(nobody)).await.is_err());
}

async fn start(node: &Service, method: &str, number: &str) -> (String, String) {
    let asked = StartPhoneRequest {
        user_id: "id-of-bob".into(),
        method: method.into(),
        number: number.into(),
        extension: "12".into(),
        backup: true,
        actor: "self".into(),
    };
    let reply = node.start_phone(request(asked)).await.expect("answered").into_inner();
    (reply.verification_id, reply.reason)
}

async fn confirm(node: &Service, user: &str, verification_id: &str, code: &str) -> String {
    let asked = ConfirmPhoneRequest {
        user_id: user.into(),
        verification_id: verification_id.into(),
        code: Some(Secret::from(code).into()),
        actor: "self".into(),
    };
    let reply = node.confirm_phone(request(asked)).await.expect("answered").into_inner();
    if reply.confirmed { "confirmed".into() } else { reply.reason }
}

#[tokio::test]
async fn a_number_becomes_the_users_after_its_code_was_typed() {
    // FV-14, V-17
    let world = World::new();
    let (node, other) = (world.node().await, world.node().await);
    let (id, reason) = start(&node, "sms", "030 901821").await;
    assert_eq!(reason, "");
    let (to, text) = world.carriers.texts().pop().expect("a text");
    assert_eq!(to, "+4930901821");
    let code = text.split(|sign: char| !sign.is_ascii_digit()).find(|word| word.len() == 6).expect("a code");
    assert_eq!(confirm(&other, "id-of-ann", &id, code).await, "challenge_gone", "somebody else's");
    let wrong = if code == "000000" { "000001" } else { "000000" };
    assert_eq!(confirm(&other, "id-of-bob", &id, wrong).await, "wrong_code");
    assert_eq!(confirm(&other, "id-of-bob", &id, "call").await, "wrong_code");
    assert_eq!(confirm(&other, "id-of-bob", "7", code).await, "challenge_gone");
    assert!(world.store.phones().is_empty());
    assert_eq!(confirm(&other, "id-of-bob", &id, code).await, "confirmed");
    let [phone] = &world.store.phones()[..] else { panic!("one phone") };
    assert_eq!((phone.number.as_str(), phone.extension.as_str(), phone.backup), ("+4930901821", "12", true));
    assert_eq!(confirm(&other, "id-of-bob", &id, code).await, "challenge_gone", "once");
}

#[tokio::test]
async fn a_number_becomes_the_users_after_it_rang_and_somebody_confirmed() {
    for (outcome, expected) in [("approved", "confirmed"), ("hung_up", "hung_up"), ("voicemail", "voicemail")] {
        let world = World::new();
        let node = world.node().await;
        world.carriers.answers(outcome, "phone");
        let (id, reason) = start(&node, "call", "+49 30 901821").await;
        assert_eq!(reason, "");
        assert_eq!(confirm(&node, "id-of-bob", &id, "").await, expected, "{outcome}");
        assert_eq!(world.store.phones().len(), usize::from(outcome == "approved"));
    }
}

#[tokio::test]
async fn a_number_that_cannot_be_reached_or_read_is_said_so() {
    let world = World::new();
    let node = world.node().await;
    world.carriers.text_mood(Mood::Refuse(domain::Reason::Unreachable));
    assert_eq!(start(&node, "sms", "030 901821").await.1, "unreachable");
    assert_eq!(start(&node, "sms", "030 901821").await.1, "rate_limited");
    for (method, number, extension) in
        [("sms", "no number", ""), ("push", "030 901821", ""), ("sms", "030 901821", "12;rm")]
    {
        let asked = StartPhoneRequest {
            user_id: "id-of-bob".into(),
            method: method.into(),
            number: number.into(),
            extension: extension.into(),
            ..StartPhoneRequest::default()
        };
        assert!(node.start_phone(request(asked)).await.is_err(), "{method} {number} {extension}");
    }
}

#[tokio::test]
async fn a_method_is_tried_for_real_and_lets_nobody_in() {
    let world = World::new();
    world.store.give_phone("bob");
    world.store.change("bob", |user| user.phone = "030 901820".into());
    let node = world.node().await;
    world.carriers.answers("approved", "approve_only");
    let tried = async |method: &str, device_id: &str| {
        let asked = TryMethodRequest {
            user_id: "id-of-bob".into(),
            method: method.into(),
            device_id: device_id.into(),
            actor: "self".into(),
            to_prove: false,
        };
        let reply = node.try_method(request(asked)).await.expect("answered").into_inner();
        assert!(!reply.steps.is_empty());
        reply.reason
    };
    assert_eq!(tried("push", "").await, "user_approved");
    assert_eq!(tried("call", "").await, "call_confirmed");
    assert_eq!(tried("sms", "").await, "code_asked");
    assert_eq!(world.store.calls("touch_device"), 0);
    assert_eq!(tried("push", "phone-of-bob").await, "user_approved");
    assert_eq!(world.store.calls("touch_device"), 0, "a phone proves itself by its answer, nobody for it");
    let call = TryMethodRequest {
        user_id: "id-of-bob".into(),
        method: "call".into(),
        device_id: "phone-of-bob".into(),
        actor: "self".into(),
        to_prove: false,
    };
    assert_eq!(
        node.try_method(request(call)).await.expect_err("a call to a device").code(),
        tonic::Code::InvalidArgument
    );
    assert_eq!(tried("code", "").await, "method_impossible");
    world.carriers.push_mood(Mood::NoProvider);
    assert_eq!(tried("push", "").await, "unreachable");
    world.carriers.push_mood(Mood::Accept);
    world.carriers.answers("denied", "");
    assert_eq!(tried("push", "").await, "user_denied");
    assert_eq!(tried("push", "").await, "cooling_down");
    assert!(world.store.events().is_empty(), "no login was recorded");
}

/// bob has a number that can be called.
fn called() -> World {
    let world = World::new();
    world.store.change("bob", |user| user.phone = "030 901820".into());
    world
}

fn trial(wait: Duration) -> Request<TryMethodRequest> {
    trial_of("call", "", wait)
}

fn trial_of(method: &str, device_id: &str, wait: Duration) -> Request<TryMethodRequest> {
    let asked = TryMethodRequest {
        user_id: "id-of-bob".into(),
        method: method.into(),
        device_id: device_id.into(),
        actor: "self".into(),
        ..TryMethodRequest::default()
    };
    service_kit::grpc::with_deadline(asked, wait)
}

#[tokio::test(start_paused = true)]
async fn a_trial_call_is_hung_up_when_its_time_is_over_or_whoever_tries_it_has_left() {
    // V-23: the telephone rings for nobody
    let world = called();
    let node = world.node().await;
    let reply = node.try_method(trial(Duration::from_millis(4_500))).await.expect("answered").into_inner();
    assert_eq!(reply.reason, "no_answer");
    let first = world.store.prompts()[0].prompt_id.clone();
    until(|| world.carriers.hung_up() == [first.as_str()]).await;

    let world = called();
    let node = world.node().await;
    let waiting = tokio::spawn(async move { node.try_method(trial(Duration::from_secs(60))).await.map(drop) });
    until(|| world.carriers.calls().len() == 1).await;
    waiting.abort();
    until(|| world.store.prompts()[0].outcome == "withdrawn").await;
    until(|| world.carriers.hung_up().len() == 1).await;
    assert_eq!(world.store.reasons(), [""; 0], "a trial is no attempt");

    // One that was confirmed is over by itself.
    let world = called();
    world.carriers.answers("approved", "phone");
    let node = world.node().await;
    let reply = node.try_method(trial(Duration::from_secs(60))).await.expect("answered").into_inner();
    assert_eq!(reply.reason, "call_confirmed");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((world.carriers.hung_up().len(), world.store.prompts()[0].outcome.as_str()), (0, "approved"));
}

#[tokio::test(start_paused = true)]
async fn a_trial_on_the_phone_outlives_whoever_began_it_for_the_next_one_to_wait_for() {
    // V-23: an app rings for nobody, and a page that is loaded again has interrupted nobody for nothing
    let world = World::new();
    world.store.give_phone("bob");
    let node = world.node().await;
    let begin = || {
        let node = node.clone();
        let asked = trial_of("push", "phone-of-bob", Duration::from_secs(60));
        tokio::spawn(async move { node.try_method(asked).await.map(|reply| reply.into_inner().reason) })
    };
    let first = begin();
    until(|| world.carriers.pushes().len() == 1).await;
    first.abort();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let prompt = world.store.prompts()[0].clone();
    assert_eq!(prompt.outcome, "");
    let second = begin();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.store.resolve(&prompt.prompt_id, "approved", "approve_only", NOW));
    assert_eq!(second.await.expect("no panic").expect("answered"), "user_approved");
    assert_eq!(world.carriers.pushes().len(), 1, "asked once");
}

#[tokio::test]
async fn the_call_that_proves_a_number_is_hung_up_whoever_ended_it() {
    // FV-25: an administrator blocks the person while it rings
    let world = World::new();
    let node = world.node().await;
    let (id, reason) = start(&node, "call", "+49 30 901821").await;
    assert_eq!(reason, "");
    let prompt = world.store.prompts()[0].prompt_id.clone();
    assert!(world.store.resolve(&prompt, "withdrawn", "", NOW));
    assert_eq!(confirm(&node, "id-of-bob", &id, "").await, "challenge_gone");
    until(|| world.carriers.hung_up() == [prompt.as_str()]).await;
}
