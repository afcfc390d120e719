//! Paged reads against servers that misbehave: complete is said only when it is true.

mod support;

use bytes::Bytes;
use directory::{Directory, Incomplete, Query, QueryError, Read, Reading};
use ldap_wire::{
    Attribute, Control, Filter, LdapResult, Message, MessageId, Op, PagedResults, ResultCode, Scope, SearchResultEntry,
    search,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use support::{BASE, Do, Fake, alice, directory, done, eventually, person, search_of};

fn everybody() -> Query {
    Query::new(BASE, Scope::Subtree, Filter::present("uid"), &["uid", "member"])
}

async fn all(mut reading: Reading) -> (usize, Result<(), Incomplete>) {
    let mut entries = 0;
    let end = loop {
        match reading.next().await {
            Read::Entry(_) => entries += 1,
            Read::Complete => break Ok(()),
            Read::Incomplete(why) => break Err(why),
        }
    };
    // The end stays the end.
    let again = reading.next().await;
    assert_eq!(matches!(again, Read::Complete), end.is_ok());
    assert_eq!(matches!(again, Read::Incomplete(_)), end.is_err());
    (entries, end)
}

async fn read(directory: &Directory) -> (usize, Result<(), Incomplete>) {
    all(directory.read(everybody())).await
}

/// The page a request asks for: its cookie is the number.
fn page_of(message: &Message) -> usize {
    let paged = PagedResults::find(&message.controls().expect("sound")).expect("sound").expect("it is asked for");
    assert_eq!(paged.size, 2);
    if paged.cookie.is_empty() { 0 } else { std::str::from_utf8(&paged.cookie).expect("ours").parse().expect("ours") }
}

fn page_end(id: MessageId, code: u32, cookie: &str) -> Do {
    let paged = PagedResults { size: 0, cookie: Bytes::copy_from_slice(cookie.as_bytes()) };
    Do::Send(search::search_result_done(id, &LdapResult::of(ResultCode(code)), &[paged.to_control(false)]))
}

/// Two people a page, the last of three pages with one.
fn three_pages(message: &Message) -> Vec<Do> {
    let id = message.id();
    match page_of(message) {
        0 => vec![person(id, "a", 1), person(id, "b", 2), page_end(id, 0, "1")],
        1 => vec![person(id, "c", 3), person(id, "d", 4), page_end(id, 0, "2")],
        _ => vec![person(id, "e", 5), page_end(id, 0, "")],
    }
}

#[tokio::test]
async fn all_pages_together_are_complete_on_one_connection_of_their_own() {
    // S-50
    let server =
        Fake::start(|message, _| if message.op() == Op::SearchRequest { three_pages(message) } else { vec![] }).await;
    let (entries, end) = read(&directory(&[&server.url])).await;
    assert_eq!((entries, end.is_ok()), (5, true), "{end:?}");
    let connections = server.connections_of(Op::SearchRequest);
    assert_eq!(connections.len(), 3);
    assert!(connections.iter().all(|connection| *connection == connections[0]));
}

#[tokio::test]
async fn a_connection_cut_after_any_message_is_incomplete() {
    // S-41. Eight messages in all; each way to be cut off: closed, broken in the middle of a message, silent.
    for cut in 0..8 {
        for (how, last) in [
            ("closed", vec![Do::Close]),
            ("half a message", vec![Do::Send(Bytes::from_static(&[0x30, 0x84, 0, 0, 0, 99, 2])), Do::Close]),
            ("silent", vec![Do::Hang]),
        ] {
            let server = Fake::start(move |message, _| {
                if message.op() != Op::SearchRequest {
                    return vec![];
                }
                let before = [0, 3, 6][page_of(message)];
                let mut steps = three_pages(message);
                if cut < before + steps.len() {
                    steps.truncate(cut - before);
                    steps.extend(last.clone());
                }
                steps
            })
            .await;
            let (entries, end) = read(&directory(&[&server.url])).await;
            let expected = [0, 1, 2, 2, 3, 4, 4, 5][cut];
            assert_eq!(entries, expected, "{how} after {cut}");
            assert!(matches!(&end, Err(Incomplete::Unanswered(_))), "{how} after {cut}: {end:?}");
        }
    }
}

/// Reads from a server that ends its first page with two people in this way.
async fn ends_with(end: impl Fn(MessageId) -> Vec<Do> + Send + Sync + 'static) -> (usize, Result<(), Incomplete>) {
    let server = Fake::start(move |message, _| {
        let id = message.id();
        let people = vec![person(id, "a", 1), person(id, "b", 2)];
        if message.op() == Op::SearchRequest { people.into_iter().chain(end(id)).collect() } else { vec![] }
    })
    .await;
    read(&directory(&[&server.url])).await
}

#[tokio::test]
async fn limits_references_and_errors_are_incomplete() {
    // S-41, B-72
    for code in [3, 4, 11] {
        let (entries, end) = ends_with(move |id| vec![page_end(id, code, "")]).await;
        assert_eq!(entries, 2);
        assert!(matches!(&end, Err(Incomplete::Limit { code: found, .. }) if found.0 == code), "{end:?}");
    }
    for code in [1, 32, 50, 51, 52, 80, 4096] {
        let (_, end) = ends_with(move |id| vec![done(id, code)]).await;
        assert!(matches!(&end, Err(Incomplete::Refused { code: found, .. }) if found.0 == code), "{end:?}");
    }
    let reference = |id| {
        // SearchResultReference with one URL
        let octets = [&[0x30, 0x11, 0x02, 0x01, id as u8, 0x73, 0x0c, 0x04, 0x0a][..], b"ldap://x/a"].concat();
        Do::Send(octets.into())
    };
    let (_, end) = ends_with(move |id| vec![reference(id.get()), page_end(id, 0, "")]).await;
    assert!(matches!(&end, Err(Incomplete::Referral { .. })), "{end:?}");
    let (_, end) = ends_with(|id| vec![done(id, 10)]).await;
    assert!(matches!(&end, Err(Incomplete::Referral { .. })), "{end:?}");
    let (_, end) = ends_with(|id| {
        let referred = LdapResult { referral: Some(vec![]), ..LdapResult::of(ResultCode::SUCCESS) };
        vec![Do::Send(search::search_result_done(id, &referred, &[]))]
    })
    .await;
    assert!(matches!(&end, Err(Incomplete::Referral { .. })), "{end:?}");
}

#[tokio::test]
async fn a_server_that_does_not_page_is_complete_if_it_says_success() {
    let (entries, end) = ends_with(|id| vec![done(id, 0)]).await;
    assert_eq!((entries, end.is_ok()), (2, true), "{end:?}");
}

#[tokio::test]
async fn messages_that_belong_to_nothing_are_incomplete() {
    // B-59
    let other = |id: MessageId| MessageId::new(id.get() + 5).expect("in range");
    for (what, end) in [
        ("the end of another question", ends_with(move |id| vec![page_end(other(id), 0, "")]).await.1),
        (
            "an entry of another question",
            ends_with(move |id| vec![person(other(id), "x", 9), page_end(id, 0, "")]).await.1,
        ),
        ("a bind response", ends_with(|id| vec![support::bind_response(id, 0), page_end(id, 0, "")]).await.1),
        ("not LDAP", ends_with(|_| vec![Do::Send(Bytes::from_static(b"hello"))]).await.1),
        (
            "a broken entry",
            ends_with(|id| {
                vec![Do::Send(vec![0x30, 0x06, 2, 1, id.get() as u8, 0x64, 1, 4].into()), page_end(id, 0, "")]
            })
            .await
            .1,
        ),
        (
            "a broken cookie",
            ends_with(|id| {
                let control =
                    Control::new(ldap_wire::oid::PAGED_RESULTS, false, Some(Bytes::from_static(&[0x30, 0x05])));
                vec![Do::Send(search::search_result_done(id, &LdapResult::of(ResultCode::SUCCESS), &[control]))]
            })
            .await
            .1,
        ),
    ] {
        assert!(matches!(&end, Err(Incomplete::Unanswered(QueryError::Lost { .. }))), "{what}: {end:?}");
    }
    let noise_after_the_end = ends_with(|id| vec![page_end(id, 0, ""), person(id, "late", 9)]).await;
    assert_eq!((noise_after_the_end.0, noise_after_the_end.1.is_ok()), (2, true));
}

#[tokio::test]
async fn pages_without_end_come_to_an_end() {
    // S-50, B-72: the same page for ever; empty pages for ever; paging that is forgotten on the way.
    let (entries, end) = ends_with(|id| vec![page_end(id, 0, "1")]).await;
    assert!(matches!(&end, Err(Incomplete::NoProgress { .. })), "{end:?}");
    assert_eq!(entries, 4, "the repetition was seen at the end of the second page");

    let empty = Fake::start(|message, _| vec![page_end(message.id(), 0, &(page_of(message) + 1).to_string())]).await;
    let (entries, end) = read(&directory(&[&empty.url])).await;
    assert!(matches!(&end, Err(Incomplete::NoProgress { .. })), "{end:?}");
    assert_eq!((entries, empty.count(Op::SearchRequest)), (0, 101));

    let forgets = Fake::start(|message, _| match page_of(message) {
        0 => vec![person(message.id(), "a", 1), page_end(message.id(), 0, "1")],
        _ => vec![person(message.id(), "a", 1), done(message.id(), 0)],
    })
    .await;
    let (_, end) = read(&directory(&[&forgets.url])).await;
    assert!(matches!(&end, Err(Incomplete::NoProgress { .. })), "{end:?}");
}

#[tokio::test]
async fn empty_pages_and_a_cookie_that_stays_the_same_are_legal() {
    // S-50: RFC 2696 lets pages be empty; 389 Directory Server has one cookie for the whole search.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let server = Fake::start(move |message, _| {
        let id = message.id();
        match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => vec![page_end(id, 0, "0")],
            1 => vec![person(id, "a", 1), page_end(id, 0, "0")],
            2 => vec![page_end(id, 0, "0")],
            3 => vec![person(id, "b", 2), page_end(id, 0, "0")],
            _ => vec![page_end(id, 0, "")],
        }
    })
    .await;
    let (entries, end) = read(&directory(&[&server.url])).await;
    assert_eq!((entries, end.is_ok()), (2, true), "{end:?}");
}

