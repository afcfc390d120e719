//! Against a real OpenLDAP with the sample company: every name form, TLS both ways, paging, limits, servers that go and come.

mod support;

use anyhow::{Context, Result};
use directory::{
    BindError, Directories, Directory, Incomplete, Options, Query, QueryError, Read, ResolveError, ServerState,
    TypedName,
};
use domain::settings::{self, AuthenticationBind, BindKind, Preset, QueryBind};
use domain::{NameForm, ObjectName, Reason, Secret};
use lab::{COMPANY_BASE, Pki, Slapd, SlapdOptions, password_of, wait_until};
use ldap_wire::{Dn, Filter, Scope};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::time::{Duration, Instant};
use support::eventually;

const ANN: &str = "uid=ann.archer,ou=engineering,ou=people,dc=acme,dc=example";

struct Lab {
    dir: tempfile::TempDir,
    pki: Pki,
}

impl Lab {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        Ok(Self { dir, pki })
    }

    fn slapd(&self, name: &str, options: &SlapdOptions) -> Result<Slapd> {
        Slapd::start(&self.dir.path().join(name), &self.pki, options)
    }

    fn settings(&self, urls: &[&str]) -> Result<settings::Directory> {
        Ok(settings::Directory {
            name: ObjectName::new("acme")?,
            preset: Preset::OpenLdap,
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            base: COMPANY_BASE.into(),
            query_bind: QueryBind { kind: BindKind::Tls, name: Slapd::QUERY_DN.into(), password: None },
            authentication_bind: AuthenticationBind { kind: BindKind::Tls },
            ca: Some(std::fs::read_to_string(self.pki.ca_file())?),
            pinned_certificates: None,
            danger_clear_text: false,
            windows_mechanism: Default::default(),
            connect_timeout_seconds: 3,
            timeout_seconds: 5,
            page_size: 100,
            user_filter: String::new(),
            group_filter: String::new(),
            container_filter: String::new(),
            feed: None,
            full_every_hours: 24,
            size_limit: 0,
            country: String::new(),
            netbios_domain: "ACME".into(),
            lockout_guard: None,
            default_domain: String::new(),
            server_order: Default::default(),
            sign_in_by_mail: None,
            strip_domain: false,
            alternate_directories: Vec::new(),
            sync_bind: None,
            trusted_domains: None,
            trusted: Default::default(),
            attribute_scope_queries: true,
            attributes: Default::default(),
        })
    }

    fn directory(&self, urls: &[&str]) -> Result<Directory> {
        open(self.settings(urls)?)
    }
}

fn open(settings: settings::Directory) -> Result<Directory> {
    Ok(Directory::new(settings, Some(Secret::from(Slapd::QUERY_PASSWORD)), Options::default())?)
}

async fn resolve(directory: &Directory, name: &str) -> Result<directory::Entry, ResolveError> {
    directory.resolve(&TypedName::parse(name, directory.settings())?).await
}

async fn logs_in(directory: &Directory, name: &str, password: &str) -> Result<(), BindError> {
    let entry = resolve(directory, name).await.expect("a person of the company");
    directory
        .authenticate(&entry, &Secret::from(password))
        .await
        .map(|accepted| assert_eq!(*accepted.subject(), entry.subject))
}

