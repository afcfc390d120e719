//! How the app can be woken: the subscription that its browser gave it, taken only for push services of the list.

use crate::Service;
use crate::budget::Budget;
use crate::phone::speaker::{Speaker, authenticate};
use crate::providers::push::web::Subscription;
use data_encoding::BASE64URL_NOPAD;
use domain::{Reason, Secret};
use proto::user_store::{PushDevice, PutDeviceRequest};
use proto::verification::{UpdateDeviceReply, UpdateDeviceRequest};
use sha2::{Digest, Sha256};
use tonic::Status;

pub async fn update_device(
    service: &Service,
    request: UpdateDeviceRequest,
    budget: Budget,
) -> Result<UpdateDeviceReply, Status> {
    let refused = |reason: Reason| UpdateDeviceReply { reason: reason.code().into() };
    let digest = Sha256::digest(request.subscription_json.as_bytes());
    let what = format!("update|{}", BASE64URL_NOPAD.encode(&digest));
    let Speaker { device, user_id, .. } = match authenticate(service, request.proof, &what, budget).await? {
        Ok(speaker) => speaker,
        Err(reason) => return Ok(refused(reason)),
    };
    let subscription = checked_subscription(service, &request.subscription_json)?;
    let put = PutDeviceRequest {
        user_id,
        // Empty takes away the one that was there.
        device: Some(PushDevice {
            device_id: device.device_id,
            subscription: Some(Secret::from(subscription.unwrap_or_default()).into()),
            ..PushDevice::default()
        }),
        code_hash: Vec::new(),
        state_json: String::new(),
        now_unix_ms: service.clock.now_ms(),
        actor: "self".into(),
    };
    let commit = service.committer.commit.as_ref();
    let put =
        budget.ask("put device", service_kit::grpc::idempotent(put), |request| commit.put_device(request)).await?;
    Ok(if put.done { UpdateDeviceReply::default() } else { refused(Reason::NotEnrolled) })
}

/// The subscription as it is kept. One of a push service that is not listed is none: the page still polls.
pub fn checked_subscription(service: &Service, json: &str) -> Result<Option<String>, Status> {
    if json.is_empty() {
        return Ok(None);
    }
    let known = service.settings.known()?;
    match Subscription::read(json, &known.settings.push.hosts) {
        Ok(subscription) => Ok(Some(subscription.to_json())),
        Err(error) => {
            tracing::warn!(error = %error, "a push subscription was not taken; add the host to push.hosts if it is wanted");
            Ok(None)
        }
    }
}
