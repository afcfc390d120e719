//! What of a change weakens security: an administrator has to say why, and the audit keeps it. Pure.

use super::changes::{fields as fields_of, objects};
use domain::settings::Settings;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

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
    /// A word that is called so itself.
    Danger,
    /// Where the table that it is in is on both sides: whether that is there is a key of its own.
    Within(&'static Weaker),
}

use Weaker::{Absent, Danger, Later, LaterOrNone, Less, LessNotZero, More, MoreOrZero, Present, Within, Words};

const OFF_ON: Weaker = Words(&["false", "true"], 0);
const ON_OFF: Weaker = Words(&["true", "false"], 0);
const ASSURANCE: Weaker = Words(&["passkey", "number_matched", "code", "phone", "approve_only", "none"], 5);
const REFUSE_PASS: Weaker = Words(&["refuse", "pass"], 0);

/// Section and key; `*` stands for an entry of a list. Beside these: whatever is called `danger_...`.
const KEYS: [(&str, &str, Weaker); 65] = [
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
    ("push", "without_passkey", Words(&["false", "true"], 1)),
    ("sync", "approval_over_users", More(5)),
    ("sync", "approval_over_percent", MoreOrZero(5)),
    ("sync", "phone_hold_hours", Less(0)),
    ("sync", "phone_back_minutes", Less(60)),
    ("sync_item", "second_factor", ON_OFF),
    ("sync_item", "leavers", Words(&["disable", "keep"], 0)),
    ("sync_item", "disabled_in_directory", Words(&["disable", "keep"], 0)),
    ("sync_item", "returning", Words(&["re_enrol", "keep_factors"], 0)),
    ("directory", "lockout_guard", Absent),
    ("directory", "lockout_guard.wrong_passwords", Within(&More(0))),
    ("directory", "lockout_guard.window_minutes", Within(&Less(0))),
    ("directory", "pinned_certificates", Absent),
    ("target", "servers.*.message_authenticator", Words(&["yes", "auto", "no"], 0)),
    ("client", "message_authenticator", Words(&["yes", "auto", "no"], 0)),
    ("client", "limit_proxy_state", Words(&["yes", "auto", "no"], 1)),
    ("client", "transport", Words(&["tls", "udp"], 1)),
    ("client", "without_credentials", REFUSE_PASS),
    ("client", "answers_max", More(3)),
    ("client", "client_certificate", Words(&["required", "off"], 1)),
    ("client", "anonymous", Words(&["refuse", "rootdse", "forward"], 1)),
    ("client", "operations", Words(&["bind", "read", "all"], 2)),
    ("client", "referrals", Words(&["drop", "rewrite", "pass"], 0)),
    ("client", "extended_operations.*", Present),
    ("client", "trusted_controls.*", Present),
    ("client", "service_accounts.*.name", Present),
    ("client", "service_accounts.*.sources", Within(&Absent)),
    ("client", "service_accounts.*.certificates", Within(&Absent)),
    ("client", "unknown_user", REFUSE_PASS),
    ("client", "not_enrolled", REFUSE_PASS),
    ("client", "number_matching", Words(&["yes", "no"], 0)),
    ("client", "pin", Words(&["true", "false"], 1)),
    ("client", "least_assurance", ASSURANCE),
    ("client", "groups", Absent),
    ("client", "trusted_networks.*", Present),
    ("client", "remember", Present),
    ("client", "remember.kind", Words(&["user_source_password", "user_source", "user"], 0)),
    ("client", "remember.idle_seconds", More(300)),
    ("client", "remember.life_seconds", More(28_800)),
    ("client", "when_unavailable", REFUSE_PASS),
    ("client", "when_unavailable_groups", Absent),
    ("client", "when_unavailable_until", LaterOrNone),
    ("client", "observe_until", Later),
    ("policy", "then.exempt", OFF_ON),
    ("policy", "then.refuse", Words(&["true", "false"], 1)),
    ("policy", "then.pin", Words(&["true", "", "false"], 1)),
    ("policy", "then.least_assurance", Absent),
    ("policy", "then.methods", Absent),
];

