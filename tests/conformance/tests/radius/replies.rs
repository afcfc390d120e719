//! What home servers answer, and accounting: the packets of tests/vectors/radius.vec that no device sends to the port of logins.
//! T-03 for these: FreeRADIUS takes what we take, and where it does not the packet stands in a table, with the reason.
//!
//! ```text
//! device -> Twinlock   -> home server: what the vector says, then something else that is sound
//! device -> FreeRADIUS -> the same
//! ```
//!
//! A reply answers one request, so each is made anew for the request that is there: what proves the vector proves it too, and what is
//! wrong with it stays wrong. The second answer has another Code: which of the two reaches the device says what became of the first.

use crate::{SECRET, people, receive};
use anyhow::{Context, Result, ensure};
use conformance::{RadiusVector, Subject, octets, radius_vectors};
use e2e::story;
use hmac::{Hmac, KeyInit, Mac};
use lab::{
    Pki, free_port,
    freeradius::{FreeRadius, HomeOptions, ProxyOptions, ProxySigns},
};
use md5::{Digest, Md5};
use radius_wire::{Attribute, AttributeType, Code, Packet, Port, Request, RequestCode, Secret, Sent, write_reply};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::UdpSocket, time::timeout};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// By the rule of the home server's signature: yes, auto, no.
const RULES: [(&str, u8); 3] = [("yes", 1), ("auto", 2), ("no", 3)];
/// Sends accounting that we keep.
const REPORTS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 1, 2, 9));
/// An answer that is there is passed on by then.
const SOON: Duration = Duration::from_millis(700);

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    Discarded,
}

/// What Debian's FreeRADIUS 3.2.1 does otherwise, and why we do not: the packet's name, its fate there, the reason.
const EXCEPTIONS: &[(&str, Fate, &str)] = &[
    (
        "the Access-Challenge of the RFC, where Message-Authenticator is required",
        Fate::Taken,
        "it has no such rule for home servers: older than CVE-2024-3596 (R-12)",
    ),
    ("B-14 Access-Accept with a right Response Authenticator only", Fate::Taken, "older than CVE-2024-3596 (R-12)"),
    (
        "FreeRADIUS answers Status-Server without a signature",
        Fate::Taken,
        "it has no such rule for home servers: older than CVE-2024-3596 (R-12)",
    ),
    (
        "an Accounting-Response with a good Message-Authenticator",
        Fate::Discarded,
        "it reckons with zeros in the place of the request's authenticator; we take both (R-13)",
    ),
    ("B-16 an Access-Accept on the accounting reply port", Fate::Taken, "there it takes every reply (A1 step 4)"),
];

struct World {
    subject: Subject,
    proxy: FreeRadius,
    accountant: FreeRadius,
    home: UdpSocket,
    home_accounting: UdpSocket,
    vectors: Vec<RadiusVector>,
    _dir: TempDir,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_radius_server_and_what_home_servers_say_and_accounting() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let secret = dir.path().join("vectors.secret");
    lab::private_file(&secret, SECRET)?;
    let (home, home_accounting) = neighbours().await?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let options = ProxyOptions { signs: ProxySigns::Always, ..ProxyOptions::new(home.local_addr()?, SECRET) };
    let proxy = FreeRadius::proxy(dir.path(), &pki, &ProxyOptions { secret: SECRET.into(), ..options })?;
    let options = HomeOptions { name: "accountant".into(), secret: SECRET.into(), ..Default::default() };
    let accountant = FreeRadius::home(dir.path(), &pki, &options)?;
    let settings = settings(&secret.display().to_string(), home.local_addr()?.port());
    let subject = Subject::start(&settings, &["radius.reject_delay_ms=500"], &people())?;
    let vectors = radius_vectors()?;
    let mut world = World { subject, proxy, accountant, home, home_accounting, vectors, _dir: dir };
    story!(&mut world;
        b_14_b_15_b_16_what_a_home_server_says_is_believed_where_it_proves_itself,
        t_03_freeradius_believes_the_same_but_for_what_is_listed,
        b_31_accounting_is_answered_where_it_proves_itself_as_freeradius_does,
        r_13_a_response_to_accounting_needs_no_signature_and_a_wrong_one_is_not_believed,
        every_packet_for_other_ports_was_told_of,
    )
}

