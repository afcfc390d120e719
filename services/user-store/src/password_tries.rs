//! The lockout guard (L-56): how many passwords of a person may still be tried at a directory that locks accounts.
//!
//! A try is counted before it is made, so that no number of gateways gets past the limit at once, and is settled when the directory
//! has answered. The window runs from the last wrong password, as in Active Directory (MS-ADA1, badPwdCount and
//! lockOutObservationWindow): a directory whose window slides locks later, never earlier.

use crate::Store;
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use crate::throttle;
use domain::DirectoryRef;
use proto::user_store::{
    PasswordOutcome, PasswordTry, ReservePasswordReply, ReservePasswordRequest, SettlePasswordReply,
    SettlePasswordRequest, password_tries_server::PasswordTries,
};
use std::hash::{DefaultHasher, Hash, Hasher};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

/// Longer than any bind may take. Who tells no end by then was lost with it, and the password may have been wrong.
const TOLD_WITHIN_MS: i64 = 180_000;
const MINUTE_MS: i64 = 60_000;

/// Persons whose tries are counted at the same time on this node. One and the same waits here: in line for a row each would hold one
/// of the few connections.
const LINES: usize = 64;

pub struct PasswordTriesService {
    store: Store,
    lines: [Mutex<()>; LINES],
}

impl PasswordTriesService {
    pub fn new(store: Store) -> Self {
        Self { store, lines: std::array::from_fn(|_| Mutex::default()) }
    }

    fn line(&self, subject: &DirectoryRef) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        subject.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % LINES as u64).unwrap_or_default();
        self.lines.get(place).unwrap_or(&self.lines[0])
    }
}

#[tonic::async_trait]
impl PasswordTries for PasswordTriesService {
    async fn reserve(
        &self,
        request: Request<ReservePasswordRequest>,
    ) -> Result<Response<ReservePasswordReply>, Status> {
        let ReservePasswordRequest { subject, wrong_max, window_minutes } = request.into_inner();
        let limits = Limits { wrong_max: wrong_max.max(1), window_ms: i64::from(window_minutes) * MINUTE_MS };
        let subject = whose(subject)?;
        let _first = self.line(&subject).lock().await;
        let now_ms = self.store.clock().now_ms();
        // Of a crowd most have to wait or to go: they are told so by reading alone.
        let turn = match found(&self.store, &subject).await?.reserve(limits, now_ms) {
            Turn::Granted => changed(&self.store, &subject, |tries| tries.reserve(limits, now_ms)).await?,
            refused => refused,
        };
        let (result, handle, retry_unix_ms) = match turn {
            Turn::Granted => (PasswordTry::Granted, now_ms, 0),
            Turn::Busy => (PasswordTry::Busy, 0, 0),
            Turn::Exhausted { until_ms } => (PasswordTry::Exhausted, 0, until_ms),
        };
        Ok(Response::new(ReservePasswordReply { result: result.into(), handle, retry_unix_ms }))
    }

    async fn settle(&self, request: Request<SettlePasswordRequest>) -> Result<Response<SettlePasswordReply>, Status> {
        let SettlePasswordRequest { subject, handle, outcome } = request.into_inner();
        let outcome = PasswordOutcome::try_from(outcome).unwrap_or_default();
        if outcome == PasswordOutcome::Unspecified {
            return Err(Status::invalid_argument("outcome is missing"));
        }
        let now_ms = self.store.clock().now_ms();
        changed(&self.store, &whose(subject)?, |tries| tries.settle(handle, outcome, now_ms)).await?;
        Ok(Response::new(SettlePasswordReply {}))
    }
}

fn whose(subject: Option<proto::common::DirectoryRef>) -> Result<DirectoryRef, Status> {
    let missing = || Status::invalid_argument("subject is missing, or is none");
    subject.and_then(|subject| subject.try_into().ok()).ok_or_else(missing)
}

/// Nothing of before counts any more: an administrator unlocks.
pub async fn forget(session: &mut Session, user_id: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM password_tries WHERE EXISTS (SELECT 1 FROM users u WHERE u.user_id = $1 \
               AND u.directory = password_tries.directory AND u.object_id = password_tries.object_id)";
    session.execute(sql, args![user_id]).await?;
    Ok(())
}

