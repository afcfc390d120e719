//! OpenLDAP's `cn=accesslog` (S-38): each write as an entry, named by the time it began. It knows objects by their entryUUID since
//! OpenLDAP 2.5. What was written (`reqMod`) is not asked for: passwords may stand there.
//!
//! A write that began earlier may be logged later, so each question reaches back a minute. An entry at or before where we stopped
//! proves that nothing was purged behind it; where none is left, the newest change of the directory must not be newer either.

use super::error::refused;
use super::link::Link;
use super::position::At;
use super::root::Root;
use super::{Event, FeedError, FeedKind, FullRead, Offer, Origin, Position, clock};
use crate::directory::Core;
use crate::read::{Incomplete, Query, Read, Reading};
use crate::server::ServerName;
use domain::ObjectId;
use ldap_wire::{Filter, ResultCode, Scope, SearchRequest, SearchResultEntry};
use std::collections::VecDeque;
use std::sync::Arc;

const LOG: &str = "cn=accesslog";
const OVERLAP_SECONDS: i64 = 60;
const START: &str = "reqStart";
const UUID: &str = "reqEntryUUID";

pub(super) struct AccessLog {
    core: Arc<Core>,
    server: ServerName,
    reading: Reading,
    /// Of the newest write told of.
    newest: String,
}

pub(super) async fn position_now(core: &Arc<Core>) -> Result<Position, FeedError> {
    let mut link = Link::open(core, None).await?;
    let root = Root::read(&mut link).await?;
    if !root.has_naming_context(LOG) {
        return Err(FeedError::NotOffered { kind: FeedKind::AccessLog });
    }
    readable(&mut link).await?.map_err(|code| FeedError::NotAllowed { server: link.server(), code })?;
    let changed = newest_change(&mut link, &root).await?;
    let (server, newest) = (link.server(), changed.clone().unwrap_or_else(beginning));
    // The newest write of the log itself, if it has one: other servers' clocks count in what the directory says.
    let query = writes(&reaching_back(&newest, 3600));
    let mut log = AccessLog {
        core: Arc::clone(core),
        server: server.clone(),
        reading: link.into_reading(query),
        newest: beginning(),
    };
    let mut events = VecDeque::new();
    while !matches!(events.back(), Some(Event::End { .. })) {
        events.clear();
        log.step(&mut events).await?;
    }
    let start = if log.newest == beginning() { newest } else { log.newest };
    Ok(Position::new(&server, core.base_text(), At::AccessLog { start }))
}

pub(super) async fn offer(link: &mut Link, root: &Root) -> Result<Option<Offer>, Incomplete> {
    if !root.has_naming_context(LOG) {
        return Ok(None);
    }
    let mut offer = Offer::of(FeedKind::AccessLog);
    offer.misses =
        Some("Whatever the log was told to leave out, and what the query account may no longer read.".into());
    if !link.core.settings.id_attribute().eq_ignore_ascii_case("entryUUID") {
        return Ok(Some(
            offer.unusable("The log knows objects by their entryUUID, and the settings by something else."),
        ));
    }
    if let Err(code) = readable(link).await? {
        return Ok(Some(offer.unusable(format!("The query account may not read {LOG} (code {code})."))));
    }
    let search = SearchRequest::new(LOG, Scope::One, &since(&beginning()), &[UUID]);
    let (found, _) = link.first(search, Vec::new()).await?;
    if found.is_some_and(|entry| entry.first(UUID).is_none()) {
        return Ok(Some(offer.unusable("The log does not tell whose entry was written; OpenLDAP 2.5 is needed.")));
    }
    Ok(Some(offer))
}

/// The log itself can be seen.
async fn readable(link: &mut Link) -> Result<Result<(), ResultCode>, Incomplete> {
    let (entry, result) = link.entry(LOG, &["1.1"]).await?;
    Ok(match entry {
        Some(_) => Ok(()),
        None if result.is_success() => Err(ResultCode::INSUFFICIENT_ACCESS_RIGHTS),
        None => Err(result.code),
    })
}

/// As OpenLDAP writes times in its log.
fn beginning() -> String {
    "19700101000000.000000Z".into()
}

