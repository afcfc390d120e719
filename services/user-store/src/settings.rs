//! The settings document as the parts read it, each with the secrets it needs and no other (V-72), and the keys they seal
//! their shared state with.
//!
//! The document stands in one row as JSON, every secret written "keep"; the secrets stand sealed beside it. Each change
//! raises the revision. What all callers get is put together once a revision.

pub mod apply;
mod attributes;
pub mod changes;
mod removals;
pub mod service_accounts;
mod weaker;

use crate::Store;
use crate::audit::{self, NewEvent};
use crate::radius::rotation;
use crate::rpc::{StoreError, bounded, part};
use crate::seal::{self, Place};
use crate::sql::{Session, args};
use domain::settings::{HomeServer, MessageAuthenticator, Settings, Target};
use domain::{ObjectId, Secret};
use proto::permissions::{self, part as parts};
use proto::user_store::{
    FetchReply, FetchRequest, Key, KeyRingReply, KeyRingRequest, LearnClientReply, LearnClientRequest,
    PinServiceAccountReply, PinServiceAccountRequest, settings_server::Settings as SettingsRpc,
};
use service_kit::grpc::Peer;
use std::{collections::BTreeMap, collections::HashMap, sync::Arc, sync::Mutex};
use tonic::{Request, Response, Status};

const DAY_MS: i64 = 24 * 3_600_000;
/// A key of a ring is replaced when it is this old ...
const KEY_LIFE_MS: i64 = 30 * DAY_MS;
/// ... by one that every part has fetched before it seals ...
const KEY_NOTICE_MS: i64 = 3_600_000;
/// ... and it opens until nothing sealed with it is alive.
const KEY_OVERLAP_MS: i64 = DAY_MS;

/// The settings as they stand in a transaction.
pub struct Current {
    pub revision: u64,
    pub settings: Settings,
}

/// Reads the document.
pub async fn current(session: &mut Session) -> Result<Current, StoreError> {
    read(session, "SELECT revision, document FROM settings WHERE id = 1").await
}

/// Reads the document and keeps everybody else from changing it until the transaction ends.
pub async fn current_locked(session: &mut Session) -> Result<Current, StoreError> {
    read(session, "UPDATE settings SET revision = revision WHERE id = 1 RETURNING revision, document").await
}

async fn read(session: &mut Session, sql: &'static str) -> Result<Current, StoreError> {
    let row = session.row(sql, args![]).await?.ok_or(StoreError::Broken("the settings are missing"))?;
    let settings = serde_json::from_str(&row.get::<String>("document")?)
        .map_err(|_| StoreError::Broken("the settings are of another version"))?;
    Ok(Current { revision: row.unsigned("revision")?, settings })
}

/// Writes the document as the next revision.
pub async fn write(session: &mut Session, next: &Settings, revision: u64) -> Result<(), StoreError> {
    let mut next = next.clone().with_secrets_kept();
    next.revision = None;
    let document = serde_json::to_string(&next).map_err(|_| StoreError::Broken("the settings cannot be written"))?;
    let sql = "UPDATE settings SET revision = $1, document = $2 WHERE id = 1 AND revision = $3";
    match session.execute(sql, args![revision + 1, document, revision]).await? {
        1 => Ok(()),
        _ => Err(StoreError::Overtaken),
    }
}

pub fn secret_place(name: &str) -> Place<'_> {
    Place { owner: name, record: "secret", field: "value" }
}

/// Which secrets a part may have.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Share {
    /// Shared secrets of RADIUS clients and of the servers it is a client of, and passwords of directories but for those
    /// of synchronisation.
    Radius,
    /// Passwords of directories but for those of synchronisation, and those that service accounts bind with which log in by certificate.
    Ldap,
    Directories,
    /// What providers of messages, calls and mail know us by.
    Providers,
    Nothing,
}

impl Share {
    fn of(part: &str) -> Self {
        match part {
            parts::RADIUS_GATEWAY => Self::Radius,
            parts::LDAP_GATEWAY => Self::Ldap,
            parts::DIRECTORY_SYNC => Self::Directories,
            parts::VERIFICATION => Self::Providers,
            _ => Self::Nothing,
        }
    }

