//! The first synchronisation of a large directory beside what `ldapsearch` takes to read it, and a run that finds some changes.

use crate::world::folder;
use anyhow::{Context, Result, ensure};
use bench::page;
use clap::Args;
use lab::{COMPANY_BASE, Pki, Slapd, SlapdOptions, Standalone, company_settings, program};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub struct Sizes {
    /// Users of the directory, one table row each.
    #[arg(long, value_delimiter = ',', default_value = "100000")]
    users: Vec<usize>,
    /// Changed between two runs.
    #[arg(long, default_value_t = 100)]
    changes: usize,
    /// Of each measurement; the median counts. Above 500,000 users each is made once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of the sync item; everybody has to fit, such as by (uid=*).
    #[arg(long, default_value = "")]
    filter: String,
}

struct Row {
    users: usize,
    rounds: usize,
    dump: Duration,
    first: Duration,
    peak_mib: f64,
    resident_mib: f64,
    nothing: Duration,
    changed: Duration,
    operations: u64,
    entries: u64,
    joined: Duration,
    restart: Duration,
}

/// At most so many are in the group that somebody joins.
const MEMBERS_MAX: usize = 100_000;

pub fn run(sizes: &Sizes, to: Option<&Path>) -> Result<()> {
    let mut rows = Vec::new();
    for users in &sizes.users {
        rows.push(measure(*users, sizes)?);
    }
    page::show(to, "sync", &table(&rows, sizes.changes)?)
}

fn measure(users: usize, sizes: &Sizes) -> Result<Row> {
    let rounds = if users > 500_000 { 1 } else { sizes.rounds };
    let dir = folder()?;
    let pki = Pki::new(&dir.path().join("pki"))?;
    eprintln!("{users} users: filling slapd");
    // Without it slapd names all who are there to tell who is not.
    let database_lines = "syncprov-sessionlog 10000".to_owned();
    let options = SlapdOptions { bulk_people: users, quiet: true, database_lines, ..SlapdOptions::default() };
    let slapd = Slapd::start(dir.path(), &pki, &options)?;
    let (mut dumps, mut firsts) = (Vec::new(), Vec::new());
    let (mut peak_mib, mut last) = (0.0_f64, None);
    // In turns, so that both meet the same machine.
    for round in 0..rounds {
        dumps.push(dump(&slapd, users)?);
        drop(last.take());
        let home = dir.path().join(format!("round{round}"));
        std::fs::create_dir_all(&home)?;
        let mut twinlock = Standalone::start(&home, "")?;
        let settings = company_settings(&slapd, "")?.replacen("enabled = true", "enabled = false", 1);
        let settings = settings.replacen("[sync]\n", "[sync]\napproval_over_users = 999\n", 1);
        let source = "source = { kind = \"domain\" }";
        let settings = settings.replacen(source, &format!("{source}\nfilter = {:?}", sizes.filter), 1);
        twinlock.command_line.apply(&home, &settings)?;
        let run = synchronised(&twinlock, &[])?;
        ensure!(run.mode == "full", "the first run is a full one, not {}", run.mode);
        let pid = twinlock.process().context("it runs")?.pid();
        peak_mib = peak_mib.max(status_mib(pid, "VmHWM")?);
        eprintln!(
            "{users} users, round {round}: dump {:?}, first sync {:?}, peak {peak_mib:.0} MiB",
            dumps[round], run.took
        );
        firsts.push(run.took);
        last = Some(twinlock);
    }
    let mut twinlock = last.context("one round at least")?;
    let (mut nothing, mut changed) = (Vec::new(), Vec::new());
    let (mut operations, mut entries) = (0, 0);
    for round in 0..rounds.max(3) {
        nothing.push(synchronised(&twinlock, &["--changes"])?.took);
        let ldif: String = (1..=sizes.changes)
            .map(|number| {
                let number = number * (users / sizes.changes);
                format!(
                    "dn: uid=bulk{number:05},ou=bulk,ou=people,{COMPANY_BASE}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 {round}{number:07}\n\n"
                )
            })
            .collect();
        slapd.modify(&ldif)?;
        let before = counted(&slapd)?;
        let run = synchronised(&twinlock, &["--changes"])?;
        let after = counted(&slapd)?;
        ensure!(run.mode == "incremental" && run.changed == sizes.changes as u64, "{} {}", run.mode, run.changed);
        changed.push(run.took);
        // Without the two that ask for the count.
        (operations, entries) = (after.0 - before.0 - 2, after.1 - before.1);
    }
    let joined = one_joins(&slapd, &twinlock, users.min(MEMBERS_MAX), rounds.max(3))?;
    twinlock.stop();
    let begun = Instant::now();
    twinlock.restart()?;
    let restart = begun.elapsed();
    let pid = twinlock.process().context("it runs")?.pid();
    let resident_mib = status_mib(pid, "VmRSS")?;
    let (dump, first) = (median(dumps), median(firsts));
    let (nothing, changed) = (median(nothing), median(changed));
    Ok(Row {
        users,
        rounds,
        dump,
        first,
        peak_mib,
        resident_mib,
        nothing,
        changed,
        operations,
        entries,
        joined,
        restart,
    })
}

