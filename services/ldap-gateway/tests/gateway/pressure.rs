//! Much, slow, and at the wrong moment: a gigabyte nobody reads, handshakes by the thousand, messages of exactly the greatest size, new
//! certificates under open connections.

use crate::recorder::{self, BASE, ENDLESS, InFront, NEVER, PASSWORD, Recorder, SLOW, Takes};
use crate::support::{Misbehaviour, Wire, capture, client, until};
use anyhow::{Context, Result, ensure};
use domain::settings::Client;
use ldap_wire::ber::{self, Writer};
use ldap_wire::{ExtendedRequest, Filter, LdapResult, MessageId, Op, Scope, SearchRequest, extended};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

const PEOPLE: &[&str] = &["ann"];

async fn recorder() -> Result<Recorder> {
    Recorder::start(PEOPLE, Takes::default()).await
}

/// Ann is bound on it.
async fn bound(lab: &InFront, code: u32) -> Result<Wire> {
    let mut wire = lab.gateway.connect_tls(&lab.tls).await?;
    ensure!(wire.bind("ann", &format!("{PASSWORD},{code}")).await? == 0);
    Ok(wire)
}

fn search_below(place: &str) -> SearchRequest {
    SearchRequest::new(format!("{place},{BASE}"), Scope::Subtree, &Filter::present("objectClass"), &[])
}

#[test]
fn a_gigabyte_that_nobody_reads_stays_where_it_is() -> Result<()> {
    // B-64, L-05, L-18: in bounded memory; closed when nothing was taken for so long; a slow reader that reads is waited for
    capture::quiet_runtime()?.block_on(async {
        let recorder = recorder().await?;
        let lab = recorder.behind(client("stopped"), |section| section.write_stall_seconds = 2).await?;
        lab.gateway.verification.misbehave(Misbehaviour::ByCode);
        let mut slow = bound(&lab, 100_001).await?;
        slow.send_search(&search_below(ENDLESS), &[]).await?;
        let mut stopped = bound(&lab, 100_002).await?;
        let before = lab::resident_kib(std::process::id())?;
        stopped.send_search(&search_below(ENDLESS), &[]).await?;
        let asked = Instant::now();
        // One reads an entry now and then, slower than anybody sends; the other reads nothing.
        let mut read = 0;
        let mut most = before;
        while recorder.poured_out() == 0 {
            let entry = slow.receive().await.context("the slow reader")?;
            ensure!(entry.op() == Op::SearchResultEntry);
            read += entry.octets().len();
            most = most.max(lab::resident_kib(std::process::id())?);
            ensure!(asked.elapsed() < Duration::from_secs(20), "nobody is closed");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let closed = asked.elapsed();
        assert!(closed >= Duration::from_secs(2) && closed < Duration::from_secs(8), "{closed:?}");
        // Sockets hold some megabytes of each; nothing else does.
        let poured = recorder.poured();
        assert!(poured < read + (64 << 20), "{poured} octets came from the directory, {read} were read");
        assert!(most - before < 48 << 10, "{} KiB grown", most - before);
        let entry = slow.receive().await.context("the slow reader goes on")?;
        assert_eq!(entry.op(), Op::SearchResultEntry);
        // What was on its way still comes, and then the end, without a word that all was well.
        while let Ok(Some(message)) = stopped.next().await {
            assert_eq!(message.op(), Op::SearchResultEntry);
        }
        Ok(())
    })
}

#[test]
fn whoever_is_not_read_is_not_cut_for_half_a_message() -> Result<()> {
    // L-04, L-05: the directory takes nothing for longer than a message may take to arrive
    const PHOTO: usize = 5 << 20;
    capture::quiet_runtime()?.block_on(async {
        let recorder = recorder().await?;
        let lab = recorder.behind(client("delayed"), |section| section.read_timeout_seconds = 3).await?;
        lab.gateway.verification.misbehave(Misbehaviour::ByCode);
        let mut wire = bound(&lab, 100_001).await?;
        recorder.hold();
        let ids = [wire.next_id(), wire.next_id()];
        let both = ids.map(|id| new_photo(id, PHOTO)).concat();
        let sending = tokio::spawn(async move { wire.send(&both).await.map(|()| wire) });
        tokio::time::sleep(Duration::from_secs(4)).await;
        recorder.release();
        let mut wire = sending.await??;
        for id in ids {
            let answer = wire.receive().await.context("an answer to each")?;
            assert_eq!((answer.id(), answer.op(), LdapResult::decode(&answer)?.code.0), (id, Op::ModifyResponse, 0));
        }
        // Whoever has only said the half of it themselves is cut as ever.
        let half = new_photo(wire.next_id(), PHOTO);
        wire.send(&half[..PHOTO / 2]).await?;
        wire.expect_silent_end().await
    })
}

#[test]
fn a_directory_that_takes_nothing_is_left_and_its_client_told() -> Result<()> {
    // L-05, L-19
    const PHOTO: usize = 12 << 20;
    capture::quiet_runtime()?.block_on(async {
        let recorder = recorder().await?;
        let lab = recorder.behind(client("stalled"), |section| section.write_stall_seconds = 2).await?;
        lab.gateway.verification.misbehave(Misbehaviour::ByCode);
        let mut wire = bound(&lab, 100_001).await?;
        recorder.hold();
        let id = wire.next_id();
        wire.send(&new_photo(id, PHOTO)).await?;
        let sent = Instant::now();
        let answer = wire.receive().await?;
        let result = LdapResult::decode(&answer)?;
        assert_eq!((answer.id(), answer.op(), result.code.0), (id, Op::ModifyResponse, 52));
        assert_eq!(result.diagnostic_text(), "upstream lost");
        let stalled = sent.elapsed();
        assert!(stalled >= Duration::from_secs(1) && stalled < Duration::from_secs(8), "{stalled:?}");
        wire.expect_notice(52).await?;
        // The next one is served, once it takes something again.
        recorder.release();
        let mut wire = bound(&lab, 100_002).await?;
        assert_eq!(wire.who_am_i().await?, Ok(format!("dn:{}", recorder::dn_of("ann"))));
        Ok(())
    })
}

/// A request to replace a photo by one of `octets`.
fn new_photo(id: MessageId, octets: usize) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.nested(ber::SEQUENCE, |w| {
        w.integer(ber::INTEGER, id.get().into());
        w.nested(Op::ModifyRequest.tag(), |w| {
            w.octet_string(recorder::dn_of("ann").as_bytes());
            w.nested(ber::SEQUENCE, |w| {
                w.nested(ber::SEQUENCE, |w| {
                    w.integer(ber::ENUMERATED, 2);
                    w.nested(ber::SEQUENCE, |w| {
                        w.octet_string(b"jpegPhoto");
                        w.nested(0x31, |w| w.octet_string(&vec![b'x'; octets]));
                    });
                });
            });
        });
    });
    writer.into_vec()
}