    fn includes(self, name: &str) -> bool {
        match self {
            Self::Radius => {
                let kinds = ["client.", "target.", "directory."];
                kinds.iter().any(|kind| name.starts_with(kind)) && !of_account(name) && !of_sync(name)
            }
            Self::Ldap => name.starts_with("directory.") && !of_sync(name) || of_account(name),
            Self::Directories => name.starts_with("directory."),
            Self::Providers => name.starts_with("provider."),
            Self::Nothing => false,
        }
    }
}

/// Is it the password of a service account? No other secret of a client is called so.
fn of_account(name: &str) -> bool {
    name.starts_with("client.") && name.ends_with(".password")
}

/// Is it the password of an account that synchronisation alone binds with (FD-09)?
fn of_sync(name: &str) -> bool {
    name.starts_with("directory.") && name.ends_with(".sync_bind.password")
}

pub struct SettingsService {
    store: Store,
    /// The reply of the newest revision asked for, by what it holds.
    replies: Mutex<HashMap<Share, FetchReply>>,
}

impl SettingsService {
    pub fn new(store: Store) -> Self {
        Self { store, replies: Mutex::default() }
    }

    async fn fetch_for(&self, share: Share, known_revision: u64) -> Result<FetchReply, StoreError> {
        let mut session = self.store.database().read().await?;
        let row = session.row("SELECT revision FROM settings WHERE id = 1", args![]).await?;
        let revision = row.ok_or(StoreError::Broken("the settings are missing"))?.unsigned("revision")?;
        if revision == known_revision {
            return Ok(FetchReply { revision, unchanged: true, ..FetchReply::default() });
        }
        if let Some(reply) = self.replies().get(&share).filter(|reply| reply.revision == revision) {
            return Ok(without_ended(reply.clone(), self.store.clock().now_ms()));
        }
        let reply = self.read_reply(&mut session, share).await?;
        self.store.metrics().settings_revision(reply.revision);
        self.replies().insert(share, reply.clone());
        Ok(without_ended(reply, self.store.clock().now_ms()))
    }

    async fn read_reply(&self, session: &mut Session, share: Share) -> Result<FetchReply, StoreError> {
        loop {
            let before = current(session).await?;
            let mut secrets = stored_secrets(&self.store, session, |name| share.includes(name)).await?;
            let mut previous_secret_until_unix_ms = HashMap::new();
            if share == Share::Radius {
                for (client, (secret, until_ms)) in rotation::previous_secrets(&self.store, session).await? {
                    secrets.insert(rotation::previous_name(&client), secret);
                    previous_secret_until_unix_ms.insert(client, until_ms);
                }
            }
            let learned = session.rows("SELECT client, sends FROM learned", args![]).await?;
            let learned = learned.iter().map(|row| {
                let sends = if row.get::<bool>("sends")? { "yes" } else { "no" };
                Ok((row.get("client")?, sends.to_owned()))
            });
            let learned_message_authenticator = learned.collect::<Result<_, sqlx::Error>>()?;
            // The document and its secrets are of one revision, or they are read again.
            if current(session).await?.revision != before.revision {
                continue;
            }
            let settings_json = serde_json::to_string(&before.settings)
                .map_err(|_| StoreError::Broken("the settings cannot be written"))?;
            return Ok(FetchReply {
                revision: before.revision,
                unchanged: false,
                settings_json,
                secrets: secrets.into_iter().map(|(name, secret)| (name, secret.into())).collect(),
                learned_message_authenticator,
                previous_secret_until_unix_ms,
                portal_url: crate::portal_address::public_url(session).await?,
                ..FetchReply::default()
            });
        }
    }

