//! What administrators ask and change. Every change carries the actor and leaves an audit event with old and new value.

mod change;
mod clients;
mod create;
mod edit;
mod imports;
mod keys;
mod lists;
mod passes;
mod people;
mod pins;
mod standing;
mod token_import;
mod tokens;

use crate::Store;
use crate::audit::{self, NewEvent, Wanted, printable};
use crate::password_tries;
use crate::portal_data::{api_key_hash, invitation_hash};
use crate::radius::{accounting, reports, rotation};
use crate::rpc::StoreError;
use crate::seal;
use crate::settings::{self, apply};
use crate::sql::{Arg, Session, args, like_literal};
use crate::sync::{approvals, history, preview, problems};
use crate::users::{self, StateChange, name_key};
pub use change::REASON_CHARACTERS_MAX;

use change::Change;
use domain::settings::SyncItem;
use domain::{ObjectName, Role, Secret};
use proto::user_store::{
    ApiKeySummary, ApplySettingsReply, ApplySettingsRequest, CreateApiKeyReply, CreateApiKeyRequest,
    DecideApprovalReply, DecideApprovalRequest, ExportSettingsReply, ExportSettingsRequest, GetUserRequest,
    InviteReply, InviteRequest, KnownUsersReply, KnownUsersRequest, ListAccountingReply, ListAccountingRequest,
    ListApiKeysReply, ListApiKeysRequest, ListApprovalUsersReply, ListApprovalUsersRequest, ListAuditReply,
    ListAuditRequest, ListCheckpointsReply, ListCheckpointsRequest, ListClientsReply, ListClientsRequest,
    ListSyncRunsReply, ListSyncRunsRequest, ListUsersReply, ListUsersRequest, ObserveClientReply, ObserveClientRequest,
    RequestSyncReply, RequestSyncRequest, RevokeApiKeyReply, RevokeApiKeyRequest, RevokeFactorRequest,
    RotateClientSecretReply, RotateClientSecretRequest, SetUserStateRequest, SyncChangesReply, SyncChangesRequest,
    SyncStatusReply, SyncStatusRequest, UnlockUserRequest, UserDetail, VerifyAuditReply, VerifyAuditRequest,
    admin_server::Admin,
};
use std::collections::{BTreeSet, HashMap};
use tonic::{Request, Response, Status};

const HOUR_MS: i64 = 3_600_000;
const INVITATION_TRIES: i64 = 5;

pub struct AdminService(pub Store);

impl AdminService {
    async fn list(&self, request: ListUsersRequest) -> Result<ListUsersReply, StoreError> {
        let limit = page(request.limit);
        let mut sql = users::SUMMARY.to_owned();
        let mut arguments: Vec<Arg> = Vec::new();
        let mut condition = |text: &str, values: Vec<_>| {
            let mut text = text.to_owned();
            for value in values {
                arguments.push(value);
                text = text.replacen('?', &format!("${}", arguments.len()), 1);
            }
            sql += if sql.contains(" WHERE ") { " AND " } else { " WHERE " };
            sql += &text;
        };
        if !request.search.is_empty() {
            let contains = |text: &str| format!("%{}%", like_literal(text));
            let name = contains(&name_key(&request.search));
            match users::dialled(&request.search) {
                None => condition("u.search LIKE ? ESCAPE '\\'", args![name]),
                Some(number) => condition(
                    "(u.search LIKE ? ESCAPE '\\' OR u.search LIKE ? ESCAPE '\\')",
                    args![name, contains(&number)],
                ),
            }
        }
        match request.state.as_str() {
            "" => {}
            // As an expression: by its index nearly everybody would be found, and sorted.
            state @ ("enabled" | "disabled" | "removed") => condition("u.state || '' = ?", args![state]),
            _ => return Err(Status::invalid_argument("state: allowed are enabled, disabled, removed").into()),
        }
        const ENROLLED: &str = "(EXISTS (SELECT 1 FROM factors f WHERE f.user_id = u.user_id AND NOT f.pending) OR \
                                EXISTS (SELECT 1 FROM devices d WHERE d.user_id = u.user_id AND d.state = 'active'))";
        match request.enrolment.as_str() {
            "" => {}
            "enrolled" => condition(ENROLLED, args![]),
            "not_enrolled" => condition(&format!("NOT {ENROLLED}"), args![]),
            _ => return Err(Status::invalid_argument("enrolment: allowed are enrolled, not_enrolled").into()),
        }
        if !request.user_group.is_empty() {
            condition("u.user_group = ?", args![&request.user_group]);
        }
        if request.sync_problem {
            condition(problems::HAS_ONE, args![]);
        }
        if !request.after.is_empty() {
            let (user_id, key) = request.after.split_once(' ').unwrap_or((&request.after, ""));
            condition("(u.username_key, u.user_id) > (?, ?)", args![key, user_id]);
        }
        arguments.push(Arg::from(limit + 1));
        sql += &format!(" ORDER BY u.username_key, u.user_id LIMIT ${}", arguments.len());
        let mut session = self.0.database().read().await?;
        let mut rows = session.rows_of(sql, arguments).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = match rows.last().filter(|_| more) {
            Some(row) => format!("{} {}", row.get::<String>("user_id")?, row.get::<String>("username_key")?),
            None => String::new(),
        };
        let users = users::summaries(&mut session, &rows, self.0.clock().now_ms()).await?;
        Ok(ListUsersReply { users, next })
    }