#[tokio::test]
async fn every_form_of_a_name_is_one_id() -> Result<()> {
    // R-60, R-61, L-20, L-21, B-61
    let lab = Lab::new()?;
    let slapd = lab.slapd("one", &SlapdOptions::default())?;
    let directory = lab.directory(&[&slapd.ldaps_url()])?;
    let ann = resolve(&directory, "ann.archer").await?;
    assert_eq!((ann.dn.as_str(), ann.username.as_str(), ann.form), (ANN, "ann.archer", NameForm::Bare));
    assert_eq!((ann.first_name.as_deref(), ann.last_name.as_deref()), (Some("Ann"), Some("Archer")));
    assert_eq!(ann.mail.as_deref(), Some("ann.archer@acme.example"));
    let id = ann.subject.id.to_string();
    let guid = format!("<GUID={}>", id.strip_prefix("entryUUID:").context("an entryUUID")?);
    for name in [
        "Ann.Archer",
        "ANN.ARCHER",
        " ann.archer",
        "ann.archer ",
        "ann.archer@acme.example",
        "ANN.ARCHER@ACME.EXAMPLE",
        "ACME\\ann.archer",
        "acme/ANN.ARCHER",
        "acme.example\\ann.archer",
        "Acme.Example/ann.archer",
        guid.as_str(),
        ANN,
        "UID=ANN.ARCHER,OU=ENGINEERING,OU=PEOPLE,DC=ACME,DC=EXAMPLE",
        "uid = ann.archer , ou = engineering , ou = people , dc = acme , dc = example",
        "uid=ann.archer;ou=engineering;ou=people;dc=acme;dc=example",
        "uid=ann\\2Earcher,ou=engineering,ou=people,dc=acme,dc=example",
        "uid=\\61nn.archer,ou=engineering,ou=people,dc=acme,dc=example",
        "0.9.2342.19200300.100.1.1=ann.archer,ou=engineering,ou=people,dc=acme,dc=example",
        "userid=ann.archer,organizationalUnitName=engineering,ou=people,domainComponent=acme,dc=example",
        "OID.0.9.2342.19200300.100.1.1=ann.archer,ou=engineering,ou=people,dc=acme,dc=example",
        "uid=#040A616E6E2E617263686572,ou=engineering,ou=people,dc=acme,dc=example",
        "uid=\\20ann.archer,ou=engineering,ou=people,dc=acme,dc=example",
        "uid=ann.archer\\20,ou=engineering,ou=people,dc=acme,dc=example",
    ] {
        let found = resolve(&directory, name).await;
        assert_eq!(
            found.as_ref().map(|entry| (entry.subject.id.to_string(), entry.dn.as_str())).ok(),
            Some((id.clone(), ANN)),
            "{name}: {found:?}"
        );
    }
    for (name, expected) in [
        ("nobody", "absent"),
        ("ann.archer@elsewhere.example", "absent"),
        ("\u{430}nn.archer", "absent"),
        ("uid=nobody,ou=people,dc=acme,dc=example", "absent"),
        ("ann*", "absent"),
        ("ann.archer)(uid=*", "absent"),
        ("<GUID=00000000-0000-0000-0000-000000000001>", "absent"),
        ("nosuchattribute=x,dc=acme,dc=example", "name"),
        (Slapd::GITLAB_DN, "absent"),
        ("cn=staff,cn=config", "name"),
    ] {
        let found = resolve(&directory, name).await;
        let what = match &found {
            Err(ResolveError::Absent) => "absent",
            Err(ResolveError::Name(_)) => "name",
            _ => "something else",
        };
        assert_eq!(what, expected, "{name}: {found:?}");
    }
    Ok(())
}

/// People whose names hold what a DN has to escape: relative names from the leaf up to `ou=people`, which all have above them.
const ODD: [&[&[(&str, &str)]]; 7] = [
    &[&[("cn", "Archer, Ann")]],
    &[&[("cn", "Bo Both"), ("uid", "odd.two")]],
    &[&[("uid", "odd.three"), ("sn", "Quill \"Q\""), ("cn", "Cy=C+y")]],
    &[&[("cn", "Größe Ärger \u{441}\u{443}")]],
    &[&[("cn", "# <hash>; back\\slash")]],
    &[&[("cn", "Two  Spaces")], &[("ou", "R&D, West")]],
    &[&[("cn", "e\u{301}clair")], &[("ou", "R&D, West")]],
];

/// One of many ways to write a DN (RFC 4514, and the spaces and `;` of RFC 2253), as `choices` has it.
struct Spelling<'c>(std::iter::Cycle<std::slice::Iter<'c, u8>>);

