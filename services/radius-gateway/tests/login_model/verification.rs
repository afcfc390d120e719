//! Verification as the model needs it: what becomes of a login stands in the code behind its password, with its number.

use crate::support::user_id;
use proto::verification::verification_server::Verification;
use proto::verification::{
    Allow, AnswerRequest, AppendedFormsReply, AppendedFormsRequest, Ask, AskKind, BeginRequest, CancelReply,
    CancelRequest, CompleteRequest, Deny, Outcome, PasswordChangedReply, PasswordChangedRequest, Primary, ReportReply,
    ReportRequest, outcome::Result as Said,
};
use service_kit::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tonic::{Request, Response, Status, async_trait};

/// How long somebody is asked; later than any client waits.
const PROMPT_MS: i64 = 8_500;
const LATE_MS: i64 = 12_000;
/// Who waits looks so often.
const LOOK: Duration = Duration::from_millis(20);
const TRIES: u32 = 3;

/// What the second factor does; the first digit of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// The person is asked on the phone.
    Phone = 1,
    /// The device is to ask for a code.
    Challenge = 2,
    Yes = 3,
    No = 4,
    /// A Yes that comes when nobody can wait for it any more.
    LateYes = 5,
}

impl Factor {
    const ALL: [Self; 5] = [Self::Phone, Self::Challenge, Self::Yes, Self::No, Self::LateYes];

    pub fn code(self, login: usize) -> String {
        format!("{}{login:05}", self as u8)
    }

    fn read(code: &str) -> Option<(Self, usize)> {
        let (kind, login) = code.split_at_checked(1)?;
        let factor = Self::ALL.into_iter().find(|factor| (*factor as u8).to_string() == kind)?;
        Some((factor, login.parse().ok()?))
    }
}

/// What a challenge of this login is answered with.
pub fn right_answer(login: usize) -> String {
    format!("7{login:05}")
}

pub struct Simulated {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    attempts: HashMap<String, Attempt>,
    /// Whose prompt is open, and of which attempt.
    open: HashMap<String, String>,
    seen: Seen,
}

struct Attempt {
    login: usize,
    username: String,
    client: String,
    stage: Stage,
}

enum Stage {
    Prompted { until_unix_ms: i64 },
    Late { at_unix_ms: i64 },
    Asked { step: u32, tries: u32 },
    Over(Box<Said>),
}

/// What it has seen, for the model to judge.
#[derive(Clone, Default)]
pub struct Seen {
    /// By login: attempts whose password was said to be right, and prompts that went out.
    pub begun: HashMap<usize, usize>,
    pub prompts: HashMap<usize, usize>,
    /// Each Allow, and when.
    pub allows: Vec<(usize, i64)>,
    /// Who was not asked because somebody was, and by which login.
    pub refused_beside: Vec<(usize, usize)>,
}

