//! Groups as a run reads them, and what follows for those who came in or went: whose they are, what exempts them, and that
//! nothing of theirs is remembered (V-52).

use super::back_links::{Depth, Reach};
use super::leavers::{How, MISSED, Mark};
use super::members::{self, Graph, Group, Person, dn_key, member_key, sid_key};
use super::rows::raise_epochs;
use super::run::Mode;
use super::write::{Batch, MissedBefore};
use super::{leavers, pending};
use crate::facts::groups::DEPTH_MAX;
use crate::rpc::{StoreError, bounded};
use crate::sql::{Arg, Row, Session, args};
use domain::ObjectId;
use proto::user_store::SyncedGroup;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A group as it was read.
struct Read {
    group: Group,
    name: String,
    distinguished_name: String,
    members: BTreeSet<String>,
    content: Vec<u8>,
}

impl Read {
    fn of(synced: SyncedGroup) -> Option<Self> {
        let object_id = synced.object_id.parse::<ObjectId>().ok()?.to_string();
        let distinguished_name = bounded(&synced.distinguished_name, 2048);
        let (name, dn_key, sid) = (bounded(&synced.name, 256), dn_key(&distinguished_name), sid_key(&synced.sid));
        let members: BTreeSet<String> = synced.members.iter().map(|name| member_key(&bounded(name, 2048))).collect();
        let mut digest = Sha256::new();
        for part in [&distinguished_name, &name, &sid].into_iter().chain(&members) {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let content = digest.finalize().to_vec();
        Some(Self { group: Group { object_id, dn_key, sid }, name, distinguished_name, members, content })
    }
}

/// What changed in a group.
struct Changed {
    group: Group,
    /// Its names before; `None` = it was not known.
    before: Option<Group>,
    came: BTreeSet<String>,
    went: BTreeSet<String>,
}

impl Changed {
    /// Rules name groups by their DN, too: under another one, all in it may fall under others.
    fn renamed(&self) -> bool {
        self.before.as_ref().is_some_and(|before| before.dn_key != self.group.dn_key)
    }
}

/// Groups with their members, before the chain's lock: nothing a login waits for.
pub async fn write(session: &mut Session, batch: &Batch<'_>, groups: Vec<SyncedGroup>) -> Result<Moves, StoreError> {
    let read: BTreeMap<String, Read> =
        groups.into_iter().filter_map(Read::of).map(|read| (read.group.object_id.clone(), read)).collect();
    let mut known: HashMap<String, (Group, Vec<u8>)> = HashMap::new();
    let head = "SELECT object_id, dn_key, sid, content FROM user_groups WHERE object_id IN";
    let (tail, directory) = ("AND directory = $257", [Arg::from(&batch.groups_of)]);
    for row in session.rows_in(head, read.keys().map(String::as_str), tail, &directory).await? {
        let group = Group::of(&row)?;
        known.insert(group.object_id.clone(), (group, row.get("content")?));
    }
    let (mut rows, mut seen, mut stale) = (Vec::new(), Vec::new(), Vec::new());
    for (object_id, read) in &read {
        if known.get(object_id).is_some_and(|(_, content)| *content == read.content) {
            seen.push(object_id.as_str());
            continue;
        }
        stale.push(object_id.as_str());
        rows.push(args![
            &batch.groups_of,
            object_id,
            &read.distinguished_name,
            &read.group.dn_key,
            &read.group.sid,
            &read.name,
            &batch.run.run_id,
            read.content.as_slice(),
            "",
        ]);
    }
    let head = "INSERT INTO user_groups (directory, object_id, distinguished_name, dn_key, sid, name, last_run, content, left_run)";
    let tail = "ON CONFLICT (directory, object_id) DO UPDATE SET distinguished_name = excluded.distinguished_name, \
                dn_key = excluded.dn_key, sid = excluded.sid, name = excluded.name, last_run = excluded.last_run, \
                content = excluded.content, left_run = excluded.left_run";
    session.bulk(head, rows, tail).await?;
    met(session, batch, &seen).await?;
    let before = members_of(session, &batch.groups_of, &stale).await?;
    let mut changed = Vec::new();
    let (mut came, mut went) = (Vec::new(), Vec::new());
    for object_id in stale {
        let read = &read[object_id];
        let was = before.get(object_id).cloned().unwrap_or_default();
        let change = Changed {
            group: read.group.clone(),
            before: known.remove(object_id).map(|(group, _)| group),
            came: read.members.difference(&was).cloned().collect(),
            went: was.difference(&read.members).cloned().collect(),
        };
        came.extend(change.came.iter().map(|key| args![&batch.groups_of, object_id, key.to_owned()]));
        went.extend(change.went.iter().map(|key| args![&batch.groups_of, object_id, key.to_owned()]));
        changed.push((change, was));
    }
    forget_members(session, went).await?;
    session.bulk("INSERT INTO group_members (directory, object_id, member_key)", came, "").await?;
    follow(session, batch, changed).await
}

/// By what keys the groups of a batch are known.
pub fn keys(groups: &[SyncedGroup]) -> BTreeSet<String> {
    let names = groups.iter().flat_map(|group| [&group.object_id, &group.distinguished_name, &group.sid]);
    names.filter(|name| !name.is_empty()).map(|name| member_key(&bounded(name, 2048))).collect()
}

/// Groups that are there, unchanged.
pub async fn met(session: &mut Session, batch: &Batch<'_>, object_ids: &[&str]) -> Result<(), StoreError> {
    let head = "UPDATE user_groups SET last_run = $257, left_run = '' WHERE object_id IN";
    let arguments = [Arg::from(&batch.run.run_id), Arg::from(&batch.groups_of)];
    let tail = "AND directory = $258 AND (last_run <> $257 OR left_run <> '')";
    session.execute_in(head, object_ids.iter().copied(), tail, &arguments).await?;
    Ok(())
}

/// Takes groups away that are gone for certain, and remembers of the others that they were missed by this run (S-43).
pub async fn leave(session: &mut Session, batch: &Batch<'_>, left: &[(String, How)]) -> Result<Moves, StoreError> {
    let hows: HashMap<&str, How> = left.iter().map(|(object_id, how)| (object_id.as_str(), *how)).collect();
    let head = "SELECT object_id, dn_key, sid, left_run FROM user_groups WHERE object_id IN";
    let (tail, directory) = ("AND directory = $257", [Arg::from(&batch.groups_of)]);
    let (mut gone, mut missed) = (Vec::new(), Vec::new());
    for row in session.rows_in(head, hows.keys().copied(), tail, &directory).await? {
        let group = Group::of(&row)?;
        let how = hows.get(group.object_id.as_str()).copied().unwrap_or(How::Absent);
        let before: String = row.get("left_run")?;
        match how {
            How::Absent if batch.run.mode != Mode::Full && !before.is_empty() => {}
            How::Absent => match batch.missed_before(&before) {
                MissedBefore::No => missed.push(group.object_id),
                MissedBefore::JustNow => {}
                MissedBefore::Yes => gone.push(group),
            },
            How::Deleted | How::Outside => gone.push(group),
        }
    }
    let head = "UPDATE user_groups SET left_run = $257 WHERE object_id IN";
    let arguments = [Arg::from(&batch.run.run_id), Arg::from(&batch.groups_of)];
    session.execute_in(head, missed.iter().map(String::as_str), "AND directory = $258", &arguments).await?;
    let ids: Vec<&str> = gone.iter().map(|group| group.object_id.as_str()).collect();
    let mut before = members_of(session, &batch.groups_of, &ids).await?;
    // What follows is judged while they still stand, and then they go.
    let changed = gone.iter().map(|group| {
        let went = before.remove(&group.object_id).unwrap_or_default();
        let change = Changed { group: group.clone(), before: Some(group.clone()), came: BTreeSet::new(), went };
        (change, BTreeSet::new())
    });
    let moves = found(session, batch, changed.collect()).await?;
    session.execute_in("DELETE FROM user_groups WHERE object_id IN", ids, tail, &directory).await?;
    decided(session, batch, moves).await
}

async fn members_of(
    session: &mut Session,
    groups_of: &str,
    object_ids: &[&str],
) -> Result<HashMap<String, BTreeSet<String>>, StoreError> {
    let mut members: HashMap<String, BTreeSet<String>> = HashMap::new();
    let head = "SELECT object_id, member_key FROM group_members WHERE object_id IN";
    let directory = [Arg::from(groups_of)];
    for row in session.rows_in(head, object_ids.iter().copied(), "AND directory = $257", &directory).await? {
        members.entry(row.get("object_id")?).or_default().insert(row.get("member_key")?);
    }
    Ok(members)
}

async fn forget_members(session: &mut Session, went: Vec<Vec<Arg<'_>>>) -> Result<(), StoreError> {
    let tail = ") DELETE FROM group_members WHERE (directory, object_id, member_key) IN \
                (SELECT directory, object_id, member_key FROM v)";
    session.bulk("WITH v (directory, object_id, member_key) AS (", went, tail).await?;
    Ok(())
}

/// Whom changes of groups concern; written under the chain's lock by [`Moves::write`].
#[derive(Default)]
pub struct Moves {
    /// Ids of all users who are in other groups than before.
    users: Vec<String>,
    /// Whose they are now, where that is nobody, or somebody again.
    marks: Vec<Mark>,
    back: Vec<String>,
    /// Groups that exempt and do not count for them yet.
    waits: Vec<(String, BTreeSet<String>)>,
    /// Keys of those whom a filter may fit now, or no longer: only the directory can say.
    refit: BTreeSet<String>,
}

/// A user some change of a group concerns.
struct Member {
    user_id: String,
    person: Person,
    items: Vec<String>,
    sync_item: String,
    left_how: String,
    exempt_wait: String,
}

impl Member {
    const COLUMNS: &str = "SELECT user_id, directory, object_id, dn_key, sid, primary_group, items, sync_item, left_how, \
                           exempt_wait, state FROM users WHERE";

