//! What of an entry cannot be used: counted and kept with the run (FD-36, FD-38, S-57, S-59).

use crate::fixture::{Fixture, person, with_phone};
use proto::user_store::{
    BeginRunRequest, FinishRunReply, FinishRunRequest, ListSyncRunsRequest, SyncRun, SyncedPhone, SyncedUser,
    UnusableValue, admin_server::Admin, sync_server::Sync,
};
use tonic::Request;

async fn begin(lab: &Fixture, mode: &str, trigger: &str) -> String {
    let request = BeginRunRequest {
        epoch: lab.epoch(),
        directory: "corp".into(),
        mode: mode.into(),
        trigger: trigger.into(),
        now_unix_ms: lab.clock.now_ms(),
        ..BeginRunRequest::default()
    };
    lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id
}

/// Ends a run of which the reader could not use so many values, and tells of these.
async fn finish(lab: &Fixture, run_id: &str, count: u64, values: Vec<UnusableValue>) -> FinishRunReply {
    let request = FinishRunRequest {
        epoch: lab.epoch(),
        run_id: run_id.into(),
        complete: true,
        now_unix_ms: lab.clock.now_ms(),
        unusable: values,
        unusable_count: count,
        ..FinishRunRequest::default()
    };
    lab.services.sync.finish_run(Request::new(request)).await.expect("ended").into_inner()
}

fn value(entry: &str) -> UnusableValue {
    UnusableValue { entry: entry.into(), attribute: "mail".into(), why: "is no mail address".into() }
}

async fn listed(lab: &Fixture, run_id: &str) -> SyncRun {
    let request = ListSyncRunsRequest { run_id: run_id.into(), limit: 1, ..ListSyncRunsRequest::default() };
    lab.services.admin.list_sync_runs(Request::new(request)).await.expect("listed").into_inner().runs.remove(0)
}

fn lines(run: &SyncRun) -> Vec<String> {
    run.unusable.iter().map(|it| format!("{}: {} {}", it.entry, it.attribute, it.why)).collect()
}

/// Somebody whose mobile number is tried in vain before the one that counts.
fn with_bad_number(name: &str) -> SyncedUser {
    let mobile = |number: &str| SyncedPhone { kind: "mobile".into(), number: number.into(), attribute: "cell".into() };
    SyncedUser { phones: vec![mobile("call me"), mobile("+49 30 123456")], ..person(name) }
}

pub async fn what_of_an_entry_cannot_be_used_is_counted_with_the_run_and_the_first_are_kept(lab: Fixture) {
    // FD-36, FD-38, S-57, S-59, FS-27
    lab.with_settings().await;
    let run_id = begin(&lab, "full", "schedule").await;
    let reply = lab.batch(&run_id, vec![with_bad_number("ann"), person("bob")]).await;
    assert_eq!(reply.problems, ["ann: cell is no phone number: it has letters"]);
    // The same batch again, and the same entry once more, are nothing new.
    lab.batch(&run_id, vec![with_bad_number("ann")]).await;
    let hostile = "cn=\n\u{202e}eve".to_owned();
    let end = finish(&lab, &run_id, 2, vec![value(&hostile), value("cn=zoe")]).await;
    assert_eq!(end, FinishRunReply { problems: 3, ..FinishRunReply::default() });
    assert_eq!(finish(&lab, &run_id, 2, vec![value(&hostile), value("cn=zoe")]).await, end, "asked again");
    let run = listed(&lab, &run_id).await;
    assert_eq!(run.problems, 3);
    assert_eq!(
        lines(&run),
        [
            "ann: cell is no phone number: it has letters",
            "cn=\\u{a}\\u{202e}eve: mail is no mail address",
            "cn=zoe: mail is no mail address"
        ]
    );
    assert_eq!(lab.user("ann").await.expect("there").phone, "+4930123456", "the first that is a number");
    let status = lab.services.admin.sync_status(Request::new(Default::default())).await.expect("a status").into_inner();
    assert_eq!((status.runs[0].problems, status.runs[0].unusable.len()), (3, 0), "a list of runs has the counts");

    let run_id = begin(&lab, "incremental", "schedule").await;
    let many: Vec<SyncedUser> = (0..70).map(|number| with_bad_number(&format!("u{number:02}"))).collect();
    lab.batch(&run_id, many).await;
    let more = (0..100).map(|number| value(&format!("cn=v{number:02}"))).collect();
    assert_eq!(finish(&lab, &run_id, 5_000, more).await.problems, 5_070);
    let run = listed(&lab, &run_id).await;
    assert_eq!((run.problems, run.unusable.len()), (5_070, 100));
    assert!(lines(&run)[69].starts_with("u69") && lines(&run)[99].starts_with("cn=v29"), "{:?}", lines(&run));

    // A run that found nothing but these is told of where one looks for what runs found.
    let run_id = begin(&lab, "incremental", "schedule").await;
    finish(&lab, &run_id, 1, vec![value("cn=zoe")]).await;
    let told = ListSyncRunsRequest { told_only: true, limit: 10, ..ListSyncRunsRequest::default() };
    let told = lab.services.admin.list_sync_runs(Request::new(told)).await.expect("listed").into_inner().runs;
    assert_eq!(told[0].run_id, run_id);
    lab.clock.advance(91 * 24 * 3_600_000);
    lab.store.sweep().await.expect("swept");
    assert_eq!(lab.number("SELECT COUNT(*) FROM sync_unusable").await, 0, "they go with their runs");
}

