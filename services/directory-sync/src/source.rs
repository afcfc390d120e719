//! What the items of a directory take from it: whom each of them holds, as far as the entry alone can tell.
//!
//! Who is a member of a group is not said here: the store knows the groups, and decides (S-52). Who fits the filter of an item is not
//! either: `evaluate` does or, where matching rules are its own, the directory (FS-22, FD-14).

use crate::domains::{Domains, Named};
use crate::members::Group;
use crate::read::ReadError;
use domain::ObjectId;
use domain::settings::{SourceKind, SyncItem};
use ldap_wire::{Dn, Filter};
use proto::user_store::SourcePin;
use std::collections::HashSet;

/// The items that a run reads, with what they name found in the directory.
pub(crate) struct Source {
    items: Vec<Item>,
    /// The first item whose source is gone: then nobody can be said to have left (FS-21).
    gone: Option<ReadError>,
    /// The source of an item may be in a domain that could not be asked.
    unread: bool,
    /// What is named by a DN, found by it: by its id from the next run on.
    found: Vec<SourcePin>,
}

struct Item {
    name: String,
    within: Within,
    /// Beside the directory's user filter.
    filter: Option<Filter>,
}

enum Within {
    Anywhere,
    Container {
        /// The number of the domain: the name of another one may end in its.
        at: usize,
        dn: Dn,
        text: String,
        subtree: bool,
    },
    /// Whoever fits the filter may be a member, in any domain.
    Group {
        text: String,
        nested: bool,
    },
    Users(HashSet<ObjectId>),
    /// A container that is gone, or in a domain that cannot be read: nobody is in it.
    GoneContainer,
    /// The same of a group: nobody is read for it. Who may have been a member stays so as long as the store knows the group.
    GoneGroup,
}

/// Which of the items' own filters an entry fits, by the place of the item.
pub(crate) type Fits = HashSet<usize>;

impl Source {
    /// Finds the containers and groups that the items name. One that is gone stops nothing that the others hold, but its users would
    /// all seem to have left: see [`Source::whole`] (FS-21). Users that are named one by one leave one by one (FS-16).
    pub(crate) async fn resolve(domains: &Domains, items: &[&SyncItem]) -> Result<Self, ReadError> {
        let mut source = Self { items: Vec::new(), gone: None, unread: false, found: Vec::new() };
        for item in items {
            let filter = match item.filter.as_str() {
                "" => None,
                text => Some(text.parse().map_err(ReadError::Filter)?),
            };
            let within = match item.source.kind {
                SourceKind::Domain => Within::Anywhere,
                SourceKind::Container | SourceKind::Group => source.find(domains, item).await?,
                SourceKind::Users => Within::Users(item.source.ids.iter().cloned().collect()),
            };
            source.items.push(Item { name: item.name.to_string(), within, filter });
        }
        Ok(source)
    }

    async fn find(&mut self, domains: &Domains, item: &SyncItem) -> Result<Within, ReadError> {
        let is_group = item.source.kind == SourceKind::Group;
        let nowhere = if is_group { Within::GoneGroup } else { Within::GoneContainer };
        let Named { at, dn: text, id, below_base } = match domains.named_by(item).await {
            Ok(Some(named)) => named,
            Ok(None) => {
                self.unread = true;
                return Ok(nowhere);
            }
            Err(error @ ReadError::Gone { .. }) => {
                self.gone.get_or_insert(error);
                return Ok(nowhere);
            }
            Err(error) => return Err(error),
        };
        // By its id it is looked for below the base.
        let by_dn = below_base && item.source.id.is_none();
        self.found.extend(id.filter(|_| by_dn).map(|id| pin(item, &id)));
        if is_group {
            return Ok(Within::Group { text, nested: item.source.nested });
        }
        let dn = text.parse().map_err(|cause| ReadError::BadName { dn: text.clone(), cause })?;
        Ok(Within::Container { at, dn, text, subtree: item.source.subtree })
    }

    /// What was named by its DN alone, with its id.
    pub(crate) fn found(&self) -> &[SourcePin] {
        &self.found
    }

    /// Everything that the items name was found.
    pub(crate) fn is_whole(&self) -> bool {
        self.gone.is_none() && !self.unread
    }

