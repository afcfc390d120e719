//! More of what real peers do at a RADIUS target: CHAP, EAP by somebody who has only a code, IPv6 on every side, RD Gateway's requests
//! without credentials, and a target that leads back to us.

use anyhow::{Context, Result, ensure};
use e2e::{Balancer, Habit, OneMachine, Outside, Switchboard, last_attempt, story};
use lab::{
    Pki, RADIUS_SECRET,
    eapol::{Method, Supplicant},
    free_port,
    freeradius::{FreeRadius, HomeOptions, Next, ProxyOptions, ProxySigns, SeenPacket},
    nas::{Nas, Profile, Verdict},
    password_of, private_file, program,
};
use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{Command, Stdio},
    time::Duration,
};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOCAL_6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// Waits for calls.
const WIFI: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 31));
/// Its people have a code and nothing else.
const CODES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 32));
/// Have checked the person themselves: the target of the first is a home server, that of the second leads back to us.
const RD_GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 33));
const RD_LOOP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 34));
/// What the second target sends back comes from here.
const BACK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 37));

/// Asks three times and gives up; asks until it has its answer.
const IMPATIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 35));
const PATIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 36));

const PATIENCE: Duration = Duration::from_secs(20);
/// Known to the home server without any proof.
const UNPROVEN: &str = "olga.turner";

/// Stopped in the order of its fields.
struct World {
    machine: OneMachine,
    board: Switchboard,
    home: FreeRadius,
    /// Sends on by TLS, over IPv6.
    site: FreeRadius,
    /// Sends back to us.
    circle: FreeRadius,
    wifi: Balancer,
    codes: Balancer,
    rd_gateway: Balancer,
    rd_loop: Balancer,
    /// Between the circle and us.
    _back: Balancer,
    impatient: Balancer,
    patient: Balancer,
    /// Where we listen by IPv6.
    six: SocketAddr,
    pki: Pki,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_real_peers_do_at_a_home_server() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("pki"))?;
    let own = pki.issue("twinlock", &["twinlock.acme.example"])?;
    let (four, six) = (SocketAddr::new(LOCAL, free_port()), SocketAddr::new(LOCAL_6, free_port()));
    let radsec = SocketAddr::new(LOCAL_6, free_port());
    let set = [
        format!("radius.listen={four},{six}"),
        format!("radius.radsec_listen={radsec}"),
        format!("radius.radsec_client_ca_file={}", pki.ca_file().display()),
        format!("radius.tls_certificate_file={}", own.certificate.display()),
        format!("radius.tls_key_file={}", own.key.display()),
        "radius.reject_delay_ms=500".to_owned(),
    ];
    let machine = OneMachine::start(0, "", "", &set.each_ref().map(String::as_str))?;
    let lines = format!("\"{UNPROVEN}\" Auth-Type := Accept\n\tClass := \"rd\"\n");
    let home = FreeRadius::home(dir.path(), &pki, &HomeOptions { lines, ..Default::default() })?;
    private_file(&machine.dir.path().join("home.secret"), home.secret())?;
    let mut to_us = ProxyOptions { name: "site".into(), ..ProxyOptions::new(radsec, "") };
    to_us.next = vec![Next { address: radsec, secret: lab::freeradius::RADSEC_SECRET.into(), radsec: true }];
    let site = FreeRadius::proxy(dir.path(), &pki, &to_us)?;
    let seen_as = async |address: IpAddr| Balancer::start(Some(address), &[four]).await;
    let back = seen_as(BACK).await?;
    let mut to_us = ProxyOptions { name: "circle".into(), ..ProxyOptions::new(back.address(), RADIUS_SECRET) };
    to_us.signs = ProxySigns::Always;
    let circle = FreeRadius::proxy(dir.path(), &pki, &to_us)?;
    let board = Switchboard::start(Outside::start(&machine).await?);
    machine.settings(&settings(&board, &home, &circle)).await?;
    board.set_habit(Habit::Confirms(Duration::ZERO));
    let (wifi, codes) = (seen_as(WIFI).await?, seen_as(CODES).await?);
    let (rd_gateway, rd_loop) = (seen_as(RD_GATEWAY).await?, seen_as(RD_LOOP).await?);
    let (impatient, patient) = (seen_as(IMPATIENT).await?, seen_as(PATIENT).await?);
    let mut world = World {
        machine,
        board,
        home,
        site,
        circle,
        wifi,
        codes,
        rd_gateway,
        rd_loop,
        _back: back,
        impatient,
        patient,
        six,
        pki,
    };
    story!(&mut world;
        chap_opens_after_a_call_whether_or_not_the_challenge_stands_in_the_request,
        somebody_with_only_a_code_cannot_log_in_by_what_shows_no_question,
        a_device_and_a_home_server_may_be_reached_by_ipv6,
        radius_by_tls_may_come_by_ipv6,
        a_device_that_has_checked_the_person_itself_asks_without_credentials,
        a_target_that_leads_back_to_us_lets_nobody_in_and_rings_nowhere,
        a_device_that_gives_up_is_warned_about_and_one_whose_people_answer_between_two_copies_is_not,
    )
}

