//! People who are bound: whoever is blocked, disabled or gone loses the connection (S-22).
//!
//! The bus only says that something about somebody changed; the store says whether they may still be in. What the bus loses is
//! found when everybody who is bound is asked about again.

use proto::subjects::{USER_CHANGED, changed_user};
use proto::user_store::ShutOutRequest;
use proto::user_store::standing_server::Standing;
use service_kit::bus::{Bus, Subscription};
use service_kit::grpc::{idempotent, with_deadline};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Request;

/// What a lost message of the bus, or a store that is away, costs at most.
const POLL: Duration = Duration::from_secs(30);
/// How long the store may take to answer.
const ASK_LIMIT: Duration = Duration::from_secs(10);
/// People asked about at once.
const PEOPLE_MAX: usize = 1_000;
/// Hints that come close together are one question.
const GATHER: Duration = Duration::from_millis(5);

/// Everybody who is bound on a connection of this process, by Twinlock's id.
#[derive(Default)]
pub struct Bound {
    people: Mutex<HashMap<Box<str>, Arc<AtomicBool>>>,
}

/// One connection's part in it.
pub struct Person {
    all: Arc<Bound>,
    user_id: Box<str>,
    shut_out: Arc<AtomicBool>,
}

impl Person {
    pub fn is_shut_out(&self) -> bool {
        self.shut_out.load(Ordering::Relaxed)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let mut people = self.all.people();
        let is_last = |known: &Arc<AtomicBool>| Arc::ptr_eq(known, &self.shut_out) && Arc::strong_count(known) == 2;
        if people.get(&self.user_id).is_some_and(is_last) {
            people.remove(&self.user_id);
        }
    }
}

impl Bound {
    pub fn enters(self: &Arc<Self>, user_id: &str) -> Person {
        let user_id = Box::from(user_id);
        let shut_out = Arc::clone(self.people().entry(Box::clone(&user_id)).or_default());
        Person { all: Arc::clone(self), user_id, shut_out }
    }

    /// Watches over them for as long as the process lives; `wakes` has connections look at themselves.
    pub async fn watch(self: Arc<Self>, store: Arc<dyn Standing>, bus: Arc<dyn Bus>, wakes: impl Fn()) {
        let mut changes: Option<Subscription> = None;
        let mut next_look = Instant::now();
        loop {
            if changes.is_none() {
                changes = bus.subscribe(USER_CHANGED).await.ok();
            }
            // Cancel safety: what the bus tells and is not heard is found by the next look.
            let asked = tokio::select! {
                () = tokio::time::sleep_until(next_look) => {
                    next_look = Instant::now() + POLL;
                    self.everybody()
                }
                changed = self.gather(&mut changes) => changed,
            };
            for user_ids in asked.chunks(PEOPLE_MAX) {
                if self.ask(&*store, user_ids).await {
                    wakes();
                }
            }
        }
    }

    fn everybody(&self) -> Vec<String> {
        let mut people = self.people();
        // Two connections that were closed at the same time took each other for one that stays.
        people.retain(|_, shut_out| Arc::strong_count(shut_out) > 1);
        people.keys().map(ToString::to_string).collect()
    }

    /// Who of them is named by the next hint and those close behind it.
    async fn gather(&self, changes: &mut Option<Subscription>) -> Vec<String> {
        let mut changed = HashSet::new();
        let mut next = crate::settings::next(changes).await;
        if next.is_none() {
            *changes = None;
        }
        let end = Instant::now() + GATHER;
        while let Some(message) = next {
            changed.extend(self.named_by(&message.subject));
            next = match Instant::now() < end {
                true => tokio::time::timeout_at(end, crate::settings::next(changes)).await.ok().flatten(),
                false => None,
            };
        }
        changed.into_iter().collect()
    }

    fn named_by(&self, subject: &str) -> Option<String> {
        changed_user(subject).filter(|user_id| self.people().contains_key(*user_id)).map(str::to_owned)
    }

