//! The person is asked on the phone: waiting, numbers, refusals, fallback, nodes that come and go.

use crate::fakes::{Fault, Mood, NOW, Person, World, answer, asked, attempt, look, passed, request, said, wanted};
use futures::future::join_all;
use proto::verification::verification_server::Verification;
use proto::verification::{Attempt, BeginRequest, CancelRequest, Primary};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::Request;
use uuid::Uuid;
use verification::Service;

/// bob has a phone, and nothing else.
fn world() -> World {
    let world = World::new();
    world.store.give_phone("bob");
    world
}

/// bob has a phone and a number that can be called, and a token.
fn rich() -> World {
    let world = World::new();
    world.store.give_phone("ann");
    world.store.change("ann", |user| user.phone = "030 901820".into());
    world
}

/// bob has a number that can be called, and nothing else.
fn called() -> World {
    let world = World::new();
    world.store.change("bob", |user| user.phone = "030 901820".into());
    world
}

/// A login that waits for a call, and its prompt.
async fn rings(world: &World, node: &Arc<Service>, attempt: &Attempt) -> (JoinHandle<String>, String) {
    let calls = world.carriers.calls().len() + 1;
    let waiting = tokio::spawn({
        let (node, attempt) = (node.clone(), attempt.clone());
        async move { said(node.begin(wanted(&attempt, "call")).await) }
    });
    until(|| world.carriers.calls().len() == calls).await;
    (waiting, world.store.prompts().last().expect("opened").prompt_id.clone())
}

fn cancel(attempt: &Attempt, reason: &str) -> CancelRequest {
    let transaction_id = attempt.transaction_id.clone();
    CancelRequest { transaction_id, reason: reason.into(), ..CancelRequest::default() }
}

fn in_time(attempt: &Attempt, left: Duration) -> Request<BeginRequest> {
    let message = BeginRequest {
        attempt: Some(attempt.clone().into()),
        primary: Primary::Passed.into(),
        ..BeginRequest::default()
    };
    service_kit::grpc::with_deadline(Request::new(message), left)
}

pub async fn until(condition: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came to that");
}

#[tokio::test]
async fn every_answer_on_the_phone_is_its_own_end_of_a_waiting_login() {
    // V-21: the outcome, what is said, and that it is recorded with its method
    for (outcome, assurance, expected) in [
        ("approved", "approve_only", "allow user_approved"),
        ("denied", "", "deny user_denied"),
        ("cancelled", "", "deny user_cancelled"),
        ("fraud", "", "deny reported_fraud"),
        ("wrong_number", "", "deny wrong_number"),
        ("expired", "", "deny no_answer"),
        ("unreachable", "", "deny unreachable"),
        ("provider_error", "", "deny provider_error"),
        ("locked_out", "", "deny locked_out"),
        ("wrong_pin", "", "deny wrong_pin"),
        // Nobody knows it, or it would be a success by another name: no answer, never a yes (V-75).
        ("user_approved", "", "deny internal_error"),
        ("sure", "", "deny internal_error"),
    ] {
        let world = world();
        let node = world.node().await;
        world.carriers.answers(outcome, assurance);
        assert_eq!(said(node.begin(passed(&attempt("waits", "bob"), None)).await), expected, "{outcome}");
        let events = world.store.events();
        let [event] = &events[..] else { panic!("{outcome}: {} events", events.len()) };
        assert_eq!((event.method.as_str(), event.reason.as_str()), ("push", expected.split(' ').nth(1).expect("two")));
        assert_eq!(event.assurance, if outcome == "approved" { "approve_only" } else { "" });
    }
}

#[tokio::test]
async fn every_end_of_a_call_is_its_own_reason() {
    // FV-02, V-19
    for (outcome, expected) in [
        ("approved", "allow call_confirmed"),
        ("no_keys_pressed", "deny no_keys_pressed"),
        ("hung_up", "deny hung_up"),
        ("busy", "deny busy"),
        ("voicemail", "deny voicemail"),
        ("expired", "deny no_answer"),
        ("fraud", "deny reported_fraud"),
    ] {
        let world = World::new();
        world.store.change("bob", |user| user.phone = "030 901820".into());
        let node = world.node().await;
        world.carriers.answers(outcome, "phone");
        assert_eq!(said(node.begin(wanted(&attempt("waits", "bob"), "call")).await), expected, "{outcome}");
        assert_eq!(world.carriers.calls(), [("+4930901820".to_owned(), false)]);
        assert_eq!(world.store.events()[0].method, "call");
    }
}

