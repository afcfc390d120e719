//! Delivery receipts and inbound texts over HTTP: `/callback/<provider>/receipt` and `.../reply`.
//!
//! ```text
//! who signs, and over what                                   what it says
//! Twilio   X-Twilio-Signature: HMAC-SHA1 over URL and form   MessageSid, MessageStatus | From, Body
//! others   X-Twinlock-Signature: t=<unix>,v1=<HMAC-SHA256    {"id", "state"} | {"from", "text"}
//!          over "t.body">, at most five minutes old
//! ```
//!
//! Each is heard once: a replay gets the same answer and no second effect.

use super::{Called, heard, not_found};
use crate::Service;
use crate::providers::sms::{Heard, State};
use crate::providers::{http, twilio};
use data_encoding::HEXLOWER_PERMISSIVE;
use domain::Secret;
use domain::settings::{Adapter, HttpPreset};
use hmac::{Hmac, KeyInit, Mac};
use proto::user_store::SeeOnceRequest;
use proto::verification::{CallbackReply, CallbackRequest};
use serde_json::Value;
use sha2::Sha256;
use std::time::Duration;
use tonic::Status;

/// How old a signature may be, or how far ahead its clock.
const SIGNATURE_LIFE_SECONDS: i64 = 300;
/// How long is remembered what was heard: longer than a signature counts, and than a vendor tries again.
const REMEMBERED_MS: i64 = 24 * 3_600_000;
/// Kept back, to take the mark away from what could not be worked on.
const FORGETTING: Duration = Duration::from_secs(2);
const NAME_BYTES_MAX: usize = 128;

/// What was said, proven to be said by the provider.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    /// The same again is a replay.
    once: String,
    /// Nothing that anybody waits for: a message is on its way.
    heard: Option<Heard>,
    answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Empty,
    /// Twilio wants TwiML where a text came in.
    Twiml,
}

pub async fn receive(service: &Service, called: Called<'_>) -> Result<CallbackReply, Status> {
    let Adapter::Http { preset, .. } = &called.provider.adapter else { return Ok(not_found()) };
    let now_ms = service.committer.now_ms();
    let Some(secret) = called.signing_secret() else { return Ok(not_found()) };
    let said = match preset {
        Some(HttpPreset::Twilio) => of_twilio(called.request, called.header("x-twilio-signature"), secret),
        _ => signed(called.request, called.header("x-twinlock-signature"), secret, now_ms / 1000),
    };
    let name = called.provider.name.as_str();
    let Some(said) = said else {
        tracing::warn!(provider = name, "a callback is not signed by its provider, or makes no sense");
        return Ok(not_found());
    };
    let once = SeeOnceRequest {
        scope: format!("callback/{name}"),
        id: said.once,
        expires_unix_ms: now_ms + REMEMBERED_MS,
        forget: false,
    };
    let commit = &service.committer.commit;
    let first = called.budget.ask("see once", once.clone(), |request| commit.see_once(request)).await?.first;
    if let (true, Some(heard)) = (first, said.heard) {
        let work = service.providers.sms.heard(name, &heard);
        let worked = tokio::time::timeout(called.budget.less(FORGETTING).left(), work).await;
        if let Err(error) = worked.unwrap_or_else(|_| Err(Status::deadline_exceeded("no time is left"))) {
            // The provider says it again; then it must not count as heard.
            let forget = SeeOnceRequest { forget: true, ..once };
            called.budget.ask("forget what was seen", forget, |request| commit.see_once(request)).await?;
            return Err(error);
        }
    }
    Ok(said.answer.reply())
}

impl Answer {
    fn reply(self) -> CallbackReply {
        match self {
            Self::Empty => heard(),
            Self::Twiml => {
                CallbackReply { status: 200, content_type: "text/xml".into(), body: b"<Response/>".to_vec() }
            }
        }
    }
}

fn of_twilio(request: &CallbackRequest, signature: Option<&str>, secret: &Secret) -> Option<Said> {
    let fields = http::read_form(&request.body)?;
    twilio::is_signed(secret, &request.url, &fields, signature?).then_some(())?;
    let field = |name: &str| fields.get(name).map(String::as_str);
    let id = field("MessageSid").filter(|id| is_name(id))?;
    match request.path.as_str() {
        "receipt" => {
            let status = field("MessageStatus").filter(|status| is_name(status))?;
            Some(Said {
                once: format!("{id}:{status}"),
                heard: State::named(status).map(|state| Heard::Receipt { provider_id: id.to_owned(), state }),
                answer: Answer::Empty,
            })
        }
        "reply" => {
            Some(Said { once: id.to_owned(), heard: text(field("From")?, field("Body")?), answer: Answer::Twiml })
        }
        _ => None,
    }
}