    fn replies(&self) -> std::sync::MutexGuard<'_, HashMap<Share, FetchReply>> {
        self.replies.lock().expect("nobody panics while holding the replies")
    }

    async fn pin(&self, request: PinServiceAccountRequest) -> Result<(), StoreError> {
        let id: ObjectId = request
            .object_id
            .parse()
            .map_err(|error: domain::identity::BadObjectId| Status::invalid_argument(format!("object_id: {error}")))?;
        let mut session = self.store.database().write().await?;
        let head = audit::lock(&mut session).await?;
        let Current { revision, mut settings } = current_locked(&mut session).await?;
        let client = settings.clients.iter_mut().find(|client| client.name.as_str() == request.client);
        let account = client.and_then(|it| it.service_accounts.iter_mut().find(|account| account.name == request.name));
        let account = account.ok_or_else(|| Status::not_found("this client lists no such service account"))?;
        match &account.id {
            Some(known) if *known == id => return Ok(()),
            // L-22: an account that was made anew under the old name has lost its exemption.
            Some(_) => {
                return Err(Status::failed_precondition("the service account is known with another id").into());
            }
            None => account.id = Some(id.clone()),
        }
        write(&mut session, &settings, revision).await?;
        service_accounts::log_pinned(&mut session, &settings, &request.client, &id).await?;
        let detail = format!("client.{}.service_accounts: {} is {id}", request.client, request.name);
        let event = NewEvent::administrative(self.store.clock().now_ms(), "settings.pinned", "ldap-gateway", detail);
        audit::append(&mut session, head, vec![event]).await?;
        session.commit().await?;
        self.store.teller().settings_changed(revision + 1);
        Ok(())
    }

    async fn learn(&self, request: LearnClientRequest) -> Result<(), StoreError> {
        let mut session = self.store.database().write().await?;
        let head = audit::lock(&mut session).await?;
        let Current { revision, settings } = current_locked(&mut session).await?;
        if rule_of(&settings, &request.client) != Some(MessageAuthenticator::Auto) {
            return Err(Status::failed_precondition("this client or server is not set to learn").into());
        }
        let known = session.row("SELECT sends FROM learned WHERE client = $1", args![&request.client]).await?;
        match known.map(|row| row.get::<bool>("sends")).transpose()? {
            // once it was seen to send it, it stays so; what was learnt is never weakened by a later packet.
            Some(true) => return Ok(()),
            Some(false) if !request.sends_message_authenticator => return Ok(()),
            _ => {}
        }
        let now_ms = self.store.clock().now_ms();
        let sql = "INSERT INTO learned (client, sends, learned_ms) VALUES ($1, $2, $3) \
                   ON CONFLICT (client) DO UPDATE SET sends = excluded.sends, learned_ms = excluded.learned_ms";
        session.execute(sql, args![&request.client, request.sends_message_authenticator, now_ms]).await?;
        write(&mut session, &settings, revision).await?;
        let sends = if request.sends_message_authenticator { "yes" } else { "no" };
        let whose = match settings.client(&request.client) {
            Some(client) => format!("client.{}", client.name),
            None => request.client,
        };
        let detail = format!("{whose}.message_authenticator: auto, learnt {sends}");
        let event = NewEvent::administrative(now_ms, "settings.learned", "radius-gateway", detail);
        audit::append(&mut session, head, vec![event]).await?;
        session.commit().await?;
        self.store.teller().settings_changed(revision + 1);
        Ok(())
    }

    async fn ring(&self, purpose: &str) -> Result<KeyRingReply, StoreError> {
        let now_ms = self.store.clock().now_ms();
        let mut session = self.store.database().read().await?;
        let ring = self.read_ring(&mut session, purpose).await?;
        drop(session);
        if ring.is_fresh(now_ms) {
            return Ok(ring.reply(now_ms));
        }
        let mut session = self.store.database().write_alone().await?;
        let ring = self.read_ring(&mut session, purpose).await?;
        if ring.is_fresh(now_ms) {
            return Ok(ring.reply(now_ms));
        }
        add_ring_key(&self.store, &mut session, purpose, now_ms).await?;
        let ring = self.read_ring(&mut session, purpose).await?;
        session.commit().await?;
        Ok(ring.reply(now_ms))
    }

    async fn read_ring(&self, session: &mut Session, purpose: &str) -> Result<Ring, StoreError> {
        let sql = "SELECT key_id, sealed, created_ms FROM key_rings WHERE purpose = $1 ORDER BY key_id";
        let mut keys = Vec::new();
        for row in session.rows(sql, args![purpose]).await? {
            let id = crate::users::small(&row, "key_id")?;
            let key =
                self.store.seal().open_field(ring_place(&ring_owner(purpose, id)), &row.get::<Vec<u8>>("sealed")?)?;
            keys.push(RingKey { id, key, created_ms: row.get("created_ms")? });
        }
        Ok(Ring { keys })
    }
}

