//! All directories of the settings, by name, exchanged as a whole when the settings change.

use crate::directory::{Directory, Options, SettingsError};
use crate::name::TypedName;
use crate::resolve::{Entry, ResolveError};
use domain::{ObjectName, Secret, settings};
use std::sync::{Arc, PoisonError, RwLock};

/// Clones of an `Arc<Directory>` stay good for as long as somebody holds them.
pub struct Directories {
    options: Options,
    /// In the order of the settings.
    current: RwLock<Arc<[Arc<Directory>]>>,
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
        Self { options, current: RwLock::new(Arc::new([])) }
    }

    /// Makes the collection equal to `wanted`: each directory with its query password. What has not changed keeps its
    /// connections; what is gone closes them when the last login that uses it is over.
    pub fn replace(
        &self,
        wanted: impl IntoIterator<Item = (settings::Directory, Option<Secret>)>,
    ) -> Vec<RefusedDirectory> {
        let before = self.all();
        let mut refused = Vec::new();
        let mut after: Vec<Arc<Directory>> = Vec::new();
        for (settings, password) in wanted {
            let unchanged = before.iter().find(|directory| directory.is_made_of(&settings, password.as_ref()));
            let name = settings.name.clone();
            match unchanged {
                Some(directory) => after.push(Arc::clone(directory)),
                None => match Directory::new(settings, password, self.options.clone()) {
                    Ok(directory) => after.push(Arc::new(directory)),
                    Err(error) => refused.push(RefusedDirectory { name, error }),
                },
            }
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = after.into();
        refused
    }

    /// The one user this name means to those who sign in at `home`, and the directory that has them: `home` itself, or else the first
    /// of its alternate directories where somebody has it as their alternate name (FD-19). The next is asked only after the one before
    /// has proven that it has nobody.
    pub async fn resolve(
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