    fn of(row: &Row) -> Result<Self, sqlx::Error> {
        let (object_id, dn_key) = (row.get("object_id")?, row.get("dn_key")?);
        let items: String = row.get("items")?;
        Ok(Self {
            user_id: row.get("user_id")?,
            person: Person { object_id, dn_key, sid: row.get("sid")?, primary_group: row.get("primary_group")? },
            items: items.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            sync_item: row.get("sync_item")?,
            left_how: row.get("left_how")?,
            exempt_wait: row.get("exempt_wait")?,
        })
    }
}

async fn follow(
    session: &mut Session,
    batch: &Batch<'_>,
    changed: Vec<(Changed, BTreeSet<String>)>,
) -> Result<Moves, StoreError> {
    let found = found(session, batch, changed).await?;
    decided(session, batch, found).await
}

/// Keys of members that came or went, with all that is in the groups among them.
#[derive(Default)]
struct Found {
    /// By key, of which of the changes, and whether it came. Who came and went by two of their names has not moved.
    moved: HashMap<String, BTreeSet<(usize, bool)>>,
    /// Of groups that are the source of an item, or in one.
    concerned: BTreeSet<String>,
    /// Of those that came.
    newcomers: BTreeSet<String>,
    /// Of those whom filters look at by their groups.
    looked_at: BTreeSet<String>,
    /// By key, the groups that exempt: by what came, and by what went.
    exempting: HashMap<String, BTreeSet<String>>,
    exempted: HashMap<String, BTreeSet<String>>,
}

/// Members of one change.
struct Side {
    keys: BTreeSet<String>,
    /// Which of the changes, and whether they came.
    of: (usize, bool),
    concerns: bool,
    /// Filters look at the group, or at one that it is in.
    looked_at: bool,
    exempting: BTreeSet<String>,
}

async fn found(
    session: &mut Session,
    batch: &Batch<'_>,
    changed: Vec<(Changed, BTreeSet<String>)>,
) -> Result<Found, StoreError> {
    let mut found = Found::default();
    if changed.is_empty() || batch.run.is_preview() {
        return Ok(found);
    }
    let graph = Graph::over(session, &batch.groups_of, changed.iter().map(|(it, _)| it.group.clone())).await?;
    graph.tell(session, batch.run).await?;
    let looked_at = looked_at(&batch.reach, &graph, changed.iter().map(|(change, _)| change));
    let mut sides = Vec::new();
    for (place, (change, was)) in changed.into_iter().enumerate() {
        sides.extend(sides_of(batch, &graph, place, change, &was, looked_at.contains(&place)));
    }
    for side in sides {
        if side.looked_at && batch.reach.depth == Depth::Members {
            found.looked_at.extend(side.keys.iter().cloned());
        }
        let below = below(session, batch, side.keys).await?;
        if side.looked_at && batch.reach.depth == Depth::Within {
            found.looked_at.extend(below.iter().cloned());
        }
        let came = side.of.1;
        if side.concerns {
            found.concerned.extend(below.iter().cloned());
            if came {
                found.newcomers.extend(below.iter().cloned());
            }
        }
        let exempts = if came { &mut found.exempting } else { &mut found.exempted };
        for key in &below {
            if !side.exempting.is_empty() {
                exempts.entry(key.clone()).or_default().extend(side.exempting.iter().cloned());
            }
            found.moved.entry(key.clone()).or_default().insert(side.of);
        }
    }
    Ok(found)
}

/// Which of the changes are of groups that filters look at, or of groups that are in one, or went from one together with who went from
/// them.
fn looked_at<'a>(reach: &Reach, graph: &Graph, changed: impl Iterator<Item = &'a Changed> + Clone) -> BTreeSet<usize> {
    if reach.depth == Depth::Nowhere {
        return BTreeSet::new();
    }
    let names = |change: &Changed| {
        let before = change.before.as_ref().is_some_and(|before| reach.names(before));
        before
            || match reach.depth {
                Depth::Within => graph.is_in(&change.group, |group| reach.names(group)),
                Depth::Members | Depth::Nowhere => reach.names(&change.group),
            }
    };
    let mut found: BTreeSet<usize> =
        changed.clone().enumerate().filter(|(_, change)| names(change)).map(|(place, _)| place).collect();
    if reach.depth != Depth::Within {
        return found;
    }
    loop {
        let of_found = changed.clone().enumerate().filter(|(place, _)| found.contains(place));
        let went: BTreeSet<&str> = of_found.flat_map(|(_, change)| &change.went).map(String::as_str).collect();
        let with_them = |change: &Changed| {
            let before = change.before.iter().flat_map(Group::keys);
            change.group.keys().chain(before).any(|key| went.contains(key))
        };
        let more = changed.clone().enumerate().filter(|(_, change)| with_them(change)).map(|(place, _)| place);
        let before = found.len();
        found = more.chain(found.iter().copied()).collect();
        if found.len() == before {
            return found;
        }
    }
}

