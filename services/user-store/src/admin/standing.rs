//! Whether a user of a file may log in, and whether they are asked for a second factor (FI-02): what the file says of it is one
//! word, and here it is the state and the exemption.

use crate::rpc::StoreError;
use crate::sql::{Row, Session, args};
use crate::users::{StateChange, name_key};

/// From every client, without an end (FV-42).
const EVERYWHERE: &str = "*";
const WHY: &str = "as the imported file says";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Enabled,
    Disabled,
    Exempt,
}

impl Standing {
    pub fn parse(text: &str) -> Result<Self, String> {
        match name_key(text).as_str() {
            "enabled" => Ok(Self::Enabled),
            "disabled" => Ok(Self::Disabled),
            "exempt" => Ok(Self::Exempt),
            _ => Err(format!("state: found {text:?}; allowed are enabled, disabled, exempt")),
        }
    }

    /// The columns [`Standing::write`] compares with.
    pub const COLUMNS: &str = "username, state, state_by, exempt_clients, exempt_until_ms";

    /// Writes what differs and returns it in words, old -> new; the event is that of the whole file.
    pub async fn write(
        self,
        session: &mut Session,
        record: &Row,
        actor: &str,
        now_ms: i64,
    ) -> Result<Option<String>, StoreError> {
        let user_id: String = record.get("user_id")?;
        let (username, from, by): (String, String, String) =
            (record.get("username")?, record.get("state")?, record.get("state_by")?);
        let by_machine = matches!(by.as_str(), "" | "sync" | "directory");
        let to = match self {
            // A hand takes over from the directory, which might enable again.
            Self::Disabled if from == "enabled" || (from == "disabled" && by_machine) => "disabled",
            // What the directory has disabled, it enables.
            Self::Enabled if from == "disabled" && by != "directory" => "enabled",
            Self::Exempt => return exempt(session, record, &user_id).await,
            Self::Enabled | Self::Disabled => return Ok(None),
        };
        let change = StateChange { user_id: &user_id, username: &username, from: &from, to, by: actor, text: WHY };
        change.write(session, now_ms).await?;
        Ok(Some(match from == to {
            true => format!("state: {from} by {by} -> {to} by {actor}"),
            false => format!("state: {from} -> {to}"),
        }))
    }
}

async fn exempt(session: &mut Session, record: &Row, user_id: &str) -> Result<Option<String>, StoreError> {
    let (clients, until_ms): (String, i64) = (record.get("exempt_clients")?, record.get("exempt_until_ms")?);
    if clients == EVERYWHERE && until_ms == 0 {
        return Ok(None);
    }
    let sql = "UPDATE users SET exempt_clients = $1, exempt_until_ms = 0, exempt_text = $2 WHERE user_id = $3";
    session.execute(sql, args![EVERYWHERE, WHY, user_id]).await?;
    let before = if clients.is_empty() { "not exempt".to_owned() } else { format!("exempt at {clients}") };
    Ok(Some(format!("exempt: {before} -> exempt at {EVERYWHERE}")))
}
