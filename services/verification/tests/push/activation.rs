//! A phone becomes a device (V-20, FM-04).

use crate::phone::{WebPhone, asked, code_of, secret, settings, start_device};
use crate::prompts::{NOW, PORTAL, USER, World};
use proto::user_store::{LoginUser, Pin};
use proto::verification::enrolment_server::Enrolment;
use proto::verification::phone_server::Phone;
use proto::verification::{BeginActivationRequest, ConfirmDeviceCodeRequest, DeviceStateRequest, TryMethodRequest};
use tonic::Request;
use verification::Service;

async fn state(node: &Service, user_id: &str, device_id: &str) -> String {
    let request = DeviceStateRequest { user_id: user_id.into(), device_id: device_id.into() };
    node.device_state(Request::new(request)).await.expect("answered").into_inner().state
}

#[tokio::test]
async fn a_phone_is_connected_by_a_code_and_counts_after_one_approval() {
    // V-20, FM-04
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let started = start_device(&node).await;
    let (code, device) = (code_of(&started), started.device_id.clone());
    assert_eq!(code.len(), 26, "128 bits in Base32");
    // Behind the #, which no browser sends to anybody.
    assert_eq!(started.uri.expect("an address").value, format!("{PORTAL}/phone#{code}").into_bytes());
    assert_eq!(started.expires_unix_ms, NOW + 600_000);
    assert_eq!(state(&node, USER, &device).await, "open");
    assert_eq!(state(&node, "id-of-bob", &device).await, "void", "nobody hears of others' devices");

    let mut phone = WebPhone::new(1);
    assert_eq!(phone.activate(&node, &code.to_lowercase()).await, "");
    assert_eq!(phone.device_id, device);
    assert_eq!(state(&node, USER, &device).await, "redeemed");
    // It sees the prompt that is to prove it, and no login's.
    let open = phone.look(&node).await.expect("its own");
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].application.as_str(), open[0].place.as_str()), ("Example", "203.0.113.9"));
    world.store.end(&open[0].prompt_id, "expired");
    let login = world.prompt("push");
    assert!(phone.look(&node).await.expect("its own").is_empty());
    let mut shown = open[0].clone();
    shown.prompt_id = login.prompt_id;
    assert_eq!(phone.decide(&node, &shown, "approve", "").await, "challenge_gone");
    assert_eq!(state(&node, USER, &device).await, "redeemed");
    world.store.end(&shown.prompt_id, "expired");

    let phone = WebPhone::new(2).connected(&world, &node).await;
    assert_eq!(state(&node, USER, &phone.device_id).await, "active");
}

#[tokio::test]
async fn a_code_works_once_in_time_and_the_same_phone_may_say_it_again() {
    // V-20: the answer of the first request was lost
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let code = code_of(&start_device(&node).await);
    let begin = BeginActivationRequest { code: Some(secret(&code)), address: String::new() };
    let begun = node.begin_activation(Request::new(begin)).await.expect("answered").into_inner();
    assert_eq!((begun.account.as_str(), begun.company.as_str()), ("ann@corp.example", "Example"));
    let mut phone = WebPhone::new(1);
    phone.device_id = begun.device_id;
    let finish = phone.finish(&code, &begun.passkey_json);
    for _ in 0..2 {
        let reply = node.finish_activation(Request::new(finish.clone())).await.expect("answered").into_inner();
        assert_eq!(reply.reason, "");
    }
    assert_eq!(world.store.lock().devices.len(), 1);
    let mut other = WebPhone::new(2);
    other.device_id.clone_from(&phone.device_id);
    let stolen = other.finish(&code, &begun.passkey_json);
    let reply = node.finish_activation(Request::new(stolen)).await.expect("answered").into_inner();
    assert_eq!(reply.reason, "challenge_gone");
    assert_eq!(other.activate(&node, &code).await, "challenge_gone");

    let late = code_of(&start_device(&node).await);
    world.clock.advance(601_000);
    assert_eq!(WebPhone::new(3).activate(&node, &late).await, "challenge_gone");
    for wrong in ["", "AAAAAAAAAAAAAAAAAAAAAAAAAA", "nonsense", &code[..25]] {
        assert_eq!(WebPhone::new(3).activate(&node, wrong).await, "challenge_gone", "{wrong}");
    }
}

