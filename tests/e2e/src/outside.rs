//! What stands between a story and the second factor: the audit's last word on somebody, and how a vendor's callbacks reach the portal.

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use lab::CommandLine;
use lab::phones::twiml::{Callback, Deliver};
use std::sync::Arc;

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

/// Callbacks as they come, over HTTP.
pub fn deliver(http: &reqwest::Client) -> Deliver {
    let http = http.clone();
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
