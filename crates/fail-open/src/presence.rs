//! Whether verification is there, from what became of the calls to it.

use crate::breaker::Breaker;
use service_kit::Shutdown;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

/// What is known about verification. One for each gateway process.
pub struct Presence {
    started: Instant,
    state: Mutex<State>,
}

struct State {
    breaker: Breaker,
    heard: Instant,
    reachable: bool,
}

/// Verification that has said nothing for this long is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How long the question may take. Longer than a connection that nobody takes needs to be given up.
const QUESTION_LIMIT: Duration = Duration::from_secs(10);
/// A part that is gone is known to be gone by then: refused, or not connected to within two seconds. What takes longer to fail is
/// overload somewhere behind, whatever it says of itself (V-41).
const PROMPT: Duration = Duration::from_secs(3);

impl Presence {
    /// Not reachable until it has answered once.
    pub fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State { breaker: Breaker::default(), heard: now, reachable: false };
        Arc::new(Self { started: now, state: Mutex::new(state) })
    }

    /// A login's call has ended so. True if that changed whether verification is reachable.
    pub fn heard(&self, code: Code) -> bool {
        let mut state = self.lock();
        if is_an_answer(code) {
            state.heard = Instant::now();
            state.breaker.answered();
        }
        match code {
            // A person may take all the time there is.
            Code::DeadlineExceeded => false,
            code => state.set_reachable(decides(code)),
        }
    }

    /// Whether a login could be decided now, as far as is known.
    pub fn is_reachable(&self) -> bool {
        self.lock().reachable
    }

    /// V-40: nobody has been there for long enough, and it is certain.
    pub fn is_down(&self) -> bool {
        self.lock().breaker.is_open(self.started.elapsed())
    }

    /// Asks whenever nothing was heard for a while. The question must need what a login needs, and must be about nobody: it is the
    /// only one that counts against verification. `None` asks nothing this time. `told` hears of every change.
    pub fn watch<F>(
        self: &Arc<Self>,
        shutdown: &Shutdown,
        mut ask: impl FnMut(Duration) -> Option<F> + Send + 'static,
        told: impl Fn(bool, Code) + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<(), Status>> + Send,
    {
        let presence = self.clone();
        shutdown.spawn_until_stopping(async move {
            loop {
                if presence.is_in_doubt()
                    && let Some(question) = ask(QUESTION_LIMIT)
                {
                    let question = Box::pin(question);
                    presence.question(question, &told).await;
                }
                sleep(SILENCE_MAX / 4).await;
            }
        });
    }

    fn is_in_doubt(&self) -> bool {
        let state = self.lock();
        !state.reachable || state.heard.elapsed() >= SILENCE_MAX
    }

    async fn question<F>(&self, mut question: std::pin::Pin<Box<F>>, told: &impl Fn(bool, Code))
    where
        F: Future<Output = Result<(), Status>>,
    {
        let begun = Instant::now();
        let mut ended = timeout(SILENCE_MAX, &mut question).await.ok();
        if ended.is_none() {
            if self.lock().set_reachable(false) {
                told(false, Code::DeadlineExceeded);
            }
            ended = timeout(QUESTION_LIMIT.saturating_sub(begun.elapsed()), question).await.ok();
        }
        let code = match ended {
            Some(Ok(())) => Code::Ok,
            Some(Err(status)) => status.code(),
            None => Code::DeadlineExceeded,
        };
        let mut state = self.lock();
        if is_an_answer(code) {
            state.heard = Instant::now();
            state.breaker.answered();
        } else if code == Code::Unavailable && begun.elapsed() <= PROMPT {
            state.breaker.failed(self.started.elapsed());
        }
        let changed = state.set_reachable(decides(code));
        drop(state);
        if changed {
            told(decides(code), code);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_reachable(&mut self, reachable: bool) -> bool {
        std::mem::replace(&mut self.reachable, reachable) != reachable
    }
}

/// Somebody was there, and be it with nonsense or with "too much" (V-41).
fn is_an_answer(code: Code) -> bool {
    !matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
}

/// Whoever refuses a question is there; whoever gives no decision is as good as gone, for the device that may ask elsewhere.
fn decides(code: Code) -> bool {
    is_an_answer(code) && !matches!(code, Code::Unknown | Code::Internal | Code::ResourceExhausted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the watch with a question that ends so each time.
    fn watched(answer: impl Fn() -> (Duration, Code) + Send + 'static) -> (Arc<Presence>, Shutdown) {
        let (presence, shutdown) = (Presence::new(), Shutdown::new());
        let ask = move |_| {
            let (took, code) = answer();
            Some(async move {
                sleep(took).await;
                if code == Code::Ok { Ok(()) } else { Err(Status::new(code, "")) }
            })
        };
        presence.watch(&shutdown, ask, |_, _| {});
        (presence, shutdown)
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_prompt_unavailable_to_our_own_question_says_that_it_is_down() {
        // V-40, V-41, V-42: refused, slow, garbage, hung, overloaded, and a store that gives up when its queue is full
        let now = Duration::from_millis(5);
        let seconds = Duration::from_secs;
        for (took, code, down) in [
            (now, Code::Unavailable, true),
            (seconds(2), Code::Unavailable, true),
            (seconds(5), Code::Unavailable, false),
            (seconds(30), Code::Ok, false),
            (seconds(30), Code::Unavailable, false),
            (now, Code::Ok, false),
            (now, Code::DeadlineExceeded, false),
            (now, Code::ResourceExhausted, false),
            (now, Code::Internal, false),
            (now, Code::Unknown, false),
            (now, Code::Cancelled, false),
            (now, Code::Unimplemented, false),
            (now, Code::PermissionDenied, false),
        ] {
            let (presence, _shutdown) = watched(move || (took, code));
            sleep(seconds(25)).await;
            assert!(!presence.is_down(), "{code:?} after {took:?}: too early");
            sleep(seconds(95)).await;
            assert_eq!(presence.is_down(), down, "{code:?} after {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_number_of_failing_logins_counts_and_one_that_is_answered_closes_it() {
        // V-41: a flood from one client, whatever becomes of its requests
        let (presence, _shutdown) = watched(|| (Duration::ZERO, Code::Ok));
        for _ in 0..60_000 {
            presence.heard(Code::Unavailable);
            presence.heard(Code::DeadlineExceeded);
            presence.heard(Code::Internal);
            sleep(Duration::from_millis(1)).await;
        }
        assert!(!presence.is_down());

        let (presence, _shutdown) = watched(|| (Duration::ZERO, Code::Unavailable));
        sleep(Duration::from_secs(60)).await;
        assert!(presence.is_down());
        for closes in [Code::Ok, Code::InvalidArgument, Code::ResourceExhausted, Code::Internal] {
            presence.heard(closes);
            assert!(!presence.is_down(), "{closes:?}");
            sleep(Duration::from_secs(60)).await;
            assert!(presence.is_down());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_login_says_nothing_and_a_silent_verification_is_unreachable_soon() {
        let slow = Arc::new(Mutex::new(Duration::ZERO));
        let takes = slow.clone();
        let (presence, _shutdown) = watched(move || (*takes.lock().expect("held briefly"), Code::Ok));
        sleep(Duration::from_secs(1)).await;
        assert!(presence.is_reachable());
        // Somebody did not touch their phone.
        presence.heard(Code::DeadlineExceeded);
        assert!(presence.is_reachable());
        *slow.lock().expect("held briefly") = Duration::from_secs(3_600);
        sleep(Duration::from_secs(5)).await;
        assert!(!presence.is_reachable());
        assert!(!presence.is_down());
    }
}
