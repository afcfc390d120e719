//! Calls by a vendor that speaks TwiML.

use super::prompts::{PORTAL, World, call_back};
use super::{Ann, call};
use lab::phones::twiml::{Deliver, Mood, Phone, TwimlVendor};
use proto::user_store::Prompt;
use proto::verification::enrolment_server::Enrolment;
use proto::verification::{CallbackRequest, TestProviderRequest};
use serde_json::{Value, json};
use std::sync::Arc;
use verification::{SendFailure, Service};

const ACCOUNT: &str = "AC0123456789";
const SECRET: &str = "the vendor's token";

struct Stage {
    vendor: TwimlVendor,
    world: World,
    node: Arc<Service>,
}

fn provider(name: &str, base_url: &str) -> Value {
    json!({
        "name": name, "channel": "voice", "secret": "keep", "timeout_seconds": 1,
        "adapter": { "kind": "twiml", "base_url": base_url, "account": ACCOUNT, "caller": "+4930123456" },
    })
}

async fn stage_with(more: Value) -> Stage {
    let vendor = TwimlVendor::start(ACCOUNT, SECRET).await.expect("a vendor");
    let mut settings =
        json!({ "verification": { "country": "DE" }, "provider": [provider("calls", &vendor.base_url)] });
    settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let world = World::new(settings, &[("provider.calls.secret", SECRET)]);
    let node = world.node().await;
    Stage { vendor, world, node }
}

async fn stage() -> Stage {
    stage_with(json!({})).await
}

/// Carries callbacks to a node, as vendor and portal do.
fn deliver(node: &Arc<Service>, provider: &'static str) -> Deliver {
    let node = node.clone();
    Arc::new(move |callback| {
        let node = node.clone();
        Box::pin(async move {
            let request = CallbackRequest {
                headers: callback.headers,
                body: callback.body.into_bytes(),
                ..CallbackRequest::default()
            };
            let reply = call_back(&node, provider, &callback.url, request).await;
            (reply.status as u16, String::from_utf8(reply.body).expect("text"))
        })
    })
}

impl Stage {
    /// Rings ann; the phone is hers.
    async fn ring(&self, ann: Ann) -> (Prompt, Phone) {
        let prompt = self.world.prompt("call");
        let accepted = call(&self.node, &prompt, ann).await.expect("taken");
        assert_eq!(accepted.provider, "calls");
        (prompt, self.phone().await)
    }

    async fn phone(&self) -> Phone {
        self.vendor.next_call(deliver(&self.node, "calls")).await
    }

    fn outcome(&self, prompt: &Prompt) -> String {
        self.world.store.read(&prompt.prompt_id).outcome
    }
}

