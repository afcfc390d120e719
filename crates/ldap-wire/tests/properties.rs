//! What must hold for every input: nothing panics, chunks do not matter, octets are kept, names and filters survive being
//! printed, and nobody gets past the gate.

mod support;

use bytes::BytesMut;
use ldap_wire::connection::{BoundAs, FromUpstream, GatedBind, PendingBind, Primary};
use ldap_wire::extended::{self, ExtendedRequest};
use ldap_wire::message::{DecodeError, Limit};
use ldap_wire::{
    Action, ClientConnection, Control, Dn, Filter, FrameError, Framer, LdapResult, Limits, Message, MessageId, Op,
    Peer, Policy, ResultCode, SearchResultEntry, validate_request,
};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::*;

/// All messages of a stream that arrives in pieces of these sizes, and the error that ended it.
fn frames(peer: Peer, stream: &[u8], sizes: &[usize]) -> (Vec<Message>, Option<FrameError>) {
    let framer = Framer::new(peer, Limits::UNAUTHENTICATED);
    let (mut buffer, mut messages, mut rest) = (BytesMut::new(), Vec::new(), stream);
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(usize::MAX));
    loop {
        loop {
            match framer.next_message(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        if rest.is_empty() {
            return (messages, None);
        }
        let (piece, later) = rest.split_at(sizes.next().expect("endless").clamp(1, rest.len()));
        buffer.extend_from_slice(piece);
        rest = later;
    }
}

/// A sound client message, or one with some octets changed.
fn client_octets() -> impl Strategy<Value = Vec<u8>> {
    let sound = prop_oneof![
        (1..99u32, ".{0,9}", ".{0,9}").prop_map(|(id, name, password)| bind(id, &name, &password)),
        (1..99u32).prop_map(search),
        (1..99u32, any::<Vec<u8>>())
            .prop_map(|(id, value)| search_with(id, &[Control::new("1.2.3", true, Some(value.into()))])),
        (1..99u32).prop_map(|id| message_with_tail(id, &[0x42], &[], &[0x8c, 0x01, 0x00])),
        (1..99u32).prop_map(|id| root_dse_search(id, &["+"])),
        (1..99u32).prop_map(delete),
        (1..99u32).prop_map(|id| modify(id, "userPassword")),
        (1..99u32, 0..99u32).prop_map(|(m, target)| extended(m, ExtendedRequest::cancel(id(target)))),
        (1..99u32, 0..99u32).prop_map(|(m, target)| parse(&extended::abandon_request(id(m), id(target)))),
    ];
    let sound = sound.prop_map(|message| message.octets().to_vec()).boxed();
    let broken = (sound.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut octets, place, octet)| {
        *place.get_mut(&mut octets) = octet;
        octets
    });
    prop_oneof![4 => sound, 1 => broken]
}