impl Spelling<'_> {
    fn choose(&mut self, of: u8) -> u8 {
        self.0.next().map_or(0, |choice| choice % of)
    }

    fn dn(&mut self, rdns: &[&[(&str, &str)]]) -> String {
        let above = [[("ou", "people")], [("dc", "acme")], [("dc", "example")]];
        let rdns = rdns.iter().copied().chain(above.iter().map(|rdn| &rdn[..]));
        let written: Vec<String> = rdns.map(|rdn| self.rdn(rdn)).collect();
        written.join([",", ", ", " ,", ";", " ; "][usize::from(self.choose(5))])
    }

    fn rdn(&mut self, rdn: &[(&str, &str)]) -> String {
        let mut written: Vec<String> = rdn.iter().map(|(attribute, value)| self.assertion(attribute, value)).collect();
        let turns = usize::from(self.choose(3)) % written.len();
        written.rotate_left(turns);
        written.join(["+", " + "][usize::from(self.choose(2))])
    }

    fn assertion(&mut self, attribute: &str, value: &str) -> String {
        let (long, number) = match attribute {
            "cn" => ("commonName", "2.5.4.3"),
            "sn" => ("surname", "2.5.4.4"),
            "ou" => ("organizationalUnitName", "2.5.4.11"),
            "uid" => ("userid", "0.9.2342.19200300.100.1.1"),
            _ => ("domainComponent", "0.9.2342.19200300.100.1.25"),
        };
        let attribute = match self.choose(5) {
            0 => attribute.to_uppercase(),
            1 => long.to_owned(),
            2 => number.to_owned(),
            3 => format!("OID.{number}"),
            _ => attribute.to_owned(),
        };
        let equals = ["=", " = ", "= "][usize::from(self.choose(3))];
        let end = ["", "\\20", "\\ "];
        let (before, after) = (end[usize::from(self.choose(3))], end[usize::from(self.choose(3))]);
        if self.choose(12) == 0 {
            let octets: String = value.bytes().map(|octet| format!("{octet:02x}")).collect();
            return format!(
                "{attribute}{equals}#{}{:02X}{octets}",
                ["04", "0c"][usize::from(self.choose(2))],
                value.len()
            );
        }
        let value: String = value.chars().map(|sign| self.sign(sign)).collect();
        // An unescaped `#` would begin BER.
        let value = if before.is_empty() && value.starts_with('#') { format!("\\{value}") } else { value };
        format!("{attribute}{equals}{before}{value}{after}")
    }

    fn sign(&mut self, sign: char) -> String {
        let sign = match (self.choose(3), sign.to_lowercase().next(), sign.to_uppercase().next()) {
            (0, Some(lower), _) => lower,
            (1, _, Some(upper)) if sign.to_uppercase().count() == 1 => upper,
            _ => sign,
        };
        let mut octets = [0; 4];
        match self.choose(4) {
            0 => sign.encode_utf8(&mut octets).bytes().map(|octet| format!("\\{octet:02X}")).collect(),
            _ if r#""+,;<>\="#.contains(sign) => format!("\\{sign}"),
            1 if sign == ' ' => "\\20 ".to_owned(),
            _ => sign.to_string(),
        }
    }
}

#[test]
fn every_spelling_of_a_dn_is_one_id() -> Result<()> {
    // L-21, by property: DN -> a random spelling -> the same id, by slapd's own matching; and by our key, which is no id but should agree.
    let lab = Lab::new()?;
    let slapd = lab.slapd("one", &SlapdOptions::default())?;
    let plain: Vec<Dn> = ODD
        .iter()
        .map(|rdns| {
            let mut dn: Dn = "ou=people,dc=acme,dc=example".parse().expect("a DN");
            for rdn in rdns.iter().rev() {
                let text = |value: &str| ldap_wire::dn::Value::Text(value.into());
                let assertion = |(attribute, value): &(&str, &str)| ldap_wire::dn::Assertion {
                    attribute: (*attribute).into(),
                    value: text(value),
                };
                dn.rdns.insert(0, ldap_wire::dn::Rdn { assertions: rdn.iter().map(assertion).collect() });
            }
            dn
        })
        .collect();
    slapd.modify(
        r"dn: ou=R&D\, West,ou=people,dc=acme,dc=example
changetype: add
objectClass: organizationalUnit
",
    )?;
    for (number, dn) in plain.iter().enumerate() {
        let leaf = ODD[number].first().context("a leaf")?;
        let mut ldif = format!("dn:: {}\nchangetype: add\nobjectClass: inetOrgPerson\n", base64(&dn.to_string()));
        for (attribute, value) in *leaf {
            ldif += &format!("{attribute}:: {}\n", base64(value));
        }
        for needed in ["cn", "sn"] {
            if leaf.iter().all(|(attribute, _)| *attribute != needed) {
                ldif += &format!("{needed}: odd\n");
            }
        }
        slapd.modify(&ldif)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime
        .block_on(async {
            let directory = lab.directory(&[&slapd.ldaps_url()])?;
            let mut ids = Vec::new();
            for dn in &plain {
                let found = resolve(&directory, &dn.to_string()).await.with_context(|| dn.to_string())?;
                ids.push(found.subject.id);
            }
            assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), plain.len(), "each another one");
            anyhow::Ok((directory, ids))
        })
        .and_then(|(directory, ids)| {
            let mut runner = TestRunner::new(Config { cases: 1_000, failure_persistence: None, ..Config::default() });
            let spelling = (0..plain.len(), prop::collection::vec(any::<u8>(), 40..200));
            runner.run(&spelling, |(person, choices)| {
                let written = Spelling(choices.iter().cycle()).dn(ODD[person]);
                let found = runtime.block_on(resolve(&directory, &written));
                let found = found.map_err(|error| TestCaseError::fail(format!("{written}: {error:?}")))?;
                prop_assert_eq!(&found.subject.id, &ids[person], "{}", written);
                let key = written.parse::<Dn>().map(|dn| dn.key());
                prop_assert_eq!(key, Ok(plain[person].key()), "{}", written);
                Ok(())
            })?;
            Ok(())
        })
}

fn base64(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}

