//! The query pool: a few bound connections that are opened ahead, kept, and opened again when they break.
//!
//! Only our own questions run here, never an operation of a client (L-30).

use crate::directory::Core;
use crate::query::{self, QueryError};
use crate::session::{self, Answer, Ended, Session};
use ldap_wire::{Control, SearchRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Between two attempts to connect: the least, the most, and after the directory refused our account.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);
const PAUSE_REFUSED: Duration = Duration::from_secs(30);

pub(crate) struct Pool {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    /// Each keeper owns one connection; dropped with the pool.
    _keepers: JoinSet<()>,
}

#[derive(Default)]
struct State {
    sessions: Vec<Option<Session>>,
    /// Attempts that failed, and why the last one did.
    failures: u64,
    last_error: Option<QueryError>,
}

impl Pool {
    pub fn start(core: &Arc<Core>, connections: usize) -> Self {
        let (publish, state) = watch::channel(State { sessions: vec![None; connections], ..State::default() });
        let publish = Arc::new(publish);
        let wanted = Arc::new(Notify::new());
        let mut keepers = JoinSet::new();
        for place in 0..connections {
            let keeper =
                Keeper { core: Arc::clone(core), publish: Arc::clone(&publish), wanted: Arc::clone(&wanted), place };
            keepers.spawn(keeper.keep());
        }
        Self { state, wanted, _keepers: keepers }
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.state.borrow().sessions.iter().flatten().filter(|session| session.is_alive()).count()
    }

    pub async fn search(
        &self,
        search: SearchRequest,
        controls: Vec<Control>,
        deadline: Instant,
    ) -> Result<Answer, QueryError> {
        self.session(deadline).await?.search(search, controls, deadline).await
    }

    /// The least busy connection. Without any, waits for the next attempt to open one and shares its fate.
    async fn session(&self, deadline: Instant) -> Result<Session, QueryError> {
        let mut state = self.state.clone();
        let seen = state.borrow().failures;
        loop {
            {
                let state = state.borrow_and_update();
                let alive = state.sessions.iter().flatten().filter(|session| session.is_alive());
                if let Some(session) = alive.max_by_key(|session| session.free_slots()) {
                    return Ok(session.clone());
                }
                // A refused account stays refused for a while: nothing to wait for.
                let hopeless = |error: &&QueryError| state.failures > seen || is_refused(error);
                if let Some(error) = state.last_error.as_ref().filter(hopeless) {
                    return Err(error.clone());
                }
            }
            self.wanted.notify_one();
            match tokio::time::timeout_at(deadline, state.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(state.borrow().last_error.clone().unwrap_or(QueryError::Overloaded)),
            }
        }
    }
}

struct Keeper {
    core: Arc<Core>,
    publish: Arc<watch::Sender<State>>,
    /// Somebody waits: no reason to rest any longer.
    wanted: Arc<Notify>,
    place: usize,
}

impl Keeper {
    async fn keep(self) {
        let mut pause = PAUSE_MIN;
        loop {
            match query::open(&self.core).await {
                Ok(connection) => {
                    let opened = Instant::now();
                    let (session, questions) = Session::new(connection.server().clone());
                    let server = connection.server().clone();
                    self.set(Some(session));
                    let driven = session::drive(connection, questions, self.core.operation_timeout());
                    // Cancel safety: who waits for an answer hears that the connection is lost, and asks elsewhere.
                    let ended = tokio::select! {
                        ended = driven => Some(ended),
                        () = self.core.until_unwell(&server) => None,
                    };
                    self.set(None);
                    if ended.is_some_and(|ended| !self.note(&server, &ended)) {
                        return;
                    }
                    if opened.elapsed() > PAUSE_MAX {
                        pause = PAUSE_MIN;
                    } else {
                        // A server that accepts us and at once ends it again is no reason to knock without a rest.
                        self.rest(pause, false).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
                Err(error) => {
                    let refused = is_refused(&error);
                    if pause == PAUSE_MIN {
                        // Once an outage, not once a try.
                        tracing::warn!(directory = %self.core.settings.name, error = %chain(&error), "query connection failed");
                    }
                    self.publish.send_modify(|state| {
                        state.failures += 1;
                        state.last_error = Some(error);
                    });
                    self.rest(if refused { PAUSE_REFUSED } else { pause }, refused).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    fn set(&self, session: Option<Session>) {
        self.publish.send_modify(|state| {
            if session.is_some() {
                state.last_error = None;
            }
            if let Some(place) = state.sessions.get_mut(self.place) {
                *place = session;
            }
        });
    }

    /// False when nobody needs the connection any more.
    fn note(&self, server: &crate::ServerName, ended: &Ended) -> bool {
        let now = std::time::Instant::now();
        match ended {
            Ended::Unused => return false,
            Ended::Broken(cause) => self.core.servers.failed(server, cause, now),
            Ended::Silent => self.core.servers.failed(server, &"did not answer in time", now),
        }
        true
    }

    /// A refused account is not tried sooner because somebody waits: the tries would lock it.
    async fn rest(&self, pause: Duration, refused: bool) {
        if refused {
            return tokio::time::sleep(pause).await;
        }
        tokio::time::sleep(PAUSE_MIN).await;
        tokio::select! {
            () = self.wanted.notified() => {}
            () = tokio::time::sleep(pause - PAUSE_MIN.min(pause)) => {}
        }
    }
}

/// Nothing to try again soon, with or without a reason that may pass.
fn is_refused(error: &QueryError) -> bool {
    matches!(error, QueryError::BindRefused { .. }) || error.is_refusal()
}

/// An error with its causes, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
