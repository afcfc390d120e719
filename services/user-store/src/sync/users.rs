//! Which of the users of a batch are added, changed, or not taken, and why. Pure: rows as they stand in, rows as they shall
//! be out.

use crate::rpc::bounded;
use crate::users::{by_machine, name_key};
use domain::ObjectId;
use domain::settings::{Settings, SyncState};
use proto::user_store::SyncedUser;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Name forms kept of a user.
const NAMES_MAX: usize = 32;

/// A user as the store has it.
#[derive(Clone, Default)]
pub struct Known {
    pub user_id: String,
    pub object_id: String,
    pub username: String,
    pub username_key: String,
    pub dn_key: String,
    pub mail: String,
    pub phone: String,
    /// Goes before `phone`.
    pub own_phone: String,
    pub state: String,
    pub state_by: String,
    pub state_text: String,
    pub sync_item: String,
    pub first_run: String,
    pub last_run: String,
    pub content: Vec<u8>,
    /// As the directory wrote it; empty = never read, [`UNSAID`] = it did not say.
    pub password_changed: String,
}

/// Kept of a directory that does not say when a password was changed: if it does one day, that is news.
pub const UNSAID: &str = "-";

/// The run a batch belongs to.
pub struct Run<'a> {
    pub run_id: &'a str,
    pub sync_item: &'a str,
    pub settings: &'a Settings,
}

/// A user as the row shall be.
pub struct Row {
    /// Absent for a new user.
    pub known: Option<Known>,
    pub user: SyncedUser,
    pub object_id: String,
    pub username_key: String,
    pub dn_key: String,
    /// By key, the form as written.
    pub names: BTreeMap<String, String>,
    pub search: String,
    pub content: Vec<u8>,
}

#[derive(Default)]
pub struct Plan {
    pub added: Vec<Row>,
    pub changed: Vec<Row>,
    /// Known users of this item that the run saw and that keep their row; and whether the run sees them for the first time.
    pub seen: Vec<Known>,
    /// States to change: who, to what, by whom.
    pub states: Vec<(Known, NewState)>,
    pub passwords: Vec<NewPassword>,
    /// Names found twice in this run.
    pub doubled: BTreeSet<String>,
    /// Users this very run had added before their name was found doubled: taken back.
    pub withdrawn: Vec<Known>,
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewState {
    pub state: &'static str,
    pub by: String,
    pub text: String,
}

/// What the directory says of somebody's password, where the store has something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPassword {
    pub user_id: String,
    pub changed: String,
    /// It is another password than at the last read, so nothing is remembered any longer (V-52).
    pub another: bool,
}

/// `known` are the rows of these object ids, `holders` the rows that hold one of these usernames, `doubled` the names this
/// run has found twice already.
pub fn plan(
    run: &Run<'_>,
    batch: Vec<SyncedUser>,
    known: HashMap<String, Known>,
    holders: Vec<Known>,
    doubled: BTreeSet<String>,
) -> Plan {
    let mut plan = Plan { doubled, ..Plan::default() };
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for user in batch {
        match row(user, &known) {
            Ok(row) => drop(rows.insert(row.object_id.clone(), row)),
            Err(problem) => plan.problems.push(problem),
        }
    }
    // Who claims a name when this batch is through: those in it by what it says, others by what they have.
    let mut claims: HashMap<String, BTreeSet<String>> = HashMap::new();
    for row in rows.values() {
        claims.entry(row.username_key.clone()).or_default().insert(row.object_id.clone());
    }
    let mut held: HashMap<String, Known> = HashMap::new();
    for holder in holders {
        if !rows.contains_key(&holder.object_id) {
            claims.entry(holder.username_key.clone()).or_default().insert(holder.object_id.clone());
            held.insert(holder.username_key.clone(), holder);
        }
    }
    for (_, mut row) in rows {
        let known = row.known.take();
        if let Some(owner) = known.as_ref().and_then(|known| earlier_owner(run, known)) {
            plan.problems.push(format!("{}: belongs to the earlier item {owner}", row.user.username));
            continue;
        }
        let keeps_name = known.as_ref().is_some_and(|it| it.username_key == row.username_key && it.state != "removed");
        let alone = claims.get(&row.username_key).is_none_or(|claims| claims.len() == 1);
        if !keeps_name && (!alone || plan.doubled.contains(&row.username_key)) {
            // FS-14, S-53: neither is added; an existing one keeps its id and is not taken for a leaver.
            plan.problems.push(format!("{}: this username is doubled in the directory", row.user.username));
            let holder = held.get(&row.username_key);
            if let Some(fresh) = holder.filter(|it| it.first_run == run.run_id) {
                plan.withdrawn.push(fresh.clone());
            }
            if holder.is_none_or(|it| it.first_run == run.run_id) {
                plan.doubled.insert(row.username_key.clone());
            }
            plan.seen.extend(known);
            continue;
        }
        match known {
            None => plan.added.push(row),
            Some(known) => {
                if let Some(state) = next_state(&known, row.user.disabled_in_directory) {
                    plan.states.push((known.clone(), state));
                }
                plan.passwords.extend(next_password(&known, &row.user.password_changed));
                if known.content == row.content && known.sync_item == run.sync_item {
                    plan.seen.push(known);
                } else {
                    row.known = Some(known);
                    plan.changed.push(row);
                }
            }
        }
    }
    plan.withdrawn.dedup_by(|one, other| one.user_id == other.user_id);
    plan
}

