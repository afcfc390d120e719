//! A directory connection: where passwords are checked, names resolved, users read.

use super::{Feed, SecretSource};
use crate::identity::IdType;
use crate::{ObjectId, ObjectName};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    pub name: ObjectName,
    #[serde(default)]
    pub preset: Preset,
    /// Servers in order of preference: `ldaps://dc1.corp.example`, `ldap://dc2.corp.example:389`; `ldaps+srv://corp.example` stands for
    /// those that the DNS names for a domain (FD-03).
    #[serde(deserialize_with = "urls")]
    pub urls: Vec<String>,
    /// Which of the servers that serve is asked first (L-37).
    #[serde(default, skip_serializing_if = "ServerOrder::is_listed")]
    pub server_order: ServerOrder,
    /// Where all searches start; empty = the default naming context of its servers, or the only one they have (FD-05).
    #[serde(default)]
    pub base: String,
    pub query_bind: QueryBind,
    /// The account that synchronisation reads with; absent = that of `query_bind` (FD-09).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_bind: Option<QueryBind>,
    #[serde(default)]
    pub authentication_bind: AuthenticationBind,
    /// A private CA, as PEM text. Absent = the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The servers' own certificates, as PEM text: these and no others are taken, whoever signed them (FD-03).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_certificates: Option<String>,
    /// Lets `ldap://` without StartTLS carry passwords. For tests on one machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub danger_clear_text: bool,
    /// What [`BindKind::Windows`] of the query bind speaks (FD-06).
    #[serde(default, skip_serializing_if = "WindowsMechanism::is_default")]
    pub windows_mechanism: WindowsMechanism,
    /// Connect, per host, then the next host: 1-30 s (FD-04).
    #[serde(default = "connect_timeout_seconds")]
    pub connect_timeout_seconds: u32,
    /// One operation: 1-120 s.
    #[serde(default = "timeout_seconds")]
    pub timeout_seconds: u32,
    /// Entries a page, 1-5000 (FD-10).
    #[serde(default = "page_size")]
    pub page_size: u32,
    /// Which entries are users; empty = the preset's (FD-14).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_filter: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group_filter: String,
    /// Which entries are containers; empty = the preset's (FD-12).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_filter: String,
    /// How changes are heard of; absent = the best that the directory offers and the account may (S-03).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
    /// Everything is read anew after so long, whatever the feed, 1-168 h (S-39, S-43).
    #[serde(default = "full_every_hours", skip_serializing_if = "is_full_every_hours")]
    pub full_every_hours: u32,
    /// Entries of one answer, 0 = as many as the server sends, at most 1,000,000 (FD-10). A cut answer is incomplete.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size_limit: u32,
    /// Country of phone numbers without a code (ISO 3166, two letters); empty = verification's (FS-29).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub country: String,
    /// The short domain name of `DOMAIN\user`; empty = only the long one of the base is accepted there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub netbios_domain: String,
    /// Keeps people's tries below what the directory itself locks them for (L-56). Absent = it is not asked how many there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lockout_guard: Option<LockoutGuard>,
    /// A bare name is looked up as if `@` and this stood behind it, too; empty = as it is only (FD-18).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub default_domain: String,
    /// Any domain before or behind a name counts as this directory's own (FD-18).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strip_domain: bool,
    /// A mail address is a sign-in name (FD-18); absent = yes, but in Active Directory, where it is no account's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in_by_mail: Option<bool>,
    /// Where a name that is nobody's here is looked for next, in order, by the `alternate` attribute of each (FD-19).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternate_directories: Vec<ObjectName>,
    /// Active Directory: names of other domains of the forest, and of trusted ones, are looked up there, and synchronisation reads them,
    /// too (FD-02). Absent: see [`Directory::includes_trusted_domains`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_domains: Option<bool>,
    /// Servers of such a domain, where the DNS is not to be asked; by its long name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub trusted: BTreeMap<String, TrustedServers>,
    /// Active Directory: members of groups are asked for by their group, where the server knows how (FD-15).
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub attribute_scope_queries: bool,
    /// Attribute names that differ from the preset's.
    #[serde(default, skip_serializing_if = "AttributeMap::is_empty")]
    pub attributes: AttributeMap,
}