    /// By id, or by any form of the name; more than one match is refused.
    async fn find(&self, session: &mut Session, name: &str) -> Result<String, StoreError> {
        let sql = "SELECT user_id FROM users WHERE user_id = $1";
        if let Some(row) = session.row(sql, args![name]).await? {
            return Ok(row.get("user_id")?);
        }
        let sql = "SELECT DISTINCT n.user_id AS user_id FROM names n JOIN users u ON u.user_id = n.user_id \
                   WHERE n.name_key = $1 AND u.state <> 'removed' LIMIT 2";
        let mut rows = session.rows(sql, args![name_key(name)]).await?;
        if rows.is_empty() {
            let sql = "SELECT user_id FROM users WHERE dn_key = $1 OR username_key = $2 LIMIT 2";
            rows = session.rows(sql, args![crate::sync::dn_key(name), name_key(name)]).await?;
        }
        match rows.as_slice() {
            [] => Err(Status::not_found("no user has this id or name").into()),
            [row] => Ok(row.get("user_id")?),
            _ => Err(Status::failed_precondition("more than one user has this name; use the id").into()),
        }
    }

    async fn user(&self, name: &str) -> Result<UserDetail, StoreError> {
        let mut session = self.0.database().read().await?;
        let user_id = self.find(&mut session, name).await?;
        self.detail(&mut session, &user_id).await
    }

    async fn detail(&self, session: &mut Session, user_id: &str) -> Result<UserDetail, StoreError> {
        let detail = users::detail(session, user_id, self.0.clock().now_ms()).await?;
        detail.ok_or_else(|| Status::not_found("no such user").into())
    }

    async fn set_state(&self, request: SetUserStateRequest) -> Result<UserDetail, StoreError> {
        if !matches!(request.state.as_str(), "enabled" | "disabled") {
            return Err(Status::invalid_argument("state: allowed are enabled, disabled").into());
        }
        let actor = actor(&request.actor)?;
        let mut session = self.0.database().write().await?;
        let head = audit::lock(&mut session).await?;
        let sql = "SELECT username, state, state_by, revision FROM users WHERE user_id = $1";
        let row = session.row(sql, args![&request.user_id]).await?;
        let row = row.ok_or_else(|| Status::not_found("no such user"))?;
        let (username, from): (String, String) = (row.get("username")?, row.get("state")?);
        let from_by: String = row.get("state_by")?;
        if request.expected_revision != 0 && row.unsigned("revision")? != request.expected_revision {
            return Err(Status::aborted("the user changed meanwhile").into());
        }
        if from == "removed" {
            return Err(
                Status::failed_precondition("the user is removed and comes back with the directory only").into()
            );
        }
        // Disabled by hand holds where the directory would enable again: a hand may take over from it.
        if from != request.state || (from == "disabled" && from_by != actor) {
            let text = printable(&request.reason, 256);
            let change = StateChange {
                user_id: &request.user_id,
                username: &username,
                from: &from,
                from_by: &from_by,
                to: &request.state,
                by: &actor,
                text: &text,
            };
            let event = change.write(&mut session, self.0.clock().now_ms()).await?;
            audit::append(&mut session, head, event.into_iter().collect()).await?;
        }
        let detail = self.detail(&mut session, &request.user_id).await?;
        session.commit().await?;
        self.0.teller().user_changed(&request.user_id);
        Ok(detail)
    }