/// What a read of the directory makes of a user's state; `None` = as it is. By hand wins over the directory (FS-26).
fn next_state(known: &Known, disabled_in_directory: bool) -> Option<NewState> {
    let directory = || NewState { state: "disabled", by: "directory".into(), text: "disabled in the directory".into() };
    match (known.state.as_str(), by_machine(&known.state_by)) {
        ("enabled", _) => disabled_in_directory.then(directory),
        ("disabled", true) if disabled_in_directory => (known.state_by != "directory").then(directory),
        ("removed", true) if disabled_in_directory => Some(directory()),
        ("disabled" | "removed", true) => {
            Some(NewState { state: "enabled", by: "sync".into(), text: "seen in the directory".into() })
        }
        // Back, and still disabled by hand.
        ("removed", false) => {
            Some(NewState { state: "disabled", by: known.state_by.clone(), text: known.state_text.clone() })
        }
        _ => None,
    }
}

/// What becomes of the time a password was changed; `None` = it stays. The first read tells nothing about a change, and a
/// directory that says nothing (any longer) tells of none.
fn next_password(known: &Known, said: &str) -> Option<NewPassword> {
    let first = known.password_changed.is_empty();
    let changed = match said {
        "" if first => UNSAID,
        "" => return None,
        said => said,
    };
    let new = || NewPassword { user_id: known.user_id.clone(), changed: changed.into(), another: !first };
    (known.password_changed != changed).then(new)
}

/// The earlier item that owns a user and is still on; the first match wins (FS-08).
fn earlier_owner<'a>(run: &Run<'_>, known: &'a Known) -> Option<&'a str> {
    if known.sync_item == run.sync_item
        || known.state == "removed"
        || known.state_by == "sync" && known.state == "disabled"
    {
        return None;
    }
    let mut items = run.settings.sync_items.iter().take_while(|item| item.name.as_str() != run.sync_item);
    let earlier = items.any(|item| item.name.as_str() == known.sync_item && item.state == SyncState::On);
    earlier.then_some(known.sync_item.as_str())
}

fn row(user: SyncedUser, known: &HashMap<String, Known>) -> Result<Row, String> {
    let user = SyncedUser {
        object_id: user.object_id,
        distinguished_name: bounded(&user.distinguished_name, 2048),
        username: bounded(user.username.trim(), 256),
        names: user.names.iter().take(NAMES_MAX).map(|name| bounded(name, 256)).collect(),
        first_name: bounded(&user.first_name, 128),
        last_name: bounded(&user.last_name, 128),
        mail: bounded(&user.mail, 256),
        phone: bounded(&user.phone, 64),
        disabled_in_directory: user.disabled_in_directory,
        password_changed: bounded(&user.password_changed, 64),
    };
    let object_id = match user.object_id.parse::<ObjectId>() {
        Ok(object_id) => object_id.to_string(),
        Err(error) => return Err(format!("{}: {error}", user.distinguished_name)),
    };
    let username_key = name_key(&user.username);
    if username_key.is_empty() {
        return Err(format!("{}: has no username", user.distinguished_name));
    }
    let dn_key = dn_key(&user.distinguished_name);
    let forms = std::iter::once(&user.username).chain(&user.names).chain(std::iter::once(&user.mail));
    let names: BTreeMap<String, String> =
        forms.map(|name| (name_key(name), name.clone())).filter(|(key, _)| !key.is_empty()).collect();
    let mut search: Vec<String> = names.keys().cloned().collect();
    search.extend([name_key(&format!("{} {}", user.first_name, user.last_name)), name_key(&user.phone)]);
    let content = content(&user);
    let known = known.get(&object_id).cloned();
    Ok(Row { known, object_id, username_key, dn_key, names, search: search.join("\n"), content, user })
}

