//! One run of one sync item: begin, users, groups, finish. Says in one log line what came of it.

use crate::apply::{BegunRun, StoreError, Term};
use crate::metrics::{self, Metrics, Objects};
use crate::plan::{self, Batch, Flaw, Problems};
use crate::read::{self, Entries, ReadError};
use crate::settings::CurrentSettings;
use directory::Directory;
use domain::settings::SyncItem;
use proto::user_store::{ApplyBatchReply, FinishRunReply};
use service_kit::{Clock, chain};
use std::sync::Arc;
use tokio::time::Instant;
use tracing::Instrument;

/// Problems of one run that are told one by one; the others are counted.
const TOLD_MAX: usize = 20;

/// What every run of a term needs.
pub(crate) struct Runner {
    pub(crate) term: Term,
    pub(crate) settings: Arc<CurrentSettings>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) term_metrics: metrics::Term,
}

/// Which entries a run reads.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) item: &'a SyncItem,
    /// The first item of a directory carries the directory's groups, so that each group has one owner.
    pub(crate) with_groups: bool,
}

/// What came of the reading.
#[derive(Default)]
struct Tally {
    users: u64,
    groups: u64,
    /// Entries of which nobody can say who they are.
    unidentified: u64,
    reply: ApplyBatchReply,
    problems: Problems,
}

/// What ended a reading before its end.
enum Stop {
    /// Not everything was read: one sentence why.
    Incomplete(String),
    Store(StoreError),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Incomplete(chain(&error))
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Runner {
    /// Runs one item. An incomplete read is no error: the store knows, and the next run will tell.
    pub(crate) async fn run(&mut self, work: Work<'_>, span: tracing::Span) -> Result<(), StoreError> {
        let begun = Instant::now();
        let item = work.item.name.as_str();
        let result = self.begin_to_finish(work).instrument(span.clone()).await;
        self.metrics.duration(item, begun.elapsed());
        let failed = !matches!(&result, Ok(Ended { incomplete: None, .. }));
        if failed {
            span.record("otel.status_code", "ERROR");
        }
        let _entered = span.enter();
        match result {
            Ok(ended) => {
                self.measure(item, &ended);
                tell(work.item, &ended, begun);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(
                    event = "sync_run",
                    service = SERVICE,
                    sync_item = item,
                    state = "failed",
                    error = %chain(&error),
                    ms = elapsed_ms(begun),
                    "sync run failed"
                );
                Err(error)
            }
        }
    }

    async fn begin_to_finish(&self, work: Work<'_>) -> Result<Ended, StoreError> {
        let run = self.term.begin_run(work.item).await?;
        let run_id = run.run_id.clone();
        tracing::Span::current().record("twinlock.run_id", &run_id);
        let mut tally = Tally::default();
        let incomplete = match self.read_all(work, &run, &mut tally).await {
            Ok(()) => tally.incomplete(),
            Err(Stop::Incomplete(why)) => Some(why),
            Err(Stop::Store(StoreError::Deposed)) => return Err(StoreError::Deposed),
            Err(Stop::Store(error)) => {
                // What the store has not taken, it has not seen. That it hears so is best effort: the error is told anyway.
                let _ = run.finish(Some(&chain(&error))).await;
                return Err(error);
            }
        };
        let finished = run.finish(incomplete.as_deref()).await?;
        Ok(Ended { run_id, tally, incomplete, finished })
    }

    async fn read_all(&self, work: Work<'_>, run: &BegunRun<'_>, tally: &mut Tally) -> Result<(), Stop> {
        let directory = self.settings.directory(&work.item.directory).map_err(Stop::Incomplete)?;
        let span = read_span(&directory, "users");
        self.users(&directory, work.item, run, tally).instrument(span).await?;
        if work.with_groups {
            let span = read_span(&directory, "groups");
            self.groups(&directory, run, tally).instrument(span).await?;
        }
        Ok(())
    }

    async fn users(
        &self,
        directory: &Directory,
        item: &SyncItem,
        run: &BegunRun<'_>,
        tally: &mut Tally,
    ) -> Result<(), Stop> {
        let mut entries = read::users(directory, item).await?;
        let mut batch = Batch::new();
        while let Some(entry) = entries.next().await? {
            tally.users += 1;
            name_server(&entries, tally.users);
            let Ok(id) = directory.id_of(&entry) else {
                tally.unidentified += 1;
                tally.problems.add(&entry.dn, directory.settings().id_attribute(), Flaw::NoId);
                continue;
            };
            let user = plan::user(directory.settings(), &id, &entry, self.clock.now_ms(), &mut tally.problems);
            if let Some(full) = batch.push(user) {
                tally.applied(run.users(full).await?);
            }
        }
        let rest = batch.take();
        if !rest.is_empty() {
            tally.applied(run.users(rest).await?);
        }
        Ok(())
    }

    async fn groups(&self, directory: &Directory, run: &BegunRun<'_>, tally: &mut Tally) -> Result<(), Stop> {
        let mut entries = read::groups(directory);
        let mut batch = Batch::new();
        while let Some(entry) = entries.next().await? {
            tally.groups += 1;
            name_server(&entries, tally.groups);
            let Ok(id) = directory.id_of(&entry) else {
                tally.problems.add(&entry.dn, directory.settings().id_attribute(), Flaw::NoId);
                continue;
            };
            let Some(group) = plan::group(&id, &entry, &mut tally.problems) else { continue };
            if let Some(full) = batch.push(group) {
                tally.applied(run.groups(full).await?);
            }
        }
        let rest = batch.take();
        if !rest.is_empty() {
            tally.applied(run.groups(rest).await?);
        }
        Ok(())
    }

    fn measure(&mut self, item: &str, ended: &Ended) {
        let Ended { tally, finished, .. } = ended;
        let objects = [
            (Objects::Added, tally.reply.added.into()),
            (Objects::Changed, tally.reply.changed.into()),
            (Objects::Unchanged, tally.reply.unchanged.into()),
            (Objects::Problem, tally.problem_count()),
            (Objects::Disabled, finished.disabled.into()),
            (Objects::Removed, finished.removed.into()),
            (Objects::Parked, finished.parked.into()),
        ];
        for (what, count) in objects {
            self.metrics.objects(item, what, count);
        }
        if ended.incomplete.is_none() {
            self.term_metrics.succeeded(item, self.clock.now_ms(), finished);
        }
    }
}

impl Tally {
    fn applied(&mut self, reply: ApplyBatchReply) {
        self.reply.added += reply.added;
        self.reply.changed += reply.changed;
        self.reply.unchanged += reply.unchanged;
        let room = TOLD_MAX.saturating_sub(self.reply.problems.len());
        self.problems.count += reply.problems.len() as u64;
        self.reply.problems.extend(reply.problems.into_iter().take(room));
    }