/// Two ports, the one behind the other: FreeRADIUS wants accounting there.
async fn neighbours() -> Result<(UdpSocket, UdpSocket)> {
    for _ in 0..100 {
        let port = free_port();
        let next = port.checked_add(1).context("a port")?;
        if let (Ok(one), Ok(other)) = (UdpSocket::bind((LOCAL, port)).await, UdpSocket::bind((LOCAL, next)).await) {
            return Ok((one, other));
        }
    }
    anyhow::bail!("no two ports beside each other are free")
}

fn settings(secret_file: &str, port: u16) -> String {
    let client = |name: &str, address: IpAddr, target: &str, more: &str| {
        format!(
            "\n[[client]]\nname = \"{name}\"\nprotocol = \"radius\"\nsources = [\"{address}/32\"]\ntarget = \"{target}\"\n\
             secret = \"file:{secret_file}\"\nnot_enrolled = \"pass\"\n{more}\n"
        )
    };
    let by_rule = RULES.map(|(rule, number)| {
        let name = format!("home-{rule}");
        let target = format!(
            "\n[[target]]\nname = \"{name}\"\nkind = \"radius\"\ndirectory = \"acme\"\nstatus_check = \"none\"\n\n\
             [[target.servers]]\naddress = \"127.0.0.1\"\nauthentication_port = {port}\naccounting_port = {}\n\
             secret = \"file:{secret_file}\"\nmessage_authenticator = \"{rule}\"\n",
            port + 1
        );
        target + &client(&format!("device-{rule}"), device(number), &name, "")
    });
    by_rule.concat() + &client("reports", REPORTS, "acme", "accounting = \"store\"")
}

fn device(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 1, 2, number).into()
}

