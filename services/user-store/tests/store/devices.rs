//! How a phone becomes a factor, and passkeys (V-20, FM-04, FM-06).

use crate::commit::allowed;
use crate::fixture::{Enrolled, Fixture, NOON_MS};
use crate::prompts::{self, prompt_id, resolved};
use proto::common::Secret;
use proto::user_store::{
    AllowResult, AuditEvent, CommitAllowRequest, FindActivationReply, FindActivationRequest, GetDeviceRequest,
    OpenActivationRequest, Passkey, PasskeyCount, PushDevice, PutDeviceRequest, PutPasskeyRequest,
    ResolvePromptRequest, TouchDeviceRequest, commit_server::Commit,
};
use tonic::Request;

pub const SERVER_KEY: &[u8] = b"CANARY-server-key";
pub const SUBSCRIPTION: &[u8] = b"CANARY-subscription";

fn activation(who: &Enrolled, code: u8, serial: &str) -> OpenActivationRequest {
    OpenActivationRequest {
        user_id: who.user_id.clone(),
        code_hash: vec![code; 32],
        kind: if serial.is_empty() { "web".into() } else { "pi".into() },
        serial: serial.into(),
        server_key: (!serial.is_empty()).then(|| Secret { value: SERVER_KEY.to_vec() }),
        expires_unix_ms: NOON_MS + 600_000,
        devices_max: 2,
        actor: "self".into(),
        now_unix_ms: NOON_MS,
    }
}

async fn open(lab: &Fixture, request: OpenActivationRequest) -> String {
    lab.services.commit.open_activation(Request::new(request)).await.expect("the store answers").into_inner().device_id
}

async fn find(lab: &Fixture, code: u8, serial: &str, now_unix_ms: i64) -> FindActivationReply {
    let request = FindActivationRequest { code_hash: vec![code; 32], serial: serial.into(), now_unix_ms };
    lab.services.commit.find_activation(Request::new(request)).await.expect("the store answers").into_inner()
}

fn keys(who: &Enrolled, device_id: &str, code: u8, public_key: &str) -> PutDeviceRequest {
    PutDeviceRequest {
        user_id: who.user_id.clone(),
        device: Some(PushDevice {
            device_id: device_id.into(),
            name: "Pixel".into(),
            public_key: public_key.into(),
            subscription: Some(Secret { value: SUBSCRIPTION.to_vec() }),
            ..PushDevice::default()
        }),
        code_hash: vec![code; 32],
        now_unix_ms: NOON_MS,
        actor: "self".into(),
        ..PutDeviceRequest::default()
    }
}

async fn put(lab: &Fixture, request: PutDeviceRequest) -> bool {
    lab.services.commit.put_device(Request::new(request)).await.expect("the store answers").into_inner().done
}

fn touch(who: &Enrolled, device_id: &str) -> TouchDeviceRequest {
    TouchDeviceRequest {
        user_id: who.user_id.clone(),
        device_id: device_id.into(),
        now_unix_ms: NOON_MS,
        ..TouchDeviceRequest::default()
    }
}

async fn touched(lab: &Fixture, request: TouchDeviceRequest) -> bool {
    lab.services.commit.touch_device(Request::new(request)).await.expect("the store answers").into_inner().done
}

pub async fn active(lab: &Fixture, who: &Enrolled, code: u8) -> String {
    let device_id = open(lab, activation(who, code, "")).await;
    assert!(put(lab, keys(who, &device_id, code, "key")).await);
    assert!(touched(lab, TouchDeviceRequest { activate: true, ..touch(who, &device_id) }).await);
    device_id
}

