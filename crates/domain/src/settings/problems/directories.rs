//! Directories.

use super::providers::certificate;
use super::{Findings, rules, written};
use crate::ObjectId;
use crate::identity::is_attribute;
use crate::settings::{
    AttributeMap, BindKind, Directory, Feed, Preset, QueryBind, Settings, WindowsAccount, WindowsMechanism,
    each_attribute,
};

/// FD-14
pub(super) const FILTER_CHARACTERS_MAX: usize = 4096;

pub(super) fn problems(findings: &mut Findings, settings: &Settings, directory: &Directory) {
    let key = |field: &str| format!("directory.{}.{field}", directory.name);
    servers(findings, &key("urls"), directory.preset, &directory.urls);
    match directory.ca.as_deref() {
        Some("") => {
            findings.error(key("ca"), "is empty; write the certificate as PEM text, or leave it out: the system's CAs")
        }
        Some(ca) => certificate(findings, key("ca"), ca),
        None => {}
    }
    match directory.pinned_certificates.as_deref() {
        Some("") => findings.error(
            key("pinned_certificates"),
            "is empty; write the certificate of each server as PEM text, or leave it out: a CA counts",
        ),
        Some(_) if directory.ca.is_some() => findings.error(
            key("pinned_certificates"),
            "and ca stand beside each other; where certificates are pinned no CA counts: leave one of them out",
        ),
        Some(pinned) => certificate(findings, key("pinned_certificates"), pinned),
        None => {}
    }
    findings.range(key("connect_timeout_seconds"), directory.connect_timeout_seconds, 1..=30);
    findings.range(key("timeout_seconds"), directory.timeout_seconds, 1..=120);
    findings.range(key("page_size"), directory.page_size, 1..=5000);
    if let Some(guard) = &directory.lockout_guard {
        findings.range(key("lockout_guard.wrong_passwords"), guard.wrong_passwords, 1..=100);
        findings.range(key("lockout_guard.window_minutes"), guard.window_minutes, 1..=1440);
    }
    let filters = [
        ("user_filter", &directory.user_filter),
        ("group_filter", &directory.group_filter),
        ("container_filter", &directory.container_filter),
    ];
    for (field, filter) in filters {
        if filter.chars().count() > FILTER_CHARACTERS_MAX {
            findings.error(key(field), "is longer than 4096 characters");
        }
    }
    if directory.authentication_bind.kind == BindKind::Anonymous {
        findings.error(key("authentication_bind.kind"), "\"anonymous\" proves nothing about a password; write \"tls\"");
    }
    let binds = [Some(&directory.query_bind), directory.sync_bind.as_ref()];
    let clear = binds.into_iter().flatten().any(|bind| bind.kind == BindKind::Simple)
        || directory.authentication_bind.kind == BindKind::Simple;
    if clear && !directory.danger_clear_text {
        findings.error(key("danger_clear_text"), "\"simple\" sends passwords in clear text; write \"tls\", or danger_clear_text = true for a test on one machine");
    }
    if directory.danger_clear_text {
        findings.warning(key("danger_clear_text"), "passwords may cross the network in clear text");
    }
    let windows = directory.query_bind.kind == BindKind::Windows
        || directory.sync_bind.as_ref().is_some_and(|bind| bind.kind == BindKind::Windows);
    if !windows && directory.windows_mechanism != WindowsMechanism::default() {
        findings.warning(
            key("windows_mechanism"),
            "does nothing: query_bind.kind is not \"windows\", and people's passwords go by NTLM there",
        );
    }
    own_bind(findings, directory, "query_bind", &directory.query_bind);
    if let Some(bind) = &directory.sync_bind {
        own_bind(findings, directory, "sync_bind", bind);
        if bind.kind == BindKind::Anonymous {
            findings.error(
                key("sync_bind.kind"),
                "\"anonymous\" is no account of its own; write \"tls\", or leave sync_bind out",
            );
        }
    }
    if directory.authentication_bind.kind == BindKind::Windows && directory.preset != Preset::ActiveDirectory {
        findings.error(
            key("authentication_bind.kind"),
            "\"windows\" checks the passwords of Active Directory's own accounts; write \"tls\"",
        );
    }
    names(findings, settings, directory);
    trusted(findings, directory);
    reading(findings, directory);
    attributes(findings, directory);
}