proptest! {
    #[test]
    fn a_stream_in_chunks_gives_the_same_messages_as_in_one_piece(
        messages in prop::collection::vec(client_octets(), 0..6),
        sizes in prop::collection::vec(1..40usize, 0..60),
    ) {
        let stream = messages.concat();
        for peer in [Peer::Client, Peer::Server] {
            prop_assert_eq!(frames(peer, &stream, &sizes), frames(peer, &stream, &[]));
        }
    }

    #[test]
    fn no_octets_make_anything_panic(stream in prop::collection::vec(any::<u8>(), 0..300)) {
        let in_sequence = [&[0x30, 0x82, (stream.len() >> 8) as u8, stream.len() as u8][..], &stream].concat();
        for octets in [&stream, &in_sequence] {
            for peer in [Peer::Client, Peer::Server] {
                for message in frames(peer, octets, &[]).0 {
                    decode_all(&message);
                }
            }
            let _ = Filter::from_ber(octets);
        }
        let text = String::from_utf8_lossy(&stream);
        let _ = (text.parse::<Dn>(), text.parse::<Filter>(), ldap_wire::dn::is_dn_shaped(&text));
    }

    #[test]
    fn no_changed_octet_makes_a_connection_panic(messages in prop::collection::vec(client_octets(), 0..8)) {
        let mut connection = ClientConnection::new(Arc::new(Policy::default()), true);
        for message in frames(Peer::Client, &messages.concat(), &[]).0 {
            decode_all(&message);
            let _ = connection.receive(message.clone());
            let _ = connection.receive_upstream(&message);
        }
    }

    #[test]
    fn another_message_id_changes_nothing_else(octets in client_octets(), new in 0..0x8000_0000u32) {
        // L-06.
        if let Ok(message) = Message::parse(octets.into()) {
            let spliced = parse(&message.with_id(id(new)));
            prop_assert_eq!(spliced.id(), id(new));
            prop_assert_eq!(spliced.body(), message.body());
            prop_assert_eq!(spliced.controls(), message.controls());
            let back = parse(&spliced.with_id(message.id()));
            prop_assert_eq!((back.id(), back.body()), (message.id(), message.body()));
        }
    }

    #[test]
    fn a_filter_survives_being_printed_and_being_encoded(filter in filter()) {
        // L-24: whatever octets a value has.
        prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter.clone()));
        prop_assert_eq!(Filter::from_ber(&filter.to_ber()), Ok(filter));
    }

    #[test]
    fn a_text_that_is_a_filter_is_one_when_printed(text in "[(&|!)a-c=*:\\\\02 <>~]{0,24}") {
        if let Ok(filter) = text.parse::<Filter>() {
            prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
        }
    }

    #[test]
    fn a_name_survives_being_printed(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..5)) {
        let dn = values.iter().fold(Dn::default(), |dn, value| dn.child("cn", value.clone()));
        prop_assert_eq!(dn.to_string().parse::<Dn>(), Ok(dn.clone()));
        prop_assert!(dn.is_within(&dn) && dn.child("ou", "x").is_within(&dn) && !dn.is_within(&dn.child("ou", "x")));
    }

    #[test]
    fn a_text_that_is_a_name_is_the_same_one_when_printed(text in "[a-cO0-9=,;+#\\\\ .]{0,24}") {
        if let Ok(dn) = text.parse::<Dn>() {
            let again = dn.to_string().parse::<Dn>();
            prop_assert_eq!(again.as_ref().map(Dn::key), Ok(dn.key()));
            prop_assert_eq!(again, Ok(dn));
        }
    }

    #[test]
    fn a_name_has_one_key_however_it_is_written(
        rdns in prop::collection::vec(prop::collection::vec((0..TYPES.len(), "[a-z ,+=\\\\#\"<>;é]{1,8}"), 1..3), 1..4),
        seed in any::<u64>(),
    ) {
        // L-21.
        let key = |text: &str| text.parse::<Dn>().expect("well-formed").key();
        let plain = written(&rdns, &mut |_| 0);
        let mut state = seed | 1;
        let varied = written(&rdns, &mut |choices| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % choices
        });
        prop_assert_eq!(key(&plain), key(&varied), "{} and {}", plain, varied);
    }

    #[test]
    fn names_of_different_values_have_different_keys(a in "[a-z,+=\\\\#]{1,6}", b in "[a-z,+=\\\\#]{1,6}") {
        let key = |value: &str| Dn::default().child("cn", value).key();
        prop_assert_eq!(key(&a) == key(&b), a == b);
        let (split, joined) = (Dn::default().child("cn", b.clone()).child("cn", a.clone()), format!("{a},cn={b}"));
        prop_assert_ne!(split.key(), Dn::default().child("cn", joined).key());
    }
}

/// Everything that looks into a message.
fn decode_all(message: &Message) {
    let _ = validate_request(message);
    let _ = (message.controls(), LdapResult::decode(message), SearchResultEntry::decode(message));
    let _ = (ldap_wire::BindResponse::decode(message), ldap_wire::ExtendedResponse::decode(message));
    let _ = (extended::IntermediateResponse::decode(message), ldap_wire::search::search_result_reference(message));
    if let Ok(request) = ExtendedRequest::decode(message) {
        let _ = (request.cancel_target(), request.password_modify_user());
    }
}

fn filter() -> impl Strategy<Value = Filter> {
    let name = "[a-z][a-z0-9;.-]{0,8}";
    let value = || prop::collection::vec(any::<u8>(), 0..8);
    let part = || prop::collection::vec(any::<u8>(), 1..6);
    let substrings = (name, prop::option::of(part()), prop::collection::vec(part(), 0..3), prop::option::of(part()))
        .prop_filter("has a part", |(_, initial, any, last)| initial.is_some() || !any.is_empty() || last.is_some())
        .prop_map(|(attribute, initial, any, last)| Filter::Substrings { attribute, initial, any, last });
    let extensible = (prop::option::of("[0-9.]{1,6}"), name, value(), any::<bool>()).prop_map(
        |(rule, name, value, dn_attributes)| Filter::Extensible { rule, attribute: Some(name), value, dn_attributes },
    );
    let leaf = prop_oneof![
        (name, value()).prop_map(|(attribute, value)| Filter::equal(attribute, value)),
        (name, value()).prop_map(|(attribute, value)| Filter::GreaterOrEqual { attribute, value }),
        (name, value()).prop_map(|(attribute, value)| Filter::LessOrEqual { attribute, value }),
        (name, value()).prop_map(|(attribute, value)| Filter::Approximate { attribute, value }),
        name.prop_map(Filter::present),
        substrings,
        extensible,
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(Filter::not),
        ]
    })
}

