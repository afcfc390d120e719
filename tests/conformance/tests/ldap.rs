//! Rows B-40 to B-58 (and B-63) against a running gateway, by TCP, octet by octet, as far as one gateway before a real slapd
//! can show them: every client message of tests/vectors/ldap.vec, and what takes more than one message. What ends a
//! connection ends that one only: the process stays, and stays as large as it was.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use conformance::{LdapVector, Subject, ldap_vectors};
use e2e::{Application, code_of, socket_address, story};
use lab::{COMPANY_BASE, Slapd};
use ldap_wire::{
    BindRequest, Control, ExtendedRequest, ExtendedResponse, Filter, Framer, LdapResult, Limits, Message, MessageId,
    Op, Password, Peer, ResultCode, Scope, SearchRequest, ber::Writer, bind::unbind_request, extended::abandon_request,
    oid,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::{Instant, sleep},
};
use tokio_rustls::{TlsConnector, rustls};

/// May send passwords in clear text, and lets people in on the password alone.
const RAW: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 1, 2, 1));
/// The same, but people need a second factor; gitlab's own account does not.
const GATED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 1, 2, 2));
/// The same as raw; its connections are counted apart from those of the others.
const CROWD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 1, 2, 3));

const SETTINGS: &str = r#"
[[client]]
name = "raw"
protocol = "ldap"
sources = ["127.1.2.1/32", "127.1.2.3/32"]
target = "acme"
tls = "danger_optional"
not_enrolled = "pass"

[[client]]
name = "gated"
protocol = "ldap"
sources = ["127.1.2.2/32"]
target = "acme"
tls = "danger_optional"
service_accounts = [{ name = "cn=gitlab,ou=service,dc=acme,dc=example" }]
"#;

const NEMO: &str = "uid=nemo,ou=people,dc=acme,dc=example";
const NEMO_PASSWORD: &str = "arctangent";

const READ_TIMEOUT: Duration = Duration::from_secs(2);
const UNBOUND_IDLE: Duration = Duration::from_secs(6);
const CONNECTIONS_PER_SOURCE_MAX: usize = 50;

const SUCCESS: u32 = 0;
const OPERATIONS_ERROR: u32 = 1;
const PROTOCOL_ERROR: u32 = 2;
const AUTH_METHOD_NOT_SUPPORTED: u32 = 7;
const UNAVAILABLE_CRITICAL_EXTENSION: u32 = 12;
const INVALID_DN_SYNTAX: u32 = 34;
const INVALID_CREDENTIALS: u32 = 49;
const BUSY: u32 = 51;
const UNWILLING_TO_PERFORM: u32 = 53;
const CANNOT_CANCEL: u32 = 121;

