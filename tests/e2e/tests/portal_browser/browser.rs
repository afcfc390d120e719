//! A real Chromium, headless, driven over its debugging port (the DevTools protocol): clicks and keys as a person's, and
//! every complaint of the browser about the pages.

#![allow(dead_code, reason = "each test program uses its part")]

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use futures::{SinkExt, StreamExt};
use lab::{Proc, program, repository, wait_until};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

/// For one answer or one page, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Until a page that has another size than before is shown so.
const SETTLED: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
pub struct Screen {
    pub name: &'static str,
    width: u32,
    height: u32,
    phone: bool,
    scheme: &'static str,
}

pub const DESKTOP: Screen = Screen { name: "desktop", width: 1280, height: 800, phone: false, scheme: "light" };
pub const PHONE: Screen = Screen { name: "phone", width: 390, height: 844, phone: true, scheme: "light" };
pub const DARK: Screen = Screen { name: "dark", scheme: "dark", ..DESKTOP };
pub const DARK_PHONE: Screen = Screen { name: "phone-dark", scheme: "dark", ..PHONE };

pub struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_id: u64,
    /// Heard, and not yet asked for.
    events: Vec<Value>,
    _chromium: Proc,
}

impl Browser {
    /// A browser that knows nothing of anybody, with one empty page. Its profile lies in `dir`.
    pub async fn start(dir: &Path) -> Result<Self> {
        let profile = dir.join("chromium");
        fs::create_dir_all(&profile)?;
        let mut command = Command::new(program("chromium")?);
        // Port 0: the browser takes one that is free, and writes it into its profile. The portal's certificate is its own.
        command.arg(format!("--user-data-dir={}", profile.display())).args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
            "--remote-debugging-port=0",
            "about:blank",
        ]);
        let chromium = Proc::spawn("chromium", command, &dir.join("chromium.log"))?;
        let port_file = profile.join("DevToolsActivePort");
        let port = || fs::read_to_string(&port_file).ok()?.split_once('\n')?.0.parse::<u16>().ok();
        wait_until("chromium to listen", PATIENCE, || port().is_some()).with_context(|| chromium.log())?;
        let port = port().context("a port")?;
        service_kit::tls::install_provider();
        let pages: Value = reqwest::get(format!("http://127.0.0.1:{port}/json/list")).await?.json().await?;
        let page = pages.as_array().and_then(|pages| pages.iter().find(|page| page["type"] == "page"));
        let address = page.and_then(|page| page["webSocketDebuggerUrl"].as_str()).context("chromium has no page")?;
        let (socket, _) = connect_async(address).await?;
        let mut browser = Self { socket, last_id: 0, events: Vec::new(), _chromium: chromium };
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            browser.call(&format!("{domain}.enable"), json!({})).await?;
        }
        browser.look_with(DESKTOP).await?;
        Ok(browser)
    }

    /// Types an address.
    pub async fn open(&mut self, url: &str) -> Result<()> {
        self.mark().await?;
        let opened = self.call("Page.navigate", json!({ "url": url })).await?;
        ensure!(opened["errorText"].is_null(), "{url}: {}", opened["errorText"]);
        self.loaded().await
    }

    /// Clicks what is there for a person to click, and waits for the page it leads to.
    pub async fn follow(&mut self, selector: &str) -> Result<()> {
        self.mark().await?;
        self.click(selector).await?;
        self.loaded().await
    }

    /// Clicks what is there for a person to click.
    pub async fn click(&mut self, selector: &str) -> Result<()> {
        let there = format!(
            "(() => {{ const it = document.querySelector({selector:?}); it.scrollIntoView({{block: 'center'}}); \
             const box = it.getBoundingClientRect(); const x = box.x + box.width / 2, y = box.y + box.height / 2; \
             const there = document.elementFromPoint(x, y); return {{x, y, shown: !!there, hit: it.contains(there)}}; }})()"
        );
        let end = Instant::now() + SETTLED;
        let point = loop {
            let point = self.value(&there).await?;
            if point["shown"] == true {
                break point;
            }
            // Outside of what is shown: the page has another size than a moment ago.
            ensure!(Instant::now() < end, "{selector}: it does not come into view");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        ensure!(point["hit"] == true, "{selector}: something lies over it");
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": point["x"], "y": point["y"], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await?;
        }
        Ok(())
    }

    /// Waits until an element is seen: its page's script shows it when it is time.
    pub async fn see(&mut self, selector: &str) -> Result<()> {
        let seen = format!(
            "new Promise((seen) => {{ const look = () => document.querySelector({selector:?})?.checkVisibility() \
             ? seen(true) : setTimeout(look, 50); look(); setTimeout(() => seen(false), {}); }})",
            PATIENCE.as_millis()
        );
        let seen = self.value(&seen).await? == true;
        ensure!(seen, "{selector} does not come: {}", self.text("body").await?);
        Ok(())
    }

    /// What the browser told since, of this kind; it is forgotten then.
    pub fn told(&mut self, method: &str) -> Vec<Value> {
        let (told, others) = std::mem::take(&mut self.events).into_iter().partition(|event| event["method"] == method);
        self.events = others;
        told
    }

    /// Types into a field.
    pub async fn type_into(&mut self, selector: &str, text: &str) -> Result<()> {
        self.value(&format!("document.querySelector({selector:?}).focus()")).await?;
        self.call("Input.insertText", json!({ "text": text })).await?;
        Ok(())
    }

    /// The text of the first element that matches, as it is shown.
    pub async fn text(&mut self, selector: &str) -> Result<String> {
        let text = self.value(&format!("document.querySelector({selector:?})?.innerText")).await?;
        Ok(text.as_str().with_context(|| format!("the page has no {selector}"))?.trim().to_owned())
    }

    /// The value of an expression in the page, to look with: where a page makes room for the next one, that one is asked anew.
    pub async fn value(&mut self, expression: &str) -> Result<Value> {
        let request = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let end = Instant::now() + PATIENCE;
        let mut result = loop {
            match self.call("Runtime.evaluate", request.clone()).await {
                Err(error) if error.to_string().contains("navigated or closed") && Instant::now() < end => {}
                result => break result?,
            }
        };
        ensure!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        Ok(result["result"]["value"].take())
    }

    pub async fn cookies(&mut self) -> Result<Vec<Value>> {
        let mut cookies = self.call("Network.getCookies", json!({})).await?;
        serde_json::from_value(cookies["cookies"].take()).context("cookies")
    }

    pub async fn look_with(&mut self, screen: Screen) -> Result<()> {
        let Screen { width, height, phone, scheme, .. } = screen;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.call("Emulation.setDeviceMetricsOverride", size).await?;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media).await?;
        // Two frames later the page has been drawn that way.
        self.value("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(() => drawn(true))))")
            .await?;
        Ok(())
    }

    /// A picture of the page on this screen, down to its end where it is longer; the screen stays.
    pub async fn picture(&mut self, screen: Screen, file: &PathBuf) -> Result<()> {
        self.look_with(screen).await?;
        let length = self.value("document.documentElement.scrollHeight").await?.as_f64().context("a length")?;
        let clip =
            json!({ "x": 0, "y": 0, "scale": 1, "width": screen.width, "height": length.max(screen.height.into()) });
        let request = json!({ "format": "png", "clip": clip, "captureBeyondViewport": true });
        let picture = self.call("Page.captureScreenshot", request).await?;
        let png = BASE64.decode(picture["data"].as_str().context("a picture")?.as_bytes())?;
        ensure!(png.starts_with(b"\x89PNG"), "no picture");
        Ok(fs::write(file, png)?)
    }

    /// Pictures in `target/screenshots`; on none of these screens does anything reach over the edge. The last one stays.
    pub async fn pictures(&mut self, name: &str, screens: &[Screen]) -> Result<()> {
        let folder = repository().join("target/screenshots");
        fs::create_dir_all(&folder)?;
        for screen in screens {
            self.picture(*screen, &folder.join(format!("{name}-{}.png", screen.name))).await?;
            let over = self.value("document.documentElement.scrollWidth - innerWidth").await?;
            let fits = over.as_i64().is_some_and(|over| over <= 0);
            ensure!(fits, "{name}: {over} pixels too wide on the {}", screen.name);
        }
        Ok(())
    }

    /// One of the device's own, which verifies its person at once; its id.
    pub async fn give_authenticator(&mut self) -> Result<String> {
        self.call("WebAuthn.enable", json!({})).await?;
        let options = json!({
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
            "isUserVerified": true, "automaticPresenceSimulation": true,
        });
        let added = self.call("WebAuthn.addVirtualAuthenticator", json!({ "options": options })).await?;
        Ok(added["authenticatorId"].as_str().context("an authenticator")?.to_owned())
    }

    pub async fn take_authenticator(&mut self, id: &str) -> Result<()> {
        self.call("WebAuthn.removeVirtualAuthenticator", json!({ "authenticatorId": id })).await.map(drop)
    }

    /// Is its person verified from now on?
    pub async fn verify_person(&mut self, id: &str, verified: bool) -> Result<()> {
        let of = json!({ "authenticatorId": id, "isUserVerified": verified });
        self.call("WebAuthn.setUserVerified", of).await.map(drop)
    }

    /// Vendors' push services are never called: pages of this origin subscribe as they are told here.
    pub async fn subscribe_as(&mut self, origin: &str, subscription: &Value) -> Result<()> {
        let permission = json!({ "permissions": ["notifications"], "origin": origin });
        self.call("Browser.grantPermissions", permission).await?;
        let source = format!(
            "if (self.PushManager) {{ const it = {subscription}; \
             PushManager.prototype.subscribe = async () => ({{ ...it, toJSON: () => it }}); \
             PushManager.prototype.getSubscription = async () => null; }}"
        );
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source })).await.map(drop)
    }

    pub async fn no_complaint(&mut self) -> Result<()> {
        let complaints = self.complaints().await?;
        // Chromium wants RS256 offered for passkeys too; we take ES256 alone, which every authenticator has.
        let others: Vec<_> = complaints.iter().filter(|text| !text.contains("pubKeyCredParams")).collect();
        ensure!(others.is_empty(), "the browser complains: {others:?}");
        Ok(())
    }

    /// What the browser found wrong since it was asked last: what it writes to the console as an error or a warning,
    /// exceptions, failed requests, and what a policy forbade.
    pub async fn complaints(&mut self) -> Result<Vec<String>> {
        // What the page has caused has been heard when this is answered.
        self.value("new Promise(later => setTimeout(() => later(true)))").await?;
        let (complaints, others) = std::mem::take(&mut self.events).into_iter().partition::<Vec<_>, _>(is_complaint);
        self.events = others;
        Ok(complaints.iter().map(|event| event.to_string()).collect())
    }

    fn forget_loads(&mut self) {
        self.events.retain(|event| event["method"] != "Page.loadEventFired");
    }

    /// The page in view is the one before.
    async fn mark(&mut self) -> Result<()> {
        self.forget_loads();
        self.value("document.documentElement.dataset.left = 'left'").await.map(drop)
    }

    /// Waits for a page that is not the marked one. A page that loads itself anew may tell of it late.
    async fn loaded(&mut self) -> Result<()> {
        loop {
            self.load().await?;
            let state = self.value("document.readyState + (document.documentElement.dataset.left ?? '')").await;
            if state.is_ok_and(|state| state == "complete") {
                return Ok(());
            }
        }
    }

    async fn load(&mut self) -> Result<()> {
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.hear().await.context("the page does not load")?;
            self.events.push(event);
        }
        self.forget_loads();
        Ok(())
    }

    /// A command of the DevTools protocol.
    pub async fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.last_id += 1;
        let request = json!({ "id": self.last_id, "method": method, "params": parameters });
        self.socket.send(Message::text(request.to_string())).await?;
        loop {
            let mut message = self.hear().await.with_context(|| method.to_owned())?;
            if message["id"] != self.last_id {
                self.events.push(message);
            } else if message["error"].is_null() {
                return Ok(message["result"].take());
            } else {
                bail!("{method}: {}", message["error"]);
            }
        }
    }

    async fn hear(&mut self) -> Result<Value> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.context("the browser is silent")?;
            if let Message::Text(text) = message.context("the browser is gone")?? {
                return Ok(serde_json::from_str(&text)?);
            }
        }
    }
}

fn is_complaint(event: &Value) -> bool {
    let parameters = &event["params"];
    match event["method"].as_str().unwrap_or_default() {
        "Runtime.exceptionThrown" | "Network.loadingFailed" | "Audits.issueAdded" => true,
        "Runtime.consoleAPICalled" => matches!(parameters["type"].as_str(), Some("error" | "warning" | "assert")),
        "Log.entryAdded" => matches!(parameters["entry"]["level"].as_str(), Some("error" | "warning")),
        _ => false,
    }
}
