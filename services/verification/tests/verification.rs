//! The service over a store and a bus that keep their contracts, and break them on command.

#[path = "flows/answers.rs"]
mod answers;
#[path = "flows/codes.rs"]
mod codes;
#[path = "flows/enrolment.rs"]
mod enrolment;
mod fakes;
#[path = "flows/observed.rs"]
mod observed;
#[path = "flows/prompts.rs"]
mod prompts;
#[path = "flows/rules.rs"]
mod rules;
#[path = "flows/texts.rs"]
mod texts;

use domain::Secret;
use fakes::{Fault, NOW, World, answer, attempt, complete, factor, passed, pending, request, said, subject};
use futures::future::join_all;
use proto::user_store::CodeFactor;
use proto::verification::enrolment_server::Enrolment;
use proto::verification::verification_server::Verification;
use proto::verification::{
    AppendedFormsRequest, Attempt, BeginRequest, CancelRequest, ConfirmCodeRequest, ReportRequest, StartCodeRequest,
    outcome::Result as Outcomes,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request};
use verification::Service;

// --- the decision ----------------------------------------------------------------------------------------------------

/// A user, clients with their protocols, whether they can ask, and what is decided.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool, &'a str);

#[tokio::test]
async fn every_entry_point_decides_by_the_same_table() {
    // V-01: user, rules of the client, code -> decision; the same through RADIUS, LDAP and, where its rules are equal, the portal
    let world = World::new();
    let node = world.node().await;
    let strict = [("vpn", "radius"), ("gitlab", "ldap"), ("portal", "portal")];
    let lax = [("lax", "radius"), ("laxldap", "ldap")];
    let cases: &[Case] = &[
        ("nobody", &strict, true, "deny unknown_user"),
        ("nobody", &lax, true, "allow unknown_user_passed"),
        ("bob", &strict, true, "deny not_enrolled"),
        ("bob", &lax, true, "allow not_enrolled_passed"),
        ("off", &strict, true, "deny blocked"),
        ("off", &lax, true, "deny blocked"),
        ("gone", &strict, true, "deny blocked"),
        ("gone", &lax, true, "deny blocked"),
        ("ann", &strict, true, "ask 1"),
        ("ann", &lax, true, "ask 1"),
        ("ann", &strict, false, "deny method_impossible"),
        ("ann", &lax, false, "deny method_impossible"),
        ("ann", &[("nothing", "radius")], true, "deny no_usable_method"),
        // a client of another protocol, or of none, is no client
        (
            "ann",
            &[("vpn", "ldap"), ("gitlab", "radius"), ("unheard", "radius"), ("vpn", "portal"), ("vpn", "api")],
            true,
            "deny client_not_allowed",
        ),
        ("nobody", &[("lax", "ldap"), ("laxldap", "portal")], true, "deny client_not_allowed"),
    ];
    for (user, clients, can_challenge, expected) in cases {
        for (client, protocol) in *clients {
            let attempt =
                Attempt { protocol: (*protocol).into(), can_challenge: *can_challenge, ..attempt(client, user) };
            assert_eq!(said(node.begin(passed(&attempt, None)).await), *expected, "{user} {client} {protocol}");
            let events = world.store.events();
            let recorded = events.iter().filter(|event| event.transaction_id == attempt.transaction_id).count();
            assert_eq!(
                recorded,
                usize::from(!expected.starts_with("ask")),
                "{user} {client}: one event, and none before the end"
            );
        }
    }
}

#[tokio::test]
async fn an_allow_says_what_it_rests_on_and_is_in_the_store_before_it_leaves() {
    // V-02, V-03, V-61
    let world = World::new();
    let node = world.node().await;
    let attempt = attempt("vpn", "ann");
    let outcome = node.begin(passed(&attempt, Some(&world.code(0)))).await.expect("answered").into_inner();
    assert_eq!(outcome.transaction_id, attempt.transaction_id);
    let Some(Outcomes::Allow(allow)) = outcome.result else { panic!("not allowed") };
    assert_eq!((allow.reason.as_str(), allow.method.as_str()), ("valid_code", "code"));
    assert_eq!((allow.assurance.as_str(), allow.source.as_str()), ("code", "live"));
    assert_eq!((allow.client.as_str(), allow.user_id.as_str()), ("vpn", "id-of-ann"));
    assert_eq!(allow.expires_unix_ms, NOW + 10_000);
    let events = world.store.events();
    let [event] = &events[..] else { panic!("{} events", events.len()) };
    assert_eq!(event.transaction_id, attempt.transaction_id);
    assert_eq!(
        (event.kind.as_str(), event.result.as_str(), event.reason.as_str()),
        ("authentication", "success", "valid_code")
    );
    assert_eq!((event.user_id.as_str(), event.username.as_str()), ("id-of-ann", "ann@corp.example"));
    assert_eq!((event.client.as_str(), event.client_ip.as_str()), ("vpn", "10.0.4.3"));
    assert_eq!((event.method.as_str(), event.assurance.as_str(), event.source.as_str()), ("code", "code", "live"));
    assert_eq!(event.at_unix_ms, NOW);
}

#[tokio::test]
async fn a_service_account_is_exempt_only_if_gateway_and_settings_say_so() {
    // L-22
    let world = World::new();
    let node = world.node().await;
    let app = Attempt {
        protocol: "ldap".into(),
        client_ip: "10.0.7.9".into(),
        service_account: true,
        can_challenge: false,
        ..attempt("gitlab", "app")
    };
    assert_eq!(said(node.begin(passed(&app, None)).await), "allow service_account");
    let again = |change: fn(&mut Attempt)| {
        let mut attempt = Attempt { transaction_id: uuid::Uuid::now_v7().to_string(), ..app.clone() };
        change(&mut attempt);
        attempt
    };
    for attempt in [
        again(|attempt| attempt.service_account = false),
        again(|attempt| attempt.client_ip = "10.0.8.9".into()),
        again(|attempt| attempt.client_ip = "localhost".into()),
        again(|attempt| attempt.subject = Some((&subject("nobody")).into())),
    ] {
        assert_eq!(said(node.begin(passed(&attempt, None)).await), "deny unknown_user");
    }
}