#[tokio::test]
async fn two_people_with_one_name_are_refused_and_not_bound() -> Result<()> {
    // R-60
    let lab = Lab::new()?;
    let slapd = lab.slapd("one", &SlapdOptions::default())?;
    slapd.modify(
        "dn: uid=ben.hale,ou=sales,ou=people,dc=acme,dc=example\nchangetype: modify\nadd: uid\nuid: ann.archer\n",
    )?;
    let directory = lab.directory(&[&slapd.ldaps_url()])?;
    for name in ["ann.archer", "ann.archer@acme.example", "ACME\\ann.archer"] {
        assert!(matches!(resolve(&directory, name).await, Err(ResolveError::Ambiguous)), "{name}");
    }
    assert_eq!(resolve(&directory, ANN).await?.dn, ANN, "the DN is still one person");
    assert_eq!(resolve(&directory, "ben.hale").await?.username, "ben.hale");
    Ok(())
}

#[tokio::test]
async fn default_domain_stripped_domain_and_alternate_name_lead_to_the_same_person() -> Result<()> {
    // FD-18, FD-19
    let lab = Lab::new()?;
    let slapd = lab.slapd("one", &SlapdOptions::default())?;
    slapd.modify("dn: uid=ann.archer,ou=engineering,ou=people,dc=acme,dc=example\nchangetype: modify\nreplace: employeeNumber\nemployeeNumber: 4711\n")?;
    let with = |change: fn(&mut settings::Directory)| -> Result<Directory> {
        let mut settings = lab.settings(&[&slapd.ldaps_url()])?;
        change(&mut settings);
        open(settings)
    };
    let plain = with(|_| {})?;
    let ann = resolve(&plain, ANN).await?.subject;
    for name in ["4711", r"OTHER\ann.archer", "ann.archer@other.example"] {
        let found = resolve(&plain, name).await;
        assert!(matches!(found, Err(ResolveError::Absent | ResolveError::Name(_))), "{name}: {found:?}");
    }
    let by_mail = with(|it| {
        it.attributes.username = Some(vec!["mail".into()]);
        it.default_domain = "acme.example".into();
    })?;
    for name in ["ann.archer", "ANN.archer", "ann.archer@acme.example"] {
        assert_eq!(resolve(&by_mail, name).await?.subject, ann, "{name}");
    }
    let stripped = with(|it| it.strip_domain = true)?;
    for name in [r"OTHER\ann.archer", "other.example/ann.archer", "ann.archer@other.example", "ann.archer"] {
        assert_eq!(resolve(&stripped, name).await?.subject, ann, "{name}");
    }
    let alternate = with(|it| it.attributes.alternate = Some("employeeNumber".into()))?;
    let found = resolve(&alternate, " 4711").await?;
    assert_eq!((found.subject, found.form), (ann.clone(), NameForm::Alternate));
    for name in [r"ACME\4711", "acme/4711"] {
        assert!(matches!(resolve(&alternate, name).await, Err(ResolveError::Absent)), "{name}");
    }
    slapd.modify("dn: uid=ben.hale,ou=sales,ou=people,dc=acme,dc=example\nchangetype: modify\nreplace: employeeNumber\nemployeeNumber: ann.archer\n")?;
    assert_eq!(resolve(&alternate, "ann.archer").await?.subject, ann, "a username comes first");
    slapd.modify("dn: uid=ben.hale,ou=sales,ou=people,dc=acme,dc=example\nchangetype: modify\nreplace: employeeNumber\nemployeeNumber: 4711\n")?;
    assert!(matches!(resolve(&alternate, "4711").await, Err(ResolveError::Ambiguous)));
    Ok(())
}

