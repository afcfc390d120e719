//! The decisions about a client's messages: rules L-07 to L-19 and the rows of the bad-input table that they answer.

mod support;

use bytes::Bytes;
use ldap_wire::ber::{self, Writer};
use ldap_wire::connection::{
    Anonymous, BoundAs, FromUpstream, GatedBind, Limited, Operations, PendingBind, Primary, State, Ticket,
};
use ldap_wire::extended::{self, ExtendedRequest, ExtendedResponse};
use ldap_wire::message::Limit;
use ldap_wire::referral::Referrals;
use ldap_wire::{
    Action, Authentication, BindResponse, ClientConnection, Control, DecodeError, Filter, LdapResult, Limits, Message,
    MessageId, Op, Policy, ResultCode, Scope, SearchRequest, SearchResultEntry, Style, filter, oid,
};
use std::sync::Arc;
use support::*;

fn connection(change: impl FnOnce(&mut Policy)) -> ClientConnection {
    let mut policy = Policy { start_tls: true, upstream_tls: true, ..Policy::default() };
    change(&mut policy);
    ClientConnection::new(Arc::new(policy), true)
}

fn pending(connection: &mut ClientConnection, message_id: u32) -> PendingBind {
    match connection.receive(bind(message_id, USER, "secret")) {
        Action::Bind(pending) => pending,
        _ => panic!("a good bind is not decided here"),
    }
}

fn gated(connection: &mut ClientConnection, message_id: u32) -> GatedBind {
    let pending = pending(connection, message_id);
    match connection.primary_finished(pending, success(), Vec::new()) {
        Primary::Accepted(gated) => gated,
        Primary::Refused { .. } => panic!("the directory said yes"),
    }
}

fn bound(change: impl FnOnce(&mut Policy)) -> ClientConnection {
    let mut connection = connection(change);
    let gated = gated(&mut connection, 1);
    connection.bind_allowed(gated, BoundAs::User).expect("still there");
    connection
}

#[test]
fn a_password_without_tls_is_refused_before_anybody_looks_at_it() {
    // L-07.
    let mut plain = ClientConnection::new(Arc::new(Policy::default()), false);
    assert_eq!(answer_to_bind(plain.receive(bind(1, USER, "secret"))), ResultCode::CONFIDENTIALITY_REQUIRED);
    let legacy = Policy { danger_allow_cleartext: true, ..Policy::default() };
    let mut plain = ClientConnection::new(Arc::new(legacy), false);
    assert!(matches!(plain.receive(bind(1, USER, "secret")), Action::Bind(_)));
}

#[test]
fn empty_names_and_passwords_never_reach_a_directory() {
    // L-10, B-48: neither with TLS nor without, and whatever anonymous clients may do.
    for anonymous in [Anonymous::RootDse, Anonymous::Refuse, Anonymous::Forward] {
        for tls in [true, false] {
            let policy = Policy { anonymous, danger_allow_cleartext: true, ..Policy::default() };
            let mut connection = ClientConnection::new(Arc::new(policy), tls);
            let mut code = |name, password| answer_to_bind(connection.receive(bind(1, name, password)));
            assert_eq!(code(USER, ""), ResultCode::UNWILLING_TO_PERFORM);
            assert_eq!(code("   ", ""), ResultCode::UNWILLING_TO_PERFORM);
            assert_eq!(code("", "secret"), ResultCode::INVALID_CREDENTIALS);
            let expected = match anonymous {
                Anonymous::Refuse => ResultCode::INAPPROPRIATE_AUTHENTICATION,
                _ => ResultCode::SUCCESS,
            };
            assert_eq!(code("", ""), expected);
            assert_eq!(connection.state(), State::Anonymous);
        }
    }
}

#[test]
fn an_anonymous_client_reads_the_root_dse_and_nothing_else() {
    // L-10, in both styles.
    for (style, code) in
        [(Style::ActiveDirectory, ResultCode::OPERATIONS_ERROR), (Style::Plain, ResultCode::INSUFFICIENT_ACCESS_RIGHTS)]
    {
        let mut connection = connection(|policy| policy.style = style);
        assert!(matches!(connection.receive(root_dse_search(1, &[])), Action::RootDse { .. }));
        assert_eq!(answer_code(connection.receive(search(2))), code);
        assert_eq!(answer_code(connection.receive(delete(3))), code);
        assert_eq!(answer_code(connection.receive(extended(4, ExtendedRequest::who_am_i()))), code);
    }
    let mut refusing = connection(|policy| policy.anonymous = Anonymous::Refuse);
    assert_eq!(answer_code(refusing.receive(root_dse_search(1, &[]))), ResultCode::INSUFFICIENT_ACCESS_RIGHTS);
    let mut forwarding = connection(|policy| policy.anonymous = Anonymous::Forward);
    assert!(matches!(forwarding.receive(search(1)), Action::Forward(_)));
    assert_eq!(
        answer_code(forwarding.receive(modify(2, "userPassword"))),
        ResultCode::INSUFFICIENT_ACCESS_RIGHTS,
        "nobody changes a password as nobody"
    );
}

#[test]
fn versions_sasl_and_choices_of_no_standard_are_refused_as_the_rules_say() {
    // L-09, L-36, B-47, B-49.
    let mut connection = connection(|_| {});
    for version in [0, 2, 4, 127, 128] {
        let octets = message(1, &[0x60], &[&integer(version)[..], &[0x04, 0x01, b'u', 0x80, 0x01, b'p']].concat());
        assert_eq!(answer_to_bind(connection.receive(octets)), ResultCode::PROTOCOL_ERROR, "version {version}");
    }
    for tag in [0x81, 0x82, 0x89, 0x8a, 0x8b, 0xa9] {
        let octets = message(1, &[0x60], &[0x02, 0x01, 0x03, 0x04, 0x01, b'u', tag, 0x00]);
        assert_eq!(
            answer_to_bind(connection.receive(octets)),
            ResultCode::AUTH_METHOD_NOT_SUPPORTED,
            "choice {tag:#x}"
        );
    }
    for mechanism in ["", "GSSAPI", "GSS-SPNEGO", "EXTERNAL", "PLAIN", "plain", &"x".repeat(64 * 1024)] {
        assert_eq!(answer_to_bind(connection.receive(sasl(1, mechanism))), ResultCode::AUTH_METHOD_NOT_SUPPORTED);
    }
}

