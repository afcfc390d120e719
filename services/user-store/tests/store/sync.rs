//! What the sync leader writes (S-40 to S-42, S-60, FS-06 to FS-26).

use crate::fixture::{Fixture, SETTINGS, id_of, people, person};
use proto::user_store::{
    ApplyBatchRequest, BeginRunRequest, DecideApprovalRequest, FinishRunReply, FinishRunRequest, SetPhoneRequest,
    SetUserStateRequest, SyncStatusReply, SyncStatusRequest, SyncedGroup, SyncedUser, admin_server::Admin,
    commit_server::Commit, sync_server::Sync,
};
use tonic::{Code, Request};

async fn status(lab: &Fixture) -> SyncStatusReply {
    lab.services.admin.sync_status(Request::new(SyncStatusRequest {})).await.expect("listed").into_inner()
}

pub async fn a_leader_that_was_overtaken_writes_nothing(lab: Fixture) {
    // S-60
    lab.with_settings().await;
    let old = lab.epoch();
    let run_id = lab.begin("people").await.expect("begun");
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
        let begin = BeginRunRequest { epoch, sync_item: "people".into(), ..Default::default() };
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

pub async fn a_batch_applied_again_changes_nothing(lab: Fixture) {
    // S-01
    lab.with_settings().await;
    let run_id = lab.begin("people").await.expect("begun");
    let first = lab.batch(&run_id, people(300)).await;
    assert_eq!((first.added, first.changed, first.unchanged, first.problems.len()), (300, 0, 0, 0));
    let revision = lab.user("user007").await.expect("there").revision;
    let again = lab.batch(&run_id, people(300)).await;
    assert_eq!((again.added, again.changed, again.unchanged), (0, 0, 0));
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default());
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default(), "the answer was lost and is given again");
    let run_id = lab.begin("people").await.expect("begun");
    let mut renamed = people(300);
    renamed[7] = SyncedUser { username: "seven".into(), phone: "+49 40 7".into(), ..renamed[7].clone() };
    let next = lab.batch(&run_id, renamed).await;
    assert_eq!((next.added, next.changed, next.unchanged), (0, 1, 299));
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default());
    let seven = lab.user("seven").await.expect("renamed");
    assert_eq!((seven.phone.as_str(), seven.revision), ("+49 40 7", revision + 1));
    assert_eq!(seven.subject.expect("set").object_id, id_of("user007"), "a rename keeps the id");
    let event = &lab.events("user.changed").await[0];
    assert_eq!(event.detail, "username: \"user007\" -> \"seven\", phone: …56 -> …07");
    let run = &status(&lab).await.runs[0];
    assert_eq!((run.state.as_str(), run.changed, run.unchanged), ("done", 1, 299));
}

pub async fn another_phone_or_mail_is_told_to_the_address_before_and_stands_masked_in_the_audit(lab: Fixture) {
    // S-58
    let ann = lab.enrolled("ann").await;
    lab.mails().await;
    let before = person("ann");
    let sync = async |user: SyncedUser| {
        let run_id = lab.begin("people").await.expect("begun");
        lab.batch(&run_id, vec![user]).await;
        let mails = lab.mails().await;
        mails.into_iter().map(|mail| (mail.kind, mail.to.join(","))).collect::<Vec<_>>()
    };
    let told = |kind: &str, to: &str| (kind.to_owned(), to.to_owned());
    // Written in another way it is the same number.
    let epoch = lab.login_user(&ann.user_id).await.epoch;
    let same = SyncedUser { phone: "+49-30-123456".into(), ..before.clone() };
    assert_eq!(sync(same).await, []);
    assert_eq!(lab.login_user(&ann.user_id).await.epoch, epoch, "and ends nothing that is remembered");
    let phone = SyncedUser { phone: "+49 40 765498".into(), ..before.clone() };
    assert_eq!(sync(phone.clone()).await, [told("phone_changed", "ann@mail.example")]);
    let both = SyncedUser { phone: "+49 40 765411".into(), mail: "eve@mail.example".into(), ..before };
    let mails = sync(both.clone()).await;
    assert_eq!(mails, [told("phone_changed", "ann@mail.example"), told("updated", "ann@mail.example")]);
    let details: Vec<String> = lab.events("user.changed").await.into_iter().map(|event| event.detail).collect();
    assert_eq!(
        details[1..],
        ["phone: …56 -> …98", "mail: \"ann@mail.example\" -> \"eve@mail.example\", phone: …98 -> …11"]
    );
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
    assert_eq!(sync(SyncedUser { phone: "+49 40 5".into(), ..both }).await, []);
}

