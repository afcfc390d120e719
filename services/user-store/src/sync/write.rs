//! One batch, in one transaction: what it says of groups, users and containers, who left, and where the feed continues (S-02).

use super::back_links::Reach;
use super::groups::{self, Moves};
use super::leavers::{self, How};
use super::members::{self, Graph, Person};
use super::run::{Mode, Run};
use super::users::{Judge, Known, Plan, Problem, Read};
use super::{
    BATCH_MAX, MINUTE_MS, containers, expiry, fence, forest, hands, history, items, pending, pins, preview, rows,
    source, unusable, users,
};
use crate::Store;
use crate::audit;
use crate::metrics::Timed;
use crate::rpc::StoreError;
use crate::sql::{Arg, Row, Session, args};
use domain::ObjectId;
use domain::settings::{Settings, SourceKind, SyncItem};
use proto::user_store::{ApplyBatchReply, ApplyBatchRequest, SyncedUser};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;
use tonic::Status;

/// Problems named in a reply; the rest is counted.
const PROBLEMS_MAX: usize = 200;
/// Runs of before that are looked at for whom they missed.
const RUNS_MAX: i64 = 1_000;

/// What a batch is judged by.
pub struct Batch<'a> {
    pub run: &'a Run,
    pub settings: &'a Settings,
    /// Of the directory, in their order.
    pub items: Vec<&'a SyncItem>,
    /// Under what name its groups stand.
    pub groups_of: String,
    /// How far the filters look at groups.
    pub reach: Reach,
    pub now_ms: i64,
    /// Runs before this one that ended complete, and whether that is a minute ago.
    whole: HashMap<String, bool>,
}

/// What it says of something that an earlier run missed it (S-43).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissedBefore {
    /// None did, or it was not complete.
    No,
    /// Less than a minute ago: what hid it then, a right or a server that was away for a moment, may hide it still.
    JustNow,
    Yes,
}

impl Batch<'_> {
    /// `left_run` is the run that missed something first.
    pub fn missed_before(&self, left_run: &str) -> MissedBefore {
        match self.whole.get(left_run) {
            None => MissedBefore::No,
            Some(false) => MissedBefore::JustNow,
            Some(true) => MissedBefore::Yes,
        }
    }

    /// Does it matter who is in which group?
    fn asks_for_groups(&self) -> bool {
        let of_items = self.items.iter().any(|item| item.source.kind == SourceKind::Group);
        of_items || self.settings.policies.iter().any(|rule| rule.then.exempt && !rule.when.groups.is_empty())
    }
}

pub async fn apply(store: &Store, request: ApplyBatchRequest) -> Result<ApplyBatchReply, StoreError> {
    bounded(&request)?;
    let (database, store) = (store.database().clone(), store.clone());
    // Thousands of short statements.
    let applied = database.briefly_apart(async move { apply_apart(&store, request).await }).await;
    applied.map_err(|_| StoreError::Broken("a batch ended before its time"))?
}

