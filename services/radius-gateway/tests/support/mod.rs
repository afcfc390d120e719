//! One world for a test: a directory, a verification, a store, a bus, and as many gateways over them as it wants.
#![allow(dead_code, reason = "each test program uses its part")]

mod directory;
mod home;
mod nas;
mod store;
mod verification;

#[allow(unused_imports, reason = "each test program uses its part")]
pub use directory::{FakeDirectory, Mood};
#[allow(unused_imports, reason = "each test program uses its part")]
pub use home::{FakeHome, parsed};
#[allow(unused_imports, reason = "each test program uses its part")]
pub use nas::{Answer, Nas, Question, attribute, user_name};
pub use store::{FakeBus, FakeFailOpen, FakePasswordTries, FakeStore};
#[allow(unused_imports, reason = "each test program uses its part")]
pub use verification::{CODE, Call, FakeVerification, Fault, SECOND_CODE, user_id};

use domain::settings::Settings;
use radius_gateway::{Deps, Nodes, RadiusSection};
use service_kit::{Clock, Process, Shutdown};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

pub const NOW_MS: i64 = 1_790_000_000_000;
pub const SECRET: &str = "shared-secret-of-the-lab-5b1e";
pub const ANN: &str = "sesame-ann-41c8";

/// Clients by the address of their device.
pub const VPN: &str = "127.0.1.1";
pub const REQUIRED: &str = "127.0.1.2";
pub const OPTIONAL: &str = "127.0.1.3";
pub const AUTO: &str = "127.0.1.4";
pub const LEGACY: &str = "127.0.1.5";
pub const LAST_DIGITS: &str = "127.0.1.6";
pub const NO_CHALLENGE: &str = "127.0.1.7";
/// Lets people in while verification is down; the second one wants a code after the password.
pub const PASSING: &str = "127.0.1.8";
pub const PASSING_REQUIRED: &str = "127.0.1.9";
/// Waits for people.
pub const PATIENT: &str = "127.0.1.10";
/// Takes words after the password, knows where people come from, and remembers them.
pub const WORDS: &str = "127.0.1.11";
/// Whose target are two home servers.
pub const RELAYED: &str = "127.0.1.16";
/// The same, and trusts what EAP says outside.
pub const TRUSTING: &str = "127.0.1.17";
/// The same, and checks people itself.
pub const CHECKS_ITSELF: &str = "127.0.1.18";
/// Its home servers may turn out to sign; may leave it.
pub const LEARNING: &str = "127.0.1.19";
pub const LAX: &str = "127.0.1.20";
/// The same, and lets in whom no directory has, if the servers do; the second one has the directory alone.
pub const OPEN: &str = "127.0.1.22";
pub const OPEN_HERE: &str = "127.0.1.23";
/// Writes passwords in Latin-1, and need not sign.
pub const LATIN: &str = "127.0.1.21";
/// Of a network whose client has another secret; the first address is a client of its own.
pub const WIDE: &str = "127.0.2.2";
pub const NARROW: &str = "127.0.2.1";
pub const ACCOUNTING_OFF: &str = "127.0.1.12";
pub const ACCOUNTING_DISCARDED: &str = "127.0.1.13";
pub const ACCOUNTING_FORWARDED: &str = "127.0.1.14";
/// Wants to know of this node alone when it asks how it is.
pub const NODE_ONLY: &str = "127.0.1.15";
pub const STRANGER: &str = "127.0.9.9";

pub struct World {
    pub directory: FakeDirectory,
    pub homes: [FakeHome; 2],
    pub verification: Arc<FakeVerification>,
    pub store: Arc<FakeStore>,
    pub fail_open: Arc<FakeFailOpen>,
    pub password_tries: Arc<FakePasswordTries>,
    pub bus: FakeBus,
    pub clock: Clock,
}

