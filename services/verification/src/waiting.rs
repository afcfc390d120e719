//! Logins that wait for a phone: each is a task parked on a channel. One task a node asks the store for all of them at once.
//!
//! ```text
//! bus: challenge resolved <id> ─┐
//! every second: all open ids ───┴─ GetPrompts, in batches ─ whoever waits for a prompt that is over gets it
//! ```
//!
//! The bus is a hint: what it says is never believed, only looked up (V-73). Without it a login wakes within about a second.

use domain::Reason;
use proto::subjects::CHALLENGE_RESOLVED;
use proto::user_store::{GetPromptsRequest, Prompt, commit_server::Commit};
use service_kit::bus::{Bus, Subscription};
use service_kit::grpc::with_deadline;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::{Request, Status};

/// How often the store is asked for all that is open, in case the bus said nothing; a quarter more or less, so that nodes do not ask
/// together.
const POLL: Duration = Duration::from_secs(1);
/// Hints that come close together are one question.
const GATHER: Duration = Duration::from_millis(5);
const BATCH: usize = 500;
const PATIENCE: Duration = Duration::from_secs(3);
/// Logins that may wait on this node. Beyond it new prompts are refused; nobody who waits is dropped.
const SEATS_MAX: usize = 100_000;
/// And for one prompt: a login waits once, and again where its client repeats it elsewhere.
const SEATS_OF_ONE_MAX: usize = 64;

/// Who waits on this node, by prompt.
#[derive(Default)]
pub struct Waiting {
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    by_prompt: HashMap<String, Vec<(u64, oneshot::Sender<Prompt>)>>,
    taken: usize,
    next: u64,
}

/// A place to wait for a prompt. Given back when dropped.
pub struct Seat {
    waiting: Arc<Waiting>,
    prompt_id: String,
    number: u64,
    over: oneshot::Receiver<Prompt>,
}

impl Waiting {
    /// Taken before the prompt goes out, so that no answer is too fast.
    pub fn seat(self: &Arc<Self>, prompt_id: &str) -> Result<Seat, Status> {
        let (sender, over) = oneshot::channel();
        let mut seats = self.seats();
        let crowd = seats.by_prompt.get(prompt_id).map_or(0, Vec::len);
        if seats.taken >= SEATS_MAX || crowd >= SEATS_OF_ONE_MAX {
            return Err(Status::resource_exhausted(Reason::Overloaded.code()));
        }
        let number = seats.next;
        seats.next += 1;
        seats.taken += 1;
        seats.by_prompt.entry(prompt_id.to_owned()).or_default().push((number, sender));
        Ok(Seat { waiting: self.clone(), prompt_id: prompt_id.to_owned(), number, over })
    }

    /// Does anybody here wait for it?
    pub fn is_awaited(&self, prompt_id: &str) -> bool {
        self.seats().by_prompt.contains_key(prompt_id)
    }

    fn open(&self) -> Vec<String> {
        self.seats().by_prompt.keys().cloned().collect()
    }

    /// The store says that it is over: everybody who waits for it goes on.
    fn tell(&self, prompt: &Prompt) {
        let waiters = self.seats().by_prompt.remove(&prompt.prompt_id).unwrap_or_default();
        for (_, waiter) in waiters {
            // Whoever has left meanwhile gives the seat back by themselves.
            let _ = waiter.send(prompt.clone());
        }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().expect("nobody panics while holding the seats")
    }
}

impl Seat {
    /// The prompt when it is over; `None`: it was still open at `until`. May be dropped at any time.
    pub async fn over(&mut self, until: Instant) -> Option<Prompt> {
        tokio::time::timeout_at(until, &mut self.over).await.ok()?.ok()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.waiting.seats();
        seats.taken -= 1;
        if let Some(waiters) = seats.by_prompt.get_mut(&self.prompt_id) {
            waiters.retain(|(number, _)| *number != self.number);
            if waiters.is_empty() {
                seats.by_prompt.remove(&self.prompt_id);
            }
        }
    }
}

