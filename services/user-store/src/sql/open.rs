//! Opening the database: pools, migrations, and one node at a time while it happens.

use super::checkpoints::Checkpoints;
use super::{Session, direct};
use serde::Deserialize;
use service_kit::config::InputFile;
use service_kit::secret::{KeyFile, SecretFile};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, Connection};
use std::sync::{Arc, PoisonError};
use std::{path::PathBuf, str::FromStr, time::Duration};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

/// The name of our lock in PostgreSQL: one node migrates and makes keys at a time.
const OPEN_LOCK: i64 = 0x7477_696e_6c6f_636b; // "twinlock"
/// How long a call waits for a connection before it answers "unavailable".
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a start waits for a database that is not there yet.
const START_PATIENCE: Duration = Duration::from_secs(30);
const READERS: u32 = 4;

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    /// `sqlite:/path/to/file` or `postgres://user@host:5432/database`; the password stands in `password_file`.
    #[serde(default)]
    pub url: StoreUrl,
    /// Seals every secret in the store. Made at the first start of an empty store; without it the store is of no use.
    #[serde(default = "master_key_file")]
    pub master_key_file: KeyFile,
    /// PostgreSQL: the role's password.
    #[serde(default)]
    pub password_file: Option<SecretFile>,
    /// PostgreSQL: who signs the server's certificate; makes a verified certificate a must.
    #[serde(default)]
    pub ca_file: Option<InputFile>,
    /// PostgreSQL: connections of this process, 2-200.
    #[serde(default = "connections")]
    pub connections: u32,
    /// PostgreSQL: the schema that holds the tables, and nothing else.
    #[serde(default = "schema")]
    pub schema: String,
}

impl StoreSection {
    /// A section with everything but the two keys that have no use without the other at its default.
    pub fn new(url: &str, master_key_file: &str) -> Result<Self, String> {
        Ok(Self {
            url: StoreUrl::try_from(url.to_owned())?,
            master_key_file: KeyFile::try_from(master_key_file.to_owned())?,
            password_file: None,
            ca_file: None,
            connections: connections(),
            schema: schema(),
        })
    }
}

impl Default for StoreSection {
    fn default() -> Self {
        Self::new("sqlite:/var/lib/twinlock/twinlock.db", "/var/lib/twinlock/master.key")
            .expect("the default address is one, and its key file is checked when the store opens")
    }
}

fn master_key_file() -> KeyFile {
    StoreSection::default().master_key_file
}
fn connections() -> u32 {
    16
}
fn schema() -> String {
    "twinlock".into()
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum StoreUrl {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Default for StoreUrl {
    fn default() -> Self {
        Self::Sqlite("/var/lib/twinlock/twinlock.db".into())
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        const ALLOWED: &str = "allowed: sqlite:/path/to/file, or postgres://user@host:5432/database";
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(format!("the path is empty; {ALLOWED}"))
            } else {
                Ok(Self::Sqlite(path.into()))
            };
        }
        let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) else {
            return Err(format!("found an address of another kind; {ALLOWED}"));
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let password =
            authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) || rest.contains("password=");
        match password {
            true => {
                Err(format!("the address holds a password; put it into the file of store.password_file; {ALLOWED}"))
            }
            false => Ok(Self::Postgres(text)),
        }
    }
}

