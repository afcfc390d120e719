//! A directory that tells of changes as they happen: a task listens, and what was told is read between the runs of the directory.
//!
//! It replaces no run: the interval goes on, finds what a dead connection did not tell, and has the last word (S-34).

use directory::{Directory, Event, FeedError, Origin, Position};
use domain::ObjectName;
use service_kit::chain;
use std::sync::Arc;
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

/// What one directory tells, if it is followed.
#[derive(Default)]
pub(crate) struct Follow {
    followed: Option<Followed>,
    /// Not before.
    paused: Option<Instant>,
    /// How often in a row what it told could not be read to its end.
    incomplete: u32,
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
    /// Told, and not taken yet.
    first: Option<Result<Event, FeedError>>,
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

impl Follow {
    /// Waits until there is something to take. Cancel safe: what came is kept.
    pub(crate) async fn told(&mut self) {
        let Some(followed) = &mut self.followed else { return std::future::pending().await };
        if followed.first.is_none() {
            followed.first = followed.events.recv().await;
        }
        if followed.first.is_none() {
            std::future::pending().await // its last word was taken before
        }
    }

    /// May it be followed, and is not yet?
    pub(crate) fn is_wanted(&self, now: Instant) -> bool {
        self.followed.is_none() && self.paused.is_none_or(|until| until <= now)
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
        let task = tokio::spawn(async move {
            loop {
                let told = changes.next().await;
                let last = !matches!(told, Ok(ref event) if !matches!(event, Event::End { .. }));
                if sender.send(told).await.is_err() || last {
                    return;
                }
            }
        });
        tracing::info!(directory = name.as_str(), "changes of the directory are followed as they happen");
        let (up_to_date, first, position) = (false, None, None);
        self.followed = Some(Followed { directory, items_digest, up_to_date, origin, events, first, position, task });
    }

    /// What a directory has told by now; `None` = nothing that needs a run.
    pub(crate) async fn burst(&mut self, name: &ObjectName) -> Option<Burst> {
        let followed = self.followed.as_mut()?;
        let (mut events, mut ended, mut sweep) = (Vec::new(), None, false);
        let until = Instant::now() + LONGEST;
        let mut next = followed.first.take().or_else(|| followed.events.try_recv().ok());
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
                break; // the rest after this
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
            self.stop(Instant::now());
        }
        match (sweep, events.is_empty()) {
            (true, _) => Some(Burst::Run),
            (false, false) => Some(Burst::Changes { directory, origin, events }),
            (false, true) => None,
        }
    }

    /// What was told could not be read or stored: the next run finds it.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.followed = None;
        self.paused = Some(now + PAUSE);
    }

    /// It could not be read to its end, and is told again from where it was read last: at once while that may be a moment's, ever later
    /// while it goes on, such as with a source that is gone, and never later than the next run is due.
    pub(crate) fn ended_incomplete(&mut self, interval: Duration, now: Instant) {
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(self.incomplete));
        self.incomplete = self.incomplete.saturating_add(1);
        self.followed = None;
        self.paused = Some(now + pause.min(interval.max(PAUSE)));
    }

    /// All was read to its end: what was in the way is so no longer.
    pub(crate) fn ended_complete(&mut self) {
        if self.incomplete > 0 {
            (self.incomplete, self.paused) = (0, None);
        }
    }

    /// Lets go of what is not wanted any more.
    pub(crate) fn keep(&mut self, is_wanted: impl Fn(&Arc<Directory>, &str) -> bool) {
        self.followed.take_if(|followed| !is_wanted(&followed.directory, &followed.items_digest));
    }

    /// It is tried now, or never: a moment that has passed must not be waited for.
    pub(crate) fn forget_pause(&mut self) {
        self.paused = None;
    }

    /// When one that was lost may be followed again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.paused.filter(|_| self.followed.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_again_ever_later_and_at_once_when_it_can_be() {
        // FS-21, FS-42
        let (mut follow, now, interval) = (Follow::default(), Instant::now(), Duration::from_secs(100));
        for seconds in [15, 30, 60, 100, 100] {
            follow.ended_incomplete(interval, now);
            assert_eq!(follow.due(), Some(now + Duration::from_secs(seconds)));
            assert!(!follow.is_wanted(now + Duration::from_secs(seconds - 1)));
            // It is followed meanwhile, and that comes to nothing.
            follow.forget_pause();
        }
        follow.ended_incomplete(interval, now);
        follow.ended_complete();
        assert!(follow.is_wanted(now), "whatever run it was that was complete");
        follow.ended_incomplete(interval, now);
        assert_eq!(follow.due(), Some(now + Duration::from_secs(15)), "and it begins anew");
        follow.stop(now);
        follow.ended_complete();
        follow.stop(now);
        follow.ended_complete();
        assert_eq!(follow.due(), Some(now + PAUSE), "a connection that was lost has its pause");
    }
}
