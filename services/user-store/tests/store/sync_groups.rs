//! Whose users are by their groups, and what changes of groups and containers make doubtful (FS-08, FS-21, S-16, S-46, S-52).

use crate::fixture::{Fixture, id_of, left, people, person};
use crate::sync::{MINUTE_MS, decide, of_items, status, with_items};
use proto::user_store::{
    ApplyBatchRequest, BeginRunRequest, DecideApprovalRequest, FinishRunReply, ListPendingRequest, SyncChangesRequest,
    SyncedContainer, SyncedGroup, SyncedUser, admin_server::Admin, left_object::How, pending::What, sync_server::Sync,
};
use std::time::{Duration, Instant};
use tonic::{Code, Request};

pub fn group(name: &str, members: &[&str]) -> SyncedGroup {
    SyncedGroup {
        object_id: id_of(&format!("group {name}")),
        distinguished_name: group_dn(name),
        name: name.into(),
        sid: String::new(),
        members: members.iter().map(|member| (*member).to_owned()).collect(),
    }
}

pub fn group_dn(name: &str) -> String {
    format!("cn={name},ou=groups,dc=corp,dc=example")
}

fn dn(username: &str) -> String {
    person(username).distinguished_name
}

fn groups(groups: Vec<SyncedGroup>) -> ApplyBatchRequest {
    ApplyBatchRequest { groups, ..ApplyBatchRequest::default() }
}

/// Everything listed, as kind and value, with the id to settle it.
async fn pending(lab: &Fixture) -> Vec<(String, String)> {
    let request = ListPendingRequest { epoch: lab.epoch(), directory: "corp".into(), limit: 1000 };
    let listed = lab.services.sync.list_pending(Request::new(request)).await.expect("listed").into_inner().pending;
    let mut found = Vec::new();
    for it in listed {
        let what = match it.what.expect("something") {
            What::ObjectId(id) => format!("id {id}"),
            What::DistinguishedName(name) => format!("dn {name}"),
            What::Below(name) => format!("below {name}"),
            What::Sid(sid) => format!("sid {sid}"),
        };
        found.push((what, it.pending_id));
    }
    found.sort();
    found
}

/// What is to be read again.
pub async fn listed(lab: &Fixture) -> Vec<String> {
    pending(lab).await.into_iter().map(|(what, _)| what).collect()
}

const STAFF: &str = "staff source = { kind = \"group\", dn = \"cn=staff,ou=groups,dc=corp,dc=example\" }";

pub async fn members_of_a_group_item_are_its_users_and_nobody_else(lab: Fixture) {
    // FS-08, FS-21, S-52
    lab.apply(&with_items(&[STAFF, "all"])).await;
    lab.lead().await;
    let run_id = lab.begin().await.expect("begun");
    let read = vec![
        group("staff", &[&dn("ann"), &id_of("bob"), &group_dn("inner")]),
        group("inner", &[&dn("cat"), &group_dn("staff")]),
    ];
    lab.send(&run_id, groups(read)).await;
    let all = ["ann", "bob", "cat"].map(|name| of_items(name, &["staff", "all"]));
    let mut users = all.to_vec();
    users.push(of_items("dan", &["staff", "all"]));
    users.push(of_items("eve", &["staff"]));
    let reply = lab.batch(&run_id, users).await;
    assert_eq!((reply.added, reply.problems.len()), (4, 0), "eve is of no item");
    let item = async |name: &str| lab.user(name).await.expect("there").sync_item;
    for (name, owner) in [("ann", "staff"), ("bob", "staff"), ("cat", "staff"), ("dan", "all")] {
        assert_eq!(item(name).await, owner, "{name}");
    }
    assert_eq!(lab.user("eve").await.expect_err("not added").code(), Code::NotFound);
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default());
    let listed = listed(&lab).await;
    assert_eq!(listed, [""; 0], "all of them were read after their groups");
}

