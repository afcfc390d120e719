//! Every second factor through both gateways: `twinlock serve` before a real OpenLDAP, with a carrier of texts, a vendor of calls and
//! the app of a phone at its other side, each by the book.

use anyhow::{Context, Result, bail, ensure};
use domain::CodeAlgorithm;
use e2e::{Answer, Application, Device, OneMachine, Outside, attempt_ended, code_of, last_attempt, story};
use lab::phones::{Mood, pi};
use lab::{Person, RADIUS_SECRET, password_of};
use serde_json::Value;
use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Can show a question, and a number.
const VPN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Waits in silence.
const DESKTOPS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
/// An LDAP client that sends the password alone, and one that appends a code.
const WIKI: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));
const FORGE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 8));
/// Trusted, and one that remembers.
const OFFICE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const LAPTOPS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10));

const REFUSED: u32 = 49;

struct World {
    machine: OneMachine,
    outside: Outside,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_opens_what_it_may_and_says_why_it_may_not() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &["radius.reject_delay_ms=500"])?;
    let outside = Outside::start(&machine).await?;
    machine.settings(&format!("{SETTINGS}{}", outside.providers())).await?;
    let mut world = World { machine, outside };
    story!(&mut world;
        a_phone_approves_a_waiting_radius_login_and_a_waiting_bind,
        a_number_is_shown_by_the_vpn_and_found_on_the_phone,
        a_refusal_on_the_phone_is_quiet_for_a_while_and_not_me_blocks,
        a_text_is_asked_for_by_radius_and_impossible_by_ldap,
        a_token_that_counts_opens_once_a_code_and_runs_ahead_no_further_than_it_may,
        a_call_is_confirmed_by_a_key_and_refused_by_silence,
        recovery_and_temporary_codes_open_as_often_as_they_may,
        a_bypass_opens_once_and_a_block_refuses_everything,
        a_trusted_network_and_a_remembered_login_need_the_password_alone,
        a_client_that_is_only_observed_asks_nobody_and_records_what_it_would_have_done,
        a_device_shows_the_list_of_methods_first_where_the_settings_say_so,
        every_accept_has_one_event_with_its_method,
    )
}

const SETTINGS: &str = r#"
[verification]
country = "DE"

[[client]]
name = "desktops"
protocol = "radius"
sources = ["127.0.0.6/32"]
target = "acme"
secret = "file:radius.secret"
challenge = "no"
wait_seconds = 20

[[client]]
name = "wiki"
protocol = "ldap"
sources = ["127.0.0.7/32"]
target = "acme"
tls = "danger_optional"
wait_seconds = 20

[[client]]
name = "forge"
protocol = "ldap"
sources = ["127.0.0.8/32"]
target = "acme"
tls = "danger_optional"
appended = "required"

[[client]]
name = "office"
protocol = "radius"
sources = ["127.0.0.9/32"]
target = "acme"
secret = "file:radius.secret"
trusted_networks = ["203.0.113.0/24"]
person_address = "calling_station_id"

[[client]]
name = "laptops"
protocol = "radius"
sources = ["127.0.0.10/32"]
target = "acme"
secret = "file:radius.secret"
remember = { kind = "user_source_password", idle_seconds = 300, life_seconds = 600 }
"#;

impl World {
    fn device(&self, from: IpAddr) -> Result<Device> {
        Device::new(from, self.machine.twinlock.radius_port(), RADIUS_SECRET)
    }

    /// A simple bind in clear text; its result code.
    async fn bind(&self, from: IpAddr, uid: &str, password: &str) -> Result<u32> {
        let mut application = Application::connect(&self.machine.twinlock.ldap_url(), from).await?;
        code_of(&application.bind(1, uid, password).await?)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        self.machine.command_line().run(arguments)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.machine.command_line().json(arguments)
    }

    /// What a phone says to the portal.
    async fn phone(&self, request: &pi::Request) -> Result<Value> {
        let url = format!("{}/push/pi", self.machine.twinlock.portal_url());
        let sent = match request.method {
            "GET" => self.outside.http.get(format!("{url}?{}", request.form())),
            _ => {
                let form = "application/x-www-form-urlencoded";
                self.outside.http.post(url).header("content-type", form).body(request.form())
            }
        };
        Ok(serde_json::from_str(&sent.send().await?.text().await?)?)
    }

