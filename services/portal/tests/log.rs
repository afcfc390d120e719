//! What is written down: one line for each sign-in, and never a secret. A program of its own, since it listens to the whole process.

mod support;

use domain::settings::FirstEnrolment::Invitation;
use http::StatusCode;
use serde_json::Value;
use std::io::Write;
use std::sync::{Arc, Mutex};
use support::{PASSWORD, RIGHT_CODE, SEED, World, api_key};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("a lock").write(octets)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("a lock")).into_owned()
    }

    /// The fields of the authentication lines that came since the last call.
    fn authentications(&self, from: &mut usize) -> Vec<Value> {
        let text = self.text();
        let lines = text[*from..].lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found = lines.filter(|line| line["event"] == "authentication").collect();
        *from = text.len();
        found
    }
}

#[tokio::test]
async fn each_sign_in_leaves_one_line_with_its_reason_and_nothing_leaves_a_secret() {
    // V-33
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // The client's own logs are not ours: what is listened to is this product and the server side of the libraries.
    tracing::subscriber::set_global_default(subscriber).expect("the first one");
    let world = World::new(Invitation).await;
    let mut secrets: Vec<String> =
        [PASSWORD, RIGHT_CODE, SEED, "wrong-canary", "135791", "K7QM-2Z9P", "GUESS-1"].map(str::to_owned).into();
    let mut seen = 0;
    let mut browser = world.browser();
    let keep = |browser: &support::Browser, secrets: &mut Vec<String>| {
        secrets.extend(browser.cookies.values().cloned());
        secrets.extend(
            ["/sign-in", "/code", "/invitation", "/enrol/start"].iter().filter_map(|form| browser.page.token(form)),
        );
    };

    browser.get("/").await;
    keep(&browser, &mut secrets);
    let reference = browser.sign_in("ann", "wrong-canary").await.reference().expect("a reference").to_owned();
    let [line] = &lines.authentications(&mut seen)[..] else { panic!("one line: {}", lines.text()) };
    assert_eq!((&line["result"], &line["reason"]), (&"failed".into(), &"bad_password".into()));
    assert_eq!(
        (&line["protocol"], &line["client"], &line["service"]),
        (&"portal".into(), &"portal".into(), &"portal".into())
    );
    assert_eq!((&line["user"], &line["name_form"]), (&"ann".into(), &"bare".into()));
    assert_eq!((&line["first.result"], &line["client_ip"]), (&"refused".into(), &"127.0.0.1".into()));
    assert_eq!(line["ref"], reference.as_str(), "what the person reads out is found in the log");
    assert!(line["request_id"].as_str().is_some_and(|id| id.len() == 36), "{line}");
    assert_eq!(line["level"], "INFO");

    browser.sign_in("nobody-canary", PASSWORD).await;
    let [line] = &lines.authentications(&mut seen)[..] else { panic!("one line") };
    assert_eq!(line["reason"], "unknown_user");
    assert!(line.get("user").is_none_or(Value::is_null), "a name nobody has may be a password: {line}");
    secrets.push("nobody-canary".into());

    browser.sign_in("ann", PASSWORD).await;
    keep(&browser, &mut secrets);
    let [line] = &lines.authentications(&mut seen)[..] else { panic!("one line") };
    assert_eq!((&line["result"], &line["reason"]), (&"denied".into(), &"not_enrolled".into()));
    world.store.invite("ann", "K7QM-2Z9P");
    browser.submit("/invitation", &[("invitation", "GUESS-1")]).await;
    browser.submit("/invitation", &[("invitation", "K7QM-2Z9P")]).await;
    keep(&browser, &mut secrets);
    browser.submit("/enrol/start", &[]).await;
    browser.submit("/enrol/confirm", &[("code", "135791")]).await;
    browser.submit("/enrol/confirm", &[("code", RIGHT_CODE)]).await;
    keep(&browser, &mut secrets);
    browser.submit("/sign-out", &[]).await;
    assert_eq!(lines.authentications(&mut seen), Vec::<Value>::new(), "enrolling is no sign-in");
    assert!(lines.text().contains(r#""event":"enrolment""#) && lines.text().contains(r#""event":"invitation""#));

    browser.sign_in("ann", PASSWORD).await;
    keep(&browser, &mut secrets);
    assert_eq!(lines.authentications(&mut seen), Vec::<Value>::new(), "not over yet");
    browser.submit("/code", &[("code", "135791")]).await;
    world.clock.advance(7_000);
    browser.submit("/code", &[("code", RIGHT_CODE)]).await;
    keep(&browser, &mut secrets);
    let [line] = &lines.authentications(&mut seen)[..] else { panic!("one line for both rounds") };
    assert_eq!((&line["result"], &line["reason"]), (&"success".into(), &"valid_code".into()));
    assert_eq!((&line["rounds"], &line["ms"], &line["second.method"]), (&2.into(), &7_000.into(), &"code".into()));
    assert_eq!((&line["assurance"], &line["source"]), (&"code".into(), &"live".into()));

    for role in ["owner", "nobody", "auditor"] {
        let request = world.http().post(world.url("/api/v1/users/ann/factors"));
        let answer = request.header("authorization", format!("Bearer {}", api_key(role))).send().await;
        assert_ne!(answer.expect("an answer").status(), StatusCode::INTERNAL_SERVER_ERROR);
        secrets.push(api_key(role));
    }
    let text = lines.text();
    assert!(text.contains(r#""event":"api_refused""#));
    for line in text.lines().filter(|line| !of_the_client(line)) {
        for secret in &secrets {
            assert!(!line.contains(secret.as_str()), "{secret} in {line}");
        }
    }
}

/// The test's own HTTP client logs what it sends at TRACE.
fn of_the_client(line: &str) -> bool {
    ["reqwest", "hyper_util::client", "hyper::client"]
        .iter()
        .any(|target| line.contains(&format!(r#""target":"{target}"#)))
}
