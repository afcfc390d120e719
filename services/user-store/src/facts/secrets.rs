//! What a user has to remember: PIN, recovery codes, temporary code, answers. Whether there is one, never what it is.

use crate::Store;
use crate::commit::secrets::pin;
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use proto::user_store::{LoginUser, Pin};

const DAY_MS: i64 = 24 * 3_600_000;

/// Fills in what hangs on hashes and their states.
pub async fn read(store: &Store, session: &mut Session, user: &mut LoginUser, now_ms: i64) -> Result<(), StoreError> {
    let sql = "SELECT kind, label, uses_left, expires_ms FROM hashed WHERE user_id = $1 AND kind <> 'pin_history' \
               ORDER BY created_ms, hashed_id";
    let mut state = Pin::default();
    for row in session.rows(sql, args![&user.user_id]).await? {
        let expires_ms: i64 = row.get("expires_ms")?;
        match row.get::<String>("kind")?.as_str() {
            "pin" => state.set = true,
            "recovery" => user.recovery_left += 1,
            "temporary" => user.temporary_code |= expires_ms > now_ms && row.get::<i64>("uses_left")? > 0,
            "answer" => user.questions.push(row.get("label")?),
            _ => {}
        }
    }
    let sql =
        "SELECT required, must_change, set_ms, locked_until_ms FROM secret_states WHERE user_id = $1 AND kind = 'pin'";
    if let Some(row) = session.row(sql, args![&user.user_id]).await? {
        let set_ms: i64 = row.get("set_ms")?;
        let locked_until_ms: i64 = row.get("locked_until_ms")?;
        state.required = row.get("required")?;
        state.must_change = row.get("must_change")?;
        state.locked_until_unix_ms = if locked_until_ms < 0 || locked_until_ms > now_ms { locked_until_ms } else { 0 };
        if state.set {
            let rules = store.rules().current(session).await?;
            state.expired = state.must_change && pin::is_late(set_ms, rules.pin.initial_days, now_ms);
            let life_ms = i64::from(rules.pin.life_days) * DAY_MS;
            state.must_change |= life_ms > 0 && now_ms.saturating_sub(set_ms) >= life_ms;
        }
    }
    user.pin = Some(state);
    Ok(())
}
