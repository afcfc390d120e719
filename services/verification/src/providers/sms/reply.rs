//! What a person answered by text message (FV-04).

use crate::providers::Shared;
use domain::Secret;
use tonic::Status;

pub async fn judge(shared: &Shared, provider: &str, _from: &str, _text: &Secret) -> Result<(), Status> {
    let switched_on = shared.settings.known()?.settings.sms.replies;
    tracing::info!(provider, switched_on, "a text message came in");
    Ok(())
}
