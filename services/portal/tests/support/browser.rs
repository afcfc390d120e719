//! What a browser without script does: cookies, redirects, forms with their hidden fields.

use http::header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use std::collections::BTreeMap;

pub const ORIGIN_OF_PORTAL: &str = "https://portal.example";

pub struct Browser {
    http: reqwest::Client,
    base: String,
    pub cookies: BTreeMap<String, String>,
    /// Every Set-Cookie line that came.
    pub cookie_lines: Vec<String>,
    /// What is sent beside the cookies with a form.
    pub origin: HeaderMap,
    pub page: Page,
}

#[derive(Clone, Default)]
pub struct Page {
    pub status: StatusCode,
    pub path: String,
    pub headers: HeaderMap,
    pub html: String,
}

impl Browser {
    pub fn new(http: reqwest::Client, base: String) -> Self {
        let mut origin = HeaderMap::new();
        origin.insert(ORIGIN, ORIGIN_OF_PORTAL.parse().expect("a value"));
        Self { http, base, cookies: BTreeMap::new(), cookie_lines: Vec::new(), origin, page: Page::default() }
    }

    pub async fn get(&mut self, path: &str) -> &Page {
        let mut path = path.to_owned();
        for _ in 0..5 {
            let request = self.http.get(format!("{}{path}", self.base));
            match self.send(request, &path).await {
                Some(next) => path = next,
                None => return &self.page,
            }
        }
        panic!("too many redirects, last to {path}");
    }

    /// Fills in the form of the page in view that goes to `action`, hidden fields included.
    pub async fn submit(&mut self, action: &str, fields: &[(&str, &str)]) -> &Page {
        let token = self.page.token(action).unwrap_or_else(|| panic!("no form to {action} in {}", self.page.html));
        let mut all = vec![("csrf", token.as_str())];
        all.extend(fields);
        self.post(action, &all).await
    }

    pub async fn sign_in(&mut self, name: &str, password: &str) -> &Page {
        self.submit("/sign-in", &[("name", name), ("password", password)]).await
    }

    /// Exactly these fields.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> &Page {
        let body = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&");
        let request = self
            .http
            .post(format!("{}{path}", self.base))
            .headers(self.origin.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        match self.send(request, path).await {
            Some(next) => self.get(&next).await,
            None => &self.page,
        }
    }

    async fn send(&mut self, request: reqwest::RequestBuilder, path: &str) -> Option<String> {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let request = if cookies.is_empty() { request } else { request.header(COOKIE, cookies) };
        let response = request.send().await.expect("an answer");
        for line in response.headers().get_all(SET_COOKIE) {
            let line = line.to_str().expect("text").to_owned();
            let (name, value) = line.split(';').next().and_then(|pair| pair.split_once('=')).expect("a pair");
            match line.contains("Max-Age=0") {
                true => drop(self.cookies.remove(name)),
                false => drop(self.cookies.insert(name.to_owned(), value.to_owned())),
            }
            self.cookie_lines.push(line);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let next = headers.get(LOCATION).filter(|_| status.is_redirection());
        let next = next.map(|next| next.to_str().expect("text").to_owned());
        let html = response.text().await.expect("text");
        self.page = Page { status, path: path.to_owned(), headers, html };
        next
    }

    pub fn session_cookie(&self) -> Option<&String> {
        self.cookies.get("__Host-twinlock")
    }
}

impl Page {
    /// The token of the form that goes to `action`.
    pub fn token(&self, action: &str) -> Option<String> {
        let form = self.html.split("<form").find(|form| form.contains(&format!("action=\"{action}\"")))?;
        let value = form.split("name=\"csrf\" value=\"").nth(1)?;
        Some(value.split('"').next()?.to_owned())
    }

    /// The reference that a person reads out.
    pub fn reference(&self) -> Option<&str> {
        self.html.split("Ref <strong>").nth(1)?.split('<').next()
    }

    pub fn title(&self) -> &str {
        self.html.split("<title>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default()
    }
}

fn encode(value: &str) -> String {
    value.bytes().map(|octet| format!("%{octet:02X}")).collect()
}
