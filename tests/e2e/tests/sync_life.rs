//! The sync in the running product: killed again and again while people are edited, stopped past its lease, and what it means for
//! somebody who signs in.

use anyhow::{Context, Result, bail, ensure};
use e2e::{Answer, Application, Device, Distributed, OneMachine, code_of};
use lab::{COMPANY_BASE, CommandLine, Node, Part, Pki, RADIUS_SECRET, Slapd, SlapdOptions, company_settings};
use proto::user_store::{ApplyBatchRequest, BeginRunRequest, FinishRunRequest, SyncedUser, sync_server::Sync};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const VPN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const KILLS: u64 = 50;
/// Of the kills, those in the middle of a run, and edits meanwhile: far below what there are on a machine that is eight times as busy as
/// it can be (4 and 3,308), where most kills come before the first run.
const HIT_MIN: usize = 1;
const EDITS_MIN: u64 = 500;
/// Of the sync leader.
const LEASE: Duration = Duration::from_secs(10);

/// By uid: name and mobile number.
type People = BTreeMap<String, (String, String)>;

/// Runs by themselves; mass removal is not what is looked at here.
fn scheduled(slapd: &Slapd, more: &str) -> Result<String> {
    let sync = "[sync]\nenabled = true\ninterval_minutes = 1\napproval_over_users = 999\napproval_over_percent = 0\n";
    Ok(company_settings(slapd, more)?.replacen("[sync]\nenabled = true\n", sync, 1))
}

