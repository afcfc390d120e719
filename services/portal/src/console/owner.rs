//! Which sync item would own a user (FS-08).

use super::door::Administrator;
use super::pages::{self, Frame, OwnerPage, show};
use crate::api::{Query, Whose, owner};
use crate::app::App;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(default)]
    user: String,
}

pub(super) async fn page(
    State(app): State<Arc<App>>,
    by: Administrator,
    axum::extract::Query(Asked { user }): axum::extract::Query<Asked>,
) -> Response {
    let user = user.trim().to_owned();
    let mut page = OwnerPage { frame: Frame::of(&app, &by, "Whose would they be?"), user, found: None, failure: None };
    if page.user.is_empty() {
        return show(StatusCode::OK, &page);
    }
    let whose = Whose { user: page.user.clone(), directory: String::new() };
    match owner(State(app.clone()), by.caller.clone(), Query(whose)).await {
        Ok(found) => page.found = Some(found.0),
        Err(problem) if problem.status_code() == StatusCode::NOT_FOUND => {
            page.failure = Some(problem.sentences().join(" "));
        }
        Err(problem) => return pages::refused(&app, Some(&by), &problem),
    }
    show(StatusCode::OK, &page)
}
