//! The database behind one face: SQLite or PostgreSQL, the same SQL text, the same migrations.
//!
//! Placeholders are `$1`, every column is named, every value is one of four kinds ([`Arg`]), nothing is NULL. A session
//! is a read connection or a write transaction; what is not committed is rolled back when it is dropped. On SQLite there
//! is one writer; on PostgreSQL writers meet at the rows they lock.
//!
//! On SQLite what logins need is done by threads of its own, directly ([`direct`]); all else goes by the driver's.

mod checkpoints;
mod direct;
mod open;

pub use open::{Database, OpenError, StoreSection, StoreUrl};

use rusqlite::types::FromSql;
use sqlx::{AssertSqlSafe, Decode, Postgres, Sqlite, Type, pool::PoolConnection, postgres::PgRow, sqlite::SqliteRow};
use sqlx::{Row as _, SqlSafeStr, SqlStr, Transaction};
use std::borrow::Cow;
use std::collections::HashSet;
use std::future::{Future, ready};
use std::pin::Pin;
use tokio::sync::OwnedMutexGuard;

/// Most parameters of a statement; SQLite allows 32766.
const PARAMETERS_MAX: usize = 16_384;
/// Rows a statement of [`Session::bulk`] may have: few sizes, so that few statements are prepared.
const CHUNKS: [usize; 5] = [256, 64, 16, 4, 1];

/// A read connection or a write transaction.
pub enum Session {
    SqliteRead(PoolConnection<Sqlite>),
    SqliteWrite {
        transaction: Transaction<'static, Sqlite>,
        /// Among all who write; ends after the transaction.
        turn: OwnedMutexGuard<()>,
    },
    SqliteDirect(direct::Session),
    PostgresRead(PoolConnection<Postgres>),
    PostgresWrite(Transaction<'static, Postgres>),
}

/// A value on its way into a statement, mostly somebody else's.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Arg<'a> {
    Int(i64),
    Bool(bool),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
}

/// A row of an answer.
pub enum Row {
    Sqlite(SqliteRow),
    SqliteDirect(direct::Row),
    Postgres(PgRow),
}

/// What a column can be read as, on both databases.
pub trait Column:
    FromSql + for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}
impl<T> Column for T where
    T: FromSql + for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

/// The arguments of a statement, in the order of its placeholders.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::Arg::from($value)),*] };
}
pub(crate) use args;

