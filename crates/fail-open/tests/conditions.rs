//! V-40: every condition that is missing alone is a No; all of them are a pass with exactly one event, through kill -9 too.

use directory::{Directory, Entry, Options};
use domain::settings::{self, AuthenticationBind, BindKind, Client, Preset, QueryBind, RefuseOrPass};
use domain::{DirectoryRef, NameForm, ObjectName, Protocol, TransactionId};
use fail_open::{FailOpen, Login, NoPass, Passed, Presence};
use proto::user_store::fail_open_server::FailOpen as Port;
use proto::user_store::{AuditEvent, RecordReply, RecordRequest};
use service_kit::{Clock, Shutdown};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

const NOW_MS: i64 = 1_790_000_000_000; // 2026-09-21T14:13:20Z

/// The store: one event a transaction, and what it is told to say.
#[derive(Default)]
struct Store {
    says: Mutex<Option<Code>>,
    hangs: Mutex<bool>,
    events: Mutex<BTreeMap<String, AuditEvent>>,
    /// Whether the last event was told after its pass.
    let_in_before: Mutex<bool>,
    asked: Mutex<u32>,
}

#[tonic::async_trait]
impl Port for Store {
    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordReply>, Status> {
        *self.asked.lock().expect("held briefly") += 1;
        if *self.hangs.lock().expect("held briefly") {
            std::future::pending::<()>().await;
        }
        if let Some(code) = *self.says.lock().expect("held briefly") {
            return Err(Status::new(code, "told to"));
        }
        let RecordRequest { event, let_in_before } = request.into_inner();
        *self.let_in_before.lock().expect("held briefly") = let_in_before;
        let event = event.expect("an event");
        self.events.lock().expect("held briefly").insert(event.transaction_id.clone(), event);
        Ok(Response::new(RecordReply {}))
    }
}

struct World {
    store: Arc<Store>,
    presence: Arc<Presence>,
    fail_open: Arc<FailOpen>,
    directory: Directory,
    clock: Clock,
    verification: Arc<Mutex<Code>>,
    shutdown: Shutdown,
}

impl World {
    fn new(spool: Option<&Path>) -> Self {
        let (store, presence, shutdown) = (Arc::new(Store::default()), Presence::new(), Shutdown::new());
        let clock = Clock::at(NOW_MS);
        let verification = Arc::new(Mutex::new(Code::Unavailable));
        let says = verification.clone();
        let ask = move |_| {
            let code = *says.lock().expect("held briefly");
            Some(async move { if code == Code::Ok { Ok(()) } else { Err(Status::new(code, "")) } })
        };
        presence.watch(&shutdown, ask, |_, _| {});
        let fail_open = FailOpen::start("test", spool, presence.clone(), store.clone(), clock.clone(), &shutdown);
        Self { store, presence, fail_open, directory: unreachable_directory(), clock, verification, shutdown }
    }

    /// One with verification down for long enough.
    async fn down(spool: Option<&Path>) -> Self {
        let world = Self::new(spool);
        sleep(Duration::from_secs(40)).await;
        assert!(world.fail_open.is_down());
        world
    }

