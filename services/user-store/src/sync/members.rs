//! Who is in which groups, as far as items and exemptions ask, and whose a user is (FS-08, S-52).
//!
//! Members are known by any of three keys: object id, SID, folded DN. The primary group names itself in the user by its SID.
//! From the users of a batch the groups above them are read level by level, each once, so that circles end.

use super::run::Run;
use crate::facts::groups::DEPTH_MAX;
use crate::rpc::StoreError;
use crate::sql::{Arg, Row, Session};
use crate::users::name_key;
use domain::ObjectId;
use domain::settings::{PolicyRule, SourceKind, SyncItem};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How a key names its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    ObjectId,
    Sid,
    Dn,
}

/// How a DN is compared; text that is none is compared as it stands.
pub fn dn_key(name: &str) -> String {
    match name.parse::<ldap_wire::Dn>() {
        Ok(dn) => dn.key().as_str().to_owned(),
        Err(_) => name_key(name),
    }
}

/// Before a login name that stands in the place of a SID, in directories whose groups name their members so (RFC 2307 section 2.2
/// `memberUid`; S-36).
const OF_UID: &str = "uid:";

/// How a SID, or the login name in its place, is compared; empty if it is neither.
pub fn sid_key(text: &str) -> String {
    if let Some(uid) = text.strip_prefix(OF_UID).map(name_key) {
        return if uid.is_empty() { uid } else { format!("{OF_UID}{uid}") };
    }
    let text = text.trim().to_ascii_uppercase();
    let good = text.len() <= 192
        && text
            .strip_prefix("S-")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|sign| sign.is_ascii_digit() || sign == b'-'));
    if good { text } else { String::new() }
}

/// The key of a member in whatever form it is named.
pub fn member_key(name: &str) -> String {
    if let Ok(object_id) = name.parse::<ObjectId>() {
        return object_id.to_string();
    }
    match sid_key(name) {
        sid if sid.is_empty() => dn_key(name),
        sid => sid,
    }
}

/// What form a key has.
pub fn form(key: &str) -> Form {
    if key.parse::<ObjectId>().is_ok() {
        return Form::ObjectId;
    }
    match sid_key(key).is_empty() {
        true => Form::Dn,
        false => Form::Sid,
    }
}

/// Somebody who may be in groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    pub object_id: String,
    pub dn_key: String,
    pub sid: String,
    pub primary_group: String,
}

impl Person {
    /// What groups may call them.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        [&self.object_id, &self.dn_key, &self.sid].into_iter().map(String::as_str).filter(|key| !key.is_empty())
    }
}

/// A group by its names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub object_id: String,
    pub dn_key: String,
    pub sid: String,
}

impl Group {
    pub fn of(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self { object_id: row.get("object_id")?, dn_key: row.get("dn_key")?, sid: row.get("sid")? })
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        [&self.object_id, &self.dn_key, &self.sid].into_iter().map(String::as_str).filter(|key| !key.is_empty())
    }

    /// Is it the source of this item (FS-21)? The id goes before the name.
    fn is_source_of(&self, item: &SyncItem) -> bool {
        match &item.source.id {
            Some(id) => id.to_string() == self.object_id,
            None => dn_key(&item.source.dn) == self.dn_key,
        }
    }

    /// Do the rules let its members in without a second factor (FS-35, S-46)?
    pub fn exempts(&self, policies: &[PolicyRule]) -> bool {
        let names = |name: &String| *name == self.object_id || dn_key(name) == self.dn_key;
        policies.iter().any(|rule| rule.then.exempt && rule.when.groups.iter().any(names))
    }
}

/// `key` is of one of those that lie too deep.
pub fn too_deep(key: &str) -> String {
    format!("groups lie in groups more than {DEPTH_MAX} deep; one of them is {key}")
}

/// Groups above some people, each once.
#[derive(Debug, Default)]
pub struct Graph {
    groups: Vec<Group>,
    by_id: HashMap<String, usize>,
    by_sid: HashMap<String, usize>,
    /// By member key, the groups that name it.
    holders: HashMap<String, BTreeSet<usize>>,
    /// There are groups above those that are followed, such as this one (FD-16).
    deeper: Option<String>,
}

