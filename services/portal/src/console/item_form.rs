//! A sync item as a form, and back (FS-20 to FS-35).

use super::door::Sent;
use super::draft::Finding;
use super::form::{Choice, Entry, Form, Part, Shape};
use domain::settings::{
    ItemLanguages, ItemMail, ItemMethod, PhoneKind, Settings, SourceKind, SyncItem, SyncSource, Updates,
};
use domain::{Language, Method, ObjectId};
use serde::Serialize;
use serde::de::DeserializeOwned;

const STATES: [(&str, &str); 3] =
    [("on", "On"), ("preview", "Preview: listed, and nothing is written"), ("off", "Off: not read")];
const SOURCES: [(&str, &str); 3] =
    [("domain", "The whole directory, below its base"), ("container", "A container"), ("group", "A group's members")];
const UPDATES: [(&str, &str); 4] = [
    ("unless_user_changed", "The directory's, unless somebody changed it here"),
    ("always", "Always the directory's"),
    ("if_empty", "The directory's where there is none yet"),
    ("never", "Never the directory's"),
];
const NEW_USERS: [(&str, &str); 3] = [
    ("enabled", "Enabled"),
    ("must_enrol", "Enabled, and nobody passes before a method is enrolled"),
    ("disabled", "Disabled"),
];
const LEAVERS: [(&str, &str); 3] =
    [("disable", "Are disabled"), ("remove", "Are removed"), ("keep", "Stay as they are")];
const RETURNING: [(&str, &str); 2] =
    [("re_enrol", "Enrol anew: their second factors are erased"), ("keep_factors", "Are as they were")];
const DISABLED: [(&str, &str); 2] =
    [("disable", "Is disabled, until the directory enables them again"), ("keep", "Stays as they are")];
const PIN: [(&str, &str); 3] = [("", "As company-wide"), ("yes", "They have to use one"), ("no", "They have none")];
const INITIAL_PIN: [(&str, &str); 2] =
    [("chosen", "They choose it themselves"), ("mailed", "A random one by mail, changed at its first use")];
/// What is chosen where no kind of number is to be anybody's.
const NO_NUMBER: &str = "none";
const PRIMARY_BY_DEFAULT: [PhoneKind; 2] = [PhoneKind::Mobile, PhoneKind::Business];
/// Those that can be the first one asked for.
const FIRST_METHODS: [Method; 5] = [Method::Push, Method::Call, Method::Sms, Method::SmsReply, Method::Code];

/// The form of an item; `Err`: what cannot be read of it.
pub(super) fn read(sent: &Sent, mut item: SyncItem) -> (SyncItem, Vec<Finding>) {
    let prefix = format!("sync_item.{}.", item.name);
    let mut reading = Reading { sent, prefix: &prefix, findings: Vec::new() };
    item.directory = reading.parsed("directory").unwrap_or(item.directory);
    item.state = reading.word("state").unwrap_or(item.state);
    item.source = reading.source(item.source);
    item.filter = sent.text("filter").to_owned();
    item.add = reading.yes("add");
    item.update = Updates {
        names: reading.word("update.names").unwrap_or_default(),
        phones: reading.word("update.phones").unwrap_or_default(),
        languages: reading.word("update.languages").unwrap_or_default(),
    };
    item.new_users = reading.word("new_users").unwrap_or_default();
    item.leavers = reading.word("leavers").unwrap_or_default();
    item.returning = reading.word("returning").unwrap_or_default();
    item.disabled_in_directory = reading.word("disabled_in_directory").unwrap_or_default();
    item.primary_phone = reading.kinds("primary_phone");
    item.backup_phone = reading.words("backup_phone");
    item.country = sent.text("country").to_owned();
    item.method = reading.method();
    item.language = reading.languages();
    item.mail = ItemMail { on_add: reading.yes("mail.on_add"), on_change: reading.yes("mail.on_change") };
    item.user_group = sent.text("user_group").to_owned();
    item.second_factor = reading.yes("second_factor");
    (item, reading.findings)
}

struct Reading<'a> {
    sent: &'a Sent,
    prefix: &'a str,
    findings: Vec<Finding>,
}

