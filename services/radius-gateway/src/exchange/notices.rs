//! What nodes tell each other when a request of one of them was replaced at another (R-32): so that the prompt of the old one is closed
//! at once, and the new one is begun no later.
//!
//! ```text
//! new node                                  map                    node at work
//! has the entry of the request now ──> mail.<node at work> ──────> looks at that request: it is replaced, and is ended
//! begins <──────────────────────────── heard.<note> <───────────── when nothing of it is open any more
//! ```
//! A hint only: the node at work believes its own entry, and who hears nothing goes on after [`NOTICED`], by when it has looked by itself.

use super::shared::{NOTICED, Worker};
use crate::keys::Keys;
use bytes::Bytes;
use service_kit::bus::{BusError, Map, SealedMap};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// How often a node looks for mail, and for the word that it waits for.
const MAIL: Duration = Duration::from_millis(150);
const WORD: Duration = Duration::from_millis(50);
/// Notices in one mail, and tries to add one. Beyond them nobody is told, and waits.
const NOTICES_MAX: usize = 64;
const TRIES: usize = 4;

pub(super) struct Notices {
    map: Arc<dyn Map>,
    keys: Arc<Keys>,
    node: Uuid,
    at_work: AtWork,
}

type AtWork = Arc<Mutex<HashMap<Place, Watched>>>;

/// A request, by its key and by what tells it from others under that key.
type Place = (String, [u8; 32]);

#[derive(Clone)]
struct Watched {
    look: Arc<Notify>,
    /// Closed when it is over.
    over: watch::Receiver<()>,
}

/// A request in work here, under the name that other nodes know it by.
pub(super) struct Present {
    at_work: AtWork,
    place: Place,
    look: Arc<Notify>,
    _over: watch::Sender<()>,
}

impl Present {
    /// Returns when it may have been replaced. May be dropped at any time.
    pub(super) async fn hint(&self) {
        self.look.notified().await;
    }

    /// It was looked at, and goes on: whoever has asked so far hears that.
    pub(super) fn renewed(self) -> Self {
        enter(&self.at_work, self.place.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut at_work = lock(&self.at_work);
        if at_work.get(&self.place).is_some_and(|watched| Arc::ptr_eq(&watched.look, &self.look)) {
            at_work.remove(&self.place);
        }
    }
}

struct Notice {
    note: Uuid,
    place: Place,
}

impl Notices {
    pub(super) fn new(map: Arc<dyn Map>, keys: Arc<Keys>, node: Uuid) -> Self {
        Self { map, keys, node, at_work: AtWork::default() }
    }

    pub(super) fn enter(&self, key: &str, request: [u8; 32]) -> Present {
        enter(&self.at_work, (key.to_owned(), request))
    }

    /// Tells the node at work, and returns when nothing of that request is open there, or when it must have seen it by itself.
    pub(super) async fn tell(&self, worker: Worker, key: &str) {
        let note = Uuid::new_v4();
        let notice = Notice { note, place: (key.to_owned(), worker.request) };
        let heard = async {
            if !self.post(worker.node, &notice).await {
                std::future::pending::<()>().await;
            }
            while !matches!(self.sealed().get(&word(note)).await, Ok(Some(_))) {
                sleep(WORD).await;
            }
        };
        let _ = timeout(NOTICED, heard).await;
    }

    /// For ever: does what mail says. May be dropped at any await.
    pub(super) async fn listen(&self) {
        let mut closing = JoinSet::new();
        loop {
            sleep(MAIL).await;
            while closing.try_join_next().is_some() {}
            for notice in self.mail().await {
                closing.spawn(closed(self.sealed(), self.watched(&notice.place), notice.note));
            }
        }
    }

    fn watched(&self, place: &Place) -> Option<Watched> {
        lock(&self.at_work).get(place).cloned()
    }

