//! A code by text message, typed at the client (FV-03, V-17): made here, kept in the store as a keyed digest, compared there.

use crate::Service;
use crate::budget::{Budget, known, not_understood};
use crate::challenges::{Round, Sent};
use crate::commit::{Ending, PresentedSecret, Proven, Secreted};
use crate::facts::Spoken;
use crate::login::{Answered, Login, Step};
use crate::methods::prompt::no_randomness;
use crate::number::{dialable, prefix};
use crate::outcome::Previous;
use crate::providers::Text;
use crate::providers::words::own;
use crate::texts;
use domain::presented::{Presented, folded_digits};
use domain::{Method, PhoneNumber, Reason, Secret};
use policy::{Plan, Proof, Way};
use proto::user_store::{
    CheckSentCodeReply, CheckSentCodeRequest, OpenSentCodeRequest, SecretKind, SentCodeResult, TryKind,
};
use std::time::Duration;
use tonic::Status;

/// The longest PIN (FV-20).
const PIN_DIGITS_MAX: usize = 10;
/// Kept back of a caller's wait for what follows a text that could not be sent.
const ANSWER: Duration = Duration::from_millis(1_500);

/// A code that is sent, and to whom.
pub struct Sending<'a> {
    pub user_id: &'a str,
    pub transaction_id: &'a str,
    /// "sms", "proof"
    pub kind: &'a str,
    pub number: &'a PhoneNumber,
    pub extension: &'a str,
    pub backup: bool,
    pub expires_unix_ms: i64,
}

impl Service {
    /// Sends a code and asks for it. The question is opened first: a second copy of the request finds it, and sends nothing.
    pub(crate) async fn send_code(&self, login: &mut Login, way: &Way, previous: Previous<'_>) -> Result<Step, Status> {
        let sms = &login.rules.known.settings.sms;
        let (digits, life_ms) = (sms.digits, i64::from(sms.life_seconds) * 1000);
        let number = match dialable(&login.user.record.phone, &login.rules.company().country) {
            Ok(number) => number,
            Err(error) => {
                tracing::warn!(error = %error, method = "sms", "a number cannot be dialled");
                return Ok(Step::Failed(Ending::of(Reason::Unreachable, Method::Sms)));
            }
        };
        let (code, sent) = self.make_code(login, &number, digits, way.pin)?;
        let round = Round::SentCode { sent, right: false };
        let step = self.ask(login, round.clone(), life_ms, previous).await?;
        if !matches!(step, Step::Said(_)) {
            return Ok(step);
        }
        match self.send(login, &round, &code, &number, life_ms).await? {
            Ok(()) => Ok(step),
            Err(step) => Ok(step),
        }
    }

    /// What was typed: the code, and the PIN behind it where one is demanded.
    pub(crate) async fn hear_sent_code(
        &self,
        login: &mut Login,
        plan: &Plan,
        sent: Sent,
        right: bool,
        answer: &Secret,
    ) -> Result<Answered, Status> {
        let Some(way) = plan.way(Method::Sms).cloned() else {
            return Ok(Answered::Step(Step::Over(Ending::of(Reason::NoUsableMethod, Method::Sms))));
        };
        let Proof::SentCode(check) = way.proof else { return Err(Status::internal(Reason::InternalError.code())) };
        if answer.is_empty() {
            return self.send_again(login, &sent).await;
        }
        let again = |right, reason| Ok(Answered::Again(Round::SentCode { sent: sent.clone(), right }, reason));
        // Codes of paper and help desk are typed in the same field; they are longer, or hold letters.
        if let Some(step) = self.hear_other_code(login, plan, answer).await? {
            return Ok(match step {
                Step::Over(ending) if ending.reason == Reason::WrongCode => return again(right, Reason::WrongCode),
                step => Answered::Step(step),
            });
        }
        let digits = usize::from(sent.digits);
        let longest = digits + if sent.pin { PIN_DIGITS_MAX } else { 0 };
        let Some(typed) = folded_digits(answer.expose(), longest) else { return again(right, Reason::WrongCode) };
        let (code, pin) = typed.expose().split_at(digits.min(typed.len()));
        let (transaction, user_id) = (login.transaction(), login.user.id.clone());
        let digest = self.code_digest(sent.key_id, &transaction, &user_id, code);
        // The code was right in the round before: it may be typed again or left out.
        let (pin, code_again) = match right {
            true if digest.as_ref() == Some(&sent.digest) => (pin, false),
            true => (typed.expose(), false),
            false => (pin, true),
        };
        if code_again {
            let Some(digest) = digest else { return again(false, Reason::WrongCode) };
            let (result, reply) =
                self.check_sent(&transaction, &user_id, digest, login.origin().source(), login.budget).await?;
            match result {
                SentCodeResult::Right => {}
                SentCodeResult::Wrong => return again(false, Reason::WrongCode),
                SentCodeResult::Locked => {
                    let ending = Ending::of(Reason::LockedOut, Method::Sms).until(reply.retry_unix_ms.max(0));
                    return Ok(Answered::Step(Step::Over(ending)));
                }
                SentCodeResult::Gone | SentCodeResult::Unspecified => {
                    return Ok(Answered::Step(Step::Over(Ending::of(Reason::ChallengeGone, Method::Sms))));
                }
            }
        }
        let mut proven = Proven { sent_code: true, ..Proven::default() };
        if sent.pin {
            match self.check_pin(login, &Secret::new(pin)).await? {
                Secreted::Right { handle } => proven.pin_handle = handle,
                Secreted::Wrong | Secreted::None => return again(true, Reason::WrongPin),
                Secreted::Locked { until_unix_ms } => {
                    let ending = Ending::of(Reason::LockedOut, Method::Sms).until(until_unix_ms);
                    return Ok(Answered::Step(Step::Over(ending)));
                }
            }
            // It is changed on the channel that asked for it, before it lets in (FV-21).
            if login.user.record.pin.is_some_and(|pin| pin.must_change) {
                return self.ask_new_pin(login, proven.pin_handle).await.map(Answered::Step);
            }
        }
        self.let_in(login, check.right(self.clock.now_ms()), proven).await.map(Answered::Step)
    }

