//! One term of one leader: a task for each directory of the settings, and who hands them what others asked for.
//!
//! ```text
//! settings ──> workers: one for each directory, added and let go of as the settings say
//! requests ──> orders to the workers of the directories they name ──> all through: acknowledged
//! ```
//!
//! Runs of different directories go on side by side, those of one never (S-00): a directory that came back to the settings waits for the end
//! of its former worker. When the term is dropped all tasks are.

use crate::apply::Term;
use crate::metrics::{self, Metrics};
use crate::nodes::{Node, TOLD_EVERY};
use crate::requests::{self, Delivered, REQUESTS_MAX_AGE, Requests};
use crate::run::Runner;
use crate::settings::{CurrentSettings, Snapshot};
use crate::worker::{Deposed, Order, Worker};
use domain::ObjectName;
use service_kit::Clock;
use service_kit::bus::{Bus, Delivery};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval, timeout};

/// Requests in work; the others wait on the bus. No queue of a worker holds more.
const REQUESTS_AT_ONCE: usize = 32;
/// Directories that are read whole at once: each read holds a page and keeps the store busy.
const WHOLE_AT_ONCE: usize = 4;
/// A run that has not ended by then is left to whom it gives way to.
const GIVES_WAY_AFTER: Duration = Duration::from_secs(60);

pub(crate) struct Leader {
    term: Term,
    bus: Arc<dyn Bus>,
    clock: Clock,
    settings: Arc<CurrentSettings>,
    metrics: Metrics,
    term_metrics: Arc<metrics::Term>,
    places: Arc<Semaphore>,
    /// Whose worker lives, and how to reach it unless it is to end.
    desks: HashMap<ObjectName, Option<mpsc::Sender<Order>>>,
    workers: JoinSet<Result<ObjectName, Deposed>>,
    /// Requests in work.
    served: JoinSet<()>,
}

/// What a leader does next.
enum Next {
    Asked(Delivered),
    Ended(Result<Result<ObjectName, Deposed>, JoinError>),
    Changed,
    Nothing,
}

/// Why a term ends by itself.
enum End {
    Deposed,
    GivesWay,
    /// The process stops, or what should not end has ended.
    Broken,
}

impl Leader {
    pub(crate) fn new(
        term: Term,
        bus: Arc<dyn Bus>,
        clock: Clock,
        settings: Arc<CurrentSettings>,
        metrics: Metrics,
    ) -> Self {
        let term_metrics = Arc::new(metrics.term());
        let places = Arc::new(Semaphore::new(WHOLE_AT_ONCE));
        let (desks, workers, served) = (HashMap::new(), JoinSet::new(), JoinSet::new());
        Self { term, bus, clock, settings, metrics, term_metrics, places, desks, workers, served }
    }

    /// Leads until it is dropped, another leader has begun, or a preferred host is there.
    pub(crate) async fn lead(mut self, node: &Node) {
        match self.work(node).await {
            End::Deposed => {
                tracing::warn!(
                    event = "sync_leader",
                    service = "directory-sync",
                    "another leader has begun, this one stops"
                );
                self.workers.shutdown().await;
            }
            End::GivesWay => {
                tracing::info!(
                    event = "sync_leader",
                    service = "directory-sync",
                    "a preferred host is there and leads"
                );
                self.desks.clear();
                finish_work(&mut self.workers).await;
            }
            End::Broken => return,
        }
        // Whose part was not served is told to come again at once.
        while self.served.join_next().await.is_some() {}
    }

    async fn work(&mut self, node: &Node) -> End {
        let mut changes = self.settings.changes();
        let mut request = Requests::new(self.bus.as_ref()).next();
        let mut look = interval(TOLD_EVERY);
        self.staff();
        loop {
            // Cancel safety: `request` is not dropped but awaited again; a task that ended is kept by its set until it is taken.
            let next = tokio::select! {
                asked = &mut request, if self.served.len() < REQUESTS_AT_ONCE => Next::Asked(asked),
                Some(ended) = self.workers.join_next() => Next::Ended(ended),
                Some(_) = self.served.join_next() => Next::Nothing,
                _ = look.tick() => match node.gives_way_by(&self.settings).await {
                    true => return End::GivesWay,
                    false => Next::Nothing,
                },
                changed = changes.changed() => match changed {
                    Ok(()) => Next::Changed,
                    Err(_) => return End::Broken, // the process stops
                },
            };
            match next {
                Next::Asked(Delivered { requests, delivery }) => {
                    request = requests.next();
                    self.settings.refresh().await;
                    self.staff();
                    self.hand_out(delivery).await;
                }
                Next::Ended(Ok(Ok(name))) => {
                    self.desks.remove(&name);
                    self.staff();
                }
                Next::Ended(Ok(Err(Deposed))) => return End::Deposed,
                Next::Ended(Err(error)) => {
                    tracing::error!(%error, "the work on a directory ended before its time, so this term does");
                    return End::Broken;
                }
                Next::Changed => self.staff(),
                Next::Nothing => {}
            }
        }
    }