struct World {
    subject: Subject,
    vectors: Vec<LdapVector>,
    told: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ldap_server_and_the_catalogue_of_bad_input() -> Result<()> {
    let nemo = format!(
        "dn: {NEMO}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: nemo\ncn: nemo\nsn: nemo\nuserPassword: \
         {NEMO_PASSWORD}\n"
    );
    let set = [
        format!("ldap.read_timeout_seconds={}", READ_TIMEOUT.as_secs()),
        format!("ldap.unbound_idle_seconds={}", UNBOUND_IDLE.as_secs()),
        format!("ldap.connections_per_source_max={CONNECTIONS_PER_SOURCE_MAX}"),
    ];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let subject = Subject::start(SETTINGS, &set, &nemo)?;
    let mut world = World { subject, vectors: ldap_vectors()?, told: 0 };
    story!(&mut world;
        sound_messages_are_answered_and_leave_the_connection_as_it_was,
        b_40_who_says_nothing_or_says_it_slowly_is_hung_up_on,
        b_40_what_is_not_ldap_is_closed_without_a_word,
        b_41_impossible_lengths_end_the_connection_at_the_header,
        b_42_a_message_may_be_as_long_as_the_limit_and_not_an_octet_longer,
        b_43_nested_filters_are_refused_at_once_however_deep,
        b_44_ber_that_ldap_does_not_allow_ends_the_connection,
        b_45_message_ids_that_cannot_be_end_the_connection,
        b_45_a_message_id_in_use_is_refused,
        b_46_operations_that_are_no_requests_end_the_connection,
        b_47_only_version_3_binds,
        b_48_empty_passwords_and_names_that_are_no_dn_never_reach_the_directory,
        b_49_other_ways_to_authenticate_are_not_supported,
        b_50_while_a_bind_is_pending_nothing_else_is_done,
        b_51_after_a_denied_bind_the_connection_is_nobody,
        b_52_a_thousand_requests_around_a_bind_are_each_answered_once_at_most,
        b_53_what_comes_glued_to_starttls_is_never_heard,
        b_54_starttls_is_for_a_quiet_connection_without_tls,
        b_55_abandons_without_end_are_ignored,
        b_56_controls_are_counted_and_passed_on_safely,
        b_57_names_without_measure_crash_nobody,
        b_58_attribute_lists_have_an_end,
        l_02_what_stands_behind_its_element_ends_the_connection,
        every_message_of_the_file_was_sent,
        b_63_connections_of_one_address_have_an_end,
    )
}

async fn sound_messages_are_answered_and_leave_the_connection_as_it_was(world: &mut World) -> Result<()> {
    tell(world, |vector| is_sound(vector) || vector.expected.starts_with("refused")).await
}

async fn b_40_who_says_nothing_or_says_it_slowly_is_hung_up_on(world: &mut World) -> Result<()> {
    // L-04
    tell(world, |vector| vector.expected == "incomplete").await?;
    let begin = Instant::now();
    let mut silent = application(world, RAW).await?;
    let mut slow = application(world, RAW).await?;
    let message = bind(1, NEMO, &"x".repeat(1000))?;
    let mut sent = 0;
    while slow.send(&message[sent..=sent]).await.is_ok() && sent < 60 {
        sent += 1;
        sleep(READ_TIMEOUT / 10).await;
    }
    ensure!(sent < 60, "an octet at a time it may last for ever");
    ensure!(slow.receive().await?.is_none());
    ensure!(silent.receive().await?.is_none());
    ensure!(begin.elapsed() > UNBOUND_IDLE / 2, "hung up on after {:?}", begin.elapsed());
    world.subject.is_well()
}

async fn b_40_what_is_not_ldap_is_closed_without_a_word(world: &mut World) -> Result<()> {
    tell(world, |vector| vector.expected.starts_with("closed, no notice")).await
}

async fn b_41_impossible_lengths_end_the_connection_at_the_header(world: &mut World) -> Result<()> {
    row(world, "B-41").await
}

async fn b_42_a_message_may_be_as_long_as_the_limit_and_not_an_octet_longer(world: &mut World) -> Result<()> {
    // L-01
    const UNBOUND_MAX: usize = 256_000;
    const BOUND_MAX: usize = 16 << 20;
    let padding = UNBOUND_MAX - bind(1, &"a".repeat(UNBOUND_MAX / 2), "x")?.len() + UNBOUND_MAX / 2;
    let mut nobody = application(world, RAW).await?;
    for (name_octets, allowed) in [(padding, true), (padding + 1, false)] {
        let message = bind(1, &"a".repeat(name_octets), "x")?;
        ensure!(message.len() == UNBOUND_MAX + usize::from(!allowed), "{} octets", message.len());
        if allowed {
            nobody.send(&message).await?;
            ensure!(answer(&mut nobody, 1).await? == INVALID_DN_SYNTAX);
        } else {
            // The header is enough.
            nobody.send(&message[..10]).await?;
            ends_with_notice(&mut nobody).await?;
        }
    }
    // Only the beginnings of messages: at the limit the gateway waits for more until its patience ends, beyond it does not.
    let beginning = |total: usize, op: u8| {
        let mut octets = vec![0x30, 0x84];
        octets.extend(((total - 6) as u32).to_be_bytes());
        octets.extend([0x02, 0x01, 0x05, op]);
        octets
    };
    const ADD: u8 = 0x68;
    const SEARCH: u8 = 0x63;
    for (total, op, allowed) in [
        (BOUND_MAX, ADD, true),
        (BOUND_MAX + 1, ADD, false),
        (UNBOUND_MAX, SEARCH, true),
        (UNBOUND_MAX + 1, SEARCH, false),
    ] {
        let mut nemo = bound(world, RAW).await?;
        let begin = Instant::now();
        nemo.send(&beginning(total, op)).await?;
        if allowed {
            ensure!(nemo.receive().await?.is_none(), "a notice to {total} octets");
            ensure!(begin.elapsed() > READ_TIMEOUT / 2, "{total} octets of {op:#x} are too many");
        } else {
            ends_with_notice(&mut nemo).await?;
        }
    }
    world.subject.is_well()
}

async fn b_43_nested_filters_are_refused_at_once_however_deep(world: &mut World) -> Result<()> {
    // L-03; up to the limit and one level beyond is told with the sound messages.
    const AND: u8 = 0xa0;
    const OR: u8 = 0xa1;
    const NOT: u8 = 0xa2;
    for depth in [100, 1_000, 10_000, 50_000, 1_000_000] {
        for tags in [&[AND][..], &[OR], &[NOT], &[AND, OR, NOT]] {
            let begin = Instant::now();
            let mut application = application(world, RAW).await?;
            // It may be closed before everything is written.
            let _ = application.send(&nested_search(depth, tags)).await;
            match application.receive().await? {
                Some(message) if message.op() == Op::SearchResultDone => {
                    ensure!(code_of(&message)? == PROTOCOL_ERROR, "depth {depth}");
                    works(&mut application).await?;
                }
                Some(message) => is_notice(&message)?,
                None => {}
            }
            ensure!(begin.elapsed() < Duration::from_secs(3), "depth {depth} took {:?}", begin.elapsed());
        }
    }
    world.subject.is_well()
}

async fn b_44_ber_that_ldap_does_not_allow_ends_the_connection(world: &mut World) -> Result<()> {
    row(world, "B-44").await
}

async fn b_45_message_ids_that_cannot_be_end_the_connection(world: &mut World) -> Result<()> {
    row(world, "B-45").await
}

async fn b_45_a_message_id_in_use_is_refused(world: &mut World) -> Result<()> {
    let mut nemo = bound(world, RAW).await?;
    let search = search(5, COMPANY_BASE, &["1.1"])?;
    let frozen = Frozen::new(&world.subject.machine.slapd)?;
    nemo.send(&search).await?;
    nemo.send(&search).await?;
    ensure!(answer(&mut nemo, 5).await? == PROTOCOL_ERROR, "the second one");
    drop(frozen);
    ensure!(answer(&mut nemo, 5).await? == SUCCESS, "the first one");
    works(&mut nemo).await?;
    world.subject.is_well()
}

async fn b_46_operations_that_are_no_requests_end_the_connection(world: &mut World) -> Result<()> {
    row(world, "B-46").await
}

async fn b_47_only_version_3_binds(world: &mut World) -> Result<()> {
    // L-09
    let binds = world.subject.binds();
    let mut application = application(world, RAW).await?;
    for version in [0, 1, 2, 4, 127, 128] {
        application.send(&raw_bind(1, version, NEMO.as_bytes(), 0x80, NEMO_PASSWORD.as_bytes())).await?;
        ensure!(answer(&mut application, 1).await? == PROTOCOL_ERROR, "version {version}");
    }
    ensure!(world.subject.binds() == binds);
    works(&mut application).await?;
    world.subject.is_well()
}

async fn b_48_empty_passwords_and_names_that_are_no_dn_never_reach_the_directory(world: &mut World) -> Result<()> {
    // L-10
    let binds = world.subject.binds();
    let mut application = application(world, RAW).await?;
    let long = format!("cn={}", "a".repeat(255_000));
    for (name, password, code) in [
        (NEMO, "", UNWILLING_TO_PERFORM),
        ("nemo", "", UNWILLING_TO_PERFORM),
        (" ", "", UNWILLING_TO_PERFORM),
        ("", NEMO_PASSWORD, INVALID_CREDENTIALS),
        ("", "", SUCCESS),
        (&long, NEMO_PASSWORD, INVALID_DN_SYNTAX),
        ("uid=ne\0mo,ou=people,dc=acme,dc=example", NEMO_PASSWORD, INVALID_DN_SYNTAX),
        ("uid=nemo\0,ou=people,dc=acme,dc=example", NEMO_PASSWORD, INVALID_DN_SYNTAX),
    ] {
        application.send(&bind(1, name, password)?).await?;
        let found = answer(&mut application, 1).await?;
        let name: String = name.chars().take(60).collect();
        ensure!(found == code, "{name:?} with {password:?}: {found} instead of {code}");
    }
    ensure!(world.subject.binds() == binds, "the directory saw a bind");
    works(&mut application).await?;
    world.subject.is_well()
}

async fn b_49_other_ways_to_authenticate_are_not_supported(world: &mut World) -> Result<()> {
    // L-36
    let binds = world.subject.binds();
    let mut application = application(world, RAW).await?;
    for choice in [0x81, 0x82, 0x89, 0x8a, 0x8b] {
        application.send(&raw_bind(1, 3, NEMO.as_bytes(), choice, NEMO_PASSWORD.as_bytes())).await?;
        ensure!(answer(&mut application, 1).await? == AUTH_METHOD_NOT_SUPPORTED, "choice {choice:#x}");
    }
    for mechanism in ["", "PLAIN", "EXTERNAL", "GSS-SPNEGO", &"M".repeat(64 << 10)] {
        let mut credentials = Writer::new();
        credentials.octet_string(mechanism.as_bytes());
        credentials.octet_string(format!("\0nemo\0{NEMO_PASSWORD}").as_bytes());
        application.send(&raw_bind(1, 3, b"", 0xa3, &credentials.into_vec())).await?;
        ensure!(answer(&mut application, 1).await? == AUTH_METHOD_NOT_SUPPORTED, "{mechanism:.20}");
    }
    ensure!(world.subject.binds() == binds);
    works(&mut application).await?;
    world.subject.is_well()
}

async fn b_50_while_a_bind_is_pending_nothing_else_is_done(world: &mut World) -> Result<()> {
    // L-12
    let binds = world.subject.binds();
    let mut nemo = application(world, RAW).await?;
    let frozen = Frozen::new(&world.subject.machine.slapd)?;
    nemo.send(&bind(1, NEMO, NEMO_PASSWORD)?).await?;
    nemo.send(&search(2, "", &["1.1"])?).await?;
    nemo.send(&bind(3, NEMO, NEMO_PASSWORD)?).await?;
    nemo.send(&ExtendedRequest::start_tls().encode(id(4)?, &[])).await?;
    nemo.send(&abandon_request(id(5)?, id(1)?)).await?;
    nemo.send(&ExtendedRequest::cancel(id(1)?).encode(id(6)?, &[])).await?;
    for (number, code) in [(2, PROTOCOL_ERROR), (3, PROTOCOL_ERROR), (4, PROTOCOL_ERROR), (6, CANNOT_CANCEL)] {
        let found = answer(&mut nemo, number).await?;
        ensure!(found == code, "message {number}: {found} instead of {code}");
    }
    // Another one says good-bye in the middle of its bind.
    let mut leaving = application(world, RAW).await?;
    leaving.send(&bind(1, NEMO, NEMO_PASSWORD)?).await?;
    leaving.send(&unbind_request(id(2)?)).await?;
    ensure!(leaving.receive().await?.is_none(), "an answer to who has left");
    drop(frozen);
    ensure!(answer(&mut nemo, 1).await? == SUCCESS, "the bind itself");
    ensure!(world.subject.binds() <= binds + 2, "more binds than were begun");
    works(&mut nemo).await?;
    world.subject.is_well()
}

async fn b_51_after_a_denied_bind_the_connection_is_nobody(world: &mut World) -> Result<()> {
    // L-32: what it was before, or what the password was good for, does not matter.
    let mut stranger = application(world, GATED).await?;
    let mut service = application(world, GATED).await?;
    ensure!(code_of(&service.bind(1, Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?)? == SUCCESS, "gitlab itself");
    let entries = service.search(2, COMPANY_BASE, &everything()?, &[]).await?;
    ensure!(entries.len() > 100, "gitlab sees {} entries", entries.len());
    for (name, password) in [(NEMO, NEMO_PASSWORD), (NEMO, "Nonsense"), ("nobody", "x")] {
        let denied = code_of(&service.bind(3, name, password).await?)?;
        ensure!(denied == INVALID_CREDENTIALS, "{name}: {denied}");
        let after = service.search(4, COMPANY_BASE, &everything()?, &[]).await?;
        ensure!(after == stranger.search(4, COMPANY_BASE, &everything()?, &[]).await?, "{name}: not as a stranger");
        ensure!(after.len() == 1, "entries for nobody");
    }
    world.subject.is_well()
}

async fn b_52_a_thousand_requests_around_a_bind_are_each_answered_once_at_most(world: &mut World) -> Result<()> {
    // L-11, L-12
    let mut before = application(world, RAW).await?;
    let mut octets = BytesMut::new();
    for number in 1..=1000 {
        octets.extend_from_slice(&search(number, "", &["1.1"])?);
    }
    octets.extend_from_slice(&bind(1001, NEMO, NEMO_PASSWORD)?);
    before.send(&octets).await?;
    let (answers, last) = answers_until(&mut before, 1001).await?;
    ensure!(last == SUCCESS, "the bind behind a thousand searches: {last}");
    ensure!(answers.values().all(|codes| matches!(codes[..], [SUCCESS | BUSY])), "{answers:?}");
    works(&mut before).await?;

    let mut after = application(world, RAW).await?;
    let mut octets = BytesMut::from(&bind(1, NEMO, NEMO_PASSWORD)?[..]);
    for number in 2..=1001 {
        octets.extend_from_slice(&search(number, "", &["1.1"])?);
    }
    after.send(&octets).await?;
    let mut answers = BTreeMap::new();
    while answers.len() < 1001 {
        let message = after.receive().await?.context("closed in the middle")?;
        if is_final(&message) {
            let code = code_of(&message)?;
            ensure!(answers.insert(message.id().get(), code).is_none(), "{} is answered twice", message.id().get());
        }
    }
    ensure!(answers.remove(&1) == Some(SUCCESS), "the bind before a thousand searches");
    let known = |code: &u32| [SUCCESS, PROTOCOL_ERROR, BUSY].contains(code);
    ensure!(answers.values().all(known) && answers.values().any(|code| *code == PROTOCOL_ERROR), "{answers:?}");
    works(&mut after).await?;
    world.subject.is_well()
}

async fn b_53_what_comes_glued_to_starttls_is_never_heard(world: &mut World) -> Result<()> {
    // L-08
    let binds = world.subject.binds();
    for glued in [bind(2, NEMO, NEMO_PASSWORD)?, search(2, "", &["1.1"])?, vec![0x30]] {
        let mut application = application(world, RAW).await?;
        let mut octets = ExtendedRequest::start_tls().encode(id(1)?, &[]).to_vec();
        octets.extend(glued);
        application.send(&octets).await?;
        ensure!(application.receive().await?.is_none(), "an answer to somebody in between");
    }
    ensure!(world.subject.binds() == binds);
    world.subject.is_well()
}

async fn b_54_starttls_is_for_a_quiet_connection_without_tls(world: &mut World) -> Result<()> {
    let request = ExtendedRequest::start_tls().encode(id(7)?, &[]);
    let mut nemo = bound(world, RAW).await?;
    nemo.send(&ExtendedRequest::new(oid::START_TLS, Some(Bytes::from_static(b"value"))).encode(id(6)?, &[])).await?;
    ensure!(answer(&mut nemo, 6).await? == PROTOCOL_ERROR, "with a value");
    let frozen = Frozen::new(&world.subject.machine.slapd)?;
    nemo.send(&search(5, COMPANY_BASE, &["1.1"])?).await?;
    nemo.send(&request).await?;
    ensure!(answer(&mut nemo, 7).await? == OPERATIONS_ERROR, "with a search outstanding");
    drop(frozen);
    ensure!(answer(&mut nemo, 5).await? == SUCCESS, "the search");

    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(RAW, 0))?;
    let mut tcp = socket.connect(socket_address(&world.subject.machine.twinlock.ldap_url())?).await?;
    tcp.write_all(&request).await?;
    ensure!(code_of(&read_message(&mut tcp).await?)? == SUCCESS, "the first one");
    let mut tls = tls(world)?.connect(ServerName::try_from("localhost")?, tcp).await?;
    tls.write_all(&request).await?;
    ensure!(code_of(&read_message(&mut tls).await?)? == OPERATIONS_ERROR, "a second one");
    tls.write_all(&bind(8, NEMO, NEMO_PASSWORD)?).await?;
    ensure!(code_of(&read_message(&mut tls).await?)? == SUCCESS, "a bind within");
    world.subject.is_well()
}

async fn b_55_abandons_without_end_are_ignored(world: &mut World) -> Result<()> {
    let mut application = bound(world, RAW).await?;
    for round in 0..100u32 {
        let mut octets = BytesMut::new();
        for number in 1..=1000 {
            // An unknown id, its own id, the id of the bind.
            let own = round * 1000 + number + 10;
            let target = [own + 1_000_000, own, 1][number as usize % 3];
            octets.extend_from_slice(&abandon_request(id(own)?, id(target)?));
        }
        application.send(&octets).await?;
    }
    works(&mut application).await?;
    world.subject.is_well()
}

async fn b_56_controls_are_counted_and_passed_on_safely(world: &mut World) -> Result<()> {
    // L-15
    row(world, "B-56").await?;
    let unknown = |critical| Control::new("1.2.3.4.5.6.7", critical, None);
    let mut nemo = bound(world, RAW).await?;
    for (controls, code) in [
        (vec![unknown(false)], SUCCESS),
        (vec![unknown(true)], UNAVAILABLE_CRITICAL_EXTENSION),
        (vec![unknown(false); 33], PROTOCOL_ERROR),
        (vec![unknown(false); 10_000], PROTOCOL_ERROR),
    ] {
        let found = with_controls(&mut nemo, &controls).await?;
        ensure!(found == Some(code), "{} controls: {found:?} instead of {code}", controls.len());
    }
    let paged = |size: i64, cookie: &[u8]| {
        let mut value = Writer::new();
        value.nested(0x30, |value| {
            value.integer(0x02, size);
            value.octet_string(cookie);
        });
        Control::new(oid::PAGED_RESULTS, true, Some(value.into_vec().into()))
    };
    let with = |oid: &str, octets: &'static [u8]| Control::new(oid, false, Some(Bytes::from_static(octets)));
    const VALUES_RETURN_FILTER: &str = "1.2.826.0.1.3344810.2.3";
    const DEREFERENCE: &str = "1.3.6.1.4.1.4203.666.5.16";
    const SORT: &str = "1.2.840.113556.1.4.473";
    const LIST_VIEW: &str = "2.16.840.1.113730.3.4.9";
    const SCOPED: &str = "1.2.840.113556.1.4.1504";
    for controls in [
        vec![paged(0, b"")],
        vec![paged(-1, b"")],
        vec![paged(i64::from(i32::MAX), b"")],
        vec![paged(10, b"a cookie of somebody else")],
        vec![paged(10, &[0xff; 4000])],
        vec![with(oid::PAGED_RESULTS, &[0x30, 0x05, 0x02])],
        vec![with(oid::PAGED_RESULTS, b"")],
        vec![with(VALUES_RETURN_FILTER, &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff])],
        vec![with(VALUES_RETURN_FILTER, b"junk")],
        vec![with(DEREFERENCE, &[0x30, 0x00])],
        vec![with(SORT, &[0x30, 0x00]), with(LIST_VIEW, &[0x30, 0x00]), paged(1, b"")],
        vec![with(LIST_VIEW, b"\x30"), with(SCOPED, b""), paged(1, b"")],
    ] {
        // What to say to it is the directory's to choose, to the point of closing. Nobody else notices.
        let mut other = bound(world, RAW).await?;
        let code = with_controls(&mut other, &controls).await.with_context(|| format!("{controls:?}"))?;
        if code.is_some() {
            works(&mut other).await.with_context(|| format!("{controls:?}"))?;
        }
        works(&mut nemo).await?;
    }
    world.subject.is_well()
}