#[tokio::test]
async fn an_alternate_name_is_looked_for_in_one_directory_after_the_other() -> Result<()> {
    // FD-19, R-62
    let lab = Lab::new()?;
    let (one, two) = (lab.slapd("one", &SlapdOptions::default())?, lab.slapd("two", &SlapdOptions::default())?);
    let numbered = |slapd: &Slapd, uid: &str, unit: &str, number: &str| {
        slapd.modify(&format!("dn: uid={uid},ou={unit},ou=people,dc=acme,dc=example\nchangetype: modify\nreplace: employeeNumber\nemployeeNumber: {number}\n"))
    };
    numbered(&two, "ann.archer", "engineering", "4711")?;
    let directories = Directories::new(Options::default());
    let named = |name: &str, slapd: &Slapd, others: &[&str]| -> Result<_> {
        let mut settings = lab.settings(&[&slapd.ldaps_url()])?;
        settings.name = ObjectName::new(name)?;
        settings.attributes.alternate = (name != "home").then(|| "employeeNumber".to_owned());
        settings.alternate_directories = others.iter().map(|name| ObjectName::new(*name)).collect::<Result<_, _>>()?;
        Ok((settings, Some(Secret::from(Slapd::QUERY_PASSWORD))))
    };
    let apply = |others: &[&str], down: bool| -> Result<()> {
        let mut middle = named("middle", &one, &[])?;
        if down {
            middle.0.base = "nonsense".into();
        }
        let refused = directories.replace([named("home", &one, others)?, middle, named("last", &two, &[])?]);
        assert_eq!(refused.len(), usize::from(down));
        Ok(())
    };
    let found = async |name: &str| {
        let home = directories.named("home").expect("it is there");
        let name = TypedName::parse(name, home.settings()).expect("a name");
        let (directory, entry) = directories.resolve(&home, &name).await?;
        assert_eq!(*directory.name(), entry.subject.directory);
        Ok::<_, ResolveError>((entry.subject.directory.to_string(), entry.username, entry.form))
    };
    let of = |directory: &str, uid: &str, form| Some((directory.to_owned(), uid.to_owned(), form));
    apply(&[], false)?;
    assert!(matches!(found("4711").await, Err(ResolveError::Absent)), "nobody else is asked");
    apply(&["middle", "last"], false)?;
    assert_eq!(found("4711").await.ok(), of("last", "ann.archer", NameForm::Alternate));
    assert_eq!(found("ann.archer").await.ok(), of("home", "ann.archer", NameForm::Bare));
    assert!(matches!(found("4712").await, Err(ResolveError::Absent)));
    // The first that has somebody decides.
    numbered(&one, "ben.hale", "sales", "4711")?;
    assert_eq!(found("4711").await.ok(), of("middle", "ben.hale", NameForm::Alternate));
    apply(&["last", "middle"], false)?;
    assert_eq!(found("4711").await.ok(), of("last", "ann.archer", NameForm::Alternate));
    // One that cannot be asked is no proof that it has nobody.
    apply(&["middle", "last"], true)?;
    let unusable = found("4711").await.expect_err("nobody knows");
    assert!(matches!(unusable, ResolveError::Unusable { .. }) && unusable.is_unavailable(), "{unusable:?}");
    assert!(matches!(found(r"ACME\nobody").await, Err(ResolveError::Absent)), "no alternate name");
    Ok(())
}

#[tokio::test]
async fn a_listed_service_account_is_found_by_its_name_though_it_is_no_user() -> Result<()> {
    // FL-15
    let lab = Lab::new()?;
    let slapd = lab.slapd("one", &SlapdOptions::default())?;
    let directory = lab.directory(&[&slapd.ldaps_url()])?;
    let any = async |dn: &str| directory.resolve_any(&TypedName::parse(dn, directory.settings())?).await;
    let gitlab = any(&Slapd::GITLAB_DN.to_uppercase()).await?;
    assert_eq!(gitlab.dn, Slapd::GITLAB_DN);
    directory.authenticate(&gitlab, &Secret::from(Slapd::GITLAB_PASSWORD)).await?.subject();
    let guid = gitlab.subject.id.to_string().replace("entryUUID:", "");
    assert_eq!(any(&format!("<GUID={guid}>")).await?.subject, gitlab.subject);
    let mut settings = lab.settings(&[&slapd.ldaps_url()])?;
    settings.attributes.username = Some(vec!["cn".into()]);
    let by_cn = open(settings)?;
    for name in ["gitlab", r"ACME\GitLab", "gitlab@acme.example", r"acme.example\gitlab"] {
        assert_eq!(
            by_cn.resolve_any(&TypedName::parse(name, by_cn.settings())?).await?.subject,
            gitlab.subject,
            "{name}"
        );
        assert!(matches!(resolve(&by_cn, name).await, Err(ResolveError::Absent)), "{name} is no user");
    }
    assert!(matches!(any("cn=gone,ou=service,dc=acme,dc=example").await, Err(ResolveError::Absent)));
    Ok(())
}

#[tokio::test]
async fn passwords_are_checked_over_ldaps_and_starttls_with_one_bind_each() -> Result<()> {
    let lab = Lab::new()?;
    let slapd = lab.slapd("one", &SlapdOptions::default())?;
    let mut binds = 0;
    for url in [slapd.ldaps_url(), slapd.ldap_url()] {
        let directory = lab.directory(&[&url])?;
        logs_in(&directory, "ann.archer", &password_of("ann.archer")).await?;
        let refused = logs_in(&directory, "ann.archer", "wrong").await.expect_err("a wrong password");
        assert!(matches!(&refused, BindError::Refused { code, .. } if code.0 == 49), "{refused:?}");
        assert_eq!(refused.reason(), Reason::BadPassword);
        let empty = logs_in(&directory, "ann.archer", "").await.expect_err("no password");
        assert!(matches!(empty, BindError::EmptyPassword));
        binds += 2;
        wait_until("the log", Duration::from_secs(5), || slapd.binds("ann.archer") >= binds)?;
        assert_eq!(slapd.binds("ann.archer"), binds, "{url}");
    }
    // The one without TLS from the start really used StartTLS.
    assert!(slapd.log().contains("STARTTLS"), "{}", slapd.log());
    Ok(())
}