#[tokio::test]
async fn whom_neither_directory_nor_store_knows_is_let_in_where_the_client_says_so() {
    // V-61: the target let them in, its directory has proven that it has nobody of the name
    let world = World::new();
    let node = world.node().await;
    let absent = |client: &str, name: &str| Attempt {
        subject: None,
        proven_absent: true,
        username: name.into(),
        ..attempt(client, "nobody")
    };
    assert_eq!(said(node.begin(passed(&absent("lax", "stranger"), None)).await), "allow unknown_user_passed");
    let event = world.store.events().pop().expect("recorded");
    assert_eq!(
        (event.username.as_str(), event.user_id.as_str(), event.source.as_str()),
        ("stranger", "", "unknown_user")
    );
    assert_eq!(said(node.begin(passed(&absent("vpn", "stranger"), None)).await), "deny unknown_user");
    // Somebody has the name: enabled, or removed here.
    for name in ["ann@corp.example", "gone@corp.example"] {
        assert_eq!(said(node.begin(passed(&absent("lax", name), None)).await), "deny unknown_user", "{name}");
    }
    for fault in [Fault::Unavailable, Fault::Internal, Fault::Nonsense] {
        world.store.break_call("named", fault);
        assert_ne!(said(node.begin(passed(&absent("lax", "stranger"), None)).await), "allow unknown_user_passed");
    }
    world.store.mend();
    // Nobody is meant and somebody, or nobody says so; a code stands behind nobody's password.
    for (subject, proven_absent) in [(absent("lax", "x").subject, false), (attempt("lax", "ann").subject, true)] {
        let attempt = Attempt { subject, proven_absent, ..absent("lax", "stranger") };
        let status = node.begin(passed(&attempt, None)).await.expect_err("no sense");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(said(node.begin(pending(&absent("lax", "stranger"), "123456")).await), "deny wrong_code");
    assert_eq!(
        node.complete(complete(&absent("lax", "stranger"))).await.expect_err("nobody's").code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_no_decision() {
    // V-75, B-89
    let world = World::new();
    let node = world.node().await;
    let good = attempt("vpn", "ann");
    let broken: [fn(&mut Attempt); 5] = [
        |attempt| attempt.transaction_id = "7".into(),
        |attempt| attempt.subject = None,
        |attempt| attempt.subject.as_mut().expect("some").object_id = "uid=ann".into(),
        |attempt| attempt.protocol = "telnet".into(),
        |attempt| attempt.protocol = String::new(),
    ];
    for break_it in broken {
        let mut attempt = good.clone();
        break_it(&mut attempt);
        let refused = node.begin(passed(&attempt, Some(&world.code(0)))).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    for primary in [0, 3, -1] {
        let message = BeginRequest { attempt: Some(good.clone().into()), primary, ..BeginRequest::default() };
        assert_eq!(node.begin(request(message)).await.expect_err("refused").code(), Code::InvalidArgument);
    }
    assert!(node.begin(request(BeginRequest { primary: 1, ..BeginRequest::default() })).await.is_err());
    assert!(world.store.events().is_empty());
}

// --- replay ----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn the_same_request_asking_again_gets_the_first_result_and_another_one_gets_none_of_it() {
    // V-02: one login, whatever is replayed
    let world = World::new();
    let (node, other) = (world.node().await, world.node().await);
    let first = attempt("vpn", "ann");
    let code = world.code(0);
    assert_eq!(said(node.begin(passed(&first, Some(&code))).await), "allow valid_code");
    assert_eq!(said(other.begin(passed(&first, Some(&code))).await), "allow valid_code");
    let elsewhere = Attempt { client: "lax".into(), ..first.clone() };
    assert_eq!(said(node.begin(passed(&elsewhere, Some(&world.code(1)))).await), "deny challenge_gone");
    let somebody = Attempt { subject: Some((&subject("bob")).into()), client: "lax".into(), ..first.clone() };
    assert_eq!(said(node.begin(passed(&somebody, None)).await), "deny challenge_gone");
    let next = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&next, Some(&code))).await), "deny reused_code");
    assert_eq!(world.store.reasons(), ["valid_code", "reused_code"]);
}

#[tokio::test]
async fn a_login_whose_answer_was_lost_is_found_again_and_counted_once() {
    // V-02, V-61: killed between commit and reply; with two tokens the try is counted on the other one by then
    for tokens in [1, 2] {
        let world = World::new();
        if tokens == 2 {
            let seed = Some(Secret::from("09876543210987654321").into());
            world.store.give_token("ann", CodeFactor { seed, ..factor("another-of-ann") });
        }
        let node = world.node().await;
        let attempt = attempt("vpn", "ann");
        let code = world.code(0);
        world.store.break_call("try_code", Fault::LostReply);
        assert_eq!(said(node.begin(passed(&attempt, Some(&code))).await), "unavailable");
        world.store.mend();
        assert_eq!(said(node.begin(passed(&attempt, Some(&code))).await), "allow valid_code", "{tokens}");
        assert_eq!(world.store.reasons(), ["valid_code"]);
    }
}