pub async fn who_comes_into_a_group_is_read_and_who_goes_is_decided_at_once(lab: Fixture) {
    // FS-08, S-40
    lab.apply(&with_items(&[STAFF])).await;
    lab.lead().await;
    let run_id = lab.begin().await.expect("begun");
    let names: Vec<String> = (0..100).map(|number| format!("user{number:03}")).collect();
    let members: Vec<String> = names.iter().map(|name| dn(name)).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    lab.send(&run_id, groups(vec![group("staff", &members)])).await;
    assert_eq!(pending(&lab).await.len(), 100);
    lab.batch(&run_id, names.iter().map(|name| of_items(name, &["staff"])).collect()).await;
    lab.finish(&run_id, true).await;
    assert_eq!(listed(&lab).await, [""; 0]);

    // Incremental: one unknown comes, one known goes.
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let mut now = members[1..].to_vec();
    let newcomers = [dn("newcomer"), id_of("other"), "S-1-5-21-7".to_owned()];
    now.extend(newcomers.iter().map(String::as_str));
    lab.send(&run_id, groups(vec![group("staff", &now)])).await;
    let found = listed(&lab).await;
    let newcomer = format!("dn {}", dn("newcomer"));
    assert_eq!(found, [newcomer.as_str(), &format!("id {}", id_of("other")), "sid S-1-5-21-7"]);
    lab.send(&run_id, groups(vec![group("staff", &now)])).await;
    assert_eq!(listed(&lab).await, found, "S-01");
    assert_eq!(lab.state("user000").await, "enabled", "nobody leaves before the end");
    // A new leader sees the same list; what it reads it settles.
    lab.lead().await;
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let settled = pending(&lab).await.into_iter().map(|(_, id)| id).collect();
    let users = vec![of_items("newcomer", &["staff"])];
    let reply = lab.send(&run_id, ApplyBatchRequest { users, settled, ..Default::default() }).await;
    assert_eq!((reply.added, listed(&lab).await), (1, vec![]));
    assert_eq!(lab.finish(&run_id, true).await.disabled, 1);
    assert_eq!(lab.state("user000").await, "disabled");
    assert!(
        lab.user("user000").await.expect("there").state_text.ends_with("no longer in staff, nor in any other item")
    );

    // And back: decided when it is read again.
    let run_id = lab.begin_as("incremental").await.expect("begun");
    now.push(members[0]);
    lab.send(&run_id, groups(vec![group("staff", &now)])).await;
    assert_eq!(listed(&lab).await, [format!("id {}", id_of("user000"))]);
    lab.batch(&run_id, vec![of_items("user000", &["staff"])]).await;
    lab.finish(&run_id, true).await;
    assert_eq!(lab.state("user000").await, "enabled");
    assert_eq!(listed(&lab).await, [""; 0], "read, so it need not be settled");
}

pub async fn a_group_in_a_group_brings_and_takes_its_members(lab: Fixture) {
    // S-52, B-74
    lab.apply(&with_items(&[
        STAFF,
        "flat source = { kind = \"group\", dn = \"cn=staff,ou=groups,dc=corp,dc=example\", nested = false }",
    ]))
    .await;
    lab.lead().await;
    let run_id = lab.begin().await.expect("begun");
    let nested = || {
        vec![
            group("staff", &[&group_dn("middle"), &dn("eve")]),
            group("middle", &[&group_dn("inner")]),
            group("inner", &[&dn("ann"), &group_dn("staff")]),
        ]
    };
    lab.send(&run_id, groups(nested())).await;
    let both = |name: &str| of_items(name, &["staff", "flat"]);
    lab.batch(&run_id, vec![both("ann"), both("eve")]).await;
    lab.finish(&run_id, true).await;
    assert_eq!(lab.user("ann").await.expect("there").sync_item, "staff");
    let run_id = lab.begin_as("incremental").await.expect("begun");
    lab.send(&run_id, groups(vec![group("middle", &[])])).await;
    assert_eq!(lab.finish(&run_id, true).await.disabled, 1);
    assert_eq!((lab.state("ann").await.as_str(), lab.state("eve").await.as_str()), ("disabled", "enabled"));
    // Gone for good, the group takes all with it; they leave under the guard.
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let gone = left([id_of("group staff")], How::Deleted);
    lab.send(&run_id, ApplyBatchRequest { left: gone, ..Default::default() }).await;
    let parked = lab.finish(&run_id, true).await;
    assert_eq!((parked.disabled, parked.parked), (0, 1), "an item that has nobody left waits (S-42)");
    assert_eq!(lab.state("eve").await, "enabled");
}

pub async fn groups_that_lie_deeper_than_they_are_followed_make_a_run_incomplete(lab: Fixture) {
    // FD-16, S-41, B-74
    lab.apply(&with_items(&[
        "all",
        "outermost source = { kind = \"group\", dn = \"cn=g00,ou=groups,dc=corp,dc=example\" }",
    ]))
    .await;
    lab.lead().await;
    let run = async |depth: usize, gone: &[&str]| {
        let chain = (0..depth).map(|level| match level + 1 == depth {
            true => group(&format!("g{level:02}"), &[&dn("ann")]),
            false => group(&format!("g{level:02}"), &[&group_dn(&format!("g{:02}", level + 1))]),
        });
        let run_id = lab.begin_as("incremental").await.expect("begun");
        lab.send(&run_id, groups(chain.collect())).await;
        let users = ["ann", "bob"].into_iter().filter(|name| !gone.contains(name));
        lab.batch(&run_id, users.map(|name| of_items(name, &["outermost", "all"])).collect()).await;
        let left = left(gone.iter().map(|name| id_of(name)), How::Deleted);
        lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        let said = lab.finish(&run_id, true).await.incomplete;
        let run = status(&lab).await.runs.remove(0);
        assert_eq!(said, run.error, "whoever reads hears it, too");
        (run.state, run.error, run.disabled)
    };
    assert_eq!(run(32, &[]).await, ("done".into(), String::new(), 0));
    let why = "groups lie in groups more than 32 deep; one of them is cn=g00,ou=groups,dc=corp,dc=example";
    assert_eq!(run(33, &["bob"]).await, ("incomplete".into(), why.into(), 0), "nobody leaves on what is not known");
    assert_eq!(lab.state("bob").await, "enabled");
    assert_eq!(run(3, &["bob"]).await, ("done".into(), String::new(), 1));
}

