//! The keys of `[[directory]]` as fields of a form: what they are called, and what an empty one stands for.

use crate::console::form::{Choice, Entry, Form, Part, Shape};
use domain::settings::{Directory, PhoneKind, Preset};
use serde_json::json;

/// A key of the settings, with dots.
pub(super) struct FieldOf {
    pub key: &'static str,
    pub label: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// Of Active Directory alone.
    pub only_ad: bool,
}

/// What is typed, and what it is in the settings. Empty is always what the document leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A list, one a line.
    Lines,
    /// An attribute, to be picked.
    Attribute,
    /// Several, with spaces.
    Attributes,
    /// An attribute, and a hyphen is an empty text: a number that is not read.
    Unless,
    /// Certificates as PEM text.
    Pem,
    Number,
    /// A box, and whether it is checked where the document says nothing.
    Check(bool),
    YesNo,
    Choice(&'static [(&'static str, &'static str)]),
    /// Domains, one a line: its name, then its servers.
    Domains,
    Password,
}

pub(super) struct Group {
    pub title: &'static str,
    pub fields: &'static [FieldOf],
}

pub(super) const PRESETS: &[(&str, &str)] = &[
    ("active_directory", "Active Directory"),
    ("ad_lds", "AD LDS"),
    ("openldap", "OpenLDAP"),
    ("389ds", "389 Directory Server"),
    ("edirectory", "eDirectory"),
    ("generic", "Another LDAP directory"),
];
const QUERY_BINDS: &[(&str, &str)] = &[
    ("tls", "Name and password, inside TLS"),
    ("windows", "Windows logon (Kerberos or NTLM)"),
    ("anonymous", "Anonymous"),
    ("simple", "Name and password in clear text (tests only)"),
];
const SYNC_BINDS: &[(&str, &str)] = &[
    ("", "The account of queries"),
    ("tls", "Another one: name and password, inside TLS"),
    ("windows", "Another one: Windows logon"),
    ("simple", "Another one, in clear text (tests only)"),
];
const AUTHENTICATION_BINDS: &[(&str, &str)] =
    &[("tls", "Bind, inside TLS"), ("windows", "Windows logon"), ("simple", "Bind in clear text (tests only)")];
const MECHANISMS: &[(&str, &str)] =
    &[("", "Kerberos, and NTLM where that cannot be"), ("kerberos", "Kerberos alone"), ("ntlm", "NTLM alone")];
const ORDERS: &[(&str, &str)] = &[("", "As listed"), ("nearest", "The nearest one")];
const FEEDS: &[(&str, &str)] = &[
    ("", "The best one that it offers"),
    ("dirsync", "dirsync (Active Directory)"),
    ("usn_changed", "usn_changed (Active Directory, AD LDS)"),
    ("syncrepl", "syncrepl"),
    ("accesslog", "accesslog"),
    ("changelog", "changelog"),
    ("modify_timestamp", "modify_timestamp"),
];
const ID_TYPES: &[(&str, &str)] = &[
    ("", "What the attribute is known for, else the preset's"),
    ("guid", "GUID"),
    ("byte_array", "Octets"),
    ("string", "Text"),
];

const fn field(key: &'static str, label: &'static str, help: &'static str, kind: Kind) -> FieldOf {
    FieldOf { key, label, help, kind, only_ad: false }
}

const fn of_ad(key: &'static str, label: &'static str, help: &'static str, kind: Kind) -> FieldOf {
    FieldOf { key, label, help, kind, only_ad: true }
}

pub(super) const GROUPS: [Group; 8] = [
    Group { title: "Kind", fields: KIND },
    Group { title: "Connection", fields: CONNECTION },
    Group { title: "Binds", fields: BINDS },
    Group { title: "Searches and filters", fields: SEARCHES },
    Group { title: "Changes", fields: CHANGES },
    Group { title: "Sign-in names", fields: NAMES },
    Group { title: "Trusted domains", fields: TRUSTED },
    Group { title: "Limits", fields: LIMITS },
];

