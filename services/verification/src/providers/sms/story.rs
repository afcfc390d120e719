//! Texts as a login sends them, and what people answer: through the carriers themselves, to counterparts on this host.

use crate::providers::{Carriers, SendFailure, Text};
use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use domain::PhoneNumber;
use futures::stream::BoxStream;
use hmac::{Hmac, KeyInit, Mac};
use lab::phones::{HttpSms, Mood, Smsc};
use proto::user_store::Prompt;
use proto::verification::CallbackRequest;
use serde_json::json;
use service_kit::bus::{Bus, BusError, Change, Entry, InProcess, Map, MapOptions, Stream, StreamOptions, Subscription};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[path = "../../../tests/sms_support/mod.rs"]
mod sms_support;
use sms_support::{NOW, Node, PHONE, http_provider, smpp_provider};

async fn send(node: &Node, to: &str, transaction: &str, expires_unix_ms: i64) -> Result<String, SendFailure> {
    send_text(node, to, transaction, expires_unix_ms, false).await
}

/// Sends a question whose answer is awaited.
async fn ask(node: &Node, transaction: &str, pin_asked: bool) {
    node.store.lock().prompts.push(prompt(transaction, pin_asked));
    send_text(node, PHONE, transaction, NOW + 60_000, true).await.expect("accepted");
}

async fn send_text(
    node: &Node,
    to: &str,
    transaction_id: &str,
    expires_unix_ms: i64,
    reply: bool,
) -> Result<String, SendFailure> {
    let to = PhoneNumber::new(to).expect("a number");
    let text = Text { to: &to, text: "123456".into(), expires_unix_ms, user_id: "u1", transaction_id, reply };
    node.service.providers.text(text).await.map(|accepted| accepted.provider)
}

fn prompt(transaction: &str, pin_asked: bool) -> Prompt {
    Prompt {
        prompt_id: format!("prompt-{transaction}"),
        transaction_id: transaction.into(),
        user_id: "u1".into(),
        method: "sms_reply".into(),
        number: "123456".into(),
        pin_asked,
        expires_unix_ms: NOW + 60_000,
        ..Prompt::default()
    }
}

fn reply(from: &str, text: &str) -> CallbackRequest {
    signed_reply("hook", from, text)
}

fn signed_reply(secret: &str, from: &str, text: &str) -> CallbackRequest {
    let body = json!({"from": from, "text": text}).to_string();
    let at = NOW / 1000;
    let mut mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(format!("{at}.{body}").as_bytes());
    let signature = format!("t={at},v1={}", HEXLOWER.encode(&mac.finalize().into_bytes()));
    CallbackRequest {
        provider: "one".into(),
        path: "reply".into(),
        method: "POST".into(),
        headers: [("x-twinlock-signature".to_owned(), signature)].into(),
        body: body.into(),
        ..CallbackRequest::default()
    }
}

/// `prompt outcome assurance pin_handle`
fn resolved(node: &Node) -> Vec<String> {
    let resolved = node.store.lock().resolved.clone();
    resolved.iter().map(|it| [&*it.prompt_id, &*it.outcome, &*it.assurance, &*it.pin_handle].join(" ")).collect()
}

