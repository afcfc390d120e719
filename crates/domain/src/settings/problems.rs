//! What is wrong with a settings document: each key by itself and keys together.

use super::{BindKind, Challenge, Client, ClientProtocol, Directory, MessageAuthenticator, Settings, SourceKind};
use crate::settings::{Appended, AppendedForm};
use std::{collections::BTreeMap, fmt};

/// One finding: where, what was found, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// `client.vpn.wait_seconds`
    pub key: String,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warning,
    Error,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}

#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn error(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.0.push(Problem { severity: Severity::Error, key: key.into(), text: text.into() });
    }

    fn warning(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.0.push(Problem { severity: Severity::Warning, key: key.into(), text: text.into() });
    }

    fn range(&mut self, key: String, found: u32, allowed: std::ops::RangeInclusive<u32>) {
        if !allowed.contains(&found) {
            self.error(key, format!("found {found}; allowed are {} to {}", allowed.start(), allowed.end()));
        }
    }
}

impl Settings {
    /// Everything that is wrong, errors and warnings. A document with an error is neither saved nor applied.
    pub fn problems(&self) -> Vec<Problem> {
        let mut findings = Findings::default();
        unique_names(&mut findings, "directory", self.directories.iter().map(|it| it.name.as_str()));
        unique_names(&mut findings, "client", self.clients.iter().map(|it| it.name.as_str()));
        unique_names(&mut findings, "sync_item", self.sync_items.iter().map(|it| it.name.as_str()));
        text(&mut findings, "portal.company", &self.portal.company);
        findings.range("sync.interval_minutes".into(), self.sync.interval_minutes, 1..=1440);
        findings.range("sync.approval_over_users".into(), self.sync.approval_over_users, 1..=999);
        findings.range("sync.approval_over_percent".into(), self.sync.approval_over_percent, 1..=100);
        for directory in &self.directories {
            directory_problems(&mut findings, directory);
        }
        for client in &self.clients {
            self.client_problems(&mut findings, client);
        }
        self.overlaps(&mut findings);
        for item in &self.sync_items {
            let key = format!("sync_item.{}", item.name);
            if self.directory(item.directory.as_str()).is_none() {
                findings.error(format!("{key}.directory"), self.no_such_directory(item.directory.as_str()));
            }
            if item.source.kind != SourceKind::Domain && item.source.dn.is_empty() {
                findings.error(format!("{key}.source.dn"), "is empty; a container or group is named by its DN");
            }
        }
        findings.0
    }

    fn client_problems(&self, findings: &mut Findings, client: &Client) {
        let key = |field: &str| format!("client.{}.{field}", client.name);
        if self.directory(client.target.as_str()).is_none() {
            findings.error(key("target"), self.no_such_directory(client.target.as_str()));
        }
        if client.name.as_str() == "portal" {
            findings.error(key("name"), "\"portal\" is the name of Twinlock's own portal; choose another");
        }
        findings.range(key("wait_seconds"), client.wait_seconds, 10..=110);
        if client.sources.is_empty() {
            findings
                .error(key("sources"), "is empty; list the networks this client asks from, such as [\"10.0.4.3/32\"]");
        }
        // Packets of such an address arrive as IPv4, so the source would never match.
        if client
            .sources
            .iter()
            .any(|net| matches!(net.network(), std::net::IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()))
        {
            findings.error(key("sources"), "holds an IPv4 address in IPv6 form (::ffff:a.b.c.d); write it as IPv4");
        }
        if client.methods.is_empty() {
            findings.error(key("methods"), "is empty; list at least one, such as [\"code\"]");
        }
        if let Some(application) = &client.application {
            text(findings, &key("application"), application);
        }
        if !matches!(client.unavailable_code, 49 | 52) {
            findings
                .error(key("unavailable_code"), format!("found {}; allowed are 52 and 49", client.unavailable_code));
        }
        if let AppendedForm::Separator { sign } = client.appended_form
            && (!sign.is_ascii_graphic() || sign.is_ascii_alphanumeric())
        {
            findings.error(key("appended_form.sign"), "a separator is one printable sign, no letter and no digit");
        }
        match client.protocol {
            ClientProtocol::Radius => radius_problems(findings, client, &key),
            ClientProtocol::Ldap => ldap_problems(findings, client, &key),
        }
    }

    fn no_such_directory(&self, found: &str) -> String {
        let known: Vec<&str> = self.directories.iter().map(|directory| directory.name.as_str()).collect();
        match known.as_slice() {
            [] => format!("found {found:?}; the document has no [[directory]]"),
            _ => format!("found {found:?}; the directories are {}", known.join(", ")),
        }
    }

    /// Equal networks are an error: nobody could tell the clients apart. One inside another is usual, and said.
    fn overlaps(&self, findings: &mut Findings) {
        let mut seen: BTreeMap<(bool, ipnet::IpNet), &Client> = BTreeMap::new();
        for client in &self.clients {
            for source in &client.sources {
                let net = source.trunc();
                let key = format!("client.{}.sources", client.name);
                let radius = client.protocol == ClientProtocol::Radius;
                if let Some(other) = seen.insert((radius, net), client) {
                    findings.error(
                        key,
                        format!(
                            "{net} is also a source of client {}; a network belongs to one client of a protocol",
                            other.name
                        ),
                    );
                    continue;
                }
                let wider = seen.iter().find(|((same, other_net), other)| {
                    *same == radius
                        && other.name != client.name
                        && *other_net != net
                        && (other_net.contains(&net) || net.contains(other_net))
                });
                if let Some(((_, other_net), other)) = wider {
                    findings.warning(
                        key,
                        format!("{net} overlaps {other_net} of client {}; the longer prefix wins", other.name),
                    );
                }
            }
        }
    }
}

