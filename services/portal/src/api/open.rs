//! What goes on: questions on phones, remembered sign-ins, messages, keys, and a message to try a provider with.

use super::access::Caller;
use super::extract::{Body, Query};
use super::phones::{Step, steps};
use super::problem::Problem;
use super::users::user_id;
use super::{Page, moment, page_length};
use crate::app::{App, PERSON_LIMIT, STORE_LIMIT, within};
use axum::Json;
use axum::extract::State;
use proto::user_store::{
    ClearRememberedRequest, KeyStatusReply, KeyStatusRequest, ListMessagesRequest, ListPromptsRequest,
    ListRememberedRequest, RotateKeysRequest,
};
use proto::verification::TestProviderRequest;
use serde::{Deserialize, Serialize};
use service_kit::grpc::idempotent;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PromptFilter {
    /// Id, or any form of the name; everybody's if absent.
    user: Option<String>,
    /// Those that are over too.
    #[serde(default)]
    all: bool,
    /// 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct OfUser {
    /// Id, or any form of the name; everybody's if absent.
    user: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageFilter {
    /// Id, or any form of the name; everybody's if absent.
    user: Option<String>,
    /// 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

/// A question to somebody's phone. Never with the number that is to be found on it.
#[derive(Serialize, ToSchema)]
pub(super) struct Prompt {
    id: String,
    begun: Option<String>,
    expires: Option<String>,
    user_id: String,
    username: String,
    method: String,
    client: String,
    application: String,
    place: String,
    /// open, approved, denied, cancelled, fraud, wrong_number, expired, withdrawn, or a reason.
    outcome: String,
    answered: Option<String>,
    answered_by: String,
    assurance: String,
    transaction_id: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Remembered {
    user_id: String,
    username: String,
    client: String,
    place: String,
    created: Option<String>,
    expires: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct What {
    /// Id, or any form of the name.
    user: Option<String>,
    client: Option<String>,
    /// Needed where neither is named: everybody, everywhere.
    #[serde(default)]
    all: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Cleared {
    cleared: u32,
}

/// A text, call or mail that was sent.
#[derive(Serialize, ToSchema)]
pub(super) struct Message {
    id: String,
    at: Option<String>,
    /// sms, voice or mail.
    channel: String,
    provider: String,
    user_id: String,
    /// Masked.
    destination: String,
    state: String,
    detail: String,
}

/// A key that seals secrets in the store.
#[derive(Serialize, ToSchema)]
pub(super) struct Key {
    id: u32,
    created: Option<String>,
    current: bool,
    /// What it still seals; 0 = it may go.
    fields: u64,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTest {
    channel: TestChannel,
    /// As in a login, the first that takes it, if absent.
    #[serde(default)]
    provider: String,
    /// International number, or mail address.
    to: String,
    #[serde(default)]
    language: String,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TestChannel {
    Sms,
    Voice,
    Mail,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Tested {
    accepted: bool,
    provider: String,
    steps: Vec<Step>,
}

/// The questions on phones, the newest first
#[utoipa::path(get, path = "/prompts", tag = "open", params(PromptFilter), responses(
    (status = 200, body = Page<Prompt>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn prompts(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(filter): Query<PromptFilter>,
) -> Result<Json<Page<Prompt>>, Problem> {
    let request = ListPromptsRequest {
        limit: page_length(filter.limit)?,
        user_id: id_or_all(&app, filter.user.as_deref()).await?,
        open_only: !filter.all,
    };
    let reply = within(STORE_LIMIT, idempotent(request), |request| app.deps.admin.list_prompts(request)).await?;
    let items = reply.prompts.into_iter().map(|prompt| Prompt {
        id: prompt.prompt_id,
        begun: moment(prompt.begun_unix_ms),
        expires: moment(prompt.expires_unix_ms),
        user_id: prompt.user_id,
        username: prompt.username,
        method: prompt.method,
        client: prompt.client,
        application: prompt.application,
        place: prompt.place,
        outcome: if prompt.outcome.is_empty() { "open".to_owned() } else { prompt.outcome },
        answered: moment(prompt.answered_unix_ms),
        answered_by: prompt.answered_by,
        assurance: prompt.assurance,
        transaction_id: prompt.transaction_id,
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// Sign-ins that still count for the next one
#[utoipa::path(get, path = "/remembered", tag = "open", params(OfUser), responses(
    (status = 200, body = Page<Remembered>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remembered(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(filter): Query<OfUser>,
) -> Result<Json<Page<Remembered>>, Problem> {
    let request = ListRememberedRequest { user_id: id_or_all(&app, filter.user.as_deref()).await? };
    let reply = within(STORE_LIMIT, idempotent(request), |request| app.deps.admin.list_remembered(request)).await?;
    let items = reply.items.into_iter().map(|item| Remembered {
        user_id: item.user_id,
        username: item.username,
        client: item.client,
        place: item.place,
        created: moment(item.created_unix_ms),
        expires: moment(item.expires_unix_ms),
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// Forget remembered sign-ins: the next one needs a second factor again
#[utoipa::path(post, path = "/remembered/clear", tag = "open", request_body = What, responses(
    (status = 200, body = Cleared), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn clear_remembered(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(what): Body<What>,
) -> Result<Json<Cleared>, Problem> {
    if what.all == (what.user.is_some() || what.client.is_some()) {
        return Err(Problem::rule("name a user or a client, or else all"));
    }
    let request = ClearRememberedRequest {
        user_id: id_or_all(&app, what.user.as_deref()).await?,
        client: what.client.unwrap_or_default(),
        actor: caller.actor,
    };
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.clear_remembered(request)).await?;
    Ok(Json(Cleared { cleared: reply.cleared }))
}

/// Texts, calls and mails that were sent, the newest first
#[utoipa::path(get, path = "/messages", tag = "open", params(MessageFilter), responses(
    (status = 200, body = Page<Message>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn messages(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(filter): Query<MessageFilter>,
) -> Result<Json<Page<Message>>, Problem> {
    let limit = page_length(filter.limit)?;
    let request = ListMessagesRequest { user_id: id_or_all(&app, filter.user.as_deref()).await?, limit };
    let reply = within(STORE_LIMIT, idempotent(request), |request| app.deps.admin.list_messages(request)).await?;
    let items = reply.messages.into_iter().map(|message| Message {
        id: message.message_id,
        at: moment(message.at_unix_ms),
        channel: message.channel,
        provider: message.provider,
        user_id: message.user_id,
        destination: message.destination,
        state: message.state,
        detail: message.detail,
    });
    Ok(Json(Page { items: items.collect(), next: None }))
}

/// The keys that seal secrets in the store
#[utoipa::path(get, path = "/keys", tag = "open", responses(
    (status = 200, body = Page<Key>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn keys(State(app): State<Arc<App>>, _: Caller) -> Result<Json<Page<Key>>, Problem> {
    let request = idempotent(KeyStatusRequest {});
    Ok(Json(key_page(within(STORE_LIMIT, request, |request| app.deps.admin.key_status(request)).await?)))
}

/// Make a new key; what the old ones sealed is sealed anew in the background
#[utoipa::path(post, path = "/keys/rotate", tag = "open", responses(
    (status = 200, body = Page<Key>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn rotate_keys(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Page<Key>>, Problem> {
    let request = RotateKeysRequest { actor: caller.actor };
    Ok(Json(key_page(within(STORE_LIMIT, request, |request| app.deps.admin.rotate_keys(request)).await?)))
}

/// Send a test message by a provider
#[utoipa::path(post, path = "/providers/test", tag = "open", request_body = NewTest, responses(
    (status = 200, body = Tested), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn test_provider(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(new): Body<NewTest>,
) -> Result<Json<Tested>, Problem> {
    let request = TestProviderRequest {
        channel: match new.channel {
            TestChannel::Sms => "sms",
            TestChannel::Voice => "voice",
            TestChannel::Mail => "mail",
        }
        .to_owned(),
        provider: new.provider,
        to: new.to,
        language: new.language,
        actor: caller.actor,
    };
    let reply = within(PERSON_LIMIT, request, |request| app.deps.enrolment.test_provider(request)).await?;
    Ok(Json(Tested { accepted: reply.accepted, provider: reply.provider, steps: steps(reply.steps) }))
}

fn key_page(reply: KeyStatusReply) -> Page<Key> {
    let items = reply.keys.into_iter().map(|key| Key {
        id: key.key_id,
        created: moment(key.created_unix_ms),
        current: key.current,
        fields: key.fields,
    });
    Page { items: items.collect(), next: None }
}

/// Empty, which the store reads as everybody, where nobody is named.
async fn id_or_all(app: &App, user: Option<&str>) -> Result<String, Problem> {
    match user {
        Some(user) => user_id(app, user).await,
        None => Ok(String::new()),
    }
}
