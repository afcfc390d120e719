//! A phone and a company: the web app of `twinlock serve` in a real browser of phone size, connected from the self-service in another
//! one, answering logins that a VPN asks for by RADIUS before a real OpenLDAP. Pictures are left in `target/screenshots`.

#[path = "portal_browser/browser.rs"]
mod browser;

use anyhow::{Context, Result, bail, ensure};
use browser::{Browser, DARK_PHONE, DESKTOP, PHONE};
use e2e::{Answer, Device, OneMachine, last_attempt, story};
use lab::phones::{BrowserSide, PushService};
use lab::{RADIUS_SECRET, password_of};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const UID: &str = "ann.archer";
/// Can show a number.
const VPN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Waits in silence.
const DESKTOPS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));

struct World {
    phone: Browser,
    desk: Browser,
    machine: OneMachine,
    push: PushService,
    subscriber: BrowserSide,
    /// The code that the phone showed when it was connected: another one is spent by then.
    shown: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_with_the_app_on_the_phone_signs_in_to_the_vpn() -> Result<()> {
    // FM-01, FM-04, FM-08, V-20 to V-24
    let machine = OneMachine::start(0, "", "", &["radius.reject_delay_ms=500"])?;
    machine.settings(&settings(COOL_DOWN_SECONDS)).await?;
    let push = PushService::start().await?;
    let subscriber = push.subscribe("chromium");
    let desk = Browser::start(&machine.dir.path().join("desk")).await?;
    let mut phone = Browser::start(&machine.dir.path().join("phone")).await?;
    phone.look_with(PHONE).await?;
    phone.give_authenticator().await?;
    phone.subscribe_as(&machine.twinlock.portal_url(), &subscriber.subscription()).await?;
    let mut world = World { phone, desk, machine, push, subscriber, shown: String::new() };
    story!(&mut world;
        the_phone_is_connected_from_the_self_service_and_makes_codes_too,
        the_number_that_the_vpn_shows_is_typed_on_the_phone_and_lets_in,
        the_phone_is_woken_by_a_message_that_names_nobody,
        a_refusal_rejects_and_nothing_more_is_asked_for_a_while,
        a_code_of_the_phone_opens_while_it_cools_down,
        without_a_network_the_page_says_so_and_shows_a_code,
        not_me_blocks_the_account,
    )
}

/// Longer than what is told of it takes.
const COOL_DOWN_SECONDS: u32 = 300;

fn settings(cool_down_seconds: u32) -> String {
    format!(
        r#"
[push]
hosts = ["127.0.0.1"]
contact = "mailto:ops@acme.example"

[verification]
cool_down_seconds = {cool_down_seconds}

[[client]]
name = "desktops"
protocol = "radius"
sources = ["127.0.0.6/32"]
target = "acme"
secret = "file:radius.secret"
challenge = "no"
wait_seconds = 30
"#
    )
}

async fn the_phone_is_connected_from_the_self_service_and_makes_codes_too(world: &mut World) -> Result<()> {
    // V-20, FM-04
    let url = world.url();
    world.desk.look_with(DESKTOP).await?;
    world.desk.open(&url).await?;
    world.desk.type_into("#name", UID).await?;
    world.desk.type_into("#password", &password_of(UID)).await?;
    world.desk.follow("button.main").await?;
    world.desk.follow("form[action='/enrol/device'] button").await?;
    let uri = world.desk.text("#uri").await?;
    ensure!(uri.starts_with(&format!("{url}/phone#")), "{uri}");

    world.phone.open(&uri).await?;
    world.phone.see("#confirm").await?;
    ensure!(world.phone.text("#confirm-company").await? == "Acme");
    world.picture("connect").await?;
    world.phone.click("#confirm-form button").await?;
    world.phone.see("#connected").await?;
    world.picture("connected").await?;
    world.phone.click("#go-on").await?;
    world.phone.see("#prompt").await?;
    world.picture("first-prompt").await?;
    // Both at once: who asks from the desk waits for the prompt that the phone shows.
    world.desk.follow("form[action='/enrol/device/check'] button").await?;
    world.desk.click("form[action='/enrol/device/prove'] button").await?;
    world.phone.click("#approve").await?;
    world.phone.see("#result-approved").await?;
    world.desk.see("main a[href='/account']").await?;
    world.done("result-approved").await?;
    world.phone.see("#codes").await?;
    world.phone.click("#code-button").await?;
    world.phone.see("#code-now").await?;
    world.picture("code").await?;
    world.shown = world.phone.text("#code-digits").await?.replace(' ', "");
    ensure!(world.shown.len() == 6, "{}", world.shown);
    let events = world.machine.command_line().audit()?;
    for kind in ["device.added", "device.activated", "factor.confirmed"] {
        ensure!(events.iter().any(|event| event["kind"] == kind), "no {kind}: {events:?}");
    }
    world.phone.no_complaint().await
}

async fn the_number_that_the_vpn_shows_is_typed_on_the_phone_and_lets_in(world: &mut World) -> Result<()> {
    // V-22, R-47
    let (state, number) = world.challenged().await?;
    world.phone.see("#prompt").await?;
    world.picture("number").await?;
    ensure!(world.phone.text("#prompt-application").await? == "vpn");
    ensure!(world.phone.text("#prompt-user").await?.contains(UID));
    world.phone.type_into("#number", &number).await?;
    let vpn = world.device(VPN)?;
    let (answer, approved) = tokio::join!(vpn.respond(UID, "", &state), async {
        world.phone.click("#approve").await?;
        world.phone.see("#result-approved").await
    });
    approved?;
    ensure!(answer? == Answer::Accept);
    world.picture("approved").await?;
    world.ended("user_approved")?;
    world.done("result-approved").await?;
    // Another number is another sign-in.
    let (state, number) = world.challenged().await?;
    world.phone.see("#prompt").await?;
    let wrong = if number == "42" { "43" } else { "42" };
    world.phone.type_into("#number", wrong).await?;
    world.phone.click("#approve").await?;
    world.phone.see("#result-failed").await?;
    world.picture("wrong-number").await?;
    ensure!(vpn.respond(UID, "", &state).await? == Answer::Reject);
    world.ended("wrong_number")?;
    world.done("result-failed").await
}

async fn the_phone_is_woken_by_a_message_that_names_nobody(world: &mut World) -> Result<()> {
    // V-24
    while !world.push.is_quiet().await {}
    let (state, number) = world.challenged().await?;
    let message = String::from_utf8(world.subscriber.open(&world.push.next().await?.body)?)?;
    ensure!(message.contains("/phone?prompt=") && !message.contains(UID), "{message}");
    // As a word: among the digits of an id it may stand by chance.
    ensure!(!message.split(|sign: char| !sign.is_ascii_alphanumeric()).any(|word| word == number), "{message}");
    let navigate = serde_json::from_str::<Value>(&message)?["notification"]["navigate"].clone();
    world.phone.open(navigate.as_str().context("an address")?).await?;
    world.phone.see("#prompt").await?;
    world.phone.type_into("#number", &number).await?;
    world.phone.click("#approve").await?;
    world.phone.see("#result-approved").await?;
    ensure!(world.device(VPN)?.respond(UID, "", &state).await? == Answer::Accept);
    world.done("result-approved").await
}

async fn a_refusal_rejects_and_nothing_more_is_asked_for_a_while(world: &mut World) -> Result<()> {
    // V-23, FV-05: where no number can be shown
    let desktops = world.device(DESKTOPS)?;
    let password = password_of(UID);
    let (answer, refused) = tokio::join!(desktops.login(UID, &password), async {
        world.phone.see("#prompt").await?;
        ensure!(world.phone.value("document.querySelector('#number-field').hidden").await? == true);
        world.picture("prompt").await?;
        world.phone.click("#deny").await?;
        world.phone.see("#result-denied").await
    });
    refused?;
    ensure!(answer? == Answer::Reject);
    world.picture("denied").await?;
    world.ended("user_denied")?;
    world.done("result-denied").await?;
    ensure!(desktops.login(UID, &password).await? == Answer::Reject);
    world.ended("cooling_down")?;
    let open = world.machine.command_line().json(&["prompt", "list", UID])?;
    ensure!(open["items"].as_array().is_some_and(Vec::is_empty), "asked all the same: {open}");
    Ok(())
}

async fn a_code_of_the_phone_opens_while_it_cools_down(world: &mut World) -> Result<()> {
    // FM-04, V-23: codes keep working
    let code = world.code().await?;
    let appended = format!("{},{code}", password_of(UID));
    ensure!(world.device(VPN)?.login(UID, &appended).await? == Answer::Accept);
    world.ended("valid_code")
}

async fn without_a_network_the_page_says_so_and_shows_a_code(world: &mut World) -> Result<()> {
    let url = world.url();
    let offline = |yes: bool| json!({ "offline": yes, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
    world.phone.value("navigator.serviceWorker.ready.then(() => true)").await?;
    world.machine.twinlock.process().context("it runs")?.terminate(Duration::from_secs(20));
    world.phone.open(&format!("{url}/phone")).await?;
    ensure!(world.phone.text("h1").await? == "No network");
    world.phone.call("Network.emulateNetworkConditions", offline(true)).await?;
    world.phone.see("#codes").await?;
    world.phone.click("#code-button").await?;
    world.phone.see("#code-now").await?;
    world.picture("offline").await?;
    world.phone.call("Network.emulateNetworkConditions", offline(false)).await?;
    world.machine.twinlock.restart()?;
    world.phone.open(&format!("{url}/phone")).await?;
    world.phone.see("#wait").await
}

async fn not_me_blocks_the_account(world: &mut World) -> Result<()> {
    // V-23, FV-26
    let desktops = world.device(DESKTOPS)?;
    let password = password_of(UID);
    // Whom nothing keeps from being asked again.
    world.machine.settings(&settings(0)).await?;
    let (answer, refused) = tokio::join!(desktops.login(UID, &password), async {
        world.phone.see("#prompt").await?;
        world.phone.click("#fraud").await?;
        world.phone.see("#result-fraud").await
    });
    refused.with_context(|| {
        format!("{answer:?}, {:?}", world.machine.command_line().audit().ok().and_then(|events| events.last().cloned()))
    })?;
    ensure!(answer? == Answer::Reject);
    world.picture("fraud").await?;
    world.ended("reported_fraud")?;
    ensure!(desktops.login(UID, &password).await? == Answer::Reject);
    world.ended("blocked")
}

impl World {
    fn url(&self) -> String {
        self.machine.twinlock.portal_url()
    }

    fn device(&self, from: IpAddr) -> Result<Device> {
        Device::new(from, self.machine.twinlock.radius_port(), RADIUS_SECRET)
    }

    /// The right password at the VPN: the state of its challenge, and the number it shows.
    async fn challenged(&mut self) -> Result<(Vec<u8>, String)> {
        self.device(VPN)?.number_shown(UID, &password_of(UID)).await
    }

    /// The next code of the phone.
    async fn code(&mut self) -> Result<String> {
        for _ in 0..70 {
            let code =
                self.phone.value("Twinlock.load().then(it => Twinlock.code(it.code)).then(it => it.digits)").await?;
            let code = code.as_str().context("digits")?;
            if code != self.shown {
                return Ok(code.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        bail!("the code stays {}", self.shown)
    }

    fn ended(&self, reason: &str) -> Result<()> {
        let (last, _) = last_attempt(self.machine.command_line(), UID)?;
        ensure!(last == reason, "{last}, not {reason}");
        Ok(())
    }

    async fn done(&mut self, result: &str) -> Result<()> {
        self.phone.click(&format!("#{result} .done-button")).await?;
        self.phone.see("#wait").await
    }

    /// In light and dark.
    async fn picture(&mut self, name: &str) -> Result<()> {
        self.phone.pictures(&format!("story-phone-{name}"), &[DARK_PHONE, PHONE]).await
    }
}
