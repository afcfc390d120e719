//! What stands in a bind, a search, a change, an extended operation and in their answers: the first octet says which, the others are
//! its content (RFC 4511 sections 4.2 to 4.13).
//!
//! Properties: what was understood is the same when it is written again; what a connection is asked to check or to forward is what the
//! typed views understand; a password is never changed without being seen to be.
#![no_main]

use ldap_wire::ber::Writer;
use ldap_wire::connection::Action;
use ldap_wire::extended::{self, IntermediateResponse};
use ldap_wire::{
    Authentication, BindRequest, BindResponse, ClientConnection, ExtendedRequest, ExtendedResponse, LdapResult,
    Message, MessageId, Op, Policy, SearchRequest, SearchResultEntry, modify, oid, search, validate_request,
};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

const OPERATIONS: [Op; 12] = [
    Op::BindRequest,
    Op::SearchRequest,
    Op::ModifyRequest,
    Op::AddRequest,
    Op::ExtendedRequest,
    Op::AbandonRequest,
    Op::BindResponse,
    Op::SearchResultEntry,
    Op::SearchResultDone,
    Op::SearchResultReference,
    Op::ExtendedResponse,
    Op::IntermediateResponse,
];

fuzz_target!(|input: &[u8]| {
    let Some((&kind, content)) = input.split_first() else { return };
    let op = OPERATIONS[usize::from(kind) % OPERATIONS.len()];
    let mut writer = Writer::new();
    writer.nested(0x30, |w| {
        w.integer(0x02, 7);
        w.octets(op.tag(), content);
    });
    let message = Message::parse(writer.into_vec().into()).expect("the frame is sound");
    let sound = validate_request(&message).is_ok();
    match op {
        Op::BindRequest => bind(message, sound),
        Op::SearchRequest => {
            let Ok(request) = SearchRequest::decode(&message) else { return assert!(!sound) };
            assert_eq!(SearchRequest::decode(&parse(&request.encode(message.id(), &[]))), Ok(request));
        }
        Op::ModifyRequest => assert!(!sound || modify::changes_password(&message).is_ok()),
        Op::ExtendedRequest => extended_request(&message, sound),
        Op::AbandonRequest => {
            if let Ok(target) = extended::abandon_target(&message) {
                assert_eq!(
                    extended::abandon_target(&parse(&extended::abandon_request(message.id(), target))),
                    Ok(target)
                );
            }
        }
        Op::BindResponse => {
            let Ok(response) = BindResponse::decode(&message) else { return };
            assert_eq!(BindResponse::decode(&parse(&response.encode(message.id(), &[]))), Ok(response));
        }
        Op::SearchResultEntry => {
            let Ok(entry) = SearchResultEntry::decode(&message) else { return };
            assert_eq!(SearchResultEntry::decode(&parse(&entry.encode(message.id(), &[]))), Ok(entry));
        }
        Op::SearchResultDone => {
            let Ok(result) = LdapResult::decode(&message) else { return };
            assert_eq!(LdapResult::decode(&parse(&result.encode(message.id(), op, &[]))), Ok(result));
        }
        Op::SearchResultReference => drop(search::search_result_reference(&message)),
        Op::ExtendedResponse => {
            let Ok(response) = ExtendedResponse::decode(&message) else { return };
            assert_eq!(ExtendedResponse::decode(&parse(&response.encode(message.id(), &[]))), Ok(response));
        }
        Op::IntermediateResponse => drop(IntermediateResponse::decode(&message)),
        _ => {}
    }
});

/// Only a version 3 bind with a name and a password is ever checked, whatever its octets.
fn bind(message: Message, sound: bool) {
    if let Ok(request) = BindRequest::decode(&message) {
        let again = parse(&request.encode(message.id(), &[]));
        if !matches!(request.authentication, Authentication::Other { .. }) {
            let again = BindRequest::decode(&again).expect("own encoding");
            assert_eq!((again.version, &again.name), (request.version, &request.name));
            assert!(secret(&again.authentication) == secret(&request.authentication));
        }
    }
    let mut connection = ClientConnection::new(Arc::new(Policy::default()), true);
    match connection.receive(message) {
        Action::Bind(pending) => {
            assert!(sound && pending.request.version == BindRequest::VERSION && !pending.request.name.is_empty());
            assert!(matches!(&pending.request.authentication, Authentication::Simple(it) if !it.is_empty()));
        }
        Action::AnswerBind(_) | Action::Close { .. } => {}
        _ => panic!("a bind is answered, checked, or ends the connection"),
    }
}

fn secret(authentication: &Authentication) -> Option<&[u8]> {
    match authentication {
        Authentication::Simple(password) => Some(password.expose()),
        Authentication::Sasl { credentials, .. } => credentials.as_ref().map(|credentials| credentials.expose()),
        Authentication::Other { .. } => None,
    }
}

fn extended_request(message: &Message, sound: bool) {
    let Ok(request) = ExtendedRequest::decode(message) else { return assert!(!sound) };
    // Not printed: its value may be a password.
    let again = ExtendedRequest::decode(&parse(&request.encode(message.id(), &[])));
    assert!(again.is_ok_and(|again| again == request));
    // Under the name of each operation whose value is looked into.
    for name in [oid::CANCEL, oid::PASSWORD_MODIFY, oid::START_TLS] {
        let named = ExtendedRequest::new(name, request.value.clone());
        if let Ok(Some(target)) = named.cancel_target() {
            assert_eq!(ExtendedRequest::cancel(target).cancel_target(), Ok(Some(target)));
        }
        let _ = named.password_modify_user();
        let mut connection = ClientConnection::new(Arc::new(Policy::default()), true);
        let action = connection.receive(parse(&named.encode(MessageId::MAX, &[])));
        assert!(matches!(action, Action::Answer(_)), "nobody is bound");
    }
}

fn parse(octets: &[u8]) -> Message {
    Message::parse(octets.to_vec().into()).expect("own encoding")
}