/// A former secret ends by the clock, and the revision stays: it is left out here.
fn without_ended(mut reply: FetchReply, now_ms: i64) -> FetchReply {
    let FetchReply { previous_secret_until_unix_ms, secrets, .. } = &mut reply;
    previous_secret_until_unix_ms.retain(|client, until_ms| {
        let counts = *until_ms > now_ms;
        if !counts {
            secrets.remove(&rotation::previous_name(client));
        }
        counts
    });
    reply
}

/// A home server by the name it is learned under, target.NAME.PLACE. A place has a colon, which no name has.
pub fn home_server<'a>(settings: &'a Settings, name: &str) -> Option<(&'a Target, &'a HomeServer)> {
    let rest = name.strip_prefix("target.")?;
    let servers = settings.targets.iter().flat_map(|target| target.servers.iter().map(move |server| (target, server)));
    servers.into_iter().find(|(target, server)| {
        let place = rest.strip_prefix(target.name.as_str()).and_then(|rest| rest.strip_prefix('.'));
        place == Some(server.place().as_str())
    })
}

/// What a client, or a home server, is set to.
fn rule_of(settings: &Settings, name: &str) -> Option<MessageAuthenticator> {
    let client = settings.client(name).map(|client| client.message_authenticator);
    client.or_else(|| home_server(settings, name).map(|(_, server)| server.message_authenticator))
}

/// A new key in a ring. It seals when every part has had time to fetch it; those before it open until nothing they sealed is
/// alive.
async fn add_ring_key(store: &Store, session: &mut Session, purpose: &str, now_ms: i64) -> Result<(), StoreError> {
    let sql = "SELECT key_id, created_ms FROM key_rings WHERE purpose = $1 ORDER BY key_id";
    let rows = session.rows(sql, args![purpose]).await?;
    let mut keys = Vec::new();
    for row in &rows {
        keys.push((crate::users::small(row, "key_id")?, row.get::<i64>("created_ms")?));
    }
    let id = keys.last().map_or(1, |(id, _)| id + 1);
    let owner = ring_owner(purpose, id);
    let sealed = store.seal().seal_field(ring_place(&owner), &seal::random::<32>())?;
    let sql = "INSERT INTO key_rings (purpose, key_id, sealed, created_ms) VALUES ($1, $2, $3, $4)";
    session.execute(sql, args![purpose, id, sealed, now_ms]).await?;
    for pair in keys.windows(2) {
        // Since the notice of the one after it was over, this one sealed nothing.
        let over_ms = pair[1].1 + KEY_NOTICE_MS + KEY_OVERLAP_MS;
        if over_ms < now_ms {
            session
                .execute("DELETE FROM key_rings WHERE purpose = $1 AND key_id = $2", args![purpose, pair[0].0])
                .await?;
        }
    }
    Ok(())
}

/// A new key in every ring of the parts, except where the newest is not in use yet. Returns which.
pub async fn rotate_rings(store: &Store, session: &mut Session, now_ms: i64) -> Result<Vec<String>, StoreError> {
    let sql = "SELECT purpose, MAX(created_ms) AS newest_ms FROM key_rings WHERE purpose <> $1 GROUP BY purpose ORDER BY purpose";
    let mut rotated = Vec::new();
    for row in session.rows(sql, args![seal::PEPPER]).await? {
        let purpose: String = row.get("purpose")?;
        if now_ms - row.get::<i64>("newest_ms")? >= KEY_NOTICE_MS {
            add_ring_key(store, session, &purpose, now_ms).await?;
            rotated.push(purpose);
        }
    }
    Ok(rotated)
}

