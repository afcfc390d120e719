//! Devices as they are (T-07): each kind asks again in its own way while a person looks for their phone, and there is one prompt and one
//! result. Five gateways: of three any may get any packet, two are killed at work.

use anyhow::{Context, Result, bail, ensure};
use e2e::{Answer, Balancer, Device, Distributed, Habit, Outside, Pocket, Switchboard, story};
use futures::future::try_join_all;
use lab::{
    Part, Person, RADIUS_SECRET,
    nas::{Challenges, Nas, Outcome, Profile, Retry, Verdict},
    password_of,
};
use radius_wire::Code;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Mutex,
    time::{Duration, Instant},
};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Waits in silence, and signs.
const DEVICES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 21));
/// Knows nothing of Message-Authenticator, and is excused.
const OLD_DEVICES: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 22));
/// Shows questions.
const ASKING: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 23));

const SETTINGS: &str = r#"
[verification]
country = "DE"

[sms]
per_prefix_and_hour = 1000

[voice]
ring_seconds = 60

[[client]]
name = "devices"
protocol = "radius"
sources = ["127.0.0.21/32"]
target = "acme"
secret = "file:radius.secret"
challenge = "no"
methods = ["push", "call"]
wait_seconds = 90

[[client]]
name = "old-devices"
protocol = "radius"
sources = ["127.0.0.22/32"]
target = "acme"
secret = "file:radius.secret"
challenge = "no"
methods = ["push", "call"]
message_authenticator = "no"
limit_proxy_state = "no"
danger_accept_blastradius = true
wait_seconds = 90

[[client]]
name = "asking"
protocol = "radius"
sources = ["127.0.0.23/32"]
target = "acme"
secret = "file:radius.secret"
methods = ["code"]
"#;

/// Those any packet may go to, and those that are killed.
const GATEWAYS: [usize; 3] = [1, 2, 3];
const DOOMED: [usize; 3] = [4, 5, 6];

const PATIENCE: Duration = Duration::from_secs(30);