pub async fn a_device_is_activated_once_by_its_code_in_time(lab: Fixture) {
    // V-20
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    lab.mails().await;
    let epoch = lab.login_user(&ann.user_id).await.epoch;
    let device_id = open(&lab, activation(&ann, 1, "")).await;
    assert!(find(&lab, 2, "", NOON_MS).await.device.is_none(), "another code");
    assert!(find(&lab, 1, "", NOON_MS + 600_000).await.device.is_none(), "too late");
    let found = find(&lab, 1, "", NOON_MS + 599_999).await;
    assert_eq!((found.user_id.as_str(), found.redeemed), (ann.user_id.as_str(), false));
    assert_eq!(lab.facts(&ann.user_id).await.devices, [], "it cannot be asked yet");
    // What the ceremony keeps between two rounds.
    let ceremony = PutDeviceRequest {
        device: Some(PushDevice { device_id: device_id.clone(), ..PushDevice::default() }),
        code_hash: Vec::new(),
        state_json: "{\"challenge\":1}".into(),
        ..keys(&ann, &device_id, 1, "")
    };
    assert!(put(&lab, ceremony).await);
    assert_eq!(find(&lab, 1, "", NOON_MS).await.state_json, "{\"challenge\":1}");
    for (name, refused) in [
        ("another user", keys(&bob, &device_id, 1, "key")),
        ("another code", keys(&ann, &device_id, 2, "key")),
        ("no key", keys(&ann, &device_id, 1, "")),
        ("too late", PutDeviceRequest { now_unix_ms: NOON_MS + 600_000, ..keys(&ann, &device_id, 1, "key") }),
    ] {
        assert!(!put(&lab, refused).await, "{name}");
    }
    assert!(put(&lab, keys(&ann, &device_id, 1, "key")).await);
    assert!(put(&lab, keys(&ann, &device_id, 1, "key")).await, "the same request again");
    assert!(!put(&lab, keys(&ann, &device_id, 1, "another key")).await, "the code is spent");
    let redeemed = find(&lab, 1, "", NOON_MS).await;
    assert_eq!((redeemed.redeemed, redeemed.device.expect("as it stands").public_key.as_str()), (true, "key"));
    assert_eq!(lab.login_user(&ann.user_id).await.epoch, epoch, "not a factor yet");
    // The first approval proves it.
    assert!(touched(&lab, TouchDeviceRequest { activate: true, ..touch(&ann, &device_id) }).await);
    assert!(touched(&lab, TouchDeviceRequest { activate: true, ..touch(&ann, &device_id) }).await, "once more");
    assert_eq!(lab.login_user(&ann.user_id).await.epoch, epoch + 1);
    assert_eq!(lab.mails().await.iter().map(|mail| mail.kind.as_str()).collect::<Vec<_>>(), ["method_added"]);
    for (kind, count) in [("device.activation", 1), ("device.added", 1), ("device.activated", 1)] {
        assert_eq!(lab.events(kind).await.len(), count, "{kind}");
    }
    let device = lab.facts(&ann.user_id).await.devices.remove(0);
    assert_eq!((device.state.as_str(), device.name.as_str()), ("active", "Pixel"));
    assert_eq!(device.subscription.expect("its endpoint").value, SUBSCRIPTION);
    // Its endpoint is gone: it polls from now on.
    assert!(touched(&lab, TouchDeviceRequest { endpoint_gone: true, ..touch(&ann, &device_id) }).await);
    assert_eq!(lab.facts(&ann.user_id).await.devices[0].subscription, None);
    assert!(!touched(&lab, touch(&bob, &device_id)).await, "not his");
    let seen = TouchDeviceRequest { now_unix_ms: NOON_MS + 60_000, ..touch(&ann, &device_id) };
    assert!(touched(&lab, seen).await);
    assert_eq!(lab.facts(&ann.user_id).await.devices[0].last_seen_unix_ms, NOON_MS + 60_000);
}

pub async fn nothing_that_was_begun_with_the_password_alone_outlives_the_first_method(lab: Fixture) {
    // V-86: whoever had only the password began with a phone, and the person was faster with an app
    let ann = lab.enrolled("ann").await;
    let begun = open(&lab, activation(&ann, 1, "")).await;
    assert!(put(&lab, keys(&ann, &begun, 1, "key")).await);
    let another = lab.add_token_of(&ann.user_id).await;
    assert!(touched(&lab, touch(&ann, &begun)).await, "{another}: a second method takes nothing away");
    lab.tamper("DELETE FROM factors").await;
    lab.add_token_of(&ann.user_id).await;
    assert!(!touched(&lab, TouchDeviceRequest { activate: true, ..touch(&ann, &begun) }).await);
    assert!(lab.facts(&ann.user_id).await.devices.is_empty());
}

