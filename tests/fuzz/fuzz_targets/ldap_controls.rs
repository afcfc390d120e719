//! The controls of a request and of an answer: the input is what stands in `[0]` of a message (RFC 4511 section 4.1.11).
//!
//! Properties: at most 32; what was understood is the same when it is written again; a listed control never passes, and what passes
//! goes out as it came.
#![no_main]

use ldap_wire::ber::{OCTET_STRING, Writer};
use ldap_wire::connection::{Action, BoundAs, FromUpstream, Primary};
use ldap_wire::control::CONTROLS_MAX;
use ldap_wire::{
    BindRequest, BindResponse, ClientConnection, Control, ExtendedRequest, LdapResult, Message, MessageId, Op,
    PagedResults, Password, Policy, ResultCode, oid, validate_request,
};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

fuzz_target!(|input: &[u8]| {
    let request = with_controls(2, Op::DelRequest, b"cn=x", input);
    let Ok(controls) = request.controls() else {
        assert!(validate_request(&request).is_err());
        return;
    };
    assert!(controls.len() <= CONTROLS_MAX);
    let _ = PagedResults::find(&controls);
    let again = Message::parse(ExtendedRequest::who_am_i().encode(id(2), &controls)).expect("own encoding");
    assert_eq!(again.controls().as_ref(), Ok(&controls));

    let mut connection = ClientConnection::new(Arc::new(Policy { upstream_tls: true, ..Policy::default() }), true);
    bound(&mut connection);
    let octets = request.octets().clone();
    match connection.receive(request) {
        Action::Forward(cleared) => {
            assert!(!controls.iter().any(is_listed));
            assert_eq!(cleared.into_octets(), octets);
        }
        Action::Answer(_) => assert!(controls.iter().any(is_listed)),
        // Broken BER inside of a constructed value that the controls do not show.
        Action::Close { .. } => return,
        _ => panic!("neither forwarded nor answered"),
    }
    let mut done = Writer::new();
    done.integer(0x0a, 0);
    done.octets(OCTET_STRING, &[]);
    done.octets(OCTET_STRING, &[]);
    // To a request that was refused nobody answers.
    if controls.iter().any(is_listed) {
        return;
    }
    let answer = with_controls(2, Op::DelResponse, &done.into_vec(), input);
    match connection.receive_upstream(&answer) {
        FromUpstream::End { octets, code } => {
            assert_eq!((&octets, code), (answer.octets(), ResultCode::SUCCESS));
        }
        _ => panic!("the end of what was asked for is one"),
    }
});

fn is_listed(control: &Control) -> bool {
    [oid::PROXIED_AUTHORIZATION, oid::PROXIED_AUTHORIZATION_V1, oid::SHUTDOWN_NOTIFY].contains(&control.oid.as_str())
}

fn bound(connection: &mut ClientConnection) {
    let bind = BindRequest::simple("cn=x", Password::new("secret")).encode(id(1), &[]).to_vec();
    let Action::Bind(pending) = connection.receive(Message::parse(bind.into()).expect("own encoding")) else {
        panic!("a bind is checked")
    };
    let primary = BindResponse { result: LdapResult::of(ResultCode::SUCCESS), server_sasl_credentials: None };
    let Primary::Accepted(gated) = connection.primary_finished(pending, primary, Vec::new()) else {
        panic!("a success is one")
    };
    assert!(connection.bind_allowed(gated, BoundAs::User).is_some());
}

fn with_controls(number: u32, op: Op, content: &[u8], controls: &[u8]) -> Message {
    let mut writer = Writer::new();
    writer.nested(0x30, |w| {
        w.integer(0x02, number.into());
        w.octets(op.tag(), content);
        w.octets(0xa0, controls);
    });
    Message::parse(writer.into_vec().into()).expect("the frame is sound")
}

fn id(number: u32) -> MessageId {
    MessageId::new(number).expect("an id")
}