async fn apply_apart(store: &Store, request: ApplyBatchRequest) -> Result<ApplyBatchReply, StoreError> {
    let began = Instant::now();
    let now_ms = store.at(request.now_unix_ms);
    let left = leavers::left_of(&request.left)?;
    let mut session = store.database().write_direct().await?;
    session.go_by_keys().await?;
    fence(&mut session, request.epoch).await?;
    let run = Run::running(&mut session, &request.run_id).await?;
    let mut settings = store.rules().current(&mut session).await?;
    if run.is_preview() {
        settings = preview::drafted(settings, &run.directory, &request.draft_items)?;
    }
    let settings = pins::applied(&mut session, &run, settings).await?;
    let items = items(&settings, &run.directory, run.is_preview());
    let batch = Batch {
        reach: Reach::of(settings.directory(&run.directory), &items),
        items,
        groups_of: run.groups_of(),
        whole: whole(&mut session, &run, &left, store.clock().now_ms()).await?,
        run: &run,
        settings: &settings,
        now_ms,
    };
    let present = ids(&request.present);
    let mut reply = match run.mode {
        Mode::Preview => preview::apply(&mut session, &batch, request, &present, &left).await?,
        Mode::Full | Mode::Incremental => {
            let (reply, changed_users) = write(store, &mut session, &batch, request, &present, &left).await?;
            session.commit().await?;
            changed_users.iter().for_each(|user_id| store.teller().user_changed(user_id));
            if grown(run.added, u64::from(reply.added)) {
                // Nothing depends on it but the time the next batches take.
                let tables = ["users", "names", "user_groups", "group_members"];
                if let Err(error) = store.database().count(&tables).await {
                    tracing::debug!(error = %error, "the tables could not be counted");
                }
            }
            store.metrics().took(Timed::SyncBatch, began.elapsed());
            return Ok(told(reply));
        }
    };
    session.commit().await?;
    reply = told(reply);
    Ok(reply)
}

/// Have the users of a run come to twice as many as before, and to many?
fn grown(before: u64, added: u64) -> bool {
    let size = |users: u64| (users / 1_000).checked_ilog2();
    size(before) != size(before + added)
}

fn bounded(request: &ApplyBatchRequest) -> Result<(), Status> {
    for (what, count) in [
        ("users", request.users.len()),
        ("groups", request.groups.len()),
        ("containers", request.containers.len()),
        ("present", request.present.len()),
        ("left", request.left.len()),
        ("settled", request.settled.len()),
    ] {
        if count > BATCH_MAX {
            return Err(Status::invalid_argument(format!("{what}: a batch has at most {BATCH_MAX}")));
        }
    }
    Ok(())
}

fn told(mut reply: ApplyBatchReply) -> ApplyBatchReply {
    let more = reply.problems.len().saturating_sub(PROBLEMS_MAX);
    reply.problems.truncate(PROBLEMS_MAX);
    if more > 0 {
        reply.problems.push(format!("and {more} more"));
    }
    reply
}

/// What has no id we could know is nobody's.
fn ids(texts: &[String]) -> Vec<String> {
    texts.iter().filter_map(|text| Some(text.parse::<ObjectId>().ok()?.to_string())).collect()
}

/// Complete runs of before that wrote, each with whether it ended a minute ago by the store's clock: leaders have clocks of their own.
/// One that ends in the future did so before the clock was set back, and how long ago that is nobody knows. Nobody asks where nobody is
/// absent.
async fn whole(
    session: &mut Session,
    run: &Run,
    left: &[(String, How)],
    now_ms: i64,
) -> Result<HashMap<String, bool>, StoreError> {
    if !left.iter().any(|(_, how)| *how == How::Absent) {
        return Ok(HashMap::new());
    }
    let sql = "SELECT run_id, finished_ms FROM sync_runs WHERE directory = $1 AND mode <> 'preview' AND state IN ('done', 'parked') \
               AND run_id <> $2 AND finished_ms <= $3 ORDER BY started_ms DESC LIMIT $4";
    let rows = session.rows(sql, args![&run.directory, &run.run_id, now_ms, RUNS_MAX]).await?;
    let ended = |row: &Row| Ok((row.get("run_id")?, row.get::<i64>("finished_ms")? <= now_ms - MINUTE_MS));
    Ok(rows.iter().map(ended).collect::<Result<_, sqlx::Error>>()?)
}

