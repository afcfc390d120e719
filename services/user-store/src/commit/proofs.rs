//! What may stand behind an Allow: one proof of exactly one kind, still there, this user's, of this attempt, and used up by it.
//!
//! ```text
//! event (source, method, reason) + what the request names --> one kind of proof, or none
//! facts under the chain's lock --check--> good or refused --spend--> changed facts
//! ```
//!
//! Pure. Nothing is changed before everything was found good.

use proto::user_store::{AuditEvent, CommitAllowRequest, RememberLogin};
use std::collections::HashMap;

/// What was proven is spent within this time of its answer: an attempt does not come back for it later.
pub const PROOF_LIFE_MS: i64 = 10 * 60_000;
/// Bounds of a remembered login (FV-30).
const IDLE_SECONDS: std::ops::RangeInclusive<u32> = 30..=86_400;
const LIFE_SECONDS: std::ops::RangeInclusive<u32> = 60..=86_400;

/// The one kind of proof that fits an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof<'a> {
    /// A code of the factor the request names.
    Code,
    Prompt(&'a str),
    SentCode,
    Secret(&'a str, Kept),
    Bypass(&'a str),
    Remembered(&'a [u8]),
    /// With the credential before and after its use, where it counts its signatures.
    Passkey {
        id: &'a str,
        count: Option<(&'a str, &'a str)>,
    },
    /// A rule let the person in; nothing is proven, nothing is spent.
    Rule,
}

/// Kinds of secrets that decide an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Recovery,
    Temporary,
    Answers,
}

impl Kept {
    pub fn code(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::Temporary => "temporary",
            Self::Answers => "answer",
        }
    }
}

impl<'a> Proof<'a> {
    /// `None`: what is asked contradicts itself, names two proofs, or lacks the one it needs.
    pub fn of(asked: &'a CommitAllowRequest, event: &AuditEvent) -> Option<Self> {
        let named = [
            !asked.factor_id.is_empty(),
            !asked.prompt_id.is_empty(),
            asked.sent_code,
            !asked.secret_handle.is_empty(),
            !asked.bypass_id.is_empty(),
            !asked.remembered_key.is_empty(),
            !asked.passkey_id.is_empty(),
        ];
        let secret = |kept| Self::Secret(asked.secret_handle.as_str(), kept);
        let (proof, place) = match (event.source.as_str(), event.method.as_str(), event.reason.as_str()) {
            ("live", "code", "valid_code") => (Self::Code, Some(0)),
            ("live", "push" | "sms_reply" | "call", "user_approved" | "call_confirmed") => {
                (Self::Prompt(asked.prompt_id.as_str()), Some(1))
            }
            ("live", "sms", "valid_code") => (Self::SentCode, Some(2)),
            ("live", "recovery", "valid_recovery_code") => (secret(Kept::Recovery), Some(3)),
            ("live", "questions", "valid_answers") => (secret(Kept::Answers), Some(3)),
            ("bypass", "" | "code", "temporary_code") => (secret(Kept::Temporary), Some(3)),
            ("bypass", "", "one_time_bypass") => (Self::Bypass(asked.bypass_id.as_str()), Some(4)),
            ("remembered", _, "remembered") => (Self::Remembered(asked.remembered_key.as_slice()), Some(5)),
            ("live", "passkey", "valid_passkey") => {
                let count = asked.passkey_count.as_ref();
                let count = count.map(|it| (it.before_json.as_str(), it.after_json.as_str()));
                (Self::Passkey { id: asked.passkey_id.as_str(), count }, Some(6))
            }
            ("trusted_network", "", "trusted_network")
            | ("exempt", "", "exempt" | "service_account" | "observed")
            | ("unknown_user", "", "unknown_user_passed")
            | ("not_enrolled", "", "not_enrolled_passed") => (Self::Rule, None),
            _ => return None,
        };
        let fits = named.iter().enumerate().all(|(at, named)| *named == (Some(at) == place));
        let counts = matches!(proof, Self::Passkey { .. });
        let misplaced = (asked.spent_before && proof != Self::Code) || (asked.passkey_count.is_some() && !counts);
        (fits && !misplaced).then_some(proof)
    }

    /// Must the event name a user? Only a rule may speak of somebody the store does not know.
    pub fn needs_user(self, event: &AuditEvent) -> bool {
        self != Self::Rule || !matches!(event.source.as_str(), "unknown_user" | "exempt")
    }
}

/// The facts that proofs stand on.
#[derive(Default)]
pub struct Proofs {
    pub prompts: HashMap<String, Prompt>,
    /// By transaction id.
    pub sent_codes: HashMap<String, SentCode>,
    /// By handle: a secret that was right.
    pub secrets: HashMap<String, Secret>,
    pub bypasses: HashMap<String, Bypass>,
    pub remembered: HashMap<Vec<u8>, Remembered>,
    /// By passkey id.
    pub passkeys: HashMap<String, Passkey>,
    /// By key: logins to remember from now on.
    pub new: HashMap<Vec<u8>, NewRemembered>,
    /// When the last one of them was used up.
    pub spent_ms: i64,
}

#[derive(Clone)]
pub struct Prompt {
    pub user_id: String,
    pub transaction_id: String,
    pub method: String,
    pub outcome: String,
    pub expires_ms: i64,
    pub answered_ms: i64,
    pub pin_asked: bool,
    pub pin_handle: String,
    pub spent: bool,
    pub changed: bool,
}

#[derive(Clone)]
pub struct SentCode {
    pub user_id: String,
    pub kind: String,
    pub state: String,
    pub expires_ms: i64,
    pub changed: bool,
}

#[derive(Clone)]
pub struct Secret {
    pub user_id: String,
    pub transaction_id: String,
    pub kind: String,
    pub hashed_id: String,
    pub expires_ms: i64,
    /// Of the record that was right; -1 = it is gone.
    pub uses_left: i64,
    /// Of that record; 0 = it has no end.
    pub hashed_expires_ms: i64,
    pub spent: bool,
}

#[derive(Clone)]
pub struct Bypass {
    pub user_id: String,
    pub client: String,
    pub expires_ms: i64,
    pub spent: bool,
}

#[derive(Clone)]
pub struct Remembered {
    pub user_id: String,
    pub client: String,
    pub epoch: i64,
    pub idle_ms: i64,
    pub idle_until_ms: i64,
    pub life_until_ms: i64,
    pub changed: bool,
}

#[derive(Clone)]
pub struct NewRemembered {
    pub user_id: String,
    pub client: String,
    pub place: String,
    pub epoch: i64,
    pub created_ms: i64,
    pub idle_ms: i64,
    pub life_ms: i64,
}

#[derive(Clone)]
pub struct Passkey {
    pub user_id: String,
    pub credential: String,
    /// The credential after its use, where that counted.
    pub counted: Option<String>,
    pub used: bool,
}

/// An attempt that asks to be let in, as its proof sees it.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    pub event: &'a AuditEvent,
    /// The user's epoch as it is now (V-52).
    pub epoch: i64,
    /// The handle of a PIN that was right; empty = none.
    pub pin_handle: &'a str,
}

