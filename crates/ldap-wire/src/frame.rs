//! Finds whole messages in a stream of octets (L-01, L-02), and refuses what cannot become one as early as it can be known:
//! at the header, before the rest is buffered.

use crate::ber::{self, BerError};
use crate::message::{Message, MessageId, Op};
use crate::result::{self, LdapResult, ResultCode};
use bytes::{Bytes, BytesMut};
use zeroize::Zeroize;

/// Splits a receive buffer into messages. Holds no octets itself: what is left in the buffer is an unfinished message.
#[derive(Clone, Copy, Debug)]
pub struct Framer {
    peer: Peer,
    limits: Limits,
}

impl Framer {
    pub fn new(peer: Peer, limits: Limits) -> Self {
        Self { peer, limits }
    }

    /// A successful bind raises the limits, the next bind lowers them again.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the next whole message out of `input`; `None` while it is not complete. After an error the stream is lost.
    pub fn next_message(&self, input: &mut BytesMut) -> Result<Option<Message>, FrameError> {
        let Some((total, op)) = self.measure(input)? else { return Ok(None) };
        if input.len() < total {
            return Ok(None);
        }
        // The last message takes the buffer with it: nothing of it stays behind with an idle connection.
        let mut octets = if input.len() == total { std::mem::take(input) } else { input.split_to(total) };
        let message = if op == Some(Op::BindRequest) {
            // Its password must not stay behind in a buffer that lives as long as the connection. The message gets octets of
            // its own, which are overwritten when it is dropped.
            let own = Bytes::copy_from_slice(&octets);
            octets.zeroize();
            Message::parse(own)?
        } else {
            Message::parse(octets.freeze())?
        };
        self.check(message.id(), message.op())?;
        Ok(Some(message))
    }

    /// How long the message at the start of `input` is going to be and what it is, checked with as much of it as is there.
    fn measure(&self, input: &[u8]) -> Result<Option<(usize, Option<Op>)>, FrameError> {
        match input.first() {
            None => return Ok(None),
            Some(&ber::SEQUENCE) => {}
            Some(&TLS_HANDSHAKE) => return Err(FrameError::TlsHandshake),
            Some(&first) => return Err(FrameError::NotLdap { first }),
        }
        let Some(header) = ber::header(input)? else { return Ok(None) };
        let total = header.total().unwrap_or(usize::MAX);
        refuse_beyond(self.limits.message_octets_max, total)?;
        let content = input.get(header.octets..total.min(input.len())).unwrap_or_default();
        let Some((id, op)) = peek(content)? else { return Ok(Some((total, None))) };
        self.check(id, op)?;
        if op == Op::SearchRequest {
            refuse_beyond(self.limits.search_octets_max, total)?;
        }
        Ok(Some((total, Some(op))))
    }

    fn check(&self, id: MessageId, op: Op) -> Result<(), FrameError> {
        if self.peer == Peer::Client {
            if id == MessageId::UNSOLICITED {
                return Err(FrameError::MessageId);
            }
            if !op.is_request() {
                return Err(FrameError::NotARequest { tag: op.tag() });
            }
        }
        Ok(())
    }
}

/// First octet of a TLS handshake record: somebody speaks LDAPS to the plain port.
const TLS_HANDSHAKE: u8 = 0x16;

fn refuse_beyond(limit: usize, octets: usize) -> Result<(), FrameError> {
    if octets > limit { Err(FrameError::TooLarge { octets, limit }) } else { Ok(()) }
}

/// Message id and operation, as soon as their octets are there.
fn peek(content: &[u8]) -> Result<Option<(MessageId, Op)>, FrameError> {
    let Some(header) = ber::header(content)? else { return Ok(None) };
    if header.tag != ber::INTEGER {
        return Err(BerError::UnexpectedTag { expected: ber::INTEGER, found: header.tag }.into());
    }
    if !(1..=4).contains(&header.content) {
        return Err(FrameError::MessageId);
    }
    let end = header.octets + header.content;
    let (Some(id), Some(tag)) = (content.get(header.octets..end), content.get(end)) else { return Ok(None) };
    let id = u32::try_from(ber::integer(id)?).ok().and_then(MessageId::new).ok_or(FrameError::MessageId)?;
    Ok(Some((id, Op::from_tag(*tag))))
}

/// Who wrote the stream. A client may send requests only; from a directory server everything well-formed is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Client,
    Server,
}

/// How large a message may be, its own tag and length included (L-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub message_octets_max: usize,
    pub search_octets_max: usize,
}