#[tokio::test]
async fn a_passkey_of_another_ceremony_or_a_missing_one_where_it_is_needed_connects_nothing() {
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let (first, second) = (code_of(&start_device(&node).await), code_of(&start_device(&node).await));
    let begin = |code: &str| BeginActivationRequest { code: Some(secret(code)), address: String::new() };
    let of_first = node.begin_activation(Request::new(begin(&first))).await.expect("answered").into_inner();
    let of_second = node.begin_activation(Request::new(begin(&second))).await.expect("answered").into_inner();
    let mut phone = WebPhone::new(1);
    phone.device_id = of_second.device_id;
    let mixed = phone.finish(&second, &of_first.passkey_json);
    let reply = node.finish_activation(Request::new(mixed)).await.expect("answered").into_inner();
    assert_eq!(reply.reason, "challenge_gone");

    world.store.change_settings(|settings| settings.push.without_passkey = false);
    let node = world.node().await;
    let mut bare = WebPhone::without_passkey(2);
    assert_eq!(bare.activate(&node, &second).await, "no_usable_method");
    assert!(world.store.lock().devices.is_empty());
}

#[tokio::test]
async fn who_has_as_many_phones_as_allowed_or_is_blocked_gets_no_code() {
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    world.store.change_settings(|settings| settings.push.devices_max = 1);
    let node_now = world.node().await;
    WebPhone::new(1).connected(&world, &node).await;
    let refused = start_device(&node_now).await;
    assert_eq!(
        (refused.reason.as_str(), refused.devices_max),
        ("no_usable_method", 1),
        "the screen can say which it is"
    );
    world.store.change_settings(|settings| settings.push.web = false);
    let refused = start_device(&*world.node().await).await;
    assert_eq!((refused.reason.as_str(), refused.devices_max), ("no_usable_method", 0));
}

#[tokio::test]
async fn the_page_hears_whether_a_pin_will_be_asked_and_the_language_of_the_user() {
    // FM-04, FV-05
    let told = async |settings: serde_json::Value, record: LoginUser| {
        let world = World::new(settings, &[]);
        world.store.lock().record = record;
        let node = world.node().await;
        let begin =
            BeginActivationRequest { code: Some(secret(&code_of(&start_device(&node).await))), address: String::new() };
        let begun = node.begin_activation(Request::new(begin)).await.expect("answered").into_inner();
        assert_eq!(begun.reason, "");
        (begun.pin, begun.language)
    };
    let with = |client: serde_json::Value, policy: serde_json::Value| {
        let mut settings = settings();
        settings["client"] = client;
        settings["policy"] = policy;
        settings["verification"] = serde_json::json!({ "language": "de" });
        settings
    };
    let client = |pin: bool| {
        serde_json::json!([{
            "name": "vpn", "protocol": "radius", "sources": ["192.0.2.1/32"], "target": "acme", "pin": pin,
            "groups": ["cn=staff,dc=corp"],
        }])
    };
    let rule =
        serde_json::json!([{ "name": "night", "when": { "groups": ["cn=staff,dc=corp"] }, "then": { "pin": true } }]);
    let none = serde_json::json!([]);
    let staff =
        LoginUser { groups: vec!["CN=Staff, DC=corp".into()], language_app: "fr".into(), ..LoginUser::default() };
    let required = LoginUser { pin: Some(Pin { required: true, ..Pin::default() }), ..LoginUser::default() };
    let nobody = LoginUser::default();
    assert_eq!(told(with(client(false), none.clone()), nobody.clone()).await, (false, "de".into()));
    assert_eq!(told(with(client(true), none.clone()), staff.clone()).await, (true, "fr".into()));
    assert_eq!(told(with(client(true), none.clone()), nobody.clone()).await, (false, "de".into()), "not in the group");
    assert_eq!(told(with(client(false), rule.clone()), staff).await, (true, "fr".into()));
    assert_eq!(told(with(client(false), rule), nobody).await, (false, "de".into()));
    assert_eq!(told(with(client(false), none), required).await, (true, "de".into()));
}

