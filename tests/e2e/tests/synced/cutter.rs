//! Somebody between the sync and a directory who hangs up after so many messages of the directory.

use anyhow::Result;
use bytes::BytesMut;
use ldap_wire::frame::{Framer, Limits, Peer};
use ldap_wire::{Message, Op};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

/// In clear text: it counts messages, not octets.
pub struct Cutter {
    port: u16,
    left: Arc<Left>,
}

/// What the directory may still send, on all connections together. Below zero, it wanted to send one more.
struct Left {
    messages: AtomicI64,
    /// The ends of searches.
    answers: AtomicI64,
}

impl Left {
    fn takes(&self, message: &Message) -> bool {
        let is_end = message.op() == Op::SearchResultDone;
        let ends = !is_end && self.answers.load(Ordering::SeqCst) <= 0;
        // After the last of them nothing is said any more.
        if ends || is_end && self.answers.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.answers.store(-1, Ordering::SeqCst);
            return false;
        }
        self.messages.fetch_sub(1, Ordering::SeqCst) > 0
    }
}

impl Cutter {
    pub async fn before(directory: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let left = Left { messages: AtomicI64::new(i64::MAX), answers: AtomicI64::new(i64::MAX) };
        let cutter = Self { port: listener.local_addr()?.port(), left: Arc::new(left) };
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
    pub fn after(&self, messages: i64) {
        self.left.messages.store(messages, Ordering::SeqCst);
    }

    /// From now on so many searches are answered to their end, and nothing more.
    pub fn after_answers(&self, answers: i64) {
        self.left.answers.store(answers, Ordering::SeqCst);
    }

    pub fn never(&self) {
        self.after(i64::MAX);
        self.after_answers(i64::MAX);
    }

    /// Did it hang up on anybody since?
    pub fn has_cut(&self) -> bool {
        self.left.messages.load(Ordering::SeqCst) < 0 || self.left.answers.load(Ordering::SeqCst) < 0
    }
}

async fn pass(near: TcpStream, far: TcpStream, left: &Left) -> Result<()> {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let up = async { copy(&mut near_in, &mut far_out).await.map(drop).map_err(anyhow::Error::from) };
    let down = async {
        let (framer, mut buffer) = (Framer::new(Peer::Server, Limits::UPSTREAM), BytesMut::new());
        while far_in.read_buf(&mut buffer).await? > 0 {
            while let Some(message) = framer.next_message(&mut buffer)? {
                if !left.takes(&message) {
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
