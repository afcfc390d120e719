//! Where a source stands, previews, the history, and how it is all shown and asked for (S-02, FS-01, FS-07, FS-09, FS-12, FS-13).

use crate::fixture::{Fixture, SETTINGS, left, people, person};
use crate::sync::{decide, decide_as, of_items, status, with_items};
use crate::sync_groups::{group, group_dn};
use prost::Message;
use proto::user_store::{
    ApplyBatchRequest, BeginRunRequest, CreateApiKeyRequest, FinishRunReply, FinishRunRequest, GetSourceReply,
    GetSourceRequest, ListApprovalUsersRequest, ListSyncRunsRequest, RequestSyncRequest, SyncChangesRequest,
    SyncedUser, admin_server::Admin, left_object::How, sync_server::Sync,
};
use service_kit::bus::Bus;
use std::collections::BTreeSet;
use tonic::{Code, Request};

async fn source(lab: &Fixture) -> GetSourceReply {
    let request = GetSourceRequest { epoch: lab.epoch(), directory: "corp".into() };
    lab.services.sync.get_source(Request::new(request)).await.expect("known").into_inner()
}

async fn begin(lab: &Fixture, mode: &str, actor: &str) -> String {
    let request = BeginRunRequest {
        epoch: lab.epoch(),
        directory: "corp".into(),
        mode: mode.into(),
        why: "asked for".into(),
        feed: "dirsync".into(),
        trigger: "request".into(),
        mapping_digest: "map".into(),
        identity: "domain".into(),
        offers: vec!["dirsync: yes".into(), "syncrepl: no".into()],
        actor: actor.into(),
        now_unix_ms: lab.clock.now_ms(),
        ..BeginRunRequest::default()
    };
    lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id
}

async fn finish(lab: &Fixture, run_id: &str, complete: bool, position: &str) -> FinishRunReply {
    let request = FinishRunRequest {
        epoch: lab.epoch(),
        run_id: run_id.into(),
        complete,
        position: position.into(),
        ..FinishRunRequest::default()
    };
    lab.services.sync.finish_run(Request::new(request)).await.expect("the run ends").into_inner()
}

pub async fn the_position_is_stored_with_what_it_covers(lab: Fixture) {
    // S-02
    lab.with_settings().await;
    assert_eq!(source(&lab).await, GetSourceReply::default());
    let with = |position: &str, users: Vec<SyncedUser>| ApplyBatchRequest {
        users,
        position: position.into(),
        ..ApplyBatchRequest::default()
    };
    let run_id = begin(&lab, "full", "").await;
    lab.send(&run_id, with("early", people(2))).await;
    assert_eq!(source(&lab).await.position, b"", "a full read is covered at its end");
    finish(&lab, &run_id, false, "never").await;
    assert_eq!(source(&lab).await, GetSourceReply { users: 2, ..GetSourceReply::default() });
    let began = lab.clock.now_ms();
    let run_id = begin(&lab, "full", "").await;
    lab.batch(&run_id, people(2)).await;
    lab.clock.advance(60_000);
    finish(&lab, &run_id, true, "one").await;
    let known = GetSourceReply {
        position: b"one".to_vec(),
        items_digest: String::new(),
        mapping_digest: "map".into(),
        identity: "domain".into(),
        full_unix_ms: began,
        complete_unix_ms: began,
        users: 2,
        missed: 0,
        pins: Vec::new(),
    };
    assert_eq!(source(&lab).await, known);
    let run_id = begin(&lab, "incremental", "").await;
    lab.send(&run_id, with("two", vec![person("ann")])).await;
    lab.send(&run_id, with("", vec![person("bob")])).await;
    assert_eq!(source(&lab).await.position, b"two", "an empty one says nothing");
    let complete = lab.clock.now_ms();
    finish(&lab, &run_id, true, "").await;
    assert_eq!(
        source(&lab).await,
        GetSourceReply { position: b"two".to_vec(), complete_unix_ms: complete, users: 4, ..known }
    );
    // A refused batch moves nothing.
    let run_id = begin(&lab, "incremental", "").await;
    lab.lead().await;
    let late = ApplyBatchRequest { epoch: lab.epoch() - 1, run_id, ..with("three", vec![]) };
    lab.services.sync.apply_batch(Request::new(late)).await.expect_err("fenced");
    assert_eq!(source(&lab).await.position, b"two");
}