fn settings(board: &Switchboard, home: &FreeRadius, circle: &FreeRadius) -> String {
    let target = |name: &str, address: IpAddr, server: &FreeRadius| {
        format!(
            "\n[[target]]\nname = \"{name}\"\nkind = \"radius\"\ndirectory = \"acme\"\n\n[[target.servers]]\naddress = \"{address}\"\n\
             authentication_port = {}\naccounting_port = {}\nsecret = \"file:home.secret\"\n{}",
            server.auth_address().port(),
            server.acct_address().port(),
            // A proxy passes on what it gets, and 3.2.1 signs nothing by itself.
            if name == "circle" { "message_authenticator = \"no\"\n" } else { "" },
        )
    };
    let client = |name: &str, source: &str, target: &str, more: &str| {
        format!(
            "\n[[client]]\nname = \"{name}\"\nprotocol = \"radius\"\nsources = [\"{source}\"]\ntarget = \"{target}\"\n\
             challenge = \"no\"\nwait_seconds = 20\n{more}\n"
        )
    };
    let by_udp = |name: &str, address: IpAddr, target: &str, more: &str| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        client(name, &format!("{address}/{bits}"), target, &format!("secret = \"file:radius.secret\"\n{more}"))
    };
    let by_tls = "transport = \"tls\"\ncertificates = [\"dns:radius.acme.example\"]";
    [
        "\n[verification]\ncountry = \"DE\"\ncalls_per_hour = 60\n".to_owned(),
        board.outside.providers(),
        target("home", LOCAL, home),
        target("home-six", LOCAL_6, home),
        target("circle", LOCAL, circle),
        by_udp("wifi", WIFI, "home", ""),
        by_udp("codes", CODES, "home", "methods = [\"code\"]\nappended = \"optional\""),
        by_udp("six", LOCAL_6, "home-six", ""),
        client("site", "::1/128", "home", by_tls),
        by_udp("rd-gateway", RD_GATEWAY, "home", "without_credentials = \"pass\""),
        by_udp("rd-loop", RD_LOOP, "circle", "without_credentials = \"pass\""),
        by_udp("impatient", IMPATIENT, "home", ""),
        by_udp("patient", PATIENT, "home", ""),
        // What comes back would be let in if nobody noticed.
        by_udp("back", BACK, "home", "without_credentials = \"pass\""),
    ]
    .concat()
}

async fn chap_opens_after_a_call_whether_or_not_the_challenge_stands_in_the_request(world: &mut World) -> Result<()> {
    // R-26, FR-12: without CHAP-Challenge it is the authenticator, and our own request has another
    const CHALLENGE: &str = "CHAP-Challenge = 0x00112233445566778899aabbccddeeff\n";
    let uid = "ben.hale";
    for challenge in ["", CHALLENGE] {
        let chap = |password: &str| {
            format!("User-Name = \"{uid}\"\nCHAP-Password = \"{password}\"\n{challenge}Message-Authenticator = 0x00\n")
        };
        let before = (world.board.calls(uid)?, world.of(uid)?.len());
        let said = radclient(world.wifi.address(), &chap("Nonsense")).await?;
        ensure!(said.contains("Received Access-Reject"), "{challenge:?}: {said}");
        ensure!(world.board.calls(uid)? == before.0, "{challenge:?}: called after a wrong password");
        let said = radclient(world.wifi.address(), &chap(&password_of(uid))).await?;
        ensure!(said.contains("Received Access-Accept"), "{challenge:?}: {said}");
        ensure!(world.board.calls(uid)? == before.0 + 1, "{challenge:?}: calls");
        ensure!(world.ended(uid)? == "call_confirmed", "{challenge:?}");
        let asked = world.of(uid)?.split_off(before.1);
        ensure!(asked.len() == 2, "{challenge:?}: {asked:?}");
        for packet in asked {
            let sent = packet.first("CHAP-Challenge").context("a request without CHAP-Challenge")?;
            ensure!(challenge.is_empty() || challenge.to_lowercase().contains(&sent.to_lowercase()), "{sent}");
            ensure!(packet.has("CHAP-Password") && !packet.has("User-Password"), "{packet:?}");
        }
    }
    Ok(())
}

