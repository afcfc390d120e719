//! A client that is only observed (FB-04): whoever's password was right is let in, nobody is asked, nothing is sent, counted or spent.
//! What would have been is in the audit event and in the log.

use crate::Service;
use crate::attempt::Origin;
use crate::budget::Budget;
use crate::commit::Granted;
use crate::facts::KnownUser;
use crate::methods::code::Noted;
use crate::outcome;
use domain::{Reason, Secret};
use policy::{Observed, Would};
use proto::verification::outcome::Result as Said;
use tonic::Status;
use uuid::Uuid;

/// What is known of an observed login beside the decision.
pub(super) struct Beside {
    /// What the code was worth that came with the password.
    pub code: Option<Noted>,
    /// Names the evaluation, where an answer led here (R-44, V-73).
    pub evaluation: Option<Uuid>,
}

impl Service {
    pub(super) async fn let_in_observed(
        &self,
        origin: &Origin,
        user_id: &str,
        observed: Observed,
        beside: Beside,
        budget: Budget,
    ) -> Result<Said, Status> {
        let would = in_words(&observed.would, beside.code);
        tracing::info!(
            event = "observed",
            request_id = %origin.transaction,
            client = origin.client.as_str(),
            would = would.as_str(),
            "a client that is only observed: the password decided"
        );
        let note = format!("observed: would {would}");
        let granted = Granted { note: &note, evaluation: beside.evaluation, ..Granted::by_rule(&observed.grant) };
        self.let_in_by_rule(origin, user_id, granted, budget).await
    }

    /// A code before the password (L-52 b). It is not spent. Whether it is right still says where the password ends, which whoever knows
    /// the password sees: so the try is one of the hour (L-54), or codes for other clients could be sought here without end.
    pub(super) async fn look_at_pending(
        &self,
        origin: &Origin,
        user: &KnownUser,
        observed: &Observed,
        code: &Secret,
        budget: Budget,
    ) -> Result<Said, Status> {
        let Would::Ask(plan) = &observed.would else { return Ok(outcome::deny(Reason::WrongCode)) };
        match self.look_at_code(origin, user, &plan.typed, code, budget).await? {
            true => Ok(outcome::code_accepted()),
            false => Ok(outcome::deny(Reason::WrongCode)),
        }
    }
}

fn in_words(would: &Would, noted: Option<Noted>) -> String {
    match (would, noted) {
        (Would::Refuse(reason), _) => format!("refuse, {}", reason.code()),
        (Would::Bypass, _) => format!("let in, {}", Reason::OneTimeBypass.code()),
        (Would::Ask(_), Some(noted)) => format!("check a code, {}", noted.in_words()),
        (Would::Ask(plan), None) => {
            let remembered = if plan.remembered.is_some() { ", unless remembered" } else { "" };
            if let Some(reason) = plan.dead_end {
                return format!("refuse, {}{remembered}", reason.code());
            }
            let methods: Vec<_> = plan.ways.iter().map(|way| way.method.code()).collect();
            let choice = if plan.list_first { "a choice of " } else { "" };
            format!("ask {choice}{}{remembered}", methods.join(", "))
        }
    }
}
