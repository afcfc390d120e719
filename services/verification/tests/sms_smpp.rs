//! SMPP 3.4 against two centres: our own, which misbehaves on command, and one that others wrote.

mod sms_support;

use lab::phones::{IndependentSmsc, Mood, Smsc};
use serde_json::json;
use sms_support::{Node, PHONE, http_provider, smpp_provider, steps};
use std::time::{Duration, Instant};

async fn bound(smsc: &Smsc) -> Node {
    let node = Node::new(json!([smpp_provider("smsc", &smsc.address())]), json!({}), &[]).await;
    node.until("the bind", || node.upstream("smsc") == Some(true)).await;
    node
}

#[tokio::test]
async fn a_text_goes_out_over_a_session_that_is_there_already_and_its_receipt_comes_back() {
    let smsc = Smsc::start().expect("it starts");
    let node = bound(&smsc).await;
    let reply = node.text().await;
    assert!(reply.accepted && reply.provider == "smsc", "{}", steps(&reply));
    let [message] = &smsc.received()[..] else { panic!("one message") };
    assert_eq!((message.from.as_str(), message.to.as_str()), ("Twinlock", "4915123456789"));
    assert_eq!((message.data_coding, message.esm_class, message.registered_delivery), (0, 0, 1));
    assert_eq!(message.octets, b"This is a test message of Example. Nothing has to be done.");
    node.until("the receipt", || node.store.noted().len() == 2).await;
    assert_eq!(node.store.noted(), ["accepted smsc lab-1 •••• 6789", "delivered smsc lab-1 "]);
    assert_eq!((smsc.binds(), smsc.answers()), (1, vec![0]), "one session; the receipt is acknowledged");
}

#[tokio::test]
async fn a_centre_of_others_reads_what_we_send_and_we_read_what_it_says() {
    // Both codecs of ours could be wrong in the same way; this one is not ours.
    let dir = tempfile::tempdir().expect("a folder");
    let smsc = IndependentSmsc::start(dir.path()).expect("it starts");
    let company = "Größe & Söhne [€] ".repeat(10);
    let providers = json!([smpp_provider("smsc", &smsc.address())]);
    let node = Node::new(providers.clone(), json!({}), &[]).await;
    node.until("the bind", || node.upstream("smsc") == Some(true)).await;
    assert!(node.text().await.accepted);
    node.until("the receipt", || node.store.noted().len() == 2).await;
    assert_eq!(node.store.noted(), ["accepted smsc ind-1 •••• 6789", "delivered smsc ind-1 "]);
    let first = &smsc.received()[0];
    assert_eq!(
        (&first["to"], &first["data_coding"], &first["registered_delivery"]),
        (&json!("4915123456789"), &json!(0), &json!(1))
    );

    // Its answers by the last digits of the number.
    let undelivered = node.send("sms", "", "+4915123459997").await;
    assert!(undelivered.accepted);
    node.until("the receipt", || node.store.noted().last().is_some_and(|it| it.starts_with("undelivered"))).await;
    let refused = node.send("sms", "", "+4915123459998").await;
    assert_eq!(steps(&refused), "smsc did not take it: SMPP status 0x0000000b");

    // A long one: two parts, each whole for the other's codec too.
    node.change(providers, json!({"portal": {"company": company}}), &[]).await;
    assert!(node.text().await.accepted);
    let mut parts: Vec<_> = smsc.received().into_iter().filter(|it| it["esm_class"] == 0x40).collect();
    // It works on them side by side.
    parts.sort_by_key(|part| part["octets"].as_str().map(|octets| octets[10..12].to_owned()));
    assert_eq!(parts.len(), 2);
    for (place, part) in parts.iter().enumerate() {
        let octets = part["octets"].as_str().expect("hex");
        assert!(octets.starts_with("050003") && octets[8..12] == format!("020{}", place + 1), "{octets}");
        assert_eq!(part["registered_delivery"], json!(place), "the receipt of the last part stands for all");
    }
}

#[tokio::test]
async fn a_centre_that_throttles_hangs_up_or_lies_is_followed_by_the_next_provider() {
    let carrier = lab::phones::HttpSms::start().expect("it starts");
    let smsc = Smsc::start().expect("it starts");
    let providers = json!([smpp_provider("smsc", &smsc.address()), http_provider("http", &carrier.url("/a"))]);
    let node = Node::new(providers, json!({}), &[]).await;
    node.until("the bind", || node.upstream("smsc") == Some(true)).await;
    for (mood, said) in [
        (Mood::Refuse, "smsc did not take it: SMPP status 0x00000058; http took it"),
        (Mood::Lie, "smsc did not take it: no answer in time; http took it"),
    ] {
        smsc.set_mood(mood);
        let begun = Instant::now();
        let reply = node.text().await;
        assert_eq!((reply.accepted, steps(&reply).as_str()), (true, said));
        assert!(begun.elapsed() < Duration::from_secs(4), "{mood:?} {:?}", begun.elapsed());
    }
    smsc.set_mood(Mood::Drop);
    let reply = node.text().await;
    assert!(reply.accepted && reply.provider == "http", "{}", steps(&reply));
    assert!(node.store.noted().iter().all(|note| !note.starts_with("delivered")), "a receipt for nothing is nothing");
}

