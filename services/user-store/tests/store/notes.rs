//! Small facts that survive, mail that waits, and what gateways may write.

use crate::commit::allowed;
use crate::fixture::{Enrolled, Fixture, NOON_MS};
use proto::common::Secret;
use proto::user_store::{
    AllowResult, AuditEvent, DoneMailRequest, FetchRequest, GetSealedRequest, ListAuditRequest, ListSeedsRequest, Mail,
    NoteMessageReply, NoteMessageRequest, PutMailRequest, PutSealedRequest, RecordRequest, ResyncFactorRequest,
    SeeOnceRequest, TakeMailRequest, admin_server::Admin, commit_server::Commit, fail_open_server::FailOpen,
    outbox_server::Outbox, settings_server::Settings,
};
use tonic::Request;

pub async fn what_is_seen_is_new_to_one_caller_alone_until_it_is_forgotten(lab: Fixture) {
    let see = async |id: &str, expires_unix_ms: i64| {
        let request = SeeOnceRequest { scope: "webhook".into(), id: id.into(), expires_unix_ms, forget: false };
        lab.services.commit.see_once(Request::new(request)).await.expect("the store answers").into_inner().first
    };
    let copies = futures::future::join_all((0..50).map(|_| see("1", NOON_MS + 1_000))).await;
    assert_eq!(copies.into_iter().filter(|first| *first).count(), 1);
    assert!(see("2", NOON_MS + 1_000).await);
    lab.clock.advance(999);
    assert!(!see("1", NOON_MS + 2_000).await);
    lab.clock.advance(1);
    assert!(see("1", NOON_MS + 2_000).await, "its time is over");
    assert!(!see("1", NOON_MS + 2_000).await);
    let forget = SeeOnceRequest { scope: "webhook".into(), id: "1".into(), forget: true, ..SeeOnceRequest::default() };
    let forgotten = lab.services.commit.see_once(Request::new(forget)).await.expect("the store answers");
    assert!(!forgotten.into_inner().first);
    assert!(see("1", NOON_MS + 2_000).await, "nobody worked on it");
}

pub async fn a_key_that_nodes_make_at_once_is_one_key(lab: Fixture) {
    // What signs the audit is nobody's but the store's.
    let own = GetSealedRequest { name: "store.audit_checkpoints".into() };
    let refused = lab.services.commit.get_sealed(Request::new(own)).await.expect_err("the store's own");
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    let put = async |value: u8| {
        let request = PutSealedRequest { name: "vapid".into(), value: Some(Secret { value: vec![value; 32] }) };
        lab.services.commit.put_sealed(Request::new(request)).await.expect("the store answers").into_inner().value
    };
    let get = async || {
        let request = GetSealedRequest { name: "vapid".into() };
        lab.services.commit.get_sealed(Request::new(request)).await.expect("the store answers").into_inner().value
    };
    assert_eq!(get().await, None);
    let kept = futures::future::join_all((0..8).map(put)).await;
    assert!(kept.iter().all(|value| value.is_some() && *value == kept[0]));
    assert_eq!(get().await, kept[0]);
}

pub async fn a_receipt_finds_its_message_and_never_says_less_than_is_known(lab: Fixture) {
    // FN-07: receipts twice, late, in any order
    let note = async |message: &str, provider_id: &str, state: &str| {
        let request = NoteMessageRequest {
            message_id: message.into(),
            channel: "sms".into(),
            provider: "carrier".into(),
            provider_id: provider_id.into(),
            user_id: if message.is_empty() { String::new() } else { "ann".into() },
            transaction_id: if message.is_empty() { String::new() } else { "t1".into() },
            destination: "…20".into(),
            state: state.into(),
            ..NoteMessageRequest::default()
        };
        lab.services.commit.note_message(Request::new(request)).await.expect("the store answers").into_inner()
    };
    assert_eq!(note("", "unknown", "delivered").await, NoteMessageReply::default());
    note("m1", "", "accepted").await;
    // The provider's name for it comes after it.
    note("m1", "p1", "accepted").await;
    assert_eq!(note("", "p1", "delivered").await.message_id, "", "nothing was said that was not known");
    note("m2", "p2", "accepted").await;
    for (state, _) in [("undelivered", 1), ("delivered", 2), ("accepted", 2), ("expired", 2), ("delivered", 2)] {
        let found = note("", "p2", state).await;
        assert_eq!((found.message_id.as_str(), found.user_id.as_str()), ("m2", "ann"), "{state}");
    }
    let refused = lab.as_the_service(
        "INSERT INTO seen (scope, id, expires_ms) SELECT 'm', state, 1 FROM messages WHERE message_id = 'm2'",
    );
    refused.await.expect("noted");
}

