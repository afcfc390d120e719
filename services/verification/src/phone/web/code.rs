//! Codes without a network, from the same phone (FM-04): the approval that proves the device brings a seed, and one code of it makes it
//! count.

use crate::Service;
use crate::budget::Budget;
use crate::phone::speaker::authenticate;
use domain::{CodeAlgorithm, CodeForm, Method, Secret};
use proto::verification::{ConfirmCodeRequest, ConfirmDeviceCodeReply, ConfirmDeviceCodeRequest, StartCodeReply};
use tonic::Status;

/// A new seed for whoever may use codes. The device counts without one too: what goes wrong here takes nothing from the approval.
pub async fn offer(service: &Service, user_id: &str, budget: Budget) -> Option<StartCodeReply> {
    let offered = async {
        let user = service.enabled_user(user_id, budget).await?;
        let allowed = &user.record.allowed_methods;
        if !allowed.is_empty() && !allowed.iter().any(|code| code == Method::Code.code()) {
            return Ok(None);
        }
        // Every app that holds it shows the same, this one too.
        let form = CodeForm::new(CodeAlgorithm::Sha1, 6, 30).map_err(|error| Status::internal(error.to_string()))?;
        let company = service.settings.company()?;
        service.new_code(user, form, &company, "self", budget).await.map(Some)
    };
    offered.await.unwrap_or_else(|status: Status| {
        tracing::warn!(user = user_id, error = status.message(), "a phone was connected without codes");
        None
    })
}

pub async fn confirm_code(
    service: &Service,
    request: ConfirmDeviceCodeRequest,
    budget: Budget,
) -> Result<ConfirmDeviceCodeReply, Status> {
    let typed: Secret = request.code.unwrap_or_default().into();
    let what = format!("code|{}|{}", request.factor_id, typed.expose_str().unwrap_or_default());
    let speaker = match authenticate(service, request.proof, &what, budget).await? {
        Ok(speaker) => speaker,
        Err(reason) => return Ok(ConfirmDeviceCodeReply { reason: reason.code().into() }),
    };
    let confirm = ConfirmCodeRequest {
        user_id: speaker.user_id,
        factor_id: request.factor_id,
        code: Some(typed.into()),
        actor: "self".into(),
    };
    let reason = service.confirm(confirm, budget).await?;
    Ok(ConfirmDeviceCodeReply { reason: reason.map_or("", |reason| reason.code()).to_owned() })
}