    async fn unlock(&self, request: UnlockUserRequest) -> Result<UserDetail, StoreError> {
        let mut change = Change::begin(&self.0, &request.user_id, &request.actor).await?;
        let user_id = change.user_id.clone();
        let sql = "UPDATE factors SET failures = 0, open_ms = 0, revision = revision + 1 WHERE user_id = $1";
        change.session.execute(sql, args![&user_id]).await?;
        let sql = "UPDATE guards SET unverified = $1 WHERE user_id = $2";
        change.session.execute(sql, args![Vec::new(), &user_id]).await?;
        // PIN, recovery and temporary codes, answers, codes that were sent.
        let sql = "UPDATE secret_states SET wrong = $1, locked_until_ms = 0 WHERE user_id = $2";
        change.session.execute(sql, args![Vec::new(), &user_id]).await?;
        // Passwords too, as far as they are counted here (L-56).
        password_tries::forget(&mut change.session, &user_id).await?;
        change.note("user.unlocked", "");
        change.finish().await
    }

    /// A code factor, or a phone or passkey.
    async fn revoke(&self, request: RevokeFactorRequest) -> Result<UserDetail, StoreError> {
        let mut change = Change::begin(&self.0, &request.user_id, &request.actor).await?;
        let of_user = || args![&request.factor_id, &request.user_id];
        let sql = "DELETE FROM factors WHERE factor_id = $1 AND user_id = $2";
        let mut method = domain::Method::Code.code().to_owned();
        if change.session.execute(sql, of_user()).await? != 1 {
            let sql = "SELECT kind FROM devices WHERE device_id = $1 AND user_id = $2";
            let device = change.session.row(sql, of_user()).await?;
            let device = device.ok_or_else(|| Status::not_found("the user has no such factor"))?;
            let passkey = device.get::<String>("kind")? == "passkey";
            method = if passkey { domain::Method::Passkey } else { domain::Method::Push }.code().to_owned();
            let sql = "DELETE FROM devices WHERE device_id = $1 AND user_id = $2";
            change.session.execute(sql, of_user()).await?;
        }
        change.note("factor.revoked", format!("{method} {}", request.factor_id));
        change.end_remembered();
        // Whoever signed in with it may sit in the portal already, and would add another.
        users::end_sessions(&mut change.session, &request.user_id).await?;
        change.mail("method_removed", &[("method", &method)]).await?;
        change.finish().await
    }

    async fn new_invitation(&self, request: InviteRequest) -> Result<InviteReply, StoreError> {
        let actor = actor(&request.actor)?;
        let hours = match request.life_hours {
            0 => 48,
            hours @ 1..=72 => hours,
            hours => {
                return Err(Status::invalid_argument(format!("life_hours: found {hours}; allowed are 1 to 72")).into());
            }
        };
        let now_ms = self.0.clock().now_ms();
        let code = invitation_code();
        let expires_ms = now_ms + i64::from(hours) * HOUR_MS;
        let mut session = self.0.database().write().await?;
        let head = audit::lock(&mut session).await?;
        let username = users::enabled_username(&mut session, &request.user_id).await?;
        let hash = invitation_hash(&self.0, &request.user_id, &code);
        let sql = "INSERT INTO invitations (user_id, code_hash, expires_ms, tries_left) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (user_id) DO UPDATE SET code_hash = excluded.code_hash, expires_ms = excluded.expires_ms, \
                   tries_left = excluded.tries_left";
        session.execute(sql, args![&request.user_id, hash, expires_ms, INVITATION_TRIES]).await?;
        let event = NewEvent::administrative(now_ms, "invitation.made", &actor, format!("for {hours} hours"));
        audit::append(&mut session, head, vec![event.about(&request.user_id, &username)]).await?;
        session.commit().await?;
        Ok(InviteReply { code: Some(code.into()), expires_unix_ms: expires_ms })
    }

