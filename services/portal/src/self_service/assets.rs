//! The files that pages name. They are in the binary.

use crate::app::App;
use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use std::sync::Arc;

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const ASSETS: &[Asset] = &[
    Asset { name: "portal.css", kind: "text/css; charset=utf-8", content: include_bytes!("../../assets/portal.css") },
    Asset { name: "icon.svg", kind: "image/svg+xml", content: include_bytes!("../../assets/icon.svg") },
    Asset { name: "wait.js", kind: "text/javascript; charset=utf-8", content: include_bytes!("../../assets/wait.js") },
    Asset {
        name: "passkey.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../assets/passkey.js"),
    },
    Asset {
        name: "passkey-new.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../assets/passkey-new.js"),
    },
    Asset { name: "console.css", kind: "text/css; charset=utf-8", content: include_bytes!("../../assets/console.css") },
    Asset {
        name: "console-wait.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../assets/console-wait.js"),
    },
    Asset { name: "icon-180.png", kind: "image/png", content: include_bytes!("../../assets/icon-180.png") },
    Asset { name: "icon-192.png", kind: "image/png", content: include_bytes!("../../assets/icon-192.png") },
    Asset { name: "icon-512.png", kind: "image/png", content: include_bytes!("../../assets/icon-512.png") },
    Asset { name: "phone.css", kind: "text/css; charset=utf-8", content: include_bytes!("../../assets/phone.css") },
    Asset {
        name: "phone.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../assets/phone.js"),
    },
    Asset {
        name: "phone-activate.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../assets/phone-activate.js"),
    },
    Asset {
        name: "phone-device.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../assets/phone-device.js"),
    },
    Asset {
        name: "phone-code.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../assets/phone-code.js"),
    },
    Asset {
        name: "phone-offline.js",
        kind: "text/javascript; charset=utf-8",
        content: include_bytes!("../../assets/phone-offline.js"),
    },
];

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/assets/{name}", get(serve))
}

/// Kept by browsers, and asked for again each time: after an upgrade no page has the style of the version before.
async fn serve(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = format!("\"{}\"", &HEXLOWER.encode(&Sha256::digest(asset.content))[..16]);
    let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known == tag.as_str());
    let common = [(CACHE_CONTROL, "no-cache".to_owned()), (ETAG, tag)];
    match known {
        true => (StatusCode::NOT_MODIFIED, common).into_response(),
        false => (common, [(CONTENT_TYPE, asset.kind)], asset.content).into_response(),
    }
}