impl Proofs {
    /// Is this proof good for this attempt, and the PIN with it, if one is named or was asked? Changes nothing.
    pub fn is_good(&self, proof: Proof<'_>, attempt: Attempt<'_>) -> bool {
        let event = attempt.event;
        let (user_id, now_ms) = (event.user_id.as_str(), event.at_unix_ms);
        let good = match proof {
            // The factor is looked at by who keeps its steps.
            Proof::Code | Proof::Rule => true,
            Proof::Prompt(id) => self.prompts.get(id).is_some_and(|it| {
                it.user_id == user_id
                    && it.transaction_id == event.transaction_id
                    && it.method == event.method
                    && it.outcome == "approved"
                    && !it.spent
                    && it.answered_ms <= it.expires_ms
                    && now_ms.saturating_sub(it.answered_ms) <= PROOF_LIFE_MS
            }),
            Proof::SentCode => self.sent_codes.get(&event.transaction_id).is_some_and(|it| {
                it.user_id == user_id
                    && it.kind == "sms"
                    && it.state == "right"
                    && now_ms <= it.expires_ms.saturating_add(PROOF_LIFE_MS)
            }),
            Proof::Secret(handle, kept) => self.secret(handle, kept.code(), attempt).is_some_and(|it| match kept {
                Kept::Answers => true,
                // Used up before the password (L-53): the proof is what is left of it.
                Kept::Recovery | Kept::Temporary if it.hashed_id.is_empty() => true,
                Kept::Recovery => it.uses_left > 0,
                // Its own end counts, not that of the proof.
                Kept::Temporary => it.uses_left > 0 && now_ms < it.hashed_expires_ms,
            }),
            Proof::Bypass(id) => self.bypasses.get(id).is_some_and(|it| {
                it.user_id == user_id
                    && !it.spent
                    && now_ms < it.expires_ms
                    && (it.client.is_empty() || it.client == event.client)
            }),
            Proof::Remembered(key) => self.remembered.get(key).is_some_and(|it| {
                it.user_id == user_id
                    && it.client == event.client
                    && it.epoch == attempt.epoch
                    && now_ms < it.idle_until_ms
                    && now_ms < it.life_until_ms
            }),
            // Of two uses with one count, one is of a copy: the second finds another credential than it was checked with.
            Proof::Passkey { id, count } => self.passkeys.get(id).is_some_and(|it| {
                let credential = it.counted.as_ref().unwrap_or(&it.credential);
                it.user_id == user_id && count.is_none_or(|(before, after)| before == credential && !after.is_empty())
            }),
        };
        let pin = self.pin_handle(proof, attempt);
        good && pin.is_none_or(|handle| self.secret(handle, "pin", attempt).is_some())
    }

