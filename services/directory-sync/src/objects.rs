//! Reads objects of a directory as the store takes them: whole containers page by page, or some objects by their ids.
//!
//! One way to read, whatever led to it: a full run, a change feed or a list of what is in doubt. What an object is - a user, a group,
//! a container, none of these - the filters say: evaluated here where that is certain, else by the directory itself (`evaluate`).

use crate::apply::Writer;
use crate::domains::OWN;
use crate::evaluate::{self, Found, Look};
use crate::plan::{self, Flaw, Problems};
use crate::read::{ReadError, What};
use crate::source::{Fits, Source};
use directory::{Directory, Origin, Query, Read, Reader, Reading, of_ids};
use domain::ObjectId;
use domain::settings::{Preset, SourceKind, SyncItem};
use ldap_wire::{Control, Dn, Filter, Fit, Scope, SearchResultEntry, dirsync};
use proto::user_store::{LeftObject, SyncedUser, left_object::How};
use service_kit::Clock;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Entries that are sent of those that have one id.
const ENTRIES_OF_ONE_ID: usize = 2;

/// Reads one domain of a directory during one run.
pub(crate) struct Objects {
    /// Of another domain the one that stands for it (FD-02).
    pub(crate) directory: Arc<Directory>,
    /// The number of the domain among those of the run.
    at: usize,
    /// What stands before a backslash in names of another domain, where a bare name means nobody.
    before_backslash: Option<String>,
    reader: Reader,
    clock: Clock,
    /// Where everything lies that the base lies in, once it was asked for.
    context: OnceCell<String>,
}

/// What was met of a kind.
#[derive(Debug, Default)]
pub(crate) struct Met {
    pub(crate) users: u64,
    pub(crate) groups: u64,
    /// Users and groups of which nobody can say who they are.
    pub(crate) unidentified: u64,
    /// Of the users that items name one by one, those who were met where they lie (FS-16).
    pub(crate) named: HashSet<ObjectId>,
}

/// Where users are looked for.
#[derive(Debug)]
pub(crate) enum Place {
    Below {
        base: String,
    },
    /// Whom this group names, wherever they lie (FD-15).
    Members {
        group: String,
    },
    /// Whose primary group it is: no group names them (S-52).
    PrimaryGroup {
        rid: u32,
    },
}

impl Place {
    fn what(&self) -> What {
        match self {
            Self::Below { base } => What::Users { base: base.clone() },
            Self::Members { group } => What::Users { base: group.clone() },
            Self::PrimaryGroup { .. } => What::Some,
        }
    }
}

/// What is said of objects that are looked for by their ids and are nowhere.
#[derive(Clone, Copy)]
pub(crate) enum Nowhere<'a> {
    /// A look at everybody has missed them: that counts (S-43).
    Missed,
    /// The directory tells of what is deleted. Of these it has; of others it will, if they were deleted since.
    Told(&'a HashSet<ObjectId>),
}

/// What users are read for, and where they go.
pub(crate) struct Target<'a> {
    pub(crate) source: &'a Source,
    pub(crate) writer: &'a mut Writer,
    pub(crate) problems: &'a mut Problems,
}

impl Objects {
    pub(crate) fn new(directory: Arc<Directory>, clock: Clock) -> Self {
        let (reader, context) = (directory.reader(), OnceCell::new());
        Self { directory, at: OWN, before_backslash: None, reader, clock, context }
    }

    /// Of another domain, as the directory that stands for it reads it.
    pub(crate) fn of_other(directory: Arc<Directory>, clock: Clock, at: usize, before_backslash: String) -> Self {
        Self { at, before_backslash: Some(before_backslash), ..Self::new(directory, clock) }
    }

    /// Reads from this server, if it can be reached: what a feed of one tells of, another may not have yet.
    pub(crate) fn preferring(&self, origin: &Origin) -> Self {
        self.with(self.reader.preferring(origin))
    }

    /// Reads from one server to the end: who is missing from the halves of two need be missing from neither (S-41).
    pub(crate) fn of_one_server(&self) -> Self {
        self.with(self.reader.of_one_server())
    }

