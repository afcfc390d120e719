//! What others asked for over the bus: handed to the directories that it names, acknowledged when all of them are through.
//!
//! A request that a leader took and did not live to serve comes again. One that takes long is said to be in work, so that it does not.

use crate::mode::{Asked, Trigger, What};
use crate::settings::Snapshot;
use domain::ObjectName;
use domain::settings::{SyncItem, SyncState};
use prost::Message as _;
use proto::subjects::{SYNC_REQUESTED, SYNC_STREAM};
use proto::user_store::RequestSyncRequest;
use service_kit::bus::{Bus, Consumer, Delivery, Stream, StreamKind, StreamOptions};
use service_kit::chain;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{interval, sleep};

/// The consumer of requests; all leaders are the same one, one after the other.
const CONSUMER: &str = "directory-sync";
/// A request that a leader took and did not live to serve comes again after this.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Requests are forgotten, and their number is bounded, as user-store, which publishes them, says too.
pub(crate) const REQUESTS_MAX_AGE: Duration = Duration::from_secs(3600);
const REQUESTS_MAX: usize = 1_000;
/// Between tries to reach the bus.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);

/// What others asked for, in the order in which they did.
pub(crate) struct Requests {
    stream: Arc<dyn Stream>,
    consumer: Option<Box<dyn Consumer>>,
}

pub(crate) struct Delivered {
    pub(crate) requests: Requests,
    pub(crate) delivery: Delivery,
}

impl Requests {
    pub(crate) fn new(bus: &dyn Bus) -> Self {
        let stream = bus.stream(StreamOptions {
            name: SYNC_STREAM.to_owned(),
            subjects: vec![SYNC_REQUESTED.to_owned()],
            kind: StreamKind::WorkQueue,
            max_age: REQUESTS_MAX_AGE,
            max_messages: REQUESTS_MAX,
        });
        Self { stream, consumer: None }
    }

    /// The next request, however long the bus is away. Owns itself, so that it can wait while other things go on: what the bus has sent
    /// already would be lost for a while with a future that is dropped.
    pub(crate) fn next(mut self) -> Pin<Box<dyn Future<Output = Delivered> + Send>> {
        Box::pin(async move {
            loop {
                let consumer = match &mut self.consumer {
                    Some(consumer) => consumer,
                    none => match Arc::clone(&self.stream).consume(CONSUMER, ACK_WAIT).await {
                        Ok(consumer) => none.insert(consumer),
                        Err(error) => {
                            tracing::debug!(error = %chain(&error), "requests cannot be heard");
                            sleep(PAUSE).await;
                            continue;
                        }
                    },
                };
                match consumer.next().await {
                    Ok(delivery) => return Delivered { requests: self, delivery },
                    Err(_) => {
                        self.consumer = None;
                        sleep(PAUSE).await;
                    }
                }
            }
        })
    }
}

/// What a request asks for, of which directories; `None` = it cannot be read.
pub(crate) fn understood(snapshot: &Snapshot, delivery: &Delivery) -> Option<(Trigger, Vec<ObjectName>)> {
    let request = RequestSyncRequest::decode(delivery.message.payload.clone()).ok()?;
    let what = match request.mode.as_str() {
        "preview" => What::Preview,
        "incremental" => What::Changes,
        _ => What::Full,
    };
    let RequestSyncRequest { only, accept_source, actor, looked_at, draft_items, .. } = request;
    let draft = draft_items.iter().map(|text| serde_json::from_str(text)).collect::<Result<Vec<SyncItem>, _>>().ok()?;
    let directories = match draft.is_empty() {
        true => asked_for(snapshot, &only, what),
        // Only a preview tries them, and only of the directory that they are of.
        false if what != What::Preview => return None,
        false => snapshot.settings.directory(&only).map(|directory| directory.name.clone()).into_iter().collect(),
    };
    let asked = Asked { what, accept_source, actor, looked_at, draft };
    Some((Trigger::Request(asked), directories))
}

/// Waits until all are through with a request, and says so to the bus. Whom nobody serves to its end is for the one who leads next.
pub(crate) async fn served(delivery: Delivery, parts: Vec<oneshot::Receiver<()>>) {
    let mut beat = interval(ACK_WAIT / 3);
    for mut part in parts {
        let served = loop {
            // Cancel safety: that it was served stays until it is taken.
            tokio::select! {
                served = &mut part => break served,
                // One that is lost costs a run too many.
                _ = beat.tick() => drop(delivery.working().await),
            }
        };
        if served.is_err() {
            return drop(delivery.refuse().await);
        }
    }
    if let Err(error) = delivery.ack().await {
        // It comes again and is served again: a run too many harms nobody.
        tracing::warn!(error = %chain(&error), "a served request could not be acknowledged");
    }
}

/// A directory that it names is let go of, or came back and is not read yet: it comes again after a pause.
pub(crate) async fn put_off(delivery: Delivery) {
    sleep(PAUSE).await;
    drop(delivery.refuse().await);
}

/// The directories that a request names, by themselves or by an item, and that have an item to read; a preview reads items in
/// preview, too. A directory that is named itself needs none: then it lets go of whom it had (FS-10).
fn asked_for(snapshot: &Snapshot, only: &str, what: What) -> Vec<ObjectName> {
    let settings = &snapshot.settings;
    let mut directories: Vec<ObjectName> = Vec::new();
    for item in settings.sync_items.iter().filter(|item| item.is_read(what == What::Preview)) {
        let named = only.is_empty() || only == item.name.as_str() || only == item.directory.as_str();
        if named && !directories.contains(&item.directory) {
            directories.push(item.directory.clone());
        }
    }
    let concerns = |item: &SyncItem| {
        item.name.as_str() == only || item.directory.as_str() == only && item.state == SyncState::Preview
    };
    if directories.is_empty() && !settings.sync_items.iter().any(concerns) {
        directories.extend(settings.directory(only).map(|directory| directory.name.clone()));
    }
    directories
}
