//! What the sync leader writes: runs, users, who leaves and who waits (S-01, S-40 to S-46, S-60, FS-06 to FS-26).

use crate::fixture::{Fixture, SETTINGS, id_of, left, people, person, with_phone};
use crate::sync_groups::{group, listed};
use proto::common::Secret;
use proto::user_store::{
    AnnounceRequest, ApplyBatchReply, ApplyBatchRequest, ApplySettingsRequest, BeginRunRequest, DecideApprovalRequest,
    FinishRunReply, FinishRunRequest, ListApprovalUsersRequest, ListPendingRequest, SetPhoneRequest,
    SetUserStateRequest, SyncChangesRequest, SyncStatusReply, SyncStatusRequest, SyncedUser, admin_server::Admin,
    commit_server::Commit, left_object::How, pending::What, portal_data_server::PortalData, sync_server::Sync,
};
use service_kit::bus::Bus;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Request};

pub const MINUTE_MS: i64 = 60_000;

pub async fn status(lab: &Fixture) -> SyncStatusReply {
    lab.services.admin.sync_status(Request::new(SyncStatusRequest {})).await.expect("listed").into_inner()
}

/// The settings of the fixture with other items.
pub fn with_items(items: &[&str]) -> String {
    let directory = SETTINGS.split("[[sync_item]]").next().expect("before the item").to_owned();
    let item = |text: &&str| {
        let (name, rest) = text.split_once(' ').unwrap_or((text, "source = { kind = \"domain\" }"));
        format!("[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\n{}\n", rest.replace("; ", "\n"))
    };
    directory + &items.iter().map(item).collect::<String>()
}

/// Somebody who falls under these items.
pub fn of_items(username: &str, items: &[&str]) -> SyncedUser {
    SyncedUser { items: items.iter().map(|item| (*item).into()).collect(), ..person(username) }
}

pub async fn a_leader_that_was_overtaken_writes_nothing(lab: Fixture) {
    // S-60
    lab.with_settings().await;
    let old = lab.epoch();
    let run_id = lab.begin().await.expect("begun");
    lab.batch(&run_id, people(3)).await;
    let new = lab.lead().await;
    assert!(new > old);
    let sync = &lab.services.sync;
    let batch =
        ApplyBatchRequest { epoch: old, run_id: run_id.clone(), users: vec![person("late")], ..Default::default() };
    assert_eq!(
        sync.apply_batch(Request::new(batch.clone())).await.expect_err("fenced").code(),
        Code::FailedPrecondition
    );
    let finish = FinishRunRequest { epoch: old, run_id: run_id.clone(), complete: true, ..Default::default() };
    assert_eq!(sync.finish_run(Request::new(finish)).await.expect_err("fenced").code(), Code::FailedPrecondition);
    for epoch in [old, 0, new + 1] {
        let begin =
            BeginRunRequest { epoch, directory: "corp".into(), mode: "full".into(), ..BeginRunRequest::default() };
        assert_eq!(sync.begin_run(Request::new(begin)).await.expect_err("fenced").code(), Code::FailedPrecondition);
    }
    // The run of before is abandoned: even the new leader cannot end it.
    let finish = FinishRunRequest { epoch: new, run_id: run_id.clone(), complete: true, ..Default::default() };
    assert_eq!(sync.finish_run(Request::new(finish)).await.expect_err("abandoned").code(), Code::FailedPrecondition);
    let continued = ApplyBatchRequest { epoch: new, ..batch };
    assert_eq!(
        sync.apply_batch(Request::new(continued)).await.expect_err("abandoned").code(),
        Code::FailedPrecondition
    );
    assert_eq!(lab.user("late").await.expect_err("not written").code(), Code::NotFound);
    let status = status(&lab).await;
    assert_eq!((status.epoch, status.leader.as_str(), status.runs[0].state.as_str()), (new, "test", "abandoned"));
}

pub async fn a_run_ends_the_one_of_its_directory_before_and_no_other(lab: Fixture) {
    lab.apply(&(with_items(&["people"]) + &with_items(&["others"]).replace("\"corp\"", "\"lab\""))).await;
    lab.lead().await;
    let begin = async |directory: &str| {
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: directory.into(),
            mode: "full".into(),
            ..BeginRunRequest::default()
        };
        lab.services.sync.begin_run(Request::new(request)).await.map(|reply| reply.into_inner().run_id)
    };
    let (first, other) = (begin("corp").await.expect("begun"), begin("lab").await.expect("begun"));
    let second = begin("corp").await.expect("begun");
    let state = async |run_id: &str| {
        let status = status(&lab).await;
        status.runs.into_iter().find(|run| run.run_id == run_id).expect("listed").state
    };
    assert_eq!(state(&first).await, "abandoned");
    assert_eq!((state(&second).await.as_str(), state(&other).await.as_str()), ("running", "running"));
    assert_eq!(begin("none").await.expect_err("no items").code(), Code::NotFound);
    let bad =
        BeginRunRequest { epoch: lab.epoch(), directory: "corp".into(), mode: "half".into(), ..Default::default() };
    let refused = lab.services.sync.begin_run(Request::new(bad)).await.expect_err("no mode");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

pub async fn a_batch_applied_again_changes_nothing(lab: Fixture) {
    // S-01
    lab.with_settings().await;
    let run_id = lab.begin().await.expect("begun");
    let first = lab.batch(&run_id, people(300)).await;
    assert_eq!((first.added, first.changed, first.unchanged, first.problems.len()), (300, 0, 0, 0));
    let revision = lab.user("user007").await.expect("there").revision;
    let again = lab.batch(&run_id, people(300)).await;
    assert_eq!((again.added, again.changed, again.unchanged), (0, 0, 0));
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default());
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default(), "the answer was lost and is given again");
    let run_id = lab.begin().await.expect("begun");
    let mut renamed = people(300);
    renamed[7] = SyncedUser { username: "seven".into(), ..with_phone(renamed[7].clone(), "+49 40 777777") };
    let next = lab.batch(&run_id, renamed).await;
    assert_eq!((next.added, next.changed, next.unchanged), (0, 1, 299));
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default());
    let seven = lab.user("seven").await.expect("renamed");
    assert_eq!((seven.phone.as_str(), seven.revision), ("+4940777777", revision + 1));
    assert_eq!(seven.subject.expect("set").object_id, id_of("user007"), "a rename keeps the id");
    let event = &lab.events("user.changed").await[0];
    assert_eq!(event.detail, "username: \"user007\" -> \"seven\", phone: …56 -> …77");
    let run = &status(&lab).await.runs[0];
    assert_eq!((run.state.as_str(), run.changed, run.unchanged), ("done", 1, 299));
    assert_eq!(run.items.iter().map(|it| (it.sync_item.as_str(), it.users)).collect::<Vec<_>>(), [("people", 300)]);
}

pub async fn another_phone_or_mail_is_told_to_the_address_before_and_stands_masked_in_the_audit(lab: Fixture) {
    // S-58
    let ann = lab.enrolled("ann").await;
    lab.mails().await;
    let before = person("ann");
    let sync = async |user: SyncedUser| {
        let run_id = lab.begin().await.expect("begun");
        lab.batch(&run_id, vec![user]).await;
        let mails = lab.mails().await;
        mails.into_iter().map(|mail| (mail.kind, mail.to.join(","))).collect::<Vec<_>>()
    };
    let told = |kind: &str, to: &str| (kind.to_owned(), to.to_owned());
    // Written in another way it is the same number.
    let epoch = lab.login_user(&ann.user_id).await.epoch;
    assert_eq!(sync(with_phone(before.clone(), "+49-30-123456")).await, []);
    assert_eq!(lab.login_user(&ann.user_id).await.epoch, epoch, "and ends nothing that is remembered");
    let phone = with_phone(before.clone(), "+49 40 765498");
    assert_eq!(sync(phone.clone()).await, [told("phone_changed", "ann@mail.example")]);
    let both = SyncedUser { mail: "eve@mail.example".into(), ..with_phone(before, "+49 40 765411") };
    let mails = sync(both.clone()).await;
    assert_eq!(mails, [told("phone_changed", "ann@mail.example"), told("updated", "ann@mail.example")]);
    let details: Vec<String> = lab.events("user.changed").await.into_iter().map(|event| event.detail).collect();
    assert_eq!(details, ["phone: …56 -> …98", "mail: \"ann@mail.example\" -> \"eve@mail.example\", phone: …98 -> …11"]);
    assert!(!details.iter().any(|detail| detail.contains("7654") || detail.contains("1234")), "{details:?}");
    // A number of the user's own is the one that is used.
    let own = SetPhoneRequest {
        user_id: ann.user_id.clone(),
        number: "+4930901820".into(),
        actor: "self".into(),
        ..Default::default()
    };
    lab.services.commit.set_phone(Request::new(own)).await.expect("set");
    lab.mails().await;
    assert_eq!(sync(with_phone(both, "+49 40 555555")).await, []);
}