#[tokio::test]
async fn a_locked_account_and_a_password_to_be_changed_are_told_apart() -> Result<()> {
    let lab = Lab::new()?;
    let lines =
        "moduleload ppolicy.la\noverlay ppolicy\nppolicy_default cn=policy,dc=acme,dc=example\nppolicy_use_lockout\n";
    let slapd = lab.slapd("one", &SlapdOptions { database_lines: lines.into(), ..Default::default() })?;
    slapd.modify(
        "dn: cn=policy,dc=acme,dc=example\nchangetype: add\nobjectClass: applicationProcess\nobjectClass: pwdPolicy\ncn: policy\npwdAttribute: userPassword\npwdLockout: TRUE\npwdMaxFailure: 3\npwdMustChange: TRUE\n",
    )?;
    slapd.modify("dn: uid=ben.hale,ou=sales,ou=people,dc=acme,dc=example\nchangetype: modify\nreplace: pwdReset\npwdReset: TRUE\n")?;
    let directory = lab.directory(&[&slapd.ldaps_url()])?;
    let must_change = logs_in(&directory, "ben.hale", &password_of("ben.hale")).await.expect_err("to be changed");
    assert_eq!(must_change.reason(), Reason::MustChangePassword);
    for _ in 0..3 {
        assert_eq!(logs_in(&directory, "ann.archer", "wrong").await.expect_err("wrong").reason(), Reason::BadPassword);
    }
    let locked = logs_in(&directory, "ann.archer", &password_of("ann.archer")).await.expect_err("locked");
    assert_eq!(locked.reason(), Reason::AccountLocked);
    Ok(())
}

fn people() -> Query {
    Query::new(COMPANY_BASE, Scope::Subtree, Filter::equal("objectClass", "inetOrgPerson"), &["uid", "entryUUID"])
}

#[tokio::test]
async fn more_than_a_thousand_people_are_read_page_by_page() -> Result<()> {
    // S-50
    let lab = Lab::new()?;
    let slapd = lab.slapd("one", &SlapdOptions { bulk_people: 1200, ..Default::default() })?;
    let directory = lab.directory(&[&slapd.ldaps_url()])?;
    let mut reading = directory.read(people());
    let mut ids = std::collections::BTreeSet::new();
    loop {
        match reading.next().await {
            Read::Entry(entry) => assert!(ids.insert(directory.id_of(&entry)?), "each once"),
            Read::Complete => break,
            Read::Incomplete(why) => return Err(why.into()),
        }
    }
    assert_eq!(ids.len(), 1320);
    wait_until("the log", Duration::from_secs(5), || slapd.log().matches("nentries=").count() >= 14)?;
    let filter: Filter = "(&(objectClass=inetOrgPerson)(uid=bulk0000*))".parse()?;
    let few = directory.read(Query { filter, ..people() }).collect().await?;
    assert_eq!(few.len(), 9);
    let nobody = directory.read(Query { base: "ou=gone,dc=acme,dc=example".into(), ..people() }).collect().await;
    assert!(matches!(&nobody, Err(Incomplete::Refused { code, .. }) if code.0 == 32), "{nobody:?}");
    Ok(())
}

