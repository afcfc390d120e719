//! One random script of edits, heard of through every change feed that a server offers: all stores end as the directory is.

mod synced;

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use lab::{COMPANY_BASE, Samba, SlapdOptions};
use proto::user_store::SyncRun;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use synced::cutter::{Cutter, Said};
use synced::{People, Upstream, World};

const EDITS: usize = 2_000;
/// Of them, by a store that listens, however long it takes.
const TOLD_MIN: usize = 1_000;
/// After so many each of the stores hears of them.
const AT_ONCE: usize = 50;

/// DirSync by an account without the right to replicate: what was deleted is not told (S-13).
const OWN_VIEW: &str = "dirsync of its own view";

/// [`MORE_ATTRIBUTES`]
const MAPPING: &str = "attributes = { user_group = \"l\", languages = { text = \"title\" } }";
/// What tells of accounts that are locked.
const POLICY: &str = "moduleload ppolicy.la\noverlay ppolicy";

fn document(upstream: &Upstream, account: &str, more: &str) -> Result<String> {
    let source = source(upstream);
    Ok(format!(
        "[sync]\napproval_over_users = 999\napproval_over_percent = 0\n\n{}\
         [[sync_item]]\nname = \"all\"\ndirectory = \"corp\"\nsource = {source}\nbackup_phone = [\"pager\"]\n",
        upstream.section(account, &format!("{more}\n{MAPPING}"))?
    ))
}

fn source(upstream: &Upstream) -> String {
    match upstream {
        Upstream::Samba(_) => format!("{{ kind = \"container\", dn = \"{}\" }}", Samba::PEOPLE_DN),
        Upstream::Slapd(_) | Upstream::Ds389(_) => "{ kind = \"domain\" }".to_owned(),
    }
}

/// Where people lie, and who reads them.
fn reading(upstream: &Upstream, feed: &str) -> (&'static str, [&'static str; 2]) {
    match upstream {
        // Who may read what was deleted.
        Upstream::Samba(_) if feed != OWN_VIEW => (Samba::PEOPLE_DN, upstream.admin()),
        Upstream::Samba(_) => (Samba::PEOPLE_DN, upstream.query()),
        Upstream::Slapd(_) | Upstream::Ds389(_) => (COMPANY_BASE, upstream.query()),
    }
}

/// As the settings and the runs call it.
fn kind(feed: &str) -> &str {
    if feed == OWN_VIEW { "dirsync" } else { feed }
}

