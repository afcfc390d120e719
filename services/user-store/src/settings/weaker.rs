//! What of a change weakens security: an administrator has to say why, and the audit keeps it. Pure.

use super::changes::{fields as fields_of, objects};
use domain::settings::{Client, Directory, PolicyRule, Settings, SyncItem, SyncSource, SyncState, Then};
use domain::{ObjectId, ObjectName};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// By key.
type Entries = BTreeMap<String, Value>;

/// When another value of a key is the weaker one. What is new is compared with what holds where nothing is written.
#[derive(Clone, Copy)]
enum Weaker {
    /// From the strongest to the weakest; the place of the one that holds where nothing is written. A word that is not here is as strong
    /// as the first.
    Words(&'static [&'static str], usize),
    /// A higher number; the one that holds where nothing is written.
    More(i64),
    /// A lower one.
    Less(i64),
    /// A higher one, and 0 is without end.
    MoreOrZero(i64),
    /// A lower one, but 0 is without end.
    LessNotZero(i64),
    /// Something where there was nothing.
    Present,
    /// Nothing where there was something, or nothing written at all.
    Absent,
    /// A later moment; none is never.
    Later,
    /// A later moment; none is without end.
    LaterOrNone,
    /// Whoever it names is let through, and nothing written is everybody: nobody named any longer, or somebody else too.
    OneOf,
    /// Somebody named who was not.
    Wider,
    /// Another value, whichever: none of them is the stronger one. The one that holds where nothing is written.
    Other(&'static str),
    /// A word that is called so itself.
    Danger,
    /// Where the table that it is in is on both sides: whether that is there is a key of its own.
    Within(&'static Weaker),
}

use Weaker::{
    Absent, Danger, Later, LaterOrNone, Less, LessNotZero, More, MoreOrZero, OneOf, Other, Present, Wider, Within,
    Words,
};

const OFF_ON: Weaker = Words(&["false", "true"], 0);
const OFF_ON_BY_DEFAULT: Weaker = Words(&["false", "true"], 1);
const ON_OFF: Weaker = Words(&["true", "false"], 0);
const ASSURANCE: Weaker = Words(&["passkey", "number_matched", "code", "phone", "approve_only", "none"], 5);
const REFUSE_PASS: Weaker = Words(&["refuse", "pass"], 0);
/// As it is elsewhere where nothing is written.
const PIN: Weaker = Words(&["true", "", "false"], 1);

/// What stands in the place of a section for a sync item whose users need no second factor, before and after.
const EXEMPT_ITEM: &str = "exempt_item";

/// Section and key; `*` stands for an entry of a list. Beside these: whatever is called `danger_...`.
const KEYS: [(&str, &str, Weaker); 85] = [
    ("portal", "first_enrolment", Words(&["off", "invitation", "open"], 1)),
    ("verification", "cool_down_seconds", Less(60)),
    ("verification", "prompts_per_day", More(50)),
    ("verification", "fraud_blocks", ON_OFF),
    ("verification", "block_days", LessNotZero(90)),
    ("verification", "bypass_max_seconds", More(86_400)),
    ("verification", "questions", OFF_ON),
    ("pin", "new_users", Words(&["true", "false"], 1)),
    ("pin", "length_min", Less(4)),
    ("pin", "history", Less(5)),
    ("pin", "life_days", MoreOrZero(0)),
    ("pin", "initial_days", More(14)),
    ("pin", "lock_tries", More(5)),
    ("pin", "lock_window_minutes", Less(30)),
    ("pin", "lock_minutes", LessNotZero(60)),
    ("sms", "digits", Less(6)),
    ("sms", "life_seconds", More(300)),
    ("push", "without_passkey", OFF_ON_BY_DEFAULT),
    ("sync", "approval_over_users", More(5)),
    ("sync", "approval_over_percent", MoreOrZero(5)),
    ("sync", "phone_hold_hours", Less(0)),
    ("sync", "phone_back_minutes", Less(60)),
    ("sync_item", "second_factor", ON_OFF),
    ("sync_item", "leavers", Words(&["disable", "keep"], 0)),
    ("sync_item", "disabled_in_directory", Words(&["disable", "keep"], 0)),
    ("sync_item", "returning", Words(&["re_enrol", "keep_factors"], 0)),
    ("sync_item", "new_users", Words(&["disabled", "must_enrol", "enabled"], 2)),
    ("sync_item", "method.pin", PIN),
    ("sync_item", "method.allowed", OneOf),
    (EXEMPT_ITEM, "directory", Other("")),
    (EXEMPT_ITEM, "state", Words(&["off", "on"], 1)),
    (EXEMPT_ITEM, "add", OFF_ON_BY_DEFAULT),
    (EXEMPT_ITEM, "source.kind", Other("")),
    (EXEMPT_ITEM, "source.dn", Other("")),
    (EXEMPT_ITEM, "source.id", Other("")),
    (EXEMPT_ITEM, "source.ids", Wider),
    (EXEMPT_ITEM, "source.subtree", OFF_ON_BY_DEFAULT),
    (EXEMPT_ITEM, "source.nested", OFF_ON_BY_DEFAULT),
    (EXEMPT_ITEM, "filter", OneOf),
    ("directory", "lockout_guard", Absent),
    ("directory", "lockout_guard.wrong_passwords", Within(&More(0))),
    ("directory", "lockout_guard.window_minutes", Within(&Less(0))),
    ("directory", "pinned_certificates", OneOf),
    ("target", "servers.*.message_authenticator", Words(&["yes", "auto", "no"], 0)),
    ("client", "message_authenticator", Words(&["yes", "auto", "no"], 0)),
    ("client", "limit_proxy_state", Words(&["yes", "auto", "no"], 1)),
    ("client", "transport", Words(&["tls", "udp"], 1)),
    ("client", "without_credentials", REFUSE_PASS),
    ("client", "answers_max", More(3)),
    ("client", "certificates", OneOf),
    ("client", "ca", OneOf),
    ("client", "client_certificate", Words(&["required", "off"], 1)),
    ("client", "anonymous", Words(&["refuse", "rootdse", "forward"], 1)),
    ("client", "operations", Words(&["bind", "read", "all"], 2)),
    ("client", "referrals", Words(&["drop", "rewrite", "pass"], 0)),
    ("client", "extended_operations.*", Present),
    ("client", "trusted_controls.*", Present),
    ("client", "service_accounts.*.name", Present),
    ("client", "service_accounts.*.sources", Within(&OneOf)),
    ("client", "service_accounts.*.certificates", Within(&OneOf)),
    ("client", "password_protocols", OneOf),
    ("client", "name_forms", OneOf),
    ("client", "unknown_user", REFUSE_PASS),
    ("client", "not_enrolled", REFUSE_PASS),
    ("client", "number_matching", Words(&["yes", "no"], 0)),
    ("client", "pin", Words(&["true", "false"], 1)),
    ("client", "least_assurance", ASSURANCE),
    ("client", "methods", OneOf),
    ("client", "groups", OneOf),
    ("client", "person_address", Other("peer")),
    ("client", "trusted_networks.*", Present),
    ("client", "remember", Present),
    ("client", "remember.kind", Words(&["user_source_password", "user_source", "user"], 0)),
    ("client", "remember.idle_seconds", More(300)),
    ("client", "remember.life_seconds", More(28_800)),
    ("client", "remember.methods", Within(&OneOf)),
    ("client", "when_unavailable", REFUSE_PASS),
    ("client", "when_unavailable_groups", OneOf),
    ("client", "when_unavailable_until", LaterOrNone),
    ("client", "observe_until", Later),
    ("policy", "then.exempt", OFF_ON),
    ("policy", "then.refuse", Words(&["true", "false"], 1)),
    ("policy", "then.pin", PIN),
    ("policy", "then.least_assurance", ASSURANCE),
    ("policy", "then.methods", OneOf),
];

/// The keys that `next` makes weaker than they are, in a stable order.
pub fn weaker(old: &Settings, next: &Settings) -> Vec<String> {
    let (before, after) = (objects(old), objects(next));
    let mut weaker = Vec::new();
    for (object, fields) in &after {
        let (section, same, is) = (section(object), before.get(object), entries(fields));
        let mut keys = weaker_keys(section, &same.map(entries).unwrap_or_default(), &is);
        // Under a new name it may be any of those that are gone. A rule that is gone is named below.
        let renamed = same.is_none() && section != "policy";
        let gone = before.iter().filter(|(name, _)| self::section(name) == section && !after.contains_key(*name));
        for (_, was) in gone.filter(|_| renamed) {
            keys.extend(weaker_keys(section, &entries(was), &is));
        }
        weaker.extend(keys.iter().map(|key| format!("{object}.{key}")));
    }
    let apart = weaker_rules(old, next).into_iter().chain(weaker_order_of_items(old, next));
    let apart: BTreeSet<String> = apart.chain(other_domains(old, next)).collect();
    weaker.extend(apart);
    weaker
}

fn section(object: &str) -> &str {
    object.split('.').next().unwrap_or_default()
}

/// Of one object.
fn weaker_keys(section: &str, was: &Entries, is: &Entries) -> BTreeSet<String> {
    let exempt = |fields: &Entries| fields.get("second_factor") == Some(&Value::Bool(false));
    let exempt = section == "sync_item" && exempt(was) && exempt(is);
    let keys = was.keys().chain(is.keys()).filter(|key| {
        let table = key.rsplit_once('.').map_or("", |(table, _)| table);
        let is_weaker = |section: &str| match rule(section, key) {
            Within(_) if !(was.contains_key(table) && is.contains_key(table)) => false,
            rule => rule.is_weaker(was.get(*key), is.get(*key)),
        };
        is_weaker(section) || exempt && is_weaker(EXEMPT_ITEM)
    });
    keys.cloned().collect()
}

/// Of the rules, the first that fits decides: where one is gone, looks at something else or stands behind another one, those that it
/// asked for more are asked for less.
fn weaker_rules(old: &Settings, next: &Settings) -> Vec<String> {
    let place = |rules: &[PolicyRule], name: &ObjectName| rules.iter().position(|rule| rule.name == *name);
    let gone = old.policies.iter().filter(|rule| !rule.then.exempt && place(&next.policies, &rule.name).is_none());
    let mut weaker: Vec<String> = gone.map(|rule| format!("policy.{}", rule.name)).collect();
    for (at, rule) in next.policies.iter().enumerate() {
        let (name, then, was_at) = (&rule.name, &rule.then, place(&old.policies, &rule.name));
        // To refuse before others are asked is not to ask for less.
        let overtaken = next.policies[at + 1..].iter().any(|behind| {
            let before = place(&old.policies, &behind.name);
            !then.refuse && before.is_some_and(|before| was_at.is_none_or(|was_at| before < was_at))
        });
        let was = was_at.map(|place| &old.policies[place]);
        match was {
            None if overtaken => weaker.push(format!("policy.{name}")),
            Some(_) if overtaken => weaker.push(format!("policy.{name}.order")),
            _ => {}
        }
        if was.is_some_and(|was| was.when != rule.when) {
            weaker.push(format!("policy.{name}.when"));
        }
        // What the rule did not say before was as its clients have it.
        let said = |says: fn(&Then) -> bool| was.is_some_and(|was| was.then.exempt || says(&was.then));
        let concerned = |client: &&Client| rule.when.clients.is_empty() || rule.when.clients.contains(&client.name);
        let mut clients = old.clients.iter().chain(&next.clients).filter(concerned);
        if let Some(least) = then.least_assurance.filter(|_| !said(|then| then.least_assurance.is_some()))
            && clients.clone().any(|client| client.least_assurance > least)
        {
            weaker.push(format!("policy.{name}.then.least_assurance"));
        }
        if !said(|then| !then.methods.is_empty())
            && clients.any(|client| then.methods.iter().any(|method| !client.methods.contains(method)))
        {
            weaker.push(format!("policy.{name}.then.methods"));
        }
    }
    weaker
}

/// Directories whose names, and users, are those of other domains now, too (FD-02): as it is written, or as the rest of them says. One that
/// is new has nobody yet; under a new name it may be any of those that are gone.
fn other_domains(old: &Settings, next: &Settings) -> Vec<String> {
    let gone = |was: &&Directory| next.directory(was.name.as_str()).is_none();
    let is_wider = |is: &&Directory| {
        let was = old.directory(is.name.as_str());
        let mut all = was.into_iter().chain(old.directories.iter().filter(|it| was.is_none() && gone(it)));
        is.includes_trusted_domains() && all.any(|was| !was.includes_trusted_domains())
    };
    next.directories.iter().filter(is_wider).map(|is| format!("directory.{}.trusted_domains", is.name)).collect()
}

/// Users belong to the first item that holds them: those before an item without a second factor keep theirs from it.
fn weaker_order_of_items(old: &Settings, next: &Settings) -> Vec<String> {
    let mut weaker = Vec::new();
    let is_exempt = |item: &&SyncItem| !item.second_factor && item.state == SyncState::On;
    for (at, exempt) in next.sync_items.iter().enumerate().filter(|(_, item)| is_exempt(item)) {
        // One that is new, was off or had one is named as such.
        let Some(was_at) = old.sync_items.iter().position(|item| item.name == exempt.name && is_exempt(&item)) else {
            continue;
        };
        let holds =
            |item: &&SyncItem| item.second_factor && item.state == SyncState::On && item.directory == exempt.directory;
        for before in old.sync_items[..was_at].iter().filter(holds) {
            match next.sync_items[..at].iter().filter(holds).find(|item| item.name == before.name) {
                None => weaker.push(format!("sync_item.{}.order", exempt.name)),
                Some(after) if !holds_as_many(before, after) => {
                    weaker.push(format!("sync_item.{}.source", before.name))
                }
                Some(_) => {}
            }
        }
    }
    weaker
}

/// As far as the settings tell.
fn holds_as_many(before: &SyncItem, after: &SyncItem) -> bool {
    let ids: HashSet<&ObjectId> = after.source.ids.iter().collect();
    let unfiltered = after.filter.is_empty() || after.filter == before.filter;
    let same = SyncSource { ids: before.source.ids.clone(), ..after.source.clone() } == before.source;
    unfiltered && same && before.source.ids.iter().all(|id| ids.contains(id))
}

fn rule(section: &str, key: &str) -> Weaker {
    if key.split('.').next_back().is_some_and(|last| last.starts_with("danger_")) {
        return OFF_ON;
    }
    let fits = |pattern: &str| match pattern.split_once('*') {
        None => pattern == key,
        Some((start, end)) => key.strip_prefix(start).is_some_and(|rest| rest.len() > end.len() && rest.ends_with(end)),
    };
    let found = KEYS.iter().find(|(of, pattern, _)| *of == section && fits(pattern));
    found.map_or(Danger, |(_, _, rule)| *rule)
}

impl Weaker {
    fn is_weaker(self, was: Option<&Value>, is: Option<&Value>) -> bool {
        match self {
            OneOf => {
                let (was, is) = (parts(was), parts(is));
                !was.is_empty() && (is.is_empty() || !is.is_subset(&was))
            }
            Wider => !parts(is).is_subset(&parts(was)),
            Other(default) => {
                let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or(default).to_owned();
                text(was) != text(is)
            }
            Within(rule) => rule.is_weaker(was, is),
            rule => rule.rank(is) > rule.rank(was),
        }
    }

    /// How weak a value is, compared with another one of the same key; `None` = nothing is written.
    fn rank(self, value: Option<&Value>) -> i64 {
        let number = |default: i64| value.and_then(Value::as_i64).unwrap_or(default);
        match self {
            Words(words, default) => {
                let word = value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                let place = word.map_or(default, |word| words.iter().position(|it| *it == word).unwrap_or(0));
                i64::try_from(place).unwrap_or(i64::MAX)
            }
            More(default) => number(default),
            Less(default) => -number(default),
            MoreOrZero(default) => match number(default) {
                0 => i64::MAX,
                number => number,
            },
            LessNotZero(default) => match number(default) {
                0 => i64::MIN,
                number => -number,
            },
            Present => i64::from(is_there(value)),
            Absent => i64::from(!is_there(value)),
            Later => value.map_or(0, moment),
            LaterOrNone => value.map_or(i64::MAX, moment),
            Danger => i64::from(value.and_then(Value::as_str).is_some_and(|word| word.starts_with("danger_"))),
            // These are no matter of more or less.
            OneOf | Wider | Other(_) | Within(_) => 0,
        }
    }
}

fn is_there(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !matches!(value, Value::Null) && value.as_array().is_none_or(|list| !list.is_empty()))
}

