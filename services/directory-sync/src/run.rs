//! One run of one directory: how it is read and why, from begin to finish. Says in one log line what came of it.

use crate::apply::{Applied, BegunRun, Opening, StoreError, Term, Writer};
use crate::changes::{self, Increment};
use crate::domains::{Domains, OWN};
use crate::full;
use crate::metrics::{self, Metrics, Objects as Counted};
use crate::mode::{self, Mode, Trigger};
use crate::objects::{Met, Objects, Target};
use crate::plan::Problems;
use crate::positions::Positions;
use crate::prepare::{Offers, Prepared};
use crate::read::ReadError;
use crate::settings::{CurrentSettings, Snapshot};
use crate::source::{self, Source};
use directory::{Directory, Event, FeedError, Incomplete, Origin};
use domain::ObjectName;
use domain::settings::{Feed, SyncItem};
use futures::future::join_all;
use proto::user_store::{FinishRunReply, GetSourceReply, SourcePin};
use service_kit::{Clock, chain};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::Instrument;

/// Problems of one run that are told one by one; the others are counted.
const TOLD_MAX: usize = 20;
/// What another source would change is shown anew after this, and administrators hear of it once more.
const PREVIEW_LIFE: Duration = Duration::from_secs(24 * 3600);
const SERVICE: &str = "directory-sync";

/// What every run of a directory in a term needs, and what was learned in it.
pub(crate) struct Runner {
    pub(crate) name: ObjectName,
    pub(crate) term: Term,
    pub(crate) settings: Arc<CurrentSettings>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) term_metrics: Arc<metrics::Term>,
    /// Of the directories that are read whole, and this one's, if it has one.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) place: Option<OwnedSemaphorePermit>,
    pub(crate) learned: Learned,
}

#[derive(Default)]
pub(crate) struct Learned {
    pub(crate) offers: Offers,
    /// The source as the last run found it.
    pub(crate) identity: String,
    /// The source that was shown in a preview because it is another than before (S-44), and when.
    previewed: Option<(Instant, String)>,
    /// What its items name by a DN, by its id.
    pins: Vec<SourcePin>,
    /// Why it waits was said in the log.
    waits: Option<&'static str>,
}

impl Learned {
    /// Was this very source shown of late? What is said of one is not true of the next.
    fn was_shown(&self, identity: &str, now: Instant) -> bool {
        let shown = self.previewed.as_ref();
        shown.is_some_and(|(at, shown)| shown == identity && now.duration_since(*at) < PREVIEW_LIFE)
    }
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// No run: it waits for somebody to ask.
    Waits,
    /// No run yet: everything is to be read, and so are as many others as may be at once.
    NoPlace,
    /// Whether it was read to its end, and whether that made another run worth while: at once, or once what it missed had time to
    /// come back.
    Ended { complete: bool, again: bool, missed: bool },
}

impl Ran {
    fn is_complete(&self) -> bool {
        matches!(self, Self::Ended { complete: true, .. })
    }
}

/// What ended a run before its end.
enum Stop {
    Store(StoreError),
    /// Not everything was read: one sentence why.
    Incomplete(String),
    /// The feed cannot go on: everything is to be read.
    Full(String),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => Self::Store(error),
            error => Self::Incomplete(chain(&error)),
        }
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<FeedError> for Stop {
    fn from(error: FeedError) -> Self {
        match &error {
            FeedError::FullRead(why) => Self::Full(why.to_string()),
            FeedError::NotAllowed { .. } | FeedError::Malformed { .. } | FeedError::NotOffered { .. } => {
                Self::Full(chain(&error))
            }
            _ => Self::Incomplete(chain(&error)),
        }
    }
}

/// How a run ended.
struct Ended {
    run_id: String,
    met: Met,
    named: u64,
    applied: Applied,
    problems: Problems,
    /// Why the read was not complete.
    incomplete: Option<String>,
    /// What items name by a DN, found for the first time.
    found: Vec<SourcePin>,
    finished: FinishRunReply,
}

