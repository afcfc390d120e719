//! Rows B-01 to B-25 (and B-30) against a running gateway: every packet of tests/vectors/radius.vec that a server can
//! receive is sent to it by UDP. What is to be dropped stays without an answer and is counted under its drop code, what is to
//! be refused gets an Access-Reject and reaches no directory, and what is sound is accepted after one bind.

#[path = "radius/freeradius.rs"]
mod freeradius;
#[path = "radius/replies.rs"]
mod replies;

use anyhow::{Context, Result, bail, ensure};
use conformance::{Noise, RadiusVector, Rules, Subject, radius_vectors};
use data_encoding::BASE64;
use e2e::{Answer, Device, story};
use freeradius::{
    t_03_freeradius_does_the_same_but_for_what_is_listed,
    t_03_vendors_tags_and_numbers_are_the_same_here_and_at_freeradius,
};
use lab::COMPANY_BASE;
use radius_wire::{
    Attribute, AttributeType, Code, Packet, Port, Request, RequestCode, Rule, Secret, Sent, verify_reply,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{net::UdpSocket, time::timeout};

/// Of all vectors.
const SECRET: &str = "xyzzy5461";
const PATIENCE: Duration = Duration::from_secs(20);
/// No client of the settings.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 1, 9, 9));

/// The users of the vectors, with their passwords: nemo has several.
const PASSWORDS: [(&str, &[&str]); 2] = [
    (
        "nemo",
        &[
            "arctangent",
            "sixteen octets!!",
            " two words ",
            "Größenwahn-des-Grafen-Łódź",
            "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp",
        ],
    ),
    ("mopsy", &["challenge"]),
];

struct World {
    subject: Subject,
    vectors: Vec<RadiusVector>,
    clients: Clients,
    /// The sockets of all packets that were answered; kept, so that no port is used twice.
    sent: Vec<(String, UdpSocket)>,
    /// And of those that were to be dropped: nothing may ever come there.
    silent: Vec<(String, UdpSocket)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_radius_server_and_the_catalogue_of_bad_input() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let secret = dir.path().join("vectors.secret");
    lab::private_file(&secret, SECRET)?;
    let vectors = receivable(radius_vectors()?);
    let clients = Clients::for_all(&vectors)?;
    let set = ["radius.reject_delay_ms=500", "radius.packets_per_second_max=1000000"];
    let subject = Subject::start(&clients.settings(&secret.display().to_string()), &set, &people())?;
    let mut world = World { subject, vectors, clients, sent: Vec::new(), silent: Vec::new() };
    story!(&mut world;
        sound_packets_are_worked_on_and_broken_ones_of_no_row_are_not,
        b_01_datagrams_too_short_for_a_packet_are_dropped,
        b_02_a_length_that_cannot_be_is_dropped,
        b_03_only_the_first_packet_of_a_datagram_is_read,
        b_04_an_attribute_of_no_length_is_dropped,
        b_05_an_attribute_of_no_length_before_the_signature_is_dropped,
        b_06_attributes_that_do_not_fill_the_packet_are_dropped,
        b_07_attribute_type_0_is_dropped,
        b_08_too_many_attributes_are_dropped,
        b_09_broken_vendor_attributes_are_ignored,
        b_10_endless_fragments_are_ignored,
        b_11_one_attribute_repeated_is_bounded,
        b_12_a_wrong_signature_is_dropped,
        b_13_proxy_state_without_a_signature_is_dropped,
        b_14_b_15_replies_and_what_is_for_other_ports_are_dropped,
        b_16_codes_for_other_ports_are_dropped,
        b_17_status_server_is_answered_when_signed_and_binds_nobody,
        b_18_passwords_of_impossible_length_are_rejected_without_a_bind,
        b_19_empty_passwords_are_rejected_without_a_bind,
        b_20_passwords_hidden_with_another_secret_are_rejected_without_a_bind,
        b_21_names_with_a_purpose_are_only_names,
        b_22_several_kinds_of_credentials_are_rejected,
        b_23_a_state_that_is_not_ours_is_rejected_without_a_bind,
        b_24_b_25_eap_is_refused_whatever_is_in_it,
        every_packet_of_the_file_was_sent,
        t_03_freeradius_does_the_same_but_for_what_is_listed,
        t_03_vendors_tags_and_numbers_are_the_same_here_and_at_freeradius,
        b_17_a_flood_of_status_server_is_bounded,
        b_30_one_identifier_used_a_thousand_times_is_bounded,
        r_01_noise_is_dropped_and_leaves_nothing_behind,
        what_was_dropped_was_not_answered_later_either,
    )
}

async fn sound_packets_are_worked_on_and_broken_ones_of_no_row_are_not(world: &mut World) -> Result<()> {
    tell(world, |vector| vector.row().is_none() && is_for_us(vector)).await
}

async fn b_01_datagrams_too_short_for_a_packet_are_dropped(world: &mut World) -> Result<()> {
    row(world, "B-01").await
}

async fn b_02_a_length_that_cannot_be_is_dropped(world: &mut World) -> Result<()> {
    row(world, "B-02").await
}

async fn b_03_only_the_first_packet_of_a_datagram_is_read(world: &mut World) -> Result<()> {
    // The second one of the vector is a login that would be accepted.
    row(world, "B-03").await
}

async fn b_04_an_attribute_of_no_length_is_dropped(world: &mut World) -> Result<()> {
    row(world, "B-04").await
}

async fn b_05_an_attribute_of_no_length_before_the_signature_is_dropped(world: &mut World) -> Result<()> {
    //
    row(world, "B-05").await
}

async fn b_06_attributes_that_do_not_fill_the_packet_are_dropped(world: &mut World) -> Result<()> {
    row(world, "B-06").await
}

async fn b_07_attribute_type_0_is_dropped(world: &mut World) -> Result<()> {
    row(world, "B-07").await
}

async fn b_08_too_many_attributes_are_dropped(world: &mut World) -> Result<()> {
    row(world, "B-08").await
}

async fn b_09_broken_vendor_attributes_are_ignored(world: &mut World) -> Result<()> {
    //
    row(world, "B-09").await
}

async fn b_10_endless_fragments_are_ignored(world: &mut World) -> Result<()> {
    row(world, "B-10").await
}

async fn b_11_one_attribute_repeated_is_bounded(world: &mut World) -> Result<()> {
    row(world, "B-11").await
}

async fn b_12_a_wrong_signature_is_dropped(world: &mut World) -> Result<()> {
    row(world, "B-12").await
}

async fn b_13_proxy_state_without_a_signature_is_dropped(world: &mut World) -> Result<()> {
    // R-09, CVE-2024-3596
    row(world, "B-13").await
}

async fn b_14_b_15_replies_and_what_is_for_other_ports_are_dropped(world: &mut World) -> Result<()> {
    // Of other Codes than ours: replies nobody waits for, accounting (B-31), a Code on the wrong port (B-16).
    tell(world, |vector| !is_for_us(vector)).await
}

async fn b_16_codes_for_other_ports_are_dropped(world: &mut World) -> Result<()> {
    row(world, "B-16").await
}

async fn b_17_status_server_is_answered_when_signed_and_binds_nobody(world: &mut World) -> Result<()> {
    row(world, "B-17").await
}

async fn b_18_passwords_of_impossible_length_are_rejected_without_a_bind(world: &mut World) -> Result<()> {
    //
    row(world, "B-18").await
}

async fn b_19_empty_passwords_are_rejected_without_a_bind(world: &mut World) -> Result<()> {
    //
    row(world, "B-19").await
}

async fn b_20_passwords_hidden_with_another_secret_are_rejected_without_a_bind(world: &mut World) -> Result<()> {
    //
    row(world, "B-20").await
}

async fn b_21_names_with_a_purpose_are_only_names(world: &mut World) -> Result<()> {
    // the password beside them is nemo's.
    row(world, "B-21").await?;
    let log = world.subject.machine.twinlock.log();
    ensure!(!log.contains(['\u{1b}', '\u{202e}', '\0']), "a name reached the log as it came");
    ensure!(log.lines().all(|line| line.starts_with('{')), "a name began a line of the log");
    Ok(())
}

async fn b_22_several_kinds_of_credentials_are_rejected(world: &mut World) -> Result<()> {
    //
    row(world, "B-22").await
}

async fn b_23_a_state_that_is_not_ours_is_rejected_without_a_bind(world: &mut World) -> Result<()> {
    // the password beside it is right.
    row(world, "B-23").await
}

async fn b_24_b_25_eap_is_refused_whatever_is_in_it(world: &mut World) -> Result<()> {
    // a directory cannot do EAP. What an outer identity is worth shows with targets that can.
    row(world, "B-24").await?;
    row(world, "B-25").await
}

async fn every_packet_of_the_file_was_sent(world: &mut World) -> Result<()> {
    let told: Vec<&str> = world.sent.iter().chain(&world.silent).map(|(name, _)| name.as_str()).collect();
    let left: Vec<_> =
        world.vectors.iter().map(|vector| vector.name.as_str()).filter(|name| !told.contains(name)).collect();
    ensure!(left.is_empty(), "never sent: {left:?}");
    ensure!(told.len() == world.vectors.len(), "{} of {}", told.len(), world.vectors.len());
    Ok(())
}

async fn b_17_a_flood_of_status_server_is_bounded(world: &mut World) -> Result<()> {
    let device = world.device()?;
    let exchange = device.status().await?;
    for _ in 0..10_000 {
        exchange.send().await?;
    }
    // Of so many not all are received; whoever asks again is answered.
    ensure!(device.status().await?.answer(5).await? == Answer::Accept);
    world.subject.is_well()
}

async fn b_30_one_identifier_used_a_thousand_times_is_bounded(world: &mut World) -> Result<()> {
    // each takes the place of the one before.
    const IDENTIFIER: u8 = 7;
    let secret = Secret::new(SECRET.as_bytes().to_vec()).context("a shared secret")?;
    let (binds, server) = (world.subject.binds(), world.device()?.server());
    let socket = UdpSocket::bind(SocketAddr::new(world.clients.of_defaults()?, 0)).await?;
    let attributes = [Attribute { kind: AttributeType::USER_NAME, value: b"nemo" }];
    let mut noise = Noise::new();
    let mut last = [0; 16];
    for _ in 0..1000 {
        last.copy_from_slice(&noise.octets(16));
        let code = RequestCode::AccessRequest;
        let request =
            Request { code, identifier: IDENTIFIER, authenticator: last, attributes: &attributes, password: Some("") };
        socket.send_to(&request.write(&secret)?, server).await?;
    }
    let sent = Sent { identifier: IDENTIFIER, authenticator: last };
    // Some of the others may have been answered before the next one came.
    while genuine(&receive(&socket).await?, sent).ok() != Some(Code::AccessReject) {}
    ensure!(world.subject.binds() == binds);
    world.subject.is_well()
}

async fn r_01_noise_is_dropped_and_leaves_nothing_behind(world: &mut World) -> Result<()> {
    let mut noise = Noise::new();
    let (device, binds) = (world.device()?, world.subject.binds());
    let server = device.server();
    for source in [STRANGER, world.clients.of_defaults()?] {
        let socket = UdpSocket::bind(SocketAddr::new(source, 0)).await?;
        for round in 0..40 {
            for _ in 0..500 {
                let length = (noise.next_number() % 200) as usize;
                let mut datagram = noise.octets(length);
                // Half of them look like an Access-Request at first sight.
                if length >= 20 && noise.next_number().is_multiple_of(2) {
                    datagram[0] = 1;
                    datagram[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                }
                socket.send_to(&datagram, server).await?;
            }
            ensure!(device.status().await?.answer(5).await? == Answer::Accept, "round {round}");
        }
        world.silent.push(("noise".into(), socket));
    }
    ensure!(world.subject.binds() == binds);
    world.subject.is_well()
}

async fn what_was_dropped_was_not_answered_later_either(world: &mut World) -> Result<()> {
    silence(world)?;
    world.subject.is_well()
}

async fn row(world: &mut World, row: &str) -> Result<()> {
    tell(world, |vector| vector.row() == Some(row) && is_for_us(vector)).await
}

/// Sends the packets that are meant, each from a port of its own, and compares what becomes of them.
async fn tell(world: &mut World, meant: impl Fn(&RadiusVector) -> bool) -> Result<()> {
    let vectors: Vec<_> = world.vectors.iter().filter(|vector| meant(vector)).cloned().collect();
    ensure!(!vectors.is_empty(), "no packet of this row");
    let mut wrong = Vec::new();
    let before = world.subject.drops().await?;
    let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
    let (to_drop, to_answer): (Vec<_>, Vec<_>) =
        vectors.iter().partition(|vector| matches!(expected(vector), Ok(Expected::Dropped(_))));
    let binds = world.subject.binds();
    for vector in &to_drop {
        let Expected::Dropped(code) = expected(vector)? else { bail!("{} is not dropped", vector.name) };
        *dropped.entry(code).or_default() += 1;
        let socket = send(world, vector).await?;
        world.silent.push((vector.name.clone(), socket));
    }
    // A refusal that is begun after them all is held back as long as one of theirs would have been: when it is here, theirs
    // would be, too.
    ensure!(world.device()?.login("nemo", "").await? == Answer::Reject);
    silence(world)?;
    ensure!(world.subject.binds() == binds, "what was to be dropped reached the directory");
    let mut after = world.subject.drops().await?;
    for (code, count) in &before {
        *after.entry(code.clone()).or_default() -= count;
    }
    after.retain(|_, count| *count > 0);
    if after != dropped {
        wrong.push(format!("drops: {after:?} instead of {dropped:?}"));
    }
    for vector in to_answer {
        if let Err(error) = answered(world, vector).await {
            wrong.push(format!("{}: {error:#}", vector.name));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n     "));
    world.subject.is_well()
}

/// Nothing has come to where nothing was to come.
fn silence(world: &World) -> Result<()> {
    for (name, socket) in &world.silent {
        ensure!(socket.try_recv(&mut [0; 4096]).is_err(), "{name}: there is a reply");
    }
    Ok(())
}

async fn answered(world: &mut World, vector: &RadiusVector) -> Result<()> {
    let expected = expected(vector)?;
    let binds = world.subject.binds();
    let socket = send(world, vector).await?;
    let reply = receive(&socket).await?;
    let packet = vector.packet()?;
    let sent = Sent { identifier: packet[1], authenticator: packet[4..20].try_into()? };
    let code = genuine(&reply, sent)?;
    let (wanted, wanted_binds) = match expected {
        Expected::Alive => (Code::AccessAccept, 0),
        Expected::Rejected => (Code::AccessReject, 0),
        Expected::Accepted => (Code::AccessAccept, 1),
        Expected::Dropped(code) => bail!("it was to be dropped: {code}"),
    };
    ensure!(code == wanted, "{code:?} instead of {wanted:?}");
    let binds = world.subject.binds() - binds;
    ensure!(binds == wanted_binds, "{binds} binds instead of {wanted_binds}");
    world.sent.push((vector.name.clone(), socket));
    Ok(())
}

async fn send(world: &World, vector: &RadiusVector) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(world.clients.of(vector)?, 0)).await?;
    let server = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), world.subject.machine.twinlock.radius_port());
    socket.connect(server).await?;
    socket.send(&vector.packet()?).await?;
    Ok(socket)
}

