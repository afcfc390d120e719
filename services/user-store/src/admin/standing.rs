//! Whether a user of a file may log in, and whether they are asked for a second factor (FI-02): what the file says of it is one
//! word, and here it is the state and the exemption.

use super::people::{self, ALL};
use crate::audit::NewEvent;
use crate::rpc::StoreError;
use crate::sql::{Row, Session};
use crate::users::{StateChange, by_machine, name_key};

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

    /// Writes what differs and returns it in words, old -> new, and its event.
    pub async fn write(
        self,
        session: &mut Session,
        record: &Row,
        actor: &str,
        now_ms: i64,
    ) -> Result<Option<(String, NewEvent)>, StoreError> {
        let user_id: String = record.get("user_id")?;
        let (username, from, by): (String, String, String) =
            (record.get("username")?, record.get("state")?, record.get("state_by")?);
        let to = match self {
            // A hand takes over from the directory, which might enable again.
            Self::Disabled if from == "enabled" || (from == "disabled" && by_machine(&by)) => "disabled",
            // What the directory has disabled, it enables.
            Self::Enabled if from == "disabled" && by != "directory" => "enabled",
            Self::Exempt => return exempt(session, record, actor, now_ms).await,
            Self::Enabled | Self::Disabled => return Ok(None),
        };
        let change =
            StateChange { user_id: &user_id, username: &username, from: &from, from_by: &by, to, by: actor, text: WHY };
        let event = change.write(session, now_ms).await?;
        let line = match from == to {
            true => format!("state: {from} by {by} -> {to} by {actor}"),
            false => format!("state: {from} -> {to}"),
        };
        Ok(event.map(|event| (line, event)))
    }
}

/// From every client, without an end (FV-42).
async fn exempt(
    session: &mut Session,
    record: &Row,
    actor: &str,
    now_ms: i64,
) -> Result<Option<(String, NewEvent)>, StoreError> {
    if record.get::<String>("exempt_clients")? == ALL && record.get::<i64>("exempt_until_ms")? == 0 {
        return Ok(None);
    }
    let (user_id, username): (String, String) = (record.get("user_id")?, record.get("username")?);
    let line = people::exempt(session, &user_id, record, (ALL, 0), WHY).await?;
    let event = NewEvent::administrative(now_ms, "user.exempt", actor, format!("{line} ({WHY})"));
    Ok(Some((format!("exempt: {line}"), event.about(&user_id, &username))))
}