/// Does this row give the user another phone? A number of the user's own goes before the directory's, and one written in another
/// way is the same.
pub fn other_phone(known: &Known, row: &Row) -> bool {
    let digits = |number: &str| number.chars().filter(char::is_ascii_digit).collect::<String>();
    known.own_phone.is_empty() && digits(&known.phone) != digits(&row.user.phone)
}

/// How a DN is compared; text that is none is compared as it stands.
pub fn dn_key(name: &str) -> String {
    match name.parse::<ldap_wire::Dn>() {
        Ok(dn) => dn.key().as_str().to_owned(),
        Err(_) => name_key(name),
    }
}

fn content(user: &SyncedUser) -> Vec<u8> {
    let mut digest = Sha256::new();
    let fields = [&user.distinguished_name, &user.username, &user.first_name, &user.last_name, &user.mail, &user.phone];
    for field in fields.into_iter().chain(&user.names) {
        digest.update((field.len() as u64).to_be_bytes());
        digest.update(field.as_bytes());
    }
    digest.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> String {
        format!("entryUUID:00000000-0000-0000-0000-{number:012}")
    }

    fn user(number: u32, username: &str) -> SyncedUser {
        SyncedUser {
            object_id: id(number),
            distinguished_name: format!("uid={username},dc=corp"),
            username: username.into(),
            ..SyncedUser::default()
        }
    }

    fn known(number: u32, username: &str, item: &str) -> Known {
        Known {
            user_id: format!("u{number}"),
            object_id: id(number),
            username: username.into(),
            username_key: name_key(username),
            state: "enabled".into(),
            sync_item: item.into(),
            first_run: "before".into(),
            last_run: "before".into(),
            ..Known::default()
        }
    }

    fn settings() -> Settings {
        let item = |name: &str, state: &str| {
            format!(
                "[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nstate = \"{state}\"\nsource = {{ kind = \"domain\" }}\n"
            )
        };
        toml::from_str(&(item("first", "on") + &item("off", "off") + &item("mine", "on") + &item("last", "on")))
            .expect("valid")
    }

    fn planned(batch: Vec<SyncedUser>, store: Vec<Known>, doubled: &[&str]) -> Plan {
        let settings = settings();
        let run = Run { run_id: "run", sync_item: "mine", settings: &settings };
        let ids: BTreeSet<&str> = batch.iter().map(|it| it.object_id.as_str()).collect();
        let known = store.iter().filter(|it| ids.contains(it.object_id.as_str()));
        let known = known.map(|it| (it.object_id.clone(), it.clone())).collect();
        plan(&run, batch, known, store, doubled.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_doubled_username_adds_neither() {
        // FS-14, S-53
        let plan = planned(vec![user(1, "ann"), user(2, "ANN"), user(3, "bob")], vec![], &[]);
        assert_eq!(plan.added.iter().map(|row| row.user.username.as_str()).collect::<Vec<_>>(), ["bob"]);
        assert_eq!(plan.problems.len(), 2);
        assert!(plan.doubled.contains("ann"));
        let later = planned(vec![user(4, "Ann")], vec![], &["ann"]);
        assert!(later.added.is_empty());
    }

    #[test]
    fn a_name_found_doubled_in_a_later_batch_takes_back_who_the_run_had_added() {
        let fresh = Known { first_run: "run".into(), last_run: "run".into(), ..known(1, "ann", "mine") };
        let plan = planned(vec![user(2, "ann")], vec![fresh], &[]);
        assert_eq!(plan.withdrawn.iter().map(|it| it.user_id.as_str()).collect::<Vec<_>>(), ["u1"]);
        assert!(plan.added.is_empty() && plan.doubled.contains("ann"));
    }

    #[test]
    fn an_existing_user_keeps_the_name_and_the_newcomer_is_named_as_a_problem() {
        let plan = planned(vec![user(1, "ann"), user(2, "ann")], vec![known(1, "ann", "mine")], &[]);
        assert_eq!(plan.changed.len(), 1, "the existing one is brought up to date");
        assert!(plan.added.is_empty() && plan.withdrawn.is_empty());
        assert_eq!(plan.problems.len(), 1);
    }

    #[test]
    fn names_may_be_swapped_within_a_batch_and_a_refused_rename_is_no_leaver() {
        let store = vec![known(1, "ann", "mine"), known(2, "bob", "mine"), known(3, "eve", "mine")];
        let swap = planned(vec![user(1, "bob"), user(2, "ann")], store.clone(), &[]);
        assert_eq!((swap.changed.len(), swap.problems.len()), (2, 0));
        let taken = planned(vec![user(1, "eve")], store, &[]);
        assert_eq!((taken.changed.len(), taken.problems.len(), taken.seen.len()), (0, 1, 1));
    }

    #[test]
    fn an_earlier_item_that_is_on_keeps_its_users_and_any_other_gives_them_up() {
        // FS-08, FS-10
        for (owner, taken) in [("first", false), ("off", true), ("last", true), ("deleted", true), ("mine", true)] {
            let plan = planned(vec![user(1, "ann")], vec![known(1, "ann", owner)], &[]);
            assert_eq!(plan.changed.len(), usize::from(taken), "{owner}");
            assert_eq!(plan.problems.is_empty(), taken, "{owner}");
        }
        let left = Known { state: "disabled".into(), state_by: "sync".into(), ..known(1, "ann", "first") };
        assert_eq!(planned(vec![user(1, "ann")], vec![left], &[]).changed.len(), 1);
    }

    #[test]
    fn the_directory_disables_and_enables_again_but_never_over_a_hand() {
        // FS-26
        for (state, by, disabled, expected) in [
            ("enabled", "", false, None),
            ("enabled", "", true, Some(("disabled", "directory"))),
            ("disabled", "directory", true, None),
            ("disabled", "directory", false, Some(("enabled", "sync"))),
            ("disabled", "sync", false, Some(("enabled", "sync"))),
            ("disabled", "sync", true, Some(("disabled", "directory"))),
            ("disabled", "admin:uid=0", false, None),
            ("disabled", "admin:uid=0", true, None),
            ("removed", "sync", false, Some(("enabled", "sync"))),
            ("removed", "sync", true, Some(("disabled", "directory"))),
            ("removed", "admin:uid=0", false, Some(("disabled", "admin:uid=0"))),
        ] {
            let before = Known { state: state.into(), state_by: by.into(), ..known(1, "ann", "mine") };
            let after = next_state(&before, disabled);
            let after = after.as_ref().map(|it| (it.state, it.by.as_str()));
            assert_eq!(after, expected, "{state} by {by:?}, disabled there: {disabled}");
        }
    }

    #[test]
    fn a_password_is_another_one_when_its_time_moves_and_not_when_it_is_first_read() {
        // V-52
        for (before, said, expected) in [
            ("", "", Some((UNSAID, false))),
            ("", "10", Some(("10", false))),
            (UNSAID, "", None),
            (UNSAID, "10", Some(("10", true))),
            ("10", "10", None),
            ("10", "11", Some(("11", true))),
            // A server that is behind, or a clock that was ahead.
            ("10", "9", Some(("9", true))),
            ("10", "", None),
        ] {
            let before_row = Known { password_changed: before.into(), ..known(1, "ann", "mine") };
            let after = next_password(&before_row, said);
            let after = after.as_ref().map(|it| (it.changed.as_str(), it.another));
            assert_eq!(after, expected, "{before:?} -> {said:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_user_is_named() {
        let broken = vec![
            SyncedUser { object_id: "nonsense".into(), ..user(1, "ann") },
            SyncedUser { username: " \u{0} ".into(), ..user(2, "bob") },
        ];
        let plan = planned(broken, vec![], &[]);
        assert_eq!(plan.problems.len(), 2);
        assert!(plan.added.is_empty());
    }
}
