//! Text messages: by HTTP, SMPP 3.4 or a mail gateway (FV-03, V-17, V-18).

use super::{Accepted, SendFailure, Shared};
use service_kit::Process;

pub struct Sms {
    _shared: Shared,
}

impl Sms {
    pub fn start(shared: Shared, _process: &Process) -> Self {
        Self { _shared: shared }
    }

    pub async fn send(&self, _text: super::Text<'_>) -> Result<Accepted, SendFailure> {
        Err(SendFailure::NoProvider)
    }

    pub async fn test(&self, _trial: &super::Trial<'_>) -> super::Tried {
        super::Steps::begin().refused()
    }
}
