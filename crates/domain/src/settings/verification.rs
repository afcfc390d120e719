//! The rules of the second factor: company-wide values, one section for each thing they are about.

use crate::{Language, Method};
use serde::{Deserialize, Serialize};

/// `[verification]`: what holds for every client that does not say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerificationRules {
    /// What users get who chose nothing (FV-01), if they have it.
    pub default_method: Method,
    /// The language where neither user nor directory names one.
    pub language: Language,
    /// How a client that can ask begins (FV-12).
    pub choice: Choice,
    /// Numbers without an international prefix belong to this country (ISO 3166, two letters); empty = they are unusable (FS-29).
    pub country: String,
    /// Quiet after a refusal, 0-900 (FV-24, V-23).
    pub cool_down_seconds: u32,
    /// Prompts a user gets in 24 hours, 5-500.
    pub prompts_per_day: u32,
    /// Calls a user gets in an hour, 1-60.
    pub calls_per_hour: u32,
    /// "Not me" blocks the user (FV-26).
    pub fraud_blocks: bool,
    /// How long a block lasts that names no end, 1-365 days; 0 = until somebody unblocks (FV-25).
    pub block_days: u32,
    /// The longest one-time bypass, 1-86400 (FV-28).
    pub bypass_max_seconds: u32,
    /// Security questions as a way to sign in to the portal (FP-09).
    pub questions: bool,
}

impl Default for VerificationRules {
    fn default() -> Self {
        Self {
            default_method: Method::Push,
            language: Language::english(),
            choice: Choice::DefaultThenList,
            country: String::new(),
            cool_down_seconds: 60,
            prompts_per_day: 50,
            calls_per_hour: 10,
            fraud_blocks: true,
            block_days: 90,
            bypass_max_seconds: 86_400,
            questions: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// The user's own method first; another one if that cannot be used.
    #[default]
    DefaultThenList,
    /// A list to choose from, where the client can show one.
    ListFirst,
}

/// `[pin]`: rules of FV-20 to FV-22.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PinRules {
    /// New users have to use one.
    pub new_users: bool,
    /// 4-10 digits.
    pub length_min: u32,
    /// Earlier PINs that may not come back, 0-24.
    pub history: u32,
    /// 0 = for ever, to 365 days.
    pub life_days: u32,
    /// How long an initial PIN is good for, 1-90 days.
    pub initial_days: u32,
    /// Wrong PINs that lock, 1-20, ...
    pub lock_tries: u32,
    /// ... within so many minutes, 1-1440, ...
    pub lock_window_minutes: u32,
    /// ... for so many, 1-1440; 0 = until somebody unlocks.
    pub lock_minutes: u32,
    /// Sends initial PINs by mail, where a link would be safer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub danger_mail_initial_pin: bool,
}

impl Default for PinRules {
    fn default() -> Self {
        Self {
            new_users: false,
            length_min: 4,
            history: 5,
            life_days: 0,
            initial_days: 14,
            lock_tries: 5,
            lock_window_minutes: 30,
            lock_minutes: 60,
            danger_mail_initial_pin: false,
        }
    }
}

/// `[sms]`: codes by text message (FV-03, V-17, V-18).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmsRules {
    /// 6-8.
    pub digits: u32,
    /// How long a code is good for, 60-300.
    pub life_seconds: u32,
    /// Countries texts go to (ISO 3166, two letters); empty = `verification.country` alone (FN-07).
    pub countries: Vec<String>,
    /// To numbers that share all but the last four digits, an hour, 1-1000.
    pub per_prefix_and_hour: u32,
    /// In all, a day, 1-100000.
    pub per_day: u32,
    /// Text messages that are answered (FV-04).
    pub replies: bool,
}

impl Default for SmsRules {
    fn default() -> Self {
        Self {
            digits: 6,
            life_seconds: 300,
            countries: Vec::new(),
            per_prefix_and_hour: 20,
            per_day: 1000,
            replies: false,
        }
    }
}

/// `[voice]`: phone calls (FV-02, V-19). Countries and caps are those of `[sms]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VoiceRules {
    /// How long it rings, 10-60.
    pub ring_seconds: u32,
    /// Nobody answers: the backup phone is called (FV-14).
    pub backup_phone: bool,
    /// Pressed with #, it says "this was not me": 1-4 digits (FV-26).
    pub fraud_code: String,
}

impl Default for VoiceRules {
    fn default() -> Self {
        Self { ring_seconds: 30, backup_phone: false, fraud_code: "0".into() }
    }
}

/// `[mail]` (FN-01, FN-02).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MailRules {
    /// Users get mail about themselves. Administrators' mail is apart.
    pub to_users: bool,
    /// Who hears of events, by event (FV-27): `fraud`, `blocked`, `locked`, `password_known`, `fail_open`,
    /// `sync_approval`, `sync_failed`, `sync_phone_back`, `sync_enabled_again`, `sync_name_doubled`. At most 50 addresses each.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub notify: std::collections::BTreeMap<String, Vec<String>>,
}

/// `[push]` (FM-01 to FM-08).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushRules {
    /// The portal as an app on the phone, woken by Web Push.
    pub web: bool,
    /// Apps that speak the protocol of the privacyIDEA Authenticator, poll only.
    pub pi: bool,
    /// Devices a user may have, 1-10.
    pub devices_max: u32,
    /// How long an activation is open, 1-10 minutes.
    pub activation_minutes: u32,
    /// A device unseen for so long is not asked, 0 = never forgotten, to 365 days.
    pub unseen_days: u32,
    /// Phones without a passkey may approve with a key of their own, at a lower assurance.
    pub without_passkey: bool,
    /// Push services that may be contacted: host names, `*.` for all below one.
    pub hosts: Vec<String>,
    /// Contact address push services are told (RFC 8292 section 2.1): `mailto:` or `https:`.
    pub contact: String,
}

impl Default for PushRules {
    fn default() -> Self {
        Self {
            web: true,
            pi: true,
            devices_max: 3,
            activation_minutes: 10,
            unseen_days: 90,
            without_passkey: true,
            hosts: [
                "fcm.googleapis.com",
                "updates.push.services.mozilla.com",
                "web.push.apple.com",
                "*.notify.windows.com",
            ]
            .map(str::to_owned)
            .to_vec(),
            contact: "mailto:postmaster@localhost".into(),
        }
    }
}