#[tokio::test]
async fn no_other_way_of_writing_a_used_code_works() {
    // V-11, B-81
    let world = World::new();
    let node = world.node().await;
    let code = world.code(0);
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&code))).await), "allow valid_code");
    let wide: String =
        code.bytes().map(|digit| char::from_u32(0xff10 + u32::from(digit - b'0')).expect("a digit")).collect();
    for variant in [format!(" {code}"), format!("{}\u{a0}{}", &code[..3], &code[3..]), wide] {
        assert_eq!(
            said(node.begin(passed(&attempt("vpn", "ann"), Some(&variant))).await),
            "deny reused_code",
            "{variant:?}"
        );
    }
    // and the code before it is spent with it
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&world.code(-1)))).await), "deny reused_code");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_code_sent_200_times_at_once_to_three_nodes_lets_in_once() {
    // V-11, B-80
    let world = World::new();
    let nodes = [world.node().await, world.node().await, world.node().await];
    let code = world.code(0);
    let tries = (0..200).map(|number| {
        let (node, code) = (nodes[number % 3].clone(), code.clone());
        tokio::spawn(async move { said(node.begin(passed(&attempt("vpn", "ann"), Some(&code))).await) })
    });
    let mut results = BTreeMap::new();
    for result in join_all(tries).await {
        *results.entry(result.expect("no panic")).or_insert(0) += 1;
    }
    assert_eq!(results.get("allow valid_code"), Some(&1), "{results:?}");
    let known = ["allow valid_code", "deny reused_code", "deny locked_out"];
    assert!(results.keys().all(|result| known.contains(&result.as_str())), "{results:?}");
    assert_eq!(world.store.reasons().iter().filter(|reason| *reason == "valid_code").count(), 1);
}

// --- throttle --------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guesses_in_parallel_are_compared_no_more_often_than_the_store_grants() {
    // V-14, B-82: counted before they are looked at, over all nodes and clients
    let world = World::new();
    let nodes = [world.node().await, world.node().await];
    let guesses = (0..100).map(|number| {
        let node = nodes[number % 2].clone();
        let client = if number % 3 == 0 { "vpn" } else { "lax" };
        tokio::spawn(
            async move { said(node.begin(passed(&attempt(client, "ann"), Some(&format!("{number:06}")))).await) },
        )
    });
    for result in join_all(guesses).await {
        let result = result.expect("no panic");
        assert!(result == "deny wrong_code" || result == "deny locked_out", "{result}");
    }
    assert_eq!(world.store.granted(), 5);
    assert_eq!(said(nodes[0].begin(passed(&attempt("vpn", "ann"), Some(&world.code(0)))).await), "deny locked_out");
    let attempt = attempt("vpn", "ann");
    assert_eq!(said(nodes[0].begin(passed(&attempt, None)).await), "ask 1");
    assert_eq!(said(nodes[1].answer(answer(&attempt, 1, &world.code(0))).await), "deny locked_out");
}

#[tokio::test]
async fn guesses_without_the_password_are_bounded_and_lock_nobody() {
    // V-15, L-54
    let world = World::new();
    let node = world.node().await;
    for number in 0..200 {
        let expected = if number < 20 { "deny wrong_code" } else { "deny rate_limited" };
        assert_eq!(said(node.begin(pending(&attempt("vpn", "ann"), &format!("{number:06}"))).await), expected);
    }
    assert_eq!(world.store.granted(), 20);
    // above the budget the tail is not looked at, right or wrong, so that it is part of the password
    assert_eq!(said(node.begin(pending(&attempt("vpn", "ann"), &world.code(0))).await), "deny rate_limited");
    // the user is not locked: the code after the password still works
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&world.code(0)))).await), "allow valid_code");
    assert_eq!(world.store.reasons(), ["valid_code"], "a guess that goes on as a password is no event");
}

#[tokio::test]
async fn tokens_that_a_person_does_not_use_are_not_locked_by_the_one_they_use() {
    let world = World::new();
    let node = world.node().await;
    let second = CodeFactor {
        factor_id: "second".into(),
        seed: Some(Secret::from("09876543210987654321").into()),
        digits: 8,
        ..world.store.factors("ann")[0].clone()
    };
    world.store.give_token("ann", second);
    for _ in 0..12 {
        assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&world.code(0)))).await), "allow valid_code");
        world.clock.advance(60_000);
    }
    assert!(world.store.failures("second") <= 1, "{}", world.store.failures("second"));
    let step = world.step();
    let code = otp::hotp(&Secret::from("09876543210987654321"), domain::CodeAlgorithm::Sha1, step, 8);
    let code = std::str::from_utf8(&code).expect("ASCII");
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(code))).await), "allow valid_code");
    let forms = forms_of("vpn", "ann");
    let forms = node.appended_forms(request(forms)).await.expect("answered").into_inner();
    assert_eq!(forms.code_digits, [6, 8]);
}

// --- a code before the password --------------------------------------------------------------------------------------

#[tokio::test]
async fn a_code_before_the_password_is_spent_whatever_the_password_turns_out_to_be() {
    // L-52 b, L-53
    let world = World::new();
    let (node, other) = (world.node().await, world.node().await);
    let attempt_one = attempt("vpn", "ann");
    let code = world.code(0);
    assert_eq!(said(node.begin(pending(&attempt_one, &code)).await), "accepted");
    assert!(world.store.events().is_empty(), "no Allow, and no event, before the password");
    assert_eq!(said(other.begin(passed(&attempt("vpn", "ann"), Some(&code))).await), "deny reused_code");
    assert_eq!(said(node.begin(pending(&attempt("vpn", "ann"), &code)).await), "deny reused_code");
    // the same request again, and completed by another node
    assert_eq!(said(other.begin(pending(&attempt_one, &code)).await), "accepted");
    assert_eq!(said(other.complete(complete(&attempt_one)).await), "allow valid_code");
    assert_eq!(said(node.complete(complete(&attempt_one)).await), "allow valid_code");
    assert_eq!(world.store.reasons().iter().filter(|reason| *reason == "valid_code").count(), 1);
}