/// Stopped in the order of its fields.
struct World {
    distributed: Distributed,
    board: Switchboard,
    devices: Balancer,
    old_devices: Balancer,
    asking: Balancer,
    /// Everybody of the company, and those from `QUESTIONED` on, with their apps.
    uids: Vec<String>,
    with_app: Vec<Person>,
    /// Of those who wait for something else than a call, by name.
    pockets: Mutex<HashMap<String, Pocket>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_before_six_gateways_and_a_wait_of_60_seconds_in_real_time() -> Result<()> {
    let mut distributed = Distributed::start(0, "", "")?;
    while distributed.cluster.add_node(Part::RadiusGateway, &distributed.pki, "")? < DOOMED[2] {}
    let world = World::new(distributed).await?;
    // Beside each other, as most of it is waiting, but not begun in the same instant.
    let after = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    let (patient, kinds, loss, questions, killed) = tokio::join!(
        async { story!(&world; a_wait_of_60_seconds_has_one_bind_one_prompt_and_one_reply) },
        async {
            after(8).await;
            story!(&world; every_kind_of_device_has_one_prompt_and_one_result)
        },
        async {
            after(16).await;
            story!(&world; every_kind_of_device_has_one_prompt_and_one_result_across_the_loss_of_its_gateway)
        },
        async { story!(&world; devices_that_show_a_question_bring_the_code_and_those_that_do_not_let_nobody_in) },
        async {
            story!(&world;
                requests_that_anybody_may_have_forged_get_no_answer_and_no_bind,
                a_gateway_that_is_killed_at_work_is_replaced_by_whoever_gets_the_next_copy,
                a_secondary_gateway_goes_on_where_the_killed_one_stopped,
            )
        },
    );
    let signed = story!(&world; nobody_had_two_prompts_open_at_once, every_packet_begins_with_its_signature);
    patient.and(kinds).and(loss).and(questions).and(killed).and(signed)
}

async fn a_wait_of_60_seconds_has_one_bind_one_prompt_and_one_reply(world: &World) -> Result<()> {
    // R-30 ★
    const COPIES: u32 = 20;
    let uid = &world.uids[PATIENT];
    let mut pocket = world.phone(uid)?;
    let device = Device::new(LOCAL, world.devices.address().port(), RADIUS_SECRET)?;
    let exchange = device.exchange(uid, &password_of(uid), None).await?;
    let begun = Instant::now();
    exchange.send().await?;
    let shown = pocket.shown(PATIENCE).await?;
    for copy in 1..=COPIES {
        let next = begun + Duration::from_secs(60) / COPIES * copy;
        let early = exchange.receive(next.saturating_duration_since(Instant::now())).await?;
        ensure!(early.is_none(), "an answer before anybody approved");
        exchange.send().await?;
    }
    pocket.look().await?;
    ensure!(begun.elapsed() >= Duration::from_secs(60));
    ensure!(pocket.approve(&shown).await?, "the approval is not taken");
    let reply = exchange.receive(PATIENCE).await?.context("no reply")?;
    ensure!(exchange.read(&reply)? == Answer::Accept);
    ensure!(exchange.receive(Duration::from_secs(2)).await?.is_none(), "a second reply");
    for copy in 1..=3 {
        exchange.send().await?;
        let again = exchange.receive(Duration::from_secs(5)).await?;
        ensure!(again.with_context(|| format!("no reply to late copy {copy}"))? == reply, "other octets");
    }
    pocket.look().await?;
    let counted = (world.distributed.slapd.binds(uid), pocket.prompts, world.successes(uid)?);
    ensure!(counted == (1, 1, 1), "binds, prompts, successes: {counted:?}");
    let copies = world.devices.captured().into_iter().filter(|packet| packet.octets == exchange.octets);
    let by: BTreeSet<_> = copies.map(|packet| packet.server).collect();
    ensure!(by.len() == GATEWAYS.len(), "only {by:?} saw a copy");
    Ok(())
}

async fn every_kind_of_device_has_one_prompt_and_one_result(world: &World) -> Result<()> {
    // T-07
    let kinds = kinds(world, 0)?;
    let logins = kinds.iter().zip(0..).map(async |((profile, uid), place): (_, u32)| {
        // Not all in the same instant: this is about none of them being in a hurry.
        tokio::time::sleep(Duration::from_millis(200) * place).await;
        let tap = if profile.signs { &world.devices } else { &world.old_devices };
        as_its_kind(world, profile, uid, tap).await
    });
    judge_all(world, &kinds, &try_join_all(logins).await?, 1)
}

async fn every_kind_of_device_has_one_prompt_and_one_result_across_the_loss_of_its_gateway(
    world: &World,
) -> Result<()> {
    // T-07, R-30, R-34: all of them have asked the one that is killed; copies go to the others from then on
    let kinds = kinds(world, PATIENT + 10)?;
    let doomed = [world.gateway(DOOMED[2])];
    let (tap, old) =
        (Balancer::start(Some(DEVICES), &doomed).await?, Balancer::start(Some(OLD_DEVICES), &doomed).await?);
    let logins = kinds.iter().zip(0..).map(async |((profile, uid), place): (_, u32)| {
        tokio::time::sleep(Duration::from_millis(100) * place).await;
        as_its_kind(world, profile, uid, if profile.signs { &tap } else { &old }).await
    });
    let (outcomes, killed) = tokio::join!(try_join_all(logins), async {
        // As soon as the phones ring, and before anybody has sent the last copy.
        let begun = Instant::now();
        while !kinds.iter().all(|(_, uid)| world.board.calls(uid).is_ok_and(|calls| calls >= 1)) {
            ensure!(begun.elapsed() < Duration::from_secs(12), "somebody is not called");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let others = GATEWAYS.map(|number| world.gateway(number));
        tap.set_servers(&others);
        old.set_servers(&others);
        world.kill(DOOMED[2])
    });
    killed?;
    ensure!(
        tap.replies().iter().chain(&old.replies()).all(|reply| reply.server != doomed[0]),
        "it was answered in time"
    );
    // Whoever goes on checks the password once more: nobody else knows what the killed one found.
    judge_all(world, &kinds, &outcomes?, 2)
}

async fn devices_that_show_a_question_bring_the_code_and_those_that_do_not_let_nobody_in(world: &World) -> Result<()> {
    // T-07, FR-13: an Access-Challenge, and what a kind of device makes of it
    let kinds = kinds(world, QUESTIONED)?;
    let logins = kinds.iter().zip(&world.with_app).zip(0..).map(async |(((profile, uid), person), place): (_, u32)| {
        tokio::time::sleep(Duration::from_millis(200) * place).await;
        let nas = Nas::new(profile.clone(), &[world.asking.address()], RADIUS_SECRET)?;
        let outcome = nas.login(uid, &password_of(uid), &[&person.code(0)?]).await?;
        let expected = match profile.challenges {
            _ if !profile.signs => (Verdict::Timeout, 0),
            Challenges::Answered => (Verdict::Accept, 1),
            Challenges::Rejected => (Verdict::Challenge, 0),
            Challenges::Ignored => (Verdict::Timeout, 0),
        };
        let accepted = outcome.believed().filter(|reply| reply.octets.first() == Some(&2)).count();
        let found = (outcome.verdict, accepted);
        ensure!(found == expected, "{}: {found:?}, {:?}", profile.name, world.reasons(uid)?);
        Ok(())
    });
    try_join_all(logins).await.map(drop)
}

/// Every kind of device, with and without Calling-Station-Id, and the person behind each.
fn kinds(world: &World, first: usize) -> Result<Vec<(Profile, &str)>> {
    let mut profiles: Vec<_> = Profile::all().into_iter().map(unhurried).collect();
    profiles.extend(profiles.clone().into_iter().map(Profile::with_calling_station));
    let uids = world.uids.get(first..first + profiles.len()).context("more kinds than people")?;
    Ok(profiles.into_iter().zip(uids.iter().map(String::as_str)).collect())
}

/// Its habits, so much slower that a busy machine has time for an approval between the last copy and the end. Copies follow each other
/// within the life of a request that nobody touches any more, half a minute.
fn unhurried(profile: Profile) -> Profile {
    const INTERVAL_MAX: Duration = Duration::from_secs(20);
    let mut slower = profile.clone();
    let mut times = 1;
    while last_copy(&slower).2 < Duration::from_secs(8) && profile.interval * (times + 1) <= INTERVAL_MAX {
        times += 1;
        slower = profile.clone().times_slower(times);
    }
    slower
}

/// A login that is approved, by a call, a while after the last copy of the request.
async fn as_its_kind(world: &World, profile: &Profile, uid: &str, tap: &Balancer) -> Result<Outcome> {
    world.board.set_habit_of(uid, Habit::ConfirmsAt(tokio::time::Instant::now() + last_copy(profile).1))?;
    Nas::new(profile.clone(), &[tap.address()], RADIUS_SECRET)?.login(uid, &password_of(uid), &[]).await
}

fn judge_all(world: &World, kinds: &[(Profile, &str)], outcomes: &[Outcome], binds_max: usize) -> Result<()> {
    let events = world.distributed.command_line().audit()?;
    let mut wrong = Vec::new();
    for ((profile, uid), outcome) in kinds.iter().zip(outcomes) {
        let judged = judge(world, profile, uid, outcome, &reasons(&events, uid), binds_max);
        wrong.extend(judged.err().map(|error| format!("{error:#}")));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

fn judge(
    world: &World,
    profile: &Profile,
    uid: &str,
    outcome: &Outcome,
    reasons: &BTreeMap<String, usize>,
    binds_max: usize,
) -> Result<()> {
    let station = profile.calling_station.as_deref().unwrap_or("no station");
    let found = (world.board.calls(uid)?, outcome.verdict, outcome.believed().count());
    let seen = format!("{}, {station}: {found:?}, {} sent, {reasons:?}", profile.name, outcome.sent.len());
    if profile.retry == Retry::Identical || profile.calling_station.is_some() {
        // R-30, R-34
        ensure!(outcome.sent.len() == last_copy(profile).0, "{seen}");
        ensure!(found == (1, Verdict::Accept, 1), "{seen}");
        let (binds, successes) = (world.distributed.slapd.binds(uid), reasons.get("call_confirmed").copied());
        ensure!((1..=binds_max).contains(&binds) && successes == Some(1), "{binds} binds, {successes:?}, {seen}");
        return Ok(());
    }
    let count = |reason| reasons.get(reason).copied().unwrap_or(0);
    if profile.retry == Retry::NewAuthenticator {
        // R-32: each takes the place of the one before, whose prompt is withdrawn before the person is asked anew; the last is approved.
        let copies = outcome.sent.len();
        ensure!(copies == last_copy(profile).0 && found == (copies, Verdict::Accept, 1), "{seen}");
        let killed = usize::from(binds_max > 1);
        let told = count("challenge_gone") + killed >= copies - 1 && count("call_confirmed") == 1;
        ensure!(told && count("prompt_pending") == 0, "{seen}");
        return Ok(());
    }
    // R-35: it may be somebody else who knows the password, so it is refused while the first one is open.
    ensure!(found.0 == 1 && outcome.verdict != Verdict::Accept && count("prompt_pending") > 0, "{seen}");
    Ok(())
}

async fn nobody_had_two_prompts_open_at_once(world: &World) -> Result<()> {
    // R-32, R-35, T-07: of all that went before, by the store
    let statement = "select count(*) from prompts first join prompts second on first.user_id = second.user_id \
                     where first.prompt_id <> second.prompt_id and first.begun_ms <= second.begun_ms \
                     and coalesce(nullif(first.answered_ms, 0), first.expires_ms) > second.begun_ms";
    let sql = |statement: &str| world.distributed.cluster.postgres.sql("twinlock", statement);
    ensure!(
        sql("select count(*) from prompts where outcome = 'withdrawn'")?.parse::<usize>()? >= 2,
        "none was withdrawn"
    );
    ensure!(sql(statement)?.parse::<usize>()? == 0, "{} pairs of prompts were open at once", sql(statement)?);
    Ok(())
}

/// How many copies it sends, a while after the last, before it turns away, and how long it then waits.
fn last_copy(profile: &Profile) -> (usize, Duration, Duration) {
    let mut copies = 1;
    while copies < profile.copies && profile.interval * copies < profile.gives_up {
        copies += 1;
    }
    let last = profile.interval * (copies - 1);
    let end = (last + profile.interval).min(profile.gives_up);
    (copies as usize, last + (end - last) / 5, end - last)
}

async fn a_gateway_that_is_killed_at_work_is_replaced_by_whoever_gets_the_next_copy(world: &World) -> Result<()> {
    // R-30 ★
    let uid = &world.uids[PATIENT + 1];
    let mut pocket = world.phone(uid)?;
    let tap = Balancer::start(Some(DEVICES), &[world.gateway(DOOMED[0])]).await?;
    let profile = Profile { copies: 40, interval: Duration::from_secs(1), ..Profile::fortigate() };
    let nas = Nas::new(profile, &[tap.address()], RADIUS_SECRET)?;
    let password = password_of(uid);
    let (outcome, taken) = tokio::join!(nas.login(uid, &password, &[]), async {
        let shown = pocket.shown(PATIENCE).await?;
        world.kill(DOOMED[0])?;
        tap.set_servers(&GATEWAYS.map(|number| world.gateway(number)));
        pocket.watch(Instant::now() + Duration::from_secs(4)).await?;
        let taken = pocket.approve(&shown).await?;
        pocket.look().await?;
        Ok::<_, anyhow::Error>(taken)
    });
    let outcome = outcome?;
    world.one_of_each(uid, &pocket, &outcome, taken?)?;
    let by = outcome.last().context("no answer")?;
    let by = tap.replies().into_iter().find(|reply| reply.octets == by.octets).context("it came by")?.server;
    ensure!(by != world.gateway(DOOMED[0]), "the killed one answered");
    Ok(())
}

async fn a_secondary_gateway_goes_on_where_the_killed_one_stopped(world: &World) -> Result<()> {
    // R-34: to another server the device has another Identifier and authenticator
    let uid = &world.uids[PATIENT + 2];
    let mut pocket = world.phone(uid)?;
    let primary = Balancer::start(Some(DEVICES), &[world.gateway(DOOMED[1])]).await?;
    let secondary = Balancer::start(Some(DEVICES), &GATEWAYS.map(|number| world.gateway(number))).await?;
    const INTERVAL: Duration = Duration::from_secs(4);
    const COPIES: u32 = 4;
    let profile = Profile { interval: INTERVAL, copies: COPIES, ..Profile::fortigate().with_calling_station() };
    let nas = Nas::new(profile, &[primary.address(), secondary.address()], RADIUS_SECRET)?;
    let begun = Instant::now();
    let password = password_of(uid);
    let (outcome, taken) = tokio::join!(nas.login(uid, &password, &[]), async {
        let shown = pocket.shown(PATIENCE).await?;
        world.kill(DOOMED[1])?;
        pocket.watch(begun + INTERVAL * COPIES + INTERVAL * 3 / 2).await?;
        let taken = pocket.approve(&shown).await?;
        pocket.look().await?;
        Ok::<_, anyhow::Error>(taken)
    });
    let outcome = outcome?;
    let taken = taken?;
    ensure!(outcome.sent_to(secondary.address()) >= 2, "it was never asked: {:?}", world.reasons(uid)?);
    world.one_of_each(uid, &pocket, &outcome, taken)
}

async fn requests_that_anybody_may_have_forged_get_no_answer_and_no_bind(world: &World) -> Result<()> {
    // R-08, CVE-2024-3596
    let uid = &world.uids[PATIENT + 3];
    let server = world.devices.address();
    for profile in [Profile::unsigned(), Profile::blast(), Profile::unsigned().with_calling_station()] {
        let nas = Nas::new(profile.times_faster(10), &[server], RADIUS_SECRET)?;
        let outcome = nas.login(uid, &password_of(uid), &[]).await?;
        let name = nas.profile().name;
        ensure!(outcome.verdict == Verdict::Timeout && outcome.replies.is_empty(), "{name}: {:?}", outcome.replies);
        ensure!(outcome.sent.len() == 3, "{name}");
    }
    ensure!(world.distributed.slapd.binds(uid) == 0, "binds");
    ensure!(world.reasons(uid)?.is_empty(), "{:?}", world.reasons(uid)?);
    // The same from a device that is excused, and signed from this one: a wrong password, that nobody be prompted.
    for (tap, profile) in [(&world.old_devices, Profile::blast()), (&world.devices, Profile::fortigate())] {
        let outcome = Nas::new(profile, &[tap.address()], RADIUS_SECRET)?.login(uid, "Nonsense", &[]).await?;
        ensure!(outcome.verdict == Verdict::Reject, "{:?}", outcome.verdict);
    }
    ensure!(world.distributed.slapd.binds(uid) == 2, "{} binds", world.distributed.slapd.binds(uid));
    Ok(())
}

async fn every_packet_begins_with_its_signature(world: &World) -> Result<()> {
    // R-11
    let person = world.distributed.command_line().enrol(&world.uids[PATIENT + 4])?;
    let device = Device::new(LOCAL, world.asking.address().port(), RADIUS_SECRET)?;
    let Answer::Challenge(state) = device.login(&person.uid, &person.password).await? else { bail!("no challenge") };
    ensure!(device.respond(&person.uid, &person.code(0)?, &state).await? == Answer::Accept);
    ensure!(device.login(&person.uid, "Nonsense").await? == Answer::Reject);
    ensure!(device.status().await?.answer(2).await? == Answer::Accept);
    // Those that sent no signature get one all the same.
    let mut codes = BTreeSet::new();
    for tap in [&world.devices, &world.old_devices, &world.asking] {
        let replies = tap.replies();
        ensure!(replies.len() >= 2, "a tap saw {} replies", replies.len());
        for reply in replies {
            ensure!(reply.octets.get(20..22) == Some(&[80, 18]), "{:?}", reply.octets);
            codes.insert(reply.octets[0]);
        }
    }
    let wanted = [Code::AccessAccept, Code::AccessReject, Code::AccessChallenge].map(|code| code as u8);
    ensure!(codes == BTreeSet::from(wanted), "{codes:?}");
    Ok(())
}

/// The first of the people no kind of device belongs to, and of those who have an authenticator app.
const PATIENT: usize = 30;
const QUESTIONED: usize = PATIENT + 40;

impl World {
    async fn new(distributed: Distributed) -> Result<Self> {
        let dir = distributed.dir.path();
        let board = Switchboard::start(Outside::start_at(dir).await?);
        let settings = format!("{SETTINGS}{}", board.outside.providers());
        distributed.command_line().apply(dir, &lab::company_settings(&distributed.slapd, &settings)?)?;
        let servers = GATEWAYS.map(|number| address(&distributed, number));
        let start = async |seen_as| Balancer::start(Some(seen_as), &servers).await;
        for number in GATEWAYS.into_iter().chain(DOOMED) {
            // A client that is not known yet gets no answer.
            let tap = Balancer::start(Some(DEVICES), &[address(&distributed, number)]).await?;
            let answer = Device::new(LOCAL, tap.address().port(), RADIUS_SECRET)?.status().await?.answer(10).await?;
            ensure!(answer == Answer::Accept, "gateway {number}: {answer:?}");
        }
        let company = std::fs::read_to_string(lab::repository().join("tests/lab/data/company.ldif"))?;
        let uids: Vec<_> = company.lines().filter_map(|line| line.strip_prefix("uid: ")).map(str::to_owned).collect();
        let with_app = uids.iter().skip(QUESTIONED).take(2 * Profile::all().len());
        let world = Self {
            pockets: Mutex::default(),
            with_app: with_app.map(|uid| distributed.command_line().enrol(uid)).collect::<Result<_>>()?,
            devices: start(DEVICES).await?,
            old_devices: start(OLD_DEVICES).await?,
            asking: start(ASKING).await?,
            board,
            uids,
            distributed,
        };
        // Before anybody logs in: what a phone does to be known costs the store more than a login.
        for uid in &world.uids[PATIENT..PATIENT + 3] {
            let pocket = world.connected(uid).await?;
            world.pockets.lock().expect("no panic while held").insert(uid.clone(), pocket);
        }
        Ok(world)
    }

    fn gateway(&self, number: usize) -> SocketAddr {
        address(&self.distributed, number)
    }

    /// SIGKILL.
    fn kill(&self, number: usize) -> Result<()> {
        let pid = self.distributed.cluster.pid((Part::RadiusGateway, number)).context("it runs")?;
        let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status()?;
        ensure!(killed.success());
        Ok(())
    }

    fn phone(&self, uid: &str) -> Result<Pocket> {
        self.pockets.lock().expect("no panic while held").remove(uid).with_context(|| format!("{uid} has no phone"))
    }

    async fn connected(&self, uid: &str) -> Result<Pocket> {
        let url = self.distributed.cluster.portal_url(1);
        let phone = Pocket::connect(self.distributed.command_line(), &url, &self.board.outside.http, uid).await;
        let phone = phone.with_context(|| format!("the phone of {uid}"))?;
        // Nobody is called in place of it.
        self.distributed.command_line().run(&["user", "edit", uid, "--allowed-methods", "push"])?;
        Ok(phone)
    }

    fn one_of_each(&self, uid: &str, pocket: &Pocket, outcome: &Outcome, taken: bool) -> Result<()> {
        let reasons = self.reasons(uid)?;
        ensure!(taken, "the approval is not taken: {reasons:?}");
        ensure!(outcome.verdict == Verdict::Accept, "{:?}: {reasons:?}", outcome.verdict);
        let counted = (pocket.prompts, pocket.open_max, outcome.believed().count(), self.successes(uid)?);
        ensure!(counted == (1, 1, 1, 1), "prompts, open at once, results, successes: {counted:?}, {reasons:?}");
        Ok(())
    }

    /// How often somebody's attempts ended so.
    fn reasons(&self, uid: &str) -> Result<BTreeMap<String, usize>> {
        Ok(reasons(&self.distributed.command_line().audit()?, uid))
    }

    fn successes(&self, uid: &str) -> Result<usize> {
        Ok(self.reasons(uid)?.get("user_approved").copied().unwrap_or(0))
    }
}

fn reasons(events: &[Value], uid: &str) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for event in events {
        if event["kind"] == "authentication" && event["user"].as_str().is_some_and(|name| name.contains(uid)) {
            *reasons.entry(event["reason"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    reasons
}

fn address(distributed: &Distributed, number: usize) -> SocketAddr {
    SocketAddr::new(LOCAL, distributed.cluster.radius_port(number))
}