    /// Enrols the app of a phone, and lets it prove itself once.
    async fn connect_phone(&self, uid: &str) -> Result<pi::Phone> {
        let started = self.json(&["factor", "enrol", uid, "--method", "push", "--kind", "pi"])?;
        let uri = started["uri"].as_str().context("an address to scan")?;
        let device = started["device_id"].as_str().context("a device")?.to_owned();
        let mut phone = pi::Phone::scan(uri, key()?);
        let enrolled = self.phone(&phone.enrol()).await?;
        phone.enrolled(&enrolled);
        let (command_line, uid) = (self.machine.command_line().clone(), uid.to_owned());
        let proof = tokio::task::spawn_blocking(move || {
            command_line.run(&["factor", "activation", &uid, &device, "--wait", "60s"])
        });
        let shown = self.shown(&mut phone).await?;
        self.phone(&phone.accept(&shown.nonce, shown.choices.first().map(String::as_str))).await?;
        proof.await??;
        Ok(phone)
    }

    /// What the app shows, as soon as it shows anything. It asks every three seconds, as the app does.
    async fn shown(&self, phone: &mut pi::Phone) -> Result<pi::Shown> {
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(3_100)).await;
            let reply = self.phone(&phone.poll(&now()?)).await?;
            if reply["result"]["status"] == true
                && let Some(shown) = phone.show(&reply).into_iter().next()
            {
                return Ok(shown);
            }
        }
        bail!("the phone shows nothing")
    }

    /// An authenticator app, which is asked for first: the directory knows a number of everybody, and calls go before codes.
    fn enrol_code(&self, uid: &str) -> Result<Person> {
        let person = self.machine.command_line().enrol(uid)?;
        self.run(&["user", "edit", uid, "--default-method", "code"])?;
        Ok(person)
    }

    /// The last event of this user's attempts.
    fn last(&self, uid: &str) -> Result<(String, String)> {
        last_attempt(self.machine.command_line(), uid)
    }

    fn ended(&self, uid: &str, reason: &str, method: &str) -> Result<()> {
        attempt_ended(self.machine.command_line(), uid, reason, method)
    }

    /// The code of the last text.
    fn texted(&self) -> Result<String> {
        let body = self.outside.carrier.received().last().context("no text was sent")?.body.clone();
        let body: Value = serde_json::from_str(&body)?;
        ensure!(body["key"] == Outside::SMS_SECRET, "the carrier knows us by its secret");
        let text = body["text"].as_str().context("a text")?;
        let digits = text.split(|sign: char| !sign.is_ascii_digit()).find(|word| word.len() == 6);
        Ok(digits.with_context(|| format!("no code in {text:?}"))?.to_owned())
    }
}

fn key() -> Result<&'static str> {
    static KEY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    if KEY.get().is_none() {
        let vectors = std::fs::read_to_string(lab::repository().join("tests/vectors/pipush.json"))?;
        let vectors: Value = serde_json::from_str(&vectors)?;
        let key = vectors["phone_key_pkcs8_pem"].as_str().context("a key")?;
        let _ = KEY.set(key.to_owned());
    }
    KEY.get().map(String::as_str).context("a key")
}

fn now() -> Result<String> {
    Ok(OffsetDateTime::from(SystemTime::now()).replace_nanosecond(0)?.format(&Rfc3339)?.replace('Z', ".000000Z"))
}

async fn a_phone_approves_a_waiting_radius_login_and_a_waiting_bind(world: &mut World) -> Result<()> {
    // FV-05, FM-04: approve-only, where the channel shows no number
    let uid = "ann.archer";
    let mut phone = world.connect_phone(uid).await?;
    let (device, password) = (world.device(DESKTOPS)?, password_of(uid));
    let binds = world.machine.slapd.binds(uid);
    let (login, approved) = tokio::join!(device.login(uid, &password), async {
        let shown = world.shown(&mut phone).await?;
        ensure!(shown.choices.is_empty(), "no number can be shown here");
        ensure!(shown.question.contains("desktops") || shown.question.contains(uid), "{}", shown.question);
        world.phone(&phone.accept(&shown.nonce, None)).await
    });
    let approved = approved?;
    ensure!(approved["result"]["value"] == true, "{approved}");
    ensure!(login? == Answer::Accept);
    ensure!(world.machine.slapd.binds(uid) == binds + 1, "copies of a waiting request bind once");
    world.ended(uid, "user_approved", "push")?;

    let (code, approved) = tokio::join!(world.bind(WIKI, uid, &password), async {
        let shown = world.shown(&mut phone).await?;
        world.phone(&phone.accept(&shown.nonce, None)).await
    });
    approved?;
    ensure!(code? == 0, "the bind");
    world.ended(uid, "user_approved", "push")
}

