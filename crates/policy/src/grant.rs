//! The right to be let in. Made by policy alone: by a rule, or by a proof that a decision waits for (V-02).
//!
//! ```text
//! decide ─ Allow(Grant)                       a rule
//!        └ Check tokens ─ right(..) ─ Grant   a code, an approval, ... was right; still to be committed
//! ```

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
        Self::new(reason, None, Assurance::None, source, now_unix_ms)
    }

    fn new(reason: Reason, method: Option<Method>, assurance: Assurance, source: Source, now_unix_ms: i64) -> Self {
        Self { reason, method, assurance, source, expires_unix_ms: now_unix_ms.saturating_add(LIFE_MS) }
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

    /// A person's own second factor, now: what alone may be remembered (V-50).
    pub fn is_live(&self) -> bool {
        self.source == Source::Live
    }
}

/// Declares a token: the decision depends on this proof, and on nothing else any more.
macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident => $reason:ident, $method:expr, $assurance:ident, $source:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(());

        impl $name {
            pub(crate) fn new() -> Self {
                Self(())
            }

            /// The proof was right. Still to be committed.
            pub fn right(self, now_unix_ms: i64) -> Grant {
                Grant::new(Reason::$reason, $method, Assurance::$assurance, Source::$source, now_unix_ms)
            }
        }
    )*};
}

checks! {
    /// A code of a token, for a step nobody used before.
    CodeCheck => ValidCode, Some(Method::Code), Code, Live;
    /// A recovery code that is left.
    RecoveryCheck => ValidRecoveryCode, Some(Method::Recovery), Code, Live;
    /// A temporary code of the help desk. It stands for the factor and proves none (V-53).
    TemporaryCheck => TemporaryCode, None, None, Bypass;
    /// The code that was sent in this attempt.
    SentCodeCheck => ValidCode, Some(Method::Sms), Phone, Live;
    /// An assertion of a passkey, with user verification.
    PasskeyCheck => ValidPasskey, Some(Method::Passkey), Passkey, Live;
    /// Answers to the security questions.
    AnswersCheck => ValidAnswers, Some(Method::Questions), None, Live;
    /// A login that is remembered and still counts.
    RememberedCheck => Remembered, None, None, Remembered;
    /// An open one-time bypass.
    BypassCheck => OneTimeBypass, None, None, Bypass;
}

/// The person's answer on the phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptCheck {
    method: Method,
    least: Assurance,
}

impl PromptCheck {
    pub(crate) fn new(method: Method, least: Assurance) -> Self {
        Self { method, least }
    }

    /// Approved, with what the answer proved. An answer that proves less than the client demands lets nobody in (V-03).
    pub fn approved(self, assurance: Assurance, now_unix_ms: i64) -> Result<Grant, Reason> {
        if assurance < self.least {
            return Err(Reason::NoUsableMethod);
        }
        let reason = if self.method == Method::Call { Reason::CallConfirmed } else { Reason::UserApproved };
        Ok(Grant::new(reason, Some(self.method), assurance, Source::Live, now_unix_ms))
    }
}
