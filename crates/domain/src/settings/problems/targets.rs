//! Targets that are no directory, and dictionaries.

use super::Findings;
use super::providers::certificate;
use super::written::{is_host, is_host_name};
use crate::settings::{
    Dictionary, HomeServer, MessageAuthenticator, Settings, StatusCheck, Target, TargetKind, Transport,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

const SERVERS_MAX: usize = 16;
const DICTIONARIES_MAX: usize = 32;
const DICTIONARY_OCTETS_MAX: usize = 512 * 1024;
/// NetBIOS: 15 characters.
const DOMAIN_CHARACTERS_MAX: usize = 15;

pub(super) fn problems(findings: &mut Findings, settings: &Settings, target: &Target) {
    let key = |field: &str| format!("target.{}.{field}", target.name);
    if settings.directory(target.name.as_str()).is_some() {
        findings.error(key("name"), "a directory has this name too; what a client's target names is one of both");
    }
    if settings.directory(target.directory.as_str()).is_none() {
        findings.error(key("directory"), settings.no_such_directory(target.directory.as_str()));
    }
    match target.kind {
        TargetKind::Radius => radius(findings, target, &key),
        TargetKind::WindowsDomain => windows_domain(findings, settings, target, &key),
    }
}

fn radius(findings: &mut Findings, target: &Target, key: &dyn Fn(&str) -> String) {
    if !(1..=SERVERS_MAX).contains(&target.servers.len()) {
        findings.error(key("servers"), format!("found {}; allowed are 1 to {SERVERS_MAX}", target.servers.len()));
    }
    let mut places = BTreeSet::new();
    for server in &target.servers {
        findings.range(key("servers.weight"), server.weight, 0..=100);
    }
    for server in &target.servers {
        if !places.insert((written_once(&server.address), server.authentication_port())) {
            findings.error(key("servers"), format!("{} stands twice", server.place()));
        }
        home_server(findings, target, server);
    }
    if target.identity_attribute.is_empty() {
        findings.error(key("identity_attribute"), "is empty; name an attribute, such as \"User-Name\"");
    }
    if target.danger_trust_outer_identity {
        findings.warning(
            key("danger_trust_outer_identity"),
            "the name outside of EAP is believed where the servers name nobody: they must enforce that it is the inner one",
        );
    }
    status_user(findings, target, key);
    findings.range(key("response_window_seconds"), target.response_window_seconds, 5..=60);
    findings.range(key("zombie_seconds"), target.zombie_seconds, 20..=120);
    findings.range(key("check_interval_seconds"), target.check_interval_seconds, 6..=120);
    findings.range(key("revive_seconds"), target.revive_seconds, 60..=3600);
    if !target.domain.is_empty() {
        findings.error(key("domain"), "is a key of Windows domains");
    }
}

/// An address as it is compared: IPv6 can be written in several ways, names in upper and lower case.
fn written_once(address: &str) -> String {
    address.parse::<IpAddr>().map_or_else(|_| address.to_ascii_lowercase(), |address| address.to_string())
}

fn home_server(findings: &mut Findings, target: &Target, server: &HomeServer) {
    let key = |field: &str| format!("target.{}.{}.{field}", target.name, server.place());
    if !is_address_or_name(&server.address) {
        findings.error(
            key("address"),
            format!("found {:?}; allowed are an IP address, IPv6 without brackets, or a host name", server.address),
        );
    }
    for (field, port) in
        [("authentication_port", server.authentication_port), ("accounting_port", server.accounting_port)]
    {
        if port == Some(0) {
            findings.error(key(field), "found 0; allowed are 1 to 65535");
        }
    }
    if server.transport == Transport::Udp && server.authentication_port() == server.accounting_port() {
        findings.error(key("accounting_port"), "is the authentication port; a server listens for each at its own");
    }
    match server.transport {
        Transport::Udp => {
            if server.secret.is_none() {
                findings.error(
                    key("secret"),
                    "is missing; write \"generate\", \"file:PATH\" or, for one already stored, \"keep\"",
                );
            }
            for (field, set) in [("ca", server.ca.is_some()), ("server_name", server.server_name.is_some())] {
                if set {
                    findings.error(key(field), "is a key of servers with transport = \"tls\"");
                }
            }
            if server.message_authenticator == MessageAuthenticator::No {
                findings.warning(
                    key("message_authenticator"),
                    "is \"no\": who stands between can forge this server's answers (CVE-2024-3596)",
                );
            }
        }
        Transport::Tls => {
            if server.secret.is_some() {
                findings.error(key("secret"), "is a key of servers over UDP; over TLS it is fixed");
            }
            if server.accounting_port.is_some() {
                findings.error(key("accounting_port"), "is a key of servers over UDP; over TLS there is one port");
            }
            if let Some(ca) = &server.ca {
                certificate(findings, key("ca"), ca);
            }
            if let Some(name) = server.server_name.as_ref().filter(|name| !is_host_name(name)) {
                findings.error(key("server_name"), format!("found {name:?}; write a host name"));
            }
        }
    }
}

fn status_user(findings: &mut Findings, target: &Target, key: &dyn Fn(&str) -> String) {
    const OCTETS_MAX: usize = 253; // RFC 2865 section 5
    let (wanted, found) = (target.status_check == StatusCheck::Username, target.status_user.as_str());
    if !wanted && !found.is_empty() {
        findings.error(key("status_user"), "is a key of targets with status_check = \"username\"");
    } else if wanted && (found.is_empty() || found.len() > OCTETS_MAX || found.chars().any(char::is_control)) {
        findings.error(
            key("status_user"),
            format!("found {found:?}; write a name of 1 to {OCTETS_MAX} octets that nobody has"),
        );
    } else if wanted {
        findings.warning(
            key("status_user"),
            "is asked about with wrong passwords: a name that somebody has is locked by it in the end",
        );
    }
}

/// Digits alone at the end are an address that was mistyped, and no name of the DNS.
fn is_address_or_name(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    match last.bytes().all(|sign| sign.is_ascii_digit()) {
        true => text.parse::<Ipv4Addr>().is_ok(),
        false => is_host(text),
    }
}

fn windows_domain(findings: &mut Findings, settings: &Settings, target: &Target, key: &dyn Fn(&str) -> String) {
    // What a document that says nothing has.
    for (field, set) in [
        ("servers", !target.servers.is_empty()),
        ("identity_attribute", target.identity_attribute != "User-Name"),
        ("danger_trust_outer_identity", target.danger_trust_outer_identity),
        ("response_window_seconds", target.response_window_seconds != 20),
        ("zombie_seconds", target.zombie_seconds != 40),
        ("status_check", target.status_check != StatusCheck::default()),
        ("status_user", !target.status_user.is_empty()),
        ("check_interval_seconds", target.check_interval_seconds != 30),
        ("revive_seconds", target.revive_seconds != 120),
    ] {
        if set {
            findings.error(key(field), "is a key of RADIUS targets");
        }
    }
    let plain = |sign: u8| sign.is_ascii_alphanumeric() || b"-_".contains(&sign);
    if target.domain.len() > DOMAIN_CHARACTERS_MAX || !target.domain.bytes().all(plain) {
        findings.error(
            key("domain"),
            format!(
                "found {:?}; the short name of a domain has at most {DOMAIN_CHARACTERS_MAX} letters, digits, - and _",
                target.domain
            ),
        );
    }
    let directory = settings.directory(target.directory.as_str());
    let short = directory.map(|directory| directory.netbios_domain.as_str()).filter(|short| !short.is_empty());
    if let Some(short) = short.filter(|short| !target.domain.is_empty() && !target.domain.eq_ignore_ascii_case(short)) {
        findings.error(
            key("domain"),
            format!(
                "found {:?}, but the netbios_domain of directory {} is {short:?}: the passwords of one domain would be asked of another; leave it out, or name the directory of that domain",
                target.domain, target.directory
            ),
        );
    }
}

/// Two servers whose secrets have one name: dots may stand in the name of a target and in a host name.
pub(super) fn secret_names(findings: &mut Findings, settings: &Settings) {
    let mut seen = BTreeMap::new();
    for target in &settings.targets {
        for server in target.servers.iter().filter(|server| server.secret.is_some()) {
            let name = target.secret_name(server);
            // The same target, or a server of it, twice is told otherwise.
            if let Some(other) = seen.insert(name.clone(), &target.name).filter(|other| *other != &target.name) {
                findings.error(name, format!("is also the name of a secret of target {other}; rename one of the two"));
            }
        }
    }
}

pub(super) fn dictionaries(findings: &mut Findings, dictionaries: &[Dictionary]) {
    if dictionaries.len() > DICTIONARIES_MAX {
        findings.error("dictionary", format!("found {}; allowed are {DICTIONARIES_MAX}", dictionaries.len()));
    }
    for dictionary in dictionaries {
        let found = dictionary.text.len();
        if !(1..=DICTIONARY_OCTETS_MAX).contains(&found) {
            findings.error(
                format!("dictionary.{}.text", dictionary.name),
                format!("has {found} octets; allowed are 1 to {DICTIONARY_OCTETS_MAX}"),
            );
        }
    }
}
