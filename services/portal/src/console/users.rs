//! Users: found, by label too (FD-37), and made by hand (FS-17).

use super::door::{Administrator, Sent};
use super::pages::{self, Field, Frame, NewUserPage, UserShown, Users, show, time};
use crate::api::Problem;
use crate::app::{App, STORE_LIMIT, within};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, StatusCode};
use proto::user_store::{CreateUserRequest, EditUserRequest, ListUsersRequest, UserSummary};
use serde::Deserialize;
use service_kit::grpc::idempotent;
use std::sync::Arc;

/// Users on one page.
const PAGE: u32 = 100;

/// Chosen like a state, and none (FS-14).
const SYNC_PROBLEM: &str = "sync_problem";

/// Of the form: name, label, help.
const FIELDS: [(&str, &str, &str); 6] = [
    ("username", "Username", "As the directory calls them. This is all that is needed."),
    ("first_name", "First name", ""),
    ("last_name", "Last name", ""),
    ("mail", "E-mail", ""),
    ("phone", "Phone", "With the country: +49 30 1234567"),
    ("phone_extension", "Extension", ""),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    search: String,
    #[serde(default)]
    state: String,
    /// Exactly this label (FD-37).
    #[serde(default)]
    user_group: String,
    #[serde(default)]
    after: String,
    /// Who was made just now.
    created: Option<String>,
}

pub(super) async fn list(State(app): State<Arc<App>>, by: Administrator, Query(wanted): Query<Wanted>) -> Response {
    let sync_problem = wanted.state == SYNC_PROBLEM;
    let request = idempotent(ListUsersRequest {
        search: wanted.search.clone(),
        state: if sync_problem { String::new() } else { wanted.state.clone() },
        sync_problem,
        user_group: wanted.user_group.clone(),
        after: wanted.after,
        limit: PAGE,
        ..ListUsersRequest::default()
    });
    let reply = match within(STORE_LIMIT, request, |request| app.deps.admin.list_users(request)).await {
        Ok(reply) => reply,
        Err(status) => return pages::refused(&app, Some(&by), &Problem::from(status)),
    };
    let page = Users {
        frame: Frame::of(&app, &by, "Users"),
        search: wanted.search,
        state: wanted.state,
        user_group: wanted.user_group,
        users: reply.users.into_iter().map(shown).collect(),
        next: Some(reply.next).filter(|next| !next.is_empty()),
        may_create: by.may(&Method::POST, "/console/users/new"),
        created: wanted.created,
    };
    show(StatusCode::OK, &page)
}

fn shown(user: UserSummary) -> UserShown {
    UserShown {
        name: format!("{} {}", user.first_name, user.last_name).trim().to_owned(),
        username: user.username,
        mail: user.mail,
        state: user.state,
        problem: user.sync_problem,
        label_href: format!("/console/users?user_group={}", pages::escaped(&user.user_group)),
        user_group: user.user_group,
        directory: user.directory,
        methods: user.factors,
        last_success: time(user.last_success_unix_ms),
    }
}

pub(super) async fn form(State(app): State<Arc<App>>, by: Administrator) -> Response {
    show(StatusCode::OK, &new_user(&app, &by, None, |_| String::new()))
}

fn new_user(app: &App, by: &Administrator, failure: Option<String>, value: impl Fn(&str) -> String) -> NewUserPage {
    let fields = FIELDS.map(|(name, label, help)| Field { name, label, help, value: value(name) });
    NewUserPage { frame: Frame::of(app, by, "New user"), failure, fields }
}

pub(super) async fn create(State(app): State<Arc<App>>, sent: Sent) -> Response {
    let text = |name: &str| sent.text(name).to_owned();
    let given = |name: &str| Some(text(name)).filter(|text| !text.is_empty());
    let more = EditUserRequest {
        phone: given("phone"),
        phone_extension: given("phone_extension"),
        mail: given("mail"),
        ..EditUserRequest::default()
    };
    let request = CreateUserRequest {
        username: text("username"),
        first_name: text("first_name"),
        last_name: text("last_name"),
        more: Some(more),
        actor: sent.by.caller.actor.clone(),
    };
    match within(STORE_LIMIT, request, |request| app.deps.admin.create_user(request)).await {
        Ok(detail) => {
            let username = pages::escaped(&detail.user.unwrap_or_default().username);
            Redirect::to(&format!("/console/users?search={username}&created={username}")).into_response()
        }
        Err(status) => {
            let problem = Problem::from(status);
            let failure = Some(problem.sentences().join(" "));
            show(problem.status_code(), &new_user(&app, &sent.by, failure, text))
        }
    }
}
