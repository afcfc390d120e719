//! What we ask of Asterisk, over its REST interface.

use super::super::client::{self, Clients};
use super::super::{DialError, Order};
use domain::Secret;
use domain::settings::Adapter;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use std::time::Duration;

/// A call that is on waits no longer for one step.
const STEP_PATIENCE: Duration = Duration::from_secs(3);

/// One Asterisk, as one provider of the settings names it.
pub struct Link {
    client: Client,
    base: Url,
    authorization: HeaderValue,
    ca: String,
}

impl Link {
    pub fn new(clients: &Clients, order: &Order<'_>) -> Result<Self, DialError> {
        let Adapter::Ari { base_url, user, ca, .. } = &order.provider.adapter else {
            return Err(DialError::Settings("the provider is no Asterisk"));
        };
        let base = Url::parse(base_url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let password = order.secret("secret").ok_or(DialError::Settings("the provider has no secret"))?;
        Ok(Self {
            client: clients.of(order.provider.name.as_str(), ca)?,
            base: base.ok_or(DialError::Settings("base_url is no http or https address"))?,
            authorization: basic(user, password),
            ca: ca.clone(),
        })
    }

    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The address below the base, each part escaped for where it stands.
    pub fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    pub fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        self.client
            .request(method, self.url(path, query))
            .header(AUTHORIZATION, self.authorization())
            .timeout(STEP_PATIENCE)
    }

    pub async fn ring(
        &self,
        channel: &str,
        endpoint: &str,
        application: &str,
        caller: &str,
        seconds: u32,
    ) -> Result<(), DialError> {
        let seconds = seconds.to_string();
        let mut query = vec![("endpoint", endpoint), ("app", application), ("timeout", seconds.as_str())];
        if !caller.is_empty() {
            query.push(("callerId", caller));
        }
        let (status, _) = client::answer(self.request(Method::POST, &["channels", channel], &query)).await?;
        if status.is_success() { Ok(()) } else { Err(DialError::Refused { status: status.as_u16() }) }
    }

    /// `true`: it began. Its end is an event.
    pub async fn play(&self, channel: &str, playback: &str, media: &str, language: &str) -> bool {
        let query = [("media", media), ("lang", language)];
        self.done(Method::POST, &["channels", channel, "play", playback], &query, "play").await
    }

    pub async fn stop(&self, playback: &str) {
        self.done(Method::DELETE, &["playbacks", playback], &[], "stop").await;
    }

    /// Keys pressed by us, with a pause around them.
    pub async fn dial(&self, channel: &str, keys: &str, pause: Duration) {
        let pause = pause.as_millis().to_string();
        let query = [("dtmf", keys), ("before", &pause), ("after", &pause)];
        self.done(Method::POST, &["channels", channel, "dtmf"], &query, "dtmf").await;
    }

    pub async fn hang_up(&self, channel: &str) {
        self.done(Method::DELETE, &["channels", channel], &[("reason", "normal")], "hang up").await;
    }

    /// `Ring`, `Up` ...; `None`: there is no such channel.
    pub async fn state(&self, channel: &str) -> Result<Option<String>, DialError> {
        #[derive(Deserialize)]
        struct Channel {
            state: String,
        }
        let (status, body) = client::answer(self.request(Method::GET, &["channels", channel], &[])).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(DialError::Refused { status: status.as_u16() });
        }
        let channel: Channel = serde_json::from_slice(&body).map_err(|_| DialError::Nonsense)?;
        Ok(Some(channel.state))
    }

    /// A step of a call: where it fails, the events say what became of the call, and time does.
    async fn done(&self, method: Method, path: &[&str], query: &[(&str, &str)], what: &'static str) -> bool {
        match client::answer(self.request(method, path, query)).await {
            Ok((status, _)) if status.is_success() => true,
            // What is over already is gone.
            Ok((StatusCode::NOT_FOUND, _)) => false,
            Ok((status, _)) => {
                tracing::warn!(step = what, status = status.as_u16(), "the PBX refused a step of a call");
                false
            }
            Err(error) => {
                tracing::warn!(step = what, error = service_kit::chain(&error), "the PBX did not answer");
                false
            }
        }
    }
}

/// RFC 7617.
fn basic(user: &str, password: &Secret) -> HeaderValue {
    let pair = [user.as_bytes(), b":", password.expose()].concat();
    let value = format!("Basic {}", data_encoding::BASE64.encode(&pair));
    let mut value = HeaderValue::from_str(&value).expect("BASE64 is ASCII");
    value.set_sensitive(true);
    value
}