#[test]
fn plain_inside_tls_is_a_simple_bind_in_other_words() {
    // L-36, L-10, RFC 4616: what it names is bound, not the name beside it, and only as oneself.
    let mut plain = connection(|policy| policy.sasl_plain = true);
    for authorization in ["", "uid=ann,dc=x", "u:uid=ann,dc=x", "dn:uid=ann,dc=x"] {
        let credentials = format!("{authorization}\0uid=ann,dc=x\0secret");
        let Action::Bind(bind) = plain.receive(sasl_with(1, "PLAIN", Some(credentials.as_bytes()))) else {
            panic!("{credentials:?} is a good bind")
        };
        let Authentication::Simple(password) = &bind.request.authentication else { panic!("not in other words") };
        assert_eq!((&bind.request.name[..], password.expose()), (&b"uid=ann,dc=x"[..], &b"secret"[..]));
        assert!(plain.bind_refused(bind, &LdapResult::of(ResultCode::INVALID_CREDENTIALS), &[]).is_some());
    }
    for (credentials, code) in [
        (None, ResultCode::PROTOCOL_ERROR),
        (Some(&b""[..]), ResultCode::PROTOCOL_ERROR),
        (Some(b"ann\0secret"), ResultCode::PROTOCOL_ERROR),
        (Some(b"\0ann\0sec\0ret"), ResultCode::PROTOCOL_ERROR),
        (Some(b"\0ann\0"), ResultCode::UNWILLING_TO_PERFORM),
        (Some(b"\0\0"), ResultCode::UNWILLING_TO_PERFORM),
        (Some(b"\0\0secret"), ResultCode::INVALID_CREDENTIALS),
        (Some(b"root\0ann\0secret"), ResultCode::INVALID_CREDENTIALS),
        (Some(b"u:\0ann\0secret"), ResultCode::INVALID_CREDENTIALS),
        (Some(b"\0uid=ann,,dc=x\0secret"), ResultCode::INVALID_DN_SYNTAX),
        (Some(b"\0\xff\0secret"), ResultCode::INVALID_DN_SYNTAX),
    ] {
        let message = sasl_with(1, "PLAIN", credentials);
        assert_eq!(answer_to_bind(plain.receive(message)), code, "{credentials:?}");
    }
    // Never without TLS, danger key or not.
    let policy = Policy { sasl_plain: true, sasl_external: true, danger_allow_cleartext: true, ..Policy::default() };
    let mut clear = ClientConnection::new(Arc::new(policy), false);
    let message = sasl_with(1, "PLAIN", Some(b"\0ann\0secret"));
    assert_eq!(answer_to_bind(clear.receive(message)), ResultCode::CONFIDENTIALITY_REQUIRED);
    assert_eq!(answer_to_bind(clear.receive(sasl(1, "EXTERNAL"))), ResultCode::AUTH_METHOD_NOT_SUPPORTED);
}

#[test]
fn before_its_certificate_a_client_is_answered_to_starttls_alone() {
    // FL-22
    let policy = Policy { tls_first: true, start_tls: true, anonymous: Anonymous::Forward, ..Policy::default() };
    let mut clear = ClientConnection::new(Arc::new(policy), false);
    assert_eq!(answer_to_bind(clear.receive(bind(1, USER, "secret"))), ResultCode::CONFIDENTIALITY_REQUIRED);
    assert_eq!(answer_to_bind(clear.receive(bind(1, "", ""))), ResultCode::CONFIDENTIALITY_REQUIRED);
    assert_eq!(answer_code(clear.receive(root_dse_search(2, &["*"]))), ResultCode::CONFIDENTIALITY_REQUIRED);
    let start_tls = parse(&ExtendedRequest::start_tls().encode(id(3), &[]));
    assert!(matches!(clear.receive(start_tls), Action::StartTls(_)));
    assert!(clear.begin_tls(&[]).is_ok());
    assert!(matches!(clear.receive(root_dse_search(4, &["*"])), Action::RootDse { .. }));
}

#[test]
fn external_asks_for_nobody_else_than_the_certificate_names() {
    // L-36
    let mut external = connection(|policy| policy.sasl_external = true);
    for credentials in [None, Some(&b""[..])] {
        let Action::Bind(bind) = external.receive(sasl_with(1, "EXTERNAL", credentials)) else { panic!("a good bind") };
        assert!(external.bind_refused(bind, &LdapResult::of(ResultCode::INVALID_CREDENTIALS), &[]).is_some());
    }
    let message = sasl_with(1, "EXTERNAL", Some(b"dn:uid=ann,dc=x"));
    assert_eq!(answer_to_bind(external.receive(message)), ResultCode::INVALID_CREDENTIALS);
    assert_eq!(answer_to_bind(external.receive(sasl(1, "PLAIN"))), ResultCode::AUTH_METHOD_NOT_SUPPORTED);
}

#[test]
fn a_bind_name_that_means_to_be_a_dn_and_is_none_is_answered_with_34() {
    // B5, B-48, B-57. Names of other forms go on to be looked up.
    let mut connection = connection(|_| {});
    let long = format!("cn={}", "a".repeat(255_000));
    for name in ["cn=a,", "cn=a\0b", "cn=\"a\"", "cn=a,,dc=b", &long, &" ".repeat(255_900)] {
        let message = bind(1, name, "secret");
        assert_eq!(answer_to_bind(connection.receive(message)), ResultCode::INVALID_DN_SYNTAX, "{:.20}", name);
    }
    for name in
        ["alice@example.org", "CORP\\alice", "CORP/alice", "alice", "<GUID=00112233>", "host/alice", &dn_of(1_000)]
    {
        let mut connection = self::connection(|_| {});
        assert!(matches!(connection.receive(bind(1, name, "secret")), Action::Bind(_)), "{name:.20}");
    }
}

#[test]
fn a_wrong_bind_takes_away_what_an_earlier_one_gave() {
    // L-32, B-51: service bind allowed, user bind refused in any way, then a search is anonymous.
    type Refusal = fn(&mut ClientConnection);
    let refusals: [Refusal; 4] = [
        |connection| {
            let gated = gated(connection, 2);
            let refused = connection.bind_refused(gated, &Style::Plain.invalid_credentials(), &[]);
            assert_eq!(result(&refused.expect("still there")).code, ResultCode::INVALID_CREDENTIALS);
        },
        |connection| {
            let pending = pending(connection, 2);
            let refused = connection.bind_refused(pending, &Style::Plain.invalid_credentials(), &[]);
            assert!(refused.is_some());
        },
        |connection| {
            assert_eq!(answer_to_bind(connection.receive(bind(2, USER, ""))), ResultCode::UNWILLING_TO_PERFORM)
        },
        |connection| assert_eq!(answer_to_bind(connection.receive(bind(2, "", ""))), ResultCode::SUCCESS),
    ];
    for refuse in refusals {
        let mut connection = connection(|_| {});
        let service = gated(&mut connection, 1);
        connection.bind_allowed(service, BoundAs::Service).expect("still there");
        assert_eq!(connection.limits(), Limits::AUTHENTICATED);
        refuse(&mut connection);
        assert_eq!((connection.state(), connection.limits()), (State::Anonymous, Limits::UNAUTHENTICATED));
        assert_eq!(answer_code(connection.receive(search(3))), ResultCode::INSUFFICIENT_ACCESS_RIGHTS);
    }
}

#[test]
fn nothing_is_forwarded_while_a_bind_is_pending() {
    // L-12, L-31, B-50: for each operation, in both halves of the wait.
    for second in [false, true] {
        let mut connection = connection(|policy| policy.anonymous = Anonymous::Forward);
        let mut ticket = None;
        if second {
            ticket = Some(gated(&mut connection, 1));
        } else {
            let _ = pending(&mut connection, 1);
        }
        let refused = [
            bind(2, USER, "secret"),
            search(3),
            root_dse_search(4, &[]),
            delete(5),
            modify(6, "cn"),
            extended(7, ExtendedRequest::start_tls()),
            extended(8, ExtendedRequest::who_am_i()),
            extended(9, ExtendedRequest::cancel(id(77))),
            search(1),
        ];
        for message in refused {
            let (op, request) = (message.op(), message.id());
            let Action::Answer(octets) = connection.receive(message) else { panic!("{op:?} is answered") };
            let response = parse(&octets);
            assert_eq!((response.id(), Some(response.op())), (request, op.response()));
            assert_eq!(result(&octets).diagnostic, "bind in progress");
            assert_eq!(result(&octets).code, ResultCode::PROTOCOL_ERROR);
        }
        let abandon = parse(&extended::abandon_request(id(10), id(1)));
        assert!(matches!(connection.receive(abandon), Action::Ignore));
        let cancel = extended(11, ExtendedRequest::cancel(id(1)));
        assert_eq!(answer_code(connection.receive(cancel)), ResultCode::CANNOT_CANCEL);
        if let Some(ticket) = ticket {
            assert!(connection.bind_allowed(ticket, BoundAs::User).is_some(), "the pending bind goes on");
        }
    }
}

