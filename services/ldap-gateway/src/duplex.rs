//! One end of the gateway: a stream of LDAP messages, read and written at the same time by one task, with bounded buffers.
//!
//! Everything is a `poll` function, so that both ends and whatever else a connection waits for are watched by one `poll_fn`:
//! nothing is lost when another event comes first, and no lock stands between reading and writing.

use bytes::{Buf, Bytes, BytesMut};
use ldap_wire::{FrameError, Framer, Limits, Message, Peer};
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use zeroize::Zeroize;

/// What may wait for a slow reader before its other end is not read any more (L-05). One message more can come on top.
pub const QUEUED_OCTETS_MAX: usize = 1 << 20;
/// Messages up to this size are written together.
const SMALL_OCTETS: usize = 4 << 10;
/// What is read at first; of a large message, or of many, larger pieces.
const READ_OCTETS: usize = 8 << 10;
const READ_OCTETS_BUSY: usize = 16 << 10;

pub struct Duplex<S> {
    stream: S,
    peer: Peer,
    framer: Framer,
    /// Empty, and without any room, while nothing is on its way.
    input: BytesMut,
    /// When the first octet of an unfinished message came (L-04), later by as long as nobody read on.
    unfinished_since: Option<Instant>,
    /// Since when nobody reads on.
    paused_since: Option<Instant>,
    /// The last read filled its buffer.
    busy: bool,
    /// Written before the queue.
    first: Bytes,
    queue: VecDeque<Bytes>,
    /// Small messages behind the queue, joined.
    tail: BytesMut,
    queued: usize,
    unflushed: bool,
    /// When the peer last took something, while something waits for it.
    stalled_since: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex<S> {
    pub fn new(stream: S, peer: Peer, limits: Limits) -> Self {
        Self {
            stream,
            peer,
            framer: Framer::new(peer, limits),
            input: BytesMut::new(),
            unfinished_since: None,
            paused_since: None,
            busy: false,
            first: Bytes::new(),
            queue: VecDeque::new(),
            tail: BytesMut::new(),
            queued: 0,
            unflushed: false,
            stalled_since: None,
        }
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.framer.set_limits(limits);
    }

    /// The next whole message among what has been read.
    pub fn next_message(&mut self, now: Instant) -> Result<Option<Message>, FrameError> {
        let message = self.framer.next_message(&mut self.input)?;
        self.unfinished_since = match (&message, self.input.is_empty()) {
            (_, true) => None,
            (Some(_), false) => Some(now),
            (None, false) => self.unfinished_since.or(Some(now)),
        };
        Ok(message)
    }

    /// Reads what there is; 0 is the end of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_empty() && !self.busy {
            return self.poll_first(cx);
        }
        self.input.reserve(READ_OCTETS_BUSY);
        let room = self.input.capacity() - self.input.len();
        let read = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input);
        if read.is_pending() && self.input.is_empty() {
            (self.busy, self.input) = (false, BytesMut::new());
        }
        let count = ready!(read)?;
        self.busy = count == room;
        Poll::Ready(Ok(count))
    }

    /// Into a place that is there for this one read, so that thousands who say nothing hold no buffer.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut place = [MaybeUninit::uninit(); READ_OCTETS];
        let mut read = ReadBuf::uninit(&mut place);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        self.input.extend_from_slice(read.filled());
        self.busy = read.remaining() == 0;
        let count = read.filled().len();
        if self.peer == Peer::Client {
            // There may be a password among it.
            read.filled_mut().zeroize();
        }
        Poll::Ready(Ok(count))
    }

    pub fn send(&mut self, message: Bytes, now: Instant) {
        if message.is_empty() {
            return;
        }
        if self.queued == 0 {
            self.stalled_since = Some(now);
        }
        self.queued += message.len();
        if self.queued == message.len() {
            // Most answers are alone: they go out as they are.
            self.first = message;
        } else if message.len() <= SMALL_OCTETS {
            if self.queue.is_empty() && self.tail.is_empty() && self.first.len() <= SMALL_OCTETS {
                self.tail.reserve(self.first.len() + message.len());
                self.tail.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.tail.extend_from_slice(&message);
        } else {
            if !self.tail.is_empty() {
                self.queue.push_back(self.tail.split().freeze());
            }
            self.queue.push_back(message);
        }
    }

    /// Writes what waits. Ready when nothing does.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<()>> {
        while self.queued > 0 {
            let next = match (&self.first, self.queue.front()) {
                (first, Some(front)) if first.is_empty() => front,
                (first, None) if first.is_empty() => &self.tail[..],
                (first, _) => first,
            };
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, next))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            match self.queue.front_mut() {
                _ if !self.first.is_empty() => {
                    self.first.advance(written);
                    if self.first.is_empty() {
                        self.first = Bytes::new();
                    }
                }
                Some(front) => {
                    front.advance(written);
                    if front.is_empty() {
                        self.queue.pop_front();
                    }
                }
                None => self.tail.advance(written),
            }
            self.queued -= written;
            self.unflushed = true;
            self.stalled_since = (self.queued > 0).then_some(now);
            if self.queued == 0 {
                // Nor does it hold one for what it said.
                (self.first, self.queue, self.tail) = (Bytes::new(), VecDeque::new(), BytesMut::new());
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes octets that must not be copied into the queue. Only while nothing waits there.
    pub async fn write_now(&mut self, octets: &[u8]) -> io::Result<()> {
        debug_assert!(self.is_drained(), "what waits would come behind");
        self.stream.write_all(octets).await?;
        self.stream.flush().await
    }

    /// May its other end still be read?
    pub fn has_room(&self) -> bool {
        self.queued < QUEUED_OCTETS_MAX
    }

    pub fn is_drained(&self) -> bool {
        self.queued == 0 && !self.unflushed
    }

    /// `None` while it is not read: the rest may be there for long.
    pub fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished_since.filter(|_| self.paused_since.is_none())
    }

    /// Whether it is read on, from now on: its peer is not to blame for the time that it is not.
    pub fn set_read(&mut self, read: bool, now: Instant) {
        if !read {
            self.paused_since.get_or_insert(now);
        } else if let Some(paused) = self.paused_since.take()
            && let Some(unfinished) = &mut self.unfinished_since
        {
            *unfinished += now.saturating_duration_since(paused);
        }
    }

    pub fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// What has been read and is no whole message yet.
    pub fn unread(&self) -> &[u8] {
        &self.input
    }

    /// Writes what waits, says that nothing more will come, and gives the stream up. Waits at most `limit`.
    pub async fn close(mut self, limit: Duration) {
        let farewell = async {
            std::future::poll_fn(|cx| self.poll_send(cx, Instant::now())).await?;
            std::future::poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await
        };
        // The peer may be gone already: then there is nobody to say it to.
        let _: Result<io::Result<()>, _> = tokio::time::timeout(limit, farewell).await;
    }

    /// Writes what waits, then takes and forgets what comes until the peer closes. Waits at most `limit`.
    pub async fn see_out(mut self, limit: Duration) {
        let seeing_out = async {
            std::future::poll_fn(|cx| self.poll_send(cx, Instant::now())).await?;
            tokio::io::copy(&mut self.stream, &mut tokio::io::sink()).await
        };
        // However slow it is, or if it breaks: nobody waits for what it says.
        let _: Result<io::Result<u64>, _> = tokio::time::timeout(limit, seeing_out).await;
    }

    /// The bare stream. Only for the moment before a TLS handshake, when nothing waits to be written.
    pub fn into_stream(self) -> S {
        self.stream
    }
}