    /// True if somebody has to go.
    async fn ask(&self, store: &dyn Standing, user_ids: &[String]) -> bool {
        let request = idempotent(Request::new(ShutOutRequest { user_ids: user_ids.to_vec() }));
        let asked = store.shut_out(with_deadline(request, ASK_LIMIT));
        let code = match tokio::time::timeout(ASK_LIMIT, asked).await {
            Ok(Ok(reply)) => return self.shut_out(&reply.into_inner().user_ids),
            Ok(Err(status)) => status.code(),
            Err(_) => tonic::Code::DeadlineExceeded,
        };
        tracing::warn!(?code, "the store does not say whether those who are bound may still be");
        false
    }

    fn shut_out(&self, user_ids: &[String]) -> bool {
        let mut people = self.people();
        let gone = user_ids.iter().filter_map(|user_id| people.remove(user_id.as_str()));
        gone.inspect(|shut_out| shut_out.store(true, Ordering::Relaxed)).count() > 0
    }

    fn people(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<AtomicBool>>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proto::subjects::user_changed;
    use proto::user_store::ShutOutReply;
    use service_kit::bus::InProcess;
    use std::sync::atomic::AtomicUsize;
    use tonic::{Response, Status, async_trait};

    /// Lets nobody in who is asked about, once it answers at all.
    #[derive(Default)]
    struct Store {
        answers: AtomicBool,
        questions: AtomicUsize,
    }

    #[async_trait]
    impl Standing for Store {
        async fn shut_out(&self, request: Request<ShutOutRequest>) -> Result<Response<ShutOutReply>, Status> {
            self.questions.fetch_add(1, Ordering::Relaxed);
            match self.answers.load(Ordering::Relaxed) {
                true => Ok(Response::new(ShutOutReply { user_ids: request.into_inner().user_ids })),
                false => Err(Status::unavailable("told to be")),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_bus_lost_is_found_by_the_next_look_and_what_the_store_did_not_say_by_the_one_after() {
        // S-22; nobody says anything on this bus
        let (bound, store) = (Arc::new(Bound::default()), Arc::new(Store::default()));
        let watch = Arc::clone(&bound).watch(Arc::clone(&store) as _, Arc::new(InProcess::new()), || {});
        let watch = tokio::spawn(watch);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (ann, again) = (bound.enters("ann"), bound.enters("ann"));
        tokio::time::sleep(POLL).await;
        assert!(!ann.is_shut_out(), "the store was away");
        store.answers.store(true, Ordering::Relaxed);
        tokio::time::sleep(POLL).await;
        assert!(ann.is_shut_out() && again.is_shut_out());
        // Whoever comes in after it has been let in anew, and is asked about in their turn.
        let anew = bound.enters("ann");
        drop((ann, again));
        assert!(!anew.is_shut_out());
        tokio::time::sleep(POLL).await;
        assert!(anew.is_shut_out());
        watch.abort();
    }

    #[test]
    fn whoever_has_left_is_not_asked_about() {
        let bound = Arc::new(Bound::default());
        let (first, second) = (bound.enters("ann"), bound.enters("ann"));
        drop(first);
        assert_eq!(bound.everybody(), ["ann"]);
        drop(second);
        assert!(bound.everybody().is_empty());
        // Left over where both had counted the other.
        bound.people().insert("ben".into(), Arc::default());
        assert!(bound.everybody().is_empty() && bound.people().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_many_at_once_are_one_question_and_wake_the_connections_once() {
        // S-22
        let (bound, store, bus) = (Arc::new(Bound::default()), Arc::new(Store::default()), Arc::new(InProcess::new()));
        store.answers.store(true, Ordering::Relaxed);
        let woken = Arc::new(AtomicUsize::default());
        let wakes = {
            let woken = Arc::clone(&woken);
            move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }
        };
        let watch = tokio::spawn(Arc::clone(&bound).watch(Arc::clone(&store) as _, Arc::clone(&bus) as _, wakes));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let people: Vec<(String, Person)> =
            (0..50).map(|number| format!("user{number}")).map(|id| (id.clone(), bound.enters(&id))).collect();
        for (user_id, _) in &people {
            bus.publish(&user_changed(user_id), Bytes::new()).await.expect("in this process");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(people.iter().all(|(_, person)| person.is_shut_out()));
        assert_eq!((store.questions.load(Ordering::Relaxed), woken.load(Ordering::Relaxed)), (1, 1));
        watch.abort();
    }
}
