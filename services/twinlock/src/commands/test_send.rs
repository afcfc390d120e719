//! `twinlock test sms|voice|mail|push`: one real message, call or prompt, and what happened when.

use super::{succeeded, user};
use crate::{connect::Connection, failure::Failure, output::Output};
use clap::Args;
use domain::Method;
use proto::verification::{Step, TestProviderRequest, TryMethodRequest};
use serde_json::{Value, json};

#[derive(Debug, Clone, Args)]
pub struct SendTest {
    /// To this number (international form) or mail address.
    #[arg(long, required_unless_present = "user", conflicts_with = "user")]
    to: Option<String>,
    /// By this provider; default: as in a login, the first that takes it.
    #[arg(long, requires = "to")]
    provider: Option<String>,
    #[arg(long, default_value = "en", requires = "to")]
    language: String,
    /// To this user, as in a login: an id or any form of the name. The answer counts.
    #[arg(long)]
    user: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct MailTest {
    /// To this address.
    #[arg(long)]
    to: String,
    /// By this provider; default: the first that takes it.
    #[arg(long)]
    provider: Option<String>,
    #[arg(long, default_value = "en")]
    language: String,
}

#[derive(Debug, Clone, Args)]
pub struct PushTest {
    /// An id or any form of the name.
    #[arg(long)]
    user: String,
    /// Only this device of the user.
    #[arg(long, default_value = "")]
    device: String,
}

/// A text or a call.
pub async fn send(
    channel: &'static str,
    method: Method,
    test: SendTest,
    mut connection: Connection,
    output: Output,
) -> Result<(), Failure> {
    match (test.user, test.to) {
        (Some(name), _) => attempt(&mut connection, output, &name, method, "").await,
        (None, to) => {
            let to = to.unwrap_or_default();
            provider(connection, output, channel, to, test.provider, test.language).await
        }
    }
}

pub async fn mail(test: MailTest, connection: Connection, output: Output) -> Result<(), Failure> {
    provider(connection, output, "mail", test.to, test.provider, test.language).await
}

pub async fn push(test: PushTest, mut connection: Connection, output: Output) -> Result<(), Failure> {
    attempt(&mut connection, output, &test.user, Method::Push, &test.device).await
}

async fn provider(
    mut connection: Connection,
    output: Output,
    channel: &str,
    to: String,
    provider: Option<String>,
    language: String,
) -> Result<(), Failure> {
    let request = TestProviderRequest {
        channel: channel.into(),
        provider: provider.unwrap_or_default(),
        to,
        language,
        actor: connection.actor.clone(),
    };
    let reply = connection.enrolment.test_provider(request).await?.into_inner();
    let record = json!({ "accepted": reply.accepted, "provider": reply.provider, "steps": steps(&reply.steps) });
    output.text(&timeline(&reply.steps), &record);
    match reply.accepted {
        true => Ok(()),
        false => Err(Failure::no("no provider took it; the timeline says why")),
    }
}

/// Asks somebody for real, on the phone or device they have.
pub async fn attempt(
    connection: &mut Connection,
    output: Output,
    name: &str,
    method: Method,
    device_id: &str,
) -> Result<(), Failure> {
    let request = TryMethodRequest {
        user_id: user::id_of(connection, name).await?,
        method: method.code().into(),
        device_id: device_id.into(),
        actor: connection.actor.clone(),
        to_prove: false,
    };
    let reply = connection.enrolment.try_method(request).await?.into_inner();
    let accepted = succeeded(&reply.reason);
    let record = json!({ "accepted": accepted.is_ok(), "reason": reply.reason, "steps": steps(&reply.steps) });
    output.text(&timeline(&reply.steps), &record);
    accepted
}

fn timeline(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{} {} ms", step.what, step.ms)).collect::<Vec<_>>().join(" · ")
}

fn steps(steps: &[Step]) -> Vec<Value> {
    steps.iter().map(|step| json!({ "ms": step.ms, "what": step.what })).collect()
}
