//! Who left: how it is known, when it is believed, and what follows for them at the end of a complete run.
//!
//! ```text
//! missed by a run -> a minute later by a full one: absent ┐
//! deleted · outside of every item ────────────────────────┴-> due -> guard -> disabled | removed | kept | listed for approval
//! seen again with an owner: all of it is forgotten
//! ```

use super::guard::{self, Found, Reason};
use super::members::{self, Graph, Person};
use super::rows::{Carried, carry_out};
use super::run::{End, Mode, Run};
use super::write::{Batch, MissedBefore};
use super::{look, page, pending};
use crate::Store;
use crate::audit::NewEvent;
use crate::rpc::StoreError;
use crate::sql::{Arg, Row, Session, args};
use domain::settings::{Leavers, Settings};
use proto::user_store::{LeftObject, ListUnseenReply, ListUnseenRequest, left_object};
use std::collections::{BTreeSet, HashMap};
use tonic::Status;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Deleted,
    Outside,
    Absent,
}

/// Missed by one run, and by no full one since.
pub const MISSED: &str = "missed";

impl How {
    /// As it stands in the store.
    pub fn code(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Outside => "outside",
            Self::Absent => "absent",
        }
    }

    /// Decided, and out of service since: deleted or absent, and not only of no item any longer.
    pub fn is_gone(left_how: &str, due: &str, state: &str) -> bool {
        let gone = [Self::Deleted, Self::Absent].iter().any(|how| how.code() == left_how);
        gone && due.is_empty() && state == "disabled"
    }

    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Deleted, Self::Outside, Self::Absent].into_iter().find(|how| how.code() == code)
    }

    pub fn of(left: &LeftObject) -> Result<Self, Status> {
        match left.how() {
            left_object::How::Deleted => Ok(Self::Deleted),
            left_object::How::Outside => Ok(Self::Outside),
            left_object::How::Absent => Ok(Self::Absent),
            left_object::How::Unspecified => Err(Status::invalid_argument("left.how is missing")),
        }
    }
}

/// Somebody who left.
pub struct Mark {
    pub user_id: String,
    pub how: How,
}

/// What a mark is compared with.
#[derive(Debug, Clone, Default)]
pub struct Marked {
    pub left_how: String,
    pub left_run: String,
    pub due: String,
    pub state: String,
}

impl Marked {
    pub fn of(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            left_how: row.get("left_how")?,
            left_run: row.get("left_run")?,
            due: row.get("due")?,
            state: row.get("state")?,
        })
    }
}

/// What a user's row says of it from now on; `None` = what it said before.
fn marked(before: &Marked, how: How, run: &Run, missed_before: MissedBefore) -> Option<(&'static str, bool)> {
    let sure = !matches!(before.left_how.as_str(), "" | MISSED);
    let here = before.left_run == run.run_id;
    if before.state == "removed" {
        return None;
    }
    let next = match how {
        // The last word is of a run that looks at everybody.
        How::Absent if run.mode == Mode::Incremental && !before.left_how.is_empty() => return None,
        How::Absent if sure => match before.left_how.as_str() {
            "deleted" => "deleted",
            "outside" => "outside",
            _ => "absent",
        },
        How::Absent if before.left_how == MISSED && here => return None,
        How::Absent if before.left_how == MISSED && missed_before == MissedBefore::JustNow => return None,
        How::Absent if before.left_how == MISSED && missed_before == MissedBefore::Yes => "absent",
        How::Absent => return Some((MISSED, false)),
        // Back, and still of no item: that they were gone counts until they are of one again (S-21).
        How::Outside if How::is_gone(&before.left_how, &before.due, &before.state) => return None,
        How::Deleted | How::Outside => how.code(),
    };
    // Decided before, and nothing to decide any more; or said by this run already.
    let known = before.left_how == next && (here || before.state == "disabled");
    (!known).then_some((next, true))
}

/// How somebody leaves whom a preview finds gone; `None` = nothing is to be decided. Whom one run misses another one looks for once more
/// (S-43): a preview stands for both.
pub fn would_leave(before: Marked, how: How, preview: &Run) -> Option<String> {
    match marked(&before, how, preview, MissedBefore::Yes) {
        Some((MISSED, _)) => Some(How::Absent.code().to_owned()),
        Some((left_how, _)) => Some(left_how.to_owned()),
        None => (before.due == "leave").then_some(before.left_how),
    }
}

