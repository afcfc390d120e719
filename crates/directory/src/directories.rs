//! All directories of the settings, by name, exchanged as a whole when the settings change.

use crate::directory::{Directory, Options, SettingsError};
use crate::domains::{Belongs, Place};
use crate::name::{NameError, TypedName};
use crate::read::Incomplete;
use crate::resolve::{Among, Entry, ResolveError};
use crate::trusted::{Listed, NotUsed, TrustedDomain};
use domain::settings::Preset;
use domain::{NameForm, ObjectId, ObjectName, Secret, settings};
use futures::StreamExt;
use futures::future::{join, join_all, try_join_all};
use futures::stream::FuturesUnordered;
use std::sync::{Arc, PoisonError, RwLock};

/// Clones of an `Arc<Directory>` stay good for as long as somebody holds them.
pub struct Directories {
    options: Options,
    /// In the order of the settings.
    current: RwLock<Arc<[Arc<Directory>]>>,
    /// Those of Active Directory that cannot be used.
    refused: RwLock<Arc<[UnusableDomain]>>,
}

/// A domain beside a directory's own whose people have their identity by that directory (FD-02).
pub struct OtherDomain {
    /// In lower case: `child.corp.example`.
    pub dns_name: String,
    /// What stands before a backslash and means this domain alone: `CHILD`, or the long name.
    pub before_backslash: String,
    /// What is asked about its people; an error: it, or whose they are, cannot be said now.
    pub directory: Result<Arc<Directory>, ResolveError>,
}

/// The domains beside a directory's own, of those that it lists.
#[derive(Default)]
pub struct OtherDomains {
    /// Whose people have their identity by that directory.
    pub used: Vec<OtherDomain>,
    /// By their long names, in lower case: whose people nobody looks for, since their domain is not used.
    pub not_used: Vec<(String, NotUsed)>,
}

struct UnusableDomain {
    name: ObjectName,
    base: String,
    lists_others: bool,
    /// How many that can be used stand before it in the settings.
    place: usize,
}

/// A directory whose settings cannot be used. It is absent from the collection until they change.
#[derive(Debug, thiserror::Error)]
#[error("directory {name} cannot be used")]
pub struct RefusedDirectory {
    pub name: ObjectName,
    #[source]
    pub error: SettingsError,
}

/// A directory, and what it lists.
type ListedBy = (Arc<Directory>, Result<Arc<Listed>, Arc<Incomplete>>);

/// Whether people of that domain may sign in, so that nobody else has a name of it: those of one too many by a directory of the
/// settings only.
fn has_its_names(domain: &TrustedDomain) -> bool {
    matches!(domain.usable, Ok(()) | Err(NotUsed::TooMany))
}

/// Those of Active Directory that are not `home`: each may be one of its other domains.
fn others_of<'a>(all: &'a [Arc<Directory>], home: &'a Arc<Directory>) -> impl Iterator<Item = &'a Arc<Directory>> {
    all.iter().filter(|it| it.settings().preset == Preset::ActiveDirectory && !Arc::ptr_eq(it, home))
}

impl Directories {
    pub fn new(options: Options) -> Self {
        Self { options, current: RwLock::new(Arc::new([])), refused: RwLock::new(Arc::new([])) }
    }

    /// Makes the collection equal to `wanted`: each directory with its query password. What has not changed keeps its
    /// connections; what is gone closes them when the last login that uses it is over.
    pub fn replace(
        &self,
        wanted: impl IntoIterator<Item = (settings::Directory, Option<Secret>)>,
    ) -> Vec<RefusedDirectory> {
        let before = self.all();
        let mut refused = Vec::new();
        let mut unusable = Vec::new();
        let mut after: Vec<Arc<Directory>> = Vec::new();
        for (settings, password) in wanted {
            let unchanged = before.iter().find(|directory| directory.is_made_of(&settings, password.as_ref()));
            let name = settings.name.clone();
            let domain = (settings.preset == Preset::ActiveDirectory).then(|| UnusableDomain {
                name: name.clone(),
                base: settings.base.clone(),
                lists_others: settings.includes_trusted_domains(),
                place: after.len(),
            });
            match unchanged {
                Some(directory) => after.push(Arc::clone(directory)),
                None => match Directory::new(settings, password, self.options.clone()) {
                    Ok(directory) => after.push(Arc::new(directory)),
                    Err(error) => {
                        unusable.extend(domain);
                        refused.push(RefusedDirectory { name, error });
                    }
                },
            }
        }
        *self.refused.write().unwrap_or_else(PoisonError::into_inner) = unusable.into();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = after.into();
        refused
    }

