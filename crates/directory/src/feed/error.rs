//! Why changes cannot be told.

use super::FeedKind;
use crate::query::QueryError;
use crate::read::Incomplete;
use crate::server::ServerName;
use ldap_wire::ResultCode;

/// Not all changes were told. What was told is true.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// May work the next time, from the same position.
    #[error("the changes could not be read")]
    Unread(#[from] Incomplete),
    /// Nobody can tell the changes since this position: everything is to be read, and a new position taken before that.
    #[error("everything has to be read again: {0}")]
    FullRead(#[from] FullRead),
    /// The query account had the right to the feed when it was chosen. An administrator must look; another feed may be used.
    #[error("{server} does not let the query account read its changes, code {code}")]
    NotAllowed { server: ServerName, code: ResultCode },
    /// The server speaks the feed's protocol wrongly. May pass with a full read; if it does not, another feed has to be used.
    #[error("{server} sent {what}")]
    Malformed { server: ServerName, what: &'static str },
    /// The server has no such feed, or not for this directory.
    #[error("the directory offers no changes by {}", kind.code())]
    NotOffered { kind: FeedKind },
}

/// Why everything has to be read again. Prints as one sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FullRead {
    #[error("the changes were read in another way before")]
    OtherFeed,
    #[error("the base of the directory was changed")]
    OtherBase,
    #[error("another server answers, and what was remembered is of the first")]
    OtherServer,
    #[error("the directory behind the server is not the one it was")]
    OtherDirectory,
    #[error("the server was set back to an older state")]
    SetBack,
    #[error("the server does not accept where we stopped (code {code})")]
    Refused { code: ResultCode },
    #[error("the server asks for it")]
    RefreshRequired,
    #[error("the server has thrown away changes we have not seen")]
    Purged,
    #[error("the last time was so long ago that the server has forgotten what was deleted since")]
    TooLongAgo,
}

impl From<QueryError> for FeedError {
    fn from(error: QueryError) -> Self {
        Self::Unread(error.into())
    }
}

/// What a refusal of a search means that was sent with (`remembers`) or without a position.
pub(super) fn refused(server: ServerName, code: ResultCode, remembers: bool) -> FeedError {
    match code {
        ResultCode::INSUFFICIENT_ACCESS_RIGHTS => FeedError::NotAllowed { server, code },
        ResultCode::BUSY | ResultCode::UNAVAILABLE => Incomplete::Refused { server, code }.into(),
        ResultCode::SIZE_LIMIT_EXCEEDED | ResultCode::TIME_LIMIT_EXCEEDED | ResultCode::ADMIN_LIMIT_EXCEEDED => {
            Incomplete::Limit { server, code }.into()
        }
        ResultCode::SUCCESS | ResultCode::REFERRAL => Incomplete::Referral { server }.into(),
        code if remembers => FullRead::Refused { code }.into(),
        code => Incomplete::Refused { server, code }.into(),
    }
}
