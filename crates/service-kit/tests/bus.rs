//! One meaning of the bus, asked of both implementations; then what only NATS can do: go away and come back.

mod authority;
mod nats;

use bytes::Bytes;
use nats::NatsServer;
use opentelemetry::trace::TracerProvider;
use service_kit::Process;
use service_kit::bus::{
    Bus, BusError, Change, Delivery, Entry, InProcess, KeyRing, Map, MapOptions, Message, SealedMap, StreamKind,
    StreamOptions, Subscription,
};
use service_kit::secret::{Secret, SecretFile};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tracing_subscriber::layer::SubscriberExt;

/// Asks the same of both.
macro_rules! on_both {
    ($($test:ident)*) => {
        mod in_process {
            $(#[tokio::test]
            async fn $test() {
                super::$test(std::sync::Arc::new(super::InProcess::new())).await;
            })*
        }
        mod on_nats {
            $(#[tokio::test]
            async fn $test() {
                let server = super::NatsServer::start();
                let process = super::Process::detached("test");
                super::$test(server.connect(&process)).await;
            })*
        }
    };
}

on_both! {
    who_subscribes_hears_what_matches_and_in_which_trace_it_was_published
    a_key_is_created_once_and_changed_only_by_who_names_its_revision
    entries_die_of_age_and_live_on_when_written
    a_map_refuses_what_is_beyond_its_bounds_and_evicts_nothing
    names_that_one_of_the_two_could_not_hold_are_refused_by_both
    a_watch_gives_the_value_and_then_each_change
    two_who_create_the_same_key_at_once_are_one_winner
    a_work_queue_gives_each_message_to_one_until_it_is_acknowledged
    a_log_gives_each_message_to_every_consumer_and_to_who_subscribes
    a_full_work_queue_refuses_and_a_full_log_forgets_the_oldest
    a_sealed_value_opens_only_in_its_place_and_with_a_known_key
}

async fn who_subscribes_hears_what_matches_and_in_which_trace_it_was_published(bus: Arc<dyn Bus>) {
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
    let mut one = bus.subscribe("t.v1.user.changed.*").await.expect("subscribed");
    let mut all = bus.subscribe("t.v1.>").await.expect("subscribed");
    let span = tracing::info_span!("publisher");
    let trace = span.in_scope(service_kit::trace::current_trace_id).expect("a trace");
    {
        use tracing::Instrument;
        bus.publish("t.v1.settings.changed", Bytes::from_static(b"41")).await.expect("told");
        bus.publish("t.v1.user.changed.7", Bytes::from_static(b"x")).instrument(span).await.expect("told");
        bus.publish("t.v2.user.changed.7", Bytes::new()).await.expect("told");
        bus.publish("t.v1.user.changed.8", Bytes::new()).await.expect("told");
    }
    let first = heard(&mut one).await;
    assert_eq!((first.subject.as_str(), &first.payload[..]), ("t.v1.user.changed.7", &b"x"[..]));
    assert!(first.headers["traceparent"].contains(&trace));
    first.link(&tracing::info_span!("consumer"));
    assert_eq!(heard(&mut one).await.subject, "t.v1.user.changed.8");
    for subject in ["t.v1.settings.changed", "t.v1.user.changed.7", "t.v1.user.changed.8"] {
        assert_eq!(heard(&mut all).await.subject, subject);
    }
}

async fn heard(subscription: &mut Subscription) -> Message {
    timeout(Duration::from_secs(5), subscription.next()).await.expect("heard in time").expect("a message")
}

fn map(bus: &Arc<dyn Bus>, ttl: Duration) -> Arc<dyn Map> {
    bus.map("test_map", MapOptions { ttl, max_entries: 4, max_value_bytes: 1000 })
}

