//! Web Push: wakes the portal's app on the phone (experience 10.2).

use proto::user_store::{Prompt, PushDevice};

/// Tells the device that a prompt is open. `true`: its push service took it.
pub async fn send(_shared: &super::Shared, _prompt: &Prompt, _device: &PushDevice) -> bool {
    false
}
