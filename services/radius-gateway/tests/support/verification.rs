//! A verification with one code per person and no policy, which can be made to misbehave.

use domain::TransactionId;
use proto::verification::verification_server::Verification;
use proto::verification::{
    Allow, AnswerRequest, AppendedFormsReply, AppendedFormsRequest, Ask, AskKind, Attempt, BeginRequest, CancelReply,
    CancelRequest, CodeAccepted, CompleteRequest, Deny, Outcome, PasswordChangedReply, PasswordChangedRequest, Primary,
    ReportReply, ReportRequest, outcome::Result as Result_,
};
use service_kit::Clock;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use tonic::{Request, Response, Status, async_trait};
use uuid::Uuid;

/// What every right code looks like; the last digit makes another one.
pub const CODE: &str = "912345";
pub const SECOND_CODE: &str = "912346";
pub const CODES: [&str; 2] = [CODE, SECOND_CODE];
pub const TRIES: u32 = 3;

pub struct FakeVerification {
    clock: Clock,
    state: Mutex<State>,
    /// Decisions wait while it is set.
    held: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    fault: Option<Fault>,
    spent_codes: HashSet<String>,
    spent_before_bind: HashSet<String>,
    challenges: HashMap<String, Challenge>,
    begun: HashMap<(String, i32), Outcome>,
    not_enrolled: HashSet<String>,
    /// What people do on their phones.
    phones: HashMap<String, &'static str>,
    attempts: Vec<(Attempt, String)>,
    /// Whom a decision is waited for, where nobody is asked twice at once.
    prompted: Option<HashMap<String, String>>,
    /// Attempts that were ended while somebody was waited for.
    withdrawn: HashSet<String>,
    abandoned: usize,
}

/// Notes a call whose caller left before it was answered.
struct Caller<'a>(Option<&'a Mutex<State>>);

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.0 {
            state.lock().expect("no panic while held").abandoned += 1;
        }
    }
}

struct Challenge {
    client: String,
    step: u32,
    tries: u32,
}

/// A call it had, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Begin {
        username: String,
        code: Option<String>,
    },
    BeginBeforeBind {
        username: String,
        code: String,
    },
    Complete,
    Answer {
        step: u32,
        answer: String,
    },
    Cancel {
        reason: String,
    },
    Report {
        username: String,
        reason: String,
    },
    /// The id of whose.
    PasswordChanged(String),
}

/// How it misbehaves, until told otherwise.
#[derive(Clone)]
pub enum Fault {
    Unavailable,
    Hangs,
    Slow(Duration),
    /// Not only decisions: every call.
    Sluggish(Duration),
    /// Answers every call with what no client can read.
    Garbage,
    /// Has no room for the calls that this chooses.
    Overloaded(Arc<dyn Fn() -> bool + Send + Sync>),
    /// Decides at once, commits, and keeps the caller waiting for the answer.
    SlowToSay(Duration),
    /// Ends at once what is decided, and late what is withdrawn.
    SlowToWithdraw(Duration),
    /// Changes what it would have said.
    Twists(Arc<dyn Fn(&mut Outcome) + Send + Sync>),
}

impl Fault {
    pub fn twists(twist: impl Fn(&mut Outcome) + Send + Sync + 'static) -> Self {
        Self::Twists(Arc::new(twist))
    }
}

