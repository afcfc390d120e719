//! SQLite called directly, by a thread that may wait for the disk ([`super::Database::apart`]). The way of a statement to a thread of
//! the driver and back costs more than a short statement does, and each login takes a dozen of them.
//!
//! Whoever writes has the turn of all writers of this process, so that nobody meets SQLite's own lock but another process.

use super::Arg;
use super::checkpoints::Committed;
use rusqlite::types::{FromSql, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OpenFlags};
use sqlx::error::{DatabaseError, ErrorKind};
use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// Statements kept prepared: all that logins run, and the steps' own.
const PREPARED: usize = 256;
/// Rows of no more columns are written [`TOGETHER`].
const NARROW: usize = 8;
const TOGETHER: usize = 16;

/// A connection, and what is known of its statements.
pub struct Direct {
    connection: Connection,
    /// By their text.
    known: HashMap<Box<str>, Arc<Known>>,
    /// Of a connection that writes.
    committed: Option<Committed>,
}

/// What a statement's text says once for all.
struct Known {
    /// The number behind the `$` of each parameter, in the order in which SQLite counts them.
    parameters: Box<[usize]>,
    columns: Box<[Box<str>]>,
}

impl Direct {
    /// `settings` are statements that every connection begins with. Without `committed` it only reads.
    pub fn open(
        path: &Path,
        busy: Duration,
        settings: &str,
        committed: Option<Committed>,
    ) -> Result<Self, sqlx::Error> {
        let writes = committed.is_some();
        let access = if writes { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
        let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
        connection.busy_timeout(busy).map_err(failed)?;
        connection.execute_batch(settings).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        Ok(Self { connection, known: HashMap::new(), committed })
    }

    fn prepare(&mut self, sql: &str) -> Result<(CachedStatement<'_>, Arc<Known>), sqlx::Error> {
        let statement = self.connection.prepare_cached(sql).map_err(failed)?;
        if let Some(known) = self.known.get(sql) {
            return Ok((statement, known.clone()));
        }
        let number = |place| statement.parameter_name(place).and_then(|name| name.strip_prefix('$')?.parse().ok());
        let parameters = (1..=statement.parameter_count()).map(number).collect::<Option<_>>();
        let parameters = parameters.ok_or_else(|| sqlx::Error::Protocol("a parameter has no number".into()))?;
        let columns = statement.column_names().into_iter().map(Box::from).collect();
        // As many as are kept prepared: texts that are put together anew each time must not pile up.
        if self.known.len() >= PREPARED {
            self.known.clear();
        }
        let known = Arc::new(Known { parameters, columns });
        self.known.insert(sql.into(), known.clone());
        Ok((statement, known))
    }

    fn once(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        self.run(sql, std::iter::once::<&[Arg<'_>]>(&[])).map(drop)
    }

    /// Runs a statement once for each of the arguments; the number of rows changed by all.
    fn run<'a, A: Bound<'a>>(&mut self, sql: &str, each: impl Iterator<Item = A>) -> Result<u64, sqlx::Error> {
        let (mut statement, known) = self.prepare(sql)?;
        let mut changed = 0;
        for arguments in each {
            bind(&mut statement, &known, &arguments)?;
            changed += statement.raw_execute().map_err(failed)? as u64;
        }
        Ok(changed)
    }

    /// The same for the rows that it finds.
    fn select<'a, A: Bound<'a>>(&mut self, sql: &str, each: impl Iterator<Item = A>) -> Result<Vec<Row>, sqlx::Error> {
        let (mut statement, known) = self.prepare(sql)?;
        let mut found = Vec::new();
        for arguments in each {
            bind(&mut statement, &known, &arguments)?;
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().map_err(failed)? {
                found.push(Row::read(row, &known).map_err(failed)?);
            }
        }
        Ok(found)
    }
}

fn bind<'a>(statement: &mut CachedStatement<'_>, known: &Known, arguments: &impl Bound<'a>) -> Result<(), sqlx::Error> {
    for (place, number) in known.parameters.iter().enumerate() {
        let argument = arguments.numbered(*number);
        let argument = argument.ok_or_else(|| sqlx::Error::Protocol(format!("there is no argument ${number}")))?;
        statement.raw_bind_parameter(place + 1, argument).map_err(failed)?;
    }
    Ok(())
}

/// What the placeholders of a statement stand for.
pub trait Bound<'a> {
    fn numbered(&self, number: usize) -> Option<&Arg<'a>>;
}

impl<'a, T: AsRef<[Arg<'a>]>> Bound<'a> for T {
    fn numbered(&self, number: usize) -> Option<&Arg<'a>> {
        self.as_ref().get(number.checked_sub(1)?)
    }
}