/// FD-03
fn servers(findings: &mut Findings, key: &str, preset: Preset, urls: &[String]) {
    if urls.is_empty() || urls.len() > 16 {
        findings.error(key.to_owned(), format!("found {}; allowed are 1 to 16", urls.len()));
    }
    for url in urls {
        let domain = url.strip_prefix("ldaps+srv://").or_else(|| url.strip_prefix("ldap+srv://"));
        let host = url.strip_prefix("ldaps://").or_else(|| url.strip_prefix("ldap://")).or(domain);
        if host.is_none_or(str::is_empty) {
            findings.error(
                key.to_owned(),
                format!("found {url:?}; a server is written ldaps://HOST[:PORT] or ldap://HOST[:PORT], the servers of a domain ldaps+srv://DOMAIN"),
            );
        }
        if domain.is_some_and(|domain| domain.contains([':', '/', '@', '?'])) {
            findings.error(
                key.to_owned(),
                format!("found {url:?}; behind +srv:// stands a domain and nothing else: the DNS says which port"),
            );
        }
        if is_global_catalogue(preset, url) {
            findings.error(key.to_owned(), format!("found {url:?}, {GLOBAL_CATALOGUE}"));
        }
        if domain.is_some() && preset != Preset::ActiveDirectory {
            findings.error(
                key.to_owned(),
                format!("found {url:?}; only a domain of Active Directory lists its servers in the DNS so; name them"),
            );
        }
    }
}

const GLOBAL_CATALOGUE: &str = "the port of a global catalogue, which has a part of the attributes, and members of universal groups only: write ldaps://HOST or ldap://HOST; trusted_domains is for the other domains of the forest";

/// S-53
fn is_global_catalogue(preset: Preset, url: &str) -> bool {
    let port = url.trim_end_matches('/').rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    preset == Preset::ActiveDirectory && matches!(port, Some(3268 | 3269))
}

impl Directory {
    /// What is wrong with its servers whatever they answer, in sentences.
    pub fn unfit_servers(&self) -> Vec<String> {
        let catalogues = self.urls.iter().filter(|url| is_global_catalogue(self.preset, url));
        catalogues.map(|url| format!("{url:?} is {GLOBAL_CATALOGUE}.")).collect()
    }
}

/// FD-02
fn trusted(findings: &mut Findings, directory: &Directory) {
    let key = |field: &str| format!("directory.{}.{field}", directory.name);
    if directory.trusted.len() > 64 {
        findings.error(key("trusted"), format!("found {}; allowed are 64 at most", directory.trusted.len()));
    }
    for (name, named) in &directory.trusted {
        if !written::is_domain_name(name) {
            findings.error(key("trusted"), format!("found {name:?}; a domain is written \"child.corp.example\""));
        }
        servers(findings, &key(&format!("trusted.{name}.urls")), directory.preset, &named.urls);
    }
    let confined = directory.confined_by();
    if directory.trusted_domains == Some(true) {
        for confined in &confined {
            findings.error(key("trusted_domains"), format!("{confined}; {}", confined.remedy()));
        }
    } else if !directory.trusted.is_empty() && !directory.includes_trusted_domains() {
        let why = match (directory.trusted_domains, confined.first()) {
            (None, Some(confined)) => format!(", since {confined}"),
            _ => String::new(),
        };
        findings.warning(key("trusted"), format!("does nothing: trusted_domains is off{why}"));
    }
    if directory.includes_trusted_domains()
        && directory.sync_bind.as_ref().is_some_and(|bind| directory.is_known_at_home_only(bind))
    {
        findings.warning(
            key("sync_bind"),
            "synchronisation reads this domain alone: others know no anonymous account, and none that shows a Kerberos ticket of this one",
        );
    }
}

/// FD-06, FD-08
fn own_bind(findings: &mut Findings, directory: &Directory, which: &str, bind: &QueryBind) {
    let key = |field: &str| format!("directory.{}.{which}.{field}", directory.name);
    match bind.kind {
        BindKind::Anonymous => return,
        BindKind::Windows if !directory.preset.is_microsoft() => findings.error(
            key("kind"),
            "\"windows\" is understood by Active Directory and AD LDS; write \"tls\", or the preset that it is",
        ),
        BindKind::Windows if bind.name.is_empty() && directory.windows_mechanism == WindowsMechanism::Ntlm => findings.error(
            key("name"),
            "is empty, which stands for the keytab of the host; NTLM has none: write the account, such as \"CORP\\twinlock\", or another windows_mechanism",
        ),
        BindKind::Windows if bind.name.is_empty() && bind.password.is_some() => findings.error(
            key("password"),
            "belongs to no account; write query_bind.name, such as \"CORP\\twinlock\", or leave both out for the keytab of the host",
        ),
        BindKind::Windows if bind.name.is_empty() => {}
        BindKind::Windows if WindowsAccount::parse(&bind.name).is_none() => findings.error(
            key("name"),
            format!(
                "found {:?}; an account is written \"CORP\\twinlock\" or \"twinlock@corp.example\" where kind is \"windows\"",
                bind.name
            ),
        ),
        BindKind::Windows => {}
        BindKind::Simple | BindKind::Tls if bind.name.is_empty() => {
            findings.error(key("name"), "is empty; write the bind DN");
        }
        BindKind::Simple | BindKind::Tls => {}
    }
    if bind.password.is_none() && !bind.is_by_keytab() {
        findings.error(key("password"), "is missing; write \"file:PATH\" or, for one already stored, \"keep\"");
    }
}