pub async fn a_number_that_sync_changed_is_held_back_for_its_hours(lab: Fixture) {
    // S-58
    let ann = lab.enrolled("ann").await;
    lab.apply(&format!("[sync]\nphone_hold_hours = 24\n{SETTINGS}")).await;
    let number = async || lab.login_user(&ann.user_id).await.phone;
    assert_eq!(number().await, "+4930123456");
    let run_id = lab.begin().await.expect("begun");
    lab.batch(&run_id, vec![with_phone(person("ann"), "+49 40 765498")]).await;
    assert_eq!(number().await, "");
    lab.batch(&run_id, vec![SyncedUser { last_name: "Baker".into(), ..with_phone(person("ann"), "+49 40 765498") }])
        .await;
    lab.clock.advance(24 * 3_600_000 - 1);
    assert_eq!(number().await, "");
    lab.clock.advance(1);
    assert_eq!(number().await, "+4940765498");
}

pub async fn a_number_that_goes_back_within_the_hour_is_told_to_administrators(lab: Fixture) {
    // S-19
    lab.apply(&format!("{SETTINGS}\n[mail]\nnotify = {{ sync_phone_back = [\"it@corp.example\"] }}\n")).await;
    lab.lead().await;
    lab.run(vec![person("ann"), person("bob")]).await;
    let numbered = async |number: &str| {
        let run_id = lab.begin_as("incremental").await.expect("begun");
        lab.batch(&run_id, vec![with_phone(person("ann"), number)]).await;
        lab.finish(&run_id, true).await;
        let request = SyncChangesRequest { run_id, after: 0, limit: 10 };
        let changes =
            lab.services.admin.sync_changes(Request::new(request)).await.expect("listed").into_inner().changes;
        let back = changes.into_iter().filter(|change| change.what == "problem").map(|change| change.detail);
        let mails = lab.number("SELECT COUNT(*) FROM outbox WHERE kind = 'sync_phone_back'").await;
        (back.collect::<Vec<_>>(), mails)
    };
    assert_eq!(numbered("+49 40 765498").await, (vec![], 0));
    lab.clock.advance(59 * MINUTE_MS);
    let back = "the phone number is …56 again, as it was 59 minutes ago; it was …98 since".to_owned();
    assert_eq!(numbered("+49 (0)30 123456").await, (vec![back], 1));
    // The same once more the same day: no second mail.
    lab.clock.advance(MINUTE_MS);
    let (back, mails) = numbered("+49 40 765498").await;
    assert_eq!((back.len(), mails), (1, 1));
    lab.clock.advance(61 * MINUTE_MS);
    assert_eq!(numbered("+49 30 123456").await, (vec![], 1), "later it is a change like any other");
    lab.apply(&format!("[sync]\nphone_back_minutes = 0\n{SETTINGS}")).await;
    assert_eq!(numbered("+49 40 765498").await, (vec![], 1), "off");
    lab.assert_chain_is_whole().await;
}

pub async fn who_is_enabled_again_within_the_hour_is_told_to_administrators(lab: Fixture) {
    // S-19
    lab.apply(&format!("{SETTINGS}\n[mail]\nnotify = {{ sync_enabled_again = [\"it@corp.example\"] }}\n")).await;
    lab.lead().await;
    lab.run(vec![person("ann"), person("bob")]).await;
    let said = async |disabled_in_directory: bool| {
        let run_id = lab.begin_as("incremental").await.expect("begun");
        lab.batch(&run_id, vec![SyncedUser { disabled_in_directory, ..person("ann") }]).await;
        lab.finish(&run_id, true).await;
        let events = lab.number("SELECT COUNT(*) FROM audit WHERE kind = 'user.enabled_again'").await;
        (lab.number("SELECT COUNT(*) FROM outbox WHERE kind = 'sync_enabled_again'").await, events)
    };
    assert_eq!(said(true).await, (0, 0));
    lab.clock.advance(61 * MINUTE_MS);
    assert_eq!(said(false).await, (0, 0), "later it is a change like any other");
    assert_eq!(said(true).await, (0, 0));
    lab.clock.advance(59 * MINUTE_MS);
    assert_eq!(said(false).await, (1, 1));
    assert_eq!(lab.state("ann").await, "enabled", "nothing is held up by it");
    assert_eq!(said(true).await, (1, 1));
    assert_eq!(said(false).await, (1, 2), "no second mail that day");
    lab.apply(&format!("[sync]\nphone_back_minutes = 0\n{SETTINGS}")).await;
    said(true).await;
    assert_eq!(said(false).await, (1, 2), "off");
    lab.assert_chain_is_whole().await;
}

pub async fn a_feed_that_tells_everything_anew_takes_nobody_past_the_guard(lab: Fixture) {
    // S-35, S-40, S-43
    lab.with_settings().await;
    lab.run(people(100)).await;
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let reply = lab.batch(&run_id, people(94)).await;
    assert_eq!((reply.added, reply.changed, reply.unchanged), (0, 0, 94), "nobody is new for being told of again");
    let left_then = left(lab.unseen(&run_id).await, How::Absent);
    assert_eq!(left_then.len(), 6);
    lab.send(&run_id, ApplyBatchRequest { left: left_then, ..ApplyBatchRequest::default() }).await;
    let once = lab.finish(&run_id, true).await;
    assert_eq!((once.disabled, once.parked, once.missed), (0, 0, true), "missed once");
    lab.clock.advance(MINUTE_MS);
    let twice = lab.run_missing(people(94), How::Absent).await;
    assert_eq!((twice.disabled, twice.parked), (0, 6), "{twice:?}");
    assert_eq!(lab.state("user099").await, "enabled");
}

pub async fn many_whom_one_run_enables_again_are_told_to_administrators_whenever_they_were_disabled(lab: Fixture) {
    // B-75, S-19: a directory that was restored from a backup
    lab.apply(&format!("{SETTINGS}\n[mail]\nnotify = {{ sync_enabled_again = [\"it@corp.example\"] }}\n")).await;
    lab.lead().await;
    lab.run(people(100)).await;
    let run = async |disabled: usize| {
        let mut users = people(100);
        users.iter_mut().take(disabled).for_each(|user| user.disabled_in_directory = true);
        lab.run(users).await;
        lab.clock.advance(24 * 3_600_000);
        lab.number("SELECT COUNT(*) FROM outbox WHERE kind = 'sync_enabled_again'").await
    };
    assert_eq!(run(6).await, 0);
    assert_eq!(run(1).await, 0, "five are a change like any other");
    assert_eq!(run(7).await, 0);
    assert_eq!(run(1).await, 1, "six are more than a run may disable by itself");
    assert_eq!(lab.state("user003").await, "enabled", "the directory is the one that knows");
    assert_eq!(run(1).await, 1);
    assert_eq!(run(7).await, 1);
    let begun = lab.begin_as("preview").await.expect("begun");
    lab.batch(&begun, people(100)).await;
    lab.finish(&begun, true).await;
    assert_eq!(run(7).await, 1, "a preview enables nobody");
}

pub async fn an_id_that_comes_with_another_security_identifier_is_taken_for_nobody_known(lab: Fixture) {
    // B-75
    let with_sid = |number: u32, phone: &str| SyncedUser {
        sid: format!("S-1-5-21-1-2-3-{number}"),
        ..with_phone(person("ann"), phone)
    };
    let ann = lab.enrolled("ann").await;
    let read = async |user: SyncedUser| {
        let run_id = lab.begin().await.expect("begun");
        let reply = lab.batch(&run_id, vec![user]).await;
        assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default(), "nobody has left");
        let phone = lab.user("ann").await.expect("there").phone;
        (reply.problems, phone)
    };
    assert_eq!(read(with_sid(1104, "+49 30 123456")).await, (vec![], "+4930123456".into()));
    assert_eq!(
        read(with_sid(1104, "+49 40 765498")).await,
        (vec![], "+4940765498".into()),
        "the same, who has moved house"
    );
    let unread = SyncedUser { sid: String::new(), ..with_sid(0, "+49 40 765498") };
    assert_eq!(read(unread).await.0, [""; 0], "it could not be read this once");
    let (problems, phone) = read(with_sid(2207, "+49 89 111111")).await;
    assert!(problems.len() == 1 && problems[0].contains("another security identifier"), "{problems:?}");
    assert_eq!((phone.as_str(), lab.state("ann").await.as_str()), ("+4940765498", "enabled"));
    // That the directory disabled the entry holds all the same, and that it does not is not believed.
    let disabled = SyncedUser { disabled_in_directory: true, ..with_sid(2207, "+49 89 111111") };
    assert_eq!(read(disabled).await.1, "+4940765498");
    assert_eq!(lab.state("ann").await, "disabled");
    read(with_sid(2207, "+49 89 111111")).await;
    assert_eq!(lab.state("ann").await, "disabled");
    // A hand has looked who it is.
    let by_hand = SetUserStateRequest {
        user_id: ann.user_id.clone(),
        state: "disabled".into(),
        actor: "root".into(),
        ..Default::default()
    };
    lab.services.admin.set_user_state(Request::new(by_hand)).await.expect("set");
    assert_eq!(read(with_sid(2207, "+49 89 111111")).await, (vec![], "+4989111111".into()));
    assert_eq!(lab.state("ann").await, "disabled", "by hand");
    lab.assert_chain_is_whole().await;
}

