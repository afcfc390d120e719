//! Resolving names against servers that misbehave: an error is never absence, an answer never somebody else's.

mod support;

use bytes::Bytes;
use directory::{Directories, Directory, Entry, Options, QueryError, ResolveError, TypedName};
use domain::settings::{self, BindKind, Preset};
use domain::{NameForm, Reason, Secret};
use ldap_wire::{
    Attribute, Filter, LdapResult, MessageId, Op, ResultCode, Scope, SearchResultEntry, result::notice_of_disconnection,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{BASE, Do, Fake, QUERY, alice, bind_response, directory, done, eventually, person, search_of, settings};

async fn resolve(directory: &Directory, name: &str) -> Result<Entry, ResolveError> {
    directory.resolve(&TypedName::parse(name, directory.settings())?).await
}

#[tokio::test]
async fn a_name_becomes_the_id_the_server_has_for_it() {
    //
    let server = Fake::start(|message, _| alice(message)).await;
    let entry = resolve(&directory(&[&server.url]), "CORP\\ALICE").await.expect("alice");
    assert_eq!(entry.subject.to_string(), "corp/entryUUID:00000000-0000-0000-0000-000000000007");
    assert_eq!((entry.username.as_str(), entry.dn.as_str()), ("alice", "uid=alice,dc=corp,dc=example"));
    assert_eq!(entry.form, NameForm::Netbios);
}

#[tokio::test]
async fn the_controls_that_a_directory_knows_are_asked_for_once_a_minute() {
    // L-15: each bind with a critical control asks; a refusal is no answer
    let refused = AtomicBool::new(false);
    let server = Fake::start(move |message, _| match message.op() {
        Op::SearchRequest if !refused.swap(true, Ordering::SeqCst) => {
            vec![done(message.id(), 50)]
        }
        Op::SearchRequest => {
            let known = Attribute::new("supportedControl", vec!["1.2.3".into()]);
            let root = SearchResultEntry { dn: "".into(), attributes: vec![known] };
            vec![Do::Send(root.encode(message.id(), &[])), done(message.id(), 0)]
        }
        _ => alice(message),
    })
    .await;
    let directory = directory(&[&server.url]);
    assert_eq!(directory.knows_controls(&["1.2.3"]).await.ok(), Some(false), "refused");
    for (oids, known) in [(vec!["1.2.3"], true), (vec!["1.2.3", "1.2.4"], false), (vec![], true), (vec!["1.2.3"], true)]
    {
        assert_eq!(directory.knows_controls(&oids).await.ok(), Some(known), "{oids:?}");
    }
    assert_eq!(server.count(Op::SearchRequest), 2);
}

#[tokio::test]
async fn the_search_joins_the_user_filter_and_bounds_itself() {
    let server = Fake::start(|message, _| {
        if message.op() == Op::SearchRequest {
            let search = search_of(message);
            let filter = Filter::from_ber(&search.filter).expect("sound").to_string();
            match search.scope {
                Scope::Base => {
                    assert_eq!(
                        (&search.base[..], filter.as_str()),
                        (&b"UID=Alice,dc=corp,dc=example"[..], "(objectClass=inetOrgPerson)")
                    );
                }
                _ => {
                    assert_eq!(
                        (&search.base[..], filter.as_str()),
                        (BASE.as_bytes(), "(&(objectClass=inetOrgPerson)(|(uid=al\\2aice)))")
                    );
                }
            }
            assert_eq!((search.size_limit, search.dereference), (2, 0));
        }
        alice(message)
    })
    .await;
    let directory = directory(&[&server.url]);
    resolve(&directory, "al*ice").await.expect("alice");
    resolve(&directory, "UID=#0405416C696365 ; dc=corp,dc=example").await.expect("alice");
}

#[tokio::test]
async fn only_a_clean_end_proves_that_nobody_is_there() {
    // R-62, B-59
    let clean = |code| move |id: MessageId| vec![done(id, code)];
    let server = Fake::start(
        move |message, _| if message.op() == Op::SearchRequest { clean(0)(message.id()) } else { alice(message) },
    )
    .await;
    assert!(matches!(resolve(&directory(&[&server.url]), "nobody").await, Err(ResolveError::Absent)));

    let cases: Vec<(&str, support::Answer)> = vec![
        ("size limit", Box::new(clean(4))),
        ("time limit", Box::new(clean(3))),
        ("administrative limit", Box::new(clean(11))),
        ("referral", Box::new(clean(10))),
        ("no such base", Box::new(clean(32))),
        ("operations error", Box::new(clean(1))),
        ("insufficient rights", Box::new(clean(50))),
        ("busy", Box::new(clean(51))),
        ("unavailable", Box::new(clean(52))),
        ("an unknown code", Box::new(clean(4096))),
        ("the end of another question", Box::new(|_| vec![done(MessageId::new(99).expect("in range"), 0)])),
        ("a bind response", Box::new(|id| vec![bind_response(id, 0)])),
        ("the end without a word", Box::new(|_| vec![Do::Close])),
        ("silence", Box::new(|_| vec![Do::Hang])),
        ("octets that are not LDAP", Box::new(|_| vec![Do::Send(Bytes::from_static(b"\x16\x03\x01\x00"))])),
        (
            "a notice of disconnection",
            Box::new(|_| vec![Do::Send(notice_of_disconnection(&LdapResult::of(ResultCode::UNAVAILABLE))), Do::Hang]),
        ),
        ("an entry and no end", Box::new(|id| vec![person(id, "alice", 7), Do::Close])),
        (
            "an entry without an id",
            Box::new(|id| {
                let entry = SearchResultEntry { dn: Bytes::from_static(b"uid=alice"), attributes: vec![] };
                vec![Do::Send(entry.encode(id, &[])), done(id, 0)]
            }),
        ),
        (
            "more entries than asked for",
            Box::new(|id| (1..=3).map(|number| person(id, "alice", number)).chain([done(id, 0)]).collect()),
        ),
    ];
    for (what, answer) in cases {
        let server = Fake::start(move |message, _| match message.op() {
            Op::SearchRequest => answer(message.id()),
            _ => alice(message),
        })
        .await;
        let error = resolve(&directory(&[&server.url]), "alice").await.expect_err(what);
        assert!(error.is_unavailable(), "{what}: {error:?}");
        assert!(matches!(error.reason(), Reason::DirectoryError | Reason::DirectoryTimeout), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn two_entries_are_nobody() {
    let server = Fake::start(|message, _| match message.op() {
        Op::SearchRequest => {
            vec![person(message.id(), "alice", 7), person(message.id(), "alice", 8), done(message.id(), 0)]
        }
        _ => alice(message),
    })
    .await;
    let error = resolve(&directory(&[&server.url]), "alice").await.expect_err("ambiguous");
    assert!(matches!(error, ResolveError::Ambiguous));
    assert_eq!(error.reason(), Reason::AmbiguousUser);
}

#[tokio::test]
async fn many_questions_share_a_connection_and_each_gets_its_own_answer() {
    // Answers in reverse order, each with the name that was asked for.
    const MANY: usize = 20;
    let waiting = std::sync::Mutex::new(Vec::new());
    let server = Fake::start(move |message, _| {
        let mut waiting = waiting.lock().expect("no panic");
        if message.op() == Op::SearchRequest {
            let filter = Filter::from_ber(&search_of(message).filter).expect("sound").to_string();
            let uid = filter.split("(uid=").nth(1).and_then(|rest| rest.split(')').next()).expect("a name").to_owned();
            waiting.push((message.id(), uid));
        }
        if waiting.len() < MANY {
            return vec![];
        }
        waiting.drain(..).rev().flat_map(|(id, uid)| [person(id, &uid, 1), done(id, 0)]).collect()
    })
    .await;
    let directory = Arc::new(directory(&[&server.url]));
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..MANY {
        let directory = Arc::clone(&directory);
        asked.spawn(async move {
            let name = format!("person{number}");
            assert_eq!(resolve(&directory, &name).await.expect("found").username, name);
        });
    }
    while let Some(result) = asked.join_next().await {
        result.expect("the right answer");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn no_more_than_64_questions_are_in_flight_on_a_connection() {
    let server = Fake::start(|_, _| vec![]).await;
    let directory = Arc::new(directory(&[&server.url]));
    let mut asked = tokio::task::JoinSet::new();
    for number in 0..80 {
        let directory = Arc::clone(&directory);
        asked.spawn(async move { resolve(&directory, &format!("person{number}")).await });
    }
    let mut overloaded = 0;
    while let Some(result) = asked.join_next().await {
        let error = result.expect("no panic").expect_err("nobody answers");
        assert!(error.is_unavailable(), "{error:?}");
        overloaded += usize::from(error.reason() == Reason::Overloaded);
    }
    // When the first give up, one that waits may just get through to the next connection.
    let first = server.connections_of(Op::SearchRequest).into_iter().filter(|connection| *connection == 0).count();
    assert_eq!(first, 64);
    assert!(overloaded > 0);
}

#[tokio::test]
async fn a_question_that_takes_too_long_disturbs_no_other_and_its_late_answer_nobody() {
    let first = AtomicUsize::new(0);
    let server = Fake::start(move |message, _| match message.op() {
        Op::SearchRequest if search_of(message).base.is_empty() => alice(message),
        Op::SearchRequest => match first.fetch_add(1, Ordering::SeqCst) {
            0 => vec![],
            // The late one comes first, then the one that is awaited.
            1 => vec![
                person(MessageId::new(1).expect("in range"), "mallory", 9),
                person(message.id(), "bob", 8),
                done(message.id(), 0),
            ],
            _ => vec![
                done(MessageId::new(1).expect("in range"), 0),
                person(message.id(), "carol", 6),
                done(message.id(), 0),
            ],
        },
        _ => vec![],
    })
    .await;
    let directory = directory(&[&server.url]);
    let (slow, quick) = tokio::join!(resolve(&directory, "alice"), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        resolve(&directory, "bob").await
    });
    assert!(matches!(slow, Err(ResolveError::Unanswered(QueryError::Timeout { .. }))), "{slow:?}");
    assert_eq!(quick.expect("bob").username, "bob");
    assert_eq!(resolve(&directory, "carol").await.expect("carol").username, "carol");
    assert_eq!((server.connections(), server.count(Op::AbandonRequest)), (1, 1));
}

#[tokio::test]
async fn a_broken_connection_is_opened_again_and_the_question_asked_again() {
    let server = Fake::start(|message, connection| match (message.op(), connection) {
        (Op::SearchRequest, 0) => vec![Do::Close],
        _ => alice(message),
    })
    .await;
    let directory = directory(&[&server.url]);
    assert_eq!(resolve(&directory, "alice").await.expect("alice").username, "alice");
    assert_eq!(server.count(Op::SearchRequest), 2);
}

#[tokio::test]
async fn a_busy_server_is_left_for_the_next_one() {
    let busy = Fake::start(|message, _| match message.op() {
        Op::SearchRequest => vec![done(message.id(), 51)],
        _ => alice(message),
    })
    .await;
    let good = Fake::start(|message, _| alice(message)).await;
    let directory = directory(&[&busy.url, &good.url]);
    eventually("the query connection", async || directory.health().query_connections == 1).await;
    assert_eq!(resolve(&directory, "alice").await.expect("alice").username, "alice");
    assert_eq!((busy.count(Op::SearchRequest), good.count(Op::SearchRequest)), (1, 1));
}

#[tokio::test]
async fn an_unreachable_directory_is_said_at_once_and_found_again_when_it_is_back() {
    let port = lab::free_port();
    let url = format!("ldap://127.0.0.1:{port}");
    let mut patient = settings(&[&url]);
    patient.timeout_seconds = 60;
    let directory = Directory::new(patient, None, Options::default()).expect("good settings");
    let started = Instant::now();
    let error = resolve(&directory, "alice").await.expect_err("nobody listens");
    assert!(matches!(error, ResolveError::Unanswered(QueryError::Unreachable { .. })), "{error:?}");
    assert_eq!(error.reason(), Reason::DirectoryTimeout);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(!directory.health().is_up());
    assert!(directory.health().last_error().is_some());

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free again");
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut octets = [0; 4096];
        let got = tokio::io::AsyncReadExt::read(&mut stream, &mut octets).await.expect("a search");
        let message = ldap_wire::Message::parse(Bytes::copy_from_slice(&octets[..got])).expect("sound");
        for step in alice(&message) {
            let Do::Send(octets) = step else { continue };
            tokio::io::AsyncWriteExt::write_all(&mut stream, &octets).await.expect("written");
        }
        stream
    });
    eventually("it is back", async || resolve(&directory, "alice").await.is_ok()).await;
    drop(served);
}

#[tokio::test]
async fn a_refused_query_account_is_tried_rarely_and_never_on_the_next_server() {
    // A wrong password in the settings must not lock the account.
    let refusing = || {
        Fake::start(|message, _| match message.op() {
            Op::BindRequest => vec![bind_response(message.id(), 49)],
            _ => alice(message),
        })
    };
    let (one, two) = (refusing().await, refusing().await);
    let mut settings = settings(&[&one.url, &two.url]);
    settings.query_bind = settings::QueryBind { kind: BindKind::Simple, name: QUERY.into(), password: None };
    let options = Options { query_connections: 1, ..Options::default() };
    let directory = Directory::new(settings, Some(Secret::from("wrong")), options).expect("good settings");
    let started = Instant::now();
    for _ in 0..20 {
        let error = resolve(&directory, "alice").await.expect_err("no account");
        assert!(
            matches!(
                error,
                ResolveError::Unanswered(QueryError::BindRefused { code: ResultCode::INVALID_CREDENTIALS, .. })
            ),
            "{error:?}"
        );
        assert_eq!(error.reason(), Reason::DirectoryError);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!((one.binds(QUERY), two.binds(QUERY)), (1, 0));
}

#[tokio::test]
async fn active_directory_is_asked_not_to_refer_to_its_other_partitions() {
    let server = Fake::start(|message, _| {
        if message.op() == Op::SearchRequest {
            let controls = message.controls().expect("sound");
            assert!(controls.iter().any(|control| control.oid == "1.2.840.113556.1.4.1339" && !control.critical));
        }
        vec![done(message.id(), 0)]
    })
    .await;
    let mut settings = settings(&[&server.url]);
    settings.preset = Preset::ActiveDirectory;
    let directory = Directory::new(settings, None, Options::default()).expect("good settings");
    assert!(matches!(resolve(&directory, "alice").await, Err(ResolveError::Absent)));
}

#[tokio::test]
async fn new_settings_keep_what_has_not_changed_and_refuse_what_cannot_work() {
    let server = Fake::start(|message, _| alice(message)).await;
    let named = |name: &str, page_size: u32| {
        let mut settings = settings(&[&server.url]);
        settings.name = name.parse().expect("a valid name");
        settings.page_size = page_size;
        (settings, None)
    };
    let directories = Directories::new(Options { query_connections: 1, ..Options::default() });
    assert!(directories.first().is_none());
    assert!(directories.replace([named("a", 2), named("b", 2)]).is_empty());
    let (a, b) = (directories.named("a").expect("a"), directories.named("b").expect("b"));
    eventually("two connections", async || server.connections() == 2).await;

    let mut broken = named("c", 2);
    broken.0.base = "nonsense".into();
    let refused = directories.replace([named("b", 3), named("a", 2), broken]);
    assert_eq!(refused.iter().map(|refused| refused.name.as_str()).collect::<Vec<_>>(), ["c"]);
    assert!(Arc::ptr_eq(&a, &directories.named("a").expect("a")), "unchanged: the same connections");
    assert!(!Arc::ptr_eq(&b, &directories.named("b").expect("b")));
    assert_eq!(directories.first().expect("b").name().as_str(), "b");
    assert!(directories.named("c").is_none());
    // Another password is a change, too.
    let secret = |text: &str| {
        let (mut settings, _) = named("a", 2);
        settings.query_bind = settings::QueryBind { kind: BindKind::Simple, name: QUERY.into(), password: None };
        (settings, Some(Secret::from(text)))
    };
    assert!(directories.replace([secret("one")]).is_empty());
    let before = directories.first().expect("a");
    assert!(directories.replace([secret("one")]).is_empty());
    assert!(Arc::ptr_eq(&before, &directories.first().expect("a")));
    assert!(directories.replace([secret("two")]).is_empty());
    assert!(!Arc::ptr_eq(&before, &directories.first().expect("a")));
}

#[tokio::test]
async fn a_dropped_directory_closes_its_connections() {
    let closed = Arc::new(AtomicBool::new(false));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", lab::free_port())).await.expect("a free port");
    let url = format!("ldap://{}", listener.local_addr().expect("it is bound"));
    let seen = Arc::clone(&closed);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let ended = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 16]).await;
        seen.store(matches!(ended, Ok(0) | Err(_)), Ordering::SeqCst);
    });
    let directory = directory(&[&url]);
    eventually("the connection", async || directory.health().query_connections == 1).await;
    drop(directory);
    eventually("its end", async || closed.load(Ordering::SeqCst)).await;
}

#[tokio::test]
async fn names_outside_the_base_and_names_that_are_none_are_not_asked_for() {
    let server = Fake::start(|message, _| alice(message)).await;
    let directory = directory(&[&server.url]);
    for name in ["cn=admin,cn=config", "uid=alice,dc=corp,dc=example,dc=evil", "alice\0", "OTHER\\alice", ""] {
        let error = resolve(&directory, name).await.expect_err("no name");
        assert!(matches!(error, ResolveError::Name(_)), "{name}: {error:?}");
        assert_eq!(error.reason(), Reason::UnknownUser);
    }
    assert_eq!(server.count(Op::SearchRequest), 0);
    // Service accounts may live elsewhere: they are listed by hand.
    let outside = TypedName::parse("cn=svc,dc=other", directory.settings()).expect("a DN");
    assert!(directory.resolve_any(&outside).await.is_ok());
    let bare = TypedName::parse("svc", directory.settings()).expect("a name");
    assert!(directory.resolve_any(&bare).await.is_ok());
}