/// One person's row as it stands, perhaps behind what others are doing to it.
async fn found(store: &Store, subject: &DirectoryRef) -> Result<Tries, StoreError> {
    let mut session = store.database().read().await?;
    let (directory, object_id) = (subject.directory.to_string(), subject.id.to_string());
    Ok(Tries::of(&mut session, &directory, &object_id).await?.unwrap_or_default())
}

/// One person's row under its lock, through `change`.
async fn changed<T>(
    store: &Store,
    subject: &DirectoryRef,
    change: impl FnOnce(&mut Tries) -> T,
) -> Result<T, StoreError> {
    let (directory, object_id) = (subject.directory.to_string(), subject.id.to_string());
    let mut session = store.database().write().await?;
    // The row has to be there before it can be locked.
    let sql = "INSERT INTO password_tries (directory, object_id, wrong, last_ms, open, touched_ms) \
               VALUES ($1, $2, 0, 0, $3, $4) \
               ON CONFLICT (directory, object_id) DO UPDATE SET touched_ms = excluded.touched_ms";
    session.execute(sql, args![&directory, &object_id, Vec::new(), store.clock().now_ms()]).await?;
    let mut tries = Tries::of(&mut session, &directory, &object_id).await?.ok_or(StoreError::Overtaken)?;
    let result = change(&mut tries);
    if tries.is_nothing() {
        let sql = "DELETE FROM password_tries WHERE directory = $1 AND object_id = $2";
        session.execute(sql, args![&directory, &object_id]).await?;
    } else {
        let sql =
            "UPDATE password_tries SET wrong = $3, last_ms = $4, open = $5 WHERE directory = $1 AND object_id = $2";
        let open: Vec<u8> = tries.open.iter().flat_map(|time| time.to_be_bytes()).collect();
        session.execute(sql, args![&directory, &object_id, tries.wrong, tries.last_ms, open]).await?;
    }
    session.commit().await?;
    Ok(result)
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    wrong_max: u32,
    window_ms: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Granted,
    Busy,
    Exhausted { until_ms: i64 },
}

/// What is known of a person's passwords.
#[derive(Debug, Default)]
struct Tries {
    /// Since the last right one, and when the last of them was.
    wrong: u32,
    last_ms: i64,
    /// When those began that are in work.
    open: Vec<i64>,
}

impl Tries {
    async fn of(session: &mut Session, directory: &str, object_id: &str) -> Result<Option<Self>, StoreError> {
        let sql = "SELECT wrong, last_ms, open FROM password_tries WHERE directory = $1 AND object_id = $2";
        let Some(row) = session.row(sql, args![directory, object_id]).await? else { return Ok(None) };
        Ok(Some(Self {
            wrong: u32::try_from(row.unsigned("wrong")?).unwrap_or(u32::MAX),
            last_ms: row.get("last_ms")?,
            open: throttle::times(&row.get::<Vec<u8>>("open")?),
        }))
    }

    fn reserve(&mut self, limits: Limits, now_ms: i64) -> Turn {
        let (open, lost) = self.open.iter().partition::<Vec<i64>, _>(|began| now_ms - **began < TOLD_WITHIN_MS);
        self.open = open;
        lost.into_iter().for_each(|began| self.count(began));
        let until_ms = self.last_ms.saturating_add(limits.window_ms);
        if self.wrong > 0 && until_ms <= now_ms {
            self.wrong = 0;
        }
        if self.wrong >= limits.wrong_max {
            return Turn::Exhausted { until_ms };
        }
        let in_work = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        if self.wrong.saturating_add(in_work) >= limits.wrong_max {
            return Turn::Busy;
        }
        self.open.push(now_ms);
        Turn::Granted
    }

    fn settle(&mut self, handle: i64, outcome: PasswordOutcome, now_ms: i64) {
        let Some(place) = self.open.iter().position(|began| *began == handle) else {
            // Told twice, or so late that it counted as wrong.
            return;
        };
        self.open.remove(place);
        match outcome {
            PasswordOutcome::Right => self.wrong = 0,
            PasswordOutcome::Wrong => self.count(now_ms),
            PasswordOutcome::NotCounted | PasswordOutcome::Unspecified => {}
        }
    }

    fn count(&mut self, at_ms: i64) {
        self.wrong = self.wrong.saturating_add(1);
        self.last_ms = self.last_ms.max(at_ms);
    }