#[tokio::test]
async fn only_an_attempt_whose_code_was_accepted_can_be_completed() {
    let world = World::new();
    let node = world.node().await;
    assert_eq!(said(node.complete(complete(&attempt("vpn", "ann"))).await), "deny challenge_gone");
    let spent = attempt("vpn", "ann");
    assert_eq!(said(node.begin(pending(&spent, &world.code(0))).await), "accepted");
    for stolen in [
        Attempt { client: "lax".into(), ..spent.clone() },
        Attempt { subject: Some((&subject("bob")).into()), ..spent.clone() },
        Attempt { transaction_id: uuid::Uuid::now_v7().to_string(), ..spent.clone() },
    ] {
        let result = said(node.complete(complete(&stolen)).await);
        assert!(result.starts_with("deny "), "{result}");
    }
    let asked = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&asked, None)).await), "ask 1");
    assert_eq!(said(node.complete(complete(&asked)).await), "deny challenge_gone");
    let late = attempt("vpn", "ann");
    assert_eq!(said(node.begin(pending(&late, &world.code(1))).await), "accepted");
    world.clock.advance(121_000);
    assert_eq!(said(node.complete(complete(&late)).await), "deny challenge_gone");
}

#[tokio::test]
async fn an_answer_does_not_open_what_waits_for_a_password() {
    let world = World::new();
    let node = world.node().await;
    let spent = attempt("vpn", "ann");
    assert_eq!(said(node.begin(pending(&spent, &world.code(0))).await), "accepted");
    for step in 0..3 {
        assert_eq!(said(node.answer(answer(&spent, step, &world.code(1))).await), "deny challenge_gone");
    }
}

#[tokio::test]
async fn a_user_blocked_between_code_and_password_is_refused() {
    let world = World::new();
    let node = world.node().await;
    let spent = attempt("vpn", "ann");
    assert_eq!(said(node.begin(pending(&spent, &world.code(0))).await), "accepted");
    world.store.set_state("ann", "disabled");
    assert_eq!(said(node.complete(complete(&spent)).await), "deny blocked");
}

#[tokio::test]
async fn no_rule_lets_in_before_the_password_was_checked() {
    // unknown and not enrolled users pass at this client: on the password, which nobody has looked at yet
    let world = World::new();
    let node = world.node().await;
    for user in ["nobody", "bob"] {
        assert_eq!(said(node.begin(pending(&attempt("lax", user), "123456")).await), "deny wrong_code");
    }
    assert_eq!(said(node.begin(pending(&attempt("lax", "off"), &world.code(0))).await), "deny blocked");
    assert_eq!((world.store.calls("allow"), world.store.calls("try_code")), (0, 0));
}

// --- challenges ------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_challenge_of_one_node_is_answered_on_another() {
    //
    let world = World::new();
    let (node, other) = (world.node().await, world.node().await);
    for _ in 0..20 {
        let attempt = attempt("vpn", "ann");
        assert_eq!(said(node.begin(passed(&attempt, None)).await), "ask 1");
        assert_eq!(said(other.answer(answer(&attempt, 1, &world.code(0))).await), "allow valid_code");
        world.clock.advance(60_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_answers_to_one_question_are_evaluated_once() {
    //
    let world = World::new();
    let nodes = [world.node().await, world.node().await, world.node().await];
    let attempt = attempt("vpn", "ann");
    assert_eq!(said(nodes[0].begin(passed(&attempt, None)).await), "ask 1");
    let answers = (0..50).map(|number| {
        let (node, attempt) = (nodes[number % 3].clone(), attempt.clone());
        tokio::spawn(async move { said(node.answer(answer(&attempt, 1, &format!("{:06}", 900_000 + number))).await) })
    });
    let mut results = BTreeMap::new();
    for result in join_all(answers).await {
        *results.entry(result.expect("no panic")).or_insert(0) += 1;
    }
    let expected = BTreeMap::from([("ask 2 after wrong_code".to_owned(), 1), ("deny challenge_gone".to_owned(), 49)]);
    assert_eq!(results, expected);
    assert_eq!(world.store.granted(), 1, "one answer was compared");
    assert!(world.store.events().is_empty(), "the copies did not end the conversation");
    assert_eq!(said(nodes[1].answer(answer(&attempt, 2, &world.code(0))).await), "allow valid_code");
}

#[tokio::test]
async fn a_conversation_has_three_tries_and_is_dead_afterwards() {
    // FR-14
    let world = World::new();
    let node = world.node().await;
    let attempt = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&attempt, None)).await), "ask 1");
    assert_eq!(said(node.answer(answer(&attempt, 1, "000000")).await), "ask 2 after wrong_code");
    assert_eq!(said(node.answer(answer(&attempt, 1, &world.code(0))).await), "deny challenge_gone");
    assert_eq!(said(node.answer(answer(&attempt, 3, &world.code(0))).await), "deny challenge_gone");
    assert_eq!(said(node.answer(answer(&attempt, 2, "not a code")).await), "ask 3 after wrong_code");
    assert_eq!(said(node.answer(answer(&attempt, 3, "000000")).await), "deny wrong_code");
    for step in 0..6 {
        assert_eq!(said(node.answer(answer(&attempt, step, &world.code(0))).await), "deny challenge_gone");
    }
    assert_eq!(said(node.begin(passed(&attempt, None)).await), "deny challenge_gone");
    assert_eq!(world.store.reasons(), ["wrong_code"]);
    assert_eq!(world.store.granted(), 3);
}

#[tokio::test]
async fn an_empty_answer_costs_a_round_and_no_try() {
    // R-47, FR-14: six rounds in all
    let world = World::new();
    let node = world.node().await;
    let attempt = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&attempt, None)).await), "ask 1");
    for step in 1..6 {
        assert_eq!(said(node.answer(answer(&attempt, step, "")).await), format!("ask {}", step + 1));
    }
    assert_eq!(said(node.answer(answer(&attempt, 6, "")).await), "deny no_answer");
    assert_eq!(world.store.granted(), 0);
}

