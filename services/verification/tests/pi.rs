//! Phones that speak the protocol of the privacyIDEA Authenticator: an app that is as strict as the real one, against the service. Every
//! signature is made and checked by two implementations.

mod prompts;

use data_encoding::BASE64;
use domain::Secret;
use lab::phones::pi::{Phone, Request, Shown};
use prompts::{NOW, USER, World};
use proto::user_store::{Prompt, PushDevice};
use proto::verification::enrolment_server::Enrolment;
use proto::verification::phone_server::Phone as _;
use proto::verification::{DeviceStateRequest, PiReply, PiRequest, StartDeviceRequest};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use verification::{SendFailure, Service};

/// [`NOW`] as a phone writes it.
const TIME: &str = "2026-09-21T14:13:20.000000Z";

struct Stage {
    world: World,
    node: Arc<Service>,
    vectors: Value,
}

async fn stage_with(settings: Value) -> Stage {
    let world = World::new(settings, &[]);
    let vectors: Value =
        serde_json::from_str(include_str!("../../../tests/vectors/pipush.json")).expect("the vectors are JSON");
    let node = world.node().await;
    let stage = Stage { world, node, vectors };
    stage.give_keys(&stage.node);
    stage
}

async fn stage() -> Stage {
    stage_with(json!({ "portal": { "company": "Corp" } })).await
}

impl Stage {
    /// Making keys takes long: the golden one serves for every token.
    fn give_keys(&self, node: &Service) {
        let pem = self.vectors["server_key_pkcs8_pem"].as_str().expect("a key");
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64.decode(base64.as_bytes()).expect("Base64");
        for _ in 0..8 {
            node.keep_token_key(Secret::new(der.clone()));
        }
    }

    /// An administrator or the person starts it; the phone scans.
    async fn scan(&self) -> (String, Phone) {
        let start = StartDeviceRequest { user_id: USER.into(), kind: "pi".into(), actor: "self".into() };
        let reply = self.node.start_device(tonic::Request::new(start)).await.expect("answered").into_inner();
        assert_eq!(reply.reason, "");
        assert_eq!(reply.expires_unix_ms, self.world.clock.now_ms() + 600_000);
        let uri: Secret = reply.uri.expect("a QR code").into();
        let key = self.vectors["phone_key_pkcs8_pem"].as_str().expect("a key");
        (reply.device_id, Phone::scan(uri.expose_str().expect("text"), key))
    }

    /// An enrolled and proven token.
    async fn phone(&self) -> (PushDevice, Phone) {
        let (device_id, mut phone) = self.scan().await;
        phone.enrolled(&self.said(&phone.enrol()).await);
        self.world.store.lock().devices.iter_mut().for_each(|(_, device)| device.state = "active".into());
        (self.device(&device_id), phone)
    }

    fn device(&self, device_id: &str) -> PushDevice {
        let state = self.world.store.lock();
        state.devices.iter().find(|(_, device)| device.device_id == device_id).expect("a device").1.clone()
    }

    async fn send(&self, request: &Request) -> PiReply {
        let request = PiRequest {
            method: request.method.into(),
            fields: request.fields.clone().into_iter().collect(),
            address: "203.0.113.9".into(),
        };
        self.node.pi(tonic::Request::new(request)).await.expect("answered").into_inner()
    }

    /// The reply to a request that is taken.
    async fn said(&self, request: &Request) -> Value {
        let reply = self.send(request).await;
        assert_eq!(reply.status, 200, "{}", reply.json);
        serde_json::from_str(&reply.json).expect("JSON")
    }

    async fn value(&self, request: &Request) -> bool {
        self.said(request).await["result"]["value"].as_bool().expect("a JSON boolean")
    }

    /// A login that asks these phones; what the first one shows.
    async fn ask(&self, prompt: Prompt, device: &PushDevice, phone: &mut Phone) -> (Prompt, Shown) {
        let accepted = self.node.carriers().push(&prompt, std::slice::from_ref(device)).await.expect("offered");
        assert_eq!(accepted.provider, "pi_push");
        let shown = self.look(phone).await;
        assert_eq!(shown.len(), 1);
        (prompt, shown.into_iter().next().expect("one"))
    }

    /// What the phone shows that is new, a while after it last looked.
    async fn look(&self, phone: &mut Phone) -> Vec<Shown> {
        pass(Duration::from_secs(3)).await;
        let reply = self.said(&phone.poll(TIME)).await;
        phone.show(&reply)
    }

