//! Calls by a provider that is told what to say in TwiML: it rings, then asks us over HTTPS what to do, step by step.
//!
//! ```text
//! POST {base_url}/Accounts/{account}/Calls.json        we: ring this number
//! POST {base_url}/Accounts/{account}/Calls/{call}.json we: hang up
//! /callback/<provider>/call/<prompt>/<attempt>/<step>/answer | keys | silence
//! /callback/<provider>/call/<prompt>/<attempt>/status  it: how the call went
//! ```
//!
//! Two traps stand behind the form of a question. A `#` alone, where `#` ends the input, is not reported but looks like silence; so
//! that where `#` alone confirms, it is a key like any other. And silence is reported by the instruction behind the question.

pub mod address;
pub mod document;

use super::client::{self, Clients};
use super::flow::{Event, Missed};
use super::{DialError, Order};
use crate::providers::http;
use crate::settings::Known;
use ::http::header::CONTENT_TYPE;
use address::What;
use domain::Secret;
use domain::settings::{Adapter, Provider};
use serde::Deserialize;
use std::collections::HashMap;

/// Rings. Returns what the provider calls the call.
pub async fn dial(clients: &Clients, order: &Order<'_>) -> Result<String, DialError> {
    let desk = Desk::of(clients, order.known, order.provider)?;
    if order.known.portal_url.is_empty() {
        return Err(DialError::Settings(
            "nobody knows yet where the portal is reached, so that the provider cannot ask it",
        ));
    }
    let url = |step: Option<u32>, what: What| {
        let (prompt, attempt) = (&order.prompt_id, order.attempt);
        format!(
            "{}/callback/{}/{}",
            order.known.portal_url,
            order.provider.name,
            address::write(prompt, attempt, step, what)
        )
    };
    let (answer, status, ring) = (url(Some(0), What::Answer), url(None, What::Status), order.ring_seconds.to_string());
    let mut form = vec![
        ("Url", answer.as_str()),
        ("Method", "POST"),
        ("StatusCallback", &status),
        ("StatusCallbackMethod", "POST"),
        ("Timeout", &ring),
    ];
    // What answers a company's main number looks like a machine, and is what has to dial the extension.
    if order.line.extension.is_empty() {
        form.push(("MachineDetection", "Enable"));
    }
    desk.place(order, form).await
}

/// Rings to say one thing.
pub async fn dial_test(clients: &Clients, order: &Order<'_>, document: &str) -> Result<String, DialError> {
    let desk = Desk::of(clients, order.known, order.provider)?;
    let ring = order.ring_seconds.to_string();
    desk.place(order, vec![("Twiml", document), ("Timeout", &ring)]).await
}

