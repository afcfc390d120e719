//! Tries settings out before they are saved (FD-11), without anything that is in use noticing.
//!
//! ```text
//! servers: connect, TLS, query bind, base ─┬─> counts: users, groups, containers
//!   one after the other; a refused query   ├─> paging
//!   bind is tried on no other server       ├─> change feeds, rights tried (S-03)
//!                                          ├─> attributes of the settings, known to the schema (FD-17)
//!                                          ├─> other domains, listed and tried (FD-02)
//!                                          ├─> one user as mapped
//!                                          └─> authentication bind: reachable; with a password, one bind
//! ```

mod domains;
mod schema;

pub use domains::{OtherDomain, OtherDomains, Unlisted};
pub use schema::Schema;

use crate::bind::BindError;
use crate::connect::ConnectError;
use crate::directory::{Core, Directory, Options, Purpose, SettingsError};
use crate::feed::{Link, Offer};
use crate::name::TypedName;
use crate::pool::chain;
use crate::probe::{self, ProbeError, Probed};
use crate::query::QueryError;
use crate::read::{Incomplete, Query, Read};
use crate::resolve::{Entry, ResolveError};
use domain::settings;
use domain::{NameForm, ObjectId, Secret};
use ldap_wire::{Filter, LdapResult, Op, PagedResults, ResultCode, Scope, SearchRequest, SearchResultEntry};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whom to look at, and whether their password is right.
#[derive(Default)]
pub struct Trial {
    /// As they would type it; otherwise the first user found.
    pub name: Option<String>,
    /// Checked with one bind.
    pub password: Option<Secret>,
    /// As synchronisation connects, where it has an account of its own (FD-09): a draft of the settings for that.
    pub synchronisation: Option<Directory>,
}

/// What came of it.
#[derive(Debug)]
pub struct Inspection {
    /// Those that were tried: none is after a refused query bind, so that the account is not locked.
    pub servers: Vec<Probed>,
    /// What is wrong with servers whatever they answer, in sentences.
    unfit: Vec<String>,
    /// Those that were tried with the account of synchronisation, where that was to be tried.
    pub synchronisation: Option<Vec<Probed>>,
    /// Synchronisation has an account of its own.
    has_sync_bind: bool,
    /// What the first good server says; none where no server is good.
    pub findings: Option<Findings>,
}

#[derive(Debug)]
pub struct Findings {
    pub users: Counted,
    pub groups: Counted,
    pub containers: Counted,
    pub paging: Result<Paging, Incomplete>,
    pub feeds: Result<Vec<Offer>, Incomplete>,
    /// The one that the settings want; `None` = the first that can be used.
    pub feed_wanted: Option<settings::Feed>,
    /// By key of the settings: attributes that the schema does not have (FD-17).
    pub unknown_attributes: Result<Vec<(String, String)>, Incomplete>,
    pub domains: Result<OtherDomains, Unlisted>,
    pub user: Result<Mapped, UserError>,
    /// What else has to have an id, where somebody writes the ids (FD-31).
    pub by_id: Vec<ById>,
    pub authentication: Authentication,
}

/// One group, one container, the base: one without an id where there is any.
#[derive(Debug)]
pub struct ById {
    about: About,
    what: &'static str,
    /// The DN of one that is found by its id.
    found: Result<String, UserError>,
}