/// Who was made by hand, and found in the directory at a login, is of no item until a run gives them one: nothing that they are not of
/// can be left (FS-17).
pub const OF_AN_ITEM: &str = "sync_item <> ''";

/// Users of whom the directory says that they left. The caller holds the chain's lock.
pub async fn leave(session: &mut Session, batch: &Batch<'_>, left: &[(String, How)]) -> Result<(), StoreError> {
    let hows: HashMap<&str, How> = left.iter().map(|(object_id, how)| (object_id.as_str(), *how)).collect();
    let head = "SELECT user_id, object_id, left_how, left_run, due, state FROM users WHERE object_id IN";
    let directory = [Arg::from(&batch.run.directory)];
    let mut rows = Vec::new();
    for row in session
        .rows_in(head, hows.keys().copied(), &format!("AND directory = $257 AND {OF_AN_ITEM}"), &directory)
        .await?
    {
        let how = hows.get(row.get::<String>("object_id")?.as_str()).copied();
        rows.push((row.get("user_id")?, how.unwrap_or(How::Absent), Marked::of(&row)?));
    }
    write(session, batch, rows).await
}

/// Users whom a change of groups or of their own entry left without an owner.
pub async fn mark(session: &mut Session, batch: &Batch<'_>, marks: Vec<Mark>) -> Result<(), StoreError> {
    let hows: HashMap<String, How> = marks.into_iter().map(|mark| (mark.user_id, mark.how)).collect();
    let head = "SELECT user_id, left_how, left_run, due, state FROM users WHERE user_id IN";
    let mut rows = Vec::new();
    for row in session.rows_in(head, hows.keys().map(String::as_str), &format!("AND {OF_AN_ITEM}"), &[]).await? {
        let user_id: String = row.get("user_id")?;
        let how = hows.get(&user_id).copied().unwrap_or(How::Outside);
        rows.push((user_id, how, Marked::of(&row)?));
    }
    write(session, batch, rows).await
}

async fn write(session: &mut Session, batch: &Batch<'_>, rows: Vec<(String, How, Marked)>) -> Result<(), StoreError> {
    let mut marks = Vec::new();
    for (user_id, how, before) in rows {
        let missed_before = batch.missed_before(&before.left_run);
        if let Some((left_how, due)) = marked(&before, how, batch.run, missed_before) {
            marks.push(args![user_id, left_how, &batch.run.run_id, due]);
        }
    }
    let tail = ") UPDATE users SET left_how = v.left_how, left_run = v.left_run, \
                due = CASE WHEN v.due THEN 'leave' ELSE users.due END FROM v WHERE users.user_id = v.user_id";
    session.bulk("WITH v (user_id, left_how, left_run, due) AS (", marks, tail).await?;
    Ok(())
}

/// Users who are there after all.
pub async fn unmark(session: &mut Session, user_ids: &[&str]) -> Result<(), StoreError> {
    let head = "UPDATE users SET left_how = '', left_run = '', \
                due = CASE WHEN exempt_wait <> '' AND due = 'leave' THEN 'exempt' WHEN due = 'leave' THEN '' ELSE due END \
                WHERE user_id IN";
    session.execute_in(head, user_ids.iter().copied(), "", &[]).await?;
    Ok(())
}

