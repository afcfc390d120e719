//! From verdict to octets: the only place where a decision becomes a RADIUS answer.

use crate::credentials::state_context;
use crate::question;
use crate::verify::Ask;
use domain::TransactionId;
use radius_wire::eap::Eap;
use radius_wire::ms_chap::{self, FailureCode};
use radius_wire::{
    Attribute, AttributeType, KeyRing, OwnedAttribute, Packet, Relay, Relayed, Reply, State, Vendor, Verified,
    WriteError,
};

/// What we add to an Access-Accept.
#[derive(Debug, Default)]
pub(crate) struct Added {
    pub(crate) always: Vec<OwnedAttribute>,
    /// By rule of the client: a half of a rule, such as a tunnel without its number, would be worth nothing. How many of them fit is
    /// decided by what the home server, the directory and the proxies before bring, so that none may restrict anybody.
    pub(crate) optional: Vec<Vec<OwnedAttribute>>,
}

/// Both locks opened: what the home server grants, in the client's terms, and what the user's groups bring. Optional rules make
/// room, the last one first, and nothing else does.
pub(crate) fn accept(granted: Option<&Relayed>, added: &Added, request: &Verified<'_>) -> Result<Accepted, WriteError> {
    let mut kept = added.optional.as_slice();
    loop {
        let attributes = added.always.iter().chain(kept.iter().flatten());
        let attributes: Vec<Attribute<'_>> = attributes.map(OwnedAttribute::attribute).collect();
        let written = match granted {
            Some(relayed) => Reply::Relay(Relay { relayed, message: None, added: &attributes }).write(request),
            None => Reply::Accept { attributes: &attributes, message: "" }.write(request),
        };
        match (written, kept.split_last()) {
            (Err(WriteError::PacketTooLong), Some((_, fewer))) => kept = fewer,
            (written, _) => return Ok(Accepted { octets: written?, left_out: added.optional.len() - kept.len() }),
        }
    }
}

/// An Access-Accept, and how many of the optional rules are not in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) octets: Vec<u8>,
    pub(crate) left_out: usize,
}

/// What a State is sealed for, and with.
pub(crate) struct Conversation<'a> {
    pub(crate) transaction: TransactionId,
    pub(crate) client: &'a str,
    pub(crate) keys: &'a KeyRing,
}

/// The conversation goes on. `message` is what the device shows; `nonce` must be random.
pub(crate) fn challenge(
    ask: &Ask,
    message: &str,
    conversation: &Conversation<'_>,
    request: &Verified<'_>,
    nonce: [u8; 12],
    now_unix_ms: i64,
) -> Result<Vec<u8>, WriteError> {
    let expires_unix_seconds = u64::try_from(ask.expires_unix_ms / 1000).unwrap_or_default();
    let state = State {
        transaction: conversation.transaction.0.into_bytes(),
        user: ask.user.into_bytes(),
        step: ask.step,
        expires_unix_seconds,
    };
    let user_name = request.packet().first(AttributeType::USER_NAME).unwrap_or_default();
    let context = state_context(conversation.client, std::str::from_utf8(user_name).unwrap_or_default());
    let left_seconds = (ask.expires_unix_ms - now_unix_ms).max(0) / 1000;
    Reply::Challenge {
        message,
        state: &conversation.keys.seal(&state, &context, nonce),
        prompt: Some(question::prompt(ask.kind)),
        session_timeout_seconds: u32::try_from(left_seconds).ok(),
    }
    .write(request)
}

/// What a No is written with, for who speaks another language than a password and its text.
#[derive(Clone, Debug)]
pub(crate) enum No {
    Plain,
    /// `identifier`: of the EAP-Success that is not sent, or of the Response that is answered.
    Eap {
        identifier: u8,
    },
    /// `code`: RFC 2759 section 6; `challenge` is random.
    MsChap {
        ident: u8,
        code: FailureCode,
        challenge: [u8; 16],
    },
    /// The home server's own.
    Relayed(Box<Relayed>),
}

impl No {
    /// That of a request nobody has looked into yet. `random` is used by MS-CHAP alone.
    pub(crate) fn of(request: &Packet<'_>, random: [u8; 16]) -> Self {
        if let Some(eap) = Eap::of(request) {
            return Self::Eap { identifier: eap.identifier().unwrap_or_default() };
        }
        let microsoft = |attribute: Attribute<'_>| {
            let vendor = attribute.vendor().filter(|vendor| vendor.id == Vendor::MICROSOFT)?;
            vendor.attributes().map(|(kind, _)| kind).find(|kind| ms_chap::is_proof(*kind))
        };
        let Some(kind) = request.attributes().find_map(microsoft) else { return Self::Plain };
        let code = match kind {
            ms_chap::kind::MS_CHAP2_CPW => FailureCode::ChangingPassword,
            _ => FailureCode::AuthenticationFailure,
        };
        Self::MsChap { ident: ms_chap::ident(request), code, challenge: random }
    }
}