#[tokio::test]
async fn a_reused_code_as_an_answer_is_asked_again() {
    let world = World::new();
    let node = world.node().await;
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&world.code(0)))).await), "allow valid_code");
    let attempt = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&attempt, None)).await), "ask 1");
    assert_eq!(said(node.answer(answer(&attempt, 1, &world.code(0))).await), "ask 2 after reused_code");
    assert_eq!(said(node.answer(answer(&attempt, 2, &world.code(1))).await), "allow valid_code");
}

#[tokio::test]
async fn asking_the_same_again_asks_the_same_question() {
    // V-02
    let world = World::new();
    let (node, other) = (world.node().await, world.node().await);
    let attempt = attempt("vpn", "ann");
    let asked = |result: Result<tonic::Response<proto::verification::Outcome>, tonic::Status>| {
        result.expect("answered").into_inner().result
    };
    let first = asked(node.begin(passed(&attempt, None)).await);
    world.clock.advance(1_000);
    assert_eq!(asked(other.begin(passed(&attempt, None)).await), first);
    let somebody = Attempt { client: "lax".into(), ..attempt.clone() };
    assert_eq!(said(node.begin(passed(&somebody, None)).await), "deny challenge_gone");
}

#[tokio::test]
async fn another_client_a_late_one_and_a_wiped_map_get_nothing() {
    //
    let world = World::new();
    let node = world.node().await;
    let first = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&first, None)).await), "ask 1");
    let foreign = Attempt { client: "lax".into(), ..first.clone() };
    assert_eq!(said(node.answer(answer(&foreign, 1, &world.code(0))).await), "deny challenge_gone");
    assert_eq!(said(node.answer(answer(&first, 1, "000000")).await), "ask 2 after wrong_code");
    let failures = world.store.failures("token-of-ann");
    world.bus.wipe();
    assert_eq!(said(node.answer(answer(&first, 2, &world.code(0))).await), "deny challenge_gone");
    assert_eq!(world.store.failures("token-of-ann"), failures, "a lost map gives no new tries");
    let late = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&late, None)).await), "ask 1");
    world.clock.advance(120_000);
    assert_eq!(said(node.answer(answer(&late, 1, &world.code(0))).await), "deny challenge_gone");
    assert_eq!(world.store.reasons(), ["challenge_gone"], "the late one is over, and said so once");
}

#[tokio::test]
async fn who_owns_the_bus_gains_nothing_by_reading_swapping_or_putting_back_records() {
    // V-73
    let world = World::new();
    let node = world.node().await;
    let (mine, hers) = (attempt("vpn", "ann"), attempt("vpn", "ann"));
    assert_eq!(said(node.begin(passed(&mine, None)).await), "ask 1");
    assert_eq!(said(node.begin(passed(&hers, None)).await), "ask 1");
    let old = world.bus.challenge(&mine.transaction_id).expect("there");
    assert!(!String::from_utf8_lossy(&old).contains("ann"), "sealed");
    // swapped
    world.bus.forge_challenge(&hers.transaction_id, old.clone());
    assert_eq!(said(node.answer(answer(&hers, 1, &world.code(0))).await), "deny challenge_gone");
    // altered, and made up
    let mut altered = old.to_vec();
    *altered.last_mut().expect("not empty") ^= 1;
    for forged in [altered, b"{}".to_vec(), Vec::new()] {
        world.bus.forge_challenge(&hers.transaction_id, forged.into());
        assert_eq!(said(node.answer(answer(&hers, 1, &world.code(0))).await), "deny challenge_gone");
        assert_eq!(said(node.begin(passed(&hers, None)).await), "unavailable");
    }
    // put back after the login: the transaction is spent in the store
    assert_eq!(said(node.answer(answer(&mine, 1, &world.code(0))).await), "allow valid_code");
    for code in [world.code(0), world.code(1)] {
        world.bus.forge_challenge(&mine.transaction_id, old.clone());
        assert_eq!(said(node.answer(answer(&mine, 1, &code)).await), "deny challenge_gone", "also with the same code");
    }
    assert_eq!(world.store.reasons(), ["valid_code"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_round_that_is_put_back_again_and_again_lets_in_once() {
    // V-11, V-73: the answers run at the same time, so that none sees in the facts that the code is spent
    let world = World::new();
    let nodes = [world.node().await, world.node().await, world.node().await];
    let attempt = attempt("vpn", "ann");
    assert_eq!(said(nodes[0].begin(passed(&attempt, None)).await), "ask 1");
    let old = world.bus.challenge(&attempt.transaction_id).expect("there");
    let (code, bus) = (world.code(0), world.bus.clone());
    let answers = (0..60).map(|number| {
        let (node, attempt, code) = (nodes[number % 3].clone(), attempt.clone(), code.clone());
        let (bus, old) = (bus.clone(), old.clone());
        tokio::spawn(async move {
            bus.forge_challenge(&attempt.transaction_id, old);
            said(node.answer(answer(&attempt, 1, &code)).await)
        })
    });
    let mut allowed = 0;
    for result in join_all(answers).await {
        allowed += usize::from(result.expect("no panic").starts_with("allow"));
    }
    // Who sends the same answer may hear the one Allow again (V-02); the store has made one.
    assert!(allowed >= 1);
    assert_eq!(world.store.reasons(), ["valid_code"]);
}

#[tokio::test]
async fn a_user_blocked_while_the_question_is_open_is_refused() {
    let world = World::new();
    let node = world.node().await;
    let attempt = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&attempt, None)).await), "ask 1");
    world.store.set_state("ann", "removed");
    assert_eq!(said(node.answer(answer(&attempt, 1, &world.code(0))).await), "deny blocked");
}

