//! RADIUS on one machine: `twinlock serve` on SQLite before a real OpenLDAP, as devices meet it. What may not reach the
//! directory is counted there.

use anyhow::{Context, Result, bail, ensure};
use e2e::{Answer, Device, OneMachine, story};
use lab::{Person, RADIUS_SECRET, program};
use radius_wire::{Code, Packet, Port};
use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr},
    process::{Command, Stdio},
    time::Duration,
};

const VPN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A device that knows no Message-Authenticator, and has the same shared secret.
const OLD_VPN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));

const SETTINGS: &str = r#"
[[client]]
name = "old-vpn"
protocol = "radius"
sources = ["127.0.0.4/32"]
target = "acme"
secret = "file:radius.secret"
message_authenticator = "no"
appended = "required"
"#;

/// Longer than a reject is held back.
const SILENCE: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_before_one_machine() -> Result<()> {
    let mut world = OneMachine::start(0, SETTINGS, "", &["radius.reject_delay_ms=500"])?;
    story!(&mut world;
        radclient_is_accepted_with_the_code_behind_the_password,
        radclient_is_asked_for_a_code_and_accepted_with_it_once,
        a_code_counts_once_whichever_way_it_comes,
        a_state_counts_once_for_its_client_and_its_user_only_and_binds_nobody,
        three_wrong_answers_end_the_conversation,
        a_wrong_shared_secret_is_met_with_silence_and_binds_nobody,
        without_message_authenticator_there_is_silence_and_no_bind,
        an_unsigned_request_under_a_wrong_secret_is_rejected_without_a_bind,
        an_empty_password_is_rejected_without_a_bind,
        copies_of_a_request_get_the_same_octets_and_bind_once,
        a_wrong_password_asks_no_second_question,
        status_server_is_answered_and_strangers_are_not,
        a_state_is_worth_nothing_after_a_restart,
        every_accept_has_one_audit_event,
    )
}

async fn radclient_is_accepted_with_the_code_behind_the_password(world: &mut OneMachine) -> Result<()> {
    let ann = world.command_line().enrol("ann.archer")?;
    let with_code = ann.appended(0)?;
    let accepted = radclient(world, &ann.uid, &with_code, "", RADIUS_SECRET)?;
    ensure!(accepted.contains("Received Access-Accept"), "{accepted}");
    let again = radclient(world, &ann.uid, &with_code, "", RADIUS_SECRET)?;
    ensure!(again.contains("Received Access-Reject"), "{again}");
    ensure!(!again.contains("Received Access-Accept"), "{again}");
    Ok(())
}

async fn radclient_is_asked_for_a_code_and_accepted_with_it_once(world: &mut OneMachine) -> Result<()> {
    // R-40 to R-44, R-46
    let ben = world.command_line().enrol("ben.hale")?;
    let before = world.slapd.binds(&ben.uid);
    let asked = radclient(world, &ben.uid, &ben.password, "", RADIUS_SECRET)?;
    ensure!(asked.contains("Received Access-Challenge") && asked.contains("Reply-Message = \"Enter your code\""));
    let state = asked.lines().find_map(|line| line.trim().strip_prefix("State = ")).context("no State")?;
    let code = ben.code(0)?;
    let accepted = radclient(world, &ben.uid, &code, state, RADIUS_SECRET)?;
    ensure!(accepted.contains("Received Access-Accept"), "{accepted}");
    let again = radclient(world, &ben.uid, &code, state, RADIUS_SECRET)?;
    ensure!(again.contains("Received Access-Reject"), "a replayed State: {again}");
    ensure!(world.slapd.binds(&ben.uid) == before + 1, "the answers were tried as passwords");
    Ok(())
}

