//! Reads the users of a sync item and the groups of a directory: page by page, in bounded memory, with a clear end.
//!
//! `Ok(None)` is said only after every page came and the last result was success (S-41). Whatever else ends a reading is a
//! [`ReadError`], and then nobody may be taken for gone.

use crate::plan;
use directory::{Directory, Incomplete, Query, Read, Reading};
use domain::settings::{SourceKind, SyncItem};
use ldap_wire::dn::{DnError, Value};
use ldap_wire::filter::FilterError;
use ldap_wire::{Dn, DnKey, Filter, Scope, SearchResultEntry};
use std::collections::HashSet;
use std::fmt;

/// Members of a group that is the source of an item: they are held in memory while it is read.
const MEMBERS_MAX: usize = 200_000;
/// Up to so many members are searched for by name; for more, all users are read and the members picked out.
const NARROWED_MAX: usize = 500;
const MEMBER_UID: &str = "memberUid";

/// Not everything was read. The administrator reads this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{what} could not be read completely")]
    Incomplete {
        what: What,
        #[source]
        cause: Incomplete,
    },
    #[error("the filter of the sync item is no filter")]
    Filter(#[source] FilterError),
    /// Nothing at its DN that the query account may see.
    #[error("the group {dn:?} cannot be seen")]
    NoGroup { dn: String },
    /// RFC 2307: names instead of DNs, which mean nothing certain.
    #[error("the group {dn:?} lists its members by memberUid; a source needs member or uniqueMember")]
    MembersByName { dn: String },
    #[error("the group {dn:?} has more than {MEMBERS_MAX} members")]
    TooManyMembers { dn: String },
    /// Who is or is not a member cannot be told.
    #[error("{what} hold a name that is no DN")]
    BadName {
        what: What,
        #[source]
        cause: Option<DnError>,
    },
}

/// What was being read.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Users {
        base: String,
    },
    /// The entry that is the source of an item.
    Group {
        dn: String,
    },
    Groups {
        base: String,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Users { base } => write!(f, "the users below {base:?}"),
            Self::Group { dn } => write!(f, "the group {dn:?}"),
            Self::Groups { base } => write!(f, "the groups below {base:?}"),
        }
    }
}

/// A reading in progress.
pub(crate) struct Entries {
    what: What,
    reading: Reading,
    /// Only these, where the source is a group.
    members: Option<HashSet<DnKey>>,
}

impl Entries {
    /// The next entry; `None` at the end, which was complete.
    pub(crate) async fn next(&mut self) -> Result<Option<SearchResultEntry>, ReadError> {
        loop {
            match self.reading.next().await {
                Read::Entry(entry) => {
                    if self.wants(&entry)? {
                        return Ok(Some(entry));
                    }
                }
                Read::Complete => return Ok(None),
                Read::Incomplete(cause) => return Err(ReadError::Incomplete { what: self.what.clone(), cause }),
            }
        }
    }

    /// The server that is read from, once there is one.
    pub(crate) fn server(&self) -> Option<String> {
        self.reading.server().map(|server| server.host().to_owned())
    }

    fn wants(&self, entry: &SearchResultEntry) -> Result<bool, ReadError> {
        let Some(members) = &self.members else { return Ok(true) };
        Ok(members.contains(&key(entry.dn_text(), &self.what)?.key()))
    }
}

/// The users of an item: what matches the directory's user filter and the item's own, at the source.
pub(crate) async fn users(directory: &Directory, item: &SyncItem) -> Result<Entries, ReadError> {
    let settings = directory.settings();
    let mut filters = vec![directory.user_filter().clone()];
    if !item.filter.is_empty() {
        filters.push(item.filter.parse().map_err(ReadError::Filter)?);
    }
    let mut members = None;
    let base = match item.source.kind {
        SourceKind::Container => &item.source.dn,
        SourceKind::Domain if !item.source.dn.is_empty() => &item.source.dn,
        SourceKind::Domain => &settings.base,
        SourceKind::Group => {
            let dns = direct_members(directory, &item.source.dn).await?;
            filters.extend(narrowed(&dns));
            members = Some(dns.iter().map(Dn::key).collect());
            &settings.base
        }
    };
    let query = Query::new(base, Scope::Subtree, Filter::and(filters), &plan::user_attributes(settings));
    Ok(Entries { what: What::Users { base: base.clone() }, reading: directory.read(query), members })
}

