//! Which sync items hold a user, as the directory is now (FS-08). Says the same as a full run would: filters are the directory's to
//! evaluate, containers go by the name, users by the id, groups by who is a member of them (FS-21, FS-22, S-52).

use super::domains::{Domain, Domains};
use super::find::place;
use super::unread;
use directory::{Entry, Incomplete, Query, of_ids};
use domain::settings::{Preset, SourceKind, SyncItem, SyncSource};
use futures::FutureExt;
use ldap_wire::dn::DnKey;
use ldap_wire::{Dn, Filter, Scope, SearchResultEntry};
use proto::directory::Holding;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};
use tonic::Status;

/// FD-16: groups in groups.
const LEVELS_MAX: usize = 32;
/// Groups whose groups are looked for at once.
const TOGETHER: usize = 50;

pub(super) async fn items(
    domains: &Domains,
    at: &Domain,
    entry: &Entry,
    items: &[SyncItem],
) -> Result<Vec<Holding>, Status> {
    let person = Person { domains, at, entry, unread: Mutex::default() };
    let mut answers = Vec::new();
    for item in items {
        let (holds, why) = person.of(item).await?;
        // What cannot be read may say otherwise.
        let unread = std::mem::take(&mut *person.unread.lock().unwrap_or_else(PoisonError::into_inner));
        let why =
            if holds || unread.is_empty() { why } else { format!("{why}, and {}", Vec::from_iter(unread).join("; ")) };
        answers.push(Holding { sync_item: item.name.to_string(), holds, why });
    }
    Ok(answers)
}

struct Person<'a> {
    domains: &'a Domains,
    /// Where they are.
    at: &'a Domain,
    entry: &'a Entry,
    /// Why not everything was seen.
    unread: Mutex<BTreeSet<String>>,
}