#[test]
fn five_thousand_half_handshakes_keep_nobody_else_out() -> Result<()> {
    // B-63, L-04, L-05
    const HALF_OPEN: usize = 5_000;
    capture::quiet_runtime()?.block_on(async {
        let recorder = recorder().await?;
        let section = |section: &mut ldap_gateway::LdapSection| {
            section.connections_per_source_max = HALF_OPEN + 100;
            section.connections_per_client_max = HALF_OPEN + 100;
            section.handshake_timeout_seconds = 4;
        };
        let anywhere = Client { sources: vec!["127.0.0.0/8".parse()?], ..client("crowded") };
        let lab = recorder.behind(anywhere, section).await?;
        lab.gateway.verification.misbehave(Misbehaviour::ByCode);
        let address = *lab.gateway.gateway.tls_addresses().first().context("a port")?;
        let before = lab::resident_kib(std::process::id())?;
        let mut half = Vec::with_capacity(HALF_OPEN);
        for _ in 0..HALF_OPEN {
            let mut stream = TcpStream::connect(address).await?;
            // The beginning of a ClientHello of 512 octets.
            stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]).await?;
            half.push(stream);
        }
        let opened = Instant::now();
        // Somebody from elsewhere is served meanwhile.
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
        let mut wire = Wire::tls(socket.connect(address).await?, &lab.tls).await?;
        assert_eq!(wire.bind("ann", &format!("{PASSWORD},100001")).await?, 0);
        assert!(opened.elapsed() < Duration::from_secs(3), "{:?}", opened.elapsed());
        let grown = lab::resident_kib(std::process::id())?.saturating_sub(before);
        assert!(grown < 256 << 10, "{grown} KiB for {HALF_OPEN} half handshakes");
        // All of them are closed, and their places are free again.
        for stream in &mut half {
            tokio::time::timeout(Duration::from_secs(15), ended(stream)).await.context("a half handshake is kept")?;
        }
        assert_eq!(wire.who_am_i().await?, Ok(format!("dn:{}", recorder::dn_of("ann"))));
        bound(&lab, 100_002).await.map(drop)
    })
}

