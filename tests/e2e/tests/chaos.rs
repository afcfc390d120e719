//! Parts are killed and what they lean on is stopped, while people log in all the time. Each login leaves a mark of its
//! own in the audit: a calling station by RADIUS, a source address by LDAP. Some never may come in, and never stop trying.

use anyhow::{Context, Result, bail, ensure};
use bench::people::{Login, People};
use e2e::{Answer, Application, Device, Distributed, code_of, say, story};
use lab::{Part, Person, RADIUS_SECRET, program, run, wait_until};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

const VPN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const SETTINGS: &str = r#"
[[client]]
name = "hosts"
protocol = "ldap"
sources = ["127.16.0.0/12"]
target = "acme"
appended = "required"
tls = "danger_optional"
"#;

const PEOPLE: usize = 300;
const WORKERS: usize = 4;
/// Everything works again by then.
const RESUMED: Duration = Duration::from_secs(60);
/// When enough of the crowd have tried, though each try may end in a time-out.
const SEEN: Duration = Duration::from_secs(120);

struct World {
    distributed: Distributed,
    crowd: Arc<Crowd>,
    tasks: JoinSet<()>,
}

/// Those who log in, and what became of it.
struct Crowd {
    people: People,
    radius_ports: [u16; 2],
    ldap_urls: [String; 2],
    next: AtomicU32,
    stop: AtomicBool,
    attempts: Mutex<Vec<Attempt>>,
    /// What happened that never may.
    wrong: Mutex<Vec<String>>,
    /// How often those who may not come in were told so.
    canaries_refused: AtomicU32,
}

