//! A real PostgreSQL server. It refuses to run as root, so a root caller hands it to the user `postgres`.

use crate::{Proc, free_port, process::run, program, template::template, wait_until};
use anyhow::{Context, Result};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

pub struct Postgres {
    dir: PathBuf,
    port: u16,
    process: Option<Proc>,
}

impl Postgres {
    pub const USER: &str = "twinlock";
    pub const PASSWORD: &str = "Postgres-lab-55e0";

    /// One server on a free loopback port with an empty database `twinlock`. Durable settings as shipped: fsync is on.
    pub fn start(dir: &Path) -> Result<Self> {
        let dir = dir.join("postgres");
        fs::create_dir_all(&dir)?;
        // Its user must be able to walk to its own folder.
        for folder in [dir.parent().unwrap_or(&dir), &dir] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        give_to_its_user(&dir)?;
        let data = dir.join("data");
        run(Command::new("cp").arg("-a").arg(new_cluster()?).arg(&data))?;
        let port = free_port();
        let mut conf = fs::read_to_string(data.join("postgresql.conf"))?;
        conf.push_str(&format!(
            "\nlisten_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nmax_connections = 200\n",
            dir.display()
        ));
        fs::write(data.join("postgresql.conf"), conf)?;
        let mut postgres = Self { dir, port, process: None };
        postgres.restart()?;
        postgres.sql("postgres", "create database twinlock")?;
        Ok(postgres)
    }

    pub fn restart(&mut self) -> Result<()> {
        self.process = None;
        let mut command = as_its_user("postgres")?;
        command.arg("-D").arg(self.dir.join("data")).current_dir(&self.dir);
        self.process = Some(Proc::spawn("postgres", command, &self.dir.join("../postgres.log"))?);
        let (ready, port) = (program("pg_isready")?, self.port.to_string());
        wait_until("PostgreSQL to accept connections", Duration::from_secs(60), || {
            let answer = Command::new(&ready).args(["-q", "-h", "127.0.0.1", "-p", &port]).status();
            answer.is_ok_and(|status| status.success())
        })
    }

    /// Stops at once, as a crash would.
    pub fn stop(&mut self) {
        if let Some(process) = &self.process {
            process.signal("QUIT");
        }
        self.process = None;
    }

    /// From now on its files lie in this folder.
    pub fn move_to(&mut self, dir: &Path) -> Result<()> {
        self.stop();
        let data = self.dir.join("data");
        let moved = dir.join("data");
        run(Command::new("cp").arg("-a").arg(&data).arg(&moved))?;
        fs::remove_dir_all(&data)?;
        std::os::unix::fs::symlink(moved, data)?;
        self.restart()
    }

    /// Writes to the write-ahead log until its disk takes no more, which ends the server.
    pub fn fill_log(&self) {
        // A message alone: no table grows, so it is the log that is full.
        while self.sql("twinlock", "select pg_logical_emit_message(false, 'lab', repeat('x', 8000000))").is_ok() {}
    }

    pub fn url(&self) -> String {
        self.url_of("twinlock")
    }

    /// For programs that take the password from a file.
    pub fn url_without_password(&self) -> String {
        format!("postgres://{}@127.0.0.1:{}/twinlock", Self::USER, self.port)
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://{}:{}@127.0.0.1:{}/{database}", Self::USER, Self::PASSWORD, self.port)
    }

    /// Runs a statement with psql; what it printed.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String> {
        let output = run(Command::new(program("psql")?).args(["-Atq", "-d", &self.url_of(database), "-c", statement]))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A new, empty database for one test; its URL.
    pub fn database(&self, name: &str) -> Result<String> {
        self.sql("postgres", &format!("create database {name}"))?;
        Ok(self.url_of(name))
    }
}

/// The files of a server that has never run, made once.
fn new_cluster() -> Result<PathBuf> {
    let version = run(Command::new(program("initdb")?).arg("--version"))?.stdout;
    template("lab-postgres", &[&version, include_bytes!("postgres.rs")], |making| {
        fs::set_permissions(making, fs::Permissions::from_mode(0o755))?;
        fs::write(making.join("password"), Postgres::PASSWORD)?;
        let data = making.join("data");
        fs::create_dir(&data)?;
        give_to_its_user(making)?;
        run(as_its_user("initdb")?
            .arg("-D")
            .arg(&data)
            .args(["-U", Postgres::USER, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "-N"])
            .arg(format!("--pwfile={}", making.join("password").display()))
            .current_dir(making))?;
        Ok(data)
    })
}

fn give_to_its_user(dir: &Path) -> Result<()> {
    if is_root()? {
        run(Command::new("chown").args(["-R", "postgres:postgres"]).arg(dir))?;
    }
    Ok(())
}

fn is_root() -> Result<bool> {
    let output = run(Command::new("id").arg("-u"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "0")
}

fn as_its_user(name: &str) -> Result<Command> {
    let file = program(name)?;
    if !is_root()? {
        return Ok(Command::new(file));
    }
    let setpriv = program("setpriv").context("to run PostgreSQL as the user postgres")?;
    let mut command = Command::new(setpriv);
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(file);
    Ok(command)
}
