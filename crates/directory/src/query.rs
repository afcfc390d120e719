//! A connection bound with the query bind of the settings (FD-06), and what can go wrong with our own questions.

use crate::bind;
use crate::connect::ConnectError;
use crate::connection::{Broken, Connection};
use crate::directory::{Core, Purpose};
use crate::observe::Outcome;
use crate::server::ServerName;
use domain::Reason;
use ldap_wire::ResultCode;
use std::sync::Arc;
use std::time::Instant;

/// The directory gave no answer to a question of ours. Never evidence of anything about a user.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// No server could be reached; the cause is the last one's. It may work again at any moment.
    #[error("no server of the directory could be reached")]
    Unreachable {
        #[source]
        cause: Arc<ConnectError>,
    },
    /// The account of the settings is not accepted. An administrator must mend it.
    #[error("{server} refused the query bind with code {code}")]
    BindRefused { server: ServerName, code: ResultCode },
    /// The connection broke while the answer was awaited.
    #[error("{server} broke the connection off")]
    Lost {
        server: ServerName,
        #[source]
        cause: Arc<Broken>,
    },
    #[error("{server} did not answer in time")]
    Timeout { server: ServerName },
    /// As many questions as we allow wait already.
    #[error("too many questions wait for the directory")]
    Overloaded,
}

impl QueryError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { cause } => match cause.outcome() {
                Outcome::Unreachable | Outcome::Timeout => Reason::DirectoryTimeout,
                _ => Reason::DirectoryError,
            },
            Self::Lost { cause, .. } if cause.is_protocol() => Reason::DirectoryError,
            Self::Lost { .. } | Self::Timeout { .. } => Reason::DirectoryTimeout,
            Self::BindRefused { .. } => Reason::DirectoryError,
            Self::Overloaded => Reason::Overloaded,
        }
    }

    pub fn server(&self) -> Option<&ServerName> {
        match self {
            Self::Unreachable { cause } => Some(cause.server()),
            Self::BindRefused { server, .. } | Self::Lost { server, .. } | Self::Timeout { server } => Some(server),
            Self::Overloaded => None,
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Unreachable { cause } => cause.outcome(),
            Self::BindRefused { .. } => Outcome::Directory,
            Self::Lost { cause, .. } if cause.is_protocol() => Outcome::Protocol,
            Self::Lost { .. } => Outcome::Unreachable,
            Self::Timeout { .. } | Self::Overloaded => Outcome::Timeout,
        }
    }
}

/// Connects to the best server there is and binds. Busy or unavailable (51, 52): the next server once; any other no is final, so
/// that a wrong password in the settings is not tried on every server until the account locks.
pub(crate) async fn open(core: &Core) -> Result<Connection, QueryError> {
    let connection = connect(core).await?;
    match bind_in_time(core, connection).await {
        Err(QueryError::BindRefused { server, code }) if is_unavailable(code) => {
            core.servers.failed(&server, &format_args!("result code {code}"), Instant::now());
            bind_in_time(core, connect(core).await?).await
        }
        result => result,
    }
}

/// The same, but on this server if it can be reached: what a feed remembers is often one server's own.
pub(crate) async fn open_preferring(core: &Core, url: &str) -> Result<Connection, QueryError> {
    let now = Instant::now();
    let mut candidates = core.servers.candidates(now).into_iter();
    let preferred = candidates.find(|server| server.to_string() == url).filter(|it| !core.servers.is_out(it, now));
    if let Some(server) = preferred
        && let Ok(connection) = core.connect_to(&server, Purpose::Queries).await
    {
        match bind_in_time(core, connection).await {
            Err(QueryError::BindRefused { code, .. }) if is_unavailable(code) => {}
            Err(QueryError::Lost { .. } | QueryError::Timeout { .. }) => {}
            result => return result,
        }
    }
    open(core).await
}

async fn connect(core: &Core) -> Result<Connection, QueryError> {
    core.connect(Purpose::Queries).await.map_err(|cause| QueryError::Unreachable { cause: Arc::new(cause) })
}

async fn bind_in_time(core: &Core, connection: Connection) -> Result<Connection, QueryError> {
    let server = connection.server().clone();
    let result = tokio::time::timeout(core.operation_timeout(), query_bind(core, connection)).await;
    let result = result.unwrap_or_else(|_| Err(QueryError::Timeout { server: server.clone() }));
    if let Err(error @ (QueryError::Lost { .. } | QueryError::Timeout { .. })) = &result {
        core.servers.failed(&server, error, Instant::now());
    }
    result
}

/// Binds on a connection to a given server; no time limit of its own.
pub(crate) async fn query_bind(core: &Core, mut connection: Connection) -> Result<Connection, QueryError> {
    let server = connection.server().clone();
    let Some(mut exchange) = core.query_exchange(&server, &connection.channel()) else { return Ok(connection) };
    let lost = |cause| QueryError::Lost { server: server.clone(), cause: Arc::new(cause) };
    let bound = bind::bind(&mut connection, &mut exchange, &[]).await.map_err(lost)?;
    if !bound.result.is_success() {
        return Err(QueryError::BindRefused { server, code: bound.result.code });
    }
    match bound.session {
        Some(session) => connection.sealed(session).map_err(lost),
        None => Ok(connection),
    }
}

/// The server is up but cannot serve now.
pub(crate) fn is_unavailable(code: ResultCode) -> bool {
    matches!(code, ResultCode::BUSY | ResultCode::UNAVAILABLE)
}
