//! The receive path: A1 and A2.

use crate::support::*;
use radius_gateway::{Nodes, RadiusSection};
use radius_wire::{AttributeType, Code, write_unsigned};
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::RefCell;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

#[tokio::test]
async fn what_is_not_genuine_gets_no_answer_and_reaches_nobody() {
    // A1, R-01, R-02, R-05, R-08; B-01, B-02, B-04 to B-08, B-12, B-16, B-22
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    let good = nas.question("ann", &format!("{ANN},{CODE}"));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut octets = good.octets.clone();
        change(&mut octets);
        octets
    };
    let length = |octets: &mut Vec<u8>, length: usize| octets[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    let mut bad = vec![vec![], vec![1], good.octets[..19].to_vec(), good.clone().unsigned().octets];
    for wrong in [0, 19, 4097, 65535, good.octets.len() + 1] {
        bad.push(with(&|octets| length(octets, wrong)));
    }
    for code in [0, 2, 3, 4, 5, 11, 13, 40, 43, 52, 255] {
        bad.push(with(&|octets| octets[0] = code));
    }
    // Attribute lengths 0 and 1, first and just before the signature; type 0; an overrun; a trailing octet.
    for inserted in [vec![1, 0], vec![1, 1], vec![0, 2]] {
        let octets = with(&|octets| {
            octets.splice(20..20, inserted.iter().copied());
            let new = octets.len();
            length(octets, new);
        });
        bad.push(octets);
    }
    bad.push(with(&|octets| *octets.last_mut().expect("not empty") ^= 1));
    bad.push(with(&|octets| octets[21] = 255));
    bad.push(with(&|octets| {
        octets.push(7);
        let new = octets.len();
        length(octets, new);
    }));
    for at in [1, 4, 22, 37, 40] {
        bad.push(with(&|octets| octets[at] ^= 1));
    }
    bad.push(with(&|octets| octets[22..38].fill(0)));
    let two_byte_attributes = write_unsigned(1, 1, &[5; 16], vec![attribute(AttributeType(200), b""); 2_038]);
    bad.push(two_byte_attributes.expect("4096 octets"));
    for octets in &bad {
        nas.send(octets).await;
    }
    nas.hears_nothing().await;
    assert_eq!((world.directory.binds(), world.verification.calls()), (0, vec![]));
    // None of it has left anything behind: the good one is new.
    assert_eq!(nas.ask(&good).await.code(), Code::AccessAccept);
}

