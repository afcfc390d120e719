//! Keeps wrong passwords below what the directory locks an account for (L-56): whoever guesses through Twinlock locks nobody out of
//! the rest of the network.
//!
//! ```text
//! reserve ── store: fewer than lockout_guard allows, all gateways and the portal together ──> Turn ── the one bind ──> Turn::ended
//!        └── none left ──> rate_limited, and the directory is not asked
//! ```
//!
//! Knows no protocol. Without a `lockout_guard` in the directory's settings nothing is asked.

use domain::settings::LockoutGuard as Limits;
use domain::{DirectoryRef, Reason};
use proto::user_store::password_tries_server::PasswordTries as Port;
use proto::user_store::{PasswordOutcome, PasswordTry, ReservePasswordRequest, SettlePasswordRequest};
use service_kit::{Shutdown, grpc};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;

/// How long the store may take to answer; shorter where it may be down and people are waiting to be let in all the same.
const STORE_LIMIT: Duration = Duration::from_secs(5);
const STORE_LIMIT_IF_KNOWN: Duration = Duration::from_secs(2);
/// How long somebody waits while others of the same name are being checked, asking ever less often: many who guess at once must not
/// be what the store is busy with.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
const BUSY_PAUSE_FIRST: Duration = Duration::from_millis(25);
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(400);

/// Asks the store before a password is tried.
#[derive(Clone)]
pub struct LockoutGuard {
    port: Arc<dyn Port>,
    shutdown: Shutdown,
}

/// The leave to try one password. Dropped without an end, as when the client leaves in the middle, it counts as wrong after a while:
/// the directory may have counted it.
#[must_use = "what became of the password has to be told"]
pub struct Turn(Option<Told>);

struct Told {
    guard: LockoutGuard,
    subject: DirectoryRef,
    handle: i64,
}

impl LockoutGuard {
    pub fn new(port: Arc<dyn Port>, shutdown: Shutdown) -> Self {
        Self { port, shutdown }
    }

    /// May a password of this person be tried now? `limits` are those of the directory. The error is why not: `rate_limited`, or
    /// `store_unavailable` while nobody knows.
    pub async fn reserve(
        &self,
        limits: Option<Limits>,
        subject: &DirectoryRef,
        deadline: Instant,
    ) -> Result<Turn, Reason> {
        match limits {
            Some(limits) => self.counted(limits, subject, deadline, STORE_LIMIT).await,
            None => Ok(Turn(None)),
        }
    }

    /// The same for whoever is let in while verification is down (V-40): the store may be down as well, and is no reason then.
    pub async fn reserve_if_known(
        &self,
        limits: Option<Limits>,
        subject: &DirectoryRef,
        deadline: Instant,
    ) -> Result<Turn, Reason> {
        let Some(limits) = limits else { return Ok(Turn(None)) };
        match self.counted(limits, subject, deadline, STORE_LIMIT_IF_KNOWN).await {
            Err(Reason::StoreUnavailable) => Ok(Turn(None)),
            turn => turn,
        }
    }

    async fn counted(
        &self,
        limits: Limits,
        subject: &DirectoryRef,
        deadline: Instant,
        store_limit: Duration,
    ) -> Result<Turn, Reason> {
        let give_up = deadline.min(Instant::now() + BUSY_LIMIT);
        let (mut pause, mut busy) = (BUSY_PAUSE_FIRST, false);
        loop {
            let request = ReservePasswordRequest {
                subject: Some(subject.into()),
                wrong_max: limits.wrong_passwords,
                window_minutes: limits.window_minutes,
            };
            let left = store_limit.min(deadline.saturating_duration_since(Instant::now()));
            let asked = self.port.reserve(grpc::with_deadline(request, left));
            let reply = match tokio::time::timeout(left, asked).await {
                Ok(Ok(reply)) => reply.into_inner(),
                Ok(Err(status)) if status.code() != Code::DeadlineExceeded => return Err(unknown(&status)),
                // Behind others the caller's own time has ended: the store has answered before.
                _ if busy && left < store_limit => return Err(Reason::RateLimited),
                _ => return Err(unknown(&"no answer in time")),
            };
            match reply.result() {
                PasswordTry::Granted => {
                    let told = Told { guard: self.clone(), subject: subject.clone(), handle: reply.handle };
                    return Ok(Turn(Some(told)));
                }
                PasswordTry::Busy if Instant::now() + pause < give_up => {
                    busy = true;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(BUSY_PAUSE_MAX);
                }
                PasswordTry::Busy | PasswordTry::Exhausted => {
                    tracing::warn!(
                        event = "lockout_guard",
                        directory = %subject.directory,
                        id = %subject.id,
                        wrong_passwords = limits.wrong_passwords,
                        window_minutes = limits.window_minutes,
                        open_unix_ms = reply.retry_unix_ms,
                        "too many wrong passwords: the directory is not asked, so that it does not lock the account; \
                         `twinlock user unlock` opens it at once"
                    );
                    return Err(Reason::RateLimited);
                }
                PasswordTry::Unspecified => return Err(unknown(&"an answer without a result")),
            }
        }
    }
}

