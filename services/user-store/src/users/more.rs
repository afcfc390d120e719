//! What an administrator sees of a user beside name, state and codes: block, exemption, passes of the help desk, phones, what is
//! remembered. Never a secret.

use super::small;
use crate::rpc::StoreError;
use crate::settings;
use crate::sql::{Session, args};
use domain::settings::PinRules;
use proto::user_store::{BlockSummary, BypassSummary, DeviceSummary, Pin, UserDetail};

const DAY_MS: i64 = 24 * 3_600_000;

const USER: &str = "SELECT phone, phone_extension, own_phone, own_extension, backup_phone, backup_extension, default_method, \
    allowed_methods, language_call, language_text, language_app, language_code, language_portal, blocked_until_ms, blocked_since_ms, \
    blocked_by, blocked_text, exempt_clients, exempt_until_ms, exempt_text, exempt_item, epoch, \
    account_expires_ms FROM users WHERE user_id = $1";

/// Completes the detail of a user.
pub async fn fill(
    session: &mut Session,
    detail: &mut UserDetail,
    user_id: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let Some(row) = session.row(USER, args![user_id]).await? else { return Ok(()) };
    let own: String = row.get("own_phone")?;
    // FS-23: a number of the user's own goes before the directory's, its extension along with it.
    (detail.phone, detail.phone_extension) = match own.is_empty() {
        true => (row.get("phone")?, row.get("phone_extension")?),
        false => (own, row.get("own_extension")?),
    };
    detail.backup_phone = row.get("backup_phone")?;
    detail.backup_extension = row.get("backup_extension")?;
    detail.default_method = row.get("default_method")?;
    detail.allowed_methods = listed(&row.get::<String>("allowed_methods")?);
    detail.language_call = row.get("language_call")?;
    detail.language_text = row.get("language_text")?;
    detail.language_app = row.get("language_app")?;
    detail.language_code = row.get("language_code")?;
    detail.language_portal = row.get("language_portal")?;
    detail.account_expires_unix_ms = row.get("account_expires_ms")?;
    let blocked_until_ms: i64 = row.get("blocked_until_ms")?;
    if blocked_until_ms < 0 || blocked_until_ms > now_ms {
        detail.block = Some(BlockSummary {
            until_unix_ms: blocked_until_ms,
            since_unix_ms: row.get("blocked_since_ms")?,
            by: row.get("blocked_by")?,
            text: row.get("blocked_text")?,
        });
    }
    let exempt_until_ms: i64 = row.get("exempt_until_ms")?;
    let exempt_item: String = row.get("exempt_item")?;
    if !exempt_item.is_empty() {
        // FS-35: by the item that has them, which goes before what a hand says.
        detail.exempt_clients = vec!["*".into()];
        detail.exempt_text = format!("by the sync item {exempt_item}");
    } else if exempt_until_ms == 0 || exempt_until_ms > now_ms {
        detail.exempt_clients = listed(&row.get::<String>("exempt_clients")?);
        detail.exempt_until_unix_ms = exempt_until_ms;
        detail.exempt_text = row.get("exempt_text")?;
    }
    let sql = "SELECT COUNT(*) AS remembered FROM remembered WHERE user_id = $1 AND epoch = $2 AND idle_until_ms > $3 \
               AND life_until_ms > $3";
    let remembered = session.row(sql, args![user_id, row.get::<i64>("epoch")?, now_ms]).await?;
    detail.remembered = remembered.map_or(Ok(0), |row| small(&row, "remembered"))?;
    detail.devices = devices(session, user_id).await?;
    passes(session, detail, user_id, now_ms).await?;
    kept(session, detail, user_id, now_ms).await
}