/// The stored secrets whose name is wanted, open.
pub async fn stored_secrets(
    store: &Store,
    session: &mut Session,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Secret>, StoreError> {
    let mut secrets = BTreeMap::new();
    for row in session.rows("SELECT name, sealed FROM secrets ORDER BY name", args![]).await? {
        let name: String = row.get("name")?;
        if wanted(&name) {
            let secret = store.seal().open_field(secret_place(&name), &row.get::<Vec<u8>>("sealed")?)?;
            secrets.insert(name, secret);
        }
    }
    Ok(secrets)
}

/// Stores a secret under its name, sealed.
pub async fn store_secret(store: &Store, session: &mut Session, name: &str, secret: &Secret) -> Result<(), StoreError> {
    let sealed = store.seal().seal_field(secret_place(name), secret.expose())?;
    let sql = "INSERT INTO secrets (name, sealed, changed_ms) VALUES ($1, $2, $3) \
               ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, changed_ms = excluded.changed_ms";
    session.execute(sql, args![name, sealed, store.clock().now_ms()]).await?;
    Ok(())
}

struct Ring {
    keys: Vec<RingKey>,
}

struct RingKey {
    id: u32,
    key: Secret,
    created_ms: i64,
}

impl Ring {
    fn is_fresh(&self, now_ms: i64) -> bool {
        self.keys.last().is_some_and(|key| now_ms - key.created_ms < KEY_LIFE_MS)
    }

    /// The newest key that every part has had time to fetch seals; all open.
    fn reply(&self, now_ms: i64) -> KeyRingReply {
        let known = self.keys.iter().rev().find(|key| now_ms - key.created_ms >= KEY_NOTICE_MS);
        let current = known.or(self.keys.first()).map_or(0, |key| key.id);
        let keys = self.keys.iter().map(|key| Key { id: key.id, key: Some(key.key.clone().into()) });
        KeyRingReply { keys: keys.collect(), current }
    }
}

fn ring_owner(purpose: &str, id: u32) -> String {
    format!("{purpose}/{id}")
}

pub fn ring_place(owner: &str) -> Place<'_> {
    Place { owner, record: "key_ring", field: "key" }
}

#[tonic::async_trait]
impl SettingsRpc for SettingsService {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        let share = Share::of(part(&request));
        let reply = self.fetch_for(share, request.into_inner().known_revision).await?;
        // As late as can be: whoever asks measures how far its own clock is away (V-43).
        Ok(Response::new(FetchReply { now_unix_ms: self.store.clock().now_ms(), ..reply }))
    }

    async fn pin_service_account(
        &self,
        request: Request<PinServiceAccountRequest>,
    ) -> Result<Response<PinServiceAccountReply>, Status> {
        self.pin(request.into_inner()).await?;
        Ok(Response::new(PinServiceAccountReply {}))
    }

    async fn learn_client(&self, request: Request<LearnClientRequest>) -> Result<Response<LearnClientReply>, Status> {
        self.learn(request.into_inner()).await?;
        Ok(Response::new(LearnClientReply {}))
    }

    async fn key_ring(&self, request: Request<KeyRingRequest>) -> Result<Response<KeyRingReply>, Status> {
        let allowed = permissions::may_use_key_ring(part(&request), &request.get_ref().purpose);
        if !allowed {
            return Err(Status::permission_denied("this ring belongs to another part"));
        }
        Ok(Response::new(self.ring(&bounded(&request.into_inner().purpose, 64)).await?))
    }
}

/// The settings as one part sees them, for a process that holds several: it says who calls, as a certificate would.
pub struct SettingsFor {
    pub part: &'static str,
    pub service: Arc<SettingsService>,
}

impl SettingsFor {
    fn named<T>(&self, mut request: Request<T>) -> Request<T> {
        request.extensions_mut().insert(Peer { part: self.part.into(), address: None, uid: None });
        request
    }
}

#[tonic::async_trait]
impl SettingsRpc for SettingsFor {
    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchReply>, Status> {
        self.service.fetch(self.named(request)).await
    }

    async fn pin_service_account(
        &self,
        request: Request<PinServiceAccountRequest>,
    ) -> Result<Response<PinServiceAccountReply>, Status> {
        self.service.pin_service_account(self.named(request)).await
    }

    async fn learn_client(&self, request: Request<LearnClientRequest>) -> Result<Response<LearnClientReply>, Status> {
        self.service.learn_client(self.named(request)).await
    }

    async fn key_ring(&self, request: Request<KeyRingRequest>) -> Result<Response<KeyRingReply>, Status> {
        self.service.key_ring(self.named(request)).await
    }
}
