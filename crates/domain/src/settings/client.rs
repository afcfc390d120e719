//! A client: one device or application that asks Twinlock, by RADIUS, LDAP or the REST API.

use super::{PersonAddress, Remember, SecretSource, Transport};
use crate::{Assurance, Method, NameForm, ObjectId, ObjectName};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub name: ObjectName,
    pub protocol: ClientProtocol,
    /// The application people see in logs and prompts; the client's name where absent (FL-05).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// Networks it asks from; the longest prefix of all clients of a protocol wins (R-71, FL-04).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IpNet>,
    /// Who checks its passwords: a directory, or a target of its own kind.
    pub target: ObjectName,

    /// API: the keys that may ask for this application, by name (FC-05).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_keys: Vec<String>,

    /// RADIUS: the shared secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSource>,
    #[serde(default)]
    pub message_authenticator: MessageAuthenticator,
    #[serde(default = "auto")]
    pub limit_proxy_state: MessageAuthenticator,
    /// Both protections against CVE-2024-3596 off: only with this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub danger_accept_blastradius: bool,
    /// RADIUS: whether the device can show an Access-Challenge (FR-13).
    #[serde(default)]
    pub challenge: Challenge,

    /// RADIUS: how its packets come. Over TLS its certificate says who it is, and the secret is fixed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub transport: Transport,
    /// RADIUS over TLS, and LDAP with `client_certificate`: `sha256:` and the certificate's fingerprint, or `dns:` and a name in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    /// RADIUS over TLS: who has to have signed its certificate, as PEM text; absent = who signs for all clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// RADIUS: how its passwords are written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub charset: Charset,
    /// RADIUS: by which protocols it may bring a password, of those that the target can check; empty = by all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub password_protocols: Vec<PasswordProtocol>,
    /// RADIUS: how long a question is open, 30-300 s (FR-14).
    #[serde(default = "challenge_seconds")]
    pub challenge_seconds: u32,
    /// RADIUS: wrong answers that end a conversation, 1-5 (FR-14).
    #[serde(default = "answers_max")]
    pub answers_max: u32,
    /// RADIUS: a request without credentials, from a device that has checked the person itself (FR-21): `pass` = the target is asked
    /// about it as it came, then the second factor follows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub without_credentials: RefuseOrPass,
    /// RADIUS: what becomes of accounting; absent = forwarded where the target is RADIUS, else stored (FR-19).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounting: Option<Accounting>,
    /// RADIUS: attributes of the target that go on to the device; `*` is all (FR-17).
    #[serde(default = "every_attribute")]
    pub target_attributes: Vec<String>,
    /// RADIUS: further attributes of an Access-Accept, by group (FB-06).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reply: Vec<ReplyRule>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub reply_mode: ReplyMode,
    /// RADIUS: Status-Server stays unanswered while this node could decide no login of this client.
    #[serde(default = "yes")]
    pub status_reflects_health: bool,

    /// LDAP: whether a password may come in clear text (L-07).
    #[serde(default)]
    pub tls: ClientTls,
    /// LDAP: whether it has to show a certificate, as part of who it is (FL-22). One of `certificates`, where any is listed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub client_certificate: ClientCertificate,
    /// LDAP: PLAIN inside TLS is taken, as the simple bind that it is (L-36). Other mechanisms never are, but see `service_accounts`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sasl_plain: bool,
    #[serde(default)]
    pub anonymous: Anonymous,
    #[serde(default)]
    pub operations: Operations,
    /// LDAP: OIDs of extended operations that are forwarded besides Who am I, Password Modify and Cancel (L-14).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_operations: Vec<String>,
    /// LDAP: OIDs of controls that are refused to others and pass for this client, such as that of proxied authorization (L-15).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_controls: Vec<String>,
    /// LDAP: the RootDSE keeps the names of the server that it is of (L-16).
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_server_names: bool,
    #[serde(default)]
    pub referrals: Referrals,
    /// LDAP: what stands for the real servers with `rewrite`: `ldaps://login.example.org`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub referral_url: String,
    /// LDAP: entries of one search, and how long it may take; 0 = as the directory says (L-18).
    #[serde(default, skip_serializing_if = "is_default")]
    pub size_limit: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub time_limit_seconds: u32,
    /// LDAP: the code when verification or the directory cannot be reached: 52, or 49 for hosts that cache (B5).
    #[serde(default = "unavailable_code")]
    pub unavailable_code: u8,
    /// LDAP: accounts that log in on the password alone (FL-15, L-22).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<ServiceAccount>,

    /// RADIUS and LDAP: the forms of a name that count here, as the log's `name_form` tells them; empty = every form that the directory
    /// knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub name_forms: Vec<NameForm>,
    /// The old product's "require user match": `refuse` = box ticked (FV-40).
    #[serde(default)]
    pub unknown_user: RefuseOrPass,
    #[serde(default)]
    pub not_enrolled: RefuseOrPass,
    /// Methods in order of preference.
    #[serde(default = "all_methods")]
    pub methods: Vec<Method>,
    #[serde(default)]
    pub appended: Appended,
    #[serde(default)]
    pub appended_form: AppendedForm,
    /// Words after the password that choose a method: `password,push` (FL-13). Off unless `appended` is on.
    #[serde(default)]
    pub appended_keywords: bool,
    /// How a client that can show a text asks for an approval: with a number to match, or while the request waits.
    #[serde(default)]
    pub number_matching: NumberMatching,
    /// The person needs their PIN beside the method (FV-02 to FV-05).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pin: bool,
    /// Weaker methods are not offered (FV-15).
    #[serde(default = "no_assurance")]
    pub least_assurance: Assurance,
    /// After a technical failure of the phone, a code may be asked for (FR-06).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fallback_code: bool,
    /// The user must be in one of these groups, directly or not: `objectGUID:...`, or the group's DN (FV-44).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// From here the password is enough (FV-32, V-54).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_networks: Vec<IpNet>,
    /// Where the person's own address is read from.
    #[serde(default)]
    pub person_address: PersonAddress,
    /// Recent logins count (FV-30); absent = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remember: Option<Remember>,
    /// Fail mode: what happens while verification is down (FV-45, V-40).
    #[serde(default)]
    pub when_unavailable: RefuseOrPass,
    /// `pass` holds for members of these groups only; empty = for everybody. DNs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when_unavailable_groups: Vec<String>,
    /// `pass` ends then: RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_unavailable_until: Option<String>,
    /// Until then the password decides; what the second factor would have done is logged and nobody is asked (FB-04). RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe_until: Option<String>,
    /// How long a login may take in all, 10-110 s (FL-09).
    #[serde(default = "wait_seconds")]
    pub wait_seconds: u32,
}

