//! What the decision needs to know about a user (V-01). Read, never changed.
//!
//! It runs for every login, so those that ask at the same time are read together ([`together`]), and the first statement says what
//! else there is to read: who has no device, no PIN and no bypass costs no statement for them.

pub mod groups;
mod secrets;
mod together;

pub use together::{Reader, Together};

use crate::Store;
use crate::by_hand;
use crate::places;
use crate::rpc::StoreError;
use crate::seal::Seal;
use crate::sql::Row;
use crate::sync::expiry;
use crate::users;
use proto::user_store::login_facts_request::Who as Asked;
use proto::user_store::{
    CodeFactor, LoginFactsReply, LoginFactsRequest, LoginUser, NamedReply, NamedRequest, facts_server::Facts,
};
use together::Who;
use tonic::{Request, Response, Status};

pub struct FactsService(pub Store);

#[tonic::async_trait]
impl Facts for FactsService {
    async fn login(&self, request: Request<LoginFactsRequest>) -> Result<Response<LoginFactsReply>, Status> {
        let LoginFactsRequest { who, username } = request.into_inner();
        let who = match who {
            Some(Asked::Subject(subject)) => {
                let subject = domain::DirectoryRef::try_from(subject);
                let subject = subject.map_err(|error| Status::invalid_argument(error.to_string()))?;
                Who::Subject { directory: subject.directory.to_string(), object_id: subject.id.to_string() }
            }
            Some(Asked::UserId(user_id)) => Who::User(user_id),
            None => return Err(Status::invalid_argument("who is missing")),
        };
        let facts = self.0.facts().of(who.clone()).await?;
        if let (None, Who::Subject { directory, object_id }) = (&facts.user, &who)
            && by_hand::found_at_login(&self.0, directory, object_id, &username).await?
        {
            return Ok(Response::new(self.0.facts().of(who).await?));
        }
        Ok(Response::new(facts))
    }

    async fn named(&self, request: Request<NamedRequest>) -> Result<Response<NamedReply>, Status> {
        let name = request.into_inner().name;
        let mut session = self.0.database().read().await.map_err(StoreError::from)?;
        let nobody = !users::is_name_of_somebody(&mut session, &name).await?;
        Ok(Response::new(NamedReply { nobody }))
    }
}

/// The user, and which other tables have something of theirs.
const USER: &str = "SELECT u.user_id AS user_id, u.username AS username, u.directory AS directory, u.object_id AS object_id, u.dn_key AS dn_key, \
    u.sid AS sid, u.primary_group AS primary_group, u.exempt_item AS exempt_item, u.exempt_wait AS exempt_wait, \
    u.phone_hold_until_ms AS phone_hold_until_ms, u.must_enrol AS must_enrol, \
    u.state AS state, u.state_by AS state_by, u.state_since_ms AS state_since_ms, u.state_text AS state_text, \
    u.first_name AS first_name, u.last_name AS last_name, u.mail AS mail, u.phone AS phone, \
    u.phone_extension AS phone_extension, u.own_phone AS own_phone, u.own_extension AS own_extension, \
    u.backup_phone AS backup_phone, u.backup_extension AS backup_extension, u.default_method AS default_method, \
    u.allowed_methods AS allowed_methods, u.language_call AS language_call, u.language_text AS language_text, \
    u.language_app AS language_app, u.language_code AS language_code, u.blocked_until_ms AS blocked_until_ms, \
    u.exempt_clients AS exempt_clients, u.exempt_until_ms AS exempt_until_ms, u.account_expires_ms AS account_expires_ms, u.epoch AS epoch, \
    COALESCE((SELECT g.last_success_ms FROM guards g WHERE g.user_id = u.user_id), 0) AS last_success_ms, \
    (u.primary_group <> '' OR EXISTS (SELECT 1 FROM group_members m WHERE m.member_key = u.dn_key AND m.directory = u.directory) \
    OR EXISTS (SELECT 1 FROM group_members m WHERE m.member_key = u.object_id AND m.directory = u.directory) \
    OR EXISTS (SELECT 1 FROM group_members m WHERE m.member_key = u.sid AND m.directory = u.directory)) AS has_groups, \
    EXISTS (SELECT 1 FROM devices d WHERE d.user_id = u.user_id) AS has_devices, \
    EXISTS (SELECT 1 FROM secret_states s WHERE s.user_id = u.user_id) AS has_states, \
    EXISTS (SELECT 1 FROM hashed h WHERE h.user_id = u.user_id) AS has_hashed, \
    EXISTS (SELECT 1 FROM bypasses b WHERE b.user_id = u.user_id) AS has_bypasses \
    FROM users u WHERE";

