//! What both protocols' conformance tests share: the server under test, seen from outside only (its ports, its process, its
//! metrics page, the binds that reach its directory), and the files of vectors.
//!
//! The rows are those of the bad-input catalogue, B-01 and on; each sentence begins with its row.

mod vectors;

pub use vectors::{LdapVector, RadiusVector, Rules, ldap_vectors, octets, radius_vectors};

use anyhow::{Context, Result, ensure};
use e2e::OneMachine;
use lab::Slapd;
use std::collections::BTreeMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// `twinlock serve` before a real OpenLDAP.
pub struct Subject {
    pub machine: OneMachine,
    process: u32,
    resident_kib: u64,
}

/// What a row may cost in memory that does not come back: buffers and maps of a process that has just begun, not a leak.
const GROWTH_KIB_MAX: u64 = 64 << 10;

impl Subject {
    /// With `people` beside the company, as LDIF changes, and known to Twinlock.
    pub fn start(settings: &str, set: &[&str], people: &str) -> Result<Self> {
        let mut machine = OneMachine::start(0, settings, "", set)?;
        machine.slapd.modify(people)?;
        machine.command_line().run(&["sync", "now"])?;
        let process = machine.twinlock.process().context("it runs")?.pid();
        let mut subject = Self { machine, process, resident_kib: 0 };
        subject.resident_kib = subject.resident()?;
        Ok(subject)
    }

    /// The very process that was started, not larger than it may be.
    pub fn is_well(&mut self) -> Result<()> {
        let process = self.machine.twinlock.process().context("it runs")?;
        ensure!(process.is_running() && process.pid() == self.process, "the process has ended");
        ensure!(!self.machine.twinlock.log().contains("panicked at"), "a task has panicked");
        let resident = self.resident()?;
        let growth = resident.saturating_sub(self.resident_kib);
        ensure!(growth < GROWTH_KIB_MAX, "it grew by {growth} KiB, to {resident} KiB");
        Ok(())
    }

    fn resident(&self) -> Result<u64> {
        lab::resident_kib(self.process)
    }

    /// Binds of people so far: all but those of Twinlock's own account.
    pub fn binds(&self) -> usize {
        self.machine.slapd.binds("") - self.machine.slapd.binds(Slapd::QUERY_DN)
    }

    /// How many packets were dropped so far, by drop code.
    pub async fn drops(&self) -> Result<BTreeMap<String, u64>> {
        let url = self.machine.twinlock.management_url();
        let mut stream = TcpStream::connect(e2e::socket_address(&url)?).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        let mut drops = BTreeMap::new();
        for line in page.lines().filter(|line| line.starts_with("twinlock_radius_packets_total{")) {
            let code = line.split("drop=\"").nth(1).and_then(|rest| rest.split('"').next()).context("a drop label")?;
            let count: u64 = line.rsplit(' ').next().context("a value")?.parse()?;
            if !code.is_empty() {
                *drops.entry(code.to_owned()).or_default() += count;
            }
        }
        Ok(drops)
    }
}

/// Octets that look like noise and are the same in each run (xorshift).
pub struct Noise(u64);

impl Noise {
    pub fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    pub fn next_number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn octets(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next_number() as u8).take(length).collect()
    }
}

impl Default for Noise {
    fn default() -> Self {
        Self::new()
    }
}
