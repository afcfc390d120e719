//! The keys of `[[directory]]`, in the order of the form: what they are called, what they mean, what is typed.

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
        "Names of the other domains of the forest, and of trusted ones, are looked up there, and their people are synchronised: the domains are \
         found in the directory and tried. Off is faster.",
        Kind::YesNo,
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
