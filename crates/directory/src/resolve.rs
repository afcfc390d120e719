//! From a typed name to one entry with its immutable id (R-60, R-61, L-20, FD-18, FD-19).
//!
//! | form | what is searched for, always together with the user filter |
//! |---|---|
//! | DN | the entry itself, which must lie at or below the base |
//! | `<GUID=...>`, `<SID=...>` | the id attribute; `objectSid` |
//! | bare name | each mapped username attribute; where the settings have a default domain, also what `name@domain` is searched for |
//! | `DOMAIN\user`, `DOMAIN/user` | Active Directory: `sAMAccountName`; others: as a bare name |
//! | `user@domain` | the whole text in each mapped username attribute and in `userPrincipalName` (Active Directory) or, unless the settings say otherwise, each mapped mail attribute (others); where the domain is that of the base (`DC=corp,DC=example` is `corp.example`), or domains are stripped, also `user` alone: in `sAMAccountName` (Active Directory), or each mapped username attribute (others) |
//! | `corp.example/People/Ann` | Active Directory: from the domain down, one level after the other, by `name` |
//! | `HTTP/web.corp.example` | Active Directory: `servicePrincipalName` |
//!
//! Only when that has proven that there is nobody, the next is asked, one after the other: the alternate attribute of the settings (bare
//! names and `user@domain`) together with each mapped mail attribute (Active Directory, `user@domain`, where the settings say so), `displayName` (bare names in Active Directory), `servicePrincipalName` (`DOMAIN/user` in Active
//! Directory), `sIDHistory` (SIDs), and the service class that the directory keeps another one under, as `HOST/web` for `HTTP/web`
//! (`sPNMappings`, service principal names). So it is Active Directory's own order (MS-ADTS section 5.1.1.1.1), and what is written into
//! such an attribute never takes a name from whose it is.
//!
//! A name of another domain is looked up there, where the settings include trusted domains (FD-02): see `domains`. It is looked up
//! there before all that is asked only then, so that no attribute here takes a name of that domain.
//!
//! Two entries that answer to one name are no user at all, and neither are two with one id, where that is not of the server's making. Only a complete, successful search that finds nothing proves absence
//! (R-62); everything else that is not exactly one entry is an error.

use crate::directory::Directory;
use crate::name::{Kind, NameError, TypedName, is_domain_of_base};
use crate::password_stamp::{PASSWORD_CHANGED, password_stamp};
use crate::query::QueryError;
use crate::read::Incomplete;
use crate::server::ServerName;
use crate::session::Answer;
use crate::trusted::NotUsed;
use domain::identity::BadObjectId;
use domain::settings::{self, BindKind, Preset, WindowsAccount};
use domain::{DirectoryRef, NameForm, ObjectId, ObjectName, Reason};
use ldap_wire::{Dn, Filter, ResultCode, Scope, SearchRequest, SearchResultEntry};
use std::sync::Arc;
use tracing::Instrument;

/// A person's or a service account's entry, as the directory has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who it is, whatever they are called. All that is decided goes by this.
    pub subject: DirectoryRef,
    /// As the server wrote it: what is bound with (L-20).
    pub dn: String,
    /// The canonical name: the first mapped username attribute that has a value; the DN where none has. Of somebody of another domain
    /// (FD-02) their principal name, or `CHILD\ann`.
    pub username: String,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub mail: Option<String>,
    /// What Windows calls it, beside its domain (FD-07, FR-08). Read in Active Directory, and where passwords are checked that way.
    pub account: Option<String>,
    /// When the password was changed, as the directory writes it (V-52).
    pub password_stamp: Option<String>,
    /// How the name was typed.
    pub form: NameForm,
}

impl Entry {
    /// The account by its own domain, and not by a principal name: another one may have that, written out (MS-ADTS section 5.1.1.1.1).
    pub(crate) fn windows_account(&self) -> Option<WindowsAccount> {
        let domain = self.dn.parse::<Dn>().ok()?.dns_domain()?;
        Some(WindowsAccount { user: self.account.clone()?, domain })
    }