    fn number(&self, prompt: Prompt, number: &str) -> Prompt {
        let mut state = self.world.store.lock();
        let kept = state.prompts.iter_mut().find(|kept| kept.prompt_id == prompt.prompt_id).expect("a prompt");
        kept.number = number.into();
        kept.clone()
    }
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// The one answer to whatever is wrong.
const REFUSED: &str = r#"{"id":1,"jsonrpc":"2.0","result":{"error":{"code":905,"message":"The request cannot be accepted."},"status":false}}"#;

#[tokio::test]
async fn a_phone_enrols_by_the_qr_code_and_counts_after_its_first_approval() {
    // FM-04, V-20
    let stage = stage().await;
    let (device_id, mut phone) = stage.scan().await;
    assert!(phone.serial.starts_with("TWLK") && phone.serial.len() == 20);
    assert_eq!(phone.url, "https://mfa.example.com/push/pi");
    assert_eq!((phone.label.as_str(), phone.issuer.as_str()), ("ann@corp.example", "Corp"));
    phone.enrolled(&stage.said(&phone.enrol()).await);
    let device = stage.device(&device_id);
    assert_eq!((device.state.as_str(), device.capabilities.as_str()), ("pending", r#"["decline_reason"]"#));
    // Asked for nothing but its own proof.
    let login = stage.node.carriers().push(&stage.world.prompt("push"), std::slice::from_ref(&device)).await;
    assert!(login.is_err());
    let mut proof = stage.world.prompt("push");
    proof.device_id.clone_from(&device_id);
    let (proof, shown) = stage.ask(proof, &device, &mut phone).await;
    assert!(shown.question.contains("this phone"), "{shown:?}");
    assert!(stage.value(&phone.accept(&shown.nonce, None)).await);
    assert_eq!(stage.world.store.read(&proof.prompt_id).outcome, "approved");
    assert_eq!(stage.device(&device_id).state, "active");
    let state = DeviceStateRequest { user_id: USER.into(), device_id };
    assert_eq!(
        stage.node.device_state(tonic::Request::new(state)).await.expect("answered").into_inner().state,
        "active"
    );
}

#[tokio::test]
async fn an_enrolment_is_for_one_phone_once_and_in_time_and_a_retry_gets_the_same_reply() {
    // V-20: people press retry
    let stage = stage().await;
    let (_, phone) = stage.scan().await;
    let first = stage.send(&phone.enrol()).await;
    assert_eq!((first.status, stage.send(&phone.enrol()).await), (200, first.clone()));
    // Another phone that scanned the same code.
    let server = stage.vectors["server_key_pkcs8_pem"].as_str().expect("a key");
    let other = "otpauth://pipush/x?url=https://x/&ttl=1&issuer=x&v=1&sslverify=1&poll_only=True";
    let credential = phone.enrol().fields["enrollment_credential"].clone();
    let other = format!("{other}&serial={}&enrollment_credential={credential}", phone.serial);
    let other = Phone::scan(&other, server);
    assert_eq!(stage.send(&other.enrol()).await.json, REFUSED);
    // Five wrong credentials void it; a right one comes too late then.
    let (_, phone) = stage.scan().await;
    for guess in 0..5 {
        let wrong = phone.enrol().with("enrollment_credential", &format!("{guess:040x}"));
        assert_eq!(stage.send(&wrong).await.json, REFUSED);
    }
    assert_eq!(stage.send(&phone.enrol()).await.json, REFUSED);
    let (_, phone) = stage.scan().await;
    stage.world.clock.advance(600_000);
    assert_eq!(stage.send(&phone.enrol()).await.json, REFUSED);
    // What is no key costs no try.
    let (_, phone) = stage.scan().await;
    for _ in 0..6 {
        assert_eq!(stage.send(&phone.enrol().with("pubkey", "MIIB")).await.json, REFUSED);
    }
    stage.world.clock.advance(-600_000);
    assert_eq!(stage.send(&phone.enrol()).await.status, 200);
}

#[tokio::test]
async fn who_may_not_enrol_gets_no_code() {
    let start = |node: Arc<Service>| async move {
        let start = StartDeviceRequest { user_id: USER.into(), kind: "pi".into(), actor: "self".into() };
        node.start_device(tonic::Request::new(start)).await.expect("answered").into_inner()
    };
    let off = stage_with(json!({ "push": { "pi": false } })).await;
    let reply = start(off.node.clone()).await;
    assert!(reply.reason == "no_usable_method" && reply.uri.is_none());
    let full = stage_with(json!({ "push": { "devices_max": 1 } })).await;
    full.phone().await;
    let reply = start(full.node.clone()).await;
    assert!(reply.reason == "no_usable_method" && reply.devices_max == 1 && reply.uri.is_none());
    // Switched off, nothing of it answers.
    let (_, phone) = stage().await.scan().await;
    assert_eq!(off.send(&phone.enrol()).await.json, REFUSED);
}

#[tokio::test]
async fn a_prompt_is_shown_once_signed_once_and_approved_once() {
    // FM-08, V-21: signed once, when it is made
    let stage = stage().await;
    let (device, mut phone) = stage.phone().await;
    let mut prompt = stage.world.prompt("push");
    prompt.place = "203.0.113.9".into();
    let mut resolved = stage.world.resolved().await;
    let (prompt, shown) = stage.ask(prompt, &device, &mut phone).await;
    assert_eq!(shown.question, "Sign in to VPN as ann@corp.example from 203.0.113.9?");
    assert_eq!((shown.title.as_str(), shown.takes_reasons, shown.choices.len()), ("Corp", true, 0));
    // The same bytes at every poll, on any node, so that the app shows it once.
    let other = stage.world.node().await;
    assert!(stage.look(&mut phone).await.is_empty());
    let polled = PiRequest {
        method: "GET".into(),
        fields: phone.poll(TIME).fields.into_iter().collect(),
        ..PiRequest::default()
    };
    let there = other.pi(tonic::Request::new(polled)).await.expect("answered").into_inner();
    let there: Value = serde_json::from_str(&there.json).expect("JSON");
    assert_eq!(there["result"]["value"][0]["nonce"], shown.nonce);
    // A login that joins, after a crash, signs nothing anew.
    let joined = stage.world.store.read(&prompt.prompt_id);
    stage.node.carriers().push(&joined, std::slice::from_ref(&device)).await.expect("offered");
    assert_eq!(stage.world.store.read(&prompt.prompt_id).state_json, joined.state_json);
    let accept = phone.accept(&shown.nonce, None);
    let first = stage.send(&accept).await;
    assert_eq!(first.json, r#"{"detail":{},"id":1,"jsonrpc":"2.0","result":{"status":true,"value":true}}"#);
    let after = stage.world.store.read(&prompt.prompt_id);
    assert_eq!((after.outcome.as_str(), after.assurance.as_str()), ("approved", "approve_only"));
    let told = resolved.next().await.expect("told");
    assert_eq!(told.subject, proto::subjects::challenge_resolved(&prompt.prompt_id));
    // "The app repeats an answer once after a lost connection": same reply, no second effect.
    assert_eq!(stage.send(&accept).await, first);
    // A different second one is refused, and recorded.
    assert!(!stage.value(&phone.decline(&shown.nonce, None)).await);
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "approved");
    let event = stage.world.store.lock().events.pop().expect("an event");
    assert_eq!((event.kind.as_str(), event.reason.as_str()), ("phone.refused", "challenge_gone"));
    // Over is not shown.
    assert!(stage.look(&mut phone).await.is_empty());
}

#[tokio::test]
async fn a_refusal_says_by_its_reason_what_it_is() {
    // FV-26: unknown_trigger = not me, cancelled = me, anything else = no
    let stage = stage().await;
    let (device, mut phone) = stage.phone().await;
    for (reason, outcome, blocked) in [
        (None, "denied", false),
        (Some("something_new"), "denied", false),
        (Some("cancelled"), "cancelled", false),
        (Some("unknown_trigger"), "fraud", true),
    ] {
        let (prompt, shown) = stage.ask(stage.world.prompt("push"), &device, &mut phone).await;
        assert!(stage.value(&phone.decline(&shown.nonce, reason)).await);
        let after = stage.world.store.read(&prompt.prompt_id);
        assert_eq!((after.outcome.as_str(), after.assurance.as_str()), (outcome, ""));
        assert_eq!(stage.world.store.lock().blocked_until.is_some(), blocked, "{reason:?}");
        assert!(stage.value(&phone.decline(&shown.nonce, reason)).await, "repeated");
    }
    assert_eq!(stage.world.store.lock().blocked_until, Some(NOW + 90 * 86_400_000));
}

#[tokio::test]
async fn the_number_of_the_other_screen_approves_and_another_one_ends_the_attempt() {
    // V-22, B-84
    let stage = stage().await;
    let (device, mut phone) = stage.phone().await;
    let prompt = stage.number(stage.world.prompt("push"), "42");
    let (prompt, shown) = stage.ask(prompt, &device, &mut phone).await;
    assert!(shown.choices.len() >= 5 && shown.choices.contains(&"42".to_owned()), "{:?}", shown.choices);
    // Without a number nothing is approved, and nothing over.
    assert!(!stage.value(&phone.accept(&shown.nonce, None)).await);
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "");
    assert!(stage.value(&phone.accept(&shown.nonce, Some("42"))).await);
    let after = stage.world.store.read(&prompt.prompt_id);
    assert_eq!((after.outcome.as_str(), after.assurance.as_str()), ("approved", "number_matched"));

    let prompt = stage.number(stage.world.prompt("push"), "42");
    let (prompt, shown) = stage.ask(prompt, &device, &mut phone).await;
    let wrong = shown.choices.iter().find(|choice| *choice != "42").expect("another").clone();
    // A number changed after it was signed is no answer at all.
    let forged = phone.accept(&shown.nonce, Some(&wrong)).with("presence_answer", "42");
    assert_eq!(stage.send(&forged).await.json, REFUSED);
    assert!(!stage.value(&phone.accept(&shown.nonce, Some(&wrong))).await);
    let after = stage.world.store.read(&prompt.prompt_id);
    assert_eq!((after.outcome.as_str(), after.assurance.as_str()), ("wrong_number", ""));
    assert!(!stage.value(&phone.accept(&shown.nonce, Some(&wrong))).await, "the same reply");
    assert!(!stage.value(&phone.accept(&shown.nonce, Some("42"))).await, "no second try");
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "wrong_number");
}

#[tokio::test]
async fn what_is_unsigned_forged_late_or_of_another_token_resolves_nothing() {
    // V-21, B-84: replayed signature, other transaction, unsigned deny, approve after timeout
    let stage = stage().await;
    let (device, mut phone) = stage.phone().await;
    let (other_device, other) = stage.phone().await;
    let (prompt, shown) = stage.ask(stage.world.prompt("push"), &device, &mut phone).await;
    let accept = phone.accept(&shown.nonce, None);
    for forged in [
        accept.with("signature", &phone.decline(&shown.nonce, None).fields["signature"]),
        accept.with("signature", "AAAAAAAA"),
        accept.with("decline", "1"),
        accept.with("serial", &other.serial),
        accept.with("serial", "TWLK0000000000000000"),
        accept.with("presence_answer", "42"),
        phone.decline(&shown.nonce, None).with("decline_reason", "unknown_trigger"),
    ] {
        let reply = stage.send(&forged).await;
        assert_eq!((reply.status, reply.json.as_str()), (400, REFUSED), "{forged:?}");
    }
    // Signed, but the challenge was another token's, or nobody's.
    assert!(!stage.value(&other.accept(&shown.nonce, None)).await);
    assert!(!stage.value(&phone.accept("AAAAAAAA", None)).await);
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "");
    // Of a prompt that other phone was asked too, each has its own nonce, and the first answer counts (FM-05).
    let both = [stage.device(&device.device_id), stage.device(&other_device.device_id)];
    let prompt = stage.world.prompt("push");
    stage.node.carriers().push(&prompt, &both).await.expect("offered");
    let (mut other, mine) = (other, stage.look(&mut phone).await.pop().expect("shown"));
    let theirs = stage.look(&mut other).await.pop().expect("shown");
    assert_ne!(mine.nonce, theirs.nonce);
    assert!(stage.value(&other.decline(&theirs.nonce, None)).await);
    assert!(!stage.value(&phone.accept(&mine.nonce, None)).await);
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "denied");
    // Too late.
    let (prompt, shown) = stage.ask(stage.world.prompt("push"), &device, &mut phone).await;
    stage.world.clock.advance(110_000);
    assert!(!stage.value(&phone.accept(&shown.nonce, None)).await);
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "");
}

