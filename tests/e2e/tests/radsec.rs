//! RADIUS by TLS on both sides of us (RFC 6614): an access point that knows UDP alone, a radsecproxy at its site, and a home server that
//! is asked by TLS, straight or through a radsecproxy of its own.
//!
//! ```text
//! laptop ── EAP ── access point ──UDP──> radsecproxy ══TLS══> Twinlock ══TLS══> FreeRADIUS
//!                                                                └════TLS══> radsecproxy ──UDP──┘
//! ```

use anyhow::{Context, Result, ensure};
use e2e::{Balancer, Habit, OneMachine, Outside, Switchboard, last_attempt, story};
use lab::{
    Certificate, Pki, RADIUS_SECRET,
    eapol::{EapResult, Method, Supplicant},
    free_port,
    freeradius::{FreeRadius, HomeOptions},
    nas::{Nas, Profile, Verdict},
    password_of,
    radsecproxy::{Direction, RadsecOptions, RadsecProxy},
};
use radius_wire::{AttributeType, Code, Packet, Port, Vendor};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// In the certificate of a radsecproxy.
const SITE: &str = "dns:radsecproxy.acme.example";
const PATIENCE: Duration = Duration::from_secs(20);
/// The list of what is revoked is read again, and each connection looked at again.
const LOOKED_AT_AGAIN: Duration = Duration::from_secs(25);

const SETTINGS: &str = r#"
[verification]
country = "DE"
calls_per_hour = 60

[sms]
per_prefix_and_hour = 1000
"#;

/// Stopped in the order of its fields.
struct World {
    machine: OneMachine,
    board: Switchboard,
    site: RadsecProxy,
    far: RadsecProxy,
    home: FreeRadius,
    /// Before the radsecproxy of the site: what the access point says and hears.
    tap: Balancer,
    pki: Pki,
    _dir: TempDir,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn radius_by_tls_on_both_sides() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("pki"))?;
    let own = pki.issue("twinlock", &["127.0.0.1", "twinlock.acme.example"])?;
    let revoked = pki.revoke(&[], tomorrow())?;
    let port = free_port();
    let files = [
        ("radsec_client_ca_file", pki.ca_file()),
        ("radsec_crl_file", revoked),
        ("tls_certificate_file", own.certificate),
        ("tls_key_file", own.key),
    ];
    let mut set = vec![format!("radius.radsec_listen=127.0.0.1:{port}"), "radius.reject_delay_ms=500".to_owned()];
    set.extend(files.map(|(key, file)| format!("radius.{key}={}", file.display())));
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let machine = OneMachine::start(0, "", "", &set)?;
    let home = FreeRadius::home(dir.path(), &pki, &HomeOptions::default())?;
    let to_udp = RadsecOptions::new(Direction::TlsToUdp, home.auth_address(), home.secret());
    let far = RadsecProxy::start(dir.path(), &pki, &to_udp)?;
    let board = Switchboard::start(Outside::start(&machine).await?);
    machine.settings(&settings(&board, &pki, home.radsec_address())?).await?;
    let to_us = RadsecOptions::new(Direction::UdpToTls, SocketAddr::new(LOCAL, port), RADIUS_SECRET);
    let site = RadsecProxy::start(dir.path(), &pki, &to_us)?;
    let tap = Balancer::start(Some(LOCAL), &[site.address()]).await?;
    let mut world = World { machine, board, site, far, home, tap, pki, _dir: dir };
    story!(&mut world;
        every_eap_method_opens_after_a_call_and_both_ends_have_the_same_keys,
        a_certificate_and_a_call_open,
        a_call_that_is_hung_up_shows_the_laptop_no_success,
        a_password_is_followed_by_a_question,
        accounting_takes_the_same_way,
        the_home_server_may_be_behind_a_radsecproxy_too,
        a_site_whose_certificate_is_revoked_is_let_go_and_one_with_a_new_one_is_not,
    )
}