impl Client {
    /// What people see: the application's name.
    pub fn application(&self) -> &str {
        self.application.as_deref().unwrap_or(self.name.as_str())
    }

    /// May a name mean somebody here that was found by this form?
    pub fn takes_form(&self, form: NameForm) -> bool {
        self.name_forms.is_empty() || self.name_forms.contains(&form)
    }

    /// May a name of this form as it was typed lead to somebody? It may turn out to be another one: a name alone is a display name too.
    pub fn takes_typed(&self, form: NameForm) -> bool {
        let turns_into: &[NameForm] = match form {
            NameForm::Bare => &[NameForm::DisplayName, NameForm::Alternate],
            NameForm::UserPrincipalName => &[NameForm::Alternate],
            // DOMAIN/user is written as service/host is.
            NameForm::Netbios => &[NameForm::ServicePrincipalName],
            NameForm::ServicePrincipalName => &[NameForm::Netbios],
            _ => &[],
        };
        self.takes_form(form) || turns_into.iter().any(|other| self.name_forms.contains(other))
    }
}

fn auto() -> MessageAuthenticator {
    MessageAuthenticator::Auto
}
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
fn yes() -> bool {
    true
}
fn challenge_seconds() -> u32 {
    120
}
fn answers_max() -> u32 {
    3
}
pub(super) fn every_attribute() -> Vec<String> {
    vec!["*".into()]
}
fn unavailable_code() -> u8 {
    52
}
/// All that a VPN or an application can carry. What has no provider, or the user does not have, is passed over.
pub(super) fn all_methods() -> Vec<Method> {
    vec![Method::Push, Method::Call, Method::Sms, Method::Code, Method::Recovery]
}
fn no_assurance() -> Assurance {
    Assurance::None
}
fn wait_seconds() -> u32 {
    55
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientProtocol {
    Radius,
    Ldap,
    /// An application of one's own: `POST /api/v1/authentications`.
    Api,
}

/// A protection against forged RADIUS packets: demanded, learnt from the first valid packet, or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageAuthenticator {
    #[default]
    Yes,
    Auto,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Challenge {
    #[default]
    Yes,
    No,
}

/// What stands for a password in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordProtocol {
    Pap,
    Chap,
    MsChap,
    MsChap2,
    Eap,
    Arap,
}