    /// A worker for each directory of the settings and for no other.
    fn staff(&mut self) {
        let Some(snapshot) = self.settings.current() else { return };
        let wanted = directories(&snapshot);
        for (name, desk) in &mut self.desks {
            if !wanted.contains(name) {
                *desk = None;
            }
        }
        for name in wanted {
            if !self.desks.contains_key(&name) {
                let (sender, orders) = mpsc::channel(REQUESTS_AT_ONCE);
                let worker = Worker::new(self.runner(&name), orders);
                self.workers.spawn(worker.work());
                self.desks.insert(name, Some(sender));
            }
        }
    }

    fn runner(&self, name: &ObjectName) -> Runner {
        Runner {
            name: name.clone(),
            term: self.term.clone(),
            settings: Arc::clone(&self.settings),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            term_metrics: Arc::clone(&self.term_metrics),
            places: Arc::clone(&self.places),
            place: None,
            learned: Default::default(),
        }
    }

    /// Hands what somebody asked for to the directories it names.
    async fn hand_out(&mut self, delivery: Delivery) {
        let Some(snapshot) = self.settings.current() else { return };
        let Some((trigger, directories)) = requests::understood(&snapshot, &delivery) else {
            tracing::warn!("a request on the bus could not be read");
            return drop(delivery.ack().await);
        };
        if directories.is_empty() {
            tracing::info!(
                event = "sync_run",
                service = "directory-sync",
                state = "nothing_to_do",
                "no such item is on"
            );
        }
        let Some(desks) = directories.iter().map(|name| self.desks.get(name)?.as_ref()).collect::<Option<Vec<_>>>()
        else {
            self.served.spawn(requests::put_off(delivery));
            return;
        };
        let (message, until) = (Arc::new(delivery.message.clone()), Instant::now() + REQUESTS_MAX_AGE);
        let mut parts = Vec::new();
        for desk in desks {
            let (done, part) = oneshot::channel();
            parts.push(part);
            let order = Order { trigger: trigger.clone(), message: Arc::clone(&message), until, done };
            // There are fewer requests in work than a queue holds. One that nobody takes is dropped, and its request comes again.
            let _ = desk.try_send(order);
        }
        self.served.spawn(requests::served(delivery, parts));
    }
}

/// What goes on is brought to its end, if that is near: meanwhile no other directory is read. The next leader begins anew.
async fn finish_work<T: 'static>(workers: &mut JoinSet<T>) {
    let ended = async { while workers.join_next().await.is_some() {} };
    if timeout(GIVES_WAY_AFTER, ended).await.is_err() {
        workers.shutdown().await;
    }
}

/// All that can be asked for: a directory without an item lets go of whom it had (FS-10).
fn directories(snapshot: &Snapshot) -> BTreeSet<ObjectName> {
    let settings = &snapshot.settings;
    let of_items = settings.sync_items.iter().map(|item| &item.directory);
    settings.directories.iter().map(|directory| &directory.name).chain(of_items).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn a_run_has_a_minute_to_end_before_a_preferred_host_leads() {
        // FS-11
        let (mut near, mut far) = (JoinSet::new(), JoinSet::new());
        near.spawn(sleep(Duration::from_secs(20)));
        far.spawn(sleep(Duration::from_secs(20)));
        far.spawn(pending());
        for (workers, seconds) in [(&mut near, 20), (&mut far, 60)] {
            let begun = Instant::now();
            finish_work(workers).await;
            assert_eq!((begun.elapsed().as_secs(), workers.len()), (seconds, 0), "nobody works on");
        }
    }
}
