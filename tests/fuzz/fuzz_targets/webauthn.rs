//! Hostile octets against what browsers send of passkeys: as JSON, and as the signed data inside a message that is otherwise right.
//!
//! Properties: a credential that was taken is one that the store gives back; nothing made without the private key is an assertion.
#![no_main]

#[allow(dead_code, unused_imports, reason = "the product uses more of it")]
#[path = "../../../services/verification/src/webauthn.rs"]
mod webauthn;

use ciborium::Value as Cbor;
use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use sha2::{Digest, Sha256};
use webauthn::{Credential, RelyingParty, verify_assertion, verify_registration};

const CHALLENGE: &[u8] = b"a challenge";
/// The base point of P-256, whose private key everybody knows to be 1: the fuzzer would have to find a signature all the same.
const KNOWN: &str = r#"{"id":"AQ","public_key":"BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU","sign_count":0}"#;

fuzz_target!(|input: &[u8]| {
    let party = RelyingParty::of("https://mfa.example.com").expect("an address");
    let known = Credential::from_json(KNOWN).expect("a credential");
    if let Ok(text) = std::str::from_utf8(input) {
        register(&party, text);
        assert!(verify_assertion(&party, CHALLENGE, std::slice::from_ref(&known), text).is_err());
    }
    // The first octet says where the rest is cut: data that is signed, and a signature.
    let Some((&cut, rest)) = input.split_first() else { return };
    let (data, signature) = rest.split_at(rest.len() - rest.len().min(usize::from(cut)));
    let data = [&Sha256::digest(b"mfa.example.com")[..], data].concat();
    register(&party, &registration(attested_id(&data).unwrap_or(&[1]), &data));
    let assertion = envelope(&[1], json!({
        "clientDataJSON": client("webauthn.get"), "authenticatorData": text(&data), "signature": text(signature),
    }));
    assert!(verify_assertion(&party, CHALLENGE, std::slice::from_ref(&known), &assertion).is_err());
});

/// What the data itself says, so that the message agrees with it (section 6.5.1).
fn attested_id(data: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes(data.get(53..55)?.try_into().ok()?);
    data.get(55..55 + usize::from(length))
}

fn register(party: &RelyingParty, json: &str) {
    if let Ok(credential) = verify_registration(party, json, |_| true) {
        assert!((1..=1023).contains(&credential.id().len()));
        assert_eq!(Credential::from_json(&credential.to_json()), Some(credential));
    }
}

fn registration(id: &[u8], data: &[u8]) -> String {
    let object = Cbor::Map(vec![
        ("fmt".into(), "none".into()),
        ("attStmt".into(), Cbor::Map(vec![])),
        ("authData".into(), Cbor::Bytes(data.to_vec())),
    ]);
    let mut attestation = Vec::new();
    ciborium::into_writer(&object, &mut attestation).expect("writes");
    envelope(id, json!({ "clientDataJSON": client("webauthn.create"), "attestationObject": text(&attestation) }))
}

fn client(kind: &str) -> String {
    let data = json!({ "type": kind, "challenge": text(CHALLENGE), "origin": "https://mfa.example.com" });
    text(data.to_string().as_bytes())
}

fn envelope(id: &[u8], response: serde_json::Value) -> String {
    json!({ "id": text(id), "rawId": text(id), "type": "public-key", "response": response }).to_string()
}

fn text(octets: &[u8]) -> String {
    BASE64URL_NOPAD.encode(octets)
}