pub async fn a_chain_of_a_hundred_thousand_groups_makes_a_run_incomplete_and_no_more(lab: Fixture) {
    // B-74, S-52
    const GROUPS: usize = 100_000;
    let name = |number: usize| format!("g{number:06}");
    let outermost = format!("outermost source = {{ kind = \"group\", dn = \"{}\" }}", group_dn(&name(0)));
    lab.apply(&with_items(&[&outermost])).await;
    lab.lead().await;
    let began = Instant::now();
    let run_id = lab.begin_as("preview").await.expect("begun");
    let chain: Vec<SyncedGroup> = (0..GROUPS)
        .map(|number| match number + 1 == GROUPS {
            // The innermost holds somebody, and the outermost: the chain is a circle, too.
            true => group(&name(number), &[&dn("ann"), &group_dn(&name(0))]),
            false => group(&name(number), &[&group_dn(&name(number + 1))]),
        })
        .collect();
    for part in chain.chunks(5_000) {
        lab.send(&run_id, groups(part.to_vec())).await;
    }
    lab.batch(&run_id, vec![of_items("ann", &["outermost"])]).await;
    let ended = lab.finish(&run_id, true).await;
    assert!(ended.incomplete.contains("groups lie in groups more than 32 deep"), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(300), "{:?}", began.elapsed());
    assert_eq!(lab.number("SELECT COUNT(*) FROM user_groups").await, 0, "a preview keeps none");
}

pub async fn a_group_that_is_absent_once_is_still_there(lab: Fixture) {
    // S-43
    lab.apply(&with_items(&[STAFF])).await;
    lab.lead().await;
    let mut runs = Vec::new();
    for sweep in 0..3 {
        lab.clock.advance(MINUTE_MS);
        let run_id = lab.begin().await.expect("begun");
        if sweep > 0 {
            lab.batch(&run_id, vec![of_items("ann", &["staff"]), of_items("bob", &["staff"])]).await;
        }
        if sweep == 0 {
            lab.send(&run_id, groups(vec![group("staff", &[&dn("ann"), &dn("bob")])])).await;
        } else {
            assert_eq!(lab.unseen(&run_id).await, [id_of("group staff")]);
            let left = left([id_of("group staff")], How::Absent);
            lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        }
        lab.batch(&run_id, vec![of_items("ann", &["staff"]), of_items("bob", &["staff"])]).await;
        lab.finish(&run_id, true).await;
        runs.push(lab.user("ann").await.expect("there").groups.len());
    }
    assert_eq!(runs, [1, 1, 0]);
    let status = status(&lab).await;
    assert_eq!(status.approvals.first().map(|it| it.users), Some(2), "S-42: nobody is left in the item");
}

pub async fn the_primary_group_counts_though_it_lists_nobody(lab: Fixture) {
    // S-52, FB-06: by its SID, too
    let domain = SyncedGroup { sid: "S-1-5-21-1-513".into(), ..group("domain users", &[]) };
    lab.apply(&with_items(&["staff source = { kind = \"group\", dn = \"cn=all,ou=groups,dc=corp,dc=example\" }"]))
        .await;
    lab.lead().await;
    let user = |name: &str| SyncedUser {
        sid: format!("S-1-5-21-1-{}", name.len() + 1000),
        primary_group_sid: "s-1-5-21-1-513".into(),
        ..of_items(name, &["staff"])
    };
    let run_id = lab.begin().await.expect("begun");
    lab.send(&run_id, groups(vec![group("all", &["S-1-5-21-1-513"]), domain.clone()])).await;
    assert_eq!(lab.batch(&run_id, vec![user("ann"), of_items("eve", &["staff"])]).await.added, 1);
    lab.finish(&run_id, true).await;
    let ann = lab.user("ann").await.expect("there");
    assert_eq!(ann.groups, ["domain users"]);
    let mut facts = lab.login_user(&ann.user.expect("with a summary").user_id).await.groups;
    facts.sort();
    let mut expected = vec![id_of("group all"), id_of("group domain users"), group_dn("all"), group_dn("domain users")];
    expected.push("S-1-5-21-1-513".into());
    expected.sort();
    assert_eq!(facts, expected);
    let run_id = lab.begin_as("incremental").await.expect("begun");
    lab.send(&run_id, groups(vec![group("all", &[])])).await;
    assert_eq!(lab.finish(&run_id, true).await.parked, 1, "the last of the item waits (S-42)");
}