/// Spellings of the same attribute.
const TYPES: [&[&str]; 4] = [
    &["cn", "CN", "2.5.4.3", "OID.2.5.4.3", "commonName"],
    &["uid", "UID", "0.9.2342.19200300.100.1.1", "userid"],
    &["dc", "Dc", "oid.0.9.2342.19200300.100.1.25", "domainComponent"],
    &["x-own", "X-OWN", "x-Own"],
];

/// The name as text; `choose(n)` picks one of n ways to write each thing, 0 the plain one.
fn written(rdns: &[Vec<(usize, String)>], choose: &mut impl FnMut(usize) -> usize) -> String {
    let space = |choice: usize| ["", " ", "  "][choice];
    let mut text = String::new();
    for (index, rdn) in rdns.iter().enumerate() {
        if index > 0 {
            text += [",", ";"][choose(2)];
        }
        let mut assertions: Vec<_> = rdn.iter().collect();
        if choose(2) == 1 {
            assertions.reverse();
        }
        for (inner, (kind, value)) in assertions.into_iter().enumerate() {
            text += if inner > 0 { "+" } else { "" };
            text += space(choose(3));
            text += TYPES[*kind][choose(TYPES[*kind].len())];
            text += space(choose(3));
            text += "=";
            text += space(choose(3));
            text += &written_value(value, choose);
            text += space(choose(3));
        }
    }
    text
}

fn written_value(value: &str, choose: &mut impl FnMut(usize) -> usize) -> String {
    if choose(6) == 5 {
        let hex: String = value.bytes().map(|octet| format!("{octet:02X}")).collect();
        return format!("#{}{:02x}{hex}", ["04", "0c", "13"][choose(3)], value.len());
    }
    let mut text = String::new();
    for character in value.chars() {
        let octets = character.to_string();
        match choose(4) {
            1 => text += &octets.bytes().map(|octet| format!("\\{octet:02x}")).collect::<String>(),
            2 if character.is_alphabetic() => text += &character.to_uppercase().to_string(),
            3 if character == ' ' => text += "\\20  \\ ",
            _ => text += &ldap_wire::dn::escape_value(octets.as_bytes()),
        }
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this test measures time; the code under test takes none")]
fn filters_nested_100000_times_are_refused_within_10_ms() {
    // B-43, L-03: and, or, not and mixes of them, before a bind. The framer would not let so much through; this is the check alone. The best of three runs counts,
    // because other tests run beside this one.
    for tags in [&[0xa0][..], &[0xa1], &[0xa2], &[0xa0, 0xa2, 0xa1]] {
        let mut filter = vec![0x87, 0x01, b'a'];
        let mut layers = Vec::new();
        // Built from the inside, and put together backwards, to be linear.
        let mut length = filter.len();
        for level in 0..100_000 {
            let mut header = vec![tags[level % tags.len()], 0x83];
            header.extend(&(length as u32).to_be_bytes()[1..]);
            length += header.len();
            header.reverse();
            layers.push(header);
        }
        let mut octets: Vec<u8> = layers.concat();
        octets.reverse();
        octets.append(&mut filter);
        let search =
            [&[0x04, 0, 0x0a, 1, 2, 0x0a, 1, 0, 0x02, 1, 0, 0x02, 1, 0, 0x01, 1, 0][..], &octets, &[0x30, 0]].concat();
        let message = message(7, &[0x63], &search);
        let best = (0..3)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(validate_request(&message), Err(DecodeError::Limit(Limit::FilterDepth)));
                start.elapsed()
            })
            .min();
        assert!(best < Some(Duration::from_millis(10)), "{best:?}");
    }
    for opening in ["(&", "(|", "(!"] {
        let text = opening.repeat(100_000);
        let start = Instant::now();
        assert!(text.parse::<Filter>().is_err());
        assert!(start.elapsed() < Duration::from_millis(10));
    }
}

/// What may happen to a connection, one thing after the other.
#[derive(Clone, Debug)]
enum Step {
    Client(u8),
    Primary(u32),
    Allow(bool),
    Deny,
    Upstream(u8),
    UpstreamLost,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..9u8).prop_map(Step::Client),
        2 => prop_oneof![4 => Just(0), 1 => Just(49), 1 => Just(14)].prop_map(Step::Primary),
        2 => any::<bool>().prop_map(Step::Allow),
        1 => Just(Step::Deny),
        1 => (0..3u8).prop_map(Step::Upstream),
        1 => Just(Step::UpstreamLost),
    ]
}