pub async fn who_is_gone_does_not_come_back_by_an_entry_with_another_security_identifier(lab: Fixture) {
    // B-75: nothing of it is taken, not even that it is there.
    lab.apply(&SETTINGS.replace("[[sync_item]]", "[[sync_item]]\nleavers = \"disable\"")).await;
    lab.lead().await;
    let with_sid = |number: u32| SyncedUser { sid: format!("S-1-5-21-1-2-3-{number}"), ..person("ann") };
    lab.enrolled("ann").await;
    let begun = lab.begin().await.expect("begun");
    lab.batch(&begun, vec![person("stays"), with_sid(1104)]).await;
    lab.finish(&begun, true).await;
    let begun = lab.begin().await.expect("begun");
    lab.batch(&begun, vec![person("stays")]).await;
    let gone = left([person("ann").object_id], How::Deleted);
    lab.send(&begun, ApplyBatchRequest { left: gone, ..Default::default() }).await;
    lab.finish(&begun, true).await;
    let stands = async || {
        let left = lab.number("SELECT COUNT(*) FROM users WHERE left_how <> ''").await;
        (lab.state("ann").await, lab.number("SELECT COUNT(*) FROM factors").await, left)
    };
    assert_eq!(stands().await, ("disabled".into(), 1, 1));
    let begun = lab.begin().await.expect("begun");
    assert_eq!(lab.batch(&begun, vec![person("stays"), with_sid(2207)]).await.problems.len(), 1);
    lab.finish(&begun, true).await;
    assert_eq!(stands().await, ("disabled".into(), 1, 1));
}

pub async fn a_directory_without_an_item_is_run_on_request_and_the_guard_decides(lab: Fixture) {
    // FS-10, FS-06
    lab.with_settings().await;
    lab.run(people(3)).await;
    lab.apply(&with_items(&[])).await;
    assert_eq!(lab.begin().await.expect_err("nobody asked").code(), Code::NotFound);
    let begin = async |directory: &str| {
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: directory.into(),
            mode: "full".into(),
            trigger: "request".into(),
            now_unix_ms: lab.clock.now_ms(),
            ..BeginRunRequest::default()
        };
        lab.services.sync.begin_run(Request::new(request)).await.map(|reply| reply.into_inner().run_id)
    };
    assert_eq!(begin("nowhere").await.expect_err("no directory").code(), Code::NotFound);
    let run_id = begin("corp").await.expect("begun");
    let left = left(lab.unseen(&run_id).await, How::Outside);
    lab.send(&run_id, ApplyBatchRequest { left, ..ApplyBatchRequest::default() }).await;
    let done = lab.finish(&run_id, true).await;
    assert_eq!((done.parked, done.disabled, done.removed), (3, 0, 0));
    decide(&lab, &done.approval_id, true, &[]).await.expect("approved");
    assert_eq!(lab.state(&person("user000").username).await, "disabled");
}

pub async fn an_incomplete_read_removes_nobody(lab: Fixture) {
    // S-41
    lab.with_settings().await;
    lab.run(people(20)).await;
    for seen in [0, 1, 19] {
        let run_id = lab.begin().await.expect("begun");
        lab.batch(&run_id, people(seen)).await;
        let left = left(lab.unseen(&run_id).await, How::Absent);
        lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        assert_eq!(lab.finish(&run_id, false).await, FinishRunReply::default());
        assert_eq!(status(&lab).await.runs[0].state, "incomplete");
        assert_eq!(status(&lab).await.runs[0].error, "size limit exceeded");
    }
    for user in people(20) {
        assert_eq!(lab.state(&user.username).await, "enabled");
    }
    // Nor did they count as the first of two sweeps.
    lab.clock.advance(MINUTE_MS);
    assert_eq!(lab.run_missing(people(19), How::Absent).await, FinishRunReply::default());
    lab.clock.advance(MINUTE_MS);
    assert_eq!(lab.run_missing(people(19), How::Absent).await.disabled, 1);
}

pub async fn who_is_absent_leaves_when_a_full_run_says_so_after_another_run(lab: Fixture) {
    // S-43
    lab.with_settings().await;
    lab.run(people(100)).await;
    let run_id = lab.begin().await.expect("begun");
    lab.batch(&run_id, people(99)).await;
    assert_eq!(lab.unseen(&run_id).await, [id_of("user099")]);
    for _ in 0..2 {
        let left = left([id_of("user099")], How::Absent);
        lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
    }
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default(), "one run, however often it says so");
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let gone = left([id_of("user099")], How::Absent);
    lab.send(&run_id, ApplyBatchRequest { left: gone, ..Default::default() }).await;
    let known = "the last word is of a full one, which is due since the run that missed them";
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default(), "{known}");
    // Seen between: it begins anew.
    lab.run(people(100)).await;
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let gone = left([id_of("user099")], How::Absent);
    lab.send(&run_id, ApplyBatchRequest { left: gone, ..Default::default() }).await;
    let due = FinishRunReply { missed: true, ..FinishRunReply::default() };
    assert_eq!(lab.finish(&run_id, true).await, due, "whom a feed does not name is missed by that");
    assert_eq!(lab.finish(&run_id, true).await, due, "the answer was lost and is given again");
    for _ in 0..2 {
        let run_id = lab.begin_as("incremental").await.expect("begun");
        lab.batch(&run_id, vec![person("user000")]).await;
        assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default(), "whoever it was, it has told of them");
    }
    assert_eq!(lab.state("user099").await, "enabled");
    lab.run(people(100)).await;
    lab.clock.advance(MINUTE_MS);
    assert_eq!(lab.run_missing(people(99), How::Absent).await, FinishRunReply::default());
    assert_eq!(lab.state("user099").await, "enabled");
    lab.clock.advance(MINUTE_MS);
    assert_eq!(lab.run_missing(people(99), How::Absent).await.disabled, 1);
    assert_eq!(lab.state("user099").await, "disabled");
    // Known to be gone: nobody looks for them again.
    let run_id = lab.begin().await.expect("begun");
    lab.batch(&run_id, people(99)).await;
    assert_eq!(lab.unseen(&run_id).await, [""; 0]);
}

pub async fn nobody_is_absent_sooner_than_a_minute_after_they_were_missed(lab: Fixture) {
    // S-43: whatever led to the next run, and whatever the leader's clock says.
    lab.with_settings().await;
    let run = async |people: Vec<SyncedUser>, staff: bool, ahead_ms: i64| {
        let run_id = lab.begin().await.expect("begun");
        let groups =
            if staff { vec![group("staff", &["uid=user000,ou=people,dc=corp,dc=example"])] } else { Vec::new() };
        lab.send(&run_id, ApplyBatchRequest { groups, users: people, ..Default::default() }).await;
        let (left, now_unix_ms) = (left(lab.unseen(&run_id).await, How::Absent), lab.clock.now_ms() + ahead_ms);
        lab.send(&run_id, ApplyBatchRequest { left, now_unix_ms, ..Default::default() }).await;
        let finish =
            FinishRunRequest { epoch: lab.epoch(), run_id, complete: true, now_unix_ms, ..FinishRunRequest::default() };
        lab.services.sync.finish_run(Request::new(finish)).await.expect("the run ends").into_inner()
    };
    let groups = async || lab.user("user000").await.expect("there").groups.len();
    assert_eq!(run(people(100), true, 0).await, FinishRunReply::default());
    assert_eq!(run(people(99), false, -3_600_000).await, FinishRunReply::default(), "by a leader whose clock is slow");
    let too_soon = FinishRunReply { missed: true, ..FinishRunReply::default() };
    for ahead_ms in [0, 3_600_000, 0] {
        assert_eq!(run(people(99), false, ahead_ms).await, too_soon);
        assert_eq!((lab.state("user099").await.as_str(), groups().await), ("enabled", 1));
        lab.clock.advance(19_999);
    }
    // Looked for meanwhile, and it did not begin anew.
    lab.clock.advance(3);
    assert_eq!(run(people(99), false, 0).await, FinishRunReply { disabled: 1, ..FinishRunReply::default() });
    assert_eq!((lab.state("user099").await.as_str(), groups().await), ("disabled", 0));
}

pub async fn whom_a_run_missed_before_the_clock_was_set_back_is_missed_anew(lab: Fixture) {
    // S-43: that run ended in the future, and a minute after that would never come.
    lab.with_settings().await;
    lab.run(people(100)).await;
    let run = async || {
        let run_id = lab.begin().await.expect("begun");
        lab.batch(&run_id, people(99)).await;
        let left = left(lab.unseen(&run_id).await, How::Absent);
        lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        lab.finish(&run_id, true).await
    };
    assert_eq!(run().await, FinishRunReply::default());
    lab.clock.advance(-24 * 3_600_000);
    assert_eq!(run().await, FinishRunReply::default(), "for the first time");
    lab.clock.advance(MINUTE_MS);
    assert_eq!(run().await, FinishRunReply { disabled: 1, ..FinishRunReply::default() });
}

pub async fn five_leave_and_six_wait_while_newcomers_are_added(lab: Fixture) {
    // S-40
    lab.with_settings().await;
    lab.run(people(200)).await;
    assert_eq!(lab.run(people(195)).await, FinishRunReply { disabled: 5, ..FinishRunReply::default() });
    assert_eq!(lab.state("user199").await, "disabled");
    let mut left = people(189);
    left.push(person("newcomer"));
    let parked = lab.run(left.clone()).await;
    assert_eq!((parked.disabled, parked.removed, parked.parked), (0, 0, 6));
    assert_eq!(lab.state("user194").await, "enabled");
    assert_eq!(lab.state("newcomer").await, "enabled", "additions go on");
    let again = lab.run(left.clone()).await;
    assert_eq!(again.approval_id, parked.approval_id, "the same list stays the same");
    let listed = status(&lab).await;
    assert_eq!((listed.approvals.len(), listed.approvals[0].users), (1, 6));
    let names: Vec<String> = (189..195).map(|number| format!("user{number}")).collect();
    assert_eq!(waiting(&lab, &parked.approval_id).await, names);
    assert_eq!(listed.runs[0].state, "parked");
    left.remove(188);
    let more = lab.run(left).await;
    assert_eq!(more.parked, 7);
    assert_ne!(more.approval_id, parked.approval_id, "another list is another approval");
    let old = decide(&lab, &parked.approval_id, true, &[]).await.expect_err("superseded");
    assert_eq!(old.code(), Code::FailedPrecondition);
    assert_eq!(status(&lab).await.approvals.len(), 1);
}

