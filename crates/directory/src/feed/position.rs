//! Where a feed was read to.

use super::{FeedError, FeedKind, Origin};
use crate::server::ServerName;
use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where changes go on from. Kept as JSON by whoever stores it; of no meaning to anybody else. At most 1 MiB.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The server it is of, as the settings name it: asked first the next time.
    pub(super) server: String,
    /// The base of the settings.
    base: String,
    #[serde(flatten)]
    pub(super) at: At,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "feed")]
pub(super) enum At {
    /// `domain`: the GUID of the naming context. `dc`: the server's dsServiceName. `at`: seconds since 1970 at the server. Here and
    /// below.
    #[serde(rename = "dirsync")]
    DirSync { cookie: Cookie, domain: String, dc: String, own_view: bool, at: i64 },
    #[serde(rename = "usn_changed")]
    UsnChanged { dc: String, invocation: String, usn: u64, at: i64 },
    #[serde(rename = "syncrepl")]
    Syncrepl { cookie: Cookie },
    /// `start`: the reqStart of the newest write.
    #[serde(rename = "accesslog")]
    AccessLog { start: String },
    #[serde(rename = "changelog")]
    Changelog { number: u64 },
    #[serde(rename = "modify_timestamp")]
    ModifyTimestamp { at: i64 },
}

impl Position {
    pub(super) fn new(server: &ServerName, base: &str, at: At) -> Self {
        Self { server: server.to_string(), base: base.to_owned(), at }
    }

    /// The server it is of. What it tells of is to be read from the same one (S-18, S-25).
    pub fn origin(&self) -> Origin {
        let dc = match &self.at {
            At::DirSync { dc, .. } | At::UsnChanged { dc, .. } => Some(dc.clone()),
            At::Syncrepl { .. } | At::AccessLog { .. } | At::Changelog { .. } | At::ModifyTimestamp { .. } => None,
        };
        Origin { url: self.server.clone(), dc }
    }

    pub fn kind(&self) -> FeedKind {
        match self.at {
            At::DirSync { .. } => FeedKind::DirSync,
            At::UsnChanged { .. } => FeedKind::UsnChanged,
            At::Syncrepl { .. } => FeedKind::Syncrepl,
            At::AccessLog { .. } => FeedKind::AccessLog,
            At::Changelog { .. } => FeedKind::Changelog,
            At::ModifyTimestamp { .. } => FeedKind::ModifyTimestamp,
        }
    }

    pub(super) fn is_of_base(&self, base: &str) -> bool {
        self.base == base
    }
}

/// Cookies are opaque, and there are servers that put names into them.
impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Position({} of {})", self.kind().code(), self.server)
    }
}

/// What a server wants to see again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Cookie(Bytes);

/// With everything around it, and as Base64, less than 1 MiB.
const COOKIE_OCTETS_MAX: usize = 700 << 10;

impl Cookie {
    /// A cookie of a server: not empty, which would mean to begin anew, and not without bound (B-70).
    pub fn of(server: &ServerName, octets: &Bytes) -> Result<Self, FeedError> {
        let what = match octets.len() {
            0 => "an empty cookie",
            1..=COOKIE_OCTETS_MAX => return Ok(Self(Bytes::copy_from_slice(octets))),
            _ => "a cookie of more than 700 KiB",
        };
        Err(FeedError::Malformed { server: server.clone(), what })
    }

    pub fn octets(&self) -> &Bytes {
        &self.0
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a cookie is up to 700 KiB as Base64")]
pub(super) struct BadCookie;

impl TryFrom<String> for Cookie {
    type Error = BadCookie;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let octets = BASE64.decode(text.as_bytes()).map_err(|_| BadCookie)?;
        if octets.is_empty() || octets.len() > COOKIE_OCTETS_MAX { Err(BadCookie) } else { Ok(Self(octets.into())) }
    }
}

impl From<Cookie> for String {
    fn from(cookie: Cookie) -> Self {
        BASE64.encode(&cookie.0)
    }
}
