//! The audit: append-only, one order over all nodes, each record chained to the one before by SHA-256 (V-60 to V-62).
//!
//! Events are appended inside the transaction of what they tell about, and never elsewhere. Whoever appends locks the head
//! of the chain; transactions that also change factors or users take that lock first, so that they queue and do not
//! deadlock. Where the chain stands is signed now and then ([`checkpoint`]), and checked from its first record on ([`verify`]).

pub mod checkpoint;
mod verify;

pub use verify::verify;

use crate::sql::{Arg, Database, Row, Session, args};
use domain::TransactionId;
use proto::user_store::AuditEvent;
use sha2::{Digest, Sha256};

/// What stands before the first event.
const BEGINNING: [u8; 32] = [0; 32];

/// An event and its standing in its transaction.
pub struct NewEvent {
    pub event: AuditEvent,
    /// The last word of its transaction.
    pub last: bool,
    /// Digest of the request that wrote it; empty for administrative events.
    pub request: Vec<u8>,
}

impl NewEvent {
    /// An administrative event.
    pub fn administrative(at_ms: i64, kind: &str, actor: &str, detail: impl Into<String>) -> Self {
        let event = AuditEvent {
            at_unix_ms: at_ms,
            kind: kind.into(),
            actor: printable(actor, 128),
            // Several changes are one line.
            detail: printable(&detail.into().replace('\n', "; "), 16_384),
            ..AuditEvent::default()
        };
        Self { event, last: false, request: Vec::new() }
    }

    pub fn about(mut self, user_id: &str, username: &str) -> Self {
        self.event.user_id = user_id.into();
        self.event.username = printable(username, 256);
        self
    }
}

/// The end of the chain, locked by this transaction.
pub struct Head {
    sequence: i64,
    hash: Vec<u8>,
}

/// Makes the row of the chain's end in an empty store.
pub async fn begin_chain(session: &mut Session) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO audit_head (id, sequence, hash) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING";
    session.execute(sql, args![1_i64, 0_i64, BEGINNING.as_slice()]).await.map(drop)
}

/// Waits until nobody else appends. The lock ends with the transaction.
pub async fn lock(session: &mut Session) -> Result<Head, sqlx::Error> {
    let sql = match session.writes_alone() {
        true => "SELECT sequence, hash FROM audit_head WHERE id = 1",
        // An update instead of SELECT FOR UPDATE, which SQLite does not know.
        false => "UPDATE audit_head SET sequence = sequence WHERE id = 1 RETURNING sequence, hash",
    };
    let row = session.row(sql, args![]).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok(Head { sequence: row.get("sequence")?, hash: row.get("hash")? })
}

/// Appends events in their order. Returns the sequence of the last one.
pub async fn append(session: &mut Session, head: Head, events: Vec<NewEvent>) -> Result<u64, sqlx::Error> {
    let Head { mut sequence, mut hash } = head;
    let mut rows = Vec::with_capacity(events.len());
    for NewEvent { event, last, request } in events {
        sequence += 1;
        hash = link(&hash, sequence, &event, last, &request);
        rows.push(args![
            sequence,
            event.at_unix_ms,
            event.kind,
            event.transaction_id,
            event.client,
            event.protocol,
            event.user_id,
            event.username,
            event.client_ip,
            event.calling_station,
            event.result,
            event.reason,
            event.method,
            event.assurance,
            event.source,
            event.actor,
            event.detail,
            last,
            request,
            hash.clone(),
        ]);
    }
    let head = "INSERT INTO audit (sequence, at_ms, kind, transaction_id, client, protocol, user_id, username, client_ip, \
                calling_station, result, reason, method, assurance, source, actor, detail, final, request, hash)";
    session.bulk(head, rows, "").await?;
    let sql = "UPDATE audit_head SET sequence = $1, hash = $2 WHERE id = 1";
    session.execute(sql, args![sequence, hash]).await?;
    Ok(u64::try_from(sequence).unwrap_or(0))
}

/// The chain over a record: every field with its length, so that no two records are the same octets.
fn link(previous: &[u8], sequence: i64, event: &AuditEvent, last: bool, request: &[u8]) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(previous);
    digest.update(sequence.to_be_bytes());
    digest.update(event.at_unix_ms.to_be_bytes());
    for field in fields(event) {
        put(&mut digest, field.as_bytes());
    }
    digest.update([u8::from(last)]);
    put(&mut digest, request);
    digest.finalize().to_vec()
}

/// An event's texts, in the order in which the chain has them.
pub fn fields(event: &AuditEvent) -> [&str; 15] {
    [
        &event.kind,
        &event.transaction_id,
        &event.client,
        &event.protocol,
        &event.user_id,
        &event.username,
        &event.client_ip,
        &event.calling_station,
        &event.result,
        &event.reason,
        &event.method,
        &event.assurance,
        &event.source,
        &event.actor,
        &event.detail,
    ]
}

/// Adds octets with their length before them.
pub fn put(digest: &mut Sha256, octets: &[u8]) {
    digest.update((octets.len() as u64).to_be_bytes());
    digest.update(octets);
}

const COLUMNS: &str = "sequence, at_ms, kind, transaction_id, client, protocol, user_id, username, client_ip, \
    calling_station, result, reason, method, assurance, source, actor, detail, final, request, hash";

/// Which events a reader wants.
pub struct Wanted<'a> {
    pub after: u64,
    pub newest: bool,
    pub limit: u32,
    /// Column and value, each an equality; empty values ask for nothing. A transaction may be named by its short form.
    pub conditions: [(&'static str, &'a str); 5],
}