impl Runner {
    /// Runs the directory. An incomplete read is no error: the store knows, and the next run will tell.
    pub(crate) async fn run(
        &mut self,
        snapshot: &Snapshot,
        trigger: &Trigger,
        link: impl Fn(&tracing::Span),
    ) -> Result<Ran, StoreError> {
        let name = &self.name.clone();
        let draft = trigger.draft();
        let drafted = (!draft.is_empty()).then(|| snapshot.drafted(name, draft));
        let snapshot = drafted.as_ref().unwrap_or(snapshot);
        let digest = snapshot.settings.items_digest(name.as_str());
        let mapping = snapshot.settings.mapping_digest(name.as_str());
        let state = self.term.source(name.as_str()).await?;
        if let (Trigger::Schedule, Some(waits)) = (trigger, mode::waits(&state, &digest)) {
            return Ok(self.waits(waits));
        }
        let asked = mode::asked(trigger);
        if items(snapshot, name, asked).is_empty() {
            return match trigger {
                Trigger::Request(_) => {
                    // FS-09
                    if let Some(looked_at) = trigger.looked_at() {
                        let ran = self.let_go(&digest, &state, trigger, Some(looked_at), &link).await?;
                        if !ran.is_complete() {
                            return Ok(ran);
                        }
                    }
                    self.let_go(&digest, &state, trigger, None, &link).await
                }
                Trigger::Schedule | Trigger::Follow => Ok(self.waits("no sync item of it is on")),
            };
        }
        // Where it cannot be read, everything is read anew.
        let known = Positions::read(&state.position).unwrap_or_default();
        let prepared = self.prepare(snapshot, &known).await;
        let (directory, identity, feed): (_, String, _) = match &prepared {
            Ok(it) => (Some(it.own.directory.settings()), it.own.identity.clone(), it.own.feed.clone()),
            Err(_) => (None, String::new(), None),
        };
        let others = prepared.as_ref().ok().and_then(Prepared::facts);
        let always_full = snapshot.settings.sync.always_full;
        let (identity_now, items_digest) = (identity.as_str(), digest.as_str());
        let facts = mode::Facts {
            state: &state,
            identity: identity_now,
            items_digest,
            mapping_digest: &mapping,
            always_full,
            directory,
            feed: feed.as_ref(),
            others: others.as_deref(),
        };
        let (mut mode, mut why) = mode::of(&facts, trigger, self.clock.now_ms());
        let read = facts.identity_of(mode);
        let by_itself = mode == Mode::Preview && matches!(trigger, Trigger::Schedule);
        if by_itself && self.learned.was_shown(&read, Instant::now()) {
            return Ok(self.waits("another source than before was previewed and nobody has accepted it"));
        }
        // Another source has other ids (S-44). One that could not be asked is no other.
        let same = identity.is_empty() || identity == state.identity;
        let mut pins = if same { state.pins.clone() } else { Vec::new() };
        if let Some((domain, _)) = facts.another_domain() {
            pins.retain(|pin| !source::lies_in(pin, domain));
        }
        (self.learned.waits, self.learned.pins) = (None, pins.clone());
        // FS-09: a preview of its own comes first.
        let mut checks = trigger.looked_at().filter(|_| mode == Mode::Full);
        loop {
            let reads = if checks.is_some() { Mode::Preview } else { mode };
            let read_items = items(snapshot, name, mode);
            // What is compared is what the write would do: items in preview, which any other preview tries, write nothing (FS-12).
            let others = checks.is_some() && items(snapshot, name, Mode::Preview).len() > read_items.len();
            let draft: Vec<&SyncItem> = if others { read_items.clone() } else { draft.iter().collect() };
            if !self.has_place(reads) {
                return Ok(Ran::NoPlace);
            }
            let span = run_span(name.as_str());
            link(&span);
            let opening = Opening {
                directory: name.to_string(),
                mode: mode.code(),
                why: why.clone(),
                feed: feed.as_ref().map_or("", |offer| offer.kind.code()),
                trigger: trigger.code(),
                items_digest: digest.clone(),
                mapping_digest: mapping.clone(),
                identity: read.clone(),
                offers: prepared.as_ref().map(|it| it.told.clone()).unwrap_or_default(),
                base: directory.map(|directory| directory.base.clone()).unwrap_or_default(),
                actor: trigger.actor().to_owned(),
                looked_at: String::new(),
                draft_items: draft.iter().filter_map(|item| serde_json::to_string(item).ok()).collect(),
            };
            let opening = match checks {
                Some(looked_at) => opening.checking(looked_at),
                None => opening,
            };
            let items = source::pinned(&read_items, &pins);
            let items: Vec<&SyncItem> = items.iter().collect();
            let work = self.once(&opening, reads, &items, prepared.as_ref(), &state);
            let (result, full) = work.instrument(span.clone()).await;
            let ended = self.ended(&opening, result, &span)?;
            match full {
                // S-20, S-25, S-33: with the guard, and said.
                Some(because) if mode == Mode::Incremental => {
                    self.learned.offers.doubt();
                    (mode, why) = (Mode::Full, because);
                }
                _ if checks.is_some() && ended.is_complete() => checks = None,
                _ => {
                    if mode == Mode::Preview
                        && matches!((trigger, &ended), (Trigger::Schedule, Ran::Ended { complete: true, .. }))
                    {
                        self.learned.previewed = Some((Instant::now(), read.clone()));
                    }
                    return Ok(ended);
                }
            }
        }
    }

