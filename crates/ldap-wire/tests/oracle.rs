//! rasn-ldap, a codec that shares nothing with ours, as judge: it must understand what we write, and we what it writes.

mod support;

use bytes::Bytes;
use ldap_wire::{
    Authentication, BindRequest, BindResponse, Control, ExtendedRequest, ExtendedResponse, Filter, LdapResult, Message,
    Op, PagedResults, Password, ResultCode, Scope, SearchRequest, SearchResultEntry, extended,
};
use proptest::prelude::*;
use rasn_ldap::{AuthenticationChoice, LdapMessage, ProtocolOp};
use support::*;

fn theirs(octets: &[u8]) -> LdapMessage {
    rasn::ber::decode(octets).expect("rasn understands us")
}

/// Encodes what rasn has decoded, so that a message of theirs comes back to us.
fn back(message: &LdapMessage) -> Message {
    Message::parse(rasn::ber::encode(message).expect("rasn writes").into()).expect("we understand rasn")
}

proptest! {
    #[test]
    fn binds_agree(message_id in 1..0x8000_0000u32, name in ".{0,40}", password in any::<Vec<u8>>()) {
        let request = BindRequest::simple(name.clone(), Password::new(password.clone()));
        let message = theirs(&request.encode(id(message_id), &[]));
        prop_assert_eq!(message.message_id, message_id);
        let ProtocolOp::BindRequest(bind) = &message.protocol_op else { panic!("a bind") };
        prop_assert_eq!(&bind.name.0, &name);
        prop_assert_eq!(&bind.authentication, &AuthenticationChoice::Simple(password.clone().into()));
        let ours = BindRequest::decode(&back(&message)).expect("a bind");
        prop_assert_eq!(&ours.name[..], name.as_bytes());
        prop_assert!(matches!(&ours.authentication, Authentication::Simple(p) if p.expose() == password));
    }

    #[test]
    fn searches_agree(base in ".{0,40}", size in 0..0x8000_0000u32, text in support_filter(), page in any::<u16>(), cookie in any::<Vec<u8>>()) {
        let mut request = SearchRequest::new(base, Scope::One, &text, &["cn", "member;range=0-*"]);
        (request.size_limit, request.time_limit_seconds, request.types_only, request.dereference) = (size, 7, true, 3);
        let paged = PagedResults { size: page.into(), cookie: cookie.into() };
        let controls = [paged.to_control(true), Control::new("1.2.3", false, None)];
        let octets = request.encode(id(5), &controls);
        let message = theirs(&octets);
        let ProtocolOp::SearchRequest(search) = &message.protocol_op else { panic!("a search") };
        prop_assert_eq!(search.size_limit, size);
        let again = back(&message);
        prop_assert_eq!(SearchRequest::decode(&again).expect("a search"), request);
        let controls_again = again.controls().expect("controls");
        prop_assert_eq!(&controls_again[..], &controls[..]);
        prop_assert_eq!(PagedResults::find(&controls_again), Ok(Some(paged)));
        prop_assert_eq!(Filter::from_ber(&SearchRequest::decode(&again).expect("a search").filter), Ok(text));
    }

    #[test]
    fn entries_agree(dn in ".{0,40}", values in prop::collection::vec(any::<Vec<u8>>(), 1..5)) {
        // A set has no order; rasn sorts it.
        let mut values: Vec<Bytes> = values.into_iter().map(Bytes::from).collect();
        values.sort();
        values.dedup();
        let attribute = ldap_wire::Attribute::new("jpegPhoto", values);
        let entry = SearchResultEntry { dn: dn.into(), attributes: vec![attribute] };
        let mut again = SearchResultEntry::decode(&back(&theirs(&entry.encode(id(5), &[])))).expect("an entry");
        again.attributes.iter_mut().for_each(|attribute| attribute.values.sort());
        prop_assert_eq!(again, entry);
    }
}

/// Filters as both codecs can say them.
fn support_filter() -> impl Strategy<Value = Filter> {
    let name = "[a-z][a-z0-9-]{0,8}";
    let value = || prop::collection::vec(any::<u8>(), 1..8);
    let leaf = prop_oneof![
        (name, value()).prop_map(|(attribute, value)| Filter::equal(attribute, value)),
        name.prop_map(Filter::present),
        (name, value()).prop_map(|(attribute, value)| Filter::GreaterOrEqual { attribute, value }),
        (name, value()).prop_map(|(attribute, value)| Filter::LessOrEqual { attribute, value }),
        (name, value()).prop_map(|(attribute, value)| Filter::Approximate { attribute, value }),
        (name, prop::option::of(value()), value(), prop::option::of(value())).prop_map(
            |(attribute, initial, any, last)| Filter::Substrings { attribute, initial, any: vec![any], last }
        ),
    ];
    leaf.prop_recursive(4, 16, 1, |inner| {
        prop_oneof![inner.clone().prop_map(Filter::not), inner.prop_map(|f| Filter::and([f]))]
    })
}

#[test]
fn results_and_extended_operations_agree() {
    let mut refused = LdapResult::of(ResultCode::INVALID_CREDENTIALS);
    (refused.matched_dn, refused.diagnostic) = (Bytes::from_static(b"dc=x"), Bytes::from_static("né".as_bytes()));
    let response = BindResponse { result: refused, server_sasl_credentials: Some(Bytes::from_static(b"next")) };
    let again = back(&theirs(&response.encode(id(1), &[])));
    assert_eq!(BindResponse::decode(&again), Ok(response.clone()));
    for op in [
        Op::SearchResultDone,
        Op::ModifyResponse,
        Op::AddResponse,
        Op::DelResponse,
        Op::ModifyDnResponse,
        Op::CompareResponse,
    ] {
        let again = back(&theirs(&response.result.encode(id(2), op, &[])));
        assert_eq!((again.op(), LdapResult::decode(&again)), (op, Ok(response.result.clone())));
    }
    for request in [ExtendedRequest::start_tls(), ExtendedRequest::cancel(id(9))] {
        let again = back(&theirs(&request.encode(id(3), &[])));
        assert!(ExtendedRequest::decode(&again).expect("extended") == request);
    }
    let answer =
        ExtendedResponse { value: Some(Bytes::from_static(b"u:a")), oid: Some("1.2".into()), result: response.result };
    assert_eq!(ExtendedResponse::decode(&back(&theirs(&answer.encode(id(4), &[])))), Ok(answer));
}

#[test]
fn abandon_unbind_and_the_notice_of_disconnection_agree() {
    let abandon = theirs(&extended::abandon_request(id(3), id(300)));
    assert!(matches!(&abandon.protocol_op, ProtocolOp::AbandonRequest(target) if target.0 == 300));
    assert_eq!(extended::abandon_target(&back(&abandon)), Ok(id(300)));
    assert!(matches!(theirs(&ldap_wire::bind::unbind_request(id(3))).protocol_op, ProtocolOp::UnbindRequest(_)));
    let notice = theirs(&ldap_wire::FrameError::MessageId.notice().expect("LDAP is spoken"));
    let ProtocolOp::ExtendedResp(notice) = &notice.protocol_op else { panic!("an extended response") };
    assert_eq!(
        notice.response_name.as_ref().map(|name| &name[..]),
        Some(ldap_wire::oid::NOTICE_OF_DISCONNECTION.as_bytes())
    );
}