const KIND: &[FieldOf] = &[field(
    "preset",
    "Preset",
    "What an empty field stands for: filters, attribute names, the unique identifier.",
    Kind::Choice(PRESETS),
)];

const CONNECTION: &[FieldOf] = &[
    field(
        "urls",
        "Servers",
        "1 to 16, one a line, the preferred one first: ldaps://HOST[:PORT], or ldap://HOST[:PORT] with StartTLS. ldaps+srv://DOMAIN stands for \
         the domain controllers that the DNS lists (Active Directory).",
        Kind::Lines,
    ),
    field(
        "server_order",
        "Which server is asked first",
        "The nearest one is measured every ten seconds.",
        Kind::Choice(ORDERS),
    ),
    field("base", "Base DN", "Where all searches start. Empty: as its servers say.", Kind::Text),
    field("ca", "Private CA", "Only this CA is trusted (PEM). Empty: the system's.", Kind::Pem),
    field(
        "pinned_certificates",
        "Pinned certificates",
        "The servers' own certificates as PEM text, instead of a CA: these and no others are taken.",
        Kind::Pem,
    ),
    field(
        "danger_clear_text",
        "Passwords may cross the network in clear text",
        "For tests on one machine.",
        Kind::Check(false),
    ),
];

const BINDS: &[FieldOf] = &[
    field(
        "query_bind.kind",
        "Queries",
        "How Twinlock itself binds to search. Anonymous has neither name nor password.",
        Kind::Choice(QUERY_BINDS),
    ),
    field(
        "query_bind.name",
        "Account of queries",
        "A bind DN; for a Windows logon DOMAIN\\user or user@domain, and empty there: the keytab of the host.",
        Kind::Text,
    ),
    field("query_bind.password", "Password of the account of queries", "", Kind::Password),
    field("windows_mechanism", "Mechanism of the Windows logon", "", Kind::Choice(MECHANISMS)),
    field("sync_bind.kind", "Synchronisation", "The account that it reads with.", Kind::Choice(SYNC_BINDS)),
    field("sync_bind.name", "Account of synchronisation", "Where it is another one.", Kind::Text),
    field("sync_bind.password", "Password of the account of synchronisation", "", Kind::Password),
    field(
        "authentication_bind.kind",
        "People's passwords",
        "How they are checked. A Windows logon does it in Active Directory alone.",
        Kind::Choice(AUTHENTICATION_BINDS),
    ),
];

const SEARCHES: &[FieldOf] = &[
    field("user_filter", "User filter", "Which entries are users (RFC 4515).", Kind::Text),
    field("group_filter", "Group filter", "Which entries are groups.", Kind::Text),
    field("container_filter", "Container filter", "Which entries are containers.", Kind::Text),
    of_ad(
        "attribute_scope_queries",
        "Attribute scope queries",
        "Members of groups are found by asking each group. Skipped by itself where the server does not offer it.",
        Kind::Check(true),
    ),
];

const CHANGES: &[FieldOf] = &[
    field(
        "feed",
        "How changes are heard of",
        "\"Try it\" says which can be used, and what is missing for the others.",
        Kind::Choice(FEEDS),
    ),
    field("full_every_hours", "Full read every (hours)", "1 to 168, whatever the feed.", Kind::Number),
];

