//! Codes that are typed: of both kinds of token, of paper, of the help desk; lists to choose from; a clock that is wrong.

use crate::fakes::{World, answer, asked, attempt, complete, factor, passed, pending, request, said, wanted};
use crate::prompts::until;
use domain::{CodeAlgorithm, Secret};
use proto::user_store::{CodeFactor, SecretKind};
use proto::verification::verification_server::Verification;
use proto::verification::{AppendedFormsRequest, AskKind, ReportRequest};
use std::time::Duration;

/// bob has a token that counts, whose next code is number 5.
fn counting() -> World {
    let world = World::new();
    world.store.give_token(
        "bob",
        CodeFactor {
            kind: "hotp".into(),
            period_seconds: 0,
            next_counter: 5,
            last_step: 4,
            ..factor("counter-of-bob")
        },
    );
    world
}

fn counted(counter: u64) -> String {
    let code = otp::hotp(&Secret::from(crate::fakes::SEED), CodeAlgorithm::Sha1, counter, 6);
    String::from_utf8(code[..6].to_vec()).expect("ASCII")
}

#[tokio::test]
async fn a_code_after_the_password_is_one_call_to_the_store_whatever_it_is_worth() {
    // V-14, P-01: counted and let in at once; a throttled one is heard to be that, right or wrong
    let world = World::new();
    let node = world.node().await;
    let calls = || ["reserve_try", "try_code", "allow"].map(|call| world.store.calls(call));
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&world.code(-1)))).await), "allow valid_code");
    assert_eq!(calls(), [0, 1, 0]);
    for tries in 2..=6 {
        assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some("918273"))).await), "deny wrong_code");
        assert_eq!(calls(), [0, tries, 0]);
    }
    let marked = || world.store.factors("ann")[0].last_step;
    let before = marked();
    for (tries, code) in [(7, "918273".to_owned()), (8, world.code(0)), (9, "no code".to_owned())] {
        assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&code))).await), "deny locked_out", "{code}");
        assert_eq!((calls(), marked()), ([0, tries, 0], before));
    }
}

#[tokio::test]
async fn a_token_that_counts_may_run_ahead_and_never_back() {
    // V-13, FV-07
    for (counter, expected) in
        [(5, "allow valid_code"), (14, "allow valid_code"), (15, "deny wrong_code"), (4, "deny reused_code")]
    {
        let world = counting();
        let node = world.node().await;
        let attempt = attempt("vpn", "bob");
        assert_eq!(said(node.begin(passed(&attempt, Some(&counted(counter)))).await), expected, "{counter}");
    }
}

#[tokio::test]
async fn a_token_that_ran_away_is_put_right_by_two_codes_in_a_row() {
    // V-13, RFC 4226 section 7.4: what is typed, and whether it opens; 5 is expected, 14 the last that counts alone
    type Round = (u64, bool);
    let cases: [&[Round]; 6] = [
        &[(40, false), (41, true)],
        // Not the next one: perhaps the first of another row.
        &[(40, false), (42, false), (43, true)],
        &[(40, false), (40, false), (41, true)],
        // One that counts alone.
        &[(40, false), (7, true)],
        &[(105, false), (106, true)],
        &[(106, false), (107, false)],
    ];
    for rounds in cases {
        let world = counting();
        let (node, other) = (world.node().await, world.node().await);
        let attempt = attempt("vpn", "bob");
        asked(node.begin(passed(&attempt, None)).await);
        for (round, (counter, expected)) in (1..).zip(rounds) {
            let outcome = [&node, &other][round as usize % 2].answer(answer(&attempt, round, &counted(*counter))).await;
            match expected {
                // The same question whatever it was (V-14).
                false => assert_eq!(asked(outcome).kind(), AskKind::Code, "{counter} of {rounds:?}"),
                true => {
                    assert_eq!(said(outcome), "allow valid_code", "{counter} of {rounds:?}");
                    assert_eq!(world.store.last_step(), *counter, "{rounds:?}: it is where its code says");
                }
            }
        }
        assert_eq!(world.store.granted(), rounds.len() as u32, "each answer is a try (V-14)");
    }
}

