//! A real NATS server with JetStream.

use crate::{Proc, free_port, program, wait_until};
use anyhow::Result;
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

pub struct Nats {
    dir: PathBuf,
    port: u16,
    process: Option<Proc>,
}

impl Nats {
    /// One server on a free loopback port. `extra` is appended to its configuration (TLS, accounts).
    pub fn start(dir: &Path, extra: &str) -> Result<Self> {
        let dir = dir.join("nats");
        fs::create_dir_all(&dir)?;
        let port = free_port();
        let conf = format!(
            "server_name: lab\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\n{extra}\n",
            dir.join("jetstream").display()
        );
        fs::write(dir.join("nats.conf"), conf)?;
        let mut nats = Self { dir, port, process: None };
        nats.restart()?;
        Ok(nats)
    }

    pub fn restart(&mut self) -> Result<()> {
        self.process = None;
        let mut command = Command::new(program("nats-server")?);
        command.arg("-c").arg(self.dir.join("nats.conf"));
        self.process = Some(Proc::spawn("nats-server", command, &self.dir.join("nats.log"))?);
        let port = self.port;
        wait_until("nats-server to listen", Duration::from_secs(60), || TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    pub fn stop(&mut self) {
        self.process = None;
    }

    pub fn process_mut(&mut self) -> Option<&mut Proc> {
        self.process.as_mut()
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}
