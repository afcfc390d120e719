//! A directory connection: where passwords are checked, names resolved, users read.

use super::SecretSource;
use crate::ObjectName;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    pub name: ObjectName,
    #[serde(default)]
    pub preset: Preset,
    /// Servers in order of preference: `ldaps://dc1.corp.example`, `ldap://dc2.corp.example:389`.
    pub urls: Vec<String>,
    /// Where all searches start.
    pub base: String,
    pub query_bind: QueryBind,
    #[serde(default)]
    pub authentication_bind: AuthenticationBind,
    /// A private CA, as PEM text. Absent = the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Lets `ldap://` without StartTLS carry passwords. For tests on one machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub danger_clear_text: bool,
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
    /// Where a name that is nobody's here is looked for next, in order, by the `alternate` attribute of each (FD-19).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternate_directories: Vec<ObjectName>,
    /// Attribute names that differ from the preset's.
    #[serde(default, skip_serializing_if = "AttributeMap::is_empty")]
    pub attributes: AttributeMap,
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

fn connect_timeout_seconds() -> u32 {
    3
}
fn timeout_seconds() -> u32 {
    10
}
fn page_size() -> u32 {
    1000
}

/// What kind of directory it is: fills in filters and attribute names (FD-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Preset {
    #[default]
    #[serde(rename = "active_directory")]
    ActiveDirectory,
    #[serde(rename = "openldap")]
    OpenLdap,
    #[serde(rename = "389ds")]
    Ds389,
    #[serde(rename = "generic")]
    Generic,
}

/// How Twinlock itself binds to search (FD-06).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryBind {
    pub kind: BindKind,
    /// The bind DN.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
}

/// How a person's password is checked (FD-07). Anonymous is no choice: it proves nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthenticationBind {
    pub kind: BindKind,
}

impl Default for AuthenticationBind {
    fn default() -> Self {
        Self { kind: BindKind::Tls }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindKind {
    Anonymous,
    /// Name and password in clear text; needs `danger_clear_text`.
    Simple,
    /// Name and password inside TLS: LDAPS, or StartTLS on `ldap://`.
    Tls,
}

/// Attribute names; each `None` takes the preset's. In a list the first attribute that has a value counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttributeMap {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<Vec<String>>,
}

impl AttributeMap {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Directory {
    /// The attribute that holds the immutable id (FD-30).
    pub fn id_attribute(&self) -> &str {
        self.attributes.id.as_deref().unwrap_or(match self.preset {
            Preset::ActiveDirectory => "objectGUID",
            Preset::OpenLdap | Preset::Generic => "entryUUID",
            Preset::Ds389 => "nsUniqueId",
        })
    }

    /// Attributes a bare name is looked up in, the first one naming the user (FD-34).
    pub fn username_attributes(&self) -> Vec<&str> {
        match (&self.attributes.username, self.preset) {
            (Some(list), _) => list.iter().map(String::as_str).collect(),
            (None, Preset::ActiveDirectory) => vec!["userPrincipalName", "sAMAccountName"],
            (None, _) => vec!["uid"],
        }
    }

    /// The attribute a name is looked for in when it is nobody's username (FD-19).
    pub fn alternate_attribute(&self) -> Option<&str> {
        self.attributes.alternate.as_deref()
    }

    pub fn mail_attribute(&self) -> &str {
        self.attributes.mail.as_deref().unwrap_or("mail")
    }

    pub fn first_name_attribute(&self) -> &str {
        self.attributes.first_name.as_deref().unwrap_or("givenName")
    }

    pub fn last_name_attribute(&self) -> &str {
        self.attributes.last_name.as_deref().unwrap_or("sn")
    }

    /// Sources of the primary phone, first valid wins (FS-27).
    pub fn phone_attributes(&self) -> Vec<&str> {
        match &self.attributes.phone {
            Some(list) => list.iter().map(String::as_str).collect(),
            None => vec!["mobile", "telephoneNumber"],
        }
    }

    /// RFC 4515 text. Defaults: FD-14.
    pub fn user_filter(&self) -> &str {
        match (self.user_filter.as_str(), self.preset) {
            ("", Preset::ActiveDirectory) => "(&(objectCategory=person)(objectClass=user))",
            ("", _) => "(objectClass=inetOrgPerson)",
            (text, _) => text,
        }
    }

    /// RFC 4515 text. Defaults: FD-13.
    pub fn group_filter(&self) -> &str {
        match (self.group_filter.as_str(), self.preset) {
            ("", Preset::ActiveDirectory) => "(&(objectCategory=group)(groupType:1.2.840.113556.1.4.804:=2147483648))",
            ("", _) => "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))",
            (text, _) => text,
        }
    }
}
