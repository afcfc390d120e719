//! What guards a decision (V-02, V-11, V-14, V-15, V-61, L-53, L-54).

use crate::fixture::{Enrolled, Fixture, NOON_MS, person};
use proto::user_store::{
    AllowResult, AuditEvent, CommitAllowRequest, ListAuditRequest, LoginFactsRequest, RecordRequest, ReserveTryRequest,
    RevokeFactorRequest, SetUserStateRequest, SpendCodeRequest, SpendResult, TryCodeReply, TryCodeRequest,
    TryCodeResult, TryKind, UnlockUserRequest, admin_server::Admin, commit_server::Commit, facts_server::Facts,
    login_facts_request::Who,
};
use std::{collections::BTreeMap, sync::Arc};
use tonic::Request;
use user_store::CommitService;

pub async fn allowed(commit: &Arc<CommitService>, request: CommitAllowRequest) -> AllowResult {
    commit.allow(Request::new(request)).await.expect("the store answers").into_inner().result()
}

fn transaction() -> String {
    uuid::Uuid::now_v7().to_string()
}

pub async fn one_code_sent_two_hundred_times_at_once_is_accepted_once(lab: Fixture) {
    // V-11, B-80: 200 transactions, one code, all at once
    let ann = lab.enrolled("ann").await;
    let copies = (0..200).map(|_| {
        let (commit, request) = (lab.services.commit.clone(), ann.allow(&transaction(), 101));
        tokio::spawn(async move { allowed(&commit, request).await })
    });
    let mut results: BTreeMap<&str, u32> = BTreeMap::new();
    for copy in futures::future::join_all(copies).await {
        *results.entry(copy.expect("no panic").as_str_name()).or_default() += 1;
    }
    assert_eq!(results, BTreeMap::from([("ALLOW_RESULT_COMMITTED", 1), ("ALLOW_RESULT_REUSED", 199)]));
    assert_eq!(lab.events("authentication").await.len(), 1);
    assert_eq!(last_step(&lab, &ann.user_id).await, 101);
    // Earlier steps are spent with it.
    assert_eq!(allowed(&lab.services.commit, ann.allow(&transaction(), 100)).await, AllowResult::Reused);
    assert_eq!(allowed(&lab.services.commit, ann.allow(&transaction(), 102)).await, AllowResult::Committed);
    lab.assert_chain_is_whole().await;
}

async fn last_step(lab: &Fixture, user_id: &str) -> u64 {
    let request = LoginFactsRequest { who: Some(Who::UserId(user_id.into())), ..Default::default() };
    let facts = lab.services.facts.login(Request::new(request)).await.expect("the store answers").into_inner();
    facts.code_factors[0].last_step
}

pub async fn the_same_request_asking_again_gets_the_first_result(lab: Fixture) {
    // V-02, T-32
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    let commit = &lab.services.commit;
    let first = ann.allow("0191-a", 101);
    assert_eq!(allowed(commit, first.clone()).await, AllowResult::Committed);
    let later = CommitAllowRequest {
        event: Some(AuditEvent { at_unix_ms: NOON_MS + 900, ..ann.event("0191-a") }),
        ..first.clone()
    };
    assert_eq!(allowed(commit, later).await, AllowResult::Committed);
    for (name, other) in [
        ("another step", ann.allow("0191-a", 102)),
        ("another user", bob.allow("0191-a", 101)),
        ("another evaluation", CommitAllowRequest { evaluation: "second".into(), ..first.clone() }),
        (
            "another client",
            CommitAllowRequest {
                event: Some(AuditEvent { client: "mail".into(), ..ann.event("0191-a") }),
                ..first.clone()
            },
        ),
    ] {
        assert_eq!(allowed(commit, other).await, AllowResult::Spent, "{name}");
    }
    let denied = AuditEvent { result: "failed".into(), reason: "wrong_code".into(), ..ann.event("0191-b") };
    for _ in 0..2 {
        let request = RecordRequest { event: Some(denied.clone()), ..RecordRequest::default() };
        commit.record(Request::new(request)).await.expect("recorded");
    }
    assert_eq!(allowed(commit, ann.allow("0191-b", 102)).await, AllowResult::Spent);
    assert_eq!(lab.events("authentication").await.len(), 2);
    assert_eq!(last_step(&lab, &ann.user_id).await, 101);
}

