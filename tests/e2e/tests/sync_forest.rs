//! Two forests of Samba that trust each other, read as one directory (FD-02): who is added, changed and deleted in the other one comes by
//! incremental runs, members of groups come across the trust, and while it is away nobody is taken for gone.

mod synced;

use anyhow::{Context, Result, ensure};
use lab::{OtherForest, Pki, Samba};
use proto::user_store::SyncRun;
use std::sync::Arc;
use synced::{Upstream, World};

/// The people of the first domain, those of the other one who have two names, and before them whoever is in a group of the first.
fn document(upstream: &Upstream, other: &OtherForest) -> Result<String> {
    let Upstream::Samba(samba) = upstream else { unreachable!("made as such") };
    let item = |name: &str, source: &str, filter: &str| {
        format!(
            "[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nsource = {{ {source} }}\nfilter = \"{filter}\"\n\
             user_group = \"{name}\"\n\n"
        )
    };
    let vpn = format!("kind = \"group\", dn = \"CN=vpn-users,OU=groups,{}\"", Samba::BASE);
    let people = format!("kind = \"container\", dn = \"{}\"", Samba::PEOPLE_DN);
    let there = format!("kind = \"container\", dn = \"CN=Users,{}\"", OtherForest::BASE);
    Ok(format!(
        "[[directory]]\nname = \"corp\"\npreset = \"active_directory\"\nurls = [\"{}\"]\nbase = \"{}\"\n\
         netbios_domain = \"{}\"\ntimeout_seconds = 20\ntrusted_domains = true\n\
         query_bind = {{ kind = \"windows\", name = 'LAB\\Administrator', password = \"file:query.password\" }}\n\
         trusted.\"{}\".urls = [\"{}\"]\nca = '''\n{}'''\n\n",
        samba.ldap_url(),
        Samba::BASE,
        Samba::DOMAIN,
        OtherForest::DNS_NAME,
        other.ldap_url(),
        std::fs::read_to_string(samba.ca_file())?,
    ) + &item("vpn", &vpn, "")
        + &item("people", &people, "")
        + &item("there", &there, "(cn=*.*)"))
}

/// Who is enabled, and of which item.
async fn owners(world: &World) -> Result<Vec<String>> {
    let users = world.users("enabled").await?.into_iter();
    let mut owners: Vec<String> = users.map(|user| format!("{} {}", user.username, user.user_group)).collect();
    owners.sort();
    Ok(owners)
}

async fn is_of(world: &World, name: &str, item: &str) -> Result<()> {
    let owners = owners(world).await?;
    ensure!(owners.contains(&format!("{name} {item}")), "{name} {item}: {owners:#?}");
    Ok(())
}

async fn incremental(world: &World) -> Result<SyncRun> {
    let run = world.run("incremental").await?;
    ensure!(run.mode == "incremental" && run.state == "done", "{run:#?}");
    ensure!(run.why.contains("of other.test by "), "{run:#?}");
    Ok(run)
}

