//! What we answer. A reply has only what its Code may carry, so a wrong one cannot be written.

use crate::attribute::{Attribute, AttributeType};
use crate::authenticator::Verified;
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
    /// The answer to Status-Server: Access-Accept on the authentication port, Accounting-Response on the other (RFC 5997).
    Alive,
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
        let mut octets = AttributeOctets::default();
        self.push_own(&mut octets)?;
        packet.all(AttributeType::PROXY_STATE).try_for_each(|value| octets.push(AttributeType::PROXY_STATE, value))?;
        octets.into_reply(self.code(packet.port()) as u8, packet.identifier(), packet.authenticator(), request.secret())
    }

    fn push_own(&self, octets: &mut AttributeOctets) -> Result<(), WriteError> {
        match *self {
            Self::Accept { attributes, message } => {
                octets.push_all(attributes, &[AttributeType::MESSAGE_AUTHENTICATOR, AttributeType::PROXY_STATE])?;
                push_message(octets, message)
            }
            Self::Reject { message } => push_message(octets, message),
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
            Self::Alive => Ok(()),
        }
    }

    fn code(&self, port: Port) -> Code {
        match (self, port) {
            (Self::Reject { .. }, _) => Code::AccessReject,
            (Self::Challenge { .. }, _) => Code::AccessChallenge,
            (Self::Alive, Port::Accounting) => Code::AccountingResponse,
            (Self::Accept { .. } | Self::Alive, _) => Code::AccessAccept,
        }
    }
}

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