impl Graph {
    /// Reads what is above these people.
    pub async fn above<'a>(
        session: &mut Session,
        groups_of: &str,
        people: impl Iterator<Item = &'a Person> + Clone,
    ) -> Result<Self, StoreError> {
        let mut graph = Self::default();
        let primaries: BTreeSet<&str> =
            people.clone().map(|it| it.primary_group.as_str()).filter(|sid| !sid.is_empty()).collect();
        let head = "SELECT directory, object_id, dn_key, sid FROM user_groups WHERE sid <> '' AND sid IN";
        let mut level = BTreeSet::new();
        // The directory is compared here: with it in the condition SQLite would walk all groups of the directory.
        for row in session.rows_in(head, primaries, "", &[]).await? {
            if row.get::<String>("directory")? == groups_of {
                level.extend(graph.add(Group::of(&row)?).1);
            }
        }
        level.extend(people.flat_map(Person::keys).map(str::to_owned));
        graph.climb(session, groups_of, level).await?;
        Ok(graph)
    }

    /// Reads what is above these groups, and puts them in.
    pub async fn over(
        session: &mut Session,
        groups_of: &str,
        groups: impl IntoIterator<Item = Group>,
    ) -> Result<Self, StoreError> {
        let mut graph = Self::default();
        let level = groups.into_iter().flat_map(|group| graph.add(group).1).collect();
        graph.climb(session, groups_of, level).await?;
        Ok(graph)
    }

    async fn climb(
        &mut self,
        session: &mut Session,
        groups_of: &str,
        mut level: BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let mut asked: HashSet<String> = HashSet::new();
        for _ in 0..DEPTH_MAX {
            level.retain(|key| asked.insert(key.clone()));
            if level.is_empty() {
                return Ok(());
            }
            level = self.climb_once(session, groups_of, &level).await?;
        }
        level.retain(|key| asked.insert(key.clone()));
        let above = self.climb_once(session, groups_of, &level).await?;
        self.deeper = self.deeper.take().or(above.into_iter().next());
        Ok(())
    }

    /// Notes with the run where groups in groups go deeper than they are followed: then nothing is known for certain.
    pub async fn tell(&self, session: &mut Session, run: &Run) -> Result<(), StoreError> {
        match &self.deeper {
            Some(key) => run.is_incomplete(session, &too_deep(key)).await,
            None => Ok(()),
        }
    }

    /// The groups that name these keys. Returns the keys of those that are new. Two statements, one a table: of a join a database
    /// that has not counted its rows begins at the wrong end.
    async fn climb_once(
        &mut self,
        session: &mut Session,
        groups_of: &str,
        level: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, StoreError> {
        let mut named: Vec<(String, String)> = Vec::new();
        let head = "SELECT directory, object_id, member_key FROM group_members WHERE member_key IN";
        for row in session.rows_in(head, level.iter().map(String::as_str), "", &[]).await? {
            // The directory is compared here: with it in the condition SQLite would walk all members of the directory.
            if row.get::<String>("directory")? == groups_of {
                named.push((row.get("object_id")?, row.get("member_key")?));
            }
        }
        let unknown: BTreeSet<&str> =
            named.iter().map(|(id, _)| id.as_str()).filter(|id| !self.by_id.contains_key(*id)).collect();
        let head = "SELECT object_id, dn_key, sid FROM user_groups WHERE object_id IN";
        let mut next = BTreeSet::new();
        for row in session.rows_in(head, unknown, "AND directory = $257", &[Arg::from(groups_of)]).await? {
            next.extend(self.add(Group::of(&row)?).1);
        }
        for (object_id, key) in named {
            if let Some(place) = self.by_id.get(&object_id) {
                self.holders.entry(key).or_default().insert(*place);
            }
        }
        Ok(next)
    }

    /// Its place, and its keys if it is new.
    fn add(&mut self, group: Group) -> (usize, Vec<String>) {
        if let Some(place) = self.by_id.get(&group.object_id) {
            return (*place, Vec::new());
        }
        let place = self.groups.len();
        let keys = group.keys().map(str::to_owned).collect();
        self.by_id.insert(group.object_id.clone(), place);
        if !group.sid.is_empty() {
            self.by_sid.insert(group.sid.clone(), place);
        }
        self.groups.push(group);
        (place, keys)
    }

    /// The groups that name this person, or that the person names as primary.
    fn direct(&self, person: &Person) -> BTreeSet<usize> {
        let named = person.keys().filter_map(|key| self.holders.get(key)).flatten().copied();
        named.chain(self.by_sid.get(&person.primary_group).copied()).collect()
    }

    /// These groups and all above them.
    fn closure(&self, direct: &BTreeSet<usize>) -> BTreeSet<usize> {
        let mut found = direct.clone();
        let mut level: Vec<usize> = direct.iter().copied().collect();
        for _ in 1..DEPTH_MAX {
            let mut next = Vec::new();
            for place in level {
                let above = self.groups[place].keys().filter_map(|key| self.holders.get(key)).flatten();
                next.extend(above.copied().filter(|place| found.insert(*place)));
            }
            if next.is_empty() {
                break;
            }
            level = next;
        }
        found
    }

    /// Does a change of this group's members concern the item?
    pub fn concerns(&self, group: &Group, item: &SyncItem) -> bool {
        let Some(place) = self.by_id.get(&group.object_id) else { return false };
        if item.source.kind != SourceKind::Group {
            return false;
        }
        if !item.source.nested {
            return group.is_source_of(item);
        }
        self.closure(&BTreeSet::from([*place])).iter().any(|place| self.groups[*place].is_source_of(item))
    }

    /// Does this hold of the group, or of one that it is in?
    pub fn is_in(&self, group: &Group, holds: impl Fn(&Group) -> bool) -> bool {
        let place = self.by_id.get(&group.object_id).copied();
        self.closure(&place.into_iter().collect()).into_iter().any(|place| holds(&self.groups[place]))
    }

    /// The groups of a group's members that exempt.
    pub fn exempting_over(&self, group: &Group, policies: &[PolicyRule]) -> BTreeSet<String> {
        let place = self.by_id.get(&group.object_id).copied();
        self.exempting(&place.into_iter().collect(), policies)
    }

    /// The groups of a person that exempt.
    pub fn exempting_of(&self, person: &Person, policies: &[PolicyRule]) -> BTreeSet<String> {
        self.exempting(&self.direct(person), policies)
    }

    fn exempting(&self, direct: &BTreeSet<usize>, policies: &[PolicyRule]) -> BTreeSet<String> {
        if !policies.iter().any(|rule| rule.then.exempt && !rule.when.groups.is_empty()) {
            return BTreeSet::new();
        }
        let above = self.closure(direct).into_iter().map(|place| &self.groups[place]);
        above.filter(|group| group.exempts(policies)).map(|group| group.object_id.clone()).collect()
    }

    fn is_member(&self, person: &Person, item: &SyncItem) -> bool {
        let direct = self.direct(person);
        let groups = if item.source.nested { self.closure(&direct) } else { direct };
        groups.iter().any(|place| self.groups[*place].is_source_of(item))
    }
}