/// Where another domain is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedServers {
    /// As those of a directory.
    #[serde(deserialize_with = "urls")]
    pub urls: Vec<String>,
}

/// In which order the servers of a directory are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerOrder {
    /// As `urls` has them.
    #[default]
    Listed,
    /// By the time that reading the root takes; those about as near as each other as `urls` has them.
    Nearest,
}

impl ServerOrder {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_listed(&self) -> bool {
        *self == Self::Listed
    }
}

/// How many wrong passwords of a person reach the directory, through all gateways and the portal together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockoutGuard {
    /// 1-100: less than the directory's own (AD: `lockoutThreshold`).
    pub wrong_passwords: u32,
    /// 1-1440: until none was wrong for so long; no less than the directory's own (AD: `lockOutObservationWindow`).
    pub window_minutes: u32,
}

/// `ldaps://one;two` is two servers (FD-03): what has no scheme has the one before it.
fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let written = Vec::<String>::deserialize(deserializer)?;
    let parts = |url: &String| -> Vec<String> {
        let scheme = url.find("://").and_then(|end| url.get(..end + 3)).unwrap_or_default().trim_start().to_owned();
        let parts = url.split(';').map(str::trim).filter(|part| !part.is_empty());
        let whole = |part: &str| if part.contains("://") { part.to_owned() } else { format!("{scheme}{part}") };
        parts.map(whole).collect()
    };
    Ok(written.iter().flat_map(|url| if url.contains(';') { parts(url) } else { vec![url.clone()] }).collect())
}

fn connect_timeout_seconds() -> u32 {
    3
}
fn timeout_seconds() -> u32 {
    10
}
fn page_size() -> u32 {
    1000
}
fn full_every_hours() -> u32 {
    24
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_full_every_hours(hours: &u32) -> bool {
    *hours == full_every_hours()
}
fn yes() -> bool {
    true
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What kind of directory it is: fills in filters and attribute names (FD-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Preset {
    #[default]
    #[serde(rename = "active_directory")]
    ActiveDirectory,
    /// Active Directory Lightweight Directory Services.
    #[serde(rename = "ad_lds")]
    AdLds,
    #[serde(rename = "openldap")]
    OpenLdap,
    #[serde(rename = "389ds")]
    Ds389,
    #[serde(rename = "edirectory")]
    EDirectory,
    #[serde(rename = "generic")]
    Generic,
}

impl Preset {
    /// A directory of Microsoft's kind: objectGUID, deleted objects, ranges.
    pub fn is_microsoft(self) -> bool {
        matches!(self, Self::ActiveDirectory | Self::AdLds)
    }

    /// The attribute in which servers of this kind hand out immutable ids.
    pub fn id_attribute(self) -> &'static str {
        match self {
            Self::ActiveDirectory | Self::AdLds => "objectGUID",
            Self::OpenLdap | Self::Generic => "entryUUID",
            Self::Ds389 => "nsUniqueId",
            Self::EDirectory => "GUID",
        }
    }

    /// The attribute that is `TRUE` where an account is switched off, beside the flags and locks that all kinds may have (FD-42).
    pub fn disabled_attribute(self) -> &'static str {
        match self {
            Self::AdLds => "msDS-UserAccountDisabled",
            Self::EDirectory => "loginDisabled",
            Self::ActiveDirectory | Self::OpenLdap | Self::Ds389 | Self::Generic => "nsAccountLock",
        }
    }
}

/// How Twinlock itself binds to search (FD-06).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryBind {
    #[serde(default)]
    pub kind: BindKind,
    /// The bind DN; for [`BindKind::Windows`] the account, `DOMAIN\user` or `user@domain`, and empty there = the host's keytab (FD-08).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
}

