//! A method tried for real: "Prompt me now", and `twinlock test`.

use crate::Service;
use crate::budget::Budget;
use crate::providers::Trial;
use domain::Language;
use domain::settings::Channel;
use proto::verification::{TestProviderReply, TestProviderRequest, TryMethodReply, TryMethodRequest};
use tonic::Status;

pub async fn try_method(
    _service: &Service,
    _request: TryMethodRequest,
    _budget: Budget,
) -> Result<TryMethodReply, Status> {
    Err(Status::unimplemented("try_method"))
}

/// One message to wherever an administrator says, without a user: caps and outbox do not know of it, the log does.
pub async fn test_provider(
    service: &Service,
    request: TestProviderRequest,
    budget: Budget,
) -> Result<TestProviderReply, Status> {
    let channel = [Channel::Sms, Channel::Voice, Channel::Mail].into_iter().find(|it| it.code() == request.channel);
    let channel = channel.ok_or_else(|| Status::invalid_argument("channel: allowed are sms, voice, mail"))?;
    let known = service.settings.known()?;
    let language = match request.language.as_str() {
        "" => known.settings.verification.language.clone(),
        tag => Language::new(tag).map_err(|error| Status::invalid_argument(format!("language: {error}")))?,
    };
    let trial = Trial { channel, provider: &request.provider, to: &request.to, language, until: budget.until() };
    let tried = service.providers.test(&trial).await;
    tracing::info!(
        channel = channel.code(),
        provider = tried.provider,
        accepted = tried.accepted,
        actor = request.actor,
        "a provider was tried"
    );
    Ok(TestProviderReply { accepted: tried.accepted, provider: tried.provider, steps: tried.steps })
}
