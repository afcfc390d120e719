//! The retro changelog of 389 Directory Server, Oracle DSEE, OpenDJ and others (S-37): each change as an entry with a number.
//!
//! What was changed (`changes`) is not asked for: passwords may stand there (CVE-2018-10871). Where a change does not say whose entry
//! it was by its id, the entry is looked up by its name; who was deleted is not told then.

use super::link::Link;
use super::position::At;
use super::root::Root;
use super::{Event, FeedError, FeedKind, FullRead, Offer, Origin, Position};
use crate::directory::Core;
use crate::read::Incomplete;
use crate::resolve;
use domain::ObjectId;
use ldap_wire::{Dn, Filter, Op, ResultCode, Scope, SearchRequest, SearchResultEntry};
use std::collections::VecDeque;
use std::sync::Arc;

const NUMBER: &str = "changeNumber";
const ATTRIBUTES: [&str; 7] =
    [NUMBER, "changeType", "targetDN", "targetUniqueId", "targetEntryUUID", "newRDN", "newSuperior"];
/// Changes asked for at once.
const STEP: u64 = 500;
/// A change with a lower number may be seen a moment later.
const OVERLAP: u64 = 10;

pub(super) struct Changelog {
    link: Link,
    log: String,
    /// The next number to be asked for, and the last there is.
    next: u64,
    last: u64,
}

pub(super) async fn position_now(core: &Arc<Core>) -> Result<Position, FeedError> {
    let mut link = Link::open(core, None).await?;
    let root = Root::read(&mut link).await?;
    let (log, last) = place(&root).ok_or(FeedError::NotOffered { kind: FeedKind::Changelog })?;
    readable(&mut link, log).await?.map_err(|code| FeedError::NotAllowed { server: link.server(), code })?;
    Ok(position(&link, last))
}

/// Where the log lies, and the number of the last change.
fn place(root: &Root) -> Option<(&str, u64)> {
    Some((root.text("changeLog")?, root.number("lastChangeNumber")?))
}

fn position(link: &Link, number: u64) -> Position {
    Position::new(&link.server(), link.core.base_text(), At::Changelog { number })
}

pub(super) async fn offer(link: &mut Link, root: &Root) -> Result<Option<Offer>, Incomplete> {
    let Some((log, last)) = place(root) else { return Ok(None) };
    let mut offer = Offer::of(FeedKind::Changelog);
    if let Err(code) = readable(link, log).await? {
        return Ok(Some(offer.unusable(format!("The query account may not read {log} (code {code})."))));
    }
    offer.misses = Some(match newest(link, log, last).await? {
        None if last > 0 => {
            return Ok(Some(offer.unusable(format!("The query account may see {log}, and none of its changes."))));
        }
        Some(change) if id(&link.core, &change).is_some() => "What the query account may no longer read.".into(),
        _ => "What was deleted, unless the changelog is told to keep whose entry it was (389 DS: nsslapd-attribute: \
              nsuniqueid:targetUniqueId), and what the query account may no longer read."
            .into(),
    });
    Ok(Some(offer))
}

/// The last change, if it can be seen.
pub(super) async fn newest(link: &mut Link, log: &str, last: u64) -> Result<Option<SearchResultEntry>, Incomplete> {
    let filter = Filter::equal(NUMBER, last.to_string());
    let search = SearchRequest::new(log.to_owned(), Scope::One, &filter, &ATTRIBUTES);
    Ok(link.few(&search, &[]).await?.0.into_iter().next())
}

async fn readable(link: &mut Link, log: &str) -> Result<Result<(), ResultCode>, Incomplete> {
    let (entry, result) = link.entry(log, &["1.1"]).await?;
    Ok(match entry {
        Some(_) => Ok(()),
        None if result.is_success() => Err(ResultCode::INSUFFICIENT_ACCESS_RIGHTS),
        None => Err(result.code),
    })
}

/// Whose entry it was, by the id that the settings know it by.
pub(super) fn id(core: &Core, change: &SearchResultEntry) -> Option<ObjectId> {
    match core.settings.id_attribute().to_ascii_lowercase().as_str() {
        "nsuniqueid" => ObjectId::from_ns_unique_id(change.first_text("targetUniqueId")?).ok(),
        "entryuuid" => ObjectId::from_entry_uuid(change.first_text("targetEntryUUID")?).ok(),
        _ => None,
    }
}

impl Changelog {
    pub fn origin(&self) -> Origin {
        self.link.origin()
    }

    pub async fn open(core: &Arc<Core>, stored: &Position) -> Result<Self, FeedError> {
        let At::Changelog { number } = &stored.at else { return Err(FullRead::OtherFeed.into()) };
        let mut link = Link::open(core, Some(&stored.origin())).await?;
        // Each server counts for itself.
        if link.server().to_string() != stored.server {
            return Err(FullRead::OtherServer.into());
        }
        let root = Root::read(&mut link).await?;
        let (log, last) = place(&root).ok_or(FeedError::NotOffered { kind: FeedKind::Changelog })?;
        let log = log.to_owned();
        let first = root.number("firstChangeNumber").unwrap_or(0);
        readable(&mut link, &log).await?.map_err(|code| FeedError::NotAllowed { server: link.server(), code })?;
        if last < *number {
            return Err(FullRead::SetBack.into());
        }
        if number.saturating_add(1) < first {
            return Err(FullRead::Purged.into());
        }
        let next = number.saturating_sub(OVERLAP).saturating_add(1).max(first);
        Ok(Self { link, log, next, last })
    }