pub async fn the_status_says_why_no_run_begins(lab: Fixture) {
    // FS-01, FS-09, S-03
    let on = |item: &str| format!("[sync]\nenabled = true\n{}", with_items(&[item]));
    lab.apply(SETTINGS).await;
    lab.lead().await;
    let waits = async || status(&lab).await.sources.remove(0).waits_for;
    assert!(waits().await.contains("sync.enabled"));
    lab.apply(&on("people")).await;
    assert!(waits().await.ends_with("type \"twinlock sync now corp\""), "{}", waits().await);
    let document: domain::settings::Settings = toml::from_str(&on("people")).expect("valid");
    let request = BeginRunRequest {
        epoch: lab.epoch(),
        directory: "corp".into(),
        mode: "full".into(),
        items_digest: document.items_digest("corp"),
        feed: "syncrepl".into(),
        offers: vec!["syncrepl".into(), "modify_timestamp".into()],
        base: "dc=corp,dc=example".into(),
        ..BeginRunRequest::default()
    };
    let run_id = lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id;
    finish(&lab, &run_id, true, "").await;
    let run_id = begin(&lab, "preview", "").await;
    finish(&lab, &run_id, false, "").await;
    let known = status(&lab).await.sources.remove(0);
    assert_eq!(known.base, "dc=corp,dc=example", "FD-05: a run that could not ask says nothing new");
    assert_eq!((known.waits_for.as_str(), known.feed.as_str(), known.offers.len()), ("", "dirsync", 2));
    lab.apply(&on("people filter = \"(l=x)\"; source = { kind = \"domain\" }")).await;
    assert!(waits().await.starts_with("its sync items changed"));
}

pub async fn a_preview_says_that_the_users_of_an_item_that_finds_nobody_would_wait(lab: Fixture) {
    // S-42, FS-12
    lab.apply(&with_items(&["sales", "all"])).await;
    lab.lead().await;
    let all: Vec<SyncedUser> = people(50).into_iter().map(|user| of_items(&user.username, &["all"])).collect();
    let sales = ["ann", "bob"].map(|name| of_items(name, &["sales", "all"]));
    lab.run([all.clone(), sales.to_vec()].concat()).await;
    let preview = async |gone: &[SyncedUser]| {
        let run_id = begin(&lab, "preview", "").await;
        let there = sales.iter().filter(|user| !gone.contains(user)).cloned();
        lab.batch(&run_id, all.iter().cloned().chain(there).collect()).await;
        let left = left(gone.iter().map(|user| user.object_id.clone()), How::Deleted);
        lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        finish(&lab, &run_id, true, "").await
    };
    let one = preview(&sales[..1]).await;
    assert_eq!((one.disabled, one.parked), (1, 0));
    let both = preview(&sales).await;
    assert_eq!((both.disabled, both.parked), (0, 2), "few, and all that the item had");
}

/// A complete run that reads these, writes or not, and finds the others deleted; and what it says of those of whom its end decides.
async fn read(lab: &Fixture, mode: &str, batch: ApplyBatchRequest) -> (FinishRunReply, Vec<(String, String)>) {
    let run_id = begin(lab, mode, "").await;
    lab.send(&run_id, batch).await;
    let gone = left(lab.unseen(&run_id).await, How::Deleted);
    lab.send(&run_id, ApplyBatchRequest { left: gone, ..Default::default() }).await;
    let reply = finish(lab, &run_id, true, "").await;
    let told = changes(lab, &run_id).await.into_iter();
    let told = told.filter(|(_, what, _)| matches!(what.as_str(), "disabled" | "removed" | "parked"));
    let mut told: Vec<(String, String)> = told.map(|(name, what, _)| (name, what)).collect();
    told.sort();
    (FinishRunReply { approval_id: String::new(), ..reply }, told)
}

pub async fn a_preview_lists_those_who_wait_for_approval_as_a_run_would_decide(lab: Fixture) {
    // FS-09, FS-12
    lab.with_settings().await;
    let of = |count: usize| ApplyBatchRequest { users: people(count), ..Default::default() };
    lab.run(people(200)).await;
    assert_eq!(lab.run(people(194)).await.parked, 6);
    let preview = read(&lab, "preview", of(194)).await;
    assert_eq!((preview.0.disabled, preview.0.parked), (0, 6), "as they wait");
    // Three are back: the others are few.
    let preview = read(&lab, "preview", of(197)).await;
    let expected: Vec<(String, String)> =
        (197..200).map(|number| (format!("user{number}"), "disabled".to_owned())).collect();
    assert_eq!((preview.0.disabled, preview.0.parked, &preview.1), (3, 0, &expected));
    assert_eq!(read(&lab, "full", of(197)).await, preview, "that is what a run does");
    // More are allowed now.
    assert_eq!(lab.run(people(180)).await.parked, 17);
    lab.apply(&format!("[sync]\napproval_over_users = 17\napproval_over_percent = 0\n{SETTINGS}")).await;
    let preview = read(&lab, "preview", of(180)).await;
    assert_eq!((preview.0.disabled, preview.0.parked, preview.1.len()), (17, 0, 17));
    assert_eq!(read(&lab, "full", of(180)).await, preview);
}