#[tokio::test]
async fn a_session_that_breaks_is_bound_again_and_texts_meanwhile_fail_at_once() {
    let smsc = Smsc::start().expect("it starts");
    let node = bound(&smsc).await;
    let port = smsc.port();
    assert!(node.text().await.accepted);
    drop(smsc);
    node.until("the break", || node.upstream("smsc") == Some(false)).await;
    let begun = Instant::now();
    let reply = node.text().await;
    assert!(
        !reply.accepted && begun.elapsed() < Duration::from_millis(1500),
        "{:?} {}",
        begun.elapsed(),
        steps(&reply)
    );
    let smsc = Smsc::start_at(port).expect("it comes back");
    node.until("the next bind", || smsc.binds() == 1).await;
    node.until("the session", || node.upstream("smsc") == Some(true)).await;
    assert!(node.text().await.accepted);
    // Octets that are no SMPP end the session, not the process; what was said before them is heard.
    node.until("the receipt", || node.store.noted().last().is_some_and(|it| it == "delivered smsc lab-1 ")).await;
    smsc.receipt_and_garbage("lab-1", "UNDELIV");
    node.until("the other receipt", || node.store.noted().last().is_some_and(|it| it.starts_with("undeliv"))).await;
    node.until("the next bind", || smsc.binds() == 2).await;
    node.until("the session", || node.upstream("smsc") == Some(true)).await;
    assert!(node.text().await.accepted);
}

#[tokio::test]
async fn a_wrong_password_is_said_and_a_right_one_taken_up() {
    let smsc = Smsc::start().expect("it starts");
    smsc.set_password("s3cret");
    let mut provider = smpp_provider("smsc", &smsc.address());
    provider["secret"] = json!("keep");
    let node = Node::new(json!([provider]), json!({}), &[("provider.smsc.secret", "guess")]).await;
    let why = || {
        let upstreams = node.process.health().upstreams();
        upstreams.into_iter().find(|(_, name, _)| name == "smsc").and_then(|(_, _, state)| state.last_error)
    };
    node.until("the refusal", || why().is_some()).await;
    assert_eq!(why().as_deref(), Some("it refused the bind with SMPP status 0x0000000e"));
    node.change(json!([provider]), json!({}), &[("provider.smsc.secret", "s3cret")]).await;
    node.until("the bind", || node.upstream("smsc") == Some(true)).await;
    assert!(node.text().await.accepted);
}

#[tokio::test]
async fn a_session_ends_with_an_unbind_when_it_is_not_wanted_any_more() {
    let smsc = Smsc::start().expect("it starts");
    let node = bound(&smsc).await;
    node.change(json!([]), json!({}), &[]).await;
    node.until("the unbind", || smsc.unbinds() == 1).await;
    node.until("its health to go", || node.upstream("smsc").is_none()).await;
}

#[tokio::test]
async fn a_line_that_fell_silent_is_found_out() {
    let smsc = Smsc::start().expect("it starts");
    let node = bound(&smsc).await;
    node.until("an enquiry", || smsc.enquiries() >= 1).await;
    smsc.fall_silent();
    let end = Instant::now() + Duration::from_secs(25);
    while node.upstream("smsc") == Some(true) {
        assert!(Instant::now() < end, "it was never found out");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn doubled_answers_and_receipts_are_one_message() {
    let smsc = Smsc::start().expect("it starts");
    let node = bound(&smsc).await;
    smsc.set_mood(Mood::Double);
    assert!(node.text().await.accepted);
    node.until("both receipts", || smsc.answers().len() == 2).await;
    assert_eq!(smsc.received().len(), 1);
    let accepted = node.store.noted().into_iter().filter(|note| note.starts_with("accepted")).count();
    assert_eq!(accepted, 1);
}

#[tokio::test]
async fn a_receipt_that_finds_the_store_away_for_a_moment_is_noted_all_the_same() {
    let smsc = Smsc::start().expect("it starts");
    let node = bound(&smsc).await;
    node.store.lock().receipts_to_refuse = 1;
    assert!(node.text().await.accepted);
    node.until("the receipt", || node.store.noted().last().is_some_and(|it| it == "delivered smsc lab-1 ")).await;
}

#[tokio::test]
async fn a_session_may_be_over_tls_with_a_private_authority() {
    let dir = tempfile::tempdir().expect("a folder");
    let pki = lab::Pki::new(dir.path()).expect("a CA");
    let issued = pki.issue("smsc", &["localhost"]).expect("a certificate");
    let smsc = Smsc::start().expect("it starts");
    let port = sms_support::tls_in_front_of(smsc.port(), &issued).await;
    let mut provider = smpp_provider("smsc", &format!("localhost:{port}"));
    provider["adapter"]["tls"] = json!(true);
    provider["adapter"]["ca"] = json!(std::fs::read_to_string(pki.ca_file()).expect("PEM"));
    let node = Node::new(json!([provider]), json!({}), &[]).await;
    node.until("the bind", || node.upstream("smsc") == Some(true)).await;
    assert!(node.text().await.accepted);
    assert_eq!(smsc.received()[0].to, PHONE[1..]);
}