/// The groups of a directory.
pub(crate) fn groups(directory: &Directory) -> Entries {
    let settings = directory.settings();
    let filter = directory.group_filter().clone();
    let query = Query::new(&settings.base, Scope::Subtree, filter, &plan::group_attributes(settings));
    Entries { what: What::Groups { base: settings.base.clone() }, reading: directory.read(query), members: None }
}

/// The names in a group's entry. Values that come in ranges are put together by the reading (S-51).
async fn direct_members(directory: &Directory, dn: &str) -> Result<Vec<Dn>, ReadError> {
    let what = What::Group { dn: dn.to_owned() };
    let mut attributes = plan::MEMBER_ATTRIBUTES.to_vec();
    attributes.push(MEMBER_UID);
    let query = Query::new(dn, Scope::Base, Filter::present("objectClass"), &attributes);
    let entries = directory.read(query).collect().await;
    let entries = entries.map_err(|cause| ReadError::Incomplete { what: what.clone(), cause })?;
    let group = entries.first().ok_or_else(|| ReadError::NoGroup { dn: dn.to_owned() })?;
    let values = || plan::MEMBER_ATTRIBUTES.iter().flat_map(|attribute| group.values(attribute));
    if values().next().is_none() && !group.values(MEMBER_UID).is_empty() {
        return Err(ReadError::MembersByName { dn: dn.to_owned() });
    }
    if values().count() > MEMBERS_MAX {
        return Err(ReadError::TooManyMembers { dn: dn.to_owned() });
    }
    let text = |value| std::str::from_utf8(value).ok().map(plan::member_dn);
    // groupOfNames needs a member: an empty DN stands for none.
    let texts = values().map(|value| text(value)).filter(|text| *text != Some(""));
    texts.map(|text| key(text, &what)).collect()
}

fn key(text: Option<&str>, what: &What) -> Result<Dn, ReadError> {
    let bad = |cause| ReadError::BadName { what: what.clone(), cause };
    text.ok_or_else(|| bad(None))?.parse().map_err(|cause| bad(Some(cause)))
}

/// A filter that all these entries match, so that not the whole directory need be read: an entry holds the values of its own
/// relative name (RFC 4512 section 2.3). It may match more; the DN decides.
fn narrowed(members: &[Dn]) -> Option<Filter> {
    if members.len() > NARROWED_MAX {
        return None;
    }
    let of_member = |dn: &Dn| {
        let assertion = |it: &ldap_wire::dn::Assertion| match &it.value {
            Value::Text(octets) => Some(Filter::equal(it.attribute.clone(), octets.clone())),
            Value::Ber(_) => None,
        };
        dn.rdns.first()?.assertions.iter().map(assertion).collect::<Option<Vec<_>>>().map(Filter::and)
    };
    // A group without members: nobody, and that without the empty `or` that some servers do not know.
    if members.is_empty() {
        return Some(Filter::not(Filter::present("objectClass")));
    }
    members.iter().map(of_member).collect::<Option<Vec<_>>>().map(Filter::or)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(texts: &[&str]) -> Vec<Dn> {
        texts.iter().map(|text| text.parse().expect("a DN")).collect()
    }

    #[test]
    fn members_are_searched_for_by_their_own_relative_names() {
        let filter = |texts: &[&str]| narrowed(&dns(texts)).map(|filter| filter.to_string());
        assert_eq!(
            filter(&["uid=a,dc=x", "cn=b (c)+l=d,dc=x"]).as_deref(),
            Some(r"(|(&(uid=a))(&(cn=b \28c\29)(l=d)))")
        );
        assert_eq!(filter(&[]).as_deref(), Some("(!(objectClass=*))"));
        assert_eq!(filter(&["uid=#04024869,dc=x", "1.2.3=#0201ff,dc=x"]), None, "a value that is no text");
        let many: Vec<String> = (0..=NARROWED_MAX).map(|number| format!("uid={number}")).collect();
        assert_eq!(filter(&many.iter().map(String::as_str).collect::<Vec<_>>()), None);
    }
}
