//! What docs/integrations/strongswan.md says, with strongSwan as the VPN gateway and as the client: EAP that goes through us to a home
//! server, and passwords that the gateway asks us about.
//!
//! ```text
//! charon ── IKEv2 ── charon ── eap-radius ──> Twinlock ──> FreeRADIUS      EAP-MSCHAPv2, MD5 in TTLS
//!                    charon ── eap-gtc ─────> Twinlock ──> OpenLDAP        the password, as PAP
//! charon ── IKEv1 ── charon ── xauth-radius > Twinlock ──> OpenLDAP        the password, as PAP
//!                    charon ── xauth-eap ───> Twinlock ──> FreeRADIUS      the password, as EAP-MSCHAPv2
//! ```

use anyhow::{Result, ensure};
use e2e::{Balancer, Habit, OneMachine, Outside, Switchboard, attempt_ended, story};
use lab::{
    Pki, RADIUS_SECRET,
    freeradius::{FreeRadius, HomeOptions},
    password_of, private_file,
    strongswan::{Attempt, Check, Says, StrongSwan, VpnClient, ms_chap_first, ttls_first},
};
use radius_wire::Code;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// Whose laptop speaks TTLS.
const TTLS: &str = "emma.irwin";
/// Whose laptop speaks IKEv1.
const XAUTH: &str = "greta.cole";
/// The gateway, as the settings know it.
const VPN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 31));

const SETTINGS: &str = r#"
[verification]
country = "DE"
calls_per_hour = 60

[sms]
per_prefix_and_hour = 1000
"#;

/// Stopped in the order of its fields.
struct World {
    laptops: Laptops,
    vpn: StrongSwan,
    /// By IKEv1.
    old_vpn: StrongSwan,
    /// What the gateway asks and hears.
    tap: Balancer,
    board: Switchboard,
    home: FreeRadius,
    machine: OneMachine,
}

/// A client for each thing there is to say.
struct Laptops {
    ms_chap: Arc<VpnClient>,
    ttls: Arc<VpnClient>,
    /// Of the gateway that speaks IKEv1.
    xauth: Arc<VpnClient>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strongswan_passes_eap_on() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &["radius.reject_delay_ms=500"])?;
    let dir = machine.dir.path();
    let pki = Pki::new(&dir.join("home-pki"))?;
    let lines = ttls_first(TTLS) + &ms_chap_first(XAUTH);
    let home = FreeRadius::home(dir, &pki, &HomeOptions { lines, ..Default::default() })?;
    private_file(&dir.join("home.secret"), home.secret())?;
    let board = Switchboard::start(Outside::start(&machine).await?);
    machine.settings(&format!("{SETTINGS}{}{}", board.outside.providers(), relayed(&home))).await?;
    let tap = Balancer::start(Some(VPN), &[radius(&machine)]).await?;
    let vpn = StrongSwan::start(dir, &pki, Check::EapRadius, tap.address(), RADIUS_SECRET)?;
    let old_vpn = StrongSwan::start(dir, &pki, Check::XauthEap, tap.address(), RADIUS_SECRET)?;
    let client = |vpn: &StrongSwan, name, says| Ok::<_, anyhow::Error>(Arc::new(vpn.client(dir, name, says)?));
    let laptops = Laptops {
        ms_chap: client(&vpn, "ms-chap", Says::MsChapV2)?,
        ttls: client(&vpn, "ttls", Says::Ttls)?,
        xauth: client(&old_vpn, "xauth", Says::Xauth)?,
    };
    let mut world = World { laptops, vpn, old_vpn, tap, board, home, machine };
    story!(&mut world;
        a_laptop_is_let_in_after_a_call_and_has_the_key_of_the_gateway,
        it_waits_as_long_as_the_phone_rings,
        it_is_not_let_in_after_a_call_that_was_hung_up,
        nobody_is_called_after_a_wrong_password,
        a_password_of_ikev1_becomes_eap_at_the_gateway,
    )
}

async fn a_laptop_is_let_in_after_a_call_and_has_the_key_of_the_gateway(world: &mut World) -> Result<()> {
    // R-51, R-53, R-55
    world.board.set_habit(Habit::Confirms(Duration::from_millis(300)));
    for (laptop, uid) in [(&world.laptops.ms_chap, "ben.hale"), (&world.laptops.ttls, TTLS)] {
        let attempt = connect(laptop, uid, &password_of(uid)).await?;
        ensure!(attempt.connected, "{}\n{}", attempt.output, world.vpn.log());
        ensure!(world.board.calls(uid)? == 1, "{uid}: calls");
        attempt_ended(world.machine.command_line(), uid, "call_confirmed", "call")?;
    }
    ensure!(world.home.seen()?.len() > 4, "the home server was asked in rounds");
    Ok(())
}

async fn it_waits_as_long_as_the_phone_rings(world: &mut World) -> Result<()> {
    // R-30: by default strongSwan would have sent a copy and given up after 14 s
    let uid = "greta.cole";
    world.board.set_habit(Habit::Confirms(Duration::from_secs(16)));
    let attempt = connect(&world.laptops.ms_chap, uid, &password_of(uid)).await;
    world.board.set_habit(Habit::Confirms(Duration::ZERO));
    let attempt = attempt?;
    ensure!(attempt.connected, "{}\n{}", attempt.output, world.vpn.log());
    ensure!(world.board.calls(uid)? == 1, "calls");
    let octets: Vec<_> = world.tap.captured().into_iter().filter(|packet| !packet.reply).map(|it| it.octets).collect();
    ensure!((1..octets.len()).any(|at| octets[at] == octets[at - 1]), "it has sent no copy: nothing was proved");
    Ok(())
}

