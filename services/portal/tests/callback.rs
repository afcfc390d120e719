//! What providers say, through the portal's own server: handed on as it came, within bounds, and nothing beside it.

mod support;

use domain::settings::FirstEnrolment::Open;
use http::StatusCode;
use proto::verification::CallbackRequest;
use support::World;

fn last(world: &World) -> CallbackRequest {
    world.verification.callbacks.lock().expect("a lock").last().cloned().expect("a callback")
}

#[tokio::test]
async fn a_callback_is_handed_on_with_the_address_that_signatures_cover() {
    // V-18: the public address whatever name it was reached by, the body to the octet, three headers and no other
    let world = World::new(Open).await;
    let request = world
        .http()
        .post(world.url("/callback/tw/receipt?x=1%202"))
        .header("x-twilio-signature", "c2ln")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("cookie", "a=b")
        .header("authorization", "Bearer x")
        .body("A=%2B1&B");
    let response = request.send().await.expect("answered");
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert!(response.headers().get("set-cookie").is_none());
    let handed = last(&world);
    assert_eq!((handed.provider.as_str(), handed.path.as_str(), handed.method.as_str()), ("tw", "receipt", "POST"));
    assert_eq!(handed.url, "https://portal.example/callback/tw/receipt?x=1%202");
    assert_eq!(handed.body, b"A=%2B1&B");
    assert_eq!(handed.address, "127.0.0.1");
    let mut headers: Vec<_> = handed.headers.into_iter().collect();
    headers.sort();
    let expected = [("content-type", "application/x-www-form-urlencoded"), ("x-twilio-signature", "c2ln")];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn what_verification_answers_is_what_the_provider_hears() {
    let world = World::new(Open).await;
    let response = world.http().get(world.url("/callback/tw/call/1/begin")).send().await.expect("answered");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/xml");
    assert_eq!(last(&world).path, "call/1/begin");
    assert_eq!(response.text().await.expect("text"), "<Response/>");
    let response = world.http().get(world.url("/callback/tw/away")).send().await.expect("answered");
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "so that it comes again");
}

#[tokio::test]
async fn too_much_other_methods_and_strangers_that_go_on_are_turned_away() {
    let world = World::new(Open).await;
    let http = world.http();
    let long = http.post(world.url("/callback/tw/receipt")).body(vec![b'x'; 64 * 1024 + 1]).send().await;
    assert_eq!(long.expect("answered").status(), StatusCode::PAYLOAD_TOO_LARGE);
    let put = http.put(world.url("/callback/tw/receipt")).send().await.expect("answered");
    assert_ne!(put.status(), StatusCode::NO_CONTENT);
    assert!(world.verification.callbacks.lock().expect("a lock").is_empty(), "nothing of it was handed on");
    for _ in 0..60 {
        let answer = http.post(world.url("/callback/nobody/x")).send().await.expect("answered");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    }
    let mut limited = false;
    for _ in 0..5 {
        limited |= http.post(world.url("/callback/nobody/x")).send().await.expect("answered").status()
            == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(limited);
    assert!(world.verification.callbacks.lock().expect("a lock").len() < 66);
}

#[tokio::test]
async fn a_busy_provider_is_never_slowed_down() {
    let world = World::new(Open).await;
    let http = world.http();
    for _ in 0..100 {
        let answer = http.post(world.url("/callback/tw/receipt")).send().await.expect("answered");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }
}
