//! Which sync items hold a user, as the directory is now (FS-08). Says the same as a full run would: filters are the directory's to
//! evaluate, containers go by the name, users by the id, groups by who is a member of them (FS-21, FS-22, S-52).

use super::unread;
use directory::{Directory, Entry, Incomplete, Query, of_ids};
use domain::settings::{Preset, SourceKind, SyncItem, SyncSource};
use ldap_wire::dn::DnKey;
use ldap_wire::{Dn, Filter, Scope, SearchResultEntry};
use proto::directory::Holding;
use std::collections::HashSet;
use tonic::Status;

/// FD-16: groups in groups.
const LEVELS_MAX: usize = 32;
/// Groups whose groups are looked for at once.
const TOGETHER: usize = 50;

pub(super) async fn items(directory: &Directory, entry: &Entry, items: &[SyncItem]) -> Result<Vec<Holding>, Status> {
    let person = Person { directory, entry };
    let mut answers = Vec::new();
    for item in items {
        let (holds, why) = person.of(item).await?;
        answers.push(Holding { sync_item: item.name.to_string(), holds, why });
    }
    Ok(answers)
}

struct Person<'a> {
    directory: &'a Directory,
    entry: &'a Entry,
}

impl Person<'_> {
    async fn of(&self, item: &SyncItem) -> Result<(bool, String), Status> {
        let (holds, why) = self.of_source(&item.source).await?;
        if !holds || item.filter.is_empty() {
            return Ok((holds, why));
        }
        let Ok(filter) = item.filter.parse::<Filter>() else {
            return Ok((false, format!("{:?} is no filter", item.filter)));
        };
        let filter = Filter::and([self.directory.user_filter().clone(), filter]);
        let fits = !self.read(&self.entry.dn, Scope::Base, filter, &["1.1"]).await?.is_empty();
        Ok(match fits {
            true => (true, format!("{why}, and fits the filter")),
            false => (false, format!("{why}, and does not fit the filter {}", item.filter)),
        })
    }

    async fn of_source(&self, source: &SyncSource) -> Result<(bool, String), Status> {
        match source.kind {
            SourceKind::Domain => Ok((true, "everybody below the base is of it".into())),
            SourceKind::Users if source.ids.contains(&self.entry.subject.id) => Ok((true, "named by the id".into())),
            SourceKind::Users => Ok((false, "not named".into())),
            SourceKind::Container => Ok(match self.named(source).await? {
                Some(container) => self.lies_in(&container, source.subtree),
                None => (false, "the container cannot be seen".into()),
            }),
            SourceKind::Group => match self.named(source).await? {
                Some(group) => self.is_member(&group, source.nested).await,
                None => Ok((false, "the group cannot be seen".into())),
            },
        }
    }

    fn lies_in(&self, container: &str, subtree: bool) -> (bool, String) {
        let (Ok(container_dn), Ok(dn)) = (container.parse::<Dn>(), self.entry.dn.parse::<Dn>()) else {
            return (false, format!("{container} or the entry has no name that can be read"));
        };
        let depth = dn.rdns.len().saturating_sub(container_dn.rdns.len());
        match dn.is_within(&container_dn) && depth > 0 {
            true if depth == 1 || subtree => (true, format!("lies in {container}")),
            true => (false, format!("lies deeper than in {container} itself")),
            false => (false, format!("lies outside of {container}")),
        }
    }

    /// From the person up, one level of groups after the other.
    async fn is_member(&self, group: &str, nested: bool) -> Result<(bool, String), Status> {
        let Some(wanted) = key(group) else { return Ok((false, format!("{group:?} is no DN"))) };
        let mut above = self.groups(std::slice::from_ref(&self.entry.dn)).await?;
        above.extend(match self.directory.settings().preset {
            Preset::ActiveDirectory => self.primary_group().await?,
            _ => self.groups_by_uid().await?,
        });
        let mut met: HashSet<DnKey> = HashSet::new();
        for level in 0..LEVELS_MAX {
            if above.iter().filter_map(|dn| key(dn)).any(|dn| dn == wanted) {
                let how = if level == 0 { "a member of" } else { "through other groups a member of" };
                return Ok((true, format!("{how} {group}")));
            }
            above.retain(|dn| key(dn).is_some_and(|dn| met.insert(dn)));
            if above.is_empty() || !nested {
                break;
            }
            let mut next = Vec::new();
            for part in above.chunks(TOGETHER) {
                next.extend(self.groups(part).await?);
            }
            above = next;
        }
        Ok((false, format!("no member of {group}")))
    }

    /// The groups that have one of these as a member.
    async fn groups(&self, members: &[String]) -> Result<Vec<String>, Status> {
        let of =
            |dn: &String| ["member", "uniqueMember"].map(|attribute| Filter::equal(attribute, dn.as_bytes().to_vec()));
        let members = Filter::or(members.iter().flat_map(of));
        self.names(Filter::and([self.directory.group_filter().clone(), members])).await
    }

    /// Active Directory keeps it as the last number of a SID (MS-ADA3 2.120).
    async fn primary_group(&self) -> Result<Vec<String>, Status> {
        let anything = Filter::present("objectClass");
        let entries = self.read(&self.entry.dn, Scope::Base, anything, &["objectSid", "primaryGroupID"]).await?;
        let sid = entries.first().and_then(primary_group_sid);
        match sid {
            Some(sid) => {
                let filter = Filter::and([self.directory.group_filter().clone(), Filter::equal("objectSid", sid)]);
                self.names(filter).await
            }
            None => Ok(Vec::new()),
        }
    }

    /// RFC 2307 section 2.2: `memberUid` names the person by their `uid` (S-36).
    async fn groups_by_uid(&self) -> Result<Vec<String>, Status> {
        let entries = self.read(&self.entry.dn, Scope::Base, Filter::present("uid"), &["uid"]).await?;
        let uids = entries.iter().flat_map(|entry| entry.values("uid"));
        let of = Filter::or(uids.map(|uid| Filter::equal("memberUid", uid.to_vec())));
        match &of {
            Filter::Or(uids) if uids.is_empty() => Ok(Vec::new()),
            _ => self.names(Filter::and([self.directory.group_filter().clone(), of])).await,
        }
    }

    async fn names(&self, filter: Filter) -> Result<Vec<String>, Status> {
        let found = self.read(&self.directory.settings().base, Scope::Subtree, filter, &["1.1"]).await?;
        Ok(found.iter().filter_map(|entry| entry.dn_text().map(str::to_owned)).collect())
    }

    /// What the item names, as it is called now; `None` = it cannot be seen.
    async fn named(&self, source: &SyncSource) -> Result<Option<String>, Status> {
        let found = match &source.id {
            Some(id) => {
                self.read(&self.directory.settings().base, Scope::Subtree, of_ids(std::slice::from_ref(id)), &["1.1"])
                    .await?
            }
            None => self.read(&source.dn, Scope::Base, Filter::present("objectClass"), &["1.1"]).await?,
        };
        Ok(found.first().and_then(SearchResultEntry::dn_text).map(str::to_owned))
    }

    /// Nothing, where the base is not there.
    async fn read(
        &self,
        base: &str,
        scope: Scope,
        filter: Filter,
        attributes: &[&str],
    ) -> Result<Vec<SearchResultEntry>, Status> {
        match self.directory.read(Query::new(base, scope, filter, attributes)).collect().await {
            Ok(entries) => Ok(entries),
            Err(error @ Incomplete::Refused { .. }) if error.is_no_such_object() => Ok(Vec::new()),
            Err(error) => Err(unread(&error)),
        }
    }
}