    /// What is read whole waits for others, whoever wants it; a feed reads little.
    fn has_place(&mut self, mode: Mode) -> bool {
        if mode == Mode::Incremental {
            return true;
        }
        self.place = self.place.take().or_else(|| Arc::clone(&self.places).try_acquire_owned().ok());
        self.place.is_some()
    }

    /// A directory without an item that is on has nobody any more (FS-10). It is not read, and the store decides as of any leavers.
    async fn let_go(
        &mut self,
        items_digest: &str,
        state: &GetSourceReply,
        trigger: &Trigger,
        looked_at: Option<&str>,
        link: impl Fn(&tracing::Span),
    ) -> Result<Ran, StoreError> {
        let span = run_span(self.name.as_str());
        link(&span);
        let opening = Opening {
            directory: self.name.to_string(),
            mode: mode::asked(trigger).code(),
            why: "no sync item of it is on, so nobody is held any more".into(),
            trigger: trigger.code(),
            items_digest: items_digest.to_owned(),
            identity: state.identity.clone(),
            actor: trigger.actor().to_owned(),
            ..Opening::default()
        };
        let opening = match looked_at {
            Some(looked_at) => opening.checking(looked_at),
            None => opening,
        };
        let begun = Instant::now();
        let work = async {
            let run = self.term.begin_run(&opening).await?;
            tracing::Span::current().record("twinlock.run_id", &run.run_id);
            let mut writer = Writer::new(run.clone());
            let stop = full::let_go(&run, &mut writer).await.err().map(Stop::from);
            finish(&run, writer, Ended::of(&run), stop, Vec::new()).await.map(|(ended, _)| (ended, begun))
        };
        let result = work.instrument(span.clone()).await;
        self.ended(&opening, result, &span)
    }

