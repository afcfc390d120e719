//! The app on the phone in a real browser, with a virtual authenticator: the portal and verification as they are, a store in memory,
//! and a push service of our own. Pictures of every page are left in `target/screenshots`.

#[path = "../../../tests/e2e/tests/portal_browser/browser.rs"]
mod browser;
#[path = "../../verification/tests/prompts/mod.rs"]
mod prompts;
mod support;

use anyhow::{Context, Result, ensure};
use browser::{Browser, DARK_PHONE, PHONE};
use domain::settings::FirstEnrolment;
use lab::phones::{BrowserSide, PushService};
use portal::{Deps, Portal, PortalSection};
use proto::user_store::Prompt;
use proto::verification::StartDeviceRequest;
use proto::verification::enrolment_server::Enrolment;
use serde_json::json;
use service_kit::{Clock, Process};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{FakeDirectory, FakeStore};
use tonic::Request;
use verification::Service;

/// WCAG 2.2: one heading of the first level (1.3.1), a name for everything to be used (4.1.2), contrast of all text that is seen
/// (1.4.3: 4.5, large 3). What does not hold.
const ACCESSIBLE: &str = r#"(() => {
    const seen = (it) => it.checkVisibility({ visibilityProperty: true });
    const all = (selector) => [...document.querySelectorAll(selector)].filter(seen);
    const rgba = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { r, g, b, a }; };
    const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const light = ({ r, g, b }) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    const under = (it) => { for (; it; it = it.parentElement) { const c = rgba(getComputedStyle(it).backgroundColor); if (c.a === 1) return c; } return { r: 255, g: 255, b: 255 }; };
    const wrong = [];
    if (all("h1").length !== 1) wrong.push(`${all("h1").length} headings h1`);
    if (!document.documentElement.lang) wrong.push("no language");
    for (const it of all("input")) if (![...it.labels].some((label) => label.textContent.trim())) wrong.push(`no label: ${it.id}`);
    for (const it of all("button, a")) if (!it.textContent.trim() && !it.ariaLabel) wrong.push(`no name: ${it.outerHTML}`);
    for (const it of all("svg")) if (it.getAttribute("aria-hidden") !== "true" && !it.getAttribute("aria-label")) wrong.push("a picture without words");
    for (const it of all("body *")) {
        if (it.disabled || ![...it.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
        if (it.classList.contains("unseen")) continue;
        const style = getComputedStyle(it), size = parseFloat(style.fontSize);
        const [one, two] = [light(rgba(style.color)), light(under(it))].sort((a, b) => b - a);
        const ratio = (one + 0.05) / (two + 0.05);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        if (ratio < (large ? 3 : 4.5)) wrong.push(`contrast ${ratio.toFixed(2)}: ${it.textContent.trim().slice(0, 30)}`);
    }
    return wrong;
})()"#;

struct Scene {
    browser: Browser,
    world: prompts::World,
    node: Arc<Service>,
    push: PushService,
    subscriber: BrowserSide,
    url: String,
    authenticator: String,
    process: Process,
    _portal: Portal,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Result<Self> {
        let push = PushService::start().await?;
        let subscriber = push.subscribe("chromium");
        let port = lab::free_port();
        let url = format!("http://localhost:{port}");
        let settings = json!({
            "push": { "hosts": ["127.0.0.1"], "contact": "mailto:ops@example.com" },
            "portal": { "company": "Example & Sons" },
        });
        let world = prompts::World::at(Clock::system(), settings, &[]);
        world.store.lock().portal_url.clone_from(&url);
        let node = world.node().await;

        let store = Arc::new(FakeStore::new(FirstEnrolment::Open));
        let process = Process::detached("portal");
        let deps = Deps {
            portal_data: store.clone(),
            admin: store.clone(),
            verification: node.clone(),
            enrolment: node.clone(),
            phone: node.clone(),
            callback: node.clone(),
            password_check: Arc::new(FakeDirectory::new(store.clone())),
            directories: Arc::new(FakeDirectory::new(store.clone())),
            settings: store,
            bus: world.bus.clone(),
            clock: world.clock.clone(),
            randomness: getrandom::fill,
        };
        // Localhost is a secure context without a certificate too.
        let section: PortalSection = serde_json::from_value(json!({
            "listen": [format!("127.0.0.1:{port}")], "public_url": url, "danger_plain_http": true,
        }))?;
        let portal = Portal::start(section, deps, &process).await?.context("it listens")?;
        while !process.health().is_started() {
            tokio::task::yield_now().await;
        }

        let dir = tempfile::tempdir()?;
        let mut browser = Browser::start(dir.path()).await?;
        browser.look_with(PHONE).await?;
        let authenticator = browser.give_authenticator().await?;
        browser.subscribe_as(&url, &subscriber.subscription()).await?;
        Ok(Self { browser, world, node, push, subscriber, url, authenticator, process, _portal: portal, _dir: dir })
    }