    /// A PIN that was typed at the client.
    pub(crate) async fn check_pin(&self, login: &Login, pin: &Secret) -> Result<Secreted, Status> {
        if pin.is_empty() {
            return Ok(Secreted::Wrong);
        }
        let presented = PresentedSecret {
            kind: SecretKind::Pin,
            secret: pin,
            questions: &[],
            answers: &[],
            try_kind: TryKind::AfterPassword,
        };
        self.committer.check_secret(login.origin(), &login.user.id, presented, login.budget).await
    }

    /// A recovery or temporary code in the place of the sent one. `None`: it is none.
    async fn hear_other_code(&self, login: &Login, plan: &Plan, answer: &Secret) -> Result<Option<Step>, Status> {
        let letters = answer.expose().iter().any(u8::is_ascii_alphabetic);
        match Presented::parse(answer.expose()) {
            Some(Presented::Recovery(_)) if letters && plan.typed.recovery.is_some() => {}
            Some(Presented::Temporary(_)) if plan.typed.temporary.is_some() => {}
            _ => return Ok(None),
        }
        use crate::methods::code::Tried;
        Ok(Some(match self.try_typed(login, &plan.typed, answer).await? {
            Tried::Right(step) => step,
            Tried::Wrong => Step::Over(Ending::of(Reason::WrongCode, Method::Sms)),
            Tried::Throttled { until_unix_ms } => {
                Step::Over(Ending::of(Reason::LockedOut, Method::Recovery).until(until_unix_ms))
            }
        }))
    }

    /// An empty answer asks for another text. The store keeps the pause between two of them.
    async fn send_again(&self, login: &mut Login, before: &Sent) -> Result<Answered, Status> {
        let number = match dialable(&login.user.record.phone, &login.rules.company().country) {
            Ok(number) => number,
            Err(_) => return Ok(Answered::Step(Step::Over(Ending::of(Reason::Unreachable, Method::Sms)))),
        };
        let life_ms = i64::from(login.rules.known.settings.sms.life_seconds) * 1000;
        let (code, sent) = self.make_code(login, &number, before.digits.into(), before.pin)?;
        let round = Round::SentCode { sent, right: false };
        match self.send(login, &round, &code, &number, life_ms).await? {
            Ok(()) => self.ask(login, round, life_ms, Previous::default()).await.map(Answered::Step),
            // Too soon: the code before still counts.
            Err(Step::NotNow(ending)) => {
                Ok(Answered::Again(Round::SentCode { sent: before.clone(), right: false }, ending.reason))
            }
            Err(step) => Ok(Answered::Step(step)),
        }
    }

    fn make_code(&self, login: &Login, number: &PhoneNumber, digits: u32, pin: bool) -> Result<(Secret, Sent), Status> {
        let digits = u8::try_from(digits.clamp(6, 8)).expect("at most 8");
        let code = otp::digits(digits.into(), self.randomness).map_err(no_randomness)?;
        let key_id = self.code_keys.current().ok_or_else(|| not_understood("key ring codes"))?;
        let digest = self
            .code_digest(key_id, &login.transaction(), &login.user.id, code.expose())
            .ok_or_else(|| not_understood("key ring codes"))?;
        Ok((code, Sent { key_id, digest, digits, pin, destination: number.masked() }))
    }

