//! The REST API under `/api/v1`: JSON, an API key with a role, RFC 9457 for what goes wrong.
//!
//! ```text
//! key -> permission of the route (access) -> handler -> Admin (the store), Enrolment (verification)
//! ```
//!
//! The handlers are thin: they read, call the same functions the command line calls, and write. What is allowed stands in one table
//! ([`access::TABLE`]); a route that is not in it is refused.

mod access;
mod audit;
mod authentications;
mod clients;
mod directories;
mod directory_users;
mod extract;
mod factors;
mod imports;
mod open;
mod passes;
mod phones;
mod problem;
mod secrets;
mod settings;
mod sync;
mod targets;
mod tokens;
mod users;

pub(crate) use access::Caller;
pub(crate) use clients::{Known as KnownClients, known as known_clients};
pub(crate) use directories::{
    DIRECTORY_LIMIT, DirectoryDraft, DirectoryTested, ONCE_SAVED_LIMIT, test_draft as try_draft, tried,
};
pub(crate) use directory_users::{
    NewSelection, Owner, Whose, document, import as select, known_by_ids as known_users, owner, settings as exported,
};
pub(crate) use extract::{Body, Query};
pub(crate) use problem::Problem;

use crate::app::App;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::Serialize;
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// FC-03: more is 413.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// May this route wait longer than others: for a person, or for a directory?
pub(crate) fn waits(route: &str) -> bool {
    let route = route.strip_prefix("/api/v1/").unwrap_or_default();
    route == "authentications/{id}"
        || route.starts_with("directories/")
        || matches!(route, "settings" | "sync/import" | "sync/owner")
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Twinlock",
        description = "Sign-ins, users, their second factors, hardware tokens, clients, settings, synchronisation and audit. Errors are RFC 9457 problem documents; \
                       times are RFC 3339 in UTC; lists are {\"items\": [...], \"next\": ...}.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/api/v1")),
    components(schemas(Problem)),
    security(("api_key" = [])),
    modifiers(&ApiKey)
)]
struct Description;

struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let key = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("twk_...")
            .description(Some("An API key, made with `twinlock api-key create`."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(key.build()));
    }
}

pub(crate) fn router(app: Arc<App>) -> Router {
    let (routes, document) = routes().split_for_parts();
    let document = Arc::new(described(document));
    routes
        .route("/openapi.json", axum::routing::get(move || async move { Json(document.as_ref().clone()) }))
        .route_layer(from_fn_with_state(app.clone(), access::check))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(authentications::begin))
        .routes(routes!(authentications::look, authentications::cancel))
        .routes(routes!(authentications::answer))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::get, users::change))
        .routes(routes!(users::set_state))
        .routes(routes!(users::unlock))
        .routes(routes!(users::invite))
        .routes(routes!(imports::users))
        .routes(routes!(passes::block))
        .routes(routes!(passes::unblock))
        .routes(routes!(passes::exempt))
        .routes(routes!(passes::start_bypass))
        .routes(routes!(passes::end_bypass))
        .routes(routes!(passes::temporary_code))
        .routes(routes!(secrets::reset_pin))
        .routes(routes!(secrets::set_answers))
        .routes(routes!(secrets::recovery_codes))
        .routes(routes!(factors::list, factors::start))
        .routes(routes!(factors::confirm))
        .routes(routes!(factors::revoke))
        .routes(routes!(phones::devices))
        .routes(routes!(phones::revoke_device))
        .routes(routes!(phones::activate))
        .routes(routes!(phones::activation))
        .routes(routes!(phones::start_phone))
        .routes(routes!(phones::confirm_phone))
        .routes(routes!(phones::try_method))
        .routes(routes!(tokens::list))
        .routes(routes!(imports::tokens))
        .routes(routes!(tokens::find_by_code))
        .routes(routes!(tokens::get, tokens::revoke))
        .routes(routes!(tokens::assign, tokens::unassign))
        .routes(routes!(tokens::confirm))
        .routes(routes!(tokens::resync))
        .routes(routes!(open::prompts))
        .routes(routes!(open::remembered))
        .routes(routes!(open::clear_remembered))
        .routes(routes!(open::messages))
        .routes(routes!(open::keys))
        .routes(routes!(open::rotate_keys))
        .routes(routes!(open::test_provider))
        .routes(routes!(clients::list))
        .routes(routes!(clients::get))
        .routes(routes!(clients::accounting))
        .routes(routes!(targets::list))
        .routes(routes!(targets::get))
        .routes(routes!(settings::export, settings::apply))
        .routes(routes!(directories::test))
        .routes(routes!(directories::test_draft))
        .routes(routes!(directory_users::list))
        .routes(routes!(directory_users::places))
        .routes(routes!(audit::list))
        .routes(routes!(sync::status))
        .routes(routes!(sync::history))
        .routes(routes!(sync::one))
        .routes(routes!(sync::changes))
        .routes(routes!(sync::run))
        .routes(routes!(directory_users::import))
        .routes(routes!(directory_users::owner))
        .routes(routes!(sync::approval_users))
        .routes(routes!(sync::decide))
}

