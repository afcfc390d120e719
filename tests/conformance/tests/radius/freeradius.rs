//! T-03: the same packets to FreeRADIUS. It answers where we answer, accepts where we accept, and reads the same values;
//! where it does not, the packet stands in a table below, with the reason.

use crate::{Expected, PASSWORDS, SECRET, World, expected};
use anyhow::{Context, Result, ensure};
use conformance::RadiusVector;
use lab::{
    Pki,
    freeradius::{FreeRadius, HomeOptions, HomeUser, SeenPacket},
};
use radius_wire::{
    Attribute, AttributeType, Code, Dictionary, Packet, Pair, Port, Request, RequestCode, Salts, Secret,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::UdpSocket, time::timeout};

/// The client that must send a Message-Authenticator, and the one that need not.
const SIGNING: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 1, 8, 1));
const FREE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 1, 8, 2));

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Dropped,
    /// Refused or asked for more.
    Answered,
    Accepted,
}

/// What Debian's FreeRADIUS 3.2.1 does otherwise, and why we do not: the beginning of the packet's name, its verdict, the reason.
const EXCEPTIONS: &[(&str, Verdict, &str)] = &[
    ("B-13 Proxy-State without Message-Authenticator, nothing", Verdict::Accepted, "older than CVE-2024-3596 (R-09)"),
    ("B-13 Proxy-State without Message-Authenticator, where", Verdict::Accepted, "older than CVE-2024-3596 (R-09)"),
    ("B-13 the same, limit yes", Verdict::Accepted, "older than CVE-2024-3596 (R-09)"),
    ("B-02 Length 20 and nothing more", Verdict::Answered, "it answers what proves and asks for nothing (R-20)"),
    ("no credentials, unsigned", Verdict::Answered, "it answers what proves and asks for nothing (R-20)"),
    ("Service-Type of five octets", Verdict::Answered, "it answers what proves and asks for nothing (R-20)"),
    ("two User-Names", Verdict::Accepted, "it takes the first; two readers might take two names (R-24)"),
    ("B-22 two User-Passwords", Verdict::Accepted, "it takes the first (R-20)"),
    ("B-22 PAP and MS-CHAPv2", Verdict::Accepted, "it takes the password; RFC 3579 section 3.3 excludes both (R-20)"),
    ("B-22 PAP, CHAP and EAP", Verdict::Dropped, "it drops broken EAP unanswered; we say no at once (R-20)"),
    ("B-22 EAP and ARAP", Verdict::Dropped, "it drops broken EAP unanswered; we say no at once (R-20)"),
    (
        "B-23 a State of one octet",
        Verdict::Accepted,
        "it ignores a State it did not give; here that is a replay (R-42)",
    ),
    ("B-23 a State of 253 octets", Verdict::Accepted, "it ignores a State it did not give (R-42)"),
    ("B-23 an empty State is a State", Verdict::Accepted, "it ignores a State it did not give (R-42)"),
    ("B-23 two States", Verdict::Accepted, "it ignores States it did not give (R-42)"),
];

/// What both dictionaries have a name and a form for: numbers and their names, addresses, vendors, tags.
const VALUES: &[(&str, &str)] = &[
    ("Service-Type", "Framed-User"),
    ("Framed-Protocol", "PPP"),
    ("Framed-MTU", "1400"),
    ("Framed-IP-Address", "10.1.2.3"),
    ("Session-Timeout", "4294967295"),
    ("Filter-Id", "staff only"),
    ("NAS-Port-Type", "Virtual"),
    ("Tunnel-Type:1", "VLAN"),
    ("Tunnel-Medium-Type:1", "IEEE-802"),
    ("Tunnel-Private-Group-Id:1", "42"),
    ("Tunnel-Private-Group-Id:31", "guests"),
    ("Tunnel-Preference:2", "16777215"),
    ("Tunnel-Assignment-Id", "untagged"),
    ("Cisco-AVPair", "shell:priv-lvl=15"),
    ("Cisco-AVPair", "ip:dns-servers=10.0.0.1"),
    ("Fortinet-Group-Name", "admins"),
    ("WISPr-Bandwidth-Max-Up", "1000000"),
    ("Juniper-Local-User-Name", "operator"),
];

