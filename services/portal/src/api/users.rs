//! Users: found, shown, changed, switched on and off, unlocked, invited.

use super::access::Caller;
use super::extract::{Body, Path, Query};
use super::factors::{Factor, factor};
use super::phones::{Device, device};
use super::problem::Problem;
use super::{Page, moment, page_length};
use crate::app::{App, STORE_LIMIT, text_of, within};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::{Method, UserId};
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue};
use proto::user_store::{
    BypassSummary, CreateUserRequest, EditUserRequest, GetUserRequest, InviteRequest, ListUsersRequest,
    SetUserStateRequest, UnlockUserRequest, UserDetail, UserSummary,
};
use serde::{Deserialize, Serialize};
use service_kit::grpc::idempotent;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct UserFilter {
    /// Part of a name, mail or phone number.
    #[serde(default)]
    search: String,
    state: Option<UserState>,
    enrolment: Option<Enrolment>,
    /// Exactly this label: what the directory calls the user's group, or the sync item.
    #[serde(default)]
    user_group: String,
    /// Only users with a `sync_problem`.
    #[serde(default)]
    sync_problem: bool,
    /// The `next` of the page before.
    #[serde(default)]
    after: String,
    /// 1 to 1000; 100 if absent.
    limit: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum UserState {
    Enabled,
    Disabled,
    Removed,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Enrolment {
    Enrolled,
    NotEnrolled,
}

#[derive(Serialize, ToSchema)]
pub(super) struct User {
    id: String,
    username: String,
    first_name: String,
    last_name: String,
    mail: String,
    /// enabled, disabled or removed.
    state: String,
    directory: String,
    /// How many second factors.
    factors: u32,
    locked_until: Option<String>,
    last_success: Option<String>,
    /// The label of the directory, or of the sync item where that has none; empty = none.
    user_group: String,
    /// A username that two entries of the directory have, in a sentence, until a run finds it no longer; null = none.
    sync_problem: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct UserWithDetail {
    #[serde(flatten)]
    user: User,
    /// The immutable id of the entry in its directory.
    object_id: String,
    distinguished_name: String,
    /// Every form in which the name may be given.
    names: Vec<String>,
    groups: Vec<String>,
    phone: String,
    sync_item: String,
    /// Who set the state, and why.
    state_text: String,
    methods: Vec<Factor>,
    devices: Vec<Device>,
    phone_extension: String,
    backup_phone: String,
    backup_extension: String,
    /// As the settings say where it is empty.
    default_method: String,
    allowed_methods: Vec<String>,
    language_call: String,
    language_text: String,
    language_app: String,
    language_code: String,
    /// When the account ends in the directory, where that matters here; null = never.
    account_expires: Option<String>,
    /// Of the portal's pages; empty = as the browser asks.
    language_portal: String,
    pin: Pin,
    /// Recovery codes that are left.
    recovery_left: u32,
    /// Security questions that were answered.
    questions: Vec<String>,
    block: Option<Blocked>,
    /// Clients that never ask this user; "*" = all.
    exempt_clients: Vec<String>,
    exempt_until: Option<String>,
    exempt_text: String,
    /// Bypasses and temporary codes that are open.
    bypasses: Vec<Bypass>,
    /// Sign-ins that still count.
    remembered: u32,
    revision: u64,
}

#[derive(Serialize, ToSchema)]
struct Pin {
    required: bool,
    set: bool,
    must_change: bool,
    expired: bool,
    locked: bool,
    /// Null where it is not locked, or until somebody unlocks.
    locked_until: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Blocked {
    since: Option<String>,
    /// Null: until somebody unblocks.
    until: Option<String>,
    by: String,
    text: String,
}

#[derive(Serialize, ToSchema)]
struct Bypass {
    id: String,
    /// bypass or temporary_code.
    kind: String,
    /// Empty = any.
    client: String,
    expires: Option<String>,
    uses_left: u32,
    by: String,
    text: String,
}

/// What is not named stays as it is; an empty text takes a value away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    /// International form, or national with the country of the settings.
    phone: Option<String>,
    phone_extension: Option<String>,
    backup_phone: Option<String>,
    backup_extension: Option<String>,
    mail: Option<String>,
    default_method: Option<String>,
    /// Replaces the list.
    allowed_methods: Option<Vec<String>>,
    language_call: Option<String>,
    language_text: Option<String>,
    language_app: Option<String>,
    language_code: Option<String>,
    language_portal: Option<String>,
    pin_required: Option<bool>,
}

/// Of no directory, until a login or a run finds the one entry that has this name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    /// As the directory calls them.
    username: String,
    #[serde(default)]
    first_name: String,
    #[serde(default)]
    last_name: String,
    #[serde(default)]
    phone: String,
    #[serde(default)]
    phone_extension: String,
    #[serde(default)]
    mail: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewState {
    state: SettableState,
    /// For the audit.
    #[serde(default)]
    reason: String,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum SettableState {
    Enabled,
    Disabled,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvitation {
    /// 24 to 72; 48 if absent.
    life_hours: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Invitation {
    /// Shown this once. Good for one enrolment, beside the password.
    code: String,
    expires: Option<String>,
}

/// Users, a page at a time
#[utoipa::path(get, path = "/users", tag = "users", params(UserFilter), responses(
    (status = 200, body = Page<User>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    _: Caller,
    Query(filter): Query<UserFilter>,
) -> Result<Json<Page<User>>, Problem> {
    let request = ListUsersRequest {
        search: filter.search,
        state: filter.state.map_or("", UserState::code).to_owned(),
        enrolment: filter.enrolment.map_or("", Enrolment::code).to_owned(),
        after: filter.after,
        limit: page_length(filter.limit)?,
        user_group: filter.user_group,
        sync_problem: filter.sync_problem,
    };
    let reply = within(STORE_LIMIT, idempotent(request), |request| app.deps.admin.list_users(request)).await?;
    let next = Some(reply.next).filter(|next| !next.is_empty());
    Ok(Json(Page { items: reply.users.into_iter().map(user).collect(), next }))
}

/// Make a user by hand
///
/// For somebody whom no sync item has yet. What is left out can be changed afterwards.
#[utoipa::path(post, path = "/users", tag = "users", request_body = NewUser, responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Result<Response, Problem> {
    let given = |text: String| (!text.is_empty()).then_some(text);
    let more = EditUserRequest {
        phone: given(new.phone),
        phone_extension: given(new.phone_extension),
        mail: given(new.mail),
        ..EditUserRequest::default()
    };
    let request = CreateUserRequest {
        username: new.username,
        first_name: new.first_name,
        last_name: new.last_name,
        more: Some(more),
        actor: caller.actor,
    };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.create_user(request)).await?))
}

/// One user, by id or by any form of the name
#[utoipa::path(get, path = "/users/{id}", tag = "users", params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = UserWithDetail, headers(("ETag" = String, description = "For If-Match"))),
    (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn get(State(app): State<Arc<App>>, _: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    find(&app, &id).await.map(shown)
}

/// Change phones, languages, methods of a user
#[utoipa::path(patch, path = "/users/{id}", tag = "users", request_body = Changes,
    params(("id" = String, Path, description = "Id, or any form of the name"), ("If-Match" = Option<String>, Header, description = "The ETag that was seen")),
    responses((status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(new): Body<Changes>,
) -> Result<Response, Problem> {
    let methods = new.default_method.iter().chain(new.allowed_methods.iter().flatten());
    if methods.into_iter().any(|code| !code.is_empty() && Method::from_code(code).is_none()) {
        let known: Vec<&str> = Method::ALL.iter().map(|method| method.code()).collect();
        return Err(Problem::rule(format!("a method is one of {}", known.join(", "))));
    }
    let request = EditUserRequest {
        expected_revision: expected_revision(&headers)?,
        user_id: user_id(&app, &id).await?,
        actor: caller.actor,
        phone: new.phone,
        phone_extension: new.phone_extension,
        backup_phone: new.backup_phone,
        backup_extension: new.backup_extension,
        default_method: new.default_method,
        set_allowed_methods: new.allowed_methods.is_some(),
        allowed_methods: new.allowed_methods.unwrap_or_default(),
        language_call: new.language_call,
        language_text: new.language_text,
        language_app: new.language_app,
        language_code: new.language_code,
        language_portal: new.language_portal,
        pin_required: new.pin_required,
        mail: new.mail,
    };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.edit_user(request)).await?))
}

/// Enable or disable a user
#[utoipa::path(put, path = "/users/{id}/state", tag = "users", request_body = NewState,
    params(("id" = String, Path, description = "Id, or any form of the name"), ("If-Match" = Option<String>, Header, description = "The ETag that was seen")),
    responses((status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn set_state(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(new): Body<NewState>,
) -> Result<Response, Problem> {
    let request = SetUserStateRequest {
        expected_revision: expected_revision(&headers)?,
        user_id: user_id(&app, &id).await?,
        state: match new.state {
            SettableState::Enabled => "enabled",
            SettableState::Disabled => "disabled",
        }
        .to_owned(),
        reason: new.reason,
        actor: caller.actor,
    };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.set_user_state(request)).await?))
}