    /// What the Windows domain that the base of `names` is in calls it: `CORP\ann`, or `ann` where its short name is not known. What
    /// is no Active Directory has no such names, and what people are called there is theirs in the domain.
    pub fn account_in_domain(&self, names: &settings::Directory) -> Result<String, NoAccount> {
        let Some(account) = &self.account else {
            return if is_active_directory(names) { Err(NoAccount::Unread) } else { Ok(self.username.clone()) };
        };
        // Below the root of a forest and in a global catalog lie other domains, where the same name is another person.
        let domain = self.windows_account().map(|account| account.domain).ok_or(NoAccount::Unread)?;
        if !is_domain_of_base(&domain, names) {
            return Err(NoAccount::OtherDomain { domain });
        }
        Ok(match names.netbios_domain.as_str() {
            "" => account.clone(),
            short => format!(r"{short}\{account}"),
        })
    }
}

/// Why a Windows domain cannot be asked about an entry. The administrator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoAccount {
    #[error("the query account cannot read sAMAccountName: let it read that")]
    Unread,
    #[error(
        "the person is of {domain}, and the base of the directory of another domain: write a target for each domain, whose directory has its base there"
    )]
    OtherDomain { domain: String },
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
    /// Which other domains there are, where the name might be found, could not be asked for (FD-02).
    #[error("the directory could not be asked which domains there are")]
    Unlisted(#[source] Arc<Incomplete>),
    /// A directory where the name might be found cannot be used, so that nobody knows (R-62).
    #[error("the settings of directory {directory} cannot be used")]
    Unusable { directory: ObjectName },
    /// The name is of another domain whose people may sign in, and that nobody asks: nobody knows (R-62).
    #[error("the domain {domain} is not used")]
    NotUsed {
        domain: String,
        #[source]
        why: NotUsed,
    },
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
            Self::Unlisted(error) => match &**error {
                Incomplete::Unanswered(error) => error.reason(),
                _ => Reason::DirectoryError,
            },
            Self::Directory { .. }
            | Self::Incomplete { .. }
            | Self::Unusable { .. }
            | Self::NotUsed { .. }
            | Self::BadEntry { .. } => Reason::DirectoryError,
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

/// Which entries a name may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Among {
    /// Those that the user filter lets through.
    Users,
    /// Whatever there is.
    All,
}

impl Among {
    fn filter(self, directory: &Directory) -> Filter {
        match self {
            Self::Users => directory.user_filter().clone(),
            Self::All => Filter::present("objectClass"),
        }
    }
}

/// The entry below the base that has this name, by all that is looked at.
pub(crate) async fn one(directory: &Directory, name: &TypedName, among: Among) -> Result<Entry, ResolveError> {
    match one_by_form(directory, name, among).await {
        Err(ResolveError::Absent) => one_by_further_names(directory, name, among).await,
        found => found,
    }
}

/// Whom the form of the name leads to: the first search.
pub(crate) async fn one_by_form(directory: &Directory, name: &TypedName, among: Among) -> Result<Entry, ResolveError> {
    if matches!(&name.kind, Kind::Dn(dn) if !dn.is_within(directory.core().base())) {
        return Err(NameError::OutsideBase.into());
    }
    by_form(directory, name, &among.filter(directory)).await
}

/// Who has the name in one of the attributes that are looked at when its form has led to nobody.
pub(crate) async fn one_by_further_names(
    directory: &Directory,
    name: &TypedName,
    among: Among,
) -> Result<Entry, ResolveError> {
    let which = among.filter(directory);
    let mut found = Err(ResolveError::Absent);
    for (form, names) in further_names(name, directory.settings()) {
        match found {
            Err(ResolveError::Absent) => found = below_base(directory, form, &which, names).await,
            found => return found,
        }
    }
    found
}

