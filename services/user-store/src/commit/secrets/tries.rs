//! How many tries a remembered secret gets, and what a right one leaves behind. Steps of the group.
//!
//! A PIN is locked by its own rules (FV-22): so many wrong ones within a window, for a time. Everything else has the pauses and
//! the end of V-14, codes that were sent among them. Without a proof of the password neither is touched: such tries have their own budget (L-54).

use crate::audit::NewEvent;
use crate::commit::group::{Scene, use_up};
use crate::outbox::{self, NewMail};
use crate::rpc::StoreError;
use crate::sql::args;
use crate::throttle::{self, Counter, UNVERIFIED_TRIES, Window};
use crate::users;
use domain::settings::PinRules;

/// A proof is good for ten minutes.
const PROOF_LIFE_MS: i64 = crate::commit::proofs::PROOF_LIFE_MS;
const MINUTE_MS: i64 = 60_000;

/// A try at a secret of a user.
#[derive(Clone)]
pub struct Try {
    pub user_id: String,
    /// `pin`, `recovery`, `temporary`, `answer`, `sms`
    pub kind: &'static str,
    /// The password was right.
    pub verified: bool,
    pub now_ms: i64,
}

pub struct Counted {
    pub granted: bool,
    /// If not: when the next one is open; 0 = after an unlock.
    pub retry_ms: i64,
    /// If this one is wrong, the secret is locked from now on.
    pub locked_now: bool,
}

/// How a try that was granted ended.
#[derive(Clone)]
pub struct Outcome {
    pub of: Try,
    pub right: bool,
    pub locked_now: bool,
    pub transaction_id: String,
    /// The record that is used up, by an Allow or before the password by the try itself; empty = none.
    pub hashed_id: String,
}

/// The row of a user and kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct State {
    /// Times of tries since the last success, oldest first.
    wrong: Vec<i64>,
    /// 0 = open, -1 = until somebody unlocks.
    locked_until_ms: i64,
}

pub async fn count(scene: &mut Scene<'_>, of: &Try) -> Result<Counted, StoreError> {
    users::may_enter(scene.session, &of.user_id, of.now_ms).await?;
    count_from(scene, of, "").await
}

/// The same without the look at the user, for a try from this place: one after the password that the pauses and the end of V-14 refuse
/// may be paid for by the reserve of a usual place (V-15).
pub async fn count_from(scene: &mut Scene<'_>, of: &Try, source: &str) -> Result<Counted, StoreError> {
    let sql = "SELECT wrong, locked_until_ms FROM secret_states WHERE user_id = $1 AND kind = $2";
    let mut state = match scene.session.row(sql, args![&of.user_id, of.kind]).await? {
        Some(row) => State {
            wrong: throttle::times(&row.get::<Vec<u8>>("wrong")?),
            locked_until_ms: row.get("locked_until_ms")?,
        },
        None => State::default(),
    };
    if !of.verified {
        return unverified(scene, of, &state).await;
    }
    let mut counted = match of.kind {
        "pin" => {
            let rules = scene.rules.current(scene.session).await?;
            state.count_pin(&rules.pin, of.now_ms)
        }
        _ => state.count(of.now_ms),
    };
    if !counted.granted
        && !source.is_empty()
        && let Some(reserved) = reserved(scene, of, source, &mut state).await?
    {
        counted = reserved;
    }
    if counted.granted {
        let sql = "INSERT INTO secret_states (user_id, kind, required, must_change, set_ms, wrong, locked_until_ms) \
                   VALUES ($1, $2, FALSE, FALSE, 0, $3, $4) ON CONFLICT (user_id, kind) DO UPDATE SET wrong = excluded.wrong, \
                   locked_until_ms = excluded.locked_until_ms";
        let wrong: Vec<u8> = state.wrong.iter().flat_map(|time| time.to_be_bytes()).collect();
        scene.session.execute(sql, args![&of.user_id, of.kind, wrong, state.locked_until_ms]).await?;
    }
    Ok(counted)
}

/// The try counted on the reserve of its place; `None` where that has none.
async fn reserved(
    scene: &mut Scene<'_>,
    of: &Try,
    source: &str,
    state: &mut State,
) -> Result<Option<Counted>, StoreError> {
    let sql = "SELECT last_success_ms, reserve FROM sources WHERE user_id = $1 AND source = $2";
    let Some(row) = scene.session.row(sql, args![&of.user_id, source]).await? else { return Ok(None) };
    let mut reserve = Window::from_octets(&row.get::<Vec<u8>>("reserve")?);
    let mut counter = state.counter();
    if !counter.reserve_at(row.get("last_success_ms")?, &mut reserve, of.now_ms) {
        return Ok(None);
    }
    let sql = "UPDATE sources SET reserve = $1 WHERE user_id = $2 AND source = $3";
    scene.session.execute(sql, args![reserve.to_octets(), &of.user_id, source]).await?;
    Ok(Some(state.counted(counter, of.now_ms)))
}