    fn with(&self, reader: Reader) -> Self {
        Self {
            directory: Arc::clone(&self.directory),
            at: self.at,
            before_backslash: self.before_backslash.clone(),
            reader,
            clock: self.clock.clone(),
            context: OnceCell::new(),
        }
    }

    /// What was read is what the feed of this server tells of; otherwise why not.
    pub(crate) fn is_of(&self, origin: &Origin) -> Result<(), ReadError> {
        match self.reader.answered_by_another(origin) {
            None => Ok(()),
            Some(other) => Err(ReadError::OtherServer { feed: origin.clone(), other }),
        }
    }

    /// The naming context of the base (RFC 4512 section 5.1), for what moved out of the base; the base where it is not told.
    async fn context(&self) -> Result<&str, ReadError> {
        let context = self.context.get_or_try_init(|| async {
            let query = Query::new("", Scope::Base, Filter::present("objectClass"), &["namingContexts"]);
            let entries = self.reader.read(query).collect().await;
            let entries = entries.map_err(|cause| ReadError::Incomplete { what: What::Some, cause })?;
            let texts = entries.iter().flat_map(|entry| entry.values("namingContexts"));
            let contexts = texts.filter_map(|text| std::str::from_utf8(text).ok());
            let named = contexts.filter_map(|text| Some((text.parse::<Dn>().ok()?, text)));
            let above = named.filter(|(dn, _)| !dn.rdns.is_empty() && self.directory.base().is_within(dn));
            let longest = above.max_by_key(|(dn, _)| dn.rdns.len());
            Ok::<_, ReadError>(
                longest.map_or_else(|| self.directory.settings().base.clone(), |(_, text)| text.to_owned()),
            )
        });
        Ok(context.await?.as_str())
    }

    /// The DN of what an item names, as the entry has it now, and its id where it has one; [`ReadError::Gone`] where there is none.
    pub(crate) async fn named_by(&self, item: &SyncItem) -> Result<(String, Option<ObjectId>), ReadError> {
        let source = &item.source;
        let (query, named) = match &source.id {
            Some(id) => (self.query(Scope::Subtree, of_ids(std::slice::from_ref(id)), &[]), id.to_string()),
            None => {
                let id = self.directory.settings().id_attribute();
                let query = Query::new(&source.dn, Scope::Base, Filter::present("objectClass"), &[id]);
                (query, source.dn.clone())
            }
        };
        // Pinned: nobody has typed the id.
        let named =
            if source.id.is_some() && !source.dn.is_empty() { format!("{} ({named})", source.dn) } else { named };
        let kind = if source.kind == SourceKind::Group { "group" } else { "container" };
        let what = What::Source { kind, named: named.clone() };
        let entries = match self.reader.read(query).collect().await {
            // Of an id that means the base itself.
            Err(cause) if item.source.id.is_none() && cause.is_no_such_object() => Vec::new(),
            entries => entries.map_err(|cause| ReadError::Incomplete { what, cause })?,
        };
        let found = entries.first().and_then(|entry| Some((entry.dn_text()?.to_owned(), entry)));
        let (text, entry) = found.ok_or(ReadError::Gone { item: item.name.clone(), kind, named })?;
        Ok((text, self.directory.id_of(entry).ok()))
    }

    /// Who the directory is, whatever server answers, and how it is read (S-44).
    pub(crate) async fn identity(&self) -> Result<String, ReadError> {
        Ok(format!("{} {}", self.directory.settings().source_digest(), self.id_of_base().await?))
    }

    /// The immutable id of the base's entry, as the server handed it out. One that somebody writes the base need not have, and another
    /// directory may have the same.
    pub(crate) async fn id_of_base(&self) -> Result<String, ReadError> {
        let settings = self.directory.settings();
        let by_server = Some(settings.id_attribute()).filter(|attribute| ObjectId::known_type(attribute).is_some());
        let attribute = by_server.unwrap_or(settings.preset.id_attribute());
        let query = Query::new(&settings.base, Scope::Base, Filter::present("objectClass"), &[attribute]);
        let entries = self.reader.read(query).collect().await;
        let what = What::Base { base: settings.base.clone() };
        let entries = entries.map_err(|cause| ReadError::Incomplete { what, cause })?;
        let value = entries.first().and_then(|entry| entry.first(attribute));
        let id = value.and_then(|value| ObjectId::from_value(attribute, ObjectId::known_type(attribute)?, value).ok());
        Ok(id.map_or_else(|| "-".to_owned(), |id| id.to_string()))
    }

