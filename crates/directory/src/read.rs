//! Reads many entries: page by page, in bounded memory, with a clear end (S-41, S-50).
//!
//! A reading has a connection of its own, because a paging cookie belongs to its connection, and because a slow reader must hold up
//! nobody else: while nobody takes entries, nothing is read from the socket and the server waits.
//!
//! [`Read::Complete`] is said only after every page ended in success, without a limit, a reference or a missing range of values.
//! Whoever deletes by absence may do so after that and never else.

use crate::connection::{Broken, Connection};
use crate::directory::Core;
use crate::divide::{self, Parts};
use crate::feed::{Link, Origin};
use crate::observe::{Operation, Outcome};
use crate::query::QueryError;
use crate::server::ServerName;
use bytes::Bytes;
use domain::ObjectId;
use domain::settings::Preset;
use ldap_wire::{
    Attribute, Control, DecodeError, Filter, LdapResult, Message, MessageId, Op, PagedResults, ResultCode, Scope,
    SearchRequest, SearchResultEntry, dirsync, oid,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What to read. No attributes = all user attributes.
#[derive(Debug, Clone)]
pub struct Query {
    pub base: String,
    pub scope: Scope,
    pub filter: Filter,
    pub attributes: Vec<String>,
    /// More than this is too much for one reading (FD-10).
    pub entries_max: usize,
    /// Beside those of paging and of the directory. With the one for extended DNs the entry's own DN is still the plain one.
    pub controls: Vec<Control>,
}

impl Query {
    pub const ENTRIES_MAX: usize = 1_000_000;
    /// Of a whole directory, of which nobody holds more than a page.
    pub const WHOLE_MAX: usize = 10_000_000;

    pub fn new(base: impl Into<String>, scope: Scope, filter: Filter, attributes: &[&str]) -> Self {
        let attributes = attributes.iter().map(|attribute| (*attribute).to_owned()).collect();
        Self { base: base.into(), scope, filter, attributes, entries_max: Self::ENTRIES_MAX, controls: Vec::new() }
    }
}

/// The entries with one of these ids.
pub fn of_ids(ids: &[ObjectId]) -> Filter {
    let equal = |id: &ObjectId| {
        let (attribute, value) = id.filter_value();
        Filter::equal(attribute, value)
    };
    Filter::or(ids.iter().map(equal))
}

impl Query {
    /// What a group names as its members, each with these attributes, in one search (FD-15). Only where
    /// [`crate::Directory::answers_scope_queries`]; 71 where not all of them are of the group's own domain.
    pub fn members_of(group: impl Into<String>, filter: Filter, attributes: &[&str]) -> Self {
        let mut query = Self::new(group, Scope::Base, filter, attributes);
        query.controls.push(ldap_wire::scope_query("member"));
        query
    }
}

/// One step of a reading.
#[derive(Debug)]
pub enum Read {
    Entry(SearchResultEntry),
    /// That was all there is.
    Complete,
    /// There may be more. What came so far is true; what did not come is unknown.
    Incomplete(Incomplete),
}

/// Why a reading is not complete.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Incomplete {
    /// No connection, or it was lost on the way.
    #[error("the directory could not be read")]
    Unanswered(#[from] QueryError),
    /// A limit of the server cut the answer off: 3 time, 4 size, 11 another.
    #[error("{server} cut the answer off with code {code}")]
    Limit { server: ServerName, code: ResultCode },
    /// A part of the answer lies on another server.
    #[error("{server} refers to another server for a part of the answer")]
    Referral { server: ServerName },
    /// Such as 32 where the base does not exist.
    #[error("{server} answered with code {code}")]
    Refused { server: ServerName, code: ResultCode },
    /// The same page again, or empty pages without end.
    #[error("{server} sends pages without getting on")]
    NoProgress { server: ServerName },
    #[error("{server} sent more than {entries_max} entries")]
    TooMany { server: ServerName, entries_max: usize },
    /// An attribute with many values came in ranges, and not all of them could be read (S-51).
    #[error("{server} did not send all values of {attribute}")]
    MissingValues { server: ServerName, attribute: String },
    /// Of a reader that keeps to one server, which cannot be reached any longer: another one may be ahead or behind.
    #[error("{other} answered instead of {first}, which had been read until then; the next run begins anew")]
    OtherServer { first: Box<Origin>, other: Box<Origin> },
    /// What every server of its kind has, so that the account sees a part only: a right was lost.
    #[error("the directory does not show {what} to the query account, which may see a part only")]
    Hidden { what: &'static str },
}

/// Empty pages in a row: legal (RFC 2696), but not for ever (B-72).
const EMPTY_PAGES_MAX: usize = 100;
/// Ranges of one attribute: at 1500 values each more members than any group has.
const RANGES_MAX: usize = 10_000;
/// What says that an entry was written between two of its ranges (S-51): MS-ADA3 2.345. Only servers with ranges have it.
const REVISION: &str = "uSNChanged";
/// Beginnings of one attribute that was written while it was read.
const CHANGES_MAX: usize = 5;

/// Readings one after the other over one connection, for as long as it holds.
#[derive(Clone)]
pub struct Reader {
    core: Arc<Core>,
    kept: Kept,
    /// The server to be asked, if it can be reached.
    preferred: Option<Origin>,
    answered: Answered,
    /// All readings are of the server that answered the first one.
    of_one: bool,
}

/// The servers that were read from, each with the address where it was met.
type Answered = Arc<Mutex<BTreeMap<Origin, Option<SocketAddr>>>>;

/// The connection of a reading that ended well, for the next one.
type Kept = Arc<Mutex<Option<Connection>>>;

impl Reader {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, kept: Kept::default(), preferred: None, answered: Answered::default(), of_one: false }
    }

    /// From one server, whichever answers first: what two of them say is no evidence of anything (S-41).
    pub fn of_one_server(&self) -> Self {
        Self { preferred: self.preferred.clone(), of_one: true, ..Self::new(Arc::clone(&self.core)) }
    }

    /// From this server, which a [`crate::Position`] is of: what a feed tells of, another server may not have yet. Where it cannot be
    /// reached another one answers, and [`Reader::answered_by_another`] says so.
    pub fn preferring(&self, origin: &Origin) -> Self {
        Self { preferred: Some(origin.clone()), of_one: self.of_one, ..Self::new(Arc::clone(&self.core)) }
    }

    /// A server that was read from, and is not this one.
    pub fn answered_by_another(&self, origin: &Origin) -> Option<Origin> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.keys().find(|answered| !answered.is(origin)).cloned()
    }

    /// Beside another one that has not ended it opens a connection of its own.
    pub fn read(&self, query: Query) -> Reading {
        let (core, kept, answered) = (Arc::clone(&self.core), Arc::clone(&self.kept), Arc::clone(&self.answered));
        let (preferred, of_one, parts) = (self.preferred.clone(), self.of_one, Some(Parts::new()));
        Reading { core, query, state: State::New, entries: 0, kept, anywhere: true, preferred, answered, of_one, parts }
    }
}