#[tokio::test]
async fn a_size_limit_makes_a_read_incomplete_and_a_name_unresolvable_never_absent() -> Result<()> {
    // S-41, R-62
    let lab = Lab::new()?;
    let slapd = lab.slapd("one", &SlapdOptions { size_limit: 100, ..Default::default() })?;
    let directory = lab.directory(&[&slapd.ldaps_url()])?;
    let mut reading = directory.read(people());
    let mut entries = 0;
    let end = loop {
        match reading.next().await {
            Read::Entry(_) => entries += 1,
            end => break end,
        }
    };
    assert!(
        matches!(&end, Read::Incomplete(Incomplete::Limit { code, .. }) if code.0 == 4),
        "{entries} entries, {end:?}"
    );
    assert_eq!(entries, 100);
    let slapd = lab.slapd("two", &SlapdOptions { size_limit: 1, ..Default::default() })?;
    slapd.modify(
        "dn: uid=ben.hale,ou=sales,ou=people,dc=acme,dc=example\nchangetype: modify\nadd: uid\nuid: ann.archer\n",
    )?;
    let directory = lab.directory(&[&slapd.ldaps_url()])?;
    let cut = resolve(&directory, "ann.archer").await;
    assert!(matches!(&cut, Err(ResolveError::Incomplete { code, .. }) if code.0 == 4), "one of two: {cut:?}");
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_cut_where_there_are_no_pages_is_read_in_parts_to_its_end() -> Result<()> {
    // FD-10, S-41
    let lab = Lab::new()?;
    for size_limit in [40, 7] {
        let options = SlapdOptions { size_limit, no_pages: true, bulk_people: 300, ..Default::default() };
        let slapd = lab.slapd(&format!("limit{size_limit}"), &options)?;
        let directory = lab.directory(&[&slapd.ldaps_url()])?;
        for (filter, wanted) in [("(objectClass=inetOrgPerson)", 420), ("(objectClass=*)", 0)] {
            let query = Query { filter: filter.parse()?, ..people() };
            let found = directory.read(query).collect().await.with_context(|| format!("{size_limit} {filter}"))?;
            let names: std::collections::BTreeSet<_> = found.iter().map(|entry| entry.dn.clone()).collect();
            assert_eq!(names.len(), found.len(), "nothing twice");
            let there = slapd.count(filter)?;
            assert!(found.len() == there && (wanted == 0 || there == wanted), "{} of {there}", found.len());
        }
        // Whose own limit it is decides.
        let mut settings = lab.settings(&[&slapd.ldaps_url()])?;
        settings.size_limit = 5;
        let directory = Directory::new(settings, Some(Secret::from(Slapd::QUERY_PASSWORD)), Options::default())?;
        let end = directory.read(people()).collect().await;
        assert!(matches!(&end, Err(Incomplete::Limit { code, .. }) if code.0 == 4), "{end:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_cannot_be_found_by_their_name_is_missing_and_not_gone() -> Result<()> {
    // S-41: the account may not search by uid, and no part can be asked for
    let lab = Lab::new()?;
    let access_lines = format!("access to attrs=uid by dn.exact={} none by users read by * auth\n", Slapd::QUERY_DN);
    let options = SlapdOptions { size_limit: 40, no_pages: true, access_lines, ..Default::default() };
    let slapd = lab.slapd("hidden", &options)?;
    let end = lab.directory(&[&slapd.ldaps_url()])?.read(people()).collect().await;
    assert!(matches!(&end, Err(Incomplete::Limit { .. })), "{end:?}");
    Ok(())
}

#[tokio::test]
async fn a_stopped_server_is_unreachable_and_found_again_by_itself() -> Result<()> {
    let lab = Lab::new()?;
    let mut slapd = lab.slapd("one", &SlapdOptions::default())?;
    let directory = lab.directory(&[&slapd.ldaps_url()])?;
    logs_in(&directory, "ann.archer", &password_of("ann.archer")).await?;
    let ann = resolve(&directory, "ann.archer").await?;
    assert!(directory.health().is_up());
    slapd.stop();
    let password = Secret::from(password_of("ann.archer"));
    for _ in 0..4 {
        let error = resolve(&directory, "ann.archer").await.expect_err("stopped");
        assert!(matches!(error, ResolveError::Unanswered(_)), "{error:?}");
        let error = directory.authenticate(&ann, &password).await.expect_err("stopped");
        assert!(matches!(error, BindError::Unreachable { .. } | BindError::Lost { .. }), "{error:?}");
    }
    assert!(!directory.health().is_up());
    assert_eq!(directory.health().servers.first().map(|server| server.state), Some(ServerState::SetAside));
    let (_, end) = (0, directory.read(people()).collect().await);
    assert!(matches!(&end, Err(Incomplete::Unanswered(QueryError::Unreachable { .. }))), "{end:?}");
    slapd.restart()?;
    let started = Instant::now();
    eventually("it is back", async || resolve(&directory, "ann.archer").await.is_ok()).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    logs_in(&directory, "ann.archer", &password_of("ann.archer")).await?;
    assert_eq!(directory.health().servers.first().map(|server| server.state), Some(ServerState::Failing));
    Ok(())
}

#[tokio::test]
async fn two_servers_stand_in_for_each_other() -> Result<()> {
    // FD-04, L-34
    let lab = Lab::new()?;
    let mut one = lab.slapd("one", &SlapdOptions::default())?;
    let mut two = lab.slapd("two", &SlapdOptions::default())?;
    let directory = lab.directory(&[&one.ldaps_url(), &two.ldap_url()])?;
    let right = password_of("ann.archer");
    logs_in(&directory, "ann.archer", &right).await?;
    assert!(matches!(logs_in(&directory, "ann.archer", "wrong").await, Err(BindError::Refused { .. })));
    assert_eq!(two.binds("ann.archer"), 0, "the first server served, and its no was final");
    one.stop();
    for _ in 0..5 {
        logs_in(&directory, "ann.archer", &right).await?;
    }
    let upstream = directory.connect().await?;
    assert_eq!(upstream.server.to_string(), two.ldap_url());
    assert!(upstream.is_encrypted(), "by StartTLS");
    one.restart()?;
    two.stop();
    for _ in 0..5 {
        logs_in(&directory, "ann.archer", &right).await?;
    }
    assert_eq!(directory.connect().await?.server.to_string(), one.ldaps_url());
    Ok(())
}

#[tokio::test]
async fn an_upstream_carries_a_bind_and_whatever_follows() -> Result<()> {
    // L-30
    use ldap_wire::{BindRequest, BindResponse, ExtendedRequest, Framer, Limits, MessageId, Password, Peer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let lab = Lab::new()?;
    let slapd = lab.slapd("one", &SlapdOptions::default())?;
    for url in [slapd.ldaps_url(), slapd.ldap_url()] {
        let mut upstream = lab.directory(&[&url])?.connect().await?;
        let framer = Framer::new(Peer::Server, Limits::UPSTREAM);
        let mut buffer = bytes::BytesMut::new();
        let id = |number| MessageId::new(number).expect("in range");
        let bind = BindRequest::simple(ANN, Password::new(password_of("ann.archer"))).encode(id(1), &[]);
        upstream.stream.write_all(&bind).await?;
        let mut answers = Vec::new();
        while answers.len() < 2 {
            upstream.stream.read_buf(&mut buffer).await?;
            while let Some(message) = framer.next_message(&mut buffer)? {
                if answers.is_empty() {
                    assert!(BindResponse::decode(&message)?.result.is_success());
                    upstream.stream.write_all(&ExtendedRequest::who_am_i().encode(id(2), &[])).await?;
                }
                answers.push(message);
            }
        }
        let who = ldap_wire::ExtendedResponse::decode(&answers[1])?.value.context("a name")?;
        assert_eq!(who, format!("dn:{ANN}"));
    }
    Ok(())
}

#[tokio::test]
async fn a_probe_says_what_is_found_and_what_is_wrong() -> Result<()> {
    // FD-11
    let lab = Lab::new()?;
    let slapd = lab.slapd("one", &SlapdOptions::default())?;
    let sentence = async |settings: settings::Directory, password: &str| -> Result<String> {
        let directory = Directory::new(settings, Some(Secret::from(password)), Options::default())?;
        let probed = directory.probe().await;
        let one = probed.into_iter().next().context("one server")?;
        Ok(one.outcome.map_or_else(|error| error.to_string(), |found| found.to_string()))
    };
    let with = |change: &dyn Fn(&mut settings::Directory)| -> Result<settings::Directory> {
        let mut settings = lab.settings(&[&slapd.ldaps_url()])?;
        change(&mut settings);
        Ok(settings)
    };
    let right = Slapd::QUERY_PASSWORD;
    let stranger = Pki::new(&lab.dir.path().join("stranger"))?;
    let stranger = std::fs::read_to_string(stranger.ca_file())?;
    let (plain, tls) = (slapd.ldap_url(), slapd.ldaps_url());
    let cases: Vec<(settings::Directory, &str, &str)> = vec![
        (with(&|_| {})?, right, "OpenLDAP found; connected with TLS, query bind accepted, base readable"),
        (with(&|it| it.urls = vec![plain.clone()])?, right, "OpenLDAP found; connected with TLS"),
        (
            with(&|it| {
                it.urls = vec![plain.clone()];
                it.danger_clear_text = true;
                it.query_bind.kind = BindKind::Simple;
            })?,
            right,
            "OpenLDAP found; connected in clear text",
        ),
        (with(&|_| {})?, "wrong", "The query bind was refused with code 49"),
        (with(&|it| it.base = "dc=gone,dc=example".into())?, right, "The base \"dc=gone,dc=example\" does not exist"),
        (with(&|it| it.ca = Some(stranger.clone()))?, right, "The certificate is not trusted"),
        (with(&|it| it.urls = vec![tls.replace("127.0.0.1", "127.0.0.2")])?, right, "Unreachable"),
        (with(&|it| it.urls = vec![tls.replace("127.0.0.1", "nowhere.invalid")])?, right, "Unreachable"),
        (
            with(&|it| it.urls = vec![plain.replace("ldap:", "ldaps:")])?,
            right,
            "The server ended the connection during the handshake",
        ),
        (
            with(&|it| it.urls = vec![tls.replace("ldaps:", "ldap:")])?,
            right,
            "The server ended the connection during the handshake",
        ),
    ];
    for (settings, password, expected) in cases {
        let urls = settings.urls.clone();
        let found = sentence(settings, password).await?;
        assert!(found.starts_with(expected), "{urls:?}: {found}");
    }
    Ok(())
}