#[test]
fn an_allow_for_a_client_that_has_gone_has_no_effect() {
    // L-13: by Unbind and by a lost connection.
    for unbind in [true, false] {
        let mut connection = connection(|_| {});
        let ticket = gated(&mut connection, 1);
        if unbind {
            let unbind = parse(&ldap_wire::bind::unbind_request(id(2)));
            assert!(matches!(connection.receive(unbind), Action::Close { notice: None }));
        } else {
            connection.closed();
        }
        assert!(connection.bind_allowed(ticket, BoundAs::User).is_none());
        assert_eq!(connection.state(), State::Closed);
        assert!(matches!(connection.receive(search(3)), Action::Ignore));
    }
}

#[test]
fn the_ticket_of_another_bind_opens_nothing() {
    // L-33: neither one of an earlier bind, nor one of another connection.
    let mut connection = connection(|_| {});
    let earlier = gated(&mut connection, 1);
    let denied =
        connection.bind_refused(gated(&mut self::connection(|_| {}), 1), &Style::Plain.invalid_credentials(), &[]);
    assert!(denied.is_none(), "a ticket of another connection refuses nothing either");
    let unbound = response(1, Op::BindResponse, ResultCode::INVALID_CREDENTIALS);
    let ticket: Ticket = earlier.into();
    assert_eq!(connection.bind_refused(ticket, &result(unbound.octets()), &[]), Some(unbound.octets().clone()));

    let stale = gated(&mut connection, 2);
    let mut other = self::connection(|_| {});
    let _theirs = pending(&mut other, 2);
    assert!(other.bind_allowed(stale, BoundAs::User).is_none());
    assert_eq!(other.state(), State::PrimaryPending(id(2)));
}

#[test]
fn only_a_plain_success_of_the_directory_opens_the_gate() {
    // L-33, B-60.
    let with = |code, referral: Option<Vec<Bytes>>| {
        let mut response = success();
        (response.result.code, response.result.referral) = (ResultCode(code), referral);
        response
    };
    let refusals = [
        with(0, Some(vec![Bytes::from_static(b"ldap://dc2/")])),
        with(0, Some(Vec::new())),
        with(10, None),
        with(14, None),
        with(49, None),
        with(4096, None),
    ];
    for response in refusals {
        let mut connection = connection(|_| {});
        let ticket = pending(&mut connection, 1);
        let Primary::Refused { bind, response, .. } = connection.primary_finished(ticket, response, Vec::new()) else {
            panic!("that is no success")
        };
        let sent = connection.bind_refused(bind, &response.result, &[]).expect("still there");
        let sent = result(&sent);
        assert!(!sent.is_success() && sent.referral.is_none());
        assert_ne!(sent.code, ResultCode::SUCCESS);
        assert_eq!(connection.state(), State::Anonymous);
    }
}

#[test]
fn a_success_returns_what_the_directory_said_with_its_controls_and_without_credentials() {
    // L-33, L-15.
    let mut connection = connection(|_| {});
    let ticket = pending(&mut connection, 7);
    let mut primary = success();
    primary.result.diagnostic = Bytes::from_static(b"hello");
    primary.server_sasl_credentials = Some(Bytes::from_static(b"x"));
    let policy = Control::new(oid::PASSWORD_POLICY, false, Some(Bytes::from_static(&[0x30, 0x00])));
    let Primary::Accepted(gated) = connection.primary_finished(ticket, primary, vec![policy.clone()]) else { panic!() };
    let sent = parse(&connection.bind_allowed(gated, BoundAs::User).expect("still there"));
    let response = BindResponse::decode(&sent).expect("own encoding");
    assert_eq!((sent.id(), sent.controls()), (id(7), Ok(vec![policy])));
    assert_eq!((&response.result.diagnostic[..], response.server_sasl_credentials), (&b"hello"[..], None));
}

#[test]
fn a_bind_goes_to_the_directory_with_what_no_directory_refuses() {
    // L-15, L-41: the controls of draft-behera-ldap-password-policy section 6.1 and RFC 3829 section 3, as they are written there.
    const TRACKING: &str = "1.3.6.1.4.1.21008.108.63.1";
    let (policy, identity) = (oid::PASSWORD_POLICY, oid::AUTHORIZATION_IDENTITY);
    let some = |oid: &str, critical| Control::new(oid, critical, None);
    let junk = |oid: &str, critical| Control::new(oid, critical, Some(Bytes::from_static(b"junk")));
    let rows: [(&[Control], &[&'static str], &[&'static str]); 8] = [
        (&[], &[], &[]),
        (&[some(policy, false)], &[policy], &[]),
        (&[some(policy, true)], &[policy], &[policy]),
        (&[some(identity, true), junk(policy, false)], &[policy, identity], &[identity]),
        (&[junk(policy, true)], &[policy], &[policy]),
        (&[some(policy, false), some(policy, true), some(policy, false)], &[policy], &[policy]),
        (&[some(TRACKING, false), junk(TRACKING, false)], &[], &[]),
        (&[junk(oid::PAGED_RESULTS, false), some(identity, false)], &[identity], &[]),
    ];
    for (asked, forwarded, insists_on) in rows {
        let mut connection = connection(|_| {});
        let Action::Bind(bind) = connection.receive(bind_with(1, USER, "secret", asked)) else { panic!("{asked:?}") };
        let forwarded: Vec<Control> = forwarded.iter().map(|oid| some(oid, false)).collect();
        assert_eq!((bind.controls, &bind.insists_on[..]), (forwarded, insists_on), "{asked:?}");
    }
}

#[test]
fn start_tls_is_answered_as_the_rfc_says_in_each_state() {
    // L-08, B-54.
    let start = |message_id| extended(message_id, ExtendedRequest::start_tls());
    let plain = |policy| ClientConnection::new(Arc::new(policy), false);
    let able = Policy { start_tls: true, ..Policy::default() };

    let mut connection = plain(able.clone());
    let Action::StartTls(octets) = connection.receive(start(1)) else { panic!("StartTLS is possible") };
    let response = ExtendedResponse::decode(&parse(&octets)).expect("own encoding");
    assert!(response.result.is_success() && response.oid.as_deref() == Some(oid::START_TLS));
    assert_eq!(connection.begin_tls(&[]), Ok(()));
    assert!(connection.is_tls() && connection.state() == State::Anonymous);
    assert_eq!(answer_code(connection.receive(start(2))), ResultCode::OPERATIONS_ERROR, "TLS is on already");

    let mut busy = plain(able.clone());
    assert!(matches!(busy.receive(root_dse_search(1, &[])), Action::RootDse { .. }));
    assert_eq!(answer_code(busy.receive(start(2))), ResultCode::OPERATIONS_ERROR, "an operation is outstanding");

    let valued = ExtendedRequest::new(oid::START_TLS, Some(Bytes::new()));
    assert_eq!(answer_code(plain(able).receive(extended(1, valued))), ResultCode::PROTOCOL_ERROR);
    assert_eq!(answer_code(plain(Policy::default()).receive(start(1))), ResultCode::PROTOCOL_ERROR, "no certificate");
}

