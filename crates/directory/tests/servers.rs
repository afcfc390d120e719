//! Several servers (L-37, FD-04): two real ones, of which one stops, hangs, or refuses our account.

mod support;

use anyhow::{Context, Result};
use directory::{Directory, Options, ServerState, TypedName};
use domain::Secret;
use domain::settings::{BindKind, QueryBind};
use lab::{COMPANY_BASE, Pki, Slapd, SlapdOptions, password_of};
use std::path::Path;
use std::time::{Duration, Instant};
use support::eventually;

const ANN: &str = "ann.archer";

struct Two {
    directory: Directory,
    servers: [Slapd; 2],
    _dir: tempfile::TempDir,
}

impl Two {
    async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let slapd = |place: &Path| Slapd::start(place, &pki, &SlapdOptions::default());
        let servers = [slapd(&dir.path().join("one"))?, slapd(&dir.path().join("two"))?];
        let urls = [servers[0].ldap_url(), servers[1].ldap_url()];
        let mut settings = support::settings(&[&urls[0], &urls[1]]);
        settings.base = COMPANY_BASE.into();
        settings.query_bind = QueryBind { kind: BindKind::Simple, name: Slapd::QUERY_DN.into(), password: None };
        // Longer than any test waits: nobody finds out by waiting for an answer.
        settings.timeout_seconds = 60;
        let options = Options { query_connections: 2, look_every: Duration::from_millis(200), ..Options::default() };
        let password = Some(Secret::from(Slapd::QUERY_PASSWORD));
        let directory = Directory::new(settings, password, options)?;
        let two = Self { directory, servers, _dir: dir };
        for place in [0, 1] {
            two.becomes(place, ServerState::Up).await;
        }
        Ok(two)
    }

    fn state(&self, place: usize) -> ServerState {
        self.directory.health().servers[place].state
    }

    async fn becomes(&self, place: usize, state: ServerState) {
        eventually(&format!("server {place} is {state:?}"), async || self.state(place) == state).await;
    }

    /// Which server a login went to: its name is looked up, and its password is right.
    async fn login(&self) -> Result<usize> {
        let started = Instant::now();
        let name = TypedName::parse(ANN, self.directory.settings())?;
        let entry = self.directory.resolve(&name).await?;
        let accepted = self.directory.authenticate(&entry, &Secret::from(password_of(ANN).as_str())).await?;
        anyhow::ensure!(started.elapsed() < Duration::from_secs(3), "it waited for somebody");
        let url = accepted.server().to_string();
        self.servers.iter().position(|slapd| slapd.ldap_url() == url).context("a server of ours")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_or_stops_is_left_out_before_anybody_waits_for_it() -> Result<()> {
    // L-37: the first of the settings takes everything, as long as it serves
    let mut two = Two::start().await?;
    assert_eq!(two.login().await?, 0);
    assert!(two.directory.health().servers.iter().all(|server| server.round_trip.is_some()));
    let asked = |slapd: &Slapd| slapd.log().matches("SRCH base=\"\" scope=0").count();
    let before = two.servers.each_ref().map(asked);
    eventually("each is asked for its root again", async || {
        two.servers.iter().zip(before).all(|(slapd, before)| asked(slapd) > before)
    })
    .await;

    // It takes connections still, and says nothing.
    two.servers[0].process().context("it runs")?.signal("STOP");
    two.becomes(0, ServerState::SetAside).await;
    eventually("questions have moved", async || two.directory.health().is_up()).await;
    for _ in 0..5 {
        assert_eq!(two.login().await?, 1);
    }
    two.servers[0].process().context("it runs")?.signal("CONT");
    two.becomes(0, ServerState::Up).await;
    assert_eq!(two.login().await?, 0);

    two.servers[0].stop();
    two.becomes(0, ServerState::SetAside).await;
    assert_eq!(two.login().await?, 1);
    two.servers[0].restart()?;
    two.becomes(0, ServerState::Up).await;
    assert_eq!(two.login().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_our_account_is_left_out_and_not_asked_to_lock_it() -> Result<()> {
    // L-37
    let two = Two::start().await?;
    two.servers[1].modify(&format!(
        "dn: {}\nchangetype: modify\nreplace: userPassword\nuserPassword: another\n",
        Slapd::QUERY_DN
    ))?;
    two.becomes(1, ServerState::SetAside).await;
    let refused = two.servers[1].log().matches("err=49").count();
    let looked = two.servers[0].log().matches("SRCH base=\"\" scope=0").count();
    eventually("the other is looked at five times more", async || {
        two.servers[0].log().matches("SRCH base=\"\" scope=0").count() >= looked + 5
    })
    .await;
    assert_eq!(two.servers[1].log().matches("err=49").count(), refused);
    assert_eq!(two.login().await?, 0);
    Ok(())
}
