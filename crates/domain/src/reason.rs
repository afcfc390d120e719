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
    UserApproved, "user_approved", Success, true, "The sign-in was approved on the phone.";
    CallConfirmed, "call_confirmed", Success, true, "The sign-in was confirmed in a phone call.";
    ValidCode, "valid_code", Success, true, "The code was right.";
    ValidRecoveryCode, "valid_recovery_code", Success, true, "A recovery code was used.";
    ValidPasskey, "valid_passkey", Success, true, "The passkey was accepted.";
    ValidAnswers, "valid_answers", Success, true, "The security answers were accepted.";

    Remembered, "remembered", Bypass, false, "A recent sign-in from the same place still counts.";
    TrustedNetwork, "trusted_network", Bypass, false, "The address is on this application's trusted list.";
    OneTimeBypass, "one_time_bypass", Bypass, false, "A one-time bypass was used.";
    TemporaryCode, "temporary_code", Bypass, false, "A temporary code from the help desk was used.";
    Exempt, "exempt", Bypass, false, "A policy exempts this user here.";
    Observed, "observed", Bypass, false, "This client is only observed: the password decided.";
    ServiceAccount, "service_account", Bypass, false, "This is a listed service account.";
    UnknownUserPassed, "unknown_user_passed", Bypass, false, "The user is proven to be unknown, and this client lets such users pass.";
    NotEnrolledPassed, "not_enrolled_passed", Bypass, false, "The user has no method yet, and this client lets such users pass.";
    FailOpen, "fail_open", Bypass, false, "Verification was down, and this client is set to let people in.";

    CodeAsked, "code_asked", Challenge, true, "Waiting for a code.";
    ChoiceAsked, "choice_asked", Challenge, true, "Waiting for the choice of a method.";
    NewPinAsked, "new_pin_asked", Challenge, true, "Waiting for a new PIN.";
    ApprovalAsked, "approval_asked", Challenge, true, "Waiting for an answer on the phone.";

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
    WrongPin, "wrong_pin", Failed, true, "The PIN was wrong.";
    ReusedCode, "reused_code", Failed, true, "This code was used before; wait for the next one.";
    WrongNumber, "wrong_number", Failed, true, "The number chosen on the phone was not the one shown.";
    NoAnswer, "no_answer", Failed, true, "Nobody answered in time.";
    NoKeysPressed, "no_keys_pressed", Failed, true, "The call was not confirmed.";
    HungUp, "hung_up", Failed, true, "The call was ended before it was confirmed.";
    Busy, "busy", Failed, true, "The line was busy.";
    Voicemail, "voicemail", Failed, true, "Voicemail answered.";
    Unreachable, "unreachable", Failed, true, "The phone could not be reached.";
    ChallengeGone, "challenge_gone", Failed, true, "The answer came too late, twice, or for another sign-in.";

    UserDenied, "user_denied", Denied, true, "The person refused the sign-in.";
    UserCancelled, "user_cancelled", Denied, true, "The person cancelled their own sign-in.";
    NotEnrolled, "not_enrolled", Denied, true, "The user has no second factor yet.";
    NoUsableMethod, "no_usable_method", Denied, true, "None of the user's methods is allowed here.";
    MethodImpossible, "method_impossible", Denied, false, "This client cannot carry the only method that is left.";
    Blocked, "blocked", Denied, true, "The user is blocked, disabled or removed.";
    LockedOut, "locked_out", Denied, true, "Too many wrong tries.";
    CoolingDown, "cooling_down", Denied, true, "A prompt was refused a moment ago; the next one has to wait.";
    PromptPending, "prompt_pending", Denied, true, "Another prompt for this user is still open.";
    RateLimited, "rate_limited", Denied, true, "Too many requests in a short time.";
    NotInGroup, "not_in_group", Denied, false, "The user is not in a group this client needs.";
    ClientNotAllowed, "client_not_allowed", Denied, false, "The user may not use this application.";
    OutOfHours, "out_of_hours", Denied, false, "The policy does not allow sign-in at this time.";
    ProtocolUnsupported, "protocol_unsupported", Denied, false, "The client asked in a way Twinlock does not accept here.";

    ReportedFraud, "reported_fraud", Fraud, true, "The person said: this was not me.";

    DirectoryTimeout, "directory_timeout", Error, false, "The directory did not answer.";
    DirectoryError, "directory_error", Error, false, "The directory answered with an error.";
    TargetTimeout, "target_timeout", Error, false, "The target server did not answer.";
    TargetError, "target_error", Error, false, "The target server answered with an error.";
    ProviderError, "provider_error", Error, true, "The provider could not send the prompt.";
    VerificationUnavailable, "verification_unavailable", Error, false, "The verification service could not be reached.";
    StoreUnavailable, "store_unavailable", Error, false, "The store could not be reached.";
    Overloaded, "overloaded", Error, false, "Too much is in progress.";
    ShuttingDown, "shutting_down", Error, false, "This node is stopping.";
    InternalError, "internal_error", Error, false, "A fault in Twinlock, see the trace.";
}

impl Reason {
    /// The method failed for a technical reason: the next one may be tried in the same wait (FR-06, FV-13). A refusal is final.
    pub fn is_technical(self) -> bool {
        matches!(
            self,
            Self::NoAnswer
                | Self::NoKeysPressed
                | Self::Busy
                | Self::Voicemail
                | Self::Unreachable
                | Self::ProviderError
        )
    }
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
