//! Users of groups, found through the groups and not by reading everybody (FD-15): one search of a group gives its members with their
//! attributes. Who is a member is decided by the store all the same (S-52); here it only matters that nobody is left out.
//!
//! It is left to the usual way, and said why, where the settings or the server do not want it, where the members of a group lie in several
//! domains (S-51, S-52), and where groups are nested too deep.

use crate::objects::{self, Met, Objects, Place};
use crate::read::{ReadError, What};
use directory::{Incomplete, Query};
use domain::ObjectId;
use ldap_wire::{Dn, DnKey, Filter, ResultCode, SearchResultEntry};
use std::collections::{HashSet, VecDeque};

/// Groups within groups: deeper is no organisation.
const DEPTH_MAX: usize = 32;

/// A group that an item names.
pub(crate) struct Group<'a> {
    pub(crate) dn: &'a str,
    pub(crate) nested: bool,
}

/// Where users are to be looked for: at the members of each group, and at those whose primary group it is.
#[derive(Debug, Default)]
pub(crate) struct Places(pub(crate) Vec<Place>);

/// Why everybody is read instead. An administrator reads this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Otherwise {
    #[error("the settings or the directory do not want scope queries")]
    NotOffered,
    #[error("groups may have members of other domains")]
    SpansDomains,
    #[error("groups are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("the server does not answer scope queries as it should")]
    Refused,
}

impl Objects {
    /// All groups within these, found by asking each for its members.
    pub(crate) async fn places(&self, groups: &[Group<'_>]) -> Result<Result<Places, Otherwise>, ReadError> {
        if !self.directory.answers_scope_queries().await.map_err(unread)? {
            return Ok(Err(Otherwise::NotOffered));
        }
        let mut open: VecDeque<(String, bool, usize)> =
            groups.iter().map(|group| (group.dn.to_owned(), group.nested, 0)).collect();
        // Whether its members' members count, too: of a group that is met a second time they may.
        let mut met: HashSet<(DnKey, bool)> = HashSet::new();
        let mut places = Places::default();
        while let Some((dn, nested, depth)) = open.pop_front() {
            let key = dn.parse::<Dn>().map_err(|cause| ReadError::BadName { dn: dn.clone(), cause })?.key();
            if met.contains(&(key.clone(), true)) || !met.insert((key, nested)) {
                continue;
            }
            if depth > DEPTH_MAX {
                return Ok(Err(Otherwise::TooDeep));
            }
            let within = match self.groups_within(&dn).await {
                Ok(within) => within,
                Err(Incomplete::Refused { code: ResultCode::AFFECTS_MULTIPLE_DSAS, .. }) => {
                    return Ok(Err(Otherwise::SpansDomains));
                }
                Err(Incomplete::Refused { .. } | Incomplete::Limit { .. } | Incomplete::NoProgress { .. }) => {
                    return Ok(Err(Otherwise::Refused));
                }
                Err(cause) => return Err(unread(cause)),
            };
            let own = Query::new(&dn, ldap_wire::Scope::Base, Filter::present("objectClass"), &["objectSid"]);
            let own = self.collected(own).await.map_err(unread)?;
            let rid = own.first().and_then(|entry| rid(entry.values("objectSid").first()?));
            places.0.extend(rid.map(|rid| Place::PrimaryGroup { rid }));
            places.0.push(Place::Members { group: dn });
            if nested {
                open.extend(within.into_iter().map(|group| (group, true, depth + 1)));
            }
        }
        Ok(Ok(places))
    }

    async fn groups_within(&self, group: &str) -> Result<Vec<String>, Incomplete> {
        let query = Query::members_of(group, self.directory.group_filter().clone(), &["1.1"]);
        let found = self.collected(query).await?;
        Ok(found.iter().filter_map(|entry| entry.dn_text().map(str::to_owned)).collect())
    }

    /// The users there; each once, and none that lies below what is read anyway.
    pub(crate) async fn users_at(
        &self,
        places: &Places,
        read_anyway: &[&str],
        target: &mut crate::objects::Target<'_>,
        met: &mut Met,
    ) -> Result<(), ReadError> {
        let anyway: Vec<Dn> = read_anyway.iter().filter_map(|dn| dn.parse().ok()).collect();
        let base = self.directory.base();
        let is_here = |dn: &Dn| dn.is_within(base) && !anyway.iter().any(|container| dn.is_within(container));
        let mut seen: HashSet<ObjectId> = HashSet::new();
        for place in &places.0 {
            let wanted = |entry: &SearchResultEntry, id: &ObjectId| {
                objects::dn(entry).as_ref().is_none_or(is_here) && seen.insert(id.clone())
            };
            self.users_in(place, false, wanted, target, met).await?;
        }
        Ok(())
    }
}

fn unread(cause: Incomplete) -> ReadError {
    ReadError::Incomplete { what: What::Some, cause }
}

/// The last number of a SID (MS-DTYP section 2.4.2).
fn rid(sid: &[u8]) -> Option<u32> {
    sid.last_chunk::<4>().filter(|_| sid.len() >= 12).map(|octets| u32::from_le_bytes(*octets))
}
