//! How many messages and calls go out in all (V-18): by prefix and hour, and a day. Counted where the message is opened.

use crate::rpc::StoreError;
use crate::sql::{Session, args};
use proto::user_store::{OpenPromptRequest, OpenSentCodeRequest};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What is about to go out; nothing that costs has a prefix.
pub struct Asked<'a> {
    prefix: &'a str,
    per_prefix_and_hour: u32,
    per_day: u32,
}

impl<'a> Asked<'a> {
    pub fn of_prompt(request: &'a OpenPromptRequest) -> Self {
        Self {
            prefix: &request.phone_prefix,
            per_prefix_and_hour: request.per_prefix_and_hour,
            per_day: request.messages_per_day,
        }
    }

    pub fn of_code(request: &'a OpenSentCodeRequest) -> Self {
        Self {
            prefix: &request.phone_prefix,
            per_prefix_and_hour: request.per_prefix_and_hour,
            per_day: request.messages_per_day,
        }
    }
}

/// Counts one more, under the chain's lock; or when there is room again, with nothing counted.
pub async fn count(session: &mut Session, asked: &Asked<'_>, now_ms: i64) -> Result<Option<i64>, StoreError> {
    if asked.prefix.is_empty() {
        return Ok(None);
    }
    let windows = [
        (format!("prefix:{}", asked.prefix), HOUR_MS, asked.per_prefix_and_hour),
        ("all".to_owned(), DAY_MS, asked.per_day),
    ];
    for (scope, length_ms, most) in &windows {
        let window_ms = now_ms - now_ms.rem_euclid(*length_ms);
        let sql = "SELECT count FROM message_counts WHERE scope = $1 AND window_ms = $2";
        let row = session.row(sql, args![scope, window_ms]).await?;
        let count = row.map_or(Ok(0), |row| row.get::<i64>("count"))?;
        if count >= i64::from(*most) {
            return Ok(Some(window_ms + length_ms));
        }
    }
    for (scope, length_ms, _) in &windows {
        let window_ms = now_ms - now_ms.rem_euclid(*length_ms);
        let sql = "INSERT INTO message_counts (scope, window_ms, count) VALUES ($1, $2, 1) \
                   ON CONFLICT (scope, window_ms) DO UPDATE SET count = message_counts.count + 1";
        session.execute(sql, args![scope, window_ms]).await?;
    }
    Ok(None)
}
