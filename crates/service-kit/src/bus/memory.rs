//! The bus inside one process: the same meaning as NATS, nothing to run beside it. Everything is gone with the process.

use super::*;
use futures::StreamExt;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

/// A bus for one process. Clones are the same bus.
#[derive(Clone, Default)]
pub struct InProcess {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    readers: Mutex<Vec<Reader>>,
    streams: Mutex<HashMap<String, Arc<MemoryStream>>>,
    maps: Mutex<HashMap<String, Arc<MemoryMap>>>,
}

struct Reader {
    pattern: String,
    messages: mpsc::Sender<Message>,
}

impl InProcess {
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Bus for InProcess {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_subject(subject, false)?;
        self.inner.tell(&message(subject, payload));
        Ok(())
    }

    async fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        check_subject(pattern, true)?;
        let (messages, receiver) = mpsc::channel(BEHIND_MAX);
        lock(&self.inner.readers).push(Reader { pattern: pattern.to_owned(), messages });
        Ok(Subscription { messages: ReceiverStream::new(receiver).boxed() })
    }

    fn stream(&self, options: StreamOptions) -> Arc<dyn Stream> {
        let fresh = || {
            Arc::new(MemoryStream { bus: Arc::downgrade(&self.inner), options: options.clone(), ..Default::default() })
        };
        lock(&self.inner.streams).entry(options.name.clone()).or_insert_with(fresh).clone()
    }

    fn map(&self, name: &str, options: MapOptions) -> Arc<dyn Map> {
        let fresh = || Arc::new(MemoryMap { name: name.to_owned(), options, state: Mutex::default() });
        lock(&self.inner.maps).entry(name.to_owned()).or_insert_with(fresh).clone()
    }
}

impl Inner {
    fn tell(&self, message: &Message) {
        lock(&self.readers).retain(|reader| {
            if !matches(&reader.pattern, &message.subject) {
                return !reader.messages.is_closed();
            }
            match reader.messages.try_send(message.clone()) {
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::warn!(pattern = reader.pattern, "bus message dropped, the reader is too far behind");
                    true
                }
                Ok(()) => true,
            }
        });
    }
}

fn message(subject: &str, payload: Bytes) -> Message {
    Message { subject: subject.to_owned(), headers: crate::trace::current_headers(), payload }
}

fn matches(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(word)) if wanted == word => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding the bus")
}

// ---- streams

struct MemoryStream {
    bus: std::sync::Weak<Inner>,
    options: StreamOptions,
    state: Mutex<Log>,
    news: Notify,
}

#[derive(Default)]
struct Log {
    last: u64,
    messages: VecDeque<Stored>,
    consumers: HashMap<String, Position>,
}

struct Stored {
    sequence: u64,
    at: Instant,
    message: Message,
}

/// Where a consumer stands: all up to `read` were delivered, `waiting` of them not acknowledged.
#[derive(Default)]
struct Position {
    read: u64,
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    again_at: Instant,
    attempt: u64,
}

impl Default for MemoryStream {
    fn default() -> Self {
        let options = StreamOptions {
            name: String::new(),
            subjects: Vec::new(),
            kind: StreamKind::Log,
            max_age: Duration::ZERO,
            max_messages: 0,
        };
        Self { bus: std::sync::Weak::new(), options, state: Mutex::default(), news: Notify::new() }
    }
}

