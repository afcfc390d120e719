//! What a person answered by text message (FV-04): the code that was sent, then the PIN where one is asked for.
//!
//! ```text
//! a text goes out  -> map: number (keyed digest) -> its attempt, sealed
//! a text comes in  -> map -> the attempt's open prompt, in the store -> code compared -> PIN checked -> resolved, waiters woken
//! ```
//!
//! Any node hears any reply. Losing the map loses replies, never adds one: what counts is the code, and that is in the store.

use crate::budget::{Budget, known};
use crate::number;
use crate::providers::Shared;
use crate::sealed_key::SealedKey;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use domain::{Method, PhoneNumber, Secret};
use hmac::{Hmac, KeyInit, Mac};
use proto::subjects::{REPLIES_MAP, challenge_resolved};
use proto::user_store::{
    CheckSecretRequest, GetPromptsRequest, Prompt, ResolvePromptRequest, SecretKind, SecretResult, TryKind,
};
use service_kit::bus::{BusError, KeyRing, Map, MapOptions, SealedMap};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tonic::Status;

/// The longest a prompt is open.
const LIFE: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(4);
/// What keeping a place may take: the text waits for it.
const EXPECT_PATIENCE: Duration = Duration::from_secs(1);
/// Where tries come from, for the throttle.
const SOURCE: &str = "sms_reply";
/// Changes of one entry by others at the same time.
const RETRIES: usize = 3;

/// What a reply says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// No digit in it: somebody's automatic answer, or a chat.
    Nothing,
    Wrong,
    Code {
        pin: Option<Secret>,
    },
}

/// Where replies belong, for every node.
pub struct Replies {
    shared: Shared,
    map: Arc<dyn Map>,
    /// The bus sees neither number nor attempt: where a number stands, and what seals an attempt, come from it.
    key: SealedKey,
}

impl Replies {
    pub fn new(shared: Shared) -> Self {
        let options = MapOptions { ttl: LIFE, max_value_bytes: 1024, ..MapOptions::default() };
        let map = shared.bus.map(REPLIES_MAP, options);
        Self { shared, map, key: SealedKey::new("replies", |_| true) }
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Remembers whose answer the next text from this number is. Best effort: without it the person begins again.
    pub async fn expect(&self, to: &PhoneNumber, transaction_id: &str) {
        match tokio::time::timeout(EXPECT_PATIENCE, self.keep(to, transaction_id)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::warn!(error = why, "where a reply belongs could not be kept"),
            Err(_) => tracing::warn!(error = "no answer in time", "where a reply belongs could not be kept"),
        }
    }

    async fn keep(&self, to: &PhoneNumber, transaction_id: &str) -> Result<(), String> {
        let place = self.place(to, Budget::lasting(EXPECT_PATIENCE)).await;
        let (map, key) = place.map_err(|status| status.message().to_owned())?;
        let value = Bytes::copy_from_slice(transaction_id.as_bytes());
        let mut why = String::new();
        for _ in 0..RETRIES {
            let kept = match map.get(&key).await {
                Ok(Some(entry)) => map.update(&key, value.clone(), entry.revision).await,
                Ok(None) => map.create(&key, value.clone()).await,
                Err(error) => Err(error),
            };
            match kept {
                Ok(_) => return Ok(()),
                Err(error) => why = service_kit::chain(&error),
            }
        }
        Err(why)
    }

    /// Works on a text that came in.
    pub async fn judge(&self, provider: &str, from: &str, text: &Secret) -> Result<(), Status> {
        let shared = &self.shared;
        let settings = shared.settings.known()?;
        let Some(from) = number::from_provider(from).filter(|_| settings.settings.sms.replies) else {
            tracing::debug!(provider, "a text message came in that nobody waits for");
            return Ok(());
        };
        let budget = Budget::lasting(PATIENCE);
        let (map, key) = self.place(&from, budget).await?;
        let found = tokio::time::timeout(budget.left(), map.get(&key)).await;
        // Forged or of a key that is gone is none; a bus that is away says nothing of the kind.
        let entry = match found.map_err(|_| Status::unavailable("the bus does not answer"))? {
            Ok(entry) => entry,
            Err(BusError::NotOurs) => None,
            Err(error) => return Err(Status::unavailable(service_kit::chain(&error))),
        };
        let Some(entry) = entry else {
            tracing::info!(provider, number = %from, "a text message came in for no open sign-in");
            return Ok(());
        };
        let transaction_id = String::from_utf8_lossy(&entry.value).into_owned();
        let Some(prompt) = open_prompt(shared, transaction_id, budget).await? else {
            tracing::info!(provider, number = %from, "a text message came in for a sign-in that is over");
            return Ok(());
        };
        let (outcome, pin_handle) = match read(text, &prompt.number, prompt.pin_asked) {
            Said::Nothing => return Ok(()),
            Said::Wrong => ("wrong_number", String::new()),
            Said::Code { pin: None } => ("approved", String::new()),
            Said::Code { pin: Some(pin) } => match check_pin(shared, &prompt, pin, budget).await? {
                Some(handle) => ("approved", handle),
                None => ("wrong_pin", String::new()),
            },
        };
        let answer = Answer { provider, from: &from, outcome, pin_handle };
        resolve(shared, &prompt, answer, budget).await
    }

    /// The map, and where a number stands in it.
    async fn place(&self, number: &PhoneNumber, budget: Budget) -> Result<(Arc<dyn Map>, String), Status> {
        let key = self.key.of(self.shared.commit.as_ref(), self.shared.randomness, budget).await?;
        let ring = KeyRing::new(&[service_kit::secret::Secret::new(derive(key, "seal", b""))]);
        let place = HEXLOWER.encode(&derive(key, "number", number.expose().as_bytes()));
        Ok((SealedMap::new(self.map.clone(), ring), place))
    }
}

/// What a prompt came to.
struct Answer<'a> {
    provider: &'a str,
    from: &'a PhoneNumber,
    outcome: &'static str,
    pin_handle: String,
}

