//! What is kept as a hash: PINs, recovery codes, temporary codes, answers (V-31).
//!
//! ```text
//! check: count the try (step) -> hash beside the runtime -> right: a proof for Allow, the count set back (step);
//!                                                                  before the password also used up (L-53)
//!                                                        -> wrong: the lock told, if this try set it (step)
//! ```
//!
//! Counted before it is looked at, so that no number of parallel tries gets past the bound. No hash is computed inside a
//! transaction.

pub mod pin;
mod recovery;
mod tries;

pub use pin::{NewPin, set as set_pin_of, set_pin, set_random as set_random_pin};
pub use recovery::new_recovery_codes;
pub use tries::{Counted, Outcome, Try, count, count_from, end, tell_of_the_lock};

use super::group::{Answer, Step};
use crate::Store;
use crate::answers;
use crate::hashing::Purpose;
use crate::rpc::{StoreError, bounded, id};
use crate::sql::{Row, args};
use domain::Secret;
use proto::user_store::{CheckSecretReply, CheckSecretRequest, SecretKind, SecretResult, TryKind};
use std::collections::BTreeSet;
use subtle::{Choice, ConstantTimeEq};
use tonic::Status;

/// Answers asked at once.
const ANSWERS_MAX: usize = 10;
const SECRET_OCTETS_MAX: usize = 256;

