//! What the bus hears after a commit: hints that evict caches and wake readers. Best effort: nothing waits for it, and
//! losing it delays somebody by a polling interval (docs/architecture.md).

use bytes::Bytes;
use prost::Message;
use proto::subjects;
use proto::user_store::RequestSyncRequest;
use service_kit::Shutdown;
use service_kit::bus::{Bus, BusError, Stream, StreamKind, StreamOptions};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Hints that may wait; at the bound new ones are dropped, because readers also poll.
const QUEUE: usize = 10_000;
const HOUR: Duration = Duration::from_secs(3600);

enum Hint {
    UserChanged(String),
    SettingsChanged(u64),
    Event { client: String, sequence: u64 },
}

/// Hands hints to the task that publishes them. Clones share it.
#[derive(Clone)]
pub struct Teller {
    hints: mpsc::Sender<Hint>,
    sync: Arc<dyn Stream>,
}

impl Teller {
    pub fn start(bus: Arc<dyn Bus>, shutdown: &Shutdown) -> Self {
        let (hints, queue) = mpsc::channel(QUEUE);
        let events = bus.stream(StreamOptions {
            name: subjects::EVENTS_STREAM.into(),
            subjects: vec![subjects::AUTH_EVENTS.into()],
            kind: StreamKind::Log,
            max_age: 7 * 24 * HOUR,
            max_messages: 1_000_000,
        });
        let sync = bus.stream(StreamOptions {
            name: subjects::SYNC_STREAM.into(),
            subjects: vec![subjects::SYNC_REQUESTED.into()],
            kind: StreamKind::WorkQueue,
            max_age: HOUR,
            max_messages: 1_000,
        });
        shutdown.spawn_until_stopping(publish(bus, events, queue));
        Self { hints, sync }
    }

    pub fn user_changed(&self, user_id: &str) {
        self.hint(Hint::UserChanged(user_id.into()));
    }

    pub fn settings_changed(&self, revision: u64) {
        self.hint(Hint::SettingsChanged(revision));
    }

    /// New events: by client the sequence of the last one.
    pub fn events(&self, clients: &BTreeMap<String, u64>) {
        for (client, sequence) in clients {
            self.hint(Hint::Event { client: client.clone(), sequence: *sequence });
        }
    }

    /// Asks the sync leader to run. No hint: whoever asked is told whether it was asked.
    pub async fn sync_requested(&self, request: &RequestSyncRequest) -> Result<(), BusError> {
        self.sync.publish(subjects::SYNC_REQUESTED, Bytes::from(request.encode_to_vec())).await
    }

    fn hint(&self, hint: Hint) {
        if self.hints.try_send(hint).is_err() {
            tracing::debug!("a hint to the bus was dropped");
        }
    }
}

async fn publish(bus: Arc<dyn Bus>, events: Arc<dyn Stream>, mut queue: mpsc::Receiver<Hint>) {
    let mut failing = false;
    while let Some(hint) = queue.recv().await {
        let published = match hint {
            Hint::UserChanged(user_id) => bus.publish(&subjects::user_changed(&user_id), Bytes::new()).await,
            Hint::SettingsChanged(revision) => {
                bus.publish(subjects::SETTINGS_CHANGED, Bytes::from(revision.to_string())).await
            }
            Hint::Event { client, sequence } => {
                // Administrative events have no client.
                let client = if client.is_empty() { "-" } else { client.as_str() };
                events.publish(&subjects::auth_event(client), Bytes::from(sequence.to_string())).await
            }
        };
        match &published {
            Err(error) if !failing => tracing::warn!(error = %error, "hints to the bus are being lost"),
            Ok(()) if failing => tracing::info!("hints reach the bus again"),
            _ => {}
        }
        failing = published.is_err();
    }
}
