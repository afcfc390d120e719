//! Mail that waits in the store: rendered in the person's language and handed to an SMTP server (FN-01 to FN-06).

use super::Shared;
use service_kit::Process;

pub struct Mail {
    _shared: Shared,
}

impl Mail {
    /// Sends what is due, for ever, as a task of the process.
    pub fn start(shared: Shared, _process: &Process) -> Self {
        Self { _shared: shared }
    }

    pub async fn test(&self, _trial: &super::Trial<'_>) -> super::Tried {
        super::Steps::begin().refused()
    }
}
