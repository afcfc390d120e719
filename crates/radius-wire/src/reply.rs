//! What we answer. A reply has only what its Code may carry, so a wrong one cannot be written.

use crate::attribute::{Attribute, AttributeType, Vendor};
use crate::authenticator::Verified;
use crate::eap;
use crate::home_reply::Relayed;
use crate::packet::{Code, Port};
use crate::write::{AttributeOctets, WriteError};

/// An answer to a verified request.
#[derive(Debug, Clone, Copy)]
pub enum Reply<'a> {
    /// `attributes` are sent as given and in that order.
    Accept {
        attributes: &'a [Attribute<'a>],
        message: &'a str,
    },
    Reject {
        message: &'a str,
    },
    /// The conversation goes on. `state` comes back with the answer.
    Challenge {
        message: &'a str,
        state: &'a [u8],
        prompt: Option<Prompt>,
        session_timeout_seconds: Option<u32>,
    },
    /// The end of an EAP conversation: EAP-Failure, and no text beside it.
    RejectEap {
        /// That of the EAP-Success it replaces, or of the Response it answers.
        identifier: u8,
    },
    /// The end of an MS-CHAP login. `error` is the value of MS-CHAP-Error.
    RejectMsChap {
        error: &'a [u8],
        message: &'a str,
    },
    /// What a home server answered.
    Relay(Relay<'a>),
    /// The answer to an Accounting-Request: it is recorded, by whoever does that.
    Recorded,
    /// The answer to Status-Server: Access-Accept on the authentication port, Accounting-Response on the other (RFC 5997).
    Alive,
}

/// A home server's answer and what we add to it.
#[derive(Debug, Clone, Copy)]
pub struct Relay<'a> {
    pub relayed: &'a Relayed,
    /// Our text in place of the home server's Reply-Messages; never sent beside EAP.
    pub message: Option<&'a str>,
    /// For an Accept only: the attributes mapped from groups.
    pub added: &'a [Attribute<'a>],
}

/// Whether the device shows what is typed (RFC 2869 section 5.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prompt {
    NoEcho = 0,
    Echo = 1,
}

impl Reply<'_> {
    /// The octets to send: Message-Authenticator first, the Proxy-States of the request last, all of them and in order.
    pub fn write(&self, request: &Verified<'_>) -> Result<Vec<u8>, WriteError> {
        let packet = request.packet();
        let code = self.code(packet.port());
        let about_accounting = packet.code() == Code::AccountingRequest;
        if about_accounting != self.is_about_accounting() {
            return Err(WriteError::OtherKindOfRequest);
        }
        let mut octets = AttributeOctets::default();
        self.push_own(&mut octets)?;
        packet.all(AttributeType::PROXY_STATE).try_for_each(|value| octets.push(AttributeType::PROXY_STATE, value))?;
        let (identifier, authenticator) = (packet.identifier(), packet.authenticator());
        // No RFC says over what an Accounting-Response is signed by Message-Authenticator, and peers differ: FreeRADIUS's
        // radclient refuses one over the request's authenticator.
        if about_accounting {
            return octets.into_unsigned_reply(code as u8, identifier, authenticator, request.secret());
        }
        octets.into_reply(code as u8, identifier, authenticator, request.secret())
    }

    fn push_own(&self, octets: &mut AttributeOctets) -> Result<(), WriteError> {
        match *self {
            Self::Accept { attributes, message } => {
                octets.push_all(attributes, OURS)?;
                push_message(octets, message)
            }
            Self::Reject { message } => push_message(octets, message),
            Self::RejectEap { identifier } => octets.push(AttributeType::EAP_MESSAGE, &eap::failure(identifier)),
            Self::RejectMsChap { error, message } => {
                octets.push_vendor(Vendor::MICROSOFT, Vendor::MS_CHAP_ERROR, error)?;
                push_message(octets, message)
            }
            Self::Challenge { state: [], .. } => Err(WriteError::StateEmpty),
            Self::Challenge { message, state, prompt, session_timeout_seconds } => {
                push_message(octets, message)?;
                octets.push(AttributeType::STATE, state)?;
                if let Some(prompt) = prompt {
                    octets.push(AttributeType::PROMPT, &(prompt as u32).to_be_bytes())?;
                }
                if let Some(seconds) = session_timeout_seconds {
                    octets.push(AttributeType::SESSION_TIMEOUT, &seconds.to_be_bytes())?;
                }
                Ok(())
            }
            Self::Relay(relay) => relay.push_own(octets),
            Self::Recorded | Self::Alive => Ok(()),
        }
    }

    fn is_about_accounting(&self) -> bool {
        match self {
            Self::Recorded => true,
            Self::Relay(relay) => relay.relayed.code() == Code::AccountingResponse,
            _ => false,
        }
    }

    fn code(&self, port: Port) -> Code {
        match (self, port) {
            (Self::Relay(relay), _) => relay.relayed.code(),
            (Self::Reject { .. } | Self::RejectEap { .. } | Self::RejectMsChap { .. }, _) => Code::AccessReject,
            (Self::Challenge { .. }, _) => Code::AccessChallenge,
            (Self::Recorded, _) | (Self::Alive, Port::Accounting) => Code::AccountingResponse,
            (Self::Accept { .. } | Self::Alive, _) => Code::AccessAccept,
        }
    }
}

