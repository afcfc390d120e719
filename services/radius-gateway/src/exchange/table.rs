//! All exchanges of this node, with what works on them.

use super::shared::Given;
use crate::listener::Drop;
use radius_wire::{ExchangeId, ExchangeKey, ExchangeLimits, Exchanges, Fingerprint, LookAlike, Received};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The longest wait of a client (FL-09) and 30 s.
pub(super) const PENDING_KEPT: Duration = Duration::from_secs(110 + 30);

pub(crate) struct Table {
    started: Instant,
    in_work_max: usize,
    in_work_per_client_max: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    exchanges: Exchanges,
    /// By the serial of the exchange.
    running: HashMap<u64, InWork>,
    in_work_of: HashMap<Arc<str>, usize>,
    stopping: bool,
}

struct InWork {
    running: Running,
    /// Whoever joined hears the answer here, and whoever takes its place the end. There since the first of them: most wait alone.
    answered: Option<watch::Sender<Option<Arc<Given>>>>,
    first: Instant,
    // Since then, in milliseconds: tens of thousands wait at once (P-08).
    last_ms: u32,
    /// The longest before a copy; zero: no copy came.
    gap_ms: u32,
    /// When its answer was there; zero: it is not.
    answered_ms: u32,
}

impl InWork {
    /// How long a device has waited that was not there any more for the answer: another copy of its request was overdue. One whose
    /// answer came before says nothing, nor does one that asks but once. New requests may be those of a person who tries again.
    fn given_up_after(&self) -> Option<Duration> {
        // Each gap may be twice the one before and a tenth more (RFC 5080 section 2.2.1), and packets may be late.
        let [last, gap, answered] = [self.last_ms, self.gap_ms, self.answered_ms].map(u64::from);
        let has_given_up = gap > 0 && answered > last + gap * 5 / 2 + 1_000;
        has_given_up.then(|| Duration::from_millis(last + gap))
    }

    fn since_first_ms(&self) -> u32 {
        milliseconds(self.first.elapsed())
    }
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// A request in work, and those that have joined it.
#[derive(Clone)]
pub(super) struct Running(Arc<State>);

struct State {
    client: Arc<str>,
    duplicates: AtomicU32,
    /// See [`Interrupted`], and [`WANTED`] before that.
    interrupted: AtomicU8,
    told: Notify,
}

const WANTED: u8 = 0;

/// Why a request in work is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupted {
    /// Nobody waits for its answer any more.
    Orphaned = 1,
    /// The process stops.
    Stopping = 2,
}

impl Running {
    pub(super) fn duplicates(&self) -> u32 {
        self.0.duplicates.load(Ordering::Relaxed)
    }

    /// Returns when it is to end. May be dropped at any time.
    pub(super) async fn interrupted(&self) -> Interrupted {
        // First, so that nothing is missed between the two.
        let told = self.0.told.notified();
        if self.0.interrupted.load(Ordering::Acquire) == WANTED {
            told.await;
        }
        match self.0.interrupted.load(Ordering::Acquire) == Interrupted::Orphaned as u8 {
            true => Interrupted::Orphaned,
            false => Interrupted::Stopping,
        }
    }

    fn interrupt(&self, why: Interrupted) {
        self.0.interrupted.store(why as u8, Ordering::Release);
        self.0.told.notify_waiters();
    }
}

/// The end of a request whose place another has taken. It comes when all that was open for it is closed.
pub(super) struct Predecessor(watch::Receiver<Option<Arc<Given>>>);

impl Predecessor {
    /// May be dropped at any time.
    pub(super) async fn ended(mut self) {
        ended(&mut self.0).await;
    }
}

/// The same of what was joined.
pub(super) async fn ended(answered: &mut watch::Receiver<Option<Arc<Given>>>) {
    // Its answer, if it still gets one, is nobody's; behind its end nothing can come any more.
    while answered.changed().await.is_ok() {}
}

/// A genuine request, as far as the table looks at it.
pub(super) struct Arrival<'a> {
    pub(super) key: ExchangeKey,
    pub(super) fingerprint: Fingerprint,
    pub(super) alike: Option<LookAlike>,
    pub(super) client: &'a str,
    pub(super) begun: HasBegun,
    pub(super) draining: bool,
}

/// Whether a request goes on with a conversation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HasBegun {
    No,
    /// As it says; other nodes may know.
    Perhaps,
    Yes,
}

