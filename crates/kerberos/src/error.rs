//! Why there is no ticket.

use crate::crypto::WrongKey;
use crate::message::Timestamp;
use ldap_wire::ber::BerError;

/// A KDC gave no ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KdcError {
    /// The account's, and it was counted: not to be tried again, nor in another way.
    #[error("the password or the key is wrong")]
    WrongPassword,
    #[error("the account is disabled, locked or expired, or may not sign in now")]
    Revoked,
    #[error("the password has expired or must be changed")]
    PasswordExpired,
    #[error("the domain does not know the account")]
    UnknownAccount,
    #[error("the domain knows no such service")]
    UnknownService,
    #[error("the account is of another domain")]
    OtherDomain,
    #[error("the account has no key for AES")]
    NoAes,
    /// More than five minutes between them, in most domains.
    #[error("the clocks differ: here it is {ours}, there {theirs}")]
    ClockSkew { ours: Timestamp, theirs: Timestamp },
    /// Another code of RFC 4120 section 7.5.9.
    #[error("the KDC refused with error {code}")]
    Refused { code: i32 },
    #[error("the KDC's reply cannot be used")]
    Reply(#[from] ReplyError),
}

impl KdcError {
    /// It says something about the account, so that trying it in another way could lock it.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::WrongPassword | Self::Revoked | Self::PasswordExpired)
    }

    /// What the error of a KDC means. `now` is ours.
    pub(crate) fn of(code: i32, theirs: Timestamp, now: Timestamp) -> Self {
        // RFC 4120 section 7.5.9
        match code {
            6 => Self::UnknownAccount,
            7 => Self::UnknownService,
            14 => Self::NoAes,
            18 => Self::Revoked,
            23 => Self::PasswordExpired,
            24 => Self::WrongPassword,
            37 => Self::ClockSkew { ours: now, theirs },
            68 => Self::OtherDomain,
            code => Self::Refused { code },
        }
    }
}

impl From<BerError> for KdcError {
    fn from(error: BerError) -> Self {
        Self::Reply(error.into())
    }
}

impl From<WrongKey> for KdcError {
    fn from(error: WrongKey) -> Self {
        Self::Reply(error.into())
    }
}

/// What came is not what a KDC or a service of the domain sends: the peer's fault, or somebody's in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    #[error("it is no ASN.1")]
    Ber(#[from] BerError),
    #[error("it is no reply of Kerberos")]
    NotKerberos,
    #[error("a time in it is none")]
    BadTime,
    #[error("a name in it is none")]
    BadName,
    #[error("it is encrypted in a way that was not asked for")]
    Encryption,
    #[error("it wants a password hashed fewer than 4096 or more than 100000 times")]
    Iterations,
    #[error("it is a reply to something else")]
    OtherQuestion,
    #[error(transparent)]
    WrongKey(#[from] WrongKey),
}