pub async fn a_preview_counts_those_who_would_be_exempt_as_a_run_does(lab: Fixture) {
    // FS-06, FS-12, S-46
    let policy = format!(
        "[[policy]]\nname = \"robots\"\nwhen = {{ groups = [\"{}\"] }}\nthen = {{ exempt = true }}\n",
        group_dn("robots")
    );
    let items = ["free second_factor = false; source = { kind = \"domain\" }", "all"];
    lab.apply(&(with_items(&items) + &policy)).await;
    lab.lead().await;
    // Of 200, those from `first` on are there, some of them free, and some in the group.
    let of = |first: usize, free: usize, robots: usize| {
        let items = |number: usize| if number < first + free { ["free", "all"].as_slice() } else { &["all"] };
        let users: Vec<SyncedUser> =
            (first..200).map(|number| of_items(&format!("user{number:03}"), items(number))).collect();
        let members: Vec<&str> = users.iter().rev().take(robots).map(|user| user.distinguished_name.as_str()).collect();
        ApplyBatchRequest { groups: vec![group("robots", &members)], users, ..Default::default() }
    };
    read(&lab, "full", of(0, 0, 0)).await;
    // Each alone is few.
    for (batch, parked) in [(of(0, 3, 2), 0), (of(5, 3, 2), 8), (of(5, 3, 2), 8), (of(5, 3, 3), 9), (of(4, 4, 3), 9)] {
        let preview = read(&lab, "preview", batch.clone()).await;
        assert_eq!((preview.0.parked, preview.1.len()), (parked, parked as usize), "{preview:?}");
        let run = read(&lab, "full", batch).await;
        assert_eq!((run.0.parked, &run.0.parked_why), (parked, &preview.0.parked_why), "{run:?}");
    }
}

