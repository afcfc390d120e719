//! One whole LDAPMessage (RFC 4511 section 4.1.1): its id, its operation, its controls, and the octets it came in.

use crate::ber::{self, BerError, Reader, Writer};
use crate::control::{self, Control};
use bytes::Bytes;
use std::fmt;
use zeroize::Zeroize;

/// A complete message. Cheap to clone: all parts share the received octets.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    id: MessageId,
    op: Op,
    /// The whole LDAPMessage.
    octets: Bytes,
    /// Everything after the message id: operation, controls and what a later standard may add.
    body: Bytes,
    /// Content of the operation.
    content: Bytes,
    /// Content of the controls element.
    controls: Option<Bytes>,
}

impl Message {
    /// Parses exactly one message. `Framer` finds its borders in a stream and knows who may send what.
    pub fn parse(octets: Bytes) -> Result<Self, BerError> {
        let mut outer = Reader::new(&octets);
        let mut reader = outer.expect(ber::SEQUENCE)?.reader();
        outer.finish()?;
        let id = reader.integer(ber::INTEGER)?;
        let id = u32::try_from(id).map(MessageId).map_err(|_| BerError::IntegerSize(4))?;
        let body = reader.rest();
        let op = reader.element()?;
        let controls = reader.optional(CONTROLS)?;
        // RFC 4511 section 4 lets later standards append elements; they bear context tags. The notice of disconnection of
        // Active Directory is in need of this too. Anything else is garbage (L-02).
        while !reader.is_empty() {
            let extra = reader.element()?;
            if extra.tag & 0xc0 != 0x80 || extra.tag == CONTROLS {
                return Err(BerError::TrailingOctets);
            }
        }
        Ok(Self {
            id,
            op: Op::from_tag(op.tag),
            body: octets.slice_ref(body),
            content: octets.slice_ref(op.content),
            controls: controls.map(|element| octets.slice_ref(element.content)),
            octets,
        })
    }

    pub fn id(&self) -> MessageId {
        self.id
    }

    pub fn op(&self) -> Op {
        self.op
    }

    /// The octets as they came.
    pub fn octets(&self) -> &Bytes {
        &self.octets
    }

    /// Operation and controls as they came: all but the message id.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Content of the operation, without its tag and length.
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    pub fn has_controls(&self) -> bool {
        self.controls.is_some()
    }

    /// The controls; at most 32 (L-03).
    pub fn controls(&self) -> Result<Vec<Control>, DecodeError> {
        self.controls.as_ref().map_or(Ok(Vec::new()), control::decode_all)
    }

    /// The same operation and controls, octet for octet, under another message id (L-06).
    pub fn with_id(&self, id: MessageId) -> Bytes {
        if id == self.id {
            return self.octets.clone();
        }
        let mut writer = Writer::with_capacity(self.octets.len() + 16);
        writer.nested(ber::SEQUENCE, |w| {
            w.integer(ber::INTEGER, id.0.into());
            w.raw(&self.body);
        });
        writer.into_vec().into()
    }

    /// The content if this is the operation wanted.
    pub(crate) fn content_of(&self, expected: Op) -> Result<&Bytes, DecodeError> {
        if self.op == expected {
            return Ok(&self.content);
        }
        Err(DecodeError::WrongOperation { expected, found: self.op })
    }

    /// Overwrites the octets unless somebody else holds them, too.
    pub(crate) fn wipe(&mut self) -> bool {
        (self.body, self.content, self.controls) = (Bytes::new(), Bytes::new(), None);
        std::mem::take(&mut self.octets).try_into_mut().map(|mut octets| octets.zeroize()).is_ok()
    }
}

/// A bind request carries a password; `Framer` gives it octets of its own, and the last holder overwrites them.
impl Drop for Message {
    fn drop(&mut self) {
        if self.op == Op::BindRequest {
            self.wipe();
        }
    }
}

/// Never the content: it may hold a password.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} {:?}, {} octets)", self.id, self.op, self.octets.len())
    }
}

pub(crate) const CONTROLS: u8 = 0xa0;

/// Builds a message from an operation that `op` writes.
pub(crate) fn build(id: MessageId, controls: &[Control], op: impl FnOnce(&mut Writer)) -> Bytes {
    let mut writer = Writer::new();
    write(&mut writer, id, controls, op);
    writer.into_vec().into()
}

pub(crate) fn write(writer: &mut Writer, id: MessageId, controls: &[Control], op: impl FnOnce(&mut Writer)) {
    writer.nested(ber::SEQUENCE, |w| {
        w.integer(ber::INTEGER, id.0.into());
        op(w);
        if !controls.is_empty() {
            w.nested(CONTROLS, |w| controls.iter().for_each(|control| control.write(w)));
        }
    });
}

/// 0 to 2^31-1. Zero is for unsolicited notifications only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(u32);

impl MessageId {
    pub const UNSOLICITED: Self = Self(0);
    pub const MAX: Self = Self(0x7fff_ffff);

