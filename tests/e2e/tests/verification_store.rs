//! Verification over the real store on SQLite: what the fakes of its own tests promise, kept by the part that keeps it.

use anyhow::{Context, Result, ensure};
use domain::{CodeAlgorithm, DirectoryRef, Secret};
use futures::{StreamExt, future::join_all};
use proto::permissions::part::VERIFICATION;
use proto::user_store::admin_server::Admin;
use proto::user_store::sync_server::Sync;
use proto::user_store::{
    ApplyBatchRequest, ApplySettingsRequest, AuditEvent, BeginRunRequest, FinishRunRequest, LeadRequest,
    ListAuditRequest, ListUsersRequest, SetUserStateRequest, SyncedUser, VerifyAuditRequest,
};
use proto::verification::enrolment_server::Enrolment;
use proto::verification::verification_server::Verification;
use proto::verification::{
    AnswerRequest, Attempt, BeginRequest, CompleteRequest, ConfirmCodeRequest, Outcome, Primary, StartCodeRequest,
    outcome::Result as Outcomes,
};
use service_kit::bus::InProcess;
use service_kit::{Clock, Process};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};
use uuid::Uuid;
use verification::{Deps, Service};

const NOW: i64 = 1_790_000_000_000;
const ANN: &str = "entryUUID:00000000-0000-0000-0000-00000000a001";
const NOBODY: &str = "entryUUID:00000000-0000-0000-0000-00000000f00f";

const SETTINGS: &str = r#"
[[directory]]
name = "corp"
preset = "openldap"
urls = ["ldaps://dc1.corp.example"]
base = "dc=corp,dc=example"
query_bind = { kind = "anonymous" }

[[client]]
name = "vpn"
protocol = "radius"
sources = ["10.0.4.0/28"]
secret = "generate"
target = "corp"

[[client]]
name = "lax"
protocol = "radius"
sources = ["10.0.5.0/28"]
secret = "generate"
target = "corp"
unknown_user = "pass"
not_enrolled = "pass"

[[sync_item]]
name = "everyone"
directory = "corp"
source = { kind = "domain" }
"#;