impl World {
    pub async fn new() -> Self {
        let directory = FakeDirectory::start().await;
        let clock = Clock::at(NOW_MS);
        let homes = [FakeHome::start().await, FakeHome::start().await];
        let document = settings(&directory.url, &homes);
        let mut secrets = HashMap::from([(
            "directory.corp.query_bind.password".to_owned(),
            directory::QUERY_PASSWORD.as_bytes().to_vec(),
        )]);
        for (name, _) in document.secrets().into_iter().filter(|(name, _)| name.starts_with("target.")) {
            secrets.insert(name, home::HOME_SECRET.as_bytes().to_vec());
        }
        for client in &document.clients {
            let secret = if client.name.as_str() == "wide" { "another-secret-of-the-lab" } else { SECRET };
            secrets.insert(format!("client.{}.secret", client.name), secret.as_bytes().to_vec());
        }
        Self {
            directory,
            homes,
            verification: FakeVerification::new(clock.clone()),
            store: FakeStore::new(document, secrets),
            fail_open: Arc::default(),
            password_tries: Arc::default(),
            bus: FakeBus::default(),
            clock,
        }
    }

    /// A gateway that is alone, ready to be asked.
    pub async fn gateway(&self) -> Node {
        self.node(Nodes::One, section()).await
    }

    /// One of several.
    pub async fn one_of_many(&self) -> Node {
        self.node(Nodes::Many, section()).await
    }

    /// What a node of this world leans on.
    pub fn deps(&self, nodes: Nodes) -> Deps {
        Deps {
            verification: self.verification.clone(),
            settings: self.store.clone(),
            fail_open: self.fail_open.clone(),
            password_tries: self.password_tries.clone(),
            store: self.store.clone(),
            bus: Arc::new(self.bus.clone()),
            nodes,
            clock: self.clock.clone(),
        }
    }

    pub async fn node(&self, nodes: Nodes, section: RadiusSection) -> Node {
        let node = Node::start(self.deps(nodes), section).await;
        // Whoever answers Status-Server has the settings and has reached verification.
        let mut nas = Nas::new(VPN, node.address, SECRET).await;
        until("the gateway serves", async || {
            let status = nas.status();
            nas.send(&status.octets).await;
            tokio::time::timeout(Duration::from_millis(100), nas.hear(&status)).await.is_ok()
        })
        .await;
        node
    }
}

/// A gateway on threads of its own, so that it can be killed at any moment.
pub struct Node {
    runtime: Option<Runtime>,
    pub address: SocketAddr,
    /// Where accounting is taken.
    pub accounting: SocketAddr,
    /// Where RADIUS by TLS is taken, if it is.
    pub radsec: Option<SocketAddr>,
    pub shutdown: Shutdown,
    pub process: Process,
}

impl Node {
    pub async fn start(deps: Deps, section: RadiusSection) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let (tell, told) = tokio::sync::oneshot::channel();
        runtime.spawn(async move {
            let process = Process::detached("radius-gateway");
            let configured = (section.listen[0], section.accounting_listen[0]);
            let running = radius_gateway::start(section, deps, &process).await.expect("free ports");
            let _ = tell.send((running.addresses(), configured, process));
        });
        let (open, configured, process) = told.await.expect("the node starts");
        Self {
            runtime: Some(runtime),
            // Of a gateway that is off: where it will be.
            address: open.authentication.first().copied().unwrap_or(configured.0),
            accounting: open.accounting.first().copied().unwrap_or(configured.1),
            radsec: open.radsec.first().copied(),
            shutdown: process.shutdown().clone(),
            process,
        }
    }

    /// As SIGKILL would: whatever it was doing, it does no more.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for a condition, with a limit.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to be: {what}");
}

pub fn section() -> RadiusSection {
    RadiusSection {
        listen: vec![([127, 0, 0, 1], 0).into()],
        accounting_listen: vec![([127, 0, 0, 1], 0).into()],
        reject_delay_ms: 500_u64.try_into().expect("the least"),
        ..RadiusSection::default()
    }
}