async fn a_number_is_shown_by_the_vpn_and_found_on_the_phone(world: &mut World) -> Result<()> {
    // V-22, R-47
    let uid = "ben.hale";
    let mut phone = world.connect_phone(uid).await?;
    let (vpn, password) = (world.device(VPN)?, password_of(uid));
    for right in [true, false] {
        let (state, number) = vpn.number_shown(uid, &password).await?;
        let shown = world.shown(&mut phone).await?;
        ensure!(shown.choices.len() >= 5 && shown.choices.contains(&number), "{:?} {number}", shown.choices);
        let wrong = shown.choices.iter().find(|choice| **choice != number).context("another number")?;
        let chosen = if right { &number } else { wrong };
        let choice = phone.accept(&shown.nonce, Some(chosen));
        let (answer, told) = tokio::join!(vpn.respond(uid, "", &state), world.phone(&choice));
        told?;
        match right {
            true => {
                ensure!(answer? == Answer::Accept);
                world.ended(uid, "user_approved", "push")?;
            }
            false => {
                ensure!(answer? == Answer::Reject);
                world.ended(uid, "wrong_number", "push")?;
            }
        }
    }
    Ok(())
}

async fn a_refusal_on_the_phone_is_quiet_for_a_while_and_not_me_blocks(world: &mut World) -> Result<()> {
    // V-23 ★
    for (uid, reason, ends, next) in [
        ("clara.osborn", None, "user_denied", "cooling_down"),
        ("david.baker", Some("unknown_trigger"), "reported_fraud", "blocked"),
    ] {
        let mut phone = world.connect_phone(uid).await?;
        let (device, password) = (world.device(DESKTOPS)?, password_of(uid));
        let (login, declined) = tokio::join!(device.login(uid, &password), async {
            let shown = world.shown(&mut phone).await?;
            world.phone(&phone.decline(&shown.nonce, reason)).await
        });
        declined?;
        ensure!(login? == Answer::Reject, "{uid}");
        world.ended(uid, ends, "push")?;
        ensure!(device.login(uid, &password).await? == Answer::Reject, "{uid}, again");
        let last = world.last(uid)?.0;
        ensure!(last == next, "{last}, not {next}");
    }
    world.run(&["user", "unblock", "david.baker", "--reason", "spoke to him"])?;
    Ok(())
}

async fn a_text_is_asked_for_by_radius_and_impossible_by_ldap(world: &mut World) -> Result<()> {
    // FV-03, V-17, R-49
    let uid = "emma.irwin";
    let started = world.json(&["factor", "enrol", uid, "--method", "sms", "--number", "030 23125 017"])?;
    let verification = started["verification_id"].as_str().context("a verification")?;
    let proof = world.texted()?;
    world.machine.command_line().run_with_input(&["factor", "confirm-phone", uid, verification], &proof)?;
    let (vpn, password) = (world.device(VPN)?, password_of(uid));
    world.run(&["user", "edit", uid, "--default-method", "sms"])?;
    let Answer::Challenge(state) = vpn.login(uid, &password).await? else { bail!("no challenge") };
    let code = world.texted()?;
    ensure!(code != proof);
    let Answer::Challenge(next) = vpn.respond(uid, "000000", &state).await? else { bail!("a wrong code ends it") };
    ensure!(vpn.respond(uid, &code, &next).await? == Answer::Accept);
    world.ended(uid, "valid_code", "sms")?;
    let sent = world.outside.carrier.received().len();
    // Texts and calls are what she has; a bind can carry neither the code, nor is a call allowed to her.
    world.run(&["user", "edit", uid, "--allowed-methods", "sms"])?;
    ensure!(world.bind(WIKI, uid, &password).await? == REFUSED);
    ensure!(world.last(uid)?.0 == "method_impossible", "{:?}", world.last(uid)?);
    ensure!(world.outside.carrier.received().len() == sent, "a text was sent for nothing");

    // The carrier refuses: nobody comes in, and the reason says whose fault it is.
    let uid = "karla.keller";
    world.run(&["user", "edit", uid, "--phone", "+493023125016", "--allowed-methods", "sms"])?;
    world.outside.carrier.set_mood(Mood::Refuse);
    let answer = vpn.login(uid, &password_of(uid)).await;
    world.outside.carrier.set_mood(Mood::Accept);
    ensure!(answer? == Answer::Reject);
    world.ended(uid, "provider_error", "sms")
}