/// One of a list's keys at `place`, and the arguments that begin at `others`.
pub struct Key<'a> {
    pub key: &'a Arg<'a>,
    pub place: usize,
    pub others: usize,
    pub arguments: &'a [Arg<'a>],
}

impl<'a> Bound<'a> for Key<'a> {
    fn numbered(&self, number: usize) -> Option<&Arg<'a>> {
        match number == self.place {
            true => Some(self.key),
            false => self.arguments.get(number.checked_sub(self.others)?),
        }
    }
}

impl ToSql for Arg<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Int(value) => (*value).into(),
            Self::Bool(value) => i64::from(*value).into(),
            Self::Text(text) if text.contains('\0') => super::without_nul(text).into(),
            Self::Text(text) => text.as_ref().into(),
            Self::Bytes(octets) => octets.as_ref().into(),
        })
    }
}

/// A row of an answer. Its texts and octets stand one after the other, since most are read once.
pub struct Row {
    known: Arc<Known>,
    cells: Box<[Cell]>,
    octets: Vec<u8>,
    /// Where the next column is likely to be: they are asked for in the order of the statement, as a rule.
    next: AtomicUsize,
}

enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Text(Range<usize>),
    Blob(Range<usize>),
}

impl Row {
    fn read(row: &rusqlite::Row<'_>, known: &Arc<Known>) -> Result<Self, rusqlite::Error> {
        let mut octets = Vec::new();
        let mut keep = |value: &[u8]| {
            let start = octets.len();
            octets.extend_from_slice(value);
            start..octets.len()
        };
        let cells = (0..known.columns.len()).map(|column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Null => Cell::Null,
                ValueRef::Integer(value) => Cell::Int(value),
                ValueRef::Real(value) => Cell::Real(value),
                ValueRef::Text(text) => Cell::Text(keep(text)),
                ValueRef::Blob(value) => Cell::Blob(keep(value)),
            })
        });
        let cells = cells.collect::<Result<_, rusqlite::Error>>()?;
        Ok(Self { known: known.clone(), cells, octets, next: AtomicUsize::new(0) })
    }

    pub fn get<T: FromSql>(&self, column: &str) -> Result<T, sqlx::Error> {
        let (columns, next) = (&self.known.columns, self.next.load(Ordering::Relaxed));
        let place = (next..columns.len()).chain(0..next).find(|place| *columns[*place] == *column);
        let place = place.ok_or_else(|| sqlx::Error::ColumnNotFound(column.into()))?;
        self.next.store(place + 1, Ordering::Relaxed);
        let value = match &self.cells[place] {
            Cell::Null => ValueRef::Null,
            Cell::Int(value) => ValueRef::Integer(*value),
            Cell::Real(value) => ValueRef::Real(*value),
            Cell::Text(range) => ValueRef::Text(&self.octets[range.clone()]),
            Cell::Blob(range) => ValueRef::Blob(&self.octets[range.clone()]),
        };
        // Octets and text are one to SQLite, and to the driver: a column that was added with '' for what stood there has texts.
        let decoded = T::column_result(value).or_else(|error| match value {
            ValueRef::Text(octets) => T::column_result(ValueRef::Blob(octets)),
            ValueRef::Blob(octets) => T::column_result(ValueRef::Text(octets)),
            _ => Err(error),
        });
        decoded.map_err(|source| sqlx::Error::ColumnDecode { index: column.into(), source: source.into() })
    }
}

/// Where a connection is while nobody has it.
pub type Home = Arc<Mutex<Option<Direct>>>;

/// A connection that somebody has: a snapshot to read, or a transaction. Goes home when it is dropped, and what is not committed is undone.
pub struct Session {
    direct: Option<Direct>,
    home: Home,
    /// Among those who write.
    turn: Option<OwnedMutexGuard<()>>,
}