#[derive(Debug, Clone)]
struct Attempt {
    /// As it stands in the audit.
    mark: String,
    begin: Instant,
    end: Instant,
    result: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    In,
    Refused,
    /// No answer, a broken connection, or the word that nobody can tell now.
    Unavailable,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_die_and_nobody_comes_in_who_may_not() -> Result<()> {
    let distributed = Distributed::start(PEOPLE, SETTINGS, "")?;
    let people = People::new(distributed.enrol_many(PEOPLE).await?);
    let cluster = &distributed.cluster;
    let crowd = Arc::new(Crowd {
        people,
        radius_ports: [cluster.radius_port(1), cluster.radius_port(2)],
        ldap_urls: [cluster.ldap_url(1), cluster.ldap_url(2)],
        next: AtomicU32::new(0),
        stop: AtomicBool::new(false),
        attempts: Mutex::default(),
        wrong: Mutex::default(),
        canaries_refused: AtomicU32::new(0),
    });
    let mut tasks = JoinSet::new();
    for canary in canaries(&distributed)? {
        tasks.spawn(try_forever(crowd.clone(), canary));
    }
    for _ in 0..WORKERS {
        tasks.spawn(log_in_forever(crowd.clone()));
    }
    let mut world = World { distributed, crowd, tasks };
    story!(&mut world;
        keys_are_rotated_and_no_login_fails,
        any_part_may_be_killed_while_people_log_in,
        a_question_outlives_the_gateway_that_asked_it,
        the_leader_of_the_synchronisation_moves_within_15_s,
        without_the_directory_nobody_comes_in_until_it_is_back,
        without_the_bus_a_login_in_one_request_still_works,
        without_the_database_nobody_comes_in_until_it_is_back,
        the_key_from_before_the_rotation_is_gone,
        who_may_not_come_in_never_did,
        everybody_let_in_stands_in_the_audit_once,
    )
}

async fn keys_are_rotated_and_no_login_fails(world: &mut World) -> Result<()> {
    // V-30: those of the store with every seed, and those of every ring.
    world.serves_everywhere("at the start").await?;
    world.some_come_in(Instant::now(), 10).await?;
    let (old, fields) = current_key(world)?;
    ensure!(fields >= PEOPLE as u64, "the key {old} seals only {fields} fields");
    // The key of the first start is young: not before every node is sure to have it is there another.
    let line = world.distributed.command_line().clone();
    let begin = Instant::now();
    wait_until("a rotation", Duration::from_secs(120), || line.run(&["key", "rotate"]).is_ok())?;
    let sealed_anew = || keys(world).is_ok_and(|keys| keys.iter().all(|key| key.id != old || key.fields == 0));
    wait_until("every field to be sealed anew", Duration::from_secs(90), sealed_anew)?;
    let (new, moved) = current_key(world)?;
    ensure!(new != old && moved >= fields, "{moved} of {fields} fields went from {old} to {new}");
    world.some_come_in(Instant::now(), 20).await?;
    let attempts = world.crowd.attempts();
    let failed: Vec<_> = attempts.iter().filter(|login| login.begin >= begin && login.result != Outcome::In).collect();
    ensure!(failed.is_empty(), "{failed:?}");
    say(&format!("     {fields} fields in {:.1} s", begin.elapsed().as_secs_f32()));
    Ok(())
}

async fn the_key_from_before_the_rotation_is_gone(world: &mut World) -> Result<()> {
    wait_until("one key alone", Duration::from_secs(150), || keys(world).is_ok_and(|keys| keys.len() == 1))?;
    world.serves_everywhere("with the new key alone").await
}

/// Of those that seal secrets in the store.
struct Key {
    id: u64,
    current: bool,
    fields: u64,
}

fn keys(world: &World) -> Result<Vec<Key>> {
    let listed = world.distributed.command_line().json(&["key", "status"])?;
    let key = |key: &serde_json::Value| {
        let (id, current, fields) = (key["key"].as_u64()?, key["current"].as_bool()?, key["fields"].as_u64()?);
        Some(Key { id, current, fields })
    };
    let keys = listed["items"].as_array().and_then(|keys| keys.iter().map(key).collect());
    keys.with_context(|| listed.to_string())
}

/// Its id, and how many fields it seals.
fn current_key(world: &World) -> Result<(u64, u64)> {
    let current = keys(world)?.into_iter().find(|key| key.current).context("no key is the current one")?;
    Ok((current.id, current.fields))
}

async fn any_part_may_be_killed_while_people_log_in(world: &mut World) -> Result<()> {
    world.serves_everywhere("at the start").await?;
    let parts = [
        (Part::RadiusGateway, 1),
        (Part::LdapGateway, 2),
        (Part::Verification, 1),
        (Part::Verification, 2),
        (Part::UserStore, 1),
        (Part::UserStore, 2),
        (Part::Portal, 1),
        (Part::DirectorySync, 1),
    ];
    for node in parts {
        let begin = Instant::now();
        world.distributed.cluster.kill(node);
        // The other one carries on meanwhile: logins begun after the kill come through.
        world.some_come_in(begin, 3).await.with_context(|| format!("{node:?} is dead"))?;
        world.distributed.cluster.start_node(node)?;
        world.distributed.cluster.wait_ready()?;
        world.serves_everywhere(&format!("after {node:?}")).await?;
        say(&format!("     {node:?} killed and back after {:.1} s", begin.elapsed().as_secs_f32()));
    }
    Ok(())
}

async fn a_question_outlives_the_gateway_that_asked_it(world: &mut World) -> Result<()> {
    // R-45
    let login = world.crowd.fresh().await;
    let device = Device::new(VPN, world.crowd.radius_ports[0], RADIUS_SECRET)?.called_from("outlives");
    let Answer::Challenge(state) = device.login(&login.name, &login.password).await? else { bail!("no challenge") };
    world.distributed.cluster.kill((Part::RadiusGateway, 1));
    let answer = device.at(world.crowd.radius_ports[1]).respond(&login.name, &login.code, &state).await?;
    world.distributed.cluster.start_node((Part::RadiusGateway, 1))?;
    world.distributed.cluster.wait_ready()?;
    ensure!(answer == Answer::Accept, "{answer:?}");
    Ok(())
}

async fn the_leader_of_the_synchronisation_moves_within_15_s(world: &mut World) -> Result<()> {
    // S-60
    let line = world.distributed.command_line().clone();
    let status = || -> Result<(String, u64)> {
        let status = line.json(&["sync", "status"])?;
        Ok((status["leader"].as_str().unwrap_or_default().to_owned(), status["epoch"].as_u64().context("an epoch")?))
    };
    let leads = |node: usize, epoch: u64| {
        let log = world.distributed.cluster.log((Part::DirectorySync, node));
        log.lines().any(|line| line.contains("sync_leader") && line.contains(&format!("\"epoch\":{epoch}")))
    };
    let (_, before) = status()?;
    let leader = (1..=2).find(|node| leads(*node, before)).context("no node says that it leads")?;
    world.distributed.cluster.kill((Part::DirectorySync, leader));
    let killed = Instant::now();
    let moved = || status().is_ok_and(|(_, epoch)| epoch > before);
    wait_until("another leader", Duration::from_secs(15), moved)?;
    say(&format!("     the leader moved after {:.1} s", killed.elapsed().as_secs_f32()));
    let other = 3 - leader;
    let (_, epoch) = status()?;
    ensure!(
        world.distributed.cluster.log((Part::DirectorySync, other)).contains(&format!("\"epoch\":{epoch}")),
        "epoch {epoch} is not node {other}'s"
    );
    // It does the work, too.
    line.run(&["sync", "now"])?;
    world.distributed.cluster.start_node((Part::DirectorySync, leader))?;
    world.distributed.cluster.wait_ready()
}

async fn without_the_directory_nobody_comes_in_until_it_is_back(world: &mut World) -> Result<()> {
    world.distributed.slapd.stop();
    let stopped = Instant::now();
    let turned_away = world.some_are_turned_away(stopped, 10).await;
    let back = Instant::now();
    world.distributed.slapd.restart()?;
    turned_away?;
    world.serves_everywhere("after the directory").await?;
    world.nobody_came_in(stopped, back)
}

async fn without_the_bus_a_login_in_one_request_still_works(world: &mut World) -> Result<()> {
    // With the bus down codes in one request still count
    world.distributed.cluster.nats.stop();
    let stopped = Instant::now();
    let come_in = world.some_come_in(stopped, 10).await;
    world.distributed.cluster.nats.restart()?;
    come_in?;
    world.serves_everywhere("after the bus").await
}

async fn without_the_database_nobody_comes_in_until_it_is_back(world: &mut World) -> Result<()> {
    world.distributed.cluster.postgres.stop();
    let stopped = Instant::now();
    let turned_away = world.some_are_turned_away(stopped, 10).await;
    let back = Instant::now();
    world.distributed.cluster.postgres.restart()?;
    turned_away?;
    world.serves_everywhere("after the database").await?;
    world.nobody_came_in(stopped, back)
}

async fn who_may_not_come_in_never_did(world: &mut World) -> Result<()> {
    world.crowd.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = timeout(Duration::from_secs(60), world.tasks.join_next()).await? {
        ended?;
    }
    let refused = world.crowd.canaries_refused.load(Ordering::Relaxed);
    let wrong = world.crowd.wrong.lock().expect("not poisoned").clone();
    say(&format!("     {refused} tries of those who may not"));
    ensure!(refused > 50, "they tried only {refused} times");
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

async fn everybody_let_in_stands_in_the_audit_once(world: &mut World) -> Result<()> {
    // V-61
    let attempts = world.crowd.attempts();
    let mut endings = BTreeMap::new();
    for attempt in &attempts {
        *endings.entry(attempt.result).or_insert(0) += 1;
    }
    say(&format!("     {endings:?}"));
    ensure!(endings.get(&Outcome::In).is_some_and(|count| *count > 200), "too few logins: {endings:?}");
    // LDAP binds carry their source, RADIUS requests their calling station.
    let rows = world.distributed.cluster.postgres.sql(
        "twinlock",
        "select case when calling_station <> '' then calling_station else client_ip end, count(*) \
         from audit where result = 'success' and kind = 'authentication' group by 1",
    )?;
    let events: BTreeMap<&str, usize> = rows
        .lines()
        .filter_map(|row| row.split_once('|'))
        .map(|(mark, count)| (mark, count.parse().unwrap_or(0)))
        .collect();
    for attempt in &attempts {
        let count = events.get(attempt.mark.as_str()).copied().unwrap_or(0);
        let fits = match attempt.result {
            Outcome::In => count == 1,
            // The answer may have been lost behind the commit, anywhere on its way.
            Outcome::Refused | Outcome::Unavailable => count <= 1,
        };
        ensure!(fits, "{count} events of {attempt:?}");
    }
    world.distributed.command_line().run(&["audit", "verify"])?;
    Ok(())
}

impl World {
    /// Waits until each front end lets somebody in.
    async fn serves_everywhere(&self, when: &str) -> Result<()> {
        let begin = Instant::now();
        for way in 0..4 {
            loop {
                let result = self.crowd.log_in(way).await?;
                if result == Outcome::In {
                    break;
                }
                ensure!(begin.elapsed() < RESUMED, "{when}: way {way} is still {result:?}");
            }
        }
        Ok(())
    }

    /// Waits until so many of the crowd came in with logins begun since.
    async fn some_come_in(&self, since: Instant, count: usize) -> Result<()> {
        self.some(since, count, "come in", |result| result == Outcome::In).await
    }

    async fn some_are_turned_away(&self, since: Instant, count: usize) -> Result<()> {
        self.some(since, count, "are turned away", |result| result != Outcome::In).await
    }

    async fn some(&self, since: Instant, count: usize, what: &str, counts: impl Fn(Outcome) -> bool) -> Result<()> {
        loop {
            let attempts = self.crowd.attempts();
            let seen = attempts.iter().filter(|attempt| attempt.begin >= since && counts(attempt.result)).count();
            if seen >= count {
                return Ok(());
            }
            ensure!(since.elapsed() < SEEN, "after {} s only {seen} {what}", SEEN.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// None of the logins that lie whole within this time.
    fn nobody_came_in(&self, from: Instant, to: Instant) -> Result<()> {
        let attempts = self.crowd.attempts();
        let within = attempts.iter().filter(|attempt| attempt.begin > from && attempt.end < to);
        let came_in: Vec<_> = within.filter(|attempt| attempt.result == Outcome::In).collect();
        ensure!(came_in.is_empty(), "{came_in:?}");
        Ok(())
    }
}

impl Crowd {
    fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().expect("not poisoned").clone()
    }

    /// One login, by one of the four front ends.
    async fn log_in(&self, way: usize) -> Result<Outcome> {
        let login = timeout(Duration::from_secs(40), self.fresh()).await.context("nobody has a fresh code")?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let begin = Instant::now();
        let password = format!("{},{}", login.password, login.code);
        let (mark, result) = match way % 4 {
            gateway @ (0 | 1) => {
                let mark = format!("station-{number:06}");
                let device = Device::new(VPN, self.radius_ports[gateway], RADIUS_SECRET)?.called_from(&mark);
                (mark, by_radius(&device, &login.name, &password).await)
            }
            gateway => {
                let [_, _, high, low] = number.to_be_bytes();
                let from = Ipv4Addr::new(127, 17, high, low);
                (from.to_string(), by_ldap(&self.ldap_urls[gateway - 2], from.into(), &login.name, &password).await)
            }
        };
        let attempt = Attempt { mark, begin, end: Instant::now(), result };
        self.attempts.lock().expect("not poisoned").push(attempt);
        Ok(result)
    }

    async fn fresh(&self) -> Login {
        loop {
            match self.people.login() {
                Some(login) => return login,
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn log_in_forever(crowd: Arc<Crowd>) {
    let mut way = 0;
    while !crowd.stop.load(Ordering::Relaxed) {
        if let Err(error) = crowd.log_in(way).await {
            crowd.wrong.lock().expect("not poisoned").push(format!("a login could not be tried: {error:#}"));
            return;
        }
        way += 1;
        // There are only so many codes in half a minute.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Somebody who may not come in, whatever is broken.
struct Canary {
    why: &'static str,
    name: String,
    password: Box<dyn Fn() -> Result<String> + Send>,
}

fn canaries(distributed: &Distributed) -> Result<Vec<Canary>> {
    let line = distributed.command_line();
    let wrong_code = line.enrol("ann.archer")?;
    let never = never_a_code(&wrong_code)?;
    let disabled = line.enrol("ben.hale")?;
    line.run(&["user", "disable", "ben.hale", "--reason", "left"])?;
    let wrong_password = line.enrol("clara.osborn")?;
    let not_enrolled = lab::password_of("david.baker");
    let disabled_name = disabled.uid.clone();
    Ok(vec![
        Canary {
            why: "a wrong code",
            name: wrong_code.uid,
            password: Box::new(move || Ok(format!("{},{never}", wrong_code.password))),
        },
        Canary { why: "disabled", name: disabled_name, password: Box::new(move || disabled.appended(0)) },
        Canary {
            why: "a wrong password",
            name: wrong_password.uid.clone(),
            password: Box::new(move || Ok(format!("Nonsense,{}", wrong_password.code(0)?))),
        },
        Canary {
            why: "not enrolled",
            name: "david.baker".into(),
            password: Box::new(move || Ok(format!("{not_enrolled},123456"))),
        },
    ])
}

/// Six digits that are none of somebody's codes for the next half hour.
fn never_a_code(person: &Person) -> Result<String> {
    let output = run(Command::new(program("oathtool")?).args(["--totp", "-b", &person.seed, "-w", "60"]))?;
    let codes = String::from_utf8_lossy(&output.stdout).into_owned();
    let never = (0..100).map(|number| format!("{:06}", number * 7919)).find(|code| !codes.contains(code.as_str()));
    never.context("sixty codes cannot be a hundred")
}

async fn try_forever(crowd: Arc<Crowd>, canary: Canary) {
    let mut way = 0;
    while !crowd.stop.load(Ordering::Relaxed) {
        let note = |text: String| crowd.wrong.lock().expect("not poisoned").push(text);
        let password = match (canary.password)() {
            Ok(password) => password,
            Err(error) => return note(format!("{}: {error:#}", canary.why)),
        };
        let result = match way % 4 {
            gateway @ (0 | 1) => match Device::new(VPN, crowd.radius_ports[gateway], RADIUS_SECRET) {
                Ok(device) => by_radius(&device, &canary.name, &password).await,
                Err(error) => return note(format!("{error:#}")),
            },
            gateway => {
                let from = IpAddr::V4(Ipv4Addr::new(127, 18, 0, 1));
                by_ldap(&crowd.ldap_urls[gateway - 2], from, &canary.name, &password).await
            }
        };
        match result {
            Outcome::In => note(format!("{} came in by way {way}", canary.why)),
            Outcome::Refused => _ = crowd.canaries_refused.fetch_add(1, Ordering::Relaxed),
            Outcome::Unavailable => {}
        }
        way += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn by_radius(device: &Device, name: &str, password: &str) -> Outcome {
    match try_radius(device, name, password).await {
        Ok(Answer::Accept) => Outcome::In,
        Ok(Answer::Reject | Answer::Challenge(_)) => Outcome::Refused,
        Ok(Answer::Silence) | Err(_) => Outcome::Unavailable,
    }
}

async fn try_radius(device: &Device, name: &str, password: &str) -> Result<Answer> {
    device.exchange(name, password, None).await?.answer(4).await
}

async fn by_ldap(url: &str, from: IpAddr, name: &str, password: &str) -> Outcome {
    let code = async {
        let mut application = Application::connect(url, from).await?;
        code_of(&application.bind(1, name, password).await?)
    };
    match code.await {
        Ok(0) => Outcome::In,
        Ok(49) => Outcome::Refused,
        _ => Outcome::Unavailable,
    }
}
