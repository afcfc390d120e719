//! The REST API: every route for every role, and what goes wrong.

mod support;

use domain::Role;
use domain::settings::FirstEnrolment::Open;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH};
use http::{Method, StatusCode};
use proto::verification::{Allow, Ask, AskKind, outcome};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use support::{FakeVerification, PASSWORD, RIGHT_CODE, SEED, World, api_key};
use tokio::sync::Barrier;

struct Api<'a> {
    world: &'a World,
    http: reqwest::Client,
    key: Option<String>,
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// RFC 9457
    fn assert_problem(&self, status: StatusCode) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status.as_u16());
        assert!(problem["title"].is_string() && problem["type"] == "about:blank");
        problem
    }
}

impl<'a> Api<'a> {
    fn new(world: &'a World, role: &str) -> Self {
        Self { world, http: world.http(), key: Some(api_key(role)) }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| ("application/json", body.to_string()));
        self.send(method, path, body.as_ref().map(|(kind, body)| (*kind, body.clone())), &[]).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, String)>,
        headers: &[(http::HeaderName, &str)],
    ) -> Answer {
        let mut request = self.http.request(method, self.world.url(&format!("/api/v1{path}")));
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        if let Some((kind, body)) = body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.expect("text") }
    }
}

/// Nobody is asked it any more.
const QUESTION: &str = "/authentications/wiki~0193464e-0000-7000-8000-000000000000~1";

/// Every route of the document, with a path and a body that work.
fn routes() -> Vec<(Method, &'static str, &'static str, Option<Value>)> {
    vec![
        (Method::POST, "/authentications", "/authentications", Some(json!({"application": "wiki", "user": "ann"}))),
        (Method::GET, "/authentications/{id}", QUESTION, None),
        (
            Method::POST,
            "/authentications/{id}/answer",
            "/authentications/wiki~0193464e-0000-7000-8000-000000000000~1/answer",
            Some(json!({"answer": "1"})),
        ),
        (Method::DELETE, "/authentications/{id}", QUESTION, None),
        (Method::GET, "/users", "/users", None),
        (Method::POST, "/users", "/users", Some(json!({"username": "nina"}))),
        (Method::GET, "/users/{id}", "/users/ann", None),
        (Method::PATCH, "/users/{id}", "/users/ann", Some(json!({"phone": "+4930901820"}))),
        (
            Method::POST,
            "/users/import",
            "/users/import",
            Some(json!({"content": "username,phone\nann,+4930901820\n", "dry_run": true})),
        ),
        (Method::PUT, "/users/{id}/state", "/users/ann/state", Some(json!({"state": "enabled"}))),
        (Method::POST, "/users/{id}/unlock", "/users/ann/unlock", None),
        (Method::POST, "/users/{id}/invite", "/users/ann/invite", None),
        (Method::POST, "/users/{id}/block", "/users/ann/block", Some(json!({"reason": "lost"}))),
        (Method::POST, "/users/{id}/unblock", "/users/ann/unblock", Some(json!({"reason": "found"}))),
        (Method::PUT, "/users/{id}/exempt", "/users/ann/exempt", Some(json!({"clients": [], "reason": "none"}))),
        (Method::POST, "/users/{id}/bypass", "/users/ann/bypass", Some(json!({"reason": "forgot the phone"}))),
        (Method::DELETE, "/users/{id}/bypass/{bypass_id}", "/users/ann/bypass/bypass-1", None),
        (
            Method::POST,
            "/users/{id}/temporary-codes",
            "/users/ann/temporary-codes",
            Some(json!({"reason": "forgot the phone"})),
        ),
        (Method::POST, "/users/{id}/pin", "/users/ann/pin", None),
        (Method::PUT, "/users/{id}/answers", "/users/ann/answers", Some(json!({"answers": []}))),
        (Method::POST, "/users/{id}/recovery-codes", "/users/ann/recovery-codes", None),
        (Method::GET, "/users/{id}/devices", "/users/ann/devices", None),
        (Method::DELETE, "/users/{id}/devices/{device_id}", "/users/ann/devices/device-1", None),
        (Method::POST, "/users/{id}/activations", "/users/ann/activations", None),
        (Method::GET, "/users/{id}/activations/{device_id}", "/users/ann/activations/device-1", None),
        (
            Method::POST,
            "/users/{id}/phones",
            "/users/ann/phones",
            Some(json!({"method": "sms", "number": "+4930901820"})),
        ),
        (
            Method::POST,
            "/users/{id}/phones/{verification_id}/confirm",
            "/users/ann/phones/phone-1/confirm",
            Some(json!({"code": RIGHT_CODE})),
        ),
        (Method::POST, "/users/{id}/try", "/users/ann/try", Some(json!({"method": "push", "device_id": "device-1"}))),
        (Method::GET, "/tokens", "/tokens", None),
        (Method::GET, "/tokens/{serial}", "/tokens/T-0001", None),
        (
            Method::POST,
            "/tokens/import",
            "/tokens/import",
            Some(json!({"preset": "pi-oath", "content": format!("A1,{}\n", "ab".repeat(20)), "dry_run": true})),
        ),
        (Method::POST, "/tokens/find", "/tokens/find", Some(json!({"code": RIGHT_CODE}))),
        (Method::PUT, "/tokens/{serial}/user", "/tokens/T-0001/user", Some(json!({"user": "ann"}))),
        (Method::POST, "/tokens/{serial}/confirm", "/tokens/T-0001/confirm", Some(json!({"code": RIGHT_CODE}))),
        (
            Method::POST,
            "/tokens/{serial}/resync",
            "/tokens/T-0001/resync",
            Some(json!({"codes": [RIGHT_CODE, "111111"]})),
        ),
        (Method::DELETE, "/tokens/{serial}/user", "/tokens/T-0001/user", None),
        (Method::DELETE, "/tokens/{serial}", "/tokens/T-0009", None),
        (Method::GET, "/prompts", "/prompts", None),
        (Method::GET, "/remembered", "/remembered", None),
        (Method::POST, "/remembered/clear", "/remembered/clear", Some(json!({"user": "ann"}))),
        (Method::GET, "/messages", "/messages", None),
        (Method::GET, "/keys", "/keys", None),
        (Method::POST, "/keys/rotate", "/keys/rotate", None),
        (Method::POST, "/providers/test", "/providers/test", Some(json!({"channel": "mail", "to": "ann@example.com"}))),
        (Method::GET, "/users/{id}/factors", "/users/ann/factors", None),
        (Method::POST, "/users/{id}/factors", "/users/ann/factors", None),
        (
            Method::POST,
            "/users/{id}/factors/{factor_id}/confirm",
            "/users/ann/factors/none/confirm",
            Some(json!({"code": "1"})),
        ),
        (Method::DELETE, "/users/{id}/factors/{factor_id}", "/users/ann/factors/none", None),
        (Method::GET, "/clients", "/clients", None),
        (Method::GET, "/clients/{name}", "/clients/vpn", None),
        (Method::GET, "/targets", "/targets", None),
        (Method::GET, "/targets/{name}", "/targets/homes", None),
        (Method::GET, "/settings", "/settings", None),
        (Method::POST, "/settings", "/settings?dry_run=true", Some(json!({"document": ""}))),
        (Method::POST, "/directories/test", "/directories/test", Some(json!({"directory": {"name": "corp"}}))),
        (Method::POST, "/directories/{name}/test", "/directories/corp/test", None),
        (Method::GET, "/directories/{name}/users", "/directories/corp/users", None),
        (Method::GET, "/directories/{name}/places", "/directories/corp/places?kind=groups", None),
        (Method::GET, "/accounting", "/accounting", None),
        (Method::GET, "/audit", "/audit", None),
        (Method::GET, "/sync", "/sync", None),
        (Method::GET, "/sync/history", "/sync/history", None),
        (Method::GET, "/sync/runs/{id}", "/sync/runs/r1", None),
        (Method::GET, "/sync/runs/{id}/changes", "/sync/runs/r/changes", None),
        (Method::POST, "/sync/run", "/sync/run", None),
        (Method::POST, "/sync/import", "/sync/import", Some(json!({"directory": "corp", "sync_item": "hand"}))),
        (Method::GET, "/sync/owner", "/sync/owner?user=ann", None),
        (Method::GET, "/sync/approvals/{id}/users", "/sync/approvals/a/users", None),
        (Method::POST, "/sync/approvals/{id}", "/sync/approvals/a", Some(json!({"approve": true}))),
    ]
}