/// L-54: guesses without the password neither lock the user nor get around a lock.
async fn unverified(scene: &mut Scene<'_>, of: &Try, state: &State) -> Result<Counted, StoreError> {
    let refused = |retry_ms| Ok(Counted { granted: false, retry_ms, locked_now: false });
    if state.is_locked(of.now_ms) {
        return refused(state.locked_until_ms.max(0));
    }
    let sql = "SELECT unverified FROM guards WHERE user_id = $1";
    let row = scene.session.row(sql, args![&of.user_id]).await?;
    let octets = row.map_or(Ok(Vec::new()), |row| row.get::<Vec<u8>>("unverified"))?;
    let mut window = Window::<UNVERIFIED_TRIES>::from_octets(&octets);
    if let throttle::Try::Refused(open_ms) = window.reserve(of.now_ms) {
        return refused(open_ms.unwrap_or(0));
    }
    let sql = "INSERT INTO guards (user_id, unverified, last_success_ms) VALUES ($1, $2, 0) \
               ON CONFLICT (user_id) DO UPDATE SET unverified = excluded.unverified";
    scene.session.execute(sql, args![&of.user_id, window.to_octets()]).await?;
    Ok(Counted { granted: true, retry_ms: 0, locked_now: false })
}

/// Returns the handle of the proof, empty where there is none.
///
/// L-53: what was right before the password is used up here, and stays so whatever the password turns out to be.
pub async fn end(scene: &mut Scene<'_>, outcome: &Outcome) -> Result<String, StoreError> {
    let of = &outcome.of;
    if !outcome.right {
        if outcome.locked_now {
            tell_of_the_lock(scene, of).await?;
        }
        return Ok(String::new());
    }
    users::may_enter(scene.session, &of.user_id, of.now_ms).await?;
    if of.verified {
        let sql = "UPDATE secret_states SET wrong = $1, locked_until_ms = 0 WHERE user_id = $2 AND kind = $3";
        scene.session.execute(sql, args![Vec::new(), &of.user_id, of.kind]).await?;
    }
    let mut hashed_id = outcome.hashed_id.as_str();
    if !of.verified && !hashed_id.is_empty() {
        if !use_up(scene.session, scene.seal, hashed_id, 1, of.now_ms).await? {
            return Ok(String::new());
        }
        hashed_id = "";
        scene.changed_users.push(of.user_id.clone());
    }
    let handle = uuid::Uuid::new_v4().to_string();
    let sql = "INSERT INTO secret_proofs (handle, user_id, transaction_id, kind, hashed_id, expires_ms) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    let expires_ms = of.now_ms.saturating_add(PROOF_LIFE_MS);
    let arguments = args![&handle, &of.user_id, &outcome.transaction_id, of.kind, hashed_id, expires_ms];
    scene.session.execute(sql, arguments).await?;
    Ok(handle)
}

pub async fn tell_of_the_lock(scene: &mut Scene<'_>, of: &Try) -> Result<(), StoreError> {
    let sql = "SELECT u.username AS username, s.locked_until_ms AS locked_until_ms FROM users u \
               JOIN secret_states s ON s.user_id = u.user_id AND s.kind = $2 WHERE u.user_id = $1";
    let Some(row) = scene.session.row(sql, args![&of.user_id, of.kind]).await? else { return Ok(()) };
    let username: String = row.get("username")?;
    let until_ms: i64 = row.get("locked_until_ms")?;
    let until = users::until_text(until_ms);
    let once = |whose| proto::once::locked(whose, &of.user_id, until_ms, of.now_ms);
    let event = NewEvent::administrative(of.now_ms, "user.locked", "self", format!("{}, until {until}", of.kind));
    scene.events.push(event.about(&of.user_id, &username));
    if let Some(mail) = NewMail::to_user(scene.session, "locked", &of.user_id).await? {
        let mail = mail.with("until", &until).with("method", of.kind).once(once("user"));
        outbox::put_in(scene.session, scene.seal, mail, of.now_ms).await?;
    }
    let mail = NewMail::to_administrators("locked").with("username", &username).with("until", &until);
    let mail = mail.with("method", of.kind).once(once("administrators"));
    outbox::put_in(scene.session, scene.seal, mail, of.now_ms).await?;
    scene.changed_users.push(of.user_id.clone());
    Ok(())
}

impl State {
    fn is_locked(&self, now_ms: i64) -> bool {
        self.locked_until_ms < 0 || self.locked_until_ms > now_ms
    }

    fn refused(&self) -> Counted {
        Counted { granted: false, retry_ms: self.locked_until_ms.max(0), locked_now: false }
    }

