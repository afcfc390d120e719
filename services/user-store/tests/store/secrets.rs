//! What people remember: PINs and recovery codes (V-31, FV-20 to FV-22, FV-09).

use crate::commit::allowed;
use crate::fixture::{Enrolled, Fixture, NOON_MS, SETTINGS};
use proto::common::Secret;
use proto::user_store::{
    AllowResult, AuditEvent, CheckSecretReply, CheckSecretRequest, CommitAllowRequest, IssueTemporaryCodeRequest, Mail,
    PutMailRequest, SecretKind, SecretResult, SetPinReply, SetPinRequest, StoreRecoveryCodesRequest, TryKind,
    admin_server::Admin, commit_server::Commit, outbox_server::Outbox,
};
use tonic::{Request, Status};

const MINUTE_MS: i64 = 60_000;

fn secret(text: &str) -> Option<Secret> {
    Some(Secret { value: text.into() })
}

fn check(who: &Enrolled, kind: SecretKind, typed: &str, transaction: &str) -> CheckSecretRequest {
    CheckSecretRequest {
        user_id: who.user_id.clone(),
        kind: kind.into(),
        secret: secret(typed),
        source: "10.0.4.3".into(),
        transaction_id: transaction.into(),
        try_kind: TryKind::AfterPassword.into(),
        now_unix_ms: NOON_MS,
        ..CheckSecretRequest::default()
    }
}

async fn checked(lab: &Fixture, request: CheckSecretRequest) -> CheckSecretReply {
    lab.services.commit.check_secret(Request::new(request)).await.expect("the store answers").into_inner()
}

async fn pin(lab: &Fixture, who: &Enrolled, typed: &str, must_change: bool) -> Result<SetPinReply, Status> {
    let request = SetPinRequest {
        user_id: who.user_id.clone(),
        pin: secret(typed),
        actor: if must_change { "admin:uid=0".into() } else { "self".into() },
        must_change,
    };
    Ok(lab.services.commit.set_pin(Request::new(request)).await?.into_inner())
}

async fn set(lab: &Fixture, who: &Enrolled, typed: &str) -> String {
    pin(lab, who, typed, false).await.expect("the store answers").rule
}

pub async fn a_pin_is_chosen_by_the_rules_and_none_of_the_last_comes_back(lab: Fixture) {
    // FV-20
    let document = format!("{SETTINGS}\n[pin]\nhistory = 2\n[voice]\nfraud_code = \"0813\"\n");
    assert_eq!(lab.apply(&document).await.errors, [""; 0]);
    lab.lead().await;
    let ann = lab.enrolled("ann").await;
    for (typed, rule) in
        [("123", "length"), ("1111", "repeated"), ("3456", "run"), ("0813", "fraud_code"), ("3456", "run")]
    {
        assert_eq!(set(&lab, &ann, typed).await, rule, "{typed}");
    }
    // Her number in the directory is +49 30 123456.
    assert_eq!(set(&lab, &ann, "30123456").await, "phone");
    for (typed, rule) in
        [("4917", ""), ("4917", "history"), ("8264", ""), ("4917", "history"), ("5093", ""), ("4917", "")]
    {
        assert_eq!(set(&lab, &ann, typed).await, rule, "{typed}");
    }
    assert_eq!(lab.events("pin.set").await.len(), 4);
    let state = lab.login_user(&ann.user_id).await.pin.expect("there is one");
    assert!(state.set && !state.must_change && !state.expired && state.locked_until_unix_ms == 0);
    let right = checked(&lab, check(&ann, SecretKind::Pin, "4917", "t1")).await;
    assert_eq!((right.result(), right.handle.len()), (SecretResult::Right, 36));
    assert_eq!(checked(&lab, check(&ann, SecretKind::Pin, "5093", "t1")).await.result(), SecretResult::Wrong);
    let bob = lab.enrolled("bob").await;
    assert_eq!(checked(&lab, check(&bob, SecretKind::Pin, "4917", "t2")).await.result(), SecretResult::None);
}

