//! Directories.

use super::Findings;
use crate::settings::{BindKind, Directory, Settings};

pub(super) fn problems(findings: &mut Findings, settings: &Settings, directory: &Directory) {
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
    if let Some(guard) = &directory.lockout_guard {
        findings.range(key("lockout_guard.wrong_passwords"), guard.wrong_passwords, 1..=100);
        findings.range(key("lockout_guard.window_minutes"), guard.window_minutes, 1..=1440);
    }
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
    names(findings, settings, directory);
}

/// FD-18, FD-19
fn names(findings: &mut Findings, settings: &Settings, directory: &Directory) {
    let key = |field: &str| format!("directory.{}.{field}", directory.name);
    for (field, domain) in
        [("netbios_domain", &directory.netbios_domain), ("default_domain", &directory.default_domain)]
    {
        let in_a_domain = |sign: char| !(sign.is_whitespace() || sign.is_control() || r"\/@".contains(sign));
        if domain.len() > 255 || !domain.chars().all(in_a_domain) {
            findings.error(
                key(field),
                format!("found {domain:?}; a domain is written by itself, such as \"corp.example\""),
            );
        }
    }
    if directory.alternate_attribute().is_some_and(str::is_empty) {
        findings.error(key("attributes.alternate"), "is empty; name an attribute, or leave the key out");
    }
    let list = &directory.alternate_directories;
    if list.len() > 16 {
        findings.error(key("alternate_directories"), format!("found {}; allowed are 16 at most", list.len()));
    }
    for (index, other) in list.iter().enumerate() {
        let key = key("alternate_directories");
        match settings.directory(other.as_str()) {
            None => findings.error(key, settings.no_such_directory(other.as_str())),
            Some(_) if *other == directory.name || list.iter().take(index).any(|before| before == other) => {
                findings.error(key, format!("found {other} twice; this directory itself comes first in any case"));
            }
            Some(listed) if listed.alternate_attribute().is_none() => findings.error(
                key,
                format!("directory {other} has no attributes.alternate, so that nobody has an alternate name there"),
            ),
            Some(_) => {}
        }
    }
}