    /// Why nobody can be said to have left, whatever else was read: a source is gone. Of a domain that could not be read it says so.
    pub(crate) fn whole(self) -> Result<(), ReadError> {
        self.gone.map_or(Ok(()), Err)
    }

    /// The containers as they were found: when one moves while a run reads, what was read is judged by a place that is none.
    pub(crate) fn is_still(&self, other: &Self) -> bool {
        let places = |source: &Self| -> Vec<Option<(usize, ldap_wire::DnKey)>> {
            let place = |item: &Item| match &item.within {
                Within::Container { at, dn, .. } => Some((*at, dn.key())),
                _ => None,
            };
            source.items.iter().map(place).collect()
        };
        places(self) == places(other)
    }

    /// Below what all users of a domain lie that any item holds, but for those that are named one by one: the base, or fewer containers
    /// of which none holds another.
    pub(crate) fn bases<'a>(&'a self, at: usize, base: &'a str) -> Vec<&'a str> {
        let whole = |item: &Item| matches!(item.within, Within::Anywhere | Within::Group { .. });
        if self.items.iter().any(whole) { vec![base] } else { self.containers(at) }
    }

    /// The containers of the items in this domain, of which none holds another.
    fn containers(&self, domain: usize) -> Vec<&str> {
        let mut containers: Vec<(&Dn, &str)> = Vec::new();
        for item in &self.items {
            let Within::Container { at, dn, text, .. } = &item.within else { continue };
            if *at == domain && !containers.iter().any(|(other, _)| dn.is_within(other)) {
                containers.retain(|(other, _)| !other.is_within(dn));
                containers.push((dn, text));
            }
        }
        containers.into_iter().map(|(_, text)| text).collect()
    }

    /// The groups of the items, and below what everybody else of this domain lies: what there is to read where groups can be asked for
    /// their members (FD-15). `None`: everybody is to be read, or no item is of a group.
    pub(crate) fn groups_and_bases(&self, at: usize) -> Option<(Vec<Group<'_>>, Vec<&str>)> {
        let groups = self.items.iter().filter_map(|item| match &item.within {
            Within::Group { text, nested } => Some(Group { dn: text, nested: *nested }),
            _ => None,
        });
        let groups: Vec<Group<'_>> = groups.collect();
        let everybody = self.items.iter().any(|item| matches!(item.within, Within::Anywhere));
        (!groups.is_empty() && !everybody).then(|| (groups, self.containers(at)))
    }

    /// Users that are named one by one: they lie anywhere.
    pub(crate) fn named(&self) -> HashSet<&ObjectId> {
        let sets = self.items.iter().filter_map(|item| match &item.within {
            Within::Users(ids) => Some(ids),
            _ => None,
        });
        sets.flatten().collect()
    }

    /// The filters of the items, by the place of the item.
    pub(crate) fn filters(&self) -> impl Iterator<Item = (usize, &Filter)> {
        self.items.iter().enumerate().filter_map(|(place, item)| Some((place, item.filter.as_ref()?)))
    }

    pub(crate) fn has_filters(&self) -> bool {
        self.filters().next().is_some()
    }

    /// Could the item of this place hold a user of this domain, id and name, whatever its filter says?
    pub(crate) fn may_hold(&self, place: usize, at: usize, id: &ObjectId, dn: Option<&Dn>) -> bool {
        self.items.get(place).is_some_and(|item| item.within.holds(at, id, dn))
    }

    /// The items that hold a user of this domain, id and name, or, of groups, may hold; in their order (FS-08).
    pub(crate) fn items(&self, at: usize, id: &ObjectId, dn: Option<&Dn>, fits: impl Fn(usize) -> bool) -> Vec<String> {
        let holds =
            |(place, item): &(usize, &Item)| item.within.holds(at, id, dn) && (item.filter.is_none() || fits(*place));
        self.items.iter().enumerate().filter(holds).map(|(_, item)| item.name.clone()).collect()
    }
}