/// A client's end: TCP, with or without TLS.
pub enum ClientStream {
    Clear(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;

    /// A DelRequest of about `octets`.
    fn delete(octets: usize) -> Vec<u8> {
        let length = |octets: usize| u32::try_from(octets).expect("small").to_be_bytes();
        let name = [&[0x4a, 0x84][..], &length(octets), &vec![b'x'; octets]].concat();
        [&[0x30, 0x84][..], &length(name.len() + 3), &[0x02, 0x01, 0x05], &name].concat()
    }

    #[tokio::test]
    async fn whoever_says_nothing_holds_no_buffer_whatever_was_said_before() {
        let (stream, mut peer) = tokio::io::duplex(1 << 20);
        let mut duplex = Duplex::new(stream, Peer::Client, Limits::AUTHENTICATED);
        for octets in [10, READ_OCTETS, 200_000] {
            let request = delete(octets);
            peer.write_all(&request).await.expect("there is room");
            let message = loop {
                if let Some(message) = duplex.next_message(Instant::now()).expect("it is LDAP") {
                    break message;
                }
                poll_fn(|cx| duplex.poll_fill(cx)).await.expect("it is open");
            };
            assert_eq!(message.octets(), &request);
            for answer in [10, SMALL_OCTETS + 1, 10] {
                duplex.send(vec![0; answer].into(), Instant::now());
            }
            poll_fn(|cx| duplex.poll_send(cx, Instant::now())).await.expect("there is room");
            let read = poll_fn(|cx| Poll::Ready(duplex.poll_fill(cx).map_ok(drop))).await;
            assert!(read.is_pending());
            let held = (duplex.input.capacity(), duplex.tail.capacity(), duplex.queue.capacity());
            assert_eq!(held, (0, 0, 0), "after a message of {octets}");
        }
    }
    #[tokio::test]
    async fn a_slow_reader_gets_everything_in_order_however_it_was_kept() {
        let (stream, mut peer) = tokio::io::duplex(700);
        let mut duplex = Duplex::new(stream, Peer::Client, Limits::AUTHENTICATED);
        let (mut sent, mut read) = (Vec::new(), Vec::new());
        let sizes = [10, 300, 5000, 10, SMALL_OCTETS + 1, 20, 20, 9000, 1, 1];
        for (number, size) in sizes.iter().cycle().take(70).enumerate() {
            let message = vec![u8::try_from(number).expect("few"); *size];
            sent.extend_from_slice(&message);
            duplex.send(message.into(), Instant::now());
            // What waits is now and then all gone, and otherwise in the middle of a message.
            let enough = if number % 7 == 6 { sent.len() } else { read.len() + 450 * (number % 3) };
            while read.len() < enough.min(sent.len()) {
                let sending = poll_fn(|cx| Poll::Ready(duplex.poll_send(cx, Instant::now()))).await;
                assert!(!matches!(sending, Poll::Ready(Err(_))));
                let mut octets = [0; 450];
                let count = peer.read(&mut octets).await.expect("it is open");
                read.extend_from_slice(&octets[..count]);
            }
        }
        assert_eq!(read, sent);
    }
}
