//! The bus on NATS with JetStream. The connection is sought for ever beside the process; whatever is asked meanwhile is answered with
//! `Unavailable`. Streams and buckets are made when they are first used, and again when a server came back without them.

use super::*;
use crate::health::Upstream;
use crate::tls::{ClientTls, Identity, TlsOptions, Trust};
use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::kv::{CreateErrorKind, EntryErrorKind, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, AckKind, ErrorCode};
use async_nats::{Client, ConnectOptions, Event, HeaderMap};
use futures::{FutureExt, StreamExt};
use rustls::ClientConfig;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Every call is answered within this, one way or the other.
const ANSWER_WITHIN: Duration = Duration::from_millis(950);
/// One question to the server: two fit into an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(450);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Older servers have known holes (V-71).
const OLDEST_SERVER: [u32; 3] = [2, 12, 7];
/// A reader of a stream asks again after this.
const FETCH_FOR: Duration = Duration::from_secs(5);
/// Messages of one consumer that may be out without an acknowledgement.
const UNACKNOWLEDGED_MAX: i64 = 1000;

/// A bus on NATS servers.
pub struct Nats {
    link: Arc<Link>,
}

/// The connection.
struct Link {
    client: Client,
    jetstream: jetstream::Context,
    servers: usize,
}

impl Nats {
    pub fn connect(servers: &[String], section: &BusSection, process: &Process) -> Result<Self, BusSetupError> {
        let news = Arc::new(News::default());
        let options = options(section, process.name(), news.clone())?;
        let addresses = servers
            .iter()
            .map(|url| url.parse::<async_nats::ServerAddr>().map_err(|_| BusSetupError::Address { url: url.clone() }));
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        let connecting = options.connect(addresses).now_or_never();
        let client =
            connecting.and_then(Result::ok).ok_or_else(|| BusSetupError::Address { url: servers.join(",") })?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(REQUEST_TIMEOUT);
        let upstream = process.health().upstream("bus", "nats");
        process.shutdown().spawn_until_stopping(look_after(client.clone(), upstream, news));
        Ok(Self { link: Arc::new(Link { client, jetstream, servers: servers.len() }) })
    }
}

fn options(section: &BusSection, part: &str, news: Arc<News>) -> Result<ConnectOptions, BusSetupError> {
    let heard = news.clone();
    let mut options = ConnectOptions::new()
        .name(format!("twinlock-{part}"))
        // Replies of one part must not be open to another (V-72).
        .custom_inbox_prefix(format!("_INBOX_{part}"))
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(|attempt| Duration::from_millis((50 << attempt.min(5)).min(1000)))
        .connection_timeout(Duration::from_secs(2))
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(Duration::from_secs(2))
        .subscription_capacity(BEHIND_MAX)
        .event_callback(move |event| {
            let news = heard.clone();
            async move { news.hear(&event) }
        });
    if let Some(file) = &section.credentials_file {
        let content = file.read_line()?;
        let malformed = || BusSetupError::Credentials { path: file.path().to_owned() };
        let text = std::str::from_utf8(content.expose()).map_err(|_| malformed())?;
        options = match text.contains("BEGIN NATS USER JWT") {
            true => options.credentials(text).map_err(|_| malformed())?,
            false if text.starts_with("SU") && !text.contains(char::is_whitespace) => options.nkey(text.to_owned()),
            false => return Err(malformed()),
        };
    }
    let identity = match (&section.certificate_file, &section.key_file) {
        (Some(certificate), Some(key)) => Some(Identity { certificate: certificate.clone(), key: key.clone() }),
        (None, None) => None,
        _ => return Err(BusSetupError::HalfIdentity),
    };
    if identity.is_some() || section.ca_file.is_some() {
        let trust = section.ca_file.clone().map_or(Trust::System, Trust::Authority);
        let tls = ClientTls::load(trust, identity, TlsOptions::default())?;
        options = options.require_tls(true).tls_client_config(ClientConfig::clone(&tls.current()));
    }
    Ok(options)
}

// ---- how it fares

/// What the client tells about its connection, for the task that looks after it.
#[derive(Default)]
struct News {
    last_error: Mutex<String>,
    changed: Notify,
}

impl News {
    fn hear(&self, event: &Event) {
        match event {
            Event::SlowConsumer(_) => tracing::warn!("bus messages dropped, a reader is too far behind"),
            Event::ServerError(_) | Event::ClientError(_) => *self.error() = event.to_string(),
            _ => self.changed.notify_one(),
        }
    }