fn radius_problems(findings: &mut Findings, client: &Client, key: &dyn Fn(&str) -> String) {
    if client.secret.is_none() {
        findings
            .error(key("secret"), "is missing; write \"generate\", \"file:PATH\" or, for one already stored, \"keep\"");
    }
    // "auto" protects nothing as long as it has not learned, and may learn "no".
    let unprotected = client.message_authenticator != MessageAuthenticator::Yes
        && client.limit_proxy_state == MessageAuthenticator::No;
    if unprotected && !client.danger_accept_blastradius {
        findings.error(
            key("message_authenticator"),
            "does not demand it, and limit_proxy_state is \"no\": forged answers would be accepted (CVE-2024-3596); set \
             message_authenticator = \"yes\" or limit_proxy_state = \"auto\", or danger_accept_blastradius = true",
        );
    } else if unprotected {
        findings.warning(key("danger_accept_blastradius"), "forged answers are accepted (CVE-2024-3596)");
    }
    let wide = client.sources.iter().any(|net| net.prefix_len() != net.max_prefix_len());
    if client.message_authenticator == MessageAuthenticator::Auto && wide {
        // what one device sends says nothing about its neighbours
        findings.error(
            key("message_authenticator"),
            "\"auto\" needs single addresses in sources (/32 or /128); write \"yes\" or \"no\" for a network",
        );
    }
    let phone = client.methods.iter().any(|method| method.is_out_of_band());
    if client.challenge == Challenge::No && client.appended == Appended::Off && !phone {
        findings.error(
            key("challenge"),
            "is \"no\", appended is \"off\" and no method asks on the phone: nobody could log in; allow one of them",
        );
    }
    for (field, set) in [
        ("service_accounts", !client.service_accounts.is_empty()),
        ("tls", client.tls != Default::default()),
        ("anonymous", client.anonymous != Default::default()),
        ("operations", client.operations != Default::default()),
        ("referrals", client.referrals != Default::default()),
    ] {
        if set {
            findings.error(key(field), "is a key of LDAP clients");
        }
    }
}

fn ldap_problems(findings: &mut Findings, client: &Client, key: &dyn Fn(&str) -> String) {
    if client.secret.is_some() {
        findings.error(key("secret"), "is a key of RADIUS clients");
    }
    if client.appended == Appended::Off {
        findings.warning(
            key("appended"),
            "is \"off\": an LDAP client can show no question, so people with a code cannot log in here",
        );
    }
    for account in &client.service_accounts {
        if account.name.is_empty() {
            findings.error(key("service_accounts"), "an account has an empty name; write its DN");
        }
    }
}

fn directory_problems(findings: &mut Findings, directory: &Directory) {
    let key = |field: &str| format!("directory.{}.{field}", directory.name);
    if directory.urls.is_empty() || directory.urls.len() > 16 {
        findings.error(key("urls"), format!("found {}; allowed are 1 to 16", directory.urls.len()));
    }
    for url in &directory.urls {
        let host = url.strip_prefix("ldaps://").or_else(|| url.strip_prefix("ldap://"));
        if host.is_none_or(str::is_empty) {
            findings.error(
                key("urls"),
                format!("found {url:?}; a server is written ldaps://HOST[:PORT] or ldap://HOST[:PORT]"),
            );
        }
    }
    if directory.base.is_empty() {
        findings.error(key("base"), "is empty; write the base DN, such as \"DC=corp,DC=example\"");
    }
    findings.range(key("connect_timeout_seconds"), directory.connect_timeout_seconds, 1..=30);
    findings.range(key("timeout_seconds"), directory.timeout_seconds, 1..=120);
    findings.range(key("page_size"), directory.page_size, 1..=5000);
    for (field, filter) in [("user_filter", &directory.user_filter), ("group_filter", &directory.group_filter)] {
        if filter.len() > 4096 {
            findings.error(key(field), "is longer than 4096 characters");
        }
    }
    if directory.authentication_bind.kind == BindKind::Anonymous {
        findings.error(key("authentication_bind.kind"), "\"anonymous\" proves nothing about a password; write \"tls\"");
    }
    let clear = directory.query_bind.kind == BindKind::Simple || directory.authentication_bind.kind == BindKind::Simple;
    if clear && !directory.danger_clear_text {
        findings.error(key("danger_clear_text"), "\"simple\" sends passwords in clear text; write \"tls\", or danger_clear_text = true for a test on one machine");
    }
    if directory.danger_clear_text {
        findings.warning(key("danger_clear_text"), "passwords may cross the network in clear text");
    }
    if directory.query_bind.kind != BindKind::Anonymous {
        if directory.query_bind.name.is_empty() {
            findings.error(key("query_bind.name"), "is empty; write the bind DN");
        }
        if directory.query_bind.password.is_none() {
            findings.error(
                key("query_bind.password"),
                "is missing; write \"file:PATH\" or, for one already stored, \"keep\"",
            );
        }
    }
}

/// 1-128 characters, no control characters.
fn text(findings: &mut Findings, key: &str, text: &str) {
    if !(1..=128).contains(&text.chars().count()) || text.chars().any(char::is_control) {
        findings.error(key, "allowed are 1 to 128 characters without control characters");
    }
}

fn unique_names<'a>(findings: &mut Findings, kind: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            findings.error(format!("{kind}.{name}"), "this name stands twice");
        }
    }
}