fn settings(board: &Switchboard, pki: &Pki, home: SocketAddr) -> Result<String> {
    Ok(format!(
        r#"{SETTINGS}{}
[[target]]
name = "far"
kind = "radius"
directory = "acme"

[[target.servers]]
address = "127.0.0.1"
transport = "tls"
authentication_port = {}
server_name = "{}"
ca = """
{}"""

[[client]]
name = "site"
protocol = "radius"
transport = "tls"
certificates = ["{SITE}"]
sources = ["127.0.0.0/8"]
target = "far"
wait_seconds = 20
"#,
        board.outside.providers(),
        home.port(),
        "127.0.0.1",
        fs::read_to_string(pki.ca_file())?,
    ))
}

async fn every_eap_method_opens_after_a_call_and_both_ends_have_the_same_keys(world: &mut World) -> Result<()> {
    // R-90, R-51, R-53, R-55
    let uid = "ben.hale";
    world.board.set_habit(Habit::Confirms(Duration::from_millis(300)));
    for method in [Method::PeapMschapv2, Method::TtlsMschapv2, Method::TtlsPap, Method::PeapGtc] {
        let (name, before, seen) = (format!("{method:?}"), world.board.calls(uid)?, world.home.seen()?.len());
        let result = world.eap(world.laptop(method, uid).outside("anonymous")).await?;
        ensure!(result.success && result.keys_match, "{name}: {}\n{}", result.output, world.site.log());
        ensure!(world.board.calls(uid)? == before + 1, "{name}: calls");
        ensure!(last_attempt(world.machine.command_line(), uid)?.0 == "call_confirmed", "{name}");
        let seen = &world.home.seen()?[seen..];
        let by_tls = world.home.radsec_address().port();
        ensure!(seen.len() > 2 && seen.iter().all(|packet| packet.port == by_tls), "{name}: {seen:?}");
    }
    Ok(())
}

async fn a_certificate_and_a_call_open(world: &mut World) -> Result<()> {
    // The largest conversation, in fragments.
    let uid = "emma.irwin";
    let certificate: Certificate = world.pki.issue("emma", &[uid])?;
    let result = world.eap(world.laptop(Method::tls(&certificate), uid).outside("anonymous")).await?;
    ensure!(result.success && result.keys_match, "{}", result.output);
    ensure!(world.board.calls(uid)? == 1, "calls");
    Ok(())
}

async fn a_call_that_is_hung_up_shows_the_laptop_no_success(world: &mut World) -> Result<()> {
    // R-53 ★
    let (uid, granted, heard) = ("david.baker", world.granted()?, world.tap.replies().len());
    world.board.set_habit(Habit::HangsUp);
    let result = world.eap(world.laptop(Method::PeapMschapv2, uid).outside("anonymous")).await;
    world.board.set_habit(Habit::Confirms(Duration::ZERO));
    let result = result?;
    ensure!(world.granted()? == granted + 1, "the target said no: nothing was kept back");
    ensure!(!result.success && !result.eap_success_seen && result.eap_failure_seen, "{}", result.output);
    for reply in &world.tap.replies()[heard..] {
        let packet = Packet::parse(&reply.octets, Port::AuthenticationReplies).context("a reply")?;
        ensure!(packet.code() != Code::AccessAccept, "an Access-Accept");
        let vendors = packet.attributes().filter_map(|attribute| attribute.vendor()).map(|vendor| vendor.id);
        ensure!(vendors.into_iter().all(|vendor| vendor != Vendor::MICROSOFT), "something of Microsoft's, as keys are");
    }
    Ok(())
}

async fn a_password_is_followed_by_a_question(world: &mut World) -> Result<()> {
    // R-40, R-52: the State of ours goes to the site and comes back
    let ann = world.machine.command_line().enrol("ann.archer")?;
    world.machine.command_line().run(&["user", "edit", &ann.uid, "--default-method", "code"])?;
    let device = e2e::Device::new(LOCAL, world.site.address().port(), RADIUS_SECRET)?;
    let (state, _) = device.asked(&ann.uid, &ann.password, None).await?;
    ensure!(device.respond(&ann.uid, &ann.code(0)?, &state).await? == e2e::Answer::Accept);
    ensure!(device.login(&ann.uid, "Nonsense").await? == e2e::Answer::Reject);
    Ok(())
}

