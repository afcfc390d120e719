//! Microsoft's attributes: the first octet chooses between a request's proofs and a home server's MS-CHAP-Error.
//!
//! Properties: what was read as version 2 is a response that its own client would have sent, and the success computed for it is
//! accepted by nobody else; an error that was read and written again reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use radius_wire::ms_chap::{
    Client, Failure, MsChap, PasswordHash, PasswordHashHash, attribute, failure, ident, kind, without_domain,
};
use radius_wire::{Attribute, AttributeType, Packet, Port, write_unsigned};

fuzz_target!(|octets: &[u8]| {
    let Some((&part, input)) = octets.split_first() else { return };
    match part % 3 {
        0 => packet(input),
        1 => attributes(input),
        _ => error(input),
    }
});

fn packet(input: &[u8]) {
    let Ok(packet) = Packet::parse(input, Port::Authentication) else { return };
    read(&packet);
}

/// The input as attributes of Microsoft: type, length, value.
fn attributes(mut input: &[u8]) {
    let mut values = Vec::new();
    while let Some((&[kind, length], rest)) = input.split_first_chunk() {
        let Some((value, rest)) = rest.split_at_checked(usize::from(length)) else { break };
        input = rest;
        values.extend(attribute(kind, value).ok().filter(|_| kind != 0));
    }
    let vendor = |value| Attribute { kind: AttributeType::VENDOR_SPECIFIC, value };
    let Ok(octets) = write_unsigned(1, 1, &[5; 16], values.iter().map(|value| vendor(value))) else { return };
    let Ok(packet) = Packet::parse(&octets, Port::Authentication) else { return };
    read(&packet);
}

fn read(packet: &Packet<'_>) {
    let name = String::from_utf8_lossy(packet.first(AttributeType::USER_NAME).unwrap_or_default());
    let ident = ident(packet);
    match MsChap::read(packet) {
        Ok(MsChap::V2(v2)) => {
            assert_eq!(v2.ident, ident);
            let hash = PasswordHash::of("sesame");
            let client =
                Client { user_name: &name, challenge: *v2.challenge, peer_challenge: *v2.peer_challenge, hash };
            let theirs = client.nt_response() == *v2.nt_response;
            // Of a name with several backslashes the first is the domain's end.
            if name.matches('\\').count() < 2 {
                assert_eq!(v2.challenge_hash(&name), v2.challenge_hash(without_domain(&name)));
            }
            let success = v2.success(&name, &client.hash.hash());
            assert!(success.is_ascii() || ident > 127);
            assert_eq!(client.accepts(ident, &success), theirs);
            assert!(!client.accepts(ident, &v2.success(&name, &PasswordHashHash::new([0; 16]))));
            let keys = v2.keys(&client.hash.hash());
            assert_ne!(*keys.send, *keys.recv);
            // What this client would send reads as its own.
            let (challenge, response) = (
                attribute(kind::MS_CHAP_CHALLENGE, v2.challenge).expect("it fits"),
                attribute(kind::MS_CHAP2_RESPONSE, &client.response(ident)).expect("it fits"),
            );
            let vendor = |value| Attribute { kind: AttributeType::VENDOR_SPECIFIC, value };
            let octets = write_unsigned(1, 1, &[5; 16], [vendor(&challenge), vendor(&response)]).expect("it fits");
            let again = Packet::parse(&octets, Port::Authentication).expect("we write what we read");
            let Ok(MsChap::V2(again)) = MsChap::read(&again) else { panic!("what we write is read") };
            assert_eq!(again.nt_response, &client.nt_response());
        }
        Ok(MsChap::PasswordChange { ident: of }) => assert_eq!(of, ident),
        Ok(MsChap::V1) | Err(_) => {}
    }
}

fn error(input: &[u8]) {
    let Some(read) = Failure::read(input) else { return };
    let (Some(challenge), Ok(message)) = (read.challenge, std::str::from_utf8(read.message)) else { return };
    let Ok(written) = failure(read.ident, read.code, &challenge, message) else { return };
    let again = Failure::read(&written).expect("we write what we read");
    assert_eq!(again, Failure { may_retry: false, ..read });
}