impl Reading<'_> {
    fn yes(&self, name: &str) -> bool {
        self.sent.text(name) == "yes"
    }

    fn finds(&mut self, name: &str, text: String) {
        self.findings.push(Finding::new(format!("{}{name}", self.prefix), text));
    }

    /// `None`: nothing was typed, or what is said.
    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> Option<T> {
        match self.sent.text(name) {
            "" => None,
            text => text.parse().map_err(|error: T::Err| self.finds(name, error.to_string())).ok(),
        }
    }

    /// A word of the settings. `None`: nothing was chosen, or what is said.
    fn word<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        match self.sent.text(name) {
            "" => None,
            text => self.read_word(name, text),
        }
    }

    fn words<T: DeserializeOwned>(&mut self, name: &str) -> Vec<T> {
        let all = self.sent.all(name);
        all.iter().filter(|text| !text.is_empty()).filter_map(|text| self.read_word(name, text)).collect()
    }

    /// Kinds of numbers in their order; nothing chosen: the default, where none is a choice of its own.
    fn kinds(&mut self, name: &str) -> Vec<PhoneKind> {
        let chosen: Vec<String> = self.sent.all(name).into_iter().filter(|text| !text.is_empty()).collect();
        match chosen.iter().all(|text| text == NO_NUMBER) {
            true if chosen.is_empty() => PRIMARY_BY_DEFAULT.to_vec(),
            true => Vec::new(),
            false => chosen.iter().filter_map(|text| self.read_word(name, text)).collect(),
        }
    }

    fn read_word<T: DeserializeOwned>(&mut self, name: &str, text: &str) -> Option<T> {
        serde_json::from_value(text.into()).map_err(|error| self.finds(name, error.to_string())).ok()
    }

    /// Whoever is named one by one stays so.
    fn source(&mut self, now: SyncSource) -> SyncSource {
        let kind = self.word("source.kind").unwrap_or(now.kind);
        let of_entry = matches!(kind, SourceKind::Container | SourceKind::Group);
        let dn = if of_entry { self.sent.text("source.dn").to_owned() } else { String::new() };
        SyncSource {
            kind,
            id: self.parsed("source.id").filter(|id| of_entry && still_named(id, &dn, &now)),
            dn,
            ids: if kind == SourceKind::Users { now.ids } else { Vec::new() },
            subtree: kind != SourceKind::Container || self.yes("source.subtree"),
            nested: kind != SourceKind::Group || self.yes("source.nested"),
        }
    }

    fn method(&mut self) -> ItemMethod {
        ItemMethod {
            default_method: self.word("method.default"),
            allowed: self.words("method.allowed"),
            pin: match self.sent.text("method.pin") {
                "" => None,
                text => Some(text == "yes"),
            },
            initial_pin: self.word("method.initial_pin").unwrap_or_default(),
        }
    }

    fn languages(&mut self) -> ItemLanguages {
        ItemLanguages {
            call: self.word("language.call"),
            text: self.word("language.text"),
            app: self.word("language.app"),
            code: self.word("language.code"),
            portal: self.word("language.portal"),
        }
    }
}

/// Another DN names another entry, and the id of the one before would go before it.
fn still_named(id: &ObjectId, dn: &str, now: &SyncSource) -> bool {
    dn.is_empty() || dn == now.dn || Some(id) != now.id.as_ref()
}

/// What stands in the form of an item.
pub(super) fn form(settings: &Settings, item: &SyncItem) -> Form {
    let parts = vec![
        Part { title: "Whom it has", entries: whom(settings, item) },
        Part { title: "What happens to them", entries: users(item) },
        Part { title: "Phone numbers", entries: phones(item) },
        Part { title: "Second factor of new users", entries: methods(item) },
        Part { title: "Languages, mail, label", entries: words(item) },
    ];
    Form { parts, ..Form::default() }
}