/// Our own scheme, for gateways that can be told how to sign.
fn signed(request: &CallbackRequest, signature: Option<&str>, secret: &Secret, now_seconds: i64) -> Option<Said> {
    let mut parts = signature?.split(',').filter_map(|part| part.trim().split_once('='));
    let (mut at, mut claimed) = (None, None);
    for (name, value) in parts.by_ref().take(8) {
        match name {
            "t" => at = Some(value),
            "v1" => claimed = Some(value),
            _ => {}
        }
    }
    let (at, claimed) = (at?, HEXLOWER_PERMISSIVE.decode(claimed?.as_bytes()).ok()?);
    let seconds: i64 = at.parse().ok()?;
    (now_seconds.abs_diff(seconds) <= SIGNATURE_LIFE_SECONDS as u64).then_some(())?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).ok()?;
    mac.update(at.as_bytes());
    mac.update(b".");
    mac.update(&request.body);
    mac.verify_slice(&claimed).ok()?;
    // The body alone is signed: what it says must say which of the two it is.
    let body: Value = serde_json::from_slice(&request.body).ok()?;
    let field = |name: &str| body.get(name).and_then(Value::as_str);
    let heard = match request.path.as_str() {
        "receipt" => {
            let (id, state) = (field("id").filter(|id| is_name(id))?, field("state")?);
            State::named(state).map(|state| Heard::Receipt { provider_id: id.to_owned(), state })
        }
        "reply" => text(field("from")?, field("text")?),
        _ => return None,
    };
    // In one spelling: the same signature in capitals is the same.
    Some(Said { once: HEXLOWER_PERMISSIVE.encode(&claimed), heard, answer: Answer::Empty })
}

fn text(from: &str, text: &str) -> Option<Heard> {
    is_name(from).then(|| Heard::Text { from: from.to_owned(), text: text.into() })
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://mfa.example.com/callback/twilio/receipt";

    fn request(path: &str, url: &str, body: &str) -> CallbackRequest {
        CallbackRequest { path: path.into(), url: url.into(), body: body.into(), ..CallbackRequest::default() }
    }

    fn receipt(id: &str, state: State) -> Option<Heard> {
        Some(Heard::Receipt { provider_id: id.into(), state })
    }

    /// A form and its signature, as Twilio would send them.
    fn signed_by_twilio(fields: &[(&str, &str)]) -> (String, String) {
        let mut sorted = fields.to_vec();
        sorted.sort_unstable();
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"token").expect("any length");
        mac.update(URL.as_bytes());
        sorted.iter().for_each(|(name, value)| mac.update(format!("{name}{value}").as_bytes()));
        (http::form(fields.iter().copied()), data_encoding::BASE64.encode(&mac.finalize().into_bytes()))
    }

    #[test]
    fn what_twilio_says_is_a_receipt_or_a_text() {
        let said = |path: &str, fields: &[(&str, &str)]| {
            let (body, signature) = signed_by_twilio(fields);
            let said =
                |secret: &str, url: &str| of_twilio(&request(path, url, &body), Some(&signature), &secret.into());
            assert_eq!((said("other", URL), said("token", "https://mfa.example.com/else")), (None, None), "unsigned");
            said("token", URL)
        };
        let good = said("receipt", &[("MessageSid", "SM1"), ("MessageStatus", "delivered")]).expect("good");
        assert_eq!((good.once.as_str(), good.heard), ("SM1:delivered", receipt("SM1", State::Delivered)));
        let sent = said("receipt", &[("MessageSid", "SM1"), ("MessageStatus", "sent")]).expect("good");
        assert_eq!(sent.heard, None, "it is on its way");
        let text = said("reply", &[("MessageSid", "SM2"), ("From", "+4915123456789"), ("Body", "1 2")]).expect("good");
        assert!(matches!(text.heard, Some(Heard::Text { .. })) && text.answer == Answer::Twiml);
        assert_eq!(said("other", &[("MessageSid", "SM1"), ("MessageStatus", "delivered")]), None);
        assert_eq!(said("receipt", &[("MessageSid", "SM1")]), None);
        assert_eq!(said("reply", &[("From", "+4915123456789"), ("Body", "1")]), None);
    }

    fn our_signature(at: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"hook").expect("any length");
        mac.update(format!("{at}.{body}").as_bytes());
        format!("t={at},v1={}", HEXLOWER_PERMISSIVE.encode(&mac.finalize().into_bytes()))
    }

    #[test]
    fn a_callback_of_others_counts_for_five_minutes_and_with_its_signature() {
        // V-18
        let body = r#"{"id":"7","state":"undelivered"}"#;
        let said = |signature: &str, body: &str, now: i64| {
            signed(&request("receipt", "", body), Some(signature), &"hook".into(), now)
        };
        let signature = our_signature(1000, body);
        assert_eq!(said(&signature, body, 1300).expect("good").heard, receipt("7", State::Undelivered));
        assert!(said(&signature, body, 700).is_some());
        assert_eq!([said(&signature, body, 1301), said(&signature, body, 699)], [None, None]);
        assert_eq!(said(&signature, &body.replace('7', "8"), 1000), None);
        assert_eq!(said(&signature.replace("t=1000", "t=1001"), body, 1000), None);
        for bad in ["", "t=1000", "v1=00", "t=x,v1=00", "t=1000,v1=zz", "t=1000,v1="] {
            assert_eq!(said(bad, body, 1000), None, "{bad}");
        }
        let capitals = signature.to_uppercase().replace("T=", "t=").replace("V1=", "v1=");
        assert_eq!(
            said(&capitals, body, 1000).map(|said| said.once),
            said(&signature, body, 1000).map(|said| said.once)
        );
        let reply = r#"{"from":"+4915123456789","text":"123456"}"#;
        let heard = signed(&request("reply", "", reply), Some(&our_signature(1, reply)), &"hook".into(), 1);
        assert!(matches!(heard.expect("good").heard, Some(Heard::Text { .. })));
        // One that is signed for the other path says nothing there.
        assert_eq!(signed(&request("receipt", "", reply), Some(&our_signature(1, reply)), &"hook".into(), 1), None);
        assert_eq!(signed(&request("other", "", body), Some(&signature), &"hook".into(), 1000), None);
    }
}
