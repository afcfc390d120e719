//! Codes that were sent (V-17, V-18), and the number that becomes the user's.

use crate::commit::allowed;
use crate::fixture::{Enrolled, Fixture, NOON_MS};
use proto::user_store::{
    AllowResult, AuditEvent, CheckSentCodeReply, CheckSentCodeRequest, CommitAllowRequest, OpenSentCodeReply,
    OpenSentCodeRequest, SentCodeResult, SetPhoneRequest, UnlockUserRequest, admin_server::Admin,
    commit_server::Commit,
};
use tonic::Request;

pub fn open(who: &Enrolled, transaction: &str, digest: u8, now_ms: i64) -> OpenSentCodeRequest {
    OpenSentCodeRequest {
        user_id: who.user_id.clone(),
        transaction_id: transaction.into(),
        digest: vec![digest; 32],
        expires_unix_ms: now_ms + 300_000,
        kind: "sms".into(),
        phone_prefix: "+4930123".into(),
        per_prefix_and_hour: 100,
        messages_per_day: 1000,
        now_unix_ms: now_ms,
        ..OpenSentCodeRequest::default()
    }
}

pub async fn opened(lab: &Fixture, request: OpenSentCodeRequest) -> OpenSentCodeReply {
    lab.services.commit.open_sent_code(Request::new(request)).await.expect("the store answers").into_inner()
}

pub async fn checked(lab: &Fixture, who: &Enrolled, transaction: &str, digest: u8, now_ms: i64) -> CheckSentCodeReply {
    let request = CheckSentCodeRequest {
        user_id: who.user_id.clone(),
        transaction_id: transaction.into(),
        digest: vec![digest; 32],
        now_unix_ms: now_ms,
        source: "10.0.4.3".into(),
    };
    lab.services.commit.check_sent_code(Request::new(request)).await.expect("the store answers").into_inner()
}

pub fn allow_by(who: &Enrolled, transaction: &str) -> CommitAllowRequest {
    let event = AuditEvent { method: "sms".into(), assurance: "phone".into(), ..who.event(transaction) };
    CommitAllowRequest { event: Some(event), sent_code: true, ..CommitAllowRequest::default() }
}

pub async fn a_sent_code_is_good_for_its_own_attempt_three_tries_and_its_time(lab: Fixture) {
    // V-17, B-83
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    assert!(opened(&lab, open(&ann, "t1", 1, NOON_MS)).await.opened);
    for (name, who, transaction, digest, at_ms, result) in [
        ("another attempt", &ann, "t2", 1, NOON_MS, SentCodeResult::Gone),
        ("another user", &bob, "t1", 1, NOON_MS, SentCodeResult::Gone),
        ("a wrong code", &ann, "t1", 9, NOON_MS, SentCodeResult::Wrong),
        ("too late by no more than the moment", &ann, "t1", 1, NOON_MS + 300_000, SentCodeResult::Gone),
        ("as late as can be", &ann, "t1", 1, NOON_MS + 299_999, SentCodeResult::Right),
    ] {
        assert_eq!(checked(&lab, who, transaction, digest, at_ms).await.result(), result, "{name}");
    }
    // 200 Allows, and each of them an evaluation of its own.
    let copies = (0..200).map(|number| {
        let evaluation = format!("copy-{number}");
        allowed(&lab.services.commit, CommitAllowRequest { evaluation, ..allow_by(&ann, "t1") })
    });
    let results = futures::future::join_all(copies).await;
    assert_eq!(results.iter().filter(|result| **result == AllowResult::Committed).count(), 1);
    assert_eq!(checked(&lab, &ann, "t1", 1, NOON_MS).await.result(), SentCodeResult::Gone, "it is spent");
    assert!(!opened(&lab, open(&ann, "t1", 2, NOON_MS + 60_000)).await.opened, "its attempt is over");
    // Three tries, however many come at once.
    assert!(opened(&lab, open(&bob, "b1", 5, NOON_MS)).await.opened);
    let tries = futures::future::join_all((0..50).map(|_| checked(&lab, &bob, "b1", 6, NOON_MS))).await;
    let count = |result| tries.iter().filter(|reply| reply.result() == result).count();
    assert_eq!((count(SentCodeResult::Wrong), count(SentCodeResult::Gone)), (3, 47));
    assert_eq!(checked(&lab, &bob, "b1", 5, NOON_MS).await.result(), SentCodeResult::Gone, "the right one, too late");
    assert_eq!(allowed(&lab.services.commit, allow_by(&bob, "b1")).await, AllowResult::Refused);
}

