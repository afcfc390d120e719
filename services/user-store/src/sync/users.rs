//! Which of the users of a batch are added, changed, or not taken, and why. Pure: rows as they stand in, rows as they shall
//! be out.

use super::hands::Claimed;
use super::leavers::How;
use super::members::{self, Graph, Person, sid_key};
use super::profile::{self, Profile};
use crate::rpc::{bound, bounded};
use crate::users::{by_machine, name_key};
use domain::ObjectId;
use domain::settings::{DisabledInDirectory, Leavers, NewUsers, Returning, Settings, SyncItem};
use proto::user_store::{SyncedUser, UnusableValue};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Name forms kept of a user.
const NAMES_MAX: usize = 32;
/// Items a user may fall under.
const ITEMS_MAX: usize = 256;
/// Who sets the state of new users that begin disabled: no machine that the directory could overrule (FS-24).
pub const BY_SETTINGS: &str = "settings";
/// Before the name of an item in a list of what exempts.
pub const OF_ITEM: &str = "item:";

/// A user as the store has it.
#[derive(Clone, Default)]
pub struct Known {
    pub user_id: String,
    pub person: Person,
    pub username: String,
    pub username_key: String,
    pub profile: Profile,
    pub state: String,
    pub state_by: String,
    pub state_since_ms: i64,
    pub state_text: String,
    pub items: String,
    pub sync_item: String,
    pub first_run: String,
    pub last_run: String,
    pub content: Vec<u8>,
    /// As the directory wrote it; empty = never read, [`UNSAID`] = it did not say.
    pub password_changed: String,
    pub left_how: String,
    pub due: String,
    pub exempt_item: String,
    pub exempt_wait: String,
    pub phone_hold_until_ms: i64,
    pub account_expires_ms: i64,
}

impl Known {
    pub fn is_gone(&self) -> bool {
        How::is_gone(&self.left_how, &self.due, &self.state)
    }

    /// Nobody is taken out of service for being gone, by the rule of the item that had them.
    fn is_kept(&self, settings: &Settings) -> bool {
        let item = settings.sync_items.iter().find(|item| item.name.as_str() == self.sync_item);
        item.is_some_and(|item| item.leavers == Leavers::Keep)
    }

    /// Gone from the directory for good, that is decided, and out of service: the name is free for whoever has it there now (FS-14).
    pub fn gives_way(&self, settings: &Settings) -> bool {
        self.is_gone() && !self.is_kept(settings)
    }

    /// Who is back enrols anew: out of service for being gone, or deleted after the directory disabled them (S-21). Whom a hand disabled
    /// is for that hand to judge, and that a disabled entry was not found no guard has counted.
    fn enrols_anew(&self, settings: &Settings) -> bool {
        let for_it = match self.left_how == How::Absent.code() {
            true => self.state_by == "sync",
            false => by_machine(&self.state_by),
        };
        // Whom a run took out of service for being gone, whatever the rule is by now.
        let taken_out = self.is_gone() && self.state_by == "sync";
        self.state == "removed" || taken_out || self.gives_way(settings) && for_it
    }
}

/// Kept of a directory that does not say when a password was changed: if it does one day, that is news.
pub const UNSAID: &str = "-";

/// The run a batch belongs to, and by what it decides.
pub struct Judge<'a> {
    pub run_id: &'a str,
    pub settings: &'a Settings,
    /// Of the directory, in their order.
    pub items: &'a [&'a SyncItem],
    pub graph: &'a Graph,
    /// Of a preview: groups as they stand for those who are known. A run that writes has judged what moved when it wrote the groups.
    pub before: Option<&'a Graph>,
    /// Principal names that somebody of another domain of the forest has (S-53).
    pub elsewhere: &'a BTreeSet<String>,
}

/// A user as the row shall be.
pub struct Row {
    /// Absent for a new user.
    pub known: Option<Known>,
    pub user: SyncedUser,
    pub person: Person,
    pub username_key: String,
    /// Candidates, comma separated.
    pub items: String,
    /// The item that has the user, or had them last.
    pub sync_item: String,
    /// Nobody has them.
    pub outside: bool,
    pub profile: Profile,
    /// Whose numbers without a code are.
    pub country: String,
    pub exemption: Exemption,
    /// By key, the form as written.
    pub names: BTreeMap<String, String>,
    pub search: String,
    pub content: Vec<u8>,
}