/// A reading in progress. Dropping it ends it.
pub struct Reading {
    core: Arc<Core>,
    query: Query,
    state: State,
    entries: usize,
    kept: Kept,
    /// Another connection is as good, to another server even.
    anywhere: bool,
    preferred: Option<Origin>,
    answered: Answered,
    of_one: bool,
    /// What came, until it is known that the server sends pages.
    parts: Option<Parts>,
}

enum State {
    New,
    Open(Box<Page>),
    Ended(Option<Incomplete>),
}

/// The page that is being read.
struct Page {
    connection: Connection,
    /// The connection was idle since another reading, and the server may have closed it.
    on_trial: bool,
    id: MessageId,
    started: Instant,
    /// What the page was asked with; empty for the first.
    cookie: Bytes,
    first_page: bool,
    /// The server is asked for pages; not after it has refused to send any.
    paged: bool,
    /// Entries of this answer.
    received: u32,
    /// What is being read of the query, where it is too much for one answer.
    part: divide::Part,
    /// The DN of the first entry of this page and of the last page that had one.
    first: Option<Bytes>,
    previous_first: Option<Bytes>,
    empty_pages: usize,
    /// Entries whose values came in part: completed when the page is over.
    partial: Vec<SearchResultEntry>,
    completed: VecDeque<SearchResultEntry>,
    /// The next page, to be asked for when `completed` is empty; or the end.
    next: Option<Next>,
}

