//! The same LDAP operations at slapd itself, through slapd's own proxy, through HAProxy and through Twinlock, in turns.
//!
//! Clear text on every hop, so that what is compared is what each does with a message. Server and load have a processor each
//! where there are two.

use crate::{
    cores::Cores,
    ldap::{self, Connection},
    load::{Ending, Load, Report, Shape, drive},
    proxies::{Hops, Proxy},
    world::{ROUNDS, World, median, say},
};
use anyhow::{Context, Result, ensure};
use bench::{
    page,
    people::{Login, People},
};
use clap::Args;
use lab::{COMPANY_BASE, Slapd};
use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::net::TcpStream;

/// Enough to saturate any of them.
const WORKERS: usize = 64;

#[derive(Debug, Args)]
pub struct Operations {
    /// Operations of each measurement.
    #[arg(long, default_value_t = 20_000)]
    operations: u64,
    /// And of those that spend a code, of which people have one in 30 s.
    #[arg(long, default_value_t = 5_000)]
    logins_with_code: u64,
    /// Only the kinds of operations with this in their name.
    #[arg(long, default_value = "")]
    only: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// On a connection that the service account is bound on.
    Search,
    /// On a connection that is kept.
    Rebind(Who),
    Fresh(Who),
    /// As applications do it: the service account finds the person, and the person binds, on one new connection.
    Login,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Service,
    Person,
}

/// A kind of operation, in the order of the table, and what is to be reached.
struct Form {
    name: &'static str,
    what: What,
    goal: &'static str,
}

const FORMS: [Form; 6] = [
    Form {
        name: "search by uid, 1 entry",
        what: What::Search,
        goal: "P-04: ≤ 0.3 back-ldap, ≤ 1.3 HAProxy; stretch 1 HAProxy",
    },
    Form { name: "re-bind, service account", what: What::Rebind(Who::Service), goal: "" },
    Form {
        name: "re-bind, person; Twinlock with TOTP",
        what: What::Rebind(Who::Person),
        goal: "P-05: ≤ 0.8 back-ldap; stretch 0.5",
    },
    Form { name: "new connection, bind, service account", what: What::Fresh(Who::Service), goal: "" },
    Form { name: "new connection, bind, person; Twinlock with TOTP", what: What::Fresh(Who::Person), goal: "" },
    Form {
        name: "new connection, service bind, search, person's bind; Twinlock with TOTP",
        what: What::Login,
        goal: "P-06: ≤ 0.6 back-ldap, ≤ 1.5 HAProxy; stretch 0.4 back-ldap",
    },
];

impl What {
    fn spends_a_code(self) -> bool {
        matches!(self, Self::Rebind(Who::Person) | Self::Fresh(Who::Person) | Self::Login)
    }
}

struct Server {
    name: &'static str,
    address: SocketAddr,
    pid: u32,
    /// It wants a code behind the password, once each.
    second_lock: bool,
    /// With the codes they have for it.
    people: Arc<People>,
    /// The same, for what takes no code.
    again: Arc<People>,
}

/// Of each server, in their order.
type Row = Vec<Report>;

pub async fn run(count: usize, operations: &Operations, page: Option<&Path>) -> Result<()> {
    let mut world = World::start(count).await?;
    measure(&mut world, operations, page).await
}

pub async fn measure(world: &mut World, operations: &Operations, page: Option<&Path>) -> Result<()> {
    world.speak_clear_text()?;
    let cores = Cores::two()?;
    if let Some(cores) = &cores {
        world.begin_with(cores)?;
    }
    let slapd = world.slapd.process().context("slapd runs")?.pid();
    let back_ldap = Proxy::back_ldap(world.dir(), &world.slapd, &world.pki, Hops::CLEAR)?;
    let haproxy = Proxy::haproxy(world.dir(), &world.slapd, &world.pki, Hops::CLEAR)?;
    let again = Arc::new(People::again(world.enrolled.clone()));
    let peer = |name, address, pid| Server {
        name,
        address,
        pid,
        second_lock: false,
        people: again.clone(),
        again: again.clone(),
    };
    let servers = [
        peer("slapd itself", ([127, 0, 0, 1], world.slapd.ldap_port()).into(), slapd),
        peer("back-ldap", back_ldap.address(), back_ldap.pid()),
        peer("HAProxy", haproxy.address(), haproxy.pid()),
        Server { second_lock: true, people: world.people.clone(), ..peer("Twinlock", world.ldap_at(), world.pid) },
    ];
    let forms: Vec<&Form> = FORMS.iter().filter(|form| form.name.contains(&operations.only)).collect();
    let mut rounds: Vec<Vec<Row>> = forms.iter().map(|_| Vec::new()).collect();
    // The first opens connections and warms caches, and is not counted.
    for round in 0..=ROUNDS {
        for (form, rows) in forms.iter().zip(&mut rounds) {
            let mut row = Vec::new();
            for server in &servers {
                if let Some(cores) = &cores {
                    cores.pin_others(&[slapd])?;
                    cores.pin_server(server.pid)?;
                }
                let many = if form.what.spends_a_code() && server.second_lock {
                    operations.logins_with_code
                } else {
                    operations.operations
                };
                let many = if round == 0 { many.div_ceil(10) } else { many };
                let report = load(server, form, many).await?;
                if round > 0 {
                    say(&format!("{}: {}", server.name, serde_json::to_string(&report)?));
                }
                row.push(report);
            }
            if round > 0 {
                rows.push(row);
            }
        }
    }
    page::show(page, "ldap-peer", &table(&servers, &forms, &rounds))
}