pub async fn a_preview_writes_its_history_and_nothing_else(lab: Fixture) {
    // FS-12
    let staff =
        "staff state = \"preview\"; source = { kind = \"group\", dn = \"cn=staff,ou=groups,dc=corp,dc=example\" }";
    lab.apply(&with_items(&[staff, "people"])).await;
    lab.lead().await;
    lab.run(people(50)).await;
    let before = lab.number("SELECT COUNT(*) FROM audit").await;
    let dump = "SELECT CAST(COALESCE(SUM(revision + epoch), 0) AS BIGINT) FROM users";
    let users = lab.number(dump).await;
    let run_id = begin(&lab, "preview", "cli:root").await;
    let ann = of_items("ann", &["staff"]);
    lab.send(
        &run_id,
        ApplyBatchRequest { groups: vec![group("staff", &[&ann.distinguished_name])], ..Default::default() },
    )
    .await;
    let mut read = people(48);
    read[0].last_name = "Baker".into();
    read[1].disabled_in_directory = true;
    read.extend([ann, of_items("eve", &["staff"]), of_items("user048", &[])]);
    let reply = lab.batch(&run_id, read).await;
    assert_eq!((reply.added, reply.changed), (1, 2), "who is of no item any longer is another row, too");
    assert_eq!(lab.unseen(&run_id).await, [crate::fixture::id_of("user049")]);
    let gone = left(lab.unseen(&run_id).await, How::Deleted);
    lab.send(&run_id, ApplyBatchRequest { left: gone, position: b"x".to_vec(), ..Default::default() }).await;
    let ended = finish(&lab, &run_id, true, "x").await;
    assert_eq!((ended.disabled, ended.parked), (2, 0));
    let mut told = changes(&lab, &run_id).await;
    told.sort();
    let expected = [
        ("ann", "added", "item staff"),
        ("user000", "changed", "name"),
        ("user001", "disabled", "disabled in the directory"),
        ("user048", "disabled", "no longer in people, nor in any other item"),
        ("user049", "disabled", "deleted in the directory; was in people"),
    ];
    assert_eq!(told, expected.map(|(name, what, detail)| (name.to_owned(), what.to_owned(), detail.to_owned())));
    let run = status(&lab).await.runs.remove(0);
    assert_eq!(
        (run.mode.as_str(), run.state.as_str(), run.added, run.actor.as_str()),
        ("preview", "done", 1, "cli:root")
    );
    let items: Vec<(&str, u64)> = run.items.iter().map(|it| (it.sync_item.as_str(), it.users)).collect();
    assert_eq!(items, [("people", 48), ("staff", 1)]);
    // Nothing else came of it.
    assert_eq!(lab.number(dump).await, users);
    assert_eq!(lab.number("SELECT COUNT(*) FROM users").await, 50);
    for table in ["user_groups", "group_members", "sync_seen", "sync_pending", "approvals"] {
        assert_eq!(lab.number(&format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");
    }
    assert_eq!(source(&lab).await.position, b"");
    assert_eq!(lab.state("user001").await, "enabled");
    assert_eq!(lab.number("SELECT COUNT(*) FROM audit").await, before + 1, "that it ran");
}

pub async fn a_preview_tries_items_that_are_not_applied(lab: Fixture) {
    // FS-12
    lab.apply(&with_items(&["people"])).await;
    lab.lead().await;
    lab.run(people(50)).await;
    let draft = |name: &str, directory: &str| {
        serde_json::json!({ "name": name, "directory": directory, "source": { "kind": "domain" }, "leavers": "remove" })
            .to_string()
    };
    let begin = async |mode: &str, draft_items: Vec<String>| {
        let (epoch, directory, mode, trigger) = (lab.epoch(), "corp".into(), mode.into(), "draft".into());
        let request = BeginRunRequest { epoch, directory, mode, trigger, draft_items, ..BeginRunRequest::default() };
        lab.services.sync.begin_run(Request::new(request)).await.map(|begun| begun.into_inner().run_id)
    };
    let drafts = vec![draft("people", "corp"), draft("sales", "corp")];
    for (mode, items) in
        [("full", drafts.clone()), ("preview", vec![draft("people", "lab")]), ("preview", vec!["no item".into()])]
    {
        assert_eq!(begin(mode, items).await.expect_err(mode).code(), Code::InvalidArgument, "{mode}");
    }
    let run_id = begin("preview", drafts.clone()).await.expect("begun");
    let mut users = people(49);
    users.push(of_items("ann", &["sales"]));
    let read = ApplyBatchRequest { users, draft_items: drafts.clone(), ..ApplyBatchRequest::default() };
    lab.send(&run_id, read).await;
    let gone = left([crate::fixture::id_of("user049")], How::Deleted);
    lab.send(&run_id, ApplyBatchRequest { left: gone, draft_items: drafts.clone(), ..Default::default() }).await;
    let (epoch, complete) = (lab.epoch(), true);
    let request =
        FinishRunRequest { epoch, run_id: run_id.clone(), complete, draft_items: drafts, ..Default::default() };
    let ended = lab.services.sync.finish_run(Request::new(request)).await.expect("it ends").into_inner();
    assert_eq!((ended.disabled, ended.removed), (0, 1), "by the rule of the item as it would be");
    let told = changes(&lab, &run_id).await;
    let expected = [("ann", "added", "item sales"), ("user049", "removed", "deleted in the directory; was in people")];
    assert_eq!(told, expected.map(|(name, what, detail)| (name.to_owned(), what.to_owned(), detail.to_owned())));
    assert_eq!((lab.state("user049").await.as_str(), lab.number("SELECT COUNT(*) FROM users").await), ("enabled", 50));
    let ask = async |only: &str, mode: &str| {
        let (only, mode, actor) = (only.into(), mode.into(), "cli:root".into());
        let request =
            RequestSyncRequest { only, mode, actor, draft_items: vec![draft("sales", "corp")], ..Default::default() };
        lab.services.admin.request_sync(Request::new(request)).await.map_err(|refused| refused.code())
    };
    assert_eq!(ask("corp", "full").await.expect_err("it would write"), Code::InvalidArgument);
    assert_eq!(ask("", "preview").await.expect_err("of which directory?"), Code::InvalidArgument);
    ask("corp", "preview").await.expect("asked");
    assert_eq!(lab.events("sync.requested").await[0].detail, "corp, preview, of sync items that are not applied");
}

/// All that a run did, page by page: who, what, detail.
async fn changes(lab: &Fixture, run_id: &str) -> Vec<(String, String, String)> {
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let request = SyncChangesRequest { run_id: run_id.into(), after, limit: 2 };
        let page = lab.services.admin.sync_changes(Request::new(request)).await.expect("listed").into_inner().changes;
        let Some(last) = page.last() else { return found };
        assert_eq!((page[0].number, page.len() <= 2), (after + 1, true));
        after = last.number;
        found.extend(page.into_iter().map(|it| (it.username, it.what, it.detail)));
    }
}

pub async fn what_a_run_did_is_kept_for_ninety_days(lab: Fixture) {
    // FS-13
    lab.with_settings().await;
    let first = begin(&lab, "full", "").await;
    lab.batch(&first, people(30)).await;
    lab.batch(&first, people(30)).await;
    finish(&lab, &first, true, "").await;
    assert_eq!(changes(&lab, &first).await.len(), 30, "each once");
    let run_id = begin(&lab, "full", "").await;
    let mut read = people(29);
    read[3].disabled_in_directory = true;
    read[4] = crate::fixture::with_phone(read[4].clone(), "+49 40 765498");
    read.push(SyncedUser { username: "USER005".into(), ..person("twin") });
    lab.batch(&run_id, read).await;
    let gone = left(lab.unseen(&run_id).await, How::Deleted);
    lab.send(&run_id, ApplyBatchRequest { left: gone, ..Default::default() }).await;
    finish(&lab, &run_id, true, "").await;
    let told = changes(&lab, &run_id).await;
    let expected = [
        ("user004", "changed", "phone: …56 -> …98"),
        ("user003", "disabled", "disabled in the directory"),
        ("USER005", "problem", "this username is doubled in the directory"),
        ("user029", "disabled", "deleted in the directory; was in people"),
    ];
    assert_eq!(told, expected.map(|(name, what, detail)| (name.to_owned(), what.to_owned(), detail.to_owned())));
    let unknown = SyncChangesRequest { run_id: "none".into(), ..Default::default() };
    let refused = lab.services.admin.sync_changes(Request::new(unknown)).await.expect_err("no such run");
    assert_eq!(refused.code(), Code::NotFound);
    lab.clock.advance(89 * 24 * 3_600_000);
    lab.store.sweep().await.expect("swept");
    assert_eq!(changes(&lab, &run_id).await.len(), 4);
    lab.clock.advance(2 * 24 * 3_600_000);
    lab.store.sweep().await.expect("swept");
    assert_eq!(lab.number("SELECT COUNT(*) FROM sync_changes").await, 0);
}

pub async fn runs_are_listed_page_by_page_and_those_that_did_nothing_for_a_week(lab: Fixture) {
    // FS-13
    lab.with_settings().await;
    let list = async |request: ListSyncRunsRequest| {
        lab.services.admin.list_sync_runs(Request::new(request)).await.expect("listed").into_inner()
    };
    let all = async |told_only: bool| {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = list(ListSyncRunsRequest { told_only, after, limit: 7, ..Default::default() }).await;
            assert!(page.runs.len() == 7 || page.next.is_empty(), "pages are full");
            found.extend(page.runs.into_iter().map(|run| run.run_id));
            after = page.next;
            if after.is_empty() {
                return found;
            }
        }
    };
    let mut ids = vec![begin(&lab, "full", "").await];
    lab.batch(&ids[0], people(3)).await;
    finish(&lab, &ids[0], true, "one").await;
    for number in 0..60 {
        // Some begin in the same moment.
        lab.clock.advance(if number % 3 == 0 { 0 } else { 60_000 });
        let run_id = begin(&lab, if number == 20 { "full" } else { "incremental" }, "").await;
        match number {
            10 => drop(lab.batch(&run_id, vec![person("ann")]).await),
            20 => drop(lab.batch(&run_id, people(3)).await),
            _ => {}
        }
        finish(&lab, &run_id, number != 30, "").await;
        ids.push(run_id);
    }
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(all(false).await, newest_first);
    let told = [31, 11, 0].map(|place: usize| ids[place].clone());
    assert_eq!(all(true).await, told);
    let one = list(ListSyncRunsRequest { run_id: ids[0].clone(), ..Default::default() }).await;
    assert_eq!((one.runs[0].added, one.runs[0].items[0].users, one.next.as_str()), (3, 3, ""));
    let other = ListSyncRunsRequest { directory: "lab".into(), ..Default::default() };
    assert!(list(other).await.runs.is_empty());
    for bad in ["x", "1 2", "."] {
        let request = ListSyncRunsRequest { after: bad.into(), ..Default::default() };
        let refused = lab.services.admin.list_sync_runs(Request::new(request)).await.expect_err(bad);
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad}");
    }

    lab.clock.advance(8 * 24 * 3_600_000);
    lab.store.sweep().await.expect("swept");
    assert_eq!(all(false).await, [31, 21, 11, 0].map(|place: usize| ids[place].clone()), "full ones stay, too");
    lab.clock.advance(81 * 24 * 3_600_000);
    lab.store.sweep().await.expect("swept");
    assert_eq!(all(true).await, told);
    lab.clock.advance(2 * 24 * 3_600_000);
    lab.store.sweep().await.expect("swept");
    assert!(all(false).await.is_empty());
}

