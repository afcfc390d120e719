//! The groups that users are in, directly or through other groups.

use crate::rpc::StoreError;
use crate::sql::{Row, Session};
use std::collections::{BTreeSet, HashMap};

/// Names and ids of groups kept at most: beyond, the user is in too many for a decision to name.
const GROUPS_MAX: usize = 8192;
/// Groups in groups that are followed.
pub const DEPTH_MAX: u32 = 32;

/// Somebody, by all that groups may call them, and the primary group, which no group lists (S-52).
pub struct Member {
    pub object_id: String,
    pub dn_key: String,
    pub sid: String,
    pub primary_group: String,
    /// Ids of groups that do not count for them yet, comma separated (S-46).
    pub waits: String,
}

impl Member {
    pub fn of(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            object_id: row.get("object_id")?,
            dn_key: row.get("dn_key")?,
            sid: row.get("sid")?,
            primary_group: row.get("primary_group")?,
            waits: row.get("exempt_wait")?,
        })
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        [&self.object_id, &self.dn_key, &self.sid].into_iter().map(String::as_str).filter(|key| !key.is_empty())
    }
}

/// A group by its names.
#[derive(Clone)]
struct Group {
    object_id: String,
    dn_key: String,
    sid: String,
}

/// Object ids, folded names and SIDs, for each of the members. Groups that hold each other in a circle are each found once.
pub async fn of(session: &mut Session, directory: &str, members: &[&Member]) -> Result<Vec<Vec<String>>, StoreError> {
    let primary = primary(session, directory, members).await?;
    let keys: BTreeSet<&str> = members.iter().flat_map(|member| member.keys()).collect();
    let keys = keys.into_iter().chain(primary.values().flat_map(|(_, keys)| keys).map(String::as_str));
    let above = above(session, directory, keys).await?;
    let groups_of = |member: &&Member| {
        let primary = primary.get(&member.primary_group);
        let keys = member.keys().chain(primary.into_iter().flat_map(|(_, keys)| keys).map(String::as_str));
        let named = keys.filter_map(|key| above.get(key)).flatten();
        let mut groups: Vec<String> = Vec::new();
        let mut met = BTreeSet::new();
        for group in primary.map(|(group, _)| group).into_iter().chain(named) {
            let waits = member.waits.split(',').any(|id| id == group.object_id);
            if waits || groups.len() >= GROUPS_MAX || !met.insert(&group.object_id) {
                continue;
            }
            groups.push(group.object_id.clone());
            // A name that is empty was read by an earlier version, and not again since; SIDs are Windows'.
            groups.extend([&group.dn_key, &group.sid].into_iter().filter(|key| !key.is_empty()).cloned());
        }
        groups
    };
    Ok(members.iter().map(groups_of).collect())
}

/// Primary groups by their SID, with what other groups may call them.
async fn primary(
    session: &mut Session,
    directory: &str,
    members: &[&Member],
) -> Result<HashMap<String, (Group, Vec<String>)>, StoreError> {
    let sids: BTreeSet<&str> =
        members.iter().map(|member| member.primary_group.as_str()).filter(|sid| !sid.is_empty()).collect();
    let mut found = HashMap::new();
    let head = "SELECT directory, object_id, dn_key, sid FROM user_groups WHERE sid <> '' AND sid IN";
    for row in session.rows_in(head, sids, "", &[]).await? {
        // The directory is compared here: with it in the condition SQLite would walk all groups of the directory.
        if row.get::<String>("directory")? == directory {
            let sid: String = row.get("sid")?;
            let group = Group { object_id: row.get("object_id")?, dn_key: row.get("dn_key")?, sid: sid.clone() };
            let keys = [group.object_id.clone(), group.dn_key.clone(), sid.clone()];
            found.insert(sid, (group, keys.into_iter().filter(|key| !key.is_empty()).collect()));
        }
    }
    Ok(found)
}

/// By key, the groups above.
async fn above(
    session: &mut Session,
    directory: &str,
    keys: impl Iterator<Item = &str>,
) -> Result<HashMap<String, Vec<Group>>, StoreError> {
    // A row for each of a group's names, so that each is looked for by itself: an index leads to it on both databases. The directory
    // stands as an expression: SQLite would go by it, and through all members of all groups.
    let head = "WITH RECURSIVE names (n) AS (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3), \
                inside (member, object_id, dn_key, sid, name, depth) AS ( \
                SELECT m.member_key, g.object_id, g.dn_key, g.sid, \
                CASE names.n WHEN 1 THEN g.dn_key WHEN 2 THEN g.object_id ELSE g.sid END, 1 FROM group_members m \
                JOIN user_groups g ON g.directory = m.directory AND g.object_id = m.object_id CROSS JOIN names \
                WHERE m.directory || '' = $1 AND m.member_key IN";
    let tail = format!(
        "UNION SELECT i.member, g.object_id, g.dn_key, g.sid, \
         CASE names.n WHEN 1 THEN g.dn_key WHEN 2 THEN g.object_id ELSE g.sid END, i.depth + 1 FROM inside i \
         JOIN group_members m ON m.member_key = i.name AND m.directory || '' = $1 \
         JOIN user_groups g ON g.directory = m.directory AND g.object_id = m.object_id CROSS JOIN names \
         WHERE i.depth < {DEPTH_MAX}) SELECT DISTINCT member, object_id, dn_key, sid FROM inside ORDER BY object_id"
    );
    let mut groups: HashMap<String, Vec<Group>> = HashMap::new();
    for row in session.rows_beside(head, directory, keys, &tail).await? {
        let group = Group { object_id: row.get("object_id")?, dn_key: row.get("dn_key")?, sid: row.get("sid")? };
        groups.entry(row.get("member")?).or_default().push(group);
    }
    Ok(groups)
}
