//! What runs that come by themselves may take away of late (S-40), and what goes on to be incomplete.

use crate::fixture::{Fixture, left, people};
use proto::user_store::left_object::How;
use proto::user_store::{ApplyBatchRequest, BeginRunRequest, FinishRunReply, FinishRunRequest, SyncRun};
use proto::user_store::{SyncStatusRequest, admin_server::Admin, sync_server::Sync};
use tonic::Request;

const MINUTE_MS: i64 = 60_000;

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

async fn runs(lab: &Fixture) -> Vec<SyncRun> {
    lab.services.admin.sync_status(Request::new(SyncStatusRequest {})).await.expect("a status").into_inner().runs
}

pub async fn few_who_leave_each_minute_by_the_schedule_are_no_way_around_the_guard(lab: Fixture) {
    // S-40
    lab.with_settings().await;
    lab.run(people(200)).await;
    // Those from the first to the second are gone, and nobody after them is.
    let run = async |mode: &str, trigger: &str, first: usize, second: usize| {
        lab.clock.advance(MINUTE_MS);
        let run_id = begin(&lab, mode, trigger).await;
        let gone = people(second).into_iter().skip(first);
        let left = left(gone.map(|user| user.object_id), How::Deleted);
        let users = if mode == "incremental" { Vec::new() } else { people(200).split_off(second) };
        lab.send(&run_id, ApplyBatchRequest { users, left, ..Default::default() }).await;
        let FinishRunReply { disabled, parked, parked_why, .. } = lab.finish(&run_id, true).await;
        (disabled, parked, parked_why)
    };
    assert_eq!(run("full", "request", 0, 5).await.0, 5, "somebody has asked for it, and answers for it");
    assert_eq!(run("incremental", "schedule", 5, 8).await.0, 3, "so it does not count");
    for trigger in ["request", "check", "schedule"] {
        assert_eq!(run("preview", trigger, 8, 12).await.0, 4, "{trigger}: it would, and does not");
    }
    assert_eq!(run("full", "schedule", 8, 10).await.0, 2, "five are few");
    let (disabled, parked, why) = run("incremental", "schedule", 10, 11).await;
    assert_eq!((disabled, parked), (0, 1), "the sixth within the hour waits");
    assert_eq!(why, "1 user with 5 of the hour before are more than the 5 of sync.approval_over_users");
    assert_eq!(run("full", "schedule", 11, 11).await.1, 1, "by whatever run");
    assert_eq!(run("incremental", "follow", 11, 11).await.1, 1);
    assert_eq!(run("full", "request", 11, 11).await.0, 1, "asked for, it is one of five");
    lab.clock.advance(60 * MINUTE_MS);
    assert_eq!(run("incremental", "schedule", 11, 16).await.0, 5, "an hour later five are few again");
}

pub async fn what_goes_on_to_be_incomplete_is_one_record_a_day_and_one_event(lab: Fixture) {
    // FS-13, FS-21: a source that is gone is so for days, and each run says so
    lab.with_settings().await;
    lab.run(people(3)).await;
    let run = async |mode: &str, trigger: &str, error: &str| {
        lab.clock.advance(5 * MINUTE_MS);
        let run_id = begin(&lab, mode, trigger).await;
        let request = FinishRunRequest {
            epoch: lab.epoch(),
            run_id: run_id.clone(),
            error: error.into(),
            now_unix_ms: lab.clock.now_ms(),
            ..FinishRunRequest::default()
        };
        let end = lab.services.sync.finish_run(Request::new(request.clone())).await.expect("ended").into_inner();
        let again = lab.services.sync.finish_run(Request::new(request)).await.expect("ended").into_inner();
        assert_eq!(again, end);
        (run_id, end.run_id)
    };
    let events = async || lab.events("sync.run").await.len();
    let before = events().await;
    let (first, own) = run("incremental", "follow", "the group is gone").await;
    assert_eq!((own.as_str(), events().await), ("", before + 1));
    for trigger in ["follow", "schedule", "schedule"] {
        assert_eq!(run("incremental", trigger, "the group is gone").await.1, first);
    }
    let shown = runs(&lab).await.remove(0);
    assert_eq!((shown.run_id.as_str(), shown.state.as_str(), shown.repeats), (first.as_str(), "incomplete", 3));
    assert_eq!(shown.finished_unix_ms, lab.clock.now_ms(), "until now");
    assert_eq!(events().await, before + 1, "said once");
    // What is another end, or was asked for, stands by itself.
    for (mode, trigger, error) in [
        ("incremental", "schedule", "the container is gone"),
        ("full", "schedule", "the container is gone"),
        ("full", "request", "the container is gone"),
        ("full", "schedule", "the container is gone"),
    ] {
        assert_eq!(run(mode, trigger, error).await.1, "", "{mode}, {trigger}, {error}");
    }
    assert_eq!(events().await, before + 5);
    let (next, _) = run("incremental", "schedule", "the group is gone").await;
    lab.clock.advance(24 * 60 * MINUTE_MS);
    let (day, own) = run("incremental", "schedule", "the group is gone").await;
    assert!(own.is_empty() && day != next, "a record a day");
    lab.run(people(3)).await;
    assert_eq!(
        run("incremental", "schedule", "the group is gone").await.1,
        "",
        "and anew after a run that was complete"
    );
    lab.assert_chain_is_whole().await;
}
