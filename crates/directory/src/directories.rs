//! All directories of the settings, by name, exchanged as a whole when the settings change.

use crate::directory::{Directory, Options, SettingsError};
use crate::domains::Belongs;
use crate::name::{NameError, TypedName, dns_domain};
use crate::resolve::{Entry, ResolveError};
use crate::trusted::TrustedDomain;
use domain::settings::Preset;
use domain::{ObjectId, ObjectName, Secret, settings};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::{Arc, PoisonError, RwLock};

/// Clones of an `Arc<Directory>` stay good for as long as somebody holds them.
pub struct Directories {
    options: Options,
    /// In the order of the settings.
    current: RwLock<Arc<[Arc<Directory>]>>,
    /// Those of Active Directory that cannot be used, with their bases.
    refused: RwLock<Arc<[(ObjectName, String)]>>,
}

/// A directory whose settings cannot be used. It is absent from the collection until they change.
#[derive(Debug, thiserror::Error)]
#[error("directory {name} cannot be used")]
pub struct RefusedDirectory {
    pub name: ObjectName,
    #[source]
    pub error: SettingsError,
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
        let mut bases = Vec::new();
        let mut after: Vec<Arc<Directory>> = Vec::new();
        for (settings, password) in wanted {
            let unchanged = before.iter().find(|directory| directory.is_made_of(&settings, password.as_ref()));
            let (name, base) = (settings.name.clone(), settings.base.clone());
            let is_domain = settings.preset == Preset::ActiveDirectory;
            match unchanged {
                Some(directory) => after.push(Arc::clone(directory)),
                None => match Directory::new(settings, password, self.options.clone()) {
                    Ok(directory) => after.push(Arc::new(directory)),
                    Err(error) => {
                        bases.extend(is_domain.then(|| (name.clone(), base)));
                        refused.push(RefusedDirectory { name, error });
                    }
                },
            }
        }
        *self.refused.write().unwrap_or_else(PoisonError::into_inner) = bases.into();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = after.into();
        refused
    }

    /// The one user this name means to those who sign in at `home`, and the directory that has them: `home` itself, or else the first
    /// of its alternate directories where somebody has it as their alternate name (FD-19). The next is asked only after the one before
    /// has proven that it has nobody. A name that belongs to another domain is looked up there (FD-02).
    pub async fn resolve(
        &self,
        home: &Arc<Directory>,
        name: &TypedName,
    ) -> Result<(Arc<Directory>, Entry), ResolveError> {
        if !home.includes_trusted_domains() {
            return self.resolve_by_settings(home, name).await;
        }
        let name = home.read_again(name).await?;
        let belongs = Belongs::of(&name, home.settings());
        let elsewhere = belongs.as_ref().filter(|it| it.is_elsewhere(home.base()));
        if let Some(belongs) = elsewhere
            && let Some(found) = self.in_its_domain(home, &name, belongs).await
        {
            return found;
        }
        let found = self.resolve_by_settings(home, &name).await;
        match (&found, belongs) {
            (Err(ResolveError::Absent | ResolveError::Name(NameError::ForeignDomain)), Some(belongs)) => {
                self.in_its_domain(home, &name, &belongs).await.unwrap_or(found)
            }
            _ => found,
        }
    }

    /// In the other domain that the name belongs to. `None`: it belongs to none, or that is not used.
    async fn in_its_domain(
        &self,
        home: &Arc<Directory>,
        name: &TypedName,
        belongs: &Belongs<'_>,
    ) -> Option<Result<(Arc<Directory>, Entry), ResolveError>> {
        let found = async {
            let listed = home.domains().listed(home).await.map_err(ResolveError::Unlisted)?;
            let usable = belongs.find(&listed.domains)?.filter(|domain| domain.usable.is_ok());
            let Some(domain) = usable else { return Ok(None) };
            let mut directories = self.of_domain(home, domain).await?;
            if directories.is_empty() {
                directories.push(home.domains().of(home, &listed, domain)?);
            }
            let text = belongs.text(name, domain);
            let mut found = Err(ResolveError::Absent);
            for directory in directories {
                let name = TypedName::parse(&text, directory.settings())?;
                found = directory.resolve(&name).await.map(|entry| (directory, entry));
                if !matches!(found, Err(ResolveError::Absent | ResolveError::Name(NameError::OutsideBase))) {
                    break;
                }
            }
            found.map(Some)
        };
        found.await.transpose()
    }

    /// The directories of the settings whose base lies in that domain: who is found there has their identity by these, always. So
    /// one that cannot be used, or whose base nobody can say now, is an error.
    async fn of_domain(
        &self,
        home: &Arc<Directory>,
        domain: &TrustedDomain,
    ) -> Result<Vec<Arc<Directory>>, ResolveError> {
        for (name, base) in self.refused.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if base.parse().map_or(true, |base| dns_domain(&base).is_none_or(|it| it == domain.dns_name)) {
                return Err(ResolveError::Unusable { directory: name.clone() });
            }
        }
        let mut of_domain = Vec::new();
        for directory in self.all().iter() {
            if directory.settings().preset != Preset::ActiveDirectory || Arc::ptr_eq(directory, home) {
                continue;
            }
            directory.ready().await?;
            if dns_domain(directory.base()).is_some_and(|name| name == domain.dns_name) {
                of_domain.push(Arc::clone(directory));
            }
        }
        Ok(of_domain)
    }

    /// Whose id this is, among those who were found by way of `home`: its own people, and those of other domains that the settings
    /// have no directory for (FD-02).
    pub async fn holder(&self, home: &Arc<Directory>, id: &ObjectId) -> Result<(Arc<Directory>, Entry), ResolveError> {
        let name = TypedName::of_id(id);
        let mut found = home.resolve(&name).await.map(|entry| (Arc::clone(home), entry));
        if !matches!(found, Err(ResolveError::Absent)) || !home.includes_trusted_domains() {
            return found;
        }
        let listed = home.domains().listed(home).await.map_err(ResolveError::Unlisted)?;
        let mut asked = FuturesUnordered::new();
        for domain in listed.domains.iter().filter(|domain| domain.usable.is_ok()) {
            if self.of_domain(home, domain).await?.is_empty() {
                let directory = home.domains().of(home, &listed, domain)?;
                let name = &name;
                asked.push(async move { directory.resolve(name).await.map(|entry| (directory, entry)) });
            }
        }
        // Ids are nobody else's: who is silent keeps nobody waiting whom another one has.
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
    ) -> Result<(Arc<Directory>, Entry), ResolveError> {
        let mut found = home.resolve(name).await.map(|entry| (Arc::clone(home), entry));
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
            found = directory.resolve_alternate(name).await.map(|entry| (directory, entry));
        }
        found
    }

    /// Asks whatever [`Directories::resolve`] asks after it has not found `found`: so a name that somebody has costs as many questions as
    /// one of the same form that nobody has (L-41). Nothing comes of the answers.
    pub async fn ask_on(&self, home: &Arc<Directory>, name: &TypedName, found: (&Arc<Directory>, &Entry)) {
        let (at, entry) = found;
        let others = &home.settings().alternate_directories;
        let asked = if Arc::ptr_eq(at, home) {
            home.ask_on(name, entry.form).await;
            0
        } else {
            others.iter().position(|other| other == at.name()).map_or(others.len(), |place| place + 1)
        };
        if !name.may_be_alternate() {
            return;
        }
        for directory in others.iter().skip(asked).map_while(|other| self.named(other.as_str())) {
            drop(directory.resolve_alternate(name).await);
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