impl Session {
    /// `None`: somebody has it.
    pub fn begin(home: &Home, turn: Option<OwnedMutexGuard<()>>) -> Result<Option<Self>, sqlx::Error> {
        let Some(direct) = home.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(None) };
        let begin = if turn.is_some() { "BEGIN IMMEDIATE" } else { "BEGIN" };
        let mut session = Self { direct: Some(direct), home: home.clone(), turn };
        session.direct()?.once(begin)?;
        Ok(Some(session))
    }

    pub fn writes(&self) -> bool {
        self.turn.is_some()
    }

    pub fn run<'a, A: Bound<'a>>(&mut self, sql: &str, each: impl Iterator<Item = A>) -> Result<u64, sqlx::Error> {
        self.direct()?.run(sql, each)
    }

    /// Statements for rows, which follow `VALUES`: narrow ones several together, since to begin and end a statement costs as much as to
    /// write one of them.
    pub fn run_each<'a>(
        &mut self,
        head: &str,
        rows: impl Iterator<Item = Vec<Arg<'a>>>,
        tail: &str,
    ) -> Result<u64, sqlx::Error> {
        let mut rows = rows.peekable();
        let Some(columns) = rows.peek().map(Vec::len) else { return Ok(0) };
        let one = format!("{head} VALUES ({}) {tail}", super::placeholders(1, columns));
        if columns > NARROW {
            return self.run(&one, rows);
        }
        let mut changed = 0;
        let mut next = || rows.by_ref().take(TOGETHER).collect::<Vec<_>>();
        let mut together = next();
        if together.len() == TOGETHER {
            let tuple = |row: usize| format!("({})", super::placeholders(row * columns + 1, columns));
            let tuples = (0..TOGETHER).map(tuple).collect::<Vec<_>>().join(",");
            let full = std::iter::from_fn(|| {
                let full = (together.len() == TOGETHER).then(|| std::mem::replace(&mut together, next()));
                full.map(|rows| rows.into_iter().flatten().collect::<Vec<_>>())
            });
            changed += self.direct()?.run(&format!("{head} VALUES {tuples} {tail}"), full)?;
        }
        Ok(changed + self.run(&one, together.into_iter())?)
    }

    pub fn select<'a, A: Bound<'a>>(
        &mut self,
        sql: &str,
        each: impl Iterator<Item = A>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        self.direct()?.select(sql, each)
    }

    /// Makes a write durable.
    pub fn commit(mut self) -> Result<(), sqlx::Error> {
        let direct = self.direct()?;
        direct.once("COMMIT")?;
        let changed = direct.connection.total_changes();
        if let Some(committed) = &mut direct.committed {
            committed.tell(changed);
        }
        Ok(())
    }

    fn direct(&mut self) -> Result<&mut Direct, sqlx::Error> {
        self.direct.as_mut().ok_or(sqlx::Error::PoolClosed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(mut direct) = self.direct.take() else { return };
        if !direct.connection.is_autocommit()
            && let Err(error) = direct.once("ROLLBACK")
        {
            tracing::error!(error = %error, "a transaction cannot be undone");
        }
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Some(direct);
    }
}

/// A fault of SQLite as the driver for the other statements tells it, so that all else need not know by which way it came.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Failed {
    code: i32,
    text: String,
}

pub fn failed(error: rusqlite::Error) -> sqlx::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => {
            let text = text.unwrap_or_else(|| code.to_string());
            sqlx::Error::Database(Box::new(Failed { code: code.extended_code, text }))
        }
        other => sqlx::Error::Decode(Box::new(other)),
    }
}