#[tokio::test]
async fn a_cancelled_question_takes_no_answer() {
    let world = World::new();
    let node = world.node().await;
    let attempt = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&attempt, None)).await), "ask 1");
    let cancel = |reason: &str| {
        request(CancelRequest {
            transaction_id: attempt.transaction_id.clone(),
            reason: reason.into(),
            ..CancelRequest::default()
        })
    };
    assert!(node.cancel(cancel("valid_code")).await.is_err());
    for _ in 0..2 {
        node.cancel(cancel("user_cancelled")).await.expect("cancelled");
    }
    assert_eq!(said(node.answer(answer(&attempt, 1, &world.code(0))).await), "deny challenge_gone");
    assert_eq!(world.store.reasons(), ["user_cancelled"]);
}

// --- the bad day -----------------------------------------------------------------------------------------------------

#[tokio::test]
async fn without_the_bus_codes_work_and_questions_live_on_the_node_that_asked() {
    // V-42
    let world = World::new();
    let (node, other) = (world.node().await, world.node().await);
    let before = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&before, None)).await), "ask 1");
    world.bus.set_away(true);
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&world.code(-1)))).await), "allow valid_code");
    assert_eq!(said(node.answer(answer(&before, 1, &world.code(0))).await), "unavailable");
    let asked = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&asked, None)).await), "ask 1");
    assert_eq!(said(node.begin(passed(&asked, None)).await), "ask 1");
    assert_eq!(said(other.answer(answer(&asked, 1, &world.code(0))).await), "unavailable");
    let wrong: Vec<_> = (0..20).map(|number| answer(&asked, 1, &format!("{:06}", 900_000 + number))).collect();
    let results = join_all(wrong.into_iter().map(|wrong| node.answer(wrong))).await;
    let results: Vec<_> = results.into_iter().map(said).collect();
    assert_eq!(results.iter().filter(|result| *result == "ask 2 after wrong_code").count(), 1, "{results:?}");
    let spent = attempt("vpn", "ann");
    assert_eq!(said(node.begin(pending(&spent, &world.code(0))).await), "accepted");
    assert_eq!(said(node.complete(complete(&spent)).await), "allow valid_code");
    // back again: what lives here is answered here, what was in the map goes on
    world.bus.set_away(false);
    world.clock.advance(30_000);
    assert_eq!(said(node.answer(answer(&asked, 2, &world.code(0))).await), "allow valid_code");
    assert_eq!(said(other.answer(answer(&before, 1, &world.code(1))).await), "allow valid_code");
}

#[tokio::test]
async fn whatever_the_store_does_wrong_nobody_gets_in() {
    // V-40, V-42, V-75: every call, every fault, every way in
    let calls = ["login", "reserve_try", "try_code", "spend_code", "allow", "record"];
    let faults = [Fault::Unavailable, Fault::Internal, Fault::Hang, Fault::LostReply, Fault::Nonsense];
    let mut reached = BTreeMap::new();
    for call in calls {
        for fault in faults {
            for (flow, result) in every_flow(call, fault, &mut reached).await {
                if fault == Fault::Nonsense {
                    assert!(!result.starts_with("allow"), "{flow} with {call} {fault:?}: {result}");
                } else {
                    assert_eq!(result, "unavailable", "{flow} with {call} {fault:?}");
                }
            }
        }
    }
    for call in calls {
        assert!(reached.get(call).copied().unwrap_or(0) > 0, "no flow reached {call}: the test tests nothing");
    }
}

/// Runs each way in on a world of its own, with the fault set before its last step. The step uses `call` in all of them, or
/// the flow is left out.
async fn every_flow(
    call: &'static str,
    fault: Fault,
    reached: &mut BTreeMap<&'static str, u32>,
) -> Vec<(&'static str, String)> {
    let mut results = Vec::new();
    for flow in ["code", "wrong code", "unknown passes", "answer", "spend", "complete", "blocked"] {
        let world = World::new();
        let node = world.node().await;
        let ann = attempt("vpn", "ann");
        match flow {
            "answer" => assert_eq!(said(node.begin(passed(&ann, None)).await), "ask 1"),
            "complete" => assert_eq!(said(node.begin(pending(&ann, &world.code(0))).await), "accepted"),
            _ => {}
        }
        world.store.break_call(call, fault);
        let before = world.store.calls(call);
        let result = said(last_step(flow, &world, &node, &ann).await);
        if world.store.calls(call) > before {
            *reached.entry(call).or_default() += 1;
            results.push((flow, result));
        }
    }
    results
}

async fn last_step(
    flow: &str,
    world: &World,
    node: &Arc<Service>,
    ann: &Attempt,
) -> Result<tonic::Response<proto::verification::Outcome>, tonic::Status> {
    fn quickly<T>(mut request: Request<T>) -> Request<T> {
        request.set_timeout(Duration::from_millis(150));
        request
    }
    match flow {
        "code" => node.begin(quickly(passed(ann, Some(&world.code(0))))).await,
        "wrong code" => node.begin(quickly(passed(ann, Some("000000")))).await,
        "unknown passes" => node.begin(quickly(passed(&attempt("lax", "nobody"), None))).await,
        "answer" => node.answer(quickly(answer(ann, 1, &world.code(0)))).await,
        "spend" => node.begin(quickly(pending(ann, &world.code(0)))).await,
        "complete" => node.complete(quickly(complete(ann))).await,
        "blocked" => node.begin(quickly(passed(&attempt("lax", "off"), None))).await,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_store_that_hangs_costs_the_caller_no_more_than_its_deadline() {
    // V-44
    let world = World::new();
    let node = world.node().await;
    world.store.break_call("login", Fault::Hang);
    let begun = tokio::time::Instant::now();
    let mut request = passed(&attempt("vpn", "ann"), None);
    request.set_timeout(Duration::from_millis(300));
    assert_eq!(said(node.begin(request).await), "unavailable");
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn without_settings_nothing_is_decided_and_they_are_found_when_the_store_comes_back() {
    let world = World::new();
    world.store.break_call("fetch", Fault::Unavailable);
    let node = world.cold_node();
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&world.code(0)))).await), "unavailable");
    world.store.break_call("fetch", Fault::Nonsense);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&world.code(0)))).await), "unavailable");
    world.store.mend();
    let attempt = attempt("vpn", "ann");
    eventually(|| async { said(node.begin(passed(&attempt, Some(&world.code(0)))).await) == "allow valid_code" }).await;
}

