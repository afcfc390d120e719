//! An incremental run: what a change feed names is read again by its ids, then whatever that made doubtful (S-01, S-02).
//!
//! A feed says *which* objects changed, never what they are now: so a value that was taken away, a replay, a server that lags behind
//! or one that tells everything anew need no rule of their own (S-15, S-18).

use crate::apply::{BegunRun, StoreError, Term, Writer};
use crate::domains::{Domains, OWN};
use crate::full;
use crate::objects::{Met, Nowhere, Target};
use crate::plan::Problems;
use crate::positions::Positions;
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

/// A run that follows the feed of a domain.
pub(crate) struct Increment<'a> {
    domains: &'a Domains,
    /// The domain that tells.
    at: usize,
    run: &'a BegunRun,
    target: Target<'a>,
    /// Of all domains; what this one tells moves its own.
    positions: &'a mut Positions,
    changed: Vec<ObjectId>,
    known: HashSet<ObjectId>,
    deleted: HashSet<ObjectId>,
    position: Option<Position>,
    /// Objects that the feed named.
    pub(crate) named: u64,
}

impl<'a> Increment<'a> {
    pub(crate) fn new(
        domains: &'a Domains,
        at: usize,
        run: &'a BegunRun,
        target: Target<'a>,
        positions: &'a mut Positions,
    ) -> Self {
        let (changed, known, deleted) = (Vec::new(), HashSet::new(), HashSet::new());
        Self { domains, at, run, target, positions, changed, known, deleted, position: None, named: 0 }
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
                    self.target.writer.present(id).await?;
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
                    full::unseen(self.domains, self.at, self.run, &mut self.target).await?;
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
        let (domains, at) = (self.domains, self.at);
        domains.by_ids(at, &changed, Nowhere::Told(&self.deleted), &mut self.target).await?;
        self.deleted.clear();
        // While a source is gone, or a domain cannot be read, not all that is named can be judged: it is read again from where the feed
        // was (S-02).
        let is_whole = self.target.source.is_whole() && domains.is_whole();
        if let Some(position) = self.position.take().filter(|_| is_whole)
            && let Some(objects) = domains.objects(at)
        {
            objects.is_of(&position.origin())?;
            self.positions.continues(domains.name(at), position);
            self.target.writer.position(self.positions.written());
        }
        Ok(self.target.writer.flush().await?)
    }
}

/// Reads again whatever changed objects made doubtful, until nothing is: it may make more doubtful.
pub(crate) async fn settle(
    term: &Term,
    domains: &Domains,
    items: &[&SyncItem],
    writer: &mut Writer,
    problems: &mut Problems,
) -> Result<(), ReadError> {
    let mut before = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = term.pending(domains.directory_name().as_str()).await?;
        let pending_ids: Vec<String> = page.iter().map(|pending| pending.pending_id.clone()).collect();
        if page.is_empty() {
            return Ok(());
        }
        // What an item names may have moved with the containers that are read again here: it is found anew.
        let source = Source::resolve(domains, items).await?;
        let target = &mut Target { source: &source, writer, problems };
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
        ids.extend(domains.ids_of_names(&names).await?);
        ids.extend(domains.ids_of_sids(&sids).await?);
        let distinct: HashSet<ObjectId> = ids.into_iter().collect();
        let ids: Vec<ObjectId> = distinct.into_iter().collect();
        domains.by_ids(OWN, &ids, Nowhere::Told(&HashSet::new()), target).await?;
        for container in below {
            domains.everything_below(&container, target, &mut Met::default()).await?;
        }
        if !source.is_whole() || !domains.is_whole() {
            // Whoever only the source that is gone may hold, or is where nobody can look, could not be judged: it is all read again when
            // that is back.
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
