//! The groups that users are in, directly or through other groups.

use crate::rpc::StoreError;
use crate::sql::Session;
use std::collections::HashMap;

/// Names and ids of groups kept at most: beyond, the user is in too many for a decision to name.
const GROUPS_MAX: usize = 8192;
/// Groups in groups that are followed.
pub const DEPTH_MAX: u32 = 32;

/// Object ids and folded names, by the name of the member. Groups that hold each other in a circle are each found once.
pub async fn of<'a>(
    session: &mut Session,
    directory: &str,
    dn_keys: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<String, Vec<String>>, StoreError> {
    let head = "WITH RECURSIVE inside (member, object_id, dn_key, depth) AS ( \
                SELECT m.member_key, g.object_id, g.dn_key, 1 FROM group_members m \
                JOIN user_groups g ON g.directory = m.directory AND g.object_id = m.object_id \
                WHERE m.directory = $1 AND m.member_key IN";
    let tail = format!(
        "UNION SELECT i.member, g.object_id, g.dn_key, i.depth + 1 FROM inside i \
         JOIN group_members m ON m.member_key = i.dn_key AND m.directory = $1 \
         JOIN user_groups g ON g.directory = m.directory AND g.object_id = m.object_id WHERE i.depth < {DEPTH_MAX}) \
         SELECT DISTINCT member, object_id, dn_key FROM inside ORDER BY object_id"
    );
    let mut groups: HashMap<String, Vec<String>> = HashMap::new();
    for row in session.rows_beside(head, directory, dn_keys, &tail).await? {
        let of_member = groups.entry(row.get("member")?).or_default();
        if of_member.len() >= GROUPS_MAX {
            continue;
        }
        of_member.push(row.get("object_id")?);
        let dn_key: String = row.get("dn_key")?;
        // Empty: read by an earlier version, and not again since.
        if !dn_key.is_empty() {
            of_member.push(dn_key);
        }
    }
    Ok(groups)
}
