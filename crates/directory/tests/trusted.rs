//! Names of other domains (FD-02, FD-18, L-20): found in the directory, looked up where they belong, silent ones beside others. First
//! with scripted servers, then with two forests of Samba that trust each other.

mod support;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use directory::inspect::{About, Judgement, Trial};
use directory::{Directories, Directory, Entry, NameError, NotUsed, Options, ResolveError, TypedName};
use domain::settings::{self, BindKind, Preset, QueryBind, TrustedServers};
use domain::{NameForm, ObjectName, Reason, Secret};
use lab::{OtherForest, Pki, Samba, password_of};
use ldap_wire::{Attribute, Filter, Framer, Limits, Message, MessageId, Op, Peer, SearchResultEntry};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Do, Fake, bind_response, done, search_of};

const HOME: &str = "DC=corp,DC=example";
const CHILD: &str = "DC=child,DC=corp,DC=example";

fn sends(id: MessageId, dn: &str, attributes: &[(&str, &str)]) -> Do {
    let value = |text: &str| match text.strip_prefix("guid ") {
        Some(number) => Bytes::from(vec![number.parse().expect("a number"); 16]),
        None => Bytes::copy_from_slice(text.as_bytes()),
    };
    let attributes = attributes.iter().map(|(name, text)| Attribute::new(*name, vec![value(text)])).collect();
    Do::Send(SearchResultEntry { dn: dn.to_owned().into(), attributes }.encode(id, &[]))
}

/// A domain controller of `base`, in whose domain are these people by account, each with the number its id is made of.
fn controller(
    base: &'static str,
    people: &'static [(&'static str, &'static str)],
) -> impl Fn(&Message, usize) -> Vec<Do> + Send + Sync + 'static {
    move |message, _| {
        let id = message.id();
        match message.op() {
            Op::BindRequest => vec![bind_response(id, 0)],
            Op::SearchRequest => {
                let search = search_of(message);
                let at = String::from_utf8_lossy(&search.base).to_ascii_lowercase();
                let asks_for = |attribute: &str, value: &[u8]| {
                    let octets = [attribute.as_bytes(), &[0x04, value.len() as u8], value].concat();
                    search.filter.windows(octets.len()).any(|part| part == octets)
                };
                let mut answer = match at.as_str() {
                    "" => vec![sends(
                        id,
                        "",
                        &[
                            ("defaultNamingContext", base),
                            ("configurationNamingContext", "CN=Configuration,DC=corp,DC=example"),
                        ],
                    )],
                    "cn=partitions,cn=configuration,dc=corp,dc=example" => partitions(id, base),
                    "cn=system,dc=corp,dc=example" => trusts(id),
                    at if at.starts_with("cn=system,") => vec![of_every_system(id)],
                    "cn=twinlock,dc=corp,dc=example" => vec![sends(id, HOME, &[("sAMAccountName", "twinlock")])],
                    _ => {
                        let named = |name: &str| {
                            asks_for("sAMAccountName", name.as_bytes()) || at.starts_with(&format!("cn={name},"))
                        };
                        let of = |(name, number): &(&str, &str)| {
                            let dn = format!("CN={name},{base}");
                            sends(id, &dn, &[("objectGUID", number), ("sAMAccountName", name)])
                        };
                        let found = people.iter().filter(|(name, number)| {
                            let id = number.strip_prefix("guid ").and_then(|number| number.parse::<u8>().ok());
                            named(name) || id.is_some_and(|id| asks_for("objectGUID", &[id; 16]))
                        });
                        found.map(of).collect()
                    }
                };
                answer.push(done(id, 0));
                answer
            }
            _ => vec![],
        }
    }
}

/// As `base` sees them: its own is among them.
fn partitions(id: MessageId, base: &str) -> Vec<Do> {
    let own = Some(("OWN", base, "3")).filter(|_| ![HOME, CHILD].contains(&base));
    [("CORP", HOME, "3"), ("CHILD", CHILD, "3"), ("SCHEMA", "CN=Configuration,DC=corp,DC=example", "1")]
        .into_iter()
        .chain(own)
        .map(|(name, context, flags)| {
            let dn = format!("CN={name},CN=Partitions,CN=Configuration,{HOME}");
            sends(id, &dn, &[("nCName", context), ("nETBIOSName", name), ("systemFlags", flags)])
        })
        .collect()
}

fn trusts(id: MessageId) -> Vec<Do> {
    [("silent.test", "SILENT", "3"), ("oneway.test", "ONEWAY", "2"), ("stranger.test", "STRANGER", "1")]
        .into_iter()
        .map(|(partner, name, direction)| {
            let dn = format!("CN={partner},CN=System,{HOME}");
            let of = [("trustPartner", partner), ("flatName", name), ("trustDirection", direction)];
            let is = [("objectClass", "trustedDomain"), ("trustType", "2"), ("trustAttributes", "8")];
            sends(id, &dn, &[of.as_slice(), &is].concat())
        })
        .chain([of_every_system(id)])
        .collect()
}