async fn a_token_that_counts_opens_once_a_code_and_runs_ahead_no_further_than_it_may(world: &mut World) -> Result<()> {
    // FV-07, V-13; the seed and the codes of RFC 4226, appendix D
    let uid = "leo.stone";
    let file = "H-0417,3132333435363738393031323334353637383930,hotp,6,0\n";
    world.machine.command_line().run_with_input(&["import", "-", "--preset", "pi-oath", "--yes"], file)?;
    world.run(&["token", "assign", "H-0417", uid])?;
    world.run(&["user", "edit", uid, "--default-method", "code", "--allowed-methods", "code"])?;
    let password = password_of(uid);
    let bind = async |code: &str| world.bind(FORGE, uid, &format!("{password},{code}")).await;
    ensure!(bind("755224").await? == REFUSED, "it counts before a code of it was proven");
    world.machine.command_line().run_with_input(&["token", "confirm", "H-0417"], "755224")?;
    ensure!(bind("755224").await? == REFUSED, "the code that proved it");
    ensure!(bind("287082").await? == 0, "LDAP, the next code");
    world.ended(uid, "valid_code", "code")?;
    let vpn = world.device(VPN)?;
    let Answer::Challenge(state) = vpn.login(uid, &password).await? else { bail!("no challenge") };
    // Two codes were made and not used.
    ensure!(vpn.respond(uid, "338314", &state).await? == Answer::Accept, "RADIUS, three ahead");
    ensure!(bind("969429").await? == REFUSED, "a code from before");
    world.ended(uid, "reused_code", "code")?;
    // Its button was pressed for nothing, more often than a code alone is followed: the next one shows where it is.
    let [far, next] = [40, 41].map(rfc_code);
    let (state, _) = vpn.asked(uid, &password, None).await?;
    let (state, shown) = vpn.asked(uid, &far, Some(&state)).await?;
    ensure!(shown == "The code was wrong. Enter your code", "{shown:?}: nobody hears that it was nearly right");
    ensure!(vpn.respond(uid, &next, &state).await? == Answer::Accept, "the next one");
    ensure!(bind(&next).await? == REFUSED, "it is spent");
    ensure!(bind(&rfc_code(42)).await? == 0, "the counter is where the token is");
    Ok(())
}

/// Of the seed of RFC 4226, appendix D.
fn rfc_code(counter: u64) -> String {
    let code = otp::hotp(&"12345678901234567890".into(), CodeAlgorithm::Sha1, counter, 6);
    code[..6].iter().map(|digit| char::from(*digit)).collect()
}

async fn a_call_is_confirmed_by_a_key_and_refused_by_silence(world: &mut World) -> Result<()> {
    // FV-02, V-19
    let uid = "felix.price";
    world.run(&["user", "edit", uid, "--phone", "+493023125018", "--default-method", "call"])?;
    let (device, password) = (world.device(DESKTOPS)?, password_of(uid));
    let (login, ()) = tokio::join!(device.login(uid, &password), async {
        let mut phone = world.outside.vendor.next_call(world.outside.deliver()).await;
        phone.answer("human").await;
        phone.press("#").await;
    });
    ensure!(login? == Answer::Accept);
    world.ended(uid, "call_confirmed", "call")?;
    let (code, ()) = tokio::join!(world.bind(WIKI, uid, &password), async {
        let mut phone = world.outside.vendor.next_call(world.outside.deliver()).await;
        phone.answer("human").await;
        phone.hang_up().await;
    });
    ensure!(code? == REFUSED);
    world.ended(uid, "hung_up", "call")?;
    // Longer than the client waits.
    let login = device.exchange(uid, &password, None).await?;
    let (login, ()) = tokio::join!(login.answer(12), async {
        let mut phone = world.outside.vendor.next_call(world.outside.deliver()).await;
        phone.lies.wrong_signature = true;
        phone.answer("human").await;
        phone.press("#").await;
    });
    ensure!(login? == Answer::Reject, "a forged callback confirmed a call");
    world.ended(uid, "no_answer", "call")
}

