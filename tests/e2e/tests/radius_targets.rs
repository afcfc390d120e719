//! Home servers behind us: real FreeRADIUS checks the passwords, a real OpenLDAP knows the people, and devices, laptops and proxies that
//! are not ours log in. In one process, and through three gateways of which any may get any packet.

use anyhow::{Context, Result, bail, ensure};
use bench::people::People;
use data_encoding::HEXLOWER;
use e2e::{
    Answer, Balancer, Captured, Device, Distributed, Habit, OneMachine, Outside, Pocket, Switchboard, last_attempt,
    story,
};
use futures::{StreamExt, TryStreamExt, stream};
use lab::{
    Certificate, Part, Pki, RADIUS_SECRET, Standalone,
    eapol::{EapResult, Method, Supplicant},
    freeradius::{FreeRadius, HomeOptions, HomeUser, ProxyOptions, ProxySigns, SeenPacket},
    nas::{Nas, Profile, Verdict},
    password_of, private_file, program,
};
use radius_wire::{
    AttributeType, Code, Packet, Port, Vendor,
    ms_chap::{Client, PasswordHash},
};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    time::Duration,
};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Shows questions, and takes a code behind the password.
const CAMPUS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// Waits in silence.
const WIFI: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 12));
/// Their home servers say nothing, or the wrong thing, about who is inside.
const NAMELESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 13));
const OUTER_NAME: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 14));
/// The same home server, which names who is inside in an attribute of an own dictionary.
const OWN_NAME: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 16));
/// Gets groups from us, and from the target its Class alone.
const GROUPS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 15));

const SETTINGS: &str = r#"
[verification]
country = "DE"
calls_per_hour = 60

[sms]
per_prefix_and_hour = 1000
"#;

const PATIENCE: Duration = Duration::from_secs(20);

/// Stopped in the order of its fields.
struct World {
    machine: OneMachine,
    board: Switchboard,
    home: FreeRadius,
    pki: Pki,
    taps: Taps,
}

/// Where everything that passes is seen: before each client, and before the home server.
struct Taps {
    campus: Balancer,
    wifi: Balancer,
    nameless: Balancer,
    outer_name: Balancer,
    own_name: Balancer,
    groups: Balancer,
    accounting: Balancer,
    home: Balancer,
    home_accounting: Balancer,
}

impl Taps {
    async fn start(twinlock: &Standalone, home: &FreeRadius) -> Result<Self> {
        let server = SocketAddr::new(LOCAL, twinlock.radius_port());
        let accounting = SocketAddr::new(LOCAL, twinlock.accounting_port());
        Ok(Self {
            campus: Balancer::start(Some(CAMPUS), &[server]).await?,
            wifi: Balancer::start(Some(WIFI), &[server]).await?,
            nameless: Balancer::start(Some(NAMELESS), &[server]).await?,
            outer_name: Balancer::start(Some(OUTER_NAME), &[server]).await?,
            own_name: Balancer::start(Some(OWN_NAME), &[server]).await?,
            groups: Balancer::start(Some(GROUPS), &[server]).await?,
            accounting: Balancer::start(Some(CAMPUS), &[accounting]).await?,
            home: Balancer::start(None, &[home.auth_address()]).await?,
            home_accounting: Balancer::start(None, &[home.acct_address()]).await?,
        })
    }

    fn before_clients(&self) -> [&Balancer; 6] {
        [&self.campus, &self.wifi, &self.nameless, &self.outer_name, &self.own_name, &self.groups]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_server_behind_one_machine() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &["radius.reject_delay_ms=500"])?;
    let dir = machine.dir.path();
    let pki = Pki::new(&dir.join("home-pki"))?;
    let users = ["ann.archer", "olga.turner", "clara.osborn"];
    let mut users: Vec<_> = users.into_iter().map(|uid| HomeUser::person(uid).replies_usual()).collect();
    users.push(HomeUser::new(NAMED_TWICE, "").replies(&["Example-Identity := \"jonas.dyer\""]));
    let home = FreeRadius::home(dir, &pki, &HomeOptions { users, ..Default::default() })?;
    private_file(&dir.join("home.secret"), home.secret())?;
    let board = Switchboard::start(Outside::start(&machine).await?);
    let taps = Taps::start(&machine.twinlock, &home).await?;
    let settings = format!("{SETTINGS}{}{}", board.outside.providers(), clients_and_targets(&home, &taps));
    machine.settings(&settings).await?;
    let mut world = World { machine, board, home, pki, taps };
    story!(&mut world;
        a_password_is_followed_by_a_question_and_what_the_target_grants_reaches_the_device,
        a_code_behind_the_password_is_not_for_the_target,
        ms_chap_2_passes_through_and_both_ends_have_the_same_keys,
        every_eap_method_opens_after_a_call_for_whoever_is_inside,
        a_certificate_and_a_phone_open_and_a_denial_shows_the_laptop_no_success,
        a_call_that_is_hung_up_shows_the_laptop_no_success,
        a_wrong_password_inside_rings_nowhere,
        the_name_outside_is_nobody,
        a_target_that_keeps_the_name_to_itself_lets_nobody_in,
        the_name_inside_stands_in_an_attribute_of_an_own_dictionary,
        groups_of_the_directory_become_attributes_and_the_target_grants_what_it_may,
        two_proxies_before_us_get_their_states_back_in_order,
        accounting_is_answered_when_the_target_has_answered,
        every_packet_begins_with_its_signature,
        every_accept_has_one_success_in_the_audit,
    )
}

