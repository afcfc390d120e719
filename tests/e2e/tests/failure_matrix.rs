//! V-42: what RADIUS, LDAP and the portal answer when something behind them is broken, for clients that refuse and clients that let
//! people in (V-40). Each cell is printed, and each is answered within the client's wait. What verification itself can do wrong
//! stands in the gateways' own tests. Takes root, for a disk that is full.

use anyhow::{Context, Result, ensure};
use bench::people::{Login, People};
use e2e::{Answer, Application, Device, Distributed, Visitor, code_of, say, story};
use futures::future::try_join_all;
use lab::{Part, RADIUS_SECRET, SmallDisk, WallClock, wait_until};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

const RADIUS_REFUSES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 21, 0, 1));
const RADIUS_PASSES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 21, 0, 2));
const LDAP_REFUSES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 22, 0, 1));
const LDAP_PASSES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 22, 0, 2));

/// `wait_seconds` of every client, and what the way there and back may take.
const WAIT: Duration = Duration::from_secs(10 + 3);
/// When everything works again.
const RESUMED: Duration = Duration::from_secs(60);
/// With the service off for so long, clients that pass let people in (V-40: thirty seconds, and some of seeing it).
const SURELY_OFF: Duration = Duration::from_secs(45);
const PEOPLE: usize = 80;
/// Of the database: its files, and its write-ahead log before it is reused.
const DISK_MIB: u32 = 400;

fn settings() -> String {
    let client = |name: &str, protocol: &str, source: IpAddr, more: &str| {
        format!(
            "\n[[client]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\nsources = [\"{source}/32\"]\ntarget = \"acme\"\n\
             appended = \"required\"\nwait_seconds = 10\n{more}\n"
        )
    };
    let (radius, ldap) = ("secret = \"file:radius.secret\"", "tls = \"danger_optional\"");
    let passes = "when_unavailable = \"pass\"";
    client("radius-refuses", "radius", RADIUS_REFUSES, radius)
        + &client("radius-passes", "radius", RADIUS_PASSES, &format!("{radius}\n{passes}"))
        + &client("ldap-refuses", "ldap", LDAP_REFUSES, ldap)
        + &client("ldap-passes", "ldap", LDAP_PASSES, &format!("{ldap}\n{passes}"))
}

struct World {
    distributed: Distributed,
    people: People,
    /// Of the database, and of the spools of the gateways that are asked.
    disk: SmallDisk,
    /// Of everything that decides.
    clock: WallClock,
    /// Who was let in with a wrong code: on the password alone.
    passes: Vec<LetIn>,
    /// Of whom there may be an event: let in with a code where the password alone may have been enough, or given up by the gateway while
    /// the store could still write it.
    either: Vec<LetIn>,
    /// Who came with a wrong code where the client passes, from the last fault on.
    tried: Vec<LetIn>,
}

/// A person and a client.
type LetIn = (String, &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Radius,
    Ldap,
    Portal,
}

impl Way {
    fn client_that_passes(self, mode: Mode) -> Option<&'static str> {
        match self {
            Self::Radius => Some("radius-passes"),
            Self::Ldap => Some("ldap-passes"),
            Self::Portal => None,
        }
        .filter(|_| mode == Mode::Pass)
    }
}