    /// The one user this name means to those who sign in at `home`, and the directory that has them: `home` itself, or else the first
    /// of its alternate directories where somebody has it as their alternate name (FD-19). The next is asked only after the one before
    /// has proven that it has nobody. A name that belongs to another domain is looked up there (FD-02), before anything that
    /// is only an attribute of somebody at home, or of an alternate directory, could take it.
    pub async fn resolve(
        &self,
        home: &Arc<Directory>,
        name: &TypedName,
    ) -> Result<(Arc<Directory>, Entry), ResolveError> {
        self.resolve_among(home, name, Among::Users).await
    }

    /// Whether it is proven that this name is nobody's to those who sign in at `home`: no entry has it in any place that
    /// [`Directories::resolve`] looks at. Whoever the user filter keeps out is somebody, and so are several of one name.
    pub async fn has_nobody(&self, home: &Arc<Directory>, name: &TypedName) -> Result<bool, ResolveError> {
        match self.resolve_among(home, name, Among::All).await {
            Err(ResolveError::Absent) => Ok(true),
            Err(error) if error.is_unavailable() => Err(error),
            Ok(_) | Err(_) => Ok(false),
        }
    }

    async fn resolve_among(
        &self,
        home: &Arc<Directory>,
        name: &TypedName,
        among: Among,
    ) -> Result<(Arc<Directory>, Entry), ResolveError> {
        if !home.includes_trusted_domains() {
            return self.resolve_by_settings(home, name, among).await;
        }
        let name = home.read_again(name).await?;
        let Some(belongs) = Belongs::of(&name, home.settings()) else {
            return self.resolve_by_settings(home, &name, among).await;
        };
        for place in belongs.places() {
            match self.at(place, home, &name, &belongs, among).await {
                Some(Err(ResolveError::Absent)) if !(place == Place::There && name.is_of_one_domain()) => {}
                Some(found) => return found,
                None => {}
            }
        }
        self.resolve_further(home, &name, among).await
    }

    /// `None`: the name belongs to no other domain, or to one whose people cannot sign in.
    async fn at(
        &self,
        place: Place,
        home: &Arc<Directory>,
        name: &TypedName,
        belongs: &Belongs<'_>,
        among: Among,
    ) -> Option<Result<(Arc<Directory>, Entry), ResolveError>> {
        match place {
            Place::Home => Some(home.resolve_by_form(name, among).await.map(|entry| (Arc::clone(home), entry))),
            Place::There => Box::pin(self.in_its_domain(home, name, belongs, among)).await,
        }
    }

    /// The other domain that a name belongs to, where it is nobody else's: long, in lower case. As far as it is known without asking.
    pub fn other_domain(&self, home: &Directory, name: &TypedName) -> Option<String> {
        let listed = home.domains().known().filter(|_| home.includes_trusted_domains())?;
        let domain = Belongs::of(name, home.settings())?.find(&listed.domains).ok()??;
        has_its_names(domain).then(|| domain.dns_name.clone())
    }

    /// In the other domain that the name belongs to. `None`: it belongs to none, or to one whose people cannot sign in.
    async fn in_its_domain(
        &self,
        home: &Arc<Directory>,
        name: &TypedName,
        belongs: &Belongs<'_>,
        among: Among,
    ) -> Option<Result<(Arc<Directory>, Entry), ResolveError>> {
        let found = async {
            let listed = home.domains().listed(home).await.map_err(ResolveError::Unlisted)?;
            let domain = belongs.find(&listed.domains)?.filter(|domain| has_its_names(domain));
            let Some(domain) = domain else { return Ok(None) };
            self.all_ready(home).await?;
            let mut directories = self.of_domain(home, domain)?;
            if directories.is_empty() {
                if let Err(why) = domain.usable {
                    return Err(ResolveError::NotUsed { domain: domain.dns_name.clone(), why });
                }
                directories.push(self.standing_for(home, &listed, domain, &self.listed_before(home).await)?);
            }
            let text = belongs.text(name, domain);
            let mut found = Err(ResolveError::Absent);
            for directory in directories {
                let name = TypedName::parse(&text, directory.settings())?;
                found = directory.resolve_among(&name, among).await.map(|entry| (directory, entry));
                if !matches!(found, Err(ResolveError::Absent | ResolveError::Name(NameError::OutsideBase))) {
                    break;
                }
            }
            found.map(Some)
        };
        found.await.transpose()
    }