    fn error(&self) -> std::sync::MutexGuard<'_, String> {
        self.last_error.lock().expect("nobody panics while holding it")
    }
}

/// Keeps `/healthz/upstreams` true and says once when the bus goes and comes.
async fn look_after(client: Client, upstream: Upstream, news: Arc<News>) {
    let mut was_up = None;
    loop {
        let asked = tokio::time::Instant::now();
        let up = client.connection_state() == State::Connected
            && tokio::time::timeout(ANSWER_WITHIN, client.flush()).await.is_ok_and(|flushed| flushed.is_ok());
        match up {
            true => upstream.up(asked.elapsed()),
            false => upstream.down(match &*news.error() {
                text if text.is_empty() => "not connected",
                text => text,
            }),
        }
        match (was_up, up) {
            (Some(true), false) | (None, false) => tracing::warn!(error = %news.error(), "bus not available"),
            (Some(false) | None, true) => {
                let server = client.server_info();
                tracing::info!(version = server.version, "bus connected");
                if is_older(&server.version, OLDEST_SERVER) {
                    tracing::warn!(version = server.version, oldest = "2.12.7", "NATS server has known security holes");
                }
            }
            _ => {}
        }
        was_up = Some(up);
        // Cancel safety: both only say that it is time to look.
        tokio::select! { () = news.changed.notified() => {}, () = tokio::time::sleep(LOOK_EVERY) => {} }
    }
}

fn is_older(version: &str, floor: [u32; 3]) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(|number| number.parse().unwrap_or(0));
    let found: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    found < floor
}

impl Link {
    /// Does it within the time, or not at all where the connection is known to be lost.
    async fn answer<T>(&self, question: impl Future<Output = Result<T, BusError>>) -> Result<T, BusError> {
        if self.client.connection_state() == State::Disconnected {
            return Err(BusError::Unavailable(None));
        }
        tokio::time::timeout(ANSWER_WITHIN, question).await.unwrap_or(Err(BusError::Unavailable(None)))
    }

    /// Three where there are three servers.
    fn replicas(&self) -> usize {
        let known = self.client.server_info().connect_urls.len().max(self.servers);
        if known >= 3 { 3 } else { 1 }
    }

    /// Makes what is not there. Where it is there already, also by another tool, ours only compares.
    async fn make(&self, wanted: Config) -> Result<jetstream::stream::Stream, BusError> {
        let made = self.jetstream.get_or_create_stream(wanted.clone()).await;
        let alone = |error: &jetstream::context::CreateStreamError| {
            code(error) == Some(ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED)
        };
        let stream = match made {
            Err(error) if alone(&error) && wanted.num_replicas > 1 => {
                tracing::warn!(stream = wanted.name, "NATS servers are no cluster, the stream has one copy");
                self.jetstream.get_or_create_stream(Config { num_replicas: 1, ..wanted.clone() }).await
            }
            made => made,
        };
        let stream = stream.map_err(BusError::unavailable)?;
        let found = &stream.cached_info().config;
        if found.max_age != wanted.max_age || found.retention != wanted.retention || found.storage != wanted.storage {
            tracing::warn!(stream = wanted.name, "stream on the bus differs from what is expected");
        }
        Ok(stream)
    }

    async fn is_gone(&self, stream: &str) -> bool {
        let found = Box::pin(self.jetstream.get_stream(stream)).await;
        found.is_err_and(|error| code(&error) == Some(ErrorCode::STREAM_NOT_FOUND))
    }
}

/// The server's own code, wherever in the chain it stands: as a cause, or inside of a kind.
fn code(error: &(dyn std::error::Error + 'static)) -> Option<ErrorCode> {
    use jetstream::context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind};
    use jetstream::stream::{ConsumerError, ConsumerErrorKind};
    let mut cause = Some(error);
    while let Some(error) = cause {
        let made = error.downcast_ref().map(|error: &CreateStreamError| error.kind());
        let found = error.downcast_ref().map(|error: &GetStreamError| error.kind());
        let consumer = error.downcast_ref().map(|error: &ConsumerError| error.kind());
        let code = match (made, found, consumer) {
            (Some(CreateStreamErrorKind::JetStream(error)), _, _) => Some(error.error_code()),
            (_, Some(GetStreamErrorKind::JetStream(error)), _) => Some(error.error_code()),
            (_, _, Some(ConsumerErrorKind::JetStream(error))) => Some(error.error_code()),
            _ => error.downcast_ref().map(jetstream::Error::error_code),
        };
        if code.is_some() {
            return code;
        }
        cause = error.source();
    }
    None
}