#[tokio::test]
async fn without_a_word_from_the_bus_a_login_wakes_all_the_same() {
    // V-42, V-73
    let world = world();
    let node = world.node().await;
    world.carriers.person(Person::Answers { outcome: "approved", assurance: "approve_only", told: false });
    assert_eq!(said(node.begin(passed(&attempt("waits", "bob"), None)).await), "allow user_approved");
}

#[tokio::test]
async fn what_the_bus_says_is_looked_up_and_not_believed() {
    // V-73: a forged "resolved" wakes nobody up to anything
    let world = world();
    let node = world.node().await;
    let waiting = tokio::spawn({
        let (node, attempt) = (node.clone(), attempt("waits", "bob"));
        async move { said(node.begin(in_time(&attempt, Duration::from_secs(4))).await) }
    });
    until(|| world.store.prompts().len() == 1).await;
    use service_kit::bus::Bus;
    let forged = proto::subjects::challenge_resolved(&world.store.prompts()[0].prompt_id);
    for _ in 0..10 {
        world.bus.publish(&forged, bytes::Bytes::from_static(b"approved")).await.expect("told");
    }
    assert_eq!(waiting.await.expect("ends"), "deny no_answer");
}

#[tokio::test]
async fn a_client_that_shows_a_text_shows_the_number_and_any_answer_waits() {
    // V-22, R-47
    let world = world();
    let node = world.node().await;
    let attempt = attempt("vpn", "bob");
    let ask = asked(node.begin(passed(&attempt, None)).await);
    let [prompt] = &world.store.prompts()[..] else { panic!("one prompt") };
    assert_eq!((ask.method.as_str(), ask.kind, ask.step), ("push", 6, 1));
    assert_eq!(ask.number, prompt.number);
    assert!((10..=99).contains(&ask.number.parse::<u32>().expect("digits")));
    assert_eq!(ask.expires_unix_ms, NOW + 110_000);
    let waiting = tokio::spawn({
        let (node, attempt) = (node.clone(), attempt.clone());
        async move { said(node.answer(answer(&attempt, 1, "")).await) }
    });
    world.store.resolve(&prompt.prompt_id, "approved", "number_matched", NOW);
    assert_eq!(waiting.await.expect("ends"), "allow user_approved");
    assert_eq!(world.store.events()[0].assurance, "number_matched");
    // The conversation is over: a copy hears the same, another answer and a look nothing.
    assert_eq!(said(node.answer(answer(&attempt, 1, "")).await), "allow user_approved");
    assert_eq!(said(node.answer(answer(&attempt, 1, "x")).await), "deny challenge_gone");
    assert_eq!(said(node.r#await(look(&attempt, 1, 10)).await), "deny challenge_gone");
}

#[tokio::test]
async fn a_dialogue_shows_at_once_and_looks_as_often_as_it_likes() {
    // X 11: still open = the same question again
    let world = world();
    let node = world.node().await;
    let portal = Attempt { protocol: "portal".into(), dialogue: true, ..attempt("portal", "bob") };
    let first = asked(node.begin(passed(&portal, None)).await);
    assert_eq!(first.kind, 6);
    for wait_ms in [0, 20] {
        assert_eq!(asked(node.r#await(look(&portal, 1, wait_ms)).await), first);
    }
    let elsewhere = Attempt { client: "vpn".into(), ..portal.clone() };
    assert_eq!(said(node.r#await(look(&elsewhere, 1, 0)).await), "deny challenge_gone");
    assert_eq!(said(node.r#await(look(&portal, 2, 0)).await), "deny challenge_gone");
    world.store.resolve(&world.store.prompts()[0].prompt_id, "denied", "", NOW);
    assert_eq!(said(node.r#await(look(&portal, 1, 0)).await), "deny user_denied");
    assert_eq!(world.store.reasons(), ["user_denied"]);
}

#[tokio::test]
async fn an_approval_that_proves_less_than_the_client_demands_lets_nobody_in() {
    // V-03, FV-15
    for (assurance, expected) in [
        ("approve_only", "deny no_usable_method"),
        ("", "deny no_usable_method"),
        ("number_matched", "allow user_approved"),
    ] {
        let world = world();
        let node = world.node().await;
        let attempt = attempt("strong", "bob");
        world.carriers.answers("approved", assurance);
        asked(node.begin(passed(&attempt, None)).await);
        assert_eq!(said(node.answer(answer(&attempt, 1, "")).await), expected, "{assurance}");
    }
}

#[tokio::test]
async fn a_technical_failure_leads_to_the_next_method_and_a_refusal_to_none() {
    // FR-06, FV-13, V-25: what the push comes to, what the call comes to, at a client that falls back to a code and one that does not
    let failed = Mood::Refuse(domain::Reason::ProviderError);
    for (client, push, call, outcome, expected) in [
        ("waits", failed, Mood::Accept, "approved", "allow call_confirmed"),
        ("waits", Mood::NoProvider, Mood::Accept, "approved", "allow call_confirmed"),
        ("waits", failed, Mood::Accept, "hung_up", "deny hung_up"),
        ("waits", failed, failed, "approved", "deny provider_error"),
        ("waits", Mood::Accept, Mood::Accept, "denied", "deny user_denied"),
        ("waits", Mood::Accept, Mood::Accept, "fraud", "deny reported_fraud"),
        ("back", failed, failed, "approved", "ask 1 after provider_error"),
        ("back", failed, Mood::Accept, "busy", "ask 1 after busy"),
        ("back", failed, Mood::Accept, "voicemail", "ask 1 after voicemail"),
        ("back", failed, Mood::Accept, "no_keys_pressed", "ask 1 after no_keys_pressed"),
        ("back", failed, Mood::Accept, "unreachable", "ask 1 after unreachable"),
        ("back", Mood::Accept, failed, "expired", "ask 1 after provider_error"),
        ("back", Mood::Accept, Mood::Accept, "expired", "ask 1 after no_answer"),
        ("waits", Mood::Accept, Mood::Accept, "expired", "deny no_answer"),
        ("back", failed, Mood::Accept, "hung_up", "deny hung_up"),
        ("back", Mood::Accept, Mood::Accept, "denied", "deny user_denied"),
        ("back", Mood::Accept, Mood::Accept, "fraud", "deny reported_fraud"),
    ] {
        let world = rich();
        world.store.change_settings(|settings| settings.providers.retain(|provider| provider.name.as_str() == "calls"));
        let node = world.node().await;
        world.carriers.push_mood(push);
        world.carriers.call_mood(call);
        world.carriers.answers(outcome, "phone");
        let attempt = attempt(client, "ann");
        let what = format!("{client} {push:?} {call:?} {outcome}");
        assert_eq!(said(node.begin(passed(&attempt, None)).await), expected, "{what}");
        if expected.starts_with("ask") {
            assert_eq!(said(node.answer(answer(&attempt, 1, &world.code(0))).await), "allow valid_code", "{what}");
        }
        assert!(world.store.prompts().iter().all(|prompt| !prompt.outcome.is_empty()), "{what}: one is left open");
    }
}

#[tokio::test]
async fn who_was_shown_the_list_falls_back_to_a_code_only_where_the_client_says_so() {
    // FR-06, FV-12, FV-13: fallback_code is the client's, whatever the company's `choice` is
    for (client, expected) in [("waits", "deny provider_error"), ("back", "ask 2 after provider_error")] {
        let world = rich();
        world.store.change_settings(|settings| settings.verification.choice = domain::settings::Choice::ListFirst);
        let node = world.node().await;
        world.carriers.push_mood(Mood::Refuse(domain::Reason::ProviderError));
        let attempt = attempt(client, "ann");
        let list = asked(node.begin(passed(&attempt, None)).await);
        assert!(list.choices.contains(&"push".to_owned()), "{list:?}");
        assert_eq!(said(node.answer(answer(&attempt, 1, "push")).await), expected, "{client}");
    }
}

#[tokio::test]
async fn a_phone_that_nobody_looks_at_leaves_time_to_ask_for_a_code() {
    // FR-06: the usual case. The wait is used up by the phone but for what the question needs, and the question outlives it.
    let world = World::new();
    world.store.give_phone("ann");
    let node = world.node().await;
    world.carriers.person(Person::Nothing);
    let (attempt, wait) = (attempt("back", "ann"), Duration::from_secs(5));
    let begun = std::time::Instant::now();
    assert_eq!(said(node.begin(in_time(&attempt, wait)).await), "ask 1 after no_answer");
    let took = begun.elapsed();
    assert!((wait - Duration::from_secs(2)..wait).contains(&took), "{took:?}");
    let [prompt] = &world.store.prompts()[..] else { panic!("one prompt") };
    assert_eq!(prompt.outcome, "expired", "a late yes opens nothing");
    assert_eq!(said(node.answer(answer(&attempt, 1, &world.code(0))).await), "allow valid_code");
}

#[tokio::test]
async fn a_phone_that_may_not_be_asked_now_leaves_the_code() {
    // V-23, FV-24: a code still works; where none can be typed the caller hears until when
    let world = rich();
    let node = world.node().await;
    world.carriers.answers("denied", "");
    assert_eq!(said(node.begin(passed(&attempt("waits", "ann"), None)).await), "deny user_denied");
    let blind = Attempt { can_challenge: false, ..attempt("waits", "ann") };
    assert_eq!(said(node.begin(passed(&blind, None)).await), "deny cooling_down");
    let attempt = attempt("waits", "ann");
    assert_eq!(said(node.begin(passed(&attempt, None)).await), "ask 1 after cooling_down");
    assert_eq!(said(node.answer(answer(&attempt, 1, &world.code(0))).await), "allow valid_code");
    assert_eq!(world.store.prompts().len(), 1);
}

#[tokio::test]
async fn one_prompt_is_open_at_a_time_whoever_asks() {
    // V-23
    let world = world();
    let node = world.node().await;
    asked(node.begin(passed(&attempt("vpn", "bob"), None)).await);
    assert_eq!(said(node.begin(passed(&attempt("waits", "bob"), None)).await), "deny prompt_pending");
    assert_eq!(world.carriers.pushes().len(), 1);
}

#[tokio::test]
async fn a_thousand_right_passwords_from_fifty_clients_are_three_prompts_at_most() {
    // V-23 ★: ten minutes, twenty at a time; the person does not answer
    let world = world();
    world.store.change_settings(|settings| {
        let template = settings.client("waits").expect("a client").clone();
        for number in 0..50 {
            settings.clients.push(domain::settings::Client {
                name: format!("c{number}").parse().expect("a name"),
                ..template.clone()
            });
        }
    });
    let (one, other) = (world.node().await, world.node().await);
    world.carriers.answers("expired", "");
    for round in 0..50 {
        let logins = (0..20).map(|login| {
            let node: &Arc<Service> = if login % 2 == 0 { &one } else { &other };
            let attempt = attempt(&format!("c{}", (round * 20 + login) % 50), "bob");
            async move { said(node.begin(passed(&attempt, None)).await) }
        });
        for said in join_all(logins).await {
            assert!(said.starts_with("deny"), "{said}");
        }
        world.clock.advance(12_000);
    }
    let sent = world.carriers.pushes().len();
    assert!((1..=3).contains(&sent), "{sent} prompts");
}

#[tokio::test]
async fn a_login_begun_twice_on_two_nodes_is_one_prompt_and_one_login() {
    // V-02: the gateway asks another node after the first has died, or has not
    let world = world();
    let (one, other) = (world.node().await, world.node().await);
    let attempt = attempt("waits", "bob");
    let begin = |node: Arc<Service>| {
        let attempt = attempt.clone();
        tokio::spawn(async move { said(node.begin(passed(&attempt, None)).await) })
    };
    let first = begin(one);
    until(|| world.store.prompts().len() == 1).await;
    let second = begin(other);
    until(|| world.store.calls("open_prompt") == 2).await;
    world.store.resolve(&world.store.prompts()[0].prompt_id, "approved", "approve_only", NOW);
    assert_eq!(first.await.expect("ends"), "allow user_approved");
    assert_eq!(second.await.expect("ends"), "allow user_approved");
    assert_eq!((world.store.prompts().len(), world.store.reasons()), (1, vec!["user_approved".to_owned()]));
}

#[tokio::test]
async fn a_prompt_opened_on_one_node_is_answered_through_another() {
    //
    let world = world();
    let (one, other) = (world.node().await, world.node().await);
    let attempt = attempt("vpn", "bob");
    asked(one.begin(passed(&attempt, None)).await);
    world.carriers.answers("approved", "number_matched");
    world.store.resolve(&world.store.prompts()[0].prompt_id, "approved", "number_matched", NOW);
    assert_eq!(said(other.answer(answer(&attempt, 1, "")).await), "allow user_approved");
}

#[tokio::test]
async fn an_attempt_that_begins_again_shows_the_same_number() {
    // V-02
    let world = world();
    let (one, other) = (world.node().await, world.node().await);
    let attempt = attempt("vpn", "bob");
    let first = asked(one.begin(passed(&attempt, None)).await);
    assert_eq!(asked(other.begin(passed(&attempt, None)).await), first);
    assert_eq!(world.store.prompts().len(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_prompt_along() {
    // L-13, V-44: the person is not asked for somebody who has left
    let world = world();
    let node = world.node().await;
    let attempt = Attempt { protocol: "ldap".into(), ..attempt("waitsldap", "bob") };
    let waiting = tokio::spawn({
        let (node, attempt) = (node.clone(), attempt.clone());
        async move { said(node.begin(passed(&attempt, None)).await) }
    });
    until(|| world.carriers.pushes().len() == 1).await;
    waiting.abort();
    until(|| world.store.prompts()[0].outcome == "withdrawn").await;
    until(|| world.store.reasons() == ["no_answer"]).await;
    assert!(!world.store.resolve(&world.store.prompts()[0].prompt_id, "approved", "approve_only", NOW));
}

#[tokio::test]
async fn a_prompt_outlives_the_radius_gateway_that_asked_for_it() {
    // it was killed while the person looked at the phone; its device asks another gateway, and that one another node
    let world = world();
    let (node, other) = (world.node().await, world.node().await);
    let attempt = attempt("waits", "bob");
    let begin = |node: Arc<Service>| {
        let attempt = attempt.clone();
        tokio::spawn(async move { said(node.begin(passed(&attempt, None)).await) })
    };
    let killed = begin(node);
    until(|| world.carriers.pushes().len() == 1).await;
    killed.abort();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.store.prompts()[0].outcome, "");
    let again = begin(other);
    until(|| world.store.calls("open_prompt") == 2).await;
    let prompt = world.store.prompts()[0].prompt_id.clone();
    assert!(world.store.resolve(&prompt, "approved", "approve_only", NOW));
    assert_eq!(again.await.expect("answered"), "allow user_approved");
    assert_eq!((world.store.prompts().len(), world.store.reasons()), (1, vec!["user_approved".to_owned()]));
    // The second replaces the first on the phone: nobody knows whether that one was sent.
    assert_eq!(world.carriers.pushes(), [prompt.as_str(), &prompt]);
}

#[tokio::test]
async fn a_login_that_nobody_finishes_has_its_event() {
    // V-61: its gateway was killed while a question was open; the map of questions is read by whoever goes on
    let world = world();
    let (node, other) = (world.node().await, world.node().await);
    let code = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&code, None)).await), "ask 1");
    let phone = attempt("vpn", "bob");
    asked(node.begin(passed(&phone, None)).await);
    // Another node has asked anew: that one's question is its own.
    let moved = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&moved, None)).await), "ask 1");
    assert_eq!(said(other.answer(answer(&moved, 1, "000000")).await), "ask 2 after wrong_code");
    // And one is finished.
    let finished = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&finished, None)).await), "ask 1");
    assert_eq!(said(node.answer(answer(&finished, 1, &world.code(0))).await), "allow valid_code");
    // As long as its gateway may end it itself.
    world.clock.advance(120_000);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.store.reasons(), ["valid_code"]);
    world.clock.advance(20_000);
    until(|| world.store.events().len() == 4).await;
    let ended = |attempt: &Attempt| {
        let events = world.store.events();
        let event = events.iter().find(|event| event.transaction_id == attempt.transaction_id).expect("an event");
        (event.reason.clone(), event.method.clone())
    };
    let no_answer = |method: &str| ("no_answer".to_owned(), method.to_owned());
    assert_eq!(ended(&code), no_answer("code"));
    assert_eq!(ended(&phone), no_answer("push"));
    assert_eq!(world.store.prompts()[0].outcome, "withdrawn", "nobody waits for it");
    assert_eq!(ended(&moved), no_answer("code"), "by the node that asked last");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.store.events().len(), 4, "each once");
    assert_eq!(said(other.answer(answer(&code, 1, &world.code(0))).await), "deny challenge_gone");
}