fn clients_and_targets(home: &FreeRadius, taps: &Taps) -> String {
    let target = |name: &str, port: u16, more: &str| {
        format!(
            r#"
[[target]]
name = "{name}"
kind = "radius"
directory = "acme"
{more}

[[target.servers]]
address = "127.0.0.1"
authentication_port = {port}
accounting_port = {accounting}
secret = "file:home.secret"
"#,
            accounting = taps.home_accounting.address().port()
        )
    };
    let client = |name: &str, address: IpAddr, target: &str, more: &str| {
        format!(
            "\n[[client]]\nname = \"{name}\"\nprotocol = \"radius\"\nsources = [\"{address}/32\"]\ntarget = \"{target}\"\n\
             secret = \"file:radius.secret\"\nwait_seconds = 20\n{more}\n"
        )
    };
    let groups = r#"
challenge = "no"
target_attributes = ["Class"]
reply = [
    { when_group = "engineering", set = { Fortinet-Group-Name = "vpn-engineering" } },
    { when_group = "sales", set = { Fortinet-Group-Name = "vpn-sales" } },
]"#;
    let silent = "challenge = \"no\"";
    [
        format!("\n[[dictionary]]\nname = \"example\"\ntext = \"\"\"\n{}\"\"\"\n", FreeRadius::OWN_DICTIONARY),
        target("campus", taps.home.address().port(), ""),
        target("nameless", home.nameless_address().port(), ""),
        target("outer-name", home.outer_name_address().port(), ""),
        target("own-name", home.outer_name_address().port(), "identity_attribute = \"Example-Identity\""),
        client("campus", CAMPUS, "campus", "appended = \"optional\""),
        client("wifi", WIFI, "campus", silent),
        client("nameless", NAMELESS, "nameless", silent),
        client("outer-name", OUTER_NAME, "outer-name", silent),
        client("own-name", OWN_NAME, "own-name", silent),
        client("groups", GROUPS, "campus", groups),
    ]
    .concat()
}

async fn a_password_is_followed_by_a_question_and_what_the_target_grants_reaches_the_device(
    world: &mut World,
) -> Result<()> {
    // R-40, R-55, R-65
    let ann = app(&world.machine, "ann.archer")?;
    let asked = radclient(world.taps.campus.address(), &pap(&ann.uid, &ann.password)).await?;
    ensure!(asked.contains("Received Access-Challenge"), "{asked}");
    ensure!(!asked.contains("Class = "), "the question tells what is granted later: {asked}");
    let state = asked.lines().find_map(|line| line.trim().strip_prefix("State = ")).context("no State")?;
    let code = ann.code(0)?;
    let accepted =
        radclient(world.taps.campus.address(), &format!("{}State = {state}\n", pap(&ann.uid, &code))).await?;
    for granted in [
        "Received Access-Accept",
        "Class = 0x7374616666", // "staff"
        "Filter-Id = \"vpn-users\"",
        "Session-Timeout = 3600",
        "Tunnel-Type:1 = VLAN",
        "Tunnel-Private-Group-Id:1 = \"42\"",
        &format!("Tunnel-Password:1 = \"{}\"", HomeUser::TUNNEL_PASSWORD),
        "Fortinet-Group-Name = \"vpn-users\"",
    ] {
        ensure!(accepted.contains(granted), "no {granted} in {accepted}");
    }
    let seen = of(&world.home, &ann.uid)?;
    ensure!(seen.len() == 1, "the target was asked {} times", seen.len());
    ensure!(seen[0].first("User-Password") == Some(ann.password.as_str()), "{:?}", seen[0]);
    ensure!(world.machine.slapd.binds(&ann.uid) == 0, "the directory checked a password");
    Ok(())
}

async fn a_code_behind_the_password_is_not_for_the_target(world: &mut World) -> Result<()> {
    // L-52
    let leo = app(&world.machine, "leo.stone")?;
    let device = Device::new(LOCAL, world.taps.campus.address().port(), RADIUS_SECRET)?;
    ensure!(device.login(&leo.uid, &leo.appended(0)?).await? == Answer::Accept);
    ensure!(device.login(&leo.uid, &leo.appended(0)?).await? != Answer::Accept, "the same code again");
    let wrong = format!("Nonsense,{}", leo.code(1)?);
    ensure!(device.login(&leo.uid, &wrong).await? == Answer::Reject, "a wrong password");
    let seen = of(&world.home, &leo.uid)?;
    let passwords: Vec<_> = seen.iter().filter_map(|packet| packet.first("User-Password")).collect();
    ensure!(passwords.first() == Some(&leo.password.as_str()), "{passwords:?}");
    ensure!(passwords.last() == Some(&"Nonsense"), "{passwords:?}");
    Ok(())
}

async fn ms_chap_2_passes_through_and_both_ends_have_the_same_keys(world: &mut World) -> Result<()> {
    // R-55, R-56
    let uid = "clara.osborn";
    let (confirms, right, wrong) = (Habit::Confirms(Duration::ZERO), password_of(uid), "Nonsense".to_owned());
    for (password, habit, said_no) in [
        (&right, confirms, None),
        // The target's own words.
        (&wrong, confirms, Some("E=691 R=1")),
        // R-58: ours; who is told R=1 asks again at once.
        (&right, Habit::HangsUp, Some("E=691 R=0")),
    ] {
        world.board.set_habit(habit);
        let before = world.board.calls(uid)?;
        let (client, said) = ms_chap_2(world.taps.wifi.address(), uid, password).await?;
        ensure!(said.contains("Received Access-Accept") == said_no.is_none(), "{said}");
        let rang = usize::from(*password == right);
        ensure!(world.board.calls(uid)? == before + rang, "{habit:?}: calls");
        if let Some(words) = said_no {
            ensure!(said.contains("Received Access-Reject") && said.contains(words), "{said}");
            ensure!(!said.contains("MPPE") && !said.contains("MS-CHAP2-Success"), "{said}");
            continue;
        }
        both_ends_agree(&client, &said)?;
    }
    Ok(())
}

/// A login by MS-CHAPv2: who logged in, and what radclient printed.
async fn ms_chap_2<'a>(server: SocketAddr, uid: &'a str, password: &str) -> Result<(Client<'a>, String)> {
    let (mut challenge, mut peer_challenge) = ([0; 16], [0; 16]);
    getrandom::fill(&mut challenge).context("randomness")?;
    getrandom::fill(&mut peer_challenge).context("randomness")?;
    let client = Client { user_name: uid, challenge, peer_challenge, hash: PasswordHash::of(password) };
    let request = format!(
        "User-Name = \"{uid}\"\nMS-CHAP-Challenge = 0x{}\nMS-CHAP2-Response = 0x{}\nMessage-Authenticator = 0x00\n",
        HEXLOWER.encode(&challenge),
        HEXLOWER.encode(&client.response(7)),
    );
    let said = radclient(server, &request).await?;
    Ok((client, said))
}