#[tokio::test]
async fn a_clock_that_ran_away_is_put_right_by_no_code_of_minutes_ago() {
    // V-10: two codes in a row that somebody saw are worth nothing later
    for steps in [[-4, -3], [4, 5]] {
        let world = World::new();
        let node = world.node().await;
        let attempt = attempt("vpn", "ann");
        asked(node.begin(passed(&attempt, None)).await);
        for (round, steps) in (1..).zip(steps) {
            let said = said(node.answer(answer(&attempt, round, &world.code(steps))).await);
            assert_eq!(said, format!("ask {} after wrong_code", round + 1), "{steps}");
        }
    }
}

#[tokio::test]
async fn who_has_two_tokens_and_uses_one_is_never_locked_out_by_right_codes() {
    // V-14: the try counts on the app, because a counter says nothing about the time; the success sets that count back
    let world = counting();
    world.store.give_token("bob", CodeFactor { last_step: 7, ..factor("app-of-bob") });
    let node = world.node().await;
    for counter in 5..=14 {
        let said = said(node.begin(passed(&attempt("vpn", "bob"), Some(&counted(counter)))).await);
        assert_eq!(said, "allow valid_code", "{counter}");
        assert_eq!(world.store.failures("app-of-bob"), 0);
    }
}

#[tokio::test]
async fn a_code_of_paper_works_once_and_one_of_the_help_desk_as_often_as_it_says() {
    // FV-09, FV-29, V-53
    let world = World::new();
    world.store.change("ann", |user| {
        user.recovery_left = 1;
        user.temporary_code = true;
    });
    world.store.give_secret("ann", SecretKind::Recovery, "ABCDEFGH23", 1);
    world.store.give_secret("ann", SecretKind::Temporary, "123456789", 2);
    let node = world.node().await;
    let mut outcomes = Vec::new();
    for code in ["abcde fgh23", "abcde fgh23", "123456789", "123456789", "123456789"] {
        let attempt = attempt("vpn", "ann");
        asked(node.begin(passed(&attempt, None)).await);
        outcomes.push(said(node.answer(answer(&attempt, 1, code)).await));
    }
    assert_eq!(
        outcomes,
        [
            "allow valid_recovery_code",
            "ask 2 after wrong_code",
            "allow temporary_code",
            "allow temporary_code",
            "ask 2 after wrong_code"
        ]
    );
    let events = world.store.events();
    assert_eq!((events[0].method.as_str(), events[0].source.as_str()), ("recovery", "live"));
    assert_eq!(
        (events[1].method.as_str(), events[1].source.as_str(), events[1].result.as_str()),
        ("", "bypass", "bypass")
    );
}

#[tokio::test]
async fn such_codes_come_before_the_password_too_and_are_spent_with_the_login() {
    // L-52 b, L-53
    let world = World::new();
    world.store.change("ann", |user| user.recovery_left = 1);
    world.store.give_secret("ann", SecretKind::Recovery, "ABCDEFGH23", 1);
    let node = world.node().await;
    let attempt = attempt("vpn", "ann");
    assert_eq!(said(node.begin(pending(&attempt, "abcdefgh23")).await), "accepted");
    assert_eq!(said(node.complete(complete(&attempt)).await), "allow valid_recovery_code");
    let next = crate::fakes::attempt("vpn", "ann");
    assert_eq!(said(node.begin(pending(&next, "abcdefgh23")).await), "deny wrong_code");
}

#[tokio::test]
async fn guessed_codes_of_paper_lock() {
    // V-31
    let world = World::new();
    world.store.change("bob", |user| user.recovery_left = 1);
    world.store.give_secret("bob", SecretKind::Recovery, "ABCDEFGH23", 1);
    let node = world.node().await;
    let mut last = String::new();
    for _ in 0..6 {
        last = said(node.begin(passed(&attempt("vpn", "bob"), Some("ABCDEFGH24"))).await);
    }
    assert_eq!(last, "deny locked_out");
}