/// Who may be a member of a group.
struct Member {
    dn: String,
    /// Across a trust it stands for them.
    sid: Option<Vec<u8>>,
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
        let filter = Filter::and([self.at.directory.user_filter().clone(), filter]);
        let fits = !read(self.at, &self.entry.dn, Scope::Base, filter, &["1.1"]).await?.is_empty();
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
                Some(container) => lies_in(self.domains, self.at, &self.entry.dn, &container, source.subtree),
                None => (false, "the container cannot be seen".into()),
            }),
            SourceKind::Group => match self.named(source).await? {
                Some(group) => self.is_member(&group, source.nested).await,
                None => Ok((false, "the group cannot be seen".into())),
            },
        }
    }

    /// From the person up, one level of groups after the other.
    async fn is_member(&self, group: &str, nested: bool) -> Result<(bool, String), Status> {
        let Some(wanted) = key(group) else { return Ok((false, format!("{group:?} is no DN"))) };
        let mut above = self.groups(&[self.themselves().await?]).await?;
        above.extend(match self.at.directory.settings().preset {
            Preset::ActiveDirectory => self.primary_group().await?,
            _ => self.groups_by_uid().await?,
        });
        let mut met: HashSet<DnKey> = HashSet::new();
        for level in 0..LEVELS_MAX {
            if above.iter().filter_map(|it| key(&it.dn)).any(|dn| dn == wanted) {
                let how = if level == 0 { "a member of" } else { "through other groups a member of" };
                return Ok((true, format!("{how} {group}")));
            }
            above.retain(|it| key(&it.dn).is_some_and(|dn| met.insert(dn)));
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

    async fn themselves(&self) -> Result<Member, Status> {
        let anything = Filter::present("objectClass");
        let entries = match self.domains.are_several() {
            true => read(self.at, &self.entry.dn, Scope::Base, anything, &["objectSid"]).await?,
            false => Vec::new(),
        };
        Ok(Member { dn: self.entry.dn.clone(), sid: entries.first().and_then(sid) })
    }

    /// The groups of all domains that have one of these as a member.
    async fn groups(&self, members: &[Member]) -> Result<Vec<Member>, Status> {
        let of = |domain| groups_of(domain, members).boxed();
        let (groups, unread) = self.domains.each(of).await?;
        self.not_seen(unread);
        Ok(groups.into_iter().flatten().collect())
    }

    /// Active Directory keeps it as the last number of a SID (MS-ADA3 2.120).
    async fn primary_group(&self) -> Result<Vec<Member>, Status> {
        let anything = Filter::present("objectClass");
        let entries = read(self.at, &self.entry.dn, Scope::Base, anything, &["objectSid", "primaryGroupID"]).await?;
        let sid = entries.first().and_then(primary_group_sid);
        match sid {
            Some(sid) => {
                let filter = Filter::and([self.at.directory.group_filter().clone(), Filter::equal("objectSid", sid)]);
                named(self.at, filter).await
            }
            None => Ok(Vec::new()),
        }
    }

    /// RFC 2307 section 2.2: `memberUid` names the person by their `uid` (S-36).
    async fn groups_by_uid(&self) -> Result<Vec<Member>, Status> {
        let entries = read(self.at, &self.entry.dn, Scope::Base, Filter::present("uid"), &["uid"]).await?;
        let uids = entries.iter().flat_map(|entry| entry.values("uid"));
        let of = Filter::or(uids.map(|uid| Filter::equal("memberUid", uid.to_vec())));
        match &of {
            Filter::Or(uids) if uids.is_empty() => Ok(Vec::new()),
            _ => named(self.at, Filter::and([self.at.directory.group_filter().clone(), of])).await,
        }
    }

    /// What the item names, as it is called now; `None` = it cannot be seen.
    async fn named(&self, source: &SyncSource) -> Result<Option<String>, Status> {
        let first = place(self.domains, &source.dn);
        let look = |domain| named_in(domain, source).boxed();
        let mut found = match first.name() {
            None => look(first).await?,
            Some(_) => match self.domains.answer(first, look).await {
                Ok(found) => found,
                Err(why) => {
                    self.not_seen(vec![first.unread(&why)]);
                    return Ok(None);
                }
            },
        };
        if source.id.is_some() && found.is_empty() {
            // It may have moved to another domain.
            let (elsewhere, unread) = self.domains.each_beside(first, look).await;
            self.not_seen(unread);
            found = elsewhere.into_iter().flatten().collect();
        }
        Ok(found.first().and_then(SearchResultEntry::dn_text).map(str::to_owned))
    }

    fn not_seen(&self, unread: Vec<String>) {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).extend(unread);
    }
}

/// The name of a domain may end in that of another one, whose containers have nobody of it.
fn lies_in(domains: &Domains, at: &Domain, dn: &str, container: &str, subtree: bool) -> (bool, String) {
    let (Ok(container_dn), Ok(dn)) = (container.parse::<Dn>(), dn.parse::<Dn>()) else {
        return (false, format!("{container} or the entry has no name that can be read"));
    };
    let depth = dn.rdns.len().saturating_sub(container_dn.rdns.len());
    let is_of_domain = std::ptr::eq(domains.holding(&container_dn), at);
    match is_of_domain && dn.is_within(&container_dn) && depth > 0 {
        true if depth == 1 || subtree => (true, format!("lies in {container}")),
        true => (false, format!("lies deeper than in {container} itself")),
        false => (false, format!("lies outside of {container}")),
    }
}

async fn named_in(domain: &Domain, source: &SyncSource) -> Result<Vec<SearchResultEntry>, Status> {
    match &source.id {
        Some(id) => {
            let base = domain.directory.base_text();
            read(domain, base, Scope::Subtree, of_ids(std::slice::from_ref(id)), &["1.1"]).await
        }
        None => read(domain, &source.dn, Scope::Base, Filter::present("objectClass"), &["1.1"]).await,
    }
}