fn reaching_back(start: &str, by_seconds: i64) -> String {
    clock::seconds(start).map_or_else(beginning, |time| clock::written(time.saturating_sub(by_seconds)) + ".000000Z")
}

fn since(start: &str) -> Filter {
    Filter::GreaterOrEqual { attribute: START.into(), value: start.into() }
}

/// Everything written since then.
fn writes(start: &str) -> Query {
    let filter = Filter::and([Filter::equal("objectClass", "auditWriteObject"), since(start)]);
    Query::new(LOG, Scope::One, filter, &[START, "reqType", "reqResult", UUID])
}

/// When something last changed in the part of the directory that the base lies in, by any server's clock.
async fn newest_change(link: &mut Link, root: &Root) -> Result<Option<String>, Incomplete> {
    let csns = root.context_csns(link).await?;
    let times = csns.iter().filter_map(|csn| csn.split('#').next());
    Ok(times.filter(|time| clock::seconds(time).is_some()).max().map(str::to_owned))
}

pub(super) async fn open(core: &Arc<Core>, stored: &Position) -> Result<AccessLog, FeedError> {
    let At::AccessLog { start } = &stored.at else { return Err(FullRead::OtherFeed.into()) };
    let mut link = Link::open(core, Some(&stored.origin())).await?;
    if link.server().to_string() != stored.server {
        return Err(FullRead::OtherServer.into());
    }
    let root = Root::read(&mut link).await?;
    readable(&mut link).await?.map_err(|code| FeedError::NotAllowed { server: link.server(), code })?;
    if *start != beginning() && !reaches_back_to(&mut link, start).await? {
        let nothing_since = newest_change(&mut link, &root).await?.is_some_and(|newest| newest <= *start);
        if !nothing_since {
            return Err(FullRead::Purged.into());
        }
    }
    let query = writes(&reaching_back(start, OVERLAP_SECONDS));
    let (core, server) = (Arc::clone(core), link.server());
    Ok(AccessLog { core, server, reading: link.into_reading(query), newest: start.clone() })
}

/// The oldest are purged first: one as old as that proves that none behind it is missing.
async fn reaches_back_to(link: &mut Link, start: &str) -> Result<bool, FeedError> {
    let filter = Filter::LessOrEqual { attribute: START.into(), value: start.into() };
    let search = SearchRequest::new(LOG, Scope::One, &filter, &["1.1"]);
    let (found, result) = link.first(search, Vec::new()).await?;
    match result.code {
        ResultCode::SUCCESS | ResultCode::SIZE_LIMIT_EXCEEDED => Ok(found.is_some()),
        code => Err(refused(link.server(), code, true)),
    }
}

impl AccessLog {
    pub fn origin(&self) -> Origin {
        Origin { url: self.server.to_string(), dc: None }
    }

    pub async fn step(&mut self, events: &mut VecDeque<Event>) -> Result<(), FeedError> {
        match self.reading.next().await {
            Read::Entry(entry) => {
                let told =
                    self.told(&entry).map_err(|what| FeedError::Malformed { server: self.server.clone(), what })?;
                events.extend(told);
            }
            Read::Complete => {
                let at = At::AccessLog { start: self.newest.clone() };
                events.push_back(Event::Position(Position::new(&self.server, self.core.base_text(), at)));
                events.push_back(Event::End { rest_is_gone: false });
            }
            Read::Incomplete(why) => return Err(why.into()),
        }
        Ok(())
    }

    fn told(&mut self, write: &SearchResultEntry) -> Result<Option<Event>, &'static str> {
        let start = write.first_text(START).filter(|start| clock::seconds(start).is_some());
        let start = start.ok_or("a write of no time")?;
        if *start > *self.newest {
            self.newest = start.to_owned();
        }
        if write.first_text("reqResult").is_some_and(|code| code != "0") {
            return Ok(None);
        }
        let id = write.first_text(UUID).and_then(|uuid| ObjectId::from_entry_uuid(uuid).ok());
        let id = id.ok_or("a write that does not say whose entry it was")?;
        Ok(Some(match write.first_text("reqType") {
            Some(kind) if kind.eq_ignore_ascii_case("delete") => Event::Deleted(id),
            _ => Event::Changed(id),
        }))
    }
}