#[tokio::test]
async fn a_login_that_nobody_finishes_has_its_event_also_after_an_outage() {
    // V-61: the store, or the map of questions, is away when the time of a question is over
    for call in ["record", "get_prompts"] {
        let world = world();
        let node = world.node().await;
        asked(node.begin(passed(&attempt("vpn", "bob"), None)).await);
        world.store.break_call(call, Fault::Unavailable);
        world.clock.advance(140_000);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let (events, prompt) = (world.store.events().len(), world.store.prompts()[0].outcome.clone());
        match call {
            "record" => assert_eq!((events, prompt.as_str()), (0, "withdrawn")),
            _ => assert_eq!((events, prompt.as_str()), (1, ""), "recorded all the same"),
        }
        world.store.mend();
        world.clock.advance(6_000);
        until(|| world.store.prompts()[0].outcome == "withdrawn" && world.store.events().len() == 1).await;
        assert_eq!(world.store.reasons(), ["no_answer"], "{call}");
        assert_eq!(world.store.events()[0].method, "push");
    }
    // Of one that its gateway ends it is said then, too, and in its words.
    let world = world();
    let node = world.node().await;
    let left = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&left, None)).await), "ask 1");
    world.store.break_call("record", Fault::Unavailable);
    let end = CancelRequest { step: 1, ..cancel(&left, "shutting_down") };
    node.cancel(request(end)).await.expect_err("nothing is recorded");
    world.store.mend();
    world.clock.advance(6_000);
    until(|| world.store.reasons() == ["shutting_down"]).await;

    let world = self::world();
    let node = world.node().await;
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), None)).await), "ask 1");
    world.bus.set_away(true);
    world.clock.advance(140_000);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    world.bus.set_away(false);
    world.clock.advance(6_000);
    until(|| world.store.events().len() == 1).await;
    assert_eq!(world.store.reasons(), ["no_answer"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_waits_for_any_more_is_the_end_of_its_login() {
    // V-61: the gateway was killed, and no other goes on; the person says something all the same
    for (outcome, assurance, reason) in
        [("approved", "approve_only", "no_answer"), ("denied", "", "user_denied"), ("fraud", "", "reported_fraud")]
    {
        let world = world();
        let node = world.node().await;
        let attempt = attempt("waits", "bob");
        let waiting = tokio::spawn({
            let (node, attempt) = (node.clone(), attempt.clone());
            async move { said(node.begin(in_time(&attempt, Duration::from_secs(50))).await) }
        });
        until(|| world.carriers.pushes().len() == 1).await;
        waiting.abort();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(world.store.resolve(&world.store.prompts()[0].prompt_id, outcome, assurance, NOW));
        tokio::time::sleep(Duration::from_secs(45)).await;
        assert_eq!(world.store.reasons(), [""; 0], "another gateway may still go on");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(world.store.reasons(), [reason], "{outcome}");
    }
    // Whoever stops meanwhile says it before.
    let world = world();
    let node = world.node().await;
    let attempt = attempt("waits", "bob");
    let waiting = tokio::spawn(async move { said(node.begin(in_time(&attempt, Duration::from_secs(50))).await) });
    until(|| world.carriers.pushes().len() == 1).await;
    waiting.abort();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.store.resolve(&world.store.prompts()[0].prompt_id, "denied", "", NOW));
    world.stop();
    until(|| world.store.reasons() == ["user_denied"]).await;
}

#[tokio::test]
async fn a_cancelled_attempt_asks_nobody_any_more() {
    let world = world();
    let node = world.node().await;
    let attempt = attempt("vpn", "bob");
    asked(node.begin(passed(&attempt, None)).await);
    let cancel = |client: &str| CancelRequest {
        transaction_id: attempt.transaction_id.clone(),
        reason: "user_cancelled".into(),
        client: client.into(),
        ..CancelRequest::default()
    };
    // FC-05: what another client began is none of its business.
    node.cancel(request(cancel("wifi"))).await.expect("heard");
    assert_eq!((world.store.prompts()[0].outcome.as_str(), world.store.reasons().len()), ("", 0));
    node.cancel(request(cancel("vpn"))).await.expect("cancelled");
    assert_eq!(world.store.prompts()[0].outcome, "withdrawn");
    assert_eq!(world.store.reasons(), ["user_cancelled"]);
    assert_eq!(world.store.events()[0].method, "push");
    assert_eq!(said(node.answer(answer(&attempt, 1, "")).await), "deny challenge_gone");
}

#[tokio::test]
async fn a_call_that_was_withdrawn_is_hung_up_and_one_that_was_answered_is_not() {
    // V-23, R-32: whoever asks anew finds the telephone free
    let world = called();
    let node = world.node().await;
    world.carriers.hang_up_mood(Mood::Delay(Duration::from_millis(300)));
    for reason in ["challenge_gone", "no_answer"] {
        let attempt = attempt("waits", "bob");
        let (waiting, prompt_id) = rings(&world, &node, &attempt).await;
        node.cancel(request(cancel(&attempt, reason))).await.expect("cancelled");
        assert!(world.carriers.hung_up().contains(&prompt_id), "it still rings");
        assert_eq!(waiting.await.expect("answered"), "deny challenge_gone");
    }
    world.carriers.answers("approved", "phone");
    assert_eq!(said(node.begin(wanted(&attempt("waits", "bob"), "call")).await), "allow call_confirmed");
    assert!(!world.carriers.hung_up().contains(&world.store.prompts()[2].prompt_id));
}

#[tokio::test]
async fn a_vendor_that_does_not_hang_up_keeps_nobody_waiting_for_long() {
    // the gateway waits three seconds
    let world = called();
    let node = world.node().await;
    world.carriers.hang_up_mood(Mood::Hang);
    let attempt = attempt("waits", "bob");
    rings(&world, &node, &attempt).await;
    let cancelled = node.cancel(request(cancel(&attempt, "challenge_gone")));
    tokio::time::timeout(Duration::from_secs(2), cancelled).await.expect("in time").expect("cancelled");
    assert_eq!(world.store.prompts()[0].outcome, "withdrawn");
}

#[tokio::test]
async fn a_call_is_hung_up_whoever_ended_its_prompt() {
    // V-23, FV-25: an administrator blocks the person; another attempt finds its time over; ours is
    for outcome in ["withdrawn", "expired"] {
        let world = called();
        let node = world.node().await;
        let (waiting, prompt_id) = rings(&world, &node, &attempt("waits", "bob")).await;
        assert!(world.store.resolve(&prompt_id, outcome, "", NOW));
        waiting.await.expect("answered");
        until(|| world.carriers.hung_up() == [prompt_id.as_str()]).await;
    }
    let world = called();
    let begin =
        service_kit::grpc::with_deadline(wanted(&attempt("waits", "bob"), "call"), Duration::from_millis(4_500));
    assert_eq!(said(world.node().await.begin(begin).await), "deny no_answer");
    until(|| world.carriers.hung_up().len() == 1).await;
}

#[tokio::test]
async fn a_call_that_is_over_is_not_hung_up_a_second_time_for_a_caller_that_left() {
    // the gateway that gave up on the request withdraws it; what it left behind here finds it over
    let world = called();
    let node = world.node().await;
    let attempt = attempt("waits", "bob");
    let begin = service_kit::grpc::with_deadline(wanted(&attempt, "call"), Duration::from_millis(4_500));
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { said(node.begin(begin).await) }
    });
    until(|| world.carriers.calls().len() == 1).await;
    waiting.abort();
    node.cancel(request(cancel(&attempt, "challenge_gone"))).await.expect("cancelled");
    let looked = world.store.calls("get_prompts");
    until(|| world.store.calls("get_prompts") > looked).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((world.carriers.hung_up().len(), world.store.calls("resolve_prompt")), (1, 1));
}