impl FakeVerification {
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default(), held: watch::Sender::new(false) })
    }

    pub fn misbehave(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// Every call since the start, questions about code lengths apart.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Calls that could have decided something.
    pub fn decisions(&self) -> usize {
        let decides =
            |call: &&Call| !matches!(call, Call::Cancel { .. } | Call::Report { .. } | Call::PasswordChanged(_));
        self.lock().calls.iter().filter(decides).count()
    }

    pub fn reports(&self) -> Vec<(String, String)> {
        let report = |call: &Call| match call {
            Call::Report { username, reason } => Some((username.clone(), reason.clone())),
            _ => None,
        };
        self.lock().calls.iter().filter_map(report).collect()
    }

    pub fn cancels(&self) -> Vec<String> {
        let cancel = |call: &Call| match call {
            Call::Cancel { reason } => Some(reason.clone()),
            _ => None,
        };
        self.lock().calls.iter().filter_map(cancel).collect()
    }

    /// What it was told of every attempt that began, and the method that was wanted.
    pub fn attempts(&self) -> Vec<(Attempt, String)> {
        self.lock().attempts.clone()
    }

    /// Calls whose caller left before they were answered: what they had open is withdrawn.
    pub fn abandoned(&self) -> usize {
        self.lock().abandoned
    }

    /// Decisions wait, as for a person, until they are let go.
    pub fn hold(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// From now on a person who is being asked is not asked again beside it.
    pub fn one_prompt_each(&self) {
        self.lock().prompted = Some(HashMap::new());
    }

    /// Codes are new again.
    pub fn forget_spent_codes(&self) {
        self.lock().spent_codes.clear();
    }

    pub fn without_factor(&self, username: &str) {
        self.lock().not_enrolled.insert(username.to_owned());
    }

    /// From now on this person is asked on the phone, and answers so: "user_approved" lets in.
    pub fn on_the_phone(&self, username: &str, reason: &'static str) {
        self.lock().phones.insert(username.to_owned(), reason);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    async fn answered(
        &self,
        transaction_id: &str,
        decide: impl FnOnce(&mut State) -> Outcome,
    ) -> Result<Response<Outcome>, Status> {
        let fault = self.lock().fault.clone();
        match &fault {
            Some(Fault::Overloaded(chosen)) if chosen() => return Err(Status::resource_exhausted("on command")),
            Some(Fault::Unavailable) => return Err(Status::unavailable("on command")),
            Some(Fault::Garbage) => return Err(Status::internal("failed to decode Protobuf message")),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Slow(delay) | Fault::Sluggish(delay)) => tokio::time::sleep(*delay).await,
            Some(Fault::Overloaded(_) | Fault::SlowToSay(_) | Fault::SlowToWithdraw(_) | Fault::Twists(_)) | None => {}
        }
        let mut caller = Caller(Some(&self.state));
        let withdrawn = || self.lock().withdrawn.contains(transaction_id);
        let _ = self.held.subscribe().wait_for(|held| !held || withdrawn()).await;
        caller.0 = None;
        let mut outcome = match withdrawn() {
            true => outcome(transaction_id, deny("challenge_gone")),
            false => decide(&mut self.lock()),
        };
        if let Some(Fault::SlowToSay(delay)) = fault {
            tokio::time::sleep(delay).await;
        }
        if let Some(Fault::Twists(twist)) = fault {
            twist(&mut outcome);
        }
        Ok(Response::new(outcome))
    }

    fn allow(&self, client: &str, user_id: String) -> Result_ {
        Result_::Allow(Allow {
            reason: "valid_code".into(),
            method: "code".into(),
            assurance: "code".into(),
            source: "live".into(),
            client: client.into(),
            expires_unix_ms: self.clock.now_ms() + 10_000,
            user_id,
            ..Allow::default()
        })
    }

    fn ask(&self, step: u32, user_id: String, previous: &str) -> Result_ {
        let expires_unix_ms = self.clock.now_ms() + 120_000;
        Result_::Ask(Ask {
            method: "code".into(),
            step,
            expires_unix_ms,
            user_id,
            previous: previous.into(),
            kind: AskKind::Code.into(),
            ..Ask::default()
        })
    }

    fn begin_passed(&self, state: &mut State, attempt: &Attempt, code: Option<&str>) -> Result_ {
        if attempt.proven_absent {
            return match state.not_enrolled.contains(&attempt.username) {
                true => deny("unknown_user"),
                false => allow_unknown(&attempt.client, self.clock.now_ms()),
            };
        }
        let user_id = user_id(&attempt.username);
        if state.not_enrolled.contains(&attempt.username) {
            return deny("not_enrolled");
        }
        if let Some(reason) = state.phones.get(&attempt.username) {
            return match *reason {
                "user_approved" => self.allow(&attempt.client, user_id),
                reason => deny(reason),
            };
        }
        match code {
            Some(code) => match state.spend(code) {
                Ok(()) => self.allow(&attempt.client, user_id),
                Err(reason) => deny(reason),
            },
            None if !attempt.can_challenge => deny("method_impossible"),
            None => {
                let challenge = Challenge { client: attempt.client.clone(), step: 1, tries: TRIES };
                state.challenges.insert(attempt.transaction_id.clone(), challenge);
                self.ask(1, user_id, "")
            }
        }
    }
}

impl State {
    fn spend(&mut self, code: &str) -> Result<(), &'static str> {
        match CODES.contains(&code) {
            false => Err("wrong_code"),
            true if !self.spent_codes.insert(code.to_owned()) => Err("reused_code"),
            true => Ok(()),
        }
    }
}

