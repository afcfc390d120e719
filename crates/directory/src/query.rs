//! A connection bound with the query bind of the settings (FD-06), and what can go wrong with our own questions.

use crate::base;
use crate::bind;
use crate::connect::ConnectError;
use crate::connection::{Broken, Connection};
use crate::directory::{Core, Purpose};
use crate::observe::Outcome;
use crate::server::ServerName;
use crate::tickets::TicketError;
use domain::Reason;
use ldap_wire::{Filter, LdapResult, Op, ResultCode, Scope, SearchRequest, SearchResultEntry};
use std::net::SocketAddr;
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
    /// The account of the settings gets no ticket for the server, and nothing else may be tried.
    #[error("the account of the settings cannot log on to {server}")]
    NoTicket {
        server: ServerName,
        #[source]
        cause: Arc<TicketError>,
    },
    /// The server did not take our ticket: it is for another key, or the server cannot read any. No word about the password.
    #[error("{server} did not take our Kerberos ticket, code {code}")]
    TicketRefused { server: ServerName, code: ResultCode },
    /// The connection broke while the answer was awaited.
    #[error("{server} broke the connection off")]
    Lost {
        server: ServerName,
        #[source]
        cause: Arc<Broken>,
    },
    #[error("{server} did not answer in time")]
    Timeout { server: ServerName },
    /// FD-05: the settings leave the base to the server, and it has none or several. An administrator must write one.
    #[error("{server} {}; set base", several(found))]
    NoBase { server: ServerName, found: Vec<String> },
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
            Self::BindRefused { .. } | Self::NoTicket { .. } | Self::TicketRefused { .. } | Self::NoBase { .. } => {
                Reason::DirectoryError
            }
            Self::Overloaded => Reason::Overloaded,
        }
    }

    pub fn server(&self) -> Option<&ServerName> {
        match self {
            Self::Unreachable { cause } => Some(cause.server()),
            Self::BindRefused { server, .. }
            | Self::NoTicket { server, .. }
            | Self::TicketRefused { server, .. }
            | Self::Lost { server, .. }
            | Self::Timeout { server }
            | Self::NoBase { server, .. } => Some(server),
            Self::Overloaded => None,
        }
    }

    /// The account was refused, and will be for a while: not to be tried again soon, nor on every server, until it locks.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::BindRefused { code, .. } => !is_unavailable(*code),
            Self::NoTicket { cause, .. } => cause.is_final(),
            _ => false,
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Unreachable { cause } => cause.outcome(),
            Self::BindRefused { .. } | Self::NoTicket { .. } | Self::TicketRefused { .. } | Self::NoBase { .. } => {
                Outcome::Directory
            }
            Self::Lost { cause, .. } if cause.is_protocol() => Outcome::Protocol,
            Self::Lost { .. } => Outcome::Unreachable,
            Self::Timeout { .. } | Self::Overloaded => Outcome::Timeout,
        }
    }
}

fn several(found: &[String]) -> String {
    match found {
        [] => "names no naming context in its root DSE".to_owned(),
        [one] => format!("names the naming context {one:?}, which is no DN"),
        all => format!("has {} naming contexts: {}", all.len(), all.join(" and ")),
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
        Err(QueryError::NoTicket { cause, .. }) if cause.is_of_server() => {
            bind_in_time(core, connect(core).await?).await
        }
        result => result,
    }
}

/// The same, but on this server if it can be reached: what a feed remembers is often one server's own. `peer` = which of those that its
/// name leads to.
pub(crate) async fn open_preferring(
    core: &Core,
    url: &str,
    peer: Option<SocketAddr>,
) -> Result<Connection, QueryError> {
    let now = Instant::now();
    let mut candidates = core.servers.candidates(now).into_iter();
    let preferred = candidates.find(|server| server.to_string() == url).filter(|it| !core.servers.is_out(it, now));
    if let Some(server) = preferred
        && let Ok(connection) = core.connect_at(&server, peer, Purpose::Queries).await
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
    let failed = |error: &&QueryError| match error {
        QueryError::Lost { .. } | QueryError::Timeout { .. } => true,
        QueryError::NoTicket { cause, .. } => cause.is_of_server(),
        _ => false,
    };
    if let Some(error) = result.as_ref().err().filter(failed) {
        core.servers.failed(&server, error, Instant::now());
    }
    result
}

/// Binds on a connection to a given server; no time limit of its own. Where the server does not take our ticket, on another one
/// without.
pub(crate) async fn query_bind(core: &Core, connection: Connection) -> Result<Connection, QueryError> {
    match bind_once(core, connection).await {
        Err(QueryError::TicketRefused { server, code }) if core.ticket_refused(&server, code).await => {
            let again = core.connect_to(&server, Purpose::Queries).await;
            bind_once(core, again.map_err(|cause| QueryError::Unreachable { cause: Arc::new(cause) })?).await
        }
        result => result,
    }
}

async fn bind_once(core: &Core, mut connection: Connection) -> Result<Connection, QueryError> {
    let server = connection.server().clone();
    let no_ticket = |cause| QueryError::NoTicket { server: server.clone(), cause };
    let exchange = core.query_exchange(&server, &connection.channel()).await.map_err(no_ticket)?;
    let Some(mut exchange) = exchange else {
        base::learn(core, &mut connection).await?;
        return Ok(connection);
    };
    let lost = |cause| QueryError::Lost { server: server.clone(), cause: Arc::new(cause) };
    let bound = bind::bind(&mut connection, &mut exchange, &[]).await.map_err(lost)?;
    if !bound.result.is_success() {
        let code = bound.result.code;
        return Err(match exchange.is_kerberos() && !is_unavailable(code) {
            true => QueryError::TicketRefused { server, code },
            false => QueryError::BindRefused { server, code },
        });
    }
    if let Some(seal) = bound.seal {
        connection = connection.sealed(seal).map_err(lost)?;
    }
    base::learn(core, &mut connection).await?;
    Ok(connection)
}

/// One entry by its DN.
pub(crate) async fn entry(
    connection: &mut Connection,
    dn: String,
    attributes: &[&str],
) -> Result<(Option<SearchResultEntry>, LdapResult), QueryError> {
    let server = connection.server().clone();
    let lost = |cause| QueryError::Lost { server: server.clone(), cause: Arc::new(cause) };
    let id = connection.next_id();
    let search = SearchRequest::new(dn, Scope::Base, &Filter::present("objectClass"), attributes);
    connection.send(&search.encode(id, &[])).await.map_err(lost)?;
    let mut entry = None;
    loop {
        let message = connection.receive().await.map_err(lost)?;
        match message.op() {
            _ if message.id() != id => return Err(lost(Broken::UnexpectedMessage)),
            Op::SearchResultEntry => {
                entry = Some(SearchResultEntry::decode(&message).map_err(|error| lost(error.into()))?);
            }
            Op::SearchResultDone => {
                let result = LdapResult::decode(&message).map_err(|error| lost(error.into()))?;
                return Ok((entry, result));
            }
            _ => {}
        }
    }
}

/// The server is up but cannot serve now.
pub(crate) fn is_unavailable(code: ResultCode) -> bool {
    matches!(code, ResultCode::BUSY | ResultCode::UNAVAILABLE)
}
