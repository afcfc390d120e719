//! Who may call what (V-82): one table, deny by default.

use super::problem::Problem;
use crate::app::{App, STORE_LIMIT, within};
use crate::http::ClientAddress;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::role::Permission::{
    self, AuditRead, Authenticate, Keys, SettingsClients, SettingsMessaging, SettingsRead, SyncApprove, SyncRun,
    UsersBlock, UsersBypass, UsersEdit, UsersMethods, UsersPin, UsersRead, UsersVerifyCaller,
};
use domain::{Role, Secret};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};
use proto::user_store::CheckApiKeyRequest;
use service_kit::grpc::idempotent;
use std::net::IpAddr;
use std::sync::Arc;

/// Every route and the permission it asks for. What is not listed is refused, whoever asks.
pub(super) const TABLE: [(&str, &str, Permission); 69] = [
    ("POST", "/authentications", Authenticate),
    ("GET", "/authentications/{id}", Authenticate),
    ("POST", "/authentications/{id}/answer", Authenticate),
    ("DELETE", "/authentications/{id}", Authenticate),
    ("GET", "/users", UsersRead),
    ("POST", "/users", UsersEdit),
    ("GET", "/users/{id}", UsersRead),
    ("PATCH", "/users/{id}", UsersEdit),
    ("POST", "/users/import", UsersEdit),
    ("PUT", "/users/{id}/state", UsersEdit),
    ("POST", "/users/{id}/unlock", UsersMethods),
    ("POST", "/users/{id}/invite", UsersMethods),
    ("POST", "/users/{id}/block", UsersBlock),
    ("POST", "/users/{id}/unblock", UsersBlock),
    ("PUT", "/users/{id}/exempt", UsersEdit),
    ("POST", "/users/{id}/bypass", UsersBypass),
    ("DELETE", "/users/{id}/bypass/{bypass_id}", UsersBypass),
    ("POST", "/users/{id}/temporary-codes", UsersBypass),
    ("POST", "/users/{id}/pin", UsersPin),
    ("PUT", "/users/{id}/answers", UsersEdit),
    // The help desk makes temporary codes, which end; what lasts is made by those who may enrol.
    ("POST", "/users/{id}/recovery-codes", UsersEdit),
    ("GET", "/users/{id}/factors", UsersRead),
    // The answer holds a seed, and the help desk never sees one: they send an invitation.
    ("POST", "/users/{id}/factors", UsersEdit),
    ("POST", "/users/{id}/factors/{factor_id}/confirm", UsersEdit),
    ("DELETE", "/users/{id}/factors/{factor_id}", UsersMethods),
    ("GET", "/users/{id}/devices", UsersRead),
    ("DELETE", "/users/{id}/devices/{device_id}", UsersMethods),
    // Whoever has an activation code has the second factor, as with a seed.
    ("POST", "/users/{id}/activations", UsersEdit),
    ("GET", "/users/{id}/activations/{device_id}", UsersRead),
    ("POST", "/users/{id}/phones", UsersEdit),
    ("POST", "/users/{id}/phones/{verification_id}/confirm", UsersEdit),
    ("POST", "/users/{id}/try", UsersVerifyCaller),
    ("GET", "/tokens", UsersRead),
    ("GET", "/tokens/{serial}", UsersRead),
    ("POST", "/tokens/import", UsersEdit),
    ("POST", "/tokens/find", UsersMethods),
    ("PUT", "/tokens/{serial}/user", UsersMethods),
    ("DELETE", "/tokens/{serial}/user", UsersMethods),
    ("POST", "/tokens/{serial}/confirm", UsersMethods),
    ("POST", "/tokens/{serial}/resync", UsersMethods),
    ("DELETE", "/tokens/{serial}", UsersMethods),
    ("GET", "/prompts", UsersRead),
    ("GET", "/remembered", UsersRead),
    ("POST", "/remembered/clear", UsersMethods),
    ("GET", "/messages", UsersRead),
    ("GET", "/keys", Keys),
    ("POST", "/keys/rotate", Keys),
    ("POST", "/providers/test", SettingsMessaging),
    ("GET", "/clients", SettingsRead),
    ("GET", "/clients/{name}", SettingsRead),
    ("GET", "/targets", SettingsRead),
    ("GET", "/targets/{name}", SettingsRead),
    ("GET", "/settings", SettingsRead),
    ("POST", "/settings", SettingsClients),
    ("POST", "/directories/test", SettingsClients),
    ("POST", "/directories/{name}/test", SettingsClients),
    // All people of the organisation, known here or not.
    ("GET", "/directories/{name}/users", SyncRun),
    ("GET", "/directories/{name}/places", SyncRun),
    ("GET", "/accounting", AuditRead),
    ("GET", "/audit", AuditRead),
    ("GET", "/sync", SyncRun),
    ("GET", "/sync/history", SyncRun),
    ("GET", "/sync/runs/{id}", SyncRun),
    ("GET", "/sync/runs/{id}/changes", SyncRun),
    ("POST", "/sync/run", SyncRun),
    ("POST", "/sync/import", SettingsClients),
    ("GET", "/sync/owner", SyncRun),
    ("GET", "/sync/approvals/{id}/users", SyncApprove),
    ("POST", "/sync/approvals/{id}", SyncApprove),
];