/// What is to be done with it.
pub(super) enum Taken {
    Work {
        id: ExchangeId,
        running: Running,
        /// It resembles one in work all the same.
        anew: bool,
        predecessor: Option<Predecessor>,
        /// Why it is not taken, unless the conversation that it says it goes on with has begun at another node.
        unless_begun: Option<Drop>,
    },
    /// It waits for the answer to one in work.
    Joins {
        id: ExchangeId,
        running: Running,
        answered: watch::Receiver<Option<Arc<Given>>>,
        work: ExchangeId,
        repeat: Repeat,
    },
    /// A copy of one in work.
    Copy {
        work: ExchangeId,
        repeat: Repeat,
    },
    Resend(Arc<[u8]>),
    Refused(Drop),
}

/// How long a device waits before it repeats itself.
#[derive(Clone, Copy, Default)]
pub(crate) struct Repeat {
    /// Since the last of them.
    pub(crate) gap: Duration,
    /// Since the first.
    pub(crate) waited: Duration,
}

impl Table {
    pub(crate) fn new(in_work_max: usize, in_work_per_client_max: usize, reply_kept: Duration) -> Self {
        let limits = ExchangeLimits {
            // The limits below hold for what is in work; this one leaves room for the replies that are kept.
            entries_max: in_work_max.saturating_mul(4),
            pending_per_source_max: in_work_per_client_max,
            reply_kept,
            pending_kept: PENDING_KEPT,
        };
        let inner = Inner {
            exchanges: Exchanges::new(limits),
            running: HashMap::new(),
            in_work_of: HashMap::new(),
            stopping: false,
        };
        Self { started: Instant::now(), in_work_max, in_work_per_client_max, inner: Mutex::new(inner) }
    }

    /// Ends what has had its time.
    pub(crate) fn expire(&self) {
        let mut inner = self.lock();
        for unanswered in inner.exchanges.expire(self.started.elapsed()) {
            inner.orphan(&unanswered);
        }
    }

    /// A connection has closed: its requests in work end, and its answers are forgotten.
    pub(crate) fn close(&self, listener: SocketAddr, source: SocketAddr) {
        let mut inner = self.lock();
        for unanswered in inner.exchanges.close(listener, source) {
            inner.orphan(&unanswered);
        }
    }

    /// The process stops: what is in work ends, and what comes now at once.
    pub(crate) fn stop(&self) {
        let mut inner = self.lock();
        inner.stopping = true;
        for in_work in inner.running.values() {
            in_work.running.interrupt(Interrupted::Stopping);
        }
    }

    /// There is nobody any more who may ask: what is in work ends, and all answers are forgotten.
    pub(crate) fn end_all(&self) {
        let mut inner = self.lock();
        for unanswered in inner.exchanges.clear() {
            inner.orphan(&unanswered);
        }
    }

    /// Places a request. What is new needs room; what goes on with a conversation or joins what is in work may use the last tenth
    /// of which what only says so has the first half, and is taken even while the node takes nothing new.
    pub(super) fn take(&self, arrival: Arrival<'_>) -> Taken {
        let mut inner = self.lock();
        let now = self.started.elapsed();
        let anew = arrival.alike.as_ref().is_some_and(|alike| inner.exchanges.resembles(alike, now));
        match inner.exchanges.receive(arrival.key, arrival.fingerprint, arrival.alike, now) {
            Received::Resend(octets) => Taken::Resend(octets),
            Received::Full => Taken::Refused(Drop::Full),
            Received::StillWaiting(work) => {
                let repeat = inner.repeated(&work);
                inner.copied(&work, repeat.gap);
                Taken::Copy { work, repeat }
            }
            Received::Ask(id) => self.begin(&mut inner, id, &arrival, anew, None),
            Received::Replaced { orphan, ask } => {
                inner.orphan(&orphan);
                let predecessor = inner.subscribed(&orphan).map(Predecessor);
                self.begin(&mut inner, ask, &arrival, anew, predecessor)
            }
            Received::Joins { work, id, orphan } => {
                if let Some(orphan) = orphan {
                    inner.orphan(&orphan);
                }
                self.join(&mut inner, work, id, &arrival)
            }
        }
    }

    fn begin(
        &self,
        inner: &mut Inner,
        id: ExchangeId,
        arrival: &Arrival<'_>,
        anew: bool,
        predecessor: Option<Predecessor>,
    ) -> Taken {
        let room = self.room(inner, arrival.client);
        let why = if arrival.draining { Drop::Draining } else { Drop::Full };
        let begins_not = arrival.draining || room != Room::Enough;
        let refused = match arrival.begun {
            HasBegun::Yes => room == Room::None,
            // Whoever invents States keeps nobody out who goes on here.
            HasBegun::Perhaps => matches!(room, Room::None | Room::Last),
            HasBegun::No => begins_not || room == Room::None,
        };
        if refused {
            inner.exchanges.forget(&id);
            return Taken::Refused(why);
        }
        let unless_begun = (begins_not && arrival.begun == HasBegun::Perhaps).then_some(why);
        let known = inner.in_work_of.get_key_value(arrival.client).map(|(client, _)| client.clone());
        let client = known.unwrap_or_else(|| arrival.client.into());
        let running = Running(Arc::new(State {
            client,
            duplicates: AtomicU32::default(),
            interrupted: AtomicU8::new(WANTED),
            told: Notify::new(),
        }));
        if inner.stopping {
            running.interrupt(Interrupted::Stopping);
        }
        inner.enter(id, running.clone());
        Taken::Work { id, running, anew, predecessor, unless_begun }
    }

