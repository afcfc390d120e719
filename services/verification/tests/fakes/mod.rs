//! A store and a bus in memory that keep the contract, and break it on command.

mod bus;
mod carriers;
mod store;

pub use bus::FakeBus;
pub use carriers::{FakeCarriers, Mood, Person};
pub use store::{FakeStore, Fault, factor};

use domain::settings::Settings;
use domain::{CodeAlgorithm, DirectoryRef, Secret};
use proto::verification::verification_server::Verification;
use proto::verification::{
    AnswerRequest, Ask, Attempt, AwaitRequest, BeginRequest, CompleteRequest, Outcome, Primary,
    outcome::Result as Outcomes,
};
use service_kit::{Clock, Process};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request, Status};
use uuid::Uuid;
use verification::{Deps, Service};

pub const NOW: i64 = 1_790_000_000_000;
pub const SEED: &str = "12345678901234567890";

/// A store, a bus, a clock, and as many nodes over them as a test wants.
pub struct World {
    pub store: Arc<FakeStore>,
    pub bus: Arc<FakeBus>,
    pub clock: Clock,
    pub carriers: Arc<FakeCarriers>,
    process: Process,
}

impl World {
    pub fn new() -> Self {
        let (clock, store, bus) = (Clock::at(NOW), FakeStore::new(settings()), FakeBus::new());
        let carriers = FakeCarriers::new(store.clone(), bus.clone(), clock.clone());
        Self { store, bus, clock, carriers, process: Process::detached("test") }
    }

