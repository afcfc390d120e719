//! Devices that ask by RADIUS, each with the habits of its kind (T-07): how long it waits, what it changes when it asks
//! again, when it goes to the next server, and what it does with a challenge.
//!
//! ```text
//! login -> round -> send, wait, again ... -> next server -> ... -> Accept | Reject | nobody answers
//!            ^--- answer to a challenge ------------------------------'
//! ```

use anyhow::{Context, Result, bail};
use radius_wire::{
    Attribute, AttributeType, Code, Packet, Port, Request, RequestCode, Rule, Secret, Sent, verify_reply,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle, time::Instant};

/// What a device changes when it sends again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Nothing: an exact duplicate (R-30).
    Identical,
    /// The authenticator, under the same Identifier from the same port (R-32).
    NewAuthenticator,
    /// Identifier and authenticator (R-34).
    NewIdentifier,
    /// The port it sends from; the octets stay.
    NewPort,
}

/// What a device does with an Access-Challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenges {
    /// Shows it and sends the answer.
    Answered,
    /// Takes it for an Access-Reject (RFC 2865 section 4.4).
    Rejected,
    /// Throws it away and goes on asking.
    Ignored,
}

/// The habits of a kind of device.
#[derive(Debug, Clone)]
pub struct Profile {
    pub name: &'static str,
    /// Between one copy and the next, and after the last.
    pub interval: Duration,
    /// Copies to one server before the next server is asked.
    pub copies: u32,
    /// When the whole round is given up, whatever is left to try.
    pub gives_up: Duration,
    pub retry: Retry,
    /// Sends a Message-Authenticator.
    pub signs: bool,
    /// Believes no reply without one.
    pub demands_signature: bool,
    /// As a proxy before it would add it.
    pub proxy_state: bool,
    pub challenges: Challenges,
    pub calling_station: Option<String>,
}

impl Profile {
    const CALLING_STATION: &str = "203.0.113.77";

    const fn usual(name: &'static str, interval_seconds: u64, copies: u32) -> Self {
        Self {
            name,
            interval: Duration::from_secs(interval_seconds),
            copies,
            gives_up: Duration::from_secs(300),
            retry: Retry::Identical,
            signs: true,
            demands_signature: false,
            proxy_state: false,
            challenges: Challenges::Rejected,
            calling_station: None,
        }
    }

    /// Every 5 seconds, then the secondary server.
    pub fn fortigate() -> Self {
        Self { demands_signature: true, challenges: Challenges::Answered, ..Self::usual("FortiGate", 5, 3) }
    }

    /// The client of a person gives up after 12 seconds.
    pub fn asa_12() -> Self {
        let gives_up = Duration::from_secs(12);
        let (retry, challenges) = (Retry::NewIdentifier, Challenges::Answered);
        Self { gives_up, retry, challenges, signs: false, ..Self::usual("ASA, 12 s", 10, 3) }
    }

    /// And a later one after 30.
    pub fn asa_30() -> Self {
        Self { name: "ASA, 30 s", gives_up: Duration::from_secs(30), ..Self::asa_12() }
    }

    pub fn citrix() -> Self {
        let (retry, challenges) = (Retry::NewIdentifier, Challenges::Answered);
        Self { retry, challenges, ..Self::usual("Citrix", 3, 3) }
    }

    pub fn f5() -> Self {
        Self { name: "F5", interval: Duration::from_secs(5), ..Self::citrix() }
    }

    pub fn palo_alto() -> Self {
        Self { name: "Palo Alto", ..Self::citrix() }
    }

    pub fn new_authenticator() -> Self {
        Self { retry: Retry::NewAuthenticator, ..Self::usual("new authenticator on retry", 5, 3) }
    }

    pub fn new_port() -> Self {
        Self { retry: Retry::NewPort, ..Self::usual("new port on retry", 5, 3) }
    }

    pub fn unsigned() -> Self {
        Self { signs: false, ..Self::usual("no Message-Authenticator", 5, 3) }
    }

    pub fn blast() -> Self {
        Self { proxy_state: true, signs: false, ..Self::usual("Proxy-State without Message-Authenticator", 5, 3) }
    }

