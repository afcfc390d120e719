//! The whole measurement: both gateways of the product, each against its peers, idle connections, and many who wait.

use crate::{
    ldap, ldap_idle, ldap_peer,
    load::{Load, Report, Shape},
    peer, radius, waiting,
    world::{ROUNDS, World, median, say},
};
use anyhow::Result;
use bench::page;
use lab::{COMPANY_BASE, RADIUS_SECRET};
use std::{fmt::Write as _, path::Path, time::Duration};

const WORKERS: usize = 32;
/// Not saturated: what one login takes by itself.
const CALM_PER_SECOND: u32 = 100;
/// So many logins more of each measurement against the peer, whose ratios are read: CPU time comes in ticks.
const MORE_AGAINST_PEER: u64 = 5;

/// What the parts behind the first are told.
pub struct Parts {
    pub operations: ldap_peer::Operations,
    pub idle: ldap_idle::Idle,
    pub waits: waiting::Waits,
}

pub async fn run(count: usize, logins: u64, page: Option<&Path>, parts: &Parts) -> Result<()> {
    let mut world = World::start(count).await?;
    gateways(&world, logins, page).await?;
    peer::measure(&mut world, logins * MORE_AGAINST_PEER, page).await?;
    ldap_peer::measure(&mut world, &parts.operations, page).await?;
    drop(world);
    ldap_idle::run(&parts.idle, page).await?;
    waiting::run(&parts.waits, page).await
}

async fn gateways(world: &World, logins: u64, page: Option<&Path>) -> Result<()> {
    let (radius_at, ldap_at, people) = (world.radius_at(), world.ldap_at(), &world.people);
    let pid = Some(world.pid);
    let busy = Load {
        shape: Shape::Closed { workers: WORKERS },
        duration: Duration::from_secs(60),
        operations_max: Some(logins),
        server_pid: pid,
    };
    let calm = Load {
        shape: Shape::Open { per_second: CALM_PER_SECOND },
        duration: Duration::from_secs(5),
        operations_max: None,
        server_pid: pid,
    };
    let mut reports: Vec<Vec<Report>> = Vec::new();
    for load in [busy, calm] {
        let mut kinds: [Vec<Report>; 3] = Default::default();
        for _ in 0..ROUNDS {
            kinds[0].push(radius::run(radius_at, RADIUS_SECRET.as_bytes(), false, people.clone(), load).await?);
            kinds[1].push(radius::run(radius_at, RADIUS_SECRET.as_bytes(), true, people.clone(), load).await?);
            kinds[2].push(ldap::run(ldap_at, COMPANY_BASE, people.clone(), load).await?);
        }
        reports.extend(kinds);
    }
    for report in reports.iter().flatten() {
        say(&serde_json::to_string(report)?);
    }
    let text = table(&reports);
    page::show(page, "gateways", &text)
}

fn table(reports: &[Vec<Report>]) -> String {
    let mut text = String::from(
        "| what | load | logins/s | p50 ms | p99 ms | CPU of the product per login, µs | accepted |\n|---|---|---|---|---|---|---|\n",
    );
    for kind in reports.iter().filter(|kind| !kind.is_empty()) {
        let median = |value: fn(&Report) -> f64| median(kind.iter().map(value));
        let all: u64 = kind.iter().map(|report| report.operations).sum();
        let accepted: u64 = kind.iter().map(|report| report.endings.get("accept").copied().unwrap_or_default()).sum();
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.2} | {:.2} | {:.0} | {accepted} of {all} |",
            kind[0].what,
            kind[0].shape,
            median(|report| report.per_second),
            median(|report| report.milliseconds.p50),
            median(|report| report.milliseconds.p99),
            median(|report| report.server_cpu_microseconds.unwrap_or_default()),
        );
    }
    text
}
