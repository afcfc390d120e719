//! The life of a connection: who may connect, StartTLS, sizes and clocks, what happens during a pending bind and at the end.

use crate::support::{Call, LIMIT, Lab, Misbehaviour, Wanted, Wire, capture, client, service_account, until};
use anyhow::{Context, Result};
use lab::{COMPANY_BASE, Slapd, password_of};
use ldap_wire::ber::Writer;
use ldap_wire::{
    BindRequest, ExtendedRequest, Filter, LdapResult, MessageId, Op, Password, Scope, SearchRequest, extended,
};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ANN: &str = "ann.archer";

async fn lab() -> Result<Lab> {
    let lab = Lab::start(Wanted::default()).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222", "333333"]);
    Ok(lab)
}

fn with_code(code: &str) -> String {
    format!("{},{code}", password_of(ANN))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlisted_source_is_closed_without_an_octet() -> Result<()> {
    // FL-04
    let lab = lab().await?;
    let mut stranger = lab.gateway.connect_plain_from([127, 0, 0, 9]).await?;
    // It may not even notice what was sent.
    let _ = stranger.send(&ExtendedRequest::start_tls().encode(MessageId::MAX, &[])).await;
    stranger.expect_silent_end().await?;
    assert!(capture::text().contains("\"drop\":\"unknown_client\""));
    let mut listed = lab.gateway.connect_plain().await?;
    assert_eq!(listed.search_code("", Scope::Base).await?, (0, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_gets_its_number_of_unbound_connections_and_no_more() -> Result<()> {
    // FL-20, L-05
    let lab =
        Lab::start(Wanted { section: |section| section.connections_per_source_max = 3, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    let mut wires = Vec::new();
    for _ in 0..3 {
        let mut wire = lab.connect().await?;
        assert_eq!(wire.search_code("", Scope::Base).await?.0, 0);
        wires.push(wire);
    }
    lab.gateway.connect_plain().await?.expect_silent_end().await?;
    // Whoever is bound does not count any more.
    assert_eq!(wires[0].bind(ANN, &with_code("111111")).await?, 0);
    let mut fourth = lab.connect().await?;
    assert_eq!(fourth.search_code("", Scope::Base).await?.0, 0);
    lab.gateway.connect_plain().await?.expect_silent_end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_second_factor_is_not_bound_whatever_the_password_was() -> Result<()> {
    // FL-20, L-41: a place that a right password set free would tell that it was right
    let lab =
        Lab::start(Wanted { section: |section| section.connections_per_source_max = 2, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    lab.gateway.verification.hold();
    let mut waits = lab.connect().await?;
    let answer = tokio::spawn(async move { waits.bind(ANN, &with_code("111111")).await });
    until("verification to be asked", || !lab.gateway.verification.attempts().is_empty()).await?;
    let mut second = lab.connect().await?;
    assert_eq!(second.search_code("", Scope::Base).await?.0, 0);
    lab.gateway.connect_plain().await?.expect_silent_end().await?;
    lab.gateway.verification.release();
    assert_eq!(answer.await??, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn start_tls_protects_once_and_takes_nothing_from_before() -> Result<()> {
    // L-08, B-53, B-54
    let lab = lab().await?;
    let mut wire = lab.gateway.connect_plain().await?;
    let value = ExtendedRequest::new(ldap_wire::oid::START_TLS, Some("x".into()));
    assert_eq!(wire.extended(&value).await?.result.code.0, 2);
    assert_eq!(wire.extended(&ExtendedRequest::start_tls()).await?.result.code.0, 0);
    let mut wire = wire.into_tls(&lab.tls).await?;
    assert_eq!(wire.extended(&ExtendedRequest::start_tls()).await?.result.code.0, 1, "twice");
    assert_eq!(wire.bind(ANN, &with_code("111111")).await?, 0);

    // Octets glued behind the request would be taken for octets of the protected session.
    let mut wire = lab.gateway.connect_plain().await?;
    let mut octets = ExtendedRequest::start_tls().encode(wire.next_id(), &[]).to_vec();
    let search = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &[]);
    octets.extend_from_slice(&search.encode(wire.next_id(), &[]));
    wire.send(&octets).await?;
    wire.expect_silent_end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_ends_tls_ends_the_connection_and_goes_on_with_nothing_in_clear_text() -> Result<()> {
    // L-08, RFC 4511 section 4.14.3
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let lab = lab().await?;
    for start_tls in [false, true] {
        let stream = match start_tls {
            false => TcpStream::connect(lab.gateway.gateway.tls_addresses()[0]).await?,
            true => {
                let mut stream = TcpStream::connect(url_address(&lab.gateway.plain_url())).await?;
                stream.write_all(&ExtendedRequest::start_tls().encode(MessageId::MAX, &[])).await?;
                let read = stream.read(&mut [0; 256]).await?;
                assert!(read > 0);
                stream
            }
        };
        let name = rustls_pki_types::ServerName::try_from("127.0.0.1")?;
        let mut tls = tokio_rustls::TlsConnector::from(lab.tls.clone()).connect(name, stream).await?;
        let search = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &["1.1"]);
        let search = search.encode(MessageId::MAX, &[]);
        tls.write_all(&search).await?;
        assert!(tls.read(&mut [0; 1024]).await? > 0, "it is served");
        // The alert, and TCP stays open.
        let (mut tcp, mut session) = tls.into_inner();
        session.send_close_notify();
        let mut alert = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut alert)?;
        }
        tcp.write_all(&alert).await?;
        let _ = tcp.write_all(&search).await;
        let mut rest = Vec::new();
        // A reset, where what came in clear text was not read.
        let ended = tokio::time::timeout(LIMIT, tcp.read_to_end(&mut rest)).await.context("it is not closed")?;
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
        assert!(!rest.starts_with(&[0x30]), "an answer in clear text: {rest:02x?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_be_as_large_as_its_limit_and_not_an_octet_larger() -> Result<()> {
    // L-01, B-42: the refusal comes at the header, before the rest is sent
    let lab = lab().await?;
    let add = |id: u8, total: usize| {
        // 30 84 <length> 02 01 <id> 68 84 <length> 04 <dn> 30 84 <length> ... one attribute that fills it up
        let long = |length: usize| [&[0x84][..], &(length as u32).to_be_bytes()].concat();
        let dn = b"cn=x,dc=acme,dc=example";
        let inner = total - 6 - 3 - 6;
        let list = inner - 2 - dn.len() - 6;
        let attribute = list - 6;
        let values = attribute - 4 - 6;
        let mut octets = [&[0x30][..], &long(total - 6), &[2, 1, id, 0x68], &long(inner)].concat();
        octets.extend([&[4, dn.len() as u8][..], dn].concat());
        octets.extend(
            [&[0x30][..], &long(list), &[0x30], &long(attribute), &[4, 2, b'c', b'n', 0x31], &long(values)].concat(),
        );
        octets.extend([&[4][..], &long(values - 6)].concat());
        octets.resize(total, b'x');
        octets
    };
    let mut wire = lab.connect().await?;
    wire.send(&add(1, 256_000)).await?;
    assert_eq!(LdapResult::decode(&wire.receive().await?)?.code.0, 50, "exactly the limit, and nobody is bound");
    wire.send(&add(2, 256_001)[..8]).await?;
    wire.expect_notice(2).await?;

    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &with_code("111111")).await?, 0);
    wire.send(&add(100, 300_000)).await?;
    let answer = wire.receive().await?;
    assert_eq!((answer.id().get(), answer.op()), (100, Op::AddResponse));
    wire.send(&add(101, (16 << 20) + 1)[..8]).await?;
    wire.expect_notice(2).await?;

    // A search stays small after a bind, too.
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &with_code("222222")).await?, 0);
    let mut search = add(102, 256_001);
    search[9] = 0x63;
    wire.send(&search[..16]).await?;
    wire.expect_notice(2).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ldap_ends_the_connection() -> Result<()> {
    // L-02, L-04, B-40, B-41, B-43, B-44, B-45, B-46
    let lab = lab().await?;
    for (octets, notice) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00"[..], false),
        (b"GET / HTTP/1.1\r\n\r\n", false),
        (b"\x30\x84\x7f\xff\xff\xff", true),
        (b"\x30\x80\x02\x01\x01", true),
        (b"\x30\x88\xff\xff\xff\xff\xff\xff\xff\xff", true),
        (b"\x30\x05\x02\x01\x00\x42\x00", true),
        (b"\x30\x07\x02\x01\x01\x61\x02\x0a\x00", true),
        (b"\x30\x05\x02\x01\x01\x5e\x00", true),
    ] {
        let mut wire = lab.gateway.connect_plain().await?;
        wire.send(octets).await?;
        match notice {
            true => wire.expect_notice(2).await?,
            false => wire.expect_silent_end().await?,
        }
    }
    // LDAP in clear where TLS begins with the first octet: long before a handshake is overdue. A reset is an end, too.
    let search = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &[]);
    let mut stream = TcpStream::connect(lab.gateway.gateway.tls_addresses()[0]).await?;
    stream.write_all(&search.encode(MessageId::new(1).expect("an id"), &[])).await?;
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut said)).await;
    assert!(ended.is_ok() && said.first() != Some(&0x30), "{ended:?} {said:02x?}");
    until("the hint about the port", || capture::text().contains("tls_on_plain_port")).await?;

    // 10^4 nested filters: refused quickly, before anybody is bound.
    let mut filter = vec![0x87, 0x01, b'a'];
    for _ in 0..10_000 {
        let mut writer = Writer::new();
        writer.octets(0xa0, &filter);
        filter = writer.into_vec();
    }
    let search = SearchRequest {
        filter: filter.into(),
        ..SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &[])
    };
    let mut wire = lab.gateway.connect_plain().await?;
    let start = Instant::now();
    let answer = wire.search(&search, &[]).await?;
    assert_eq!(LdapResult::decode(answer.last().expect("an end"))?.code.0, 2);
    assert!(start.elapsed() < Duration::from_secs(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_and_an_idle_connection_are_not_kept() -> Result<()> {
    // L-04, B-40
    let section = |section: &mut ldap_gateway::LdapSection| {
        (section.read_timeout_seconds, section.unbound_idle_seconds, section.bound_idle_seconds) = (1, 2, 4);
    };
    let lab = Lab::start(Wanted { section, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    let mut bound = lab.connect().await?;
    assert_eq!(bound.bind(ANN, &with_code("111111")).await?, 0);
    let start = Instant::now();
    let mut half = lab.gateway.connect_plain().await?;
    let mut drip = lab.gateway.connect_plain().await?;
    let mut idle = lab.gateway.connect_plain().await?;
    half.send(&[0x30, 0x20, 0x02]).await?;
    // An octet now and then does not put the clock off: it runs from the first one.
    for octet in [0x30, 0x20, 0x02] {
        drip.send(&[octet]).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    half.expect_silent_end().await.context("half a message")?;
    drip.expect_silent_end().await.context("octet by octet")?;
    assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
    idle.expect_silent_end().await.context("idle")?;
    assert!(start.elapsed() >= Duration::from_millis(1900), "{:?}", start.elapsed());
    bound.expect_silent_end().await.context("idle and bound")?;
    assert!(start.elapsed() >= Duration::from_millis(3500), "{:?}", start.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_during_a_pending_bind_neither_passes_nor_ends_it() -> Result<()> {
    // L-12, B-50, B-52, B-55
    let lab = lab().await?;
    let verification = &lab.gateway.verification;
    verification.hold();
    let mut wire = lab.connect().await?;
    let bind = wire.send_bind(ANN, &with_code("111111"), &[]).await?;
    let begun = || verification.calls().iter().any(|call| matches!(call, Call::Begin { .. }));
    until("the second lock to be asked", begun).await?;
    let searches = || {
        lab.slapd.log().lines().filter(|line| line.contains("SRCH base=\"dc=acme") && line.contains("scope=0")).count()
    };
    let before = searches();

    let second = wire.send_bind(ANN, &with_code("222222"), &[]).await?;
    let search = SearchRequest::new(COMPANY_BASE, Scope::Base, &Filter::present("objectClass"), &["1.1"]);
    let search = wire.send_search(&search, &[]).await?;
    for (id, op) in [(second, Op::BindResponse), (search, Op::SearchResultDone)] {
        let answer = wire.receive().await?;
        assert_eq!((answer.id(), answer.op()), (id, op));
        let result = LdapResult::decode(&answer)?;
        assert_eq!((result.code.0, &*result.diagnostic_text()), (2, "bind in progress"));
    }
    assert_eq!(wire.extended(&ExtendedRequest::start_tls()).await?.result.code.0, 2);
    let abandon = wire.next_id();
    wire.send(&extended::abandon_request(abandon, bind)).await?;
    assert_eq!(wire.extended(&ExtendedRequest::cancel(bind)).await?.result.code.0, 121);
    assert_eq!(searches(), before, "nothing reached the directory");

    verification.release();
    let answer = wire.receive().await?;
    assert_eq!((answer.id(), LdapResult::decode(&answer)?.code.0), (bind, 0));
    assert_eq!(lab.slapd.binds(ANN), 1);
    assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?, (0, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_takes_its_attempt_with_it() -> Result<()> {
    // L-13: by closing, by reset, by Unbind
    let lab = Lab::start(Wanted { client: client("leaver"), ..Wanted::default() }).await?;
    let verification = &lab.gateway.verification;
    verification.enrol(ANN, &["111111", "222222", "333333", "444444"]);
    for (leave, code) in [("close", "111111"), ("unbind", "222222"), ("reset", "333333")] {
        verification.hold();
        verification.forget_calls();
        let lines = capture::authentications("leaver").len();
        let mut wire = lab.gateway.connect_as(Some(&lab.tls), leave == "reset").await?;
        wire.send_bind(ANN, &with_code(code), &[]).await?;
        let begun = || verification.calls().iter().any(|call| matches!(call, Call::Begin { .. }));
        until("the second lock to be asked", begun).await?;
        let left = Instant::now();
        if leave == "unbind" {
            let id = wire.next_id();
            wire.send(&ldap_wire::bind::unbind_request(id)).await?;
            wire.expect_silent_end().await?;
        }
        drop(wire);
        let reason = || "user_cancelled".to_owned();
        let ended = [Call::Cancel(reason()), Call::Report { username: ANN.into(), reason: reason() }];
        until("the attempt to be withdrawn", || verification.calls().ends_with(&ended)).await?;
        assert!(left.elapsed() < Duration::from_secs(1), "{leave} took {:?}", left.elapsed());
        // The connection at the directory is closed by now, and a late Allow finds nobody.
        verification.release();
        let seen = capture::authentications("leaver");
        assert_eq!(seen.len(), lines + 1, "{leave}");
        assert_eq!(seen[lines]["reason"], "user_cancelled", "{leave}");
    }
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &with_code("444444")).await?, 0, "the next bind asks anew");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_re_bind_leaves_nobody_bound() -> Result<()> {
    // L-32, B-51, I1
    let listed =
        domain::settings::Client { service_accounts: vec![service_account(Slapd::GITLAB_DN)], ..client("rebind") };
    let lab = Lab::start(Wanted { client: listed, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    until("the id to be kept", || !lab.gateway.settings.pinned().is_empty()).await?;
    let mut wire = lab.connect().await?;
    for refused in [with_code("999999"), "wrong,111111".into(), password_of(ANN), String::new()] {
        assert_eq!(wire.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, 0);
        assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?, (0, 1));
        assert_ne!(wire.bind(ANN, &refused).await?, 0, "{refused}");
        assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?, (50, 0), "{refused}");
        assert_eq!(wire.who_am_i().await?, Err(50), "{refused}");
    }
    assert_eq!(wire.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?, 0);
    assert_eq!(wire.bind(ANN, &with_code("111111")).await?, 0);
    assert_eq!(wire.who_am_i().await?, Ok(format!("dn:{}", lab.person(ANN))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bind_drops_what_was_outstanding_before_it() -> Result<()> {
    // L-11, B-52
    let lab = Lab::start(Wanted { bulk_people: 1000, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222"]);
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &with_code("111111")).await?, 0);
    let search = SearchRequest::new(COMPANY_BASE, Scope::Subtree, &Filter::present("uid"), &["*", "+"]);
    let search_id = wire.next_id();
    let mut octets = search.encode(search_id, &[]).to_vec();
    let bind_id = wire.next_id();
    let bind = BindRequest::simple(ANN, Password::new(with_code("222222").as_bytes()));
    octets.extend_from_slice(&bind.encode(bind_id, &[]));
    wire.send(&octets).await?;
    // Whatever of the search was under way may come; the bind's answer comes last, and nothing of the search after it.
    loop {
        let message = wire.receive().await?;
        if message.id() == bind_id {
            assert_eq!(LdapResult::decode(&message)?.code.0, 0);
            break;
        }
        assert_eq!(message.id(), search_id);
    }
    assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?, (0, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_waited_for_and_then_closed_and_costs_no_memory() -> Result<()> {
    // L-05, B-64
    let section = |section: &mut ldap_gateway::LdapSection| section.write_stall_seconds = 2;
    let lab = Lab::start(Wanted { bulk_people: 1000, section, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &with_code("111111")).await?, 0);
    let search = SearchRequest::new(COMPANY_BASE, Scope::Subtree, &Filter::present("uid"), &["*", "+"]);
    let mut octets = Vec::new();
    for _ in 0..60 {
        let id = wire.next_id();
        octets.extend_from_slice(&search.encode(id, &[]));
    }
    wire.send(&octets).await?;
    // Some 30 MB want to come, more than the sockets hold. Nobody reads, and after the stall the connection is gone.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    // The directory was not read either: most of its answers never left it.
    let answered =
        lab.slapd.log().lines().filter(|line| line.contains("SEARCH RESULT") && line.contains("nentries=112")).count();
    assert!(answered < 40, "{answered} of 60 searches ended");
    let mut received = 0;
    while let Ok(Some(message)) = wire.next().await {
        received += message.octets().len();
    }
    assert!(received > 0 && received < 25_000_000, "{received}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_rules_changed_goes_on_under_the_new_ones() -> Result<()> {
    // Whoever was bound under the old rules has to come again
    let lab = lab().await?;
    let mut idle = lab.connect().await?;
    let mut bound = lab.connect().await?;
    assert_eq!(bound.bind(ANN, &with_code("111111")).await?, 0);
    assert_eq!(idle.search_code("", Scope::Base).await?.0, 0);
    lab.gateway.change_settings(|settings| settings.clients[0].anonymous = domain::settings::Anonymous::Refuse).await?;
    assert_eq!(idle.search_code("", Scope::Base).await?.0, 50);
    let search = SearchRequest::new(COMPANY_BASE, Scope::Base, &Filter::present("objectClass"), &["1.1"]);
    bound.send_search(&search, &[]).await?;
    bound.expect_notice(52).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_work_end_and_says_goodbye() -> Result<()> {
    // L-19
    let lab = lab().await?;
    let verification = &lab.gateway.verification;
    let mut bound = lab.connect().await?;
    assert_eq!(bound.bind(ANN, &with_code("111111")).await?, 0);
    verification.hold();
    let mut pending = lab.connect().await?;
    let bind = pending.send_bind(ANN, &with_code("222222"), &[]).await?;
    let begun = || verification.calls().iter().filter(|call| matches!(call, Call::Begin { .. })).count() == 2;
    until("the second lock to be asked", begun).await?;
    let process = lab.gateway.process.clone();
    let finished = tokio::spawn(async move { process.finish().await });
    bound.expect_notice(52).await?;
    until("no new connections", || std::net::TcpStream::connect(url_address(&lab.gateway.plain_url())).is_err())
        .await?;
    verification.release();
    let answer = pending.receive().await?;
    assert_eq!((answer.id(), LdapResult::decode(&answer)?.code.0), (bind, 0));
    pending.expect_notice(52).await?;
    finished.await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_drain_does_not_see_end_is_refused() -> Result<()> {
    // LDAP 52, then the notice
    let lab = Lab::start(Wanted { client: client("stopped"), ..Wanted::default() }).await?;
    let verification = &lab.gateway.verification;
    verification.enrol(ANN, &["111111"]);
    verification.hold();
    let mut pending = lab.connect().await?;
    let bind = pending.send_bind(ANN, &with_code("111111"), &[]).await?;
    until("the second lock to be asked", || verification.calls().iter().any(|it| matches!(it, Call::Begin { .. })))
        .await?;
    let process = lab.gateway.process.clone();
    let finished = tokio::spawn(async move { process.finish().await });
    let answer = pending.receive().await?;
    assert_eq!((answer.id(), LdapResult::decode(&answer)?.code.0), (bind, 52));
    pending.expect_notice(52).await?;
    finished.await?;
    let lines = capture::authentications("stopped");
    assert_eq!(lines.iter().map(|line| line["reason"].clone()).collect::<Vec<_>>(), ["shutting_down"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_when_the_clients_wait_is_over() -> Result<()> {
    // FL-09
    let lab = Lab::start(Wanted {
        client: domain::settings::Client { wait_seconds: 1, ..client("waits") },
        ..Wanted::default()
    })
    .await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    lab.gateway.verification.hold();
    let start = Instant::now();
    assert_eq!(lab.connect().await?.bind(ANN, &with_code("111111")).await?, 49);
    assert!(start.elapsed() < Duration::from_secs(3));
    let lines = capture::authentications("waits");
    assert_eq!(lines.iter().map(|line| line["reason"].clone()).collect::<Vec<_>>(), ["no_answer"]);
    lab.gateway.verification.release();
    lab.gateway.verification.misbehave(Misbehaviour::None);
    Ok(())
}

fn url_address(url: &str) -> std::net::SocketAddr {
    url.trim_start_matches("ldap://").parse().expect("an address")
}

#[test]
fn a_port_in_use_is_said_in_one_sentence() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let error = runtime.block_on(async {
        let section = ldap_gateway::LdapSection { listen: vec![address], ..Default::default() };
        let settings = domain::settings::Settings { clients: vec![client("there")], ..Default::default() };
        let settings = crate::support::FakeSettings::new(settings, "");
        let deps = ldap_gateway::Deps {
            verification: crate::support::FakeVerification::new(),
            settings,
            fail_open: std::sync::Arc::new(crate::support::FakeFailOpen::default()),
            password_tries: std::sync::Arc::new(crate::support::FakePasswordTries::default()),
            standing: std::sync::Arc::new(crate::support::FakeStanding::default()),
            bus: std::sync::Arc::new(service_kit::bus::InProcess::new()),
            clock: service_kit::Clock::system(),
        };
        let process = service_kit::Process::detached("ldap-gateway-test");
        ldap_gateway::Gateway::start(&section, deps, &process).await.err().map(|error| format!("{error:#}"))
    });
    let error = error.unwrap_or_default();
    assert!(
        error.starts_with(&format!("ldap.listen: the LDAP port {address} cannot be opened: Address already in use")),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ldap_is_spoken_by_ipv6_too() -> Result<()> {
    // FL-02: beside IPv4, with a certificate and without
    let section = |section: &mut ldap_gateway::LdapSection| {
        let both = || vec![([127, 0, 0, 1], 0).into(), (std::net::Ipv6Addr::LOCALHOST, 0).into()];
        (section.listen, section.tls_listen) = (both(), Some(both()));
    };
    let sources = ["127.0.0.1/32", "::1/128"].map(|network| network.parse().expect("a network")).to_vec();
    let client = domain::settings::Client { sources, ..client("both") };
    let lab = Lab::start(Wanted { section, client, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222", "333333", "444444"]);
    let (plain, tls) = (lab.gateway.gateway.addresses(), lab.gateway.gateway.tls_addresses());
    assert_eq!([&plain, &tls].map(|open| open.iter().filter(|it| it.is_ipv6()).count()), [1, 1]);
    for (number, address) in plain.iter().chain(&tls).enumerate() {
        let stream = TcpStream::connect(address).await?;
        let mut wire = match number < plain.len() {
            true => {
                let mut plain = Wire::plain(stream);
                assert_eq!(plain.extended(&ExtendedRequest::start_tls()).await?.result.code.0, 0, "{address}");
                plain.into_tls(&lab.tls).await?
            }
            false => Wire::tls(stream, &lab.tls).await?,
        };
        let code = ["111111", "222222", "333333", "444444"][number];
        assert_eq!(wire.bind(ANN, &with_code(code)).await?, 0, "{address}");
        let attempts = lab.gateway.verification.attempts();
        let from = &attempts.last().context("an attempt")?.0.client_ip;
        assert_eq!(*from, address.ip().to_string(), "the audit names the address");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_ports_together_accept_so_many_a_second() -> Result<()> {
    // L-05
    const AT_ONCE: usize = 60;
    let section = |section: &mut ldap_gateway::LdapSection| section.accepts_per_second_max = 20;
    let lab = Lab::start(Wanted { section, ..Wanted::default() }).await?;
    let started = Instant::now();
    let mut waiting = Vec::new();
    for number in 0..AT_ONCE {
        let ports = [lab.gateway.gateway.addresses()[0], lab.gateway.gateway.tls_addresses()[0]];
        let mut stream = TcpStream::connect(ports[number % 2]).await?;
        // What is neither LDAP nor a handshake is closed, once somebody has accepted it.
        stream.write_all(&[0xff; 8]).await?;
        waiting.push(stream);
    }
    for mut stream in waiting {
        let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut Vec::new())).await.context("it stays open")?;
    }
    // 20 at once, if nobody came in the second before, and 20 each second.
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1_700) && took < Duration::from_secs(10), "{took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_balancer_says_whom_it_speaks_for_and_nobody_else_does() -> Result<()> {
    // FB-10: the client is 127.0.0.1, the balancer is not
    const BALANCER: [u8; 4] = [127, 0, 0, 8];
    let section = |section: &mut ldap_gateway::LdapSection| {
        section.proxy_protocol_from = vec!["127.0.0.8/32".parse().expect("a network")];
    };
    let lab = Lab::start(Wanted { section, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    let header = |source: [u8; 4]| {
        let mut octets = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
        octets.extend([&source[..], &BALANCER, &[0x30, 0x39, 0x01, 0x85]].concat());
        octets
    };
    let search = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &[]);
    let mut wire = lab.gateway.connect_plain_from(BALANCER).await?;
    wire.send(&header([127, 0, 0, 1])).await?;
    assert_eq!(wire.search_code("", Scope::Base).await?, (0, 1));
    assert_eq!(wire.extended(&ExtendedRequest::start_tls()).await?.result.code.0, 0);
    let mut wire = wire.into_tls(&lab.tls).await?;
    assert_eq!(wire.bind(ANN, &with_code("111111")).await?, 0);
    let attempts = lab.gateway.verification.attempts();
    assert_eq!(attempts.last().context("an attempt")?.0.client_ip, "127.0.0.1", "the audit names the client");
    // Nobody named, a stranger behind it, the header of version 1, and one from whoever is no balancer.
    let strange: [(&[u8; 4], Vec<u8>); 4] = [
        (&BALANCER, search.encode(MessageId::MAX, &[]).to_vec()),
        (&BALANCER, header([127, 0, 0, 9])),
        (&BALANCER, b"PROXY TCP4 127.0.0.1 127.0.0.8 12345 389\r\n".to_vec()),
        (&[127, 0, 0, 1], header([127, 0, 0, 1])),
    ];
    for (from, octets) in strange {
        let mut wire = lab.gateway.connect_plain_from(*from).await?;
        let _ = wire.send(&octets).await;
        wire.expect_silent_end().await.with_context(|| format!("{from:?}: {octets:02x?}"))?;
    }
    assert!(capture::text().contains("\"drop\":\"proxy_header\""));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_behind_a_balancer_has_limits_of_its_own() -> Result<()> {
    // L-05, FL-20, FB-10
    const BALANCER: [u8; 4] = [127, 0, 0, 8];
    let section = |section: &mut ldap_gateway::LdapSection| {
        section.proxy_protocol_from = vec!["127.0.0.8/32".parse().expect("a network")];
        (section.connections_per_source_max, section.connections_max) = (2, 5);
    };
    let client =
        domain::settings::Client { sources: vec!["127.0.0.0/29".parse().expect("a network")], ..client("behind") };
    let lab = Lab::start(Wanted { section, client, ..Wanted::default() }).await?;
    let from = async |source: [u8; 4]| -> Result<Wire> {
        let mut wire = lab.gateway.connect_plain_from(BALANCER).await?;
        let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c";
        wire.send(&[&head[..], &source, &BALANCER, &[0x30, 0x39, 0x01, 0x85]].concat()).await?;
        Ok(wire)
    };
    let mut seated = Vec::new();
    for source in [[127, 0, 0, 1], [127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 2]] {
        let mut wire = from(source).await?;
        assert_eq!(wire.search_code("", Scope::Base).await?, (0, 1), "{source:?}");
        seated.push(wire);
    }
    for source in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        from(source).await?.expect_silent_end().await.with_context(|| format!("{source:?}"))?;
    }
    // The balancer's own connections have a bound too, before anybody is named on them.
    let unnamed = lab.gateway.connect_plain_from(BALANCER).await?;
    lab.gateway.connect_plain_from(BALANCER).await?.expect_silent_end().await?;
    drop(unnamed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_binds_too_often_is_told_to_wait_before_its_password_is_looked_at() -> Result<()> {
    // B5, FL-21: 51 without a bind at the directory, and whoever was bound is so no more
    let wanted =
        Wanted { section: |section| section.binds_per_second_max = 3, client: client("eager"), ..Wanted::default() };
    let lab = Lab::start(wanted).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    let good = format!("{},111111", password_of(ANN));
    let mut wire = lab.connect().await?;
    let started = Instant::now();
    assert_eq!(wire.bind(ANN, &good).await?, 0);
    let (mut others, mut busy) = (0, 0);
    for _ in 0..40 {
        match wire.bind("nobody", "").await? {
            53 => others += 1,
            51 => busy += 1,
            code => panic!("{code}"),
        }
        assert_eq!(wire.who_am_i().await?, Err(50));
    }
    let allowed = 2 + 3 * (started.elapsed().as_secs() + 1);
    assert!(busy > 0 && others as u64 <= allowed, "{others} looked at, {busy} not");
    assert_eq!(lab.client_binds(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_ipv6_is_one_source_whatever_addresses_it_takes() -> Result<()> {
    // L-05, B5: a balancer names hosts of two networks
    let section = |section: &mut ldap_gateway::LdapSection| {
        section.proxy_protocol_from = vec!["127.0.0.1/32".parse().expect("a network")];
        (section.connections_per_source_max, section.binds_per_second_max) = (3, 2);
    };
    let client =
        domain::settings::Client { sources: vec!["2001:db8::/32".parse().expect("a network")], ..client("six") };
    let lab = Lab::start(Wanted { section, client, ..Wanted::default() }).await?;
    let from = async |address: &str| -> Result<Wire> {
        let octets = address.parse::<std::net::Ipv6Addr>()?.octets();
        let mut wire = lab.gateway.connect_plain().await?;
        // PROXY protocol version 2, TCP over IPv6.
        let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24";
        wire.send(&[&head[..], &octets, &octets, &[0x30, 0x39, 0x01, 0x85]].concat()).await?;
        Ok(wire)
    };
    let mut seated = Vec::new();
    for host in 1..=3 {
        let mut wire = from(&format!("2001:db8::{host}")).await?;
        assert_eq!(wire.search_code("", Scope::Base).await?, (0, 1), "{host}");
        seated.push(wire);
    }
    from("2001:db8::ffff:1").await?.expect_silent_end().await.context("one more of the same network")?;
    let mut other = from("2001:db8:0:1::1").await?;
    let (started, mut busy) = (Instant::now(), 0);
    for number in 0..30 {
        match seated[number % 3].bind("nobody", "").await? {
            53 => {}
            51 => busy += 1,
            code => panic!("{code}"),
        }
    }
    let allowed = 2 + 2 * (started.elapsed().as_secs() + 1);
    assert!(30 - busy <= allowed, "{busy} of 30 were told to wait");
    assert_eq!(other.bind("nobody", "").await?, 53, "another network");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_open_only_while_there_is_a_client() -> Result<()> {
    // FL-01, FL-02: none before the first client, none after the last or while it is switched off; one that is taken then is said,
    // and tried until it is free
    let section = |section: &mut ldap_gateway::LdapSection| {
        section.listen = vec![([127, 0, 0, 1], lab::free_port()).into()];
    };
    let lab = Lab::start(Wanted { section, late: true, client: client("first"), ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222"]);
    let mut bound = lab.connect().await?;
    assert_eq!(bound.bind(ANN, &with_code("111111")).await?, 0);

    let address = lab.gateway.gateway.addresses()[0];
    let health = lab.gateway.process.health();
    lab.gateway.change_settings(|settings| settings.clients.clear()).await?;
    bound.expect_notice(52).await?;
    until("the port to be free", || std::net::TcpListener::bind(address).is_ok()).await?;
    assert!(lab.gateway.connect_plain().await.is_err());
    assert!(health.is_ready() && health.report().contains("[+] ldap listener: off"), "{}", health.report());

    let somebody = std::net::TcpListener::bind(address)?;
    lab.gateway.change_settings(|settings| settings.clients.push(client("second"))).await?;
    let words = format!("ldap.listen: the LDAP port {address} cannot be opened: Address already in use");
    until("the trouble to be shown", || health.report().contains(&format!("[-] ldap listener: {words}"))).await?;
    assert!(!health.is_ready());
    let lines = capture::text();
    assert_eq!(lines.lines().filter(|line| line.contains("ports_not_opened") && line.contains(&words)).count(), 1);
    drop(somebody);
    until("the port to be ours", || health.is_ready()).await?;
    let mut wire = lab.gateway.connect_plain().await?;
    assert_eq!(wire.extended(&ExtendedRequest::start_tls()).await?.result.code.0, 0);
    let mut bound = wire.into_tls(&lab.tls).await?;
    assert_eq!(bound.bind(ANN, &with_code("222222")).await?, 0);

    lab.gateway.change_settings(|settings| settings.ldap.enabled = false).await?;
    bound.expect_notice(52).await?;
    until("the port to be free", || std::net::TcpListener::bind(address).is_ok()).await?;
    lab.gateway.change_settings(|settings| settings.ldap.enabled = true).await?;
    until("the port to be ours", || std::net::TcpListener::bind(address).is_err()).await?;
    lab.gateway.connect_plain().await?;
    Ok(())
}