#[async_trait]
impl Stream for MemoryStream {
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_subject(subject, false)?;
        if !self.options.subjects.iter().any(|pattern| matches(pattern, subject)) {
            return Err(BusError::InvalidName { name: subject.to_owned() });
        }
        let message = message(subject, payload);
        {
            let mut log = lock(&self.state);
            log.forget_old(self.options.max_age);
            if log.messages.len() >= self.options.max_messages {
                match self.options.kind {
                    StreamKind::WorkQueue => return Err(BusError::Full { what: "stream" }),
                    StreamKind::Log => drop(log.messages.pop_front()),
                }
            }
            log.last += 1;
            let sequence = log.last;
            log.messages.push_back(Stored { sequence, at: Instant::now(), message: message.clone() });
        }
        self.news.notify_waiters();
        if let Some(bus) = self.bus.upgrade() {
            bus.tell(&message);
        }
        Ok(())
    }

    async fn consume(self: Arc<Self>, name: &str, ack_wait: Duration) -> Result<Box<dyn Consumer>, BusError> {
        check_key(name)?;
        {
            let consumers = &mut lock(&self.state).consumers;
            if self.options.kind == StreamKind::WorkQueue && consumers.keys().any(|other| other != name) {
                return Err(BusError::OneConsumer { stream: self.options.name.clone() });
            }
            consumers.entry(name.to_owned()).or_default();
        }
        Ok(Box::new(MemoryConsumer { name: name.to_owned(), ack_wait, stream: self }))
    }
}

impl Log {
    fn forget_old(&mut self, max_age: Duration) {
        while self.messages.front().is_some_and(|stored| stored.at.elapsed() >= max_age) {
            self.messages.pop_front();
        }
    }

    /// The next message for a consumer, or when to look again.
    fn take(&mut self, name: &str, ack_wait: Duration) -> Result<(Message, u64, u64), Option<Instant>> {
        let now = Instant::now();
        let Some(position) = self.consumers.get_mut(name) else { return Err(None) };
        let first = self.messages.front().map_or(self.last + 1, |stored| stored.sequence);
        position.waiting.retain(|sequence, _| *sequence >= first);
        let held = |sequence: u64| self.messages.iter().find(|stored| stored.sequence == sequence);
        let overdue = position.waiting.iter_mut().find(|(_, waiting)| waiting.again_at <= now);
        if let Some((sequence, waiting)) = overdue
            && let Some(stored) = held(*sequence)
        {
            (waiting.again_at, waiting.attempt) = (now + ack_wait, waiting.attempt + 1);
            return Ok((stored.message.clone(), *sequence, waiting.attempt));
        }
        if let Some(stored) = self.messages.iter().find(|stored| stored.sequence > position.read) {
            position.read = stored.sequence;
            position.waiting.insert(stored.sequence, Waiting { again_at: now + ack_wait, attempt: 1 });
            return Ok((stored.message.clone(), stored.sequence, 1));
        }
        Err(position.waiting.values().map(|waiting| waiting.again_at).min())
    }
}

struct MemoryConsumer {
    stream: Arc<MemoryStream>,
    name: String,
    ack_wait: Duration,
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self) -> Result<Delivery, BusError> {
        loop {
            // Before looking: what comes between looking and waiting must wake us.
            let news = self.stream.news.notified();
            let found = {
                let mut log = lock(&self.stream.state);
                log.forget_old(self.stream.options.max_age);
                log.take(&self.name, self.ack_wait)
            };
            match found {
                Ok((message, sequence, attempt)) => {
                    let (stream, name) = (self.stream.clone(), self.name.clone());
                    let acknowledge = Box::new(Receipt { stream, name, sequence, ack_wait: self.ack_wait });
                    return Ok(Delivery { message, attempt, acknowledge });
                }
                // Cancel safety: nothing has been taken.
                Err(Some(again_at)) => {
                    tokio::select! { () = news => {}, () = tokio::time::sleep_until(again_at) => {} }
                }
                Err(None) => news.await,
            }
        }
    }
}

struct Receipt {
    stream: Arc<MemoryStream>,
    name: String,
    sequence: u64,
    ack_wait: Duration,
}

impl Receipt {
    /// When it comes again, unless it is acknowledged.
    fn again_at(&self, at: Instant) {
        let mut log = lock(&self.stream.state);
        let waiting = log.consumers.get_mut(&self.name).and_then(|position| position.waiting.get_mut(&self.sequence));
        if let Some(waiting) = waiting {
            waiting.again_at = at;
        }
    }
}

#[async_trait]
impl Acknowledge for Receipt {
    async fn ack(&self) -> Result<(), BusError> {
        let mut log = lock(&self.stream.state);
        if let Some(position) = log.consumers.get_mut(&self.name) {
            position.waiting.remove(&self.sequence);
        }
        if self.stream.options.kind == StreamKind::WorkQueue {
            log.messages.retain(|stored| stored.sequence != self.sequence);
        }
        Ok(())
    }

