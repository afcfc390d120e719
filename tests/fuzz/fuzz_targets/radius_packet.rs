//! Hostile octets against everything in radius-wire that reads them. The first octet chooses the part.
//!
//! Each part checks a property, not only that nothing panics: what is written again is what was read, what we write
//! verifies, what was altered does not open, a request is answered once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use radius_wire::{
    AccessRequest, Attribute, AttributeType, Charset, Code, Credentials, Datagram, ExchangeId, ExchangeKey,
    ExchangeLimits, Exchanges, Fingerprint, KeyRing, Packet, Port, Prompt, Received, Reply, Request, RequestCode, Rule,
    Rules, SEALED_STATE_OCTETS, Secret, Secrets, Sent, State, Transport, Vendor, Verified, verify_reply,
    verify_request, write_unsigned,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

fuzz_target!(|octets: &[u8]| {
    let Some((&part, input)) = octets.split_first() else { return };
    match part % 6 {
        0 => request(input, Port::Authentication),
        1 => request(input, Port::Accounting),
        2 => reply(input, Port::AuthenticationReplies),
        3 => reply(input, Port::AccountingReplies),
        4 => state(input),
        _ => exchanges(input),
    }
});

fn request(input: &[u8], port: Port) {
    let Ok(packet) = Packet::parse(input, port) else { return };
    reads_as_written(&packet);
    let (current, previous) = (secret("xyzzy5461"), secret("the one before"));
    let secrets = Secrets { current: &current, previous: Some(&previous) };
    if verify_request(packet, secrets, Rules::default()).is_ok() {
        assert!(packet.has(AttributeType::MESSAGE_AUTHENTICATOR) || packet.code() == Code::AccountingRequest);
    }
    let open = Rules { message_authenticator: Rule::No, limit_proxy_state: Rule::No };
    if let Ok(verified) = verify_request(packet, secrets, open) {
        replies_verify(&verified, &current, &previous);
        access_request(&verified, &current);
    }
}

/// Parse, write, parse: the same octets and the same attributes.
fn reads_as_written(packet: &Packet<'_>) {
    let written = write_unsigned(packet.code() as u8, packet.identifier(), packet.authenticator(), packet.attributes());
    let written = written.expect("what was read fits");
    assert_eq!(written, packet.octets());
    let again = Datagram::new(&written)
        .and_then(|datagram| datagram.packet(packet.port(), 200))
        .expect("what was accepted once");
    assert!(packet.attributes().eq(again.attributes()));
    for attribute in packet.attributes() {
        let Some(vendor) = attribute.vendor() else { continue };
        let mut inside = vendor.id.to_be_bytes().to_vec();
        for (kind, value) in vendor.attributes() {
            inside.extend([kind, value.len() as u8 + 2]);
            inside.extend(value);
        }
        assert_eq!(inside, attribute.value, "a vendor's attributes fill it exactly");
        assert!(vendor.id != Vendor::MICROSOFT || attribute.value.starts_with(&[0, 0, 1, 55]));
    }
}

fn replies_verify(request: &Verified<'_>, current: &Secret, previous: &Secret) {
    let sent = Sent { identifier: request.packet().identifier(), authenticator: *request.packet().authenticator() };
    let message = String::from_utf8_lossy(request.packet().first(AttributeType::USER_NAME).unwrap_or_default());
    let class = Attribute { kind: AttributeType::CLASS, value: &[7; 253] };
    let challenge = Reply::Challenge {
        message: &message,
        state: &[1; 75],
        prompt: Some(Prompt::NoEcho),
        session_timeout_seconds: Some(120),
    };
    let accept = Reply::Accept { attributes: &[class, class], message: &message };
    for reply in [accept, Reply::Reject { message: &message }, challenge, Reply::Alive] {
        let Ok(octets) = reply.write(request) else { continue }; // too many Proxy-States
        assert_eq!(octets.get(20..22), Some([80, 18].as_slice()), "Message-Authenticator comes first");
        let replies = if octets.first() == Some(&5) { Port::AccountingReplies } else { Port::AuthenticationReplies };
        let parsed =
            Datagram::new(&octets).and_then(|datagram| datagram.packet(replies, 300)).expect("we write what we read");
        let by_current = verify_reply(&parsed, &sent, current, Rule::Yes);
        assert!(by_current.is_ok() || verify_reply(&parsed, &sent, previous, Rule::Yes).is_ok());
        let proxy_states =
            |packet: &Packet<'_>| packet.all(AttributeType::PROXY_STATE).map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(proxy_states(&parsed), proxy_states(request.packet()), "all Proxy-States, in order");
    }
}

fn access_request(request: &Verified<'_>, current: &Secret) {
    let Ok(access) = AccessRequest::read(request) else { return };
    assert!(!access.user_name.is_empty() && !access.user_name.contains(|c: char| c.is_ascii_control()));
    let Credentials::Pap(hidden) = access.credentials else { return };
    let latin1 = hidden.reveal(Charset::Latin1);
    let Ok(password) = hidden.reveal(Charset::Utf8) else { return };
    assert!(latin1.is_ok(), "every UTF-8 password is a Latin-1 password of other letters");
    assert!(!password.expose().contains('\0'));
    // Hidden again with the same secret and authenticator it opens to the same.
    if request.signed() {
        return; // perhaps with the other secret
    }
    let again = Request {
        code: RequestCode::AccessRequest,
        identifier: 1,
        authenticator: *request.packet().authenticator(),
        attributes: &[Attribute { kind: AttributeType::USER_NAME, value: b"a" }],
        password: Some(password.expose()),
    };
    let octets = again.write(current).expect("a password that came in fits going out");
    let packet = Packet::parse(&octets, Port::Authentication).expect("we write what we read");
    let verified = verify_request(packet, current.into(), Rules::default()).unwrap_or_else(|reason| panic!("{reason}"));
    let Ok(AccessRequest { credentials: Credentials::Pap(hidden), .. }) = AccessRequest::read(&verified) else {
        panic!("the password is there")
    };
    let Ok(revealed) = hidden.reveal(Charset::Utf8) else { panic!("it opens") };
    assert_eq!(revealed.expose(), password.expose());
}