pub async fn a_pin_is_spent_with_the_attempt_it_was_typed_in(lab: Fixture) {
    // V-02: a code and a PIN, each of this attempt
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    assert_eq!(set(&lab, &ann, "4917").await, "");
    assert_eq!(set(&lab, &bob, "4917").await, "");
    let handle = checked(&lab, check(&ann, SecretKind::Pin, "4917", "t1")).await.handle;
    let with = |request: CommitAllowRequest| CommitAllowRequest { pin_handle: handle.clone(), ..request };
    let commit = &lab.services.commit;
    assert_eq!(allowed(commit, with(bob.allow("t1", 200))).await, AllowResult::Refused, "hers, not his");
    assert_eq!(allowed(commit, with(ann.allow("t2", 200))).await, AllowResult::Refused, "of another attempt");
    let mut late = with(ann.allow("t1", 200));
    late.event.as_mut().expect("set").at_unix_ms = NOON_MS + 10 * MINUTE_MS;
    assert_eq!(allowed(commit, late).await, AllowResult::Refused, "ten minutes later");
    assert_eq!(allowed(commit, with(ann.allow("t1", 200))).await, AllowResult::Committed);
    assert_eq!(allowed(commit, with(ann.allow("t1", 201))).await, AllowResult::Spent);
}

pub async fn wrong_pins_lock_after_the_password_and_never_before_it(lab: Fixture) {
    // FV-22, L-54: 40 at once, five are looked at
    let ann = lab.enrolled("ann").await;
    assert_eq!(set(&lab, &ann, "4917").await, "");
    lab.mails().await;
    let unverified = |number: usize| CheckSecretRequest {
        try_kind: TryKind::Unverified.into(),
        ..check(&ann, SecretKind::Pin, "9999", &format!("u{number}"))
    };
    let tries = futures::future::join_all((0..30).map(|number| checked(&lab, unverified(number)))).await;
    let wrong = tries.iter().filter(|reply| reply.result() == SecretResult::Wrong).count();
    assert_eq!(wrong, 20, "the budget without a password");
    assert_eq!(checked(&lab, check(&ann, SecretKind::Pin, "4917", "t0")).await.result(), SecretResult::Right);
    let tries = (0..40).map(|number| checked(&lab, check(&ann, SecretKind::Pin, "9999", &format!("t{number}"))));
    let tries = futures::future::join_all(tries).await;
    let count = |result| tries.iter().filter(|reply| reply.result() == result).count();
    assert_eq!((count(SecretResult::Wrong), count(SecretResult::Locked)), (5, 35));
    let until_ms = NOON_MS + 60 * MINUTE_MS;
    let locked = checked(&lab, check(&ann, SecretKind::Pin, "4917", "t1")).await;
    assert_eq!((locked.result(), locked.retry_unix_ms), (SecretResult::Locked, until_ms));
    assert_eq!(lab.login_user(&ann.user_id).await.pin.expect("there is one").locked_until_unix_ms, until_ms);
    assert_eq!(lab.events("user.locked").await.len(), 1);
    let told: Vec<(String, bool)> = lab.mails().await.into_iter().map(|it| (it.kind, it.user_id.is_empty())).collect();
    assert_eq!(told, [("locked".to_owned(), false), ("locked".to_owned(), true)], "the person and the administrators");
    // Verification meets the lock later, and tells of it too: it is the same mail.
    for whose in ["user", "administrators"] {
        let mail = Mail { kind: "locked".into(), ..Mail::default() };
        let once_key = proto::once::locked(whose, &ann.user_id, until_ms, NOON_MS + 40 * MINUTE_MS);
        let request = PutMailRequest { mail: Some(mail), once_key, now_unix_ms: NOON_MS + 40 * MINUTE_MS };
        lab.services.outbox.put(Request::new(request)).await.expect("put");
    }
    assert!(lab.mails().await.is_empty(), "nobody is told twice of one lock");
    let later = CheckSecretRequest { now_unix_ms: until_ms, ..check(&ann, SecretKind::Pin, "4917", "t2") };
    assert_eq!(checked(&lab, later).await.result(), SecretResult::Right);
}

