//! What is asked of a directory before a run, so that it is clear how it is read: who answers, what it offers, and which other domains are
//! read with it (FD-02).

use crate::domains::Domains;
use crate::mode;
use crate::objects::Objects;
use crate::positions::{OtherPosition, Positions};
use crate::run::Runner;
use crate::settings::Snapshot;
use directory::{Directory, NotUsed, Offer, OtherDomain, OtherDomains};
use futures::FutureExt;
use futures::future::{join_all, try_join};
use service_kit::{Clock, chain};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a directory offers is asked again after this, and after a feed that could not go on.
const OFFERS_LIFE: Duration = Duration::from_secs(3600);
/// Of the directory's own domain.
const OF_OWN: &str = "";

/// A directory that is about to be run.
pub(crate) struct Prepared {
    pub(crate) own: Reached,
    others: Others,
    /// What all of them offer, for people.
    pub(crate) told: Vec<String>,
}

/// Its other domains.
struct Others {
    others: Vec<ReachedOther>,
    /// Why nobody knows which there are.
    unlisted: Option<String>,
    /// How many are listed beyond those that can be used.
    beyond: usize,
}

/// A domain that answers.
pub(crate) struct Reached {
    pub(crate) directory: Arc<Directory>,
    /// Who it is; of the directory's own also how it is read.
    pub(crate) identity: String,
    /// When it was asked what it offers.
    asked: Instant,
    offers: Vec<Offer>,
    /// The feed that is used, of all that are offered.
    pub(crate) feed: Option<Offer>,
}

struct ReachedOther {
    name: String,
    before_backslash: String,
    reached: Result<Reached, String>,
}

impl ReachedOther {
    fn not_used(name: String, why: NotUsed) -> Self {
        let reached = Err(format!("it was read before, and is listed and not used now, since {why}"));
        Self { before_backslash: name.clone(), name, reached }
    }

    fn facts(&self) -> mode::Other<'_> {
        let now = self.reached.as_ref().ok();
        let now = now.map(|now| mode::OtherNow { identity: &now.identity, feed: now.feed.as_ref() });
        mode::Other { name: &self.name, now }
    }

    /// For people, beside what the directory's own domain offers.
    fn told(&self) -> String {
        let name = &self.name;
        match &self.reached {
            Ok(Reached { feed: Some(feed), .. }) => format!("{name}: {}", mode::told(feed)),
            Ok(_) => format!("{name}: is read whole"),
            Err(why) => format!("{name}: cannot be read, {why}"),
        }
    }
}

impl Others {
    /// Why there may be more than these.
    fn not_listed(&self) -> Option<String> {
        let Self { unlisted, beyond, .. } = self;
        match unlisted {
            Some(why) => Some(format!("the other domains could not be listed: {why}")),
            None if *beyond > 0 => {
                Some(format!("{beyond} other domains are listed and not used, since {}", NotUsed::TooMany))
            }
            None => None,
        }
    }
}

impl Prepared {
    pub(crate) fn domains(&self, clock: &Clock) -> Domains {
        let mut domains = Domains::new(Objects::new(Arc::clone(&self.own.directory), clock.clone()));
        for ReachedOther { name, before_backslash, reached } in &self.others.others {
            let (at, before_backslash) = (domains.all().end, before_backslash.clone());
            let objects = reached
                .as_ref()
                .map_err(Clone::clone)
                .map(|reached| Objects::of_other(Arc::clone(&reached.directory), clock.clone(), at, before_backslash));
            domains = domains.with(name, objects);
        }
        domains.but_unlisted(self.others.not_listed())
    }

    /// By the numbers of the domains; none of one that could not be reached.
    pub(crate) fn feed(&self, at: usize) -> Option<&Offer> {
        let reached = match at.checked_sub(1) {
            None => Some(&self.own),
            Some(other) => self.others.others.get(other).and_then(|other| other.reached.as_ref().ok()),
        };
        reached?.feed.as_ref()
    }

    /// None of them has one yet.
    pub(crate) fn positions(&self) -> Positions {
        let others = self.others.others.iter().filter_map(|other| {
            let identity = other.reached.as_ref().ok()?.identity.clone();
            Some((other.name.clone(), OtherPosition { identity, position: None }))
        });
        Positions { own: None, others: others.collect() }
    }

    /// What decides how they are read; `None` = nobody knows which others there are.
    pub(crate) fn facts(&self) -> Option<Vec<mode::Other<'_>>> {
        self.others.unlisted.is_none().then(|| self.others.others.iter().map(ReachedOther::facts).collect())
    }
}

/// What the domains of a directory offer, as it was asked last.
#[derive(Default)]
pub(crate) struct Offers {
    /// By their long names, and [`OF_OWN`].
    by_domain: HashMap<String, Offered>,
}

/// What was asked, of whom, and when.
struct Offered {
    asked: Instant,
    /// Something has shown since that it may be otherwise.
    doubtful: bool,
    whose: Arc<Directory>,
    offers: Vec<Offer>,
}

impl Offers {
    /// What this directory offers, if that was asked of late, and when.
    fn fresh(&self, domain: &str, directory: &Arc<Directory>) -> Option<(Instant, Vec<Offer>)> {
        let offered = self.by_domain.get(domain)?;
        let is_fresh =
            offered.asked.elapsed() < OFFERS_LIFE && !offered.doubtful && Arc::ptr_eq(&offered.whose, directory);
        is_fresh.then(|| (offered.asked, offered.offers.clone()))
    }

