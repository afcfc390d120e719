//! Rows of users: read for a plan, and written as it says. Whoever writes holds the chain's lock.

use super::history::Change;
use super::leavers::{self, Action, Leaving};
use super::members::Person;
use super::profile::{LANGUAGES, Number, Profile};
use super::tell;
use super::users::{self, Known, NewPassword, OF_ITEM, Plan, Row};
use super::write::Batch;
use super::{pending, phones, states};
use crate::audit::NewEvent;
use crate::erase;
use crate::rpc::StoreError;
use crate::seal::Seal;
use crate::sql::{Arg, Row as SqlRow, Session, args};
use crate::users::{by_machine, number_shown};
use domain::settings::{InitialPin, NewUsers, SyncItem};
use std::collections::{BTreeSet, HashMap};

const HOUR_MS: i64 = 3_600_000;
/// What the history says of somebody of whom the end of the run decides (S-46).
const TO_BE_EXEMPT: &str = "to be exempt from the second factor";
/// And of who was gone and is back (S-21).
const FACTORS_ERASED: &str = "second factors erased: was gone from the directory and is back";

const HEAD: &str = "SELECT user_id, directory, object_id, dn_key, sid, primary_group, username, username_key, first_name, last_name, \
    mail, phone, phone_extension, own_phone, own_extension, backup_phone, backup_extension, language_call, language_text, \
    language_app, language_code, language_portal, description, user_group, by_hand, state, state_by, state_since_ms, state_text, items, \
    sync_item, first_run, last_run, content, password_changed, left_how, due, exempt_item, exempt_wait, phone_hold_until_ms, \
    account_expires_ms FROM users WHERE";

/// The users with these ids, by their ids.
pub async fn with_ids<'a>(
    session: &mut Session,
    directory: &str,
    object_ids: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Known>, StoreError> {
    let head = format!("{HEAD} object_id IN");
    let rows = session.rows_in(&head, object_ids, "AND directory = $257", &[Arg::from(directory)]).await?;
    let mut found = HashMap::new();
    for row in rows {
        let known = known(&row)?;
        found.insert(known.person.object_id.clone(), known);
    }
    Ok(found)
}

/// The users of the directory who hold these usernames.
pub async fn with_names<'a>(
    session: &mut Session,
    directories: &[&str],
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<Known>, StoreError> {
    let head = format!("{HEAD} username_key IN");
    let mut holders = Vec::new();
    // The directory is compared here: with it in the condition SQLite would walk all users of the directory.
    for row in session.rows_in(&head, names, "AND state <> 'removed'", &[]).await? {
        if directories.contains(&row.get::<String>("directory")?.as_str()) {
            holders.push(known(&row)?);
        }
    }
    Ok(holders)
}

fn known(row: &SqlRow) -> Result<Known, sqlx::Error> {
    let text = |column: &str| row.get::<String>(column);
    let mut languages: [String; LANGUAGES.len()] = Default::default();
    for (language, column) in languages.iter_mut().zip(LANGUAGES) {
        *language = text(column)?;
    }
    let by_hand = text("by_hand")?;
    let profile = Profile {
        first_name: text("first_name")?,
        last_name: text("last_name")?,
        mail: text("mail")?,
        phone: Number::new(text("phone")?, text("phone_extension")?),
        own: Number::new(text("own_phone")?, text("own_extension")?),
        backup: Number::new(text("backup_phone")?, text("backup_extension")?),
        languages,
        description: text("description")?,
        user_group: text("user_group")?,
        by_hand: by_hand.split(',').filter(|field| !field.is_empty()).map(str::to_owned).collect(),
    };
    Ok(Known {
        user_id: text("user_id")?,
        person: Person {
            object_id: text("object_id")?,
            dn_key: text("dn_key")?,
            sid: text("sid")?,
            primary_group: text("primary_group")?,
        },
        username: text("username")?,
        username_key: text("username_key")?,
        profile,
        state: text("state")?,
        state_by: text("state_by")?,
        state_since_ms: row.get("state_since_ms")?,
        state_text: text("state_text")?,
        items: text("items")?,
        sync_item: text("sync_item")?,
        first_run: text("first_run")?,
        last_run: text("last_run")?,
        content: row.get("content")?,
        password_changed: text("password_changed")?,
        left_how: text("left_how")?,
        due: text("due")?,
        exempt_item: text("exempt_item")?,
        exempt_wait: text("exempt_wait")?,
        phone_hold_until_ms: row.get("phone_hold_until_ms")?,
        account_expires_ms: row.get("account_expires_ms")?,
    })
}