    async fn create_key(&self, request: CreateApiKeyRequest) -> Result<CreateApiKeyReply, StoreError> {
        let actor = actor(&request.actor)?;
        let name = ObjectName::new(request.name).map_err(|error| Status::invalid_argument(format!("name: {error}")))?;
        let Some(role) = Role::from_code(&request.role) else {
            let known: Vec<&str> = Role::ALL.iter().map(|role| role.code()).collect();
            return Err(Status::invalid_argument(format!("role: allowed are {}", known.join(", "))).into());
        };
        let days = match request.life_days {
            0 => 365,
            days @ 1..=3650 => days,
            days => {
                return Err(Status::invalid_argument(format!("life_days: found {days}; allowed are 1 to 3650")).into());
            }
        };
        let now_ms = self.0.clock().now_ms();
        let expires_ms = now_ms + i64::from(days) * 24 * HOUR_MS;
        let key = format!("twk_{}", data_encoding::BASE64URL_NOPAD.encode(&seal::random::<32>()));
        let mut session = self.0.database().write().await?;
        let head = audit::lock(&mut session).await?;
        let sql = "INSERT INTO api_keys (name, role, hash, created_ms, expires_ms, last_used_ms) \
                   VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT (name) DO NOTHING";
        let arguments = args![name.as_str(), role.code(), api_key_hash(key.as_bytes()), now_ms, expires_ms];
        if session.execute(sql, arguments).await? != 1 {
            return Err(Status::already_exists("an API key has this name").into());
        }
        let detail = format!("{name}, role {}, {days} days", role.code());
        let event = NewEvent::administrative(now_ms, "api_key.created", &actor, detail);
        audit::append(&mut session, head, vec![event]).await?;
        session.commit().await?;
        Ok(CreateApiKeyReply { key: Some(Secret::from(key).into()), expires_unix_ms: expires_ms })
    }

    async fn revoke_key(&self, request: RevokeApiKeyRequest) -> Result<(), StoreError> {
        let actor = actor(&request.actor)?;
        let mut session = self.0.database().write().await?;
        let head = audit::lock(&mut session).await?;
        if session.execute("DELETE FROM api_keys WHERE name = $1", args![&request.name]).await? != 1 {
            return Err(Status::not_found("no API key has this name").into());
        }
        let event = NewEvent::administrative(self.0.clock().now_ms(), "api_key.revoked", &actor, request.name);
        audit::append(&mut session, head, vec![event]).await?;
        Ok(session.commit().await?)
    }

    async fn keys(&self) -> Result<Vec<ApiKeySummary>, StoreError> {
        let sql = "SELECT name, role, created_ms, expires_ms, last_used_ms FROM api_keys ORDER BY name";
        let rows = self.0.database().read().await?.rows(sql, args![]).await?;
        let keys = rows.iter().map(|row| {
            Ok::<_, sqlx::Error>(ApiKeySummary {
                name: row.get("name")?,
                role: row.get("role")?,
                created_unix_ms: row.get("created_ms")?,
                expires_unix_ms: row.get("expires_ms")?,
                last_used_unix_ms: row.get("last_used_ms")?,
            })
        });
        Ok(keys.collect::<Result<_, _>>()?)
    }

