//! Messages to test with, and short ways to look at answers.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod anomalies;

use bytes::Bytes;
use ldap_wire::ber::{self, Writer};
use ldap_wire::{
    Action, Attribute, Authentication, BindRequest, BindResponse, Control, ExtendedRequest, Filter, LdapResult,
    Message, MessageId, Op, Password, ResultCode, Scope, SearchRequest, SearchResultEntry,
};

pub const USER: &str = "uid=alice,ou=people,dc=example,dc=org";

pub fn id(id: u32) -> MessageId {
    MessageId::new(id).expect("at most 2^31-1")
}

pub fn parse(octets: &[u8]) -> Message {
    Message::parse(Bytes::copy_from_slice(octets)).expect("a whole message")
}

pub fn bind(message_id: u32, name: &str, password: &str) -> Message {
    bind_with(message_id, name, password, &[])
}

pub fn bind_with(message_id: u32, name: &str, password: &str, controls: &[Control]) -> Message {
    let request = BindRequest::simple(name.to_owned(), Password::new(password));
    parse(&request.encode(id(message_id), controls))
}

pub fn sasl(message_id: u32, mechanism: &str) -> Message {
    sasl_with(message_id, mechanism, None)
}

pub fn sasl_with(message_id: u32, mechanism: &str, credentials: Option<&[u8]>) -> Message {
    let credentials = credentials.map(Password::new);
    let authentication = Authentication::Sasl { mechanism: mechanism.to_owned(), credentials };
    parse(&BindRequest { version: 3, name: Bytes::new(), authentication }.encode(id(message_id), &[]))
}

pub fn search(message_id: u32) -> Message {
    search_with(message_id, &[])
}

pub fn search_with(message_id: u32, controls: &[Control]) -> Message {
    let request = SearchRequest::new("dc=example,dc=org", Scope::Subtree, &Filter::present("objectClass"), &["cn"]);
    parse(&request.encode(id(message_id), controls))
}

pub fn root_dse_search(message_id: u32, attributes: &[&str]) -> Message {
    let request = SearchRequest::new("", Scope::Base, &Filter::present("objectClass"), attributes);
    parse(&request.encode(id(message_id), &[]))
}

pub fn delete(message_id: u32) -> Message {
    message(message_id, &[0x4a], USER.as_bytes())
}

pub fn modify(message_id: u32, attribute: &str) -> Message {
    let mut writer = Writer::new();
    writer.octet_string(USER.as_bytes());
    writer.nested(ber::SEQUENCE, |w| {
        w.nested(ber::SEQUENCE, |w| {
            w.integer(ber::ENUMERATED, 2);
            w.nested(ber::SEQUENCE, |w| {
                w.octet_string(attribute.as_bytes());
                w.nested(ber::SET, |w| w.octet_string(b"value"));
            });
        });
    });
    message(message_id, &[0x66], &writer.into_vec())
}

pub fn extended(message_id: u32, request: ExtendedRequest) -> Message {
    parse(&request.encode(id(message_id), &[]))
}

pub fn entry(message_id: u32, attributes: &[(&str, &[&str])]) -> Message {
    let bytes = |value: &&str| Bytes::copy_from_slice(value.as_bytes());
    let attribute = |(name, values): &(&str, &[&str])| Attribute::new(*name, values.iter().map(bytes).collect());
    let entry = SearchResultEntry { dn: Bytes::new(), attributes: attributes.iter().map(attribute).collect() };
    parse(&entry.encode(id(message_id), &[]))
}

pub fn response(message_id: u32, op: Op, code: ResultCode) -> Message {
    parse(&LdapResult::of(code).encode(id(message_id), op, &[]))
}

pub fn success() -> BindResponse {
    BindResponse { result: LdapResult::of(ResultCode::SUCCESS), server_sasl_credentials: None }
}

/// A message from the tag and the content of its operation.
pub fn message(message_id: u32, tag: &[u8; 1], content: &[u8]) -> Message {
    message_with_tail(message_id, tag, content, &[])
}

pub fn message_with_tail(message_id: u32, tag: &[u8; 1], content: &[u8], tail: &[u8]) -> Message {
    let mut writer = Writer::new();
    writer.nested(ber::SEQUENCE, |w| {
        w.integer(ber::INTEGER, message_id.into());
        w.octets(tag[0], content);
        w.raw(tail);
    });
    parse(&writer.into_vec())
}

pub fn integer(value: i64) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.integer(ber::INTEGER, value);
    writer.into_vec()
}

pub fn dn_of(rdns: usize) -> String {
    vec!["dc=x"; rdns].join(",")
}

/// The result in an encoded response.
pub fn result(octets: &[u8]) -> LdapResult {
    LdapResult::decode(&parse(octets)).expect("own encoding")
}

/// The code of an answer that changes nothing.
pub fn answer_code(action: Action) -> ResultCode {
    match action {
        Action::Answer(octets) => result(&octets).code,
        other => panic!("{} instead of an answer", name(&other)),
    }
}

/// The code of a bind that was decided without a directory.
pub fn answer_to_bind(action: Action) -> ResultCode {
    match action {
        Action::AnswerBind(octets) => result(&octets).code,
        other => panic!("{} instead of the answer to a bind", name(&other)),
    }
}

pub fn name(action: &Action) -> &'static str {
    match action {
        Action::Answer(_) => "answer",
        Action::AnswerBind(_) => "answer to a bind",
        Action::Bind(_) => "bind",
        Action::Forward(_) => "forward",
        Action::RootDse { .. } => "root DSE",
        Action::StartTls(_) => "StartTLS",
        Action::Ignore => "ignore",
        Action::Close { .. } => "close",
    }
}