fn reply(input: &[u8], port: Port) {
    let Some((&identifier, input)) = input.split_first() else { return };
    let Ok(packet) = Packet::parse(input, port) else { return };
    reads_as_written(&packet);
    let sent = Sent { identifier, authenticator: [9; 16] };
    if verify_reply(&packet, &sent, &secret("xyzzy5461"), Rule::Auto).is_ok() {
        assert_eq!(packet.identifier(), identifier);
    }
}

fn state(input: &[u8]) {
    let ring = KeyRing::new(1, &[1; 32]).also_opening(2, &[2; 32]);
    assert!(ring.open(input, b"client", 0).is_err(), "nobody else can make one");
    // The input as instructions: which octet to change, to what; then as the client's id.
    let Some((&[at, with], client)) = input.split_first_chunk::<2>() else { return };
    let state = State { transaction: [at; 16], user: [with; 16], step: 3, expires_unix_seconds: 1000 };
    let mut sealed = ring.seal(&state, client, [with; 12]);
    assert_eq!(ring.open(&sealed, client, 999), Ok(state));
    assert!(ring.open(&sealed, client, 1000).is_err());
    assert!(ring.open(&sealed, &[client, b"x"].concat(), 999).is_err());
    assert!(ring.open(&sealed[..usize::from(at) % SEALED_STATE_OCTETS], client, 999).is_err());
    if with != 0 {
        sealed[usize::from(at) % SEALED_STATE_OCTETS] ^= with;
        assert!(ring.open(&sealed, client, 999).is_err());
    }
}

/// Two octets a step: what happens, and to which of a few keys and packets. The model knows what was asked and answered.
fn exchanges(input: &[u8]) {
    let limits = ExchangeLimits {
        entries_max: 6,
        pending_per_source_max: 4,
        reply_kept: Duration::from_secs(10),
        pending_kept: Duration::from_secs(90),
    };
    let mut exchanges = Exchanges::new(limits);
    let mut now = Duration::ZERO;
    let mut asked: HashMap<ExchangeKey, (ExchangeId, u8)> = HashMap::new();
    let mut answered: HashMap<ExchangeKey, (Arc<[u8]>, u8)> = HashMap::new();
    for step in input.chunks_exact(2) {
        let (what, which) = (step[0], step[1]);
        let key = ExchangeKey {
            listener: ([10, 0, 0, 1], 1812).into(),
            transport: Transport::Udp,
            source: ([192, 0, 2, which & 1], 1645).into(),
            code: Code::AccessRequest,
            identifier: which >> 1 & 3,
        };
        match what % 4 {
            0 => {
                let packet = which >> 3 & 1;
                let fingerprint = Fingerprint { authenticator: [packet; 16], sha256: [packet; 32] };
                match exchanges.receive(key, fingerprint, None, now) {
                    Received::Ask(id) => {
                        assert!(!asked.contains_key(&key), "asked twice while in work");
                        answered.remove(&key);
                        asked.insert(key, (id, packet));
                    }
                    Received::Replaced { orphan, ask } => {
                        let (before, other) =
                            asked.insert(key, (ask, packet)).expect("only what is in work can be replaced");
                        assert_eq!((before, other != packet), (orphan, true));
                        assert!(!exchanges.answer(&orphan, *b"late", now), "an orphan's answer is not sent");
                    }
                    Received::Joins { .. } => unreachable!("nothing is alike here"),
                    Received::StillWaiting(id) => assert_eq!(asked.get(&key), Some(&(id, packet))),
                    Received::Resend(reply) => assert_eq!(answered.get(&key), Some(&(reply, packet))),
                    Received::Full => {
                        assert!(!asked.contains_key(&key));
                        answered.remove(&key);
                    }
                }
            }
            1 => {
                if let Some((id, packet)) = asked.remove(&key) {
                    let reply: Arc<[u8]> = Arc::from(id_octets(&key, packet, now));
                    assert!(exchanges.answer(&id, reply.clone(), now));
                    assert!(!exchanges.answer(&id, *b"twice", now), "answered twice");
                    answered.insert(key, (reply, packet));
                }
            }
            2 => {
                if let Some((id, _)) = asked.remove(&key) {
                    exchanges.forget(&id);
                }
            }
            _ => {
                now += Duration::from_secs(u64::from(which % 32));
                for id in exchanges.expire(now) {
                    let in_work = asked.len();
                    asked.retain(|_, (asked, _)| *asked != id);
                    assert_eq!(asked.len() + 1, in_work, "only what is in work is given back");
                }
            }
        }
        assert_eq!(exchanges.pending(), asked.len(), "nothing in work is ever lost");
        assert!(exchanges.len() <= limits.entries_max && exchanges.pending() <= exchanges.len());
    }
}

fn id_octets(key: &ExchangeKey, packet: u8, now: Duration) -> Vec<u8> {
    format!("{} {packet} {now:?}", key.shared()).into_bytes()
}

fn secret(text: &str) -> Secret {
    Secret::new(text).expect("not empty")
}