fn whom(settings: &Settings, item: &SyncItem) -> Vec<Entry> {
    let source = &item.source;
    let directories = settings.directories.iter().map(|it| Choice::new(it.name.as_str(), it.name.as_str()));
    let mut sources = choices(&SOURCES);
    if source.kind == SourceKind::Users {
        sources.push(Choice::new("users", "Chosen users, one by one"));
    }
    let mut entries = vec![
        Entry::new(
            "directory",
            "Directory",
            Shape::Choice { value: item.directory.to_string(), options: directories.collect() },
            "",
        ),
        Entry::new("state", "State", choice(&item.state, &STATES), "On by default."),
        Entry::new(
            "source.kind",
            "Users come from",
            Shape::Choice { value: code(&source.kind), options: sources },
            "Users who are named one by one are chosen under Import.",
        ),
        Entry::new(
            "source.dn",
            "Which container or group",
            Shape::Picked { value: source.dn.clone() },
            "Its DN, such as ou=people,dc=corp,dc=example. From the first run on that finds it, it is known by its id, and may be renamed and moved.",
        ),
        Entry::new(
            "source.id",
            "Or its id",
            Shape::line(source.id.as_ref().map(ToString::to_string).unwrap_or_default()),
            "None by default; it goes before the DN: objectGUID:... or entryUUID:...",
        ),
        Entry::new(
            "source.subtree",
            "With containers in the container",
            Shape::Check { checked: source.subtree },
            "On by default.",
        ),
        Entry::new(
            "source.nested",
            "With groups in the group",
            Shape::Check { checked: source.nested },
            "On by default.",
        ),
        Entry::new(
            "filter",
            "Of those only",
            Shape::line(item.filter.as_str()),
            "All by default. An LDAP filter such as (department=Sales), together with the directory's own.",
        ),
    ];
    if source.kind == SourceKind::Users {
        let value = format!("{} users. People are added under Import.", source.ids.len());
        entries.push(Entry::new("source.ids", "Named one by one", Shape::Shown { value }, ""));
    }
    entries
}

fn users(item: &SyncItem) -> Vec<Entry> {
    let update = &item.update;
    vec![
        Entry::new(
            "add",
            "Users who are not known yet are added",
            Shape::Check { checked: item.add },
            "On by default.",
        ),
        Entry::new("new_users", "New users are", choice(&item.new_users, &NEW_USERS), "Enabled by default."),
        Entry::new(
            "update.names",
            "Names are",
            choice(&update.names, &UPDATES),
            "By default what a user or administrator wrote here stays; so with numbers and languages.",
        ),
        Entry::new("update.phones", "Phone numbers are", choice(&update.phones, &UPDATES), ""),
        Entry::new("update.languages", "Languages are", choice(&update.languages, &UPDATES), ""),
        Entry::new(
            "leavers",
            "Users who are gone",
            choice(&item.leavers, &LEAVERS),
            "Disabled by default, which can be taken back. Many at once wait for approval.",
        ),
        Entry::new(
            "returning",
            "Somebody whose entry was gone and is back",
            choice(&item.returning, &RETURNING),
            "Enrols anew by default: nobody knows who has had the phone meanwhile.",
        ),
        Entry::new(
            "disabled_in_directory",
            "Somebody whom the directory disables",
            choice(&item.disabled_in_directory, &DISABLED),
            "Disabled by default, at once and without approval.",
        ),
        Entry::new(
            "second_factor",
            "Subject to the second factor",
            Shape::Check { checked: item.second_factor },
            "On by default; off: they are exempt, and the password is enough.",
        ),
    ]
}

fn phones(item: &SyncItem) -> Vec<Entry> {
    vec![
        Entry::new(
            "primary_phone",
            "Primary number from",
            kinds(&item.primary_phone, true),
            "The first that is a number; mobile, then business by default, where nothing is chosen.",
        ),
        Entry::new(
            "backup_phone",
            "Backup number from",
            kinds(&item.backup_phone, false),
            "None by default; the primary number again is none.",
        ),
        Entry::new(
            "country",
            "Country of numbers without a code",
            Shape::line(item.country.as_str()),
            "The directory's by default. Two letters, such as DE.",
        ),
    ]
}

/// As many as there are, and one more; three at least.
fn kinds(chosen: &[PhoneKind], has_none: bool) -> Shape {
    let mut values: Vec<String> = chosen.iter().map(|kind| kind.code().to_owned()).collect();
    if has_none && values.is_empty() {
        values.push(NO_NUMBER.to_owned());
    }
    values.resize((values.len() + 1).clamp(3, PhoneKind::ALL.len()).max(values.len()), String::new());
    let none = has_none.then(|| Choice::new(NO_NUMBER, NO_NUMBER));
    let kinds = PhoneKind::ALL.map(|kind| Choice::new(kind.code(), kind.code()));
    Shape::Ordered { values, options: none.into_iter().chain(kinds).collect() }
}