/// The code of a search for everything with these controls; `None` where the directory says good-bye instead.
async fn with_controls(application: &mut Application, controls: &[Control]) -> Result<Option<u32>> {
    let request = SearchRequest::new(COMPANY_BASE.to_owned(), Scope::Subtree, &everything()?, &["1.1"]);
    application.send(&request.encode(id(9)?, controls)).await?;
    loop {
        let message = application.receive().await?.context("closed without a word")?;
        if message.id() == MessageId::UNSOLICITED {
            is_notice(&message)?;
            ensure!(application.receive().await?.is_none(), "not closed");
            return Ok(None);
        }
        ensure!(message.id().get() == 9, "message {}", message.id().get());
        if is_final(&message) {
            return Ok(Some(code_of(&message)?));
        }
    }
}

async fn b_57_names_without_measure_crash_nobody(world: &mut World) -> Result<()> {
    let binds = world.subject.binds();
    let mut stranger = application(world, RAW).await?;
    let names =
        ["cn=a,".repeat(10_000), " ".repeat(255_900), "cn=a+b+c".into(), format!("cn=a{}", "+cn=a".repeat(1500))];
    for name in &names {
        stranger.send(&bind(1, name, "x")?).await?;
        let code = answer(&mut stranger, 1).await?;
        ensure!([INVALID_DN_SYNTAX, INVALID_CREDENTIALS].contains(&code), "{name:.20}: {code}");
    }
    ensure!(world.subject.binds() == binds);
    let mut nemo = bound(world, RAW).await?;
    let mut rename = Writer::new();
    rename.nested(0x30, |message| {
        message.integer(0x02, 2);
        message.nested(0x6c, |rename| {
            rename.octet_string(NEMO.as_bytes());
            rename.octet_string(b"");
            rename.boolean(0x01, true);
        });
    });
    nemo.send(&rename.into_vec()).await?;
    let code = answer(&mut nemo, 2).await?;
    ensure!(code != SUCCESS, "renamed to nothing");
    for name in &names {
        nemo.send(&search(3, name, &["1.1"])?).await?;
        let code = answer(&mut nemo, 3).await?;
        ensure!(code != SUCCESS, "{name:.20}");
    }
    works(&mut nemo).await?;
    world.subject.is_well()
}

