//! The six parts as programs of their own, two of each and three that decide, on NATS and PostgreSQL, with mutual TLS between them.

use super::{CommandLine, is_ready, our_program};
use crate::{Nats, Pki, Postgres, Proc, free_port, wait_until};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    UserStore,
    Verification,
    LdapGateway,
    RadiusGateway,
    DirectorySync,
    Portal,
}

impl Part {
    pub const ALL: [Self; 6] = [
        Self::UserStore,
        Self::Verification,
        Self::LdapGateway,
        Self::RadiusGateway,
        Self::DirectorySync,
        Self::Portal,
    ];

    /// How many of it run. Of three that decide one can be killed while two go on.
    pub fn count(self) -> usize {
        if self == Self::Verification { 3 } else { 2 }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::UserStore => "user-store",
            Self::Verification => "verification",
            Self::LdapGateway => "ldap-gateway",
            Self::RadiusGateway => "radius-gateway",
            Self::DirectorySync => "directory-sync",
            Self::Portal => "portal",
        }
    }
}

/// Which of them.
pub type Node = (Part, usize);

pub struct Cluster {
    pub command_line: CommandLine,
    pub nats: Nats,
    pub postgres: Postgres,
    dir: PathBuf,
    processes: BTreeMap<Node, Proc>,
    ports: BTreeMap<Node, Ports>,
    /// Of the parts that have one of their own.
    environment: BTreeMap<Part, Vec<(String, String)>>,
    /// Where the programs of nodes lie that are of another build.
    builds: BTreeMap<Node, PathBuf>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    grpc: u16,
    management: u16,
    /// LDAP, RADIUS or HTTPS.
    service: u16,
}

impl Cluster {
    /// Every node of every part. `more` is added to every configuration.
    pub fn start(dir: &Path, pki: &Pki, more: &str) -> Result<Self> {
        let dir = dir.join("cluster");
        fs::create_dir_all(&dir)?;
        let nodes: Vec<Node> =
            Part::ALL.into_iter().flat_map(|part| (1..=part.count()).map(move |number| (part, number))).collect();
        let ports: BTreeMap<Node, Ports> = nodes
            .iter()
            .map(|node| (*node, Ports { grpc: free_port(), management: free_port(), service: free_port() }))
            .collect();
        let mut cluster = Self {
            command_line: CommandLine { program: our_program("twinlock")?, config: dir.join("admin.toml") },
            nats: Nats::start(&dir, "")?,
            postgres: Postgres::start(&dir)?,
            dir,
            processes: BTreeMap::new(),
            ports,
            environment: BTreeMap::new(),
            builds: BTreeMap::new(),
        };
        for part in Part::ALL {
            pki.issue(part.name(), &[&format!("{}.twinlock.internal", part.name()), "localhost", "127.0.0.1"])?;
        }
        pki.issue("admin", &["admin.twinlock.internal"])?;
        cluster.write_configurations(&nodes, pki, more)?;
        for node in nodes {
            cluster.start_node(node)?;
        }
        cluster.wait_ready()?;
        Ok(cluster)
    }

    fn write_configurations(&self, nodes: &[Node], pki: &Pki, more: &str) -> Result<()> {
        let tls = pki.ca_file().parent().context("the CA has a folder")?.display().to_string();
        let identity = |part: &str| {
            format!(
                "certificate_file = \"{tls}/{part}.pem\"\nkey_file = \"{tls}/{part}.key\"\nca_file = \"{tls}/ca.pem\"\n"
            )
        };
        super::private_file(&self.dir.join("database.password"), Postgres::PASSWORD)?;
        for node in nodes {
            let (part, ports) = (node.0, self.ports[node]);
            let endpoints = match part {
                Part::UserStore => vec![],
                Part::Verification | Part::DirectorySync => vec![("user_store", Part::UserStore)],
                Part::LdapGateway | Part::RadiusGateway => {
                    vec![("user_store", Part::UserStore), ("verification", Part::Verification)]
                }
                Part::Portal => vec![
                    ("user_store", Part::UserStore),
                    ("verification", Part::Verification),
                    ("directory", Part::LdapGateway),
                ],
            };
            let mut text = format!(
                "version = 1\n[management]\nlisten = \"127.0.0.1:{}\"\n[bus]\nurl = \"{}\"\n\
                 [shutdown]\ndrain_delay_seconds = 0\ndrain_timeout_seconds = 5\n\
                 [grpc]\nlisten = \"127.0.0.1:{}\"\n{}",
                ports.management,
                self.nats.url(),
                ports.grpc,
                identity(part.name()),
            );
            if !endpoints.is_empty() {
                text += "[endpoints]\n";
                for (key, part) in endpoints {
                    text += &format!("{key} = \"{}\"\n", self.endpoints(part));
                }
            }
            text += &match part {
                Part::UserStore => format!(
                    "[store]\nurl = \"{1}\"\npassword_file = \"{0}/database.password\"\nmaster_key_file = \"{0}/master.key\"\n",
                    self.dir.display(),
                    self.postgres.url_without_password(),
                ),
                Part::RadiusGateway => format!(
                    "[radius]\nlisten = [\"127.0.0.1:{}\"]\naccounting_listen = [\"127.0.0.1:0\"]\n",
                    ports.service
                ),
                Part::LdapGateway => format!(
                    "[ldap]\nlisten = [\"127.0.0.1:{}\"]\ntls_listen = []\ncertificate_file = \"{tls}/ldap-gateway.pem\"\nkey_file = \"{tls}/ldap-gateway.key\"\n",
                    ports.service
                ),
                Part::Portal => format!(
                    "[portal]\nlisten = [\"127.0.0.1:{0}\"]\npublic_url = \"https://localhost:{0}\"\ncertificate_file = \"{tls}/portal.pem\"\nkey_file = \"{tls}/portal.key\"\n",
                    ports.service
                ),
                Part::Verification | Part::DirectorySync => String::new(),
            };
            fs::write(self.config_file(*node), format!("{text}{more}"))?;
        }
        let admin = format!(
            "[admin.remote]\nuser_store = \"{}\"\nverification = \"{}\"\ndirectory = \"{}\"\n[admin.remote.grpc]\n{}",
            self.endpoints(Part::UserStore),
            self.endpoints(Part::Verification),
            self.endpoints(Part::LdapGateway),
            identity("admin"),
        );
        Ok(fs::write(&self.command_line.config, admin)?)
    }