#[tokio::test]
async fn more_entries_than_allowed_are_incomplete() {
    let server = Fake::start(|message, _| three_pages(message)).await;
    let directory = directory(&[&server.url]);
    for (entries_max, complete) in [(4, false), (5, true)] {
        let (entries, end) = all(directory.read(Query { entries_max, ..everybody() })).await;
        assert_eq!((entries, end.is_ok()), (entries_max, complete), "{end:?}");
    }
}

fn group(id: MessageId, attributes: Vec<(&str, Vec<&str>)>) -> Do {
    let attribute = |(name, values): (&str, Vec<&str>)| {
        Attribute::new(name, values.into_iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect())
    };
    let attributes = attributes.into_iter().map(attribute).collect();
    Do::Send(SearchResultEntry { dn: Bytes::from_static(b"cn=staff,dc=corp,dc=example"), attributes }.encode(id, &[]))
}

/// A group whose members come in ranges: `more` answers the requests for the rest.
async fn ranged(
    first: &'static str,
    more: impl Fn(MessageId, &str) -> Vec<Do> + Send + Sync + 'static,
) -> Result<Vec<SearchResultEntry>, Incomplete> {
    let server = Fake::start(move |message, _| {
        let (id, search) = (message.id(), search_of(message));
        if search.scope == Scope::Base && !search.base.is_empty() {
            assert_eq!(&search.base[..], b"cn=staff,dc=corp,dc=example");
            return more(id, &search.attributes[0]);
        }
        vec![group(id, vec![("member", vec![]), (first, vec!["a", "b"])]), person(id, "z", 1), page_end(id, 0, "")]
    })
    .await;
    directory(&[&server.url]).read(everybody()).collect().await
}

