//! A PIN that has to be changed at its first use, where the client can ask (FV-21): a new one, and the same again.

use crate::Service;
use crate::budget::not_understood;
use crate::challenges::Round;
use crate::commit::{Ending, Proven};
use crate::login::{Answered, Login, Step};
use crate::outcome::Previous;
use domain::presented::folded_digits;
use domain::{Method, Reason, Secret};
use policy::{Plan, Proof};
use proto::user_store::SetPinRequest;
use subtle::ConstantTimeEq;
use tonic::Status;

/// The longest PIN (FV-20).
const DIGITS_MAX: usize = 10;

/// Where the change of a PIN stands.
pub struct NewPin {
    /// The old one was right.
    pub pin_handle: String,
    pub key_id: u32,
    /// Digest of the new one as it was typed first; empty = not yet.
    pub first: Vec<u8>,
}

impl NewPin {
    fn round(self) -> Round {
        Round::NewPin { pin_handle: self.pin_handle, key_id: self.key_id, first: self.first }
    }
}

impl Service {
    pub(crate) async fn ask_new_pin(&self, login: &mut Login, pin_handle: String) -> Result<Step, Status> {
        let key_id = self.code_keys.current().ok_or_else(|| not_understood("key ring codes"))?;
        let round = NewPin { pin_handle, key_id, first: Vec::new() }.round();
        self.ask(login, round, login.rules.limits.round_ms, Previous::default()).await
    }

    pub(crate) async fn hear_new_pin(
        &self,
        login: &mut Login,
        plan: &Plan,
        new: NewPin,
        answer: &Secret,
    ) -> Result<Answered, Status> {
        let from_the_start = |new: NewPin| NewPin { first: Vec::new(), ..new }.round();
        let Some(pin) = folded_digits(answer.expose(), DIGITS_MAX) else {
            return Ok(Answered::Again(from_the_start(new), Reason::WrongPin));
        };
        let digest = self.pin_digest(login, new.key_id, &pin).ok_or_else(|| not_understood("key ring codes"))?;
        if new.first.is_empty() {
            let round = NewPin { first: digest, ..new }.round();
            return self.ask(login, round, login.rules.limits.round_ms, Previous::default()).await.map(Answered::Step);
        }
        if !bool::from(digest.ct_eq(&new.first)) {
            return Ok(Answered::Again(from_the_start(new), Reason::WrongPin));
        }
        let request = SetPinRequest {
            user_id: login.user.id.clone(),
            pin: Some(pin.into()),
            actor: "self".into(),
            must_change: false,
        };
        let commit = &self.committer.commit;
        let reply = login.budget.ask("set pin", request, |request| commit.set_pin(request)).await?;
        if !reply.set {
            let previous = Previous { reason: Some(Reason::WrongPin), rule: &reply.rule };
            return self
                .ask(login, from_the_start(new), login.rules.limits.round_ms, previous)
                .await
                .map(Answered::Step);
        }
        let check = match plan.way(Method::Sms).map(|way| &way.proof) {
            Some(Proof::SentCode(check)) => check.clone(),
            _ => return Ok(Answered::Step(Step::Over(Ending::of(Reason::NoUsableMethod, Method::Sms)))),
        };
        let proven = Proven { sent_code: true, pin_handle: new.pin_handle, ..Proven::default() };
        self.let_in(login, check.right(self.clock.now_ms()), proven).await.map(Answered::Step)
    }

    fn pin_digest(&self, login: &Login, key_id: u32, pin: &Secret) -> Option<Vec<u8>> {
        let transaction = login.transaction();
        let fields: &[&[u8]] = &[b"new pin", transaction.as_bytes(), login.user.id.as_bytes(), pin.expose()];
        self.code_keys.digest(key_id, fields)
    }
}
