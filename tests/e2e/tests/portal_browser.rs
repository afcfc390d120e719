//! The portal in a real browser: somebody of the company signs in, connects an authenticator app by the QR page and signs
//! in with it. Pictures of every page are left in `target/screenshots`.

#[path = "portal_browser/browser.rs"]
mod browser;

use anyhow::{Context, Result, bail, ensure};
use browser::{Browser, DARK, DESKTOP, PHONE};
use e2e::{OneMachine, story};
use lab::{Person, password_of, repository};
use std::fs;

const UID: &str = "ann.archer";

struct World {
    browser: Browser,
    machine: OneMachine,
    /// With the secret of the QR page, once she has seen it.
    ann: Option<Person>,
    /// The code she signed in with.
    used: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_before_the_portal() -> Result<()> {
    let machine = OneMachine::start(0, "", "", &[])?;
    let browser = Browser::start(machine.dir.path()).await?;
    let mut world = World { browser, machine, ann: None, used: String::new() };
    story!(&mut world;
        a_wrong_password_is_refused_in_words_with_a_reference,
        the_password_leads_to_a_qr_code_and_its_code_to_an_account,
        who_signs_out_needs_password_and_the_next_code,
        a_used_code_is_refused_in_words,
        a_passkey_is_added_and_signs_in,
        the_browser_does_tell_of_what_is_forbidden,
    )
}

async fn a_wrong_password_is_refused_in_words_with_a_reference(world: &mut World) -> Result<()> {
    world.browser.open(&world.machine.twinlock.portal_url()).await?;
    world.see("sign-in", "Sign in").await?;
    let focus = world.browser.value("document.activeElement.id").await?;
    ensure!(focus == "name", "the cursor is in {focus}");
    ensure!(world.browser.complaints().await?.is_empty());
    world.browser.type_into("#name", UID).await?;
    world.browser.type_into("#password", "Nonsense").await?;
    world.browser.follow("button.main").await?;
    world.see("sign-in-refused", "Sign in").await?;
    let notice = world.browser.text("[role=alert]").await?;
    ensure!(notice.starts_with("Sign-in failed.") && notice.contains("Ref "), "{notice}");
    ensure!(world.browser.value("document.querySelector('#password').value").await? == "", "the password comes back");
    world.only_the_refusal().await
}

async fn the_password_leads_to_a_qr_code_and_its_code_to_an_account(world: &mut World) -> Result<()> {
    world.sign_in().await?;
    world.see("enrol", "Add a sign-in method").await?;
    // V-80: the browser has taken the cookie with its prefix, and keeps it from scripts.
    let cookies = world.browser.cookies().await?;
    let session = cookies.iter().find(|cookie| cookie["name"] == "__Host-twinlock").context("no session cookie")?;
    let strict = session["secure"] == true && session["httpOnly"] == true && session["sameSite"] == "Strict";
    ensure!(strict, "{session}");

    world.browser.follow("form[action='/enrol/start'] button").await?;
    world.qr_code_can_be_scanned().await?;
    world.see("qr", "Connect your authenticator app").await?;
    world.browser.picture(DARK, &picture_file("qr-dark")?).await?;
    world.browser.look_with(DESKTOP).await?;
    let secret: String = world.browser.text("#secret").await?.split_whitespace().collect();
    ensure!(secret.len() >= 32, "{} characters of Base32 are less than 160 bits", secret.len());
    let ann = Person::new(UID, &secret);
    world.browser.type_into("#code", &ann.code(-1)?).await?;
    world.browser.follow("form[action='/enrol/confirm'] button").await?;
    world.ann = Some(ann);
    world.see("enrolled", "Your app is ready").await?;

    world.browser.follow("main a.button").await?;
    world.see("account", "Your account").await?;
    ensure!(world.browser.text("header .who-name").await?.contains(UID), "who is signed in?");
    // Beside the telephone that the directory tells of.
    let methods = world.authenticator_app().await?;
    ensure!(methods.contains("Added"), "{methods}");
    world.no_complaint().await
}

async fn who_signs_out_needs_password_and_the_next_code(world: &mut World) -> Result<()> {
    world.browser.follow("header form button").await?;
    world.see("signed-out", "Sign in").await?;
    ensure!(world.browser.text("[role=status]").await? == "You have signed out.");
    world.browser.open(&world.account_url()).await?;
    ensure!(world.browser.text("h1").await? == "Sign in", "the account is open after signing out");

    world.sign_in().await?;
    world.see("code", "Enter your code").await?;
    world.browser.open(&world.account_url()).await?;
    ensure!(world.browser.text("h1").await? == "Enter your code", "the password alone opens the account");
    let code = world.ann()?.code(0)?;
    world.browser.type_into("#code", &code).await?;
    world.browser.follow("button.main").await?;
    world.used = code;
    world.see("account-again", "Your account").await?;
    let methods = world.authenticator_app().await?;
    ensure!(methods.contains("Last used") && !methods.contains("Not used yet"), "{methods}");
    world.no_complaint().await
}

async fn a_used_code_is_refused_in_words(world: &mut World) -> Result<()> {
    // V-11
    world.browser.follow("header form button").await?;
    world.sign_in().await?;
    world.no_complaint().await?;
    world.browser.type_into("#code", &world.used).await?;
    world.browser.follow("button.main").await?;
    world.see("code-refused", "Enter your code").await?;
    let notice = world.browser.text("[role=alert]").await?;
    ensure!(notice.contains("That code was used before.") && notice.contains("Ref "), "{notice}");
    world.only_the_refusal().await
}

async fn a_passkey_is_added_and_signs_in(world: &mut World) -> Result<()> {
    // FV-08, FP-12
    let authenticator = world.browser.give_authenticator().await?;
    let code = world.ann()?.code(1)?;
    world.browser.type_into("#code", &code).await?;
    world.browser.follow("button.main").await?;
    world.browser.complaints().await?;
    world.browser.open(&format!("{}/enrol", world.machine.twinlock.portal_url())).await?;
    world.browser.follow("form[action='/enrol/passkey'] button").await?;
    world.see("passkey-new", "Add a passkey").await?;
    let shown = "document.querySelector('#impossible').checkVisibility()";
    ensure!(world.browser.value(shown).await? == false, "it complains before anything was tried");
    // A person who is not verified makes none.
    world.browser.verify_person(&authenticator, false).await?;
    world.browser.click("button.main").await?;
    world.browser.see("#impossible").await?;
    world.browser.verify_person(&authenticator, true).await?;
    world.browser.type_into("#name", "Laptop").await?;
    world.browser.follow("button.main").await?;
    ensure!(world.browser.text("main").await?.contains("You can sign in here with it from now on."));
    world.browser.open(&world.account_url()).await?;
    ensure!(world.browser.text(".methods").await?.contains("Passkey"));
    world.no_complaint().await?;

    world.machine.command_line().run(&["user", "edit", UID, "--allowed-methods", "passkey"])?;
    world.browser.follow("header form button").await?;
    world.sign_in().await?;
    world.see("passkey", "Use your passkey").await?;
    ensure!(world.browser.value(shown).await? == false, "it complains before anything was tried");
    world.browser.follow("button.main").await?;
    ensure!(world.browser.text("h1").await? == "Your account", "{}", world.browser.text("main").await?);
    // Another authenticator has no such key.
    world.browser.follow("header form button").await?;
    world.browser.take_authenticator(&authenticator).await?;
    world.browser.give_authenticator().await?;
    world.sign_in().await?;
    world.browser.click("button.main").await?;
    world.browser.see("#impossible").await?;
    world.browser.open(&world.account_url()).await?;
    ensure!(world.browser.text("h1").await? == "Use your passkey", "the password alone opens the account");
    world.no_complaint().await
}

async fn the_browser_does_tell_of_what_is_forbidden(world: &mut World) -> Result<()> {
    // The silence before means something: a style in the page and a script from elsewhere are complained of.
    world.no_complaint().await?;
    world.browser.value("void document.body.setAttribute('style', 'color: red')").await?;
    let complaints = world.browser.complaints().await?.join("\n");
    ensure!(complaints.contains("style-src"), "nothing about an inline style: {complaints}");
    world.browser.value("void document.body.appendChild(document.createElement('script')).setAttribute('src', 'https://localhost:9/x.js')").await?;
    let complaints = world.browser.complaints().await?.join("\n");
    ensure!(complaints.contains("script-src"), "nothing about a foreign script: {complaints}");
    world.browser.value("void console.error('on purpose')").await?;
    ensure!(world.browser.complaints().await?.join("\n").contains("on purpose"), "nothing about an error");
    Ok(())
}

impl World {
    /// Name and password, from the start page.
    async fn sign_in(&mut self) -> Result<()> {
        self.browser.open(&self.machine.twinlock.portal_url()).await?;
        self.browser.type_into("#name", UID).await?;
        self.browser.type_into("#password", &password_of(UID)).await?;
        self.browser.follow("button.main").await
    }

