//! The whole measurement: real directory, the product in one process with durable commits, both gateways.

use crate::{
    ldap,
    load::{Load, Report, Shape},
    radius,
};
use anyhow::Result;
use bench::{page::splice, people};
use lab::{COMPANY_BASE, Pki, RADIUS_SECRET, Slapd, SlapdOptions, Standalone, company_settings};
use service_kit::grpc::Channel;
use std::{fmt::Write as _, io::Write as _, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// Measurements of each kind. Odd, so that the median is one of them.
const ROUNDS: usize = 5;
const WORKERS: usize = 32;
/// Not saturated: what one login takes by itself.
const CALM_PER_SECOND: u32 = 100;

pub async fn run(count: usize, logins: u64, page: Option<PathBuf>) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("twinlock-bench-").tempdir()?;
    let pki = Pki::new(&dir.path().join("pki"))?;
    let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions { bulk_people: count, ..Default::default() })?;
    let mut twinlock = Standalone::start(dir.path(), "[log]\nlevel = \"warn\"\n")?;
    // LDAP in clear text on this machine: what is measured is the gateway, not AES.
    let settings = company_settings(&slapd, "")?
        .replacen("appended = \"required\"", "appended = \"required\"\ntls = \"danger_optional\"", 1)
        .replacen("enabled = true", "enabled = false", 1);
    let line = twinlock.command_line.clone();
    line.apply(twinlock.home(), &settings)?;
    line.run(&["sync", "now", "--wait", "600"])?;
    say(&format!("{count} people are synchronised; enrolling them"));
    let begin = std::time::Instant::now();
    let channel = Channel::unix(twinlock.home().join("run/admin.sock"));
    let enrolled = people::enrol(channel.clone(), channel, "bulk", count, "Sesame-{}").await?;
    say(&format!("enrolled in {:.1} s", begin.elapsed().as_secs_f64()));

    let pid = twinlock.process().map(|process| process.pid());
    let radius_at = SocketAddr::from(([127, 0, 0, 1], twinlock.radius_port()));
    let ldap_at = SocketAddr::from(([127, 0, 0, 1], twinlock.ldap_port()));
    let people = Arc::new(people::People::new(enrolled));
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
    match page {
        Some(page) => splice(&page, "gateways", &text),
        None => Ok(writeln!(std::io::stdout(), "{text}")?),
    }
}

fn table(reports: &[Vec<Report>]) -> String {
    let mut text = String::from(
        "| what | load | logins/s | p50 ms | p99 ms | CPU of the product per login, µs | accepted |\n|---|---|---|---|---|---|---|\n",
    );
    for kind in reports.iter().filter(|kind| !kind.is_empty()) {
        let median = |value: fn(&Report) -> f64| {
            let mut values: Vec<f64> = kind.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
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

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
