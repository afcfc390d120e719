//! Thousands of LDAP connections on which nothing happens: what one of them holds of the server's memory.

use crate::{
    ldap::Connection,
    proxies::{Hops, Proxy},
    world::folder,
};
use anyhow::{Context, Result, ensure};
use bench::page;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use lab::{Pki, Slapd, SlapdOptions, Standalone, company_settings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::{fmt::Write as _, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;

/// Opened at once; all of them before anything is measured too, so that threads and pools are there.
const AT_ONCE: usize = 64;
/// Files of a process beside its connections.
const OTHER_FILES: usize = 200;
/// Each of so many is asked at the end whether it is there.
const ASKED: usize = 500;
/// For a handshake and a bind, while many others are made.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub struct Idle {
    /// Connections; fewer, which the page says, where a server may not open as many files as it takes.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// By TLS too.
    #[arg(long)]
    tls: bool,
}

struct Kind {
    name: &'static str,
    hops: Hops,
    bound: bool,
    goal: &'static str,
}

const PLAIN: &str = "P-07: ≤ 8, stretch ≤ 4";
const TLS: &str = "P-07: ≤ 16, stretch ≤ 12";
const KINDS: [Kind; 5] = [
    Kind { name: "clear text, no bind", hops: Hops::CLEAR, bound: false, goal: PLAIN },
    Kind { name: "clear text, bound", hops: Hops::CLEAR, bound: true, goal: PLAIN },
    Kind { name: "TLS on both hops, no bind", hops: BOTH, bound: false, goal: TLS },
    Kind {
        name: "TLS to the client, bound",
        hops: Hops { client_tls: true, directory_tls: false },
        bound: true,
        goal: TLS,
    },
    Kind { name: "TLS on both hops, bound", hops: BOTH, bound: true, goal: TLS },
];
const BOTH: Hops = Hops { client_tls: true, directory_tls: true };

/// Of a connection to each server.
struct Figures {
    slapd: Figure,
    back_ldap: Figure,
    haproxy: Figure,
    twinlock: Figure,
}

struct Figure {
    kib: f64,
    /// How many there were.
    connections: usize,
}

/// How many connections there are to be, and how many files a process may open for them.
#[derive(Clone, Copy)]
struct Room {
    connections: usize,
    files: usize,
}

impl Room {
    /// What is started from now on may open as many files as it takes, or as is allowed.
    fn make(connections: usize) -> Result<Self> {
        let limit = getrlimit(Resource::Nofile);
        let most = limit.maximum.unwrap_or(u64::MAX);
        let files = u64::try_from(2 * connections + OTHER_FILES)?.min(most);
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: limit.maximum })?;
        Ok(Self { connections, files: usize::try_from(files)? })
    }

    /// For a server that opens so many files for each. The load is another process, and opens one.
    fn at(self, files_each: usize) -> usize {
        self.connections.min(self.files.saturating_sub(OTHER_FILES) / files_each)
    }
}

pub async fn run(idle: &Idle, page: Option<&Path>) -> Result<()> {
    let room = Room::make(idle.connections)?;
    let mut figures = Vec::new();
    for kind in KINDS.iter().filter(|kind| idle.tls || !kind.hops.client_tls) {
        figures.push(measure(kind, room).await.with_context(|| kind.name)?);
    }
    page::show(page, "ldap-idle", &table(room.connections, &figures))
}

/// Each server is started for this alone: memory that a process had once is not always given back.
async fn measure(kind: &Kind, room: Room) -> Result<Figures> {
    // Another connection to the directory: with the bind, or at once.
    let (alone, behind, copied) = (room.at(1), room.at(1 + usize::from(kind.bound)), room.at(2));
    let dir = folder()?;
    let pki = Pki::new(&dir.path().join("pki"))?;
    let mut slapd = Slapd::start(dir.path(), &pki, &SlapdOptions { quiet: true, ..Default::default() })?;
    let port = if kind.hops.client_tls { slapd.ldaps_port() } else { slapd.ldap_port() };
    let pid = slapd.process().context("slapd runs")?.pid();
    let direct = each(kind, &pki, ([127, 0, 0, 1], port).into(), pid, alone).await.context("slapd itself")?;
    slapd.restart()?;
    let proxy = Proxy::back_ldap(dir.path(), &slapd, &pki, kind.hops)?;
    let back_ldap = each(kind, &pki, proxy.address(), proxy.pid(), behind).await.context("back-ldap")?;
    drop(proxy);
    slapd.restart()?;
    let proxy = Proxy::haproxy(dir.path(), &slapd, &pki, kind.hops)?;
    let haproxy = each(kind, &pki, proxy.address(), proxy.pid(), copied).await.context("HAProxy")?;
    drop(proxy);
    slapd.restart()?;
    let mut twinlock = twinlock(dir.path(), &slapd, &pki, kind.hops)?;
    let port = if kind.hops.client_tls { twinlock.ldaps_port() } else { twinlock.ldap_port() };
    let pid = twinlock.process().context("it runs")?.pid();
    let ours = each(kind, &pki, ([127, 0, 0, 1], port).into(), pid, behind)
        .await
        .with_context(|| format!("Twinlock: {}", twinlock.log()))?;
    Ok(Figures { slapd: direct, back_ldap, haproxy, twinlock: ours })
}