/// A refusal because of a bound, or else nobody's answer.
fn failed(error: impl std::error::Error + Send + Sync + 'static) -> BusError {
    match code(&error) {
        Some(ErrorCode::STREAM_STORE_FAILED) => BusError::Full { what: "stream" },
        _ => BusError::unavailable(error),
    }
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in crate::trace::current_headers() {
        headers.insert(name, value);
    }
    headers
}

fn read(message: &async_nats::Message) -> Message {
    let mut headers = BTreeMap::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        headers.extend(values.first().map(|value| (name.to_string(), value.to_string())));
    }
    Message { subject: message.subject.to_string(), headers, payload: message.payload.clone() }
}

#[async_trait]
impl Bus for Nats {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_subject(subject, false)?;
        let client = &self.link.client;
        let publish =
            async { client.publish_with_headers(subject.to_owned(), headers(), payload).await.map_err(failed) };
        self.link.answer(publish).await
    }

    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        check_subject(pattern, true)?;
        // Also while the connection is lost: the client subscribes when it is back.
        let subscribe = self.link.client.subscribe(pattern.to_owned());
        let subscriber =
            tokio::time::timeout(ANSWER_WITHIN, subscribe).await.map_err(|_| BusError::Unavailable(None))?;
        let messages = subscriber.map_err(failed)?.map(|message| read(&message)).boxed();
        Ok(Subscription { messages })
    }

    fn stream(&self, options: StreamOptions) -> Arc<dyn Stream> {
        Arc::new(NatsStream { link: self.link.clone(), options, made: AtomicBool::new(false) })
    }

    fn map(&self, name: &str, options: MapOptions) -> Arc<dyn Map> {
        Arc::new(NatsMap { link: self.link.clone(), name: name.to_owned(), options, store: Mutex::new(None) })
    }
}

// ---- streams

struct NatsStream {
    link: Arc<Link>,
    options: StreamOptions,
    made: AtomicBool,
}

impl NatsStream {
    fn config(&self) -> Config {
        let (retention, discard) = match self.options.kind {
            StreamKind::WorkQueue => (RetentionPolicy::WorkQueue, DiscardPolicy::New),
            StreamKind::Log => (RetentionPolicy::Limits, DiscardPolicy::Old),
        };
        Config {
            name: self.options.name.clone(),
            subjects: self.options.subjects.iter().map(Into::into).collect(),
            retention,
            discard,
            max_age: self.options.max_age,
            max_messages: self.options.max_messages as i64,
            storage: StorageType::File,
            num_replicas: self.link.replicas(),
            ..Default::default()
        }
    }

    async fn make(&self) -> Result<jetstream::stream::Stream, BusError> {
        let made = Box::pin(self.link.make(self.config())).await;
        self.made.store(made.is_ok(), Ordering::Relaxed);
        made
    }

    async fn send(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        let sent = self.link.jetstream.publish_with_headers(subject.to_owned(), headers(), payload).await;
        sent.map_err(failed)?.await.map(drop).map_err(failed)
    }
}

#[async_trait]
impl Stream for NatsStream {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_subject(subject, false)?;
        let publish = async {
            if !self.made.load(Ordering::Relaxed) {
                self.make().await?;
            }
            match self.send(subject, payload.clone()).await {
                // Nobody holds the subject: make the stream, then again. Otherwise it may be held already, and is not sent twice.
                Err(BusError::Unavailable(_)) if self.link.is_gone(&self.options.name).await => {
                    self.make().await?;
                    self.send(subject, payload).await
                }
                outcome => outcome,
            }
        };
        self.link.answer(publish).await
    }

    async fn consume(self: Arc<Self>, name: &str, ack_wait: Duration) -> Result<Box<dyn Consumer>, BusError> {
        check_key(name)?;
        let mut consumer = NatsConsumer { stream: self, name: name.to_owned(), ack_wait, consumer: None };
        // A second consumer of a work queue is a mistake and said now; a bus that is away is not.
        match consumer.attach().await {
            Ok(_) | Err(BusError::Unavailable(_)) => Ok(Box::new(consumer)),
            Err(error) => Err(error),
        }
    }
}