/// Of the clients of a way, those that refuse; the portal has no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Refuse,
    Pass,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_nobody_comes_in_who_is_not_meant_to() -> Result<()> {
    let mut distributed = Distributed::start(PEOPLE, &settings(), "")?;
    let people = People::new(distributed.enrol_many(PEOPLE).await?);
    let disk = SmallDisk::mount(&distributed.cluster.dir().join("disk"), DISK_MIB)?;
    distributed.cluster.postgres.move_to(disk.dir())?;
    give_gateways_a_spool(&mut distributed, disk.dir())?;
    let clock = WallClock::new(distributed.cluster.dir())?;
    distributed.cluster.set_environment(Part::Verification, clock.environment());
    distributed.cluster.restart_part(Part::Verification)?;
    distributed.cluster.wait_ready()?;
    let mut world =
        World { distributed, people, disk, clock, passes: Vec::new(), either: Vec::new(), tried: Vec::new() };
    story!(&mut world;
        everybody_comes_in_with_a_code_and_nobody_without_while_all_is_well,
        without_the_bus_codes_still_count,
        with_a_bus_that_does_not_answer_codes_still_count,
        a_database_that_is_away_for_a_moment_lets_nobody_in,
        a_store_without_its_master_key_lets_nobody_in,
        a_clock_that_jumps_lets_nobody_in,
        a_disk_that_is_full_lets_nobody_in,
        without_verification_the_clients_that_pass_let_people_in_after_thirty_seconds,
        without_the_store_the_events_wait_on_the_disk_through_a_kill,
        everybody_let_in_on_the_password_alone_stands_in_the_audit_once,
    )
}

/// The configurations are the lab's; a spool is the wish of this story.
fn give_gateways_a_spool(distributed: &mut Distributed, disk: &Path) -> Result<()> {
    for part in [Part::RadiusGateway, Part::LdapGateway] {
        for number in [1, 2] {
            let own = spool(disk, number);
            fs::create_dir_all(&own)?;
            let file = distributed.cluster.dir().join(format!("{}-{number}.toml", part.name()));
            let section = if part == Part::RadiusGateway { "[radius]\n" } else { "[ldap]\n" };
            let text = fs::read_to_string(&file)?;
            ensure!(text.contains(section), "{} has no {section}", file.display());
            fs::write(&file, text.replacen(section, &format!("{section}spool_dir = \"{}\"\n", own.display()), 1))?;
            distributed.cluster.kill((part, number));
            distributed.cluster.start_node((part, number))?;
        }
    }
    distributed.cluster.wait_ready()
}

fn spool(disk: &Path, number: usize) -> PathBuf {
    disk.join("spool").join(number.to_string())
}

async fn everybody_comes_in_with_a_code_and_nobody_without_while_all_is_well(world: &mut World) -> Result<()> {
    world.resumed("at the start").await?;
    world.row("all is well, wrong code", true, |_, _| false).await
}

async fn without_the_bus_codes_still_count(world: &mut World) -> Result<()> {
    // The portal asks in a second round, whose challenge lives on one node then: another one does not know it.
    world.distributed.cluster.nats.stop();
    world.row_of("bus down", false, &[Way::Radius, Way::Ldap], |_, _| true).await?;
    world.distributed.cluster.nats.restart()?;
    world.resumed("after the bus").await
}

async fn with_a_bus_that_does_not_answer_codes_still_count(world: &mut World) -> Result<()> {
    let signal = |world: &mut World, signal: &str| {
        let process = world.distributed.cluster.nats.process_mut().context("the bus runs")?;
        process.signal(signal);
        Ok::<_, anyhow::Error>(())
    };
    signal(world, "STOP")?;
    let row = world.row_of("bus partition", false, &[Way::Radius, Way::Ldap], |_, _| true).await;
    signal(world, "CONT")?;
    row?;
    world.resumed("after the partition").await
}

async fn a_database_that_is_away_for_a_moment_lets_nobody_in(world: &mut World) -> Result<()> {
    // As during a fail-over
    world.distributed.cluster.postgres.stop();
    let row = world.row("database fail-over", false, |_, _| false).await;
    world.distributed.cluster.postgres.restart()?;
    row?;
    world.resumed("after the database").await
}

async fn a_store_without_its_master_key_lets_nobody_in(world: &mut World) -> Result<()> {
    let key = world.distributed.cluster.dir().join("master.key");
    let aside = key.with_extension("aside");
    fs::rename(&key, &aside).with_context(|| key.display().to_string())?;
    world.distributed.cluster.restart_part(Part::UserStore)?;
    let row = world.row("master key missing", false, |_, _| false).await;
    // Whatever a store without a key wrote in its place is none.
    fs::rename(&aside, &key)?;
    world.distributed.cluster.restart_part(Part::UserStore)?;
    world.distributed.cluster.wait_ready()?;
    row?;
    world.resumed("after the key").await
}

