//! Connections that are opened before they are asked for, so that a bind in a storm does not wait for TCP and TLS.
//!
//! ```text
//! take: many a second? ──> Keeper: connect, at most AHEAD_MAX ──> ready ──> the next take, once, if it is still good
//!                                                                   └─ older than AGE_MAX: closed
//! ```
//!
//! Fresh ones only: nothing was sent on them but StartTLS, nobody was ever bound, and whoever takes one keeps it (L-30, L-32). There
//! are none while few are asked for.

use crate::connection::Connection;
use crate::directory::{Core, Purpose};
use crate::server::ServerName;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// That many are ready at most.
const AHEAD_MAX: usize = 16;
/// Fewer asked for in a second: none are opened ahead.
const ASKED_MIN: usize = 8;
const SECOND: Duration = Duration::from_secs(1);
/// Well before a directory or a firewall ends a connection that says nothing: Active Directory after 120 s (InitRecvTimeout).
const AGE_MAX: Duration = Duration::from_secs(20);

pub(crate) struct Ahead {
    shared: Arc<Shared>,
    /// Dropped with the directory.
    _keeper: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    asked: Notify,
}

#[derive(Default)]
struct State {
    demand: Demand,
    /// Oldest first.
    ready: VecDeque<Ready>,
}

struct Ready {
    connection: Connection,
    opened: Instant,
}

/// How many are asked for in a second.
#[derive(Default)]
struct Demand {
    second: Option<Instant>,
    now: usize,
    before: usize,
}

impl Demand {
    fn note(&mut self, now: Instant) {
        self.turn(now);
        self.now += 1;
    }

    fn turn(&mut self, now: Instant) {
        let since = self.second.map_or(2 * SECOND, |began| now.duration_since(began));
        if since >= SECOND {
            self.before = if since < 2 * SECOND { self.now } else { 0 };
            (self.second, self.now) = (Some(now), 0);
        }
    }

    /// How many are to be ready.
    fn wanted(&mut self, now: Instant) -> usize {
        self.turn(now);
        let asked = self.now.max(self.before);
        if asked < ASKED_MIN { 0 } else { asked.min(AHEAD_MAX) }
    }
}

impl Ahead {
    pub fn start(core: &Arc<Core>) -> Self {
        let shared = Arc::new(Shared::default());
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(Arc::clone(core), Arc::clone(&shared)));
        Self { shared, _keeper: keeper }
    }

    /// One to the server that is best now, if there is one that is good.
    pub fn take(&self, best: Option<&ServerName>) -> Option<Connection> {
        let now = Instant::now();
        let taken = {
            let mut state = self.shared.state();
            state.demand.note(now);
            loop {
                let Some(mut ready) = state.ready.pop_front() else { break None };
                let good = ready.is_young(now) && Some(ready.connection.server()) == best;
                if good && !ready.connection.has_ended() {
                    break Some(ready.connection);
                }
            }
        };
        self.shared.asked.notify_one();
        taken
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what is too old. Whether another one is to be opened, and whether anything is there.
    fn look(&self) -> (bool, bool) {
        let now = Instant::now();
        let mut state = self.state();
        state.ready.retain(|ready| ready.is_young(now));
        let wanted = state.demand.wanted(now);
        (state.ready.len() < wanted, !state.ready.is_empty())
    }
}

impl Ready {
    fn is_young(&self, now: Instant) -> bool {
        now.duration_since(self.opened) < AGE_MAX
    }
}

async fn keep(core: Arc<Core>, shared: Arc<Shared>) {
    loop {
        let any = loop {
            let (wanted, any) = shared.look();
            if !wanted {
                break any;
            }
            match core.connect(Purpose::Authentications).await {
                Ok(connection) => shared.state().ready.push_back(Ready { connection, opened: Instant::now() }),
                // Whoever asks connects for themselves, and hears why it fails.
                Err(_) => tokio::time::sleep(SECOND).await,
            }
        };
        let asked = shared.asked.notified();
        if any {
            // Cancel safety: both only wait.
            tokio::select! { () = asked => {}, () = tokio::time::sleep(SECOND) => {} }
        } else {
            asked.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_are_wanted_until_many_are_asked_for_and_none_when_that_is_over() {
        let mut demand = Demand::default();
        let start = Instant::now();
        for count in 1..=40 {
            demand.note(start);
            let wanted = if count < ASKED_MIN { 0 } else { count.min(AHEAD_MAX) };
            assert_eq!(demand.wanted(start), wanted, "{count}");
        }
        let later = |tenths: u32| start + SECOND * tenths / 10;
        assert_eq!(demand.wanted(later(15)), AHEAD_MAX, "the second before counts too");
        assert_eq!(demand.wanted(later(26)), 0);
        demand.note(later(60));
        assert_eq!(demand.wanted(later(60)), 0);
    }
}