pub async fn a_container_that_moved_is_read_again_with_all_below(lab: Fixture) {
    // S-16
    lab.with_settings().await;
    let container = |name: &str, dn: &str| SyncedContainer { object_id: id_of(name), distinguished_name: dn.into() };
    let send = async |mode: &str, containers: Vec<SyncedContainer>| {
        let run_id = lab.begin_as(mode).await.expect("begun");
        lab.send(&run_id, ApplyBatchRequest { containers, ..Default::default() }).await;
        lab.finish(&run_id, true).await;
        listed(&lab).await
    };
    assert_eq!(
        send("full", vec![container("ou", "OU=Sales,DC=corp"), container("other", "ou=other,dc=corp")]).await,
        [""; 0]
    );
    assert_eq!(send("incremental", vec![container("ou", "ou=sales, dc=CORP")]).await, [""; 0], "the same name");
    assert_eq!(
        send("incremental", vec![container("ou", "OU=Sales,OU=Old,DC=corp")]).await,
        ["below OU=Sales,OU=Old,DC=corp"]
    );
    let came = send("incremental", vec![container("new", "ou=new,dc=corp")]).await;
    assert_eq!(came, ["below OU=Sales,OU=Old,DC=corp", "below ou=new,dc=corp"], "it may have come from elsewhere");
    // A complete full run has read all that was doubtful when it began.
    assert_eq!(send("full", vec![container("ou", "OU=Sales,OU=Old,DC=corp")]).await, [""; 0]);
}

pub async fn who_was_below_a_container_that_went_out_of_sight_is_looked_for_by_id(lab: Fixture) {
    // S-16: a move beyond the base tells of the container alone
    lab.with_settings().await;
    let run_id = lab.begin_as("full").await.expect("begun");
    let name = |name: &str| format!("uid={name},ou=50%_off!,dc=corp,dc=example");
    let below = |who: &str| SyncedUser { distinguished_name: name(who), ..person(who) };
    let container =
        SyncedContainer { object_id: id_of("ou"), distinguished_name: "OU=50%_off!,DC=corp,DC=example".into() };
    let users = vec![below("ann"), below("bob"), person("eve")];
    lab.send(&run_id, ApplyBatchRequest { users, containers: vec![container], ..Default::default() }).await;
    lab.finish(&run_id, true).await;
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let left = left([id_of("ou")], How::Outside);
    lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
    let mut expected = [id_of("ann"), id_of("bob")].map(|id| format!("id {id}"));
    expected.sort();
    assert_eq!(listed(&lab).await, expected);
}

pub async fn what_is_listed_again_is_not_settled_by_who_read_it_before(lab: Fixture) {
    lab.apply(&with_items(&[STAFF])).await;
    lab.lead().await;
    let run_id = lab.begin().await.expect("begun");
    lab.send(&run_id, groups(vec![group("staff", &[&dn("ann")])])).await;
    let settled: Vec<String> = pending(&lab).await.into_iter().map(|(_, id)| id).collect();
    // Ann goes and comes while somebody reads her.
    lab.send(&run_id, groups(vec![group("staff", &[])])).await;
    lab.send(&run_id, groups(vec![group("staff", &[&dn("ann")])])).await;
    lab.send(&run_id, ApplyBatchRequest { settled, ..Default::default() }).await;
    assert_eq!(listed(&lab).await, [format!("dn {}", dn("ann"))]);
}