pub async fn a_try_that_locks_is_told_even_where_it_could_not_be_compared(lab: Fixture) {
    // FV-22, V-14: counted before it is looked at
    let ann = lab.enrolled("ann").await;
    assert_eq!(set(&lab, &ann, "4917").await, "");
    lab.mails().await;
    // No hash is computed with a salt that is too short.
    lab.tamper(&format!("UPDATE hashed SET salt = {} WHERE user_id = '{}'", lab.octets(&[0]), ann.user_id)).await;
    for number in 1..=5 {
        assert!(lab.events("user.locked").await.is_empty(), "{number}");
        let request = Request::new(check(&ann, SecretKind::Pin, "4917", "t1"));
        lab.services.commit.check_secret(request).await.expect_err("it cannot be compared");
    }
    let events = lab.events("user.locked").await;
    assert_eq!((events.len(), events[0].user_id.as_str()), (1, ann.user_id.as_str()));
    assert!(lab.mails().await.iter().any(|mail| mail.kind == "locked"));
    let locked = checked(&lab, check(&ann, SecretKind::Pin, "4917", "t2")).await;
    assert_eq!(locked.result(), SecretResult::Locked);
}

pub async fn a_given_pin_is_changed_at_its_first_use_and_ends_after_its_days(lab: Fixture) {
    // FV-21
    let ann = lab.enrolled("ann").await;
    assert!(pin(&lab, &ann, "491726", true).await.expect("the store answers").set);
    let state = lab.login_user(&ann.user_id).await.pin.expect("there is one");
    assert!(state.must_change && !state.expired);
    assert_eq!(checked(&lab, check(&ann, SecretKind::Pin, "491726", "t1")).await.result(), SecretResult::Right);
    lab.clock.advance(14 * 24 * 60 * MINUTE_MS);
    let now_unix_ms = lab.clock.now_ms();
    assert!(lab.login_user(&ann.user_id).await.pin.expect("there is one").expired);
    let late = CheckSecretRequest { now_unix_ms, ..check(&ann, SecretKind::Pin, "491726", "t2") };
    assert_eq!(checked(&lab, late).await.result(), SecretResult::None);
    assert_eq!(set(&lab, &ann, "830264").await, "");
    assert!(!lab.login_user(&ann.user_id).await.pin.expect("there is one").must_change);
}

pub async fn recovery(lab: &Fixture, who: &Enrolled, codes: &[&str]) {
    let request = StoreRecoveryCodesRequest {
        user_id: who.user_id.clone(),
        codes: codes.iter().map(|code| Secret { value: (*code).into() }).collect(),
        actor: "self".into(),
    };
    lab.services.commit.new_recovery_codes(Request::new(request)).await.expect("kept");
}

fn allow_by(who: &Enrolled, transaction: &str, handle: &str) -> CommitAllowRequest {
    let event =
        AuditEvent { method: "recovery".into(), reason: "valid_recovery_code".into(), ..who.event(transaction) };
    CommitAllowRequest { event: Some(event), secret_handle: handle.into(), ..CommitAllowRequest::default() }
}

pub async fn a_recovery_code_lets_in_once_and_a_new_set_ends_the_old(lab: Fixture) {
    // FV-09: one code, 200 attempts, one login
    let ann = lab.enrolled("ann").await;
    let codes = ["AAAAAAAA1", "BBBBBBBB2", "CCCCCCCC3", "DDDDDDDD4"];
    recovery(&lab, &ann, &codes).await;
    assert_eq!(lab.login_user(&ann.user_id).await.recovery_left, 4);
    lab.mails().await;
    // A proof in many attempts, before the first of them uses it up.
    let mut handles = Vec::new();
    for number in 0..4 {
        let transaction = format!("t{number}");
        let right = checked(&lab, check(&ann, SecretKind::Recovery, "BBBBBBBB2", &transaction)).await;
        assert_eq!(right.result(), SecretResult::Right);
        handles.push((transaction, right.handle));
    }
    let copies = (0..200).map(|number| {
        let (transaction, handle) = &handles[number % handles.len()];
        let evaluation = format!("copy-{number}");
        allowed(&lab.services.commit, CommitAllowRequest { evaluation, ..allow_by(&ann, transaction, handle) })
    });
    let results = futures::future::join_all(copies).await;
    assert_eq!(results.iter().filter(|result| **result == AllowResult::Committed).count(), 1);
    assert_eq!(lab.login_user(&ann.user_id).await.recovery_left, 3);
    let kinds: Vec<String> = lab.mails().await.into_iter().map(|mail| mail.kind).collect();
    assert_eq!(kinds, ["recovery_low"]);
    assert_eq!(checked(&lab, check(&ann, SecretKind::Recovery, "BBBBBBBB2", "t9")).await.result(), SecretResult::Wrong);
    let old = checked(&lab, check(&ann, SecretKind::Recovery, "CCCCCCCC3", "t10")).await;
    recovery(&lab, &ann, &["EEEEEEEE5"]).await;
    let refused = allowed(&lab.services.commit, allow_by(&ann, "t10", &old.handle)).await;
    assert_eq!(refused, AllowResult::Refused, "its set was replaced meanwhile");
    assert_eq!(
        checked(&lab, check(&ann, SecretKind::Recovery, "DDDDDDDD4", "t11")).await.result(),
        SecretResult::Wrong
    );
    // V-14: five tries, then the pause.
    for number in 0..4 {
        let typed = check(&ann, SecretKind::Recovery, "FFFFFFFF6", &format!("w{number}"));
        assert_eq!(checked(&lab, typed).await.result(), SecretResult::Wrong, "{number}");
    }
    let paused = checked(&lab, check(&ann, SecretKind::Recovery, "EEEEEEEE5", "t12")).await;
    assert_eq!((paused.result(), paused.retry_unix_ms), (SecretResult::Locked, NOON_MS + 30_000));
}

