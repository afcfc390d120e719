//! Who has a problem of synchronisation that a person has to solve: a username that two entries of a directory have (FS-14).
//!
//! Nothing is kept for it. Whoever would have a name that another has waits for it among what is pending, until a run reads the entry
//! under another name or finds it gone.

use super::pending::OF_NAME;
use crate::rpc::StoreError;
use crate::sql::{Row, Session};
use std::collections::{BTreeSet, HashMap};

/// A user `u` whose name somebody waits for, or who waits for another. Lists that are made once, not for each user.
pub const HAS_ONE: &str = "(u.state || '' <> 'removed' AND ( \
    (u.directory, u.username_key) IN (SELECT directory, substr(kind, 6) FROM sync_pending WHERE kind LIKE 'name:%') OR \
    (u.directory, u.object_id) IN (SELECT directory, value FROM sync_pending WHERE kind LIKE 'name:%')))";

/// What is wrong with these users, in a sentence each, by their ids; whoever is not there has no problem.
pub async fn of(session: &mut Session, users: &[Row]) -> Result<HashMap<String, String>, StoreError> {
    let (mut kinds, mut ids, mut people) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for row in users {
        let (directory, object_id): (String, String) = (row.get("directory")?, row.get("object_id")?);
        if directory.is_empty() || row.get::<String>("state")? == "removed" {
            continue;
        }
        let kind = format!("{OF_NAME}{}", row.get::<String>("username_key")?);
        kinds.insert(kind.clone());
        ids.insert(object_id.clone());
        people.push((row.get::<String>("user_id")?, directory, kind, object_id));
    }
    let head = "SELECT directory, kind, value FROM sync_pending WHERE";
    let named = session.rows_in(&format!("{head} kind IN"), kinds.iter().map(String::as_str), "", &[]).await?;
    let tail = "AND kind LIKE 'name:%'";
    let waiting = session.rows_in(&format!("{head} value IN"), ids.iter().map(String::as_str), tail, &[]).await?;
    let (mut others, mut wanted) = (HashMap::new(), HashMap::new());
    for row in named {
        others.insert((row.get::<String>("directory")?, row.get::<String>("kind")?), row.get::<String>("value")?);
    }
    for row in waiting {
        wanted.insert((row.get::<String>("directory")?, row.get::<String>("value")?), row.get::<String>("kind")?);
    }
    let problem = |(user_id, directory, kind, object_id): (String, String, String, String)| {
        let other = others.get(&(directory.clone(), kind)).map(|other| keeps(other));
        let text = other.or_else(|| wanted.get(&(directory, object_id)).map(|kind| waits(kind)))?;
        Some((user_id, text))
    };
    Ok(people.into_iter().filter_map(problem).collect())
}

fn keeps(other: &str) -> String {
    format!("another entry of the directory, {other}, has this username, too, and is not taken")
}

fn waits(kind: &str) -> String {
    let name = kind.strip_prefix(OF_NAME).unwrap_or_default();
    format!("the directory calls this user {name}, as it does somebody else, so the user stays as they were")
}