pub async fn six_in_an_exempt_group_are_challenged_until_somebody_approves(lab: Fixture) {
    // S-46
    let policy = format!(
        "[[policy]]\nname = \"robots\"\nwhen = {{ groups = [\"{}\"] }}\nthen = {{ exempt = true }}\n",
        group_dn("robots")
    );
    lab.apply(&(with_items(&["all"]) + &policy)).await;
    lab.lead().await;
    let everybody: Vec<SyncedUser> = people(200).into_iter().map(|user| of_items(&user.username, &["all"])).collect();
    lab.run(everybody.clone()).await;
    let user_id = async |name: &str| lab.user(name).await.expect("there").user.expect("with a summary").user_id;
    let exempt = async |name: &str| !lab.login_user(&user_id(name).await).await.groups.is_empty();
    let members: Vec<String> = everybody.iter().map(|user| user.distinguished_name.clone()).collect();
    let put = async |count: usize| {
        let run_id = lab.begin_as("incremental").await.expect("begun");
        let members: Vec<&str> = members[..count].iter().map(String::as_str).collect();
        lab.send(&run_id, groups(vec![group("robots", &members)])).await;
        assert!(!exempt(&format!("user{:03}", count - 1)).await, "not before the end of the run");
        lab.finish(&run_id, true).await
    };
    assert_eq!(put(5).await, FinishRunReply::default());
    assert!(exempt("user004").await);
    let parked = put(11).await;
    assert_eq!(parked.parked, 6);
    assert!(exempt("user004").await && !exempt("user005").await && !exempt("user010").await);
    let without_reason = async |usernames: &[&str]| {
        let request = DecideApprovalRequest {
            approval_id: parked.approval_id.clone(),
            approve: true,
            usernames: usernames.iter().map(|name| (*name).into()).collect(),
            actor: "cli:root".into(),
            ..DecideApprovalRequest::default()
        };
        lab.services.admin.decide_approval(Request::new(request)).await.expect_err("nobody said why").code()
    };
    assert_eq!(without_reason(&[]).await, Code::InvalidArgument);
    assert_eq!(without_reason(&["user005"]).await, Code::InvalidArgument);
    assert!(!exempt("user005").await);
    assert_eq!(decide(&lab, &parked.approval_id, true, &["user005"]).await.expect("approved"), 1);
    assert!(exempt("user005").await && !exempt("user010").await);
    let reasons = lab.events("sync.approval_reason").await;
    assert_eq!(reasons.len(), 1, "a refused one leaves nothing: {reasons:?}");
    assert_eq!(reasons[0].detail, format!("{}: some (as agreed)", parked.approval_id));
    // Members named in another way are the same members.
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let by_id: Vec<String> = everybody[..5].iter().map(|user| user.object_id.clone()).collect();
    lab.send(&run_id, groups(vec![group("robots", &by_id.iter().map(String::as_str).collect::<Vec<_>>())])).await;
    assert!(exempt("user004").await);
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default());
    // Out of it the second factor is asked at once.
    let run_id = lab.begin_as("incremental").await.expect("begun");
    lab.send(&run_id, groups(vec![group("robots", &[])])).await;
    assert!(!exempt("user004").await);
}

pub async fn what_a_group_made_of_a_user_is_not_taken_back_by_a_change_of_their_own_in_the_same_batch(lab: Fixture) {
    // FS-25, S-46
    let policy = format!(
        "[[policy]]\nname = \"robots\"\nwhen = {{ groups = [\"{}\"] }}\nthen = {{ exempt = true }}\n",
        group_dn("robots")
    );
    lab.apply(&(with_items(&[STAFF]) + &policy)).await;
    lab.lead().await;
    let everybody: Vec<SyncedUser> = people(200).into_iter().map(|user| of_items(&user.username, &["staff"])).collect();
    let names: Vec<&str> = everybody.iter().map(|user| user.distinguished_name.as_str()).collect();
    let run_id = lab.begin().await.expect("begun");
    let staff = vec![group("staff", &names)];
    lab.send(&run_id, ApplyBatchRequest { groups: staff, users: everybody.clone(), ..Default::default() }).await;
    lab.finish(&run_id, true).await;
    let changed = |user: &SyncedUser| SyncedUser { description: "changed".into(), ..user.clone() };
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let (staff, users) = (vec![group("staff", &names[1..])], vec![changed(&everybody[0])]);
    lab.send(&run_id, ApplyBatchRequest { groups: staff, users, ..Default::default() }).await;
    assert_eq!(lab.finish(&run_id, true).await.disabled, 1, "out of the group and changed at once");
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let robots = vec![group("robots", &names[1..7])];
    let users = everybody[1..7].iter().map(changed).collect();
    lab.send(&run_id, ApplyBatchRequest { groups: robots, users, ..Default::default() }).await;
    assert_eq!(lab.finish(&run_id, true).await.parked, 6, "newly exempt and changed at once");
    let user_id = lab.user("user001").await.expect("there").user.expect("with a summary").user_id;
    assert!(!lab.login_user(&user_id).await.groups.contains(&id_of("group robots")));
}

pub async fn who_has_no_name_that_can_be_used_is_disabled_and_leaves_all_the_same(lab: Fixture) {
    // FS-14, FS-25, FS-26
    lab.apply(&with_items(&["all"])).await;
    lab.lead().await;
    let everybody = ["ann", "bob", "eve", "zoe"].map(|name| of_items(name, &["all"]));
    lab.run(everybody.into()).await;
    let state = async |name: &str| lab.user(name).await.expect("there").user.expect("with a summary").state;
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let nameless = SyncedUser { username: String::new(), disabled_in_directory: true, ..of_items("ann", &["all"]) };
    let outside = SyncedUser { username: String::new(), ..of_items("bob", &[]) };
    let doubled = SyncedUser { username: "zoe".into(), disabled_in_directory: true, ..of_items("eve", &["all"]) };
    let reply = lab.batch(&run_id, vec![nameless, outside, doubled]).await;
    assert_eq!(reply.problems.len(), 3, "{:?}", reply.problems);
    assert_eq!((state("ann").await.as_str(), state("eve").await.as_str()), ("disabled", "disabled"));
    assert_eq!(lab.finish(&run_id, true).await.disabled, 1);
    assert_eq!((state("bob").await.as_str(), state("zoe").await.as_str()), ("disabled", "enabled"));
}

