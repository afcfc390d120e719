//! What a decision is asked about: the attempt, the rules of its client, the rules of the company.

use domain::settings::{NumberMatching, PolicyRule, RefuseOrPass, Remember, ServiceAccount, VerificationRules};
use domain::{Assurance, DirectoryRef, Method, ObjectName};
use ipnet::IpNet;
use std::net::IpAddr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The attempt, as far as a decision depends on it.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub client: &'a ClientRules,
    /// Company-wide values.
    pub company: &'a VerificationRules,
    /// Rules that go before the client's own values; the first that fits (FV-43).
    pub policies: &'a [PolicyRule],
    /// Who is meant, resolved by the directory; `None`: it has proven that it has nobody of this name.
    pub subject: Option<&'a DirectoryRef>,
    /// Where the client's packets come from.
    pub client_ip: Option<IpAddr>,
    /// Where the person is, as the client's rule reads it; `None` = not known, so not trusted (V-54).
    pub person_ip: Option<IpAddr>,
    /// The gateway bound it as one of the client's service accounts.
    pub as_service_account: bool,
    /// A code came with the attempt, appended to the password or as an answer.
    pub code_given: bool,
    /// The method that was chosen: by a keyword, from a list, or because it is under way.
    pub wanted: Option<Method>,
    pub shows: Shows,
}

/// What the client can show a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shows {
    /// Nothing: the person finds everything on the phone.
    Nothing,
    /// A text, and it sends back what was typed.
    Text,
    /// A page that stays open: numbers, lists, passkeys.
    Dialogue,
}

/// What the settings say about the client that asks.
#[derive(Debug, Clone)]
pub struct ClientRules {
    pub name: String,
    pub unknown_user: RefuseOrPass,
    pub not_enrolled: RefuseOrPass,
    /// Methods allowed, in order of preference.
    pub methods: Vec<Method>,
    /// The directory whose accounts `service_accounts` are; `None` where there are none.
    pub target: Option<ObjectName>,
    pub service_accounts: Vec<ServiceAccount>,
    pub number_matching: NumberMatching,
    pub pin: bool,
    pub least_assurance: Assurance,
    pub fallback_code: bool,
    pub groups: Vec<String>,
    pub trusted_networks: Vec<IpNet>,
    pub remember: Option<Remember>,
    /// Only observed until then (FB-04); 0 = not.
    pub observed_until_unix_ms: i64,
}

impl ClientRules {
    /// The portal's own: it never lets anybody pass on the password alone (V-84, V-86).
    pub fn portal() -> Self {
        Self {
            name: "portal".into(),
            unknown_user: RefuseOrPass::Refuse,
            not_enrolled: RefuseOrPass::Refuse,
            methods: Method::ALL.to_vec(),
            target: None,
            service_accounts: Vec::new(),
            number_matching: NumberMatching::Yes,
            pin: false,
            least_assurance: Assurance::None,
            fallback_code: true,
            groups: Vec::new(),
            trusted_networks: Vec::new(),
            remember: None,
            observed_until_unix_ms: 0,
        }
    }

    /// Rules by which the password alone lets in are the gateways' clients' only (V-84).
    pub(crate) fn is_portal(&self) -> bool {
        self.target.is_none()
    }

    /// FB-04. It ends by itself. Never at the portal, where the factor guards the factors (V-84).
    pub fn is_observed(&self, now_unix_ms: i64) -> bool {
        !self.is_portal() && self.observed_until_unix_ms > now_unix_ms
    }

    /// By immutable id and source, never by name (L-22). An account whose id was not found yet is not listed.
    pub(crate) fn lists(&self, subject: Option<&DirectoryRef>, client_ip: Option<IpAddr>) -> bool {
        let Some(subject) = subject else { return false };
        self.target.as_ref() == Some(&subject.directory)
            && self.service_accounts.iter().any(|account| {
                account.id.as_ref() == Some(&subject.id)
                    && (account.sources.is_empty() || client_ip.is_some_and(|ip| within(&account.sources, ip)))
            })
    }
}

impl From<&domain::settings::Client> for ClientRules {
    fn from(client: &domain::settings::Client) -> Self {
        Self {
            name: client.name.to_string(),
            unknown_user: client.unknown_user,
            not_enrolled: client.not_enrolled,
            methods: client.methods.clone(),
            target: Some(client.target.clone()),
            service_accounts: client.service_accounts.clone(),
            number_matching: client.number_matching,
            pin: client.pin,
            least_assurance: client.least_assurance,
            fallback_code: client.fallback_code,
            groups: client.groups.clone(),
            trusted_networks: client.trusted_networks.clone(),
            remember: client.remember.clone(),
            observed_until_unix_ms: client.observe_until.as_deref().map_or(0, unix_ms),
        }
    }
}

/// A moment that cannot be read has passed.
fn unix_ms(moment: &str) -> i64 {
    OffsetDateTime::parse(moment, &Rfc3339)
        .ok()
        .and_then(|moment| i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok())
        .unwrap_or(0)
}

/// An IPv4 address in the clothes of IPv6 is the IPv4 address it is (V-54).
pub(crate) fn within(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip.to_canonical()))
}
