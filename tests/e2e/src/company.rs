//! The sample company's directory with the product before it, synchronised: in one process, or as two of each part.

use anyhow::{Context, Result};
use lab::{Cluster, CommandLine, Pki, Slapd, SlapdOptions, Standalone, company_settings};
use std::{net::SocketAddr, path::Path};
use tempfile::TempDir;

pub const DEPARTMENTS: [&str; 4] = ["engineering", "sales", "finance", "support"];

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
        let dir = tempfile::tempdir()?;
        let slapd = directory(dir.path(), bulk_people)?.1;
        let twinlock = Standalone::start_set(dir.path(), configuration, set)?;
        introduce(&twinlock.command_line, dir.path(), &slapd, settings).with_context(|| twinlock.log())?;
        Ok(Self { twinlock, slapd, dir })
    }

    pub fn command_line(&self) -> &CommandLine {
        &self.twinlock.command_line
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
        let dir = tempfile::tempdir()?;
        let (pki, slapd) = directory(dir.path(), bulk_people)?;
        let cluster = Cluster::start(dir.path(), &pki, configuration)?;
        introduce(&cluster.command_line, dir.path(), &slapd, settings)?;
        Ok(Self { cluster, slapd, pki, dir })
    }

    pub fn command_line(&self) -> &CommandLine {
        &self.cluster.command_line
    }
}

fn directory(dir: &Path, bulk_people: usize) -> Result<(Pki, Slapd)> {
    let pki = Pki::new(&dir.join("pki"))?;
    let slapd = Slapd::start(dir, &pki, &SlapdOptions { bulk_people, ..Default::default() })?;
    Ok((pki, slapd))
}

/// Settings, and the first synchronisation. There is no schedule: it happens when the story wants it.
fn introduce(command_line: &CommandLine, dir: &Path, slapd: &Slapd, more: &str) -> Result<()> {
    let settings = company_settings(slapd, more)?.replacen("enabled = true", "enabled = false", 1);
    command_line.apply(dir, &settings)?;
    command_line.run(&["sync", "now"])?;
    Ok(())
}

/// `ldap://127.0.0.1:4711` as an address.
pub fn socket_address(url: &str) -> Result<SocketAddr> {
    let (_, address) = url.split_once("://").with_context(|| url.to_owned())?;
    address.parse().with_context(|| url.to_owned())
}