pub async fn thousands_wait_in_pages_and_are_decided_in_steps(lab: Fixture) {
    // S-40: no message and no transaction grows with them
    lab.with_settings().await;
    let everybody: Vec<SyncedUser> = (0..2_600).map(|number| person(&format!("user{number:05}"))).collect();
    let run_id = lab.begin().await.expect("begun");
    lab.batch(&run_id, everybody.clone()).await;
    lab.finish(&run_id, true).await;
    let parked = lab.run(everybody[..100].to_vec()).await;
    assert_eq!(parked.parked, 2_500);
    assert_eq!(status(&lab).await.approvals[0].users, 2_500);
    // S-59: names that were one only after they had come in, at the edge of a page.
    lab.tamper("UPDATE approval_users SET username_key = 'user01099' WHERE username_key IN ('user01098', 'user01100')")
        .await;
    let page = async |after: String| {
        let request = ListApprovalUsersRequest { approval_id: parked.approval_id.clone(), after, limit: 0 };
        lab.services.admin.list_approval_users(Request::new(request)).await.expect("listed").into_inner()
    };
    let (mut met, mut after) = (BTreeSet::new(), String::new());
    for expected in [1_000, 1_000, 500] {
        let page = page(after).await;
        assert_eq!((page.users.len(), page.users[0].action.as_str()), (expected, "disable"));
        after = page.next;
        met.extend(page.users.into_iter().map(|user| user.distinguished_name));
    }
    assert!(after.is_empty() && met.len() == 2_500, "everybody, and each once");
    assert!(met.contains(&person("user01000").distinguished_name));
    let run = status(&lab).await.runs.remove(0).run_id;
    assert_eq!(
        lab.number(&format!("SELECT COUNT(*) FROM sync_changes WHERE run_id = '{run}' AND what = 'parked'")).await,
        2_500
    );
    // A process that ends after it had begun: the next sweep goes on.
    lab.tamper(&format!(
        "UPDATE approvals SET state = 'deciding', decision = 'all', decided_by = 'cli:root' WHERE approval_id = '{}'",
        parked.approval_id
    ))
    .await;
    let run_id = lab.begin_as("incremental").await.expect("begun");
    assert_eq!(lab.finish(&run_id, true).await, FinishRunReply::default(), "they are decided about already");
    lab.store.sweep().await.expect("swept");
    assert_eq!(lab.number("SELECT COUNT(*) FROM users WHERE state = 'disabled'").await, 2_500);
    assert_eq!(lab.events("sync.approval").await[0].detail.split(", ").last(), Some("applied to 2500 users"));
    let twice = decide(&lab, &parked.approval_id, true, &[]).await.expect_err("decided");
    assert_eq!(twice.code(), Code::FailedPrecondition);
    lab.assert_chain_is_whole().await;
}

