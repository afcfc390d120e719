//! The order in which a process stops: not ready, a pause for the load balancers, accept nothing new and let what is in work end,
//! refuse what is left, flush, exit. A second signal skips the waiting.
//!
//! ```text
//! SIGTERM -> leaving -> (drain_delay) -> draining -> (tasks end, at most drain_timeout) -> stopping -> (tasks end, 5 s) -> finished
//! ```

use crate::config::ShutdownSection;
use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is still running when everything else was refused gets this long to notice.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Where a process stands on its way out, and the tasks it waits for. Clones are the same thing.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    leaving: CancellationToken,
    hurry: CancellationToken,
    draining: CancellationToken,
    stopping: CancellationToken,
    finished: CancellationToken,
    work: TaskTracker,
    background: TaskTracker,
}

impl Shutdown {
    /// One that nobody has begun yet. A process gets its own from `Process::shutdown`; a test makes one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the shutdown, as SIGTERM does; called again it skips the waiting, as a second SIGTERM does.
    pub fn begin(&self) {
        if self.leaving.is_cancelled() {
            self.hurry.cancel();
        }
        self.leaving.cancel();
    }

    /// Begins unless somebody has; never skips the waiting.
    pub fn begin_once(&self) {
        self.leaving.cancel();
    }

    /// Resolves when the process is leaving: it is not ready any more but still accepts.
    pub async fn leaving(&self) {
        self.leaving.cancelled().await;
    }

    /// Resolves when nothing new may be accepted.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Resolves when what is still in work must be refused.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Resolves when all of it is over.
    pub async fn finished(&self) {
        self.finished.cancelled().await;
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Runs work that a drain waits for: a connection, a login. It ends by itself after `draining`, and at once after `stopping`.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&self, work: F) -> tokio::task::JoinHandle<()> {
        self.work.spawn(work)
    }

    /// Runs what serves the whole process (a watcher, a lease, an eviction loop). A drain does not wait for it; it sees `stopping`
    /// and ends.
    pub fn spawn_background<F: Future<Output = ()> + Send + 'static>(&self, task: F) -> tokio::task::JoinHandle<()> {
        self.background.spawn(task)
    }

    /// Runs a loop that may be dropped at any await; it is, when the process stops.
    pub fn spawn_until_stopping<F: Future<Output = ()> + Send + 'static>(
        &self,
        task: F,
    ) -> tokio::task::JoinHandle<()> {
        let stopping = self.stopping.clone();
        self.background.spawn(async move {
            // Cancel safety: dropping the loop is what its owner asked for.
            tokio::select! { () = stopping.cancelled() => {}, () = task => {} }
        })
    }

    /// Takes the process through all steps, once somebody has begun. Called once, by the process.
    pub async fn sequence(&self, section: &ShutdownSection) {
        self.leaving().await;
        tracing::info!(drain_delay_seconds = section.drain_delay_seconds, "shutdown begun");
        self.pause(Duration::from_secs(section.drain_delay_seconds)).await;
        self.draining.cancel();
        self.work.close();
        let limit = Duration::from_secs(section.drain_timeout_seconds);
        tokio::select! {
            () = self.work.wait() => {}
            () = self.pause(limit) => tracing::warn!(left = self.work.len(), "drain ended before the work did"),
        }
        self.stopping.cancel();
        self.background.close();
        let all = async { tokio::join!(self.work.wait(), self.background.wait()) };
        if tokio::time::timeout(STOP_PATIENCE, all).await.is_err() {
            tracing::warn!(
                work = self.work.len(),
                background = self.background.len(),
                "stopped with tasks still running"
            );
        }
        self.finished.cancel();
    }

    async fn pause(&self, length: Duration) {
        tokio::select! { () = tokio::time::sleep(length) => {}, () = self.hurry.cancelled() => {} }
    }
}