/// The store, three nodes, and ann with a proven token.
struct World {
    nodes: Vec<Arc<Service>>,
    store: user_store::Services,
    clock: Clock,
    seed: Secret,
    user_id: String,
    process: Process,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let process = Process::detached("test");
        let clock = Clock::at(NOW);
        let bus = Arc::new(InProcess::new());
        let section: user_store::StoreSection = serde_json::from_value(serde_json::json!({
            "url": format!("sqlite:{}", dir.path().join("store.db").display()),
            "master_key_file": dir.path().join("master.key"),
        }))?;
        let store = user_store::Store::open(&section, bus.clone(), clock.clone(), process.shutdown()).await?.services();
        apply_settings(&store).await?;
        sync_ann(&store).await?;
        let user_id = only_user(&store).await?;
        let deps = || Deps {
            settings: store.settings_for(VERIFICATION),
            facts: store.facts.clone(),
            commit: store.commit.clone(),
            outbox: store.outbox.clone(),
            bus: bus.clone(),
            clock: clock.clone(),
            randomness: |octets| {
                octets.iter_mut().enumerate().for_each(|(place, octet)| *octet = place as u8);
                Ok(())
            },
        };
        let nodes = (0..3).map(|_| Arc::new(Service::start(deps(), &process))).collect();
        let seed = Secret::new((0..20).collect::<Vec<u8>>());
        let world = Self { nodes, store, clock, seed, user_id, process, _dir: dir };
        world.enrol().await?;
        Ok(world)
    }

    /// Waits for the settings of every node, then gives ann her token.
    async fn enrol(&self) -> Result<()> {
        let start = || StartCodeRequest { user_id: self.user_id.clone(), ..StartCodeRequest::default() };
        let mut factor_id = String::new();
        for node in &self.nodes {
            let mut tries = 0;
            factor_id = loop {
                match node.start_code(request(start())).await {
                    Ok(started) => break started.into_inner().factor_id,
                    Err(status) if tries > 500 => return Err(status).context("the node never got its settings"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
                tries += 1;
            };
        }
        let confirm = ConfirmCodeRequest {
            user_id: self.user_id.clone(),
            factor_id,
            code: Some(Secret::from(self.code(0)).into()),
            actor: "self".into(),
        };
        let reply = self.nodes[0].confirm_code(request(confirm)).await?.into_inner();
        ensure!(reply.confirmed, "not confirmed: {}", reply.reason);
        ensure!(
            self.login(0, &attempt("vpn", ANN), &self.code(0)).await == "deny reused_code",
            "proving spends the code"
        );
        self.clock.advance(60_000);
        Ok(())
    }

    fn code(&self, steps: i64) -> String {
        let step = (self.clock.now_ms() / 30_000 + steps) as u64;
        let code = otp::hotp(&self.seed, CodeAlgorithm::Sha1, step, 6);
        String::from_utf8(code[..6].to_vec()).expect("ASCII")
    }

    /// A code that is none of those around now.
    fn wrong(&self, number: usize) -> String {
        let right: Vec<String> = (-1..=1).map(|steps| self.code(steps)).collect();
        let mut wrong = (0..1_000_000).map(|it| format!("{:06}", (it + number * 7919) % 1_000_000));
        wrong.find(|code| !right.contains(code)).expect("three of a million are right")
    }

    async fn login(&self, node: usize, attempt: &Attempt, code: &str) -> String {
        said(self.nodes[node].begin(begin(attempt, Primary::Passed, Some(code))).await)
    }

    async fn ask(&self, node: usize, attempt: &Attempt) -> String {
        said(self.nodes[node].begin(begin(attempt, Primary::Passed, None)).await)
    }

    async fn answer(&self, node: usize, attempt: &Attempt, step: u32, code: &str) -> String {
        let message = AnswerRequest {
            transaction_id: attempt.transaction_id.clone(),
            step,
            client: attempt.client.clone(),
            answer: Some(Secret::from(code).into()),
            mark: b"the same packet".to_vec(),
        };
        said(self.nodes[node].answer(request(message)).await)
    }

    async fn spend(&self, node: usize, attempt: &Attempt, code: &str) -> String {
        said(self.nodes[node].begin(begin(attempt, Primary::Pending, Some(code))).await)
    }

    async fn complete(&self, node: usize, attempt: &Attempt) -> String {
        let message = CompleteRequest { attempt: Some(attempt.clone()) };
        said(self.nodes[node].complete(request(message)).await)
    }

    /// The authentication events, oldest first.
    async fn events(&self) -> Result<Vec<AuditEvent>> {
        let list = ListAuditRequest { kind: "authentication".into(), limit: 1000, ..ListAuditRequest::default() };
        Ok(self.store.admin.list_audit(request(list)).await?.into_inner().events)
    }

    async fn finish(self) -> Result<()> {
        let verified = self.store.admin.verify_audit(request(VerifyAuditRequest::default())).await?.into_inner();
        ensure!(verified.first_bad == 0, "the audit is broken at {}: {}", verified.first_bad, verified.text);
        self.process.shutdown().begin();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_code_sent_200_times_at_once_over_three_nodes_lets_in_once() -> Result<()> {
    // V-11, V-61, B-80
    let world = Arc::new(World::new().await?);
    let code = world.code(0);
    let tries = (0..200).map(|number| {
        let (world, code) = (world.clone(), code.clone());
        tokio::spawn(async move { world.login(number % 3, &attempt("vpn", ANN), &code).await })
    });
    let mut results = BTreeMap::new();
    for result in join_all(tries).await {
        *results.entry(result?).or_insert(0) += 1;
    }
    assert_eq!(results.get("allow valid_code"), Some(&1), "{results:?}");
    let known = ["allow valid_code", "deny reused_code", "deny locked_out"];
    assert!(results.keys().all(|result| known.contains(&result.as_str())), "{results:?}");
    let allowed = world.events().await?.iter().filter(|event| event.reason == "valid_code").count();
    assert_eq!(allowed, 1);
    Arc::into_inner(world).context("somebody still holds the world")?.finish().await
}

#[tokio::test]
async fn the_same_request_asking_again_gets_the_first_result_and_nobody_else_does() -> Result<()> {
    // V-02: also later, and on another node
    let world = World::new().await?;
    let first = attempt("vpn", ANN);
    let code = world.code(0);
    assert_eq!(world.login(0, &first, &code).await, "allow valid_code");
    world.clock.advance(5_000);
    assert_eq!(world.login(1, &first, &code).await, "allow valid_code");
    let elsewhere = Attempt { client: "lax".into(), ..first.clone() };
    assert_eq!(world.login(2, &elsewhere, &code).await, "deny challenge_gone");
    assert_eq!(world.ask(2, &Attempt { subject: subject(NOBODY), ..elsewhere }).await, "deny challenge_gone");
    assert_eq!(world.login(0, &attempt("vpn", ANN), &code).await, "deny reused_code");
    let reasons: Vec<String> = world.events().await?.into_iter().map(|event| event.reason).skip(1).collect();
    assert_eq!(reasons, ["valid_code", "reused_code"]);
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_answers_to_one_question_are_evaluated_once_and_a_conversation_three_times() -> Result<()> {
    // R-41, R-44, R-45
    let world = Arc::new(World::new().await?);
    let asked = attempt("vpn", ANN);
    assert_eq!(world.ask(0, &asked).await, "ask 1");
    let answers = (0..50).map(|number| {
        let (world, asked) = (world.clone(), asked.clone());
        tokio::spawn(async move { world.answer(number % 3, &asked, 1, &world.wrong(number)).await })
    });
    let mut results = BTreeMap::new();
    for result in join_all(answers).await {
        *results.entry(result?).or_insert(0) += 1;
    }
    let expected = BTreeMap::from([("ask 2 after wrong_code".to_owned(), 1), ("deny challenge_gone".to_owned(), 49)]);
    assert_eq!(results, expected);
    assert_eq!(world.answer(1, &asked, 2, &world.wrong(1)).await, "ask 3 after wrong_code");
    assert_eq!(world.answer(2, &asked, 3, &world.wrong(2)).await, "deny wrong_code");
    assert_eq!(world.answer(0, &asked, 4, &world.code(0)).await, "deny challenge_gone");
    let next = attempt("vpn", ANN);
    assert_eq!(world.ask(1, &next).await, "ask 1");
    assert_eq!(world.answer(2, &next, 1, &world.code(0)).await, "allow valid_code");
    Arc::into_inner(world).context("somebody still holds the world")?.finish().await
}

#[tokio::test]
async fn a_code_before_the_password_is_spent_and_completed_once_on_any_node() -> Result<()> {
    // L-52 b, L-53
    let world = World::new().await?;
    let spent = attempt("vpn", ANN);
    let code = world.code(0);
    assert_eq!(world.spend(0, &spent, &code).await, "accepted");
    assert_eq!(world.spend(1, &spent, &code).await, "accepted");
    assert_eq!(world.spend(1, &attempt("vpn", ANN), &code).await, "deny reused_code");
    assert_eq!(world.login(2, &attempt("vpn", ANN), &code).await, "deny reused_code");
    assert_eq!(world.complete(0, &attempt("vpn", ANN)).await, "deny challenge_gone");
    assert_eq!(world.complete(2, &spent).await, "allow valid_code");
    assert_eq!(world.complete(1, &spent).await, "allow valid_code");
    let allowed = world.events().await?.iter().filter(|event| event.reason == "valid_code").count();
    assert_eq!(allowed, 1);
    world.finish().await
}

#[tokio::test]
async fn wrong_codes_are_throttled_and_those_without_the_password_lock_nobody() -> Result<()> {
    // V-14, V-15, L-54
    let world = World::new().await?;
    let mut looked_at = 0;
    for number in 0..60 {
        match world.spend(number % 3, &attempt("vpn", ANN), &world.wrong(number)).await.as_str() {
            "deny wrong_code" => looked_at += 1,
            other => assert_eq!(other, "deny rate_limited"),
        }
    }
    assert_eq!(looked_at, 20);
    assert_eq!(world.login(0, &attempt("vpn", ANN), &world.code(0)).await, "allow valid_code");
    world.clock.advance(60_000);
    // from a place the user never succeeded from
    let stranger = || Attempt { calling_station: "198.51.100.7".into(), ..attempt("vpn", ANN) };
    for number in 0..5 {
        assert_eq!(world.login(number % 3, &stranger(), &world.wrong(number)).await, "deny wrong_code");
    }
    assert_eq!(world.login(1, &stranger(), &world.code(0)).await, "deny locked_out");
    // the usual place keeps a reserve
    assert_eq!(world.login(2, &attempt("vpn", ANN), &world.code(0)).await, "allow valid_code");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_guesses_from_500_places_get_no_more_tries_than_the_rule_and_lock_nobody_out() -> Result<()> {
    // V-14, V-15, L-54, B-82
    const GUESSES: usize = 10_000;
    let world = Arc::new(World::new().await?);
    // The usual place of ann.
    assert_eq!(world.login(0, &attempt("vpn", ANN), &world.code(0)).await, "allow valid_code");
    world.clock.advance(60_000);
    let from = |number: usize| format!("198.51.{}.{}", number % 500 / 250, number % 250 + 1);
    let guesses = futures::stream::iter(0..GUESSES).map(|number| {
        let world = world.clone();
        async move {
            let stranger = Attempt { calling_station: from(number), ..attempt("vpn", ANN) };
            world.spend(number % 3, &stranger, &world.wrong(number)).await
        }
    });
    let mut looked_at = 0;
    let mut guesses = guesses.buffer_unordered(64);
    while let Some(result) = guesses.next().await {
        match result.as_str() {
            "deny wrong_code" => looked_at += 1,
            other => assert_eq!(other, "deny rate_limited"),
        }
    }
    drop(guesses);
    assert!(looked_at <= 20, "{looked_at} guesses were evaluated");
    // Strangers who know the password lock themselves out, not her.
    for number in 0..50 {
        let stranger = Attempt { calling_station: from(number), ..attempt("vpn", ANN) };
        assert_ne!(world.login(number % 3, &stranger, &world.wrong(number)).await, "allow valid_code");
    }
    assert_eq!(world.login(1, &attempt("vpn", ANN), &world.code(0)).await, "allow valid_code", "her usual place");
    Arc::into_inner(world).context("somebody still holds the world")?.finish().await
}

#[tokio::test]
async fn whoever_is_disabled_is_blocked_where_even_strangers_pass() -> Result<()> {
    // FU-02
    let world = World::new().await?;
    let stranger = Attempt { subject: subject(NOBODY), ..attempt("lax", ANN) };
    assert_eq!(world.ask(0, &stranger).await, "allow unknown_user_passed");
    let asked = attempt("lax", ANN);
    assert_eq!(world.ask(1, &asked).await, "ask 1");
    let disable = SetUserStateRequest {
        user_id: world.user_id.clone(),
        state: "disabled".into(),
        reason: "left".into(),
        actor: "admin:test".into(),
        ..SetUserStateRequest::default()
    };
    world.store.admin.set_user_state(request(disable)).await?;
    assert_eq!(world.ask(2, &attempt("lax", ANN)).await, "deny blocked");
    assert_eq!(world.login(2, &attempt("vpn", ANN), &world.code(0)).await, "deny blocked");
    assert_eq!(world.answer(2, &asked, 1, &world.code(0)).await, "deny blocked");
    world.finish().await
}

async fn apply_settings(store: &user_store::Services) -> Result<()> {
    let apply = ApplySettingsRequest {
        document: SETTINGS.into(),
        actor: "admin:test".into(),
        ..ApplySettingsRequest::default()
    };
    let applied = store.admin.apply_settings(request(apply)).await?.into_inner();
    ensure!(applied.errors.is_empty(), "settings refused: {:?}", applied.errors);
    Ok(())
}

async fn sync_ann(store: &user_store::Services) -> Result<()> {
    let epoch = store.sync.lead(request(LeadRequest { holder: "test".into() })).await?.into_inner().epoch;
    let begin = BeginRunRequest {
        epoch,
        directory: "corp".into(),
        mode: "full".into(),
        now_unix_ms: NOW,
        ..BeginRunRequest::default()
    };
    let run_id = store.sync.begin_run(request(begin)).await?.into_inner().run_id;
    let ann = SyncedUser {
        object_id: ANN.into(),
        distinguished_name: "uid=ann,dc=corp,dc=example".into(),
        username: "ann".into(),
        items: vec!["everyone".into()],
        ..SyncedUser::default()
    };
    let users = vec![ann];
    let batch =
        ApplyBatchRequest { epoch, run_id: run_id.clone(), users, now_unix_ms: NOW, ..ApplyBatchRequest::default() };
    let applied = store.sync.apply_batch(request(batch)).await?.into_inner();
    ensure!(applied.added == 1, "not added: {:?}", applied.problems);
    let finish = FinishRunRequest { epoch, run_id, complete: true, now_unix_ms: NOW, ..FinishRunRequest::default() };
    store.sync.finish_run(request(finish)).await?;
    Ok(())
}

async fn only_user(store: &user_store::Services) -> Result<String> {
    let users = store.admin.list_users(request(ListUsersRequest::default())).await?.into_inner().users;
    ensure!(users.len() == 1, "{} users", users.len());
    Ok(users[0].user_id.clone())
}

fn subject(object_id: &str) -> Option<proto::common::DirectoryRef> {
    let id = object_id.parse().expect("a valid id");
    Some((&DirectoryRef { directory: "corp".parse().expect("a valid name"), id }).into())
}

fn attempt(client: &str, object_id: &str) -> Attempt {
    Attempt {
        transaction_id: Uuid::now_v7().to_string(),
        client: client.into(),
        protocol: "radius".into(),
        subject: subject(object_id),
        username: "ann".into(),
        name_form: "bare".into(),
        client_ip: "10.0.4.3".into(),
        calling_station: "203.0.113.9".into(),
        can_challenge: true,
        ..Attempt::default()
    }
}

fn begin(attempt: &Attempt, primary: Primary, code: Option<&str>) -> Request<BeginRequest> {
    request(BeginRequest {
        attempt: Some(attempt.clone().into()),
        primary: primary.into(),
        code: code.map(|code| Secret::from(code).into()),
        ..BeginRequest::default()
    })
}

fn request<T>(message: T) -> Request<T> {
    service_kit::grpc::with_deadline(Request::new(message), Duration::from_secs(10))
}

/// What came back, short: `allow valid_code`, `deny wrong_code`, `ask 1`, `accepted`.
fn said(result: Result<Response<Outcome>, Status>) -> String {
    match result.map(|response| response.into_inner().result) {
        Ok(Some(Outcomes::Allow(allow))) => format!("allow {}", allow.reason),
        Ok(Some(Outcomes::Deny(deny))) => format!("deny {}", deny.reason),
        Ok(Some(Outcomes::Ask(ask))) if ask.previous.is_empty() => format!("ask {}", ask.step),
        Ok(Some(Outcomes::Ask(ask))) => format!("ask {} after {}", ask.step, ask.previous),
        Ok(Some(Outcomes::CodeAccepted(_))) => "accepted".into(),
        Ok(None) => "nothing".into(),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}