/// The keys that `next` makes weaker than they are, in a stable order.
pub fn weaker(old: &Settings, next: &Settings) -> Vec<String> {
    let (before, after) = (objects(old), objects(next));
    let mut weaker = Vec::new();
    for (object, fields) in &after {
        let (was, is) = (before.get(object).map(entries).unwrap_or_default(), entries(fields));
        let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        let section = object.split('.').next().unwrap_or_default();
        for key in keys {
            let table = key.rsplit_once('.').map_or("", |(table, _)| table);
            let rule = match rule(section, key) {
                Within(_) if !(was.contains_key(table) && is.contains_key(table)) => continue,
                Within(rule) => *rule,
                rule => rule,
            };
            if rule.rank(is.get(key)) > rule.rank(was.get(key)) {
                weaker.push(format!("{object}.{key}"));
            }
        }
    }
    // A rule that exempts somebody exempts others where it looks at something else, and without a rule what it asks for is not asked.
    let conditions = |settings: &Settings, name: &str| {
        let rule = settings.policies.iter().find(|rule| rule.name.as_str() == name)?;
        Some((rule.when.clone(), rule.then.exempt))
    };
    for rule in &old.policies {
        let name = rule.name.as_str();
        match conditions(next, name) {
            None if !rule.then.exempt => weaker.push(format!("policy.{name}")),
            Some((when, true)) if rule.then.exempt && when != rule.when => weaker.push(format!("policy.{name}.when")),
            _ => {}
        }
    }
    weaker
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
            Within(rule) => rule.rank(value),
        }
    }
}

fn is_there(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !matches!(value, Value::Null) && value.as_array().is_none_or(|list| !list.is_empty()))
}

/// Orders times as they are written: by their digits to the second. Other zones are rare, and some hours.
fn moment(value: &Value) -> i64 {
    let digits = value.as_str().unwrap_or_default().chars().filter(char::is_ascii_digit).take(14);
    digits.collect::<String>().parse().unwrap_or(0)
}

/// The fields of an object, and those of its lists: an entry by its name, its address or itself, a table beside its fields.
fn entries(fields: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
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
            "provider" => "name = \"x\"\nchannel = \"mail\"\n",
            section => return settings(&format!("[{section}]\n{text}\n")),
        };
        settings(&format!("[[{section}]]\n{needed}{text}\n"))
    }

    /// Section, key, a stronger and a weaker value as the document has them; empty = not written.
    const CASES: [(&str, &str, &str, &str); 70] = [
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
            "service_accounts.cn=a.certificates",
            "service_accounts = [{ name = 'cn=a', certificates = ['dns:a'] }]",
            "service_accounts = [{ name = 'cn=a' }]",
        ),
        ("client", "unknown_user", "", "unknown_user = 'pass'"),
        ("client", "not_enrolled", "", "not_enrolled = 'pass'"),
        ("client", "number_matching", "", "number_matching = 'no'"),
        ("client", "pin", "pin = true", ""),
        ("client", "least_assurance", "least_assurance = 'code'", ""),
        ("client", "groups", "groups = ['cn=vpn']", ""),
        ("client", "trusted_networks.10.0.0.0/8", "", "trusted_networks = ['10.0.0.0/8']"),
        ("client", "remember", "", "remember = { kind = 'user_source_password' }"),
        ("client", "remember.kind", "remember = {}", "remember = { kind = 'user' }"),
        ("client", "remember.idle_seconds", "remember = {}", "remember = { idle_seconds = 301 }"),
        ("client", "remember.life_seconds", "remember = {}", "remember = { life_seconds = 86400 }"),
        ("client", "when_unavailable", "", "when_unavailable = 'pass'"),
        ("client", "when_unavailable_groups", "when_unavailable_groups = ['cn=vpn']", ""),
        ("client", "when_unavailable_until", "when_unavailable_until = '2026-11-20T00:00:00Z'", ""),
        ("client", "observe_until", "observe_until = '2026-11-20T00:00:00Z'", "observe_until = '2026-11-21T00:00:00Z'"),
        ("policy", "then.exempt", "then = {}", "then = { exempt = true }"),
        ("policy", "then.refuse", "then = { refuse = true }", "then = {}"),
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
            assert_eq!(weaker(&weak, &strong), [""; 0], "{section}.{key} the other way");
            assert_eq!(weaker(&weak, &weak), [""; 0]);
        }
        let tested = |(section, pattern, _): &(&str, &str, Weaker)| {
            let (start, end) = pattern.split_once('*').unwrap_or((pattern, ""));
            CASES.iter().any(|(of, key, ..)| of == section && key.starts_with(start) && key.ends_with(end))
        };
        let forgotten: Vec<_> =
            KEYS.iter().filter(|row| !tested(row)).map(|(of, key, _)| format!("{of}.{key}")).collect();
        assert_eq!(forgotten, ["policy.then.pin", "policy.then.least_assurance", "policy.then.methods"]);
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
        for (then, key) in
            [("pin = true", "pin"), ("least_assurance = 'code'", "least_assurance"), ("methods = ['code']", "methods")]
        {
            let strong = rule(&format!("then = {{ {then} }}"));
            assert_eq!(weaker(&strong, &rule("then = {}")), [format!("policy.x.then.{key}")]);
            assert_eq!(weaker(&rule("then = {}"), &strong), [""; 0]);
        }
        assert_eq!(weaker(&rule("then = {}"), &rule("then = { pin = false }")), ["policy.x.then.pin"]);
    }
}
