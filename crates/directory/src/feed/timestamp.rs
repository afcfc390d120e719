//! Any directory that keeps the time of the last change (S-39): everything changed since a moment of the server's clock.
//!
//! Times have steps of a second, clocks are set back and forth, and replicas write late. So each question reaches back further than
//! the last answer, from the earlier of then and now; what is read twice does no harm. What was deleted is not told at all.

use super::link::Link;
use super::listing::Listing;
use super::position::At;
use super::root::Root;
use super::{Event, FeedError, FeedKind, FullRead, Offer, Position, clock};
use crate::directory::Core;
use crate::read::{Incomplete, Query};
use crate::resolve::{self, BadEntry};
use ldap_wire::{Filter, ResultCode, Scope, SearchRequest, SearchResultEntry};
use std::sync::Arc;

/// Between any two clocks that matter: five minutes, as Kerberos has it.
const SKEW_SECONDS: i64 = 300;

pub(super) async fn position_now(core: &Arc<Core>) -> Result<Position, FeedError> {
    let mut link = Link::open(core, None).await?;
    let root = Root::read(&mut link).await?;
    let now = clock::now(&mut link, &root).await?;
    Ok(position(&link, now))
}

pub(super) async fn offer(link: &mut Link, root: &Root) -> Result<Option<Offer>, Incomplete> {
    let mut offer = Offer::of(FeedKind::ModifyTimestamp);
    offer.misses = Some("What was deleted, or may no longer be read, is found only by reading everything.".into());
    // A server that cannot compare the times finds nothing, and says so as if it had looked.
    let core = Arc::clone(&link.core);
    let search = SearchRequest::new(core.base_text().to_owned(), Scope::Subtree, &since(root, 0), &["1.1"]);
    let (found, result) = link.first(search, core.search_controls()).await?;
    let limited = result.is_success() || result.code == ResultCode::SIZE_LIMIT_EXCEEDED;
    Ok(Some(if limited && found.is_some() {
        offer
    } else {
        offer.unusable(format!("Nothing is found by {} below the base (code {}).", attribute(root), result.code))
    }))
}

pub(super) async fn open(core: &Arc<Core>, stored: &Position) -> Result<Listing, FeedError> {
    let At::ModifyTimestamp { at } = &stored.at else { return Err(FullRead::OtherFeed.into()) };
    let mut link = Link::open(core, Some(&stored.origin())).await?;
    if link.server().to_string() != stored.server {
        return Err(FullRead::OtherServer.into());
    }
    let root = Root::read(&mut link).await?;
    let now = clock::now(&mut link, &root).await?;
    let base = core.base_text();
    let query = Query::new(base, Scope::Subtree, since(&root, from(*at, now)), &[core.settings.id_attribute()]);
    let position = position(&link, now);
    Ok(Listing::new(link, query, told, position))
}

fn from(stored: i64, now: i64) -> i64 {
    stored.min(now).saturating_sub(2 * SKEW_SECONDS).max(0)
}

fn position(link: &Link, now: i64) -> Position {
    Position::new(&link.server(), link.core.base_text(), At::ModifyTimestamp { at: now })
}

/// Active Directory computes the one, so that it cannot be searched for.
fn attribute(root: &Root) -> &'static str {
    if root.is_active_directory() { "whenChanged" } else { "modifyTimestamp" }
}

fn since(root: &Root, seconds: i64) -> Filter {
    let fraction = if root.is_active_directory() { ".0Z" } else { "Z" };
    let value = (clock::written(seconds) + fraction).into_bytes();
    Filter::GreaterOrEqual { attribute: attribute(root).to_owned(), value }
}

/// Where some entries have no id, nobody can have known them by it.
fn told(core: &Core, entry: &SearchResultEntry) -> Result<Option<Event>, &'static str> {
    match resolve::id_of(&core.settings, entry) {
        Ok(id) => Ok(Some(Event::Changed(id))),
        Err(BadEntry::NoId { .. }) => Ok(None),
        Err(_) => Err("an entry with an id that is none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_back_and_forth_hides_nothing() {
        // S-39. Each read is at a moment of the server's clock; a change between two reads has a time between their times, or
        // between the last one and where the clock was set to.
        let mut stored = 10_000;
        for now in [10_300, 6_700, 7_000, 12_000, 11_999, 9_000, 9_000, 50_000] {
            let from = from(stored, now);
            assert!(from + 2 * SKEW_SECONDS <= stored && from + 2 * SKEW_SECONDS <= now);
            stored = now;
        }
        assert_eq!(from(100, 50), 0);
    }
}