async fn somebody_with_only_a_code_cannot_log_in_by_what_shows_no_question(world: &mut World) -> Result<()> {
    // R-49, FR-12: the home server says yes, and nobody can be asked for the code
    let person = world.machine.command_line().enrol("hugo.jones")?;
    let uid = person.uid.as_str();
    for method in [Method::TtlsPap, Method::PeapMschapv2] {
        let (name, granted) = (format!("{method:?}"), world.granted()?);
        let laptop = Supplicant::new(method, uid, &person.password, &world.pki.ca_file()).waiting(PATIENCE);
        let server = world.codes.address();
        let result =
            tokio::task::spawn_blocking(move || laptop.outside("anonymous").log_in(server, RADIUS_SECRET)).await??;
        ensure!(!result.success && !result.eap_success_seen && result.eap_failure_seen, "{name}: {}", result.output);
        ensure!(world.granted()? == granted + 1, "{name}: the home server said no");
        ensure!(world.ended(uid)? == "method_impossible", "{name}: {}", world.ended(uid)?);
    }
    let chap =
        format!("User-Name = \"{uid}\"\nCHAP-Password = \"{}\"\nMessage-Authenticator = 0x00\n", person.password);
    let said = radclient(world.codes.address(), &chap).await?;
    ensure!(said.contains("Received Access-Reject"), "{said}");
    ensure!(world.ended(uid)? == "method_impossible", "CHAP: {}", world.ended(uid)?);
    Ok(())
}

async fn a_device_and_a_home_server_may_be_reached_by_ipv6(world: &mut World) -> Result<()> {
    // FR-02, FR-03, FR-09, R-33
    let uid = "mia.eaton";
    let pap = |password: &str| {
        format!("User-Name = \"{uid}\"\nUser-Password = \"{password}\"\nMessage-Authenticator = 0x00\n")
    };
    let said = radclient(world.six, &pap(&password_of(uid))).await?;
    ensure!(said.contains("Received Access-Accept") && said.contains(&format!("from {}", world.six)), "{said}");
    ensure!(radclient(world.six, &pap("Nonsense")).await?.contains("Received Access-Reject"));
    ensure!(world.board.calls(uid)? == 1 && world.ended(uid)? == "bad_password", "{}", world.ended(uid)?);
    let asked = world.of(uid)?;
    ensure!(
        asked.len() == 2 && asked.iter().all(|packet| packet.source.ip() == LOCAL_6 && packet.signed()),
        "{asked:?}"
    );
    Ok(())
}

async fn radius_by_tls_may_come_by_ipv6(world: &mut World) -> Result<()> {
    // R-90
    let uid = "noah.lang";
    let device = Nas::new(Profile::fortigate(), &[world.site.auth_address()], world.site.secret())?;
    let outcome = device.login(uid, &password_of(uid), &[]).await?;
    let logs = || format!("{}\n{}", world.site.log(), world.machine.twinlock.log());
    ensure!(outcome.verdict == Verdict::Accept, "{:?}\n{}", outcome.verdict, logs());
    ensure!(world.board.calls(uid)? == 1, "calls");
    let event = world.machine.command_line().audit()?.into_iter().rfind(|event| event["client"] == "site");
    let event = event.context("no event of the site")?;
    ensure!(event["client_ip"] == LOCAL_6.to_string(), "{event}");
    Ok(())
}

async fn a_device_that_has_checked_the_person_itself_asks_without_credentials(world: &mut World) -> Result<()> {
    // FR-21, R-20: the home server knows by itself whom it lets in so
    let said = radclient(world.rd_gateway.address(), &without_credentials(UNPROVEN)).await?;
    ensure!(said.contains("Received Access-Accept") && said.contains("Class = 0x7264"), "{said}");
    ensure!(world.board.calls(UNPROVEN)? == 1 && world.ended(UNPROVEN)? == "call_confirmed");
    let asked = world.of(UNPROVEN)?;
    ensure!(asked.len() == 1 && !asked[0].has("User-Password"), "{asked:?}");
    // Whom it does not know without a password is not asked on the phone; nor may any other client ask so.
    let said = radclient(world.rd_gateway.address(), &without_credentials("paul.fisher")).await?;
    ensure!(said.contains("Received Access-Reject") && world.board.calls("paul.fisher")? == 0, "{said}");
    let said = radclient(world.wifi.address(), &without_credentials(UNPROVEN)).await?;
    ensure!(said.contains("Received Access-Reject") && world.of(UNPROVEN)?.len() == 1, "{said}");
    Ok(())
}