pub async fn nobody_approves_a_run_of_their_own_where_there_are_two(lab: Fixture) {
    // S-40, V-82
    lab.with_settings().await;
    lab.run(people(50)).await;
    let park = async || {
        let run_id = begin(&lab, "full", "cli:root").await;
        lab.batch(&run_id, people(30)).await;
        let gone = left(lab.unseen(&run_id).await, How::Deleted);
        lab.send(&run_id, ApplyBatchRequest { left: gone, ..Default::default() }).await;
        finish(&lab, &run_id, true, "").await.approval_id
    };
    let approval_id = park().await;
    let key = |name: &str, role: &str| CreateApiKeyRequest {
        name: name.into(),
        role: role.into(),
        life_days: 0,
        actor: "cli:root".into(),
    };
    lab.services.admin.create_api_key(Request::new(key("reader", "auditor"))).await.expect("made");
    lab.services.admin.create_api_key(Request::new(key("second", "admin"))).await.expect("made");
    let own = decide(&lab, &approval_id, true, &[]).await.expect_err("of one's own");
    assert_eq!(own.code(), Code::PermissionDenied);
    assert_eq!(lab.state("user049").await, "enabled");
    assert_eq!(decide_as(&lab, "api-key:second", &approval_id, true, &[]).await.expect("approved"), 20);
    lab.run(people(50)).await;
    let approval_id = park().await;
    // What the schedule makes of it is of the same hand.
    let scheduled = lab.run(people(29)).await;
    assert!(scheduled.parked == 21 && scheduled.approval_id != approval_id, "{scheduled:?}");
    let own = decide(&lab, &scheduled.approval_id, true, &[]).await.expect_err("of one's own");
    assert_eq!(own.code(), Code::PermissionDenied);
    assert_eq!(decide(&lab, &scheduled.approval_id, false, &[]).await.expect("a refusal is nobody's gain"), 0);
    let again = lab.run(people(29)).await;
    let own = decide(&lab, &again.approval_id, true, &[]).await.expect_err("refused by the same hand");
    assert_eq!(own.code(), Code::PermissionDenied);
    assert_eq!(decide_as(&lab, "api-key:second", &again.approval_id, false, &[]).await.expect("refused"), 0);
    let others = lab.run(people(29)).await;
    let own = decide(&lab, &others.approval_id, true, &[]).await.expect_err("refused by another, and found again");
    assert_eq!(own.code(), Code::PermissionDenied);
    // Some of it approved: the rest is found again, too.
    assert_eq!(decide_as(&lab, "api-key:second", &others.approval_id, true, &["user045"]).await.expect("approved"), 1);
    let rest = lab.run(people(29)).await;
    let own = decide(&lab, &rest.approval_id, true, &[]).await.expect_err("of one's own");
    assert_eq!((rest.parked, own.code()), (20, Code::PermissionDenied));
    // Both have asked, and nobody else is there: whoever asked last may not.
    let run_id = begin(&lab, "full", "api-key:second").await;
    lab.batch(&run_id, people(28)).await;
    let gone = left(lab.unseen(&run_id).await, How::Deleted);
    lab.send(&run_id, ApplyBatchRequest { left: gone, ..Default::default() }).await;
    let both = finish(&lab, &run_id, true, "").await.approval_id;
    let own = decide_as(&lab, "api-key:second", &both, true, &[]).await.expect_err("of one's own");
    assert_eq!(own.code(), Code::PermissionDenied);
    lab.services.admin.create_api_key(Request::new(key("third", "admin"))).await.expect("made");
    let own = decide(&lab, &both, true, &[]).await.expect_err("with a third, neither of the two");
    assert_eq!(own.code(), Code::PermissionDenied);
    assert_eq!(decide_as(&lab, "api-key:third", &both, true, &[]).await.expect("approved"), 21);
    // All of it was approved: what is found next begins anew.
    lab.run(people(50)).await;
    let next = lab.run(people(29)).await;
    assert_eq!(decide(&lab, &next.approval_id, true, &[]).await.expect("nobody asked for it"), 21);
}

