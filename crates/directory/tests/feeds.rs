//! Change feeds of real servers: what they tell, and what is made of it.

mod support;

use anyhow::{Context, Result, bail};
use directory::{Changes, Directory, Event, FeedError, FeedKind, FullRead, Offer, Options, Position};
use domain::settings::{BindKind, Preset, QueryBind};
use domain::{ObjectId, Secret};
use lab::{COMPANY_BASE, Ds389, Pki, Samba, Slapd, SlapdOptions};
use std::collections::BTreeSet;
use std::time::Duration;
use tempfile::TempDir;

const ANN: &str = "uid=ann.archer,ou=engineering,ou=people,dc=acme,dc=example";

/// What was told until the end, or until all was up to date.
#[derive(Debug, Default)]
struct Told {
    changed: BTreeSet<ObjectId>,
    deleted: BTreeSet<ObjectId>,
    present: BTreeSet<ObjectId>,
    position: Option<Position>,
    rest_is_gone: bool,
}

impl Told {
    fn nothing(&self) -> bool {
        self.changed.is_empty() && self.deleted.is_empty()
    }

    fn position(&self) -> Position {
        self.position.clone().expect("a feed that ends has a position")
    }

    async fn of(mut changes: Changes) -> Result<Self> {
        let mut told = Self::default();
        loop {
            match changes.next().await? {
                Event::Changed(id) => drop(told.changed.insert(id)),
                Event::Deleted(id) => drop(told.deleted.insert(id)),
                Event::Present(ids) => told.present.extend(ids),
                Event::Position(position) => told.position = Some(again(&position)?),
                Event::UpToDate { .. } => bail!("changes() does not follow"),
                Event::End { rest_is_gone } => {
                    told.rest_is_gone = rest_is_gone;
                    return Ok(told);
                }
            }
        }
    }
}

/// As it is stored and read again.
fn again(position: &Position) -> Result<Position> {
    let json = serde_json::to_string(position)?;
    assert!(json.len() < 1 << 20);
    let read: Position = serde_json::from_str(&json)?;
    assert_eq!(&read, position);
    Ok(read)
}

async fn id_of(directory: &Directory, dn: &str) -> Result<ObjectId> {
    let attribute = directory.settings().id_attribute();
    let found = directory.read_dns(&[dn.to_owned()], &[attribute], false).await?;
    Ok(directory.id_of(found.first().context("it is there")?)?)
}

struct OpenLdap {
    directory: Directory,
    slapd: Slapd,
    _dir: TempDir,
}

fn open_ldap(options: &SlapdOptions) -> Result<OpenLdap> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let slapd = Slapd::start(dir.path(), &pki, options)?;
    let url = slapd.ldap_url();
    let mut settings = support::settings(&[&url]);
    settings.base = COMPANY_BASE.into();
    settings.page_size = 50;
    settings.timeout_seconds = 10;
    settings.query_bind = QueryBind { kind: BindKind::Simple, name: Slapd::QUERY_DN.into(), password: None };
    let password = Some(Secret::from(Slapd::QUERY_PASSWORD));
    let directory = Directory::new(settings, password, Options::default())?;
    Ok(OpenLdap { directory, slapd, _dir: dir })
}

