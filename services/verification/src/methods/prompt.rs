//! The person is asked on the phone, by push, call or a text to answer: one prompt, opened and decided in the store (V-21, V-23).
//!
//! ```text
//! OpenPrompt ─ seat ─ send ─┬─ the client shows something: Ask, and Answer or Await waits
//!                           └─ it shows nothing: wait here
//! over: approved ─ let in │ refused, fraud, wrong number ─ over │ nobody, busy, unreachable ─ the next way
//! nobody waits any more: withdrawn
//! ```

use crate::Service;
use crate::attempt::{Origin, line};
use crate::budget::{Budget, known, not_understood};
use crate::challenges::{Approval, Round};
use crate::commit::{Committer, Ending, Proven};
use crate::facts::{KnownUser, Spoken};
use crate::login::{Login, Step};
use crate::metrics::PromptOutcome;
use crate::number::{dialable, prefix};
use crate::outcome::Previous;
use crate::providers::words::own;
use crate::providers::{Accepted, BackupPhone, Callee, SendFailure, Text};
use crate::settings::Known;
use crate::texts;
use crate::unanswered::Unanswered;
use crate::waiting::Seat;
use domain::{Assurance, Method, PhoneNumber, Protocol, Reason, ResultClass};
use policy::{Plan, PromptCheck, Shows, Way};
use proto::user_store::{
    GetPromptsRequest, OpenPromptReply, OpenPromptRequest, Prompt, PromptResult, ResolvePromptRequest,
};
use service_kit::Clock;
use service_kit::shutdown::Shutdown;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Status;
use tracing::Instrument;
use uuid::Uuid;

/// A prompt lives no longer: apps and push services count on it.
pub const PROMPT: Duration = Duration::from_secs(110);
/// Kept back of a caller's wait to say what came of it, and perhaps to ask for a code.
const ANSWER: Duration = Duration::from_millis(1_500);
/// A call rings this long: what the way after the first needs (FV-13) ...
const NEXT_WAY: Duration = Duration::from_secs(30);
/// ... if the first one keeps so much.
const FIRST_WAY: Duration = Duration::from_secs(45);
const LEAST: Duration = Duration::from_secs(2);
/// Ending a prompt nobody waits for is given this long.
const WITHDRAWAL: Duration = Duration::from_secs(10);
/// What another gateway may still need beyond the end of a prompt to finish a login whose first one is gone.
const UNFINISHED: Duration = Duration::from_secs(15);

/// Whom a prompt goes to.
pub enum Target {
    Devices,
    Number { number: PhoneNumber, extension: String },
}

