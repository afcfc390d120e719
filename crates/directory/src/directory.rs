//! One directory of the settings: its servers, its connections, and what can be asked of it.

use crate::ahead::Ahead;
use crate::bind::{Accepted, BindError, Binders};
use crate::connect::{Channel, ConnectError, Protection, Upstream, establish};
use crate::connection::Connection;
use crate::controls::Controls;
use crate::discover::{Discovery, Place};
use crate::domains::{self, Domains};
use crate::exchange::Exchange;
use crate::name::TypedName;
use crate::observe::{Health, Observation, Observer, Operation, Outcome, ServerHealth, ServerState};
use crate::pool::Pool;
use crate::probe::{self, Probed};
use crate::query::{QueryError, is_unavailable};
use crate::read::{Incomplete, Query, Reader, Reading};
use crate::resolve::{self, Among, Entry, ResolveError};
use crate::server::{ServerName, Servers};
use crate::session::{self, Answer};
use crate::tickets::{Identity, TicketError, Tickets};
use crate::tls::{self, Trust, TrustError};
use crate::watch::Watch;
use domain::settings::{self, BindKind, Preset, WindowsAccount, WindowsMechanism};
use domain::{NameForm, ObjectId, ObjectName, Secret};
use ldap_wire::dn::DnError;
use ldap_wire::filter::FilterError;
use ldap_wire::{Control, Dn, Filter, ResultCode, Scope, SearchRequest, SearchResultEntry, oid};
use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How a service uses its directories.
#[derive(Clone)]
pub struct Options {
    /// Connections kept open for our own questions, at least one.
    pub query_connections: usize,
    /// How often each server is looked at, where there are several (L-37).
    pub look_every: Duration,
    /// Who is asked for the servers of a domain, where the settings leave it to the DNS; empty: whom the host asks.
    pub name_servers: Vec<SocketAddr>,
    /// The host's keys, for a Windows logon without an account of its own (FD-08).
    pub keytab: PathBuf,
    /// Told of every finished operation.
    pub observer: Option<Observer>,
}

/// Where every system has it.
const KEYTAB: &str = "/etc/krb5.keytab";

impl Default for Options {
    fn default() -> Self {
        Self {
            query_connections: 2,
            look_every: Duration::from_secs(10),
            name_servers: Vec::new(),
            keytab: KEYTAB.into(),
            observer: None,
        }
    }
}

/// A directory and its connections. Dropping it closes them.
pub struct Directory {
    core: Arc<Core>,
    /// None: it is a draft, and each question has a connection of its own.
    pool: Option<Pool>,
    ahead: Ahead,
    binders: Binders,
    /// Others than its own (FD-02).
    domains: Domains,
    /// What stands before a backslash in names of its people: it stands for another domain than the directory of its name.
    before_backslash: Option<String>,
    controls: Controls,
    _watch: Watch,
}