/// V-82. The expectation is written out here, apart from the code.
fn allowed(method: &str, route: &str) -> &'static [Role] {
    const O_A: &[Role] = &[Role::Owner, Role::Admin];
    const O_A_U: &[Role] = &[Role::Owner, Role::Admin, Role::UserManager];
    const O_A_U_H: &[Role] = &[Role::Owner, Role::Admin, Role::UserManager, Role::HelpDesk];
    const PEOPLE: &[Role] = &[Role::Owner, Role::Admin, Role::UserManager, Role::HelpDesk, Role::Auditor];
    match (method, route) {
        (_, "/authentications" | "/authentications/{id}" | "/authentications/{id}/answer") => &[Role::Application],
        ("GET", "/keys") | ("POST", "/keys/rotate") => &[Role::Owner],
        ("GET", "/users" | "/users/{id}" | "/users/{id}/factors" | "/users/{id}/devices") => PEOPLE,
        ("GET", "/users/{id}/activations/{device_id}" | "/tokens" | "/tokens/{serial}") => PEOPLE,
        ("GET", "/prompts" | "/remembered" | "/messages") => PEOPLE,
        ("PUT", "/users/{id}/state" | "/users/{id}/exempt" | "/users/{id}/answers") => O_A_U,
        ("PATCH", "/users/{id}") | ("POST", "/users" | "/users/import" | "/tokens/import") => O_A_U,
        ("POST", "/users/{id}/factors" | "/users/{id}/factors/{factor_id}/confirm") => O_A_U,
        ("POST", "/users/{id}/activations" | "/users/{id}/recovery-codes") => O_A_U,
        ("POST", "/users/{id}/phones" | "/users/{id}/phones/{verification_id}/confirm") => O_A_U,
        ("POST", "/users/{id}/unlock" | "/users/{id}/invite") => O_A_U_H,
        ("POST", "/users/{id}/block" | "/users/{id}/unblock" | "/users/{id}/pin" | "/users/{id}/try") => O_A_U_H,
        ("POST", "/users/{id}/bypass" | "/users/{id}/temporary-codes") => O_A_U_H,
        ("POST", "/tokens/find" | "/tokens/{serial}/confirm" | "/tokens/{serial}/resync") => O_A_U_H,
        ("POST", "/remembered/clear") | ("PUT", "/tokens/{serial}/user") => O_A_U_H,
        ("DELETE", _) => O_A_U_H,
        ("POST", "/providers/test" | "/directories/test" | "/directories/{name}/test") => O_A,
        ("GET", "/audit" | "/accounting") => &[Role::Owner, Role::Admin, Role::Auditor],
        (_, "/clients" | "/clients/{name}" | "/targets" | "/targets/{name}" | "/settings") => O_A,
        (_, "/sync" | "/sync/history" | "/sync/run" | "/sync/runs/{id}/changes" | "/sync/import" | "/sync/owner") => {
            O_A
        }
        ("GET", "/sync/runs/{id}") => O_A,
        ("GET", "/directories/{name}/users" | "/directories/{name}/places") => O_A,
        (_, "/sync/approvals/{id}" | "/sync/approvals/{id}/users") => O_A,
        other => panic!("{other:?} is not in this test"),
    }
}

#[tokio::test]
async fn every_route_opens_to_exactly_the_roles_of_the_table() {
    let world = World::new(Open).await;
    for role in Role::ALL {
        let api = Api::new(&world, role.code());
        world.store.add_token("T-0001");
        world.store.add_token("T-0009");
        for (method, route, path, body) in routes() {
            let mut answer = api.call(method.clone(), path, body.clone()).await;
            // There are more routes than calls that a key may make at once (FC-04).
            while answer.status == StatusCode::TOO_MANY_REQUESTS {
                answer = api.call(method.clone(), path, body.clone()).await;
            }
            match allowed(method.as_str(), route).contains(&role) {
                true => assert!(
                    answer.status.is_success()
                        || answer.status == StatusCode::UNPROCESSABLE_ENTITY
                        || route.starts_with("/authentications/{id}")
                            && answer.text.contains("no such question is open"),
                    "{role:?} {method} {route}: {} {}",
                    answer.status,
                    answer.text
                ),
                false => drop(answer.assert_problem(StatusCode::FORBIDDEN)),
            }
        }
    }
}

#[tokio::test]
async fn the_served_document_has_every_route_and_nothing_else() {
    let world = World::new(Open).await;
    let open = Api { key: None, ..Api::new(&world, "") };
    let document = open.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
    assert_eq!(document["components"]["securitySchemes"]["api_key"]["scheme"], "bearer");
    let mut described: Vec<String> = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            described.push(format!("{} {path}", method.to_uppercase()));
            let roles: Vec<&str> = allowed(&method.to_uppercase(), path).iter().map(|role| role.code()).collect();
            let sentence = format!("Roles: {}.", roles.join(", "));
            assert!(
                operation["description"].as_str().is_some_and(|text| text.contains(&sentence)),
                "{path}: {sentence}"
            );
        }
    }
    let mut expected: Vec<String> = routes().iter().map(|(method, route, ..)| format!("{method} {route}")).collect();
    described.sort();
    expected.sort();
    assert_eq!(described, expected);
}