#[test]
fn octets_glued_behind_start_tls_end_the_connection() {
    // L-08, B-53: as raw octets and as a whole message.
    let able = Policy { start_tls: true, ..Policy::default() };
    let mut connection = ClientConnection::new(Arc::new(able.clone()), false);
    assert!(matches!(connection.receive(extended(1, ExtendedRequest::start_tls())), Action::StartTls(_)));
    assert!(connection.begin_tls(b"0").is_err());
    assert_eq!((connection.state(), connection.is_tls()), (State::Closed, false));
    let mut connection = ClientConnection::new(Arc::new(able), false);
    assert!(matches!(connection.receive(extended(1, ExtendedRequest::start_tls())), Action::StartTls(_)));
    assert!(matches!(connection.receive(bind(2, USER, "secret")), Action::Close { notice: None }));
}

#[test]
fn a_65th_operation_is_busy_and_a_bind_clears_what_is_outstanding() {
    // L-05, L-11, B-52.
    let mut connection = bound(|_| {});
    for message_id in 2..=65 {
        assert!(matches!(connection.receive(search(message_id)), Action::Forward(_)));
    }
    for message_id in 66..=1_065 {
        assert_eq!(answer_code(connection.receive(search(message_id))), ResultCode::BUSY);
    }
    assert_eq!(connection.outstanding(), 64);
    let _ticket = pending(&mut connection, 2_000);
    assert_eq!(connection.outstanding(), 0);
    let late = response(2, Op::SearchResultDone, ResultCode::SUCCESS);
    assert_eq!(connection.receive_upstream(&late), FromUpstream::Violation, "the old upstream connection is dropped");
}

#[test]
fn an_id_in_use_is_refused_until_the_upstream_is_done() {
    // B-45, L-06: while pending, and after an Abandon until the last answer, which is not relayed.
    let mut connection = bound(|_| {});
    assert!(matches!(connection.receive(search(5)), Action::Forward(_)));
    assert_eq!(answer_code(connection.receive(search(5))), ResultCode::PROTOCOL_ERROR);
    let abandon = parse(&extended::abandon_request(id(6), id(5)));
    assert!(matches!(connection.receive(abandon), Action::Forward(cleared) if cleared.op() == Op::AbandonRequest));
    assert_eq!(answer_code(connection.receive(search(5))), ResultCode::PROTOCOL_ERROR);
    assert_eq!(connection.receive_upstream(&entry(5, &[])), FromUpstream::Drop);
    assert_eq!(
        connection.receive_upstream(&response(5, Op::SearchResultDone, ResultCode::SUCCESS)),
        FromUpstream::Drop
    );
    assert!(matches!(connection.receive(search(5)), Action::Forward(_)));
}

#[test]
fn what_was_abandoned_is_forgotten_after_longer_than_a_directory_works_on_anything() {
    // L-06: a directory that says nothing about what was abandoned, as RFC 4511 section 4.11 wants it
    let mut connection = bound(|_| {});
    let abandon = |connection: &mut ClientConnection, target: u32| {
        assert!(matches!(connection.receive(search(target)), Action::Forward(_)));
        let abandon = parse(&extended::abandon_request(id(9_999), id(target)));
        matches!(connection.receive(abandon), Action::Forward(_))
    };
    assert!(!connection.forget_abandoned());
    assert!((1..=1024).all(|target| abandon(&mut connection, target)));
    assert!(connection.forget_abandoned(), "the first time nobody knows how long ago it was");
    assert_eq!(answer_code(connection.receive(search(1))), ResultCode::PROTOCOL_ERROR);
    // One of them is answered after all, and another one comes.
    let done = |id: u32| response(id, Op::SearchResultDone, ResultCode::SUCCESS);
    assert_eq!(connection.receive_upstream(&done(7)), FromUpstream::Drop);
    assert!(abandon(&mut connection, 2_000));
    assert!(connection.forget_abandoned());
    assert_eq!(answer_code(connection.receive(search(2_000))), ResultCode::PROTOCOL_ERROR, "it is younger");
    assert!((1..=1023).all(|target| abandon(&mut connection, target)));
    assert!(connection.forget_abandoned());
    assert!(matches!(connection.receive(search(2_000)), Action::Forward(_)));
    assert!(!connection.forget_abandoned());
    assert_eq!(connection.receive_upstream(&done(3)), FromUpstream::Violation, "too late for anybody");
}

#[test]
fn a_flood_of_abandons_is_ignored_and_remembers_nothing() {
    // B-55: unknown id, own id, the id of the bind before.
    let mut connection = bound(|_| {});
    for target in 0..10_000 {
        let abandon = parse(&extended::abandon_request(id(9), id(target)));
        assert!(matches!(connection.receive(abandon), Action::Ignore));
    }
    let mut forwarded = 0;
    for message_id in 100..10_100 {
        let searched = connection.receive(search(message_id));
        let abandon = parse(&extended::abandon_request(id(9), id(message_id)));
        match connection.receive(abandon) {
            Action::Forward(_) => forwarded += 1,
            Action::Ignore => assert!(matches!(searched, Action::Forward(_) | Action::Answer(_))),
            _ => panic!("an abandon has no answer"),
        }
    }
    // What is remembered no longer could be taken for another's: beyond the bound an operation goes on to its end.
    assert_eq!((forwarded, connection.outstanding()), (1024, 64));
    let late = response(100, Op::SearchResultDone, ResultCode::SUCCESS);
    assert_eq!(connection.receive_upstream(&late), FromUpstream::Drop);
    assert_eq!(connection.outstanding(), 64);
}

#[test]
fn what_changes_a_password_is_not_abandoned() {
    // V-52: what became of it has to be heard
    let mut connection = bound(|_| {});
    assert!(matches!(connection.receive(modify(5, "userPassword")), Action::Forward(_)));
    let abandon = parse(&extended::abandon_request(id(6), id(5)));
    assert!(matches!(connection.receive(abandon), Action::Ignore));
    let done = response(5, Op::ModifyResponse, ResultCode::SUCCESS);
    assert!(matches!(connection.receive_upstream(&done), FromUpstream::End { .. }));
}

#[test]
fn what_was_abandoned_before_it_was_sent_frees_its_id() {
    let mut connection = bound(|_| {});
    assert!(matches!(connection.receive(search(5)), Action::Forward(_)));
    let abandon = parse(&extended::abandon_request(id(6), id(5)));
    assert!(matches!(connection.receive(abandon), Action::Forward(cleared) if cleared.abandons() == Some(id(5))));
    connection.never_sent(id(5));
    assert!(matches!(connection.receive(search(5)), Action::Forward(_)));
}

#[test]
fn a_search_asks_for_one_more_than_the_client_may_and_otherwise_as_it_came() {
    // L-18: what is left of 3 and 4 is about what the client has asked for, and about limits of the directory
    let asked = |size_limit, time_limit_seconds| {
        let search = SearchRequest::new("dc=corp", Scope::Subtree, &Filter::present("uid"), &["cn"]);
        SearchRequest { size_limit, time_limit_seconds, ..search }
    };
    for (asks, sent) in
        [((0, 0), (101, 11)), ((50, 5), (50, 5)), ((100, 10), (100, 10)), ((500, 5), (101, 5)), ((50, 0), (50, 11))]
    {
        let mut connection = bound(|policy| (policy.size_limit, policy.time_limit_seconds) = (100, 10));
        let controls = [Control::new("1.2.3", false, None)];
        let message = parse(&asked(asks.0, asks.1).encode(id(5), &controls));
        let Action::Forward(cleared) = connection.receive(message) else { panic!("bound") };
        let expected = asked(sent.0, sent.1).encode(id(5), &controls);
        assert_eq!(cleared.into_octets(), expected, "{asks:?}");
    }
}

