//! An authenticator made here, bent in every way, and what Chromium's own made (`tests/webauthn/chromium.json`).

use super::*;
use ciborium::Value as Cbor;
use data_encoding::BASE64URL_NOPAD;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer;
use serde_json::{Value, json};

const CHALLENGE: &[u8] = b"a challenge of the test";
const ID: &[u8] = b"credential-1";
const UP_UV: u8 = 0x05;
const ATTESTED: u8 = 0x40;

fn party() -> RelyingParty {
    RelyingParty::of("https://mfa.example.com").expect("an address")
}

/// How a message differs from a good one.
struct Bent {
    kind: &'static str,
    challenge: &'static [u8],
    origin: &'static str,
    more_client_data: Value,
    rp_id: &'static str,
    flags: u8,
    count: u32,
    key: Vec<(i64, Cbor)>,
    tail: &'static [u8],
}

fn signer() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).expect("a key")
}

fn cose() -> Vec<(i64, Cbor)> {
    let point = signer().verifying_key().to_sec1_bytes();
    let bytes = |range: std::ops::Range<usize>| Cbor::Bytes(point[range].to_vec());
    vec![(1, 2.into()), (3, (-7).into()), (-1, 1.into()), (-2, bytes(1..33)), (-3, bytes(33..65))]
}

fn create() -> Bent {
    Bent {
        kind: "webauthn.create",
        challenge: CHALLENGE,
        origin: "https://mfa.example.com",
        more_client_data: json!({ "crossOrigin": false }),
        rp_id: "mfa.example.com",
        flags: UP_UV | ATTESTED,
        count: 0,
        key: cose(),
        tail: b"",
    }
}

fn get() -> Bent {
    Bent { kind: "webauthn.get", flags: UP_UV, count: 5, ..create() }
}

impl Bent {
    fn client_data(&self) -> Vec<u8> {
        let mut data =
            json!({ "type": self.kind, "challenge": BASE64URL_NOPAD.encode(self.challenge), "origin": self.origin });
        data.as_object_mut().expect("an object").extend(self.more_client_data.as_object().expect("an object").clone());
        data.to_string().into_bytes()
    }

    fn authenticator_data(&self) -> Vec<u8> {
        let mut data = Sha256::digest(self.rp_id.as_bytes()).to_vec();
        data.push(self.flags);
        data.extend(self.count.to_be_bytes());
        if self.flags & ATTESTED != 0 {
            data.extend([0; 16]);
            data.extend((ID.len() as u16).to_be_bytes());
            data.extend(ID);
            let entries = self.key.iter().map(|(label, value)| (Cbor::from(*label), value.clone())).collect();
            ciborium::into_writer(&Cbor::Map(entries), &mut data).expect("writes");
        }
        data.extend(self.tail);
        data
    }

    fn registration(&self) -> String {
        let object = Cbor::Map(vec![
            ("fmt".into(), "none".into()),
            ("attStmt".into(), Cbor::Map(vec![])),
            ("authData".into(), Cbor::Bytes(self.authenticator_data())),
        ]);
        let mut attestation = Vec::new();
        ciborium::into_writer(&object, &mut attestation).expect("writes");
        let text = |octets: &[u8]| BASE64URL_NOPAD.encode(octets);
        json!({
            "id": text(ID), "rawId": text(ID), "type": "public-key", "clientExtensionResults": {},
            "response": {
                "clientDataJSON": text(&self.client_data()), "attestationObject": text(&attestation),
                "transports": ["internal", "carrier-pigeon"],
            },
        })
        .to_string()
    }

    fn assertion(&self) -> Value {
        let (client, data) = (self.client_data(), self.authenticator_data());
        let signature: Signature = signer().sign(&[&data[..], &Sha256::digest(&client)].concat());
        let text = |octets: &[u8]| BASE64URL_NOPAD.encode(octets);
        json!({
            "id": text(ID), "rawId": text(ID), "type": "public-key", "clientExtensionResults": {},
            "response": {
                "clientDataJSON": text(&client), "authenticatorData": text(&data),
                "signature": text(signature.to_der().as_bytes()), "userHandle": null,
            },
        })
    }

    fn register(&self) -> Result<Credential, Refused> {
        verify_registration(&party(), &self.registration(), |found| found == CHALLENGE)
    }

    fn assert(&self) -> Result<Assertion, Refused> {
        verify_assertion(&party(), CHALLENGE, &[known(4)], &self.assertion().to_string())
    }
}

fn known(count: u32) -> Credential {
    create().register().expect("good").with_count(count)
}

#[test]
fn a_good_registration_gives_a_credential_that_survives_the_store() {
    let credential = create().register().expect("good");
    assert_eq!((credential.id(), credential.sign_count()), (ID, 0));
    assert_eq!(credential.transports(), ["internal"], "what no browser knows is left out");
    assert_eq!(Credential::from_json(&credential.to_json()).as_ref(), Some(&credential));
    for json in ["", "{}", "[]", r#"{"id":"","public_key":"AA","sign_count":0}"#] {
        assert_eq!(Credential::from_json(json), None, "{json}");
    }
}

