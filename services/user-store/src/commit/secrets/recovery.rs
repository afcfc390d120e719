//! A new set of recovery codes in place of the old one (FV-09).

use crate::Store;
use crate::audit::{self, NewEvent};
use crate::hashing::{self, Purpose};
use crate::outbox::{self, NewMail};
use crate::rpc::StoreError;
use crate::sql::args;
use crate::users;
use domain::{Method, Secret};
use proto::user_store::{StoreRecoveryCodesReply, StoreRecoveryCodesRequest};
use tonic::Status;

const CODES: std::ops::RangeInclusive<usize> = 1..=20;
const CODE_OCTETS: std::ops::RangeInclusive<usize> = 8..=64;

pub async fn new_recovery_codes(
    store: &Store,
    request: StoreRecoveryCodesRequest,
) -> Result<StoreRecoveryCodesReply, StoreError> {
    let StoreRecoveryCodesRequest { user_id, codes, actor } = request;
    if !CODES.contains(&codes.len()) || codes.iter().any(|code| !CODE_OCTETS.contains(&code.value.len())) {
        return Err(Status::invalid_argument("codes: 1 to 20 of 8 to 64 octets").into());
    }
    // One salt: a try costs one computation, whichever of the codes it is.
    let salt = hashing::salt();
    let mut hashes = Vec::new();
    for code in codes {
        let purpose = Purpose { user_id: &user_id, kind: "recovery", label: "" };
        hashes.push(store.hasher().hash(purpose, &salt, &Secret::from(code)).await?);
    }
    let now_ms = store.clock().now_ms();
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = users::enabled_username(&mut session, &user_id).await?;
    let replaced = "DELETE FROM hashed WHERE user_id = $1 AND kind = 'recovery'";
    let replaced = session.execute(replaced, args![&user_id]).await?;
    let count = hashes.len();
    let rows = hashes.into_iter().map(|hash| {
        let id = uuid::Uuid::new_v4().to_string();
        args![id, &user_id, "recovery", "", salt.as_slice(), hash, 1_i64, 0_i64, now_ms, &actor, ""]
    });
    let into = "INSERT INTO hashed (hashed_id, user_id, kind, label, salt, hash, uses_left, expires_ms, created_ms, made_by, text)";
    session.bulk(into, rows.collect(), "").await?;
    // Whatever was tried at the old ones says nothing about the new ones.
    session.execute("DELETE FROM secret_states WHERE user_id = $1 AND kind = 'recovery'", args![&user_id]).await?;
    session.execute("UPDATE users SET epoch = epoch + 1 WHERE user_id = $1", args![&user_id]).await?;
    if let Some(mail) = NewMail::to_user(&mut session, "method_added", &user_id).await? {
        let mail = mail.with("method", Method::Recovery.code());
        outbox::put_in(&mut session, store.seal(), mail, now_ms).await?;
    }
    let detail = format!("{count} new ones, {replaced} replaced");
    let event = NewEvent::administrative(now_ms, "recovery.made", &actor, detail);
    audit::append(&mut session, head, vec![event.about(&user_id, &username)]).await?;
    session.commit().await?;
    store.teller().user_changed(&user_id);
    Ok(StoreRecoveryCodesReply {})
}
