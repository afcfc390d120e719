//! A phone scans the QR code and sends its key: once, in time (V-20). The token counts when it has approved its first prompt.

use super::wire::{self, Enrol};
use super::{keys, keys::ServerKey};
use crate::Service;
use crate::budget::Budget;
use domain::Secret;
use proto::user_store::{FindActivationRequest, PushDevice, PutDeviceRequest};
use proto::verification::PiReply;
use serde_json::json;
use sha2::{Digest, Sha256};
use tonic::Status;

/// What lists call it, until its owner does.
const NAME: &str = "Authenticator app";

/// What the store knows of a credential.
pub fn credential_hash(credential: &str) -> Vec<u8> {
    Sha256::digest(credential.to_ascii_lowercase()).to_vec()
}

pub async fn enrol(service: &Service, enrol: Enrol<'_>, budget: Budget) -> Result<Option<PiReply>, Status> {
    // Before anything is looked up: a key that cannot be used costs no try.
    let Ok(public_key) = keys::phone_key(enrol.public_key) else { return Ok(None) };
    let code_hash = credential_hash(enrol.credential);
    let find = FindActivationRequest {
        code_hash: code_hash.clone(),
        serial: enrol.serial.to_owned(),
        now_unix_ms: service.clock.now_ms(),
    };
    let commit = service.committer.commit.as_ref();
    let found = budget.ask("find activation", find, |request| commit.find_activation(request)).await?;
    let ours = |device: &PushDevice| device.kind == "pi" && device.serial == enrol.serial;
    let Some(device) = found.device.filter(ours) else { return Ok(None) };
    // People press "retry": the same phone gets the same reply, another one none.
    if found.redeemed && device.public_key != public_key {
        return Ok(None);
    }
    let server_key: Secret = device.server_key.clone().unwrap_or_default().into();
    let Ok(server_key) = ServerKey::from_pkcs8(server_key.expose()) else {
        tracing::error!(device = device.device_id, "the server key of a token cannot be used");
        return Ok(None);
    };
    let put = PutDeviceRequest {
        user_id: found.user_id,
        device: Some(PushDevice {
            name: NAME.into(),
            public_key,
            capabilities: enrol.capabilities,
            last_seen_unix_ms: service.clock.now_ms(),
            ..device
        }),
        code_hash,
        now_unix_ms: service.clock.now_ms(),
        actor: "self".into(),
        ..PutDeviceRequest::default()
    };
    let put = service_kit::grpc::idempotent(put);
    let put = budget.ask("put device", put, |request| commit.put_device(request)).await?;
    Ok(put.done.then(|| wire::value(json!(true), json!({ "public_key": server_key.public() }))))
}