#[test]
fn a_registration_that_differs_in_one_thing_is_refused_for_that() {
    let cases: Vec<(&str, Bent, Refused)> = vec![
        ("kind", Bent { kind: "webauthn.get", ..create() }, Refused::OtherCeremony),
        ("challenge", Bent { challenge: b"another", ..create() }, Refused::Challenge),
        ("origin", Bent { origin: "https://mfa.example.com.evil.example", ..create() }, Refused::Origin),
        ("scheme", Bent { origin: "http://mfa.example.com", ..create() }, Refused::Origin),
        ("port", Bent { origin: "https://mfa.example.com:8443", ..create() }, Refused::Origin),
        ("frame", Bent { more_client_data: json!({ "crossOrigin": true }), ..create() }, Refused::Origin),
        ("top", Bent { more_client_data: json!({ "topOrigin": "https://a.example" }), ..create() }, Refused::Origin),
        ("party", Bent { rp_id: "example.com", ..create() }, Refused::RelyingParty),
        ("presence", Bent { flags: 0x04 | ATTESTED, ..create() }, Refused::NotVerified),
        ("verification", Bent { flags: 0x01 | ATTESTED, ..create() }, Refused::NotVerified),
        ("no key", Bent { flags: UP_UV, ..create() }, Refused::Malformed("the attested credential")),
        ("tail", Bent { tail: b"x", ..create() }, Refused::Malformed("the authenticator's data")),
        (
            "half an extension",
            Bent { flags: 0xc5, tail: &[0xa1], ..create() },
            Refused::Malformed("the authenticator's data"),
        ),
        (
            "no extension",
            Bent { flags: 0xc5, tail: &[0x01], ..create() },
            Refused::Malformed("the authenticator's data"),
        ),
    ];
    for (what, bent, refused) in cases {
        assert_eq!(bent.register(), Err(refused), "{what}");
    }
    assert!(Bent { flags: 0xc5, tail: &[0xa0], ..create() }.register().is_ok(), "extensions are allowed");
}

#[test]
fn only_a_key_for_es256_on_its_curve_is_taken() {
    let with = |label: i64, value: Cbor| {
        let mut key = cose();
        for entry in key.iter_mut().filter(|entry| entry.0 == label) {
            entry.1 = value.clone();
        }
        Bent { key, ..create() }
    };
    let without = |label: i64| Bent { key: cose().into_iter().filter(|entry| entry.0 != label).collect(), ..create() };
    let mut cases = vec![
        with(1, 3.into()),
        with(3, (-257).into()),
        with(-1, 2.into()),
        with(-2, Cbor::Bytes(vec![1; 32])),
        with(-2, Cbor::Bytes(vec![0; 33])),
        with(-3, "text".into()),
    ];
    cases.extend([1, 3, -1, -2, -3].map(without));
    let mut twice = cose();
    twice.push((3, (-7).into()));
    cases.push(Bent { key: twice, ..create() });
    for (place, bent) in cases.iter().enumerate() {
        assert_eq!(bent.register(), Err(Refused::Key), "case {place}");
    }
}

#[test]
fn a_good_assertion_names_its_credential_and_moves_its_counter() {
    let assertion = get().assert().expect("good");
    assert_eq!((assertion.place, assertion.credential), (0, known(5)));
    let other = Credential::new(b"other", create().register().expect("good").public_key(), 0, &[]);
    let second = verify_assertion(&party(), CHALLENGE, &[other, known(0)], &get().assertion().to_string());
    assert_eq!(second.expect("good").place, 1);
    // A key that counts nothing says 0 for ever.
    let sent = Bent { count: 0, ..get() }.assertion().to_string();
    assert!(verify_assertion(&party(), CHALLENGE, &[known(0)], &sent).is_ok());
}

#[test]
fn an_assertion_that_differs_in_one_thing_is_refused_for_that() {
    let cases: Vec<(&str, Bent, Refused)> = vec![
        ("kind", Bent { kind: "webauthn.create", ..get() }, Refused::OtherCeremony),
        ("challenge", Bent { challenge: b"another", ..get() }, Refused::Challenge),
        ("origin", Bent { origin: "https://evil.example", ..get() }, Refused::Origin),
        ("party", Bent { rp_id: "evil.example", ..get() }, Refused::RelyingParty),
        ("presence", Bent { flags: 0x04, ..get() }, Refused::NotVerified),
        ("verification", Bent { flags: 0x01, ..get() }, Refused::NotVerified),
        ("same count", Bent { count: 4, ..get() }, Refused::Counter),
        ("count gone", Bent { count: 0, ..get() }, Refused::Counter),
        ("tail", Bent { tail: b"x", ..get() }, Refused::Malformed("the authenticator's data")),
    ];
    for (what, bent, refused) in cases {
        assert_eq!(bent.assert(), Err(refused), "{what}");
    }
}

