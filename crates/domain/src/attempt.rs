//! How an attempt came in, and what decided it.

use crate::method::codes;
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

codes! {
    /// What decided an attempt (V-61).
    Source {
        /// A person's own second factor, now.
        Live = "live",
        /// A recent success from the same place still counts (V-50).
        Remembered = "remembered",
        /// The address is on the application's trusted list (V-54).
        TrustedNetwork = "trusted_network",
        /// A one-time bypass or a temporary code of the help desk (V-53).
        Bypass = "bypass",
        /// A listed service account or an exempt user.
        Exempt = "exempt",
        /// Proven to be unknown, and the client lets such users pass.
        UnknownUser = "unknown_user",
        /// Known without a method, and the client lets such users pass.
        NotEnrolled = "not_enrolled",
        /// Verification was down, and the client is set to let people in (V-40).
        FailOpen = "fail_open",
    }
}