    /// All containers below here.
    pub(crate) async fn containers(
        &self,
        base: &str,
        writer: &mut Writer,
        problems: &mut Problems,
    ) -> Result<(), ReadError> {
        let filter = self.directory.container_filter().clone();
        let query = Query::new(base, Scope::Subtree, filter, &[self.directory.settings().id_attribute()]);
        let mut entries = self.walk(query, What::Containers { base: base.to_owned() });
        while let Some(entry) = entries.next().await? {
            let Ok(id) = self.directory.id_of(&entry) else { continue };
            if let Some(container) = plan::container(&id, &entry, problems) {
                writer.container(container).await?;
            }
        }
        Ok(())
    }

    /// All groups below here with all their members.
    pub(crate) async fn groups(
        &self,
        base: &str,
        writer: &mut Writer,
        problems: &mut Problems,
        met: &mut Met,
    ) -> Result<(), ReadError> {
        let settings = self.directory.settings();
        let filter = self.directory.group_filter().clone();
        let mut query = Query::new(base, Scope::Subtree, filter, &plan::group_attributes(settings));
        query.controls.extend(self.extended_dn());
        let mut entries = self.walk(query, What::Groups { base: base.to_owned() });
        while let Some(entry) = entries.next().await? {
            met.groups += 1;
            let Some(id) = self.identified(&entry, met, problems) else { continue };
            match plan::group(settings, &id, &entry, problems) {
                Some(group) => writer.group(group).await?,
                // It is there, and what it holds stays as it was.
                None => writer.present(&id).await?,
            }
        }
        Ok(())
    }

    /// Who it is; otherwise it is counted and named.
    fn identified(&self, entry: &SearchResultEntry, met: &mut Met, problems: &mut Problems) -> Option<ObjectId> {
        let id = self.directory.id_of(entry).ok();
        if id.is_none() {
            met.unidentified += 1;
            problems.add(&entry.dn, self.directory.settings().id_attribute(), Flaw::NoId);
        }
        id
    }

    /// Everything below a container that moved.
    pub(crate) async fn everything_below(
        &self,
        container: &str,
        target: &mut Target<'_>,
        met: &mut Met,
    ) -> Result<(), ReadError> {
        self.containers(container, target.writer, target.problems).await?;
        self.groups(container, target.writer, target.problems, met).await?;
        // Those of no item, too: they may have been of one.
        self.users(container, true, target, met).await
    }

    /// All users below here that are of any item, or `all`.
    pub(crate) async fn users(
        &self,
        base: &str,
        all: bool,
        target: &mut Target<'_>,
        met: &mut Met,
    ) -> Result<(), ReadError> {
        self.users_in(&Place::Below { base: base.to_owned() }, all, |_, _| true, target, met).await
    }

    /// All users of a place that are wanted, by entry and id, and are of any item.
    pub(crate) async fn users_in(
        &self,
        place: &Place,
        all: bool,
        mut wanted: impl FnMut(&SearchResultEntry, &ObjectId) -> bool,
        target: &mut Target<'_>,
        met: &mut Met,
    ) -> Result<(), ReadError> {
        let named = target.source.named();
        let together = if target.source.has_filters() { self.directory.ids_at_once() } else { 1 };
        let mut page = Vec::with_capacity(together);
        let look = Look::at_users(&self.directory, target.source);
        let query = self.users_query(place, &look.attributes);
        let mut entries = self.walk(query, place.what());
        while let Some(entry) = entries.next().await? {
            let known = self.directory.id_of(&entry).ok();
            if known.is_some_and(|id| !wanted(&entry, &id)) {
                continue;
            }
            met.users += 1;
            let Some(id) = self.identified(&entry, met, target.problems) else { continue };
            met.named.extend(named.get(&id).map(|id| ObjectId::clone(id)));
            page.push((id, entry));
            if page.len() >= together {
                self.take_users(&look, std::mem::take(&mut page), all, target).await?;
            }
        }
        self.take_users(&look, page, all, target).await
    }