/// Open a user's throttled or locked factors again
#[utoipa::path(post, path = "/users/{id}/unlock", tag = "users", params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = UserWithDetail), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn unlock(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let request = UnlockUserRequest { user_id: user_id(&app, &id).await?, actor: caller.actor };
    Ok(shown(within(STORE_LIMIT, request, |request| app.deps.admin.unlock_user(request)).await?))
}

/// Make an invitation code for a user's first enrolment in the portal
#[utoipa::path(post, path = "/users/{id}/invite", tag = "users", request_body = NewInvitation,
    params(("id" = String, Path, description = "Id, or any form of the name")), responses(
    (status = 200, body = Invitation), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn invite(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(new): Body<NewInvitation>,
) -> Result<Json<Invitation>, Problem> {
    let life_hours = match new.life_hours {
        None => 0,
        Some(hours @ 24..=72) => hours,
        Some(found) => return Err(Problem::rule(format!("life_hours: found {found}; allowed are 24 to 72"))),
    };
    let request = InviteRequest { user_id: user_id(&app, &id).await?, life_hours, actor: caller.actor };
    let reply = within(STORE_LIMIT, request, |request| app.deps.admin.invite(request)).await?;
    Ok(Json(Invitation { code: text_of(reply.code), expires: moment(reply.expires_unix_ms) }))
}

/// The user behind an id or any form of the name; more than one is refused by the store.
pub(super) async fn find(app: &App, id: &str) -> Result<UserDetail, Problem> {
    let request = idempotent(GetUserRequest { name: id.to_owned() });
    Ok(within(STORE_LIMIT, request, |request| app.deps.admin.get_user(request)).await?)
}

pub(super) async fn user_id(app: &App, id: &str) -> Result<String, Problem> {
    match id.parse::<UserId>() {
        Ok(id) => Ok(id.to_string()),
        Err(_) => {
            let found = find(app, id).await?.user;
            found.map(|user| user.user_id).ok_or_else(|| Problem::not_found("there is no such user"))
        }
    }
}

/// With its revision as ETag.
pub(super) fn shown(detail: UserDetail) -> Response {
    let tag = HeaderValue::try_from(format!("\"{}\"", detail.revision)).expect("digits");
    let pin = detail.pin.unwrap_or_default();
    let user = UserWithDetail {
        object_id: detail.subject.map(|subject| subject.object_id).unwrap_or_default(),
        distinguished_name: detail.distinguished_name,
        names: detail.names,
        groups: detail.groups,
        phone: detail.phone,
        sync_item: detail.sync_item,
        state_text: detail.state_text,
        methods: detail.factors.into_iter().map(factor).collect(),
        devices: detail.devices.into_iter().map(device).collect(),
        phone_extension: detail.phone_extension,
        backup_phone: detail.backup_phone,
        backup_extension: detail.backup_extension,
        default_method: detail.default_method,
        allowed_methods: detail.allowed_methods,
        language_call: detail.language_call,
        language_text: detail.language_text,
        language_app: detail.language_app,
        language_code: detail.language_code,
        account_expires: moment(detail.account_expires_unix_ms),
        language_portal: detail.language_portal,
        pin: Pin {
            required: pin.required,
            set: pin.set,
            must_change: pin.must_change,
            expired: pin.expired,
            locked: pin.locked_until_unix_ms != 0,
            locked_until: moment(pin.locked_until_unix_ms),
        },
        recovery_left: detail.recovery_left,
        questions: detail.questions,
        block: detail.block.map(|block| Blocked {
            since: moment(block.since_unix_ms),
            until: moment(block.until_unix_ms),
            by: block.by,
            text: block.text,
        }),
        exempt_clients: detail.exempt_clients,
        exempt_until: moment(detail.exempt_until_unix_ms),
        exempt_text: detail.exempt_text,
        bypasses: detail.bypasses.into_iter().map(bypass).collect(),
        remembered: detail.remembered,
        revision: detail.revision,
        user: user(detail.user.unwrap_or_default()),
    };
    ([(ETAG, tag)], Json(user)).into_response()
}

fn bypass(bypass: BypassSummary) -> Bypass {
    Bypass {
        id: bypass.bypass_id,
        kind: bypass.kind,
        client: bypass.client,
        expires: moment(bypass.expires_unix_ms),
        uses_left: bypass.uses_left,
        by: bypass.by,
        text: bypass.text,
    }
}

fn user(user: UserSummary) -> User {
    User {
        id: user.user_id,
        username: user.username,
        first_name: user.first_name,
        last_name: user.last_name,
        mail: user.mail,
        state: user.state,
        directory: user.directory,
        factors: user.factors,
        locked_until: moment(user.locked_until_unix_ms),
        last_success: moment(user.last_success_unix_ms),
        user_group: user.user_group,
        sync_problem: Some(user.sync_problem).filter(|text| !text.is_empty()),
    }
}

/// 0 where the caller does not care.
fn expected_revision(headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(tag) = headers.get(IF_MATCH) else { return Ok(0) };
    let tag = tag.to_str().unwrap_or_default();
    let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let revision = digits.and_then(|digits| digits.parse().ok()).filter(|revision| *revision > 0);
    revision.ok_or_else(|| Problem::syntax("If-Match: allowed is the ETag of the user"))
}

impl UserState {
    fn code(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
        }
    }
}

impl Enrolment {
    fn code(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::NotEnrolled => "not_enrolled",
        }
    }
}