#[tokio::test]
async fn changed_settings_are_in_force_without_a_word_from_the_bus() {
    // Polled, where the bus is away
    let world = World::new();
    let node = world.node().await;
    assert_eq!(said(node.begin(passed(&attempt("vpn", "nobody"), None)).await), "deny unknown_user");
    world.store.change_settings(|settings| {
        settings.clients[0].unknown_user = domain::settings::RefuseOrPass::Pass;
    });
    eventually(|| async {
        said(node.begin(passed(&attempt("vpn", "nobody"), None)).await) == "allow unknown_user_passed"
    })
    .await;
}

async fn eventually<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    for _ in 0..100 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not come true within 10 s");
}

// --- what ended without us -------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_attempt_that_ended_before_the_second_factor_is_recorded_without_line_breaks() {
    // V-61, B-21
    let world = World::new();
    let node = world.node().await;
    let hostile = Attempt {
        username: "ann\r\n2026 success root\u{1b}[2J".into(),
        calling_station: "\0".repeat(1000),
        subject: None,
        ..attempt("vpn", "ann")
    };
    let report = |attempt: &Attempt, reason: &str| {
        request(ReportRequest { attempt: Some(attempt.clone()), reason: reason.into() })
    };
    node.report(report(&hostile, "unknown_user")).await.expect("recorded");
    node.report(report(&attempt("vpn", "ann"), "bad_password")).await.expect("recorded");
    world.store.break_call("login", Fault::Unavailable);
    node.report(report(&attempt("vpn", "ann"), "directory_timeout")).await.expect("recorded without the user's id");
    for reason in ["valid_code", "exempt", "code_asked"] {
        assert!(node.report(report(&attempt("vpn", "ann"), reason)).await.is_err(), "{reason}");
    }
    let events = world.store.events();
    assert_eq!(world.store.reasons(), ["unknown_user", "bad_password", "directory_timeout"]);
    assert_eq!(events[0].username, "ann\u{fffd}\u{fffd}2026 success root\u{fffd}[2J");
    assert_eq!(events[0].calling_station.chars().count(), 256);
    assert_eq!((events[0].user_id.as_str(), events[1].user_id.as_str()), ("", "id-of-ann"));
    assert!(events.iter().all(|event| event.result == "failed" || event.result == "error"));
}

fn forms_of(client: &str, user: &str) -> AppendedFormsRequest {
    let subject = Some((&subject(user)).into());
    AppendedFormsRequest { client: client.into(), subject, ..AppendedFormsRequest::default() }
}

#[tokio::test]
async fn the_forms_a_user_could_have_appended_are_those_of_tokens_in_force() {
    // L-51
    let world = World::new();
    let node = world.node().await;
    for (client, user, expected) in [
        ("vpn", "ann", vec![6]),
        ("gitlab", "ann", vec![6]),
        ("nothing", "ann", vec![]),
        ("unheard", "ann", vec![]),
        ("vpn", "bob", vec![]),
        ("vpn", "off", vec![]),
        ("vpn", "nobody", vec![]),
    ] {
        let asked = forms_of(client, user);
        let forms = node.appended_forms(request(asked)).await.expect("answered").into_inner();
        assert_eq!(forms.code_digits, expected, "{client} {user}");
    }
    world.store.break_call("login", Fault::Unavailable);
    let asked = forms_of("vpn", "ann");
    assert_eq!(node.appended_forms(request(asked)).await.expect_err("away").code(), Code::Unavailable);
}

#[tokio::test]
async fn an_attempt_reads_its_user_once_and_whoever_is_blocked_meanwhile_stays_out() {
    // V-61
    let world = World::new();
    let node = world.node().await;
    let forms = |attempt: &Attempt| AppendedFormsRequest {
        transaction_id: attempt.transaction_id.clone(),
        ..forms_of("vpn", "ann")
    };
    let read = world.store.calls("login");
    let one = attempt("vpn", "ann");
    node.appended_forms(request(forms(&one))).await.expect("answered");
    assert_eq!(said(node.begin(passed(&one, Some(&world.code(0)))).await), "allow valid_code");
    assert_eq!(world.store.calls("login") - read, 1);
    world.clock.advance(60_000);
    let other = attempt("vpn", "ann");
    node.appended_forms(request(forms(&other))).await.expect("answered");
    world.store.set_state("ann", "disabled");
    assert_eq!(said(node.begin(passed(&other, Some(&world.code(0)))).await), "deny blocked");
}