/// Why a directory cannot be made of its settings. The administrator's to mend; the settings' key is named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    #[error(
        "urls: found {found:?}; a server is written ldaps://HOST[:PORT] or ldap://HOST[:PORT], the servers of a domain ldaps+srv://DOMAIN"
    )]
    Url { found: String },
    #[error("urls: is empty")]
    NoServer,
    #[error("base: is no DN")]
    Base(#[source] DnError),
    #[error("user_filter: is no filter")]
    UserFilter(#[source] FilterError),
    #[error("group_filter: is no filter")]
    GroupFilter(#[source] FilterError),
    #[error("container_filter: is no filter")]
    ContainerFilter(#[source] FilterError),
    #[error("ca: {0}")]
    Ca(TrustError),
    #[error("pinned_certificates: {0}")]
    Pinned(TrustError),
    #[error("query_bind: its name is empty, which would bind as nobody")]
    NoQueryName,
    #[error(
        "query_bind.name: is empty, which stands for the keytab of the host; NTLM, which windows_mechanism asks for, has none"
    )]
    NoKeytabForNtlm,
    #[error("query_bind.password: is missing")]
    NoQueryPassword,
    #[error("query_bind.name: found {found:?}; where kind is \"windows\" it is DOMAIN\\user or user@domain")]
    QueryAccount { found: String },
}

impl Directory {
    /// Begins to open the query connections. Needs a tokio runtime.
    pub fn new(
        settings: settings::Directory,
        query_password: Option<Secret>,
        options: Options,
    ) -> Result<Self, SettingsError> {
        Ok(Self::kept(Core::new(settings, query_password, options, None)?))
    }

    fn kept(core: Core) -> Self {
        let core = Arc::new(core);
        let pool = Pool::start(&core, core.options.query_connections.max(1));
        let (ahead, watch) = (Ahead::start(&core), Watch::start(&core));
        Self { pool: Some(pool), _watch: watch, ..Self::of(core, ahead) }
    }

    /// Without connections that are kept, and with nobody looking after servers.
    pub(crate) fn idle(
        settings: settings::Directory,
        query_password: Option<Secret>,
        options: Options,
    ) -> Result<Self, SettingsError> {
        Ok(Self::not_kept(Core::new(settings, query_password, options, None)?))
    }

    fn not_kept(core: Core) -> Self {
        let core = Arc::new(core);
        let ahead = Ahead::start(&core);
        Self::of(core, ahead)
    }

    fn of(core: Arc<Core>, ahead: Ahead) -> Self {
        Self {
            core,
            pool: None,
            ahead,
            binders: Binders::new(),
            domains: Domains::default(),
            before_backslash: None,
            controls: Controls::default(),
            _watch: Watch::none(),
        }
    }

    /// Another one with our query password, of which nothing stays.
    pub(crate) fn draft_beside(&self, settings: settings::Directory) -> Result<Self, SettingsError> {
        let options = Options { observer: None, ..self.core.options.clone() };
        Self::idle(settings, self.core.query_password.clone(), options)
    }

    /// Another domain, with our query password, of the same standing, whose servers are trusted by the same certificates: to read those
    /// of the system once for each of many domains holds up everybody. Nobody is told of its operations: that it is silent says nothing
    /// about this one.
    pub(crate) fn beside(&self, settings: settings::Directory, before_backslash: &str) -> Result<Self, SettingsError> {
        let password = self.core.query_password.clone();
        let options = Options { observer: None, ..self.core.options.clone() };
        let core = Core::new(settings, password, options, self.core.tls.clone())?;
        let other = if self.pool.is_some() { Self::kept(core) } else { Self::not_kept(core) };
        Ok(Self { before_backslash: Some(before_backslash.to_owned()), ..other })
    }

    /// What stands before a backslash in names of its people, where it stands for another domain than the directory of its name (FD-02).
    pub fn before_backslash(&self) -> Option<&str> {
        self.before_backslash.as_deref()
    }

    /// What somebody is called, by the values of their attributes.
    pub fn username(&self, value: impl Fn(&str) -> Option<String>) -> Option<String> {
        match self.before_backslash() {
            None => self.settings().username_attributes().into_iter().find_map(value),
            Some(domain) => domains::username(self.settings(), domain, value),
        }
    }

    pub fn name(&self) -> &ObjectName {
        &self.core.settings.name
    }

    /// With the base that was learned, once it is known ([`Directory::ready`]).
    pub fn settings(&self) -> &settings::Directory {
        self.core.base.get().map_or(&self.core.settings, |base| &base.settings)
    }

    /// Parsed from the settings.
    pub fn user_filter(&self) -> &Filter {
        &self.core.user_filter
    }

    /// Parsed from the settings.
    pub fn group_filter(&self) -> &Filter {
        &self.core.group_filter
    }

    /// Where all searches start; the whole of the directory, while it is not known ([`Directory::ready`]).
    pub fn base(&self) -> &Dn {
        self.core.base()
    }

    pub fn base_text(&self) -> &str {
        self.core.base_text()
    }

    /// The base is known from here on: where the settings name none, a server is asked for it (FD-05).
    pub async fn ready(&self) -> Result<(), QueryError> {
        if self.core.knows_base() {
            return Ok(());
        }
        // Whoever opens a connection for this question learns the base before it is asked.
        let root = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &["1.1"]);
        self.search(SearchRequest { size_limit: 1, ..root }).await.map(drop)
    }

    /// Names of other domains are looked up there (FD-02).
    pub(crate) fn includes_trusted_domains(&self) -> bool {
        self.core.settings.includes_trusted_domains()
    }

    pub(crate) fn domains(&self) -> &Domains {
        &self.domains
    }

    /// A name that was read before the base was known may have to be read otherwise, and so may one before whose backslash stands the
    /// short name of our own domain, which the settings need not say (FD-18).
    pub(crate) async fn read_again<'a>(&self, name: &'a TypedName) -> Result<Cow<'a, TypedName>, ResolveError> {
        self.ready().await?;
        let name = match name.is_early() {
            true => Cow::Owned(TypedName::parse(name.as_str(), self.settings())?),
            false => Cow::Borrowed(name),
        };
        let Some(domain) = name.unknown_domain().filter(|_| self.includes_trusted_domains()) else { return Ok(name) };
        // Where nobody can list the domains, whoever looks for another one says so.
        let is_own = Box::pin(self.domains().listed(self)).await.is_ok_and(|listed| listed.is_own_short(domain));
        Ok(if is_own { Cow::Owned(name.of_own_domain()) } else { name })
    }

    /// The one user this name means (R-60, L-20): an entry that matches the user filter, found by searching.
    pub async fn resolve(&self, name: &TypedName) -> Result<Entry, ResolveError> {
        self.resolve_among(name, Among::Users).await
    }

    /// The same among other entries, too.
    pub(crate) async fn resolve_among(&self, name: &TypedName, among: Among) -> Result<Entry, ResolveError> {
        resolve::one(self, &*self.read_again(name).await?, among).await
    }

    /// What [`Directory::resolve_among`] asks first.
    pub(crate) async fn resolve_by_form(&self, name: &TypedName, among: Among) -> Result<Entry, ResolveError> {
        resolve::one_by_form(self, &*self.read_again(name).await?, among).await
    }

    /// What [`Directory::resolve_among`] asks when that has proven that there is nobody.
    pub(crate) async fn resolve_further(&self, name: &TypedName, among: Among) -> Result<Entry, ResolveError> {
        resolve::one_by_further_names(self, &*self.read_again(name).await?, among).await
    }

    /// Asks what [`Directory::resolve`] asks when a name of this form was not found in the way that led to `found`.
    pub(crate) async fn ask_on(&self, name: &TypedName, found: NameForm) {
        if let Ok(name) = self.read_again(name).await {
            resolve::further(self, &name, found).await;
        }
    }

    /// Who has this as their alternate sign-in name (FD-19).
    pub(crate) async fn resolve_alternate(&self, name: &TypedName, among: Among) -> Result<Entry, ResolveError> {
        resolve::alternate(self, &*self.read_again(name).await?, among).await
    }

    /// The entry that has this name, whether it is a user or not; a DN may lie anywhere the query account may read. For listed
    /// service accounts.
    pub async fn resolve_any(&self, name: &TypedName) -> Result<Entry, ResolveError> {
        resolve::any(self, &*self.read_again(name).await?).await
    }

    /// Exactly one bind with the resolved DN. Never retried after a no, nor after the bind may have been counted (L-34).
    pub async fn authenticate(&self, entry: &Entry, password: &Secret) -> Result<Accepted, BindError> {
        self.binders.authenticate(&self.core, entry, password).await
    }

    /// A stream of its own to the best server, protected as the settings' authentication bind says. When a server turns out to
    /// be busy or gone, say so with [`Directory::failed`] and connect again: the next one comes first then.
    pub async fn connect(&self) -> Result<Upstream, ConnectError> {
        let best = self.core.servers.candidates(Instant::now()).into_iter().next();
        let connection = match self.ahead.take(best.as_ref()) {
            Some(opened) => opened,
            None => self.core.connect(Purpose::Authentications).await?,
        };
        let (server, channel) = (connection.server().clone(), connection.channel());
        match connection.into_stream() {
            Some(stream) => Ok(Upstream { stream, server, channel }),
            // It spoke before anybody asked.
            None => Err(ConnectError::Unreachable { server, cause: std::io::ErrorKind::InvalidData.into() }),
        }
    }

    /// The bind of this person on an [`Upstream`] to `server`, as the settings want it.
    pub fn exchange(
        &self,
        entry: &Entry,
        password: &Secret,
        server: &ServerName,
        channel: &Channel,
    ) -> Result<Exchange, BindError> {
        self.core.exchange(entry, password, server, channel)
    }

    /// A server did not do its work on an [`Upstream`] (FD-04). A refused password is no failure.
    pub fn failed(&self, server: &ServerName, error: &dyn fmt::Display) {
        self.core.servers.failed(server, error, Instant::now());
    }

    /// A server would be asked instead of `server` now: after [`Directory::failed`], whether a second try makes sense (L-34).
    pub fn has_alternative(&self, server: &ServerName) -> bool {
        self.core.servers.candidates(Instant::now()).first().is_some_and(|best| best != server)
    }

    /// Reads entries page by page on a connection of its own, ending in complete or incomplete (S-41, S-50).
    pub fn read(&self, query: Query) -> Reading {
        self.reader().read(query)
    }

    /// For many readings one after the other.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.core))
    }

    /// Members of groups can be asked for with [`Query::members_of`]: the settings allow it, and the server says that it knows how.
    pub async fn answers_scope_queries(&self) -> Result<bool, Incomplete> {
        if !self.settings().attribute_scope_queries || self.settings().preset != Preset::ActiveDirectory {
            return Ok(false);
        }
        let query = Query::new("", Scope::Base, Filter::present("objectClass"), &["supportedControl"]);
        let root = self.read(query).collect().await?;
        let offered = root.iter().flat_map(|entry| entry.values("supportedControl"));
        Ok(offered.into_iter().any(|oid| oid == oid::SCOPE_QUERY.as_bytes()))
    }

    /// A server of the directory says, or has said within the last minute, that it knows all of these controls (RFC 4512 section 5.1).
    pub async fn knows_controls(&self, oids: &[&str]) -> Result<bool, QueryError> {
        let known = match self.controls.known(Instant::now()) {
            Some(known) => known,
            None => {
                let root = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &["supportedControl"]);
                let answer = self.search(SearchRequest { size_limit: 1, ..root }).await?;
                let values = answer.entries.iter().flat_map(|entry| entry.values("supportedControl"));
                let texts = values.filter_map(|oid| std::str::from_utf8(oid).ok()).map(str::to_owned);
                let known = Arc::new(texts.collect());
                if answer.result.is_success() {
                    self.controls.heard(&known, Instant::now());
                }
                known
            }
        };
        Ok(oids.iter().all(|oid| known.contains(*oid)))
    }

    /// Parsed from the settings.
    pub fn container_filter(&self) -> &Filter {
        &self.core.container_filter
    }

    /// The immutable id of an entry that was read with [`settings::Directory::id_attribute`] (S-54).
    pub fn id_of(&self, entry: &SearchResultEntry) -> Result<ObjectId, resolve::BadEntry> {
        resolve::id_of(&self.core.settings, entry)
    }

    /// Contacts every server and says what it found.
    pub async fn probe(&self) -> Vec<Probed> {
        probe::all(&self.core).await
    }

    pub fn health(&self) -> Health {
        let state = |(server, state): (ServerName, crate::server::State)| ServerHealth {
            server,
            state: match state {
                _ if state.aside => ServerState::SetAside,
                _ if state.failed_lately => ServerState::Failing,
                _ if state.answered => ServerState::Up,
                _ => ServerState::Unknown,
            },
            last_error: state.last_error,
            round_trip: state.round_trip,
        };
        Health {
            directory: self.name().clone(),
            query_connections: self.pool.as_ref().map_or(0, Pool::open),
            query_connections_wanted: self.core.options.query_connections.max(1),
            servers: self.core.servers.states(Instant::now()).into_iter().map(state).collect(),
        }
    }

    pub(crate) fn is_made_of(&self, settings: &settings::Directory, query_password: Option<&Secret>) -> bool {
        self.core.settings == *settings && self.core.query_password.as_ref() == query_password
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Asks a question of our own. What broke or could not be served is asked again elsewhere: reading twice does no harm.
    pub(crate) async fn search(&self, search: SearchRequest) -> Result<Answer, QueryError> {
        let deadline = tokio::time::Instant::now() + self.core.operation_timeout();
        let mut tries_left = self.core.options.query_connections.max(1);
        loop {
            let started = Instant::now();
            let controls = self.core.search_controls();
            let result = match &self.pool {
                Some(pool) => pool.search(search.clone(), controls, deadline).await,
                // Boxed, like all that seldom happens: what waits for an answer is moved about with room for it.
                None => Box::pin(session::search_once(&self.core, search.clone(), controls, deadline)).await,
            };
            let outcome = match &result {
                Ok(answer) if is_unavailable(answer.result.code) => Outcome::Directory,
                Ok(_) => Outcome::Ok,
                Err(error) => error.outcome(),
            };
            let server = match &result {
                Ok(answer) => Some(&answer.server),
                Err(error) => error.server(),
            };
            if let Some(server) = server {
                self.core.observe(server, Operation::Search, outcome, started.elapsed());
            }
            let again = match &result {
                Ok(answer) => is_unavailable(answer.result.code),
                Err(error) => matches!(error, QueryError::Lost { .. }),
            };
            if !again || tries_left == 0 {
                return result;
            }
            tries_left -= 1;
        }
    }
}