/// The target's proof, and the keys (R-55).
fn both_ends_agree(client: &Client<'_>, said: &str) -> Result<()> {
    let value = |name: &str| -> Result<Vec<u8>> {
        let text = said.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(" = 0x"));
        Ok(HEXLOWER.decode(text.with_context(|| format!("no {name} in {said}"))?.as_bytes())?)
    };
    ensure!(client.accepts(7, &value("MS-CHAP2-Success")?), "the target's proof does not fit");
    let keys = client.keys();
    for (name, key) in [("MS-MPPE-Send-Key", &keys.send), ("MS-MPPE-Recv-Key", &keys.recv)] {
        ensure!(value(name)? == key.as_slice(), "{name}");
    }
    Ok(())
}

async fn every_eap_method_opens_after_a_call_for_whoever_is_inside(world: &mut World) -> Result<()> {
    // R-50, R-51, R-53
    let uid = "ben.hale";
    world.board.set_habit(Habit::Confirms(Duration::from_millis(300)));
    for method in [Method::PeapMschapv2, Method::PeapGtc, Method::TtlsPap, Method::TtlsMschapv2] {
        let (name, before) = (format!("{method:?}"), world.board.calls(uid)?);
        let result = eap(&world.taps.wifi, world.laptop(method, uid).outside("anonymous")).await?;
        ensure!(result.success && result.keys_match, "{name}: {}", result.output);
        ensure!(world.board.calls(uid)? == before + 1, "{name}: calls");
        ensure!(world.ended(uid)? == "call_confirmed", "{name}");
    }
    Ok(())
}

async fn a_certificate_and_a_phone_open_and_a_denial_shows_the_laptop_no_success(world: &mut World) -> Result<()> {
    // R-53 ★
    let uid = "emma.irwin";
    let url = world.machine.twinlock.portal_url();
    let mut pocket = Pocket::connect(world.machine.command_line(), &url, &world.board.outside.http, uid).await?;
    let certificate: Certificate = world.pki.issue("emma", &[uid])?;
    for approves in [true, false] {
        let before = (pocket.prompts, world.taps.wifi.replies().len(), world.granted()?);
        let laptop = world.laptop(Method::tls(&certificate), uid).outside("anonymous");
        let (result, told) = tokio::join!(eap(&world.taps.wifi, laptop), async {
            let shown = pocket.shown(PATIENCE).await?;
            if approves { pocket.approve(&shown).await } else { pocket.decline(&shown).await }
        });
        ensure!(told?, "the answer of the phone is not taken");
        let result = result?;
        ensure!(result.success == approves && result.keys_match == approves, "{approves}: {}", result.output);
        ensure!(pocket.prompts == before.0 + 1, "prompts");
        if !approves {
            ensure!(world.granted()? == before.2 + 1, "the target said no: nothing was kept back");
            refused_without_success(&world.taps.wifi.replies()[before.1..])?;
            ensure!(!result.eap_success_seen && result.eap_failure_seen, "{}", result.output);
            ensure!(world.ended(uid)? == "user_denied", "{}", world.ended(uid)?);
        }
    }
    Ok(())
}

async fn a_call_that_is_hung_up_shows_the_laptop_no_success(world: &mut World) -> Result<()> {
    // R-53 ★
    let uid = "david.baker";
    world.board.set_habit(Habit::HangsUp);
    for method in [Method::PeapMschapv2, Method::TtlsPap] {
        let (granted, replies) = (world.granted()?, world.taps.wifi.replies().len());
        // After a refusal there is quiet for a while: the second is another person.
        let uid = if matches!(method, Method::TtlsPap) { "felix.price" } else { uid };
        let result = eap(&world.taps.wifi, world.laptop(method, uid).outside("anonymous")).await;
        let result = result?;
        ensure!(world.granted()? == granted + 1, "the target said no: nothing was kept back");
        ensure!(!result.success && !result.eap_success_seen && result.eap_failure_seen, "{}", result.output);
        refused_without_success(&world.taps.wifi.replies()[replies..])?;
        ensure!(world.ended(uid)? == "hung_up", "{}", world.ended(uid)?);
    }
    world.board.set_habit(Habit::Confirms(Duration::ZERO));
    Ok(())
}

/// It ends with an EAP-Failure, and in none of these is anything of a success.
fn refused_without_success(replies: &[Captured]) -> Result<()> {
    for reply in replies {
        let packet = parsed(reply)?;
        ensure!(packet.code() != Code::AccessAccept, "an Access-Accept");
        ensure!(eap_code(&packet) != Some(EAP_SUCCESS), "an EAP-Success");
        let keys = packet.attributes().filter_map(|attribute| attribute.vendor());
        ensure!(keys.into_iter().all(|vendor| vendor.id != Vendor::MICROSOFT), "something of Microsoft's, as keys are");
    }
    let last = parsed(replies.last().context("no reply")?)?;
    ensure!((last.code(), eap_code(&last)) == (Code::AccessReject, Some(EAP_FAILURE)), "the last word");
    Ok(())
}

const EAP_SUCCESS: u8 = 3;
const EAP_FAILURE: u8 = 4;

async fn a_wrong_password_inside_rings_nowhere(world: &mut World) -> Result<()> {
    let uid = "greta.cole";
    let before = world.board.all_calls();
    for method in [Method::PeapMschapv2, Method::PeapGtc, Method::TtlsPap, Method::TtlsMschapv2] {
        let name = format!("{method:?}");
        let mut laptop = world.laptop(method, uid).outside("anonymous").waiting(Duration::from_secs(4));
        laptop.password = "Nonsense".into();
        let result = eap(&world.taps.wifi, laptop).await?;
        ensure!(!result.success && !result.eap_success_seen, "{name}: {}", result.output);
        // After MS-CHAPv2 inside PEAP the laptop would ask for the password again, and waits.
        let waits = name == "PeapMschapv2";
        let last = result.replies.last().map(String::as_str);
        ensure!(last == Some(if waits { "Access-Challenge" } else { "Access-Reject" }), "{name}: {:?}", result.replies);
    }
    ensure!(world.board.all_calls() == before, "somebody was called");
    Ok(())
}