pub async fn a_preview_names_what_cannot_be_used_and_its_list_is_the_same_whatever_that_is(lab: Fixture) {
    // FS-12, S-57
    lab.with_settings().await;
    let run_id = begin(&lab, "preview", "request").await;
    lab.batch(&run_id, vec![with_bad_number("ann"), with_phone(person("bob"), "12")]).await;
    assert_eq!(finish(&lab, &run_id, 1, vec![value("cn=zoe")]).await.problems, 3);
    assert_eq!(
        lines(&listed(&lab, &run_id).await),
        [
            "ann: cell is no phone number: it has letters",
            "bob: mobile is no phone number: it is too short for a number",
            "cn=zoe: mail is no mail address"
        ]
    );
    // Servers give entries in any order, and the first of many are others then: that is no other list (FS-09).
    let again = begin(&lab, "preview", "check").await;
    lab.batch(&again, vec![with_phone(person("bob"), "12"), with_bad_number("ann")]).await;
    let request = FinishRunRequest {
        epoch: lab.epoch(),
        run_id: again,
        complete: true,
        looked_at: run_id,
        now_unix_ms: lab.clock.now_ms(),
        ..FinishRunRequest::default()
    };
    let end = lab.services.sync.finish_run(Request::new(request)).await.expect("ended").into_inner();
    assert!(!end.list_changed, "{end:?}");
}

pub async fn what_small_runs_could_not_use_stands_in_the_record_of_them_all(lab: Fixture) {
    // FS-13
    lab.with_settings().await;
    lab.run(vec![person("ann")]).await;
    let first = begin(&lab, "incremental", "follow").await;
    lab.batch(&first, vec![with_bad_number("bob")]).await;
    finish(&lab, &first, 60, (0..60).map(|number| value(&format!("cn=a{number:02}"))).collect()).await;
    let second = begin(&lab, "incremental", "follow").await;
    let end = finish(&lab, &second, 60, (0..60).map(|number| value(&format!("cn=b{number:02}"))).collect()).await;
    assert_eq!((end.run_id.as_str(), end.problems), (first.as_str(), 60));
    let run = listed(&lab, &first).await;
    assert_eq!((run.problems, run.unusable.len()), (121, 100));
    assert!(lines(&run)[61].starts_with("cn=b00") && lines(&run)[99].starts_with("cn=b38"), "{:?}", lines(&run));
}

pub async fn what_goes_on_to_be_incomplete_has_its_problems_once(lab: Fixture) {
    // FS-13: it reads the same again, and finds the same
    lab.with_settings().await;
    lab.run(vec![person("ann")]).await;
    let run = async |number: usize| {
        lab.clock.advance(5 * 60_000);
        let run_id = begin(&lab, "incremental", "schedule").await;
        // Somebody new each time, and somebody else who is called as Ann is.
        let twin = SyncedUser { username: "ann".into(), ..person("twin") };
        lab.batch(&run_id, vec![person(&format!("new{number}")), twin]).await;
        let request = FinishRunRequest {
            epoch: lab.epoch(),
            run_id: run_id.clone(),
            error: "the group is gone".into(),
            now_unix_ms: lab.clock.now_ms(),
            unusable: (0..60).map(|place| value(&format!("cn=r{number}v{place:02}"))).collect(),
            unusable_count: 60,
            ..FinishRunRequest::default()
        };
        let end = lab.services.sync.finish_run(Request::new(request)).await.expect("ended").into_inner();
        (run_id, end)
    };
    let (first, _) = run(0).await;
    for number in 1..4 {
        let (_, end) = run(number).await;
        assert_eq!(end.run_id, first);
        let record = listed(&lab, &first).await;
        assert_eq!((record.repeats as usize, record.added as usize), (number, number + 1));
        assert_eq!((record.problems, record.unusable.len()), (end.problems, 60));
        let newest = format!("cn=r{number}v");
        assert!(lines(&record).iter().all(|line| line.starts_with(&newest)), "{:?}", lines(&record));
        let rows = async |what: &str| {
            lab.number(&format!("SELECT COUNT(*) FROM sync_changes WHERE run_id = '{first}' AND what {what}")).await
        };
        let (added, problems) = (rows("= 'added'").await, rows("= 'problem'").await);
        assert_eq!((added, problems), (number as i64 + 1, 1), "who was added stays, the twin is told of once");
        let counted = lab.number(&format!("SELECT changes FROM sync_runs WHERE run_id = '{first}'")).await;
        assert_eq!(counted, rows("<> ''").await);
    }
}
