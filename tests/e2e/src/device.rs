//! A device that speaks RADIUS octet by octet: a VPN gateway that signs, retransmits, and tells the answers apart.

use anyhow::{Context, Result, bail, ensure};
use radius_wire::{
    Attribute, AttributeType, Code, Packet, Port, Request, RequestCode, Rule, Secret, Sent, verify_reply,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{net::UdpSocket, time::timeout};

/// How long a device waits for an answer before it sends again.
const RETRY: Duration = Duration::from_secs(2);
/// How often. A busy machine may keep many waiting at once.
const SENDS: usize = 15;

#[derive(Clone)]
pub struct Device {
    from: IpAddr,
    server: SocketAddr,
    secret: Arc<Secret>,
    calling_station: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Accept,
    Reject,
    /// With its State.
    Challenge(Vec<u8>),
    Silence,
}

impl Device {
    pub fn new(from: IpAddr, port: u16, secret: &str) -> Result<Self> {
        let secret = Secret::new(secret.as_bytes().to_vec()).context("a shared secret")?;
        Ok(Self {
            from,
            server: SocketAddr::new([127, 0, 0, 1].into(), port),
            secret: Arc::new(secret),
            calling_station: String::new(),
        })
    }

    /// The same device, asking another server.
    pub fn at(&self, port: u16) -> Self {
        Self { server: SocketAddr::new(self.server.ip(), port), ..self.clone() }
    }

    /// The same device, with somebody else at its other end.
    pub fn called_from(&self, calling_station: &str) -> Self {
        Self { calling_station: calling_station.into(), ..self.clone() }
    }

    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Somebody logs in; sent again and again, as a device would.
    pub async fn login(&self, user: &str, password: &str) -> Result<Answer> {
        self.exchange(user, password, None).await?.answer(SENDS).await
    }

    /// Somebody logs in, or answers with the State of a challenge, and is asked: the State of that, and what it shows.
    pub async fn asked(&self, user: &str, typed: &str, state: Option<&[u8]>) -> Result<(Vec<u8>, String)> {
        let exchange = self.exchange(user, typed, state).await?;
        exchange.send().await?;
        let octets = exchange.receive(Duration::from_secs(30)).await?.context("no answer")?;
        let answer = exchange.read(&octets)?;
        let Answer::Challenge(state) = answer else { bail!("{answer:?} in the place of a challenge") };
        let packet = Packet::parse(&octets, Port::AuthenticationReplies).context("a packet")?;
        let text = packet.first(AttributeType::REPLY_MESSAGE).context("nothing to show")?;
        Ok((state, String::from_utf8_lossy(text).into_owned()))
    }

    /// The first round of a login that shows a number of two digits: the challenge's State, and the number.
    pub async fn number_shown(&self, user: &str, password: &str) -> Result<(Vec<u8>, String)> {
        let (state, text) = self.asked(user, password, None).await?;
        let number = text.split(|sign: char| !sign.is_ascii_digit()).find(|word| word.len() == 2);
        Ok((state, number.with_context(|| format!("no number in {text:?}"))?.to_owned()))
    }

    /// The answer to a challenge.
    pub async fn respond(&self, user: &str, code: &str, state: &[u8]) -> Result<Answer> {
        self.exchange(user, code, Some(state)).await?.answer(SENDS).await
    }

    /// A signed Access-Request that is ready to be sent, from a port of its own.
    pub async fn exchange(&self, user: &str, password: &str, state: Option<&[u8]>) -> Result<Exchange> {
        let mut attributes = vec![
            Attribute { kind: AttributeType::USER_NAME, value: user.as_bytes() },
            Attribute { kind: AttributeType::NAS_IDENTIFIER, value: b"device" },
        ];
        let station = self.calling_station.as_bytes();
        if !station.is_empty() {
            attributes.push(Attribute { kind: AttributeType::CALLING_STATION_ID, value: station });
        }
        attributes.extend(state.map(|value| Attribute { kind: AttributeType::STATE, value }));
        self.request(RequestCode::AccessRequest, &attributes, Some(password)).await
    }

    pub async fn status(&self) -> Result<Exchange> {
        self.request(RequestCode::StatusServer, &[], None).await
    }

    async fn request(
        &self,
        code: RequestCode,
        attributes: &[Attribute<'_>],
        password: Option<&str>,
    ) -> Result<Exchange> {
        let mut authenticator = [0; 16];
        getrandom::fill(&mut authenticator).context("randomness")?;
        let request = Request { code, identifier: authenticator[0], authenticator, attributes, password };
        let octets = request.write(&self.secret)?;
        let socket = UdpSocket::bind(SocketAddr::new(self.from, 0)).await?;
        Ok(Exchange { socket, device: self.clone(), octets, sent: request.sent() })
    }
}

/// One request on its way.
pub struct Exchange {
    socket: UdpSocket,
    device: Device,
    pub octets: Vec<u8>,
    sent: Sent,
}

impl Exchange {
    /// Takes the Message-Authenticator away, as devices send it that know nothing of it. It is always the first.
    pub fn unsigned(mut self) -> Result<Self> {
        ensure!(self.octets.get(20..22) == Some(&[80, 18]), "the signature is not where it belongs");
        self.octets.drain(20..38);
        let length = u16::try_from(self.octets.len())?;
        self.octets[2..4].copy_from_slice(&length.to_be_bytes());
        Ok(self)
    }

    pub async fn send(&self) -> Result<()> {
        self.send_to(self.device.server).await
    }

    pub async fn send_to(&self, server: SocketAddr) -> Result<()> {
        self.socket.send_to(&self.octets, server).await?;
        Ok(())
    }

    /// The octets of the reply to a copy at this gateway, sent again as devices do: the first copy may be faster than the news that
    /// there is an answer.
    pub async fn again_at(&self, server: SocketAddr) -> Result<Vec<u8>> {
        for _ in 0..20 {
            self.send_to(server).await?;
            if let Some(octets) = self.receive(Duration::from_millis(500)).await? {
                return Ok(octets);
            }
        }
        bail!("{server} does not answer a copy")
    }

    /// The octets of the next reply, whatever they are.
    pub async fn receive(&self, wait: Duration) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 4096];
        match timeout(wait, self.socket.recv_from(&mut buffer)).await {
            Err(_) => Ok(None),
            Ok(received) => {
                buffer.truncate(received?.0);
                Ok(Some(buffer))
            }
        }
    }

    /// Sends up to so many times; the first answer, which must be genuine and signed.
    pub async fn answer(&self, sends: usize) -> Result<Answer> {
        for _ in 0..sends {
            self.send().await?;
            if let Some(octets) = self.receive(RETRY).await? {
                return self.read(&octets);
            }
        }
        Ok(Answer::Silence)
    }

    pub fn read(&self, octets: &[u8]) -> Result<Answer> {
        let packet = Packet::parse(octets, Port::AuthenticationReplies).context("a reply that is no packet")?;
        verify_reply(&packet, &self.sent, &self.device.secret, Rule::Yes).context("a forged reply")?;
        // Message-Authenticator is the first attribute of everything sent.
        ensure!(octets.get(20..22) == Some(&[80, 18]), "the reply does not begin with its signature");
        Ok(match packet.code() {
            Code::AccessAccept => Answer::Accept,
            Code::AccessReject => Answer::Reject,
            Code::AccessChallenge => {
                let state = packet.first(AttributeType::STATE).context("a challenge without State")?;
                Answer::Challenge(state.to_vec())
            }
            other => bail!("{other:?} as an answer"),
        })
    }
}
