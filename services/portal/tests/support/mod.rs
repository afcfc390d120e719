//! A portal on a free port with fakes behind it that misbehave on command, and a browser that keeps cookies and sends forms.
#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

mod admin;
mod browser;
mod directory;
mod store;
mod verification;

pub use browser::{Browser, Page};
pub use directory::{FakeDirectory, STAMP};
pub use store::{FakeStore, api_key};
pub use verification::{FakeVerification, RIGHT_CODE, SEED, SeenAttempt};

use domain::settings::FirstEnrolment;
use portal::{Deps, Portal, PortalSection};
use service_kit::{Clock, Process};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// When tests begin.
pub const NOW_MS: i64 = 1_795_193_102_000;
pub const PASSWORD: &str = "correct horse 7";
pub const COMPANY: &str = "Example & Sons";

pub struct World {
    pub store: Arc<FakeStore>,
    pub verification: Arc<FakeVerification>,
    pub directory: Arc<FakeDirectory>,
    pub clock: Clock,
    pub process: Process,
    pub address: SocketAddr,
    /// Where phones alone are answered.
    pub phone_address: SocketAddr,
    pub pki: lab::Pki,
    plain: bool,
    _files: tempfile::TempDir,
}

impl World {
    /// HTTPS, as people meet it.
    pub async fn new(first: FirstEnrolment) -> Self {
        Self::start(first, "").await
    }

    /// HTTP behind a TLS proxy on this host.
    pub async fn behind_proxy() -> Self {
        Self::start(FirstEnrolment::Open, r#","danger_plain_http":true"#).await
    }

    /// As administrators meet it.
    pub async fn with_console() -> Self {
        let world = Self::start(FirstEnrolment::Open, r#","console":true"#).await;
        world.store.takes_effect.store(true, Ordering::SeqCst);
        world
    }

    /// `more`: keys of the section.
    async fn start(first: FirstEnrolment, more: &str) -> Self {
        let plain = more.contains("danger_plain_http");
        let process = Process::detached("portal");
        let clock = Clock::at(NOW_MS);
        let store = Arc::new(FakeStore::new(first));
        let verification = Arc::new(FakeVerification::new(store.clone(), clock.clone()));
        let directory = Arc::new(FakeDirectory::new(store.clone()));
        let deps = Deps {
            portal_data: store.clone(),
            admin: store.clone(),
            settings: store.clone(),
            verification: verification.clone(),
            enrolment: verification.clone(),
            phone: verification.clone(),
            callback: verification.clone(),
            password_check: directory.clone(),
            directories: directory.clone(),
            bus: Arc::new(service_kit::bus::InProcess::new()),
            clock: clock.clone(),
            randomness: getrandom::fill,
        };
        let files = tempfile::tempdir().expect("a folder");
        let pki = lab::Pki::new(files.path()).expect("a CA");
        let issued = pki.issue("portal", &["localhost", "127.0.0.1"]).expect("a certificate");
        let tls =
            format!(r#","certificate_file":"{}","key_file":"{}""#, issued.certificate.display(), issued.key.display());
        let tls = if plain { "" } else { &tls };
        let section: PortalSection = serde_json::from_str(&format!(
            r#"{{"listen":["127.0.0.1:0"],"phone_listen":["127.0.0.1:0"],"public_url":"https://portal.example"{tls}{more}}}"#
        ))
        .expect("a section");
        let portal = Portal::start(section, deps, &process).await.expect("it starts").expect("it listens");
        let (address, phone_address) = (portal.addresses()[0], portal.phone_addresses()[0]);
        while !process.health().is_started() {
            tokio::task::yield_now().await;
        }
        Self { store, verification, directory, clock, process, address, phone_address, pki, plain, _files: files }
    }

    pub fn url(&self, path: &str) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }

    pub fn http(&self) -> reqwest::Client {
        self.client(reqwest::Client::builder())
    }

    fn client(&self, builder: reqwest::ClientBuilder) -> reqwest::Client {
        let ca = std::fs::read(self.pki.ca_file()).expect("the CA");
        builder
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).expect("PEM")])
            .build()
            .expect("a client")
    }

    pub fn browser(&self) -> Browser {
        Browser::new(self.http(), self.url(""))
    }

    /// A browser that says which languages its person reads.
    pub fn browser_that_speaks(&self, languages: &str) -> Browser {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::ACCEPT_LANGUAGE, languages.parse().expect("a value"));
        let http = reqwest::Client::builder().default_headers(headers);
        Browser::new(self.client(http), self.url(""))
    }

    /// A browser in which ann has both locks open.
    pub async fn signed_in(&self) -> Browser {
        self.store.give_factor("ann");
        let mut browser = self.browser();
        browser.get("/").await;
        let page = browser.sign_in("ann", PASSWORD).await;
        assert_eq!(page.path, "/code", "{}", page.html);
        let page = browser.submit("/code", &[("code", RIGHT_CODE)]).await;
        assert_eq!(page.path, "/account", "{}", page.html);
        browser
    }
}
