//! A device that asks by RADIUS: it signs, hides, repeats, and checks every answer it gets.

use radius_wire::{
    Attribute, AttributeType, Code, Packet, Port, Request, RequestCode, Rule, Secret, Sent, verify_reply,
};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::UdpSocket;

/// Nothing of the gateway takes longer in these tests.
const PATIENCE: Duration = Duration::from_secs(8);
/// Longer than the reject delay, so that a Reject would have come.
const SILENCE: Duration = Duration::from_millis(900);

pub struct Nas {
    socket: UdpSocket,
    pub gateway: SocketAddr,
    secret: Secret,
    identifier: u8,
    /// Answers to other questions than the one that was waited for.
    early: Mutex<Vec<Vec<u8>>>,
}

/// A request as it was sent, and what its answer is checked against.
#[derive(Clone)]
pub struct Question {
    pub octets: Vec<u8>,
    pub sent: Sent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub octets: Vec<u8>,
}

impl Nas {
    /// At an address of its own, which says which client it is.
    pub async fn new(address: &str, gateway: SocketAddr, secret: &str) -> Self {
        let socket = UdpSocket::bind((address, 0)).await.expect("all of 127.0.0.0/8 is ours");
        let secret = Secret::new(secret).expect("not empty");
        Self { socket, gateway, secret, identifier: 0, early: Mutex::default() }
    }

    /// A signed Access-Request with fresh identifier and authenticator.
    pub fn question(&mut self, name: &str, password: &str) -> Question {
        self.with(&[user_name(name)], Some(password))
    }

    pub fn answer_to(&mut self, name: &str, state: &[u8], answer: &str) -> Question {
        self.with(&[user_name(name), attribute(AttributeType::STATE, state)], Some(answer))
    }

