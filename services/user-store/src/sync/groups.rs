//! Groups as the sync writes them, and whose remembered logins end with what changed in them (V-52).

use super::{RunRow, raise_epochs, users};
use crate::facts::groups::DEPTH_MAX;
use crate::rpc::{StoreError, bounded};
use crate::settings::Current;
use crate::sql::{Arg, Session, args};
use domain::settings::SyncState;
use proto::user_store::SyncedGroup;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Groups belong to the item that read them first in the order of the settings, like users. Returns who came or went.
pub async fn write(
    session: &mut Session,
    run: &RunRow,
    current: &Current,
    groups: Vec<SyncedGroup>,
) -> Result<Vec<String>, StoreError> {
    let mut read: BTreeMap<String, (SyncedGroup, BTreeSet<String>, Vec<u8>)> = BTreeMap::new();
    for group in groups {
        let Ok(object_id) = group.object_id.parse::<domain::ObjectId>() else { continue };
        let members: BTreeSet<String> =
            group.member_dns.iter().map(|name| users::dn_key(&bounded(name, 2048))).collect();
        let mut digest = Sha256::new();
        for part in [&group.distinguished_name, &group.name].into_iter().chain(&members) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        read.insert(object_id.to_string(), (group, members, digest.finalize().to_vec()));
    }
    let head = "SELECT object_id, dn_key, sync_item, content FROM user_groups WHERE object_id IN";
    let ids: Vec<&str> = read.keys().map(String::as_str).collect();
    let mut known: HashMap<String, KnownGroup> = HashMap::new();
    for row in session.rows_in(head, ids, "AND directory = $257", &[Arg::from(&run.directory)]).await? {
        let (dn_key, sync_item, content) = (row.get("dn_key")?, row.get("sync_item")?, row.get("content")?);
        known.insert(row.get("object_id")?, KnownGroup { dn_key, sync_item, content });
    }
    let items = &current.settings.sync_items;
    let earlier = |item: &str| {
        let before = items.iter().take_while(|it| it.name.as_str() != run.sync_item);
        before.into_iter().any(|it| it.name.as_str() == item && it.state == SyncState::On)
    };
    let (mut rows, mut stale, mut members_rows) = (Vec::new(), Vec::new(), Vec::new());
    let mut moved: BTreeSet<(String, String)> = BTreeSet::new();
    // Rules name groups by their DN too: under another one, all in it may fall under others.
    let mut renamed: BTreeSet<&str> = BTreeSet::new();
    for (object_id, (group, members, content)) in &read {
        let before = known.get(object_id);
        if before.is_some_and(|before| earlier(&before.sync_item)) {
            continue;
        }
        let dn_key = users::dn_key(&bounded(&group.distinguished_name, 2048));
        if before.is_some_and(|before| before.dn_key != dn_key) {
            renamed.insert(object_id);
        }
        rows.push(args![
            &run.directory,
            object_id,
            bounded(&group.distinguished_name, 2048),
            dn_key,
            bounded(&group.name, 256),
            &run.sync_item,
            &run.run_id,
            content.as_slice()
        ]);
        if before.is_none_or(|before| before.content != *content) {
            stale.push(object_id.as_str());
            moved.extend(members.iter().map(|member| (object_id.clone(), member.clone())));
            members_rows.extend(members.iter().map(|member| args![&run.directory, object_id, member]));
        }
    }
    let head = "INSERT INTO user_groups (directory, object_id, distinguished_name, dn_key, name, sync_item, last_run, content)";
    let tail = "ON CONFLICT (directory, object_id) DO UPDATE SET distinguished_name = excluded.distinguished_name, \
                dn_key = excluded.dn_key, name = excluded.name, sync_item = excluded.sync_item, last_run = excluded.last_run, content = excluded.content";
    session.bulk(head, rows, tail).await?;
    let tail = "AND directory = $257";
    let directory = [Arg::from(&run.directory)];
    let head = "SELECT object_id, member_key FROM group_members WHERE object_id IN";
    for row in session.rows_in(head, stale.iter().copied(), tail, &directory).await? {
        let was: (String, String) = (row.get("object_id")?, row.get("member_key")?);
        // Here before and here now: nothing changed for this one.
        if renamed.contains(was.0.as_str()) || !moved.remove(&was) {
            moved.insert(was);
        }
    }
    session.execute_in("DELETE FROM group_members WHERE object_id IN", stale, tail, &directory).await?;
    session.bulk("INSERT INTO group_members (directory, object_id, member_key)", members_rows, "").await?;
    members_moved(session, &run.directory, moved.into_iter().map(|(_, member)| member).collect()).await
}

struct KnownGroup {
    dn_key: String,
    sync_item: String,
    content: Vec<u8>,
}

/// V-52: who is in other groups than before may fall under another policy, so nothing of theirs is remembered. A group that came
/// or went takes along who is in it, directly or not. Returns whom it was.
async fn members_moved(
    session: &mut Session,
    directory: &str,
    member_keys: BTreeSet<String>,
) -> Result<Vec<String>, StoreError> {
    let mut found = member_keys;
    let mut level = found.clone();
    // As deep as groups are followed for a decision; each once, so that circles end.
    for _ in 0..DEPTH_MAX {
        let head = "SELECT object_id, directory FROM user_groups WHERE dn_key IN";
        let mut groups: Vec<String> = Vec::new();
        for row in session.rows_in(head, level.iter().map(String::as_str), "", &[]).await? {
            if row.get::<String>("directory")? == directory {
                groups.push(row.get("object_id")?);
            }
        }
        let head = "SELECT member_key FROM group_members WHERE object_id IN";
        let tail = "AND directory = $257";
        let groups = groups.iter().map(String::as_str);
        let mut inside: BTreeSet<String> = BTreeSet::new();
        for row in session.rows_in(head, groups, tail, &[Arg::from(directory)]).await? {
            inside.insert(row.get("member_key")?);
        }
        level = inside.difference(&found).cloned().collect();
        if level.is_empty() {
            break;
        }
        found.extend(level.iter().cloned());
    }
    let head = "SELECT user_id, directory FROM users WHERE dn_key IN";
    let mut moved: Vec<String> = Vec::new();
    // The directory is compared here: with it in the condition SQLite would walk all users of the directory.
    for row in session.rows_in(head, found.iter().map(String::as_str), "", &[]).await? {
        if row.get::<String>("directory")? == directory {
            moved.push(row.get("user_id")?);
        }
    }
    raise_epochs(session, &moved.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    Ok(moved)
}

/// Takes away the groups of the item that the run did not see. Returns who was in them.
pub async fn leave(session: &mut Session, run: &RunRow) -> Result<Vec<String>, StoreError> {
    let gone = || args![&run.sync_item, &run.run_id];
    let sql = "SELECT DISTINCT m.directory AS directory, m.member_key AS member_key FROM group_members m \
               JOIN user_groups g ON g.directory = m.directory AND g.object_id = m.object_id \
               WHERE g.sync_item = $1 AND g.last_run <> $2";
    let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in session.rows(sql, gone()).await? {
        members.entry(row.get("directory")?).or_default().insert(row.get("member_key")?);
    }
    let mut moved = Vec::new();
    for (directory, member_keys) in members {
        moved.extend(members_moved(session, &directory, member_keys).await?);
    }
    session.execute("DELETE FROM user_groups WHERE sync_item = $1 AND last_run <> $2", gone()).await?;
    Ok(moved)
}
