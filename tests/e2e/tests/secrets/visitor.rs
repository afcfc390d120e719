//! Somebody before the portal, with cookies and the tokens of forms, but without a browser.

use crate::search::Secrets;
use anyhow::{Context, Result, ensure};
use reqwest::{
    Certificate, Client, Response,
    header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE},
    redirect::Policy,
};
use std::{collections::BTreeMap, fs, path::Path};

pub struct Visitor {
    client: Client,
    url: String,
    cookies: BTreeMap<String, String>,
    token: String,
    /// Every value a cookie ever had.
    seen: Vec<String>,
}

impl Visitor {
    pub fn new(url: &str, authority: &Path) -> Result<Self> {
        // Once for the process; a second time it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Certificate::from_pem(&fs::read(authority)?)?;
        let client = Client::builder().tls_certs_only([authority]).redirect(Policy::none()).build()?;
        Ok(Self { client, url: url.into(), cookies: BTreeMap::new(), token: String::new(), seen: Vec::new() })
    }

    pub async fn open(&mut self, path: &str) -> Result<String> {
        let request = self.client.get(format!("{}{path}", self.url)).header(COOKIE, self.cookie());
        self.take(request.send().await?).await
    }

    /// Sends a form of the page last seen; the page that follows.
    pub async fn send(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<String> {
        let token = self.token.clone();
        let fields = fields.iter().copied().chain([("csrf", token.as_str())]);
        let body: Vec<String> = fields.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = self
            .client
            .post(format!("{}{path}", self.url))
            .header(COOKIE, self.cookie())
            .header(ORIGIN, self.url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        self.take(request.send().await?).await
    }

    /// A call of the REST API; whatever it says.
    pub async fn api(&self, path: &str, key: &str) -> Result<String> {
        Ok(self.client.get(format!("{}{path}", self.url)).bearer_auth(key).send().await?.text().await?)
    }

    pub fn secrets(&self, secrets: &mut Secrets) {
        for value in &self.seen {
            secrets.add("a cookie", value.as_bytes());
        }
    }

    async fn take(&mut self, response: Response) -> Result<String> {
        for cookie in response.headers().get_all(SET_COOKIE) {
            let (pair, _) = cookie.to_str()?.split_once(';').context("attributes of a cookie")?;
            let (name, value) = pair.split_once('=').context("a cookie")?;
            self.cookies.insert(name.into(), value.into());
            if !value.is_empty() {
                self.seen.push(value.into());
            }
        }
        let target = response.headers().get(LOCATION).map(|target| target.to_str().map(str::to_owned)).transpose()?;
        let status = response.status();
        if let Some(target) = target {
            let path = target.strip_prefix(&self.url).unwrap_or(&target).to_owned();
            return Box::pin(self.open(&path)).await;
        }
        let page = response.text().await?;
        ensure!(!status.is_server_error(), "{status}: {page}");
        if let Some((_, rest)) = page.split_once("name=\"csrf\" value=\"") {
            self.token = rest.split('"').next().unwrap_or_default().to_owned();
        }
        Ok(page)
    }

    fn cookie(&self) -> String {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }
}

fn encoded(value: &str) -> String {
    value.bytes().map(|octet| format!("%{octet:02X}")).collect()
}
