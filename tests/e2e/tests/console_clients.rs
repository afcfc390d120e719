//! Clients and targets in a real browser, over the running product: devices log in through a real gateway, of which one does not sign
//! and one is only observed; one target has a server that is silent and a FreeRADIUS that answers. Pictures are left in
//! `target/screenshots`.

#[path = "portal_browser/browser.rs"]
mod browser;

use anyhow::{Context, Result, ensure};
use browser::{Browser, DARK, DARK_PHONE, DESKTOP, PHONE};
use e2e::{Answer, Device, OneMachine, story};
use lab::freeradius::{FreeRadius, HomeOptions, HomeUser};
use lab::{Pki, RADIUS_SECRET, private_file};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

/// A device that knows no Message-Authenticator.
const OLD_VPN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));
/// One whose passwords a RADIUS server checks.
const CAMPUS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// Gateways tell what they have seen every half minute.
const TOLD: Duration = Duration::from_secs(90);

struct World {
    browser: Browser,
    machine: OneMachine,
    _home: FreeRadius,
    /// Takes requests and answers none.
    _silent: UdpSocket,
    silent: String,
    well: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_looks_at_clients_and_targets() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &["portal.console=true", "radius.reject_delay_ms=500"])?;
    let dir = machine.dir.path();
    let users = vec![HomeUser::person("ben.hale")];
    let home = FreeRadius::home(dir, &Pki::new(&dir.join("home-pki"))?, &HomeOptions { users, ..Default::default() })?;
    private_file(&dir.join("home.secret"), home.secret())?;
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (silent_port, port) = (silent.local_addr()?.port(), home.auth_address().port());
    machine.settings(&clients_and_targets(silent_port, &home)).await?;
    let key = machine.command_line().json(&["api-key", "create", "desk", "--role", "owner"])?;
    let key = key["key"].as_str().context("a key")?.to_owned();
    let browser = Browser::start(dir).await?;
    let (silent_place, well) = (format!("127.0.0.1:{silent_port}"), format!("127.0.0.1:{port}"));
    let mut world = World { browser, machine, _home: home, _silent: silent, silent: silent_place, well };
    world.open("/console").await?;
    world.browser.type_into("#key", &key).await?;
    world.browser.follow("button.main").await?;
    story!(&mut world;
        what_was_never_seen_is_said_so,
        devices_log_in_and_what_is_seen_of_them_is_told,
        who_is_only_observed_is_red_until_it_ends,
        a_target_shows_which_of_its_servers_answers,
        the_overview_names_what_is_unsafe,
    )
}

fn clients_and_targets(silent: u16, home: &FreeRadius) -> String {
    let client = |name: &str, address: IpAddr, target: &str, more: &str| {
        format!(
            "\n[[client]]\nname = \"{name}\"\nprotocol = \"radius\"\nsources = [\"{address}/32\"]\ntarget = \"{target}\"\n\
             secret = \"file:radius.secret\"\nappended = \"required\"\n{more}\n"
        )
    };
    let server = |authentication: u16, accounting: u16| {
        format!(
            "[[target.servers]]\naddress = \"127.0.0.1\"\nauthentication_port = {authentication}\n\
             accounting_port = {accounting}\nsecret = \"file:home.secret\"\nmessage_authenticator = \"auto\"\n"
        )
    };
    let target =
        "\n[[target]]\nname = \"home\"\nkind = \"radius\"\ndirectory = \"acme\"\nresponse_window_seconds = 5\n";
    let (well, accounting) = (home.auth_address().port(), home.acct_address().port());
    [
        target.to_owned(),
        // Nobody ever asks for accounting there.
        server(silent, if silent == 1813 { 1814 } else { 1813 }),
        server(well, accounting),
        client("old-vpn", OLD_VPN, "acme", "message_authenticator = \"no\"\napplication = \"The old VPN\""),
        client("campus", CAMPUS, "home", "name_forms = [\"bare\", \"upn\"]\npassword_protocols = [\"pap\"]"),
    ]
    .concat()
}

async fn what_was_never_seen_is_said_so(world: &mut World) -> Result<()> {
    // FA-05
    world.open("/console/clients").await?;
    let row = world.row("#clients", "campus").await?;
    ensure!(row.contains("never") && row.contains("to change"), "{row}");
    world.open("/console/clients/campus").await?;
    let said = world.browser.text("#warnings").await?;
    ensure!(said.contains("was never seen"), "{said}");
    world.browser.no_complaint().await
}

