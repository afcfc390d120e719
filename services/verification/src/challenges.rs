//! Open rounds: in the bus's map, sealed, so that any node takes any answer (R-45), and each answer once (R-44).
//!
//! ```text
//! Ask      create   { step 1, tries 3 }
//! Answer   step n?  compare-and-swap to { step n + 1, tries - 1 }   lost: somebody else evaluates this round
//!          then, and only then, the answer is evaluated
//!          the same answer again: what came of it, kept beside the next step
//! ```
//!
//! A map that was wiped answers nothing: the person begins again, with the counters of the store where they were. While the
//! bus is away, what begins here lives here, bounded, and the store's counters still bound the tries.

use crate::attempt::Attempt;
use crate::commit::Ending;
use domain::{Assurance, Method, Reason, Source, TransactionId};
use proto::subjects::CHALLENGES_MAP;
use serde::{Deserialize, Serialize};
use service_kit::bus::{Bus, BusError, KeyRing, Map, MapOptions, SealedMap};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;
use tonic::Status;

/// How long a person has to answer a round, where the client has no rule of its own (FR-14).
pub const ROUND_MS: i64 = 120_000;
/// Wrong answers in a conversation, where the client has no rule of its own, and answers in all (FR-14).
const TRIES: u8 = 3;
pub const ROUNDS: u8 = 6;
/// The longest round: a text code's life, and the rounds that follow it (FR-14).
const ROUND_MAX_MS: i64 = 300_000;
/// What is kept longer than a round, so that a late answer finds out that it is late.
const LINGER_MS: i64 = 30_000;
/// Conversations kept on this node while the bus is away. Beyond it nothing new is asked; what is open stays.
const LOCAL_MAX: usize = 10_000;

/// What a client grants a person in a conversation (FR-14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub round_ms: i64,
    pub tries: u8,
}

impl Default for Limits {
    fn default() -> Self {
        Self { round_ms: ROUND_MS, tries: TRIES }
    }
}

impl Limits {
    /// As a client's settings say; what is out of bounds is the nearest that is in them.
    pub fn of(client: &domain::settings::Client) -> Self {
        Self {
            round_ms: (i64::from(client.challenge_seconds) * 1000).clamp(30_000, ROUND_MAX_MS),
            tries: u8::try_from(client.answers_max.clamp(1, 5)).unwrap_or(TRIES),
        }
    }
}

/// A conversation with a person, after the password or with a code spent before it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Record {
    pub attempt: Attempt,
    pub user_id: String,
    pub expires_unix_ms: i64,
    pub stage: Stage,
    /// The person chose it, by a keyword or from a list: no other is asked by itself.
    pub wanted: Option<Method>,
    /// Methods that failed for technical reasons: they are not asked again.
    pub failed: Vec<Method>,
    /// What the success is remembered by; empty = it is not (V-50).
    pub remember_key: Vec<u8>,
    /// How long a round of it is.
    #[serde(default = "usual_round_ms")]
    pub round_ms: i64,
    /// The answer that was taken last.
    #[serde(default)]
    pub taken: Option<Taken>,
}

fn usual_round_ms() -> i64 {
    ROUND_MS
}

/// An answer, known again by its keyed digest, and what came of it: for a caller that did not hear it (V-02).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub step: u32,
    pub key_id: u32,
    pub digest: Vec<u8>,
    /// `None`: it is being evaluated.
    pub came: Option<Came>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Came {
    /// The round that is open now was asked.
    Asked {
        previous: Option<Reason>,
        rule: String,
    },
    Allowed(Allowed),
    Denied(Ending),
}

/// An Allow as the store has committed it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    pub reason: Reason,
    pub method: Option<Method>,
    pub assurance: Assurance,
    pub source: Source,
    pub expires_unix_ms: i64,
}

impl From<&policy::Grant> for Came {
    fn from(grant: &policy::Grant) -> Self {
        Self::Allowed(Allowed {
            reason: grant.reason(),
            method: grant.method(),
            assurance: grant.assurance(),
            source: grant.source(),
            expires_unix_ms: grant.expires_unix_ms(),
        })
    }
}

