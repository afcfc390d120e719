//! What users have to remember: PIN, recovery codes, temporary code, answers. Whether there is one, never what it is.

use crate::commit::secrets::pin;
use crate::rpc::StoreError;
use crate::rules::Rules;
use crate::sql::Session;
use proto::user_store::{LoginUser, Pin};
use std::collections::HashMap;

const DAY_MS: i64 = 24 * 3_600_000;

/// Fills in what hangs on hashes and their states; `user_ids` are those who have any.
pub async fn read(
    session: &mut Session,
    rules: &Rules,
    users: &mut HashMap<String, LoginUser>,
    user_ids: &[String],
    now_ms: i64,
) -> Result<(), StoreError> {
    let with_any = || user_ids.iter().map(String::as_str);
    let mut states: HashMap<String, Pin> = HashMap::new();
    let head = "SELECT user_id, kind, label, uses_left, expires_ms FROM hashed WHERE user_id IN";
    let tail = "AND kind <> 'pin_history' ORDER BY created_ms, hashed_id";
    for row in session.rows_in(head, with_any(), tail, &[]).await? {
        let user_id: String = row.get("user_id")?;
        let Some(user) = users.get_mut(&user_id) else { continue };
        let expires_ms: i64 = row.get("expires_ms")?;
        match row.get::<String>("kind")?.as_str() {
            "pin" => states.entry(user_id).or_default().set = true,
            "recovery" => user.recovery_left += 1,
            "temporary" => user.temporary_code |= expires_ms > now_ms && row.get::<i64>("uses_left")? > 0,
            "answer" => user.questions.push(row.get("label")?),
            _ => {}
        }
    }
    let head = "SELECT user_id, required, must_change, set_ms, locked_until_ms FROM secret_states WHERE user_id IN";
    for row in session.rows_in(head, with_any(), "AND kind = 'pin'", &[]).await? {
        let set_ms: i64 = row.get("set_ms")?;
        let locked_until_ms: i64 = row.get("locked_until_ms")?;
        let state = states.entry(row.get("user_id")?).or_default();
        state.required = row.get("required")?;
        state.must_change = row.get("must_change")?;
        state.locked_until_unix_ms = if locked_until_ms < 0 || locked_until_ms > now_ms { locked_until_ms } else { 0 };
        if state.set {
            let rules = rules.current(session).await?;
            state.expired = state.must_change && pin::is_late(set_ms, rules.pin.initial_days, now_ms);
            let life_ms = i64::from(rules.pin.life_days) * DAY_MS;
            state.must_change |= life_ms > 0 && now_ms.saturating_sub(set_ms) >= life_ms;
        }
    }
    for user_id in user_ids {
        if let Some(user) = users.get_mut(user_id) {
            user.pin = Some(states.remove(user_id).unwrap_or_default());
        }
    }
    Ok(())
}
