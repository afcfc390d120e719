//! What phones ask for: the pages of our own app, and the endpoint of apps that speak the privacyIDEA protocol (FM-01).
//! No password of a user passes here, and no session of the portal is looked at.

mod pi;

use crate::app::App;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use std::sync::Arc;

/// The longest message holds the keys of a new device.
const BODY_BYTES_MAX: usize = 32 * 1024;

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/push/pi", get(pi::serve).post(pi::serve))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}
