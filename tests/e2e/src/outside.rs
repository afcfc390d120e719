//! What stands between a story and the second factor: a carrier of texts and a vendor of calls at the other side of `twinlock serve`, and
//! the audit's last word on somebody.

use crate::OneMachine;
use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use lab::phones::{
    HttpSms,
    twiml::{Callback, Deliver, TwimlVendor},
};
use lab::{CommandLine, private_file};
use reqwest::Client;
use std::path::Path;
use std::sync::Arc;

const VOICE_SECRET: &str = "secret-between-twinlock-and-the-voice-vendor-5521";

/// By the book, until its mood changes.
pub struct Outside {
    pub carrier: HttpSms,
    pub vendor: TwimlVendor,
    /// Takes whatever certificate the portal shows.
    pub http: Client,
}

impl Outside {
    /// What the carrier and the product know.
    pub const SMS_SECRET: &str = "secret-between-twinlock-and-the-carrier-8813";

    /// Its secrets lie where the settings of this machine are read from.
    pub async fn start(machine: &OneMachine) -> Result<Self> {
        Self::start_at(machine.dir.path()).await
    }

    /// Its secrets lie in `dir`.
    pub async fn start_at(dir: &Path) -> Result<Self> {
        service_kit::tls::install_provider();
        private_file(&dir.join("sms.secret"), Self::SMS_SECRET)?;
        private_file(&dir.join("voice.secret"), VOICE_SECRET)?;
        Ok(Self {
            carrier: HttpSms::start()?,
            vendor: TwimlVendor::start("AC0417", VOICE_SECRET).await?,
            http: Client::builder().tls_danger_accept_invalid_certs(true).build()?,
        })
    }

    /// Both as `[[provider]]` of the settings.
    pub fn providers(&self) -> String {
        format!(
            r#"
[[provider]]
name = "texts"
channel = "sms"
secret = "file:sms.secret"
adapter = {{ kind = "http", url = "{sms}", method = "POST", json = '{{"to":"{{phone}}","text":"{{text}}","key":"{{secret}}"}}', id_pointer = "/id" }}

[[provider]]
name = "calls"
channel = "voice"
secret = "file:voice.secret"
adapter = {{ kind = "twiml", base_url = "{voice}", account = "AC0417", caller = "+49301234567" }}
"#,
            sms = self.carrier.url("/send"),
            voice = self.vendor.base_url,
        )
    }

    /// How the vendor's calls reach the portal: as they come, over HTTP.
    pub fn deliver(&self) -> Deliver {
        let http = self.http.clone();
        Arc::new(move |callback: Callback| {
            let http = http.clone();
            async move {
                let mut request = http.post(&callback.url).body(callback.body);
                for (name, value) in &callback.headers {
                    request = request.header(name, value);
                }
                match request.send().await {
                    Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
                    Err(error) => (0, error.to_string()),
                }
            }
            .boxed()
        })
    }
}

/// Reason and method of the last event of somebody's attempts.
pub fn last_attempt(command_line: &CommandLine, uid: &str) -> Result<(String, String)> {
    let events = command_line.audit()?;
    let mut of = events.iter().rev().filter(|event| event["kind"] == "authentication");
    let event = of.find(|event| event["user"].as_str().is_some_and(|name| name.contains(uid)));
    let event = event.with_context(|| format!("no event of {uid}"))?;
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    Ok((text("reason"), text("method")))
}

pub fn attempt_ended(command_line: &CommandLine, uid: &str, reason: &str, method: &str) -> Result<()> {
    let last = last_attempt(command_line, uid)?;
    ensure!(last == (reason.to_owned(), method.to_owned()), "{last:?}, not {reason} by {method}");
    Ok(())
}
