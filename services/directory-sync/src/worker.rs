//! One directory in one term: runs it when that is due, asked for, or told of, one thing after the other (S-00).
//!
//! ```text
//! idle ── due, asked for, told of a change ──> run ──> follow what the directory tells ──> idle
//!            `── everything is to be read, and as many others are as may be at once ──> wait for a place ──^
//! ```
//!
//! What the store did not take of a request is tried again here: who was served already is not read anew for it.
//!
//! A directory that is silent or large holds up nobody but itself (FD-02).

use crate::apply::StoreError;
use crate::follow::{Burst, Follow};
use crate::mode::Trigger;
use crate::run::{Ran, Runner};
use crate::schedule::{self, RETRY, Schedule};
use crate::settings::Snapshot;
use domain::ObjectName;
use service_kit::bus::Message;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// Another leader has begun.
pub(crate) struct Deposed;

/// A run that somebody asked for.
pub(crate) struct Order {
    pub(crate) trigger: Trigger,
    /// Whose trace it belongs to.
    pub(crate) message: Arc<Message>,
    /// Nobody waits for it any longer than this.
    pub(crate) until: Instant,
    pub(crate) done: oneshot::Sender<()>,
}

/// Permission to read a whole directory, once there is some.
type Place = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

pub(crate) struct Worker {
    runner: Runner,
    schedule: Schedule,
    follow: Follow,
    orders: mpsc::Receiver<Order>,
    /// What waits for a place. No more than there are requests in work, and the schedule.
    waiting: VecDeque<Waiting>,
    place: Option<Place>,
    /// What the store did not take, and when it is tried again. No more than there are requests in work.
    refused: VecDeque<(Instant, Order)>,
}

enum Waiting {
    Order(Order),
    Schedule,
}

/// What is done next.
enum Next {
    Order(Order),
    Refused,
    Due,
    Place(Option<OwnedSemaphorePermit>),
    Told,
    Follow,
}

impl Worker {
    pub(crate) fn new(runner: Runner, orders: mpsc::Receiver<Order>) -> Self {
        let (schedule, follow) = (Schedule::default(), Follow::default());
        let (waiting, refused) = (VecDeque::new(), VecDeque::new());
        Self { runner, schedule, follow, orders, waiting, place: None, refused }
    }