async fn a_clock_that_jumps_lets_nobody_in(world: &mut World) -> Result<()> {
    // V-41, V-43: also not those who pass, however long it takes.
    for (offset, fault) in [(90, "clock 90 s fast"), (-90, "clock 90 s slow"), (-3600, "clock back by an hour")] {
        world.clock.set(offset)?;
        world.row(fault, false, |_, _| false).await?;
    }
    let nobody = world.nobody_passes("clock wrong for long").await;
    world.clock.set(0)?;
    nobody?;
    world.resumed("after the clock").await
}

async fn a_disk_that_is_full_lets_nobody_in(world: &mut World) -> Result<()> {
    // V-62; V-40: nowhere to write is no pass, however long it takes.
    world.disk.fill()?;
    world.distributed.cluster.postgres.fill_log();
    world.disk.fill()?;
    world.tried.clear();
    let row = world.row("disk full", true, |_, _| false).await;
    let nobody = world.nobody_passes("disk full for long").await;
    // A database may commit what it was told before, once it has room and long after the gateway gave up: an event too many, never one
    // too few (V-40).
    world.either.append(&mut world.tried);
    world.disk.free()?;
    world.distributed.cluster.postgres.restart()?;
    row.and(nobody)?;
    world.resumed("after the disk").await
}

async fn without_verification_the_clients_that_pass_let_people_in_after_thirty_seconds(
    world: &mut World,
) -> Result<()> {
    // V-40
    let gone = Instant::now();
    for number in 1..=Part::Verification.count() {
        world.distributed.cluster.kill((Part::Verification, number));
    }
    world.row("verification down, at first", true, |_, _| false).await?;
    world.passes_begin(gone).await?;
    world.row("verification down", true, |_, mode| mode == Mode::Pass).await?;
    for number in 1..=Part::Verification.count() {
        world.distributed.cluster.start_node((Part::Verification, number))?;
    }
    world.distributed.cluster.wait_ready()?;
    world.resumed("after verification").await?;
    world.row("verification is back, wrong code", true, |_, _| false).await
}

async fn without_the_store_the_events_wait_on_the_disk_through_a_kill(world: &mut World) -> Result<()> {
    // V-40: kill -9 between the spool and the store
    let gone = Instant::now();
    for number in [1, 2] {
        world.distributed.cluster.kill((Part::UserStore, number));
    }
    world.row("user-store down, at first", true, |_, _| false).await?;
    world.passes_begin(gone).await?;
    world.row("user-store down", true, |_, mode| mode == Mode::Pass).await?;
    for part in [Part::RadiusGateway, Part::LdapGateway] {
        world.distributed.cluster.kill((part, 1));
        let file = spool(world.disk.dir(), 1).join(format!("fail-open.{}.jsonl", part.name()));
        let lines = fs::read_to_string(&file).with_context(|| file.display().to_string())?.lines().count();
        ensure!(lines > 0, "{} is empty", file.display());
    }
    for node in [(Part::UserStore, 1), (Part::UserStore, 2), (Part::RadiusGateway, 1), (Part::LdapGateway, 1)] {
        world.distributed.cluster.start_node(node)?;
    }
    world.distributed.cluster.wait_ready()?;
    world.resumed("after the store").await
}

