//! Who may not log in any more, asked about people who are logged in already (S-22).

use crate::Store;
use crate::rpc::StoreError;
use crate::users::is_blocked;
use proto::user_store::{ShutOutReply, ShutOutRequest, standing_server::Standing};
use std::collections::HashSet;
use tonic::{Request, Response, Status};

/// People asked about at once.
const PEOPLE_MAX: usize = 1_000;

pub struct StandingService(pub Store);

#[tonic::async_trait]
impl Standing for StandingService {
    async fn shut_out(&self, request: Request<ShutOutRequest>) -> Result<Response<ShutOutReply>, Status> {
        let mut user_ids = request.into_inner().user_ids;
        if user_ids.len() > PEOPLE_MAX {
            return Err(Status::invalid_argument(format!("user_ids: allowed are {PEOPLE_MAX}")));
        }
        let may_enter = may_enter(&self.0, &user_ids).await?;
        user_ids.retain(|user_id| !may_enter.contains(user_id));
        Ok(Response::new(ShutOutReply { user_ids }))
    }
}

async fn may_enter(store: &Store, user_ids: &[String]) -> Result<HashSet<String>, StoreError> {
    let head = "SELECT user_id, state, blocked_until_ms FROM users WHERE user_id IN";
    let now_ms = store.clock().now_ms();
    let mut session = store.database().read().await?;
    let mut may_enter = HashSet::new();
    for row in session.rows_in(head, user_ids.iter().map(String::as_str), "", &[]).await? {
        if row.get::<String>("state")? == "enabled" && !is_blocked(row.get("blocked_until_ms")?, now_ms) {
            may_enter.insert(row.get("user_id")?);
        }
    }
    Ok(may_enter)
}