struct NatsConsumer {
    stream: Arc<NatsStream>,
    name: String,
    ack_wait: Duration,
    consumer: Option<PullConsumer>,
}

impl NatsConsumer {
    async fn attach(&mut self) -> Result<PullConsumer, BusError> {
        if let Some(consumer) = &self.consumer {
            return Ok(consumer.clone());
        }
        let config = pull::Config {
            durable_name: Some(self.name.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            max_ack_pending: UNACKNOWLEDGED_MAX,
            ..Default::default()
        };
        let link = &self.stream.link;
        let attach = async {
            let stream = self.stream.make().await?;
            stream.get_or_create_consumer(&self.name, config).await.map_err(|error| match code(&error) {
                Some(ErrorCode::CONSUMER_WQ_MULTIPLE_UNFILTERED | ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE) => {
                    BusError::OneConsumer { stream: self.stream.options.name.clone() }
                }
                _ => BusError::unavailable(error),
            })
        };
        let consumer = link.answer(attach).await?;
        self.consumer = Some(consumer.clone());
        Ok(consumer)
    }

    async fn fetch(&mut self) -> Result<Option<jetstream::Message>, BusError> {
        let consumer = self.attach().await?;
        let fetch = async {
            let batch = consumer.batch().max_messages(1).expires(FETCH_FOR).messages().await;
            match batch.map_err(failed)?.next().await {
                None => Ok(None),
                Some(message) => message.map(Some).map_err(BusError::unavailable),
            }
        };
        // The server answers when the time is over; if it does not, the connection says why.
        let fetched = tokio::time::timeout(FETCH_FOR + ANSWER_WITHIN, fetch).await;
        let lost = self.stream.link.client.connection_state() != State::Connected;
        match fetched.unwrap_or(Ok(None)) {
            Ok(None) if lost => Err(BusError::Unavailable(None)),
            outcome => outcome,
        }
    }
}

#[async_trait]
impl Consumer for NatsConsumer {
    async fn next(&mut self) -> Result<Delivery, BusError> {
        loop {
            match self.fetch().await {
                Ok(None) => {}
                Ok(Some(message)) => {
                    let attempt = message.info().map_or(1, |info| info.delivered.unsigned_abs());
                    let link = self.stream.link.clone();
                    let read = read(&message.message);
                    return Ok(Delivery { message: read, attempt, acknowledge: Box::new(Receipt { link, message }) });
                }
                Err(error) => {
                    // Stream or consumer may be gone with a server that lost its disk: both are made again.
                    self.consumer = None;
                    return Err(error);
                }
            }
        }
    }
}

struct Receipt {
    link: Arc<Link>,
    message: jetstream::Message,
}

#[async_trait]
impl Acknowledge for Receipt {
    async fn ack(&self) -> Result<(), BusError> {
        self.link.answer(async { self.message.double_ack().await.map_err(BusError::unavailable) }).await
    }

    async fn working(&self) -> Result<(), BusError> {
        let working = async { self.message.ack_with(AckKind::Progress).await.map_err(BusError::unavailable) };
        self.link.answer(working).await
    }

    async fn refuse(&self) -> Result<(), BusError> {
        let refuse = async { self.message.ack_with(AckKind::Nak(None)).await.map_err(BusError::unavailable) };
        self.link.answer(refuse).await
    }
}

// ---- maps

struct NatsMap {
    link: Arc<Link>,
    name: String,
    options: MapOptions,
    store: Mutex<Option<Store>>,
}

impl NatsMap {
    /// The bucket's stream. Made by hand: the library's own call asks for account facts that a part may not read (V-72).
    fn config(&self) -> Config {
        Config {
            name: format!("KV_{}", self.name),
            subjects: vec![format!("$KV.{}.>", self.name)],
            max_messages_per_subject: 1,
            max_messages: self.options.max_entries as i64,
            max_age: self.options.ttl,
            duplicate_window: self.options.ttl.min(Duration::from_secs(120)),
            discard: DiscardPolicy::New,
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            storage: StorageType::Memory,
            num_replicas: self.link.replicas(),
            ..Default::default()
        }
    }

