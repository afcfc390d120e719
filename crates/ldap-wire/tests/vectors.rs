//! The text vectors of tests/vectors: octets or text in, what is understood out. Each line there has its source above it.

use bytes::{Bytes, BytesMut};
use ldap_wire::extended::{self, ExtendedRequest, ExtendedResponse, IntermediateResponse};
use ldap_wire::message::DecodeError;
use ldap_wire::modify;
use ldap_wire::search::{self, SearchResultEntry};
use ldap_wire::{
    Authentication, BindRequest, BindResponse, Control, Dn, Filter, Framer, LdapResult, Limits, Message, Op, Peer,
    SearchRequest, validate_request,
};
use std::fmt::Write;

#[test]
fn every_message_vector_is_understood_or_refused_as_written() {
    check("ldap.vec", |kind, input| {
        let octets = octets(input);
        match kind {
            "client" => client(&octets),
            "upstream" => upstream(&octets),
            other => panic!("unknown kind {other}"),
        }
    });
}

#[test]
fn every_filter_vector_has_the_ber_and_the_text_written() {
    check("ldap_filter.vec", |kind, input| match kind {
        "filter" => match input.parse::<Filter>() {
            Ok(filter) => {
                assert_eq!(Filter::from_ber(&filter.to_ber()).as_ref(), Ok(&filter), "{input}");
                format!("{filter} {}", hex(&filter.to_ber()))
            }
            Err(error) => format!("error: {error}"),
        },
        "ber" => Filter::from_ber(&octets(input)).map_or_else(|e| format!("error: {e}"), |filter| filter.to_string()),
        other => panic!("unknown kind {other}"),
    });
}

#[test]
fn every_dn_vector_has_the_key_written() {
    // L-21, S-55.
    check("ldap_dn.vec", |kind, input| {
        assert_eq!(kind, "dn");
        match input.strip_prefix('[').and_then(|input| input.strip_suffix(']')).expect("in brackets").parse::<Dn>() {
            Ok(dn) => {
                assert_eq!(dn.to_string().parse::<Dn>().as_ref(), Ok(&dn), "{input}");
                format!("[{}]", dn.key().as_str())
            }
            Err(error) => format!("error: {error}"),
        }
    });
}

/// Compares each line of a file with what `actual` makes of it, and shows all that differ at once.
fn check(file: &str, actual: impl Fn(&str, &str) -> String) {
    let path = format!("{}/../../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("vector file");
    let (mut vectors, mut wrong) = (0, String::new());
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (left, expected) = line.split_once(" => ").unwrap_or_else(|| panic!("no => in {line}"));
        let (kind, input) = left.split_once(' ').unwrap_or_else(|| panic!("no kind in {line}"));
        let actual = actual(kind, input);
        vectors += 1;
        if actual != expected {
            writeln!(wrong, "{left} => {actual}").expect("a String takes everything");
        }
    }
    assert!(vectors > 10, "{file} has {vectors} vectors only");
    assert!(wrong.is_empty(), "{file} differs:\n{wrong}");
}

fn client(octets: &[u8]) -> String {
    let framer = Framer::new(Peer::Client, Limits::AUTHENTICATED);
    let message = match framer.next_message(&mut BytesMut::from(octets)) {
        Ok(Some(message)) => message,
        Ok(None) => return "incomplete".to_owned(),
        Err(error) => {
            let notice = if error.notice().is_some() { "notice" } else { "no notice" };
            return format!("closed, {notice}: {error}{}", source(&error));
        }
    };
    match validate_request(&message) {
        Ok(()) => request(&message).expect("validated"),
        Err(error @ DecodeError::Ber(_)) => format!("closed: {error}{}", source(&error)),
        Err(error) => format!("refused: {error}"),
    }
}