    fn join(&self, inner: &mut Inner, work: ExchangeId, id: ExchangeId, arrival: &Arrival<'_>) -> Taken {
        let repeat = inner.repeated(&work);
        let joined = inner.running.get(&work.serial()).map(|it| it.running.clone()).zip(inner.subscribed(&work));
        match joined {
            Some((running, answered)) if self.room(inner, arrival.client) != Room::None => {
                inner.enter(id, running.clone());
                Taken::Joins { id, running, answered, work, repeat }
            }
            _ => {
                inner.exchanges.forget(&id);
                Taken::Refused(Drop::Full)
            }
        }
    }

    fn room(&self, inner: &Inner, client: &str) -> Room {
        let in_work = inner.running.len();
        let of_client = inner.in_work_of.get(client).copied().unwrap_or_default();
        let of = |in_work: usize, max: usize| {
            let scarce = max / 10 * 9;
            let last = scarce + (max - scarce).div_ceil(2);
            match in_work {
                _ if in_work >= max => Room::None,
                _ if in_work >= last => Room::Last,
                _ if in_work >= scarce => Room::Scarce,
                _ => Room::Enough,
            }
        };
        of(in_work, self.in_work_max).max(of(of_client, self.in_work_per_client_max))
    }

    /// The work on a request is over, whatever became of it. Whoever still waits for it hears nothing more. Returns after how long the
    /// device had given up, if it had.
    pub(super) fn leave(&self, id: &ExchangeId) -> Option<Duration> {
        let mut inner = self.lock();
        inner.exchanges.finish(id);
        let in_work = inner.running.remove(&id.serial())?;
        let client = &in_work.running.0.client;
        if let Some(in_work) = inner.in_work_of.get_mut(client) {
            *in_work -= 1;
            if *in_work == 0 {
                inner.in_work_of.remove(client);
            }
        }
        in_work.given_up_after()
    }

    pub(super) fn answer(&self, id: &ExchangeId, octets: Arc<[u8]>) -> bool {
        self.lock().exchanges.answer(id, octets, self.started.elapsed())
    }

    /// Tells whoever has joined.
    pub(super) fn publish(&self, work: &ExchangeId, given: Arc<Given>) {
        let mut inner = self.lock();
        inner.exchanges.finish(work);
        let Some(in_work) = inner.running.get_mut(&work.serial()) else { return };
        in_work.answered_ms = in_work.since_first_ms();
        if let Some(answered) = &in_work.answered {
            answered.send_replace(Some(given));
        }
    }

    /// No answer goes out from here. The work goes on.
    pub(super) fn forget(&self, id: &ExchangeId) {
        self.lock().exchanges.forget(id);
    }

    /// The client has replaced it elsewhere: where nobody else waits for the work, it ends, and this says so.
    pub(super) fn abandon(&self, id: &ExchangeId) -> bool {
        let mut inner = self.lock();
        let orphan = inner.exchanges.forget(id);
        if let Some(orphan) = &orphan {
            inner.orphan(orphan);
        }
        orphan.is_some()
    }

    pub(super) fn is_awaited(&self, work: &ExchangeId) -> bool {
        self.lock().exchanges.is_awaited(work)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From much to none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Enough,
    /// The last tenth.
    Scarce,
    /// The second half of that.
    Last,
    None,
}

impl Inner {
    fn enter(&mut self, id: ExchangeId, running: Running) {
        *self.in_work_of.entry(running.0.client.clone()).or_default() += 1;
        let first = Instant::now();
        let in_work = InWork { running, answered: None, first, last_ms: 0, gap_ms: 0, answered_ms: 0 };
        self.running.insert(id.serial(), in_work);
    }

    fn copied(&mut self, work: &ExchangeId, gap: Duration) {
        if let Some(in_work) = self.running.get_mut(&work.serial()) {
            in_work.gap_ms = in_work.gap_ms.max(milliseconds(gap));
        }
    }

    fn orphan(&self, work: &ExchangeId) {
        if let Some(in_work) = self.running.get(&work.serial()) {
            in_work.running.interrupt(Interrupted::Orphaned);
        }
    }

