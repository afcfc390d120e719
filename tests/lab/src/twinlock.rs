//! The product under test: in one process, or as its six programs, two of each.

mod cluster;
mod settings;
mod standalone;

pub use cluster::{Cluster, Node, Part};
pub use settings::{QUERY_SECRET_FILE, RADIUS_SECRET, RADIUS_SECRET_FILE, company_settings};
pub use standalone::Standalone;

use crate::Person;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

/// One of our programs. They lie beside the test's own folder once `cargo build --workspace --bins` has run.
pub fn our_program(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    here.ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("{name} is not built; run cargo build --workspace --bins"))
}

/// Whether `/readyz` of this management port says so, as `twinlock health` asks: without a program of its own each time.
fn is_ready(port: u16) -> bool {
    const PATIENCE: Option<Duration> = Some(Duration::from_secs(3));
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(PATIENCE)?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

/// The command line of the product, pointed at a running one.
#[derive(Debug, Clone)]
pub struct CommandLine {
    pub program: PathBuf,
    pub config: PathBuf,
}

impl CommandLine {
    /// Runs a command; its output, whatever its exit code.
    pub fn output(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| self.program.display().to_string())?;
        let mut stdin = child.stdin.take().context("its input")?;
        // A command that needs no input may be gone already.
        let _ = stdin.write_all(format!("{input}\n").as_bytes());
        drop(stdin);
        Ok(child.wait_with_output()?)
    }

    /// What it printed; an error with its own words unless it ended with 0.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with_input(arguments, "")
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let output = self.output(arguments, input)?;
        if !output.status.success() {
            bail!("twinlock {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let mut arguments = arguments.to_vec();
        arguments.extend(["-o", "json"]);
        let text = self.run(&arguments)?;
        serde_json::from_str(&text).with_context(|| format!("twinlock {}: {text}", arguments.join(" ")))
    }

    /// Applies a settings document, with the secret files it names beside it in `dir`. Sync items that it loses are meant to go.
    pub fn apply(&self, dir: &Path, document: &str) -> Result<String> {
        private_file(&dir.join(RADIUS_SECRET_FILE), RADIUS_SECRET)?;
        private_file(&dir.join(QUERY_SECRET_FILE), crate::Slapd::QUERY_PASSWORD)?;
        let file = dir.join("settings.toml");
        fs::write(&file, document)?;
        let file = file.to_string_lossy();
        let diff = self.run(&["settings", "diff", &file, "-o", "table"]).unwrap_or_default();
        let removed: Vec<&str> = diff.lines().filter_map(|line| line.strip_prefix("removed sync_item.")).collect();
        let confirmed = removed.iter().flat_map(|name| ["--remove-item", name]);
        let apply = ["settings", "apply", &file, "--no-probe", "-o", "table"];
        self.run(&apply.into_iter().chain(confirmed).collect::<Vec<_>>())
    }

    /// Enrols somebody: the seed goes into "their app", the code of the previous step proves it, so that those of this
    /// and the next one are left to log in with.
    pub fn enrol(&self, uid: &str) -> Result<Person> {
        let enrolled = self.json(&["factor", "enrol", uid])?;
        let field = |name: &str| enrolled[name].as_str().with_context(|| format!("{name} in {enrolled}"));
        let person = Person::new(uid, field("seed")?);
        self.run_with_input(&["factor", "confirm", uid, field("factor_id")?], &person.code(-1)?)?;
        Ok(person)
    }

    /// Every audit event so far, oldest first.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let text = self.run(&["audit", "tail", "-n", "1000", "-o", "json"])?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}

/// A secret in a file of its own that nobody else may read, as the product wants it.
pub fn private_file(path: &Path, secret: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(secret.as_bytes())?)
}
