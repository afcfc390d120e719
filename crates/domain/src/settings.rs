//! The settings document: what administrators decide, kept in the store, exported and applied as one TOML document.
//!
//! Strict: an unknown key is refused. Ranges and what keys say together are checked by [`Settings::problems`], one
//! function for apply, save and `twinlock check`. Defaults are always the safe value. No secret stands here: a secret is
//! named by where it comes from ([`SecretSource`]) and travels beside the document.

mod attributes;
mod client;
mod digest;
mod directory;
mod feed;
mod group_form;
mod import;
mod policy;
mod problems;
mod provider;
mod sync;
mod target;
mod trusted;
mod verification;

pub use attributes::{each_attribute, each_once};
pub use client::{
    Accounting, Anonymous, Appended, AppendedForm, Challenge, Charset, Client, ClientCertificate, ClientProtocol,
    ClientTls, MessageAuthenticator, NumberMatching, OneOrMany, Operations, PasswordProtocol, Referrals, RefuseOrPass,
    ReplyMode, ReplyRule, ServiceAccount,
};
pub use directory::{
    AttributeMap, AuthenticationBind, BindKind, Directory, LanguageAttributes, LockoutGuard, PhoneAttributes,
    PhoneKind, Preset, QueryBind, ServerOrder, TrustedServers, WindowsAccount, WindowsMechanism,
};
pub use feed::Feed;
pub use group_form::GroupForm;
pub use import::{Chosen, ImportError, ImportVerdict};
pub use policy::{PersonAddress, PolicyRule, Remember, RememberKind, Then, TimeOfWeek, When};
pub use problems::{Problem, Severity, is_domain_name, is_mail_address};
pub use provider::{Adapter, Channel, HttpMethod, HttpPreset, PointerMatch, Provider, SmtpTls, TextOverride};
pub use sync::{
    DisabledInDirectory, InitialPin, ItemLanguages, ItemMail, ItemMethod, Leavers, NewUsers, Returning, SourceKind,
    SyncItem, SyncSchedule, SyncSource, SyncState, Update, Updates,
};
pub use target::{HomeServer, StatusCheck, Target, TargetKind, Transport};
pub use trusted::Confined;
pub use verification::{Choice, MailRules, PinRules, PushRules, SmsRules, VerificationRules, VoiceRules};

use crate::ObjectName;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};

/// The whole document.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The revision this document was exported at. Apply is refused if the store has moved on; absent = apply anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    pub portal: PortalSettings,
    pub verification: VerificationRules,
    pub pin: PinRules,
    pub sms: SmsRules,
    pub voice: VoiceRules,
    pub mail: MailRules,
    pub push: PushRules,
    /// Not written where it says nothing: earlier builds know no such table.
    #[serde(skip_serializing_if = "client::is_default")]
    pub ldap: LdapRules,
    pub radius: RadiusRules,
    pub sync: SyncSchedule,
    #[serde(rename = "directory", skip_serializing_if = "Vec::is_empty")]
    pub directories: Vec<Directory>,
    /// Who checks passwords beside the directories.
    #[serde(rename = "target", skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// RADIUS attributes beside those that ship, in FreeRADIUS's dictionary format.
    #[serde(rename = "dictionary", skip_serializing_if = "Vec::is_empty")]
    pub dictionaries: Vec<Dictionary>,
    #[serde(rename = "client", skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<Client>,
    /// Ordered: a user takes the settings of the first item that has them.
    #[serde(rename = "sync_item", skip_serializing_if = "Vec::is_empty")]
    pub sync_items: Vec<SyncItem>,
    /// Ordered: the first that fits decides (FV-43).
    #[serde(rename = "policy", skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyRule>,
    /// Ordered: tried one after the other (FN-07).
    #[serde(rename = "provider", skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Provider>,
    #[serde(rename = "text", skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<TextOverride>,
}

