//! What apps of the privacyIDEA protocol send, through the portal's own server: handed on, within bounds, and the answer handed back.

mod support;

use domain::settings::FirstEnrolment::Open;
use http::StatusCode;
use support::World;

const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"status":true,"value":[]},"detail":{}}"#;

#[tokio::test]
async fn an_app_is_answered_as_verification_says() {
    // FM-01: POST = form, GET = query; no session is needed, and none is made
    let world = World::new(Open).await;
    *world.verification.pi_says.lock().expect("a lock") = Some((200, ANSWER.into()));
    let poll = world.http().get(world.url("/push/pi?serial=TWLK01&timestamp=2026-09-21T14:13:20.000Z&signature=AB%3D"));
    let response = poll.send().await.expect("answered");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.headers().get("set-cookie").is_none());
    assert_eq!(response.text().await.expect("a body"), ANSWER);
    *world.verification.pi_says.lock().expect("a lock") = Some((400, "{}".into()));
    let form = world.http().post(world.url("/push/pi")).body("serial=TWLK01&nonce=a%2Bb&decline=1");
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(form.send().await.expect("answered").status(), StatusCode::BAD_REQUEST);
    // iOS asks for the network with nothing at all.
    let empty = world.http().post(world.url("/push/pi")).send().await.expect("answered");
    assert_eq!(empty.status(), StatusCode::BAD_REQUEST);
    let seen = world.verification.pi_seen.lock().expect("a lock");
    let asked = |place: usize, name: &str| seen[place].fields.get(name).map(String::as_str);
    assert_eq!((seen[0].method.as_str(), asked(0, "signature")), ("GET", Some("AB=")));
    assert_eq!(seen[0].address, "127.0.0.1");
    assert_eq!((seen[1].method.as_str(), asked(1, "nonce")), ("POST", Some("a+b")));
    assert!(seen[2].fields.is_empty());
}

#[tokio::test]
async fn what_is_too_long_or_no_form_goes_no_further() {
    // V-74, V-87
    let world = World::new(Open).await;
    *world.verification.pi_says.lock().expect("a lock") = Some((200, ANSWER.into()));
    for (body, status) in [
        (vec![b'a'; 70_000], StatusCode::PAYLOAD_TOO_LARGE),
        (vec![0xff, 0xfe], StatusCode::BAD_REQUEST),
        ("f=1&".repeat(3).into_bytes(), StatusCode::OK),
        ((0..100).map(|place| format!("f{place}=1&")).collect::<String>().into_bytes(), StatusCode::BAD_REQUEST),
    ] {
        let response = world.http().post(world.url("/push/pi")).body(body).send().await.expect("answered");
        assert_eq!(response.status(), status);
    }
    let other = world.http().put(world.url("/push/pi")).send().await.expect("answered");
    assert_eq!(other.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(world.verification.pi_seen.lock().expect("a lock").len(), 1);
}

#[tokio::test]
async fn an_app_hears_that_verification_is_away() {
    // V-40
    let world = World::new(Open).await;
    let response = world.http().get(world.url("/push/pi?serial=a")).send().await.expect("answered");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
}
