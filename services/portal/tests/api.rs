//! The REST API: every route for every role, and what goes wrong.

mod support;

use domain::Role;
use domain::settings::FirstEnrolment::Open;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use support::{RIGHT_CODE, SEED, World, api_key};

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

/// Every route of the document, with a path and a body that work.
fn routes() -> Vec<(Method, &'static str, &'static str, Option<Value>)> {
    vec![
        (Method::GET, "/users", "/users", None),
        (Method::GET, "/users/{id}", "/users/ann", None),
        (Method::PUT, "/users/{id}/state", "/users/ann/state", Some(json!({"state": "enabled"}))),
        (Method::POST, "/users/{id}/unlock", "/users/ann/unlock", None),
        (Method::POST, "/users/{id}/invite", "/users/ann/invite", None),
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
        (Method::GET, "/settings", "/settings", None),
        (Method::POST, "/settings", "/settings?dry_run=true", Some(json!({"document": ""}))),
        (Method::GET, "/audit", "/audit", None),
        (Method::GET, "/sync", "/sync", None),
        (Method::POST, "/sync/run", "/sync/run", None),
        (Method::POST, "/sync/approvals/{id}", "/sync/approvals/a", Some(json!({"approve": true}))),
    ]
}

#[tokio::test]
async fn every_route_opens_to_exactly_the_roles_of_the_table() {
    // V-82. The expectation is written out here, apart from the code.
    const O_A: &[Role] = &[Role::Owner, Role::Admin];
    const O_A_U: &[Role] = &[Role::Owner, Role::Admin, Role::UserManager];
    const O_A_U_H: &[Role] = &[Role::Owner, Role::Admin, Role::UserManager, Role::HelpDesk];
    let allowed = |method: &Method, route: &str| match (method.as_str(), route) {
        ("GET", "/users" | "/users/{id}" | "/users/{id}/factors") => &Role::ALL[..],
        ("PUT", "/users/{id}/state") => O_A_U,
        ("POST", "/users/{id}/factors" | "/users/{id}/factors/{factor_id}/confirm") => O_A_U,
        ("POST", "/users/{id}/unlock" | "/users/{id}/invite") => O_A_U_H,
        ("DELETE", "/users/{id}/factors/{factor_id}") => O_A_U_H,
        ("GET", "/audit") => &[Role::Owner, Role::Admin, Role::Auditor],
        (_, "/clients" | "/clients/{name}" | "/settings" | "/sync" | "/sync/run" | "/sync/approvals/{id}") => O_A,
        other => panic!("{other:?} is not in this test"),
    };
    let world = World::new(Open).await;
    for role in Role::ALL {
        let api = Api::new(&world, role.code());
        for (method, route, path, body) in routes() {
            let answer = api.call(method.clone(), path, body).await;
            match allowed(&method, route).contains(&role) {
                true => assert!(
                    answer.status.is_success() || answer.status == StatusCode::UNPROCESSABLE_ENTITY,
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
            assert!(operation["description"].as_str().is_some_and(|text| text.contains("Roles: owner, admin")));
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
    // All at once, so that even a slow machine asks for more than fifty in a second.
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        calls.spawn(http.get(&url).header(AUTHORIZATION, "Bearer twk_auditor").send());
    }
    let answers = calls.join_all().await;
    let statuses: Vec<StatusCode> = answers.into_iter().map(|answer| answer.expect("an answer").status()).collect();
    assert!(statuses.iter().filter(|status| **status == StatusCode::OK).count() >= 50);
    assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS));
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
async fn clients_and_settings_are_shown_without_secrets_and_applied_as_a_whole() {
    let world = World::new(Open).await;
    let api = Api::new(&world, "owner");
    let clients = api.get("/clients").await;
    assert_eq!(clients.json()["items"][0]["name"], "vpn");
    assert_eq!(clients.json()["items"][1]["protocol"], "ldap");
    assert!(!clients.text.contains("secret"), "{}", clients.text);
    assert_eq!(api.get("/clients/gitlab").await.json()["sources"], json!(["10.0.7.9/32"]));
    api.get("/clients/none").await.assert_problem(StatusCode::NOT_FOUND);

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
async fn audit_and_synchronisation_are_reached() {
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
    assert_eq!(api.get("/sync").await.json()["leader"], "node-1");
    let asked = api.call(Method::POST, "/sync/run", Some(json!({"sync_item": "staff"}))).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED);
    let decided = api.call(Method::POST, "/sync/approvals/a1", Some(json!({"approve": false}))).await.json();
    assert_eq!(decided["applied"], 6);
    let calls = world.store.calls();
    assert!(calls.contains(&"sync \"staff\" by api-key:test-admin".to_owned()), "{calls:?}");
    assert!(calls.contains(&"decide false by api-key:test-admin".to_owned()), "{calls:?}");
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
