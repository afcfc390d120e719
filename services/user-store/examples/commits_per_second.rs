//! Durable commits a second: reserve a try, then Allow with replay mark and audit event, each answered after its fsync
//! (P-15); and the same with what the store does for every TOTP login, the facts of the user and the Allow. Prints one line of
//! JSON a database, kind of work and number of concurrent callers.
//!
//! `cargo run --release -p user-store --example commits_per_second -- [SECONDS [USERS]]`: so many users are synchronised
//! first (1000 if not said), and a thousand of them enrolled. PostgreSQL is measured where it is installed, and said to be
//! missing where it is not.

#![allow(clippy::print_stdout, reason = "its answer is what it prints")]

use proto::common::Secret;
use proto::user_store::{
    AddPendingFactorRequest, AllowResult, ApplyBatchRequest, ApplySettingsRequest, AuditEvent, BeginRunRequest,
    CodeFactor, CommitAllowRequest, ConfirmFactorRequest, FinishRunRequest, GetUserRequest, LeadRequest,
    LoginFactsRequest, ReserveTryRequest, SyncedPhone, SyncedUser, TryKind, admin_server::Admin, commit_server::Commit,
    facts_server::Facts, login_facts_request::Who, sync_server::Sync,
};
use service_kit::bus::InProcess;
use service_kit::secret::SecretFile;
use service_kit::{Clock, Shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::Request;
use user_store::{Services, Store, StoreSection};

const SETTINGS: &str = r#"
[[directory]]
name = "corp"
urls = ["ldaps://ldap.corp.example"]
base = "dc=corp,dc=example"
query_bind = { kind = "anonymous" }
[[sync_item]]
name = "people"
directory = "corp"
source = { kind = "domain" }
"#;
const ENROLLED: usize = 1000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    let users = std::env::args().nth(2).map_or(Ok(ENROLLED), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("master.key").display().to_string();
    let url = format!("sqlite:{}", folder.path().join("twinlock.db").display());
    measure("sqlite", &StoreSection::new(&url, &key).map_err(anyhow::Error::msg)?, users, seconds).await?;
    let server = match lab::Postgres::start(folder.path()) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("postgresql was not measured: {error:#}");
            return Ok(());
        }
    };
    let password = folder.path().join("password");
    std::fs::write(&password, lab::Postgres::PASSWORD)?;
    std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let key = folder.path().join("postgres.key").display().to_string();
    let section = StoreSection::new(&server.url_without_password(), &key).map_err(anyhow::Error::msg)?;
    let password_file = Some(SecretFile::new(&password.display().to_string())?);
    measure("postgresql", &StoreSection { password_file, ..section }, users, seconds).await
}

#[derive(Clone)]
struct Person {
    user_id: String,
    factor_id: String,
}

async fn measure(database: &str, section: &StoreSection, users: usize, seconds: u64) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    let store = Store::open(section, Arc::new(InProcess::new()), Clock::system(), &shutdown).await?;
    let services = store.services();
    let began = Instant::now();
    sync(&services, users).await?;
    let first = began.elapsed();
    sync(&services, users).await?;
    let again = began.elapsed() - first;
    println!(
        r#"{{"database":"{database}","sync_users":{users},"first_ms":{},"unchanged_ms":{}}}"#,
        first.as_millis(),
        again.as_millis()
    );
    let people = enrol(&services).await?;
    let step = Arc::new(AtomicU64::new(2));
    for (work, callers) in
        [Work::ReserveAllow, Work::FactsAllow].into_iter().flat_map(|work| [1, 16, 64, 256].map(|it| (work, it)))
    {
        let cpu_before = cpu_us();
        let durations = log_in(&services, &people, &step, work, callers, Duration::from_secs(seconds)).await;
        let logins = durations.len() as u64;
        let commits = logins * work.commits();
        let at = |share: f64| durations[((durations.len() - 1) as f64 * share) as usize].as_micros();
        println!(
            r#"{{"database":"{database}","work":"{}","callers":{callers},"logins_per_second":{:.0},"commits_per_second":{:.0},"cpu_us_per_commit":{},"login_us_p50":{},"login_us_p99":{}}}"#,
            work.name(),
            logins as f64 / seconds as f64,
            commits as f64 / seconds as f64,
            (cpu_us() - cpu_before) / commits.max(1),
            at(0.5),
            at(0.99),
        );
    }
    store.close().await;
    Ok(())
}

async fn sync(services: &Services, users: usize) -> anyhow::Result<()> {
    let request = ApplySettingsRequest { document: SETTINGS.into(), actor: "bench".into(), ..Default::default() };
    let applied = services.admin.apply_settings(Request::new(request)).await?.into_inner();
    anyhow::ensure!(applied.errors.is_empty(), "{:?}", applied.errors);
    let epoch = services.sync.lead(Request::new(LeadRequest { holder: "bench".into() })).await?.into_inner().epoch;
    let begin = BeginRunRequest { epoch, directory: "corp".into(), mode: "full".into(), ..Default::default() };
    let run_id = services.sync.begin_run(Request::new(begin)).await?.into_inner().run_id;
    let person = |number: usize| SyncedUser {
        object_id: format!("entryUUID:00000000-0000-0000-0000-{number:012}"),
        distinguished_name: format!("uid=user{number},ou=people,dc=corp,dc=example"),
        username: format!("user{number}"),
        names: vec![format!("user{number}@corp.example")],
        first_name: "First".into(),
        last_name: format!("Last{number}"),
        mail: format!("first.last{number}@corp.example"),
        phones: vec![SyncedPhone {
            kind: "mobile".into(),
            number: format!("+49 30 1{number:07}"),
            ..SyncedPhone::default()
        }],
        items: vec!["people".into()],
        ..Default::default()
    };
    for first in (0..users).step_by(1000) {
        let users = (first..users.min(first + 1000)).map(person).collect();
        let batch = ApplyBatchRequest { epoch, run_id: run_id.clone(), users, ..Default::default() };
        services.sync.apply_batch(Request::new(batch)).await?;
    }
    let finish = FinishRunRequest { epoch, run_id, complete: true, ..Default::default() };
    services.sync.finish_run(Request::new(finish)).await?;
    Ok(())
}