#[tokio::test]
async fn a_million_random_datagrams_get_no_answer_and_keep_no_memory() {
    //
    const AT_ONCE: usize = 200;
    let world = World::new().await;
    // No budget spares it the look at each.
    let unlimited = RadiusSection { packets_per_second_max: 1_000_000.try_into().expect("the most"), ..section() };
    let gateway = world.node(Nodes::One, unlimited).await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let mut random = vec![0; 1 << 16];
    let mut resident = Vec::new();
    for number in 0..1_000_000_usize {
        if number % (1 << 14) == 0 {
            getrandom::fill(&mut random).expect("random octets");
            resident.push(lab::resident_kib(std::process::id()).expect("Linux"));
        }
        if number % AT_ONCE == 0 {
            // An answer, and that to this one, means that all before were looked at.
            let status = nas.status();
            assert_eq!(nas.ask(&status).await.code(), Code::AccessAccept);
        }
        let (at, length) = (number * 31 % (random.len() - 600), number % 600);
        let datagram = &mut random[at..at + length];
        if number % 2 == 0 && length >= 20 {
            // As far through the checks as chance lets them.
            datagram[0] = 1;
            datagram[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        }
        nas.send(datagram).await;
    }
    nas.hears_nothing().await;
    assert_eq!((world.directory.binds(), world.verification.decisions()), (0, 0));
    let grown = resident.last().expect("measured").saturating_sub(resident[resident.len() / 4]);
    assert!(grown < 4096, "{grown} KiB more: {resident:?}");
    let question = nas.question("ann", ANN);
    assert_eq!(nas.ask(&question).await.code(), Code::AccessChallenge);
}

#[tokio::test]
async fn what_seems_to_come_from_nowhere_or_from_ourselves_starts_no_game_of_ball() {
    // B-32: the source is spoofed, the packet itself is genuine
    let world = World::new().await;
    let gateway = world.gateway().await;
    let SocketAddr::V4(server) = gateway.address else { panic!("IPv4") };
    let mut nas = Nas::new("127.0.0.1", gateway.address, SECRET).await;
    let (nowhere, ourselves) = (nas.question("ann", ANN), nas.question("ann", "Nonsense"));
    let to = |source: &str, payload: &[u8]| spoof(source.parse().expect("an address"), server, payload);
    to("127.0.0.1:0", &nowhere.octets);
    // A client of the settings has these addresses, which mean many.
    for nobody in ["255.255.255.255:1812", "224.0.0.1:1812", "239.255.255.255:1812"] {
        to(nobody, &nowhere.octets);
    }
    nas.hears_nothing().await;
    assert_eq!(world.directory.binds(), 0, "nobody can be answered there");
    spoof(server, server, &ourselves.octets);
    until("it is at work", async || world.directory.binds() == 1).await;
    // Rejects are held back equally long: when a later one is here, that one has reached our own port, where no answer is expected;
    // and what came there before the next question was looked at before it.
    let later = nas.question("ann", "Other nonsense");
    assert_eq!(nas.ask(&later).await.code(), Code::AccessReject);
    assert_eq!(nas.ask(&nowhere).await.code(), Code::AccessChallenge);
    nas.hears_nothing().await;
    assert_eq!(world.directory.passwords(), ["Nonsense", "Other nonsense", ANN]);
}

#[tokio::test]
async fn two_servers_are_not_made_to_talk_to_each_other() {
    // B-32: genuine requests to the one that seem to come from the port of the other, which gets the answers and gives none
    let world = World::new().await;
    let at = |host| RadiusSection { listen: vec![(Ipv4Addr::new(127, 0, 77, host), 0).into()], ..section() };
    let (one, other) = (world.node(Nodes::One, at(1)).await, world.node(Nodes::One, at(2)).await);
    let (SocketAddr::V4(first), SocketAddr::V4(second)) = (one.address, other.address) else { panic!("IPv4") };
    let mut nas = Nas::new("127.0.0.1", one.address, SECRET).await;
    let (at_first, at_second) = (Overheard::at(*first.ip()), Overheard::at(*second.ip()));
    let (status, login) = (nas.status(), nas.question("ann", ANN));
    spoof(second, first, &status.octets);
    spoof(second, first, &login.octets);
    until("both are answered", async || at_second.codes().len() >= 2).await;
    // Both have looked at whatever came before a question that they answer.
    let mut nas_of_other = Nas::new("127.0.0.1", other.address, SECRET).await;
    for nas in [&mut nas, &mut nas_of_other] {
        let own = nas.question("ann", ANN);
        assert_eq!(nas.ask(&own).await.code(), Code::AccessChallenge);
    }
    let sorted = |mut codes: Vec<u8>| {
        codes.sort_unstable();
        codes
    };
    assert_eq!((sorted(at_first.codes()), sorted(at_second.codes())), (vec![1, 1, 12], vec![1, 2, 11]));
}

/// What comes to an address of this machine by UDP.
struct Overheard {
    address: Ipv4Addr,
    raw: Socket,
    codes: RefCell<Vec<u8>>,
}

impl Overheard {
    fn at(address: Ipv4Addr) -> Self {
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).expect("CAP_NET_RAW");
        raw.set_nonblocking(true).expect("a socket");
        raw.bind(&SocketAddrV4::new(address, 0).into()).expect("an address of ours");
        Self { address, raw, codes: RefCell::default() }
    }

    /// The RADIUS Codes so far.
    fn codes(&self) -> Vec<u8> {
        let mut octets = [0; 65_536];
        while let Ok(length) = (&self.raw).read(&mut octets) {
            // Until it was bound it heard what went to everybody.
            if octets[16..20] != self.address.octets() {
                continue;
            }
            // An IPv4 header says its own length in words (RFC 791 section 3.1); that of UDP has 8 octets.
            let payload = usize::from(octets[0] & 15) * 4 + 8;
            self.codes.borrow_mut().extend(octets[..length].get(payload));
        }
        self.codes.borrow().clone()
    }
}