pub async fn a_share_of_the_known_waits_from_three_users_on(lab: Fixture) {
    // FS-06
    lab.with_settings().await;
    lab.run(people(20)).await;
    assert_eq!(lab.run(people(18)).await.disabled, 2);
    assert_eq!(lab.run(people(15)).await.parked, 3);
    lab.apply(&format!("[sync]\napproval_over_percent = 0\n{SETTINGS}")).await;
    assert_eq!(lab.run(people(15)).await.disabled, 3, "the number alone decides");
}

async fn waiting(lab: &Fixture, approval_id: &str) -> Vec<String> {
    let (mut names, mut after): (Vec<String>, String) = Default::default();
    loop {
        let request = ListApprovalUsersRequest { approval_id: approval_id.into(), after, limit: 4 };
        let page = lab.services.admin.list_approval_users(Request::new(request)).await.expect("listed").into_inner();
        assert!(page.users.len() <= 4 && page.users.iter().all(|user| !user.why.is_empty()));
        names.extend(page.users.into_iter().map(|user| user.username));
        if page.next.is_empty() {
            return names;
        }
        after = page.next;
    }
}

pub async fn administrators_hear_of_waiting_leavers_and_of_incomplete_reads(lab: Fixture) {
    // FS-07, FV-27
    lab.with_settings().await;
    let told = async || {
        let mails = lab.mails().await;
        mails.into_iter().map(|it| (it.kind, it.variables["detail"].clone())).collect::<Vec<_>>()
    };
    let fail = async || {
        let run_id = lab.begin().await.expect("begun");
        lab.finish(&run_id, false).await;
    };
    lab.run(people(200)).await;
    assert_eq!(told().await, []);
    let parked = lab.run(people(190)).await;
    lab.run(people(190)).await;
    let list = format!("corp: 10 users, approval {}", parked.approval_id);
    assert_eq!(told().await, [("sync_approval".to_owned(), list)], "once a list");
    let failed = ("sync_failed".to_owned(), "directory corp".to_owned());
    fail().await;
    fail().await;
    assert_eq!(told().await, std::slice::from_ref(&failed), "not every five minutes");
    lab.clock.advance(24 * 3_600_000);
    fail().await;
    assert_eq!(told().await, std::slice::from_ref(&failed), "it goes on");
    lab.run(people(200)).await;
    fail().await;
    assert_eq!(told().await, [failed], "it had been well in between");
}

pub async fn the_mail_about_waiting_users_leads_to_their_list(lab: Fixture) {
    // FS-07
    lab.with_settings().await;
    let link = async || lab.mails().await.into_iter().map(|mail| mail.variables["link"].clone()).collect::<Vec<_>>();
    lab.run(people(200)).await;
    let parked = lab.run(people(190)).await;
    assert_eq!(link().await, [format!("twinlock sync approvals {}", parked.approval_id)], "there is no portal");
    let announced = AnnounceRequest { public_url: "https://mfa.corp.example".into(), danger_change_rp_id: false };
    lab.services.portal_data.announce(Request::new(announced)).await.expect("announced");
    let more = lab.run(people(180)).await;
    assert_eq!(link().await, [format!("https://mfa.corp.example/console/approvals/{}", more.approval_id)]);
}

pub async fn decide(lab: &Fixture, approval_id: &str, approve: bool, names: &[&str]) -> Result<u32, tonic::Status> {
    decide_as(lab, "cli:root", approval_id, approve, names).await
}

pub async fn decide_as(
    lab: &Fixture,
    actor: &str,
    approval_id: &str,
    approve: bool,
    names: &[&str],
) -> Result<u32, tonic::Status> {
    let request = DecideApprovalRequest {
        approval_id: approval_id.into(),
        approve,
        usernames: names.iter().map(|name| (*name).into()).collect(),
        actor: actor.into(),
        now_unix_ms: lab.clock.now_ms(),
        reason: "as agreed".into(),
    };
    Ok(lab.services.admin.decide_approval(Request::new(request)).await?.into_inner().applied)
}

pub async fn an_approval_is_evaluated_when_it_is_given(lab: Fixture) {
    // S-40: approve after the OU came back: nobody removed
    lab.with_settings().await;
    lab.run(people(20)).await;
    let parked = lab.run(people(10)).await;
    assert_eq!(parked.parked, 10);
    let run_id = lab.begin().await.expect("begun");
    lab.batch(&run_id, people(15)).await;
    lab.finish(&run_id, false).await;
    assert_eq!(decide(&lab, &parked.approval_id, true, &["USER019", "user012"]).await.expect("approved"), 1);
    assert_eq!(lab.state("user019").await, "disabled");
    assert_eq!(lab.state("user012").await, "enabled", "seen again since");
    assert_eq!(lab.state("user018").await, "enabled", "not named");
    let twice = decide(&lab, &parked.approval_id, true, &[]).await;
    assert_eq!(twice.expect_err("decided").code(), Code::FailedPrecondition);
    // Who was not named stays, whatever the next runs hear nothing of.
    let run_id = lab.begin_as("incremental").await.expect("begun");
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default());
    assert_eq!(lab.state("user018").await, "enabled");

    let parked = lab.run(people(10)).await;
    assert_eq!(parked.parked, 9, "a full run finds them gone again");
    lab.run(people(19)).await;
    let settled = decide(&lab, &parked.approval_id, true, &[]).await;
    assert_eq!(settled.expect_err("settled by a later run").code(), Code::FailedPrecondition);

    let parked = lab.run(people(10)).await;
    assert_eq!(decide(&lab, &parked.approval_id, false, &[]).await.expect("refused"), 0);
    assert_eq!(lab.state("user018").await, "enabled");
    let parked = lab.run(people(10)).await;
    lab.clock.advance(7 * 24 * 3_600_000);
    let late = decide(&lab, &parked.approval_id, true, &[]).await;
    assert_eq!(late.expect_err("expired").code(), Code::FailedPrecondition);
    let renewed = lab.run(people(10)).await;
    assert_ne!(renewed.approval_id, parked.approval_id);
    assert_eq!(decide(&lab, &renewed.approval_id, true, &[]).await.expect("approved"), 9);
    assert_eq!(decide(&lab, "none", true, &[]).await.expect_err("none").code(), Code::NotFound);
    assert_eq!(lab.events("sync.approval").await.len(), 3);
    lab.assert_chain_is_whole().await;
}

pub async fn a_list_is_approved_only_while_it_is_of_now(lab: Fixture) {
    // S-40
    lab.with_settings().await;
    let refusal = async |approval_id: &str| {
        let refused = decide(&lab, approval_id, true, &[]).await.expect_err("not of now");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().ends_with(": look again with \"twinlock sync now corp\", then decide"), "{refused}");
        refused.message().to_owned()
    };
    // Two intervals, or two runs as long as the last one, and ten minutes at least.
    let minutely = format!("[sync]\ninterval_minutes = 1\n{SETTINGS}");
    let hourly = format!("[sync]\ninterval_minutes = 60\n{SETTINGS}");
    for (settings, takes, minutes) in [(SETTINGS, 0, 10), (&minutely, 0, 10), (&hourly, 0, 120), (SETTINGS, 30, 60)] {
        lab.apply(settings).await;
        let look = async || {
            let run_id = lab.begin().await.expect("begun");
            lab.batch(&run_id, people(90)).await;
            let left = left(lab.unseen(&run_id).await, How::Deleted);
            lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
            lab.clock.advance(takes * MINUTE_MS);
            lab.finish(&run_id, true).await.approval_id
        };
        lab.run(people(100)).await;
        let list = look().await;
        lab.clock.advance((minutes + 1) * MINUTE_MS);
        let why = refusal(&list).await;
        assert!(why.contains(&format!("for {} minutes", minutes + 1)), "{why}");
        // It is looked at again, and is the same.
        assert_eq!(look().await, list);
        lab.clock.advance(minutes * MINUTE_MS);
        assert_eq!(decide(&lab, &list, true, &[]).await.expect("soon enough"), 10);
    }
    // By other items, or of another source as the settings say, until a run was made by those.
    let other_items = with_items(&["people filter = \"(l=x)\"; source = { kind = \"domain\" }"]);
    let other_base = SETTINGS.replace("\"dc=corp,dc=example\"", "\"ou=people,dc=corp,dc=example\"");
    for (settings, said) in
        [(&other_items, "the sync items were changed"), (&other_base, "another account, base, filter")]
    {
        lab.apply(SETTINGS).await;
        lab.run(people(100)).await;
        let list = lab.run(people(90)).await.approval_id;
        lab.apply(settings).await;
        let why = refusal(&list).await;
        assert!(why.contains(said), "{why}");
        assert_eq!(lab.run(people(90)).await.approval_id, list);
        assert_eq!(decide(&lab, &list, true, &[]).await.expect("of now"), 10);
    }
    // And of another one as a run met it.
    let run_of = async |mode: &str, identity: &str| {
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: "corp".into(),
            mode: mode.into(),
            identity: identity.into(),
            now_unix_ms: lab.clock.now_ms(),
            ..BeginRunRequest::default()
        };
        lab.clock.advance(1);
        let run_id = lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id;
        lab.batch(&run_id, people(90)).await;
        let left = left(lab.unseen(&run_id).await, How::Deleted);
        lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        lab.finish(&run_id, true).await.approval_id
    };
    lab.run(people(100)).await;
    let list = run_of("full", "one").await;
    run_of("preview", "two").await;
    let why = refusal(&list).await;
    assert!(why.contains("another account, base, filter"), "{why}");
    run_of("preview", "one").await;
    assert_eq!(decide(&lab, &list, true, &["user099"]).await.expect("it was another server for a moment"), 1);
    // To keep them needs no look.
    lab.run(people(100)).await;
    let list = lab.run(people(90)).await.approval_id;
    lab.clock.advance(60 * MINUTE_MS);
    refusal(&list).await;
    assert_eq!(decide(&lab, &list, false, &[]).await.expect("refused"), 0);
}

