//! One connection, used for one thing at a time: messages out, messages in.

use crate::connect::{Channel, Stream};
use crate::exchange::LogonError;
use crate::sealed::{Seal, SealedStream};
use crate::server::ServerName;
use bytes::BytesMut;
use futures::FutureExt;
use ldap_wire::{
    DecodeError, ExtendedResponse, FrameError, Framer, LdapResult, Limits, Message, MessageId, Op, Peer, ResultCode,
};
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) struct Connection {
    stream: Stream,
    framer: Framer,
    buffer: BytesMut,
    last_id: MessageId,
    server: ServerName,
}

/// How what goes over a connection is kept from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protected {
    Tls,
    /// Signed and sealed by the Windows logon.
    Sealed,
    Not,
}

/// The connection cannot be used any more. Whatever was asked on it has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// Closed by the server, or the network failed.
    #[error("the connection was lost")]
    Io(#[source] io::Error),
    /// The server said that it closes (RFC 4511 section 4.4.1).
    #[error("the server ended the connection with code {code}")]
    Notice { code: ResultCode },
    /// A Windows logon could not be brought to its end.
    #[error("the Windows logon failed")]
    Logon(#[from] LogonError),
    /// Octets that are not LDAP.
    #[error("the server sent octets that are not LDAP")]
    Frame(#[from] FrameError),
    #[error("the server sent a message that cannot be read")]
    Decode(#[from] DecodeError),
    /// An answer to nothing we asked, or of another kind than asked.
    #[error("the server sent an answer to nothing that was asked")]
    UnexpectedMessage,
    /// More entries or octets than were asked for.
    #[error("the server sent more than was asked for")]
    TooMuch,
}

impl Broken {
    /// Is it the peer's manner of speaking, and not the network?
    pub(crate) fn is_protocol(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::Notice { .. })
    }
}

impl Connection {
    pub fn new(stream: Stream, server: ServerName) -> Self {
        Self {
            stream,
            framer: Framer::new(Peer::Server, Limits::UPSTREAM),
            buffer: BytesMut::new(),
            last_id: MessageId::UNSOLICITED,
            server,
        }
    }

    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// The address at its other end.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer()
    }

    pub fn protected(&self) -> Protected {
        match self.stream {
            Stream::Clear(_) => Protected::Not,
            Stream::Sealed(_) => Protected::Sealed,
            Stream::Tls(_) => Protected::Tls,
        }
    }

    /// What a bind on it is bound to.
    pub fn channel(&self) -> Channel {
        self.stream.channel()
    }

    /// From now on everything is sealed. What has come before belongs to nobody.
    pub fn sealed(self, seal: Seal) -> Result<Self, Broken> {
        match self.stream {
            Stream::Clear(tcp) if self.buffer.is_empty() => {
                let stream = Stream::Sealed(Box::new(SealedStream::new(tcp, seal)));
                Ok(Self { stream, ..self })
            }
            _ => Err(Broken::UnexpectedMessage),
        }
    }

    pub fn next_id(&mut self) -> MessageId {
        self.last_id = self.last_id.next();
        self.last_id
    }

    /// Not to be dropped half-way: the server would read the rest of it as the start of the next message.
    pub async fn send(&mut self, octets: &[u8]) -> Result<(), Broken> {
        self.stream.write_all(octets).await.map_err(Broken::Io)?;
        self.stream.flush().await.map_err(Broken::Io)
    }

    /// The next message. May be dropped at any time: what was read stays in the buffer.
    pub async fn receive(&mut self) -> Result<Message, Broken> {
        loop {
            if let Some(message) = self.framer.next_message(&mut self.buffer)? {
                return if message.id() == MessageId::UNSOLICITED { Err(notice(&message)) } else { Ok(message) };
            }
            self.buffer.reserve(READ_OCTETS);
            if self.stream.read_buf(&mut self.buffer).await.map_err(Broken::Io)? == 0 {
                return Err(Broken::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// An idle connection has nothing to read: what is there is its end, a notice, or an answer to nothing.
    pub fn has_ended(&mut self) -> bool {
        // The beginning of a message is as bad as a whole one.
        self.receive().now_or_never().is_some() || !self.buffer.is_empty()
    }

    /// The bare stream; none if octets have come that nobody has read.
    pub fn into_stream(self) -> Option<Stream> {
        self.buffer.is_empty().then_some(self.stream)
    }
}

const READ_OCTETS: usize = 16 << 10;

/// An unsolicited message: the notice of disconnection is the only one we know.
fn notice(message: &Message) -> Broken {
    let result = match message.op() {
        Op::ExtendedResponse => ExtendedResponse::decode(message).map(|response| response.result),
        found => Err(DecodeError::WrongOperation { expected: Op::ExtendedResponse, found }),
    };
    match result {
        Ok(LdapResult { code, .. }) => Broken::Notice { code },
        Err(error) => error.into(),
    }
}