    async fn ask_sync(&self, request: RequestSyncRequest) -> Result<(), StoreError> {
        let request = RequestSyncRequest { actor: actor(&request.actor)?, ..request };
        if !matches!(request.mode.as_str(), "" | "full" | "incremental" | "preview") {
            return Err(Status::invalid_argument("mode: allowed are full, incremental, preview").into());
        }
        let mut session = self.0.database().write().await?;
        let head = audit::lock(&mut session).await?;
        let settings = self.0.rules().current(&mut session).await?;
        let named = |item: &SyncItem| [item.name.as_str(), item.directory.as_str()].contains(&request.only.as_str());
        // FS-10: a directory without items is run when it is asked for itself.
        let is_directory = settings.directory(&request.only).is_some();
        if !request.only.is_empty() && !is_directory && !settings.sync_items.iter().any(named) {
            return Err(Status::not_found("no sync item, and no directory of one, has this name").into());
        }
        let request = preview::still_holds(&mut session, &settings, request).await?;
        let may_try = request.mode == "preview" && is_directory;
        if !may_try && !request.draft_items.is_empty() {
            return Err(Status::invalid_argument(
                "draft_items: only a preview of a directory tries what is not applied",
            )
            .into());
        }
        preview::drafted(settings.clone(), &request.only, &request.draft_items)?;
        let mut detail = vec![if request.only.is_empty() { "all".to_owned() } else { request.only.clone() }];
        detail.extend((request.mode == "preview").then(|| "preview".to_owned()));
        detail.extend(request.accept_source.then(|| "another source is accepted".to_owned()));
        detail.extend((!request.draft_items.is_empty()).then(|| "of sync items that are not applied".to_owned()));
        detail.extend((!request.looked_at.is_empty()).then(|| format!("as listed by {}", request.looked_at)));
        let now_ms = self.0.clock().now_ms();
        let event = NewEvent::administrative(now_ms, "sync.requested", &request.actor, detail.join(", "));
        audit::append(&mut session, head, vec![event]).await?;
        session.commit().await?;
        self.0.teller().sync_requested(&request).await.map_err(|error| {
            tracing::warn!(error = %crate::rpc::chain(&error), "the request to synchronise could not be sent");
            Status::unavailable("the bus is not available; the next regular run will do it").into()
        })
    }

    async fn events(&self, request: ListAuditRequest) -> Result<ListAuditReply, StoreError> {
        let wanted = Wanted {
            after: request.after,
            newest: request.newest,
            limit: page(request.limit),
            conditions: [
                ("kind", &request.kind),
                ("client", &request.client),
                ("user_id", &request.user_id),
                ("transaction_id", &request.transaction_id),
                ("user_group", &request.user_group),
            ],
        };
        let events = audit::list(self.0.database(), wanted).await?;
        let last = events.last().map_or(request.after, |event| event.sequence);
        Ok(ListAuditReply { events, last })
    }
}

/// Who has each of these names, in any form; removed users have none. More than one = nobody knows who is meant.
async fn find_names<'a>(
    session: &mut Session,
    names: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Vec<String>>, StoreError> {
    let wanted: HashMap<&str, String> = names.map(|name| (name, name_key(name))).collect();
    let keys: BTreeSet<&str> = wanted.values().map(String::as_str).collect();
    let head = "SELECT DISTINCT n.name_key AS name_key, n.user_id AS user_id FROM names n \
                JOIN users u ON u.user_id = n.user_id AND u.state <> 'removed' WHERE n.name_key IN";
    let mut holders: HashMap<String, Vec<String>> = HashMap::new();
    for row in session.rows_in(head, keys, "", &[]).await? {
        holders.entry(row.get("name_key")?).or_default().push(row.get("user_id")?);
    }
    let found = wanted.into_iter().map(|(name, key)| (name.to_owned(), holders.get(&key).cloned().unwrap_or_default()));
    Ok(found.collect())
}

/// Pages of 100, at most 1000.
fn page(limit: u32) -> u32 {
    match limit {
        0 => 100,
        limit => limit.min(1000),
    }
}

/// Whoever changes something is named.
fn actor(text: &str) -> Result<String, Status> {
    match printable(text, 128) {
        actor if actor.is_empty() => Err(Status::invalid_argument("actor is missing")),
        // Words the store keeps for itself: a hand must not look like the machine, whose states the directory undoes.
        actor if matches!(actor.as_str(), "sync" | "directory" | "settings") => {
            Err(Status::invalid_argument("actor: a reserved word"))
        }
        actor => Ok(actor),
    }
}

