//! What a person decides on the phone (V-21, V-22, FV-26).

use crate::phone::{WebPhone, asked, secret, send, settings, transaction};
use crate::prompts::{NOW, World};
use proto::verification::phone_server::Phone;
use proto::verification::{DecideRequest, DeviceProof, OpenPromptsRequest};
use sha2::{Digest, Sha256};
use tonic::Request;

#[tokio::test]
async fn an_approval_says_how_much_it_proves_and_wakes_who_waits() {
    // FV-05, V-03: a number that was carried over is more than a yes
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let phones = [WebPhone::new(1).connected(&world, &node).await];
    let mut bare = WebPhone::without_passkey(2).connected(&world, &node).await;
    let mut phone = phones[0].clone();
    let mut resolved = world.resolved().await;
    let simple = asked(&world, &node, &phone, |_| {}).await;
    assert!(!simple.number_asked && !simple.pin_asked);
    assert_eq!(phone.decide(&node, &simple, "approve", "").await, "taken");
    let subject = resolved.next().await.expect("told").subject;
    assert_eq!(subject, proto::subjects::challenge_resolved(&simple.prompt_id));
    let outcome = world.store.read(&simple.prompt_id);
    assert_eq!((outcome.outcome.as_str(), outcome.assurance.as_str()), ("approved", "approve_only"));
    assert_eq!(outcome.answered_by, "Ann's phone");

    for phone in [&mut phone, &mut bare] {
        let matched = asked(&world, &node, phone, |prompt| prompt.number = "42".into()).await;
        assert!(matched.number_asked);
        assert_eq!(phone.decide(&node, &matched, "approve", "42").await, "taken");
        let outcome = world.store.read(&matched.prompt_id);
        assert_eq!((outcome.outcome.as_str(), outcome.assurance.as_str()), ("approved", "number_matched"));
    }
}

#[tokio::test]
async fn a_wrong_number_ends_the_attempt() {
    // V-22
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::new(1).connected(&world, &node).await;
    for typed in ["24", "", "4", "042"] {
        let prompt = asked(&world, &node, &phone, |prompt| prompt.number = "42".into()).await;
        assert_eq!(phone.decide(&node, &prompt, "approve", typed).await, "wrong_number", "{typed}");
        assert_eq!(world.store.read(&prompt.prompt_id).outcome, "wrong_number");
        assert_eq!(phone.decide(&node, &prompt, "approve", "42").await, "challenge_gone", "no second guess");
        assert_eq!(world.store.read(&prompt.prompt_id).outcome, "wrong_number");
    }
}

#[tokio::test]
async fn a_refusal_is_quick_and_not_me_blocks_as_the_settings_say() {
    // FV-25, FV-26
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::new(1).connected(&world, &node).await;
    let prompt = asked(&world, &node, &phone, |prompt| prompt.number = "42".into()).await;
    let request = phone.answer(&prompt, "deny", "");
    assert!(request.assertion_json.is_empty(), "without a passkey");
    assert_eq!(send(&node, request).await, "taken");
    assert_eq!(world.store.read(&prompt.prompt_id).outcome, "denied");
    assert_eq!(world.store.lock().blocked_until, None);
    for (blocks, days, until) in [(true, 90, NOW + 90 * 86_400_000), (true, 0, -1), (false, 90, 0)] {
        world.store.change_settings(|settings| {
            settings.verification.fraud_blocks = blocks;
            settings.verification.block_days = days;
        });
        let node = world.node().await;
        let prompt = asked(&world, &node, &phone, |_| {}).await;
        assert_eq!(phone.decide(&node, &prompt, "fraud", "").await, "taken");
        assert_eq!(world.store.read(&prompt.prompt_id).outcome, "fraud");
        assert_eq!(world.store.lock().blocked_until, Some(until));
    }
}

#[tokio::test]
async fn the_same_answer_again_is_the_same_and_another_one_is_refused_and_recorded() {
    // V-21: B-84
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::new(1).connected(&world, &node).await;
    let prompt = asked(&world, &node, &phone, |_| {}).await;
    let request = phone.answer(&prompt, "approve", "");
    for _ in 0..3 {
        assert_eq!(send(&node, request.clone()).await, "taken");
    }
    // Signed anew it is still the same decision of the same phone.
    assert_eq!(phone.decide(&node, &prompt, "approve", "").await, "taken");
    let revision = world.store.read(&prompt.prompt_id).revision;
    assert!(world.store.lock().events.is_empty());
    assert_eq!(phone.decide(&node, &prompt, "deny", "").await, "challenge_gone");
    let mut second = WebPhone::new(2).connected(&world, &node).await;
    assert_eq!(second.decide(&node, &prompt, "deny", "").await, "challenge_gone");
    assert_eq!(world.store.read(&prompt.prompt_id).revision, revision);
    let events = world.store.lock().events.clone();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event.kind == "phone.refused" && event.reason == "challenge_gone"));
    assert!(events[0].detail.contains(&prompt.prompt_id.replace("prompt", "transaction-of-prompt")));
}