pub async fn a_mail_goes_out_once_and_is_tried_again_within_its_time(lab: Fixture) {
    // FN-01
    let mail = |kind: &str, expires_unix_ms: i64| Mail {
        kind: kind.into(),
        to: vec!["ann@mail.example".into()],
        variables: [("link".to_owned(), "https://x/CANARY-link".to_owned())].into(),
        expires_unix_ms,
        ..Mail::default()
    };
    let put = async |mail: Mail, once_key: &str| {
        let request = PutMailRequest { mail: Some(mail), once_key: once_key.into(), now_unix_ms: NOON_MS };
        lab.services.outbox.put(Request::new(request)).await.expect("kept");
    };
    let take = async |now_unix_ms: i64| {
        let request = TakeMailRequest { limit: 10, lease_seconds: 60, now_unix_ms };
        lab.services.outbox.take(Request::new(request)).await.expect("the store answers").into_inner().mails
    };
    let done = async |mail_id: &str, sent: bool, retry_unix_ms: i64, now_unix_ms: i64| {
        let request =
            DoneMailRequest { mail_id: mail_id.into(), sent, retry_unix_ms, error: "451".into(), now_unix_ms };
        lab.services.outbox.done(Request::new(request)).await.expect("noted");
    };
    for _ in 0..3 {
        put(mail("invitation", NOON_MS + 3_600_000), "once").await;
    }
    put(mail("blocked", 0), "").await;
    let takers = futures::future::join_all((0..20).map(|_| take(NOON_MS))).await;
    let mut taken: Vec<Mail> = takers.into_iter().flatten().collect();
    taken.sort_by(|one, other| one.kind.cmp(&other.kind));
    let kinds: Vec<&str> = taken.iter().map(|mail| mail.kind.as_str()).collect();
    assert_eq!(kinds, ["blocked", "invitation"], "each leased once");
    assert_eq!((taken[1].tries, taken[1].variables["link"].as_str()), (1, "https://x/CANARY-link"));
    assert_eq!(take(NOON_MS + 59_999).await, [], "the lease holds");
    done(&taken[0].mail_id, true, 0, NOON_MS).await;
    done(&taken[1].mail_id, false, NOON_MS + 600_000, NOON_MS).await;
    assert_eq!(take(NOON_MS + 599_999).await, []);
    let again = take(NOON_MS + 600_000).await;
    assert_eq!((again.len(), again[0].tries), (1, 2));
    // Never past the life of its link.
    done(&again[0].mail_id, false, NOON_MS + 3_600_000, NOON_MS + 600_000).await;
    assert_eq!(take(NOON_MS + 3_500_000).await, []);
    put(mail("invitation", NOON_MS + 3_600_000), "once").await;
    assert_eq!(take(NOON_MS + 3_500_000).await, [], "it was given up, and is the same mail");
    lab.tamper("DELETE FROM audit WHERE sequence = -1").await;
    let dump = lab.dump().await;
    assert!(!dump.windows(11).any(|window| window == b"CANARY-link"));
}

pub async fn a_mail_that_does_not_open_is_given_up_and_holds_up_no_other(lab: Fixture) {
    let put = async |kind: &str, now_unix_ms| {
        let mail = Some(Mail { kind: kind.into(), to: vec!["ann@mail.example".into()], ..Mail::default() });
        let request = PutMailRequest { mail, once_key: String::new(), now_unix_ms };
        lab.services.outbox.put(Request::new(request)).await.expect("kept");
    };
    for (number, kind) in ["broken", "no_mail", "unknown_key", "good"].into_iter().enumerate() {
        put(kind, NOON_MS + number as i64).await;
    }
    // Altered; moved from another mail; of a data key that nobody here has read yet.
    let sealed = |kind: &str| format!("(SELECT o.sealed FROM outbox o WHERE o.kind = '{kind}')");
    let unknown = lab.octets(&[&[1, 0, 0, 0, 99][..], &[7; 40]].concat());
    for statement in [
        format!("UPDATE outbox SET sealed = {} WHERE kind = 'broken'", sealed("good")),
        format!("UPDATE outbox SET sealed = {} WHERE kind = 'no_mail'", lab.octets(&[0; 40])),
        format!("UPDATE outbox SET sealed = {unknown} WHERE kind = 'unknown_key'"),
    ] {
        lab.tamper(&statement).await;
    }
    let taken = lab.mails().await;
    let kinds: Vec<&str> = taken.iter().map(|mail| mail.kind.as_str()).collect();
    assert_eq!(kinds, ["good"]);
    assert_eq!(lab.number("SELECT COUNT(*) FROM outbox WHERE state = 'failed'").await, 2);
    assert_eq!(lab.number("SELECT COUNT(*) FROM outbox WHERE state = 'waiting' AND kind = 'unknown_key'").await, 1);
}

