//! A user goes for good, with everything that belongs to them (S-45). What stays is the audit, and hardware tokens: those
//! return to the stock with their marks, so that no used code is good again for the next one who gets them.

use crate::audit::{self, NewEvent};
use crate::places;
use crate::rpc::StoreError;
use crate::seal::Seal;
use crate::sql::{Session, args};

/// Users erased in one transaction: logins wait for it.
const AT_ONCE: u32 = 50;

/// What one transaction came to.
pub struct Swept {
    pub erased: Vec<String>,
    /// The last user it looked at; `None` = there are no more.
    pub last: Option<String>,
}

/// Erases who was removed long enough ago, in the order of their ids, from the one behind `after` on. Who cannot be erased yet stays
/// whole and keeps nobody else from going.
pub async fn removed(
    session: &mut Session,
    seal: &Seal,
    before_ms: i64,
    after: &str,
    now_ms: i64,
) -> Result<Swept, StoreError> {
    let head = audit::lock(session).await?;
    let sql = "SELECT user_id, username FROM users WHERE state = 'removed' AND state_since_ms < $1 AND user_id > $2 \
               ORDER BY user_id LIMIT $3";
    let rows = session.rows(sql, args![before_ms, after, AT_ONCE]).await?;
    let mut swept = Swept { erased: Vec::new(), last: None };
    let mut events = Vec::new();
    for row in &rows {
        let (user_id, username): (String, String) = (row.get("user_id")?, row.get("username")?);
        swept.last = Some(user_id.clone());
        match user(session, seal, &user_id).await {
            // Their token's data key is not known here yet: the next sweep finds them again.
            Err(StoreError::Sealed(broken)) => {
                tracing::error!(user_id, error = %broken, "a removed user cannot be erased yet");
                continue;
            }
            outcome => outcome?,
        }
        let event = NewEvent::administrative(now_ms, "user.erased", "sync", "removed long enough ago");
        events.push(event.about(&user_id, &username));
        swept.erased.push(user_id);
    }
    if !events.is_empty() {
        audit::append(session, head, events).await?;
    }
    Ok(swept)
}

/// Takes a user's rows away, here and in every table. The event is the caller's. Where a seed may open later, nothing is changed.
pub async fn user(session: &mut Session, seal: &Seal, user_id: &str) -> Result<(), StoreError> {
    tokens_to_stock(session, seal, user_id).await?;
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
        "DELETE FROM approval_users WHERE user_id = $1",
        // The others go with it: their rows refer to it.
        "DELETE FROM users WHERE user_id = $1",
    ] {
        session.execute(sql, args![user_id]).await?;
    }
    Ok(())
}

/// Takes all away that somebody could log in with beside the password: who was gone and is back enrols anew (S-21). Where a seed
/// may open later, nothing is changed.
pub async fn credentials(session: &mut Session, seal: &Seal, user_id: &str) -> Result<(), StoreError> {
    tokens_to_stock(session, seal, user_id).await?;
    for sql in [
        "DELETE FROM factors WHERE user_id = $1",
        "DELETE FROM devices WHERE user_id = $1",
        "DELETE FROM hashed WHERE user_id = $1",
        "DELETE FROM pins_owed WHERE user_id = $1",
        // That a PIN is required stays; the one there was is gone with the others.
        "DELETE FROM secret_states WHERE user_id = $1 AND kind <> 'pin'",
        "DELETE FROM secret_proofs WHERE user_id = $1",
        "DELETE FROM sent_codes WHERE user_id = $1",
        "DELETE FROM bypasses WHERE user_id = $1",
        "DELETE FROM remembered WHERE user_id = $1",
        "DELETE FROM invitations WHERE user_id = $1",
        "DELETE FROM sessions WHERE user_id = $1",
        "UPDATE users SET own_phone = '', own_extension = '', epoch = epoch + 1 WHERE user_id = $1",
    ] {
        session.execute(sql, args![user_id]).await?;
    }
    Ok(())
}

/// Hardware tokens of the user go back to the stock with their marks.
async fn tokens_to_stock(session: &mut Session, seal: &Seal, user_id: &str) -> Result<(), StoreError> {
    let sql = "SELECT factor_id, seed FROM factors WHERE user_id = $1 AND serial_key <> ''";
    let mut tokens = Vec::new();
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
        tokens.push((seal.seal_field(places::seed(&stock), seed.expose())?, factor_id));
    }
    for (sealed, factor_id) in tokens {
        let sql = "UPDATE factors SET user_id = '', seed = $1, pending = FALSE, failures = 0, open_ms = 0, \
                   revision = revision + 1 WHERE factor_id = $2";
        session.execute(sql, args![sealed, factor_id]).await?;
    }
    Ok(())
}
