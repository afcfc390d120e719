//! A home server that answers as its script says, and remembers what it was sent.

use radius_wire::{Code, Datagram, Packet, Port, Reply, Rule, Rules, Secret, Verified, verify_request};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

pub const HOME_SECRET: &str = "shared-with-the-home-server";

/// What to send back, in octets.
pub type Script = dyn Fn(&Verified<'_>) -> Vec<Vec<u8>> + Send + Sync;

pub struct FakeHome {
    pub address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    seen: Mutex<Vec<Vec<u8>>>,
    probes: Mutex<Vec<Vec<u8>>>,
    script: Mutex<Arc<Script>>,
}

impl FakeHome {
    /// Says nothing until it is told what to say.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let silent: Arc<Script> = Arc::new(|_| Vec::new());
        let state = Arc::new(State { seen: Mutex::default(), probes: Mutex::default(), script: Mutex::new(silent) });
        let serving = tokio::spawn(serve(socket, state.clone()));
        Self { address, state, serving }
    }

    pub fn says(&self, script: impl Fn(&Verified<'_>) -> Vec<Vec<u8>> + Send + Sync + 'static) {
        *self.state.script.lock().expect("no panic while held") = Arc::new(script);
    }

    /// Every request as it came, probes apart. Each was signed with Message-Authenticator first.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.state.seen.lock().expect("no panic while held").clone()
    }

    /// Every Status-Server as it came.
    pub fn probes(&self) -> Vec<Vec<u8>> {
        self.state.probes.lock().expect("no panic while held").clone()
    }

    /// As a server that was switched off.
    pub fn stop(&self) {
        self.serving.abort();
    }
}

impl Drop for FakeHome {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(socket: UdpSocket, state: Arc<State>) {
    let secret = secret();
    let rules = Rules { message_authenticator: Rule::Yes, limit_proxy_state: Rule::Yes };
    let mut buffer = vec![0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.expect("loopback");
        let datagram = Datagram::new(&buffer[..length]).expect("a header");
        let packet = datagram.packet(Port::Authentication, 200).expect("well formed");
        assert_eq!(buffer[20..22], [80, 18], "R-11: Message-Authenticator comes first");
        let verified = verify_request(packet, (&secret).into(), rules).expect("genuine");
        let replies = match packet.code() {
            Code::StatusServer => {
                state.probes.lock().expect("no panic while held").push(packet.octets().to_vec());
                vec![Reply::Alive.write(&verified).expect("it fits")]
            }
            _ => {
                state.seen.lock().expect("no panic while held").push(packet.octets().to_vec());
                let script = state.script.lock().expect("no panic while held").clone();
                script(&verified)
            }
        };
        for reply in replies {
            socket.send_to(&reply, from).await.expect("loopback");
        }
    }
}

pub fn secret() -> Secret {
    Secret::new(HOME_SECRET).expect("not empty")
}

/// The request with the given number, parsed.
pub fn parsed(octets: &[u8]) -> Packet<'_> {
    Packet::parse(octets, Port::Authentication).expect("well formed")
}