impl Within {
    fn holds(&self, at: usize, id: &ObjectId, dn: Option<&Dn>) -> bool {
        match self {
            Self::Anywhere | Self::Group { .. } | Self::GoneGroup => true,
            Self::Container { at: domain, dn: container, subtree, .. } => dn.is_some_and(|dn| {
                let depth = dn.rdns.len().saturating_sub(container.rdns.len());
                *domain == at && dn.is_within(container) && (depth == 1 || *subtree && depth > 0)
            }),
            Self::Users(ids) => ids.contains(id),
            Self::GoneContainer => false,
        }
    }
}

/// The items with what is known by its id since it was found.
pub(crate) fn pinned(items: &[&SyncItem], pins: &[SourcePin]) -> Vec<SyncItem> {
    let item = |item: &&SyncItem| {
        let mut item = SyncItem::clone(item);
        proto::pins::apply(pins, &mut item);
        item
    };
    items.iter().map(item).collect()
}

/// Was it found in this domain?
pub(crate) fn lies_in(pin: &SourcePin, domain: &str) -> bool {
    let dn = pin.distinguished_name.parse::<Dn>().ok();
    dn.and_then(|dn| dn.dns_domain()).is_some_and(|name| name == domain)
}

fn pin(item: &SyncItem, id: &ObjectId) -> SourcePin {
    SourcePin {
        sync_item: item.name.to_string(),
        kind: proto::pins::kind(&item.source).unwrap_or_default().into(),
        distinguished_name: item.source.dn.clone(),
        object_id: id.to_string(),
    }
}