/// Entries that a filter of the settings matches below the base.
#[derive(Debug)]
pub struct Counted {
    pub entries: usize,
    /// Otherwise there are as many at least.
    pub end: Result<(), CountError>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    #[error("counting took longer than {} s", COUNTING.as_secs())]
    TookTooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paging {
    Pages,
    /// It sends everything at once, up to its own limit: what is more is read in parts.
    Ignores,
    /// There are not enough users to find out.
    Untried,
}

/// A user as the settings map them: what can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    pub id: ObjectId,
    pub distinguished_name: String,
    /// How the name that was given was understood.
    pub form: Option<NameForm>,
    pub values: Vec<MappedValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedValue {
    /// As it stands in the settings: `phones.mobile`.
    pub field: String,
    pub attribute: String,
    /// Cut short, without control characters, some of many.
    pub values: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    #[error("no user was found below the base")]
    None,
    #[error("the user of this name could not be found")]
    Name(#[from] ResolveError),
    #[error("the directory could not be read")]
    Unread(#[from] Incomplete),
    /// FD-31: nobody has written one, or the query account may not read it.
    #[error("{dn:?} has no {attribute} that is an id")]
    NoId { attribute: String, dn: String },
    /// FD-31: the attribute is not searchable, or not unique, or its form is another one.
    #[error(
        "{dn:?} has {attribute} {id}, and a search for that finds {found} entries and not that one; set attributes.id to an attribute \
         that is searched and unique"
    )]
    OtherById { attribute: String, id: ObjectId, dn: String, found: usize },
}

#[derive(Debug)]
pub enum Authentication {
    /// The server for it is there; nobody's password was tried.
    Reachable,
    Accepted,
    Refused(BindError),
    Unreachable(ConnectError),
    /// There is nobody to try the password of.
    NoUser,
}

const COUNTING: Duration = Duration::from_secs(20);

impl Directory {
    /// Of settings that may never be saved: it keeps no connection and serves nobody. For [`Directory::inspect`].
    pub fn draft(settings: settings::Directory, query_password: Option<Secret>) -> Result<Self, SettingsError> {
        Self::idle(settings, query_password, Options::default())
    }

    /// The same of settings that keep the query password of this one. Whoever calls has seen that it goes nowhere else (V-83).
    pub fn draft_with_its_password(&self, settings: settings::Directory) -> Result<Self, SettingsError> {
        Self::draft(settings, Some(self.core().query_password().clone()))
    }

    /// Tries everything that is needed of a directory, once.
    pub async fn inspect(&self, trial: &Trial) -> Inspection {
        let servers = tried(self.core()).await;
        let mut findings = if is_good(&servers) { Some(self.findings(trial).await) } else { None };
        let mut synchronisation = None;
        if let Some(draft) = &trial.synchronisation {
            let servers = tried(draft.core()).await;
            // Whose right it is that counts.
            if let (true, Some(findings)) = (is_good(&servers), &mut findings) {
                findings.feeds = draft.probe_feeds().await;
            }
            synchronisation = Some(servers);
        }
        let (unfit, has_sync_bind) = (self.settings().unfit_servers(), self.settings().sync_bind.is_some());
        Inspection { servers, unfit, synchronisation, has_sync_bind, findings }
    }

    async fn findings(&self, trial: &Trial) -> Findings {
        let users = self.count(self.user_filter()).await;
        let groups = self.count(self.group_filter()).await;
        let containers = self.count(self.container_filter()).await;
        let paging = paging(self.core()).await;
        let feeds = self.probe_feeds().await;
        let unknown_attributes = schema::unknown(self).await;
        let domains = domains::other(self).await;
        let entry = self.someone(trial).await;
        let authentication = self.try_authentication(trial, entry.as_ref().ok().and_then(Option::as_ref)).await;
        let user = match entry {
            Ok(entry) => self.mapped(entry).await,
            Err(error) => Err(error.into()),
        };
        let by_id = self.by_id().await;
        let feed_wanted = self.settings().feed;
        Findings {
            users,
            groups,
            containers,
            paging,
            feeds,
            feed_wanted,
            unknown_attributes,
            domains,
            user,
            by_id,
            authentication,
        }
    }

    async fn count(&self, filter: &Filter) -> Counted {
        let base = &self.settings().base;
        let mut reading = self.read(Query::new(base, Scope::Subtree, filter.clone(), &["1.1"]));
        let mut entries = 0;
        let all = async {
            loop {
                match reading.next().await {
                    Read::Entry(_) => entries += 1,
                    Read::Complete => return Ok(()),
                    Read::Incomplete(why) => return Err(why.into()),
                }
            }
        };
        let end = tokio::time::timeout(COUNTING, all).await.unwrap_or(Err(CountError::TookTooLong));
        Counted { entries, end }
    }