async fn everybody_let_in_on_the_password_alone_stands_in_the_audit_once(world: &mut World) -> Result<()> {
    // V-61
    let events = |world: &World| -> Result<Vec<String>> {
        let sql = "select username || ' ' || client from audit where reason = 'fail_open' and source = 'fail_open' and \
                   result = 'bypass' order by sequence";
        Ok(world
            .distributed
            .cluster
            .postgres
            .sql("twinlock", sql)?
            .lines()
            .map(|line| line.trim().to_owned())
            .collect())
    };
    let times = |those: &[LetIn], event: &str| {
        those.iter().filter(|(name, client)| event == format!("{name} {client}")).count()
    };
    let expected = &world.passes;
    ensure!(expected.len() >= 8, "only {} were let in", expected.len());
    let told = |event: &str, events: &[String]| events.iter().filter(|other| *other == event).count();
    let all = |world: &World| -> Result<bool> {
        let events = events(world)?;
        Ok(expected
            .iter()
            .map(|(name, client)| format!("{name} {client}"))
            .all(|it| told(&it, &events) >= times(expected, &it)))
    };
    wait_until("all events", Duration::from_secs(30), || all(world).unwrap_or_default())
        .with_context(|| format!("{:?} of {expected:?}", events(world)))?;
    let events = events(world)?;
    for event in &events {
        let (told, most) = (told(event, &events), times(expected, event) + times(&world.either, event));
        ensure!(told <= most, "{event}: {told} events of {most}: {events:?}");
    }
    world.distributed.command_line().run(&["audit", "verify"])?;
    Ok(())
}

impl World {
    /// One fault, all ways and modes; `comes_in` says what is expected.
    async fn row(&mut self, fault: &str, wrong_code: bool, comes_in: impl Fn(Way, Mode) -> bool) -> Result<()> {
        self.row_of(fault, wrong_code, &[Way::Radius, Way::Ldap, Way::Portal], comes_in).await
    }

    async fn row_of(
        &mut self,
        fault: &str,
        wrong_code: bool,
        ways: &[Way],
        comes_in: impl Fn(Way, Mode) -> bool,
    ) -> Result<()> {
        let modes = [Mode::Refuse, Mode::Pass];
        let cells = ways.iter().flat_map(|way| modes.map(|mode| (*way, mode)));
        let cells = cells.filter(|cell| *cell != (Way::Portal, Mode::Pass));
        let world = &*self;
        let answers = cells.map(|(way, mode)| async move {
            let mut login = world.fresh().await?;
            if wrong_code {
                login.code = other_digits(&login.code);
            }
            let begun = Instant::now();
            let came_in = timeout(WAIT, world.log_in(way, mode, &login)).await;
            Ok::<_, anyhow::Error>((way, mode, login.name, came_in, begun.elapsed().as_secs_f32()))
        });
        let mut wrong = Vec::new();
        for (way, mode, name, came_in, took) in try_join_all(answers).await? {
            let cell = format!("{fault} x {mode:?} x {way:?}: {came_in:?} after {took:.1} s");
            say(&format!("     {cell}"));
            let passes = way.client_that_passes(mode).map(|client| (name, client));
            match (came_in == Ok(true), wrong_code) {
                (true, true) => self.passes.extend(passes),
                (true, false) => self.either.extend(passes),
                (false, true) => self.tried.extend(passes),
                (false, false) => {}
            }
            if came_in != Ok(comes_in(way, mode)) {
                wrong.push(cell);
            }
        }
        ensure!(wrong.is_empty(), "{wrong:?}");
        Ok(())
    }

    /// Nobody is let in for thirty seconds; then, soon, those are who may be.
    async fn passes_begin(&mut self, gone: Instant) -> Result<()> {
        for way in [Way::Radius, Way::Ldap] {
            loop {
                let mut login = self.fresh().await?;
                login.code = other_digits(&login.code);
                if self.log_in(way, Mode::Pass, &login).await {
                    self.passes.extend(way.client_that_passes(Mode::Pass).map(|client| (login.name, client)));
                    break;
                }
                ensure!(gone.elapsed() < Duration::from_secs(75), "{way:?} lets nobody in");
                sleep(Duration::from_millis(500)).await;
            }
            let after = gone.elapsed();
            ensure!(after >= Duration::from_secs(29), "{way:?} lets people in after {after:?}");
            say(&format!("     {way:?} lets people in after {:.1} s", after.as_secs_f32()));
        }
        Ok(())
    }

