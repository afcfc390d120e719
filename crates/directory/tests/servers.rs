//! Several servers (L-37, FD-04): two real ones, of which one stops, hangs, is far away, or refuses our account.

mod support;

use anyhow::{Context, Result};
use directory::{Directory, Options, ServerName, ServerState, TypedName};
use domain::Secret;
use domain::settings::{BindKind, QueryBind, ServerOrder};
use lab::{COMPANY_BASE, Pki, Slapd, SlapdOptions, password_of};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const ANN: &str = "ann.archer";

struct Two {
    directory: Directory,
    servers: [Slapd; 2],
    /// As the settings have them.
    urls: [String; 2],
    ways: [Way; 2],
    _dir: tempfile::TempDir,
}

/// How a test wants them.
struct Wanted {
    order: ServerOrder,
    look_every: Duration,
    /// Of every answer, in milliseconds; none: there is nothing between.
    delays: Option<[u64; 2]>,
}

impl Two {
    async fn start() -> Result<Self> {
        let look_every = Duration::from_millis(200);
        let two = Self::start_as(Wanted { order: ServerOrder::Listed, look_every, delays: None }).await?;
        for place in [0, 1] {
            two.becomes(place, ServerState::Up).await;
        }
        Ok(two)
    }

    async fn start_as(wanted: Wanted) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let slapd = |place: &Path| Slapd::start(place, &pki, &SlapdOptions::default());
        let servers = [slapd(&dir.path().join("one"))?, slapd(&dir.path().join("two"))?];
        let [one, two] = wanted.delays.unwrap_or_default();
        let ways = [Way::to(&servers[0], one).await?, Way::to(&servers[1], two).await?];
        let urls = match wanted.delays {
            Some(_) => ways.each_ref().map(|way| way.url.clone()),
            None => servers.each_ref().map(Slapd::ldap_url),
        };
        let mut settings = support::settings(&[&urls[0], &urls[1]]);
        settings.server_order = wanted.order;
        settings.base = COMPANY_BASE.into();
        settings.query_bind = QueryBind { kind: BindKind::Simple, name: Slapd::QUERY_DN.into(), password: None };
        // Longer than any test waits: nobody finds out by waiting for an answer.
        settings.timeout_seconds = 60;
        let options = Options { query_connections: 2, look_every: wanted.look_every, ..Options::default() };
        let password = Some(Secret::from(Slapd::QUERY_PASSWORD));
        let directory = Directory::new(settings, password, options)?;
        Ok(Self { directory, servers, urls, ways, _dir: dir })
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
        self.urls.iter().position(|ours| *ours == url).context("a server of ours")
    }
}

/// Stands before a server, and holds back what it says.
struct Way {
    url: String,
    delay_ms: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Way {
    async fn to(server: &Slapd, delay_ms: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ldap://{}", listener.local_addr()?);
        let delay_ms = Arc::new(AtomicU64::new(delay_ms));
        let (delay, port) = (Arc::clone(&delay_ms), server.ldap_port());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                carried.spawn(carry(client, port, Arc::clone(&delay)));
            }
        });
        Ok(Self { url, delay_ms, _task: task })
    }

    fn becomes(&self, delay_ms: u64) {
        self.delay_ms.store(delay_ms, Ordering::Relaxed);
    }
}

async fn carry(mut client: TcpStream, port: u16, delay_ms: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.split(), server.split());
    let back = async {
        let mut octets = [0; 4096];
        loop {
            let count = from_server.read(&mut octets).await?;
            tokio::time::sleep(Duration::from_millis(delay_ms.load(Ordering::Relaxed))).await;
            if count == 0 {
                return std::io::Result::Ok(());
            }
            to_client.write_all(&octets[..count]).await?;
        }
    };
    tokio::select! {
        ended = back => ended,
        ended = copy(&mut from_client, &mut to_server) => ended.map(drop),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_last_that_served_has_just_died_whoever_is_set_aside_is_tried_before_anybody_is_refused() -> Result<()>
{
    // FD-04. Nobody looks after them here: what is known of the first is that it failed three times, seconds ago.
    let look_every = Duration::from_secs(3600);
    let mut two = Two::start_as(Wanted { order: ServerOrder::Listed, look_every, delays: None }).await?;
    assert_eq!(two.login().await?, 0);
    two.servers[0].stop();
    let first = ServerName::parse(&two.urls[0]).context("a URL of ours")?;
    (0..3).for_each(|_| two.directory.failed(&first, &"it went away"));
    two.becomes(0, ServerState::SetAside).await;
    eventually("questions have moved", async || two.directory.health().is_up()).await;
    assert_eq!(two.login().await?, 1);
    two.servers[0].restart()?;
    assert_eq!(two.login().await?, 1, "it is set aside still");
    two.servers[1].stop();
    assert_eq!(two.login().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_nearest_is_wanted_logins_go_to_it_and_stay_where_they_are_while_others_are_as_near() -> Result<()> {
    // L-37
    let look_every = Duration::from_millis(100);
    let two = Two::start_as(Wanted { order: ServerOrder::Nearest, look_every, delays: Some([150, 10]) }).await?;
    eventually("logins go to the second", async || two.login().await.is_ok_and(|place| place == 1)).await;
    two.ways[0].becomes(10);
    two.ways[1].becomes(150);
    eventually("logins go to the first", async || two.login().await.is_ok_and(|place| place == 0)).await;
    two.ways[0].becomes(150);
    let far = |place: usize| two.directory.health().servers[place].round_trip > Some(Duration::from_millis(149));
    eventually("both are far", async || far(0) && far(1)).await;
    for _ in 0..5 {
        assert_eq!(two.login().await?, 0);
    }
    Ok(())
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