/// A temporary code as the help desk issues it, and the proof that it was typed.
async fn temporary_code(lab: &Fixture, who: &Enrolled, uses: u32) -> String {
    let request = IssueTemporaryCodeRequest {
        user_id: who.user_id.clone(),
        uses,
        seconds: 300,
        reason: "phone forgotten".into(),
        actor: "admin:uid=0".into(),
    };
    let issued = lab.services.admin.issue_temporary_code(Request::new(request)).await.expect("issued").into_inner();
    String::from_utf8(issued.code.expect("shown once").value.clone()).expect("digits")
}

pub async fn temporary_proof(lab: &Fixture, who: &Enrolled, transaction: &str) -> String {
    let code = temporary_code(lab, who, 1).await;
    checked(lab, check(who, SecretKind::Temporary, &code, transaction)).await.handle
}

pub fn by_temporary_code(who: &Enrolled, transaction: &str, handle: &str) -> CommitAllowRequest {
    let event = AuditEvent {
        method: String::new(),
        reason: "temporary_code".into(),
        result: "bypass".into(),
        source: "bypass".into(),
        ..who.event(transaction)
    };
    CommitAllowRequest { event: Some(event), secret_handle: handle.into(), ..CommitAllowRequest::default() }
}

pub async fn a_temporary_code_lets_in_as_often_as_it_says_and_in_its_time(lab: Fixture) {
    // V-53, B-88: two uses, many attempts at once
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    let code = temporary_code(&lab, &ann, 2).await;
    assert!(lab.login_user(&ann.user_id).await.temporary_code);
    let others = checked(&lab, check(&bob, SecretKind::Temporary, &code, "t0")).await;
    assert_eq!(others.result(), SecretResult::None, "he has none");
    let mut handles = Vec::new();
    for number in 0..5 {
        let transaction = format!("t{number}");
        let right = checked(&lab, check(&ann, SecretKind::Temporary, &code, &transaction)).await;
        assert_eq!(right.result(), SecretResult::Right, "{number}");
        handles.push((transaction, right.handle));
    }
    let copies = (0..100).map(|number| {
        let (transaction, handle) = &handles[number % handles.len()];
        let evaluation = format!("copy-{number}");
        allowed(&lab.services.commit, CommitAllowRequest { evaluation, ..by_temporary_code(&ann, transaction, handle) })
    });
    let results = futures::future::join_all(copies).await;
    assert_eq!(results.iter().filter(|result| **result == AllowResult::Committed).count(), 2);
    assert!(!lab.login_user(&ann.user_id).await.temporary_code, "it is used up");
    // Its own end counts, though the proof of it would live on.
    let handle = temporary_proof(&lab, &bob, "b1").await;
    let mut late = by_temporary_code(&bob, "b1", &handle);
    late.event.as_mut().expect("set").at_unix_ms = NOON_MS + 300_000;
    assert_eq!(allowed(&lab.services.commit, late).await, AllowResult::Refused);
    let mut in_time = by_temporary_code(&bob, "b1", &handle);
    in_time.event.as_mut().expect("set").at_unix_ms = NOON_MS + 299_999;
    assert_eq!(allowed(&lab.services.commit, in_time).await, AllowResult::Committed);
}