    /// The next run asks anew. What was found until then still says whether the directory can be followed.
    pub(crate) fn doubt(&mut self) {
        self.by_domain.values_mut().for_each(|offered| offered.doubtful = true);
    }
}

impl Runner {
    /// Everything that is asked of a directory before it is clear how it is read. Of all domains beside each other, and of others than
    /// home not for long: home is read only after that, as one that is another than before makes all of the run a preview (S-44).
    /// `known` is what was read before.
    pub(crate) async fn prepare(&mut self, snapshot: &Snapshot, known: &Positions) -> Result<Prepared, String> {
        let directory = self.settings.directory(&self.name)?;
        directory.ready().await.map_err(|error| chain(&error))?;
        let probes = !snapshot.settings.sync.always_full;
        let own = Objects::new(Arc::clone(&directory), self.clock.clone());
        let identity = own.identity().await.map_err(|error| chain(&error))?;
        self.learned.identity.clone_from(&identity);
        let own = self.reached(OF_OWN, &directory, identity, probes);
        let (own, others) =
            try_join(Box::pin(own), Box::pin(self.others_of(&directory, probes, known).map(Ok))).await?;
        let all = others.others.iter().filter_map(|other| Some((other.name.as_str(), other.reached.as_ref().ok()?)));
        for (name, reached) in all.chain([(OF_OWN, &own)]).filter(|_| probes) {
            let (asked, whose, offers) = (reached.asked, Arc::clone(&reached.directory), reached.offers.clone());
            self.learned.offers.by_domain.insert(name.to_owned(), Offered { asked, doubtful: false, whose, offers });
        }
        let mut told: Vec<String> = own.offers.iter().map(mode::told).collect();
        told.extend(others.others.iter().map(ReachedOther::told));
        Ok(Prepared { own, others, told })
    }

    async fn others_of(&self, directory: &Arc<Directory>, probes: bool, known: &Positions) -> Others {
        let patience = Patience::with(directory);
        let (OtherDomains { used, not_used }, unlisted) =
            match patience.waits_for(self.settings.other_domains(directory)).await {
                Ok(others) => (others, None),
                Err(why) => (OtherDomains::default(), Some(why)),
            };
        let mut others = join_all(used.into_iter().map(|other| self.reached_other(other, probes, patience))).await;
        let beyond = not_used.iter().filter(|(_, why)| *why == NotUsed::TooMany).count();
        // A domain without people of ours need not be read. Whether those of one that was read are gone, nobody can say (S-41).
        let were_read = not_used.into_iter().filter(|(name, _)| known.others.contains_key(name));
        others.extend(were_read.map(|(name, why)| ReachedOther::not_used(name, why)));
        Others { others, unlisted, beyond }
    }

    async fn reached_other(&self, other: OtherDomain, probes: bool, patience: Patience) -> ReachedOther {
        let OtherDomain { dns_name: name, before_backslash, directory } = other;
        let reached = async {
            let directory = directory.map_err(|error| chain(&error))?;
            let objects = Objects::new(Arc::clone(&directory), self.clock.clone());
            // How it is read is said by the settings of the directory.
            let identity = objects.id_of_base().await.map_err(|error| chain(&error))?;
            self.reached(&name, &directory, identity, probes).await
        };
        let reached = patience.waits_for(reached).await;
        ReachedOther { name, before_backslash, reached }
    }

    async fn reached(
        &self,
        name: &str,
        directory: &Arc<Directory>,
        identity: String,
        probes: bool,
    ) -> Result<Reached, String> {
        let known = self.learned.offers.fresh(name, directory).filter(|_| probes);
        let (asked, offers) = match (known, probes) {
            (Some((asked, offers)), _) => (asked, offers),
            (None, true) => (Instant::now(), directory.probe_feeds().await.map_err(|error| chain(&error))?),
            (None, false) => (Instant::now(), Vec::new()),
        };
        let feed = chosen(directory, &offers).cloned();
        Ok(Reached { directory: Arc::clone(directory), identity, asked, offers, feed })
    }

    /// The identity of a directory that can be followed, as the last run found it.
    pub(crate) fn followed(&self, directory: &Arc<Directory>) -> Option<&str> {
        let Offered { whose, offers, .. } = self.learned.offers.by_domain.get(OF_OWN)?;
        let feed = chosen(directory, offers)?;
        (feed.persists && Arc::ptr_eq(whose, directory)).then_some(self.learned.identity.as_str())
    }
}

/// How long is waited for the other domains, all of them together.
#[derive(Clone, Copy)]
struct Patience {
    whole: Duration,
    until: Instant,
}

impl Patience {
    /// As long as one server may take to be connected to, to say who it is and to say what it offers. The next servers of a domain are
    /// for the next run.
    fn with(directory: &Directory) -> Self {
        let settings = directory.settings();
        let seconds = u64::from(settings.connect_timeout_seconds) + 2 * u64::from(settings.timeout_seconds);
        let whole = Duration::from_secs(seconds);
        Self { whole, until: Instant::now() + whole }
    }

    async fn waits_for<T>(self, asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let answer = tokio::time::timeout_at(self.until, asked).await;
        answer.unwrap_or_else(|_| Err(format!("there was no answer within {} seconds", self.whole.as_secs())))
    }
}

/// The feed of the settings, else the first that can be used.
fn chosen<'a>(directory: &Directory, offers: &'a [Offer]) -> Option<&'a Offer> {
    let wanted = directory.settings().feed;
    offers.iter().find(|offer| offer.usable.is_ok() && wanted.is_none_or(|wanted| wanted == offer.kind))
}
