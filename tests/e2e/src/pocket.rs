//! The phone in somebody's pocket: the app of `lab::phones::pi`, connected to a product that runs. It counts what it was asked.

use anyhow::{Context, Result, ensure};
use lab::{CommandLine, phones::pi};
use reqwest::Client;
use serde_json::Value;
use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// How often it looks, as the app does: who looks more often is told to wait.
const LOOK: Duration = Duration::from_millis(3_050);
/// From the order of a prompt until a phone may have it.
const SOON: Duration = Duration::from_millis(800);

pub struct Pocket {
    phone: pi::Phone,
    http: Client,
    url: String,
    /// When it looks next.
    due: Instant,
    /// Different prompts it was shown, after that of its activation.
    pub prompts: usize,
    /// How many were open at once, at most.
    pub open_max: usize,
}

impl Pocket {
    /// Enrols the app and lets it prove itself once. `http` takes whatever certificate the portal shows.
    pub async fn connect(command_line: &CommandLine, portal_url: &str, http: &Client, uid: &str) -> Result<Self> {
        let (at_desk, of) = (command_line.clone(), uid.to_owned());
        let enrol = move || at_desk.json(&["factor", "enrol", &of, "--method", "push", "--kind", "pi"]);
        let started = tokio::task::spawn_blocking(enrol).await??;
        let uri = started["uri"].as_str().context("an address to scan")?;
        let device = started["device_id"].as_str().context("a device")?.to_owned();
        let phone = pi::Phone::scan(uri, key()?);
        let url = format!("{portal_url}/push/pi");
        let mut pocket = Self { phone, http: http.clone(), url, due: Instant::now(), prompts: 0, open_max: 0 };
        let enrolled = pocket.send(&pocket.phone.enrol()).await?;
        pocket.phone.enrolled(&enrolled);
        let (at_desk, of) = (command_line.clone(), uid.to_owned());
        let proof = move || at_desk.run(&["factor", "activation", &of, &device, "--wait", "60s"]);
        let proof = tokio::task::spawn_blocking(proof);
        tokio::time::sleep(SOON).await;
        let shown = pocket.shown(Duration::from_secs(30)).await?;
        pocket.send(&pocket.phone.accept(&shown.nonce, shown.choices.first().map(String::as_str))).await?;
        proof.await??;
        (pocket.prompts, pocket.open_max) = (0, 0);
        Ok(pocket)
    }

    /// What it shows, as soon as it shows anything new.
    pub async fn shown(&mut self, patience: Duration) -> Result<pi::Shown> {
        let end = Instant::now() + patience;
        loop {
            if let Some(shown) = self.look().await?.into_iter().next() {
                return Ok(shown);
            }
            ensure!(Instant::now() < end, "the phone shows nothing");
        }
    }

    /// Looks until then, whenever it is time; what was new.
    pub async fn watch(&mut self, until: Instant) -> Result<Vec<pi::Shown>> {
        let mut shown = Vec::new();
        while self.due < until {
            shown.extend(self.look().await?);
        }
        tokio::time::sleep_until(until.into()).await;
        Ok(shown)
    }

    /// What is new, once it is time to look again.
    pub async fn look(&mut self) -> Result<Vec<pi::Shown>> {
        tokio::time::sleep_until(self.due.into()).await;
        self.due = Instant::now() + LOOK;
        let reply = self.send(&self.phone.poll(&now()?)).await?;
        ensure!(reply["result"]["status"] == true, "{reply}");
        let shown = self.phone.show(&reply);
        self.prompts += shown.len();
        self.open_max = self.open_max.max(reply["result"]["value"].as_array().map_or(0, Vec::len));
        Ok(shown)
    }

    /// Whether the product took it.
    pub async fn approve(&self, shown: &pi::Shown) -> Result<bool> {
        Ok(self.send(&self.phone.accept(&shown.nonce, None)).await?["result"]["value"] == true)
    }

    pub async fn decline(&self, shown: &pi::Shown) -> Result<bool> {
        Ok(self.send(&self.phone.decline(&shown.nonce, None)).await?["result"]["value"] == true)
    }

    async fn send(&self, request: &pi::Request) -> Result<Value> {
        let sent = match request.method {
            "GET" => self.http.get(format!("{}?{}", self.url, request.form())),
            _ => {
                let form = "application/x-www-form-urlencoded";
                self.http.post(&self.url).header("content-type", form).body(request.form())
            }
        };
        let text = sent.send().await?.text().await?;
        serde_json::from_str(&text).with_context(|| text.clone())
    }
}

fn key() -> Result<&'static str> {
    static KEY: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let vectors = std::fs::read_to_string(lab::repository().join("tests/vectors/pipush.json")).ok()?;
        let vectors: Value = serde_json::from_str(&vectors).ok()?;
        vectors["phone_key_pkcs8_pem"].as_str().map(str::to_owned)
    };
    KEY.get_or_init(read).as_deref().context("a key among the vectors")
}

fn now() -> Result<String> {
    Ok(OffsetDateTime::from(SystemTime::now()).replace_nanosecond(0)?.format(&Rfc3339)?.replace('Z', ".000000Z"))
}