    fn subscribed(&mut self, work: &ExchangeId) -> Option<watch::Receiver<Option<Arc<Given>>>> {
        let answered = &mut self.running.get_mut(&work.serial())?.answered;
        Some(answered.get_or_insert_with(|| watch::channel(None).0).subscribe())
    }

    fn repeated(&mut self, work: &ExchangeId) -> Repeat {
        let Some(in_work) = self.running.get_mut(&work.serial()) else { return Repeat::default() };
        in_work.running.0.duplicates.fetch_add(1, Ordering::Relaxed);
        let now_ms = in_work.since_first_ms();
        let of = |ms: u32| Duration::from_millis(ms.into());
        let repeat = Repeat { gap: of(now_ms - in_work.last_ms), waited: of(now_ms) };
        in_work.last_ms = now_ms;
        repeat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use radius_wire::{Packet, Port, Request, RequestCode, Rules, Secret, Transport, verify_request};

    fn arrives(table: &Table, port: u16, client: &str, begun: HasBegun) -> Taken {
        let secret = Secret::new("a secret of the device").expect("not empty");
        let code = RequestCode::AccessRequest;
        let request = Request { code, identifier: 1, authenticator: [5; 16], attributes: &[], password: Some("x") };
        let octets = request.write(&secret).expect("it fits");
        let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
        let verified = verify_request(packet, (&secret).into(), Rules::default()).expect("genuine");
        let (here, there) = (([127, 0, 0, 1], 1812).into(), ([127, 0, 0, 2], port).into());
        let key = ExchangeKey::new(here, Transport::Udp, there, &verified);
        let fingerprint = Fingerprint::of(&verified);
        table.take(Arrival { key, fingerprint, alike: None, client, begun, draining: false })
    }

    const KEPT: Duration = Duration::from_secs(30);

    #[test]
    fn what_only_says_that_it_goes_on_has_half_of_the_last_tenth() {
        //
        let take =
            |table: &Table, number: u16, client: &str, begun: HasBegun| match arrives(table, number, client, begun) {
                Taken::Work { unless_begun, .. } => Some(unless_begun.is_some()),
                _ => None,
            };
        use HasBegun::{No, Perhaps, Yes};
        for (in_work_max, of_client_max) in [(40, 1_000), (1_000, 40)] {
            let table = Table::new(in_work_max, of_client_max, KEPT);
            for number in 1..=36 {
                assert_eq!(take(&table, number, "vpn", Perhaps), Some(false), "{number}: there is room");
            }
            assert_eq!(take(&table, 37, "vpn", No), None);
            assert_eq!(take(&table, 37, "vpn", Perhaps), Some(true));
            assert_eq!(take(&table, 38, "vpn", Perhaps), Some(true));
            assert_eq!(take(&table, 39, "vpn", Perhaps), None, "the rest is for what has begun here");
            assert_eq!(take(&table, 39, "vpn", Yes), Some(false));
            assert_eq!(take(&table, 40, "vpn", Yes), Some(false));
            assert_eq!(take(&table, 41, "vpn", Yes), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_has_given_up_when_its_next_copy_is_overdue_before_its_answer_is_there() {
        // seconds after which a device sends a copy, and after which the answer is there
        for (device, copies, answered, expected) in [
            ("people approve at 12 s", &[5, 10][..], Some(12), None),
            ("the next copy is a little late", &[5, 10], Some(23), None),
            ("three times in all", &[5, 10], Some(24), Some(15)),
            ("three times in all, and nobody answers", &[5, 10], Some(55), Some(15)),
            ("to the end", &[10, 20, 30, 40, 50], Some(55), None),
            ("gaps that double", &[2, 6, 14, 30], Some(62), None),
            ("gaps that double, and then no more", &[2, 6, 14], Some(50), Some(22)),
            ("asks once", &[], Some(55), None),
            ("what it asked was withdrawn", &[5, 10], None, None),
        ] {
            let table = Table::new(10, 10, KEPT);
            let begun = Instant::now();
            let after = |seconds: u64| tokio::time::sleep_until(begun + Duration::from_secs(seconds));
            let Taken::Work { id, .. } = arrives(&table, 1, "vpn", HasBegun::No) else { panic!("{device}: it is new") };
            for copy in copies {
                after(*copy).await;
                assert!(matches!(arrives(&table, 1, "vpn", HasBegun::No), Taken::Copy { .. }), "{device}");
            }
            if let Some(answered) = answered {
                after(answered).await;
                table.publish(&id, Arc::new(Given { authenticator: [5; 16], octets: vec![2] }));
            }
            // That other nodes are told may take its time.
            after(100).await;
            assert_eq!(table.leave(&id).map(|waited| waited.as_secs()), expected, "{device}");
        }
    }
}