/// Users that are there, unchanged: met by this run, and missed by none. The caller holds the chain's lock.
pub async fn present(session: &mut Session, batch: &Batch<'_>, object_ids: &[&str]) -> Result<(), StoreError> {
    let (run_id, directory) = (Arg::from(&batch.run.run_id), Arg::from(&batch.run.directory));
    let head = "UPDATE users SET last_run = $257 WHERE object_id IN";
    let tail = "AND directory = $258 AND last_run <> $257";
    session.execute_in(head, object_ids.iter().copied(), tail, &[run_id, directory.clone()]).await?;
    let head = "SELECT user_id, object_id, dn_key, sid, primary_group, items, left_how, due, state FROM users WHERE object_id IN";
    let tail = "AND directory = $257 AND left_how <> ''";
    let mut left: Vec<(String, Person, Vec<String>, String)> = Vec::new();
    // What becomes of them is for the values of their entry, where that they were gone still counts (S-21).
    let mut again: Vec<String> = Vec::new();
    for row in session.rows_in(head, object_ids.iter().copied(), tail, &[directory]).await? {
        let (object_id, dn_key) = (row.get("object_id")?, row.get("dn_key")?);
        let (left_how, due): (String, String) = (row.get("left_how")?, row.get("due")?);
        if How::is_gone(&left_how, &due, &row.get::<String>("state")?) {
            again.push(object_id);
            continue;
        }
        let person = Person { object_id, dn_key, sid: row.get("sid")?, primary_group: row.get("primary_group")? };
        let items: String = row.get("items")?;
        left.push((
            row.get("user_id")?,
            person,
            items.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            left_how,
        ));
    }
    pending::add(session, batch.run, again.iter().map(String::as_str)).await?;
    if left.is_empty() {
        return Ok(());
    }
    let graph = Graph::above(session, &batch.groups_of, left.iter().map(|it| &it.1)).await?;
    graph.tell(session, batch.run).await?;
    let (mut back, mut again, mut outside) = (Vec::new(), Vec::new(), Vec::new());
    for (user_id, person, items, left_how) in &left {
        match members::owner(&batch.items, items, person, &graph) {
            Some(_) => {
                back.push(user_id.as_str());
                if left_how != MISSED {
                    again.push(person.object_id.as_str());
                }
            }
            None => outside.push(Mark { user_id: user_id.clone(), how: How::Outside }),
        }
    }
    unmark(session, &back).await?;
    // What they are here now, disabled perhaps, needs the values of the directory.
    pending::add(session, batch.run, again).await?;
    mark(session, batch, outside).await
}

/// A page of what a full run, or a preview, has not met.
pub async fn unseen(store: &Store, request: ListUnseenRequest) -> Result<ListUnseenReply, StoreError> {
    let mut session = store.database().read().await?;
    look(&mut session, request.epoch).await?;
    let run = Run::running(&mut session, &request.run_id).await?;
    let limit = page(request.limit);
    // Who is known to be gone is not looked for again: those that wait for a decision, and those it disabled.
    const GONE: &str = "due <> 'leave' AND (left_how IN ('', 'missed') OR state = 'enabled') AND state <> 'removed'";
    let met = match run.is_preview() {
        false => "last_run <> $1",
        true => "NOT EXISTS (SELECT 1 FROM sync_seen s WHERE s.run_id = $1 AND s.object_id = t.object_id)",
    };
    let mut object_ids: Vec<String> = Vec::new();
    for (table, condition) in [("users", format!("{GONE} AND {OF_AN_ITEM}")), ("user_groups", "$1 = $1".to_owned())] {
        let sql = format!(
            "SELECT object_id FROM {table} t WHERE directory = $2 AND object_id > $3 AND {met} AND {condition} \
             ORDER BY object_id LIMIT $4"
        );
        let arguments = args![&run.run_id, &run.directory, &request.after, limit];
        for row in session.rows_of(sql, arguments).await? {
            object_ids.push(row.get("object_id")?);
        }
    }
    object_ids.sort();
    object_ids.truncate(limit as usize);
    Ok(ListUnseenReply { object_ids })
}

/// What is done to somebody who left, or is to be exempt; `None` = nothing would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Disable,
    Remove,
    Exempt,
}

impl Action {
    pub fn code(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Remove => "remove",
            Self::Exempt => "exempt",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Disable, Self::Remove, Self::Exempt].into_iter().find(|action| action.code() == code)
    }
}

/// By the rule of the item that had them (FS-25). Outside is disabled and never removed: the entry is still there (S-43). An item
/// that is gone has the rule that items have that name none.
pub fn action(settings: &Settings, sync_item: &str, left_how: &str, state: &str) -> Option<Action> {
    let item = settings.sync_items.iter().find(|item| item.name.as_str() == sync_item);
    match item.map(|item| item.leavers).unwrap_or_default() {
        Leavers::Keep => None,
        Leavers::Remove if left_how != How::Outside.code() => (state != "removed").then_some(Action::Remove),
        Leavers::Disable | Leavers::Remove => (state == "enabled").then_some(Action::Disable),
    }
}

/// Users of one item, in one state, who left in one way; or are to be exempt.
#[derive(Debug, Clone)]
pub struct Kind {
    pub due: String,
    pub sync_item: String,
    pub left_how: String,
    pub state: String,
    pub users: u64,
    pub action: Option<Action>,
}

/// All that is to be decided about.
#[derive(Default)]
pub struct Due {
    pub kinds: Vec<Kind>,
}

