//! The second factors that are off unless somebody wants them, and what surrounds the others: security questions, texts that are
//! answered, the backup phone, the PIN that has to be changed. `twinlock serve` before a real OpenLDAP, a carrier and a vendor of calls at
//! its other side.

use anyhow::{Context, Result, bail, ensure};
use data_encoding::HEXLOWER;
use e2e::{Answer, Application, Device, OneMachine, Outside, Visitor, attempt_ended, code_of, story};
use hmac::{Hmac, KeyInit, Mac};
use lab::phones::twiml;
use lab::{Person, RADIUS_SECRET, password_of};
use serde_json::{Value, json};
use sha2::Sha256;
use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Can show a question: by what all users have, and by a text that is answered or a call.
const VPN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const GATE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
/// Calls, and asks for a code where nobody answers; the same without asking.
const FALLBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 10));
const STRICT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
/// Waits in silence: a device, and an application that binds.
const DESKTOPS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const WIKI: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));

const REFUSED: u32 = 49;
/// What the portal says to a callback that is signed as it should be.
const TAKEN: u16 = 204;

struct World {
    machine: OneMachine,
    outside: Outside,
    on: Cell<Option<On>>,
    /// Who has an app and answers.
    greta: Option<Person>,
}

/// What a story switches on.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct On {
    questions: bool,
    replies: bool,
    backup_phone: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_that_are_off_until_they_are_wanted_open_what_they_may() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &["radius.reject_delay_ms=500"])?;
    let outside = Outside::start(&machine).await?;
    let mut world = World { machine, outside, on: Cell::new(None), greta: None };
    story!(&mut world;
        security_questions_are_asked_by_nobody_until_the_settings_say_so,
        security_answers_open_the_portal_and_add_no_method,
        wrong_answers_lock_as_wrong_pins_do,
        a_text_is_answered_only_where_the_settings_say_so,
        an_answered_text_opens_a_waiting_radius_login_and_a_waiting_bind,
        a_wrong_a_late_and_a_forged_reply_open_nothing,
        an_answered_text_carries_the_pin_too,
        the_backup_phone_rings_when_the_first_does_not_answer_and_only_then,
        a_phone_that_fails_is_followed_by_a_question_for_a_code_and_a_refusal_by_nothing,
        an_initial_pin_is_changed_before_it_lets_anybody_in,
        tokens_and_their_holders_come_out_of_two_files,
    )
}

impl World {
    /// Applies the settings with this switched on and everything else off; they are in force when it returns.
    async fn settings(&self, on: On) -> Result<()> {
        if self.on.replace(Some(on)) == Some(on) {
            return Ok(());
        }
        let more = format!(
            r#"
[verification]
country = "DE"
questions = {questions}
choice = "{choice}"

[sms]
replies = {replies}

[voice]
ring_seconds = 10
backup_phone = {backup_phone}

[[client]]
name = "desktops"
protocol = "radius"
sources = ["127.0.0.6/32"]
target = "acme"
secret = "file:radius.secret"
challenge = "no"
methods = ["sms_reply", "call"]
wait_seconds = 20

[[client]]
name = "gate"
protocol = "radius"
sources = ["127.0.0.9/32"]
target = "acme"
secret = "file:radius.secret"
methods = ["sms_reply", "call"]
wait_seconds = 20

[[client]]
name = "fallback"
protocol = "radius"
sources = ["{FALLBACK}/32"]
target = "acme"
secret = "file:radius.secret"
methods = ["call", "code"]
fallback_code = true
wait_seconds = 15

[[client]]
name = "strict"
protocol = "radius"
sources = ["{STRICT}/32"]
target = "acme"
secret = "file:radius.secret"
methods = ["call", "code"]
wait_seconds = 15

[[client]]
name = "wiki"
protocol = "ldap"
sources = ["127.0.0.7/32"]
target = "acme"
tls = "danger_optional"
methods = ["sms_reply", "call"]
wait_seconds = 20
"#,
            questions = on.questions,
            choice = if on.questions { "list_first" } else { "default_then_list" },
            replies = on.replies,
            backup_phone = on.backup_phone,
        );
        self.machine.settings(&format!("{more}{}", self.outside.providers())).await
    }

    fn device(&self, from: IpAddr) -> Result<Device> {
        Device::new(from, self.machine.twinlock.radius_port(), RADIUS_SECRET)
    }