async fn recovery_and_temporary_codes_open_as_often_as_they_may(world: &mut World) -> Result<()> {
    // FV-09, FV-29
    let greta = world.enrol_code("greta.cole")?;
    let made = world.json(&["user", "recovery", &greta.uid, "--yes"])?;
    let codes: Vec<&str> = made["codes"].as_array().context("codes")?.iter().filter_map(Value::as_str).collect();
    ensure!(codes.len() == 10, "{made}");
    let first = codes.first().context("a code")?;
    ensure!(world.bind(FORGE, &greta.uid, &format!("{},{first}", greta.password)).await? == 0, "a recovery code");
    world.ended(&greta.uid, "valid_recovery_code", "recovery")?;
    ensure!(world.bind(FORGE, &greta.uid, &format!("{},{first}", greta.password)).await? == REFUSED, "once");
    let made = world.json(&["user", "code", &greta.uid, "--reason", "phone at the repair shop"])?;
    let code = made["code"].as_str().context("a code")?;
    let vpn = world.device(VPN)?;
    let Answer::Challenge(state) = vpn.login(&greta.uid, &greta.password).await? else { bail!("no challenge") };
    ensure!(vpn.respond(&greta.uid, code, &state).await? == Answer::Accept, "a temporary code");
    ensure!(world.last(&greta.uid)?.0 == "temporary_code");
    ensure!(world.bind(FORGE, &greta.uid, &format!("{},{code}", greta.password)).await? == REFUSED, "once");
    Ok(())
}

async fn a_bypass_opens_once_and_a_block_refuses_everything(world: &mut World) -> Result<()> {
    // V-53, FV-25
    let hugo = world.enrol_code("hugo.jones")?;
    let vpn = world.device(VPN)?;
    world.run(&["user", "bypass", &hugo.uid, "--for", "5m", "--reason", "phone forgotten"])?;
    ensure!(vpn.login(&hugo.uid, &hugo.password).await? == Answer::Accept, "the password alone, once");
    ensure!(world.last(&hugo.uid)?.0 == "one_time_bypass");
    ensure!(matches!(vpn.login(&hugo.uid, &hugo.password).await?, Answer::Challenge(_)), "twice");
    world.run(&["user", "block", &hugo.uid, "--reason", "phone stolen", "--yes"])?;
    ensure!(vpn.login(&hugo.uid, &hugo.password).await? == Answer::Reject, "blocked");
    ensure!(world.last(&hugo.uid)?.0 == "blocked");
    world.run(&["user", "unblock", &hugo.uid, "--reason", "found"])?;
    ensure!(vpn.login(&hugo.uid, &hugo.appended(1)?).await? == Answer::Accept, "unblocked");
    Ok(())
}

async fn a_trusted_network_and_a_remembered_login_need_the_password_alone(world: &mut World) -> Result<()> {
    // V-50 ★, V-54 ★
    let ida = world.enrol_code("ida.reed")?;
    let office = world.device(OFFICE)?;
    ensure!(office.called_from("203.0.113.9").login(&ida.uid, &ida.password).await? == Answer::Accept);
    ensure!(world.last(&ida.uid)?.0 == "trusted_network");
    for elsewhere in ["198.51.100.9", "203.0.113.9/24", "0xCB007109", ""] {
        let answer = office.called_from(elsewhere).login(&ida.uid, &ida.password).await?;
        ensure!(matches!(answer, Answer::Challenge(_)), "{elsewhere:?} is trusted: {answer:?}");
    }
    let home = world.device(LAPTOPS)?.called_from("198.51.100.20");
    ensure!(matches!(home.login(&ida.uid, &ida.password).await?, Answer::Challenge(_)), "nothing to remember yet");
    ensure!(home.login(&ida.uid, &ida.appended(1)?).await? == Answer::Reject, "this client wants a challenge");
    let Answer::Challenge(state) = home.login(&ida.uid, &ida.password).await? else { bail!("no challenge") };
    ensure!(home.respond(&ida.uid, &ida.code(1)?, &state).await? == Answer::Accept);
    ensure!(home.login(&ida.uid, &ida.password).await? == Answer::Accept, "remembered");
    ensure!(world.last(&ida.uid)?.0 == "remembered");
    let elsewhere = home.called_from("198.51.100.21").login(&ida.uid, &ida.password).await?;
    ensure!(matches!(elsewhere, Answer::Challenge(_)), "another place");
    world.run(&["remember", "clear", &ida.uid, "--yes"])?;
    ensure!(matches!(home.login(&ida.uid, &ida.password).await?, Answer::Challenge(_)), "cleared");
    Ok(())
}