/// What exempts a user from the second factor, and what would (S-46).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exemption {
    pub item: String,
    /// Groups by id, an item by [`OF_ITEM`] and its name.
    pub waits: BTreeSet<String>,
    /// Something is new among them.
    pub newly: bool,
}

#[derive(Default)]
pub struct Plan {
    #[allow(clippy::vec_box, reason = "rows are large, and move from list to list")]
    pub added: Vec<Box<Row>>,
    #[allow(clippy::vec_box, reason = "the same")]
    pub changed: Vec<Box<Row>>,
    /// Known users that the run saw and that keep their row.
    pub seen: Vec<Known>,
    /// Known users that are of no item any longer.
    pub outside: Vec<Known>,
    /// Those of them, and of the changed, who had left and are back.
    pub back: Vec<String>,
    /// Users who had been gone and are back: their factors are not (S-21).
    pub revived: Vec<Known>,
    /// States to change: who, to what, by whom.
    pub states: Vec<(Known, NewState)>,
    pub passwords: Vec<NewPassword>,
    /// By user, when the account ends, where that is another moment than before; 0 = never.
    pub expiries: Vec<(String, i64)>,
    /// Names found twice in this run, and what is noted of ids that were.
    pub doubled: BTreeSet<String>,
    /// Users this very run had added before their name or id was found doubled: taken back.
    pub withdrawn: Vec<Known>,
    /// Ids that somebody writes, of users at another DN than before: to be read by them before that is believed (FD-31).
    pub held: BTreeSet<String>,
    /// Names that somebody of another domain of the forest has, too (S-53).
    pub shared: BTreeSet<String>,
    /// By object id, who would have which name if nobody else did.
    pub waiting: BTreeMap<String, String>,
    /// Whom, and what about them.
    pub problems: Vec<Problem>,
    /// Values of users who are taken without them.
    pub unusable: Vec<UnusableValue>,
    /// Users made by hand who are an entry's from now on, and are among the known.
    pub claimed: Claimed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub who: String,
    pub text: String,
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

/// A user of a batch, read and bounded.
pub struct Read {
    pub user: SyncedUser,
    pub person: Person,
    pub username_key: String,
    pub candidates: Vec<String>,
    /// Whether its id is one that the server gave, and nobody writes.
    pub id_of_server: bool,
}

impl Read {
    /// `None`, and why, if the entry has no id.
    pub fn of(user: SyncedUser) -> Result<Self, Problem> {
        let (object_id, id_of_server) = match user.object_id.parse::<ObjectId>() {
            Ok(object_id) => (object_id.to_string(), object_id.is_of_server()),
            Err(error) => {
                return Err(Problem { who: bounded(&user.distinguished_name, 2048), text: error.to_string() });
            }
        };
        let mut user = SyncedUser { object_id, sid: sid_key(&user.sid), ..user };
        user.primary_group_sid = sid_key(&user.primary_group_sid);
        user.names.truncate(NAMES_MAX);
        user.names.iter_mut().for_each(|name| bound(name, 256));
        user.username = bounded(user.username.trim(), 256);
        for (text, most) in [
            (&mut user.distinguished_name, 2048),
            (&mut user.first_name, 128),
            (&mut user.last_name, 128),
            (&mut user.mail, 256),
            (&mut user.extension, 10),
            (&mut user.password_changed, 64),
            (&mut user.description, 256),
            (&mut user.user_group, 128),
        ] {
            bound(text, most);
        }
        let person = Person {
            object_id: user.object_id.clone(),
            dn_key: members::dn_key(&user.distinguished_name),
            sid: user.sid.clone(),
            primary_group: user.primary_group_sid.clone(),
        };
        let candidates = user.items.iter().take(ITEMS_MAX).filter(|name| !name.contains(',')).cloned().collect();
        Ok(Self { username_key: name_key(&user.username), person, candidates, id_of_server, user })
    }
}

/// `known` are the rows of these object ids, `holders` the rows that hold one of these usernames, `doubled` the names this
/// run has found twice already.
pub fn plan(
    judge: &Judge<'_>,
    batch: Vec<Read>,
    known: HashMap<String, Known>,
    holders: Vec<Known>,
    doubled: BTreeSet<String>,
) -> Plan {
    let mut plan = Plan { doubled, ..Plan::default() };
    let mut known = known;
    let rules: Rules<'_> = judge.settings.sync_items.iter().map(|item| (item.name.as_str(), rules_of(item))).collect();
    // Boxed: they are large, and move whenever one comes between them.
    let mut rows: BTreeMap<String, Box<Row>> = BTreeMap::new();
    for read in batch {
        let before = known.get(&read.person.object_id).cloned();
        match row(judge, &rules, read, before) {
            Taken::Row(row) => {
                plan.unusable.extend(unusable(judge, &row));
                rows.insert(row.person.object_id.clone(), row);
            }
            Taken::Unusable(problem, kept) => {
                plan.problems.push(problem);
                if let Some(kept) = kept {
                    keep_row(judge, &mut plan, *kept);
                }
            }
            Taken::Nobodys => {}
        }
    }
    known.clear();
    // Who claims a name when this batch is through: those in it by what it says, others by what they have.
    let mut claims: HashMap<String, BTreeSet<String>> = HashMap::new();
    for row in rows.values() {
        claims.entry(row.username_key.clone()).or_default().insert(row.person.object_id.clone());
    }
    let mut held: HashMap<String, Known> = HashMap::new();
    let mut gone: HashMap<String, Vec<Known>> = HashMap::new();
    for holder in holders {
        if rows.contains_key(&holder.person.object_id) {
            continue;
        }
        if holder.gives_way(judge.settings) {
            gone.entry(holder.username_key.clone()).or_default().push(holder);
        } else {
            claims.entry(holder.username_key.clone()).or_default().insert(holder.person.object_id.clone());
            held.insert(holder.username_key.clone(), holder);
        }
    }
    for (_, mut row) in rows {
        let known = row.known.take();
        let keeps_name = known.as_ref().is_some_and(|it| it.username_key == row.username_key && it.state != "removed");
        let elsewhere = judge.elsewhere.contains(&row.username_key);
        let alone = claims.get(&row.username_key).is_none_or(|claims| claims.len() == 1) && !elsewhere;
        if elsewhere {
            let text = "another domain of the forest has this username, too".into();
            plan.problems.push(Problem { who: row.user.username.clone(), text });
            plan.shared.insert(row.username_key.clone());
        }
        if !keeps_name && (!alone || plan.doubled.contains(&row.username_key)) {
            // FS-14, S-53: neither is added; an existing one keeps its id and is not taken for a leaver.
            if !elsewhere {
                let text = "this username is doubled in the directory".into();
                plan.problems.push(Problem { who: row.user.username, text });
            }
            plan.waiting.insert(row.person.object_id, row.username_key.clone());
            let holder = held.get(&row.username_key);
            if let Some(fresh) = holder.filter(|it| it.first_run == judge.run_id) {
                plan.waiting.insert(fresh.person.object_id.clone(), row.username_key.clone());
                plan.withdrawn.push(fresh.clone());
            }
            if holder.is_none_or(|it| it.first_run == judge.run_id) {
                plan.doubled.insert(row.username_key.clone());
            }
            if let Some(known) = known {
                let found = if row.outside { Found::Outside } else { Found::Inside };
                let disabled = row.user.disabled_in_directory;
                keep_row(judge, &mut plan, Kept { known, sync_item: row.sync_item, disabled, found });
            }
            continue;
        }
        for before in gone.remove(&row.username_key).into_iter().flatten() {
            let state = gone_for_another(&before, &row.user.distinguished_name);
            plan.states.push((before, state));
        }
        match known {
            None => plan.added.push(row),
            Some(known) => take_known(judge, &mut plan, row, known),
        }
    }
    plan.withdrawn.dedup_by(|one, other| one.user_id == other.user_id);
    plan
}

/// What of the entry's values is none, where the run has not said so yet.
fn unusable(judge: &Judge<'_>, row: &Row) -> Vec<UnusableValue> {
    let said = row.known.as_ref().is_some_and(|known| known.last_run == judge.run_id);
    let item = judge.items.iter().find(|item| item.name.as_str() == row.sync_item && !row.outside && !said);
    item.map_or_else(Vec::new, |item| profile::bad_numbers(item, &row.country, &row.user))
}

/// Nothing of theirs passes to who has the name now, and it goes after the time that removed users are kept (S-45). A hand that
/// disabled them is remembered.
fn gone_for_another(before: &Known, now: &str) -> NewState {
    let (by, text) = match by_machine(&before.state_by) {
        true => ("sync".into(), format!("gone from the directory; the username is that of {now} now")),
        false => (before.state_by.clone(), before.state_text.clone()),
    };
    NewState { state: "removed", by, text }
}

/// A known user whose entry is there and cannot be taken as it is.
struct Kept {
    known: Known,
    sync_item: String,
    disabled: bool,
    found: Found,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Of an item.
    Inside,
    /// Of none any more.
    Outside,
    /// It may be another's entry, which says nothing of where they are (B-75).
    Elsewhere,
}

/// The row stays as it is; that the directory disabled them, or that they are of no item any more, holds all the same.
fn keep_row(judge: &Judge<'_>, plan: &mut Plan, kept: Kept) {
    let Kept { known, sync_item, disabled, found } = kept;
    let state = next_state(&known, disables(judge, &sync_item, disabled)).filter(|next| next.state == "disabled");
    if known.state != "removed" && found == Found::Inside {
        revive(judge, plan, &known, &sync_item);
    }
    plan.states.extend(state.filter(|_| known.state == "enabled").map(|state| (known.clone(), state)));
    match found {
        Found::Outside => plan.outside.push(known.clone()),
        Found::Inside if !known.left_how.is_empty() => plan.back.push(known.user_id.clone()),
        Found::Inside | Found::Elsewhere => {}
    }
    plan.seen.push(known);
}

/// S-21: their entry is there again, which says nothing of who has had their phone meanwhile.
fn revive(judge: &Judge<'_>, plan: &mut Plan, known: &Known, sync_item: &str) {
    let item = judge.settings.sync_items.iter().find(|item| item.name.as_str() == sync_item);
    let keeps = item.is_some_and(|item| item.returning == Returning::KeepFactors);
    if known.enrols_anew(judge.settings) && !keeps {
        plan.revived.push(known.clone());
    }
}

/// FS-26
fn disables(judge: &Judge<'_>, sync_item: &str, disabled_in_directory: bool) -> bool {
    disabled_in_directory && !keeps_disabled(judge.items.iter().copied().find(|item| item.name.as_str() == sync_item))
}

fn keeps_disabled(item: Option<&SyncItem>) -> bool {
    item.is_some_and(|item| item.disabled_in_directory == DisabledInDirectory::Keep)
}

/// When the account of an item's user ends, as far as it matters here (FS-26); 0 = never.
pub fn expiry(item: Option<&SyncItem>, user: &SyncedUser) -> i64 {
    if keeps_disabled(item) { 0 } else { user.expires_unix_ms.max(0) }
}

fn take_known(judge: &Judge<'_>, plan: &mut Plan, mut row: Box<Row>, known: Known) {
    let disabled = disables(judge, &row.sync_item, row.user.disabled_in_directory);
    // Who is of no item is not enabled again by what the directory says, and stays out of service for what they are out of it.
    let stays = |next: &NewState| row.outside && (next.state != "disabled" || known.state != "enabled");
    let state = next_state(&known, disabled).filter(|next| !stays(next));
    if !row.outside {
        revive(judge, plan, &known, &row.sync_item);
    }
    plan.states.extend(state.map(|state| (known.clone(), state)));
    plan.passwords.extend(next_password(&known, &row.user.password_changed));
    let item = judge.items.iter().copied().find(|item| item.name.as_str() == row.sync_item);
    let expires_ms = expiry(item, &row.user);
    if expires_ms != known.account_expires_ms {
        plan.expiries.push((known.user_id.clone(), expires_ms));
    }
    if row.outside {
        plan.outside.push(known.clone());
    } else if !known.left_how.is_empty() {
        plan.back.push(known.user_id.clone());
    }
    let waits = row.exemption.waits.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let same = known.content == row.content
        && known.sync_item == row.sync_item
        && known.items == row.items
        && known.exempt_item == row.exemption.item
        && known.exempt_wait == waits
        && known.profile.own == row.profile.own;
    if same {
        plan.seen.push(known);
    } else {
        row.known = Some(known);
        plan.changed.push(row);
    }
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

/// The state of a new user (FS-24, FS-26): what, by whom, why.
pub fn first_state(item: Option<&SyncItem>, disabled_in_directory: bool) -> (&'static str, &'static str, String) {
    let keeps = keeps_disabled(item);
    match item {
        Some(item) if item.new_users == NewUsers::Disabled => {
            ("disabled", BY_SETTINGS, format!("new users of {} begin disabled", item.name))
        }
        _ if disabled_in_directory && !keeps => ("disabled", "directory", "disabled in the directory".into()),
        _ => ("enabled", "", String::new()),
    }
}

/// Do new users of an item have to use a PIN (FS-31)?
pub fn begin_with_pin(settings: &Settings, item: Option<&SyncItem>) -> bool {
    item.and_then(|item| item.method.pin).unwrap_or(settings.pin.new_users)
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

/// What becomes of what exempts a user. To be exempt no longer holds at once; to be newly exempt waits for the end of the run.
fn exemption(judge: &Judge<'_>, person: &Person, owner: Option<&SyncItem>, known: Option<&Known>) -> Exemption {
    let listed = known.map_or("", |it| it.exempt_wait.as_str()).split(',').filter(|it| !it.is_empty());
    let listed: BTreeSet<String> = listed.map(str::to_owned).collect();
    let before = known.map_or("", |it| it.exempt_item.as_str());
    let (item, of_item) = match owner {
        // Of nobody: as it was, until that is decided.
        None => (before.to_owned(), listed.iter().find(|it| it.starts_with(OF_ITEM)).cloned()),
        Some(owner) if owner.second_factor => (String::new(), None),
        Some(owner) if before.is_empty() => (String::new(), Some(format!("{OF_ITEM}{}", owner.name))),
        Some(owner) => (owner.name.to_string(), None),
    };
    let policies = &judge.settings.policies;
    let now = judge.graph.exempting_of(person, policies);
    // Another name, SID or primary group may have brought them in; who is new, back, or was made by hand, had none.
    let had = known.filter(|it| it.state != "removed" && !it.last_run.is_empty()).map(|it| &it.person);
    let had = had.map_or_else(BTreeSet::new, |it| {
        let had = judge.graph.exempting_of(it, policies);
        match judge.before {
            Some(before) => &had & &before.exempting_of(it, policies),
            None => had,
        }
    });
    let of_groups = listed.iter().filter(|it| !it.starts_with(OF_ITEM) && now.contains(*it)).cloned();
    let waits: BTreeSet<String> = of_groups.chain(of_item).chain(now.difference(&had).cloned()).collect();
    let newly = waits.iter().any(|it| !listed.contains(it));
    Exemption { item, waits, newly }
}

enum Taken {
    Row(Box<Row>),
    /// The entry is there, and who is known by its id stays as they are.
    Unusable(Problem, Option<Box<Kept>>),
    /// Unknown, and of no item that adds.
    Nobodys,
}

const ANOTHER_SID: &str = "has the id of a known user and another security identifier (objectSid), so it may be somebody else: the \
                           user stays as they were. Look who it is; disable the user, and what the entry says is taken";

/// B-75: an id that a server gave is of one entry, and that has one security identifier as long as its domain has it. Whom a hand
/// disabled nobody is taken for; who was removed enrols anew (S-21). An id that somebody writes may follow a person from one account to
/// the next (FD-31).
fn is_another(known: &Known, person: &Person) -> bool {
    let attribute = person.object_id.split(':').next().unwrap_or_default();
    let by_hand = known.state == "disabled" && !by_machine(&known.state_by);
    let (before, now) = (&known.person.sid, &person.sid);
    let both = before.starts_with("S-1-") && now.starts_with("S-1-");
    both && before != now && ObjectId::known_type(attribute).is_some() && known.state != "removed" && !by_hand
}

/// B-75: one that could not be read this once is compared with all the same the next time.
fn keep_sid(known: &Known, user: &mut SyncedUser, person: &mut Person) {
    if person.sid.is_empty() && known.person.sid.starts_with("S-1-") {
        (user.sid, person.sid) = (known.person.sid.clone(), known.person.sid.clone());
    }
}

fn row(judge: &Judge<'_>, rules: &Rules<'_>, read: Read, known: Option<Known>) -> Taken {
    let Read { mut user, mut person, username_key, candidates, .. } = read;
    if let Some(known) = &known {
        keep_sid(known, &mut user, &mut person);
    }
    let owner = members::owner(judge.items, &candidates, &person, judge.graph);
    let place = if owner.is_some() { Found::Inside } else { Found::Outside };
    let unusable = match &known {
        Some(known) if is_another(known, &person) => Some((ANOTHER_SID, Found::Elsewhere)),
        _ if username_key.is_empty() => Some(("has no username", place)),
        _ => None,
    };
    if let Some((text, found)) = unusable {
        let disabled = user.disabled_in_directory;
        let kept = known.map(|known| Box::new(Kept { sync_item: known.sync_item.clone(), known, disabled, found }));
        return Taken::Unusable(Problem { who: user.distinguished_name, text: text.into() }, kept);
    }
    let taken = known.is_some() || owner.is_some_and(|owner| owner.add);
    if !taken {
        return Taken::Nobodys;
    }
    let sync_item = match (owner, &known) {
        (Some(owner), _) => owner.name.to_string(),
        (None, Some(known)) => known.sync_item.clone(),
        (None, None) => return Taken::Nobodys,
    };
    // An item that is gone has said what there is; its users keep that until another has them.
    let item = judge.settings.sync_items.iter().find(|item| item.name.as_str() == sync_item);
    let country = item.map_or("", |item| profile::country(judge.settings, item)).to_owned();
    let profile = match item {
        Some(item) => Profile::of(item, &country, &user, known.as_ref()),
        None => known.as_ref().map(|it| it.profile.clone()).unwrap_or_default(),
    };
    let forms = std::iter::once(&user.username).chain(&user.names).chain(std::iter::once(&profile.mail));
    let names: BTreeMap<String, String> =
        forms.map(|name| (name_key(name), name.clone())).filter(|(key, _)| !key.is_empty()).collect();
    let search = search(&names, &profile);
    let exemption = exemption(judge, &person, owner, known.as_ref());
    Taken::Row(Box::new(Row {
        content: content(&user, item.and_then(|item| rules.get(item.name.as_str())), &country),
        items: candidates.join(","),
        outside: owner.is_none(),
        search,
        known,
        user,
        person,
        username_key,
        sync_item,
        profile,
        country,
        exemption,
        names,
    }))
}

/// What a search finds a user by, a line each.
fn search(names: &BTreeMap<String, String>, profile: &Profile) -> String {
    let mut search = String::with_capacity(128);
    let mut push = |text: &str| {
        if !text.is_empty() {
            if !search.is_empty() {
                search.push('\n');
            }
            search.push_str(text);
        }
    };
    names.keys().for_each(|key| push(key));
    push(&name_key(&format!("{} {}", profile.first_name, profile.last_name)));
    for text in [&profile.phone.number, &profile.own.number, &profile.backup.number, &profile.description] {
        push(&name_key(text));
    }
    search
}

/// What items make of users' values, by their names, as [`content`] knows it.
type Rules<'a> = HashMap<&'a str, String>;

fn rules_of(item: &SyncItem) -> String {
    let rules = (&item.update, &item.primary_phone, &item.backup_phone, &item.language, &item.user_group);
    serde_json::to_string(&rules).unwrap_or_default()
}

/// A digest of all that a row is made of: of the directory's values and of what the item makes of them. Where the same twice may
/// come to something else, it is never the same.
fn content(user: &SyncedUser, rules: Option<&String>, country: &str) -> Vec<u8> {
    let mut digest = Sha256::new();
    let mut put = |text: &str| {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text.as_bytes());
    };
    for field in [
        &user.distinguished_name,
        &user.username,
        &user.first_name,
        &user.last_name,
        &user.mail,
        &user.extension,
        &user.description,
        &user.user_group,
        &user.sid,
        &user.primary_group_sid,
    ] {
        put(field);
    }
    for phone in &user.phones {
        put(&phone.kind);
        put(&phone.number);
    }
    let languages = user.languages.clone().unwrap_or_default();
    for language in [&languages.call, &languages.text, &languages.app, &languages.code] {
        put(language);
    }
    if let Some(rules) = rules {
        put(rules);
        put(country);
    }
    for name in &user.names {
        put(name);
    }
    digest.finalize().to_vec()
}