/// What the filters of items look at: a change of it is a change of who is held (S-14). A filter that is none ends the run elsewhere.
pub(crate) fn filter_attributes(items: &[&SyncItem]) -> Vec<String> {
    let filters = items.iter().filter_map(|item| item.filter.parse::<Filter>().ok());
    filters.flat_map(|filter| filter.attributes().into_iter().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::OWN;

    fn item(name: &str, within: Within, filter: Option<&str>) -> Item {
        Item { name: name.into(), within, filter: filter.map(|text| text.parse().expect("a filter")) }
    }

    fn container(text: &str, subtree: bool) -> Within {
        container_of(OWN, text, subtree)
    }

    fn container_of(at: usize, text: &str, subtree: bool) -> Within {
        Within::Container { at, dn: text.parse().expect("a DN"), text: text.into(), subtree }
    }

    fn source(items: Vec<Item>) -> Source {
        Source { items, gone: None, unread: false, found: Vec::new() }
    }

    impl Source {
        /// One item that holds whoever fits this.
        pub(crate) fn filtered(filter: &str) -> Self {
            source(vec![item("all", Within::Anywhere, Some(filter))])
        }
    }

    fn group() -> Within {
        Within::Group { text: "cn=vpn,dc=corp".into(), nested: true }
    }

    fn id(number: u8) -> ObjectId {
        format!("entryUUID:00000000-0000-0000-0000-0000000000{number:02}").parse().expect("an id")
    }

    fn users(numbers: &[u8]) -> Within {
        Within::Users(numbers.iter().map(|number| id(*number)).collect())
    }

    #[test]
    fn an_entry_is_of_every_item_that_holds_it_in_their_order() {
        // FS-08, FS-16, FS-21, FS-22
        let source = source(vec![
            item("sales", container("OU=Sales,DC=corp", true), None),
            item("top", container("ou=people,dc=corp", false), None),
            item("vpn", group(), None),
            item("chosen", users(&[1, 2]), None),
            item("berlin", Within::Anywhere, Some("(l=Berlin)")),
            item("all", Within::Anywhere, None),
        ]);
        let of = |dn: &str, fits: &[usize]| {
            let dn: Dn = dn.parse().expect("a DN");
            source.items(OWN, &id(9), Some(&dn), |place| fits.contains(&place))
        };
        assert_eq!(of("cn=a,ou=b,ou=SALES,dc=CORP", &[]), ["sales", "vpn", "all"]);
        assert_eq!(of("cn=a,ou=people,dc=corp", &[4]), ["top", "vpn", "berlin", "all"]);
        assert_eq!(of("cn=a,ou=b,ou=people,dc=corp", &[]), ["vpn", "all"], "one level");
        assert_eq!(of("ou=sales,dc=corp", &[]), ["vpn", "all"], "a container is not in itself");
        assert_eq!(source.items(OWN, &id(9), None, |_| false), ["vpn", "all"], "an entry whose name cannot be read");
        assert_eq!(
            source.items(OWN, &id(2), None, |_| false),
            ["vpn", "chosen", "all"],
            "named by its id, wherever it is"
        );
        assert_eq!(source.named().len(), 2);
    }

    #[test]
    fn no_more_is_read_than_the_items_hold_and_nothing_twice() {
        let bases = |items: Vec<Item>| {
            let source = source(items);
            source.bases(OWN, "dc=corp").into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let (inner, outer) = ("ou=a,ou=x,dc=corp", "ou=X,dc=corp");
        let two = || vec![item("1", container(inner, true), None), item("2", container("ou=y,dc=corp", true), None)];
        assert_eq!(bases(two()), [inner, "ou=y,dc=corp"]);
        assert_eq!(
            bases(vec![item("1", container(inner, true), None), item("2", container(outer, true), None)]),
            [outer]
        );
        assert_eq!(
            bases(vec![item("2", container(outer, true), None), item("1", container(inner, true), None)]),
            [outer]
        );
        assert_eq!(bases(vec![item("1", users(&[1]), None)]), [""; 0], "the named are read by their ids");
        assert_eq!(bases(vec![item("1", users(&[1]), None), item("2", container(outer, true), None)]), [outer]);
        for whole in [group(), Within::Anywhere] {
            let mut items = two();
            items.push(item("3", whole, None));
            assert_eq!(bases(items), ["dc=corp"]);
        }
    }

    #[test]
    fn a_container_is_of_its_own_domain_and_everything_else_concerns_all() {
        // FD-02: the name of a child domain ends in its parent's
        const CHILD: usize = 1;
        let source = source(vec![
            item("root", container("DC=corp", true), None),
            item("child", container_of(CHILD, "OU=Sales,DC=child,DC=corp", true), None),
            item("chosen", users(&[1]), None),
            item("vpn", group(), None),
        ]);
        let of = |at: usize, number: u8, dn: &str| {
            source.items(at, &id(number), Some(&dn.parse::<Dn>().expect("a DN")), |_| false)
        };
        assert_eq!(of(OWN, 9, "CN=a,OU=Sales,DC=corp"), ["root", "vpn"]);
        assert_eq!(of(CHILD, 9, "CN=a,OU=Sales,DC=child,DC=corp"), ["child", "vpn"]);
        assert_eq!(of(CHILD, 1, "CN=a,CN=Users,DC=child,DC=corp"), ["chosen", "vpn"]);
        assert!(source.may_hold(0, OWN, &id(9), "CN=a,DC=corp".parse().ok().as_ref()));
        assert!(!source.may_hold(0, CHILD, &id(9), "CN=a,DC=child,DC=corp".parse().ok().as_ref()));
    }

    #[test]
    fn of_a_domain_no_more_is_read_than_the_items_hold_there() {
        // FD-02
        const CHILD: usize = 1;
        let two = || {
            vec![
                item("root", container("OU=a,DC=corp", true), None),
                item("child", container_of(CHILD, "OU=b,DC=child,DC=corp", true), None),
            ]
        };
        let of_containers = source(two());
        assert_eq!(of_containers.bases(OWN, "DC=corp"), ["OU=a,DC=corp"]);
        assert_eq!(of_containers.bases(CHILD, "DC=child,DC=corp"), ["OU=b,DC=child,DC=corp"]);
        assert_eq!(of_containers.bases(2, "DC=other"), [""; 0], "nobody of it is of any item");
        // Members lie in all domains.
        let mut items = two();
        items.push(item("vpn", group(), None));
        assert_eq!(source(items).bases(2, "DC=other"), ["DC=other"]);
        // The name of a parent holds its child's.
        let nested = source(vec![
            item("root", container("DC=corp", true), None),
            item("child", container_of(CHILD, "OU=b,DC=child,DC=corp", true), None),
        ]);
        assert_eq!(nested.bases(CHILD, "DC=child,DC=corp"), ["OU=b,DC=child,DC=corp"]);
    }
}
