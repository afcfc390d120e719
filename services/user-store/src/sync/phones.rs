//! Numbers that go back to what they were soon after they changed (S-19): a server of the directory lags behind the others, or
//! somebody has put another number there for a while. Nothing is held up by it; administrators hear of it.

use super::history::Change;
use super::profile::same;
use super::users::{Known, Row};
use super::write::Batch;
use super::{DAY_MS, MINUTE_MS};
use crate::audit::NewEvent;
use crate::outbox::{self, NewMail};
use crate::rpc::StoreError;
use crate::seal::Seal;
use crate::sql::{Session, args};
use crate::users::number_shown;
use std::collections::HashMap;

/// Compares numbers that change with those of before, which it remembers. Returns what audit and history say of it.
pub async fn gone_back(
    session: &mut Session,
    seal: &Seal,
    batch: &Batch<'_>,
    changed: &[Box<Row>],
) -> Result<(Vec<NewEvent>, Vec<Change>), StoreError> {
    let (mut events, mut changes) = (Vec::new(), Vec::new());
    let within_ms = i64::from(batch.settings.sync.phone_back_minutes) * MINUTE_MS;
    let others: Vec<(&Row, &Known)> = changed.iter().filter_map(|row| other_number(row)).collect();
    if within_ms == 0 || others.is_empty() {
        return Ok((events, changes));
    }
    let mut before: HashMap<String, (String, i64)> = HashMap::new();
    let head = "SELECT user_id, number, changed_ms FROM phones_before WHERE user_id IN";
    for row in session.rows_in(head, others.iter().map(|(_, known)| known.user_id.as_str()), "", &[]).await? {
        before.insert(row.get("user_id")?, (row.get("number")?, row.get("changed_ms")?));
    }
    let mut rows = Vec::new();
    for (row, known) in others {
        let (now, was) = (&row.profile.used().number, &known.profile.used().number);
        if !was.is_empty() {
            rows.push(args![&known.user_id, was, batch.now_ms]);
        }
        let Some((number, changed_ms)) = before.get(&known.user_id) else { continue };
        let ago_ms = batch.now_ms - changed_ms;
        if ago_ms > within_ms || !same(number, now, &row.country) {
            continue;
        }
        let text = format!(
            "the phone number is {} again, as it was {} minutes ago; it was {} since",
            number_shown(now),
            ago_ms / MINUTE_MS,
            number_shown(was)
        );
        let mail = NewMail::to_administrators("sync_phone_back").with("username", &known.username);
        let day = batch.now_ms.div_euclid(DAY_MS);
        let mail = mail.with("detail", &text).once(format!("sync_phone_back:{}:{day}", known.user_id));
        outbox::put_in(session, seal, mail, batch.now_ms).await?;
        let event = NewEvent::administrative(batch.now_ms, "user.phone_back", "sync", text.clone());
        events.push(event.about(&known.user_id, &known.username));
        changes.push(Change::new(&known.username, "problem", text));
    }
    let head = "INSERT INTO phones_before (user_id, number, changed_ms)";
    let tail = "ON CONFLICT (user_id) DO UPDATE SET number = excluded.number, changed_ms = excluded.changed_ms";
    session.bulk(head, rows, tail).await?;
    Ok((events, changes))
}

/// A user who is called at another number than before.
fn other_number(row: &Row) -> Option<(&Row, &Known)> {
    let known = row.known.as_ref().filter(|known| known.state != "removed")?;
    let (now, was) = (&row.profile.used().number, &known.profile.used().number);
    (!same(now, was, &row.country)).then_some((row, known))
}