enum Next {
    Page(Bytes),
    End,
}

impl Reading {
    /// Reads on a connection that is open and bound, and on no other.
    pub(crate) fn on(core: Arc<Core>, connection: Connection, query: Query) -> Self {
        let kept = Arc::new(Mutex::new(Some(connection)));
        let (preferred, answered) = (None, Answered::default());
        let (of_one, parts) = (false, Some(Parts::new()));
        Self { core, query, state: State::New, entries: 0, kept, anywhere: false, preferred, answered, of_one, parts }
    }

    /// Another question, once this one has been answered to its end, on the same connection.
    pub(crate) fn ask_next(&mut self, query: Query) {
        (self.query, self.state, self.entries, self.parts) = (query, State::New, 0, Some(Parts::new()));
    }

    /// All entries of what is being asked; whether more can be asked after an error, `ask_next` knows.
    pub(crate) async fn rest(&mut self) -> Result<Vec<SearchResultEntry>, Incomplete> {
        let mut entries = Vec::new();
        loop {
            match self.next().await {
                Read::Entry(entry) => entries.push(entry),
                Read::Complete => return Ok(entries),
                Read::Incomplete(why) => return Err(why),
            }
        }
    }

    /// The next entry, or the end; after the end the same end again. Not to be dropped half-way and then called again.
    pub async fn next(&mut self) -> Read {
        match self.step().await {
            Ok(Some(entry)) => return Read::Entry(entry),
            Ok(None) => {}
            Err(incomplete) => {
                let before = std::mem::replace(&mut self.state, State::Ended(Some(incomplete)));
                // A refusal is an answer as well: the connection is as good as before.
                if let (State::Open(page), State::Ended(Some(Incomplete::Refused { .. }))) = (before, &self.state) {
                    self.keep(page.connection);
                }
            }
        }
        match &self.state {
            State::Ended(Some(incomplete)) => Read::Incomplete(incomplete.clone()),
            _ => Read::Complete,
        }
    }

    /// The server that is read from, once connected.
    pub fn server(&self) -> Option<ServerName> {
        match &self.state {
            State::Open(page) => Some(page.connection.server().clone()),
            _ => None,
        }
    }

    /// Everything at once. For what is known to be small.
    pub async fn collect(mut self) -> Result<Vec<SearchResultEntry>, Incomplete> {
        self.rest().await
    }

