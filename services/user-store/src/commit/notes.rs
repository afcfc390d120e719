//! Small facts of verification that must survive: what was seen before, its own keys, what providers reported.

use crate::Store;
use crate::places;
use crate::rpc::{StoreError, bounded, id};
use crate::sql::{Session, args};
use proto::user_store::{
    ForgetRememberedReply, ForgetRememberedRequest, GetSealedReply, GetSealedRequest, NoteMessageReply,
    NoteMessageRequest, PutSealedReply, PutSealedRequest, SeeOnceReply, SeeOnceRequest,
};
use tonic::Status;

/// What was seen is remembered for so long at most: longer than any webhook is repeated.
const SEEN_LIFE_MS_MAX: i64 = 7 * 24 * 3_600_000;
const SEALED_OCTETS_MAX: usize = 16 * 1024;

/// True for one caller alone, whoever asks at once on whichever node.
pub async fn see_once(store: &Store, request: SeeOnceRequest) -> Result<SeeOnceReply, StoreError> {
    id("scope", &request.scope)?;
    if !(1..=256).contains(&request.id.len()) {
        return Err(Status::invalid_argument("id: 1 to 256 octets").into());
    }
    if request.forget {
        let mut session = store.database().write().await?;
        let sql = "DELETE FROM seen WHERE scope = $1 AND id = $2";
        session.execute(sql, args![&request.scope, &request.id]).await?;
        session.commit().await?;
        return Ok(SeeOnceReply { first: false });
    }
    let now_ms = store.clock().now_ms();
    if request.expires_unix_ms <= now_ms {
        return Err(Status::invalid_argument("expires_unix_ms: is over").into());
    }
    let expires_ms = request.expires_unix_ms.min(now_ms.saturating_add(SEEN_LIFE_MS_MAX));
    let mut session = store.database().write().await?;
    // One that is over and not swept yet is as good as none.
    let sql = "INSERT INTO seen (scope, id, expires_ms) VALUES ($1, $2, $3) ON CONFLICT (scope, id) DO UPDATE SET \
               expires_ms = excluded.expires_ms WHERE seen.expires_ms <= $4";
    let first = session.execute(sql, args![&request.scope, &request.id, expires_ms, now_ms]).await? == 1;
    session.commit().await?;
    Ok(SeeOnceReply { first })
}

pub async fn get_sealed(store: &Store, request: GetSealedRequest) -> Result<GetSealedReply, StoreError> {
    own_name(&request.name)?;
    let mut session = store.database().read().await?;
    Ok(GetSealedReply { value: sealed(store, &mut session, &request.name).await? })
}

/// The first one that is put stays: nodes that make a key at once end with the same.
pub async fn put_sealed(store: &Store, request: PutSealedRequest) -> Result<PutSealedReply, StoreError> {
    own_name(&request.name)?;
    let value = request.value.ok_or_else(|| Status::invalid_argument("value is missing"))?;
    if !(1..=SEALED_OCTETS_MAX).contains(&value.value.len()) {
        return Err(Status::invalid_argument("value: 1 octet to 16 KiB").into());
    }
    let field = store.seal().seal_field(places::fact(&request.name), &value.value)?;
    let mut session = store.database().write().await?;
    let sql = "INSERT INTO sealed_facts (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    session.execute(sql, args![&request.name, field]).await?;
    let value = sealed(store, &mut session, &request.name).await?;
    session.commit().await?;
    Ok(PutSealedReply { value })
}

/// A name the parts may use: what the store keeps for itself is none of theirs.
fn own_name(name: &str) -> Result<(), Status> {
    id("name", name)?;
    match name.starts_with("store.") {
        true => Err(Status::permission_denied("name: store. is the store's own")),
        false => Ok(()),
    }
}

async fn sealed(store: &Store, session: &mut Session, name: &str) -> Result<Option<proto::common::Secret>, StoreError> {
    let row = session.row("SELECT sealed FROM sealed_facts WHERE name = $1", args![name]).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(store.seal().open_field(places::fact(name), &row.get::<Vec<u8>>("sealed")?)?.into()))
}

/// A message that was handed over, or what its provider says of it later. Receipts come twice and in any order: one that says
/// less than is known changes nothing.
pub async fn note_message(store: &Store, request: NoteMessageRequest) -> Result<NoteMessageReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    let rank = rank(&request.state).ok_or_else(|| Status::invalid_argument("state: no state of a message"))?;
    let mut session = store.database().write().await?;
    let (column, key) = match request.message_id.is_empty() {
        false => ("message_id = $1 AND $2 = $2", args![&request.message_id, ""]),
        true if request.provider_id.is_empty() => {
            return Err(Status::invalid_argument("message_id or provider_id is needed").into());
        }
        true => ("provider = $1 AND provider_id = $2", args![&request.provider, &request.provider_id]),
    };
    let sql = format!(
        "SELECT message_id, user_id, transaction_id, state, provider_id FROM messages WHERE {column} \
         ORDER BY at_ms DESC LIMIT 1"
    );
    let known = session.rows_of(sql, key).await?.pop();
    let Some(known) = known else {
        if request.message_id.is_empty() {
            return Ok(NoteMessageReply::default());
        }
        id("message_id", &request.message_id)?;
        let sql = "INSERT INTO messages (message_id, channel, provider, provider_id, user_id, transaction_id, destination, state, \
                   detail, at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let arguments = args![
            &request.message_id,
            bounded(&request.channel, 16),
            bounded(&request.provider, 64),
            bounded(&request.provider_id, 256),
            bounded(&request.user_id, 64),
            bounded(&request.transaction_id, 64),
            bounded(&request.destination, 256),
            &request.state,
            bounded(&request.detail, 512),
            now_ms,
        ];
        session.execute(sql, arguments).await?;
        session.commit().await?;
        let NoteMessageRequest { message_id, user_id, transaction_id, .. } = request;
        return Ok(NoteMessageReply { message_id, user_id, transaction_id });
    };
    let reply = NoteMessageReply {
        message_id: known.get("message_id")?,
        user_id: known.get("user_id")?,
        transaction_id: known.get("transaction_id")?,
    };
    let before: String = known.get("state")?;
    if self::rank(&before).is_none_or(|before| rank > before) {
        // The provider's name of a message may come later than the message.
        let provider_id = match known.get::<String>("provider_id")? {
            known if known.is_empty() => bounded(&request.provider_id, 256),
            known => known,
        };
        let sql = "UPDATE messages SET state = $1, detail = $2, provider_id = $3 WHERE message_id = $4 AND state = $5";
        let arguments = args![&request.state, bounded(&request.detail, 512), provider_id, &reply.message_id, before];
        session.execute(sql, arguments).await?;
        session.commit().await?;
    }
    Ok(reply)
}

/// How much a state says; a later one never says less.
fn rank(state: &str) -> Option<u8> {
    match state {
        "accepted" => Some(0),
        "failed" | "undelivered" | "expired" => Some(1),
        "delivered" => Some(2),
        _ => None,
    }
}

/// Nothing counts any more that this user did before (V-52).
pub async fn forget_remembered(
    store: &Store,
    request: ForgetRememberedRequest,
) -> Result<ForgetRememberedReply, StoreError> {
    let mut session = store.database().write().await?;
    let sql = "UPDATE users SET epoch = epoch + 1 WHERE user_id = $1";
    let done = session.execute(sql, args![&request.user_id]).await? == 1;
    session.commit().await?;
    store.teller().user_changed(&request.user_id);
    Ok(ForgetRememberedReply { done })
}