async fn write(
    store: &Store,
    session: &mut Session,
    batch: &Batch<'_>,
    request: ApplyBatchRequest,
    present: &[String],
    left: &[(String, How)],
) -> Result<(ApplyBatchReply, Vec<String>), StoreError> {
    let run = batch.run;
    let present: Vec<&str> = present.iter().map(String::as_str).collect();
    // Before what this batch itself finds doubtful.
    pending::settle(session, &request.settled).await?;
    containers::write(session, run, request.containers).await?;
    let mut read = groups::keys(&request.groups);
    let mut moves: Vec<Moves> = vec![groups::write(session, batch, request.groups).await?];
    groups::met(session, batch, &present).await?;
    moves.push(groups::leave(session, batch, left).await?);
    let gone: Vec<&str> = left.iter().map(|(object_id, _)| object_id.as_str()).collect();
    containers::gone(session, run, &gone).await?;
    pending::gone(session, run, &gone).await?;
    // Users are planned on what moved groups made of them: a plan that does not know it would take it back.
    let (mut head, mut changed_users) = (None, Vec::new());
    let refit: BTreeSet<String> = moves.iter_mut().flat_map(Moves::take_refit).collect();
    if moves.iter().any(|moves| !moves.is_empty()) {
        head = Some(audit::lock(session).await?);
        for moves in moves {
            changed_users.extend(moves.write(session, batch).await?);
        }
    }
    let (keys, plan) = planned(session, batch, request.users).await?;
    read.extend(keys);
    // What moves of groups made doubtful was read with this batch.
    pending::read(session, run, read.iter().map(String::as_str)).await?;
    // But not for the filters: a user of this batch may have been read before a group of it was.
    pending::add(session, run, refit.iter().map(String::as_str)).await?;
    let head = match head {
        Some(head) => head,
        None => audit::lock(session).await?,
    };
    let problems = problems(&plan);
    unusable::note(session, &run.run_id, plan.unusable.len() as u64, &plan.unusable).await?;
    let written = rows::write(session, store.seal(), batch, plan).await?;
    leavers::leave(session, batch, left).await?;
    leavers::present(session, batch, &present).await?;
    source::continues(session, run, request.position).await?;
    let sql = "UPDATE sync_runs SET added = added + $1, changed = changed + $2, unchanged = unchanged + $3 \
               WHERE run_id = $4";
    session.execute(sql, args![written.added, written.changed, written.unchanged, &run.run_id]).await?;
    history::note(session, &run.run_id, written.changes).await?;
    if !written.events.is_empty() {
        audit::append(session, head, written.events).await?;
    }
    changed_users.extend(written.users);
    let (added, changed, unchanged) = (written.added, written.changed, written.unchanged);
    Ok((ApplyBatchReply { added, changed, unchanged, problems }, changed_users))
}

/// A line each.
pub fn problems(plan: &Plan) -> Vec<String> {
    let problems = plan.problems.iter().map(|Problem { who, text }| format!("{who}: {text}"));
    let unusable = plan.unusable.iter().map(|it| format!("{}: {} {}", it.entry, it.attribute, it.why));
    problems.chain(unusable).collect()
}