pub async fn many_small_runs_of_a_followed_directory_are_no_way_around_the_guard(lab: Fixture) {
    // S-40
    lab.apply(&with_items(&["all"])).await;
    lab.lead().await;
    let everybody: Vec<SyncedUser> = people(200).into_iter().map(|user| of_items(&user.username, &["all"])).collect();
    lab.run(everybody.clone()).await;
    let burst = async |gone: &[SyncedUser]| {
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: "corp".into(),
            mode: "incremental".into(),
            trigger: "follow".into(),
            now_unix_ms: lab.clock.now_ms(),
            ..BeginRunRequest::default()
        };
        let run_id = lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id;
        let left = left(gone.iter().map(|user| user.object_id.clone()), How::Deleted);
        lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        lab.finish(&run_id, true).await
    };
    assert_eq!(burst(&everybody[..3]).await.disabled, 3);
    assert_eq!(burst(&everybody[3..5]).await.disabled, 2, "five are few");
    assert_eq!(burst(&everybody[5..6]).await.parked, 1, "the sixth within the hour waits");
}

pub async fn small_runs_of_a_followed_directory_are_one_record_that_the_guard_counts_whole(lab: Fixture) {
    // FS-13, S-40
    lab.apply(&with_items(&["all"])).await;
    lab.lead().await;
    let everybody: Vec<SyncedUser> = people(200).into_iter().map(|user| of_items(&user.username, &["all"])).collect();
    lab.run(everybody.clone()).await;
    let burst = async |users: Vec<SyncedUser>, gone: &[SyncedUser]| {
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: "corp".into(),
            mode: "incremental".into(),
            trigger: "follow".into(),
            now_unix_ms: lab.clock.now_ms(),
            ..BeginRunRequest::default()
        };
        let run_id = lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id;
        let left = left(gone.iter().map(|user| user.object_id.clone()), How::Deleted);
        lab.send(&run_id, ApplyBatchRequest { users, left, ..Default::default() }).await;
        (run_id.clone(), lab.finish(&run_id, true).await)
    };
    let shown = async || {
        let runs = status(&lab).await.runs.into_iter().filter(|run| run.trigger == "follow");
        runs.map(|run| (run.run_id, run.added, run.disabled)).collect::<Vec<_>>()
    };
    let (first, end) = burst(vec![of_items("new1", &["all"])], &everybody[..1]).await;
    assert_eq!((end.disabled, end.run_id.as_str()), (1, ""));
    for number in 2..=12 {
        lab.clock.advance(54_000);
        let (own, end) = burst(vec![of_items(&format!("new{number}"), &["all"])], &[]).await;
        assert!(own != first && end.run_id == first, "{number}: {end:?}");
    }
    assert_eq!(shown().await, [(first.clone(), 12, 1)]);
    let request = SyncChangesRequest { run_id: first.clone(), after: 0, limit: 100 };
    let changes = lab.services.admin.sync_changes(Request::new(request)).await.expect("listed").into_inner().changes;
    let numbers: Vec<u64> = changes.iter().map(|change| change.number).collect();
    assert_eq!(numbers, (1..=13).collect::<Vec<_>>(), "in their order");
    // A record does not grow for ever, and not over a silence.
    lab.clock.advance(50_000);
    let (second, end) = burst(Vec::new(), &everybody[1..3]).await;
    assert_eq!((end.disabled, end.run_id.as_str()), (2, ""), "the first one began too long ago");
    lab.clock.advance(61_000);
    let (third, end) = burst(Vec::new(), &everybody[3..5]).await;
    assert_eq!((end.disabled, end.run_id.as_str()), (2, ""), "a minute is soon, more is not");
    assert_eq!(shown().await.iter().map(|(run_id, ..)| run_id.clone()).collect::<Vec<_>>(), [third, second, first]);
    let (_, end) = burst(Vec::new(), &everybody[5..6]).await;
    assert_eq!((end.parked, end.run_id.as_str()), (1, ""), "the sixth within the hour waits, and stands by itself");
    // An hour after the last of them, and more after the first.
    lab.clock.advance(3_610_000);
    assert_eq!(burst(Vec::new(), &[]).await.1.disabled, 1);
}