#[test]
fn a_limit_of_ours_ends_a_search_with_11_whatever_the_directory_still_says() {
    // L-18: entries, then seconds
    let mut connection = bound(|policy| (policy.size_limit, policy.time_limit_seconds) = (2, 10));
    let done = |message_id, code| response(message_id, Op::SearchResultDone, code);
    let forward = |connection: &mut ClientConnection, message_id: u32| {
        assert!(matches!(connection.receive(search(message_id)), Action::Forward(_)));
    };
    forward(&mut connection, 5);
    for _ in 0..2 {
        assert!(matches!(connection.receive_upstream(&entry(5, &[])), FromUpstream::Relay(_)));
    }
    let ended = |limited: Limited, message_id| {
        let (answer, abandon) = (parse(&limited.answer), limited.abandon.expect("there is room"));
        assert_eq!((answer.id(), result(&limited.answer).code), (id(message_id), ResultCode(11)));
        assert_eq!((abandon.op(), abandon.abandons()), (Op::AbandonRequest, Some(id(message_id))));
        let own = abandon.id();
        assert_eq!(abandon.into_octets(), extended::abandon_request(own, id(message_id)));
        own
    };
    let FromUpstream::Limited(limited) = connection.receive_upstream(&entry(5, &[])) else { panic!("a third") };
    assert_eq!(ended(limited, 5), MessageId::MAX);
    // Its place is free; the id is not until the directory is done, and nothing of it goes out.
    assert_eq!(answer_code(connection.receive(search(5))), ResultCode::PROTOCOL_ERROR);
    assert_eq!((connection.outstanding(), connection.receive_upstream(&entry(5, &[]))), (0, FromUpstream::Drop));
    assert_eq!(connection.receive_upstream(&done(5, ResultCode(4))), FromUpstream::Drop);
    forward(&mut connection, 5);
    assert!(matches!(connection.receive_upstream(&done(5, ResultCode(0))), FromUpstream::End { .. }));
    // Exactly as many as may be is no limit reached; what the directory says of its own is its word.
    for code in [ResultCode::SUCCESS, ResultCode(3), ResultCode(4)] {
        forward(&mut connection, 6);
        for _ in 0..2 {
            assert!(matches!(connection.receive_upstream(&entry(6, &[])), FromUpstream::Relay(_)));
        }
        let ended = connection.receive_upstream(&done(6, code));
        assert!(matches!(ended, FromUpstream::End { code: said, .. } if said == code), "{ended:?}");
    }

    #[allow(clippy::disallowed_methods, reason = "a moment to count from")]
    let now = std::time::Instant::now();
    let seconds = |seconds| now + std::time::Duration::from_secs(seconds);
    forward(&mut connection, 7);
    connection.began(id(7), now);
    forward(&mut connection, 8);
    connection.began(id(8), seconds(3));
    assert_eq!(connection.next_end(), Some(seconds(10)));
    assert!(connection.end_overdue(seconds(9)).is_empty());
    forward(&mut connection, MessageId::MAX.get());
    let mut overdue = connection.end_overdue(seconds(11));
    let (own, left) = (ended(overdue.remove(0), 7), overdue.len());
    assert_eq!((own, left, connection.outstanding()), (id(MessageId::MAX.get() - 1), 0, 2), "an id of nobody else");
    assert_eq!((connection.next_end(), connection.end_overdue(seconds(12)).len()), (Some(seconds(13)), 0));
    let lost = connection.upstream_lost();
    assert_eq!(lost.answers.len(), 2, "the first one has its answer");
}

#[test]
fn what_a_limit_ended_takes_a_place_only_where_no_more_ids_are_remembered() {
    // L-18, L-06: the directory says nothing about any of them
    let mut connection = bound(|policy| policy.size_limit = 1);
    for message_id in 1..=1024 {
        assert!(matches!(connection.receive(search(message_id)), Action::Forward(_)));
        assert!(matches!(connection.receive_upstream(&entry(message_id, &[])), FromUpstream::Relay(_)));
        let limited = connection.receive_upstream(&entry(message_id, &[]));
        assert!(matches!(limited, FromUpstream::Limited(Limited { abandon: Some(_), .. })), "{message_id}");
    }
    assert_eq!(connection.outstanding(), 0);
    assert!(matches!(connection.receive(search(1025)), Action::Forward(_)));
    assert!(matches!(connection.receive_upstream(&entry(1025, &[])), FromUpstream::Relay(_)));
    let limited = connection.receive_upstream(&entry(1025, &[]));
    assert!(matches!(limited, FromUpstream::Limited(Limited { abandon: None, .. })));
    assert_eq!((connection.outstanding(), connection.receive_upstream(&entry(1025, &[]))), (1, FromUpstream::Drop));
    let done = response(1025, Op::SearchResultDone, ResultCode(4));
    assert_eq!((connection.receive_upstream(&done), connection.outstanding()), (FromUpstream::Drop, 0));
}

#[test]
fn a_cancel_passes_for_what_is_outstanding_only() {
    // L-14, RFC 3909.
    let mut connection = bound(|_| {});
    assert!(matches!(connection.receive(search(5)), Action::Forward(_)));
    let unknown = extended(6, ExtendedRequest::cancel(id(99)));
    assert_eq!(answer_code(connection.receive(unknown)), ResultCode::NO_SUCH_OPERATION);
    let known = extended(7, ExtendedRequest::cancel(id(5)));
    assert!(matches!(connection.receive(known), Action::Forward(_)));
    let broken = ExtendedRequest::new(oid::CANCEL, Some(Bytes::from_static(b"\x30\x03\x04\x01x")));
    assert_eq!(answer_code(connection.receive(extended(8, broken))), ResultCode::PROTOCOL_ERROR);
}

#[test]
fn extended_operations_pass_by_list_and_some_never() {
    // L-14: fast bind authenticates beside our state machine, even where somebody lists it.
    let mut connection = bound(|policy| policy.extended_operations.push(oid::FAST_BIND.to_owned()));
    assert!(matches!(connection.receive(extended(2, ExtendedRequest::who_am_i())), Action::Forward(_)));
    for refused in [oid::FAST_BIND, oid::BATCH_REQUEST, "1.3.6.1.1.19", "1.2.3"] {
        let message = extended(3, ExtendedRequest::new(refused, None));
        assert_eq!(answer_code(connection.receive(message)), ResultCode::PROTOCOL_ERROR, "{refused}");
    }
}