/// With the permission that each operation asks for, from the table that is enforced.
fn described(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (http::Method::GET, &mut item.get),
            (http::Method::POST, &mut item.post),
            (http::Method::PUT, &mut item.put),
            (http::Method::PATCH, &mut item.patch),
            (http::Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let (Some(operation), Some(permission)) = (operation, access::permission_of(&method, path)) {
                let sentence = format!("Roles: {}.", access::roles_with(permission).join(", "));
                operation.description = Some(match operation.description.take() {
                    Some(text) => format!("{text}\n\n{sentence}"),
                    None => sentence,
                });
            }
        }
    }
    document
}

async fn no_such_route() -> Response {
    Problem::not_found("there is nothing at this address").into_response()
}

async fn no_such_method() -> Response {
    Problem::method_not_allowed().into_response()
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
struct Page<T> {
    items: Vec<T>,
    /// For the `after` of the next page; null on the last one.
    next: Option<String>,
}

/// RFC 3339 in UTC; null for "never", which the store writes as 0.
fn moment(unix_ms: i64) -> Option<String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok();
    at.filter(|_| unix_ms > 0)?.format(&Rfc3339).ok()
}

/// The other way round, for a time somebody wrote.
fn unix_ms(name: &'static str, text: &str) -> Result<i64, Problem> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok().map(|at| at.unix_timestamp_nanos() / 1_000_000);
    let at = at.and_then(|at| i64::try_from(at).ok()).filter(|at| *at > 0);
    at.ok_or_else(|| Problem::rule(format!("{name}: allowed is a time such as 2026-11-20T16:45:02Z")))
}

/// Pages of 100, 1 to 1000 (FC-04).
fn page_length(limit: Option<u32>) -> Result<u32, Problem> {
    match limit.unwrap_or(100) {
        limit @ 1..=1000 => Ok(limit),
        found => Err(Problem::syntax(format!("limit: found {found}; allowed are 1 to 1000"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_the_table_and_the_routes_are_the_same_set() {
        // V-82: nothing is reachable that the table does not name, and nothing is named that does not exist.
        let document = routes().into_openapi();
        let mut described = BTreeSet::new();
        for (path, item) in &document.paths.paths {
            let methods = [
                ("GET", &item.get),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("PATCH", &item.patch),
                ("DELETE", &item.delete),
            ];
            for (method, _) in methods.into_iter().filter(|(_, operation)| operation.is_some()) {
                described.insert(format!("{method} {path}"));
            }
        }
        let listed: BTreeSet<String> =
            access::TABLE.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        assert_eq!(listed.len(), access::TABLE.len(), "a route is listed twice");
        assert_eq!(described, listed);
    }

    #[test]
    fn the_document_is_the_committed_one() {
        // Renew with TWINLOCK_RENEW=1 and read the difference: it is a promise to whoever calls us.
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let now = described(routes().into_openapi()).to_pretty_json().expect("JSON") + "\n";
        if std::env::var_os("TWINLOCK_RENEW").is_some() {
            std::fs::write(file, &now).expect("written");
        }
        let committed = std::fs::read_to_string(file).expect("openapi.json is committed");
        assert!(committed == now, "openapi.json differs; renew it with TWINLOCK_RENEW=1 and read the difference");
    }

    #[test]
    fn a_time_is_rfc_3339_in_utc_and_never_is_null() {
        assert_eq!(moment(1_795_193_102_482).as_deref(), Some("2026-11-20T16:45:02.482Z"));
        assert_eq!((moment(0), moment(-1)), (None, None));
        assert_eq!(unix_ms("until", "2026-11-20T17:45:02.482+01:00").ok(), Some(1_795_193_102_482));
        assert!(unix_ms("until", "tomorrow").is_err() && unix_ms("until", "1960-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn a_page_has_1_to_1000_items() {
        assert!(matches!(page_length(None), Ok(100)));
        assert!(matches!(page_length(Some(1000)), Ok(1000)));
        assert!(page_length(Some(0)).is_err() && page_length(Some(1001)).is_err());
    }
}
