//! The right to be let in. Made by policy alone: by a rule, or by a code that was right (V-02).

use domain::{Assurance, Method, Reason, Source};

/// How long the receiver may act on an Allow.
const LIFE_MS: i64 = 10_000;

/// An Allow before it is committed. It can only be had from a decision.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    reason: Reason,
    method: Option<Method>,
    assurance: Assurance,
    source: Source,
    expires_unix_ms: i64,
}

impl Grant {
    pub(crate) fn by_rule(reason: Reason, source: Source, now_unix_ms: i64) -> Self {
        let expires_unix_ms = now_unix_ms.saturating_add(LIFE_MS);
        Self { reason, method: None, assurance: Assurance::None, source, expires_unix_ms }
    }

    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// `None`: no second factor ran.
    pub fn method(&self) -> Option<Method> {
        self.method
    }

    pub fn assurance(&self) -> Assurance {
        self.assurance
    }

    pub fn source(&self) -> Source {
        self.source
    }

    pub fn expires_unix_ms(&self) -> i64 {
        self.expires_unix_ms
    }
}

/// The decision depends on a code, and on nothing else any more.
#[derive(Debug, PartialEq, Eq)]
pub struct CodeCheck(());

impl CodeCheck {
    pub(crate) fn new() -> Self {
        Self(())
    }

    /// The code was right, for a step nobody used before. Still to be committed.
    pub fn right(self, now_unix_ms: i64) -> Grant {
        Grant {
            reason: Reason::ValidCode,
            method: Some(Method::Code),
            assurance: Assurance::Code,
            source: Source::Live,
            expires_unix_ms: now_unix_ms.saturating_add(LIFE_MS),
        }
    }
}
