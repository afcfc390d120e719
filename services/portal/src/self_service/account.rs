//! What somebody who is signed in sees of themselves.

use super::enrol::may_add_first;
use super::form::Visitor;
use super::go_on;
use super::pages::{self, Account, Frame, MethodShown, Moment, WayOn, show};
use super::sign_in::own_detail;
use crate::app::App;
use crate::session::{self, Stage};
use crate::texts::Texts;
use axum::extract::State;
use axum::response::Response;
use domain::{Method, Reason};
use http::StatusCode;
use proto::user_store::UserDetail;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(super) async fn page(State(app): State<Arc<App>>, visitor: Visitor) -> Response {
    let t = visitor.t;
    let Some(live) = visitor.at(Stage::is_signed_in) else { return go_on(visitor.live.as_ref()) };
    let own = match own_detail(&app, live.session.subject.clone()).await {
        Ok(own) if own.user_id == live.session.user_id => own,
        Err(Reason::StoreUnavailable) => return pages::unavailable(&app, t, &tonic::Status::unavailable("")),
        // Disabled, removed or somebody else since they signed in: the session is worth nothing.
        Ok(_) | Err(_) => {
            return match session::end(&app, live).await {
                Ok(()) => go_on(None),
                Err(status) => pages::unavailable(&app, t, &status),
            };
        }
    };
    let way_on = match live.stage {
        Stage::Full => WayOn::Add,
        // A number alone keeps nobody from it: it may not be theirs, or not be allowed.
        _ if may_add_first(&app, &own).is_ok() => WayOn::Invitation,
        _ if own.has_method() => WayOn::StrongerSignIn,
        _ => WayOn::HelpDesk,
    };
    let own = own.detail;
    let user = own.user.clone().unwrap_or_default();
    let full_name = format!("{} {}", user.first_name, user.last_name);
    let name = match full_name.trim() {
        "" => user.username,
        full_name => full_name.to_owned(),
    };
    let page = Account {
        frame: Frame::of(&app, t, t.account_title, live),
        name,
        methods: methods(t, &own),
        recovery_left: own.recovery_left,
        way_on,
    };
    show(StatusCode::OK, &page)
}

/// Everything that is proven.
fn methods(t: &'static Texts, own: &UserDetail) -> Vec<MethodShown> {
    let codes = own.factors.iter().filter(|factor| !factor.pending).map(|factor| MethodShown {
        name: t.method(Method::Code),
        label: factor.serial.clone(),
        added: moment(t, factor.created_unix_ms),
        last_used: moment(t, factor.last_used_unix_ms),
    });
    let devices = own.devices.iter().filter(|device| device.state == "active").map(|device| MethodShown {
        name: match device.kind.as_str() {
            "pi" => t.method_pi,
            "passkey" => t.method(Method::Passkey),
            _ => t.method(Method::Push),
        },
        label: device.name.clone(),
        added: moment(t, device.created_unix_ms),
        last_used: moment(t, device.last_seen_unix_ms),
    });
    let phone = (!own.phone.is_empty()).then(|| MethodShown {
        name: t.phone_number,
        label: domain::phone::masked(&own.phone),
        added: None,
        last_used: None,
    });
    codes.chain(devices).chain(phone).collect()
}

/// `None` for "never", which the store writes as 0.
fn moment(texts: &Texts, unix_ms: i64) -> Option<Moment> {
    let at = OffsetDateTime::from_unix_timestamp(unix_ms / 1000).ok().filter(|_| unix_ms > 0)?;
    Some(Moment { machine: at.format(&Rfc3339).ok()?, text: texts.time(at) })
}