fn settings(url: &str, homes: &[FakeHome]) -> Settings {
    let client = |name: &str, source: &str, more: serde_json::Value| {
        let mut client = serde_json::json!({
            "name": name, "protocol": "radius", "sources": [source], "target": "corp", "secret": "keep", "wait_seconds": 10,
        });
        let fields = more.as_object().expect("an object").clone();
        client.as_object_mut().expect("an object").extend(fields);
        client
    };
    let target = |name: &str, more: serde_json::Value| {
        let signs = match name {
            "learning-homes" => "auto",
            "lax-homes" => "no",
            _ => "yes",
        };
        let server = |home: &FakeHome| {
            serde_json::json!({
                "address": home.address.ip(), "authentication_port": home.address.port(), "secret": "keep",
                "message_authenticator": signs,
            })
        };
        let servers: Vec<_> = homes.iter().map(server).collect();
        let mut target = serde_json::json!({
            "name": name, "kind": "radius", "directory": "corp", "servers": servers, "response_window_seconds": 5,
        });
        target.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        target
    };
    let document = serde_json::json!({
        "directory": [{
            "name": "corp", "preset": "openldap", "urls": [url], "base": directory::BASE,
            "query_bind": { "kind": "simple", "name": directory::QUERY_DN, "password": "keep" },
            "authentication_bind": { "kind": "simple" },
            "danger_clear_text": true, "connect_timeout_seconds": 1, "timeout_seconds": 3,
        }],
        "target": [
            target("homes", serde_json::json!({})),
            target("trusted-homes", serde_json::json!({ "danger_trust_outer_identity": true })),
            target("learning-homes", serde_json::json!({})),
            target("lax-homes", serde_json::json!({})),
        ],
        "client": [
            client("relayed", "127.0.1.16/32", serde_json::json!({ "target": "homes" })),
            client("trusting", "127.0.1.17/32", serde_json::json!({ "target": "trusted-homes" })),
            client("checks-itself", "127.0.1.18/32", serde_json::json!({ "target": "homes", "without_credentials": "pass" })),
            client("learning", "127.0.1.19/32", serde_json::json!({ "target": "learning-homes" })),
            client("lax", "127.0.1.20/32", serde_json::json!({ "target": "lax-homes" })),
            client("open", "127.0.1.22/32", serde_json::json!({ "target": "homes", "unknown_user": "pass" })),
            client("open-here", "127.0.1.23/32", serde_json::json!({ "unknown_user": "pass" })),
            client("vpn", "127.0.1.1/32", serde_json::json!({})),
            client("six", "::1/128", serde_json::json!({})),
            client("required", "127.0.1.2/32", serde_json::json!({ "appended": "required" })),
            client("optional", "127.0.1.3/32", serde_json::json!({ "appended": "optional" })),
            client("auto", "127.0.1.4/32", serde_json::json!({ "message_authenticator": "auto" })),
            client("legacy", "127.0.1.5/32", serde_json::json!({ "message_authenticator": "no" })),
            client("latin", "127.0.1.21/32", serde_json::json!({ "message_authenticator": "no", "charset": "latin1" })),
            client("last-digits", "127.0.1.6/32", serde_json::json!({
                "appended": "required", "appended_form": { "kind": "last_digits" }, "challenge": "no",
            })),
            client("no-challenge", "127.0.1.7/32", serde_json::json!({ "challenge": "no", "appended": "optional" })),
            client("passing", "127.0.1.8/32", serde_json::json!({ "when_unavailable": "pass" })),
            client("passing-required", "127.0.1.9/32", serde_json::json!({
                "when_unavailable": "pass", "appended": "required", "when_unavailable_until": "2026-12-31T00:00:00Z",
            })),
            client("patient", "127.0.1.10/32", serde_json::json!({ "wait_seconds": 110 })),
            client("words", "127.0.1.11/32", serde_json::json!({
                "appended": "required", "appended_keywords": true, "person_address": "calling_station_id",
                "remember": {},
            })),
            client("accounting-off", "127.0.1.12/32", serde_json::json!({ "accounting": "off" })),
            client("accounting-discarded", "127.0.1.13/32", serde_json::json!({ "accounting": "discard" })),
            client("accounting-forwarded", "127.0.1.14/32", serde_json::json!({ "accounting": "forward", "target": "homes" })),
            client("node-only", "127.0.1.15/32", serde_json::json!({ "status_reflects_health": false })),
            client("radclient", "127.0.0.1/32", serde_json::json!({})),
            client("servers", "127.0.77.0/24", serde_json::json!({})),
            client("many", "224.0.0.0/4", serde_json::json!({ "sources": ["224.0.0.0/4", "255.255.255.255/32"] })),
            client("wide", "127.0.2.0/24", serde_json::json!({})),
            client("narrow", "127.0.2.1/32", serde_json::json!({})),
        ],
    });
    let settings: Settings = serde_json::from_value(document).expect("the settings of the tests are valid");
    let errors: Vec<_> = settings
        .problems()
        .into_iter()
        .filter(|problem| problem.severity == domain::settings::Severity::Error)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    settings
}