pub async fn the_mail_of_many_enabled_again_names_the_record_that_their_run_stands_in(lab: Fixture) {
    // S-19, FS-13
    let notify = "\n[mail]\nnotify = { sync_enabled_again = [\"it@corp.example\"] }\n";
    lab.apply(&format!("{}{notify}", with_items(&["all"]))).await;
    lab.lead().await;
    let everybody = |disabled: bool| -> Vec<SyncedUser> {
        let user =
            |user: SyncedUser| SyncedUser { disabled_in_directory: disabled, ..of_items(&user.username, &["all"]) };
        people(7).into_iter().map(user).collect()
    };
    lab.run(everybody(true)).await;
    lab.clock.advance(24 * 3_600_000);
    let burst = async |users: Vec<SyncedUser>| {
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: "corp".into(),
            mode: "incremental".into(),
            trigger: "follow".into(),
            now_unix_ms: lab.clock.now_ms(),
            ..BeginRunRequest::default()
        };
        let run_id = lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id;
        lab.batch(&run_id, users).await;
        let listed_in = lab.finish(&run_id, true).await.run_id;
        (run_id, listed_in)
    };
    let (first, _) = burst(vec![of_items("new", &["all"])]).await;
    lab.mails().await;
    let (own, listed_in) = burst(everybody(false)).await;
    assert_eq!(listed_in, first, "it stands in the record of the one before");
    let told: Vec<String> = lab.mails().await.into_iter().map(|mail| mail.variables["detail"].clone()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains(&format!("twinlock sync run {first} names them")), "{told:?}");
    let key = format!("SELECT COUNT(*) FROM outbox WHERE once_key = 'sync_many_enabled:{own}'");
    assert_eq!(lab.number(&key).await, 1, "once for the run itself");
}

pub async fn who_lost_the_answer_to_the_end_of_a_run_is_given_it_again(lab: Fixture) {
    // S-01: also where the record of the run has gone into another one's
    lab.apply(&with_items(&["all"])).await;
    lab.lead().await;
    let everybody: Vec<SyncedUser> = people(200).into_iter().map(|user| of_items(&user.username, &["all"])).collect();
    lab.run(everybody.clone()).await;
    let burst = async |gone: &[SyncedUser]| {
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: "corp".into(),
            mode: "incremental".into(),
            trigger: "follow".into(),
            now_unix_ms: lab.clock.now_ms(),
            ..BeginRunRequest::default()
        };
        let run_id = lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id;
        let left = left(gone.iter().map(|user| user.object_id.clone()), How::Deleted);
        lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        let answer = lab.finish(&run_id, true).await;
        for _ in 0..2 {
            assert_eq!(lab.finish(&run_id, true).await, answer);
        }
        (run_id, answer)
    };
    let (first, own) = burst(&everybody[..1]).await;
    assert_eq!((own.disabled, own.run_id.as_str()), (1, ""));
    let (second, folded) = burst(&everybody[1..3]).await;
    assert_eq!((folded.disabled, folded.run_id.as_str()), (2, first.as_str()));
    let (_, parked) = burst(&everybody[3..8]).await;
    assert_eq!((parked.parked, parked.run_id.as_str()), (5, ""));
    let shown = status(&lab).await.runs;
    assert!(shown.iter().all(|run| run.run_id != second));
    assert_eq!(shown.iter().find(|run| run.run_id == first).map(|run| run.disabled), Some(3), "counted once");
    // What the store found out by itself is said again, too.
    let request = BeginRunRequest {
        epoch: lab.epoch(),
        directory: "corp".into(),
        mode: "full".into(),
        items_digest: "of other items".into(),
        now_unix_ms: lab.clock.now_ms(),
        ..BeginRunRequest::default()
    };
    let run_id = lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id;
    let incomplete = lab.finish(&run_id, true).await;
    assert!(incomplete.incomplete.contains("sync items were changed"), "{incomplete:?}");
    assert_eq!(lab.finish(&run_id, true).await, incomplete);
}

pub async fn an_item_without_second_factor_exempts_when_that_was_decided(lab: Fixture) {
    // FS-35, S-46
    lab.apply(&with_items(&["free second_factor = false; source = { kind = \"domain\" }", "all"])).await;
    lab.lead().await;
    let users = |free: usize| -> Vec<SyncedUser> {
        let items = |number: usize| if number < free { ["free", "all"].as_slice() } else { &["all"] };
        (0..200).map(|number| of_items(&format!("user{number:03}"), items(number))).collect()
    };
    let user_id = async |name: &str| lab.user(name).await.expect("there").user.expect("with a summary").user_id;
    let exempt = async |name: &str| lab.login_user(&user_id(name).await).await.exempt_clients == ["*"];
    assert_eq!(lab.run(users(2)).await, FinishRunReply::default(), "two new ones");
    assert!(exempt("user001").await && !exempt("user002").await);
    let detail = lab.user("user001").await.expect("there");
    assert_eq!((detail.exempt_clients, detail.exempt_text.as_str()), (vec!["*".to_owned()], "by the sync item free"));
    let parked = lab.run(users(10)).await;
    assert_eq!(parked.parked, 8);
    assert!(!exempt("user002").await && !exempt("user009").await);
    decide(&lab, &parked.approval_id, true, &[]).await.expect("approved");
    assert!(exempt("user009").await);
    assert_eq!(lab.run(users(10)).await, FinishRunReply::default());
    let run_id = lab.begin_as("incremental").await.expect("begun");
    lab.batch(&run_id, vec![of_items("user009", &["all"])]).await;
    assert!(!exempt("user009").await, "at once");
}