    /// A simple bind in clear text; its result code.
    async fn bind(&self, from: IpAddr, uid: &str) -> Result<u32> {
        let mut application = Application::connect(&self.machine.twinlock.ldap_url(), from).await?;
        code_of(&application.bind(1, uid, &password_of(uid)).await?)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        self.machine.command_line().run(arguments)
    }

    fn ended(&self, uid: &str, reason: &str, method: &str) -> Result<()> {
        attempt_ended(self.machine.command_line(), uid, reason, method)
    }

    /// A number of somebody's own, and how they are asked.
    fn phone_of(&self, uid: &str, number: &str, methods: &str) -> Result<()> {
        let first = methods.split(',').next().unwrap_or_default();
        let arguments =
            ["user", "edit", uid, "--phone", number, "--default-method", first, "--allowed-methods", methods];
        self.run(&arguments).map(drop)
    }

    /// The next text after the first `before`, as soon as it was sent: whom it went to, and the digits in it.
    async fn texted(&self, before: usize) -> Result<(String, String)> {
        let end = Instant::now() + Duration::from_secs(10);
        while self.outside.carrier.received().len() <= before {
            ensure!(Instant::now() < end, "no text was sent");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let received = self.outside.carrier.received();
        let body: Value = serde_json::from_str(&received.last().context("a text")?.body)?;
        let field = |name: &str| body[name].as_str().with_context(|| format!("{name} in {body}"));
        let text = field("text")?;
        let code = text.split(|sign: char| !sign.is_ascii_digit()).find(|word| word.len() == 6);
        Ok((field("to")?.to_owned(), code.with_context(|| format!("no code in {text:?}"))?.to_owned()))
    }

    /// The carrier hands on what somebody wrote; the status of our answer.
    async fn replies(&self, from: &str, text: &str, secret: &str) -> Result<u16> {
        let body = json!({ "from": from, "text": text }).to_string();
        let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
        mac.update(format!("{at}.{body}").as_bytes());
        let signature = format!("t={at},v1={}", HEXLOWER.encode(&mac.finalize().into_bytes()));
        let url = format!("{}/callback/texts/reply", self.machine.twinlock.portal_url());
        let sent = self.outside.http.post(url).header("x-twinlock-signature", signature).body(body).send().await?;
        Ok(sent.status().as_u16())
    }

    /// Name and password on the portal's first page.
    async fn sign_in(&self, uid: &str) -> Result<Visitor> {
        let twinlock = &self.machine.twinlock;
        let mut pages = Visitor::arrive(&twinlock.portal_url(), &twinlock.certificate_file()).await?;
        pages.submit("/sign-in", &[("name", uid), ("password", &password_of(uid))]).await?;
        Ok(pages)
    }

    fn answers_of(&self, uid: &str) -> Result<()> {
        let mut arguments = vec!["user", "answers", uid];
        arguments.extend(QUESTIONS.iter().flat_map(|(question, _)| ["--question", *question]));
        let answers = QUESTIONS.map(|(_, answer)| answer).join("\n");
        self.machine.command_line().run_with_input(&arguments, &answers).map(drop)
    }
}

const QUESTIONS: [(&str, &str); 4] = [
    ("Your first pet?", "Rex Maximus"),
    ("Your town of birth?", "Saint-Étienne"),
    ("Your best friend at school?", "Toni"),
    ("Your first employer?", "Harbour Office"),
];

/// As people type them: what does not matter is different.
const ANSWERS: [&str; 4] = ["rex maximus", "saint etienne", " TONI", "Harbour-Office"];

fn typed(answers: [&str; 4]) -> [(&str, &str); 4] {
    answers.map(|answer| ("answer", answer))
}

async fn security_questions_are_asked_by_nobody_until_the_settings_say_so(world: &mut World) -> Result<()> {
    // FV-10, FP-09: off by default
    world.settings(On::default()).await?;
    let uid = "greta.cole";
    world.greta = Some(world.machine.command_line().enrol(uid)?);
    world.answers_of(uid)?;
    world.run(&["user", "edit", uid, "--default-method", "code", "--allowed-methods", "questions,code"])?;
    let pages = world.sign_in(uid).await?;
    ensure!(pages.path == "/code" && pages.html.contains("one-time-code"), "a code is asked for: {}", pages.html);
    ensure!(QUESTIONS.iter().all(|(question, _)| !pages.html.contains(question)), "{}", pages.html);
    Ok(())
}

async fn security_answers_open_the_portal_and_add_no_method(world: &mut World) -> Result<()> {
    // V-86 ★, B-95
    world.settings(On { questions: true, ..On::default() }).await?;
    let greta = world.greta.clone().context("somebody with an app and answers")?;
    let uid = greta.uid.as_str();
    let mut pages = world.sign_in(uid).await?;
    pages.submit("/code", &[("code", "questions")]).await?;
    for (question, answer) in QUESTIONS {
        ensure!(pages.html.contains(question), "{question} is not asked: {}", pages.html);
        ensure!(!pages.html.contains(answer), "the answer stands there");
    }
    pages.submit("/code", &typed(["rex maximus", "saint etienne", "toni", "post office"])).await?;
    ensure!(pages.path == "/code" && pages.html.contains(QUESTIONS[0].0), "one wrong is all wrong: {}", pages.html);
    pages.submit("/code", &typed(ANSWERS)).await?;
    ensure!(pages.path == "/account", "{}: {}", pages.path, pages.html);
    world.ended(uid, "valid_answers", "questions")?;
    ensure!(!pages.html.contains("href=\"/enrol\""), "{}", pages.html);
    pages.open("/enrol").await?;
    ensure!(pages.path == "/account", "{}", pages.path);
    let before = world.run(&["factor", "list", uid, "-o", "json"])?;
    for path in ["/enrol/start", "/enrol/device", "/enrol/phone/sms", "/enrol/recovery"] {
        pages.open("/account").await?;
        pages.post(path, &[("kind", "web"), ("number", "+4930901820")]).await?;
        ensure!(pages.path == "/account", "{path} leads to {}", pages.path);
    }
    ensure!(world.run(&["factor", "list", uid, "-o", "json"])? == before, "something was begun");
    // What the password and a method are enough for.
    let mut pages = world.sign_in(uid).await?;
    pages.submit("/code", &[("code", "code")]).await?;
    pages.submit("/code", &[("code", &greta.code(0)?)]).await?;
    ensure!(pages.path == "/account" && pages.html.contains("href=\"/enrol\""), "{}: {}", pages.path, pages.html);
    // Devices never ask them.
    world.run(&["user", "edit", uid, "--allowed-methods", "questions"])?;
    ensure!(world.device(VPN)?.login(uid, &password_of(uid)).await? == Answer::Reject);
    world.ended(uid, "no_usable_method", "")
}

async fn wrong_answers_lock_as_wrong_pins_do(world: &mut World) -> Result<()> {
    // V-31, FP-09: a wrong set counts in FV-22
    let uid = "hugo.jones";
    world.answers_of(uid)?;
    world.run(&["user", "edit", uid, "--allowed-methods", "questions"])?;
    let wrong = ["rex", "paris", "toni", "harbour office"];
    for tries in [3, 2] {
        let mut pages = world.sign_in(uid).await?;
        for _ in 0..tries {
            pages.submit("/code", &typed(wrong)).await?;
        }
    }
    let mut pages = world.sign_in(uid).await?;
    if pages.path == "/code" {
        pages.submit("/code", &typed(ANSWERS)).await?;
    }
    ensure!(pages.path != "/account", "right answers after too many wrong ones");
    world.ended(uid, "locked_out", "questions")?;
    world.run(&["user", "unlock", uid])?;
    let mut pages = world.sign_in(uid).await?;
    pages.submit("/code", &typed(ANSWERS)).await?;
    ensure!(pages.path == "/account", "{}: {}", pages.path, pages.html);
    ensure!(pages.html.contains("href=\"/invitation\""), "an invitation is the way to a method: {}", pages.html);
    Ok(())
}

async fn a_text_is_answered_only_where_the_settings_say_so(world: &mut World) -> Result<()> {
    // FV-04: off, as replies get lost and cost money
    world.settings(On::default()).await?;
    let uid = "ida.reed";
    world.phone_of(uid, "+493023125021", "sms_reply")?;
    ensure!(world.bind(WIKI, uid).await? == REFUSED);
    ensure!(world.outside.carrier.received().is_empty(), "a text was sent");
    world.ended(uid, "no_usable_method", "")
}

async fn an_answered_text_opens_a_waiting_radius_login_and_a_waiting_bind(world: &mut World) -> Result<()> {
    // FV-04
    world.settings(On { replies: true, ..On::default() }).await?;
    let uid = "ida.reed";
    for (gateway, from) in [("radius", DESKTOPS), ("radius that can ask", GATE), ("ldap", WIKI)] {
        let before = world.outside.carrier.received().len();
        let answered = async {
            let (to, code) = world.texted(before).await?;
            ensure!(to.ends_with("493023125021"), "{to}");
            ensure!(
                world.replies(&to, &format!("{code} "), Outside::SMS_SECRET).await? == TAKEN,
                "the reply is not taken"
            );
            Ok(())
        };
        let (in_, answered) = match gateway {
            "ldap" => {
                let (code, answered) = tokio::join!(world.bind(from, uid), answered);
                (code? == 0, answered)
            }
            _ => {
                let device = world.device(from)?;
                let password = password_of(uid);
                let (login, answered) = tokio::join!(device.login(uid, &password), answered);
                (login? == Answer::Accept, answered)
            }
        };
        answered.with_context(|| gateway.to_owned())?;
        ensure!(in_, "{gateway}: the right reply opens nothing");
        ensure!(world.outside.carrier.received().len() == before + 1, "{gateway}: more than one text");
        world.ended(uid, "user_approved", "sms_reply")?;
    }
    Ok(())
}

async fn a_wrong_a_late_and_a_forged_reply_open_nothing(world: &mut World) -> Result<()> {
    // FV-04, V-18
    let uid = "jonas.dyer";
    world.phone_of(uid, "+493023125022", "sms_reply")?;
    let before = world.outside.carrier.received().len();
    let (code, replied) = tokio::join!(world.bind(WIKI, uid), async {
        let (to, code) = world.texted(before).await?;
        ensure!(world.replies(&to, &code, "some other secret").await? == 404, "a forged reply");
        ensure!(world.replies("+493023125099", &code, Outside::SMS_SECRET).await? == TAKEN, "of somebody else");
        ensure!(world.replies(&to, "I am driving", Outside::SMS_SECRET).await? == TAKEN, "no answer at all");
        let wrong = if code == "000000" { "000001" } else { "000000" };
        ensure!(world.replies(&to, wrong, Outside::SMS_SECRET).await? == TAKEN);
        Ok((to, code))
    });
    let (to, right) = replied?;
    ensure!(code? == REFUSED, "a wrong reply let in");
    world.ended(uid, "wrong_number", "sms_reply")?;
    ensure!(world.replies(&to, &right, Outside::SMS_SECRET).await? == TAKEN, "too late");
    world.ended(uid, "wrong_number", "sms_reply")
}

async fn an_answered_text_carries_the_pin_too(world: &mut World) -> Result<()> {
    // FV-04: code then PIN
    let uid = "karla.keller";
    world.phone_of(uid, "+493023125023", "sms_reply")?;
    world.machine.command_line().run_with_input(&["user", "pin", "set", uid], "482617")?;
    world.run(&["user", "pin", "require", uid])?;
    for (pin, opens, reason) in
        [("", false, "wrong_number"), ("482618", false, "wrong_pin"), ("482617", true, "user_approved")]
    {
        let before = world.outside.carrier.received().len();
        let device = world.device(DESKTOPS)?;
        let password = password_of(uid);
        let (login, replied) = tokio::join!(device.login(uid, &password), async {
            let (to, code) = world.texted(before).await?;
            world.replies(&to, &format!("{code} {pin}"), Outside::SMS_SECRET).await
        });
        let replied = replied?;
        ensure!(replied == TAKEN, "{pin:?}: {replied}");
        ensure!((login? == Answer::Accept) == opens, "{pin:?}");
        world.ended(uid, reason, "sms_reply")?;
    }
    Ok(())
}

async fn the_backup_phone_rings_when_the_first_does_not_answer_and_only_then(world: &mut World) -> Result<()> {
    // FV-14, FV-02
    let uid = "leo.stone";
    let (first, second) = ("+493023125024", "+493023125025");
    world.phone_of(uid, first, "call")?;
    world.run(&["user", "edit", uid, "--backup-phone", second])?;
    let (device, password) = (world.device(DESKTOPS)?, password_of(uid));
    let to = |phone: &twiml::Phone| phone.order.get("To").cloned().unwrap_or_default();
    let rings = async |number: &str| {
        let phone = world.outside.vendor.next_call(world.outside.deliver()).await;
        ensure!(to(&phone) == number, "{} rings, not {number}", to(&phone));
        Ok(phone)
    };

    world.settings(On::default()).await?;
    let (login, rang) = tokio::join!(device.login(uid, &password), async {
        rings(first).await?.status("no-answer").await;
        Ok::<_, anyhow::Error>(())
    });
    rang?;
    ensure!(login? == Answer::Reject, "nobody answered");
    ensure!(world.outside.vendor.is_quiet().await, "a backup phone that is not allowed rings");
    world.ended(uid, "no_answer", "call")?;

    world.settings(On { backup_phone: true, ..On::default() }).await?;
    for on_the_first in ["no-answer", "busy"] {
        let (code, rang) = tokio::join!(world.bind(WIKI, uid), async {
            rings(first).await?.status(on_the_first).await;
            let mut phone = rings(second).await?;
            phone.answer("human").await;
            phone.press("#").await;
            Ok::<_, anyhow::Error>(())
        });
        rang.with_context(|| on_the_first.to_owned())?;
        ensure!(code? == 0, "the backup phone confirmed, after {on_the_first}");
        world.ended(uid, "call_confirmed", "call")?;
    }
    // Who answers has answered: a refusal on the first rings no second.
    let (login, rang) = tokio::join!(device.login(uid, &password), async {
        let mut phone = rings(first).await?;
        phone.answer("human").await;
        phone.hang_up().await;
        Ok::<_, anyhow::Error>(())
    });
    rang?;
    ensure!(login? == Answer::Reject);
    ensure!(world.outside.vendor.is_quiet().await, "a second phone rings after the first was answered");
    world.ended(uid, "hung_up", "call")
}

async fn a_phone_that_fails_is_followed_by_a_question_for_a_code_and_a_refusal_by_nothing(
    world: &mut World,
) -> Result<()> {
    // FR-06
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Phone {
        RingsAndRings,
        NoAnswer,
        Busy,
        Voicemail,
        NoKey,
        HungUp,
    }
    world.settings(On::default()).await?;
    // Whoever does not answer is left alone for a while: each is somebody else.
    for (number, (from, uid, phone, opens)) in [
        (FALLBACK, "sam.grant", Phone::RingsAndRings, true),
        (FALLBACK, "tina.noble", Phone::NoAnswer, true),
        (FALLBACK, "ulla.archer", Phone::Busy, true),
        (FALLBACK, "victor.hale", Phone::Voicemail, true),
        (FALLBACK, "wanda.osborn", Phone::NoKey, true),
        (FALLBACK, "xaver.baker", Phone::HungUp, false),
        (STRICT, "yara.irwin", Phone::NoAnswer, false),
    ]
    .into_iter()
    .enumerate()
    {
        let person = world.machine.command_line().enrol(uid)?;
        world.phone_of(uid, &format!("+4930239950{}", 40 + number), "call,code")?;
        let device = world.device(from)?;
        let (login, ()) = tokio::join!(device.login(uid, &person.password), async {
            let mut call = world.outside.vendor.next_call(world.outside.deliver()).await;
            match phone {
                Phone::RingsAndRings => {}
                Phone::NoAnswer => drop(call.status("no-answer").await),
                Phone::Busy => drop(call.status("busy").await),
                Phone::Voicemail => drop(call.answer("machine_start").await),
                Phone::NoKey => {
                    call.answer("human").await;
                    while !call.is_over() && call.keep_silent().await != 0 {}
                }
                Phone::HungUp => {
                    call.answer("human").await;
                    call.hang_up().await;
                }
            }
        });
        match login.with_context(|| format!("{phone:?}"))? {
            Answer::Challenge(state) if opens => {
                ensure!(device.respond(uid, &person.code(0)?, &state).await? == Answer::Accept, "{phone:?}");
                world.ended(uid, "valid_code", "code")?;
            }
            // A refusal is final, and where the client says no, no code is asked for.
            Answer::Reject if !opens => {
                world.ended(uid, if phone == Phone::HungUp { "hung_up" } else { "no_answer" }, "call")?;
            }
            other => bail!("{other:?} after {phone:?}"),
        }
    }
    Ok(())
}

async fn an_initial_pin_is_changed_before_it_lets_anybody_in(world: &mut World) -> Result<()> {
    // FV-21, FV-20
    world.settings(On::default()).await?;
    for (uid, number, not_taken) in
        [("mia.eaton", "+493023125026", ["1111", "1111"]), ("noah.lang", "+493023125027", ["591736", "591737"])]
    {
        world.phone_of(uid, number, "sms,call")?;
        let made = world.machine.command_line().json(&["user", "pin", "reset", uid, "--yes"])?;
        let initial = made["pin"].as_str().context("a PIN")?.to_owned();
        ensure!(initial.len() == 6 && made["must_change"] == true, "{made}");
        world.run(&["user", "pin", "require", uid])?;
        let (vpn, before) = (world.device(VPN)?, world.outside.carrier.received().len());
        let Answer::Challenge(state) = vpn.login(uid, &password_of(uid)).await? else { bail!("no challenge") };
        let code = world.texted(before).await?.1;
        let (mut state, mut shown) = vpn.asked(uid, &format!("{code}{initial}"), Some(&state)).await?;
        ensure!(shown.to_lowercase().contains("new pin"), "{shown}");
        let again = shown.clone();
        for typed in [not_taken[0], not_taken[1], "591736"] {
            (state, shown) = vpn.asked(uid, typed, Some(&state)).await?;
        }
        ensure!(shown != again, "the last one is asked for again: {shown}");
        ensure!(vpn.respond(uid, "591736", &state).await? == Answer::Accept, "{uid}");
        world.ended(uid, "valid_code", "sms")?;
        // The new one counts on the other channel, the old one no more.
        world.run(&["user", "edit", uid, "--default-method", "call"])?;
        let (device, password) = (world.device(DESKTOPS)?, password_of(uid));
        for (pin, opens) in [(initial.as_str(), false), ("591736", true)] {
            let (login, ()) = tokio::join!(device.login(uid, &password), async {
                let mut phone = world.outside.vendor.next_call(world.outside.deliver()).await;
                phone.answer("human").await;
                phone.press(&format!("{pin}#")).await;
                if !phone.is_over() {
                    phone.hang_up().await;
                }
            });
            ensure!(
                (login? == Answer::Accept) == opens,
                "{uid}: {}",
                if opens { "the new PIN" } else { "the old PIN" }
            );
        }
        world.ended(uid, "call_confirmed", "call")?;
    }
    Ok(())
}

async fn tokens_and_their_holders_come_out_of_two_files(world: &mut World) -> Result<()> {
    // FI-01, FI-02: seeds from the vendor, users and serials from the other system
    let command_line = world.machine.command_line();
    let import = |arguments: &[&str], file: &str| -> Result<(bool, Value)> {
        let mut all = vec!["import", "-", "-o", "json"];
        all.extend(arguments);
        let output = command_line.output(&all, file)?;
        let report = serde_json::from_slice(&output.stdout);
        Ok((output.status.success(), report.with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?))
    };
    let seed = "3132333435363738393031323334353637383930";
    let seeds = format!("D-101,{seed},totp,6,30,sha1\nD-102,{seed},totp,6,60,sha256\n");
    let (good, report) = import(&["--yes"], &seeds)?;
    ensure!(good && report["added"] == 2, "{report}");

    let users = "username,realname,email,status,phone1,phone2,token1,token2\n\
        olga.turner,Olga Turner,,active,,+49 30 23125 031,D-101,\n\
        paul.fisher,Paul Fisher,,active,,,D-102,D-103\n\
        nobody.here,,,active,,,D-104,\n";
    let owners = || -> Result<Vec<String>> {
        let listed = command_line.json(&["token", "list", "D-10"])?;
        let items = listed["items"].as_array().context("items")?;
        Ok(items.iter().map(|it| format!("{} {}", it["serial"], it["user"])).collect())
    };
    let verdicts = |report: &Value| -> Vec<String> {
        let items = report["items"].as_array().into_iter().flatten();
        items.map(|it| format!("{} {}", it["name"], it["verdict"]).replace('"', "")).collect()
    };
    let nobodys = owners()?;
    let (good, planned) = import(&["--preset", "duo-csv", "--overwrite", "--dry-run"], users)?;
    ensure!(!good && owners()? == nobodys, "a dry run gave tokens away: {planned}");
    let (good, done) = import(&["--preset", "duo-csv", "--overwrite", "--yes"], users)?;
    ensure!(!good, "a token that is not there is told: {done}");
    ensure!(verdicts(&planned) == verdicts(&done), "{planned} {done}");
    for expected in ["D-101 change", "D-102 change", "D-103 refused", "nobody.here refused"] {
        ensure!(verdicts(&done).iter().any(|verdict| verdict == expected), "no {expected} in {done}");
    }
    ensure!(!done.to_string().contains("D-104"), "a token of somebody unknown: {done}");
    let owned = owners()?;
    ensure!(owned[0].contains("olga.turner") && owned[1].contains("paul.fisher"), "{owned:?}");
    let token = command_line.json(&["token", "show", "D-101"])?;
    ensure!(token["pending"] == true, "it counts before a code was proven: {token}");
    let (_, again) = import(&["--preset", "duo-csv", "--overwrite", "--yes"], users)?;
    ensure!(again["changed"] == 0, "the same file again changes something: {again}");
    Ok(())
}
