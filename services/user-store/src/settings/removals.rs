//! Sync items that a document does not have any longer (FS-10): whose users go where. Only who types its name removes one.

use crate::rpc::StoreError;
use crate::sql::{Session, args};
use domain::settings::{Settings, SyncItem, SyncState};
use proto::user_store::{ItemCount, RemovedItem};
use std::collections::BTreeMap;

/// In the order of the settings in force.
pub async fn removed(session: &mut Session, now: &Settings, next: &Settings) -> Result<Vec<RemovedItem>, StoreError> {
    let is_left = |item: &SyncItem| next.sync_items.iter().any(|left| left.name == item.name);
    let mut removed = Vec::new();
    for item in now.sync_items.iter().filter(|item| !is_left(item)) {
        // One row for all users who fall under the same items: at most as many as there are ways to fall under items.
        let sql =
            "SELECT items, COUNT(*) AS users FROM users WHERE sync_item = $1 AND state <> 'removed' GROUP BY items";
        let mut sets = Vec::new();
        for row in session.rows(sql, args![item.name.as_str()]).await? {
            sets.push((row.get::<String>("items")?, row.unsigned("users")?));
        }
        removed.push(of(item, next, &sets));
    }
    Ok(removed)
}

/// What is wrong with a document that loses these, of which only some are named; and what is named and not lost.
pub fn unconfirmed(removed: &[RemovedItem], confirmed: &[String]) -> Vec<String> {
    let missing = removed.iter().filter(|item| !confirmed.contains(&item.sync_item)).map(|item| {
        format!(
            "sync_item.{name}: {}; if that is meant, confirm it by its name (--remove-item {name})",
            item.text,
            name = item.sync_item
        )
    });
    let stray = confirmed.iter().filter(|name| !removed.iter().any(|item| item.sync_item == **name));
    let stray = stray.map(|name| format!("--remove-item {name:?}: the document loses no sync item of this name"));
    missing.chain(stray).collect()
}

/// `sets`: the items that users of this one fall under, comma separated, and how many do.
fn of(item: &SyncItem, next: &Settings, sets: &[(String, u64)]) -> RemovedItem {
    let mut heirs: BTreeMap<usize, u64> = BTreeMap::new();
    let (mut users, mut leave) = (0, 0);
    for (items, count) in sets {
        users += count;
        let falls_under = |heir: &SyncItem| items.split(',').any(|name| name == heir.name.as_str());
        let heir = next
            .sync_items
            .iter()
            .position(|heir| heir.state == SyncState::On && heir.directory == item.directory && falls_under(heir));
        match heir {
            Some(place) => *heirs.entry(place).or_default() += count,
            None => leave += count,
        }
    }
    let heirs: Vec<ItemCount> = heirs
        .into_iter()
        .filter_map(|(place, users)| Some(ItemCount { sync_item: next.sync_items.get(place)?.name.to_string(), users }))
        .collect();
    let mut removed = RemovedItem { sync_item: item.name.to_string(), users, heirs, leave, ..RemovedItem::default() };
    removed.text = sentence(&removed);
    removed
}

fn sentence(removed: &RemovedItem) -> String {
    let number = |users: u64| if users == 1 { "1 user".to_owned() } else { format!("{users} users") };
    if removed.users == 0 {
        return "is removed; it has no users".to_owned();
    }
    let heirs = removed.heirs.iter().map(|heir| format!("{} would go to {}", heir.users, heir.sync_item));
    let leave = (removed.leave > 0).then(|| format!("{} would leave, being of no other item", removed.leave));
    let parts: Vec<String> = heirs.chain(leave).collect();
    format!("is removed, and has {}: at the next run {}", number(removed.users), parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(items: &[(&str, &str, &str)]) -> Settings {
        let item = |(name, directory, state): &(&str, &str, &str)| {
            format!(
                "[[sync_item]]\nname = \"{name}\"\ndirectory = \"{directory}\"\nstate = \"{state}\"\nsource = {{ kind = \"domain\" }}\n"
            )
        };
        toml::from_str(&items.iter().map(item).collect::<String>()).expect("a document")
    }

    #[test]
    fn users_go_to_the_next_item_that_is_on_and_has_them_and_the_others_leave() {
        // FS-10
        let now = settings(&[("staff", "corp", "on")]);
        let next =
            settings(&[("far", "other", "on"), ("old", "corp", "off"), ("sales", "corp", "on"), ("all", "corp", "on")]);
        let sets = [
            ("staff,all".to_owned(), 7),
            ("staff,sales,all".to_owned(), 2),
            ("staff".to_owned(), 3),
            ("staff,old,far".to_owned(), 1),
        ];
        let found = of(&now.sync_items[0], &next, &sets);
        let heirs: Vec<_> = found.heirs.iter().map(|heir| (heir.sync_item.as_str(), heir.users)).collect();
        assert_eq!((found.users, heirs, found.leave), (13, vec![("sales", 2), ("all", 7)], 4));
        assert_eq!(
            found.text,
            "is removed, and has 13 users: at the next run 2 would go to sales, 7 would go to all, 4 would leave, being of no other item"
        );
        assert_eq!(of(&now.sync_items[0], &next, &[]).text, "is removed; it has no users");
    }

    #[test]
    fn an_item_is_removed_by_its_name_and_by_no_other() {
        let lost = [RemovedItem { sync_item: "staff".into(), text: "is removed".into(), ..RemovedItem::default() }];
        assert_eq!(unconfirmed(&lost, &["staff".into()]), [""; 0]);
        assert_eq!(unconfirmed(&lost, &[]).len(), 1);
        assert_eq!(unconfirmed(&lost, &["Staff".into()]).len(), 2, "the right one is missing, and this is none");
        assert_eq!(unconfirmed(&[], &["staff".into()]).len(), 1);
    }
}