    async fn activation_code(&self) -> String {
        let request = StartDeviceRequest { user_id: prompts::USER.into(), kind: "web".into(), actor: "self".into() };
        let started = self.node.start_device(Request::new(request)).await.expect("answered").into_inner();
        String::from_utf8(started.code.expect("a code").value.clone()).expect("text")
    }

    /// The phone is connected and has approved its first prompt.
    async fn connect(&mut self) -> Result<()> {
        let code = self.activation_code().await;
        self.browser.open(&format!("{}/phone#{code}", self.url)).await?;
        self.browser.see("#confirm").await?;
        ensure!(
            self.browser.value("location.href").await? == format!("{}/phone/activate", self.url),
            "the code stays in the address"
        );
        self.picture("phone-activate-confirm").await?;
        ensure!(self.browser.text("#confirm-account").await? == "ann@corp.example");
        self.browser.click("#confirm-form button").await?;
        self.browser.see("#connected").await?;
        self.picture("phone-activate-connected").await?;
        self.browser.click("#go-on").await?;
        self.browser.see("#prompt").await?;
        self.browser.click("#approve").await?;
        self.browser.see("#result-approved").await?;
        self.picture("phone-approved").await?;
        ensure!(self.world.store.lock().devices.last().context("a device")?.1.state == "active");
        self.browser.click("#result-approved .done-button").await?;
        self.browser.see("#wait").await?;
        // With the approval came a seed; one code of it is proven already, and the next one is shown on demand.
        self.browser.see("#codes").await?;
        ensure!(self.world.store.lock().factors.last().is_some_and(|factor| !factor.pending), "a seed that counts");
        self.browser.click("#code-button").await?;
        self.browser.see("#code-now").await?;
        self.picture("phone-code").await
    }

    /// A login asks; the page shows it by itself.
    async fn ask(&mut self, change: impl FnOnce(&mut Prompt)) -> Result<String> {
        let id = self.world.prompt("push").prompt_id;
        {
            let mut state = self.world.store.lock();
            let prompt = state.prompts.iter_mut().find(|prompt| prompt.prompt_id == id).context("it")?;
            prompt.application = "VPN head office".into();
            prompt.place = "203.0.113.9, Germany".into();
            change(prompt);
        }
        self.browser.see("#prompt").await?;
        Ok(id)
    }

    fn outcome(&self, id: &str) -> (String, String) {
        let prompt = self.world.store.read(id);
        (prompt.outcome, prompt.assurance)
    }

    async fn done(&mut self, result: &str) -> Result<()> {
        self.browser.click(&format!("#{result} .done-button")).await?;
        self.browser.see("#wait").await
    }

