//! The edge: who calls, what is well formed, and how a fault of the store becomes a gRPC status.

use crate::seal::{KeysStale, SealBroken};
use service_kit::grpc::Peer;
use std::error::Error;
use tokio::sync::mpsc::error::TrySendError;
use tonic::{Code, Request, Status};

/// The store could not do it. Whose fault it is decides the status; the inside goes to the log and never to the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// Altered or moved data, or a lost key: an operator must look.
    #[error("a record does not open")]
    Sealed(#[from] SealBroken),
    /// Nothing is sealed here until the data keys were read again; what needs no seal goes on.
    #[error("nothing can be sealed now")]
    KeysStale(#[from] KeysStale),
    /// Somebody outside the chain's lock changed a row. The call may be repeated.
    #[error("a row changed under a transaction")]
    Overtaken,
    /// The process stops, or a fault was told to whoever asked first.
    #[error("the store takes no more work")]
    Gone,
    /// The bound of a queue is reached. The store is there, so that no fail-open follows from it (V-41).
    #[error("the store has too much to do")]
    Overloaded,
    /// The database said nothing for too long.
    #[error("the database does not answer")]
    Silent,
    #[error("what the store holds cannot be read: {0}")]
    Broken(&'static str),
    /// Not the store's fault: the call is refused with this status, and nothing was changed.
    #[error("refused")]
    Refused(#[from] Status),
}

impl StoreError {
    /// The database cannot be reached, or is out of room: trying again at once helps nobody.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Gone | Self::Overloaded | Self::Silent => true,
            Self::Database(error) => unavailable(error),
            _ => false,
        }
    }

    /// What a queue did not take.
    pub fn not_taken<T>(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(_) => Self::Overloaded,
            TrySendError::Closed(_) => Self::Gone,
        }
    }

    /// The database undid the transaction because of another one: the same again may well succeed.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| matches!(&*code, "40001" | "40P01"))
            }
            _ => false,
        }
    }

    /// The same fault for the next one who waited for it.
    pub fn again(&self) -> Self {
        match self {
            Self::Database(error) if unavailable(error) || self.is_conflict() => Self::Gone,
            Self::Database(_) => Self::Broken("see the fault before"),
            Self::Sealed(error) => Self::Sealed(*error),
            Self::KeysStale(error) => Self::KeysStale(*error),
            Self::Overtaken => Self::Overtaken,
            Self::Gone => Self::Gone,
            Self::Overloaded => Self::Overloaded,
            Self::Silent => Self::Silent,
            Self::Broken(what) => Self::Broken(what),
            Self::Refused(status) => Self::Refused(status.clone()),
        }
    }
}

fn unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // PostgreSQL: connection, resources, operator intervention, read-only after a fail-over, locks.
            // SQLite: busy 5, locked 6, I/O 10, full 13, read-only 8, cannot open 14, and their extended codes.
            let sqlite = code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 8 | 10 | 13 | 14));
            let postgres = ["08", "25P03", "25006", "53", "55P03", "57", "58"];
            postgres.iter().any(|class| code.len() == 5 && code.starts_with(class)) || (code.len() < 5 && sqlite)
        }),
        _ => false,
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        if let StoreError::Refused(status) = error {
            return status;
        }
        let away = error.is_unavailable() || error.is_conflict() || matches!(error, StoreError::KeysStale(_));
        let (code, text) = match away {
            true if matches!(error, StoreError::Overloaded) => {
                (Code::ResourceExhausted, "the store has too much to do")
            }
            true => (Code::Unavailable, "the store is not available"),
            false if matches!(error, StoreError::Overtaken) => (Code::Aborted, "the record changed meanwhile"),
            false => (Code::Internal, "a fault in the store"),
        };
        tracing::error!(error = %chain(&error), "store call failed");
        Self::new(code, text)
    }
}

/// An error with its causes, for the log.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// The part that calls, where the edge knows it.
pub fn part<T>(request: &Request<T>) -> &str {
    request.extensions().get::<Peer>().map_or("", |peer| peer.part.as_str())
}

/// An id another part sent: not empty, short, printable.
pub fn id(field: &str, text: &str) -> Result<(), Status> {
    match (1..=64).contains(&text.len()) && text.bytes().all(|sign| sign.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!("{field}: an id has 1 to 64 printable signs"))),
    }
}

/// Text for a column: without the signs PostgreSQL and a terminal refuse, at most so many characters.
pub fn bounded(text: &str, characters_max: usize) -> String {
    let mut bounded = text.to_owned();
    bound(&mut bounded, characters_max);
    bounded
}

/// The same, where it stands.
pub fn bound(text: &mut String, characters_max: usize) {
    if text.len() > characters_max || !text.bytes().all(|octet| octet.is_ascii() && !octet.is_ascii_control()) {
        *text = text.chars().filter(|sign| !sign.is_control()).take(characters_max).collect();
    }
}