pub async fn another_source_is_waited_for_and_told_once_a_day(lab: Fixture) {
    // S-44, FV-27
    let document = format!("[sync]\nenabled = true\n{}", with_items(&["people"]));
    lab.apply(&document).await;
    lab.lead().await;
    let settings: domain::settings::Settings = toml::from_str(&document).expect("valid");
    let run = async |mode: &str, trigger: &str, identity: &str, complete: bool| {
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: "corp".into(),
            mode: mode.into(),
            why: "the source is another".into(),
            trigger: trigger.into(),
            items_digest: settings.items_digest("corp"),
            identity: identity.into(),
            now_unix_ms: lab.clock.now_ms(),
            ..BeginRunRequest::default()
        };
        let run_id = lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id;
        lab.finish(&run_id, complete).await;
        lab.clock.advance(60_000);
    };
    let waits = async || status(&lab).await.sources.remove(0).waits_for;
    let told = async || {
        let mails = lab.mails().await.into_iter();
        mails.map(|it| (it.kind, it.variables["reason"].clone(), it.variables["detail"].clone())).collect::<Vec<_>>()
    };
    run("full", "request", "one", true).await;
    run("incremental", "schedule", "one", true).await;
    run("preview", "request", "one", true).await;
    assert_eq!((waits().await.as_str(), told().await), ("", vec![]));
    let said = (
        "sync_failed".to_owned(),
        "the source is another".to_owned(),
        "directory corp: twinlock sync plan corp, then twinlock sync now corp --accept-source".to_owned(),
    );
    run("preview", "schedule", "two", true).await;
    assert!(waits().await.ends_with("\"twinlock sync now corp --accept-source\""), "{}", waits().await);
    assert_eq!(told().await, std::slice::from_ref(&said));
    run("preview", "schedule", "two", true).await;
    run("preview", "request", "two", true).await;
    assert_eq!(told().await, [], "somebody looks at it");
    // Who could not ask knows nothing of the source.
    run("incremental", "schedule", "", false).await;
    assert!(waits().await.contains("another"), "{}", waits().await);
    assert_eq!(told().await.len(), 1, "of the read that was not complete");
    lab.clock.advance(24 * 3_600_000);
    run("preview", "schedule", "two", true).await;
    assert_eq!(told().await, [said], "it goes on");
    run("full", "request", "two", true).await;
    assert_eq!((waits().await.as_str(), told().await), ("", vec![]), "accepted");
    run("preview", "schedule", "three", true).await;
    run("incremental", "schedule", "two", true).await;
    assert_eq!(waits().await, "", "taken back");
}

pub async fn a_request_travels_whole(lab: Fixture) {
    // FS-09, FS-12, S-44
    lab.with_settings().await;
    let mut messages = lab.bus.subscribe(proto::subjects::SYNC_REQUESTED).await.expect("heard");
    for only in ["", "corp", "people"] {
        let request = RequestSyncRequest {
            only: only.into(),
            mode: "preview".into(),
            accept_source: true,
            actor: "cli:root".into(),
            looked_at: String::new(),
            draft_items: Vec::new(),
        };
        lab.services.admin.request_sync(Request::new(request.clone())).await.expect("asked");
        let message = tokio::time::timeout(std::time::Duration::from_secs(5), messages.next()).await;
        let message = message.expect("in time").expect("a message");
        assert_eq!(RequestSyncRequest::decode(message.payload).expect("as it was"), request);
    }
    for (only, mode, code) in [("none", "", Code::NotFound), ("", "half", Code::InvalidArgument)] {
        let request =
            RequestSyncRequest { only: only.into(), mode: mode.into(), actor: "cli:root".into(), ..Default::default() };
        let refused = lab.services.admin.request_sync(Request::new(request)).await.expect_err("refused");
        assert_eq!(refused.code(), code);
    }
    assert_eq!(lab.events("sync.requested").await[0].detail, "all, preview, another source is accepted");
}