    /// The user who was named.
    async fn someone(&self, trial: &Trial) -> Result<Option<Entry>, ResolveError> {
        let Some(name) = &trial.name else { return Ok(None) };
        self.resolve(&TypedName::parse(name, self.settings())?).await.map(Some)
    }

    async fn mapped(&self, named: Option<Entry>) -> Result<Mapped, UserError> {
        let settings = self.settings();
        let fields = settings.attributes_of_people();
        let mapped = fields.iter().map(|(_, attribute)| *attribute);
        let attributes = settings::each_once(mapped.chain([settings.id_attribute()]));
        let (found, form) = match &named {
            Some(entry) => {
                let found = self.read_dns(std::slice::from_ref(&entry.dn), &attributes, false).await?;
                (found.into_iter().next(), Some(entry.form))
            }
            None => {
                let filter = self.user_filter().clone();
                let mut reading = self.read(Query::new(&settings.base, Scope::Subtree, filter, &attributes));
                match reading.next().await {
                    Read::Entry(entry) => (Some(entry), None),
                    Read::Complete => (None, None),
                    Read::Incomplete(why) => return Err(why.into()),
                }
            }
        };
        let found = found.ok_or(UserError::None)?;
        let id = self.id_of(&found).map_err(|problem| {
            let server = self.core().servers.names().swap_remove(0);
            ResolveError::BadEntry { server, problem }
        })?;
        let values = fields.into_iter().map(|(field, attribute)| MappedValue {
            field,
            attribute: attribute.to_owned(),
            values: shown(&found, attribute),
        });
        let distinguished_name = found.dn_text().unwrap_or_default().to_owned();
        self.is_found_by(&id, &distinguished_name).await?;
        Ok(Mapped { id, distinguished_name, form, values: values.collect() })
    }

    /// Looks for one that has no id first, as that is what does harm.
    async fn by_id(&self) -> Vec<ById> {
        let settings = self.settings();
        let attribute = settings.id_attribute();
        if ObjectId::known_type(attribute).is_some() {
            return Vec::new();
        }
        let without = Filter::not(Filter::present(attribute));
        let mut all = Vec::new();
        for (about, what, scope, which) in [
            (About::Groups, "group", Scope::Subtree, self.group_filter()),
            (About::Containers, "container", Scope::Subtree, self.container_filter()),
            (About::Attributes, "base", Scope::Base, &Filter::present("objectClass")),
        ] {
            let lacking = self.first_of(scope, Filter::and([which.clone(), without.clone()])).await;
            let first = match lacking {
                Ok(None) => self.first_of(scope, which.clone()).await,
                lacking => lacking,
            };
            let found = match first {
                Ok(None) => continue,
                Ok(Some(entry)) => self.leads_back(&entry).await,
                Err(why) => Err(why.into()),
            };
            all.push(ById { about, what, found });
        }
        all
    }

    async fn first_of(&self, scope: Scope, which: Filter) -> Result<Option<SearchResultEntry>, Incomplete> {
        let settings = self.settings();
        let mut reading = self.read(Query::new(&settings.base, scope, which, &[settings.id_attribute()]));
        match reading.next().await {
            Read::Entry(entry) => Ok(Some(entry)),
            Read::Complete => Ok(None),
            Read::Incomplete(why) => Err(why),
        }
    }

    async fn leads_back(&self, entry: &SearchResultEntry) -> Result<String, UserError> {
        let dn = entry.dn_text().unwrap_or_default().to_owned();
        let attribute = || self.settings().id_attribute().to_owned();
        let id = self.id_of(entry).map_err(|_| UserError::NoId { attribute: attribute(), dn: dn.clone() })?;
        self.is_found_by(&id, &dn).await.map(|()| dn)
    }

    /// Whatever is decided about people goes by their ids: the directory must find them by these (FD-31).
    async fn is_found_by(&self, id: &ObjectId, dn: &str) -> Result<(), UserError> {
        let settings = self.settings();
        let filter = Filter::equal(settings.id_attribute(), id.filter_value().1);
        let found = self.read(Query::new(&settings.base, Scope::Subtree, filter, &["1.1"])).collect().await?;
        match found.as_slice() {
            [one] if one.dn_text() == Some(dn) => Ok(()),
            _ => Err(UserError::OtherById {
                attribute: settings.id_attribute().to_owned(),
                id: id.clone(),
                dn: dn.to_owned(),
                found: found.len(),
            }),
        }
    }

