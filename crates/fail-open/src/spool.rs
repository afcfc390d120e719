//! Events of passes that the store has not taken yet: lines of JSON in one file, each on the disk before its pass is given.
//!
//! Lives through kill -9 and restarts: a last line that was cut off belongs to a pass that was never given, and is removed. What is
//! sent on twice is one event, because the store knows the transaction. Bounded; full is "nowhere to write" (V-40).

use proto::user_store::AuditEvent;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// About twenty thousand passes.
pub(crate) const OCTETS_MAX: u64 = 8 * 1024 * 1024;

/// One file, which one process has to itself. Every method waits for the disk.
#[derive(Clone)]
pub(crate) struct Spool {
    path: Arc<PathBuf>,
    file: Arc<Mutex<Option<File>>>,
}

/// What waits, from the beginning.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) events: Vec<AuditEvent>,
    /// As far as the file was read.
    pub(crate) octets: u64,
}

impl Spool {
    /// The spool of this part in a directory that exists. Opened when first used.
    pub(crate) fn in_directory(directory: &Path, part: &str) -> Self {
        Self { path: Arc::new(directory.join(format!("fail-open.{part}.jsonl"))), file: Arc::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// On the disk when it returns.
    pub(crate) fn append(&self, event: &AuditEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Line::from(event)).map_err(io::Error::other)?;
        line.push(b'\n');
        self.with(|file| {
            let before = file.seek(SeekFrom::End(0))?;
            if before + line.len() as u64 > OCTETS_MAX {
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the spool is full"));
            }
            let written = file.write_all(&line).and_then(|()| file.sync_data());
            if written.is_err() {
                // Half a line in the middle would hide the lines behind it.
                file.set_len(before)?;
            }
            written
        })
    }

    /// Everything that waits, in order.
    pub(crate) fn waiting(&self) -> io::Result<Waiting> {
        self.with(|file| {
            file.seek(SeekFrom::Start(0))?;
            let mut text = Vec::new();
            file.take(OCTETS_MAX).read_to_end(&mut text)?;
            let octets = text.len() as u64;
            let lines = text.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
            let events = lines.filter_map(|line| match serde_json::from_slice::<Line>(line) {
                Ok(line) => Some(line.into()),
                Err(error) => {
                    tracing::error!(error = %error, "a line of the fail-open spool cannot be read");
                    None
                }
            });
            Ok(Waiting { events: events.collect(), octets })
        })
    }

    /// All of what was read has been sent on. False where more has come meanwhile: it is read again from the beginning then, and what is
    /// sent on once more does no harm.
    pub(crate) fn empty(&self, read: u64) -> io::Result<bool> {
        self.with(|file| {
            if file.metadata()?.len() != read {
                return Ok(false);
            }
            file.set_len(0)?;
            file.sync_data()?;
            Ok(true)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let open = match file.take() {
            Some(open) => open,
            None => open(&self.path)?,
        };
        work(file.insert(open))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    // Two processes would tear each other's lines.
    file.try_lock().map_err(|_| io::Error::new(io::ErrorKind::ResourceBusy, "another process has the spool"))?;
    let mut text = Vec::new();
    (&mut file).take(OCTETS_MAX).read_to_end(&mut text)?;
    let complete = text.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
    file.set_len(complete as u64)?;
    file.sync_all()?;
    if let Some(directory) = path.parent() {
        // A new name is on the disk only with its directory.
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}

/// An event as it stands in the file. The names are those of the contract and stay; an unknown one is of a newer version.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    at_unix_ms: i64,
    transaction_id: String,
    client: String,
    protocol: String,
    username: String,
    client_ip: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    calling_station: String,
    kind: String,
    result: String,
    reason: String,
    assurance: String,
    source: String,
}

impl From<&AuditEvent> for Line {
    fn from(event: &AuditEvent) -> Self {
        Self {
            at_unix_ms: event.at_unix_ms,
            transaction_id: event.transaction_id.clone(),
            client: event.client.clone(),
            protocol: event.protocol.clone(),
            username: event.username.clone(),
            client_ip: event.client_ip.clone(),
            calling_station: event.calling_station.clone(),
            kind: event.kind.clone(),
            result: event.result.clone(),
            reason: event.reason.clone(),
            assurance: event.assurance.clone(),
            source: event.source.clone(),
        }
    }
}

impl From<Line> for AuditEvent {
    fn from(line: Line) -> Self {
        Self {
            at_unix_ms: line.at_unix_ms,
            kind: line.kind,
            transaction_id: line.transaction_id,
            client: line.client,
            protocol: line.protocol,
            username: line.username,
            client_ip: line.client_ip,
            calling_station: line.calling_station,
            result: line.result,
            reason: line.reason,
            assurance: line.assurance,
            source: line.source,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn event(transaction: &str) -> AuditEvent {
        AuditEvent {
            at_unix_ms: 1_790_000_000_000,
            kind: "authentication".into(),
            transaction_id: transaction.into(),
            client: "vpn".into(),
            protocol: "radius".into(),
            username: "ann\n{\"x\":1}".into(),
            client_ip: "10.0.4.3".into(),
            result: "bypass".into(),
            reason: "fail_open".into(),
            assurance: "none".into(),
            source: "fail_open".into(),
            ..AuditEvent::default()
        }
    }

    fn transactions(spool: &Spool) -> Vec<String> {
        spool.waiting().expect("readable").events.into_iter().map(|event| event.transaction_id).collect()
    }

    #[test]
    fn what_was_written_is_there_after_a_restart_and_gone_once_it_was_sent_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let spool = Spool::in_directory(directory.path(), "test");
        spool.append(&event("a")).expect("room");
        spool.append(&event("b")).expect("room");
        drop(spool);
        let spool = Spool::in_directory(directory.path(), "test");
        let waiting = spool.waiting().expect("readable");
        assert_eq!(waiting.events, [event("a"), event("b")]);
        spool.append(&event("c")).expect("room");
        assert!(!spool.empty(waiting.octets).expect("writable"), "c has not been sent on");
        assert_eq!(transactions(&spool), ["a", "b", "c"]);
        let waiting = spool.waiting().expect("readable");
        assert!(spool.empty(waiting.octets).expect("writable"));
        assert_eq!(transactions(&spool), Vec::<String>::new());
        assert_eq!(fs::metadata(spool.path()).expect("it is there").len(), 0);
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_removed_and_hides_nothing_behind_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let spool = Spool::in_directory(directory.path(), "test");
        spool.append(&event("a")).expect("room");
        spool.append(&event("b")).expect("room");
        let whole = fs::read(spool.path()).expect("readable");
        let first = whole.iter().position(|octet| *octet == b'\n').expect("two lines") + 1;
        drop(spool);
        for cut in first..whole.len() {
            fs::write(directory.path().join("fail-open.test.jsonl"), &whole[..cut]).expect("writable");
            let spool = Spool::in_directory(directory.path(), "test");
            spool.append(&event("c")).expect("room");
            assert_eq!(transactions(&spool), ["a", "c"], "cut at {cut}");
        }
    }

    #[test]
    fn a_full_spool_and_a_directory_that_cannot_be_written_are_errors() {
        let directory = tempfile::tempdir().expect("a directory");
        let spool = Spool::in_directory(directory.path(), "test");
        let large = AuditEvent { username: "x".repeat(OCTETS_MAX as usize / 2), ..event("a") };
        spool.append(&large).expect("room");
        assert_eq!(spool.append(&large).expect_err("full").kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(transactions(&spool), ["a"], "the refused one left nothing behind");
        let nowhere = Spool::in_directory(&directory.path().join("gone"), "test");
        nowhere.append(&event("a")).expect_err("no such directory");
    }

    #[test]
    fn one_process_has_the_spool_to_itself() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = Spool::in_directory(directory.path(), "test");
        first.append(&event("a")).expect("room");
        let second = Spool::in_directory(directory.path(), "test");
        assert_eq!(second.append(&event("b")).expect_err("taken").kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        second.append(&event("b")).expect("free now");
        assert_eq!(transactions(&second), ["a", "b"]);
    }
}