/// Written so that both databases go by the index of those who are due: it has nobody else. Other columns that have an index stand
/// as expressions beside it.
pub const DUE: &str = "u.due <> '' AND u.due IN ('leave', 'exempt')";

/// Those an administrator's decision is being carried out for are not decided about a second time.
pub const FREE: &str = "NOT EXISTS (SELECT 1 FROM approval_users w JOIN approvals a ON a.approval_id = w.approval_id \
    WHERE w.user_id = u.user_id AND a.state = 'deciding')";

pub async fn due(session: &mut Session, run: &Run, settings: &Settings) -> Result<Due, StoreError> {
    let sql = format!(
        "SELECT u.due AS due, u.sync_item AS sync_item, u.left_how AS left_how, u.state AS state, COUNT(*) AS users \
         FROM users u WHERE u.directory = $1 AND {DUE} AND {FREE} GROUP BY u.due, u.sync_item, u.left_how, u.state"
    );
    let mut kinds = Vec::new();
    for row in session.rows_of(sql, args![&run.directory]).await? {
        let due: String = row.get("due")?;
        let (sync_item, left_how, state): (String, String, String) =
            (row.get("sync_item")?, row.get("left_how")?, row.get("state")?);
        let action = match due.as_str() {
            "exempt" => (state != "removed").then_some(Action::Exempt),
            _ => action(settings, &sync_item, &left_how, &state),
        };
        kinds.push(Kind { users: row.unsigned("users")?, due, sync_item, left_how, state, action });
    }
    Ok(Due { kinds })
}

impl Due {
    fn users(&self) -> u64 {
        self.kinds.iter().filter(|kind| kind.action.is_some()).map(|kind| kind.users).sum()
    }

    /// S-40, S-42, S-46, FS-06
    pub async fn must_wait(
        &self,
        session: &mut Session,
        run: &Run,
        settings: &Settings,
    ) -> Result<Option<Reason>, StoreError> {
        let users = self.users();
        if users == 0 {
            return Ok(None);
        }
        // Many small runs are no way around it (S-40): what runs took away of late counts, too.
        let mut found = Found { users, lately: lately(session, run).await?, ..Found::default() };
        if guard::share_counts(&settings.sync, users + found.lately) {
            let sql = "SELECT COUNT(*) AS known FROM users WHERE directory = $1 AND state = 'enabled'";
            let row = session.row(sql, args![&run.directory]).await?;
            let known = row.ok_or(StoreError::Broken("a count has no row"))?.unsigned("known")?;
            found.known = known.saturating_sub(run.added);
        }
        found.emptied = self.emptied(session, run).await?;
        Ok(guard::must_wait(&settings.sync, found))
    }

    /// The items with leavers and with nobody else (S-42).
    async fn emptied(&self, session: &mut Session, run: &Run) -> Result<Vec<String>, StoreError> {
        let of_items: BTreeSet<&str> = self
            .kinds
            .iter()
            .filter(|kind| matches!(kind.action, Some(Action::Disable | Action::Remove)))
            .map(|kind| kind.sync_item.as_str())
            .collect();
        let mut emptied = Vec::new();
        for sync_item in of_items {
            // Only a full run looks at everybody.
            let met = "SELECT user_id FROM users WHERE sync_item = $1 AND left_how = '' AND last_run = $2 LIMIT 1";
            let left = "SELECT user_id FROM users WHERE sync_item = $1 AND left_how = '' LIMIT 1";
            let others = match run.mode {
                Mode::Full => session.row(met, args![sync_item, &run.run_id]).await?,
                Mode::Incremental | Mode::Preview => session.row(left, args![sync_item]).await?,
            };
            if others.is_none() {
                emptied.push(sync_item.to_owned());
            }
        }
        Ok(emptied)
    }

    /// They are few enough: all of it is carried out by the end of the run.
    pub fn decide(self) -> Decided {
        Decided { kinds: self.kinds, carried: true }
    }

    /// Only those for whom nothing changes are settled.
    pub fn wait(&self) -> Decided {
        Decided { kinds: self.kinds.clone(), carried: false }
    }
}