    /// The page has this heading, fits both screens from side to side, and is pictured on both.
    async fn see(&mut self, page: &str, heading: &str) -> Result<()> {
        let found = self.browser.text("h1").await?;
        ensure!(found == heading, "{found:?} instead of {heading:?}: {}", self.browser.text("main").await?);
        self.browser.pictures(page, &[PHONE, DESKTOP]).await
    }

    /// Dark on white with its border, on every screen, wholly in sight from side to side, a module some pixels wide.
    async fn qr_code_can_be_scanned(&mut self) -> Result<()> {
        for screen in [PHONE, DARK, DESKTOP] {
            self.browser.look_with(screen).await?;
            let qr = self
                .browser
                .value(
                    "(() => { const svg = document.querySelector('svg[role=img]'), box = svg.getBoundingClientRect(); \
                     const fill = name => getComputedStyle(svg.querySelector(name)).fill; \
                     return {width: box.width, height: box.height, left: box.left, right: innerWidth - box.right, \
                     modules: svg.viewBox.baseVal.width, light: fill('rect'), dark: fill('path'), \
                     shown: svg.checkVisibility()}; })()",
                )
                .await?;
            let pixels = |name: &str| qr[name].as_f64().unwrap_or(-1.0);
            ensure!(qr["shown"] == true && qr["light"] == "rgb(255, 255, 255)" && qr["dark"] == "rgb(0, 0, 0)", "{qr}");
            ensure!(pixels("width") == 240.0 && pixels("height") == 240.0, "{}: {qr}", screen.name);
            ensure!(pixels("left") >= 0.0 && pixels("right") >= 0.0, "{}: {qr}", screen.name);
            ensure!(pixels("width") / pixels("modules") >= 3.0, "{}: {qr}", screen.name);
        }
        Ok(())
    }

