//! What the portal keeps: sessions by the hash of their cookie, API keys by their hash, invitations with few tries.

use crate::Store;
use crate::audit::{self, NewEvent};
use crate::rpc::StoreError;
use crate::seal::Place;
use crate::sql::args;
use crate::users;
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use proto::user_store::{
    CheckApiKeyReply, CheckApiKeyRequest, EndSessionReply, EndSessionRequest, GetSessionReply, GetSessionRequest,
    OwnDetailRequest, PutSessionReply, PutSessionRequest, RedeemInvitationReply, RedeemInvitationRequest, Session,
    UserDetail, portal_data_server::PortalData,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::{Request, Response, Status};

/// The use of an API key is noted this often at most.
const USE_NOTED_MS: i64 = 60_000;

pub struct PortalDataService(pub Store);

#[tonic::async_trait]
impl PortalData for PortalDataService {
    async fn put_session(&self, request: Request<PutSessionRequest>) -> Result<Response<PutSessionReply>, Status> {
        Ok(Response::new(self.put(request.into_inner()).await?))
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Result<Response<GetSessionReply>, Status> {
        Ok(Response::new(self.get(request.into_inner()).await?))
    }

    async fn end_session(&self, request: Request<EndSessionRequest>) -> Result<Response<EndSessionReply>, Status> {
        let id_hash = checked_hash(request.into_inner().id_hash)?;
        let mut session = self.0.database().write().await.map_err(StoreError::from)?;
        let ended = session.execute("DELETE FROM sessions WHERE id_hash = $1", args![id_hash]).await;
        ended.map_err(StoreError::from)?;
        session.commit().await.map_err(StoreError::from)?;
        Ok(Response::new(EndSessionReply {}))
    }

    async fn check_api_key(&self, request: Request<CheckApiKeyRequest>) -> Result<Response<CheckApiKeyReply>, Status> {
        Ok(Response::new(self.check_key(request.into_inner()).await?))
    }

    async fn redeem_invitation(
        &self,
        request: Request<RedeemInvitationRequest>,
    ) -> Result<Response<RedeemInvitationReply>, Status> {
        Ok(Response::new(RedeemInvitationReply { accepted: self.redeem(request.into_inner()).await? }))
    }

    async fn own_detail(&self, request: Request<OwnDetailRequest>) -> Result<Response<UserDetail>, Status> {
        let subject = request.into_inner().subject.ok_or_else(|| Status::invalid_argument("subject is missing"))?;
        let subject = domain::DirectoryRef::try_from(subject);
        let subject = subject.map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(self.own(&subject).await?))
    }

    async fn announce(
        &self,
        request: Request<proto::user_store::AnnounceRequest>,
    ) -> Result<Response<proto::user_store::AnnounceReply>, Status> {
        Ok(Response::new(crate::portal_address::announce(&self.0, request.into_inner()).await?))
    }
}

impl PortalDataService {
    async fn put(&self, request: PutSessionRequest) -> Result<PutSessionReply, StoreError> {
        let id_hash = checked_hash(request.id_hash)?;
        let content = request.session.ok_or_else(|| Status::invalid_argument("session is missing"))?;
        let sealed = self.0.seal().seal_field(session_place(&hex(&id_hash)), &content.encode_to_vec())?;
        let (expires_ms, user_id) = (content.expires_unix_ms, &content.user_id);
        let mut session = self.0.database().write().await?;
        let (sql, arguments) = match request.expected_revision {
            0 => (
                "INSERT INTO sessions (id_hash, revision, sealed, expires_ms, user_id) VALUES ($1, 1, $2, $3, $4) \
                 ON CONFLICT (id_hash) DO NOTHING",
                args![id_hash, sealed, expires_ms, user_id],
            ),
            expected => (
                "UPDATE sessions SET revision = revision + 1, sealed = $2, expires_ms = $3, user_id = $5 \
                 WHERE id_hash = $1 AND revision = $4",
                args![id_hash, sealed, expires_ms, expected, user_id],
            ),
        };
        if session.execute(sql, arguments).await? != 1 {
            return Err(Status::aborted("the session changed meanwhile").into());
        }
        session.commit().await?;
        Ok(PutSessionReply { revision: request.expected_revision + 1 })
    }

    async fn get(&self, request: GetSessionRequest) -> Result<GetSessionReply, StoreError> {
        let id_hash = checked_hash(request.id_hash)?;
        let place = hex(&id_hash);
        // Who is blocked or disabled has none, not even one that was opened while it happened (V-23, S-22).
        let sql = "SELECT s.revision AS revision, s.sealed AS sealed FROM sessions s \
                   LEFT JOIN users u ON u.user_id = s.user_id WHERE s.id_hash = $1 AND s.expires_ms > $2 \
                   AND (s.user_id = '' OR (u.state = 'enabled' AND u.blocked_until_ms >= 0 AND u.blocked_until_ms <= $2))";
        let now_ms = self.0.at(request.now_unix_ms);
        let row = self.0.database().read().await?.row(sql, args![id_hash, now_ms]).await?;
        let Some(row) = row else { return Ok(GetSessionReply::default()) };
        let content = self.0.seal().open_field(session_place(&place), &row.get::<Vec<u8>>("sealed")?)?;
        let content = Session::decode(content.expose()).map_err(|_| StoreError::Broken("a session"))?;
        Ok(GetSessionReply { session: Some(content), revision: row.unsigned("revision")? })
    }

    async fn check_key(&self, request: CheckApiKeyRequest) -> Result<CheckApiKeyReply, StoreError> {
        let now_ms = self.0.at(request.now_unix_ms);
        let key = request.key.map(domain::Secret::from).unwrap_or_default();
        let hash = api_key_hash(key.expose());
        let sql = "SELECT name, role, hash, expires_ms, last_used_ms FROM api_keys WHERE hash = $1";
        let row = self.0.database().read().await?.row(sql, args![hash.as_slice()]).await?;
        let Some(row) = row else { return Ok(CheckApiKeyReply::default()) };
        // The index compares hashes of 256 random bits; this one is for the reader who looks for it (V-35).
        let same = row.get::<Vec<u8>>("hash")?.ct_eq(&hash);
        if !bool::from(same) || row.get::<i64>("expires_ms")? <= now_ms {
            return Ok(CheckApiKeyReply::default());
        }
        let name: String = row.get("name")?;
        if now_ms - row.get::<i64>("last_used_ms")? >= USE_NOTED_MS {
            let mut session = self.0.database().write().await?;
            session.execute("UPDATE api_keys SET last_used_ms = $1 WHERE name = $2", args![now_ms, &name]).await?;
            session.commit().await?;
        }
        Ok(CheckApiKeyReply { valid: true, name, role: row.get("role")? })
    }

    /// The try is counted, whatever comes of it, in the transaction that looks at the code.
    async fn redeem(&self, request: RedeemInvitationRequest) -> Result<bool, StoreError> {
        let now_ms = self.0.at(request.now_unix_ms);
        let code = request.code.map(domain::Secret::from).unwrap_or_default();
        let mut session = self.0.database().write().await?;
        let head = audit::lock(&mut session).await?;
        let username = users::enabled_username(&mut session, &request.user_id).await?;
        let sql = "UPDATE invitations SET tries_left = tries_left - 1 \
                   WHERE user_id = $1 AND tries_left > 0 AND expires_ms > $2 RETURNING code_hash";
        let Some(row) = session.row(sql, args![&request.user_id, now_ms]).await? else { return Ok(false) };
        let expected: Vec<u8> = row.get("code_hash")?;
        let accepted = bool::from(expected.ct_eq(&invitation_hash(&self.0, &request.user_id, &code)));
        if accepted {
            session.execute("DELETE FROM invitations WHERE user_id = $1", args![&request.user_id]).await?;
        }
        let detail = if accepted { "accepted" } else { "wrong code" };
        let event = NewEvent::administrative(now_ms, "invitation.tried", "self", detail);
        audit::append(&mut session, head, vec![event.about(&request.user_id, &username)]).await?;
        session.commit().await?;
        Ok(accepted)
    }

    async fn own(&self, subject: &domain::DirectoryRef) -> Result<UserDetail, StoreError> {
        let mut session = self.0.database().read().await?;
        let sql = "SELECT user_id FROM users WHERE directory = $1 AND object_id = $2";
        let row = session.row(sql, args![subject.directory.as_str(), subject.id.as_str()]).await?;
        let user_id: String = row.ok_or_else(|| Status::not_found("no such user"))?.get("user_id")?;
        let detail = users::detail(&mut session, &user_id, self.0.clock().now_ms()).await?;
        detail.ok_or_else(|| Status::not_found("no such user").into())
    }
}

fn checked_hash(id_hash: Vec<u8>) -> Result<Vec<u8>, Status> {
    match id_hash.len() {
        32 => Ok(id_hash),
        _ => Err(Status::invalid_argument("id_hash: a SHA-256 has 32 octets")),
    }
}

pub fn session_place(owner: &str) -> Place<'_> {
    Place { owner, record: "session", field: "content" }
}

fn hex(octets: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(octets)
}

/// An API key has 256 random bits: a plain hash cannot be searched.
pub fn api_key_hash(key: &[u8]) -> Vec<u8> {
    Sha256::new().chain_update(b"twinlock api key").chain_update(key).finalize().to_vec()
}

/// An invitation has 50 bits and few tries; its hash is keyed, so that the database alone does not give it away. Typed by
/// people: case and separators do not count.
pub fn invitation_hash(store: &Store, user_id: &str, code: &domain::Secret) -> Vec<u8> {
    let typed = code.expose().iter().filter(|sign| sign.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase);
    let typed = zeroize::Zeroizing::new(typed.take(64).collect::<Vec<u8>>());
    let mut mac = Hmac::<Sha256>::new_from_slice(store.pepper()).expect("HMAC takes a key of any length");
    mac.update(&(user_id.len() as u64).to_be_bytes());
    mac.update(user_id.as_bytes());
    mac.update(&typed);
    mac.finalize().into_bytes().to_vec()
}
