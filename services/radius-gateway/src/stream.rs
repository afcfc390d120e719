//! RADIUS over one connection, in either direction (RadSec, R-91): packets out of it, packets into it. Whose it is, and what they say,
//! is decided elsewhere.

use radius_wire::PacketStream;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// A packet that has begun is here within this time, and the peer takes what waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// More packets than this do not wait for a peer that takes none.
const QUEUE_PACKETS: usize = 512;

const READ_OCTETS: usize = radius_wire::PACKET_OCTETS_MAX;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnd {
    #[error("the other side closed it")]
    Closed,
    #[error(transparent)]
    Broken(#[from] radius_wire::BrokenStream),
    #[error("a packet began and did not end in time")]
    Slow,
    #[error("it failed")]
    Failed(#[from] io::Error),
}

/// The reading side.
pub(crate) struct Packets<R> {
    from: R,
    stream: PacketStream,
    buffer: Box<[u8]>,
    /// Of the buffer, what was read and is in no packet yet.
    unread: Range<usize>,
    /// When the packet that has begun must be here.
    due: Option<Instant>,
}

impl<R: AsyncRead + Unpin> Packets<R> {
    pub(crate) fn new(from: R) -> Self {
        let buffer = vec![0; READ_OCTETS].into_boxed_slice();
        Self { from, stream: PacketStream::default(), buffer, unread: 0..0, due: None }
    }

    /// The next packet. May be dropped at any await: what was read stays here.
    pub(crate) async fn next(&mut self) -> Result<Box<[u8]>, StreamEnd> {
        loop {
            let mut input = &self.buffer[self.unread.clone()];
            let packet = self.stream.next(&mut input)?.map(Box::from);
            self.unread.start = self.unread.end - input.len();
            if let Some(packet) = packet {
                self.due = None;
                return Ok(packet);
            }
            if self.stream.is_inside_packet() {
                self.due.get_or_insert_with(|| Instant::now() + PATIENCE);
            }
            let reading = self.from.read(&mut self.buffer);
            let octets = match self.due {
                Some(due) => timeout_at(due, reading).await.map_err(|_| StreamEnd::Slow)?,
                None => reading.await,
            };
            self.unread = match octets {
                Ok(0) => return Err(StreamEnd::Closed),
                Ok(octets) => 0..octets,
                // Many close the connection and say nothing to TLS.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(StreamEnd::Closed),
                Err(error) => return Err(error.into()),
            };
        }
    }
}

/// What waits to be written. Clones fill the same queue; it ends when the last of them is dropped.
#[derive(Clone)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Arc<[u8]>>,
    full: CancellationToken,
}

/// The writing side's end of the queue.
pub(crate) struct Waiting {
    queue: mpsc::Receiver<Arc<[u8]>>,
    full: CancellationToken,
}

pub(crate) fn outbox() -> (Outbox, Waiting) {
    let (sender, receiver) = mpsc::channel(QUEUE_PACKETS);
    let full = CancellationToken::new();
    (Outbox { queue: sender, full: full.clone() }, Waiting { queue: receiver, full })
}

impl Outbox {
    /// False where the connection is gone. Where the queue is full, it will be: who does not read is let go.
    pub(crate) fn put(&self, octets: Arc<[u8]>) -> bool {
        let put = self.queue.try_send(octets);
        if matches!(put, Err(mpsc::error::TrySendError::Full(_))) {
            self.full.cancel();
        }
        put.is_ok()
    }
}

impl Waiting {
    /// Writes until nobody can put in anything more, or the other side takes nothing.
    pub(crate) async fn write_to(mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let slow = || io::Error::new(io::ErrorKind::TimedOut, "the other side does not read");
        loop {
            // Cancel safety: a packet that was taken out is written, or the connection is over.
            let octets = tokio::select! {
                biased;
                () = self.full.cancelled() => return Err(slow()),
                octets = self.queue.recv() => octets,
            };
            let Some(octets) = octets else { return to.shutdown().await };
            let writing = async {
                to.write_all(&octets).await?;
                to.flush().await
            };
            tokio::select! {
                written = timeout(PATIENCE, writing) => written.map_err(|_| slow())??,
                () = self.full.cancelled() => return Err(slow()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    fn packet(length: u16) -> Vec<u8> {
        let mut octets = vec![1; length.into()];
        octets[2..4].copy_from_slice(&length.to_be_bytes());
        octets
    }

    #[tokio::test(start_paused = true)]
    async fn a_packet_has_ten_seconds_from_its_first_octet_and_a_quiet_connection_has_all_the_time() {
        // R-91, B-34: one octet every five seconds
        let (mut peer, ours) = duplex(8_192);
        let mut packets = Packets::new(ours);
        peer.write_all(&[packet(20), packet(30)[..1].to_vec()].concat()).await.expect("room");
        assert_eq!(packets.next().await.expect("whole").len(), 20);
        let begun = Instant::now();
        let feeding = async {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(5)).await;
                peer.write_all(&[0]).await.expect("room");
            }
        };
        let mut feeding = std::pin::pin!(feeding);
        let end = loop {
            tokio::select! { () = &mut feeding => {}, end = packets.next() => break end }
        };
        assert!(matches!(end, Err(StreamEnd::Slow)));
        assert_eq!(begun.elapsed(), PATIENCE);

        let (mut peer, ours) = duplex(8_192);
        let mut packets = Packets::new(ours);
        let quiet = timeout(Duration::from_secs(3_600), packets.next()).await;
        assert!(quiet.is_err(), "it idles");
        peer.write_all(&packet(20)).await.expect("room");
        assert_eq!(packets.next().await.expect("whole").len(), 20);
        drop(peer);
        assert!(matches!(packets.next().await, Err(StreamEnd::Closed)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_let_go_and_who_reads_gets_all_of_it() {
        let (mut peer, mut ours) = duplex(100);
        let (outbox, waiting) = outbox();
        let begun = Instant::now();
        assert!(outbox.put(packet(4_096).as_slice().into()));
        let stuck = waiting.write_to(&mut ours).await.expect_err("nobody reads");
        assert_eq!((stuck.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, PATIENCE));
        assert!(!outbox.put(packet(20).as_slice().into()), "the connection is gone");
        drop(ours);
        peer.read_to_end(&mut Vec::new()).await.expect("it ends");

        let (mut peer, mut ours) = duplex(100);
        let (outbox, waiting) = super::outbox();
        for _ in 0..QUEUE_PACKETS {
            assert!(outbox.put(packet(20).as_slice().into()));
        }
        let more = outbox.clone();
        let writing = tokio::spawn(async move { waiting.write_to(&mut ours).await });
        drop(outbox);
        let mut read = vec![0; QUEUE_PACKETS * 20];
        peer.read_exact(&mut read).await.expect("all of it");
        assert!(!writing.is_finished(), "somebody may have more");
        drop(more);
        writing.await.expect("no panic").expect("it ends well");

        let (_peer, mut ours) = duplex(100);
        let (outbox, waiting) = super::outbox();
        while outbox.put(packet(20).as_slice().into()) {}
        let begun = Instant::now();
        waiting.write_to(&mut ours).await.expect_err("the queue was full");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