    /// What a directory told of while it was followed: a run of its own, as small as that.
    pub(crate) async fn burst(
        &mut self,
        snapshot: &Snapshot,
        directory: &Arc<Directory>,
        origin: &Origin,
        events: Vec<Event>,
    ) -> Result<Ran, StoreError> {
        let span = run_span(self.name.as_str());
        let opening = Opening {
            directory: self.name.to_string(),
            mode: Mode::Incremental.code(),
            why: "the directory tells of changes as they happen".into(),
            feed: Feed::Syncrepl.code(),
            trigger: Trigger::Follow.code(),
            items_digest: snapshot.settings.items_digest(self.name.as_str()),
            ..Opening::default()
        };
        let items = source::pinned(&items(snapshot, &self.name, Mode::Incremental), &self.learned.pins);
        let items: Vec<&SyncItem> = items.iter().collect();
        // No directory that tells of changes as they happen lists other domains.
        let domains = &Domains::new(Objects::new(Arc::clone(directory), self.clock.clone()).preferring(origin));
        let begun = Instant::now();
        let work = async {
            let run = self.term.begin_run(&opening).await?;
            tracing::Span::current().record("twinlock.run_id", &run.run_id);
            let mut writer = Writer::new(run.clone());
            let mut ended = Ended::of(&run);
            let result = async {
                let source = Source::resolve(domains, &items).await?;
                ended.found = source.found().to_vec();
                let target = Target { source: &source, writer: &mut writer, problems: &mut ended.problems };
                let mut positions = Positions::default();
                let mut increment = Increment::new(domains, OWN, &run, target, &mut positions);
                for event in events {
                    increment.take(event).await?;
                }
                increment.flush().await?;
                ended.named = increment.named;
                changes::settle(&self.term, domains, &items, &mut writer, &mut ended.problems).await?;
                is_still(domains, &source, &items).await?;
                Ok::<_, Stop>(source.whole()?)
            }
            .await;
            finish(&run, writer, ended, result.err(), Vec::new()).await.map(|(ended, _)| (ended, begun))
        };
        let result = work.instrument(span.clone()).await;
        self.ended(&opening, result, &span)
    }

    fn waits(&mut self, why: &'static str) -> Ran {
        if self.learned.waits.replace(why) != Some(why) {
            tracing::info!(
                event = "sync_run",
                service = SERVICE,
                directory = self.name.as_str(),
                state = "waiting",
                why,
                "no run begins by itself before somebody asks for one: twinlock sync now"
            );
        }
        Ran::Waits
    }

    /// One run. Beside what came of it: why everything is to be read now.
    async fn once(
        &self,
        opening: &Opening,
        mode: Mode,
        items: &[&SyncItem],
        prepared: Result<&Prepared, &String>,
        state: &GetSourceReply,
    ) -> (Result<(Ended, Instant), StoreError>, Option<String>) {
        let begun = Instant::now();
        let run = match self.term.begin_run(opening).await {
            Ok(run) => run,
            Err(error) => return (Err(error), None),
        };
        tracing::Span::current().record("twinlock.run_id", &run.run_id);
        let mut writer = Writer::new(run.clone());
        let mut ended = Ended::of(&run);
        let mut position = Vec::new();
        let result = match prepared {
            Err(why) => Err(Stop::Incomplete(why.clone())),
            Ok(prepared) if mode == Mode::Incremental => {
                self.follow_feeds(prepared, items, &run, state, &mut writer, &mut ended).await
            }
            Ok(prepared) => {
                let read = self.read_all(prepared, mode, items, &run, &mut writer, &mut ended).await;
                read.map(|found| position = found)
            }
        };
        match finish(&run, writer, ended, result.err(), position).await {
            Ok((ended, full)) => (Ok((ended, begun)), full),
            Err(error) => (Err(error), None),
        }
    }