/// What becomes of the users of a batch, and by what keys they are known.
pub async fn planned(
    session: &mut Session,
    batch: &Batch<'_>,
    synced: Vec<SyncedUser>,
) -> Result<(Vec<String>, Plan), StoreError> {
    let (mut read, mut problems) = (Vec::with_capacity(synced.len()), Vec::new());
    for mut user in synced {
        // Since it was read, or by a clock that is behind ours.
        user.disabled_in_directory |= expiry::is_over(user.expires_unix_ms, batch.now_ms);
        match Read::of(user) {
            Ok(user) => read.push(user),
            Err(problem) => problems.push(problem),
        }
    }
    let directory = &batch.run.directory;
    let ids: BTreeSet<&str> = read.iter().map(|it| it.person.object_id.as_str()).collect();
    let mut known = rows::with_ids(session, directory, ids.into_iter()).await?;
    let head = "SELECT name_key FROM sync_doubles WHERE name_key IN";
    let run_id = [Arg::from(&batch.run.run_id)];
    let marked =
        session.rows_in(head, Written::marks(&read).iter().map(String::as_str), "AND run_id = $257", &run_id).await?;
    let marked = marked.iter().map(|row| row.get("name_key")).collect::<Result<_, _>>()?;
    let written = Written::of(&read, &known, batch.run, &marked);
    let settled = "DELETE FROM sync_doubles WHERE name_key IN";
    session.execute_in(settled, written.settled.iter().map(String::as_str), "AND run_id = $257", &run_id).await?;
    let (refused, read): (Vec<Read>, Vec<Read>) = read.into_iter().partition(|it| written.has(&it.person.object_id));
    let names: BTreeSet<&str> = read.iter().map(|it| it.username_key.as_str()).collect();
    let holders = rows::with_names(session, &[directory], names.iter().copied()).await?;
    let elsewhere = forest::names_elsewhere(session, batch.settings, directory, names.iter().copied()).await?;
    let doubled = session.rows_in(head, names, "AND run_id = $257", &run_id).await?;
    let doubled = doubled.iter().map(|row| row.get("name_key")).collect::<Result<_, _>>()?;
    let graph = match batch.asks_for_groups() {
        true => {
            let people: Vec<Person> =
                read.iter().map(|it| &it.person).chain(known.values().map(|it| &it.person)).cloned().collect();
            let graph = Graph::above(session, &batch.groups_of, people.iter()).await?;
            graph.tell(session, batch.run).await?;
            graph
        }
        false => Graph::default(),
    };
    // What is exempted by a group is new where the groups that decide do not exempt yet (S-46).
    let before = match batch.run.is_preview() && batch.asks_for_groups() {
        true => Some(Graph::above(session, &batch.run.directory, known.values().map(|it| &it.person)).await?),
        false => None,
    };
    let is_of_item = |it: &Read| members::owner(&batch.items, &it.candidates, &it.person, &graph).is_some();
    let claimed = hands::claimed(session, &read, &known, &holders, is_of_item).await?;
    for claim in &claimed.taken {
        let (object_id, user) = (claim.object_id.clone(), claim.known.clone());
        known.insert(object_id, user);
    }
    let keys = read.iter().chain(&refused).flat_map(|it| it.person.keys()).map(str::to_owned).collect();
    let judge = Judge {
        run_id: &batch.run.run_id,
        settings: batch.settings,
        items: &batch.items,
        graph: &graph,
        before: before.as_ref(),
        elsewhere: &elsewhere,
    };
    let of_refused: Vec<Known> =
        written.several.iter().chain(&written.held).filter_map(|object_id| known.remove(object_id)).collect();
    let mut plan = users::plan(&judge, read, known, holders, doubled);
    plan.problems.extend(problems);
    plan.problems.extend(claimed.problems());
    plan.claimed = claimed;
    let text = |it: &Read| format!("has the id {} as another entry has: neither is taken", it.person.object_id);
    let doubled = refused.iter().filter(|it| written.several.contains(&it.person.object_id));
    plan.problems.extend(doubled.map(|it| Problem { who: it.user.distinguished_name.clone(), text: text(it) }));
    for known in of_refused {
        if written.several.contains(&known.person.object_id) && known.first_run == batch.run.run_id {
            plan.withdrawn.push(known);
            continue;
        }
        // Whoever has it in the store is there, and stays what they are.
        if !known.left_how.is_empty() && !known.is_gone() {
            plan.back.push(known.user_id.clone());
        }
        plan.seen.push(known);
    }
    plan.held = written.held;
    plan.doubled.extend(written.marks);
    Ok((keys, plan))
}

/// What the ids of a batch say that somebody writes, and may write twice (FD-31). One of the server's making that comes twice is an entry
/// that was moved meanwhile, and so may one of these be: only a look by the id, which brings all entries that have it, says that there are
/// two. A preview does not look.
#[derive(Default)]
struct Written {
    /// Ids that more than one entry has.
    several: BTreeSet<String>,
    /// Ids that were met at more than one DN, or at another one than is known: to be looked at.
    held: BTreeSet<String>,
    /// What the next batches of the run have to know of it.
    marks: BTreeSet<String>,
    /// And what they need not know any longer: a look found one entry.
    settled: BTreeSet<String>,
}

