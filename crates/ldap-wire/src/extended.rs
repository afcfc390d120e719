//! Extended operations (RFC 4511 section 4.12), Abandon (4.11) and the few values we look into.

use crate::ber::{self, Reader, Writer};
use crate::control::Control;
use crate::message::{self, DecodeError, Message, MessageId, Op};
use crate::oid;
use crate::result::LdapResult;
use bytes::Bytes;

#[derive(Clone, PartialEq, Eq)]
pub struct ExtendedRequest {
    pub oid: String,
    pub value: Option<Bytes>,
}

const REQUEST_NAME: u8 = 0x80;
const REQUEST_VALUE: u8 = 0x81;
const RESPONSE_NAME: u8 = 0x8a;
const RESPONSE_VALUE: u8 = 0x8b;
const USER_IDENTITY: u8 = 0x80;

impl ExtendedRequest {
    pub fn new(oid: impl Into<String>, value: Option<Bytes>) -> Self {
        Self { oid: oid.into(), value }
    }

    pub fn start_tls() -> Self {
        Self::new(oid::START_TLS, None)
    }

    pub fn who_am_i() -> Self {
        Self::new(oid::WHO_AM_I, None)
    }

    pub fn cancel(target: MessageId) -> Self {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| w.integer(ber::INTEGER, target.get().into()));
        Self::new(oid::CANCEL, Some(writer.into_vec().into()))
    }

    pub fn decode(message: &Message) -> Result<Self, DecodeError> {
        let octets = message.content_of(Op::ExtendedRequest)?;
        let mut reader = Reader::new(octets);
        let oid = message::text(reader.expect(REQUEST_NAME)?.content, "request name")?;
        let value = reader.optional(REQUEST_VALUE)?.map(|element| octets.slice_ref(element.content));
        reader.finish()?;
        Ok(Self { oid, value })
    }

    pub fn encode(&self, id: MessageId, controls: &[Control]) -> Bytes {
        message::build(id, controls, |w| {
            w.nested(Op::ExtendedRequest.tag(), |w| {
                w.octets(REQUEST_NAME, self.oid.as_bytes());
                if let Some(value) = &self.value {
                    w.octets(REQUEST_VALUE, value);
                }
            });
        })
    }

    /// The operation a Cancel (RFC 3909) is aimed at; `None` if this is no Cancel.
    pub fn cancel_target(&self) -> Result<Option<MessageId>, DecodeError> {
        if self.oid != oid::CANCEL {
            return Ok(None);
        }
        let value = self.value.as_ref().ok_or(DecodeError::Value("cancel request"))?;
        let mut outer = Reader::new(value);
        let mut reader = outer.expect(ber::SEQUENCE)?.reader();
        let target = message_id(reader.integer(ber::INTEGER)?)?;
        Ok(Some(target))
    }

    /// Whose password a Password Modify (RFC 3062) is to change; `None` inside for the bound user, whom servers also take an empty
    /// identity for.
    pub fn password_modify_user(&self) -> Result<Option<Bytes>, DecodeError> {
        let Some(value) = self.value.as_ref().filter(|value| self.oid == oid::PASSWORD_MODIFY && !value.is_empty())
        else {
            return Ok(None);
        };
        let mut outer = Reader::new(value);
        let mut reader = outer.expect(ber::SEQUENCE)?.reader();
        let user = reader.optional(USER_IDENTITY)?.filter(|element| !element.content.is_empty());
        Ok(user.map(|element| value.slice_ref(element.content)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedResponse {
    pub result: LdapResult,
    pub oid: Option<String>,
    pub value: Option<Bytes>,
}

impl ExtendedResponse {
    pub fn of(result: LdapResult) -> Self {
        Self { result, oid: None, value: None }
    }

    pub fn decode(message: &Message) -> Result<Self, DecodeError> {
        let octets = message.content_of(Op::ExtendedResponse)?;
        let mut reader = Reader::new(octets);
        let result = LdapResult::read(octets, &mut reader)?;
        let name = reader.optional(RESPONSE_NAME)?.map(|element| message::text(element.content, "response name"));
        let value = reader.optional(RESPONSE_VALUE)?.map(|element| octets.slice_ref(element.content));
        Ok(Self { result, oid: name.transpose()?, value })
    }

    pub fn encode(&self, id: MessageId, controls: &[Control]) -> Bytes {
        message::build(id, controls, |w| {
            w.nested(Op::ExtendedResponse.tag(), |w| {
                self.result.write(w);
                if let Some(oid) = &self.oid {
                    w.octets(RESPONSE_NAME, oid.as_bytes());
                }
                if let Some(value) = &self.value {
                    w.octets(RESPONSE_VALUE, value);
                }
            });
        })
    }
}

/// IntermediateResponse (RFC 4511 section 4.13): syncrepl and others speak through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntermediateResponse {
    pub oid: Option<String>,
    pub value: Option<Bytes>,
}

impl IntermediateResponse {
    pub fn decode(message: &Message) -> Result<Self, DecodeError> {
        let octets = message.content_of(Op::IntermediateResponse)?;
        let mut reader = Reader::new(octets);
        let name = reader.optional(REQUEST_NAME)?.map(|element| message::text(element.content, "response name"));
        let value = reader.optional(REQUEST_VALUE)?.map(|element| octets.slice_ref(element.content));
        Ok(Self { oid: name.transpose()?, value })
    }
}

/// Which operation an Abandon is aimed at.
pub fn abandon_target(message: &Message) -> Result<MessageId, DecodeError> {
    message_id(ber::integer(message.content_of(Op::AbandonRequest)?)?)
}

pub fn abandon_request(id: MessageId, target: MessageId) -> Bytes {
    message::build(id, &[], |w| w.integer(Op::AbandonRequest.tag(), target.get().into()))
}

fn message_id(value: i32) -> Result<MessageId, DecodeError> {
    u32::try_from(value).ok().and_then(MessageId::new).ok_or(DecodeError::Value("message id"))
}