async fn a_target_that_leads_back_to_us_lets_nobody_in_and_rings_nowhere(world: &mut World) -> Result<()> {
    // B-33, FR-21
    let before = (world.board.all_calls(), world.home.seen()?.len());
    let pap = format!(
        "User-Name = \"{UNPROVEN}\"\nUser-Password = \"{}\"\nMessage-Authenticator = 0x00\n",
        password_of(UNPROVEN)
    );
    for (round, request) in [without_credentials(UNPROVEN), pap].into_iter().enumerate() {
        let said = radclient(world.rd_loop.address(), &request).await?;
        ensure!(said.contains("Received Access-Reject"), "{said}");
        let round_trips = world.circle.seen()?.len();
        ensure!(round_trips == round + 1, "it went round {round_trips} times");
    }
    let after = (world.board.all_calls(), world.home.seen()?.len());
    ensure!(after == before, "calls and requests at the home server: {before:?}, then {after:?}");
    ensure!(world.machine.twinlock.log().contains("the target leads to Twinlock again"), "nobody is told");
    Ok(())
}

async fn a_device_that_gives_up_is_warned_about_and_one_whose_people_answer_between_two_copies_is_not(
    world: &mut World,
) -> Result<()> {
    // R-37, T-07: both people pick up the phone after 9 s
    let uids = ["rosa.vance", "sam.grant"];
    for uid in uids {
        world.board.set_habit_of(uid, Habit::Confirms(Duration::from_secs(9)))?;
    }
    let steady = Profile { copies: 20, interval: Duration::from_secs(2), ..Profile::fortigate() };
    let impatient = Nas::new(Profile::fortigate().times_faster(5), &[world.impatient.address()], RADIUS_SECRET)?;
    let patient = Nas::new(steady, &[world.patient.address()], RADIUS_SECRET)?;
    let passwords = uids.map(password_of);
    let (gave_up, let_in) =
        tokio::join!(impatient.login(uids[0], &passwords[0], &[]), patient.login(uids[1], &passwords[1], &[]));
    let (gave_up, let_in) = (gave_up?.verdict, let_in?.verdict);
    ensure!((&gave_up, &let_in) == (&Verdict::Timeout, &Verdict::Accept), "{gave_up:?}, {let_in:?}");
    // It is told every half minute, and the phone of the first rings on.
    let begun = std::time::Instant::now();
    let shown = |client: &str| world.machine.command_line().json(&["client", "show", client]);
    let warns = |shown: &serde_json::Value| shown["warnings"].to_string().contains("gives up after");
    while !warns(&shown("impatient")?) {
        ensure!(begun.elapsed() < Duration::from_secs(90), "{}", shown("impatient")?);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let patient = shown("patient")?;
    let report = &patient["reports"][0];
    ensure!(!warns(&patient) && report["waits_ms"].is_null(), "{patient}");
    ensure!(report["retry_interval_ms"].as_u64().is_some_and(|gap| (1_500..3_000).contains(&gap)), "{patient}");
    Ok(())
}

fn without_credentials(uid: &str) -> String {
    format!("User-Name = \"{uid}\"\nMessage-Authenticator = 0x00\n")
}

impl World {
    /// What the home server was asked about somebody.
    fn of(&self, uid: &str) -> Result<Vec<SeenPacket>> {
        Ok(self.home.seen()?.into_iter().filter(|packet| packet.first("User-Name") == Some(uid)).collect())
    }

    /// Why the last attempt of somebody ended.
    fn ended(&self, uid: &str) -> Result<String> {
        Ok(last_attempt(self.machine.command_line(), uid)?.0)
    }

    /// How often the home server said yes.
    fn granted(&self) -> Result<usize> {
        Ok(self.home.answered()?.iter().filter(|packet| packet.code == "Access-Accept").count())
    }
}

/// What radclient prints about a login.
async fn radclient(server: SocketAddr, attributes: &str) -> Result<String> {
    let attributes = attributes.to_owned();
    let run = move || {
        let mut child = Command::new(program("radclient")?)
            .args(["-x", "-r", "1", "-t", &PATIENCE.as_secs().to_string()])
            .args(if server.is_ipv6() { &["-6"][..] } else { &[] })
            .args([&server.to_string(), "auth", RADIUS_SECRET])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("radclient's input")?.write_all(attributes.as_bytes())?;
        Ok(String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned())
    };
    tokio::task::spawn_blocking(run).await?
}
