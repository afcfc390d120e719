//! Prompts to apps on phones (FV-05, experience 10).

mod pi;
mod web;

use super::{Accepted, SendFailure, Shared};
use domain::Reason;
use futures::future::join_all;
use proto::user_store::{Prompt, PushDevice};
use service_kit::Process;

pub struct Push {
    shared: Shared,
}

impl Push {
    pub fn start(shared: Shared, _process: &Process) -> Self {
        Self { shared }
    }

    /// Every device at once; one that was told is enough.
    pub async fn send(&self, prompt: &Prompt, devices: &[PushDevice]) -> Result<Accepted, SendFailure> {
        let told = join_all(devices.iter().map(async |device| match device.kind.as_str() {
            "web" => web::send(&self.shared, prompt, device).await.then_some("web_push"),
            "pi" => pi::offer(&self.shared, prompt, device).await.then_some("pi_push"),
            _ => None,
        }))
        .await;
        match told.into_iter().flatten().next() {
            Some(provider) => Ok(Accepted { provider: provider.to_owned() }),
            None => Err(SendFailure::Refused { provider: "push".to_owned(), reason: Reason::Unreachable }),
        }
    }
}
