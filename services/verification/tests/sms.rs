//! Text messages over HTTP to carriers that misbehave, and what they say back. Everything goes through the service's own doors.

mod sms_support;

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use lab::phones::{HttpSms, Mood};
use proto::verification::CallbackRequest;
use proto::verification::callback_server::Callback;
use serde_json::{Value, json};
use sms_support::{NOW, Node, PHONE, PORTAL, http_provider, steps};
use std::time::{Duration, Instant};

fn mood_of(moods: [Mood; 2]) -> [HttpSms; 2] {
    moods.map(|mood| {
        let carrier = HttpSms::start().expect("it starts");
        carrier.set_mood(mood);
        carrier
    })
}

async fn two(moods: [Mood; 2]) -> (Node, [HttpSms; 2]) {
    let carriers = mood_of(moods);
    let providers = json!([http_provider("one", &carriers[0].url("/a")), http_provider("two", &carriers[1].url("/b"))]);
    (Node::new(providers, json!({}), &[]).await, carriers)
}

#[tokio::test]
async fn the_first_provider_takes_it_and_the_store_hears_of_it_with_a_masked_number() {
    // FN-07, V-18
    let (node, [first, second]) = two([Mood::Accept, Mood::Accept]).await;
    let reply = node.text().await;
    assert!(reply.accepted && reply.provider == "one", "{}", steps(&reply));
    assert_eq!((first.received().len(), second.received().len()), (1, 0));
    let request = &first.received()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/a"));
    let body: Value = serde_json::from_str(&request.body).expect("JSON");
    assert_eq!(body["to"], PHONE);
    assert!(body["text"].as_str().is_some_and(|text| text.contains("test message of Example")));
    assert_eq!(node.store.noted(), ["accepted one carrier-1 •••• 6789"]);
    assert_eq!(node.upstream("one"), Some(true));
    assert_eq!(node.upstream("two"), None, "nobody asked it");
    assert!(!steps(&reply).contains("6789"), "no number in what is shown");
}