async fn open_prompt(shared: &Shared, transaction_id: String, budget: Budget) -> Result<Option<Prompt>, Status> {
    let wanted = GetPromptsRequest { transaction_ids: vec![transaction_id], ..GetPromptsRequest::default() };
    let reply = budget.ask("prompts", wanted, |request| shared.commit.get_prompts(request)).await?;
    let now = shared.clock.now_ms();
    Ok(reply.prompts.into_iter().find(|prompt| {
        prompt.method == Method::SmsReply.code() && prompt.outcome.is_empty() && now < prompt.expires_unix_ms
    }))
}

/// `None`: it was wrong, or none counts now.
async fn check_pin(shared: &Shared, prompt: &Prompt, pin: Secret, budget: Budget) -> Result<Option<String>, Status> {
    let request = CheckSecretRequest {
        user_id: prompt.user_id.clone(),
        kind: SecretKind::Pin.into(),
        secret: Some(pin.into()),
        source: SOURCE.into(),
        transaction_id: prompt.transaction_id.clone(),
        try_kind: TryKind::AfterPassword.into(),
        now_unix_ms: shared.clock.now_ms(),
        ..CheckSecretRequest::default()
    };
    let reply = budget.ask("check PIN", request, |request| shared.commit.check_secret(request)).await?;
    let right = known::<SecretResult>(reply.result, "check PIN")? == SecretResult::Right;
    Ok(right.then_some(reply.handle))
}

async fn resolve(shared: &Shared, prompt: &Prompt, answer: Answer<'_>, budget: Budget) -> Result<(), Status> {
    let Answer { provider, from, outcome, pin_handle } = answer;
    let assurance = if outcome == "approved" { Method::SmsReply.assurance().code() } else { "" };
    let request = ResolvePromptRequest {
        prompt_id: prompt.prompt_id.clone(),
        outcome: outcome.into(),
        answered_by: from.masked(),
        assurance: assurance.into(),
        // Not over the text: a digest of a PIN of four digits is the PIN.
        answer_digest: Sha256::digest(format!("sms|{}|{outcome}", prompt.prompt_id)).to_vec(),
        now_unix_ms: shared.clock.now_ms(),
        pin_handle,
        ..ResolvePromptRequest::default()
    };
    let reply = budget.ask("resolve prompt", request, |request| shared.commit.resolve_prompt(request)).await?;
    if reply.taken {
        // Lost, it costs the one who waits a second: the store is looked at anyway.
        let _ = shared.bus.publish(&challenge_resolved(&prompt.prompt_id), Bytes::new()).await;
        let (prompt_id, transaction_id) = (prompt.prompt_id.as_str(), prompt.transaction_id.as_str());
        tracing::info!(prompt_id, transaction_id, provider, outcome, number = %from, "a text message was answered");
    }
    Ok(())
}

/// The code first, then the PIN; whatever is no digit may stand between and around them. What follows a PIN is wrong.
fn read(text: &Secret, code: &str, pin_asked: bool) -> Said {
    let digits: Vec<u8> = text.expose().iter().copied().filter(u8::is_ascii_digit).collect();
    if digits.is_empty() {
        return Said::Nothing;
    }
    let digits = Secret::new(digits);
    let (head, tail) = digits.expose().split_at(code.len().min(digits.len()));
    let right = !code.is_empty() && bool::from(head.ct_eq(code.as_bytes()));
    match (right, pin_asked, tail.is_empty()) {
        (true, false, true) => Said::Code { pin: None },
        (true, true, false) => Said::Code { pin: Some(Secret::new(tail)) },
        _ => Said::Wrong,
    }
}

fn derive(key: &[u8], purpose: &str, of: &[u8]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(format!("twinlock replies {purpose}\n").as_bytes());
    mac.update(of);
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_the_code_then_the_pin_however_it_is_written() {
        // FV-04
        let code = || Said::Code { pin: None };
        let with = |pin: &str| Said::Code { pin: Some(pin.into()) };
        for (text, pin_asked, said) in [
            ("123456", false, code()),
            (" 123 456.", false, code()),
            ("Code: 123456", false, code()),
            ("1234567", false, Said::Wrong),
            ("12345", false, Said::Wrong),
            ("654321", false, Said::Wrong),
            ("123456", true, Said::Wrong),
            ("123456 7788", true, with("7788")),
            ("1234567788", true, with("7788")),
            ("7788 123456", true, Said::Wrong),
            ("I am driving", false, Said::Nothing),
            ("", true, Said::Nothing),
        ] {
            assert_eq!(read(&text.into(), "123456", pin_asked), said, "{text}");
        }
        assert_eq!(read(&"1".into(), "", false), Said::Wrong, "a prompt without a code is answered by nobody");
    }
}