pub async fn a_list_that_no_run_can_renew_says_why_and_what_helps(lab: Fixture) {
    // S-40, FD-02
    let trusting = SETTINGS.replace("\"openldap\"", "\"active_directory\"\ntrusted_domains = true").replace(
        "{ kind = \"anonymous\" }",
        r#"{ kind = "tls", name = "CORP\\twinlock", password = "file:query.password" }"#,
    );
    for (settings, helps) in [(SETTINGS, false), (&trusting, true)] {
        let secret = Secret { value: "query-password".into() };
        let request = ApplySettingsRequest {
            document: settings.into(),
            secrets: [("directory.corp.query_bind.password".to_owned(), secret)]
                .into_iter()
                .filter(|_| helps)
                .collect(),
            actor: "admin:test".into(),
            ..ApplySettingsRequest::default()
        };
        assert_eq!(lab.apply_as_asked(request).await.errors, [""; 0]);
        lab.lead().await;
        lab.run(people(100)).await;
        let list = lab.run(people(90)).await.approval_id;
        lab.clock.advance(11 * MINUTE_MS);
        let refusal = async || decide(&lab, &list, true, &[]).await.expect_err("not of now").message().to_owned();
        let why = refusal().await;
        assert!(!why.contains("the last one") && !why.contains("away for good"), "no run has failed: {why}");
        let run_id = lab.begin().await.expect("begun");
        lab.finish(&run_id, false).await;
        let why = refusal().await;
        assert!(why.contains("for 11 minutes") && why.contains("(the last one: size limit exceeded"), "{why}");
        assert_eq!(why.contains("another domain that is away for good"), helps, "{why}");
        assert!(why.ends_with("): look again with \"twinlock sync now corp\", then decide"), "{why}");
        lab.run(people(90)).await;
        assert_eq!(decide(&lab, &list, true, &[]).await.expect("of now"), 10);
    }
}

pub async fn an_item_that_had_users_and_has_none_waits(lab: Fixture) {
    // S-42
    lab.apply(&with_items(&["staff", "guests"])).await;
    lab.lead().await;
    assert_eq!(lab.run(vec![]).await, FinishRunReply::default(), "none known, none missed");
    let mut staff: Vec<SyncedUser> = people(50).into_iter().map(|it| of_items(&it.username, &["staff"])).collect();
    staff.push(of_items("guest", &["guests"]));
    lab.run(staff.clone()).await;
    let guest = staff.pop().expect("the guest");
    let parked = lab.run(staff.clone()).await;
    let why = "the sync item guests has nobody any more";
    assert_eq!((parked.parked, parked.parked_why.as_str()), (1, why));
    assert_eq!(lab.state("guest").await, "enabled");
    let listed = status(&lab).await;
    assert_eq!((listed.approvals[0].why.as_str(), listed.runs[0].parked_why.as_str()), (why, why));
    let mail = lab.mails().await.remove(0);
    assert_eq!((mail.kind.as_str(), mail.variables["reason"].as_str()), ("sync_approval", why));
    let event = lab.events("sync.run").await.pop().expect("told");
    assert!(event.detail.ends_with(&format!("parked 1 ({why})")), "{}", event.detail);
    staff.push(guest);
    staff.push(of_items("other", &["guests"]));
    lab.run(staff.clone()).await;
    staff.pop();
    assert_eq!(lab.run(staff).await.disabled, 1, "one of two is no empty item");
}

pub async fn leavers_are_disabled_removed_or_kept_and_come_back(lab: Fixture) {
    // FS-25, S-43, S-45, S-21
    for (leavers, how, gone) in [
        ("disable", How::Deleted, "disabled"),
        ("remove", How::Deleted, "removed"),
        ("remove", How::Outside, "disabled"),
        ("keep", How::Deleted, "enabled"),
    ] {
        lab.apply(&SETTINGS.replace("[[sync_item]]", &format!("[[sync_item]]\nleavers = \"{leavers}\""))).await;
        lab.lead().await;
        let name = format!("{leavers}-{how:?}").to_lowercase();
        let (ann, bob) = (person(&format!("ann-{name}")), person(&format!("bob-{name}")));
        lab.run(vec![ann.clone(), bob.clone(), person("stays")]).await;
        let by_hand = SetUserStateRequest {
            user_id: lab.user(&bob.username).await.expect("there").user.expect("with a summary").user_id,
            state: "disabled".into(),
            actor: "admin:uid=0".into(),
            reason: "on leave".into(),
            ..SetUserStateRequest::default()
        };
        lab.services.admin.set_user_state(Request::new(by_hand)).await.expect("disabled");
        let left = lab.run_missing(vec![person("stays")], how).await;
        assert_eq!(
            (left.disabled, left.removed),
            match gone {
                "disabled" => (1, 0),
                "removed" => (0, 2),
                _ => (0, 0),
            },
            "{name}"
        );
        let state = async |user: &SyncedUser| lab.by_id(&user.object_id).await.0;
        assert_eq!(state(&ann).await, gone, "{name}");
        lab.run(vec![ann.clone(), bob.clone(), person("stays")]).await;
        assert_eq!(state(&ann).await, "enabled", "{name}");
        let (bob_state, bob_text) = lab.by_id(&bob.object_id).await;
        assert_eq!(bob_state, "disabled", "{name}: by hand it stays");
        assert!(bob_text.starts_with("by admin:uid=0") && bob_text.ends_with("on leave"), "{bob_text}");
        lab.run(vec![person("stays"), ann, bob]).await;
    }
}

pub async fn who_was_removed_and_is_back_enrols_anew(lab: Fixture) {
    // S-21, S-45
    lab.apply(&SETTINGS.replace("[[sync_item]]", "[[sync_item]]\nleavers = \"remove\"")).await;
    lab.lead().await;
    lab.run(vec![person("stays")]).await;
    let ann = lab.enrolled("ann").await;
    assert_eq!(lab.run(vec![person("stays")]).await.removed, 1);
    let factors = "SELECT COUNT(*) FROM factors";
    assert_eq!(lab.number(factors).await, 1, "kept for the days of grace");
    lab.run(vec![person("stays"), person("ann")]).await;
    let facts = lab.facts(&ann.user_id).await;
    assert_eq!((facts.user.expect("the same user").state.as_str(), facts.code_factors.len()), ("enabled", 0));
    assert_eq!(lab.number(factors).await, 0);
    // After grace they are gone for good.
    assert_eq!(lab.run(vec![person("stays")]).await.removed, 1);
    lab.clock.advance(30 * 24 * 3_600_000 + 1);
    lab.store.sweep().await.expect("swept");
    assert_eq!(lab.facts(&ann.user_id).await.user, None);
}

