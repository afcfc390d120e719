//! A person's bind against servers that misbehave: never a yes that is none, never more than one bind that counts.

mod support;

use bytes::Bytes;
use directory::{BindError, Directory, Observation, Operation, Options, Outcome};
use domain::{Reason, Secret};
use ldap_wire::{LdapResult, MessageId, Op, ResultCode, oid, result::notice_of_disconnection};
use std::sync::{Arc, Mutex};
use support::{Do, Fake, alice, bind_response, bind_result, directory, done, entry, eventually, password, settings};

const ALICE: &str = "uid=alice,dc=corp,dc=example";

fn id(number: u32) -> MessageId {
    MessageId::new(number).expect("in range")
}

#[tokio::test]
async fn a_right_password_is_accepted_with_one_bind_of_the_resolved_dn() {
    let server = Fake::start(|message, _| alice(message)).await;
    let accepted = directory(&[&server.url]).authenticate(&entry("alice"), &password()).await.expect("accepted");
    assert_eq!(accepted.subject(), &entry("alice").subject);
    assert_eq!((server.binds(ALICE), server.count(Op::BindRequest)), (1, 1));
}

#[tokio::test]
async fn an_empty_password_or_dn_never_reaches_a_directory() {
    // L-10, R-27: the fake would say yes to anything
    let server = Fake::start(|message, _| alice(message)).await;
    let directory = directory(&[&server.url]);
    eventually("the query connection", async || directory.health().query_connections == 1).await;
    let mut nameless = entry("alice");
    nameless.dn.clear();
    for (entry, password) in [(entry("alice"), Secret::default()), (nameless, password())] {
        let refused = directory.authenticate(&entry, &password).await.expect_err("refused");
        assert!(matches!(refused, BindError::EmptyPassword));
        assert_eq!(refused.reason(), Reason::EmptyPassword);
    }
    assert_eq!((server.count(Op::BindRequest), server.connections()), (0, 1));
}