/// LDAP_SERVER_DOMAIN_SCOPE_OID, MS-ADTS 3.1.1.3.4.1.
const DOMAIN_SCOPE: &str = "1.2.840.113556.1.4.1339";

/// What every connection of a directory needs to know. Shared with the tasks that keep connections.
pub(crate) struct Core {
    pub settings: settings::Directory,
    pub servers: Servers,
    discovery: Discovery,
    query_password: Option<Secret>,
    tickets: Tickets,
    /// Absent where no connection uses TLS.
    tls: Option<Arc<rustls::ClientConfig>>,
    user_filter: Filter,
    group_filter: Filter,
    container_filter: Filter,
    /// Given by the settings, or learned from the first server that is bound to (FD-05).
    base: OnceLock<Base>,
    options: Options,
    /// Moves when a server was found unwell.
    found_unwell: watch::Sender<()>,
}

/// Where all searches start.
struct Base {
    dn: Dn,
    /// Those of the directory, with this base in them.
    settings: settings::Directory,
}

impl Base {
    fn of(text: &str, settings: &settings::Directory) -> Result<Self, DnError> {
        Ok(Self { dn: text.parse()?, settings: settings::Directory { base: text.to_owned(), ..settings.clone() } })
    }
}

impl Core {
    /// `tls` = made of the same certificates.
    fn new(
        settings: settings::Directory,
        query_password: Option<Secret>,
        options: Options,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<Self, SettingsError> {
        let place = |url: &String| Place::parse(url).ok_or_else(|| SettingsError::Url { found: url.clone() });
        let places: Vec<Place> = settings.urls.iter().map(place).collect::<Result<_, _>>()?;
        // Those of a domain are not known yet, but how they will be spoken to.
        let servers: Vec<ServerName> = places.iter().map(Place::server).collect();
        if servers.is_empty() {
            return Err(SettingsError::NoServer);
        }
        let by_keytab = settings.query_bind.is_by_keytab();
        if by_keytab && settings.windows_mechanism == WindowsMechanism::Ntlm {
            return Err(SettingsError::NoKeytabForNtlm);
        }
        if settings.query_bind.kind != BindKind::Anonymous && !by_keytab {
            if settings.query_bind.name.is_empty() {
                return Err(SettingsError::NoQueryName);
            }
            // An empty one would make it an anonymous bind that says success (RFC 4513 section 5.1.2).
            if query_password.as_ref().is_none_or(Secret::is_empty) {
                return Err(SettingsError::NoQueryPassword);
            }
            let name = &settings.query_bind.name;
            if settings.query_bind.kind == BindKind::Windows && WindowsAccount::parse(name).is_none() {
                return Err(SettingsError::QueryAccount { found: name.clone() });
            }
        }
        let purposes = [Purpose::Queries, Purpose::Authentications];
        let base = match settings.base.as_str() {
            "" => OnceLock::new(),
            text => Base::of(text, &settings).map_err(SettingsError::Base)?.into(),
        };
        let needs_tls = servers.iter().any(|server| purposes.iter().any(|it| !may_be_clear(&settings, server, *it)));
        let config = match (&settings.pinned_certificates, &settings.ca) {
            _ if !needs_tls => None,
            _ if tls.is_some() => tls.map(Ok),
            (Some(pem), _) => Some(tls::client_config(Trust::Pinned(pem)).map_err(SettingsError::Pinned)),
            (None, Some(pem)) => Some(tls::client_config(Trust::Ca(pem)).map_err(SettingsError::Ca)),
            (None, None) => Some(tls::client_config(Trust::System).map_err(SettingsError::Ca)),
        };
        let tls = config.transpose()?;
        Ok(Self {
            servers: Servers::new(servers, settings.server_order),
            discovery: Discovery::new(places, options.name_servers.clone()),
            query_password,
            tickets: Tickets::default(),
            tls,
            user_filter: settings.user_filter().parse().map_err(SettingsError::UserFilter)?,
            group_filter: settings.group_filter().parse().map_err(SettingsError::GroupFilter)?,
            container_filter: settings.container_filter().parse().map_err(SettingsError::ContainerFilter)?,
            base,
            options,
            found_unwell: watch::Sender::new(()),
            settings,
        })
    }

    pub fn operation_timeout(&self) -> Duration {
        Duration::from_secs(self.settings.timeout_seconds.into())
    }

    pub fn look_every(&self) -> Duration {
        self.options.look_every
    }

    pub fn is_well(&self, server: &ServerName, round_trip: Duration) {
        self.servers.is_well(server, round_trip);
    }

    pub fn is_unwell(&self, server: &ServerName, error: &dyn fmt::Display) {
        self.servers.is_unwell(server, error);
        self.found_unwell.send_replace(());
    }

    /// Ends when this server is found unwell: whoever waits for it turns to another one then.
    pub async fn until_unwell(&self, server: &ServerName) {
        let mut found = self.found_unwell.subscribe();
        while !self.servers.is_known_unwell(server) {
            if found.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.settings.connect_timeout_seconds.into())
    }

    pub fn user_filter(&self) -> &Filter {
        &self.user_filter
    }

    pub fn group_filter(&self) -> &Filter {
        &self.group_filter
    }

    pub fn container_filter(&self) -> &Filter {
        &self.container_filter
    }

    /// Of the whole directory, while it is not known.
    pub fn base(&self) -> &Dn {
        static ROOT: Dn = Dn { rdns: Vec::new() };
        self.base.get().map_or(&ROOT, |base| &base.dn)
    }

    pub fn base_text(&self) -> &str {
        self.base.get().map_or("", |base| &base.settings.base)
    }

    pub fn knows_base(&self) -> bool {
        self.base.get().is_some()
    }

    /// Whoever comes second has learned the same, or comes from a server that has another base and is not asked for it.
    pub fn learn_base(&self, text: &str) -> Result<(), DnError> {
        let base = Base::of(text, &self.settings)?;
        if self.base.set(base).is_ok() {
            tracing::info!(directory = %self.settings.name, base = text, "the base was taken from the root DSE");
        }
        Ok(())
    }

    /// Active Directory answers a search at the root of a domain with references to its other partitions, unless told not to.
    pub fn search_controls(&self) -> Vec<Control> {
        match self.settings.preset {
            Preset::ActiveDirectory | Preset::AdLds => vec![Control::new(DOMAIN_SCOPE, false, None)],
            _ => Vec::new(),
        }
    }

    /// The bind of a person: at a server, over a channel.
    pub fn exchange(
        &self,
        entry: &Entry,
        password: &Secret,
        server: &ServerName,
        channel: &Channel,
    ) -> Result<Exchange, BindError> {
        let preset = self.settings.preset;
        if self.settings.authentication_bind.kind != BindKind::Windows {
            return Ok(Exchange::simple(&entry.dn, password, preset));
        }
        // Whoever typed the password could otherwise be the server that accepts it.
        if matches!(channel, Channel::Clear) {
            return Err(BindError::NoAccount);
        }
        let account = entry.windows_account().ok_or(BindError::NoAccount)?;
        Ok(Exchange::ntlm(account, password, preset, server, channel))
    }

    /// The bind of our own account; none where the settings have no account.
    pub async fn query_exchange(
        &self,
        server: &ServerName,
        channel: &Channel,
    ) -> Result<Option<Exchange>, Arc<TicketError>> {
        let (bind, preset) = (&self.settings.query_bind, self.settings.preset);
        match bind.kind {
            BindKind::Anonymous => Ok(None),
            BindKind::Simple | BindKind::Tls => Ok(Some(Exchange::simple(&bind.name, self.query_password(), preset))),
            BindKind::Windows => self.windows_exchange(server, channel).await.map(Some),
        }
    }

    /// By Kerberos; by NTLM where that cannot be, unless the settings insist on one (FD-06). What the domain says about the account is
    /// final: the same password by NTLM would be counted once more.
    async fn windows_exchange(&self, server: &ServerName, channel: &Channel) -> Result<Exchange, Arc<TicketError>> {
        let (settings, password) = (&self.settings, self.query_password());
        let account = WindowsAccount::parse(&settings.query_bind.name);
        let ntlm = |account| Exchange::ntlm(account, password, settings.preset, server, channel);
        let may_be_ntlm = account.clone().filter(|_| self.may_be_ntlm());
        match may_be_ntlm {
            Some(account) if settings.windows_mechanism == WindowsMechanism::Ntlm => return Ok(ntlm(account)),
            Some(account) if self.tickets.is_without(server) => return Ok(ntlm(account)),
            _ => {}
        }
        let identity = match &account {
            Some(account) => Identity::Account { account, domain: self.base().dns_domain(), password },
            None => Identity::Keytab(&self.options.keytab),
        };
        // Whoever looks whether a server serves gives the whole logon no longer than a connection.
        let ticket = self.tickets.for_server(server, &identity, self.connect_timeout() / 2).await;
        match (ticket, may_be_ntlm) {
            (Ok(ticket), _) => Ok(Exchange::kerberos(&ticket, settings.preset, channel)),
            (Err(error), Some(account)) if !error.is_final() => {
                self.do_without_ticket(server, crate::pool::chain(&*error));
                Ok(ntlm(account))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The server did not take its ticket. True where NTLM may do instead.
    pub async fn ticket_refused(&self, server: &ServerName, code: ResultCode) -> bool {
        self.tickets.forget().await;
        if self.may_be_ntlm() {
            self.do_without_ticket(server, format!("it did not take its ticket, code {code}"));
        }
        self.may_be_ntlm()
    }

    fn may_be_ntlm(&self) -> bool {
        self.settings.windows_mechanism != WindowsMechanism::Kerberos && !self.settings.query_bind.is_by_keytab()
    }

    fn do_without_ticket(&self, server: &ServerName, error: String) {
        // Once an outage, not once a try.
        if self.tickets.do_without(server, error.clone()) {
            let directory = &self.settings.name;
            tracing::warn!(%directory, %server, error, "no Kerberos: the query account logs on by NTLM");
        }
    }

    pub fn query_password(&self) -> &Secret {
        static NONE: std::sync::LazyLock<Secret> = std::sync::LazyLock::new(Secret::default);
        self.query_password.as_ref().unwrap_or(&NONE)
    }

    /// Looks whom the DNS names, where the settings leave it to that.
    pub async fn discover(&self) {
        self.discovery.refresh(&self.settings.name, &self.servers).await;
    }

    pub fn servers_may_change(&self) -> bool {
        self.discovery.is_needed()
    }

    /// The best server that can be reached, each with the connect timeout. Two are always tried, more only while an operation
    /// may take.
    pub async fn connect(&self, purpose: Purpose) -> Result<Connection, ConnectError> {
        self.discover().await;
        let started = Instant::now();
        let mut failure = None;
        for (tried, server) in self.servers.candidates(started).iter().enumerate() {
            if tried >= 2 && started.elapsed() >= self.operation_timeout() {
                break;
            }
            match self.connect_to(server, purpose).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.expect("a directory has at least one server, and none is left out"))
    }

    pub async fn connect_to(&self, server: &ServerName, purpose: Purpose) -> Result<Connection, ConnectError> {
        self.connect_at(server, None, purpose).await
    }

    /// `peer` = which of those that its name leads to; else any of them.
    pub async fn connect_at(
        &self,
        server: &ServerName,
        peer: Option<SocketAddr>,
        purpose: Purpose,
    ) -> Result<Connection, ConnectError> {
        let started = Instant::now();
        let result = establish(server, peer, &self.protection(server, purpose), self.connect_timeout()).await;
        match &result {
            Ok(_) => self.servers.answered(server),
            Err(error) => self.servers.failed(server, error, Instant::now()),
        }
        let outcome = result.as_ref().map_or_else(ConnectError::outcome, |_| Outcome::Ok);
        self.observe(server, Operation::Connect, outcome, started.elapsed());
        result
    }

    pub fn protection(&self, server: &ServerName, purpose: Purpose) -> Protection {
        match &self.tls {
            Some(config) if !may_be_clear(&self.settings, server, purpose) => Protection::Tls(Arc::clone(config)),
            // Without a configuration every pair of server and purpose may be clear: that is how `new` decides to have none.
            _ => Protection::Clear,
        }
    }

    pub fn observe(&self, server: &ServerName, operation: Operation, outcome: Outcome, elapsed: Duration) {
        if let Some(observer) = &self.options.observer {
            observer(&Observation { directory: &self.settings.name, server, operation, outcome, elapsed });
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Queries,
    Authentications,
}

/// Only to an `ldap://` server: where the danger key is set and the bind is not asked to be protected (L-35), or where our own
/// Windows logon seals what follows. A person's logon seals nothing that would count: whoever typed the password could also be the
/// server that accepts it.
fn may_be_clear(settings: &settings::Directory, server: &ServerName, purpose: Purpose) -> bool {
    let clear = match purpose {
        Purpose::Queries => match settings.query_bind.kind {
            BindKind::Anonymous | BindKind::Simple => settings.danger_clear_text,
            BindKind::Tls => false,
            BindKind::Windows => true,
        },
        Purpose::Authentications => match settings.authentication_bind.kind {
            BindKind::Anonymous | BindKind::Simple => settings.danger_clear_text,
            BindKind::Tls | BindKind::Windows => false,
        },
    };
    clear && !server.is_ldaps()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A directory in clear text without a query account.
    pub(crate) fn settings(urls: &[&str]) -> settings::Directory {
        settings::Directory {
            name: ObjectName::new("corp").expect("a valid name"),
            preset: Preset::OpenLdap,
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            server_order: Default::default(),
            base: "dc=corp,dc=example".into(),
            query_bind: settings::QueryBind { kind: BindKind::Anonymous, name: String::new(), password: None },
            authentication_bind: settings::AuthenticationBind { kind: BindKind::Simple },
            ca: None,
            pinned_certificates: None,
            danger_clear_text: true,
            windows_mechanism: Default::default(),
            connect_timeout_seconds: 1,
            timeout_seconds: 1,
            page_size: 1000,
            user_filter: String::new(),
            group_filter: String::new(),
            container_filter: String::new(),
            feed: None,
            full_every_hours: 24,
            size_limit: 0,
            country: String::new(),
            netbios_domain: String::new(),
            lockout_guard: None,
            default_domain: String::new(),
            sign_in_by_mail: None,
            strip_domain: false,
            alternate_directories: Vec::new(),
            sync_bind: None,
            trusted_domains: None,
            trusted: Default::default(),
            attribute_scope_queries: true,
            attributes: Default::default(),
        }
    }

    pub(crate) fn core(settings: settings::Directory) -> Result<Core, SettingsError> {
        Core::new(settings, None, Options::default(), None)
    }

    #[test]
    fn clear_text_needs_the_danger_key_and_a_bind_that_asks_for_it() {
        // L-35
        let plain = ServerName::parse("ldap://dc1").expect("valid");
        let tls = ServerName::parse("ldaps://dc1").expect("valid");
        for (danger, kind, server, [queries, authentications]) in [
            (true, BindKind::Simple, &plain, [true; 2]),
            (true, BindKind::Anonymous, &plain, [true; 2]),
            (true, BindKind::Tls, &plain, [false; 2]),
            (true, BindKind::Simple, &tls, [false; 2]),
            (false, BindKind::Simple, &plain, [false; 2]),
            (false, BindKind::Anonymous, &plain, [false; 2]),
            // The logon of our own account seals; what a person types proves no server.
            (false, BindKind::Windows, &plain, [true, false]),
            (true, BindKind::Windows, &plain, [true, false]),
            (true, BindKind::Windows, &tls, [false; 2]),
        ] {
            let mut settings = settings(&[]);
            settings.danger_clear_text = danger;
            (settings.query_bind.kind, settings.authentication_bind.kind) = (kind, kind);
            let found = [Purpose::Queries, Purpose::Authentications].map(|it| may_be_clear(&settings, server, it));
            assert_eq!(found, [queries, authentications], "{danger} {kind:?} {server}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_key() {
        let with = |change: fn(&mut settings::Directory)| {
            let mut settings = settings(&["ldap://dc1"]);
            change(&mut settings);
            core(settings).err().map(|error| error.to_string())
        };
        assert_eq!(with(|_| {}), None);
        for (change, key) in [
            ((|it| it.urls = vec!["http://dc1".into()]) as fn(&mut settings::Directory), "urls"),
            (|it| it.urls.clear(), "urls"),
            (|it| it.base = "nonsense".into(), "base"),
            (|it| it.user_filter = "(a=b".into(), "user_filter"),
            (|it| it.group_filter = "x".into(), "group_filter"),
            (|it| it.query_bind.kind = BindKind::Tls, "query_bind"),
            (
                |it| {
                    it.query_bind.kind = BindKind::Tls;
                    it.query_bind.name = "cn=q".into();
                },
                "query_bind.password",
            ),
            (
                |it| {
                    it.danger_clear_text = false;
                    it.ca = Some("-----BEGIN CERTIFICATE-----".into());
                },
                "ca",
            ),
        ] {
            let error = with(change).unwrap_or_default();
            assert!(error.starts_with(key), "{key}: {error}");
        }
    }
}
