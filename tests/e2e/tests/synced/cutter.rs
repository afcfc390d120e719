//! Somebody between the sync and a directory who hangs up after so many messages of the directory.

use anyhow::Result;
use bytes::BytesMut;
use ldap_wire::frame::{Framer, Limits, Peer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};

/// In clear text: it counts messages, not octets.
pub struct Cutter {
    port: u16,
    /// Messages that the directory may still send, on all connections together. Below zero, it wanted to send one more.
    left: Arc<AtomicI64>,
}

impl Cutter {
    pub async fn before(directory: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let cutter = Self { port: listener.local_addr()?.port(), left: Arc::new(AtomicI64::new(i64::MAX)) };
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
        self.left.store(messages, Ordering::SeqCst);
    }

    pub fn never(&self) {
        self.after(i64::MAX);
    }

    /// Did it hang up on anybody since?
    pub fn has_cut(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }
}

async fn pass(near: TcpStream, far: TcpStream, left: &AtomicI64) -> Result<()> {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let up = async { copy(&mut near_in, &mut far_out).await.map(drop).map_err(anyhow::Error::from) };
    let down = async {
        let (framer, mut buffer) = (Framer::new(Peer::Server, Limits::UPSTREAM), BytesMut::new());
        while far_in.read_buf(&mut buffer).await? > 0 {
            while let Some(message) = framer.next_message(&mut buffer)? {
                if left.fetch_sub(1, Ordering::SeqCst) <= 0 {
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