/// A run that finds one more member of a large group, which is read whole then (S-17).
fn one_joins(slapd: &Slapd, twinlock: &Standalone, members: usize, rounds: usize) -> Result<Duration> {
    // Of a class of which the server keeps no `memberOf`, so that nothing else changes.
    let group = format!("dn: cn=everybody,ou=groups,{COMPANY_BASE}\n");
    let mut ldif = format!("{group}changetype: add\nobjectClass: groupOfUniqueNames\ncn: everybody\n");
    for number in 1..=members {
        writeln!(ldif, "uniqueMember: uid=bulk{number:05},ou=bulk,ou=people,{COMPANY_BASE}")?;
    }
    slapd.modify(&ldif)?;
    synchronised(twinlock, &["--changes"])?;
    let mut times = Vec::new();
    for round in 0..rounds {
        let member = format!("uid=joins{round},ou=people,{COMPANY_BASE}");
        slapd.modify(&format!("{group}changetype: modify\nadd: uniqueMember\nuniqueMember: {member}\n"))?;
        times.push(synchronised(twinlock, &["--changes"])?.took);
    }
    Ok(median(times))
}

/// `ldapsearch` of everything, by StartTLS, page by page, as Twinlock reads.
fn dump(slapd: &Slapd, users: usize) -> Result<Duration> {
    let begun = Instant::now();
    let output = Command::new(program("ldapsearch")?)
        .env("LDAPTLS_CACERT", slapd.ca_file())
        .args(["-x", "-ZZ", "-LLL", "-E", "pr=1000/noprompt", "-H", &slapd.ldap_url(), "-D", Slapd::QUERY_DN])
        .args(["-w", Slapd::QUERY_PASSWORD, "-b", COMPANY_BASE, "(objectClass=inetOrgPerson)", "*", "entryUUID"])
        .stdout(Stdio::piped())
        .output()?;
    let elapsed = begun.elapsed();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = output.stdout.split(|octet| *octet == b'\n').filter(|line| line.starts_with(b"dn: ")).count();
    ensure!(found >= users, "{found} of {users}");
    Ok(elapsed)
}

struct Ran {
    mode: String,
    changed: u64,
    took: Duration,
}