    pub fn with(&mut self, attributes: &[Attribute<'_>], password: Option<&str>) -> Question {
        self.code(RequestCode::AccessRequest, attributes, password)
    }

    pub fn status(&mut self) -> Question {
        self.code(RequestCode::StatusServer, &[], None)
    }

    /// An Accounting-Request, signed by its authenticator.
    pub fn report(&mut self, attributes: &[Attribute<'_>]) -> Question {
        let question = self.code(RequestCode::AccountingRequest, attributes, None);
        Question { sent: Sent::of(&question.octets).expect("a packet"), ..question }
    }

    fn code(&mut self, code: RequestCode, attributes: &[Attribute<'_>], password: Option<&str>) -> Question {
        self.identifier = self.identifier.wrapping_add(1);
        let mut authenticator = [0; 16];
        getrandom::fill(&mut authenticator).expect("random octets");
        let request = Request { code, identifier: self.identifier, authenticator, attributes, password };
        Question { octets: request.write(&self.secret).expect("it fits"), sent: request.sent() }
    }

    /// From the next port on, as devices do that change it.
    pub async fn change_port(&mut self) {
        let address = self.socket.local_addr().expect("it is bound").ip();
        self.socket = UdpSocket::bind((address, 0)).await.expect("a free port");
    }

    /// The same identifier for the next question.
    pub fn repeat_identifier(&mut self) {
        self.identifier = self.identifier.wrapping_sub(1);
    }

    pub async fn send(&self, octets: &[u8]) {
        self.socket.send_to(octets, self.gateway).await.expect("loopback");
    }

    /// The answer, after every check a device makes.
    pub async fn ask(&self, question: &Question) -> Answer {
        self.send(&question.octets).await;
        self.hear(question).await
    }

    pub async fn hear(&self, question: &Question) -> Answer {
        self.hear_within(question, PATIENCE).await
    }

    /// What came from the accounting port: signed by its authenticator, and to Status-Server by Message-Authenticator, too.
    pub async fn hear_accounting(&self, question: &Question) -> Answer {
        let octets = self.next_for(question.sent.identifier, PATIENCE).await;
        let packet = Packet::parse(&octets, Port::AccountingReplies).expect("a well-formed answer");
        verify_reply(&packet, &question.sent, &self.secret, Rule::Yes).expect("a genuine answer to this question");
        Answer { octets }
    }

    /// For what takes a client's whole wait.
    pub async fn hear_within(&self, question: &Question, patience: Duration) -> Answer {
        let octets = self.next_for(question.sent.identifier, patience).await;
        assert_eq!(octets[20..22], [80, 18], "R-11: Message-Authenticator comes first");
        let packet = Packet::parse(&octets, Port::AuthenticationReplies).expect("a well-formed answer");
        verify_reply(&packet, &question.sent, &self.secret, Rule::Yes).expect("a genuine answer to this question");
        Answer { octets }
    }

    /// The answer, and a copy of the question whenever none comes for a while: what a full buffer lost is sent again, as devices do.
    pub async fn hear_or_repeat(&self, question: &Question) -> Answer {
        for _ in 0..20 {
            if self.arrived(question.sent.identifier, Duration::from_secs(2)).await {
                break;
            }
            self.send(&question.octets).await;
        }
        self.hear(question).await
    }

    async fn next_for(&self, identifier: u8, patience: Duration) -> Vec<u8> {
        assert!(self.arrived(identifier, patience).await, "no answer in time");
        let mut early = self.early.lock().expect("no panic while held");
        let place = early.iter().position(|octets| octets.get(1) == Some(&identifier)).expect("it arrived");
        early.remove(place)
    }

    /// Whether an answer to it lies here, which may take so long since the last one to anything.
    async fn arrived(&self, identifier: u8, patience: Duration) -> bool {
        let mut buffer = [0; 4096];
        while !self.early.lock().expect("no panic while held").iter().any(|octets| octets.get(1) == Some(&identifier)) {
            let Ok(received) = tokio::time::timeout(patience, self.socket.recv_from(&mut buffer)).await else {
                return false;
            };
            let (length, from) = received.expect("loopback");
            assert_eq!(from, self.gateway, "R-33");
            self.early.lock().expect("no panic while held").push(buffer[..length].to_vec());
        }
        true
    }

    /// Nothing came, for longer than a Reject would have taken.
    pub async fn hears_nothing(&self) {
        assert!(self.early.lock().expect("no panic while held").is_empty());
        let mut buffer = [0; 4096];
        let heard = tokio::time::timeout(SILENCE, self.socket.recv_from(&mut buffer)).await;
        assert!(heard.is_err(), "answered with code {}", buffer[0]);
    }
}

impl Question {
    /// The same without its Message-Authenticator, as old devices send it.
    pub fn unsigned(mut self) -> Self {
        assert_eq!(self.octets[20..22], [80, 18]);
        self.octets.drain(20..38);
        let length = u16::try_from(self.octets.len()).expect("short");
        self.octets[2..4].copy_from_slice(&length.to_be_bytes());
        self
    }
}

impl Question {
    /// The same with these octets in the place of its password, of at most 16: what no text can be. Not signed, so nothing else changes.
    pub fn with_password(mut self, password: &str, octets: &[u8]) -> Self {
        let place = self.octets.windows(2).position(|head| head == [AttributeType::USER_PASSWORD.0, 18]);
        let hidden = &mut self.octets[place.expect("a password of one block") + 2..][..16];
        for (place, octet) in hidden.iter_mut().enumerate() {
            let octet_at = |text: &[u8]| text.get(place).copied().unwrap_or_default();
            *octet ^= octet_at(password.as_bytes()) ^ octet_at(octets);
        }
        self
    }
}

impl Answer {
    pub fn code(&self) -> Code {
        self.packet().code()
    }

    pub fn state(&self) -> Vec<u8> {
        let states = self.all(AttributeType::STATE);
        assert_eq!(states.len(), 1, "exactly one State");
        states[0].clone()
    }

    pub fn message(&self) -> String {
        let messages = self.all(AttributeType::REPLY_MESSAGE);
        messages.iter().map(|message| std::str::from_utf8(message).expect("UTF-8")).collect()
    }

    pub fn all(&self, kind: AttributeType) -> Vec<Vec<u8>> {
        self.packet().all(kind).map(<[u8]>::to_vec).collect()
    }

    pub fn kinds(&self) -> Vec<u8> {
        self.packet().attributes().map(|attribute| attribute.kind.0).collect()
    }

    fn packet(&self) -> Packet<'_> {
        Packet::parse(&self.octets, Port::AuthenticationReplies).expect("parsed before")
    }
}

pub fn attribute(kind: AttributeType, value: &[u8]) -> Attribute<'_> {
    Attribute { kind, value }
}

pub fn user_name(name: &str) -> Attribute<'_> {
    attribute(AttributeType::USER_NAME, name.as_bytes())
}
