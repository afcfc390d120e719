//! Whoever carries messages, calls and mail to people.

use super::SecretSource;
use crate::ObjectName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `[[provider]]`. The order in the document is the order in which they are tried (FN-07).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub name: ObjectName,
    pub channel: Channel,
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Password or token it knows us by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSource>,
    /// What it signs its calls to us with, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<SecretSource>,
    /// How long it may take to accept a message, 1-30.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
    /// How it is spoken to.
    pub adapter: Adapter,
}

fn yes() -> bool {
    true
}
fn timeout_seconds() -> u32 {
    5
}

/// What a provider carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    Sms,
    Voice,
    Mail,
}

impl Channel {
    pub fn code(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Voice => "voice",
            Self::Mail => "mail",
        }
    }
}

/// How a provider is spoken to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Adapter {
    /// SMS by one HTTP request. A preset fills in what is absent.
    Http {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        preset: Option<HttpPreset>,
        /// Account name or id, for presets that need one; also `{account}` in texts.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        account: String,
        /// Who the text comes from; `{sender}`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        sender: String,
        /// `{phone}`, `{digits}`, `{text}`, `{id}`, `{account}`, `{sender}`, `{secret}`, `{basic}`, `{callback}` are filled in,
        /// escaped for where they stand.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        url: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        method: Option<HttpMethod>,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
        /// Sent as a form; or ...
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        form: BTreeMap<String, String>,
        /// ... as this JSON text.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        json: String,
        /// Answers that mean "accepted", such as 200 or 202; empty = 2xx.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        success: Vec<u16>,
        /// JSON pointer (RFC 6901) into the answer, and the text that stands there when it was accepted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        success_pointer: Option<PointerMatch>,
        /// JSON pointer to the provider's message id.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        id_pointer: String,
        /// Its CA as PEM text, where that is a private one.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        ca: String,
    },
    /// SMS by SMPP 3.4.
    Smpp {
        /// `host:port`
        address: String,
        #[serde(default)]
        tls: bool,
        system_id: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        system_type: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        sender: String,
        /// Messages under way at once, 1-100.
        #[serde(default = "window")]
        window: u32,
        #[serde(default = "enquire_seconds")]
        enquire_seconds: u32,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        ca: String,
    },
    /// SMS by a mail that a gateway turns into one.
    MailGateway {
        /// `{phone}@sms.example.com`
        to: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        subject: String,
        /// `{text}`
        body: String,
    },
    /// SMS by a program of this host, which reads the text from its standard input. Never in a container.
    Script {
        /// The name of a file in `/usr/local/lib/twinlock/sms`.
        program: String,
        /// `{phone}`, `{id}`
        #[serde(default = "phone_alone")]
        arguments: Vec<String>,
    },
    /// Calls by a provider that fetches TwiML from us.
    Twiml {
        /// The provider's API, up to the account: `https://api.twilio.com/2010-04-01`.
        base_url: String,
        account: String,
        /// The number that calls (FN-08).
        caller: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        ca: String,
    },
    /// Calls by an Asterisk of one's own, over ARI.
    Ari {
        /// `https://pbx.example.com:8089/ari`
        base_url: String,
        user: String,
        /// The Stasis application.
        application: String,
        /// `PJSIP/{phone}@trunk`
        endpoint: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        caller: String,
        /// Where the PBX finds the shipped speech: `sound:twinlock`.
        #[serde(default = "sounds")]
        sounds: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        ca: String,
    },
    /// Mail.
    Smtp {
        host: String,
        #[serde(default = "smtp_port")]
        port: u16,
        #[serde(default)]
        tls: SmtpTls,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        user: String,
        sender: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reply_to: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        ca: String,
    },
}

fn window() -> u32 {
    10
}
fn enquire_seconds() -> u32 {
    30
}
fn phone_alone() -> Vec<String> {
    vec!["{phone}".into()]
}
fn sounds() -> String {
    "sound:twinlock".into()
}
fn smtp_port() -> u16 {
    587
}

impl Adapter {
    /// What it can carry.
    pub fn channel(&self) -> Channel {
        match self {
            Self::Http { .. } | Self::Smpp { .. } | Self::MailGateway { .. } | Self::Script { .. } => Channel::Sms,
            Self::Twiml { .. } | Self::Ari { .. } => Channel::Voice,
            Self::Smtp { .. } => Channel::Mail,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpPreset {
    Twilio,
    Vonage,
    Bird,
    Clickatell,
    Smseagle,
    Gammu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    Get,
    Post,
    Put,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointerMatch {
    pub pointer: String,
    pub value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SmtpTls {
    #[default]
    #[serde(rename = "starttls")]
    StartTls,
    #[serde(rename = "tls")]
    Tls,
    /// In clear text. For a relay on this host only.
    #[serde(rename = "danger_none")]
    DangerNone,
}

/// `[[text]]`: words of the administrators' own, in the place of those that ship (FN-09).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextOverride {
    /// The message's key in its catalogue, such as `sms-code`.
    pub key: String,
    pub language: crate::Language,
    /// Only for this application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// Fluent, with the variables of the text it replaces.
    pub text: String,
}
