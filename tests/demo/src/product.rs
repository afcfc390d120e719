//! Twinlock as the demo runs it: started and given its settings by the commands of the README, each of them shown.

use crate::checks::Checks;
use anyhow::{Context, Result};
use lab::{COMPANY_BASE, Person, RADIUS_SECRET, Slapd, Standalone, company_settings, program};
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

pub struct Product {
    twinlock: Standalone,
}

impl Product {
    pub fn start(dir: &Path, slapd: &Slapd) -> Result<Self> {
        let product = Self { twinlock: Standalone::start(dir, "")? };
        let twinlock = &product.twinlock;
        say(&format!(
            "twinlock serve is ready: LDAP at {}, RADIUS on port {}, portal at {}",
            twinlock.ldap_url(),
            twinlock.radius_port(),
            twinlock.portal_url()
        ));
        say("     $ twinlock settings apply settings.toml");
        // No schedule: the first synchronisation is to be seen.
        let settings = company_settings(slapd, "")?.replacen("enabled = true", "enabled = false", 1);
        indent(&twinlock.command_line.apply(twinlock.home(), &settings)?);
        product.show(&["check", "--connect"])?;
        product.show(&["sync", "now"])?;
        Ok(product)
    }

    /// How many users the store has.
    pub fn synchronised(&self) -> Result<usize> {
        let page = self.twinlock.command_line.json(&["user", "list", "--limit", "1000"])?;
        Ok(page["items"].as_array().map_or(0, Vec::len))
    }

    /// Enrols somebody: the seed goes into "their app", one code proves it.
    pub fn enrol(&self, checks: &mut Checks, uid: &str) -> Result<Person> {
        let person = self.twinlock.command_line.enrol(uid)?;
        checks.truth(&format!("{uid} proves a code of the app"), true);
        Ok(person)
    }

    pub fn audit_is_whole(&self) -> bool {
        self.twinlock.command_line.run(&["audit", "verify"]).is_ok()
    }

    pub fn ldapwhoami(&self, name: &str, password: &str) -> Result<Command> {
        let mut command = self.ldap_command("ldapwhoami", &self.ldap_url())?;
        command.args(["-D", name, "-w", password]);
        Ok(command)
    }

    /// 1,000 entries with all their attributes.
    pub fn ldapsearch(&self, url: &str, name: &str, password: &str) -> Result<Command> {
        let mut command = self.ldap_command("ldapsearch", url)?;
        command.args(["-LLL", "-D", name, "-w", password, "-b"]).arg(format!("ou=bulk,ou=people,{COMPANY_BASE}"));
        command.args(["(objectClass=inetOrgPerson)", "*", "+"]);
        Ok(command)
    }

    fn ldap_command(&self, tool: &str, url: &str) -> Result<Command> {
        let mut command = Command::new(program(tool)?);
        command.env("LDAPTLS_CACERT", self.twinlock.certificate_file()).args(["-x", "-H", url]);
        if url == self.ldap_url() {
            command.arg("-ZZ");
        }
        Ok(command)
    }

    /// One request, three seconds for an answer; what radclient printed.
    pub fn radclient(&self, attributes: &str, secret: &str) -> Result<String> {
        let mut child = Command::new(program("radclient")?)
            .args(["-x", "-r", "1", "-t", "3"])
            .arg(format!("127.0.0.1:{}", self.twinlock.radius_port()))
            .args(["auth", secret])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("radclient's input")?.write_all(attributes.as_bytes())?;
        let output = child.wait_with_output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn radius_secret(&self) -> &str {
        RADIUS_SECRET
    }

    pub fn ldap_url(&self) -> String {
        self.twinlock.ldap_url()
    }

    pub fn portal_url(&self) -> String {
        self.twinlock.portal_url()
    }

    pub fn command_line(&self) -> String {
        let line = &self.twinlock.command_line;
        format!("{} --config {}", line.program.display(), line.config.display())
    }

    /// A command of the product, with its answer.
    pub fn show(&self, arguments: &[&str]) -> Result<()> {
        say(&format!("     $ twinlock {}", arguments.join(" ")));
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "table"]);
        indent(&self.twinlock.command_line.run(&arguments).with_context(|| self.twinlock.log())?);
        Ok(())
    }

    /// Until the person ends it; Ctrl-C reaches the children too.
    pub fn wait(&mut self) {
        while self.twinlock.process().is_some_and(|process| process.is_running()) {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// The State of an Access-Challenge, as radclient prints and reads it.
pub fn state_of(output: &str) -> Option<String> {
    let line = output.lines().find(|line| line.trim_start().starts_with("State = "))?;
    Some(line.trim_start().trim_start_matches("State = ").to_owned())
}

fn indent(text: &str) {
    for line in text.lines() {
        say(&format!("       {line}"));
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