    /// Uses up what [`Proofs::is_good`] found good.
    pub fn spend(&mut self, proof: Proof<'_>, attempt: Attempt<'_>) {
        let now_ms = attempt.event.at_unix_ms;
        self.spent_ms = self.spent_ms.max(now_ms);
        let pin = self.pin_handle(proof, attempt).map(str::to_owned);
        match proof {
            Proof::Code | Proof::Rule => {}
            Proof::Passkey { id, count } => {
                if let Some(it) = self.passkeys.get_mut(id) {
                    it.used = true;
                    it.counted = count.map(|(_, after)| after.to_owned()).or(it.counted.take());
                }
            }
            Proof::Prompt(id) => {
                if let Some(it) = self.prompts.get_mut(id) {
                    (it.spent, it.changed) = (true, true);
                }
            }
            Proof::SentCode => {
                if let Some(it) = self.sent_codes.get_mut(&attempt.event.transaction_id) {
                    it.state = "spent".into();
                    it.changed = true;
                }
            }
            Proof::Secret(handle, _) => self.spend_secret(handle),
            Proof::Bypass(id) => {
                if let Some(it) = self.bypasses.get_mut(id) {
                    it.spent = true;
                }
            }
            Proof::Remembered(key) => {
                if let Some(it) = self.remembered.get_mut(key) {
                    it.idle_until_ms = now_ms.saturating_add(it.idle_ms).min(it.life_until_ms);
                    it.changed = true;
                }
            }
        }
        if let Some(handle) = pin {
            self.spend_secret(&handle);
        }
    }

    /// V-50: only a full live success is remembered, and only under the epoch that still is.
    pub fn remember(&mut self, remember: &RememberLogin, attempt: Attempt<'_>) {
        let event = attempt.event;
        let same_epoch = i64::try_from(remember.epoch) == Ok(attempt.epoch);
        if event.source != "live" || event.user_id.is_empty() || !same_epoch || !(16..=64).contains(&remember.key.len())
        {
            return;
        }
        let bounded_ms = |seconds: u32, bounds: std::ops::RangeInclusive<u32>| {
            i64::from(seconds.clamp(*bounds.start(), *bounds.end())) * 1000
        };
        let new = NewRemembered {
            user_id: event.user_id.clone(),
            client: event.client.clone(),
            place: remember.place.clone(),
            epoch: attempt.epoch,
            created_ms: event.at_unix_ms,
            idle_ms: bounded_ms(remember.idle_seconds, IDLE_SECONDS),
            life_ms: bounded_ms(remember.life_seconds, LIFE_SECONDS),
        };
        self.new.insert(remember.key.clone(), new);
    }

    /// A secret of this kind that was right in this attempt and is not used up.
    fn secret(&self, handle: &str, kind: &str, attempt: Attempt<'_>) -> Option<&Secret> {
        let event = attempt.event;
        self.secrets.get(handle).filter(|it| {
            it.user_id == event.user_id
                && it.transaction_id == event.transaction_id
                && it.kind == kind
                && !it.spent
                && event.at_unix_ms < it.expires_ms
        })
    }

    fn spend_secret(&mut self, handle: &str) {
        let Some(used) = self.secrets.get_mut(handle) else { return };
        used.spent = true;
        let hashed_id = used.hashed_id.clone();
        if !hashed_id.is_empty() {
            // Another proof of the same record sees the use, whatever attempt it is of.
            self.secrets.values_mut().filter(|it| it.hashed_id == hashed_id).for_each(|it| it.uses_left -= 1);
        }
    }

    /// The PIN that has to be good: the one that is named, or the one that came with an approval where one was asked.
    fn pin_handle<'a>(&'a self, proof: Proof<'_>, attempt: Attempt<'a>) -> Option<&'a str> {
        if !attempt.pin_handle.is_empty() {
            return Some(attempt.pin_handle);
        }
        let Proof::Prompt(id) = proof else { return None };
        self.prompts.get(id).filter(|it| it.pin_asked).map(|it| it.pin_handle.as_str())
    }
}

#[cfg(test)]
mod tests;
