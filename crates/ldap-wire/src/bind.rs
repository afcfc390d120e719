//! Bind (RFC 4511 section 4.2), both directions: what a client asks of us, and what we ask of a directory.

use crate::ber::{self, Reader, Writer};
use crate::control::Control;
use crate::message::{self, DecodeError, Message, MessageId, Op};
use crate::result::LdapResult;
use bytes::Bytes;
use zeroize::Zeroizing;

/// No `Debug`: it holds a password.
pub struct BindRequest {
    /// 3; anything else is to be refused (L-09).
    pub version: i32,
    pub name: Bytes,
    pub authentication: Authentication,
}

pub enum Authentication {
    Simple(Password),
    Sasl {
        mechanism: String,
        credentials: Option<Password>,
    },
    /// A choice of no standard, such as Sicily (tags 9 to 11).
    Other {
        tag: u8,
    },
}

/// Octets of a password or SASL credentials. Never printed, overwritten when dropped.
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    pub fn new(octets: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(octets.into()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

const SIMPLE: u8 = 0x80;
const SASL: u8 = 0xa3;
const SERVER_SASL_CREDENTIALS: u8 = 0x87;

impl BindRequest {
    pub const VERSION: i32 = 3;

    pub fn simple(name: impl Into<Bytes>, password: Password) -> Self {
        Self { version: Self::VERSION, name: name.into(), authentication: Authentication::Simple(password) }
    }

    /// One step of a SASL bind (RFC 4511 section 4.2); the mechanism says who binds.
    pub fn sasl(mechanism: &str, credentials: Option<Password>) -> Self {
        let authentication = Authentication::Sasl { mechanism: mechanism.to_owned(), credentials };
        Self { version: Self::VERSION, name: Bytes::new(), authentication }
    }

    pub fn decode(message: &Message) -> Result<Self, DecodeError> {
        let octets = message.content_of(Op::BindRequest)?;
        let mut reader = Reader::new(octets);
        let version = reader.integer(ber::INTEGER)?;
        let name = Bytes::copy_from_slice(reader.octet_string()?);
        let choice = reader.element()?;
        reader.finish()?;
        let authentication = match choice.tag {
            SIMPLE => Authentication::Simple(Password::new(choice.content)),
            SASL => {
                let mut reader = choice.reader();
                let mechanism = message::text(reader.octet_string()?, "SASL mechanism")?;
                let credentials = reader.optional(ber::OCTET_STRING)?.map(|element| Password::new(element.content));
                reader.finish()?;
                Authentication::Sasl { mechanism, credentials }
            }
            tag => Authentication::Other { tag },
        };
        Ok(Self { version, name, authentication })
    }

    /// Overwritten when dropped, as the password stands in it.
    pub fn encode(&self, id: MessageId, controls: &[Control]) -> Zeroizing<Vec<u8>> {
        let secret = match &self.authentication {
            Authentication::Simple(password) => password.expose().len(),
            Authentication::Sasl { mechanism, credentials } => {
                mechanism.len() + credentials.as_ref().map_or(0, |credentials| credentials.expose().len())
            }
            Authentication::Other { .. } => 0,
        };
        let controls_len: usize =
            controls.iter().map(|c| c.oid.len() + c.value.as_ref().map_or(0, Bytes::len) + 32).sum();
        let mut writer = Writer::with_capacity(self.name.len() + secret + controls_len + 64);
        message::write(&mut writer, id, controls, |w| w.nested(Op::BindRequest.tag(), |w| self.write(w)));
        Zeroizing::new(writer.into_vec())
    }

    fn write(&self, w: &mut Writer) {
        w.integer(ber::INTEGER, self.version.into());
        w.octet_string(&self.name);
        match &self.authentication {
            Authentication::Simple(password) => w.octets(SIMPLE, password.expose()),
            Authentication::Sasl { mechanism, credentials } => w.nested(SASL, |w| {
                w.octet_string(mechanism.as_bytes());
                if let Some(credentials) = credentials {
                    w.octet_string(credentials.expose());
                }
            }),
            Authentication::Other { tag } => w.octets(*tag, &[]),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindResponse {
    pub result: LdapResult,
    pub server_sasl_credentials: Option<Bytes>,
}

impl BindResponse {
    pub fn decode(message: &Message) -> Result<Self, DecodeError> {
        let octets = message.content_of(Op::BindResponse)?;
        let mut reader = Reader::new(octets);
        let result = LdapResult::read(octets, &mut reader)?;
        let credentials = reader.optional(SERVER_SASL_CREDENTIALS)?;
        Ok(Self { result, server_sasl_credentials: credentials.map(|element| octets.slice_ref(element.content)) })
    }

    pub fn encode(&self, id: MessageId, controls: &[Control]) -> Bytes {
        message::build(id, controls, |w| {
            w.nested(Op::BindResponse.tag(), |w| {
                self.result.write(w);
                if let Some(credentials) = &self.server_sasl_credentials {
                    w.octets(SERVER_SASL_CREDENTIALS, credentials);
                }
            });
        })
    }
}

/// Ends the session (RFC 4511 section 4.3).
pub fn unbind_request(id: MessageId) -> Bytes {
    message::build(id, &[], |w| w.octets(Op::UnbindRequest.tag(), &[]))
}
