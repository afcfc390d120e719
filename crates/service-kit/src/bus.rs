//! The bus: publish and subscribe, durable streams, and key-value maps with compare-and-swap and a time to live. It holds only what
//! may be lost. Two implementations with one meaning: inside the process, and NATS.
//!
//! Nothing here waits for a bus that is away: every call answers within a second, `Unavailable` if need be, and works again by itself.

mod memory;
mod nats;
mod sealed;

pub use memory::InProcess;
pub use nats::Nats;
pub use sealed::{KeyRing, SealedMap};

use crate::Process;
use crate::config::{BusSection, BusUrl};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Connects to the bus that the section names. Never waits: NATS may come later, and `/healthz/upstreams` shows it.
pub fn connect(section: &BusSection, process: &Process) -> Result<Arc<dyn Bus>, BusSetupError> {
    match &section.url {
        BusUrl::InProcess => Ok(Arc::new(InProcess::new())),
        BusUrl::Nats(servers) => Ok(Arc::new(Nats::connect(servers, section, process)?)),
    }
}

/// A bus.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Tells whoever listens now. The current trace context is added to the headers. May be lost.
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError>;

    /// Hears what is published under a pattern: `*` is one word, `>` the rest. A reader that falls behind by
    /// thousands loses what comes next. Survives the loss of the bus, not what was published meanwhile.
    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError>;

    /// A durable stream, made on first use.
    fn stream(&self, options: StreamOptions) -> Arc<dyn Stream>;

    /// A map, made on first use, and again when a bus came back without it.
    fn map(&self, name: &str, options: MapOptions) -> Arc<dyn Map>;
}

/// A message that was heard.
#[derive(Clone, Debug)]
pub struct Message {
    pub subject: String,
    pub headers: BTreeMap<String, String>,
    pub payload: Bytes,
}

impl Message {
    /// Links `span` to where this message was published (a link, not a parent).
    pub fn link(&self, span: &tracing::Span) {
        crate::trace::link(span, &self.headers);
    }
}

/// What a subscriber may fall behind.
const BEHIND_MAX: usize = 4096;

/// Messages as they come.
pub struct Subscription {
    pub(crate) messages: futures::stream::BoxStream<'static, Message>,
}

impl Subscription {
    /// The next message; `None` when the bus is gone for good. May be dropped at any time.
    pub async fn next(&mut self) -> Option<Message> {
        futures::StreamExt::next(&mut self.messages).await
    }
}

/// What a stream is.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// `TWINLOCK_SYNC`
    pub name: String,
    /// What it holds: subjects or patterns.
    pub subjects: Vec<String>,
    pub kind: StreamKind,
    pub max_age: Duration,
    /// At the bound a work queue refuses and a log drops the oldest.
    pub max_messages: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Each message is for one consumer, and gone when acknowledged.
    WorkQueue,
    /// Each message is for every consumer, and gone when old.
    Log,
}

/// A durable stream.
#[async_trait]
pub trait Stream: Send + Sync {
    /// Adds a message; returns when the stream holds it. Whoever subscribes to the subject hears it too.
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError>;

    /// Takes part in the consumer `name` (letters, digits, `-`, `_`); all who do share its messages. What is not acknowledged within
    /// `ack_wait` is delivered again.
    async fn consume(self: Arc<Self>, name: &str, ack_wait: Duration) -> Result<Box<dyn Consumer>, BusError>;
}

/// A reader of a stream.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for the next message. `Unavailable` while the bus is away: wait a little and call again. May be dropped at any time:
    /// a message that was taken and not acknowledged comes again.
    async fn next(&mut self) -> Result<Delivery, BusError>;
}

/// A message of a stream, until it is acknowledged.
pub struct Delivery {
    pub message: Message,
    /// 1 the first time.
    pub attempt: u64,
    pub(crate) acknowledge: Box<dyn Acknowledge>,
}

impl Delivery {
    /// Done: it does not come again.
    pub async fn ack(self) -> Result<(), BusError> {
        self.acknowledge.ack().await
    }

    /// Not done yet: it comes again no sooner than one whole wait from now.
    pub async fn working(&self) -> Result<(), BusError> {
        self.acknowledge.working().await
    }

    /// Not done: it comes again now, to whoever asks first.
    pub async fn refuse(self) -> Result<(), BusError> {
        self.acknowledge.refuse().await
    }
}