pub async fn a_code_spent_before_the_bind_stays_spent(lab: Fixture) {
    // L-53
    let ann = lab.enrolled("ann").await;
    let commit = &lab.services.commit;
    let spend = |transaction: &str, step| SpendCodeRequest {
        transaction_id: transaction.into(),
        user_id: ann.user_id.clone(),
        factor_id: ann.factor_id.clone(),
        step,
        now_unix_ms: NOON_MS,
    };
    let spent = async |request: SpendCodeRequest| {
        commit.spend_code(Request::new(request)).await.expect("the store answers").into_inner().result()
    };
    let copies = (0..50).map(|number| spent(spend(&format!("copy-{number}"), 101)));
    let results = futures::future::join_all(copies).await;
    assert_eq!(results.iter().filter(|result| **result == SpendResult::Spent).count(), 1);
    assert_eq!(spent(spend("mine", 102)).await, SpendResult::Spent);
    assert_eq!(spent(spend("mine", 103)).await, SpendResult::Reused, "once a transaction");
    // The password turned out wrong: the code is gone all the same.
    assert_eq!(allowed(commit, ann.allow("other", 102)).await, AllowResult::Reused);
    let before = |transaction: &str| CommitAllowRequest { spent_before: true, ..ann.allow(transaction, 102) };
    assert_eq!(allowed(commit, before("other-2")).await, AllowResult::Refused);
    assert_eq!(allowed(commit, before("mine")).await, AllowResult::Committed);
}

fn reserve(user_id: &str, factor_id: &str, source: &str, kind: TryKind, now_unix_ms: i64) -> ReserveTryRequest {
    ReserveTryRequest {
        user_id: user_id.into(),
        factor_id: factor_id.into(),
        source: source.into(),
        kind: kind.into(),
        now_unix_ms,
    }
}

async fn granted(lab: &Fixture, request: ReserveTryRequest) -> bool {
    lab.services.commit.reserve_try(Request::new(request)).await.expect("the store answers").into_inner().granted
}

pub async fn parallel_tries_never_exceed_the_free_ones(lab: Fixture) {
    // V-14, B-82: 200 at once, from 200 places
    let ann = lab.enrolled("ann").await;
    let tries = (0..200).map(|number| {
        let source = format!("203.0.113.{number}");
        granted(&lab, reserve(&ann.user_id, &ann.factor_id, &source, TryKind::AfterPassword, NOON_MS))
    });
    assert_eq!(futures::future::join_all(tries).await.into_iter().filter(|granted| *granted).count(), 5);
    let detail = lab.user("ann").await.expect("there");
    assert_eq!(detail.factors[0].consecutive_failures, 5);
    assert_eq!(detail.factors[0].locked_until_unix_ms, NOON_MS + 30_000);
    let factor = |at| reserve(&ann.user_id, &ann.factor_id, "x", TryKind::AfterPassword, at);
    assert!(!granted(&lab, factor(NOON_MS + 29_999)).await);
    assert!(granted(&lab, factor(NOON_MS + 30_000)).await);
    assert!(!granted(&lab, factor(NOON_MS + 89_999)).await);
    assert!(!granted(&lab, reserve(&ann.user_id, "no such factor", "x", TryKind::AfterPassword, NOON_MS)).await);
}

/// A code of ann's, right or wrong, on its way to the store.
fn code_try(ann: &Enrolled, transaction: &str, step: u64, matched: bool) -> TryCodeRequest {
    let allow = CommitAllowRequest { counted_factor_id: ann.factor_id.clone(), ..ann.allow(transaction, step) };
    TryCodeRequest { allow: Some(allow), matched }
}

async fn tried(lab: &Fixture, request: TryCodeRequest) -> TryCodeReply {
    lab.services.commit.try_code(Request::new(request)).await.expect("the store answers").into_inner()
}

async fn failures(lab: &Fixture, username: &str) -> u32 {
    lab.user(username).await.expect("there").factors[0].consecutive_failures
}