pub async fn an_incomplete_read_removes_nobody(lab: Fixture) {
    // S-41
    lab.with_settings().await;
    lab.run("people", people(20)).await;
    for seen in [0, 1, 19] {
        let run_id = lab.begin("people").await.expect("begun");
        lab.batch(&run_id, people(seen)).await;
        assert_eq!(lab.finish(&run_id, false).await, FinishRunReply::default());
        assert_eq!(status(&lab).await.runs[0].state, "incomplete");
        assert_eq!(status(&lab).await.runs[0].error, "size limit exceeded");
    }
    for user in people(20) {
        assert_eq!(lab.state(&user.username).await, "enabled");
    }
}

pub async fn five_leave_and_six_wait_while_newcomers_are_added(lab: Fixture) {
    // S-40
    lab.with_settings().await;
    lab.run("people", people(200)).await;
    assert_eq!(lab.run("people", people(195)).await, FinishRunReply { disabled: 5, ..FinishRunReply::default() });
    assert_eq!(lab.state("user199").await, "disabled");
    let mut left = people(189);
    left.push(person("newcomer"));
    let parked = lab.run("people", left.clone()).await;
    assert_eq!((parked.disabled, parked.removed, parked.parked), (0, 0, 6));
    assert_eq!(lab.state("user194").await, "enabled");
    assert_eq!(lab.state("newcomer").await, "enabled", "additions go on");
    let again = lab.run("people", left).await;
    assert_eq!(again.approval_id, parked.approval_id, "one open list an item");
    let status = status(&lab).await;
    assert_eq!(status.approvals.len(), 1);
    let names: Vec<String> = (189..195).map(|number| format!("user{number}")).collect();
    assert_eq!(status.approvals[0].usernames, names);
    assert_eq!(status.runs[0].state, "parked");
    // A share of the known counts too, from three users on.
    let few = "[[sync_item]]\nname = \"few\"\ndirectory = \"corp\"\nsource = { kind = \"domain\" }\n";
    lab.apply(&(SETTINGS.to_owned() + few)).await;
    lab.run("few", (0..10).map(|number| person(&format!("few{number}"))).collect()).await;
    let three = lab.run("few", (0..7).map(|number| person(&format!("few{number}"))).collect()).await;
    assert_eq!(three.parked, 3);
}

pub async fn administrators_hear_of_waiting_leavers_and_of_incomplete_reads(lab: Fixture) {
    // FS-07, FV-27
    lab.with_settings().await;
    let told = async || {
        let mails = lab.mails().await;
        mails.into_iter().map(|it| (it.kind, it.variables["detail"].clone())).collect::<Vec<_>>()
    };
    let fail = async || {
        let run_id = lab.begin("people").await.expect("begun");
        lab.finish(&run_id, false).await;
    };
    lab.run("people", people(200)).await;
    assert_eq!(told().await, []);
    let parked = lab.run("people", people(190)).await;
    lab.run("people", people(189)).await;
    let list = format!("people: 10 users, approval {}", parked.approval_id);
    assert_eq!(told().await, [("sync_approval".to_owned(), list)], "once a list");
    let failed = ("sync_failed".to_owned(), "people (directory corp)".to_owned());
    fail().await;
    fail().await;
    assert_eq!(told().await, std::slice::from_ref(&failed), "not every five minutes");
    lab.clock.advance(24 * 3_600_000);
    fail().await;
    assert_eq!(told().await, std::slice::from_ref(&failed), "it goes on");
    lab.run("people", people(200)).await;
    fail().await;
    assert_eq!(told().await, [failed], "it had been well in between");
}

async fn decide(lab: &Fixture, approval_id: &str, approve: bool, names: &[&str]) -> Result<u32, tonic::Status> {
    let request = DecideApprovalRequest {
        approval_id: approval_id.into(),
        approve,
        usernames: names.iter().map(|name| (*name).into()).collect(),
        actor: "admin:uid=0".into(),
        now_unix_ms: lab.clock.now_ms(),
    };
    Ok(lab.services.admin.decide_approval(Request::new(request)).await?.into_inner().applied)
}