    /// A page of users, and which filters of items they fit. No more than it is held (FD-14).
    async fn take_users(
        &self,
        look: &Look<'_>,
        page: Vec<(ObjectId, SearchResultEntry)>,
        all: bool,
        target: &mut Target<'_>,
    ) -> Result<(), ReadError> {
        let Target { source, writer, problems } = target;
        let users: Vec<(&ObjectId, &SearchResultEntry)> = page.iter().map(|(id, entry)| (id, entry)).collect();
        let fits = self.fits(look, &users, source).await?;
        for (id, entry) in page {
            let user = self.user(&id, &entry, source, &fits, problems);
            if !user.items.is_empty() || all && source.is_whole() {
                writer.user(user).await?;
            }
        }
        Ok(())
    }

    /// Which of these users fit which of the items' own filters, by the place of the item. Nobody is asked for whom it could not hold, and
    /// the directory only where it alone can say it.
    async fn fits(
        &self,
        look: &Look<'_>,
        users: &[(&ObjectId, &SearchResultEntry)],
        source: &Source,
    ) -> Result<HashMap<ObjectId, Fits>, ReadError> {
        let mut fits: HashMap<ObjectId, Fits> = HashMap::new();
        for (place, filter) in source.filters() {
            let mut unclear: HashSet<ObjectId> = HashSet::new();
            for (id, entry) in
                users.iter().filter(|(id, entry)| source.may_hold(place, self.at, id, dn(entry).as_ref()))
            {
                match look.fit(filter, entry) {
                    Fit::Yes => drop(fits.entry(ObjectId::clone(id)).or_default().insert(place)),
                    Fit::No => {}
                    Fit::Unknown => drop(unclear.insert(ObjectId::clone(id))),
                }
            }
            let ids: Vec<ObjectId> = unclear.into_iter().collect();
            if ids.is_empty() {
                continue;
            }
            let filter = Filter::and(vec![of_ids(&ids), self.directory.user_filter().clone(), filter.clone()]);
            for id in self.found(self.query(Scope::Subtree, filter, &[])).await?.into_keys() {
                fits.entry(id).or_default().insert(place);
            }
        }
        Ok(fits)
    }

    /// Reads these objects again, whatever they are now: how many of them are users, and those that are not in this domain.
    pub(crate) async fn by_ids(
        &self,
        ids: &[ObjectId],
        target: &mut Target<'_>,
    ) -> Result<(u64, Vec<ObjectId>), ReadError> {
        let (mut users, mut nowhere) = (0, Vec::new());
        for part in ids.chunks(self.directory.ids_at_once()) {
            users += self.some(part, &mut nowhere, target).await?;
        }
        Ok((users, nowhere))
    }