#[tokio::test]
async fn whoever_refuses_hangs_up_or_sends_elsewhere_is_followed_by_the_next() {
    // FN-07: refused, connection dropped, redirected; a redirect is not followed: the code would go where nobody configured
    for mood in [Mood::Refuse, Mood::Drop, Mood::Lie] {
        let (node, [first, second]) = two([mood, Mood::Accept]).await;
        let reply = node.text().await;
        assert!(reply.accepted && reply.provider == "two", "{mood:?}: {}", steps(&reply));
        assert!(first.received().iter().all(|request| request.path == "/a"), "{mood:?}");
        assert_eq!(second.received().len(), 1, "{mood:?}");
        assert_eq!(node.store.noted(), ["failed one  •••• 6789", "accepted two carrier-1 •••• 6789"], "{mood:?}");
        assert_eq!((node.upstream("one"), node.upstream("two")), (Some(false), Some(true)), "{mood:?}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_run_here_is_followed_by_the_next_provider() {
    // In a container nothing is run; elsewhere nobody has put this one there
    let carrier = HttpSms::start().expect("it starts");
    let script =
        json!({"name": "modem", "channel": "sms", "adapter": {"kind": "script", "program": "no-such-program"}});
    let node = Node::new(json!([script, http_provider("two", &carrier.url("/b"))]), json!({}), &[]).await;
    let reply = node.text().await;
    assert!(reply.accepted && reply.provider == "two", "{}", steps(&reply));
    assert!(steps(&reply).starts_with("modem did not take it: "), "{}", steps(&reply));
    assert_eq!(node.upstream("modem"), Some(false));
}

#[tokio::test]
async fn a_slow_provider_gets_its_time_and_no_more_and_a_double_answer_is_one() {
    let (first, second) = (HttpSms::start().expect("it starts"), HttpSms::start().expect("it starts"));
    let mut slow = http_provider("one", &first.url("/a"));
    slow["timeout_seconds"] = json!(1);
    let node = Node::new(json!([slow, http_provider("two", &second.url("/b"))]), json!({}), &[]).await;
    first.set_mood(Mood::Delay(300));
    assert_eq!(node.text().await.provider, "one");
    first.set_mood(Mood::Double);
    assert_eq!([node.text().await.provider, node.text().await.provider], ["one", "one"]);
    first.set_mood(Mood::Delay(20_000));
    let begun = Instant::now();
    assert_eq!(node.text().await.provider, "two");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nobody_who_takes_it_is_said_so_and_nobody_configured_too() {
    let (node, carriers) = two([Mood::Refuse, Mood::Refuse]).await;
    let reply = node.text().await;
    assert!(!reply.accepted && reply.provider.is_empty());
    assert_eq!(steps(&reply), "one did not take it: HTTP 401; two did not take it: HTTP 401");
    assert_eq!(node.store.noted(), ["failed one  •••• 6789", "failed two  •••• 6789"]);
    carriers[1].set_mood(Mood::Accept);
    assert_eq!(node.send("sms", "two", PHONE).await.provider, "two", "one that is named is asked alone");
    let nobody = node.send("sms", "three", PHONE).await;
    assert_eq!((nobody.accepted, steps(&nobody).as_str()), (false, "the settings name no such provider"));
}

#[tokio::test]
async fn one_that_fails_again_and_again_is_asked_last_for_a_while() {
    let (node, [first, second]) = two([Mood::Refuse, Mood::Accept]).await;
    for _ in 0..3 {
        assert_eq!(node.text().await.provider, "two");
    }
    assert_eq!(first.received().len(), 3);
    assert_eq!(node.text().await.provider, "two");
    assert_eq!((first.received().len(), second.received().len()), (3, 4), "not even asked");
    second.set_mood(Mood::Refuse);
    first.set_mood(Mood::Accept);
    assert_eq!(node.text().await.provider, "one", "asked all the same when nobody else takes it");
}

#[tokio::test]
async fn one_that_refuses_a_message_is_well_and_stays_first() {
    // FN-07: a number that one of them does not reach is no fault of its own
    let (node, [first, second]) = two([Mood::Accept, Mood::Accept]).await;
    assert_eq!(node.text().await.provider, "one");
    first.answer_with(400, "{}");
    for _ in 0..4 {
        assert_eq!(node.text().await.provider, "two");
    }
    assert_eq!((first.received().len(), second.received().len()), (5, 4), "asked each time");
    assert_eq!(node.upstream("one"), Some(true));
    // One that does not know us is not well.
    first.answer_with(403, "{}");
    assert_eq!(node.text().await.provider, "two");
    assert_eq!(node.upstream("one"), Some(false));
}

#[tokio::test]
async fn one_that_is_only_busy_is_asked_once_more() {
    for status in [429, 500, 503] {
        let carrier = HttpSms::start().expect("it starts");
        carrier.answer_with(status, "{}");
        let node = Node::new(json!([http_provider("one", &carrier.url("/a"))]), json!({}), &[]).await;
        let (reply, ()) = tokio::join!(node.text(), async {
            node.until("the first try", || carrier.received().len() == 1).await;
            carrier.answer_with(200, r#"{"id":"late"}"#);
        });
        assert!(reply.accepted, "{status}: {}", steps(&reply));
        assert_eq!(carrier.received().len(), 2, "{status}");
    }
}

#[tokio::test]
async fn numbers_that_the_rules_forbid_cost_nothing() {
    // V-18, FN-07: own country alone; no premium numbers; nothing that is no number
    let (node, [first, _second]) = two([Mood::Accept, Mood::Accept]).await;
    for (number, why) in [
        ("+447400123456", "the number may not be used: its country is not on the list"),
        ("+499001123456", "the number may not be used: it is a premium rate number"),
        ("hello", "it is no telephone number: write it with + and 8 to 15 digits"),
    ] {
        let reply = node.send("sms", "", number).await;
        assert_eq!((reply.accepted, steps(&reply).as_str()), (false, why));
    }
    assert!(first.received().is_empty() && node.store.noted().is_empty());
    assert!(node.send("sms", "", "0151 23456789").await.accepted, "national, in the settings' country");
}

#[tokio::test]
async fn every_preset_says_what_its_vendor_reads() {
    // FN-07: the requests as the vendors' references lay them out
    let carrier = HttpSms::start().expect("it starts");
    let provider = |preset: &str, path: &str| {
        json!([{"name": "one", "channel": "sms", "secret": "keep", "adapter": {
            "kind": "http", "preset": preset, "url": carrier.url(path), "account": "AC1", "sender": "Twin",
        }}])
    };
    let secrets = [("provider.one.secret", "s3cret")];
    let node = Node::new(provider("twilio", "/x/{account}/Messages.json"), json!({}), &secrets).await;
    let basic = format!("Basic {}", BASE64.encode(b"AC1:s3cret"));
    let text = "This%20is%20a%20test%20message%20of%20Example.%20Nothing%20has%20to%20be%20done.";
    let plain = "This is a test message of Example. Nothing has to be done.";
    let cases: [(&str, &str, &str, u16, &str); 6] = [
        ("twilio", "/x/{account}/Messages.json", "/x/AC1/Messages.json", 201, r#"{"sid":"SM9"}"#),
        ("vonage", "/sms/json", "/sms/json", 200, r#"{"messages":[{"status":"0","message-id":"SM9"}]}"#),
        ("bird", "/w/{account}/c/{sender}", "/w/AC1/c/Twin", 202, r#"{"id":"SM9"}"#),
        ("clickatell", "/messages", "/messages", 202, r#"{"messages":[{"accepted":true,"apiMessageId":"SM9"}]}"#),
        ("smseagle", "/api/v2/messages/sms", "/api/v2/messages/sms", 200, r#"[{"status":"queued","id":9}]"#),
        ("gammu", "/sms", "/sms", 200, r#"{"status":200,"message":"[9]"}"#),
    ];
    for (preset, url, path, status, answer) in cases {
        carrier.answer_with(status, answer);
        node.change(provider(preset, url), json!({}), &secrets).await;
        let reply = node.text().await;
        assert!(reply.accepted, "{preset}: {}", steps(&reply));
        let request = carrier.received().pop().expect("a request");
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", path), "{preset}");
        let body = |field: &str| serde_json::from_str::<Value>(&request.body).expect("JSON").pointer(field).cloned();
        match preset {
            "twilio" => {
                assert_eq!(request.header("authorization"), Some(basic.as_str()));
                let callback = "https%3A%2F%2Fmfa.example.com%2Fcallback%2Fone%2Freceipt";
                let form = format!("To=%2B4915123456789&From=Twin&Body={text}&StatusCallback={callback}");
                assert_eq!(request.body, form);
                assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
            }
            "vonage" => {
                assert!(!request.body.contains("callback"), "what it would report is not signed: {}", request.body);
                for part in ["api_key=AC1", "api_secret=s3cret", "to=4915123456789", "type=unicode", "from=Twin"] {
                    assert!(request.body.split('&').any(|field| field == part), "{part}: {}", request.body);
                }
            }
            "bird" => {
                assert_eq!(request.header("authorization"), Some("AccessKey s3cret"));
                assert_eq!(body("/receiver/contacts/0/identifierValue"), Some(json!(PHONE)));
                assert_eq!(body("/body/text/text"), Some(json!(plain)));
            }
            "clickatell" => {
                assert_eq!(request.header("authorization"), Some("s3cret"));
                assert_eq!((body("/to/0"), body("/content")), (Some(json!("4915123456789")), Some(json!(plain))));
            }
            "smseagle" => {
                assert_eq!(request.header("access-token"), Some("s3cret"));
                assert_eq!((body("/to/0"), body("/text")), (Some(json!(PHONE)), Some(json!(plain))));
            }
            _ => {
                assert_eq!(request.header("authorization"), Some(basic.as_str()));
                assert_eq!((body("/number"), body("/text")), (Some(json!(PHONE)), Some(json!(plain))));
            }
        }
        let id = if preset == "gammu" { "" } else { "SM9" };
        let last = node.store.noted().pop().expect("a note");
        assert!(
            last == format!("accepted one {id} •••• 6789") || preset == "smseagle" && last.contains(" 9 "),
            "{last}"
        );
    }
    // The same with an answer that says no in a friendly way.
    for (preset, answer) in [
        ("vonage", r#"{"messages":[{"status":"4"}]}"#),
        ("clickatell", r#"{"messages":[{"accepted":false}]}"#),
        ("smseagle", r#"[{"status":"error"}]"#),
    ] {
        carrier.answer_with(200, answer);
        node.change(provider(preset, "/x"), json!({}), &secrets).await;
        assert!(!node.text().await.accepted, "{preset}");
    }
}

#[tokio::test]
async fn settings_take_effect_without_a_restart() {
    let (node, [first, second]) = two([Mood::Accept, Mood::Accept]).await;
    node.text().await;
    node.change(json!([http_provider("one", &second.url("/new"))]), json!({}), &[]).await;
    assert_eq!(node.text().await.provider, "one");
    assert_eq!((first.received().len(), second.received().len()), (1, 1));
    let mut off = http_provider("one", &second.url("/new"));
    off["enabled"] = json!(false);
    node.change(json!([off]), json!({}), &[]).await;
    assert!(!node.text().await.accepted);
    node.until("its health to go", || node.upstream("one").is_none()).await;
}

#[tokio::test]
async fn an_answer_without_end_and_settings_that_do_not_fit_are_refused_with_a_reason() {
    let carrier = HttpSms::start().expect("it starts");
    carrier.answer_with(200, &format!(r#"{{"id":"{}"}}"#, "x".repeat(70_000)));
    let node = Node::new(json!([http_provider("one", &carrier.url("/a"))]), json!({}), &[]).await;
    assert_eq!(steps(&node.text().await), "one did not take it: its answer is too long");
    let mut bad = http_provider("one", "nonsense");
    node.change(json!([bad]), json!({}), &[]).await;
    assert_eq!(steps(&node.text().await), "one did not take it: its url is none");
    bad = http_provider("one", "https://localhost:1/");
    bad["adapter"]["ca"] = json!("no PEM");
    node.change(json!([bad]), json!({}), &[]).await;
    assert_eq!(steps(&node.text().await), "one did not take it: its ca is no PEM text with certificates");
    assert_eq!(node.upstream("one"), Some(false));
}

// --- what providers say back -------------------------------------------------------------------------------------------------

fn callback(provider: &str, path: &str, body: &str, header: (&str, &str)) -> CallbackRequest {
    CallbackRequest {
        provider: provider.into(),
        path: path.into(),
        method: "POST".into(),
        url: format!("{PORTAL}/callback/{provider}/{path}"),
        headers: [(header.0.to_owned(), header.1.to_owned())].into(),
        body: body.into(),
        address: "203.0.113.9".into(),
    }
}

fn signed(provider: &str, path: &str, body: &str, secret: &str, at: i64) -> CallbackRequest {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(format!("{at}.{body}").as_bytes());
    let signature = format!("t={at},v1={}", HEXLOWER.encode(&mac.finalize().into_bytes()));
    callback(provider, path, body, ("x-twinlock-signature", &signature))
}

#[tokio::test]
async fn a_receipt_is_noted_once_and_only_from_whoever_holds_the_secret() {
    // V-18: signature, replay, age; whatever is wrong is one and the same answer
    let carrier = HttpSms::start().expect("it starts");
    let secrets = [("provider.one.webhook_secret", "hook"), ("provider.one.secret", "other")];
    let mut provider = http_provider("one", &carrier.url("/a"));
    provider["webhook_secret"] = json!("keep");
    let node = Node::new(json!([provider]), json!({}), &secrets).await;
    node.text().await;
    let body = r#"{"id":"carrier-1","state":"delivered"}"#;
    let good = signed("one", "receipt", body, "hook", NOW / 1000);

    let not_found = node.call_back(callback("nobody", "receipt", body, ("x", "y"))).await;
    assert_eq!(not_found.status, 404);
    for (what, bad) in [
        ("wrong secret", signed("one", "receipt", body, "other", NOW / 1000)),
        ("too old", signed("one", "receipt", body, "hook", NOW / 1000 - 301)),
        ("other body", CallbackRequest { body: body.replace("delivered", "expired").into(), ..good.clone() }),
        ("unsigned", callback("one", "receipt", body, ("x", "y"))),
        ("other path", CallbackRequest { path: "nothing".into(), ..good.clone() }),
        ("another's", CallbackRequest { provider: "two".into(), ..good.clone() }),
    ] {
        assert_eq!(node.call_back(bad).await, not_found, "{what}");
    }
    assert_eq!(node.store.noted().len(), 1, "nothing was noted");

    assert_eq!(node.call_back(good.clone()).await.status, 204);
    assert_eq!(node.store.noted()[1..], ["delivered one carrier-1 "]);
    assert_eq!(node.call_back(good).await.status, 204, "a replay hears the same");
    assert_eq!(node.store.noted().len(), 2, "and has no second effect");
}

#[tokio::test]
async fn a_receipt_is_noted_though_the_store_was_away_or_the_note_is_late_and_in_another_spelling() {
    // Said once: whoever sends it is told that it was heard, and says nothing more.
    let carrier = HttpSms::start().expect("it starts");
    let mut provider = http_provider("one", &carrier.url("/a"));
    provider["webhook_secret"] = json!("keep");
    let node = Node::new(json!([provider]), json!({}), &[("provider.one.webhook_secret", "hook")]).await;
    let said =
        |state: &str| signed("one", "receipt", &format!(r#"{{"id":"255","state":"{state}"}}"#), "hook", NOW / 1000);
    // The first text reads the numbering plans, which takes a while.
    assert!(node.text().await.accepted);
    carrier.answer_with(200, r#"{"id":"ff"}"#);
    // It overtakes the note of its message.
    let looked = node.store.lock().notes_begun;
    let (reply, _) = tokio::join!(node.call_back(said("delivered")), async {
        node.until("the early receipt, in each of its spellings", || node.store.lock().notes_begun >= looked + 4).await;
        node.text().await
    });
    assert_eq!(reply.status, 204);
    assert_eq!(node.store.noted()[1..], ["accepted one ff •••• 6789", "delivered one ff "]);
    node.store.lock().receipts_to_refuse = 1;
    assert_eq!(node.call_back(said("undelivered")).await.status, 204);
    assert_eq!(node.store.noted()[3..], ["undelivered one ff "]);
    // Longer away: the provider hears that it was not taken, and says it again.
    node.store.lock().receipts_to_refuse = 2;
    let away = node.service.receive(sms_support::request_with_time(said("expired"), 5_000)).await;
    assert_eq!(away.expect_err("not taken").code(), tonic::Code::Unavailable);
    assert_eq!(node.call_back(said("expired")).await.status, 204);
    assert_eq!(node.store.noted().len(), 5);
}

#[tokio::test]
async fn twilios_receipts_count_with_twilios_signature() {
    // V-18
    let carrier = HttpSms::start().expect("it starts");
    carrier.answer_with(201, r#"{"sid":"SM9"}"#);
    let provider = json!([{"name": "tw", "channel": "sms", "secret": "keep", "adapter": {
        "kind": "http", "preset": "twilio", "url": carrier.url("/m"), "account": "AC1", "sender": "+4930901820",
    }}]);
    let node = Node::new(provider, json!({}), &[("provider.tw.secret", "token")]).await;
    assert!(node.text().await.accepted);
    let receipt = |status: &str, token: &str| {
        let url = format!("{PORTAL}/callback/tw/receipt");
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(token.as_bytes()).expect("any length");
        mac.update(format!("{url}MessageSidSM9MessageStatus{status}").as_bytes());
        let signature = BASE64.encode(&mac.finalize().into_bytes());
        let body = format!("MessageStatus={status}&MessageSid=SM9");
        callback("tw", "receipt", &body, ("x-twilio-signature", &signature))
    };
    assert_eq!(node.call_back(receipt("delivered", "guess")).await.status, 404);
    for status in ["sent", "delivered", "delivered"] {
        assert_eq!(node.call_back(receipt(status, "token")).await.status, 204);
    }
    assert_eq!(node.store.noted(), ["accepted tw SM9 •••• 6789", "delivered tw SM9 "]);
}

#[tokio::test]
async fn a_text_also_goes_by_tls_and_to_nobody_else_with_that_name() {
    // A private authority in the settings is trusted, and only it.
    let dir = tempfile::tempdir().expect("a folder");
    let pki = lab::Pki::new(dir.path()).expect("a CA");
    let issued = pki.issue("carrier", &["localhost"]).expect("a certificate");
    let carrier = HttpSms::start().expect("it starts");
    let port = sms_support::tls_in_front_of(carrier.port(), &issued).await;
    let ca = std::fs::read_to_string(pki.ca_file()).expect("PEM");
    let provider = |ca: &str| {
        let mut provider = http_provider("one", &format!("https://localhost:{port}/a"));
        provider["adapter"]["ca"] = json!(ca);
        json!([provider])
    };
    let node = Node::new(provider(&ca), json!({}), &[]).await;
    let reply = node.text().await;
    assert!(reply.accepted, "{}", steps(&reply));
    let other = lab::Pki::new(&dir.path().join("other")).expect("a CA");
    let other = std::fs::read_to_string(other.ca_file()).expect("PEM");
    node.change(provider(&other), json!({}), &[]).await;
    let reply = node.text().await;
    assert_eq!(steps(&reply), "one did not take it: no connection, or no trust in its certificate");
    assert_eq!(carrier.received().len(), 1);
}
