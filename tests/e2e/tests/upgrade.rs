//! T-11: gateways and verification of two builds side by side on one store and one bus, exchanged one by one while people are asked. What
//! one of them has begun, the other goes on with, forwards and back.
//!
//! `TWINLOCK_TEST_OTHER_BUILD` is the folder with the programs of the other build (`make test-upgrade BUILD=v1.0` makes one). Without
//! it the other one is this one: then conversations are handed over, and forms are not compared. Those are kept by tests beside them.

use anyhow::{Context, Result, bail, ensure};
use bench::people::People;
use e2e::{Answer, Device, Distributed, Habit, Outside, Switchboard, last_attempt, story};
use lab::{
    Node, Part, RADIUS_SECRET,
    freeradius::{FreeRadius, HomeOptions, HomeUser, Treatment},
    password_of, private_file,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::{Duration, Instant},
};

const OTHER_BUILD: &str = "TWINLOCK_TEST_OTHER_BUILD";
/// Shows questions, and its passwords are checked by the directory.
const VPN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The same; a home server checks them.
const CAMPUS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 31));
/// Waits in silence.
const WIFI: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 32));
/// Of the other build at first, and of this one.
const OTHER: usize = 1;
const THIS: usize = 2;
const PEOPLE: usize = 40;
/// In each direction, so that each verification is asked by each gateway.
const LOGINS: usize = 6;
/// Whom the home server asks a question of its own.
const ASKED_AT_HOME: &str = "noah.lang";

/// Stopped in the order of its fields.
struct World {
    distributed: Distributed,
    board: Switchboard,
    _home: FreeRadius,
    people: People,
    other: Option<PathBuf>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_two_builds_go_on_with_what_the_other_has_begun() -> Result<()> {
    let mut distributed = Distributed::start(PEOPLE, "", "")?;
    let dir = distributed.dir.path();
    let asked = HomeUser::person(ASKED_AT_HOME).treated(Treatment::Challenged("4711".into()));
    let users: Vec<_> = (1..=PEOPLE).map(|number| HomeUser::person(&format!("bulk{number:05}"))).collect();
    let options = HomeOptions { users: [vec![asked], users].concat(), ..Default::default() };
    let home = FreeRadius::home(dir, &distributed.pki, &options)?;
    private_file(&dir.join("home.secret"), home.secret())?;
    let board = Switchboard::start(Outside::start_at(dir).await?);
    let client = |name: &str, from: IpAddr, more: &str| {
        format!(
            "[[client]]\nname = \"{name}\"\nprotocol = \"radius\"\nsources = [\"{from}/32\"]\nsecret = \"file:radius.secret\"\n\
             wait_seconds = 30\n{more}\n"
        )
    };
    let settings = format!(
        "[verification]\ncountry = \"DE\"\n{}\n[[target]]\nname = \"campus\"\nkind = \"radius\"\ndirectory = \"acme\"\n\
         servers = [{{ address = \"127.0.0.1\", secret = \"file:home.secret\", authentication_port = {}, accounting_port = {} }}]\n{}{}",
        board.outside.providers(),
        home.auth_address().port(),
        home.acct_address().port(),
        client("campus", CAMPUS, "target = \"campus\""),
        client("wifi", WIFI, "target = \"acme\"\nchallenge = \"no\""),
    );
    distributed.command_line().apply(dir, &lab::company_settings(&distributed.slapd, &settings)?)?;
    let people = People::new(distributed.enrol_many(PEOPLE).await?);
    let other = std::env::var_os(OTHER_BUILD).map(PathBuf::from);
    for node in [(Part::RadiusGateway, OTHER), (Part::Verification, 1), (Part::Verification, 2)] {
        distributed.cluster.exchange(node, other.as_deref())?;
    }
    distributed.cluster.wait_ready()?;
    let mut world = World { distributed, board, _home: home, people, other };
    world.in_force().await?;
    story!(&mut world;
        a_question_of_one_is_answered_at_the_other,
        a_home_servers_question_and_what_it_granted_are_known_to_the_other,
        an_answer_of_one_is_given_again_by_the_other,
        who_is_called_for_one_is_called_once_and_opens_at_both,
        what_waits_while_all_are_exchanged_is_answered_by_those_that_come,
    )
}

impl World {
    fn port(&self, gateway: usize) -> u16 {
        self.distributed.cluster.radius_port(gateway)
    }

    fn device(&self, from: IpAddr, gateway: usize) -> Result<Device> {
        Device::new(from, self.port(gateway), RADIUS_SECRET)
    }

    /// Waits until both gateways know all clients.
    async fn in_force(&self) -> Result<()> {
        for gateway in [OTHER, THIS] {
            for from in [VPN, CAMPUS, WIFI] {
                // A client that is not known yet gets no answer.
                let answer = self.device(from, gateway)?.status().await?.answer(10).await?;
                ensure!(answer == Answer::Accept, "gateway {gateway}, {from}: {answer:?}");
            }
        }
        Ok(())
    }