/// Wakes whoever waits, for ever. May be dropped at any await.
pub async fn keep_awake(
    waiting: Arc<Waiting>,
    commit: Arc<dyn Commit>,
    bus: Arc<dyn Bus>,
    randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
) {
    let mut hints = bus.subscribe(CHALLENGE_RESOLVED).await.ok();
    let mut look = Instant::now() + POLL;
    let mut told = false;
    loop {
        // Cancel safety: a hint that is lost here is found by the next look at everything.
        let due: Vec<String> = tokio::select! {
            () = tokio::time::sleep_until(look) => {
                look = Instant::now() + jittered(randomness);
                if hints.is_none() {
                    hints = bus.subscribe(CHALLENGE_RESOLVED).await.ok();
                }
                waiting.open()
            }
            hinted = gather(&mut hints) => hinted.into_iter().filter(|id| waiting.is_awaited(id)).collect(),
        };
        for batch in due.chunks(BATCH) {
            match prompts(commit.as_ref(), batch).await {
                Ok(prompts) => {
                    told = false;
                    prompts.iter().filter(|prompt| !prompt.outcome.is_empty()).for_each(|prompt| waiting.tell(prompt));
                }
                // Once, not at every look: the log is for people.
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(error = error.message(), "prompts that are waited for could not be read");
                }
                Err(_) => {}
            }
        }
    }
}

/// The prompts that the next hint and those close behind it name.
async fn gather(hints: &mut Option<Subscription>) -> HashSet<String> {
    let mut ids = HashSet::new();
    let Some(subscription) = hints else { return std::future::pending().await };
    let Some(first) = subscription.next().await else {
        *hints = None;
        return ids;
    };
    let end = Instant::now() + GATHER;
    let mut next = Some(first);
    while let Some(message) = next {
        if let Some((_, id)) = message.subject.rsplit_once('.') {
            ids.insert(id.to_owned());
        }
        next = match ids.len() < BATCH {
            true => tokio::time::timeout_at(end, subscription.next()).await.ok().flatten(),
            false => None,
        };
    }
    ids
}

async fn prompts(commit: &dyn Commit, ids: &[String]) -> Result<Vec<Prompt>, Status> {
    let request = GetPromptsRequest { prompt_ids: ids.to_vec(), ..GetPromptsRequest::default() };
    let answer = tokio::time::timeout(PATIENCE, commit.get_prompts(with_deadline(Request::new(request), PATIENCE)));
    let reply = answer.await.map_err(|_| Status::deadline_exceeded("no answer in time"))??;
    Ok(reply.into_inner().prompts)
}

fn jittered(randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>) -> Duration {
    let mut octet = [128];
    // Without randomness nodes ask together, which is no harm.
    let _ = randomness(&mut octet);
    POLL.mul_f64(0.75 + f64::from(octet[0]) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(id: &str) -> Prompt {
        Prompt { prompt_id: id.into(), outcome: "approved".into(), ..Prompt::default() }
    }

    #[tokio::test]
    async fn everybody_who_waits_for_a_prompt_hears_of_its_end_and_nobody_else() {
        let waiting = Arc::new(Waiting::default());
        let mut seats: Vec<Seat> = ["a", "a", "b"].map(|id| waiting.seat(id).expect("room")).into();
        waiting.tell(&prompt("a"));
        let soon = Instant::now() + Duration::from_millis(1);
        let mut heard = Vec::new();
        for seat in &mut seats {
            heard.push(seat.over(soon).await.map(|prompt| prompt.prompt_id));
        }
        assert_eq!(heard, [Some("a".into()), Some("a".into()), None]);
        assert!(!waiting.is_awaited("a") && waiting.is_awaited("b"));
    }

    #[test]
    fn a_seat_is_given_back_and_the_last_one_is_refused() {
        let waiting = Arc::new(Waiting::default());
        let first = waiting.seat("a").expect("room");
        let second = waiting.seat("a").expect("room");
        drop(first);
        assert!(waiting.is_awaited("a"), "somebody else still waits");
        drop(second);
        assert!(waiting.open().is_empty());
        let mut crowd: Vec<Seat> = (0..SEATS_OF_ONE_MAX).map(|_| waiting.seat("a").expect("room")).collect();
        assert!(waiting.seat("a").is_err(), "nobody waits so often for one prompt");
        crowd.pop();
        crowd.push(waiting.seat("a").expect("room"));
        waiting.seats().taken = SEATS_MAX;
        assert!(waiting.seat("b").is_err());
    }
}