#[tokio::test]
async fn the_last_moment_belongs_to_the_person() {
    // The prompt's time is over for us, and the store has an approval: that holds.
    let world = world();
    let node = world.node().await;
    let waiting = tokio::spawn({
        let (node, attempt) = (node.clone(), attempt("waits", "bob"));
        async move { said(node.begin(in_time(&attempt, Duration::from_millis(4_500))).await) }
    });
    until(|| world.store.prompts().len() == 1).await;
    world.store.break_call("get_prompts", crate::fakes::Fault::Unavailable);
    world.store.resolve(&world.store.prompts()[0].prompt_id, "approved", "approve_only", NOW);
    assert_eq!(waiting.await.expect("ends"), "allow user_approved");
}

#[tokio::test]
async fn a_provider_that_hangs_or_lies_costs_no_more_than_the_callers_time() {
    // V-44
    for mood in [Mood::Hang, Mood::Lie, Mood::Delay(Duration::from_secs(60))] {
        let world = world();
        let node = world.node().await;
        world.carriers.push_mood(mood);
        let begun = tokio::time::Instant::now();
        let left = Duration::from_millis(6_000);
        assert_eq!(said(node.begin(in_time(&attempt("waits", "bob"), left)).await), "deny no_answer", "{mood:?}");
        assert!(begun.elapsed() < left, "{mood:?}");
        assert!(world.store.prompts().iter().all(|prompt| !prompt.outcome.is_empty()));
    }
}