impl Relay<'_> {
    fn push_own(&self, octets: &mut AttributeOctets) -> Result<(), WriteError> {
        let accept = self.relayed.code() == Code::AccessAccept;
        if let Some(added) = self.added.iter().find(|_| !accept) {
            return Err(WriteError::Reserved(added.kind));
        }
        let replaced =
            |attribute: &Attribute<'_>| attribute.kind == AttributeType::REPLY_MESSAGE && self.message.is_some();
        for attribute in self.relayed.attributes().filter(|attribute| !replaced(attribute)) {
            octets.push(attribute.kind, attribute.value)?;
        }
        for added in self.added.iter().filter(|added| self.may_add(added)) {
            octets.push_all(std::slice::from_ref(added), OURS)?;
        }
        match self.message {
            Some(message) if !self.relayed.has_eap() => push_message(octets, message),
            _ => Ok(()),
        }
    }

    /// a text beside EAP is left out, whoever wants it there.
    fn may_add(&self, added: &Attribute<'_>) -> bool {
        added.kind != AttributeType::REPLY_MESSAGE || !self.relayed.has_eap()
    }
}

/// What this crate writes itself.
const OURS: &[AttributeType] = &[AttributeType::MESSAGE_AUTHENTICATOR, AttributeType::PROXY_STATE];