pub async fn groups_show_their_members_whatever_is_read_first(lab: Fixture) {
    lab.with_settings().await;
    let in_group = |name: &str| format!("UID={name}, ou=People,dc=corp,dc=example");
    let run = async |read: Vec<SyncedGroup>| {
        let run_id = lab.begin().await.expect("begun");
        lab.send(&run_id, groups(read)).await;
        lab.batch(&run_id, vec![person("ann"), person("bob")]).await;
        let left = left(lab.unseen(&run_id).await, How::Deleted);
        lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        lab.finish(&run_id, true).await;
    };
    let of = async |name: &str| lab.user(name).await.expect("there").groups;
    run(vec![group("vpn", &[&in_group("ann"), &in_group("bob")]), group("admins", &[&in_group("ann")])]).await;
    assert_eq!(of("ann").await, ["admins", "vpn"]);
    assert_eq!(of("bob").await, ["vpn"]);
    run(vec![group("vpn", &[&in_group("bob")])]).await;
    assert_eq!(of("ann").await, [""; 0], "left one, the other is gone");
    assert_eq!(of("bob").await, ["vpn"]);
}

pub async fn whom_a_filter_looks_at_by_their_groups_is_read_again_when_those_change(lab: Fixture) {
    // FS-22, S-17, S-36
    let vpn = "vpn source = { kind = \"domain\" }; filter = \"(memberOf=cn=vpn,ou=groups,dc=corp,dc=example)\"";
    lab.apply(&with_items(&[vpn])).await;
    lab.lead().await;
    let run_id = lab.begin().await.expect("begun");
    let first = [group("vpn", &[&dn("ann"), &group_dn("inner")]), group("inner", &[&dn("bob"), &dn("stranger")])];
    lab.send(&run_id, groups(first.to_vec())).await;
    lab.batch(&run_id, ["ann", "bob"].map(|name| of_items(name, &["vpn"])).to_vec()).await;
    lab.finish(&run_id, true).await;
    assert_eq!(listed(&lab).await, [""; 0], "a full run reads everybody where they lie");
    // A full run that ends between a group and its users.
    let run_id = lab.begin().await.expect("begun");
    lab.send(&run_id, groups(vec![group("vpn", &[&group_dn("inner"), &dn("newcomer")])])).await;
    lab.finish(&run_id, false).await;
    assert_eq!(listed(&lab).await, [format!("id {}", id_of("ann"))]);
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let settled = pending(&lab).await.into_iter().map(|(_, pending_id)| pending_id).collect();
    // It is of this batch, and may have been read before the group was.
    let users = vec![of_items("bob", &["vpn"])];
    let inner = vec![group("inner", &[&dn("other")])];
    lab.send(&run_id, ApplyBatchRequest { users, settled, groups: inner, ..ApplyBatchRequest::default() }).await;
    let mut expected =
        [format!("dn {}", dn("other")), format!("dn {}", dn("stranger")), format!("id {}", id_of("bob"))];
    expected.sort();
    assert_eq!(listed(&lab).await, expected);
    // A group that no filter names is nobody's concern; nor is one that leaves it. Who leaves a group together with that leaving is.
    let run_id = lab.begin_as("incremental").await.expect("begun");
    let settled: Vec<String> = pending(&lab).await.into_iter().map(|(_, pending_id)| pending_id).collect();
    let crowd: Vec<String> = (0..300).map(|number| dn(&format!("crowd{number}"))).chain([dn("ann")]).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    let changed = vec![group("everybody", &crowd), group("printers", &[&group_dn("everybody")])];
    lab.send(&run_id, ApplyBatchRequest { groups: changed, settled, ..ApplyBatchRequest::default() }).await;
    assert_eq!(listed(&lab).await, [""; 0]);
    lab.send(&run_id, groups(vec![group("printers", &[&dn("ann")])])).await;
    assert_eq!(listed(&lab).await, [""; 0]);
    let changed = vec![group("vpn", &[&dn("newcomer")]), group("inner", &[])];
    lab.send(&run_id, groups(changed)).await;
    assert_eq!(listed(&lab).await, [format!("dn {}", dn("other"))]);
    // Whoever looks at no group need not be told.
    lab.apply(&with_items(&["vpn source = { kind = \"domain\" }"])).await;
    let settled = pending(&lab).await.into_iter().map(|(_, pending_id)| pending_id).collect();
    let changed = vec![group("inner", &[&dn("ann")])];
    lab.send(&run_id, ApplyBatchRequest { groups: changed, settled, ..ApplyBatchRequest::default() }).await;
    assert_eq!(listed(&lab).await, [""; 0]);
}