// --- enrolment -------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_new_token_counts_from_its_first_proven_code_which_is_spent_by_it() {
    let world = World::new();
    let node = world.node().await;
    let start = StartCodeRequest { user_id: "id-of-bob".into(), actor: "self".into(), ..StartCodeRequest::default() };
    let started = node.start_code(request(start)).await.expect("started").into_inner();
    let uri: Secret = started.otpauth_uri.expect("shown").into();
    let uri = uri.expose_str().expect("ASCII").to_owned();
    assert!(uri.starts_with("otpauth://totp/Twinlock:bob%40corp.example?secret="), "{uri}");
    assert!(uri.ends_with("&issuer=Twinlock&algorithm=SHA1&digits=6&period=30"), "{uri}");
    let seed: Secret = world.store.factors("bob")[0].seed.clone().expect("stored").into();
    assert_eq!(seed.len(), 20);
    assert!(uri.contains(otp::base32(&seed).expose_str().expect("ASCII")));

    let code_of = |step: u64| {
        let code = otp::hotp(&seed, domain::CodeAlgorithm::Sha1, step, 6);
        String::from_utf8(code[..6].to_vec()).expect("ASCII")
    };
    let confirm = |code: &str| {
        request(ConfirmCodeRequest {
            user_id: "id-of-bob".into(),
            factor_id: started.factor_id.clone(),
            code: Some(Secret::from(code).into()),
            actor: "self".into(),
        })
    };
    let pending_counts_for_nothing =
        said(node.begin(passed(&attempt("vpn", "bob"), Some(&code_of(world.step())))).await);
    assert_eq!(pending_counts_for_nothing, "deny not_enrolled");
    let wrong = node.confirm_code(confirm("12345")).await.expect("answered").into_inner();
    assert_eq!((wrong.confirmed, wrong.reason.as_str()), (false, "wrong_code"));
    let right = node.confirm_code(confirm(&code_of(world.step()))).await.expect("answered").into_inner();
    assert_eq!((right.confirmed, right.reason.as_str()), (true, ""));
    let again = node.confirm_code(confirm(&code_of(world.step()))).await.expect("answered").into_inner();
    assert_eq!((again.confirmed, again.reason.as_str()), (false, "challenge_gone"));
    let code = code_of(world.step());
    assert_eq!(said(node.begin(passed(&attempt("vpn", "bob"), Some(&code))).await), "deny reused_code");
    let next = code_of(world.step() + 1);
    assert_eq!(said(node.begin(passed(&attempt("vpn", "bob"), Some(&next))).await), "allow valid_code");
}

#[tokio::test]
async fn confirming_is_throttled_and_only_for_enabled_users_and_valid_forms() {
    let world = World::new();
    let node = world.node().await;
    let start = |user: &str, algorithm: &str, digits: u32, period_seconds: u32| {
        request(StartCodeRequest {
            user_id: user.into(),
            algorithm: algorithm.into(),
            digits,
            period_seconds,
            issuer: "Ex".into(),
            actor: "self".into(),
        })
    };
    for (user, algorithm, digits, period, code) in [
        ("id-of-nobody", "", 0, 0, Code::NotFound),
        ("id-of-off", "", 0, 0, Code::FailedPrecondition),
        ("id-of-gone", "", 0, 0, Code::FailedPrecondition),
        ("id-of-bob", "MD5", 0, 0, Code::InvalidArgument),
        ("id-of-bob", "", 5, 0, Code::InvalidArgument),
        ("id-of-bob", "", 0, 45, Code::InvalidArgument),
    ] {
        let refused = node.start_code(start(user, algorithm, digits, period)).await.expect_err("refused");
        assert_eq!(refused.code(), code, "{user} {algorithm} {digits} {period}");
    }
    let started = node.start_code(start("id-of-bob", "SHA512", 8, 60)).await.expect("started").into_inner();
    let mut reasons = Vec::new();
    for _ in 0..7 {
        let confirm = ConfirmCodeRequest {
            user_id: "id-of-bob".into(),
            factor_id: started.factor_id.clone(),
            code: Some(Secret::from("00000000").into()),
            actor: "self".into(),
        };
        reasons.push(node.confirm_code(request(confirm)).await.expect("answered").into_inner().reason);
    }
    assert_eq!(reasons[..5], ["wrong_code"; 5].map(str::to_owned));
    assert_eq!(reasons[5..], ["locked_out"; 2].map(str::to_owned));
    world.store.break_call("confirm_factor", Fault::Unavailable);
    world.store.break_call("reserve_try", Fault::Unavailable);
    let confirm =
        ConfirmCodeRequest { user_id: "id-of-bob".into(), factor_id: started.factor_id, ..Default::default() };
    assert_eq!(node.confirm_code(request(confirm)).await.expect_err("away").code(), Code::Unavailable);
}

// --- what is told ----------------------------------------------------------------------------------------------------

/// All that is logged, spans included, at the most talkative level.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_decision_has_its_span_and_no_secret_is_told_at_any_level() {
    // V-33, V-34
    use tracing_subscriber::fmt::format::FmtSpan;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let world = World::new();
    let node = world.node().await;
    let (right, wrong) = (world.code(0), "918273");
    let asked = attempt("vpn", "ann");
    assert_eq!(said(node.begin(passed(&asked, None)).await), "ask 1");
    for step in 1..3 {
        said(node.answer(answer(&asked, step, wrong)).await);
    }
    assert_eq!(said(node.answer(answer(&asked, 3, wrong)).await), "deny wrong_code");
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&right))).await), "allow valid_code");
    world.store.break_call("login", Fault::Internal);
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&right))).await), "unavailable");

    let told = String::from_utf8(log.0.lock().expect("whole").clone()).expect("UTF-8");
    assert!(
        told.contains("policy.decide{otel.kind=\"internal\" twinlock.method=\"code\" twinlock.reason=\"code_asked\"}"),
        "{told}"
    );
    assert!(told.contains("event=\"password_known_factor_failing\""), "{told}");
    assert!(told.contains("the store did not answer"), "{told}");
    let seed = Secret::from(fakes::SEED);
    for secret in [right.as_str(), wrong, fakes::SEED, otp::base32(&seed).expose_str().expect("ASCII")] {
        assert!(!told.contains(secret), "told a secret: {told}");
    }
}