    /// Which directory of the settings is which domain is said by their bases. Together: of several whose base nobody knows yet, each may
    /// be silent.
    async fn all_ready(&self, home: &Arc<Directory>) -> Result<(), ResolveError> {
        let all = self.all();
        try_join_all(others_of(&all, home).map(|directory| directory.ready())).await?;
        Ok(())
    }

    /// The directories of the settings whose base lies in that domain, once [`Directories::all_ready`]: who is found there has their
    /// identity by these, always. So one that cannot be used is an error.
    fn of_domain(&self, home: &Arc<Directory>, domain: &TrustedDomain) -> Result<Vec<Arc<Directory>>, ResolveError> {
        let may_be_it = |unusable: &&UnusableDomain| {
            unusable
                .base
                .parse::<ldap_wire::Dn>()
                .map_or(true, |base| base.dns_domain().is_none_or(|it| it == domain.dns_name))
        };
        if let Some(unusable) = self.refused.read().unwrap_or_else(PoisonError::into_inner).iter().find(may_be_it) {
            return Err(ResolveError::Unusable { directory: unusable.name.clone() });
        }
        let all = self.all();
        let is_it = |it: &&Arc<Directory>| it.base().dns_domain().is_some_and(|name| name == domain.dns_name);
        Ok(others_of(&all, home).filter(is_it).cloned().collect())
    }

    /// What the directories before `home` list, each asked once, beside each other.
    async fn listed_before(&self, home: &Arc<Directory>) -> Vec<ListedBy> {
        let all = self.all();
        let before = all.iter().take_while(|directory| directory.name() != home.name());
        let before = before.filter(|directory| directory.includes_trusted_domains());
        join_all(before.map(async |it| (Arc::clone(it), it.domains().listed(it).await))).await
    }

    /// The directory that stands for a domain which the settings have none for. Where several list it, the first of the settings gives
    /// its people their identity: they have one, whichever way they come. While one that stands before `home` cannot say what it
    /// lists, nobody knows whose they are.
    fn standing_for(
        &self,
        home: &Arc<Directory>,
        listed: &Listed,
        domain: &TrustedDomain,
        listed_before: &[ListedBy],
    ) -> Result<Arc<Directory>, ResolveError> {
        let all = self.all();
        let place = all.iter().position(|directory| directory.name() == home.name()).unwrap_or(all.len());
        let stands_before = |unusable: &&UnusableDomain| unusable.lists_others && unusable.place <= place;
        if let Some(unusable) = self.refused.read().unwrap_or_else(PoisonError::into_inner).iter().find(stands_before) {
            return Err(ResolveError::Unusable { directory: unusable.name.clone() });
        }
        for (owner, theirs) in listed_before {
            let theirs = theirs.as_ref().map_err(|error| ResolveError::Unlisted(Arc::clone(error)))?;
            let is_it = |it: &&TrustedDomain| it.dns_name == domain.dns_name && it.usable.is_ok();
            if let Some(domain) = theirs.domains.iter().find(is_it) {
                return owner.domains().of(owner, theirs, domain);
            }
        }
        home.domains().of(home, listed, domain)
    }

    /// The other domains whose people have their identity by `home`: those in use that the settings have no directory for, and that
    /// none before `home` lists (FD-02). An error: nobody can say which there are. However many there are, and whoever is silent, each
    /// directory is waited for once.
    pub async fn other_domains(&self, home: &Arc<Directory>) -> Result<OtherDomains, ResolveError> {
        if !home.includes_trusted_domains() {
            return Ok(OtherDomains::default());
        }
        let listed = home.domains().listed(home).await.map_err(ResolveError::Unlisted)?;
        let (ready, listed_before) = join(self.all_ready(home), self.listed_before(home)).await;
        let mut others = OtherDomains::default();
        for domain in &listed.domains {
            let of_domain = ready.clone().and_then(|()| self.of_domain(home, domain));
            if of_domain.as_ref().is_ok_and(|of_domain| !of_domain.is_empty()) {
                continue;
            }
            let dns_name = domain.dns_name.clone();
            if let Err(why) = domain.usable {
                others.not_used.push((dns_name, why));
                continue;
            }
            let directory = of_domain.and_then(|_| self.standing_for(home, &listed, domain, &listed_before));
            if directory.as_ref().is_ok_and(|directory| directory.name() != home.name()) {
                continue;
            }
            let before_backslash = listed.before_backslash(domain, home.settings()).to_owned();
            others.used.push(OtherDomain { dns_name, before_backslash, directory });
        }
        Ok(others)
    }