async fn b_58_attribute_lists_have_an_end(world: &mut World) -> Result<()> {
    // L-03
    let mut nemo = bound(world, RAW).await?;
    for (attributes, allowed) in [
        (vec!["a"; 4096], true),
        (vec!["a"; 4097], false),
        (vec![""; 100_000], false),
        (vec!["1.1", "*", "+"], true),
        (vec!["cn;lang-de;lang-en;binary;x-a;x-b;range=0-*"], true),
    ] {
        nemo.send(&search(3, "", &attributes)?).await?;
        let code = answer(&mut nemo, 3).await?;
        ensure!((code == PROTOCOL_ERROR) != allowed, "{} attributes: {code}", attributes.len());
    }
    works(&mut nemo).await?;
    world.subject.is_well()
}

async fn l_02_what_stands_behind_its_element_ends_the_connection(world: &mut World) -> Result<()> {
    // What the file has beyond the rows.
    tell(world, |vector| row_of(vector).is_none() && vector.expected.starts_with("closed") && !is_no_ldap(vector)).await
}

async fn every_message_of_the_file_was_sent(world: &mut World) -> Result<()> {
    ensure!(world.told == world.vectors.len(), "{} of {}", world.told, world.vectors.len());
    Ok(())
}

async fn b_63_connections_of_one_address_have_an_end(world: &mut World) -> Result<()> {
    // L-05
    let mut crowd = Vec::new();
    for _ in 0..CONNECTIONS_PER_SOURCE_MAX {
        let mut one = application(world, CROWD).await?;
        works(&mut one).await?;
        crowd.push(one);
    }
    for _ in 0..10 {
        let mut one = application(world, CROWD).await?;
        let _ = one.send(&search(1, "", &["1.1"])?).await;
        let first = one.receive().await?;
        ensure!(first.as_ref().is_none_or(|message| message.op() == Op::ExtendedResponse), "one too many is served");
    }
    works(&mut application(world, RAW).await?).await.context("another address")?;
    let mut freed = crowd.pop().context("one of them")?;
    freed.send(&unbind_request(id(1)?)).await?;
    ensure!(freed.receive().await?.is_none());
    works(&mut application(world, CROWD).await?).await.context("in the place of one that has gone")?;
    world.subject.is_well()
}

