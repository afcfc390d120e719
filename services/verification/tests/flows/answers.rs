//! Answers to questions: heard once, said again to whoever did not hear; how long and how often, by the client (FR-14, R-44).

use crate::fakes::{Fault, World, answer, asked, attempt, passed, replayed, said};
use domain::settings::{Choice, Settings};
use futures::future::join_all;
use proto::verification::verification_server::Verification;
use std::collections::BTreeMap;
use std::sync::Arc;

fn client<'a>(settings: &'a mut Settings, name: &str) -> &'a mut domain::settings::Client {
    settings.clients.iter_mut().find(|client| client.name.as_str() == name).expect("a client")
}

#[tokio::test]
async fn an_answer_that_is_sent_again_hears_what_it_came_to() {
    // V-02, R-44: answers of a conversation and what is said, each twice and by another node; nothing is evaluated twice
    let world = World::new();
    let (node, other) = (world.node().await, world.node().await);
    let first = attempt("vpn", "ann");
    asked(node.begin(passed(&first, None)).await);
    let right = world.code(0);
    for (step, typed, expected) in
        [(1, "000000", "ask 2 after wrong_code"), (2, "", "ask 3"), (3, right.as_str(), "allow valid_code")]
    {
        for node in [&node, &other, &node] {
            assert_eq!(said(node.answer(answer(&first, step, typed)).await), expected, "{step}");
        }
    }
    assert_eq!(world.store.granted(), 2, "compared once each");
    assert_eq!(world.store.reasons(), ["valid_code"]);
    // the same answer in another packet, or in one that nobody asks about again
    let unmarked = proto::verification::AnswerRequest { mark: Vec::new(), ..answer(&first, 3, &right).into_inner() };
    for again in [replayed(&first, 3, &right), tonic::Request::new(unmarked)] {
        assert_eq!(said(node.answer(again).await), "deny challenge_gone");
    }
    // another answer, another round, another client: nothing
    for (step, typed) in [(3, "000000"), (2, ""), (1, "000000"), (4, right.as_str())] {
        assert_eq!(said(node.answer(answer(&first, step, typed)).await), "deny challenge_gone", "{step}");
    }
    let foreign = proto::verification::Attempt { client: "lax".into(), ..first.clone() };
    assert_eq!(said(node.answer(answer(&foreign, 3, &right)).await), "deny challenge_gone");
    // nor after the Allow has had its time
    world.clock.advance(10_000);
    assert_eq!(said(node.answer(answer(&first, 3, &right)).await), "deny challenge_gone");
}

#[tokio::test]
async fn a_refusal_is_said_again_and_recorded_once() {
    let world = World::new();
    let node = world.node().await;
    let first = attempt("vpn", "ann");
    asked(node.begin(passed(&first, None)).await);
    for step in 1..3 {
        asked(node.answer(answer(&first, step, "000000")).await);
    }
    world.store.break_call("record", Fault::Unavailable);
    assert_eq!(said(node.answer(answer(&first, 3, "000000")).await), "unavailable");
    world.store.mend();
    for _ in 0..2 {
        assert_eq!(said(node.answer(answer(&first, 3, "000000")).await), "deny wrong_code");
    }
    assert_eq!(world.store.reasons(), ["wrong_code"], "the event that was lost is there");
}