    async fn read_all(
        &self,
        prepared: &Prepared,
        mode: Mode,
        items: &[&SyncItem],
        run: &BegunRun,
        writer: &mut Writer,
        ended: &mut Ended,
    ) -> Result<Vec<u8>, Stop> {
        let (mut domains, mut positions) = (prepared.domains(&self.clock), prepared.positions());
        domains.all().for_each(|at| domains.reads(at, Objects::of_one_server));
        // Before the reading begins: what changes while it goes on is read again.
        let followed = domains.all().filter(|_| mode == Mode::Full);
        let asked = followed.filter_map(|at| Some((at, prepared.feed(at)?.kind, domains.objects(at)?)));
        let asked = asked.map(|(at, feed, objects)| {
            let directory = Arc::clone(&objects.directory);
            async move { (at, feed, directory.position_now(feed).await) }
        });
        for (at, feed, now) in join_all(asked.collect::<Vec<_>>()).await {
            match now {
                Ok(now) => {
                    domains.reads(at, |objects| objects.preferring(&now.origin()));
                    positions.continues(domains.name(at), now);
                }
                // It is silent, and is not waited for again.
                Err(FeedError::Unread(error @ Incomplete::Unanswered(_))) if at != OWN => {
                    domains.could_not_be_read(at, chain(&error));
                }
                // Then the next run is a full one again, and says why.
                Err(error) => domains.objects(at).iter().for_each(|it| no_position(it, feed, &chain(&error))),
            }
        }
        let domains = &domains;
        let source = Source::resolve(domains, items).await?;
        ended.found = source.found().to_vec();
        let target = &mut Target { source: &source, writer, problems: &mut ended.problems };
        let incomplete = full::read(domains, mode == Mode::Preview, run, target, &mut ended.met).await?;
        if mode == Mode::Full {
            changes::settle(&self.term, domains, items, writer, &mut ended.problems).await?;
        }
        if let Some(why) = incomplete {
            return Err(Stop::Incomplete(why));
        }
        domains.whole().map_err(Stop::Incomplete)?;
        is_still(domains, &source, items).await?;
        source.whole()?;
        for at in domains.all() {
            let (Some(position), Some(objects)) = (positions.of(domains.name(at)), domains.objects(at)) else {
                continue;
            };
            if let Err(error) = objects.is_of(&position.origin()) {
                no_position(objects, position.kind(), &chain(&error));
                positions.ends(domains.name(at));
            }
        }
        Ok(positions.written())
    }

    /// Home first; each domain by its own feed.
    async fn follow_feeds(
        &self,
        prepared: &Prepared,
        items: &[&SyncItem],
        run: &BegunRun,
        state: &GetSourceReply,
        writer: &mut Writer,
        ended: &mut Ended,
    ) -> Result<(), Stop> {
        let mut positions = Positions::read(&state.position).map_err(|error| Stop::Full(error.to_string()))?;
        let mut domains = prepared.domains(&self.clock);
        let mut source = None;
        for at in domains.all() {
            let Some(objects) = domains.objects(at) else { continue };
            let Some(position) = positions.of(domains.name(at)).cloned() else {
                return Err(Stop::Full("there is no position to follow its feed from".into()));
            };
            let mut feed = objects.directory.changes(position).watching(&source::filter_attributes(items));
            let followed = async {
                // Who tells now is who is read: where one name stands before several, the one that told before may be gone.
                let origin = feed.open().await?;
                domains.reads(at, |objects| objects.preferring(&origin));
                let source = match &mut source {
                    Some(source) => source,
                    None => source.insert(Source::resolve(&domains, items).await?),
                };
                let target = Target { source, writer, problems: &mut ended.problems };
                let mut increment = Increment::new(&domains, at, run, target, &mut positions);
                let read = async {
                    while !increment.take(feed.next().await?).await? {}
                    Ok::<_, Stop>(())
                }
                .await;
                ended.named += increment.named;
                read
            };
            let followed = followed.await;
            match (followed, domains.name(at)) {
                (Err(Stop::Incomplete(why)), Some(_)) => domains.could_not_be_read(at, why),
                (Err(Stop::Full(why)), Some(name)) => return Err(Stop::Full(format!("of the domain {name}: {why}"))),
                (followed, _) => followed?,
            }
        }
        let Some(source) = source else { return Ok(()) };
        changes::settle(&self.term, &domains, items, writer, &mut ended.problems).await?;
        domains.whole().map_err(Stop::Incomplete)?;
        if ended.named > 0 {
            is_still(&domains, &source, items).await?;
        }
        Ok(source.whole()?)
    }