// --- the vectors -----------------------------------------------------------------------------------------------------

/// Those of a row that end the connection; what is sound or refused was told in the first sentence.
async fn row(world: &mut World, row: &str) -> Result<()> {
    let closed = |vector: &LdapVector| vector.expected.starts_with("closed") && !is_no_ldap(vector);
    tell(world, |vector| row_of(vector) == Some(row) && closed(vector)).await
}

fn row_of(vector: &LdapVector) -> Option<&str> {
    vector.source.get(..4).filter(|row| row.starts_with("B-"))
}

fn is_no_ldap(vector: &LdapVector) -> bool {
    vector.expected.starts_with("closed, no notice")
}

fn is_sound(vector: &LdapVector) -> bool {
    !["closed", "refused", "incomplete"].iter().any(|word| vector.expected.starts_with(word))
}

async fn tell(world: &mut World, meant: impl Fn(&LdapVector) -> bool) -> Result<()> {
    let vectors: Vec<_> = world.vectors.iter().filter(|vector| meant(vector)).cloned().collect();
    ensure!(!vectors.is_empty(), "no message of this row");
    let mut wrong = Vec::new();
    for vector in &vectors {
        let mut application = application(world, RAW).await?;
        application.send(&vector.octets).await?;
        if let Err(error) = judge(&mut application, vector).await {
            wrong.push(format!("{} => {}: {error:#}", vector.source, vector.expected));
        }
    }
    world.told += vectors.len();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n     "));
    world.subject.is_well()
}