    /// A verification process that has its settings.
    pub async fn node(&self) -> Arc<Service> {
        let node = self.cold_node();
        for _ in 0..500 {
            let probe = proto::verification::AppendedFormsRequest {
                client: "vpn".into(),
                subject: Some((&subject("nobody")).into()),
                ..Default::default()
            };
            match node.appended_forms(Request::new(probe)).await {
                Ok(_) => return node,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("the node never got its settings");
    }

    pub fn cold_node(&self) -> Arc<Service> {
        let deps = Deps {
            settings: self.store.clone(),
            facts: self.store.clone(),
            commit: self.store.clone(),
            outbox: self.store.clone(),
            bus: self.bus.clone(),
            clock: self.clock.clone(),
            randomness: getrandom::fill,
        };
        Arc::new(Service::start_with(deps, Some(self.carriers.clone()), &self.process))
    }

    /// Its processes are told to stop.
    pub fn stop(&self) {
        self.process.shutdown().begin();
    }

    /// The code that ann's token shows `steps` from now.
    pub fn code(&self, steps: i64) -> String {
        let step = (self.step() as i64 + steps) as u64;
        let code = otp::hotp(&Secret::from(SEED), CodeAlgorithm::Sha1, step, 6);
        String::from_utf8(code[..6].to_vec()).expect("ASCII")
    }

    pub fn step(&self) -> u64 {
        (self.clock.now_ms() / 30_000) as u64
    }
}

fn settings() -> Settings {
    let client = |name: &str, protocol: &str, more: serde_json::Value| {
        let mut client = serde_json::json!({ "name": name, "protocol": protocol, "target": "corp" });
        client.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        client
    };
    let wait = serde_json::json!({ "number_matching": "no" });
    let kept = |kind: &str| serde_json::json!({ "number_matching": "no", "remember": { "kind": kind, "idle_seconds": 300, "life_seconds": 3600 } });
    let document = serde_json::json!({
        "verification": { "country": "DE" },
        "provider": [
            { "name": "texts", "channel": "sms", "adapter": { "kind": "http", "preset": "twilio" } },
            { "name": "calls", "channel": "voice",
              "adapter": { "kind": "twiml", "base_url": "https://voice.example", "account": "a", "caller": "+4930901820" } },
        ],
        "client": [
        client("vpn", "radius", serde_json::json!({})),
        client("wifi", "radius", serde_json::json!({ "challenge": "no" })),
        client("lax", "radius", serde_json::json!({ "unknown_user": "pass", "not_enrolled": "pass" })),
        client("gitlab", "ldap", serde_json::json!({
            "service_accounts": [{ "name": "cn=app", "id": subject("app").id.as_str(), "sources": ["10.0.7.0/24"] }],
        })),
        client("laxldap", "ldap", serde_json::json!({ "unknown_user": "pass", "not_enrolled": "pass" })),
        client("nothing", "radius", serde_json::json!({ "methods": [] })),
        client("waits", "radius", wait.clone()),
        client("waitsldap", "ldap", wait),
        client("back", "radius", serde_json::json!({ "number_matching": "no", "fallback_code": true })),
        client("pinned", "radius", serde_json::json!({ "number_matching": "no", "pin": true })),
        client("keeps", "radius", kept("user")),
        client("keepsplace", "radius", kept("user_source")),
        client("keepsall", "radius", kept("user_source_password")),
        client("home", "radius", serde_json::json!({ "trusted_networks": ["198.51.100.0/24"] })),
        client("strong", "radius", serde_json::json!({ "least_assurance": "number_matched" })),
        client("sheets", "api", serde_json::json!({})),
        client("wiki", "ldap", serde_json::json!({ "appended": "optional", "appended_keywords": true })),
    ]});
    serde_json::from_value(document).expect("valid settings")
}

/// The same name is the same entry.
pub fn subject(name: &str) -> DirectoryRef {
    let mut id = [0_u8; 16];
    for (place, octet) in name.bytes().take(16).enumerate() {
        id[place] = octet;
    }
    DirectoryRef {
        directory: "corp".parse().expect("valid"),
        id: format!("entryUUID:{}", Uuid::from_bytes(id)).parse().expect("valid"),
    }
}

/// One of a crowd of people with a phone each.
pub fn crowd_subject(number: usize) -> proto::common::DirectoryRef {
    let id = Uuid::from_u128(store::CROWD + number as u128);
    proto::common::DirectoryRef { directory: "corp".into(), object_id: format!("entryUUID:{id}") }
}

/// An attempt of a person at a RADIUS client that can challenge.
pub fn attempt(client: &str, name: &str) -> Attempt {
    Attempt {
        transaction_id: Uuid::now_v7().to_string(),
        client: client.into(),
        protocol: "radius".into(),
        subject: Some((&subject(name)).into()),
        username: format!("{name}@corp.example"),
        name_form: "bare".into(),
        client_ip: "10.0.4.3".into(),
        calling_station: "203.0.113.9".into(),
        can_challenge: true,
        ..Attempt::default()
    }
}

pub fn passed(attempt: &Attempt, code: Option<&str>) -> Request<BeginRequest> {
    begin(attempt, Primary::Passed, code)
}

pub fn pending(attempt: &Attempt, code: &str) -> Request<BeginRequest> {
    begin(attempt, Primary::Pending, Some(code))
}

fn begin(attempt: &Attempt, primary: Primary, code: Option<&str>) -> Request<BeginRequest> {
    request(BeginRequest {
        attempt: Some(attempt.clone().into()),
        primary: primary.into(),
        code: code.map(|code| Secret::from(code).into()),
        ..BeginRequest::default()
    })
}

pub fn complete(attempt: &Attempt) -> Request<CompleteRequest> {
    request(CompleteRequest { attempt: Some(attempt.clone()) })
}

pub fn answer(attempt: &Attempt, step: u32, code: &str) -> Request<AnswerRequest> {
    request(AnswerRequest {
        transaction_id: attempt.transaction_id.clone(),
        step,
        client: attempt.client.clone(),
        answer: Some(Secret::from(code).into()),
        mark: b"the same packet".to_vec(),
    })
}

/// The same answer in another packet.
pub fn replayed(attempt: &Attempt, step: u32, code: &str) -> Request<AnswerRequest> {
    request(AnswerRequest { mark: b"another packet".to_vec(), ..answer(attempt, step, code).into_inner() })
}

pub fn wanted(attempt: &Attempt, method: &str) -> Request<BeginRequest> {
    request(BeginRequest {
        attempt: Some(attempt.clone().into()),
        primary: Primary::Passed.into(),
        wanted_method: method.into(),
        ..BeginRequest::default()
    })
}

pub fn look(attempt: &Attempt, step: u32, wait_ms: u32) -> Request<AwaitRequest> {
    let (transaction_id, client) = (attempt.transaction_id.clone(), attempt.client.clone());
    request(AwaitRequest { transaction_id, step, client, wait_ms })
}

/// The question that came back.
pub fn asked(result: Result<tonic::Response<Outcome>, Status>) -> Ask {
    match result.expect("answered").into_inner().result {
        Some(Outcomes::Ask(ask)) => ask,
        other => panic!("not asked: {other:?}"),
    }
}

/// With a deadline, as every gateway sends it.
pub fn request<T>(message: T) -> Request<T> {
    service_kit::grpc::with_deadline(Request::new(message), Duration::from_secs(30))
}

/// What came back, short: `allow valid_code`, `deny wrong_code`, `ask 1`, `accepted`, `unavailable`.
pub fn said(result: Result<tonic::Response<Outcome>, Status>) -> String {
    match result.map(|response| response.into_inner().result) {
        Ok(Some(Outcomes::Allow(allow))) => format!("allow {}", allow.reason),
        Ok(Some(Outcomes::Deny(deny))) => format!("deny {}", deny.reason),
        Ok(Some(Outcomes::Ask(ask))) if ask.previous.is_empty() => format!("ask {}", ask.step),
        Ok(Some(Outcomes::Ask(ask))) => format!("ask {} after {}", ask.step, ask.previous),
        Ok(Some(Outcomes::CodeAccepted(_))) => "accepted".into(),
        Ok(None) => "nothing".into(),
        Err(status) if status.code() == Code::Unavailable => "unavailable".into(),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}