#[test]
fn a_password_changes_only_over_tls_on_both_legs_and_is_marked() {
    // L-14: by extended operation and by modify, in each spelling.
    let changes = || {
        [
            extended(2, ExtendedRequest::new(oid::PASSWORD_MODIFY, None)),
            modify(3, "userPassword"),
            modify(4, "unicodepwd"),
            modify(5, "2.5.4.35;x-option"),
        ]
    };
    let mut confidential = bound(|_| {});
    for change in changes() {
        assert!(matches!(confidential.receive(change), Action::Forward(cleared) if cleared.changes_password()));
    }
    assert!(matches!(confidential.receive(modify(6, "mail")), Action::Forward(cleared) if !cleared.changes_password()));
    // A new entry with a password changes nobody's, and is as secret.
    let new = |message_id, attribute| parse(&add(message_id, attribute));
    assert!(
        matches!(confidential.receive(new(7, "userPassword")), Action::Forward(cleared) if !cleared.changes_password())
    );
    let mut upstream_plain = bound(|policy| policy.upstream_tls = false);
    for change in changes() {
        assert_eq!(answer_code(upstream_plain.receive(change)), ResultCode::CONFIDENTIALITY_REQUIRED);
    }
    assert_eq!(answer_code(upstream_plain.receive(new(8, "unicodePwd"))), ResultCode::CONFIDENTIALITY_REQUIRED);
    assert!(matches!(upstream_plain.receive(new(9, "mail")), Action::Forward(_)));
}

#[test]
fn a_change_inside_another_change_is_refused_before_a_server_may_find_it() {
    // L-14, V-52: what reads on behind a value would change a password that nobody looked at
    let change =
        |w: &mut Writer, attribute: &str, behind_values: &dyn Fn(&mut Writer), behind: &dyn Fn(&mut Writer)| {
            w.nested(ber::SEQUENCE, |w| {
                w.integer(ber::ENUMERATED, 2);
                w.nested(ber::SEQUENCE, |w| {
                    w.octet_string(attribute.as_bytes());
                    w.nested(ber::SET, |w| w.octet_string(b"value"));
                    behind_values(w);
                });
                behind(w);
            });
        };
    let nothing = |_: &mut Writer| {};
    let hidden = |w: &mut Writer| change(w, "userPassword", &nothing, &nothing);
    for (what, behind_values, behind) in [
        ("plain", &nothing as &dyn Fn(&mut Writer), &nothing as &dyn Fn(&mut Writer)),
        ("behind the values", &hidden, &nothing),
        ("behind the attribute", &nothing, &hidden),
    ] {
        let mut writer = Writer::new();
        writer.octet_string(USER.as_bytes());
        writer.nested(ber::SEQUENCE, |w| change(w, "description", behind_values, behind));
        let forwarded = bound(|_| {}).receive(message(2, &[0x66], &writer.into_vec()));
        assert_eq!(matches!(forwarded, Action::Forward(_)), what == "plain", "{what}");
    }
}

/// An Add of one attribute.
fn add(message_id: u32, attribute: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.nested(ber::SEQUENCE, |w| {
        w.integer(ber::INTEGER, message_id.into());
        w.nested(Op::AddRequest.tag(), |w| {
            w.octet_string(b"cn=new,dc=corp");
            w.nested(ber::SEQUENCE, |w| {
                w.nested(ber::SEQUENCE, |w| {
                    w.octet_string(attribute.as_bytes());
                    w.nested(0x31, |w| w.octet_string(b"value"));
                });
            });
        });
    });
    writer.into_vec()
}

#[test]
fn proxied_authorization_is_refused_and_other_controls_pass_unread() {
    // L-15, B-56, RFC 4370 section 3.
    let mut connection = bound(|_| {});
    let with = |message_id, control| search_with(message_id, &[control]);
    let proxied = |critical| Control::new(oid::PROXIED_AUTHORIZATION, critical, Some(Bytes::from_static(b"u:root")));
    assert_eq!(answer_code(connection.receive(with(2, proxied(true)))), ResultCode::UNAVAILABLE_CRITICAL_EXTENSION);
    assert_eq!(answer_code(connection.receive(with(3, proxied(false)))), ResultCode::PROTOCOL_ERROR);
    assert_eq!(
        answer_to_bind(connection.receive(bind_with(4, USER, "secret", &[proxied(true)]))),
        ResultCode::UNAVAILABLE_CRITICAL_EXTENSION
    );
    // Nobody is asked about the controls of whoever wants to be nobody.
    for (critical, code) in [(true, ResultCode::UNAVAILABLE_CRITICAL_EXTENSION), (false, ResultCode::SUCCESS)] {
        let junk = Control::new("1.2.3.4", critical, None);
        assert_eq!(answer_to_bind(connection.receive(bind_with(8, "", "", &[junk]))), code);
    }
    let mut connection = bound(|_| {});
    let junk = Control::new("1.2.3.4", true, Some(Bytes::from_static(b"\x30\x7f")));
    assert!(matches!(connection.receive(with(5, junk)), Action::Forward(_)));
    let many = search_with(6, &vec![Control::new("1.2.3", false, None); 10_000]);
    assert_eq!(answer_code(connection.receive(many)), ResultCode::PROTOCOL_ERROR);
}

#[test]
fn what_is_forwarded_is_the_octets_that_came() {
    // L-06.
    let mut connection = bound(|_| {});
    for message in [search(2), modify(3, "cn"), delete(4)] {
        let octets = message.octets().clone();
        let Action::Forward(cleared) = connection.receive(message) else { panic!("bound") };
        assert_eq!(cleared.into_octets(), octets);
    }
}

#[test]
fn a_client_limited_to_reading_or_binding_gets_53_for_the_rest() {
    // FL-10.
    let mut reading = bound(|policy| policy.operations = Operations::Read);
    assert!(matches!(reading.receive(search(2)), Action::Forward(_)));
    assert!(matches!(reading.receive(extended(3, ExtendedRequest::who_am_i())), Action::Forward(_)));
    assert_eq!(answer_code(reading.receive(modify(4, "cn"))), ResultCode::UNWILLING_TO_PERFORM);
    let mut binding = bound(|policy| policy.operations = Operations::Bind);
    assert_eq!(answer_code(binding.receive(search(2))), ResultCode::UNWILLING_TO_PERFORM);
    assert!(matches!(binding.receive(root_dse_search(3, &[])), Action::RootDse { .. }));
}

#[test]
fn the_upstream_gets_through_only_with_answers_to_what_was_asked() {
    // B-59.
    let mut connection = bound(|_| {});
    assert!(matches!(connection.receive(search(2)), Action::Forward(_)));
    assert!(matches!(connection.receive(delete(3)), Action::Forward(_)));
    let mut from_upstream = |message: &Message| connection.receive_upstream(message);
    let done = response(2, Op::SearchResultDone, ResultCode::SUCCESS);
    assert_eq!(from_upstream(&entry(9, &[])), FromUpstream::Violation, "an id nobody used");
    assert_eq!(from_upstream(&response(2, Op::BindResponse, ResultCode::SUCCESS)), FromUpstream::Violation);
    assert_eq!(from_upstream(&entry(3, &[])), FromUpstream::Violation, "an entry for a delete");
    let wrong_kind = response(3, Op::ExtendedResponse, ResultCode::SUCCESS);
    assert_eq!(from_upstream(&wrong_kind), FromUpstream::Violation, "a success of another kind");
    assert_eq!(from_upstream(&search(2)), FromUpstream::Violation, "a request from a server");
    assert_eq!(from_upstream(&entry(2, &[])), FromUpstream::Relay(entry(2, &[]).octets().clone()));
    let octets = done.octets().clone();
    assert_eq!(from_upstream(&done), FromUpstream::End { octets, code: ResultCode::SUCCESS });
    assert_eq!(from_upstream(&entry(2, &[])), FromUpstream::Violation, "an entry after the end");
    // Samba's way to refuse any request for its controls.
    let refused = response(3, Op::ExtendedResponse, ResultCode::UNAVAILABLE_CRITICAL_EXTENSION);
    let (octets, code) = (refused.octets().clone(), ResultCode::UNAVAILABLE_CRITICAL_EXTENSION);
    assert_eq!(from_upstream(&refused), FromUpstream::End { octets, code });
    assert_eq!(from_upstream(&refused), FromUpstream::Violation, "it was the end of the operation");
}

