//! Content synchronisation (RFC 4533; S-30 to S-36).
//!
//! ```text
//! refresh ─┬─ entries: changed, deleted          ─┬─ done or refreshDone ──> Position, End or UpToDate ──> (persist: as it happens)
//!          ├─ present phase: all that is there    │
//!          └─ delete phase: what is gone          └─ 4096: FullRead
//! ```
//!
//! What was not named is gone only where the server has named all that is there, and has said so at the end (S-32). 389 Directory
//! Server says so and names what changed only; so this is believed of OpenLDAP alone, and never where nothing at all was named.
//!
//! A server that asks for a refresh (4096) may give a cookie to go on from. What was deleted between the cookie we had and that one
//! nobody would tell us, so the content is compared as a whole (S-33); the cookie serves where no position was asked with.

use super::error::refused;
use super::link::Link;
use super::position::{At, Cookie};
use super::root::Root;
use super::{Event, FeedError, FeedKind, FullRead, Offer, Origin, Position, Until, changelog};
use crate::connection::Broken;
use crate::directory::Core;
use crate::read::{Incomplete, Query};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use domain::ObjectId;
use ldap_wire::extended::IntermediateResponse;
use ldap_wire::sync::SyncUuid;
use ldap_wire::{
    Filter, Message, Op, ResultCode, Scope, SearchRequest, SyncDone, SyncInfo, SyncMode, SyncRequest, SyncState,
    SyncStateKind, oid,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// RFC 4533 section 2.
const REFRESH_REQUIRED: ResultCode = ResultCode(4096);
/// Beginnings of one refresh.
const RESTARTS_MAX: usize = 3;

pub(super) struct Syncrepl {
    link: Link,
    ids: Ids,
    until: Until,
    /// It goes on from a position.
    goes_on: bool,
    /// What the server was asked with.
    asked: Option<Cookie>,
    /// The newest it has sent.
    newest: Option<Cookie>,
    stage: Stage,
    restarts: usize,
    /// The server names what is there as RFC 4533 has it.
    names_all: bool,
}

enum Stage {
    Refresh(Refresh),
    Persist,
}

#[derive(Default)]
struct Refresh {
    /// Objects told of.
    told: usize,
    /// Of them, such that are there.
    there: usize,
    present_phase_ended: bool,
    delete_phase_ended: bool,
}

/// The cookie of now. OpenLDAP says where it stands, and confirms it by going on from there; anywhere else all is named once, by its id
/// alone, and what is named is left aside.
pub(super) async fn position_now(core: &Arc<Core>) -> Result<Position, FeedError> {
    let mut link = Link::open(core, None).await?;
    let root = Root::read(&mut link).await?;
    if let Some(cookie) = cookie_of_now(&mut link, &root).await? {
        let session = Syncrepl::on(link, &root, Some(cookie), Until::Now).await?;
        match session.stands().await {
            Err(FeedError::FullRead(_)) => {}
            told => return told,
        }
    }
    Syncrepl::start(core, None, None, Until::Now).await?.stands().await
}

/// As OpenLDAP writes it, and takes it on its command line (`-c`, slapd(8)). A cookie is the server's affair (RFC 4533 section 3.3), so
/// no other server is given one of ours.
async fn cookie_of_now(link: &mut Link, root: &Root) -> Result<Option<Cookie>, FeedError> {
    let csns = match root.is_openldap() {
        true => root.context_csns(link).await?,
        false => Vec::new(),
    };
    let plain = |csn: &String| csn.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'#'));
    if csns.is_empty() || !csns.iter().all(plain) {
        return Ok(None);
    }
    let cookie = format!("rid=000,csn={}", csns.join(";"));
    Ok(Some(Cookie::of(&link.server(), &cookie.into())?))
}