const RID_MANAGER: &str = "CN=RID Manager$,CN=System,DC=corp,DC=example";

fn of_every_system(id: MessageId) -> Do {
    sends(id, RID_MANAGER, &[("objectClass", "rIDManager")])
}

/// Accepts, and says nothing.
async fn silent() -> Fake {
    Fake::start(|_, _| vec![Do::Hang]).await
}

struct Forest {
    home: Fake,
    child: Fake,
    silent: Fake,
    settings: settings::Directory,
}

impl Forest {
    async fn start() -> Self {
        let home = Fake::start(controller(HOME, &[("alice", "guid 1"), ("carol", "guid 3")])).await;
        let child = Fake::start(controller(CHILD, &[("alice", "guid 17"), ("bob", "guid 18")])).await;
        let silent = silent().await;
        let mut settings = support::settings(&[&home.url]);
        (settings.preset, settings.base, settings.trusted_domains) = (Preset::ActiveDirectory, HOME.into(), None);
        let name = format!("CN=twinlock,{HOME}");
        settings.query_bind = QueryBind { kind: BindKind::Simple, name, password: None };
        for (domain, url) in [("child.corp.example", &child.url), ("silent.test", &silent.url)] {
            settings.trusted.insert(domain.into(), TrustedServers { urls: vec![url.clone()] });
        }
        Self { home, child, silent, settings }
    }
}

fn made(all: impl IntoIterator<Item = settings::Directory>) -> (Directories, Arc<Directory>) {
    let directories = Directories::new(Options { query_connections: 1, ..Options::default() });
    let with_password = all.into_iter().map(|settings| (settings, Some(Secret::from("query"))));
    let _ = directories.replace(with_password.collect::<Vec<_>>());
    let home = directories.named("corp").expect("good settings");
    (directories, home)
}

async fn who(
    directories: &Directories,
    home: &Arc<Directory>,
    name: &str,
) -> Result<(Arc<Directory>, Entry), ResolveError> {
    directories.resolve(home, &TypedName::parse(name, home.settings())?).await
}

#[tokio::test]
async fn a_name_of_another_domain_is_looked_up_there_and_a_bare_one_at_home() {
    // FD-02, FD-18, L-20
    let forest = Forest::start().await;
    let (directories, home) = made([forest.settings.clone()]);
    for (name, dn) in [
        (r"CHILD\alice", "CN=alice,DC=child,DC=corp,DC=example"),
        (r"child\ALICE", "CN=alice,DC=child,DC=corp,DC=example"),
        ("CHILD/bob", "CN=bob,DC=child,DC=corp,DC=example"),
        (r"child.corp.example\bob", "CN=bob,DC=child,DC=corp,DC=example"),
        ("bob@Child.Corp.Example", "CN=bob,DC=child,DC=corp,DC=example"),
        ("cn=bob,dc=child,dc=corp,dc=example", "CN=bob,DC=child,DC=corp,DC=example"),
        ("alice", "CN=alice,DC=corp,DC=example"),
        (r"CORP\alice", "CN=alice,DC=corp,DC=example"),
        ("alice@corp.example", "CN=alice,DC=corp,DC=example"),
        ("carol", "CN=carol,DC=corp,DC=example"),
    ] {
        // The scripted servers compare as they are told, and no better.
        let lower = if name.contains("ALICE") { name.to_lowercase() } else { name.to_owned() };
        let (_, entry) = who(&directories, &home, &lower).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(entry.dn, dn, "{name}");
        assert_eq!(entry.subject.directory.as_str(), "corp", "it is one directory");
        // FS-17: no bare name, which may be somebody else's.
        let account = dn.split([',', '=']).nth(1).expect("a name");
        let called = if dn.ends_with(CHILD) { format!(r"CHILD\{account}") } else { account.to_owned() };
        assert_eq!(entry.username, called, "{name}");
    }
    // A bare name is nobody of another domain: an application takes who has it for its own user.
    for name in ["bob", "bob@corp.example", r"CORP\bob"] {
        let error = who(&directories, &home, name).await.map(|(_, entry)| entry.dn).expect_err(name);
        assert!(matches!(error, ResolveError::Absent), "{name} {error:?}");
    }
    for name in [r"NOWHERE\bob", r"ONEWAY\bob", r"STRANGER\bob", "bob@oneway.test", r"CHILD\carol"] {
        let error = who(&directories, &home, name).await.map(|(_, entry)| entry.dn).expect_err(name);
        assert_eq!(error.reason(), Reason::UnknownUser, "{name} {error:?}");
    }
    // What the time of an answer depends on (L-41).
    let elsewhere =
        |name: &str| directories.other_domain(&home, &TypedName::parse(name, home.settings()).expect("a name"));
    for name in [r"CHILD\nobody", "child/nobody", "nobody@Child.corp.example", "cn=nobody,dc=child,dc=corp,dc=example"]
    {
        assert_eq!(elsewhere(name).as_deref(), Some("child.corp.example"), "{name}");
    }
    for name in ["nobody", "nobody@corp.example", "nobody@mail.example", r"ONEWAY\nobody", r"NOWHERE\nobody"] {
        assert_eq!(elsewhere(name), None, "{name}");
    }
    assert!(forest.child.binds(r"CORP\twinlock") > 0, "the account as another domain knows it");
    assert_eq!(forest.silent.connections(), 0, "nobody was asked whom no name belongs to");
}