async fn b_14_b_15_b_16_what_a_home_server_says_is_believed_where_it_proves_itself(world: &mut World) -> Result<()> {
    // R-12, R-83
    let server = SocketAddr::new(LOCAL, world.subject.machine.twinlock.radius_port());
    let mut wrong = Vec::new();
    for vector in of_port(world, "authentication-replies") {
        let rule = vector.rules().message_authenticator;
        let (_, number) = RULES.into_iter().find(|(name, _)| *name == rule).context("a rule")?;
        let fate = fate(world, server, device(number), vector).await.with_context(|| vector.name.clone())?;
        if fate != expected(vector) {
            wrong.push(format!("{}: {fate:?} instead of {:?}", vector.name, expected(vector)));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n     "));
    world.subject.is_well()
}

async fn t_03_freeradius_believes_the_same_but_for_what_is_listed(world: &mut World) -> Result<()> {
    let mut wrong = Vec::new();
    for vector in of_port(world, "authentication-replies") {
        let theirs = theirs(vector);
        let fate = fate(world, world.proxy.auth_address(), LOCAL, vector).await.with_context(|| vector.name.clone())?;
        if fate != theirs {
            wrong.push(format!("{}: {fate:?} instead of {theirs:?}", vector.name));
        }
    }
    for (name, theirs, reason) in EXCEPTIONS {
        match world.vectors.iter().find(|vector| vector.name == *name) {
            None => wrong.push(format!("{name}: no such packet")),
            Some(vector) if *theirs == expected(vector) => wrong.push(format!("{name}: {reason}? It does the same")),
            Some(_) => {}
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n     "));
    Ok(())
}

async fn b_31_accounting_is_answered_where_it_proves_itself_as_freeradius_does(world: &mut World) -> Result<()> {
    // R-86
    let ours = SocketAddr::new(LOCAL, world.subject.machine.twinlock.accounting_port());
    let mut wrong = Vec::new();
    for (whose, server, from) in [("ours", ours, REPORTS), ("FreeRADIUS", world.accountant.acct_address(), LOCAL)] {
        let mut sockets = Vec::new();
        for vector in of_port(world, "accounting") {
            let socket = UdpSocket::bind((from, 0)).await?;
            socket.send_to(&vector.packet()?, server).await?;
            sockets.push((vector, socket));
        }
        for (vector, socket) in &sockets {
            // The server here has one secret, and what some of these prove themselves with is another one.
            let other = vector.key("secret").is_some() || vector.key("previous").is_some();
            let expected = if other { Fate::Discarded } else { expected(vector) };
            let fate = match timeout(SOON, receive(socket)).await {
                Ok(reply) => reply.map(|_| Fate::Taken)?,
                Err(_) => Fate::Discarded,
            };
            if fate != expected {
                wrong.push(format!("{}, {whose}: {fate:?} instead of {expected:?}", vector.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n     "));
    world.subject.is_well()
}

async fn r_13_a_response_to_accounting_needs_no_signature_and_a_wrong_one_is_not_believed(
    world: &mut World,
) -> Result<()> {
    let ours = SocketAddr::new(LOCAL, world.subject.machine.twinlock.accounting_port());
    let mut wrong = Vec::new();
    type Says = fn(&RadiusVector) -> Fate;
    let freeradius = world.proxy.acct_address();
    for (server, from, says) in [(ours, device(1), expected as Says), (freeradius, LOCAL, theirs as Says)] {
        for vector in of_port(world, "accounting-replies") {
            let fate = fate_of_response(world, server, from, vector).await.with_context(|| vector.name.clone())?;
            if fate != says(vector) {
                wrong.push(format!("{} at {server}: {fate:?} instead of {:?}", vector.name, says(vector)));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n     "));
    world.subject.is_well()
}

async fn every_packet_for_other_ports_was_told_of(world: &mut World) -> Result<()> {
    let ports = ["authentication", "authentication-replies", "accounting", "accounting-replies"];
    for vector in &world.vectors {
        ensure!(vector.key("port").is_some_and(|port| ports.contains(&port)), "{}: another port", vector.name);
    }
    let counts = ports.map(|port| of_port(world, port).len());
    ensure!(counts[1] > 15 && counts[2] > 10 && counts[3] > 3, "{counts:?}");
    Ok(())
}

fn of_port<'a>(world: &'a World, port: &str) -> Vec<&'a RadiusVector> {
    world.vectors.iter().filter(|vector| vector.key("port") == Some(port)).collect()
}

fn expected(vector: &RadiusVector) -> Fate {
    match vector.key("expect").is_some_and(|text| text.starts_with("drop ")) {
        true => Fate::Discarded,
        false => Fate::Taken,
    }
}

/// What FreeRADIUS does.
fn theirs(vector: &RadiusVector) -> Fate {
    let listed = EXCEPTIONS.iter().find(|(name, ..)| vector.name == *name);
    listed.map_or_else(|| expected(vector), |(_, theirs, _)| *theirs)
}

/// Somebody logs in at `server`, whose home server says what the vector says, and then something else.
async fn fate(world: &World, server: SocketAddr, from: IpAddr, vector: &RadiusVector) -> Result<Fate> {
    let name = Attribute { kind: AttributeType::USER_NAME, value: b"nemo" };
    // Another one each time: one that was refused is not asked about again.
    let mut password = [0; 8];
    getrandom::fill(&mut password).context("randomness")?;
    let password = data_encoding::HEXLOWER.encode(&password);
    let device = ask(server, from, RequestCode::AccessRequest, &[name], Some(&password)).await?;
    let (request, asked_from) = question(&world.home, Port::Authentication).await?;
    let first = answer(vector, &request)?;
    world.home.send_to(&first, asked_from).await?;
    let second = match first.first() {
        Some(2) => Code::AccessChallenge,
        _ => Code::AccessAccept,
    };
    world.home.send_to(&sound(&request, second)?, asked_from).await?;
    let reply = receive(&device).await?;
    Ok(if reply.first() == Some(&(second as u8)) { Fate::Discarded } else { Fate::Taken })
}

/// The same of accounting. There is one Code only, so the second answer comes when the first did not help.
async fn fate_of_response(world: &World, server: SocketAddr, from: IpAddr, vector: &RadiusVector) -> Result<Fate> {
    let report = [
        Attribute { kind: AttributeType::USER_NAME, value: b"nemo" },
        Attribute { kind: AttributeType::ACCT_STATUS_TYPE, value: &[0, 0, 0, 1] },
        Attribute { kind: AttributeType::ACCT_SESSION_ID, value: b"session" },
    ];
    let device = ask(server, from, RequestCode::AccountingRequest, &report, None).await?;
    let (request, asked_from) = question(&world.home_accounting, Port::Accounting).await?;
    world.home_accounting.send_to(&answer(vector, &request)?, asked_from).await?;
    if timeout(SOON, receive(&device)).await.is_ok() {
        return Ok(Fate::Taken);
    }
    world.home_accounting.send_to(&sound(&request, Code::AccountingResponse)?, asked_from).await?;
    receive(&device).await.context("not even the second answer helps")?;
    Ok(Fate::Discarded)
}

/// A device that has asked.
async fn ask(
    server: SocketAddr,
    from: IpAddr,
    code: RequestCode,
    attributes: &[Attribute<'_>],
    password: Option<&str>,
) -> Result<UdpSocket> {
    let mut authenticator = [0; 16];
    getrandom::fill(&mut authenticator).context("randomness")?;
    let request = Request { code, identifier: 7, authenticator, attributes, password };
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.send_to(&request.write(&secret()?)?, server).await?;
    Ok(socket)
}

/// The next request at a home server. Copies of those before are none.
async fn question(home: &UdpSocket, port: Port) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 4096];
    let (length, from) =
        timeout(Duration::from_secs(10), home.recv_from(&mut buffer)).await.context("no request")??;
    buffer.truncate(length);
    Packet::parse(&buffer, port).context("a request")?;
    Ok((buffer, from))
}

/// What nobody can refuse.
fn sound(request: &[u8], code: Code) -> Result<Vec<u8>> {
    let port = if code == Code::AccountingResponse { Port::Accounting } else { Port::Authentication };
    let packet = Packet::parse(request, port).context("a request")?;
    let mut attributes: Vec<_> = packet
        .all(AttributeType::PROXY_STATE)
        .map(|value| Attribute { kind: AttributeType::PROXY_STATE, value })
        .collect();
    if code == Code::AccessChallenge {
        attributes.push(Attribute { kind: AttributeType::STATE, value: b"the second answer" });
    }
    Ok(write_reply(code as u8, sent(request)?, &attributes, &secret()?, code != Code::AccountingResponse)?)
}

/// The reply of the vector for another request.
fn answer(vector: &RadiusVector, request: &[u8]) -> Result<Vec<u8>> {
    let mut reply = vector.packet()?;
    let answers = octets(vector.key("answers").context("what it answers")?)?;
    let (identifier, before) = answers.split_first().context("an Identifier")?;
    let (before, now) = (<[u8; 16]>::try_from(before)?, sent(request)?.authenticator);
    let at = signature_at(&reply);
    // As RFC 3579 says, or as FreeRADIUS signs accounting.
    let ways = [(before, now), ([0; 16], [0; 16])];
    let signed = at.and_then(|at| {
        let made = |(before, _): &&([u8; 16], _)| reply[at..at + 16] == signature(&reply, at, before);
        Some((at, ways.iter().find(made)?.1))
    });
    let proved = reply[4..20] == response_authenticator(&reply, &before);
    reply[1] ^= identifier ^ request[1];
    if let Some((at, authenticator)) = signed {
        let signature = signature(&reply, at, &authenticator);
        reply[at..at + 16].copy_from_slice(&signature);
    }
    if proved {
        let authenticator = response_authenticator(&reply, &now);
        reply[4..20].copy_from_slice(&authenticator);
    }
    Ok(reply)
}

/// RFC 2865 section 3
fn response_authenticator(reply: &[u8], of_request: &[u8; 16]) -> [u8; 16] {
    let digest = Md5::new().chain_update(&reply[..4]).chain_update(of_request).chain_update(&reply[20..]);
    digest.chain_update(SECRET).finalize().into()
}

/// RFC 3579 section 3.2: over the authenticator of the request, with sixteen zeros in its own place.
fn signature(reply: &[u8], at: usize, of_request: &[u8; 16]) -> [u8; 16] {
    let mut octets = reply.to_vec();
    octets[4..20].copy_from_slice(of_request);
    octets[at..at + 16].fill(0);
    let mac = Hmac::<Md5>::new_from_slice(SECRET.as_bytes()).expect("any length does");
    mac.chain_update(octets).finalize().into_bytes().into()
}

/// Where the value of the Message-Authenticator begins.
fn signature_at(reply: &[u8]) -> Option<usize> {
    let mut at = 20;
    while let [kind, length, ..] = *reply.get(at..)? {
        if (kind, length) == (AttributeType::MESSAGE_AUTHENTICATOR.0, 18) {
            return Some(at + 2);
        }
        at += usize::from(length.max(2));
    }
    None
}

fn sent(request: &[u8]) -> Result<Sent> {
    Sent::of(request).context("a header")
}

fn secret() -> Result<Secret> {
    Secret::new(SECRET.as_bytes().to_vec()).context("a shared secret")
}