    pub fn ignores_challenge() -> Self {
        Self { challenges: Challenges::Ignored, ..Self::usual("ignores challenge", 5, 3) }
    }

    /// Every profile, without Calling-Station-Id.
    pub fn all() -> Vec<Self> {
        vec![
            Self::fortigate(),
            Self::asa_12(),
            Self::asa_30(),
            Self::citrix(),
            Self::f5(),
            Self::palo_alto(),
            Self::new_authenticator(),
            Self::new_port(),
            Self::unsigned(),
            Self::blast(),
            Self::ignores_challenge(),
        ]
    }

    /// Says who is at its other end.
    pub fn with_calling_station(self) -> Self {
        self.called_from(Self::CALLING_STATION)
    }

    pub fn called_from(mut self, station: &str) -> Self {
        self.calling_station = Some(station.into());
        self
    }

    /// The same habits, so many times as slow.
    pub fn times_slower(mut self, times: u32) -> Self {
        self.interval *= times;
        self.gives_up *= times;
        self
    }

    /// The same habits, so many times as fast.
    pub fn times_faster(mut self, times: u32) -> Self {
        self.interval /= times;
        self.gives_up /= times;
        self
    }
}

/// A device with a profile, at an address, with a shared secret.
#[derive(Clone)]
pub struct Nas {
    profile: Profile,
    from: IpAddr,
    servers: Vec<SocketAddr>,
    secret: Arc<Secret>,
    more: Vec<(AttributeType, Vec<u8>)>,
}

/// How a login ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Reject,
    /// One it takes for a Reject, or to which there was no answer left.
    Challenge,
    /// Nobody answered as long as it asked.
    Timeout,
}

#[derive(Debug, Clone)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Every datagram that came, in order, also what was not believed and what came for a request given up.
    pub replies: Vec<Reply>,
    /// Every datagram that was sent, in order.
    pub sent: Vec<SentPacket>,
}

#[derive(Debug, Clone)]
pub struct Reply {
    pub from: SocketAddr,
    pub octets: Vec<u8>,
    pub kind: ReplyKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    /// To the request that waited.
    Believed,
    /// Genuine, but another one waits by now.
    Late,
    /// No packet, not signed as it must be, or to nothing that was asked.
    Forged,
}

#[derive(Debug, Clone)]
pub struct SentPacket {
    pub to: SocketAddr,
    pub from_port: u16,
    pub octets: Vec<u8>,
    /// 1 for the password, 2 for the answer to the first challenge ...
    pub round: usize,
}

impl Outcome {
    /// How many packets went to this server.
    pub fn sent_to(&self, server: SocketAddr) -> usize {
        self.sent.iter().filter(|packet| packet.to == server).count()
    }

    pub fn believed(&self) -> impl Iterator<Item = &Reply> {
        self.replies.iter().filter(|reply| reply.kind == ReplyKind::Believed)
    }

    /// The reply that decided.
    pub fn last(&self) -> Option<&Reply> {
        self.believed().last()
    }

    /// How many replies of this Code came, believed or late.
    pub fn genuine(&self, code: Code) -> usize {
        self.replies.iter().filter(|reply| reply.kind != ReplyKind::Forged && reply.code() == Some(code)).count()
    }
}

impl Reply {
    pub fn code(&self) -> Option<Code> {
        Packet::parse(&self.octets, Port::AuthenticationReplies).ok().map(|packet| packet.code())
    }

    /// The values of an attribute, in order.
    pub fn all(&self, kind: AttributeType) -> Vec<Vec<u8>> {
        let packet = Packet::parse(&self.octets, Port::AuthenticationReplies);
        packet.map(|packet| packet.all(kind).map(<[u8]>::to_vec).collect()).unwrap_or_default()
    }
}

impl Nas {
    /// The servers in the order in which they are asked.
    pub fn new(profile: Profile, servers: &[SocketAddr], secret: &str) -> Result<Self> {
        if servers.is_empty() {
            bail!("a device needs a server");
        }
        Ok(Self {
            profile,
            from: Ipv4Addr::LOCALHOST.into(),
            servers: servers.to_vec(),
            secret: Arc::new(Secret::new(secret).context("a shared secret")?),
            more: Vec::new(),
        })
    }

