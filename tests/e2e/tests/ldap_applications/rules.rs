//! What the settings say of an LDAP client, before a real directory and behind a real HAProxy: remembered logins, observing, groups and
//! policies, trusted networks, and the PROXY protocol. Each client is an address of loopback.

use anyhow::{Context, Result, ensure};
use e2e::{Application, OneMachine, code_of, last_attempt, story};
use lab::{Person, Proc, free_port, password_of, program, run, wait_until};
use serde_json::{Value, json};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    time::Duration,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const BALANCER: IpAddr = address(1);
const STRANGER: IpAddr = address(2);
/// Two places of one client that remembers, and another application.
const WIKI: IpAddr = address(10);
const WIKI_TOO: IpAddr = address(11);
const BOARD: IpAddr = address(12);
/// The same application for every password.
const DESK: IpAddr = address(13);
const WATCHED: IpAddr = address(14);
const SALES: IpAddr = address(15);
const OFFICE: IpAddr = address(16);
const OUTSIDE: IpAddr = address(17);
const NOBODY: IpAddr = address(99);

const REFUSED: u32 = 49;
const SOON: Duration = Duration::from_secs(60);

const fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 5, last))
}

const SETTINGS: &str = r#"
[[client]]
name = "wiki"
protocol = "ldap"
sources = ["127.0.5.10/31"]
target = "acme"
tls = "danger_optional"
appended = "optional"
remember = { kind = "user_source_password", idle_seconds = 60, life_seconds = 60 }

[[client]]
name = "board"
protocol = "ldap"
sources = ["127.0.5.12/32"]
target = "acme"
tls = "danger_optional"
appended = "optional"
remember = { kind = "user_source_password", idle_seconds = 1800, life_seconds = 28800 }

[[client]]
name = "desk"
protocol = "ldap"
sources = ["127.0.5.13/32"]
target = "acme"
tls = "danger_optional"
appended = "optional"
remember = { kind = "user", idle_seconds = 1800, life_seconds = 28800 }

[[client]]
name = "watched"
protocol = "ldap"
sources = ["127.0.5.14/32"]
target = "acme"
tls = "danger_optional"

[[client]]
name = "crm"
protocol = "ldap"
sources = ["127.0.5.15/32"]
target = "acme"
tls = "danger_optional"
appended = "optional"
groups = ["cn=sales,ou=groups,dc=acme,dc=example"]

[[client]]
name = "intranet-web"
protocol = "ldap"
sources = ["127.0.5.16/31"]
target = "acme"
tls = "danger_optional"
appended = "required"
trusted_networks = ["127.0.5.16/32"]

[[client]]
name = "neighbour"
protocol = "ldap"
sources = ["127.0.5.2/32"]
target = "acme"
tls = "danger_optional"

[[policy]]
name = "travellers-at-the-crm"
when = { clients = ["crm"], groups = ["cn=vpn-users,ou=groups,dc=acme,dc=example"] }
then = { exempt = true }
"#;

