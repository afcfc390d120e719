//! A PIN is chosen (FV-20) or given by somebody else (FV-21).

use super::{Candidate, candidate, compare};
use crate::Store;
use crate::audit::{self, NewEvent};
use crate::hashing::{self, Purpose};
use crate::outbox::{self, NewMail};
use crate::pin_rules::{self, PinRule};
use crate::rpc::{StoreError, id};
use crate::seal;
use crate::sql::{Session, args};
use crate::users;
use domain::Secret;
use proto::user_store::{SetPinReply, SetPinRequest};
use tonic::Status;

const DAY_MS: i64 = 24 * 3_600_000;
/// FV-21, unless the settings want longer ones.
const DIGITS: usize = 6;
const DIGITS_MAX: usize = 10;
/// Random PINs of which one keeps the rules: all but one in some hundreds do.
const DRAWN_MAX: usize = 16;

/// Is an initial PIN past its time?
pub fn is_late(set_ms: i64, initial_days: u32, now_ms: i64) -> bool {
    now_ms.saturating_sub(set_ms) >= i64::from(initial_days) * DAY_MS
}

/// The same of a user's PIN as it stands.
pub async fn initial_is_late(
    store: &Store,
    session: &mut Session,
    user_id: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let sql = "SELECT set_ms FROM secret_states WHERE user_id = $1 AND kind = 'pin' AND must_change";
    let Some(row) = session.row(sql, args![user_id]).await? else { return Ok(false) };
    let rules = store.rules().current(session).await?;
    Ok(is_late(row.get("set_ms")?, rules.pin.initial_days, now_ms))
}

pub async fn set_pin(store: &Store, request: SetPinRequest) -> Result<SetPinReply, StoreError> {
    let SetPinRequest { user_id, pin, actor, must_change } = request;
    id("user_id", &user_id)?;
    let pin = pin.map(Secret::from).unwrap_or_default();
    let new = NewPin { user_id: &user_id, actor: &actor, must_change, mail: None, owed: false };
    Ok(match set(store, &pin, new).await? {
        None => SetPinReply { set: true, rule: String::new() },
        Some(rule) => SetPinReply { set: false, rule: rule.code().into() },
    })
}

/// A PIN on its way into the store.
#[derive(Clone, Copy)]
pub struct NewPin<'a> {
    pub user_id: &'a str,
    pub actor: &'a str,
    /// Given by somebody else: changed at its first use.
    pub must_change: bool,
    /// The mail that tells the user; with the PIN in it only where the settings want that (FV-21).
    pub mail: Option<&'static str>,
    /// Made because the user was owed one (FS-31): only as long as that is so, and the mail goes out with it.
    pub owed: bool,
}

/// Sets a random PIN, six digits unless the settings want more (FV-21), and returns it.
pub async fn set_random(store: &Store, new: NewPin<'_>) -> Result<Secret, StoreError> {
    let rules = store.rules().current(&mut store.database().read().await?).await?;
    let digits = usize::try_from(rules.pin.length_min).unwrap_or(DIGITS).clamp(DIGITS, DIGITS_MAX);
    for _ in 0..DRAWN_MAX {
        let drawn = seal::digits::<DIGITS_MAX>();
        let pin = Secret::new(drawn.expose()[..digits].to_vec());
        if set(store, &pin, new).await?.is_none() {
            return Ok(pin);
        }
    }
    Err(Status::aborted("no random PIN keeps the rules; try again").into())
}