/// The description itself needs no key: it is in every release.
const OPEN: &str = "/openapi.json";

/// Whoever calls, with a permission that fits the route.
#[derive(Clone)]
pub(crate) struct Caller {
    /// As the audit names them: `api-key:NAME`.
    pub actor: String,
    pub role: Role,
    /// The key's own name.
    pub key: String,
}

pub(super) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match admit(&app, request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn admit(app: &App, mut request: Request) -> Result<Request, Problem> {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let path = matched.as_ref().map_or("", |matched| matched.as_str());
    let path = path.strip_prefix("/api/v1").unwrap_or(path).to_owned();
    if path == OPEN && matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(request);
    }
    let from = request.extensions().get::<ClientAddress>().copied().ok_or_else(Problem::forbidden)?;
    let (name, role) = key_holder(app, request.headers(), from.0).await?;
    if !app.may_call(&name) {
        return Err(Problem::too_many());
    }
    let Some(permission) = permission_of(request.method(), &path) else { return Err(Problem::method_not_allowed()) };
    if !role.may(permission) {
        tracing::info!(
            event = "api_refused",
            service = "portal",
            key = name,
            role = role.code(),
            method = request.method().as_str(),
            route = path,
            client_ip = %from.0,
            "an API key may not do this"
        );
        return Err(Problem::forbidden());
    }
    request.extensions_mut().insert(Caller { actor: format!("api-key:{name}"), role, key: name });
    Ok(request)
}

/// The name and the role of the key.
async fn key_holder(app: &App, headers: &HeaderMap, from: IpAddr) -> Result<(String, Role), Problem> {
    let key = bearer(headers).ok_or_else(Problem::unauthorized)?;
    // So that guesses cost us a look into a table, not a query.
    if !app.may_show_key(from) {
        return Err(Problem::too_many());
    }
    let request = idempotent(CheckApiKeyRequest { key: Some(key.into()), now_unix_ms: app.now_ms() });
    let reply = within(STORE_LIMIT, request, |request| app.deps.portal_data.check_api_key(request)).await?;
    // A role that this version does not know may do nothing.
    match Role::from_code(&reply.role).filter(|_| reply.valid && !reply.name.is_empty()) {
        Some(role) => Ok((reply.name, role)),
        None => {
            app.saw_unknown_key(from);
            Err(Problem::unauthorized())
        }
    }
}

/// The key of `Authorization: Bearer twk_...`; only what could be one.
fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (scheme, key) = given.next()?.to_str().ok()?.split_once(' ')?;
    let alone = given.next().is_none();
    let plausible = key.starts_with("twk_") && key.len() <= 128 && key.bytes().all(|sign| sign.is_ascii_graphic());
    (alone && plausible && scheme.eq_ignore_ascii_case("bearer")).then(|| Secret::from(key))
}

/// What a route asks for; `None`: there is no such route.
pub(super) fn permission_of(method: &Method, path: &str) -> Option<Permission> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let found = TABLE.iter().find(|(listed, route, _)| *listed == method.as_str() && *route == path);
    found.map(|(_, _, permission)| *permission)
}

pub(super) fn roles_with(permission: Permission) -> Vec<&'static str> {
    Role::ALL.into_iter().filter(|role| role.may(permission)).map(Role::code).collect()
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;
    /// A handler that names a caller cannot be reached past [`check`].
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(Problem::forbidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_well_formed_bearer_key_is_a_key() {
        let found = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(AUTHORIZATION, line.parse().expect("a value"));
            }
            bearer(&headers).is_some()
        };
        assert!(found(&["Bearer twk_abc"]));
        assert!(found(&["bearer twk_abc"]));
        let long = format!("Bearer twk_{}", "x".repeat(200));
        for bad in ["", "twk_abc", "Basic twk_abc", "Bearer abc", "Bearer  twk_abc", "Bearer twk_a b", &long] {
            assert!(!found(&[bad]), "{bad}");
        }
        assert!(!found(&[]));
        assert!(!found(&["Bearer twk_abc", "Bearer twk_abc"]), "two are none");
    }

    #[test]
    fn the_help_desk_never_sees_a_seed_and_an_auditor_changes_nothing() {
        // V-82
        for (method, path, permission) in TABLE {
            if method != "GET" {
                assert!(!Role::Auditor.may(permission), "{method} {path}");
            }
            // FC-05: a key on an application's host opens nothing else, and no other key opens that.
            assert_eq!(Role::Application.may(permission), path.starts_with("/authentications"), "{method} {path}");
            // What these make lasts, and opens the door to whoever sees the answer.
            let makes = ["/factors", "/activations", "/recovery-codes", "/phones", "/import"];
            if method == "POST" && makes.iter().any(|part| path.contains(part)) {
                assert!(!Role::HelpDesk.may(permission), "{path}");
            }
        }
        assert!(permission_of(&Method::DELETE, "/users").is_none());
        assert!(permission_of(&Method::HEAD, "/users").is_some());
    }
}