    /// At this address of its own: which client it is.
    pub fn at(mut self, from: IpAddr) -> Self {
        self.from = from;
        self
    }

    /// One more attribute in each request.
    pub fn with(mut self, kind: AttributeType, value: &[u8]) -> Self {
        self.more.push((kind, value.to_vec()));
        self
    }

    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Somebody logs in with a password and has these answers to challenges.
    pub async fn login(&self, name: &str, password: &str, answers: &[&str]) -> Result<Outcome> {
        let mut login = Login {
            nas: self,
            ports: Ports::default(),
            asked: Vec::new(),
            outcome: Outcome { verdict: Verdict::Timeout, replies: Vec::new(), sent: Vec::new() },
        };
        let mut servers = self.servers.clone();
        let mut state: Option<Vec<u8>> = None;
        for (round, word) in std::iter::once(&password).chain(answers).enumerate() {
            let question = Question { name, password: word, state: state.as_deref(), round: round + 1 };
            let Some((code, reply_state, server)) = login.ask(&servers, &question).await? else {
                login.outcome.verdict = Verdict::Timeout;
                break;
            };
            login.outcome.verdict = match code {
                Code::AccessAccept => Verdict::Accept,
                Code::AccessChallenge => Verdict::Challenge,
                _ => Verdict::Reject,
            };
            if login.outcome.verdict != Verdict::Challenge || self.profile.challenges != Challenges::Answered {
                break;
            }
            state = reply_state;
            // The conversation goes on with the one that began it; the others stay as a last resort.
            servers.sort_by_key(|other| *other != server);
        }
        Ok(login.outcome)
    }
}

struct Question<'a> {
    name: &'a str,
    password: &'a str,
    state: Option<&'a [u8]>,
    round: usize,
}

/// One login on its way.
struct Login<'a> {
    nas: &'a Nas,
    ports: Ports,
    /// Everything that was asked so far, by port; what counts is the last.
    asked: Vec<(u16, SocketAddr, Sent)>,
    outcome: Outcome,
}