pub async fn wrong_codes_for_a_serial_void_it_and_there_are_not_too_many_devices(lab: Fixture) {
    // V-20, FM-04
    let ann = lab.enrolled("ann").await;
    let device_id = open(&lab, activation(&ann, 1, "PIPU0001")).await;
    let found = find(&lab, 1, "PIPU0001", NOON_MS).await.device.expect("open");
    assert_eq!(found.server_key.expect("ours").value, SERVER_KEY);
    for number in 0..4 {
        assert!(find(&lab, 9, "PIPU0001", NOON_MS).await.device.is_none(), "{number}");
    }
    assert!(find(&lab, 1, "PIPU0001", NOON_MS).await.device.is_some(), "four wrong ones leave it open");
    assert!(find(&lab, 9, "PIPU0001", NOON_MS).await.device.is_none());
    assert!(find(&lab, 1, "PIPU0001", NOON_MS).await.device.is_none(), "the fifth voids it");
    assert!(!put(&lab, keys(&ann, &device_id, 1, "key")).await);
    // A newer activation ends the older one.
    open(&lab, activation(&ann, 2, "")).await;
    open(&lab, activation(&ann, 3, "")).await;
    assert!(find(&lab, 2, "", NOON_MS).await.device.is_none());
    for code in [4, 5] {
        active(&lab, &ann, code).await;
    }
    assert_eq!(open(&lab, activation(&ann, 6, "")).await, "", "two are allowed");
    let request = GetDeviceRequest { serial: "PIPU0001".into(), ..GetDeviceRequest::default() };
    let none = lab.services.commit.get_device(Request::new(request)).await.expect("the store answers").into_inner();
    assert_eq!(none.device, None);
    let bob = lab.enrolled("bob").await;
    let id = open(&lab, activation(&bob, 7, "PIPU0002")).await;
    let request = GetDeviceRequest { serial: "PIPU0002".into(), ..GetDeviceRequest::default() };
    let known = lab.services.commit.get_device(Request::new(request.clone())).await.expect("found").into_inner();
    assert_eq!((known.device.expect("there").device_id, known.username.as_str(), known.enabled), (id, "bob", true));
    lab.disable(&bob.user_id).await;
    let known = lab.services.commit.get_device(Request::new(request)).await.expect("found").into_inner();
    assert!(!known.enabled);
    assert!(find(&lab, 7, "PIPU0002", NOON_MS).await.device.is_none(), "who may not log in adds no device");
}