    async fn step(&mut self) -> Result<Option<SearchResultEntry>, Incomplete> {
        loop {
            let page = match &mut self.state {
                State::New => {
                    let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let page = match page_on(&self.core, &self.query, kept, self.anywhere).await? {
                        Some(page) => page,
                        None => {
                            let mut page = Page::new(self.connect().await?, false);
                            page.ask(&self.core, &self.query, Bytes::new()).await?;
                            page
                        }
                    };
                    self.state = State::Open(Box::new(page));
                    continue;
                }
                State::Ended(_) => return Ok(None),
                State::Open(page) => page,
            };
            if let Some(entry) = page.completed.pop_front() {
                if !self.parts.as_mut().is_none_or(|parts| parts.take(&entry.dn)) {
                    continue; // in two parts, or before the cut
                }
                let entries_max = self.query.entries_max;
                if self.entries >= entries_max {
                    return Err(Incomplete::TooMany { server: page.server(), entries_max });
                }
                self.entries += 1;
                return Ok(Some(entry));
            }
            match page.next.take() {
                Some(Next::End) => {
                    if let Some(parts) = &mut self.parts {
                        if let Some(part) = parts.next() {
                            page.ask_part(&self.core, &self.query, part).await?;
                            continue;
                        }
                        if !parts.is_whole() {
                            return Err(Incomplete::Limit {
                                server: page.server(),
                                code: ResultCode::SIZE_LIMIT_EXCEEDED,
                            });
                        }
                    }
                    let ended = std::mem::replace(&mut self.state, State::Ended(None));
                    if let State::Open(page) = ended {
                        self.keep(page.connection);
                    }
                    return Ok(None);
                }
                Some(Next::Page(cookie)) => {
                    // A part has no pages: who sends them was not asked in parts.
                    self.parts = None;
                    page.ask(&self.core, &self.query, cookie).await?;
                }
                None => match page.receive(&self.core, &self.query).await {
                    Ok(entry) => page.completed.extend(entry),
                    // Nobody was told anything yet.
                    Err(Incomplete::Unanswered(QueryError::Lost { .. })) if page.on_trial => self.state = State::New,
                    Err(why) => {
                        let (core, query) = (&self.core, &self.query);
                        if !page.goes_on_without_pages(core, query, &why, self.parts.as_mut()).await? {
                            return Err(why);
                        }
                    }
                },
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Incomplete> {
        let first = self.first().filter(|_| self.of_one);
        let mut link = match &first {
            Some((first, peer)) => Link::open_at(&self.core, first, *peer).await?,
            None => Link::open(&self.core, self.preferred.as_ref()).await?,
        };
        if self.of_one && self.core.settings.preset == Preset::ActiveDirectory {
            link.ask_its_name().await?;
        }
        let origin = link.origin();
        if let Some((first, _)) = first.filter(|(first, _)| !first.is(&origin)) {
            return Err(Incomplete::OtherServer { first: Box::new(first), other: Box::new(origin) });
        }
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(origin, link.peer());
        Ok(link.into_connection())
    }

    fn first(&self) -> Option<(Origin, Option<SocketAddr>)> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.first_key_value().map(|(origin, peer)| (origin.clone(), *peer))
    }

    fn keep(&self, connection: Connection) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }
}

/// On the connection that was kept, if there is one and it holds.
async fn page_on(
    core: &Core,
    query: &Query,
    kept: Option<Connection>,
    anywhere: bool,
) -> Result<Option<Page>, Incomplete> {
    let Some(kept) = kept else { return Ok(None) };
    let mut page = Page::new(kept, anywhere);
    match page.ask(core, query, Bytes::new()).await {
        Ok(()) => Ok(Some(page)),
        Err(why) if !anywhere => Err(why),
        Err(_) => Ok(None),
    }
}

impl Page {
    fn new(connection: Connection, on_trial: bool) -> Self {
        Self {
            connection,
            on_trial,
            id: MessageId::UNSOLICITED,
            started: Instant::now(),
            cookie: Bytes::new(),
            first_page: true,
            paged: true,
            received: 0,
            part: divide::Part::default(),
            first: None,
            previous_first: None,
            empty_pages: 0,
            partial: Vec::new(),
            completed: VecDeque::new(),
            next: None,
        }
    }

    async fn ask(&mut self, core: &Core, query: &Query, cookie: Bytes) -> Result<(), Incomplete> {
        let attributes: Vec<&str> = query.attributes.iter().map(String::as_str).collect();
        let of_part;
        let filter = match self.part == divide::Part::default() {
            true => &query.filter,
            false => {
                of_part = self.part.filter(&query.filter);
                &of_part
            }
        };
        let mut search = SearchRequest::new(query.base.clone(), query.scope, filter, &attributes);
        search.size_limit = core.settings.size_limit;
        // Not critical: a server that cannot page still answers, and says so if it must cut the answer off.
        let mut controls = core.search_controls();
        controls.extend_from_slice(&query.controls);
        if self.paged {
            controls.push(PagedResults { size: core.settings.page_size, cookie: cookie.clone() }.to_control(false));
        }
        self.cookie = cookie;
        self.received = 0;
        self.previous_first = self.first.take().or(self.previous_first.take());
        self.started = Instant::now();
        self.id = self.send(core, &search, &controls).await?;
        Ok(())
    }