async fn judge(application: &mut Application, vector: &LdapVector) -> Result<()> {
    if vector.expected == "incomplete" || is_no_ldap(vector) {
        ensure!(application.receive().await?.is_none(), "an answer");
        return Ok(());
    }
    if vector.expected.starts_with("closed") {
        return ends_with_notice(application).await;
    }
    let message = Message::parse(vector.octets.clone().into()).context("it is sound")?;
    let (number, op) = (message.id().get(), message.op());
    if vector.expected.starts_with("refused") {
        ensure!(answer(application, number).await? == PROTOCOL_ERROR, "not refused");
    } else {
        match op {
            Op::UnbindRequest => {
                ensure!(application.receive().await?.is_none(), "an answer to Unbind");
                return Ok(());
            }
            Op::AbandonRequest => {}
            _ => {
                let code = answer(application, number).await?;
                if op == Op::ExtendedRequest && vector.expected.ends_with(oid::START_TLS) {
                    ensure!(code == SUCCESS, "StartTLS: {code}");
                    return Ok(());
                }
            }
        }
    }
    works(application).await
}

// --- the connection --------------------------------------------------------------------------------------------------

async fn application(world: &World, from: IpAddr) -> Result<Application> {
    Application::connect(&world.subject.machine.twinlock.ldap_url(), from).await
}

