//! All directories of the settings, by name, exchanged as a whole when the settings change.

use crate::directory::{Directory, Options, SettingsError};
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