async fn receive(socket: &UdpSocket) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.context("no reply")??;
    buffer.truncate(length);
    Ok(buffer)
}

/// The Code of a reply that proves itself, with its signature in the first place.
fn genuine(reply: &[u8], sent: Sent) -> Result<Code> {
    let packet = Packet::parse(reply, Port::AuthenticationReplies).context("a reply that is no packet")?;
    let secret = Secret::new(SECRET.as_bytes().to_vec()).context("a shared secret")?;
    verify_reply(&packet, &sent, &secret, Rule::Yes).context("a forged reply")?;
    ensure!(reply.get(20..22) == Some(&[80, 18]), "the reply does not begin with its signature");
    Ok(packet.code())
}

/// What a server does with a packet.
#[derive(Debug)]
enum Expected {
    /// By the drop code it is counted under.
    Dropped(String),
    /// Status-Server.
    Alive,
    /// Without asking the directory for a password.
    Rejected,
    /// After one bind.
    Accepted,
}

fn expected(vector: &RadiusVector) -> Result<Expected> {
    const STATUS_SERVER: u8 = 12;
    let packet = vector.packet()?;
    if !is_for_us(vector) {
        return Ok(Expected::Dropped("code".into()));
    }
    if let Some(code) = vector.key("expect").and_then(|text| text.strip_prefix("drop ")) {
        return Ok(Expected::Dropped(code.into()));
    }
    if packet[0] == STATUS_SERVER {
        return Ok(Expected::Alive);
    }
    if vector.key("refused") == Some("NothingToAnswer") {
        //
        return Ok(Expected::Dropped("ma_missing".into()));
    }
    let parsed = Packet::parse(&packet, Port::Authentication).context("it is sound")?;
    let other_secret = vector.key("previous").is_some() || vector.key("secret").is_some();
    if other_secret && parsed.has(AttributeType::MESSAGE_AUTHENTICATOR) {
        // The client here has one secret, and this is another one.
        return Ok(Expected::Dropped("ma_bad".into()));
    }
    let name = parsed.first(AttributeType::USER_NAME).and_then(|name| std::str::from_utf8(name).ok());
    let known = PASSWORDS.iter().any(|(user, _)| Some(*user) == name);
    let pap = vector.key("credentials").is_none_or(|kind| kind == "pap");
    let good = known
        && pap
        && vector.key("refused").is_none()
        && vector.key("password_error").is_none()
        && vector.key("password") != Some("\"\"")
        && !parsed.has(AttributeType::STATE);
    Ok(if good { Expected::Accepted } else { Expected::Rejected })
}