    /// Works until nobody can order anything any more; whose directory it is.
    pub(crate) async fn work(mut self) -> Result<ObjectName, Deposed> {
        let settings = Arc::clone(&self.runner.settings);
        let mut changes = settings.changes();
        loop {
            let due = settings.current().and_then(|it| self.due(&it));
            let (follow_due, refused_due) = (self.follow.due(), self.refused.front().map(|(due, _)| *due));
            // Cancel safety: an order stays in the queue, what was told with the follower, and the place is waited for again; a moment
            // and a changed setting are looked at anew.
            let next = tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => Next::Order(order),
                    None => return Ok(self.runner.name),
                },
                () = until(refused_due) => Next::Refused,
                place = given(&mut self.place) => Next::Place(place),
                () = until(due) => Next::Due,
                () = self.follow.told() => Next::Told,
                () = until(follow_due) => Next::Follow,
                changed = changes.changed() => match changed {
                    Ok(()) => Next::Follow,
                    Err(_) => return Ok(self.runner.name), // the process stops
                },
            };
            if !matches!(next, Next::Follow) {
                settings.refresh().await;
            }
            let Some(snapshot) = settings.current() else { return Ok(self.runner.name) };
            // What was settled a moment ago holds for what is done now.
            self.keep(&snapshot);
            self.do_next(next, &snapshot).await?;
            self.line_up();
            self.follow(&snapshot).await?;
        }
    }

    /// When it is run by itself; `None` = not.
    fn due(&self, snapshot: &Snapshot) -> Option<Instant> {
        self.schedule.due(&snapshot.settings, &self.runner.name, Instant::now())
    }

    async fn do_next(&mut self, next: Next, snapshot: &Snapshot) -> Result<(), Deposed> {
        match next {
            Next::Order(order) => self.obey(order, snapshot).await,
            Next::Refused => match self.refused.pop_front() {
                Some((_, order)) => self.obey(order, snapshot).await,
                None => Ok(()),
            },
            Next::Due => self.run_if_on(snapshot).await,
            Next::Place(place) => {
                (self.place, self.runner.place) = (None, place);
                let done = match self.waiting.pop_front() {
                    Some(Waiting::Order(order)) => self.obey(order, snapshot).await,
                    Some(Waiting::Schedule) => self.run_if_on(snapshot).await,
                    None => Ok(()),
                };
                self.runner.place = None;
                done
            }
            Next::Told => self.told(snapshot).await,
            Next::Follow => Ok(()),
        }
    }

    /// Waits for a place while something needs one, and not longer.
    fn line_up(&mut self) {
        if self.waiting.is_empty() {
            self.place = None;
        } else if self.place.is_none() {
            let places = Arc::clone(&self.runner.places);
            self.place = Some(Box::pin(async move { places.acquire_owned().await.ok() }));
        }
    }

    /// Runs by the schedule, unless it was switched off while it waited.
    async fn run_if_on(&mut self, snapshot: &Snapshot) -> Result<(), Deposed> {
        match self.due(snapshot) {
            Some(_) => self.run(snapshot).await.map(drop),
            None => Ok(()),
        }
    }

    /// Runs by the schedule. What the store did not take is tried again soon.
    async fn run(&mut self, snapshot: &Snapshot) -> Result<Ran, Deposed> {
        self.started();
        let ran = self.runner.run(snapshot, &Trigger::Schedule, |_| {}).await;
        self.runner.place = None;
        match ran {
            Ok(ran) => {
                if ran == Ran::NoPlace {
                    self.waiting.push_back(Waiting::Schedule);
                }
                self.after(&ran);
                Ok(ran)
            }
            Err(StoreError::Deposed) => Err(Deposed),
            Err(StoreError::Refused { .. }) => {
                self.schedule.failed(Instant::now());
                Ok(Ran::Ended { complete: false, again: false, missed: false })
            }
        }
    }

    /// What the schedule waits for is done now.
    fn started(&mut self) {
        self.schedule.started(Instant::now());
        self.waiting.retain(|waiting| matches!(waiting, Waiting::Order(_)));
    }

    fn after(&mut self, ran: &Ran) {
        let Ran::Ended { complete, again, missed } = ran else { return };
        if *complete {
            self.follow.ended_complete();
        }
        if *again {
            self.schedule.again(Instant::now());
        }
        if *missed {
            self.schedule.missed(Instant::now());
        }
    }

    /// Runs what somebody asked for, on the schedule or off it (FS-01).
    async fn obey(&mut self, order: Order, snapshot: &Snapshot) -> Result<(), Deposed> {
        // Whoever waited for it has let it come again.
        if order.done.is_closed() {
            return Ok(());
        }
        let is_preview = order.trigger.is_preview();
        if !is_preview {
            self.started();
        }
        let ran = self.runner.run(snapshot, &order.trigger, |span| order.message.link(span)).await;
        self.runner.place = None;
        match ran {
            Ok(Ran::NoPlace) => self.waiting.push_back(Waiting::Order(order)),
            Ok(ran) => {
                self.after(&ran);
                // Whoever waited for it may be gone with its term.
                let _ = order.done.send(());
            }
            Err(StoreError::Deposed) => return Err(Deposed),
            Err(StoreError::Refused { .. }) => self.once_more(order),
        }
        Ok(())
    }

    /// The store may be back after a while. In the end whoever asked has to ask again.
    fn once_more(&mut self, order: Order) {
        let due = Instant::now() + RETRY;
        if due < order.until {
            self.refused.push_back((due, order));
        } else {
            let _ = order.done.send(());
        }
    }

    /// Reads what the directory told of.
    async fn told(&mut self, snapshot: &Snapshot) -> Result<(), Deposed> {
        let interval = schedule::interval(&snapshot.settings);
        let (directory, origin, events) = match self.follow.burst(&self.runner.name).await {
            None => return Ok(()),
            Some(Burst::Run) => {
                let ran = self.run(snapshot).await?;
                if !matches!(ran, Ran::Ended { complete: true, .. }) {
                    // What is told from now on would hide what was not found.
                    self.follow.ended_incomplete(interval, Instant::now());
                }
                return Ok(());
            }
            Some(Burst::Changes { directory, origin, events }) => (directory, origin, events),
        };
        match self.runner.burst(snapshot, &directory, &origin, events).await {
            Ok(ran @ Ran::Ended { complete: true, .. }) => self.after(&ran),
            Ok(_) => self.follow.ended_incomplete(interval, Instant::now()),
            Err(StoreError::Refused { .. }) => self.follow.stop(Instant::now()),
            Err(StoreError::Deposed) => return Err(Deposed),
        }
        Ok(())
    }

    /// May it be followed, by these settings?
    fn may_follow(&self, snapshot: &Snapshot) -> bool {
        let sync = &snapshot.settings.sync;
        sync.enabled && !sync.always_full && schedule::is_on(&snapshot.settings, &self.runner.name)
    }

    /// Lets go of who is followed if the settings changed (FS-09).
    fn keep(&mut self, snapshot: &Snapshot) {
        let (may_follow, name) = (self.may_follow(snapshot), &self.runner.name);
        let items_now = snapshot.settings.items_digest(name.as_str());
        self.follow.keep(|followed, items_digest| {
            let is_same = self.runner.settings.directory(name).is_ok_and(|now| Arc::ptr_eq(&now, followed));
            may_follow && is_same && items_now == items_digest
        });
        if !may_follow {
            self.follow.forget_pause();
        }
    }

    /// Follows the directory if it can be followed and is not yet.
    async fn follow(&mut self, snapshot: &Snapshot) -> Result<(), Deposed> {
        let now = Instant::now();
        if !self.may_follow(snapshot) || !self.follow.is_wanted(now) {
            return Ok(());
        }
        // Whatever comes of it, this moment has passed.
        self.follow.forget_pause();
        let name = &self.runner.name;
        let Ok(directory) = self.runner.settings.directory(name) else { return Ok(()) };
        let Some(identity) = self.runner.followed(&directory).map(str::to_owned) else { return Ok(()) };
        let state = match self.runner.term.source(name.as_str()).await {
            Ok(state) => state,
            Err(StoreError::Deposed) => return Err(Deposed),
            Err(StoreError::Refused { .. }) => {
                self.follow.stop(now);
                return Ok(());
            }
        };
        let items_now = snapshot.settings.items_digest(name.as_str());
        // FS-09, S-30, S-44: by what was accepted and read, from the source that was read. Otherwise the next run that is asked for gives a position.
        if let Ok(position) = serde_json::from_slice(&state.position)
            && state.items_digest == items_now
            && state.mapping_digest == snapshot.settings.mapping_digest(name.as_str())
            && state.identity == identity
        {
            self.follow.start(name, directory, items_now, position);
        }
        Ok(())
    }
}

async fn given(place: &mut Option<Place>) -> Option<OwnedSemaphorePermit> {
    match place {
        Some(place) => place.await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