impl PasswordProtocol {
    /// As settings, reports and logs write it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pap => "pap",
            Self::Chap => "chap",
            Self::MsChap => "ms_chap",
            Self::MsChap2 => "ms_chap2",
            Self::Eap => "eap",
            Self::Arap => "arap",
        }
    }
}

/// How a device writes passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charset {
    #[default]
    Utf8,
    Latin1,
}

/// What becomes of an Accounting-Request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accounting {
    /// It goes to the target, whose answer is the device's.
    Forward,
    /// It is kept in the store, then acknowledged.
    Store,
    /// It is acknowledged and nothing else.
    Discard,
    /// It gets no answer.
    Off,
}

/// Attributes of an Access-Accept for members of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplyRule {
    /// A group of the user, directly or not, as [`super::GroupForm`] reads it: `objectGUID:...`, a GUID, a SID, a DN, or a name, which
    /// any group may have; absent = everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when_group: Option<String>,
    /// By the dictionary's names, tagged ones as `Tunnel-Type:1`. `{attribute}` in a value is that of the user in the directory.
    pub set: BTreeMap<String, OneOrMany>,
    /// Where the Access-Accept would be longer than 4096 octets, the rule is left out, the last such rule first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Number(i64),
    Many(Vec<String>),
}

/// What several rules that fit come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyMode {
    /// All of them, in order.
    #[default]
    Merge,
    First,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefuseOrPass {
    #[default]
    Refuse,
    Pass,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ClientTls {
    #[default]
    #[serde(rename = "required")]
    Required,
    /// Passwords may cross the wire in clear text. For loopback and old hosts only.
    #[serde(rename = "danger_optional")]
    DangerOptional,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    #[default]
    Off,
    Required,
}

/// What an anonymous LDAP connection may do (L-10, FL-16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anonymous {
    /// Read the RootDSE, nothing else.
    #[default]
    Rootdse,
    Refuse,
    /// As the directory allows.
    Forward,
}

/// Which operations a bound connection may send on (FL-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operations {
    #[default]
    All,
    /// Search, compare, Who am I.
    Read,
    /// None: the client only checks passwords.
    Bind,
}

/// Search references name the real servers, and lead around the second factor (L-17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Referrals {
    #[default]
    Drop,
    /// Their server is replaced by `referral_url`.
    Rewrite,
    Pass,
}

/// A code after the password, in one field (FL-13, L-50).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Appended {
    #[default]
    Off,
    Optional,
    Required,
}

/// What a client that can show a text does with a number (V-22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumberMatching {
    /// It shows the number in its challenge; the person chooses it on the phone.
    #[default]
    Yes,
    /// The request waits while the person approves. Recorded as `approve_only`.
    No,
}

/// Where the code begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum AppendedForm {
    /// After the last such sign: `password,123456`.
    Separator { sign: char },
    /// The last 6, 7 or 8 digits: `password123456`.
    LastDigits,
}

impl Default for AppendedForm {
    fn default() -> Self {
        Self::Separator { sign: ',' }
    }
}

/// An account that logs in on the password alone, from listed places (L-22).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccount {
    /// How it is written and shown. Decides nothing.
    pub name: String,
    /// What decides. Found from the name when the account is first seen in the directory, and kept from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ObjectId>,
    /// Where it may come from; empty = anywhere the client may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IpNet>,
    /// LDAP: certificates of which its connection has to show one, written as those of a client; empty = none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
    /// LDAP: with it the certificate alone logs it in, by SASL EXTERNAL; what the gateway then binds with at the directory (L-36).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretSource>,
}

impl ServiceAccount {
    /// The name of its password among the secrets of the document.
    pub fn secret_name(&self, client: &ObjectName) -> String {
        format!("client.{client}.service_account.{}.password", self.name)
    }

    /// Does a certificate log it in?
    pub fn is_external(&self) -> bool {
        self.password.is_some() && !self.certificates.is_empty()
    }
}