pub(super) async fn offer(link: &mut Link, root: &Root) -> Result<Option<Offer>, Incomplete> {
    if !root.has_control(oid::SYNC_REQUEST) {
        return Ok(None);
    }
    let mut offer = Offer::of(FeedKind::Syncrepl);
    offer.persists = true;
    offer.misses = Some(
        "What the query account may no longer read. Without a session log (syncprov-sessionlog of OpenLDAP) every deletion costs a \
         full run."
            .into(),
    );
    let core = Arc::clone(&link.core);
    if Ids::of(core.settings.id_attribute(), root).is_none() {
        return Ok(Some(offer.unusable("The server names objects by another id than the settings.")));
    }
    match begin(&core).await? {
        ResultCode::SUCCESS => {}
        code @ (ResultCode::SIZE_LIMIT_EXCEEDED | ResultCode::ADMIN_LIMIT_EXCEEDED) => {
            return Ok(Some(offer.unusable(format!(
                "A limit of the server cuts the content off that the query account is sent (code {code}): lift it for this \
                 account."
            ))));
        }
        code => {
            let why = format!("The server does not synchronise the base with the query account (code {code}).");
            return Ok(Some(offer.unusable(why)));
        }
    }
    if root.is_389() && !names_changed(link, root).await? {
        return Ok(Some(offer.unusable(
            "389 Directory Server is silent unless its retro changelog keeps whose entry was changed (nsslapd-attribute: \
             nsuniqueid:targetUniqueId), and that cannot be seen: let the query account read cn=changelog.",
        )));
    }
    Ok(Some(offer))
}

/// How a first synchronisation ends, as far as it is followed: a server may know the control, and not for this database or this
/// account, and it may have a limit that pages do not meet.
async fn begin(core: &Arc<Core>) -> Result<ResultCode, Incomplete> {
    /// More than servers allow by default.
    const FOLLOWED_MAX: usize = 5_000;
    let mut link = Link::open(core, None).await?;
    let control = SyncRequest { mode: SyncMode::RefreshOnly, cookie: None, reload_hint: false }.to_control();
    link.ask(&search(core.base_text()), &[control]).await?;
    for _ in 0..FOLLOWED_MAX {
        let message = link.answer().await?;
        if message.op() == Op::SearchResultDone {
            return Ok(link.done(&message)?.code);
        }
    }
    Ok(ResultCode::SUCCESS)
}

/// 389 Directory Server finds in its changelog who has changed, by an attribute that is not there by default.
async fn names_changed(link: &mut Link, root: &Root) -> Result<bool, Incomplete> {
    let (Some(log), Some(last)) = (root.text("changeLog"), root.number("lastChangeNumber")) else { return Ok(false) };
    if changelog::newest(link, log, last).await?.is_some_and(|change| changelog::id(&link.core, &change).is_some()) {
        return Ok(true);
    }
    let (plugin, _) = link.entry("cn=Retro Changelog Plugin,cn=plugins,cn=config", &["nsslapd-attribute"]).await?;
    let keeps = |value: &bytes::Bytes| value.to_ascii_lowercase().starts_with(b"nsuniqueid");
    Ok(plugin.is_some_and(|plugin| plugin.values("nsslapd-attribute").iter().any(keeps)))
}

impl Syncrepl {
    pub fn origin(&self) -> Origin {
        self.link.origin()
    }

    pub async fn open(core: &Arc<Core>, position: &Position, until: Until) -> Result<Self, FeedError> {
        let At::Syncrepl { cookie } = &position.at else { return Err(FullRead::OtherFeed.into()) };
        Self::start(core, Some(&position.origin()), Some(cookie.clone()), until).await
    }

    async fn start(
        core: &Arc<Core>,
        preferred: Option<&Origin>,
        cookie: Option<Cookie>,
        until: Until,
    ) -> Result<Self, FeedError> {
        let mut link = Link::open(core, preferred).await?;
        let root = Root::read(&mut link).await?;
        Self::on(link, &root, cookie, until).await
    }

    async fn on(link: Link, root: &Root, cookie: Option<Cookie>, until: Until) -> Result<Self, FeedError> {
        let ids = Ids::of(link.core.settings.id_attribute(), root);
        let ids = ids.ok_or(FeedError::NotOffered { kind: FeedKind::Syncrepl })?;
        let mut session = Self {
            link,
            ids,
            until,
            goes_on: cookie.is_some(),
            asked: cookie,
            newest: None,
            stage: Stage::Refresh(Refresh::default()),
            restarts: 0,
            names_all: root.is_openldap(),
        };
        session.ask().await?;
        Ok(session)
    }

    async fn ask(&mut self) -> Result<(), Incomplete> {
        let mode = match self.until {
            Until::Now => SyncMode::RefreshOnly,
            Until::Lost => SyncMode::RefreshAndPersist,
        };
        let cookie = self.asked.as_ref().map(|cookie| cookie.octets().clone());
        let control = SyncRequest { mode, cookie, reload_hint: false }.to_control();
        self.link.ask(&search(self.link.core.base_text()), &[control]).await
    }