/// Who came, who went, and, of a group with another name, who stays.
fn sides_of(
    batch: &Batch<'_>,
    graph: &Graph,
    place: usize,
    change: Changed,
    was: &BTreeSet<String>,
    looked_at: bool,
) -> Vec<Side> {
    let policies = &batch.settings.policies;
    let concerns = batch.items.iter().any(|item| {
        let by_name = |before: &Group| item.source.id.is_none() && before.dn_key == dn_key(&item.source.dn);
        graph.concerns(&change.group, item) || change.before.as_ref().is_some_and(by_name)
    });
    let exempting = graph.exempting_over(&change.group, policies);
    let mut sides = Vec::new();
    if change.renamed() {
        let stay = was.difference(&change.went).chain(&change.came);
        let keys = stay.cloned().collect();
        // Mapped under its new name and not under the one before: for those in it that is new.
        let before = change.before.as_ref().is_some_and(|before| before.exempts(policies));
        let exempting = if before { BTreeSet::new() } else { exempting.clone() };
        // Of no change that is undone by another.
        sides.push(Side { keys, of: (usize::MAX - place, true), concerns, looked_at, exempting });
    }
    sides.push(Side { keys: change.went, of: (place, false), concerns, looked_at, exempting: exempting.clone() });
    sides.push(Side { keys: change.came, of: (place, true), concerns, looked_at, exempting });
    sides.retain(|side| !side.keys.is_empty());
    sides
}

