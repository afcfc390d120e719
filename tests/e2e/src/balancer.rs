//! A load balancer for UDP without affinity: each packet goes to any of its servers, and everything that passes is kept.
//!
//! ```text
//! device:port ──> balancer ──> any server       each device's port has one of its own toward the servers,
//!             <──          <── whoever answers  at the device's address or at one address for all
//! ```

use anyhow::{Context, Result};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    net::UdpSocket,
    task::{JoinHandle, JoinSet},
};

pub struct Balancer {
    address: SocketAddr,
    desk: Arc<Desk>,
    work: JoinHandle<()>,
}

/// A packet on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    pub server: SocketAddr,
    /// From the server to the device.
    pub reply: bool,
    pub octets: Vec<u8>,
}

struct Desk {
    listener: UdpSocket,
    seen_as: Option<IpAddr>,
    servers: Mutex<Vec<SocketAddr>>,
    captured: Mutex<Vec<Captured>>,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Balancer {
    /// The servers see the devices' addresses, or this one.
    pub async fn start(seen_as: Option<IpAddr>, servers: &[SocketAddr]) -> Result<Self> {
        let listener = UdpSocket::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (servers, captured) = (Mutex::new(servers.to_vec()), Mutex::default());
        let desk = Arc::new(Desk { listener, seen_as, servers, captured });
        let work = tokio::spawn(desk.clone().balance());
        Ok(Self { address, desk, work })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where packets go from now on.
    pub fn set_servers(&self, servers: &[SocketAddr]) {
        *locked(&self.desk.servers) = servers.to_vec();
    }

    /// Everything so far, in order.
    pub fn captured(&self) -> Vec<Captured> {
        locked(&self.desk.captured).clone()
    }

    /// What the servers sent.
    pub fn replies(&self) -> Vec<Captured> {
        self.captured().into_iter().filter(|packet| packet.reply).collect()
    }
}

impl Desk {
    async fn balance(self: Arc<Self>) {
        let mut devices: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut backwards = JoinSet::new();
        let mut buffer = vec![0; 4096];
        while let Ok((length, device)) = self.listener.recv_from(&mut buffer).await {
            let octets = &buffer[..length];
            let socket = match devices.get(&device) {
                Some(socket) => socket.clone(),
                None => {
                    let Ok(socket) = UdpSocket::bind((self.seen_as.unwrap_or(device.ip()), 0)).await else { continue };
                    let socket = Arc::new(socket);
                    devices.insert(device, socket.clone());
                    backwards.spawn(self.clone().back(socket.clone(), device));
                    socket
                }
            };
            let Ok(server) = self.any() else { continue };
            self.keep(server, false, octets);
            let _ = socket.send_to(octets, server).await;
        }
    }

    async fn back(self: Arc<Self>, socket: Arc<UdpSocket>, device: SocketAddr) {
        let mut buffer = vec![0; 4096];
        loop {
            // A port where nobody listens is reported here; the packet is lost, as on any network.
            let Ok((length, server)) = socket.recv_from(&mut buffer).await else { continue };
            self.keep(server, true, &buffer[..length]);
            let _ = self.listener.send_to(&buffer[..length], device).await;
        }
    }

    fn any(&self) -> Result<SocketAddr> {
        let mut random = [0; 4];
        getrandom::fill(&mut random).context("randomness")?;
        let servers = locked(&self.servers);
        let number = u32::from_ne_bytes(random) as usize % servers.len().max(1);
        servers.get(number).copied().context("no server")
    }

    fn keep(&self, server: SocketAddr, reply: bool, octets: &[u8]) {
        locked(&self.captured).push(Captured { server, reply, octets: octets.to_vec() });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