impl Simulated {
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }

    pub fn seen(&self) -> Seen {
        self.state().seen.clone()
    }

    /// Whether an attempt of this login was decided.
    pub fn is_over(&self, login: usize) -> bool {
        let over = |attempt: &Attempt| attempt.login == login && matches!(attempt.stage, Stage::Over(_));
        self.state().attempts.values().any(over)
    }

    /// A person answers what is open on the phone, if anything is.
    pub fn says(&self, username: &str, yes: bool) {
        let now = self.clock.now_ms();
        let mut state = self.state();
        let Some(transaction) = state.open.get(username).cloned() else { return };
        let said = if yes { None } else { Some(deny("user_denied")) };
        state.end(&transaction, said, now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    async fn over(&self, transaction: &str) -> Said {
        loop {
            if let Some(said) = self.state().over(transaction, self.clock.now_ms()) {
                return said;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl State {
    fn begin(&mut self, transaction: &str, attempt: &proto::verification::Attempt, code: &str, now: i64) {
        if self.attempts.contains_key(transaction) {
            return; // V-02
        }
        let (factor, login) = Factor::read(code).expect("a code of the model");
        *self.seen.begun.entry(login).or_default() += 1;
        let username = attempt.username.clone();
        let beside = self.open.get(&username).cloned().filter(|open| self.over(open, now).is_none());
        let stage = match (factor, beside) {
            (Factor::Phone, Some(open)) => {
                let asked = self.attempts.get(&open).map(|attempt| attempt.login).expect("it is open");
                self.seen.refused_beside.push((login, asked));
                Stage::Over(Box::new(deny("prompt_pending")))
            }
            (Factor::Phone, None) => {
                self.open.insert(username.clone(), transaction.to_owned());
                *self.seen.prompts.entry(login).or_default() += 1;
                Stage::Prompted { until_unix_ms: now + PROMPT_MS }
            }
            (Factor::Challenge, _) => Stage::Asked { step: 1, tries: TRIES },
            (Factor::LateYes, _) => Stage::Late { at_unix_ms: now + LATE_MS },
            (Factor::No, _) => Stage::Over(Box::new(deny("user_denied"))),
            (Factor::Yes, _) => {
                let attempt = Attempt {
                    login,
                    username,
                    client: attempt.client.clone(),
                    stage: Stage::Asked { step: 0, tries: 0 },
                };
                self.attempts.insert(transaction.to_owned(), attempt);
                return self.end(transaction, None, now);
            }
        };
        let attempt = Attempt { login, username, client: attempt.client.clone(), stage };
        self.attempts.insert(transaction.to_owned(), attempt);
    }

    /// What is said of it, when there is something to say.
    fn over(&mut self, transaction: &str, now: i64) -> Option<Said> {
        let attempt = self.attempts.get(transaction)?;
        match &attempt.stage {
            Stage::Over(said) => return Some(Said::clone(said)),
            Stage::Asked { step, .. } => return Some(ask(*step, &attempt.username, now)),
            Stage::Prompted { until_unix_ms } if *until_unix_ms > now => return None,
            Stage::Late { at_unix_ms } if *at_unix_ms > now => return None,
            Stage::Prompted { .. } => self.end(transaction, Some(deny("no_answer")), now),
            Stage::Late { .. } => self.end(transaction, None, now),
        }
        self.over(transaction, now)
    }

    /// Once; none: an Allow.
    fn end(&mut self, transaction: &str, said: Option<Said>, now: i64) {
        let Some(attempt) = self.attempts.get_mut(transaction) else { return };
        if matches!(attempt.stage, Stage::Over(_)) {
            return;
        }
        if said.is_none() {
            self.seen.allows.push((attempt.login, now));
        }
        let allow = || allow(&attempt.client, &attempt.username, now);
        attempt.stage = Stage::Over(Box::new(said.unwrap_or_else(allow)));
        self.open.retain(|_, open| open != transaction);
    }

    fn answer(&mut self, transaction: &str, at: u32, answer: &str, now: i64) -> Said {
        let Some(attempt) = self.attempts.get_mut(transaction) else { return deny("challenge_gone") };
        let Stage::Asked { step, tries } = &mut attempt.stage else { return deny("challenge_gone") };
        if *step != at {
            return deny("challenge_gone");
        }
        (*step, *tries) = (*step + 1, *tries - 1);
        match (answer == right_answer(attempt.login), *tries) {
            (true, _) => self.end(transaction, None, now),
            (false, 0) => self.end(transaction, Some(deny("wrong_code")), now),
            (false, _) => {}
        }
        self.over(transaction, now).expect("nobody is waited for")
    }
}

fn deny(reason: &str) -> Said {
    Said::Deny(Deny { reason: reason.into(), ..Deny::default() })
}

fn allow(client: &str, username: &str, now: i64) -> Said {
    Said::Allow(Allow {
        reason: "valid_code".into(),
        method: "code".into(),
        assurance: "code".into(),
        source: "live".into(),
        client: client.into(),
        expires_unix_ms: now + 60_000,
        user_id: user_id(username),
        ..Allow::default()
    })
}

fn ask(step: u32, username: &str, now: i64) -> Said {
    let user_id = user_id(username);
    let (method, kind) = ("code".into(), AskKind::Code.into());
    Said::Ask(Ask { method, step, expires_unix_ms: now + 30_000, user_id, kind, ..Ask::default() })
}

fn text(secret: Option<proto::common::Secret>) -> String {
    String::from_utf8(secret.expect("a secret").value.clone()).expect("text")
}

fn outcome(transaction: &str, said: Said) -> Response<Outcome> {
    Response::new(Outcome { transaction_id: transaction.into(), result: Some(said) })
}

#[async_trait]
impl Verification for Simulated {
    async fn appended_forms(&self, _: Request<AppendedFormsRequest>) -> Result<Response<AppendedFormsReply>, Status> {
        Ok(Response::new(AppendedFormsReply { code_digits: vec![6], ..AppendedFormsReply::default() }))
    }

    async fn begin(&self, request: Request<BeginRequest>) -> Result<Response<Outcome>, Status> {
        let BeginRequest { attempt, primary, code, .. } = request.into_inner();
        assert_eq!(primary, Primary::Passed as i32);
        let attempt = attempt.expect("an attempt");
        self.state().begin(&attempt.transaction_id, &attempt, &text(code), self.clock.now_ms());
        Ok(outcome(&attempt.transaction_id, self.over(&attempt.transaction_id).await))
    }

    async fn answer(&self, request: Request<AnswerRequest>) -> Result<Response<Outcome>, Status> {
        let AnswerRequest { transaction_id, step, answer, .. } = request.into_inner();
        let said = self.state().answer(&transaction_id, step, &text(answer), self.clock.now_ms());
        Ok(outcome(&transaction_id, said))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelReply>, Status> {
        let CancelRequest { transaction_id, step, .. } = request.into_inner();
        let mut state = self.state();
        let stage = state.attempts.get(&transaction_id).map(|attempt| &attempt.stage);
        let ended = match stage {
            Some(Stage::Asked { step: open, .. }) => step == 0 || step == *open,
            Some(Stage::Prompted { .. } | Stage::Late { .. }) => step == 0,
            Some(Stage::Over(_)) | None => false,
        };
        if ended {
            state.end(&transaction_id, Some(deny("challenge_gone")), self.clock.now_ms());
        }
        Ok(Response::new(CancelReply { ended }))
    }

    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        Ok(Response::new(ReportReply {}))
    }

    async fn complete(&self, _: Request<CompleteRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("no code comes before its password here"))
    }

    async fn password_changed(
        &self,
        _: Request<PasswordChangedRequest>,
    ) -> Result<Response<PasswordChangedReply>, Status> {
        Err(Status::unimplemented("nobody changes a password here"))
    }

    async fn r#await(&self, _: Request<proto::verification::AwaitRequest>) -> Result<Response<Outcome>, Status> {
        Err(Status::unimplemented("await"))
    }
}
