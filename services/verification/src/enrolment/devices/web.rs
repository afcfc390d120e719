//! An activation of the portal's own app: a code to type, and an address of the portal that holds it. It stands behind the `#`,
//! which browsers send to nobody: no log of a server or proxy has it.

use super::{Activation, open_activation, refused};
use crate::Service;
use crate::budget::Budget;
use crate::phone::activation_code;
use domain::{Reason, Secret};
use proto::verification::{StartDeviceReply, StartDeviceRequest};
use tonic::Status;

pub async fn start(service: &Service, request: StartDeviceRequest, budget: Budget) -> Result<StartDeviceReply, Status> {
    let known = service.settings.known()?;
    if !known.settings.push.web || known.portal_url.is_empty() {
        return Ok(refused(Reason::NoUsableMethod));
    }
    let code = activation_code::written(&service.random()?);
    let code_hash = activation_code::hash(&code).expect("what was written can be read");
    let activation = Activation { kind: "web", code_hash, serial: "", server_key: None };
    let opened = match open_activation(service, &request, activation, budget).await? {
        Ok(opened) => opened,
        Err(refused) => return Ok(refused),
    };
    let uri = [known.portal_url.as_bytes(), b"/phone#", code.expose()].concat();
    Ok(StartDeviceReply {
        device_id: opened.device_id,
        code: Some(code.into()),
        uri: Some(Secret::new(uri).into()),
        expires_unix_ms: opened.expires_unix_ms,
        ..StartDeviceReply::default()
    })
}