#[tokio::test]
async fn no_misbehaviour_of_a_server_is_a_yes_and_no_bind_is_sent_twice() {
    // B-59, B-60, L-33, L-34. Two servers misbehave alike: where only one bind was seen, nobody tried again.
    let success = || LdapResult::of(ResultCode::SUCCESS);
    let referred = LdapResult { referral: Some(vec![Bytes::from_static(b"ldap://x/")]), ..success() };
    let cases: Vec<(&str, support::Answer)> = vec![
        ("success with a referral", Box::new(move |id| vec![bind_result(id, referred.clone(), &[])])),
        ("referral", Box::new(|id| vec![bind_response(id, 10)])),
        ("SASL in progress", Box::new(|id| vec![bind_response(id, 14)])),
        ("an unknown code", Box::new(|id| vec![bind_response(id, 4096)])),
        ("success to another id", Box::new(|_| vec![bind_response(id(77), 0)])),
        ("success of a search", Box::new(|id| vec![done(id, 0)])),
        ("octets that are not LDAP", Box::new(|_| vec![Do::Send(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n"))])),
        ("an indefinite length", Box::new(|_| vec![Do::Send(Bytes::from_static(&[0x30, 0x80, 0, 0]))])),
        ("a message of 2 GB", Box::new(|_| vec![Do::Send(Bytes::from_static(&[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff]))])),
        (
            "an empty bind response",
            Box::new(|_| vec![Do::Send(Bytes::from_static(&[0x30, 0x05, 0x02, 0x01, 0x01, 0x61, 0x00]))]),
        ),
        (
            "a notice of disconnection",
            Box::new(|_| vec![Do::Send(notice_of_disconnection(&LdapResult::of(ResultCode::SUCCESS))), Do::Hang]),
        ),
        ("the end without a word", Box::new(|_| vec![Do::Close])),
        ("half an answer", Box::new(|_| vec![Do::Send(Bytes::from_static(&[0x30, 0x0c, 0x02, 0x01])), Do::Close])),
        ("silence", Box::new(|_| vec![Do::Hang])),
        ("silence after half an answer", Box::new(|_| vec![Do::Send(Bytes::from_static(&[0x30])), Do::Hang])),
    ];
    for (what, answer) in cases {
        let answer = Arc::new(answer);
        let start = || {
            let answer = Arc::clone(&answer);
            Fake::start(move |message, _| match message.op() {
                Op::BindRequest => answer(message.id()),
                _ => alice(message),
            })
        };
        let (one, two) = (start().await, start().await);
        let directory = directory(&[&one.url, &two.url]);
        let error = directory.authenticate(&entry("alice"), &password()).await.expect_err(what);
        assert!(matches!(error.reason(), Reason::DirectoryError | Reason::DirectoryTimeout), "{what}: {error:?}");
        assert_eq!((one.count(Op::BindRequest), two.count(Op::BindRequest)), (1, 0), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_second_answer_to_a_bind_belongs_to_nobody() {
    // B-59: the success nobody asked for must not answer the next person's bind.
    let server = Fake::start(|message, _| match message.op() {
        Op::BindRequest => vec![bind_response(message.id(), 49), bind_response(id(message.id().get() + 1), 0)],
        _ => alice(message),
    })
    .await;
    let directory = directory(&[&server.url]);
    for _ in 0..3 {
        let refused = directory.authenticate(&entry("alice"), &password()).await.expect_err("refused");
        assert_eq!(refused.reason(), Reason::BadPassword);
    }
    assert_eq!(server.count(Op::BindRequest), 3);
}

#[tokio::test]
async fn a_no_is_final_and_its_cause_is_told() {
    // L-34, B5
    for (code, diagnostic, reason) in [
        (49, "", Reason::BadPassword),
        (
            49,
            "80090308: LdapErr: DSID-0C090447, comment: AcceptSecurityContext error, data 775, v4563",
            Reason::AccountLocked,
        ),
        (48, "", Reason::BadPassword),
        (32, "", Reason::UnknownUser),
    ] {
        let result = LdapResult {
            diagnostic: Bytes::copy_from_slice(diagnostic.as_bytes()),
            ..LdapResult::of(ResultCode(code))
        };
        let first = Fake::start(move |message, _| match message.op() {
            Op::BindRequest => vec![bind_result(message.id(), result.clone(), &[])],
            _ => alice(message),
        })
        .await;
        let second = Fake::start(|message, _| alice(message)).await;
        let refused = directory(&[&first.url, &second.url]).authenticate(&entry("alice"), &password()).await;
        assert!(matches!(&refused, Err(BindError::Refused { reason: found, .. }) if *found == reason), "{refused:?}");
        assert_eq!((first.count(Op::BindRequest), second.count(Op::BindRequest)), (1, 0));
    }
}

#[tokio::test]
async fn busy_and_unavailable_go_to_the_next_server_once() {
    // L-34
    for code in [51, 52] {
        let busy = || {
            Fake::start(move |message, _| match message.op() {
                Op::BindRequest => vec![bind_response(message.id(), code)],
                _ => alice(message),
            })
        };
        let good = Fake::start(|message, _| alice(message)).await;
        let (one, two) = (busy().await, busy().await);
        directory(&[&one.url, &good.url]).authenticate(&entry("alice"), &password()).await.expect("accepted").server();
        assert_eq!((one.count(Op::BindRequest), good.count(Op::BindRequest)), (1, 1));

        let refused = directory(&[&one.url, &two.url, &good.url]).authenticate(&entry("alice"), &password()).await;
        assert!(matches!(refused, Err(BindError::Unavailable { .. })), "{refused:?}");
        assert_eq!((two.count(Op::BindRequest), good.count(Op::BindRequest)), (1, 1), "no third server");

        let alone = busy().await;
        let refused = directory(&[&alone.url]).authenticate(&entry("alice"), &password()).await;
        assert!(matches!(refused, Err(BindError::Unavailable { .. })), "{refused:?}");
        assert_eq!(alone.count(Op::BindRequest), 1, "there is no next server");
    }
}

#[tokio::test]
async fn a_server_that_is_down_costs_no_bind_and_the_next_one_answers() {
    let nobody = format!("ldap://127.0.0.1:{}", lab::free_port());
    let good = Fake::start(|message, _| alice(message)).await;
    let directory = directory(&[&nobody, &good.url]);
    for _ in 0..5 {
        directory.authenticate(&entry("alice"), &password()).await.expect("accepted").subject();
    }
    assert_eq!(good.count(Op::BindRequest), 5);
    let alone = support::directory(&[&nobody]).authenticate(&entry("alice"), &password()).await.expect_err("nobody");
    assert!(matches!(alone, BindError::Unreachable { .. }));
    assert_eq!(alone.reason(), Reason::DirectoryTimeout);
}

#[tokio::test]
async fn binds_share_connections_one_after_the_other_and_never_with_searches() {
    // L-30: no operation ever runs where a person is bound.
    let server = Fake::start(|message, _| alice(message)).await;
    let directory = directory(&[&server.url]);
    let name = directory::TypedName::parse("alice", directory.settings()).expect("a name");
    for _ in 0..4 {
        directory.resolve(&name).await.expect("alice");
        directory.authenticate(&entry("alice"), &password()).await.expect("accepted").subject();
    }
    let (binds, searches) = (server.connections_of(Op::BindRequest), server.connections_of(Op::SearchRequest));
    assert_eq!((binds.len(), searches.len()), (4, 4));
    assert!(binds.iter().all(|connection| !searches.contains(connection)), "{binds:?} {searches:?}");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_costs_no_bind() {
    let server = Fake::start(|message, connection| match (message.op(), connection) {
        // The connection after the query pool's: one bind, then the end.
        (Op::BindRequest, 1) => vec![bind_response(message.id(), 0), Do::Close],
        _ => alice(message),
    })
    .await;
    let directory = directory(&[&server.url]);
    eventually("the query connection", async || directory.health().query_connections == 1).await;
    for _ in 0..2 {
        directory.authenticate(&entry("alice"), &password()).await.expect("accepted").subject();
        // The end arrives a moment after the answer.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    assert_eq!((server.count(Op::BindRequest), server.connections()), (2, 3));
}

#[tokio::test]
async fn the_password_policy_is_asked_for_and_heard() {
    let server = Fake::start(|message, _| match message.op() {
        Op::BindRequest => {
            let asked = message.controls().expect("sound").iter().any(|control| control.oid == oid::PASSWORD_POLICY);
            assert!(asked, "the request control is there");
            let locked = Bytes::from_static(&[0x30, 0x03, 0x81, 0x01, 0x01]);
            let control = ldap_wire::Control::new(oid::PASSWORD_POLICY, false, Some(locked));
            vec![bind_result(message.id(), LdapResult::of(ResultCode::INVALID_CREDENTIALS), &[control])]
        }
        _ => alice(message),
    })
    .await;
    let refused = directory(&[&server.url]).authenticate(&entry("alice"), &password()).await.expect_err("locked");
    assert_eq!(refused.reason(), Reason::AccountLocked);
}

#[tokio::test]
async fn every_bind_is_counted_and_no_name_or_password_is_in_a_span() {
    // V-33: spans say where and how, never who.
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let writer = Arc::clone(&written);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || Sink(Arc::clone(&writer)))
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let seen = Arc::<Mutex<Vec<(Operation, Outcome)>>>::default();
    let observed = Arc::clone(&seen);
    let observer = move |observation: &Observation<'_>| {
        observed.lock().expect("no panic").push((observation.operation, observation.outcome));
    };
    let server = Fake::start(|message, _| match message.op() {
        Op::BindRequest => vec![bind_response(message.id(), 49)],
        _ => alice(message),
    })
    .await;
    let options = Options { query_connections: 1, observer: Some(Arc::new(observer)), ..Options::default() };
    let directory = Directory::new(settings(&[&server.url]), None, options).expect("good settings");
    let name = directory::TypedName::parse("alice", directory.settings()).expect("a name");
    let entry = directory.resolve(&name).await.expect("alice");
    directory.authenticate(&entry, &password()).await.expect_err("refused");

    let seen = seen.lock().expect("no panic").clone();
    let count = |wanted| seen.iter().filter(|observation| **observation == wanted).count();
    assert_eq!(count((Operation::Bind, Outcome::Refused)), 1, "{seen:?}");
    assert_eq!(count((Operation::Search, Outcome::Ok)), 1, "{seen:?}");
    let text = String::from_utf8(written.lock().expect("no panic").clone()).expect("text");
    for expected in ["directory.bind", "directory.resolve", "server.address=\"127.0.0.1\""] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    for secret in ["alice", "Sesame"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