#[test]
fn a_signature_of_another_key_or_over_something_else_is_refused() {
    // V-21
    let check = |sent: &Value, credentials: &[Credential]| {
        verify_assertion(&party(), CHALLENGE, credentials, &sent.to_string()).map(|_| ())
    };
    let good = get().assertion();
    assert_eq!(check(&good, &[]), Err(Refused::UnknownCredential));
    let stranger = SigningKey::from_slice(&[8; 32]).expect("a key").verifying_key().to_sec1_bytes();
    let stranger = Credential::new(ID, (*stranger).try_into().expect("a point"), 0, &[]);
    assert_eq!(check(&good, &[stranger]), Err(Refused::Signature));
    let text = |octets: &[u8]| Value::String(BASE64URL_NOPAD.encode(octets));
    let mut other_count = good.clone();
    other_count["response"]["authenticatorData"] = text(&Bent { count: 900, ..get() }.authenticator_data());
    assert_eq!(check(&other_count, &[known(0)]), Err(Refused::Signature));
    let mut other_page = good.clone();
    other_page["response"]["clientDataJSON"] =
        text(&Bent { more_client_data: json!({ "crossOrigin": false, "note": 1 }), ..get() }.client_data());
    assert_eq!(check(&other_page, &[known(0)]), Err(Refused::Signature));
    let mut raw = good.clone();
    raw["response"]["signature"] = text(&[1; 64]);
    assert_eq!(check(&raw, &[known(0)]), Err(Refused::Signature));
}

#[test]
fn no_octet_of_a_message_can_be_bent_or_cut_unnoticed_and_none_makes_us_panic() {
    let whole = create().authenticator_data();
    for length in 0..whole.len() {
        assert!(AuthenticatorData::read(&whole[..length]).is_err(), "cut at {length}");
    }
    let sent = get().assertion().to_string();
    for place in 0..sent.len() {
        let mut bent = sent.clone().into_bytes();
        bent[place] ^= 0x10;
        let Ok(bent) = String::from_utf8(bent) else { continue };
        if let Ok(assertion) = verify_assertion(&party(), CHALLENGE, &[known(4)], &bent) {
            // What is not signed may differ: names and values that nobody reads.
            assert_eq!(assertion.credential, known(5), "at {place}: {bent}");
        }
    }
    let nested = vec![0x81; 20_000];
    assert!(response::attested(&nested).is_err(), "depth is bounded");
    let endless = [0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(response::attested(&endless).is_err(), "a length that is claimed is not believed");
    let long = format!(r#"{{"rawId":"{}"}}"#, "A".repeat(30_000));
    assert_eq!(verify_registration(&party(), &long, |_| true), Err(Refused::Malformed("the credential")));
}

#[test]
fn what_is_asked_of_a_browser_names_party_key_kind_and_verification() {
    let new = NewPasskey {
        party_name: "Example & Sons",
        handle: "device|1",
        user_name: "ann",
        challenge: CHALLENGE,
        of_this_device: true,
        exclude: &[known(0)],
        timeout_ms: 60_000,
    };
    let options: Value = serde_json::from_str(&creation_options(&party(), &new)).expect("JSON");
    assert_eq!(options["rp"]["id"], "mfa.example.com");
    assert_eq!(options["challenge"], BASE64URL_NOPAD.encode(CHALLENGE));
    assert_eq!(options["pubKeyCredParams"], json!([{ "type": "public-key", "alg": -7 }]));
    assert_eq!(options["authenticatorSelection"]["userVerification"], "required");
    assert_eq!(options["authenticatorSelection"]["authenticatorAttachment"], "platform");
    assert_eq!(options["excludeCredentials"][0]["id"], BASE64URL_NOPAD.encode(ID));
    let handle = options["user"]["id"].as_str().expect("text");
    assert_eq!(handle.len(), 43, "32 octets that tell nothing");

    let options: Value =
        serde_json::from_str(&request_options(&party(), Some(CHALLENGE), &[known(0)], 60_000)).expect("JSON");
    assert_eq!(options["rpId"], "mfa.example.com");
    assert_eq!(options["userVerification"], "required");
    assert_eq!(options["allowCredentials"][0]["transports"], json!(["internal"]));
    let options: Value = serde_json::from_str(&request_options(&party(), None, &[], 1)).expect("JSON");
    assert!(options.get("challenge").is_none());
}

#[test]
fn a_relying_party_is_the_host_of_the_portal_and_its_origin_as_browsers_write_it() {
    let of = |address: &str| RelyingParty::of(address).map(|party| (party.id, party.origin));
    let pair = |id: &str, origin: &str| Some((id.to_owned(), origin.to_owned()));
    assert_eq!(of("https://mfa.example.com"), pair("mfa.example.com", "https://mfa.example.com"));
    assert_eq!(of("https://localhost:8443"), pair("localhost", "https://localhost:8443"));
    for bad in ["", "mfa.example.com", "https://", "https://ann@mfa.example.com"] {
        assert_eq!(of(bad), None, "{bad}");
    }
}