#[tokio::test]
async fn a_poll_is_signed_of_now_and_not_too_often() {
    let stage = stage().await;
    let (_, phone) = stage.phone().await;
    for (timestamp, status) in [
        ("2026-09-21T14:12:20.000Z", 200),
        ("2026-09-21T14:14:20.000000Z", 200),
        ("2026-09-21T14:12:19.999Z", 400),
        ("2026-09-21T14:14:20.001Z", 400),
        ("yesterday", 400),
    ] {
        pass(Duration::from_secs(3)).await;
        assert_eq!(stage.send(&phone.poll(timestamp)).await.status, status, "{timestamp}");
    }
    pass(Duration::from_secs(30)).await;
    let poll = phone.poll(TIME);
    let forged = poll.with("timestamp", "2026-09-21T14:13:21.000000Z");
    assert_eq!(stage.send(&forged).await.json, REFUSED);
    // One that nobody has looks the same.
    let unknown = poll.with("serial", "TWLK0000000000000000");
    assert_eq!(stage.send(&unknown).await.json, REFUSED);
    pass(Duration::from_secs(30)).await;
    let statuses = [stage.send(&poll).await.status, stage.send(&poll).await.status, stage.send(&poll).await.status];
    assert_eq!(statuses, [200, 200, 429]);
    pass(Duration::from_secs(3)).await;
    assert_eq!(stage.send(&poll).await.status, 200);
}