impl Service {
    /// Opens the prompt, sends it, and waits where the client can show nothing.
    pub(crate) async fn ask_phone(
        &self,
        login: &mut Login,
        plan: &Plan,
        way: &Way,
        check: PromptCheck,
    ) -> Result<Step, Status> {
        let asks = login.attempt.shows() == Shows::Dialogue || way.number;
        let Some(life) = life(login.budget, plan, way, asks) else {
            return Ok(Step::Failed(Ending::of(Reason::NoAnswer, way.method)));
        };
        let target = match target(&login.user, way.method, &login.rules.known) {
            Ok(target) => target,
            Err(reason) => return Ok(Step::Failed(Ending::of(reason, way.method))),
        };
        let open = self.open_request(login, way, &target, life)?;
        // Before the store is asked: whoever leaves meanwhile leaves no prompt behind that nobody was sent.
        let own = open.prompt.as_ref().map(|prompt| prompt.prompt_id.clone()).unwrap_or_default();
        let mut withdrawal = self.withdrawal(login.origin(), &login.user.id, way.method, &own, life);
        let opened = self.open_prompt(open, login.budget).await;
        let (prompt, joined) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(ending)) => {
                withdrawal.disarm();
                return Ok(Step::NotNow(ending));
            }
            // It may be open all the same.
            Err(status) => return Err(status),
        };
        if prompt.prompt_id != own {
            withdrawal.disarm();
            withdrawal = self.withdrawal(login.origin(), &login.user.id, way.method, &prompt.prompt_id, life);
        }
        if !prompt.outcome.is_empty() {
            withdrawal.disarm();
            return self.conclude(login, way, check, &prompt, "").await;
        }
        let mut seat = self.waiting.seat(&prompt.prompt_id)?;
        // Whoever joins sends it again, because the node that opened it, or its caller, may have died before it was sent: a push replaces
        // the first, and a call that has begun rings nobody a second time. A text would come twice.
        let sent = match joined && way.method == Method::SmsReply {
            true => Ok(Accepted { provider: way.method.code().into() }),
            false => self.send_prompt(login, &prompt, &target).await,
        };
        let provider = match sent {
            Ok(accepted) => {
                if !joined {
                    self.metrics.prompt(&accepted.provider, PromptOutcome::Sent);
                }
                accepted.provider
            }
            Err(failure) => {
                withdrawal.disarm();
                return self.not_sent(login, way, &prompt, &failure).await;
            }
        };
        if asks {
            let destination = match &target {
                Target::Devices => String::new(),
                Target::Number { number, .. } => number.masked(),
            };
            let approval = Approval {
                method: way.method,
                prompt_id: prompt.prompt_id.clone(),
                number: if way.number { prompt.number.clone() } else { String::new() },
                expires_unix_ms: prompt.expires_unix_ms,
                destination,
                provider,
            };
            let until = approval.expires_unix_ms;
            let step = self.ask_until(login, Round::Approval(approval), until, Previous::default()).await?;
            if matches!(step, Step::Said(_) | Step::SaidBefore(_)) {
                withdrawal.disarm();
            }
            return Ok(step);
        }
        let left = left_of(prompt.expires_unix_ms, &self.clock);
        let until = login.budget.less(ANSWER).until().min(tokio::time::Instant::now() + left);
        let span = tracing::info_span!("prompt.wait", otel.kind = "internal", twinlock.method = way.method.code());
        let over = match seat.over(until).instrument(span).await {
            Some(over) => over,
            None => self.expire(&prompt.prompt_id, login.budget).await?,
        };
        withdrawal.disarm();
        self.fall_silent(&over);
        self.conclude(login, way, check, &over, &provider).await
    }

    /// What became of a prompt, and what follows.
    pub(crate) async fn conclude(
        &self,
        login: &Login,
        way: &Way,
        check: PromptCheck,
        prompt: &Prompt,
        provider: &str,
    ) -> Result<Step, Status> {
        if prompt.transaction_id != login.transaction() || prompt.user_id != login.user.id {
            return Err(not_understood("prompts"));
        }
        self.count(prompt, if provider.is_empty() { way.method.code() } else { provider });
        if prompt.outcome != "approved" {
            let ending = Ending::of(reason_of(&prompt.outcome), way.method);
            return Ok(if ending.reason.is_technical() { Step::Failed(ending) } else { Step::Over(ending) });
        }
        // Whoever took the answer checked the PIN; without its proof the approval is half of one.
        if prompt.pin_asked && prompt.pin_handle.is_empty() {
            return Ok(Step::Over(Ending::of(Reason::WrongPin, way.method)));
        }
        let assurance = Assurance::ALL.iter().copied().find(|assurance| assurance.code() == prompt.assurance);
        let grant = match check.approved(assurance.unwrap_or(Assurance::None), self.clock.now_ms()) {
            Ok(grant) => grant,
            Err(reason) => return Ok(Step::Over(Ending::of(reason, way.method))),
        };
        let proven =
            Proven { prompt_id: prompt.prompt_id.clone(), pin_handle: prompt.pin_handle.clone(), ..Proven::default() };
        self.let_in(login, grant, proven).await
    }

    /// Ends a prompt whose time is over. Somebody may have answered in the last moment: the store says what holds.
    pub(crate) async fn expire(&self, prompt_id: &str, budget: Budget) -> Result<Prompt, Status> {
        self.committer.resolve(prompt_id, "expired", budget).await
    }

    pub(crate) fn fall_silent(&self, prompt: &Prompt) -> Option<JoinHandle<()>> {
        self.unanswered.fall_silent(prompt)
    }

    fn open_request(
        &self,
        login: &Login,
        way: &Way,
        target: &Target,
        life: Duration,
    ) -> Result<OpenPromptRequest, Status> {
        let number = match way.method {
            // What the person sends back; never shown by the client (FV-04).
            Method::SmsReply => self.reply_code(login)?,
            _ if way.number => self.two_digits()?,
            _ => String::new(),
        };
        let spoken = if way.method == Method::Push { Spoken::App } else { Spoken::Call };
        let known = &login.rules.known;
        let now = self.clock.now_ms();
        let prompt = Prompt {
            prompt_id: Uuid::new_v4().to_string(),
            transaction_id: login.transaction(),
            user_id: login.user.id.clone(),
            method: way.method.code().into(),
            client: login.origin().client.clone(),
            application: line(&login.rules.application, 64),
            username: login.origin().username.clone(),
            place: place(&login.attempt),
            number,
            begun_unix_ms: now,
            expires_unix_ms: now.saturating_add(life.as_millis() as i64),
            pin_asked: way.pin,
            language: login.user.language(spoken, known).as_str().to_owned(),
            ..Prompt::default()
        };
        Ok(self.limits(prompt, target, known))
    }

    /// The request with the settings' limits.
    pub(crate) fn limits(&self, prompt: Prompt, target: &Target, known: &Known) -> OpenPromptRequest {
        let (rules, sms) = (&known.settings.verification, &known.settings.sms);
        let phone_prefix = match target {
            Target::Devices => String::new(),
            Target::Number { number, .. } => prefix(number).to_owned(),
        };
        OpenPromptRequest {
            now_unix_ms: prompt.begun_unix_ms,
            prompt: Some(prompt),
            cool_down_seconds: rules.cool_down_seconds,
            prompts_per_day: rules.prompts_per_day,
            calls_per_hour: rules.calls_per_hour,
            phone_prefix,
            per_prefix_and_hour: sms.per_prefix_and_hour,
            messages_per_day: sms.per_day,
        }
    }

    /// `Err`: none may go out now.
    pub(crate) async fn open_prompt(
        &self,
        open: OpenPromptRequest,
        budget: Budget,
    ) -> Result<Result<(Prompt, bool), Ending>, Status> {
        let method = open.prompt.as_ref().and_then(|prompt| Method::from_code(&prompt.method));
        let asked = service_kit::grpc::idempotent(open);
        let commit = &self.committer.commit;
        let reply = budget.ask("open prompt", asked, |request| commit.open_prompt(request)).await?;
        let OpenPromptReply { result, until_unix_ms, prompt } = reply;
        let not_now = |reason| Ok(Err(Ending { reason, method, until_unix_ms }));
        match (known(result, "open prompt")?, prompt) {
            (PromptResult::Opened, Some(prompt)) => Ok(Ok((prompt, false))),
            (PromptResult::Joined, Some(prompt)) => Ok(Ok((prompt, true))),
            (PromptResult::Pending, _) => not_now(Reason::PromptPending),
            (PromptResult::CoolingDown, _) => not_now(Reason::CoolingDown),
            (PromptResult::RateLimited, _) => not_now(Reason::RateLimited),
            (PromptResult::Opened | PromptResult::Joined, None) | (PromptResult::Unspecified, _) => {
                Err(not_understood("open prompt"))
            }
        }
    }

    async fn send_prompt(&self, login: &Login, prompt: &Prompt, target: &Target) -> Result<Accepted, SendFailure> {
        let span = tracing::info_span!("prompt.send", otel.kind = "client", twinlock.method = prompt.method);
        let within = login.budget.less(ANSWER).until();
        let (user, known) = (&login.user, &login.rules.known);
        let sending = async {
            match target {
                Target::Devices => {
                    let devices = user.devices_to_ask(known, self.clock.now_ms());
                    self.carriers.push(prompt, &devices).await
                }
                Target::Number { number, .. } if prompt.method == Method::SmsReply.code() => {
                    let text = self.reply_question(prompt, number, user, known);
                    self.carriers.text(text).await
                }
                Target::Number { number, extension } => {
                    let language = user.language(Spoken::Call, known);
                    let backup = backup_phone(user, known);
                    let callee = Callee {
                        to: number,
                        extension,
                        backup: backup.as_ref().map(|to| BackupPhone { to, extension: &user.record.backup_extension }),
                        language: &language,
                        pin: prompt.pin_asked,
                        new_pin: prompt.pin_asked && user.record.pin.is_some_and(|pin| pin.must_change),
                        activation: false,
                    };
                    self.carriers.call(prompt, callee).await
                }
            }
        };
        tokio::time::timeout_at(within, sending.instrument(span)).await.unwrap_or(Err(SendFailure::TooLate))
    }

    fn reply_question<'a>(
        &self,
        prompt: &'a Prompt,
        number: &'a PhoneNumber,
        user: &'a KnownUser,
        known: &Known,
    ) -> Text<'a> {
        let language = user.language(Spoken::Text, known);
        let key = if prompt.pin_asked { "sms-reply-pin" } else { "sms-reply" };
        let own = own(&known.settings, key, &language, &prompt.application).map(|own| own.text.as_str());
        Text {
            to: number,
            text: texts::sms_reply(&language, &prompt.number, &prompt.application, prompt.pin_asked, own),
            expires_unix_ms: prompt.expires_unix_ms,
            user_id: &user.id,
            transaction_id: &prompt.transaction_id,
            reply: true,
        }
    }

    /// Nobody took it: the prompt is over before it began.
    async fn not_sent(&self, login: &Login, way: &Way, prompt: &Prompt, failure: &SendFailure) -> Result<Step, Status> {
        tracing::warn!(
            event = "prompt_not_sent",
            request_id = %login.origin().transaction,
            method = way.method.code(),
            error = %failure,
        );
        self.metrics.prompt(way.method.code(), PromptOutcome::Failed);
        let reason = failure.reason();
        self.committer.resolve(&prompt.prompt_id, reason.code(), login.budget).await?;
        let ending = Ending::of(reason, way.method);
        Ok(if reason.is_technical() { Step::Failed(ending) } else { Step::Over(ending) })
    }

    fn reply_code(&self, login: &Login) -> Result<String, Status> {
        let digits = login.rules.known.settings.sms.digits.clamp(6, 8) as usize;
        let code = otp::digits(digits, self.randomness).map_err(no_randomness)?;
        code.expose_str().map(str::to_owned).ok_or_else(|| not_understood("a code"))
    }

    /// 10 to 99, each as likely as any other.
    fn two_digits(&self) -> Result<String, Status> {
        // 180 is twice 90: what is above it is drawn again, at most so often.
        for _ in 0..64 {
            let mut octet = [0];
            (self.randomness)(&mut octet).map_err(no_randomness)?;
            if octet[0] < 180 {
                return Ok((10 + octet[0] % 90).to_string());
            }
        }
        Err(no_randomness("only large octets"))
    }

    fn count(&self, prompt: &Prompt, provider: &str) {
        let outcome = match reason_of(&prompt.outcome) {
            _ if prompt.outcome == "approved" => PromptOutcome::Approved,
            Reason::ReportedFraud => PromptOutcome::Fraud,
            Reason::NoAnswer => PromptOutcome::Expired,
            reason if reason.is_technical() => PromptOutcome::Failed,
            _ => PromptOutcome::Denied,
        };
        self.metrics.prompt(provider, outcome);
        let answered = prompt.answered_unix_ms - prompt.begun_unix_ms;
        if prompt.answered_unix_ms > 0 && answered >= 0 {
            self.metrics.prompt_answered(provider, answered as f64 / 1000.0);
        }
    }

    fn withdrawal(
        &self,
        origin: &Origin,
        user_id: &str,
        method: Method,
        prompt_id: &str,
        life: Duration,
    ) -> Withdrawal {
        let login =
            LeftLogin { origin: origin.clone(), user_id: user_id.to_owned(), method, ends: Instant::now() + life };
        self.withdrawal_of(Some(login), prompt_id)
    }

    /// Of a prompt without a login: nothing is recorded of it.
    pub(crate) fn withdrawal_of_trial(&self, prompt_id: &str) -> Withdrawal {
        self.withdrawal_of(None, prompt_id)
    }

    fn withdrawal_of(&self, login: Option<LeftLogin>, prompt_id: &str) -> Withdrawal {
        Withdrawal {
            left: Some(Box::new(Left {
                committer: self.committer.clone(),
                unanswered: self.unanswered.clone(),
                shutdown: self.shutdown.clone(),
                waiting: self.waiting.clone(),
                prompt_id: prompt_id.to_owned(),
                login,
            })),
        }
    }
}