    async fn ask_part(&mut self, core: &Core, query: &Query, part: &divide::Part) -> Result<(), Incomplete> {
        self.part = part.clone();
        (self.first_page, self.first, self.previous_first, self.empty_pages) = (true, None, None, 0);
        self.partial.clear();
        self.ask(core, query, Bytes::new()).await
    }

    /// An answer ended in an error that is no end where a server sends no pages: it is asked without them, or in parts (FD-10).
    async fn goes_on_without_pages(
        &mut self,
        core: &Core,
        query: &Query,
        why: &Incomplete,
        parts: Option<&mut Parts>,
    ) -> Result<bool, Incomplete> {
        let (Some(parts), true) = (parts, self.first_page) else { return Ok(false) };
        let (Incomplete::Limit { code, .. } | Incomplete::Refused { code, .. }) = why else { return Ok(false) };
        // OpenLDAP with size.prtotal=disabled says 11 to that, others 53.
        const NO_PAGES: [ResultCode; 3] = [
            ResultCode::ADMIN_LIMIT_EXCEEDED,
            ResultCode::UNWILLING_TO_PERFORM,
            ResultCode::UNAVAILABLE_CRITICAL_EXTENSION,
        ];
        if self.paged && self.received == 0 && NO_PAGES.contains(code) {
            self.paged = false;
            self.ask(core, query, Bytes::new()).await?;
            return Ok(true);
        }
        // Our own limit is what somebody wanted (S-41).
        let of_server = core.settings.size_limit == 0 || self.received < core.settings.size_limit;
        let is_cut = [ResultCode::SIZE_LIMIT_EXCEEDED, ResultCode::ADMIN_LIMIT_EXCEEDED].contains(code);
        let scope_query = query.controls.iter().any(|control| control.oid == oid::SCOPE_QUERY);
        if !is_cut || !of_server || self.received == 0 || scope_query || self.paged && self.offers_pages(core).await? {
            return Ok(false);
        }
        self.paged = false;
        match parts.divide() {
            Some(part) => self.ask_part(core, query, part).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// What the root DSE says of it (RFC 4512 section 5.1); one that says nothing is taken to.
    async fn offers_pages(&mut self, core: &Core) -> Result<bool, Incomplete> {
        let search = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &["supportedControl"]);
        self.id = self.send(core, &search, &[]).await?;
        let mut offered = None;
        loop {
            let message = self.message(core).await?;
            match message.op() {
                Op::SearchResultEntry => {
                    let root = SearchResultEntry::decode(&message).map_err(|error| self.lost(core, error.into()))?;
                    let controls = root.values("supportedControl");
                    offered =
                        (!controls.is_empty()).then(|| controls.iter().any(|it| it == oid::PAGED_RESULTS.as_bytes()));
                }
                Op::SearchResultReference | Op::IntermediateResponse => {}
                Op::SearchResultDone => {
                    let result = LdapResult::decode(&message).map_err(|error| self.lost(core, error.into()))?;
                    return Ok(offered.filter(|_| result.is_success()).unwrap_or(true));
                }
                _ => return Err(self.lost(core, Broken::UnexpectedMessage)),
            }
        }
    }

    /// The next entry of the page; `None` when the page is over, and `completed` and `next` say how it goes on.
    async fn receive(&mut self, core: &Core, query: &Query) -> Result<Option<SearchResultEntry>, Incomplete> {
        let message = self.message(core).await?;
        self.on_trial = false;
        match message.op() {
            Op::SearchResultEntry => {
                let mut entry = SearchResultEntry::decode(&message).map_err(|error| self.lost(core, error.into()))?;
                if query.controls.iter().any(|control| control.oid == oid::EXTENDED_DN) {
                    entry.dn = plain(&entry.dn);
                }
                self.received += 1;
                self.first.get_or_insert_with(|| entry.dn.clone());
                if entry.attributes.iter().any(|attribute| Range::option(&attribute.description).is_some()) {
                    self.partial.push(entry);
                    return Ok(None);
                }
                Ok(Some(entry))
            }
            Op::SearchResultReference => Err(Incomplete::Referral { server: self.server() }),
            Op::IntermediateResponse => Ok(None),
            Op::SearchResultDone => {
                let next = self.done(&message).inspect_err(|why| self.observe(core, why.outcome()))?;
                self.observe(core, Outcome::Ok);
                for entry in std::mem::take(&mut self.partial) {
                    let entry = self.complete(core, query, entry).await?;
                    self.completed.push_back(entry);
                }
                self.first_page = false;
                self.next = Some(next);
                Ok(None)
            }
            _ => Err(self.lost(core, Broken::UnexpectedMessage)),
        }
    }

    /// What the end of a page says about the next.
    fn done(&mut self, message: &Message) -> Result<Next, Incomplete> {
        let lost = |server: ServerName, error: DecodeError| {
            Incomplete::Unanswered(QueryError::Lost { server, cause: Arc::new(error.into()) })
        };
        let server = self.server();
        let result = LdapResult::decode(message).map_err(|error| lost(server.clone(), error))?;
        match result.code {
            ResultCode::SUCCESS if result.is_success() => {}
            ResultCode::SUCCESS | ResultCode::REFERRAL => return Err(Incomplete::Referral { server }),
            code @ (ResultCode::SIZE_LIMIT_EXCEEDED
            | ResultCode::TIME_LIMIT_EXCEEDED
            | ResultCode::ADMIN_LIMIT_EXCEEDED) => return Err(Incomplete::Limit { server, code }),
            code => return Err(Incomplete::Refused { server, code }),
        }
        let controls = message.controls().map_err(|error| lost(server.clone(), error))?;
        match ldap_wire::scope_query_result(&controls).map_err(|error| lost(server.clone(), error))? {
            None | Some(ResultCode::SUCCESS) => {}
            Some(code) => return Err(Incomplete::Refused { server, code }),
        }
        let cookie = match PagedResults::find(&controls).map_err(|error| lost(server.clone(), error))? {
            Some(paged) => paged.cookie,
            // A server that does not page has sent all; one that paged before and now forgets has not.
            None if self.first_page => Bytes::new(),
            None => return Err(Incomplete::NoProgress { server }),
        };
        if cookie.is_empty() {
            return Ok(Next::End);
        }
        self.empty_pages = if self.first.is_none() { self.empty_pages + 1 } else { 0 };
        // Equal cookies alone prove nothing, some servers have but one; with the same first entry it is the same page (B-72).
        let repeats = cookie == self.cookie && self.first.is_some() && self.first == self.previous_first;
        if repeats || self.empty_pages > EMPTY_PAGES_MAX {
            return Err(Incomplete::NoProgress { server });
        }
        Ok(Next::Page(cookie))
    }

    /// Fetches what is missing of attributes that came as `member;range=0-1499` (S-51).
    async fn complete(
        &mut self,
        core: &Core,
        query: &Query,
        mut entry: SearchResultEntry,
    ) -> Result<SearchResultEntry, Incomplete> {
        let ranged: Vec<Attribute> =
            entry.attributes.extract_if(.., |attribute| Range::option(&attribute.description).is_some()).collect();
        for Attribute { description, mut values } in ranged {
            let server = self.server();
            let missing = || Incomplete::MissingValues { server: server.clone(), attribute: description.clone() };
            // One that cannot be read is not passed on: whoever looks for the plain name would take it for empty.
            let mut range = Range::of(&description).filter(|range| range.first == 0).ok_or_else(missing)?;
            let mut revision = entry.first(REVISION).cloned();
            let mut ranges = 0;
            let mut from_the_start = 0;
            while let Some(last) = range.last {
                ranges += 1;
                if ranges > RANGES_MAX {
                    return Err(missing());
                }
                let mut from = last.checked_add(1).ok_or_else(missing)?;
                let mut more = self.range(core, query, &entry.dn, &range.attribute, from).await?.ok_or_else(missing)?;
                // What was written meanwhile may have moved a value from one range to another.
                while more.revision.is_some() && revision.is_some() && more.revision != revision {
                    from_the_start += 1;
                    if from_the_start > CHANGES_MAX {
                        return Err(missing());
                    }
                    (from, revision) = (0, None);
                    values.clear();
                    more = self.range(core, query, &entry.dn, &range.attribute, from).await?.ok_or_else(missing)?;
                }
                if more.range.first != from || more.range.last.is_some_and(|last| last < from) {
                    return Err(missing());
                }
                values.extend(more.values);
                (range, revision) = (more.range, more.revision.or(revision));
            }
            // The plain name may stand beside it without values.
            entry.attributes.retain(|other| !other.description.eq_ignore_ascii_case(&range.attribute));
            entry.attributes.push(Attribute::new(range.attribute, values));
        }
        Ok(entry)
    }

    /// One more range of values of one entry.
    async fn range(
        &mut self,
        core: &Core,
        query: &Query,
        dn: &Bytes,
        attribute: &str,
        from: u32,
    ) -> Result<Option<Part>, Incomplete> {
        let selector = format!("{attribute};range={from}-*");
        let wanted = [selector.as_str(), REVISION];
        let search = SearchRequest::new(dn.clone(), Scope::Base, &Filter::present("objectClass"), &wanted);
        // Of this entry itself, and of nobody that it names.
        let controls = query.controls.iter().filter(|control| control.oid != oid::SCOPE_QUERY).cloned();
        self.id = self.send(core, &search, &controls.collect::<Vec<_>>()).await?;
        let mut found = None;
        loop {
            let message = self.message(core).await?;
            match message.op() {
                Op::SearchResultEntry => {
                    let entry = SearchResultEntry::decode(&message).map_err(|error| self.lost(core, error.into()))?;
                    let is_wanted = |range: &Range| range.attribute.eq_ignore_ascii_case(attribute);
                    let revision = entry.first(REVISION).cloned();
                    found = entry.attributes.into_iter().find_map(|part| {
                        let range = Range::of(&part.description).filter(is_wanted)?;
                        Some(Part { range, values: part.values, revision: revision.clone() })
                    });
                }
                Op::SearchResultReference | Op::IntermediateResponse => {}
                Op::SearchResultDone => {
                    let result = LdapResult::decode(&message).map_err(|error| self.lost(core, error.into()))?;
                    return Ok(found.filter(|_| result.is_success()));
                }
                _ => return Err(self.lost(core, Broken::UnexpectedMessage)),
            }
        }
    }

    async fn send(
        &mut self,
        core: &Core,
        search: &SearchRequest,
        controls: &[Control],
    ) -> Result<MessageId, Incomplete> {
        let id = self.connection.next_id();
        let octets = search.encode(id, controls);
        match tokio::time::timeout(core.operation_timeout(), self.connection.send(&octets)).await {
            Ok(Ok(())) => Ok(id),
            Ok(Err(broken)) => Err(self.lost(core, broken)),
            Err(_) => Err(self.timed_out(core)),
        }
    }

    /// The next message of the answer that is awaited; no other can come.
    async fn message(&mut self, core: &Core) -> Result<Message, Incomplete> {
        match tokio::time::timeout(core.operation_timeout(), self.connection.receive()).await {
            Ok(Ok(message)) if message.id() == self.id => Ok(message),
            Ok(Ok(_)) => Err(self.lost(core, Broken::UnexpectedMessage)),
            Ok(Err(broken)) => Err(self.lost(core, broken)),
            Err(_) => Err(self.timed_out(core)),
        }
    }

    fn lost(&self, core: &Core, cause: Broken) -> Incomplete {
        self.fail(core, QueryError::Lost { server: self.server(), cause: Arc::new(cause) })
    }

    fn timed_out(&self, core: &Core) -> Incomplete {
        self.fail(core, QueryError::Timeout { server: self.server() })
    }

    fn fail(&self, core: &Core, error: QueryError) -> Incomplete {
        core.servers.failed(self.connection.server(), &error, Instant::now());
        self.observe(core, error.outcome());
        error.into()
    }

    fn observe(&self, core: &Core, outcome: Outcome) {
        core.observe(self.connection.server(), Operation::Page, outcome, self.started.elapsed());
    }

    fn server(&self) -> ServerName {
        self.connection.server().clone()
    }
}

fn plain(dn: &Bytes) -> Bytes {
    std::str::from_utf8(dn).map_or_else(|_| dn.clone(), |text| dn.slice_ref(dirsync::plain_dn(text).as_bytes()))
}

impl Incomplete {
    /// Nobody who may be asked has anything under this name: it is none, it lies on another server, or it may not be seen.
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Referral { .. } => true,
            Self::Refused { code, .. } => {
                [ResultCode::NO_SUCH_OBJECT, ResultCode::INVALID_DN_SYNTAX, ResultCode::INSUFFICIENT_ACCESS_RIGHTS]
                    .contains(code)
            }
            _ => false,
        }
    }