    async fn login(&self, client: &Client, transaction: u128) -> Result<Passed, NoPass> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let admission = self.fail_open.admit(client, &self.directory, &ann(), deadline).await?;
        let transaction = TransactionId(Uuid::from_u128(transaction));
        let login = Login {
            transaction,
            protocol: Protocol::Radius,
            username: "ann",
            client_ip: "10.0.4.3".into(),
            calling_station: "",
        };
        let passed = self.fail_open.record(admission, &login, deadline).await?;
        assert_eq!((passed.transaction(), passed.client()), (transaction, client.name.as_str()));
        Ok(passed)
    }

    fn events(&self) -> usize {
        self.store.events.lock().expect("held briefly").len()
    }

    fn says(&self, code: Option<Code>) {
        *self.store.says.lock().expect("held briefly") = code;
    }

    async fn has_events(&self, count: usize) {
        for _ in 0..1_000 {
            if self.events() == count {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("{} events instead of {count}", self.events());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

fn passing() -> Client {
    let client =
        serde_json::json!({ "name": "vpn", "protocol": "radius", "target": "corp", "when_unavailable": "pass" });
    serde_json::from_value(client).expect("a client")
}

fn unreachable_directory() -> Directory {
    let settings = settings::Directory {
        name: ObjectName::new("corp").expect("a name"),
        preset: Preset::OpenLdap,
        urls: vec!["ldap://127.0.0.1:1".into()],
        base: "dc=corp,dc=example".into(),
        query_bind: QueryBind { kind: BindKind::Anonymous, name: String::new(), password: None },
        authentication_bind: AuthenticationBind { kind: BindKind::Simple },
        ca: None,
        pinned_certificates: None,
        danger_clear_text: true,
        windows_mechanism: Default::default(),
        connect_timeout_seconds: 1,
        timeout_seconds: 1,
        page_size: 1000,
        user_filter: String::new(),
        group_filter: String::new(),
        container_filter: String::new(),
        feed: None,
        full_every_hours: 24,
        size_limit: 0,
        country: String::new(),
        netbios_domain: String::new(),
        lockout_guard: None,
        default_domain: String::new(),
        server_order: Default::default(),
        sign_in_by_mail: None,
        strip_domain: false,
        alternate_directories: Vec::new(),
        sync_bind: None,
        trusted_domains: None,
        trusted: Default::default(),
        attribute_scope_queries: true,
        attributes: Default::default(),
    };
    Directory::new(settings, None, Options::default()).expect("usable settings")
}

fn ann() -> Entry {
    let id = "entryUUID:00000000-0000-4000-8000-00000000000a".parse().expect("an id");
    Entry {
        subject: DirectoryRef { directory: ObjectName::new("corp").expect("a name"), id },
        dn: "uid=ann,dc=corp,dc=example".into(),
        username: "ann".into(),
        first_name: None,
        last_name: None,
        mail: None,
        account: None,
        password_stamp: None,
        form: NameForm::Bare,
    }
}

#[tokio::test(start_paused = true)]
async fn all_conditions_together_are_a_pass_with_exactly_one_event() {
    // V-40
    let world = World::down(None).await;
    world.login(&passing(), 7).await.expect("everything holds");
    let until = Client { when_unavailable_until: Some("2026-09-21T14:13:21Z".into()), ..passing() };
    world.login(&until, 8).await.expect("its end is ahead");
    let events = world.store.events.lock().expect("held briefly").clone();
    assert_eq!(events.len(), 2);
    let event = &events[&Uuid::from_u128(7).to_string()];
    let expected = AuditEvent {
        at_unix_ms: NOW_MS,
        kind: "authentication".into(),
        transaction_id: Uuid::from_u128(7).to_string(),
        client: "vpn".into(),
        protocol: "radius".into(),
        username: "ann".into(),
        client_ip: "10.0.4.3".into(),
        result: "bypass".into(),
        reason: "fail_open".into(),
        assurance: "none".into(),
        source: "fail_open".into(),
        ..AuditEvent::default()
    };
    assert_eq!(*event, expected);
}

#[tokio::test(start_paused = true)]
async fn each_condition_missing_alone_is_a_no_without_an_event() {
    // V-40: the primary is missing where nobody calls `record`; the portal has no `FailOpen` at all
    let up = World::new(None);
    *up.verification.lock().expect("held briefly") = Code::Ok;
    sleep(Duration::from_secs(40)).await;
    assert!(matches!(up.login(&passing(), 1).await, Err(NoPass::NotDown)));
    let early = World::new(None);
    sleep(Duration::from_secs(29)).await;
    assert!(matches!(early.login(&passing(), 1).await, Err(NoPass::NotDown)), "ten failures, but not for 30 s");

    let world = World::down(None).await;
    let refusing = Client { when_unavailable: RefuseOrPass::Refuse, ..passing() };
    assert!(matches!(world.login(&refusing, 1).await, Err(NoPass::ClientRefuses)));
    for past in ["2026-09-21T14:13:20Z", "whenever"] {
        let ended = Client { when_unavailable_until: Some(past.into()), ..passing() };
        assert!(matches!(world.login(&ended, 1).await, Err(NoPass::Ended)), "{past}");
    }
    let limited = Client { when_unavailable_groups: vec!["cn=vpn,dc=corp,dc=example".into()], ..passing() };
    assert!(matches!(world.login(&limited, 1).await, Err(NoPass::GroupUnknown)), "nobody can say who is in it");
    world.says(Some(Code::Unavailable));
    assert!(matches!(world.login(&passing(), 1).await, Err(NoPass::NowhereToWrite)));
    world.says(Some(Code::InvalidArgument));
    assert!(matches!(world.login(&passing(), 1).await, Err(NoPass::Refused(Code::InvalidArgument))));
    world.says(None);
    let deadline = Instant::now();
    let admission = world.fail_open.admit(&passing(), &world.directory, &ann(), deadline).await.expect("it holds");
    let login = Login {
        transaction: TransactionId(Uuid::from_u128(1)),
        protocol: Protocol::Ldap,
        username: "ann",
        client_ip: String::new(),
        calling_station: "",
    };
    assert!(matches!(world.fail_open.record(admission, &login, deadline).await, Err(NoPass::NoTime)));
    assert_eq!(world.events(), 0);

    // And verification that comes back between password and event decides itself.
    let deadline = Instant::now() + Duration::from_secs(10);
    let admission = world.fail_open.admit(&passing(), &world.directory, &ann(), deadline).await.expect("it holds");
    world.presence.heard(Code::Ok);
    assert!(matches!(world.fail_open.record(admission, &login, deadline).await, Err(NoPass::NotDown)));
    assert_eq!(world.events(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_event_the_store_does_not_take_waits_on_the_disk_and_is_sent_on_once_it_does() {
    // V-40: refused, hanging
    let directory = tempfile::tempdir().expect("a directory");
    let world = World::down(Some(directory.path())).await;
    world.says(Some(Code::Unavailable));
    world.login(&passing(), 1).await.expect("there is a spool");
    *world.store.hangs.lock().expect("held briefly") = true;
    world.login(&passing(), 2).await.expect("there is a spool");
    assert!(!*world.store.let_in_before.lock().expect("held briefly"), "nobody is in yet");
    let file = directory.path().join("fail-open.test.jsonl");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there").lines().count(), 2);
    *world.store.hangs.lock().expect("held briefly") = false;
    world.says(None);
    world.has_events(2).await;
    assert!(*world.store.let_in_before.lock().expect("held briefly"), "they are in, whatever the store knows of them");
    for _ in 0..100 {
        if std::fs::metadata(&file).expect("it is there").len() == 0 {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("the spool is not emptied");
}

#[tokio::test(start_paused = true)]
async fn a_process_killed_before_or_after_sending_on_leaves_one_event() {
    // V-40: kill -9 between the spool and the store, and between the store and the emptying of the spool
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("fail-open.test.jsonl");
    let killed = World::down(Some(directory.path())).await;
    killed.says(Some(Code::Unavailable));
    killed.login(&passing(), 1).await.expect("there is a spool");
    let left = std::fs::read(&file).expect("it is there");
    // Its tasks end with it, and its lock on the file as with a process.
    let store = killed.store.clone();
    drop(killed);

    for round in 0..2 {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::write(home.path().join("fail-open.test.jsonl"), &left).expect("writable");
        let mut next = World::new(None);
        let asked = *store.asked.lock().expect("held briefly");
        *store.says.lock().expect("held briefly") = None;
        next.store = store.clone();
        next.fail_open = FailOpen::start(
            "test",
            Some(home.path()),
            next.presence.clone(),
            store.clone(),
            next.clock.clone(),
            &next.shutdown,
        );
        next.has_events(1).await;
        for _ in 0..100 {
            if *store.asked.lock().expect("held briefly") > asked {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        assert!(*store.asked.lock().expect("held briefly") > asked, "round {round}: it is sent on again");
        assert_eq!(next.events(), 1, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_the_store_will_never_take_does_not_hold_up_the_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let world = World::down(Some(directory.path())).await;
    world.says(Some(Code::Unavailable));
    world.login(&passing(), 1).await.expect("there is a spool");
    world.says(Some(Code::FailedPrecondition));
    let file = directory.path().join("fail-open.test.jsonl");
    for _ in 0..200 {
        if std::fs::metadata(&file).expect("it is there").len() == 0 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    world.says(Some(Code::Unavailable));
    world.login(&passing(), 2).await.expect("there is a spool");
    world.says(None);
    world.has_events(1).await;
}