fn twinlock(dir: &Path, slapd: &Slapd, pki: &Pki, hops: Hops) -> Result<Standalone> {
    let tls = pki.issue("gateway", &["127.0.0.1", "localhost"])?;
    let twinlock = Standalone::start_set(
        dir,
        "[log]\nlevel = \"warn\"\n",
        &[
            &format!("ldap.certificate_file={}", tls.certificate.display()),
            &format!("ldap.key_file={}", tls.key.display()),
            "ldap.connections_per_client_max=20000",
            "ldap.connections_per_source_max=20000",
            "ldap.unbound_idle_seconds=3600",
        ],
    )?;
    let service = format!("service_accounts = [{{ name = \"{}\" }}]", Slapd::GITLAB_DN);
    let settings = company_settings(slapd, "")?
        .replacen("appended = \"required\"", &format!("{service}\ntls = \"danger_optional\""), 1)
        .replacen("enabled = true", "enabled = false", 1);
    let settings = match hops.directory_tls {
        true => settings.replace(&slapd.ldap_url(), &slapd.ldaps_url()),
        false => clear_text(&settings),
    };
    twinlock.command_line.apply(twinlock.home(), &settings)?;
    Ok(twinlock)
}

/// The settings of the sample company, with a directory that is spoken to in clear text.
pub fn clear_text(settings: &str) -> String {
    settings.replacen("kind = \"tls\"", "kind = \"simple\"", 1).replacen(
        "preset = \"openldap\"",
        "preset = \"openldap\"\nauthentication_bind = { kind = \"simple\" }\ndanger_clear_text = true",
        1,
    )
}

/// What each of so many holds of this process.
async fn each(kind: &Kind, pki: &Pki, server: SocketAddr, pid: u32, count: usize) -> Result<Figure> {
    if !kind.hops.client_tls {
        return grown(kind.bound, pid, count, || async move { Connection::open(server).await }).await;
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(pki.ca_file())? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
    let open = || async {
        let tcp = TcpStream::connect(server).await?;
        tcp.set_nodelay(true)?;
        let tls = connector.connect(ServerName::IpAddress(server.ip().into()), tcp).await?;
        Ok(Connection::new(tls))
    };
    grown(kind.bound, pid, count, open).await
}

async fn grown<S, O, F>(bound: bool, pid: u32, count: usize, open: O) -> Result<Figure>
where
    S: AsyncRead + AsyncWrite + Unpin,
    O: Fn() -> F,
    F: Future<Output = Result<Connection<S>>>,
{
    let opened = async || {
        let mut connection = open().await?;
        if bound {
            let bound = connection.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?;
            ensure!(bound, "the service account cannot bind");
        }
        anyhow::Ok(connection)
    };
    let one = async |_| timeout(PATIENCE, opened()).await.context("no answer to a handshake or a bind")?;
    // The settings that were just applied may not be in force yet.
    let mut tries = 100;
    while let Err(error) = one(0).await {
        tries -= 1;
        ensure!(tries > 0, "no connection: {error:#}");
        sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..4 {
        drop(stream::iter(0..AT_ONCE).map(one).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?);
    }
    sleep(Duration::from_secs(1)).await;
    let before = lab::resident_kib(pid)?;
    let mut connections = Vec::with_capacity(count);
    let mut opened = stream::iter(0..count).map(one).buffer_unordered(AT_ONCE);
    while let Some(connection) = opened.try_next().await? {
        connections.push(connection);
    }
    sleep(Duration::from_secs(3)).await;
    let after = lab::resident_kib(pid)?;
    for connection in connections.iter_mut().step_by(count.div_ceil(ASKED)) {
        ensure!(connection.is_alive().await, "a connection did not last");
    }
    Ok(Figure { kib: after.saturating_sub(before) as f64 / count as f64, connections: count })
}

fn table(count: usize, all: &[Figures]) -> String {
    let mut text = format!(
        "| KiB for each of {count} | slapd itself | back-ldap | HAProxy | Twinlock | / back-ldap | / HAProxy | goal |\n\
         |---|---|---|---|---|---|---|---|\n"
    );
    let cell = |figure: &Figure| match figure.connections {
        opened if opened < count => format!("{:.1} (of {opened})", figure.kib),
        _ => format!("{:.1}", figure.kib),
    };
    for (kind, figures) in KINDS.iter().zip(all) {
        let Figures { slapd, back_ldap, haproxy, twinlock } = figures;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.2} | {:.2} | {} |",
            kind.name,
            cell(slapd),
            cell(back_ldap),
            cell(haproxy),
            cell(twinlock),
            twinlock.kib / back_ldap.kib,
            twinlock.kib / haproxy.kib,
            kind.goal,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_opened_as_files_allow_and_the_page_says_where_they_were_fewer() {
        let room = Room { connections: 10_000, files: 20_000 };
        assert_eq!((room.at(1), room.at(2)), (10_000, 9_900));
        let figure = |kib, files_each| Figure { kib, connections: room.at(files_each) };
        let figures = Figures {
            slapd: figure(7.0, 1),
            back_ldap: figure(8.0, 1),
            haproxy: figure(4.0, 2),
            twinlock: figure(2.0, 1),
        };
        let page = table(room.connections, &[figures]);
        let row = "| clear text, no bind | 7.0 | 8.0 | 4.0 (of 9900) | 2.0 | 0.25 | 0.50 | P-07: ≤ 8, stretch ≤ 4 |";
        assert!(page.starts_with("| KiB for each of 10000 |") && page.contains(row), "{page}");
    }
}