/// A text that stands for itself in a pattern of `LIKE ... ESCAPE '\'`.
pub fn like_literal(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// Runs the same call on whichever connection the session holds, its arguments bound.
macro_rules! on {
    ($session:expr, $sql:expr, $arguments:expr, $method:ident, $direct:ident, $wrap_direct:expr, $wrap_sqlite:expr, $wrap_postgres:expr) => {
        match $session {
            Session::SqliteDirect(session) => {
                session.$direct($sql.as_str(), std::iter::once(&$arguments[..])).map($wrap_direct)
            }
            Session::SqliteRead(connection) => {
                bound!(Sqlite, $sql, $arguments).$method(&mut **connection).await.map($wrap_sqlite)
            }
            Session::SqliteWrite { transaction, .. } => {
                bound!(Sqlite, $sql, $arguments).$method(&mut **transaction).await.map($wrap_sqlite)
            }
            Session::PostgresRead(connection) => {
                bound!(Postgres, $sql, $arguments).$method(&mut **connection).await.map($wrap_postgres)
            }
            Session::PostgresWrite(transaction) => {
                bound!(Postgres, $sql, $arguments).$method(&mut **transaction).await.map($wrap_postgres)
            }
        }
    };
}
macro_rules! bound {
    ($database:ident, $sql:expr, $arguments:expr) => {{
        let mut query = sqlx::query::<$database>($sql);
        for argument in $arguments {
            query = match argument {
                Arg::Int(value) => query.bind(value),
                Arg::Bool(value) => query.bind(value),
                Arg::Text(value) if value.contains('\0') => query.bind(without_nul(&value)),
                Arg::Text(value) => query.bind(value.into_owned()),
                Arg::Bytes(value) => query.bind(value.into_owned()),
            };
        }
        query
    }};
}

impl Session {
    /// Runs a statement; the number of rows it changed.
    pub async fn execute(&mut self, sql: &'static str, arguments: Vec<Arg<'_>>) -> Result<u64, sqlx::Error> {
        self.run(sql.into_sql_str(), arguments).await
    }

    pub async fn rows(&mut self, sql: &'static str, arguments: Vec<Arg<'_>>) -> Result<Vec<Row>, sqlx::Error> {
        self.select(sql.into_sql_str(), arguments).await
    }

    pub async fn row(&mut self, sql: &'static str, arguments: Vec<Arg<'_>>) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.rows(sql, arguments).await?.pop())
    }

    /// Rows whose key is in a list: `head` ends before the list's `(`, `tail` follows its `)`. The list's placeholders
    /// come first, `arguments` after them: the tail's numbers begin at `$257`.
    pub async fn rows_in<'a>(
        &mut self,
        head: &str,
        keys: impl IntoIterator<Item = &'a str>,
        tail: &str,
        arguments: &[Arg<'_>],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let keys: Vec<Arg<'_>> = keys.into_iter().map(Arg::from).collect();
        if let Self::SqliteDirect(session) = self {
            return here_in(session, head, &keys, tail, LATER, arguments);
        }
        let mut rows = Vec::new();
        for chunk in keys.chunks(CHUNKS[0]) {
            let (sql, bound) = with_list(head, chunk, tail, arguments);
            rows.extend(self.select(sql, bound).await?);
        }
        Ok(rows)
    }

    /// Rows whose key is in a list of values of any kind: `head` ends before the list's `(`.
    pub async fn rows_among(&mut self, head: &str, keys: Vec<Arg<'_>>) -> Result<Vec<Row>, sqlx::Error> {
        if let Self::SqliteDirect(session) = self {
            return here_in(session, head, &keys, "", LATER, &[]);
        }
        let mut rows = Vec::new();
        for chunk in keys.chunks(CHUNKS[0]) {
            let (sql, bound) = with_list(head, chunk, "", &[]);
            rows.extend(self.select(sql, bound).await?);
        }
        Ok(rows)
    }

    /// Rows whose key is in a list: `head` ends before the list's `(` and has the first of the placeholders, for `first`.
    pub async fn rows_beside<'a>(
        &mut self,
        head: &str,
        first: &str,
        keys: impl IntoIterator<Item = &'a str>,
        tail: &str,
    ) -> Result<Vec<Row>, sqlx::Error> {
        let keys: Vec<Arg<'_>> = keys.into_iter().map(Arg::from).collect();
        if let Self::SqliteDirect(session) = self {
            return here_in(session, head, &keys, tail, BESIDE, &[Arg::from(first)]);
        }
        let mut rows = Vec::new();
        for chunk in keys.chunks(CHUNKS[0]) {
            let size = size_of(chunk);
            let sql = format!("{head} ({}) {tail}", placeholders(2, size));
            let bound = std::iter::once(Arg::from(first)).chain(padded(chunk, size).cloned()).collect();
            rows.extend(self.select(AssertSqlSafe(sql).into_sql_str(), bound).await?);
        }
        Ok(rows)
    }

    /// A change of the rows whose key is in a list; the parts as for [`Session::rows_in`].
    pub async fn execute_in<'a>(
        &mut self,
        head: &str,
        keys: impl IntoIterator<Item = &'a str>,
        tail: &str,
        arguments: &[Arg<'_>],
    ) -> Result<u64, sqlx::Error> {
        let keys: Vec<Arg<'_>> = keys.into_iter().map(Arg::from).collect();
        if let Self::SqliteDirect(session) = self {
            return session.run(&with_key(head, LATER, tail), each(&keys, LATER, arguments));
        }
        let mut changed = 0;
        for chunk in keys.chunks(CHUNKS[0]) {
            let (sql, bound) = with_list(head, chunk, tail, arguments);
            changed += self.run(sql, bound).await?;
        }
        Ok(changed)
    }

    /// Many rows in few statements: `head` ends before `VALUES`, `tail` follows it. The number of rows changed.
    pub async fn bulk(&mut self, head: &str, rows: Vec<Vec<Arg<'_>>>, tail: &str) -> Result<u64, sqlx::Error> {
        if let Self::SqliteDirect(session) = self {
            return session.run_each(head, rows.into_iter(), tail);
        }
        let Some(columns) = rows.first().map(Vec::len) else { return Ok(0) };
        // SQLite looks each name up in the list of all: without names ten thousand values cost no square of that.
        let numbered = matches!(self, Self::PostgresRead(_) | Self::PostgresWrite(_));
        let mut changed = 0;
        let mut left = rows.into_iter().peekable();
        let mut count = left.len();
        while count > 0 {
            let fits = |size: &usize| *size <= count && size * columns <= PARAMETERS_MAX;
            let size = CHUNKS.iter().copied().find(fits).unwrap_or(1);
            let tuple = |row: usize| match numbered {
                true => placeholders(row * columns + 1, columns),
                false => vec!["?"; columns].join(","),
            };
            let tuples: Vec<String> = (0..size).map(|row| format!("({})", tuple(row))).collect();
            let bound: Vec<Arg<'_>> = left.by_ref().take(size).flatten().collect();
            let sql = format!("{head} VALUES {} {tail}", tuples.join(","));
            changed += self.run(AssertSqlSafe(sql).into_sql_str(), bound).await?;
            count -= size;
        }
        Ok(changed)
    }

    /// A change of rows that each name themselves: by `each` where a statement costs no way, else by `head` and `tail` around all of
    /// them, which SQLite would keep in a table of their own first.
    pub async fn change_each(
        &mut self,
        each: &str,
        head: &str,
        rows: Vec<Vec<Arg<'_>>>,
        tail: &str,
    ) -> Result<u64, sqlx::Error> {
        match self {
            Self::SqliteDirect(session) => session.run(each, rows.into_iter()),
            _ => self.bulk(head, rows, tail).await,
        }
    }

    /// Whether the transaction keeps everybody else from writing from its beginning on.
    pub fn writes_alone(&self) -> bool {
        matches!(self, Self::SqliteDirect(session) if session.writes())
    }

    /// The same for rows that are large: where a statement costs no way each is made when its turn comes, and all at once need no memory.
    pub fn bulk_each<'a>(
        &'a mut self,
        head: &'a str,
        rows: impl Iterator<Item = Vec<Arg<'a>>>,
        tail: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<u64, sqlx::Error>> + Send + 'a>> {
        if let Self::SqliteDirect(session) = self {
            return Box::pin(ready(session.run_each(head, rows, tail)));
        }
        let rows = rows.collect();
        Box::pin(self.bulk(head, rows, tail))
    }

    /// A statement put together from parts of this crate, for searches with optional conditions.
    pub async fn rows_of(&mut self, sql: String, arguments: Vec<Arg<'_>>) -> Result<Vec<Row>, sqlx::Error> {
        self.select(AssertSqlSafe(sql).into_sql_str(), arguments).await
    }

    /// A change put together from parts of this crate: which columns it names depends on what was asked.
    pub async fn execute_of(&mut self, sql: String, arguments: Vec<Arg<'_>>) -> Result<u64, sqlx::Error> {
        self.run(AssertSqlSafe(sql).into_sql_str(), arguments).await
    }

    /// Or else PostgreSQL, for the few statements of which each has its own.
    pub fn is_sqlite(&self) -> bool {
        !matches!(self, Self::PostgresRead(_) | Self::PostgresWrite(_))
    }

    /// For a transaction that looks for many rows by their keys, in tables that grow meanwhile: PostgreSQL, which has not counted them
    /// yet, would walk them. SQLite goes by keys anyway.
    pub async fn go_by_keys(&mut self) -> Result<(), sqlx::Error> {
        if let Self::PostgresWrite(_) = self {
            self.execute("SET LOCAL enable_seqscan = off", Vec::new()).await?;
        }
        Ok(())
    }

    /// Makes a write durable. On a read session nothing.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::SqliteWrite { transaction, turn } => {
                let done = transaction.commit().await;
                drop(turn);
                done
            }
            Self::SqliteDirect(session) => session.commit(),
            Self::PostgresWrite(transaction) => transaction.commit().await,
            Self::SqliteRead(_) | Self::PostgresRead(_) => Ok(()),
        }
    }

    async fn run(&mut self, sql: SqlStr, arguments: Vec<Arg<'_>>) -> Result<u64, sqlx::Error> {
        on!(self, sql, arguments, execute, run, |changed| changed, |done| done.rows_affected(), |done| done
            .rows_affected())
    }

    async fn select(&mut self, sql: SqlStr, arguments: Vec<Arg<'_>>) -> Result<Vec<Row>, sqlx::Error> {
        on!(
            self,
            sql,
            arguments,
            fetch_all,
            select,
            |rows| rows.into_iter().map(Row::SqliteDirect).collect(),
            |rows| rows.into_iter().map(Row::Sqlite).collect(),
            |rows| rows.into_iter().map(Row::Postgres).collect()
        )
    }
}