async fn the_name_outside_is_nobody(world: &mut World) -> Result<()> {
    // R-50 ★: whoever is inside is asked
    let (inside, outside) = ("hugo.jones", "jonas.dyer");
    let before = (world.board.calls(inside)?, world.board.calls(outside)?);
    let result = eap(&world.taps.wifi, world.laptop(Method::TtlsPap, inside).outside(outside)).await?;
    ensure!(result.success, "{}", result.output);
    let after = (world.board.calls(inside)?, world.board.calls(outside)?);
    ensure!(after == (before.0 + 1, before.1), "{after:?}");
    Ok(())
}

async fn a_target_that_keeps_the_name_to_itself_lets_nobody_in(world: &mut World) -> Result<()> {
    // R-50: and one that repeats the name outside is not believed to know who "anonymous" is
    let uid = "ida.reed";
    let before = world.board.all_calls();
    for tap in [&world.taps.nameless, &world.taps.outer_name] {
        let laptop = world.laptop(Method::PeapMschapv2, uid).outside("anonymous");
        let (granted, result) = (world.granted()?, eap(tap, laptop).await?);
        ensure!(world.granted()? == granted + 1, "the target said no");
        ensure!(!result.success && !result.eap_success_seen, "{}", result.output);
        refused_without_success(&tap.replies())?;
    }
    ensure!(world.board.all_calls() == before, "somebody was called");
    Ok(())
}

/// Outside: about this one the home server itself says somebody else.
const NAMED_TWICE: &str = "named.twice";

async fn the_name_inside_stands_in_an_attribute_of_an_own_dictionary(world: &mut World) -> Result<()> {
    // R-50 ★: the User-Name of this Access-Accept is the name outside
    let (inside, outside) = ("quinn.mason", "jonas.dyer");
    let calls = |world: &World| Ok::<_, anyhow::Error>((world.board.calls(inside)?, world.board.calls(outside)?));
    for method in [Method::TtlsPap, Method::PeapMschapv2] {
        let (before, name) = (calls(world)?, format!("{method:?}"));
        let result = eap(&world.taps.own_name, world.laptop(method, inside).outside(outside)).await?;
        ensure!(result.success && result.keys_match, "{name}: {}", result.output);
        let after = calls(world)?;
        ensure!(after == (before.0 + 1, before.1), "{name}: {after:?}");
        ensure!(world.ended(inside)? == "call_confirmed", "{name}");
    }
    // Two values are none, and where no tunnel has put one there, the name outside does not stand in for it.
    let all = world.board.all_calls();
    for laptop in [world.laptop(Method::TtlsPap, inside).outside(NAMED_TWICE), world.laptop(Method::Md5, outside)] {
        let (granted, replies) = (world.granted()?, world.taps.own_name.replies().len());
        let result = eap(&world.taps.own_name, laptop).await?;
        ensure!(world.granted()? == granted + 1, "the target said no");
        ensure!(!result.success && !result.eap_success_seen, "{}", result.output);
        refused_without_success(&world.taps.own_name.replies()[replies..])?;
    }
    ensure!(world.board.all_calls() == all, "somebody was called");
    Ok(())
}

async fn groups_of_the_directory_become_attributes_and_the_target_grants_what_it_may(world: &mut World) -> Result<()> {
    // FR-17
    for (uid, group) in [("mia.eaton", "vpn-engineering"), ("noah.lang", "vpn-sales")] {
        let said = radclient(world.taps.groups.address(), &pap(uid, &password_of(uid))).await?;
        ensure!(said.contains("Received Access-Accept"), "{said}");
        let groups = said.lines().filter_map(|line| line.trim().strip_prefix("Fortinet-Group-Name = "));
        let groups: Vec<_> = groups.collect();
        ensure!(groups == [format!("\"{group}\"")], "{groups:?}");
    }
    let uid = "olga.turner";
    let said = radclient(world.taps.groups.address(), &pap(uid, &password_of(uid))).await?;
    ensure!(said.contains("Received Access-Accept") && said.contains("Class = 0x7374616666"), "{said}");
    for not_granted in ["Filter-Id", "Tunnel-", "Fortinet-Group-Name", "Session-Timeout"] {
        ensure!(!said.contains(not_granted), "{not_granted} in {said}");
    }
    Ok(())
}

async fn two_proxies_before_us_get_their_states_back_in_order(world: &mut World) -> Result<()> {
    // R-25, RFC 2865 section 5.33
    let dir = world.machine.dir.path();
    let signed = |mut options: ProxyOptions| {
        options.signs = ProxySigns::Always;
        options
    };
    let near = ProxyOptions { name: "near".into(), ..ProxyOptions::new(world.taps.wifi.address(), RADIUS_SECRET) };
    let near = FreeRadius::proxy(dir, &world.pki, &signed(near))?;
    let far = ProxyOptions { name: "far".into(), ..ProxyOptions::new(near.auth_address(), near.secret()) };
    let far = FreeRadius::proxy(dir, &world.pki, &signed(far))?;
    let passed = world.taps.wifi.captured().len();
    let uid = "paul.fisher";
    let outcome =
        Nas::new(Profile::fortigate(), &[far.auth_address()], far.secret())?.login(uid, &password_of(uid), &[]).await?;
    ensure!(outcome.verdict == Verdict::Accept, "{:?}", outcome.verdict);
    let passed = &world.taps.wifi.captured()[passed..];
    let states = |packet: &Captured| -> Result<Vec<Vec<u8>>> {
        let port = if packet.reply { Port::AuthenticationReplies } else { Port::Authentication };
        let packet = Packet::parse(&packet.octets, port).map_err(|drop| anyhow::anyhow!("{drop:?}"))?;
        Ok(packet.all(AttributeType::PROXY_STATE).map(<[u8]>::to_vec).collect())
    };
    let asked = states(passed.first().context("nothing came by")?)?;
    let told = states(passed.last().context("nothing came by")?)?;
    ensure!(asked.len() == 2 && asked[0] != asked[1], "{asked:?}");
    ensure!(asked == told, "{asked:?} came back as {told:?}");
    // The home server saw them too, and ours behind them.
    let seen = of(&world.home, uid)?.pop().context("the target saw nothing")?;
    let seen: Vec<String> = seen.all("Proxy-State").map(str::to_lowercase).collect();
    let before = asked.iter().map(|state| format!("0x{}", HEXLOWER.encode(state)));
    ensure!(seen.len() == 3 && seen[..2] == before.collect::<Vec<_>>(), "{seen:?}");
    // What the proxies passed on is what the target granted and no more Proxy-State than each had.
    ensure!(outcome.last().context("no answer")?.all(AttributeType::PROXY_STATE).is_empty());
    Ok(())
}

