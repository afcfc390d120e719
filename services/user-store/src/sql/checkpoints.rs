//! What commits have written to SQLite's write-ahead log is carried into the database beside them, on a thread of its own: whoever
//! commits would have to wait for it otherwise, each time the log has grown long, and every login behind it.
//!
//! The log alone makes a commit durable (V-70). Should this thread be too slow, or gone, the one who commits does its work after all
//! (`wal_autocheckpoint`).

use super::direct::failed;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Rows that are changed between two times.
const ROWS: u64 = 4_000;
/// A log that grows meanwhile is carried on so often before the next wake.
const ROUNDS: usize = 3;

/// Stops when it is dropped, after what it has begun.
pub struct Checkpoints {
    wake: SyncSender<()>,
    stopping: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Tells it what a connection commits.
pub struct Committed {
    wake: SyncSender<()>,
    told: u64,
}

impl Checkpoints {
    pub fn start(path: &Path, busy: Duration) -> std::io::Result<Self> {
        // One that is not taken yet is as good as two.
        let (wake, woken) = sync_channel(1);
        let stopping = Arc::new(AtomicBool::new(false));
        let (path, told) = (path.to_owned(), stopping.clone());
        let thread = std::thread::Builder::new().name("store-wal".into());
        let thread = thread.spawn(move || run(&path, busy, &woken, &told))?;
        Ok(Self { wake, stopping, thread: Mutex::new(Some(thread)) })
    }

    pub fn committed(&self) -> Committed {
        Committed { wake: self.wake.clone(), told: 0 }
    }

    /// Has the file to itself no more when it returns.
    pub fn stop(&self) {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.stopping.store(true, Ordering::Release);
        // Full: it wakes anyway.
        let _ = self.wake.try_send(());
        if thread.join().is_err() {
            tracing::error!("the thread that carries SQLite's write-ahead log into the database has panicked");
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Committed {
    /// `changed` is how many rows the connection has changed since it was opened.
    pub fn tell(&mut self, changed: u64) {
        if changed - self.told >= ROWS {
            self.told = changed;
            // Full: it knows. Gone: whoever commits does its work.
            let _ = self.wake.try_send(());
        }
    }
}

fn run(path: &Path, busy: Duration, woken: &Receiver<()>, stopping: &AtomicBool) {
    let mut connection = None;
    while woken.recv().is_ok() && !stopping.load(Ordering::Acquire) {
        if let Err(error) = carry(&mut connection, path, busy) {
            tracing::warn!(path = %path.display(), error = %error, "SQLite's write-ahead log cannot be carried into the database");
            connection = None;
        }
    }
}

fn carry(kept: &mut Option<Connection>, path: &Path, busy: Duration) -> Result<(), sqlx::Error> {
    let connection = match kept.take() {
        Some(connection) => connection,
        None => {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
            connection.busy_timeout(busy).map_err(failed)?;
            // V-70: the database is on the disk before the log begins anew.
            connection.execute_batch("PRAGMA synchronous = FULL").map_err(failed)?;
            connection
        }
    };
    let connection = kept.insert(connection);
    for _ in 0..ROUNDS {
        let both = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (long, carried) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], both).map_err(failed)?;
        if carried >= long {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::sql::{Database, StoreSection, args};
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn what_is_committed_reaches_the_database_long_before_a_commit_has_to_see_to_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("store.db");
        let section = StoreSection::new(
            &format!("sqlite:{}", file.display()),
            &dir.path().join("master.key").display().to_string(),
        );
        let database = Database::open(&section.expect("a section")).await.expect("a store");
        let length = || std::fs::metadata(&file).expect("the file").len();
        let before = length();
        let mut session = database.write_direct().await.expect("write directly");
        let long = "x".repeat(200);
        let rows = (0..super::ROWS as i64).map(|n| args![format!("{n} {long}"), true, n]).collect();
        session.bulk("INSERT INTO learned (client, sends, learned_ms)", rows, "").await.expect("inserted");
        session.commit().await.expect("committed");
        let begun = Instant::now();
        // A fifth of the 16,000 pages at which whoever commits would do it.
        while length() < before + super::ROWS * 200 {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{} octets of {before} are still what there is",
                length()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        database.close().await;
        assert!(!file.with_extension("db-wal").exists(), "nobody has it open any more");
    }
}