impl Settings {
    pub fn directory(&self, name: &str) -> Option<&Directory> {
        self.directories.iter().find(|directory| directory.name.as_str() == name)
    }

    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name.as_str() == name)
    }

    pub fn client(&self, name: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.name.as_str() == name)
    }

    /// Somebody carries this.
    pub fn carries(&self, channel: Channel) -> bool {
        self.providers.iter().any(|provider| provider.enabled && provider.channel == channel)
    }

    /// Every secret the document speaks of: its name (`client.vpn.secret`) and where it comes from.
    pub fn secrets(&self) -> Vec<(String, &SecretSource)> {
        let clients = self
            .clients
            .iter()
            .filter_map(|client| Some((format!("client.{}.secret", client.name), client.secret.as_ref()?)));
        let accounts = self.clients.iter().flat_map(|client| {
            let named = |account: &ServiceAccount| account.secret_name(&client.name);
            client.service_accounts.iter().filter_map(move |it| Some((named(it), it.password.as_ref()?)))
        });
        let targets = self.targets.iter().flat_map(|target| {
            let named = |server: &'_ HomeServer| target.secret_name(server);
            target.servers.iter().filter_map(move |server| Some((named(server), server.secret.as_ref()?)))
        });
        let directories = self.directories.iter().flat_map(|directory| {
            let binds = [("query_bind", Some(&directory.query_bind)), ("sync_bind", directory.sync_bind.as_ref())];
            binds.into_iter().filter_map(|(field, bind)| {
                Some((format!("directory.{}.{field}.password", directory.name), bind?.password.as_ref()?))
            })
        });
        let providers = self.providers.iter().flat_map(|provider| {
            let named = [("secret", &provider.secret), ("webhook_secret", &provider.webhook_secret)];
            named
                .into_iter()
                .filter_map(|(field, source)| Some((format!("provider.{}.{field}", provider.name), source.as_ref()?)))
        });
        clients.chain(accounts).chain(targets).chain(directories).chain(providers).collect()
    }

    /// The same document with every secret written `keep`: what the store holds and what an export shows.
    pub fn with_secrets_kept(mut self) -> Self {
        for client in &mut self.clients {
            client.secret = client.secret.take().map(|_| SecretSource::Keep);
            for account in &mut client.service_accounts {
                account.password = account.password.take().map(|_| SecretSource::Keep);
            }
        }
        for server in self.targets.iter_mut().flat_map(|target| &mut target.servers) {
            server.secret = server.secret.take().map(|_| SecretSource::Keep);
        }
        for directory in &mut self.directories {
            for bind in [&mut directory.query_bind].into_iter().chain(&mut directory.sync_bind) {
                bind.password = bind.password.take().map(|_| SecretSource::Keep);
            }
        }
        for provider in &mut self.providers {
            provider.secret = provider.secret.take().map(|_| SecretSource::Keep);
            provider.webhook_secret = provider.webhook_secret.take().map(|_| SecretSource::Keep);
        }
        self
    }
}

/// The user portal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortalSettings {
    /// Who may add the first method with the password alone (V-86). Later ones always need a method already held.
    pub first_enrolment: FirstEnrolment,
    /// The issuer shown in authenticator apps.
    pub company: String,
}

impl Default for PortalSettings {
    fn default() -> Self {
        Self { first_enrolment: FirstEnrolment::Invitation, company: "Twinlock".into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstEnrolment {
    /// An invitation code by an administrator is needed beside the password.
    Invitation,
    /// The password is enough. For evaluation and closed networks.
    Open,
    Off,
}

/// LDAP, whichever client it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LdapRules {
    /// LDAP is spoken while there is a client of it (FL-01).
    pub enabled: bool,
}

impl Default for LdapRules {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// RADIUS, whichever client it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RadiusRules {
    /// RADIUS is spoken while there is a client of it (FR-01).
    #[serde(skip_serializing_if = "sync::is_true")]
    pub enabled: bool,
    /// How long accounting is kept that is stored here, 1-400 days (FR-19).
    pub accounting_days: u32,
}

impl Default for RadiusRules {
    fn default() -> Self {
        Self { enabled: true, accounting_days: 30 }
    }
}

/// A dictionary of an administrator's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dictionary {
    pub name: ObjectName,
    /// The file's text.
    pub text: String,
}

/// Where a secret of the document comes from. Never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretSource {
    /// The one in the store stays. What an export writes.
    Keep,
    /// Twinlock makes a new one of 32 characters.
    Generate,
    /// Read from this file when the document is applied; relative to the document.
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a secret is written \"keep\", \"generate\" or \"file:PATH\", never as its value")]
pub struct BadSecretSource;

impl TryFrom<String> for SecretSource {
    type Error = BadSecretSource;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "keep" => Ok(Self::Keep),
            "generate" => Ok(Self::Generate),
            other => match other.strip_prefix("file:") {
                Some(path) if !path.is_empty() => Ok(Self::File(path.into())),
                _ => Err(BadSecretSource),
            },
        }
    }
}

impl From<SecretSource> for String {
    fn from(source: SecretSource) -> Self {
        source.to_string()
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => f.write_str("keep"),
            Self::Generate => f.write_str("generate"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}