async fn a_client_that_is_only_observed_asks_nobody_and_records_what_it_would_have_done(
    world: &mut World,
) -> Result<()> {
    // FB-04
    let (uid, device) = ("olga.turner", world.device(DESKTOPS)?);
    let password = password_of(uid);
    // She has no code to give.
    world.run(&["user", "edit", uid, "--allowed-methods", "code"])?;
    ensure!(device.login(uid, &password).await? == Answer::Reject, "before");
    let calls = world.outside.carrier.received().len();
    world.run(&["client", "observe", "desktops", "on", "--days", "1"])?;
    until(async || Ok(device.login(uid, &password).await? == Answer::Accept)).await.context("it is not observed")?;
    ensure!(world.last(uid)?.0 == "observed", "{:?}", world.last(uid)?);
    let events = world.machine.command_line().audit()?;
    let event = events.iter().rfind(|event| event["reason"] == "observed").context("no event")?;
    ensure!(event.to_string().contains("observed: would refuse, "), "{event}");
    ensure!(device.login(uid, "Nonsense").await? == Answer::Reject, "the password still decides");
    ensure!(world.outside.carrier.received().len() == calls, "somebody was asked");
    ensure!(world.run(&["client", "show", "desktops"])?.contains("observe"), "client show says nothing of it");
    world.run(&["client", "observe", "desktops", "off"])?;
    until(async || Ok(device.login(uid, &password).await? == Answer::Reject)).await.context("it is still observed")
}

async fn a_device_shows_the_list_of_methods_first_where_the_settings_say_so(world: &mut World) -> Result<()> {
    // FV-12, FR-13, R-40
    let listed = SETTINGS.replacen("[verification]", "[verification]\nchoice = \"list_first\"", 1);
    world.machine.settings(&format!("{listed}{}", world.outside.providers())).await?;
    let person = world.enrol_code("mia.eaton")?;
    let uid = person.uid.as_str();
    world.run(&["user", "edit", uid, "--phone", "+493023125020", "--allowed-methods", "sms,code"])?;
    let vpn = world.device(VPN)?;
    let (state, shown) = vpn.asked(uid, &person.password, None).await?;
    let lines: Vec<_> = shown.lines().collect();
    ensure!(lines.len() == 3 && lines[0] == "How do you want to sign in? Enter a number", "{shown:?}");
    let text = lines.iter().position(|line| line.ends_with("Text message")).context("no text in the list")?;
    let (state, shown) = vpn.asked(uid, "3", Some(&state)).await?;
    ensure!(shown.starts_with("This is none of the numbers."), "{shown:?}");
    let sent = world.outside.carrier.received().len();
    let (state, shown) = vpn.asked(uid, &text.to_string(), Some(&state)).await?;
    ensure!(shown.starts_with("Enter the code sent to "), "{shown:?}");
    ensure!(world.outside.carrier.received().len() == sent + 1, "no text was sent");
    ensure!(vpn.respond(uid, &world.texted()?, &state).await? == Answer::Accept);
    world.ended(uid, "valid_code", "sms")?;
    // Whoever has the code at hand need not choose.
    let (state, _) = vpn.asked(uid, &person.password, None).await?;
    ensure!(vpn.respond(uid, &person.code(0)?, &state).await? == Answer::Accept);
    world.ended(uid, "valid_code", "code")?;
    world.machine.settings(&format!("{SETTINGS}{}", world.outside.providers())).await
}

/// Waits for settings to be in force.
async fn until(mut so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !so().await? {
        ensure!(begun.elapsed() < Duration::from_secs(60), "not within a minute");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn every_accept_has_one_event_with_its_method(world: &mut World) -> Result<()> {
    // V-61
    let verified = world.json(&["audit", "verify"])?;
    ensure!(verified["first_bad"].as_u64().unwrap_or(0) == 0, "{verified}");
    let events = world.machine.command_line().audit()?;
    let let_in = events.iter().filter(|event| matches!(event["result"].as_str(), Some("success" | "bypass")));
    let mut seen = std::collections::BTreeSet::new();
    for event in let_in.filter(|event| event["kind"] == "authentication") {
        let attempt = event["request_id"].as_str().with_context(|| format!("no attempt in {event}"))?;
        ensure!(seen.insert(attempt), "two events of one attempt: {event}");
        // Empty fields are left out.
        ensure!(event["result"] == "bypass" || event["method"].is_string(), "{event}");
    }
    ensure!(seen.len() >= 10, "only {}", seen.len());
    Ok(())
}
