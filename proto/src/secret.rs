//! The wire form of a secret: as silent as `domain::Secret`.

use crate::common::{DirectoryRef, Secret};
use std::fmt;
use zeroize::Zeroize;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl From<domain::Secret> for Secret {
    fn from(secret: domain::Secret) -> Self {
        Self { value: secret.expose().to_vec() }
    }
}

impl From<Secret> for domain::Secret {
    fn from(mut secret: Secret) -> Self {
        Self::new(std::mem::take(&mut secret.value))
    }
}

impl From<&domain::DirectoryRef> for DirectoryRef {
    fn from(subject: &domain::DirectoryRef) -> Self {
        Self { directory: subject.directory.to_string(), object_id: subject.id.to_string() }
    }
}

/// A reference another part sent names no valid directory or id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message holds no valid reference to a directory entry")]
pub struct BadDirectoryRef;

impl TryFrom<DirectoryRef> for domain::DirectoryRef {
    type Error = BadDirectoryRef;
    fn try_from(subject: DirectoryRef) -> Result<Self, Self::Error> {
        Ok(Self {
            directory: subject.directory.parse().map_err(|_| BadDirectoryRef)?,
            id: subject.object_id.parse().map_err(|_| BadDirectoryRef)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{common::Secret, verification::BeginRequest};

    #[test]
    fn a_message_that_holds_a_secret_prints_none_of_it() {
        // V-33: generated messages are printed by people who debug
        let request = BeginRequest { code: Some(Secret { value: b"912345".to_vec() }), ..Default::default() };
        let printed = format!("{request:?}");
        assert!(printed.contains("***"), "{printed}");
        assert!(!printed.contains("912345") && !printed.contains("57, 49"), "{printed}");
    }
}