    async fn working(&self) -> Result<(), BusError> {
        self.again_at(Instant::now() + self.ack_wait);
        Ok(())
    }

    async fn refuse(&self) -> Result<(), BusError> {
        self.again_at(Instant::now());
        self.stream.news.notify_waiters();
        Ok(())
    }
}

// ---- maps

struct MemoryMap {
    name: String,
    options: MapOptions,
    state: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    revision: u64,
    entries: HashMap<String, Living>,
    watchers: Vec<Watcher>,
    swept_at: Option<Instant>,
}

struct Living {
    entry: Entry,
    dies_at: Instant,
}

struct Watcher {
    key: String,
    changes: mpsc::Sender<Change>,
}

impl Table {
    fn living(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key).filter(|living| living.dies_at > Instant::now()).map(|living| &living.entry)
    }

    fn tell(&mut self, key: &str, change: &Change) {
        // A watcher that is too far behind is let go: it watches again and gets the value of that time.
        self.watchers.retain(|watcher| match watcher.key == key {
            true => watcher.changes.try_send(change.clone()).is_ok(),
            false => !watcher.changes.is_closed(),
        });
    }

    fn sweep(&mut self) {
        let now = Instant::now();
        self.entries.retain(|_, living| living.dies_at > now);
        self.swept_at = Some(now);
    }
}

impl MemoryMap {
    fn write(&self, table: &mut Table, key: &str, value: Bytes) -> Result<u64, BusError> {
        if value.len() > self.options.max_value_bytes {
            return Err(BusError::Full { what: "value" });
        }
        if table.swept_at.is_none_or(|at| at.elapsed() >= self.options.ttl) {
            table.sweep();
        }
        if table.entries.len() >= self.options.max_entries && !table.entries.contains_key(key) {
            table.sweep();
            if table.entries.len() >= self.options.max_entries {
                return Err(BusError::Full { what: "map" });
            }
        }
        table.revision += 1;
        let entry = Entry { value, revision: table.revision };
        let dies_at = Instant::now() + self.options.ttl;
        table.entries.insert(key.to_owned(), Living { entry: entry.clone(), dies_at });
        table.tell(key, &Change::Put(entry));
        Ok(table.revision)
    }
}

#[async_trait]
impl Map for MemoryMap {
    fn name(&self) -> &str {
        &self.name
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, BusError> {
        check_key(key)?;
        Ok(lock(&self.state).living(key).cloned())
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        check_key(key)?;
        let mut table = lock(&self.state);
        match table.living(key) {
            Some(_) => Err(BusError::AlreadyExists),
            None => self.write(&mut table, key, value),
        }
    }

    async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, BusError> {
        check_key(key)?;
        let mut table = lock(&self.state);
        match table.living(key) {
            Some(entry) if entry.revision == revision => self.write(&mut table, key, value),
            _ => Err(BusError::WrongRevision),
        }
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<u64, BusError> {
        check_key(key)?;
        self.write(&mut lock(&self.state), key, value)
    }

    async fn delete(&self, key: &str, revision: u64) -> Result<(), BusError> {
        check_key(key)?;
        let mut table = lock(&self.state);
        if table.living(key).is_none_or(|entry| entry.revision != revision) {
            return Err(BusError::WrongRevision);
        }
        table.entries.remove(key);
        table.tell(key, &Change::Gone);
        Ok(())
    }

    async fn watch(&self, key: &str) -> Result<futures::stream::BoxStream<'static, Change>, BusError> {
        check_key(key)?;
        let (changes, receiver) = mpsc::channel(64);
        let mut table = lock(&self.state);
        if let Some(entry) = table.living(key) {
            let _ = changes.try_send(Change::Put(entry.clone()));
        }
        table.watchers.push(Watcher { key: key.to_owned(), changes });
        Ok(ReceiverStream::new(receiver).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_is_one_word_and_a_greater_sign_is_the_rest() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*.c", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }
}
