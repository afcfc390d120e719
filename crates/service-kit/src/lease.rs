//! Leadership of one among many, as a key of a map that dies unless it is renewed. A lease chooses who works; it does not fence: the
//! store's epoch does.
//!
//! ```text
//! follower -- create --> leader -- update every ttl/3, trusted until 3/4 ttl after the last write was SENT --> lost --> follower
//!     ^--- waits for a delete or for one ttl of silence          `-- drains: deletes its own revision, the next one takes over at once
//! ```

use crate::Shutdown;
use crate::bus::{BusError, Change, Map};
use bytes::Bytes;
use futures::StreamExt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// A place to stand for. The map's time to live must equal `ttl`.
pub struct Lease {
    pub map: Arc<dyn Map>,
    pub key: String,
    /// Who we are, for people who look: it stands in the map.
    pub me: String,
    pub ttl: Duration,
}

/// One term of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The revision under which the lease was taken.
    pub token: u64,
}

impl Lease {
    /// Stands for leadership until the process drains; runs `lead` once a term. The future is dropped when the term is lost or the
    /// process drains; when it ends by itself the lease is given back and stood for again.
    pub async fn run<F, Work>(self, shutdown: Shutdown, mut lead: F)
    where
        F: FnMut(Leadership) -> Work + Send,
        Work: Future<Output = ()> + Send,
    {
        while !shutdown.is_draining() {
            let sent = Instant::now();
            match self.map.create(&self.key, self.mark()).await {
                Ok(token) => {
                    tracing::info!(lease = self.key, token, "lease taken");
                    let work = lead(Leadership { token });
                    self.term(&shutdown, token, sent, work).await;
                }
                Err(BusError::AlreadyExists) => {
                    // Cancel safety: waiting changes nothing.
                    tokio::select! { () = self.wait_for_a_vacancy() => {}, () = shutdown.draining() => {} }
                }
                Err(error) => {
                    tracing::debug!(lease = self.key, error = %crate::chain(&error), "lease not reachable");
                    tokio::select! { () = sleep(self.ttl / 8 + self.jitter()) => {}, () = shutdown.draining() => {} }
                }
            }
        }
    }

    async fn term(&self, shutdown: &Shutdown, token: u64, sent: Instant, work: impl Future<Output = ()>) {
        let revision = AtomicU64::new(token);
        // Cancel safety: the work is dropped on purpose (who comes next begins anew); a renewal that is dropped may have been
        // written, then giving back fails and the lease dies of age.
        let ended_by_itself = tokio::select! {
            why = self.renew(&revision, sent) => {
                tracing::warn!(lease = self.key, why, "lease lost");
                return;
            }
            () = shutdown.draining() => false,
            () = work => true,
        };
        let given_back = self.map.delete(&self.key, revision.load(Ordering::Relaxed)).await.is_ok();
        tracing::info!(lease = self.key, given_back, "lease ended");
        if ended_by_itself {
            // Others first.
            tokio::select! { () = sleep(self.ttl / 2 + self.jitter()) => {}, () = shutdown.draining() => {} }
        }
    }

    /// Holds the lease as long as it can be trusted, by our own clock, counted from before each write was sent.
    async fn renew(&self, revision: &AtomicU64, mut sent: Instant) -> &'static str {
        loop {
            let deadline = sent + self.ttl * 3 / 4;
            sleep_until(sent + self.ttl / 3).await;
            loop {
                let next = Instant::now();
                let known = revision.load(Ordering::Relaxed);
                match timeout_at(deadline, self.map.update(&self.key, self.mark(), known)).await {
                    Ok(Ok(written)) if Instant::now() < deadline => {
                        revision.store(written, Ordering::Relaxed);
                        sent = next;
                        break;
                    }
                    Ok(Err(BusError::WrongRevision)) => return "somebody else wrote",
                    Ok(Err(_)) if Instant::now() + self.ttl / 10 < deadline => sleep(self.ttl / 20).await,
                    _ => return "not renewed in time",
                }
            }
        }
    }

    /// Until the key is deleted, or nobody has renewed it for one time to live. A map may not tell when a key dies of age.
    async fn wait_for_a_vacancy(&self) {
        let Ok(mut changes) = self.map.watch(&self.key).await else { return sleep(self.ttl / 8).await };
        let silence = || Instant::now() + self.ttl + self.jitter();
        let mut quiet = silence();
        while let Ok(Some(Change::Put(_))) = timeout_at(quiet, changes.next()).await {
            quiet = silence();
        }
        // A watch that ended at once must not become a loop without a pause.
        sleep(self.ttl / 100).await;
    }

    fn mark(&self) -> Bytes {
        Bytes::copy_from_slice(self.me.as_bytes())
    }

    /// So that not all stand at the same moment.
    fn jitter(&self) -> Duration {
        let mut octet = [0];
        getrandom::fill(&mut octet).expect("the kernel gives random octets");
        self.ttl * u32::from(octet[0]) / 2560
    }
}