#[tokio::test]
async fn without_a_valid_key_nothing_is_told_and_guesses_are_slowed_down() {
    let world = World::new(Open).await;
    let mut api = Api::new(&world, "nobody");
    let problem = api.get("/users").await;
    problem.assert_problem(StatusCode::UNAUTHORIZED);
    assert_eq!(problem.headers["www-authenticate"], "Bearer");
    api.key = Some(api_key("root"));
    api.get("/users").await.assert_problem(StatusCode::UNAUTHORIZED);
    api.key = None;
    for (method, _, path, body) in routes() {
        api.call(method, path, body).await.assert_problem(StatusCode::UNAUTHORIZED);
    }
    // The cookie of a person is no key.
    let browser = world.signed_in().await;
    let cookie = format!("__Host-twinlock={}", browser.session_cookie().expect("a session"));
    let answer = api.send(Method::GET, "/users", None, &[(http::header::COOKIE, &cookie)]).await;
    answer.assert_problem(StatusCode::UNAUTHORIZED);
    api.key = Some(api_key("guess"));
    let mut slowed = 0;
    for _ in 0..40 {
        slowed += u32::from(api.get("/users").await.status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(slowed > 0);
}

#[tokio::test]
async fn a_key_may_call_fifty_times_a_second() {
    // FC-04
    let world = World::new(Open).await;
    let (http, url) = (world.http(), world.url("/api/v1/users?limit=1"));
    let begun = std::time::Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        calls.spawn(http.get(&url).header(AUTHORIZATION, "Bearer twk_auditor").send());
    }
    let answers = calls.join_all().await;
    let statuses: Vec<StatusCode> = answers.into_iter().map(|answer| answer.expect("an answer").status()).collect();
    let served = statuses.iter().filter(|status| **status == StatusCode::OK).count();
    let refused = statuses.iter().filter(|status| **status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!(served + refused, 300);
    // A slow machine may not bring forth more than fifty in a second; then nobody is refused.
    let most = 50 * (2 + usize::try_from(begun.elapsed().as_secs()).unwrap_or(usize::MAX));
    assert!((50..=most).contains(&served), "{served} served, {most} may be");
    let limited = Api::new(&world, "auditor").get("/users").await;
    if limited.status != StatusCode::OK {
        limited.assert_problem(StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(limited.headers["retry-after"], "1");
    }
    assert_eq!(Api::new(&world, "admin").get("/users").await.status, StatusCode::OK, "another key has its own");
}

#[tokio::test]
async fn users_come_in_pages_and_are_found_by_id_or_name() {
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let api = Api::new(&world, "help_desk");
    let first = api.get("/users?limit=1").await.json();
    assert_eq!((&first["items"][0]["username"], &first["next"]), (&json!("ann"), &json!("ann")));
    assert_eq!(first["items"][0]["last_success"], "2026-11-20T16:44:02Z");
    let second = api.get("/users?limit=1&after=ann").await.json();
    assert_eq!((&second["items"][0]["username"], &second["next"]), (&json!("ben"), &Value::Null));
    let by_name = api.get("/users/ann").await;
    assert_eq!(by_name.headers[ETAG], "\"7\"");
    let id = by_name.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(api.get(&format!("/users/{id}")).await.json(), by_name.json());
    assert_eq!(by_name.json()["methods"][0]["method"], "code");
    assert_eq!(api.get("/users/ann/factors").await.json()["items"].as_array().map(Vec::len), Some(1));
    api.get("/users/nobody").await.assert_problem(StatusCode::NOT_FOUND);
    // FD-37
    let labelled = api.get("/users?user_group=of%20Ben").await.json();
    assert_eq!((&labelled["items"][0]["user_group"], &labelled["items"][1]), (&json!("of Ben"), &Value::Null));
    world.store.has_problem("ben", "another entry has this username, too");
    let problems = api.get("/users?sync_problem=true").await.json();
    assert_eq!((&problems["items"][0]["username"], &problems["items"][1]), (&json!("ben"), &Value::Null));
    assert_eq!(problems["items"][0]["sync_problem"], "another entry has this username, too");
    assert_eq!(api.get("/users/ann").await.json()["sync_problem"], Value::Null);
    api.get("/users?limit=0").await.assert_problem(StatusCode::BAD_REQUEST);
    api.get("/users?limit=many").await.assert_problem(StatusCode::BAD_REQUEST);
    api.get("/users?state=sleeping").await.assert_problem(StatusCode::BAD_REQUEST);
    api.get("/users?colour=red").await.assert_problem(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_change_names_the_key_and_is_refused_when_somebody_was_first() {
    let world = World::new(Open).await;
    let api = Api::new(&world, "admin");
    let body = || Some(("application/json", json!({"state": "disabled", "reason": "left"}).to_string()));
    let stale = api.send(Method::PUT, "/users/ann/state", body(), &[(IF_MATCH, "\"6\"")]).await;
    stale.assert_problem(StatusCode::CONFLICT);
    api.send(Method::PUT, "/users/ann/state", body(), &[(IF_MATCH, "*")]).await.assert_problem(StatusCode::BAD_REQUEST);
    let done = api.send(Method::PUT, "/users/ann/state", body(), &[(IF_MATCH, "\"7\"")]).await;
    assert_eq!((done.status, &done.json()["state"]), (StatusCode::OK, &json!("disabled")));
    let calls = world.store.calls();
    assert!(calls.iter().any(|call| call.contains("by api-key:test-admin: left")), "{calls:?}");
    let invited = api.call(Method::POST, "/users/ben/invite", Some(json!({"life_hours": 24}))).await.json();
    assert_eq!((&invited["code"], &invited["expires"]), (&json!("K7QM-2Z9P"), &json!("2026-11-22T16:45:02Z")));
    api.call(Method::POST, "/users/ben/invite", Some(json!({"life_hours": 1000})))
        .await
        .assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_factor_is_started_proven_and_taken_away() {
    let world = World::new(Open).await;
    let api = Api::new(&world, "user_manager");
    let started = api.call(Method::POST, "/users/ann/factors", Some(json!({"digits": 6}))).await;
    assert_eq!(started.status, StatusCode::CREATED);
    let started = started.json();
    assert_eq!(started["secret"], SEED);
    assert!(started["otpauth_uri"].as_str().is_some_and(|uri| uri.starts_with("otpauth://totp/")));
    let path = format!("/users/ann/factors/{}", started["id"].as_str().expect("an id"));
    let wrong = api.call(Method::POST, &format!("{path}/confirm"), Some(json!({"code": "000000"}))).await;
    assert_eq!(wrong.assert_problem(StatusCode::UNPROCESSABLE_ENTITY)["reason"], "wrong_code");
    let right = api.call(Method::POST, &format!("{path}/confirm"), Some(json!({"code": RIGHT_CODE}))).await.json();
    assert_eq!(right["methods"][0]["pending"], false);
    assert!(!right.to_string().contains(SEED), "the seed left once");
    assert_eq!(api.call(Method::DELETE, &path, None).await.json()["methods"], json!([]));
    for bad in [json!({"digits": 9}), json!({"period_seconds": 45}), json!({"algorithm": "MD5"})] {
        let answer = api.call(Method::POST, "/users/ann/factors", Some(bad)).await;
        answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn accounting_is_read_page_by_page() {
    // FR-19
    let world = World::new(Open).await;
    let api = Api::new(&world, "auditor");
    let first = api.get("/accounting?client=vpn&username=ann&session_id=s&limit=100").await.json();
    assert_eq!((&first["items"][0]["session_id"], &first["next"]), (&json!("s250"), &json!("151")));
    assert_eq!(first["items"][0]["input_octets"], json!(5_u64 << 32));
    let last = api.get("/accounting?after=51&limit=100").await.json();
    assert_eq!((&last["items"][49]["session_id"], &last["next"]), (&json!("s1"), &json!(null)));
    let calls = world.store.calls();
    assert!(calls.contains(&"accounting of \"vpn\" \"ann\" \"s\" before 0".to_owned()), "{calls:?}");
    api.get("/accounting?limit=1001").await.assert_problem(StatusCode::BAD_REQUEST);
    api.get("/accounting?user=ann").await.assert_problem(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn clients_and_settings_are_shown_without_secrets_and_applied_as_a_whole() {
    let world = World::new(Open).await;
    let api = Api::new(&world, "owner");
    let clients = api.get("/clients").await;
    assert_eq!(clients.json()["items"][0]["name"], "vpn");
    assert_eq!(clients.json()["items"][1]["protocol"], "ldap");
    assert!(!clients.text.contains("\"secret\""), "{}", clients.text);
    assert_eq!(api.get("/clients/gitlab").await.json()["sources"], json!(["10.0.7.9/32"]));
    api.get("/clients/none").await.assert_problem(StatusCode::NOT_FOUND);
    // R-37: what the gateways see, and what of that should be changed.
    let seen = api.get("/clients/vpn").await.json();
    assert_eq!((&clients.json()["items"][0], &seen["warnings"]), (&seen, &json!(["gives up after 15 s"])));
    assert_eq!(seen["reports"][0]["dropped"], json!({"ma_missing": 3}));
    assert_eq!(
        (
            &seen["reports"][0]["waits_ms"],
            &seen["reports"][0]["retry_interval_ms"],
            &seen["learned_message_authenticator"]
        ),
        (&json!(15_000), &json!(null), &json!("yes"))
    );
    assert!(seen["last_seen"].is_string() && seen["previous_secret_until"].is_string(), "{seen}");
    let unseen = api.get("/clients/gitlab").await.json();
    assert_eq!((&unseen["last_seen"], &unseen["reports"], &unseen["warnings"]), (&json!(null), &json!([]), &json!([])));

    // R-12, R-81
    let homes = api.get("/targets/homes").await;
    assert!(!homes.text.contains("\"secret\""), "{}", homes.text);
    let homes = homes.json();
    assert_eq!(api.get("/targets").await.json()["items"], json!([homes.clone()]));
    let states: Vec<_> =
        homes["servers"][0]["seen"].as_array().expect("a list").iter().map(|it| &it["state"]).collect();
    assert_eq!(states, [&json!("alive"), &json!("dead")]);
    assert_eq!((&homes["kind"], &homes["clients"]), (&json!("radius"), &json!([])));
    assert_eq!(homes["servers"][0]["learned_message_authenticator"], "no");
    assert_eq!(homes["settings"]["servers"][1]["address"], "radius.example");
    api.get("/targets/none").await.assert_problem(StatusCode::NOT_FOUND);

    let exported = api.get("/settings").await;
    assert_eq!(exported.headers[CONTENT_TYPE], "text/toml; charset=utf-8");
    assert_eq!((exported.text.as_str(), &exported.headers[ETAG]), ("revision = 41\n", &"\"41\"".parse().expect("tag")));
    let plan = api.send(Method::POST, "/settings?dry_run=true", Some(("text/toml", exported.text)), &[]).await;
    assert_eq!(plan.json()["dry_run"], true);
    let secret = json!({"document": "revision = 41\n", "secrets": {"client.vpn.secret": "0123456789abcdef"}});
    let applied = api.call(Method::POST, "/settings", Some(secret)).await.json();
    assert_eq!((&applied["revision"], &applied["changes"]), (&json!(42), &json!(["added client.vpn"])));
    assert_eq!(applied["generated"]["client.vpn.secret"], "s3cret");
    let calls = world.store.calls();
    assert!(calls.contains(&"apply dry_run=true by api-key:test-owner with []".to_owned()), "{calls:?}");
    assert!(calls.contains(&"apply dry_run=false by api-key:test-owner with [\"client.vpn.secret\"]".to_owned()));
    let refused = api.send(Method::POST, "/settings", Some(("text/toml", "colour = 1".into())), &[]).await;
    let problem = refused.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["errors"], json!(["line 1: colour: unknown; nearest: company"]));
}

#[tokio::test]
async fn what_weakens_security_is_not_applied_without_a_reason() {
    // FC-08, S-46
    let world = World::new(Open).await;
    let api = Api::new(&world, "owner");
    *world.store.weaker.lock().expect("a lock") = vec!["client.vpn.unknown_user".into()];
    let apply = async |query: &str| {
        let body = Some(("text/toml", "revision = 41\n".to_owned()));
        api.send(Method::POST, &format!("/settings{query}"), body, &[]).await
    };
    let looked = apply("?dry_run=true").await;
    assert_eq!((looked.status, &looked.json()["weaker"]), (StatusCode::OK, &json!(["client.vpn.unknown_user"])));
    let refused = apply("").await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused["errors"][0].as_str().is_some_and(|text| text.starts_with("reason: is missing")), "{refused}");
    assert!(world.store.applied.lock().expect("a lock").is_empty());
    assert_eq!(apply("?reason=old%20printers").await.status, StatusCode::OK);
    assert_eq!(world.store.calls().last(), Some(&"because old printers".to_owned()));
    let decide = |body: Value| api.call(Method::POST, "/sync/approvals/a1", Some(body));
    let robot = decide(json!({"approve": true, "usernames": ["robot"]})).await;
    robot.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    let robot = decide(json!({"approve": true, "usernames": ["robot"], "reason": "it has no phone"})).await;
    assert_eq!(robot.status, StatusCode::OK);
}

#[tokio::test]
async fn the_audit_is_read_page_by_page() {
    let world = World::new(Open).await;
    let api = Api::new(&world, "admin");
    let mut after = String::new();
    let mut seen = 0;
    loop {
        let page = api.get(&format!("/audit?limit=100{after}")).await.json();
        seen += page["items"].as_array().expect("items").len();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, 250);
}

#[tokio::test]
async fn synchronisation_says_how_it_stands_and_what_runs_did() {
    // FS-04, FS-09, FS-13
    let world = World::new(Open).await;
    let api = Api::new(&world, "admin");
    let status = api.get("/sync").await.json();
    assert_eq!((&status["leader"], &status["epoch"]), (&json!("node-1"), &json!(3)));
    let source = &status["sources"][0];
    assert_eq!(
        (&source["directory"], &source["feed"], &source["users"]),
        (&json!("corp"), &json!("syncrepl"), &json!(412))
    );
    assert_eq!((&source["last_full"], &source["last_complete"]), (&json!("2026-11-20T16:45:02Z"), &json!(null)));
    assert_eq!((&source["next"], &status["sources"][1]["next"]), (&json!("2026-11-20T16:50:02Z"), &json!(null)));
    assert_eq!(source["base"], "dc=corp,dc=example");
    assert_eq!(source["pins"][0]["object_id"], "entryUUID:00000000-0000-0000-0000-000000000001");
    assert_eq!((&source["offers"], &source["waits_for"]), (&json!(["syncrepl: yes"]), &json!(null)));
    assert_eq!(status["sources"][1]["waits_for"], "no run was asked for yet");
    let run = &status["runs"][0];
    assert_eq!((&run["mode"], &run["why"], &run["state"]), (&json!("full"), &json!("asked for"), &json!("parked")));
    assert_eq!((&run["items"], &run["parked"]), (&json!({"rest": 12, "staff": 400}), &json!(6)));
    assert_eq!(run["parked_why"], "6 users are more than the 5 of sync.approval_over_users");
    assert_eq!(status["runs"][1]["parked_why"], json!(null));
    assert_eq!(status["approvals"][0]["users"], 250);
    assert_eq!(status["approvals"][0]["why"], "the sync item staff has nobody any more");
    assert!(status["approvals"][0].get("usernames").is_none(), "names come in pages");

    let first = api.get("/sync/runs/r1/changes?limit=200").await.json();
    assert_eq!(
        (&first["items"][0], &first["next"]),
        (&json!({"username": "user001", "what": "added", "detail": ""}), &json!("200"))
    );
    let last = api.get("/sync/runs/r1/changes?limit=200&after=200").await.json();
    assert_eq!((last["items"].as_array().map(Vec::len), &last["next"]), (Some(50), &json!(null)));
    let one = api.get("/sync/runs/r1").await.json();
    assert_eq!((&one["id"], &one["problems"], &one["mode"]), (&json!("r1"), &json!(7), &json!("full")));
    assert_eq!(one["unusable"], json!([{"entry": "cn=ann <b>", "attribute": "mail", "why": "is no mail address"}]));
    assert_eq!((&run["problems"], run.get("unusable")), (&json!(7), None));
    assert_eq!(status["runs"][1]["repeats"], 3);
    api.get("/sync/runs/r9").await.assert_problem(StatusCode::NOT_FOUND);
    let page = api.get("/sync/history?limit=2&changed=true&directory=corp").await.json();
    assert_eq!((&page["items"][1]["id"], &page["next"]), (&json!("r2"), &json!("2")));
    let rest = api.get("/sync/history?limit=2&changed=true&after=2").await.json();
    assert_eq!((&rest["items"][0]["id"], &rest["next"]), (&json!("r3"), &Value::Null));
    api.get("/sync/history?changed=maybe").await.assert_problem(StatusCode::BAD_REQUEST);
    api.get("/sync/runs/r1/changes?limit=1001").await.assert_problem(StatusCode::BAD_REQUEST);
    api.get("/sync/runs/r1/changes?before=1").await.assert_problem(StatusCode::BAD_REQUEST);
}

/// Two sync items that are not applied, of two directories.
const DRAFT: &str = "[[sync_item]]\nname = \"sales\"\ndirectory = \"corp\"\nsource = { kind = \"domain\" }\n\
                     [[sync_item]]\nname = \"guests\"\ndirectory = \"second\"\nsource = { kind = \"domain\" }\n";

#[tokio::test]
async fn a_run_is_asked_for_whole_or_of_one_directory_and_as_a_preview() {
    // FS-09, FS-12, S-44
    let world = World::new(Open).await;
    let api = Api::new(&world, "admin");
    for (body, asked) in [
        (json!({}), "sync \"\" full"),
        (json!({"sync_item": "staff"}), "sync \"staff\" full"),
        (json!({"directory": "corp", "mode": "preview"}), "sync \"corp\" preview"),
        (json!({"directory": "corp", "accept_source": true}), "sync \"corp\" full, source accepted"),
        (json!({"looked_at": "r7"}), "sync \"\" full as r7"),
        (json!({"directory": "corp", "mode": "preview", "document": DRAFT}), "sync \"corp\" preview of sales"),
    ] {
        assert_eq!(api.call(Method::POST, "/sync/run", Some(body)).await.status, StatusCode::ACCEPTED);
        let calls = world.store.calls();
        assert_eq!(calls.last(), Some(&format!("{asked} by api-key:test-admin")));
    }
    let before = world.store.calls().len();
    for bad in [
        json!({"directory": "corp", "sync_item": "staff"}),
        json!({"mode": "incremental"}),
        json!({"mode": "preview", "accept_source": true}),
        json!({"mode": "preview", "looked_at": "r7"}),
        json!({"directory": "corp", "document": DRAFT}),
        json!({"mode": "preview", "document": DRAFT}),
        json!({"directory": "other", "mode": "preview", "document": DRAFT}),
        json!({"directory": "corp", "mode": "preview", "document": "colour = 1"}),
        json!({"sync_item": "staff", "looked_at": "r7"}),
        json!({"item": "staff"}),
    ] {
        api.call(Method::POST, "/sync/run", Some(bad)).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let old = json!({"directory": "corp", "looked_at": "old"});
    let refused = api.call(Method::POST, "/sync/run", Some(old)).await;
    assert!(refused.json()["detail"].as_str().is_some_and(|text| text.contains("look again")), "{:?}", refused.json());
    refused.assert_problem(StatusCode::CONFLICT);
    assert_eq!(world.store.calls().len(), before, "nothing was asked for");
}

#[tokio::test]
async fn a_directory_is_tried_before_it_is_saved_and_no_secret_comes_back() {
    // FD-11, V-83
    let world = World::new(Open).await;
    let api = Api::new(&world, "admin");
    let test = async |path: &str, body: Value| api.call(Method::POST, path, Some(body)).await;
    let directory = json!({"name": "new", "urls": ["ldaps://new"], "base": "dc=x"});
    let draft = json!({"directory": directory, "query_password": "typed now", "user": "ann", "password": PASSWORD});
    let answer = test("/directories/test", draft).await;
    let found = answer.json();
    let line = json!({"about": "users", "verdict": "good", "text": "412 users found."});
    assert_eq!((&found["good"], &found["lines"]), (&json!(true), &json!([line])));
    assert!(!answer.text.contains("typed now") && !answer.text.contains(PASSWORD));
    let asked = world.directory.inspected.lock().expect("a lock").pop().expect("it was asked");
    let secret = |secret: Option<proto::common::Secret>| secret.map(domain::Secret::from);
    assert!(
        secret(asked.query_password) == Some("typed now".into()) && secret(asked.password) == Some(PASSWORD.into())
    );
    assert_eq!((asked.directory.as_str(), asked.name.as_str()), ("", "ann"));
    assert_eq!(serde_json::from_str::<Value>(&asked.draft_json).ok(), Some(directory));

    assert_eq!(test("/directories/corp/test", json!({})).await.status, StatusCode::OK);
    let asked = world.directory.inspected.lock().expect("a lock").pop().expect("it was asked");
    assert_eq!((asked.directory.as_str(), asked.draft_json.as_str(), asked.password), ("corp", "", None));
    for (path, bad) in [
        ("/directories/corp/test", json!({"password": "x"})),
        ("/directories/corp/test", json!({"urls": ["ldaps://evil"]})),
        ("/directories/test", json!({"user": "ann"})),
    ] {
        test(path, bad).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
    *world.directory.fail_next.lock().expect("a lock") = Some(tonic::Code::InvalidArgument);
    let refused = test("/directories/test", json!({"directory": {"name": "corp"}})).await;
    let problem = refused.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["detail"], "query_bind.password: give it again");
}

#[tokio::test]
async fn directories_that_were_saved_are_tried_at_the_same_time() {
    // FS-05
    let world = World::new(Open).await;
    let api = Api::new(&world, "owner");
    let names = ["first", "second", "third"];
    let directories = names.map(|name| {
        format!(
            "[[directory]]\nname = \"{name}\"\nurls = [\"ldaps://dc\"]\nbase = \"dc=x\"\nquery_bind = {{ kind = \"anonymous\" }}\n"
        )
    });
    *world.store.changed_directories.lock().expect("a lock") = names.map(str::to_owned).into();
    // None of them is found good before all are asked.
    *world.directory.tried_together.lock().expect("a lock") = Some(Arc::new(Barrier::new(names.len())));
    let document = format!("revision = 41\n{}", directories.concat());
    let applied = api.send(Method::POST, "/settings", Some(("text/toml", document)), &[]).await.json();
    for name in names {
        assert_eq!(applied["directories"][name]["good"], true, "{applied}");
    }
    assert_eq!(applied["generated"]["client.vpn.secret"], "s3cret");
}

#[tokio::test]
async fn users_of_a_directory_are_found_and_imported_by_their_ids() {
    // FS-16
    let world = World::new(Open).await;
    let api = Api::new(&world, "admin");
    let first = api.get("/directories/corp/users?search=a").await.json();
    assert_eq!((&first["total"], &first["next"]), (&json!(2), &json!("ann")));
    let (ann, new) =
        ("entryUUID:00000000-0000-0000-0000-000000000001", "entryUUID:00000000-0000-0000-0000-000000000002");
    assert_eq!((&first["items"][0]["id"], &first["items"][0]["known"]["sync_item"]), (&json!(ann), &json!("staff")));
    let last = api.get("/directories/corp/users?search=a&after=ann").await.json();
    assert_eq!((&last["items"][0]["id"], &last["items"][0]["known"]), (&json!(new), &json!(null)));
    api.get("/directories/corp/users?limit=1001").await.assert_problem(StatusCode::BAD_REQUEST);

    let settings = "revision = 41\n[[directory]]\nname = \"corp\"\npreset = \"openldap\"\nurls = [\"ldaps://dc\"]\nbase = \"dc=corp\"\n\
                    query_bind = { kind = \"anonymous\" }\n";
    *world.store.document.lock().expect("a lock") = settings.into();
    let import = async |more: Value| {
        let mut body = json!({"directory": "corp", "sync_item": "hand"});
        body.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        api.call(Method::POST, "/sync/import", Some(body)).await
    };
    let shown = import(json!({"search": "a", "dry_run": true})).await.json();
    assert_eq!((&shown["imported"], &shown["known"]), (&json!(1), &json!(1)), "{shown}");
    let verdicts = shown["users"].as_array().expect("a list").iter().map(|user| user["verdict"].clone());
    assert_eq!(verdicts.collect::<Vec<_>>(), ["known", "import"]);
    assert!(
        world.store.applied.lock().expect("a lock").is_empty()
            && !world.store.calls().iter().any(|it| it.starts_with("sync"))
    );
    let both = import(json!({"names": ["ann", "new", "new"], "update": true})).await.json();
    assert_eq!((&both["imported"], &both["listed"], &both["revision"]), (&json!(2), &json!(1), &json!(42)));
    let applied = world.store.applied.lock().expect("a lock").pop().expect("it was applied");
    assert!(applied.contains("revision = 41") && applied.contains(ann) && applied.contains(new), "{applied}");
    assert_eq!(world.store.calls().last(), Some(&"sync \"hand\" full by api-key:test-admin".to_owned()));
    import(json!({"names": ["new"], "run": false})).await.json();
    assert!(world.store.calls().last().is_some_and(|call| call.starts_with("apply")), "no run was asked for");

    // FD-02: one silent domain makes the answer partial, and the answer says so.
    let users = api.get("/directories/corp/users?search=partial").await.json();
    let places = api.get("/directories/corp/places?kind=groups&search=partial").await.json();
    let partial = import(json!({"search": "partial", "dry_run": true})).await.json();
    let told = [&users["unread"], &places["unread"], &partial["warnings"]];
    assert_eq!(told, [&json!(["the domain child.corp.example could not be read"]); 3]);
    assert_eq!((&first["unread"], &shown["warnings"]), (&json!([]), &json!([])));

    let before = world.store.applied.lock().expect("a lock").len();
    for (bad, status) in [
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"names": ["new", "nobody"]}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"filter": "(many=*)"}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"search": "a", "directory": "other"}), StatusCode::NOT_FOUND),
        (json!({"search": "a", "sync_item": "no name"}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        import(bad).await.assert_problem(status);
    }
    assert_eq!(world.store.applied.lock().expect("a lock").len(), before, "nothing was changed");
    *world.store.weaker.lock().expect("a lock") = vec!["sync_item.hand.source.ids".into()];
    let looked = import(json!({"names": ["new"], "dry_run": true})).await.json();
    assert_eq!(looked["weaker"], json!(["sync_item.hand.source.ids"]), "FC-08: {looked}");
    let refused = import(json!({"names": ["new"]})).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused["errors"][0].as_str().is_some_and(|text| text.starts_with("reason: is missing")), "{refused}");
    assert_eq!(world.store.applied.lock().expect("a lock").len(), before, "nothing was changed");
    import(json!({"names": ["new"], "run": false, "reason": "it has no phone"})).await.json();
    assert_eq!(world.store.calls().last(), Some(&"because it has no phone".to_owned()));
    world.store.weaker.lock().expect("a lock").clear();
    *world.store.document.lock().expect("a lock") = settings.replace("41", "40");
    import(json!({"names": ["new"]})).await.assert_problem(StatusCode::CONFLICT);
}

#[tokio::test]
async fn whose_a_user_would_be_is_answered_item_by_item() {
    // FS-08
    let world = World::new(Open).await;
    let api = Api::new(&world, "admin");
    let answer = api.get("/sync/owner?user=ann").await.json();
    assert_eq!((&answer["directory"], &answer["owner"]), (&json!("second"), &json!("all")), "{answer}");
    let item = |place: usize| (answer["items"][place]["state"].clone(), answer["items"][place]["holds"].clone());
    assert_eq!(item(0), (json!("preview"), json!(true)), "one that is not on owns nobody");
    assert_eq!(item(1), (json!("on"), json!(false)));
    assert_eq!(answer["known"]["sync_item"], "staff", "as the last run left it");
    api.get("/sync/owner?user=nobody").await.assert_problem(StatusCode::NOT_FOUND);
    api.get("/sync/owner?user=ann&directory=corp").await.assert_problem(StatusCode::NOT_FOUND);
    api.get("/sync/owner?user=ann&directory=other").await.assert_problem(StatusCode::NOT_FOUND);
    api.get("/sync/owner").await.assert_problem(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn leavers_that_wait_are_read_and_all_some_or_none_of_them_let_go() {
    // FS-07, S-40
    let world = World::new(Open).await;
    let api = Api::new(&world, "admin");
    let first = api.get("/sync/approvals/a1/users?limit=249").await.json();
    assert_eq!(first["items"][0]["username"], "user001");
    assert_eq!((&first["items"][0]["action"], &first["next"]), (&json!("disable"), &json!("user249")));
    let last = api.get("/sync/approvals/a1/users?limit=249&after=user249").await.json();
    assert_eq!((&last["items"][0]["why"], &last["next"]), (&json!("deleted in the directory"), &json!(null)));

    let decide = |body: Value| api.call(Method::POST, "/sync/approvals/a1", Some(body));
    assert_eq!(decide(json!({"approve": true})).await.json()["applied"], 6);
    assert_eq!(decide(json!({"approve": true, "usernames": ["user001"]})).await.json()["applied"], 6);
    assert_eq!(decide(json!({"approve": false})).await.json()["applied"], 6);
    let calls = world.store.calls();
    for expected in ["decide true []", "decide true [\"user001\"]", "decide false []"] {
        assert!(calls.contains(&format!("{expected} by api-key:test-admin")), "{calls:?}");
    }
    // An empty selection is none, never all.
    for bad in [
        json!({"approve": true, "usernames": []}),
        json!({"approve": false, "usernames": ["user001"]}),
        json!({"usernames": ["user001"]}),
    ] {
        decide(bad).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(world.store.calls().len(), calls.len());
    // The store's No of S-40 goes on in its own words.
    let own = api.call(Method::POST, "/sync/approvals/own", Some(json!({"approve": true}))).await;
    assert_eq!(own.assert_problem(StatusCode::FORBIDDEN)["detail"], "another administrator has to decide");
}

#[tokio::test]
async fn a_body_of_the_wrong_kind_size_or_content_is_a_problem_that_repeats_no_value() {
    // FC-03, B-91
    let world = World::new(Open).await;
    let api = Api::new(&world, "owner");
    let put = async |kind: &str, body: String| api.send(Method::PUT, "/users/ann/state", Some((kind, body)), &[]).await;
    let json_text = r#"{"state":"disabled"}"#.to_owned();
    put("text/plain", json_text.clone()).await.assert_problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    put("application/x-www-form-urlencoded", "state=disabled".into())
        .await
        .assert_problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    put("application/json", "{".into()).await.assert_problem(StatusCode::BAD_REQUEST);
    put("application/json", "{}".into()).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    let answer = put("application/json", r#"{"state":"enabled","role":"owner"}"#.into()).await;
    let problem = answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("role")), "mass assignment: {problem}");
    let answer = put("application/json", r#"{"state":"CANARY-VALUE"}"#.into()).await;
    answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!answer.text.contains("CANARY-VALUE"), "{}", answer.text);
    put("application/json", format!(r#"{{"reason":"{}"}}"#, "x".repeat(1_100_000)))
        .await
        .assert_problem(StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(world.store.user("ann").expect("ann").state, "enabled");
    api.get("/nothing").await.assert_problem(StatusCode::NOT_FOUND);
    api.call(Method::DELETE, "/users", None).await.assert_problem(StatusCode::METHOD_NOT_ALLOWED);
    world.store.down.store(true, Ordering::SeqCst);
    let away = api.get("/users").await;
    away.assert_problem(StatusCode::SERVICE_UNAVAILABLE);
    assert!(!away.text.contains("10.0.0.9"));
}

#[tokio::test]
async fn a_user_is_blocked_and_let_in_again_with_a_reason_both_ways() {
    // FV-25
    let world = World::new(Open).await;
    world.store.give_device("ann", "device-1");
    let api = Api::new(&world, "help_desk");
    let lost = json!({"reason": "lost the phone", "until": "2026-12-01T00:00:00Z", "remove_devices": true});
    let blocked = api.call(Method::POST, "/users/ann/block", Some(lost)).await.json();
    assert_eq!(blocked["block"]["until"], "2026-12-01T00:00:00Z");
    assert_eq!(
        (&blocked["block"]["by"], &blocked["block"]["text"]),
        (&json!("api-key:test-help_desk"), &json!("lost the phone"))
    );
    assert_eq!(blocked["devices"], json!([]));
    let open = api.call(Method::POST, "/users/ann/unblock", Some(json!({"reason": "found it"}))).await.json();
    assert_eq!(open["block"], Value::Null);
    let forever = json!({"reason": "left", "until_unblocked": true});
    let forever = api.call(Method::POST, "/users/ann/block", Some(forever)).await.json();
    assert_eq!((forever["block"].is_object(), &forever["block"]["until"]), (true, &Value::Null));
    for bad in [
        json!({"reason": " "}),
        json!({"reason": "x", "until": "tomorrow"}),
        json!({"reason": "x", "until": "2026-12-01T00:00:00Z", "until_unblocked": true}),
    ] {
        api.call(Method::POST, "/users/ann/block", Some(bad)).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let calls = world.store.calls();
    assert!(calls.contains(&"block until -1 devices false by api-key:test-help_desk: left".to_owned()), "{calls:?}");
    assert!(calls.contains(&"unblock by api-key:test-help_desk: found it".to_owned()), "{calls:?}");
}

#[tokio::test]
async fn the_help_desk_lets_in_for_fifteen_minutes_at_most() {
    // FV-28, FV-29, V-53
    let world = World::new(Open).await;
    let (desk, admin) = (Api::new(&world, "help_desk"), Api::new(&world, "admin"));
    let bypass = |seconds: u32| Some(json!({"seconds": seconds, "client": "vpn", "reason": "at the airport"}));
    let started = desk.call(Method::POST, "/users/ann/bypass", bypass(900)).await;
    assert_eq!((started.status, &started.json()["expires"]), (StatusCode::CREATED, &json!("2026-11-20T17:00:02Z")));
    let seen = desk.get("/users/ann").await.json();
    assert_eq!((&seen["bypasses"][0]["client"], &seen["bypasses"][0]["uses_left"]), (&json!("vpn"), &json!(1)));
    desk.call(Method::POST, "/users/ann/bypass", bypass(901)).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(admin.call(Method::POST, "/users/ben/bypass", bypass(3600)).await.status, StatusCode::CREATED);
    let ended = desk.call(Method::DELETE, "/users/ann/bypass/bypass-1", None).await.json();
    assert_eq!(ended["bypasses"], json!([]));
    desk.call(Method::DELETE, "/users/ann/bypass/bypass-1", None).await.assert_problem(StatusCode::NOT_FOUND);

    let code = desk.call(Method::POST, "/users/ann/temporary-codes", Some(json!({"reason": "x", "uses": 2}))).await;
    assert_eq!((code.status, &code.json()["code"]), (StatusCode::CREATED, &json!("123456789")));
    admin.call(Method::POST, "/users/ann/temporary-codes", Some(json!({"reason": "x"}))).await;
    for bad in [json!({"reason": "x", "uses": 11}), json!({"reason": "x", "seconds": 299}), json!({"reason": ""})] {
        let answer = admin.call(Method::POST, "/users/ann/temporary-codes", Some(bad)).await;
        answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let calls = world.store.calls();
    assert!(calls.contains(&"code 2 uses 900 s by api-key:test-help_desk: x".to_owned()), "{calls:?}");
    assert!(calls.contains(&"code 1 uses 3600 s by api-key:test-admin: x".to_owned()), "{calls:?}");
}

#[tokio::test]
async fn a_user_is_changed_where_something_is_named_and_nowhere_else() {
    let world = World::new(Open).await;
    let api = Api::new(&world, "user_manager");
    let change = json!({"phone": "+4930901820", "phone_extension": "890", "allowed_methods": ["push", "code"], "pin_required": true});
    let changed = api
        .send(Method::PATCH, "/users/ann", Some(("application/json", change.to_string())), &[(IF_MATCH, "\"7\"")])
        .await;
    assert_eq!((changed.status, &changed.json()["phone"]), (StatusCode::OK, &json!("+4930901820")));
    assert_eq!(changed.json()["pin"]["required"], true);
    let again = api
        .call(
            Method::PATCH,
            "/users/ann",
            Some(json!({"default_method": "push", "language_app": "de", "language_portal": "fr"})),
        )
        .await
        .json();
    assert_eq!((&again["phone_extension"], &again["allowed_methods"]), (&json!("890"), &json!(["push", "code"])));
    assert_eq!(
        (&again["default_method"], &again["language_app"], &again["language_call"]),
        (&json!("push"), &json!("de"), &json!(""))
    );
    assert_eq!(again["language_portal"], "fr");
    let stale = Some(("application/json", r#"{"phone":""}"#.to_owned()));
    api.send(Method::PATCH, "/users/ann", stale, &[(IF_MATCH, "\"6\"")]).await.assert_problem(StatusCode::CONFLICT);
    for bad in
        [json!({"default_method": "telepathy"}), json!({"allowed_methods": ["push", "x"]}), json!({"state": "enabled"})]
    {
        api.call(Method::PATCH, "/users/ann", Some(bad)).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let exempt = json!({"clients": ["gitlab"], "until": "2026-12-01T00:00:00Z", "reason": "a robot"});
    let exempt = api.call(Method::PUT, "/users/ann/exempt", Some(exempt)).await.json();
    assert_eq!(
        (&exempt["exempt_clients"], &exempt["exempt_until"]),
        (&json!(["gitlab"]), &json!("2026-12-01T00:00:00Z"))
    );
}

#[tokio::test]
async fn what_a_user_knows_is_shown_in_the_answer_that_makes_it_and_never_again() {
    // FV-09, FV-21, V-31
    let world = World::new(Open).await;
    let api = Api::new(&world, "owner");
    assert_eq!(api.call(Method::POST, "/users/ann/pin", None).await.json(), json!({"pin": "739164"}));
    let given = api.call(Method::POST, "/users/ann/pin", Some(json!({"pin": "5739"}))).await;
    assert_eq!(given.json(), json!({"pin": null}));
    let weak = api.call(Method::POST, "/users/ann/pin", Some(json!({"pin": "1111"}))).await;
    assert_eq!(weak.assert_problem(StatusCode::UNPROCESSABLE_ENTITY)["detail"], "one digit repeated");
    let codes = api.call(Method::POST, "/users/ann/recovery-codes", None).await;
    assert_eq!((codes.status, codes.json()["codes"].as_array().map(Vec::len)), (StatusCode::CREATED, Some(10)));
    let answers = json!({"answers": [{"question": "First school?", "answer": "Elm Street"}]});
    let answered = api.call(Method::PUT, "/users/ann/answers", Some(answers)).await;
    assert_eq!(answered.json()["questions"], json!(["First school?"]));
    let seen = api.get("/users/ann").await.text;
    for secret in ["739164", "5739", "ABCDE-1234", "Elm Street"] {
        assert!(!seen.contains(secret) && !answered.text.contains(secret), "{secret}");
    }
    let calls = world.store.calls();
    assert!(calls.contains(&"pin given true by api-key:test-owner".to_owned()), "{calls:?}");
}

#[tokio::test]
async fn a_phone_becomes_a_device_or_a_number_once_it_was_proven() {
    // V-20, FV-02, FV-03, FV-05
    let world = World::new(Open).await;
    world.store.give_device("ann", "device-1");
    let api = Api::new(&world, "user_manager");
    let started = api.call(Method::POST, "/users/ann/activations", None).await;
    assert_eq!((started.status, &started.json()["code"]), (StatusCode::CREATED, &json!("WXYZ-2345")));
    let pi = api.call(Method::POST, "/users/ann/activations", Some(json!({"kind": "pi"}))).await.json();
    assert!(pi["uri"].as_str().is_some_and(|uri| uri.contains("#pi-of-")) && pi["code"] == "");
    api.call(Method::POST, "/users/ann/activations", Some(json!({"kind": "fax"})))
        .await
        .assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    *world.verification.device_state.lock().expect("a lock") = "redeemed".into();
    let state = api.get("/users/ann/activations/device-1").await.json();
    assert_eq!((&state["state"], state.get("code")), (&json!("redeemed"), None));
    api.get("/users/ann/activations/other").await.assert_problem(StatusCode::NOT_FOUND);
    assert_eq!(api.get("/users/ann/devices").await.json()["items"][0]["name"], "Ann's phone");
    let gone = api.call(Method::DELETE, "/users/ann/devices/device-1", None).await.json();
    assert_eq!(gone["devices"], json!([]));

    let number = json!({"method": "call", "number": "+4930901820", "extension": "890", "backup": true});
    let called = api.call(Method::POST, "/users/ann/phones", Some(number)).await;
    assert_eq!((called.status, &called.json()["verification_id"]), (StatusCode::CREATED, &json!("phone-1")));
    assert!(!called.text.contains("901820"), "masked");
    let premium =
        api.call(Method::POST, "/users/ann/phones", Some(json!({"method": "sms", "number": "+9001234567"}))).await;
    assert_eq!(premium.assert_problem(StatusCode::UNPROCESSABLE_ENTITY)["reason"], "rate_limited");
    let wrong = api.call(Method::POST, "/users/ann/phones/phone-1/confirm", Some(json!({"code": "000000"}))).await;
    assert_eq!(wrong.assert_problem(StatusCode::UNPROCESSABLE_ENTITY)["reason"], "wrong_code");
    assert_eq!(api.call(Method::POST, "/users/ann/phones/phone-1/confirm", None).await.status, StatusCode::OK);

    *world.verification.tried.lock().expect("a lock") = "user_approved".into();
    let asked = Api::new(&world, "help_desk")
        .call(Method::POST, "/users/ann/try", Some(json!({"method": "push", "device_id": "device-1"})))
        .await
        .json();
    assert_eq!(
        (&asked["accepted"], &asked["reason"], &asked["steps"][1]["ms"]),
        (&json!(true), &json!("user_approved"), &json!(900))
    );
    let silent =
        api.call(Method::POST, "/users/ann/try", Some(json!({"method": "call", "device_id": "device-1"}))).await.json();
    assert_eq!((&silent["accepted"], &silent["reason"]), (&json!(false), &json!("no_answer")));
    let calls = world.store.calls();
    assert!(
        calls.contains(&"call +4930901820 x\"890\" backup=true by api-key:test-user_manager".to_owned()),
        "{calls:?}"
    );
}

#[tokio::test]
async fn a_token_goes_from_the_makers_file_to_a_user_and_back() {
    // FV-07, FI-01
    let world = World::new(Open).await;
    let api = Api::new(&world, "user_manager");
    let seed = "3132333435363738393031323334353637383930";
    let content = format!(
        "# version: 2\n,,,T-0001,{seed},totp,6,30\nnobody,,,T-0002,{seed},totp,6,30\n,,,T-0003,not-hex,totp,6,30\n"
    );
    let file = |dry_run: bool| Some(json!({"preset": "pi-oath", "content": content, "dry_run": dry_run}));
    let plan = api.call(Method::POST, "/tokens/import", file(true)).await.json();
    let verdicts: Vec<&str> =
        plan["items"].as_array().expect("rows").iter().filter_map(|row| row["verdict"].as_str()).collect();
    assert_eq!(verdicts, ["add", "refused", "refused"]);
    assert_eq!(
        (&plan["items"][2]["row"], &plan["items"][2]["text"]),
        (&json!(4), &json!("the secret is not hexadecimal"))
    );
    assert_eq!((&plan["refused"], &plan["applied"]), (&json!(2), &json!(false)));
    api.get("/tokens/T-0001").await.assert_problem(StatusCode::NOT_FOUND);
    let done = api.call(Method::POST, "/tokens/import", file(false)).await;
    assert_eq!((&done.json()["added"], &done.json()["applied"]), (&json!(1), &json!(true)));
    assert!(!done.text.contains(seed), "no seed comes out");
    assert_eq!(api.call(Method::POST, "/tokens/import", file(false)).await.json()["unchanged"], 1);

    assert_eq!(api.get("/tokens?state=unassigned").await.json()["items"][0]["serial"], "T-0001");
    let found = api.call(Method::POST, "/tokens/find", Some(json!({"code": RIGHT_CODE}))).await.json();
    assert_eq!(found["serials"], json!(["T-0001"]));
    api.call(Method::POST, "/tokens/T-0001/confirm", Some(json!({"code": RIGHT_CODE})))
        .await
        .assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    let assigned = api.call(Method::PUT, "/tokens/T-0001/user", Some(json!({"user": "ann"}))).await.json();
    assert_eq!((&assigned["username"], &assigned["pending"]), (&json!("ann"), &json!(true)));
    api.call(Method::PUT, "/tokens/T-0001/user", Some(json!({"user": "ben"})))
        .await
        .assert_problem(StatusCode::CONFLICT);
    let wrong = api.call(Method::POST, "/tokens/T-0001/confirm", Some(json!({"code": "000000"}))).await;
    assert_eq!(wrong.assert_problem(StatusCode::UNPROCESSABLE_ENTITY)["reason"], "wrong_code");
    let proven = api.call(Method::POST, "/tokens/T-0001/confirm", Some(json!({"code": RIGHT_CODE}))).await.json();
    assert_eq!(proven["pending"], false);
    let resync =
        async |codes: Value| api.call(Method::POST, "/tokens/T-0001/resync", Some(json!({"codes": codes}))).await;
    assert_eq!(resync(json!([RIGHT_CODE, "111111"])).await.status, StatusCode::OK);
    resync(json!(["000000", "111111"])).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    resync(json!([RIGHT_CODE])).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    let free = api.call(Method::DELETE, "/tokens/T-0001/user", None).await.json();
    assert_eq!((&free["username"], &free["user_id"]), (&Value::Null, &Value::Null));
    assert_eq!(api.call(Method::DELETE, "/tokens/T-0001", None).await.status, StatusCode::NO_CONTENT);
    api.call(Method::DELETE, "/tokens/T-0001", None).await.assert_problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn files_that_cannot_be_read_say_why_and_repeat_nothing() {
    // FI-01, FI-02, V-87
    let world = World::new(Open).await;
    let api = Api::new(&world, "owner");
    let refused = async |path: &str, body: Value| {
        let answer = api.call(Method::POST, path, Some(body)).await;
        answer.assert_problem(StatusCode::UNPROCESSABLE_ENTITY)["detail"].as_str().expect("a sentence").to_owned()
    };
    assert!(refused("/tokens/import", json!({"preset": "excel", "content": ""})).await.contains("entra-oath"));
    let file = include_str!("../../../tests/vectors/pskc/figure6.xml");
    let pskc = |more: Value| {
        let mut body = json!({"preset": "pskc", "content": file});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        body
    };
    assert!(refused("/tokens/import", pskc(json!({}))).await.contains("pre-shared key"));
    assert!(refused("/tokens/import", pskc(json!({"key": "CANARY"}))).await.starts_with("key: hexadecimal"));
    assert!(refused("/tokens/import", pskc(json!({"key": "00".repeat(16)}))).await.contains("does not open"));
    assert!(refused("/tokens/import", pskc(json!({"key": "00", "password": "x"}))).await.contains("not together"));
    let opened =
        api.call(Method::POST, "/tokens/import", Some(pskc(json!({"key": "12345678901234567890123456789012"})))).await;
    assert_eq!(opened.json()["added"], 1);

    let users = json!({
        "content": "Konto;Handy;Status\nann;+49 (30) 901820 x890;disabled\ncarl;;\nben;call me;\n",
        "columns": {"Konto": "username", "Handy": "phone"}, "old_disabled": "exempt",
    });
    let report = api.call(Method::POST, "/users/import", Some(users)).await.json();
    let verdicts: Vec<&str> =
        report["items"].as_array().expect("rows").iter().filter_map(|row| row["verdict"].as_str()).collect();
    assert_eq!(verdicts, ["change", "refused", "refused"]);
    let calls = world.store.calls();
    let ann = "import ann phone=+4930901820 phone_extension=890 state=exempt dry_run=false by api-key:test-owner";
    assert!(calls.contains(&ann.to_owned()), "{calls:?}");
    let columns = json!({"content": "a\n", "columns": {"a": "shoe"}});
    assert!(refused("/users/import", columns).await.contains("backup_phone"));
    assert!(refused("/users/import", json!({"content": "name\nann\n"})).await.contains("username"));
}

#[tokio::test]
async fn what_goes_on_is_listed_without_what_would_help_an_attacker() {
    let world = World::new(Open).await;
    world.store.remember("ann", "vpn");
    world.store.remember("ann", "gitlab");
    world.store.remember("ben", "vpn");
    let api = Api::new(&world, "owner");
    let open = api.get("/prompts?user=ann").await;
    assert_eq!(open.json()["items"].as_array().map(Vec::len), Some(1));
    assert_eq!((&open.json()["items"][0]["outcome"], open.json()["items"][0].get("number")), (&json!("open"), None));
    assert_eq!(api.get("/prompts?all=true").await.json()["items"].as_array().map(Vec::len), Some(4));
    assert_eq!(api.get("/prompts?all=true&limit=3").await.json()["items"].as_array().map(Vec::len), Some(3));
    api.get("/prompts?user=nobody").await.assert_problem(StatusCode::NOT_FOUND);
    assert_eq!(api.get("/messages?limit=2").await.json()["items"].as_array().map(Vec::len), Some(2));

    assert_eq!(api.get("/remembered?user=ann").await.json()["items"].as_array().map(Vec::len), Some(2));
    let clear = async |what: Value| api.call(Method::POST, "/remembered/clear", Some(what)).await;
    for bad in [json!({}), json!({"all": true, "user": "ann"})] {
        clear(bad).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(clear(json!({"user": "ann", "client": "vpn"})).await.json()["cleared"], 1);
    assert_eq!(clear(json!({"all": true})).await.json()["cleared"], 2);

    assert_eq!(api.get("/keys").await.json()["items"][0]["current"], true);
    let keys = api.call(Method::POST, "/keys/rotate", None).await.json();
    assert_eq!((&keys["items"][0]["current"], &keys["items"][1]["current"]), (&json!(false), &json!(true)));
    let sent = json!({"channel": "sms", "provider": "carrier", "to": "+4930901820"});
    let sent = api.call(Method::POST, "/providers/test", Some(sent)).await.json();
    assert_eq!((&sent["accepted"], &sent["provider"]), (&json!(true), &json!("carrier")));
    let calls = world.store.calls();
    assert!(calls.contains(&"test sms by \"carrier\" to +4930901820".to_owned()), "{calls:?}");
    assert!(calls.contains(&"rotate by api-key:test-owner".to_owned()), "{calls:?}");
}

fn question(ask: Ask) -> outcome::Result {
    outcome::Result::Ask(Ask { step: 1, expires_unix_ms: support::NOW_MS + 120_000, ..ask })
}

fn of_the_wiki(user_id: &str) -> Allow {
    Allow { client: "wiki".into(), ..FakeVerification::allow(user_id) }
}

#[tokio::test]
async fn an_application_signs_somebody_in_with_password_and_code() {
    // FC-05
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let api = Api::new(&world, "application");
    let new = json!({"application": "wiki", "user": " ann ", "password": PASSWORD, "address": "203.0.113.9", "method": "code"});
    let asked = api.call(Method::POST, "/authentications", Some(new)).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{}", asked.text);
    let first = asked.json();
    assert_eq!((&first["state"], &first["question"]["kind"]), (&json!("asked"), &json!("code")));
    let seen = world.verification.begun.lock().expect("a lock").remove(0);
    assert_eq!((seen.client.as_str(), seen.protocol.as_str(), seen.username.as_str()), ("wiki", "api", "ann"));
    assert_eq!((seen.person_ip.as_str(), seen.wanted_method.as_str(), seen.vouched), ("203.0.113.9", "code", false));
    assert_eq!((world.directory.checks(), seen.password_stamp.as_str()), (1, support::STAMP), "V-52");

    let answer = async |id: &Value, code: &str| {
        let path = format!("/authentications/{}/answer", id.as_str().expect("an id"));
        api.call(Method::POST, &path, Some(json!({ "answer": code }))).await
    };
    let second = answer(&first["id"], "000000").await.json();
    assert_eq!(second["question"]["previous"], "wrong_code");
    assert_ne!(second["id"], first["id"], "a round of its own");
    answer(&first["id"], RIGHT_CODE).await.assert_problem(StatusCode::NOT_FOUND);
    let allowed = answer(&second["id"], RIGHT_CODE).await.json();
    let user_id = world.store.user_id("ann");
    for (field, value) in
        [("state", "allowed"), ("reason", "valid_code"), ("method", "code"), ("source", "live"), ("user_id", &user_id)]
    {
        assert_eq!(allowed[field], value, "{allowed}");
    }
    answer(&second["id"], RIGHT_CODE).await.assert_problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_approval_is_waited_for_and_the_word_of_the_application_stands_for_the_password() {
    // FC-05
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let user_id = world.store.user_id("ann");
    let api = Api::new(&world, "application");
    let approval =
        || Ask { method: "push".into(), kind: AskKind::Approval.into(), number: "42".into(), ..Ask::default() };
    world.verification.say(question(approval()));
    let asked =
        api.call(Method::POST, "/authentications", Some(json!({"application": "wiki", "user": "ann"}))).await.json();
    assert_eq!((&asked["question"]["kind"], &asked["question"]["number"]), (&json!("approval"), &json!("42")));
    let seen = world.verification.begun.lock().expect("a lock").remove(0);
    assert!(seen.vouched && seen.person_ip.is_empty() && seen.password_stamp == support::STAMP, "{seen:?}");
    assert_eq!(world.directory.checks(), 0, "nobody is bound as");

    let path = format!("/authentications/{}", asked["id"].as_str().expect("an id"));
    world.verification.say(question(approval()));
    let still = api.get(&format!("{path}?wait=7")).await.json();
    assert_eq!((&still["state"], &still["id"]), (&json!("asked"), &asked["id"]));
    let waited = world.verification.awaited.lock().expect("a lock").remove(0);
    assert_eq!((waited.client.as_str(), waited.step, waited.wait_ms), ("wiki", 1, 7_000));
    api.get(&format!("{path}?wait=56")).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    world.verification.say(outcome::Result::Allow(of_the_wiki(&user_id)));
    assert_eq!(api.get(&format!("{path}?wait=55")).await.json()["state"], "allowed");
    assert_eq!(api.call(Method::DELETE, &path, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.verification.cancelled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn no_answer_for_somebody_else_and_no_fault_lets_anybody_in() {
    // V-02, FC-05
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let user_id = world.store.user_id("ann");
    let api = Api::new(&world, "application");
    let begin = async |user: &str, password: &str| {
        let new = json!({"application": "wiki", "user": user, "password": password});
        api.call(Method::POST, "/authentications", Some(new)).await
    };
    for (user, password, reason) in [("ann", "wrong", "bad_password"), ("nobody", PASSWORD, "unknown_user")] {
        let refused = begin(user, password).await.json();
        assert_eq!((&refused["state"], &refused["reason"]), (&json!("refused"), &json!(reason)));
        assert!(world.verification.reports().contains(&(user.to_owned(), reason.to_owned())));
    }
    assert!(world.verification.begun.lock().expect("a lock").is_empty());
    begin("ann", "").await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    begin("", PASSWORD).await.assert_problem(StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(world.directory.checks(), 2, "an empty password would be an anonymous bind");

    world.verification.fail(tonic::Code::Unavailable);
    let problem = begin("ann", PASSWORD).await.assert_problem(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["reason"], "verification_unavailable");
    let faults = [
        FakeVerification::allow(&user_id),
        Allow { expires_unix_ms: support::NOW_MS, ..of_the_wiki(&user_id) },
        Allow { reason: "wrong_code".into(), ..of_the_wiki(&user_id) },
    ];
    for allow in faults {
        world.verification.say(outcome::Result::Allow(allow.clone()));
        let problem = begin("ann", PASSWORD).await.assert_problem(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(problem["reason"], "internal_error", "{allow:?}");
    }
    *world.verification.wrong_transaction.lock().expect("a lock") = Some(uuid::Uuid::from_u128(7).to_string());
    world.verification.say(outcome::Result::Allow(of_the_wiki(&user_id)));
    begin("ann", PASSWORD).await.assert_problem(StatusCode::SERVICE_UNAVAILABLE);
    // Rules hold here as at any client.
    world.verification.say(outcome::Result::Allow(Allow {
        reason: "exempt".into(),
        source: "exempt".into(),
        ..of_the_wiki(&user_id)
    }));
    let allowed = begin("ann", PASSWORD).await.json();
    assert_eq!((&allowed["state"], &allowed["reason"]), (&json!("allowed"), &json!("exempt")));
}

#[tokio::test]
async fn a_key_asks_for_its_own_applications_from_their_networks_only() {
    // FC-05, V-82
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let api = Api::new(&world, "application");
    for application in ["theirs", "elsewhere", "vpn", "gitlab", "portal", "nothing", ""] {
        let new = json!({"application": application, "user": "ann", "password": PASSWORD});
        let problem = api.call(Method::POST, "/authentications", Some(new)).await.assert_problem(StatusCode::NOT_FOUND);
        assert!(problem["detail"].as_str().is_some_and(|text| text.starts_with("application: ")), "{problem}");
        let id = QUESTION.replace("wiki", application);
        world.verification.say(outcome::Result::Allow(of_the_wiki("ann")));
        api.get(&id).await.assert_problem(StatusCode::NOT_FOUND);
        api.call(Method::POST, &format!("{id}/answer"), Some(json!({"answer": "1"})))
            .await
            .assert_problem(StatusCode::NOT_FOUND);
        api.call(Method::DELETE, &id, None).await.assert_problem(StatusCode::NOT_FOUND);
    }
    let verification = &world.verification;
    assert!(verification.begun.lock().expect("a lock").is_empty() && world.directory.checks() == 0);
    assert_eq!((verification.answers.load(Ordering::SeqCst), verification.cancelled.load(Ordering::SeqCst)), (0, 0));
    assert!(verification.awaited.lock().expect("a lock").is_empty());
    for key in ["owner", "admin", "auditor"] {
        let new = json!({"application": "wiki", "user": "ann"});
        let answer = Api::new(&world, key).call(Method::POST, "/authentications", Some(new)).await;
        answer.assert_problem(StatusCode::FORBIDDEN);
    }
}