#[tokio::test]
async fn the_short_name_of_the_own_domain_need_not_be_written() {
    // FD-18: `DOM\user`, `DOM/user`
    let mut forest = Forest::start().await;
    forest.settings.netbios_domain.clear();
    let (directories, home) = made([forest.settings.clone()]);
    for name in [r"CORP\alice", r"corp\alice", "CORP/alice"] {
        let (_, entry) = who(&directories, &home, name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!((entry.dn.as_str(), entry.form), ("CN=alice,DC=corp,DC=example", NameForm::Netbios), "{name}");
    }
    let error =
        who(&directories, &home, r"CORP\bob").await.map(|(_, entry)| entry.dn).expect_err("of the other domain");
    assert!(matches!(error, ResolveError::Absent), "{error:?}");
}

#[tokio::test]
async fn the_password_is_tried_in_the_domain_of_its_owner_and_the_id_finds_them_again() {
    // FD-02, R-64
    let forest = Forest::start().await;
    let (directories, home) = made([forest.settings.clone()]);
    let (directory, bob) = who(&directories, &home, r"CHILD\bob").await.expect("bob");
    let accepted = directory.authenticate(&bob, &support::password()).await.expect("accepted");
    assert_eq!(accepted.subject(), &bob.subject);
    let name = format!("CN=bob,{CHILD}");
    assert_eq!((forest.child.binds(&name), forest.home.binds(&name)), (1, 0));
    let (holder, again) = directories.holder(&home, &bob.subject.id).await.expect("by the id");
    assert!(Arc::ptr_eq(&holder, &directory) && again.dn == bob.dn);
    let alice = who(&directories, &home, "alice").await.expect("alice").1;
    assert_eq!(directories.holder(&home, &alice.subject.id).await.expect("at home").1.dn, alice.dn);
}

#[tokio::test]
async fn a_silent_domain_delays_nobody_of_another_and_is_no_evidence_about_its_people() {
    // FD-02, R-62
    let mut forest = Forest::start().await;
    forest.settings.timeout_seconds = 5;
    let (directories, home) = made([forest.settings.clone()]);
    who(&directories, &home, r"CHILD\bob").await.expect("before");
    let begun = Instant::now();
    let waits = who(&directories, &home, r"SILENT\dave");
    let others = async {
        for name in ["alice", r"CHILD\bob", "bob@child.corp.example"] {
            who(&directories, &home, name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
        begun.elapsed()
    };
    let (waited, others) = tokio::join!(waits, others);
    let error = waited.map(|(_, entry)| entry.dn).expect_err("nobody answers");
    assert!(error.is_unavailable(), "{error:?}");
    assert!(others < Duration::from_secs(1), "{others:?}");
    assert!(begun.elapsed() >= Duration::from_secs(4), "it was waited for");
}

#[tokio::test]
async fn where_the_settings_say_no_other_domains_are_foreign_and_nobody_looks_for_them() {
    // FD-02
    let mut forest = Forest::start().await;
    (forest.settings.trusted_domains, forest.settings.trusted) = (Some(false), Default::default());
    let (directories, home) = made([forest.settings.clone()]);
    let parsed = TypedName::parse(r"CHILD\bob", home.settings());
    assert_eq!(parsed.map(|_| ()), Err(NameError::ForeignDomain));
    let error = who(&directories, &home, "bob@child.corp.example").await.map(|_| ()).expect_err("nobody here");
    assert!(matches!(error, ResolveError::Absent), "{error:?}");
    assert_eq!(forest.child.connections(), 0);
}

#[tokio::test]
async fn a_domain_that_is_a_directory_of_the_settings_is_that_directory() {
    // FD-02: its people have one identity, by whichever client they come
    let forest = Forest::start().await;
    let own = |urls: Vec<String>| settings::Directory {
        name: ObjectName::new("child").expect("a name"),
        urls,
        base: CHILD.into(),
        netbios_domain: String::new(),
        trusted_domains: Some(false),
        trusted: Default::default(),
        ..forest.settings.clone()
    };
    let (directories, home) = made([forest.settings.clone(), own(vec![forest.child.url.clone()])]);
    for name in [r"CHILD\bob", "bob@child.corp.example"] {
        let (directory, bob) = who(&directories, &home, name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!((directory.name().as_str(), bob.subject.directory.as_str()), ("child", "child"), "{name}");
    }
    assert_eq!(forest.child.binds(r"CORP\twinlock"), 0, "it has its own account");
    // While it cannot be used, nobody of its people is somebody else.
    let (directories, home) = made([forest.settings.clone(), own(vec!["nonsense".into()])]);
    let error = who(&directories, &home, r"CHILD\bob").await.map(|_| ()).expect_err("nobody can say");
    assert!(matches!(error, ResolveError::Unusable { .. }), "{error:?}");
    assert!(who(&directories, &home, "alice").await.is_ok());
}

#[tokio::test]
async fn a_domain_beyond_those_that_can_be_used_is_asked_by_its_own_directory_or_nobody_knows() {
    // FD-02, R-62: it lists 300, of which 256 are used
    let home = Fake::start(|message, connection| match message.op() {
        Op::SearchRequest if search_of(message).base.eq_ignore_ascii_case(b"CN=System,DC=corp,DC=example") => {
            let id = message.id();
            let trust = |number: usize| {
                let (partner, name) = (format!("d{number}.test"), format!("D{number}"));
                let of = [("trustPartner", partner.as_str()), ("flatName", name.as_str()), ("trustDirection", "3")];
                let is = [("objectClass", "trustedDomain"), ("trustType", "2"), ("trustAttributes", "8")];
                sends(id, &format!("CN={partner},CN=System,{HOME}"), &[of.as_slice(), &is].concat())
            };
            (0..300).map(trust).chain([of_every_system(id), done(id, 0)]).collect()
        }
        _ => controller(HOME, &[("alice", "guid 1")])(message, connection),
    })
    .await;
    let beyond = Fake::start(controller("DC=d290,DC=test", &[("dora", "guid 40")])).await;
    let mut forest = Forest::start().await;
    forest.settings.urls = vec![home.url.clone()];
    let own = settings::Directory {
        name: ObjectName::new("beyond").expect("a name"),
        urls: vec![beyond.url.clone()],
        base: "DC=d290,DC=test".into(),
        netbios_domain: String::new(),
        trusted_domains: Some(false),
        trusted: Default::default(),
        ..forest.settings.clone()
    };
    let (directories, corp) = made([forest.settings, own]);
    for name in [r"D290\dora", r"d290.test\dora", "dora@d290.test"] {
        let (directory, dora) =
            who(&directories, &corp, name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!((directory.name().as_str(), dora.dn.as_str()), ("beyond", "CN=dora,DC=d290,DC=test"), "{name}");
    }
    for name in [r"D291\dora", "dora@d291.test"] {
        let error = who(&directories, &corp, name).await.map(|(_, entry)| entry.dn).expect_err(name);
        let is_it = matches!(&error, ResolveError::NotUsed { domain, why: NotUsed::TooMany } if domain == "d291.test");
        assert!(is_it && error.is_unavailable(), "{name} {error:?}");
        assert_eq!(error.reason(), Reason::DirectoryError);
        let name = TypedName::parse(name, corp.settings()).expect("a name");
        assert!(directories.has_nobody(&corp, &name).await.is_err(), "never proven");
        assert_eq!(directories.other_domain(&corp, &name).as_deref(), Some("d291.test"));
    }
    assert!(who(&directories, &corp, "alice").await.is_ok());
}

/// The home domain, where Carol is whatever an alternate name or a service principal name is asked for.
fn carol_is_everybody() -> impl Fn(&Message, usize) -> Vec<Do> + Send + Sync + 'static {
    let others = controller(HOME, &[("alice", "guid 1")]);
    move |message, connection| {
        let asks_for = |attribute: &[u8]| {
            message.op() == Op::SearchRequest
                && search_of(message).filter.windows(attribute.len()).any(|part| part == attribute)
        };
        match asks_for(b"otherMailbox") || asks_for(b"servicePrincipalName") {
            true => {
                let carol = [("objectGUID", "guid 3"), ("sAMAccountName", "carol")];
                vec![sends(message.id(), &format!("CN=carol,{HOME}"), &carol), done(message.id(), 0)]
            }
            false => others(message, connection),
        }
    }
}

#[tokio::test]
async fn an_attribute_of_somebody_at_home_takes_no_name_of_another_domain() {
    // R-60, FD-02, FD-19
    let mut forest = Forest::start().await;
    let home = Fake::start(carol_is_everybody()).await;
    forest.settings.urls = vec![home.url.clone()];
    forest.settings.attributes.alternate = Some("otherMailbox".into());
    let old = ObjectName::new("old").expect("a name");
    forest.settings.alternate_directories = vec![old.clone()];
    let old = settings::Directory {
        name: old,
        base: "DC=old,DC=example".into(),
        trusted_domains: Some(false),
        trusted: Default::default(),
        alternate_directories: Vec::new(),
        ..forest.settings.clone()
    };
    let (directories, home) = made([forest.settings.clone(), old]);
    for (name, dn) in [
        ("bob@child.corp.example", "CN=bob,DC=child,DC=corp,DC=example"),
        ("CHILD/alice", "CN=alice,DC=child,DC=corp,DC=example"),
        // Whom the domain has not may be somebody here, and what is no domain always.
        ("dora@child.corp.example", "CN=carol,DC=corp,DC=example"),
        ("CHILD/dora", "CN=carol,DC=corp,DC=example"),
        ("bob@mail.example", "CN=carol,DC=corp,DC=example"),
        ("HTTP/web.corp.example", "CN=carol,DC=corp,DC=example"),
    ] {
        let (_, entry) = who(&directories, &home, name).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(entry.dn, dn, "{name}");
    }
    // While it is silent, nobody here is its people (R-62).
    forest.settings.timeout_seconds = 1;
    let (directories, home) = made([forest.settings.clone()]);
    for name in ["dave@silent.test", "SILENT/dave"] {
        let error = who(&directories, &home, name).await.map(|(_, entry)| entry.dn).expect_err(name);
        assert!(error.is_unavailable(), "{name} {error:?}");
    }
}

/// The same directory with an entry that no filter of users lets through, which has these names.
fn with_printer(
    others: impl Fn(&Message, usize) -> Vec<Do> + Send + Sync + 'static,
    base: &'static str,
    names: &'static [&'static str],
) -> impl Fn(&Message, usize) -> Vec<Do> + Send + Sync + 'static {
    move |message, connection| {
        let id = message.id();
        let is_meant = message.op() == Op::SearchRequest && {
            let filter = Filter::from_ber(&search_of(message).filter).expect("sound").to_string();
            filter.starts_with("(&(objectClass=*)(") && names.iter().any(|name| filter.contains(name))
        };
        match is_meant {
            true => {
                let printer = [("objectGUID", "guid 9"), ("sAMAccountName", "printer")];
                vec![sends(id, &format!("CN=printer,{base}"), &printer), done(id, 0)]
            }
            false => others(message, connection),
        }
    }
}

#[tokio::test]
async fn whoever_the_filter_keeps_out_is_somebody_in_every_place_where_a_name_is_looked_up() {
    // R-62, FD-02, FD-19
    const OLD: &str = "DC=old,DC=example";
    let mut forest = Forest::start().await;
    let at_home = &["(sAMAccountName=printer)", "(otherMailbox=4711)", "(displayName=front-desk)"];
    let home = Fake::start(with_printer(controller(HOME, &[("alice", "guid 1")]), HOME, at_home)).await;
    let child = Fake::start(with_printer(controller(CHILD, &[]), CHILD, &["(sAMAccountName=scanner)"])).await;
    let old = Fake::start(with_printer(controller(OLD, &[]), OLD, &["(otherMailbox=4712)"])).await;
    forest.settings.urls = vec![home.url.clone()];
    forest.settings.timeout_seconds = 1;
    forest.settings.trusted.insert("child.corp.example".into(), TrustedServers { urls: vec![child.url.clone()] });
    forest.settings.attributes.alternate = Some("otherMailbox".into());
    let name = ObjectName::new("old").expect("a name");
    forest.settings.alternate_directories = vec![name.clone()];
    let old = settings::Directory {
        name,
        urls: vec![old.url.clone()],
        base: OLD.into(),
        trusted_domains: Some(false),
        trusted: Default::default(),
        alternate_directories: Vec::new(),
        ..forest.settings.clone()
    };
    let (directories, home) = made([forest.settings.clone(), old]);
    let has_nobody = async |name: &str| {
        directories.has_nobody(&home, &TypedName::parse(name, home.settings()).expect("a name")).await
    };
    for name in ["printer", "4711", "front-desk", "4712", r"CHILD\scanner", "scanner@child.corp.example"] {
        let error = who(&directories, &home, name).await.map(|(_, entry)| entry.dn).expect_err(name);
        assert!(matches!(error, ResolveError::Absent), "{name} is no user: {error:?}");
        assert_eq!(has_nobody(name).await.ok(), Some(false), "{name}");
    }
    assert_eq!(has_nobody("alice").await.ok(), Some(false));
    for name in ["stranger", "4713", "stranger@child.corp.example", r"CHILD\stranger", "scanner"] {
        assert_eq!(has_nobody(name).await.ok(), Some(true), "{name}");
    }
    assert!(has_nobody("dave@silent.test").await.is_err_and(|error| error.is_unavailable()), "an error is no absence");
}

#[tokio::test]
async fn people_of_a_domain_that_two_directories_list_have_one_identity() {
    // FD-02: the first of the settings gives it
    let mut forest = Forest::start().await;
    forest.settings.timeout_seconds = 1;
    let eu = Fake::start(controller("DC=eu,DC=example", &[("erik", "guid 5")])).await;
    let eu = settings::Directory {
        name: ObjectName::new("eu").expect("a name"),
        urls: vec![eu.url.clone()],
        base: "DC=eu,DC=example".into(),
        query_bind: QueryBind { kind: BindKind::Simple, name: r"EU\twinlock".into(), password: None },
        ..forest.settings.clone()
    };
    for (all, first) in [([forest.settings.clone(), eu.clone()], "corp"), ([eu.clone(), forest.settings.clone()], "eu")]
    {
        let (directories, _) = made(all);
        for home in directories.all().iter() {
            let (_, bob) = who(&directories, home, r"CHILD\bob").await.expect("bob");
            assert_eq!(bob.subject.directory.as_str(), first, "by way of {}", home.name());
            let holder = directories.holder(home, &bob.subject.id).await;
            match home.name().as_str() == first {
                true => assert_eq!(holder.expect("theirs").1.subject, bob.subject),
                // The silent domain says of nobody that they are not there.
                false => assert!(holder.is_err(), "{:?}", holder.map(|it| it.1.subject)),
            }
        }
    }
    // While the first cannot say what it lists, or cannot be used, nobody of it is somebody else.
    let silent =
        settings::Directory { urls: vec![forest.silent.url.clone()], timeout_seconds: 1, ..forest.settings.clone() };
    let unusable = settings::Directory { urls: vec!["nonsense".into()], ..forest.settings.clone() };
    for first in [silent, unusable] {
        let directories = Directories::new(Options { query_connections: 1, ..Options::default() });
        drop(directories.replace([first, eu.clone()].map(|settings| (settings, Some(Secret::from("query"))))));
        let home = directories.named("eu").expect("good settings");
        let error =
            who(&directories, &home, r"CHILD\bob").await.map(|(_, bob)| bob.subject).expect_err("nobody can say");
        assert!(error.is_unavailable(), "{error:?}");
        assert!(who(&directories, &home, "erik").await.is_ok(), "people of its own");
    }
}

#[tokio::test]
async fn where_the_domains_cannot_be_listed_only_names_of_others_wait_for_it() {
    // FD-02, R-62: the server answers for people, and refuses the partitions
    let home = Fake::start(|message, connection| match message.op() {
        Op::SearchRequest if search_of(message).base.starts_with(b"CN=Partitions") => vec![done(message.id(), 1)],
        _ => controller(HOME, &[("alice", "guid 1")])(message, connection),
    })
    .await;
    let mut settings = Forest::start().await.settings;
    settings.urls = vec![home.url.clone()];
    let (directories, corp) = made([settings]);
    let error = who(&directories, &corp, r"CHILD\bob").await.map(|_| ()).expect_err("nobody can say");
    assert!(matches!(error, ResolveError::Unlisted(_)) && error.is_unavailable(), "{error:?}");
    assert_eq!(error.reason(), Reason::DirectoryError);
    let asked = home.connections();
    for _ in 0..5 {
        assert!(who(&directories, &corp, r"CHILD\bob").await.is_err());
        assert!(who(&directories, &corp, "alice").await.is_ok());
    }
    assert_eq!(home.connections(), asked, "not once a name");
}

/// Of an answer: the entries of this DN without that attribute.
fn without(answer: Vec<Do>, dn: &str, attribute: &str) -> Vec<Do> {
    let change = |step: Do| match step {
        Do::Send(octets) => {
            let framer = Framer::new(Peer::Server, Limits::AUTHENTICATED);
            let message = framer.next_message(&mut BytesMut::from(&octets[..])).expect("a message").expect("whole");
            let Ok(mut entry) = SearchResultEntry::decode(&message) else { return Do::Send(octets) };
            if entry.dn == dn.as_bytes() {
                entry.attributes.retain(|it| !it.description.eq_ignore_ascii_case(attribute));
            }
            Do::Send(entry.encode(message.id(), &[]))
        }
        other => other,
    };
    answer.into_iter().map(change).collect()
}

#[tokio::test]
async fn a_listing_without_what_every_domain_controller_has_is_none() {
    // FD-02, S-41: rights that the query account lost
    let own = format!("CN=CORP,CN=Partitions,CN=Configuration,{HOME}");
    for (dn, attribute, shows) in [
        ("", "defaultNamingContext", "the naming contexts of its root DSE"),
        ("", "configurationNamingContext", "the naming contexts of its root DSE"),
        (own.as_str(), "nCName", "the crossRef of its own domain"),
        (own.as_str(), "nETBIOSName", "the nETBIOSName of its own domain"),
        (own.as_str(), "systemFlags", "the systemFlags of the crossRef of its own domain"),
        ("CN=CHILD,CN=Partitions,CN=Configuration,DC=corp,DC=example", "nCName", "the nCName of a crossRef"),
        (RID_MANAGER, "objectClass", "what lies in CN=System of its own domain"),
        ("CN=silent.test,CN=System,DC=corp,DC=example", "trustPartner", "the trustPartner of a trust"),
        (HOME, "sAMAccountName", "the sAMAccountName of the query account"),
    ] {
        let (hidden, from) = (attribute, dn.to_owned());
        let home = Fake::start(move |message, connection| {
            without(controller(HOME, &[("alice", "guid 1")])(message, connection), &from, hidden)
        })
        .await;
        let mut forest = Forest::start().await;
        forest.settings.urls = vec![home.url.clone()];
        let (directories, corp) = made([forest.settings]);
        let Err(error) = directories.other_domains(&corp).await else { panic!("{dn} {attribute}: nobody can say") };
        let ResolveError::Unlisted(why) = &error else { panic!("{attribute}: {error:?}") };
        assert!(why.to_string().contains(shows), "{attribute}: {why}");
        assert!(who(&directories, &corp, "alice").await.is_ok(), "{attribute}: people of its own");
    }
    // Whose account needs no look is listed without it, and what is not used is told.
    let forest = Forest::start().await;
    let mut settings = forest.settings.clone();
    settings.query_bind.name = r"CORP\twinlock".into();
    let (directories, corp) = made([settings]);
    let others = directories.other_domains(&corp).await.expect("listed");
    let names: Vec<&str> = others.used.iter().map(|other| other.dns_name.as_str()).collect();
    assert_eq!(names, ["child.corp.example", "silent.test"]);
    let not_used = [("oneway.test", NotUsed::NotTrusting), ("stranger.test", NotUsed::NotTrusted)];
    assert_eq!(others.not_used, not_used.map(|(name, why)| (name.to_owned(), why)));
}

#[tokio::test]
async fn a_directory_whose_domain_nobody_knows_is_waited_for_once_however_many_domains_there_are() {
    // FD-02: another one without a base, which is silent
    let forest = Forest::start().await;
    let silent = silent().await;
    let lost = settings::Directory {
        name: ObjectName::new("lost").expect("a name"),
        urls: vec![silent.url.clone()],
        base: String::new(),
        trusted_domains: Some(false),
        timeout_seconds: 1,
        ..forest.settings.clone()
    };
    let (directories, corp) = made([forest.settings.clone(), lost]);
    let others = directories.other_domains(&corp).await.expect("listed");
    assert_eq!(others.used.len(), 2);
    assert!(others.used.iter().all(|other| other.directory.is_err()), "each may be that one");
    assert_eq!(silent.connections(), 1);
}

#[tokio::test]
async fn a_trial_lists_the_domains_and_says_why_one_is_not_used() {
    // FD-02, FD-11
    let forest = Forest::start().await;
    let said = async |settings: settings::Directory| {
        let draft = Directory::draft(settings, Some(Secret::from("query"))).expect("good settings");
        let lines = draft.inspect(&Trial::default()).await.lines();
        let of_domains = lines.into_iter().filter(|line| line.about == About::Domains);
        of_domains.map(|line| (line.verdict, line.text)).collect::<Vec<_>>()
    };
    let lines = said(forest.settings.clone()).await;
    let expected = [
        (Judgement::Good, "child.corp.example (CHILD), of the same forest: ldap://127.0.0.1"),
        (Judgement::Doubtful, "silent.test (SILENT), the root of another forest: cannot be asked now"),
        (Judgement::Doubtful, "oneway.test (ONEWAY), the root of another forest: not used, since"),
        (Judgement::Doubtful, "stranger.test (STRANGER), the root of another forest: not used, since"),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for ((verdict, text), (expected, begins)) in lines.iter().zip(expected) {
        assert!(*verdict == expected && text.starts_with(begins), "{verdict:?} {text}");
    }
    assert!(
        lines[2].1.contains(&NotUsed::NotTrusting.to_string()) && lines[3].1.contains(&NotUsed::NotTrusted.to_string())
    );
    let off = settings::Directory { trusted_domains: Some(false), ..forest.settings.clone() };
    let before = (forest.child.connections(), forest.silent.connections());
    let lines = said(off).await;
    assert!(lines.len() == 1 && lines[0].0 == Judgement::Good, "{lines:?}");
    assert!(lines[0].1.contains("trusted_domains = true would include: child.corp.example (CHILD)"), "{lines:?}");
    assert_eq!((forest.child.connections(), forest.silent.connections()), before, "none of them is asked");
    // Off by itself, and why.
    let confined = settings::Directory { strip_domain: true, ..forest.settings.clone() };
    let lines = said(confined.clone()).await;
    assert!(lines.len() == 2 && lines.iter().all(|(verdict, _)| *verdict == Judgement::Good), "{lines:?}");
    assert!(lines[0].1.starts_with("Other domains are not included, since with strip_domain"), "{lines:?}");
    assert!(lines[1].1.starts_with("Other domains: child.corp.example (CHILD)"), "{lines:?}");
    assert_eq!((forest.child.connections(), forest.silent.connections()), before, "none of them is asked");
    let (directories, home) = made([confined]);
    assert_eq!(who(&directories, &home, r"CHILD\alice").await.expect("of home").1.dn, "CN=alice,DC=corp,DC=example");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_domain_lists_none_beside_it_until_its_account_may_not_look() -> Result<()> {
    // FD-02, S-41: no trust, and no right to see one, look the same to whoever asks for trusts alone
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let samba = Samba::start(dir.path(), &pki)?;
    let mut settings = support::settings(&[&samba.ldaps_url()]);
    (settings.preset, settings.base) = (Preset::ActiveDirectory, Samba::BASE.into());
    (settings.timeout_seconds, settings.connect_timeout_seconds) = (30, 10);
    (settings.danger_clear_text, settings.ca) = (false, Some(std::fs::read_to_string(samba.ca_file())?));
    settings.query_bind = QueryBind { kind: BindKind::Tls, name: Samba::QUERY_DN.into(), password: None };
    settings.netbios_domain.clear();
    let listed = async || {
        let directories = Directories::new(Options { query_connections: 1, ..Options::default() });
        ensure!(directories.replace([(settings.clone(), Some(Secret::from(Samba::QUERY_PASSWORD)))]).is_empty());
        let home = directories.named("corp").context("good settings")?;
        let ann = who(&directories, &home, "ann.archer").await.map(|(_, ann)| ann.dn);
        ensure!(ann.is_ok(), "{ann:?}");
        let by_short_name = who(&directories, &home, r"lab\ann.archer").await.map(|(_, ann)| ann.dn);
        let others = directories.other_domains(&home).await.map(|others| others.used.len() + others.not_used.len());
        // FD-18: the directory says what its short name is.
        ensure!(by_short_name.is_ok() == others.is_ok(), "{by_short_name:?}");
        Ok(others)
    };
    ensure!(listed().await?.ok() == Some(0), "it is on, and there is nothing to find");
    samba.hide_children(&format!("CN=System,{}", Samba::BASE), Samba::QUERY_DN)?;
    match listed().await? {
        Err(ResolveError::Unlisted(why)) => ensure!(why.to_string().contains("what lies in CN=System"), "{why}"),
        other => anyhow::bail!("nobody can say: {other:?}"),
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_of_a_forest_that_is_really_trusted_sign_in_there() -> Result<()> {
    // FD-02: two forests of Samba, a trust made by samba-tool, the account of one accepted by the other across it
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let mut samba = Samba::start(dir.path(), &pki)?;
    let mut other = OtherForest::trusted_by(&mut samba, dir.path(), &pki)?;
    let mut settings = support::settings(&[&samba.ldap_url()]);
    (settings.preset, settings.base) = (Preset::ActiveDirectory, Samba::BASE.into());
    settings.netbios_domain = Samba::DOMAIN.into();
    (settings.timeout_seconds, settings.connect_timeout_seconds) = (30, 10);
    (settings.danger_clear_text, settings.ca) = (false, Some(std::fs::read_to_string(samba.ca_file())?));
    settings.query_bind = QueryBind { kind: BindKind::Windows, name: r"LAB\twinlock".into(), password: None };
    settings.authentication_bind.kind = BindKind::Tls;
    settings.trusted.insert(OtherForest::DNS_NAME.into(), TrustedServers { urls: vec![other.ldap_url()] });
    let directories = Directories::new(Options { query_connections: 1, ..Options::default() });
    ensure!(directories.replace([(settings.clone(), Some(Secret::from(Samba::QUERY_PASSWORD)))]).is_empty());
    let home = directories.named("corp").context("good settings")?;
    for name in [r"OTHER\olga.other", "olga.other@other.test", r"other.test\olga.other", "other.test/Users/olga.other"]
    {
        let (directory, olga) = who(&directories, &home, name).await.with_context(|| name.to_owned())?;
        ensure!(olga.dn.eq_ignore_ascii_case("CN=olga.other,CN=Users,DC=other,DC=test"), "{name}: {}", olga.dn);
        let right = Secret::from(OtherForest::password_of("olga.other").as_str());
        ensure!(directory.authenticate(&olga, &right).await.is_ok(), "{name}");
        let wrong = directory.authenticate(&olga, &Secret::from("wrong")).await.map(|_| ()).expect_err("wrong");
        ensure!(wrong.reason() == Reason::BadPassword, "{wrong:?}");
    }
    ensure!(other.foreign_logons_of("twinlock") > 0, "the account of the first domain was accepted across the trust");
    // Two are called Ann, and neither is the other.
    let (_, at_home) = who(&directories, &home, "ann.archer").await?;
    let (there, ann) = who(&directories, &home, r"OTHER\ann.archer").await?;
    ensure!(at_home.dn.ends_with(Samba::BASE) && ann.dn.ends_with(OtherForest::BASE) && at_home.subject != ann.subject);
    let of_home = Secret::from(password_of("ann.archer").as_str());
    ensure!(there.authenticate(&ann, &of_home).await.is_err() && home.authenticate(&at_home, &of_home).await.is_ok());
    let trial = async || {
        let draft = Directory::draft(settings.clone(), Some(Secret::from(Samba::QUERY_PASSWORD)))?;
        let lines = draft.inspect(&Trial::default()).await.lines();
        anyhow::Ok(lines.into_iter().find(|line| line.about == About::Domains).context("a line")?)
    };
    let line = trial().await?;
    ensure!(line.verdict == Judgement::Good, "{line:?}");
    ensure!(line.text.starts_with("other.test (OTHER), the root of another forest: ldap://"), "{line:?}");
    // It is gone: nobody of it signs in, everybody else does.
    other.stop();
    let error = who(&directories, &home, r"OTHER\olga.other").await.map(|_| ()).expect_err("it is gone");
    ensure!(error.is_unavailable(), "{error:?}");
    let (_, again) = who(&directories, &home, "ann.archer").await?;
    ensure!(again.subject == at_home.subject && trial().await?.verdict == Judgement::Doubtful);
    Ok(())
}
