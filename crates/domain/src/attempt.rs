//! How an attempt came in, and what decided it.

use serde::{Deserialize, Serialize};

/// The way an attempt reached us. A label of metrics: closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Ldap,
    Radius,
    Portal,
    Api,
}

impl Protocol {
    pub const ALL: [Self; 4] = [Self::Ldap, Self::Radius, Self::Portal, Self::Api];

    pub fn code(self) -> &'static str {
        match self {
            Self::Ldap => "ldap",
            Self::Radius => "radius",
            Self::Portal => "portal",
            Self::Api => "api",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.code() == code)
    }
}

/// What decided an attempt (V-61).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A person's own second factor, now.
    Live,
    /// A listed service account or an exempt user.
    Exempt,
    /// Proven to be unknown, and the client lets such users pass.
    UnknownUser,
    /// Known without a method, and the client lets such users pass.
    NotEnrolled,
}

impl Source {
    pub const ALL: [Self; 4] = [Self::Live, Self::Exempt, Self::UnknownUser, Self::NotEnrolled];

    pub fn code(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Exempt => "exempt",
            Self::UnknownUser => "unknown_user",
            Self::NotEnrolled => "not_enrolled",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.code() == code)
    }
}