    /// What the account says of the one authenticator app.
    async fn authenticator_app(&mut self) -> Result<String> {
        let apps = "[...document.querySelectorAll('.methods > li')].map(it => it.innerText).filter(it => it.includes('Authenticator app'))";
        let apps = self.browser.value(apps).await?;
        match apps.as_array().map(Vec::as_slice) {
            Some([app]) => Ok(app.as_str().unwrap_or_default().to_owned()),
            _ => bail!("{apps}"),
        }
    }

    async fn no_complaint(&mut self) -> Result<()> {
        self.browser.no_complaint().await
    }

    /// A refused form is answered with 403, which the browser notes; nothing else.
    async fn only_the_refusal(&mut self) -> Result<()> {
        let complaints = self.browser.complaints().await?;
        let (refusals, others): (Vec<_>, Vec<_>) =
            complaints.into_iter().partition(|text| text.contains("responded with a status of 403"));
        ensure!(refusals.len() == 1 && others.is_empty(), "{refusals:?}, and {others:?}");
        Ok(())
    }

    fn account_url(&self) -> String {
        format!("{}/account", self.machine.twinlock.portal_url())
    }

    fn ann(&self) -> Result<&Person> {
        self.ann.as_ref().context("she has no app yet")
    }
}

fn picture_file(name: &str) -> Result<std::path::PathBuf> {
    let folder = repository().join("target/screenshots");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{name}.png")))
}
