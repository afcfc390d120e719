//! The domains that a run of one directory reads: the directory's own, and those beside it whose people are its users, too (FD-02).
//!
//! ```text
//! of an item, of a pending name ─> the domain that its DN lies in
//! of an id                      ─> where it was told of, then the others, until somebody has it
//! ```
//!
//! One that cannot be read ends nothing: what the others hold is read all the same. But whoever was not found may be there, so nobody is
//! taken for gone, and the run is not complete (S-41).

use crate::objects::{Met, Nowhere, Objects, Target};
use crate::read::ReadError;
use domain::settings::SyncItem;
use domain::{ObjectId, ObjectName};
use ldap_wire::Dn;
use proto::user_store::{LeftObject, left_object::How};
use service_kit::chain;
use std::sync::OnceLock;

/// The domains of one run, by number: [`OWN`], then the others.
pub(crate) struct Domains {
    own: Objects,
    others: Vec<Other>,
    /// Why there may be others, in a sentence.
    unlisted: Option<String>,
}

/// The directory's own domain. It always can be asked: where it cannot be read, the run ends.
pub(crate) const OWN: usize = 0;

struct Other {
    /// Long, in lower case.
    name: String,
    objects: Option<Objects>,
    /// Why it could not be read, from the moment that it could not.
    unread: OnceLock<String>,
}

/// What an item names, as it was found.
pub(crate) struct Named {
    pub(crate) at: usize,
    pub(crate) dn: String,
    pub(crate) id: Option<ObjectId>,
    /// It lies below the base of its domain, where it can be looked for by its id.
    pub(crate) below_base: bool,
}

impl Domains {
    pub(crate) fn new(own: Objects) -> Self {
        Self { own, others: Vec::new(), unlisted: None }
    }

    /// Another domain, or why it cannot be read.
    pub(crate) fn with(mut self, name: &str, objects: Result<Objects, String>) -> Self {
        let unread = OnceLock::new();
        let objects = objects.map_err(|why| unread.get_or_init(|| why).clone()).ok();
        self.others.push(Other { name: name.to_owned(), objects, unread });
        self
    }

    /// And why there may be more, in a sentence.
    pub(crate) fn but_unlisted(mut self, why: Option<String>) -> Self {
        self.unlisted = why;
        self
    }

    /// All of them, the directory's own first.
    pub(crate) fn all(&self) -> std::ops::Range<usize> {
        OWN..self.others.len() + 1
    }

    pub(crate) fn are_several(&self) -> bool {
        !self.others.is_empty()
    }

    pub(crate) fn own(&self) -> &Objects {
        &self.own
    }

    pub(crate) fn directory_name(&self) -> &ObjectName {
        self.own.directory.name()
    }

    /// The long name of another domain than the directory's own.
    pub(crate) fn name(&self, at: usize) -> Option<&str> {
        self.other(at).map(|other| other.name.as_str())
    }

    /// What reads this domain; none where it cannot be read.
    pub(crate) fn objects(&self, at: usize) -> Option<&Objects> {
        match self.other(at) {
            None => Some(&self.own).filter(|_| at == OWN),
            Some(other) => other.objects.as_ref().filter(|_| other.unread.get().is_none()),
        }
    }

    /// Reads this domain otherwise from now on.
    pub(crate) fn reads(&mut self, at: usize, otherwise: impl FnOnce(&Objects) -> Objects) {
        let objects = match at.checked_sub(1).and_then(|other| self.others.get_mut(other)) {
            None => Some(&mut self.own),
            Some(other) => other.objects.as_mut(),
        };
        if let Some(objects) = objects {
            *objects = otherwise(objects);
        }
    }

    fn other(&self, at: usize) -> Option<&Other> {
        self.others.get(at.checked_sub(1)?)
    }

    /// The domain that this name lies in; the directory's own where it lies in no other that is read.
    pub(crate) fn of_dn(&self, dn: &Dn) -> usize {
        let domain = dn.dns_domain();
        let place = self.others.iter().position(|other| domain.as_deref() == Some(other.name.as_str()));
        place.map_or(OWN, |place| place + 1)
    }

    /// This one, and then the others.
    fn from(&self, first: usize) -> impl Iterator<Item = usize> + use<> {
        std::iter::once(first).chain(self.all().filter(move |at| *at != first))
    }

    /// Everything was read that there is, as far as the domains go.
    pub(crate) fn is_whole(&self) -> bool {
        self.unlisted.is_none() && self.others.iter().all(|other| other.unread.get().is_none())
    }

    /// Why not everything was read.
    pub(crate) fn whole(&self) -> Result<(), String> {
        let unread =
            |other: &Other| Some(format!("the domain {} could not be read: {}", other.name, other.unread.get()?));
        let all: Vec<String> = self.unlisted.iter().cloned().chain(self.others.iter().filter_map(unread)).collect();
        if all.is_empty() { Ok(()) } else { Err(all.join("; ")) }
    }