/// What writing a plan came to.
#[derive(Default)]
pub struct Written {
    pub added: u32,
    pub changed: u32,
    pub unchanged: u32,
    /// Whose caches must go.
    pub users: Vec<String>,
    pub events: Vec<NewEvent>,
    pub changes: Vec<Change>,
}

/// Writes a plan.
pub async fn write(session: &mut Session, seal: &Seal, batch: &Batch<'_>, plan: Plan) -> Result<Written, StoreError> {
    let run_id = &batch.run.run_id;
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let fresh: Vec<&str> =
        plan.seen.iter().filter(|known| known.last_run != *run_id).map(|known| known.user_id.as_str()).collect();
    let mut written = Written {
        added: count(plan.added.len()),
        changed: count(plan.changed.len()),
        unchanged: count(fresh.len()),
        changes: changes(&plan),
        ..Written::default()
    };
    let doubles = plan.doubled.iter().map(|name| args![run_id, name]).collect();
    let head = "INSERT INTO sync_doubles (run_id, name_key)";
    session.bulk(head, doubles, "ON CONFLICT (run_id, name_key) DO NOTHING").await?;
    pending::wait_for_names(session, batch.run, &plan.waiting).await?;
    pending::add(session, batch.run, plan.held.iter().map(String::as_str)).await?;
    for known in &plan.withdrawn {
        // Added by this very run, moments ago, under a name or an id that turned out to be two people's.
        erase::user(session, seal, &known.user_id).await?;
        let event = NewEvent::administrative(
            batch.now_ms,
            "user.erased",
            "sync",
            "its username or id is doubled in the directory",
        );
        written.events.push(event.about(&known.user_id, &known.username));
    }
    written.events.extend(plan.claimed.write(session, &batch.run.directory, batch.now_ms).await?);
    tell::of_other_addresses(session, seal, &plan.changed, batch.now_ms).await?;
    let (events, noted) = phones::gone_back(session, seal, batch, &plan.changed).await?;
    written.events.extend(events);
    written.changes.extend(noted);
    written.events.extend(states::enabled_again(session, seal, batch, &plan).await?);
    tell::of_doubled_names(session, seal, batch, &plan).await?;
    let ids = write_rows(session, batch, &plan).await?;
    tell::of_welcome(session, seal, batch, &plan.added, &ids).await?;
    tell::of_changes(session, seal, batch, &plan.changed).await?;
    let head = "UPDATE users SET last_run = $257 WHERE user_id IN";
    session.execute_in(head, fresh, "", &[Arg::from(run_id)]).await?;
    for known in &plan.revived {
        erase::credentials(session, seal, &known.user_id).await?;
        let event = NewEvent::administrative(
            batch.now_ms,
            "user.factors_erased",
            "sync",
            "was gone from the directory and is back: second factors are enrolled anew",
        );
        written.events.push(event.about(&known.user_id, &known.username));
    }
    let states = plan.states.iter().map(|(known, next)| Moved {
        user_id: &known.user_id,
        username: &known.username,
        from: &known.state,
        from_by: &known.state_by,
        to: next.state,
        by: &next.by,
        text: &next.text,
    });
    written.events.extend(write_states(session, states.collect(), batch.now_ms).await?);
    written.users.extend(plan.states.iter().map(|(known, _)| known.user_id.clone()));
    written.users.extend(write_passwords(session, &plan.passwords).await?);
    written.users.extend(write_expiries(session, plan.expiries).await?);
    let mut moved: Vec<&str> = Vec::new();
    for row in &plan.changed {
        let Some(known) = &row.known else { continue };
        written.users.push(known.user_id.clone());
        let exempted = known.exempt_item != row.exemption.item;
        let renamed = known.person != row.person;
        if renamed || exempted || row.profile.has_other_number_than(&known.profile, &row.country) {
            moved.push(&known.user_id);
        }
        let details = audited(known, row);
        if !details.is_empty() {
            let event = NewEvent::administrative(batch.now_ms, "user.changed", "sync", details.join(", "));
            written.events.push(event.about(&known.user_id, &row.user.username));
        }
    }
    raise_epochs(session, &moved).await?;
    leavers::unmark(session, &plan.back.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let outside = plan.outside.into_iter();
    let marks = outside.map(|known| leavers::Mark { user_id: known.user_id, how: leavers::How::Outside });
    leavers::mark(session, batch, marks.collect()).await?;
    Ok(written)
}

/// What the history says of a plan (FS-13).
pub fn changes(plan: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    for row in &plan.added {
        let exempt = if row.exemption.newly { TO_BE_EXEMPT } else { "" };
        let detail = [format!("item {}", row.sync_item), exempt.into()].into_iter().filter(|it| !it.is_empty());
        changes.push(Change::new(&row.user.username, "added", detail.collect::<Vec<_>>().join(", ")));
    }
    for row in &plan.changed {
        let Some(known) = &row.known else { continue };
        let details = told(known, row);
        if !details.is_empty() {
            changes.push(Change::new(&row.user.username, "changed", details.join(", ")));
        }
    }
    for (known, next) in &plan.states {
        changes.push(Change::new(&known.username, next.state, &*next.text));
    }
    for known in &plan.revived {
        changes.push(Change::new(&known.username, "changed", FACTORS_ERASED));
    }
    for known in &plan.withdrawn {
        changes.push(Change::new(&known.username, "removed", "added by this run; the username or id is doubled"));
    }
    changes.extend(plan.problems.iter().map(|it| Change::new(&it.who, "problem", &*it.text)));
    changes
}

/// S-58: another phone or mail is another authenticator. Numbers show their ends only.
fn audited(known: &Known, row: &Row) -> Vec<String> {
    let (was, is) = (&known.profile, &row.profile);
    let mut details = Vec::new();
    for (field, was, is, number) in [
        ("username", &known.username, &row.user.username, false),
        ("mail", &was.mail, &is.mail, false),
        ("phone", &was.phone.number, &is.phone.number, true),
        ("own phone", &was.own.number, &is.own.number, true),
        ("backup phone", &was.backup.number, &is.backup.number, true),
        ("exempt by item", &known.exempt_item, &row.exemption.item, false),
    ] {
        let shown = |value: &str| if number { number_shown(value) } else { format!("{value:?}") };
        if was != is {
            details.push(format!("{field}: {} -> {}", shown(was), shown(is)));
        }
    }
    details
}

fn told(known: &Known, row: &Row) -> Vec<String> {
    let mut details = audited(known, row);
    let (was, is) = (&known.profile, &row.profile);
    if known.sync_item != row.sync_item {
        details.push(format!("item: {} -> {}", known.sync_item, row.sync_item));
    }
    if known.person.dn_key != row.person.dn_key {
        details.push("distinguished name".into());
    }
    for (what, differs) in [
        ("name", (&was.first_name, &was.last_name) != (&is.first_name, &is.last_name)),
        ("language", was.languages != is.languages),
        ("description", was.description != is.description),
        ("user group", was.user_group != is.user_group),
        (TO_BE_EXEMPT, row.exemption.newly),
    ] {
        if differs {
            details.push(what.into());
        }
    }
    details
}

/// Notes when passwords were changed, and ends what was remembered under the ones before (V-52). Returns whose those were.
async fn write_passwords(session: &mut Session, passwords: &[NewPassword]) -> Result<Vec<String>, StoreError> {
    let rows = passwords.iter().map(|it| args![&it.user_id, &it.changed]).collect();
    let tail = ") UPDATE users SET password_changed = v.password_changed FROM v WHERE users.user_id = v.user_id";
    session.bulk("WITH v (user_id, password_changed) AS (", rows, tail).await?;
    let others: Vec<&str> = passwords.iter().filter(|it| it.another).map(|it| it.user_id.as_str()).collect();
    raise_epochs(session, &others).await?;
    Ok(others.into_iter().map(str::to_owned).collect())
}

/// Notes when accounts end (FS-26). Returns whose.
async fn write_expiries(session: &mut Session, expiries: Vec<(String, i64)>) -> Result<Vec<String>, StoreError> {
    let rows = expiries.iter().map(|(user_id, expires_ms)| args![user_id, *expires_ms]).collect();
    let tail = ") UPDATE users SET account_expires_ms = v.expires_ms FROM v WHERE users.user_id = v.user_id";
    session.bulk("WITH v (user_id, expires_ms) AS (", rows, tail).await?;
    Ok(expiries.into_iter().map(|(user_id, _)| user_id).collect())
}

/// Ends what is remembered of these users (V-52).
pub async fn raise_epochs(session: &mut Session, user_ids: &[&str]) -> Result<(), StoreError> {
    let head = "UPDATE users SET epoch = epoch + 1 WHERE user_id IN";
    session.execute_in(head, user_ids.iter().copied(), "", &[]).await?;
    Ok(())
}

/// Returns the ids of those that were added, in their order.
async fn write_rows(session: &mut Session, batch: &Batch<'_>, plan: &Plan) -> Result<Vec<String>, StoreError> {
    let items = &batch.items;
    let item_of = |row: &Row| items.iter().find(|item| item.name.as_str() == row.sync_item).copied();
    let user_id =
        |row: &Row| row.known.as_ref().map_or_else(|| uuid::Uuid::now_v7().to_string(), |it| it.user_id.clone());
    let written: Vec<(String, &Row)> =
        plan.added.iter().chain(&plan.changed).map(|row| (user_id(row), row.as_ref())).collect();
    let head = "INSERT INTO users (user_id, directory, object_id, sid, primary_group, username, username_key, distinguished_name, \
                dn_key, first_name, last_name, mail, phone, phone_extension, own_phone, own_extension, backup_phone, \
                backup_extension, language_call, language_text, language_app, language_code, language_portal, description, user_group, by_hand, \
                search, state, state_by, state_since_ms, state_text, items, sync_item, first_run, last_run, content, \
                password_changed, due, exempt_item, exempt_wait, phone_hold_until_ms, must_enrol, default_method, \
                allowed_methods, account_expires_ms, revision, created_ms, changed_ms)";
    // State, first run, creation, methods, the password's time and the account's end stay as they are: those are changed elsewhere,
    // or never.
    let tail = "ON CONFLICT (directory, object_id) DO UPDATE SET sid = excluded.sid, primary_group = excluded.primary_group, \
                username = excluded.username, username_key = excluded.username_key, \
                distinguished_name = excluded.distinguished_name, dn_key = excluded.dn_key, first_name = excluded.first_name, \
                last_name = excluded.last_name, mail = excluded.mail, phone = excluded.phone, \
                phone_extension = excluded.phone_extension, own_phone = excluded.own_phone, \
                own_extension = excluded.own_extension, backup_phone = excluded.backup_phone, \
                backup_extension = excluded.backup_extension, language_call = excluded.language_call, \
                language_text = excluded.language_text, language_app = excluded.language_app, \
                language_code = excluded.language_code, language_portal = excluded.language_portal, description = excluded.description, user_group = excluded.user_group, \
                by_hand = excluded.by_hand, search = excluded.search, items = excluded.items, sync_item = excluded.sync_item, \
                last_run = excluded.last_run, content = excluded.content, due = excluded.due, \
                exempt_item = excluded.exempt_item, exempt_wait = excluded.exempt_wait, \
                phone_hold_until_ms = excluded.phone_hold_until_ms, revision = users.revision + 1, \
                changed_ms = excluded.changed_ms";
    let rows = written.iter().map(|(user_id, row)| values(batch, row, user_id, item_of(row)));
    session.bulk_each(head, rows, tail).await?;
    let renamed: Vec<&str> = plan.changed.iter().filter_map(|row| Some(row.known.as_ref()?.user_id.as_str())).collect();
    session.execute_in("DELETE FROM names WHERE user_id IN", renamed, "", &[]).await?;
    let names =
        written.iter().flat_map(|(user_id, row)| row.names.iter().map(move |(key, name)| args![user_id, key, name]));
    session.bulk_each("INSERT INTO names (user_id, name_key, name)", names, "").await?;
    let added: Vec<(String, &Row)> = written.into_iter().filter(|(_, row)| row.known.is_none()).collect();
    require_pins(session, batch, &added).await?;
    Ok(added.into_iter().map(|(user_id, _)| user_id).collect())
}

fn values<'a>(batch: &'a Batch<'_>, row: &'a Row, user_id: &'a str, item: Option<&SyncItem>) -> Vec<Arg<'a>> {
    let (user, profile) = (&row.user, &row.profile);
    let (state, by, text) = users::first_state(item, user.disabled_in_directory);
    let known_due = row.known.as_ref().map_or("", |known| known.due.as_str());
    // Whether somebody leaves is said by the marks, which follow.
    let due = match known_due {
        "leave" => "leave",
        _ if row.exemption.waits.is_empty() => "",
        _ if row.exemption.newly => "exempt",
        due => due,
    };
    let waits = row.exemption.waits.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let by_hand = profile.by_hand.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let method = item.and_then(|item| item.method.default_method).map_or("", domain::Method::code);
    let allowed: BTreeSet<domain::Method> =
        item.map(|item| item.method.allowed.iter().copied().collect()).unwrap_or_default();
    let allowed = allowed.into_iter().map(domain::Method::code).collect::<Vec<_>>().join(",");
    args![
        user_id,
        &batch.run.directory,
        &row.person.object_id,
        &row.person.sid,
        &row.person.primary_group,
        &user.username,
        &row.username_key,
        &user.distinguished_name,
        &row.person.dn_key,
        &profile.first_name,
        &profile.last_name,
        &profile.mail,
        &profile.phone.number,
        &profile.phone.extension,
        &profile.own.number,
        &profile.own.extension,
        &profile.backup.number,
        &profile.backup.extension,
        &profile.languages[0],
        &profile.languages[1],
        &profile.languages[2],
        &profile.languages[3],
        &profile.languages[4],
        &profile.description,
        &profile.user_group,
        by_hand,
        &row.search,
        state,
        by,
        batch.now_ms,
        text,
        &row.items,
        &row.sync_item,
        &batch.run.run_id,
        &batch.run.run_id,
        row.content.as_slice(),
        if user.password_changed.is_empty() { users::UNSAID } else { user.password_changed.as_str() },
        due,
        &row.exemption.item,
        waits,
        hold(batch, row),
        item.is_some_and(|item| item.new_users == NewUsers::MustEnrol),
        method,
        allowed,
        users::expiry(item, user),
        1_i64,
        batch.now_ms,
        batch.now_ms,
    ]
}

/// S-58: until when another number gets neither text nor call.
fn hold(batch: &Batch<'_>, row: &Row) -> i64 {
    let Some(known) = &row.known else { return 0 };
    let hours = batch.settings.sync.phone_hold_hours;
    match hours > 0 && row.profile.has_other_number_than(&known.profile, &row.country) {
        true => batch.now_ms + i64::from(hours) * HOUR_MS,
        false => known.phone_hold_until_ms,
    }
}

/// New users have to use a PIN where the settings say so (FS-31, FV-19).
async fn require_pins(session: &mut Session, batch: &Batch<'_>, added: &[(String, &Row)]) -> Result<(), StoreError> {
    let item = |row: &Row| batch.items.iter().find(|item| item.name.as_str() == row.sync_item).copied();
    let asked = added.iter().filter(|(_, row)| users::begin_with_pin(batch.settings, item(row)));
    let rows = asked.map(|(user_id, _)| args![user_id, "pin", true, false, 0_i64, Vec::new(), 0_i64]).collect();
    let head = "INSERT INTO secret_states (user_id, kind, required, must_change, set_ms, wrong, locked_until_ms)";
    session.bulk(head, rows, "ON CONFLICT (user_id, kind) DO NOTHING").await?;
    // Made and sent later: hashing them would hold up the batch, and every login with it.
    let mailed = added.iter().filter(|(_, row)| {
        let item = batch.items.iter().find(|item| item.name.as_str() == row.sync_item);
        item.is_some_and(|item| item.method.initial_pin == InitialPin::Mailed)
    });
    let rows = mailed.map(|(user_id, row)| args![user_id, &row.sync_item, batch.now_ms]).collect();
    let head = "INSERT INTO pins_owed (user_id, sync_item, due_ms)";
    session.bulk(head, rows, "ON CONFLICT (user_id) DO NOTHING").await?;
    Ok(())
}

/// A state that moves, in the transaction that read the one before under the chain's lock.
pub struct Moved<'a> {
    pub user_id: &'a str,
    pub username: &'a str,
    pub from: &'a str,
    pub from_by: &'a str,
    pub to: &'a str,
    pub by: &'a str,
    pub text: &'a str,
}

