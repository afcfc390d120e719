//! Phone calls: by a TwiML provider or an Asterisk of one's own (FV-02, V-19).

use super::{Accepted, SendFailure, Shared};
use proto::user_store::Prompt;
use service_kit::Process;

pub struct Voice {
    _shared: Shared,
}

impl Voice {
    pub fn start(shared: Shared, _process: &Process) -> Self {
        Self { _shared: shared }
    }

    pub async fn call(&self, _prompt: &Prompt, _callee: super::Callee<'_>) -> Result<Accepted, SendFailure> {
        Err(SendFailure::NoProvider)
    }
}
