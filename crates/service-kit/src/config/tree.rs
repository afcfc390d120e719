//! The merged values with their origins, and the reader that turns them into a typed configuration.
use super::{ConfigError, Sources};
use serde::de::DeserializeOwned;

pub(super) fn load<T: DeserializeOwned>(_sources: &Sources) -> Result<T, ConfigError> {
    todo!()
}