    /// In light and dark; nothing reaches over the edge of a phone, and everything to be tapped is large enough (WCAG 2.5.8).
    async fn picture(&mut self, name: &str) -> Result<()> {
        for screen in [DARK_PHONE, PHONE] {
            self.browser.pictures(name, &[screen]).await?;
            let found = self.browser.value(ACCESSIBLE).await?;
            ensure!(found == json!([]), "{name} on the {}: {found}", screen.name);
        }
        let small = self
            .browser
            .value(
                "[...document.querySelectorAll('main button, main a, main input')].filter(it => it.checkVisibility()) \
                 .map(it => [it.id || it.textContent, it.getBoundingClientRect()]).filter(([, box]) => box.height < 24 || box.width < 24) \
                 .map(([name]) => name)",
            )
            .await?;
        ensure!(small == json!([]), "{name}: too small to tap: {small}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_with_the_app_on_the_phone() -> Result<()> {
    // FM-04, FM-08, FV-05, V-20, V-21, V-22
    let mut scene = Scene::new().await?;
    let scene = &mut scene;
    scene.browser.open(&format!("{}/phone", scene.url)).await?;
    scene.browser.see("#none").await?;
    scene.picture("phone-none").await?;
    scene.browser.follow("#none a").await?;
    scene.browser.see("#enter").await?;
    scene.picture("phone-activate-enter").await?;
    scene.browser.type_into("#code", "AAAAA-AAAAA-AAAAA-AAAAA-AAAAA-A").await?;
    scene.browser.click("#code-form button").await?;
    scene.browser.see("#problem").await?;
    scene.browser.no_complaint().await?;

    scene.connect().await.context("to connect")?;
    scene.picture("phone-wait").await?;

    // A number that the other screen shows is typed here; a passkey signs it with everything else.
    let id = scene.ask(|prompt| prompt.number = "42".into()).await?;
    scene.picture("phone-prompt-number").await?;
    ensure!(scene.browser.text("#prompt-application").await? == "VPN head office");
    ensure!(scene.browser.text("#prompt-place").await? == "203.0.113.9, Germany");
    ensure!(scene.browser.value("document.activeElement.tagName").await? == "H1", "the heading is read out");
    ensure!(scene.browser.text("#news").await? == "A sign-in is waiting for your answer.");
    scene.browser.click("#approve").await?;
    scene.browser.see("#problem").await?;
    scene.picture("phone-prompt-number-missing").await?;
    scene.browser.type_into("#number", "42").await?;
    scene.browser.click("#approve").await?;
    scene.browser.see("#result-approved").await?;
    ensure!(scene.outcome(&id) == ("approved".into(), "number_matched".into()));
    scene.done("result-approved").await?;

    let id = scene.ask(|prompt| prompt.number = "42".into()).await?;
    scene.browser.type_into("#number", "24").await?;
    scene.browser.click("#approve").await?;
    scene.browser.see("#result-failed").await?;
    scene.picture("phone-wrong-number").await?;
    ensure!(scene.outcome(&id).0 == "wrong_number");
    scene.done("result-failed").await?;

    let id = scene.ask(|_| {}).await?;
    scene.picture("phone-prompt").await?;
    scene.browser.click("#deny").await?;
    scene.browser.see("#result-denied").await?;
    scene.picture("phone-denied").await?;
    ensure!(scene.outcome(&id).0 == "denied");
    scene.done("result-denied").await?;

    let id = scene.ask(|_| {}).await?;
    scene.browser.click("#fraud").await?;
    scene.browser.see("#result-fraud").await?;
    scene.picture("phone-fraud").await?;
    ensure!(scene.outcome(&id).0 == "fraud");
    scene.done("result-fraud").await?;

    let id = scene.ask(|prompt| prompt.pin_asked = true).await?;
    scene.browser.type_into("#pin", "0000").await?;
    scene.browser.click("#approve").await?;
    scene.browser.see("#problem").await?;
    scene.picture("phone-prompt-pin-wrong").await?;
    ensure!(scene.outcome(&id).0.is_empty(), "a wrong PIN ended it");
    ensure!(scene.browser.value("document.querySelector('#pin').value").await? == "", "the PIN comes back");
    scene.browser.type_into("#pin", "4711").await?;
    scene.browser.click("#approve").await?;
    scene.browser.see("#result-approved").await?;
    ensure!(scene.outcome(&id).0 == "approved");
    scene.done("result-approved").await?;

    // Somebody else answers, or nobody: it goes away by itself.
    let id = scene.ask(|_| {}).await?;
    scene.world.store.end(&id, "withdrawn");
    scene.browser.see("#result-gone").await?;
    scene.picture("phone-gone").await?;
    scene.done("result-gone").await?;

    // A person who is not verified approves nothing, and may still refuse.
    let id = scene.ask(|_| {}).await?;
    scene.browser.verify_person(&scene.authenticator, false).await?;
    scene.browser.click("#approve").await?;
    scene.browser.see("#problem").await?;
    ensure!(scene.outcome(&id).0.is_empty(), "approved without verification");
    scene.browser.click("#deny").await?;
    scene.browser.see("#result-denied").await?;
    scene.browser.verify_person(&scene.authenticator, true).await?;
    scene.done("result-denied").await?;
    scene.browser.no_complaint().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_is_woken_and_has_something_to_say_without_a_network() -> Result<()> {
    // FN-08, V-24
    let mut scene = Scene::new().await?;
    let scene = &mut scene;
    scene.browser.call("ServiceWorker.enable", json!({})).await?;
    scene.connect().await.context("to connect")?;
    // The page has told its subscription, or the activation has.
    let waits = |scene: &Scene| scene.world.store.lock().devices[0].1.subscription.is_some();
    for _ in 0..600 {
        if waits(scene) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(waits(scene), "nobody knows how to wake it");
    while !scene.push.is_quiet().await {}

    let prompt = scene.world.prompt("push");
    let devices: Vec<_> = scene.world.store.lock().devices.iter().map(|(_, device)| device.clone()).collect();
    scene.node.carriers().push(&prompt, &devices).await?;
    let message = scene.subscriber.open(&scene.push.next().await?.body)?;
    let registration = scene
        .browser
        .told("ServiceWorker.workerRegistrationUpdated")
        .iter()
        .rev()
        .find_map(|event| event["params"]["registrations"][0]["registrationId"].as_str().map(str::to_owned))
        .context("no service worker")?;
    let pushed = json!({ "origin": scene.url, "registrationId": registration, "data": String::from_utf8(message)? });
    scene.browser.call("ServiceWorker.deliverPushMessage", pushed).await?;
    let shown = scene
        .browser
        .value(
            "new Promise(async (shown) => { const it = await navigator.serviceWorker.ready; for (let n = 0; n < 200; n++) { \
             const [first] = await it.getNotifications(); if (first) return shown([first.title, first.body, first.data.navigate]); \
             await new Promise(later => setTimeout(later, 50)); } shown(null); })",
        )
        .await?;
    let navigate = format!("{}/phone?prompt={}", scene.url, prompt.prompt_id);
    let expected = json!(["Sign-in request", "Tap to see who is signing in, and answer.", navigate]);
    ensure!(shown == expected, "{shown}");
    // Its address opens what it is about.
    scene.browser.open(&navigate).await?;
    scene.browser.see("#prompt").await?;
    scene.browser.click("#approve").await?;
    scene.browser.see("#result-approved").await?;
    // The page asks for it to be closed, and does not wait.
    let left = "navigator.serviceWorker.ready.then(it => it.getNotifications()).then(it => it.length)";
    let begun = Instant::now();
    while scene.browser.value(left).await? != 0 {
        ensure!(begun.elapsed() < Duration::from_secs(5), "the notification stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // The portal is away: the open page says so, and so does one that is opened now.
    scene.done("result-approved").await?;
    scene.process.shutdown().begin();
    scene.process.shutdown().finished().await;
    scene.browser.see("#problem").await?;
    scene.picture("phone-no-connection").await?;
    scene.browser.open(&format!("{}/phone", scene.url)).await?;
    ensure!(scene.browser.text("h1").await? == "No network");
    scene.browser.see("#codes").await?;
    scene.browser.click("#code-button").await?;
    scene.browser.see("#code-now").await?;
    scene.picture("phone-offline").await?;
    let styled = scene.browser.value("getComputedStyle(document.querySelector('.card')).borderRadius").await?;
    ensure!(styled == "14px", "without its style: {styled}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_without_a_passkey_is_connected_with_a_simpler_key_in_the_language_of_its_person() -> Result<()> {
    let mut scene = Scene::new().await?;
    let scene = &mut scene;
    scene.browser.take_authenticator(&scene.authenticator).await?;
    let german = json!({ "headers": { "accept-language": "de-AT, en;q=0.5" } });
    scene.browser.call("Network.setExtraHTTPHeaders", german).await?;
    let code = scene.activation_code().await;
    // Chromium without an authenticator asks its person for ever; this one says no.
    let no =
        "CredentialsContainer.prototype.create = async () => { throw new DOMException('no', 'NotAllowedError'); };";
    scene.browser.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": no })).await?;
    scene.browser.open(&format!("{}/phone/activate#{code}", scene.url)).await?;
    scene.browser.see("#confirm").await?;
    ensure!(scene.browser.value("document.documentElement.lang").await? == "de");
    ensure!(scene.browser.text("#confirm h1").await? == "Mit diesem Konto verbinden?");
    scene.picture("phone-de-activate-confirm").await?;
    scene.browser.click("#confirm-form button").await?;
    scene.browser.see("#without").await?;
    scene.picture("phone-de-activate-without").await?;
    scene.browser.click("#without-passkey").await?;
    scene.browser.see("#connected").await?;
    scene.browser.click("#go-on").await?;
    scene.browser.see("#prompt").await?;
    scene.picture("phone-de-prompt").await?;
    scene.browser.click("#approve").await?;
    scene.browser.see("#result-approved").await?;
    scene.done("result-approved").await?;
    let id = scene.ask(|prompt| prompt.number = "07".into()).await?;
    scene.browser.type_into("#number", "07").await?;
    scene.browser.click("#approve").await?;
    scene.browser.see("#result-approved").await?;
    ensure!(scene.outcome(&id) == ("approved".into(), "number_matched".into()));
    // The private key cannot be taken out, not even by a script of ours.
    let taken = scene
        .browser
        .value(
            "Twinlock.load().then(it => crypto.subtle.exportKey('jwk', it.keys.privateKey)).then(() => 'out', error => error.name)",
        )
        .await?;
    ensure!(taken == "InvalidAccessError", "{taken}");
    scene.browser.no_complaint().await
}