#[test]
fn thousands_who_say_nothing_cost_little_and_keep_nobody_else_out() -> Result<()> {
    // B-63, L-05. 100,000 of them: `make test-idle`.
    let wanted = std::env::var("IDLE_CONNECTIONS").ok().and_then(|text| text.parse().ok());
    let idle: usize = wanted.unwrap_or(5_000);
    /// Of one address, which has no more ports than these.
    const OF_ONE: usize = 20_000;
    capture::quiet_runtime()?.block_on(async {
        let recorder = recorder().await?;
        let section = |section: &mut ldap_gateway::LdapSection| {
            (section.connections_max, section.connections_per_client_max) = (usize::MAX, usize::MAX);
            (section.connections_per_source_max, section.unbound_idle_seconds) = (OF_ONE, 600);
        };
        let anywhere = Client { sources: vec!["127.0.0.0/8".parse()?], ..client("silent") };
        let lab = recorder.behind(anywhere, section).await?;
        lab.gateway.verification.misbehave(Misbehaviour::ByCode);
        let address = *lab.gateway.gateway.addresses().first().context("a port")?;
        let connect = async |number: usize| -> Result<TcpStream> {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from(([127, 0, 1, u8::try_from(number / OF_ONE)?], 0)))?;
            Ok(socket.connect(address).await?)
        };
        let before = lab::resident_kib(std::process::id())?;
        let mut silent = Vec::with_capacity(idle);
        for number in 0..idle {
            silent.push(connect(number).await?);
        }
        // The last one is served: all before it have their places.
        let mut last = Wire::plain(silent.pop().context("at least one")?);
        assert_eq!(last.search_code("", Scope::Base).await?, (0, 1));
        let grown = lab::resident_kib(std::process::id())?.saturating_sub(before);
        assert!(grown < 12 * u64::try_from(idle)?, "{grown} KiB for {idle}");
        let asked = Instant::now();
        bound(&lab, 100_001).await?;
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        // Nobody was closed to make room.
        for stream in &silent {
            let peeked = stream.try_read(&mut [0; 1]).map_err(|error| error.kind());
            ensure!(peeked == Err(std::io::ErrorKind::WouldBlock), "{peeked:?}");
        }
        Ok(())
    })
}

async fn ended(stream: &mut TcpStream) {
    use tokio::io::AsyncReadExt;
    let mut octets = [0; 64];
    while matches!(stream.read(&mut octets).await, Ok(1..)) {}
}

