//! The portal's own app on the phone: how it becomes a device, what it is shown, and what it decides.

mod activation;
mod code;
mod decide;
mod prompts;
mod subscription;

pub use activation::{begin_activation, finish_activation};
pub use code::confirm_code;
pub use decide::decide;
pub use prompts::open_prompts;
pub use subscription::update_device;

use crate::Service;
use crate::webauthn::RelyingParty;
use domain::Reason;
use tonic::Status;

/// How long a person may take over a passkey.
const PASSKEY_MS: u32 = 120_000;

/// Whom passkeys are bound to.
fn relying_party(service: &Service) -> Result<RelyingParty, Status> {
    let known = service.settings.known()?;
    RelyingParty::of(&known.portal_url).ok_or_else(|| {
        tracing::error!("no portal has told its address yet, so no phone can be one's own");
        Status::unavailable(Reason::StoreUnavailable.code())
    })
}
