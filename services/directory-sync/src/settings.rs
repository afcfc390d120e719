//! This part's copy of the settings, and the directories that are read: fetched from the store, kept current by the bus and, as a
//! safety net, by asking. A document that cannot be read changes nothing: the last good one stays in force.

use crate::metrics::Metrics;
use directory::{Directories, Directory, Options, OtherDomains};
use domain::settings::{Preset, Settings, SyncItem};
use domain::{ObjectName, Secret};
use proto::subjects::SETTINGS_CHANGED;
use proto::user_store::settings_server::Settings as SettingsPort;
use proto::user_store::{FetchReply, FetchRequest};
use service_kit::bus::{Bus, Subscription};
use service_kit::chain;
use service_kit::grpc::{idempotent, with_deadline};
use service_kit::health::{Condition, Upstream};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A lost message of the bus costs this much.
const POLL: Duration = Duration::from_secs(5);
const FETCH_LIMIT: Duration = Duration::from_secs(5);

/// The copy and what keeps it current.
pub(crate) struct CurrentSettings {
    port: Arc<dyn SettingsPort>,
    /// `None` until the store has answered.
    current: watch::Sender<Option<Arc<Snapshot>>>,
    directories: Directories,
    /// Directories that cannot be used, and why.
    refused: Mutex<HashMap<ObjectName, String>>,
    metrics: Metrics,
    ready: Condition,
    upstream: Upstream,
    /// One revision is taken up at a time: many ask before their runs.
    taking_up: Mutex<()>,
}

/// One revision of the settings.
pub(crate) struct Snapshot {
    revision: u64,
    pub(crate) settings: Settings,
}

impl Snapshot {
    /// With the items of a directory as somebody would have them (FS-12).
    pub(crate) fn drafted(&self, directory: &ObjectName, items: &[SyncItem]) -> Self {
        let mut settings = self.settings.clone();
        settings.sync_items.retain(|item| item.directory != *directory);
        settings.sync_items.extend(items.iter().filter(|item| item.directory == *directory).cloned());
        Self { revision: self.revision, settings }
    }
}

impl CurrentSettings {
    pub(crate) fn new(port: Arc<dyn SettingsPort>, metrics: Metrics, ready: Condition, upstream: Upstream) -> Self {
        // Reading has connections of its own; one more says how the directory fares.
        let directories = Directories::new(Options { query_connections: 1, ..Options::default() });
        let (current, refused, taking_up) = (watch::Sender::new(None), Mutex::default(), Mutex::default());
        Self { port, current, directories, refused, metrics, ready, upstream, taking_up }
    }

    pub(crate) fn current(&self) -> Option<Arc<Snapshot>> {
        self.current.borrow().clone()
    }

    /// Tells of every later revision.
    pub(crate) fn changes(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.current.subscribe()
    }

    /// The directory to read, or one sentence why there is none.
    pub(crate) fn directory(&self, name: &ObjectName) -> Result<Arc<Directory>, String> {
        self.directories.named(name.as_str()).ok_or_else(|| {
            let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.get(name).cloned().unwrap_or_else(|| format!("there is no directory {name}"))
        })
    }

    /// The other domains that this directory lists (FD-02), or why nobody can say which those are.
    pub(crate) async fn other_domains(&self, home: &Arc<Directory>) -> Result<OtherDomains, String> {
        self.directories.other_domains(home).await.map_err(|error| chain(&error))
    }

