//! `twinlock serve`, initialised by `twinlock init`, on free ports.

use super::{CommandLine, is_ready, our_program};
use crate::{Proc, free_port, run, wait_until};
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

pub struct Standalone {
    pub command_line: CommandLine,
    home: PathBuf,
    process: Option<Proc>,
    set: Vec<String>,
    radius_port: u16,
    accounting_port: u16,
    ldap_port: u16,
    ldaps_port: u16,
    portal_port: u16,
    management_port: u16,
}

impl Standalone {
    /// Initialises in `dir/twinlock`, adds `more` to the configuration and starts; ready when it returns.
    pub fn start(dir: &Path, more: &str) -> Result<Self> {
        Self::start_set(dir, more, &[])
    }

    /// The same, with single values of the configuration (`section.key=value`) set on its command line.
    pub fn start_set(dir: &Path, more: &str, set: &[&str]) -> Result<Self> {
        let program = our_program("twinlock")?;
        let home = dir.join("twinlock");
        let config = home.join("twinlock.toml");
        run(Command::new(&program).args(["init", "--listen", "127.0.0.1", "--dir"]).arg(&home))?;
        // The usual ports need root, and may be another's.
        let mut standalone = Self {
            command_line: CommandLine { program, config },
            home,
            process: None,
            set: set.iter().map(|value| (*value).to_owned()).collect(),
            radius_port: free_port(),
            accounting_port: free_port(),
            ldap_port: free_port(),
            ldaps_port: free_port(),
            portal_port: free_port(),
            management_port: free_port(),
        };
        standalone.configure(more)?;
        standalone.restart()?;
        Ok(standalone)
    }

    fn configure(&self, more: &str) -> Result<()> {
        let mut text = fs::read_to_string(&self.command_line.config)?;
        for (usual, port) in [
            ("127.0.0.1:1812", self.radius_port),
            ("127.0.0.1:1813", self.accounting_port),
            ("127.0.0.1:389", self.ldap_port),
            ("127.0.0.1:636", self.ldaps_port),
            ("127.0.0.1:9090", self.management_port),
            ("127.0.0.1:8443", self.portal_port),
        ] {
            text = text.replace(&format!("{usual}\""), &format!("127.0.0.1:{port}\""));
        }
        text = text.replace("https://localhost:8443", &self.portal_url());
        fs::write(&self.command_line.config, format!("{text}\n{more}"))?;
        Ok(())
    }

    /// One more `section.key=value` for the command line, from the next start on.
    pub fn set(&mut self, value: &str) {
        self.set.push(value.to_owned());
    }

    /// Starts it (again) and waits until it is ready.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        let mut command = Command::new(&self.command_line.program);
        command.arg("--config").arg(&self.command_line.config).arg("serve");
        // The shortest way out at the end of a test.
        command.args(["--set", "shutdown.drain_delay_seconds=0", "--set", "shutdown.drain_timeout_seconds=5"]);
        command.args(self.set.iter().flat_map(|value| ["--set", value]));
        self.process = Some(Proc::spawn("twinlock", command, &self.log_file())?);
        wait_until("twinlock serve to be ready", Duration::from_secs(30), || is_ready(self.management_port))
            .with_context(|| self.log())
    }

    /// Ends as an operator ends it, and is waited for.
    pub fn stop(&mut self) {
        self.process = None;
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn process(&mut self) -> Option<&mut Proc> {
        self.process.as_mut()
    }

    pub fn log_file(&self) -> PathBuf {
        self.home.join("twinlock.log")
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// The self-signed certificate of LDAP and portal.
    pub fn certificate_file(&self) -> PathBuf {
        self.home.join("tls/twinlock.pem")
    }

    pub fn radius_port(&self) -> u16 {
        self.radius_port
    }

    pub fn accounting_port(&self) -> u16 {
        self.accounting_port
    }

    pub fn ldap_port(&self) -> u16 {
        self.ldap_port
    }

    pub fn ldaps_port(&self) -> u16 {
        self.ldaps_port
    }

    pub fn ldap_url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.ldap_port)
    }

    pub fn ldaps_url(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.ldaps_port)
    }

    pub fn portal_url(&self) -> String {
        format!("https://localhost:{}", self.portal_port)
    }

    pub fn management_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.management_port)
    }
}