impl Committer {
    /// Resolves a prompt once; whoever comes second hears what the first made of it (V-21).
    pub async fn resolve(&self, prompt_id: &str, outcome: &str, budget: Budget) -> Result<Prompt, Status> {
        let request = ResolvePromptRequest {
            prompt_id: prompt_id.to_owned(),
            outcome: outcome.to_owned(),
            now_unix_ms: self.now_ms(),
            ..ResolvePromptRequest::default()
        };
        let asked = service_kit::grpc::idempotent(request);
        let reply = budget.ask("resolve prompt", asked, |request| self.commit.resolve_prompt(request)).await?;
        let over = reply.prompt.filter(|prompt| prompt.prompt_id == prompt_id && !prompt.outcome.is_empty());
        over.ok_or_else(|| not_understood("resolve prompt"))
    }

    /// Ends a prompt that nobody waits for any more.
    pub async fn withdraw(&self, prompt_id: &str, budget: Budget) -> Result<Prompt, Status> {
        self.resolve(prompt_id, "withdrawn", budget).await
    }

    /// The prompt as it stands in the store.
    pub async fn prompt(&self, prompt_id: &str, budget: Budget) -> Result<Option<Prompt>, Status> {
        let request = GetPromptsRequest { prompt_ids: vec![prompt_id.to_owned()], ..GetPromptsRequest::default() };
        let reply = budget.ask("prompts", request, |request| self.commit.get_prompts(request)).await?;
        Ok(reply.prompts.into_iter().find(|prompt| prompt.prompt_id == prompt_id))
    }
}