async fn it_is_not_let_in_after_a_call_that_was_hung_up(world: &mut World) -> Result<()> {
    // R-53 ★
    let uid = "david.baker";
    world.board.set_habit(Habit::HangsUp);
    let attempt = connect(&world.laptops.ms_chap, uid, &password_of(uid)).await;
    world.board.set_habit(Habit::Confirms(Duration::ZERO));
    ensure!(!attempt?.connected, "{}", world.vpn.log());
    let last = world.tap.replies().pop().map(|reply| reply.octets[0]);
    ensure!(last == Some(Code::AccessReject as u8), "{last:?}");
    attempt_ended(world.machine.command_line(), uid, "hung_up", "call")
}

async fn nobody_is_called_after_a_wrong_password(world: &mut World) -> Result<()> {
    let before = world.board.all_calls();
    for (laptop, uid) in [(&world.laptops.ms_chap, "felix.price"), (&world.laptops.ttls, TTLS)] {
        ensure!(!connect(laptop, uid, "Nonsense").await?.connected, "{}", world.vpn.log());
    }
    ensure!(world.board.all_calls() == before, "somebody was called");
    Ok(())
}

async fn a_password_of_ikev1_becomes_eap_at_the_gateway(world: &mut World) -> Result<()> {
    // R-51, R-53
    let uid = XAUTH;
    let before = world.board.calls(uid)?;
    world.board.set_habit(Habit::Confirms(Duration::from_secs(6)));
    let attempt = connect(&world.laptops.xauth, uid, &password_of(uid)).await;
    world.board.set_habit(Habit::Confirms(Duration::ZERO));
    let attempt = attempt?;
    ensure!(attempt.connected, "{}\n{}", attempt.output, world.old_vpn.log());
    ensure!(world.board.calls(uid)? == before + 1, "calls");
    attempt_ended(world.machine.command_line(), uid, "call_confirmed", "call")?;
    ensure!(!connect(&world.laptops.xauth, uid, "Nonsense").await?.connected, "{}", world.old_vpn.log());
    ensure!(world.board.calls(uid)? == before + 1, "a wrong password calls nobody");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strongswan_asks_about_passwords() -> Result<()> {
    // FL-13, FR-13: a code behind the password, as the gateway shows no question; IKEv2 and IKEv1
    let machine = OneMachine::start(0, "", "", &["radius.reject_delay_ms=500"])?;
    let dir = machine.dir.path();
    let pki = Pki::new(&dir.join("vpn-pki"))?;
    machine.settings(&format!("{SETTINGS}{ASKED}")).await?;
    let tap = Balancer::start(Some(VPN), &[radius(&machine)]).await?;
    for (check, says, uid) in [(Check::EapGtc, Says::Gtc, "ann.archer"), (Check::XauthRadius, Says::Xauth, "ben.hale")]
    {
        let person = machine.command_line().enrol(uid)?;
        let vpn = StrongSwan::start(dir, &pki, check, tap.address(), RADIUS_SECRET)?;
        let laptop = Arc::new(vpn.client(dir, uid, says)?);
        let used = person.appended(0)?;
        let right = connect(&laptop, uid, &used).await?;
        ensure!(right.connected, "{check:?}: {}\n{}", right.output, vpn.log());
        attempt_ended(machine.command_line(), uid, "valid_code", "code")?;
        for bad in [used, person.password.clone(), format!("Nonsense,{}", person.code(1)?)] {
            ensure!(!connect(&laptop, uid, &bad).await?.connected, "{check:?}: {}", vpn.log());
        }
    }
    Ok(())
}

const ASKED: &str = r#"
[[client]]
name = "strongswan"
protocol = "radius"
sources = ["127.0.0.31/32"]
target = "acme"
secret = "file:radius.secret"
challenge = "no"
appended = "required"
"#;

fn relayed(home: &FreeRadius) -> String {
    format!(
        r#"
[[target]]
name = "home"
kind = "radius"
directory = "acme"
servers = [{{ address = "127.0.0.1", authentication_port = {}, accounting_port = {}, secret = "file:home.secret" }}]

[[client]]
name = "strongswan"
protocol = "radius"
sources = ["127.0.0.31/32"]
target = "home"
secret = "file:radius.secret"
methods = ["push", "call"]
person_address = "calling_station_id"
"#,
        home.auth_address().port(),
        home.acct_address().port(),
    )
}

fn radius(machine: &OneMachine) -> SocketAddr {
    ([127, 0, 0, 1], machine.twinlock.radius_port()).into()
}

async fn connect(laptop: &Arc<VpnClient>, uid: &str, password: &str) -> Result<Attempt> {
    let (laptop, uid, password) = (laptop.clone(), uid.to_owned(), password.to_owned());
    tokio::task::spawn_blocking(move || laptop.connect(&uid, &password)).await?
}