    /// FV-22. The try that fills the window locks at once; if it turns out right, the lock goes with the count.
    fn count_pin(&mut self, rules: &PinRules, now_ms: i64) -> Counted {
        if self.is_locked(now_ms) {
            return self.refused();
        }
        let window_ms = i64::from(rules.lock_window_minutes) * MINUTE_MS;
        // A lock that is over leaves nothing of what led to it.
        let over = self.locked_until_ms > 0;
        self.locked_until_ms = 0;
        self.wrong.retain(|time| !over && time.saturating_add(window_ms) > now_ms);
        self.wrong.push(now_ms);
        let locked_now = self.wrong.len() >= usize::try_from(rules.lock_tries.max(1)).unwrap_or(1);
        if locked_now {
            self.locked_until_ms = match rules.lock_minutes {
                0 => -1,
                minutes => now_ms.saturating_add(i64::from(minutes) * MINUTE_MS),
            };
        }
        Counted { granted: true, retry_ms: 0, locked_now }
    }

    /// V-14: pauses from the fifth try on, an end at the hundredth.
    fn count(&mut self, now_ms: i64) -> Counted {
        if self.locked_until_ms < 0 {
            return self.refused();
        }
        let mut counter = self.counter();
        if let throttle::Try::Refused(open_ms) = counter.reserve(now_ms) {
            return Counted { granted: false, retry_ms: open_ms.unwrap_or(0), locked_now: false };
        }
        self.counted(counter, now_ms)
    }

    fn counter(&self) -> Counter {
        let failures = u32::try_from(self.wrong.len()).unwrap_or(u32::MAX);
        Counter { failures, open_ms: self.locked_until_ms.max(0) }
    }

    fn counted(&mut self, counter: Counter, now_ms: i64) -> Counted {
        let before = self.locked_until_ms;
        // A count that is at its end goes no further.
        if counter.failures > self.counter().failures {
            self.wrong.push(now_ms);
        }
        self.locked_until_ms = if counter.is_locked() { -1 } else { counter.open_ms };
        Counted { granted: true, retry_ms: 0, locked_now: counter.is_locked() && before >= 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_wrong_pins_within_the_window_lock_for_an_hour() {
        // FV-22
        let rules = PinRules::default();
        let mut state = State::default();
        let granted = |state: &mut State, at_ms| {
            let counted = state.count_pin(&rules, at_ms);
            (counted.granted, counted.locked_now)
        };
        for minute in 0..4 {
            assert_eq!(granted(&mut state, minute * MINUTE_MS), (true, false), "minute {minute}");
        }
        let mut later = state.clone();
        assert_eq!(granted(&mut state, 30 * MINUTE_MS - 1), (true, true), "the fifth fills the window");
        assert_eq!(granted(&mut state, 90 * MINUTE_MS - 2), (false, false));
        assert_eq!(granted(&mut state, 90 * MINUTE_MS - 1), (true, false), "and the count begins anew");
        assert_eq!(state.wrong.len(), 1);
        assert_eq!(granted(&mut later, 30 * MINUTE_MS), (true, false), "the first one has left the window");
    }

    #[test]
    fn a_lock_without_an_end_ends_with_an_unlock_alone() {
        // FV-22
        let rules = PinRules { lock_minutes: 0, lock_tries: 1, ..PinRules::default() };
        let mut state = State::default();
        assert!(state.count_pin(&rules, 5).locked_now);
        let refused = state.count_pin(&rules, i64::MAX);
        assert_eq!((refused.granted, refused.retry_ms), (false, 0));
    }

    #[test]
    fn other_secrets_have_the_pauses_and_the_end_of_every_factor() {
        // V-14
        let mut state = State::default();
        let granted = (0..200).filter(|_| state.count(1_000).granted).count();
        assert_eq!((granted, state.locked_until_ms), (5, 31_000));
        let mut now_ms = 31_000;
        let mut locked = 0;
        for _ in 0..300 {
            locked += u32::from(state.count(now_ms).locked_now);
            now_ms += 3_600_000;
        }
        assert_eq!((state.wrong.len(), state.locked_until_ms, locked), (100, -1, 1));
        assert!(!state.count(i64::MAX).granted);
    }

    #[test]
    fn a_reserve_counts_no_further_than_the_end() {
        // V-14, V-15
        let mut state = State { wrong: vec![0; 100], locked_until_ms: -1 };
        let mut counter = state.counter();
        assert!(counter.reserve_at(1_000, &mut Window::default(), 1_000));
        let counted = state.counted(counter, 1_000);
        assert!(counted.granted && !counted.locked_now);
        assert_eq!((state.wrong.len(), state.locked_until_ms), (100, -1));
    }
}
