//! A user goes for good, with everything that belongs to them (S-45). What stays is the audit, and hardware tokens: those
//! return to the stock with their marks, so that no used code is good again for the next one who gets them.

use crate::audit::{self, NewEvent};
use crate::places;
use crate::rpc::StoreError;
use crate::seal::Seal;
use crate::sql::{Session, args};

/// Users erased in one transaction: logins wait for it.
pub const AT_ONCE: usize = 50;

/// Erases who was removed long enough ago. Returns who.
pub async fn removed(
    session: &mut Session,
    seal: &Seal,
    before_ms: i64,
    now_ms: i64,
) -> Result<Vec<String>, StoreError> {
    let head = audit::lock(session).await?;
    let sql = "SELECT user_id, username FROM users WHERE state = 'removed' AND state_since_ms < $1 LIMIT $2";
    let rows = session.rows(sql, args![before_ms, AT_ONCE as u64]).await?;
    let mut erased = Vec::new();
    let mut events = Vec::new();
    for row in &rows {
        let (user_id, username): (String, String) = (row.get("user_id")?, row.get("username")?);
        match user(session, seal, &user_id).await {
            // Their token's data key is not known here yet: the next sweep finds them again.
            Err(StoreError::Sealed(broken)) => {
                tracing::error!(user_id, error = %broken, "a removed user cannot be erased yet");
                continue;
            }
            outcome => outcome?,
        }
        let event = NewEvent::administrative(now_ms, "user.erased", "sync", "30 days after removal");
        events.push(event.about(&user_id, &username));
        erased.push(user_id);
    }
    if !events.is_empty() {
        audit::append(session, head, events).await?;
    }
    Ok(erased)
}

/// Takes a user's rows away, here and in every table. The event is the caller's.
pub async fn user(session: &mut Session, seal: &Seal, user_id: &str) -> Result<(), StoreError> {
    let sql = "SELECT factor_id, seed FROM factors WHERE user_id = $1 AND serial_key <> ''";
    for row in session.rows(sql, args![user_id]).await? {
        let factor_id: String = row.get("factor_id")?;
        let (theirs, stock) = (places::owned(user_id, &factor_id), places::owned("", &factor_id));
        let sealed: Vec<u8> = row.get("seed")?;
        let seed = match seal.open_field(places::seed(&theirs), &sealed) {
            Ok(seed) => seed,
            // Of no use to anybody; it goes with its owner, below.
            Err(_) if !seal.may_open_later(&sealed) => {
                tracing::error!(
                    factor_id,
                    user_id,
                    "a token's seed does not open; the token goes with its removed user"
                );
                continue;
            }
            Err(broken) => return Err(broken.into()),
        };
        let sealed = seal.seal_field(places::seed(&stock), seed.expose())?;
        let sql = "UPDATE factors SET user_id = '', seed = $1, pending = FALSE, failures = 0, open_ms = 0, \
                   revision = revision + 1 WHERE factor_id = $2";
        session.execute(sql, args![sealed, factor_id]).await?;
    }
    // Tables that do not refer to users, because a row may outlive its user or belong to nobody.
    for sql in [
        "DELETE FROM factors WHERE user_id = $1",
        "DELETE FROM prompts WHERE user_id = $1",
        "DELETE FROM sent_codes WHERE user_id = $1",
        "DELETE FROM secret_proofs WHERE user_id = $1",
        "DELETE FROM sessions WHERE user_id = $1",
        "DELETE FROM code_spends WHERE user_id = $1",
        "DELETE FROM messages WHERE user_id = $1",
        "DELETE FROM outbox WHERE user_id = $1",
        // The others go with it: their rows refer to it.
        "DELETE FROM users WHERE user_id = $1",
    ] {
        session.execute(sql, args![user_id]).await?;
    }
    Ok(())
}