    async fn fresh(&self) -> Result<bench::people::Login> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(login) = self.people.login() {
                return Ok(login);
            }
            ensure!(Instant::now() < end, "nobody has a fresh code");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Puts another build in the place of these.
    async fn exchange(&mut self, nodes: &[Node], build: Option<PathBuf>) -> Result<()> {
        for node in nodes {
            self.distributed.cluster.exchange(*node, build.as_deref())?;
        }
        self.distributed.cluster.wait_ready()
    }
}

/// From one to the other, and back.
const WAYS: [[usize; 2]; 2] = [[OTHER, THIS], [THIS, OTHER]];

async fn a_question_of_one_is_answered_at_the_other(world: &mut World) -> Result<()> {
    //
    for [asks, hears] in WAYS {
        for number in 0..LOGINS {
            let (login, device) = (world.fresh().await?, world.device(VPN, asks)?);
            let asked = device.login(&login.name, &login.password).await?;
            let Answer::Challenge(state) = asked else {
                bail!("{asks}, {number}: {asked:?} in the place of a challenge")
            };
            let device = device.at(world.port(hears));
            // A wrong one first: the next question is asked there, and answered where the first was.
            let wrong = device.respond(&login.name, "000000", &state).await?;
            let Answer::Challenge(state) = wrong else { bail!("{hears}, {number}: {wrong:?} after a wrong code") };
            let answer = device.at(world.port(asks)).respond(&login.name, &login.code, &state).await?;
            ensure!(answer == Answer::Accept, "{asks}, {number}: {answer:?}");
        }
    }
    Ok(())
}

async fn a_home_servers_question_and_what_it_granted_are_known_to_the_other(world: &mut World) -> Result<()> {
    //
    world.board.set_habit(Habit::Confirms(Duration::ZERO));
    for [asks, hears] in WAYS {
        let login = world.fresh().await?;
        let device = world.device(CAMPUS, asks)?;
        let asked = device.login(&login.name, &login.password).await?;
        let Answer::Challenge(state) = asked else { bail!("{asks}: {asked:?} in the place of a challenge") };
        let answer = device.at(world.port(hears)).respond(&login.name, &login.code, &state).await?;
        ensure!(answer == Answer::Accept, "{hears}: what was granted at the other: {answer:?}");
        // Its own State, and then a call.
        let asked = device.login(ASKED_AT_HOME, &password_of(ASKED_AT_HOME)).await?;
        let Answer::Challenge(state) = asked else { bail!("{asks}: {asked:?} of the home server") };
        let answer = device.at(world.port(hears)).respond(ASKED_AT_HOME, "4711", &state).await?;
        ensure!(answer == Answer::Accept, "{hears}: the home server's question of the other: {answer:?}");
    }
    Ok(())
}

async fn an_answer_of_one_is_given_again_by_the_other(world: &mut World) -> Result<()> {
    //
    for [first, second] in WAYS {
        let login = world.fresh().await?;
        let appended = format!("{},{}", login.password, login.code);
        let exchange = world.device(VPN, first)?.exchange(&login.name, &appended, None).await?;
        exchange.send().await?;
        let octets = exchange.receive(Duration::from_secs(20)).await?.context("no answer")?;
        ensure!(exchange.read(&octets)? == Answer::Accept);
        let again = exchange.again_at(([127, 0, 0, 1], world.port(second)).into()).await?;
        ensure!(again == octets, "another answer");
    }
    Ok(())
}

async fn who_is_called_for_one_is_called_once_and_opens_at_both(world: &mut World) -> Result<()> {
    // a look-alike at the other gateway waits for the same answer
    world.board.set_habit(Habit::Confirms(Duration::from_secs(4)));
    for ([first, second], uid) in WAYS.into_iter().zip(["ann.archer", "mia.eaton"]) {
        let device = world.device(WIFI, first)?.called_from("02-00-5E-00-53-01");
        let alike = device.at(world.port(second));
        let password = password_of(uid);
        let (one, other) = tokio::join!(device.login(uid, &password), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            alike.login(uid, &password).await
        });
        let (one, other) = (one?, other?);
        ensure!((&one, &other) == (&Answer::Accept, &Answer::Accept), "{first}: {one:?}, {second}: {other:?}");
        ensure!(world.board.calls(uid)? == 1, "{uid} was called {} times", world.board.calls(uid)?);
    }
    Ok(())
}

async fn what_waits_while_all_are_exchanged_is_answered_by_those_that_come(world: &mut World) -> Result<()> {
    // forwards, and back
    world.board.set_habit(Habit::Confirms(Duration::from_secs(15)));
    let nodes = [(Part::RadiusGateway, OTHER), (Part::Verification, 1), (Part::Verification, 2)];
    for (build, uid) in [(None, "olga.turner"), (world.other.clone(), "felix.price")] {
        let login = world.fresh().await?;
        let (device, waits) = (world.device(VPN, OTHER)?, world.device(WIFI, OTHER)?);
        let asked = device.login(&login.name, &login.password).await?;
        let Answer::Challenge(state) = asked else { bail!("{asked:?} in the place of a challenge") };
        // Somebody's phone rings meanwhile, and the device goes on asking.
        let password = password_of(uid);
        let rings = tokio::spawn(async move { waits.login(uid, &password).await });
        let end = Instant::now() + Duration::from_secs(20);
        while world.board.calls(uid)? == 0 {
            ensure!(Instant::now() < end, "{uid} is not called");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        world.exchange(&nodes, build).await?;
        world.in_force().await?;
        let answer = device.respond(&login.name, &login.code, &state).await?;
        ensure!(answer == Answer::Accept, "{answer:?} to the question of before");
        let rung = rings.await??;
        ensure!(rung == Answer::Accept, "{rung:?} for whom the phone rang");
        ensure!(world.board.calls(uid)? == 1, "{uid} was called {} times", world.board.calls(uid)?);
        let (reason, _) = last_attempt(world.distributed.command_line(), uid)?;
        ensure!(reason == "call_confirmed", "{reason}");
    }
    Ok(())
}