    fn ended(
        &mut self,
        opening: &Opening,
        result: Result<(Ended, Instant), StoreError>,
        span: &tracing::Span,
    ) -> Result<Ran, StoreError> {
        if !matches!(&result, Ok((Ended { incomplete: None, .. }, _))) {
            span.record("otel.status_code", "ERROR");
        }
        let _entered = span.enter();
        match result {
            Ok((ended, begun)) => {
                self.learned.pins.extend(ended.found.iter().cloned());
                self.metrics.duration(self.name.as_str(), begun.elapsed());
                self.measure(opening, &ended);
                tell(opening, &ended, begun);
                let FinishRunReply { pending: again, missed, .. } = ended.finished;
                Ok(Ran::Ended { complete: ended.incomplete.is_none(), again, missed })
            }
            Err(error) => {
                tracing::warn!(
                    event = "sync_run",
                    service = SERVICE,
                    directory = self.name.as_str(),
                    state = "failed",
                    error = %chain(&error),
                    "sync run failed"
                );
                Err(error)
            }
        }
    }

    fn measure(&self, opening: &Opening, ended: &Ended) {
        let (name, Ended { applied, finished, .. }) = (self.name.as_str(), ended);
        let objects = [
            (Counted::Added, applied.added),
            (Counted::Changed, applied.changed),
            (Counted::Unchanged, applied.unchanged),
            (Counted::Problem, ended.problem_count()),
            (Counted::Disabled, finished.disabled.into()),
            (Counted::Removed, finished.removed.into()),
            (Counted::Parked, finished.parked.into()),
        ];
        for (what, count) in objects {
            self.metrics.objects(name, what, count);
        }
        if ended.incomplete.is_none() && opening.mode != Mode::Preview.code() {
            self.term_metrics.succeeded(name, self.clock.now_ms(), finished);
        }
    }
}

/// What items name is where it was when the run began (S-16).
async fn is_still(domains: &Domains, source: &Source, items: &[&SyncItem]) -> Result<(), ReadError> {
    let now = Source::resolve(domains, items).await?;
    if source.is_still(&now) { Ok(()) } else { Err(ReadError::Moved) }
}

fn no_position(objects: &Objects, feed: Feed, error: &str) {
    tracing::warn!(
        directory = objects.directory.name().as_str(),
        base = objects.directory.base_text(),
        feed = feed.code(),
        error,
        "the change feed gives no position to begin from, so the next run reads everything again"
    );
}

/// Hands the rest to the store and ends the run. Beside what came of it: why everything is to be read now.
async fn finish(
    run: &BegunRun,
    mut writer: Writer,
    mut ended: Ended,
    stop: Option<Stop>,
    position: Vec<u8>,
) -> Result<(Ended, Option<String>), StoreError> {
    let stop = match stop {
        None => writer.flush().await.err().map(Stop::Store),
        stop => stop,
    };
    ended.applied = std::mem::take(&mut writer.applied);
    drop(writer);
    let (incomplete, full) = match stop {
        None => (None, None),
        Some(Stop::Incomplete(why)) => (Some(why), None),
        Some(Stop::Full(why)) => (Some(format!("everything has to be read again: {why}")), Some(why)),
        Some(Stop::Store(StoreError::Deposed)) => return Err(StoreError::Deposed),
        Some(Stop::Store(error)) => {
            // What the store has not taken, it has not seen. That it hears so is best effort: the error is told anyway.
            let _ = run.finish(Some(&chain(&error)), Vec::new(), ended.found, &ended.problems).await;
            return Err(error);
        }
    };
    ended.finished = run.finish(incomplete.as_deref(), position, ended.found.clone(), &ended.problems).await?;
    if !ended.finished.run_id.is_empty() {
        ended.run_id.clone_from(&ended.finished.run_id);
    }
    let of_store = std::mem::take(&mut ended.finished.incomplete);
    ended.incomplete = incomplete.or(Some(of_store).filter(|why| !why.is_empty()));
    Ok((ended, full))
}

