//! Sync items: each by itself, and what their order leaves to the later ones.

use super::directories::FILTER_CHARACTERS_MAX;
use super::{Findings, rules, written};
use crate::settings::{
    Channel, Directory, InitialPin, Leavers, PhoneKind, Settings, SourceKind, SyncItem, SyncSource, SyncState,
};
use crate::{Method, ObjectId};
use std::collections::HashSet;

const LABEL_CHARACTERS_MAX: usize = 128;

type Key<'a> = &'a dyn Fn(&str) -> String;

pub(super) fn problems(findings: &mut Findings, settings: &Settings, item: &SyncItem) {
    let key = |field: &str| format!("sync_item.{}.{field}", item.name);
    let directory = settings.directory(item.directory.as_str());
    if directory.is_none() {
        findings.error(key("directory"), settings.no_such_directory(item.directory.as_str()));
    }
    if item.name != item.directory && settings.directory(item.name.as_str()).is_some() {
        findings.warning(
            key("name"),
            "is also that of a directory, which `twinlock sync now` would run instead; give the item another name",
        );
    }
    source(findings, item, directory, &key);
    if item.filter.chars().count() > FILTER_CHARACTERS_MAX {
        findings.error(key("filter"), "is longer than 4096 characters");
    }
    phones(findings, item, directory, &key);
    method(findings, settings, item, &key);
    if item.user_group.chars().count() > LABEL_CHARACTERS_MAX || item.user_group.chars().any(char::is_control) {
        findings.error(key("user_group"), "allowed are 128 characters without control characters");
    }
    if item.mail.on_add && !settings.carries(Channel::Mail) {
        findings
            .warning(key("mail.on_add"), "no mail goes out: there is no enabled [[provider]] with channel = \"mail\"");
    }
    consequences(findings, settings, item, &key);
}

/// FS-21
fn source(findings: &mut Findings, item: &SyncItem, directory: Option<&Directory>, key: Key<'_>) {
    let source = &item.source;
    match source.kind {
        SourceKind::Domain if !source.dn.is_empty() || source.id.is_some() => findings.error(
            key(if source.dn.is_empty() { "source.id" } else { "source.dn" }),
            "names an entry, but \"domain\" is all of the directory's base; write \"container\" or \"group\", or leave it out",
        ),
        SourceKind::Domain => {}
        SourceKind::Container | SourceKind::Group if source.dn.is_empty() && source.id.is_none() => {
            findings.error(key("source.dn"), "is empty; a container or group is named by its DN");
        }
        SourceKind::Container | SourceKind::Group if !source.dn.is_empty() && !source.dn.contains('=') => {
            findings.error(
                key("source.dn"),
                format!("found {:?}; a DN is written such as \"ou=people,dc=corp,dc=example\"", source.dn),
            );
        }
        SourceKind::Container | SourceKind::Group => {}
        SourceKind::Users => users(findings, source, key),
    }
    if source.kind != SourceKind::Users && !source.ids.is_empty() {
        findings.error(key("source.ids"), "is a key of \"users\"; a container or group is named by its dn or id");
    }
    if let Some(directory) = directory {
        let foreign = |id: &&ObjectId| !id.is_of(directory.id_attribute(), directory.id_type());
        let ids = source.ids.iter().find(foreign).map(|id| ("source.ids", "holds", id));
        for (field, verb, id) in source.id.iter().filter(foreign).map(|id| ("source.id", "is", id)).chain(ids) {
            let (found, known, id_type) = (id.filter_value().0, directory.id_attribute(), directory.id_type().code());
            findings.error(
                key(field),
                format!("{verb} an {found}; directory {} knows its entries by {known}, a {id_type}", directory.name),
            );
        }
    }
    if !source.subtree && source.kind != SourceKind::Container {
        findings.warning(key("source.subtree"), "is a key of containers and changes nothing here");
    }
    if !source.nested && source.kind != SourceKind::Group {
        findings.warning(key("source.nested"), "is a key of groups and changes nothing here");
    }
}

/// FS-16
fn users(findings: &mut Findings, source: &SyncSource, key: Key<'_>) {
    if !source.dn.is_empty() || source.id.is_some() {
        findings.error(
            key(if source.dn.is_empty() { "source.id" } else { "source.dn" }),
            "names one entry; users are named by source.ids",
        );
    }
    match source.ids.len() {
        0 => findings.error(key("source.ids"), "is empty; users are named by their ids, or by `twinlock sync import`"),
        1..=SourceKind::USERS_MAX => {}
        found => findings.error(
            key("source.ids"),
            format!("holds {found}; allowed are {}: take a container, a group or a filter", SourceKind::USERS_MAX),
        ),
    }
    let mut seen = HashSet::new();
    if let Some(doubled) = source.ids.iter().find(|id| !seen.insert(*id)) {
        findings.warning(key("source.ids"), format!("holds {doubled} twice"));
    }
}