async fn a_code_counts_once_whichever_way_it_comes(world: &mut OneMachine) -> Result<()> {
    // V-11
    let clara = world.command_line().enrol("clara.osborn")?;
    let vpn = device(world, VPN)?;
    let used = clara.code(0)?;
    let appended = format!("{},{used}", clara.password);
    ensure!(vpn.login(&clara.uid, &appended).await? == Answer::Accept);
    ensure!(vpn.login(&clara.uid, &appended).await? == Answer::Reject, "appended, again");
    let state = challenged(&vpn, &clara).await?;
    let before = world.slapd.binds(&clara.uid);
    // R-41: the conversation goes on, with another State.
    let Answer::Challenge(next) = vpn.respond(&clara.uid, &used, &state).await? else {
        bail!("a used code as an answer is not asked for again");
    };
    ensure!(next != state, "the same State again");
    let wide: String = used.chars().map(|digit| char::from_u32(digit as u32 + 0xfee0).unwrap_or('x')).collect();
    let spelt = vpn.respond(&clara.uid, &format!(" {wide} "), &next).await?;
    ensure!(spelt != Answer::Accept, "a used code in full-width digits");
    ensure!(world.slapd.binds(&clara.uid) == before, "an answer was tried as a password");
    ensure!(device(world, OLD_VPN)?.login(&clara.uid, &appended).await? == Answer::Reject, "another client");
    Ok(())
}

async fn a_state_counts_once_for_its_client_and_its_user_only_and_binds_nobody(world: &mut OneMachine) -> Result<()> {
    // R-42: a foreign State dies with a Reject, the password beside it reaches no directory
    let david = world.command_line().enrol("david.baker")?;
    let emma = world.command_line().enrol("emma.irwin")?;
    let vpn = device(world, VPN)?;
    let state = challenged(&vpn, &david).await?;
    let (of_david, of_emma) = (world.slapd.binds(&david.uid), world.slapd.binds(&emma.uid));
    let all = world.slapd.binds("");
    let mut flipped = state.clone();
    flipped[20] ^= 1;
    let cases: [(&str, &Device, &str, &[u8]); 5] = [
        ("another client", &device(world, OLD_VPN)?, &david.uid, &state),
        ("another user", &vpn, &emma.uid, &state),
        ("a flipped bit", &vpn, &david.uid, &flipped),
        ("cut short", &vpn, &david.uid, &state[..state.len() - 1]),
        ("invented", &vpn, &david.uid, &[7; 60]),
    ];
    for (what, device, uid, state) in cases {
        ensure!(device.respond(uid, &david.code(0)?, state).await? == Answer::Reject, "{what}");
    }
    ensure!(vpn.respond(&david.uid, &david.code(0)?, &state).await? == Answer::Accept, "the right one, after all");
    ensure!(vpn.respond(&david.uid, &david.code(1)?, &state).await? == Answer::Reject, "the right one, again");
    let binds = (world.slapd.binds(&david.uid), world.slapd.binds(&emma.uid), world.slapd.binds(""));
    ensure!(binds == (of_david, of_emma, all), "binds: {binds:?}");
    Ok(())
}

async fn three_wrong_answers_end_the_conversation(world: &mut OneMachine) -> Result<()> {
    // R-41, R-44: max_attempts is 3
    let felix = world.command_line().enrol("felix.price")?;
    let vpn = device(world, VPN)?;
    let mut state = challenged(&vpn, &felix).await?;
    let before = world.slapd.binds(&felix.uid);
    let wrong = felix.wrong_code()?;
    for _ in 0..2 {
        let Answer::Challenge(next) = vpn.respond(&felix.uid, &wrong, &state).await? else { bail!("asked too seldom") };
        state = next;
    }
    ensure!(vpn.respond(&felix.uid, &wrong, &state).await? == Answer::Reject);
    ensure!(vpn.respond(&felix.uid, &felix.code(0)?, &state).await? == Answer::Reject, "it is over");
    ensure!(world.slapd.binds(&felix.uid) == before);
    Ok(())
}

async fn a_wrong_shared_secret_is_met_with_silence_and_binds_nobody(world: &mut OneMachine) -> Result<()> {
    // A1 step 11
    let greta = world.command_line().enrol("greta.cole")?;
    let before = world.slapd.binds("");
    let impostor = Device::new(VPN, world.twinlock.radius_port(), "not-the-shared-secret")?;
    ensure!(silent(&impostor, &greta, false).await?);
    let output = radclient(world, &greta.uid, &greta.appended(0)?, "", "not-the-shared-secret")?;
    ensure!(!output.contains("Received "), "{output}");
    ensure!(world.slapd.binds("") == before);
    ensure!(world.twinlock.log().contains("ma_bad"), "the log does not say why");
    Ok(())
}