/// Users whom runs disabled or removed in the hour before this one, and such of before as stand in one record with them. Somebody who
/// asks for everything to be read answers for what that takes away: such a run neither counts nor is it counted. Nor is a preview,
/// which takes nothing away.
async fn lately(session: &mut Session, run: &Run) -> Result<u64, StoreError> {
    const HOUR_MS: i64 = 3_600_000;
    if run.mode == Mode::Full && run.trigger != "schedule" {
        return Ok(0);
    }
    let sql = "SELECT CAST(COALESCE(SUM(disabled + removed), 0) AS BIGINT) AS users FROM sync_runs \
               WHERE directory = $1 AND finished_ms > $2 AND state = 'done' \
               AND (mode = 'incremental' OR (mode = 'full' AND cause = 'schedule'))";
    let row = session.row(sql, args![&run.directory, run.started_ms - HOUR_MS]).await?;
    Ok(row.map_or(Ok(0), |row| row.unsigned("users"))?)
}

/// What the end of a run writes about them.
#[derive(Default)]
pub struct Decided {
    kinds: Vec<Kind>,
    carried: bool,
}

/// A user of whom it was decided.
pub struct Leaving {
    pub user_id: String,
    pub username: String,
    pub state: String,
    pub state_by: String,
    pub state_text: String,
    pub sync_item: String,
    pub left_how: String,
    pub exempt_wait: String,
    pub due: String,
}

impl Leaving {
    pub const COLUMNS: &str = "u.user_id AS user_id, u.username AS username, u.state AS state, u.state_by AS state_by, \
                               u.state_text AS state_text, u.sync_item AS sync_item, u.left_how AS left_how, \
                               u.exempt_wait AS exempt_wait, u.due AS due";

    pub fn of(row: &Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            user_id: row.get("user_id")?,
            username: row.get("username")?,
            state: row.get("state")?,
            state_by: row.get("state_by")?,
            state_text: row.get("state_text")?,
            sync_item: row.get("sync_item")?,
            left_how: row.get("left_how")?,
            exempt_wait: row.get("exempt_wait")?,
            due: row.get("due")?,
        })
    }
}

/// Why somebody left or is exempt, in words.
pub fn why(due: &str, left_how: &str, sync_item: &str) -> String {
    match (due, left_how) {
        ("exempt", _) => format!("the item {sync_item} or a group exempts them from the second factor"),
        (_, "deleted") => format!("deleted in the directory; was in {sync_item}"),
        (_, "outside") => format!("no longer in {sync_item}, nor in any other item"),
        _ => format!("not found in the directory twice; was in {sync_item}"),
    }
}

impl Decided {
    /// The caller holds the chain's lock.
    pub async fn write(
        self,
        session: &mut Session,
        run: &Run,
        now_ms: i64,
        end: &mut End,
        events: &mut Vec<NewEvent>,
    ) -> Result<(), StoreError> {
        for kind in self.kinds.iter().filter(|kind| kind.action.is_none()) {
            let sql = "UPDATE users SET due = '' WHERE directory = $1 AND due <> '' AND due = $2 AND sync_item || '' = $3 \
                       AND left_how = $4 AND state || '' = $5";
            let arguments = args![&run.directory, &kind.due, &kind.sync_item, &kind.left_how, &kind.state];
            session.execute(sql, arguments).await?;
        }
        if !self.carried {
            return Ok(());
        }
        let mut actions: HashMap<(String, String, String, String), Action> = HashMap::new();
        for kind in self.kinds {
            if let Some(action) = kind.action {
                actions.insert((kind.due, kind.sync_item, kind.left_how, kind.state), action);
            }
        }
        if actions.is_empty() {
            return Ok(());
        }
        let columns = Leaving::COLUMNS;
        let sql = format!("SELECT {columns} FROM users u WHERE u.directory = $1 AND {DUE} AND {FREE}");
        let mut leaving = Vec::new();
        for row in session.rows_of(sql, args![&run.directory]).await? {
            let user = Leaving::of(&row)?;
            let kind = (user.due.clone(), user.sync_item.clone(), user.left_how.clone(), user.state.clone());
            // What a hand changed meanwhile is decided about by the next run.
            if let Some(action) = actions.get(&kind) {
                leaving.push((user, *action));
            }
        }
        let Carried { events: told, changes: done, disabled, removed } = carry_out(session, leaving, now_ms).await?;
        events.extend(told);
        end.changes.extend(done);
        (end.reply.disabled, end.reply.removed) = (disabled, removed);
        Ok(())
    }
}

