//! A stream inside the security layer of a Windows logon (RFC 4422 section 3.7): pieces, each behind its length and its signature.
//!
//! It lies below the framing of LDAP, so that whoever reads and writes messages need not know of it.

use crate::exchange::LogonError;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Of one piece that comes; a server puts a whole message in it, of 16 MiB at most (L-01).
const PIECE_MAX: usize = (16 << 20) + 1024;
/// Of one piece that goes.
const PIECE_SENT: usize = 256 << 10;
const LENGTH: usize = 4;
const READ_OCTETS: usize = 16 << 10;

/// What seals: that of the logon's mechanism.
pub(crate) enum Seal {
    Kerberos(Box<kerberos::Session>),
    Ntlm(Box<ntlm::Session>),
}

impl Seal {
    /// Octets of a piece beside its content, at least.
    fn overhead(&self) -> usize {
        match self {
            Self::Kerberos(_) => kerberos::Session::OVERHEAD,
            Self::Ntlm(_) => ntlm::Session::SIGNATURE,
        }
    }

    fn seal(&mut self, piece: &[u8]) -> Vec<u8> {
        match self {
            Self::Kerberos(session) => session.seal(piece),
            Self::Ntlm(session) => session.seal(piece),
        }
    }

    /// In place; where the content is then.
    fn unseal(&mut self, piece: &mut [u8]) -> Result<Range<usize>, LogonError> {
        match self {
            Self::Kerberos(session) => Ok(session.unseal(piece)?),
            Self::Ntlm(session) => {
                session.unseal(piece)?;
                Ok(ntlm::Session::SIGNATURE..piece.len())
            }
        }
    }

    /// Over the mechanisms that SPNEGO was offered (RFC 4178 section 5).
    pub fn mic(&mut self, mechanisms: &[u8]) -> Vec<u8> {
        match self {
            Self::Kerberos(session) => session.mic(mechanisms),
            Self::Ntlm(session) => session.mic(mechanisms).to_vec(),
        }
    }

    /// The server's.
    pub fn check_mic(&mut self, mechanisms: &[u8], mic: &[u8]) -> Result<(), LogonError> {
        match self {
            Self::Kerberos(session) => Ok(session.check_mic(mechanisms, mic)?),
            Self::Ntlm(session) => Ok(session.check_mic(mechanisms, mic)?),
        }
    }
}

pub struct SealedStream {
    tcp: TcpStream,
    seal: Seal,
    /// As it came: the piece that is not complete yet, and what came behind it.
    incoming: Vec<u8>,
    /// Of the piece that is being read, unsealed: its content in `incoming`.
    open: Range<usize>,
    /// Where the next piece begins.
    behind: usize,
    outgoing: Vec<u8>,
    sent: usize,
}

impl SealedStream {
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.tcp.peer_addr().ok()
    }

    /// Nothing may have come behind the answer to the bind.
    pub(crate) fn new(tcp: TcpStream, seal: Seal) -> Self {
        Self { tcp, seal, incoming: Vec::new(), open: 0..0, behind: 0, outgoing: Vec::new(), sent: 0 }
    }

    /// Unseals the next piece if all of it is there.
    fn open_next(&mut self) -> io::Result<bool> {
        let invalid = |error: &'static str| io::Error::new(io::ErrorKind::InvalidData, error);
        self.incoming.drain(..self.behind);
        (self.open, self.behind) = (0..0, 0);
        let Some(length) = self.incoming.first_chunk::<LENGTH>() else { return Ok(false) };
        let length = u32::from_be_bytes(*length) as usize;
        if !(self.seal.overhead()..=PIECE_MAX).contains(&length) {
            return Err(invalid("the server sent something that is not sealed, where everything is"));
        }
        let Some(piece) = self.incoming.get_mut(LENGTH..LENGTH + length) else { return Ok(false) };
        let content = self.seal.unseal(piece).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        (self.open, self.behind) = (LENGTH + content.start..LENGTH + content.end, LENGTH + length);
        Ok(true)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.outgoing.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        (self.outgoing, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for SealedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let count = this.open.len().min(buffer.remaining());
            if count > 0 || buffer.remaining() == 0 {
                let end = this.open.start + count;
                buffer.put_slice(this.incoming.get(this.open.start..end).unwrap_or_default());
                this.open.start = end;
                return Poll::Ready(Ok(()));
            }
            if this.open_next()? {
                continue; // perhaps an empty one
            }
            let mut place = [0; READ_OCTETS];
            let mut read = ReadBuf::new(&mut place);
            ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut read))?;
            match read.filled() {
                [] if this.incoming.is_empty() => return Poll::Ready(Ok(())), // the end
                [] => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                octets => this.incoming.extend_from_slice(octets),
            }
        }
    }
}

impl AsyncWrite for SealedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // One piece at a time waits.
        ready!(this.poll_drain(cx))?;
        let piece = octets.get(..PIECE_SENT).unwrap_or(octets);
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sealed = this.seal.seal(piece);
        this.outgoing = [&(sealed.len() as u32).to_be_bytes()[..], &sealed].concat();
        // It is taken whether or not the network takes it now; the next write or flush goes on with it.
        if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}
