//! Settings tried out before they are saved (FD-11), on real servers.

mod support;

use anyhow::{Context, Result};
use directory::inspect::{About, Authentication, Inspection, Judgement, Line, Paging, Trial};
use directory::{BindError, Directory, FeedKind, Options, TypedName};
use domain::identity::IdType;
use domain::settings::{BindKind, Preset, QueryBind};
use domain::{NameForm, Reason, Secret};
use lab::{COMPANY_BASE, Pki, Samba, Slapd, SlapdOptions, password_of};
use ldap_wire::{Filter, Op};
use support::{Do, Fake, done, person, search_of};
use tempfile::TempDir;

struct Lab {
    slapd: Slapd,
    settings: domain::settings::Directory,
    _dir: TempDir,
}

fn lab(options: &SlapdOptions) -> Result<Lab> {
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let slapd = Slapd::start(dir.path(), &pki, options)?;
    let mut settings = support::settings(&[&slapd.ldaps_url()]);
    settings.base = COMPANY_BASE.into();
    settings.netbios_domain = "ACME".into();
    settings.page_size = 50;
    settings.timeout_seconds = 10;
    settings.ca = Some(std::fs::read_to_string(pki.ca_file())?);
    settings.query_bind = QueryBind { kind: BindKind::Tls, name: Slapd::QUERY_DN.into(), password: None };
    settings.authentication_bind.kind = BindKind::Tls;
    Ok(Lab { slapd, settings, _dir: dir })
}

fn named(name: &str, password: Option<&str>) -> Trial {
    Trial { name: Some(name.into()), password: password.map(Secret::from), synchronisation: None }
}

