//! Recovery codes: ten, each for once; the store keeps their hashes, and nobody keeps the codes (FV-09).

use crate::Service;
use crate::attempt::line;
use crate::budget::Budget;
use crate::methods::prompt::no_randomness;
use proto::user_store::StoreRecoveryCodesRequest;
use proto::verification::{NewRecoveryCodesReply, NewRecoveryCodesRequest};
use tonic::Status;

const CODES: usize = 10;

pub async fn new_recovery_codes(
    service: &Service,
    request: NewRecoveryCodesRequest,
    budget: Budget,
) -> Result<NewRecoveryCodesReply, Status> {
    let user = service.enabled_user(&request.user_id, budget).await?;
    let codes: Vec<proto::common::Secret> = (0..CODES)
        .map(|_| otp::recovery_code(service.randomness).map(Into::into))
        .collect::<Result<_, _>>()
        .map_err(no_randomness)?;
    let kept = StoreRecoveryCodesRequest { user_id: user.id, codes: codes.clone(), actor: line(&request.actor, 128) };
    let commit = &service.committer.commit;
    budget.ask("new recovery codes", kept, |request| commit.new_recovery_codes(request)).await?;
    Ok(NewRecoveryCodesReply { codes })
}