/// One text for every reason, with what the person can read out to the help desk. Nothing in answer to EAP.
pub(crate) fn reject(transaction: TransactionId, no: &No, request: &Verified<'_>) -> Vec<u8> {
    let message = format!("Sign-in failed. Ref {}", transaction.short());
    let written = match no {
        No::Plain => Reply::Reject { message: &message }.write(request),
        No::Eap { identifier } => Reply::RejectEap { identifier: *identifier }.write(request),
        No::MsChap { ident, code, challenge } => ms_chap::failure(*ident, *code, challenge, &message)
            .and_then(|error| Reply::RejectMsChap { error: &error, message: &message }.write(request)),
        No::Relayed(relayed) => Reply::Relay(Relay { relayed, message: Some(&message), added: &[] }).write(request),
    };
    // R-06, B-29: what is more than a plain No can be left out. What remains, the signature and the Proxy-States of a request that
    // had a name besides, is shorter than that request.
    written.or_else(|_| Reply::Reject { message: "" }.write(request)).expect("the Proxy-States came in one packet")
}

/// A home server's question, for the device that its conversation is with.
pub(crate) fn relayed(challenge: &Relayed, request: &Verified<'_>) -> Result<Vec<u8>, WriteError> {
    Reply::Relay(Relay { relayed: challenge, message: None, added: &[] }).write(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use radius_wire::{Port, Request, RequestCode, Rules, Secret, verify_request};

    #[test]
    fn optional_rules_make_room_as_a_whole_and_nothing_else_does() {
        // R-06, FR-17: 4096 - 20 - 18 - 15 * 255 = 233 octets beside the Proxy-States, two of these with their heads.
        let secret = Secret::new("a secret of the device").expect("not empty");
        let attributes = [Attribute { kind: AttributeType::PROXY_STATE, value: &[9; 253] }; 15];
        let code = RequestCode::AccessRequest;
        let request =
            Request { code, identifier: 1, authenticator: [5; 16], attributes: &attributes, password: Some("x") };
        let octets = request.write(&secret).expect("it fits");
        let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
        let verified = verify_request(packet, (&secret).into(), Rules::default()).expect("genuine");
        let sent = |always: &[u8], optional: &[&[u8]]| {
            let of = |kinds: &[u8]| -> Vec<OwnedAttribute> {
                kinds.iter().map(|kind| OwnedAttribute { kind: AttributeType(*kind), value: vec![4; 98] }).collect()
            };
            let added = Added { always: of(always), optional: optional.iter().map(|rule| of(rule)).collect() };
            accept(None, &added, &verified).map(|Accepted { octets, left_out }| {
                let reply = Packet::parse(&octets, Port::AuthenticationReplies).expect("well formed");
                assert_eq!(reply.all(AttributeType::PROXY_STATE).count(), 15);
                let kinds = reply.attributes().map(|attribute| attribute.kind.0);
                (kinds.filter(|kind| ![33, 80].contains(kind)).collect::<Vec<_>>(), left_out)
            })
        };
        assert_eq!(sent(&[11], &[&[12]]), Ok((vec![11, 12], 0)));
        assert_eq!(sent(&[11], &[&[12], &[25]]), Ok((vec![11, 12], 1)), "the last one first");
        assert_eq!(sent(&[11], &[&[12, 25]]), Ok((vec![11], 1)), "no half of a rule");
        assert_eq!(sent(&[], &[&[12], &[25]]), Ok((vec![12, 25], 0)));
        assert_eq!(sent(&[11, 12, 25], &[&[18]]), Err(WriteError::PacketTooLong));
    }

    #[test]
    fn a_reject_always_fits_however_much_the_request_makes_it_carry() {
        // B-29: sixteen Proxy-States, as large as a request can have them.
        let secret = Secret::new("a secret of the device").expect("not empty");
        let mut attributes = vec![Attribute { kind: AttributeType::USER_NAME, value: b"a" }];
        attributes.extend([Attribute { kind: AttributeType::PROXY_STATE, value: &[9; 253] }; 15]);
        attributes.push(Attribute { kind: AttributeType::PROXY_STATE, value: &[8; 190] });
        let code = RequestCode::AccessRequest;
        let request =
            Request { code, identifier: 1, authenticator: [5; 16], attributes: &attributes, password: Some("x") };
        let octets = request.write(&secret).expect("it fits");
        assert!(octets.len() > 4_070, "{}", octets.len());
        let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
        let verified = verify_request(packet, (&secret).into(), Rules::default()).expect("genuine");
        let reply = reject(TransactionId(uuid::Uuid::nil()), &No::Plain, &verified);
        let reply = Packet::parse(&reply, Port::AuthenticationReplies).expect("well formed");
        assert_eq!(reply.all(AttributeType::PROXY_STATE).count(), 16);
    }
}