/// All that [`one`] looks at after whatever has this form.
pub(crate) async fn further(directory: &Directory, name: &TypedName, found: NameForm) {
    let further = further_names(name, directory.settings());
    let asked = further.iter().position(|(form, _)| *form == found && found != name.form());
    for (form, names) in further.into_iter().skip(asked.map_or(0, |place| place + 1)) {
        drop(below_base(directory, form, directory.user_filter(), names).await);
    }
    if matches!(name.kind, Kind::ServicePrincipal) {
        drop(of_mapped_class(directory, name.as_str(), directory.user_filter()).await);
    }
}

/// Whoever has this as their alternate name and nothing else (FD-19).
pub(crate) async fn alternate(directory: &Directory, name: &TypedName, among: Among) -> Result<Entry, ResolveError> {
    let attribute = directory.settings().alternate_attribute().filter(|_| name.may_be_alternate());
    let alternate = Filter::equal(attribute.ok_or(ResolveError::Absent)?, name.as_str());
    below_base(directory, NameForm::Alternate, &among.filter(directory), alternate).await
}

/// An entry that need not be a user; a DN may lie anywhere. What is no name but an attribute of people is not looked at.
pub(crate) async fn any(directory: &Directory, name: &TypedName) -> Result<Entry, ResolveError> {
    by_form(directory, name, &Among::All.filter(directory)).await
}

async fn by_form(directory: &Directory, name: &TypedName, which: &Filter) -> Result<Entry, ResolveError> {
    match &name.kind {
        // As RFC 4514 writes it: not every server knows `OID.`, numbers, long names, `;` and BER (L-21).
        Kind::Dn(dn) => look_up(directory, name.form(), dn.to_short_string(), Scope::Base, which).await,
        Kind::Canonical { path } => at_path(directory, path, which).await,
        Kind::Foreign => Err(NameError::ForeignDomain.into()),
        Kind::ServicePrincipal => {
            match below_base(directory, name.form(), which, names(name, directory.settings())).await {
                Err(ResolveError::Absent) => of_mapped_class(directory, name.as_str(), which).await,
                found => found,
            }
        }
        _ => below_base(directory, name.form(), which, names(name, directory.settings())).await,
    }
}

async fn below_base(
    directory: &Directory,
    form: NameForm,
    which: &Filter,
    names: Filter,
) -> Result<Entry, ResolveError> {
    let base = directory.settings().base.clone();
    look_up(directory, form, base, Scope::Subtree, &Filter::and([which.clone(), names])).await
}

/// Down a canonical name from the domain that the base lies in. Siblings with one name, as `CN=x` and `OU=x`, are told apart by nobody.
async fn at_path(directory: &Directory, path: &[String], which: &Filter) -> Result<Entry, ResolveError> {
    let base = directory.base();
    let is_dc = |rdn: &&ldap_wire::dn::Rdn| rdn.assertions.iter().any(|it| it.attribute.eq_ignore_ascii_case("dc"));
    let domain = Dn { rdns: base.rdns.iter().skip_while(|rdn| !is_dc(rdn)).cloned().collect() };
    let (leaf, containers) = path.split_last().ok_or(NameError::Empty)?;
    let named = |name: &String| Filter::equal("name", name.as_str());
    let mut above = domain.to_string();
    for container in containers {
        let search = SearchRequest::new(above, Scope::One, &named(container), &["1.1"]); // RFC 4511 section 4.5.1.8
        let (server, found) = ask(directory, NameForm::Canonical, search).await?;
        above = found.dn_text().ok_or(ResolveError::BadEntry { server, problem: BadEntry::BadDn })?.to_owned();
    }
    let entry =
        look_up(directory, NameForm::Canonical, above, Scope::One, &Filter::and([which.clone(), named(leaf)])).await?;
    match entry.dn.parse::<Dn>() {
        Ok(dn) if dn.is_within(base) => Ok(entry),
        _ => Err(NameError::OutsideBase.into()),
    }
}