    /// One step of numbers.
    pub async fn step(&mut self, events: &mut VecDeque<Event>) -> Result<(), FeedError> {
        if self.next <= self.last {
            let to = self.last.min(self.next.saturating_add(STEP - 1));
            let mut changes = self.changes(to).await?;
            changes.sort_by_key(|(number, _)| *number);
            for (_, change) in changes {
                events.extend(self.told(&change).await?);
            }
            self.next = to.saturating_add(1);
            if self.next <= self.last {
                events.push_back(Event::Position(position(&self.link, to)));
                return Ok(());
            }
        }
        events.push_back(Event::Position(position(&self.link, self.last)));
        events.push_back(Event::End { rest_is_gone: false });
        Ok(())
    }

    async fn changes(&mut self, to: u64) -> Result<Vec<(u64, SearchResultEntry)>, FeedError> {
        let bound = |number: u64| (NUMBER.to_owned(), number.to_string().into_bytes());
        let (attribute, value) = bound(self.next);
        let from = Filter::GreaterOrEqual { attribute, value };
        let (attribute, value) = bound(to);
        let filter = Filter::and([from, Filter::LessOrEqual { attribute, value }]);
        let search = SearchRequest::new(self.log.clone(), Scope::One, &filter, &ATTRIBUTES);
        self.link.ask(&search, &[]).await?;
        let mut changes = Vec::new();
        loop {
            let message = self.link.answer().await?;
            match message.op() {
                Op::SearchResultEntry => {
                    let change = SearchResultEntry::decode(&message).map_err(|error| self.link.unreadable(error))?;
                    let number = change.first_text(NUMBER).and_then(|number| number.parse().ok());
                    let number = number.filter(|number| (self.next..=to).contains(number));
                    let number = number.ok_or_else(|| self.malformed("a change that was not asked for"))?;
                    if changes.len() as u64 >= STEP {
                        return Err(self.malformed("more changes than there are numbers"));
                    }
                    changes.push((number, change));
                }
                Op::SearchResultDone => {
                    let result = self.link.done(&message)?;
                    return match result.is_success() {
                        true => Ok(changes),
                        false => Err(super::error::refused(self.link.server(), result.code, false)),
                    };
                }
                Op::SearchResultReference | Op::IntermediateResponse => {}
                _ => return Err(self.link.lost(crate::Broken::UnexpectedMessage).into()),
            }
        }
    }

    async fn told(&mut self, change: &SearchResultEntry) -> Result<Option<Event>, FeedError> {
        let kind = change.first_text("changeType").unwrap_or_default().to_ascii_lowercase();
        let id = id(&self.link.core, change);
        if kind == "delete" {
            return Ok(id.map(Event::Deleted));
        }
        if let Some(id) = id {
            return Ok(Some(Event::Changed(id)));
        }
        let Some(dn) = name_after(change) else { return Err(self.malformed("a change of an entry without a name")) };
        let core = Arc::clone(&self.link.core);
        let (entry, result) = self.link.entry(&dn, &[core.settings.id_attribute()]).await?;
        match (entry, result.code) {
            (Some(entry), _) => Ok(resolve::id_of(&core.settings, &entry).ok().map(Event::Changed)),
            (None, ResultCode::SUCCESS | ResultCode::NO_SUCH_OBJECT | ResultCode::INVALID_DN_SYNTAX) => Ok(None),
            (None, code) => Err(super::error::refused(self.link.server(), code, false)),
        }
    }

    fn malformed(&self, what: &'static str) -> FeedError {
        FeedError::Malformed { server: self.link.server(), what }
    }
}

/// What the entry was called when the change was made: a change of its name tells the old one and how it became the new one.
fn name_after(change: &SearchResultEntry) -> Option<String> {
    let target = change.first_text("targetDN")?;
    let Some(rdn) = change.first_text("newRDN") else { return Some(target.to_owned()) };
    let above = match change.first_text("newSuperior") {
        Some(superior) => superior.parse::<Dn>().ok()?,
        None => {
            let mut dn = target.parse::<Dn>().ok()?;
            dn.rdns.drain(..dn.rdns.len().min(1));
            dn
        }
    };
    let mut dn = rdn.parse::<Dn>().ok()?;
    dn.rdns.extend(above.rdns);
    Some(dn.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ldap_wire::Attribute;

    #[test]
    fn a_renamed_entry_is_looked_up_under_its_new_name() {
        // S-37
        for (target, rdn, superior, expected) in [
            ("uid=a,ou=x,dc=t", None, None, Some("uid=a,ou=x,dc=t")),
            ("uid=a,ou=x,dc=t", Some("uid=b"), None, Some("uid=b,ou=x,dc=t")),
            ("uid=a,ou=x,dc=t", Some("uid=b"), Some("ou=y,dc=t"), Some("uid=b,ou=y,dc=t")),
            ("cn=a\\,b,dc=t", Some("cn=c\\,d"), None, Some("cn=c\\,d,dc=t")),
            ("", Some("cn=c"), None, Some("cn=c")),
            ("cn=a,dc=t", Some("nonsense"), None, None),
            ("cn=a,dc=t", Some("cn=b"), Some("nonsense"), None),
        ] {
            let given = [("targetDn", Some(target)), ("newRdn", rdn), ("newSuperior", superior)];
            let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
            let attribute =
                |(name, value): (&str, &str)| Attribute::new(name, vec![Bytes::copy_from_slice(value.as_bytes())]);
            let change = SearchResultEntry { dn: Bytes::new(), attributes: given.map(attribute).collect() };
            assert_eq!(name_after(&change).as_deref(), expected, "{target} {rdn:?} {superior:?}");
        }
    }
}