#[tokio::test]
async fn the_first_approval_brings_a_seed_and_one_code_of_it_makes_it_count() {
    // FM-04
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::new(1);
    assert_eq!(phone.activate(&node, &code_of(&start_device(&node).await)).await, "");
    let shown = phone.look(&node).await.expect("its own").remove(0);
    let approval = phone.answer(&shown, "approve", "");
    let taken = node.decide(Request::new(approval)).await.expect("answered").into_inner();
    let uri = String::from_utf8(taken.otpauth_uri.expect("a seed").value.clone()).expect("text");
    assert!(uri.starts_with("otpauth://totp/Example:ann"), "{uri}");
    assert!(world.store.lock().factors[0].pending);
    let confirm = async |phone: &WebPhone, factor_id: &str, code: &str| {
        let request = ConfirmDeviceCodeRequest {
            proof: phone.prove(&format!("code|{factor_id}|{code}")),
            factor_id: factor_id.into(),
            code: Some(secret(code)),
        };
        node.confirm_device_code(Request::new(request)).await.expect("answered").into_inner().reason
    };
    let factor = world.store.lock().factors[0].clone();
    let seed = domain::Secret::from(factor.seed.expect("a seed"));
    let form = domain::CodeForm::new(domain::CodeAlgorithm::Sha1, 6, 30).expect("a form");
    let code = otp::hotp(&seed, form.algorithm(), otp::step_at(form, NOW), 6);
    let code = String::from_utf8(code[..6].to_vec()).expect("digits");
    let wrong = if code == "000000" { "000001" } else { "000000" };
    assert_eq!(confirm(&phone, &factor.factor_id, wrong).await, "wrong_code");
    let mut stranger = WebPhone::new(2);
    stranger.device_id.clone_from(&phone.device_id);
    assert_eq!(confirm(&stranger, &factor.factor_id, &code).await, "not_enrolled");
    assert!(world.store.lock().factors[0].pending);
    assert_eq!(confirm(&phone, &factor.factor_id, &code).await, "");
    assert!(!world.store.lock().factors[0].pending);
    // A later approval brings nothing: a device key alone adds no method.
    let later = asked(&world, &node, &phone, |_| {}).await;
    let answer = phone.answer(&later, "approve", "");
    let taken = node.decide(Request::new(answer)).await.expect("answered").into_inner();
    assert!(taken.taken && taken.otpauth_uri.is_none_or(|uri| uri.value.is_empty()));
    assert_eq!(world.store.lock().factors.len(), 1);
}

#[tokio::test]
async fn who_may_not_use_codes_is_connected_without_them() {
    let world = World::new(settings(), &[]);
    world.store.lock().record = LoginUser { allowed_methods: vec!["push".into()], ..LoginUser::default() };
    let node = world.node().await;
    WebPhone::new(1).connected(&world, &node).await;
    assert!(world.store.lock().factors.is_empty());
}

#[tokio::test]
async fn who_presses_prompt_me_now_waits_for_the_prompt_that_the_phone_shows_already() {
    // FM-04, V-23: one open prompt
    let world = World::new(settings(), &[]);
    let node = world.node().await;
    let mut phone = WebPhone::new(1);
    assert_eq!(phone.activate(&node, &code_of(&start_device(&node).await)).await, "");
    let shown = phone.look(&node).await.expect("its own").remove(0);
    let tried = TryMethodRequest {
        user_id: USER.into(),
        method: "push".into(),
        device_id: phone.device_id.clone(),
        actor: "self".into(),
        to_prove: true,
    };
    // Who gives up at the desk takes nothing from the phone.
    let mut short = Request::new(tried.clone());
    short.set_timeout(std::time::Duration::from_secs(4));
    assert_eq!(node.try_method(short).await.expect("answered").into_inner().reason, "no_answer");
    let again = tried.clone();
    let (tried, ()) = tokio::join!(node.try_method(Request::new(tried)), async {
        tokio::task::yield_now().await;
        assert_eq!(phone.decide(&node, &shown, "approve", "").await, "taken");
    });
    assert_eq!(tried.expect("answered").into_inner().reason, "user_approved");
    // Nor does who looked before the phone answered, and asks after it: its prompt would be one for nothing.
    assert_eq!(node.try_method(Request::new(again)).await.expect("answered").into_inner().reason, "user_approved");
    assert_eq!(world.store.lock().prompts.len(), 1, "nobody is asked twice");
    assert_eq!(state(&node, USER, &phone.device_id).await, "active");
}