async fn load(server: &Server, form: &Form, operations: u64) -> Result<Report> {
    let people = if form.what.spends_a_code() { &server.people } else { &server.again };
    if form.what.spends_a_code() && server.second_lock {
        people.wait_for(usize::try_from(operations)?).await?;
    }
    let client = Arc::new(Client {
        server: server.address,
        second_lock: server.second_lock,
        people: people.clone(),
        kept: Mutex::default(),
    });
    client.keep(form.what).await?;
    let load = Load {
        shape: Shape::Closed { workers: WORKERS },
        duration: Duration::from_secs(120),
        operations_max: Some(operations),
        server_pid: Some(server.pid),
    };
    let what = form.what;
    let report = drive(form.name, load, move || {
        let client = client.clone();
        async move { ldap::ended(client.operation(what)).await }
    });
    Ok(report.await)
}

struct Client {
    server: SocketAddr,
    second_lock: bool,
    people: Arc<People>,
    /// Each in use by one operation at a time.
    kept: Mutex<Vec<Connection<TcpStream>>>,
}

impl Client {
    /// Opens the connections before anything is measured.
    async fn keep(&self, what: What) -> Result<()> {
        if !matches!(what, What::Search | What::Rebind(_)) {
            return Ok(());
        }
        for _ in 0..WORKERS {
            let mut connection = Connection::open(self.server).await?;
            let bound = connection.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?;
            ensure!(bound, "the service account cannot bind at {}", self.server);
            self.kept().push(connection);
        }
        Ok(())
    }

    async fn operation(&self, what: What) -> Result<Ending> {
        let person = || self.people.login();
        match what {
            What::Search => {
                let Some(login) = person() else { return Ok("nobody left") };
                let mut connection = self.kept().pop().context("one for each worker")?;
                let found = connection.search(COMPANY_BASE, &login.name).await?;
                self.kept().push(connection);
                Ok(accept_if(found == 1))
            }
            What::Rebind(who) => {
                let Some((dn, password)) = self.credentials(who) else { return Ok("no fresh code left") };
                let mut connection = self.kept().pop().context("one for each worker")?;
                let bound = connection.bind(&dn, &password).await?;
                self.kept().push(connection);
                Ok(accept_if(bound))
            }
            What::Fresh(who) => {
                let Some((dn, password)) = self.credentials(who) else { return Ok("no fresh code left") };
                let mut connection = Connection::open(self.server).await?;
                let bound = connection.bind(&dn, &password).await?;
                connection.unbind().await?;
                Ok(accept_if(bound))
            }
            What::Login => {
                let Some(login) = person() else { return Ok("no fresh code left") };
                let mut connection = Connection::open(self.server).await?;
                let mut done = connection.bind(Slapd::GITLAB_DN, Slapd::GITLAB_PASSWORD).await?;
                done &= connection.search(COMPANY_BASE, &login.name).await? == 1;
                done &= connection.bind(&dn(&login), &self.password(&login)).await?;
                connection.unbind().await?;
                Ok(accept_if(done))
            }
        }
    }

    /// `None`: no fresh code is left.
    fn credentials(&self, who: Who) -> Option<(String, String)> {
        Some(match who {
            Who::Service => (Slapd::GITLAB_DN.to_owned(), Slapd::GITLAB_PASSWORD.to_owned()),
            Who::Person => {
                let login = self.people.login()?;
                (dn(&login), self.password(&login))
            }
        })
    }

    fn password(&self, login: &Login) -> String {
        if self.second_lock { format!("{},{}", login.password, login.code) } else { login.password.clone() }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Connection<TcpStream>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dn(login: &Login) -> String {
    format!("uid={},ou=bulk,ou=people,{COMPANY_BASE}", login.name)
}

fn accept_if(done: bool) -> Ending {
    if done { "accept" } else { "wrong answer" }
}

/// A row for each form: its name, and the median it is of.
struct Figure {
    name: &'static str,
    value: fn(&Report) -> f64,
    decimals: usize,
}

const FIGURES: [Figure; 3] = [
    Figure {
        name: "CPU of the server, µs",
        value: |report| report.server_cpu_microseconds.unwrap_or_default(),
        decimals: 1,
    },
    Figure { name: "a second", value: |report| report.per_second, decimals: 0 },
    Figure { name: "p99, ms", value: |report| report.milliseconds.p99, decimals: 2 },
];

fn table(servers: &[Server; 4], forms: &[&Form], rounds: &[Vec<Row>]) -> String {
    let mut text = String::from("| operation | figure |");
    for server in servers {
        let _ = write!(text, " {} |", server.name);
    }
    text += " / back-ldap | / HAProxy | goal for the CPU |\n|---|---|---|---|---|---|---|---|---|\n";
    for (form, rows) in forms.iter().zip(rounds) {
        for Figure { name, value, decimals } in &FIGURES {
            let _ = write!(text, "| {} | {name} |", form.name);
            for place in 0..servers.len() {
                let _ = write!(text, " {:.decimals$} |", median(rows.iter().map(|row| value(&row[place]))));
            }
            let ratio = |peer: usize| median(rows.iter().map(|row| value(&row[3]) / value(&row[peer])));
            let goal = if *name == FIGURES[0].name { form.goal } else { "" };
            let _ = writeln!(text, " {:.2} | {:.2} | {goal} |", ratio(1), ratio(2));
        }
        let _ = write!(text, "| {} | done |", form.name);
        for place in 0..servers.len() {
            let reports = rows.iter().map(|row| &row[place]);
            let accepted: u64 = reports.clone().filter_map(|report| report.endings.get("accept")).sum();
            let _ = write!(text, " {accepted} of {} |", reports.map(|report| report.operations).sum::<u64>());
        }
        text += " | | |\n";
    }
    text
}