#[tokio::test]
async fn an_approval_without_the_pin_that_was_asked_is_none() {
    // FV-20
    let world = world();
    world.store.change("bob", |user| {
        user.pin = Some(proto::user_store::Pin { set: true, ..proto::user_store::Pin::default() });
    });
    let node = world.node().await;
    world.carriers.answers("approved", "approve_only");
    assert_eq!(said(node.begin(passed(&attempt("pinned", "bob"), None)).await), "deny wrong_pin");
    assert!(world.store.prompts()[0].pin_asked);
}

#[tokio::test]
async fn an_approval_with_the_pin_of_this_login_lets_in() {
    // FV-20: the phone's side checks it, the login spends its proof
    let world = world();
    world.store.change("bob", |user| {
        user.pin = Some(proto::user_store::Pin { set: true, ..proto::user_store::Pin::default() });
    });
    world.store.give_secret("bob", proto::user_store::SecretKind::Pin, "7391", 1_000);
    for (transaction, expected) in [("", "allow user_approved"), ("another", "deny blocked")] {
        let node = world.node().await;
        let attempt = attempt("pinned", "bob");
        let waiting = tokio::spawn({
            let (node, attempt) = (node.clone(), attempt.clone());
            async move { said(node.begin(passed(&attempt, None)).await) }
        });
        until(|| world.store.prompts().iter().any(|prompt| prompt.outcome.is_empty())).await;
        let prompt = world.store.prompts().pop().expect("a prompt");
        let of = if transaction.is_empty() { prompt.transaction_id.as_str() } else { transaction };
        let handle = world.store.prove_pin("bob", of, "7391");
        world.store.approve_with_pin(&prompt, &handle, NOW);
        assert_eq!(waiting.await.expect("ends"), expected);
    }
}