#[tokio::test]
async fn values_that_come_in_ranges_are_put_together() {
    // S-51
    let entries = ranged("member;range=0-1", |id, selector| match selector {
        "member;range=2-*" => vec![group(id, vec![("member;Range=2-3", vec!["c", "d"])]), done(id, 0)],
        "member;range=4-*" => vec![group(id, vec![("member;range=4-*", vec!["e"])]), done(id, 0)],
        other => panic!("asked for {other}"),
    })
    .await
    .expect("complete");
    let staff = entries.iter().find(|entry| entry.dn.starts_with(b"cn=staff")).expect("the group");
    assert_eq!(staff.values("member"), ["a", "b", "c", "d", "e"].map(Bytes::from));
    assert_eq!((staff.attributes.len(), entries.len()), (1, 2));
    let whole = ranged("member;range=0-*", |_, _| panic!("nothing is missing")).await.expect("complete");
    assert!(whole.iter().any(|entry| entry.values("member").len() == 2));
}

#[tokio::test]
async fn a_group_that_is_written_between_two_ranges_is_read_from_the_start() {
    // S-51: b went, so what had the third place has the second now, and would be missing.
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let part = |id, usn: &str, name: &str, values: &[&str]| {
        vec![group(id, vec![("uSNChanged", vec![usn]), (name, values.to_vec())]), done(id, 0)]
    };
    let entries = ranged("member;range=0-1", move |id, selector| match (count.fetch_add(1, Relaxed), selector) {
        (0, "member;range=2-*") => part(id, "7", "member;range=2-3", &["c", "d"]),
        (1, "member;range=4-*") => part(id, "8", "member;range=4-*", &["f"]),
        (2, "member;range=0-*") => part(id, "8", "member;range=0-1", &["a", "c"]),
        (3, "member;range=2-*") => part(id, "8", "member;range=2-*", &["d", "e", "f"]),
        other => panic!("asked for {other:?}"),
    })
    .await
    .expect("complete");
    let staff = entries.iter().find(|entry| entry.dn.starts_with(b"cn=staff")).expect("the group");
    assert_eq!(staff.values("member"), ["a", "c", "d", "e", "f"].map(Bytes::from));
    assert_eq!(asked.load(Relaxed), 4);
    // One that is written all the time.
    let count = AtomicU32::new(0);
    let never = ranged("member;range=0-1", move |id, selector| {
        let usn = count.fetch_add(1, Relaxed);
        assert!(usn < 20, "without end");
        match selector {
            "member;range=0-*" => part(id, &usn.to_string(), "member;range=0-1", &["a", "b"]),
            _ => part(id, &usn.to_string(), "member;range=2-3", &["c", "d"]),
        }
    })
    .await;
    assert!(matches!(&never, Err(Incomplete::MissingValues { .. })), "{never:?}");
}