impl Login<'_> {
    /// One round: the reply that was believed, or none.
    async fn ask(
        &mut self,
        servers: &[SocketAddr],
        question: &Question<'_>,
    ) -> Result<Option<(Code, Option<Vec<u8>>, SocketAddr)>> {
        let profile = &self.nas.profile;
        let end = Instant::now() + profile.gives_up;
        for server in servers {
            // Each server has its own exchanges: Identifier, authenticator and port are new.
            let mut socket = self.ports.open(self.nas.from).await?;
            let mut sent = fresh()?;
            for copy in 0..profile.copies {
                if copy > 0 {
                    match profile.retry {
                        Retry::Identical => {}
                        Retry::NewAuthenticator => sent.authenticator = fresh()?.authenticator,
                        Retry::NewIdentifier => {
                            let identifier = sent.identifier.wrapping_add(1);
                            sent = Sent { identifier, ..fresh()? };
                        }
                        Retry::NewPort => socket = self.ports.open(self.nas.from).await?,
                    }
                }
                let octets = self.nas.request(question, sent)?;
                let from_port = socket.local_addr()?.port();
                self.asked.push((from_port, *server, sent));
                socket.send_to(&octets, server).await?;
                self.outcome.sent.push(SentPacket { to: *server, from_port, octets, round: question.round });
                let until = end.min(Instant::now() + profile.interval);
                if let Some(reply) = self.hear(until).await? {
                    return Ok(Some(reply));
                }
                if Instant::now() >= end {
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    async fn hear(&mut self, until: Instant) -> Result<Option<(Code, Option<Vec<u8>>, SocketAddr)>> {
        while let Ok(heard) = tokio::time::timeout_at(until, self.ports.heard.1.recv()).await {
            let Heard { port, from, octets } = heard.context("the sockets are open")?;
            let kind = self.judge(port, from, &octets);
            self.outcome.replies.push(Reply { from, octets: octets.clone(), kind });
            if kind != ReplyKind::Believed {
                continue;
            }
            let packet = Packet::parse(&octets, Port::AuthenticationReplies).context("it was judged")?;
            let challenge = packet.code() == Code::AccessChallenge;
            if challenge && self.nas.profile.challenges == Challenges::Ignored {
                continue;
            }
            let state = packet.first(AttributeType::STATE).map(<[u8]>::to_vec);
            return Ok(Some((packet.code(), state, from)));
        }
        Ok(None)
    }

    fn judge(&self, port: u16, from: SocketAddr, octets: &[u8]) -> ReplyKind {
        let Ok(packet) = Packet::parse(octets, Port::AuthenticationReplies) else { return ReplyKind::Forged };
        let rule = if self.nas.profile.demands_signature { Rule::Yes } else { Rule::No };
        let answers = |(asked_port, server, sent): &(u16, SocketAddr, Sent)| {
            *asked_port == port && *server == from && verify_reply(&packet, sent, &self.nas.secret, rule).is_ok()
        };
        match self.asked.iter().rposition(answers) {
            None => ReplyKind::Forged,
            Some(place) if self.waits(place) => ReplyKind::Believed,
            Some(_) => ReplyKind::Late,
        }
    }

    /// The last request, and those that are the same but for their port.
    fn waits(&self, place: usize) -> bool {
        let (Some((_, server, sent)), Some((_, last_server, last))) = (self.asked.get(place), self.asked.last()) else {
            return false;
        };
        (server, sent) == (last_server, last)
    }
}

impl Nas {
    fn request(&self, question: &Question<'_>, sent: Sent) -> Result<Vec<u8>> {
        let name = Attribute { kind: AttributeType::USER_NAME, value: question.name.as_bytes() };
        let mut attributes =
            vec![name, Attribute { kind: AttributeType::NAS_IDENTIFIER, value: self.profile.name.as_bytes() }];
        let station = self.profile.calling_station.as_ref();
        attributes.extend(
            station.map(|station| Attribute { kind: AttributeType::CALLING_STATION_ID, value: station.as_bytes() }),
        );
        attributes.extend(question.state.map(|value| Attribute { kind: AttributeType::STATE, value }));
        attributes.extend(self.more.iter().map(|(kind, value)| Attribute { kind: *kind, value }));
        if self.profile.proxy_state {
            attributes.push(Attribute { kind: AttributeType::PROXY_STATE, value: b"a proxy was here" });
        }
        let Sent { identifier, authenticator } = sent;
        let (code, password) = (RequestCode::AccessRequest, Some(question.password));
        let request = Request { code, identifier, authenticator, attributes: &attributes, password };
        let octets = request.write(&self.secret)?;
        if self.profile.signs { Ok(octets) } else { without_signature(octets) }
    }
}

/// It is always the first attribute (R-11).
fn without_signature(mut octets: Vec<u8>) -> Result<Vec<u8>> {
    if octets.get(20..22) != Some(&[80, 18]) {
        bail!("the signature is not where it belongs");
    }
    octets.drain(20..38);
    let length = u16::try_from(octets.len())?;
    octets[2..4].copy_from_slice(&length.to_be_bytes());
    Ok(octets)
}

fn fresh() -> Result<Sent> {
    let (mut identifier, mut authenticator) = ([0], [0; 16]);
    getrandom::fill(&mut identifier).context("randomness")?;
    getrandom::fill(&mut authenticator).context("randomness")?;
    Ok(Sent { identifier: identifier[0], authenticator })
}

struct Heard {
    port: u16,
    from: SocketAddr,
    octets: Vec<u8>,
}

/// The ports of one login. All stay open to its end: what comes too late is seen, too.
struct Ports {
    heard: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
    listeners: Vec<JoinHandle<()>>,
}

impl Default for Ports {
    fn default() -> Self {
        Self { heard: mpsc::channel(64), listeners: Vec::new() }
    }
}

impl Ports {
    async fn open(&mut self, from: IpAddr) -> Result<Arc<UdpSocket>> {
        let socket = Arc::new(UdpSocket::bind(SocketAddr::new(from, 0)).await?);
        let port = socket.local_addr()?.port();
        let (listening, heard) = (socket.clone(), self.heard.0.clone());
        self.listeners.push(tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let Ok((length, from)) = listening.recv_from(&mut buffer).await else { return };
                if heard.send(Heard { port, from, octets: buffer[..length].to_vec() }).await.is_err() {
                    return;
                }
            }
        }));
        Ok(socket)
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Pki,
        freeradius::{FreeRadius, HomeOptions, HomeUser, SeenPacket, Treatment},
    };
    use futures::future::try_join_all;
    use std::collections::BTreeSet;

    const TIMES: u32 = 20;
    const SILENT: &str = "silent";

    /// What a device does with a server that stays silent, and a second one where nobody is.
    async fn in_vain(home: &FreeRadius, profile: &Profile) -> Result<Outcome> {
        let other = UdpSocket::bind(("127.0.0.1", 0)).await?;
        let servers = [home.auth_address(), other.local_addr()?];
        let nas = Nas::new(profile.clone().times_faster(TIMES), &servers, home.secret())?;
        nas.login(SILENT, "good", &[]).await
    }

    fn different<T: Ord>(packets: &[&SentPacket], part: impl Fn(&SentPacket) -> T) -> usize {
        packets.iter().map(|packet| part(packet)).collect::<BTreeSet<_>>().len()
    }

    fn asked_as_its_kind(profile: &Profile, outcome: &Outcome, home: &FreeRadius) -> Result<()> {
        let name = profile.name;
        assert_eq!(outcome.verdict, Verdict::Timeout, "{name}");
        assert!(outcome.replies.is_empty(), "{name}");
        let to_home: Vec<_> = outcome.sent.iter().filter(|packet| packet.to == home.auth_address()).collect();
        let (copies, fails_over) = match name {
            "ASA, 12 s" => (2, false),
            "ASA, 30 s" => (3, false),
            _ => (3, true),
        };
        assert_eq!((to_home.len(), outcome.sent.len() > copies), (copies, fails_over), "{name}");
        let changes = (
            different(&to_home, |packet| packet.octets[1]),
            different(&to_home, |packet| packet.octets[4..20].to_vec()),
            different(&to_home, |packet| packet.from_port),
        );
        let wanted = match profile.retry {
            Retry::Identical => (1, 1, 1),
            Retry::NewAuthenticator => (1, copies, 1),
            Retry::NewIdentifier => (copies, copies, 1),
            Retry::NewPort => (1, 1, copies),
        };
        assert_eq!(changes, wanted, "{name}");
        let seen = home.seen()?;
        let is_its = |packet: &&SeenPacket| packet.source.port() == to_home[0].from_port;
        let first = seen.iter().find(is_its).context("the server saw it")?;
        let station = first.first("Calling-Station-Id");
        assert_eq!(
            (first.signed(), first.has("Proxy-State"), station),
            (profile.signs, profile.proxy_state, profile.calling_station.as_deref()),
            "{name}"
        );
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_profile_asks_again_in_its_own_way() -> Result<()> {
        // T-07
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let users = vec![
            HomeUser::new(SILENT, "good").treated(Treatment::Silent),
            HomeUser::new("challenged", "good").treated(Treatment::Challenged("4242".into())),
        ];
        let home = FreeRadius::home(dir.path(), &pki, &HomeOptions { users, ..Default::default() })?;
        let mut profiles = Profile::all();
        profiles.extend(Profile::all().into_iter().map(Profile::with_calling_station));
        let outcomes = try_join_all(profiles.iter().map(|profile| in_vain(&home, profile))).await?;
        for (profile, outcome) in profiles.iter().zip(&outcomes) {
            asked_as_its_kind(profile, outcome, &home)?;
        }

        let challenged = async |profile: Profile| {
            Nas::new(profile, &[home.auth_address()], home.secret())?.login("challenged", "good", &["4242"]).await
        };
        let answered = challenged(Profile::fortigate()).await?;
        assert_eq!((answered.verdict, answered.sent.last().map(|packet| packet.round)), (Verdict::Accept, Some(2)));
        assert_eq!(challenged(Profile::unsigned()).await?.verdict, Verdict::Challenge);
        let ignored = challenged(Profile::ignores_challenge().times_faster(TIMES)).await?;
        assert_eq!((ignored.verdict, ignored.sent.len()), (Verdict::Timeout, 3));
        assert!(ignored.genuine(Code::AccessChallenge) > 0);
        Ok(())
    }
}
