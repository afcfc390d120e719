//! Containers: where they stood, so that a move of one is noticed. What lies below a container that moved moved with it, and no
//! feed says so of each (S-16): it is read again.

use super::members::dn_key;
use super::pending;
use super::run::{Mode, Run};
use crate::rpc::{StoreError, bounded};
use crate::sql::{Arg, Session, args};
use domain::ObjectId;
use proto::user_store::SyncedContainer;
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub async fn write(session: &mut Session, run: &Run, containers: Vec<SyncedContainer>) -> Result<(), StoreError> {
    let mut read: BTreeMap<String, String> = BTreeMap::new();
    for container in containers {
        if let Ok(object_id) = container.object_id.parse::<ObjectId>() {
            read.insert(object_id.to_string(), bounded(&container.distinguished_name, 2048));
        }
    }
    let mut known: HashMap<String, String> = HashMap::new();
    let head = "SELECT object_id, dn_key FROM sync_containers WHERE object_id IN";
    let ids = read.keys().map(String::as_str);
    for row in session.rows_in(head, ids, "AND directory = $257", &[Arg::from(&run.directory)]).await? {
        known.insert(row.get("object_id")?, row.get("dn_key")?);
    }
    let (mut rows, mut moved) = (Vec::new(), Vec::new());
    for (object_id, name) in read {
        let key = dn_key(&name);
        match known.get(&object_id) {
            Some(before) if *before == key => continue,
            // One that was not known may have come from elsewhere with all it holds; a full run reads that anyway.
            None if run.mode != Mode::Incremental => {}
            Some(_) | None => moved.push(name.clone()),
        }
        rows.push(args![&run.directory, object_id, name, key]);
    }
    let head = "INSERT INTO sync_containers (directory, object_id, distinguished_name, dn_key)";
    let tail = "ON CONFLICT (directory, object_id) DO UPDATE SET distinguished_name = excluded.distinguished_name, \
                dn_key = excluded.dn_key";
    session.bulk(head, rows, tail).await?;
    pending::add_below(session, run, &moved).await
}

/// Those that are gone are compared with nothing any longer. What lay below one that went out of sight went with it, and no feed
/// says so of each: it is looked for by its id.
pub async fn gone(session: &mut Session, run: &Run, object_ids: &[&str]) -> Result<(), StoreError> {
    let (tail, directory) = ("AND directory = $257", [Arg::from(&run.directory)]);
    if run.mode == Mode::Incremental {
        let head = "SELECT dn_key FROM sync_containers WHERE object_id IN";
        let mut below: BTreeSet<String> = BTreeSet::new();
        for row in session.rows_in(head, object_ids.iter().copied(), tail, &directory).await? {
            let pattern = below_pattern(&row.get::<String>("dn_key")?);
            for sql in [
                "SELECT object_id FROM users WHERE directory = $1 AND state <> 'removed' AND dn_key LIKE $2 ESCAPE '!'",
                "SELECT object_id FROM user_groups WHERE directory = $1 AND dn_key LIKE $2 ESCAPE '!'",
            ] {
                for row in session.rows(sql, args![&run.directory, &pattern]).await? {
                    below.insert(row.get("object_id")?);
                }
            }
        }
        pending::add(session, run, below.iter().map(String::as_str)).await?;
    }
    let head = "DELETE FROM sync_containers WHERE object_id IN";
    session.execute_in(head, object_ids.iter().copied(), tail, &directory).await?;
    Ok(())
}

/// Names below this one.
fn below_pattern(dn_key: &str) -> String {
    let mut pattern = "%,".to_owned();
    for sign in dn_key.chars() {
        if matches!(sign, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(sign);
    }
    pattern
}
