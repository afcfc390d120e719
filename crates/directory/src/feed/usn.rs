//! Active Directory and AD LDS by `uSNChanged` (S-25, S-26): everything a domain controller has written since a number of its own.
//!
//! The number means nothing on another domain controller, nor on the same one after it was restored.

use super::dirsync::{is_deleted, tombstone_seconds};
use super::link::Link;
use super::listing::Listing;
use super::position::At;
use super::root::Root;
use super::{Event, FeedError, FeedKind, FullRead, Offer, Position, clock, watched};
use crate::directory::Core;
use crate::read::{Incomplete, Query};
use crate::resolve;
use data_encoding::HEXLOWER;
use ldap_wire::{Filter, Scope, SearchRequest, SearchResultEntry, dirsync};
use std::sync::Arc;

/// What identifies the numbers, and the highest one.
struct Place {
    context: String,
    dc: String,
    invocation: String,
    highest: u64,
    now: i64,
}

pub(super) async fn position_now(core: &Arc<Core>) -> Result<Position, FeedError> {
    let mut link = Link::open(core, None).await?;
    let root = Root::read(&mut link).await?;
    let place = Place::of(&mut link, &root).await?.ok_or(FeedError::NotOffered { kind: FeedKind::UsnChanged })?;
    Ok(place.position(&link))
}

pub(super) async fn offer(link: &mut Link, root: &Root) -> Result<Option<Offer>, Incomplete> {
    if !root.is_active_directory() {
        return Ok(None);
    }
    let mut offer = Offer::of(FeedKind::UsnChanged);
    let core = Arc::clone(&link.core);
    if !core.settings.id_attribute().eq_ignore_ascii_case("objectGUID") {
        return Ok(Some(
            offer.unusable("uSNChanged goes with objectGUID, and the settings know objects by something else."),
        ));
    }
    let Some(place) = Place::of(link, root).await? else {
        return Ok(Some(offer.unusable(
            "The server does not tell the query account its invocationId, without which a restored server goes unnoticed.",
        )));
    };
    // S-26: what is in the container is hidden from ordinary accounts.
    let container = format!("<WKGUID=18E2EA80684F11D2B9AA00C04F79F805,{}>", place.context);
    let deleted = Filter::equal("isDeleted", "TRUE");
    let search = SearchRequest::new(container, Scope::One, &deleted, &["1.1"]);
    let (found, _) = link.first(search, vec![dirsync::show_deleted()]).await?;
    offer.misses = Some(if found.is_none() {
        "What was deleted, unless the query account may read the Deleted Objects container, and what it may no longer read.".into()
    } else {
        "What the query account may no longer read.".into()
    });
    Ok(Some(offer))
}

pub(super) async fn open(core: &Arc<Core>, position: &Position) -> Result<Listing, FeedError> {
    let At::UsnChanged { dc, invocation, usn, at } = &position.at else { return Err(FullRead::OtherFeed.into()) };
    let mut link = Link::open(core, Some(&position.origin())).await?;
    let root = Root::read(&mut link).await?;
    // The highest number is read before the objects are.
    let place = Place::of(&mut link, &root).await?.ok_or(FeedError::NotOffered { kind: FeedKind::UsnChanged })?;
    if place.dc != *dc {
        return Err(FullRead::OtherServer.into());
    }
    if place.invocation != *invocation || place.highest < *usn {
        return Err(FullRead::SetBack.into());
    }
    if place.now - at > tombstone_seconds(&mut link, &root).await? {
        return Err(FullRead::TooLongAgo.into());
    }
    let since = Filter::GreaterOrEqual {
        attribute: "uSNChanged".into(),
        value: usn.saturating_add(1).to_string().into_bytes(),
    };
    let filter = Filter::and([since, watched::objects(core)]);
    let mut query = Query::new(&place.context, Scope::Subtree, filter, &["objectGUID", "isDeleted"]);
    query.controls = vec![dirsync::show_deleted()];
    let position = place.position(&link);
    Ok(Listing::new(link, query, told, position))
}

fn told(core: &Core, entry: &SearchResultEntry) -> Result<Option<Event>, &'static str> {
    let id = resolve::id_of(&core.settings, entry);
    let id = id.map_err(|_| "an object without an objectGUID of 16 octets")?;
    Ok(Some(if is_deleted(entry) { Event::Deleted(id) } else { Event::Changed(id) }))
}

impl Place {
    /// `None` where the server does not tell.
    async fn of(link: &mut Link, root: &Root) -> Result<Option<Self>, Incomplete> {
        let core = Arc::clone(&link.core);
        let (Some(context), Some(dc), Some(highest)) =
            (root.naming_context_of(core.base()), root.dc(), root.number("highestCommittedUSN"))
        else {
            return Ok(None);
        };
        let (entry, _) = link.entry(dc, &["invocationId"]).await?;
        let Some(invocation) = entry.as_ref().and_then(|entry| entry.first("invocationId")) else { return Ok(None) };
        Ok(Some(Self {
            context: context.to_owned(),
            dc: dc.to_owned(),
            invocation: HEXLOWER.encode(invocation),
            highest,
            now: clock::now(link, root).await?,
        }))
    }

    fn position(&self, link: &Link) -> Position {
        let at = At::UsnChanged {
            dc: self.dc.clone(),
            invocation: self.invocation.clone(),
            usn: self.highest,
            at: self.now,
        };
        Position::new(&link.server(), link.core.base_text(), at)
    }
}