async fn enrol(services: &Services) -> anyhow::Result<Vec<Person>> {
    let mut people = Vec::with_capacity(ENROLLED);
    for number in 0..ENROLLED {
        let request = GetUserRequest { name: format!("user{number}") };
        let user = services.admin.get_user(Request::new(request)).await?.into_inner().user;
        let user_id = user.map(|user| user.user_id).unwrap_or_default();
        let factor = CodeFactor {
            algorithm: "SHA1".into(),
            digits: 6,
            period_seconds: 30,
            seed: Some(Secret { value: vec![7; 20] }),
            ..CodeFactor::default()
        };
        let request = AddPendingFactorRequest { user_id: user_id.clone(), factor: Some(factor), actor: "bench".into() };
        let factor_id = services.commit.add_pending_factor(Request::new(request)).await?.into_inner().factor_id;
        let confirm = ConfirmFactorRequest {
            user_id: user_id.clone(),
            factor_id: factor_id.clone(),
            step: 1,
            actor: "bench".into(),
            now_unix_ms: 0,
        };
        services.commit.confirm_factor(Request::new(confirm)).await?;
        people.push(Person { user_id, factor_id });
    }
    Ok(people)
}

/// What the store does for a login, as far as it is measured.
#[derive(Clone, Copy)]
enum Work {
    /// The two commits of a code that is tried and right.
    ReserveAllow,
    /// The facts, read, and the Allow.
    FactsAllow,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::ReserveAllow => "reserve_allow",
            Self::FactsAllow => "facts_allow",
        }
    }

    fn commits(self) -> u64 {
        match self {
            Self::ReserveAllow => 2,
            Self::FactsAllow => 1,
        }
    }
}

/// As many logins as `callers` can do in this time: how long each took, sorted.
async fn log_in(
    services: &Services,
    people: &[Person],
    step: &Arc<AtomicU64>,
    work: Work,
    callers: usize,
    time: Duration,
) -> Vec<Duration> {
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (services, stop, step) = (services.clone(), stop.clone(), step.clone());
            let mine: Vec<Person> = people.iter().skip(caller).step_by(callers).cloned().collect();
            tokio::spawn(async move {
                let mut durations = Vec::new();
                for person in mine.iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let began = Instant::now();
                    let step = step.fetch_add(1, Ordering::Relaxed);
                    match work {
                        Work::ReserveAllow => reserve(&*services.commit, person).await,
                        Work::FactsAllow => facts(&*services.facts, person).await,
                    }
                    allow(&*services.commit, person, step).await;
                    durations.push(began.elapsed());
                }
                durations
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut durations = Vec::new();
    for task in tasks {
        durations.extend(task.await.expect("a caller does not panic"));
    }
    durations.sort();
    durations
}

async fn facts(facts: &impl Facts, person: &Person) {
    let request = LoginFactsRequest { who: Some(Who::UserId(person.user_id.clone())), ..Default::default() };
    let facts = facts.login(Request::new(request)).await.expect("the store answers").into_inner();
    assert_eq!(facts.code_factors.len(), 1, "an enrolled user");
}

async fn reserve(commit: &impl Commit, person: &Person) {
    let reserve = ReserveTryRequest {
        user_id: person.user_id.clone(),
        factor_id: person.factor_id.clone(),
        source: "10.0.4.3".into(),
        kind: TryKind::AfterPassword.into(),
        now_unix_ms: now_ms(),
    };
    let granted = commit.reserve_try(Request::new(reserve)).await.expect("the store answers").into_inner().granted;
    assert!(granted, "nobody fails here");
}

async fn allow(commit: &impl Commit, person: &Person, step: u64) {
    let event = AuditEvent {
        at_unix_ms: now_ms(),
        kind: "authentication".into(),
        transaction_id: uuid::Uuid::now_v7().to_string(),
        client: "vpn".into(),
        protocol: "radius".into(),
        user_id: person.user_id.clone(),
        username: "somebody".into(),
        client_ip: "10.0.4.3".into(),
        result: "success".into(),
        reason: "valid_code".into(),
        method: "code".into(),
        assurance: "code".into(),
        source: "live".into(),
        ..AuditEvent::default()
    };
    let allow = CommitAllowRequest {
        event: Some(event),
        factor_id: person.factor_id.clone(),
        step,
        source: "10.0.4.3".into(),
        ..CommitAllowRequest::default()
    };
    let result = commit.allow(Request::new(allow)).await.expect("the store answers").into_inner().result();
    assert_eq!(result, AllowResult::Committed);
}

/// Processor time of this process so far: database file and all on SQLite, without the server on PostgreSQL.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // proc(5): utime and stime are the 14th and 15th field, counted after the command's closing parenthesis, in ticks of 10 ms.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10_000
}

fn now_ms() -> i64 {
    Clock::system().now_ms()
}