/// Somebody is added, changed, renamed, moved and deleted; each time the feed tells so, and what it tells leads to the truth.
async fn a_life(directory: &Directory, kind: FeedKind, modify: impl Fn(&str) -> Result<()>) -> Result<Vec<Told>> {
    let zoe = format!("uid=zoe.zuse,ou=people,{COMPANY_BASE}");
    let mut told = Vec::new();
    let mut position = directory.position_now(kind).await?;
    assert_eq!(position.kind(), kind);
    let mut since = async |what: &str| -> Result<Told> {
        let since = Told::of(directory.changes(position.clone())).await.with_context(|| what.to_owned())?;
        position = since.position();
        Ok(since)
    };
    since("nothing").await?;
    modify(&format!(
        "dn: {zoe}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: zoe.zuse\ncn: Zoe\nsn: Zuse\nmobile: +4915155500077\n"
    ))?;
    let id = id_of(directory, &zoe).await?;
    let added = since("added").await?;
    assert!(added.changed.contains(&id), "{added:?}");
    told.push(added);

    // S-15: what was cleared is told as a change, and is not there when it is read
    modify(&format!("dn: {zoe}\nchangetype: modify\ndelete: mobile\n"))?;
    let cleared = since("cleared").await?;
    assert!(cleared.changed.contains(&id), "{cleared:?}");
    let read = support::read_by_ids(directory, std::slice::from_ref(&id), &["mobile", "uid"], false).await?;
    assert!(read.len() == 1 && read[0].values("mobile").is_empty() && read[0].first_text("uid") == Some("zoe.zuse"));
    told.push(cleared);

    modify(&format!(
        "dn: {zoe}\nchangetype: modrdn\nnewrdn: uid=zoe.new\ndeleteoldrdn: 1\nnewsuperior: ou=engineering,ou=people,{COMPANY_BASE}\n"
    ))?;
    let moved = since("moved").await?;
    assert!(moved.changed.contains(&id), "{moved:?}");
    let read = support::read_by_ids(directory, std::slice::from_ref(&id), &["uid"], false).await?;
    let now = format!("uid=zoe.new,ou=engineering,ou=people,{COMPANY_BASE}");
    assert_eq!(read[0].dn_text(), Some(now.as_str()));
    told.push(moved);

    modify(&format!("dn: {now}\nchangetype: delete\n"))?;
    let deleted = since("deleted").await?;
    assert!(support::read_by_ids(directory, std::slice::from_ref(&id), &["uid"], false).await?.is_empty());
    assert!(directory.read_dns(&[now, "no dn".into()], &["uid"], false).await?.is_empty());
    // Logs are read again a little from before.
    assert!(!deleted.present.contains(&id) && (kind != FeedKind::Syncrepl || !deleted.changed.contains(&id)));
    told.push(deleted);
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn openldap_tells_a_life_by_syncrepl_and_a_present_phase_proves_who_is_gone() -> Result<()> {
    // S-30 to S-32, FS-42. Without a session log the server knows only what is there.
    let lab = open_ldap(&SlapdOptions::default())?;
    let told = a_life(&lab.directory, FeedKind::Syncrepl, |ldif| lab.slapd.modify(ldif)).await?;
    let deleted = &told[3];
    assert!(deleted.rest_is_gone && deleted.present.len() > 100 && deleted.deleted.is_empty(), "{deleted:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn openldap_says_where_it_stands_and_only_else_is_everything_asked_for() -> Result<()> {
    // P-10, S-30: the content of a whole directory is a long way to a cookie.
    let hidden = SlapdOptions { access_lines: "access to attrs=contextCSN by * none\n".into(), ..Default::default() };
    for (options, reads_all) in [(SlapdOptions::default(), false), (hidden, true)] {
        let lab = open_ldap(&options)?;
        let sent = || lab.slapd.log().split("nentries=").skip(1).filter_map(first_number).sum::<usize>();
        let before = sent();
        let position = lab.directory.position_now(FeedKind::Syncrepl).await?;
        let entries = sent() - before;
        assert_eq!(entries > 100, reads_all, "{entries} entries");
        assert!(reads_all || entries <= 2, "{entries} entries");
        lab.slapd.modify(&format!("dn: {ANN}\nchangetype: modify\nreplace: mobile\nmobile: +4915155500088\n"))?;
        let told = Told::of(lab.directory.changes(position)).await?;
        assert_eq!(told.changed, BTreeSet::from([id_of(&lab.directory, ANN).await?]), "of all that is there");
    }
    Ok(())
}

fn first_number(text: &str) -> Option<usize> {
    text.split(|sign: char| !sign.is_ascii_digit()).next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn openldap_with_a_session_log_names_who_is_gone() -> Result<()> {
    let options = SlapdOptions { database_lines: "syncprov-sessionlog 1000".into(), ..Default::default() };
    let lab = open_ldap(&options)?;
    let told = a_life(&lab.directory, FeedKind::Syncrepl, |ldif| lab.slapd.modify(ldif)).await?;
    let deleted = &told[3];
    assert!(!deleted.rest_is_gone && deleted.present.is_empty() && deleted.deleted.len() == 1, "{deleted:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn openldap_tells_as_it_happens_and_the_end_of_the_connection_is_an_error() -> Result<()> {
    // S-34
    let mut lab = open_ldap(&SlapdOptions::default())?;
    let position = lab.directory.position_now(FeedKind::Syncrepl).await?;
    let mut following = lab.directory.follow(position);
    loop {
        if let Event::UpToDate { rest_is_gone } = following.next().await? {
            assert!(!rest_is_gone);
            break;
        }
    }
    let ann = id_of(&lab.directory, ANN).await?;
    lab.slapd.modify(&format!("dn: {ANN}\nchangetype: modify\nreplace: mobile\nmobile: +1\n"))?;
    let mut position = None;
    let mut changed = false;
    while !changed || position.is_none() {
        match tokio::time::timeout(Duration::from_secs(30), following.next()).await?? {
            Event::Changed(id) => changed |= id == ann,
            Event::Position(now) if changed => position = Some(now),
            _ => {}
        }
    }
    // Waiting may be given up and taken up again.
    assert!(tokio::time::timeout(Duration::from_millis(100), following.next()).await.is_err());
    lab.slapd.stop();
    assert!(tokio::time::timeout(Duration::from_secs(30), following.next()).await?.is_err());
    lab.slapd.restart()?;
    let since = Told::of(lab.directory.changes(position.context("a position")?)).await?;
    assert!(since.nothing(), "{since:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn four_hundred_objects_are_read_by_id_and_what_is_not_there_is_left_out() -> Result<()> {
    let lab = open_ldap(&SlapdOptions { bulk_people: 400, ..Default::default() })?;
    let position = lab.directory.position_now(FeedKind::Syncrepl).await?;
    let everybody =
        format!("dn: ou=bulk,ou=people,{COMPANY_BASE}\nchangetype: modrdn\nnewrdn: ou=moved\ndeleteoldrdn: 1\n");
    lab.slapd.modify(&everybody)?;
    let told = Told::of(lab.directory.changes(position)).await?;
    // S-16: the container alone is told of
    assert_eq!(told.changed.len(), 1, "{told:?}");
    let mut ids: Vec<ObjectId> = told.present.into_iter().collect();
    ids.push("entryUUID:00000000-0000-0000-0000-000000000001".parse()?);
    let known = ids.len();
    let found = support::read_by_ids(&lab.directory, &ids, &["entryUUID"], false).await?;
    assert!(known > 500 && found.len() == known - 1, "{known} {}", found.len());
    assert!(found.iter().any(|entry| entry.dn_text().is_some_and(|dn| dn.contains("bulk00400,ou=moved"))));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ds389_tells_a_life_by_syncrepl_and_its_present_phase_proves_nothing() -> Result<()> {
    // S-32: it says that it named all that is there, and has named what changed
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let server = Ds389::start(dir.path(), &pki)?;
    let directory = ds389(&server, Ds389::ADMIN_DN, Ds389::ADMIN_PASSWORD)?;
    let told = a_life(&directory, FeedKind::Syncrepl, |ldif| server.modify(ldif)).await?;
    assert!(told.iter().all(|told| !told.rest_is_gone), "{told:?}");
    assert_eq!(told[3].deleted.len(), 1, "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ds389_tells_as_it_happens() -> Result<()> {
    // S-34
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let mut server = Ds389::start(dir.path(), &pki)?;
    let directory = ds389(&server, Ds389::ADMIN_DN, Ds389::ADMIN_PASSWORD)?;
    let position = directory.position_now(FeedKind::Syncrepl).await?;
    let mut following = directory.follow(position);
    let mut next = async || tokio::time::timeout(Duration::from_secs(60), following.next()).await;
    loop {
        if let Event::UpToDate { rest_is_gone } = next().await?? {
            assert!(!rest_is_gone);
            break;
        }
    }
    let (ann, zoe) = (id_of(&directory, ANN).await?, format!("uid=zoe.zuse,ou=people,{COMPANY_BASE}"));
    server.modify(&format!("dn: {ANN}\nchangetype: modify\nreplace: mobile\nmobile: +1\n"))?;
    while next().await?? != Event::Changed(ann.clone()) {}
    server.modify(&format!("dn: {zoe}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: zoe.zuse\ncn: Z\nsn: Z\n"))?;
    let id = id_of(&directory, &zoe).await?;
    while next().await?? != Event::Changed(id.clone()) {}
    server.modify(&format!("dn: {zoe}\nchangetype: delete\n"))?;
    let mut position = None;
    loop {
        match next().await?? {
            Event::Deleted(gone) if gone == id => break,
            Event::Position(now) => position = Some(now),
            _ => {}
        }
    }
    eprintln!("a position on the way: {position:?}");
    server.restart()?;
    loop {
        if next().await?.is_err() {
            return Ok(());
        }
    }
}

fn ds389(server: &Ds389, name: &str, password: &str) -> Result<Directory> {
    let url = server.ldap_url();
    let mut settings = support::settings(&[&url]);
    settings.preset = Preset::Ds389;
    settings.base = COMPANY_BASE.into();
    settings.page_size = 500;
    settings.timeout_seconds = 30;
    settings.query_bind = QueryBind { kind: BindKind::Simple, name: name.into(), password: None };
    Ok(Directory::new(settings, Some(Secret::from(password)), Options::default())?)
}

fn samba(samba: &Samba, name: &str, password: &str) -> Result<Directory> {
    let url = samba.ldaps_url();
    let mut settings = support::settings(&[&url]);
    settings.preset = Preset::ActiveDirectory;
    settings.base = Samba::PEOPLE_DN.into();
    settings.page_size = 100;
    settings.timeout_seconds = 30;
    settings.connect_timeout_seconds = 10;
    settings.danger_clear_text = false;
    settings.ca = Some(std::fs::read_to_string(samba.ca_file())?);
    settings.query_bind = QueryBind { kind: BindKind::Tls, name: name.into(), password: None };
    Ok(Directory::new(settings, Some(Secret::from(password)), Options::default())?)
}

fn offer(offers: &[Offer], kind: FeedKind) -> Result<&Offer> {
    offers.iter().find(|offer| offer.kind == kind).with_context(|| format!("{kind:?} among {offers:?}"))
}

/// What a domain controller tells of somebody's life; whether it tells of the end is for the caller.
async fn a_life_in_a_domain(server: &Samba, directory: &Directory, kind: FeedKind) -> Result<(ObjectId, Told)> {
    let mut position = directory.position_now(kind).await?;
    let mut since = async |what: &str| -> Result<Told> {
        let told = Told::of(directory.changes(position.clone()).watching(&["department"])).await;
        let told = told.with_context(|| what.to_owned())?;
        position = told.position();
        Ok(told)
    };
    let quiet = since("nothing").await?;
    assert!(quiet.changed.len() < 20, "a position is not the beginning: {quiet:?}");
    let name = format!("zoe-{}", kind.code());
    server.add(&name, "Sesame-zoe-1")?;
    let dn = Samba::dn_of(&name);
    let id = id_of(directory, &dn).await?;
    let told = since("added").await?;
    assert!(told.changed.contains(&id), "{told:?}");
    for change in [
        format!("dn: {dn}\nchangetype: modify\nreplace: mobile\nmobile: +4915155500077\n"),
        // S-15
        format!("dn: {dn}\nchangetype: modify\ndelete: mobile\n"),
        // S-22
        format!("dn: {dn}\nchangetype: modify\nreplace: userAccountControl\nuserAccountControl: 514\n"),
        // What no setting speaks of, and who watches does
        format!("dn: {dn}\nchangetype: modify\nreplace: department\ndepartment: IT\n"),
    ] {
        server.modify(&change)?;
        let told = since(&change).await?;
        assert!(told.changed.contains(&id), "{change}: {told:?}");
    }
    let read =
        support::read_by_ids(directory, std::slice::from_ref(&id), &["mobile", "userAccountControl"], true).await?;
    assert_eq!((read.len(), read[0].dn_text(), read[0].first_text("userAccountControl")), (1, Some(&*dn), Some("514")));
    assert!(read[0].values("mobile").is_empty());

    // S-17: members are the group's change
    let group = format!("CN=vpn-users,OU=groups,{}", Samba::BASE);
    server.modify(&format!("dn: {group}\nchangetype: modify\nadd: member\nmember: {dn}\n"))?;
    let group_id = id_of(directory, &group).await?;
    let told = since("a member more").await?;
    assert!(told.changed.contains(&group_id), "{told:?}");
    let read = directory.read_dns(&[group], &["member"], true).await?;
    let members: Vec<_> = read[0].values("member").iter().filter_map(|value| std::str::from_utf8(value).ok()).collect();
    assert!(members.iter().all(|member| member.starts_with("<GUID=")), "{members:?}");
    assert!(members.iter().any(|member| member.ends_with(&format!(";{dn}"))), "{members:?}");

    // S-14: out of the base is no end
    let service = format!("OU=service,{}", Samba::BASE);
    server.modify(&format!(
        "dn: {dn}\nchangetype: modrdn\nnewrdn: CN={name}\ndeleteoldrdn: 1\nnewsuperior: {service}\n"
    ))?;
    let told = since("moved out").await?;
    assert!(told.changed.contains(&id) && !told.deleted.contains(&id), "{told:?}");
    assert!(support::read_by_ids(directory, std::slice::from_ref(&id), &["1.1"], false).await?.is_empty());
    server.modify(&format!("dn: CN={name},{service}\nchangetype: delete\n"))?;
    Ok((id, since("deleted").await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_controller_tells_all_by_dirsync_to_whom_it_lets_and_some_to_others() -> Result<()> {
    // S-10 to S-22, FS-40. Without the right, tombstones are not seen, and the offer says so.
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let server = Samba::start(dir.path(), &pki)?;
    let directory = samba(&server, Samba::QUERY_DN, Samba::QUERY_PASSWORD)?;
    let offers = directory.probe_feeds().await?;
    let offered = offer(&offers, FeedKind::DirSync)?;
    assert!(offered.usable.is_ok() && offered.misses.is_some(), "{offered:?}");
    assert_eq!(offers[0].kind, FeedKind::DirSync);
    let (id, end) = a_life_in_a_domain(&server, &directory, FeedKind::DirSync).await?;
    assert!(!end.changed.contains(&id), "{end:?}");
    eprintln!("without the right: {end:?}");
    let unprivileged = end.position();

    // With the right and no more, Samba still hides them; Windows would not.
    server.allow_replication(Samba::QUERY_DN)?;
    let directory = samba(&server, Samba::QUERY_DN, Samba::QUERY_PASSWORD)?;
    let offers = directory.probe_feeds().await?;
    let offered = offer(&offers, FeedKind::DirSync)?;
    assert!(offered.usable.is_ok() && offered.misses.is_some(), "{offered:?}");
    assert!(offered.misses.as_ref().is_some_and(|it| it.contains("let the query account read")), "{offered:?}");

    let directory = samba(&server, Samba::ADMIN_DN, Samba::ADMIN_PASSWORD)?;
    let offers = directory.probe_feeds().await?;
    let offered = offer(&offers, FeedKind::DirSync)?;
    assert!(offered.usable.is_ok() && offered.misses.is_none(), "{offered:?}");
    let (id, end) = a_life_in_a_domain(&server, &directory, FeedKind::DirSync).await?;
    assert!(end.deleted.contains(&id), "{end:?}");
    // What was not seen before is seen with the right.
    Told::of(directory.changes(unprivileged)).await?;

    // S-21: back from the dead under the same id
    let back = Samba::dn_of("zoe-again");
    server.undelete(id.as_str(), &back)?;
    let told = Told::of(directory.changes(end.position())).await?;
    assert!(told.changed.contains(&id) && !told.deleted.contains(&id), "{told:?}");
    assert_eq!(id_of(&directory, &back).await?, id);

    // A change of an organisational unit is told, and not of who is in it (S-16).
    let position = end.position();
    let people = Samba::PEOPLE_DN;
    server.modify(&format!("dn: {people}\nchangetype: modify\nreplace: description\ndescription: x\n"))?;
    server
        .modify(&format!("dn: OU=groups,{}\nchangetype: modrdn\nnewrdn: OU=teams\ndeleteoldrdn: 1\n", Samba::BASE))?;
    let unit = id_of(&directory, &format!("OU=teams,{}", Samba::BASE)).await?;
    let told = Told::of(directory.changes(position.clone())).await?;
    assert!(told.changed.contains(&unit), "{told:?}");

    // A cookie of nobody (S-20), and one of another domain.
    let spoilt = |change: &dyn Fn(&mut serde_json::Value)| -> Result<Position> {
        let mut json = serde_json::to_value(&position)?;
        change(&mut json);
        Ok(serde_json::from_value(json)?)
    };
    for (what, position, expected) in [
        ("garbage", spoilt(&|json| json["cookie"] = "Z2FyYmFnZQ==".into())?, None),
        ("another domain", spoilt(&|json| json["domain"] = "00".into())?, Some(FullRead::OtherDirectory)),
        ("long ago", spoilt(&|json| json["at"] = 1.into())?, Some(FullRead::TooLongAgo)),
        ("another base", spoilt(&|json| json["base"] = "DC=lab,DC=test".into())?, Some(FullRead::OtherBase)),
    ] {
        let end = Told::of(directory.changes(position)).await.expect_err(what);
        let end = end.downcast::<FeedError>()?;
        eprintln!("{what}: {end}");
        let FeedError::FullRead(why) = end else { bail!("{what}: {end:?}") };
        assert!(expected.is_none_or(|expected| expected == why), "{what}: {why}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_controller_tells_by_its_numbers_and_a_restored_one_is_found_out() -> Result<()> {
    // S-25, S-26, FS-41
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let server = Samba::start(dir.path(), &pki)?;
    let directory = samba(&server, Samba::QUERY_DN, Samba::QUERY_PASSWORD)?;
    let offers = directory.probe_feeds().await?;
    let offered = offer(&offers, FeedKind::UsnChanged)?;
    assert!(offered.usable.is_ok() && offered.misses.is_some(), "{offered:?}");
    let (id, end) = a_life_in_a_domain(&server, &directory, FeedKind::UsnChanged).await?;
    assert!(!end.changed.contains(&id));
    eprintln!("an ordinary account: {offered:?} {end:?}");

    let directory = samba(&server, Samba::ADMIN_DN, Samba::ADMIN_PASSWORD)?;
    let (id, end) = a_life_in_a_domain(&server, &directory, FeedKind::UsnChanged).await?;
    assert!(end.deleted.contains(&id), "{end:?}");
    let json = serde_json::to_value(end.position())?;
    for (key, value, expected) in [
        ("invocation", serde_json::Value::from("00"), FullRead::SetBack),
        ("usn", 1_000_000_000.into(), FullRead::SetBack),
        ("dc", "CN=other".into(), FullRead::OtherServer),
        ("at", 1.into(), FullRead::TooLongAgo),
    ] {
        let mut json = json.clone();
        json[key] = value;
        let end = Told::of(directory.changes(serde_json::from_value(json)?)).await.expect_err(key);
        assert!(matches!(end.downcast::<FeedError>()?, FeedError::FullRead(why) if why == expected), "{key}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn openldap_tells_a_life_by_its_access_log_until_that_was_purged() -> Result<()> {
    // S-38, FS-44
    let lab = open_ldap(&SlapdOptions { access_log: true, ..Default::default() })?;
    let offers = lab.directory.probe_feeds().await?;
    eprintln!("{offers:?}");
    assert!(offer(&offers, FeedKind::AccessLog)?.usable.is_ok());
    let told = a_life(&lab.directory, FeedKind::AccessLog, |ldif| lab.slapd.modify(ldif)).await?;
    let deleted = &told[3];
    assert_eq!(deleted.deleted.len(), 1, "{deleted:?}");
    let mut json = serde_json::to_value(deleted.position())?;
    json["start"] = "20200101000000.000000Z".into();
    let end = Told::of(lab.directory.changes(serde_json::from_value(json)?)).await.expect_err("purged since");
    assert!(matches!(end.downcast::<FeedError>()?, FeedError::FullRead(FullRead::Purged)));

    // Where the account may not read the log, the offer says so.
    let lab = open_ldap(&SlapdOptions::default())?;
    let offers = lab.directory.probe_feeds().await?;
    assert!(offer(&offers, FeedKind::AccessLog).is_err());
    assert_eq!(offers[0].kind, FeedKind::Syncrepl);
    assert!(offers[0].persists && offers[0].misses.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn openldap_and_389_tell_all_but_the_end_by_their_clock() -> Result<()> {
    // S-39, FS-45
    let lab = open_ldap(&SlapdOptions::default())?;
    assert!(offer(&lab.directory.probe_feeds().await?, FeedKind::ModifyTimestamp)?.usable.is_ok());
    let told = a_life(&lab.directory, FeedKind::ModifyTimestamp, |ldif| lab.slapd.modify(ldif)).await?;
    assert!(told[3].deleted.is_empty() && !told[3].rest_is_gone);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ds389_tells_a_life_by_its_changelog_with_ids_and_without() -> Result<()> {
    // S-37, FS-43
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let mut server = Ds389::start(dir.path(), &pki)?;
    let directory = ds389(&server, Ds389::ADMIN_DN, Ds389::ADMIN_PASSWORD)?;
    let told = a_life(&directory, FeedKind::Changelog, |ldif| server.modify(ldif)).await?;
    assert_eq!(told[3].deleted.len(), 1, "{told:?}");
    let offers = directory.probe_feeds().await?;
    eprintln!("administrator: {offers:?}");
    assert!(offer(&offers, FeedKind::Changelog)?.usable.is_ok() && offer(&offers, FeedKind::Syncrepl)?.usable.is_ok());
    let position = told[3].position();
    let moved = |key: &str, value: serde_json::Value| -> Result<Position> {
        let mut json = serde_json::to_value(&position)?;
        json[key] = value;
        Ok(serde_json::from_value(json)?)
    };
    let end = Told::of(directory.changes(moved("number", 1_000_000.into())?)).await.expect_err("not there yet");
    assert!(matches!(end.downcast::<FeedError>()?, FeedError::FullRead(FullRead::SetBack)));
    let end = Told::of(directory.changes(moved("server", "ldap://other:389".into())?)).await.expect_err("another's");
    assert!(matches!(end.downcast::<FeedError>()?, FeedError::FullRead(FullRead::OtherServer)));

    // An ordinary account, that may not see the log and then may.
    let directory = ds389(&server, lab::Slapd::QUERY_DN, lab::Slapd::QUERY_PASSWORD)?;
    let offers = directory.probe_feeds().await?;
    eprintln!("ordinary: {offers:?}");
    assert!(
        offer(&offers, FeedKind::Changelog)?.usable.is_err() && offer(&offers, FeedKind::Syncrepl)?.usable.is_err()
    );
    assert!(offer(&offers, FeedKind::ModifyTimestamp)?.usable.is_ok());
    assert!(matches!(directory.position_now(FeedKind::Changelog).await, Err(FeedError::NotAllowed { .. })));

    // Without ids in the log, what is there is found by name; content synchronisation would be silent.
    server.modify(
        "dn: cn=Retro Changelog Plugin,cn=plugins,cn=config\nchangetype: modify\ndelete: nsslapd-attribute\n",
    )?;
    server.restart()?;
    let directory = ds389(&server, Ds389::ADMIN_DN, Ds389::ADMIN_PASSWORD)?;
    let later = a_life(&directory, FeedKind::Changelog, |ldif| server.modify(ldif)).await?;
    assert_eq!(
        later[3].deleted, told[3].deleted,
        "the one from before is read again, and no other is known: {later:?}"
    );
    let offers = directory.probe_feeds().await?;
    eprintln!("without ids: {offers:?}");
    assert!(offer(&offers, FeedKind::Syncrepl)?.usable.is_err());
    let misses = offer(&offers, FeedKind::Changelog)?.misses.as_ref().context("it says so")?;
    assert!(misses.contains("deleted"), "{misses}");
    Ok(())
}