#[test]
fn a_message_of_sixteen_megabytes_passes_and_not_an_octet_more() -> Result<()> {
    // L-01, B-42: what a client may send before a bind, after it, and in a search
    capture::quiet_runtime()?.block_on(async {
        let recorder = recorder().await?;
        let lab = recorder.behind_gateway(client("large")).await?;
        lab.gateway.verification.misbehave(Misbehaviour::ByCode);
        let sized = |id: u8, tag: u8, total: usize| {
            let mut octets = [&[0x30, 0x84][..], &(total as u32 - 6).to_be_bytes(), &[2, 1, id, tag, 0x84]].concat();
            octets.extend((total as u32 - 15).to_be_bytes());
            octets.resize(total, b'x');
            octets
        };
        const DELETE: u8 = 0x4a;
        const SEARCH: u8 = 0x63;
        for (before_bind, tag, greatest) in
            [(true, DELETE, 256_000), (false, DELETE, 16 << 20), (false, SEARCH, 256_000)]
        {
            let mut wire = match before_bind {
                true => lab.gateway.connect_tls(&lab.tls).await?,
                false => bound(&lab, 100_000 + u32::from(tag)).await?,
            };
            if tag == DELETE {
                wire.send(&sized(101, tag, greatest)).await?;
                let answer = wire.receive().await?;
                let expected = if before_bind { 50 } else { 0 };
                assert_eq!((answer.id().get(), LdapResult::decode(&answer)?.code.0), (101, expected), "{greatest}");
            }
            // Of what is too large the header is enough.
            wire.send(&sized(102, tag, greatest + 1)[..15]).await?;
            wire.expect_notice(2).await.with_context(|| format!("{greatest} and one"))?;
        }
        // A search of exactly the greatest size.
        let mut wire = bound(&lab, 100_001).await?;
        let short = search_below("cn=x").encode(MessageId::MAX, &[]).len();
        let id = wire.next_id();
        let base = format!("cn={},{BASE}", "x".repeat(256_000 - short - 8));
        let search = |more: usize| {
            let base = format!("{}{base}", "y".repeat(more));
            SearchRequest::new(base, Scope::Base, &Filter::present("objectClass"), &[]).encode(id, &[])
        };
        let exact = search(256_000 - search(0).len());
        assert_eq!(exact.len(), 256_000);
        wire.send(&exact).await?;
        assert_eq!(wire.receive().await?.op(), Op::SearchResultEntry);
        assert_eq!(wire.receive().await?.op(), Op::SearchResultDone);
        wire.send(&search(256_001 - search(0).len())[..32]).await?;
        wire.expect_notice(2).await
    })
}

#[test]
fn a_million_abandons_are_ignored_and_cost_nothing() -> Result<()> {
    // B-55
    const ABANDONS: usize = 1_000_000;
    capture::quiet_runtime()?.block_on(async {
        let recorder = recorder().await?;
        let lab = recorder.behind_gateway(client("changeable")).await?;
        lab.gateway.verification.misbehave(Misbehaviour::ByCode);
        let mut wire = bound(&lab, 100_001).await?;
        let before = lab::resident_kib(std::process::id())?;
        let mut abandons = Vec::new();
        for number in 0..1_000u32 {
            // Of ids that nobody uses, of the own one, of the bind's.
            let target = [number + 5_000, 4_000, 1][number as usize % 3];
            let target = MessageId::new(target).context("an id")?;
            abandons.extend_from_slice(&extended::abandon_request(MessageId::new(4_000).context("an id")?, target));
        }
        for _ in 0..ABANDONS / 1_000 {
            wire.send(&abandons).await?;
        }
        wire.send(&ExtendedRequest::who_am_i().encode(MessageId::MAX, &[])).await?;
        let answer = tokio::time::timeout(Duration::from_secs(60), wire.receive_late()).await??;
        assert_eq!((answer.id(), LdapResult::decode(&answer)?.code.0), (MessageId::MAX, 0));
        let grown = lab::resident_kib(std::process::id())?.saturating_sub(before);
        assert!(grown < 16 << 10, "{grown} KiB");
        Ok(())
    })
}

#[test]
fn after_many_connections_of_every_kind_nothing_is_left_of_them() -> Result<()> {
    // T-12: however they come, and however they go
    const ROUNDS: usize = 8;
    // The directory's tasks are its own.
    let elsewhere = capture::quiet_runtime()?;
    let recorder = elsewhere.block_on(recorder())?;
    capture::quiet_runtime()?.block_on(async {
        let section = |section: &mut ldap_gateway::LdapSection| section.connections_per_source_max = 2_000;
        let lab = recorder.behind(recorder::listing_client("passing"), section).await?;
        until("the id to be kept", || !lab.gateway.settings.pinned().is_empty()).await?;
        lab.gateway.verification.misbehave(Misbehaviour::ByCode);
        let open_files = || -> Result<usize> { Ok(std::fs::read_dir("/proc/self/fd")?.count()) };
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        come_and_go(&lab, 0).await?;
        until("the first ones to be gone", || tasks() < 64).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (tasks_before, files_before) = (tasks(), open_files()?);
        let resident = lab::resident_kib(std::process::id())?;
        for round in 1..=ROUNDS {
            come_and_go(&lab, round).await?;
        }
        until("their tasks to end", || tasks() <= tasks_before)
            .await
            .with_context(|| format!("{} tasks, {tasks_before} before", tasks()))?;
        // Both ends of what is opened ahead of a bind.
        const AHEAD: usize = 2 * 16;
        let files = open_files()?;
        assert!(files <= files_before + AHEAD, "{files} open files, {files_before} before");
        let grown = lab::resident_kib(std::process::id())?.saturating_sub(resident);
        assert!(grown < 32 << 10, "{grown} KiB");
        Ok(())
    })
}