    /// What the store keeps of a code.
    pub(crate) fn code_digest(&self, key_id: u32, transaction: &str, user_id: &str, code: &[u8]) -> Option<Vec<u8>> {
        self.code_keys.digest(key_id, &[transaction.as_bytes(), user_id.as_bytes(), code])
    }

    /// The store counts it and keeps the digest; then the text goes out.
    async fn send(
        &self,
        login: &Login,
        round: &Round,
        code: &Secret,
        number: &PhoneNumber,
        life_ms: i64,
    ) -> Result<Result<(), Step>, Status> {
        let Round::SentCode { sent, .. } = round else { return Err(Status::internal(Reason::InternalError.code())) };
        let transaction = login.transaction();
        let sending = Sending {
            user_id: &login.user.id,
            transaction_id: &transaction,
            kind: "sms",
            number,
            extension: "",
            backup: false,
            expires_unix_ms: self.clock.now_ms().saturating_add(life_ms),
        };
        if let Err(until_unix_ms) = self.open_sent_code(&sending, sent.digest.clone(), login.budget).await? {
            let ending = Ending::of(Reason::RateLimited, Method::Sms).until(until_unix_ms);
            return Ok(Err(Step::NotNow(ending)));
        }
        let known = &login.rules.known;
        let language = login.user.language(Spoken::Text, known);
        let application = &login.rules.application;
        // Only pages of the portal's own host can be filled in.
        let host = if login.rules.client.target.is_none() { known.portal_host() } else { "" };
        let said = code.expose_str().ok_or_else(|| not_understood("a code"))?;
        let (key, speak): (_, fn(&_, &_, &_, &_, Option<&_>) -> String) = match sent.pin {
            true => ("sms-code-pin", texts::sms_code_pin),
            false => ("sms-code", texts::sms_code),
        };
        let own = own(&known.settings, key, &language, application).map(|own| own.text.as_str());
        let text = Text {
            to: number,
            text: speak(&language, said, application, host, own),
            expires_unix_ms: sending.expires_unix_ms,
            user_id: sending.user_id,
            transaction_id: sending.transaction_id,
            reply: false,
        };
        let within = login.budget.less(ANSWER).left();
        let failure = match tokio::time::timeout(within, self.carriers.text(text)).await {
            Ok(Ok(_)) => return Ok(Ok(())),
            Ok(Err(failure)) => failure,
            Err(_) => crate::providers::SendFailure::TooLate,
        };
        tracing::warn!(
            event = "text_not_sent",
            request_id = %login.origin().transaction,
            error = %failure,
        );
        let ending = Ending::of(failure.reason(), Method::Sms);
        Ok(Err(if ending.reason.is_technical() { Step::Failed(ending) } else { Step::Over(ending) }))
    }

    /// `Err`: none may go out now, and when the next one may.
    pub(crate) async fn open_sent_code(
        &self,
        sending: &Sending<'_>,
        digest: Vec<u8>,
        budget: Budget,
    ) -> Result<Result<(), i64>, Status> {
        let known = self.settings.known()?;
        let sms = &known.settings.sms;
        let proof = sending.kind == "proof";
        let request = OpenSentCodeRequest {
            user_id: sending.user_id.to_owned(),
            transaction_id: sending.transaction_id.to_owned(),
            digest,
            expires_unix_ms: sending.expires_unix_ms,
            kind: sending.kind.to_owned(),
            phone_prefix: prefix(sending.number).to_owned(),
            per_prefix_and_hour: sms.per_prefix_and_hour,
            messages_per_day: sms.per_day,
            now_unix_ms: self.clock.now_ms(),
            number: if proof { sending.number.expose().to_owned() } else { String::new() },
            extension: sending.extension.to_owned(),
            backup: sending.backup,
        };
        let commit = &self.committer.commit;
        let reply = budget.ask("open sent code", request, |request| commit.open_sent_code(request)).await?;
        Ok(if reply.opened { Ok(()) } else { Err(reply.retry_unix_ms.max(0)) })
    }

    /// Compares what was typed; the store counts the try first.
    pub(crate) async fn check_sent(
        &self,
        transaction_id: &str,
        user_id: &str,
        digest: Vec<u8>,
        source: &str,
        budget: Budget,
    ) -> Result<(SentCodeResult, CheckSentCodeReply), Status> {
        let request = CheckSentCodeRequest {
            user_id: user_id.to_owned(),
            transaction_id: transaction_id.to_owned(),
            digest,
            now_unix_ms: self.clock.now_ms(),
            source: source.to_owned(),
        };
        let commit = &self.committer.commit;
        let reply = budget.ask("check sent code", request, |request| commit.check_sent_code(request)).await?;
        match known(reply.result, "check sent code")? {
            SentCodeResult::Unspecified => Err(not_understood("check sent code")),
            result => Ok((result, reply)),
        }
    }
}