fn methods(item: &SyncItem) -> Vec<Entry> {
    let method = &item.method;
    let mut first = vec![Choice::new("", "As company-wide")];
    first.extend(FIRST_METHODS.map(|method| Choice::new(method.code(), method.code())));
    let pin = match method.pin {
        None => "",
        Some(true) => "yes",
        Some(false) => "no",
    };
    vec![
        Entry::new(
            "method.default",
            "First method asked for",
            Shape::Choice {
                value: method.default_method.map(Method::code).unwrap_or_default().to_owned(),
                options: first,
            },
            "",
        ),
        Entry::new(
            "method.allowed",
            "Methods they may use",
            Shape::Several {
                values: method.allowed.iter().map(|method| method.code().to_owned()).collect(),
                options: Method::ALL.iter().map(|method| Choice::new(method.code(), method.code())).collect(),
            },
            "All by default, which is none of these checked.",
        ),
        Entry::new("method.pin", "PIN", Shape::Choice { value: pin.to_owned(), options: choices(&PIN) }, ""),
        Entry::new(
            "method.initial_pin",
            "The first PIN",
            choice(&method.initial_pin, &INITIAL_PIN),
            "Chosen by default. By mail it needs danger_mail_initial_pin of [pin].",
        ),
    ]
}

fn words(item: &SyncItem) -> Vec<Entry> {
    let language = |name, label, value: &Option<Language>, help| {
        let value = value.as_ref().map(ToString::to_string).unwrap_or_default();
        let suggestions = crate::texts::LANGUAGES.iter().map(|texts| texts.language.to_owned()).collect();
        Entry::new(name, label, Shape::Line { value, placeholder: "company-wide".into(), suggestions }, help)
    };
    let of = &item.language;
    vec![
        language(
            "language.call",
            "Language of calls",
            &of.call,
            "Where the directory names none: en, de, de-CH. Company-wide by default, as with those below.",
        ),
        language("language.text", "Language of texts", &of.text, ""),
        language("language.app", "Language of the app", &of.app, ""),
        language("language.code", "Language of code prompts", &of.code, ""),
        language(
            "language.portal",
            "Language of the portal",
            &of.portal,
            "Once somebody has signed in; otherwise as the browser asks.",
        ),
        Entry::new(
            "mail.on_add",
            "A welcome by mail to users who are added",
            Shape::Check { checked: item.mail.on_add },
            "Off by default.",
        ),
        Entry::new(
            "mail.on_change",
            "A mail when synchronisation changes their name, username, address, languages or numbers",
            Shape::Check { checked: item.mail.on_change },
            "Off by default.",
        ),
        Entry::new(
            "user_group",
            "Label",
            Shape::line(item.user_group.as_str()),
            "For users without one in the directory; none by default. It groups users for people, and decides nothing.",
        ),
    ]
}

fn choices(list: &[(&str, &str)]) -> Vec<Choice> {
    list.iter().map(|(value, label)| Choice::new(*value, *label)).collect()
}

fn choice(value: &impl Serialize, list: &[(&str, &str)]) -> Shape {
    Shape::Choice { value: code(value), options: choices(list) }
}

/// As the settings write it.
fn code(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_dn_is_another_entry_unless_its_id_was_typed_too() {
        // FS-21
        let id = |last: u8| -> ObjectId {
            format!("entryUUID:00000000-0000-0000-0000-00000000000{last}").parse().expect("an id")
        };
        let now = SyncSource {
            kind: SourceKind::Group,
            dn: "cn=vpn".into(),
            id: Some(id(1)),
            ids: Vec::new(),
            subtree: true,
            nested: true,
        };
        assert!(still_named(&id(1), "cn=vpn", &now) && still_named(&id(1), "", &now));
        assert!(!still_named(&id(1), "cn=other", &now));
        assert!(still_named(&id(2), "cn=other", &now));
    }
}