pub(super) async fn t_03_vendors_tags_and_numbers_are_the_same_here_and_at_freeradius(_: &mut World) -> Result<()> {
    // Ours as it reads them, and its own as we do.
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let items: Vec<_> = VALUES.iter().map(|(name, text)| format!("{name} += \"{text}\"")).collect();
    let user = HomeUser::new("values", "good").replies(&items.iter().map(String::as_str).collect::<Vec<_>>());
    let options = HomeOptions { name: "values".into(), secret: SECRET.into(), users: vec![user], ..Default::default() };
    let home = FreeRadius::home(dir.path(), &pki, &options)?;
    let pairs: Vec<_> = VALUES.iter().map(|(name, text)| Pair { name, text }).collect();
    let ours = Dictionary::shipped().attributes(&pairs, None, &mut Salts::new(1))?;
    let mut attributes = vec![Attribute { kind: AttributeType::USER_NAME, value: b"values" }];
    attributes.extend(ours.iter().map(|attribute| attribute.attribute()));
    let code = RequestCode::AccessRequest;
    let request =
        Request { code, identifier: 9, authenticator: [7; 16], attributes: &attributes, password: Some("good") };
    let socket = UdpSocket::bind(SocketAddr::new(FREE, 0)).await?;
    socket.connect(home.auth_address()).await?;
    socket.send(&request.write(&Secret::new(SECRET).context("a secret")?)?).await?;
    let mut buffer = [0; 4096];
    let length = timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await.context("no reply")??;
    let wanted: Vec<(String, String)> =
        VALUES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();

    let seen = home.seen()?.pop().context("it saw nothing")?;
    let named = |name: &str| VALUES.iter().any(|(wanted, _)| *wanted == name);
    // It writes the tag that says "none", too (RFC 2868 section 3.1).
    let untagged = |(name, text): (String, String)| (name.strip_suffix(":0").map_or(name.clone(), str::to_owned), text);
    let theirs: Vec<_> = seen.attributes.into_iter().map(untagged).filter(|(name, _)| named(name)).collect();
    ensure!(theirs == wanted, "it reads {theirs:#?}");

    let reply = Packet::parse(&buffer[..length], Port::AuthenticationReplies).context("a packet")?;
    ensure!(reply.code() == Code::AccessAccept, "{:?}", reply.code());
    let read = Dictionary::shipped().items(reply.attributes()).into_iter().filter_map(|item| {
        let name = item.tag.map_or_else(|| item.name().into_owned(), |tag| format!("{}:{tag}", item.name()));
        Some((name, item.text()?))
    });
    let read: Vec<_> = read.filter(|(name, _)| named(name)).collect();
    ensure!(read == wanted, "of its answer we read {read:#?}");
    Ok(())
}

pub(super) async fn t_03_freeradius_does_the_same_but_for_what_is_listed(world: &mut World) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let home = FreeRadius::home(
        dir.path(),
        &pki,
        &HomeOptions {
            name: "oracle".into(),
            secret: SECRET.into(),
            clients: vec![(SIGNING.to_string(), true)],
            lines: people_lines(),
            ..Default::default()
        },
    )?;
    let mut wrong = Vec::new();
    // All are kept open, so that no port is used twice.
    let (mut silent, mut answered) = (Vec::new(), Vec::new());
    let mut sources = BTreeMap::new();
    for vector in &world.vectors {
        let (ours, listed) = (ours(vector)?, exception(&vector.name));
        let theirs = listed.map_or(ours, |(theirs, _)| theirs);
        if let Some((_, reason)) = listed.filter(|(theirs, _)| *theirs == ours) {
            wrong.push(format!("{}: {reason}? It does the same", vector.name));
        }
        let socket = send(&home, vector).await?;
        sources.insert(socket.local_addr()?, vector);
        if theirs == Verdict::Dropped {
            silent.push((vector, socket));
            continue;
        }
        let got = receive(&socket).await.map_or(Verdict::Dropped, verdict);
        if got != theirs {
            wrong.push(format!("{}: {got:?} instead of {theirs:?}", vector.name));
        }
        answered.push(socket);
    }
    // One that is sent after them all has been answered: so would they have been.
    let sound = world.vectors.iter().find(|vector| ours(vector).is_ok_and(|it| it == Verdict::Accepted));
    receive(&send(&home, sound.context("one that is accepted")?).await?).await.context("the last one")?;
    for (vector, socket) in silent {
        if let Ok(code) = receive_within(&socket, Duration::from_millis(5)).await {
            wrong.push(format!("{}: code {code} instead of nothing", vector.name));
        }
    }
    let seen = home.seen()?;
    let mut compared = 0;
    for packet in &seen {
        let Some(vector) = sources.get(&packet.source) else { continue };
        compared += 1;
        wrong.extend(different_values(vector, packet)?.into_iter().map(|text| format!("{}: {text}", vector.name)));
    }
    let unused = EXCEPTIONS.iter().filter(|(name, ..)| !world.vectors.iter().any(|it| it.name.starts_with(name)));
    wrong.extend(unused.map(|(name, ..)| format!("{name}: no such packet")));
    ensure!(compared > 50, "it read only {compared} packets");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n     "));
    Ok(())
}

