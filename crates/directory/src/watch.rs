//! Looks after the servers of a directory that has several (L-37): one that hangs comes last before a person waits for it, and one that
//! is well again has its place again. Each is asked what a login asks it: to connect, to accept our account, to read its root.

use crate::connect::establish;
use crate::directory::{Core, Purpose};
use crate::probe::{self, ProbeError};
use crate::query::{self, QueryError};
use crate::server::ServerName;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A server that refused our account is not asked again for so long: the tries could lock the account.
const PAUSE_REFUSED: Duration = Duration::from_secs(5 * 60);

/// One task a server; they end when this is dropped.
pub(crate) struct Watch {
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Looks after nobody.
    pub fn none() -> Self {
        Self { _tasks: JoinSet::new() }
    }

    /// A directory of one server has no other to turn to, and is not asked.
    pub fn start(core: &Arc<Core>) -> Self {
        if core.servers_may_change() {
            let mut tasks = JoinSet::new();
            tasks.spawn(look_after_those_found(Arc::clone(core)));
            return Self { _tasks: tasks };
        }
        Self { _tasks: look_after_all(core, &core.servers.names()) }
    }
}

fn look_after_all(core: &Arc<Core>, servers: &[ServerName]) -> JoinSet<()> {
    let count = servers.len() as u32;
    let mut tasks = JoinSet::new();
    for (place, server) in servers.iter().enumerate().filter(|_| count > 1) {
        // Not all at the same moment.
        let first = core.look_every() + core.look_every() * place as u32 / count;
        tasks.spawn(look_after(Arc::clone(core), server.clone(), first));
    }
    tasks
}

/// Of a domain: whoever the DNS names.
async fn look_after_those_found(core: Arc<Core>) {
    let mut servers = Vec::new();
    let mut _tasks = JoinSet::new();
    loop {
        core.discover().await;
        let mut found = core.servers.names();
        found.sort_by_key(ToString::to_string); // their order is drawn anew each time
        if found != servers {
            _tasks = look_after_all(&core, &found);
            servers = found;
        }
        tokio::time::sleep(core.look_every()).await;
    }
}

async fn look_after(core: Arc<Core>, server: ServerName, first: Duration) {
    let mut pause = first;
    let mut was_well = true;
    loop {
        tokio::time::sleep(pause).await;
        pause = core.look_every();
        match look(&core, &server).await {
            Ok(round_trip) => {
                core.is_well(&server, round_trip);
                if !was_well {
                    tracing::info!(directory = %core.settings.name, %server, "a server of the directory serves again");
                }
                was_well = true;
            }
            Err(error) => {
                core.is_unwell(&server, &error);
                if was_well {
                    tracing::warn!(directory = %core.settings.name, %server, %error, "a server of the directory does not serve");
                }
                was_well = false;
                if matches!(&error, ProbeError::Query(error) if error.is_refusal()) {
                    pause = PAUSE_REFUSED;
                }
            }
        }
    }
}

/// How long the root took to read.
async fn look(core: &Core, server: &ServerName) -> Result<Duration, ProbeError> {
    let limit = core.connect_timeout();
    let connected =
        establish(server, None, &core.protection(server, Purpose::Queries), limit).await.map_err(ProbeError::Connect);
    let asked = async {
        let mut connection = query::query_bind(core, connected?).await.map_err(ProbeError::Query)?;
        let asked = Instant::now();
        probe::root(&mut connection).await?;
        Ok::<_, ProbeError>(asked.elapsed())
    };
    // Who takes longer for this than for a handshake hangs.
    let silent = |_| Err(ProbeError::Query(QueryError::Timeout { server: server.clone() }));
    tokio::time::timeout(limit, asked).await.unwrap_or_else(silent)
}