    /// What came, once.
    async fn mail(&self) -> Vec<Notice> {
        let map = self.sealed();
        let Ok(Some(found)) = map.get(&mailbox(self.node)).await else { return Vec::new() };
        match map.delete(&mailbox(self.node), found.revision).await {
            Ok(()) => Notice::read_all(&found.value),
            // More came: all of it next time.
            Err(_) => Vec::new(),
        }
    }

    async fn post(&self, node: Uuid, notice: &Notice) -> bool {
        let (map, key) = (self.sealed(), mailbox(node));
        for _ in 0..TRIES {
            let written = match map.get(&key).await {
                Ok(None) => map.create(&key, notice.to_octets()).await,
                Ok(Some(found)) if Notice::read_all(&found.value).len() < NOTICES_MAX => {
                    let more = [&found.value[..], &notice.to_octets()].concat();
                    map.update(&key, more.into(), found.revision).await
                }
                Ok(Some(_)) | Err(_) => return false,
            };
            match written {
                Ok(_) => return true,
                Err(BusError::AlreadyExists | BusError::WrongRevision) => {}
                Err(_) => return false,
            }
        }
        false
    }

    fn sealed(&self) -> Arc<dyn Map> {
        SealedMap::new(self.map.clone(), self.keys.requests())
    }
}

fn enter(at_work: &AtWork, place: Place) -> Present {
    let look = Arc::<Notify>::default();
    let (sender, over) = watch::channel(());
    lock(at_work).insert(place.clone(), Watched { look: look.clone(), over });
    Present { at_work: at_work.clone(), place, look, _over: sender }
}

/// Has a request looked at, and says so when it is over, or when it goes on for others.
async fn closed(map: Arc<dyn Map>, watched: Option<Watched>, note: Uuid) {
    if let Some(Watched { look, mut over }) = watched {
        look.notify_one();
        let _ = timeout(NOTICED, async { while over.changed().await.is_ok() {} }).await;
    }
    // Lost, it costs the other node its patience.
    let _ = map.put(&word(note), Bytes::from_static(b"heard")).await;
}

fn lock(at_work: &AtWork) -> MutexGuard<'_, HashMap<Place, Watched>> {
    at_work.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mailbox(node: Uuid) -> String {
    format!("mail.{}", node.simple())
}

fn word(note: Uuid) -> String {
    format!("heard.{}", note.simple())
}

impl Notice {
    fn to_octets(&self) -> Bytes {
        let (key, request) = &self.place;
        // A key of ours has some fifty octets.
        let length = u8::try_from(key.len()).unwrap_or_default();
        let key = key.as_bytes().get(..length.into()).unwrap_or_default();
        [self.note.as_bytes(), &request[..], &[length], key].concat().into()
    }

    /// As far as it is of this form.
    fn read_all(octets: &[u8]) -> Vec<Self> {
        let (mut notices, mut rest) = (Vec::new(), octets);
        while let Some((notice, behind)) = Self::read(rest) {
            notices.push(notice);
            rest = behind;
        }
        notices
    }

    fn read(octets: &[u8]) -> Option<(Self, &[u8])> {
        let (note, rest) = octets.split_first_chunk::<16>()?;
        let (request, rest) = rest.split_first_chunk::<32>()?;
        let (&[length], rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_at_checked(length.into())?;
        let key = std::str::from_utf8(key).ok()?.to_owned();
        Some((Self { note: Uuid::from_bytes(*note), place: (key, *request) }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read_as_they_were_written_and_what_is_cut_off_is_none() {
        let notice =
            |note: u128, key: &str| Notice { note: Uuid::from_u128(note), place: (key.into(), [note as u8; 32]) };
        let both = [notice(1, "udp-7f000001-40000-1-7"), notice(2, "")];
        let octets = both.iter().map(Notice::to_octets).collect::<Vec<_>>().concat();
        let read = Notice::read_all(&octets);
        assert_eq!(read.len(), 2);
        for (read, written) in read.iter().zip(&both) {
            assert_eq!((read.note, &read.place), (written.note, &written.place));
        }
        assert!((0..octets.len()).all(|length| Notice::read_all(&octets[..length]).len() < 2));
    }
}