pub async fn an_approval_is_evaluated_when_it_is_given(lab: Fixture) {
    // S-40: approve after the OU came back: nobody removed
    lab.with_settings().await;
    lab.run("people", people(20)).await;
    let parked = lab.run("people", people(10)).await;
    assert_eq!(parked.parked, 10);
    let run_id = lab.begin("people").await.expect("begun");
    lab.batch(&run_id, people(15)).await;
    lab.finish(&run_id, false).await;
    assert_eq!(decide(&lab, &parked.approval_id, true, &["USER019", "user012"]).await.expect("approved"), 1);
    assert_eq!(lab.state("user019").await, "disabled");
    assert_eq!(lab.state("user012").await, "enabled", "seen again since");
    assert_eq!(lab.state("user018").await, "enabled", "not named");
    let twice = decide(&lab, &parked.approval_id, true, &[]).await;
    assert_eq!(twice.expect_err("decided").code(), Code::FailedPrecondition);

    let parked = lab.run("people", people(10)).await;
    assert_eq!(parked.parked, 9);
    lab.run("people", people(19)).await;
    let settled = decide(&lab, &parked.approval_id, true, &[]).await;
    assert_eq!(settled.expect_err("settled by a later run").code(), Code::FailedPrecondition);

    let parked = lab.run("people", people(10)).await;
    assert_eq!(decide(&lab, &parked.approval_id, false, &[]).await.expect("refused"), 0);
    assert_eq!(lab.state("user018").await, "enabled");
    let parked = lab.run("people", people(10)).await;
    lab.clock.advance(7 * 24 * 3_600_000);
    let late = decide(&lab, &parked.approval_id, true, &[]).await;
    assert_eq!(late.expect_err("expired").code(), Code::FailedPrecondition);
    let renewed = lab.run("people", people(10)).await;
    assert_ne!(renewed.approval_id, parked.approval_id);
    assert_eq!(decide(&lab, &renewed.approval_id, true, &[]).await.expect("approved"), 9);
    assert_eq!(decide(&lab, "none", true, &[]).await.expect_err("none").code(), Code::NotFound);
    assert_eq!(lab.events("sync.approval").await.len(), 3);
    lab.assert_chain_is_whole().await;
}

pub async fn nobody_seen_at_all_waits_for_approval(lab: Fixture) {
    // S-42
    lab.with_settings().await;
    assert_eq!(lab.run("people", vec![]).await, FinishRunReply::default(), "none known, none missed");
    lab.run("people", vec![person("ann")]).await;
    assert_eq!(lab.run("people", vec![]).await.parked, 1);
    assert_eq!(lab.state("ann").await, "enabled");
}

pub async fn leavers_are_disabled_removed_or_kept_and_come_back(lab: Fixture) {
    // FS-25, S-45
    for (leavers, gone) in [("disable", "disabled"), ("remove", "removed"), ("keep", "enabled")] {
        lab.apply(&SETTINGS.replace("[[sync_item]]", &format!("[[sync_item]]\nleavers = \"{leavers}\""))).await;
        lab.lead().await;
        let (ann, bob) = (person(&format!("ann-{leavers}")), person(&format!("bob-{leavers}")));
        lab.run("people", vec![ann.clone(), bob.clone(), person("stays")]).await;
        let by_hand = SetUserStateRequest {
            user_id: lab.user(&bob.username).await.expect("there").user.expect("with a summary").user_id,
            state: "disabled".into(),
            actor: "admin:uid=0".into(),
            reason: "on leave".into(),
            ..SetUserStateRequest::default()
        };
        lab.services.admin.set_user_state(Request::new(by_hand)).await.expect("disabled");
        let left = lab.run("people", vec![person("stays")]).await;
        assert_eq!(
            (left.disabled, left.removed),
            match leavers {
                "disable" => (1, 0),
                "remove" => (0, 2),
                _ => (0, 0),
            },
            "{leavers}"
        );
        let state = async |user: &SyncedUser| lab.by_id(&user.object_id).await.0;
        assert_eq!(state(&ann).await, gone, "{leavers}");
        lab.run("people", vec![ann.clone(), bob.clone(), person("stays")]).await;
        assert_eq!(state(&ann).await, "enabled", "{leavers}");
        let (bob_state, bob_text) = lab.by_id(&bob.object_id).await;
        assert_eq!(bob_state, "disabled", "{leavers}: by hand it stays");
        assert!(bob_text.starts_with("by admin:uid=0") && bob_text.ends_with("on leave"), "{bob_text}");
        lab.run("people", vec![person("stays"), ann, bob]).await;
    }
}

pub async fn the_first_item_owns_a_user(lab: Fixture) {
    // FS-08, FS-10
    let item = |name: &str, state: &str| {
        format!(
            "[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nstate = \"{state}\"\nsource = {{ kind = \"domain\" }}\n"
        )
    };
    let directory = SETTINGS.split("[[sync_item]]").next().expect("before the item").to_owned();
    lab.apply(&(directory.clone() + &item("staff", "on") + &item("all", "on"))).await;
    lab.lead().await;
    lab.run("all", vec![person("ann"), person("bob")]).await;
    lab.run("staff", vec![person("ann")]).await;
    assert_eq!(lab.user("ann").await.expect("there").sync_item, "staff", "an earlier item takes over");
    let run_id = lab.begin("all").await.expect("begun");
    let reply = lab.batch(&run_id, vec![person("ann"), person("bob")]).await;
    assert_eq!(reply.problems, ["ann: belongs to the earlier item staff"]);
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default());
    assert_eq!(lab.user("ann").await.expect("there").sync_item, "staff");
    lab.apply(&(directory + &item("staff", "off") + &item("all", "on"))).await;
    assert_eq!(lab.begin("staff").await.expect_err("off").code(), Code::NotFound);
    assert_eq!(lab.begin("none").await.expect_err("none").code(), Code::NotFound);
    lab.run("all", vec![person("ann"), person("bob")]).await;
    assert_eq!(lab.user("ann").await.expect("there").sync_item, "all");
}

