//! The text vectors of tests/vectors: octets or text in, what is understood out. Each line there has its source above it.

use bytes::{Bytes, BytesMut};
use ldap_wire::extended::{self, ExtendedRequest, ExtendedResponse, IntermediateResponse};
use ldap_wire::message::DecodeError;
use ldap_wire::modify;
use ldap_wire::search::{self, SearchResultEntry};
use ldap_wire::{
    Authentication, BindRequest, BindResponse, Control, DirSync, Dn, Filter, Framer, LdapResult, Limits, Message, Op,
    Peer, SearchRequest, SyncDone, SyncInfo, SyncRequest, SyncState, oid, validate_request,
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
                assert_eq!(dn.to_short_string().parse::<Dn>().map(|short| short.key()), Ok(dn.key()), "{input}");
                format!("[{}]", dn.key().as_str())
            }
            Err(error) => format!("error: {error}"),
        }
    });
}

#[test]
fn every_value_of_a_synchronisation_is_understood_or_refused_as_written() {
    // S-11, S-30, B-70, B-71
    check("ldap_sync.vec", |kind, input| {
        let value = octets(input);
        let sent = |oid: &str| [Control::new(oid, false, Some(value.clone()))];
        let understood = match kind {
            "request" => SyncRequest::find(&sent(oid::SYNC_REQUEST)).map(|request| {
                let request = request.expect("it is there");
                assert_eq!(SyncRequest::find(&[request.to_control()]), Ok(Some(request.clone())));
                let reload = if request.reload_hint { " reload" } else { "" };
                format!("{:?}{}{reload}", request.mode, cookie(&request.cookie))
            }),
            "state" => SyncState::find(&sent(oid::SYNC_STATE)).map(|state| {
                let state = state.expect("it is there");
                assert_eq!(SyncState::find(&[state.to_control()]), Ok(Some(state.clone())));
                format!("{:?} {}{}", state.kind, hex(&state.uuid), cookie(&state.cookie))
            }),
            "done" => SyncDone::find(&sent(oid::SYNC_DONE)).map(|done| {
                let done = done.expect("it is there");
                assert_eq!(SyncDone::find(&[done.to_control()]), Ok(Some(done.clone())));
                let names = if done.refresh_deletes { "gone" } else { "there" };
                format!("{} names what is {names}", cookie(&done.cookie)).trim_start().to_owned()
            }),
            "info" => SyncInfo::decode(&value).map(|info| {
                assert_eq!(SyncInfo::decode(&info.encode()).as_ref(), Ok(&info));
                sync_info(&info)
            }),
            "dirsync" => DirSync::find(&sent(oid::DIRSYNC)).map(|value| {
                let value = value.expect("it is there");
                assert_eq!(DirSync::find(&[value.to_control()]), Ok(Some(value.clone())));
                let DirSync { flags, octets_max, cookie } = value;
                format!("flags {flags:#x} octets {octets_max} cookie {}", hex(&cookie)).trim_end().to_owned()
            }),
            other => panic!("unknown kind {other}"),
        };
        understood.unwrap_or_else(|error| format!("error: {error}{}", source(&error)))
    });
    for find in [
        |controls: &[Control]| SyncRequest::find(controls).map(|found| found.is_some()),
        |controls: &[Control]| SyncState::find(controls).map(|found| found.is_some()),
        |controls: &[Control]| SyncDone::find(controls).map(|found| found.is_some()),
        |controls: &[Control]| DirSync::find(controls).map(|found| found.is_some()),
    ] {
        let all = [oid::SYNC_REQUEST, oid::SYNC_STATE, oid::SYNC_DONE, oid::DIRSYNC];
        let empty = all.map(|oid| Control::new(oid, false, None));
        assert_eq!(find(&[]), Ok(false));
        assert!(matches!(find(&empty), Err(DecodeError::Value(_))), "a control without a value");
    }
}

fn cookie(cookie: &Option<Bytes>) -> String {
    cookie.as_ref().map_or(String::new(), |cookie| format!(" cookie {}", hex(cookie)))
}

fn sync_info(info: &SyncInfo) -> String {
    let over = |phase: &str, sent: &Option<Bytes>, done: bool| {
        let stage = if done { ", all done" } else { "" };
        let sent = sent.as_ref().map_or(String::new(), |_| format!(",{}", cookie(sent)));
        format!("{phase} phase over{sent}{stage}")
    };
    match info {
        SyncInfo::NewCookie(cookie) => format!("new cookie {}", hex(cookie)),
        SyncInfo::RefreshDelete { cookie, done } => over("delete", cookie, *done),
        SyncInfo::RefreshPresent { cookie, done } => over("present", cookie, *done),
        SyncInfo::IdSet { cookie: sent, deletes, uuids } => {
            let what = if *deletes { "gone" } else { "there" };
            let uuids: String = uuids.iter().map(|uuid| format!(" {}", hex(uuid))).collect();
            format!("{what}:{uuids}{}", cookie(sent))
        }
    }
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
