//! Why an attempt ended as it did: one closed list for logs, metrics, console, API and audit.
//!
//! Adding a reason changes the reference page of the documentation too. A code that another version of a part sent and
//! this one does not know reads as [`Reason::InternalError`], never as success (V-75).

use serde::{Deserialize, Serialize};

/// What became of an attempt, coarsely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultClass {
    /// Both locks opened.
    Success,
    /// Let in without a fresh second factor, by a rule.
    Bypass,
    /// Asked; the next round is expected.
    Challenge,
    /// What was given was wrong, or nothing came.
    Failed,
    /// A person or a rule said no.
    Denied,
    /// The person said: this was not me.
    Fraud,
    /// No decision: the answer is no.
    Error,
}

impl ResultClass {
    pub const ALL: [Self; 7] =
        [Self::Success, Self::Bypass, Self::Challenge, Self::Failed, Self::Denied, Self::Fraud, Self::Error];

    pub fn code(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Bypass => "bypass",
            Self::Challenge => "challenge",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::Fraud => "fraud",
            Self::Error => "error",
        }
    }
}

/// Declares the list once: variant, code, class, whether the person may see it after the password was right, sentence.
macro_rules! reasons {
    ($($variant:ident, $code:literal, $class:ident, $person:literal, $sentence:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(into = "&'static str", from = "String")]
        pub enum Reason { $(#[doc = $sentence] $variant,)* }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable code: never translated, never renamed.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            pub fn class(self) -> ResultClass {
                match self { $(Self::$variant => ResultClass::$class,)* }
            }

            /// May the person see it, in portal or app, after the password was right?
            pub fn person_may_see(self) -> bool {
                match self { $(Self::$variant => $person,)* }
            }

            /// What console, help desk and live log show.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// An unknown code reads as [`Reason::InternalError`].
            pub fn from_code(code: &str) -> Self {
                match code { $($code => Self::$variant,)* _ => Self::InternalError }
            }
        }
    };
}

reasons! {
    ValidCode, "valid_code", Success, true, "The code was right.";

    Exempt, "exempt", Bypass, false, "A policy exempts this user here.";
    ServiceAccount, "service_account", Bypass, false, "This is a listed service account.";
    UnknownUserPassed, "unknown_user_passed", Bypass, false, "The user is proven to be unknown, and this client lets such users pass.";
    NotEnrolledPassed, "not_enrolled_passed", Bypass, false, "The user has no method yet, and this client lets such users pass.";

    CodeAsked, "code_asked", Challenge, true, "Waiting for a code.";

    BadPassword, "bad_password", Failed, false, "The directory refused the password.";
    EmptyPassword, "empty_password", Failed, false, "No password was given.";
    AccountDisabled, "account_disabled", Failed, false, "The account is disabled in the directory.";
    AccountLocked, "account_locked", Failed, false, "The account is locked in the directory.";
    AccountExpired, "account_expired", Failed, false, "The account is expired in the directory.";
    PasswordExpired, "password_expired", Failed, false, "The password has expired.";
    MustChangePassword, "must_change_password", Failed, false, "The password must be changed first.";
    LogonRestricted, "logon_restricted", Failed, false, "The directory does not allow sign-in now or from here.";
    UnknownUser, "unknown_user", Failed, false, "No account has this name.";
    AmbiguousUser, "ambiguous_user", Failed, false, "More than one account answers to this name; none was used.";
    SecretMismatch, "secret_mismatch", Failed, false, "The password could not be read; the shared secret is probably wrong.";

    WrongCode, "wrong_code", Failed, true, "The code was wrong.";
    ReusedCode, "reused_code", Failed, true, "This code was used before; wait for the next one.";
    NoAnswer, "no_answer", Failed, true, "Nobody answered in time.";
    ChallengeGone, "challenge_gone", Failed, true, "The answer came too late, twice, or for another sign-in.";

    UserCancelled, "user_cancelled", Denied, true, "The person cancelled their own sign-in.";
    NotEnrolled, "not_enrolled", Denied, true, "The user has no second factor yet.";
    NoUsableMethod, "no_usable_method", Denied, true, "None of the user's methods is allowed here.";
    MethodImpossible, "method_impossible", Denied, false, "This client cannot carry the only method that is left.";
    Blocked, "blocked", Denied, true, "The user is blocked, disabled or removed.";
    LockedOut, "locked_out", Denied, true, "Too many wrong tries.";
    RateLimited, "rate_limited", Denied, true, "Too many requests in a short time.";
    ClientNotAllowed, "client_not_allowed", Denied, false, "The user may not use this application.";
    ProtocolUnsupported, "protocol_unsupported", Denied, false, "The client asked in a way Twinlock does not accept here.";

    DirectoryTimeout, "directory_timeout", Error, false, "The directory did not answer.";
    DirectoryError, "directory_error", Error, false, "The directory answered with an error.";
    VerificationUnavailable, "verification_unavailable", Error, false, "The verification service could not be reached.";
    StoreUnavailable, "store_unavailable", Error, false, "The store could not be reached.";
    Overloaded, "overloaded", Error, false, "Too much is in progress.";
    ShuttingDown, "shutting_down", Error, false, "This node is stopping.";
    InternalError, "internal_error", Error, false, "A fault in Twinlock, see the trace.";
}

impl From<Reason> for &'static str {
    fn from(reason: Reason) -> Self {
        reason.code()
    }
}

impl From<String> for Reason {
    fn from(code: String) -> Self {
        Self::from_code(&code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_is_its_own_and_reads_back() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), *reason);
        }
    }

    #[test]
    fn an_unknown_code_is_an_error_and_never_a_success() {
        // V-75
        assert_eq!(Reason::from_code("let_him_in"), Reason::InternalError);
        assert_eq!(Reason::from_code("").class(), ResultClass::Error);
    }
}