    fn endpoints(&self, part: Part) -> String {
        let endpoint = |number| format!("https://127.0.0.1:{}", self.ports[&(part, number)].grpc);
        (1..=part.count()).map(endpoint).collect::<Vec<_>>().join(",")
    }

    pub fn config_file(&self, (part, number): Node) -> PathBuf {
        self.dir.join(format!("{}-{number}.toml", part.name()))
    }

    pub fn log_file(&self, (part, number): Node) -> PathBuf {
        self.dir.join(format!("{}-{number}.log", part.name()))
    }

    pub fn log(&self, node: Node) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file(node)).unwrap_or_default()).into_owned()
    }

    /// Starts one program (again); does not wait.
    pub fn start_node(&mut self, node: Node) -> Result<()> {
        let name = format!("twinlock-{}", node.0.name());
        let program = match self.builds.get(&node) {
            Some(build) => build.join(&name),
            None => our_program(&name)?,
        };
        let mut command = Command::new(program);
        command.arg("--config").arg(self.config_file(node));
        command.envs(self.environment.get(&node.0).into_iter().flatten().cloned());
        let process = Proc::spawn(&format!("{name}-{}", node.1), command, &self.log_file(node))?;
        self.processes.insert(node, process);
        Ok(())
    }

    /// One more of a part, configured as the others are; its number. Nobody is told of it who calls that part.
    pub fn add_node(&mut self, part: Part, pki: &Pki, more: &str) -> Result<usize> {
        let number = self.ports.keys().filter(|(other, _)| *other == part).count() + 1;
        let node = (part, number);
        self.ports.insert(node, Ports { grpc: free_port(), management: free_port(), service: free_port() });
        self.write_configurations(&[node], pki, more)?;
        self.start_node(node)?;
        self.wait_ready()?;
        Ok(number)
    }

    /// For the nodes of a part that are started from now on.
    pub fn set_environment(&mut self, part: Part, environment: Vec<(String, String)>) {
        self.environment.insert(part, environment);
    }

    /// Puts a node of another build in the place of one, or of this build again; does not wait.
    pub fn exchange(&mut self, node: Node, build: Option<&Path>) -> Result<()> {
        self.kill(node);
        match build {
            Some(build) => self.builds.insert(node, build.to_owned()),
            None => self.builds.remove(&node),
        };
        self.start_node(node)
    }

    /// SIGKILL for every node of a part, and a new start.
    pub fn restart_part(&mut self, part: Part) -> Result<()> {
        for number in 1..=part.count() {
            self.kill((part, number));
            self.start_node((part, number))?;
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: Node) {
        if let Some(mut process) = self.processes.remove(&node) {
            process.kill();
        }
    }

    pub fn process(&mut self, node: Node) -> Option<&mut Proc> {
        self.processes.get_mut(&node)
    }

    /// Its process id, while it runs.
    pub fn pid(&self, node: Node) -> Option<u32> {
        self.processes.get(&node).map(Proc::pid)
    }

    /// Whether `/readyz` of a node says so.
    pub fn is_ready(&self, node: Node) -> bool {
        is_ready(self.ports[&node].management)
    }

    /// Waits until every running node is ready.
    pub fn wait_ready(&self) -> Result<()> {
        for node in self.processes.keys() {
            wait_until(&format!("{node:?} to be ready"), Duration::from_secs(120), || self.is_ready(*node))
                .with_context(|| self.log(*node))?;
        }
        Ok(())
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn radius_port(&self, number: usize) -> u16 {
        self.ports[&(Part::RadiusGateway, number)].service
    }

    pub fn ldap_url(&self, number: usize) -> String {
        format!("ldap://127.0.0.1:{}", self.ports[&(Part::LdapGateway, number)].service)
    }

    pub fn portal_url(&self, number: usize) -> String {
        format!("https://localhost:{}", self.ports[&(Part::Portal, number)].service)
    }

    pub fn management_url(&self, node: Node) -> String {
        format!("http://127.0.0.1:{}", self.ports[&node].management)
    }
}

impl Drop for Cluster {
    /// All are told at once, before what they lean on goes: one after the other they would wait for each other.
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            if process.is_running() {
                process.signal("TERM");
            }
        }
        self.processes.clear();
    }
}