    /// One search by the ids alone says who is here, and mostly what they are; more is asked of groups, which may have many members, and
    /// where only the directory can say what fits (S-14).
    async fn some(
        &self,
        ids: &[ObjectId],
        nowhere: &mut Vec<ObjectId>,
        target: &mut Target<'_>,
    ) -> Result<u64, ReadError> {
        let Target { source, writer, problems } = target;
        let (directory, settings) = (&self.directory, self.directory.settings());
        let look = Look::at_some(directory, source);
        let mut here = self.all_found(self.query(Scope::Subtree, of_ids(ids), &look.attributes)).await?;
        let not_here: Vec<ObjectId> = ids.iter().filter(|id| !here.contains_key(id)).cloned().collect();
        // In this order: an entry that two filters fit is what a full run makes of it, too.
        let users = self.fitting(&look, directory.user_filter(), &here).await?;
        let (fit, unclear) = evaluate::fitting(&look, directory.group_filter(), &here);
        let group_ids: Vec<ObjectId> = fit.into_keys().chain(unclear).collect();
        let groups = match group_ids.is_empty() {
            true => HashMap::new(),
            false => {
                let filter = Filter::and([of_ids(&group_ids), directory.group_filter().clone()]);
                let mut query = self.query(Scope::Subtree, filter, &plan::group_attributes(settings));
                query.controls.extend(self.extended_dn());
                self.found(query).await?
            }
        };
        here.retain(|id, _| !users.contains_key(id) && !groups.contains_key(id));
        let containers = self.fitting(&look, directory.container_filter(), &here).await?;
        here.retain(|id, _| !containers.contains_key(id));
        let elsewhere = self.elsewhere(&not_here).await?;
        let found = users.iter().flat_map(|(id, entries)| entries.iter().map(move |entry| (id, entry)));
        let fits = self.fits(&look, &found.collect::<Vec<_>>(), source).await?;
        for (id, entry) in containers.iter().flat_map(|(id, entries)| entries.last().map(|entry| (id, entry))) {
            if let Some(container) = plan::container(id, entry, problems) {
                writer.container(container).await?;
            }
        }
        for (id, entry) in groups {
            match plan::group(settings, &id, &entry, problems) {
                Some(group) => writer.group(group).await?,
                None => writer.present(&id).await?,
            }
        }
        let mut met = 0;
        for (id, entries) in users {
            met += entries.len() as u64;
            // An id that somebody writes may be that of several: two of them show it, and the store takes neither (FD-31).
            let together = entries.iter().take(ENTRIES_OF_ONE_ID);
            let together =
                together.map(|entry| SyncedUser { by_id: true, ..self.user(&id, entry, source, &fits, problems) });
            let together: Vec<SyncedUser> = together.collect();
            // Whom no item holds may be of one whose source is gone: that they left is not said (FS-21).
            if together.iter().any(|user| !user.items.is_empty()) || source.is_whole() {
                writer.users_together(together).await?;
            }
        }
        // There, but outside of the filters or of the base.
        for id in here.keys().chain(&elsewhere) {
            writer.left(LeftObject { object_id: id.to_string(), how: How::Outside.into() }).await?;
        }
        nowhere.extend(not_here.into_iter().filter(|id| !elsewhere.contains(id)));
        Ok(met)
    }

    /// Those of some entries that fit a filter: the directory is asked only of whom nobody else can say it.
    async fn fitting(&self, look: &Look<'_>, filter: &Filter, found: &Found) -> Result<Found, ReadError> {
        let (mut fitting, unclear) = evaluate::fitting(look, filter, found);
        if !unclear.is_empty() {
            let filter = Filter::and([of_ids(&unclear), filter.clone()]);
            fitting.extend(self.all_found(self.query(Scope::Subtree, filter, &look.attributes)).await?);
        }
        Ok(fitting)
    }

    /// Those that are outside of the base: what moved out of it is still there (S-43).
    async fn elsewhere(&self, ids: &[ObjectId]) -> Result<HashSet<ObjectId>, ReadError> {
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let context = self.context().await?;
        if context
            .parse::<Dn>()
            .is_ok_and(|context| self.directory.base().is_within(&context) && context.is_within(self.directory.base()))
        {
            return Ok(HashSet::new());
        }
        let mut query = self.query(Scope::Subtree, of_ids(ids), &[]);
        query.base = context.to_owned();
        Ok(self.found(query).await?.into_keys().collect())
    }

    /// The id of the object of this name; `None` where there is none, or it lies outside of the base.
    pub(crate) async fn id_of_name(&self, name: &str, dn: &Dn) -> Result<Option<ObjectId>, ReadError> {
        if !dn.is_within(self.directory.base()) {
            return Ok(None);
        }
        let id = self.directory.settings().id_attribute();
        let query = Query::new(name, Scope::Base, Filter::present("objectClass"), &[id]);
        match self.reader.read(query).collect().await {
            Ok(entries) => Ok(entries.iter().find_map(|entry| self.directory.id_of(entry).ok())),
            Err(error) if error.is_out_of_reach() => Ok(None),
            Err(cause) => Err(ReadError::Incomplete { what: What::Some, cause }),
        }
    }

    /// The ids of objects named by their SID, or by their uid where groups do so.
    pub(crate) async fn ids_of_sids(&self, sids: &[String]) -> Result<Vec<ObjectId>, ReadError> {
        let mut ids = Vec::new();
        for part in sids.chunks(self.directory.ids_at_once()) {
            let filter = Filter::or(part.iter().map(|sid| match sid.strip_prefix(plan::OF_UID) {
                Some(uid) => Filter::equal("uid", uid.as_bytes().to_vec()),
                None => Filter::equal("objectSid", sid.as_bytes().to_vec()),
            }));
            let found = self.found(self.query(Scope::Subtree, filter, &[])).await?;
            ids.extend(found.into_keys());
        }
        Ok(ids)
    }