/// Ends the prompt when whatever waits for it is dropped: its caller has gone.
pub(crate) struct Withdrawal {
    left: Option<Box<Left>>,
}

struct Left {
    committer: Committer,
    unanswered: Arc<Unanswered>,
    shutdown: Shutdown,
    waiting: Arc<crate::waiting::Waiting>,
    prompt_id: String,
    /// None of a trial.
    login: Option<LeftLogin>,
}

struct LeftLogin {
    origin: Origin,
    user_id: String,
    method: Method,
    ends: Instant,
}

impl Withdrawal {
    pub(crate) fn disarm(&mut self) {
        self.left = None;
    }
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        let Some(left) = self.left.take() else { return };
        let shutdown = left.shutdown.clone();
        shutdown.spawn(left.withdraw());
    }
}

impl Left {
    async fn withdraw(self: Box<Self>) {
        // A RADIUS gateway says so when nobody waits any more. One that says nothing is gone, and its device asks the next one, which
        // goes on with this very prompt (R-30). An LDAP connection is gone with its gateway (L-13).
        if let Some(login) = self.login.as_ref().filter(|login| login.origin.protocol == Protocol::Radius) {
            // Cancel safety: both only wait.
            tokio::select! {
                () = tokio::time::sleep_until(login.ends) => {}
                () = self.shutdown.stopping() => {}
            }
        }
        // The same attempt may wait here a second time; it still does.
        if self.waiting.is_awaited(&self.prompt_id) {
            return;
        }
        let before = self.committer.prompt(&self.prompt_id, Budget::lasting(WITHDRAWAL)).await;
        match before.ok().flatten().filter(|prompt| !prompt.outcome.is_empty()) {
            Some(answered) => self.record_unfinished(&answered).await,
            None => self.withdraw_now().await,
        }
    }

