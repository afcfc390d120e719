//! A domain with two controllers (Samba), which learn from each other only when a test says so: one goes away, both stand behind one
//! name, and the store becomes what the directory is all the same.

mod synced;

use anyhow::{Result, ensure};
use lab::{Pki, Samba, password_of};
use proto::user_store::SyncRun;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use synced::{Upstream, World};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The first controller is the world's; the other one knows what it knew.
async fn domain() -> Result<(World, Arc<Upstream>)> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let first = Samba::start(dir.path(), &pki)?;
    let second = Samba::join(dir.path(), &pki, &first)?;
    let world = World::new(dir, Arc::new(Upstream::Samba(first)), Samba::PEOPLE_DN, "").await?;
    Ok((world, Arc::new(Upstream::Samba(second))))
}

fn document(upstream: &Upstream, urls: &[&str], feed: &str) -> Result<String> {
    let directory = upstream.section_at(urls, Samba::ADMIN_DN, &format!("feed = \"{feed}\""))?;
    Ok(format!(
        "{directory}[[sync_item]]\nname = \"people\"\ndirectory = \"corp\"\n\
         source = {{ kind = \"container\", dn = \"{}\" }}\n",
        Samba::PEOPLE_DN
    ))
}

fn samba(upstream: &Upstream) -> &Samba {
    let Upstream::Samba(samba) = upstream else { unreachable!("made as such") };
    samba
}

/// Stops the controller of the world, and the other one is the world's.
fn switch(world: &mut World, other: &mut Arc<Upstream>) -> Result<()> {
    let Some(Upstream::Samba(samba)) = Arc::get_mut(&mut world.upstream) else { unreachable!("nobody else has it") };
    samba.stop();
    std::mem::swap(&mut world.upstream, other);
    Ok(())
}

fn restart(other: &mut Arc<Upstream>) -> Result<()> {
    let Some(Upstream::Samba(samba)) = Arc::get_mut(other) else { unreachable!("nobody else has it") };
    samba.restart()
}

