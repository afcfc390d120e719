//! One directory on two OpenLDAP servers: one that goes away while it is read, and two that both take changes.

mod synced;

use anyhow::{Result, ensure};
use lab::{COMPANY_BASE, Pki, Slapd, SlapdOptions};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use synced::cutter::Cutter;
use synced::{Upstream, World};

const GROUP: &str = "cn=crew,ou=groups,dc=acme,dc=example";
/// Of the people in the group, those whose name is another one at the second server: few enough to leave unasked.
const RENAMED: u32 = 3;
const CREW: u32 = 10;

fn dn(name: &str) -> String {
    format!("uid={name},ou=bulk,ou=people,{COMPANY_BASE}")
}

fn bulk(number: u32) -> String {
    format!("bulk{number:05}")
}

/// The second server is ahead: some of the crew have other names there, and the group says so.
fn ahead(dir: &Path) -> Result<[Slapd; 2]> {
    let pki = Pki::new(&dir.join("tls"))?;
    let options = SlapdOptions { bulk_people: 40, ..SlapdOptions::default() };
    let first = Slapd::start(&dir.join("first"), &pki, &options)?;
    let mut crew = format!("dn: {GROUP}\nchangetype: add\nobjectClass: groupOfNames\ncn: crew\n");
    for number in 1..=CREW {
        writeln!(crew, "member: {}", dn(&bulk(number)))?;
    }
    first.modify(&crew)?;
    let second = Slapd::start(&dir.join("second"), &pki, &SlapdOptions { content: Some(first.dump()?), ..options })?;
    let mut ldif = String::new();
    for number in 1..=RENAMED {
        let (before, after) = (dn(&bulk(number)), dn(&format!("new{number}")));
        write!(ldif, "dn: {before}\nchangetype: modrdn\nnewrdn: uid=new{number}\ndeleteoldrdn: 1\n\n")?;
        write!(
            ldif,
            "dn: {GROUP}\nchangetype: modify\nadd: member\nmember: {after}\n-\ndelete: member\nmember: {before}\n\n"
        )?;
    }
    second.modify(&ldif)?;
    Ok([first, second])
}