pub async fn who_was_deleted_and_is_back_enrols_anew_unless_the_item_says_otherwise(lab: Fixture) {
    // S-21
    let factors =
        async |user_id: &str| lab.number(&format!("SELECT COUNT(*) FROM factors WHERE user_id = '{user_id}'")).await;
    for (returning, how, kept) in [
        ("re_enrol", How::Deleted, 0),
        ("re_enrol", How::Absent, 0),
        ("re_enrol", How::Outside, 1),
        ("keep_factors", How::Deleted, 1),
    ] {
        let settings = format!("[[sync_item]]\nleavers = \"disable\"\nreturning = \"{returning}\"");
        lab.apply(&SETTINGS.replace("[[sync_item]]", &settings)).await;
        lab.lead().await;
        let name = format!("{returning}-{how:?}").to_lowercase();
        let everybody = || vec![person("stays"), person(&name)];
        lab.run(vec![person("stays")]).await;
        let user_id = lab.enrolled(&name).await.user_id;
        let mut disabled = lab.run_missing(vec![person("stays")], how).await.disabled;
        if how == How::Absent {
            // Missed by two full runs, a minute apart (S-43).
            lab.clock.advance(MINUTE_MS);
            disabled = lab.run_missing(vec![person("stays")], how).await.disabled;
        }
        assert_eq!((disabled, factors(&user_id).await), (1, 1), "{name}");
        lab.run(everybody()).await;
        assert_eq!((lab.state(&name).await.as_str(), factors(&user_id).await), ("enabled", kept), "{name}");
    }
    // Back where no item is, and only then where one is: they were gone all the same.
    lab.apply(&SETTINGS.replace("[[sync_item]]", "[[sync_item]]\nleavers = \"disable\"")).await;
    lab.lead().await;
    lab.run(vec![person("stays")]).await;
    let user_id = lab.enrolled("uma").await.user_id;
    lab.run_missing(vec![person("stays")], How::Deleted).await;
    for _ in 0..2 {
        lab.run(vec![person("stays"), of_items("uma", &[])]).await;
        lab.run_missing(vec![person("stays")], How::Outside).await;
        assert_eq!((lab.state("uma").await.as_str(), factors(&user_id).await), ("disabled", 1));
    }
    lab.run(vec![person("stays"), person("uma")]).await;
    assert_eq!((lab.state("uma").await.as_str(), factors(&user_id).await), ("enabled", 0));
    // Whom the directory undeleted disabled has none when it enables them.
    lab.apply(&SETTINGS.replace("[[sync_item]]", "[[sync_item]]\nleavers = \"disable\"")).await;
    lab.lead().await;
    lab.run(vec![person("stays")]).await;
    let user_id = lab.enrolled("eve").await.user_id;
    lab.run_missing(vec![person("stays")], How::Deleted).await;
    let off = SyncedUser { disabled_in_directory: true, ..person("eve") };
    lab.run(vec![person("stays"), off]).await;
    lab.run(vec![person("stays"), person("eve")]).await;
    assert_eq!((lab.state("eve").await.as_str(), factors(&user_id).await), ("enabled", 0));
    assert_eq!(lab.events("user.factors_erased").await.len(), 4);
    // What it would erase a preview shows, and leaves.
    let user_id = lab.enrol("eve").await.user_id;
    lab.run_missing(vec![person("stays")], How::Deleted).await;
    let run_id = lab.begin_as("preview").await.expect("a run begins");
    lab.batch(&run_id, vec![person("stays"), person("eve")]).await;
    let request = SyncChangesRequest { run_id, after: 0, limit: 100 };
    let changes = lab.services.admin.sync_changes(Request::new(request)).await.expect("listed").into_inner().changes;
    let erased = changes.iter().filter(|it| it.username == "eve" && it.detail.contains("second factors erased"));
    assert_eq!((erased.count(), factors(&user_id).await), (1, 1), "{changes:?}");
}

pub async fn who_was_not_disabled_for_being_gone_keeps_the_factors(lab: Fixture) {
    // S-21: by whom they were disabled before, how they were gone, by which rule, and what is left when they are back.
    for (by, leavers, how, kept) in [
        ("nobody", "disable", How::Absent, 0),
        ("directory", "disable", How::Absent, 1),
        ("directory", "disable", How::Deleted, 0),
        ("directory", "keep", How::Deleted, 1),
        ("hand", "disable", How::Absent, 1),
        ("hand", "disable", How::Deleted, 1),
        ("hand", "keep", How::Deleted, 1),
        ("nobody", "keep", How::Deleted, 1),
    ] {
        lab.apply(&SETTINGS.replace("[[sync_item]]", &format!("[[sync_item]]\nleavers = \"{leavers}\""))).await;
        lab.lead().await;
        let name = format!("{by}-{leavers}-{how:?}").to_lowercase();
        lab.run(vec![person("stays")]).await;
        let user_id = lab.enrolled(&name).await.user_id;
        let set = async |state: &str| {
            let request = SetUserStateRequest {
                user_id: user_id.clone(),
                state: state.into(),
                actor: "admin:uid=0".into(),
                reason: "on leave".into(),
                ..SetUserStateRequest::default()
            };
            lab.services.admin.set_user_state(Request::new(request)).await.expect("set");
        };
        let off = SyncedUser { disabled_in_directory: by == "directory", ..person(&name) };
        lab.run(vec![person("stays"), off]).await;
        if by == "hand" {
            set("disabled").await;
        }
        for _ in 0..2 {
            lab.clock.advance(MINUTE_MS);
            lab.run_missing(vec![person("stays")], how).await;
        }
        lab.run(vec![person("stays"), person(&name)]).await;
        if by == "hand" {
            set("enabled").await;
        }
        let factors = format!("SELECT COUNT(*) FROM factors WHERE user_id = '{user_id}'");
        assert_eq!((lab.state(&name).await.as_str(), lab.number(&factors).await), ("enabled", kept), "{name}");
    }
}

pub async fn an_id_that_two_entries_have_is_neithers(lab: Fixture) {
    // FD-31. Only ids that somebody writes come twice.
    lab.with_settings().await;
    let numbered =
        |name: &str, number: u32| SyncedUser { object_id: format!("employeenumber:string:{number}"), ..person(name) };
    lab.run(vec![numbered("ann", 1), person("stays")]).await;
    let users = async || lab.number("SELECT COUNT(*) FROM users").await;
    assert_eq!(users().await, 2);
    let told = |reply: ApplyBatchReply| -> usize {
        reply.problems.iter().filter(|text| text.contains("neither is taken")).count()
    };
    let by_id = |name: &str, number: u32| SyncedUser { by_id: true, ..numbered(name, number) };
    // In one batch; in two of one run. One of them might have moved: that is asked for.
    let run_id = lab.begin().await.expect("a run begins");
    let both = vec![numbered("ann", 1), numbered("bob", 1), numbered("eve", 2), person("stays")];
    assert_eq!(told(lab.batch(&run_id, both).await), 0);
    for name in ["uma", "eve", "ida"] {
        assert_eq!(told(lab.batch(&run_id, vec![numbered(name, 2)]).await), 0, "{name}");
    }
    let ids = ["employeenumber:string:1", "employeenumber:string:2"];
    assert_eq!(listed(&lab).await, ids.map(|id| format!("id {id}")));
    let looked = vec![by_id("ann", 1), by_id("bob", 1), by_id("eve", 2), by_id("uma", 2)];
    assert_eq!(told(lab.batch(&run_id, looked).await), 4, "whoever came first goes, too");
    assert_eq!(lab.unseen(&run_id).await, [""; 0], "she is there");
    assert!(!lab.finish(&run_id, true).await.pending, "all was read");
    let ann = lab.user("ann").await.expect("as she was").user.expect("with a summary");
    assert_eq!((ann.state.as_str(), users().await), ("enabled", 2));
    for name in ["bob", "eve", "uma", "ida"] {
        assert_eq!(lab.user(name).await.expect_err("not added").code(), Code::NotFound);
    }
    // She is moved, and nobody else has the number: that is asked for.
    let moved = SyncedUser { distinguished_name: "uid=ann,ou=moved".into(), ..numbered("ann", 1) };
    assert!(lab.run(vec![moved.clone(), numbered("eve", 2), person("stays")]).await.pending);
    assert_eq!(lab.user("ann").await.expect("there").distinguished_name, person("ann").distinguished_name);
    let run_id = lab.begin_as("incremental").await.expect("a run begins");
    lab.batch(&run_id, vec![SyncedUser { by_id: true, ..moved }]).await;
    assert!(!lab.finish(&run_id, true).await.pending, "she was read");
    assert_eq!(lab.user("ann").await.expect("there").distinguished_name, "uid=ann,ou=moved");
}

pub async fn nobody_becomes_somebody_else_by_writing_their_id(lab: Fixture) {
    // FD-31: whichever entry is read first, and however the runs come.
    lab.with_settings().await;
    let numbered = |name: &str| SyncedUser { object_id: "employeenumber:string:1".into(), ..person(name) };
    let by_id = |name: &str| SyncedUser { by_id: true, ..numbered(name) };
    lab.run(vec![numbered("ann"), person("stays")]).await;
    let ann = lab.enrol("ann").await.user_id;
    let is_ann = async |step: &str| {
        let user = lab.user("ann").await.expect(step);
        assert_eq!(user.user.expect("with a summary").user_id, ann, "{step}");
        assert_eq!(user.distinguished_name, person("ann").distinguished_name, "{step}");
        assert_eq!(lab.user("mallory").await.expect_err(step).code(), Code::NotFound, "{step}");
    };
    for first in ["ann", "mallory"] {
        let second = if first == "ann" { "mallory" } else { "ann" };
        let run_id = lab.begin().await.expect("a run begins");
        assert_eq!(lab.batch(&run_id, vec![numbered(first), person("stays")]).await.problems.len(), 0);
        assert_eq!(lab.batch(&run_id, vec![numbered(second)]).await.problems.len(), 0);
        is_ann("before the look").await;
        let problems = lab.batch(&run_id, vec![by_id(first), by_id(second)]).await.problems;
        assert!(problems.len() == 2 && problems[0].contains("neither is taken"), "{problems:?}");
        // Met again after that, they are no more sure of themselves.
        lab.batch(&run_id, vec![numbered("mallory")]).await;
        lab.batch(&run_id, vec![by_id(first), by_id(second)]).await;
        assert_eq!(lab.unseen(&run_id).await, [""; 0]);
        lab.finish(&run_id, true).await;
        is_ann(first).await;
    }
    // Nobody at all where she was: it is asked for, and two are found.
    assert!(lab.run(vec![numbered("mallory"), person("stays")]).await.pending);
    is_ann("held").await;
    let run_id = lab.begin_as("incremental").await.expect("a run begins");
    let problems = lab.batch(&run_id, vec![by_id("mallory"), by_id("ann")]).await.problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(!lab.finish(&run_id, true).await.pending);
    is_ann("both by the id").await;
    // Whoever was missed before is there, though it is not said who they are.
    let run_id = lab.begin_as("incremental").await.expect("a run begins");
    let gone = left([lab.user("ann").await.expect("there").subject.expect("set").object_id], How::Absent);
    lab.send(&run_id, ApplyBatchRequest { left: gone, ..Default::default() }).await;
    assert!(lab.finish(&run_id, true).await.missed);
    let run_id = lab.begin_as("incremental").await.expect("a run begins");
    lab.batch(&run_id, vec![by_id("mallory"), by_id("ann")]).await;
    lab.finish(&run_id, true).await;
    assert_eq!(lab.number("SELECT COUNT(*) FROM users WHERE left_how <> ''").await, 0);
    // A preview says of whom a run would not be sure, and of new ones that two have the id.
    let run_id = lab.begin_as("preview").await.expect("a run begins");
    let two = |name: &str| SyncedUser { object_id: "employeenumber:string:2".into(), ..person(name) };
    lab.batch(&run_id, vec![numbered("mallory"), two("eve")]).await;
    lab.batch(&run_id, vec![two("eve")]).await;
    let problems = lab.batch(&run_id, vec![two("uma")]).await.problems;
    assert!(problems.len() == 1 && problems[0].contains("neither is taken"), "{problems:?}");
    let request = SyncChangesRequest { run_id, after: 0, limit: 100 };
    let changes = lab.services.admin.sync_changes(Request::new(request)).await.expect("listed").into_inner().changes;
    let held = |it: &proto::user_store::SyncChange| it.username == "ann" && it.detail.contains("unless another entry");
    assert!(changes.iter().any(held), "{changes:?}");
    is_ann("a preview").await;
}

