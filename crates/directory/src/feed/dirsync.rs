//! Active Directory's DirSync (MS-ADTS 3.1.1.3.4.1.3; S-10 to S-22).
//!
//! Asked at the root of the naming context, it tells page after page which objects changed since a cookie, tombstones among them.
//! With the right to replicate it tells of all; without it only of what the account may read, and then what was deleted is told with
//! an empty DN or not at all.

use super::error::refused;
use super::link::Link;
use super::position::{At, Cookie};
use super::root::Root;
use super::{Event, FeedError, FeedKind, FullRead, Offer, Origin, Position, clock, watched};
use crate::connection::Broken;
use crate::directory::Core;
use crate::read::{Incomplete, Query};
use crate::resolve;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use ldap_wire::dirsync::{self, INCREMENTAL_VALUES, OBJECT_SECURITY};
use ldap_wire::{
    Control, DirSync as Value, Filter, Message, Op, ResultCode, Scope, SearchRequest, SearchResultEntry, oid,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// Of one page.
const OCTETS_MAX: u32 = 1 << 20;
const PAGES_MAX: usize = 100_000;
/// How long a domain keeps tombstones where it does not say (MS-ADTS 6.1.1.2.4.1.1).
const TOMBSTONE_DAYS: i64 = 60;

pub(super) struct DirSync {
    link: Link,
    place: Place,
    own_view: bool,
    search: SearchRequest,
    asked: Option<Cookie>,
    pages: usize,
    objects: usize,
}

/// Which domain controller of which naming context, and when.
struct Place {
    context: String,
    /// The GUID of its root: the same name may be another domain.
    domain: String,
    /// Its dsServiceName.
    dc: String,
    now: i64,
}

pub(super) async fn position_now(core: &Arc<Core>) -> Result<Position, FeedError> {
    let mut link = Link::open(core, None).await?;
    let root = Root::read(&mut link).await?;
    let place = Place::of(&mut link, &root).await?;
    let own_view = match right(&mut link, &place.context).await? {
        Right::All | Right::AllButDeleted => false,
        Right::OwnView => true,
        Right::None(code) => return Err(refused(link.server(), code, false)),
    };
    link.wait_for_long_searches();
    // The cookie does not depend on what is searched for, and who matches nothing is sent nothing.
    let search = search(&place.context, &watched::nothing(), &OF_ONE);
    let mut session = DirSync { link, place, own_view, search, asked: None, pages: 0, objects: 0 };
    session.ask().await?;
    let mut events = VecDeque::new();
    let mut position = None;
    loop {
        session.step(&mut events).await?;
        for event in events.drain(..) {
            match event {
                Event::Position(now) => position = Some(now),
                Event::End { .. } => return position.ok_or(session.malformed("no cookie")),
                _ => {}
            }
        }
    }
}

pub(super) async fn offer(link: &mut Link, root: &Root) -> Result<Option<Offer>, Incomplete> {
    if !root.has_control(oid::DIRSYNC) {
        return Ok(None);
    }
    let mut offer = Offer::of(FeedKind::DirSync);
    let core = Arc::clone(&link.core);
    let Some(context) = root.naming_context_of(core.base()) else {
        return Ok(Some(offer.unusable("The base lies in no part of the directory that this server has.")));
    };
    if !core.settings.id_attribute().eq_ignore_ascii_case("objectGUID") {
        return Ok(Some(
            offer.unusable("DirSync knows objects by their objectGUID, and the settings by something else."),
        ));
    }
    match right(link, context).await? {
        Right::All => {}
        Right::AllButDeleted => {
            offer.misses = Some(
                "What was deleted is found only by reading everything: let the query account read the Deleted Objects \
                 container of the domain."
                    .into(),
            );
        }
        Right::OwnView => {
            offer.misses = Some(
                "Without the right \"Replicating Directory Changes\" on the domain, what was deleted or may no longer be read \
                 is found only by reading everything."
                    .into(),
            );
        }
        Right::None(code) => {
            offer = offer.unusable(format!(
                "The query account may not use DirSync (code {code}): give it the right \
                 \"Replicating Directory Changes\" on the domain."
            ));
        }
    }
    Ok(Some(offer))
}

enum Right {
    All,
    /// Samba applies the rights of the container of tombstones even so.
    AllButDeleted,
    OwnView,
    None(ResultCode),
}

/// Pages looked through for one object.
const PROBED_PAGES_MAX: usize = 20;

/// Found out by asking for one object that is in every domain and is deleted by its nature (S-13).
async fn right(link: &mut Link, context: &str) -> Result<Right, Incomplete> {
    let deleted = Filter::and([Filter::equal("isDeleted", "TRUE"), Filter::equal("name", "Deleted Objects")]);
    let search = search(context, &deleted, &OF_ONE);
    link.wait_for_long_searches();
    let right = right_to(link, &search).await;
    link.wait_as_usual();
    right
}

async fn right_to(link: &mut Link, search: &SearchRequest) -> Result<Right, Incomplete> {
    let mut cookie = Bytes::new();
    for page in 0..PROBED_PAGES_MAX {
        let (found, result, sent) = link.few_with(search, &controls(link, false, cookie.clone())).await?;
        match result.code {
            ResultCode::SUCCESS if !found.is_empty() => return Ok(Right::All),
            ResultCode::SUCCESS => {}
            code @ (ResultCode::BUSY | ResultCode::UNAVAILABLE) => {
                return Err(Incomplete::Refused { server: link.server(), code });
            }
            _ if page > 0 => return Ok(Right::AllButDeleted),
            _ => {
                let (_, own) = link.few(search, &controls(link, true, Bytes::new())).await?;
                return Ok(if own.code == ResultCode::SUCCESS { Right::OwnView } else { Right::None(own.code) });
            }
        }
        match Value::find(&sent) {
            Ok(Some(value)) if value.flags != 0 && value.cookie != cookie => cookie = value.cookie,
            _ => return Ok(Right::AllButDeleted),
        }
    }
    Ok(Right::AllButDeleted)
}

/// What a search for hardly anything asks for: the name, without which nothing is told.
const OF_ONE: [&str; 2] = ["objectGUID", "name"];

fn search(context: &str, filter: &Filter, attributes: &[&str]) -> SearchRequest {
    SearchRequest::new(context.to_owned(), Scope::Subtree, filter, attributes)
}

/// S-11, S-12.
fn controls(link: &Link, own_view: bool, cookie: Bytes) -> Vec<Control> {
    let flags = INCREMENTAL_VALUES | if own_view { OBJECT_SECURITY } else { 0 };
    let mut controls = link.core.search_controls();
    controls.push(Value { flags, octets_max: OCTETS_MAX, cookie }.to_control());
    controls.extend([dirsync::show_deleted(), dirsync::extended_dn()]);
    controls
}

impl Place {
    async fn of(link: &mut Link, root: &Root) -> Result<Self, FeedError> {
        let not_offered = || FeedError::NotOffered { kind: FeedKind::DirSync };
        let core = Arc::clone(&link.core);
        let context = root.naming_context_of(core.base()).filter(|_| root.has_control(oid::DIRSYNC));
        let context = context.ok_or_else(not_offered)?.to_owned();
        let (entry, _) = link.entry(&context, &["objectGUID"]).await?;
        let guid = entry.as_ref().and_then(|entry| entry.first("objectGUID"));
        let domain = guid
            .map(|guid| HEXLOWER.encode(guid))
            .ok_or(FeedError::Malformed { server: link.server(), what: "no objectGUID of the naming context" })?;
        let dc = root.dc().unwrap_or_default().to_owned();
        Ok(Self { context, domain, dc, now: clock::now(link, root).await? })
    }
}

/// Within it a domain still knows who was deleted (S-20).
pub(super) async fn tombstone_seconds(link: &mut Link, root: &Root) -> Result<i64, Incomplete> {
    let configuration = root.text("configurationNamingContext").unwrap_or_default();
    let dn = format!("CN=Directory Service,CN=Windows NT,CN=Services,{configuration}");
    let (entry, _) = link.entry(&dn, &["tombstoneLifetime"]).await?;
    let days = entry.and_then(|entry| entry.first_text("tombstoneLifetime")?.parse::<u16>().ok());
    Ok(days.map_or(TOMBSTONE_DAYS, i64::from).max(2) * 86_400)
}

impl DirSync {
    pub async fn open(core: &Arc<Core>, position: &Position, more: &[String]) -> Result<Self, FeedError> {
        let At::DirSync { cookie, domain, own_view, at, .. } = &position.at else {
            return Err(FullRead::OtherFeed.into());
        };
        let mut link = Link::open(core, Some(&position.origin())).await?;
        let root = Root::read(&mut link).await?;
        let place = Place::of(&mut link, &root).await?;
        // Another domain controller of the domain is as good (S-18).
        if place.domain != *domain {
            return Err(FullRead::OtherDirectory.into());
        }
        if place.now - at > tombstone_seconds(&mut link, &root).await? {
            return Err(FullRead::TooLongAgo.into());
        }
        let attributes = watched::attributes(core, more);
        let attributes: Vec<&str> = attributes.iter().map(String::as_str).collect();
        let search = search(&place.context, &watched::objects(core), &attributes);
        let asked = Some(cookie.clone());
        let mut session = Self { link, place, own_view: *own_view, search, asked, pages: 0, objects: 0 };
        session.ask().await?;
        Ok(session)
    }

    pub fn origin(&self) -> Origin {
        Origin { dc: Some(self.place.dc.clone()), ..self.link.origin() }
    }

    async fn ask(&mut self) -> Result<(), Incomplete> {
        let cookie = self.asked.as_ref().map(|cookie| cookie.octets().clone()).unwrap_or_default();
        let controls = controls(&self.link, self.own_view, cookie);
        self.link.ask(&self.search, &controls).await
    }

    pub async fn step(&mut self, events: &mut VecDeque<Event>) -> Result<(), FeedError> {
        let message = self.link.answer().await?;
        match message.op() {
            Op::SearchResultEntry => {
                let entry = SearchResultEntry::decode(&message).map_err(|error| self.link.unreadable(error))?;
                self.objects += 1;
                if self.objects > Query::WHOLE_MAX {
                    let server = self.link.server();
                    return Err(Incomplete::TooMany { server, entries_max: Query::WHOLE_MAX }.into());
                }
                events.push_back(self.object(&entry)?);
                Ok(())
            }
            // Other naming contexts are no part of this one.
            Op::SearchResultReference | Op::IntermediateResponse => Ok(()),
            Op::SearchResultDone => self.done(&message, events).await,
            _ => Err(self.link.lost(Broken::UnexpectedMessage).into()),
        }
    }

    fn object(&self, entry: &SearchResultEntry) -> Result<Event, FeedError> {
        let id = resolve::id_of(&self.link.core.settings, entry);
        let id = id.map_err(|_| self.malformed("an object without an objectGUID of 16 octets"))?;
        // S-13, S-21
        let nameless = entry.dn_text().is_some_and(|dn| dirsync::plain_dn(dn).is_empty());
        Ok(if nameless || is_deleted(entry) { Event::Deleted(id) } else { Event::Changed(id) })
    }

    async fn done(&mut self, message: &Message, events: &mut VecDeque<Event>) -> Result<(), FeedError> {
        let result = self.link.done(message)?;
        let server = self.link.server();
        if !result.is_success() {
            return Err(refused(server, result.code, self.asked.is_some()));
        }
        let controls = message.controls().map_err(|error| self.link.unreadable(error))?;
        let value = Value::find(&controls).map_err(|error| self.link.unreadable(error))?;
        let value = value.ok_or_else(|| self.malformed("a page that does not say where it ends"))?;
        let cookie = Cookie::of(&server, &value.cookie)?;
        let at = At::DirSync {
            cookie: cookie.clone(),
            domain: self.place.domain.clone(),
            dc: self.place.dc.clone(),
            own_view: self.own_view,
            at: self.place.now,
        };
        self.pages += 1;
        if value.flags == 0 {
            events.push_back(Event::Position(Position::new(&server, self.link.core.base_text(), at)));
            events.push_back(Event::End { rest_is_gone: false });
            return Ok(());
        }
        // B-70
        if self.asked.as_ref() == Some(&cookie) || self.pages >= PAGES_MAX {
            return Err(self.malformed("pages without getting on"));
        }
        events.push_back(Event::Position(Position::new(&server, self.link.core.base_text(), at)));
        self.asked = Some(cookie);
        Ok(self.ask().await?)
    }

    fn malformed(&self, what: &'static str) -> FeedError {
        FeedError::Malformed { server: self.link.server(), what }
    }
}

pub(super) fn is_deleted(entry: &SearchResultEntry) -> bool {
    entry.first_text("isDeleted").is_some_and(|value| value.eq_ignore_ascii_case("TRUE"))
}