#[tokio::test]
async fn a_person_who_presses_the_pound_key_has_confirmed() {
    // FV-02, V-19
    let stage = stage().await;
    let mut resolved = stage.world.resolved().await;
    let (prompt, mut phone) = stage.ring(Ann::default()).await;
    assert_eq!(phone.order["To"], "+4930901820");
    assert_eq!((phone.order["From"].as_str(), phone.order["Timeout"].as_str()), ("+4930123456", "30"));
    assert_eq!(phone.answer("human").await, 200);
    assert!(phone.heard[0].contains("signing in to VPN"), "{:?}", phone.heard);
    assert_eq!(stage.outcome(&prompt), "", "answered is not confirmed");
    phone.press("#").await;
    assert!(phone.last().contains("is confirmed") && phone.is_over(), "{:?}", phone.heard);
    let after = stage.world.store.read(&prompt.prompt_id);
    assert_eq!((after.outcome.as_str(), after.assurance.as_str()), ("approved", "phone"));
    assert_eq!(after.answered_by, "•••• 1820");
    let told = resolved.next().await.expect("told");
    assert_eq!(told.subject, proto::subjects::challenge_resolved(&prompt.prompt_id));
    assert!(told.payload.is_empty());
    let notes = &stage.world.store.lock().notes;
    assert_eq!((notes[0].state.as_str(), notes[0].destination.as_str()), ("accepted", "•••• 1820"));
    assert_eq!(notes[0].provider_id, phone.order["CallSid"]);
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_ended_at_the_vendor() {
    // V-23: while it rings, while somebody listens, and where it was withdrawn before the vendor had said what it calls it
    let log = tempfile::NamedTempFile::new().expect("a file");
    let writer = Arc::new(log.reopen().expect("again"));
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(writer).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let stage = stage().await;
    for picks_up in [false, true] {
        let (prompt, mut phone) = stage.ring(Ann::default()).await;
        if picks_up {
            phone.answer("human").await;
        }
        stage.world.store.end(&prompt.prompt_id, "withdrawn");
        stage.node.carriers().hang_up(&stage.world.store.read(&prompt.prompt_id)).await;
        assert_eq!(stage.vendor.ended().last(), Some(&phone.order["CallSid"]), "picks up: {picks_up}");
        // Once more, as another node may: the vendor says 400, which is no fault.
        let told = stage.vendor.ended().len();
        stage.node.carriers().hang_up(&stage.world.store.read(&prompt.prompt_id)).await;
        assert_eq!(stage.vendor.ended().len(), told);
        assert_eq!(phone.status("completed").await, 204, "told as any other end");
        assert_eq!(stage.outcome(&prompt), "withdrawn");
    }
    for picks_up in [false, true] {
        let (prompt, mut phone) = stage.ring(Ann::default()).await;
        if picks_up {
            phone.answer("human").await;
        }
        stage.world.store.end(&prompt.prompt_id, "expired");
        stage.node.carriers().hang_up(&stage.world.store.read(&prompt.prompt_id)).await;
        let is_ended = stage.vendor.ended().contains(&phone.order["CallSid"]);
        assert_eq!(is_ended, !picks_up, "whoever picked up hears that nobody waits");
    }
    stage.vendor.set_mood(Mood::Delay(500));
    let prompt = stage.world.prompt("call");
    let ringing = tokio::spawn({
        let (node, prompt) = (stage.node.clone(), prompt.clone());
        async move { call(&node, &prompt, Ann::default()).await }
    });
    while stage.world.store.read(&prompt.prompt_id).state_json.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    stage.world.store.end(&prompt.prompt_id, "withdrawn");
    stage.node.carriers().hang_up(&stage.world.store.read(&prompt.prompt_id)).await;
    assert_eq!(stage.vendor.ended().len(), 3, "nobody knows its name yet");
    ringing.await.expect("no panic").expect("taken");
    let phone = stage.phone().await;
    assert_eq!(stage.vendor.ended().last(), Some(&phone.order["CallSid"]));
    let warned = std::fs::read_to_string(log.path()).expect("text");
    assert!(!warned.contains("could not be ended"), "{warned}");
}

#[tokio::test]
async fn every_way_a_call_can_end_is_told_by_its_reason() {
    // V-19, V-25: each reason of a call is reached, and only a key approves
    let stage = stage_with(json!({ "voice": { "fraud_code": "0" } })).await;
    let pin = Ann { pin: true, ..Ann::default() };
    for (ann, deeds, outcome) in [
        (Ann::default(), "answer press:#", "approved"),
        (Ann::default(), "answer silence press:#", "approved"),
        (Ann::default(), "answer silence silence", "no_keys_pressed"),
        (Ann::default(), "answer press:5 press:6 press:7", "no_keys_pressed"),
        (Ann::default(), "answer hang_up", "hung_up"),
        (Ann::default(), "answer press:0# press:1", "fraud"),
        (Ann::default(), "answer press:0 press:1", "fraud"),
        (Ann::default(), "answer press:0 press:2 press:#", "approved"),
        (Ann::default(), "status:busy", "busy"),
        (Ann::default(), "status:no-answer", "no_answer"),
        (Ann::default(), "status:failed", "unreachable"),
        (Ann::default(), "machine", "voicemail"),
        (pin, "answer press:4711#", "approved"),
        (pin, "answer press:1111# press:4711#", "approved"),
        (pin, "answer press:1111# press:2222# press:3333#", "wrong_pin"),
        (pin, "answer press:# press:#", "no_keys_pressed"),
        (pin, "answer press:0# press:1", "fraud"),
        (pin, "answer silence silence", "no_keys_pressed"),
    ] {
        let (prompt, mut phone) = stage.ring(ann).await;
        for deed in deeds.split_whitespace() {
            match deed.split_once(':').unwrap_or((deed, "")) {
                ("answer", _) => phone.answer("human").await,
                ("machine", _) => phone.answer("machine_start").await,
                ("press", keys) => phone.press(keys).await,
                ("silence", _) => phone.keep_silent().await,
                ("hang_up", _) => phone.hang_up().await,
                ("status", status) => phone.status(status).await,
                _ => unreachable!("a known deed"),
            };
        }
        assert_eq!(stage.outcome(&prompt), outcome, "{deeds}: {:?}", phone.heard);
        let after = stage.world.store.read(&prompt.prompt_id);
        assert_eq!(after.assurance == "phone", outcome == "approved", "{deeds}");
        assert_eq!(after.pin_handle.is_empty(), !(ann.pin && outcome == "approved"), "{deeds}");
    }
    stage.world.store.lock().pin_locked = true;
    let (prompt, mut phone) = stage.ring(pin).await;
    phone.answer("human").await;
    phone.press("4711#").await;
    assert_eq!(stage.outcome(&prompt), "locked_out");
}

#[tokio::test]
async fn a_report_of_fraud_blocks_until_the_settings_say() {
    // FV-25, FV-26
    let stage = stage().await;
    let (prompt, mut phone) = stage.ring(Ann::default()).await;
    phone.answer("human").await;
    assert!(phone.last().contains("press 0"), "{:?}", phone.heard);
    phone.press("0#1").await;
    assert_eq!(stage.outcome(&prompt), "fraud");
    let until = super::prompts::NOW + 90 * 86_400_000;
    assert_eq!(stage.world.store.lock().blocked_until, Some(until));
    assert!(phone.last().contains("change your password"), "{:?}", phone.heard);
}

#[tokio::test]
async fn a_pin_to_be_changed_is_asked_for_twice_on_the_keypad() {
    // FV-21: after the old one was right; what is unfit is asked again
    let stage = stage().await;
    let (prompt, mut phone) = stage.ring(Ann { pin: true, new_pin: true, ..Ann::default() }).await;
    phone.answer("human").await;
    phone.press("4711#").await;
    assert_eq!(stage.outcome(&prompt), "", "the new PIN is part of it");
    assert!(phone.last().contains("new PIN"), "{:?}", phone.heard);
    phone.press("1234*1234#").await;
    phone.press("8265*8266#").await;
    assert_eq!((stage.outcome(&prompt), stage.world.store.lock().pin.clone()), (String::new(), "4711".into()));
    // Two were unfit: the third decides.
    phone.press("8265*8265#").await;
    assert_eq!(stage.outcome(&prompt), "approved");
    assert_eq!(stage.world.store.lock().pin, "8265");
    assert!(stage.world.store.read(&prompt.prompt_id).state_json.find("8265").is_none());
}

#[tokio::test]
async fn the_backup_phone_rings_where_the_first_does_not_answer_and_the_settings_allow_it() {
    // FV-02, FV-14
    for (allowed, said, rings) in [(true, "no-answer", true), (true, "busy", true), (false, "busy", false)] {
        let stage = stage_with(json!({ "voice": { "backup_phone": allowed } })).await;
        let (prompt, mut first) = stage.ring(Ann { backup: true, ..Ann::default() }).await;
        first.status(said).await;
        if !rings {
            assert_eq!(stage.outcome(&prompt), "busy");
            assert!(stage.vendor.is_quiet().await);
            continue;
        }
        let mut second = stage.phone().await;
        assert_eq!(second.order["To"], "+4930901821");
        // The first call has no say any more.
        first.status("completed").await;
        first.answer("human").await;
        assert!(first.is_over() && first.heard.is_empty());
        second.answer("human").await;
        second.press("#").await;
        let after = stage.world.store.read(&prompt.prompt_id);
        assert_eq!((after.outcome.as_str(), after.answered_by.as_str()), ("approved", "•••• 1821"));
    }
}

#[tokio::test]
async fn a_backup_phone_that_nobody_can_ring_leaves_the_first_reason() {
    // FV-14, V-25
    let stage = stage_with(json!({ "voice": { "backup_phone": true } })).await;
    let (prompt, mut first) = stage.ring(Ann { backup: true, ..Ann::default() }).await;
    stage.vendor.set_mood(Mood::Refuse(500));
    first.status("busy").await;
    assert_eq!(stage.world.outcome(&prompt.prompt_id).await.outcome, "busy");
}

#[tokio::test]
async fn an_extension_is_dialled_before_the_first_word_and_what_answers_may_sound_like_a_machine() {
    // FV-14: a switchboard is what dials the extension
    let stage = stage().await;
    let (prompt, mut phone) = stage.ring(Ann { extension: "17", language: Some("de"), ..Ann::default() }).await;
    assert!(!phone.order.contains_key("MachineDetection"));
    phone.answer("machine_start").await;
    assert!(phone.heard[0].contains("Nebenstelle") && phone.heard[1] == "[wwww17wwww]", "{:?}", phone.heard);
    assert!(phone.heard[3].contains("bei VPN an"));
    phone.press("#").await;
    assert_eq!(stage.outcome(&prompt), "approved");
}

#[tokio::test]
async fn what_is_heard_twice_happens_once_and_is_answered_the_same() {
    // V-18: the vendor repeats a callback when our answer was lost
    let stage = stage().await;
    let (prompt, mut phone) = stage.ring(Ann { pin: true, ..Ann::default() }).await;
    phone.lies.double = true;
    phone.answer("human").await;
    phone.press("1111#").await;
    assert_eq!(stage.world.store.lock().pins_tried, 1, "a try is counted once");
    phone.press("4711#").await;
    assert_eq!(stage.world.store.lock().pins_tried, 2);
    assert_eq!(stage.outcome(&prompt), "approved");
    // A recorded "answer" and "keys", played back later, move nothing.
    let (_, document) = phone.send(&phone.order["Url"].clone(), &[("CallStatus", "in-progress")]).await;
    assert!(document.contains("is confirmed"));
    assert_eq!(stage.world.store.lock().pins_tried, 2);
}

#[tokio::test]
async fn two_nodes_that_hear_the_same_key_at_once_try_one_pin() {
    // V-18, V-31
    let stage = stage().await;
    let other = stage.world.node().await;
    let (prompt, mut phone) = stage.ring(Ann { pin: true, ..Ann::default() }).await;
    phone.answer("human").await;
    let url = format!("{PORTAL}/callback/calls/call/{}/1/1/keys", prompt.prompt_id);
    let callback = phone.callback(&url, &[("CallStatus", "in-progress"), ("Digits", "4711")]);
    let (here, there) = (deliver(&stage.node, "calls"), deliver(&other, "calls"));
    let (one, two) = tokio::join!(here(callback.clone()), there(callback));
    assert_eq!((one.0, two.0), (200, 200));
    assert_eq!(stage.world.store.lock().pins_tried, 1);
    assert_eq!(stage.outcome(&prompt), "approved");
    for document in [one.1, two.1] {
        assert!(document.contains("is confirmed") || document.contains("<Redirect"), "{document}");
    }
}

#[tokio::test]
async fn who_lies_about_a_call_gets_the_same_404_and_moves_nothing() {
    // V-18: wrong signature, none, another call, another prompt, another try
    let stage = stage().await;
    let (other, _) = stage.ring(Ann::default()).await;
    let (prompt, mut phone) = stage.ring(Ann::default()).await;
    phone.answer("human").await;
    let url = format!("{PORTAL}/callback/calls/call/{}/1/1/keys", prompt.prompt_id);
    let keys = [("CallStatus", "in-progress"), ("Digits", "#")];
    let not_found = (404, "not found\n".to_owned());
    phone.lies.wrong_signature = true;
    assert_eq!(phone.send(&url, &keys).await, not_found);
    phone.lies.wrong_signature = false;
    phone.lies.no_signature = true;
    assert_eq!(phone.send(&url, &keys).await, not_found);
    phone.lies.no_signature = false;
    phone.lies.call_sid = Some("CAffff".into());
    assert_eq!(phone.send(&url, &keys).await, not_found);
    phone.lies.call_sid = None;
    phone.lies.address = Some((prompt.prompt_id.clone(), other.prompt_id.clone()));
    assert_eq!(phone.send(&url, &keys).await, not_found, "another prompt's call has another name");
    phone.lies.address = Some((prompt.prompt_id.clone(), "nothing".into()));
    assert_eq!(phone.send(&url, &keys).await, not_found);
    phone.lies.address = Some(("/1/1/".into(), "/2/1/".into()));
    assert!(phone.send(&url, &keys).await.1.contains("<Hangup/>"), "a try that is not on");
    phone.lies.address = Some(("/keys".into(), "/approve".into()));
    assert_eq!(phone.send(&url, &keys).await, not_found);
    assert_eq!((stage.outcome(&prompt), stage.outcome(&other)), (String::new(), String::new()));
    // The portal says where it was called; a signature for another address is none.
    phone.lies.address = None;
    let callback = phone.callback(&url, &keys);
    let elsewhere =
        CallbackRequest { headers: callback.headers, body: callback.body.into_bytes(), ..Default::default() };
    let reply = call_back(&stage.node, "calls", &url.replace("mfa.", "evil."), elsewhere).await;
    assert_eq!(reply.status, 404);
    phone.press("#").await;
    assert_eq!(stage.outcome(&prompt), "approved");
}

#[tokio::test]
async fn nobody_approves_a_login_that_is_over() {
    // V-21: withdrawn while it rang, or too late
    let stage = stage().await;
    let (prompt, mut phone) = stage.ring(Ann::default()).await;
    stage.world.store.end(&prompt.prompt_id, "withdrawn");
    phone.answer("human").await;
    assert!(phone.last().contains("Nobody is waiting") && phone.is_over(), "{:?}", phone.heard);
    assert_eq!(stage.outcome(&prompt), "withdrawn");
    let (prompt, mut phone) = stage.ring(Ann::default()).await;
    phone.answer("human").await;
    stage.world.clock.advance(111_000);
    phone.press("#").await;
    assert!(phone.last().contains("Nobody is waiting"), "{:?}", phone.heard);
    assert_eq!(stage.outcome(&prompt), "");
}

#[tokio::test]
async fn a_store_that_is_away_approves_nobody_and_an_answer_that_was_lost_arrives_with_its_copy() {
    // V-40
    let stage = stage().await;
    let (prompt, mut phone) = stage.ring(Ann::default()).await;
    phone.answer("human").await;
    stage.world.store.lock().broken = vec!["resolve_prompt"];
    let url = format!("{PORTAL}/callback/calls/call/{}/1/1/keys", prompt.prompt_id);
    let callback = phone.callback(&url, &[("CallStatus", "in-progress"), ("Digits", "#")]);
    let request = |callback: &lab::phones::twiml::Callback| {
        tonic::Request::new(CallbackRequest {
            provider: "calls".into(),
            path: url.strip_prefix(&format!("{PORTAL}/callback/calls/")).expect("ours").into(),
            method: "POST".into(),
            url: url.clone(),
            headers: callback.headers.clone(),
            body: callback.body.clone().into_bytes(),
            ..CallbackRequest::default()
        })
    };
    use proto::verification::callback_server::Callback;
    assert!(stage.node.receive(request(&callback)).await.is_err());
    assert_eq!(stage.outcome(&prompt), "");
    stage.world.store.lock().broken.clear();
    let reply = stage.node.receive(request(&callback)).await.expect("answered").into_inner();
    assert!(String::from_utf8_lossy(&reply.body).contains("is confirmed"));
    assert_eq!(stage.outcome(&prompt), "approved");
}

#[tokio::test]
async fn the_next_vendor_rings_where_one_does_not_and_nobody_rings_twice() {
    // FN-07, V-25
    for mood in [Mood::Refuse(503), Mood::Refuse(400), Mood::Drop, Mood::Silent, Mood::Delay(5_000), Mood::Lie] {
        let first = TwimlVendor::start(ACCOUNT, SECRET).await.expect("a vendor");
        let second = TwimlVendor::start(ACCOUNT, SECRET).await.expect("a vendor");
        first.set_mood(mood);
        let providers = json!([provider("one", &first.base_url), provider("two", &second.base_url)]);
        let secrets = [("provider.one.secret", SECRET), ("provider.two.secret", SECRET)];
        let world = World::new(json!({ "verification": { "country": "DE" }, "provider": providers }), &secrets);
        let node = world.node().await;
        let prompt = world.prompt("call");
        assert_eq!(call(&node, &prompt, Ann::default()).await.expect("taken").provider, "two", "{mood:?}");
        // A second node that joins the login rings nobody.
        let joined = world.store.read(&prompt.prompt_id);
        let other = world.node().await;
        assert_eq!(call(&other, &joined, Ann::default()).await.expect("taken").provider, "two");
        assert_eq!(call(&other, &prompt, Ann::default()).await.expect("taken").provider, "two");
        let mut phone = second.next_call(deliver(&other, "two")).await;
        assert!(second.is_quiet().await);
        phone.answer("human").await;
        phone.press("#").await;
        assert_eq!(world.store.read(&prompt.prompt_id).outcome, "approved", "{mood:?}");
        let states: Vec<_> = world.store.lock().notes.iter().map(|note| note.state.clone()).collect();
        assert_eq!(states, ["failed", "accepted"]);
    }
}

#[tokio::test]
async fn a_call_that_has_begun_is_placed_though_its_caller_has_left() {
    // whoever goes on with the prompt finds the call begun, and rings nobody
    let first = TwimlVendor::start(ACCOUNT, SECRET).await.expect("a vendor");
    let second = TwimlVendor::start(ACCOUNT, SECRET).await.expect("a vendor");
    first.set_mood(Mood::Silent);
    let providers = json!([provider("one", &first.base_url), provider("two", &second.base_url)]);
    let secrets = [("provider.one.secret", SECRET), ("provider.two.secret", SECRET)];
    let world = World::new(json!({ "verification": { "country": "DE" }, "provider": providers }), &secrets);
    let node = world.node().await;
    let prompt = world.prompt("call");
    let caller = tokio::spawn({
        let (node, prompt) = (node.clone(), prompt.clone());
        async move { call(&node, &prompt, Ann::default()).await }
    });
    while world.store.read(&prompt.prompt_id).state_json.is_empty() {
        tokio::task::yield_now().await;
    }
    caller.abort();
    let mut phone = second.next_call(deliver(&node, "two")).await;
    phone.answer("human").await;
    phone.press("#").await;
    assert_eq!(world.store.read(&prompt.prompt_id).outcome, "approved");
}

#[tokio::test]
async fn without_a_vendor_that_takes_it_nobody_is_rung_and_it_says_why() {
    // V-25
    let world = World::new(json!({ "verification": { "country": "DE" } }), &[]);
    let node = world.node().await;
    let nobody = call(&node, &world.prompt("call"), Ann::default()).await;
    assert!(matches!(nobody, Err(SendFailure::NoProvider)));
    let stage = stage().await;
    stage.vendor.set_mood(Mood::Refuse(401));
    let refused = call(&stage.node, &stage.world.prompt("call"), Ann::default()).await;
    assert_eq!(refused.expect_err("refused").reason(), domain::Reason::ProviderError);
    let prompt = stage.world.prompt("call");
    stage.world.clock.advance(111_000);
    let late = call(&stage.node, &prompt, Ann::default()).await;
    assert!(matches!(late, Err(SendFailure::TooLate)));
}

#[tokio::test]
async fn numbers_of_other_countries_and_costly_ones_are_not_called() {
    // V-18: nor are they as a backup phone
    let stage = stage_with(json!({ "voice": { "backup_phone": true } })).await;
    let language = domain::Language::english();
    for (to, backup, taken) in
        [("+442079460123", None, false), ("+499001234567", None, false), ("+4930901820", Some("+499001234567"), true)]
    {
        let (to, backup) = (super::number(to), backup.map(super::number));
        let callee = verification::Callee {
            to: &to,
            extension: "",
            backup: backup.as_ref().map(|to| verification::BackupPhone { to, extension: "" }),
            language: &language,
            pin: false,
            new_pin: false,
            activation: false,
        };
        let prompt = stage.world.prompt("call");
        let called = stage.node.carriers().call(&prompt, callee).await;
        assert_eq!(called.is_ok(), taken, "{to}");
        if taken {
            stage.phone().await.status("busy").await;
            assert_eq!(stage.outcome(&prompt), "busy");
        } else {
            assert!(matches!(called, Err(SendFailure::NotAllowed { .. })));
        }
        assert!(stage.vendor.is_quiet().await);
    }
}

#[tokio::test]
async fn own_words_and_recordings_are_heard_in_the_place_of_the_shipped_ones() {
    // FN-09, FN-10
    let text = |key: &str, text: &str| json!({ "key": key, "language": "en", "text": text });
    let recording = "https://media.example.com/thanks.wav";
    let texts = json!([text("voice-greeting", "{ $company } & { $application }?"), text("voice-success", recording)]);
    let stage = stage_with(json!({ "text": texts })).await;
    let (_, mut phone) = stage.ring(Ann::default()).await;
    phone.answer("human").await;
    assert_eq!(phone.heard[0], "Twinlock & VPN?");
    phone.press("#").await;
    assert_eq!(phone.last(), format!("<{recording}>"));
}

#[tokio::test]
async fn an_administrator_hears_that_calls_work() {
    // A provider is tried without a user
    let stage = stage().await;
    let request = |to: &str, provider: &str| TestProviderRequest {
        channel: "voice".into(),
        to: to.into(),
        provider: provider.into(),
        actor: "admin:uid=0".into(),
        ..TestProviderRequest::default()
    };
    let tried = |message| async {
        stage.node.test_provider(tonic::Request::new(message)).await.expect("answered").into_inner()
    };
    let reply = tried(request("+4930901820", "")).await;
    assert_eq!((reply.accepted, reply.provider.as_str()), (true, "calls"));
    let phone = stage.phone().await;
    assert!(phone.order["Twiml"].contains("test call by Twinlock"), "{:?}", phone.order.get("Twiml"));
    assert!(!reply.steps.iter().any(|step| step.what.contains("901820")));
    let elsewhere = [request("901820x", ""), request("+442079460123", ""), request("+4930901820", "nobody")];
    for refused in elsewhere {
        let reply = tried(refused).await;
        assert!(!reply.accepted && !reply.steps.is_empty());
    }
    assert!(stage.vendor.is_quiet().await);
}
