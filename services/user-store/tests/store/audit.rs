//! The chain (V-60 to V-62).

use crate::commit::allowed;
use crate::fixture::{Enrolled, Fixture};
use proto::user_store::{
    AllowResult, AuditEvent, ListAuditRequest, RecordRequest, VerifyAuditReply, VerifyAuditRequest,
    admin_server::Admin, commit_server::Commit,
};
use tonic::Request;

async fn verify(lab: &Fixture) -> VerifyAuditReply {
    lab.services.admin.verify_audit(Request::new(VerifyAuditRequest {})).await.expect("walked").into_inner()
}

/// A chain of more than one page; the sequence of its last record.
async fn long_chain(lab: &Fixture) -> (Enrolled, u64) {
    let ann = lab.enrolled("ann").await;
    let commits = (0..1100).map(|number| {
        let event = AuditEvent { reason: "wrong_code".into(), ..ann.event(&format!("attempt-{number}")) };
        lab.services.commit.record(Request::new(RecordRequest { event: Some(event), ..RecordRequest::default() }))
    });
    for outcome in futures::future::join_all(commits).await {
        outcome.expect("recorded");
    }
    let whole = verify(lab).await;
    assert_eq!(whole.first_bad, 0, "{}", whole.text);
    assert!(whole.verified > 1100);
    (ann, whole.verified)
}

pub async fn an_altered_deleted_or_inserted_event_is_named(lab: Fixture) {
    // V-60, at storage level, triggers dropped; each change is taken back before the next
    let (_, last) = long_chain(&lab).await;
    let columns = "at_ms, kind, transaction_id, client, protocol, user_id, username, client_ip, calling_station, result, reason, \
                   method, assurance, source, actor, detail, final, request, hash";
    for (change, back, first_bad) in [
        (
            "UPDATE audit SET reason = 'valid_code' WHERE sequence = 1050".to_owned(),
            "UPDATE audit SET reason = 'wrong_code' WHERE sequence = 1050".to_owned(),
            1050,
        ),
        (
            "UPDATE audit SET username = 'bob' WHERE sequence = 7".to_owned(),
            "UPDATE audit SET username = 'ann' WHERE sequence = 7".to_owned(),
            7,
        ),
        (
            "CREATE TABLE gone AS SELECT * FROM audit WHERE sequence = 500; DELETE FROM audit WHERE sequence = 500"
                .to_owned(),
            format!("INSERT INTO audit (sequence, {columns}) SELECT sequence, {columns} FROM gone; DROP TABLE gone"),
            500,
        ),
        (
            format!("UPDATE audit_head SET sequence = {}", last + 1),
            format!("UPDATE audit_head SET sequence = {last}"),
            last + 1,
        ),
        (
            format!(
                "CREATE TABLE gone AS SELECT * FROM audit WHERE sequence = {last}; DELETE FROM audit WHERE sequence = {last}"
            ),
            format!("INSERT INTO audit (sequence, {columns}) SELECT sequence, {columns} FROM gone; DROP TABLE gone"),
            last,
        ),
    ] {
        lab.tamper(&change).await;
        let found = verify(&lab).await;
        assert_eq!((found.first_bad, found.verified), (first_bad, first_bad - 1), "{change}: {}", found.text);
        lab.tamper(&back).await;
        assert_eq!(verify(&lab).await.first_bad, 0, "{back}");
    }
    // One slipped in at the end, chain's end and all but the hash in order.
    let insert = format!(
        "INSERT INTO audit (sequence, {columns}) SELECT sequence + 1, at_ms, kind, 'forged', {} FROM audit WHERE sequence = {last}; \
         UPDATE audit_head SET sequence = {}",
        columns.trim_start_matches("at_ms, kind, transaction_id, "),
        last + 1
    );
    lab.tamper(&insert).await;
    assert_eq!(verify(&lab).await.first_bad, last + 1);
}

pub async fn the_service_itself_can_neither_change_nor_delete_an_event(lab: Fixture) {
    // V-62
    lab.enrolled("ann").await;
    for statement in ["UPDATE audit SET reason = 'x'", "DELETE FROM audit", "DELETE FROM audit WHERE sequence = 1"] {
        let refused = lab.as_the_service(statement).await.expect_err(statement);
        assert!(refused.to_string().contains("append-only"), "{statement}: {refused}");
    }
    lab.assert_chain_is_whole().await;
}

pub async fn events_are_listed_by_attempt_user_client_and_kind(lab: Fixture) {
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    for (number, who) in [&ann, &bob, &ann].into_iter().enumerate() {
        let asked = who.allow(&format!("attempt-{number}"), 101 + number as u64);
        assert_eq!(allowed(&lab.services.commit, asked).await, AllowResult::Committed);
    }
    let list = async |request: ListAuditRequest| {
        lab.services.admin.list_audit(Request::new(request)).await.expect("listed").into_inner()
    };
    let of_ann = ListAuditRequest {
        kind: "authentication".into(),
        user_id: ann.user_id.clone(),
        client: "vpn".into(),
        ..ListAuditRequest::default()
    };
    assert_eq!(list(of_ann).await.events.len(), 2);
    let one = ListAuditRequest { transaction_id: "attempt-1".into(), ..ListAuditRequest::default() };
    assert_eq!(list(one).await.events[0].user_id, bob.user_id);
    let newest = list(ListAuditRequest { newest: true, limit: 2, ..ListAuditRequest::default() }).await;
    let names: Vec<&str> = newest.events.iter().map(|event| event.transaction_id.as_str()).collect();
    assert_eq!(names, ["attempt-1", "attempt-2"]);
    let after = list(ListAuditRequest { after: newest.last - 1, ..ListAuditRequest::default() }).await;
    assert_eq!((after.events.len(), after.last), (1, newest.last));
    let end = list(ListAuditRequest { after: newest.last, ..ListAuditRequest::default() }).await;
    assert_eq!((end.events.len(), end.last), (0, newest.last));
}

pub async fn hostile_text_in_an_event_is_stored_escaped(lab: Fixture) {
    // V-61, B-21
    let ann = lab.enrolled("ann").await;
    for (number, (hostile, shown)) in [
        ("ann\r\n\u{0}root", "ann\\u{d}\\u{a}\\u{0}root"),
        ("\u{1b}[2J", "\\u{1b}[2J"),
        ("');DROP TABLE audit;--", "');DROP TABLE audit;--"),
        ("<script>", "<script>"),
    ]
    .into_iter()
    .enumerate()
    {
        let event = AuditEvent { username: hostile.into(), ..ann.event(&format!("hostile-{number}")) };
        let request = RecordRequest { event: Some(event), ..RecordRequest::default() };
        lab.services.commit.record(Request::new(request)).await.expect("recorded");
        assert_eq!(lab.events("authentication").await[number].username, shown);
    }
    lab.assert_chain_is_whole().await;
}