/// A connection on which nemo is bound.
async fn bound(world: &World, from: IpAddr) -> Result<Application> {
    let mut application = application(world, from).await?;
    let code = code_of(&application.bind(1, NEMO, NEMO_PASSWORD).await?)?;
    ensure!(code == SUCCESS, "nemo is refused: {code}");
    Ok(application)
}

/// Whether the connection still serves: the root DSE is for everybody.
async fn works(application: &mut Application) -> Result<()> {
    const PROBE: u32 = 2_000_000_000;
    application.send(&search(PROBE, "", &["namingContexts"])?).await?;
    let code = answer(application, PROBE).await.context("it does not work any more")?;
    ensure!(code == SUCCESS, "it does not work any more: {code}");
    Ok(())
}

/// The code of the final response to a message, which comes next but for what belongs to it.
async fn answer(application: &mut Application, number: u32) -> Result<u32> {
    loop {
        let message = application.receive().await?.context("closed")?;
        ensure!(message.id().get() == number, "{:?} to message {}", message.op(), message.id().get());
        if is_final(&message) {
            return code_of(&message);
        }
    }
}

/// All codes that come before the answer to `last`, by message, and that one.
async fn answers_until(application: &mut Application, last: u32) -> Result<(BTreeMap<u32, Vec<u32>>, u32)> {
    let mut answers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    loop {
        let message = application.receive().await?.context("closed in the middle")?;
        if !is_final(&message) {
            continue;
        }
        let code = code_of(&message)?;
        if message.id().get() == last {
            return Ok((answers, code));
        }
        answers.entry(message.id().get()).or_default().push(code);
    }
}