/// A store whose directory hangs up after so many answers of the first server, and answers from the second one.
async fn crew(first: &Arc<Upstream>, cutter: &Cutter, second: &Slapd) -> Result<World> {
    let clear = "danger_clear_text = true\nconnect_timeout_seconds = 1";
    let section = first.section_at(&[&cutter.url(), &second.ldap_url()], first.query()[0], clear)?;
    let section = section.replace("kind = \"tls\"", "kind = \"simple\"");
    let document = format!(
        "[sync]\nalways_full = true\napproval_over_users = 999\napproval_over_percent = 0\n\n{section}\
         [[sync_item]]\nname = \"crew\"\ndirectory = \"corp\"\nsource = {{ kind = \"group\", dn = \"{GROUP}\" }}\n"
    );
    let world = World::new(tempfile::tempdir()?, Arc::clone(first), COMPANY_BASE, &document).await?;
    let run = world.run("").await?;
    ensure!(run.state == "done" && run.added == CREW, "{run:?}");
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_run_is_of_one_server_and_two_halves_are_no_evidence() -> Result<()> {
    // S-41, S-43: without a position, as of a directory that tells of no changes
    let dir = tempfile::tempdir()?;
    let [first, second] = ahead(dir.path())?;
    let port = first.ldap_port();
    let first = Arc::new(Upstream::Slapd(first));
    let mut halves = 0;
    // The source, the base, containers, groups, users, who is missing, the source once more: each is a search or some.
    for answers in 0.. {
        let cutter = Cutter::before(([127, 0, 0, 1], port).into()).await?;
        let world = crew(&first, &cutter, &second).await?;
        cutter.after_answers(answers);
        let run = world.run("").await?;
        let gone = world.users("disabled").await?.len() + world.users("removed").await?.len();
        ensure!(gone == 0, "after {answers} answers {gone} are gone: {run:?}");
        ensure!(["done", "incomplete"].contains(&run.state.as_str()), "after {answers} answers: {run:?}");
        halves += u32::from(run.error.contains("answered instead of"));
        if !cutter.has_cut() {
            break;
        }
        // Where one of them is read to its end, it is so.
        cutter.after_answers(0);
        let again = world.run("").await?;
        ensure!((again.state.as_str(), again.disabled) == ("done", 0), "after {answers} answers: {again:?}");
        ensure!(world.users("enabled").await?.iter().any(|user| user.username == "new1"), "of the second server");
    }
    ensure!(halves >= 3, "groups of one and users of the other were among {halves}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_are_made_at_two_servers_are_all_heard_of() -> Result<()> {
    // S-30, S-34, FS-42, FS-44: a change sequence number of each server in one cookie
    let dir = tempfile::tempdir()?;
    let options = SlapdOptions { database_lines: "syncprov-sessionlog 10000".into(), ..SlapdOptions::default() };
    let pair = Slapd::start_pair(dir.path(), &Pki::new(&dir.path().join("tls"))?, &options)?;
    // Each has written something, so each is in the context.
    for (server, slapd) in pair.iter().enumerate() {
        slapd.modify(&person(&format!("first{server}")))?;
        everywhere(&pair, &format!("first{server}"), 1)?;
    }
    let csns = pair[0].context_csns()?;
    ensure!(
        csns.len() == 2 && csns.iter().any(|csn| csn.contains("#001#")) && csns.iter().any(|csn| csn.contains("#002#")),
        "{csns:?}"
    );
    let [first, second] = pair;
    let upstream = Arc::new(Upstream::Slapd(first));
    let Upstream::Slapd(first) = upstream.as_ref() else { unreachable!("made above") };
    let section = upstream.section(upstream.query()[0], "feed = \"syncrepl\"")?;
    let document =
        format!("{section}[[sync_item]]\nname = \"all\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\n");
    let world = World::new(tempfile::tempdir()?, Arc::clone(&upstream), COMPANY_BASE, &document).await?;
    let run = world.run("").await?;
    ensure!(run.state == "done", "{run:?}");
    for round in 0_u32..5 {
        let [mine, theirs] = [format!("mine{round}"), format!("theirs{round}")];
        // By turns, so that the older number is now of the one, now of the other.
        let order =
            if round % 2 == 0 { [(first, &mine), (&second, &theirs)] } else { [(&second, &theirs), (first, &mine)] };
        for (server, name) in order {
            server.modify(&person(name))?;
        }
        if let Some(before) = round.checked_sub(1) {
            second.modify(&format!("dn: {}\nchangetype: delete\n", of_sales(&format!("mine{before}"))))?;
            let other = of_sales(&format!("theirs{before}"));
            first.modify(&format!("dn: {other}\nchangetype: modify\nreplace: mobile\nmobile: +49 30 901820\n"))?;
        }
        until(|| Ok(first.context_csns()? == second.context_csns()?))?;
        let run = world.run("incremental").await?;
        ensure!(run.mode == "incremental" && run.feed == "syncrepl" && run.state == "done", "{round}: {run:?}");
        world.agrees(&format!("round {round}")).await?;
        let quiet = world.run("incremental").await?;
        ensure!(quiet.mode == "incremental" && quiet.changed + quiet.added == 0, "{round}: {quiet:?}");
    }
    Ok(())
}

fn of_sales(name: &str) -> String {
    format!("uid={name},ou=sales,ou=people,{COMPANY_BASE}")
}

fn person(name: &str) -> String {
    let dn = of_sales(name);
    format!("dn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {name}\ncn: Person\nsn: Person\n\n")
}

fn everywhere(pair: &[Slapd; 2], name: &str, count: usize) -> Result<()> {
    until(|| Ok(pair.iter().all(|slapd| slapd.count(&format!("(uid={name})")).is_ok_and(|found| found == count))))
}

fn until(holds: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds()? {
        ensure!(Instant::now() < end, "the two servers do not come to the same");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