pub async fn a_passkey_counts_after_its_ceremony_and_lets_its_own_user_in(lab: Fixture) {
    // FV-08
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    let put = async |who: &Enrolled, id: &str, credential: &str, pending: bool| {
        let request = PutPasskeyRequest {
            user_id: who.user_id.clone(),
            passkey: Some(Passkey { passkey_id: id.into(), name: "Laptop".into(), credential_json: credential.into() }),
            pending,
            actor: "self".into(),
            now_unix_ms: NOON_MS,
        };
        Ok::<_, tonic::Status>(lab.services.commit.put_passkey(Request::new(request)).await?.into_inner().passkey_id)
    };
    let id = put(&ann, "", "{\"ceremony\":1}", true).await.expect("begun");
    assert_eq!(lab.facts(&ann.user_id).await.passkeys, []);
    let request = GetDeviceRequest { device_id: id.clone(), ..GetDeviceRequest::default() };
    let kept = lab.services.commit.get_device(Request::new(request)).await.expect("found").into_inner();
    assert_eq!(kept.device.expect("there").passkey_json, "{\"ceremony\":1}");
    let event = |who: &Enrolled, transaction: &str| AuditEvent {
        method: "passkey".into(),
        reason: "valid_passkey".into(),
        ..who.event(transaction)
    };
    let allow = |who: &Enrolled, transaction: &str| CommitAllowRequest {
        event: Some(event(who, transaction)),
        passkey_id: id.clone(),
        ..CommitAllowRequest::default()
    };
    assert_eq!(allowed(&lab.services.commit, allow(&ann, "t1")).await, AllowResult::Refused, "not there yet");
    assert_eq!(put(&bob, &id, "{}", false).await.expect_err("hers").code(), tonic::Code::NotFound);
    assert_eq!(put(&ann, &id, "{\"counter\":1}", false).await.expect("in force"), id);
    let epoch = lab.login_user(&ann.user_id).await.epoch;
    assert_eq!(put(&ann, &id, "{\"counter\":1}", false).await.expect("asked again"), id);
    let another = put(&ann, &id, "{\"counter\":2}", false).await.expect_err("another credential");
    assert_eq!(another.code(), tonic::Code::FailedPrecondition);
    assert_eq!(lab.facts(&ann.user_id).await.passkeys[0].credential_json, "{\"counter\":1}");
    let last_seen = "SELECT last_seen_ms FROM devices WHERE kind = 'passkey' AND state = 'active'";
    let later = AuditEvent { at_unix_ms: NOON_MS + 5_000, ..event(&ann, "t2") };
    let without_a_count = CommitAllowRequest { event: Some(later), ..allow(&ann, "t2") };
    assert_eq!(allowed(&lab.services.commit, without_a_count).await, AllowResult::Committed);
    assert_eq!(lab.number(last_seen).await, NOON_MS + 5_000, "one that counts nothing is seen all the same");
    assert_eq!(allowed(&lab.services.commit, allow(&bob, "t3")).await, AllowResult::Refused);
    // Its count goes up in the same commit, from what was read; a copy that counts the same is refused.
    let count = |before: &str, after: &str| Some(PasskeyCount { before_json: before.into(), after_json: after.into() });
    let used = |transaction: &str, before: &str, after: &str| CommitAllowRequest {
        passkey_count: count(before, after),
        ..allow(&ann, transaction)
    };
    let (one, three) = ("{\"counter\":1}", "{\"counter\":3}");
    assert_eq!(allowed(&lab.services.commit, used("t4", one, three)).await, AllowResult::Committed);
    assert_eq!(lab.facts(&ann.user_id).await.passkeys[0].credential_json, three);
    assert_eq!(allowed(&lab.services.commit, used("t5", one, three)).await, AllowResult::Refused);
    assert_eq!(lab.facts(&ann.user_id).await.passkeys[0].credential_json, three);
    assert_eq!(lab.login_user(&ann.user_id).await.epoch, epoch, "a counter is no other factor");
    // V-86: of two ceremonies the newer one counts, and none that nobody began.
    let displaced = put(&ann, "", "{\"ceremony\":2}", true).await.expect("begun");
    put(&ann, "", "{\"ceremony\":3}", true).await.expect("begun");
    for nowhere in [displaced.as_str(), "018f0000-0000-7000-8000-000000000001"] {
        let refused = put(&ann, nowhere, "{\"counter\":1}", false).await.expect_err("nobody waits for it");
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{nowhere}");
    }
    assert_eq!(lab.events("passkey.added").await.len(), 1);
}

pub async fn a_phones_passkey_counts_in_the_commit_of_its_answer(lab: Fixture) {
    // V-21
    let ann = lab.enrolled("ann").await;
    let device_id = active(&lab, &ann, 1).await;
    let with = |json: &str, code: u8| PutDeviceRequest {
        device: Some(PushDevice { device_id: device_id.clone(), passkey_json: json.into(), ..PushDevice::default() }),
        code_hash: Vec::new(),
        ..keys(&ann, &device_id, code, "")
    };
    assert!(put(&lab, with("count 1", 1)).await);
    let id = prompt_id(&lab, &ann, "t1", NOON_MS).await;
    let answer = |before: &str, after: &str| ResolvePromptRequest {
        device_id: device_id.clone(),
        passkey_count: Some(PasskeyCount { before_json: before.into(), after_json: after.into() }),
        ..prompts::answer(&id, "approved", NOON_MS + 1_000)
    };
    let reply = resolved(&lab, answer("count 0", "count 1")).await;
    assert_eq!((reply.taken, reply.prompt.expect("as it stands").outcome.as_str()), (false, ""), "it stays open");
    assert!(resolved(&lab, answer("count 1", "count 2")).await.taken);
    assert!(resolved(&lab, answer("count 1", "count 2")).await.taken, "the same answer again");
    assert_eq!(lab.facts(&ann.user_id).await.devices[0].passkey_json, "count 2");
}
