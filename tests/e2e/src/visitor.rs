//! Somebody before the portal without script: cookies, redirects, forms with their token.

use anyhow::{Context, Result, bail, ensure};
use reqwest::{
    Certificate, Client, RequestBuilder,
    header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE},
    redirect::Policy,
};
use std::{collections::BTreeMap, fs, path::Path};

const REDIRECTS_MAX: usize = 5;

pub struct Visitor {
    client: Client,
    url: String,
    cookies: BTreeMap<String, String>,
    /// Every value a cookie ever had.
    pub cookies_seen: Vec<String>,
    /// Where the last page was found, and what it said.
    pub path: String,
    pub html: String,
}

impl Visitor {
    /// On the first page. `authority` signed the portal's certificate, or is it.
    pub async fn arrive(url: &str, authority: &Path) -> Result<Self> {
        service_kit::tls::install_provider();
        let authority = Certificate::from_pem(&fs::read(authority)?)?;
        let client = Client::builder().tls_certs_only([authority]).redirect(Policy::none()).build()?;
        let (cookies, cookies_seen) = Default::default();
        let mut visitor =
            Self { client, url: url.into(), cookies, cookies_seen, path: String::new(), html: String::new() };
        visitor.open("/").await?;
        Ok(visitor)
    }

    pub async fn open(&mut self, path: &str) -> Result<()> {
        let mut path = path.to_owned();
        for _ in 0..REDIRECTS_MAX {
            let request = self.client.get(format!("{}{path}", self.url));
            match self.send(request, &path).await? {
                Some(next) => path = next,
                None => return Ok(()),
            }
        }
        bail!("too many redirects, last to {path}")
    }

    /// Fills in the form of the page in view that goes to `action`.
    pub async fn submit(&mut self, action: &str, fields: &[(&str, &str)]) -> Result<()> {
        let form = self.html.split("<form").find(|form| form.contains(&format!("action=\"{action}\"")));
        let form = form.with_context(|| format!("no form to {action} in {}", self.html))?.to_owned();
        self.post_with(&form, action, fields).await
    }

    /// With the token of the page in view, whatever its forms are for.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<()> {
        let page = self.html.clone();
        self.post_with(&page, path, fields).await
    }

    /// A call of the REST API; whatever it says.
    pub async fn api(&self, path: &str, key: &str) -> Result<String> {
        Ok(self.client.get(format!("{}{path}", self.url)).bearer_auth(key).send().await?.text().await?)
    }

    async fn post_with(&mut self, html: &str, path: &str, fields: &[(&str, &str)]) -> Result<()> {
        let token = html.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        let fields = fields.iter().copied().chain([("csrf", token.context("no token")?)]);
        let body: Vec<String> = fields.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = self.client.post(format!("{}{path}", self.url)).header(ORIGIN, &self.url);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&"));
        match self.send(request, path).await? {
            Some(next) => self.open(&next).await,
            None => Ok(()),
        }
    }

    /// Where it leads, if it does.
    async fn send(&mut self, request: RequestBuilder, path: &str) -> Result<Option<String>> {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let response = request.header(COOKIE, cookies.join("; ")).send().await?;
        for line in response.headers().get_all(SET_COOKIE) {
            let line = line.to_str()?;
            let (name, value) = line.split(';').next().and_then(|pair| pair.split_once('=')).context("a cookie")?;
            match line.contains("Max-Age=0") {
                true => self.cookies.remove(name),
                false => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
            self.cookies_seen.extend(Some(value.to_owned()).filter(|value| !value.is_empty()));
        }
        if let Some(next) = response.headers().get(LOCATION) {
            let next = next.to_str()?;
            return Ok(Some(next.strip_prefix(&self.url).unwrap_or(next).to_owned()));
        }
        let status = response.status();
        self.path = path.to_owned();
        self.html = response.text().await?;
        ensure!(!status.is_server_error(), "{status}: {}", self.html);
        Ok(None)
    }
}

fn encoded(value: &str) -> String {
    value.bytes().map(|octet| format!("%{octet:02X}")).collect()
}