#[tokio::test]
async fn an_empty_request_of_a_phone_that_wakes_its_network_is_answered_at_once() {
    // iOS. The store is not asked: it is away.
    let stage = stage().await;
    stage.world.store.lock().broken = vec!["get_device", "find_activation", "user_prompts"];
    let empty = Request { method: "POST", fields: [].into() };
    let reply = stage.send(&empty).await;
    assert_eq!((reply.status, reply.json.as_str()), (400, REFUSED));
}

#[tokio::test]
async fn a_new_token_of_a_push_service_is_heard_within_five_minutes() {
    // Apps that poll send it too
    let stage = stage().await;
    let (_, phone) = stage.phone().await;
    for token in ["no_firebase_token", "a:new|token"] {
        assert!(stage.value(&phone.change_token(token, "2026-09-21T14:08:20.000000Z")).await);
    }
    let late = phone.change_token("no_firebase_token", "2026-09-21T14:08:19.000000Z");
    assert_eq!(stage.send(&late).await.json, REFUSED);
    let forged = phone.change_token("one", TIME).with("new_fb_token", "two");
    assert_eq!(stage.send(&forged).await.json, REFUSED);
}

#[tokio::test]
async fn what_this_app_cannot_ask_for_is_not_offered_to_it() {
    // FV-20: a PIN of ours; and push switched off
    let stage = stage().await;
    let (device, phone) = stage.phone().await;
    let mut prompt = stage.world.prompt("push");
    prompt.pin_asked = true;
    let refused = stage.node.carriers().push(&prompt, std::slice::from_ref(&device)).await;
    assert!(matches!(refused, Err(SendFailure::Refused { reason: domain::Reason::Unreachable, .. })));
    assert_eq!(stage.world.store.read(&prompt.prompt_id).state_json, "");
    // Nor is such a prompt approved by it, however it came to know a nonce.
    let prompt = stage.world.prompt("push");
    stage.node.carriers().push(&prompt, std::slice::from_ref(&device)).await.expect("offered");
    stage.world.store.lock().prompts.iter_mut().for_each(|kept| kept.pin_asked = true);
    let state: Value = serde_json::from_str(&stage.world.store.read(&prompt.prompt_id).state_json).expect("JSON");
    let nonce = state["pi"][&device.device_id]["nonce"].as_str().expect("a nonce").to_owned();
    assert!(!stage.value(&phone.accept(&nonce, None)).await);
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "");
}