    /// From here on it is not asked any more: whoever waited for its time-out once does not wait again.
    pub(crate) fn could_not_be_read(&self, at: usize, why: String) {
        if let Some(other) = self.other(at) {
            other.unread.get_or_init(|| why);
        }
    }

    /// What came of reading a domain; `None` = it could not be read, which is noted.
    pub(crate) fn tried<T>(&self, at: usize, result: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
        match result {
            Err(error @ ReadError::Store(_)) => Err(error),
            Err(error) if at != OWN => {
                self.could_not_be_read(at, chain(&error));
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    /// What an item names by a DN or an id: by an id it may be in any domain. `None`: it may be where nobody can look.
    pub(crate) async fn named_by(&self, item: &SyncItem) -> Result<Option<Named>, ReadError> {
        let dn = item.source.dn.parse::<Dn>().ok();
        let first = dn.as_ref().map_or(OWN, |dn| self.of_dn(dn));
        let domain = dn.and_then(|dn| dn.dns_domain());
        if first == OWN
            && self.unlisted.is_some()
            && domain.is_some()
            && domain != self.own.directory.base().dns_domain()
        {
            return Ok(None);
        }
        let by_id = item.source.id.is_some();
        let mut gone = None;
        for at in self.from(first).take_while(|at| by_id || *at == first) {
            let Some(objects) = self.objects(at) else { continue };
            let named = match objects.named_by(item).await {
                Err(error @ ReadError::Gone { .. }) => {
                    gone.get_or_insert(error);
                    continue;
                }
                named => self.tried(at, named)?,
            };
            if let Some((dn, id)) = named {
                let below_base = dn.parse().is_ok_and(|dn: Dn| dn.is_within(objects.directory.base()));
                return Ok(Some(Named { at, dn, id, below_base }));
            }
        }
        let everywhere = !by_id || self.is_whole();
        gone.filter(|_| everywhere).map_or(Ok(None), Err)
    }

    /// Reads these objects again, whatever they are now, and wherever: `first` is where somebody told of them. How many are users.
    pub(crate) async fn by_ids(
        &self,
        first: usize,
        ids: &[ObjectId],
        nowhere: Nowhere<'_>,
        target: &mut Target<'_>,
    ) -> Result<u64, ReadError> {
        let (mut users, mut open) = (0, ids.to_vec());
        for at in self.from(first) {
            let Some(objects) = self.objects(at).filter(|_| !open.is_empty()) else { continue };
            if let Some((met, not_there)) = self.tried(at, objects.by_ids(&open, target).await)? {
                users += met;
                open = not_there;
            }
        }
        // Whom no domain has that answered, another one may have.
        if !self.is_whole() {
            return Ok(users);
        }
        for id in open {
            let how = match nowhere {
                Nowhere::Missed => How::Absent,
                Nowhere::Told(deleted) if deleted.contains(&id) => How::Deleted,
                Nowhere::Told(_) => continue,
            };
            target.writer.left(LeftObject { object_id: id.to_string(), how: how.into() }).await?;
        }
        Ok(users)
    }

    /// The ids of objects named by their DN; one that is not there is not among them.
    pub(crate) async fn ids_of_names(&self, names: &[String]) -> Result<Vec<ObjectId>, ReadError> {
        let mut ids = Vec::new();
        for name in names {
            // A name that is no DN is nobody's.
            let Ok(dn) = name.parse() else { continue };
            let at = self.of_dn(&dn);
            let Some(objects) = self.objects(at) else { continue };
            ids.extend(self.tried(at, objects.id_of_name(name, &dn).await)?.flatten());
        }
        Ok(ids)
    }

    /// The ids of objects named by their SID, or by their uid where groups do so.
    pub(crate) async fn ids_of_sids(&self, sids: &[String]) -> Result<Vec<ObjectId>, ReadError> {
        let mut ids = Vec::new();
        for at in self.all() {
            let Some(objects) = self.objects(at).filter(|_| !sids.is_empty()) else { continue };
            ids.extend(self.tried(at, objects.ids_of_sids(sids).await)?.into_iter().flatten());
        }
        Ok(ids)
    }

    /// Everything below a container that moved.
    pub(crate) async fn everything_below(
        &self,
        container: &str,
        target: &mut Target<'_>,
        met: &mut Met,
    ) -> Result<(), ReadError> {
        let at = container.parse().map_or(OWN, |dn| self.of_dn(&dn));
        let Some(objects) = self.objects(at) else { return Ok(()) };
        match objects.everything_below(container, target, met).await {
            // It moved on or is gone: whatever happened is in the feed, too.
            Err(ReadError::Incomplete { cause, .. }) if cause.is_out_of_reach() => Ok(()),
            result => self.tried(at, result).map(drop),
        }
    }
}
