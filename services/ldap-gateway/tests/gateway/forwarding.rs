//! What passes through after a bind: exactly what slapd says, and the few things that may not pass.

use crate::support::{Call, Lab, Wanted, Wire, client, until};
use anyhow::{Context, Result};
use bytes::Bytes;
use domain::settings::{Anonymous, Operations};
use lab::{COMPANY_BASE, password_of};
use ldap_wire::ber::{self, Writer};
use ldap_wire::{
    Control, ExtendedRequest, Filter, LdapResult, Message, MessageId, Op, PagedResults, Scope, SearchRequest,
    SearchResultEntry, SyncMode, SyncRequest, extended, oid,
};
use std::time::{Duration, Instant};

const ANN: &str = "ann.archer";

async fn lab(client: domain::settings::Client, bulk_people: usize) -> Result<Lab> {
    let lab = Lab::start(Wanted { client, bulk_people, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111", "222222", "333333"]);
    Ok(lab)
}

fn octets(messages: &[Message]) -> Vec<Bytes> {
    messages.iter().map(|message| message.octets().clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_gives_message_by_message_what_the_directory_gives() -> Result<()> {
    // L-06, FL-10: the same octets in the same order, 1,000 entries and their operational attributes
    let lab = lab(client("equal"), 1000).await?;
    let mut direct = lab.connect_directly().await?;
    let mut through = lab.connect().await?;
    assert_eq!(direct.bind(&lab.person(ANN), &password_of(ANN)).await?, 0);
    assert_eq!(through.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
    let people = Filter::present("uid");
    let searches = [
        SearchRequest::new(COMPANY_BASE, Scope::Subtree, &people, &["*", "+"]),
        SearchRequest::new(COMPANY_BASE, Scope::Subtree, &people, &["1.1"]),
        SearchRequest::new("ou=nowhere,dc=acme,dc=example", Scope::Base, &people, &[]),
        SearchRequest { size_limit: 7, ..SearchRequest::new(COMPANY_BASE, Scope::Subtree, &people, &[]) },
        SearchRequest { types_only: true, ..SearchRequest::new(COMPANY_BASE, Scope::One, &Filter::present("ou"), &[]) },
    ];
    for search in &searches {
        let (one, other) = (direct.search(search, &[]).await?, through.search(search, &[]).await?);
        assert_eq!(octets(&one), octets(&other), "{search:?}");
    }
    assert!(direct.search(&searches[0], &[]).await?.len() > 1100);
    through.next_id();

    // Paged, with the sort and an unknown control that is not critical.
    let search = &searches[0];
    let mut cookie = Bytes::new();
    let mut pages = 0;
    loop {
        let page = PagedResults { size: 250, cookie: cookie.clone() }.to_control(true);
        let controls = [page, Control::new("1.2.3.4.5.6", false, Some("x".into()))];
        let one = direct.search(search, &controls).await?;
        let other = through.search(search, &controls).await?;
        assert_eq!(octets(&one), octets(&other), "page {pages}");
        pages += 1;
        let done = other.last().context("a page has an end")?;
        cookie = PagedResults::find(&done.controls()?)?.context("a page has a cookie")?.cookie;
        if cookie.is_empty() {
            break;
        }
    }
    assert!(pages >= 4, "{pages}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_operations_at_once_are_answered_each_under_its_own_id() -> Result<()> {
    // L-05, B-52: 64 may be outstanding, the next one is busy; nothing is lost
    let lab = lab(client("pipelined"), 0).await?;
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
    let search = SearchRequest::new(COMPANY_BASE, Scope::Subtree, &Filter::present("uid"), &["uid"]);
    let mut octets = Vec::new();
    let mut sent = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let id = wire.next_id();
        sent.insert(id);
        octets.extend_from_slice(&search.encode(id, &[]));
    }
    wire.send(&octets).await?;
    let (mut full, mut busy) = (0, 0);
    while !sent.is_empty() {
        let message = wire.receive().await?;
        if message.op() == Op::SearchResultDone {
            assert!(sent.remove(&message.id()), "{message:?} was answered twice, or never asked");
            match LdapResult::decode(&message)?.code.0 {
                0 => full += 1,
                51 => busy += 1,
                code => panic!("{code}"),
            }
        }
    }
    assert!(full >= 64 && full + busy == 300, "{full} answered, {busy} busy");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_dse_leads_nobody_around_the_gateway() -> Result<()> {
    // L-16, L-10, FL-18: readable for everybody by default, and nothing else is
    let lab = lab(client("rootdse"), 0).await?;
    let root = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &["*", "+"]);
    let entry = |messages: &[Message]| -> Result<SearchResultEntry> {
        Ok(SearchResultEntry::decode(messages.first().context("an entry")?)?)
    };
    let real = entry(&lab.connect_directly().await?.search(&root, &[]).await?)?;
    assert!(real.values("supportedExtension").iter().any(|oid| oid == oid::PASSWORD_MODIFY));
    assert!(real.values("supportedControl").iter().any(|oid| oid == oid::PROXIED_AUTHORIZATION));

    let mut wire = lab.gateway.connect_plain().await?;
    for bound in [false, true] {
        let seen = entry(&wire.search(&root, &[]).await?)?;
        let values = |name: &str| seen.values(name).to_vec();
        assert_eq!(values("supportedSASLMechanisms"), Vec::<Bytes>::new(), "bound: {bound}");
        assert!(values("supportedExtension").iter().any(|oid| oid == oid::START_TLS));
        assert!(values("supportedExtension").iter().all(|found| {
            [oid::START_TLS, oid::WHO_AM_I, oid::PASSWORD_MODIFY, oid::CANCEL]
                .contains(&&*String::from_utf8_lossy(found))
        }));
        assert!(!values("supportedControl").iter().any(|oid| oid == oid::PROXIED_AUTHORIZATION));
        assert_eq!(values("namingContexts"), real.values("namingContexts"));
        if !bound {
            assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?.0, 50);
            assert_eq!(wire.who_am_i().await?, Err(50));
            wire = lab.connect().await?;
            assert_eq!(wire.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_connections_may_do_what_the_client_says() -> Result<()> {
    // L-10, FL-16
    let refuse = domain::settings::Client { anonymous: Anonymous::Refuse, ..client("refuse") };
    let strict = lab(refuse, 0).await?;
    let mut wire = strict.connect().await?;
    assert_eq!(wire.bind("", "").await?, 48);
    assert_eq!(wire.search_code("", Scope::Base).await?.0, 50);
    let forward = domain::settings::Client { anonymous: Anonymous::Forward, ..client("forward") };
    let open = lab(forward, 0).await?;
    let mut wire = open.connect().await?;
    assert_eq!(wire.bind("", "").await?, 0);
    assert_eq!(wire.who_am_i().await?, Ok(String::new()));
    // slapd's own rule: nobody may authenticate there, and sees nothing.
    assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?, (50, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_a_client_may_not_send_are_refused_with_53() -> Result<()> {
    // FL-10
    let compare = |id| {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            w.integer(ber::INTEGER, id);
            w.nested(Op::CompareRequest.tag(), |w| {
                w.octet_string(format!("uid={ANN},ou=engineering,ou=people,{COMPANY_BASE}").as_bytes());
                w.nested(ber::SEQUENCE, |w| {
                    w.octet_string(b"uid");
                    w.octet_string(ANN.as_bytes());
                });
            });
        });
        writer.into_vec()
    };
    let delete = |id| {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            w.integer(ber::INTEGER, id);
            w.octets(Op::DelRequest.tag(), COMPANY_BASE.as_bytes());
        });
        writer.into_vec()
    };
    for (operations, search, compared, deleted) in
        [(Operations::All, 0, 6, 50), (Operations::Read, 0, 6, 53), (Operations::Bind, 53, 53, 53)]
    {
        let lab = lab(domain::settings::Client { operations, ..client("operations") }, 0).await?;
        let mut wire = lab.connect().await?;
        assert_eq!(wire.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
        assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?.0, search, "{operations:?}");
        for (request, expected) in [(compare(100), compared), (delete(101), deleted)] {
            wire.send(&request).await?;
            assert_eq!(LdapResult::decode(&wire.receive().await?)?.code.0, expected, "{operations:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn extended_operations_and_controls_pass_by_list() -> Result<()> {
    // L-14, L-15, B-56
    let lab = lab(client("lists"), 0).await?;
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
    for oid in ["1.3.6.1.1.21.1", "1.2.840.113556.1.4.1781", "1.2.840.113556.1.4.2212", "1.2.3"] {
        assert_eq!(wire.extended(&ExtendedRequest::new(oid, None)).await?.result.code.0, 2, "{oid}");
    }
    let search = SearchRequest::new(COMPANY_BASE, Scope::Base, &Filter::present("objectClass"), &["1.1"]);
    for (oid, critical, expected) in [
        (oid::PROXIED_AUTHORIZATION, true, 12),
        (oid::PROXIED_AUTHORIZATION, false, 2),
        (oid::SHUTDOWN_NOTIFY, true, 12),
        // slapd knows nothing of it, and would pass over it.
        (oid::SHUTDOWN_NOTIFY, false, 2),
        ("1.2.3.4", true, 12),
        ("1.2.3.4", false, 0),
    ] {
        let answer = wire.search(&search, &[Control::new(oid, critical, Some("dn:".into()))]).await?;
        assert_eq!(LdapResult::decode(answer.last().context("an end")?)?.code.0, expected, "{oid} {critical}");
    }
    // A password change goes through where both legs are encrypted, and the new password counts.
    let mut value = Writer::new();
    value.nested(ber::SEQUENCE, |w| {
        w.octets(0x81, password_of(ANN).as_bytes());
        w.octets(0x82, b"Changed-4711");
    });
    let change = ExtendedRequest::new(oid::PASSWORD_MODIFY, Some(value.into_vec().into()));
    assert_eq!(wire.extended(&change).await?.result.code.0, 0);
    assert_eq!(lab.connect().await?.bind(ANN, &format!("{},222222", password_of(ANN))).await?, 49);
    assert_eq!(lab.connect().await?.bind(ANN, "Changed-4711,333333").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_its_own_lists_of_operations_controls_and_names() -> Result<()> {
    // L-14, L-15, L-16: what others are refused passes, and is offered; fast bind, batch and `altServer` never are
    let never = [oid::FAST_BIND, oid::BATCH_REQUEST];
    let transaction = "1.3.6.1.1.21.1";
    let listed = domain::settings::Client {
        extended_operations: [transaction].iter().chain(&never).map(|oid| (*oid).to_owned()).collect(),
        trusted_controls: vec![oid::PROXIED_AUTHORIZATION.to_owned()],
        ..client("own-lists")
    };
    let lab = lab(listed, 0).await?;
    let mut direct = lab.connect_directly().await?;
    assert_eq!(direct.bind(&lab.person(ANN), &password_of(ANN)).await?, 0);
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
    let begin = ExtendedRequest::new(transaction, None);
    let (real, seen) = (direct.extended(&begin).await?.result, wire.extended(&begin).await?.result);
    assert_eq!((real.code.0, seen.code.0), (0, 0), "slapd begins a transaction");
    for oid in never {
        assert_eq!(wire.extended(&ExtendedRequest::new(oid, None)).await?.result.code.0, 2, "{oid}");
    }
    // To be nobody for one operation is a right that everybody has.
    let control = [Control::new(oid::PROXIED_AUTHORIZATION, true, Some(Bytes::new()))];
    let id = wire.next_id();
    wire.send(&ExtendedRequest::who_am_i().encode(id, &control)).await?;
    let answer = ldap_wire::ExtendedResponse::decode(&wire.receive().await?)?;
    assert_eq!((answer.result.code.0, answer.value.unwrap_or_default()), (0, Bytes::new()));
    let root = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &["*", "+"]);
    let answer = wire.search(&root, &[]).await?;
    let entry = SearchResultEntry::decode(answer.first().context("an entry")?)?;
    let offers = |name: &str, oid: &str| entry.values(name).iter().any(|value| value == oid);
    assert!(offers("supportedExtension", transaction) && offers("supportedControl", oid::PROXIED_AUTHORIZATION));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_no_more_than_the_client_may_and_lasts_no_longer() -> Result<()> {
    // L-18: 11 where it is our limit, 4 and 3 where it is the client's own or the directory's
    let modest = domain::settings::Client { size_limit: 5_000, time_limit_seconds: 1, ..client("modest") };
    let lab = lab(modest, 10_000).await?;
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
    let bulk = format!("ou=bulk,ou=people,{COMPANY_BASE}");
    let find = async |wire: &mut Wire, filter: &Filter, size: u32, seconds: u32| -> Result<(u32, usize)> {
        let search = SearchRequest::new(bulk.clone(), Scope::Subtree, filter, &["uid"]);
        let search = SearchRequest { size_limit: size, time_limit_seconds: seconds, ..search };
        let answers = wire.search(&search, &[]).await?;
        let (done, entries) = answers.split_last().context("an end")?;
        let (done, relayed) = (LdapResult::decode(done)?, entries.len());
        Ok((done.code.0, relayed))
    };
    let everybody = Filter::present("uid");
    for (asked, code, found) in [(0, 11, 5_000), (9_000, 11, 5_000), (5_000, 4, 5_000), (3, 4, 3)] {
        assert_eq!(find(&mut wire, &everybody, asked, 0).await?, (code, found), "{asked}");
    }
    assert_eq!(wire.search_code(&lab.person(ANN), Scope::Base).await?, (0, 1), "below the limit nothing changes");
    // Nothing is indexed so: nobody is found, and it takes the directory far longer than a second to see it.
    let names = (0..4_000).map(|number| Filter::Substrings {
        attribute: "mail".into(),
        initial: None,
        any: vec![format!("x{number}").into_bytes(), b"y".to_vec()],
        last: Some(b"z".to_vec()),
    });
    let slow = Filter::or(names);
    for (asked, code) in [(0, 11), (60, 11), (1, 3)] {
        let started = Instant::now();
        assert_eq!(find(&mut wire, &slow, 0, asked).await?, (code, 0), "{asked}");
        assert!(started.elapsed() >= Duration::from_millis(900), "{asked}: after {:?}", started.elapsed());
    }
    // The next login uses the connection, whatever the directory was still busy with.
    assert_eq!(wire.bind(ANN, &format!("{},222222", password_of(ANN))).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_never_ends_keeps_no_place_once_its_time_is_over() -> Result<()> {
    // L-18, L-05, L-04: content synchronisation waits for changes for ever
    let brief = domain::settings::Client { time_limit_seconds: 1, ..client("brief") };
    let section = |section: &mut ldap_gateway::LdapSection| section.bound_idle_seconds = 3;
    let lab = Lab::start(Wanted { client: brief, section, ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["111111"]);
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
    let search = SearchRequest::new(lab.person(ANN), Scope::Base, &Filter::present("objectClass"), &["1.1"]);
    let waiting = SyncRequest { mode: SyncMode::RefreshAndPersist, cookie: None, reload_hint: false }.to_control();
    let answers = wire.search(&search, &[waiting]).await?;
    assert_eq!(LdapResult::decode(answers.last().context("an end")?)?.code.0, 11);
    until("the directory to be told", || lab.slapd.log().contains(" ABANDON msg=")).await?;
    assert_eq!(wire.search_code(&lab.person(ANN), Scope::Base).await?, (0, 1));
    wire.expect_silent_end().await.context("nothing is open any more, so that it is idle")
}

#[tokio::test(flavor = "multi_thread")]
async fn more_is_abandoned_than_anybody_remembers_and_the_connection_goes_on() -> Result<()> {
    // L-06, L-12: slapd does not answer what was abandoned, or has answered already
    let lab = lab(client("hasty"), 300).await?;
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
    let search = SearchRequest::new(COMPANY_BASE, Scope::Subtree, &Filter::present("uid"), &["*", "+"]);
    let mut octets = Vec::new();
    for _ in 0..400 {
        let id = wire.next_id();
        octets.extend_from_slice(&search.encode(id, &[]));
        octets.extend_from_slice(&extended::abandon_request(wire.next_id(), id));
    }
    wire.send(&octets).await?;
    let last =
        wire.send_search(&SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), &[]), &[]).await?;
    loop {
        let message = wire.receive().await?;
        assert_ne!(message.id().get(), 0, "a notice of disconnection");
        if message.id() == last && message.op() == Op::SearchResultDone {
            return Ok(());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_changes_ends_what_is_remembered_of_its_owner() -> Result<()> {
    // L-14, V-52: one's own, by both ways, and somebody else's
    let lab = lab(client("changing"), 0).await?;
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(ANN, &format!("{},111111", password_of(ANN))).await?, 0);
    let changed = || {
        let calls = lab.gateway.verification.calls();
        calls.iter().filter(|call| matches!(call, Call::PasswordChanged(_))).count()
    };
    let wanted_of = |whose: Option<&str>, old: &str, new: &str| {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            if let Some(whose) = whose {
                w.octets(0x80, whose.as_bytes());
            }
            w.octets(0x81, old.as_bytes());
            w.octets(0x82, new.as_bytes());
        });
        ExtendedRequest::new(oid::PASSWORD_MODIFY, Some(writer.into_vec().into()))
    };
    let wanted = |old: &str, new: &str| wanted_of(None, old, new);
    assert_ne!(wire.extended(&wanted("not the old one", "new")).await?.result.code.0, 0);
    assert_eq!(wire.extended(&wanted(&password_of(ANN), "Another-1")).await?.result.code.0, 0);
    until("it is told", || changed() == 1).await?;
    // An empty identity is the bound user, to the directory and to us.
    assert_eq!(wire.extended(&wanted_of(Some(""), "Another-1", "Another-0")).await?.result.code.0, 0);
    until("it is told", || changed() == 2).await?;
    let modify = |id: MessageId, dn: &str, attribute: &str, value: &str| {
        let mut writer = Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            w.integer(ber::INTEGER, id.get().into());
            w.nested(Op::ModifyRequest.tag(), |w| {
                w.octet_string(dn.as_bytes());
                let replaced = |w: &mut Writer| {
                    w.integer(ber::ENUMERATED, 2);
                    w.nested(ber::SEQUENCE, |w| {
                        w.octet_string(attribute.as_bytes());
                        w.nested(0x31, |w| w.octet_string(value.as_bytes()));
                    });
                };
                w.nested(ber::SEQUENCE, |w| w.nested(ber::SEQUENCE, replaced));
            });
        });
        writer.into_vec()
    };
    let person = lab.person(ANN);
    // The last one the directory refuses.
    for (attribute, value, code, told) in [("userPassword", "Another-2", 0, 3), ("description", "no password", 50, 3)] {
        let id = wire.next_id();
        wire.send(&modify(id, &person, attribute, value)).await?;
        assert_eq!(LdapResult::decode(&wire.receive().await?)?.code.0, code, "{attribute}");
        until("it is told", || changed() == told).await?;
    }
    let ids: std::collections::BTreeSet<_> = lab
        .gateway
        .verification
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::PasswordChanged(id) => Some(id),
            _ => None,
        })
        .collect();
    assert_eq!(ids.len(), 1, "all of the same person: {ids:?}");
    Ok(())
}
