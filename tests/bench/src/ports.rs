//! Devices that share few sockets: each request has a port and an identifier of its own while it waits, and many thousands may wait at
//! once without a file for each.

use anyhow::{Context, Result};
use radius_wire::{Attribute, Code, Packet, Port as Kind, Request, RequestCode, Rule, Secret, Sent};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet, time::timeout};

/// Of one port.
const IDENTIFIERS: usize = 256;

pub struct Ports {
    secret: Secret,
    ports: Vec<Arc<Port>>,
    /// Who has waited longest is used next: what comes late for the request before finds nobody.
    free: Mutex<VecDeque<(usize, u8)>>,
    /// One for each port. They end with it.
    _readers: JoinSet<()>,
}

struct Port {
    socket: UdpSocket,
    /// Who waits for a reply, by its identifier.
    waiting: Mutex<HashMap<u8, mpsc::UnboundedSender<Vec<u8>>>>,
}

/// How often a device sends a request, and how long it waits each time.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub times: u32,
    pub each: Duration,
}

impl Patience {
    pub const USUAL: Self = Self { times: 5, each: Duration::from_secs(2) };

    pub fn whole(self) -> Duration {
        self.each * self.times
    }
}

impl Ports {
    /// With room for so many requests at once.
    pub async fn new(server: SocketAddr, secret: &[u8], at_once: usize) -> Result<Self> {
        let (mut ports, mut readers, mut free) = (Vec::new(), JoinSet::new(), VecDeque::new());
        for number in 0..at_once.div_ceil(IDENTIFIERS) {
            let socket = UdpSocket::bind("127.0.0.1:0").await?;
            socket.connect(server).await?;
            let port = Arc::new(Port { socket, waiting: Mutex::default() });
            readers.spawn(read(port.clone()));
            ports.push(port);
            free.extend((0..=u8::MAX).map(|identifier| (number, identifier)));
        }
        let secret = Secret::new(secret).context("the shared secret is empty")?;
        Ok(Self { secret, ports, free: Mutex::new(free), _readers: readers })
    }

    /// Sends until a genuine reply is there, as long as patience lasts. Returns the whole reply.
    pub async fn ask(
        &self,
        code: RequestCode,
        attributes: &[Attribute<'_>],
        password: Option<&str>,
        patience: Patience,
    ) -> Option<Vec<u8>> {
        let (number, identifier) = locked(&self.free).pop_front()?;
        let port = &self.ports[number];
        let (sender, mut replies) = mpsc::unbounded_channel();
        locked(&port.waiting).insert(identifier, sender);
        let mut authenticator = [0; 16];
        let written = getrandom::fill(&mut authenticator).ok().and_then(|()| {
            let request = Request { code, identifier, authenticator, attributes, password };
            Some((request.write(&self.secret).ok()?, request.sent()))
        });
        let reply = match &written {
            Some((octets, sent)) => self.reply(port, octets, sent, &mut replies, patience).await,
            None => None,
        };
        locked(&port.waiting).remove(&identifier);
        locked(&self.free).push_back((number, identifier));
        reply
    }

    async fn reply(
        &self,
        port: &Port,
        octets: &[u8],
        sent: &Sent,
        replies: &mut mpsc::UnboundedReceiver<Vec<u8>>,
        patience: Patience,
    ) -> Option<Vec<u8>> {
        for _ in 0..patience.times {
            // What the kernel says here is of a datagram before: nobody listened then.
            let _ = port.socket.send(octets).await;
            let genuine = async {
                loop {
                    let reply = replies.recv().await?;
                    if is_genuine(&reply, sent, &self.secret) {
                        return Some(reply);
                    }
                }
            };
            if let Ok(reply) = timeout(patience.each, genuine).await {
                return reply;
            }
        }
        None
    }
}

async fn read(port: Arc<Port>) {
    let mut buffer = [0; 4096];
    loop {
        // An error is of what was sent before, when nobody listened.
        let Ok(length) = port.socket.recv(&mut buffer).await else { continue };
        let waiting = buffer.get(1).and_then(|identifier| locked(&port.waiting).get(identifier).cloned());
        if let Some(waiting) = waiting {
            let _ = waiting.send(buffer[..length].to_vec());
        }
    }
}

fn is_genuine(reply: &[u8], sent: &Sent, secret: &Secret) -> bool {
    Packet::parse(reply, Kind::AuthenticationReplies)
        .is_ok_and(|packet| radius_wire::verify_reply(&packet, sent, secret, Rule::Yes).is_ok())
}

/// What a reply says.
pub fn code_of(reply: &[u8]) -> Option<Code> {
    Some(Packet::parse(reply, Kind::AuthenticationReplies).ok()?.code())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