    async fn withdraw_now(&self) {
        let budget = Budget::lasting(WITHDRAWAL);
        let Ok(prompt) = self.committer.withdraw(&self.prompt_id, budget).await else { return };
        if prompt.outcome == "withdrawn" {
            self.unanswered.fall_silent(&prompt);
            self.record(Reason::NoAnswer, budget).await;
        }
    }

    /// The person has answered, and whoever waited is gone: another gateway has finished the login meanwhile, or nobody does (V-61).
    async fn record_unfinished(&self, answered: &Prompt) {
        let Some(login) = self.login.as_ref().filter(|login| login.origin.protocol == Protocol::Radius) else { return };
        // Cancel safety: both only wait. Who stops has to say it now: nobody else knows of this login.
        tokio::select! {
            () = tokio::time::sleep(UNFINISHED) => {}
            () = self.shutdown.stopping() => {}
        }
        let budget = Budget::lasting(WITHDRAWAL);
        if !matches!(self.unanswered.is_open(login.origin.transaction, budget).await, Ok(false)) {
            return;
        }
        // The first event of a login is its last word: where somebody finished it, this one is none.
        let reason = match answered.outcome.as_str() {
            "approved" | "withdrawn" => Reason::NoAnswer,
            outcome => reason_of(outcome),
        };
        self.record(reason, budget).await;
    }

