//! Prompts to apps on phones (FV-05, experience 10).

use super::{Accepted, SendFailure, Shared};
use proto::user_store::{Prompt, PushDevice};
use service_kit::Process;

pub struct Push {
    _shared: Shared,
}

impl Push {
    pub fn start(shared: Shared, _process: &Process) -> Self {
        Self { _shared: shared }
    }

    pub async fn send(&self, _prompt: &Prompt, _devices: &[PushDevice]) -> Result<Accepted, SendFailure> {
        Err(SendFailure::NoProvider)
    }
}