#[tokio::test]
async fn only_a_signature_over_this_very_transaction_decides() {
    // V-21: B-84. Each thing that is covered, exchanged alone.
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::without_passkey(1).connected(&world, &node).await;
    let prompt = asked(&world, &node, &phone, |prompt| prompt.number = "42".into()).await;
    let mut others = vec![prompt.clone(); 5];
    others[0].prompt_id = "prompt-0".into();
    others[1].application = "Bank".into();
    others[2].username = "bob@corp.example".into();
    others[3].place = "198.51.100.1".into();
    others[4].expires_unix_ms += 1;
    let mut signed: Vec<Vec<u8>> = others.iter().map(|other| transaction(other, "approve", "42")).collect();
    signed.push(transaction(&prompt, "approve", "24"));
    signed.push(transaction(&prompt, "deny", ""));
    signed.push(Vec::new());
    let good = phone.answer(&prompt, "approve", "42");
    for text in &signed {
        let bent = DecideRequest { signature: phone.sign(text), ..good.clone() };
        assert_eq!(send(&node, bent).await, "challenge_gone", "{}", String::from_utf8_lossy(text));
    }
    let stranger = WebPhone::new(9);
    let forged = DecideRequest { signature: stranger.sign(&transaction(&prompt, "approve", "42")), ..good.clone() };
    assert_eq!(send(&node, forged).await, "challenge_gone");
    let unsigned = DecideRequest { signature: String::new(), ..phone.answer(&prompt, "deny", "") };
    assert_eq!(send(&node, unsigned).await, "challenge_gone", "or anybody could cancel");
    // A no made into "not me", and the other way round.
    let deny = phone.answer(&prompt, "deny", "");
    let turned = DecideRequest {
        decision: "fraud".into(),
        proof: phone.prove(&format!("decide|{}|fraud|", prompt.prompt_id)),
        ..deny
    };
    assert_eq!(send(&node, turned).await, "challenge_gone");
    assert_eq!(world.store.read(&prompt.prompt_id).outcome, "", "nothing of that decided");
    assert_eq!(world.store.lock().events.len(), signed.len() + 3);
    assert_eq!(send(&node, good).await, "taken");
}

#[tokio::test]
async fn where_there_is_a_passkey_nothing_else_approves() {
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::new(1).connected(&world, &node).await;
    let prompt = asked(&world, &node, &phone, |_| {}).await;
    let mut by_key = phone.answer(&prompt, "approve", "");
    by_key.assertion_json.clear();
    by_key.signature = phone.sign(&transaction(&prompt, "approve", ""));
    assert_eq!(send(&node, by_key).await, "challenge_gone");
    let mut other = phone.answer(&prompt, "approve", "");
    let passkey = phone.passkey.as_mut().expect("a passkey");
    other.assertion_json = passkey.get(&Sha256::digest(transaction(&prompt, "deny", ""))).to_string();
    assert_eq!(send(&node, other).await, "challenge_gone");
    // A copy of the passkey that counts from where it was.
    let mut copy = phone.clone();
    copy.passkey.as_mut().expect("a passkey").count = 1;
    assert_eq!(copy.decide(&node, &prompt, "approve", "").await, "challenge_gone");
    assert_eq!(world.store.read(&prompt.prompt_id).outcome, "");
    let refused = world.store.lock().events.iter().filter(|event| event.kind == "phone.refused").count();
    assert!(refused > 0, "the audit tells of it");
    // The count is kept by the commit of the answer, and by nothing else.
    world.store.lock().broken.push("put_device");
    assert_eq!(phone.decide(&node, &prompt, "approve", "").await, "taken");
    let count = phone.passkey.as_ref().expect("a passkey").count;
    let kept = world.store.lock().devices[0].1.passkey_json.clone();
    assert!(kept.contains(&format!("\"sign_count\":{count}")), "{kept}");
    world.store.lock().broken.clear();

    let mut bare = WebPhone::without_passkey(2).connected(&world, &node).await;
    let prompt = asked(&world, &node, &bare, |_| {}).await;
    world.store.change_settings(|settings| settings.push.without_passkey = false);
    let strict = world.node().await;
    assert_eq!(bare.decide(&strict, &prompt, "approve", "").await, "no_usable_method");
    assert_eq!(bare.decide(&strict, &prompt, "deny", "").await, "taken", "refusing goes with any phone");
}

