//! What a service can measure and show: one call per finished operation, and the state of the servers.

use crate::server::ServerName;
use domain::ObjectName;
use std::sync::Arc;
use std::time::Duration;

/// Called after every operation. Must be quick: it runs where logins wait.
pub type Observer = Arc<dyn Fn(&Observation<'_>) + Send + Sync>;

/// One finished operation.
#[derive(Debug)]
pub struct Observation<'a> {
    pub directory: &'a ObjectName,
    pub server: &'a ServerName,
    pub operation: Operation,
    pub outcome: Outcome,
    pub elapsed: Duration,
}

/// A label of metrics: closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// TCP and TLS.
    Connect,
    /// A person's password. Every one is a bind the directory has seen.
    Bind,
    /// A search of the query pool.
    Search,
    /// A page of a paged read.
    Page,
    /// A search of a change feed.
    Changes,
}

impl Operation {
    pub const ALL: [Self; 5] = [Self::Connect, Self::Bind, Self::Search, Self::Page, Self::Changes];

    pub fn code(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Bind => "bind",
            Self::Search => "search",
            Self::Page => "page",
            Self::Changes => "changes",
        }
    }
}

/// A label of metrics: closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Ok,
    /// The directory said no to a person. No fault of the server.
    Refused,
    Unreachable,
    /// A certificate that is not trusted or names somebody else.
    Tls,
    Timeout,
    /// A result code that is no answer.
    Directory,
    /// Not LDAP, or not as RFC 4511 has it.
    Protocol,
}

impl Outcome {
    pub const ALL: [Self; 7] =
        [Self::Ok, Self::Refused, Self::Unreachable, Self::Tls, Self::Timeout, Self::Directory, Self::Protocol];

    pub fn code(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Directory => "directory",
            Self::Protocol => "protocol",
        }
    }
}

/// For `/healthz/upstreams`. Taken from what happened.
#[derive(Debug, Clone)]
pub struct Health {
    pub directory: ObjectName,
    /// Query connections that are open and bound, of how many there should be.
    pub query_connections: usize,
    pub query_connections_wanted: usize,
    pub servers: Vec<ServerHealth>,
}

impl Health {
    /// Can a name be resolved right now?
    pub fn is_up(&self) -> bool {
        self.query_connections > 0
    }

    /// The last error of any server, first server first.
    pub fn last_error(&self) -> Option<&str> {
        self.servers.iter().find_map(|server| server.last_error.as_deref())
    }
}

#[derive(Debug, Clone)]
pub struct ServerHealth {
    pub server: ServerName,
    pub state: ServerState,
    /// Kept after the server is well again, so that one can read what was.
    pub last_error: Option<String>,
    /// How long it last took to read its root, where somebody looks after it (L-37).
    pub round_trip: Option<std::time::Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// Not needed so far.
    Unknown,
    Up,
    /// Failed in the last seconds: asked after the others.
    Failing,
    /// Three failures in ten seconds: asked last for thirty (FD-04). Or found unwell: asked last until it is found well (L-37).
    SetAside,
}