    async fn record(&self, reason: Reason, budget: Budget) {
        let Some(login) = &self.login else { return };
        let ending = Ending::of(reason, login.method);
        if let Err(error) = self.committer.record(&login.origin, &login.user_id, ending, budget).await {
            tracing::warn!(error = error.message(), "an attempt that nobody waits for was not recorded");
        }
    }
}

/// How long a prompt may be open: what the client shows meanwhile outlives the request; else the caller waits.
fn life(budget: Budget, plan: &Plan, way: &Way, asks: bool) -> Option<Duration> {
    if asks {
        return Some(PROMPT);
    }
    let left = budget.less(ANSWER).left();
    let others = plan.out_of_band().skip_while(|other| other.method != way.method).skip(1).count();
    let kept = match others {
        0 => Duration::ZERO,
        _ if left >= FIRST_WAY + NEXT_WAY => NEXT_WAY,
        _ => Duration::ZERO,
    };
    Some((left - kept).min(PROMPT)).filter(|life| *life >= LEAST)
}

pub fn target(user: &KnownUser, method: Method, known: &Known) -> Result<Target, Reason> {
    match method {
        Method::Push => Ok(Target::Devices),
        _ => {
            let number = dialable(&user.record.phone, &known.settings.verification.country).map_err(|error| {
                tracing::warn!(error = %error, method = method.code(), "a number cannot be dialled");
                Reason::Unreachable
            })?;
            Ok(Target::Number { number, extension: user.record.phone_extension.clone() })
        }
    }
}

/// The user's other phone, where the settings let it ring and it can be dialled (FV-14).
fn backup_phone(user: &KnownUser, known: &Known) -> Option<PhoneNumber> {
    let allowed = known.settings.voice.backup_phone && !user.record.backup_phone.trim().is_empty();
    allowed.then(|| dialable(&user.record.backup_phone, &known.settings.verification.country).ok()).flatten()
}

/// What the person reads about where the login comes from.
fn place(attempt: &crate::attempt::Attempt) -> String {
    let known = attempt.person_ip.map(|ip| ip.to_canonical().to_string());
    known.unwrap_or_else(|| line(&attempt.origin.calling_station, 64))
}