async fn accounting_is_answered_when_the_target_has_answered(world: &mut World) -> Result<()> {
    // R-86
    let report = |session: &str| {
        format!(
            "User-Name = \"ann.archer\"\nAcct-Status-Type = Start\nAcct-Session-Id = \"{session}\"\nNAS-Identifier = \"campus\"\n"
        )
    };
    let seen = |home: &FreeRadius, session: &str| -> Result<bool> {
        let seen = home.seen()?;
        Ok(seen
            .iter()
            .any(|packet| packet.code == "Accounting-Request" && packet.first("Acct-Session-Id") == Some(session)))
    };
    let at = world.taps.accounting.address();
    // Signed or not.
    for (session, signature) in [("s-0", "Message-Authenticator = 0x00\n"), ("s-1", "")] {
        let said = radius_program(at, "acct", &format!("{}{signature}", report(session)), 5.0).await?;
        ensure!(said.contains("Received Accounting-Response"), "{said}");
        ensure!(seen(&world.home, session)?, "the target saw nothing of it");
    }
    world.home.stop();
    let said = radius_program(at, "acct", &report("s-2"), 3.0).await?;
    let restarted = world.home.restart();
    ensure!(!said.contains("Received"), "{said}");
    restarted?;
    ensure!(!seen(&world.home, "s-2")? || world.taps.accounting.replies().len() > 1, "it was reported in vain");
    // As devices do, again until it is acknowledged.
    for _ in 0..8 {
        let said = radius_program(at, "acct", &report("s-3"), 3.0).await?;
        if said.contains("Received Accounting-Response") {
            ensure!(seen(&world.home, "s-3")?, "acknowledged and not recorded");
            return Ok(());
        }
    }
    bail!("the target is back, and nothing is acknowledged")
}

async fn every_packet_begins_with_its_signature(world: &mut World) -> Result<()> {
    // R-11: what goes to devices, and what goes to the target. R-13: a report has what it came with, and its answer has none.
    let mut codes = BTreeSet::new();
    let to_devices = world.taps.before_clients().into_iter().flat_map(Balancer::replies);
    let to_target = world.taps.home.captured().into_iter().filter(|packet| !packet.reply);
    for packet in to_devices.chain(to_target) {
        ensure!(packet.octets.get(20..22) == Some(&[80, 18]), "{}", HEXLOWER.encode(&packet.octets));
        codes.insert(packet.octets[0]);
    }
    let wanted = [Code::AccessRequest, Code::AccessAccept, Code::AccessReject, Code::AccessChallenge];
    ensure!(wanted.iter().all(|code| codes.contains(&(*code as u8))), "only the codes {codes:?} were seen");
    let acknowledged = world.taps.accounting.replies();
    ensure!(acknowledged.len() >= 2, "only {} reports were acknowledged", acknowledged.len());
    for reply in acknowledged {
        let packet =
            Packet::parse(&reply.octets, Port::AccountingReplies).map_err(|drop| anyhow::anyhow!("{drop:?}"))?;
        ensure!(packet.code() == Code::AccountingResponse && !packet.has(AttributeType::MESSAGE_AUTHENTICATOR));
    }
    let mut signed = BTreeSet::new();
    for passed_on in world.taps.home_accounting.captured().into_iter().filter(|packet| !packet.reply) {
        let packet = Packet::parse(&passed_on.octets, Port::Accounting).map_err(|drop| anyhow::anyhow!("{drop:?}"))?;
        let begins = passed_on.octets.get(20..22) == Some(&[80, 18]);
        ensure!(begins == packet.has(AttributeType::MESSAGE_AUTHENTICATOR), "{}", HEXLOWER.encode(&passed_on.octets));
        signed.insert(begins);
    }
    ensure!(signed.len() == 2, "reports with a signature: {signed:?}");
    Ok(())
}

async fn every_accept_has_one_success_in_the_audit(world: &mut World) -> Result<()> {
    // V-61
    let accepts: BTreeSet<Vec<u8>> = world
        .taps
        .before_clients()
        .into_iter()
        .flat_map(Balancer::replies)
        .map(|reply| reply.octets)
        .filter(|octets| octets[0] == Code::AccessAccept as u8)
        .collect();
    let events = world.machine.command_line().audit()?;
    let success = events.iter().filter(|event| event["kind"] == "authentication" && event["result"] == "success");
    let attempts: BTreeSet<&str> = success.clone().filter_map(|event| event["request_id"].as_str()).collect();
    let counted = (success.count(), attempts.len());
    ensure!(accepts.len() >= 13 && counted == (accepts.len(), accepts.len()), "{counted:?} of {}", accepts.len());
    world.machine.command_line().run(&["audit", "verify"])?;
    Ok(())
}

impl World {
    fn laptop(&self, method: Method, uid: &str) -> Supplicant {
        Supplicant::new(method, uid, &password_of(uid), &self.pki.ca_file()).waiting(PATIENCE)
    }

