//! The record of what a known device said in vain.

use crate::Service;
use crate::budget::Budget;
use domain::Reason;
use proto::user_store::{AuditEvent, Prompt, RecordRequest};
use tonic::Status;

/// A known device said something that is late, different or not signed (V-21): an event of its own, beside that of the login.
pub async fn audit_refused(
    service: &Service,
    user_id: &str,
    device_id: &str,
    prompt: &Prompt,
    reason: Reason,
    budget: Budget,
) -> Result<(), Status> {
    let now = service.clock.now_ms();
    let id = uuid::Builder::from_unix_timestamp_millis(now.unsigned_abs(), &service.random()?).into_uuid();
    let event = AuditEvent {
        at_unix_ms: now,
        kind: "phone.refused".into(),
        transaction_id: id.to_string(),
        client: prompt.client.clone(),
        user_id: user_id.to_owned(),
        username: prompt.username.clone(),
        result: reason.class().code().into(),
        reason: reason.code().into(),
        method: prompt.method.clone(),
        detail: format!("device {device_id}, login {}", prompt.transaction_id),
        ..AuditEvent::default()
    };
    let record = service_kit::grpc::idempotent(RecordRequest { event: Some(event), ..RecordRequest::default() });
    let commit = service.committer.commit.as_ref();
    budget.ask("record", record, |request| commit.record(request)).await?;
    Ok(())
}
