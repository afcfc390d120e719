//! The groups a user is in, directly or through other groups.

use crate::rpc::StoreError;
use crate::sql::{Session, args};

/// Groups read at most: beyond, the user is in too many for a decision to name.
const GROUPS_MAX: i64 = 4096;
/// Groups in groups that are followed.
pub const DEPTH_MAX: u32 = 32;

/// Object ids and folded names. Groups that hold each other in a circle are each found once.
pub async fn of(session: &mut Session, directory: &str, dn_key: &str) -> Result<Vec<String>, StoreError> {
    let sql = "WITH RECURSIVE inside (object_id, dn_key, depth) AS ( \
               SELECT g.object_id, g.dn_key, 1 FROM group_members m \
               JOIN user_groups g ON g.directory = m.directory AND g.object_id = m.object_id \
               WHERE m.member_key = $1 AND m.directory = $2 \
               UNION SELECT g.object_id, g.dn_key, i.depth + 1 FROM inside i \
               JOIN group_members m ON m.member_key = i.dn_key AND m.directory = $2 \
               JOIN user_groups g ON g.directory = m.directory AND g.object_id = m.object_id WHERE i.depth < $4) \
               SELECT DISTINCT object_id, dn_key FROM inside ORDER BY object_id LIMIT $3";
    let mut groups = Vec::new();
    for row in session.rows(sql, args![dn_key, directory, GROUPS_MAX, DEPTH_MAX]).await? {
        groups.push(row.get("object_id")?);
        let dn_key: String = row.get("dn_key")?;
        // Empty: read by an earlier version, and not again since.
        if !dn_key.is_empty() {
            groups.push(dn_key);
        }
    }
    Ok(groups)
}