#[tokio::test]
async fn the_forms_are_those_that_the_client_and_the_user_have() {
    // L-51
    let world = World::new();
    world.store.give_phone("ann");
    world.store.change("ann", |user| {
        user.phone = "030 901820".into();
        user.recovery_left = 3;
        user.temporary_code = true;
    });
    let node = world.node().await;
    let forms = async |client: &str, name: &str| {
        let subject = Some((&crate::fakes::subject(name)).into());
        let asked = AppendedFormsRequest { client: client.into(), subject, ..AppendedFormsRequest::default() };
        node.appended_forms(request(asked)).await.expect("answered").into_inner()
    };
    let all = forms("wiki", "ann").await;
    assert_eq!((all.code_digits, all.temporary_code, all.recovery_code), (vec![6], true, true));
    assert_eq!(all.keywords, ["push", "call", "sms"]);
    assert!(forms("vpn", "ann").await.keywords.is_empty(), "words are off unless the client has them on");
    let none = forms("nothing", "ann").await;
    assert!(none.code_digits.is_empty() && !none.recovery_code && none.keywords.is_empty());
    let unknown = forms("wiki", "nobody").await;
    assert!(unknown.code_digits.is_empty() && !unknown.temporary_code);
}

#[tokio::test]
async fn a_list_is_answered_by_a_place_a_name_or_a_code() {
    // FV-12
    let world = || {
        let world = World::new();
        world.store.give_phone("ann");
        world.store.change("ann", |user| user.phone = "030 901820".into());
        world.store.change_settings(|settings| {
            settings.verification.choice = domain::settings::Choice::ListFirst;
        });
        world
    };
    for (typed, expected) in [
        ("1", "ask 2"),
        ("3", "ask 2"),
        ("sms", "ask 2"),
        ("9", "ask 2 after wrong_code"),
        ("0", "ask 2 after wrong_code"),
        ("", "ask 2"),
        ("telepathy", "ask 2 after wrong_code"),
    ] {
        let world = world();
        let node = world.node().await;
        let attempt = attempt("vpn", "ann");
        let ask = asked(node.begin(passed(&attempt, None)).await);
        assert_eq!((ask.kind(), ask.method.as_str()), (AskKind::Choice, ""));
        assert_eq!(ask.choices, ["push", "call", "sms", "code"]);
        assert_eq!(said(node.answer(answer(&attempt, 1, typed)).await), expected, "{typed}");
    }
    let world = world();
    let node = world.node().await;
    let attempt = attempt("vpn", "ann");
    asked(node.begin(passed(&attempt, None)).await);
    let chosen = asked(node.answer(answer(&attempt, 1, "3")).await);
    assert_eq!((chosen.method.as_str(), world.carriers.texts().len()), ("sms", 1));
    let direct = crate::fakes::attempt("vpn", "ann");
    asked(node.begin(passed(&direct, None)).await);
    assert_eq!(said(node.answer(answer(&direct, 1, &world.code(0))).await), "allow valid_code");
}

#[tokio::test]
async fn a_word_chooses_a_method_only_where_it_may_be_and_can() {
    // L-51
    let world = World::new();
    world.store.give_phone("ann");
    let node = world.node().await;
    world.carriers.answers("approved", "approve_only");
    assert_eq!(said(node.begin(wanted(&attempt("waits", "ann"), "push")).await), "allow user_approved");
    assert_eq!(said(node.begin(wanted(&attempt("waits", "ann"), "call")).await), "deny no_usable_method");
    assert!(said(node.begin(wanted(&attempt("waits", "ann"), "telepathy")).await).starts_with("InvalidArgument"));
}

#[tokio::test]
async fn a_phone_that_was_not_seen_for_long_makes_nobody_a_person_without_a_method() {
    // V-25, FV-41, FM-06
    let world = World::new();
    let node = world.node().await;
    assert_eq!(said(node.begin(passed(&attempt("lax", "bob"), None)).await), "allow not_enrolled_passed");
    world.store.give_phone("bob");
    world.clock.advance(91 * 86_400_000);
    world.store.say_now(0);
    assert_eq!(said(node.begin(passed(&attempt("lax", "bob"), None)).await), "deny no_usable_method");
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_compares_no_code_by_the_clock() {
    // V-43: beyond 20 s; up to there it warns
    for (ahead_ms, expected) in [(0, "allow valid_code"), (-19_000, "allow valid_code"), (25_000, "unavailable")] {
        let world = World::new();
        world.store.say_now(crate::fakes::NOW + ahead_ms);
        let node = world.node().await;
        let attempt = attempt("vpn", "ann");
        assert_eq!(said(node.begin(passed(&attempt, Some(&world.code(0)))).await), expected, "{ahead_ms}");
        assert_eq!(
            world.store.granted(),
            u32::from(expected != "unavailable"),
            "a try that is not looked at costs nothing"
        );
    }
    let world = counting();
    world.store.say_now(crate::fakes::NOW + 90_000);
    let node = world.node().await;
    let by_counter = node.begin(passed(&attempt("vpn", "bob"), Some(&counted(5)))).await;
    assert_eq!(said(by_counter), "allow valid_code", "a counter needs no clock");
}

#[tokio::test]
async fn a_token_that_runs_ahead_is_followed_from_login_to_login() {
    // V-12
    let world = World::new();
    world.store.drop_tokens("ann");
    world.store.give_token("ann", CodeFactor { drift: 3, ..factor("fast") });
    let node = world.node().await;
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&world.code(4)))).await), "allow valid_code");
    assert_eq!(world.store.last_drift(), 4);
}

