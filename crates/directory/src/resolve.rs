//! From a typed name to one entry with its immutable id (R-60, R-61, L-20, FD-18).
//!
//! | form | what is searched for, always together with the user filter |
//! |---|---|
//! | DN | the entry itself, which must lie at or below the base |
//! | `<GUID=...>`, `<SID=...>` | the id attribute; `objectSid` |
//! | bare name | each mapped username attribute |
//! | `DOMAIN\user`, `DOMAIN/user` | Active Directory: `sAMAccountName`; others: as a bare name |
//! | `user@domain` | the whole text in each mapped username attribute and in `userPrincipalName` (Active Directory) or the mail attribute (others); where the domain is that of the base (`DC=corp,DC=example` is `corp.example`) also `user` alone: in `sAMAccountName` (Active Directory), or each mapped username attribute (others) |
//!
//! Two entries that answer to one name are no user at all. Only a complete, successful search that finds nothing proves absence
//! (R-62); everything else that is not exactly one entry is an error.

use crate::directory::Directory;
use crate::name::{Kind, NameError, TypedName};
use crate::query::QueryError;
use crate::server::ServerName;
use crate::session::Answer;
use domain::identity::BadObjectId;
use domain::settings::{self, Preset};
use domain::{DirectoryRef, NameForm, ObjectId, Reason};
use ldap_wire::{Dn, Filter, ResultCode, Scope, SearchRequest, SearchResultEntry};
use tracing::Instrument;

/// A person's or a service account's entry, as the directory has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who it is, whatever they are called. All that is decided goes by this.
    pub subject: DirectoryRef,
    /// As the server wrote it: what is bound with (L-20).
    pub dn: String,
    /// The canonical name: the first mapped username attribute that has a value; the DN where none has.
    pub username: String,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub mail: Option<String>,
    /// How the name was typed.
    pub form: NameForm,
}