pub async fn a_newer_code_ends_the_older_and_not_too_many_are_sent(lab: Fixture) {
    // V-17: newest voids older, 30 s between two, 5 an hour
    let ann = lab.enrolled("ann").await;
    assert!(opened(&lab, open(&ann, "t1", 1, NOON_MS)).await.opened);
    let soon = opened(&lab, open(&ann, "t2", 2, NOON_MS + 29_999)).await;
    assert_eq!((soon.opened, soon.retry_unix_ms), (false, NOON_MS + 30_000));
    assert_eq!(checked(&lab, &ann, "t1", 9, NOON_MS + 29_999).await.result(), SentCodeResult::Wrong, "it still stands");
    assert!(opened(&lab, open(&ann, "t2", 2, NOON_MS + 30_000)).await.opened);
    assert_eq!(checked(&lab, &ann, "t1", 1, NOON_MS + 30_000).await.result(), SentCodeResult::Gone);
    // Sent again in the same attempt, the code before is none.
    assert!(opened(&lab, open(&ann, "t2", 3, NOON_MS + 60_000)).await.opened);
    assert_eq!(checked(&lab, &ann, "t2", 2, NOON_MS + 60_000).await.result(), SentCodeResult::Wrong);
    assert_eq!(checked(&lab, &ann, "t2", 3, NOON_MS + 60_000).await.result(), SentCodeResult::Right);
    for number in 3..5 {
        let now_ms = NOON_MS + number * 30_000;
        assert!(opened(&lab, open(&ann, &format!("t{number}"), 1, now_ms)).await.opened, "{number}");
    }
    let sixth = opened(&lab, open(&ann, "t6", 1, NOON_MS + 300_000)).await;
    assert_eq!((sixth.opened, sixth.retry_unix_ms), (false, NOON_MS + 3_600_000));
    assert!(opened(&lab, open(&ann, "t6", 1, NOON_MS + 3_600_000)).await.opened);
}