impl QueryBind {
    /// As the account whose key the host has.
    pub fn is_by_keytab(&self) -> bool {
        self.kind == BindKind::Windows && self.name.is_empty()
    }
}

/// How our own account logs on to a Windows domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowsMechanism {
    /// Kerberos, and NTLM where that cannot be.
    #[default]
    Negotiate,
    Kerberos,
    Ntlm,
}

impl WindowsMechanism {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a person's password is checked (FD-07). Anonymous is no choice: it proves nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthenticationBind {
    pub kind: BindKind,
}

/// An account of a Windows domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsAccount {
    pub user: String,
    /// Empty: the user is written with the domain, `user@domain`.
    pub domain: String,
}

impl WindowsAccount {
    /// Of `DOMAIN\user` or `user@domain`; of nothing else, so that a DN is not taken for a user.
    pub fn parse(name: &str) -> Option<Self> {
        let sound =
            |part: &str| !part.is_empty() && !part.chars().any(|sign| sign.is_control() || "\\/=,".contains(sign));
        let (user, domain) = match name.split_once('\\') {
            Some((domain, user)) if sound(domain) && sound(user) => (user, domain),
            None if sound(name) && name.split_once('@').is_some_and(|(user, domain)| sound(user) && sound(domain)) => {
                (name, "")
            }
            _ => return None,
        };
        Some(Self { user: user.to_owned(), domain: domain.to_owned() })
    }
}

impl Default for AuthenticationBind {
    fn default() -> Self {
        Self { kind: BindKind::Tls }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindKind {
    Anonymous,
    /// Name and password in clear text; needs `danger_clear_text`.
    Simple,
    /// Name and password inside TLS: LDAPS, or StartTLS on `ldap://`.
    #[default]
    Tls,
    /// A Windows logon: the password does not leave this side. Our own queries go by Kerberos or NTLM, and on `ldap://` are signed and
    /// sealed by it; people's passwords by NTLM. Everything else is inside TLS, and bound to that channel.
    Windows,
}

/// Attribute names; each `None` takes the preset's. With `;` the first attribute that has a value counts, as in a list: see
/// [`each_attribute`](super::attributes::each_attribute). Ids and alternate names stand in one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttributeMap {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What the values of `id` are (FD-31).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_type: Option<IdType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<Vec<String>>,
    /// The alternate sign-in name; no preset has one (FD-19).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// The entry's own DN (FD-32).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinguished_name: Option<String>,
    /// What a container is called (FD-33).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// What a group is called (FD-33).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    /// A label to filter users by; no preset has one (FD-37).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_group: Option<String>,
    /// FD-37
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// FD-38
    #[serde(skip_serializing_if = "LanguageAttributes::is_empty")]
    pub languages: LanguageAttributes,
    /// FD-39, FD-40
    #[serde(skip_serializing_if = "PhoneAttributes::is_empty")]
    pub phones: PhoneAttributes,
    /// The extension of the primary number (FD-41). Not mapped: `x890` behind the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<String>,
}

/// Where the language of each channel stands; no preset has any (FD-38).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageAttributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl LanguageAttributes {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where phone numbers stand, each `None` takes the preset's; an empty name = not read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhoneAttributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub business: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pager: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mobile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fax: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<String>,
}

impl PhoneAttributes {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The seven numbers an entry can have (FD-39, FD-40).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneKind {
    Business,
    Home,
    Pager,
    Mobile,
    Fax,
    Ip,
    Custom,
}

impl PhoneKind {
    pub const ALL: [Self; 7] =
        [Self::Business, Self::Home, Self::Pager, Self::Mobile, Self::Fax, Self::Ip, Self::Custom];

    /// As it stands in the settings.
    pub fn code(self) -> &'static str {
        match self {
            Self::Business => "business",
            Self::Home => "home",
            Self::Pager => "pager",
            Self::Mobile => "mobile",
            Self::Fax => "fax",
            Self::Ip => "ip",
            Self::Custom => "custom",
        }
    }
}