impl Ended {
    fn of(run: &BegunRun) -> Self {
        Self {
            run_id: run.run_id.clone(),
            met: Met::default(),
            named: 0,
            applied: Applied::default(),
            problems: Problems::default(),
            incomplete: None,
            found: Vec::new(),
            finished: FinishRunReply::default(),
        }
    }

    /// As the store has counted them, which counts each once; one of before does not.
    fn problem_count(&self) -> u64 {
        match self.finished.problems {
            0 => self.problems.count + self.applied.problem_count,
            problems => problems,
        }
    }
}

/// The items that a run of a directory reads (FS-12, FS-20).
fn items<'a>(snapshot: &'a Snapshot, name: &ObjectName, mode: Mode) -> Vec<&'a SyncItem> {
    let items = snapshot.settings.sync_items.iter().filter(|item| item.directory == *name);
    items.filter(|item| item.is_read(mode == Mode::Preview)).collect()
}

fn run_span(directory: &str) -> tracing::Span {
    tracing::info_span!(
        parent: None,
        "sync.run",
        otel.kind = "internal",
        otel.status_code = tracing::field::Empty,
        twinlock.directory = directory,
        twinlock.run_id = tracing::field::Empty,
    )
}

fn tell(opening: &Opening, ended: &Ended, begun: Instant) {
    let Ended { run_id, met, named, applied, problems, incomplete, finished, .. } = ended;
    let directory = opening.directory.as_str();
    let told = problems.kept().iter().map(ToString::to_string).chain(applied.problems.iter().cloned());
    for problem in told.take(TOLD_MAX) {
        tracing::info!(
            event = "sync_problem",
            service = SERVICE,
            directory,
            run_id,
            problem,
            "an entry was not taken as it is"
        );
    }
    let state = match (incomplete, finished.approval_id.is_empty()) {
        (Some(_), _) if finished.list_changed => "changed",
        (Some(_), _) => "incomplete",
        (None, false) => "parked",
        (None, true) => "done",
    };
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident, $text:literal) => {
            tracing::$level!(
                event = "sync_run",
                service = SERVICE,
                directory,
                run_id,
                mode = opening.mode,
                why = opening.why,
                feed = opening.feed,
                trigger = opening.trigger,
                state,
                error = incomplete.as_deref().unwrap_or_default(),
                users = met.users,
                groups = met.groups,
                named,
                added = applied.added,
                changed = applied.changed,
                unchanged = applied.unchanged,
                problems = ended.problem_count(),
                disabled = finished.disabled,
                removed = finished.removed,
                parked = finished.parked,
                parked_why = finished.parked_why,
                approval_id = finished.approval_id,
                ms,
                $text
            )
        };
    }
    match state {
        "done" => line!(info, "sync run ended"),
        "parked" => line!(warn, "sync run ended, leavers wait for approval"),
        "changed" => line!(warn, "the list has changed since somebody looked at it, nothing is written"),
        _ => line!(warn, "sync run ended, the read was not complete and nobody was taken for gone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_source_is_shown_once_a_day_and_the_next_one_at_once() {
        // S-44
        let shown = Instant::now();
        let learned = Learned { previewed: Some((shown, "second".into())), ..Learned::default() };
        assert!(!Learned::default().was_shown("second", shown), "none was");
        for (identity, later, expected) in [
            ("second", Duration::ZERO, true),
            ("second", PREVIEW_LIFE - Duration::from_secs(1), true),
            ("second", PREVIEW_LIFE, false),
            ("third", Duration::ZERO, false),
        ] {
            assert_eq!(learned.was_shown(identity, shown + later), expected, "{identity} after {later:?}");
        }
    }
}