/// One of each kind, each ten times.
async fn come_and_go(lab: &InFront, round: usize) -> Result<()> {
    for number in 0..10 {
        let code = |factor: usize| format!("{PASSWORD},{factor}{:05}", round * 10 + number);
        let connect = async || lab.gateway.connect_as(Some(&lab.tls), number % 2 == 0).await;
        // Let in, refused, let in again; leaves with a search that has no end, and one that was given up.
        let mut wire = connect().await?;
        for (name, password, expected) in [
            (recorder::SERVICE, PASSWORD.to_owned(), 0),
            ("ann", code(1), 0),
            ("ann", code(2), 49),
            ("nobody", code(1), 49),
            ("ann", format!("wrong{round}-{number},100000"), 49),
            ("ann", String::new(), 53),
            ("ann", code(3), 0),
        ] {
            ensure!(wire.bind(name, &password).await? == expected, "{name} was not answered with {expected}");
        }
        wire.who_am_i().await?.map_err(|code| anyhow::anyhow!("{code}"))?;
        let given_up = wire.send_search(&search_below(SLOW), &[]).await?;
        let id = wire.next_id();
        wire.send(&extended::abandon_request(id, given_up)).await?;
        wire.send_search(&search_below(NEVER), &[]).await?;
        drop(wire);
        // Leaves while it is asked for the second factor.
        let mut wire = connect().await?;
        wire.send_bind("ann", &code(5), &[]).await?;
        if number % 3 == 0 {
            let id = wire.next_id();
            wire.send(&ldap_wire::bind::unbind_request(id)).await?;
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(wire);
        // Comes without TLS, asks for it, and goes on or not.
        let mut plain = lab.gateway.connect_plain().await?;
        ensure!(plain.extended(&ExtendedRequest::start_tls()).await?.result.code.0 == 0);
        if number % 2 == 0 {
            ensure!(plain.into_tls(&lab.tls).await?.bind("ann", &code(4)).await? == 49);
        }
        // Does not speak LDAP, or not to its end.
        for octets in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x30\x20\x02", b"\x30\x80"] {
            let mut plain = lab.gateway.connect_plain().await?;
            let _ = plain.send(octets).await;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_what_runs_and_ends_what_does_not_end() -> Result<()> {
    // L-19: a search that is answered in time, one that is not, and a bind that a person has yet to confirm
    let recorder = recorder().await?;
    let lab = recorder.behind_gateway(client("drained")).await?;
    lab.gateway.verification.misbehave(Misbehaviour::ByCode);
    let mut wires = Vec::new();
    for (code, place) in [(100_001, SLOW), (100_002, NEVER)] {
        let mut wire = bound(&lab, code).await?;
        let id = wire.send_search(&search_below(place), &[]).await?;
        wires.push((wire, id));
    }
    let mut waiting = lab.gateway.connect_tls(&lab.tls).await?;
    let bind = waiting.send_bind("ann", &format!("{PASSWORD},500003"), &[]).await?;
    let begun = || lab.gateway.verification.attempts().len() == 3;
    until("the second factor to be asked for", begun).await?;
    until("both searches to be there", || recorder.seen() == 2).await?;
    let process = lab.gateway.process.clone();
    let finished = tokio::spawn(async move { process.finish().await });
    let (mut answered, id) = wires.remove(0);
    assert_eq!(answered.receive().await?.op(), Op::SearchResultEntry);
    let done = answered.receive().await?;
    assert_eq!((done.id(), LdapResult::decode(&done)?.code.0), (id, 0));
    answered.expect_notice(52).await?;
    let (mut unanswered, id) = wires.remove(0);
    let done = unanswered.receive().await?;
    assert_eq!((done.id(), done.op(), LdapResult::decode(&done)?.code.0), (id, Op::SearchResultDone, 52));
    unanswered.expect_notice(52).await?;
    let answer = waiting.receive().await?;
    assert_eq!((answer.id(), LdapResult::decode(&answer)?.code.0), (bind, 52));
    waiting.expect_notice(52).await?;
    finished.await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_shown_to_whoever_comes_and_disturb_nobody_who_is_there() -> Result<()> {
    // FL-03: and files that are none leave the old ones in force
    let recorder = recorder().await?;
    let lab = recorder.behind_gateway(client("renewed")).await?;
    lab.gateway.verification.misbehave(Misbehaviour::ByCode);
    let first = certificate(&lab).await?;
    let mut open = bound(&lab, 100_001).await?;
    let mut plain = lab.gateway.connect_plain().await?;
    let files = lab.pki.issue("gateway", &["127.0.0.1", "localhost"])?;
    reload()?;
    let second = changed(&lab, &first).await?;
    assert_eq!(open.who_am_i().await?, Ok(format!("dn:{}", recorder::dn_of("ann"))), "bound before, and still");
    assert_eq!(open.bind("ann", &format!("{PASSWORD},100002")).await?, 0);
    // StartTLS on a connection that was there before shows the new one, too.
    assert_eq!(plain.extended(&ExtendedRequest::start_tls()).await?.result.code.0, 0);
    let mut plain = plain.into_tls(&lab.tls).await?;
    assert_eq!(plain.bind("ann", &format!("{PASSWORD},100003")).await?, 0);

    let sound = std::fs::read(&files.certificate)?;
    for broken in [&b""[..], b"no certificate", &sound[..sound.len() / 2]] {
        let refused = || capture::text().matches("certificates not reloaded").count();
        let before = refused();
        std::fs::write(&files.certificate, broken)?;
        reload()?;
        until("the files to be refused", || refused() > before).await?;
        assert_eq!(certificate(&lab).await?, second);
    }
    assert_eq!(open.who_am_i().await?, Ok(format!("dn:{}", recorder::dn_of("ann"))));
    std::fs::write(&files.certificate, sound)?;
    lab.pki.issue("gateway", &["127.0.0.1", "localhost"])?;
    reload()?;
    changed(&lab, &second).await.map(drop)
}

/// What an operator does; without it, the files are looked at every few seconds.
fn reload() -> Result<()> {
    let pid = std::process::id().to_string();
    ensure!(std::process::Command::new("kill").args(["-HUP", &pid]).status()?.success());
    Ok(())
}

async fn changed(lab: &InFront, before: &[u8]) -> Result<Vec<u8>> {
    let other = async {
        loop {
            let now = certificate(lab).await?;
            if now != before {
                return Ok(now);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), other).await.context("the old certificate stays")?
}

/// The one that a new connection is shown. With a memory of its own, because a resumed session shows none.
async fn certificate(lab: &InFront) -> Result<Vec<u8>> {
    let tls = crate::support::trusting(&lab.pki.ca_file())?;
    let address = *lab.gateway.gateway.tls_addresses().first().context("a port")?;
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1")?;
    let stream = TcpStream::connect(address).await?;
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(&tls)).connect(name, stream).await?;
    let chain = stream.get_ref().1.peer_certificates().context("a certificate")?;
    Ok(chain.first().context("its own one")?.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_for_ldap_without_a_connection() -> Result<()> {
    // B-65: CLDAP reflects to whoever is said to have asked
    let recorder = recorder().await?;
    let lab = recorder.behind_gateway(client("datagrams")).await?;
    let gateway = &lab.gateway.gateway;
    for address in gateway.addresses().into_iter().chain(gateway.tls_addresses()) {
        let search = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &[]);
        let asking = UdpSocket::bind("127.0.0.1:0")?;
        asking.connect(address)?;
        asking.send(&search.encode(MessageId::MAX, &[]))?;
        asking.set_read_timeout(Some(Duration::from_secs(2)))?;
        // The kernel says that nobody is there.
        let error = asking.recv(&mut [0; 64]).err().context("an answer")?;
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
    }
    Ok(())
}