#[tokio::test]
async fn what_the_app_can_is_kept_and_that_it_was_seen() {
    // FM-06: capabilities are stored, never a reason to fail
    let stage = stage().await;
    let (device, phone) = stage.phone().await;
    stage.world.clock.advance(60_000);
    let poll = phone.poll("2026-09-21T14:14:20.000Z");
    assert_eq!(stage.send(&poll.with("capabilities", "not JSON")).await.status, 200);
    let seen = stage.device(&device.device_id);
    assert_eq!((seen.last_seen_unix_ms, seen.capabilities.as_str()), (NOW + 60_000, r#"["decline_reason"]"#));
    let more = r#"["decline_reason","more"]"#;
    assert_eq!(stage.send(&poll.with("capabilities", more)).await.status, 200);
    assert_eq!(stage.device(&device.device_id).capabilities, more);
}

#[tokio::test]
async fn nothing_a_phone_sends_is_worth_a_panic() {
    // V-74: every field cut, doubled, emptied and replaced
    let stage = stage().await;
    let (device, mut phone) = stage.phone().await;
    let (prompt, shown) = stage.ask(stage.world.prompt("push"), &device, &mut phone).await;
    let good = [phone.accept(&shown.nonce, Some("42")), phone.poll(TIME), phone.change_token("t", TIME), phone.enrol()];
    for request in &good {
        // Of these nothing depends on what they say.
        for name in request.fields.keys().filter(|name| !matches!(name.as_str(), "fbtoken" | "capabilities")) {
            let value = &request.fields[name];
            let long = value.repeat(2_000);
            for changed in ["", "|", "\u{0}", "ÄÖÜ", "=", &value[..value.len() / 2], long.as_str(), &value[1..]] {
                let reply = stage.send(&request.with(name, changed)).await;
                let read: Value = serde_json::from_str(&reply.json).expect("JSON");
                let refused = reply.status != 200 || read["result"]["value"] != true;
                assert!(refused, "{name} {changed}");
            }
        }
    }
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "");
}