    /// What was to be read is not there, or hidden from the query account.
    pub fn is_no_such_object(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == ResultCode::NO_SUCH_OBJECT)
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Unanswered(error) => error.outcome(),
            Self::NoProgress { .. } | Self::TooMany { .. } | Self::MissingValues { .. } => Outcome::Protocol,
            Self::Limit { .. }
            | Self::Referral { .. }
            | Self::Refused { .. }
            | Self::OtherServer { .. }
            | Self::Hidden { .. } => Outcome::Directory,
        }
    }
}

/// Some of the values of an attribute.
struct Part {
    range: Range,
    values: Vec<Bytes>,
    /// Of the entry when they were read.
    revision: Option<Bytes>,
}

/// `member;range=0-1499`: which values these are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    /// Without the range option.
    attribute: String,
    first: u32,
    /// None: these are the last.
    last: Option<u32>,
}

impl Range {
    /// The option that says so, whether it can be read or not.
    fn option(description: &str) -> Option<&str> {
        let is_range = |option: &&str| option.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("range="));
        description.split(';').skip(1).find(is_range)
    }

    fn of(description: &str) -> Option<Self> {
        let range = Self::option(description)?;
        let name: Vec<&str> = description.split(';').filter(|option| *option != range).collect();
        let (first, last) = range.get(6..)?.split_once('-')?;
        let last = match last {
            "*" => None,
            number => Some(number.parse().ok()?),
        };
        Some(Self { attribute: name.join(";"), first: first.parse().ok()?, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_in_any_case_and_beside_other_options() {
        // S-51, B-73
        let range = |description: &str| Range::of(description);
        let of = |attribute: &str, first, last| Some(Range { attribute: attribute.into(), first, last });
        assert_eq!(range("member;range=0-1499"), of("member", 0, Some(1499)));
        assert_eq!(range("member;Range=1500-*"), of("member", 1500, None));
        assert_eq!(range("member;binary;range=0-*"), of("member;binary", 0, None));
        for none in
            ["member", "member;range=", "member;range=a-b", "member;range=5", "range=0-1", "member;range=0-99999999999"]
        {
            assert_eq!(range(none), None, "{none}");
        }
    }
}