/// FS-27 to FS-29
fn phones(findings: &mut Findings, item: &SyncItem, directory: Option<&Directory>, key: Key<'_>) {
    for (field, kinds) in [("primary_phone", &item.primary_phone), ("backup_phone", &item.backup_phone)] {
        if let Some(doubled) = first_doubled(kinds) {
            findings.warning(key(field), format!("holds {:?} twice", doubled.code()));
        }
        let unread = directory.and_then(|it| kinds.iter().find(|kind| it.phone_attributes(**kind).next().is_none()));
        if let (Some(kind), Some(directory)) = (unread, directory) {
            findings.warning(
                key(field),
                format!(
                    "holds \"{code}\", which is never found: directory {} has no attributes.phones.{code}",
                    directory.name,
                    code = kind.code()
                ),
            );
        }
    }
    let same = item.backup_phone.iter().all(|kind| item.primary_phone.first() == Some(kind));
    if same && !item.backup_phone.is_empty() {
        findings.warning(key("backup_phone"), "is the first primary number again, so that nobody has a backup number");
    }
    if !item.country.is_empty() && !written::is_country(&item.country) {
        findings.error(key("country"), rules::country(&item.country));
    }
}

fn first_doubled(kinds: &[PhoneKind]) -> Option<PhoneKind> {
    let mut later = kinds;
    while let [kind, rest @ ..] = later {
        if rest.contains(kind) {
            return Some(*kind);
        }
        later = rest;
    }
    None
}

/// FS-31
fn method(findings: &mut Findings, settings: &Settings, item: &SyncItem, key: Key<'_>) {
    let allowed = &item.method.allowed;
    if let Some(method) = item.method.default_method {
        if matches!(method, Method::Recovery | Method::Passkey | Method::Questions) {
            findings.error(
                key("method.default"),
                format!("found {:?}; allowed are push, call, sms, sms_reply, code", method.code()),
            );
        } else if !allowed.is_empty() && !allowed.contains(&method) {
            findings
                .error(key("method.default"), format!("found {:?}, which method.allowed leaves out", method.code()));
        } else if let Some(why) = settings.nobody_carries(method) {
            findings.warning(key("method.default"), why);
        }
    }
    if item.method.initial_pin == InitialPin::Mailed {
        initial_pin(findings, settings, item, key);
    }
    let can_sign_in = |method: &&Method| settings.nobody_carries(**method).is_none();
    if !allowed.is_empty() && allowed.iter().find(can_sign_in).is_none() {
        findings.warning(key("method.allowed"), "holds no method that anybody can use as things stand");
    }
}

/// FV-21
fn initial_pin(findings: &mut Findings, settings: &Settings, item: &SyncItem, key: Key<'_>) {
    let key = key("method.initial_pin");
    if !settings.pin.danger_mail_initial_pin {
        return findings.error(
            key,
            "found \"mailed\", which needs pin.danger_mail_initial_pin = true; without it new users choose their PIN themselves",
        );
    }
    if !settings.carries(Channel::Mail) {
        findings.warning(
            key.clone(),
            "is \"mailed\", and no mail goes out: there is no enabled [[provider]] with channel = \"mail\"",
        );
    }
    let of_client = settings.clients.iter().any(|client| client.pin);
    let of_policy = settings.policies.iter().any(|policy| policy.then.pin == Some(true));
    if !item.method.pin.unwrap_or(settings.pin.new_users) && !of_client && !of_policy {
        findings.warning(key, "is \"mailed\", and nobody asks these users for a PIN: set method.pin = true");
    }
}

/// What is allowed and should not come as a surprise.
fn consequences(findings: &mut Findings, settings: &Settings, item: &SyncItem, key: Key<'_>) {
    if item.state == SyncState::Preview {
        findings.warning(key("state"), "is \"preview\": its users are listed, and nothing of them is written");
    }
    if item.leavers == Leavers::Remove {
        findings.warning(
            key("leavers"),
            match settings.sync.grace_days {
                0 => {
                    "is \"remove\", and sync.grace_days is 0: whoever leaves loses every method for good at once".into()
                }
                days => format!("is \"remove\": whoever leaves loses every method for good after {days} days"),
            },
        );
    }
    if !item.second_factor {
        findings.warning(key("second_factor"), "is false: these users sign in with the password alone");
    }
}

/// FS-08: the first item that has a user owns it, so that an item may stand where nobody is left for it.
pub(super) fn order(findings: &mut Findings, items: &[SyncItem]) {
    let on: Vec<&SyncItem> = items.iter().filter(|item| item.state == SyncState::On).collect();
    for (place, item) in on.iter().enumerate() {
        let takes_all = |earlier: &&&SyncItem| {
            let everybody = earlier.source.kind == SourceKind::Domain && earlier.filter.is_empty();
            let alike = earlier.source == item.source && earlier.filter == item.filter;
            earlier.directory == item.directory && (everybody || alike)
        };
        if let Some(earlier) = on.iter().take(place).find(takes_all) {
            findings.warning(
                format!("sync_item.{}", item.name),
                format!("never has a user: {}, which stands before it, takes all of them", earlier.name),
            );
        }
    }
}