/// What `ldapsearch` finds.
fn directory(slapd: &Slapd) -> Result<People> {
    let found = Command::new(lab::program("ldapsearch")?)
        .args(["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &slapd.ldap_url(), "-D", Slapd::ADMIN_DN])
        .args(["-w", Slapd::ADMIN_PASSWORD, "-b", COMPANY_BASE, "(objectClass=inetOrgPerson)", "uid"])
        .args(["givenName", "sn", "mobile"])
        .output()?;
    ensure!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let text = String::from_utf8(found.stdout)?;
    let mut people = People::new();
    for block in text.split("\n\n") {
        let value = |name: &str| {
            let prefix = format!("{name}: ");
            block.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
        };
        if !value("uid").is_empty() {
            let name = format!("{} {}", value("givenName"), value("sn")).trim().to_owned();
            people.insert(value("uid"), (name, dialled(&value("mobile"))));
        }
    }
    Ok(people)
}

/// As the store keeps a number that has its country (S-57).
fn dialled(number: &str) -> String {
    number.chars().filter(|sign| *sign == '+' || sign.is_ascii_digit()).collect()
}

/// Who may sign in, as the command line lists them; nobody is there twice.
fn users(command_line: &lab::CommandLine) -> Result<People> {
    let (mut listed, mut after) = (Vec::new(), String::new());
    loop {
        let page = ["user", "list", "--state", "enabled", "--limit", "1000", "--after", &after];
        let page = command_line.json(&page)?;
        listed.extend(page["items"].as_array().context("a list")?.clone());
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let mut people = People::new();
    for user in listed {
        let text = |name: &str| user[name].as_str().unwrap_or_default().to_owned();
        let detail = command_line.json(&["user", "show", &text("username")])?;
        let phone = detail["phone"].as_str().unwrap_or_default().to_owned();
        let before = people.insert(text("username"), (text("name"), phone));
        ensure!(before.is_none(), "{} is there twice", text("username"));
    }
    Ok(people)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_fifty_times_under_a_stream_of_edits_nothing_is_lost_and_nothing_doubled() -> Result<()> {
    // S-01, S-02, S-60
    // With a session log the server names who was deleted.
    let options = SlapdOptions { database_lines: "syncprov-sessionlog 100000".into(), ..SlapdOptions::default() };
    let mut world = OneMachine::start_over(&options, "", "", &[])?;
    world.command_line().apply(world.dir.path(), &scheduled(&world.slapd, "")?)?;
    world.command_line().run(&["sync", "now"])?;
    let editing = Editor::of(&world.slapd, world.dir.path(), Duration::ZERO).begin();
    let mut random = 11_u64;
    for _ in 0..KILLS {
        tokio::time::sleep(some_time(&mut random)).await;
        world.twinlock.process().context("it runs")?.kill();
        world.twinlock.restart()?;
    }
    let (edits, line) = (editing.stop()?, world.command_line());
    let history = line.json(&["sync", "history", "--limit", "1000"])?;
    let runs = history["items"].as_array().context("runs")?;
    let hit = runs.iter().filter(|run| run["state"] == "abandoned").count();
    eprintln!("{edits} edits, {KILLS} kills, {hit} of {} runs were hit", runs.len());
    ensure!(hit >= HIT_MIN && edits >= EDITS_MIN, "{edits} edits, and {KILLS} kills hit {hit} runs");
    nothing_is_lost_and_nothing_doubled(&world.slapd, line, || users(line)).await.with_context(|| world.twinlock.log())
}

fn some_time(random: &mut u64) -> Duration {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    Duration::from_millis((*random >> 33) % 900)
}

/// Who comes last begins at once and finds what the others left; by what the directory tells, for nobody asks for a full run. It tells
/// of changes in their order: when the last one is here, all are.
async fn nothing_is_lost_and_nothing_doubled(
    slapd: &Slapd,
    command_line: &CommandLine,
    users: impl Fn() -> Result<People>,
) -> Result<()> {
    slapd.modify(&format!(
        "dn: uid=last,ou=sales,ou=people,{COMPANY_BASE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: last\ncn: L\nsn: Last\n"
    ))?;
    let end = Instant::now() + Duration::from_secs(150);
    while command_line.json(&["user", "show", "last"]).is_err() {
        ensure!(Instant::now() < end, "the last one is not here");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (there, here) = (directory(slapd)?, users()?);
    ensure!(there == here, "{:?}", first_difference(&there, &here));
    let history = command_line.json(&["sync", "history", "--limit", "1000"])?;
    let runs = history["items"].as_array().context("runs")?;
    let read_all = |run: &&Value| run["mode"] != "incremental" && run["trigger"] != "request";
    ensure!(!runs.iter().any(|run| read_all(&run)), "{:#?}", runs.iter().find(read_all));
    // And a full run finds nothing that is not so.
    command_line.run(&["sync", "now"])?;
    command_line.run(&["sync", "now"])?;
    let here = users()?;
    ensure!(there == here, "{:?}", first_difference(&there, &here));
    let verified = command_line.run(&["audit", "verify"])?;
    eprintln!("{verified}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leads_of_two_is_killed_ten_times_under_a_stream_of_edits_and_the_other_goes_on() -> Result<()> {
    // S-01, S-02, S-60: over the distributed store
    const TURNS: usize = 10;
    let options = SlapdOptions { database_lines: "syncprov-sessionlog 100000".into(), ..SlapdOptions::default() };
    let mut world = Distributed::start_over(&options, "", "")?;
    let line = world.command_line().clone();
    line.apply(world.dir.path(), &scheduled(&world.slapd, "")?)?;
    line.run(&["sync", "now"])?;
    let epoch = || -> Result<u64> { line.json(&["sync", "status"])?["epoch"].as_u64().context("an epoch") };
    let editing = Editor::of(&world.slapd, world.dir.path(), Duration::from_millis(100)).begin();
    let (mut random, mut longest) = (11_u64, Duration::ZERO);
    for turn in 1..=TURNS {
        tokio::time::sleep(some_time(&mut random)).await;
        let before = epoch()?;
        let leader = leader_of(&world, before).context("nobody says that they lead")?;
        world.cluster.kill(leader);
        let killed = Instant::now();
        while epoch()? == before {
            ensure!(killed.elapsed() < Duration::from_secs(15), "turn {turn}: nobody took over");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        longest = longest.max(killed.elapsed());
        let now = epoch()?;
        ensure!(leader_of(&world, now) == Some((Part::DirectorySync, 3 - leader.1)), "turn {turn}: the other one");
        world.cluster.start_node(leader)?;
        world.cluster.wait_ready()?;
    }
    eprintln!("{} edits, {TURNS} kills, taken over after {longest:?} at the latest", editing.stop()?);
    nothing_is_lost_and_nothing_doubled(&world.slapd, &line, || stored(&world)).await
}

/// Who may sign in, as the database has them; nobody is there twice.
fn stored(world: &Distributed) -> Result<People> {
    let sql = "select username, trim(first_name || ' ' || last_name), phone from users where state = 'enabled'";
    let rows = world.cluster.postgres.sql("twinlock", sql)?;
    let mut people = People::new();
    for row in rows.lines() {
        let [username, name, phone] = *row.split('|').collect::<Vec<_>>() else { bail!("{row}") };
        let before = people.insert(username.to_owned(), (name.to_owned(), phone.to_owned()));
        ensure!(before.is_none(), "{username} is there twice");
    }
    Ok(people)
}

/// Who of the two began this epoch.
fn leader_of(world: &Distributed, epoch: u64) -> Option<Node> {
    let begun = |node: &Node| said(&world.cluster.log(*node), "sync_leader", epoch);
    (1..=2).map(|number| (Part::DirectorySync, number)).find(begun)
}

/// A log has this event of this epoch.
fn said(log: &str, event: &str, epoch: u64) -> bool {
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.any(|line| line["event"] == event && line["epoch"] == epoch)
}

fn first_difference(there: &People, here: &People) -> Option<String> {
    let keys: BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    keys.into_iter()
        .find(|key| there.get(*key) != here.get(*key))
        .map(|key| format!("{key}: the directory has {:?}, the store {:?}", there.get(key), here.get(key)))
}

/// An editor at work.
struct Editing {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<u64>>,
}

impl Editing {
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().ok().context("the editor ended")?
    }
}

/// Edits people, some at a time.
struct Editor {
    url: String,
    dir: PathBuf,
    random: u64,
    next: u32,
    there: BTreeSet<u32>,
    pause: Duration,
}

impl Editor {
    fn of(slapd: &Slapd, dir: &Path, pause: Duration) -> Self {
        let (url, dir) = (slapd.ldap_url(), dir.to_owned());
        Self { url, dir, random: 7, next: 0, there: BTreeSet::new(), pause }
    }

    /// Begins, until it is told to stop; how many edits there were.
    fn begin(self) -> Editing {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        Editing { stop, thread: std::thread::spawn(move || self.edit_until(&stopped)) }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound.max(1)
    }

    fn edit_until(mut self, stop: &AtomicBool) -> Result<u64> {
        let mut edits = 0;
        while !stop.load(Ordering::SeqCst) {
            let mut ldif = String::new();
            for _ in 0..4 {
                self.edit(&mut ldif)?;
            }
            let file = self.dir.join("edits.ldif");
            std::fs::write(&file, &ldif)?;
            let done = Command::new(lab::program("ldapmodify")?)
                .args(["-x", "-H", &self.url, "-D", Slapd::ADMIN_DN, "-w", Slapd::ADMIN_PASSWORD, "-f"])
                .arg(&file)
                .output()?;
            ensure!(done.status.success(), "{}\n{ldif}", String::from_utf8_lossy(&done.stderr));
            edits += 4;
            std::thread::sleep(self.pause);
        }
        Ok(edits)
    }

    fn edit(&mut self, ldif: &mut String) -> Result<()> {
        let dn = |number: u32| format!("uid=k{number:05},ou=sales,ou=people,{COMPANY_BASE}");
        let place = self.below(self.there.len() as u64) as usize;
        let somebody = self.there.iter().nth(place).copied();
        match (self.below(10), somebody) {
            (0..4, Some(number)) => {
                let mobile = 10_000 + self.below(80_000);
                writeln!(ldif, "dn: {}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 {mobile}\n", dn(number))?;
            }
            (4..6, Some(number)) => {
                let name = self.below(1_000);
                writeln!(ldif, "dn: {}\nchangetype: modify\nreplace: sn\nsn: Name {name}\n", dn(number))?;
            }
            (6, Some(number)) => {
                self.there.remove(&number);
                writeln!(ldif, "dn: {}\nchangetype: delete\n", dn(number))?;
            }
            _ => {
                self.next += 1;
                let number = self.next;
                self.there.insert(number);
                writeln!(
                    ldif,
                    "dn: {}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: k{number:05}\ncn: K\nsn: New\n",
                    dn(number)
                )?;
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_in_the_directory_is_refused_at_both_gateways_within_two_seconds() -> Result<()> {
    // FS-25, S-22, S-34
    those_who_go_are_refused("syncrepl", &LEFT, Duration::from_secs(2)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_a_directory_that_is_not_followed_is_refused_at_both_gateways_within_the_interval() -> Result<()> {
    // FS-02, FS-25, S-39: a minute, and a run
    those_who_go_are_refused("modify_timestamp", &LEFT, Duration::from_secs(63)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_disabled_in_the_directory_is_refused_at_both_gateways_within_two_seconds() -> Result<()> {
    // FS-26, FD-42, S-22, S-34
    those_who_go_are_refused("syncrepl", &LOCKED, Duration::from_secs(2)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_disabled_in_a_directory_that_is_not_followed_is_refused_at_both_gateways_within_the_interval()
-> Result<()> {
    // FS-02, FS-26, FD-42: a minute, and a run
    those_who_go_are_refused("modify_timestamp", &LOCKED, Duration::from_secs(63)).await
}

/// How somebody goes: an attribute of their entry and its value, and what the store says of them then.
struct Going {
    attribute: &'static str,
    value: &'static str,
    text: &'static str,
}

/// Of no item any longer (FS-25).
const LEFT: Going = Going { attribute: "employeeType", value: "left", text: "no longer in" };
/// By an administrator, for good (FD-42). The server knows the attribute and has nothing that heeds it: it goes on to take the password.
const LOCKED: Going =
    Going { attribute: "pwdAccountLockedTime", value: "000001010000Z", text: "disabled in the directory" };

/// The password is still good, so what refuses is the sync.
async fn those_who_go_are_refused(feed: &str, going: &Going, limit: Duration) -> Result<()> {
    let options = SlapdOptions { database_lines: "moduleload ppolicy.la".into(), ..SlapdOptions::default() };
    let world = OneMachine::start_over(&options, "", "", &[])?;
    let settings = scheduled(&world.slapd, "")?
        .replace(
            "source = { kind = \"domain\" }",
            "source = { kind = \"domain\" }\nfilter = \"(!(employeeType=left))\"",
        )
        .replacen("preset = \"openldap\"", &format!("preset = \"openldap\"\nfeed = \"{feed}\""), 1);
    ensure!(settings.contains(feed), "{settings}");
    world.command_line().apply(world.dir.path(), &settings)?;
    world.command_line().run(&["sync", "now"])?;
    let ann = world.command_line().enrol("ann.archer")?;
    let ben = world.command_line().enrol("ben.hale")?;
    let vpn = Device::new(VPN, world.twinlock.radius_port(), RADIUS_SECRET)?;
    let certificate = world.twinlock.certificate_file();
    let ldap = async |name: &str, password: &str| -> Result<u32> {
        let mut application = Application::connect_tls(&world.twinlock.ldaps_url(), VPN, &certificate).await?;
        code_of(&application.bind(1, name, password).await?)
    };
    ensure!(ldap("ann.archer", &ann.appended(0)?).await? == 0);
    ensure!(vpn.login("ben.hale", &ben.appended(0)?).await? == Answer::Accept);
    // Both have another good code left; from now on it opens nothing.
    if feed == "syncrepl" {
        wait_until_followed(&world).await?;
    }
    let Going { attribute, value, text } = going;
    let leave = |uid: &str, unit: &str| {
        format!(
            "dn: uid={uid},ou={unit},ou=people,{COMPANY_BASE}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n\n"
        )
    };
    world.slapd.modify(&(leave("ann.archer", "engineering") + &leave("ben.hale", "sales")))?;
    // Whoever comes when the time is over is refused, both at once.
    tokio::time::sleep(limit).await;
    let (ann_code, ben_code) = (ann.appended(1)?, ben.appended(1)?);
    let answers = tokio::join!(ldap("ann.archer", &ann_code), vpn.login("ben.hale", &ben_code));
    ensure!(matches!(answers, (Ok(49), Ok(Answer::Reject))), "after {limit:?}: {answers:?}");
    let shown = world.command_line().json(&["user", "show", "ann.archer"])?;
    ensure!(shown.to_string().contains(text), "{shown}");
    // Their passwords are as good as ever: it is not the directory that refuses.
    ensure!(vpn.login("ben.hale", &ben.password).await? == Answer::Reject);
    let (reason, _) = e2e::last_attempt(world.command_line(), "ben.hale")?;
    ensure!(reason == "blocked", "{reason}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn six_who_come_into_an_exempt_group_are_asked_as_before_until_somebody_approves() -> Result<()> {
    // S-40, S-46
    const ROBOTS: &str = "cn=robots,ou=groups";
    let policy = format!(
        "[[policy]]\nname = \"robots\"\nwhen = {{ groups = [\"{ROBOTS},{COMPANY_BASE}\"] }}\nthen = {{ exempt = true }}\n"
    );
    let world = OneMachine::start(6, &policy, "", &[])?;
    let line = world.command_line();
    let one = line.enrol("bulk00003")?;
    let vpn = Device::new(VPN, world.twinlock.radius_port(), RADIUS_SECRET)?;
    ensure!(matches!(vpn.login(&one.uid, &one.password).await?, Answer::Challenge(_)), "before");
    let members: String =
        (1..=6).map(|number| format!("member: uid=bulk{number:05},ou=bulk,ou=people,{COMPANY_BASE}\n")).collect();
    world.slapd.modify(&format!(
        "dn: {ROBOTS},{COMPANY_BASE}\nchangetype: add\nobjectClass: groupOfNames\ncn: robots\n{members}"
    ))?;
    let parked = line.output(&["sync", "now"], "")?;
    ensure!(parked.status.code() == Some(5), "they wait: {parked:?}");
    ensure!(matches!(vpn.login(&one.uid, &one.password).await?, Answer::Challenge(_)), "exempt, and nobody said so");
    ensure!(vpn.login(&one.uid, &one.appended(0)?).await? == Answer::Accept, "their code is as good as before");
    let approvals = line.json(&["sync", "approvals"])?;
    let id = approvals["items"][0]["id"].as_str().with_context(|| approvals.to_string())?;
    line.run(&["sync", "approve", id, "--reason", "they are robots"])?;
    let end = Instant::now() + Duration::from_secs(15);
    while vpn.login(&one.uid, &one.password).await? != Answer::Accept {
        ensure!(Instant::now() < end, "approved, and asked all the same");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    ensure!(e2e::last_attempt(line, &one.uid)?.0 == "exempt");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_everybody_may_read_is_read_and_searched_without_an_account() -> Result<()> {
    // FD-06, FD-07: anonymously for queries, by the person alone for a password
    let access_lines = "access to attrs=userPassword by anonymous auth by * none\naccess to * by * read".to_owned();
    let world = OneMachine::start_over(&SlapdOptions { access_lines, ..SlapdOptions::default() }, "", "", &[])?;
    let line = world.command_line();
    let settings = company_settings(&world.slapd, "")?.replace("enabled = true", "enabled = false");
    let account = settings.lines().find(|entry| entry.starts_with("query_bind = ")).context("a query account")?;
    line.apply(world.dir.path(), &settings.replace(account, "query_bind = { kind = \"anonymous\" }"))?;
    let binds = world.slapd.binds(Slapd::QUERY_DN);
    let dn = format!("uid=nina,ou=sales,ou=people,{COMPANY_BASE}");
    world.slapd.modify(&format!(
        "dn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: nina\ncn: Nina\nsn: New\nuserPassword: {}\n",
        lab::password_of("nina")
    ))?;
    line.run(&["sync", "now", "--accept-source"])?;
    let (there, here) = (directory(&world.slapd)?, users(line)?);
    ensure!(there == here, "{:?}", first_difference(&there, &here));
    let nina = line.enrol("nina")?;
    let vpn = Device::new(VPN, world.twinlock.radius_port(), RADIUS_SECRET)?;
    ensure!(vpn.login("nina", &nina.appended(0)?).await? == Answer::Accept, "{:?}", e2e::last_attempt(line, "nina")?);
    ensure!(vpn.login("nina", &format!("wrong,{}", nina.code(1)?)).await? == Answer::Reject);
    ensure!(world.slapd.binds(Slapd::QUERY_DN) == binds && binds > 0, "the account was used before, and never again");
    Ok(())
}

/// A change of somebody else comes by itself.
async fn wait_until_followed(world: &OneMachine) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(90);
    while !world.twinlock.log().contains("changes of the directory are followed as they happen") {
        ensure!(Instant::now() < end, "the directory is not followed:\n{}", world.twinlock.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let dn = format!("uid=clara.osborn,ou=finance,ou=people,{COMPANY_BASE}");
    world.slapd.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 901822\n"))?;
    while world.command_line().json(&["user", "show", "clara.osborn"])?["phone"] != "+4930901822" {
        ensure!(Instant::now() < end, "a change did not come by itself:\n{}", world.twinlock.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A second directory of people of its own, `bulk00001` and so on, and the settings with both.
fn with_branch(world: &OneMachine, people: usize) -> Result<(Slapd, String)> {
    let dir = world.dir.path().join("branch");
    let options = SlapdOptions { bulk_people: people, ..SlapdOptions::default() };
    let branch = Slapd::start(&dir, &Pki::new(&dir.join("pki"))?, &options)?;
    let alone = company_settings(&branch, "")?;
    let from = alone.find("[[directory]]").context("a directory")?;
    let to = alone.find("[[client]]").context("a client")?;
    let section = alone[from..to].replacen("name = \"acme\"", "name = \"branch\"", 1);
    let item = "[[sync_item]]\nname = \"branch\"\ndirectory = \"branch\"\nsource = { kind = \"domain\" }\nfilter = \"(uid=bulk*)\"\n";
    let settings = scheduled(&world.slapd, &(section + item))?;
    Ok((branch, settings))
}

/// Runs of a directory by the schedule, by their ids.
fn by_schedule(world: &OneMachine, directory: &str) -> Result<BTreeSet<String>> {
    let history = world.command_line().json(&["sync", "history", directory])?;
    let runs = history["items"].as_array().context("runs")?.iter();
    let scheduled = runs.filter(|run| run["trigger"] == "schedule" && run["state"] == "done");
    Ok(scheduled.filter_map(|run| Some(run["id"].as_str()?.to_owned())).collect())
}

/// A change of somebody is here within two seconds.
async fn a_change_comes_at_once(world: &OneMachine, number: u32) -> Result<()> {
    let dn = format!("uid=clara.osborn,ou=finance,ou=people,{COMPANY_BASE}");
    world.slapd.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 {number}\n"))?;
    let changed = Instant::now();
    while world.command_line().json(&["user", "show", "clara.osborn"])?["phone"] != format!("+4930{number}") {
        ensure!(changed.elapsed() < Duration::from_secs(2), "{number} is not here:\n{}", world.twinlock.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_falls_silent_holds_up_no_other_and_goes_on_when_it_is_back() -> Result<()> {
    // FD-02, FS-02, S-00, S-34: in the middle of a run, and before the next ones
    let world = OneMachine::start(0, "", "", &[])?;
    let (branch, settings) = with_branch(&world, 3_000)?;
    world.command_line().apply(world.dir.path(), &settings)?;
    world.command_line().run(&["sync", "now"])?;
    wait_until_followed(&world).await?;
    world.command_line().run(&["sync", "now", "branch", "--no-wait"])?;
    let running = || -> Result<bool> {
        let history = world.command_line().json(&["sync", "history", "branch"])?;
        Ok(history["items"][0]["state"] == "running")
    };
    let end = Instant::now() + Duration::from_secs(30);
    while !running()? {
        ensure!(Instant::now() < end, "no run began");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    branch.process().context("it runs")?.signal("STOP");
    ensure!(running()?, "it was stopped too late");
    let begun = Instant::now();
    world.command_line().run(&["sync", "now", "acme"])?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "whoever asks for another one waits: {:?}", begun.elapsed());
    let known = by_schedule(&world, "acme")?;
    let mut number = 902_000;
    let on_time = loop {
        number += 1;
        a_change_comes_at_once(&world, number).await?;
        let now = by_schedule(&world, "acme")?;
        if now.difference(&known).next().is_some() {
            break begun.elapsed();
        }
        ensure!(begun.elapsed() < Duration::from_secs(70), "no run by the schedule:\n{}", world.twinlock.log());
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    eprintln!("{} changes; the next run by the schedule after {on_time:?}", number - 902_000);
    ensure!(on_time >= Duration::from_secs(58) && on_time < Duration::from_secs(66), "{on_time:?}");
    branch.process().context("it is there")?.signal("CONT");
    let person = format!("uid=bulk00007,ou=bulk,ou=people,{COMPANY_BASE}");
    branch.modify(&format!("dn: {person}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 777777\n"))?;
    let end = Instant::now() + Duration::from_secs(75);
    while world.command_line().json(&["user", "show", "bulk00007"])?["phone"] != "+4930777777" {
        ensure!(Instant::now() < end, "it does not go on by itself:\n{}", world.twinlock.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.command_line().run(&["sync", "now"])?;
    a_change_comes_at_once(&world, number + 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_past_its_lease_writes_nothing_when_it_wakes() -> Result<()> {
    // S-60
    let mut world = Distributed::start(3_000, "", "")?;
    let nodes: Vec<Node> = (1..=2).map(|number| (Part::DirectorySync, number)).collect();
    let leads = |world: &Distributed, node: Node| leading(&world.cluster.log_file(node));
    let first = *nodes.iter().max_by_key(|node| leads(&world, **node)).context("a leader")?;
    let second = *nodes.iter().find(|node| **node != first).context("another")?;
    let before = leads(&world, second);
    // In the middle of a run: every number changes.
    let renumber: String = (1..=3_000)
        .map(|number| format!("dn: uid=bulk{number:05},ou=bulk,ou=people,{COMPANY_BASE}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 1{number:05}\n\n"))
        .collect();
    world.slapd.modify(&renumber)?;
    world.command_line().run(&["sync", "now", "--no-wait"])?;
    let end = Instant::now() + Duration::from_secs(30);
    while runs(&world)?.first().is_none_or(|run| run["state"] != "running") {
        ensure!(Instant::now() < end, "no run began");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stale = world.command_line().json(&["sync", "status"])?["epoch"].as_u64().context("an epoch")?;
    world.cluster.process(first).context("it runs")?.signal("STOP");
    let stopped = Instant::now();
    let end = Instant::now() + Duration::from_secs(45);
    while leads(&world, second) == before {
        ensure!(Instant::now() < end, "nobody took over");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep_until((stopped + LEASE * 2).into()).await;
    world.cluster.process(first).context("it is there")?.signal("CONT");
    let end = Instant::now() + Duration::from_secs(30);
    while !world
        .cluster
        .log(first)
        .lines()
        .any(|line| line.contains("lease lost") || line.contains("another leader has begun"))
    {
        ensure!(Instant::now() < end, "it does not know that it was replaced");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.command_line().run(&["sync", "now"])?;
    let (there, here) = (directory(&world.slapd)?, sample(&world, 40)?);
    for (uid, person) in &here {
        ensure!(there.get(uid) == Some(person), "{uid}: {person:?}, the directory has {:?}", there.get(uid));
    }
    let runs = runs(&world)?;
    let in_state = |state: &str| runs.iter().filter(|run| run["state"] == state).count();
    ensure!(in_state("done") >= 2 && in_state("running") == 0, "{runs:#?}");
    ensure!(in_state("abandoned") >= 1, "what the stale leader had begun is abandoned: {runs:#?}");
    // Whatever it did when it woke: what is written under its epoch is refused, and the store says so.
    let mut config: toml::Table = toml::from_str(&std::fs::read_to_string(world.cluster.config_file(first))?)?;
    config.remove("version");
    let config: directory_sync::Config = config.try_into()?;
    let store = service_kit::grpc::Channel::new("user-store", &config.endpoints.user_store, &config.grpc)?;
    let store = proto::remote::Remote::new(proto::user_store::sync_client::SyncClient::new(store));
    let begin = |epoch: u64| {
        let (directory, mode) = ("acme".to_owned(), "full".to_owned());
        tonic::Request::new(BeginRunRequest { epoch, directory, mode, ..BeginRunRequest::default() })
    };
    let abandoned = runs.iter().find(|run| run["state"] == "abandoned").context("the one of before")?;
    let run_id = abandoned["id"].as_str().context("an id")?.to_owned();
    let late = SyncedUser { username: "late".into(), ..SyncedUser::default() };
    let batch =
        ApplyBatchRequest { epoch: stale, run_id: run_id.clone(), users: vec![late], ..ApplyBatchRequest::default() };
    let end_of_it = FinishRunRequest { epoch: stale, run_id, complete: true, ..FinishRunRequest::default() };
    let refused = [
        store.begin_run(begin(stale)).await.err().context("a stale epoch begins")?,
        store.apply_batch(tonic::Request::new(batch)).await.err().context("a stale epoch writes")?,
        store.finish_run(tonic::Request::new(end_of_it)).await.err().context("a stale epoch ends a run")?,
    ];
    ensure!(refused.iter().all(|status| status.code() == tonic::Code::FailedPrecondition), "{refused:?}");
    let is_said = (1..=2).any(|number| said(&world.cluster.log((Part::UserStore, number)), "sync_fenced", stale));
    ensure!(is_said, "the store does not say that it refused epoch {stale}");
    Ok(())
}

/// The newest first.
fn runs(world: &Distributed) -> Result<Vec<Value>> {
    let history = world.command_line().json(&["sync", "history"])?;
    Ok(history["items"].as_array().context("runs")?.clone())
}

/// How often this process began to lead.
fn leading(log: &Path) -> usize {
    std::fs::read_to_string(log)
        .unwrap_or_default()
        .lines()
        .filter(|line| line.contains("sync_leader") && line.contains("\"epoch\""))
        .count()
}

fn sample(world: &Distributed, count: u32) -> Result<People> {
    let mut people = People::new();
    for number in (1..=3_000).step_by(3_000 / count as usize) {
        let uid = format!("bulk{number:05}");
        let detail = world.command_line().json(&["user", "show", &uid])?;
        let text = |name: &str| detail[name].as_str().or(detail["user"][name].as_str()).unwrap_or_default().to_owned();
        people.insert(uid, (text("name"), text("phone")));
    }
    Ok(people)
}
