//! Prompts to apps on phones (FV-05): every device of the user is asked, the first answer counts (FM-05).

mod pi;
pub mod web;

use super::{Accepted, SendFailure, Shared};
use crate::budget::Budget;
use crate::sealed_key::SealedKey;
use domain::Reason;
use proto::user_store::{Prompt, PushDevice};
use service_kit::{Process, Shutdown};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;
use web::{Outcome, Sender};

/// What would be refused by `push.devices_max`.
const DEVICES_MAX: usize = 16;
const DAY_MS: i64 = 86_400_000;

pub struct Push {
    shared: Shared,
    shutdown: Shutdown,
    /// The key by which push services know us.
    vapid: SealedKey,
    sender: Arc<Sender>,
}

impl Push {
    pub fn start(shared: Shared, process: &Process) -> Self {
        Self {
            shared,
            shutdown: process.shutdown().clone(),
            vapid: SealedKey::new("vapid", web::is_key),
            sender: Arc::new(Sender::new()),
        }
    }

    /// What a browser names when it subscribes (RFC 8292 section 3.2).
    pub async fn vapid_public_key(&self, budget: Budget) -> Result<String, Status> {
        let key = self.vapid.of(self.shared.commit.as_ref(), self.shared.randomness, budget).await?;
        Ok(web::Identity::new(key).public_key())
    }

    /// Every device at once. The first one that was told is enough to wait for the person; the others go on meanwhile.
    pub async fn send(&self, prompt: &Prompt, devices: &[PushDevice]) -> Result<Accepted, SendFailure> {
        let refused = |reason| SendFailure::Refused { provider: "push".to_owned(), reason };
        let known = self.shared.settings.known().map_err(|_| refused(Reason::StoreUnavailable))?;
        let rules = &known.settings.push;
        if !rules.web && !rules.pi {
            return Err(SendFailure::NoProvider);
        }
        let now = self.shared.clock.now_ms();
        if now >= prompt.expires_unix_ms {
            return Err(SendFailure::TooLate);
        }
        let (told, mut outcomes) = mpsc::channel(DEVICES_MAX);
        let asked = devices.iter().filter(|device| is_asked(device, prompt, rules.unseen_days, now)).take(DEVICES_MAX);
        for device in asked {
            match device.kind.as_str() {
                "web" if rules.web => self.wake(prompt, device, told.clone()).await?,
                "pi" if rules.pi => {
                    let found = pi::offer(&self.shared, prompt, device).await;
                    // There is room for every device.
                    let _ = told.try_send(("pi_push", if found { Outcome::Told } else { Outcome::NoWay }));
                }
                _ => {}
            }
        }
        drop(told);
        let mut reason = Reason::Unreachable;
        while let Some((provider, outcome)) = outcomes.recv().await {
            match outcome {
                Outcome::Told => return Ok(Accepted { provider: provider.to_owned() }),
                Outcome::Failed => reason = Reason::ProviderError,
                Outcome::NoWay => {}
            }
        }
        Err(refused(reason))
    }

    /// Sends in a task of the process, so that a push service that is slow holds up no other device.
    async fn wake(
        &self,
        prompt: &Prompt,
        device: &PushDevice,
        told: mpsc::Sender<(&'static str, Outcome)>,
    ) -> Result<(), SendFailure> {
        let budget = Budget::usual();
        let key = self.vapid.of(self.shared.commit.as_ref(), self.shared.randomness, budget).await;
        let key =
            key.map_err(|_| SendFailure::Refused { provider: "push".to_owned(), reason: Reason::StoreUnavailable })?;
        let (shared, sender, identity) = (self.shared.clone(), self.sender.clone(), web::Identity::new(key));
        let (prompt, device) = (prompt.clone(), device.clone());
        self.shutdown.spawn(async move {
            let outcome = sender.send(&shared, &identity, &prompt, &device).await;
            // Nobody listens any more where another device was told first.
            let _ = told.try_send(("web_push", outcome));
        });
        Ok(())
    }
}

/// Proven devices that were seen of late (FM-06), or the one that this prompt is to prove.
fn is_asked(device: &PushDevice, prompt: &Prompt, unseen_days: u32, now_unix_ms: i64) -> bool {
    if !prompt.device_id.is_empty() {
        return device.device_id == prompt.device_id;
    }
    let unseen_ms = now_unix_ms - device.last_seen_unix_ms;
    device.state == "active" && (unseen_days == 0 || unseen_ms < i64::from(unseen_days) * DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proven_devices_seen_of_late_are_asked_and_a_new_one_for_its_own_proof_alone() {
        // FM-04, FM-06
        let device = |state: &str, last_seen_unix_ms| PushDevice {
            device_id: "d".into(),
            state: state.into(),
            last_seen_unix_ms,
            ..PushDevice::default()
        };
        let now = 100 * DAY_MS;
        let login = Prompt::default();
        assert!(is_asked(&device("active", now), &login, 90, now));
        assert!(is_asked(&device("active", 11 * DAY_MS), &login, 90, now));
        assert!(!is_asked(&device("active", 10 * DAY_MS), &login, 90, now), "unseen for 90 days");
        assert!(is_asked(&device("active", 0), &login, 0, now), "never forgotten");
        assert!(!is_asked(&device("pending", now), &login, 90, now));
        let proof = |device_id: &str| Prompt { device_id: device_id.into(), ..Prompt::default() };
        assert!(is_asked(&device("pending", 0), &proof("d"), 90, now));
        assert!(!is_asked(&device("active", now), &proof("other"), 90, now));
    }
}