#[test]
fn a_lost_upstream_answers_what_is_outstanding_and_dismisses_a_bound_client() {
    // L-19.
    let mut connection = bound(|_| {});
    assert!(matches!(connection.receive(search(3)), Action::Forward(_)));
    assert!(matches!(connection.receive(delete(2)), Action::Forward(_)));
    let lost = connection.upstream_lost();
    let answers: Vec<_> = lost.answers.iter().map(|octets| (parse(octets).id(), parse(octets).op())).collect();
    assert_eq!(answers, [(id(2), Op::DelResponse), (id(3), Op::SearchResultDone)]);
    assert!(lost.answers.iter().all(|octets| result(octets).code == ResultCode::UNAVAILABLE));
    let notice = parse(&lost.notice.expect("bound"));
    let notice = ExtendedResponse::decode(&notice).expect("own encoding");
    assert_eq!(
        (notice.result.code, notice.oid.as_deref()),
        (ResultCode::UNAVAILABLE, Some(oid::NOTICE_OF_DISCONNECTION))
    );
    assert_eq!(connection.state(), State::Closed);

    let mut anonymous = self::connection(|_| {});
    assert!(matches!(anonymous.receive(root_dse_search(1, &[])), Action::RootDse { .. }));
    let lost = anonymous.upstream_lost();
    assert!(lost.answers.len() == 1 && lost.notice.is_none() && anonymous.state() == State::Anonymous);
}

#[test]
fn a_notice_of_disconnection_is_relayed_in_both_forms() {
    // L-19; Active Directory puts the name outside of the response.
    let mut connection = bound(|_| {});
    let outside = message_with_tail(0, &[0x78], &[0x0a, 0x01, 0x34, 0x04, 0x00, 0x04, 0x00], b"\x8a\x03\x31\x2e\x32");
    assert_eq!(connection.receive_upstream(&outside), FromUpstream::Disconnect(outside.octets().clone()));
    let error = ldap_wire::FrameError::MessageId.notice().expect("LDAP is spoken");
    assert!(matches!(connection.receive_upstream(&parse(&error)), FromUpstream::Disconnect(_)));
}

#[test]
fn references_to_real_servers_do_not_pass_by_default() {
    // L-17.
    let reference = || message(2, &[0x73], b"\x04\x14ldap://dc2/dc=x??sub");
    let referral = |op: u8| message(2, &[op], b"\x0a\x01\x0a\x04\x00\x04\x00\xa3\x0d\x04\x0bldap://dc2/");
    let searching = |referrals: Referrals| {
        let mut connection = bound(|policy| policy.referrals = referrals);
        assert!(matches!(connection.receive(search(2)), Action::Forward(_)));
        connection
    };
    let mut dropping = searching(Referrals::Drop);
    assert_eq!(dropping.receive_upstream(&reference()), FromUpstream::Drop);
    let FromUpstream::End { octets: sent, code } = dropping.receive_upstream(&referral(0x65)) else {
        panic!("the end is relayed")
    };
    assert_eq!((result(&sent).code, result(&sent).referral), (ResultCode::NO_SUCH_OBJECT, None));
    assert_eq!(code, ResultCode::NO_SUCH_OBJECT, "what the client hears is what is counted");

    let mut passing = searching(Referrals::Pass);
    assert_eq!(passing.receive_upstream(&reference()), FromUpstream::Relay(reference().octets().clone()));

    let mut rewriting = searching(Referrals::Rewrite("ldaps://login.example.org".to_owned()));
    let FromUpstream::Relay(sent) = rewriting.receive_upstream(&reference()) else {
        panic!("a rewritten one is relayed")
    };
    let urls = ldap_wire::search::search_result_reference(&parse(&sent)).expect("own encoding");
    assert_eq!(urls, ["ldaps://login.example.org/dc=x??sub"]);
    let FromUpstream::End { octets: sent, .. } = rewriting.receive_upstream(&referral(0x65)) else {
        panic!("the end is relayed")
    };
    assert_eq!(result(&sent).referral, Some(vec![Bytes::from_static(b"ldaps://login.example.org/")]));

    // RFC 4511 section 4.1.10: none with no URL that stands for us.
    let elsewhere = message(2, &[0x65], b"\x0a\x01\x0a\x04\x00\x04\x00\xa3\x0d\x04\x0bhttp://webx");
    let mut rewriting = searching(Referrals::Rewrite("ldaps://login.example.org".to_owned()));
    let FromUpstream::End { octets: sent, .. } = rewriting.receive_upstream(&elsewhere) else {
        panic!("the end is relayed")
    };
    assert_eq!((result(&sent).code, result(&sent).referral), (ResultCode::NO_SUCH_OBJECT, None));
}