/// A service principal name whose class stands for another one: the directory keeps `HTTP/web` under `HOST/web` where it says
/// `host=...,http,...` (MS-ADTS section 5.1.1.1.1, MS-DRSR section 4.1.4.2.19 MapSPN).
async fn of_mapped_class(directory: &Directory, name: &str, which: &Filter) -> Result<Entry, ResolveError> {
    const FORM: NameForm = NameForm::ServicePrincipalName;
    let (class, rest) = name.split_once('/').ok_or(ResolveError::Absent)?;
    let anything = Filter::present("objectClass");
    let root = SearchRequest::new("", Scope::Base, &anything, &["configurationNamingContext"]);
    let (_, root) = ask(directory, FORM, root).await?;
    let configuration = root.first_text("configurationNamingContext").ok_or(ResolveError::Absent)?;
    let service = format!("CN=Directory Service,CN=Windows NT,CN=Services,{configuration}");
    let (_, service) =
        ask(directory, FORM, SearchRequest::new(service, Scope::Base, &anything, &[SPN_MAPPINGS])).await?;
    let mappings = service.values(SPN_MAPPINGS).iter().filter_map(|value| std::str::from_utf8(value).ok());
    let kept_under = mapped_classes(class, mappings);
    let names: Vec<_> =
        kept_under.iter().map(|other| Filter::equal(SERVICE_PRINCIPAL, format!("{other}/{rest}"))).collect();
    if names.is_empty() {
        return Err(ResolveError::Absent);
    }
    below_base(directory, FORM, which, Filter::or(names)).await
}

/// The classes that a class is kept under, by lines such as `host=alerter,http`.
fn mapped_classes<'a>(class: &str, mappings: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let pairs = mappings.filter_map(|mapping| mapping.split_once('='));
    let meant = |others: &str| others.split(',').any(|other| other.trim().eq_ignore_ascii_case(class));
    pairs.filter(|(_, others)| meant(others)).map(|(kept, _)| kept.trim()).collect()
}

async fn look_up(
    directory: &Directory,
    form: NameForm,
    base: String,
    scope: Scope,
    filter: &Filter,
) -> Result<Entry, ResolveError> {
    let settings = directory.settings();
    let search = SearchRequest::new(base, scope, filter, &attributes(settings));
    let (server, found) = ask(directory, form, search).await?;
    let entry = entry(directory, &found, form).map_err(|problem| ResolveError::BadEntry { server, problem })?;
    if !entry.subject.id.is_of_server() {
        nobody_else_has_its_id(directory, &entry).await?;
    }
    Ok(entry)
}

