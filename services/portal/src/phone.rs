//! What phones ask for: the pages of our own app, and the endpoint of apps that speak the privacyIDEA protocol (FM-01).
//! No password of a user passes here, and no session of the portal is looked at: a device proves itself by its key, and verification
//! alone checks that.
//!
//! ```text
//! pages   /phone (waits, asks), /phone/activate, what makes it an app: worker, manifest, a page for when there is no network
//! api     /phone/api/...: JSON of those pages, handed on
//! pi      /push/pi
//! ```

mod api;
mod pages;
mod pi;
mod words;

use crate::app::App;
use crate::limits::Limit;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::routing::{get, post};
use service_kit::net::one_source;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest message holds the keys of a new device.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What these requests share.
#[derive(Clone)]
pub(crate) struct Phones {
    app: Arc<App>,
    limits: Arc<PhoneLimits>,
}

/// How often phones may ask (V-20, V-87).
struct PhoneLimits {
    /// Codes of activations. They cannot be guessed; nobody needs to try many.
    activations_of_place: Limit<IpAddr>,
    /// A place may be a whole company whose phones are on its wireless network.
    calls_of_place: Limit<IpAddr>,
    /// An open page asks every two seconds.
    calls_of_device: Limit<String>,
}

impl FromRef<Phones> for Arc<App> {
    fn from_ref(phones: &Phones) -> Self {
        phones.app.clone()
    }
}

impl Phones {
    fn new(app: Arc<App>) -> Self {
        let limits = PhoneLimits {
            activations_of_place: Limit::new(30, Duration::from_secs(2)),
            calls_of_place: Limit::new(2000, Duration::from_millis(2)),
            calls_of_device: Limit::new(20, Duration::from_millis(700)),
        };
        Self { app, limits: Arc::new(limits) }
    }

    fn may_activate(&self, place: IpAddr) -> bool {
        self.limits.activations_of_place.take(one_source(place), Instant::now())
    }

    /// Of an app that speaks another protocol: verification limits each token.
    fn may_ask(&self, place: IpAddr) -> bool {
        self.limits.calls_of_place.take(one_source(place), Instant::now())
    }

    fn may_call(&self, place: IpAddr, device_id: &str) -> bool {
        let now = Instant::now();
        let device = device_id.chars().take(64).collect();
        self.limits.calls_of_place.take(one_source(place), now) && self.limits.calls_of_device.take(device, now)
    }
}

/// On every listener the same: what a place may ask for is counted once.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/phone", get(pages::wait))
        .route("/phone/activate", get(pages::activate))
        .route("/phone/offline", get(pages::offline))
        .route("/phone/worker.js", get(pages::worker))
        .route("/phone/app.webmanifest", get(pages::manifest))
        .route("/phone/api/begin", post(api::begin))
        .route("/phone/api/finish", post(api::finish))
        .route("/phone/api/device", post(api::device))
        .route("/phone/api/prompts", post(api::prompts))
        .route("/phone/api/decide", post(api::decide))
        .route("/phone/api/code", post(api::code))
        .route("/push/pi", get(pi::serve).post(pi::serve))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Phones::new(app))
}