/// The people of the vectors, in the words of its file of users: each line with another password.
fn people_lines() -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let line = |user: &str, password: &str| {
        format!("\"{user}\" User-Password == \"{0}\", Cleartext-Password := \"{0}\"\n", quoted(password))
    };
    PASSWORDS.into_iter().flat_map(|(user, passwords)| passwords.iter().map(move |it| line(user, it))).collect()
}

fn exception(name: &str) -> Option<(Verdict, &'static str)> {
    let listed = EXCEPTIONS.iter().find(|(beginning, ..)| name.starts_with(beginning));
    listed.map(|(_, verdict, reason)| (*verdict, *reason))
}

/// What the sentences above have seen our server do.
fn ours(vector: &RadiusVector) -> Result<Verdict> {
    Ok(match expected(vector)? {
        Expected::Dropped(_) => Verdict::Dropped,
        Expected::Rejected => Verdict::Answered,
        Expected::Accepted | Expected::Alive => Verdict::Accepted,
    })
}

fn verdict(code: u8) -> Verdict {
    if code == Code::AccessAccept as u8 { Verdict::Accepted } else { Verdict::Answered }
}

async fn send(home: &FreeRadius, vector: &RadiusVector) -> Result<UdpSocket> {
    let from = if vector.rules().message_authenticator == "yes" { SIGNING } else { FREE };
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
    socket.connect(home.auth_address()).await?;
    socket.send(&vector.packet()?).await?;
    Ok(socket)
}

async fn receive(socket: &UdpSocket) -> Result<u8> {
    receive_within(socket, Duration::from_secs(5)).await
}

/// The Code of a reply.
async fn receive_within(socket: &UdpSocket, wait: Duration) -> Result<u8> {
    let mut buffer = [0; 4096];
    timeout(wait, socket.recv(&mut buffer)).await.context("no reply")??;
    Ok(buffer[0])
}

/// Values it has read otherwise than we do.
fn different_values(vector: &RadiusVector, theirs: &SeenPacket) -> Result<Vec<String>> {
    let octets = vector.packet()?;
    let ours = Packet::parse(&octets, Port::Authentication).context("it was answered, so we can read it")?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let hex = |value: &[u8]| format!("0x{}", data_encoding::HEXLOWER.encode(value));
    let address =
        |value: &[u8]| <[u8; 4]>::try_from(value).map(|it| Ipv4Addr::from(it).to_string()).unwrap_or_default();
    type Print<'a> = &'a dyn Fn(&[u8]) -> String;
    let kinds: [(AttributeType, &str, Print<'_>); 7] = [
        (AttributeType::USER_NAME, "User-Name", &text),
        (AttributeType::NAS_IP_ADDRESS, "NAS-IP-Address", &address),
        (AttributeType::STATE, "State", &hex),
        (AttributeType::PROXY_STATE, "Proxy-State", &hex),
        (AttributeType::CALLING_STATION_ID, "Calling-Station-Id", &text),
        (AttributeType::MESSAGE_AUTHENTICATOR, "Message-Authenticator", &hex),
        (AttributeType::CHAP_CHALLENGE, "CHAP-Challenge", &hex),
    ];
    let mut different = Vec::new();
    for (kind, name, print) in kinds {
        // It leaves out what is empty, and what has another size than its type.
        let has_value = |value: &&[u8]| !value.is_empty() && !print(value).is_empty();
        let ours: Vec<_> = ours.all(kind).filter(has_value).map(print).collect();
        let theirs: Vec<_> = theirs.all(name).collect();
        // And its log writes signs with a purpose as numbers.
        let plain = |value: &String| value.chars().all(|sign| sign.is_ascii() && !sign.is_control());
        if ours != theirs && ours.iter().all(plain) {
            different.push(format!("{name} is {theirs:?} instead of {ours:?}"));
        }
    }
    if let (Some(ours), Some(theirs)) = (vector.key("password"), theirs.first("User-Password")) {
        let ours = ours.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(ours);
        if ours != theirs {
            different.push(format!("the password is {theirs:?} instead of {ours:?}"));
        }
    }
    Ok(different)
}