/// An id that somebody writes may have been written twice: then it says nothing about who of them it is (FD-31).
async fn nobody_else_has_its_id(directory: &Directory, entry: &Entry) -> Result<(), ResolveError> {
    let (attribute, value) = entry.subject.id.filter_value();
    let base = directory.settings().base.clone();
    let search = SearchRequest::new(base, Scope::Subtree, &Filter::equal(attribute, value), &["1.1"]);
    let key = |dn: &str| dn.parse().map(|dn: Dn| dn.key()).ok();
    match ask(directory, NameForm::Guid, search).await {
        Ok((_, same)) if same.dn_text().is_some_and(|dn| key(dn) == key(&entry.dn)) => Ok(()),
        Ok(_) => Err(ResolveError::Ambiguous),
        // It lies outside of the base, as an account of an application may.
        Err(ResolveError::Absent) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn ask(
    directory: &Directory,
    form: NameForm,
    mut search: SearchRequest,
) -> Result<(ServerName, SearchResultEntry), ResolveError> {
    let span = tracing::info_span!(
        "directory.resolve",
        otel.kind = "client",
        server.address = tracing::field::Empty,
        twinlock.directory = directory.name().as_str(),
        twinlock.name_form = form.code(),
    );
    async {
        let scope = search.scope;
        search.size_limit = 2; // enough to see that there are several
        let answer = directory.search(search).await?;
        tracing::Span::current().record("server.address", answer.server.host());
        only_entry(scope, answer)
    }
    .instrument(span)
    .await
}

/// What an answer proves.
fn only_entry(scope: Scope, answer: Answer) -> Result<(ServerName, SearchResultEntry), ResolveError> {
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
    Ok((server, found))
}

fn entry(directory: &Directory, found: &SearchResultEntry, form: NameForm) -> Result<Entry, BadEntry> {
    let settings = directory.settings();
    let subject = DirectoryRef { directory: settings.name.clone(), id: id_of(settings, found)? };
    let dn = found.dn_text().filter(|dn| !dn.is_empty()).ok_or(BadEntry::BadDn)?.to_owned();
    let username = directory.username(|attribute| plain_text(found, attribute));
    Ok(Entry {
        username: username.unwrap_or_else(|| dn.clone()),
        first_name: settings.first_name_attributes().find_map(|it| plain_text(found, it)),
        last_name: settings.last_name_attributes().find_map(|it| plain_text(found, it)),
        mail: settings.mail_attributes().find_map(|it| plain_text(found, it)),
        account: plain_text(found, ACCOUNT).filter(|_| has_accounts(settings)),
        password_stamp: password_stamp(found),
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
    Ok(ObjectId::from_value(attribute, settings.id_type(), value)?)
}

/// The first value that a person could have typed: short, and without control characters (S-59).
pub(crate) fn plain_text(entry: &SearchResultEntry, attribute: &str) -> Option<String> {
    let plain = |text: &&str| (1..=512).contains(&text.len()) && !text.chars().any(char::is_control);
    let texts = entry.values(attribute).iter().filter_map(|value| std::str::from_utf8(value).ok());
    texts.into_iter().find(plain).map(str::to_owned)
}

/// The account of Active Directory, without its domain.
pub(crate) const ACCOUNT: &str = "sAMAccountName";

fn has_accounts(settings: &settings::Directory) -> bool {
    is_active_directory(settings) || settings.authentication_bind.kind == BindKind::Windows
}

fn attributes(settings: &settings::Directory) -> Vec<&str> {
    let mut attributes = vec![settings.id_attribute()];
    attributes.extend(PASSWORD_CHANGED);
    attributes.extend(settings.first_name_attributes());
    attributes.extend(settings.last_name_attributes());
    attributes.extend(settings.mail_attributes());
    attributes.extend(settings.username_attributes());
    attributes.extend(has_accounts(settings).then_some(ACCOUNT));
    settings::each_once(attributes)
}

/// The table at the head of this file.
fn names(name: &TypedName, settings: &settings::Directory) -> Filter {
    let alternatives = match &name.kind {
        Kind::Guid(octets) => vec![Filter::equal(settings.id_attribute(), octets.clone())],
        Kind::Sid(octets) => vec![Filter::equal("objectSid", octets.clone())],
        Kind::ServicePrincipal => vec![Filter::equal(SERVICE_PRINCIPAL, name.as_str())],
        Kind::Netbios { user } => equal(&account_attributes(settings), user),
        Kind::Upn { user, domain } => in_domain(user, domain, settings),
        Kind::Bare | Kind::Dn(_) | Kind::Canonical { .. } | Kind::Foreign => {
            let mut alternatives = equal(&settings.username_attributes(), name.as_str());
            if !settings.default_domain.is_empty() {
                alternatives.extend(in_domain(name.as_str(), &settings.default_domain, settings));
            }
            alternatives
        }
    };
    let mut each_once: Vec<Filter> = Vec::with_capacity(alternatives.len());
    for filter in alternatives {
        if !each_once.contains(&filter) {
            each_once.push(filter);
        }
    }
    Filter::or(each_once)
}

/// `user@domain`
fn in_domain(user: &str, domain: &str, settings: &settings::Directory) -> Vec<Filter> {
    let mut attributes = settings.username_attributes();
    let whole: Vec<&str> = match is_active_directory(settings) {
        true => vec!["userPrincipalName"],
        false => settings.mail_attributes().filter(|_| settings.signs_in_by_mail()).collect(),
    };
    for whole in whole {
        if !attributes.iter().any(|attribute| attribute.eq_ignore_ascii_case(whole)) {
            attributes.push(whole);
        }
    }
    let mut alternatives = equal(&attributes, &format!("{user}@{domain}"));
    if settings.strip_domain || is_domain_of_base(domain, settings) {
        alternatives.extend(equal(&account_attributes(settings), user));
    }
    alternatives
}

/// What is looked at, in this order, after the search by [`names`] has found nobody.
fn further_names(name: &TypedName, settings: &settings::Directory) -> Vec<(NameForm, Filter)> {
    let active_directory = is_active_directory(settings);
    let alternate = settings.alternate_attribute().filter(|_| name.may_be_alternate());
    let mut alternates: Vec<Filter> =
        alternate.map(|attribute| Filter::equal(attribute, name.as_str())).into_iter().collect();
    // Others have it beside their names. Here a mail address takes no principal name from whose it is.
    let address = match &name.kind {
        Kind::Upn { .. } => Some(name.as_str().to_owned()),
        Kind::Bare if !settings.default_domain.is_empty() => {
            Some(format!("{}@{}", name.as_str(), settings.default_domain))
        }
        _ => None,
    };
    let address = address.filter(|_| active_directory && settings.signs_in_by_mail());
    if let Some(address) = address {
        alternates.extend(settings.mail_attributes().map(|attribute| Filter::equal(attribute, address.as_str())));
    }
    let alternates = match alternates.len() {
        0 | 1 => alternates.pop(),
        _ => Some(Filter::or(alternates)),
    };
    let of_active_directory = match &name.kind {
        Kind::Bare => Some((NameForm::DisplayName, "displayName")),
        Kind::Netbios { .. } if !name.as_str().contains('\\') => {
            Some((NameForm::ServicePrincipalName, SERVICE_PRINCIPAL))
        }
        _ => None,
    };
    let further = of_active_directory.filter(|_| active_directory);
    let further = further.map(|(form, attribute)| (form, Filter::equal(attribute, name.as_str())));
    let former = match &name.kind {
        Kind::Sid(octets) => Some((NameForm::Sid, Filter::equal("sIDHistory", octets.clone()))),
        _ => None,
    };
    alternates.map(|names| (NameForm::Alternate, names)).into_iter().chain(further).chain(former).collect()
}

const SERVICE_PRINCIPAL: &str = "servicePrincipalName";
const SPN_MAPPINGS: &str = "sPNMappings";

fn is_active_directory(settings: &settings::Directory) -> bool {
    settings.preset == Preset::ActiveDirectory
}

/// What a user's name without any domain stands in.
fn account_attributes(settings: &settings::Directory) -> Vec<&str> {
    if is_active_directory(settings) { vec!["sAMAccountName"] } else { settings.username_attributes() }
}

fn equal(attributes: &[&str], value: &str) -> Vec<Filter> {
    attributes.iter().map(|attribute| Filter::equal(*attribute, value)).collect()
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
        filter_by(text, &settings(preset))
    }

    fn filter_by(text: &str, settings: &settings::Directory) -> String {
        names(&TypedName::parse(text, settings).expect("a name"), settings).to_string()
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
            (r"corp.example\alice", Ad, "(|(sAMAccountName=alice))"),
            ("corp.example/alice", OpenLdap, "(|(uid=alice))"),
            ("HTTP/web(1)", Ad, r"(|(servicePrincipalName=HTTP/web\281\29))"),
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
    fn a_bare_name_in_the_default_domain_is_searched_with_it_too_and_a_stripped_domain_is_ours() {
        // FD-18
        let with = |text: &str, preset: Preset, default: &str, strip: bool| {
            let settings =
                settings::Directory { default_domain: default.into(), strip_domain: strip, ..settings(preset) };
            filter_by(text, &settings)
        };
        use Preset::{ActiveDirectory as Ad, OpenLdap};
        assert_eq!(
            with("alice", Ad, "b.example", false),
            "(|(userPrincipalName=alice)(sAMAccountName=alice)(userPrincipalName=alice@b.example)(sAMAccountName=alice@b.example))"
        );
        assert_eq!(
            with("alice", OpenLdap, "corp.example", false),
            "(|(uid=alice)(uid=alice@corp.example)(mail=alice@corp.example))"
        );
        assert_eq!(with("a@c.example", OpenLdap, "b.example", false), "(|(uid=a@c.example)(mail=a@c.example))");
        assert_eq!(with("a@c.example", OpenLdap, "", true), "(|(uid=a@c.example)(mail=a@c.example)(uid=a))");
        assert_eq!(with(r"OTHER\a", Ad, "", true), "(|(sAMAccountName=a))");
    }

    #[test]
    fn a_mail_address_is_a_name_where_the_settings_say_so() {
        // FD-18
        let with = |text: &str, preset: Preset, by_mail: Option<bool>, default: &str| {
            let mut settings = settings(preset);
            (settings.sign_in_by_mail, settings.default_domain) = (by_mail, default.into());
            settings.attributes.alternate = text.starts_with('x').then(|| "employeeNumber".into());
            let name = TypedName::parse(text, &settings).expect("a name");
            let further: Vec<String> =
                further_names(&name, &settings).into_iter().map(|(_, filter)| filter.to_string()).collect();
            (names(&name, &settings).to_string(), further.join(" "))
        };
        let pair = |first: &str, then: &str| (first.to_owned(), then.to_owned());
        use Preset::{ActiveDirectory as Ad, AdLds, OpenLdap};
        for preset in [OpenLdap, AdLds] {
            let on = with("a@b.example", preset, None, "");
            assert!(on.0.contains("(mail=a@b.example)"), "{on:?}");
            let off = with("a@b.example", preset, Some(false), "");
            assert!(!off.0.contains("mail") && off.1.is_empty(), "{off:?}");
        }
        assert_eq!(with("a", OpenLdap, Some(false), "b.example"), pair("(|(uid=a)(uid=a@b.example))", ""));
        let by_name = "(|(userPrincipalName=a@b.example)(sAMAccountName=a@b.example))";
        for off in [None, Some(false)] {
            assert_eq!(with("a@b.example", Ad, off, ""), pair(by_name, ""));
        }
        assert_eq!(with("a@b.example", Ad, Some(true), ""), pair(by_name, "(mail=a@b.example)"));
        assert_eq!(with("x@b.example", Ad, Some(true), "").1, "(|(employeeNumber=x@b.example)(mail=x@b.example))");
        assert_eq!(with("a", Ad, Some(true), "").1, "(displayName=a)", "no address");
        assert_eq!(with("a", Ad, Some(true), "b.example").1, "(mail=a@b.example) (displayName=a)");
        assert_eq!(with(r"CORP\a", Ad, Some(true), "b.example").1, "");
    }

    #[test]
    fn what_is_looked_at_next_depends_on_the_form_and_never_on_what_names_a_domain() {
        // L-20, FD-19
        let further = |text: &str, preset: Preset, alternate: Option<&str>| -> Vec<String> {
            let mut settings = settings(preset);
            settings.attributes.alternate = alternate.map(str::to_owned);
            let name = TypedName::parse(text, &settings).expect("a name");
            let further = further_names(&name, &settings);
            further.into_iter().map(|(form, filter)| format!("{} {filter}", form.code())).collect()
        };
        use Preset::{ActiveDirectory as Ad, OpenLdap};
        let number = Some("employeeNumber");
        assert_eq!(further("Ann", Ad, number), ["alternate (employeeNumber=Ann)", "display_name (displayName=Ann)"]);
        assert_eq!(further("Ann", OpenLdap, number), ["alternate (employeeNumber=Ann)"]);
        assert_eq!(further("a*@b", Ad, number), [r"alternate (employeeNumber=a\2a@b)"]);
        assert_eq!(further("CORP/ann", Ad, number), ["spn (servicePrincipalName=CORP/ann)"]);
        assert_eq!(further("S-1-5-18", Ad, number), [r"sid (sIDHistory=\01\01\00\00\00\00\00\05\12\00\00\00)"]);
        for (text, preset) in [
            (r"CORP\ann", Ad),
            ("CORP/ann", OpenLdap),
            ("corp.example/ann", Ad),
            ("HTTP/web", Ad),
            ("cn=ann,dc=corp,dc=example", Ad),
        ] {
            assert_eq!(further(text, preset, number), [""; 0], "{text}");
        }
        assert_eq!(further("ann", OpenLdap, None), [""; 0]);
    }

    #[test]
    fn a_service_class_is_kept_under_those_that_list_it() {
        // MS-DRSR section 4.1.4.2.19
        let mappings = ["host=alerter,http, W3svc", "gc=ldapgc", "nonsense", "other=http"];
        let of = |class: &str| mapped_classes(class, mappings.into_iter());
        assert_eq!(of("HTTP"), ["host", "other"]);
        assert_eq!(of("w3svc"), ["host"]);
        assert_eq!(of("host"), [""; 0]);
        assert_eq!(of(""), [""; 0]);
    }

    #[test]
    fn the_windows_domain_is_asked_about_its_own_people_by_their_own_name() {
        // R-60, FR-08
        let asked = |preset: Preset, base: &str, short: &str, dn: &str, account: Option<&str>| {
            let names = settings::Directory { base: base.into(), netbios_domain: short.into(), ..settings(preset) };
            let id = "objectGUID:aabbccdd-0011-2233-4455-66778899aabb".parse().expect("an id");
            let subject = DirectoryRef { directory: names.name.clone(), id };
            let entry = Entry {
                subject,
                dn: dn.into(),
                username: "ann@corp.example".into(),
                first_name: None,
                last_name: None,
                mail: None,
                account: account.map(str::to_owned),
                password_stamp: None,
                form: NameForm::Bare,
            };
            entry.account_in_domain(&names)
        };
        use Preset::{ActiveDirectory as Ad, OpenLdap};
        let (root, own, child) =
            ("DC=corp,DC=example", "CN=Ann,OU=x,dc=Corp,DC=example", "CN=Ann,DC=child,DC=corp,DC=example");
        let other = |domain: &str| Err(NoAccount::OtherDomain { domain: domain.into() });
        assert_eq!(asked(Ad, root, "CORP", own, Some("ann")), Ok(r"CORP\ann".into()));
        assert_eq!(asked(Ad, "OU=x,DC=corp,DC=example", "", own, Some("ann")), Ok("ann".into()));
        for short in ["CORP", ""] {
            assert_eq!(asked(Ad, root, short, child, Some("ann")), other("child.corp.example"), "another's name");
            assert_eq!(asked(Ad, "", short, own, Some("ann")), other("corp.example"), "nobody knows whose CORP is");
            assert_eq!(asked(Ad, root, short, "CN=Ann", Some("ann")), Err(NoAccount::Unread));
        }
        assert_eq!(asked(Ad, root, "CORP", own, None), Err(NoAccount::Unread));
        assert_eq!(asked(OpenLdap, root, "CORP", "uid=ann,o=x", None), Ok("ann@corp.example".into()));
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
            only_entry(scope, Answer { server: server.clone(), entries, references, result }).map(|(_, entry)| entry)
        };
        use ResolveError::{Absent, Ambiguous, Directory, Incomplete};
        assert!(matches!(verdict(0, false, 0, Scope::Subtree), Err(Absent)));
        assert!(matches!(verdict(0, false, 1, Scope::Subtree), Ok(entry) if entry.dn_text() == Some("uid=0")));
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