/// Many states in few statements, with their events. A hand that moved since they were read wins.
async fn write_states(
    session: &mut Session,
    mut states: Vec<Moved<'_>>,
    now_ms: i64,
) -> Result<Vec<NewEvent>, StoreError> {
    let head = "SELECT user_id, state, state_by FROM users WHERE user_id IN";
    let mut now: HashMap<String, (String, String)> = HashMap::new();
    for row in session.rows_in(head, states.iter().map(|it| it.user_id), "", &[]).await? {
        now.insert(row.get("user_id")?, (row.get("state")?, row.get("state_by")?));
    }
    states.retain(|it| now.get(it.user_id).is_some_and(|(state, by)| state == it.from && by == it.from_by));
    let rows = states.iter().map(|it| args![it.user_id, it.to, it.by, it.text, now_ms]).collect();
    let tail = ") UPDATE users SET state = v.to_state, state_by = v.to_by, state_since_ms = v.at_ms, state_text = v.text, \
                changed_ms = v.at_ms, epoch = epoch + 1, revision = revision + 1 FROM v WHERE users.user_id = v.user_id";
    session.bulk("WITH v (user_id, to_state, to_by, text, at_ms) AS (", rows, tail).await?;
    let ended = states.iter().filter(|it| it.to != "enabled").map(|it| it.user_id);
    session.execute_in("DELETE FROM sessions WHERE user_id IN", ended, "", &[]).await?;
    let event = |it: &Moved<'_>| {
        let mut detail = format!("state: {} -> {}", it.from, it.to);
        if !it.text.is_empty() {
            detail += &format!(" ({})", it.text);
        }
        NewEvent::administrative(now_ms, "user.state", it.by, detail).about(it.user_id, it.username)
    };
    Ok(states.iter().map(event).collect())
}