impl Record {
    /// The answer that was taken last, with what has come of it.
    pub fn taken_and(&self, came: Came) -> Option<Taken> {
        self.taken.clone().map(|taken| Taken { came: Some(came), ..taken })
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The password was right; this round waits for its answer.
    Asked { step: u32, tries_left: u8, rounds_left: u8, round: Round },
    /// The appended code was right and is spent; the password is being checked (L-53).
    CodeSpent(Spent),
    /// Over.
    Closed,
}

/// What a round asks for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Round {
    /// A code of a token, a recovery or a temporary code.
    Code,
    /// The code after that of counter `first`, which was too far ahead to count alone; or any code as in [`Round::Code`].
    NextCode {
        factor_id: String,
        first: u64,
    },
    /// The code that was sent. `right`: it was typed, and the PIN beside it was wrong.
    SentCode {
        sent: Sent,
        right: bool,
    },
    /// A place in this list, or a code.
    Choice {
        methods: Vec<Method>,
    },
    /// The person's answer on the phone.
    Approval(Approval),
    /// A PIN of the person's own, and the same again: of the first one its digest is kept.
    NewPin {
        pin_handle: String,
        key_id: u32,
        first: Vec<u8>,
    },
    Questions {
        questions: Vec<String>,
    },
    /// An assertion over this challenge.
    Passkey {
        challenge: Vec<u8>,
        options_json: String,
    },
}

/// An open prompt, as the client shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub method: Method,
    pub prompt_id: String,
    /// Two digits; empty = none is shown.
    pub number: String,
    pub expires_unix_ms: i64,
    /// Masked.
    pub destination: String,
    /// Who carried it, for the metrics.
    pub provider: String,
}

/// A code on its way: what its digest was made with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub key_id: u32,
    pub digest: Vec<u8>,
    pub digits: u8,
    pub pin: bool,
    /// Masked.
    pub destination: String,
}

/// What was spent before the password was known.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spent {
    Code {
        factor_id: String,
        step: u64,
        drift: i32,
    },
    /// A recovery or temporary code, by the handle of its check.
    Secret {
        method: Option<Method>,
        handle: String,
    },
}

/// A record as it was read: what a change must name.
#[derive(Clone)]
pub struct Held {
    pub record: Record,
    revision: u64,
    place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Map,
    Here,
}

/// The outcome of opening.
pub enum Opened {
    New(Box<Held>),
    /// The same attempt was here before.
    Before(Box<Held>),
}

pub struct Challenges {
    map: Arc<dyn Map>,
    /// The map with the keys of the ring; none yet until the store gave them.
    sealed: RwLock<Option<Arc<dyn Map>>>,
    here: Mutex<HashMap<TransactionId, (Record, u64)>>,
}

impl Challenges {
    pub fn new(bus: &dyn Bus) -> Self {
        let ttl = Duration::from_millis((ROUND_MAX_MS + LINGER_MS).unsigned_abs());
        let options = MapOptions { ttl, max_value_bytes: 8 * 1024, ..MapOptions::default() };
        Self { map: bus.map(CHALLENGES_MAP, options), sealed: RwLock::default(), here: Mutex::default() }
    }

    /// The keys that records are sealed with (V-73).
    pub fn set_keys(&self, ring: KeyRing) {
        *self.sealed.write().expect("nobody panics while holding the map") =
            Some(SealedMap::new(self.map.clone(), ring));
    }

