//! Somebody between us and a server.

use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes octets on, remembers them, and changes one of those that the server sends if told to.
pub struct Relay {
    pub url: String,
    pub seen: Arc<Mutex<Vec<u8>>>,
    pub tampers: Arc<AtomicBool>,
}

impl Relay {
    pub async fn start(to: SocketAddr) -> Result<Self> {
        Self::start_at(([127, 0, 0, 1], 0).into(), to).await
    }

    pub async fn start_at(at: SocketAddr, to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(at).await?;
        let url = format!("ldap://{}", listener.local_addr()?);
        let (seen, tampers) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (noted, tamper) = (Arc::clone(&seen), Arc::clone(&tampers));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(to).await else { return };
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near_in, far_out, Arc::clone(&noted), Arc::default()));
                tokio::spawn(pass(far_in, near_out, Arc::clone(&noted), Arc::clone(&tamper)));
            }
        });
        Ok(Self { url, seen, tampers })
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    seen: Arc<Mutex<Vec<u8>>>,
    tamper: Arc<AtomicBool>,
) -> Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        ensure!(count > 0, "ended");
        if tamper.load(Ordering::Relaxed) {
            buffer[count - 1] ^= 1;
        }
        seen.lock().expect("not poisoned").extend_from_slice(&buffer[..count]);
        to.write_all(&buffer[..count]).await?;
    }
}