/// What only synchronisation asks.
fn reading(findings: &mut Findings, directory: &Directory) {
    let key = |field: &str| format!("directory.{}.{field}", directory.name);
    findings.range(key("full_every_hours"), directory.full_every_hours, 1..=168);
    findings.range(key("size_limit"), directory.size_limit, 0..=1_000_000);
    if !directory.country.is_empty() && !written::is_country(&directory.country) {
        findings.error(key("country"), rules::country(&directory.country));
    }
    if let Some(feed) = directory.feed.filter(|feed| !may_offer(directory.preset, *feed)) {
        let those: Vec<&str> =
            Feed::ALL.into_iter().filter(|feed| may_offer(directory.preset, *feed)).map(Feed::code).collect();
        findings.error(
            key("feed"),
            format!("found {:?}; a directory of this preset may offer {}", feed.code(), those.join(", ")),
        );
    }
}

/// Forcing a feed passes the probe by, so that only what could never be is refused (S-03).
fn may_offer(preset: Preset, feed: Feed) -> bool {
    match feed {
        Feed::DirSync | Feed::UsnChanged => preset.is_microsoft(),
        Feed::Syncrepl | Feed::AccessLog | Feed::Changelog => !preset.is_microsoft(),
        Feed::ModifyTimestamp => true,
    }
}

/// FD-30 to FD-41: names are looked up in the schema by `directory test`; here only what no schema has.
fn attributes(findings: &mut Findings, directory: &Directory) {
    let key = |field: &str| format!("directory.{}.attributes.{field}", directory.name);
    let map = &directory.attributes;
    if map.username.as_ref().is_some_and(Vec::is_empty) {
        findings.error(key("username"), "is empty; name an attribute, or leave the key out");
    }
    id_type(findings, key("id_type"), directory);
    let id = directory.id_attribute();
    if is_attribute(id) && each_attribute(id).nth(1).is_none() && ObjectId::known_type(id).is_none() {
        findings.warning(
            key("id"),
            "is an attribute that somebody writes: changes are followed by changelog or modify_timestamp alone, which tell of no deletion, so that who is deleted leaves with the next full run (full_every_hours); and each sign-in is one search more: index the attribute",
        );
    }
    for (field, written) in named(map) {
        match written {
            // Of a number it means that the preset's is not read.
            "" if field.starts_with("phones.") => {}
            "" => findings.error(key(field), "is empty; name an attribute, or leave the key out"),
            _ if !each_attribute(written).all(is_attribute) => findings.error(
                key(field),
                format!("found {written:?}; an attribute is written as its name, letters, digits and hyphens, or its OID, several with ; between them"),
            ),
            _ if matches!(field, "id" | "alternate") && each_attribute(written).nth(1).is_some() => findings.error(
                key(field),
                format!("found {written:?}; this stands in one attribute, name one"),
            ),
            _ => {}
        }
    }
}

/// FD-31: an id is looked up again, and found only in the form that it has.
fn id_type(findings: &mut Findings, key: String, directory: &Directory) {
    let attribute = directory.id_attribute();
    let Some(found) = directory.attributes.id_type else { return };
    if let Some(known) = ObjectId::known_type(attribute).filter(|known| *known != found) {
        findings.error(
            key,
            format!("found {:?}; {attribute} is a {:?}, write that or leave the key out", found.code(), known.code()),
        );
    }
}

/// Every attribute that the document names, with its key.
fn named(map: &AttributeMap) -> Vec<(&'static str, &str)> {
    let (languages, phones) = (&map.languages, &map.phones);
    let single = [
        ("id", &map.id),
        ("alternate", &map.alternate),
        ("first_name", &map.first_name),
        ("last_name", &map.last_name),
        ("mail", &map.mail),
        ("distinguished_name", &map.distinguished_name),
        ("container_name", &map.container_name),
        ("group_name", &map.group_name),
        ("user_group", &map.user_group),
        ("description", &map.description),
        ("languages.call", &languages.call),
        ("languages.text", &languages.text),
        ("languages.app", &languages.app),
        ("languages.code", &languages.code),
        ("phones.business", &phones.business),
        ("phones.home", &phones.home),
        ("phones.pager", &phones.pager),
        ("phones.mobile", &phones.mobile),
        ("phones.fax", &phones.fax),
        ("phones.ip", &phones.ip),
        ("phones.custom", &phones.custom),
        ("extension", &map.extension),
    ];
    let usernames = map.username.iter().flatten().map(|name| ("username", name.as_str()));
    single.into_iter().filter_map(|(field, name)| Some((field, name.as_deref()?))).chain(usernames).collect()
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
