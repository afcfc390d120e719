//! The sample company's directory with the product before it, synchronised: in one process, or as two of each part.

use anyhow::{Context, Result, ensure};
use bench::people::{Record, enrol};
use lab::{Cluster, CommandLine, Pki, Slapd, SlapdOptions, Standalone, company_settings};
use serde::Deserialize;
use serde_json::Value;
use service_kit::{
    config::GrpcSection,
    grpc::{Channel, Endpoints},
};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// New settings are read at once, or at the next look.
const IN_FORCE: Duration = Duration::from_secs(15);

/// Stopped in the order of its fields.
pub struct OneMachine {
    pub twinlock: Standalone,
    pub slapd: Slapd,
    pub dir: TempDir,
}

impl OneMachine {
    /// `settings` is added to the settings, `configuration` to the process configuration, `set` goes to its command
    /// line.
    pub fn start(bulk_people: usize, settings: &str, configuration: &str, set: &[&str]) -> Result<Self> {
        let options = SlapdOptions { bulk_people, ..SlapdOptions::default() };
        Self::start_over(&options, settings, configuration, set)
    }

    /// The same over a directory with these options.
    pub fn start_over(options: &SlapdOptions, settings: &str, configuration: &str, set: &[&str]) -> Result<Self> {
        let dir = folder()?;
        let slapd = directory(dir.path(), options)?.1;
        let twinlock = Standalone::start_set(dir.path(), configuration, set)?;
        introduce(&twinlock.command_line, dir.path(), &slapd, settings).with_context(|| twinlock.log())?;
        Ok(Self { twinlock, slapd, dir })
    }

    pub fn command_line(&self) -> &CommandLine {
        &self.twinlock.command_line
    }

    /// Applies the company's settings with these added; they are in force when it returns.
    pub async fn settings(&self, more: &str) -> Result<()> {
        let settings = company_settings(&self.slapd, more)?;
        let said = self.command_line().apply(self.dir.path(), &settings)?;
        let revision = said.rsplit("revision ").next().and_then(|rest| rest.trim().parse().ok());
        let revision: u64 = revision.with_context(|| said.clone())?;
        let end = Instant::now() + IN_FORCE;
        while self.in_force() < Some(revision) {
            ensure!(Instant::now() < end, "revision {revision} of the settings does not come into force");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Which revision of the settings decides, in the words of verification.
    fn in_force(&self) -> Option<u64> {
        let log = self.twinlock.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut said = lines.filter(|line| line["message"] == "settings in force" && line["service"] == "twinlock");
        said.next_back().and_then(|line| line["revision"].as_u64())
    }
}

/// Stopped in the order of its fields.
pub struct Distributed {
    pub cluster: Cluster,
    pub slapd: Slapd,
    pub pki: Pki,
    pub dir: TempDir,
}

impl Distributed {
    /// `settings` is added to the settings, `configuration` to that of every process.
    pub fn start(bulk_people: usize, settings: &str, configuration: &str) -> Result<Self> {
        Self::start_over(&SlapdOptions { bulk_people, ..SlapdOptions::default() }, settings, configuration)
    }

    /// The same over a directory with these options.
    pub fn start_over(options: &SlapdOptions, settings: &str, configuration: &str) -> Result<Self> {
        let dir = folder()?;
        let (pki, slapd) = directory(dir.path(), options)?;
        let cluster = Cluster::start(dir.path(), &pki, configuration)?;
        introduce(&cluster.command_line, dir.path(), &slapd, settings)?;
        Ok(Self { cluster, slapd, pki, dir })
    }

    pub fn command_line(&self) -> &CommandLine {
        &self.cluster.command_line
    }

    /// Gives so many of the bulk people an authenticator app, through the administrators' endpoints.
    pub async fn enrol_many(&self, count: usize) -> Result<Vec<Record>> {
        let configuration: Administrator = toml::from_str(&fs::read_to_string(&self.command_line().config)?)?;
        let remote = configuration.admin.remote;
        let store = Channel::new("user-store", &remote.user_store, &remote.grpc)?;
        let verification = Channel::new("verification", &remote.verification, &remote.grpc)?;
        enrol(store, verification, "bulk", count, "Sesame-{}").await
    }
}

/// The configuration of the command line.
#[derive(Deserialize)]
struct Administrator {
    admin: Admin,
}

#[derive(Deserialize)]
struct Admin {
    remote: Remote,
}

#[derive(Deserialize)]
struct Remote {
    user_store: Endpoints,
    verification: Endpoints,
    grpc: GrpcSection,
}

/// Gone at the end, unless somebody wants to read the logs: `KEEP_LOGS=1 cargo test ...`.
fn folder() -> Result<TempDir> {
    let keep = std::env::var_os("KEEP_LOGS").is_some();
    Ok(tempfile::Builder::new().prefix("twinlock-story-").disable_cleanup(keep).tempdir()?)
}

fn directory(dir: &Path, options: &SlapdOptions) -> Result<(Pki, Slapd)> {
    let pki = Pki::new(&dir.join("pki"))?;
    let slapd = Slapd::start(dir, &pki, options)?;
    Ok((pki, slapd))
}

/// Settings, and the first synchronisation. There is no schedule: it happens when the story wants it.
fn introduce(command_line: &CommandLine, dir: &Path, slapd: &Slapd, more: &str) -> Result<()> {
    let settings = company_settings(slapd, more)?.replacen("enabled = true", "enabled = false", 1);
    command_line.apply(dir, &settings)?;
    first_synchronisation(command_line)
}

/// Whom the settings exempt from the second factor by a group waits for a person, like everybody in a first run of many (S-46).
fn first_synchronisation(command_line: &CommandLine) -> Result<()> {
    const WAITING: i32 = 5;
    let output = command_line.output(&["sync", "now"], "")?;
    match output.status.code() {
        Some(0) => Ok(()),
        Some(WAITING) => {
            let approvals = command_line.json(&["sync", "approvals"])?;
            for approval in approvals["items"].as_array().context("approvals")? {
                let id = approval["id"].as_str().context("an id")?;
                command_line.run(&["sync", "approve", id, "--reason", "the company of the story"])?;
            }
            Ok(())
        }
        _ => anyhow::bail!("twinlock sync now: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// `ldap://127.0.0.1:4711` as an address.
pub fn socket_address(url: &str) -> Result<SocketAddr> {
    let (_, address) = url.split_once("://").with_context(|| url.to_owned())?;
    address.parse().with_context(|| url.to_owned())
}