/// An Access-Request or a Status-Server, or meant to be one: what else there is has a Code of another port.
fn is_for_us(vector: &RadiusVector) -> bool {
    vector.key("port") == Some("authentication")
}

/// Those that can be sent to the one port there is.
fn receivable(vectors: Vec<RadiusVector>) -> Vec<RadiusVector> {
    let foreign = |vector: &RadiusVector| {
        !is_for_us(vector) && vector.packet().is_ok_and(|packet| matches!(packet.first(), Some(1 | 12)))
    };
    vectors.into_iter().filter(|vector| !foreign(vector)).collect()
}

/// A client of the settings for each set of rules, known by its address. One that learns its rule from its first packet
/// is made for one packet only.
struct Clients(BTreeMap<(Rules, Option<String>), IpAddr>);

impl Clients {
    fn for_all(vectors: &[RadiusVector]) -> Result<Self> {
        let mut clients = BTreeMap::new();
        for vector in vectors {
            let next = u8::try_from(clients.len() + 1)?;
            clients.entry(Self::key(vector)).or_insert(IpAddr::V4(Ipv4Addr::new(127, 1, 1, next)));
        }
        Ok(Self(clients))
    }

    fn key(vector: &RadiusVector) -> (Rules, Option<String>) {
        let rules = vector.rules();
        let learns = rules.message_authenticator == "auto";
        (rules, learns.then(|| vector.name.clone()))
    }

