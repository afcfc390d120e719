//! Directories that tell of changes as they happen: one task a directory listens, the leader reads what was told between its runs.
//!
//! It replaces no run: the interval goes on, finds what a dead connection did not tell, and has the last word (S-34).

use directory::{Directory, Event, FeedError, Origin, Position};
use domain::ObjectName;
use service_kit::chain;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Changes that come in quick succession are read together.
const TOGETHER: Duration = Duration::from_millis(100);
/// Of one burst, and how long one gathers.
const EVENTS_MAX: usize = 2_000;
const LONGEST: Duration = Duration::from_secs(1);
/// A connection that was lost is not opened again before this.
const PAUSE: Duration = Duration::from_secs(15);

/// What is followed, by directory.
pub(crate) struct Follows {
    followed: HashMap<ObjectName, Followed>,
    /// Not before.
    paused: HashMap<ObjectName, Instant>,
    ready: mpsc::UnboundedSender<ObjectName>,
    told: mpsc::UnboundedReceiver<ObjectName>,
}

struct Followed {
    directory: Arc<Directory>,
    /// By what items its changes are read: others wait for somebody to ask for a run (FS-09).
    items_digest: String,
    /// What happened before it was followed has been told.
    up_to_date: bool,
    /// The server that tells.
    origin: Origin,
    events: mpsc::Receiver<Result<Event, FeedError>>,
    /// It was said that there is something to take, and nobody has begun to.
    waiting: Arc<AtomicBool>,
    /// Told, and not covered by a run yet.
    position: Option<Position>,
    task: JoinHandle<()>,
}

/// What is to be done about what was told.
pub(crate) enum Burst {
    /// These objects are to be read.
    Changes { directory: Arc<Directory>, origin: Origin, events: Vec<Event> },
    /// An incremental run from where the last one stopped.
    Run,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follows {
    pub(crate) fn new() -> Self {
        // One for each directory at most.
        let (ready, told) = mpsc::unbounded_channel();
        Self { followed: HashMap::new(), paused: HashMap::new(), ready, told }
    }

    /// The next directory that has something to tell. Cancel safe.
    pub(crate) async fn next(&mut self) -> ObjectName {
        match self.told.recv().await {
            Some(name) => name,
            None => std::future::pending().await, // we hold a sender
        }
    }

    /// May it be followed, and is not yet?
    pub(crate) fn wants(&self, name: &ObjectName, now: Instant) -> bool {
        !self.followed.contains_key(name) && self.paused.get(name).is_none_or(|until| *until <= now)
    }

    pub(crate) fn start(
        &mut self,
        name: &ObjectName,
        directory: Arc<Directory>,
        items_digest: String,
        position: Position,
    ) {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let origin = position.origin();
        let mut changes = directory.follow(position);
        let (ready, follower, waiting) = (self.ready.clone(), name.clone(), Arc::new(AtomicBool::new(false)));
        let said = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            loop {
                let told = changes.next().await;
                let last = !matches!(told, Ok(ref event) if !matches!(event, Event::End { .. }));
                let gone = sender.send(told).await.is_err();
                if !said.swap(true, Ordering::AcqRel) && ready.send(follower.clone()).is_err() || gone || last {
                    return;
                }
            }
        });
        tracing::info!(directory = name.as_str(), "changes of the directory are followed as they happen");
        let (up_to_date, position) = (false, None);
        let followed = Followed { directory, items_digest, up_to_date, origin, events, waiting, position, task };
        self.followed.insert(name.clone(), followed);
    }

    /// What a directory has told by now; `None` = nothing that needs a run.
    pub(crate) async fn burst(&mut self, name: &ObjectName) -> Option<Burst> {
        let followed = self.followed.get_mut(name)?;
        followed.waiting.store(false, Ordering::Release);
        let (mut events, mut ended, mut sweep) = (Vec::new(), None, false);
        let until = Instant::now() + LONGEST;
        let mut next = followed.events.try_recv().ok();
        while let Some(told) = next.take() {
            match told {
                // Who is gone by not being named is found by one run that sees all of it (S-32). Until then nothing is forgotten.
                Ok(Event::Present(_)) => {}
                Ok(Event::UpToDate { rest_is_gone }) => {
                    followed.up_to_date = true;
                    sweep |= rest_is_gone;
                }
                Ok(Event::Position(position)) => {
                    followed.origin = position.origin();
                    followed.position = Some(position).filter(|_| followed.up_to_date);
                }
                Ok(Event::End { .. }) => ended = Some("the directory ended it".to_owned()),
                Ok(event) => events.push(event),
                Err(error) => {
                    // The run that begins where the last one stopped finds the same, and reads everything at once.
                    sweep |= matches!(error, FeedError::FullRead(_));
                    ended = Some(chain(&error));
                }
            }
            if ended.is_some() {
                break;
            }
            if events.len() >= EVENTS_MAX || Instant::now() >= until {
                // The rest after this.
                if !followed.waiting.swap(true, Ordering::AcqRel) {
                    let _ = self.ready.send(name.clone());
                }
                break;
            }
            let pause = if events.is_empty() { Duration::ZERO } else { TOGETHER };
            next = timeout(pause, followed.events.recv()).await.ok().flatten();
        }
        let (directory, origin) = (Arc::clone(&followed.directory), followed.origin.clone());
        // A position alone waits for something to be stored with.
        if !events.is_empty() {
            events.extend(followed.position.take().map(Event::Position));
        }
        if let Some(why) = ended {
            tracing::warn!(
                directory = name.as_str(),
                error = why,
                "changes are not followed for the moment; runs go on"
            );
            self.stop(name, Instant::now());
        }
        match (sweep, events.is_empty()) {
            (true, _) => Some(Burst::Run),
            (false, false) => Some(Burst::Changes { directory, origin, events }),
            (false, true) => None,
        }
    }

    /// What was told could not be read or stored: the next run finds it.
    pub(crate) fn stop(&mut self, name: &ObjectName, now: Instant) {
        self.followed.remove(name);
        self.paused.insert(name.clone(), now + PAUSE);
    }

    /// Lets go of what is not wanted any more.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&ObjectName, &Arc<Directory>, &str) -> bool) {
        self.followed.retain(|name, followed| wanted(name, &followed.directory, &followed.items_digest));
    }

    /// Whatever was lost is tried again only where that is wanted: a moment that has passed must not be waited for.
    pub(crate) fn forget(&mut self, unwanted: impl Fn(&ObjectName) -> bool) {
        self.paused.retain(|name, _| !unwanted(name));
    }

    /// When one that was lost may be followed again.
    pub(crate) fn due(&self) -> Option<Instant> {
        let paused = self.paused.iter().filter(|(name, _)| !self.followed.contains_key(*name));
        paused.map(|(_, until)| *until).min()
    }

    /// It is tried now.
    pub(crate) fn tried(&mut self, name: &ObjectName) {
        self.paused.remove(name);
    }
}