fn is_final(message: &Message) -> bool {
    !matches!(message.op(), Op::SearchResultEntry | Op::SearchResultReference | Op::IntermediateResponse)
}

async fn ends_with_notice(application: &mut Application) -> Result<()> {
    is_notice(&application.receive().await?.context("closed without a notice")?)?;
    ensure!(application.receive().await?.is_none(), "not closed");
    Ok(())
}

/// RFC 4511 section 4.4.1, with protocolError.
fn is_notice(message: &Message) -> Result<()> {
    ensure!(message.id() == MessageId::UNSOLICITED, "{:?} to message {}", message.op(), message.id().get());
    let response = ExtendedResponse::decode(message)?;
    ensure!(response.oid.as_deref() == Some(oid::NOTICE_OF_DISCONNECTION), "{:?}", response.oid);
    let code = LdapResult::decode(message)?.code;
    ensure!(code == ResultCode::PROTOCOL_ERROR, "{code:?}");
    Ok(())
}

async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Result<Message> {
    let framer = Framer::new(Peer::Server, Limits::UPSTREAM);
    let mut received = BytesMut::new();
    loop {
        if let Some(message) = framer.next_message(&mut received)? {
            return Ok(message);
        }
        if stream.read_buf(&mut received).await? == 0 {
            bail!("closed");
        }
    }
}

fn tls(world: &World) -> Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(world.subject.machine.twinlock.certificate_file())?)?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The directory stands still as long as this lives: what asks it is pending.
struct Frozen<'a>(&'a Slapd);

impl<'a> Frozen<'a> {
    fn new(slapd: &'a Slapd) -> Result<Self> {
        slapd.process().context("slapd runs")?.signal("STOP");
        Ok(Self(slapd))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Some(process) = self.0.process() {
            process.signal("CONT");
        }
    }
}

// --- messages --------------------------------------------------------------------------------------------------------

fn id(number: u32) -> Result<MessageId> {
    MessageId::new(number).context("a message id")
}

fn everything() -> Result<Filter> {
    Ok("(objectClass=*)".parse::<Filter>()?)
}

fn bind(number: u32, name: &str, password: &str) -> Result<Vec<u8>> {
    Ok(BindRequest::simple(name.as_bytes().to_vec(), Password::new(password)).encode(id(number)?, &[]).to_vec())
}

/// A bind that may be what no client of ours would send.
fn raw_bind(number: i64, version: i64, name: &[u8], choice: u8, credentials: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.nested(0x30, |message| {
        message.integer(0x02, number);
        message.nested(0x60, |bind| {
            bind.integer(0x02, version);
            bind.octet_string(name);
            bind.octets(choice, credentials);
        });
    });
    out.into_vec()
}

/// For the base object alone.
fn search(number: u32, base: &str, attributes: &[&str]) -> Result<Vec<u8>> {
    let request = SearchRequest::new(base.to_owned(), Scope::Base, &everything()?, attributes);
    Ok(request.encode(id(number)?, &[]).to_vec())
}

/// A search whose filter is as deep as wanted, written from the inside to the outside so that it takes no recursion here.
fn nested_search(depth: usize, tags: &[u8]) -> Vec<u8> {
    let innermost = b"\x87\x0bobjectClass";
    let mut headers = Vec::with_capacity(depth);
    let mut length = innermost.len();
    for level in 0..depth {
        headers.push(header(tags[level % tags.len()], length));
        length += headers[level].len();
    }
    let mut filter: Vec<u8> = headers.into_iter().rev().flatten().collect();
    filter.extend(innermost);
    let mut search = b"\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00".to_vec();
    search.extend(filter);
    search.extend([0x30, 0x00]);
    let mut message = vec![0x02, 0x01, 0x02];
    message.extend(header(0x63, search.len()));
    message.extend(search);
    let mut out = header(0x30, message.len());
    out.extend(message);
    out
}

fn header(tag: u8, length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => vec![tag, short],
        _ => {
            let octets = (length as u32).to_be_bytes();
            let skip = octets.iter().take_while(|octet| **octet == 0).count();
            let mut out = vec![tag, 0x80 | (4 - skip) as u8];
            out.extend(&octets[skip..]);
            out
        }
    }
}