/// Not exactly one entry. Only [`ResolveError::Absent`] says that there is nobody.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The text is no name here. Says nothing about who exists.
    #[error("the name cannot be looked up")]
    Name(#[from] NameError),
    /// Proven: the search was complete and found nobody.
    #[error("nobody has this name")]
    Absent,
    /// More than one entry has this name; none is used.
    #[error("more than one entry has this name")]
    Ambiguous,
    /// The question got no answer.
    #[error("the directory could not be asked")]
    Unanswered(#[from] QueryError),
    /// The directory answered with an error.
    #[error("{server} answered the search with code {code}")]
    Directory { server: ServerName, code: ResultCode },
    /// A part of the answer is missing: a limit of the server (3, 4, 11), or it lies on another server (10).
    #[error("{server} answered the search in part, code {code}")]
    Incomplete { server: ServerName, code: ResultCode },
    /// The one entry cannot be used.
    #[error("{server} sent an entry that cannot be used")]
    BadEntry {
        server: ServerName,
        #[source]
        problem: BadEntry,
    },
}

impl ResolveError {
    pub fn reason(&self) -> Reason {
        match self {
            Self::Name(_) | Self::Absent => Reason::UnknownUser,
            Self::Ambiguous => Reason::AmbiguousUser,
            Self::Unanswered(error) => error.reason(),
            Self::Directory { .. } | Self::Incomplete { .. } | Self::BadEntry { .. } => Reason::DirectoryError,
        }
    }

    /// Nobody's fault but the directory's: the answer is "unavailable", not "wrong name".
    pub fn is_unavailable(&self) -> bool {
        !matches!(self, Self::Name(_) | Self::Absent | Self::Ambiguous)
    }
}

/// What is wrong with an entry (B-70). Usually the id attribute of the settings, or the query account may not read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    #[error("it has no {attribute}")]
    NoId { attribute: String },
    #[error("it has more than one {attribute}")]
    ManyIds { attribute: String },
    #[error("its id is not valid")]
    BadId(#[from] BadObjectId),
    #[error("its DN is empty or no text")]
    BadDn,
}

pub(crate) async fn user(directory: &Directory, name: &TypedName) -> Result<Entry, ResolveError> {
    let core = directory.core();
    let subtree = |names: Filter| (core.settings.base.clone(), Scope::Subtree, and(core.user_filter(), names));
    let (base, scope, filter) = match &name.kind {
        Kind::Dn(dn) if !dn.is_within(core.base()) => return Err(NameError::OutsideBase.into()),
        Kind::Dn(_) => (name.as_str().to_owned(), Scope::Base, core.user_filter().clone()),
        _ => subtree(names(name, &core.settings, core.base())),
    };
    look_up(directory, name, base, scope, &filter).await
}

pub(crate) async fn any(directory: &Directory, name: &TypedName) -> Result<Entry, ResolveError> {
    let core = directory.core();
    match name.kind {
        Kind::Dn(_) => {
            look_up(directory, name, name.as_str().to_owned(), Scope::Base, &Filter::present("objectClass")).await
        }
        Kind::Guid(_) => {
            let filter = names(name, &core.settings, core.base());
            look_up(directory, name, core.settings.base.clone(), Scope::Subtree, &filter).await
        }
        _ => Err(NameError::BadDn(None).into()),
    }
}

async fn look_up(
    directory: &Directory,
    name: &TypedName,
    base: String,
    scope: Scope,
    filter: &Filter,
) -> Result<Entry, ResolveError> {
    let span = tracing::info_span!(
        "directory.resolve",
        otel.kind = "client",
        server.address = tracing::field::Empty,
        twinlock.directory = directory.name().as_str(),
        twinlock.name_form = name.form().code(),
    );
    async {
        let settings = directory.settings();
        let mut search = SearchRequest::new(base, scope, filter, &attributes(settings));
        search.size_limit = 2; // enough to see that there are several
        let answer = directory.search(search).await?;
        tracing::Span::current().record("server.address", answer.server.host());
        only_entry(settings, name, scope, answer)
    }
    .instrument(span)
    .await
}

/// What an answer proves.
fn only_entry(
    settings: &settings::Directory,
    name: &TypedName,
    scope: Scope,
    answer: Answer,
) -> Result<Entry, ResolveError> {
    let Answer { server, entries, references, result } = answer;
    if entries.len() > 1 {
        return Err(ResolveError::Ambiguous);
    }
    match result.code {
        ResultCode::SUCCESS if references || !result.is_success() => {
            return Err(ResolveError::Incomplete { server, code: ResultCode::REFERRAL });
        }
        ResultCode::SUCCESS => {}
        ResultCode::NO_SUCH_OBJECT if scope == Scope::Base => return Err(ResolveError::Absent),
        ResultCode::INVALID_DN_SYNTAX if scope == Scope::Base => return Err(NameError::BadDn(None).into()),
        code @ (ResultCode::SIZE_LIMIT_EXCEEDED
        | ResultCode::TIME_LIMIT_EXCEEDED
        | ResultCode::ADMIN_LIMIT_EXCEEDED
        | ResultCode::REFERRAL) => return Err(ResolveError::Incomplete { server, code }),
        code => return Err(ResolveError::Directory { server, code }),
    }
    let found = entries.into_iter().next().ok_or(ResolveError::Absent)?;
    entry(settings, &found, name.form()).map_err(|problem| ResolveError::BadEntry { server, problem })
}

fn entry(settings: &settings::Directory, found: &SearchResultEntry, form: NameForm) -> Result<Entry, BadEntry> {
    let subject = DirectoryRef { directory: settings.name.clone(), id: id_of(settings, found)? };
    let dn = found.dn_text().filter(|dn| !dn.is_empty()).ok_or(BadEntry::BadDn)?.to_owned();
    let username = settings.username_attributes().into_iter().find_map(|attribute| plain_text(found, attribute));
    Ok(Entry {
        username: username.unwrap_or_else(|| dn.clone()),
        first_name: plain_text(found, settings.first_name_attribute()),
        last_name: plain_text(found, settings.last_name_attribute()),
        mail: plain_text(found, settings.mail_attribute()),
        subject,
        dn,
        form,
    })
}

pub(crate) fn id_of(settings: &settings::Directory, entry: &SearchResultEntry) -> Result<ObjectId, BadEntry> {
    let attribute = settings.id_attribute();
    let value = match entry.values(attribute) {
        [value] => value,
        [] => return Err(BadEntry::NoId { attribute: attribute.to_owned() }),
        _ => return Err(BadEntry::ManyIds { attribute: attribute.to_owned() }),
    };
    let text = || std::str::from_utf8(value).unwrap_or_default(); // no id then, and refused as such
    Ok(match attribute.to_ascii_lowercase().as_str() {
        "objectguid" => ObjectId::from_object_guid(value)?,
        "nsuniqueid" => ObjectId::from_ns_unique_id(text())?,
        _ => ObjectId::from_entry_uuid(text())?,
    })
}

/// The first value that a person could have typed: short, and without control characters (S-59).
fn plain_text(entry: &SearchResultEntry, attribute: &str) -> Option<String> {
    let plain = |text: &&str| (1..=512).contains(&text.len()) && !text.chars().any(char::is_control);
    let texts = entry.values(attribute).iter().filter_map(|value| std::str::from_utf8(value).ok());
    texts.into_iter().find(plain).map(str::to_owned)
}

/// Each once: naming one twice is not everywhere taken well.
fn attributes(settings: &settings::Directory) -> Vec<&str> {
    let mut attributes = vec![
        settings.id_attribute(),
        settings.first_name_attribute(),
        settings.last_name_attribute(),
        settings.mail_attribute(),
    ];
    attributes.extend(settings.username_attributes());
    attributes.sort_unstable();
    attributes.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
    attributes
}

fn and(user_filter: &Filter, names: Filter) -> Filter {
    Filter::and([user_filter.clone(), names])
}

/// The table at the head of this file.
fn names(name: &TypedName, settings: &settings::Directory, base: &Dn) -> Filter {
    let active_directory = settings.preset == Preset::ActiveDirectory;
    let mapped = settings.username_attributes();
    let equal = |attributes: &[&str], value: &str| -> Vec<Filter> {
        attributes.iter().map(|attribute| Filter::equal(*attribute, value)).collect()
    };
    let account = if active_directory { vec!["sAMAccountName"] } else { mapped.clone() };
    let alternatives = match &name.kind {
        Kind::Guid(octets) => vec![Filter::equal(settings.id_attribute(), octets.clone())],
        Kind::Sid(octets) => vec![Filter::equal("objectSid", octets.clone())],
        Kind::Netbios { user } => equal(&account, user),
        Kind::Upn { user, domain } => {
            let whole = if active_directory { "userPrincipalName" } else { settings.mail_attribute() };
            let mut attributes = mapped;
            if !attributes.iter().any(|attribute| attribute.eq_ignore_ascii_case(whole)) {
                attributes.push(whole);
            }
            let mut alternatives = equal(&attributes, name.as_str());
            if dns_domain(base).is_some_and(|ours| ours.eq_ignore_ascii_case(domain)) {
                alternatives.extend(equal(&account, user));
            }
            alternatives
        }
        Kind::Bare | Kind::Dn(_) => equal(&mapped, name.as_str()),
    };
    Filter::or(alternatives)
}

/// `corp.example` of `OU=x,DC=corp,DC=example`.
fn dns_domain(base: &Dn) -> Option<String> {
    let key = base.key();
    let parts: Vec<&str> = key.as_str().split(',').filter_map(|rdn| rdn.strip_prefix("dc=")).collect();
    (!parts.is_empty()).then(|| parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ldap_wire::{Attribute, LdapResult};

    fn settings(preset: Preset) -> settings::Directory {
        let mut settings = crate::directory::tests::settings(&["ldap://dc1"]);
        settings.preset = preset;
        settings.netbios_domain = "CORP".into();
        settings
    }

    fn filter(text: &str, preset: Preset) -> String {
        let settings = settings(preset);
        let base = settings.base.parse().expect("a DN");
        names(&TypedName::parse(text, &settings).expect("a name"), &settings, &base).to_string()
    }

    #[test]
    fn each_form_is_searched_where_the_table_says() {
        // R-60, FD-18
        use Preset::{ActiveDirectory as Ad, OpenLdap};
        for (text, preset, expected) in [
            ("alice", Ad, "(|(userPrincipalName=alice)(sAMAccountName=alice))"),
            ("CORP\\alice", Ad, "(|(sAMAccountName=alice))"),
            ("a@b.example", Ad, "(|(userPrincipalName=a@b.example)(sAMAccountName=a@b.example))"),
            (
                "a@CORP.example",
                Ad,
                "(|(userPrincipalName=a@CORP.example)(sAMAccountName=a@CORP.example)(sAMAccountName=a))",
            ),
            ("<SID=S-1-5-18>", Ad, r"(|(objectSid=\01\01\00\00\00\00\00\05\12\00\00\00))"),
            ("alice", OpenLdap, "(|(uid=alice))"),
            ("corp/alice", OpenLdap, "(|(uid=alice))"),
            ("a@b.example", OpenLdap, "(|(uid=a@b.example)(mail=a@b.example))"),
            ("a@corp.example", OpenLdap, "(|(uid=a@corp.example)(mail=a@corp.example)(uid=a))"),
            (
                "<GUID=AABBCCDD-0011-2233-4455-66778899aabb>",
                OpenLdap,
                "(|(entryUUID=aabbccdd-0011-2233-4455-66778899aabb))",
            ),
        ] {
            assert_eq!(filter(text, preset), expected, "{text}");
        }
    }

    #[test]
    fn no_character_of_a_name_reaches_the_filter_as_syntax() {
        // L-24
        assert_eq!(filter("*", Preset::OpenLdap), r"(|(uid=\2a))");
        assert_eq!(filter("a)(uid=*", Preset::OpenLdap), r"(|(uid=a\29\28uid=\2a))");
        assert_eq!(filter("#a(b)", Preset::OpenLdap), r"(|(uid=#a\28b\29))");
    }

    #[test]
    fn only_a_complete_successful_search_proves_absence() {
        // R-62
        let settings = settings(Preset::OpenLdap);
        let bare = TypedName::parse("alice", &settings).expect("a name");
        let server = ServerName::parse("ldap://dc1").expect("valid");
        let verdict = |code: u32, references: bool, count: usize, scope: Scope| {
            let found = |number: usize| SearchResultEntry {
                dn: Bytes::from(format!("uid={number}")),
                attributes: vec![Attribute::new(
                    "entryUUID",
                    vec![Bytes::from(uuid::Uuid::from_u128(number as u128).to_string())],
                )],
            };
            let entries = (0..count).map(found).collect();
            let result = LdapResult::of(ResultCode(code));
            only_entry(&settings, &bare, scope, Answer { server: server.clone(), entries, references, result })
        };
        use ResolveError::{Absent, Ambiguous, Directory, Incomplete};
        assert!(matches!(verdict(0, false, 0, Scope::Subtree), Err(Absent)));
        assert!(matches!(verdict(0, false, 1, Scope::Subtree), Ok(entry) if entry.username == "uid=0"));
        assert!(matches!(verdict(0, false, 2, Scope::Subtree), Err(Ambiguous)));
        assert!(matches!(verdict(4, false, 2, Scope::Subtree), Err(Ambiguous)));
        assert!(matches!(verdict(32, false, 0, Scope::Base), Err(Absent)));
        assert!(matches!(verdict(34, false, 0, Scope::Base), Err(ResolveError::Name(NameError::BadDn(None)))));
        for (code, references, count) in
            [(3, false, 0), (4, false, 0), (4, false, 1), (11, false, 1), (10, false, 0), (0, true, 0), (0, true, 1)]
        {
            assert!(
                matches!(verdict(code, references, count, Scope::Subtree), Err(Incomplete { .. })),
                "{code} {references} {count}"
            );
        }
        for code in [1, 32, 34, 50, 51, 52, 80, 4096] {
            assert!(matches!(verdict(code, false, 0, Scope::Subtree), Err(Directory { .. })), "{code}");
        }
    }

    #[test]
    fn an_entry_without_one_valid_id_is_no_entry() {
        // B-70
        let settings = settings(Preset::ActiveDirectory);
        let with = |values: Vec<&[u8]>| {
            let values = values.into_iter().map(Bytes::copy_from_slice).collect();
            let attributes = vec![Attribute::new("objectguid", values)];
            id_of(&settings, &SearchResultEntry { dn: Bytes::from_static(b"cn=x"), attributes })
        };
        assert!(with(vec![&[7; 16]]).is_ok());
        assert!(matches!(with(vec![]), Err(BadEntry::NoId { .. })));
        assert!(matches!(with(vec![&[7; 16], &[8; 16]]), Err(BadEntry::ManyIds { .. })));
        for length in [0, 15, 17] {
            assert!(matches!(with(vec![&vec![7; length]]), Err(BadEntry::BadId(_))), "{length}");
        }
    }
}