/// A record that may be the one meant.
struct Candidate {
    hashed_id: String,
    label: String,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

pub async fn check_secret(store: &Store, request: CheckSecretRequest) -> Result<CheckSecretReply, StoreError> {
    let now_ms = store.at(request.now_unix_ms);
    id("transaction_id", &request.transaction_id)?;
    id("user_id", &request.user_id)?;
    let kind = match SecretKind::try_from(request.kind) {
        Ok(SecretKind::Pin) => "pin",
        Ok(SecretKind::Recovery) => "recovery",
        Ok(SecretKind::Temporary) => "temporary",
        Ok(SecretKind::Answers) => "answer",
        Ok(SecretKind::Unspecified) | Err(_) => {
            return Err(Status::invalid_argument("kind: no kind of secret").into());
        }
    };
    let verified = match TryKind::try_from(request.try_kind) {
        Ok(TryKind::AfterPassword) => true,
        Ok(TryKind::Unverified) => false,
        // V-75: an unknown kind is refused.
        Ok(TryKind::Unspecified) | Err(_) => {
            return Err(Status::invalid_argument("try_kind: is missing").into());
        }
    };
    let given = given(&request)?;
    let candidates = candidates(store, &request.user_id, kind, now_ms).await?;
    let none = CheckSecretReply { result: SecretResult::None.into(), ..CheckSecretReply::default() };
    if candidates.is_empty() {
        return Ok(none);
    }
    // Every question that is asked has an answer, and none is asked twice.
    let mut asked = Vec::new();
    for (label, secret) in &given {
        let of_label: Vec<&Candidate> = candidates.iter().filter(|it| it.label == *label).collect();
        if of_label.is_empty() {
            return Ok(none);
        }
        asked.push((of_label, secret));
    }
    let of = Try { user_id: request.user_id.clone(), kind, verified, now_ms };
    let counted = match store.group().step(Step::CountTry(of.clone())).await? {
        Answer::TryCounted(counted) => counted,
        _ => return Err(StoreError::Broken("an answer of another kind")),
    };
    if !counted.granted {
        let result = SecretResult::Locked.into();
        return Ok(CheckSecretReply { result, handle: String::new(), retry_unix_ms: counted.retry_ms });
    }
    // A try that could not be compared was counted all the same, and is no right one.
    let compared = compare_all(store, &request.user_id, kind, asked).await;
    let (right, hashed_id) = compared.as_ref().map_or((false, ""), |(right, hashed_id)| (*right, hashed_id));
    let outcome = Outcome {
        of,
        right,
        locked_now: counted.locked_now,
        transaction_id: request.transaction_id,
        // A PIN stays, and answers stay: there is nothing to use up.
        hashed_id: if matches!(kind, "recovery" | "temporary") { hashed_id.into() } else { String::new() },
    };
    if !right && !counted.locked_now {
        compared?;
        return Ok(CheckSecretReply { result: SecretResult::Wrong.into(), ..CheckSecretReply::default() });
    }
    let handle = match store.group().step(Step::EndTry(outcome)).await? {
        Answer::TryEnded(handle) => handle,
        _ => return Err(StoreError::Broken("an answer of another kind")),
    };
    compared?;
    // Without a proof somebody else used it up between the look and this.
    let result = if right && !handle.is_empty() { SecretResult::Right } else { SecretResult::Wrong };
    Ok(CheckSecretReply { result: result.into(), handle, retry_unix_ms: 0 })
}

/// What was typed, by question; without questions there is one thing.
fn given(request: &CheckSecretRequest) -> Result<Vec<(String, Secret)>, Status> {
    let bounded_secret = |secret: &proto::common::Secret| match secret.value.len() {
        1..=SECRET_OCTETS_MAX => Ok(Secret::from(secret.clone())),
        _ => Err(Status::invalid_argument("secret: 1 to 256 octets")),
    };
    if request.kind != i32::from(SecretKind::Answers) {
        let secret = request.secret.as_ref().ok_or_else(|| Status::invalid_argument("secret is missing"))?;
        return Ok(vec![(String::new(), bounded_secret(secret)?)]);
    }
    let distinct: BTreeSet<&String> = request.questions.iter().collect();
    let count = request.questions.len();
    if !(1..=ANSWERS_MAX).contains(&count) || request.answers.len() != count || distinct.len() != count {
        return Err(Status::invalid_argument("answers: one for each question, and no question twice"));
    }
    let pairs = request.questions.iter().zip(&request.answers);
    pairs.map(|(question, answer)| Ok((bounded(question, 256), answers::folded(&bounded_secret(answer)?)))).collect()
}

/// What is in force of this kind: the PIN, the set of recovery codes, the newest temporary code, all answers.
async fn candidates(store: &Store, user_id: &str, kind: &str, now_ms: i64) -> Result<Vec<Candidate>, StoreError> {
    let mut session = store.database().read().await?;
    if kind == "pin" && pin::initial_is_late(store, &mut session, user_id, now_ms).await? {
        return Ok(Vec::new());
    }
    let sql = "SELECT hashed_id, label, salt, hash FROM hashed WHERE user_id = $1 AND kind = $2 AND uses_left <> 0 \
               AND (expires_ms = 0 OR expires_ms > $3) ORDER BY created_ms DESC, hashed_id";
    let rows = session.rows(sql, args![user_id, kind, now_ms]).await?;
    let newest = if matches!(kind, "pin" | "temporary") { 1 } else { usize::MAX };
    rows.iter().take(newest).map(|row| Ok(candidate(row)?)).collect()
}

fn candidate(row: &Row) -> Result<Candidate, sqlx::Error> {
    Ok(Candidate {
        hashed_id: row.get("hashed_id")?,
        label: row.get("label")?,
        salt: row.get("salt")?,
        hash: row.get("hash")?,
    })
}

/// Is every secret one of its label's? With the record of the last one.
async fn compare_all(
    store: &Store,
    user_id: &str,
    kind: &'static str,
    asked: Vec<(Vec<&Candidate>, &Secret)>,
) -> Result<(bool, String), StoreError> {
    let mut right = Choice::from(1);
    let mut hashed_id = String::new();
    for (of_label, secret) in asked {
        let found = compare(store, user_id, kind, &of_label, secret).await?;
        right &= Choice::from(u8::from(found.is_some()));
        hashed_id = found.unwrap_or_default();
    }
    Ok((right.into(), hashed_id))
}

/// The record with this secret. One computation for all that share a salt, and all of them are compared.
async fn compare(
    store: &Store,
    user_id: &str,
    kind: &'static str,
    candidates: &[&Candidate],
    secret: &Secret,
) -> Result<Option<String>, StoreError> {
    let mut found = None;
    let salts: BTreeSet<&[u8]> = candidates.iter().map(|it| it.salt.as_slice()).collect();
    for salt in salts {
        let of_salt = candidates.iter().filter(|it| it.salt == salt);
        let label = of_salt.clone().next().map_or("", |it| it.label.as_str());
        let hash = store.hasher().hash(Purpose { user_id, kind, label }, salt, secret).await?;
        for candidate in of_salt {
            if bool::from(candidate.hash.ct_eq(&hash)) {
                found = Some(candidate.hashed_id.clone());
            }
        }
    }
    Ok(found)
}
