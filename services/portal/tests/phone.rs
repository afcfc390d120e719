//! What the phone's pages and endpoints do before anything is handed on, and where passkeys are bound to.

mod support;

use domain::settings::FirstEnrolment;
use http::StatusCode;
use portal::{Deps, Portal, PortalSection};
use serde_json::{Value, json};
use service_kit::{Clock, Process};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::{FakeDirectory, FakeStore, FakeVerification, World};

const PAGES: [&str; 3] = ["/phone", "/phone/activate", "/phone/offline"];
const ENDPOINTS: [&str; 6] = ["begin", "finish", "device", "prompts", "decide", "code"];

#[tokio::test]
async fn pages_keep_the_policy_name_only_files_that_are_there_and_speak_two_languages() {
    // V-85
    let world = World::new(FirstEnrolment::Open).await;
    let http = world.http();
    for page in PAGES {
        let answer = http.get(world.url(page)).header("accept-language", "de").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{page}");
        let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        let html = answer.text().await.expect("text");
        assert!(html.contains("<html lang=\"de\">") && html.contains("Example &#38; Sons"), "{page}: {html}");
        assert!(!html.contains(" style=") && !html.contains("<style") && !html.contains(" on"), "{page}");
        assert!(!html.contains("<script>"), "{page}");
        for file in html.split(['"']).filter(|part| part.starts_with("/assets/") || part.starts_with("/phone/app")) {
            let found = http.get(world.url(file)).send().await.expect("an answer");
            assert_eq!(found.status(), StatusCode::OK, "{page} names {file}");
        }
    }
    let worker = http.get(world.url("/phone/worker.js")).send().await.expect("an answer");
    assert_eq!(worker.headers()["service-worker-allowed"], "/phone");
    let script = worker.text().await.expect("text");
    let kept = script.split('"').filter(|part| part.starts_with("/assets/") || *part == "/phone/offline");
    for file in kept {
        let found = http.get(world.url(file)).send().await.expect("an answer");
        assert_eq!(found.status(), StatusCode::OK, "the worker keeps {file}");
    }
    let manifest = http.get(world.url("/phone/app.webmanifest")).send().await.expect("an answer");
    let manifest: Value = manifest.json().await.expect("JSON");
    assert_eq!((manifest["start_url"].as_str(), manifest["display"].as_str()), (Some("/phone"), Some("standalone")));
    for icon in manifest["icons"].as_array().expect("icons") {
        let found = http.get(world.url(icon["src"].as_str().expect("a path"))).send().await.expect("an answer");
        assert_eq!(found.headers()["content-type"], icon["type"].as_str().expect("a type"));
    }
}

#[tokio::test]
async fn the_listener_for_phones_answers_phones_and_nobody_else() {
    // FM-01
    let world = World::new(FirstEnrolment::Open).await;
    let http = world.http();
    let at = |path: &str| format!("https://localhost:{}{path}", world.phone_address.port());
    let get = async |path: &str| http.get(at(path)).send().await.expect("an answer").status();
    let post = async |path: &str| http.post(at(path)).body("{}").send().await.expect("an answer").status();
    let files = ["/phone/worker.js", "/phone/app.webmanifest", "/assets/phone.js", "/assets/portal.css"];
    for path in PAGES.iter().chain(&files) {
        assert_eq!(get(path).await, StatusCode::OK, "{path}");
    }
    for endpoint in ENDPOINTS {
        assert_eq!(post(&format!("/phone/api/{endpoint}")).await, StatusCode::FORBIDDEN, "{endpoint}: from nowhere");
    }
    assert_eq!(get("/push/pi").await, StatusCode::SERVICE_UNAVAILABLE, "handed on to the fake, which is away");
    let others =
        ["/", "/sign-in", "/code", "/invitation", "/enrol", "/account", "/api/v1/users", "/api/v1/openapi.json"];
    for path in others.into_iter().chain(["/callback/texts/receipt", "/api", "/metrics"]) {
        assert_eq!((get(path).await, post(path).await), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND), "{path}");
    }
}