impl Turn {
    /// What was said of the password; `None` = it was right. Told to the store beside the login. Where nobody answered, nothing is
    /// counted: it would keep people out after every outage, and nobody outside can bring that about.
    pub fn ended(self, refused: Option<Reason>) {
        match refused {
            None => self.tell(PasswordOutcome::Right),
            Some(Reason::BadPassword) => self.tell(PasswordOutcome::Wrong),
            Some(_) => self.undecided(),
        }
    }

    /// Nobody has said whether it was right.
    pub fn undecided(self) {
        self.tell(PasswordOutcome::NotCounted);
    }

    fn tell(self, outcome: PasswordOutcome) {
        let Self(Some(Told { guard, subject, handle })) = self else { return };
        let request = SettlePasswordRequest { subject: Some((&subject).into()), handle, outcome: outcome.into() };
        let port = guard.port;
        drop(guard.shutdown.spawn(async move {
            let told = port.settle(grpc::with_deadline(request, STORE_LIMIT));
            if !matches!(tokio::time::timeout(STORE_LIMIT, told).await, Ok(Ok(_))) {
                tracing::debug!(directory = %subject.directory, "what became of a password did not reach the store: it counts as wrong");
            }
        }));
    }
}

fn unknown(why: &dyn std::fmt::Display) -> Reason {
    tracing::warn!(event = "lockout_guard_unknown", %why, "the store does not say whether a password may be tried, so that none is");
    Reason::StoreUnavailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::user_store::{ReservePasswordReply, SettlePasswordReply};
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use tonic::{Request, Response, Status, async_trait};

    /// A store that answers what it was told to, one after the other (`None`: it is away), then nothing any more, and keeps what it
    /// hears.
    #[derive(Default)]
    struct Store {
        answers: Mutex<VecDeque<Option<PasswordTry>>>,
        told: Mutex<Vec<PasswordOutcome>>,
    }

    impl Store {
        fn told(&self) -> Vec<PasswordOutcome> {
            self.told.lock().expect("no panic while held").clone()
        }

        fn answers_left(&self) -> usize {
            self.answers.lock().expect("no panic while held").len()
        }
    }

    #[async_trait]
    impl Port for Store {
        async fn reserve(&self, _: Request<ReservePasswordRequest>) -> Result<Response<ReservePasswordReply>, Status> {
            let answer = self.answers.lock().expect("no panic while held").pop_front();
            let Some(answer) = answer else { std::future::pending().await };
            let result = answer.ok_or_else(|| Status::unavailable("on command"))?;
            Ok(Response::new(ReservePasswordReply { result: result.into(), handle: 7, retry_unix_ms: 0 }))
        }

        async fn settle(
            &self,
            request: Request<SettlePasswordRequest>,
        ) -> Result<Response<SettlePasswordReply>, Status> {
            let request = request.into_inner();
            assert_eq!(request.handle, 7);
            self.told.lock().expect("no panic while held").push(request.outcome());
            Ok(Response::new(SettlePasswordReply {}))
        }
    }

    const LIMITS: Option<Limits> = Some(Limits { wrong_passwords: 3, window_minutes: 30 });

    fn ann() -> DirectoryRef {
        let id = "entryUUID:00000000-0000-4000-8000-000000000001".parse().expect("an id");
        DirectoryRef { directory: "corp".parse().expect("a name"), id }
    }

    fn guarded(answers: &[Option<PasswordTry>]) -> (LockoutGuard, Arc<Store>) {
        let store = Arc::new(Store { answers: Mutex::new(answers.iter().copied().collect()), ..Store::default() });
        (LockoutGuard::new(store.clone(), Shutdown::new()), store)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn l56_a_turn_is_waited_for_while_others_are_being_checked_and_not_where_none_is_left() {
        let busy = Some(PasswordTry::Busy);
        let (guard, store) = guarded(&[busy, busy, Some(PasswordTry::Granted), Some(PasswordTry::Exhausted)]);
        assert!(guard.reserve(LIMITS, &ann(), soon()).await.is_ok());
        assert_eq!(guard.reserve(LIMITS, &ann(), soon()).await.err(), Some(Reason::RateLimited));
        assert_eq!(store.answers_left(), 0);
        let (guard, _) = guarded(&[busy; 1000]);
        assert_eq!(guard.reserve(LIMITS, &ann(), soon()).await.err(), Some(Reason::RateLimited), "others never end");
    }

    #[tokio::test(start_paused = true)]
    async fn l56_whose_time_ends_behind_others_is_not_told_that_the_store_is_away() {
        let (guard, _) = guarded(&[Some(PasswordTry::Busy); 3]);
        let soon = Instant::now() + STORE_LIMIT / 2;
        assert_eq!(guard.reserve(LIMITS, &ann(), soon).await.err(), Some(Reason::RateLimited));
        let (guard, _) = guarded(&[]);
        assert_eq!(
            guard.reserve(LIMITS, &ann(), soon).await.err(),
            Some(Reason::StoreUnavailable),
            "it never answered"
        );
        let (guard, _) = guarded(&[Some(PasswordTry::Busy)]);
        let late = Instant::now() + STORE_LIMIT * 2;
        assert_eq!(guard.reserve(LIMITS, &ann(), late).await.err(), Some(Reason::StoreUnavailable), "it went away");
    }

    #[tokio::test]
    async fn l56_while_the_store_is_away_a_password_is_tried_only_where_that_is_no_reason() {
        let (guard, store) = guarded(&[None, None, Some(PasswordTry::Unspecified), Some(PasswordTry::Exhausted)]);
        assert_eq!(guard.reserve(LIMITS, &ann(), soon()).await.err(), Some(Reason::StoreUnavailable));
        assert!(guard.reserve_if_known(LIMITS, &ann(), soon()).await.is_ok());
        assert_eq!(guard.reserve(LIMITS, &ann(), soon()).await.err(), Some(Reason::StoreUnavailable), "no answer");
        assert_eq!(guard.reserve_if_known(LIMITS, &ann(), soon()).await.err(), Some(Reason::RateLimited));
        assert!(guard.reserve(None, &ann(), soon()).await.is_ok(), "a directory without a guard: nobody is asked");
        assert_eq!(store.answers_left(), 0);
    }

    #[tokio::test]
    async fn l56_only_a_wrong_password_is_counted_and_an_outage_keeps_nobody_out() {
        for (refused, outcome) in [
            (None, PasswordOutcome::Right),
            (Some(Reason::BadPassword), PasswordOutcome::Wrong),
            (Some(Reason::PasswordExpired), PasswordOutcome::NotCounted),
            (Some(Reason::DirectoryTimeout), PasswordOutcome::NotCounted),
            (Some(Reason::TargetTimeout), PasswordOutcome::NotCounted),
            (Some(Reason::DirectoryError), PasswordOutcome::NotCounted),
        ] {
            let (guard, store) = guarded(&[Some(PasswordTry::Granted)]);
            guard.reserve(LIMITS, &ann(), soon()).await.expect("granted").ended(refused);
            let told = async {
                while store.told().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(5), told).await.expect("it is told");
            assert_eq!(store.told(), [outcome], "{refused:?}");
        }
    }

    #[tokio::test]
    async fn l56_whoever_leaves_in_the_middle_tells_nothing_so_that_it_counts_as_wrong() {
        let (guard, store) = guarded(&[Some(PasswordTry::Granted)]);
        drop(guard.reserve(LIMITS, &ann(), soon()).await.expect("granted"));
        tokio::task::yield_now().await;
        assert_eq!(store.told(), []);
    }
}