pub async fn with_one_try_left_a_right_code_beside_a_wrong_one_counts_only_if_it_came_first(lab: Fixture) {
    // V-14: the code was compared before, and the one transaction counts, then lets in
    let ann = lab.enrolled("ann").await;
    let wrong = || tried(&lab, code_try(&ann, &transaction(), 0, false));
    for _ in 0..4 {
        assert_eq!(wrong().await.result(), TryCodeResult::Wrong);
    }
    let (second, first) = futures::future::join(wrong(), tried(&lab, code_try(&ann, "late", 101, true))).await;
    assert_eq!((second.result(), first.result()), (TryCodeResult::Wrong, TryCodeResult::Throttled));
    assert_eq!(first.retry_unix_ms, NOON_MS + 30_000);
    // What was not granted left nothing: no mark, no event, and the same request may come later.
    assert_eq!((last_step(&lab, &ann.user_id).await, failures(&lab, "ann").await), (100, 5));
    assert!(lab.events("authentication").await.is_empty());
    assert_eq!(tried(&lab, code_try(&ann, "wrong", 101, false)).await, first, "throttled, it is heard of no code");
    let unlock = UnlockUserRequest { user_id: ann.user_id.clone(), actor: "admin:uid=0".into() };
    lab.services.admin.unlock_user(Request::new(unlock)).await.expect("unlocked");
    for _ in 0..4 {
        assert_eq!(wrong().await.result(), TryCodeResult::Wrong);
    }
    let (first, second) = futures::future::join(tried(&lab, code_try(&ann, "late", 101, true)), wrong()).await;
    assert_eq!((first.result(), second.result()), (TryCodeResult::Allowed, TryCodeResult::Wrong));
    assert_eq!((last_step(&lab, &ann.user_id).await, failures(&lab, "ann").await), (101, 1));
    assert_eq!(lab.events("authentication").await.len(), 1);
}

pub async fn parallel_codes_never_get_more_than_the_free_tries(lab: Fixture) {
    // V-14, B-82: 200 wrong ones and a right one, in whatever order they come, five times
    for round in 0..5 {
        let name = format!("user{round}");
        let ann = lab.enrolled(&name).await;
        let tries = (0..201).map(|number| {
            let (commit, right) = (lab.services.commit.clone(), number == 40 * round);
            let request = code_try(&ann, &transaction(), 101, right);
            tokio::spawn(async move {
                let reply = commit.try_code(Request::new(request)).await;
                reply.expect("the store answers").into_inner().result()
            })
        });
        let results = futures::future::join_all(tries).await;
        let count = |of| results.iter().filter(|result| *result.as_ref().expect("no panic") == of).count();
        let (allowed, wrong) = (count(TryCodeResult::Allowed), count(TryCodeResult::Wrong));
        // A success begins a new row of free ones, and makes the place a usual one with a reserve of three (V-15).
        assert!(if allowed == 1 { (8..=12).contains(&wrong) } else { wrong == 5 }, "{allowed} let in, {wrong} wrong");
        assert_eq!(allowed + wrong + count(TryCodeResult::Throttled), 201);
        assert_eq!(failures(&lab, &name).await, if allowed == 1 { 8 } else { 5 });
    }
}