/// One DN in its many ways of writing; `None` = it is none, and equals no other.
fn key(dn: &str) -> Option<DnKey> {
    Some(dn.parse::<Dn>().ok()?.key())
}

/// MS-DTYP 2.4.2.2: the last four octets of a SID are the number in its domain.
fn primary_group_sid(entry: &SearchResultEntry) -> Option<Vec<u8>> {
    let number: u32 = entry.first_text("primaryGroupID")?.parse().ok()?;
    let mut sid = entry.first("objectSid")?.to_vec();
    let domain = sid.len().checked_sub(4).filter(|length| *length >= 8)?;
    sid.truncate(domain);
    sid.extend(number.to_le_bytes());
    Some(sid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ldap_wire::Attribute;

    #[test]
    fn the_primary_group_is_of_the_same_domain() {
        let sid = [1, 2, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 81, 4, 0, 0];
        let entry = |sid: &[u8], number: &'static str| SearchResultEntry {
            dn: Bytes::new(),
            attributes: vec![
                Attribute::new("objectSid", vec![Bytes::copy_from_slice(sid)]),
                Attribute::new("primaryGroupID", vec![Bytes::from_static(number.as_bytes())]),
            ],
        };
        let mut group = sid.to_vec();
        group[12..].copy_from_slice(&513_u32.to_le_bytes());
        assert_eq!(primary_group_sid(&entry(&sid, "513")), Some(group));
        assert_eq!(primary_group_sid(&entry(&sid[..8], "513")), None);
        assert_eq!(primary_group_sid(&entry(&sid, "many")), None);
    }
}
