//! What administrators see of synchronisation without asking: whom it has a problem with, and when it goes on.

use crate::fixture::{Fixture, SETTINGS, id_of, person};
use crate::sync::status;
use proto::user_store::{BeginRunRequest, ListUsersRequest, SyncedUser, admin_server::Admin, sync_server::Sync};
use tonic::Request;

/// Who is listed as having one: username, and what it is.
async fn problems(lab: &Fixture) -> Vec<(String, String)> {
    let request = ListUsersRequest { sync_problem: true, ..ListUsersRequest::default() };
    let reply = lab.services.admin.list_users(Request::new(request)).await.expect("listed").into_inner();
    reply.users.into_iter().map(|user| (user.username, user.sync_problem)).collect()
}

async fn problem_of(lab: &Fixture, username: &str) -> String {
    lab.user(username).await.expect("there").user.expect("with a summary").sync_problem
}

fn called(username: &str, entry: &str) -> SyncedUser {
    SyncedUser { username: username.into(), ..person(entry) }
}

pub async fn a_doubled_username_is_a_problem_of_who_has_it_until_a_run_finds_it_no_longer(lab: Fixture) {
    // FS-14
    lab.with_settings().await;
    lab.run(vec![person("old"), person("eve"), person("bob")]).await;
    assert_eq!(problems(&lab).await, []);
    let increment = async |users: Vec<SyncedUser>| {
        let run_id = lab.begin_as("incremental").await.expect("begun");
        lab.batch(&run_id, users).await;
        lab.finish(&run_id, true).await
    };
    increment(vec![called("OLD", "old2")]).await;
    let keeps = problem_of(&lab, "old").await;
    assert!(keeps.contains(&id_of("old2")) && keeps.contains("this username"), "{keeps}");
    increment(vec![called("bob", "eve")]).await;
    let waits = problem_of(&lab, "eve").await;
    assert!(waits.contains("calls this user bob"), "{waits}");
    let listed: Vec<String> = problems(&lab).await.into_iter().map(|(username, _)| username).collect();
    assert_eq!(listed, ["bob", "eve", "old"]);
    // Each way out: the other one, who waits, and a full run that sees it as it is now.
    increment(vec![called("older", "old2")]).await;
    assert_eq!(problem_of(&lab, "old").await, "");
    increment(vec![person("eve")]).await;
    assert_eq!(problems(&lab).await, []);
    let all = |twin: &str| vec![person("old"), called("older", "old2"), called(twin, "eve"), person("bob")];
    lab.run(all("bob")).await;
    assert_eq!(problems(&lab).await.len(), 2);
    lab.run(all("eve")).await;
    assert_eq!((problems(&lab).await, problem_of(&lab, "bob").await), (vec![], String::new()));
}

pub async fn the_next_run_is_due_an_interval_after_the_start_of_the_last_one_that_counts(lab: Fixture) {
    // FS-01, FS-02
    let on = format!("[sync]\nenabled = true\ninterval_minutes = 7\n{SETTINGS}");
    lab.apply(&on).await;
    lab.lead().await;
    let next = async || status(&lab).await.sources[0].next_unix_ms;
    assert_eq!(next().await, 0, "nobody has asked for the first one");
    let begun = async |mode: &str, trigger: &str, digest: &str| {
        let request = BeginRunRequest {
            epoch: lab.epoch(),
            directory: "corp".into(),
            mode: mode.into(),
            trigger: trigger.into(),
            items_digest: digest.into(),
            ..BeginRunRequest::default()
        };
        let run_id = lab.services.sync.begin_run(Request::new(request)).await.expect("begun").into_inner().run_id;
        lab.finish(&run_id, true).await;
        let runs = status(&lab).await.runs;
        runs.into_iter().find(|run| run.run_id == run_id).expect("kept").started_unix_ms + 7 * 60_000
    };
    let settings: domain::settings::Settings = toml::from_str(&on).expect("valid");
    let digest = settings.items_digest("corp");
    let due = begun("full", "request", &digest).await;
    assert_eq!(next().await, due);
    lab.clock.advance(60_000);
    for (mode, trigger) in [("preview", "request"), ("incremental", "follow")] {
        begun(mode, trigger, &digest).await;
        assert_eq!(next().await, due, "{mode} {trigger}");
    }
    let later = begun("incremental", "schedule", &digest).await;
    assert_eq!((next().await, later > due), (later, true));
    lab.apply(&on.replace("enabled = true", "enabled = false")).await;
    assert_eq!(next().await, 0, "off");
}