    /// Where the server stands when it has told everything.
    async fn stands(mut self) -> Result<Position, FeedError> {
        let mut events = VecDeque::new();
        loop {
            self.step(&mut events).await?;
            for event in events.drain(..) {
                if let Event::Position(position) = event {
                    return Ok(position);
                }
            }
        }
    }

    pub async fn step(&mut self, events: &mut VecDeque<Event>) -> Result<(), FeedError> {
        let message = match self.stage {
            Stage::Refresh(_) => self.link.answer().await?,
            Stage::Persist => self.link.news().await?,
        };
        match message.op() {
            Op::SearchResultEntry => self.entry(&message, events),
            Op::IntermediateResponse => {
                let response = IntermediateResponse::decode(&message).map_err(|error| self.link.unreadable(error))?;
                match SyncInfo::of(&response).map_err(|error| self.link.unreadable(error))? {
                    Some(info) => self.info(info, events),
                    None => Ok(()),
                }
            }
            Op::SearchResultReference => Err(Incomplete::Referral { server: self.link.server() }.into()),
            Op::SearchResultDone => self.done(&message, events).await,
            _ => Err(self.link.lost(Broken::UnexpectedMessage).into()),
        }
    }

    fn entry(&mut self, message: &Message, events: &mut VecDeque<Event>) -> Result<(), FeedError> {
        let controls = message.controls().map_err(|error| self.link.unreadable(error))?;
        let state = SyncState::find(&controls).map_err(|error| self.link.unreadable(error))?;
        let state = state.ok_or_else(|| self.malformed("an entry that does not say why it is sent"))?;
        let id = self.ids.id(&state.uuid);
        let there = state.kind != SyncStateKind::Delete;
        self.count(1, there)?;
        events.push_back(match state.kind {
            SyncStateKind::Present => Event::Present(vec![id]),
            SyncStateKind::Add | SyncStateKind::Modify => Event::Changed(id),
            SyncStateKind::Delete => Event::Deleted(id),
        });
        self.cookie(state.cookie.as_ref(), events)
    }

    fn info(&mut self, info: SyncInfo, events: &mut VecDeque<Event>) -> Result<(), FeedError> {
        match info {
            SyncInfo::NewCookie(cookie) => self.cookie(Some(&cookie), events),
            SyncInfo::IdSet { cookie, deletes, uuids } => {
                self.count(uuids.len(), !deletes)?;
                let ids = uuids.iter().map(|uuid| self.ids.id(uuid));
                if deletes {
                    events.extend(ids.map(Event::Deleted));
                } else {
                    events.push_back(Event::Present(ids.collect()));
                }
                self.cookie(cookie.as_ref(), events)
            }
            SyncInfo::RefreshPresent { cookie, done } => {
                self.refresh()?.present_phase_ended = true;
                self.phase_ended(cookie, done, events)
            }
            SyncInfo::RefreshDelete { cookie, done } => {
                self.refresh()?.delete_phase_ended = true;
                self.phase_ended(cookie, done, events)
            }
        }
    }

    /// In refreshOnly mode the end of the search ends the stage, whatever is said of it here.
    fn phase_ended(
        &mut self,
        cookie: Option<Bytes>,
        done: bool,
        events: &mut VecDeque<Event>,
    ) -> Result<(), FeedError> {
        self.cookie(cookie.as_ref(), events)?;
        if done && self.until == Until::Lost {
            let present = self.refresh()?.present_phase_ended;
            let rest_is_gone = self.rest_is_gone(present);
            self.stage = Stage::Persist;
            events.push_back(Event::UpToDate { rest_is_gone });
            if let Some(cookie) = &self.newest {
                events.push_back(Event::Position(self.position(cookie)));
            }
        }
        Ok(())
    }

    async fn done(&mut self, message: &Message, events: &mut VecDeque<Event>) -> Result<(), FeedError> {
        let result = self.link.done(message)?;
        let controls = message.controls().map_err(|error| self.link.unreadable(error))?;
        let done = SyncDone::find(&controls).map_err(|error| self.link.unreadable(error))?;
        if result.code == REFRESH_REQUIRED {
            return self.restart(done.and_then(|done| done.cookie)).await;
        }
        let server = self.link.server();
        if !result.is_success() {
            return Err(refused(server, result.code, self.asked.is_some()));
        }
        if self.until == Until::Lost {
            return Err(self.malformed("an end of what should not end"));
        }
        let done = done.ok_or_else(|| self.malformed("an end that does not say where it is"))?;
        let refresh = self.refresh()?;
        // Where a present phase was followed by a delete phase, it has ended before and has said so.
        let present = refresh.present_phase_ended || (!done.refresh_deletes && !refresh.delete_phase_ended);
        if let Some(cookie) = &done.cookie {
            self.newest = Some(Cookie::of(&server, cookie)?);
        }
        // Where nothing has happened some send none.
        let cookie = self.newest.as_ref().or(self.asked.as_ref());
        let cookie = cookie.ok_or_else(|| self.malformed("no cookie"))?;
        events.push_back(Event::Position(self.position(cookie)));
        events.push_back(Event::End { rest_is_gone: self.rest_is_gone(present) });
        Ok(())
    }