/// These keys and, of groups among them, all that is in them; as deep as groups are followed for a decision, and each once. Of
/// a primary group no list says who is in it: those the store knows.
async fn below(
    session: &mut Session,
    batch: &Batch<'_>,
    keys: BTreeSet<String>,
) -> Result<BTreeSet<String>, StoreError> {
    let mut found = keys;
    let mut level = found.clone();
    let mut sids: BTreeSet<String> = BTreeSet::new();
    for _ in 0..DEPTH_MAX {
        let groups = groups_named(session, &batch.groups_of, &level).await?;
        sids.extend(groups.iter().map(|group| group.sid.clone()).filter(|sid| !sid.is_empty()));
        let groups: Vec<&str> = groups.iter().map(|group| group.object_id.as_str()).collect();
        let inside = members_of(session, &batch.groups_of, &groups).await?;
        level = inside.into_values().flatten().filter(|key| !found.contains(key)).collect();
        if level.is_empty() {
            break;
        }
        found.extend(level.iter().cloned());
    }
    if let Some(group) = groups_named(session, &batch.groups_of, &level).await?.first() {
        batch.run.is_incomplete(session, &members::too_deep(&group.dn_key)).await?;
    }
    let head = "SELECT directory, object_id FROM users WHERE primary_group <> '' AND primary_group IN";
    for row in session.rows_in(head, sids.iter().map(String::as_str), "", &[]).await? {
        if row.get::<String>("directory")? == batch.run.directory {
            found.insert(row.get("object_id")?);
        }
    }
    Ok(found)
}

