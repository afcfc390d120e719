//! What one login costs those who decide: verification and the store in this process, nothing around them. CPU time and allocations
//! of each call, and how many are through in a second, every Allow committed durably (`synchronous=FULL`, `fsync=on`).
//!
//! The counters at the allocator cost a few nanoseconds an allocation, which are in the CPU time. That of PostgreSQL's own
//! processes is not.

use anyhow::{Context, Result, bail, ensure};
use bench::{cpu::TICK_MICROSECONDS, page::splice, people};
use clap::Parser;
use data_encoding::BASE32_NOPAD;
use domain::Secret;
use futures::{StreamExt, TryStreamExt, stream};
use lab::Postgres;
use proto::{
    common,
    user_store::{
        ApplyBatchRequest, ApplySettingsRequest, BeginRunRequest, FinishRunRequest, LeadRequest, ListUsersRequest,
        SyncedUser, admin_server::Admin, sync_server::Sync,
    },
    verification::{
        AnswerRequest, Attempt, BeginRequest, ConfirmCodeRequest, Primary, StartCodeRequest,
        enrolment_server::Enrolment, outcome, verification_server::Verification,
    },
};
use service_kit::{Clock, Process, bus::InProcess, secret::SecretFile};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::{
    alloc::System,
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::{Code, Request};
use user_store::{Store, StoreSection};
use verification::{Deps, Service};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Odd, so that the median is one of them.
const ROUNDS: usize = 5;
const AT_ONCE: [usize; 2] = [1, 256];
const PERIOD_MS: i64 = 30_000;
const SETTINGS: &str = r#"
[[directory]]
name = "corp"
preset = "openldap"
urls = ["ldaps://ldap.corp.example"]
base = "dc=corp,dc=example"
query_bind = { kind = "anonymous" }

[[client]]
name = "intranet"
protocol = "ldap"
sources = ["192.0.2.0/24"]
target = "corp"
appended = "optional"

[[sync_item]]
name = "people"
directory = "corp"
source = { kind = "domain" }
"#;

#[derive(Debug, Parser)]
#[command(name = "twinlock-login-cost", about)]
struct Arguments {
    /// Each logs in once a round.
    #[arg(long, default_value_t = 800)]
    people: usize,
    /// Where the table goes; default: stdout.
    #[arg(long)]
    page: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::Builder::new().prefix("twinlock-cost-").tempdir()?;
    let postgres = Postgres::start(dir.path())?;
    let mut table = String::from(
        "| store | at once | call | CPU, µs | allocations | allocated, KiB | calls/s |\n|---|---|---|---|---|---|---|\n",
    );
    for (name, section) in [("SQLite", sqlite(dir.path())?), ("PostgreSQL", postgresql(&postgres, dir.path())?)] {
        let mut world = World::open(&section, arguments.people).await.with_context(|| name.to_owned())?;
        for at_once in AT_ONCE {
            let mut calls: [Vec<Cost>; 3] = Default::default();
            for _ in 0..ROUNDS {
                for (costs, cost) in calls.iter_mut().zip(world.round(at_once).await?) {
                    costs.push(cost);
                }
            }
            let names = ["Begin with the code: Allow", "Begin without: Ask", "Answer: Allow"];
            for (call, costs) in names.iter().zip(calls) {
                let median = |value: fn(&Cost) -> f64| {
                    let mut values: Vec<f64> = costs.iter().map(value).collect();
                    values.sort_by(f64::total_cmp);
                    values[values.len() / 2]
                };
                writeln!(
                    table,
                    "| {name} | {at_once} | {call} | {:.0} | {:.0} | {:.1} | {:.0} |",
                    median(|cost| cost.cpu_us),
                    median(|cost| cost.allocations),
                    median(|cost| cost.kibibytes),
                    median(|cost| cost.per_second),
                )?;
            }
        }
        world.store.close().await;
    }
    match arguments.page {
        Some(page) => splice(&page, "login", &table),
        None => Ok(write!(std::io::stdout(), "{table}")?),
    }
}

fn sqlite(dir: &Path) -> Result<StoreSection> {
    let url = format!("sqlite:{}", dir.join("twinlock.db").display());
    StoreSection::new(&url, &dir.join("sqlite.key").display().to_string()).map_err(anyhow::Error::msg)
}

fn postgresql(server: &Postgres, dir: &Path) -> Result<StoreSection> {
    let file = dir.join("database.password");
    lab::private_file(&file, Postgres::PASSWORD)?;
    let key = dir.join("postgresql.key").display().to_string();
    let section = StoreSection::new(&server.url_without_password(), &key).map_err(anyhow::Error::msg)?;
    let password = SecretFile::new(&file.display().to_string()).map_err(anyhow::Error::msg)?;
    Ok(StoreSection { password_file: Some(password), ..section })
}

/// Of one call.
struct Cost {
    cpu_us: f64,
    allocations: f64,
    kibibytes: f64,
    per_second: f64,
}

struct Person {
    subject: common::DirectoryRef,
    username: String,
    seed: Secret,
}

struct World {
    store: Store,
    verification: Arc<Service>,
    clock: Clock,
    people: Arc<[Person]>,
    /// Holds the tasks of both.
    process: Process,
}

impl World {
    /// Everybody synchronised, with a proven authenticator app.
    async fn open(section: &StoreSection, count: usize) -> Result<Self> {
        let process = Process::detached("twinlock-login-cost");
        let (bus, clock) = (Arc::new(InProcess::new()), Clock::at(Clock::system().now_ms()));
        let store = Store::open(section, bus.clone(), clock.clone(), process.shutdown()).await?;
        let services = store.services();
        let apply = ApplySettingsRequest { document: SETTINGS.into(), actor: "bench".into(), ..Default::default() };
        let applied = services.admin.apply_settings(Request::new(apply)).await?.into_inner();
        ensure!(applied.errors.is_empty(), "{:?}", applied.errors);
        let verification = Arc::new(Service::start(
            Deps {
                settings: services.settings_for(proto::permissions::part::VERIFICATION),
                facts: services.facts.clone(),
                commit: services.commit.clone(),
                outbox: services.outbox.clone(),
                bus,
                clock: clock.clone(),
                randomness: getrandom::fill,
            },
            &process,
        ));
        let mut world = Self { store, verification, clock, people: Arc::new([]), process };
        world.synchronise(count).await?;
        world.people = world.enrol(count).await?.into();
        Ok(world)
    }

    async fn synchronise(&self, count: usize) -> Result<()> {
        let sync = self.store.services().sync;
        let epoch = sync.lead(Request::new(LeadRequest { holder: "bench".into() })).await?.into_inner().epoch;
        let run = BeginRunRequest { epoch, directory: "corp".into(), mode: "full".into(), ..Default::default() };
        let run_id = sync.begin_run(Request::new(run)).await?.into_inner().run_id;
        for batch in (0..count).collect::<Vec<_>>().chunks(500) {
            let users = batch.iter().map(|number| synced(*number)).collect();
            let request = ApplyBatchRequest { epoch, run_id: run_id.clone(), users, ..Default::default() };
            let problems = sync.apply_batch(Request::new(request)).await?.into_inner().problems;
            ensure!(problems.is_empty(), "{problems:?}");
        }
        let finish = FinishRunRequest { epoch, run_id, complete: true, ..Default::default() };
        sync.finish_run(Request::new(finish)).await?;
        Ok(())
    }

    async fn enrol(&self, count: usize) -> Result<Vec<Person>> {
        let admin = self.store.services().admin;
        let mut ids = Vec::new();
        let mut after = String::new();
        loop {
            let request = ListUsersRequest { after, limit: 1000, ..Default::default() };
            let page = admin.list_users(Request::new(request)).await?.into_inner();
            ids.extend(page.users.into_iter().map(|user| (user.username, user.user_id)));
            after = page.next;
            if after.is_empty() {
                break;
            }
        }
        ensure!(ids.len() == count, "{} users in the place of {count}", ids.len());
        stream::iter(ids).map(|(username, user_id)| self.enrol_one(username, user_id)).buffered(64).try_collect().await
    }

    async fn enrol_one(&self, username: String, user_id: String) -> Result<Person> {
        let start = StartCodeRequest { user_id: user_id.clone(), ..Default::default() };
        let begun = Instant::now();
        let started = loop {
            match self.verification.start_code(Request::new(start.clone())).await {
                Ok(reply) => break reply.into_inner(),
                // Until it has its settings and keys.
                Err(status) if status.code() == Code::Unavailable && begun.elapsed() < Duration::from_secs(10) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => bail!(status),
            }
        };
        let seed = Secret::from(started.seed_base32.context("a seed")?);
        let seed = Secret::new(BASE32_NOPAD.decode(seed.expose())?);
        let confirm = ConfirmCodeRequest {
            user_id,
            factor_id: started.factor_id,
            code: Some(code(&seed, self.clock.now_ms() - PERIOD_MS)),
            actor: "bench".into(),
        };
        let confirmed = self.verification.confirm_code(Request::new(confirm)).await?.into_inner();
        ensure!(confirmed.confirmed, "{username}: {}", confirmed.reason);
        let number = username.trim_start_matches("user").parse().context("a number")?;
        Ok(Person { subject: subject(number), username, seed })
    }

    /// Everybody logs in twice, with the code appended and when asked for it: what each of the three calls cost.
    async fn round(&mut self, at_once: usize) -> Result<[Cost; 3]> {
        self.clock.advance(PERIOD_MS);
        let now_ms = self.clock.now_ms();
        let everybody = || (0..self.people.len()).map(|number| (number, uuid::Uuid::now_v7().to_string()));
        let verification = self.verification.clone();
        let people = self.people.clone();
        let with_code = self.measure(at_once, everybody().collect(), move |(number, id): (usize, String)| {
            let (verification, person) = (verification.clone(), &people[number]);
            let request = begin(person, id, Some(code(&person.seed, now_ms)));
            async move {
                match verification.begin(Request::new(request)).await?.into_inner().result {
                    Some(outcome::Result::Allow(_)) => Ok(()),
                    other => bail!("{other:?} in the place of an Allow"),
                }
            }
        });
        let with_code = with_code.await?;

        self.clock.advance(PERIOD_MS);
        let now_ms = self.clock.now_ms();
        let attempts: Vec<(usize, String)> = everybody().collect();
        let (verification, people) = (self.verification.clone(), self.people.clone());
        let asked = self.measure(at_once, attempts.clone(), move |(number, id)| {
            let (verification, request) = (verification.clone(), begin(&people[number], id, None));
            async move {
                match verification.begin(Request::new(request)).await?.into_inner().result {
                    Some(outcome::Result::Ask(_)) => Ok(()),
                    other => bail!("{other:?} in the place of an Ask"),
                }
            }
        });
        let asked = asked.await?;
        let (verification, people) = (self.verification.clone(), self.people.clone());
        let answered = self.measure(at_once, attempts, move |(number, transaction_id)| {
            let answer = Some(code(&people[number].seed, now_ms));
            let mark = transaction_id.clone().into_bytes();
            let request = AnswerRequest { transaction_id, step: 1, client: "intranet".into(), answer, mark };
            let verification = verification.clone();
            async move {
                match verification.answer(Request::new(request)).await?.into_inner().result {
                    Some(outcome::Result::Allow(_)) => Ok(()),
                    other => bail!("{other:?} in the place of an Allow"),
                }
            }
        });
        Ok([with_code, asked, answered.await?])
    }

    async fn measure<T, F>(&self, at_once: usize, inputs: Vec<T>, call: impl Fn(T) -> F) -> Result<Cost>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let calls = inputs.len() as f64;
        let (heap, cpu, begun) = (ALLOCATOR.stats(), cpu_ticks()?, Instant::now());
        let mut running = stream::iter(inputs).map(|input| tokio::spawn(call(input))).buffer_unordered(at_once);
        while let Some(ended) = running.next().await {
            ended??;
        }
        let (wall, cpu, after) = (begun.elapsed().as_secs_f64(), cpu_ticks()? - cpu, ALLOCATOR.stats());
        Ok(Cost {
            cpu_us: (cpu * TICK_MICROSECONDS) as f64 / calls,
            allocations: (after.allocations - heap.allocations) as f64 / calls,
            kibibytes: (after.bytes_allocated - heap.bytes_allocated) as f64 / 1024.0 / calls,
            per_second: calls / wall,
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.process.shutdown().begin();
    }
}

fn cpu_ticks() -> Result<u64> {
    bench::cpu::ticks(std::process::id()).context("the CPU time of this process")
}

fn begin(person: &Person, transaction_id: String, code: Option<common::Secret>) -> BeginRequest {
    let attempt = Attempt {
        transaction_id,
        client: "intranet".into(),
        protocol: "ldap".into(),
        subject: Some(person.subject.clone()),
        username: person.username.clone(),
        name_form: "bare".into(),
        client_ip: "192.0.2.7".into(),
        can_challenge: true,
        ..Default::default()
    };
    BeginRequest { attempt: Some(attempt.into()), primary: Primary::Passed.into(), code, ..Default::default() }
}

fn code(seed: &Secret, now_ms: i64) -> common::Secret {
    common::Secret { value: people::code(seed, u64::try_from(now_ms / PERIOD_MS).unwrap_or_default()) }
}

fn subject(number: u128) -> common::DirectoryRef {
    let id = uuid::Uuid::from_u128(number + 1);
    common::DirectoryRef { directory: "corp".into(), object_id: format!("entryUUID:{id}") }
}

fn synced(number: usize) -> SyncedUser {
    SyncedUser {
        object_id: subject(number as u128).object_id,
        distinguished_name: format!("uid=user{number},dc=corp,dc=example"),
        username: format!("user{number}"),
        names: vec![format!("user{number}@corp.example")],
        items: vec!["people".into()],
        ..Default::default()
    }
}