/// What a group of this domain may have as its member for them.
fn names_in(domain: &Domain, member: &Member) -> Vec<String> {
    let Some(base) = domain.directory.base().dns_domain() else { return vec![member.dn.clone()] };
    let is_elsewhere = member.dn.parse::<Dn>().is_ok_and(|dn| dn.dns_domain().as_ref() != Some(&base));
    let foreign = member.sid.as_deref().filter(|_| is_elsewhere).and_then(sid_text);
    let base: Vec<String> = base.split('.').map(|label| format!("DC={label}")).collect();
    let foreign = foreign.map(|sid| format!("CN={sid},CN=ForeignSecurityPrincipals,{}", base.join(",")));
    std::iter::once(member.dn.clone()).chain(foreign).collect()
}

/// The groups of a domain that have one of these as a member.
async fn groups_of(domain: &Domain, members: &[Member]) -> Result<Vec<Member>, Status> {
    let names = members.iter().flat_map(|member| names_in(domain, member));
    let of = |dn: String| ["member", "uniqueMember"].map(|attribute| Filter::equal(attribute, dn.clone()));
    let members = Filter::or(names.flat_map(of));
    named(domain, Filter::and([domain.directory.group_filter().clone(), members])).await
}

async fn named(domain: &Domain, filter: Filter) -> Result<Vec<Member>, Status> {
    let found = read(domain, domain.directory.base_text(), Scope::Subtree, filter, &["objectSid"]).await?;
    let member = |entry: &SearchResultEntry| Some(Member { dn: entry.dn_text()?.to_owned(), sid: sid(entry) });
    Ok(found.iter().filter_map(member).collect())
}

/// Nothing, where the base is not there.
async fn read(
    domain: &Domain,
    base: &str,
    scope: Scope,
    filter: Filter,
    attributes: &[&str],
) -> Result<Vec<SearchResultEntry>, Status> {
    match domain.directory.read(Query::new(base, scope, filter, attributes)).collect().await {
        Ok(entries) => Ok(entries),
        Err(error @ Incomplete::Refused { .. }) if error.is_no_such_object() => Ok(Vec::new()),
        Err(error) => Err(unread(&error)),
    }
}

fn sid(entry: &SearchResultEntry) -> Option<Vec<u8>> {
    entry.first("objectSid").map(|sid| sid.to_vec())
}

/// `S-1-5-21-...`: MS-DTYP section 2.4.2.1.
fn sid_text(sid: &[u8]) -> Option<String> {
    let (&[1, count, a, b, c, d, e, f], rest) = sid.split_first_chunk::<8>()? else { return None };
    let authority = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    let (numbers, left) = rest.as_chunks::<4>();
    let numbers = numbers.iter().map(|number| format!("-{}", u32::from_le_bytes(*number)));
    (numbers.len() == usize::from(count) && left.is_empty())
        .then(|| format!("S-1-{authority}{}", numbers.collect::<String>()))
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

    #[tokio::test]
    async fn a_container_has_nobody_of_a_domain_whose_name_ends_in_its_own() {
        // FD-02, FS-21
        const HOME: &str = "DC=corp,DC=example";
        const CHILD: &str = "DC=child,DC=corp,DC=example";
        let domains = Domains::of_bases(HOME, &[CHILD]);
        let [home, child] = [HOME, CHILD].map(|base| domains.holding(&base.parse().expect("a DN")));
        let holds = |at, dn: &str, container: &str| lies_in(&domains, at, dn, container, true).0;
        let [at_home, there] = [HOME, CHILD].map(|base| format!("CN=Ann,CN=Users,{base}"));
        assert!(holds(home, &at_home, HOME) && holds(child, &there, CHILD));
        assert!(!holds(child, &there, HOME) && !holds(home, &at_home, CHILD));
    }

    #[test]
    fn a_sid_is_written_as_the_name_of_who_stands_for_it() {
        let sid = [1, 2, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 81, 4, 0, 0];
        assert_eq!(sid_text(&sid).as_deref(), Some("S-1-5-21-1105"));
        for wrong in [&sid[..15], &sid[..12], &[], &[2; 16]] {
            assert_eq!(sid_text(wrong), None);
        }
    }

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
