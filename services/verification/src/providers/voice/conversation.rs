//! A call's state in the store: found, moved on by compare-and-swap, resolved. Any node takes any event; one of several that
//! hear the same event acts, the others say what it led to (V-18).

use super::flow::{Call, Effect, Ending, Event, Speech};
use crate::budget::{Budget, known};
use crate::providers::Shared;
use crate::settings::Known;
use bytes::Bytes;
use domain::Secret;
use proto::user_store::{
    CheckSecretRequest, GetPromptsRequest, Prompt, ResolvePromptRequest, SecretKind, SecretResult, SetPinRequest,
    TryKind, UpdatePromptRequest,
};
use sha2::{Digest, Sha256};
use tonic::Status;

/// How often a move is tried again because somebody else moved.
const TURNS_MAX: usize = 8;
/// Where tries of a PIN come from, for the throttle.
const SOURCE: &str = "call";

/// Which call an event is about, as the provider says.
#[derive(Clone, Copy)]
pub struct About<'a> {
    pub prompt_id: &'a str,
    pub provider: &'a str,
    pub attempt: u32,
    /// The provider's name for the call.
    pub call_id: &'a str,
    /// The step it answers; `None` = whatever the call is at.
    pub step: Option<u32>,
}

/// How the call stands after an event.
pub struct Turn {
    pub prompt: Prompt,
    pub call: Call,
    pub speech: Speech,
    /// The backup phone has to be rung now, by whoever hears this; else it ended like this.
    pub ring_backup: Option<Ending>,
}

/// What came of writing the state.
pub enum Kept {
    Now(Box<Prompt>),
    /// Somebody else moved it.
    Moved,
}

#[derive(Clone)]
pub struct Conversation {
    shared: Shared,
}

impl Conversation {
    pub fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// The prompt as it stands. `None`: there is no such call.
    pub async fn find(&self, prompt_id: &str, budget: Budget) -> Result<Option<Prompt>, Status> {
        let request = GetPromptsRequest { prompt_ids: vec![prompt_id.to_owned()], transaction_ids: vec![] };
        let commit = &self.shared.commit;
        let found = budget.ask("get prompts", request, |request| commit.get_prompts(request)).await?;
        Ok(found.prompts.into_iter().find(|prompt| prompt.prompt_id == prompt_id))
    }

    /// Does anybody still wait for an answer?
    pub fn is_open(&self, prompt: &Prompt) -> bool {
        prompt.outcome.is_empty() && prompt.expires_unix_ms > self.shared.clock.now_ms()
    }

    pub async fn keep(&self, prompt: &Prompt, call: &Call, budget: Budget) -> Result<Kept, Status> {
        let request = UpdatePromptRequest {
            prompt_id: prompt.prompt_id.clone(),
            expected_revision: prompt.revision,
            state_json: call.write(),
        };
        let commit = &self.shared.commit;
        let reply = budget.ask("update prompt", request, |request| commit.update_prompt(request)).await?;
        Ok(match reply.prompt {
            Some(prompt) if reply.updated => Kept::Now(Box::new(prompt)),
            _ => Kept::Moved,
        })
    }

    /// Moves the call on by an event and does what follows from it. `None`: no such call, or not of this provider.
    pub async fn take(&self, about: About<'_>, event: Option<Event>, budget: Budget) -> Result<Option<Turn>, Status> {
        let settings = self.shared.settings.known()?;
        let (mut event, mut step) = (event, about.step);
        for _ in 0..TURNS_MAX {
            let Some(prompt) = self.find(about.prompt_id, budget).await? else { return Ok(None) };
            let Some(call) = Call::read(&prompt.state_json).filter(|call| call.provider == about.provider) else {
                return Ok(None);
            };
            if call.attempt != about.attempt {
                // Of a try that was given up.
                return Ok(Some(Turn { prompt, call, speech: Speech::hang_up(), ring_backup: None }));
            }
            if !call.call_id.is_empty() && call.call_id != about.call_id {
                return Ok(None);
            }
            if let Some(ending) = call.ending() {
                return self.ended(prompt, call, ending, &settings, budget).await.map(Some);
            }
            if !self.is_open(&prompt) {
                return Ok(Some(Turn { prompt, call, speech: Speech::gone(), ring_backup: None }));
            }
            let meant = event.clone().filter(|_| step.is_none_or(|step| step == call.step));
            let moved = meant.and_then(|event| call.on(event, &settings.settings.voice.fraud_code));
            let Some((mut next, effect)) = moved else {
                let speech = call.speech();
                return Ok(Some(Turn { prompt, call, speech, ring_backup: None }));
            };
            if next.attempt == about.attempt {
                about.call_id.clone_into(&mut next.call_id);
            }
            let Kept::Now(prompt) = self.keep(&prompt, &next, budget).await? else { continue };
            let prompt = *prompt;
            event = match effect {
                Effect::Nothing => {
                    let speech = next.speech();
                    return Ok(Some(Turn { prompt, call: next, speech, ring_backup: None }));
                }
                Effect::End(ending) => return self.ended(prompt, next, ending, &settings, budget).await.map(Some),
                Effect::CallBackup(ending) => {
                    let speech = Speech::hang_up();
                    return Ok(Some(Turn { prompt, call: next, speech, ring_backup: Some(ending) }));
                }
                Effect::CheckPin(pin) => Some(self.check_pin(&prompt, pin, budget).await?),
                Effect::SetPin(pin) => Some(self.set_pin(&prompt, pin, budget).await?),
            };
            step = Some(next.step);
        }
        Err(Status::aborted("the call is moved by too many at once"))
    }