/// A datagram from a source of our choice (RFC 791, RFC 768). The kernel fills in what is zero.
fn spoof(source: SocketAddrV4, server: SocketAddrV4, payload: &[u8]) {
    const UDP: u8 = 17;
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).expect("CAP_NET_RAW");
    raw.set_header_included_v4(true).expect("CAP_NET_RAW");
    let length = (8 + payload.len()) as u16;
    let mut octets = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
    octets.extend_from_slice(&source.ip().octets());
    octets.extend_from_slice(&server.ip().octets());
    octets.extend([source.port(), server.port(), length, 0].map(u16::to_be_bytes).concat());
    octets.extend_from_slice(payload);
    raw.send_to(&octets, &SocketAddr::V4(server).into()).expect("sent");
}

#[tokio::test]
async fn only_listed_sources_are_heard_and_the_longest_prefix_says_whose_secret_counts() {
    // A1 step 2, R-71
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut stranger = Nas::new(STRANGER, gateway.address, SECRET).await;
    let question = stranger.question("ann", ANN);
    stranger.send(&question.octets).await;
    let mut wide_with_narrow_secret = Nas::new(WIDE, gateway.address, SECRET).await;
    let question = wide_with_narrow_secret.question("ann", ANN);
    wide_with_narrow_secret.send(&question.octets).await;
    tokio::join!(stranger.hears_nothing(), wide_with_narrow_secret.hears_nothing());
    assert_eq!(world.directory.binds(), 0);
    let mut wide = Nas::new(WIDE, gateway.address, "another-secret-of-the-lab").await;
    let question = wide.question("ann", ANN);
    assert_eq!(wide.ask(&question).await.code(), Code::AccessChallenge);
    let mut narrow = Nas::new(NARROW, gateway.address, SECRET).await;
    let question = narrow.question("ann", ANN);
    assert_eq!(narrow.ask(&question).await.code(), Code::AccessChallenge);
}

#[tokio::test]
async fn a_packet_without_message_authenticator_is_heard_only_where_the_client_allows_it() {
    // B-13
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut vpn = Nas::new(VPN, gateway.address, SECRET).await;
    let question = vpn.question("ann", ANN).unsigned();
    vpn.send(&question.octets).await;
    let mut legacy = Nas::new(LEGACY, gateway.address, SECRET).await;
    let proxied = legacy.with(&[user_name("ann"), attribute(AttributeType::PROXY_STATE, &[0xaa; 200])], Some(ANN));
    legacy.send(&proxied.unsigned().octets).await;
    let eap = legacy.with(&[user_name("ann"), attribute(AttributeType::EAP_MESSAGE, &[2, 1, 0, 5, 1])], None);
    legacy.send(&eap.unsigned().octets).await;
    tokio::join!(vpn.hears_nothing(), legacy.hears_nothing());
    assert_eq!(world.directory.binds(), 0);
    let question = legacy.question("ann", ANN).unsigned();
    assert_eq!(legacy.ask(&question).await.code(), Code::AccessChallenge);
    assert_eq!(world.store.lessons(), [], "R-10: only auto learns");
}

#[tokio::test]
async fn auto_becomes_yes_with_the_first_signed_packet_on_every_node_and_for_good() {
    // R-10, first branch
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(AUTO, gateway.address, SECRET).await;
    let signed = nas.question("ann", "wrong password");
    assert_eq!(nas.ask(&signed).await.code(), Code::AccessReject);
    until("the store knows", async || world.store.lessons() == [("auto".to_owned(), true)]).await;
    let unsigned = nas.question("ann", ANN).unsigned();
    nas.send(&unsigned.octets).await;
    let second_node = world.gateway().await;
    nas.gateway = second_node.address;
    nas.send(&unsigned.octets).await;
    nas.hears_nothing().await;
    assert_eq!(world.directory.binds(), 1);
}