    async fn try_authentication(&self, trial: &Trial, entry: Option<&Entry>) -> Authentication {
        match (&trial.password, entry) {
            (Some(password), Some(entry)) => match self.authenticate(entry, password).await {
                Ok(_) => Authentication::Accepted,
                Err(error) => Authentication::Refused(error),
            },
            (Some(_), None) => Authentication::NoUser,
            (None, _) => match self.core().connect(Purpose::Authentications).await {
                Ok(_) => Authentication::Reachable,
                Err(error) => Authentication::Unreachable(error),
            },
        }
    }
}

/// One after the other, up to a query bind that is refused: the others would refuse it as well, and count.
async fn tried(core: &Core) -> Vec<Probed> {
    let mut probed = Vec::new();
    core.discover().await;
    for server in &core.servers.names() {
        let one = probe::one(core, server).await;
        let refused = match &one.outcome {
            Err(ProbeError::Query(QueryError::BindRefused { code, .. })) => *code == ResultCode::INVALID_CREDENTIALS,
            Err(ProbeError::Query(error)) => error.is_refusal(),
            _ => false,
        };
        probed.push(one);
        if refused {
            break;
        }
    }
    probed
}

fn is_good(servers: &[Probed]) -> bool {
    servers.iter().any(|probed| probed.outcome.is_ok())
}

/// Asks for a page of one user and looks what comes.
async fn paging(core: &Arc<Core>) -> Result<Paging, Incomplete> {
    let mut link = Link::open(core, None).await?;
    let search = SearchRequest::new(core.base_text().to_owned(), Scope::Subtree, core.user_filter(), &["1.1"]);
    let mut controls = core.search_controls();
    controls.push(PagedResults { size: 1, ..PagedResults::default() }.to_control(false));
    link.ask(&search, &controls).await?;
    let mut entries = 0;
    loop {
        let message = link.answer().await?;
        match message.op() {
            Op::SearchResultEntry if entries == 1 => return Ok(Paging::Ignores),
            Op::SearchResultEntry => entries += 1,
            Op::SearchResultDone => {
                let LdapResult { code, .. } = link.done(&message)?;
                // As OpenLDAP refuses to send pages, and others do.
                let no_pages = [ResultCode::ADMIN_LIMIT_EXCEEDED, ResultCode::UNWILLING_TO_PERFORM];
                if entries == 0 && no_pages.contains(&code) {
                    return Ok(Paging::Ignores);
                }
                if code != ResultCode::SUCCESS {
                    return Err(Incomplete::Refused { server: link.server(), code });
                }
                let controls = message.controls().map_err(|error| link.unreadable(error))?;
                let paged = PagedResults::find(&controls).map_err(|error| link.unreadable(error))?;
                return Ok(match paged {
                    Some(paged) if !paged.cookie.is_empty() => Paging::Pages,
                    _ => Paging::Untried,
                });
            }
            _ => {}
        }
    }
}

/// S-59: whatever stands there, it is short and harmless to look at.
fn shown(entry: &SearchResultEntry, attribute: &str) -> Vec<String> {
    const VALUES_MAX: usize = 5;
    const CHARACTERS_MAX: usize = 200;
    let text = |value: &bytes::Bytes| match std::str::from_utf8(value) {
        Ok(text) => text.chars().filter(|sign| !sign.is_control()).take(CHARACTERS_MAX).collect(),
        Err(_) => format!("({} octets)", value.len()),
    };
    entry.values(attribute).iter().take(VALUES_MAX).map(text).collect()
}

/// One sentence of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub about: About,
    pub verdict: Judgement,
    pub text: String,
}

/// What a sentence is about: closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum About {
    Server,
    Synchronisation,
    Users,
    Groups,
    Containers,
    Paging,
    Changes,
    Attributes,
    Domains,
    User,
    Authentication,
}