/// The groups among these keys.
async fn groups_named(
    session: &mut Session,
    groups_of: &str,
    keys: &BTreeSet<String>,
) -> Result<Vec<Group>, StoreError> {
    let mut groups = Vec::new();
    for (column, form) in
        [("dn_key", members::Form::Dn), ("object_id", members::Form::ObjectId), ("sid", members::Form::Sid)]
    {
        let head =
            format!("SELECT directory, object_id, dn_key, sid FROM user_groups WHERE {column} <> '' AND {column} IN");
        let keys = keys.iter().map(String::as_str).filter(|key| members::form(key) == form);
        // The directory is compared here: with it in the condition SQLite would walk all groups of the directory.
        let rows = match form {
            members::Form::ObjectId => {
                session.rows_in(&head, keys, "AND directory = $257", &[Arg::from(groups_of)]).await?
            }
            members::Form::Dn | members::Form::Sid => session.rows_in(&head, keys, "", &[]).await?,
        };
        for row in rows {
            if row.get::<String>("directory")? == groups_of {
                groups.push(Group::of(&row)?);
            }
        }
    }
    Ok(groups)
}

/// The users among these keys.
async fn users_named(
    session: &mut Session,
    directory: &str,
    keys: &BTreeSet<String>,
) -> Result<Vec<Member>, StoreError> {
    let mut found: BTreeMap<String, Member> = BTreeMap::new();
    for (column, form) in
        [("dn_key", members::Form::Dn), ("object_id", members::Form::ObjectId), ("sid", members::Form::Sid)]
    {
        let head = format!("{} {column} <> '' AND {column} IN", Member::COLUMNS);
        let keys = keys.iter().map(String::as_str).filter(|key| members::form(key) == form);
        let rows = match form {
            members::Form::ObjectId => {
                session.rows_in(&head, keys, "AND directory = $257", &[Arg::from(directory)]).await?
            }
            members::Form::Dn | members::Form::Sid => session.rows_in(&head, keys, "", &[]).await?,
        };
        for row in rows {
            if row.get::<String>("directory")? == directory {
                let member = Member::of(&row)?;
                found.insert(member.user_id.clone(), member);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Decides about the known ones anew, and lists the unknown ones to be read.
async fn decided(session: &mut Session, batch: &Batch<'_>, found: Found) -> Result<Moves, StoreError> {
    let mut moves = Moves::default();
    if found.moved.is_empty() {
        return Ok(moves);
    }
    let keys: BTreeSet<String> = found.moved.keys().cloned().collect();
    let users = users_named(session, &batch.run.directory, &keys).await?;
    let judged: Vec<&Member> =
        users.iter().filter(|it| it.person.keys().any(|key| found.concerned.contains(key))).collect();
    let mut again = judge(session, batch, &judged, &mut moves).await?;
    let known: BTreeSet<&str> = users.iter().flat_map(|it| it.person.keys()).collect();
    let groups = groups_named(session, &batch.groups_of, &found.newcomers).await?;
    let groups: BTreeSet<&str> = groups.iter().flat_map(Group::keys).collect();
    let unknown = found.newcomers.iter().filter(|key| !known.contains(key.as_str()) && !groups.contains(key.as_str()));
    again.extend(unknown.cloned());
    pending::add(session, batch.run, again.iter().map(String::as_str)).await?;
    moves.refit = refit(session, batch, &found.looked_at, &users).await?;
    for member in users {
        let all = |sets: &HashMap<String, BTreeSet<String>>| -> BTreeSet<String> {
            member.person.keys().filter_map(|key| sets.get(key)).flatten().cloned().collect()
        };
        let (exempting, exempted) = (all(&found.exempting), all(&found.exempted));
        let newly: BTreeSet<String> = exempting.difference(&exempted).cloned().collect();
        if !newly.is_empty() {
            let waits = member.exempt_wait.split(',').filter(|id| !id.is_empty()).map(str::to_owned);
            moves.waits.push((member.user_id.clone(), waits.chain(newly).collect()));
        }
        let sides: BTreeSet<(usize, bool)> =
            member.person.keys().filter_map(|key| found.moved.get(key)).flatten().copied().collect();
        if sides.iter().any(|(place, came)| !sides.contains(&(*place, !came))) {
            moves.users.push(member.user_id);
        }
    }
    Ok(moves)
}

/// Of these keys, those of people: of whom the store knows, each by the id.
async fn refit(
    session: &mut Session,
    batch: &Batch<'_>,
    looked_at: &BTreeSet<String>,
    users: &[Member],
) -> Result<BTreeSet<String>, StoreError> {
    let of_users = users.iter().filter(|it| it.person.keys().any(|key| looked_at.contains(key)));
    let mut refit: BTreeSet<String> = of_users.map(|it| it.person.object_id.clone()).collect();
    // A full run meets everybody else where they lie, and reads them after their groups.
    if batch.run.mode == Mode::Incremental && !looked_at.is_empty() {
        let known: BTreeSet<&str> = users.iter().flat_map(|it| it.person.keys()).collect();
        let groups = groups_named(session, &batch.groups_of, looked_at).await?;
        let groups: BTreeSet<&str> = groups.iter().flat_map(Group::keys).collect();
        let unknown = looked_at.iter().filter(|key| !known.contains(key.as_str()) && !groups.contains(key.as_str()));
        refit.extend(unknown.cloned());
    }
    Ok(refit)
}

/// Whose these are now. Returns who is to be read again: what follows from another item needs the values of the directory.
async fn judge(
    session: &mut Session,
    batch: &Batch<'_>,
    members: &[&Member],
    moves: &mut Moves,
) -> Result<BTreeSet<String>, StoreError> {
    let graph = Graph::above(session, &batch.groups_of, members.iter().map(|it| &it.person)).await?;
    graph.tell(session, batch.run).await?;
    let mut again = BTreeSet::new();
    for member in members {
        if member.items.is_empty() {
            // Of no item, or not read since items are kept: what groups say changes nothing.
            continue;
        }
        match members::owner(&batch.items, &member.items, &member.person, &graph) {
            None if matches!(member.left_how.as_str(), "" | MISSED) => {
                moves.marks.push(Mark { user_id: member.user_id.clone(), how: How::Outside });
            }
            None => {}
            Some(owner) => {
                if member.left_how == How::Outside.code() {
                    moves.back.push(member.user_id.clone());
                }
                // Who was gone and came back where no item is may be of one now; what follows is for a read of them (S-21).
                let left = !matches!(member.left_how.as_str(), "" | MISSED);
                if left || owner.name.as_str() != member.sync_item {
                    again.insert(member.person.object_id.clone());
                }
            }
        }
    }
    Ok(again)
}

impl Moves {
    /// Who is to be read again for the filters, and later than whatever was read before these groups were.
    pub fn take_refit(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.refit)
    }

    /// They concern nobody.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.marks.is_empty() && self.back.is_empty() && self.waits.is_empty()
    }

    /// V-52: who is in other groups than before may fall under another policy, so nothing of theirs is remembered. Returns whom it
    /// was. The caller holds the chain's lock.
    pub async fn write(self, session: &mut Session, batch: &Batch<'_>) -> Result<Vec<String>, StoreError> {
        raise_epochs(session, &self.users.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        leavers::mark(session, batch, self.marks).await?;
        leavers::unmark(session, &self.back.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let waits = self
            .waits
            .into_iter()
            .map(|(user_id, groups)| args![user_id, groups.into_iter().collect::<Vec<_>>().join(",")]);
        write_waits(session, waits.collect()).await?;
        Ok(self.users)
    }
}

/// S-46: until it is decided that these groups exempt them, they do not.
pub async fn write_waits(session: &mut Session, waits: Vec<Vec<Arg<'_>>>) -> Result<(), StoreError> {
    let tail = ") UPDATE users SET exempt_wait = v.exempt_wait, due = CASE WHEN users.due = '' THEN 'exempt' ELSE users.due END \
                FROM v WHERE users.user_id = v.user_id";
    session.bulk("WITH v (user_id, exempt_wait) AS (", waits, tail).await?;
    Ok(())
}