/// The store cannot be opened. Each text is one sentence for the person who starts the process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("the database {database} cannot be opened")]
    Database {
        database: String,
        #[source]
        cause: sqlx::Error,
    },
    #[error("the tables of {database} cannot be brought to this version")]
    Migrate {
        database: String,
        #[source]
        cause: sqlx::migrate::MigrateError,
    },
    #[error("store.schema: found {found:?}; allowed are 1 to 40 of a-z 0-9 _")]
    Schema { found: String },
    #[error("the master key cannot be used")]
    MasterKey(#[from] service_kit::secret::SecretError),
    /// Never answered with a new key: it would open nothing.
    #[error("the master key file {} is missing, but the store holds data sealed with it; restore the file from your backup", path.display())]
    MasterKeyMissing { path: PathBuf },
    #[error("the master key file {} does not hold the key this store was sealed with; restore the right file", path.display())]
    WrongMasterKey { path: PathBuf },
    #[error("the store holds no keys although it holds data; restore it from your backup")]
    KeysMissing,
    #[error("the key that signs the audit cannot be opened; restore the store and its master key from your backup")]
    Signer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the database took too long to answer while the store was opened; start again")]
    Slow,
    #[error("the settings in the store cannot be read; were they written by a newer version?")]
    Settings(#[source] serde_json::Error),
}

/// Work that was to go on for ever ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("its task panicked, or could not begin")]
pub struct Panicked;

/// A pool of connections to one of the two.
#[derive(Clone)]
pub enum Database {
    Sqlite(Sqlite),
    Postgres(PgPool),
}

#[derive(Clone)]
pub struct Sqlite {
    write: SqlitePool,
    read: SqlitePool,
    /// For threads that may wait.
    write_direct: direct::Home,
    read_direct: direct::Home,
    /// Whoever writes has it.
    turn: Arc<Mutex<()>>,
    checkpoints: Arc<Checkpoints>,
}

impl Sqlite {
    async fn turn(&self) -> Result<OwnedMutexGuard<()>, sqlx::Error> {
        let turn = tokio::time::timeout(ACQUIRE_TIMEOUT, self.turn.clone().lock_owned()).await;
        turn.map_err(|_| sqlx::Error::PoolTimedOut)
    }
}

impl Database {
    /// Connects and brings the tables to this version.
    pub async fn open(section: &StoreSection) -> Result<Self, OpenError> {
        match &section.url {
            StoreUrl::Sqlite(path) => open_sqlite(path).await,
            StoreUrl::Postgres(url) => open_postgres(url, section).await,
        }
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Session, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(sqlite) => Session::SqliteRead(sqlite.read.acquire().await?),
            Self::Postgres(pool) => Session::PostgresRead(pool.acquire().await?),
        })
    }

    /// A transaction. On SQLite it is the only one at a time, from its beginning.
    pub async fn write(&self) -> Result<Session, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(sqlite) => {
                let turn = sqlite.turn().await?;
                Session::SqliteWrite { transaction: sqlite.write.begin_with("BEGIN IMMEDIATE").await?, turn }
            }
            Self::Postgres(pool) => Session::PostgresWrite(pool.begin().await?),
        })
    }

    /// Runs work that reads and writes [directly](Self::read_direct): on SQLite on a thread of its own. Ends with it; an error, if it panics.
    pub async fn apart<F>(&self, name: &'static str, work: F) -> Result<(), Panicked>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self {
            Self::Sqlite(_) => {
                let (ended, end) = oneshot::channel();
                let runtime = tokio::runtime::Handle::current();
                let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
                    runtime.block_on(work);
                    // Nobody waits for a process that is over.
                    let _ = ended.send(());
                });
                thread.map_err(|_| Panicked)?;
                end.await.map_err(|_| Panicked)
            }
            Self::Postgres(_) => tokio::spawn(work).await.map_err(|_| Panicked),
        }
    }

    /// The same for work that ends soon, and for what it says: on a thread that others had before. Dropped meanwhile, the work goes on
    /// to its end.
    pub async fn briefly_apart<F>(&self, work: F) -> Result<F::Output, Panicked>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let done = match self {
            Self::Sqlite(_) => {
                let runtime = tokio::runtime::Handle::current();
                tokio::task::spawn_blocking(move || runtime.block_on(work)).await
            }
            Self::Postgres(_) => tokio::spawn(work).await,
        };
        done.map_err(|_| Panicked)
    }

    /// How many readings [directly](Self::read_direct) go on at the same time.
    pub fn readings(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(_) => 2,
        }
    }

    /// A connection for reading, of work that is [`apart`](Self::apart). On SQLite there is one, and it reads what is committed now.
    pub async fn read_direct(&self) -> Result<Session, sqlx::Error> {
        match self {
            Self::Sqlite(sqlite) => match direct::Session::begin(&sqlite.read_direct, None)? {
                Some(session) => Ok(Session::SqliteDirect(session)),
                None => self.read().await,
            },
            Self::Postgres(_) => self.read().await,
        }
    }

    /// A transaction, of work that is [`apart`](Self::apart).
    pub async fn write_direct(&self) -> Result<Session, sqlx::Error> {
        match self {
            Self::Sqlite(sqlite) => {
                let session = direct::Session::begin(&sqlite.write_direct, Some(sqlite.turn().await?))?;
                session.map(Session::SqliteDirect).ok_or(sqlx::Error::PoolClosed)
            }
            Self::Postgres(_) => self.write().await,
        }
    }

    /// Has PostgreSQL count what stands in tables that have just grown a lot: until it does, it goes by guesses, and walks them. SQLite
    /// goes by the tables' form.
    pub async fn count(&self, tables: &[&'static str]) -> Result<(), sqlx::Error> {
        let Self::Postgres(_) = self else { return Ok(()) };
        let mut session = self.write().await?;
        session.execute_of(format!("ANALYZE {}", tables.join(", ")), Vec::new()).await?;
        session.commit().await
    }

    /// The only writer among all nodes until it ends: for what is made once.
    pub async fn write_alone(&self) -> Result<Session, sqlx::Error> {
        let mut session = self.write().await?;
        if let Session::PostgresWrite(_) = session {
            session.rows("SELECT pg_advisory_xact_lock($1)::TEXT AS locked", super::args![OPEN_LOCK]).await?;
        }
        Ok(session)
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite(Sqlite { write, read, write_direct, read_direct, turn: _, checkpoints }) => {
                checkpoints.stop();
                drop(read_direct.lock().unwrap_or_else(PoisonError::into_inner).take());
                drop(write_direct.lock().unwrap_or_else(PoisonError::into_inner).take());
                read.close().await;
                write.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// What every connection to SQLite begins with.
const SETTINGS: [(&str, &str); 4] = [
    // V-70: FULL, because NORMAL may roll back commits after a power loss.
    ("synchronous", "FULL"),
    ("foreign_keys", "ON"),
    // Pages. Long before that another thread carries them into the database (`checkpoints.rs`).
    ("wal_autocheckpoint", "16000"),
    // What is erased is gone from the file, too.
    ("secure_delete", "ON"),
];
/// Of pages, in KiB: 32 MiB where whole directories are written, since with SQLite's two a first synchronisation reads and writes
/// each page many times over; 2 elsewhere. Each connection has its own.
const CACHE: &str = "-32768";
const CACHE_ELSEWHERE: &str = "-2048";
/// Another process that writes is waited for.
const BUSY: Duration = Duration::from_secs(5);

async fn open_sqlite(path: &std::path::Path) -> Result<Database, OpenError> {
    let database = path.display().to_string();
    let failed = |cause| OpenError::Database { database: database.clone(), cause };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(BUSY);
    let options = SETTINGS.iter().fold(options, |options, (name, value)| options.pragma(*name, *value));
    let options = options.pragma("cache_size", CACHE_ELSEWHERE);
    owner_only(path);
    let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
    let writer = writer.idle_timeout(None).max_lifetime(None).test_before_acquire(false);
    let write = writer.connect_with(options.clone()).await.map_err(failed)?;
    migrate(&mut *write.acquire().await.map_err(failed)?, &database).await?;
    for statements in [include_str!("append_only_sqlite.sql"), include_str!("indexes_sqlite.sql")] {
        sqlx::raw_sql(statements).execute(&write).await.map_err(failed)?;
    }
    let reader = SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(ACQUIRE_TIMEOUT);
    let reader = reader.idle_timeout(None).max_lifetime(None).test_before_acquire(false);
    let read = reader.connect_with(options.read_only(true)).await.map_err(failed)?;
    let checkpoints = Checkpoints::start(path, BUSY).map_err(|error| failed(error.into()))?;
    let direct = |read_only| {
        let cache = ("cache_size", if read_only { CACHE_ELSEWHERE } else { CACHE });
        let settings = SETTINGS.iter().chain([&cache]);
        let settings = settings.map(|(name, value)| format!("PRAGMA {name} = {value};")).collect::<String>();
        let committed = (!read_only).then(|| checkpoints.committed());
        direct::Direct::open(path, BUSY, &settings, committed).map(|it| direct::Home::new(Some(it).into()))
    };
    let (write_direct, read_direct) = (direct(false).map_err(failed)?, direct(true).map_err(failed)?);
    let (turn, checkpoints) = (Arc::default(), Arc::new(checkpoints));
    Ok(Database::Sqlite(Sqlite { write, read, write_direct, read_direct, turn, checkpoints }))
}

/// The file holds names and phone numbers: its owner only, before anything is in it. SQLite gives the files beside it the same
/// mode. Best effort, for a file system without modes; what cannot be opened at all SQLite says.
fn owner_only(path: &std::path::Path) {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let beside = |end: &str| PathBuf::from(format!("{}{end}", path.display()));
    // A file that is there is not opened: closing it would take SQLite's locks of this process off it.
    let made = match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome.map(drop),
    };
    let files = [path.to_owned(), beside("-wal"), beside("-shm")];
    let mut modes = files.iter().filter(|file| file.exists());
    let narrow = |file: &PathBuf| std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600));
    if let Err(error) = made.and_then(|()| modes.try_for_each(narrow)) {
        tracing::warn!(error = %error, "the mode of the database file cannot be set");
    }
}