impl Limits {
    pub const UNAUTHENTICATED: Self = Self { message_octets_max: 256_000, search_octets_max: 256_000 };
    pub const AUTHENTICATED: Self = Self { message_octets_max: 16 << 20, search_octets_max: 256_000 };
    pub const UPSTREAM: Self = Self { message_octets_max: 16 << 20, search_octets_max: 16 << 20 };
}

/// Why a stream cannot be followed any further. Always the peer's fault; the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("TLS handshake on a plain port")]
    TlsHandshake,
    #[error("not LDAP: first octet {first:#04x}")]
    NotLdap { first: u8 },
    #[error("message of {octets} octets, limit {limit}")]
    TooLarge { octets: usize, limit: usize },
    #[error("message id outside 1 to 2^31-1")]
    MessageId,
    #[error("operation {tag:#04x} is not for a client to send")]
    NotARequest { tag: u8 },
    #[error("malformed message")]
    Malformed(#[from] BerError),
}

impl FrameError {
    /// The Notice of Disconnection to send before closing (L-02); none to somebody who does not speak LDAP.
    pub fn notice(&self) -> Option<Bytes> {
        match self {
            Self::TlsHandshake | Self::NotLdap { .. } => None,
            _ => Some(result::notice_of_disconnection(&LdapResult::of(ResultCode::PROTOCOL_ERROR))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Framer {
        Framer::new(Peer::Client, Limits::UNAUTHENTICATED)
    }

    fn sequence(tag: u8, total: usize) -> Vec<u8> {
        // 30 84 <len> 02 01 05 <tag> 84 <len> <zeros>
        let mut octets = vec![0x30, 0x84];
        octets.extend(((total - 6) as u32).to_be_bytes());
        octets.extend([0x02, 0x01, 0x05, tag, 0x84]);
        octets.extend(((total - 15) as u32).to_be_bytes());
        octets.resize(total, 0);
        octets
    }

    #[test]
    fn the_exact_limit_is_accepted_and_one_more_is_refused_at_the_header() {
        // L-01, B-42. The refusal needs the header only.
        for (limits, size) in [(Limits::UNAUTHENTICATED, 256_000), (Limits::AUTHENTICATED, 16 << 20)] {
            let framer = Framer::new(Peer::Client, limits);
            let mut input = BytesMut::from(&sequence(0x68, size)[..]);
            let message = framer.next_message(&mut input).expect("at the limit").expect("complete");
            assert_eq!((message.octets().len(), input.len()), (size, 0));
            let mut input = BytesMut::from(&sequence(0x68, size + 1)[..6]);
            assert_eq!(framer.next_message(&mut input), Err(FrameError::TooLarge { octets: size + 1, limit: size }));
        }
    }

    #[test]
    fn a_search_is_bound_to_256000_octets_after_a_bind_too() {
        // L-01: known as soon as length and operation tag are there, ten octets.
        let framer = Framer::new(Peer::Client, Limits::AUTHENTICATED);
        let mut input = BytesMut::from(&sequence(0x63, 256_001)[..10]);
        assert_eq!(framer.next_message(&mut input), Err(FrameError::TooLarge { octets: 256_001, limit: 256_000 }));
        let mut input = BytesMut::from(&sequence(0x63, 256_000)[..]);
        assert!(framer.next_message(&mut input).expect("at the limit").is_some());
    }

    #[test]
    fn what_is_not_ldap_is_known_from_its_first_octet_and_gets_no_notice() {
        // B-40, L-04.
        for (first, error) in [(0x16, FrameError::TlsHandshake), (b'G', FrameError::NotLdap { first: b'G' })] {
            let mut input = BytesMut::from(&[first][..]);
            assert_eq!(client().next_message(&mut input), Err(error));
            assert_eq!(error.notice(), None);
        }
    }

    #[test]
    fn a_bind_has_octets_of_its_own_that_can_be_overwritten() {
        // Other messages share the receive buffer, where overwriting is refused.
        let bind = [0x30, 0x0c, 0x02, 0x01, 0x01, 0x60, 0x07, 0x02, 0x01, 0x03, 0x04, 0x00, 0x80, 0x00];
        let delete = [0x30, 0x06, 0x02, 0x01, 0x02, 0x4a, 0x01, b'x'];
        let mut input = BytesMut::from(&[&bind[..], &delete, &bind[..1]].concat()[..]);
        let mut next = || client().next_message(&mut input).expect("sound").expect("complete");
        assert!(next().wipe());
        assert!(!next().wipe());
    }
}