async fn devices_log_in_and_what_is_seen_of_them_is_told(world: &mut World) -> Result<()> {
    //
    let ann = world.machine.command_line().enrol("ann.archer")?;
    let old = world.device(OLD_VPN)?.exchange(&ann.uid, &ann.appended(0)?, None).await?.unsigned()?;
    ensure!(old.answer(5).await? == Answer::Accept, "the device that does not sign");
    let ben = world.machine.command_line().enrol("ben.hale")?;
    ensure!(world.device(CAMPUS)?.login(&ben.uid, &ben.appended(0)?).await? == Answer::Accept, "by the second server");
    // in a form that the client does not list
    let name = format!("uid={},ou=sales,ou=people,{}", ben.uid, lab::COMPANY_BASE);
    ensure!(world.device(CAMPUS)?.login(&name, &ben.appended(1)?).await? == Answer::Reject, "by a DN");
    let end = Instant::now() + TOLD;
    loop {
        world.open("/console/clients/old-vpn").await?;
        if world.browser.text("#seen").await?.contains("sends pap") {
            break;
        }
        ensure!(Instant::now() < end, "nothing is told: {}", world.browser.text("main").await?);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let seen = world.browser.text("#seen").await?;
    ensure!(seen.contains("in the last hour") && seen.contains("Message-Authenticator 0, without "), "{seen}");
    let weak = world.browser.text("#weaknesses").await?;
    ensure!(weak.contains("requests had no Message-Authenticator: switch it on at the device"), "{weak}");
    world.see("console-client", "old-vpn").await?;
    world.browser.picture(DARK_PHONE, &picture("console-client-phone-dark")?).await?;
    world.browser.look_with(DESKTOP).await?;
    let told = world.machine.command_line().run(&["client", "show", "old-vpn", "-o", "table"])?;
    ensure!(
        told.contains("requests had no Message-Authenticator: switch it on"),
        "the command line says something else: {told}"
    );
    world.browser.no_complaint().await
}

async fn who_is_only_observed_is_red_until_it_ends(world: &mut World) -> Result<()> {
    // FB-04
    world.machine.command_line().run(&["client", "observe", "vpn", "on", "--days", "3"])?;
    world.open("/console/clients").await?;
    let row = world.row("#clients", "vpn").await?;
    ensure!(row.contains("only observed"), "{row}");
    world.see("console-clients", "Clients").await?;
    world.browser.picture(DARK, &picture("console-clients-dark")?).await?;
    world.browser.look_with(DESKTOP).await?;
    world.browser.follow("a[href='/console/clients/vpn']").await?;
    let said = world.browser.text("#weaknesses").await?;
    ensure!(said.contains("Only observed until") && said.contains("observe vpn off"), "{said}");
    let red =
        world.browser.value("getComputedStyle(document.querySelector('#weaknesses')).borderInlineStartColor").await?;
    ensure!(red == "rgb(163, 38, 42)", "{red}");
    world.see("console-client-observed", "vpn").await?;
    world.machine.command_line().run(&["client", "observe", "vpn", "off"])?;
    world.open("/console/clients/vpn").await?;
    ensure!(world.browser.value("document.querySelector('#weaknesses')").await?.is_null());
    world.browser.no_complaint().await
}

async fn a_target_shows_which_of_its_servers_answers(world: &mut World) -> Result<()> {
    //
    let end = Instant::now() + TOLD;
    loop {
        world.open("/console/targets").await?;
        let silent = world.row("main table", &world.silent.clone()).await?;
        if silent.contains("zombie") || silent.contains("dead") {
            break;
        }
        ensure!(Instant::now() < end, "the silent server is {silent}");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let well = world.row("main table", &world.well.clone()).await?;
    ensure!(well.contains("alive"), "{well}");
    world.see("console-targets", "Targets").await?;
    world.browser.picture(DARK, &picture("console-targets-dark")?).await?;
    world.browser.look_with(DESKTOP).await?;
    let told = world.machine.command_line().run(&["target", "show", "home", "-o", "table"])?;
    ensure!(told.contains(&format!("server {}, node ", world.silent)) && told.contains("alive"), "{told}");
    world.browser.no_complaint().await
}

async fn the_overview_names_what_is_unsafe(world: &mut World) -> Result<()> {
    //
    world.open("/console").await?;
    let open = world.browser.text("#open").await?;
    ensure!(open.contains("old-vpn") && !open.contains("campus"), "{open}");
    world.see("console-overview-open", "Overview").await?;
    world.browser.follow("#open a").await?;
    ensure!(world.browser.text("h1").await? == "old-vpn");
    world.browser.no_complaint().await
}

impl World {
    async fn open(&mut self, path: &str) -> Result<()> {
        self.browser.open(&format!("{}{path}", self.machine.twinlock.portal_url())).await
    }

    fn device(&self, from: IpAddr) -> Result<Device> {
        Device::new(from, self.machine.twinlock.radius_port(), RADIUS_SECRET)
    }

    /// What the row of a table says that begins with this.
    async fn row(&mut self, table: &str, begins: &str) -> Result<String> {
        let row = format!(
            "[...document.querySelectorAll({:?})].map(it => it.innerText).find(it => it.startsWith({begins:?})) || ''",
            format!("{table} tbody tr")
        );
        Ok(self.browser.value(&row).await?.as_str().context("a text")?.to_owned())
    }

    /// The page has this heading and no script, fits both screens from side to side, and is pictured on both.
    async fn see(&mut self, page: &str, heading: &str) -> Result<()> {
        let found = self.browser.text("h1").await?;
        ensure!(found == heading, "{found:?} instead of {heading:?}: {}", self.browser.text("main").await?);
        ensure!(self.browser.value("document.scripts.length").await? == 0, "{page} has script");
        self.browser.pictures(page, &[PHONE, DESKTOP]).await
    }
}

fn picture(name: &str) -> Result<std::path::PathBuf> {
    let folder = lab::repository().join("target/screenshots");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{name}.png")))
}