#[tokio::test]
async fn an_answer_that_comes_too_late_changes_nothing() {
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::new(1).connected(&world, &node).await;
    let prompt = asked(&world, &node, &phone, |prompt| prompt.expires_unix_ms = NOW + 1_000).await;
    world.clock.advance(1_000);
    phone.now_ms += 1_000;
    assert!(phone.look(&node).await.expect("its own").is_empty());
    for decision in ["approve", "deny", "fraud"] {
        assert_eq!(phone.decide(&node, &prompt, decision, "").await, "challenge_gone");
    }
    assert_eq!(world.store.read(&prompt.prompt_id).outcome, "");
    assert_eq!(world.store.lock().blocked_until, None);
}

#[tokio::test]
async fn a_pin_that_is_asked_for_has_to_be_right_and_can_be_typed_again() {
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::new(1).connected(&world, &node).await;
    let prompt = asked(&world, &node, &phone, |prompt| prompt.pin_asked = true).await;
    assert!(prompt.pin_asked);
    assert_eq!(phone.decide(&node, &prompt, "approve", "").await, "wrong_pin");
    assert_eq!(world.store.lock().pins_tried, 0, "none was given");
    let with = |phone: &mut WebPhone, pin: &str| {
        let request = phone.answer(&prompt, "approve", "");
        DecideRequest { pin: Some(secret(pin)), ..request }
    };
    assert_eq!(send(&node, with(&mut phone, "0000")).await, "wrong_pin");
    assert_eq!(world.store.read(&prompt.prompt_id).outcome, "");
    let right = with(&mut phone, "4711");
    assert_eq!(send(&node, right.clone()).await, "taken");
    assert_eq!(world.store.read(&prompt.prompt_id).pin_handle, "pin-2");
    assert_eq!(send(&node, right).await, "taken");
    assert_eq!(world.store.lock().pins_tried, 2, "the same again tries no PIN");
    // Refusing needs none.
    let prompt = asked(&world, &node, &phone, |prompt| prompt.pin_asked = true).await;
    assert_eq!(phone.decide(&node, &prompt, "deny", "").await, "taken");
    let prompt = asked(&world, &node, &phone, |prompt| prompt.pin_asked = true).await;
    world.store.lock().pin_locked = true;
    let request = phone.answer(&prompt, "approve", "");
    assert_eq!(send(&node, DecideRequest { pin: Some(secret("4711")), ..request }).await, "locked_out");
}

#[tokio::test]
async fn who_is_not_this_device_now_hears_nothing() {
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::new(1).connected(&world, &node).await;
    asked(&world, &node, &phone, |_| {}).await;
    let stranger = WebPhone { device_id: phone.device_id.clone(), ..WebPhone::new(2) };
    let unknown = WebPhone { device_id: "device-99".into(), ..phone.clone() };
    for liar in [&stranger, &unknown] {
        assert_eq!(liar.look(&node).await, Err("not_enrolled".into()));
    }
    // What was signed for one purpose counts for no other.
    let proof = phone.prove("update|x");
    let reply = node.open_prompts(Request::new(OpenPromptsRequest { proof })).await.expect("answered").into_inner();
    assert_eq!((reply.reason.as_str(), reply.prompts.len()), ("not_enrolled", 0));
    let nameless = Some(DeviceProof::default());
    for proof in [None, nameless] {
        let reply = node.open_prompts(Request::new(OpenPromptsRequest { proof })).await.expect("answered").into_inner();
        assert_eq!(reply.reason, "not_enrolled");
    }
    phone.now_ms -= 60_001;
    assert_eq!(phone.look(&node).await, Err("challenge_gone".into()), "an old request");
    phone.now_ms = NOW;
    world.store.lock().disabled = true;
    assert_eq!(phone.look(&node).await, Err("blocked".into()));
}

#[tokio::test]
async fn a_store_that_does_not_answer_decides_nothing() {
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::new(1).connected(&world, &node).await;
    let prompt = asked(&world, &node, &phone, |_| {}).await;
    for call in ["get_device", "get_prompts", "resolve_prompt"] {
        world.store.lock().broken = vec![call];
        let request = phone.answer(&prompt, "approve", "");
        assert!(node.decide(Request::new(request)).await.is_err(), "{call}");
        assert_eq!(world.store.read(&prompt.prompt_id).outcome, "");
    }
    world.store.lock().broken.clear();
    assert_eq!(phone.decide(&node, &prompt, "approve", "").await, "taken");
}
