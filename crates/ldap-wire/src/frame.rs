//! Finds whole messages in a stream of octets (L-01, L-02), and refuses what cannot become one as early as it can be known:
//! at the header, before the rest is buffered.

use crate::ber::{self, BerError};
use crate::message::{Message, MessageId, Op};
use crate::result::{self, LdapResult, ResultCode};
use bytes::{Bytes, BytesMut};
use zeroize::Zeroize;

/// Splits a receive buffer into messages. Holds no octets itself: what is in the buffer afterwards is an unfinished message.
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
        let Some(total) = self.measure(input)? else { return Ok(None) };
        if input.len() < total {
            return Ok(None);
        }
        let mut octets = input.split_to(total);
        let message = Message::parse(octets.clone_if_secret())?;
        Ok(Some(message))
    }
}
