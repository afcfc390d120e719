//! Members of a group in one search (FD-15), beside the same members by ranges of their names (S-51), at a real domain controller.

mod support;

use anyhow::Result;
use bytes::Bytes;
use directory::{Directory, Incomplete, Options, Query, Read};
use domain::Secret;
use domain::settings::{BindKind, Preset, QueryBind};
use lab::{Pki, Samba};
use ldap_wire::{Control, Filter, LdapResult, Op, ResultCode, Scope, oid, search};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use support::{Do, Fake, bind_response};

const MEMBERS: usize = 450;

#[tokio::test(flavor = "multi_thread")]
async fn the_members_of_a_group_are_the_same_by_a_scope_query_and_by_ranges() -> Result<()> {
    // FD-15, S-51
    let dir = tempfile::tempdir()?;
    let pki = Pki::new(&dir.path().join("tls"))?;
    let samba = Samba::start(dir.path(), &pki)?;
    let (mut contacts, mut members) = (String::new(), String::new());
    for number in 1..=MEMBERS {
        let dn = format!("CN=member{number:05},OU=groups,{}", Samba::BASE);
        write!(contacts, "dn: {dn}\nchangetype: add\nobjectClass: contact\nmail: member{number:05}@lab.test\n\n")?;
        writeln!(members, "member: {dn}")?;
    }
    let group = format!("CN=many,OU=groups,{}", Samba::BASE);
    let empty = format!("CN=empty,OU=groups,{}", Samba::BASE);
    samba.modify(&format!(
        "{contacts}dn: {group}\nchangetype: add\nobjectClass: group\nsAMAccountName: many\n{members}\n\
         dn: {empty}\nchangetype: add\nobjectClass: group\nsAMAccountName: empty\n"
    ))?;
    let mut settings = support::settings(&[&samba.ldaps_url()]);
    (settings.preset, settings.base, settings.page_size) = (Preset::ActiveDirectory, Samba::BASE.into(), 100);
    (settings.timeout_seconds, settings.connect_timeout_seconds) = (60, 10);
    settings.ca = Some(std::fs::read_to_string(samba.ca_file())?);
    settings.query_bind = QueryBind { kind: BindKind::Tls, name: Samba::QUERY_DN.into(), password: None };
    let made = |settings| Directory::new(settings, Some(Secret::from(Samba::QUERY_PASSWORD)), Options::default());
    let directory = made(settings.clone())?;
    assert!(directory.answers_scope_queries().await?, "Samba knows how");

    let contacts: Filter = "(objectClass=contact)".parse()?;
    let asked = directory.read(Query::members_of(&group, contacts.clone(), &["mail"])).collect().await?;
    let by_query: BTreeSet<String> = asked.iter().filter_map(|it| it.dn_text().map(str::to_lowercase)).collect();
    assert!(asked.iter().all(|entry| entry.first_text("mail").is_some_and(|mail| mail.ends_with("@lab.test"))));
    let everything = Filter::present("objectClass");
    let ranges = Query::new(&group, Scope::Base, everything.clone(), &["member;range=0-149"]);
    let entry = directory.read(ranges).collect().await?.remove(0);
    let texts = entry.values("member").iter().map(|dn| String::from_utf8_lossy(dn).to_lowercase());
    let by_ranges: BTreeSet<String> = texts.collect();
    assert_eq!((by_query.len(), asked.len()), (MEMBERS, MEMBERS), "each once, over several pages");
    assert_eq!(by_query, by_ranges);

    let one = Query::members_of(&group, "(mail=member00007@lab.test)".parse()?, &["mail"]);
    assert_eq!(directory.read(one).collect().await?.len(), 1);
    let nobody = Query::members_of(&empty, everything.clone(), &["1.1"]);
    assert_eq!(directory.read(nobody).collect().await?.len(), 0);
    let gone = Query::members_of(format!("CN=gone,{}", Samba::BASE), everything, &["1.1"]);
    assert!(directory.read(gone).collect().await.is_err_and(|why| why.is_no_such_object()));

    settings.attribute_scope_queries = false;
    assert!(!made(settings)?.answers_scope_queries().await?, "as the settings say");
    Ok(())
}

/// A server that finds this for a scope query, and offers these controls.
async fn server(code: u8, offers: &'static str) -> Result<Directory> {
    let fake = Fake::start(move |message, _| match message.op() {
        Op::BindRequest => vec![bind_response(message.id(), 0)],
        Op::SearchRequest => {
            let value = Bytes::from(vec![0x30, 0x03, 0x0a, 0x01, code]);
            let controls = match message.controls().expect("our own").iter().any(|it| it.oid == oid::SCOPE_QUERY) {
                true => vec![Control::new(oid::SCOPE_QUERY, false, Some(value))],
                false => Vec::new(),
            };
            let root = ldap_wire::SearchResultEntry {
                dn: Bytes::new(),
                attributes: vec![ldap_wire::Attribute::new(
                    "supportedControl",
                    vec![Bytes::from_static(offers.as_bytes())],
                )],
            };
            let success = LdapResult::of(ResultCode::SUCCESS);
            let end = search::search_result_done(message.id(), &success, &controls);
            vec![Do::Send(root.encode(message.id(), &[])), Do::Send(end)]
        }
        _ => vec![],
    })
    .await;
    let mut settings = support::settings(&[&fake.url]);
    settings.preset = Preset::ActiveDirectory;
    let directory = Directory::new(settings, None, Options { query_connections: 1, ..Options::default() })?;
    std::mem::forget(fake);
    Ok(directory)
}

#[tokio::test]
async fn members_of_other_domains_make_the_answer_incomplete() -> Result<()> {
    // S-52, S-41: the server says success, and beside it that it left some out
    for (code, complete) in [(0, true), (71, false), (53, false)] {
        let directory = server(code, oid::SCOPE_QUERY).await?;
        let mut reading = directory.read(Query::members_of("cn=g", Filter::present("objectClass"), &["1.1"]));
        let end = loop {
            match reading.next().await {
                Read::Entry(_) => {}
                end => break end,
            }
        };
        match end {
            Read::Complete => assert!(complete, "{code}"),
            Read::Incomplete(Incomplete::Refused { code: found, .. }) => {
                assert_eq!((found.0, complete), (code.into(), false))
            }
            end => panic!("{code}: {end:?}"),
        }
    }
    assert!(!server(0, oid::DIRSYNC).await?.answers_scope_queries().await?, "not offered");
    Ok(())
}
