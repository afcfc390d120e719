//! An incremental run: what a change feed names is read again by its ids, then whatever that made doubtful (S-01, S-02).
//!
//! A feed says *which* objects changed, never what they are now: so a value that was taken away, a replay, a server that lags behind
//! or one that tells everything anew need no rule of their own (S-15, S-18).

use crate::apply::{BegunRun, StoreError, Term, Writer};
use crate::full;
use crate::objects::{Met, Nowhere, Objects};
use crate::plan::Problems;
use crate::read::ReadError;
use crate::source::Source;
use directory::{Event, Position};
use domain::ObjectId;
use domain::settings::SyncItem;
use proto::user_store::pending::What;
use std::collections::HashSet;

/// Changed objects that are read again together.
const TOGETHER: usize = 500;
/// Pages of what is in doubt, in one run: a million objects.
const PAGES_MAX: usize = 1_000;

/// A run that follows a feed.
pub(crate) struct Increment<'a> {
    objects: &'a Objects,
    source: &'a Source,
    run: &'a BegunRun,
    writer: &'a mut Writer,
    problems: &'a mut Problems,
    changed: Vec<ObjectId>,
    known: HashSet<ObjectId>,
    deleted: HashSet<ObjectId>,
    position: Option<Position>,
    /// Objects that the feed named.
    pub(crate) named: u64,
}

impl<'a> Increment<'a> {
    pub(crate) fn new(
        objects: &'a Objects,
        source: &'a Source,
        run: &'a BegunRun,
        writer: &'a mut Writer,
        problems: &'a mut Problems,
    ) -> Self {
        let (changed, known, deleted) = (Vec::new(), HashSet::new(), HashSet::new());
        Self { objects, source, run, writer, problems, changed, known, deleted, position: None, named: 0 }
    }

    /// Takes in what the feed said. `true` = that was its end.
    pub(crate) async fn take(&mut self, event: Event) -> Result<bool, ReadError> {
        match event {
            Event::Changed(id) => self.again(id).await?,
            Event::Deleted(id) => {
                self.deleted.insert(id.clone());
                self.again(id).await?;
            }
            Event::Present(ids) => {
                for id in &ids {
                    self.writer.present(id).await?;
                }
            }
            Event::Position(position) => self.position = Some(position),
            Event::UpToDate { .. } => {}
            Event::End { rest_is_gone } => {
                // The position is stored with what proves absence, not before it (S-32).
                let position = self.position.take_if(|_| rest_is_gone);
                self.flush().await?;
                if rest_is_gone {
                    // A right that was lost looks the same: that nobody named them is one sweep of two (S-43).
                    full::unseen(self.objects, self.source, self.run, self.writer, self.problems).await?;
                    self.position = position;
                    self.flush().await?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn again(&mut self, id: ObjectId) -> Result<(), ReadError> {
        self.named += 1;
        if self.known.insert(id.clone()) {
            self.changed.push(id);
        }
        if self.changed.len() >= TOGETHER { self.flush().await } else { Ok(()) }
    }

    /// Reads again what was named, and stores it with the position that covers it.
    pub(crate) async fn flush(&mut self) -> Result<(), ReadError> {
        let changed = std::mem::take(&mut self.changed);
        self.known.clear();
        self.objects.by_ids(&changed, Nowhere::Told(&self.deleted), self.source, self.writer, self.problems).await?;
        self.deleted.clear();
        // While a source is gone not all that is named can be judged: it is read again from where the feed was (S-02).
        if let Some(position) = self.position.take().filter(|_| self.source.is_whole()) {
            self.objects.is_of(&position.origin())?;
            self.writer.position(written(&position));
        }
        Ok(self.writer.flush().await?)
    }
}

/// As the store keeps it.
pub(crate) fn written(position: &Position) -> Vec<u8> {
    serde_json::to_vec(position).expect("a position holds texts and numbers")
}

/// Reads again whatever changed objects made doubtful, until nothing is: it may make more doubtful.
pub(crate) async fn settle(
    term: &Term,
    objects: &Objects,
    items: &[&SyncItem],
    writer: &mut Writer,
    problems: &mut Problems,
) -> Result<(), ReadError> {
    let mut before = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = term.pending(objects.directory.name().as_str()).await?;
        let pending_ids: Vec<String> = page.iter().map(|pending| pending.pending_id.clone()).collect();
        if page.is_empty() {
            return Ok(());
        }
        // What an item names may have moved with the containers that are read again here: it is found anew.
        let source = Source::resolve(objects, items).await?;
        let source = &source;
        if pending_ids == before {
            break;
        }
        let (mut ids, mut names, mut sids, mut below) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for pending in page {
            match pending.what {
                Some(What::ObjectId(id)) => ids.extend(id.parse::<ObjectId>()),
                Some(What::DistinguishedName(name)) => names.push(name),
                Some(What::Sid(sid)) => sids.push(sid),
                Some(What::Below(container)) => below.push(container),
                None => {}
            }
        }
        ids.extend(objects.ids_of_names(&names).await?);
        ids.extend(objects.ids_of_sids(&sids).await?);
        let distinct: HashSet<ObjectId> = ids.into_iter().collect();
        let ids: Vec<ObjectId> = distinct.into_iter().collect();
        objects.by_ids(&ids, Nowhere::Told(&HashSet::new()), source, writer, problems).await?;
        for container in below {
            let mut met = Met::default();
            match objects.everything_below(&container, source, writer, problems, &mut met).await {
                // It moved on or is gone: whatever happened is in the feed, too.
                Err(ReadError::Incomplete { cause, .. }) if cause.is_out_of_reach() => {}
                result => result?,
            }
        }
        if !source.is_whole() {
            // Whoever only the source that is gone may hold could not be judged: it is all read again when it is back.
            return Ok(writer.flush().await?);
        }
        for pending_id in &pending_ids {
            writer.settled(pending_id.clone()).await?;
        }
        writer.flush().await?;
        before = pending_ids;
    }
    Err(ReadError::Store(StoreError::Refused { call: "ListPending", code: tonic::Code::ResourceExhausted }))
}