/// Ends a call, whether it rings or somebody has picked up.
pub async fn hang_up(clients: &Clients, known: &Known, provider: &Provider, call: &str) -> Result<(), DialError> {
    // Part of an address, and the provider's own word for it.
    if !call.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
        return Err(DialError::Nonsense);
    }
    let desk = Desk::of(clients, known, provider)?;
    match desk.post(&format!("Calls/{call}.json"), vec![("Status", "completed")]).await {
        // What is over cannot be ended, or is known no more.
        Ok(_) | Err(DialError::Refused { status: 400 | 404 }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Where a provider takes orders.
struct Desk<'a> {
    client: reqwest::Client,
    base_url: &'a str,
    account: &'a str,
    secret: &'a Secret,
    caller: &'a str,
}

impl<'a> Desk<'a> {
    fn of(clients: &Clients, known: &'a Known, provider: &'a Provider) -> Result<Self, DialError> {
        let Adapter::Twiml { base_url, account, caller, ca, .. } = &provider.adapter else {
            return Err(DialError::Settings("the provider is no TwiML provider"));
        };
        let secret =
            known.provider_secret(provider, "secret").ok_or(DialError::Settings("the provider has no secret"))?;
        let client = clients.of(provider.name.as_str(), ca)?;
        Ok(Self { client, base_url, account, secret, caller: caller.as_str() })
    }

    async fn place(&self, order: &Order<'_>, mut form: Vec<(&str, &str)>) -> Result<String, DialError> {
        form.extend([("To", order.line.number.expose()), ("From", self.caller)]);
        let asked = self.post("Calls.json", form);
        let body = tokio::time::timeout(order.timeout, asked).await.unwrap_or(Err(DialError::TooSlow))?;
        #[derive(Deserialize)]
        struct Placed {
            sid: String,
        }
        let placed: Placed = serde_json::from_slice(&body).map_err(|_| DialError::Nonsense)?;
        if placed.sid.is_empty() || placed.sid.len() > 128 { Err(DialError::Nonsense) } else { Ok(placed.sid) }
    }

    /// The body of the answer, where it is a yes.
    async fn post(&self, to: &str, form: Vec<(&str, &str)>) -> Result<Vec<u8>, DialError> {
        let request = self
            .client
            .post(format!("{}/Accounts/{}/{to}", self.base_url.trim_end_matches('/'), self.account))
            .basic_auth(self.account, self.secret.expose_str())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(http::form(form));
        let (status, body) = client::answer(request).await?;
        if !status.is_success() {
            return Err(DialError::Refused { status: status.as_u16() });
        }
        Ok(body)
    }
}

/// What a callback means for the call. `None`: nothing, such as "it rings".
pub fn event(what: What, form: &HashMap<String, String>) -> Option<Event> {
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    match what {
        What::Answer if is_machine(field("AnsweredBy")) => Some(Event::Missed(Missed::Voicemail)),
        What::Answer => Some(Event::Answered),
        What::Keys => Some(Event::Keys(field("Digits").into())),
        What::Silence => Some(Event::Silence),
        What::Status => match field("CallStatus") {
            "busy" => Some(Event::Missed(Missed::Busy)),
            "no-answer" => Some(Event::Missed(Missed::NoAnswer)),
            "failed" | "canceled" => Some(Event::Missed(Missed::Unreachable)),
            "completed" if is_machine(field("AnsweredBy")) => Some(Event::Missed(Missed::Voicemail)),
            "completed" => Some(Event::HungUp),
            _ => None,
        },
    }
}

fn is_machine(answered_by: &str) -> bool {
    answered_by.starts_with("machine") || answered_by == "fax"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_callback_says_is_an_event_or_nothing() {
        // V-19: a machine is no person, an unknown word means nothing
        let said = |what, fields: &[(&str, &str)]| {
            let form = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            match event(what, &form) {
                None => "nothing".to_owned(),
                Some(Event::Answered) => "answered".into(),
                Some(Event::Missed(missed)) => format!("{missed:?}"),
                Some(Event::Keys(keys)) => format!("keys {}", keys.expose_str().expect("text")),
                Some(Event::Silence) => "silence".into(),
                Some(Event::HungUp) => "hung up".into(),
                Some(_) => "something else".into(),
            }
        };
        for (what, fields, meaning) in [
            (What::Answer, &[("AnsweredBy", "human")][..], "answered"),
            (What::Answer, &[("AnsweredBy", "unknown")], "answered"),
            (What::Answer, &[], "answered"),
            (What::Answer, &[("AnsweredBy", "machine_start")], "Voicemail"),
            (What::Answer, &[("AnsweredBy", "machine_end_beep")], "Voicemail"),
            (What::Answer, &[("AnsweredBy", "fax")], "Voicemail"),
            (What::Keys, &[("Digits", "4711")], "keys 4711"),
            (What::Keys, &[], "keys "),
            (What::Silence, &[("Digits", "4711")], "silence"),
            (What::Status, &[("CallStatus", "busy")], "Busy"),
            (What::Status, &[("CallStatus", "no-answer")], "NoAnswer"),
            (What::Status, &[("CallStatus", "failed")], "Unreachable"),
            (What::Status, &[("CallStatus", "canceled")], "Unreachable"),
            (What::Status, &[("CallStatus", "completed")], "hung up"),
            (What::Status, &[("CallStatus", "completed"), ("AnsweredBy", "machine_start")], "Voicemail"),
            (What::Status, &[("CallStatus", "ringing")], "nothing"),
            (What::Status, &[("CallStatus", "something new")], "nothing"),
            (What::Status, &[], "nothing"),
        ] {
            assert_eq!(said(what, fields), meaning, "{what:?} {fields:?}");
        }
    }
}