impl AttributeMap {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Directory {
    /// Would a password that is kept go where it did not go before: to a new server, past another CA, or less protected? Who may
    /// change the settings may not know it, and could have it sent to a server of their own (V-83, CVE-2024-5967).
    pub fn sends_password_elsewhere_than(&self, before: &Self) -> bool {
        let new_server = self.urls.iter().any(|url| !before.urls.contains(url));
        // What goes by Kerberos is not inside the TLS of the directory, and can be tried against by who records it.
        let other_logon =
            self.query_bind.kind == BindKind::Windows && self.windows_mechanism != before.windows_mechanism;
        let less_protected = (self.danger_clear_text && !before.danger_clear_text)
            || other_logon
            || (self.query_bind.kind != before.query_bind.kind && self.query_bind.kind != BindKind::Tls);
        let other_trust = self.ca != before.ca || self.pinned_certificates != before.pinned_certificates;
        new_server || self.names_other_domains_than(before) || other_trust || less_protected
    }

    /// The query account is shown to the servers of other domains, too: those that the directory lists, or those named here.
    fn names_other_domains_than(&self, before: &Self) -> bool {
        let known = |(name, servers): (&String, &TrustedServers)| before.trusted.get(name) == Some(servers);
        self.includes_trusted_domains() && !(before.includes_trusted_domains() && self.trusted.iter().all(known))
    }

    /// As synchronisation connects: with the account of its own where there is one (FD-09). Which domains are included, that of queries
    /// says.
    pub fn as_synchronised(&self) -> Self {
        let mut settings = self.clone();
        if let Some(bind) = settings.sync_bind.take() {
            settings.trusted_domains = Some(self.includes_trusted_domains());
            settings.query_bind = bind;
        }
        settings
    }

    /// By what name the password is kept that synchronisation binds with.
    pub fn sync_password_name(&self) -> String {
        let bind = if self.sync_bind.is_some() { "sync_bind" } else { "query_bind" };
        format!("directory.{}.{bind}.password", self.name)
    }

    /// The attribute that holds the immutable id (FD-30).
    pub fn id_attribute(&self) -> &str {
        self.attributes.id.as_deref().unwrap_or(self.preset.id_attribute())
    }

    /// What the values of [`Self::id_attribute`] are (FD-31).
    pub fn id_type(&self) -> IdType {
        let preset = if self.preset.is_microsoft() { IdType::Guid } else { IdType::String };
        ObjectId::known_type(self.id_attribute()).or(self.attributes.id_type).unwrap_or(preset)
    }

    /// Is `user@domain` looked for among mail addresses, too (FD-18)?
    pub fn signs_in_by_mail(&self) -> bool {
        self.sign_in_by_mail.unwrap_or(self.preset != Preset::ActiveDirectory)
    }

    /// RFC 4515 text. Defaults: FD-12.
    pub fn container_filter(&self) -> &str {
        match self.container_filter.as_str() {
            "" => "(|(objectClass=organizationalUnit)(objectClass=container))",
            text => text,
        }
    }

    /// RFC 4515 text. Defaults: FD-14.
    pub fn user_filter(&self) -> &str {
        match (self.user_filter.as_str(), self.preset) {
            ("", Preset::ActiveDirectory) => "(&(objectCategory=person)(objectClass=user))",
            ("", Preset::AdLds) => "(objectClass=user)",
            ("", _) => "(objectClass=inetOrgPerson)",
            (text, _) => text,
        }
    }

    /// RFC 4515 text. Defaults: FD-13.
    pub fn group_filter(&self) -> &str {
        match (self.group_filter.as_str(), self.preset) {
            ("", Preset::ActiveDirectory) => "(&(objectCategory=group)(groupType:1.2.840.113556.1.4.804:=2147483648))",
            ("", Preset::AdLds) => "(objectClass=group)",
            ("", _) => "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))",
            (text, _) => text,
        }
    }
}