    fn is_nothing(&self) -> bool {
        self.wrong == 0 && self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { wrong_max: 3, window_ms: 30 * MINUTE_MS };
    const NOON: i64 = 1_790_000_000_000;

    fn tried(tries: &mut Tries, outcome: PasswordOutcome, at_ms: i64) -> Turn {
        let turn = tries.reserve(LIMITS, at_ms);
        if turn == Turn::Granted {
            tries.settle(at_ms, outcome, at_ms);
        }
        turn
    }

    #[test]
    fn l56_the_window_runs_from_the_last_wrong_password() {
        let mut tries = Tries::default();
        for minute in [0, 10, 20] {
            assert_eq!(tried(&mut tries, PasswordOutcome::Wrong, NOON + minute * MINUTE_MS), Turn::Granted);
        }
        let until_ms = NOON + 50 * MINUTE_MS;
        assert_eq!(tried(&mut tries, PasswordOutcome::Right, until_ms - 1), Turn::Exhausted { until_ms });
        // A refused one was not tried: it does not make it longer.
        assert_eq!(tried(&mut tries, PasswordOutcome::Wrong, until_ms), Turn::Granted);
        assert_eq!(tries.wrong, 1, "the count begins anew, as the directory's does");
    }

    #[test]
    fn l56_a_right_password_begins_the_count_anew_and_one_not_looked_at_changes_nothing() {
        let mut tries = Tries::default();
        for _ in 0..20 {
            assert_eq!(tried(&mut tries, PasswordOutcome::Wrong, NOON), Turn::Granted);
            assert_eq!(tried(&mut tries, PasswordOutcome::NotCounted, NOON), Turn::Granted);
            assert_eq!(tries.wrong, 1);
            assert_eq!(tried(&mut tries, PasswordOutcome::Right, NOON), Turn::Granted);
            assert!(tries.is_nothing());
        }
    }

    #[test]
    fn l56_no_more_are_in_work_at_once_than_may_be_wrong() {
        let mut tries = Tries::default();
        assert_eq!(tried(&mut tries, PasswordOutcome::Wrong, NOON), Turn::Granted);
        let turns: Vec<Turn> = (0..100).map(|_| tries.reserve(LIMITS, NOON)).collect();
        assert_eq!(turns.iter().filter(|turn| **turn == Turn::Granted).count(), 2);
        assert_eq!(turns[2], Turn::Busy, "whoever waits may still get a turn");
        tries.settle(NOON, PasswordOutcome::Wrong, NOON);
        tries.settle(NOON, PasswordOutcome::Wrong, NOON);
        assert!(matches!(tries.reserve(LIMITS, NOON), Turn::Exhausted { .. }));
    }

    #[test]
    fn l56_whoever_never_tells_the_end_had_a_wrong_one() {
        let mut tries = Tries::default();
        assert_eq!(tries.reserve(LIMITS, NOON), Turn::Granted);
        let later = NOON + TOLD_WITHIN_MS;
        assert_eq!(tries.reserve(LIMITS, later), Turn::Granted);
        assert_eq!((tries.wrong, tries.last_ms, tries.open.len()), (1, NOON, 1));
        // Its end comes after all: it has been counted.
        tries.settle(NOON, PasswordOutcome::Right, later);
        assert_eq!(tries.wrong, 1);
    }

    #[test]
    fn l56_never_more_wrong_ones_than_allowed_stand_in_any_window() {
        // Whatever the order, a directory that resets its own count after the same window sees at most `wrong_max` in a row.
        let mut state = 7_u64;
        let mut next = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut tries, mut now_ms) = (Tries::default(), NOON);
        let (mut there, mut last_there) = (0_u32, 0_i64);
        for _ in 0..20_000 {
            now_ms += i64::try_from(next(20)).expect("small") * MINUTE_MS;
            let outcome = if next(8) == 0 { PasswordOutcome::Right } else { PasswordOutcome::Wrong };
            if tried(&mut tries, outcome, now_ms) != Turn::Granted {
                continue;
            }
            if now_ms - last_there >= LIMITS.window_ms {
                there = 0;
            }
            match outcome {
                PasswordOutcome::Right => there = 0,
                _ => (there, last_there) = (there + 1, now_ms),
            }
            assert!(there <= LIMITS.wrong_max, "the directory has counted {there}");
        }
    }
}