/// A run, as the product itself counts its time: from its begin to its end.
fn synchronised(twinlock: &Standalone, more: &[&str]) -> Result<Ran> {
    let mut arguments = vec!["sync", "now"];
    arguments.extend(more);
    twinlock.command_line.run(&arguments)?;
    let history = twinlock.command_line.json(&["sync", "history"])?;
    let run = history["items"].as_array().and_then(|runs| runs.first()).context("a run")?.clone();
    ensure!(run["state"] == "done", "{run:#}");
    let log = twinlock.log();
    let told = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut told = told.filter(|line| line["event"] == "sync_run" && line["run_id"] == run["id"]);
    let ms = told.next().and_then(|line| line["ms"].as_u64()).context("the log line of the run")?;
    Ok(Ran {
        mode: run["mode"].as_str().unwrap_or_default().to_owned(),
        changed: run["changed"].as_u64().unwrap_or_default(),
        took: Duration::from_millis(ms),
    })
}

/// Operations that slapd has completed and entries it has sent.
fn counted(slapd: &Slapd) -> Result<(u64, u64)> {
    let value = |base: &str, attribute: &str| -> Result<u64> {
        let output = Command::new(program("ldapsearch")?)
            .args(["-x", "-LLL", "-H", &slapd.ldap_url(), "-D", Slapd::ADMIN_DN, "-w", Slapd::ADMIN_PASSWORD])
            .args(["-s", "base", "-b", base, attribute])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = text.lines().find_map(|line| line.strip_prefix(&format!("{attribute}: ")));
        found.and_then(|number| number.parse().ok()).with_context(|| format!("{base}: {text}"))
    };
    let operations = value("cn=Search,cn=Operations,cn=Monitor", "monitorOpCompleted")?;
    Ok((operations, value("cn=Entries,cn=Statistics,cn=Monitor", "monitorCounter")?))
}

fn status_mib(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    let kib: f64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).trim().parse()?;
    Ok(kib / 1024.0)
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn table(rows: &[Row], changes: usize) -> Result<String> {
    let mut table = String::from("| users |");
    for row in rows {
        write!(table, " {} |", row.users)?;
    }
    table += " goal |\n|---|";
    table += &"---|".repeat(rows.len() + 1);
    table.push('\n');
    let mut line = |name: &str, goal: &str, value: &dyn Fn(&Row) -> String| -> Result<()> {
        write!(table, "| {name} |")?;
        for row in rows {
            write!(table, " {} |", value(row))?;
        }
        writeln!(table, " {goal} |")?;
        Ok(())
    };
    let seconds = |time: Duration| format!("{:.2}", time.as_secs_f64());
    line("measured, times", "", &|row| row.rounds.to_string())?;
    line("`ldapsearch` of everything, s", "", &|row| seconds(row.dump))?;
    line("first synchronisation, s", "", &|row| seconds(row.first))?;
    line("ratio", "P-10: ≤ 4, stretch ≤ 2", &|row| {
        format!("{:.2}", row.first.as_secs_f64() / row.dump.as_secs_f64())
    })?;
    line(
        "peak memory of the whole process, MiB",
        "P-10: ≤ 200, stretch ≤ 100; P-11: ≤ 400, stretch ≤ 150",
        &|row| format!("{:.0}", row.peak_mib),
    )?;
    line("a run that finds nothing, s", "", &|row| format!("{:.3}", row.nothing.as_secs_f64()))?;
    line(&format!("a run that finds {changes} changes, s"), "P-12: ≤ 1, stretch ≤ 0.1", &|row| {
        format!("{:.3}", row.changed.as_secs_f64())
    })?;
    line("its searches at the directory", "P-12: as many as changes ask for", &|row| row.operations.to_string())?;
    line("entries the directory sent for it", "", &|row| row.entries.to_string())?;
    line(
        &format!("a run that finds one more member of a group of all users (of {MEMBERS_MAX} at most), s"),
        "",
        &|row| format!("{:.3}", row.joined.as_secs_f64()),
    )?;
    line("start to ready with these users, s", "P-14: ≤ 2, stretch ≤ 0.3", &|row| seconds(row.restart))?;
    line("resident after that start, MiB", "P-13: ≤ 512, stretch ≤ 200", &|row| {
        format!("{:.0}", row.resident_mib)
    })?;
    Ok(table)
}
