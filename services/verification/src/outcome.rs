//! What a caller hears: the only place that makes an Allow, and only of what the store has committed.

use crate::attempt::Origin;
use crate::challenges::{Allowed, Approval, Record, Round, Stage};
use crate::commit::Ending;
use crate::facts::{KnownUser, Spoken};
use crate::settings::Known;
use domain::{Method, Reason};
use policy::Grant;
use proto::verification::{Allow, Ask, AskKind, CodeAccepted, Deny, Outcome, outcome::Result as Said};
use tonic::Response;

pub fn response(transaction_id: String, result: Said) -> Response<Outcome> {
    Response::new(Outcome { transaction_id, result: Some(result) })
}

pub fn allow(origin: &Origin, user_id: &str, grant: &Grant) -> Said {
    Said::Allow(Allow {
        reason: grant.reason().code().into(),
        method: grant.method().map_or("", Method::code).into(),
        assurance: grant.assurance().code().into(),
        source: grant.source().code().into(),
        client: origin.client.clone(),
        expires_unix_ms: grant.expires_unix_ms(),
        user_id: user_id.to_owned(),
        ..Allow::default()
    })
}

/// The same Allow for a caller that did not hear it.
pub fn allow_again(origin: &Origin, user_id: &str, allowed: &Allowed) -> Said {
    Said::Allow(Allow {
        reason: allowed.reason.code().into(),
        method: allowed.method.map_or("", Method::code).into(),
        assurance: allowed.assurance.code().into(),
        source: allowed.source.code().into(),
        client: origin.client.clone(),
        expires_unix_ms: allowed.expires_unix_ms,
        user_id: user_id.to_owned(),
        ..Allow::default()
    })
}

pub fn deny(ending: impl Into<Ending>) -> Said {
    let Ending { reason, method, until_unix_ms } = ending.into();
    Said::Deny(Deny { reason: reason.code().into(), until_unix_ms, method: method.map_or("", Method::code).into() })
}

pub fn code_accepted() -> Said {
    Said::CodeAccepted(CodeAccepted {})
}

/// Why a question is asked again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Previous<'a> {
    pub reason: Option<Reason>,
    /// The rule that a new PIN breaks.
    pub rule: &'a str,
}

impl From<Reason> for Previous<'_> {
    fn from(reason: Reason) -> Self {
        Self { reason: Some(reason), rule: "" }
    }
}

/// The question that the record holds open; `None`: it holds none.
pub fn ask(record: &Record, user: &KnownUser, known: &Known, previous: Previous<'_>) -> Option<Said> {
    let Stage::Asked { step, round, .. } = &record.stage else { return None };
    let (kind, spoken) = match round {
        Round::Code
        | Round::NextCode { .. }
        | Round::Questions { .. }
        | Round::Choice { .. }
        | Round::Passkey { .. } => (kind(round), Spoken::Code),
        Round::SentCode { .. } | Round::NewPin { .. } => (kind(round), Spoken::Text),
        Round::Approval(_) => (kind(round), Spoken::App),
    };
    let mut ask = Ask {
        method: method(round).map_or("", Method::code).into(),
        step: *step,
        expires_unix_ms: record.expires_unix_ms,
        user_id: record.user_id.clone(),
        previous: previous.reason.map_or("", Reason::code).into(),
        rule: previous.rule.into(),
        kind: kind.into(),
        language: user.language(spoken, known).as_str().to_owned(),
        ..Ask::default()
    };
    match round {
        Round::Approval(Approval { number, destination, .. }) => {
            ask.number.clone_from(number);
            ask.destination.clone_from(destination);
        }
        Round::SentCode { sent, .. } => ask.destination.clone_from(&sent.destination),
        Round::Choice { methods } => ask.choices = methods.iter().map(|method| method.code().to_owned()).collect(),
        Round::Questions { questions } => ask.questions.clone_from(questions),
        Round::Passkey { options_json, .. } => ask.passkey_json.clone_from(options_json),
        Round::Code | Round::NextCode { .. } | Round::NewPin { .. } => {}
    }
    Some(Said::Ask(ask))
}

fn kind(round: &Round) -> AskKind {
    match round {
        // Nobody hears that the code before was nearly right (V-14).
        Round::Code | Round::NextCode { .. } => AskKind::Code,
        Round::SentCode { sent, .. } if sent.pin => AskKind::CodeAndPin,
        Round::SentCode { .. } => AskKind::Code,
        Round::Choice { .. } => AskKind::Choice,
        Round::Approval(_) => AskKind::Approval,
        Round::NewPin { first, .. } if first.is_empty() => AskKind::NewPin,
        Round::NewPin { .. } => AskKind::NewPinAgain,
        Round::Questions { .. } => AskKind::Questions,
        Round::Passkey { .. } => AskKind::Passkey,
    }
}

/// The method that a round is about; `None` for a choice.
pub fn method(round: &Round) -> Option<Method> {
    match round {
        Round::Code | Round::NextCode { .. } => Some(Method::Code),
        Round::SentCode { .. } | Round::NewPin { .. } => Some(Method::Sms),
        Round::Choice { .. } => None,
        Round::Approval(approval) => Some(approval.method),
        Round::Questions { .. } => Some(Method::Questions),
        Round::Passkey { .. } => Some(Method::Passkey),
    }
}