    fn user(
        &self,
        id: &ObjectId,
        entry: &SearchResultEntry,
        source: &Source,
        fits: &HashMap<ObjectId, Fits>,
        problems: &mut Problems,
    ) -> SyncedUser {
        let fits = |place: usize| fits.get(id).is_some_and(|fits| fits.contains(&place));
        let items = source.items(self.at, id, dn(entry).as_ref(), fits);
        let (settings, elsewhere) = (self.directory.settings(), self.before_backslash.as_deref());
        SyncedUser { items, ..plan::user(settings, elsewhere, id, entry, self.clock.now_ms(), problems) }
    }

    /// A query of the whole directory; the id is always asked for.
    fn query(&self, scope: Scope, filter: Filter, attributes: &[&str]) -> Query {
        let settings = self.directory.settings();
        let mut all = vec![settings.id_attribute()];
        all.extend(attributes.iter().filter(|attribute| !attribute.eq_ignore_ascii_case(settings.id_attribute())));
        Query::new(&settings.base, scope, filter, &all)
    }

    /// Members by what lasts, where the directory can say it.
    fn extended_dn(&self) -> Option<Control> {
        (self.directory.settings().preset == Preset::ActiveDirectory).then(dirsync::extended_dn)
    }

    /// By their ids, all entries that have one.
    async fn all_found(&self, query: Query) -> Result<Found, ReadError> {
        let entries = self.reader.read(query).collect().await;
        let entries = entries.map_err(|cause| ReadError::Incomplete { what: What::Some, cause })?;
        let mut found = Found::new();
        for entry in entries {
            if let Ok(id) = self.directory.id_of(&entry) {
                found.entry(id).or_default().push(entry);
            }
        }
        Ok(found)
    }

    async fn found(&self, query: Query) -> Result<HashMap<ObjectId, SearchResultEntry>, ReadError> {
        let entries = self.reader.read(query).collect().await;
        let entries = entries.map_err(|cause| ReadError::Incomplete { what: What::Some, cause })?;
        Ok(entries.into_iter().filter_map(|entry| Some((self.directory.id_of(&entry).ok()?, entry))).collect())
    }

    fn users_query(&self, place: &Place, attributes: &[&str]) -> Query {
        let users = self.directory.user_filter().clone();
        match place {
            Place::Below { base } => Query::new(base, Scope::Subtree, users, attributes),
            Place::Members { group } => Query::members_of(group, users, attributes),
            Place::PrimaryGroup { rid } => {
                let all = vec![users, Filter::equal("primaryGroupID", rid.to_string())];
                Query::new(&self.directory.settings().base, Scope::Subtree, Filter::and(all), attributes)
            }
        }
    }

    pub(crate) async fn collected(&self, query: Query) -> Result<Vec<SearchResultEntry>, directory::Incomplete> {
        self.reader.read(query).collect().await
    }

    fn walk(&self, query: Query, what: What) -> Walk {
        let query = Query { entries_max: Query::WHOLE_MAX, ..query };
        Walk { reading: self.reader.read(query), what, named: false }
    }
}

pub(crate) fn dn(entry: &SearchResultEntry) -> Option<Dn> {
    entry.dn_text().and_then(|text| text.parse().ok())
}

/// A reading of many.
struct Walk {
    reading: Reading,
    what: What,
    named: bool,
}

impl Walk {
    /// `None` is said only after every page came and the last result was success (S-41).
    async fn next(&mut self) -> Result<Option<SearchResultEntry>, ReadError> {
        match self.reading.next().await {
            Read::Entry(entry) => {
                // At the first entry it is known who answers.
                if !self.named
                    && let Some(server) = self.reading.server()
                {
                    self.named = true;
                    tracing::Span::current().record("server.address", server.to_string());
                }
                Ok(Some(entry))
            }
            Read::Complete => Ok(None),
            Read::Incomplete(cause) => Err(ReadError::Incomplete { what: self.what.clone(), cause }),
        }
    }
}