#[async_trait]
pub(crate) trait Acknowledge: Send + Sync {
    async fn ack(&self) -> Result<(), BusError>;
    async fn working(&self) -> Result<(), BusError>;
    async fn refuse(&self) -> Result<(), BusError>;
}

/// What a map is.
#[derive(Clone, Debug)]
pub struct MapOptions {
    /// Entries die this long after they were last written.
    pub ttl: Duration,
    /// At the bound new keys are refused; nothing is evicted.
    pub max_entries: usize,
    pub max_value_bytes: usize,
}

impl Default for MapOptions {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(120), max_entries: 200_000, max_value_bytes: 64 * 1024 }
    }
}

/// A value and the revision that a change must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Bytes,
    pub revision: u64,
}

/// A change of a watched key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Entry),
    /// Deleted. A key that dies of age may say nothing.
    Gone,
}

/// A key-value map. Keys are letters, digits and `-_=./`; no dot at either end. Reads may be stale; only a change that names its
/// revision is proof (V-74).
#[async_trait]
pub trait Map: Send + Sync {
    fn name(&self) -> &str;

    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError>;

    /// Writes where there is nothing; `AlreadyExists` otherwise.
    async fn create(&self, key: &str, value: Bytes) -> Result<u64, BusError>;

    /// Writes over exactly this revision; `WrongRevision` otherwise, also when the key is gone.
    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, BusError>;

    /// Writes over anything. For what guards nothing.
    async fn put(&self, key: &str, value: Bytes) -> Result<u64, BusError>;

    /// Deletes exactly this revision; `WrongRevision` otherwise.
    async fn delete(&self, key: &str, revision: u64) -> Result<(), BusError>;

    /// The value now, if there is one, then each change. Ends when the bus is lost: watch again, or poll.
    async fn watch(&self, key: &str) -> Result<futures::stream::BoxStream<'static, Change>, BusError>;
}

impl BusError {
    pub(crate) fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Some(error.into()))
    }
}

/// Keys of maps and names of consumers, as both implementations can hold them.
fn check_key(key: &str) -> Result<(), BusError> {
    let known = |octet: u8| octet.is_ascii_alphanumeric() || b"-_=./".contains(&octet);
    let good = !key.is_empty() && !key.starts_with('.') && !key.ends_with('.') && key.bytes().all(known);
    if good { Ok(()) } else { Err(BusError::InvalidName { name: key.to_owned() }) }
}

/// Words between dots; `*` and `>` only in a pattern.
fn check_subject(subject: &str, pattern: bool) -> Result<(), BusError> {
    let plain = |word: &str| {
        !word.is_empty() && !word.contains(['*', '>']) && word.bytes().all(|octet| octet.is_ascii_graphic())
    };
    let last = subject.split('.').count() - 1;
    let good = |(place, word): (usize, &str)| plain(word) || pattern && (word == "*" || word == ">" && place == last);
    match subject.split('.').enumerate().all(good) {
        true => Ok(()),
        false => Err(BusError::InvalidName { name: subject.to_owned() }),
    }
}

/// Why the bus did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// Somebody was first. Read again.
    #[error("the key exists already")]
    AlreadyExists,
    /// Somebody was first. Read again.
    #[error("the key has another revision")]
    WrongRevision,
    /// The bus is away. It may or may not have done it; later it works again.
    #[error("the bus is not available")]
    Unavailable(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// The bound of a map, a queue or a value is reached.
    #[error("the bus has no room: {what}")]
    Full { what: &'static str },
    /// Ours: a key, name or subject that the bus cannot hold.
    #[error("`{name}` cannot be a name on the bus")]
    InvalidName { name: String },
    /// Ours: a work queue has one consumer.
    #[error("the work queue {stream} has another consumer")]
    OneConsumer { stream: String },
    /// A value was changed, swapped or sealed by nobody we know. Treat it as absent; never as an answer.
    #[error("a value of the map does not open with any of our keys")]
    NotOurs,
}

/// The bus cannot be set up: the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusSetupError {
    #[error("the bus credentials cannot be used")]
    Secret(#[from] crate::secret::SecretError),
    #[error("the bus credentials file {} holds neither a NATS credentials file nor an nkey seed", path.display())]
    Credentials { path: std::path::PathBuf },
    #[error("the certificates for the bus cannot be used")]
    Tls(#[from] crate::tls::TlsError),
    #[error("bus.certificate_file and bus.key_file belong together; one of them is missing")]
    HalfIdentity,
    #[error("`{url}` is not an address of a NATS server")]
    Address { url: String },
}