impl About {
    pub fn code(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Synchronisation => "synchronisation",
            Self::Users => "users",
            Self::Groups => "groups",
            Self::Containers => "containers",
            Self::Paging => "paging",
            Self::Changes => "changes",
            Self::Attributes => "attributes",
            Self::Domains => "domains",
            Self::User => "user",
            Self::Authentication => "authentication",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Judgement {
    Good,
    /// It works, and something should be looked at.
    Doubtful,
    Bad,
}

impl Inspection {
    /// Nothing that would keep the directory from serving.
    pub fn is_good(&self) -> bool {
        self.lines().iter().all(|line| line.verdict != Judgement::Bad)
    }

    /// All of it in sentences.
    pub fn lines(&self) -> Vec<Line> {
        let of_server = |about, Probed { server, outcome, .. }: &Probed| {
            let (verdict, text) = match outcome {
                Ok(found) => (Judgement::Good, format!("{server}: {found}.")),
                Err(error) => (Judgement::Bad, format!("{server}: {error}")),
            };
            Line { about, verdict, text }
        };
        let mut lines: Vec<Line> = self.servers.iter().map(|probed| of_server(About::Server, probed)).collect();
        let unfit = |text: &String| Line { about: About::Server, verdict: Judgement::Bad, text: text.clone() };
        lines.extend(self.unfit.iter().map(unfit));
        let about = About::Synchronisation;
        match &self.synchronisation {
            Some(probed) => lines.extend(probed.iter().map(|probed| of_server(about, probed))),
            None if self.has_sync_bind => lines.push(Line {
                about,
                verdict: Judgement::Doubtful,
                text: "The account of sync_bind was not tried, nor its right to change feeds: synchronisation alone has its password, \
                       and \"twinlock sync status\" says how it fares."
                    .into(),
            }),
            None => {}
        }
        if let Some(findings) = &self.findings {
            findings.tell(&mut lines);
        }
        lines
    }
}

impl Findings {
    fn tell(&self, lines: &mut Vec<Line>) {
        let mut tell = |about, verdict, text: String| lines.push(Line { about, verdict, text });
        for (about, what, counted) in [
            (About::Users, "users", &self.users),
            (About::Groups, "groups", &self.groups),
            (About::Containers, "containers", &self.containers),
        ] {
            let Counted { entries, end } = counted;
            match end {
                Ok(()) if *entries == 0 && about == About::Users => {
                    tell(
                        about,
                        Judgement::Bad,
                        "No user is found below the base: check base, user_filter and what the query account may read."
                            .into(),
                    );
                }
                Ok(()) => tell(about, Judgement::Good, format!("{entries} {what} found.")),
                Err(CountError::TookTooLong) => {
                    tell(about, Judgement::Good, format!("{entries} {what} and more found."))
                }
                Err(CountError::Incomplete(why)) => tell(
                    about,
                    Judgement::Bad,
                    format!(
                        "{entries} {what} found, and not all could be read: {}. Nobody is removed by such a reading.",
                        chain(why)
                    ),
                ),
            }
        }
        match &self.paging {
            Ok(Paging::Pages) => tell(About::Paging, Judgement::Good, "The server sends its answers in pages.".into()),
            Ok(Paging::Ignores) => tell(
                About::Paging,
                Judgement::Doubtful,
                "The server sends no pages: where its own size limit cuts an answer off, it is read in parts, by names. That takes longer."
                    .into(),
            ),
            Ok(Paging::Untried) => {
                tell(
                    About::Paging,
                    Judgement::Good,
                    "There are not enough users to see whether the server sends pages.".into(),
                );
            }
            Err(why) => tell(About::Paging, Judgement::Bad, format!("Pages could not be asked for: {}.", chain(why))),
        }
        self.tell_changes(&mut tell);
        self.tell_attributes(&mut tell);
        domains::tell(&self.domains, &mut tell);
        self.tell_user(&mut tell);
        self.tell_by_id(&mut tell);
    }

    fn tell_by_id(&self, tell: &mut impl FnMut(About, Judgement, String)) {
        for ById { about, what, found } in &self.by_id {
            let harm = match *about {
                About::Groups => {
                    "While one that group_filter finds has none, nobody counts as gone: write it, or leave the group out"
                }
                About::Containers => "Items do not find such a container again after it was renamed or moved",
                _ => "An item of the base does not need it",
            };
            match found {
                Ok(dn) => tell(*about, Judgement::Good, format!("The {what} {dn:?} is found by its id.")),
                Err(error) => tell(*about, Judgement::Doubtful, format!("The {what}: {}. {harm}.", chain(error))),
            }
        }
    }

    fn tell_changes(&self, tell: &mut impl FnMut(About, Judgement, String)) {
        let offers = match &self.feeds {
            Ok(offers) => offers,
            Err(why) => {
                tell(About::Changes, Judgement::Bad, format!("Change feeds could not be tried: {}.", chain(why)));
                return;
            }
        };
        // As synchronisation chooses.
        let can_be_used = |offer: &&Offer| offer.usable.is_ok();
        let wanted = self.feed_wanted;
        let used = offers.iter().filter(can_be_used).find(|offer| wanted.is_none_or(|wanted| wanted == offer.kind));
        let (judgement, text) = match (used, wanted) {
            (Some(used), None) => (
                Judgement::Good,
                format!("Changes will be followed by {}: it is the first feed that can be used.", used.kind.code()),
            ),
            (Some(used), Some(_)) => {
                (Judgement::Good, format!("Changes will be followed by {}, as the settings say.", used.kind.code()))
            }
            (None, None) => {
                (Judgement::Doubtful, "No change feed can be used: everything is read each time.".to_owned())
            }
            (None, Some(wanted)) => (
                Judgement::Doubtful,
                format!("The settings want {}, which cannot be used: everything is read each time.", wanted.code()),
            ),
        };
        tell(About::Changes, judgement, text);
        for offer in offers {
            let kind = offer.kind.code();
            match (&offer.usable, &offer.misses) {
                (Ok(()), None) => tell(About::Changes, Judgement::Good, format!("{kind} can be used.")),
                (Ok(()), Some(misses)) => {
                    tell(About::Changes, Judgement::Good, format!("{kind} can be used. It misses: {misses}"))
                }
                (Err(why), _) => tell(About::Changes, Judgement::Doubtful, format!("{kind} cannot be used. {why}")),
            }
        }
    }

    /// Only what is wrong. A schema that cannot be read says nothing.
    fn tell_attributes(&self, tell: &mut impl FnMut(About, Judgement, String)) {
        for (key, attribute) in self.unknown_attributes.iter().flatten() {
            let text =
                format!("attributes.{key}: the directory's schema has no attribute {attribute:?}; is it misspelt?");
            tell(About::Attributes, Judgement::Doubtful, text);
        }
    }

    fn tell_user(&self, tell: &mut impl FnMut(About, Judgement, String)) {
        match &self.user {
            Ok(user) => tell(About::User, Judgement::Good, user.to_string()),
            Err(UserError::None) => tell(About::User, Judgement::Doubtful, "There is no user to show.".into()),
            Err(error) => tell(About::User, Judgement::Bad, format!("No user can be shown: {}.", chain(error))),
        }
        let about = About::Authentication;
        match &self.authentication {
            Authentication::Reachable => {
                tell(about, Judgement::Good, "Passwords can be checked there; nobody's was tried.".into());
            }
            Authentication::Accepted => tell(about, Judgement::Good, "The password is right.".into()),
            Authentication::Refused(error) => {
                let reason = error.reason().code();
                tell(about, Judgement::Bad, format!("The password was not accepted ({reason}): {}.", chain(error)));
            }
            Authentication::Unreachable(error) => {
                tell(about, Judgement::Bad, format!("Passwords cannot be checked: {}.", chain(error)));
            }
            Authentication::NoUser => {
                tell(
                    about,
                    Judgement::Doubtful,
                    "The password was not tried, as its user was not found or not named.".into(),
                );
            }
        }
    }
}

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.distinguished_name, self.id)?;
        for MappedValue { field, attribute, values } in self.values.iter().filter(|it| !it.values.is_empty()) {
            write!(f, "; {field} = {:?} from {attribute}", values.join(", "))?;
        }
        Ok(())
    }
}
