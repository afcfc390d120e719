//! What is wrong with a settings document: each key by itself and keys together.
//!
//! ```text
//! rules         company-wide sections: verification, pin, sms, voice, mail, push, sync, texts
//! directories · targets · clients · sync_items · providers · policies          the lists
//! written       how a host, a web address, a mail address is written
//! ```

mod clients;
mod directories;
mod policies;
mod providers;
mod rules;
mod sync_items;
mod targets;
mod written;

pub use written::{is_domain_name, is_mail_address};

use super::{Channel, ClientProtocol, Settings};
use crate::Method;
use std::fmt;

/// The portal as policies and logs name it: a client without a block of its own.
const PORTAL: &str = "portal";

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

    fn range(&mut self, key: impl Into<String>, found: u32, allowed: std::ops::RangeInclusive<u32>) {
        if !allowed.contains(&found) {
            self.error(key, format!("found {found}; allowed are {} to {}", allowed.start(), allowed.end()));
        }
    }

    /// 1-128 characters, no control characters.
    fn text(&mut self, key: impl Into<String>, text: &str) {
        if !(1..=128).contains(&text.chars().count()) || text.chars().any(char::is_control) {
            self.error(key, "allowed are 1 to 128 characters without control characters");
        }
    }
}

impl Settings {
    /// Everything that is wrong, errors and warnings. A document with an error is neither saved nor applied.
    pub fn problems(&self) -> Vec<Problem> {
        let mut findings = Findings::default();
        unique_names(&mut findings, "directory", self.directories.iter().map(|it| it.name.as_str()));
        unique_names(&mut findings, "target", self.targets.iter().map(|it| it.name.as_str()));
        unique_names(&mut findings, "dictionary", self.dictionaries.iter().map(|it| it.name.as_str()));
        unique_names(&mut findings, "client", self.clients.iter().map(|it| it.name.as_str()));
        unique_names(&mut findings, "sync_item", self.sync_items.iter().map(|it| it.name.as_str()));
        unique_names(&mut findings, "policy", self.policies.iter().map(|it| it.name.as_str()));
        unique_names(&mut findings, "provider", self.providers.iter().map(|it| it.name.as_str()));
        findings.text("portal.company", &self.portal.company);
        for (protocol, key, on) in [
            (ClientProtocol::Ldap, "ldap.enabled", self.ldap.enabled),
            (ClientProtocol::Radius, "radius.enabled", self.radius.enabled),
        ] {
            let clients = self.clients.iter().filter(|client| client.protocol == protocol).count();
            if !on && clients > 0 {
                findings.warning(key, format!("is off: no port is open, and none of the {clients} clients is served"));
            }
        }
        findings.range("radius.accounting_days", self.radius.accounting_days, 1..=400);
        rules::problems(&mut findings, self);
        for directory in &self.directories {
            directories::problems(&mut findings, self, directory);
        }
        for target in &self.targets {
            targets::problems(&mut findings, self, target);
        }
        targets::secret_names(&mut findings, self);
        targets::dictionaries(&mut findings, &self.dictionaries);
        for client in &self.clients {
            clients::problems(&mut findings, self, client);
        }
        clients::overlaps(&mut findings, self);
        clients::certificates(&mut findings, self);
        for item in &self.sync_items {
            sync_items::problems(&mut findings, self, item);
        }
        sync_items::order(&mut findings, &self.sync_items);
        for rule in &self.policies {
            policies::problems(&mut findings, self, rule);
        }
        for provider in &self.providers {
            providers::problems(&mut findings, self, provider);
        }
        findings.0
    }

    fn no_such_directory(&self, found: &str) -> String {
        let known: Vec<&str> = self.directories.iter().map(|directory| directory.name.as_str()).collect();
        match known.as_slice() {
            [] => format!("found {found:?}; the document has no [[directory]]"),
            _ => format!("found {found:?}; the directories are {}", known.join(", ")),
        }
    }

    /// What a client's `target` may name, and does not.
    fn no_such_target(&self, found: &str) -> String {
        let known: Vec<&str> = self.targets.iter().map(|target| target.name.as_str()).collect();
        match known.as_slice() {
            [] => self.no_such_directory(found),
            _ => format!("{}; the targets are {}", self.no_such_directory(found), known.join(", ")),
        }
    }

    /// Why a method that is named cannot be used by anybody; `None` = it can.
    fn nobody_carries(&self, method: Method) -> Option<&'static str> {
        match method {
            Method::Sms if !self.carries(Channel::Sms) => Some(
                "\"sms\" needs an enabled [[provider]] with channel = \"sms\"; until there is one it is passed over",
            ),
            Method::Call if !self.carries(Channel::Voice) => Some(
                "\"call\" needs an enabled [[provider]] with channel = \"voice\"; until there is one it is passed over",
            ),
            Method::SmsReply if !self.sms.replies => {
                Some("\"sms_reply\" is passed over unless sms.replies is true: replies get lost and cost money")
            }
            Method::SmsReply if !self.carries(Channel::Sms) => Some(
                "\"sms_reply\" needs an enabled [[provider]] with channel = \"sms\"; until there is one it is passed over",
            ),
            Method::Push if !self.push.web && !self.push.pi => {
                Some("\"push\" is passed over: push.web and push.pi are both false")
            }
            _ => None,
        }
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