async fn without_message_authenticator_there_is_silence_and_no_bind(world: &mut OneMachine) -> Result<()> {
    // R-08
    let hugo = world.command_line().enrol("hugo.jones")?;
    let before = world.slapd.binds(&hugo.uid);
    let vpn = device(world, VPN)?;
    ensure!(silent(&vpn, &hugo, true).await?);
    ensure!(world.slapd.binds(&hugo.uid) == before);
    ensure!(world.twinlock.log().contains("ma_missing"), "the log does not say why");
    // The same request with it, and the same one from a device that is excused: both work.
    ensure!(vpn.login(&hugo.uid, &hugo.appended(0)?).await? == Answer::Accept);
    let old = device(world, OLD_VPN)?.exchange(&hugo.uid, &hugo.appended(1)?, None).await?.unsigned()?;
    ensure!(old.answer(2).await? == Answer::Accept);
    Ok(())
}

async fn an_unsigned_request_under_a_wrong_secret_is_rejected_without_a_bind(world: &mut OneMachine) -> Result<()> {
    // R-22: what cannot be read is no password. 48 octets of noise are never text.
    let before = world.slapd.binds("");
    let impostor = Device::new(OLD_VPN, world.twinlock.radius_port(), "not-the-shared-secret")?;
    let exchange = impostor.exchange("ida.reed", &"p".repeat(48), None).await?.unsigned()?;
    exchange.send().await?;
    let reply = exchange.receive(SILENCE).await?.context("no reply")?;
    let packet = Packet::parse(&reply, Port::AuthenticationReplies)?;
    ensure!(packet.code() == Code::AccessReject);
    ensure!(world.slapd.binds("") == before);
    let events = world.command_line().audit()?;
    ensure!(events.iter().any(|event| event["reason"] == "secret_mismatch"), "the audit does not say why");
    Ok(())
}

async fn an_empty_password_is_rejected_without_a_bind(world: &mut OneMachine) -> Result<()> {
    // R-27, B-19
    let before = world.slapd.binds("");
    for client in [VPN, OLD_VPN] {
        let answer = device(world, client)?.login("jonas.dyer", "").await?;
        ensure!(answer == Answer::Reject, "{answer:?}");
    }
    // Only the code, as if the password were empty: the head before the separator is.
    let jonas = world.command_line().enrol("jonas.dyer")?;
    ensure!(device(world, VPN)?.login("jonas.dyer", &format!(",{}", jonas.code(0)?)).await? != Answer::Accept);
    ensure!(world.slapd.binds("") == before, "the directory saw a bind");
    Ok(())
}

async fn copies_of_a_request_get_the_same_octets_and_bind_once(world: &mut OneMachine) -> Result<()> {
    // R-30, R-32
    let karla = world.command_line().enrol("karla.keller")?;
    let before = world.slapd.binds(&karla.uid);
    let exchange = device(world, VPN)?.exchange(&karla.uid, &karla.appended(0)?, None).await?;
    for _ in 0..5 {
        exchange.send().await?;
    }
    let first = exchange.receive(Duration::from_secs(5)).await?.context("no reply")?;
    ensure!(exchange.read(&first)? == Answer::Accept);
    for _ in 0..3 {
        exchange.send().await?;
        let again = exchange.receive(Duration::from_secs(5)).await?.context("no reply to a copy")?;
        ensure!(again == first, "a copy got other octets");
    }
    ensure!(world.slapd.binds(&karla.uid) == before + 1);
    let events = world.command_line().audit()?;
    ensure!(events.iter().filter(|event| event["user"] == "karla.keller" && event["client"] == "vpn").count() == 1);
    Ok(())
}