const LONG: Duration = Duration::from_secs(60);

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn a_key_is_created_once_and_changed_only_by_who_names_its_revision(bus: Arc<dyn Bus>) {
    // V-74.
    let map = map(&bus, LONG);
    assert_eq!(map.get("a").await.expect("asked"), None);
    let first = map.create("a", text("one")).await.expect("created");
    assert!(matches!(map.create("a", text("two")).await, Err(BusError::AlreadyExists)));
    assert_eq!(map.get("a").await.expect("asked"), Some(Entry { value: text("one"), revision: first }));
    let second = map.update("a", text("two"), first).await.expect("updated");
    assert!(second > first);
    assert!(matches!(map.update("a", text("three"), first).await, Err(BusError::WrongRevision)));
    assert!(matches!(map.delete("a", first).await, Err(BusError::WrongRevision)));
    assert_eq!(map.get("a").await.expect("asked").expect("there").value, text("two"));
    map.delete("a", second).await.expect("deleted");
    assert_eq!(map.get("a").await.expect("asked"), None);
    assert!(matches!(map.update("a", text("three"), second).await, Err(BusError::WrongRevision)));
    assert!(matches!(map.delete("a", second).await, Err(BusError::WrongRevision)));
    let third = map.create("a", text("anew")).await.expect("created again");
    assert!(third > second);
    let fourth = map.put("a", text("over")).await.expect("put");
    assert!(matches!(map.update("a", text("late"), third).await, Err(BusError::WrongRevision)));
    assert!(matches!(map.update("never", text("x"), fourth).await, Err(BusError::WrongRevision)));
}