/// An id of which a batch of the run was not sure, among the names that were found twice. No name begins so: they are folded.
fn doubtful(object_id: &str) -> String {
    format!("ID {object_id}")
}

/// An id at a DN, and an id anywhere, as a preview met them: it adds nobody who could be found there again.
fn met_at(person: &Person) -> [String; 2] {
    [format!("MET {}", person.object_id), format!("MET {} AT {}", person.object_id, person.dn_key)]
}

impl Written {
    /// All marks that there may be of these.
    fn marks(read: &[Read]) -> BTreeSet<String> {
        let written = read.iter().filter(|it| !it.id_of_server).map(|it| &it.person);
        written.flat_map(|it| met_at(it).into_iter().chain([doubtful(&it.object_id)])).collect()
    }

    /// `marked` are the marks of batches of this run.
    fn of(read: &[Read], known: &HashMap<String, Known>, run: &Run, marked: &BTreeSet<String>) -> Self {
        let own = || read.iter().filter(|it| !it.id_of_server);
        let (mut written, by_id) = (Self::default(), || own().filter(|it| it.user.by_id));
        match run.is_preview() {
            true => written.several = at_several(own()),
            false => (written.several, written.held) = (at_several(by_id()), at_several(own())),
        }
        // Whoever has such an id is here, whatever the run met before.
        let looked_at: BTreeSet<&str> = by_id().map(|it| it.person.object_id.as_str()).collect();
        for Read { person, .. } in own().filter(|it| !looked_at.contains(it.person.object_id.as_str())) {
            let before = known.get(&person.object_id).map(|it| &it.person.dn_key);
            let is_elsewhere = before.is_some_and(|dn_key| !dn_key.is_empty() && *dn_key != person.dn_key);
            let in_doubt = marked.contains(&doubtful(&person.object_id));
            let of_several = run.is_preview() && written.was_met_elsewhere(person, before.is_some(), marked);
            if of_several || run.is_preview() && in_doubt && !is_elsewhere {
                written.several.insert(person.object_id.clone());
            } else if is_elsewhere || in_doubt {
                written.held.insert(person.object_id.clone());
            }
        }
        written.held.retain(|id| !written.several.contains(id));
        let settled = looked_at.into_iter().filter(|id| !written.has(id)).map(doubtful);
        written.settled = settled.filter(|mark| marked.contains(mark)).collect();
        written.marks.extend(written.several.iter().chain(&written.held).map(|id| doubtful(id)));
        written
    }

    /// Has a preview met this id of nobody who is known, and not here? From now on it has.
    fn was_met_elsewhere(&mut self, person: &Person, is_known: bool, marked: &BTreeSet<String>) -> bool {
        let [anywhere, there] = met_at(person);
        let elsewhere = marked.contains(&anywhere) && !marked.contains(&there);
        self.marks.extend([anywhere, there]);
        !is_known && elsewhere
    }

    fn has(&self, object_id: &str) -> bool {
        self.several.contains(object_id) || self.held.contains(object_id)
    }
}

/// Ids that come with more than one DN.
fn at_several<'a>(read: impl Iterator<Item = &'a Read>) -> BTreeSet<String> {
    let mut met: HashMap<&str, &str> = HashMap::new();
    let several = read.filter(|it| *met.entry(&it.person.object_id).or_insert(&it.person.dn_key) != it.person.dn_key);
    several.map(|it| it.person.object_id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_counted_whenever_they_doubled() {
        let mut counted = Vec::new();
        for batch in 0..100 {
            if grown(batch * 500, 500) {
                counted.push(batch * 500 + 500);
            }
        }
        assert_eq!(counted, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000]);
        assert!(!grown(5_000, 0));
    }
}