    async fn store(&self) -> Result<Store, BusError> {
        if let Some(store) = self.lock().clone() {
            return Ok(store);
        }
        // Boxed, as it is rare and large, and every waiting login would carry it.
        Box::pin(self.link.make(self.config())).await?;
        let found = Box::pin(self.link.jetstream.get_key_value(&self.name)).await;
        let store = found.map_err(BusError::unavailable)?;
        *self.lock() = Some(store.clone());
        Ok(store)
    }

    /// Does it, and once more when the reason was that the bucket is gone. Only then: a write without an answer may have been done.
    async fn run<T, Work>(&self, key: &str, work: impl Fn(Store) -> Work) -> Result<T, BusError>
    where
        Work: Future<Output = Result<T, BusError>>,
    {
        check_key(key)?;
        let run = async {
            match work(self.store().await?).await {
                Err(BusError::Unavailable(_)) if self.link.is_gone(&format!("KV_{}", self.name)).await => {
                    *self.lock() = None;
                    work(self.store().await?).await
                }
                outcome => outcome,
            }
        };
        self.link.answer(Box::pin(run)).await
    }

    fn check_size(&self, value: &Bytes) -> Result<(), BusError> {
        if value.len() > self.options.max_value_bytes { Err(BusError::Full { what: "value" }) } else { Ok(()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Store>> {
        self.store.lock().expect("nobody panics while holding it")
    }
}

fn full_map(error: impl std::error::Error + Send + Sync + 'static) -> BusError {
    match failed(error) {
        BusError::Full { .. } => BusError::Full { what: "map" },
        other => other,
    }
}

#[async_trait]
impl Map for NatsMap {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError> {
        self.run(key, |store| async move {
            match store.entry(key).await {
                Ok(Some(entry)) if entry.operation == Operation::Put => {
                    Ok(Some(Entry { value: entry.value, revision: entry.revision }))
                }
                Ok(_) => Ok(None),
                Err(error) if error.kind() == EntryErrorKind::InvalidKey => {
                    Err(BusError::InvalidName { name: key.to_owned() })
                }
                Err(error) => Err(BusError::unavailable(error)),
            }
        })
        .await
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.check_size(&value)?;
        self.run(key, |store| {
            let value = value.clone();
            async move {
                store.create(key, value).await.map_err(|error| match error.kind() {
                    CreateErrorKind::AlreadyExists => BusError::AlreadyExists,
                    _ => full_map(error),
                })
            }
        })
        .await
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, BusError> {
        self.check_size(&value)?;
        self.run(key, |store| {
            let value = value.clone();
            async move {
                store.update(key, value, revision).await.map_err(|error| match error.kind() {
                    UpdateErrorKind::WrongLastRevision => BusError::WrongRevision,
                    _ => full_map(error),
                })
            }
        })
        .await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.check_size(&value)?;
        self.run(key, |store| {
            let value = value.clone();
            async move { store.put(key, value).await.map_err(full_map) }
        })
        .await
    }

    async fn delete(&self, key: &str, revision: u64) -> Result<(), BusError> {
        self.run(key, |store| async move {
            store.delete_expect_revision(key, Some(revision)).await.map_err(|error| match error.kind() {
                UpdateErrorKind::WrongLastRevision => BusError::WrongRevision,
                _ => BusError::unavailable(error),
            })
        })
        .await
    }

    async fn watch(&self, key: &str) -> Result<futures::stream::BoxStream<'static, Change>, BusError> {
        let watch =
            self.run(key, |store| async move { store.watch_with_history(key).await.map_err(BusError::unavailable) });
        let change = |entry: async_nats::jetstream::kv::Entry| match entry.operation {
            Operation::Put => Change::Put(Entry { value: entry.value, revision: entry.revision }),
            Operation::Delete | Operation::Purge => Change::Gone,
        };
        // An error ends it: the bus or the bucket is gone.
        let entries = watch.await?.take_while(|entry| std::future::ready(entry.is_ok()));
        Ok(entries.filter_map(|entry| std::future::ready(entry.ok())).map(change).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::{OLDEST_SERVER, is_older};

    #[test]
    fn a_server_below_2_12_7_is_old() {
        // V-71
        for (version, old) in [
            ("2.9.10", true),
            ("2.12.6", true),
            ("2.12.7-rc.1", false),
            ("2.12.7", false),
            ("2.15.1", false),
            ("3.0.0", false),
            ("", true),
        ] {
            assert_eq!(is_older(version, OLDEST_SERVER), old, "{version}");
        }
    }
}