pub async fn what_somebody_looked_at_is_compared_with_what_would_be_written(lab: Fixture) {
    // FS-09
    lab.with_settings().await;
    lab.run(people(20)).await;
    let preview = async |users: Vec<SyncedUser>, gone: &str, looked_at: &str| {
        let run_id = begin(&lab, "preview", "cli:root").await;
        lab.batch(&run_id, users).await;
        let left = left([crate::fixture::id_of(gone)], How::Deleted);
        lab.send(&run_id, ApplyBatchRequest { left, ..Default::default() }).await;
        let request = FinishRunRequest {
            epoch: lab.epoch(),
            run_id: run_id.clone(),
            complete: true,
            looked_at: looked_at.into(),
            ..FinishRunRequest::default()
        };
        let reply = lab.services.sync.finish_run(Request::new(request.clone())).await.expect("it ends").into_inner();
        let again = lab.services.sync.finish_run(Request::new(request)).await.expect("answered").into_inner();
        assert_eq!((again.list_changed, &again.incomplete), (reply.list_changed, &reply.incomplete), "once more");
        (run_id, reply)
    };
    let mut read = people(19);
    read.extend([person("ann"), person("ben")]);
    let (looked_at, first) = preview(read.clone(), "user019", "").await;
    assert_eq!((first.list_changed, first.disabled), (false, 1));
    read.reverse();
    let (_, same) = preview(read.clone(), "user019", &looked_at).await;
    assert_eq!((same.list_changed, same.incomplete.as_str()), (false, ""), "the order is none of it");
    assert_eq!(status(&lab).await.runs[0].state, "done");
    let others = read.iter().filter(|user| user.username != "ben").cloned();
    let names = ["carl", "dora", "edna", "fred"].map(person);
    let (changed, reply) = preview(others.chain(names).collect(), "user018", &looked_at).await;
    let said = "the list has changed since it was looked at: 5 new (carl, dora, edna, ...), 2 gone (ben, user019)";
    assert_eq!((reply.list_changed, reply.incomplete.as_str()), (true, said));
    let run = status(&lab).await.runs.remove(0);
    assert_eq!((run.run_id.as_str(), run.state.as_str(), run.error.as_str()), (changed.as_str(), "changed", said));
    assert_eq!(changes(&lab, &changed).await.len(), 6, "and it lists what is");
}

pub async fn a_run_is_asked_for_by_a_list_that_can_still_hold(lab: Fixture) {
    // FS-09
    lab.with_settings().await;
    let mut messages = lab.bus.subscribe(proto::subjects::SYNC_REQUESTED).await.expect("heard");
    let begin = async |mode: &str| {
        let document: domain::settings::Settings = toml::from_str(SETTINGS).expect("valid");
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: "corp".into(),
            mode: mode.into(),
            items_digest: document.items_digest("corp"),
            ..BeginRunRequest::default()
        };
        lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id
    };
    let full = begin("full").await;
    lab.finish(&full, true).await;
    let cut = begin("preview").await;
    lab.finish(&cut, false).await;
    let listed = begin("preview").await;
    let ask = async |only: &str, mode: &str, looked_at: &str| {
        let (only, mode, looked_at) = (only.into(), mode.into(), looked_at.into());
        let request =
            RequestSyncRequest { only, mode, looked_at, actor: "cli:root".into(), ..RequestSyncRequest::default() };
        lab.services.admin.request_sync(Request::new(request)).await.map_err(|refused| refused.code())
    };
    for (only, mode, looked_at, code) in [
        ("corp", "full", listed.as_str(), Code::NotFound),
        ("corp", "full", "none", Code::NotFound),
        ("corp", "full", full.as_str(), Code::NotFound),
        ("corp", "full", cut.as_str(), Code::NotFound),
    ] {
        assert_eq!(ask(only, mode, looked_at).await.expect_err(looked_at), code, "it runs still, or is no list");
    }
    lab.finish(&listed, true).await;
    for (only, mode) in [("people", "full"), ("corp", "preview"), ("corp", "incremental")] {
        assert_eq!(ask(only, mode, &listed).await.expect_err(only), Code::InvalidArgument, "{only} {mode}");
    }
    ask("", "", &listed).await.expect("asked");
    let message = tokio::time::timeout(std::time::Duration::from_secs(5), messages.next()).await;
    let message = RequestSyncRequest::decode(message.expect("in time").expect("a message").payload).expect("readable");
    assert_eq!((message.only.as_str(), &message.looked_at), ("corp", &listed), "its directory, and no other");
    assert!(lab.events("sync.requested").await[0].detail.contains(&listed));
    lab.apply(&with_items(&["people filter = \"(l=x)\"; source = { kind = \"domain\" }"])).await;
    assert_eq!(ask("corp", "full", &listed).await.expect_err("by other items"), Code::FailedPrecondition);
}

pub async fn a_batch_has_bounds(lab: Fixture) {
    lab.with_settings().await;
    let run_id = lab.begin().await.expect("begun");
    let too_many = ApplyBatchRequest {
        epoch: lab.epoch(),
        run_id,
        present: vec!["entryUUID:x".into(); 5_001],
        ..ApplyBatchRequest::default()
    };
    let refused = lab.services.sync.apply_batch(Request::new(too_many)).await.expect_err("too many");
    assert_eq!(refused.code(), Code::InvalidArgument);
}