async fn open_postgres(url: &str, section: &StoreSection) -> Result<Database, OpenError> {
    let allowed = |sign: u8| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == b'_';
    let schema = &section.schema;
    if !(1..=40).contains(&schema.len()) || !schema.bytes().all(allowed) {
        return Err(OpenError::Schema { found: schema.clone() });
    }
    let shown = PgConnectOptions::from_str(url);
    let options = shown.map_err(|cause| OpenError::Database { database: "of store.url".into(), cause })?;
    let database = format!("{} on {}", options.get_database().unwrap_or("postgres"), options.get_host());
    let failed = |cause| OpenError::Database { database: database.clone(), cause };
    let mut options = options.application_name("twinlock-user-store").options([("search_path", schema.as_str())]);
    if let Some(file) = &section.password_file {
        let password = file.read_line()?;
        options = options.password(&String::from_utf8_lossy(password.expose()));
    }
    if let Some(ca) = &section.ca_file {
        options = options.ssl_root_cert(ca.path()).ssl_mode(PgSslMode::VerifyFull);
    }
    let mut first = connect_patiently(&options).await.map_err(failed)?;
    // Held by the connection until it is closed: nodes that start together migrate one after the other.
    sqlx::query("SELECT pg_advisory_lock($1)").bind(OPEN_LOCK + 1).execute(&mut first).await.map_err(failed)?;
    // The schema's name was checked letter by letter above.
    let create = format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut first).await.map_err(failed)?;
    migrate(&mut first, &database).await?;
    sqlx::raw_sql(include_str!("append_only_postgres.sql")).execute(&mut first).await.map_err(failed)?;
    first.close().await.map_err(failed)?;
    let pool = PgPoolOptions::new()
        .max_connections(section.connections.clamp(2, 200))
        // Tested before use: after a restart of the server no call is lost to a connection of before.
        .acquire_timeout(ACQUIRE_TIMEOUT);
    let options = options.options([
        // V-70: an acknowledged commit is on disk, whatever the server's default says.
        ("synchronous_commit", "on"),
        // What the chain's lock makes wait goes on with what the one before has written, whatever the server's default says.
        ("default_transaction_isolation", "read committed"),
        // A node that is frozen in a transaction loses it, so that it does not stop the others (T-30).
        ("idle_in_transaction_session_timeout", "5s"),
        ("lock_timeout", "5s"),
        ("statement_timeout", "30s"),
    ]);
    let pool = pool.connect_with(options).await.map_err(failed)?;
    Ok(Database::Postgres(pool))
}

/// In a cluster the database and its nodes start together: one that is not there yet is waited for, a refusal is not.
async fn connect_patiently(options: &PgConnectOptions) -> Result<sqlx::PgConnection, sqlx::Error> {
    let deadline = tokio::time::Instant::now() + START_PATIENCE;
    loop {
        match sqlx::PgConnection::connect_with(options).await {
            Err(sqlx::Error::Io(cause)) if tokio::time::Instant::now() < deadline => {
                tracing::warn!(error = %cause, "the database does not answer yet");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            outcome => return outcome,
        }
    }
}

async fn migrate<C: sqlx::migrate::Migrate>(connection: &mut C, database: &str) -> Result<(), OpenError> {
    let mut migrations = sqlx::migrate!();
    // While nodes are upgraded one by one, the old ones start on tables that the new ones have brought further.
    migrations.set_ignore_missing(true);
    // Not `run`: its bound on `Acquire` makes the future one that cannot be spawned.
    let done = migrations.run_direct(None, connection, false).await;
    done.map_err(|cause| OpenError::Migrate { database: database.to_owned(), cause })
}