pub async fn a_gateway_tells_of_logins_it_let_in_and_of_nothing_else(lab: Fixture) {
    // V-40, V-72
    let ann = lab.enrolled("ann").await;
    let event = AuditEvent {
        method: String::new(),
        assurance: "none".into(),
        result: "bypass".into(),
        reason: "fail_open".into(),
        source: "fail_open".into(),
        ..ann.event("t1")
    };
    let record = |event: AuditEvent| told(&lab, event, false);
    for (name, other) in [
        ("another reason", AuditEvent { reason: "exempt".into(), ..event.clone() }),
        ("another source", AuditEvent { source: "live".into(), ..event.clone() }),
        ("a success", AuditEvent { result: "success".into(), ..event.clone() }),
        ("another kind", AuditEvent { kind: "user.changed".into(), ..event.clone() }),
        ("an actor", AuditEvent { actor: "admin:uid=0".into(), ..event.clone() }),
        ("a method", AuditEvent { method: "code".into(), ..event.clone() }),
        ("no attempt", AuditEvent { transaction_id: String::new(), ..event.clone() }),
    ] {
        let refused = record(other).await.expect_err(name);
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{name}");
    }
    lab.mails().await;
    // A gateway's spool was heard two days later.
    lab.clock.advance(2 * 24 * 3_600_000);
    for _ in 0..3 {
        record(event.clone()).await.expect("recorded");
    }
    told(&lab, event.clone(), true).await.expect("recorded");
    assert_eq!(lab.events("authentication").await.len(), 1, "sent again from a spool it is the same");
    // FV-27
    let mails = lab.mails().await;
    let said = |mail: &Mail, name: &str| mail.variables[name].clone();
    let told: Vec<_> =
        mails.iter().map(|it| (it.kind.as_str(), it.to.len(), said(it, "username"), said(it, "time"))).collect();
    assert_eq!(told, [("fail_open", 0, "ann".to_owned(), "2026-11-20T12:00:00Z".to_owned())]);
}

