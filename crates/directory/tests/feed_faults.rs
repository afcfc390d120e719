//! Change feeds of servers that misbehave: an end is told only where there was one, and nobody is gone because somebody hung up.

mod support;

use bytes::Bytes;
use data_encoding::BASE64;
use directory::{Changes, Directory, Event, FeedError, FeedKind, FullRead, Incomplete, Options, Position};
use domain::ObjectId;
use domain::settings::Preset;
use ldap_wire::sync::SyncUuid;
use ldap_wire::{
    Attribute, Control, DirSync, Filter, LdapResult, Message, MessageId, Op, ResultCode, SearchRequest,
    SearchResultEntry, SyncDone, SyncInfo, SyncMode, SyncRequest, SyncState, SyncStateKind, ber, oid, search,
};
use serde_json::json;
use std::sync::Arc;
use support::{BASE, Do, Fake, done, eventually, search_of, settings};

/// What was told, and how it ended.
struct Told {
    events: Vec<Event>,
    end: Result<bool, FeedError>,
}

impl Told {
    async fn of(mut changes: Changes) -> Self {
        let mut events = Vec::new();
        let end = loop {
            match changes.next().await {
                Ok(Event::End { rest_is_gone }) => break Ok(rest_is_gone),
                Ok(event) => events.push(event),
                Err(error) => break Err(error),
            }
        };
        // The end stays the end.
        match (changes.next().await, &end) {
            (Ok(Event::End { rest_is_gone }), Ok(end)) => assert_eq!(rest_is_gone, *end),
            (Err(again), Err(end)) => assert_eq!(again.to_string(), end.to_string()),
            (again, end) => panic!("{again:?} after {end:?}"),
        }
        Self { events, end }
    }

    fn positions(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Position(_))).count()
    }

    fn is_full_read(&self, expected: FullRead) -> bool {
        matches!(self.end, Err(FeedError::FullRead(why)) if why == expected)
    }

    fn is_malformed(&self) -> bool {
        matches!(self.end, Err(FeedError::Malformed { .. }))
    }

    /// Not heard to the end, and to be asked again from where one was.
    fn is_unread(&self) -> bool {
        matches!(self.end, Err(FeedError::Unread(_)))
    }
}

fn value(text: &str) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(text.as_bytes())]
}

fn entry(id: MessageId, dn: &str, attributes: Vec<Attribute>, controls: &[Control]) -> Do {
    Do::Send(SearchResultEntry { dn: dn.to_owned().into(), attributes }.encode(id, controls))
}

fn ended(id: MessageId, code: u32, controls: &[Control]) -> Do {
    Do::Send(search::search_result_done(id, &LdapResult::of(ResultCode(code)), controls))
}

/// Closed, broken in the middle of a message, silent.
fn cuts() -> [Vec<Do>; 3] {
    let half = Do::Send(Bytes::from_static(&[0x30, 0x84, 0, 0, 0, 99, 2]));
    [vec![Do::Close], vec![half, Do::Close], vec![Do::Hang]]
}

mod syncrepl {
    use super::*;

    fn uuid(number: u8) -> SyncUuid {
        let mut uuid = [0; 16];
        uuid[15] = number;
        uuid
    }

    fn id(number: u8) -> ObjectId {
        format!("entryUUID:00000000-0000-0000-0000-0000000000{number:02x}").parse().expect("an id")
    }

    fn state(id: MessageId, kind: SyncStateKind, number: u8, cookie: Option<&'static str>) -> Do {
        let state = SyncState { kind, uuid: uuid(number), cookie: cookie.map(Bytes::from) };
        entry(id, "cn=x", vec![], &[state.to_control()])
    }

    fn info(id: MessageId, info: &SyncInfo) -> Do {
        intermediate(id, &info.encode())
    }

    fn intermediate(id: MessageId, value: &[u8]) -> Do {
        let mut writer = ber::Writer::new();
        writer.nested(ber::SEQUENCE, |w| {
            w.integer(ber::INTEGER, id.get().into());
            w.nested(Op::IntermediateResponse.tag(), |w| {
                w.octets(0x80, oid::SYNC_INFO.as_bytes());
                w.octets(0x81, value);
            });
        });
        Do::Send(writer.into_vec().into())
    }

    fn set(id: MessageId, deletes: bool, numbers: &[u8]) -> Do {
        let uuids = numbers.iter().map(|number| uuid(*number)).collect();
        info(id, &SyncInfo::IdSet { cookie: None, deletes, uuids })
    }

    fn over(id: MessageId, code: u32, cookie: Option<&'static str>, refresh_deletes: bool) -> Do {
        ended(id, code, &[SyncDone { cookie: cookie.map(Bytes::from), refresh_deletes }.to_control()])
    }

    type Answers = Arc<dyn Fn(MessageId, &SyncRequest, usize) -> Vec<Do> + Send + Sync>;

    /// A server of this kind whose answer to the nth synchronisation is given.
    async fn server(
        openldap: bool,
        answers: impl Fn(MessageId, &SyncRequest, usize) -> Vec<Do> + Send + Sync + 'static,
    ) -> (Fake, Directory) {
        server_at(openldap, &[], answers).await
    }