pub async fn a_try_that_let_in_is_heard_again_and_not_counted_again(lab: Fixture) {
    // V-02, V-14
    let ann = lab.enrolled("ann").await;
    for _ in 0..7 {
        assert_eq!(tried(&lab, code_try(&ann, "0191-a", 101, true)).await.result(), TryCodeResult::Allowed);
    }
    assert_eq!(failures(&lab, "ann").await, 0);
    for (number, (transaction, step, matched, result)) in [
        ("0191-b", 101, true, TryCodeResult::Reused),
        ("0191-a", 102, true, TryCodeResult::Spent),
        ("0191-a", 101, false, TryCodeResult::Wrong),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(tried(&lab, code_try(&ann, transaction, step, matched)).await.result(), result, "{number}");
        assert_eq!(failures(&lab, "ann").await, number as u32 + 1);
    }
    // Asked again, verification names the token used last by then, which may be another one.
    let other = lab.add_token_of(&ann.user_id).await;
    let right = code_try(&ann, "0191-a", 101, true);
    let allow = right.allow.map(|allow| CommitAllowRequest { counted_factor_id: other, ..allow });
    let again = tried(&lab, TryCodeRequest { allow, matched: true }).await;
    assert_eq!(again.result(), TryCodeResult::Allowed);
    let factors = lab.user("ann").await.expect("there").factors;
    assert_eq!(factors.iter().map(|factor| factor.consecutive_failures).sum::<u32>(), 3, "counted on neither");
    assert_eq!(lab.events("authentication").await.len(), 1);
    let nobody = TryCodeRequest { allow: None, matched: true };
    let refused = lab.services.commit.try_code(Request::new(nobody)).await.expect_err("refused");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

pub async fn whoever_logs_in_beside_others_is_let_in_and_one_code_lets_in_once(lab: Fixture) {
    // V-11, V-61: 256 people at once, each with a code of their own; then one of them with five at once
    lab.with_settings().await;
    let names: Vec<String> = (0..256).map(|number| format!("user{number}")).collect();
    let run_id = lab.begin().await.expect("a run begins");
    lab.batch(&run_id, names.iter().map(|name| person(name)).collect()).await;
    let mut people = Vec::new();
    for name in &names {
        people.push(lab.enrol(name).await);
    }
    for step in [101, 102] {
        let logins = people.iter().map(|person| {
            let (commit, request) = (lab.services.commit.clone(), code_try(person, &transaction(), step, true));
            tokio::spawn(async move { commit.try_code(Request::new(request)).await.map(|it| it.into_inner().result()) })
        });
        for login in futures::future::join_all(logins).await {
            assert_eq!(login.expect("no panic").expect("the store answers"), TryCodeResult::Allowed);
        }
    }
    let copies = (0..5).map(|_| tried(&lab, code_try(&people[0], &transaction(), 103, true)));
    let results: Vec<_> = futures::future::join_all(copies).await.iter().map(TryCodeReply::result).collect();
    assert_eq!(results, [vec![TryCodeResult::Allowed], vec![TryCodeResult::Reused; 4]].concat());
    let later = (0..5).map(|number| tried(&lab, code_try(&people[1], &transaction(), 103 + number, true)));
    let results = futures::future::join_all(later).await;
    assert!(results.iter().all(|it| it.result() == TryCodeResult::Allowed), "{results:?}");
    lab.assert_chain_is_whole().await;
}

pub async fn a_success_sets_the_counter_back_and_an_unlock_too(lab: Fixture) {
    // V-14, V-15
    let ann = lab.enrolled("ann").await;
    let from = |source: &str| reserve(&ann.user_id, &ann.factor_id, source, TryKind::AfterPassword, NOON_MS);
    for _ in 0..5 {
        assert!(granted(&lab, from("10.0.4.3")).await);
    }
    assert!(!granted(&lab, from("10.0.4.3")).await, "no success yet, no reserve");
    assert_eq!(allowed(&lab.services.commit, ann.allow("t1", 101)).await, AllowResult::Committed);
    for _ in 0..5 {
        assert!(granted(&lab, from("198.51.100.1")).await);
    }
    assert!(!granted(&lab, from("198.51.100.1")).await, "locked from elsewhere");
    for number in 0..4 {
        assert_eq!(granted(&lab, from("10.0.4.3")).await, number < 3, "the usual place has three");
    }
    let unlock = UnlockUserRequest { user_id: ann.user_id.clone(), actor: "admin:uid=0".into() };
    let detail = lab.services.admin.unlock_user(Request::new(unlock)).await.expect("unlocked").into_inner();
    assert_eq!(detail.user.expect("with a summary").locked_until_unix_ms, 0);
    assert!(granted(&lab, from("198.51.100.1")).await);
    assert_eq!(lab.events("user.unlocked").await[0].actor, "admin:uid=0");
}

pub async fn a_code_of_one_token_sets_back_the_count_of_the_users_other_one_and_of_nobody_elses(lab: Fixture) {
    // V-14: verification counts a try on one token, whichever of them the code is of
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    let other = lab.add_token_of(&ann.user_id).await;
    for who in [(&ann.user_id, &other), (&bob.user_id, &bob.factor_id)] {
        for _ in 0..5 {
            assert!(granted(&lab, reserve(who.0, who.1, "x", TryKind::AfterPassword, NOON_MS)).await);
        }
    }
    let by = |transaction: &str, step, counted: &str| CommitAllowRequest {
        counted_factor_id: counted.into(),
        ..ann.allow(transaction, step)
    };
    assert_eq!(allowed(&lab.services.commit, by("t1", 101, &other)).await, AllowResult::Committed);
    assert!(granted(&lab, reserve(&ann.user_id, &other, "x", TryKind::AfterPassword, NOON_MS)).await);
    assert_eq!(allowed(&lab.services.commit, by("t2", 102, &bob.factor_id)).await, AllowResult::Committed);
    assert!(!granted(&lab, reserve(&bob.user_id, &bob.factor_id, "x", TryKind::AfterPassword, NOON_MS)).await);
}

pub async fn ten_thousand_tries_without_the_password_lock_nobody(lab: Fixture) {
    // L-54, V-15: 500 sources, 20 evaluated an hour, the user is not locked
    let ann = lab.enrolled("ann").await;
    let mut evaluated = 0;
    for round in 0..20 {
        let tries = (0..500).map(|number| {
            let source = format!("2001:db8::{number:x}");
            granted(&lab, reserve(&ann.user_id, &ann.factor_id, &source, TryKind::Unverified, NOON_MS + round))
        });
        evaluated += futures::future::join_all(tries).await.into_iter().filter(|granted| *granted).count();
    }
    assert_eq!(evaluated, 20);
    let user = lab.user("ann").await.expect("there").user.expect("with a summary");
    assert_eq!(user.locked_until_unix_ms, 0);
    assert!(granted(&lab, reserve(&ann.user_id, &ann.factor_id, "x", TryKind::AfterPassword, NOON_MS)).await);
    let hour = NOON_MS + 3_600_000;
    assert!(granted(&lab, reserve(&ann.user_id, &ann.factor_id, "x", TryKind::Unverified, hour)).await);
}

pub async fn a_disabled_or_revoked_user_is_not_let_in_by_a_commit_under_way(lab: Fixture) {
    // The decision was made on facts that are no longer true.
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    let disable = SetUserStateRequest {
        user_id: ann.user_id.clone(),
        state: "disabled".into(),
        reason: "left".into(),
        actor: "admin:uid=0".into(),
        expected_revision: 0,
    };
    lab.services.admin.set_user_state(Request::new(disable)).await.expect("disabled");
    assert_eq!(allowed(&lab.services.commit, ann.allow("t1", 101)).await, AllowResult::Refused);
    let revoke = RevokeFactorRequest {
        user_id: bob.user_id.clone(),
        factor_id: bob.factor_id.clone(),
        actor: "admin:uid=0".into(),
    };
    lab.services.admin.revoke_factor(Request::new(revoke)).await.expect("revoked");
    assert_eq!(allowed(&lab.services.commit, bob.allow("t2", 101)).await, AllowResult::Refused);
    let pending = lab.add_factor(&bob.user_id).await;
    let unproven = CommitAllowRequest { factor_id: pending, ..bob.allow("t3", 101) };
    assert_eq!(allowed(&lab.services.commit, unproven).await, AllowResult::Refused);
    assert!(lab.events("authentication").await.is_empty());
}

pub async fn an_allow_and_its_event_are_one(lab: Fixture) {
    // V-61: every field of the event, and nothing without one
    let ann = lab.enrolled("ann").await;
    let asked = ann.allow("0191-c", 101);
    assert_eq!(allowed(&lab.services.commit, asked.clone()).await, AllowResult::Committed);
    let request = ListAuditRequest { transaction_id: "0191-c".into(), ..ListAuditRequest::default() };
    let events = lab.services.admin.list_audit(Request::new(request)).await.expect("listed").into_inner().events;
    let expected = asked.event.expect("set");
    let stored = AuditEvent { sequence: 0, hash: String::new(), ..events[0].clone() };
    assert_eq!((events.len(), stored), (1, expected));
    assert_eq!(events[0].hash.len(), 64);
    let nothing = lab.services.commit.allow(Request::new(CommitAllowRequest::default())).await;
    assert_eq!(nothing.expect_err("no event, no Allow").code(), tonic::Code::InvalidArgument);
    let user = lab.user("ann").await.expect("there");
    assert_eq!(user.user.expect("with a summary").last_success_unix_ms, NOON_MS);
    assert_eq!(user.factors[0].last_used_unix_ms, NOON_MS);
}

pub async fn a_group_with_one_bad_operation_fails_only_that_one(lab: Fixture) {
    // The database refuses one event of a group: the others are committed.
    let ann = lab.enrolled("ann").await;
    lab.refuse_events_of("poison").await;
    let record = |number: usize| {
        let reason = if number == 17 { "poison" } else { "wrong_code" };
        let event = AuditEvent { reason: reason.into(), ..ann.event(&format!("group-{number}")) };
        lab.services.commit.record(Request::new(RecordRequest { event: Some(event), ..RecordRequest::default() }))
    };
    let outcomes = futures::future::join_all((0..40).map(record)).await;
    let failed: Vec<usize> =
        outcomes.iter().enumerate().filter_map(|(number, it)| it.is_err().then_some(number)).collect();
    assert_eq!(failed, [17]);
    let status = outcomes[17].as_ref().expect_err("refused");
    assert_eq!((status.code(), status.message()), (tonic::Code::Internal, "a fault in the store"));
    assert_eq!(lab.events("authentication").await.len(), 39);
    lab.assert_chain_is_whole().await;
}