/// A run at whoever answers. A controller that was away may be left out for its thirty seconds (FD-04): then the run tells of the other
/// one, which is away now.
async fn run_at_another(world: &World) -> Result<SyncRun> {
    let begun = Instant::now();
    loop {
        let run = world.run("incremental").await?;
        let unreachable = run.state == "incomplete" && run.error.contains("could not be reached");
        ensure!(!unreachable || run.why.contains("could not be asked"), "{run:?}");
        if !unreachable || begun.elapsed() > Duration::from_secs(60) {
            return Ok(run);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn replace(name: &str, attribute: &str, value: &str) -> String {
    format!("dn: {}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n\n", Samba::dn_of(name))
}

async fn first_run(world: &World, urls: &[&str], feed: &str) -> Result<()> {
    world.apply_with(&document(&world.upstream, urls, feed)?, Samba::ADMIN_PASSWORD).await?;
    let first = world.run("").await?;
    ensure!(first.mode == "full" && first.state == "done" && first.feed == feed, "{first:?}");
    world.agrees("first run").await
}

/// Of every kind.
fn changes(number: usize) -> String {
    let dn = Samba::dn_of;
    let member = format!("CN=vpn-users,OU=groups,{}", Samba::BASE);
    let added = format!("kim{number}");
    format!(
        "dn: {}\nchangetype: add\nobjectClass: user\nsAMAccountName: {added}\nuserPrincipalName: {added}@lab.test\n\
         userAccountControl: 544\n\n\
         {}{}\
         dn: {}\nchangetype: modify\nreplace: mobile\n\n\
         dn: {member}\nchangetype: modify\nadd: member\nmember: {}\n\n",
        dn(&added),
        replace("ben.baker", "mobile", &format!("+49 151 777000{number}")),
        replace("carla.cook", "userAccountControl", if number.is_multiple_of(2) { "512" } else { "514" }),
        dn("ann.archer"),
        dn(&added),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_controller_goes_away_and_dirsync_goes_on_at_the_other() -> Result<()> {
    // FS-40, FD-04, S-18: the cookie of one is good at the other.
    let (mut world, mut other) = domain().await?;
    let urls = [world.upstream.url(), other.url()];
    first_run(&world, &urls.each_ref().map(String::as_str), "dirsync").await?;
    samba(&world.upstream).add("nina.new", &password_of("nina.new"))?;
    let here = world.run("incremental").await?;
    ensure!(here.state == "done" && here.mode == "incremental" && here.added == 1, "{here:?}");
    for number in 1..=3 {
        samba(&other).replicate_from(samba(&world.upstream))?;
        switch(&mut world, &mut other)?;
        world.upstream.modify(&changes(number))?;
        if number == 1 {
            world.upstream.modify(&format!("dn: {}\nchangetype: delete\n", Samba::dn_of("nina.new")))?;
        }
        let there = run_at_another(&world).await?;
        ensure!(there.state == "done" && there.mode == "incremental" && there.added == 1, "{number}: {there:?}");
        ensure!(there.disabled == u32::from(number == 1), "who was deleted: {there:?}");
        world.agrees(&format!("at the other, {number}")).await?;
        let again = world.run("incremental").await?;
        ensure!((again.added, again.changed) == (0, 0), "told once more: {again:?}");
        restart(&mut other)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_controller_goes_away_and_the_numbers_of_the_other_mean_nothing() -> Result<()> {
    // FS-41, S-25
    let (mut world, mut other) = domain().await?;
    let urls = [world.upstream.url(), other.url()];
    first_run(&world, &urls.each_ref().map(String::as_str), "usn_changed").await?;
    for number in 1..=2 {
        samba(&other).replicate_from(samba(&world.upstream))?;
        switch(&mut world, &mut other)?;
        world.upstream.modify(&changes(number))?;
        let before = world.run_ids().await?;
        let refused = run_at_another(&world).await?;
        ensure!(refused.state == "incomplete" && refused.error.contains("another server answers"), "{refused:?}");
        let full = world.ended(&before, |run| run.why.contains("another server answers")).await?;
        ensure!(full.state == "done" && full.mode == "full", "{full:?}");
        world.agrees(&format!("at the other, {number}")).await?;
        world.upstream.modify(&replace("ben.baker", "givenName", &format!("Ben {number}")))?;
        let on = world.run("incremental").await?;
        ensure!(on.state == "done" && on.mode == "incremental", "{on:?}");
        world.agrees(&format!("and goes on there, {number}")).await?;
        restart(&mut other)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_behind_one_name_is_told_apart_by_what_it_calls_itself() -> Result<()> {
    // S-18, S-25
    let (world, other) = domain().await?;
    let (one, two) = (address(&world.upstream), address(&other));
    for feed in ["usn_changed", "dirsync"] {
        let door = Door::open(&[one]).await?;
        first_run(&world, &[&door.url()], feed).await?;
        // They take turns. What the one tells of, the other one does not know.
        for number in 1..=2 {
            door.lead_to(&[one, two]);
            world.upstream.modify(&replace("ann.archer", "mobile", &format!("+49 151 888000{number}")))?;
            for _ in 0..3 {
                world.run("incremental").await?;
            }
            door.lead_to(&[one]);
            world.run("incremental").await?;
            world.agrees(&format!("{feed}, taking turns, {number}")).await?;
        }
        // The other one alone: it is not taken for the first.
        samba(&other).replicate_from(samba(&world.upstream))?;
        door.lead_to(&[two]);
        other.modify(&replace("ann.archer", "mobile", "+49 151 9990000"))?;
        let before = world.run_ids().await?;
        let run = world.run("incremental").await?;
        if feed == "usn_changed" {
            ensure!(run.error.contains("another server answers"), "{run:?}");
            let full = world.ended(&before, |run| run.mode == "full").await?;
            ensure!(full.state == "done", "{full:?}");
        } else {
            ensure!(run.state == "done" && run.mode == "incremental", "{run:?}");
        }
        samba(&world.upstream).replicate_from(samba(&other))?;
        world.agrees(&format!("{feed}, the other one")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_read_behind_one_name_is_who_tells_where_the_one_remembered_is_gone() -> Result<()> {
    // S-18, S-43
    let (world, other) = domain().await?;
    let (one, two) = (address(&world.upstream), address(&other));
    let door = Door::open(&[one]).await?;
    first_run(&world, &[&door.url()], "dirsync").await?;
    door.lead_to(&[one, two]);
    for number in 0..6 {
        world.edit_position(|position| position["dc"] = "CN=NTDS Settings,CN=GONE,DC=lab,DC=test".into()).await?;
        // Whoever's turn it is.
        for _ in 0..number % 2 {
            TcpStream::connect(door.address).await?;
        }
        world.upstream.modify(&replace("ann.archer", "mobile", &format!("+49 151 777100{number}")))?;
        samba(&other).replicate_from(samba(&world.upstream))?;
        let run = world.run("incremental").await?;
        ensure!(run.state == "done" && run.mode == "incremental", "{number}: {run:?}");
        world.agrees(&format!("by whoever is left, {number}")).await?;
    }
    Ok(())
}

fn address(upstream: &Upstream) -> SocketAddr {
    SocketAddr::from((samba(upstream).address(), 636))
}

/// One port before several servers, which take turns by connection.
struct Door {
    address: SocketAddr,
    leads_to: Arc<Mutex<(usize, Vec<SocketAddr>)>>,
    work: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Door {
    async fn open(servers: &[SocketAddr]) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let leads_to = Arc::new(Mutex::new((0, servers.to_vec())));
        let servers = Arc::clone(&leads_to);
        let work = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = {
                    let mut servers = servers.lock().unwrap_or_else(PoisonError::into_inner);
                    servers.0 += 1;
                    servers.1[servers.0 % servers.1.len()]
                };
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Ok(Self { address, leads_to, work })
    }

    fn url(&self) -> String {
        format!("ldaps://{}", self.address)
    }

    fn lead_to(&self, servers: &[SocketAddr]) {
        self.leads_to.lock().unwrap_or_else(PoisonError::into_inner).1 = servers.to_vec();
    }
}