#[tokio::test]
async fn a_range_that_is_missing_repeated_or_unreadable_is_incomplete() {
    // S-41, S-51, B-73
    let cases: Vec<(&str, Result<_, _>)> = vec![
        (
            "the same again",
            ranged("member;range=0-1", |id, _| vec![group(id, vec![("member;range=0-1", vec!["a"])]), done(id, 0)])
                .await,
        ),
        ("none", ranged("member;range=0-1", |id, _| vec![group(id, vec![]), done(id, 0)]).await),
        ("the entry is gone", ranged("member;range=0-1", |id, _| vec![done(id, 32)]).await),
        (
            "an error behind it",
            ranged("member;range=0-1", |id, _| vec![group(id, vec![("member;range=2-*", vec!["c"])]), done(id, 4)])
                .await,
        ),
        (
            "backwards",
            ranged("member;range=0-1", |id, _| vec![group(id, vec![("member;range=2-1", vec![])]), done(id, 0)]).await,
        ),
        ("a start in the middle", ranged("member;range=5-*", |id, _| vec![done(id, 0)]).await),
        ("unreadable", ranged("member;range=x-y", |id, _| vec![done(id, 0)]).await),
    ];
    for (what, result) in cases {
        assert!(matches!(&result, Err(Incomplete::MissingValues { .. })), "{what}: {result:?}");
    }
    let cut = ranged("member;range=0-1", |_, _| vec![Do::Close]).await;
    assert!(matches!(&cut, Err(Incomplete::Unanswered(_))), "{cut:?}");
}

#[tokio::test]
async fn a_slow_reader_makes_the_server_wait_and_not_our_memory_grow() {
    let server = Fake::start(|message, _| {
        let id = message.id();
        let photo = vec![Bytes::from(vec![7; 64 << 10])];
        let entry =
            SearchResultEntry { dn: Bytes::from_static(b"uid=x"), attributes: vec![Attribute::new("photo", photo)] };
        let entry = Do::Send(entry.encode(id, &[]));
        std::iter::repeat_n(entry, 2000).chain([page_end(id, 0, "")]).collect() // 128 MB
    })
    .await;
    let directory = directory(&[&server.url]);
    let mut reading = directory.read(everybody());
    assert!(matches!(reading.next().await, Read::Entry(_)));
    let mut before = usize::MAX;
    eventually("the server waits", async || {
        let sent = server.sent_octets();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        std::mem::replace(&mut before, sent) == sent
    })
    .await;
    assert!(server.sent_octets() < 32 << 20, "{} octets are on their way", server.sent_octets());
    let (entries, end) = all(reading).await;
    assert_eq!((entries, end.is_ok()), (1999, true), "{end:?}");
}

#[tokio::test]
async fn without_a_server_the_reading_is_incomplete() {
    let nobody = format!("ldap://127.0.0.1:{}", lab::free_port());
    let (entries, end) = read(&directory(&[&nobody])).await;
    assert_eq!(entries, 0);
    assert!(matches!(&end, Err(Incomplete::Unanswered(QueryError::Unreachable { .. }))), "{end:?}");
    // The next server takes over before the first entry.
    let server =
        Fake::start(|message, _| if message.op() == Op::SearchRequest { three_pages(message) } else { alice(message) })
            .await;
    let (entries, end) = read(&directory(&[&nobody, &server.url])).await;
    assert_eq!((entries, end.is_ok()), (5, true), "{end:?}");
}