pub async fn the_users_of_a_removed_item_go_to_the_next_one_or_leave_under_its_rule(lab: Fixture) {
    // FS-10
    let item = |name: &str| {
        format!("[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\n")
    };
    let directory = SETTINGS.split("[[sync_item]]").next().expect("before the item").to_owned();
    lab.apply(&(directory.clone() + &item("staff") + &item("all"))).await;
    lab.lead().await;
    lab.run("staff", vec![person("ann"), person("eve")]).await;
    lab.run("all", people(30)).await;
    lab.apply(&(directory.clone() + &item("all"))).await;
    assert_eq!(lab.user("eve").await.expect("there").sync_item, "all");
    let mut rest = people(30);
    rest.push(person("ann"));
    assert_eq!(lab.run("all", rest).await.disabled, 1);
    assert_eq!(lab.state("ann").await, "enabled");
    assert_eq!(lab.state("eve").await, "disabled");
    lab.apply(&directory).await;
    assert_eq!(lab.state("ann").await, "enabled", "without any item nobody is judged");
}

pub async fn a_doubled_username_adds_neither_across_batches(lab: Fixture) {
    // FS-14, S-53
    lab.with_settings().await;
    lab.run("people", vec![person("old")]).await;
    let twin = |username: &str, twin_of: &str| SyncedUser { username: twin_of.into(), ..person(username) };
    let run_id = lab.begin("people").await.expect("begun");
    assert_eq!(lab.batch(&run_id, vec![person("ann"), person("old")]).await.added, 1);
    let second = lab.batch(&run_id, vec![twin("ann2", "ANN"), twin("old2", "old")]).await;
    assert_eq!((second.added, second.problems.len()), (0, 2));
    let first_again = lab.batch(&run_id, vec![person("ann"), person("old")]).await;
    assert_eq!((first_again.added, first_again.problems.len()), (0, 1), "whatever the order");
    lab.finish(&run_id, true).await;
    assert_eq!(lab.user("ann").await.expect_err("neither").code(), Code::NotFound);
    assert_eq!(
        lab.user("old").await.expect("an existing one keeps its id").subject.expect("set").object_id,
        id_of("old")
    );
    lab.run("people", vec![person("ann"), person("old")]).await;
    assert_eq!(lab.state("ann").await, "enabled", "mended in the directory");
}

pub async fn the_directory_disables_and_a_hand_wins(lab: Fixture) {
    // FS-26
    lab.with_settings().await;
    let off = |username: &str| SyncedUser { disabled_in_directory: true, ..person(username) };
    lab.run("people", vec![person("ann"), off("bob"), person("eve")]).await;
    assert_eq!(lab.state("bob").await, "disabled");
    lab.run("people", vec![off("ann"), person("bob"), person("eve")]).await;
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
    lab.run("people", vec![person("ann"), person("bob"), person("eve")]).await;
    assert_eq!(lab.state("ann").await, "disabled");
    lab.assert_chain_is_whole().await;
}

pub async fn groups_show_their_members_whatever_is_read_first(lab: Fixture) {
    lab.with_settings().await;
    let group = |name: &str, members: &[&str]| SyncedGroup {
        object_id: id_of(&format!("group {name}")),
        distinguished_name: format!("cn={name},ou=groups,dc=corp,dc=example"),
        name: name.into(),
        member_dns: members.iter().map(|name| format!("UID={name}, ou=People,dc=corp,dc=example")).collect(),
    };
    let run = async |groups: Vec<SyncedGroup>| {
        let run_id = lab.begin("people").await.expect("begun");
        let request = ApplyBatchRequest { epoch: lab.epoch(), run_id: run_id.clone(), groups, ..Default::default() };
        lab.services.sync.apply_batch(Request::new(request)).await.expect("applied");
        lab.batch(&run_id, vec![person("ann"), person("bob")]).await;
        lab.finish(&run_id, true).await;
    };
    let groups = async |name: &str| lab.user(name).await.expect("there").groups;
    run(vec![group("vpn", &["ann", "bob"]), group("admins", &["ann"])]).await;
    assert_eq!(groups("ann").await, ["admins", "vpn"]);
    assert_eq!(groups("bob").await, ["vpn"]);
    run(vec![group("vpn", &["bob"])]).await;
    assert_eq!(groups("ann").await, [""; 0], "left one, the other is gone");
    assert_eq!(groups("bob").await, ["vpn"]);
}