    fn problem_count(&self) -> u64 {
        self.problems.count
    }

    /// An entry that cannot be identified may be anybody: it is no evidence that somebody is gone (S-41, B-70).
    fn incomplete(&self) -> Option<String> {
        (self.unidentified > 0).then(|| {
            format!(
                "{} of {} entries have no usable id attribute, so nobody can be said to be gone",
                self.unidentified, self.users
            )
        })
    }
}

/// How a run ended.
struct Ended {
    run_id: String,
    tally: Tally,
    /// Why the read was not complete.
    incomplete: Option<String>,
    finished: FinishRunReply,
}

const SERVICE: &str = "directory-sync";

fn tell(item: &SyncItem, ended: &Ended, begun: Instant) {
    let Ended { run_id, tally, incomplete, finished } = ended;
    let problems = tally.problems.kept().iter().map(ToString::to_string).chain(tally.reply.problems.iter().cloned());
    for problem in problems.take(TOLD_MAX) {
        tracing::info!(
            event = "sync_problem",
            service = SERVICE,
            sync_item = item.name.as_str(),
            run_id,
            problem,
            "an entry was not taken as it is"
        );
    }
    let state = match (incomplete, finished.approval_id.is_empty()) {
        (Some(_), _) => "incomplete",
        (None, false) => "parked",
        (None, true) => "done",
    };
    macro_rules! line {
        ($level:ident, $text:literal) => {
            tracing::$level!(
                event = "sync_run",
                service = SERVICE,
                sync_item = item.name.as_str(),
                directory = item.directory.as_str(),
                run_id,
                state,
                error = incomplete.as_deref().unwrap_or_default(),
                users = tally.users,
                groups = tally.groups,
                added = tally.reply.added,
                changed = tally.reply.changed,
                unchanged = tally.reply.unchanged,
                problems = tally.problem_count(),
                disabled = finished.disabled,
                removed = finished.removed,
                parked = finished.parked,
                approval_id = finished.approval_id,
                ms = elapsed_ms(begun),
                $text
            )
        };
    }
    match state {
        "done" => line!(info, "sync run ended"),
        "parked" => line!(warn, "sync run ended, leavers wait for approval"),
        _ => line!(warn, "sync run ended, the read was not complete and nobody was taken for gone"),
    }
}

fn elapsed_ms(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn read_span(directory: &Directory, what: &'static str) -> tracing::Span {
    tracing::info_span!(
        "directory.read",
        otel.kind = "client",
        server.address = tracing::field::Empty,
        twinlock.directory = directory.name().as_str(),
        twinlock.objects = what,
    )
}

/// At the first entry it is known who answers.
fn name_server(entries: &Entries, count: u64) {
    if count == 1
        && let Some(server) = entries.server()
    {
        tracing::Span::current().record("server.address", server);
    }
}