async fn world(upstream: &Arc<Upstream>, feed: &str) -> Result<World> {
    let more = match feed {
        "full" => String::new(),
        feed => format!("feed = \"{}\"", kind(feed)),
    };
    let (base, [account, password]) = reading(upstream, feed);
    let world = World::new(tempfile::tempdir()?, Arc::clone(upstream), base, "").await?;
    world.apply_with(&document(upstream, account, &more)?, password).await?;
    let first = world.run("").await?;
    ensure!(first.state == "done", "{feed}: {first:?}");
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_script_through_every_feed_of_openldap() -> Result<()> {
    // FS-42, FS-44, FS-45
    let dir = tempfile::tempdir()?;
    let lines = format!("syncprov-sessionlog 10000\n{POLICY}");
    let options = SlapdOptions { access_log: true, database_lines: lines, ..SlapdOptions::default() };
    let upstream = Arc::new(Upstream::slapd(dir.path(), &options)?);
    through(&upstream, &["full", "syncrepl", "accesslog", "modify_timestamp"], 1, true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_script_through_syncrepl_that_remembers_nothing() -> Result<()> {
    // S-32: without a session log the server names who is still there
    let dir = tempfile::tempdir()?;
    let options = SlapdOptions { database_lines: POLICY.into(), ..SlapdOptions::default() };
    let upstream = Arc::new(Upstream::slapd(dir.path(), &options)?);
    through(&upstream, &["syncrepl"], 2, false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_script_through_every_feed_of_389_directory_server() -> Result<()> {
    // FS-42, FS-43, FS-45
    let dir = tempfile::tempdir()?;
    // Its ten thousand are not what is looked at here.
    let upstream = Arc::new(Upstream::ds389_without_bulk(dir.path())?);
    through(&upstream, &["full", "syncrepl", "changelog", "modify_timestamp"], 3, true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_script_through_every_feed_of_active_directory() -> Result<()> {
    // FS-40, FS-41, FS-45, S-13
    let dir = tempfile::tempdir()?;
    let upstream = Arc::new(Upstream::samba(dir.path())?);
    through(&upstream, &["full", "dirsync", OWN_VIEW, "usn_changed", "modify_timestamp"], 4, true).await
}

/// `remembers`: the server knows what was deleted.
async fn through(upstream: &Arc<Upstream>, feeds: &[&str], seed: u64, remembers: bool) -> Result<()> {
    // A log in which nothing stands yet cannot show that nothing was thrown away.
    let mut script = Script::new(upstream, seed);
    upstream.modify(&format!(
        "dn: ou=people,{}\nchangetype: modify\nreplace: description\ndescription: all\n\n{}",
        script.form.base(),
        script.first_units()
    ))?;
    let mut worlds = Vec::new();
    for feed in feeds {
        worlds.push((*feed, world(upstream, feed).await?));
    }
    let mut refused = 0;
    for part in 0..EDITS / AT_ONCE {
        let ldif: String = (0..AT_ONCE).map(|_| script.edit()).collect();
        refused += upstream.modify_what_it_takes(&ldif).with_context(|| format!("edits of part {part}:\n{ldif}"))?;
        for (feed, world) in &worlds {
            let full = *feed == "full";
            // Reading everything each time would prove no more.
            if full && part % 10 != 9 {
                continue;
            }
            let before = world.run_ids().await?;
            let run = world.run(if full { "" } else { "incremental" }).await?;
            if run.state == "incomplete" && run.error.contains("read again") {
                // A log in which nothing older stands cannot show that nothing was thrown away: once, at its beginning (S-38).
                ensure!(*feed == "accesslog" && part == 0, "{feed}, part {part}: {run:?}");
                world.ended(&before, |run| run.mode == "full").await?;
                continue;
            }
            ensure!(run.state == "done", "{feed}, part {part}: {run:?}");
            // Who is not named by a server that names everybody is looked for once more (S-43).
            let second_look = run.mode == "full" && run.why.contains("looked for once more") && !remembers;
            ensure!(
                full || second_look || run.mode == "incremental" && run.feed == kind(feed),
                "{feed}, part {part}: {run:?}"
            );
            if !full && !remembers && !second_look {
                let second = world.run("incremental").await?;
                ensure!(second.state == "done", "{feed}, part {part}: {second:?}");
            }
        }
        // Feeds that tell of everything are right at once.
        if part % 10 == 9 {
            for (feed, world) in worlds.iter().filter(|(feed, _)| *feed != "full") {
                agrees(feed, world, &format!("{feed} after part {part}")).await?;
            }
        }
    }
    taken(EDITS, refused)?;
    for (feed, world) in &worlds {
        if !tells_everything(feed) {
            if *feed != "full" {
                agrees(feed, world, &format!("{feed} before everything is read")).await?;
            }
            // S-43: who is not there in two sweeps is gone.
            world.run("").await?;
            world.run("").await?;
        }
        world.agrees(&format!("{feed} at the end")).await?;
        let people = upstream.people(&world.base)?;
        ensure!(people.len() >= script.people.len(), "the server took what the script meant: {}", people.len());
    }
    upstream.modify(&script.made_again())?;
    for (feed, world) in &worlds {
        // Who had the name leaves, twice missed where nothing tells of it; the next run adds who has it now (FS-14).
        let mode = if tells_everything(feed) && remembers { "incremental" } else { "" };
        for _ in 0..3 {
            world.run(mode).await?;
        }
        world.agrees_within(&format!("{feed}, names made again"), Duration::from_secs(30)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_script_as_openldap_tells_of_it() -> Result<()> {
    // FS-42, S-34
    let dir = tempfile::tempdir()?;
    let lines = format!("syncprov-sessionlog 10000\n{POLICY}");
    let options = SlapdOptions { database_lines: lines, ..SlapdOptions::default() };
    as_it_is_told(&Arc::new(Upstream::slapd(dir.path(), &options)?), 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_script_as_389_directory_server_tells_of_it() -> Result<()> {
    // FS-42, S-34
    let dir = tempfile::tempdir()?;
    as_it_is_told(&Arc::new(Upstream::ds389_without_bulk(dir.path())?), 6).await
}

/// The script goes on while the store listens; nobody asks for a run. As much of it as fits into a minute, and half of
/// it at least.
async fn as_it_is_told(upstream: &Arc<Upstream>, seed: u64) -> Result<()> {
    const LONG: Duration = Duration::from_secs(60);
    let mut script = Script::new(upstream, seed);
    let (told, read) = (world(upstream, "syncrepl").await?, world(upstream, "full").await?);
    told.apply(&listening(upstream)?).await?;
    let (begun, mut edits, mut refused) = (Instant::now(), 0, 0);
    while edits < EDITS && (edits < TOLD_MIN || begun.elapsed() < LONG) {
        let ldif: String = (0..AT_ONCE).map(|_| script.edit()).collect();
        refused += upstream.modify_what_it_takes(&ldif).with_context(|| format!("after {edits} edits:\n{ldif}"))?;
        edits += AT_ONCE;
        if edits % (10 * AT_ONCE) == 0 {
            told.agrees_within(&format!("after {edits} edits"), LONG).await?;
        }
    }
    let late = told.agrees_within(&format!("after all {edits} edits"), LONG).await?;
    eprintln!("{edits} edits in {:?}, {late:?} of it after the last one", begun.elapsed());
    taken(edits, refused)?;
    // Who is not there in two sweeps is gone (S-43).
    for _ in 0..2 {
        let run = read.run("").await?;
        ensure!(run.state == "done", "{run:?}");
    }
    read.agrees("everything read").await?;
    let enabled = |mut people: People| {
        people.retain(|_, person| person.enabled);
        people
    };
    ensure!(enabled(told.people().await?) == enabled(read.people().await?), "the same store");
    let runs = told.status().await?.runs;
    let heard = |run: &SyncRun| run.trigger == "request" || run.trigger == "follow" && run.state == "done";
    ensure!(runs.iter().all(heard) && runs.iter().any(|run| run.trigger == "follow"), "{runs:#?}");
    Ok(())
}

/// A script that the server refuses would show nothing.
fn taken(edits: usize, refused: usize) -> Result<()> {
    eprintln!("{refused} of {edits} edits were refused");
    ensure!(refused * 10 < edits, "{refused} of {edits} edits were refused");
    Ok(())
}

/// Runs by what is told alone.
fn listening(upstream: &Upstream) -> Result<String> {
    let document = document(upstream, upstream.query()[0], "feed = \"syncrepl\"")?;
    Ok(document.replace("[sync]\n", "[sync]\nenabled = true\ninterval_minutes = 1440\n"))
}

/// Of everybody who is there; and, by what tells of it, of everybody who is not.
async fn agrees(feed: &str, world: &World, step: &str) -> Result<()> {
    match tells_everything(feed) {
        true => world.agrees(step).await,
        false => world.agrees_about_those_there(step).await,
    }
}

/// The others learn of deletions by reading everything, now and then (S-39, S-43).
fn tells_everything(feed: &str) -> bool {
    !matches!(feed, "full" | "modify_timestamp" | OWN_VIEW)
}

/// What people and groups look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// RFC 2798 and RFC 4519.
    Internet,
    ActiveDirectory,
}

impl Form {
    fn of(upstream: &Upstream) -> Self {
        match upstream {
            Upstream::Samba(_) => Self::ActiveDirectory,
            Upstream::Slapd(_) | Upstream::Ds389(_) => Self::Internet,
        }
    }

    fn base(self) -> &'static str {
        match self {
            Self::Internet => COMPANY_BASE,
            Self::ActiveDirectory => Samba::BASE,
        }
    }

    /// What people are named by in their DN.
    fn rdn(self) -> &'static str {
        match self {
            Self::Internet => "uid",
            Self::ActiveDirectory => "cn",
        }
    }

    /// LDIF, which more attributes may follow.
    fn person(self, uid: &str, dn: &str) -> String {
        match self {
            Self::Internet => {
                format!("dn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: {uid}\n")
            }
            // An account that needs no password: nobody signs in here.
            Self::ActiveDirectory => format!(
                "dn: {dn}\nchangetype: add\nobjectClass: user\nsAMAccountName: {uid}\nsn: {uid}\nuserAccountControl: 544\n"
            ),
        }
    }

    fn group(self, name: &str, dn: &str, member: &str) -> String {
        let class = match self {
            Self::Internet => format!("objectClass: groupOfNames\ncn: {name}\n"),
            Self::ActiveDirectory => format!("objectClass: group\nsAMAccountName: {name}\n"),
        };
        format!("dn: {dn}\nchangetype: add\n{class}member: {member}\n")
    }
}

/// Makes edits that a server takes, one after the other, from a seed.
struct Script {
    form: Form,
    random: u64,
    next: usize,
    /// By uid: the unit.
    people: BTreeMap<String, String>,
    /// Who was deleted.
    gone: BTreeSet<String>,
    /// What switches an account off, and its values for off and on.
    switch: [&'static str; 3],
    units: BTreeSet<String>,
    /// By name: members, as DNs.
    groups: BTreeMap<String, BTreeSet<String>>,
}

impl Script {
    fn new(upstream: &Upstream, seed: u64) -> Self {
        let form = Form::of(upstream);
        let units = ["sales", "engineering", "support"].map(|unit| format!("ou={unit},ou=people,{}", form.base()));
        let switch = match upstream {
            Upstream::Samba(_) => ["userAccountControl", "546", "544"],
            Upstream::Slapd(_) => ["pwdAccountLockedTime", "000001010000Z", ""],
            Upstream::Ds389(_) => ["nsAccountLock", "true", ""],
        };
        let (people, gone, groups) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { form, random: seed, next: 0, people, gone, switch, units: units.into(), groups }
    }

    /// The units that there are to begin with: the sample company has them.
    fn first_units(&self) -> String {
        let unit = |dn: &String| format!("dn: {dn}\nchangetype: add\nobjectClass: organizationalUnit\n\n");
        match self.form {
            Form::Internet => String::new(),
            Form::ActiveDirectory => self.units.iter().map(unit).collect(),
        }
    }

    /// A number below `bound` (Knuth's MMIX generator).
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap_or(0) % bound.max(1)
    }

    fn fresh(&mut self, what: &str) -> String {
        self.next += 1;
        format!("{what}{}", self.next)
    }

    fn some_unit(&mut self) -> String {
        let place = self.below(self.units.len());
        self.units.iter().nth(place).cloned().expect("there are units")
    }

    fn somebody(&mut self) -> Option<(String, String)> {
        let place = self.below(self.people.len());
        self.people.iter().nth(place).map(|(uid, unit)| (uid.clone(), unit.clone()))
    }

    fn some_group(&mut self) -> Option<String> {
        let place = self.below(self.groups.len());
        self.groups.keys().nth(place).cloned()
    }

    fn edit(&mut self) -> String {
        loop {
            let kind = self.below(100);
            if let Some(ldif) = self.of_kind(kind) {
                return ldif + "\n";
            }
        }
    }

    /// Names of people who were deleted, and of some who are deleted now, are those of others.
    fn made_again(&mut self) -> String {
        let rdn = self.form.rdn();
        let mut names: Vec<String> = self.gone.iter().take(20).cloned().collect();
        let mut ldif = String::new();
        for (uid, unit) in self.people.iter().take(5) {
            ldif += &format!("dn: {rdn}={uid},{unit}\nchangetype: delete\n\n");
            names.push(uid.clone());
        }
        for uid in names {
            let unit = self.some_unit();
            ldif += &(self.form.person(&uid, &format!("{rdn}={uid},{unit}")) + "\n");
        }
        ldif
    }

    fn of_kind(&mut self, kind: usize) -> Option<String> {
        let (form, rdn, base) = (self.form, self.form.rdn(), self.form.base());
        let group_dn = |name: &str| format!("cn={name},ou=groups,{base}");
        match kind {
            0..25 => {
                let (uid, unit) = (self.fresh("p"), self.some_unit());
                let mut ldif = form.person(&uid, &format!("{rdn}={uid},{unit}"));
                if self.below(2) == 0 {
                    writeln!(ldif, "mobile: +49 151 {}", 10_000 + self.next).ok()?;
                }
                self.people.insert(uid, unit);
                Some(ldif)
            }
            25..50 => {
                let (uid, unit) = self.somebody()?;
                let (attribute, value) = match self.below(7) {
                    0 => ("mobile", format!("+49 30 {}", 100_000 + self.below(900_000))),
                    1 => ("sn", format!("Name {}", self.below(1_000))),
                    2 => ("mail", format!("{uid}.{}@acme.example", self.below(1_000))),
                    3 => ("pager", format!("+49 40 {}", 100_000 + self.below(900_000))),
                    4 => ("l", format!("Place {}", self.below(10))),
                    5 => ("title", ["de", "fr", "en-GB"][self.below(3)].to_owned()),
                    _ => ("givenName", format!("Given {}", self.below(1_000))),
                };
                Some(format!(
                    "dn: {rdn}={uid},{unit}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n"
                ))
            }
            50..54 => {
                let ((uid, unit), lost) = (self.somebody()?, ["mobile", "pager", "l", "title"][self.below(4)]);
                Some(format!("dn: {rdn}={uid},{unit}\nchangetype: modify\nreplace: {lost}\n"))
            }
            54..57 => {
                let ((uid, unit), [attribute, off, on]) = (self.somebody()?, self.switch);
                let value = if self.below(2) == 0 { off } else { on };
                let value = if value.is_empty() { String::new() } else { format!("{attribute}: {value}\n") };
                Some(format!("dn: {rdn}={uid},{unit}\nchangetype: modify\nreplace: {attribute}\n{value}"))
            }
            57..67 => {
                let (uid, unit) = self.somebody()?;
                self.people.remove(&uid);
                self.gone.insert(uid.clone());
                Some(format!("dn: {rdn}={uid},{unit}\nchangetype: delete\n"))
            }
            67..73 => {
                let ((uid, unit), new) = (self.somebody()?, self.fresh("r"));
                self.people.remove(&uid);
                self.people.insert(new.clone(), unit.clone());
                Some(format!("dn: {rdn}={uid},{unit}\nchangetype: modrdn\nnewrdn: {rdn}={new}\ndeleteoldrdn: 1\n"))
            }
            73..79 => {
                let ((uid, unit), to) = (self.somebody()?, self.some_unit());
                if unit == to {
                    return None;
                }
                self.people.insert(uid.clone(), to.clone());
                Some(format!(
                    "dn: {rdn}={uid},{unit}\nchangetype: modrdn\nnewrdn: {rdn}={uid}\ndeleteoldrdn: 1\nnewsuperior: {to}\n"
                ))
            }
            79..82 => {
                let (uid, unit) = self.somebody()?;
                let name = self.fresh("g");
                self.groups.insert(name.clone(), BTreeSet::from([format!("{rdn}={uid},{unit}")]));
                Some(form.group(&name, &group_dn(&name), &format!("{rdn}={uid},{unit}")))
            }
            82..91 => {
                let (name, (uid, unit)) = (self.some_group()?, self.somebody()?);
                let member = match self.below(4) {
                    // A group in a group; perhaps in a circle.
                    0 => group_dn(&self.some_group()?),
                    _ => format!("{rdn}={uid},{unit}"),
                };
                if !self.groups.get_mut(&name)?.insert(member.clone()) {
                    return None;
                }
                Some(format!("dn: {}\nchangetype: modify\nadd: member\nmember: {member}\n", group_dn(&name)))
            }
            91..96 => {
                let name = self.some_group()?;
                let members = self.groups.get_mut(&name)?;
                if members.len() < 2 {
                    return None;
                }
                let member = members.pop_first()?;
                Some(format!("dn: {}\nchangetype: modify\ndelete: member\nmember: {member}\n", group_dn(&name)))
            }
            96..98 => {
                let name = self.some_group()?;
                self.groups.remove(&name);
                Some(format!("dn: {}\nchangetype: delete\n", group_dn(&name)))
            }
            98 => {
                let name = self.fresh("unit");
                let unit = format!("ou={name},ou=people,{base}");
                self.units.insert(unit.clone());
                Some(format!("dn: {unit}\nchangetype: add\nobjectClass: organizationalUnit\nou: {name}\n"))
            }
            // A unit of ours with all in it gets another name.
            _ => {
                let units: Vec<String> =
                    self.units.iter().filter(|unit| unit.starts_with("ou=unit")).cloned().collect();
                let old = units.get(self.below(units.len()))?.clone();
                let name = self.fresh("unit");
                let new = format!("ou={name},ou=people,{base}");
                self.units.remove(&old);
                self.units.insert(new.clone());
                for unit in self.people.values_mut().filter(|unit| **unit == old) {
                    unit.clone_from(&new);
                }
                Some(format!("dn: {old}\nchangetype: modrdn\nnewrdn: ou={name}\ndeleteoldrdn: 1\n"))
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_in_the_store_within_two_seconds_where_the_directory_tells_of_them() -> Result<()> {
    // FS-42, S-34
    let dir = tempfile::tempdir()?;
    let upstream = Arc::new(Upstream::slapd(dir.path(), &SlapdOptions::default())?);
    let world = world(&upstream, "syncrepl").await?;
    world.apply(&listening(&upstream)?).await?;
    // Once something comes by itself, it listens.
    world.upstream.modify(&format!("dn: uid=ben.hale,ou=sales,ou=people,{COMPANY_BASE}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 901821\n"))?;
    world.agrees_within("followed", Duration::from_secs(30)).await?;
    for (step, ldif) in [
        (
            "changed",
            format!(
                "dn: uid=ann.archer,ou=engineering,ou=people,{COMPANY_BASE}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 901820\n"
            ),
        ),
        (
            "added",
            format!(
                "dn: uid=nina,ou=sales,ou=people,{COMPANY_BASE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: nina\ncn: Nina\nsn: New\n"
            ),
        ),
        (
            "renamed",
            format!(
                "dn: uid=nina,ou=sales,ou=people,{COMPANY_BASE}\nchangetype: modrdn\nnewrdn: uid=nora\ndeleteoldrdn: 1\n"
            ),
        ),
        ("deleted", format!("dn: uid=nora,ou=sales,ou=people,{COMPANY_BASE}\nchangetype: delete\n")),
    ] {
        world.upstream.modify(&ldif)?;
        let took = world.agrees_within(step, Duration::from_secs(2)).await?;
        eprintln!("{step}: in the store after {took:?}, comparing included");
    }
    let runs = world.status().await?.runs;
    let followed = runs.iter().filter(|run| run.trigger == "follow");
    let told: u32 = followed.map(|run| run.added + run.changed + run.disabled).sum();
    ensure!(told >= 4, "each of them: {runs:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_of_a_store_goes_on_where_its_own_position_is() -> Result<()> {
    // S-02: the position is as old as the data
    let dir = tempfile::tempdir()?;
    let lines = "syncprov-sessionlog 10000".to_owned();
    let options = SlapdOptions { access_log: true, database_lines: lines, ..SlapdOptions::default() };
    let upstream = Arc::new(Upstream::slapd(dir.path(), &options)?);
    backups_go_on(&upstream, &["syncrepl", "accesslog", "modify_timestamp"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_of_a_store_goes_on_at_389_directory_server() -> Result<()> {
    // S-02
    let dir = tempfile::tempdir()?;
    let upstream = Arc::new(Upstream::ds389_without_bulk(dir.path())?);
    // A log in which nothing stands yet cannot show that nothing was thrown away.
    upstream.modify(&edits_in(Form::Internet, 100))?;
    backups_go_on(&upstream, &["changelog", "modify_timestamp"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_of_a_store_goes_on_at_active_directory() -> Result<()> {
    // S-02
    let dir = tempfile::tempdir()?;
    backups_go_on(&Arc::new(Upstream::samba(dir.path())?), &["dirsync", "modify_timestamp"]).await
}

/// Yesterday's store, one after the other by each of the feeds, hears of all that happened since.
async fn backups_go_on(upstream: &Arc<Upstream>, feeds: &[&str]) -> Result<()> {
    let form = Form::of(upstream);
    for (place, feed) in feeds.iter().enumerate() {
        let world = world(upstream, feed).await?;
        let edits = |number: usize| upstream.modify(&edits_in(form, place * 4 + number));
        edits(0)?;
        world.run("incremental").await?;
        agrees(feed, &world, &format!("{feed}, before the backup")).await?;
        let backup = tempfile::tempdir()?;
        for file in std::fs::read_dir(world.dir())? {
            // Nobody writes: what is in the log beside the database belongs to it.
            let file = file?.path();
            std::fs::copy(&file, backup.path().join(file.file_name().context("a name")?))?;
        }
        for number in 1..4 {
            edits(number)?;
            world.run("incremental").await?;
        }
        agrees(feed, &world, &format!("{feed}, after it")).await?;
        let base = world.base.clone();
        drop(world);
        let restored = World::new(backup, Arc::clone(upstream), &base, "").await?;
        ensure!(restored.difference().await?.is_some(), "{feed}: the backup is of before");
        let run = restored.run("incremental").await?;
        ensure!(
            (run.state.as_str(), run.mode.as_str(), run.feed.as_str()) == ("done", "incremental", *feed),
            "{run:?}"
        );
        agrees(feed, &restored, &format!("{feed}, restored")).await?;
        if !tells_everything(feed) {
            // S-43: who is not there in two sweeps is gone.
            restored.run("").await?;
            restored.run("").await?;
            restored.agrees(&format!("{feed}, restored, and everything read")).await?;
        }
    }
    Ok(())
}

/// Somebody comes, somebody changes, and who came the last time goes.
fn three_edits(number: usize) -> String {
    edits_in(Form::Internet, number)
}

fn edits_in(form: Form, number: usize) -> String {
    let (place, changed) = match form {
        Form::Internet => (format!("ou=sales,ou=people,{COMPANY_BASE}"), "ben.hale"),
        Form::ActiveDirectory => (Samba::PEOPLE_DN.to_owned(), "ben.baker"),
    };
    let dn = |uid: &str| format!("{}={uid},{place}", form.rdn());
    let somebody = format!("cut{number}");
    let mut ldif = form.person(&somebody, &dn(&somebody));
    let _ =
        writeln!(ldif, "\ndn: {}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 9018{number:02}\n", dn(changed));
    if let Some(before) = number.checked_sub(1).filter(|_| number < 100) {
        let _ = writeln!(ldif, "dn: {}\nchangetype: delete\n", dn(&format!("cut{before}")));
    }
    ldif
}

/// Changes of what nobody reads, after which the overlap of a changelog does not reach what was before.
fn ten_more(form: Form, number: usize) -> String {
    let dn = format!("ou=people,{}", form.base());
    let change = |it| format!("dn: {dn}\nchangetype: modify\nreplace: description\ndescription: {number}-{it}\n\n");
    (0..10).map(change).collect()
}

/// A store whose directory's every message may be the last one.
async fn cut_world(upstream: &Arc<Upstream>, feed: &str, sync: &str) -> Result<(Cutter, World)> {
    let cutter = Cutter::before(in_clear_text(upstream)?).await?;
    let (base, [_, password]) = reading(upstream, feed);
    let world = World::new(tempfile::tempdir()?, Arc::clone(upstream), base, "").await?;
    world.apply_with(&cut_document(upstream, feed, &cutter, sync)?, password).await?;
    let first = world.run("").await?;
    ensure!(first.state == "done", "{first:?}");
    Ok((cutter, world))
}

fn cut_document(upstream: &Upstream, feed: &str, cutter: &Cutter, sync: &str) -> Result<String> {
    let (_, [account, _]) = reading(upstream, feed);
    let clear = format!("feed = \"{feed}\"\ndanger_clear_text = true\nconnect_timeout_seconds = 1");
    let section = upstream.section_at(&[&cutter.url()], account, &clear)?;
    let section = section.replace("kind = \"tls\"", "kind = \"simple\"");
    Ok(format!(
        "[sync]\napproval_over_users = 999\napproval_over_percent = 0\n{sync}\n{section}\
         [[sync_item]]\nname = \"all\"\ndirectory = \"corp\"\nsource = {}\n",
        source(upstream)
    ))
}

fn in_clear_text(upstream: &Upstream) -> Result<SocketAddr> {
    Ok(match upstream {
        Upstream::Slapd(slapd) => ([127, 0, 0, 1], slapd.ldap_port()).into(),
        Upstream::Ds389(ds389) => ds389.ldap_url().trim_start_matches("ldap://").parse()?,
        Upstream::Samba(samba) => (samba.address(), 389).into(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_of_a_real_server_that_is_cut_at_any_message_loses_nothing_and_deletes_nobody() -> Result<()> {
    // S-30, S-32: the server names who was deleted
    let dir = tempfile::tempdir()?;
    let options = SlapdOptions { database_lines: "syncprov-sessionlog 10000".to_owned(), ..SlapdOptions::default() };
    let (cutter, world) = cut_world(&Arc::new(Upstream::slapd(dir.path(), &options)?), "syncrepl", "").await?;
    cut_at_any_place(&cutter, &world, "syncrepl", false).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_present_phase_that_is_cut_at_any_message_and_between_its_sets_deletes_nobody_who_is_there() -> Result<()> {
    // S-30, S-32: without a session log the server names who is still there, 256 at a time
    let dir = tempfile::tempdir()?;
    let options = SlapdOptions { bulk_people: 300, ..SlapdOptions::default() };
    let (cutter, world) = cut_world(&Arc::new(Upstream::slapd(dir.path(), &options)?), "syncrepl", "").await?;
    let cuts = cut_at_any_place(&cutter, &world, "syncrepl", true).await?;
    around_sets(&cuts)
}

/// Before the sets of ids, between two of them, and after.
fn around_sets(cuts: &BTreeSet<[Said; 2]>) -> Result<()> {
    let is_set = |said: Said| said == Said::IdSet;
    for expected in [[false, true], [true, true], [true, false]] {
        ensure!(cuts.iter().any(|cut| cut.map(is_set) == expected), "{expected:?}: {cuts:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_the_access_log_that_is_cut_at_any_message_loses_nothing_and_deletes_nobody() -> Result<()> {
    // S-38, T-40
    let dir = tempfile::tempdir()?;
    let options = SlapdOptions { access_log: true, ..SlapdOptions::default() };
    cut_feed(Upstream::slapd(dir.path(), &options)?, "accesslog").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_by_the_time_of_change_that_is_cut_at_any_message_loses_nothing_and_deletes_nobody() -> Result<()> {
    // S-39, T-40
    let dir = tempfile::tempdir()?;
    cut_feed(Upstream::slapd(dir.path(), &SlapdOptions::default())?, "modify_timestamp").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_the_retro_changelog_that_is_cut_at_any_message_loses_nothing_and_deletes_nobody() -> Result<()> {
    // S-37, T-40
    let dir = tempfile::tempdir()?;
    cut_feed(Upstream::ds389_without_bulk(dir.path())?, "changelog").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_by_dirsync_that_is_cut_at_any_message_loses_nothing_and_deletes_nobody() -> Result<()> {
    // S-11, T-40
    let dir = tempfile::tempdir()?;
    cut_feed(samba_in_clear_text(dir.path())?, "dirsync").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_by_usn_changed_that_is_cut_at_any_message_loses_nothing_and_deletes_nobody() -> Result<()> {
    // S-25, T-40
    let dir = tempfile::tempdir()?;
    cut_feed(samba_in_clear_text(dir.path())?, "usn_changed").await
}

fn samba_in_clear_text(dir: &Path) -> Result<Upstream> {
    let mut upstream = Upstream::samba(dir)?;
    if let Upstream::Samba(samba) = &mut upstream {
        samba.restart_with(&["--option=ldap server require strong auth=no"])?;
    }
    Ok(upstream)
}

async fn cut_feed(upstream: Upstream, feed: &str) -> Result<()> {
    // A log in which nothing stands yet cannot show that nothing was thrown away.
    upstream.modify(&edits_in(Form::of(&upstream), 100))?;
    let (cutter, world) = cut_world(&Arc::new(upstream), feed, "").await?;
    let cuts = cut_at_any_place(&cutter, &world, feed, false).await?;
    for expected in [[Said::Entry, Said::Entry], [Said::Entry, Said::End]] {
        ensure!(cuts.contains(&expected), "{expected:?}: {cuts:?}");
    }
    if !tells_everything(feed) {
        // S-43: who is not there in two sweeps is gone.
        world.run("").await?;
        world.run("").await?;
    }
    world.agrees(&format!("{feed}, in the end")).await
}

/// One run after the other is cut one place later ([`Cutter::after_places`]), until one is not: in a long row of entries nothing tells
/// one message from the next. Says between what it was cut.
///
/// `names_all`: the server names who is there, and who is not named is looked for once more (S-43).
async fn cut_at_any_place(cutter: &Cutter, world: &World, feed: &str, names_all: bool) -> Result<BTreeSet<[Said; 2]>> {
    let form = Form::of(&world.upstream);
    let (mut cuts, mut deleted) = (BTreeSet::new(), gone(world).await?);
    for number in 0..100 {
        world.upstream.modify(&(edits_in(form, number) + &ten_more(form, number)))?;
        deleted.extend(number.checked_sub(1).map(|before| format!("cut{before}")));
        cutter.after_places(number);
        let run = world.run("incremental").await?;
        let cut = cutter.cut();
        cutter.never();
        let step = format!("{feed}, place {number}, between {cut:?}");
        let gone = gone(world).await?;
        ensure!(gone.is_subset(&deleted), "{step}: {:?} are gone, {run:?}", gone.difference(&deleted));
        ensure!(cut.is_some() == (run.state == "incomplete"), "{step}: {run:?}");
        if cut.is_some() {
            let again = world.run("incremental").await?;
            let went_on = again.mode == "incremental" && again.feed == feed;
            ensure!(again.state == "done" && went_on, "{step}: {again:?}");
        }
        if names_all {
            let second = world.run("incremental").await?;
            ensure!(second.state == "done", "{step}: {second:?}");
        }
        agrees(feed, world, &step).await?;
        match cut {
            Some(between) => drop(cuts.insert(between)),
            None => {
                eprintln!("{feed}: cut at {number} places, between {cuts:?}");
                ensure!(number > 5, "a run of changes takes more than {number} messages");
                return Ok(cuts);
            }
        }
    }
    bail!("{feed}: there is no end of {cuts:?}")
}

/// Whom the store takes for gone.
async fn gone(world: &World) -> Result<BTreeSet<String>> {
    let mut gone = world.users("disabled").await?;
    gone.extend(world.users("removed").await?);
    Ok(gone.into_iter().map(|user| user.username).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_deleted_while_nobody_listened_is_gone_without_a_word_and_nobody_who_is_there() -> Result<()> {
    // S-32, S-34, S-43: so many stores begin to follow a server that names who is there, and each is cut off one place later than the one
    // before, up to the beginning of the run that this is for; one is not.
    const CUTS: usize = 10;
    let dir = tempfile::tempdir()?;
    let options = SlapdOptions { bulk_people: 150, ..SlapdOptions::default() };
    let upstream = Arc::new(Upstream::slapd(dir.path(), &options)?);
    upstream.modify(&three_edits(0))?;
    let mut worlds = Vec::new();
    for places in 0..=CUTS {
        let (cutter, world) = cut_world(&upstream, "syncrepl", "").await?;
        worlds.push((places, cutter, world));
    }
    upstream.modify(&three_edits(1))?;
    for (places, cutter, world) in &worlds {
        if *places < CUTS {
            cutter.after_places(*places);
        }
        let listening = "enabled = true\ninterval_minutes = 1440\n";
        world.apply(&cut_document(&upstream, "syncrepl", cutter, listening)?).await?;
    }
    let mut cuts = Vec::new();
    for (places, cutter, world) in &worlds {
        let step = format!("{places}, told of what there was");
        until(&step, async || Ok(cutter.has_cut() || has_run(world).await?)).await?;
        cuts.extend(cutter.cut());
    }
    eprintln!("cut between {cuts:?}");
    around_sets(&cuts.iter().copied().collect())?;
    ensure!(cuts.iter().any(|[before, _]| *before == Said::Info), "after the end of it: {cuts:?}");
    for (places, cutter, world) in &worlds {
        ensure!(gone(world).await?.is_empty(), "{places}: {:?}", cutter.cut());
        cutter.never();
    }
    for (places, _, world) in &worlds {
        until(&format!("{places}, followed"), async || has_run(world).await).await?;
        ensure!(gone(world).await?.is_empty(), "{places}: on the word of one");
    }
    // A minute later it is told once more, as the connection is lost again.
    for (_, cutter, world) in &worlds {
        world.clock.advance(60_000);
        cutter.after(0);
    }
    upstream.modify(&edits_in(Form::Internet, 100))?;
    for (_, cutter, _) in &worlds {
        until_cut(cutter, 0).await?;
        cutter.never();
    }
    for (places, _, world) in &worlds {
        let step = format!("{places}, gone");
        until(&step, async || Ok(gone(world).await? == BTreeSet::from(["cut0".to_owned()]))).await?;
        world.agrees_within(&step, Duration::from_secs(60)).await?;
        let runs = world.status().await?.runs;
        let asked_for = runs.iter().filter(|run| run.trigger == "request").count();
        ensure!(asked_for == 1, "{places}: the first one alone: {runs:?}");
    }
    Ok(())
}

/// Has one ended that nobody asked for?
async fn has_run(world: &World) -> Result<bool> {
    Ok(world.status().await?.runs.iter().any(|run| run.trigger == "schedule" && run.state == "done"))
}

async fn until(step: &str, is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so().await? {
        ensure!(begun.elapsed() < Duration::from_secs(60), "{step}: not so after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_that_is_followed_and_hangs_up_at_any_message_is_followed_again() -> Result<()> {
    // S-30, S-34: so many stores follow one server, and each is cut off after more messages than the one before.
    const CUTS: usize = 24;
    // A server that remembers: by one that does not, a deletion takes a second look, a minute later.
    let dir = tempfile::tempdir()?;
    let options = SlapdOptions { database_lines: "syncprov-sessionlog 10000".to_owned(), ..SlapdOptions::default() };
    let upstream = Arc::new(Upstream::slapd(dir.path(), &options)?);
    let mut worlds = Vec::new();
    for number in 0..CUTS {
        let (cutter, world) = cut_world(&upstream, "syncrepl", "enabled = true\ninterval_minutes = 1440\n").await?;
        worlds.push((number, cutter, world));
    }
    let mut edits = (0..).map(three_edits);
    let mut edit = || upstream.modify(&edits.next().unwrap_or_default());
    let all_agree = async |step: &str| {
        for (number, _, world) in &worlds {
            world.agrees_within(&format!("{number}, {step}"), Duration::from_secs(90)).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    // Each is cut off after its number of messages, or has heard it all before that many came.
    let all_cut = async |step: &str| {
        let mut cut = 0;
        for (number, cutter, world) in &worlds {
            let begun = Instant::now();
            while !cutter.has_cut() && world.difference().await?.is_some() {
                ensure!(begun.elapsed() < Duration::from_secs(90), "{number}, {step}: not cut, not told");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            cut += usize::from(cutter.has_cut());
            cutter.never();
        }
        eprintln!("{step}: {cut} of {CUTS} were cut off");
        ensure!((5..CUTS).contains(&cut), "{step}: {cut}, so it ends at none too early and one is whole");
        Ok(())
    };
    edit()?;
    all_agree("followed").await?;
    edit()?;
    all_agree("told of as it happens").await?;
    worlds.iter().for_each(|(number, cutter, _)| cutter.after(*number));
    edit()?;
    all_cut("while it tells of changes as they happen").await?;
    all_agree("followed again").await?;
    worlds.iter().for_each(|(_, cutter, _)| cutter.after(0));
    edit()?;
    for (_, cutter, _) in &worlds {
        until_cut(cutter, 0).await?;
    }
    worlds.iter().for_each(|(number, cutter, _)| cutter.after(*number));
    all_cut("while it is asked what there was meanwhile").await?;
    all_agree("in the end").await?;
    for (number, _, world) in &worlds {
        let runs = world.status().await?.runs;
        let told = |run: &SyncRun| run.mode == "incremental" || run.trigger == "request";
        ensure!(runs.iter().all(told), "{number}: {runs:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_that_asks_for_a_refresh_is_read_whole_and_nobody_leaves() -> Result<()> {
    // S-33: slapd says 4096 where a cookie is older than everything it has, and hints are in use.
    let dir = tempfile::tempdir()?;
    let options = SlapdOptions { database_lines: "syncprov-reloadhint TRUE".into(), ..SlapdOptions::default() };
    let upstream = Arc::new(Upstream::slapd(dir.path(), &options)?);
    let world = world(&upstream, "syncrepl").await?;
    upstream.modify(&three_edits(0))?;
    let run = world.run("incremental").await?;
    ensure!(run.state == "done" && run.mode == "incremental", "{run:?}");
    world.agrees("before").await?;
    upstream.modify(&three_edits(1))?;
    world
        .edit_position(|position| {
            let old = b"rid=000,csn=20000101000000.000000Z#000000#000#000000";
            position["cookie"] = BASE64.encode(old).into();
        })
        .await?;
    let before = world.run_ids().await?;
    let refused = world.run("incremental").await?;
    ensure!(
        refused.state == "incomplete" && refused.error.contains("read again: the server asks for it"),
        "{refused:?}"
    );
    let whole = world.ended(&before, |run| run.mode == "full").await?;
    ensure!(whole.state == "done" && whole.why.contains("the server asks for it"), "{whole:?}");
    ensure!((whole.added, whole.disabled, whole.removed) == (1, 0, 0), "{whole:?}");
    world.run("incremental").await?;
    world.agrees("after the second look").await?;
    upstream.modify(&three_edits(2))?;
    let next = world.run("incremental").await?;
    ensure!(next.state == "done" && next.mode == "incremental", "{next:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_that_is_followed_and_asks_for_a_refresh_is_read_whole_and_nobody_leaves() -> Result<()> {
    // S-33, S-34: it was loaded anew, so that where the store has stopped is older than everything it has.
    let dir = tempfile::tempdir()?;
    let options = SlapdOptions { database_lines: "syncprov-reloadhint TRUE".into(), ..SlapdOptions::default() };
    let upstream = Arc::new(Upstream::slapd(dir.path(), &options)?);
    let mut world = world(&upstream, "syncrepl").await?;
    world.apply(&listening(&upstream)?).await?;
    drop(upstream);
    world.upstream.modify(&three_edits(0))?;
    world.agrees_within("followed", Duration::from_secs(30)).await?;
    let (before, gone) = (world.run_ids().await?, world.users("disabled").await?.len());
    match Arc::get_mut(&mut world.upstream).context("nobody else asks it")? {
        Upstream::Slapd(slapd) => slapd.load_anew()?,
        Upstream::Samba(_) | Upstream::Ds389(_) => unreachable!("made above"),
    }
    world.upstream.modify(&three_edits(1))?;
    // The interval is a day: nothing but what was told lets a run begin by the schedule.
    let refused = world.ended(&before, |run| run.trigger == "schedule" && run.mode == "incremental").await?;
    ensure!(
        refused.state == "incomplete" && refused.error.contains("read again: the server asks for it"),
        "{refused:?}"
    );
    let whole = world.ended(&before, |run| run.mode == "full").await?;
    ensure!(whole.state == "done" && whole.why.contains("the server asks for it"), "{whole:?}");
    ensure!((whole.added, whole.disabled, whole.removed) == (1, 0, 0), "{whole:?}");
    ensure!(world.users("disabled").await?.len() == gone, "nobody has left");
    // It is followed again, by what it has given since.
    world.upstream.modify(&three_edits(2))?;
    until_agreed(&world, "followed again").await?;
    for _ in 0..2 {
        world.run("").await?;
    }
    world.agrees("after the second look").await
}

/// About those who are there, as soon as it is so.
async fn until_agreed(world: &World, step: &str) -> Result<()> {
    let begun = Instant::now();
    while let Err(difference) = world.agrees_about_those_there(step).await {
        let runs = world.status().await?.runs;
        ensure!(begun.elapsed() < Duration::from_secs(90), "{difference:#}\nlast runs: {runs:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn until_cut(cutter: &Cutter, messages: usize) -> Result<()> {
    until(&format!("{messages} messages and one more are sent"), async || Ok(cutter.has_cut())).await
}