/// Events in rising order.
pub async fn list(database: &Database, wanted: Wanted<'_>) -> Result<Vec<AuditEvent>, sqlx::Error> {
    let mut sql = format!("SELECT {COLUMNS} FROM audit WHERE sequence > $1");
    let mut arguments: Vec<Arg> = args![wanted.after];
    for (column, value) in wanted.conditions.iter().filter(|(_, value)| !value.is_empty()) {
        let tail = TransactionId::tail(value).filter(|_| *column == "transaction_id");
        let place = arguments.len() + 1;
        arguments.push(tail.as_ref().map_or_else(|| Arg::from(*value), |tail| Arg::from(format!("%{tail}"))));
        sql += &match *column {
            // A person read out the reference: no index leads there.
            _ if tail.is_some() => format!(" AND transaction_id LIKE ${place}"),
            // The last word of an attempt and what stands beside it, each by an index of its own.
            "transaction_id" => format!(
                " AND sequence IN (SELECT sequence FROM audit WHERE transaction_id = ${place} AND final UNION ALL \
                 SELECT sequence FROM audit WHERE transaction_id = ${place} AND transaction_id <> '' AND NOT final)"
            ),
            // The label that the user has now (FD-37).
            "user_group" => format!(" AND user_id IN (SELECT user_id FROM users WHERE user_group = ${place})"),
            column => format!(" AND {column} = ${place}"),
        };
    }
    arguments.push(Arg::from(wanted.limit));
    let order = if wanted.newest { "DESC" } else { "ASC" };
    sql += &format!(" ORDER BY sequence {order} LIMIT ${}", arguments.len());
    let rows = database.read().await?.rows_of(sql, arguments).await?;
    let mut events = rows.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    if wanted.newest {
        events.reverse();
    }
    Ok(events)
}

fn event(row: &Row) -> Result<AuditEvent, sqlx::Error> {
    Ok(AuditEvent {
        sequence: row.unsigned("sequence")?,
        at_unix_ms: row.get("at_ms")?,
        kind: row.get("kind")?,
        transaction_id: row.get("transaction_id")?,
        client: row.get("client")?,
        protocol: row.get("protocol")?,
        user_id: row.get("user_id")?,
        username: row.get("username")?,
        client_ip: row.get("client_ip")?,
        calling_station: row.get("calling_station")?,
        result: row.get("result")?,
        reason: row.get("reason")?,
        method: row.get("method")?,
        assurance: row.get("assurance")?,
        source: row.get("source")?,
        actor: row.get("actor")?,
        detail: row.get("detail")?,
        hash: data_encoding::HEXLOWER.encode(&row.get::<Vec<u8>>("hash")?),
    })
}

/// Text that cannot forge a line or a terminal's state: control characters shown escaped, length bounded (V-61).
pub fn printable(text: &str, characters_max: usize) -> String {
    if is_printable(text, characters_max) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len().min(characters_max));
    for (place, sign) in text.chars().enumerate() {
        if place == characters_max {
            shown.push('…');
            break;
        }
        match sign {
            // Line ends and the like, and the signs that turn the direction of text around.
            sign if sign.is_control()
                || matches!(sign, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}') =>
            {
                shown.extend(sign.escape_unicode());
            }
            sign => shown.push(sign),
        }
    }
    shown
}

/// The same where it stands: nearly every text is left as it is.
pub fn make_printable(text: &mut String, characters_max: usize) {
    if !is_printable(text, characters_max) {
        *text = printable(text, characters_max);
    }
}

fn is_printable(text: &str, characters_max: usize) -> bool {
    text.len() <= characters_max && text.bytes().all(|octet| matches!(octet, b' '..=b'~'))
}

/// No two fields hold the same, so that one left out of a hash, or in another place of it, changes the hash.
#[cfg(test)]
pub(crate) fn each_field_its_own() -> AuditEvent {
    AuditEvent {
        kind: "a".into(),
        transaction_id: "b".into(),
        client: "c".into(),
        protocol: "d".into(),
        user_id: "e".into(),
        username: "f".into(),
        client_ip: "g".into(),
        calling_station: "h".into(),
        result: "i".into(),
        reason: "j".into(),
        method: "k".into(),
        assurance: "l".into(),
        source: "m".into(),
        actor: "n".into(),
        detail: "o".into(),
        ..AuditEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_shown_escaped_and_cut() {
        // V-61, B-21
        assert_eq!(printable("ann\r\nroot", 64), "ann\\u{d}\\u{a}root");
        assert_eq!(printable("\u{1b}[31m\u{202e}x", 64), "\\u{1b}[31m\\u{202e}x");
        assert_eq!(printable("äöü ok", 64), "äöü ok");
        assert_eq!(printable(&"x".repeat(300), 10), format!("{}…", "x".repeat(10)));
    }

    #[test]
    fn the_octets_under_the_hash_stay_as_they_are_in_every_store() {
        let event = AuditEvent { at_unix_ms: 1, ..each_field_its_own() };
        let hash = data_encoding::HEXLOWER.encode(&link(&BEGINNING, 2, &event, true, b"request"));
        assert_eq!(hash, "6a5d963db1543ca2705e54aebdd3c1d35b1906a275f65f4a11b3a4bd691ed800");
    }

    #[test]
    fn no_two_records_have_the_same_octets_under_the_hash() {
        let one = AuditEvent { client: "ab".into(), protocol: "c".into(), ..AuditEvent::default() };
        let other = AuditEvent { client: "a".into(), protocol: "bc".into(), ..AuditEvent::default() };
        assert_ne!(link(&BEGINNING, 1, &one, true, b""), link(&BEGINNING, 1, &other, true, b""));
        assert_ne!(link(&BEGINNING, 1, &one, true, b""), link(&BEGINNING, 1, &one, false, b""));
        assert_ne!(link(&BEGINNING, 1, &one, true, b""), link(&BEGINNING, 2, &one, true, b""));
    }
}
