//! The days of an Active Directory domain (Samba), by each of its change feeds: after every step the store is what the directory is.

mod synced;

use anyhow::{Result, ensure};
use data_encoding::BASE64;
use lab::Samba;
use proto::user_store::SyncRun;
use std::fmt::Write as _;
use std::sync::Arc;
use synced::{Upstream, World};

/// So many in the unit that moves away.
const CROWD: usize = 500;

/// The people below `OU=people`; crowds below `OU=crowd,OU=people`.
fn document(upstream: &Upstream, account: &str, more: &str) -> Result<String> {
    let directory = upstream.section(account, more)?;
    Ok(format!(
        "{directory}[[sync_item]]\nname = \"people\"\ndirectory = \"corp\"\n\
         source = {{ kind = \"container\", dn = \"{}\" }}\n",
        Samba::PEOPLE_DN
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_days_of_a_domain_by_dirsync() -> Result<()> {
    // FS-40, S-10 to S-21
    days("dirsync", Samba::ADMIN_DN, Samba::ADMIN_PASSWORD).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_days_of_a_domain_by_update_sequence_numbers() -> Result<()> {
    // FS-41, S-25, S-26
    days("usn_changed", Samba::ADMIN_DN, Samba::ADMIN_PASSWORD).await
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_that_look_at_groups_and_at_bits_hold_between_full_runs_by_dirsync() -> Result<()> {
    // FS-22, FD-14, S-14, S-17, FS-40
    filters("dirsync").await
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_that_look_at_groups_and_at_bits_hold_between_full_runs_by_update_sequence_numbers() -> Result<()> {
    // FS-22, FD-14, S-25, FS-41
    filters("usn_changed").await
}

/// `memberOf` is of no entry that changes: what changes is the group.
async fn filters(feed: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let upstream = Arc::new(Upstream::samba(dir.path())?);
    let base = Samba::BASE;
    let item = |name: &str, filter: &str| {
        format!(
            "[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\n\
             filter = \"{filter}\"\nuser_group = \"{name}\"\n"
        )
    };
    // S-40: three of so few people leave in three runs.
    let document = "[sync]\napproval_over_percent = 0\n\n".to_owned()
        + &upstream.section(Samba::ADMIN_DN, &format!("feed = \"{feed}\""))?
        + &item("direct", &format!("(memberOf=CN=vpn-users,OU=groups,{base})"))
        + &item("chain", &format!("(memberOf:1.2.840.113556.1.4.1941:=CN=staff,OU=groups,{base})"))
        // Passwords that do not expire.
        + &item("bit", "(&(|(sAMAccountName=max.mustchange)(sAMAccountName=hugo.hours))(userAccountControl:1.2.840.113556.1.4.803:=65536))");
    let world = World::new(dir, Arc::clone(&upstream), Samba::PEOPLE_DN, "").await?;
    world.apply_with(&document, Samba::ADMIN_PASSWORD).await?;
    let bits = |name: &str, flags: u32| {
        let dn = Samba::dn_of(name);
        format!("dn: {dn}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: {flags}\n\n")
    };
    // An item must not be left empty (S-42).
    upstream.modify(&bits("hugo.hours", 512 + 65536))?;
    let first = world.run("").await?;
    ensure!(first.mode == "full" && first.state == "done", "{first:?}");
    let owners = async || -> Result<Vec<String>> {
        let users = world.users("enabled").await?.into_iter();
        let first_name = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let mut owners: Vec<_> =
            users.map(|user| format!("{} {}", first_name(&user.username), user.user_group)).collect();
        owners.sort();
        Ok(owners)
    };
    ensure!(owners().await? == ["ann direct", "ben direct", "carla chain", "hugo bit"], "{:?}", owners().await?);
    let member = |group: &str, how: &str, member: &str| {
        format!("dn: CN={group},OU=groups,{base}\nchangetype: modify\n{how}: member\nmember: {member}\n\n")
    };
    let [ann, ben] = ["ann.archer", "ben.baker"].map(Samba::dn_of);
    let vpn = format!("CN=vpn-users,OU=groups,{base}");
    for (what, ldif, expected) in [
        ("taken out", member("vpn-users", "delete", &ann), ["ben direct", "carla chain", "hugo bit"].as_slice()),
        (
            "in the outer group alone",
            member("staff", "add", &ann),
            &["ann chain", "ben direct", "carla chain", "hugo bit"],
        ),
        ("out of both", member("staff", "delete", &ann), &["ben direct", "carla chain", "hugo bit"]),
        ("back", member("vpn-users", "add", &ann), &["ann direct", "ben direct", "carla chain", "hugo bit"]),
        (
            "a bit that is set",
            bits("max.mustchange", 512 + 65536),
            &["ann direct", "ben direct", "carla chain", "hugo bit", "max bit"],
        ),
        ("and cleared", bits("max.mustchange", 512), &["ann direct", "ben direct", "carla chain", "hugo bit"]),
        (
            "a group between",
            format!(
                "dn: CN=between,OU=groups,{base}\nchangetype: add\nobjectClass: group\nsAMAccountName: between\nmember: {ben}\n\n"
            ) + &member("vpn-users", "delete", &ben)
                + &member("vpn-users", "add", &format!("CN=between,OU=groups,{base}")),
            &["ann direct", "ben chain", "carla chain", "hugo bit"],
        ),
        (
            "the inner group leaves the outer one",
            member("staff", "delete", &vpn),
            &["ann direct", "carla chain", "hugo bit"],
        ),
        ("and comes again", member("staff", "add", &vpn), &["ann direct", "ben chain", "carla chain", "hugo bit"]),
    ] {
        upstream.modify(&ldif)?;
        let run = world.run("incremental").await?;
        ensure!(run.mode == "incremental" && run.feed == feed && run.state == "done", "{what}: {run:?}");
        ensure!(owners().await? == expected, "{what}: {:?}, {run:?}", owners().await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_an_id_that_somebody_writes_people_stay_in_their_groups() -> Result<()> {
    // FD-31, S-52: the directory names members by objectGUID, and here nobody is known by that
    const ID: &str = "mS-DS-ConsistencyGuid";
    let dir = tempfile::tempdir()?;
    let upstream = Arc::new(Upstream::samba(dir.path())?);
    let group = |name: &str| format!("CN={name},OU=groups,{}", Samba::BASE);
    let mut known = ["ann.archer", "ben.baker"].map(Samba::dn_of).to_vec();
    known.extend(["vpn-users", "staff"].map(group));
    let mut ldif = String::new();
    for (number, dn) in known.iter().enumerate() {
        let id = BASE64.encode(&[number as u8; 16]);
        write!(ldif, "dn: {dn}\nchangetype: modify\nreplace: {ID}\n{ID}:: {id}\n\n")?;
    }
    upstream.modify(&ldif)?;
    let document = upstream.section(
        Samba::ADMIN_DN,
        &format!(
            "attributes = {{ id = \"{ID}\" }}\nuser_filter = \"(&(objectCategory=person)(objectClass=user)({ID}=*))\"\n\
             group_filter = \"(&(objectCategory=group)({ID}=*))\""
        ),
    )? + &format!(
        "[[sync_item]]\nname = \"staff\"\ndirectory = \"corp\"\nsource = {{ kind = \"group\", dn = \"{}\" }}\n",
        group("staff")
    );
    let world = World::new(dir, Arc::clone(&upstream), Samba::PEOPLE_DN, "").await?;
    world.apply_with(&document, Samba::ADMIN_PASSWORD).await?;
    let names = async || -> Result<Vec<String>> {
        let mut names: Vec<_> = world.users("enabled").await?.into_iter().map(|user| user.username).collect();
        names.sort();
        Ok(names)
    };
    let first = world.run("").await?;
    ensure!(first.mode == "full" && first.state == "done", "{first:?}");
    ensure!(names().await? == ["ann.archer@lab.test", "ben.baker@lab.test"], "{:?}", names().await?);
    // Neither a new name of the person nor one of the group between takes anybody out.
    let renamed = |dn: &str, rdn: &str| format!("dn: {dn}\nchangetype: modrdn\nnewrdn: {rdn}\ndeleteoldrdn: 1\n\n");
    upstream
        .modify(&(renamed(&Samba::dn_of("ben.baker"), "CN=benjamin") + &renamed(&group("vpn-users"), "CN=remote")))?;
    let second = world.run("incremental").await?;
    ensure!(second.state == "done" && second.feed == "modify_timestamp", "{second:?}");
    ensure!(names().await? == ["ann.archer@lab.test", "ben.baker@lab.test"], "{:?}", names().await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_loses_the_right_to_changes_reads_everything_and_removes_nobody() -> Result<()> {
    // S-13, S-20, S-41
    let dir = tempfile::tempdir()?;
    let upstream = Arc::new(Upstream::samba(dir.path())?);
    let Upstream::Samba(samba) = upstream.as_ref() else { unreachable!("made above") };
    samba.allow_replication(Samba::QUERY_DN)?;
    let document = document(&upstream, Samba::QUERY_DN, "")?;
    let world = World::new(dir, Arc::clone(&upstream), Samba::PEOPLE_DN, &document).await?;
    let first = world.run("").await?;
    ensure!(first.state == "done" && first.feed == "dirsync", "{first:?}");
    samba.disable("ben.baker")?;
    let changed = world.run("incremental").await?;
    ensure!(changed.mode == "incremental" && changed.changed + changed.unchanged >= 1, "{changed:?}");
    world.agrees("with the right").await?;
    samba.deny_replication(Samba::QUERY_DN)?;
    samba.enable("ben.baker")?;
    let before = world.run_ids().await?;
    let refused = world.run("incremental").await?;
    ensure!(refused.state == "incomplete" && refused.disabled == 0, "{refused:?}");
    ensure!(refused.error.contains("does not let the query account read its changes"), "{refused:?}");
    let full = world.ended(&before, |run| run.mode == "full").await?;
    ensure!(full.state == "done" && (full.disabled, full.removed, full.parked) == (0, 0, 0), "{full:?}");
    world.agrees("without the right").await?;
    Ok(())
}

async fn days(feed: &str, account: &str, password: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let upstream = Arc::new(Upstream::samba(dir.path())?);
    let document = document(&upstream, account, &format!("feed = \"{feed}\""))?;
    let world = World::new(dir, upstream, Samba::PEOPLE_DN, "").await?;
    world.apply_with(&document, password).await?;
    let first = world.run("").await?;
    ensure!(first.mode == "full" && first.state == "done", "{first:?}");
    world.agrees("first run").await?;
    let step = async |what: &str, ldif: &str| -> Result<SyncRun> {
        if !ldif.is_empty() {
            world.upstream.modify(ldif)?;
        }
        let run = world.run("incremental").await?;
        ensure!(run.mode == "incremental" && run.feed == feed, "{what}: {run:?}");
        ensure!(run.state == "done" || run.state == "parked", "{what}: {run:?}");
        world.agrees(what).await?;
        Ok(run)
    };
    let Upstream::Samba(samba) = world.upstream.as_ref() else { unreachable!("made above") };
    let dn = Samba::dn_of;
    let nothing = step("nothing", "").await?;
    ensure!((nothing.added, nothing.changed) == (0, 0), "{nothing:?}");
    samba.add("nina.new", &lab::password_of("nina.new"))?;
    let added = step("add", "").await?;
    ensure!(added.added == 1, "{added:?}");
    let replace = |name: &str, attribute: &str, value: &str| {
        format!("dn: {}\nchangetype: modify\nreplace: {attribute}\n{attribute}: {value}\n", dn(name))
    };
    step("a mobile number", &replace("nina.new", "mobile", "+49 151 4711")).await?;
    step("a surname", &replace("ann.archer", "sn", "Archerová")).await?;
    step("an attribute cleared", &format!("dn: {}\nchangetype: modify\ndelete: mobile\n", dn("nina.new"))).await?;
    samba.disable("nina.new")?;
    step("disabled", "").await?;
    samba.enable("nina.new")?;
    step("enabled", "").await?;
    step("renamed", &format!("dn: {}\nchangetype: modrdn\nnewrdn: CN=nina.nova\ndeleteoldrdn: 1\n", dn("nina.new")))
        .await?;
    // Groups: nested, in a circle, a member more and less.
    let unit = format!("dn: OU=groups2,{}\nchangetype: add\nobjectClass: organizationalUnit\n\n", Samba::BASE);
    let make = |name: &str| {
        format!(
            "dn: CN={name},OU=groups2,{}\nchangetype: add\nobjectClass: group\nsAMAccountName: {name}\n\n",
            Samba::BASE
        )
    };
    let member = |group: &str, how: &str, member: &str| {
        format!("dn: CN={group},OU=groups2,{}\nchangetype: modify\n{how}: member\nmember: {member}\n\n", Samba::BASE)
    };
    let inner = format!("CN=inner,OU=groups2,{}", Samba::BASE);
    let outer = format!("CN=outer,OU=groups2,{}", Samba::BASE);
    step("groups", &(unit + &make("inner") + &make("outer") + &member("outer", "add", &inner))).await?;
    step("a member of the inner group", &member("inner", "add", &dn("nina.nova"))).await?;
    step("a circle", &member("inner", "add", &outer)).await?;
    step("a member less", &member("inner", "delete", &dn("nina.nova"))).await?;
    let rename = format!("dn: {outer}\nchangetype: modrdn\nnewrdn: CN=around\ndeleteoldrdn: 1\n");
    step("a group renamed", &rename).await?;
    step("the primary group", &{
        let domain_guests = 514;
        let join = format!(
            "dn: CN=Domain Guests,CN=Users,{}\nchangetype: modify\nadd: member\nmember: {}\n\n",
            Samba::BASE,
            dn("nina.nova")
        );
        join + &replace("nina.nova", "primaryGroupID", &domain_guests.to_string())
    })
    .await?;
    // Deleted, and undeleted with the same id.
    let before = world.detail("nina.new").await?;
    samba.modify(&format!("dn: {}\nchangetype: delete\n", dn("nina.nova")))?;
    let gone = step("deleted", "").await?;
    ensure!(gone.disabled == 1, "{gone:?}");
    samba.undelete(&before.subject.clone().unwrap_or_default().object_id, &dn("nina.nova"))?;
    step("undeleted", "").await?;
    let after = world.detail("nina.new").await?;
    ensure!(after.user.map(|user| user.user_id) == before.user.map(|user| user.user_id), "the same user");
    // A unit with people, renamed; then moved out of sight, and back.
    let crowd = format!("OU=crowd,{}", Samba::PEOPLE_DN);
    let mut ldif = format!("dn: {crowd}\nchangetype: add\nobjectClass: organizationalUnit\n\n");
    for number in 1..=CROWD {
        write!(
            ldif,
            "dn: CN=crowd{number:03},{crowd}\nchangetype: add\nobjectClass: user\nsAMAccountName: crowd{number:03}\n\
             userAccountControl: 514\n\n"
        )?;
    }
    let crowded = step("a crowd", &ldif).await?;
    ensure!(crowded.added as usize == CROWD, "{crowded:?}");
    enable_crowd(samba, &crowd)?;
    step("a crowd enabled", "").await?;
    step("a unit renamed", &format!("dn: {crowd}\nchangetype: modrdn\nnewrdn: OU=throng\ndeleteoldrdn: 1\n")).await?;
    let throng = format!("OU=throng,{}", Samba::PEOPLE_DN);
    let away =
        format!("dn: {throng}\nchangetype: modrdn\nnewrdn: OU=throng\ndeleteoldrdn: 1\nnewsuperior: {}\n", Samba::BASE);
    samba.modify(&away)?;
    let parked = world.run("incremental").await?;
    ensure!(parked.state == "parked" && parked.parked as usize == CROWD, "S-16, S-40: {parked:?}");
    let approvals = world.approvals().await?;
    ensure!(approvals.len() == 1 && approvals[0].users as usize == CROWD, "{approvals:?}");
    let waiting = world.waiting(&approvals[0]).await?;
    ensure!(waiting.len() == CROWD, "{} are listed", waiting.len());
    let one_back = format!(
        "dn: CN=crowd009,OU=throng,{}\nchangetype: modrdn\nnewrdn: CN=crowd009\ndeleteoldrdn: 1\nnewsuperior: {}\n",
        Samba::BASE,
        Samba::PEOPLE_DN
    );
    samba.modify(&one_back)?;
    let still = world.run("incremental").await?;
    ensure!(still.parked as usize == CROWD - 1, "{still:?}");
    let approvals = world.approvals().await?;
    ensure!(world.approve(&approvals[0]).await? as usize == CROWD - 1, "the others are disabled");
    world.agrees("approved").await?;
    let back = format!(
        "dn: OU=throng,{}\nchangetype: modrdn\nnewrdn: OU=throng\ndeleteoldrdn: 1\nnewsuperior: {}\n",
        Samba::BASE,
        Samba::PEOPLE_DN
    );
    step("they come back", &back).await?;
    // A position that means nothing to the server: everything is read again, with the guard, and said (S-20).
    world.spoil_position().await?;
    let before = world.run_ids().await?;
    let refused = world.run("incremental").await?;
    ensure!(refused.state == "incomplete" && refused.error.contains("read again"), "{refused:?}");
    let again = world.ended(&before, |run| run.mode == "full").await?;
    ensure!(again.state == "done" && !again.why.is_empty(), "{again:?}");
    world.agrees("garbage").await?;
    step("and goes on", &replace("ben.baker", "givenName", "Benjamin")).await?;
    Ok(())
}

fn enable_crowd(samba: &Samba, crowd: &str) -> Result<()> {
    let mut ldif = String::new();
    for number in 1..=CROWD {
        // An account that needs no password: nobody signs in here.
        write!(
            ldif,
            "dn: CN=crowd{number:03},{crowd}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: 544\n\n"
        )?;
    }
    samba.modify(&ldif)
}
