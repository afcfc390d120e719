//! Somebody between the sync and a directory who hangs up after so many messages of the directory.

use anyhow::Result;
use bytes::BytesMut;
use ldap_wire::extended::IntermediateResponse;
use ldap_wire::frame::{Framer, Limits, Peer};
use ldap_wire::{Message, Op, SyncInfo};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

/// In clear text: it counts messages, not octets.
pub struct Cutter {
    port: u16,
    left: Arc<Mutex<Left>>,
}

/// Messages of a directory, as far as cuts tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    Nothing,
    Entry,
    /// Ids of a refresh (RFC 4533 section 2.5).
    IdSet,
    /// Else of a refresh.
    Info,
    End,
    Other,
}

impl Said {
    fn of(message: &Message) -> Self {
        match message.op() {
            Op::SearchResultEntry => Self::Entry,
            Op::SearchResultDone => Self::End,
            Op::IntermediateResponse => {
                let info = IntermediateResponse::decode(message).and_then(|response| SyncInfo::of(&response));
                if matches!(info, Ok(Some(SyncInfo::IdSet { .. }))) { Self::IdSet } else { Self::Info }
            }
            _ => Self::Other,
        }
    }
}

/// What the directory may still send, on all connections together.
struct Left {
    messages: usize,
    /// The ends of searches.
    answers: usize,
    /// Of those where a cut may tell something ([`Left::is_place`]).
    places: usize,
    last: Said,
    /// How many like the last one came in a row.
    row: usize,
    /// Before and after where it hung up.
    cut: Option<[Said; 2]>,
}

impl Left {
    const ALL: Self =
        Self { messages: usize::MAX, answers: usize::MAX, places: usize::MAX, last: Said::Nothing, row: 0, cut: None };

    /// After the first that it may not send nothing is said any more.
    fn takes(&mut self, message: &Message) -> bool {
        if self.cut.is_some() {
            return false;
        }
        let (said, before) = (Said::of(message), self.last);
        self.row = if said == before { self.row + 1 } else { 1 };
        self.last = said;
        let (is_end, is_place) = (said == Said::End, self.is_place());
        if self.messages == 0 || self.answers == 0 || is_place && self.places == 0 {
            self.cut = Some([before, said]);
            return false;
        }
        self.messages -= 1;
        self.answers -= usize::from(is_end);
        self.places -= usize::from(is_place);
        true
    }

    /// Where one kind of message follows another, among the first that are alike, and now and then in many of them; and at each set of
    /// ids, which stands for hundreds.
    fn is_place(&self) -> bool {
        self.last == Said::IdSet || self.row <= 4 || self.row.is_multiple_of(100)
    }
}

impl Cutter {
    pub async fn before(directory: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let cutter = Self { port: listener.local_addr()?.port(), left: Arc::new(Mutex::new(Left::ALL)) };
        let left = Arc::clone(&cutter.left);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let left = Arc::clone(&left);
                tokio::spawn(async move {
                    // Whoever hangs up first ends both.
                    if let Ok(far) = TcpStream::connect(directory).await {
                        let _ = pass(near, far, &left).await;
                    }
                });
            }
        });
        Ok(cutter)
    }

    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// From now on so many, then every connection ends.
    pub fn after(&self, messages: usize) {
        *self.left() = Left { messages, ..Left::ALL };
    }

    /// From now on so many searches are answered to their end, and nothing more.
    pub fn after_answers(&self, answers: usize) {
        *self.left() = Left { answers, ..Left::ALL };
    }

    /// From now on all before the next place but so many ([`Left::is_place`]).
    pub fn after_places(&self, places: usize) {
        *self.left() = Left { places, ..Left::ALL };
    }

    pub fn never(&self) {
        *self.left() = Left::ALL;
    }

    /// Did it hang up on anybody since?
    pub fn has_cut(&self) -> bool {
        self.cut().is_some()
    }

    /// Between what.
    pub fn cut(&self) -> Option<[Said; 2]> {
        self.left().cut
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().expect("no panic")
    }
}

async fn pass(near: TcpStream, far: TcpStream, left: &Mutex<Left>) -> Result<()> {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let up = async { copy(&mut near_in, &mut far_out).await.map(drop).map_err(anyhow::Error::from) };
    let down = async {
        let (framer, mut buffer) = (Framer::new(Peer::Server, Limits::UPSTREAM), BytesMut::new());
        while far_in.read_buf(&mut buffer).await? > 0 {
            while let Some(message) = framer.next_message(&mut buffer)? {
                if !left.lock().expect("no panic").takes(&message) {
                    return Ok(());
                }
                near_out.write_all(message.octets()).await?;
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}