    /// Why the last attempt of somebody ended.
    fn ended(&self, uid: &str) -> Result<String> {
        Ok(last_attempt(self.machine.command_line(), uid)?.0)
    }

    /// How often the target said yes.
    fn granted(&self) -> Result<usize> {
        Ok(self.home.answered()?.iter().filter(|packet| packet.code == "Access-Accept").count())
    }
}

/// What a home server was asked about somebody.
fn of(home: &FreeRadius, uid: &str) -> Result<Vec<SeenPacket>> {
    Ok(home.seen()?.into_iter().filter(|packet| packet.first("User-Name") == Some(uid)).collect())
}

/// Somebody with an authenticator app, which is asked for first: everybody has a number, and calls go before codes.
fn app(machine: &OneMachine, uid: &str) -> Result<lab::Person> {
    let person = machine.command_line().enrol(uid)?;
    machine.command_line().run(&["user", "edit", uid, "--default-method", "code"])?;
    Ok(person)
}

fn parsed(captured: &Captured) -> Result<Packet<'_>> {
    Packet::parse(&captured.octets, Port::AuthenticationReplies).map_err(|drop| anyhow::anyhow!("{drop:?}"))
}

/// RFC 3748 section 4
fn eap_code(packet: &Packet<'_>) -> Option<u8> {
    packet.first(AttributeType::EAP_MESSAGE).and_then(|message| message.first().copied())
}

async fn eap(tap: &Balancer, laptop: Supplicant) -> Result<EapResult> {
    let server = tap.address();
    tokio::task::spawn_blocking(move || laptop.log_in(server, RADIUS_SECRET)).await?
}

fn pap(uid: &str, password: &str) -> String {
    format!("User-Name = \"{uid}\"\nUser-Password = \"{password}\"\nMessage-Authenticator = 0x00\n")
}

/// What radclient prints about a login.
async fn radclient(server: SocketAddr, attributes: &str) -> Result<String> {
    radius_program(server, "auth", attributes, PATIENCE.as_secs_f32()).await
}

async fn radius_program(server: SocketAddr, command: &'static str, attributes: &str, seconds: f32) -> Result<String> {
    let attributes = attributes.to_owned();
    let run = move || {
        let mut child = Command::new(program("radclient")?)
            .args(["-x", "-r", "1", "-t", &seconds.to_string()])
            .args([&server.to_string(), command, RADIUS_SECRET])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("radclient's input")?.write_all(attributes.as_bytes())?;
        Ok(String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned())
    };
    tokio::task::spawn_blocking(run).await?
}

/// Stopped in the order of its fields.
struct Campus {
    distributed: Distributed,
    board: Switchboard,
    homes: [FreeRadius; 2],
    people: People,
    campus: Balancer,
    wifi: Balancer,
}