/// Everybody's id follows from the name; a challenge is only for ann here, so nothing else needs to be kept.
pub fn user_id(username: &str) -> String {
    Uuid::from_u128(username.bytes().fold(1, |id, octet| id * 257 + u128::from(octet))).to_string()
}

fn allow_unknown(client: &str, now_ms: i64) -> Result_ {
    Result_::Allow(Allow {
        reason: "unknown_user_passed".into(),
        assurance: "none".into(),
        source: "unknown_user".into(),
        client: client.into(),
        expires_unix_ms: now_ms + 10_000,
        ..Allow::default()
    })
}

fn deny(reason: &str) -> Result_ {
    Result_::Deny(Deny { reason: reason.into(), ..Deny::default() })
}

fn outcome(transaction_id: &str, result: Result_) -> Outcome {
    Outcome { transaction_id: transaction_id.into(), result: Some(result) }
}

fn text(secret: Option<proto::common::Secret>) -> Option<String> {
    secret.map(|secret| String::from_utf8_lossy(&secret.value).into_owned())
}

#[async_trait]
impl Verification for FakeVerification {
    async fn appended_forms(
        &self,
        request: Request<AppendedFormsRequest>,
    ) -> Result<Response<AppendedFormsReply>, Status> {
        let subject = request.into_inner().subject.expect("a subject");
        let fault = self.lock().fault.clone();
        match fault {
            // A call of our own is one among many, and takes too long.
            Some(Fault::Overloaded(chosen)) if chosen() => std::future::pending().await,
            Some(Fault::Unavailable) => return Err(Status::unavailable("on command")),
            Some(Fault::Garbage) => return Err(Status::internal("failed to decode Protobuf message")),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Sluggish(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        // bob has neither token nor phone.
        let bob = subject.object_id.ends_with("-4000-8000-00000000000b");
        Ok(Response::new(AppendedFormsReply {
            code_digits: if bob { Vec::new() } else { vec![6] },
            keywords: if bob { Vec::new() } else { vec!["push".into(), "call".into()] },
            ..AppendedFormsReply::default()
        }))
    }

    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<Outcome>, Status> {
        let BeginRequest { attempt, primary, code, wanted_method, .. } = request.into_inner();
        let (attempt, code) = (*attempt.expect("an attempt"), text(code));
        assert!(attempt.transaction_id.parse::<TransactionId>().is_ok(), "{}", attempt.transaction_id);
        assert!(attempt.subject.is_some() != attempt.proven_absent && attempt.protocol == "radius", "{attempt:?}");
        let username = attempt.username.clone();
        self.lock().attempts.push((attempt.clone(), wanted_method));
        let prompted = {
            let mut state = self.lock();
            let open = state.prompted.as_mut();
            open.map(|open| open.entry(username.clone()).or_insert(attempt.transaction_id.clone()).clone())
        };
        self.lock().calls.push(match primary == Primary::Passed as i32 {
            true => Call::Begin { username, code: code.clone() },
            false => Call::BeginBeforeBind { username, code: code.clone().expect("a code") },
        });
        if prompted.is_some_and(|by| by != attempt.transaction_id) {
            return Ok(Response::new(outcome(&attempt.transaction_id, deny("prompt_pending"))));
        }
        self.answered(&attempt.transaction_id, |state| {
            if let Some(open) = &mut state.prompted {
                open.remove(&attempt.username);
            }
            // V-02: the same request asking again gets the first result.
            if let Some(before) = state.begun.get(&(attempt.transaction_id.clone(), primary)) {
                return before.clone();
            }
            let result = match (primary == Primary::Passed as i32, &code) {
                (true, code) => self.begin_passed(state, &attempt, code.as_deref()),
                (false, Some(code)) => match state.spend(code) {
                    Ok(()) => {
                        state.spent_before_bind.insert(attempt.transaction_id.clone());
                        Result_::CodeAccepted(CodeAccepted {})
                    }
                    Err(reason) => deny(reason),
                },
                (false, None) => unreachable!("checked above"),
            };
            let outcome = outcome(&attempt.transaction_id, result);
            state.begun.insert((attempt.transaction_id.clone(), primary), outcome.clone());
            outcome
        })
        .await
    }

    async fn complete(&self, request: Request<CompleteRequest>) -> Result<Response<Outcome>, Status> {
        let attempt = request.into_inner().attempt.expect("an attempt");
        self.lock().calls.push(Call::Complete);
        self.answered(&attempt.transaction_id, |state| {
            let spent = state.spent_before_bind.remove(&attempt.transaction_id);
            let result =
                if spent { self.allow(&attempt.client, user_id(&attempt.username)) } else { deny("challenge_gone") };
            outcome(&attempt.transaction_id, result)
        })
        .await
    }

    async fn answer(&self, request: Request<AnswerRequest>) -> Result<Response<Outcome>, Status> {
        let AnswerRequest { transaction_id, step, client, answer, .. } = request.into_inner();
        let answer = text(answer).expect("an answer");
        self.lock().calls.push(Call::Answer { step, answer: answer.clone() });
        self.answered(&transaction_id, |state| {
            let open =
                state.challenges.get_mut(&transaction_id).filter(|open| open.client == client && open.step == step);
            let Some(open) = open else { return outcome(&transaction_id, deny("challenge_gone")) };
            open.step += 1;
            open.tries -= u32::from(!answer.is_empty());
            let (step, tries) = (open.step, open.tries);
            let result = match (state.spend(&answer), tries) {
                (Ok(()), _) => self.allow(&client, user_id("ann")),
                (Err(reason), 0) => deny(reason),
                (Err(reason), _) => return outcome(&transaction_id, self.ask(step, user_id("ann"), reason)),
            };
            state.challenges.remove(&transaction_id);
            outcome(&transaction_id, result)
        })
        .await
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        let CancelRequest { transaction_id, reason, step, .. } = request.into_inner();
        let fault = self.lock().fault.clone();
        if let Some(Fault::SlowToWithdraw(delay)) = fault {
            tokio::time::sleep(delay).await;
        }
        let ended = {
            let mut state = self.lock();
            if let Some(prompted) = &mut state.prompted {
                prompted.retain(|_, by| *by != transaction_id);
            }
            if step == 0 {
                state.withdrawn.insert(transaction_id.clone());
            }
            let open = state.challenges.get(&transaction_id);
            let ended = open.is_some_and(|open| step == 0 || open.step == step);
            if step == 0 || ended {
                state.challenges.remove(&transaction_id);
                state.calls.push(Call::Cancel { reason });
            }
            ended
        };
        self.held.send_modify(|_| {});
        Ok(Response::new(CancelReply { ended }))
    }

    async fn password_changed(
        &self,
        request: Request<PasswordChangedRequest>,
    ) -> Result<Response<PasswordChangedReply>, Status> {
        let subject = request.into_inner().subject.expect("a subject").object_id;
        self.lock().calls.push(Call::PasswordChanged(subject));
        Ok(Response::new(PasswordChangedReply {}))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let ReportRequest { attempt, reason } = request.into_inner();
        let username = attempt.expect("an attempt").username;
        if matches!(self.lock().fault, Some(Fault::Unavailable)) {
            return Err(Status::unavailable("on command"));
        }
        self.lock().calls.push(Call::Report { username, reason });
        Ok(Response::new(ReportReply {}))
    }

    async fn r#await(
        &self,
        _: Request<proto::verification::AwaitRequest>,
    ) -> Result<Response<proto::verification::Outcome>, Status> {
        Err(Status::unimplemented("await"))
    }
}