/// Stopped in the order of its fields.
struct World {
    haproxy: Haproxy,
    machine: OneMachine,
    http: reqwest::Client,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_ldap_clients_hold() -> Result<()> {
    let machine = OneMachine::start(0, SETTINGS, "", &["ldap.proxy_protocol_from=127.0.5.1/32"])?;
    let haproxy = Haproxy::start(machine.dir.path(), machine.twinlock.ldap_port())?;
    service_kit::tls::install_provider();
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build()?;
    let mut world = World { haproxy, machine, http };
    story!(&mut world;
        behind_haproxy_the_address_of_the_application_chooses_the_client,
        a_header_of_version_one_or_of_a_stranger_is_refused,
        what_is_remembered_counts_for_the_same_user_place_and_password_alone,
        what_is_remembered_ends_when_the_settings_say,
        each_change_ends_what_is_remembered_at_once,
        what_is_remembered_is_listed_and_cleared_by_api_and_command_line,
        a_client_that_is_observed_lets_in_on_the_password_and_says_what_would_have_been,
        groups_and_policies_decide_who_comes_in_and_who_is_asked,
        a_trusted_network_needs_the_password_alone_through_haproxy_too,
    )
}

async fn behind_haproxy_the_address_of_the_application_chooses_the_client(world: &mut World) -> Result<()> {
    // FB-10, FL-04
    let ann = world.enrol("ann.archer")?;
    for (from, client, offset) in [(WIKI, "wiki", 0), (BOARD, "board", 1)] {
        let code = world.bind_through(world.haproxy.version2, from, &ann.uid, &ann.appended(offset)?).await?;
        ensure!(code == Some(0), "{client}: {code:?}");
        let event = world.last_event(&ann.uid)?;
        ensure!(event["client"] == client && event["client_ip"] == from.to_string(), "{event}");
    }
    let nobody = world.bind_through(world.haproxy.version2, NOBODY, &ann.uid, "x").await?;
    ensure!(nobody.is_none(), "an address of no client: {nobody:?}");
    Ok(())
}

async fn a_header_of_version_one_or_of_a_stranger_is_refused(world: &mut World) -> Result<()> {
    // FB-10: nobody but a listed balancer says whom it speaks for, and that in the second version
    let ben = world.enrol("ben.hale")?;
    let typed = ben.appended(0)?;
    for (what, port) in [("version 1", world.haproxy.version1), ("a stranger", world.haproxy.stranger)] {
        let answer = world.bind_through(port, WIKI, &ben.uid, &typed).await?;
        ensure!(answer.is_none(), "{what}: {answer:?}");
    }
    // The balancer's address is none of a client's own.
    ensure!(world.bind_at(BALANCER, &ben.uid, &typed).await?.is_none(), "a balancer without a header");
    ensure!(world.machine.slapd.binds(&ben.uid) == 0, "the directory was asked");
    let log = world.machine.twinlock.log();
    ensure!(log.contains("\"drop\":\"proxy_header\""), "the log does not say why");
    Ok(())
}

async fn what_is_remembered_counts_for_the_same_user_place_and_password_alone(world: &mut World) -> Result<()> {
    // V-50 ★, V-51: each field alone makes it another login
    let clara = world.enrol("clara.osborn")?;
    let david = world.enrol("david.baker")?;
    ensure!(world.bind(WIKI, &clara.uid, &clara.password).await? == REFUSED, "nothing to remember yet");
    let typed = clara.appended(0)?;
    ensure!(world.bind(WIKI, &clara.uid, &typed).await? == 0);
    ensure!(world.bind(WIKI, &clara.uid, &clara.password).await? == 0, "not remembered");
    ensure!(world.last(&clara.uid)? == "remembered");
    ensure!(world.bind(WIKI, &clara.dn("finance"), &clara.password).await? == 0, "the same user under another name");
    ensure!(world.bind(WIKI, &clara.uid, &typed).await? == REFUSED, "a code counted twice");
    ensure!(world.bind(WIKI_TOO, &clara.uid, &clara.password).await? == REFUSED, "another place");
    ensure!(world.bind(BOARD, &clara.uid, &clara.password).await? == REFUSED, "another application");
    ensure!(world.bind(WIKI, &clara.uid, "Nonsense").await? == REFUSED, "another password");
    ensure!(world.bind(WIKI, &david.uid, &david.password).await? == REFUSED, "somebody else");
    Ok(())
}

async fn what_is_remembered_ends_when_the_settings_say(world: &mut World) -> Result<()> {
    // V-50: by whichever comes first, and a use puts off the idle end, not the absolute one
    let emma = world.enrol("emma.irwin")?;
    ensure!(world.bind(WIKI, &emma.uid, &emma.appended(0)?).await? == 0);
    ensure!(world.bind(BOARD, &emma.uid, &emma.appended(1)?).await? == 0);
    let (wiki, board) = (world.times(&emma.uid, "wiki")?, world.times(&emma.uid, "board")?);
    ensure!(wiki.1 - wiki.0 == time::Duration::seconds(60), "{wiki:?}");
    ensure!(board.1 - board.0 == time::Duration::seconds(1800), "{board:?}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    ensure!(world.bind(WIKI, &emma.uid, &emma.password).await? == 0);
    ensure!(world.bind(BOARD, &emma.uid, &emma.password).await? == 0);
    ensure!(world.times(&emma.uid, "wiki")? == wiki, "a use moved the absolute end");
    let used = world.times(&emma.uid, "board")?;
    ensure!(used.0 == board.0 && used.1 > board.1, "a use did not put off the idle end: {used:?}");
    Ok(())
}

async fn each_change_ends_what_is_remembered_at_once(world: &mut World) -> Result<()> {
    // V-52. `desk` remembers the user alone, so that nothing but the change is another.
    for (uid, department, what) in [
        ("felix.price", "sales", "another password"),
        ("greta.cole", "finance", "disabled, and enabled again"),
        ("hugo.jones", "support", "another factor"),
        ("ida.reed", "engineering", "a block"),
    ] {
        let person = world.enrol(uid)?;
        ensure!(world.bind(DESK, uid, &person.appended(0)?).await? == 0, "{what}");
        ensure!(world.bind(DESK, uid, &person.password).await? == 0, "{what}: not remembered");
        let mut password = person.password.clone();
        match what {
            "another password" => {
                password = "Another-1".into();
                world.change_password(&person, department, &password)?;
            }
            "another factor" => {
                let another = world.run_json(&["factor", "enrol", uid])?;
                let seed = another["seed"].as_str().context("a seed")?;
                let id = another["factor_id"].as_str().context("a factor")?;
                let code = Person::new(uid, seed).code(0)?;
                world.machine.command_line().run_with_input(&["factor", "confirm", uid, id], &code)?;
            }
            "a block" => {
                world.run(&["user", "block", uid, "--reason", "phone stolen", "--yes"])?;
                world.run(&["user", "unblock", uid, "--reason", "found"])?;
            }
            _ => {
                world.run(&["user", "disable", uid, "--reason", "on leave"])?;
                ensure!(world.bind(DESK, uid, &password).await? == REFUSED, "disabled");
                world.run(&["user", "enable", uid, "--reason", "back"])?;
            }
        }
        ensure!(world.bind(DESK, uid, &password).await? == REFUSED, "{what}: still remembered");
        ensure!(world.last(uid)? == "method_impossible", "{what}: {}", world.last(uid)?);
    }
    Ok(())
}

async fn what_is_remembered_is_listed_and_cleared_by_api_and_command_line(world: &mut World) -> Result<()> {
    // V-52
    let key = world.run_json(&["api-key", "create", "story", "--role", "admin"])?;
    let key = key["key"].as_str().context("a key")?.to_owned();
    let people = [world.enrol("jonas.dyer")?, world.enrol("karla.keller")?];
    for person in &people {
        ensure!(world.bind(DESK, &person.uid, &person.appended(0)?).await? == 0);
        ensure!(world.bind(DESK, &person.uid, &person.password).await? == 0, "not remembered");
    }
    let [jonas, karla] = &people;
    let listed = world.api(&key, &format!("/remembered?user={}", jonas.uid), None).await?;
    let items = listed["items"].as_array().context("items")?;
    ensure!(items.len() == 1 && items[0]["client"] == "desk" && items[0]["place"] == DESK.to_string(), "{listed}");
    ensure!(world.run(&["remember", "list", &karla.uid])?.contains("desk"));

    let cleared = world.api(&key, "/remembered/clear", Some(json!({"user": jonas.uid}))).await?;
    ensure!(cleared["cleared"] == 1, "{cleared}");
    ensure!(world.bind(DESK, &jonas.uid, &jonas.password).await? == REFUSED, "cleared by the API");
    ensure!(world.bind(DESK, &karla.uid, &karla.password).await? == 0, "somebody else's was cleared");
    world.run(&["remember", "clear", "--client", "desk", "--yes"])?;
    ensure!(world.bind(DESK, &karla.uid, &karla.password).await? == REFUSED, "cleared by the command line");
    ensure!(!world.run(&["remember", "list", &karla.uid])?.contains("desk"));
    Ok(())
}

async fn a_client_that_is_observed_lets_in_on_the_password_and_says_what_would_have_been(
    world: &mut World,
) -> Result<()> {
    // FB-04
    let leo = world.enrol("leo.stone")?;
    ensure!(world.bind(WATCHED, &leo.uid, &leo.password).await? == REFUSED, "before");
    world.run(&["client", "observe", "watched", "on", "--days", "1"])?;
    world.in_time(async || Ok(world.bind(WATCHED, &leo.uid, &leo.password).await? == 0)).await?;
    let event = world.last_event(&leo.uid)?;
    ensure!(event["reason"] == "observed", "{event}");
    ensure!(event.to_string().contains("observed: would refuse, method_impossible"), "{event}");
    ensure!(world.bind(WATCHED, &leo.uid, "Nonsense").await? == REFUSED, "the password still decides");
    // What is no second factor stays in force.
    world.run(&["user", "block", &leo.uid, "--reason", "phone stolen", "--yes"])?;
    ensure!(world.bind(WATCHED, &leo.uid, &leo.password).await? == REFUSED, "blocked");
    world.run(&["user", "unblock", &leo.uid, "--reason", "found"])?;
    world.run(&["client", "observe", "watched", "off"])?;
    world.in_time(async || Ok(world.bind(WATCHED, &leo.uid, &leo.password).await? == REFUSED)).await
}

async fn groups_and_policies_decide_who_comes_in_and_who_is_asked(world: &mut World) -> Result<()> {
    // V-01: who is not of the group of the client is refused before a policy is asked
    let noah = world.enrol("noah.lang")?;
    ensure!(world.bind(SALES, &noah.uid, &noah.password).await? == REFUSED, "a member without a code");
    ensure!(world.bind(SALES, &noah.uid, &noah.appended(0)?).await? == 0, "a member");
    // Those who travel are members of both groups; mia is of theirs alone.
    ensure!(world.bind(SALES, "jonas.dyer", &password_of("jonas.dyer")).await? == 0, "exempt");
    ensure!(world.last("jonas.dyer")? == "exempt", "{}", world.last("jonas.dyer")?);
    let mia = world.enrol("mia.eaton")?;
    ensure!(world.bind(SALES, &mia.uid, &mia.appended(0)?).await? == REFUSED, "nobody of the group");
    ensure!(world.last(&mia.uid)? == "not_in_group", "{}", world.last(&mia.uid)?);
    Ok(())
}

async fn a_trusted_network_needs_the_password_alone_through_haproxy_too(world: &mut World) -> Result<()> {
    // V-54 ★
    let paul = world.enrol("paul.fisher")?;
    ensure!(world.bind(OFFICE, &paul.uid, &paul.password).await? == 0, "in the office");
    ensure!(world.last(&paul.uid)? == "trusted_network");
    ensure!(world.bind(OUTSIDE, &paul.uid, &paul.password).await? == REFUSED, "outside");
    let through = world.haproxy.version2;
    ensure!(world.bind_through(through, OFFICE, &paul.uid, &paul.password).await? == Some(0), "by the balancer");
    ensure!(world.last(&paul.uid)? == "trusted_network");
    ensure!(world.bind_through(through, OUTSIDE, &paul.uid, &paul.password).await? == Some(REFUSED));
    ensure!(world.bind(OUTSIDE, &paul.uid, &paul.appended(0)?).await? == 0, "outside, with a code");
    Ok(())
}

impl World {
    fn enrol(&self, uid: &str) -> Result<Person> {
        let person = self.machine.command_line().enrol(uid)?;
        // The directory knows a number of everybody; here are codes alone.
        self.run(&["user", "edit", uid, "--allowed-methods", "code"])?;
        Ok(person)
    }

    /// The result code of one bind on a connection of its own.
    async fn bind(&self, from: IpAddr, name: &str, password: &str) -> Result<u32> {
        self.bind_at(from, name, password).await?.context("closed instead of an answer")
    }

    async fn bind_at(&self, from: IpAddr, name: &str, password: &str) -> Result<Option<u32>> {
        self.bind_through(self.machine.twinlock.ldap_port(), from, name, password).await
    }

    /// `None`: closed without an answer.
    async fn bind_through(&self, port: u16, from: IpAddr, name: &str, password: &str) -> Result<Option<u32>> {
        let mut application = Application::connect(&format!("ldap://127.0.0.1:{port}"), from).await?;
        match application.bind(1, name, password).await {
            Ok(answer) => Ok(Some(code_of(&answer)?)),
            Err(error) if error.to_string().contains("closed instead of") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        self.machine.command_line().run(arguments)
    }

    fn run_json(&self, arguments: &[&str]) -> Result<Value> {
        self.machine.command_line().json(arguments)
    }

    fn last(&self, uid: &str) -> Result<String> {
        Ok(last_attempt(self.machine.command_line(), uid)?.0)
    }

    fn last_event(&self, uid: &str) -> Result<Value> {
        let events = self.machine.command_line().audit()?;
        let of = |event: &&Value| event["kind"] == "authentication" && event["user"].as_str() == Some(uid);
        events.iter().rfind(of).cloned().with_context(|| format!("no event of {uid}"))
    }

    /// Begin and end of what is remembered of somebody at a client.
    fn times(&self, uid: &str, client: &str) -> Result<(OffsetDateTime, OffsetDateTime)> {
        let listed = self.run_json(&["remember", "list", uid])?;
        let items = listed.as_array().or_else(|| listed["items"].as_array()).with_context(|| listed.to_string())?;
        let item = items.iter().find(|item| item["client"] == client).with_context(|| listed.to_string())?;
        let moment = |name: &str| -> Result<_> {
            let text = item[name].as_str().with_context(|| format!("{name} in {item}"))?;
            Ok(OffsetDateTime::parse(text, &Rfc3339)?)
        };
        Ok((moment("created")?, moment("expires")?))
    }

    /// By the person, through Twinlock, at a client that remembers nothing.
    fn change_password(&self, person: &Person, department: &str, new: &str) -> Result<()> {
        let mut command = Command::new(program("ldappasswd")?);
        command.env("LDAPTLS_CACERT", self.machine.twinlock.certificate_file());
        command.args(["-x", "-H", &self.machine.twinlock.ldaps_url(), "-D", &person.dn(department)]);
        run(command.args(["-w", &person.appended(1)?, "-a", &person.password, "-s", new]))?;
        Ok(())
    }

    async fn api(&self, key: &str, path: &str, change: Option<Value>) -> Result<Value> {
        let url = format!("{}/api/v1{path}", self.machine.twinlock.portal_url());
        let request = match &change {
            Some(change) => self.http.post(url).json(change),
            None => self.http.get(url),
        };
        let answer = request.bearer_auth(key).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Waits for settings to be in force.
    async fn in_time(&self, mut so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let end = tokio::time::Instant::now() + SOON;
        while !so().await? {
            ensure!(tokio::time::Instant::now() < end, "not within a minute");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// HAProxy with a door for each thing it says of the application.
struct Haproxy {
    _process: Proc,
    version2: u16,
    version1: u16,
    /// The second version, from an address that is no balancer's.
    stranger: u16,
}

impl Haproxy {
    fn start(dir: &Path, ldap: u16) -> Result<Self> {
        let (version2, version1, stranger) = (free_port(), free_port(), free_port());
        let mut text =
            "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n"
                .to_owned();
        for (port, from, header) in [
            (version2, BALANCER, "send-proxy-v2"),
            (version1, BALANCER, "send-proxy"),
            (stranger, STRANGER, "send-proxy-v2"),
        ] {
            text += &format!(
                "listen at-{port}\n    bind 127.0.0.1:{port}\n    server twinlock 127.0.0.1:{ldap} source {from} {header}\n"
            );
        }
        let file = dir.join("haproxy.cfg");
        fs::write(&file, text)?;
        let mut command = Command::new(program("haproxy")?);
        command.arg("-db").arg("-f").arg(&file);
        let process = Proc::spawn("haproxy", command, &dir.join("haproxy.log"))?;
        for port in [version2, version1, stranger] {
            let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            wait_until("HAProxy", SOON, listens).with_context(|| process.log())?;
        }
        Ok(Self { _process: process, version2, version1, stranger })
    }
}
