//! RADIUS logins at Twinlock and at what is built without it: FreeRADIUS with rlm_ldap and rlm_totp, for the same people
//! of the same directory, in turns. Server and load have a processor each where there are two.

use crate::{
    cores::Cores,
    load::{Load, Report, Shape},
    radius,
    world::{ROUNDS, World, median, say},
};
use anyhow::{Context, Result};
use bench::{page, people::People};
use lab::{
    COMPANY_BASE, Pki, RADIUS_SECRET, Slapd,
    freeradius::{FreeRadius, PeerOptions, Seeds},
};
use std::{fmt::Write as _, fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

/// Enough to saturate either of them.
const WORKERS: usize = 64;
/// Where the configuration of the peer of the lab ends and ours begins.
const SERVER: &str = "server peer {";
const WITH_CHALLENGE: &str = include_str!("../data/peer-challenge.conf");

/// The forms of a login, in the order of the table.
const FORMS: [Form; 2] = [
    Form { name: "code appended", folder: "appended", challenge: false },
    Form { name: "by challenge", folder: "challenge", challenge: true },
];

struct Form {
    name: &'static str,
    folder: &'static str,
    challenge: bool,
}

/// A row for each form: its name, the median it is of, and what is to be reached (P-01 to P-03) by form.
struct Figure {
    name: &'static str,
    value: fn(&Report) -> f64,
    decimals: usize,
    goals: [&'static str; 2],
}

const FIGURES: [Figure; 4] = [
    Figure {
        name: "CPU per login, µs",
        value: |report| report.server_cpu_microseconds.unwrap_or_default(),
        decimals: 0,
        goals: ["P-01: ≤ 0.8, stretch ≤ 0.5", "P-03: ≤ 0.8, stretch ≤ 0.5"],
    },
    Figure {
        name: "logins/s",
        value: |report| report.per_second,
        decimals: 0,
        goals: ["P-02: ≥ 1.5, stretch ≥ 2.5", ""],
    },
    Figure { name: "p50, ms", value: |report| report.milliseconds.p50, decimals: 2, goals: ["", ""] },
    Figure { name: "p99, ms", value: |report| report.milliseconds.p99, decimals: 2, goals: ["P-02: ≤ 1", ""] },
];

/// Of the peer and of Twinlock, one after the other.
type Pair = [Report; 2];

pub async fn run(count: usize, logins: u64, page: Option<&Path>) -> Result<()> {
    let mut world = World::start(count).await?;
    measure(&mut world, logins, page).await
}

pub async fn measure(world: &mut World, logins: u64, page: Option<&Path>) -> Result<()> {
    let seeds: Vec<_> = world.enrolled.iter().map(|record| (record.name.clone(), record.seed.clone())).collect();
    let start = |form: &Form| start(form, &world.dir().join(form.folder), &world.slapd, &world.pki, seeds.clone());
    let peers = [start(&FORMS[0])?, start(&FORMS[1])?];
    let cores = Cores::two()?;
    if let Some(cores) = &cores {
        world.begin_with(cores)?;
        let mut others = Vec::new();
        for peer in &peers {
            cores.pin_server(pid(peer)?)?;
        }
        others.extend(world.slapd.process().map(|slapd| slapd.pid()));
        cores.pin_others(&others)?;
    }
    let again = Arc::new(People::again(world.enrolled.clone()));
    let mut pairs: [Vec<Pair>; 2] = Default::default();
    // The first opens connections and warms caches, and is not counted.
    for round in 0..=ROUNDS {
        let logins = if round == 0 { logins.div_ceil(10) } else { logins };
        for ((form, peer), pairs) in FORMS.iter().zip(&peers).zip(&mut pairs) {
            let theirs = login(peer.auth_address(), form, again.clone(), logins, pid(peer)?).await?;
            world.people.wait_for(usize::try_from(logins)?).await?;
            let ours = login(world.radius_at(), form, world.people.clone(), logins, world.pid).await?;
            if round > 0 {
                say(&serde_json::to_string(&[&theirs, &ours])?);
                pairs.push([theirs, ours]);
            }
        }
    }
    page::show(page, "radius-peer", &table(&pairs))
}

async fn login(server: SocketAddr, form: &Form, people: Arc<People>, logins: u64, pid: u32) -> Result<Report> {
    let load = Load {
        shape: Shape::Closed { workers: WORKERS },
        duration: Duration::from_secs(120),
        operations_max: Some(logins),
        server_pid: Some(pid),
    };
    radius::run(server, RADIUS_SECRET.as_bytes(), form.challenge, people, load).await
}

/// A FreeRADIUS for one form.
fn start(form: &Form, dir: &Path, slapd: &Slapd, pki: &Pki, seeds: Vec<(String, String)>) -> Result<FreeRadius> {
    let options = PeerOptions {
        secret: RADIUS_SECRET.into(),
        ldap_url: slapd.ldap_url(),
        base: COMPANY_BASE.into(),
        bind_dn: Slapd::QUERY_DN.into(),
        bind_password: Slapd::QUERY_PASSWORD.into(),
        ca_file: Some(pki.ca_file()),
        seeds: Seeds::File(seeds),
        // One for each of its threads at most.
        connections: 32,
    };
    let mut peer = FreeRadius::peer(dir, &options)?;
    if form.challenge {
        let file = peer.dir().join("radiusd.conf");
        let conf = fs::read_to_string(&file)?;
        let (modules, _) = conf.split_once(SERVER).with_context(|| format!("{} has no {SERVER:?}", file.display()))?;
        let server = WITH_CHALLENGE.replace("@auth_port@", &peer.auth_address().port().to_string());
        fs::write(&file, format!("{modules}{server}"))?;
        peer.restart()?;
    }
    Ok(peer)
}

fn pid(peer: &FreeRadius) -> Result<u32> {
    Ok(peer.process().context("FreeRADIUS runs")?.pid())
}

fn table(pairs: &[Vec<Pair>; 2]) -> String {
    let mut text = String::from(
        "| login | figure | FreeRADIUS | Twinlock | Twinlock / FreeRADIUS | goal |\n|---|---|---|---|---|---|\n",
    );
    for (place, (form, pairs)) in FORMS.iter().zip(pairs).enumerate() {
        for Figure { name, value, decimals, goals } in &FIGURES {
            let of = |place: usize| median(pairs.iter().map(|pair| value(&pair[place])));
            let ratio = median(pairs.iter().map(|[theirs, ours]| value(ours) / value(theirs)));
            let _ = writeln!(
                text,
                "| {} | {name} | {:.decimals$} | {:.decimals$} | {ratio:.2} | {} |",
                form.name,
                of(0),
                of(1),
                goals[place],
            );
        }
        let accepted = |place: usize| {
            let reports = pairs.iter().map(|pair| &pair[place]);
            let accepted: u64 = reports.clone().map(|report| report.endings.get("accept").copied().unwrap_or(0)).sum();
            format!("{accepted} of {}", reports.map(|report| report.operations).sum::<u64>())
        };
        let _ = writeln!(text, "| {} | accepted | {} | {} | | |", form.name, accepted(0), accepted(1));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::{
        Person, SlapdOptions,
        nas::{Nas, Profile, Verdict},
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_peer_that_asks_wants_password_and_code_too() -> Result<()> {
        // What it did not check, it would not pay for.
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions::default())?;
        let ann = Person::new("ann.archer", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let seeds = vec![(ann.uid.clone(), ann.seed.clone())];
        let peer = start(&FORMS[1], dir.path(), &slapd, &pki, seeds)?;
        let ben = lab::password_of("ben.hale");
        for (name, password, answers, verdict) in [
            ("ann.archer", ann.password.as_str(), vec![ann.code(0)?], Verdict::Accept),
            ("ann.archer", &ann.password, vec![], Verdict::Challenge),
            ("ann.archer", &ann.password, vec![ann.wrong_code()?], Verdict::Reject),
            ("ann.archer", "wrong", vec![ann.code(0)?], Verdict::Reject),
            ("ben.hale", &ben, vec![ann.code(0)?], Verdict::Reject),
        ] {
            let nas = Nas::new(Profile::fortigate().times_faster(10), &[peer.auth_address()], RADIUS_SECRET)?;
            let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
            assert_eq!(nas.login(name, password, &answers).await?.verdict, verdict, "{name} {password} {answers:?}");
        }
        Ok(())
    }
}