const GATEWAYS: usize = 3;
/// Each has two codes at once, and another every half minute.
const PEOPLE: usize = 260;
const BY_PASSWORD: usize = 450;
const BY_EAP: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_home_servers_behind_three_gateways() -> Result<()> {
    let mut distributed = Distributed::start(PEOPLE, "", "")?;
    while distributed.cluster.add_node(Part::RadiusGateway, &distributed.pki, "")? < GATEWAYS {}
    let dir = distributed.dir.path();
    let users: Vec<_> = (1..=PEOPLE).map(|number| HomeUser::person(&format!("bulk{number:05}"))).collect();
    let home = |name: &str| {
        FreeRadius::home(
            dir,
            &distributed.pki,
            &HomeOptions { name: name.into(), users: users.clone(), ..Default::default() },
        )
    };
    let homes = [home("first")?, home("second")?];
    private_file(&dir.join("home.secret"), homes[0].secret())?;
    let board = Switchboard::start(Outside::start_at(dir).await?);
    let servers = homes.each_ref().map(|home| {
        format!(
            "[[target.servers]]\naddress = \"127.0.0.1\"\nauthentication_port = {}\naccounting_port = {}\n\
             secret = \"file:home.secret\"\n",
            home.auth_address().port(),
            home.acct_address().port()
        )
    });
    let client = |name: &str, address: IpAddr, more: &str| {
        format!(
            "[[client]]\nname = \"{name}\"\nprotocol = \"radius\"\nsources = [\"{address}/32\"]\ntarget = \"{name}\"\n\
             secret = \"file:radius.secret\"\n{more}\n"
        )
    };
    // Two targets, each the other's reserve.
    let target = |name: &str, servers: String| {
        format!("[[target]]\nname = \"{name}\"\nkind = \"radius\"\ndirectory = \"acme\"\n{servers}")
    };
    let [first, second] = servers;
    let settings = format!(
        "{SETTINGS}{}\n{}{}{}{}",
        board.outside.providers(),
        target("campus", format!("{first}{second}")),
        target("wifi", format!("{second}{first}")),
        client("campus", CAMPUS, "appended = \"optional\""),
        client("wifi", WIFI, "challenge = \"no\""),
    );
    distributed.command_line().apply(dir, &lab::company_settings(&distributed.slapd, &settings)?)?;
    let people = People::new(distributed.enrol_many(PEOPLE).await?);
    let gateways: Vec<_> = (1..=GATEWAYS).map(|number| gateway(&distributed, number)).collect();
    let campus = Balancer::start(Some(CAMPUS), &gateways).await?;
    let wifi = Balancer::start(Some(WIFI), &gateways).await?;
    let mut world = Campus { distributed, board, homes, people, campus, wifi };
    world.in_force().await?;
    story!(&mut world;
        none_of_500_logins_is_lost_whichever_gateway_gets_a_packet,
        a_certificate_in_twenty_pieces_comes_through_whichever_gateway_gets_them,
        a_question_of_a_gateway_that_is_gone_is_answered_at_the_others,
        the_second_home_server_takes_over_from_the_first,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_while_the_phone_rings_is_replaced_and_the_home_server_is_asked_once() -> Result<()> {
    // R-30 ★, R-53: a server takes the last round of EAP once
    let mut distributed = Distributed::start(0, "", "")?;
    while distributed.cluster.add_node(Part::RadiusGateway, &distributed.pki, "")? < 2 {}
    let dir = distributed.dir.path();
    let (by_password, by_eap) = ("ann.archer", "ben.hale");
    let users = [by_password, by_eap].map(|uid| HomeUser::person(uid).replies_usual()).into();
    let home = FreeRadius::home(dir, &distributed.pki, &HomeOptions { users, ..Default::default() })?;
    private_file(&dir.join("home.secret"), home.secret())?;
    let board = Switchboard::start(Outside::start_at(dir).await?);
    let settings = format!(
        "{SETTINGS}{}\n[[target]]\nname = \"wifi\"\nkind = \"radius\"\ndirectory = \"acme\"\n[[target.servers]]\n\
         address = \"127.0.0.1\"\nauthentication_port = {}\naccounting_port = {}\nsecret = \"file:home.secret\"\n\
         [[client]]\nname = \"wifi\"\nprotocol = \"radius\"\nsources = [\"{WIFI}/32\"]\ntarget = \"wifi\"\n\
         secret = \"file:radius.secret\"\nchallenge = \"no\"\nwait_seconds = 60\n",
        board.outside.providers(),
        home.auth_address().port(),
        home.acct_address().port(),
    );
    distributed.command_line().apply(dir, &lab::company_settings(&distributed.slapd, &settings)?)?;
    let gateways = [gateway(&distributed, 1), gateway(&distributed, 2)];
    let tap = Balancer::start(Some(WIFI), &gateways).await?;
    for gateway in gateways {
        // A client that is not known yet gets no answer.
        tap.set_servers(&[gateway]);
        let answer = Device::new(LOCAL, tap.address().port(), RADIUS_SECRET)?.status().await?.answer(10).await?;
        ensure!(answer == Answer::Accept, "{gateway}: {answer:?}");
    }
    tap.set_servers(&gateways[..1]);
    // Long enough for a copy behind the time after which a node counts as gone.
    board.set_habit(Habit::Confirms(Duration::from_secs(24)));
    let ca_file = distributed.pki.ca_file();
    let laptop = Supplicant::new(Method::PeapMschapv2, by_eap, &password_of(by_eap), &ca_file);
    let device = Nas::new(
        Profile { copies: 40, interval: Duration::from_secs(1), ..Profile::fortigate() },
        &[tap.address()],
        RADIUS_SECRET,
    )?;
    let password = password_of(by_password);
    let (eap, pap, killed) = tokio::join!(
        eap(&tap, laptop.outside("anonymous").waiting(Duration::from_secs(50))),
        device.login(by_password, &password, &[]),
        async {
            let begun = std::time::Instant::now();
            for uid in [by_password, by_eap] {
                while board.calls(uid)? == 0 {
                    ensure!(begun.elapsed() < PATIENCE, "{uid} is not called");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            distributed.cluster.kill((Part::RadiusGateway, 1));
            tap.set_servers(&gateways[1..]);
            Ok(())
        }
    );
    killed?;
    let (eap, pap) = (eap?, pap?);
    ensure!(eap.success && eap.keys_match, "{}", eap.output);
    ensure!(pap.verdict == Verdict::Accept, "{:?}", pap.verdict);
    let granted = pap.last().context("no answer")?;
    ensure!(granted.octets.windows(5).any(|window| window == b"staff"), "what the target grants is lost");
    for uid in [by_password, by_eap] {
        let (calls, ended) = (board.calls(uid)?, last_attempt(distributed.command_line(), uid)?.0);
        ensure!(calls == 1 && ended == "call_confirmed", "{uid}: {calls} calls, {ended}");
    }
    let said = home.answered()?;
    let said = |code: &str| said.iter().filter(|packet| packet.code == code).count();
    let counted = (of(&home, by_password)?.len(), said("Access-Accept"), said("Access-Reject"));
    ensure!(counted == (1, 2, 0), "asked for the password, accepts, rejects: {counted:?}");
    Ok(())
}

async fn none_of_500_logins_is_lost_whichever_gateway_gets_a_packet(world: &mut Campus) -> Result<()> {
    // R-45, R-52 ★, R-55
    let before = world.successes()?;
    let world = &*world;
    let by_password = stream::iter(0..BY_PASSWORD)
        .map(
            |number| async move { world.by_password(number % 2 == 0).await.with_context(|| format!("login {number}")) },
        )
        .buffer_unordered(12)
        .try_collect::<()>();
    let company = fs::read_to_string(lab::repository().join("tests/lab/data/company.ldif"))?;
    let uids = company.lines().filter_map(|line| line.strip_prefix("uid: ")).take(BY_EAP);
    let by_eap = stream::iter(uids.enumerate())
        .map(|(number, uid)| async move {
            let pki = &world.distributed.pki;
            let method = match number % 6 {
                0 => Method::TtlsPap,
                1 => Method::Md5,
                2 => Method::PeapMschapv2,
                3 => Method::TtlsMschapv2,
                4 => Method::tls(&pki.issue(&format!("laptop-{number}"), &[uid])?),
                _ => {
                    let (client, said) = ms_chap_2(world.wifi.address(), uid, &password_of(uid)).await?;
                    both_ends_agree(&client, &said).with_context(|| format!("{uid} by MS-CHAPv2"))?;
                    ensure!(world.board.calls(uid)? == 1, "{uid}: {} calls", world.board.calls(uid)?);
                    return Ok(());
                }
            };
            let (name, makes_keys) = (format!("{uid} by {method:?}"), !matches!(method, Method::Md5));
            let ca_file = pki.ca_file();
            let mut laptop = Supplicant::new(method, uid, &password_of(uid), &ca_file).waiting(Duration::from_secs(30));
            laptop.mac = Some(format!("02:00:5e:00:53:{number:02x}"));
            let result = eap(&world.wifi, laptop).await?;
            ensure!(result.success && result.keys_match == makes_keys, "{name}: {}", result.output);
            ensure!(world.board.calls(uid)? == 1, "{name}: {} calls", world.board.calls(uid)?);
            Ok(())
        })
        .buffer_unordered(4)
        .try_collect::<()>();
    let (by_password, by_eap) = tokio::join!(by_password, by_eap);
    by_password.and(by_eap)?;
    let successes = world.successes()? - before;
    ensure!(successes == BY_PASSWORD + BY_EAP, "{successes} successes in the audit");
    let [first, second] = world.homes.each_ref().map(|home| home.seen().map(|seen| seen.len()));
    let (first, second) = (first?, second?);
    // Each round of EAP is a packet.
    ensure!(first >= BY_PASSWORD && second >= 2 * BY_EAP, "the home servers were asked {first} and {second} times");
    for number in 1..=GATEWAYS {
        let gateway = gateway(&world.distributed, number);
        let answered = |tap: &Balancer| tap.replies().iter().filter(|reply| reply.server == gateway).count();
        let counts = (answered(&world.campus), answered(&world.wifi));
        ensure!(counts.0 > 100 && counts.1 > 20, "gateway {number} gave only {counts:?} answers");
    }
    Ok(())
}

async fn a_certificate_in_twenty_pieces_comes_through_whichever_gateway_gets_them(world: &mut Campus) -> Result<()> {
    // R-52 ★: each piece is a packet with the State of the one before
    const PIECE: u16 = 600;
    let (uid, names) = ("emma.irwin", 400);
    let mut names: Vec<_> = (0..names).map(|number| format!("device-{number:03}.people.acme.example")).collect();
    names[0] = uid.into();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let certificate = world.distributed.pki.issue("emma", &names)?;
    let ca_file = world.distributed.pki.ca_file();
    let (before, packets) = (world.board.calls(uid)?, world.wifi.captured().len());
    let mut laptop = Supplicant::new(Method::tls(&certificate), uid, "", &ca_file).waiting(Duration::from_secs(40));
    laptop.fragment_octets = Some(PIECE);
    let result = eap(&world.wifi, laptop.outside("anonymous")).await?;
    ensure!(result.success && result.keys_match, "{}", result.output);
    ensure!(world.board.calls(uid)? == before + 1, "calls");
    let packets = &world.wifi.captured()[packets..];
    let pieces = packets.iter().filter(|it| !it.reply && it.octets.len() > usize::from(PIECE)).count();
    let gateways: BTreeSet<_> = packets.iter().map(|packet| packet.server).collect();
    ensure!(pieces >= 20 && gateways.len() == GATEWAYS, "{pieces} pieces by {} gateways", gateways.len());
    Ok(())
}

async fn a_question_of_a_gateway_that_is_gone_is_answered_at_the_others(world: &mut Campus) -> Result<()> {
    // R-45: what the target granted is known to the others
    let servers: Vec<_> = (1..=GATEWAYS).map(|number| gateway(&world.distributed, number)).collect();
    let device = Device::new(LOCAL, world.campus.address().port(), RADIUS_SECRET)?;
    let login = world.fresh().await?;
    world.campus.set_servers(&servers[2..]);
    let Answer::Challenge(state) = device.login(&login.name, &login.password).await? else { bail!("no challenge") };
    world.distributed.cluster.kill((Part::RadiusGateway, GATEWAYS));
    world.campus.set_servers(&servers[..2]);
    ensure!(device.respond(&login.name, &login.code, &state).await? == Answer::Accept);
    world.distributed.cluster.start_node((Part::RadiusGateway, GATEWAYS))?;
    world.distributed.cluster.wait_ready()?;
    world.campus.set_servers(&servers);
    Ok(())
}

async fn the_second_home_server_takes_over_from_the_first(world: &mut Campus) -> Result<()> {
    // R-80
    let asked = |home: &FreeRadius| Ok::<_, anyhow::Error>(home.seen()?.len());
    let second = asked(&world.homes[1])?;
    world.homes[0].stop();
    let world = &*world;
    stream::iter(0..12)
        .map(
            |number| async move { world.by_password(number % 2 == 0).await.with_context(|| format!("login {number}")) },
        )
        .buffer_unordered(12)
        .try_collect::<()>()
        .await?;
    ensure!(asked(&world.homes[1])? >= second + 12, "the second was not asked");
    Ok(())
}

impl Campus {
    /// Waits until every gateway knows the target.
    async fn in_force(&self) -> Result<()> {
        for number in 1..=GATEWAYS {
            let address = gateway(&self.distributed, number);
            let tap = Balancer::start(Some(WIFI), &[address]).await?;
            let device = Device::new(LOCAL, tap.address().port(), RADIUS_SECRET)?;
            // A client that is not known yet gets no answer.
            let answer = device.status().await?.answer(10).await?;
            ensure!(answer == Answer::Accept, "gateway {number}: {answer:?}");
        }
        Ok(())
    }

    /// Somebody logs in, with the code behind the password or as an answer.
    async fn by_password(&self, appended: bool) -> Result<()> {
        let login = self.fresh().await?;
        let device = Device::new(LOCAL, self.campus.address().port(), RADIUS_SECRET)?;
        let answer = if appended {
            device.login(&login.name, &format!("{},{}", login.password, login.code)).await?
        } else {
            let asked = device.login(&login.name, &login.password).await?;
            let Answer::Challenge(state) = asked else { bail!("{asked:?} instead of a challenge for {}", login.name) };
            device.respond(&login.name, &login.code, &state).await?
        };
        ensure!(answer == Answer::Accept, "{answer:?} for {}, appended: {appended}", login.name);
        Ok(())
    }

    async fn fresh(&self) -> Result<bench::people::Login> {
        tokio::time::timeout(Duration::from_secs(40), async {
            loop {
                match self.people.login() {
                    Some(login) => return login,
                    None => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        })
        .await
        .context("nobody has a fresh code")
    }

    fn successes(&self) -> Result<usize> {
        let statement = "select count(*) from audit where reason in ('valid_code', 'call_confirmed')";
        Ok(self.distributed.cluster.postgres.sql("twinlock", statement)?.parse()?)
    }
}

fn gateway(distributed: &Distributed, number: usize) -> SocketAddr {
    SocketAddr::new(LOCAL, distributed.cluster.radius_port(number))
}