pub async fn an_entry_that_is_met_where_it_was_and_where_it_is_now_is_one(lab: Fixture) {
    // FD-31: it moves while the run reads, whether it was known before or not.
    lab.with_settings().await;
    let at = |name: &str, number: u32, place: &str| SyncedUser {
        object_id: format!("employeenumber:string:{number}"),
        distinguished_name: format!("uid={name},ou={place}"),
        ..person(name)
    };
    let looked = |name: &str, number: u32, place: &str| SyncedUser { by_id: true, ..at(name, number, place) };
    lab.run(vec![at("ann", 1, "people"), person("stays")]).await;
    let ann = lab.enrol("ann").await.user_id;
    let run_id = lab.begin().await.expect("a run begins");
    for (step, users) in [
        ("where they were", vec![at("ann", 1, "people"), at("new", 2, "people"), person("stays")]),
        ("moved", vec![at("ann", 1, "moved"), at("new", 2, "moved")]),
        ("looked for", vec![looked("ann", 1, "moved"), looked("new", 2, "moved")]),
        ("met below the container that moved", vec![at("ann", 1, "moved"), at("new", 2, "moved")]),
        ("moved on", vec![at("ann", 1, "sales"), at("new", 2, "sales")]),
        ("both in one batch", vec![looked("ann", 1, "sales"), at("ann", 1, "sales"), looked("new", 2, "sales")]),
    ] {
        assert_eq!(lab.batch(&run_id, users).await.problems, [""; 0], "{step}");
        assert_eq!(listed(&lab).await.len(), if step.starts_with("moved") { 2 } else { 0 }, "{step}");
    }
    assert_eq!(lab.unseen(&run_id).await, [""; 0]);
    lab.finish(&run_id, true).await;
    for name in ["ann", "new"] {
        assert_eq!(lab.user(name).await.expect("there").distinguished_name, format!("uid={name},ou=sales"));
    }
    assert_eq!(lab.user("ann").await.expect("there").user.expect("with a summary").user_id, ann);
    assert_eq!(lab.login_user(&ann).await.state, "enabled");
}

pub async fn a_principal_name_of_two_domains_of_a_forest_is_added_once_and_told(lab: Fixture) {
    // S-53, FS-14
    let domain = |name: &str, base: &str| {
        format!(
            "[[directory]]\nname = \"{name}\"\nurls = [\"ldaps://dc.{name}.example\"]\nbase = \"{base}\"\n\
             query_bind = {{ kind = \"anonymous\" }}\n\
             [[sync_item]]\nname = \"{name}-people\"\ndirectory = \"{name}\"\nsource = {{ kind = \"domain\" }}\n"
        )
    };
    // Where west starts the settings leave to its servers (FD-05).
    let settings = [("corp", "DC=corp,DC=example"), ("west", ""), ("far", "DC=far,DC=example")];
    let starts = |directory: &str| if directory == "west" { "DC=west,DC=corp,DC=example" } else { "" };
    let document: String = settings.iter().map(|(name, base)| domain(name, base)).collect();
    assert_eq!(lab.apply(&document).await.errors, [""; 0]);
    lab.lead().await;
    let of = |directory: &str, username: &str| SyncedUser {
        object_id: id_of(&format!("{directory} {username}")),
        items: vec![format!("{directory}-people")],
        ..person(username)
    };
    let run = async |directory: &str, users: Vec<SyncedUser>| -> Vec<String> {
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: directory.into(),
            mode: "full".into(),
            base: starts(directory).into(),
            now_unix_ms: lab.clock.now_ms(),
            ..BeginRunRequest::default()
        };
        let run_id = lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id;
        let problems = lab.batch(&run_id, users).await.problems;
        let left = left(lab.unseen(&run_id).await, How::Deleted);
        lab.send(&run_id, ApplyBatchRequest { left, ..ApplyBatchRequest::default() }).await;
        lab.finish(&run_id, true).await;
        problems
    };
    let called = async |directory: &str, name: &str| {
        let sql = format!("SELECT COUNT(*) FROM users WHERE directory = '{directory}' AND username = '{name}'");
        lab.number(&sql).await
    };
    let shared = |problems: &[String]| problems.iter().filter(|it| it.contains("another domain of the forest")).count();
    let people = |directory: &str| vec![of(directory, "ann@corp.com"), of(directory, "bob"), of(directory, "stays")];
    assert_eq!(run("corp", people("corp")).await, [""; 0]);
    // Another tree, and names without a domain, are compared with nobody.
    assert_eq!(run("far", people("far")).await, [""; 0]);
    let problems = run("west", people("west")).await;
    assert_eq!((problems.len(), shared(&problems)), (1, 1), "{problems:?}");
    let told = "SELECT COUNT(*) FROM outbox WHERE once_key LIKE 'sync_name_doubled:west:%'";
    assert_eq!(lab.number(told).await, 1);
    assert_eq!((called("west", "ann@corp.com").await, called("west", "bob").await), (0, 1));
    assert_eq!((called("corp", "ann@corp.com").await, called("far", "ann@corp.com").await), (1, 1));
    // Again, while she is there; then she is not, and the one who waited is read again.
    assert_eq!(shared(&run("west", people("west")).await), 1);
    run("corp", vec![of("corp", "bob"), of("corp", "stays")]).await;
    assert_eq!(run("west", people("west")).await, [""; 0]);
    assert_eq!(called("west", "ann@corp.com").await, 1);
}

pub async fn the_first_item_owns_a_user(lab: Fixture) {
    // FS-08, FS-10
    lab.apply(&with_items(&["staff", "all"])).await;
    lab.lead().await;
    let item = async |name: &str| lab.user(name).await.expect("there").sync_item;
    lab.run(vec![of_items("ann", &["all"]), of_items("bob", &["staff", "all"])]).await;
    assert_eq!((item("ann").await.as_str(), item("bob").await.as_str()), ("all", "staff"));
    lab.run(vec![of_items("ann", &["all", "staff"]), of_items("bob", &["all"])]).await;
    assert_eq!(
        (item("ann").await.as_str(), item("bob").await.as_str()),
        ("staff", "all"),
        "by the order of the settings"
    );
    lab.apply(&with_items(&["staff state = \"off\"; source = { kind = \"domain\" }", "all"])).await;
    lab.run(vec![of_items("ann", &["staff", "all"]), of_items("bob", &["all"])]).await;
    assert_eq!(item("ann").await, "all", "one that is off has nobody");
}

pub async fn who_is_of_no_item_is_not_added_and_leaves_as_outside(lab: Fixture) {
    lab.apply(&SETTINGS.replace("[[sync_item]]", "[[sync_item]]\nleavers = \"remove\"")).await;
    lab.lead().await;
    lab.run(people(50)).await;
    let mut read = people(49);
    read.push(of_items("user049", &[]));
    read.push(of_items("stranger", &[]));
    read.push(of_items("lost", &["gone"]));
    let done = lab.run(read.clone()).await;
    assert_eq!((done.disabled, done.removed), (1, 0), "outside is never removed");
    assert_eq!(lab.state("user049").await, "disabled");
    for name in ["stranger", "lost"] {
        assert_eq!(lab.user(name).await.expect_err("not added").code(), Code::NotFound);
    }
    assert_eq!(lab.run(read).await, FinishRunReply::default());
    lab.run(people(50)).await;
    assert_eq!(lab.state("user049").await, "enabled", "of an item again");
}