const NAMES: &[FieldOf] = &[
    field("netbios_domain", "Short domain name", "That of DOMAIN\\user. The long one is that of the base.", Kind::Text),
    field(
        "default_domain",
        "Default domain",
        "A bare name is looked up as it is, and as if @ and this stood behind it.",
        Kind::Text,
    ),
    field(
        "strip_domain",
        "Any domain before or behind a name counts as this directory's own",
        "Only where everybody who signs in is of this directory.",
        Kind::Check(false),
    ),
    field(
        "sign_in_by_mail",
        "A mail address is a sign-in name",
        "No: where people write their own mail address.",
        Kind::YesNo,
    ),
    field(
        "alternate_directories",
        "Directories asked next",
        "One a line, in this order: where a name that is nobody's here is looked for by the alternate sign-in name of each.",
        Kind::Lines,
    ),
    field(
        "country",
        "Country of phone numbers without a code",
        "Two capital letters, such as DE. Empty: verification's.",
        Kind::Text,
    ),
];

const TRUSTED: &[FieldOf] = &[
    of_ad(
        "trusted_domains",
        "Include trusted domains",
        "Names of the other domains of the forest, and of trusted ones, are looked up there: they are found in the directory and tried. Off is \
         faster.",
        Kind::Check(false),
    ),
    of_ad(
        "trusted",
        "Servers of such domains",
        "Where the DNS is not to be asked: one domain a line, its long name and its servers with spaces, \
         child.corp.example ldaps://dc1.child.corp.example.",
        Kind::Domains,
    ),
];

const LIMITS: &[FieldOf] = &[
    field("connect_timeout_seconds", "Connect, seconds", "1 to 30, per host; then the next host.", Kind::Number),
    field("timeout_seconds", "One operation, seconds", "1 to 120.", Kind::Number),
    field("page_size", "Entries a page", "1 to 5000.", Kind::Number),
    field(
        "size_limit",
        "Entries of one answer at most",
        "0 to 1,000,000; 0: as many as the server sends. An answer that was cut is incomplete, and nobody is gone by it.",
        Kind::Number,
    ),
    field(
        "lockout_guard.wrong_passwords",
        "Wrong passwords of a person that reach the directory",
        "1 to 100: fewer than the directory itself locks for. Further ones are refused without asking it.",
        Kind::Number,
    ),
    field(
        "lockout_guard.window_minutes",
        "Until none was wrong for so many minutes",
        "1 to 1440: no fewer than the directory's own.",
        Kind::Number,
    ),
];

/// What an entry's attributes are called (FD-30 to FD-42, FD-19).
pub(super) const MAPPED: [Group; 5] = [
    Group { title: "Names", fields: MAPPED_NAMES },
    Group { title: "Phone numbers", fields: MAPPED_PHONES },
    Group { title: "Languages", fields: MAPPED_LANGUAGES },
    Group { title: "Lists and labels", fields: MAPPED_LISTS },
    Group { title: "Identity", fields: MAPPED_IDENTITY },
];

const MAPPED_NAMES: &[FieldOf] = &[
    field(
        "attributes.username",
        "Username",
        "Several with spaces: the first that has a value is the username.",
        Kind::Attributes,
    ),
    field(
        "attributes.alternate",
        "Alternate sign-in name",
        "Looked at only where nobody has the name otherwise. One that is indexed, and that people cannot change themselves.",
        Kind::Attribute,
    ),
    field("attributes.first_name", "First name", "", Kind::Attribute),
    field("attributes.last_name", "Last name", "", Kind::Attribute),
    field("attributes.mail", "E-mail", "", Kind::Attribute),
];

const MAPPED_PHONES: &[FieldOf] = &[
    field("attributes.phones.business", "Business", "", Kind::Unless),
    field("attributes.phones.home", "Home", "", Kind::Unless),
    field("attributes.phones.pager", "Pager", "", Kind::Unless),
    field("attributes.phones.mobile", "Mobile", "", Kind::Unless),
    field("attributes.phones.fax", "Fax", "", Kind::Unless),
    field("attributes.phones.ip", "IP phone", "", Kind::Unless),
    field("attributes.phones.custom", "Custom", "Any attribute.", Kind::Unless),
    field(
        "attributes.extension",
        "Extension of the primary number",
        "Empty: what stands behind the number, x890.",
        Kind::Attribute,
    ),
];