#[tokio::test]
async fn thousands_of_waiting_logins_ask_the_store_nothing() {
    // V-44: a task and some bytes each; one question a second for all of them
    const LOGINS: usize = 4_000;
    let world = world();
    let node = world.node().await;
    world.store.crowd(LOGINS);
    let logins: Vec<_> = (0..LOGINS)
        .map(|number| {
            let attempt = Attempt {
                transaction_id: Uuid::now_v7().to_string(),
                subject: Some(crate::fakes::crowd_subject(number)),
                ..attempt("waits", "bob")
            };
            let node = node.clone();
            tokio::spawn(async move { said(node.begin(in_time(&attempt, Duration::from_secs(100))).await) })
        })
        .collect();
    for _ in 0..4_000 {
        if world.store.prompts_open() == LOGINS && world.carriers.pushes().len() == LOGINS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.store.prompts_open(), LOGINS);
    // The settings are polled by the node, the prompts by its one poller; a login asks nothing.
    let upkeep = ["get_prompts", "fetch", "key_ring"];
    let (others, looks) = (world.store.calls_but(&upkeep), world.store.calls("get_prompts"));
    until(|| world.store.calls("get_prompts") > looks).await;
    assert_eq!(world.store.calls_but(&upkeep), others, "who waits asks nothing");
    world.store.resolve_all("approved", NOW);
    for login in logins {
        assert_eq!(login.await.expect("ends"), "allow user_approved");
    }
}