#[tokio::test]
async fn what_is_late_is_dropped_and_what_is_forbidden_refused() {
    // FN-07, V-18: a code whose life is over reaches nobody
    let carrier = HttpSms::start().expect("it starts");
    let node = Node::new(json!([http_provider("one", &carrier.url("/a"))]), json!({}), &[]).await;
    assert!(matches!(send(&node, PHONE, "t1", NOW).await, Err(SendFailure::TooLate)));
    assert!(matches!(send(&node, "+12015550123", "t1", NOW + 60_000).await, Err(SendFailure::NotAllowed { .. })));
    assert!(carrier.received().is_empty() && node.store.noted().is_empty());
    carrier.set_mood(Mood::Delay(20_000));
    let begun = Instant::now();
    let late = send(&node, PHONE, "t1", NOW + 700).await;
    assert!(matches!(late, Err(SendFailure::Refused { .. })), "{late:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "no longer than the code lives");
    carrier.set_mood(Mood::Accept);
    assert_eq!(send(&node, PHONE, "t1", NOW + 60_000).await.expect("accepted"), "one");
    let note = node.store.lock().notes.last().cloned().expect("a note");
    assert_eq!((note.user_id.as_str(), note.transaction_id.as_str()), ("u1", "t1"));
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_the_note_with_it() {
    let carrier = HttpSms::start().expect("it starts");
    let node = Node::new(json!([http_provider("one", &carrier.url("/a"))]), json!({}), &[]).await;
    node.store.lock().slow_notes = true;
    tokio::select! {
        sent = send(&node, PHONE, "t1", NOW + 60_000) => panic!("it waits for the note: {sent:?}"),
        () = node.until("the note to begin", || node.store.lock().notes_begun == 1) => {}
    }
    assert!(node.store.noted().is_empty(), "and now it is gone");
    node.until("the note", || node.store.noted().len() == 1).await;
}

#[tokio::test]
async fn a_person_approves_by_sending_the_code_back() {
    // FV-04: once, from the number it went to, while the prompt is open
    let carrier = HttpSms::start().expect("it starts");
    let mut provider = http_provider("one", &carrier.url("/a"));
    provider["webhook_secret"] = json!("keep");
    let secrets = [("provider.one.webhook_secret", "hook")];
    let node = Node::new(json!([provider]), json!({"sms": {"replies": true}}), &secrets).await;
    let nothing: [String; 0] = [];
    node.call_back(reply(PHONE, "123456")).await;
    assert_eq!(resolved(&node), nothing, "nobody was asked");
    ask(&node, "t1", false).await;
    for (from, text) in [("+4915123456780", "123456"), (PHONE, "I am driving"), ("Twinlock", "123456")] {
        assert_eq!(node.call_back(reply(from, text)).await.status, 204);
        assert_eq!(resolved(&node), nothing, "{from} {text}");
    }
    let answer = reply("4915123456789", "ok 123 456");
    node.call_back(answer.clone()).await;
    assert_eq!(resolved(&node), ["prompt-t1 approved approve_only "]);
    node.call_back(answer).await;
    assert_eq!(resolved(&node).len(), 1, "a replay is heard and nothing more");

    ask(&node, "t2", false).await;
    node.call_back(reply(PHONE, "654321")).await;
    ask(&node, "t3", true).await;
    node.call_back(reply(PHONE, "123456 7788")).await;
    ask(&node, "t4", true).await;
    node.call_back(reply(PHONE, "123456 1111")).await;
    assert_eq!(
        resolved(&node)[1..],
        ["prompt-t2 wrong_number  ", "prompt-t3 approved approve_only pin-handle", "prompt-t4 wrong_pin  "]
    );
    assert_eq!(node.store.lock().pins, ["7788", "1111"]);
    // One that is over, or switched off, is answered by nobody.
    ask(&node, "t5", false).await;
    node.clock.advance(61_000);
    node.call_back(reply(PHONE, "123456 ")).await;
    assert_eq!(resolved(&node).len(), 4);
}

#[tokio::test]
async fn a_question_keeps_its_answer_whatever_else_is_sent_and_whatever_secret_changes() {
    // FV-04: a code of another sign-in to the same number, and a provider that signs with another secret from now on
    let carrier = HttpSms::start().expect("it starts");
    let mut provider = http_provider("one", &carrier.url("/a"));
    provider["webhook_secret"] = json!("keep");
    let (providers, more) = (json!([provider]), json!({"sms": {"replies": true}}));
    let node = Node::new(providers.clone(), more.clone(), &[("provider.one.webhook_secret", "hook")]).await;
    ask(&node, "t1", false).await;
    send(&node, PHONE, "t2", NOW + 60_000).await.expect("accepted");
    node.change(providers, more, &[("provider.one.webhook_secret", "other")]).await;
    assert_eq!(node.call_back(signed_reply("other", PHONE, "123456")).await.status, 204);
    assert_eq!(resolved(&node), ["prompt-t1 approved approve_only "]);
}

#[tokio::test]
async fn a_bus_that_hangs_holds_no_question_up_for_long() {
    let carrier = HttpSms::start().expect("it starts");
    let providers = json!([http_provider("one", &carrier.url("/a"))]);
    let node = Node::on(Arc::new(StuckMaps(InProcess::new())), providers, json!({"sms": {"replies": true}}), &[]).await;
    // The first text reads the numbering plans, which takes a while.
    send(&node, PHONE, "t0", NOW + 60_000).await.expect("accepted");
    let begun = Instant::now();
    ask(&node, "t1", false).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(carrier.received().len(), 2);
}

/// A bus whose maps answer nothing.
struct StuckMaps(InProcess);
struct StuckMap;

#[async_trait]
impl Bus for StuckMaps {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        self.0.publish(subject, payload).await
    }
    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        self.0.subscribe(pattern).await
    }
    fn stream(&self, options: StreamOptions) -> Arc<dyn Stream> {
        self.0.stream(options)
    }
    fn map(&self, _: &str, _: MapOptions) -> Arc<dyn Map> {
        Arc::new(StuckMap)
    }
}

#[async_trait]
impl Map for StuckMap {
    fn name(&self) -> &str {
        "stuck"
    }
    async fn get(&self, _: &str) -> Result<Option<Entry>, BusError> {
        std::future::pending().await
    }
    async fn create(&self, _: &str, _: Bytes) -> Result<u64, BusError> {
        std::future::pending().await
    }
    async fn update(&self, _: &str, _: Bytes, _: u64) -> Result<u64, BusError> {
        std::future::pending().await
    }
    async fn put(&self, _: &str, _: Bytes) -> Result<u64, BusError> {
        std::future::pending().await
    }
    async fn delete(&self, _: &str, _: u64) -> Result<(), BusError> {
        std::future::pending().await
    }
    async fn watch(&self, _: &str) -> Result<BoxStream<'static, Change>, BusError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_reply_may_come_over_the_session_of_the_centre() {
    // FV-04
    let smsc = Smsc::start().expect("it starts");
    let more = json!({"sms": {"replies": true}});
    let node = Node::new(json!([smpp_provider("smsc", &smsc.address())]), more, &[]).await;
    node.until("the bind", || node.upstream("smsc") == Some(true)).await;
    ask(&node, "t1", true).await;
    smsc.text(&PHONE[1..], "1234567788");
    node.until("the answer", || !resolved(&node).is_empty()).await;
    assert_eq!(resolved(&node), ["prompt-t1 approved approve_only pin-handle"]);
}