const MAPPED_LANGUAGES: &[FieldOf] = &[
    field("attributes.languages.call", "Calls", "Its value is such as de or de-CH.", Kind::Attribute),
    field("attributes.languages.text", "Text messages", "", Kind::Attribute),
    field("attributes.languages.app", "App", "", Kind::Attribute),
    field("attributes.languages.code", "Codes", "", Kind::Attribute),
];

const MAPPED_LISTS: &[FieldOf] = &[
    field("attributes.container_name", "What a container is called", "", Kind::Attribute),
    field("attributes.group_name", "What a group is called", "", Kind::Attribute),
    field("attributes.user_group", "User group", "A label to filter users by.", Kind::Attribute),
    field("attributes.description", "Description", "", Kind::Attribute),
];

const MAPPED_IDENTITY: &[FieldOf] = &[
    field(
        "attributes.id",
        "Unique identifier",
        "Of containers, groups and users. Another one is another source: the next run only shows what it would do.",
        Kind::Attribute,
    ),
    field(
        "attributes.id_type",
        "Its type",
        "Only of an identifier that no preset has. Another type is another source, too.",
        Kind::Choice(ID_TYPES),
    ),
    field("attributes.distinguished_name", "Distinguished name", "", Kind::Attribute),
];

/// A longer text is cut off at the end of its field.
const SEEN_IN_A_FIELD: usize = 30;

impl Group {
    /// With the texts that stand in its fields.
    fn part(&self, text: impl Fn(&str) -> String, preset: Preset) -> Part {
        let shown = self.fields.iter().filter(|field| field.is_of(preset));
        let entry = |field: &FieldOf| {
            let stands_for = stands_for(field.key, preset);
            let help = match stands_for.chars().count() > SEEN_IN_A_FIELD {
                true => format!("{} Empty: {stands_for}", field.help),
                false => field.help.to_owned(),
            };
            Entry::new(field.key, field.label, field.kind.shape(text(field.key), stands_for), help)
        };
        Part { title: self.title, entries: shown.map(entry).collect() }
    }
}

impl FieldOf {
    fn is_of(&self, preset: Preset) -> bool {
        !self.only_ad || preset == Preset::ActiveDirectory
    }
}

impl Kind {
    pub fn is_attribute(self) -> bool {
        matches!(self, Self::Attribute | Self::Attributes | Self::Unless)
    }

    fn shape(self, value: String, placeholder: String) -> Shape {
        let choices = |list: &[(&str, &str)]| list.iter().map(|(value, label)| Choice::new(*value, *label)).collect();
        match self {
            Self::Text | Self::Number => Shape::Line { value, placeholder, suggestions: Vec::new() },
            Self::Lines | Self::Domains | Self::Pem => Shape::Lines { value, placeholder },
            Self::Attribute | Self::Attributes | Self::Unless => Shape::Attribute { value, placeholder, doubt: None },
            Self::Check(_) => Shape::Check { checked: value == "yes" },
            Self::YesNo => {
                let options = [("", placeholder.as_str()), ("true", "Yes"), ("false", "No")];
                Shape::Choice { value, options: choices(&options) }
            }
            Self::Choice(list) => Shape::Choice { value, options: choices(list) },
            Self::Password => Shape::Secret { placeholder: String::new() },
        }
    }
}

/// Parts with a field at least.
pub(super) fn form_of(groups: &[Group], text: impl Fn(&str) -> String, preset: Preset) -> Form {
    let parts = groups.iter().map(|group| group.part(&text, preset));
    // For whoever goes back to the preset that has them.
    let hidden = groups.iter().flat_map(|group| group.fields).filter(|field| !field.is_of(preset));
    Form {
        parts: parts.filter(|part| !part.entries.is_empty()).collect(),
        hidden: hidden.map(|field| (field.key, text(field.key))).collect(),
        failures: Vec::new(),
    }
}

