//! As a process among others: over NATS, and seen from outside by its metrics page.

mod fakes;

use fakes::{Lab, item, until};
use lab::{COMPANY_BASE, Nats, Pki, Slapd, SlapdOptions};
use proto::user_store::FinishRunReply;
use serde_json::json;
use service_kit::config::{BusSection, LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection};
use service_kit::{Process, Sections, bus};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One lease and a bit.
const LEASE: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn over_nats_a_request_is_served_once_by_whoever_leads_and_a_lost_lease_map_elects_again() {
    // S-60
    let dir = tempfile::tempdir().expect("a folder");
    let mut nats = Nats::start(dir.path(), "").expect("nats-server");
    let section: BusSection = serde_json::from_value(json!({ "url": nats.url() })).expect("a section");
    // Its directory is missing: each run ends at once, and that is all this test needs.
    let mut lab = Lab::new(json!({ "sync_item": [item("staff")] }), "");
    let mut instance = || {
        let process = Process::detached("directory-sync");
        lab.bus = bus::connect(&section, &process).expect("a bus");
        directory_sync::start(lab.deps(), &process);
        process
    };
    let first = instance();
    tokio::time::sleep(Duration::from_secs(2)).await; // its connection, and the lease
    let second = instance();
    until("a leader", LEASE, || lab.store.told().epoch == 1).await;
    lab.ask_for("").await;
    lab.ask_for("staff").await;
    let runs = lab.runs(2).await;
    assert!(runs.iter().all(|run| run.epoch == 1), "{runs:?}");
    first.finish().await;
    until("the second to lead", Duration::from_secs(5), || lab.store.told().epoch == 2).await;
    lab.ask_for("staff").await;
    let runs = lab.runs(3).await;
    assert_eq!((runs.len(), runs[2].epoch), (3, 2), "served once each");
    // The map is in memory: with the server the lease is gone, and with it the revisions.
    let before = lab.store.told().epoch;
    nats.stop();
    tokio::time::sleep(Duration::from_secs(9)).await; // longer than the leader trusts its lease
    nats.restart().expect("nats-server");
    until("a new leader", LEASE * 3, || lab.store.told().epoch > before).await;
    lab.ask_for("staff").await;
    let runs = lab.runs(4).await;
    assert_eq!((runs.len(), runs[3].epoch), (4, lab.store.told().epoch));
    second.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_page_says_who_leads_what_was_done_and_what_waits() {
    let dir = tempfile::tempdir().expect("a folder");
    let pki = Pki::new(&dir.path().join("tls")).expect("a CA");
    let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions::default()).expect("slapd");
    let directory = json!({
        "name": "corp", "preset": "openldap", "urls": [slapd.ldap_url()], "base": COMPANY_BASE,
        "query_bind": { "kind": "simple", "name": Slapd::QUERY_DN }, "danger_clear_text": true,
    });
    let lab = Lab::new(json!({ "directory": [directory], "sync_item": [item("staff")] }), Slapd::QUERY_PASSWORD);
    let parked = FinishRunReply { parked: 7, approval_id: "approval".into(), ..FinishRunReply::default() };
    *lab.store.finish.lock().expect("no panic") = parked;
    let sections = Sections {
        log: &LogSection::default(),
        telemetry: &TelemetrySection::default(),
        tls: &TlsSection::default(),
        management: &ManagementSection { listen: SocketAddr::from(([127, 0, 0, 1], lab::free_port())) },
        shutdown: &ShutdownSection { drain_delay_seconds: 0, drain_timeout_seconds: 5 },
    };
    let process = service_kit::start("directory-sync", sections).await.expect("it starts");
    let address = process.management_address().expect("a page");
    directory_sync::start(lab.deps(), &process);
    lab.run_now().await;
    let page = get(address, "/metrics").await;
    for line in [
        "twinlock_sync_leader 1",
        r#"twinlock_sync_objects{directory="corp",state="added"} 120"#,
        r#"twinlock_sync_objects{directory="corp",state="parked"} 7"#,
        r#"twinlock_sync_waiting_approvals{directory="corp"} 1"#,
        r#"twinlock_sync_duration_seconds_count{directory="corp"} 1"#,
    ] {
        assert!(page.lines().any(|found| found == line), "{line}:\n{page}");
    }
    let stamp = page
        .lines()
        .find_map(|it| it.strip_prefix("twinlock_sync_last_success_timestamp_seconds{directory=\"corp\"} "));
    assert!(stamp.and_then(|it| it.parse::<u64>().ok()).is_some_and(|seconds| seconds > 1_700_000_000), "{page}");
    assert!(get(address, "/healthz/upstreams").await.contains("user-store"));
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    process.shutdown().begin();
    process.shutdown().finished().await;
    let page = get(address, "/metrics").await;
    for line in ["twinlock_sync_leader 0", r#"twinlock_sync_waiting_approvals{directory="corp"} 0"#] {
        assert!(page.lines().any(|found| found == line), "{line}:\n{page}");
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the page is there");
    let request = format!("GET {path} HTTP/1.1\r\nHost: page\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    answer
}