    /// The same, which says that it stands there.
    async fn server_at(
        openldap: bool,
        csns: &'static [&'static str],
        answers: impl Fn(MessageId, &SyncRequest, usize) -> Vec<Do> + Send + Sync + 'static,
    ) -> (Fake, Directory) {
        let answers: Answers = Arc::new(answers);
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let fake = Fake::start(move |message: &Message, _| {
            if message.op() != Op::SearchRequest {
                return vec![];
            }
            let (id, search) = (message.id(), search_of(message));
            if search.is_root_dse() {
                let class = if openldap { "OpenLDAProotDSE" } else { "top" };
                let root = [("objectClass", class), ("namingContexts", BASE)];
                let root = root.map(|(name, text)| Attribute::new(name, value(text)));
                return vec![entry(id, "", root.into(), &[]), done(id, 0)];
            }
            let controls = message.controls().expect("sound");
            let Some(request) = SyncRequest::find(&controls).expect("sound") else {
                let csns = csns.iter().map(|csn| Bytes::from(*csn)).collect::<Vec<_>>();
                return match csns.is_empty() {
                    true => vec![done(id, 32)],
                    false => vec![entry(id, BASE, vec![Attribute::new("contextCSN", csns)], &[]), done(id, 0)],
                };
            };
            assert_eq!(
                (search.base.as_ref(), search.filter),
                (BASE.as_bytes(), Filter::present("objectClass").to_ber())
            );
            assert_eq!((search.dereference, search.attributes), (0, vec!["1.1".to_owned()]));
            answers(id, &request, asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
        })
        .await;
        let options = Options { query_connections: 1, ..Options::default() };
        let directory = Directory::new(settings(&[&fake.url]), None, options).expect("good settings");
        (fake, directory)
    }

    fn since(fake: &Fake, cookie: &str) -> Position {
        let cookie = BASE64.encode(cookie.as_bytes());
        serde_json::from_value(json!({"server": fake.url, "base": BASE, "feed": "syncrepl", "cookie": cookie}))
            .expect("a position")
    }

    async fn told(openldap: bool, answer: impl Fn(MessageId) -> Vec<Do> + Send + Sync + 'static) -> Told {
        let (fake, directory) = server(openldap, move |id, _, _| answer(id)).await;
        Told::of(directory.changes(since(&fake, "c1"))).await
    }

    type Shape = fn(MessageId) -> Vec<Do>;

    /// The three shapes of a refresh, and a server that begins anew; whether the end of each proves who is gone.
    const SHAPES: [(Shape, bool); 4] = [
        (
            |id| vec![set(id, false, &[1, 2]), state(id, SyncStateKind::Add, 3, None), over(id, 0, Some("c2"), false)],
            true,
        ),
        (
            |id| vec![state(id, SyncStateKind::Modify, 1, None), set(id, true, &[2]), over(id, 0, Some("c2"), true)],
            false,
        ),
        (
            |id| {
                let between = info(id, &SyncInfo::RefreshPresent { cookie: None, done: false });
                vec![set(id, false, &[1, 2]), between, set(id, true, &[2]), over(id, 0, Some("c2"), true)]
            },
            true,
        ),
        // S-35: all there is as added, though a cookie was sent.
        (
            |id| {
                let added = |number| state(id, SyncStateKind::Add, number, None);
                vec![added(1), added(2), added(3), over(id, 0, Some("c2"), false)]
            },
            true,
        ),
    ];

    #[tokio::test]
    async fn each_shape_of_a_refresh_is_told_and_ends_as_it_proves() {
        // S-31, S-32
        for (number, (shape, proves)) in SHAPES.into_iter().enumerate() {
            let all = told(true, shape).await;
            assert_eq!(all.end.as_ref().ok(), Some(&proves), "{number}: {:?}", all.end);
            assert_eq!(all.positions(), 1);
            let others: Vec<_> = all.events.into_iter().filter(|it| !matches!(it, Event::Position(_))).collect();
            let there = Event::Present(vec![id(1), id(2)]);
            assert_eq!(
                others,
                [
                    vec![there.clone(), Event::Changed(id(3))],
                    vec![Event::Changed(id(1)), Event::Deleted(id(2))],
                    vec![there, Event::Deleted(id(2))],
                    vec![Event::Changed(id(1)), Event::Changed(id(2)), Event::Changed(id(3))],
                ][number]
            );
            // 389 DS, and whoever is not known to mean what it says
            let all = told(false, shape).await;
            assert_eq!(all.end.ok(), Some(false), "{number}");
        }
        // Nothing is named, and everybody would be gone.
        let all = told(true, |id| vec![over(id, 0, Some("c2"), false)]).await;
        assert_eq!((all.end.ok(), all.events.len()), (Some(false), 1));
        let all = told(true, |id| vec![set(id, true, &[1]), over(id, 0, Some("c2"), false)]).await;
        assert_eq!(all.end.ok(), Some(false));
    }

    #[tokio::test]
    async fn a_refresh_cut_at_any_message_has_no_end_and_no_position() {
        // S-32: a cut never deletes
        for (shape, _) in SHAPES {
            for cut in 0..4 {
                for how in cuts() {
                    let last = how.clone();
                    let all = told(true, move |id| {
                        let mut steps = shape(id);
                        if cut >= steps.len() {
                            return vec![Do::Close];
                        }
                        steps.truncate(cut);
                        steps.extend(last.clone());
                        steps
                    })
                    .await;
                    assert!(all.is_unread(), "{cut} {how:?}: {:?}", all.end);
                    assert_eq!(all.positions(), 0, "{cut} {how:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn following_tells_of_the_refresh_and_then_as_it_happens_until_it_is_cut() {
        // S-34: cookies of the refresh are kept until its end, later ones stand for what came before them
        fn stage(id: MessageId) -> Vec<Do> {
            vec![
                state(id, SyncStateKind::Modify, 1, Some("early")),
                info(id, &SyncInfo::RefreshDelete { cookie: Some("c2".into()), done: true }),
                state(id, SyncStateKind::Add, 2, Some("c3")),
                set(id, true, &[1]),
                info(id, &SyncInfo::NewCookie("c4".into())),
            ]
        }
        for cut in 0..=5 {
            for how in cuts().into_iter().take(2) {
                let (fake, directory) = server(true, move |id, request, _| {
                    assert_eq!(request.mode, SyncMode::RefreshAndPersist);
                    let mut steps = stage(id);
                    steps.truncate(cut);
                    steps.extend(how.clone());
                    steps
                })
                .await;
                let all = Told::of(directory.follow(since(&fake, "c1"))).await;
                assert!(all.is_unread(), "{cut}: {:?}", all.end);
                let at = |cookie: &str| Event::Position(since(&fake, cookie));
                let whole = [
                    vec![Event::Changed(id(1))],
                    vec![Event::UpToDate { rest_is_gone: false }, at("c2")],
                    vec![Event::Changed(id(2)), at("c3")],
                    vec![Event::Deleted(id(1))],
                    vec![at("c4")],
                ];
                assert_eq!(all.events, whole[..cut].concat(), "{cut}");
            }
        }
        // A present phase before it proves as much as one that ends.
        let (fake, directory) = server(true, |id, _, _| {
            vec![set(id, false, &[1]), info(id, &SyncInfo::RefreshPresent { cookie: None, done: true }), Do::Close]
        })
        .await;
        let all = Told::of(directory.follow(since(&fake, "c1"))).await;
        assert_eq!(all.events, [Event::Present(vec![id(1)]), Event::UpToDate { rest_is_gone: true }]);
    }

    #[tokio::test]
    async fn a_refresh_that_is_asked_for_needs_a_full_read_whatever_cookie_comes_with_it() {
        // S-33: 4096. What was deleted between our cookie and that one nobody tells.
        let (fake, directory) = server(true, |id, _, number| match number {
            0 => vec![set(id, false, &[1]), over(id, 4096, Some("c9"), false)],
            _ => vec![set(id, false, &[1, 2]), over(id, 0, Some("c10"), false)],
        })
        .await;
        let all = Told::of(directory.changes(since(&fake, "c1"))).await;
        assert!(all.is_full_read(FullRead::RefreshRequired), "{:?}", all.end);
        assert_eq!(all.positions(), 0);
        // Where there was no position, nothing can have been missed.
        let (fake, directory) = server(true, |id, request, number| match number {
            0 => vec![set(id, false, &[1]), over(id, 4096, Some("c9"), false)],
            _ => {
                assert_eq!(request.cookie.as_deref(), Some(&b"c9"[..]));
                vec![set(id, false, &[1, 2]), over(id, 0, Some("c10"), false)]
            }
        })
        .await;
        assert_eq!(directory.position_now(FeedKind::Syncrepl).await.ok(), Some(since(&fake, "c10")));

        let all = told(true, |id| vec![set(id, false, &[1]), over(id, 4096, None, false)]).await;
        assert!(all.is_full_read(FullRead::RefreshRequired), "{:?}", all.end);
        let all = told(true, |id| vec![done(id, 4096)]).await;
        assert!(all.is_full_read(FullRead::RefreshRequired), "{:?}", all.end);

        let (fake, directory) = server(true, |id, _, _| vec![over(id, 4096, Some("c1"), false)]).await;
        let end = directory.position_now(FeedKind::Syncrepl).await;
        assert!(matches!(end, Err(FeedError::FullRead(FullRead::RefreshRequired))), "{end:?}");
        assert!(fake.count(Op::SearchRequest) < 10, "without end");
    }

    #[tokio::test]
    async fn a_refresh_of_any_shape_that_ends_in_another_being_asked_for_gives_no_position() {
        // S-32, S-33: 4096 in place of the end
        const ENDS: [fn(MessageId) -> Do; 3] =
            [|id| over(id, 4096, Some("c9"), false), |id| over(id, 4096, None, true), |id| done(id, 4096)];
        for (number, (shape, _)) in SHAPES.into_iter().enumerate() {
            for (end, ends) in ENDS.into_iter().enumerate() {
                for follows in [false, true] {
                    let (fake, directory) = server(true, move |id, request, asked| {
                        let mode = if follows { SyncMode::RefreshAndPersist } else { SyncMode::RefreshOnly };
                        assert_eq!((asked, request.mode), (0, mode), "it is not asked again");
                        let mut steps = shape(id);
                        steps.pop();
                        steps.push(ends(id));
                        steps
                    })
                    .await;
                    let position = since(&fake, "c1");
                    let changes = if follows { directory.follow(position) } else { directory.changes(position) };
                    let all = Told::of(changes).await;
                    let step = format!("{number}, end {end}, follows {follows}");
                    assert!(all.is_full_read(FullRead::RefreshRequired), "{step}: {:?}", all.end);
                    let is_end = |event: &Event| matches!(event, Event::Position(_) | Event::UpToDate { .. });
                    assert!(!all.events.is_empty() && !all.events.iter().any(is_end), "{step}: {:?}", all.events);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_position_that_is_not_accepted_needs_a_full_read_and_trouble_does_not() {
        // S-33
        for code in [1, 2, 12, 53, 80] {
            let all = told(true, move |id| vec![done(id, code)]).await;
            assert!(all.is_full_read(FullRead::Refused { code: ResultCode(code) }), "{code}: {:?}", all.end);
        }
        for code in [51, 52, 3, 4, 11, 10] {
            let all = told(true, move |id| vec![set(id, false, &[1]), done(id, code)]).await;
            assert!(all.is_unread(), "{code}: {:?}", all.end);
        }
        let all = told(true, |id| vec![done(id, 50)]).await;
        assert!(matches!(all.end, Err(FeedError::NotAllowed { .. })), "{:?}", all.end);
        let (fake, directory) = server(true, |_, _, _| panic!("nothing is asked")).await;
        let mut other = serde_json::to_value(since(&fake, "c1")).expect("JSON");
        other["base"] = "dc=other".into();
        let all = Told::of(directory.changes(serde_json::from_value(other).expect("a position"))).await;
        assert!(all.is_full_read(FullRead::OtherBase), "{:?}", all.end);
    }

    #[tokio::test]
    async fn what_rfc_4533_does_not_allow_is_an_error_and_no_end() {
        // B-71
        let big = || SyncInfo::NewCookie(vec![b'c'; 10 << 20].into());
        type Answer = Box<dyn Fn(MessageId) -> Vec<Do> + Send + Sync>;
        let cases: [(&str, Answer); 9] = [
            ("an end without a control", Box::new(|id| vec![set(id, false, &[1]), done(id, 0)])),
            (
                "an entry without a control",
                Box::new(|id| vec![entry(id, "cn=x", vec![], &[]), over(id, 0, Some("c"), false)]),
            ),
            ("an empty cookie", Box::new(|id| vec![over(id, 0, Some(""), true)])),
            ("a cookie of 10 MB", Box::new(move |id| vec![info(id, &big()), over(id, 0, Some("c"), false)])),
            // syncIdSet with a syncUUID of 15 octets
            (
                "a short id",
                Box::new(|id| {
                    let octets = [&[0xa3, 0x13, 0x31, 0x11, 0x04, 0x0f][..], &[7; 15]].concat();
                    vec![intermediate(id, &octets), over(id, 0, Some("c"), false)]
                }),
            ),
            (
                "an unknown state",
                Box::new(|id| {
                    let control =
                        Control::new(oid::SYNC_STATE, false, Some(Bytes::from_static(&[0x30, 3, 0x0a, 1, 9])));
                    vec![entry(id, "cn=x", vec![], &[control]), over(id, 0, Some("c"), false)]
                }),
            ),
            ("no BER", Box::new(|id| vec![intermediate(id, &[0xa3, 0x7f]), over(id, 0, Some("c"), false)])),
            ("an answer to nothing", Box::new(|id| vec![over(id.next(), 0, Some("c"), false)])),
            ("a bind response", Box::new(|id| vec![support::bind_response(id, 0), over(id, 0, Some("c"), false)])),
        ];
        for (what, answer) in cases {
            let all = told(true, answer).await;
            assert!(all.is_malformed() || all.is_unread(), "{what}: {:?}", all.end);
            assert_eq!(all.positions(), 0, "{what}");
        }
        let (fake, directory) = server(true, |id, _, _| {
            let over = || info(id, &SyncInfo::RefreshDelete { cookie: None, done: true });
            vec![over(), over()]
        })
        .await;
        let all = Told::of(directory.follow(since(&fake, "c1"))).await;
        assert!(all.is_malformed(), "the end of a refresh twice: {:?}", all.end);
        // The same twice, one that nobody knows, and cookies on the way: no harm.
        let all = told(true, |id| {
            let twice = || state(id, SyncStateKind::Add, 1, Some("x"));
            vec![twice(), twice(), state(id, SyncStateKind::Delete, 9, Some("y")), over(id, 0, None, true)]
        })
        .await;
        assert_eq!((all.end.ok(), all.events.len()), (Some(false), 4));
    }

    #[tokio::test]
    async fn a_cookie_of_ours_that_openldap_does_not_take_costs_one_question() {
        // RFC 4533 section 3.3: what a cookie is, the server says. Then everything is named once.
        const CSNS: [&str; 2] =
            ["20260101000000.000000Z#000000#001#000000", "20260102000000.000000Z#000000#002#000000"];
        const OURS: &str =
            "rid=000,csn=20260101000000.000000Z#000000#001#000000;20260102000000.000000Z#000000#002#000000";
        for refusal in [1, 2, 53, 80, 4096] {
            let (fake, directory) = server_at(true, &CSNS, move |id, request, number| match number {
                0 => {
                    assert_eq!(request.cookie.as_deref(), Some(OURS.as_bytes()));
                    vec![done(id, refusal)]
                }
                _ => {
                    assert_eq!((number, request.cookie.as_ref()), (1, None), "{refusal}");
                    vec![state(id, SyncStateKind::Add, 1, None), over(id, 0, Some("c7"), false)]
                }
            })
            .await;
            let now = directory.position_now(FeedKind::Syncrepl).await.expect("a position");
            assert_eq!(now, since(&fake, "c7"), "{refusal}");
        }
        // One that it takes stands, and trouble is no refusal.
        let (fake, directory) = server_at(true, &CSNS, |id, _, _| vec![over(id, 0, None, true)]).await;
        assert_eq!(directory.position_now(FeedKind::Syncrepl).await.ok(), Some(since(&fake, OURS)));
        let (_fake, directory) = server_at(true, &CSNS, |id, _, number| {
            assert_eq!(number, 0, "not asked again");
            vec![done(id, 51)]
        })
        .await;
        assert!(directory.position_now(FeedKind::Syncrepl).await.is_err());
    }

    #[tokio::test]
    async fn without_a_cookie_there_is_no_position_and_with_one_all_that_is_named_is_left_aside() {
        let (_fake, directory) = server(true, |id, request, _| {
            assert_eq!((request.cookie.as_ref(), request.mode), (None, SyncMode::RefreshOnly));
            vec![state(id, SyncStateKind::Add, 1, None), over(id, 0, None, false)]
        })
        .await;
        let end = directory.position_now(FeedKind::Syncrepl).await;
        assert!(matches!(end, Err(FeedError::Malformed { .. })), "{end:?}");
        let (fake, directory) =
            server(true, |id, _, _| vec![state(id, SyncStateKind::Add, 1, None), over(id, 0, Some("c7"), false)]).await;
        let now = directory.position_now(FeedKind::Syncrepl).await.expect("a position");
        assert_eq!(now, since(&fake, "c7"));
        assert!(!format!("{now:?}").contains(&BASE64.encode(b"c7")) && !format!("{now:?}").contains("c7"));
    }
}

mod dirsync {
    use super::*;

    const DOMAIN: [u8; 16] = [9; 16];
    const GUID: [u8; 16] = [7; 16];

    fn id() -> ObjectId {
        ObjectId::from_object_guid(&GUID).expect("16 octets")
    }

    /// A domain controller whose answer to DirSync with each cookie is given.
    async fn server(
        answers: impl Fn(MessageId, &DirSync, &SearchRequest) -> Vec<Do> + Send + Sync + 'static,
    ) -> (Fake, Directory) {
        server_of(Preset::ActiveDirectory, answers).await
    }

    async fn server_of(
        preset: Preset,
        answers: impl Fn(MessageId, &DirSync, &SearchRequest) -> Vec<Do> + Send + Sync + 'static,
    ) -> (Fake, Directory) {
        let fake = Fake::start(move |message: &Message, _| {
            if message.op() != Op::SearchRequest {
                return vec![];
            }
            let (id, search) = (message.id(), search_of(message));
            let controls = message.controls().expect("sound");
            if let Some(asked) = DirSync::find(&controls).expect("sound") {
                // S-10, S-12
                assert_eq!(search.base, BASE.as_bytes());
                for wanted in [oid::SHOW_DELETED, oid::EXTENDED_DN] {
                    assert!(controls.iter().any(|control| control.oid == wanted));
                }
                return answers(id, &asked, &search);
            }
            let attributes = match search.base.as_ref() {
                b"" => vec![
                    Attribute::new("namingContexts", value(BASE)),
                    Attribute::new("supportedControl", value(oid::DIRSYNC)),
                    Attribute::new("supportedCapabilities", value(oid::CAPABILITY_ACTIVE_DIRECTORY)),
                    Attribute::new("currentTime", value("20261129154503.0Z")),
                ],
                base if base == BASE.as_bytes() => vec![Attribute::new("objectGUID", vec![DOMAIN.to_vec().into()])],
                _ => return vec![done(id, 32)],
            };
            vec![entry(id, "", attributes, &[]), done(id, 0)]
        })
        .await;
        let mut settings = settings(&[&fake.url]);
        (settings.preset, settings.base) = (preset, format!("OU=people,{BASE}"));
        settings.user_filter = "(&(objectClass=contact)(department=IT))".into();
        settings.attributes.user_group = Some("team;crew".into());
        let options = Options { query_connections: 1, ..Options::default() };
        (fake, Directory::new(settings, None, options).expect("good settings"))
    }

    fn position(fake: &Fake, cookie: &[u8]) -> Position {
        position_of(fake, cookie, &"09".repeat(16))
    }

    fn position_of(fake: &Fake, cookie: &[u8], domain: &str) -> Position {
        serde_json::from_value(json!({
            "server": fake.url, "base": format!("OU=people,{BASE}"), "feed": "dirsync", "cookie": BASE64.encode(cookie),
            "domain": domain, "dc": "", "own_view": false, "at": 1_795_967_103
        }))
        .expect("a position")
    }

    fn page(id: MessageId, more: bool, cookie: &[u8]) -> Do {
        let value = DirSync { flags: more.into(), octets_max: 0, cookie: Bytes::copy_from_slice(cookie) };
        ended(id, 0, &[value.to_control()])
    }

    fn object(id: MessageId, dn: &str, attributes: Vec<Attribute>) -> Do {
        let mut attributes = attributes;
        attributes.push(Attribute::new("objectGUID", vec![GUID.to_vec().into()]));
        entry(id, dn, attributes, &[])
    }

    async fn told(answers: impl Fn(MessageId, &DirSync) -> Vec<Do> + Send + Sync + 'static) -> Told {
        let (fake, directory) = server(move |id, asked, _| answers(id, asked)).await;
        let told = Told::of(directory.changes(position(&fake, b"c1"))).await;
        assert!(fake.count(Op::SearchRequest) < 20, "without end");
        told
    }

    #[tokio::test]
    async fn pages_are_asked_for_until_there_are_no_more_and_each_has_a_position() {
        // S-11, S-14. Flags: INCREMENTAL_VALUES as the sign of 32 bits.
        let (fake, directory) = server(|id, asked, search| {
            assert_eq!(asked.flags, 0x8000_0000);
            let filter = Filter::from_ber(&search.filter).expect("ours").to_string();
            for class in ["user", "group", "organizationalUnit", "container", "foreignSecurityPrincipal", "contact"] {
                assert!(filter.contains(&format!("(objectClass={class})")), "{filter}");
            }
            assert!(!filter.contains("department"), "who leaves the filter must still be told: {filter}");
            for name in [
                "name",
                "parentGUID",
                "isDeleted",
                "instanceType",
                "objectGUID",
                "objectClass",
                "member",
                "team",
                "crew",
                "department",
                "watched",
            ] {
                assert!(search.attributes.iter().any(|it| it == name), "{name} of {:?}", search.attributes);
            }
            match asked.cookie.as_ref() {
                b"c1" => vec![object(id, "<GUID=00>;CN=a,DC=x", vec![]), page(id, true, b"c2")],
                b"c2" => vec![page(id, true, b"c3")],
                _ => vec![
                    object(id, "CN=a,DC=x", vec![Attribute::new("isDeleted", value("TRUE"))]),
                    page(id, false, b"c4"),
                ],
            }
        })
        .await;
        let all = Told::of(directory.changes(position(&fake, b"c1")).watching(&["watched"])).await;
        let at = |cookie: &[u8]| Event::Position(position(&fake, cookie));
        assert_eq!(all.events, [Event::Changed(id()), at(b"c2"), at(b"c3"), Event::Deleted(id()), at(b"c4")]);
        assert_eq!(all.end.ok(), Some(false));
        assert_eq!(
            fake.connections_of(Op::SearchRequest).len(),
            4 + 3,
            "the rest was asked once: {:?}",
            fake.connections()
        );
    }

    #[tokio::test]
    async fn that_an_account_is_switched_off_is_watched_where_the_preset_has_it() {
        // FD-42, S-14
        for (preset, watched) in [(Preset::AdLds, true), (Preset::ActiveDirectory, false)] {
            let (fake, directory) = server_of(preset, move |id, _, search| {
                let asked = |name: &str| search.attributes.iter().any(|it| it == name);
                assert_eq!(asked("msDS-UserAccountDisabled"), watched, "{preset:?}");
                assert!(asked("accountExpires") && !asked("nsAccountLock"), "{preset:?}");
                vec![page(id, false, b"c2")]
            })
            .await;
            assert_eq!(Told::of(directory.changes(position(&fake, b"c1"))).await.end.ok(), Some(false));
        }
    }

    #[tokio::test]
    async fn objects_without_a_name_are_gone_and_those_without_an_id_are_an_error() {
        // S-13, S-17, B-70
        for (dn, attributes, deleted) in [
            ("", vec![], true),
            ("<GUID=00>", vec![], true),
            ("CN=a\\0ADEL:x,CN=Deleted Objects,DC=x", vec![Attribute::new("isDeleted", value("TRUE"))], true),
            ("CN=a,DC=x", vec![Attribute::new("isDeleted", vec![])], false),
            ("CN=a,DC=x", vec![Attribute::new("member;range=0-0", value("CN=unknown"))], false),
        ] {
            let all = told(move |it, _| vec![object(it, dn, attributes.clone()), page(it, false, b"c2")]).await;
            let expected = if deleted { Event::Deleted(id()) } else { Event::Changed(id()) };
            assert_eq!(all.events.first(), Some(&expected), "{dn}");
        }
        for guids in [vec![], vec![15], vec![17], vec![0], vec![16, 16]] {
            let values: Vec<Bytes> = guids.iter().map(|length| vec![7; *length].into()).collect();
            let all = told(move |id, _| {
                let attributes = vec![Attribute::new("objectGUID", values.clone())];
                vec![entry(id, "CN=a,DC=x", attributes, &[]), page(id, false, b"c2")]
            })
            .await;
            assert!(all.is_malformed() && all.events.is_empty(), "{guids:?}: {:?}", all.end);
        }
    }

    #[tokio::test]
    async fn cookies_that_lead_nowhere_end_it() {
        // B-70
        type Answer = Box<dyn Fn(MessageId, &DirSync) -> Vec<Do> + Send + Sync>;
        let cases: [(&str, Answer); 5] = [
            ("the same for ever", Box::new(|id, asked| vec![page(id, true, &asked.cookie)])),
            ("empty, and more", Box::new(|id, _| vec![page(id, true, b"")])),
            ("empty, and no more", Box::new(|id, _| vec![page(id, false, b"")])),
            ("10 MB", Box::new(|id, _| vec![page(id, true, &vec![1; 10 << 20])])),
            ("none", Box::new(|id, _| vec![done(id, 0)])),
        ];
        for (what, answer) in cases {
            let all = told(answer).await;
            assert!(all.is_malformed() && all.positions() == 0, "{what}: {:?}", all.end);
        }
    }

    #[tokio::test]
    async fn a_cut_never_ends_it_and_a_cookie_not_accepted_needs_a_full_read() {
        // S-20, S-41
        for how in cuts() {
            let last = how.clone();
            let all = told(move |id, asked| match asked.cookie.as_ref() {
                b"c1" => vec![object(id, "CN=a,DC=x", vec![]), page(id, true, b"c2")],
                _ => [&[object(id, "CN=a,DC=x", vec![])], &last[..]].concat(),
            })
            .await;
            assert!(all.is_unread() && all.positions() == 1 && all.events.len() == 3, "{how:?}: {:?}", all.end);
        }
        for code in [1, 2, 12, 53, 80] {
            let all = told(move |id, _| vec![done(id, code)]).await;
            assert!(all.is_full_read(FullRead::Refused { code: ResultCode(code) }), "{code}: {:?}", all.end);
        }
        let all = told(|id, _| vec![done(id, 50)]).await;
        assert!(matches!(all.end, Err(FeedError::NotAllowed { .. })), "{:?}", all.end);
        let all = told(|id, _| vec![done(id, 51)]).await;
        assert!(all.is_unread(), "{:?}", all.end);
        let (fake, directory) = server(|_, _, _| panic!("nothing is asked of it")).await;
        let all = Told::of(directory.changes(position_of(&fake, b"c1", "00"))).await;
        assert!(all.is_full_read(FullRead::OtherDirectory), "{:?}", all.end);
    }

    #[tokio::test]
    async fn a_position_is_taken_without_reading_anything_and_with_the_rights_there_are() {
        // S-13
        let (fake, directory) = server(|id, asked, search| {
            if asked.flags & 1 == 0 {
                return vec![done(id, 50)];
            }
            let nothing = Filter::not(Filter::present("objectClass")).to_ber();
            match asked.cookie.as_ref() {
                b"" if search.filter == nothing => vec![page(id, true, b"c1")],
                b"" => vec![page(id, false, b"probed")],
                b"c1" => vec![page(id, false, b"c2")],
                _ => panic!("another cookie"),
            }
        })
        .await;
        let position = directory.position_now(FeedKind::DirSync).await.expect("a position");
        let json = serde_json::to_value(&position).expect("JSON");
        assert_eq!((&json["cookie"], &json["own_view"]), (&BASE64.encode(b"c2").into(), &true.into()));
        let offers = directory.probe_feeds().await.expect("offers");
        let offer = offers.iter().find(|offer| offer.kind == FeedKind::DirSync).expect("it has it");
        assert!(offer.usable.is_ok() && offer.misses.is_some());
        drop(fake);

        let (_fake, directory) = server(|id, _, _| vec![done(id, 50)]).await;
        let end = directory.position_now(FeedKind::DirSync).await;
        assert!(matches!(end, Err(FeedError::NotAllowed { .. })), "{end:?}");
        let offers = directory.probe_feeds().await.expect("offers");
        let offer = offers.iter().find(|offer| offer.kind == FeedKind::DirSync).expect("it has it");
        assert!(offer.usable.as_ref().is_err_and(|why| why.contains("Replicating Directory Changes")));
    }
}

mod others {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// A server that answers each search by its base.
    async fn server(
        preset: Preset,
        answers: impl Fn(MessageId, &str, &Filter) -> Vec<Do> + Send + Sync + 'static,
    ) -> (Fake, Directory) {
        let fake = Fake::start(move |message: &Message, _| {
            if message.op() != Op::SearchRequest {
                return vec![];
            }
            let search = search_of(message);
            let base = String::from_utf8(search.base.to_vec()).expect("ours");
            answers(message.id(), &base, &Filter::from_ber(&search.filter).expect("ours"))
        })
        .await;
        let mut settings = settings(&[&fake.url]);
        settings.preset = preset;
        let options = Options { query_connections: 1, ..Options::default() };
        (fake, Directory::new(settings, None, options).expect("good settings"))
    }

    fn position(fake: &Fake, feed: &str, more: serde_json::Value) -> Position {
        let mut json = json!({"server": fake.url, "base": BASE, "feed": feed});
        let more = more.as_object().expect("an object").clone();
        json.as_object_mut().expect("an object").extend(more);
        serde_json::from_value(json).expect("a position")
    }

    fn root(id: MessageId, attributes: &[(&'static str, &str)]) -> Vec<Do> {
        let mut merged: Vec<Attribute> = Vec::new();
        for (name, text) in attributes {
            match merged.iter_mut().find(|attribute| attribute.description == *name) {
                Some(attribute) => attribute.values.extend(value(text)),
                None => merged.push(Attribute::new(*name, value(text))),
            }
        }
        vec![entry(id, "", merged, &[]), done(id, 0)]
    }

    #[tokio::test]
    async fn numbers_of_one_domain_controller_are_never_read_on_another_connection() {
        // S-25. Whoever is asked on a new connection may be another domain controller.
        let at = |fake: &Fake, more: serde_json::Value| {
            let mut json = json!({"dc": "CN=dc1", "invocation": "07".repeat(16), "usn": 41, "at": 1_795_967_000});
            json.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            position(fake, "usn_changed", json)
        };
        for (what, cut) in [("closed", true), ("answered", false)] {
            let (fake, directory) = server(Preset::ActiveDirectory, move |id, base, filter| match base {
                "" => root(
                    id,
                    &[
                        ("namingContexts", BASE),
                        ("dsServiceName", "CN=dc1"),
                        ("highestCommittedUSN", "50"),
                        ("currentTime", "20261129154503.0Z"),
                        ("supportedCapabilities", oid::CAPABILITY_ACTIVE_DIRECTORY),
                    ],
                ),
                "CN=dc1" => {
                    vec![
                        entry(id, "", vec![Attribute::new("invocationId", vec![vec![7; 16].into()])], &[]),
                        done(id, 0),
                    ]
                }
                BASE if filter.to_string().starts_with("(&(uSNChanged>=42)(|(") => match cut {
                    true => vec![Do::Close],
                    false => {
                        let object = |guid: usize, deleted: &str| {
                            let attributes = vec![
                                Attribute::new("objectGUID", vec![vec![8; guid].into()]),
                                Attribute::new("isDeleted", value(deleted)),
                            ];
                            entry(id, "CN=x", attributes, &[])
                        };
                        vec![object(16, "TRUE"), object(16, "FALSE"), object(15, "FALSE"), done(id, 0)]
                    }
                },
                _ => vec![done(id, 32)],
            })
            .await;
            let all = Told::of(directory.changes(at(&fake, json!({})))).await;
            let mut connections = fake.connections_of(Op::SearchRequest);
            connections.dedup();
            assert_eq!(connections.len(), 1, "{what}");
            let id = ObjectId::from_object_guid(&[8; 16]).expect("16 octets");
            match cut {
                true => assert!(all.is_unread() && all.events.is_empty(), "{what}: {:?}", all.end),
                false => {
                    assert!(all.is_malformed(), "{what}: {:?}", all.end);
                    assert_eq!(all.events, [Event::Deleted(id.clone()), Event::Changed(id)]);
                }
            }
            for (more, why) in [
                (json!({"usn": 51}), FullRead::SetBack),
                (json!({"invocation": "00"}), FullRead::SetBack),
                (json!({"dc": "CN=dc2"}), FullRead::OtherServer),
                (json!({"at": 1_700_000_000}), FullRead::TooLongAgo),
            ] {
                let all = Told::of(directory.changes(at(&fake, more))).await;
                assert!(all.is_full_read(why), "{why}: {:?}", all.end);
            }
        }
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_and_forth_is_followed_from_before_both_times() {
        // S-39
        let clock = Arc::new(Mutex::new("20261129120000Z"));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (now, seen) = (Arc::clone(&clock), Arc::clone(&asked));
        let (fake, directory) = server(Preset::Generic, move |id, base, filter| match base {
            "" => root(id, &[("currentTime", *now.lock().expect("no panic"))]),
            _ => {
                seen.lock().expect("no panic").push(filter.to_string());
                vec![support::person(id, "a", 1), entry(id, "cn=x", vec![], &[]), done(id, 0)]
            }
        })
        .await;
        let mut position = directory.position_now(FeedKind::ModifyTimestamp).await.expect("a position");
        for time in ["20261129120500Z", "20261129110000Z", "20261129123000Z", "20261129123000Z"] {
            *clock.lock().expect("no panic") = time;
            let all = Told::of(directory.changes(position)).await;
            assert_eq!((all.end.ok(), all.events.len()), (Some(false), 2), "who has no id was never known");
            let Some(Event::Position(next)) = all.events.last() else { panic!("{:?}", all.events) };
            position = next.clone();
        }
        let asked: Vec<String> = asked.lock().expect("no panic").clone();
        let expected = ["20261129115000Z", "20261129105000Z", "20261129105000Z", "20261129122000Z"];
        assert_eq!(asked, expected.map(|time| format!("(modifyTimestamp>={time})")));
        drop(fake);
    }

    #[tokio::test]
    async fn where_a_server_tells_no_time_the_newest_change_is_where_it_stands() {
        // S-39: its clock is twenty minutes behind ours, one entry carries a time of next year
        const MINUTE: i64 = 60;
        let ours = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs()).expect("so soon");
        let written = |seconds: i64| {
            let time = time::OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
            let (hour, minute, second) = time.to_hms();
            let (year, month, day) = time.to_calendar_date();
            format!("{year:04}{:02}{day:02}{hour:02}{minute:02}{second:02}Z", u8::from(month))
        };
        let theirs = ours - 20 * MINUTE;
        let changes =
            Arc::new(Mutex::new(vec![(1, theirs - 10 * MINUTE), (2, theirs), (3, ours + 365 * 24 * 60 * MINUTE)]));
        let asked = Arc::<Mutex<Vec<i64>>>::default();
        let (held, seen) = (Arc::clone(&changes), Arc::clone(&asked));
        let (fake, directory) = server(Preset::EDirectory, move |id, base, filter| match base {
            "" => root(id, &[]),
            BASE => {
                let text = filter.to_string();
                let since =
                    text.strip_prefix("(modifyTimestamp>=").and_then(|it| it.strip_suffix(')')).expect("a time");
                let since = directory::seconds_of_generalized_time(since).expect("a time");
                seen.lock().expect("no panic").push(since);
                let held = held.lock().expect("no panic");
                let newer = held.iter().filter(|(_, time)| *time >= since);
                let one = |(number, time): &(u8, i64)| {
                    let guid = Attribute::new("GUID", vec![vec![*number; 16].into()]);
                    entry(id, "cn=x", vec![guid, Attribute::new("modifyTimestamp", value(&written(*time)))], &[])
                };
                newer.map(one).chain([done(id, 0)]).collect()
            }
            _ => vec![done(id, 32)],
        })
        .await;
        let at = |position: &Position| serde_json::to_value(position).expect("JSON")["at"].as_i64().expect("a time");
        let named = |all: &Told| {
            let changed = |event: &Event| match event {
                Event::Changed(id) => Some(id.to_string()[5..7].to_owned()),
                _ => None,
            };
            all.events.iter().filter_map(changed).collect::<Vec<_>>().join(" ")
        };
        let mut position = directory.position_now(FeedKind::ModifyTimestamp).await.expect("a position");
        assert_eq!(at(&position), theirs);
        for (changed, newest) in
            [(None, theirs), (Some((4, theirs + MINUTE)), theirs + MINUTE), (None, theirs + MINUTE)]
        {
            changes.lock().expect("no panic").extend(changed);
            let all = Told::of(directory.changes(position)).await;
            assert_eq!(all.end.as_ref().ok(), Some(&false), "{:?}", all.end);
            assert!(changed.is_none_or(|(number, _)| named(&all).contains(&format!("{number:02}"))), "{}", named(&all));
            let Some(Event::Position(next)) = all.events.last() else { panic!("{:?}", all.events) };
            assert_eq!(at(next), newest);
            position = next.clone();
        }
        // Nothing was written for a month: it is looked for further and further back.
        *changes.lock().expect("no panic") = vec![(5, ours - 40 * 24 * 60 * MINUTE)];
        asked.lock().expect("no panic").clear();
        let position = directory.position_now(FeedKind::ModifyTimestamp).await.expect("a position");
        assert_eq!(at(&position), ours - 40 * 24 * 60 * MINUTE);
        let back: Vec<i64> = asked.lock().expect("no panic").iter().map(|since| (ours - since + 30) / 3_600).collect();
        assert_eq!(back[..3], [1, 24, 30 * 24]);
        changes.lock().expect("no panic").clear();
        let position = directory.position_now(FeedKind::ModifyTimestamp).await.expect("a position");
        assert_eq!(at(&position), 0, "an empty directory: whatever comes is new");
        drop(fake);
    }

    #[tokio::test]
    async fn a_changelog_is_read_in_steps_and_a_gap_at_its_beginning_is_found_out() {
        // S-37
        let change = |id: MessageId, number: u64, kind: &str, unique: Option<&str>| {
            let mut attributes = vec![
                Attribute::new("changeNumber", value(&number.to_string())),
                Attribute::new("changeType", value(kind)),
                Attribute::new("targetDn", value("uid=a,dc=x")),
            ];
            attributes.extend(unique.map(|unique| Attribute::new("targetUniqueId", value(unique))));
            entry(id, "cn=log", attributes, &[])
        };
        const UNIQUE: &str = "00000000-00000000-00000000-00000007";
        let (fake, directory) = server(Preset::Ds389, move |id, base, filter| match base {
            "" => root(id, &[("changeLog", "cn=log"), ("firstChangeNumber", "100"), ("lastChangeNumber", "1300")]),
            "cn=log" => match filter.to_string().as_str() {
                "(objectClass=*)" => root(id, &[]),
                "(&(changeNumber>=191)(changeNumber<=690))" => {
                    vec![change(id, 300, "modify", Some(UNIQUE)), change(id, 250, "delete", None), done(id, 0)]
                }
                "(&(changeNumber>=691)(changeNumber<=1190))" => vec![done(id, 0)],
                "(&(changeNumber>=1191)(changeNumber<=1300))" => {
                    vec![change(id, 1300, "delete", Some(UNIQUE)), change(id, 1200, "add", None), done(id, 0)]
                }
                "(&(changeNumber>=1291)(changeNumber<=1300))" => vec![change(id, 1, "modify", None), done(id, 0)],
                other => panic!("{other}"),
            },
            "uid=a,dc=x" => vec![done(id, 32)],
            other => panic!("{other}"),
        })
        .await;
        let at = |number: u64| position(&fake, "changelog", json!({"number": number}));
        let id: ObjectId = format!("nsUniqueId:{UNIQUE}").parse().expect("an id");
        let all = Told::of(directory.changes(at(200))).await;
        assert_eq!(all.end.ok(), Some(false));
        let expected = [
            Event::Changed(id.clone()),
            Event::Position(at(690)),
            Event::Position(at(1190)),
            Event::Deleted(id),
            Event::Position(at(1300)),
        ];
        assert_eq!(all.events, expected);
        for (number, why) in [(98, FullRead::Purged), (1301, FullRead::SetBack)] {
            let all = Told::of(directory.changes(at(number))).await;
            assert!(all.is_full_read(why), "{number}: {:?}", all.end);
        }
        let all = Told::of(directory.changes(at(1300))).await;
        assert!(all.is_malformed(), "a change that was not asked for: {:?}", all.end);
    }

    #[tokio::test]
    async fn a_changelog_that_is_cut_at_any_message_has_no_end_and_positions_of_whole_steps_only() {
        // S-37, S-41, T-40: two steps, and in each somebody who is looked up by name
        fn answer(id: MessageId, base: &str, filter: &Filter) -> Vec<Do> {
            let change = |number: u64, kind: &str, unique: Option<u8>| {
                let mut attributes = vec![
                    Attribute::new("changeNumber", value(&number.to_string())),
                    Attribute::new("changeType", value(kind)),
                    Attribute::new("targetDn", value("uid=a,dc=x")),
                ];
                let unique = unique.map(|unique| value(&format!("00000000-00000000-00000000-{unique:08x}")));
                attributes.extend(unique.map(|unique| Attribute::new("targetUniqueId", unique)));
                entry(id, "cn=log", attributes, &[])
            };
            match (base, filter.to_string().as_str()) {
                ("", _) => {
                    root(id, &[("changeLog", "cn=log"), ("firstChangeNumber", "1"), ("lastChangeNumber", "700")])
                }
                ("cn=log", "(objectClass=*)") => root(id, &[]),
                ("cn=log", "(&(changeNumber>=191)(changeNumber<=690))") => vec![
                    change(200, "add", Some(1)),
                    change(201, "modify", None),
                    change(202, "delete", Some(2)),
                    done(id, 0),
                ],
                ("cn=log", "(&(changeNumber>=691)(changeNumber<=700))") => {
                    vec![change(691, "modify", None), change(692, "delete", Some(3)), done(id, 0)]
                }
                ("uid=a,dc=x", _) => {
                    let unique = Attribute::new("nsUniqueId", value("00000000-00000000-00000000-00000009"));
                    vec![entry(id, "uid=a,dc=x", vec![unique], &[]), done(id, 0)]
                }
                other => panic!("{other:?}"),
            }
        }
        for how in cuts() {
            let (left, last) = (Arc::new(AtomicUsize::new(usize::MAX)), how.clone());
            let still = Arc::clone(&left);
            let (fake, directory) = server(Preset::Ds389, move |id, base, filter| {
                let mut steps = answer(id, base, filter);
                let takes = still.load(SeqCst).min(steps.len());
                still.fetch_sub(takes, SeqCst);
                if takes < steps.len() {
                    steps.truncate(takes);
                    steps.extend(last.clone());
                }
                steps
            })
            .await;
            let told = async || Told::of(directory.changes(position(&fake, "changelog", json!({"number": 200})))).await;
            let whole = told().await;
            assert_eq!((whole.end.as_ref().ok(), whole.events.len(), whole.positions()), (Some(&false), 7, 2));
            let messages = usize::MAX - left.load(SeqCst);
            assert_eq!(messages, 2 + 2 + 4 + 2 + 3 + 2);
            for cut in 0..messages {
                left.store(cut, SeqCst);
                let all = told().await;
                assert!(all.is_unread(), "{cut} {how:?}: {:?}", all.end);
                assert!(whole.events.starts_with(&all.events), "{cut} {how:?}: {:?}", all.events);
                assert_eq!(all.positions(), usize::from(cut >= 2 + 2 + 4 + 2), "{cut} {how:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_access_log_that_does_not_reach_back_needs_a_full_read_unless_nothing_has_happened() {
        // S-38
        const START: &str = "20261129120000.000001Z";
        for (kept, newest, expected) in [
            (true, "20261129130000.000000Z#000000#000#000000", None),
            (false, "20261129120000.000001Z#000000#000#000000", None),
            (false, "20261129130000.000000Z#000000#000#000000", Some(FullRead::Purged)),
            (false, "nonsense", Some(FullRead::Purged)),
        ] {
            let (fake, directory) = server(Preset::OpenLdap, move |id, base, filter| match base {
                "" => root(id, &[("namingContexts", "cn=accesslog"), ("namingContexts", BASE)]),
                "cn=accesslog" => match filter {
                    Filter::Present(_) => root(id, &[]),
                    Filter::LessOrEqual { .. } if kept => root(id, &[]),
                    Filter::LessOrEqual { .. } => vec![done(id, 0)],
                    filter => {
                        assert!(filter.to_string().contains("(reqStart>=20261129115900.000000Z)"), "{filter}");
                        vec![done(id, 0)]
                    }
                },
                _ => root(id, &[("contextCSN", newest)]),
            })
            .await;
            let at = position(&fake, "accesslog", json!({"start": START}));
            let all = Told::of(directory.changes(at.clone())).await;
            match expected {
                None => assert_eq!(all.events, [Event::Position(at)], "{:?}", all.end),
                Some(why) => assert!(all.is_full_read(why), "{kept} {newest}: {:?}", all.end),
            }
        }
        // Writes that do not say when, or whose entry it was.
        for (start, uuid) in
            [("yesterday", Some("00000000-0000-0000-0000-000000000007")), (START, None), (START, Some("7"))]
        {
            let (fake, directory) = server(Preset::OpenLdap, move |id, base, filter| match (base, filter) {
                ("", _) => root(id, &[("namingContexts", "cn=accesslog")]),
                (_, Filter::Present(_) | Filter::LessOrEqual { .. }) => root(id, &[]),
                _ => {
                    let mut attributes = vec![Attribute::new("reqStart", value(start))];
                    attributes.extend(uuid.map(|uuid| Attribute::new("reqEntryUUID", value(uuid))));
                    vec![entry(id, "reqStart=x", attributes, &[]), done(id, 0)]
                }
            })
            .await;
            let all = Told::of(directory.changes(position(&fake, "accesslog", json!({"start": START})))).await;
            assert!(all.is_malformed(), "{start} {uuid:?}: {:?}", all.end);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_position_is_refused() {
        let (fake, directory) = server(Preset::Generic, |id, _, _| root(id, &[])).await;
        for bad in [
            json!({"server": "", "base": "", "feed": "syncrepl", "cookie": ""}),
            json!({"server": "", "base": "", "feed": "syncrepl", "cookie": "?"}),
            json!({"server": "", "base": "", "feed": "syncrepl", "cookie": BASE64.encode(&vec![1; 701 << 10])}),
            json!({"server": "", "base": "", "feed": "unknown"}),
            json!({"base": "", "feed": "changelog", "number": 1}),
            json!({"server": "", "base": "", "feed": "changelog", "number": -1}),
        ] {
            assert!(serde_json::from_value::<Position>(bad.clone()).is_err(), "{bad}");
        }
        let longest =
            json!({"server": "", "base": "", "feed": "syncrepl", "cookie": BASE64.encode(&vec![1; 700 << 10])});
        let longest: Position = serde_json::from_value(longest).expect("the longest");
        assert!(serde_json::to_string(&longest).expect("JSON").len() < 1 << 20);
        // None of them is offered here, and nothing but syncrepl can be followed.
        for kind in [FeedKind::DirSync, FeedKind::UsnChanged, FeedKind::AccessLog, FeedKind::Changelog] {
            let end = directory.position_now(kind).await;
            assert!(matches!(end, Err(FeedError::NotOffered { kind: found }) if found == kind), "{end:?}");
        }
        let all = Told::of(directory.follow(position(&fake, "changelog", json!({"number": 1})))).await;
        assert!(matches!(all.end, Err(FeedError::NotOffered { .. })), "{:?}", all.end);
    }
}

mod reading {
    use super::*;

    fn ids(count: u128) -> Vec<ObjectId> {
        (0..count).map(|it| ObjectId::from_entry_uuid(&uuid::Uuid::from_u128(it).to_string()).expect("an id")).collect()
    }

    #[tokio::test]
    async fn many_ids_are_read_in_parts_on_one_connection_and_all_or_none_is_said() {
        // S-41. A connection that was lost between two parts is opened again, once.
        for (cut, always, connections) in [(0, false, 1), (100, true, 1), (50, true, 2), (50, false, 2)] {
            let fake = Fake::start(move |message: &Message, connection| {
                if message.op() != Op::SearchRequest {
                    return vec![];
                }
                let Ok(Filter::Or(parts)) = Filter::from_ber(&search_of(message).filter) else { panic!("no or") };
                assert!([100, 50].contains(&parts.len()));
                let is_first = connection < 2; // beside that of the pool
                let steps = vec![support::person(message.id(), "a", 1), done(message.id(), 0)];
                if parts.len() == cut && (always || is_first) { vec![Do::Close] } else { steps }
            })
            .await;
            let directory = support::directory(&[&fake.url]);
            eventually("the pool has its connection", async || directory.health().is_up()).await;
            let read = support::read_by_ids(&directory, &ids(250), &["uid"], false).await;
            match read {
                Ok(found) => assert!(!always && found.len() == 3),
                Err(why) => assert!(always && matches!(why, Incomplete::Unanswered(_)), "{why:?}"),
            }
            let mut used = fake.connections_of(Op::SearchRequest);
            used.dedup();
            assert_eq!(used.len(), connections, "{cut} {always}");
            assert!(support::read_by_ids(&directory, &[], &["uid"], false).await.expect("nothing is asked").is_empty());
        }
    }

    #[tokio::test]
    async fn a_name_that_is_not_there_is_left_out_and_a_refusal_of_another_kind_is_not() {
        let fake = Fake::start(|message: &Message, _| {
            if message.op() != Op::SearchRequest {
                return vec![];
            }
            let (id, extended) =
                (message.id(), message.controls().expect("sound").iter().any(|it| it.oid == oid::EXTENDED_DN));
            assert!(extended);
            match search_of(message).base.as_ref() {
                b"cn=gone" => vec![done(id, 32)],
                b"nonsense" => vec![done(id, 34)],
                b"cn=hidden" => vec![done(id, 50)],
                base => {
                    let dn = format!("<GUID=00>;<SID=S-1-5>;{}", String::from_utf8_lossy(base));
                    vec![entry(id, &dn, vec![Attribute::new("member", value("<GUID=01>;CN=b"))], &[]), done(id, 0)]
                }
            }
        })
        .await;
        let directory = support::directory(&[&fake.url]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let dns = names(&["cn=a", "cn=gone", "nonsense", "cn=b"]);
        let found = directory.read_dns(&dns, &["member"], true).await.expect("complete");
        let found: Vec<_> = found.iter().map(|entry| (entry.dn_text(), entry.first_text("member"))).collect();
        assert_eq!(found, [(Some("cn=a"), Some("<GUID=01>;CN=b")), (Some("cn=b"), Some("<GUID=01>;CN=b"))]);
        let connections = fake.connections_of(Op::SearchRequest);
        assert!(connections.len() >= 4 && connections.iter().all(|it| *it == connections[0]), "{connections:?}");
        let refused = directory.read_dns(&names(&["cn=a", "cn=hidden"]), &["member"], true).await;
        assert!(matches!(refused, Err(Incomplete::Refused { code, .. }) if code.0 == 50), "{refused:?}");
    }
}