fn upstream(octets: &[u8]) -> String {
    let framer = Framer::new(Peer::Server, Limits::UPSTREAM);
    match framer.next_message(&mut BytesMut::from(octets)) {
        Ok(Some(message)) => response(&message).unwrap_or_else(|error| format!("error: {error}{}", source(&error))),
        Ok(None) => "incomplete".to_owned(),
        Err(error) => format!("closed: {error}{}", source(&error)),
    }
}

fn request(message: &Message) -> Result<String, DecodeError> {
    let what = match message.op() {
        Op::BindRequest => {
            let bind = BindRequest::decode(message)?;
            let authentication = match &bind.authentication {
                Authentication::Simple(password) => format!("simple({})", hex(password.expose())),
                Authentication::Sasl { mechanism, credentials } => {
                    format!("sasl({mechanism}, {:?})", credentials.as_ref().map(|octets| hex(octets.expose())))
                }
                Authentication::Other { tag } => format!("other({tag:#04x})"),
            };
            format!(" version {} name {:?} {authentication}", bind.version, bind.name)
        }
        Op::SearchRequest => {
            let search = SearchRequest::decode(message)?;
            let filter = Filter::from_ber(&search.filter)?.to_string();
            let filter = if filter.len() > 100 { format!("of {} characters", filter.len()) } else { filter };
            let root = if search.is_root_dse() { " root DSE" } else { "" };
            format!("{root} base {:?} {:?} filter {filter} {:?}", search.base, search.scope, search.attributes)
        }
        Op::ModifyRequest => format!(" changes password: {}", modify::changes_password(message)?),
        Op::AbandonRequest => format!(" of {}", extended::abandon_target(message)?),
        Op::ExtendedRequest => {
            let extended = ExtendedRequest::decode(message)?;
            let user = extended.password_modify_user()?.map_or(String::new(), |user| format!(" user {user:?}"));
            let target = extended.cancel_target()?.map_or(String::new(), |target| format!(" of {target}"));
            format!(" {}{user}{target}", extended.oid)
        }
        _ => String::new(),
    };
    Ok(format!("{} {:?}{what}{}", message.id(), message.op(), controls(&message.controls()?)))
}

fn response(message: &Message) -> Result<String, DecodeError> {
    let what = match message.op() {
        Op::BindResponse => {
            let response = BindResponse::decode(message)?;
            format!(" {} credentials {:?}", result(&response.result), response.server_sasl_credentials)
        }
        Op::SearchResultEntry => {
            let entry = SearchResultEntry::decode(message)?;
            let attributes: Vec<_> = entry.attributes.iter().map(|a| (&a.description, &a.values)).collect();
            format!(" {:?} {attributes:?}", entry.dn)
        }
        Op::SearchResultReference => format!(" {:?}", search::search_result_reference(message)?),
        Op::ExtendedResponse => {
            let response = ExtendedResponse::decode(message)?;
            format!(" {} {:?} {:?}", result(&response.result), response.oid, response.value)
        }
        Op::IntermediateResponse => {
            let response = IntermediateResponse::decode(message)?;
            format!(" {:?} {:?}", response.oid, response.value)
        }
        Op::Unknown(_) => String::new(),
        _ => format!(" {}", result(&LdapResult::decode(message)?)),
    };
    Ok(format!("{} {:?}{what}{}", message.id(), message.op(), controls(&message.controls()?)))
}

fn result(result: &LdapResult) -> String {
    let success = if result.is_success() { "success" } else { "no success" };
    format!("{success} {} {:?} {:?} referral {:?}", result.code, result.matched_dn, result.diagnostic, result.referral)
}

fn controls(controls: &[Control]) -> String {
    if controls.len() > 3 {
        return format!(" {} controls", controls.len());
    }
    let one = |c: &Control| {
        let sign = if c.critical { "!" } else { "" };
        format!(" control {sign}{} {}", c.oid, c.value.as_ref().map_or("-".to_owned(), |value| hex(value)))
    };
    controls.iter().map(one).collect()
}

fn source(error: &dyn std::error::Error) -> String {
    error.source().map_or(String::new(), |source| format!(": {source}"))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn octets(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
        .collect()
}