async fn accounting_takes_the_same_way(world: &mut World) -> Result<()> {
    // R-86, R-91: one port for both
    let attributes = [
        (AttributeType::USER_NAME, b"ann.archer".as_slice()),
        (AttributeType::ACCT_STATUS_TYPE, &[0, 0, 0, 1]),
        (AttributeType::ACCT_SESSION_ID, b"by-tls-1"),
    ];
    let attributes = attributes.map(|(kind, value)| radius_wire::Attribute { kind, value });
    let secret = radius_wire::Secret::new(RADIUS_SECRET.as_bytes().to_vec()).context("a shared secret")?;
    let code = radius_wire::RequestCode::AccountingRequest;
    let request =
        radius_wire::Request { code, identifier: 9, authenticator: [0; 16], attributes: &attributes, password: None };
    let socket = tokio::net::UdpSocket::bind((LOCAL, 0)).await?;
    socket.send_to(&request.write(&secret)?, world.site.address()).await?;
    let mut reply = [0; 4096];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut reply)).await.context("no reply")??;
    ensure!(length >= 20 && reply[0] == Code::AccountingResponse as u8 && reply[1] == 9, "{:?}", &reply[..length]);
    let seen = world.home.seen()?;
    let reported = seen.iter().find(|packet| packet.first("Acct-Session-Id") == Some("by-tls-1"));
    ensure!(reported.is_some_and(|packet| packet.port == world.home.radsec_address().port()), "{reported:?}");
    Ok(())
}

async fn the_home_server_may_be_behind_a_radsecproxy_too(world: &mut World) -> Result<()> {
    let settings = settings(&world.board, &world.pki, world.far.address())?;
    world
        .machine
        .settings(&settings.replace("server_name = \"127.0.0.1\"", "server_name = \"radsecproxy.acme.example\""))
        .await?;
    let (uid, seen) = ("felix.price", world.home.seen()?.len());
    let result = world.eap(world.laptop(Method::PeapMschapv2, uid).outside("anonymous")).await?;
    ensure!(result.success && result.keys_match, "{}\n{}", result.output, world.far.log());
    let (seen, by_udp) = (&world.home.seen()?[seen..], world.home.auth_address().port());
    ensure!(seen.len() > 2 && seen.iter().all(|packet| packet.port == by_udp), "{seen:?}");
    Ok(())
}

async fn a_site_whose_certificate_is_revoked_is_let_go_and_one_with_a_new_one_is_not(world: &mut World) -> Result<()> {
    // R-90
    let uid = "greta.cole";
    let log_in = async |world: &World| -> Result<Verdict> {
        let nas = Nas::new(Profile::fortigate(), &[world.site.address()], RADIUS_SECRET)?;
        Ok(nas.login(uid, &password_of(uid), &[]).await?.verdict)
    };
    ensure!(log_in(world).await? == Verdict::Accept);
    let log = |world: &World| world.machine.twinlock.log();
    let connected = |world: &World| log(world).matches("connected by TLS").count();
    let before = connected(world);
    world.pki.revoke(&[world.site.certificate()], tomorrow())?;
    let until = tokio::time::Instant::now() + LOOKED_AT_AGAIN;
    while !log(world).contains("its certificate does not count any more") {
        ensure!(tokio::time::Instant::now() < until, "the connection stays open");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(log_in(world).await? == Verdict::Timeout && connected(world) == before, "it is let in");
    let to_us = RadsecOptions { name: "new".into(), ..world.site.options().clone() };
    world.site = RadsecProxy::start(world._dir.path(), &world.pki, &to_us)?;
    ensure!(log_in(world).await? == Verdict::Accept, "{}", world.site.log());
    Ok(())
}

impl World {
    fn laptop(&self, method: Method, uid: &str) -> Supplicant {
        Supplicant::new(method, uid, &password_of(uid), &self.pki.ca_file()).waiting(PATIENCE)
    }

    async fn eap(&self, laptop: Supplicant) -> Result<EapResult> {
        let server = self.tap.address();
        tokio::task::spawn_blocking(move || laptop.log_in(server, RADIUS_SECRET)).await?
    }

    /// How often the target said yes.
    fn granted(&self) -> Result<usize> {
        Ok(self.home.answered()?.iter().filter(|packet| packet.code == "Access-Accept").count())
    }
}

fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(86_400)
}
