//! The one address that apps of the privacyIDEA protocol speak to (experience 10.3).

use http::StatusCode;

pub(super) async fn serve() -> StatusCode {
    StatusCode::NOT_IMPLEMENTED
}
