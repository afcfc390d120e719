//! Apps that speak the protocol of the privacyIDEA Authenticator: they ask, nobody wakes them (experience 10.3).

use proto::user_store::{Prompt, PushDevice};

/// Makes the prompt ready to be asked for. `true`: this device will find it.
pub async fn offer(_shared: &super::Shared, _prompt: &Prompt, _device: &PushDevice) -> bool {
    false
}