/// FD-01: what such a directory is called.
pub(super) fn called(preset: Preset) -> &'static str {
    match preset {
        Preset::ActiveDirectory => "Active Directory",
        _ => "LDAP",
    }
}

pub(super) fn preset_of(code: &str) -> Preset {
    serde_json::from_value(code.into()).unwrap_or_default()
}

pub(super) fn code_of(preset: Preset) -> String {
    serde_json::to_value(preset).ok().and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A directory of which nothing is said but its preset.
pub(super) fn blank(preset: Preset) -> Directory {
    let text = json!({"name": "new", "preset": preset, "urls": [], "query_bind": {"kind": "tls"}});
    serde_json::from_value(text).expect("all that must be there is there")
}

/// What an empty field stands for.
pub(super) fn stands_for(key: &str, preset: Preset) -> String {
    let blank = blank(preset);
    let phone = |kind| written(blank.phone_attributes(kind));
    let of_preset = match key {
        "user_filter" => blank.user_filter().to_owned(),
        "group_filter" => blank.group_filter().to_owned(),
        "container_filter" => blank.container_filter().to_owned(),
        "attributes.id" => blank.id_attribute().to_owned(),
        "attributes.username" => blank.username_attributes().join(" "),
        "attributes.first_name" => written(blank.first_name_attributes()),
        "attributes.last_name" => written(blank.last_name_attributes()),
        "attributes.mail" => written(blank.mail_attributes()),
        "attributes.container_name" => written(blank.container_name_attributes()),
        "attributes.group_name" => written(blank.group_name_attributes()),
        "attributes.description" => written(blank.description_attributes()),
        "attributes.distinguished_name" => "the entry's own".to_owned(),
        "attributes.phones.business" => phone(PhoneKind::Business),
        "attributes.phones.home" => phone(PhoneKind::Home),
        "attributes.phones.pager" => phone(PhoneKind::Pager),
        "attributes.phones.mobile" => phone(PhoneKind::Mobile),
        "attributes.phones.fax" => phone(PhoneKind::Fax),
        "attributes.phones.ip" => phone(PhoneKind::Ip),
        "connect_timeout_seconds" => return blank.connect_timeout_seconds.to_string(),
        "timeout_seconds" => return blank.timeout_seconds.to_string(),
        "page_size" => return blank.page_size.to_string(),
        "full_every_hours" => return blank.full_every_hours.to_string(),
        "size_limit" => return blank.size_limit.to_string(),
        "lockout_guard.wrong_passwords" | "lockout_guard.window_minutes" => return "not limited".to_owned(),
        key if key.starts_with("attributes.") => String::new(),
        "sign_in_by_mail" if blank.signs_in_by_mail() => "yes".to_owned(),
        "sign_in_by_mail" => "no".to_owned(),
        _ => return String::new(),
    };
    match of_preset.as_str() {
        "" => "none".to_owned(),
        text => format!("preset's: {text}"),
    }
}

/// As it would be typed.
fn written<'a>(attributes: impl Iterator<Item = &'a str>) -> String {
    attributes.collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_field_says_what_the_preset_has() {
        // FD-01, FD-14, FD-34
        let (ad, ldap) = (Preset::ActiveDirectory, Preset::OpenLdap);
        assert_eq!(stands_for("user_filter", ad), "preset's: (&(objectCategory=person)(objectClass=user))");
        assert_eq!(stands_for("attributes.username", ad), "preset's: userPrincipalName sAMAccountName");
        assert_eq!(stands_for("attributes.username", ldap), "preset's: uid");
        assert_eq!((stands_for("attributes.phones.ip", ldap).as_str(), called(ldap)), ("none", "LDAP"));
        assert_eq!(stands_for("page_size", ldap), "1000");
        assert_eq!((preset_of("389ds"), code_of(Preset::Ds389).as_str()), (Preset::Ds389, "389ds"));
    }
}