#[test]
fn the_root_dse_offers_only_what_is_forwarded_and_names_no_other_server() {
    // L-16.
    let original = entry(
        2,
        &[
            ("namingContexts", &["dc=x"]),
            ("supportedSASLMechanisms", &["GSSAPI", "EXTERNAL"]),
            ("supportedExtension", &[oid::WHO_AM_I, oid::FAST_BIND, "1.3.6.1.1.19"]),
            ("supportedControl", &[oid::PAGED_RESULTS, oid::PROXIED_AUTHORIZATION]),
            ("supportedCapabilities", &["1.2.840.113556.1.4.800", oid::CAPABILITY_SIGNING]),
            ("dnsHostName", &["dc1.x"]),
            ("ldapServiceName", &["x:dc1$@X"]),
            ("serverName", &["CN=DC1"]),
            ("dsServiceName", &["CN=NTDS Settings,CN=DC1"]),
            ("netscapemdsuffix", &["cn=ldap://dc=dc1,dc=x:389"]),
            ("altServer", &["ldap://dc2/"]),
            ("netlogon", &["dc1.x"]),
        ],
    );
    let seen = |change: fn(&mut Policy), requested: &[&str], entry: &Message| {
        let mut connection = connection(change);
        assert!(matches!(connection.receive(root_dse_search(2, requested)), Action::RootDse { .. }));
        let FromUpstream::Relay(sent) = connection.receive_upstream(entry) else { panic!("relayed") };
        let entry = SearchResultEntry::decode(&parse(&sent)).expect("own encoding");
        let text = |a: &ldap_wire::Attribute| format!("{}: {:?}", a.description, a.values);
        entry.attributes.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(
        seen(|_| {}, &[], &original),
        [
            "namingContexts: [b\"dc=x\"]".to_owned(),
            format!("supportedExtension: [b{:?}, b{:?}]", oid::WHO_AM_I, oid::START_TLS),
            format!("supportedControl: [b{:?}]", oid::PAGED_RESULTS),
            "supportedCapabilities: [b\"1.2.840.113556.1.4.800\"]".to_owned(),
        ]
    );
    let kept = seen(|policy| policy.keep_server_names = true, &[], &original);
    assert!(
        kept.iter().any(|line| line.starts_with("dnsHostName"))
            && !kept.iter().any(|line| line.starts_with("alt") || line.starts_with("netlogon"))
    );
    let external = seen(|policy| policy.sasl_external = true, &[], &original);
    assert!(external.contains(&"supportedSASLMechanisms: [b\"EXTERNAL\"]".to_owned()));
    let both = |policy: &mut Policy| (policy.sasl_plain, policy.sasl_external) = (true, true);
    assert_eq!(
        seen(both, &["supportedsaslmechanisms"], &entry(2, &[])),
        ["supportedSASLMechanisms: [b\"PLAIN\", b\"EXTERNAL\"]"]
    );
    let mut clear = Policy::default();
    both(&mut clear);
    let mut clear = ClientConnection::new(Arc::new(clear), false);
    assert!(matches!(clear.receive(root_dse_search(2, &["+"])), Action::RootDse { .. }));
    let FromUpstream::Relay(sent) = clear.receive_upstream(&original) else { panic!("relayed") };
    let sent = SearchResultEntry::decode(&parse(&sent)).expect("own encoding");
    assert!(sent.values("supportedSASLMechanisms").is_empty(), "none of them without TLS");
    let asked = seen(|_| {}, &["supportedextension"], &entry(2, &[]));
    assert_eq!(asked, [format!("supportedExtension: [b{:?}]", oid::START_TLS)]);
}

#[test]
fn the_root_dse_is_no_other_for_whoever_asks_for_it_in_other_words() {
    // L-16: directories give back a description as it was asked for, by number or with options, and each as often as it was
    let original = entry(
        2,
        &[
            ("dnsHostName;range=0-*", &["dc1.x"]),
            ("1.2.840.113556.1.4.619", &["dc1.x"]),
            ("SERVERNAME;x-y", &["CN=DC1"]),
            ("1.3.6.1.4.1.1466.101.120.6", &["ldap://dc2/"]),
            ("supportedSASLMechanisms", &["GSSAPI"]),
            ("supportedSASLMechanisms;range=0-*", &["GSSAPI"]),
            ("1.3.6.1.4.1.1466.101.120.14", &["GSSAPI"]),
            ("supportedExtension;range=0-*", &[oid::FAST_BIND, oid::WHO_AM_I]),
            ("supportedControl", &[oid::PROXIED_AUTHORIZATION, oid::PAGED_RESULTS]),
            ("1.3.6.1.4.1.1466.101.120.13", &[oid::PROXIED_AUTHORIZATION]),
        ],
    );
    let mut connection = connection(|policy| policy.start_tls = true);
    assert!(matches!(connection.receive(root_dse_search(2, &["*", "+"])), Action::RootDse { .. }));
    let FromUpstream::Relay(sent) = connection.receive_upstream(&original) else { panic!("relayed") };
    let expected = entry(
        2,
        &[
            ("supportedExtension;range=0-*", &[oid::WHO_AM_I, oid::START_TLS]),
            ("supportedControl", &[oid::PAGED_RESULTS]),
        ],
    );
    assert_eq!(&sent, expected.octets());
}

#[test]
fn a_question_about_users_is_no_search_of_the_root_dse() {
    // L-16, L-41: as MS-ADTS section 6.3.3 has it, and whatever else a filter could find out
    let search = |filter: &Filter, attributes: &[&str]| SearchRequest::new("", Scope::Base, filter, attributes);
    let sent = |search: &SearchRequest, controls: &[Control]| {
        let mut connection = connection(|_| {});
        match connection.receive(parse(&search.encode(id(2), controls))) {
            Action::RootDse { cleared, .. } => Ok(cleared.into_octets()),
            answered => {
                assert_eq!(connection.outstanding(), 0);
                Err(answer_code(answered))
            }
        }
    };
    let class = Filter::present("objectClass");
    let ping = Filter::and([Filter::equal("DnsDomain", "corp.example"), Filter::equal("User", "ann")]);
    let any_attribute = Filter::Extensible {
        rule: Some("2.5.13.2".into()),
        attribute: None,
        value: b"dc1.x".to_vec(),
        dn_attributes: false,
    };
    for filter in [
        ping,
        Filter::equal("dnsHostName", "dc1.x"),
        Filter::and([class.clone(), Filter::present("serverName")]),
        Filter::not(Filter::present("netlogon")),
        any_attribute,
    ] {
        let search = search(&filter, &["netlogon"]);
        assert_eq!(sent(&search, &[]), Err(ResultCode::SUCCESS), "{filter}");
        let critical = [Control::new("1.2.3", true, None)];
        assert_eq!(sent(&search, &critical), Err(ResultCode::UNAVAILABLE_CRITICAL_EXTENSION), "{filter}");
    }
    // As it came, without the one attribute; alone it becomes none, not all.
    let classes = [class.clone(), Filter::equal("OBJECTCLASS", "top"), Filter::present("2.5.4.0"), Filter::and([])];
    for filter in classes {
        let plain = search(&filter, &["namingContexts"]);
        assert_eq!(sent(&plain, &[]), Ok(plain.encode(id(2), &[])), "{filter}");
    }
    for (attributes, left) in [
        (&["NetLogon"][..], &["1.1"][..]),
        (&["netlogon;x", "*"], &["*"]),
        (&["namingContexts", "netlogon"], &["namingContexts"]),
        (&[], &[]),
    ] {
        assert_eq!(
            sent(&search(&class, attributes), &[]),
            Ok(search(&class, left).encode(id(2), &[])),
            "{attributes:?}"
        );
    }
}

#[test]
fn malformed_operations_end_the_connection_and_excessive_ones_do_not() {
    // L-02, L-03, B-43, B-58.
    let mut connection = bound(|_| {});
    let deep = (0..100).fold(Filter::present("a"), |filter, _| Filter::not(filter));
    let request = SearchRequest::new("", Scope::Subtree, &deep, &[]);
    assert_eq!(answer_code(connection.receive(parse(&request.encode(id(2), &[])))), ResultCode::PROTOCOL_ERROR);
    // The `&` is a component too.
    for (leaves, forwarded) in [(4_095, true), (4_096, false)] {
        let wide = Filter::and(vec![Filter::present("a"); leaves]);
        let limit = (!forwarded).then_some(DecodeError::Limit(Limit::FilterNodes));
        assert_eq!(filter::check(&wide.to_ber()).err(), limit, "{leaves}");
        let request = SearchRequest::new("", Scope::Subtree, &wide, &[]);
        match connection.receive(parse(&request.encode(id(6), &[]))) {
            Action::Forward(_) => assert!(forwarded, "{leaves}"),
            refused => assert!(answer_code(refused) == ResultCode::PROTOCOL_ERROR && !forwarded, "{leaves}"),
        }
        connection.answered(id(6));
    }
    let wide = vec!["a"; 4_097];
    let request = SearchRequest::new("", Scope::Subtree, &Filter::present("a"), &wide);
    assert_eq!(answer_code(connection.receive(parse(&request.encode(id(3), &[])))), ResultCode::PROTOCOL_ERROR);
    let options = format!("a{}", ";x".repeat(10_000));
    let request = SearchRequest::new("", Scope::Subtree, &Filter::present("a"), &["1.1", "*", "+", &options]);
    assert!(matches!(connection.receive(parse(&request.encode(id(4), &[]))), Action::Forward(_)));
    let broken = message(5, &[0x63], &[0x04, 0x00, 0x0a]);
    let Action::Close { notice: Some(notice) } = connection.receive(broken) else { panic!("closed with a notice") };
    assert_eq!(result(&notice).code, ResultCode::PROTOCOL_ERROR);
    assert_eq!(parse(&notice).id(), MessageId::UNSOLICITED);
    assert_eq!(connection.state(), State::Closed);
}
