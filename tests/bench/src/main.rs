//! Load for both gateways: logins as devices and applications do them, at a fixed rate or as fast as they are answered.
//!
//! `enrol` gives people an authenticator app through the admin socket and writes them to a file; `radius` and `ldap` log
//! them in and print one JSON object with what happened. `radius-peer`, `ldap-peer`, `ldap-idle`, `overload`, `sync-peer` and `waiting` bring all they need. Only for servers
//! on this machine.

mod all;
mod cores;
mod doubles;
mod ldap_idle;
mod ldap_peer;
mod peer;
mod proxies;
mod surge;
mod sync_peer;
mod waiting;
mod world;

use anyhow::{Result, bail};
use bench::{ldap, load, people, radius};
use clap::{Args, Parser, Subcommand};
use load::{Load, Shape};
use people::People;
use service_kit::grpc::Channel;
use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};
use waiting::Waits;

#[derive(Debug, Parser)]
#[command(name = "twinlock-bench", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts slapd and `twinlock serve`, enrols people, measures both gateways, then all that follows, writes the figures
    /// into a page.
    All {
        #[arg(long, default_value_t = 20_000)]
        people: usize,
        /// Logins of each measurement; five are made, and their median counts.
        #[arg(long, default_value_t = 2_000)]
        logins: u64,
        #[command(flatten)]
        operations: ldap_peer::Operations,
        #[command(flatten)]
        idle: ldap_idle::Idle,
        #[command(flatten)]
        waits: Waits,
        /// Where the page goes; default: stdout.
        #[arg(long)]
        page: Option<PathBuf>,
    },
    /// RADIUS logins at `twinlock serve` and at FreeRADIUS with rlm_ldap and rlm_totp, in turns, on one slapd.
    RadiusPeer {
        #[arg(long, default_value_t = 20_000)]
        people: usize,
        #[arg(long, default_value_t = 10_000)]
        logins: u64,
        #[arg(long)]
        page: Option<PathBuf>,
    },
    /// LDAP at slapd itself, through back-ldap, HAProxy and `twinlock serve`, in turns.
    LdapPeer {
        #[arg(long, default_value_t = 20_000)]
        people: usize,
        #[command(flatten)]
        operations: ldap_peer::Operations,
        #[arg(long)]
        page: Option<PathBuf>,
    },
    /// What idle LDAP connections hold of the memory of each of these.
    LdapIdle {
        #[command(flatten)]
        idle: ldap_idle::Idle,
        #[arg(long)]
        page: Option<PathBuf>,
    },
    /// Logins at twice the capacity that was measured just before, and how it recovers.
    Overload {
        #[command(flatten)]
        measure: surge::Surge,
        #[arg(long)]
        page: Option<PathBuf>,
    },
    /// The first synchronisation of many users and one that finds some changes, beside `ldapsearch`.
    SyncPeer {
        #[command(flatten)]
        sizes: sync_peer::Sizes,
        #[arg(long)]
        page: Option<PathBuf>,
    },
    /// RADIUS logins that all wait for their people at once on one `twinlock-radius-gateway`.
    Waiting {
        #[command(flatten)]
        waits: Waits,
        #[arg(long)]
        page: Option<PathBuf>,
    },
    /// Enrols the users whose names contain SEARCH and writes name, password and seed of each to FILE.
    Enrol {
        #[arg(long)]
        socket: PathBuf,
        #[arg(long)]
        search: String,
        #[arg(long)]
        count: usize,
        /// Their password: {} stands for the name.
        #[arg(long, default_value = "Sesame-{}")]
        password: String,
        #[arg(long)]
        people: PathBuf,
    },
    /// PAP logins: password and code in one field, or the code as the answer to a challenge.
    Radius {
        #[arg(long)]
        server: SocketAddr,
        #[arg(long)]
        secret_file: PathBuf,
        #[arg(long)]
        challenge: bool,
        #[command(flatten)]
        load: LoadArguments,
    },
    /// Binds with password and code on new connections, then one search by uid.
    Ldap {
        #[arg(long)]
        server: SocketAddr,
        /// The base of the search; the user is looked up in it.
        #[arg(long)]
        base: String,
        #[command(flatten)]
        load: LoadArguments,
    },
}

#[derive(Debug, Args)]
struct LoadArguments {
    #[arg(long)]
    people: PathBuf,
    /// Closed loop: this many logins in work at any time.
    #[arg(long, conflicts_with = "rate")]
    workers: Option<usize>,
    /// Open loop: this many logins a second are begun, whether or not earlier ones are through.
    #[arg(long)]
    rate: Option<u32>,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Read the CPU time of this process before and after.
    #[arg(long)]
    server_pid: Option<u32>,
}

impl LoadArguments {
    fn load(&self) -> Load {
        let shape = match (self.rate, self.workers) {
            (Some(per_second), _) => Shape::Open { per_second },
            (None, workers) => Shape::Closed { workers: workers.unwrap_or(16) },
        };
        Load { shape, duration: Duration::from_secs(self.seconds), operations_max: None, server_pid: self.server_pid }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::All { people, logins, operations, idle, waits, page } => {
            all::run(people, logins, page.as_deref(), &all::Parts { operations, idle, waits }).await
        }
        Command::RadiusPeer { people, logins, page } => peer::run(people, logins, page.as_deref()).await,
        Command::LdapPeer { people, operations, page } => ldap_peer::run(people, &operations, page.as_deref()).await,
        Command::LdapIdle { idle, page } => ldap_idle::run(&idle, page.as_deref()).await,
        Command::Overload { measure, page } => surge::run(&measure, page.as_deref()).await,
        Command::SyncPeer { sizes, page } => sync_peer::run(&sizes, page.as_deref()),
        Command::Waiting { waits, page } => waiting::run(&waits, page.as_deref()).await,
        Command::Enrol { socket, search, count, password, people } => {
            let channel = Channel::unix(socket);
            people::write(&people::enrol(channel.clone(), channel, &search, count, &password).await?, &people)
        }
        Command::Radius { server, secret_file, challenge, load } => {
            only_here(server)?;
            let secret = std::fs::read(&secret_file)?;
            report(
                radius::run(server, secret.trim_ascii(), challenge, People::shared(&load.people)?, load.load()).await?,
            )
        }
        Command::Ldap { server, base, load } => {
            only_here(server)?;
            report(ldap::run(server, &base, People::shared(&load.people)?, load.load()).await?)
        }
    }
}

/// A load generator in the wrong direction is an attack.
fn only_here(server: SocketAddr) -> Result<()> {
    if !server.ip().is_loopback() {
        bail!("{server} is not on this machine; the load generator only talks to loopback addresses");
    }
    Ok(())
}

fn report(report: load::Report) -> Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(())
}
