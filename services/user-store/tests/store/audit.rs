//! The chain (V-60 to V-62).

use crate::commit::allowed;
use crate::fixture::{Enrolled, Fixture};
use proto::user_store::{
    AllowResult, AuditCheckpoint, AuditEvent, ListAuditRequest, ListCheckpointsRequest, RecordRequest,
    VerifyAuditReply, VerifyAuditRequest, admin_server::Admin, commit_server::Commit,
};
use tonic::Request;

async fn verify(lab: &Fixture) -> VerifyAuditReply {
    lab.services.admin.verify_audit(Request::new(VerifyAuditRequest::default())).await.expect("walked").into_inner()
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

/// One event more.
async fn note(lab: &Fixture, who: &Enrolled, transaction: &str) {
    let event = AuditEvent { reason: "wrong_code".into(), ..who.event(transaction) };
    lab.services
        .commit
        .record(Request::new(RecordRequest { event: Some(event), ..Default::default() }))
        .await
        .expect("recorded");
}

async fn signed(lab: &Fixture) -> AuditCheckpoint {
    lab.store.checkpoint().await.expect("the store answers").expect("something came since")
}

pub async fn what_the_chain_alone_does_not_show_a_checkpoint_does(lab: Fixture) {
    // V-60: the end cut off, the chain written anew, a forged checkpoint; each taken back before the next
    let ann = lab.enrolled("ann").await;
    let mut kept = Vec::new();
    for round in 0..3 {
        for number in 0..4 {
            note(&lab, &ann, &format!("attempt-{round}-{number}")).await;
        }
        kept.push(signed(&lab).await);
    }
    let verify_with = async |checkpoints: &[AuditCheckpoint]| {
        let request = VerifyAuditRequest { checkpoints: checkpoints.to_vec() };
        lab.services.admin.verify_audit(Request::new(request)).await.expect("walked").into_inner()
    };
    let found = verify_with(&kept).await;
    assert_eq!((found.first_bad, found.checkpoints), (0, 6), "{}", found.text);
    assert_eq!(found.last_checkpoint.as_ref(), kept.last());
    let ends: Vec<u64> = kept.iter().map(|it| it.sequence).collect();
    let (middle, last) = (ends[1], ends[2]);
    let middle_hash = data_encoding::HEXLOWER.encode(&kept[1].hash);
    let blob = |hex: &str| match lab.section.url {
        user_store::StoreUrl::Sqlite(_) => format!("x'{hex}'"),
        user_store::StoreUrl::Postgres(_) => format!("'\\x{hex}'"),
    };

    // The end is cut off, and the end of the chain moved along: the chain is whole.
    let cut = format!(
        "CREATE TABLE gone AS SELECT * FROM audit WHERE sequence > {middle}; DELETE FROM audit WHERE sequence > {middle}; \
         CREATE TABLE head AS SELECT * FROM audit_head; UPDATE audit_head SET sequence = {middle}, hash = {}",
        blob(&middle_hash)
    );
    lab.tamper(&cut).await;
    let found = verify(&lab).await;
    assert_eq!(found.first_bad, middle + 1, "{}", found.text);
    assert!(found.text.starts_with(&format!("records {} to {last} are missing", middle + 1)), "{}", found.text);
    // With the store's own checkpoints gone too, those that were kept elsewhere tell.
    lab.tamper("CREATE TABLE own AS SELECT * FROM audit_checkpoints").await;
    lab.tamper(&format!("DELETE FROM audit_checkpoints WHERE sequence > {middle}")).await;
    assert_eq!(verify(&lab).await.first_bad, 0, "nothing is left that could tell");
    assert_eq!(verify_with(&kept).await.first_bad, middle + 1);
    lab.tamper(
        "INSERT INTO audit SELECT * FROM gone; DROP TABLE gone; DELETE FROM audit_checkpoints; \
         INSERT INTO audit_checkpoints SELECT * FROM own; DROP TABLE own; DELETE FROM audit_head; \
         INSERT INTO audit_head SELECT * FROM head; DROP TABLE head",
    )
    .await;
    assert_eq!(verify_with(&kept).await.first_bad, 0, "taken back");

    // A checkpoint that says what somebody would like.
    for (name, forged) in [
        ("another hash", AuditCheckpoint { hash: vec![7; 32], ..kept[1].clone() }),
        ("another record", AuditCheckpoint { sequence: middle + 1, ..kept[1].clone() }),
        ("another time", AuditCheckpoint { at_unix_ms: 1, ..kept[1].clone() }),
        ("another host", AuditCheckpoint { writer: "elsewhere".into(), ..kept[1].clone() }),
        ("no signature", AuditCheckpoint { signature: Vec::new(), ..kept[1].clone() }),
    ] {
        let found = verify_with(&[forged]).await;
        assert!(found.first_bad > 0 && found.text.contains("that was given"), "{name}: {}", found.text);
    }
    lab.tamper(&format!("UPDATE audit_checkpoints SET at_ms = 1 WHERE sequence = {middle}")).await;
    let found = verify(&lab).await;
    assert!(found.first_bad == middle && found.text.contains("of the store"), "{}", found.text);
    let back = format!("UPDATE audit_checkpoints SET at_ms = {} WHERE sequence = {middle}", kept[1].at_unix_ms);
    lab.tamper(&back).await;

    // Two records change places; one stands outside the chain.
    let swap = format!(
        "UPDATE audit SET sequence = -1 WHERE sequence = {middle}; \
        UPDATE audit SET sequence = {middle} WHERE sequence = {0}; UPDATE audit SET sequence = {0} WHERE sequence = -1",
        middle + 1
    );
    lab.tamper(&swap).await;
    assert_eq!(verify(&lab).await.first_bad, middle);
    lab.tamper(&swap).await;
    let columns = "at_ms, kind, client, protocol, user_id, username, client_ip, calling_station, result, reason, method, \
                   assurance, source, actor, detail, request, hash";
    for stray in [last + 1, last + 900] {
        lab.tamper(&format!(
            "INSERT INTO audit (sequence, transaction_id, final, {columns}) \
             SELECT {stray}, 'stray', FALSE, {columns} FROM audit WHERE sequence = {last}"
        ))
        .await;
        let found = verify(&lab).await;
        assert_eq!(found.first_bad, last + 1, "{}", found.text);
        lab.tamper(&format!("DELETE FROM audit WHERE sequence = {stray}")).await;
    }
    assert_eq!(verify(&lab).await.first_bad, 0, "taken back");

    // Somebody who knows how the chain is made writes all of it anew: here as another store does, whose chain is whole.
    lab.tamper("DELETE FROM audit; DELETE FROM audit_checkpoints").await;
    lab.tamper(&format!("UPDATE audit_head SET sequence = 0, hash = {}", blob(&"00".repeat(32)))).await;
    for number in 0..last + 3 {
        note(&lab, &ann, &format!("anew-{number}")).await;
    }
    assert_eq!(verify(&lab).await.first_bad, 0, "the chain itself is whole");
    let found = verify_with(&kept).await;
    assert_eq!(found.first_bad, 1, "{}", found.text);
    assert!(found.text.contains("the chain was written anew"), "{}", found.text);
}

pub async fn a_checkpoint_is_made_when_something_came_and_by_the_last_stop(lab: Fixture) {
    // V-60
    let ann = lab.enrolled("ann").await;
    let first = signed(&lab).await;
    assert_eq!(lab.store.checkpoint().await.expect("the store answers"), None, "nothing came since");
    note(&lab, &ann, "one more").await;
    lab.store.close().await;
    let again = crate::fixture::open(&lab.section).await.expect("the store opens");
    let request = ListCheckpointsRequest { after: first.sequence, limit: 0 };
    let listed = again.services().admin.list_checkpoints(Request::new(request)).await.expect("listed").into_inner();
    assert_eq!(listed.checkpoints.iter().map(|it| it.sequence).collect::<Vec<_>>(), [first.sequence + 1]);
    let request = VerifyAuditRequest { checkpoints: vec![first] };
    let found = again.services().admin.verify_audit(Request::new(request)).await.expect("walked").into_inner();
    assert_eq!((found.first_bad, found.checkpoints), (0, 3), "the key is the same after a start: {}", found.text);
}

pub async fn the_service_itself_can_neither_change_nor_delete_an_event(lab: Fixture) {
    // V-62
    lab.enrolled("ann").await;
    lab.store.checkpoint().await.expect("signed").expect("there are events");
    for statement in [
        "UPDATE audit SET reason = 'x'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE sequence = 1",
        "UPDATE audit_checkpoints SET sequence = 1",
        "DELETE FROM audit_checkpoints",
    ] {
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
    // FD-37: by the label that the user has now
    lab.tamper("UPDATE users SET user_group = 'Sales' WHERE username = 'ann'").await;
    let of_label = |label: &str| ListAuditRequest {
        kind: "authentication".into(),
        user_group: label.into(),
        newest: true,
        ..ListAuditRequest::default()
    };
    let attempts = list(of_label("Sales")).await.events.into_iter().map(|event| event.transaction_id);
    assert_eq!(attempts.collect::<Vec<_>>(), ["attempt-0", "attempt-2"]);
    assert!(list(of_label("Law")).await.events.is_empty());
    // What a person reads out. A new second factor says who made it, too.
    let id: domain::TransactionId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().expect("an id");
    let event = AuditEvent { reason: "wrong_code".into(), ..ann.event(&id.to_string()) };
    let record = RecordRequest { event: Some(event), ..RecordRequest::default() };
    lab.services.commit.record(Request::new(record)).await.expect("recorded");
    for (reference, found) in [(id.short(), 1), (id.short().to_lowercase(), 1), ("0000-0000".into(), 0)] {
        let read_out = ListAuditRequest { transaction_id: reference.clone(), ..ListAuditRequest::default() };
        let events = list(read_out).await.events;
        assert_eq!(events.len(), found, "{reference}");
        assert!(events.iter().all(|event| event.transaction_id == id.to_string()), "{reference}");
    }
    assert_eq!(lab.events("factor.added").await[0].actor, "admin:uid=0");
    let newest = list(ListAuditRequest { newest: true, limit: 2, ..ListAuditRequest::default() }).await;
    let names: Vec<&str> = newest.events.iter().map(|event| event.transaction_id.as_str()).collect();
    assert_eq!(names, ["attempt-2", &id.to_string()]);
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