    /// Ends it beside what happens on the line.
    pub async fn end(&self, prompt: &Prompt, call: &Call, ending: Ending, budget: Budget) -> Result<(), Status> {
        let over = call.ended(ending);
        if let Kept::Now(prompt) = self.keep(prompt, &over, budget).await? {
            self.resolve(&prompt, &over, ending, &*self.shared.settings.known()?, budget).await?;
        }
        Ok(())
    }

    /// Every time again, so that an answer that was lost on its way to the store arrives with the next copy of the event.
    async fn ended(
        &self,
        prompt: Prompt,
        call: Call,
        ending: Ending,
        settings: &Known,
        budget: Budget,
    ) -> Result<Turn, Status> {
        let counted = self.resolve(&prompt, &call, ending, settings, budget).await?;
        let speech = if counted { call.speech() } else { Speech::gone() };
        Ok(Turn { prompt, call, speech, ring_backup: None })
    }

    async fn resolve(
        &self,
        prompt: &Prompt,
        call: &Call,
        ending: Ending,
        settings: &Known,
        budget: Budget,
    ) -> Result<bool, Status> {
        let now = self.shared.clock.now_ms();
        let approved = ending == Ending::Approved;
        let request = ResolvePromptRequest {
            prompt_id: prompt.prompt_id.clone(),
            outcome: ending.outcome().into(),
            answered_by: call.line().number.masked(),
            assurance: if approved { ending.assurance().code().into() } else { String::new() },
            answer_digest: Sha256::digest(format!("call|{}|{}", prompt.prompt_id, ending.outcome())).to_vec(),
            block_until_unix_ms: if ending == Ending::Fraud { settings.blocked_by_fraud_until(now) } else { 0 },
            now_unix_ms: now,
            pin_handle: if approved { call.pin_handle().to_owned() } else { String::new() },
            ..ResolvePromptRequest::default()
        };
        let commit = &self.shared.commit;
        let reply = budget.ask("resolve prompt", request, |request| commit.resolve_prompt(request)).await?;
        if reply.taken {
            // Lost, it costs the one who waits a second: the store is looked at anyway.
            let subject = proto::subjects::challenge_resolved(&prompt.prompt_id);
            let _ = self.shared.bus.publish(&subject, Bytes::new()).await;
            tracing::info!(
                prompt_id = prompt.prompt_id,
                transaction_id = prompt.transaction_id,
                provider = call.provider,
                outcome = ending.outcome(),
                phone = %call.line().number,
                "call ended"
            );
        }
        Ok(reply.taken)
    }

    async fn check_pin(&self, prompt: &Prompt, pin: Secret, budget: Budget) -> Result<Event, Status> {
        let request = CheckSecretRequest {
            user_id: prompt.user_id.clone(),
            kind: SecretKind::Pin.into(),
            secret: Some(pin.into()),
            source: SOURCE.into(),
            transaction_id: prompt.transaction_id.clone(),
            try_kind: TryKind::AfterPassword.into(),
            now_unix_ms: self.shared.clock.now_ms(),
            ..CheckSecretRequest::default()
        };
        let commit = &self.shared.commit;
        let reply = budget.ask("check PIN", request, |request| commit.check_secret(request)).await?;
        Ok(match known::<SecretResult>(reply.result, "check PIN")? {
            SecretResult::Right => Event::PinRight { handle: reply.handle },
            SecretResult::Locked => Event::PinLocked,
            SecretResult::Wrong | SecretResult::None => Event::PinWrong,
            SecretResult::Unspecified => return Err(crate::budget::not_understood("check PIN")),
        })
    }

    async fn set_pin(&self, prompt: &Prompt, pin: Secret, budget: Budget) -> Result<Event, Status> {
        let request = SetPinRequest {
            user_id: prompt.user_id.clone(),
            pin: Some(pin.into()),
            actor: "self".into(),
            must_change: false,
        };
        let commit = &self.shared.commit;
        let reply = budget.ask("set PIN", request, |request| commit.set_pin(request)).await?;
        Ok(Event::PinSet(reply.set))
    }
}