/// Where a list's key stands, and from which number on the other arguments.
type Numbers = (usize, usize);
const LATER: Numbers = (1, CHUNKS[0] + 1);
const BESIDE: Numbers = (2, 1);

/// Where a statement costs no way, each key has its own: nothing is put together, and few are prepared.
fn here_in(
    session: &mut direct::Session,
    head: &str,
    keys: &[Arg<'_>],
    tail: &str,
    numbers: Numbers,
    arguments: &[Arg<'_>],
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = session.select(&with_key(head, numbers, tail), each(keys, numbers, arguments))?;
    Ok(rows.into_iter().map(Row::SqliteDirect).collect())
}

fn with_key(head: &str, (place, _): Numbers, tail: &str) -> String {
    format!("{head} (${place}) {tail}")
}

/// A key twice finds a row once, as in a list.
fn each<'a>(
    keys: &'a [Arg<'a>],
    (place, others): Numbers,
    arguments: &'a [Arg<'a>],
) -> impl Iterator<Item = direct::Key<'a>> {
    let mut met = HashSet::with_capacity(keys.len());
    let once = keys.iter().filter(move |key| met.insert(*key));
    once.map(move |key| direct::Key { key, place, others, arguments })
}

/// PostgreSQL holds no NUL; as another sign it is equal to nothing that is stored.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The list is padded with its last key to a size that is prepared already; a key twice in a list finds a row once.
fn with_list<'a>(head: &str, keys: &[Arg<'a>], tail: &str, arguments: &[Arg<'a>]) -> (SqlStr, Vec<Arg<'a>>) {
    let size = if arguments.is_empty() { size_of(keys) } else { CHUNKS[0] };
    let bound = padded(keys, size).chain(arguments).cloned().collect();
    (AssertSqlSafe(format!("{head} ({}) {tail}", placeholders(1, size))).into_sql_str(), bound)
}

