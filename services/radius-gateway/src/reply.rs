//! From verdict to octets: the only place where a decision becomes a RADIUS answer.

use crate::credentials::state_context;
use crate::question;
use crate::verify::{Allow, Ask};
use domain::TransactionId;
use radius_wire::{AttributeType, KeyRing, Reply, State, Verified, WriteError};

/// Both locks opened. What else the device is told will come from targets and groups; a directory has nothing to add.
pub(crate) fn accept(_allow: &Allow, request: &Verified<'_>) -> Result<Vec<u8>, WriteError> {
    Reply::Accept { attributes: &[], message: "" }.write(request)
}

/// The conversation goes on. `message` is what the device shows; `nonce` must be random.
pub(crate) fn challenge(
    ask: &Ask,
    message: &str,
    transaction: TransactionId,
    client: &str,
    request: &Verified<'_>,
    keys: &KeyRing,
    nonce: [u8; 12],
    now_unix_ms: i64,
) -> Result<Vec<u8>, WriteError> {
    let expires_unix_seconds = u64::try_from(ask.expires_unix_ms / 1000).unwrap_or_default();
    let state = State {
        transaction: transaction.0.into_bytes(),
        user: ask.user.into_bytes(),
        step: ask.step,
        expires_unix_seconds,
    };
    let user_name = request.packet().first(AttributeType::USER_NAME).unwrap_or_default();
    let context = state_context(client, std::str::from_utf8(user_name).unwrap_or_default());
    let left_seconds = (ask.expires_unix_ms - now_unix_ms).max(0) / 1000;
    Reply::Challenge {
        message,
        state: &keys.seal(&state, &context, nonce),
        prompt: Some(question::prompt(ask.kind)),
        session_timeout_seconds: u32::try_from(left_seconds).ok(),
    }
    .write(request)
}

/// One text for every reason, with what the person can read out to the help desk. Nothing in answer to EAP.
pub(crate) fn reject(transaction: TransactionId, request: &Verified<'_>) -> Vec<u8> {
    let message = match request.packet().has(AttributeType::EAP_MESSAGE) {
        true => String::new(),
        false => format!("Sign-in failed. Ref {}", transaction.short()),
    };
    // R-06, B-29: the text is the one thing that can be left out. What remains, the signature and the Proxy-States of a request
    // that had a name besides, is shorter than that request.
    Reply::Reject { message: &message }
        .write(request)
        .or_else(|_| Reply::Reject { message: "" }.write(request))
        .expect("the Proxy-States came in one packet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use radius_wire::{Attribute, Packet, Port, Request, RequestCode, Rules, Secret, verify_request};

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
        let reply = reject(TransactionId(uuid::Uuid::nil()), &verified);
        let reply = Packet::parse(&reply, Port::AuthenticationReplies).expect("well formed");
        assert_eq!(reply.all(AttributeType::PROXY_STATE).count(), 16);
    }
}