pub async fn wrong_codes_of_many_texts_pause_and_lock_until_one_lets_in(lab: Fixture) {
    // V-14, FV-23: one count over all codes of a user
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    lab.mails().await;
    let text = async |who: &Enrolled, name: &str, now_ms| {
        assert!(opened(&lab, open(who, name, 1, now_ms)).await.opened, "{name}");
    };
    text(&ann, "t1", NOON_MS).await;
    for _ in 0..3 {
        assert_eq!(checked(&lab, &ann, "t1", 9, NOON_MS).await.result(), SentCodeResult::Wrong);
    }
    let later = NOON_MS + 30_000;
    text(&ann, "t2", later).await;
    for _ in 0..2 {
        assert_eq!(checked(&lab, &ann, "t2", 9, later).await.result(), SentCodeResult::Wrong);
    }
    let paused = checked(&lab, &ann, "t2", 1, later).await;
    assert_eq!((paused.result(), paused.retry_unix_ms), (SentCodeResult::Locked, later + 30_000), "not looked at");
    // What is proven for somebody else, and a number of one's own, is another matter.
    text(&bob, "b1", later).await;
    assert_eq!(checked(&lab, &bob, "b1", 1, later).await.result(), SentCodeResult::Right);
    let proof =
        OpenSentCodeRequest { kind: "proof".into(), number: "+4930901820".into(), ..open(&ann, "p1", 4, later) };
    assert!(opened(&lab, proof).await.opened);
    assert_eq!(checked(&lab, &ann, "p1", 4, later).await.result(), SentCodeResult::Right);
    // The pause is over, the code is right, and its Allow begins anew.
    assert_eq!(checked(&lab, &ann, "t2", 1, later + 30_000).await.result(), SentCodeResult::Right);
    assert_eq!(allowed(&lab.services.commit, allow_by(&ann, "t2")).await, AllowResult::Committed);
    let hour = NOON_MS + 3_700_000;
    text(&ann, "t3", hour).await;
    assert_eq!(checked(&lab, &ann, "t3", 9, hour).await.result(), SentCodeResult::Wrong);
    // The hundredth in a row is the end, and it is told.
    lab.tamper(&format!(
        "UPDATE secret_states SET wrong = {}, locked_until_ms = 0 WHERE user_id = '{}' AND kind = 'sms'",
        lab.octets(&[0; 99 * 8]),
        ann.user_id
    ))
    .await;
    assert_eq!(checked(&lab, &ann, "t3", 9, hour).await.result(), SentCodeResult::Wrong);
    let locked = checked(&lab, &ann, "t3", 1, hour).await;
    assert_eq!((locked.result(), locked.retry_unix_ms), (SentCodeResult::Locked, 0), "until somebody unlocks");
    let events = lab.events("user.locked").await;
    assert_eq!((events.len(), events[0].user_id.as_str()), (1, ann.user_id.as_str()));
    lab.clock.advance(3_700_000);
    assert!(lab.mails().await.iter().any(|mail| mail.kind == "locked"));
    let unlock = UnlockUserRequest { user_id: ann.user_id.clone(), actor: "admin:uid=0".into() };
    lab.services.admin.unlock_user(Request::new(unlock)).await.expect("unlocked");
    assert_eq!(checked(&lab, &ann, "t3", 1, hour).await.result(), SentCodeResult::Right);
    // The hundredth locks before it is looked at: where it is right and nobody is let in by it, that is told as well.
    lab.tamper(&format!(
        "UPDATE secret_states SET wrong = {}, locked_until_ms = 0 WHERE user_id = '{}' AND kind = 'sms'",
        lab.octets(&[0; 99 * 8]),
        bob.user_id
    ))
    .await;
    assert_eq!(checked(&lab, &bob, "b1", 1, later).await.result(), SentCodeResult::Right);
    let events = lab.events("user.locked").await;
    assert_eq!((events.len(), events[1].user_id.as_str()), (2, bob.user_id.as_str()));
    assert!(lab.mails().await.iter().any(|mail| mail.kind == "locked" && mail.user_id == bob.user_id));
    assert_eq!(allowed(&lab.services.commit, allow_by(&bob, "b1")).await, AllowResult::Committed, "it ends the lock");
    assert_eq!(lab.number("SELECT COUNT(*) FROM secret_states WHERE kind = 'sms' AND locked_until_ms < 0").await, 0);
}

pub async fn a_usual_place_types_codes_of_texts_while_they_are_paused_from_elsewhere(lab: Fixture) {
    // V-15
    let ann = lab.enrolled("ann").await;
    assert_eq!(allowed(&lab.services.commit, ann.allow("here", 101)).await, AllowResult::Committed);
    assert!(opened(&lab, open(&ann, "t1", 1, NOON_MS)).await.opened);
    let from = async |source: &str, digest| {
        let request = CheckSentCodeRequest {
            user_id: ann.user_id.clone(),
            transaction_id: "t1".into(),
            digest: vec![digest; 32],
            now_unix_ms: NOON_MS,
            source: source.into(),
        };
        lab.services.commit.check_sent_code(Request::new(request)).await.expect("the store answers").into_inner()
    };
    lab.tamper(&format!(
        "INSERT INTO secret_states (user_id, kind, required, must_change, set_ms, wrong, locked_until_ms) \
         VALUES ('{}', 'sms', {}, {}, 0, {}, {})",
        ann.user_id,
        false,
        false,
        lab.octets(&[0; 5 * 8]),
        NOON_MS + 30_000
    ))
    .await;
    assert_eq!(from("203.0.113.9", 1).await.result(), SentCodeResult::Locked);
    assert_eq!(from("10.0.4.3", 9).await.result(), SentCodeResult::Wrong, "the usual place");
    assert_eq!(from("10.0.4.3", 1).await.result(), SentCodeResult::Right);
}