/// The size of a list that holds so many.
fn size_of(keys: &[Arg<'_>]) -> usize {
    CHUNKS.iter().rev().copied().find(|size| *size >= keys.len()).unwrap_or(CHUNKS[0])
}

fn padded<'k, 'a>(keys: &'k [Arg<'a>], size: usize) -> impl Iterator<Item = &'k Arg<'a>> {
    keys.iter().chain(std::iter::repeat_n(keys.last(), size).flatten()).take(size)
}

fn placeholders(first: usize, count: usize) -> String {
    let mut list = String::with_capacity(count * 5);
    for place in first..first + count {
        if place > first {
            list.push(',');
        }
        list.push('$');
        list.push_str(&place.to_string());
    }
    list
}

impl Row {
    /// A column by its name.
    pub fn get<T: Column>(&self, column: &str) -> Result<T, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::SqliteDirect(row) => row.get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    /// A number that is never negative in the database.
    pub fn unsigned(&self, column: &str) -> Result<u64, sqlx::Error> {
        Ok(u64::try_from(self.get::<i64>(column)?).unwrap_or(0))
    }
}

impl From<i64> for Arg<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<u32> for Arg<'_> {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<u64> for Arg<'_> {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}
impl From<bool> for Arg<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}
impl<'a> From<&'a str> for Arg<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value.into())
    }
}
impl<'a> From<&'a String> for Arg<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value.into())
    }
}
impl From<String> for Arg<'_> {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}
impl<'a> From<&'a [u8]> for Arg<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(value.into())
    }
}
impl From<Vec<u8>> for Arg<'_> {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value.into())
    }
}
