//! What people see: the pages on which they sign in and enrol an authenticator app, and the REST API.
//!
//! Owns no durable fact and decides nothing: passwords are checked by the gateway that owns the directory connections,
//! codes by verification, everything else is the store's. In the order of a request:
//!
//! ```text
//! http            connections, TLS, who is at the other end, headers of every answer
//! session         the cookie, the form token, and what has been proven so far
//! self_service/   the pages: sign-in, code, invitation, enrolment, account
//! phone/          the app on people's phones, and what other apps there ask for
//! console/        what administrators look at and decide, as pages
//! api/            /api/v1: one table of permissions, one file for each kind of thing
//! callback        what providers of messages and calls say, handed on to verification
//! ```
//!
//! Beside them: `rows` (what an import gives the store), `announce` (where people reach us), `attempt` (a sign-in from its first to its last word), `limits` (tries per place and name), `settings` (this
//! node's copy), `texts` (every word a page shows), `told` (what gateways tell, in words), `metrics`.

mod announce;
mod api;
mod app;
mod attempt;
mod callback;
mod config;
mod console;
mod http;
mod limits;
mod metrics;
mod phone;
pub mod rows;
mod self_service;
mod session;
mod settings;
mod texts;
pub mod told;

pub use config::{BadPortalSection, Config, EndpointsSection, PortalSection, PublicUrl};

use announce::Announcement;
use app::App;
use proto::directory::directories_client::DirectoriesClient;
use proto::directory::directories_server::Directories;
use proto::directory::password_check_client::PasswordCheckClient;
use proto::directory::password_check_server::PasswordCheck;
use proto::permissions::part;
use proto::remote::Remote;
use proto::user_store::{
    admin_client::AdminClient, admin_server::Admin, portal_data_client::PortalDataClient,
    portal_data_server::PortalData, settings_client::SettingsClient, settings_server::Settings,
};
use proto::verification::{
    callback_client::CallbackClient, callback_server::Callback, enrolment_client::EnrolmentClient,
    enrolment_server::Enrolment, phone_client::PhoneClient, phone_server::Phone,
    verification_client::VerificationClient, verification_server::Verification,
};
use service_kit::bus::Bus;
use service_kit::{Clock, Process, grpc};
use std::net::SocketAddr;
use std::sync::Arc;

/// What this part needs of others.
#[derive(Clone)]
pub struct Deps {
    pub portal_data: Arc<dyn PortalData>,
    pub admin: Arc<dyn Admin>,
    pub verification: Arc<dyn Verification>,
    pub enrolment: Arc<dyn Enrolment>,
    pub phone: Arc<dyn Phone>,
    pub callback: Arc<dyn Callback>,
    pub password_check: Arc<dyn PasswordCheck>,
    pub directories: Arc<dyn Directories>,
    pub settings: Arc<dyn Settings>,
    pub bus: Arc<dyn Bus>,
    pub clock: Clock,
    /// Randomness fit for keys.
    pub randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
}

impl Deps {
    /// The other parts over mutual TLS and the bus of the configuration, for a process that holds this part alone.
    pub fn connect(config: &Config, process: &Process) -> anyhow::Result<Self> {
        let to = |part, endpoints| grpc::Channel::new(part, endpoints, &config.grpc);
        let store = to(part::USER_STORE, &config.endpoints.user_store)?;
        let verification = to(part::VERIFICATION, &config.endpoints.verification)?;
        let directory = to(part::LDAP_GATEWAY, &config.endpoints.directory)?;
        Ok(Self {
            portal_data: Arc::new(Remote::new(PortalDataClient::new(store.clone()))),
            admin: Arc::new(Remote::new(AdminClient::new(store.clone()))),
            settings: Arc::new(Remote::new(SettingsClient::new(store))),
            verification: Arc::new(Remote::new(VerificationClient::new(verification.clone()))),
            enrolment: Arc::new(Remote::new(EnrolmentClient::new(verification.clone()))),
            phone: Arc::new(Remote::new(PhoneClient::new(verification.clone()))),
            callback: Arc::new(Remote::new(CallbackClient::new(verification))),
            password_check: Arc::new(Remote::new(PasswordCheckClient::new(directory.clone()))),
            directories: Arc::new(Remote::new(DirectoriesClient::new(directory))),
            bus: service_kit::bus::connect(&config.bus, process)?,
            clock: Clock::system(),
            randomness: getrandom::fill,
        })
    }
}

/// Serves until the process drains. Returns at once where the section names no address to listen on.
pub async fn run(section: PortalSection, deps: Deps, process: &Process) -> anyhow::Result<()> {
    if Portal::start(section, deps, process).await?.is_some() {
        process.shutdown().draining().await;
    }
    Ok(())
}

/// A portal that serves until its process drains.
pub struct Portal {
    addresses: Vec<SocketAddr>,
    phone_addresses: Vec<SocketAddr>,
}

impl Portal {
    /// Binds and serves; `None` where the section names no address to listen on.
    pub async fn start(section: PortalSection, deps: Deps, process: &Process) -> anyhow::Result<Option<Self>> {
        let Some((transport, public)) = section.checked()? else { return Ok(None) };
        let announcement = Announcement::new(&deps, &public, section.danger_change_rp_id);
        if !announcement.tell().await? {
            announcement.keep_telling(process);
        }
        let app = App::new(deps, public, &transport, section.console);
        let bind =
            |name, listen, transport| http::Listeners::bind(name, listen, transport, app.metrics.clone(), process);
        let portal = bind("portal listener", &section.listen, transport.clone()).await?;
        let phone = match section.phone_listen.is_empty() {
            true => None,
            false => Some(bind("phone listener", &section.phone_listen, transport).await?),
        };
        let addresses = portal.addresses();
        let phone_addresses = phone.as_ref().map(http::Listeners::addresses).unwrap_or_default();
        app.settings.clone().keep(process);
        let routers = http::Routers::new(&app);
        portal.serve(routers.portal, process);
        if let Some(phone) = phone {
            phone.serve(routers.phone, process);
        }
        Ok(Some(Self { addresses, phone_addresses }))
    }

    /// Where it listens, in the order of the section.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where phones alone are answered.
    pub fn phone_addresses(&self) -> &[SocketAddr] {
        &self.phone_addresses
    }
}
