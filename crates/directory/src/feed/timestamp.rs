//! Any directory that keeps the time of the last change (S-39): everything changed since a moment of the server's clock.
//!
//! Times have steps of a second, clocks are set back and forth, and replicas write late. So each question reaches back further than
//! the last answer, from the earlier of then and now; what is read twice does no harm. What was deleted is not told at all.
//!
//! A server that tells no time shows its clock by what it writes: there the newest time of a change is where it stands. Times in our
//! future are no such: one entry that carries a wrong one would hide all changes until then.

use super::link::Link;
use super::listing::Listing;
use super::position::At;
use super::root::Root;
use super::{Event, FeedError, FeedKind, FullRead, Offer, Position, clock};
use crate::directory::Core;
use crate::read::{Incomplete, Query, Read};
use crate::resolve::{self, BadEntry};
use ldap_wire::{Filter, ResultCode, Scope, SearchRequest, SearchResultEntry};
use std::sync::Arc;

const MODIFIED: &str = "modifyTimestamp";
/// Between any two clocks that matter: five minutes, as Kerberos has it.
const SKEW_SECONDS: i64 = 300;

pub(super) async fn position_now(core: &Arc<Core>) -> Result<Position, FeedError> {
    let mut link = Link::open(core, None).await?;
    let root = Root::read(&mut link).await?;
    let position = |server, at| Position::new(&server, core.base_text(), At::ModifyTimestamp { at });
    match clock::told(&mut link, &root).await? {
        Some(now) => Ok(position(link.server(), now)),
        None => Ok(position(link.server(), newest_change(link, &root).await?)),
    }
}

/// Looked for from now back, further and further; 0 = there is none.
async fn newest_change(link: Link, root: &Root) -> Result<i64, Incomplete> {
    const HOUR: i64 = 3_600;
    let (core, now) = (Arc::clone(&link.core), clock::ours());
    let query =
        |back: i64| Query::new(core.base_text(), Scope::Subtree, since(root, now.saturating_sub(back)), &[MODIFIED]);
    let mut reading = link.into_reading(query(HOUR));
    for further in [Some(24 * HOUR), Some(30 * 24 * HOUR), Some(now), None] {
        let mut newest = None;
        loop {
            match reading.next().await {
                Read::Entry(entry) => newest = newest.max(modified(&entry, now)),
                Read::Complete => break,
                Read::Incomplete(why) => return Err(why),
            }
        }
        match (newest, further) {
            (Some(newest), _) => return Ok(newest),
            (None, Some(back)) => reading.ask_next(query(back)),
            (None, None) => {}
        }
    }
    Ok(0)
}

fn modified(entry: &SearchResultEntry, now: i64) -> Option<i64> {
    entry.first_text(MODIFIED).and_then(clock::seconds).filter(|time| *time <= now)
}

fn moves(position: &mut Position, entry: &SearchResultEntry) {
    if let (At::ModifyTimestamp { at }, Some(time)) = (&mut position.at, modified(entry, clock::ours())) {
        *at = time.max(*at);
    }
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
    let (base, id) = (core.base_text(), core.settings.id_attribute());
    let query = |now, attributes: &[&str]| Query::new(base, Scope::Subtree, since(&root, from(*at, now)), attributes);
    let server = link.server();
    let position = |at| Position::new(&server, base, At::ModifyTimestamp { at });
    Ok(match clock::told(&mut link, &root).await? {
        Some(now) => Listing::new(link, query(now, &[id]), told, position(now)),
        None => Listing::new(link, query(*at, &[id, MODIFIED]), told, position(*at)).moving(moves),
    })
}

fn from(stored: i64, now: i64) -> i64 {
    stored.min(now).saturating_sub(2 * SKEW_SECONDS).max(0)
}

/// Active Directory computes the one, so that it cannot be searched for.
fn attribute(root: &Root) -> &'static str {
    if root.is_active_directory() { "whenChanged" } else { MODIFIED }
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