/// What carrying out decisions came to.
#[derive(Default)]
pub struct Carried {
    pub events: Vec<NewEvent>,
    pub changes: Vec<Change>,
    pub disabled: u32,
    pub removed: u32,
}

/// Disables, removes and exempts. A hand that had disabled a person is remembered through the removal: they come back disabled.
pub async fn carry_out(
    session: &mut Session,
    leaving: Vec<(Leaving, Action)>,
    now_ms: i64,
) -> Result<Carried, StoreError> {
    let mut carried = Carried::default();
    let (mut states, mut exempt) = (Vec::new(), Vec::new());
    let texts: Vec<String> =
        leaving.iter().map(|(user, _)| leavers::why(&user.due, &user.left_how, &user.sync_item)).collect();
    for ((user, action), text) in leaving.iter().zip(&texts) {
        let what = match action {
            Action::Exempt => {
                exempt.push(user);
                continue;
            }
            Action::Disable => "disabled",
            Action::Remove => "removed",
        };
        carried.changes.push(Change::new(&user.username, what, &**text));
        match action {
            Action::Disable => carried.disabled += 1,
            _ => carried.removed += 1,
        }
        let by_hand = what == "removed" && user.state == "disabled" && !by_machine(&user.state_by);
        states.push(Moved {
            user_id: &user.user_id,
            username: &user.username,
            from: &user.state,
            from_by: &user.state_by,
            to: what,
            by: if by_hand { &user.state_by } else { "sync" },
            text: if by_hand { &user.state_text } else { text },
        });
    }
    carried.events = write_states(session, states, now_ms).await?;
    let mut rows = Vec::new();
    for user in &exempt {
        let item = user.exempt_wait.split(',').find_map(|it| it.strip_prefix(OF_ITEM)).unwrap_or_default();
        rows.push(args![&user.user_id, item]);
        let text = leavers::why(&user.due, &user.left_how, &user.sync_item);
        carried.changes.push(Change::new(&user.username, "changed", &*text));
        let event = NewEvent::administrative(now_ms, "user.exempt", "sync", text);
        carried.events.push(event.about(&user.user_id, &user.username));
    }
    let tail = ") UPDATE users SET exempt_item = CASE WHEN v.item <> '' THEN v.item ELSE users.exempt_item END, \
                exempt_wait = '', epoch = epoch + 1, revision = revision + 1 FROM v WHERE users.user_id = v.user_id";
    session.bulk("WITH v (user_id, item) AS (", rows, tail).await?;
    let decided = leaving.iter().map(|(user, _)| user.user_id.as_str());
    session.execute_in("UPDATE users SET due = '' WHERE user_id IN", decided, "", &[]).await?;
    Ok(carried)
}
