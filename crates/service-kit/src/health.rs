//! What this process knows about itself: whether it can do its own part, and how those it depends on fare. Readiness never depends
//! on an upstream: one dead neighbour must not drain the fleet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// The registry behind `/startupz`, `/readyz` and `/healthz/upstreams`. Clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Health {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    conditions: BTreeMap<String, State>,
    upstreams: BTreeMap<(&'static str, String), UpstreamState>,
    leaving: bool,
}

#[derive(Debug)]
struct State {
    ready: bool,
    was_ready: bool,
    only_at_start: bool,
    detail: String,
}

/// How one upstream fares, as `/healthz/upstreams` shows it.
#[derive(Clone, Debug)]
pub struct UpstreamState {
    pub up: bool,
    pub latency: Option<Duration>,
    pub last_error: Option<String>,
    pub since: Instant,
}

impl Health {
    /// Something this process must have to do its own part (a listener bound, a key loaded). Not ready until it is set.
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        self.register(name.into(), false)
    }

    /// Something the start must have seen once (the first contact with a store). It never makes a started process unready.
    pub fn start_condition(&self, name: impl Into<String>) -> Condition {
        self.register(name.into(), true)
    }

    /// Something this process depends on but does not answer for. `kind` is from a closed set: it becomes a metric label.
    pub fn upstream(&self, kind: &'static str, name: impl Into<String>) -> Upstream {
        let name = name.into();
        let fresh = UpstreamState { up: false, latency: None, last_error: None, since: Instant::now() };
        self.lock().upstreams.entry((kind, name.clone())).or_insert(fresh);
        Upstream { health: self.clone(), kind, name }
    }

    /// Where nobody has named a condition yet, the process has only begun to start.
    pub fn is_ready(&self) -> bool {
        let inner = self.lock();
        !inner.leaving
            && !inner.conditions.is_empty()
            && inner.conditions.values().all(|state| state.ready || state.only_at_start)
    }

    /// Whether every condition has been met at least once. Stays true afterwards.
    pub fn is_started(&self) -> bool {
        let inner = self.lock();
        !inner.conditions.is_empty() && inner.conditions.values().all(|state| state.was_ready)
    }

    /// From now on not ready, whatever the conditions say.
    pub fn leave(&self) {
        self.lock().leaving = true;
    }

    /// The conditions with their details, one line each, as `?verbose` shows them.
    pub fn report(&self) -> String {
        let inner = self.lock();
        let mut lines = String::new();
        for (name, state) in &inner.conditions {
            let met = if state.only_at_start { state.was_ready } else { state.ready };
            lines += &format!("[{}] {name}", if met { '+' } else { '-' });
            if !state.detail.is_empty() {
                lines += &format!(": {}", state.detail);
            }
            lines.push('\n');
        }
        if inner.leaving {
            lines += "[-] shutting down\n";
        }
        lines
    }

    pub fn upstreams(&self) -> Vec<(&'static str, String, UpstreamState)> {
        self.lock().upstreams.iter().map(|((kind, name), state)| (*kind, name.clone(), state.clone())).collect()
    }

    fn register(&self, name: String, only_at_start: bool) -> Condition {
        let fresh = State { ready: false, was_ready: false, only_at_start, detail: "not yet".to_owned() };
        self.lock().conditions.entry(name.clone()).or_insert(fresh);
        Condition { health: self.clone(), name }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while holding the registry")
    }
}

/// The right to say whether one condition is met.
#[derive(Clone, Debug)]
pub struct Condition {
    health: Health,
    name: String,
}

impl Condition {
    pub fn set_ready(&self, ready: bool) {
        self.set(ready, "");
    }

    pub fn set(&self, ready: bool, detail: impl Into<String>) {
        let mut inner = self.health.lock();
        if let Some(state) = inner.conditions.get_mut(&self.name) {
            state.ready = ready;
            state.was_ready |= ready;
            state.detail = detail.into();
        }
    }
}

/// The right to say how one upstream fares.
#[derive(Clone, Debug)]
pub struct Upstream {
    health: Health,
    kind: &'static str,
    name: String,
}

impl Upstream {
    pub fn up(&self, latency: Duration) {
        self.set(|state| {
            state.latency = Some(latency);
            true
        });
    }

    pub fn down(&self, error: impl Into<String>) {
        self.set(|state| {
            state.last_error = Some(error.into());
            false
        });
    }

    /// No longer configured: it disappears from page and metric.
    pub fn forget(self) {
        self.health.lock().upstreams.remove(&(self.kind, self.name));
    }

    fn set(&self, change: impl FnOnce(&mut UpstreamState) -> bool) {
        let mut inner = self.health.lock();
        let Some(state) = inner.upstreams.get_mut(&(self.kind, self.name.clone())) else { return };
        let up = change(state);
        if up != state.up {
            state.since = Instant::now();
        }
        state.up = up;
    }
}