#[tokio::test]
async fn three_failures_with_the_right_password_are_told_once() {
    // FB-08: over all clients and nodes
    let world = World::new();
    let (node, other) = (world.node().await, world.node().await);
    for (node, client) in [(&node, "vpn"), (&other, "lax"), (&node, "waits"), (&other, "vpn")] {
        assert_eq!(said(node.begin(passed(&attempt(client, "ann"), Some("000000"))).await), "deny wrong_code");
    }
    let mails = world.store.mails();
    let told: Vec<_> =
        mails.iter().map(|mail| (mail.kind.as_str(), mail.user_id.as_str(), mail.to.join(","))).collect();
    // The sender knows who the administrators are.
    assert_eq!(
        told,
        [("password_known", "id-of-ann", "ann@mail.example".to_owned()), ("password_known", "", String::new())]
    );
    // A mail that cannot be put changes no decision.
    world.store.break_call("put", crate::fakes::Fault::Unavailable);
    world.clock.advance(700_000);
    assert_eq!(said(node.begin(passed(&attempt("vpn", "ann"), Some(&world.code(0)))).await), "allow valid_code");
}

#[tokio::test]
async fn a_code_spent_before_a_password_that_is_never_told_has_its_event() {
    // V-61, L-53: its gateway was killed while the directory was asked
    let world = World::new();
    let (node, other) = (world.node().await, world.node().await);
    let [lost, finished, elsewhere] = [-1, 0, 1].map(|offset| (attempt("vpn", "ann"), world.code(offset)));
    for (attempt, code) in [&lost, &finished, &elsewhere] {
        assert_eq!(said(node.begin(pending(attempt, code)).await), "accepted");
    }
    assert_eq!(said(node.complete(complete(&finished.0)).await), "allow valid_code");
    assert_eq!(said(other.complete(complete(&elsewhere.0)).await), "allow valid_code");
    world.clock.advance(130_000);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.store.reasons(), ["valid_code", "valid_code"], "its gateway may still end it itself");
    world.clock.advance(10_000);
    until(|| world.store.events().len() == 3).await;
    let events = world.store.events();
    let event = events.iter().find(|event| event.transaction_id == lost.0.transaction_id).expect("an event");
    assert_eq!((event.reason.as_str(), event.method.as_str()), ("internal_error", "code"));
    assert_eq!((event.user_id.as_str(), event.result.as_str()), ("id-of-ann", "error"));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.store.events().len(), 3, "each once");
    assert_eq!(said(node.complete(complete(&lost.0)).await), "deny challenge_gone");
}

#[tokio::test]
async fn a_code_spent_before_a_password_that_was_wrong_is_ended_once() {
    // V-61, L-53: by its gateway, and nobody looks for it when its time is over
    let world = World::new();
    let node = world.node().await;
    let [wrong, lost] = [-1, 0].map(|offset| (attempt("vpn", "ann"), world.code(offset)));
    for (attempt, code) in [&wrong, &lost] {
        assert_eq!(said(node.begin(pending(attempt, code)).await), "accepted");
    }
    let report = ReportRequest { attempt: Some(wrong.0.clone()), reason: "bad_password".into() };
    node.report(request(report)).await.expect("recorded");
    world.clock.advance(140_000);
    until(|| world.store.events().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(world.store.reasons(), ["bad_password", "internal_error"]);
    assert_eq!(world.store.calls("record"), 2);
}