fn replace(dn: &str, attribute: &str, value: &str) -> String {
    format!("dn: {dn}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_days_of_two_forests_that_trust_each_other() -> Result<()> {
    // FD-02, FS-04, S-41, S-52, S-53
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let mut samba = Samba::start(dir.path(), &pki)?;
    let mut other = OtherForest::trusted_by(&mut samba, dir.path(), &pki)?;
    // Olga is in a group of the first domain, by her SID across the trust.
    let vpn = format!("CN=vpn-users,OU=groups,{}", Samba::BASE);
    let olga = other.sid_of("olga.other")?;
    let member = |how: &str, who: &str| format!("dn: {vpn}\nchangetype: modify\n{how}: member\nmember: {who}\n\n");
    samba.modify(&member("add", &format!("<SID={olga}>")))?;
    let upstream = Arc::new(Upstream::Samba(samba));
    let world = World::new(dir, Arc::clone(&upstream), Samba::PEOPLE_DN, "").await?;
    world.apply_with(&document(&upstream, &other)?, Samba::ADMIN_PASSWORD).await?;

    // Both are read at once, and two are called Ann.
    let first = world.run("").await?;
    ensure!(first.mode == "full" && first.state == "done", "{first:#?}");
    is_of(&world, "ann.archer@lab.test", "vpn").await?;
    is_of(&world, "carla.cook@lab.test", "people").await?;
    is_of(&world, "ann.archer@other.test", "there").await?;
    is_of(&world, "olga.other@other.test", "vpn").await?;
    let ann = world.detail(r"OTHER\ann.archer").await?;
    ensure!(ann.distinguished_name.eq_ignore_ascii_case(&OtherForest::dn_of("ann.archer")), "{ann:?}");
    ensure!(
        world.detail("ann.archer").await?.distinguished_name == Samba::dn_of("ann.archer"),
        "a bare name is home's"
    );
    let source = world.status().await?.sources.pop().context("a source")?;
    ensure!(source.offers.iter().any(|line| line.starts_with("other.test: ")), "{source:?}");

    // Changes of both come by their own feeds.
    let nothing = incremental(&world).await?;
    ensure!((nothing.added, nothing.changed) == (0, 0), "{nothing:#?}");
    let nina = OtherForest::dn_of("nina.new");
    other.modify(&format!(
        "dn: {nina}\nchangetype: add\nobjectClass: user\nsAMAccountName: nina.new\nuserPrincipalName: nina.new@other.test\n\
         userAccountControl: 544\n\n{}",
        replace(&OtherForest::dn_of("ann.archer"), "mobile", "+49 151 4440001")
    ))?;
    upstream.modify(&replace(&Samba::dn_of("carla.cook"), "mobile", "+49 151 4440002"))?;
    let run = incremental(&world).await?;
    ensure!((run.added, run.changed) == (1, 2), "{run:#?}");
    is_of(&world, "nina.new@other.test", "there").await?;
    ensure!(world.detail(r"OTHER\ann.archer").await?.phone == "+491514440001");

    // A group of the first domain loses its member of the other one, and gets another.
    let sid = other.sid_of("nina.new")?;
    upstream.modify(&(member("delete", &format!("<SID={olga}>")) + &member("add", &format!("<SID={sid}>"))))?;
    incremental(&world).await?;
    is_of(&world, "olga.other@other.test", "there").await?;
    is_of(&world, "nina.new@other.test", "vpn").await?;

    // While the other forest is away the first one is read, and whoever is not found is not gone.
    other.stop();
    upstream.modify(&replace(&Samba::dn_of("carla.cook"), "mobile", "+49 151 4440003"))?;
    upstream.modify(&format!("dn: {}\nchangetype: delete\n", Samba::dn_of("ben.baker")))?;
    for mode in ["incremental", ""] {
        let away = world.run(mode).await?;
        ensure!(
            away.state == "incomplete" && away.error.contains("the domain other.test could not be read"),
            "{away:#?}"
        );
        ensure!(mode.is_empty() || away.mode == mode, "{away:#?}");
        ensure!((away.disabled, away.removed, away.parked) == (0, 0, 0), "{away:#?}");
        ensure!(world.detail("carla.cook@lab.test").await?.phone == "+491514440003", "home is applied");
        is_of(&world, "nina.new@other.test", "vpn").await?;
        is_of(&world, "ben.baker@lab.test", "vpn").await?;
    }
    other.restart()?;
    // A server that failed is left out for its thirty seconds (FD-04), but where it is the only one.
    let back = incremental(&world).await?;
    ensure!(back.disabled == 1, "Ben has left: {back:#?}");

    // Who is deleted there leaves. To an account that may not read what was deleted no feed tells of it: two full runs find it (S-43).
    other.modify(&format!("dn: {nina}\nchangetype: delete\n"))?;
    let mut disabled = 0;
    for _ in 0..2 {
        ensure!(disabled == 0, "nobody is gone on the word of one run");
        let run = world.run("").await?;
        ensure!(run.mode == "full" && run.state == "done", "{run:#?}");
        disabled = run.disabled;
    }
    ensure!(disabled == 1, "{:#?}", world.status().await?.runs);
    ensure!(!owners(&world).await?.iter().any(|owner| owner.starts_with("nina.new")), "{:#?}", owners(&world).await?);

    // By themselves full runs find the same.
    let full = world.run("").await?;
    ensure!(full.mode == "full" && full.state == "done" && (full.added, full.changed) == (0, 0), "{full:#?}");
    Ok(())
}
