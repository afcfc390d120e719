//! A real directory, the product in one process with durable commits, and people with an authenticator app.

use crate::{cores::Cores, ldap_idle::clear_text};
use anyhow::{Context, Result};
use bench::people::{self, People, Record};
use lab::{Pki, Slapd, SlapdOptions, Standalone, company_settings};
use service_kit::grpc::Channel;
use std::{io::Write as _, net::SocketAddr, path::Path, sync::Arc, time::Instant};
use tempfile::TempDir;

/// Measurements of each kind. Odd, so that the median is one of them.
pub const ROUNDS: usize = 5;

/// Stopped before their folder goes, in the order of the fields.
pub struct World {
    twinlock: Standalone,
    pub slapd: Slapd,
    pub pki: Pki,
    pub enrolled: Vec<Record>,
    /// The same, for all measurements together: a code counts once.
    pub people: Arc<People>,
    pub pid: u32,
    dir: TempDir,
}

impl World {
    pub async fn start(count: usize) -> Result<Self> {
        Self::with(count, false).await
    }

    /// They have hardware tokens, which takes less long.
    pub async fn with_tokens(count: usize) -> Result<Self> {
        Self::with(count, true).await
    }

    async fn with(count: usize, tokens: bool) -> Result<Self> {
        let dir = folder()?;
        let pki = Pki::new(&dir.path().join("pki"))?;
        let options = SlapdOptions { bulk_people: count, quiet: true, ..Default::default() };
        let slapd = Slapd::start(dir.path(), &pki, &options)?;
        let mut twinlock = Standalone::start(dir.path(), "[log]\nlevel = \"warn\"\n")?;
        let line = twinlock.command_line.clone();
        line.apply(twinlock.home(), &settings(&slapd)?)?;
        line.run(&["sync", "now", "--wait", "600"])?;
        say(&format!("{count} people are synchronised; enrolling them"));
        let begin = Instant::now();
        let channel = Channel::unix(twinlock.home().join("run/admin.sock"));
        let enrolled = match tokens {
            true => people::issue(channel.clone(), channel, "bulk", count, "Sesame-{}").await?,
            false => people::enrol(channel.clone(), channel, "bulk", count, "Sesame-{}").await?,
        };
        say(&format!("enrolled in {:.1} s", begin.elapsed().as_secs_f64()));
        let pid = twinlock.process().context("it runs")?.pid();
        let people = Arc::new(People::new(enrolled.clone()));
        Ok(Self { twinlock, slapd, pki, enrolled, people, pid, dir })
    }

    /// Begins anew with the server's processor alone.
    pub fn begin_with(&mut self, cores: &Cores) -> Result<()> {
        cores.begin(|| self.twinlock.restart())?;
        self.pid = self.twinlock.process().context("it runs")?.pid();
        Ok(())
    }

    /// To the directory too, from now on.
    pub fn speak_clear_text(&self) -> Result<()> {
        self.twinlock.command_line.apply(self.twinlock.home(), &clear_text(&settings(&self.slapd)?))?;
        Ok(())
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn radius_at(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.twinlock.radius_port()).into()
    }

    pub fn ldap_at(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.twinlock.ldap_port()).into()
    }
}

/// LDAP in clear text on this machine: what is measured is the gateway, not AES.
fn settings(slapd: &Slapd) -> Result<String> {
    let service = format!("service_accounts = [{{ name = \"{}\" }}]", Slapd::GITLAB_DN);
    let client = format!("appended = \"required\"\ntls = \"danger_optional\"\n{service}");
    Ok(company_settings(slapd, "")?.replacen("appended = \"required\"", &client, 1).replacen(
        "enabled = true",
        "enabled = false",
        1,
    ))
}

pub fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("twinlock-bench-").tempdir()?)
}

/// Of an odd number of values.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
