//! A stream of LDAP messages: the first octet says from whom, or that it is a whole conversation.
//!
//! Properties: chunks of any size give the messages that one piece gives; another message id leaves every other octet; what a
//! connection forwards is what came, but for the ping of Active Directory in the root DSE, and only after an Allow.
#![no_main]

use bytes::BytesMut;
use ldap_wire::connection::{BoundAs, Primary};
use ldap_wire::{
    Action, BindResponse, ClientConnection, ExtendedRequest, ExtendedResponse, Filter, FrameError, Framer, LdapResult,
    Limits, Message, MessageId, Op, PagedResults, Peer, Policy, ResultCode, SearchRequest, SearchResultEntry, extended,
    search, validate_request,
};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, input)) = input.split_first() else { return };
    match kind % 3 {
        0 => stream(Peer::Client, input),
        1 => stream(Peer::Server, input),
        _ => conversation(input),
    }
});

/// The octets after the first one are the stream; the first one says how large the chunks are.
fn stream(peer: Peer, input: &[u8]) {
    let Some((&chunk, stream)) = input.split_first() else { return };
    let (whole, end) = frames(peer, stream, usize::MAX);
    assert_eq!((whole.clone(), end), frames(peer, stream, usize::from(chunk).max(1)));
    for message in &whole {
        look_into(message);
        for id in [0, 1, 0x80, 0x7fff_ffff] {
            let id = MessageId::new(id).expect("at most 2^31-1");
            let spliced = Message::parse(message.with_id(id)).expect("a message under another id");
            assert_eq!((spliced.id(), spliced.op(), spliced.body()), (id, message.op(), message.body()));
            assert_eq!(spliced.controls(), message.controls());
        }
    }
}

fn frames(peer: Peer, stream: &[u8], chunk: usize) -> (Vec<Message>, Option<FrameError>) {
    let framer = Framer::new(peer, Limits::UNAUTHENTICATED);
    let (mut buffer, mut messages) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(chunk.min(stream.len()).max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match framer.next_message(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fn look_into(message: &Message) {
    let sound = validate_request(message).is_ok();
    let _ = (LdapResult::decode(message), extended::IntermediateResponse::decode(message));
    let _ = search::search_result_reference(message);
    if let Ok(controls) = message.controls() {
        let _ = PagedResults::find(&controls);
    }
    if let Ok(search) = SearchRequest::decode(message) {
        if let Ok(filter) = Filter::from_ber(&search.filter) {
            assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter));
        }
        let again = Message::parse(search.encode(message.id(), &[])).expect("own encoding");
        assert_eq!(SearchRequest::decode(&again), Ok(search));
    }
    if let Ok(entry) = SearchResultEntry::decode(message) {
        let again = Message::parse(entry.encode(message.id(), &[])).expect("own encoding");
        assert_eq!(SearchResultEntry::decode(&again), Ok(entry));
    }
    if let Ok(response) = BindResponse::decode(message) {
        let again = Message::parse(response.encode(message.id(), &[])).expect("own encoding");
        assert_eq!(BindResponse::decode(&again), Ok(response));
    }
    if let Ok(response) = ExtendedResponse::decode(message) {
        let again = Message::parse(response.encode(message.id(), &[])).expect("own encoding");
        assert_eq!(ExtendedResponse::decode(&again), Ok(response));
    }
    if let Ok(request) = ExtendedRequest::decode(message) {
        let _ = (request.cancel_target(), request.password_modify_user());
        let again = Message::parse(request.encode(message.id(), &[])).expect("own encoding");
        assert!(!sound || ExtendedRequest::decode(&again).is_ok_and(|again| again == request));
    }
}

/// A client that may bind with any password, and an upstream that answers with what the client sends.
fn conversation(input: &[u8]) {
    let policy = Policy { start_tls: true, upstream_tls: true, ..Policy::default() };
    let mut connection = ClientConnection::new(Arc::new(policy), true);
    let mut allowed = false;
    for message in frames(Peer::Client, input, usize::MAX).0 {
        let (octets, op) = (message.octets().to_vec(), message.op());
        match connection.receive(message.clone()) {
            Action::Bind(pending) => {
                let result = LdapResult::of(ResultCode::SUCCESS);
                let primary = BindResponse { result, server_sasl_credentials: None };
                let Primary::Accepted(gated) = connection.primary_finished(pending, primary, Vec::new()) else {
                    panic!("a success is one")
                };
                // Every second bind is refused, so that both ways are walked.
                allowed = !allowed;
                let sent = if allowed {
                    connection.bind_allowed(gated, BoundAs::User)
                } else {
                    connection.bind_refused(gated, &LdapResult::of(ResultCode::INVALID_CREDENTIALS), &[])
                };
                let sent = Message::parse(sent.expect("the client is there")).expect("own encoding");
                assert_eq!(LdapResult::decode(&sent).map(|result| result.is_success()), Ok(allowed));
            }
            Action::AnswerBind(_) => allowed = false,
            Action::Forward(cleared) => {
                assert!(allowed || op == Op::AbandonRequest);
                assert_eq!(cleared.into_octets(), octets);
            }
            Action::RootDse { cleared, .. } => {
                let sent = Message::parse(cleared.into_octets()).expect("own encoding");
                is_root_dse_without_ping(&message, &sent);
            }
            Action::Answer(answer) => assert!(Message::parse(answer).is_ok()),
            Action::Close { .. } | Action::StartTls(_) => return,
            Action::Ignore => {}
        }
        let _ = connection.receive_upstream(&message);
        assert!(connection.outstanding() <= 64);
    }
}

/// `sent` is what came, or the same without the attribute that names a server (L-16).
fn is_root_dse_without_ping(came: &Message, sent: &Message) {
    let is_ping =
        |attribute: &String| attribute.split(';').next().is_some_and(|name| name.eq_ignore_ascii_case("netlogon"));
    let mut expected = SearchRequest::decode(came).expect("it was understood");
    if !expected.attributes.iter().any(is_ping) {
        return assert_eq!(sent.octets(), came.octets());
    }
    expected.attributes.retain(|attribute| !is_ping(attribute));
    if expected.attributes.is_empty() {
        expected.attributes.push("1.1".to_owned());
    }
    assert_eq!(SearchRequest::decode(sent), Ok(expected));
    assert_eq!((sent.id(), sent.controls()), (came.id(), came.controls()));
}