/// Objects that left, by their ids.
pub fn left_of(left: &[LeftObject]) -> Result<Vec<(String, How)>, Status> {
    let mut found = Vec::with_capacity(left.len());
    for object in left {
        // What has no id we could know is nobody's.
        if let Ok(object_id) = object.object_id.parse::<domain::ObjectId>() {
            found.push((object_id.to_string(), How::of(object)?));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::user_store::FinishRunReply;

    fn run(mode: Mode) -> Run {
        Run {
            run_id: "now".into(),
            directory: "corp".into(),
            mode,
            trigger: "schedule".into(),
            state: "running".into(),
            actor: String::new(),
            started_ms: 0,
            items_digest: String::new(),
            mapping_digest: String::new(),
            identity: String::new(),
            added: 0,
            changed: 0,
            error: String::new(),
            reply: FinishRunReply::default(),
        }
    }

    #[test]
    fn absence_is_believed_when_a_full_run_says_so_a_minute_after_another_run() {
        // S-43
        use How::{Absent, Deleted, Outside};
        use MissedBefore::{JustNow, No, Yes};
        for (left_how, left_run, state, how, mode, before, expected) in [
            ("", "", "enabled", Absent, Mode::Full, No, Some((MISSED, false))),
            ("", "", "enabled", Absent, Mode::Incremental, No, Some((MISSED, false))),
            (MISSED, "then", "enabled", Absent, Mode::Incremental, Yes, None),
            ("outside", "then", "enabled", Absent, Mode::Incremental, Yes, None),
            (MISSED, "now", "enabled", Absent, Mode::Full, No, None),
            (MISSED, "then", "enabled", Absent, Mode::Full, Yes, Some(("absent", true))),
            // Too soon: it does not begin anew.
            (MISSED, "then", "enabled", Absent, Mode::Full, JustNow, None),
            // The run that missed them first was not complete.
            (MISSED, "then", "enabled", Absent, Mode::Full, No, Some((MISSED, false))),
            (MISSED, "then", "enabled", Deleted, Mode::Incremental, Yes, Some(("deleted", true))),
            ("", "", "enabled", Outside, Mode::Incremental, No, Some(("outside", true))),
            ("outside", "now", "enabled", Outside, Mode::Full, No, None),
            ("outside", "then", "disabled", Outside, Mode::Full, No, None),
            // Refused by an administrator, or enabled by one: asked again.
            ("outside", "then", "enabled", Absent, Mode::Full, No, Some(("outside", true))),
            ("outside", "then", "disabled", Deleted, Mode::Full, No, Some(("deleted", true))),
            ("deleted", "then", "disabled", Outside, Mode::Full, No, None),
            ("absent", "then", "disabled", Outside, Mode::Incremental, No, None),
            ("deleted", "then", "enabled", Outside, Mode::Full, No, Some(("outside", true))),
            ("", "", "removed", Deleted, Mode::Full, No, None),
        ] {
            let marked_before = Marked {
                left_how: left_how.into(),
                left_run: left_run.into(),
                due: String::new(),
                state: state.into(),
            };
            let after = marked(&marked_before, how, &run(mode), before);
            assert_eq!(after, expected, "{left_how} by {left_run}, {state}, {how:?} in {mode:?}");
        }
    }

    #[test]
    fn leavers_go_by_the_rule_of_their_item_and_outside_is_never_removed() {
        // FS-25, FS-10, S-43
        let item = |rule: &str| {
            format!(
                "[[sync_item]]\nname = \"{rule}\"\ndirectory = \"corp\"\nleavers = \"{rule}\"\nsource = {{ kind = \"domain\" }}\n"
            )
        };
        let settings: Settings = toml::from_str(&["disable", "remove", "keep"].map(item).concat()).expect("valid");
        use Action::{Disable, Remove};
        for (item, how, state, expected) in [
            ("disable", "deleted", "enabled", Some(Disable)),
            ("disable", "deleted", "disabled", None),
            ("remove", "deleted", "enabled", Some(Remove)),
            ("remove", "absent", "disabled", Some(Remove)),
            ("remove", "outside", "enabled", Some(Disable)),
            ("remove", "outside", "disabled", None),
            ("keep", "deleted", "enabled", None),
            ("gone", "outside", "enabled", Some(Disable)),
        ] {
            assert_eq!(action(&settings, item, how, state), expected, "{item} {how} {state}");
        }
    }
}