#[tokio::test]
async fn what_comes_from_elsewhere_or_makes_no_sense_is_not_handed_on() {
    // V-81: the fake answers UNIMPLEMENTED, so a request that is handed on is seen as 503
    let world = World::new(FirstEnrolment::Open).await;
    let http = world.http();
    let proof = json!({ "device_id": "d", "timestamp": "t", "signature": "s" });
    let good = json!({
        "code": "c", "device_id": "d", "name": "n", "device_key": {}, "credential": null, "proof": proof, "prompt_id": "p",
        "decision": "deny", "number": "", "pin": "", "assertion": null, "signature": "", "subscription": "",
        "factor_id": "f",
    });
    for endpoint in ENDPOINTS {
        let post = |site: &'static str, body: String| {
            let request = http.post(world.url(&format!("/phone/api/{endpoint}")));
            request.header("sec-fetch-site", site).header("content-type", "application/json").body(body).send()
        };
        for site in ["cross-site", "same-site", "none"] {
            let refused = post(site, good.to_string()).await.expect("an answer");
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{endpoint} from {site}");
        }
        for bad in ["", "{", "[]", "{}", "null"] {
            let refused = post("same-origin", bad.to_owned()).await.expect("an answer");
            assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{endpoint}: {bad}");
        }
        let long = post("same-origin", " ".repeat(70_000)).await.expect("an answer");
        assert_eq!(long.status(), StatusCode::PAYLOAD_TOO_LARGE, "{endpoint}");
        let handed_on = post("same-origin", good.to_string()).await.expect("an answer");
        assert_eq!(handed_on.status(), StatusCode::SERVICE_UNAVAILABLE, "{endpoint}");
        let told: Value = handed_on.json().await.expect("JSON");
        assert_eq!(told, json!({ "reason": "verification_unavailable" }), "{endpoint}");
        let read = http.get(world.url(&format!("/phone/api/{endpoint}"))).send().await.expect("an answer");
        assert!(!read.status().is_success(), "{endpoint}: nothing happens by GET");
    }
}

#[tokio::test]
async fn codes_and_devices_are_not_tried_without_end() {
    // V-20, V-87
    let world = World::new(FirstEnrolment::Open).await;
    let http = world.http();
    let post = |endpoint: &str, body: Value| {
        let request = http.post(world.url(&format!("/phone/api/{endpoint}"))).header("sec-fetch-site", "same-origin");
        request.body(body.to_string()).send()
    };
    let mut limited = 0;
    for _ in 0..40 {
        let answer = post("begin", json!({ "code": "guess" })).await.expect("an answer");
        limited += usize::from(answer.status() == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!((5..=10).contains(&limited), "{limited} of 40");
    let poll =
        |device: &str| post("prompts", json!({ "proof": { "device_id": device, "timestamp": "", "signature": "" } }));
    let mut last = StatusCode::OK;
    for _ in 0..60 {
        last = poll("flood").await.expect("an answer").status();
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(poll("other").await.expect("an answer").status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_portal_starts_at_the_host_that_passkeys_are_bound_to_and_at_another_one_only_where_that_is_wanted() {
    let store = Arc::new(FakeStore::new(FirstEnrolment::Open));
    start(&store, "https://mfa.example.com", false).await.expect("the first one");
    start(&store, "https://mfa.example.com:8443", false).await.expect("the same host");
    let refused = start(&store, "https://login.example.com", false).await;
    let refused = refused.err().expect("another host").to_string();
    for part in ["https://login.example.com", "mfa.example.com", "portal.danger_change_rp_id"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(*store.rp_id.lock().expect("whole"), "mfa.example.com");
    start(&store, "https://login.example.com", true).await.expect("wanted");
    assert_eq!(*store.rp_id.lock().expect("whole"), "login.example.com");
}

#[tokio::test]
async fn a_store_that_starts_later_is_told_then_and_the_portal_is_not_ready_before() {
    let store = Arc::new(FakeStore::new(FirstEnrolment::Open));
    store.down.store(true, Ordering::SeqCst);
    let process = start(&store, "https://mfa.example.com", false).await.expect("it starts");
    assert!(!process.health().is_started());
    store.down.store(false, Ordering::SeqCst);
    for _ in 0..1000 {
        if process.health().is_started() {
            assert_eq!(*store.rp_id.lock().expect("whole"), "mfa.example.com");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the portal never told its address");
}

async fn start(store: &Arc<FakeStore>, public_url: &str, danger_change_rp_id: bool) -> anyhow::Result<Process> {
    let process = Process::detached("portal");
    let clock = Clock::system();
    let verification = Arc::new(FakeVerification::new(store.clone(), clock.clone()));
    let deps = Deps {
        portal_data: store.clone(),
        admin: store.clone(),
        settings: store.clone(),
        verification: verification.clone(),
        enrolment: verification.clone(),
        phone: verification.clone(),
        callback: verification,
        password_check: Arc::new(FakeDirectory::new(store.clone())),
        directories: Arc::new(FakeDirectory::new(store.clone())),
        bus: Arc::new(service_kit::bus::InProcess::new()),
        clock,
        randomness: getrandom::fill,
    };
    let section: PortalSection = serde_json::from_value(json!({
        "listen": ["127.0.0.1:0"], "public_url": public_url, "danger_plain_http": true,
        "danger_change_rp_id": danger_change_rp_id,
    }))?;
    Portal::start(section, deps, &process).await?;
    Ok(process)
}
