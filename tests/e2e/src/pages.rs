//! The portal's pages as a browser without script has them: cookies, redirects, forms with their token.

use anyhow::{Context, Result, bail};
use reqwest::header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Client, RequestBuilder};
use std::collections::BTreeMap;

const REDIRECTS_MAX: usize = 5;

pub struct Pages {
    http: Client,
    base: String,
    cookies: BTreeMap<String, String>,
    /// Where the last page was found, and what it said.
    pub path: String,
    pub html: String,
}

impl Pages {
    /// Whatever certificate the portal shows is good.
    pub fn new(base: &str) -> Result<Self> {
        let http = Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, base: base.into(), cookies: BTreeMap::new(), path: String::new(), html: String::new() })
    }

    pub async fn get(&mut self, path: &str) -> Result<()> {
        let mut path = path.to_owned();
        for _ in 0..REDIRECTS_MAX {
            let request = self.http.get(format!("{}{path}", self.base));
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

    async fn post_with(&mut self, html: &str, path: &str, fields: &[(&str, &str)]) -> Result<()> {
        let token = html.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        let mut body = format!("csrf={}", token.context("no token")?);
        for (name, value) in fields {
            let value: String = value.bytes().map(|octet| format!("%{octet:02x}")).collect();
            body.push_str(&format!("&{name}={value}"));
        }
        let request = self.http.post(format!("{}{path}", self.base)).header(ORIGIN, &self.base);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        match self.send(request, path).await? {
            Some(next) => self.get(&next).await,
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
        }
        if let Some(next) = response.headers().get(LOCATION) {
            return Ok(Some(next.to_str()?.to_owned()));
        }
        self.path = path.to_owned();
        self.html = response.text().await?;
        Ok(None)
    }
}