    /// Begins a conversation, unless the transaction has one.
    pub async fn open(&self, record: &Record, now_unix_ms: i64) -> Result<Opened, Status> {
        let transaction = record.attempt.origin.transaction;
        if let Some(held) = self.find_here(transaction) {
            return Ok(Opened::Before(Box::new(held)));
        }
        match self.sealed()?.create(&transaction.to_string(), encoded(record)).await {
            Ok(revision) => Ok(Opened::New(Box::new(Held { record: record.clone(), revision, place: Place::Map }))),
            Err(BusError::AlreadyExists) => match self.find(transaction).await? {
                Some(held) => Ok(Opened::Before(Box::new(held))),
                // there, but not ours: forged, or sealed with a key that is gone
                None => Err(unavailable()),
            },
            // No other place would hold it either.
            Err(error @ BusError::Full { .. }) => Err(away(&error)),
            // If the map holds it all the same, its round can be answered there as well as here: one more try, which the
            // store counts.
            Err(error) => {
                tracing::warn!(error = %error, "challenge kept on this node only");
                self.open_here(record, now_unix_ms)
            }
        }
    }

    /// `None`: there is no such conversation, or nothing that we sealed for it.
    pub async fn find(&self, transaction: TransactionId) -> Result<Option<Held>, Status> {
        if let Some(held) = self.find_here(transaction) {
            return Ok(Some(held));
        }
        let entry = match self.sealed()?.get(&transaction.to_string()).await {
            Ok(entry) => entry,
            Err(BusError::NotOurs) => None,
            // It may be open, and nobody can see it.
            Err(error) => return Err(away(&error)),
        };
        Ok(entry.and_then(|entry| {
            let record: Record = serde_json::from_slice(&entry.value).ok()?;
            let ours = record.attempt.origin.transaction == transaction;
            ours.then_some(Held { record, revision: entry.revision, place: Place::Map })
        }))
    }

    /// Puts `record` in the place of what was read. `None`: somebody was faster.
    pub async fn replace(&self, held: &Held, record: Record) -> Result<Option<Held>, Status> {
        let transaction = record.attempt.origin.transaction;
        let revision = match held.place {
            Place::Map => {
                match self.sealed()?.update(&transaction.to_string(), encoded(&record), held.revision).await {
                    Ok(revision) => revision,
                    Err(BusError::WrongRevision) => return Ok(None),
                    Err(error) => return Err(away(&error)),
                }
            }
            Place::Here => {
                let mut here = self.here();
                let kept = here.get_mut(&transaction).filter(|(_, revision)| *revision == held.revision);
                let Some(kept) = kept else { return Ok(None) };
                *kept = (record.clone(), held.revision + 1);
                held.revision + 1
            }
        };
        Ok(Some(Held { record, revision, place: held.place }))
    }

    /// Ends a conversation, by what came of its last answer; `false`: somebody was faster.
    pub async fn close(&self, held: &Held, came: Came) -> Result<bool, Status> {
        let taken = held.record.taken_and(came);
        let record = Record { stage: Stage::Closed, remember_key: Vec::new(), taken, ..held.record.clone() };
        Ok(self.replace(held, record).await?.is_some())
    }

    fn find_here(&self, transaction: TransactionId) -> Option<Held> {
        let (record, revision) = self.here().get(&transaction).cloned()?;
        Some(Held { record, revision, place: Place::Here })
    }

    fn open_here(&self, record: &Record, now_unix_ms: i64) -> Result<Opened, Status> {
        let mut here = self.here();
        if here.len() >= LOCAL_MAX {
            here.retain(|_, (record, _)| record.expires_unix_ms + LINGER_MS > now_unix_ms);
        }
        if here.len() >= LOCAL_MAX {
            return Err(Status::resource_exhausted(Reason::Overloaded.code()));
        }
        here.insert(record.attempt.origin.transaction, (record.clone(), 1));
        Ok(Opened::New(Box::new(Held { record: record.clone(), revision: 1, place: Place::Here })))
    }

    fn sealed(&self) -> Result<Arc<dyn Map>, Status> {
        self.sealed.read().expect("nobody panics while holding the map").clone().ok_or_else(unavailable)
    }

    fn here(&self) -> MutexGuard<'_, HashMap<TransactionId, (Record, u64)>> {
        self.here.lock().expect("nobody panics while holding the conversations")
    }
}

fn encoded(record: &Record) -> bytes::Bytes {
    serde_json::to_vec(record).expect("a record is text, numbers and enums").into()
}