#[tokio::test]
async fn nobody_is_let_in_again_who_was_blocked_since() {
    let world = World::new();
    let node = world.node().await;
    let first = attempt("vpn", "ann");
    asked(node.begin(passed(&first, None)).await);
    let code = world.code(0);
    assert_eq!(said(node.answer(answer(&first, 1, &code)).await), "allow valid_code");
    world.store.set_state("ann", "disabled");
    assert_eq!(said(node.answer(answer(&first, 1, &code)).await), "deny blocked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_copies_of_one_answer_hear_one_result() {
    // R-44, V-02: they wait for the one that is evaluated
    let world = World::new();
    let nodes = [world.node().await, world.node().await, world.node().await];
    let attempt = attempt("vpn", "ann");
    asked(nodes[0].begin(passed(&attempt, None)).await);
    let code = world.code(0);
    let copies = (0..50).map(|number| {
        let (node, attempt, code) = (nodes[number % 3].clone(), attempt.clone(), code.clone());
        tokio::spawn(async move { said(node.answer(answer(&attempt, 1, &code)).await) })
    });
    let mut results = BTreeMap::new();
    for result in join_all(copies).await {
        *results.entry(result.expect("no panic")).or_insert(0) += 1;
    }
    assert_eq!(results, BTreeMap::from([("allow valid_code".to_owned(), 50)]));
    assert_eq!((world.store.granted(), world.store.reasons().len()), (1, 1));
}

#[tokio::test]
async fn an_approval_is_said_again_to_the_answer_that_waited_for_it() {
    let world = World::new();
    world.store.give_phone("ann");
    let node = world.node().await;
    let first = attempt("vpn", "ann");
    let ask = asked(node.begin(passed(&first, None)).await);
    assert_eq!(ask.method, "push");
    let prompt = world.store.prompts().pop().expect("a prompt");
    world.store.resolve(&prompt.prompt_id, "approved", "number_matched", world.clock.now_ms());
    for _ in 0..2 {
        assert_eq!(said(node.answer(answer(&first, 1, "")).await), "allow user_approved");
    }
    assert_eq!(said(node.answer(answer(&first, 1, "x")).await), "deny challenge_gone");
    assert_eq!(world.store.reasons(), ["user_approved"]);
}

#[tokio::test]
async fn a_radius_client_says_how_long_a_round_is_and_how_many_answers_may_be_wrong() {
    // FR-14: 30-300 s, 1-5 answers
    for (seconds, round_ms) in [(30, 30_000), (300, 300_000), (5, 30_000), (4_000_000_000, 300_000)] {
        let world = World::new();
        world.store.change_settings(|it| client(it, "vpn").challenge_seconds = seconds);
        let node = world.node().await;
        let first = attempt("vpn", "ann");
        let begun = world.clock.now_ms();
        assert_eq!(asked(node.begin(passed(&first, None)).await).expires_unix_ms, begun + round_ms);
        world.clock.advance(round_ms - 1);
        let again = asked(node.answer(answer(&first, 1, "000000")).await);
        assert_eq!(again.expires_unix_ms, world.clock.now_ms() + round_ms, "each round is as long");
        world.clock.advance(round_ms);
        assert_eq!(said(node.answer(answer(&first, 2, &world.code(0))).await), "deny challenge_gone");
    }
    for (most, tries) in [(1, 1), (2, 2), (5, 5), (0, 1), (9, 5)] {
        let world = World::new();
        world.store.change_settings(|it| client(it, "vpn").answers_max = most);
        let node = world.node().await;
        let first = attempt("vpn", "ann");
        asked(node.begin(passed(&first, None)).await);
        for step in 1..tries {
            let expected = format!("ask {} after wrong_code", step + 1);
            assert_eq!(said(node.answer(answer(&first, step, "000000")).await), expected, "{most}");
        }
        assert_eq!(said(node.answer(answer(&first, tries, "000000")).await), "deny wrong_code", "{most}");
    }
    // Of other protocols it is no rule.
    let world = World::new();
    world.store.change_settings(|it| client(it, "sheets").challenge_seconds = 30);
    let node = world.node().await;
    let first = proto::verification::Attempt { protocol: "api".into(), ..attempt("sheets", "ann") };
    assert_eq!(asked(node.begin(passed(&first, None)).await).expires_unix_ms, world.clock.now_ms() + 120_000);
}

#[tokio::test]
async fn a_code_that_was_sent_is_waited_for_as_long_as_it_lives() {
    // FR-14
    let world = World::new();
    world.store.drop_tokens("ann");
    world.store.change("ann", |user| user.phone = "030 901820".into());
    world.store.change_settings(|it| client(it, "vpn").challenge_seconds = 30);
    world.store.change_settings(|it| client(it, "vpn").methods = vec![domain::Method::Sms]);
    let node = world.node().await;
    let first = attempt("vpn", "ann");
    let begun = world.clock.now_ms();
    assert_eq!(asked(node.begin(passed(&first, None)).await).expires_unix_ms, begun + 300_000);
    world.clock.advance(60_000);
    assert_eq!(asked(node.answer(answer(&first, 1, "000000")).await).expires_unix_ms, begun + 300_000);
}

#[tokio::test]
async fn wrong_answers_to_a_list_count_and_a_choice_costs_no_try() {
    // FR-14, FV-12
    let world = World::new();
    world.store.give_phone("ann");
    world.store.change_settings(|it| it.verification.choice = Choice::ListFirst);
    let node: Arc<_> = world.node().await;
    let first = attempt("vpn", "ann");
    asked(node.begin(passed(&first, None)).await);
    assert_eq!(said(node.answer(answer(&first, 1, "9")).await), "ask 2 after wrong_code");
    assert_eq!(said(node.answer(answer(&first, 2, "000000")).await), "ask 3 after wrong_code");
    assert_eq!(said(node.answer(answer(&first, 3, "telepathy")).await), "deny wrong_code");
    assert_eq!(world.store.granted(), 2, "a place in the list is compared with no token");
    let second = attempt("vpn", "ann");
    asked(node.begin(passed(&second, None)).await);
    asked(node.answer(answer(&second, 1, "9")).await);
    // push, code
    assert_eq!(asked(node.answer(answer(&second, 2, "2")).await).method, "code");
    assert_eq!(said(node.answer(answer(&second, 3, "000000")).await), "ask 4 after wrong_code");
    assert_eq!(said(node.answer(answer(&second, 4, "000000")).await), "deny wrong_code", "three in all");
}

#[tokio::test]
async fn an_allow_says_who_it_is_and_which_groups_of_the_clients_rules_they_are_in() {
    // R-69, FB-06: by name, DN, SID or id, also to the node that answers a later round; groups of no rule are nobody's business
    const GUID: &str = "objectGUID:7f1c2d3e-0000-4000-8000-00000000000a";
    let world = World::new();
    world.store.change("ann", |user| {
        user.groups =
            ["cn=vpn admins,ou=groups,dc=corp", GUID, "S-1-5-21-1-1104", "ou=vpn users,dc=corp", "cn=secret,dc=corp"]
                .map(Into::into)
                .to_vec();
    });
    world.store.change_settings(|settings| {
        let rule = |group: Option<&str>| {
            let set = serde_json::json!({ "Filter-Id": "x" });
            serde_json::from_value(serde_json::json!({ "when_group": group, "set": set })).expect("a rule")
        };
        let groups = ["VPN Admins", "VPN Users", GUID, "s-1-5-21-1-1104", "CN=VPN Admins, OU=groups, DC=corp"];
        client(settings, "vpn").reply = groups.into_iter().map(Some).chain([None]).map(rule).collect();
    });
    let (node, other) = (world.node().await, world.node().await);
    let first = attempt("vpn", "ann");
    asked(node.begin(passed(&first, None)).await);
    let outcome = other.answer(answer(&first, 1, &world.code(0))).await.expect("answered").into_inner();
    let Some(proto::verification::outcome::Result::Allow(allow)) = outcome.result else { panic!("not let in") };
    assert_eq!(allow.groups, ["VPN Admins", GUID, "s-1-5-21-1-1104", "CN=VPN Admins, OU=groups, DC=corp"]);
    assert_eq!(allow.subject, first.subject);
}

#[tokio::test]
async fn a_password_that_was_changed_ends_what_is_remembered_and_of_nobody_nothing_is() {
    // V-52
    let world = World::new();
    let node = world.node().await;
    for (name, forgotten) in [("nobody", 0), ("ann", 1)] {
        let request = proto::verification::PasswordChangedRequest {
            subject: attempt("wiki", name).subject,
            client: "wiki".into(),
        };
        node.password_changed(tonic::Request::new(request)).await.expect("taken");
        assert_eq!(world.store.forgotten().len(), forgotten, "{name}");
    }
    assert_eq!(world.store.forgotten(), ["id-of-ann"]);
    let nameless = proto::verification::PasswordChangedRequest::default();
    let refused = node.password_changed(tonic::Request::new(nameless)).await.expect_err("nobody is meant");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}
