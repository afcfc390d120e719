//! Numbers that go back to what they were soon after they changed (S-19): a server of the directory lags behind the others, or
//! somebody has put another number there for a while. Nothing is held up by it; administrators hear of it.

use super::history::Change;
use super::profile::{Profile, same};
use super::users::{Known, Row};
use super::write::Batch;
use super::{DAY_MS, MINUTE_MS};
use crate::audit::NewEvent;
use crate::outbox::{self, NewMail};
use crate::rpc::StoreError;
use crate::seal::Seal;
use crate::sql::{Arg, Session, args};
use crate::users::number_shown;
use std::collections::HashMap;

/// Remembered of one user and kind, the last ones.
const REMEMBERED_MAX: usize = 20;

/// Which of a user's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// The one that is called.
    Used,
    Backup,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Used, Self::Backup];

    fn code(self) -> &'static str {
        match self {
            Self::Used => "phone",
            Self::Backup => "backup",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Used => "phone number",
            Self::Backup => "backup phone number",
        }
    }

    fn of(self, profile: &Profile) -> &str {
        match self {
            Self::Used => &profile.used().number,
            Self::Backup => &profile.backup.number,
        }
    }
}

/// A number that changes.
struct Moved<'a> {
    row: &'a Row,
    known: &'a Known,
    kind: Kind,
    was: &'a str,
    now: &'a str,
}

/// By user and kind, the numbers before and until when they were: the newest first.
type Before = HashMap<(String, String), Vec<(String, i64)>>;

/// Compares numbers that change with those of before, which it remembers. Returns what audit and history say of it.
pub async fn gone_back(
    session: &mut Session,
    seal: &Seal,
    batch: &Batch<'_>,
    changed: &[Box<Row>],
) -> Result<(Vec<NewEvent>, Vec<Change>), StoreError> {
    let (mut events, mut changes) = (Vec::new(), Vec::new());
    let within_ms = i64::from(batch.settings.sync.phone_back_minutes) * MINUTE_MS;
    let moved: Vec<Moved<'_>> = changed.iter().flat_map(|row| moved(row)).collect();
    if within_ms == 0 || moved.is_empty() {
        return Ok((events, changes));
    }
    let users: Vec<&str> = moved.iter().map(|it| it.known.user_id.as_str()).collect();
    let before = before(session, &users, batch.now_ms - within_ms).await?;
    let (mut rows, mut too_many) = (Vec::new(), Vec::new());
    for Moved { row, known, kind, was, now } in moved {
        if !was.is_empty() {
            rows.push(args![&known.user_id, kind.code(), was, batch.now_ms]);
        }
        let Some(before) = before.get(&(known.user_id.clone(), kind.code().to_owned())) else { continue };
        let old = before.iter().skip(REMEMBERED_MAX - 1);
        too_many.extend(old.map(|(number, _)| args![&known.user_id, kind.code(), number]));
        let Some((_, changed_ms)) = before.iter().find(|(number, _)| same(number, now, &row.country)) else { continue };
        let text = format!(
            "the {} is {} again, as it was {} minutes ago; it was {} since",
            kind.text(),
            number_shown(now),
            (batch.now_ms - changed_ms) / MINUTE_MS,
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
    for arguments in too_many {
        let sql = "DELETE FROM numbers_before WHERE user_id = $1 AND kind = $2 AND number = $3";
        session.execute(sql, arguments).await?;
    }
    let head = "INSERT INTO numbers_before (user_id, kind, number, changed_ms)";
    let tail = "ON CONFLICT (user_id, kind, number) DO UPDATE SET changed_ms = excluded.changed_ms";
    session.bulk(head, rows, tail).await?;
    Ok((events, changes))
}

/// What was remembered of these users since then.
async fn before(session: &mut Session, users: &[&str], since_ms: i64) -> Result<Before, StoreError> {
    let head = "SELECT user_id, kind, number, changed_ms FROM numbers_before WHERE user_id IN";
    let tail = "AND changed_ms >= $257 ORDER BY changed_ms DESC, number";
    let mut before = Before::new();
    for row in session.rows_in(head, users.iter().copied(), tail, &[Arg::from(since_ms)]).await? {
        let whose = (row.get("user_id")?, row.get("kind")?);
        before.entry(whose).or_default().push((row.get("number")?, row.get("changed_ms")?));
    }
    Ok(before)
}

/// The numbers of a user that are others than before.
fn moved(row: &Row) -> impl Iterator<Item = Moved<'_>> {
    let known = row.known.as_ref().filter(|known| known.state != "removed");
    known.into_iter().flat_map(move |known| {
        let moved = Kind::ALL.into_iter().map(move |kind| {
            let (was, now) = (kind.of(&known.profile), kind.of(&row.profile));
            Moved { row, known, kind, was, now }
        });
        moved.filter(|it| !same(it.now, it.was, &it.row.country))
    })
}