/// The entries of a list, or the certificates of a text.
fn parts(value: Option<&Value>) -> BTreeSet<String> {
    match value {
        Some(Value::Array(list)) => list.iter().map(ToString::to_string).collect(),
        Some(Value::String(text)) => {
            let parts = text.split_inclusive("-----END CERTIFICATE-----").map(str::trim);
            parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Orders times as they are written: by their digits to the second. Other zones are rare, and some hours.
fn moment(value: &Value) -> i64 {
    let digits = value.as_str().unwrap_or_default().chars().filter(char::is_ascii_digit).take(14);
    digits.collect::<String>().parse().unwrap_or(0)
}

/// The fields of an object, and those of its lists: an entry by its name, its address or itself, a table beside its fields.
fn entries(fields: &Entries) -> Entries {
    let mut entries = fields.clone();
    for (key, value) in fields {
        for (start, _) in key.match_indices('.') {
            entries.insert(key[..start].to_owned(), Value::Bool(true));
        }
        for entry in value.as_array().into_iter().flatten() {
            let field = |name: &str| entry.get(name).and_then(Value::as_str);
            match (entry, entry.as_str().or_else(|| field("name")).or_else(|| field("address"))) {
                (Value::Object(_), Some(name)) => {
                    entries.insert(format!("{key}.{name}"), Value::Bool(true));
                    let inner = fields_of(entry);
                    entries.extend(inner.into_iter().map(|(field, value)| (format!("{key}.{name}.{field}"), value)));
                }
                (_, Some(name)) => drop(entries.insert(format!("{key}.{name}"), Value::Bool(true))),
                (_, None) => {}
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: &str = "[[directory]]\nname = \"corp\"\nurls = [\"ldaps://dc1\"]\nbase = \"dc=corp\"\n\
                             query_bind = { kind = \"anonymous\" }\n";

    fn settings(text: &str) -> Settings {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// A document with one object of the section, and what is written in it.
    fn object(section: &str, text: &str) -> Settings {
        let needed = match section {
            "directory" => return settings(&format!("{DIRECTORY}{text}\n")),
            "sync_item" => "name = \"x\"\ndirectory = \"corp\"\nsource = { kind = \"domain\" }\n",
            "client" => "name = \"x\"\nprotocol = \"radius\"\ntarget = \"corp\"\n",
            "target" => "name = \"x\"\nkind = \"radius\"\ndirectory = \"corp\"\n",
            "policy" => "name = \"x\"\n",
            EXEMPT_ITEM => return settings(&exempt_item("x", text)),
            "provider" => "name = \"x\"\nchannel = \"mail\"\n",
            section => return settings(&format!("[{section}]\n{text}\n")),
        };
        settings(&format!("[[{section}]]\n{needed}{text}\n"))
    }

    /// A sync item whose users need no second factor.
    fn exempt_item(name: &str, text: &str) -> String {
        let unless = |key: &str, otherwise: &str| if text.contains(key) { String::new() } else { otherwise.to_owned() };
        let (directory, source) =
            (unless("directory", "directory = 'corp'\n"), unless("source", "source = { kind = 'domain' }\n"));
        format!("[[sync_item]]\nname = '{name}'\nsecond_factor = false\n{directory}{source}{text}\n")
    }

    const IDS: [&str; 2] =
        ["entryUUID:00000000-0000-0000-0000-000000000001", "entryUUID:00000000-0000-0000-0000-000000000002"];

    /// Section, key, a stronger and a weaker value as the document has them; empty = not written.
    const CASES: [(&str, &str, &str, &str); 106] = [
        ("portal", "first_enrolment", "first_enrolment = 'off'", ""),
        ("portal", "first_enrolment", "", "first_enrolment = 'open'"),
        ("verification", "cool_down_seconds", "", "cool_down_seconds = 0"),
        ("verification", "prompts_per_day", "", "prompts_per_day = 51"),
        ("verification", "fraud_blocks", "", "fraud_blocks = false"),
        ("verification", "block_days", "block_days = 0", "block_days = 90"),
        ("verification", "bypass_max_seconds", "bypass_max_seconds = 60", ""),
        ("verification", "questions", "", "questions = true"),
        ("pin", "new_users", "new_users = true", ""),
        ("pin", "length_min", "length_min = 6", ""),
        ("pin", "history", "", "history = 0"),
        ("pin", "life_days", "life_days = 30", ""),
        ("pin", "initial_days", "", "initial_days = 90"),
        ("pin", "lock_tries", "", "lock_tries = 20"),
        ("pin", "lock_window_minutes", "", "lock_window_minutes = 1"),
        ("pin", "lock_minutes", "lock_minutes = 0", ""),
        ("pin", "danger_mail_initial_pin", "", "danger_mail_initial_pin = true"),
        ("sms", "digits", "digits = 8", ""),
        ("sms", "life_seconds", "life_seconds = 60", ""),
        ("push", "without_passkey", "without_passkey = false", ""),
        ("sync", "approval_over_users", "", "approval_over_users = 6"),
        ("sync", "approval_over_percent", "approval_over_percent = 100", "approval_over_percent = 0"),
        ("sync", "phone_hold_hours", "phone_hold_hours = 24", ""),
        ("sync", "phone_back_minutes", "", "phone_back_minutes = 0"),
        ("sync_item", "second_factor", "", "second_factor = false"),
        ("sync_item", "leavers", "leavers = 'remove'", "leavers = 'keep'"),
        ("sync_item", "disabled_in_directory", "", "disabled_in_directory = 'keep'"),
        ("sync_item", "returning", "", "returning = 'keep_factors'"),
        ("sync_item", "new_users", "new_users = 'must_enrol'", ""),
        ("sync_item", "method.pin", "method = { pin = true }", ""),
        ("sync_item", "method.pin", "", "method = { pin = false }"),
        ("sync_item", "method.allowed", "method = { allowed = ['code'] }", ""),
        (EXEMPT_ITEM, "directory", "directory = 'corp'", "directory = 'lab'"),
        (EXEMPT_ITEM, "state", "state = 'preview'", "state = 'on'"),
        (EXEMPT_ITEM, "add", "add = false", ""),
        (
            EXEMPT_ITEM,
            "source.kind",
            "source = { kind = 'container', dn = 'ou=a' }",
            "source = { kind = 'group', dn = 'ou=a' }",
        ),
        (
            EXEMPT_ITEM,
            "source.dn",
            "source = { kind = 'group', dn = 'cn=a' }",
            "source = { kind = 'group', dn = 'cn=b' }",
        ),
        (
            EXEMPT_ITEM,
            "source.id",
            "source = { kind = 'group', id = 'entryUUID:00000000-0000-0000-0000-000000000001' }",
            "source = { kind = 'group', id = 'entryUUID:00000000-0000-0000-0000-000000000002' }",
        ),
        (
            EXEMPT_ITEM,
            "source.ids",
            "source = { kind = 'users', ids = ['entryUUID:00000000-0000-0000-0000-000000000001'] }",
            "source = { kind = 'users', ids = ['entryUUID:00000000-0000-0000-0000-000000000001', \
             'entryUUID:00000000-0000-0000-0000-000000000002'] }",
        ),
        (
            EXEMPT_ITEM,
            "source.subtree",
            "source = { kind = 'container', dn = 'ou=a', subtree = false }",
            "source = { kind = 'container', dn = 'ou=a' }",
        ),
        (
            EXEMPT_ITEM,
            "source.nested",
            "source = { kind = 'group', dn = 'ou=a', nested = false }",
            "source = { kind = 'group', dn = 'ou=a' }",
        ),
        (EXEMPT_ITEM, "filter", "filter = '(title=robot)'", ""),
        ("directory", "lockout_guard", "lockout_guard = { wrong_passwords = 3, window_minutes = 30 }", ""),
        (
            "directory",
            "lockout_guard.wrong_passwords",
            "lockout_guard = { wrong_passwords = 3, window_minutes = 30 }",
            "lockout_guard = { wrong_passwords = 4, window_minutes = 30 }",
        ),
        (
            "directory",
            "lockout_guard.window_minutes",
            "lockout_guard = { wrong_passwords = 3, window_minutes = 30 }",
            "lockout_guard = { wrong_passwords = 3, window_minutes = 5 }",
        ),
        ("directory", "pinned_certificates", "pinned_certificates = 'PEM'", ""),
        (
            "directory",
            "pinned_certificates",
            "pinned_certificates = 'a -----END CERTIFICATE-----'",
            "pinned_certificates = \"b -----END CERTIFICATE-----\\na -----END CERTIFICATE-----\"",
        ),
        ("directory", "trusted_domains", "", "trusted_domains = true"),
        ("directory", "danger_clear_text", "", "danger_clear_text = true"),
        ("target", "danger_trust_outer_identity", "", "danger_trust_outer_identity = true"),
        (
            "target",
            "servers.r1.example.message_authenticator",
            "servers = [{ address = 'r1.example' }]",
            "servers = [{ address = 'r1.example', message_authenticator = 'no' }]",
        ),
        ("client", "message_authenticator", "", "message_authenticator = 'auto'"),
        ("client", "message_authenticator", "message_authenticator = 'auto'", "message_authenticator = 'no'"),
        ("client", "limit_proxy_state", "", "limit_proxy_state = 'no'"),
        ("client", "danger_accept_blastradius", "", "danger_accept_blastradius = true"),
        ("client", "transport", "transport = 'tls'", ""),
        ("client", "without_credentials", "", "without_credentials = 'pass'"),
        ("client", "answers_max", "", "answers_max = 5"),
        ("client", "tls", "", "tls = 'danger_optional'"),
        ("client", "password_protocols", "password_protocols = ['pap']", ""),
        ("client", "password_protocols", "password_protocols = ['eap']", "password_protocols = ['eap', 'ms_chap2']"),
        ("client", "name_forms", "name_forms = ['bare']", "name_forms = ['bare', 'alternate']"),
        ("client", "certificates", "certificates = ['dns:a']", ""),
        ("client", "certificates", "certificates = ['dns:a']", "certificates = ['dns:a', 'dns:b']"),
        ("client", "ca", "ca = 'PEM'", ""),
        ("client", "client_certificate", "client_certificate = 'required'", ""),
        ("client", "anonymous", "", "anonymous = 'forward'"),
        ("client", "operations", "operations = 'bind'", ""),
        ("client", "referrals", "", "referrals = 'pass'"),
        ("client", "extended_operations.1.2.3", "", "extended_operations = ['1.2.3']"),
        ("client", "trusted_controls.1.2.3", "", "trusted_controls = ['1.2.3']"),
        (
            "client",
            "service_accounts.cn=a.name",
            "",
            "service_accounts = [{ name = 'cn=a', sources = ['10.0.0.1/32'], certificates = ['dns:a'] }]",
        ),
        (
            "client",
            "service_accounts.cn=a.sources",
            "service_accounts = [{ name = 'cn=a', sources = ['10.0.0.1/32'] }]",
            "service_accounts = [{ name = 'cn=a' }]",
        ),
        (
            "client",
            "service_accounts.cn=a.sources",
            "service_accounts = [{ name = 'cn=a', sources = ['10.0.0.1/32'] }]",
            "service_accounts = [{ name = 'cn=a', sources = ['10.0.0.1/32', '0.0.0.0/0'] }]",
        ),
        (
            "client",
            "service_accounts.cn=a.certificates",
            "service_accounts = [{ name = 'cn=a', certificates = ['dns:a'] }]",
            "service_accounts = [{ name = 'cn=a' }]",
        ),
        (
            "client",
            "service_accounts.cn=a.certificates",
            "service_accounts = [{ name = 'cn=a', certificates = ['dns:a'] }]",
            "service_accounts = [{ name = 'cn=a', certificates = ['dns:a', 'dns:b'] }]",
        ),
        ("client", "unknown_user", "", "unknown_user = 'pass'"),
        ("client", "not_enrolled", "", "not_enrolled = 'pass'"),
        ("client", "number_matching", "", "number_matching = 'no'"),
        ("client", "pin", "pin = true", ""),
        ("client", "least_assurance", "least_assurance = 'code'", ""),
        ("client", "methods", "methods = ['code']", ""),
        ("client", "methods", "methods = ['code']", "methods = ['sms', 'code']"),
        ("client", "groups", "groups = ['cn=vpn']", ""),
        ("client", "groups", "groups = ['cn=vpn']", "groups = ['cn=all', 'cn=vpn']"),
        ("client", "person_address", "", "person_address = 'calling_station_id'"),
        ("client", "trusted_networks.10.0.0.0/8", "", "trusted_networks = ['10.0.0.0/8']"),
        ("client", "remember", "", "remember = { kind = 'user_source_password' }"),
        ("client", "remember.kind", "remember = {}", "remember = { kind = 'user' }"),
        ("client", "remember.idle_seconds", "remember = {}", "remember = { idle_seconds = 301 }"),
        ("client", "remember.life_seconds", "remember = {}", "remember = { life_seconds = 86400 }"),
        ("client", "remember.methods", "remember = { methods = ['code'] }", "remember = {}"),
        ("client", "when_unavailable", "", "when_unavailable = 'pass'"),
        ("client", "when_unavailable_groups", "when_unavailable_groups = ['cn=vpn']", ""),
        (
            "client",
            "when_unavailable_groups",
            "when_unavailable_groups = ['cn=vpn']",
            "when_unavailable_groups = ['cn=vpn', 'cn=all']",
        ),
        ("client", "when_unavailable_until", "when_unavailable_until = '2026-11-20T00:00:00Z'", ""),
        ("client", "observe_until", "observe_until = '2026-11-20T00:00:00Z'", "observe_until = '2026-11-21T00:00:00Z'"),
        ("policy", "then.exempt", "then = {}", "then = { exempt = true }"),
        ("policy", "then.refuse", "then = { refuse = true }", "then = {}"),
        ("policy", "then.pin", "then = { pin = true }", "then = {}"),
        ("policy", "then.pin", "then = {}", "then = { pin = false }"),
        ("policy", "then.least_assurance", "then = { least_assurance = 'code' }", "then = {}"),
        (
            "policy",
            "then.least_assurance",
            "then = { least_assurance = 'passkey' }",
            "then = { least_assurance = 'number_matched' }",
        ),
        ("policy", "then.methods", "then = { methods = ['code'] }", "then = {}"),
        ("policy", "then.methods", "then = { methods = ['push'] }", "then = { methods = ['push', 'sms'] }"),
        (
            "provider",
            "adapter.tls",
            "adapter = { kind = 'smtp', host = 'localhost', sender = 'mfa@corp.example' }",
            "adapter = { kind = 'smtp', host = 'localhost', sender = 'mfa@corp.example', tls = 'danger_none' }",
        ),
    ];

    #[test]
    fn each_key_is_weaker_one_way_and_stronger_the_other() {
        // R-08, V-40, S-40, S-46, FD-07, FS-06
        for (section, key, strong, weak) in CASES {
            let (strong, weak) = (object(section, strong), object(section, weak));
            let found: Vec<String> = weaker(&strong, &weak);
            assert!(found.iter().any(|it| it.ends_with(&format!(".{key}"))), "{section}.{key}: {found:?}");
            assert_eq!(found.len(), 1, "{found:?}");
            match rule(section, key) {
                Other(_) => assert_eq!(weaker(&weak, &strong), found, "any other is weaker"),
                _ => assert_eq!(weaker(&weak, &strong), [""; 0], "{section}.{key} the other way"),
            }
            assert_eq!(weaker(&weak, &weak), [""; 0]);
        }
        let tested = |(section, pattern, _): &(&str, &str, Weaker)| {
            let fits = |key: &str| match pattern.split_once('*') {
                Some((start, end)) => key.starts_with(start) && key.ends_with(end),
                None => key == *pattern,
            };
            CASES.iter().any(|(of, key, ..)| of == section && fits(key))
        };
        let forgotten: Vec<_> =
            KEYS.iter().filter(|row| !tested(row)).map(|(of, key, _)| format!("{of}.{key}")).collect();
        assert_eq!(forgotten, [""; 0]);
    }

    #[test]
    fn other_domains_of_a_directory_want_a_reason_also_where_another_key_lets_them_in() {
        // FD-02
        let with = |name: &str, text: &str| {
            let bind = "query_bind = { kind = \"tls\", name = \"cn=q\", password = \"keep\" }";
            settings(&format!("[[directory]]\nname = \"{name}\"\nurls = [\"ldaps://dc1\"]\n{bind}\n{text}\n"))
        };
        let (on, off) = (with("corp", ""), with("corp", "trusted_domains = false"));
        let named = ["directory.corp.trusted_domains"];
        assert_eq!(weaker(&off, &on), named, "left out is on");
        assert_eq!(weaker(&with("corp", "strip_domain = true"), &on), named);
        assert_eq!(weaker(&with("corp", "preset = \"openldap\""), &on), named);
        assert_eq!(weaker(&off, &with("new", "")), ["directory.new.trusted_domains"], "under a new name");
        for stronger in [&off, &on, &with("corp", "trusted_domains = true")] {
            assert_eq!(weaker(&on, stronger), [""; 0]);
        }
        assert_eq!(weaker(&settings(""), &on), [""; 0], "one that is new");
    }

    #[test]
    fn another_restriction_in_the_place_of_one_is_weaker() {
        for (section, key, one, other) in [
            ("client", "groups", "groups = ['cn=a']", "groups = ['cn=b']"),
            ("client", "methods", "methods = ['push']", "methods = ['sms']"),
            ("client", "certificates", "certificates = ['dns:a']", "certificates = ['dns:b']"),
            ("client", "ca", "ca = 'A'", "ca = 'B'"),
            ("client", "remember.methods", "remember = { methods = ['push'] }", "remember = { methods = ['sms'] }"),
            ("client", "person_address", "person_address = 'framed_address'", "person_address = 'calling_station_id'"),
            (
                "client",
                "when_unavailable_groups",
                "when_unavailable_groups = ['cn=a']",
                "when_unavailable_groups = ['cn=b']",
            ),
            ("directory", "pinned_certificates", "pinned_certificates = 'A'", "pinned_certificates = 'B'"),
            ("sync_item", "method.allowed", "method = { allowed = ['code'] }", "method = { allowed = ['sms'] }"),
            (EXEMPT_ITEM, "filter", "filter = '(title=a)'", "filter = '(title=b)'"),
            ("policy", "then.methods", "then = { methods = ['push'] }", "then = { methods = ['sms'] }"),
        ] {
            let (one, other) = (object(section, one), object(section, other));
            for (was, is) in [(&one, &other), (&other, &one)] {
                let found = weaker(was, is);
                assert!(found.len() == 1 && found[0].ends_with(&format!(".{key}")), "{section}.{key}: {found:?}");
            }
        }
    }

    #[test]
    fn under_a_new_name_it_is_compared_with_what_is_gone() {
        let client = |name: &str, text: &str| {
            format!("[[client]]\nname = '{name}'\nprotocol = 'radius'\ntarget = 'corp'\n{text}\n")
        };
        let guarded = "pin = true\nleast_assurance = 'passkey'\ngroups = ['cn=vpn']\ntransport = 'tls'\n\
                       client_certificate = 'required'";
        let (vpn, open) = (client("vpn", guarded), client("open", ""));
        let all = ["client_certificate", "groups", "least_assurance", "pin", "transport"];
        let all = all.map(|key| format!("client.vpn2.{key}"));
        assert_eq!(weaker(&settings(&vpn), &settings(&client("vpn2", ""))), all);
        assert_eq!(weaker(&settings(&vpn), &settings(&client("vpn2", guarded))), [""; 0]);
        let both = settings(&format!("{vpn}{open}"));
        assert_eq!(weaker(&both, &settings(&client("vpn2", ""))), all, "the strongest of those that are gone");
        let beside = settings(&format!("{vpn}{}", client("vpn2", "")));
        assert_eq!(weaker(&both, &beside), [""; 0], "only an open one is gone");
        assert_eq!(weaker(&settings(&vpn), &beside), [""; 0], "nothing is gone");
        let directory = |name: &str, text: &str| settings(&format!("{}{text}\n", DIRECTORY.replace("\"corp\"", name)));
        let guard = "lockout_guard = { wrong_passwords = 3, window_minutes = 30 }\npinned_certificates = 'PEM'";
        assert_eq!(
            weaker(&directory("'corp'", guard), &directory("'corp2'", "")),
            ["directory.corp2.lockout_guard", "directory.corp2.pinned_certificates"]
        );
        assert_eq!(weaker(&directory("'corp'", guard), &directory("'corp2'", guard)), [""; 0]);
    }

    #[test]
    fn the_first_rule_that_fits_decides_so_another_order_or_place_is_weaker() {
        // FV-43
        let rule = |name: &str, when: &str, then: &str| {
            format!("[[policy]]\nname = '{name}'\nwhen = {{ {when} }}\nthen = {{ {then} }}\n")
        };
        let client = "[[client]]\nname = 'vpn'\nprotocol = 'radius'\ntarget = 'corp'\nleast_assurance = 'passkey'\n\
                      methods = ['push', 'code']\n";
        let found = |was: &[&str], is: &[&str]| {
            weaker(&settings(&(client.to_owned() + &was.concat())), &settings(&(client.to_owned() + &is.concat())))
        };
        let (refuse, pin, other) = (
            rule("no", "groups = ['cn=a']", "refuse = true"),
            rule("pin", "", "pin = true"),
            rule("other", "clients = ['ldap']", "least_assurance = 'none'"),
        );
        let (refuse, pin, other) = (refuse.as_str(), pin.as_str(), other.as_str());
        let narrower = rule("no", "groups = ['cn=b']", "refuse = true");
        assert_eq!(found(&[refuse], &[&narrower]), ["policy.no.when"], "it refuses others");
        let narrower = rule("pin", "clients = ['vpn']", "pin = true");
        assert_eq!(found(&[pin], &[&narrower]), ["policy.pin.when"], "it asks others");
        assert_eq!(found(&[refuse, pin], &[pin, refuse]), ["policy.pin.order"]);
        assert_eq!(found(&[pin, refuse], &[refuse, pin]), [""; 0], "more are refused, nobody is asked for less");
        assert_eq!(found(&[pin, other], &[other, pin]), ["policy.other.order"]);
        assert_eq!(found(&[refuse], &[pin, refuse]), ["policy.pin"], "a new one that goes before");
        assert_eq!(found(&[pin], &[refuse, pin]), [""; 0]);
        assert_eq!(found(&[refuse], &[refuse, pin]), [""; 0], "a new one behind all of them");
        assert_eq!(found(&[pin, refuse], &[refuse]), ["policy.pin"]);
        assert_eq!(found(&[pin], &[other]), ["policy.pin"], "named once, though another one is new");
        for (then, key) in [
            ("least_assurance = 'none'", "least_assurance"),
            ("methods = ['sms']", "methods"),
            ("methods = ['code', 'sms']", "methods"),
        ] {
            let key = [format!("policy.new.then.{key}")];
            for when in ["", "clients = ['vpn']"] {
                let new = rule("new", when, then);
                assert_eq!(found(&[], &[&new]), key, "the client asks for more");
                assert_eq!(
                    found(&[&rule("new", when, "pin = true")], &[&rule("new", when, &format!("pin = true, {then}"))]),
                    key
                );
            }
            assert_eq!(found(&[], &[&rule("new", "clients = ['ldap']", then)]), [""; 0], "not that client's");
        }
        for then in ["least_assurance = 'passkey'", "methods = ['code']"] {
            assert_eq!(found(&[], &[&rule("new", "", then)]), [""; 0], "no less than the client asks for");
        }
    }

    #[test]
    fn who_falls_to_an_item_without_a_second_factor_has_one_no_longer() {
        // FS-08, FS-35
        let [one, two] = IDS;
        let item = |name: &str, text: &str| format!("[[sync_item]]\nname = '{name}'\ndirectory = 'corp'\n{text}\n");
        let users = |ids: &str| item("staff", &format!("source = {{ kind = 'users', ids = [{ids}] }}"));
        let (both, first) = (users(&format!("'{one}', '{two}'")), users(&format!("'{one}'")));
        let (robots, rest) = (exempt_item("robots", ""), item("rest", "source = { kind = 'domain' }"));
        let found = |was: &[&str], is: &[&str]| weaker(&settings(&was.concat()), &settings(&is.concat()));
        assert_eq!(found(&[&both, &robots], &[&robots, &both]), ["sync_item.robots.order"]);
        assert_eq!(found(&[&robots, &both], &[&both, &robots]), [""; 0]);
        assert_eq!(found(&[&both, &robots], &[&robots]), ["sync_item.robots.order"], "its users fall to the next");
        let off = both.clone() + "state = 'off'\n";
        assert_eq!(found(&[&both, &robots], &[&off, &robots]), ["sync_item.robots.order"]);
        assert_eq!(found(&[&both, &robots], &[&first, &robots]), ["sync_item.staff.source"]);
        let sleeping = exempt_item("robots", "state = 'off'");
        assert_eq!(found(&[&both, &sleeping], &[&robots]), ["sync_item.robots.state"], "it is on now, which says it");
        let filtered = both.clone() + "filter = '(title=a)'\n";
        assert_eq!(found(&[&both, &robots], &[&filtered, &robots]), ["sync_item.staff.source"]);
        assert_eq!(found(&[&first, &robots], &[&both, &robots]), [""; 0], "an import takes them from it");
        assert_eq!(found(&[&both, &rest], &[&rest, &first]), [""; 0], "everybody has one");
    }

    #[test]
    fn what_is_new_is_compared_with_what_holds_where_nothing_is_written() {
        let none = Settings::default();
        assert_eq!(weaker(&none, &none), [""; 0]);
        for section in ["directory", "sync_item", "client", "target"] {
            assert_eq!(weaker(&none, &object(section, "")), [""; 0], "{section}");
        }
        let client = "unknown_user = 'pass'\nobserve_until = '2026-11-20T00:00:00Z'\npin = true";
        assert_eq!(weaker(&none, &object("client", client)), ["client.x.observe_until", "client.x.unknown_user"]);
        assert_eq!(weaker(&object("client", client), &none), [""; 0], "a client that is gone lets nobody in");
    }

    #[test]
    fn rules_that_are_gone_and_exemptions_that_hold_elsewhere_are_weaker() {
        // FV-43
        let rule = |text: &str| object("policy", text);
        let (pin, none) = (rule("then = { pin = true }"), Settings::default());
        let exempt = rule("when = { groups = ['cn=vpn'] }\nthen = { exempt = true }");
        let wider = rule("then = { exempt = true }");
        assert_eq!(weaker(&pin, &none), ["policy.x"]);
        assert_eq!(weaker(&exempt, &none), [""; 0]);
        assert_eq!(weaker(&none, &exempt), ["policy.x.then.exempt"]);
        assert_eq!(weaker(&exempt, &wider), ["policy.x.when"]);
    }
}
