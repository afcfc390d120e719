//! One leader, chosen by the lease and fenced by the store's epoch, in the face of crashes, stalls and a store that misbehaves.

mod fakes;

use fakes::{FakeStore, Lab, Run, item, until};
use proto::subjects::{LEASES_MAP, SETTINGS_CHANGED, SYNC_PREFERRED};
use proto::user_store::sync_server::Sync;
use proto::user_store::{LeadRequest, RequestSyncRequest};
use serde_json::json;
use service_kit::bus::MapOptions;
use service_kit::config::{BusSection, BusUrl};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

const SOON: Duration = Duration::from_secs(5);

/// No sync item: there is a leader, and it has nothing to read.
fn idle() -> Lab {
    Lab::new(json!({}), "")
}

/// An instance in a runtime of its own, so that it can be killed: its tasks end where they stand and tidy up nothing.
fn instance(lab: &Lab) -> Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let deps = lab.deps();
    runtime.block_on(async move {
        directory_sync::start(deps, &service_kit::Process::detached("directory-sync"));
    });
    runtime
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_leads_and_when_it_is_killed_the_other_does_within_fifteen_seconds() {
    // S-60
    let lab = idle();
    let first = tokio::task::block_in_place(|| instance(&lab));
    until("a leader", SOON, || lab.store.told().epoch == 1).await;
    let second = tokio::task::block_in_place(|| instance(&lab));
    tokio::time::sleep(Duration::from_secs(3)).await; // long enough for a lease to be taken, had it been free
    assert_eq!(lab.store.told().epoch, 1, "the second stands by");
    let killed = Instant::now();
    first.shutdown_background();
    until("another leader", Duration::from_secs(15), || lab.store.told().epoch == 2).await;
    let taken_over = killed.elapsed();
    assert!(taken_over > Duration::from_secs(3), "the lease was still held: {taken_over:?}");
    let holders = lab.store.told().holders.clone();
    assert_ne!(holders[0], holders[1], "it says who it is");
    second.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_lease_map_is_wiped_a_new_leader_works_within_three_leases() {
    // S-60: a real server keeps the map in memory, and its revisions begin again. What fences is the store's epoch.
    const LEASE: Duration = Duration::from_secs(10);
    let folder = tempfile::tempdir().expect("a folder");
    let mut nats = lab::Nats::start(folder.path(), "").expect("nats-server starts");
    let section = BusSection { url: BusUrl::Nats(vec![nats.url()]), ..BusSection::default() };
    let connected = || {
        let process = service_kit::Process::detached("directory-sync");
        (service_kit::bus::connect(&section, &process).expect("never waits"), process)
    };
    let (mut lab, _slapd, _dir) = several(&["corp"]);
    let (bus, _asking) = connected();
    lab.bus = bus;
    let start = || {
        let (bus, process) = connected();
        directory_sync::start(directory_sync::Deps { bus, ..lab.deps() }, &process);
        process
    };
    let instances = [start(), start()];
    until("a leader", LEASE * 2, || lab.store.told().epoch == 1).await;
    for turn in 1..=2 {
        let wiped = Instant::now();
        nats.restart().expect("nats-server starts again");
        until("another leader", LEASE * 3, || lab.store.told().epoch > turn).await;
        let run = lab.run_now().await;
        assert!(wiped.elapsed() < LEASE * 3, "turn {turn}: {:?}", wiped.elapsed());
        assert_eq!((run.finished, run.epoch), (Some((true, String::new())), lab.store.told().epoch), "turn {turn}");
    }
    for process in instances {
        process.finish().await;
    }
}

#[tokio::test]
async fn a_leader_that_stops_hands_over_at_once() {
    let lab = idle();
    let first = lab.start();
    until("a leader", SOON, || lab.store.told().epoch == 1).await;
    let second = lab.start();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    first.shutdown().begin();
    until("another leader", SOON, || lab.store.told().epoch == 2).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    first.finish().await;
    second.finish().await;
}

#[tokio::test]
async fn a_preferred_host_leads_as_soon_as_it_is_there_and_any_other_while_it_is_not() {
    // FS-11
    let lab = Lab::new(json!({ "sync": { "preferred_nodes": ["main.example"] } }), "");
    let start = |host: &str| {
        let process = service_kit::Process::detached("directory-sync");
        directory_sync::start(directory_sync::Deps { host: host.to_owned(), ..lab.deps() }, &process);
        process
    };
    let leads = |host: &str, epoch: u64| {
        let told = lab.store.told();
        told.epoch >= epoch && told.holders.last().is_some_and(|holder| holder.starts_with(host))
    };
    let other = start("spare.example");
    until("the only one to lead", SOON, || leads("spare.example", 1)).await;
    let preferred = start("MAIN.example");
    until("the preferred one to lead", Duration::from_secs(20), || leads("MAIN.example", 2)).await;
    // What it said while it stood by is forgotten: from now on nobody gives way to it any more, and it leads all the same.
    let leases = MapOptions { ttl: Duration::from_secs(10), max_entries: 16, max_value_bytes: 1024 };
    let leases = lab.bus.map(LEASES_MAP, leases);
    let end = Instant::now() + Duration::from_secs(30);
    while leases.get(SYNC_PREFERRED).await.expect("the bus answers").is_some() {
        assert!(Instant::now() < end, "it stands by though it leads");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(leads("MAIN.example", 2), "and it stays so");
    assert_eq!(lab.store.told().epoch, 2);
    preferred.finish().await;
    until("the other to lead again", Duration::from_secs(30), || leads("spare.example", 3)).await;
    other.finish().await;
}

/// An instance that is in the middle of a run: its first batch waits at the store.
async fn in_a_run(document: serde_json::Value) -> (Lab, lab::Slapd, service_kit::Process, tempfile::TempDir) {
    let (lab, slapd, dir) = with_directories(&["corp"], 900, document);
    lab.store.gate.forget_permits(Semaphore::MAX_PERMITS);
    let process = lab.start();
    lab.ask_for("").await;
    until("a batch", Duration::from_secs(20), || lab.store.at_gate.load(Ordering::SeqCst) == 1).await;
    (lab, slapd, process, dir)
}

/// The same server under so many names.
fn with_directories(
    names: &[&str],
    bulk_people: usize,
    mut document: serde_json::Value,
) -> (Lab, lab::Slapd, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let pki = lab::Pki::new(&dir.path().join("tls")).expect("a CA");
    let options = lab::SlapdOptions { bulk_people, ..Default::default() };
    let slapd = lab::Slapd::start(dir.path(), &pki, &options).expect("slapd");
    let directory = |name: &&str| {
        json!({
            "name": name, "preset": "openldap", "urls": [slapd.ldap_url()], "base": lab::COMPANY_BASE,
            "query_bind": { "kind": "simple", "name": lab::Slapd::QUERY_DN }, "danger_clear_text": true,
        })
    };
    document["directory"] = names.iter().map(directory).collect();
    (Lab::new(document, lab::Slapd::QUERY_PASSWORD), slapd, dir)
}

/// Directories, each with an item.
fn several(names: &[&str]) -> (Lab, lab::Slapd, tempfile::TempDir) {
    let item = |name: &&str| json!({ "name": name, "directory": name, "source": { "kind": "domain" } });
    let items: serde_json::Value = names.iter().map(item).collect();
    with_directories(names, 0, json!({ "sync_item": items }))
}

fn directories_of(runs: &[Run]) -> Vec<&str> {
    let mut directories: Vec<&str> = runs.iter().map(|run| run.directory.as_str()).collect();
    directories.sort_unstable();
    directories
}

#[tokio::test]
async fn of_directories_that_are_read_at_once_one_writes_at_a_time() {
    // Whoever waits at the store keeps a connection of it from logins.
    let (lab, _slapd, _dir) = several(&["corp", "branch", "plant"]);
    lab.store.gate.forget_permits(Semaphore::MAX_PERMITS);
    let process = lab.start();
    lab.ask_for("").await;
    let at_gate = || lab.store.at_gate.load(Ordering::SeqCst);
    until("a batch", SOON, || at_gate() == 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await; // long enough for the others to come, too
    assert_eq!(at_gate(), 1);
    open(&lab.store);
    assert_eq!(directories_of(&lab.runs(3).await), ["branch", "corp", "plant"]);
    process.finish().await;
}

#[tokio::test]
async fn no_more_than_four_directories_are_read_whole_at_once_whoever_asks() {
    let names = ["one", "two", "three", "four", "five", "six"];
    let (lab, _slapd, _dir) = several(&names);
    lab.store.unseen_gate.forget_permits(Semaphore::MAX_PERMITS);
    let process = lab.start();
    lab.ask_for("").await;
    let in_work = || lab.store.at_unseen_gate.load(Ordering::SeqCst);
    until("four of them", Duration::from_secs(20), || in_work() == 4).await;
    tokio::time::sleep(Duration::from_secs(1)).await; // long enough for a fifth
    assert_eq!(in_work(), 4);
    lab.store.unseen_gate.add_permits(1_000);
    assert_eq!(lab.runs(6).await.len(), 6);
    process.finish().await;
}

#[tokio::test]
async fn a_directory_that_waits_for_its_place_is_not_read_once_synchronisation_is_off() {
    // FS-01
    let names = ["one", "two", "three", "four", "five"];
    let (lab, _slapd, _dir) = several(&names);
    let process = lab.start();
    lab.ask_for("five").await;
    lab.runs(1).await;
    process.finish().await;
    let process = lab.start();
    lab.store.unseen_gate.forget_permits(Semaphore::MAX_PERMITS);
    let before = lab.store.at_unseen_gate.load(Ordering::SeqCst);
    for name in &names[..4] {
        let (only, mode) = ((*name).into(), "preview".into());
        lab.ask(RequestSyncRequest { only, mode, ..RequestSyncRequest::default() }).await;
    }
    let in_work = || lab.store.at_unseen_gate.load(Ordering::SeqCst) - before;
    until("four of them", Duration::from_secs(20), || in_work() == 4).await;
    let switch = async |enabled: bool| {
        lab.settings.change(|document| document["sync"] = json!({ "enabled": enabled, "always_full": true }));
        lab.bus.publish(SETTINGS_CHANGED, bytes::Bytes::from_static(b"2")).await.expect("told");
    };
    let asked = lab.store.told().source_asked;
    switch(true).await;
    // Who leads next runs at once by the schedule.
    until("the fifth to wait", Duration::from_secs(20), || lab.store.told().source_asked > asked).await;
    tokio::time::sleep(Duration::from_millis(300)).await; // until it stands in line
    switch(false).await;
    lab.store.unseen_gate.add_permits(1_000);
    lab.runs(5).await;
    tokio::time::sleep(Duration::from_secs(1)).await; // long enough for the fifth
    assert_eq!(lab.store.told().runs.len(), 5, "it is off");
    // Asked for, it is read all the same.
    lab.ask_for("five").await;
    assert_eq!(directories_of(&lab.runs(6).await[5..]), ["five"]);
    process.finish().await;
}

#[tokio::test]
async fn a_store_that_lets_no_run_begin_for_a_moment_costs_a_pause() {
    let (lab, _slapd, _dir) = several(&["corp"]);
    lab.store.begins_unavailable.store(2, Ordering::SeqCst);
    let process = lab.start();
    let asked = Instant::now();
    let run = lab.run_now().await;
    assert_eq!(run.finished, Some((true, String::new())));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    process.finish().await;
}

#[tokio::test]
async fn of_a_request_only_what_the_store_did_not_take_is_read_again() {
    let (lab, _slapd, _dir) = several(&["corp", "branch"]);
    let process = lab.start();
    until("a leader", SOON, || lab.store.told().epoch == 1).await;
    lab.store.begins_refused.store(1, Ordering::SeqCst);
    lab.ask_for("").await;
    lab.runs(2).await;
    tokio::time::sleep(Duration::from_secs(2)).await; // long enough for the other to be read once more
    assert_eq!(directories_of(&lab.store.finished()), ["branch", "corp"]);
    process.finish().await;
}

fn open(store: &FakeStore) {
    store.gate.add_permits(1_000);
}

#[tokio::test]
async fn the_batches_of_a_leader_that_was_replaced_are_refused_and_it_stops_at_once() {
    // S-60: as after SIGSTOP for two leases. Its batch is on the way while another begins.
    let (lab, _slapd, process, _dir) = in_a_run(json!({ "sync_item": [item("staff")] })).await;
    let other = tonic::Request::new(LeadRequest { holder: "other".into() });
    let epoch = lab.store.lead(other).await.expect("it leads").into_inner().epoch;
    assert_eq!(epoch, 2);
    open(&lab.store);
    until("the refusal", SOON, || !lab.store.told().stale.is_empty()).await;
    // It stands again, gets a new epoch, and takes up the request it could not serve.
    let runs = lab.runs(1).await;
    process.finish().await;
    let told = lab.store.told();
    assert_eq!(told.stale, ["ApplyBatch"], "nothing more was sent in the old term");
    assert_eq!(told.runs[0].finished, None, "the old run was not finished by it");
    assert_eq!((runs.len(), runs[0].epoch, runs[0].users.len()), (1, 3, 1020));
}

#[tokio::test]
async fn a_process_that_stops_in_the_middle_of_a_run_finishes_nothing() {
    // S-41: half a read is no evidence.
    let (lab, _slapd, process, _dir) = in_a_run(json!({ "sync_item": [item("staff")] })).await;
    process.finish().await;
    open(&lab.store);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(lab.store.finished().is_empty());
    assert_eq!(lab.store.told().batches, 0);
}

#[tokio::test]
async fn a_store_that_is_away_for_a_moment_costs_a_pause_and_nobody() {
    let (lab, _slapd, process, _dir) = in_a_run(json!({ "sync_item": [item("staff")] })).await;
    lab.store.batches_unavailable.store(2, Ordering::SeqCst);
    open(&lab.store);
    let run = lab.runs(1).await.remove(0);
    assert_eq!(run.finished, Some((true, String::new())));
    assert_eq!(lab.store.told().users.len(), 1020);
    process.finish().await;
}

#[tokio::test]
async fn a_store_that_gives_no_epoch_is_asked_again_and_without_one_nothing_runs() {
    let lab = idle();
    lab.store.begins_refused.store(2, Ordering::SeqCst);
    let process = lab.start();
    until("a leader", Duration::from_secs(10), || lab.store.told().epoch == 1).await;
    process.finish().await;
}

#[tokio::test]
async fn nobody_leads_before_the_settings_are_known() {
    let lab = idle();
    *lab.settings.away.lock().expect("no panic") = true;
    let process = lab.start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(lab.store.told().epoch, 0);
    assert!(!process.health().is_started());
    *lab.settings.away.lock().expect("no panic") = false;
    until("a leader", Duration::from_secs(10), || lab.store.told().epoch == 1).await;
    assert!(process.health().is_started());
    process.finish().await;
}