fn judged(inspection: &Inspection, about: About) -> Judgement {
    let lines = inspection.lines();
    lines.iter().filter(|line| line.about == about).map(|line| line.verdict).max().expect("a line about it")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_directory_is_told_from_its_servers_to_one_user_as_mapped() -> Result<()> {
    let lab = lab(&SlapdOptions { bulk_people: 100, ..Default::default() })?;
    let directory = Directory::draft(lab.settings.clone(), Some(Secret::from(Slapd::QUERY_PASSWORD)))?;
    let password = password_of("ann.archer");
    let inspection = directory.inspect(&named("ACME\\Ann.Archer", Some(&password))).await;
    for line in inspection.lines() {
        eprintln!("{:?} {}", line.verdict, line.text);
    }
    assert!(inspection.is_good(), "{inspection:?}");
    let findings = inspection.findings.as_ref().context("a server is good")?;
    assert_eq!((findings.users.entries, findings.users.end.is_ok()), (220, true));
    assert!(findings.groups.entries > 0 && findings.containers.entries > 0);
    assert_eq!(findings.paging.as_ref().ok(), Some(&Paging::Pages));
    let offers = findings.feeds.as_ref().ok().context("feeds")?;
    assert_eq!((offers[0].kind, offers[0].usable.is_ok()), (FeedKind::Syncrepl, true));
    let user = findings.user.as_ref().ok().context("a user")?;
    assert_eq!(user.form, Some(NameForm::Netbios));
    let value = |field: &str| user.values.iter().find(|it| it.field == field).map(|it| it.values.concat());
    assert_eq!(value("username").as_deref(), Some("ann.archer"));
    assert_eq!(value("first_name").as_deref(), Some("Ann"));
    assert!(value("phones.mobile").is_some());
    assert!(matches!(findings.authentication, Authentication::Accepted));
    assert_eq!(lab.slapd.binds("ann.archer"), 1);

    // Without a name the first user is shown, and nobody's password is tried.
    let inspection = directory.inspect(&Trial::default()).await;
    let findings = inspection.findings.as_ref().context("a server is good")?;
    assert!(findings.user.is_ok() && matches!(findings.authentication, Authentication::Reachable));
    assert_eq!(lab.slapd.binds("ann.archer"), 1);

    let inspection = directory.inspect(&named("ann.archer", Some("wrong"))).await;
    let findings = inspection.findings.as_ref().context("a server is good")?;
    assert!(matches!(findings.authentication, Authentication::Refused(BindError::Refused { .. })));
    assert_eq!(judged(&inspection, About::Authentication), Judgement::Bad);
    let inspection = directory.inspect(&named("nobody", Some("x"))).await;
    assert_eq!((judged(&inspection, About::User), inspection.is_good()), (Judgement::Bad, false));
    assert!(matches!(inspection.findings.context("a server is good")?.authentication, Authentication::NoUser));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_the_settings_leave_open_is_the_only_one_of_the_server() -> Result<()> {
    // FD-05
    let mut one = lab(&SlapdOptions::default())?;
    one.settings.base = String::new();
    let inspection = Directory::draft(one.settings.clone(), Some(Secret::from(Slapd::QUERY_PASSWORD)))?
        .inspect(&named("ann.archer", None))
        .await;
    let lines = inspection.lines();
    assert!(inspection.is_good(), "{lines:?}");
    assert!(lines[0].text.contains(&format!("base {COMPANY_BASE:?} taken from its root DSE")), "{}", lines[0].text);
    // What a domain of the base is, is known before anybody is looked for by it.
    let password = Some(Secret::from(Slapd::QUERY_PASSWORD));
    let directory = Directory::new(one.settings.clone(), password, Options::default())?;
    for (name, found) in [("acme.example\\ann.archer", true), ("other.example\\ann.archer", false)] {
        let entry = directory.resolve(&TypedName::parse(name, &one.settings)?).await;
        assert_eq!(entry.is_ok(), found, "{name}: {entry:?}");
    }
    assert_eq!(
        (directory.settings().base.as_str(), directory.base().to_string().as_str()),
        (COMPANY_BASE, COMPANY_BASE)
    );

    let mut two = lab(&SlapdOptions { access_log: true, ..Default::default() })?;
    two.settings.base = String::new();
    let directory = Directory::draft(two.settings.clone(), Some(Secret::from(Slapd::QUERY_PASSWORD)))?;
    let inspection = directory.inspect(&Trial::default()).await;
    let text = inspection.lines().swap_remove(0).text;
    assert!(inspection.findings.is_none(), "nothing is searched at a guess");
    assert!(text.ends_with(&format!("has 2 naming contexts: cn=accesslog and {COMPANY_BASE}; set base.")), "{text}");
    let name = TypedName::parse("ann.archer", &two.settings)?;
    let error = directory.resolve(&name).await.err().context("no base")?;
    assert!(error.is_unavailable() && error.reason() == Reason::DirectoryError, "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_query_bind_is_tried_once_and_on_no_other_server() -> Result<()> {
    let lab = lab(&SlapdOptions::default())?;
    let mut settings = lab.settings.clone();
    settings.urls.push(lab.slapd.ldap_url());
    let directory = Directory::draft(settings, Some(Secret::from("wrong")))?;
    let inspection = directory.inspect(&Trial::default()).await;
    assert!(inspection.findings.is_none() && inspection.servers.len() == 1 && !inspection.is_good());
    tokio::time::sleep(std::time::Duration::from_millis(500)).await; // nothing goes on behind it
    assert_eq!(lab.slapd.binds("cn=twinlock"), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_synchronisation_is_tried_with_its_own_password_and_its_own_rights() -> Result<()> {
    // FD-09
    let lab = lab(&SlapdOptions { size_limit: 30, ..Default::default() })?;
    let mut settings = lab.settings.clone();
    settings.sync_bind = Some(QueryBind { kind: BindKind::Tls, name: Slapd::ADMIN_DN.into(), password: None });
    let directory = Directory::draft(settings.clone(), Some(Secret::from(Slapd::QUERY_PASSWORD)))?;
    let untried = directory.inspect(&Trial::default()).await;
    assert_eq!(judged(&untried, About::Synchronisation), Judgement::Doubtful);
    for (password, good) in [(Slapd::ADMIN_PASSWORD, true), ("wrong", false)] {
        let synchronisation = Some(Directory::draft(settings.as_synchronised(), Some(Secret::from(password)))?);
        let inspection = directory.inspect(&Trial { synchronisation, ..Trial::default() }).await;
        assert_eq!(judged(&inspection, About::Synchronisation) == Judgement::Good, good, "{:?}", inspection.lines());
        assert!(good || !inspection.is_good());
        // The limit is the other account's.
        let offers = inspection.findings.context("a server is good")?.feeds?;
        let syncrepl = offers.iter().find(|offer| offer.kind == FeedKind::Syncrepl).context("it has it")?;
        assert_eq!(syncrepl.usable.is_ok(), good, "{syncrepl:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_a_base_without_users_are_found_before_they_hurt() -> Result<()> {
    // S-41
    let lab = lab(&SlapdOptions { size_limit: 30, ..Default::default() })?;
    let draft = |settings| Directory::draft(settings, Some(Secret::from(Slapd::QUERY_PASSWORD)));
    let inspection = draft(lab.settings.clone())?.inspect(&Trial::default()).await;
    let findings = inspection.findings.as_ref().context("a server is good")?;
    let offers = findings.feeds.as_ref().ok().context("feeds")?;
    let syncrepl = offers.iter().find(|offer| offer.kind == FeedKind::Syncrepl).context("it has it")?;
    assert!(syncrepl.usable.as_ref().is_err_and(|why| why.contains("limit")), "{syncrepl:?}");
    let mut settings = lab.settings.clone();
    settings.user_filter = "(objectClass=device)".into();
    let inspection = draft(settings)?.inspect(&Trial::default()).await;
    assert_eq!(
        (judged(&inspection, About::Users), judged(&inspection, About::User)),
        (Judgement::Bad, Judgement::Doubtful)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sends_no_pages_is_told_of() {
    let fake = Fake::start(|message, _| match message.op() {
        ldap_wire::Op::SearchRequest => {
            let id = message.id();
            let people: Vec<Do> = (1..=3).map(|number| person(id, "a", number)).collect();
            let root = search_of(message).is_root_dse();
            if root { vec![person(id, "", 1), done(id, 0)] } else { people.into_iter().chain([done(id, 0)]).collect() }
        }
        _ => vec![],
    })
    .await;
    let directory = Directory::draft(support::settings(&[&fake.url]), None).expect("good settings");
    let inspection = directory.inspect(&Trial::default()).await;
    let findings = inspection.findings.as_ref().expect("it is good");
    assert_eq!(findings.paging.as_ref().ok(), Some(&Paging::Ignores));
    assert_eq!(judged(&inspection, About::Paging), Judgement::Doubtful);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_is_told_with_the_rights_of_the_account() -> Result<()> {
    // S-13
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let server = Samba::start(dir.path(), &pki)?;
    let mut settings = support::settings(&[&server.ldaps_url()]);
    settings.preset = Preset::ActiveDirectory;
    settings.base = String::new(); // FD-05: its defaultNamingContext, one of five
    settings.page_size = 100;
    settings.timeout_seconds = 30;
    settings.connect_timeout_seconds = 10;
    settings.ca = Some(std::fs::read_to_string(server.ca_file())?);
    settings.query_bind = QueryBind { kind: BindKind::Tls, name: Samba::QUERY_DN.into(), password: None };
    settings.authentication_bind.kind = BindKind::Tls;
    let directory = Directory::draft(settings, Some(Secret::from(Samba::QUERY_PASSWORD)))?;
    let password = password_of("jörg.groß");
    let inspection = directory.inspect(&named("jörg.groß@lab.test", Some(&password))).await;
    for line in inspection.lines() {
        eprintln!("{:?} {}", line.verdict, line.text);
    }
    assert!(inspection.is_good(), "{inspection:?}");
    let findings = inspection.findings.context("a server is good")?;
    assert_eq!(directory.settings().base, Samba::BASE);
    assert!(findings.users.entries > 10 && matches!(findings.authentication, Authentication::Accepted));
    let offers = findings.feeds.ok().context("feeds")?;
    assert_eq!((offers[0].kind, offers[0].misses.is_some()), (FeedKind::DirSync, true));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_that_the_schema_does_not_have_is_named() -> Result<()> {
    // FD-17
    let mut lab = lab(&SlapdOptions::default())?;
    let unknown = async |settings: &domain::settings::Directory| -> Result<Vec<String>> {
        let directory = Directory::draft(settings.clone(), Some(Secret::from(Slapd::QUERY_PASSWORD)))?;
        let inspection = directory.inspect(&Trial::default()).await;
        let lines = inspection.lines().into_iter().filter(|line| line.about == About::Attributes);
        Ok(lines.map(|line| line.text).collect())
    };
    assert_eq!(unknown(&lab.settings).await?, [""; 0], "the preset's are all there");
    lab.settings.attributes.mail = Some("mial".into());
    lab.settings.attributes.user_group = Some("L;lang-de".into());
    lab.settings.attributes.first_name = Some("2.5.4.42".into());
    let found = unknown(&lab.settings).await?;
    assert!(
        found.len() == 1 && found[0].starts_with("attributes.mail: ") && found[0].contains("\"mial\""),
        "{found:?}"
    );
    // FD-30 to FD-41: each of several
    lab.settings.attributes.mail = Some("mail;othrMailbox".into());
    let found = unknown(&lab.settings).await?;
    assert!(found.len() == 1 && found[0].contains("\"othrMailbox\""), "{found:?}");
    lab.settings.attributes.mail = None;
    lab.settings.attributes.distinguished_name = Some("entyDN".into());
    lab.settings.attributes.group_name = Some("nc".into());
    let found = unknown(&lab.settings).await?;
    for (key, attribute) in [("distinguished_name", "\"entyDN\""), ("group_name", "\"nc\"")] {
        let named = |line: &String| line.starts_with(&format!("attributes.{key}: ")) && line.contains(attribute);
        assert!(found.iter().any(named), "{found:?} lacks {key}");
    }
    Ok(())
}

#[tokio::test]
async fn a_global_catalogue_is_said_to_be_none_whatever_it_answers() -> Result<()> {
    // S-53
    let fake = Fake::start(|message, _| support::alice(message)).await;
    let mut settings = support::settings(&[&fake.url]);
    settings.preset = Preset::ActiveDirectory;
    let told = async |settings: domain::settings::Directory| -> Result<Vec<Line>> {
        let lines = Directory::draft(settings, None)?.inspect(&Trial::default()).await.lines().into_iter();
        Ok(lines.filter(|line| line.text.contains("global catalogue")).collect())
    };
    assert_eq!(told(settings.clone()).await?, []);
    settings.urls.push("ldap://127.0.0.1:3268".into());
    let lines = told(settings).await?;
    assert!(lines.len() == 1 && lines[0].verdict == Judgement::Bad, "{lines:?}");
    assert!(lines[0].text.starts_with("\"ldap://127.0.0.1:3268\" is the port of"), "{lines:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_does_not_lead_back_to_its_entry_is_no_id() -> Result<()> {
    // FD-31
    for (again, good) in [(vec!["alice"], true), (vec!["bob"], false), (vec![], false), (vec!["alice", "bob"], false)] {
        let fake = Fake::start(move |message, _| match message.op() {
            Op::SearchRequest => {
                let filter = Filter::from_ber(&search_of(message).filter).expect("sound").to_string();
                let by_id = filter.starts_with("(entryUUID=");
                let people = if by_id { again.as_slice() } else { &["alice"] };
                let entries = people.iter().map(|uid| person(message.id(), uid, 7));
                entries.chain([done(message.id(), 0)]).collect()
            }
            _ => vec![],
        })
        .await;
        let inspection = Directory::draft(support::settings(&[&fake.url]), None)?.inspect(&Trial::default()).await;
        let line = inspection.lines().into_iter().find(|line| line.about == About::User).context("a user")?;
        assert_eq!(line.verdict == Judgement::Good, good, "{}", line.text);
        assert!(good || line.text.contains("set attributes.id"), "{}", line.text);
    }
    Ok(())
}

/// The id that the test of the settings reads back, or what it says instead; and whom the name leads to.
async fn tried(
    settings: &domain::settings::Directory,
    password: &str,
    name: &str,
) -> Result<(Result<String, String>, Result<String, Reason>)> {
    let directory = Directory::new(settings.clone(), Some(Secret::from(password)), Options::default())?;
    let inspection = directory.inspect(&named(name, None)).await;
    let findings = inspection.findings.context("a server is good")?;
    let read_back = findings.user.map(|user| user.id.to_string()).map_err(|error| error.to_string());
    let entry = directory.resolve(&TypedName::parse(name, settings)?).await;
    if let Ok(entry) = &entry {
        let again = directory.resolve(&TypedName::of_id(&entry.subject.id)).await?;
        assert_eq!((&again.subject, &again.dn), (&entry.subject, &entry.dn), "an id leads back");
    }
    Ok((read_back, entry.map(|entry| entry.subject.id.to_string()).map_err(|error| error.reason())))
}

fn of_type(settings: &domain::settings::Directory, attribute: &str, id_type: IdType) -> domain::settings::Directory {
    let mut settings = settings.clone();
    settings.attributes.id = Some(attribute.into());
    settings.attributes.id_type = Some(id_type);
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_openldap_is_text_octets_or_a_guid_of_any_attribute() -> Result<()> {
    // FD-30, FD-31
    const ANN: &str = "uid=ann.archer,ou=engineering,ou=people,dc=acme,dc=example";
    const BEN: &str = "uid=ben.hale,ou=sales,ou=people,dc=acme,dc=example";
    let lab = lab(&SlapdOptions::default())?;
    let add = |dn: &str, token: &str| {
        lab.slapd.modify(&format!(
            "dn: {dn}\nchangetype: modify\nadd: objectClass\nobjectClass: labTokenHolder\n-\nadd: labToken\nlabToken:: {token}\n"
        ))
    };
    let same = |found: (Result<String, String>, Result<String, Reason>), id: &str| {
        assert_eq!(found, (Ok(id.to_owned()), Ok(id.to_owned())));
    };
    let number = of_type(&lab.settings, "employeeNumber", IdType::String);
    let ann = async |settings: domain::settings::Directory| tried(&settings, Slapd::QUERY_PASSWORD, "ann.archer").await;
    same(ann(number.clone()).await?, "employeenumber:string:1000");
    add(ANN, "QS3/ACw=")?;
    same(ann(of_type(&lab.settings, "labToken", IdType::ByteArray)).await?, r"labtoken:byte_array:A-\ff\00\2c");
    // Octets of another type are no id, and nobody gets in by them.
    for (id_type, why) in [(IdType::Guid, "a labToken has 16 octets"), (IdType::String, "labToken is no valid id")] {
        let (read_back, entry) = ann(of_type(&lab.settings, "labToken", id_type)).await?;
        assert!(read_back.is_err() && entry == Err(Reason::DirectoryError), "{why}: {read_back:?} {entry:?}");
    }
    add(BEN, "AAECAwQFBgcICQoLDA0ODw==")?;
    let ben = tried(&of_type(&lab.settings, "labToken", IdType::Guid), Slapd::QUERY_PASSWORD, "ben.hale").await?;
    same(ben, "labtoken:guid:03020100-0504-0706-0809-0a0b0c0d0e0f");

    // Neither groups nor containers nor the base have one, and people do.
    let draft = Directory::draft(number.clone(), Some(Secret::from(Slapd::QUERY_PASSWORD)))?;
    let lines = draft.inspect(&Trial::default()).await.lines();
    for (about, what) in [
        (About::Groups, "The group: \"cn="),
        (About::Containers, "The container: "),
        (About::Attributes, "The base: \"dc=acme,dc=example\""),
    ] {
        let told = |line: &&Line| line.about == about && line.text.contains(what);
        let line = lines.iter().find(told).with_context(|| format!("{lines:?} lacks {what}"))?;
        assert!(line.verdict == Judgement::Doubtful && line.text.contains("has no employeeNumber"), "{}", line.text);
    }
    let usual = Directory::draft(lab.settings.clone(), Some(Secret::from(Slapd::QUERY_PASSWORD)))?;
    let lines = usual.inspect(&Trial::default()).await.lines();
    assert!(lines.iter().all(|line| !line.text.starts_with("The base")), "the server's own ids are there: {lines:?}");

    // A number that two have is that of neither.
    lab.slapd.modify(&format!("dn: {BEN}\nchangetype: modify\nreplace: employeeNumber\nemployeeNumber: 1000\n"))?;
    for name in ["ann.archer", "ben.hale", ANN] {
        let (read_back, entry) = tried(&number, Slapd::QUERY_PASSWORD, name).await?;
        assert!(read_back.is_err() && entry == Err(Reason::AmbiguousUser), "{name}: {read_back:?} {entry:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_a_domain_is_text_octets_or_a_guid_of_any_attribute() -> Result<()> {
    // FD-30, FD-31
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let server = Samba::start(dir.path(), &pki)?;
    let mut settings = support::settings(&[&server.ldaps_url()]);
    settings.preset = Preset::ActiveDirectory;
    settings.base = Samba::BASE.into();
    settings.timeout_seconds = 30;
    settings.connect_timeout_seconds = 10;
    settings.ca = Some(std::fs::read_to_string(server.ca_file())?);
    settings.query_bind = QueryBind { kind: BindKind::Tls, name: Samba::QUERY_DN.into(), password: None };
    settings.authentication_bind.kind = BindKind::Tls;
    server.add("typed", &password_of("typed"))?;
    let dn = Samba::dn_of("typed");
    server.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: employeeID\nemployeeID: L 0042\n-\nreplace: mS-DS-ConsistencyGuid\n\
         mS-DS-ConsistencyGuid:: AAECAwQFBgcICQoLDA0ODw==\n"
    ))?;
    for (attribute, id_type, id) in [
        ("employeeID", IdType::String, r"employeeid:string:L\200042"),
        ("mS-DS-ConsistencyGuid", IdType::Guid, "ms-ds-consistencyguid:guid:03020100-0504-0706-0809-0a0b0c0d0e0f"),
        (
            "mS-DS-ConsistencyGuid",
            IdType::ByteArray,
            r"ms-ds-consistencyguid:byte_array:\00\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\0e\0f",
        ),
    ] {
        let found = tried(&of_type(&settings, attribute, id_type), Samba::QUERY_PASSWORD, "typed").await?;
        assert_eq!(found, (Ok(id.to_owned()), Ok(id.to_owned())));
    }
    Ok(())
}