    /// However often and long it is tried where the clients pass.
    async fn nobody_passes(&mut self, fault: &str) -> Result<()> {
        let (begun, mut tried) = (Instant::now(), 0);
        while begun.elapsed() < SURELY_OFF {
            // Side by side: where the answer is a time-out, too few would follow each other.
            let ways = [Way::Radius, Way::Ldap].repeat(3);
            let world = &*self;
            let tries = ways.into_iter().map(|way| async move {
                let mut login = world.fresh().await?;
                login.code = other_digits(&login.code);
                let came_in = timeout(WAIT, world.log_in(way, Mode::Pass, &login)).await;
                Ok::<_, anyhow::Error>((way, login.name, came_in))
            });
            for (way, name, came_in) in try_join_all(tries).await? {
                ensure!(came_in == Ok(false), "{fault}: {way:?}: {came_in:?} after {:?}", begun.elapsed());
                self.tried.extend(way.client_that_passes(Mode::Pass).map(|client| (name, client)));
                tried += 1;
            }
            sleep(Duration::from_millis(1_000)).await;
        }
        // Fewer in a row do not make a service count as away (V-40).
        ensure!(tried >= 30, "{fault}: tried only {tried} times");
        say(&format!("     {fault}: nobody was let in by RADIUS and LDAP, tried {tried} times"));
        Ok(())
    }

    /// Waits until everybody comes in everywhere with a code.
    async fn resumed(&mut self, when: &str) -> Result<()> {
        let begun = Instant::now();
        for (way, mode) in [
            (Way::Radius, Mode::Refuse),
            (Way::Radius, Mode::Pass),
            (Way::Ldap, Mode::Refuse),
            (Way::Ldap, Mode::Pass),
            (Way::Portal, Mode::Refuse),
        ] {
            loop {
                let login = self.fresh().await?;
                if self.log_in(way, mode, &login).await {
                    self.either.extend(way.client_that_passes(mode).map(|client| (login.name, client)));
                    break;
                }
                ensure!(begun.elapsed() < RESUMED, "{when}: {way:?} of {mode:?} lets nobody in");
                sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }

    async fn log_in(&self, way: Way, mode: Mode, login: &Login) -> bool {
        let password = format!("{},{}", login.password, login.code);
        let cluster = &self.distributed.cluster;
        let came_in = async {
            Ok::<_, anyhow::Error>(match way {
                Way::Radius => {
                    let from = if mode == Mode::Pass { RADIUS_PASSES } else { RADIUS_REFUSES };
                    let device = Device::new(from, cluster.radius_port(1), RADIUS_SECRET)?;
                    device.login(&login.name, &password).await? == Answer::Accept
                }
                Way::Ldap => {
                    let from = if mode == Mode::Pass { LDAP_PASSES } else { LDAP_REFUSES };
                    let mut application = Application::connect(&cluster.ldap_url(1), from).await?;
                    code_of(&application.bind(1, &login.name, &password).await?)? == 0
                }
                Way::Portal => {
                    let authority = self.distributed.pki.ca_file();
                    let mut visitor = Visitor::arrive(&cluster.portal_url(1), &authority).await?;
                    visitor.submit("/sign-in", &[("name", &login.name), ("password", &login.password)]).await?;
                    visitor.submit("/code", &[("code", &login.code)]).await?;
                    visitor.html.contains("class=\"who-name\"")
                }
            })
        };
        came_in.await.unwrap_or(false)
    }

    async fn fresh(&self) -> Result<Login> {
        let login = async {
            loop {
                match self.people.login() {
                    Some(login) => return login,
                    None => sleep(Duration::from_millis(100)).await,
                }
            }
        };
        timeout(Duration::from_secs(40), login).await.context("nobody has a fresh code")
    }
}

/// Six digits that are another code than this one.
fn other_digits(code: &str) -> String {
    code.chars().map(|digit| if digit == '9' { '0' } else { char::from(digit as u8 + 1) }).collect()
}