async fn username(session: &mut Session, user_id: &str) -> Result<String, StoreError> {
    let row = session.row("SELECT username FROM users WHERE user_id = $1", args![user_id]).await?;
    Ok(row.ok_or_else(|| Status::not_found("no such user"))?.get("username")?)
}

/// `7K2F9-QXB4M`: ten signs nobody misreads, 50 bits.
fn invitation_code() -> Secret {
    const SIGNS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut code = String::with_capacity(11);
    for (place, octet) in seal::random::<10>().into_iter().enumerate() {
        if place == 5 {
            code.push('-');
        }
        code.push(SIGNS[usize::from(octet & 31)] as char);
    }
    Secret::from(code)
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersReply>, Status> {
        Ok(Response::new(self.list(request.into_inner()).await?))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<UserDetail>, Status> {
        Ok(Response::new(self.user(&request.into_inner().name).await?))
    }

    async fn known_users(&self, request: Request<KnownUsersRequest>) -> Result<Response<KnownUsersReply>, Status> {
        Ok(Response::new(people::known(&self.0, request.into_inner()).await?))
    }

    async fn set_user_state(&self, request: Request<SetUserStateRequest>) -> Result<Response<UserDetail>, Status> {
        Ok(Response::new(self.set_state(request.into_inner()).await?))
    }

    async fn unlock_user(&self, request: Request<UnlockUserRequest>) -> Result<Response<UserDetail>, Status> {
        Ok(Response::new(self.unlock(request.into_inner()).await?))
    }

    async fn revoke_factor(&self, request: Request<RevokeFactorRequest>) -> Result<Response<UserDetail>, Status> {
        Ok(Response::new(self.revoke(request.into_inner()).await?))
    }

    async fn invite(&self, request: Request<InviteRequest>) -> Result<Response<InviteReply>, Status> {
        Ok(Response::new(self.new_invitation(request.into_inner()).await?))
    }

    async fn export_settings(
        &self,
        _: Request<ExportSettingsRequest>,
    ) -> Result<Response<ExportSettingsReply>, Status> {
        let mut session = self.0.database().read().await.map_err(StoreError::from)?;
        let current = settings::current(&mut session).await?;
        let revision = current.revision;
        self.0.metrics().settings_revision(revision);
        Ok(Response::new(ExportSettingsReply { revision, document: apply::export(current)? }))
    }

    async fn apply_settings(
        &self,
        request: Request<ApplySettingsRequest>,
    ) -> Result<Response<ApplySettingsReply>, Status> {
        Ok(Response::new(apply::apply(&self.0, request.into_inner()).await?))
    }

    async fn rotate_client_secret(
        &self,
        request: Request<RotateClientSecretRequest>,
    ) -> Result<Response<RotateClientSecretReply>, Status> {
        actor(&request.get_ref().actor)?;
        Ok(Response::new(rotation::rotate(&self.0, request.into_inner()).await?))
    }

    async fn observe_client(
        &self,
        request: Request<ObserveClientRequest>,
    ) -> Result<Response<ObserveClientReply>, Status> {
        Ok(Response::new(clients::observe(&self.0, request.into_inner()).await?))
    }

    async fn list_clients(&self, request: Request<ListClientsRequest>) -> Result<Response<ListClientsReply>, Status> {
        Ok(Response::new(reports::list(&self.0, request.into_inner()).await?))
    }

    async fn list_accounting(
        &self,
        request: Request<ListAccountingRequest>,
    ) -> Result<Response<ListAccountingReply>, Status> {
        Ok(Response::new(accounting::list(&self.0, request.into_inner()).await?))
    }

    async fn list_audit(&self, request: Request<ListAuditRequest>) -> Result<Response<ListAuditReply>, Status> {
        Ok(Response::new(self.events(request.into_inner()).await?))
    }

    async fn verify_audit(&self, request: Request<VerifyAuditRequest>) -> Result<Response<VerifyAuditReply>, Status> {
        let given = request.into_inner().checkpoints;
        let found = audit::verify(&self.0, given).await?;
        Ok(Response::new(VerifyAuditReply {
            verified: found.good,
            first_bad: found.first_bad,
            text: found.text,
            checkpoints: found.checkpoints,
            last_checkpoint: found.last,
        }))
    }

    async fn list_checkpoints(
        &self,
        request: Request<ListCheckpointsRequest>,
    ) -> Result<Response<ListCheckpointsReply>, Status> {
        let ListCheckpointsRequest { after, limit } = request.into_inner();
        let checkpoints = audit::checkpoint::list(&self.0, after, page(limit)).await?;
        Ok(Response::new(ListCheckpointsReply { checkpoints }))
    }

    async fn create_api_key(
        &self,
        request: Request<CreateApiKeyRequest>,
    ) -> Result<Response<CreateApiKeyReply>, Status> {
        Ok(Response::new(self.create_key(request.into_inner()).await?))
    }

    async fn list_api_keys(&self, _: Request<ListApiKeysRequest>) -> Result<Response<ListApiKeysReply>, Status> {
        Ok(Response::new(ListApiKeysReply { keys: self.keys().await? }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyReply>, Status> {
        self.revoke_key(request.into_inner()).await?;
        Ok(Response::new(RevokeApiKeyReply {}))
    }

    async fn sync_status(&self, _: Request<SyncStatusRequest>) -> Result<Response<SyncStatusReply>, Status> {
        Ok(Response::new(history::status(&self.0).await?))
    }

    async fn list_sync_runs(
        &self,
        request: Request<ListSyncRunsRequest>,
    ) -> Result<Response<ListSyncRunsReply>, Status> {
        Ok(Response::new(history::list(&self.0, request.into_inner()).await?))
    }

    async fn sync_changes(&self, request: Request<SyncChangesRequest>) -> Result<Response<SyncChangesReply>, Status> {
        Ok(Response::new(history::changes(&self.0, request.into_inner()).await?))
    }

    async fn list_approval_users(
        &self,
        request: Request<ListApprovalUsersRequest>,
    ) -> Result<Response<ListApprovalUsersReply>, Status> {
        Ok(Response::new(approvals::list(&self.0, request.into_inner()).await?))
    }

    async fn request_sync(&self, request: Request<RequestSyncRequest>) -> Result<Response<RequestSyncReply>, Status> {
        self.ask_sync(request.into_inner()).await?;
        Ok(Response::new(RequestSyncReply {}))
    }

    async fn decide_approval(
        &self,
        request: Request<DecideApprovalRequest>,
    ) -> Result<Response<DecideApprovalReply>, Status> {
        let request = request.into_inner();
        let request = DecideApprovalRequest { actor: actor(&request.actor)?, ..request };
        Ok(Response::new(approvals::decide(&self.0, request).await?))
    }

    async fn block_user(
        &self,
        request: Request<proto::user_store::BlockUserRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Ok(Response::new(people::block_user(&self.0, request.into_inner()).await?))
    }

    async fn unblock_user(
        &self,
        request: Request<proto::user_store::UnblockUserRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Ok(Response::new(people::unblock_user(&self.0, request.into_inner()).await?))
    }

    async fn exempt_user(
        &self,
        request: Request<proto::user_store::ExemptUserRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Ok(Response::new(people::exempt_user(&self.0, request.into_inner()).await?))
    }

    async fn edit_user(
        &self,
        request: Request<proto::user_store::EditUserRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Ok(Response::new(people::edit_user(&self.0, request.into_inner()).await?))
    }

    async fn create_user(
        &self,
        request: Request<proto::user_store::CreateUserRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Ok(Response::new(create::create_user(&self.0, request.into_inner()).await?))
    }

    async fn start_bypass(
        &self,
        request: Request<proto::user_store::StartBypassRequest>,
    ) -> Result<Response<proto::user_store::StartBypassReply>, Status> {
        Ok(Response::new(passes::start_bypass(&self.0, request.into_inner()).await?))
    }

    async fn end_bypass(
        &self,
        request: Request<proto::user_store::EndBypassRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Ok(Response::new(passes::end_bypass(&self.0, request.into_inner()).await?))
    }

    async fn issue_temporary_code(
        &self,
        request: Request<proto::user_store::IssueTemporaryCodeRequest>,
    ) -> Result<Response<proto::user_store::IssueTemporaryCodeReply>, Status> {
        Ok(Response::new(passes::issue_temporary_code(&self.0, request.into_inner()).await?))
    }

    async fn reset_pin(
        &self,
        request: Request<proto::user_store::ResetPinRequest>,
    ) -> Result<Response<proto::user_store::ResetPinReply>, Status> {
        Ok(Response::new(pins::reset_pin(&self.0, request.into_inner()).await?))
    }

    async fn set_answers(
        &self,
        request: Request<proto::user_store::SetAnswersRequest>,
    ) -> Result<Response<proto::user_store::UserDetail>, Status> {
        Ok(Response::new(pins::set_answers(&self.0, request.into_inner()).await?))
    }

    async fn list_tokens(
        &self,
        request: Request<proto::user_store::ListTokensRequest>,
    ) -> Result<Response<proto::user_store::ListTokensReply>, Status> {
        Ok(Response::new(tokens::list_tokens(&self.0, request.into_inner()).await?))
    }

    async fn import_tokens(
        &self,
        request: Request<proto::user_store::ImportTokensRequest>,
    ) -> Result<Response<proto::user_store::ImportReply>, Status> {
        Ok(Response::new(token_import::import_tokens(&self.0, request.into_inner()).await?))
    }

    async fn assign_token(
        &self,
        request: Request<proto::user_store::AssignTokenRequest>,
    ) -> Result<Response<proto::user_store::TokenSummary>, Status> {
        Ok(Response::new(tokens::assign_token(&self.0, request.into_inner()).await?))
    }

    async fn unassign_token(
        &self,
        request: Request<proto::user_store::UnassignTokenRequest>,
    ) -> Result<Response<proto::user_store::TokenSummary>, Status> {
        Ok(Response::new(tokens::unassign_token(&self.0, request.into_inner()).await?))
    }

    async fn revoke_token(
        &self,
        request: Request<proto::user_store::RevokeTokenRequest>,
    ) -> Result<Response<proto::user_store::RevokeTokenReply>, Status> {
        Ok(Response::new(tokens::revoke_token(&self.0, request.into_inner()).await?))
    }

    async fn import_users(
        &self,
        request: Request<proto::user_store::ImportUsersRequest>,
    ) -> Result<Response<proto::user_store::ImportReply>, Status> {
        Ok(Response::new(imports::import_users(&self.0, request.into_inner()).await?))
    }

    async fn list_prompts(
        &self,
        request: Request<proto::user_store::ListPromptsRequest>,
    ) -> Result<Response<proto::user_store::GetPromptsReply>, Status> {
        Ok(Response::new(lists::list_prompts(&self.0, request.into_inner()).await?))
    }

    async fn list_remembered(
        &self,
        request: Request<proto::user_store::ListRememberedRequest>,
    ) -> Result<Response<proto::user_store::ListRememberedReply>, Status> {
        Ok(Response::new(lists::list_remembered(&self.0, request.into_inner()).await?))
    }

    async fn clear_remembered(
        &self,
        request: Request<proto::user_store::ClearRememberedRequest>,
    ) -> Result<Response<proto::user_store::ClearRememberedReply>, Status> {
        Ok(Response::new(lists::clear_remembered(&self.0, request.into_inner()).await?))
    }

    async fn list_messages(
        &self,
        request: Request<proto::user_store::ListMessagesRequest>,
    ) -> Result<Response<proto::user_store::ListMessagesReply>, Status> {
        Ok(Response::new(lists::list_messages(&self.0, request.into_inner()).await?))
    }

    async fn key_status(
        &self,
        request: Request<proto::user_store::KeyStatusRequest>,
    ) -> Result<Response<proto::user_store::KeyStatusReply>, Status> {
        Ok(Response::new(keys::key_status(&self.0, request.into_inner()).await?))
    }

    async fn rotate_keys(
        &self,
        request: Request<proto::user_store::RotateKeysRequest>,
    ) -> Result<Response<proto::user_store::KeyStatusReply>, Status> {
        Ok(Response::new(keys::rotate_keys(&self.0, request.into_inner()).await?))
    }
}