    /// Keeps the copy current for as long as the process lives.
    pub(crate) async fn keep_current(self: Arc<Self>, bus: Arc<dyn Bus>) {
        let mut changes: Option<Subscription> = None;
        loop {
            if changes.is_none() {
                changes = bus.subscribe(SETTINGS_CHANGED).await.ok();
            }
            self.refresh().await;
            // Cancel safety: a message of the bus only says that something changed; the poll finds it too.
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                heard = heard(&mut changes) => if heard.is_none() { changes = None },
            }
        }
    }

    /// Asks the store for what is newer. Before a run, so that it runs by what was saved just before it was asked for.
    pub(crate) async fn refresh(&self) {
        let known_revision = self.revision();
        let request = with_deadline(idempotent(FetchRequest { known_revision }), FETCH_LIMIT);
        let asked = Instant::now();
        match tokio::time::timeout(FETCH_LIMIT, self.port.fetch(request)).await {
            Ok(Ok(reply)) => {
                self.upstream.up(asked.elapsed());
                self.take_up(known_revision, reply.into_inner());
            }
            Ok(Err(status)) => self.away(&format!("code {:?}", status.code())),
            Err(_) => self.away("no answer in time"),
        }
    }

    fn away(&self, error: &str) {
        self.upstream.down(error);
        tracing::warn!(error, "settings cannot be fetched");
    }

    fn revision(&self) -> u64 {
        self.current.borrow().as_ref().map_or(0, |snapshot| snapshot.revision)
    }

    fn take_up(&self, known_revision: u64, reply: FetchReply) {
        let _alone = self.taking_up.lock().unwrap_or_else(PoisonError::into_inner);
        if reply.unchanged || is_overtaken(known_revision, self.revision(), reply.revision) {
            return;
        }
        let settings: Settings = match serde_json::from_str(&reply.settings_json) {
            Ok(settings) => settings,
            Err(error) => {
                // A newer store may know keys that we do not.
                tracing::error!(revision = reply.revision, %error, "settings of this revision cannot be read");
                return;
            }
        };
        let refused = self.directories.replace(wanted(&settings, reply.secrets));
        for refused in &refused {
            tracing::error!(directory = %refused.name, error = %chain(refused), "directory cannot be used");
        }
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) =
            refused.into_iter().map(|refused| (refused.name.clone(), chain(&refused))).collect();
        tracing::info!(event = "settings_taken_up", revision = reply.revision, "settings are in force");
        self.metrics.settings_in_force(reply.revision);
        self.current.send_replace(Some(Arc::new(Snapshot { revision: reply.revision, settings })));
        self.ready.set_ready(true);
    }
}

/// The directories that an item reads, with their passwords, and those that have a say in whose the people of other domains are; to others
/// nothing is connected.
fn wanted(
    settings: &Settings,
    mut secrets: HashMap<String, proto::common::Secret>,
) -> Vec<(domain::settings::Directory, Option<Secret>)> {
    let is_read =
        |name: &ObjectName| settings.sync_items.iter().any(|item| item.is_read(true) && item.directory == *name);
    let mut directories = settings.directories.iter();
    let of_others = directories.any(|directory| directory.includes_trusted_domains() && is_read(&directory.name));
    // One may be such a domain, or list it before another does (FD-02).
    let has_a_say = |preset: Preset| of_others && preset == Preset::ActiveDirectory;
    let directories =
        settings.directories.iter().filter(|directory| is_read(&directory.name) || has_a_say(directory.preset));
    directories
        .map(|directory| {
            let password = secrets.remove(&directory.sync_password_name());
            (directory.as_synchronised(), password.map(Secret::from))
        })
        .collect()
}

async fn heard(changes: &mut Option<Subscription>) -> Option<()> {
    match changes {
        Some(changes) => changes.next().await.map(drop),
        None => std::future::pending().await,
    }
}

/// Was another answer taken up meanwhile that is no older? A store that was put back is older than what was known when it was asked.
fn is_overtaken(known_when_asked: u64, known_now: u64, told: u64) -> bool {
    known_now != known_when_asked && told <= known_now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_late_brings_no_older_settings_back() {
        for (asked, now, told, expected) in
            [(1, 1, 2, false), (1, 3, 2, true), (1, 2, 2, true), (1, 2, 3, false), (5, 5, 2, false), (0, 0, 0, false)]
        {
            assert_eq!(is_overtaken(asked, now, told), expected, "asked with {asked}, has {now}, is told {told}");
        }
    }

    #[test]
    fn who_may_be_another_domain_is_known_also_where_nothing_is_read_of_it() {
        // FD-02: whose somebody is depends on all domains of the settings
        let names = |trusted_domains: bool| {
            let one = |name: &str, preset: &str, trusted_domains: bool| {
                serde_json::json!({
                    "name": name, "preset": preset, "urls": ["ldaps://dc"], "base": "DC=corp",
                    "query_bind": { "kind": "anonymous" }, "trusted_domains": trusted_domains,
                })
            };
            let settings: Settings = serde_json::from_value(serde_json::json!({
                "directory": [
                    one("corp", "active_directory", trusted_domains),
                    one("child", "active_directory", false),
                    one("old", "openldap", false),
                ],
                "sync_item": [{ "name": "all", "directory": "corp", "source": { "kind": "domain" } }],
            }))
            .expect("valid");
            let wanted = wanted(&settings, HashMap::new()).into_iter();
            wanted.map(|(directory, _)| directory.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(true), ["corp", "child"]);
        assert_eq!(names(false), ["corp"]);
    }
}