pub async fn an_item_may_add_nobody(lab: Fixture) {
    // FS-23
    lab.with_settings().await;
    lab.run(vec![person("ann")]).await;
    lab.apply(&SETTINGS.replace("[[sync_item]]", "[[sync_item]]\nadd = false")).await;
    lab.run(vec![SyncedUser { last_name: "Baker".into(), ..person("ann") }, person("bob")]).await;
    assert_eq!(lab.user("bob").await.expect_err("not added").code(), Code::NotFound);
    assert_eq!(lab.user("ann").await.expect("there").user.expect("with a summary").last_name, "Baker");
}

pub async fn the_users_of_a_removed_item_wait_for_a_full_run(lab: Fixture) {
    // FS-09, FS-10
    lab.apply(&with_items(&["staff", "all"])).await;
    lab.lead().await;
    let mut all = people(30);
    all.iter_mut().for_each(|user| user.items = vec!["all".into()]);
    let with = |more: &[SyncedUser]| [all.clone(), more.to_vec()].concat();
    lab.run(with(&[of_items("ann", &["staff"]), of_items("eve", &["staff"])])).await;
    lab.apply(&with_items(&["all"])).await;
    let run_id = lab.begin_as("incremental").await.expect("begun");
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default());
    assert_eq!(lab.state("eve").await, "enabled");
    let done = lab.run(with(&[of_items("ann", &["all"]), of_items("eve", &[])])).await;
    assert_eq!(done.parked, 1, "of the item that is gone nobody is left");
    assert_eq!(lab.user("ann").await.expect("there").sync_item, "all");
    assert_eq!(lab.state("eve").await, "enabled");
    decide(&lab, &done.approval_id, true, &[]).await.expect("approved");
    assert_eq!(lab.state("eve").await, "disabled");
}

pub async fn a_doubled_username_adds_neither_across_batches(lab: Fixture) {
    // FS-14, S-53
    lab.apply(&format!("{SETTINGS}\n[mail]\nnotify = {{ sync_name_doubled = [\"it@corp.example\"] }}\n")).await;
    lab.lead().await;
    lab.run(vec![person("old")]).await;
    let twin = |username: &str, twin_of: &str| SyncedUser { username: twin_of.into(), ..person(username) };
    let run_id = lab.begin().await.expect("begun");
    assert_eq!(lab.batch(&run_id, vec![person("ann"), person("old")]).await.added, 1);
    let second = lab.batch(&run_id, vec![twin("ann2", "ANN"), twin("old2", "old")]).await;
    assert_eq!((second.added, second.problems.len()), (0, 2));
    let first_again = lab.batch(&run_id, vec![person("ann"), person("old")]).await;
    assert_eq!((first_again.added, first_again.problems.len()), (0, 1), "whatever the order");
    let mails = lab.number("SELECT COUNT(*) FROM outbox WHERE kind = 'sync_name_doubled'").await;
    assert_eq!(mails, 2, "a name and day: ann, old");
    lab.finish(&run_id, true).await;
    assert_eq!(lab.user("ann").await.expect_err("neither").code(), Code::NotFound);
    assert_eq!(
        lab.user("old").await.expect("an existing one keeps its id").subject.expect("set").object_id,
        id_of("old")
    );
    lab.run(vec![person("ann"), person("old")]).await;
    assert_eq!(lab.state("ann").await, "enabled", "mended in the directory");
}

pub async fn an_account_made_again_gets_the_name_of_the_one_that_was_deleted_and_nothing_else(lab: Fixture) {
    // FS-14, S-45, S-58
    lab.with_settings().await;
    lab.run(vec![person("ann"), person("bob")]).await;
    let user_id = async || lab.user("ann").await.expect("there").user.expect("with a summary").user_id;
    let before = user_id().await;
    let again = SyncedUser { object_id: id_of("ann2"), ..person("ann") };
    let increment = async |users: Vec<SyncedUser>, gone: &[&str]| {
        let run_id = lab.begin_as("incremental").await.expect("begun");
        let left = left(gone.iter().map(|name| id_of(name)), How::Deleted);
        let reply = lab.send(&run_id, ApplyBatchRequest { users, left, ..ApplyBatchRequest::default() }).await;
        (reply, lab.finish(&run_id, true).await)
    };
    let pending = async || {
        let request = ListPendingRequest { epoch: lab.epoch(), directory: "corp".into(), limit: 10 };
        lab.services.sync.list_pending(Request::new(request)).await.expect("listed").into_inner().pending
    };
    // As long as the one before is there, it is nobody else's name.
    let (reply, end) = increment(vec![again.clone()], &[]).await;
    assert_eq!((reply.added, reply.problems.len(), end.pending), (0, 1, false));
    let (reply, end) = increment(vec![again.clone()], &["ann"]).await;
    assert_eq!((reply.added, reply.problems.len(), end.disabled, end.pending), (0, 1, 1, true));
    let listed = pending().await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].what, Some(What::ObjectId(id_of("ann2"))));
    let (reply, end) = increment(vec![again.clone()], &[]).await;
    assert_eq!((reply.added, reply.problems.len(), end.pending), (1, 0, false));
    let now = user_id().await;
    assert_ne!(now, before, "another account, another user");
    let (state, text) = lab.by_id(&id_of("ann")).await;
    assert_eq!((state.as_str(), text.contains("the username is that of")), ("removed", true), "{text}");
    assert_eq!(lab.by_id(&id_of("ann2")).await.0, "enabled");
    // Undeleted, the first one finds its name taken, and waits for it.
    let (reply, end) = increment(vec![person("ann")], &[]).await;
    assert_eq!((reply.problems.len(), end.pending), (1, false));
    assert_eq!((lab.by_id(&id_of("ann")).await.0.as_str(), user_id().await), ("removed", now));
    let (_, end) = increment(vec![SyncedUser { username: "anna".into(), ..again }], &[]).await;
    assert!(end.pending, "the name is free");
    increment(vec![person("ann")], &[]).await;
    assert_eq!((lab.by_id(&id_of("ann")).await.0.as_str(), user_id().await), ("enabled", before));
    assert!(pending().await.is_empty());
    // Who was out of service before is no freer for that: it is the end of a complete run that decides who has left (S-41).
    increment(vec![SyncedUser { disabled_in_directory: true, ..person("bob") }], &[]).await;
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let gone = left([id_of("bob")], How::Deleted);
    lab.send(&run_id, ApplyBatchRequest { left: gone, ..ApplyBatchRequest::default() }).await;
    let users = vec![SyncedUser { object_id: id_of("bob2"), ..person("bob") }];
    let reply = lab.send(&run_id, ApplyBatchRequest { users, ..ApplyBatchRequest::default() }).await;
    assert_eq!((reply.added, reply.problems.len()), (0, 1));
    lab.finish(&run_id, false).await;
    assert_eq!(lab.by_id(&id_of("bob")).await.0, "disabled");
    lab.assert_chain_is_whole().await;
}

pub async fn the_directory_disables_and_a_hand_wins(lab: Fixture) {
    // FS-26
    lab.with_settings().await;
    let off = |username: &str| SyncedUser { disabled_in_directory: true, ..person(username) };
    lab.run(vec![person("ann"), off("bob"), person("eve")]).await;
    assert_eq!(lab.state("bob").await, "disabled");
    lab.run(vec![off("ann"), person("bob"), person("eve")]).await;
    let ann = lab.user("ann").await.expect("there");
    assert!(ann.state_text.starts_with("by directory since"), "{}", ann.state_text);
    assert_eq!(lab.state("bob").await, "enabled");
    let by_hand = SetUserStateRequest {
        user_id: ann.user.expect("with a summary").user_id,
        state: "disabled".into(),
        actor: "admin:uid=0".into(),
        ..SetUserStateRequest::default()
    };
    lab.services.admin.set_user_state(Request::new(by_hand)).await.expect("disabled by hand too");
    lab.run(vec![person("ann"), person("bob"), person("eve")]).await;
    assert_eq!(lab.state("ann").await, "disabled");
    lab.apply(&SETTINGS.replace("[[sync_item]]", "[[sync_item]]\ndisabled_in_directory = \"keep\"")).await;
    lab.run(vec![person("ann"), off("bob"), person("eve")]).await;
    assert_eq!(lab.state("bob").await, "enabled", "the item says so");
    lab.assert_chain_is_whole().await;
}

pub async fn whoever_a_run_shuts_out_is_told_on_the_bus_at_once(lab: Fixture) {
    // S-22: a connection on which they are bound ends by it
    lab.with_settings().await;
    lab.run(vec![person("ann"), person("bob"), person("eve")]).await;
    let mut heard = lab.bus.subscribe(proto::subjects::USER_CHANGED).await.expect("subscribed");
    let mut told = async || {
        let message = timeout(Duration::from_secs(5), heard.next()).await.expect("in time");
        message.expect("a message").subject
    };
    let user_id = async |name: &str| lab.user(name).await.expect("there").user.expect("with a summary").user_id;
    let [ann, bob] = [user_id("ann").await, user_id("bob").await].map(|id| proto::subjects::user_changed(&id));
    let run_id = lab.begin().await.expect("a run begins");
    let off = SyncedUser { disabled_in_directory: true, ..person("ann") };
    lab.batch(&run_id, vec![off.clone(), person("bob"), person("eve")]).await;
    assert_eq!(told().await, ann, "before the run has ended");
    lab.finish(&run_id, true).await;
    lab.run_missing(vec![off, person("eve")], How::Deleted).await;
    assert_eq!(told().await, bob);
    assert_eq!(lab.by_id(&id_of("bob")).await.0, "disabled");
}