    pub const fn new(id: u32) -> Option<Self> {
        if id <= Self::MAX.0 { Some(Self(id)) } else { None }
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    /// The id after this one, for a client that numbers its requests; never zero.
    pub const fn next(self) -> Self {
        if self.0 >= Self::MAX.0 { Self(1) } else { Self(self.0 + 1) }
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which protocol operation a message carries (RFC 4511 section 4.2 onwards).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    BindRequest,
    BindResponse,
    UnbindRequest,
    SearchRequest,
    SearchResultEntry,
    SearchResultDone,
    SearchResultReference,
    ModifyRequest,
    ModifyResponse,
    AddRequest,
    AddResponse,
    DelRequest,
    DelResponse,
    ModifyDnRequest,
    ModifyDnResponse,
    CompareRequest,
    CompareResponse,
    AbandonRequest,
    ExtendedRequest,
    ExtendedResponse,
    IntermediateResponse,
    /// A tag of no operation we know.
    Unknown(u8),
}

impl Op {
    pub const fn from_tag(tag: u8) -> Self {
        match tag {
            0x60 => Self::BindRequest,
            0x61 => Self::BindResponse,
            0x42 => Self::UnbindRequest,
            0x63 => Self::SearchRequest,
            0x64 => Self::SearchResultEntry,
            0x65 => Self::SearchResultDone,
            0x73 => Self::SearchResultReference,
            0x66 => Self::ModifyRequest,
            0x67 => Self::ModifyResponse,
            0x68 => Self::AddRequest,
            0x69 => Self::AddResponse,
            0x4a => Self::DelRequest,
            0x6b => Self::DelResponse,
            0x6c => Self::ModifyDnRequest,
            0x6d => Self::ModifyDnResponse,
            0x6e => Self::CompareRequest,
            0x6f => Self::CompareResponse,
            0x50 => Self::AbandonRequest,
            0x77 => Self::ExtendedRequest,
            0x78 => Self::ExtendedResponse,
            0x79 => Self::IntermediateResponse,
            other => Self::Unknown(other),
        }
    }

    pub const fn tag(self) -> u8 {
        match self {
            Self::BindRequest => 0x60,
            Self::BindResponse => 0x61,
            Self::UnbindRequest => 0x42,
            Self::SearchRequest => 0x63,
            Self::SearchResultEntry => 0x64,
            Self::SearchResultDone => 0x65,
            Self::SearchResultReference => 0x73,
            Self::ModifyRequest => 0x66,
            Self::ModifyResponse => 0x67,
            Self::AddRequest => 0x68,
            Self::AddResponse => 0x69,
            Self::DelRequest => 0x4a,
            Self::DelResponse => 0x6b,
            Self::ModifyDnRequest => 0x6c,
            Self::ModifyDnResponse => 0x6d,
            Self::CompareRequest => 0x6e,
            Self::CompareResponse => 0x6f,
            Self::AbandonRequest => 0x50,
            Self::ExtendedRequest => 0x77,
            Self::ExtendedResponse => 0x78,
            Self::IntermediateResponse => 0x79,
            Self::Unknown(tag) => tag,
        }
    }

    /// What a client may send.
    pub const fn is_request(self) -> bool {
        self.response().is_some() || matches!(self, Self::UnbindRequest | Self::AbandonRequest)
    }

    /// The operation that ends the answer to this request; none where the protocol gives no answer.
    pub const fn response(self) -> Option<Self> {
        Some(match self {
            Self::BindRequest => Self::BindResponse,
            Self::SearchRequest => Self::SearchResultDone,
            Self::ModifyRequest => Self::ModifyResponse,
            Self::AddRequest => Self::AddResponse,
            Self::DelRequest => Self::DelResponse,
            Self::ModifyDnRequest => Self::ModifyDnResponse,
            Self::CompareRequest => Self::CompareResponse,
            Self::ExtendedRequest => Self::ExtendedResponse,
            _ => return None,
        })
    }
}

/// Why a well-framed message is not what it claims to be. The peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Broken BER inside the operation: nothing after it can be trusted, the connection ends.
    #[error("malformed")]
    Ber(#[from] BerError),
    /// Sound BER, but more of something than we accept. The operation is refused, the connection lives.
    #[error("more {0} than accepted")]
    Limit(Limit),
    /// Sound BER, but a value the RFC does not allow here.
    #[error("{0} has a value that is not allowed")]
    Value(&'static str),
    /// The caller asked for another operation than the message holds.
    #[error("{found:?} where {expected:?} was due")]
    WrongOperation { expected: Op, found: Op },
}

/// The bounds of L-03.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    FilterDepth,
    FilterNodes,
    Attributes,
    Controls,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FilterDepth => "levels of filter",
            Self::FilterNodes => "filter components",
            Self::Attributes => "attributes",
            Self::Controls => "controls",
        })
    }
}

/// Text that the RFC wants to be UTF-8.
pub(crate) fn text(octets: &[u8], what: &'static str) -> Result<String, DecodeError> {
    std::str::from_utf8(octets).map(str::to_owned).map_err(|_| DecodeError::Value(what))
}

/// A number from 0 to maxInt.
pub(crate) fn unsigned(value: i32, what: &'static str) -> Result<u32, DecodeError> {
    u32::try_from(value).map_err(|_| DecodeError::Value(what))
}