    fn of(&self, vector: &RadiusVector) -> Result<IpAddr> {
        self.0.get(&Self::key(vector)).copied().context("no client for it")
    }

    fn of_defaults(&self) -> Result<IpAddr> {
        let rules = Rules { message_authenticator: "yes".into(), limit_proxy_state: "auto".into() };
        self.0.get(&(rules, None)).copied().context("no client with the defaults")
    }

    fn settings(&self, secret_file: &str) -> String {
        let client = |((rules, _), address): (&(Rules, Option<String>), &IpAddr)| {
            let danger = rules.message_authenticator == "no" && rules.limit_proxy_state == "no";
            format!(
                "
[[client]]
name = \"vectors-{address}\"
protocol = \"radius\"
sources = [\"{address}/32\"]
target = \"acme\"
secret = \"file:{secret_file}\"
message_authenticator = \"{}\"
limit_proxy_state = \"{}\"
danger_accept_blastradius = {danger}
not_enrolled = \"pass\"
",
                rules.message_authenticator, rules.limit_proxy_state
            )
        };
        self.0.iter().map(client).collect()
    }
}

impl World {
    fn device(&self) -> Result<Device> {
        Device::new(self.clients.of_defaults()?, self.subject.machine.twinlock.radius_port(), SECRET)
    }
}

fn people() -> String {
    let person = |(uid, passwords): (&str, &[&str])| {
        // A value that begins with a blank has to be written as octets; slapd takes passwords escaped in this way, too.
        let passwords: String = passwords
            .iter()
            .map(|password| format!("userPassword:: {}\n", BASE64.encode(password.as_bytes())))
            .collect();
        format!(
            "dn: uid={uid},ou=people,{COMPANY_BASE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: \
             {uid}\nmail: {uid}@acme.example\n{passwords}\n"
        )
    };
    PASSWORDS.into_iter().map(person).collect()
}