/// Whose a person is: the first candidate that holds (FS-08). That a container or a domain holds them, or names them, was seen where
/// they were read.
pub fn owner<'a>(
    items: &[&'a SyncItem],
    candidates: &[String],
    person: &Person,
    graph: &Graph,
) -> Option<&'a SyncItem> {
    let named = items.iter().filter(|item| candidates.iter().any(|name| name == item.name.as_str()));
    named.copied().find(|item| match item.source.kind {
        SourceKind::Domain | SourceKind::Container | SourceKind::Users => true,
        SourceKind::Group => graph.is_member(person, item),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str) -> Person {
        Person { object_id: format!("id {name}"), dn_key: format!("uid={name}"), ..Person::default() }
    }

    fn graph(groups: &[(&str, &[&str])]) -> Graph {
        let mut graph = Graph::default();
        for (name, members) in groups {
            let group = Group { object_id: format!("id {name}"), dn_key: format!("cn={name}"), sid: String::new() };
            let (place, _) = graph.add(group);
            for member in *members {
                graph.holders.entry((*member).to_owned()).or_default().insert(place);
            }
        }
        graph
    }

    fn items(text: &str) -> Vec<SyncItem> {
        #[derive(serde::Deserialize)]
        struct Items {
            sync_item: Vec<SyncItem>,
        }
        let mut document = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (name, source) = line.split_once(' ').expect("a name and a source");
            document += &format!("[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nsource = {{ {source} }}\n");
        }
        toml::from_str::<Items>(&document).expect("valid").sync_item
    }

    fn owned(items: &[SyncItem], candidates: &[&str], person: &Person, graph: &Graph) -> Option<String> {
        let items: Vec<&SyncItem> = items.iter().collect();
        let candidates: Vec<String> = candidates.iter().map(|name| (*name).to_owned()).collect();
        owner(&items, &candidates, person, graph).map(|item| item.name.to_string())
    }

    #[test]
    fn the_first_item_that_holds_a_user_owns_them() {
        // FS-08
        let items = items(
            "direct kind = \"group\", dn = \"cn=outer\", nested = false
             group kind = \"group\", dn = \"CN=Outer\"
             all kind = \"domain\"",
        );
        let graph = graph(&[("outer", &["cn=inner", "uid=bob"]), ("inner", &["uid=ann", "cn=outer", "cn=inner"])]);
        let all = ["direct", "group", "all"];
        assert_eq!(owned(&items, &all, &person("bob"), &graph).as_deref(), Some("direct"));
        assert_eq!(owned(&items, &all, &person("ann"), &graph).as_deref(), Some("group"), "nested");
        assert_eq!(owned(&items, &all, &person("eve"), &graph).as_deref(), Some("all"));
        assert_eq!(
            owned(&items, &["all", "direct"], &person("bob"), &graph).as_deref(),
            Some("direct"),
            "by the settings"
        );
        assert_eq!(owned(&items, &["group"], &person("eve"), &graph), None);
        assert_eq!(owned(&items, &["gone"], &person("bob"), &graph), None, "an item of before");
    }

    #[test]
    fn circles_end_and_a_primary_group_counts() {
        // S-52, B-74
        let items = items("group kind = \"group\", dn = \"cn=a\"");
        let mut graph = graph(&[("a", &["cn=b", "cn=a"]), ("b", &["cn=c"]), ("c", &["cn=a", "S-1-5-9"])]);
        graph.groups[2].sid = "S-1-5-21-513".into();
        graph.by_sid.insert("S-1-5-21-513".into(), 2);
        let by_primary = Person { primary_group: "S-1-5-21-513".into(), ..person("ann") };
        let by_sid = Person { sid: "S-1-5-9".into(), ..person("bob") };
        for person in [&by_primary, &by_sid] {
            assert_eq!(owned(&items, &["group"], person, &graph).as_deref(), Some("group"));
        }
        assert_eq!(owned(&items, &["group"], &person("eve"), &graph), None);
    }

    #[test]
    fn a_member_has_one_key_however_it_is_named() {
        let id = "objectGUID:0A0B0C0D-0000-0000-0000-000000000001";
        for (name, key, expected) in [
            (id, id.replace("0A0B0C0D", "0a0b0c0d"), Form::ObjectId),
            ("s-1-5-21-7", "S-1-5-21-7".into(), Form::Sid),
            ("CN=Ann,  DC=corp", "cn=ann,dc=corp".into(), Form::Dn),
            ("S-1-x", "s-1-x".into(), Form::Dn),
            ("uid:Ann", "uid:ann".into(), Form::Sid),
            ("uid: ", "uid:".into(), Form::Dn),
        ] {
            assert_eq!(member_key(name), key);
            assert_eq!(form(&key), expected, "{name}");
        }
    }
}
