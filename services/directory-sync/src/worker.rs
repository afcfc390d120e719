//! One directory in one term: runs it when that is due, asked for, or told of, one thing after the other (S-00).
//!
//! ```text
//! idle ── due, asked for, told of a change ──> run ──> follow what the directory tells ──> idle
//!            `── everything is to be read by the schedule, and too many others are ──> wait for a place ──^
//! ```
//!
//! A directory that is silent or large holds up nobody but itself (FD-02).

use crate::apply::StoreError;
use crate::follow::{Burst, Follow};
use crate::mode::Trigger;
use crate::run::{Ran, Runner};
use crate::schedule::{self, Schedule};
use crate::settings::Snapshot;
use domain::ObjectName;
use service_kit::bus::Message;
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
    pub(crate) done: oneshot::Sender<Outcome>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ran,
    /// The store did not take it, now.
    NotTaken,
}

pub(crate) struct Worker {
    name: ObjectName,
    runner: Runner,
    schedule: Schedule,
    follow: Follow,
    orders: mpsc::Receiver<Order>,
    /// A run of the schedule waits for this.
    place: Option<Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>>,
}

/// What is done next.
enum Next {
    Order(Order),
    Due,
    Place(Option<OwnedSemaphorePermit>),
    Told,
    Follow,
}

impl Worker {
    pub(crate) fn new(runner: Runner, orders: mpsc::Receiver<Order>) -> Self {
        let name = runner.name.clone();
        Self { name, runner, schedule: Schedule::default(), follow: Follow::default(), orders, place: None }
    }

    /// Works until nobody can order anything any more; whose directory it is.
    pub(crate) async fn work(mut self) -> Result<ObjectName, Deposed> {
        let settings = Arc::clone(&self.runner.settings);
        let mut changes = settings.changes();
        loop {
            let due = settings.current().and_then(|it| self.schedule.due(&it.settings, &self.name, Instant::now()));
            let follow_due = self.follow.due();
            // Cancel safety: an order stays in the queue, what was told with the follower, and the place is waited for again; a moment
            // and a changed setting are looked at anew.
            let next = tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => Next::Order(order),
                    None => return Ok(self.name),
                },
                place = given(&mut self.place) => Next::Place(place),
                () = until(due) => Next::Due,
                () = self.follow.told() => Next::Told,
                () = until(follow_due) => Next::Follow,
                changed = changes.changed() => match changed {
                    Ok(()) => Next::Follow,
                    Err(_) => return Ok(self.name), // the process stops
                },
            };
            if !matches!(next, Next::Follow) {
                settings.refresh().await;
            }
            let Some(snapshot) = settings.current() else { return Ok(self.name) };
            self.do_next(next, &snapshot).await?;
            self.follow(&snapshot).await?;
        }
    }

    async fn do_next(&mut self, next: Next, snapshot: &Snapshot) -> Result<(), Deposed> {
        match next {
            Next::Order(order) => self.obey(order, snapshot).await,
            Next::Due => self.run(snapshot).await.map(drop),
            Next::Place(place) => {
                (self.place, self.runner.place) = (None, place);
                self.run(snapshot).await.map(drop)
            }
            Next::Told => self.told(snapshot).await,
            Next::Follow => Ok(()),
        }
    }

    /// Runs by the schedule. What the store did not take is tried again soon.
    async fn run(&mut self, snapshot: &Snapshot) -> Result<Ran, Deposed> {
        self.schedule.started(Instant::now());
        let ran = self.runner.run(snapshot, &Trigger::Schedule, |_| {}).await;
        self.runner.place = None;
        match ran {
            Ok(ran) => {
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

    fn after(&mut self, ran: &Ran) {
        match ran {
            Ran::Waits => {}
            Ran::NoPlace if self.place.is_some() => {}
            Ran::NoPlace => {
                let places = Arc::clone(&self.runner.places);
                self.place = Some(Box::pin(async move { places.acquire_owned().await.ok() }));
            }
            Ran::Ended { again, missed, .. } => {
                if *again {
                    self.schedule.again(Instant::now());
                }
                if *missed {
                    self.schedule.missed(Instant::now());
                }
            }
        }
    }

    /// Runs what somebody asked for, on the schedule or off it (FS-01).
    async fn obey(&mut self, order: Order, snapshot: &Snapshot) -> Result<(), Deposed> {
        let Order { trigger, message, done } = order;
        if !trigger.is_preview() {
            self.schedule.started(Instant::now());
        }
        let outcome = match self.runner.run(snapshot, &trigger, |span| message.link(span)).await {
            Ok(ran) => {
                self.after(&ran);
                Outcome::Ran
            }
            Err(StoreError::Deposed) => return Err(Deposed),
            Err(StoreError::Refused { .. }) => Outcome::NotTaken,
        };
        // Whoever waited for it may be gone with its term.
        let _ = done.send(outcome);
        Ok(())
    }

    /// Reads what the directory told of.
    async fn told(&mut self, snapshot: &Snapshot) -> Result<(), Deposed> {
        let (directory, origin, events) = match self.follow.burst(&self.name).await {
            None => return Ok(()),
            Some(Burst::Run) => {
                let ran = self.run(snapshot).await?;
                if !matches!(ran, Ran::Ended { complete: true, .. }) {
                    // What is told from now on would hide what was not found.
                    self.follow.stop(Instant::now());
                }
                return Ok(());
            }
            Some(Burst::Changes { directory, origin, events }) => (directory, origin, events),
        };
        match self.runner.burst(snapshot, &directory, &origin, events).await {
            Ok(ran @ Ran::Ended { complete: true, .. }) => self.after(&ran),
            Ok(_) | Err(StoreError::Refused { .. }) => self.follow.stop(Instant::now()),
            Err(StoreError::Deposed) => return Err(Deposed),
        }
        Ok(())
    }

    /// Follows the directory if it can be followed and is not yet, and lets go of it if the settings changed.
    async fn follow(&mut self, snapshot: &Snapshot) -> Result<(), Deposed> {
        let settings = Arc::clone(&self.runner.settings);
        let sync = &snapshot.settings.sync;
        let is_on = sync.enabled && !sync.always_full && schedule::is_on(&snapshot.settings, &self.name);
        let items_now = snapshot.settings.items_digest(self.name.as_str());
        self.follow.keep(|followed, items_digest| {
            let is_same = settings.directory(&self.name).is_ok_and(|now| Arc::ptr_eq(&now, followed));
            is_on && is_same && items_now == items_digest
        });
        let now = Instant::now();
        if !is_on {
            self.follow.forget_pause();
        }
        if !is_on || !self.follow.is_wanted(now) {
            return Ok(());
        }
        // Whatever comes of it, this moment has passed.
        self.follow.forget_pause();
        let Ok(directory) = settings.directory(&self.name) else { return Ok(()) };
        let Some(identity) = self.runner.followed(&directory).map(str::to_owned) else { return Ok(()) };
        let state = match self.runner.term.source(self.name.as_str()).await {
            Ok(state) => state,
            Err(StoreError::Deposed) => return Err(Deposed),
            Err(StoreError::Refused { .. }) => {
                self.follow.stop(now);
                return Ok(());
            }
        };
        // FS-09, S-44: by what was accepted, from the source that was read. Otherwise the next run that is asked for gives a position.
        if let Ok(position) = serde_json::from_slice(&state.position)
            && state.items_digest == items_now
            && state.identity == identity
        {
            self.follow.start(&self.name, directory, items_now, position);
        }
        Ok(())
    }
}

async fn given<T>(place: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
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
