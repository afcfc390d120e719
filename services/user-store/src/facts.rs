//! What the decision needs to know about a user (V-01). Read, never changed.

use crate::Store;
use crate::metrics::Timed;
use crate::rpc::StoreError;
use crate::sql::{Arg, Session, args};
use crate::users;
use proto::user_store::{
    CodeFactor, LoginFactsReply, LoginFactsRequest, LoginUser, facts_server::Facts, login_facts_request::Who,
};
use std::time::Instant;
use tonic::{Request, Response, Status};

pub struct FactsService(pub Store);

#[tonic::async_trait]
impl Facts for FactsService {
    async fn login(&self, request: Request<LoginFactsRequest>) -> Result<Response<LoginFactsReply>, Status> {
        let (condition, arguments) = match request.into_inner().who {
            Some(Who::Subject(subject)) => {
                let subject = domain::DirectoryRef::try_from(subject);
                let subject = subject.map_err(|error| Status::invalid_argument(error.to_string()))?;
                ("directory = $1 AND object_id = $2", args![subject.directory.as_str(), subject.id.as_str()])
            }
            Some(Who::UserId(user_id)) => ("user_id = $1", args![user_id]),
            None => return Err(Status::invalid_argument("who is missing")),
        };
        let began = Instant::now();
        let mut session = self.0.database().read().await.map_err(StoreError::from)?;
        let facts = self.facts(&mut session, condition, arguments).await?;
        self.0.metrics().took(Timed::Facts, began.elapsed());
        Ok(Response::new(facts))
    }
}

impl FactsService {
    /// An absent user is proven absent: the read succeeded and found none. A removed one is there until erased (FU-02).
    async fn facts(
        &self,
        session: &mut Session,
        condition: &'static str,
        arguments: Vec<Arg>,
    ) -> Result<LoginFactsReply, StoreError> {
        let sql = format!(
            "SELECT user_id, username, state, state_by, state_since_ms, state_text FROM users WHERE {condition}"
        );
        let rows = session.rows_of(sql, arguments).await?;
        let Some(row) = rows.first() else { return Ok(LoginFactsReply::default()) };
        let user_id: String = row.get("user_id")?;
        let state: String = row.get("state")?;
        let enabled = state == "enabled";
        let state_text = match enabled {
            true => String::new(),
            false => {
                let text: String = row.get("state_text")?;
                users::state_text(&row.get::<String>("state_by")?, row.get("state_since_ms")?, &text)
            }
        };
        // Nobody needs the seeds of somebody who may not log in.
        let code_factors = if enabled { self.code_factors(session, &user_id).await? } else { Vec::new() };
        let username = row.get("username")?;
        let user = Some(LoginUser { user_id, username, state, state_text, ..LoginUser::default() });
        Ok(LoginFactsReply { user, code_factors, ..LoginFactsReply::default() })
    }

    async fn code_factors(&self, session: &mut Session, user_id: &str) -> Result<Vec<CodeFactor>, StoreError> {
        let sql = "SELECT factor_id, algorithm, digits, period_seconds, seed, last_step, pending FROM factors \
                   WHERE user_id = $1 ORDER BY created_ms, factor_id";
        let mut factors = Vec::new();
        for row in session.rows(sql, args![user_id]).await? {
            let factor_id: String = row.get("factor_id")?;
            let owner = users::factor_owner(user_id, &factor_id);
            let seed = self.0.seal().open_field(users::seed_place(&owner), &row.get::<Vec<u8>>("seed")?)?;
            factors.push(CodeFactor {
                factor_id,
                algorithm: row.get("algorithm")?,
                digits: users::small(&row, "digits")?,
                period_seconds: users::small(&row, "period_seconds")?,
                seed: Some(seed.into()),
                last_step: row.unsigned("last_step")?,
                pending: row.get("pending")?,
                ..CodeFactor::default()
            });
        }
        Ok(factors)
    }
}
