//! What somebody with both locks open sees of themselves.

use super::form::Visitor;
use super::go_on;
use super::pages::{self, Account, Frame, MethodShown, Moment, show};
use super::sign_in::own_detail;
use crate::app::App;
use crate::session::{self, Stage};
use crate::texts::{ENGLISH, Texts};
use axum::extract::State;
use axum::response::Response;
use domain::{Method, Reason};
use http::StatusCode;
use proto::user_store::FactorSummary;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> Response {
    let Some(live) = visitor.at(|stage| stage == Stage::Full) else { return go_on(visitor.0.as_ref()) };
    let own = match own_detail(&app, live.session.subject.clone()).await {
        Ok(own) if own.user_id == live.session.user_id => own.detail,
        Err(Reason::StoreUnavailable) => return pages::unavailable(&app, &tonic::Status::unavailable("")),
        // Disabled, removed or somebody else since they signed in: the session is worth nothing.
        Ok(_) | Err(_) => {
            return match session::end(&app, live).await {
                Ok(()) => go_on(None),
                Err(status) => pages::unavailable(&app, &status),
            };
        }
    };
    let user = own.user.unwrap_or_default();
    let full_name = format!("{} {}", user.first_name, user.last_name);
    let name = match full_name.trim() {
        "" => user.username,
        full_name => full_name.to_owned(),
    };
    let methods = own.factors.iter().filter(|factor| !factor.pending).filter_map(shown).collect();
    show(StatusCode::OK, &Account { frame: Frame::of(&app, ENGLISH.account_title, live), name, methods })
}

fn shown(factor: &FactorSummary) -> Option<MethodShown> {
    Some(MethodShown {
        name: ENGLISH.method(Method::from_code(&factor.method)?),
        added: moment(&ENGLISH, factor.created_unix_ms),
        last_used: moment(&ENGLISH, factor.last_used_unix_ms),
    })
}

/// `None` for "never", which the store writes as 0.
fn moment(texts: &Texts, unix_ms: i64) -> Option<Moment> {
    let at = OffsetDateTime::from_unix_timestamp(unix_ms / 1000).ok().filter(|_| unix_ms > 0)?;
    Some(Moment { machine: at.format(&Rfc3339).ok()?, text: texts.time(at) })
}