/// Why an attempt ends with this outcome of its prompt.
pub fn reason_of(outcome: &str) -> Reason {
    match outcome {
        "denied" => Reason::UserDenied,
        "cancelled" => Reason::UserCancelled,
        "fraud" => Reason::ReportedFraud,
        "wrong_number" => Reason::WrongNumber,
        "expired" => Reason::NoAnswer,
        "withdrawn" => Reason::ChallengeGone,
        other => match Reason::from_code(other) {
            reason if matches!(reason.class(), ResultClass::Failed | ResultClass::Denied | ResultClass::Error) => {
                reason
            }
            // What would be a success is not taken from here, nor what nobody knows (V-75).
            _ => Reason::InternalError,
        },
    }
}

pub fn no_randomness(error: impl std::fmt::Display) -> Status {
    tracing::error!(error = %error, "no randomness");
    Status::internal(Reason::InternalError.code())
}

/// What is left of a prompt's life.
fn left_of(expires_unix_ms: i64, clock: &Clock) -> Duration {
    Duration::from_millis(u64::try_from(expires_unix_ms - clock.now_ms()).unwrap_or(0))
}

impl Service {
    /// Waits until a prompt that was read is over, at most `within`. `None`: it is still open.
    pub(crate) async fn wait_until_over(
        &self,
        prompt: Prompt,
        within: Duration,
        budget: Budget,
    ) -> Result<Option<Prompt>, Status> {
        if !prompt.outcome.is_empty() {
            self.fall_silent(&prompt);
            return Ok(Some(prompt));
        }
        let mut seat = self.waiting.seat(&prompt.prompt_id)?;
        let approval = Approval {
            method: Method::from_code(&prompt.method).ok_or_else(|| not_understood("prompts"))?,
            prompt_id: prompt.prompt_id,
            number: String::new(),
            expires_unix_ms: prompt.expires_unix_ms,
            destination: String::new(),
            provider: String::new(),
        };
        let over = self.wait_for(&mut seat, &approval, within, budget).await?;
        if let Some(over) = &over {
            self.fall_silent(over);
        }
        Ok(over)
    }

    /// Waits for an open prompt, at most `within`; the prompt when it is over. `None`: it is still open.
    pub(crate) async fn wait_for(
        &self,
        seat: &mut Seat,
        approval: &Approval,
        within: Duration,
        budget: Budget,
    ) -> Result<Option<Prompt>, Status> {
        // It may have ended before anybody took the seat.
        let prompt = self.committer.prompt(&approval.prompt_id, budget).await?;
        let prompt = prompt.ok_or_else(|| not_understood("prompts"))?;
        if !prompt.outcome.is_empty() {
            return Ok(Some(prompt));
        }
        let left = left_of(approval.expires_unix_ms, &self.clock);
        let until = tokio::time::Instant::now() + within.min(left);
        let span = tracing::info_span!("prompt.wait", otel.kind = "internal", twinlock.method = approval.method.code());
        match seat.over(until).instrument(span).await {
            Some(over) => Ok(Some(over)),
            None if left <= within => self.expire(&approval.prompt_id, budget).await.map(Some),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_a_reason_and_never_a_success_by_another_name() {
        // V-75
        for (outcome, reason) in [
            ("denied", Reason::UserDenied),
            ("cancelled", Reason::UserCancelled),
            ("fraud", Reason::ReportedFraud),
            ("wrong_number", Reason::WrongNumber),
            ("expired", Reason::NoAnswer),
            ("withdrawn", Reason::ChallengeGone),
            ("busy", Reason::Busy),
            ("voicemail", Reason::Voicemail),
            ("no_keys_pressed", Reason::NoKeysPressed),
            ("hung_up", Reason::HungUp),
            ("unreachable", Reason::Unreachable),
            ("provider_error", Reason::ProviderError),
            ("locked_out", Reason::LockedOut),
            ("wrong_pin", Reason::WrongPin),
            ("user_approved", Reason::InternalError),
            ("exempt", Reason::InternalError),
            ("code_asked", Reason::InternalError),
            ("", Reason::InternalError),
            ("yes", Reason::InternalError),
        ] {
            assert_eq!(reason_of(outcome), reason, "{outcome}");
        }
    }
}