fn away(error: &BusError) -> Status {
    tracing::warn!(error = %error, "the map of challenges did not answer");
    unavailable()
}

fn unavailable() -> Status {
    Status::unavailable(Reason::VerificationUnavailable.code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{DirectoryRef, Protocol};
    use uuid::Uuid;

    /// As the build before wrote it, before the stage and behind it.
    const BEFORE: &str = r#"{"attempt":{"origin":{"transaction":"00000000-0000-0000-0000-000000000007","client":"vpn","protocol":"radius","username":"ann","client_ip":"192.0.2.1","calling_station":"198.51.100.7","vouched":false},"subject":{"directory":"corp","id":"entryUUID:00000000-0000-0000-0000-000000000005"},"client_ip":"192.0.2.1","person_ip":null,"can_challenge":true,"dialogue":false,"as_service_account":false},"user_id":"u-1","expires_unix_ms":1790000000000,"stage":"#;
    const BEHIND: &str = r#","wanted":"code","failed":["push"],"remember_key":[4,5],"round_ms":90000,"taken":"#;
    const ROUNDS: [&str; 8] = [
        r#""Code""#,
        r#"{"NextCode":{"factor_id":"f-1","first":9}}"#,
        r#"{"SentCode":{"sent":{"key_id":3,"digest":[6],"digits":6,"pin":true,"destination":"+49*20"},"right":true}}"#,
        r#"{"Choice":{"methods":["code","call"]}}"#,
        r#"{"Approval":{"method":"push","prompt_id":"p-1","number":"42","expires_unix_ms":1790000000001,"destination":"phone","provider":"fcm"}}"#,
        r#"{"NewPin":{"pin_handle":"h-1","key_id":2,"first":[7]}}"#,
        r#"{"Questions":{"questions":["Pet?"]}}"#,
        r#"{"Passkey":{"challenge":[8],"options_json":"{}"}}"#,
    ];
    const OTHERWISE: [&str; 3] = [
        r#"{"CodeSpent":{"Code":{"factor_id":"f-1","step":59666666,"drift":-1}}}"#,
        r#"{"CodeSpent":{"Secret":{"method":null,"handle":"h-2"}}}"#,
        r#""Closed""#,
    ];
    const TAKEN: [&str; 5] = [
        "null",
        r#"{"step":1,"key_id":2,"digest":[3],"came":null}"#,
        r#"{"step":1,"key_id":2,"digest":[3],"came":{"Asked":{"previous":"wrong_code","rule":""}}}"#,
        r#"{"step":1,"key_id":2,"digest":[3],"came":{"Allowed":{"reason":"valid_code","method":"code","assurance":"code","source":"live","expires_unix_ms":1790000000002}}}"#,
        r#"{"step":1,"key_id":2,"digest":[3],"came":{"Denied":{"reason":"wrong_code","method":"code","until_unix_ms":0}}}"#,
    ];

    fn record(stage: Stage, taken: Option<Taken>) -> Record {
        let object_id = format!("entryUUID:{}", Uuid::from_u128(5));
        let subject = proto::common::DirectoryRef { directory: "corp".into(), object_id };
        let origin = crate::attempt::Origin {
            transaction: TransactionId(Uuid::from_u128(7)),
            client: "vpn".into(),
            protocol: Protocol::Radius,
            username: "ann".into(),
            client_ip: "192.0.2.1".into(),
            calling_station: "198.51.100.7".into(),
            vouched: false,
        };
        let attempt = Attempt {
            origin,
            subject: Some(DirectoryRef::try_from(subject).expect("a reference")),
            client_ip: Some([192, 0, 2, 1].into()),
            person_ip: None,
            can_challenge: true,
            dialogue: false,
            as_service_account: false,
            password_digest: vec![1, 2, 3],
            password_stamp: "1".into(),
        };
        Record {
            attempt,
            user_id: "u-1".into(),
            expires_unix_ms: 1_790_000_000_000,
            stage,
            wanted: Some(Method::Code),
            failed: vec![Method::Push],
            remember_key: vec![4, 5],
            round_ms: 90_000,
            taken,
        }
    }

    fn stages() -> Vec<Stage> {
        let text = String::from;
        let sent = Sent { key_id: 3, digest: vec![6], digits: 6, pin: true, destination: text("+49*20") };
        let approval = Approval {
            method: Method::Push,
            prompt_id: text("p-1"),
            number: text("42"),
            expires_unix_ms: 1_790_000_000_001,
            destination: text("phone"),
            provider: text("fcm"),
        };
        let rounds = [
            Round::Code,
            Round::NextCode { factor_id: text("f-1"), first: 9 },
            Round::SentCode { sent, right: true },
            Round::Choice { methods: vec![Method::Code, Method::Call] },
            Round::Approval(approval),
            Round::NewPin { pin_handle: text("h-1"), key_id: 2, first: vec![7] },
            Round::Questions { questions: vec![text("Pet?")] },
            Round::Passkey { challenge: vec![8], options_json: text("{}") },
        ];
        let asked = |round| Stage::Asked { step: 2, tries_left: 1, rounds_left: 4, round };
        let spent = [
            Spent::Code { factor_id: text("f-1"), step: 59_666_666, drift: -1 },
            Spent::Secret { method: None, handle: text("h-2") },
        ];
        rounds.map(asked).into_iter().chain(spent.map(Stage::CodeSpent)).chain([Stage::Closed]).collect()
    }

    fn taken() -> Vec<Option<Taken>> {
        let taken = |came| Some(Taken { step: 1, key_id: 2, digest: vec![3], came });
        let allowed = Allowed {
            reason: Reason::ValidCode,
            method: Some(Method::Code),
            assurance: Assurance::Code,
            source: Source::Live,
            expires_unix_ms: 1_790_000_000_002,
        };
        vec![
            None,
            taken(None),
            taken(Some(Came::Asked { previous: Some(Reason::WrongCode), rule: String::new() })),
            taken(Some(Came::Allowed(allowed))),
            taken(Some(Came::Denied(Ending::of(Reason::WrongCode, Method::Code)))),
        ]
    }

    #[test]
    fn a_conversation_has_the_form_that_the_build_before_wrote() {
        // T-11, R-45: nodes of two builds take each other's answers while they are exchanged one by one. What is new in a record may be
        // absent, and is of no use to who does not know it.
        let asked =
            ROUNDS.map(|round| format!(r#"{{"Asked":{{"step":2,"tries_left":1,"rounds_left":4,"round":{round}}}}}"#));
        let written = asked.iter().map(String::as_str).chain(OTHERWISE);
        let stages = stages().into_iter().map(|stage| record(stage, None));
        let taken = taken().into_iter().map(|taken| record(Stage::Closed, taken));
        let records: Vec<Record> = stages.chain(taken).collect();
        let written = written.map(|stage| format!("{BEFORE}{stage}{BEHIND}null}}"));
        let written = written.chain(TAKEN.map(|taken| format!(r#"{BEFORE}"Closed"{BEHIND}{taken}}}"#)));
        let written: Vec<String> = written.collect();
        assert_eq!(records.len(), written.len());
        for (record, written) in records.iter().zip(&written) {
            assert_eq!(String::from_utf8_lossy(&encoded(record)), *written);
            let read: Record = serde_json::from_str(written).expect("a record");
            assert_eq!(encoded(&read), encoded(record), "as it was read");
            // A build to come may say more.
            let more = format!(r#"{},"more":1}}"#, &written[..written.len() - 1]);
            let read: Record = serde_json::from_str(&more).expect("a record");
            assert_eq!(encoded(&read), encoded(record), "what is not known here is passed over");
        }
        // One of before these were there.
        let old = written[0].replace(r#","round_ms":90000,"taken":null"#, "");
        let read: Record = serde_json::from_str(&old).expect("a record");
        assert_eq!((read.round_ms, read.taken.is_none()), (ROUND_MS, true));
    }
}