fn listed(text: &str) -> Vec<String> {
    text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

async fn devices(session: &mut Session, user_id: &str) -> Result<Vec<DeviceSummary>, StoreError> {
    let sql = "SELECT device_id, kind, name, state, created_ms, last_seen_ms, passkey, subscription FROM devices \
               WHERE user_id = $1 AND state <> 'activation' ORDER BY created_ms, device_id";
    let rows = session.rows(sql, args![user_id]).await?;
    let devices = rows.iter().map(|row| {
        Ok::<_, sqlx::Error>(DeviceSummary {
            device_id: row.get("device_id")?,
            kind: row.get("kind")?,
            name: row.get("name")?,
            state: row.get("state")?,
            created_unix_ms: row.get("created_ms")?,
            last_seen_unix_ms: row.get("last_seen_ms")?,
            has_passkey: !row.get::<String>("passkey")?.is_empty(),
            has_push: !row.get::<Vec<u8>>("subscription")?.is_empty(),
        })
    });
    Ok(devices.collect::<Result<_, _>>()?)
}

/// What the help desk gave: bypasses and temporary codes that are open.
async fn passes(session: &mut Session, detail: &mut UserDetail, user_id: &str, now_ms: i64) -> Result<(), StoreError> {
    let sql = "SELECT bypass_id, client, expires_ms, made_by, text FROM bypasses WHERE user_id = $1 AND expires_ms > $2 \
               ORDER BY created_ms";
    for row in session.rows(sql, args![user_id, now_ms]).await? {
        detail.bypasses.push(BypassSummary {
            bypass_id: row.get("bypass_id")?,
            kind: "bypass".into(),
            client: row.get("client")?,
            expires_unix_ms: row.get("expires_ms")?,
            uses_left: 1,
            by: row.get("made_by")?,
            text: row.get("text")?,
        });
    }
    let sql = "SELECT hashed_id, uses_left, expires_ms, made_by, text FROM hashed WHERE user_id = $1 AND kind = 'temporary' \
               AND expires_ms > $2 AND uses_left > 0 ORDER BY created_ms";
    for row in session.rows(sql, args![user_id, now_ms]).await? {
        detail.bypasses.push(BypassSummary {
            bypass_id: row.get("hashed_id")?,
            kind: "temporary_code".into(),
            client: String::new(),
            expires_unix_ms: row.get("expires_ms")?,
            uses_left: small(&row, "uses_left")?,
            by: row.get("made_by")?,
            text: row.get("text")?,
        });
    }
    Ok(())
}

/// What the user has to remember: that it is there, never what it is.
async fn kept(session: &mut Session, detail: &mut UserDetail, user_id: &str, now_ms: i64) -> Result<(), StoreError> {
    let mut pin = Pin::default();
    let sql = "SELECT kind, label FROM hashed WHERE user_id = $1 AND kind IN ('pin', 'recovery', 'answer') AND uses_left <> 0 \
               ORDER BY created_ms, hashed_id";
    for row in session.rows(sql, args![user_id]).await? {
        match row.get::<String>("kind")?.as_str() {
            "pin" => pin.set = true,
            "recovery" => detail.recovery_left += 1,
            _ => detail.questions.push(row.get("label")?),
        }
    }
    let sql =
        "SELECT required, must_change, set_ms, locked_until_ms FROM secret_states WHERE user_id = $1 AND kind = 'pin'";
    if let Some(row) = session.row(sql, args![user_id]).await? {
        let locked_until_ms: i64 = row.get("locked_until_ms")?;
        pin.required = row.get("required")?;
        pin.locked_until_unix_ms = if locked_until_ms < 0 || locked_until_ms > now_ms { locked_until_ms } else { 0 };
        let rules = settings::current(session).await?.settings.pin;
        let age_ms = now_ms.saturating_sub(row.get("set_ms")?);
        (pin.must_change, pin.expired) = age(pin.set, row.get("must_change")?, age_ms, &rules);
    }
    detail.pin = Some(pin);
    Ok(())
}

/// Must it be changed, and is it too late even for that (FV-20, FV-21)?
fn age(set: bool, given: bool, age_ms: i64, rules: &PinRules) -> (bool, bool) {
    let too_old = rules.life_days > 0 && age_ms >= i64::from(rules.life_days) * DAY_MS;
    let late = given && age_ms >= i64::from(rules.initial_days) * DAY_MS;
    (set && (given || too_old), set && late)
}