pub async fn an_outage_is_told_once_in_ten_minutes_a_client(lab: Fixture) {
    // V-40, FV-27: however many are let in, in one commit or in many
    const MINUTE_MS: i64 = 60_000;
    let ann = lab.enrolled("ann").await;
    lab.mails().await;
    let start_ms = NOON_MS - NOON_MS.rem_euclid(10 * MINUTE_MS);
    let passes = (0..60).map(|number| {
        let client = if number % 3 == 0 { "mail" } else { "vpn" };
        let at_unix_ms = start_ms + number % 10 * MINUTE_MS;
        AuditEvent { client: client.into(), at_unix_ms, ..passed(&ann, &format!("t{number}")) }
    });
    let all = futures::future::join_all(passes.map(|event| told(&lab, event, false))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(lab.events("authentication").await.len(), 60, "the audit has everybody");
    let applications = async || {
        let mails = lab.mails().await;
        let mut told: Vec<String> = mails.into_iter().map(|mail| mail.variables["application"].clone()).collect();
        told.sort();
        told
    };
    assert_eq!(applications().await, ["mail", "vpn"]);
    let next = AuditEvent { at_unix_ms: start_ms + 10 * MINUTE_MS, ..passed(&ann, "later") };
    told(&lab, next, false).await.expect("recorded");
    assert_eq!(applications().await, ["vpn"]);
}

pub async fn told(lab: &Fixture, event: AuditEvent, let_in_before: bool) -> Result<(), tonic::Status> {
    let request = RecordRequest { event: Some(event), let_in_before };
    lab.services.fail_open.record(Request::new(request)).await.map(drop)
}

/// What a gateway tells of a login it let in.
pub fn passed(who: &Enrolled, transaction: &str) -> AuditEvent {
    AuditEvent {
        user_id: String::new(),
        method: String::new(),
        assurance: "none".into(),
        result: "bypass".into(),
        reason: "fail_open".into(),
        source: "fail_open".into(),
        ..who.event(transaction)
    }
}

pub async fn a_gateway_lets_nobody_in_whose_attempt_ended_otherwise(lab: Fixture) {
    // V-40, V-61: verification said no, its answer was lost, and it was gone when the gateway asked again
    let ann = lab.enrolled("ann").await;
    let denied = AuditEvent { result: "denied".into(), reason: "blocked".into(), ..ann.event("t1") };
    let denied = RecordRequest { event: Some(denied), ..RecordRequest::default() };
    lab.services.commit.record(Request::new(denied.clone())).await.expect("recorded");
    let passed = |transaction: &str| passed(&ann, transaction);
    let refused = told(&lab, passed("t1"), false).await.expect_err("the attempt has its last word");
    assert_eq!(refused.code(), tonic::Code::AlreadyExists);
    assert_eq!(lab.events("authentication").await.len(), 1);
    assert_eq!(allowed(&lab.services.commit, ann.allow("t2", 101)).await, AllowResult::Committed);
    told(&lab, passed("t2"), false).await.expect_err("of an Allow neither: it is another login's answer");
    // From the spool: the person is in, and the audit says so, once, beside the last word.
    for _ in 0..3 {
        told(&lab, passed("t1"), true).await.expect("recorded");
    }
    lab.services.commit.record(Request::new(denied)).await.expect("the first word stands");
    let of_attempt = ListAuditRequest { transaction_id: "t1".into(), ..ListAuditRequest::default() };
    let events = lab.services.admin.list_audit(Request::new(of_attempt)).await.expect("listed").into_inner().events;
    let reasons: Vec<&str> = events.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(reasons, ["blocked", "fail_open"]);
    lab.assert_chain_is_whole().await;
}

pub async fn a_token_is_put_right_and_never_set_back(lab: Fixture) {
    // V-12, V-13
    let ann = lab.enrolled("ann").await;
    let resync = async |step: u64, drift: i32| {
        let request = ResyncFactorRequest {
            user_id: ann.user_id.clone(),
            factor_id: ann.factor_id.clone(),
            step,
            drift,
            actor: "self".into(),
            now_unix_ms: NOON_MS,
        };
        lab.services.commit.resync_factor(Request::new(request)).await.expect("the store answers").into_inner().done
    };
    assert!(!resync(100, 5).await, "that step is spent");
    assert!(resync(150, 50).await);
    assert!(!resync(149, 0).await);
    let factor = lab.facts(&ann.user_id).await.code_factors.remove(0);
    assert_eq!((factor.last_step, factor.drift, factor.next_counter), (150, 50, 151));
    assert_eq!(lab.events("factor.resynced").await.len(), 1);
    // Tokens of the stock are found page by page.
    for serial in ["A1", "B2", "C3"] {
        lab.tamper(&format!(
            "UPDATE factors SET serial = '{serial}', serial_key = '{serial}' WHERE factor_id = '{}'",
            lab.add_token_of(&ann.user_id).await
        ))
        .await;
    }
    let list = async |after: &str| {
        let request = ListSeedsRequest { after: after.into(), limit: 2 };
        lab.services.commit.list_seeds(Request::new(request)).await.expect("the store answers").into_inner()
    };
    let first = list("").await;
    let serials: Vec<&str> = first.tokens.iter().map(|token| token.serial.as_str()).collect();
    assert_eq!((serials.as_slice(), first.next.as_str()), (["A1", "B2"].as_slice(), "B2"));
    let second = list(&first.next).await;
    assert_eq!((second.tokens.len(), second.next.as_str()), (1, ""));
    assert_eq!(second.tokens[0].seed.as_ref().expect("its seed").value, crate::fixture::SEED);
}

pub async fn the_settings_come_with_the_stores_time_of_now(lab: Fixture) {
    // V-43: not that of the reply that is kept
    for _ in 0..2 {
        let reply = lab.services.settings.fetch(Request::new(FetchRequest::default())).await.expect("the settings");
        assert_eq!(reply.into_inner().now_unix_ms, lab.clock.now_ms());
        lab.clock.advance(1_234);
    }
}