    /// S-33
    async fn restart(&mut self, cookie: Option<Bytes>) -> Result<(), FeedError> {
        self.restarts += 1;
        let Some(cookie) = cookie.filter(|_| !self.goes_on && self.restarts <= RESTARTS_MAX) else {
            return Err(FullRead::RefreshRequired.into());
        };
        self.asked = Some(Cookie::of(&self.link.server(), &cookie)?);
        self.newest = None;
        self.stage = Stage::Refresh(Refresh::default());
        Ok(self.ask().await?)
    }

    /// Said of a present phase that came to its end.
    fn rest_is_gone(&self, present_phase: bool) -> bool {
        let there = match &self.stage {
            Stage::Refresh(refresh) => refresh.there,
            Stage::Persist => 0,
        };
        present_phase && there > 0 && self.names_all
    }

    /// A cookie stands for what came before it. During a refresh it is kept back: what is gone is known only at the end (S-34).
    fn cookie(&mut self, cookie: Option<&Bytes>, events: &mut VecDeque<Event>) -> Result<(), FeedError> {
        let Some(cookie) = cookie else { return Ok(()) };
        let cookie = Cookie::of(&self.link.server(), cookie)?;
        if let Stage::Persist = self.stage {
            events.push_back(Event::Position(self.position(&cookie)));
        }
        self.newest = Some(cookie);
        Ok(())
    }

    fn position(&self, cookie: &Cookie) -> Position {
        let base = self.link.core.base_text();
        Position::new(&self.link.server(), base, At::Syncrepl { cookie: cookie.clone() })
    }

    fn count(&mut self, objects: usize, there: bool) -> Result<(), FeedError> {
        if let Stage::Refresh(refresh) = &mut self.stage {
            refresh.told += objects;
            refresh.there += if there { objects } else { 0 };
            if refresh.told > Query::WHOLE_MAX {
                let server = self.link.server();
                return Err(Incomplete::TooMany { server, entries_max: Query::WHOLE_MAX }.into());
            }
        }
        Ok(())
    }

    fn refresh(&mut self) -> Result<&mut Refresh, FeedError> {
        match &mut self.stage {
            Stage::Refresh(refresh) => Ok(refresh),
            Stage::Persist => {
                Err(FeedError::Malformed { server: self.link.server(), what: "the end of a refresh twice" })
            }
        }
    }

    fn malformed(&self, what: &'static str) -> FeedError {
        FeedError::Malformed { server: self.link.server(), what }
    }
}

/// Always the same search, as the cookie belongs to it (S-30).
fn search(base: &str) -> SearchRequest {
    SearchRequest::new(base.to_owned(), Scope::Subtree, &Filter::present("objectClass"), &["1.1"])
}

/// What the UUIDs of a server are the octets of.
#[derive(Clone, Copy)]
enum Ids {
    EntryUuid,
    NsUniqueId,
}

impl Ids {
    /// `None` where the settings know objects by something else.
    fn of(id_attribute: &str, root: &Root) -> Option<Self> {
        match (id_attribute.to_ascii_lowercase().as_str(), root.is_389()) {
            ("entryuuid", false) => Some(Self::EntryUuid),
            ("nsuniqueid", true) => Some(Self::NsUniqueId),
            _ => None,
        }
    }

    fn id(self, uuid: &SyncUuid) -> ObjectId {
        let digits = HEXLOWER.encode(uuid);
        let id = match self {
            Self::EntryUuid => ObjectId::from_entry_uuid(&digits),
            Self::NsUniqueId => {
                let groups: Vec<&str> = (0..4).filter_map(|group| digits.get(group * 8..group * 8 + 8)).collect();
                ObjectId::from_ns_unique_id(&groups.join("-"))
            }
        };
        id.expect("16 octets are an id of either form")
    }
}