/// Sets the PIN, or says which rule it breaks. The one before goes into the history.
pub async fn set(store: &Store, pin: &Secret, new: NewPin<'_>) -> Result<Option<PinRule>, StoreError> {
    let NewPin { user_id, actor, must_change, mail, owed } = new;
    let mut session = store.database().read().await?;
    let settings = store.rules().current(&mut session).await?;
    let sql = "SELECT phone, phone_extension, own_phone, own_extension, backup_phone, backup_extension FROM users \
               WHERE user_id = $1";
    let row = session.row(sql, args![user_id]).await?;
    let row = row.ok_or_else(|| Status::not_found("no such user"))?;
    let columns = ["phone", "phone_extension", "own_phone", "own_extension", "backup_phone", "backup_extension"];
    let numbers: Vec<String> = columns.iter().map(|column| row.get(column)).collect::<Result<_, _>>()?;
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    if let Some(rule) = pin_rules::broken(pin, &settings, &numbers) {
        return Ok(Some(rule));
    }
    let earlier = earlier(&mut session, user_id).await?;
    drop(session);
    let looked_at = usize::try_from(settings.pin.history).unwrap_or(0);
    let recent: Vec<&Candidate> = earlier.iter().take(looked_at).collect();
    if compare(store, user_id, "pin", &recent, pin).await?.is_some() {
        return Ok(Some(PinRule::History));
    }
    let salt = hashing::salt();
    let hash = store.hasher().hash(Purpose { user_id, kind: "pin", label: "" }, &salt, pin).await?;

    let now_ms = store.clock().now_ms();
    let mut session = store.database().write().await?;
    let head = audit::lock(&mut session).await?;
    let username = users::enabled_username(&mut session, user_id).await?;
    // What was compared is what is replaced: two changes at once are two changes after each other.
    let before = self::earlier(&mut session, user_id).await?;
    if before.iter().map(|it| &it.hashed_id).ne(earlier.iter().map(|it| &it.hashed_id)) {
        return Err(StoreError::Overtaken);
    }
    // Whoever has one is owed none.
    if session.execute("DELETE FROM pins_owed WHERE user_id = $1", args![user_id]).await? == 0 && owed {
        return Err(StoreError::Overtaken);
    }
    let sql = "UPDATE hashed SET kind = 'pin_history' WHERE user_id = $1 AND kind = 'pin'";
    session.execute(sql, args![user_id]).await?;
    for old in before.iter().skip(looked_at) {
        session.execute("DELETE FROM hashed WHERE hashed_id = $1", args![&old.hashed_id]).await?;
    }
    let sql = "INSERT INTO hashed (hashed_id, user_id, kind, label, salt, hash, uses_left, expires_ms, created_ms, made_by, text) \
               VALUES ($1, $2, 'pin', '', $3, $4, -1, 0, $5, $6, '')";
    let arguments = args![uuid::Uuid::now_v7().to_string(), user_id, salt.as_slice(), hash, now_ms, actor];
    session.execute(sql, arguments).await?;
    let sql = "INSERT INTO secret_states (user_id, kind, required, must_change, set_ms, wrong, locked_until_ms) \
               VALUES ($1, 'pin', FALSE, $2, $3, $4, 0) ON CONFLICT (user_id, kind) DO UPDATE SET \
               must_change = excluded.must_change, set_ms = excluded.set_ms, wrong = excluded.wrong, locked_until_ms = 0";
    session.execute(sql, args![user_id, must_change, now_ms, Vec::new()]).await?;
    let how = if must_change { "to be changed at its first use" } else { "chosen" };
    let event = NewEvent::administrative(now_ms, "pin.set", actor, how);
    audit::append(&mut session, head, vec![event.about(user_id, &username)]).await?;
    if let Some(kind) = mail {
        let mailed = must_change && settings.pin.danger_mail_initial_pin;
        let kind = if mailed { "initial_pin" } else { kind };
        let mail = NewMail::to_user(&mut session, kind, user_id).await?;
        // Nobody else will ever know it.
        if owed && (!mailed || mail.is_none()) {
            return Err(StoreError::Overtaken);
        }
        if let Some(mut mail) = mail {
            if mailed {
                let until_ms = now_ms + i64::from(settings.pin.initial_days) * DAY_MS;
                mail = mail.with("initial_pin", String::from_utf8_lossy(pin.expose()));
                mail = mail.with("until", users::time_text(until_ms)).until(until_ms);
            }
            outbox::put_in(&mut session, store.seal(), mail.with("admin", actor), now_ms).await?;
        }
    }
    session.commit().await?;
    store.teller().user_changed(user_id);
    Ok(None)
}

/// The PIN and those before it, the newest first.
async fn earlier(session: &mut Session, user_id: &str) -> Result<Vec<Candidate>, StoreError> {
    let sql = "SELECT hashed_id, label, salt, hash FROM hashed WHERE user_id = $1 AND kind IN ('pin', 'pin_history') \
               ORDER BY created_ms DESC, hashed_id DESC LIMIT 32";
    let rows = session.rows(sql, args![user_id]).await?;
    Ok(rows.iter().map(candidate).collect::<Result<_, _>>()?)
}