/// One text in as many Reply-Messages as it needs, cut between characters. An empty text is no attribute.
fn push_message(octets: &mut AttributeOctets, mut text: &str) -> Result<(), WriteError> {
    const VALUE_OCTETS_MAX: usize = 253;
    while !text.is_empty() {
        let (head, tail) = text.split_at(text.floor_char_boundary(VALUE_OCTETS_MAX));
        octets.push(AttributeType::REPLY_MESSAGE, head.as_bytes())?;
        text = tail;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticator::{Rule, Rules, Secret, Sent, verify_reply, verify_request};
    use crate::packet::{Datagram, Packet};
    use crate::request::{Request, RequestCode};

    const SENT: Sent = Sent { identifier: 77, authenticator: [3; 16] };

    fn secret() -> Secret {
        Secret::new("xyzzy5461").expect("not empty")
    }

    fn attribute(kind: AttributeType, value: &[u8]) -> Attribute<'_> {
        Attribute { kind, value }
    }

    /// What the client reads when `reply` answers a request with these attributes. It has verified.
    fn answered(
        reply: Reply<'_>,
        code: RequestCode,
        port: Port,
        attributes: &[Attribute<'_>],
    ) -> Result<Vec<u8>, WriteError> {
        let secret = secret();
        let Sent { identifier, authenticator } = SENT;
        let octets = Request { code, identifier, authenticator, attributes, password: None }.write(&secret)?;
        let packet = Packet::parse(&octets, port).expect("well formed");
        let verified =
            verify_request(packet, (&secret).into(), Rules::default()).unwrap_or_else(|reason| panic!("{reason}"));
        let octets = reply.write(&verified)?;
        let replies = if port == Port::Accounting { Port::AccountingReplies } else { Port::AuthenticationReplies };
        let packet = Packet::parse(&octets, replies).expect("well formed");
        assert_eq!(verify_reply(&packet, &SENT, &secret, Rule::Yes), Ok(()));
        Ok(octets)
    }

    fn to_access_request(reply: Reply<'_>, attributes: &[Attribute<'_>]) -> Result<Vec<u8>, WriteError> {
        answered(reply, RequestCode::AccessRequest, Port::Authentication, attributes)
    }

    fn kinds(octets: &[u8]) -> Vec<u8> {
        let packet = Packet::parse(octets, Port::AuthenticationReplies).expect("well formed");
        packet.attributes().map(|attribute| attribute.kind.0).collect()
    }

    #[test]
    fn whatever_we_send_begins_with_message_authenticator() {
        // R-11, B-14 from the other side. Octet 20 is 80, octet 21 is 18, in all Codes.
        let service_type = [attribute(AttributeType::SERVICE_TYPE, &[0, 0, 0, 2])];
        let challenge = Reply::Challenge { message: "code?", state: b"s", prompt: None, session_timeout_seconds: None };
        let accept = Reply::Accept { attributes: &service_type, message: "" };
        let authentication = Port::Authentication;
        for (reply, code, port, expected) in [
            (accept, RequestCode::AccessRequest, authentication, 2),
            (Reply::Reject { message: "no" }, RequestCode::AccessRequest, authentication, 3),
            (challenge, RequestCode::AccessRequest, authentication, 11),
            (Reply::Alive, RequestCode::StatusServer, authentication, 2),
            (Reply::Alive, RequestCode::StatusServer, Port::Accounting, 5),
        ] {
            let octets = answered(reply, code, port, &[]).expect("it fits");
            assert_eq!((octets[0], octets[1], octets[20], octets[21]), (expected, 77, 80, 18));
        }
    }

    #[test]
    fn proxy_states_come_back_all_of_them_and_in_order() {
        // R-67, in every reply of ours: 0, 1, 3 and 15 of 1 to 253 octets, equal ones included.
        let values: Vec<Vec<u8>> =
            [1, 253, 1, 7, 7, 200, 253, 1, 2, 3, 4, 5, 253, 253, 253].map(|length| vec![length; length.into()]).into();
        let challenge = Reply::Challenge { message: "", state: b"s", prompt: None, session_timeout_seconds: None };
        for reply in [Reply::Accept { attributes: &[], message: "" }, Reply::Reject { message: "no" }, challenge] {
            for count in [0, 1, 3, 15] {
                let sent: Vec<_> =
                    values[..count].iter().map(|value| attribute(AttributeType::PROXY_STATE, value)).collect();
                let octets = to_access_request(reply, &sent).expect("it fits");
                let packet = Packet::parse(&octets, Port::AuthenticationReplies).expect("well formed");
                assert!(packet.all(AttributeType::PROXY_STATE).eq(values[..count].iter().map(Vec::as_slice)));
            }
        }
    }

    #[test]
    fn a_challenge_has_the_message_one_state_prompt_and_timeout_and_nothing_else() {
        //
        let reply = Reply::Challenge {
            message: "code?",
            state: b"sealed",
            prompt: Some(Prompt::Echo),
            session_timeout_seconds: Some(120),
        };
        let octets = to_access_request(reply, &[]).expect("it fits");
        assert_eq!(kinds(&octets), [80, 18, 24, 76, 27]);
        let packet = Packet::parse(&octets, Port::AuthenticationReplies).expect("well formed");
        assert_eq!(packet.first(AttributeType::PROMPT), Some([0, 0, 0, 1].as_slice()));
        assert_eq!(packet.first(AttributeType::SESSION_TIMEOUT), Some([0, 0, 0, 120].as_slice()));
        let without_state =
            Reply::Challenge { message: "code?", state: b"", prompt: None, session_timeout_seconds: None };
        assert_eq!(to_access_request(without_state, &[]), Err(WriteError::StateEmpty));
        let state = [7; 254];
        let too_long = Reply::Challenge { message: "", state: &state, prompt: None, session_timeout_seconds: None };
        assert_eq!(to_access_request(too_long, &[]), Err(WriteError::ValueTooLong(AttributeType::STATE)));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        // every piece is UTF-8 of at most 253 octets, and together they are the text.
        let text = format!("x{}", "€".repeat(300));
        let octets = to_access_request(Reply::Reject { message: &text }, &[]).expect("it fits");
        let packet = Packet::parse(&octets, Port::AuthenticationReplies).expect("well formed");
        let pieces: Vec<_> =
            packet.all(AttributeType::REPLY_MESSAGE).map(|piece| std::str::from_utf8(piece).expect("UTF-8")).collect();
        assert_eq!(pieces.concat(), text);
        assert_eq!(pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(), [253, 252, 252, 144]);
        assert_eq!(kinds(&to_access_request(Reply::Reject { message: "" }, &[]).expect("it fits")), [80]);
    }

    #[test]
    fn a_reply_beyond_4096_octets_is_an_error_and_never_cut() {
        // R-06, B-29. 15 Proxy-States of 253 octets and one target attribute too many.
        let value = [9; 253];
        let proxy_states = [attribute(AttributeType::PROXY_STATE, &value); 15];
        let fits = [attribute(AttributeType::CLASS, &value[..231])];
        let too_long = [attribute(AttributeType::CLASS, &value[..232])];
        let octets =
            to_access_request(Reply::Accept { attributes: &fits, message: "" }, &proxy_states).expect("it fits");
        assert_eq!(octets.len(), 4096);
        let result = to_access_request(Reply::Accept { attributes: &too_long, message: "" }, &proxy_states);
        assert_eq!(result, Err(WriteError::PacketTooLong));
    }

    #[test]
    fn attributes_that_are_ours_to_write_are_refused_from_elsewhere() {
        // A second Message-Authenticator or a Proxy-State of our own would make every client drop the reply.
        for kind in [AttributeType(0), AttributeType::MESSAGE_AUTHENTICATOR, AttributeType::PROXY_STATE] {
            let attributes = [attribute(kind, &[0; 16])];
            let reply = Reply::Accept { attributes: &attributes, message: "" };
            assert_eq!(to_access_request(reply, &[]), Err(WriteError::Reserved(kind)));
        }
    }

    #[test]
    fn attributes_of_the_target_arrive_as_given() {
        // order and copies kept.
        let class = |value| attribute(AttributeType::CLASS, value);
        let given = [class(b"b"), class(b"a"), class(b"a"), attribute(AttributeType(26), b"\0\0\x01\x37opaque")];
        let octets = to_access_request(Reply::Accept { attributes: &given, message: "hello" }, &[]).expect("it fits");
        let packet = Datagram::new(&octets)
            .and_then(|datagram| datagram.packet(Port::AuthenticationReplies, 10))
            .expect("well formed");
        assert!(packet.attributes().skip(1).take(4).eq(given));
        assert_eq!(kinds(&octets), [80, 25, 25, 25, 26, 18]);
    }
}