    /// Whose id this is, among those who have their identity by `home`: its own people, and those of [`Directories::other_domains`].
    pub async fn holder(&self, home: &Arc<Directory>, id: &ObjectId) -> Result<(Arc<Directory>, Entry), ResolveError> {
        let name = TypedName::of_id(id);
        let mut found = home.resolve(&name).await.map(|entry| (Arc::clone(home), entry));
        if !matches!(found, Err(ResolveError::Absent)) {
            return found;
        }
        let mut asked = FuturesUnordered::new();
        for other in self.other_domains(home).await?.used {
            match other.directory {
                Ok(directory) => {
                    let name = &name;
                    asked.push(async move { directory.resolve(name).await.map(|entry| (directory, entry)) });
                }
                Err(error) => found = Err(error),
            }
        }
        // A server has handed the id out (the settings allow no other beside trusted domains), so that it is nobody else's: who is
        // silent keeps nobody waiting whom another one has.
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(holder) => return Ok(holder),
                Err(ResolveError::Absent) => {}
                Err(error) => found = Err(error),
            }
        }
        found
    }

    async fn resolve_by_settings(
        &self,
        home: &Arc<Directory>,
        name: &TypedName,
        among: Among,
    ) -> Result<(Arc<Directory>, Entry), ResolveError> {
        match home.resolve_by_form(name, among).await {
            Err(ResolveError::Absent) => self.resolve_further(home, name, among).await,
            found => found.map(|entry| (Arc::clone(home), entry)),
        }
    }

    /// What is asked when the form of the name has led to nobody.
    async fn resolve_further(
        &self,
        home: &Arc<Directory>,
        name: &TypedName,
        among: Among,
    ) -> Result<(Arc<Directory>, Entry), ResolveError> {
        let mut found = home.resolve_further(name, among).await.map(|entry| (Arc::clone(home), entry));
        if !name.may_be_alternate() {
            return found;
        }
        for other in &home.settings().alternate_directories {
            match found {
                Err(ResolveError::Absent) => {}
                found => return found,
            }
            let directory = self.named(other.as_str());
            let directory = directory.ok_or_else(|| ResolveError::Unusable { directory: other.clone() })?;
            found = directory.resolve_alternate(name, among).await.map(|entry| (directory, entry));
        }
        found
    }

    /// Asks whatever [`Directories::resolve`] asks after it has not found `found`: so a name that somebody has costs as many questions as
    /// one of the same form that nobody has (L-41). Nothing comes of the answers.
    pub async fn ask_on(&self, home: &Arc<Directory>, name: &TypedName, found: (&Arc<Directory>, &Entry)) {
        let (at, entry) = found;
        let (others, at_home) = (&home.settings().alternate_directories, Arc::ptr_eq(at, home));
        let alternate =
            others.iter().position(|other| !at_home && entry.form == NameForm::Alternate && other == at.name());
        if alternate.is_none() {
            let by_form = !at_home || entry.form == name.form();
            if by_form {
                self.ask_other_places(home, name, if at_home { Place::Home } else { Place::There }).await;
            }
            home.ask_on(name, if at_home { entry.form } else { name.form() }).await;
        }
        if !name.may_be_alternate() {
            return;
        }
        let asked = alternate.map_or(0, |place| place + 1);
        for directory in others.iter().skip(asked).map_while(|other| self.named(other.as_str())) {
            drop(directory.resolve_alternate(name, Among::Users).await);
        }
    }

    async fn ask_other_places(&self, home: &Arc<Directory>, name: &TypedName, found: Place) {
        let Ok(name) = home.read_again(name).await else { return };
        let belongs = Belongs::of(&name, home.settings()).filter(|_| home.includes_trusted_domains());
        let Some(belongs) = belongs.filter(|_| !name.is_of_one_domain()) else { return };
        for place in belongs.places().into_iter().skip_while(|place| *place != found).skip(1) {
            drop(self.at(place, home, &name, &belongs, Among::Users).await);
        }
    }

    pub fn named(&self, name: &str) -> Option<Arc<Directory>> {
        self.all().iter().find(|directory| directory.name().as_str() == name).cloned()
    }

    /// The first of the settings: what is meant where nobody says which.
    pub fn first(&self) -> Option<Arc<Directory>> {
        self.all().first().cloned()
    }

    pub fn all(&self) -> Arc<[Arc<Directory>]> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}
