//! Mail that waits in the store: rendered in the person's language and handed to an SMTP server (FN-01 to FN-06).

use super::Shared;
use service_kit::Process;

/// Sends what is due, for ever, as a task of the process.
pub fn start(_shared: Shared, _process: &Process) {}