#[tokio::test]
async fn auto_becomes_no_only_when_the_password_of_an_unsigned_packet_was_right() {
    // a spoofed first packet without Message-Authenticator changes nothing
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut spoofer = Nas::new(AUTO, gateway.address, "not the secret").await;
    let spoofed = spoofer.question("ann", "anything at all, and more than 32 octets").unsigned();
    spoofer.send(&spoofed.octets).await;
    let mut nas = Nas::new(AUTO, gateway.address, SECRET).await;
    let wrong = nas.question("ann", "wrong password").unsigned();
    assert_eq!(nas.ask(&wrong).await.code(), Code::AccessReject);
    assert_eq!(world.store.lessons(), []);
    let right = nas.question("ann", ANN).unsigned();
    assert_eq!(nas.ask(&right).await.code(), Code::AccessChallenge);
    until("the store knows", async || world.store.lessons() == [("auto".to_owned(), false)]).await;
    let again = nas.question("ann", ANN).unsigned();
    assert_eq!(nas.ask(&again).await.code(), Code::AccessChallenge);
    assert_eq!(world.store.lessons().len(), 1);
}

#[tokio::test]
async fn a_lesson_the_store_could_not_take_is_told_again() {
    //
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(AUTO, gateway.address, SECRET).await;
    world.store.away(true);
    let signed = nas.question("ann", ANN);
    assert_eq!(nas.ask(&signed).await.code(), Code::AccessChallenge);
    let unsigned = nas.question("ann", ANN).unsigned();
    nas.send(&unsigned.octets).await;
    nas.hears_nothing().await;
    world.store.away(false);
    until("the store knows", async || world.store.lessons() == [("auto".to_owned(), true)]).await;
}

#[tokio::test]
async fn octets_behind_the_packet_are_padding() {
    // A1 step 5, B-03: even where they are a second valid packet
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(REQUIRED, gateway.address, SECRET).await;
    let question = nas.question("ann", &format!("{ANN},{CODE}"));
    let second = nas.question("ann", &format!("{ANN},{SECOND_CODE}"));
    nas.send(&[question.octets.as_slice(), &second.octets, &[9; 3_000]].concat()).await;
    assert_eq!(nas.hear(&question).await.code(), Code::AccessAccept);
    nas.hears_nothing().await;
    assert_eq!(world.directory.binds(), 1);
}

#[tokio::test]
async fn a_flood_from_one_source_is_cut_and_another_source_is_served() {
    // A1 step 3, B-17, CVE-2002-0318
    let world = World::new().await;
    let section = RadiusSection { packets_per_second_max: 100_u64.try_into().expect("in range"), ..section() };
    let gateway = world.node(Nodes::One, section).await;
    let mut flood = Nas::new(WIDE, gateway.address, "another-secret-of-the-lab").await;
    let probes: Vec<_> = (0..250).map(|_| flood.status()).collect();
    let begun = Instant::now();
    for probe in &probes {
        flood.send(&probe.octets).await;
    }
    let mut answered = 0;
    for probe in &probes {
        match tokio::time::timeout(Duration::from_millis(300), flood.hear(probe)).await {
            Ok(_) => answered += 1,
            Err(_) => break,
        }
    }
    // A hundred at once, and a hundred for each second it took to receive them.
    let gained = begun.elapsed().as_secs() as usize * 100 + 100;
    assert!((100..=100 + gained).contains(&answered) && answered < probes.len(), "{answered}");
    let mut other = Nas::new(NARROW, gateway.address, SECRET).await;
    let question = other.question("ann", ANN);
    assert_eq!(other.ask(&question).await.code(), Code::AccessChallenge);
}