async fn a_wrong_password_asks_no_second_question(world: &mut OneMachine) -> Result<()> {
    // R-63, R-64: one bind, Reject, and nothing that tells it from other refusals
    let leo = world.command_line().enrol("leo.stone")?;
    let vpn = device(world, VPN)?;
    let before = world.slapd.binds(&leo.uid);
    ensure!(vpn.login(&leo.uid, "Nonsense").await? == Answer::Reject);
    ensure!(world.slapd.binds(&leo.uid) == before + 1);
    ensure!(vpn.login("nobody", "Nonsense").await? == Answer::Reject);
    Ok(())
}

async fn status_server_is_answered_and_strangers_are_not(world: &mut OneMachine) -> Result<()> {
    // RFC 5997, A1 step 2
    ensure!(device(world, VPN)?.status().await?.answer(2).await? == Answer::Accept);
    let unsigned = device(world, VPN)?.status().await?.unsigned()?;
    unsigned.send().await?;
    ensure!(unsigned.receive(SILENCE).await?.is_none(), "unsigned");
    let stranger = device(world, STRANGER)?.status().await?;
    stranger.send().await?;
    ensure!(stranger.receive(SILENCE).await?.is_none(), "from an address that is no client's");
    ensure!(world.twinlock.log().contains("unknown_client"));
    Ok(())
}

async fn a_state_is_worth_nothing_after_a_restart(world: &mut OneMachine) -> Result<()> {
    // R-42: on one machine the map is in memory; the counters are not
    let mia = world.command_line().enrol("mia.eaton")?;
    let vpn = device(world, VPN)?;
    let state = challenged(&vpn, &mia).await?;
    world.twinlock.restart()?;
    let before = world.slapd.binds(&mia.uid);
    ensure!(vpn.respond(&mia.uid, &mia.code(0)?, &state).await? == Answer::Reject);
    ensure!(world.slapd.binds(&mia.uid) == before);
    ensure!(vpn.login(&mia.uid, &mia.appended(0)?).await? == Answer::Accept, "the code itself was not spent");
    Ok(())
}

async fn every_accept_has_one_audit_event(world: &mut OneMachine) -> Result<()> {
    // V-61: Ann, Ben, Clara, David, Hugo twice, Karla, Mia
    let events = world.command_line().audit()?;
    let accepted: Vec<_> = events
        .iter()
        .filter(|event| event["result"] == "success" && event["kind"] == "authentication")
        .map(|event| event["user"].as_str().unwrap_or_default())
        .collect();
    let expected = [
        "ann.archer",
        "ben.hale",
        "clara.osborn",
        "david.baker",
        "hugo.jones",
        "hugo.jones",
        "karla.keller",
        "mia.eaton",
    ];
    ensure!(accepted == expected, "{accepted:?}");
    world.command_line().run(&["audit", "verify"])?;
    Ok(())
}

fn device(world: &OneMachine, from: IpAddr) -> Result<Device> {
    Device::new(from, world.twinlock.radius_port(), RADIUS_SECRET)
}

/// The State of the question that follows the password.
async fn challenged(device: &Device, person: &Person) -> Result<Vec<u8>> {
    match device.login(&person.uid, &person.password).await? {
        Answer::Challenge(state) => Ok(state),
        other => bail!("{other:?} instead of a challenge"),
    }
}

/// Whether a right password with a right code stays without a word.
async fn silent(device: &Device, person: &Person, unsigned: bool) -> Result<bool> {
    let exchange = device.exchange(&person.uid, &person.appended(0)?, None).await?;
    let exchange = if unsigned { exchange.unsigned()? } else { exchange };
    exchange.send().await?;
    Ok(exchange.receive(SILENCE).await?.is_none())
}

/// One request as an administrator would send it; what radclient prints.
fn radclient(world: &OneMachine, user: &str, password: &str, state: &str, secret: &str) -> Result<String> {
    let mut attributes =
        format!("User-Name = \"{user}\"\nUser-Password = \"{password}\"\nMessage-Authenticator = 0x00\n");
    if !state.is_empty() {
        attributes += &format!("State = {state}\n");
    }
    let mut child = Command::new(program("radclient")?)
        .args(["-x", "-r", "1", "-t", "2"])
        .arg(format!("127.0.0.1:{}", world.twinlock.radius_port()))
        .args(["auth", secret])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("radclient's input")?.write_all(attributes.as_bytes())?;
    Ok(String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned())
}