/// A code factor with its seed, of a row that has all of its columns.
pub fn code_factor(seal: &Seal, row: &Row, user_id: &str) -> Result<CodeFactor, StoreError> {
    let factor_id: String = row.get("factor_id")?;
    let owner = places::owned(user_id, &factor_id);
    let seed = seal.open_field(places::seed(&owner), &row.get::<Vec<u8>>("seed")?)?;
    let last_step: i64 = row.get("last_step")?;
    Ok(CodeFactor {
        factor_id,
        kind: row.get("kind")?,
        serial: row.get("serial")?,
        algorithm: row.get("algorithm")?,
        digits: users::small(row, "digits")?,
        period_seconds: users::small(row, "period_seconds")?,
        seed: Some(seed.into()),
        last_step: u64::try_from(last_step).unwrap_or(0),
        // V-13: -1 = no code was accepted yet, and the first counter is 0 (RFC 4226 section 7.2).
        next_counter: u64::try_from(last_step.saturating_add(1)).unwrap_or(0),
        drift: i32::try_from(row.get::<i64>("drift")?).unwrap_or(0),
        pending: row.get("pending")?,
    })
}

fn login_user(row: &Row, now_ms: i64) -> Result<LoginUser, StoreError> {
    let mut state: String = row.get("state")?;
    let expires_ms: i64 = row.get("account_expires_ms")?;
    let expired = state == "enabled" && expiry::is_over(expires_ms, now_ms);
    let state_text = match state.as_str() {
        // FS-26: from the very moment.
        "enabled" if expired => users::state_text("directory", expires_ms, expiry::TEXT),
        "enabled" => String::new(),
        _ => {
            let text: String = row.get("state_text")?;
            users::state_text(&row.get::<String>("state_by")?, row.get("state_since_ms")?, &text)
        }
    };
    if expired {
        state = "disabled".into();
    }
    // FS-23: a number of the user's own goes before the directory's, its extension along with it.
    let own: String = row.get("own_phone")?;
    let (phone, phone_extension) = match own.is_empty() {
        // S-58: a number that sync changed a moment ago gets neither text nor call yet.
        true if row.get::<i64>("phone_hold_until_ms")? > now_ms => Default::default(),
        true => (row.get("phone")?, row.get("phone_extension")?),
        false => (own, row.get("own_extension")?),
    };
    // FS-35: exempt by the item that has them, or by hand.
    let (exempt_clients, exempt_until_unix_ms) = match row.get::<String>("exempt_item")?.is_empty() {
        true => (listed(&row.get::<String>("exempt_clients")?), row.get("exempt_until_ms")?),
        false => (vec!["*".into()], 0),
    };
    Ok(LoginUser {
        user_id: row.get("user_id")?,
        username: row.get("username")?,
        state,
        state_text,
        blocked_until_unix_ms: row.get("blocked_until_ms")?,
        exempt_clients,
        exempt_until_unix_ms,
        first_name: row.get("first_name")?,
        last_name: row.get("last_name")?,
        mail: row.get("mail")?,
        default_method: row.get("default_method")?,
        allowed_methods: listed(&row.get::<String>("allowed_methods")?),
        phone,
        phone_extension,
        backup_phone: row.get("backup_phone")?,
        backup_extension: row.get("backup_extension")?,
        language_call: row.get("language_call")?,
        language_text: row.get("language_text")?,
        language_app: row.get("language_app")?,
        language_code: row.get("language_code")?,
        epoch: row.unsigned("epoch")?,
        last_success_unix_ms: row.get("last_success_ms")?,
        must_enrol: row.get("must_enrol")?,
        ..LoginUser::default()
    })
}

/// A comma-separated column.
fn listed(text: &str) -> Vec<String> {
    text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