impl DatabaseError for Failed {
    fn message(&self) -> &str {
        &self.text
    }
    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.code.to_string().into())
    }
    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }
    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }
    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }
    fn kind(&self) -> ErrorKind {
        match self.code {
            rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY | rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE => {
                ErrorKind::UniqueViolation
            }
            _ => ErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::{Database, Session, StoreSection, args};

    async fn open() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", dir.path().join("store.db").display());
        let section = StoreSection::new(&url, &dir.path().join("master.key").display().to_string()).expect("a section");
        (dir, Database::open(&section).await.expect("a store"))
    }

    async fn both_to_read(database: &Database) -> [Session; 2] {
        let (driver, direct) =
            (database.read().await.expect("read"), database.read_direct().await.expect("read directly"));
        assert!(matches!((&driver, &direct), (Session::SqliteRead(_), Session::SqliteDirect(_))));
        [driver, direct]
    }

    #[tokio::test]
    async fn every_connection_waits_for_the_disk_and_wipes_what_it_erases() {
        // V-70
        let (_dir, database) = open().await;
        let [driver, direct] = both_to_read(&database).await;
        let write = database.write().await.expect("write");
        for (mut session, of) in [(driver, "driver, read"), (direct, "direct, read"), (write, "driver, write")] {
            assert_eq!(settings(&mut session).await, [2, 1, -2048, 16000, 1], "{of}");
        }
        let mut write = database.write_direct().await.expect("write directly");
        assert_eq!(settings(&mut write).await, [2, 1, -32768, 16000, 1], "direct, write");
    }

    async fn settings(session: &mut Session) -> Vec<i64> {
        let mut found = Vec::new();
        for name in ["synchronous", "foreign_keys", "cache_size", "wal_autocheckpoint", "secure_delete"] {
            let rows = session.rows_of(format!("PRAGMA {name}"), args![]).await.expect("a setting");
            found.push(rows.first().expect("its row").get(name).expect("a number"));
        }
        found
    }

    #[tokio::test]
    async fn both_ways_say_the_same() {
        let (_dir, database) = open().await;
        let mut session = database.write_direct().await.expect("write directly");
        let rows = (0..300_i64).map(|n| args![format!("name {n}"), n % 2 == 0, n]).collect();
        let head = "INSERT INTO learned (client, sends, learned_ms)";
        assert_eq!(session.bulk(head, rows, "").await.expect("inserted"), 300);
        assert_eq!(session.bulk(head, vec![args!["a\0b", true, -1_i64]], "").await.expect("inserted"), 1);
        for count in [15, 16, 17, 32, 33] {
            let rows = (0..count).map(|n| args![format!("some {count} {n}"), true, 1_000_i64]).collect();
            assert_eq!(session.bulk(head, rows, "").await.expect("inserted"), count as u64);
            let found =
                session.rows("SELECT client FROM learned WHERE client LIKE $1", args![format!("some {count} %")]).await;
            assert_eq!(found.expect("rows").len(), count, "each is there once");
        }
        session.commit().await.expect("committed");
        let mut answers = Vec::new();
        for mut session in both_to_read(&database).await {
            let mut texts = Vec::new();
            let names: Vec<String> = (5..7).chain(0..290).map(|n| format!("name {n}")).collect();
            let names = || names.iter().map(String::as_str);
            let head = "SELECT client, sends, learned_ms FROM learned WHERE client IN";
            let mut rows =
                session.rows_in(head, names(), "AND learned_ms < $257", &[crate::sql::Arg::Int(7)]).await.expect("in");
            rows.extend(session.rows_in(head, ["a\0b", "name 299", "nobody"], "", &[]).await.expect("in"));
            let head = "SELECT client, sends, learned_ms FROM learned WHERE client > $1 AND client IN";
            rows.extend(session.rows_beside(head, "name 28", names(), "").await.expect("beside"));
            let sql = "SELECT client, sends, learned_ms FROM learned WHERE learned_ms = $2 AND sends = $1";
            rows.extend(session.rows(sql, args![true, 8_i64]).await.expect("rows"));
            for row in &rows {
                let sends: bool = row.get("sends").expect("a flag");
                assert_eq!(
                    row.get::<Vec<u8>>("client").expect("octets"),
                    row.get::<String>("client").expect("a text").into_bytes()
                );
                texts.push((
                    row.get::<String>("client").expect("a text"),
                    sends,
                    row.get::<i64>("learned_ms").expect("a number"),
                ));
            }
            assert!(rows[0].get::<i64>("nothing").is_err() && rows[0].get::<i64>("client").is_err());
            texts.sort();
            answers.push(texts);
        }
        assert_eq!(answers[0], answers[1]);
        assert!(answers[0].contains(&("a\u{fffd}b".into(), true, -1)) && answers[0].len() > 10, "{:?}", answers[0]);
    }

    #[tokio::test]
    async fn who_writes_has_its_turn_and_what_is_not_committed_is_undone() {
        let (_dir, database) = open().await;
        let insert = "INSERT INTO learned (client, sends, learned_ms) VALUES ($1, TRUE, 0)";
        for committed in [false, true] {
            let mut first = database.write().await.expect("write");
            let other = {
                let database = database.clone();
                tokio::spawn(async move { database.write_direct().await })
            };
            tokio::task::yield_now().await;
            first.execute(insert, args!["driver"]).await.expect("inserted");
            assert!(!other.is_finished(), "two write at once");
            drop(first);
            let mut second = other.await.expect("no panic").expect("its turn");
            second.execute(insert, args!["direct"]).await.expect("inserted");
            let twice = second.execute(insert, args!["direct"]).await.expect_err("a key twice");
            assert!(twice.as_database_error().is_some_and(|error| error.is_unique_violation()), "{twice:?}");
            if committed {
                second.commit().await.expect("committed");
            } else {
                drop(second);
            }
            let rows =
                database.read_direct().await.expect("read directly").rows("SELECT client FROM learned", args![]).await;
            assert_eq!(rows.expect("rows").len(), usize::from(committed));
        }
    }
}