pub async fn a_code_that_was_right_before_the_password_is_used_up_whatever_the_password_is(lab: Fixture) {
    // L-53: no Allow follows, and still it is not good again
    let ann = lab.enrolled("ann").await;
    recovery(&lab, &ann, &["AAAAAAAA1", "BBBBBBBB2"]).await;
    let before = |kind, code: &str, transaction: &str| CheckSecretRequest {
        try_kind: TryKind::Unverified.into(),
        ..check(&ann, kind, code, transaction)
    };
    let left = async || lab.login_user(&ann.user_id).await.recovery_left;
    let right = checked(&lab, before(SecretKind::Recovery, "AAAAAAAA1", "t1")).await;
    assert_eq!((right.result(), left().await), (SecretResult::Right, 1));
    let again = checked(&lab, check(&ann, SecretKind::Recovery, "AAAAAAAA1", "t2")).await;
    assert_eq!(again.result(), SecretResult::Wrong, "the password was wrong, and the code is gone");
    // The password was right: its own attempt is let in, once.
    let commit = &lab.services.commit;
    assert_eq!(allowed(commit, allow_by(&ann, "t3", &right.handle)).await, AllowResult::Refused, "another attempt");
    assert_eq!(allowed(commit, allow_by(&ann, "t1", &right.handle)).await, AllowResult::Committed);
    assert_eq!(left().await, 1, "not used twice");
    // After the password a code waits for the Allow.
    checked(&lab, check(&ann, SecretKind::Recovery, "BBBBBBBB2", "t4")).await;
    assert_eq!(left().await, 1);
    // Many at once: one of them has it.
    let copies = (0..10).map(|number| checked(&lab, before(SecretKind::Recovery, "BBBBBBBB2", &format!("c{number}"))));
    let replies = futures::future::join_all(copies).await;
    assert_eq!(replies.iter().filter(|reply| reply.result() == SecretResult::Right).count(), 1);

    let code = temporary_code(&lab, &ann, 2).await;
    let right = checked(&lab, before(SecretKind::Temporary, &code, "t5")).await;
    assert_eq!(right.result(), SecretResult::Right);
    assert_eq!(checked(&lab, before(SecretKind::Temporary, &code, "t6")).await.result(), SecretResult::Right);
    assert!(!lab.login_user(&ann.user_id).await.temporary_code, "two uses, two wrong passwords");
    assert_eq!(allowed(commit, by_temporary_code(&ann, "t5", &right.handle)).await, AllowResult::Committed);
}

pub async fn nobody_who_may_not_log_in_has_a_secret_looked_at(lab: Fixture) {
    let ann = lab.enrolled("ann").await;
    assert_eq!(set(&lab, &ann, "4917").await, "");
    let handle = checked(&lab, check(&ann, SecretKind::Pin, "4917", "t1")).await.handle;
    lab.disable(&ann.user_id).await;
    let request = Request::new(check(&ann, SecretKind::Pin, "4917", "t2"));
    let refused = lab.services.commit.check_secret(request).await.expect_err("disabled");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let with_pin = CommitAllowRequest { pin_handle: handle, ..ann.allow("t1", 200) };
    assert_eq!(allowed(&lab.services.commit, with_pin).await, AllowResult::Refused);
    for (name, broken) in [
        ("no secret", CheckSecretRequest { secret: None, ..check(&ann, SecretKind::Pin, "", "t") }),
        ("an empty one", check(&ann, SecretKind::Pin, "", "t")),
        ("a long one", check(&ann, SecretKind::Pin, &"1".repeat(257), "t")),
        ("no attempt", check(&ann, SecretKind::Pin, "4917", "")),
        ("no kind", check(&ann, SecretKind::Unspecified, "4917", "t")),
        (
            "a question twice",
            CheckSecretRequest {
                questions: vec!["pet".into(), "pet".into()],
                answers: vec![Secret { value: b"rex".to_vec() }; 2],
                ..check(&ann, SecretKind::Answers, "", "t")
            },
        ),
    ] {
        let refused = lab.services.commit.check_secret(Request::new(broken)).await.expect_err(name);
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{name}");
    }
}