/// What the gateway holds between steps.
enum Ticket {
    None,
    Pending(PendingBind),
    Gated(GatedBind),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn only_a_consumed_allow_lets_anything_through(steps in prop::collection::vec(step(), 0..40)) {
        // T-04: I1 and I2. The model knows one thing: was there an Allow after the last bind request?
        let policy = Policy { start_tls: true, upstream_tls: true, ..Policy::default() };
        let mut connection = ClientConnection::new(Arc::new(policy), true);
        let mut allowed = false;
        let mut ticket = Ticket::None;
        for (number, step) in steps.into_iter().enumerate() {
            let message_id = number as u32 + 1;
            match step {
                Step::Client(kind) => {
                    let message = match kind {
                        0 | 1 => bind(message_id, USER, "secret"),
                        2 => bind(message_id, USER, ""),
                        3 => bind(message_id, "", ""),
                        4 => root_dse_search(message_id, &[]),
                        5 => modify(message_id, "userPassword"),
                        6 => parse(&extended::abandon_request(id(message_id), id(message_id.saturating_sub(1)))),
                        7 => extended(message_id, ExtendedRequest::who_am_i()),
                        _ => search(message_id),
                    };
                    let (op, waiting) = (message.op(), !matches!(ticket, Ticket::None));
                    match connection.receive(message) {
                        Action::Bind(pending) => {
                            prop_assert!(!waiting, "a second bind while one is pending");
                            (ticket, allowed) = (Ticket::Pending(pending), false);
                        }
                        Action::AnswerBind(_) => {
                            prop_assert!(!waiting);
                            allowed = false;
                        }
                        Action::Forward(cleared) => {
                            // An Abandon may be aimed at the anonymous search of the root DSE.
                            prop_assert!(!waiting && (allowed || cleared.op() == Op::AbandonRequest), "{:?}", op);
                        }
                        Action::RootDse { .. } => prop_assert!(!waiting),
                        Action::Answer(octets) => prop_assert!(!result(&octets).is_success()),
                        Action::Ignore => {}
                        Action::Close { .. } | Action::StartTls(_) => prop_assert!(false, "nobody asked for that"),
                    }
                }
                Step::Primary(code) => {
                    ticket = match ticket {
                        Ticket::Pending(pending) => {
                            let mut answer = success();
                            answer.result.code = ResultCode(code);
                            match connection.primary_finished(pending, answer, Vec::new()) {
                                Primary::Accepted(gated) => {
                                    prop_assert_eq!(code, 0);
                                    Ticket::Gated(gated)
                                }
                                Primary::Refused { bind, .. } => Ticket::Pending(bind),
                            }
                        }
                        other => other,
                    };
                }
                Step::Allow(service) => {
                    ticket = match ticket {
                        Ticket::Gated(gated) => {
                            let bound_as = if service { BoundAs::Service } else { BoundAs::User };
                            let sent = connection.bind_allowed(gated, bound_as).expect("the client is there");
                            prop_assert!(result(&sent).is_success());
                            allowed = true;
                            Ticket::None
                        }
                        other => other,
                    };
                }
                Step::Deny => {
                    // The result is one that must not get out as it is.
                    let lie = LdapResult::of(ResultCode::SUCCESS);
                    let sent = match ticket {
                        Ticket::None => None,
                        Ticket::Pending(pending) => connection.bind_refused(pending, &lie, &[]),
                        Ticket::Gated(gated) => connection.bind_refused(gated, &lie, &[]),
                    };
                    ticket = Ticket::None;
                    prop_assert!(sent.is_none_or(|sent| !result(&sent).is_success()));
                }
                Step::Upstream(kind) => {
                    let message = match kind {
                        0 => response(message_id.saturating_sub(1), Op::SearchResultDone, ResultCode::SUCCESS),
                        1 => entry(message_id.saturating_sub(1), &[]),
                        _ => response(message_id.saturating_sub(1), Op::BindResponse, ResultCode::SUCCESS),
                    };
                    if message.id() != MessageId::UNSOLICITED
                        && let FromUpstream::Relay(octets) | FromUpstream::End { octets, .. } =
                            connection.receive_upstream(&message)
                    {
                        prop_assert_ne!(parse(&octets).op(), Op::BindResponse, "a success that nobody allowed");
                    }
                }
                Step::UpstreamLost => {
                    let lost = connection.upstream_lost();
                    prop_assert_eq!(lost.notice.is_some(), allowed);
                    if allowed {
                        return Ok(());
                    }
                }
            }
        }
    }
}