pub async fn texts_to_one_prefix_and_in_all_have_an_end(lab: Fixture) {
    // V-18, FN-07
    let hour_ms = NOON_MS - NOON_MS.rem_euclid(3_600_000) + 3_600_000;
    for number in 0..4 {
        let who = lab.enrolled(&format!("user{number}")).await;
        let request = OpenSentCodeRequest { per_prefix_and_hour: 3, ..open(&who, &format!("t{number}"), 1, NOON_MS) };
        let reply = opened(&lab, request).await;
        let expected = if number < 3 { (true, 0) } else { (false, hour_ms) };
        assert_eq!((reply.opened, reply.retry_unix_ms), expected, "{number}");
    }
    let day_ms = NOON_MS - NOON_MS.rem_euclid(86_400_000) + 86_400_000;
    let who = lab.enrolled("late").await;
    let request =
        OpenSentCodeRequest { phone_prefix: "+3312".into(), messages_per_day: 3, ..open(&who, "late", 1, NOON_MS) };
    let reply = opened(&lab, request).await;
    assert_eq!((reply.opened, reply.retry_unix_ms), (false, day_ms));
}

pub async fn a_number_is_proven_by_its_own_code_and_then_the_users_own(lab: Fixture) {
    // FS-23, V-52, V-86
    let ann = lab.enrolled("ann").await;
    lab.mails().await;
    let proof = OpenSentCodeRequest {
        kind: "proof".into(),
        number: "+49 30 90-1820".into(),
        extension: "12".into(),
        ..open(&ann, "t1", 1, NOON_MS)
    };
    let unclear = OpenSentCodeRequest { number: "030 901820".into(), ..proof.clone() };
    let refused = lab.services.commit.open_sent_code(Request::new(unclear)).await.expect_err("no country");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(opened(&lab, proof).await.opened);
    assert_eq!(checked(&lab, &ann, "t1", 2, NOON_MS).await.number, "", "a wrong code tells nothing");
    let right = checked(&lab, &ann, "t1", 1, NOON_MS).await;
    assert_eq!(
        (right.result(), right.number.as_str(), right.extension.as_str()),
        (SentCodeResult::Right, "+4930901820", "12")
    );
    assert_eq!(allowed(&lab.services.commit, allow_by(&ann, "t1")).await, AllowResult::Refused, "it lets nobody in");
    let epoch = lab.login_user(&ann.user_id).await.epoch;
    let set = SetPhoneRequest {
        user_id: ann.user_id.clone(),
        number: right.number,
        extension: right.extension,
        backup: false,
        actor: "self".into(),
    };
    lab.services.commit.set_phone(Request::new(set.clone())).await.expect("set");
    let backup = SetPhoneRequest { number: "+4930901821".into(), backup: true, ..set };
    lab.services.commit.set_phone(Request::new(backup)).await.expect("set");
    // The directory says another number at the next run, and the user's own stays.
    let run_id = lab.begin().await.expect("begun");
    let moved = crate::fixture::with_phone(crate::fixture::person("ann"), "+49 40 1111111");
    lab.batch(&run_id, vec![moved]).await;
    let user = lab.login_user(&ann.user_id).await;
    assert_eq!((user.phone.as_str(), user.phone_extension.as_str()), ("+4930901820", "12"));
    assert_eq!((user.backup_phone.as_str(), user.epoch), ("+4930901821", epoch + 2));
    let events = lab.events("user.phone").await;
    assert_eq!(events[0].detail, "phone: …56 -> …20", "no more than two digits");
    let mails = lab.mails().await;
    assert!(mails.iter().all(|mail| mail.kind == "phone_changed" && mail.to == ["ann@mail.example"]));
    assert_eq!(mails.len(), 2);
}