async fn entries_die_of_age_and_live_on_when_written(bus: Arc<dyn Bus>) {
    let map = map(&bus, Duration::from_millis(1500));
    let mut revision = map.create("kept", text("0")).await.expect("created");
    map.create("left", text("0")).await.expect("created");
    let begun = Instant::now();
    let mut left_died = None;
    while begun.elapsed() < Duration::from_millis(4000) {
        revision = map.update("kept", text("1"), revision).await.expect("alive, because it is written");
        if map.get("left").await.expect("asked").is_none() {
            left_died.get_or_insert(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let died = left_died.expect("died");
    assert!(died > Duration::from_millis(1200), "after {died:?}");
    map.create("left", text("2")).await.expect("free again");
}

async fn a_map_refuses_what_is_beyond_its_bounds_and_evicts_nothing(bus: Arc<dyn Bus>) {
    let map = map(&bus, LONG);
    let mut first = 0;
    for key in ["a", "b", "c", "d"] {
        first = map.create(key, text("x")).await.expect("there is room");
    }
    assert!(matches!(map.create("e", text("x")).await, Err(BusError::Full { what: "map" })));
    map.update("d", text("y"), first).await.expect("what is there can change");
    for key in ["a", "b", "c", "d"] {
        assert!(map.get(key).await.expect("asked").is_some(), "{key} is pending and stays");
    }
    let large = Bytes::from(vec![0; 1001]);
    assert!(matches!(map.put("a", large).await, Err(BusError::Full { what: "value" })));
}

async fn names_that_one_of_the_two_could_not_hold_are_refused_by_both(bus: Arc<dyn Bus>) {
    let map = map(&bus, LONG);
    for key in ["", ".a", "a.", "a b", "a*", "a>", "é"] {
        assert!(matches!(map.get(key).await, Err(BusError::InvalidName { .. })), "{key:?}");
        assert!(matches!(map.put(key, text("x")).await, Err(BusError::InvalidName { .. })), "{key:?}");
    }
    map.put("a-b_c=d.e/F9", text("x")).await.expect("all that is allowed");
    for subject in ["", "a..b", "a.*", "a.>", "a b", ".a"] {
        assert!(matches!(bus.publish(subject, text("x")).await, Err(BusError::InvalidName { .. })), "{subject:?}");
    }
    assert!(matches!(bus.subscribe("a.>.b").await, Err(BusError::InvalidName { .. })));
}

async fn a_watch_gives_the_value_and_then_each_change(bus: Arc<dyn Bus>) {
    use futures::StreamExt;
    let map = map(&bus, LONG);
    let first = map.create("a", text("one")).await.expect("created");
    let mut changes = map.watch("a").await.expect("watching");
    let mut next = async || timeout(Duration::from_secs(5), changes.next()).await.expect("in time").expect("a change");
    assert_eq!(next().await, Change::Put(Entry { value: text("one"), revision: first }));
    map.create("b", text("another key")).await.expect("created");
    let second = map.update("a", text("two"), first).await.expect("updated");
    assert_eq!(next().await, Change::Put(Entry { value: text("two"), revision: second }));
    map.delete("a", second).await.expect("deleted");
    assert_eq!(next().await, Change::Gone);
}

async fn two_who_create_the_same_key_at_once_are_one_winner(bus: Arc<dyn Bus>) {
    let map = map(&bus, LONG);
    let tries = (0..20).map(|_| {
        let map = map.clone();
        tokio::spawn(async move { map.create("a", text("mine")).await })
    });
    let mut winners = 0;
    for outcome in futures::future::join_all(tries).await {
        match outcome.expect("no panic") {
            Ok(_) => winners += 1,
            Err(BusError::AlreadyExists) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(winners, 1);
}

fn options(kind: StreamKind, max_messages: usize) -> StreamOptions {
    let subjects = vec!["t.v1.work.>".to_owned()];
    StreamOptions { name: "TEST".to_owned(), subjects, kind, max_age: LONG, max_messages }
}

async fn delivered(consumer: &mut Box<dyn service_kit::bus::Consumer>) -> Delivery {
    timeout(Duration::from_secs(10), consumer.next()).await.expect("in time").expect("a delivery")
}

async fn a_work_queue_gives_each_message_to_one_until_it_is_acknowledged(bus: Arc<dyn Bus>) {
    let stream = bus.stream(options(StreamKind::WorkQueue, 100));
    let wait = Duration::from_secs(1);
    stream.publish("t.v1.work.a", text("a")).await.expect("held");
    let mut one = stream.clone().consume("worker", wait).await.expect("a consumer");
    let mut two = stream.clone().consume("worker", wait).await.expect("the same consumer");
    assert!(matches!(stream.clone().consume("other", wait).await, Err(BusError::OneConsumer { .. })));
    let first = delivered(&mut one).await;
    assert_eq!((first.message.subject.as_str(), first.attempt), ("t.v1.work.a", 1));
    assert!(timeout(Duration::from_millis(300), two.next()).await.is_err(), "it is out");
    drop(first);
    let again = delivered(&mut two).await;
    assert_eq!((&again.message.payload[..], again.attempt), (&b"a"[..], 2), "nobody acknowledged it");
    again.refuse().await.expect("refused");
    let third = delivered(&mut one).await;
    assert_eq!(third.attempt, 3);
    for _ in 0..4 {
        assert!(timeout(wait / 2, two.next()).await.is_err(), "somebody is at it");
        third.working().await.expect("told");
    }
    third.ack().await.expect("acknowledged");
    stream.publish("t.v1.work.b", text("b")).await.expect("held");
    let next = delivered(&mut one).await;
    assert_eq!((&next.message.payload[..], next.attempt), (&b"b"[..], 1), "what is done does not come again");
    next.ack().await.expect("acknowledged");
}

async fn a_log_gives_each_message_to_every_consumer_and_to_who_subscribes(bus: Arc<dyn Bus>) {
    let stream = bus.stream(options(StreamKind::Log, 100));
    let mut listener = bus.subscribe("t.v1.work.*").await.expect("subscribed");
    let mut one = stream.clone().consume("one", LONG).await.expect("a consumer");
    stream.publish("t.v1.work.a", text("a")).await.expect("held");
    let mut two = stream.clone().consume("two", LONG).await.expect("another consumer, later");
    assert_eq!(heard(&mut listener).await.subject, "t.v1.work.a");
    for consumer in [&mut one, &mut two] {
        let delivery = delivered(consumer).await;
        assert_eq!(&delivery.message.payload[..], b"a");
        delivery.ack().await.expect("acknowledged");
    }
}

async fn a_full_work_queue_refuses_and_a_full_log_forgets_the_oldest(bus: Arc<dyn Bus>) {
    let queue = bus.stream(StreamOptions {
        name: "QUEUE".to_owned(),
        subjects: vec!["t.v1.queue".to_owned()],
        ..options(StreamKind::WorkQueue, 2)
    });
    queue.publish("t.v1.queue", text("1")).await.expect("held");
    queue.publish("t.v1.queue", text("2")).await.expect("held");
    assert!(matches!(queue.publish("t.v1.queue", text("3")).await, Err(BusError::Full { .. })));
    let log = bus.stream(options(StreamKind::Log, 2));
    for payload in ["1", "2", "3"] {
        log.publish("t.v1.work.x", text(payload)).await.expect("held");
    }
    let mut consumer = log.consume("late", LONG).await.expect("a consumer");
    assert_eq!(&delivered(&mut consumer).await.message.payload[..], b"2");
    assert_eq!(&delivered(&mut consumer).await.message.payload[..], b"3");
}

fn key(octet: u8) -> Secret {
    Secret::new(vec![octet; 32])
}

async fn a_sealed_value_opens_only_in_its_place_and_with_a_known_key(bus: Arc<dyn Bus>) {
    // V-73. The actor has full rights on the bus: `plain` and `other` are what it sees and writes.
    let plain = map(&bus, LONG);
    let other = bus.map("test_other", MapOptions::default());
    let sealed = SealedMap::new(plain.clone(), KeyRing::new(&[key(1)]));
    let first = sealed.create("a", text("the canary")).await.expect("created");
    assert_eq!(sealed.get("a").await.expect("opens"), Some(Entry { value: text("the canary"), revision: first }));
    let stored = plain.get("a").await.expect("asked").expect("there").value;
    assert!(!stored.windows(6).any(|window| window == b"canary"));

    plain.put("b", stored.clone()).await.expect("copied");
    assert!(matches!(sealed.get("b").await, Err(BusError::NotOurs)), "another key of the map");
    other.put("a", stored.clone()).await.expect("copied");
    let elsewhere = SealedMap::new(other, KeyRing::new(&[key(1)]));
    assert!(matches!(elsewhere.get("a").await, Err(BusError::NotOurs)), "another map");
    let mut altered = stored.to_vec();
    *altered.last_mut().expect("long") ^= 1;
    for forged in [altered, stored[..20].to_vec(), vec![], vec![1], vec![2; 60], b"plain text, not sealed".to_vec()] {
        plain.put("a", forged.clone().into()).await.expect("forged");
        assert!(matches!(sealed.get("a").await, Err(BusError::NotOurs)), "{forged:?}");
    }
    plain.put("a", stored).await.expect("put back");

    let rotated = SealedMap::new(plain.clone(), KeyRing::new(&[key(2), key(1)]));
    let entry = rotated.get("a").await.expect("the old key still opens").expect("there");
    rotated.update("a", text("anew"), entry.revision).await.expect("updated");
    assert!(matches!(sealed.get("a").await, Err(BusError::NotOurs)), "the new key seals");
    let foreign = SealedMap::new(plain, KeyRing::ephemeral());
    assert!(matches!(foreign.get("a").await, Err(BusError::NotOurs)));
}

// ---- what only NATS can do

async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match attempt().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(Duration::from_secs(20), found).await.unwrap_or_else(|_| panic!("never: {what}"))
}

fn up(process: &Process) -> bool {
    process.health().upstreams().iter().any(|(kind, _, state)| *kind == "bus" && state.up)
}

#[tokio::test]
async fn when_the_bus_is_lost_calls_say_so_within_a_second_and_all_works_again_by_itself() {
    // The maps are in memory: the server comes back without them.
    let (mut server, process) = (NatsServer::start(), Process::detached("test"));
    process.health().condition("what it does itself").set_ready(true);
    let bus = server.connect(&process);
    let map = map(&bus, LONG);
    let stream = bus.stream(options(StreamKind::WorkQueue, 100));
    map.create("a", text("one")).await.expect("created");
    let mut consumer = stream.clone().consume("worker", LONG).await.expect("a consumer");
    let mut listener = bus.subscribe("t.v1.told").await.expect("subscribed");
    until("the page shows the bus", async || up(&process).then_some(())).await;

    server.kill();
    until("the page shows the loss", async || (!up(&process)).then_some(())).await;
    for _ in 0..5 {
        let begun = Instant::now();
        assert!(matches!(map.get("a").await, Err(BusError::Unavailable(_))));
        assert!(matches!(map.create("b", text("x")).await, Err(BusError::Unavailable(_))));
        assert!(matches!(bus.publish("t.v1.told", text("x")).await, Err(BusError::Unavailable(_))));
        assert!(matches!(stream.publish("t.v1.work.a", text("x")).await, Err(BusError::Unavailable(_))));
        assert!(begun.elapsed() < Duration::from_secs(4), "four calls took {:?}", begun.elapsed());
    }
    let lost = timeout(Duration::from_secs(10), consumer.next()).await.expect("not for ever");
    assert!(matches!(lost, Err(BusError::Unavailable(_))));
    assert!(process.health().is_ready(), "readiness does not depend on the bus");

    server.start_again();
    let gone = until("the map answers", async || map.get("a").await.ok()).await;
    assert_eq!(gone, None, "it was in memory");
    map.create("a", text("anew")).await.expect("the bucket was made again");
    until("a message is heard", async || {
        bus.publish("t.v1.told", text("x")).await.ok()?;
        timeout(Duration::from_millis(300), listener.next()).await.ok()?
    })
    .await;
    stream.publish("t.v1.work.b", text("b")).await.expect("held");
    let delivery = until("a delivery", async || consumer.next().await.ok()).await;
    assert_eq!(&delivery.message.payload[..], b"b");
    delivery.ack().await.expect("acknowledged");
}

#[tokio::test]
async fn a_bus_that_is_not_there_yet_does_not_stop_the_start() {
    let (mut server, process) = (NatsServer::start(), Process::detached("test"));
    server.kill();
    let begun = Instant::now();
    let bus = server.connect(&process);
    let map = map(&bus, LONG);
    assert!(matches!(map.get("a").await, Err(BusError::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(2));
    server.start_again();
    until("the map answers", async || map.create("a", text("x")).await.ok()).await;
}

#[tokio::test]
async fn a_bucket_that_was_deleted_is_made_again_at_the_next_call() {
    let (server, process) = (NatsServer::start(), Process::detached("test"));
    let bus = server.connect(&process);
    let map = map(&bus, LONG);
    let revision = map.create("a", text("x")).await.expect("created");
    let foreign = async_nats::connect(server.url()).await.expect("connected");
    let jetstream = async_nats::jetstream::new(foreign);
    for attempt in 0..3 {
        jetstream.delete_stream("KV_test_map").await.expect("deleted");
        match attempt {
            0 => assert_eq!(map.get("a").await.expect("answered"), None),
            1 => assert!(matches!(map.update("a", text("x"), revision).await, Err(BusError::WrongRevision))),
            _ => drop(map.create("a", text("x")).await.expect("created")),
        }
    }
}

/// What a part needs at the server for the map `test_map` and the stream `TEST` with the consumer `worker`: nothing wholesale.
const ALLOWED: [&str; 13] = [
    "t.v1.>",
    "$KV.test_map.>",
    "$JS.API.STREAM.INFO.KV_test_map",
    "$JS.API.STREAM.CREATE.KV_test_map",
    "$JS.API.DIRECT.GET.KV_test_map.>",
    "$JS.API.CONSUMER.CREATE.KV_test_map",
    "$JS.FC.KV_test_map.>",
    "$JS.API.STREAM.INFO.TEST",
    "$JS.API.STREAM.CREATE.TEST",
    "$JS.API.CONSUMER.INFO.TEST.worker",
    "$JS.API.CONSUMER.CREATE.TEST.worker",
    "$JS.API.CONSUMER.MSG.NEXT.TEST.worker",
    "$JS.ACK.TEST.worker.>",
];

#[tokio::test]
async fn with_an_nkey_mutual_tls_and_an_allow_list_of_exact_subjects_all_of_it_works() {
    // V-72. What the bus is asked for is in the list above, and the inbox is the part's own.
    use futures::StreamExt;
    use service_kit::config::{BusSection, BusUrl};
    let authority = authority::Authority::new();
    let (server_side, ours) = (authority.issue("nats", "127.0.0.1"), authority.issue("test", "test.twinlock.internal"));
    let user = nkeys::KeyPair::new_user();
    authority::write(&authority.path("test.nk"), &user.seed().expect("a seed"));
    let quoted: Vec<String> = ALLOWED.iter().map(|subject| format!("{subject:?}")).collect();
    let server = NatsServer::start_with(&format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n\
         authorization {{ users: [ {{ nkey: {}, permissions: {{ publish: [{}], \
         subscribe: [\"_INBOX_test.>\", \"t.v1.>\"] }} }} ] }}\n",
        server_side.certificate.path(),
        server_side.key.path(),
        authority.ca().path(),
        user.public_key(),
        quoted.join(", "),
    ));
    let process = Process::detached("test");
    let section = BusSection {
        url: BusUrl::Nats(vec![server.url()]),
        credentials_file: Some(SecretFile::new(authority.path("test.nk").to_str().expect("utf-8")).expect("private")),
        ca_file: Some(authority.ca()),
        certificate_file: Some(ours.certificate),
        key_file: Some(ours.key),
    };
    let bus = service_kit::bus::connect(&section, &process).expect("never waits");
    let map = map(&bus, LONG);
    let first = until("the map answers", async || map.create("a", text("one")).await.ok()).await;
    assert_eq!(map.get("a").await.expect("asked").expect("there").revision, first);
    let mut changes = map.watch("a").await.expect("watching");
    timeout(Duration::from_secs(5), changes.next()).await.expect("in time").expect("the value");
    let second = map.update("a", text("two"), first).await.expect("updated");
    map.delete("a", second).await.expect("deleted");
    let mut listener = bus.subscribe("t.v1.>").await.expect("subscribed");
    let stream = bus.stream(options(StreamKind::WorkQueue, 100));
    stream.publish("t.v1.work.a", text("a")).await.expect("held");
    assert_eq!(heard(&mut listener).await.subject, "t.v1.work.a");
    let mut consumer = stream.consume("worker", LONG).await.expect("a consumer");
    delivered(&mut consumer).await.ack().await.expect("acknowledged");

    let other = bus.map("other_map", MapOptions::default());
    assert!(matches!(other.get("a").await, Err(BusError::Unavailable(_))), "another part's map");
    let without = BusSection { credentials_file: None, ..section };
    let stranger = service_kit::bus::connect(&without, &process).expect("never waits");
    assert!(matches!(stranger.publish("t.v1.told", text("x")).await, Ok(()) | Err(BusError::Unavailable(_))));
    let nothing = timeout(Duration::from_millis(500), listener.next()).await;
    assert!(nothing.is_err(), "without the key nothing is published: {nothing:?}");
}

#[tokio::test]
async fn three_servers_hold_three_copies_and_one_of_them_may_die() {
    let (mut servers, process) = (NatsServer::start_three(), Process::detached("test"));
    let section = service_kit::config::BusSection {
        url: service_kit::config::BusUrl::Nats(servers.iter().map(NatsServer::url).collect()),
        ..Default::default()
    };
    let bus = service_kit::bus::connect(&section, &process).expect("never waits");
    let (map, stream) = (map(&bus, LONG), bus.stream(options(StreamKind::Log, 100)));
    let revision = until("the map answers", async || map.put("a", text("one")).await.ok()).await;
    until("the stream answers", async || stream.publish("t.v1.work.a", text("a")).await.ok()).await;
    let foreign = async_nats::connect(servers[0].url()).await.expect("connected");
    let jetstream = async_nats::jetstream::new(foreign);
    for name in ["KV_test_map", "TEST"] {
        let found = jetstream.get_stream(name).await.expect("there");
        assert_eq!(found.cached_info().config.num_replicas, 3, "{name}");
    }
    // The one that leads the bucket: the others must agree on a new leader first.
    let leader = jetstream.get_stream("KV_test_map").await.expect("there").cached_info().cluster.clone();
    let leader = leader.and_then(|cluster| cluster.leader).expect("a leader");
    let server = servers.iter_mut().find(|server| server.name() == leader).expect("one of the three");
    server.kill();
    let entry = until("the map still holds it", async || map.get("a").await.ok().flatten()).await;
    assert!(entry.revision >= revision);
    until("the map still takes it", async || map.put("a", text("two")).await.ok()).await;
}
