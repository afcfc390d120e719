//! MS-CHAPv2 between a client and a server, and what is none.

use proptest::prelude::*;
use radius_wire::ms_chap::{
    Client, ENCRYPTION_TYPES, EncryptionPolicy, Failure, FailureCode, MsChap, MsChapError, PasswordHash,
    PasswordHashHash, V2, attribute, failure, ident, kind, without_domain,
};
use radius_wire::{
    AccessRequest, Attribute, AttributeType, Credentials, Packet, Port, Request, RequestCode, RequestError, Rules,
    Secret, WriteError, verify_request, write_unsigned,
};

/// Microsoft's attributes, each in a Vendor-Specific of its own.
fn request(attributes: &[(u8, &[u8])]) -> Vec<u8> {
    let values: Vec<_> = attributes.iter().map(|(kind, value)| attribute(*kind, value).expect("it fits")).collect();
    let attributes = values.iter().map(|value| Attribute { kind: AttributeType::VENDOR_SPECIFIC, value });
    write_unsigned(1, 1, &[5; 16], attributes).expect("it fits")
}

fn packet(octets: &[u8]) -> Packet<'_> {
    Packet::parse(octets, Port::Authentication).expect("well formed")
}

fn refused(attributes: &[(u8, &[u8])]) -> Option<MsChapError> {
    MsChap::read(&packet(&request(attributes))).err()
}

fn client(user_name: &str) -> Client<'_> {
    Client { user_name, challenge: [3; 16], peer_challenge: [4; 16], hash: PasswordHash::of("sesame") }
}

fn password_change() -> (Vec<u8>, Vec<Vec<u8>>) {
    let change = [[7, 9].as_slice(), &[1; 16], &[2; 16], &[0; 8], &[3; 24], &[0; 2]].concat();
    let piece = |number: u8, octets: usize| [[6, 9, 0, number].as_slice(), &vec![4; octets]].concat();
    (change, vec![piece(1, 243), piece(2, 243), piece(3, 30)])
}

#[test]
fn a_response_of_the_wrong_form_proves_nothing() {
    // B-27
    let good = client("ann").response(9);
    let challenge = (kind::MS_CHAP_CHALLENGE, [3; 16].as_slice());
    fn response(octets: &[u8]) -> (u8, &[u8]) {
        (kind::MS_CHAP2_RESPONSE, octets)
    }
    assert_eq!(refused(&[challenge, response(&good)]), None);
    for length in [0, 1, 8, 15, 17, 240] {
        let challenge = (kind::MS_CHAP_CHALLENGE, &[3; 240][..length]);
        assert_eq!(refused(&[challenge, response(&good)]), Some(MsChapError::Challenge), "{length} octets");
    }
    assert_eq!(refused(&[response(&good)]), Some(MsChapError::Challenge));
    let long = [good.as_slice(), &[0]].concat();
    for wrong in [&good[..49], &long, &good[..1], &[]] {
        assert_eq!(refused(&[challenge, response(wrong)]), Some(MsChapError::Response), "{} octets", wrong.len());
    }
    for flag in (0..8).map(|bit| 1 << bit) {
        let mut flagged = good;
        flagged[1] = flag;
        assert_eq!(refused(&[challenge, response(&flagged)]), Some(MsChapError::Flags));
    }
    assert_eq!(refused(&[challenge, challenge, response(&good)]), Some(MsChapError::Several));
    assert_eq!(refused(&[challenge, response(&good), response(&good)]), Some(MsChapError::Several));
    assert_eq!(refused(&[challenge]), Some(MsChapError::NoResponse));
}

#[test]
fn challenge_and_response_may_share_one_vendor_specific() {
    // RFC 2865 section 5.26
    let (challenge, response) = ([3; 16], client("ann").response(9));
    let inside = [&[0, 0, 1, 55, kind::MS_CHAP_CHALLENGE, 18], challenge.as_slice(), &[25, 52], &response].concat();
    let both = Attribute { kind: AttributeType::VENDOR_SPECIFIC, value: &inside };
    let octets = write_unsigned(1, 1, &[5; 16], [both]).expect("it fits");
    let Ok(MsChap::V2(v2)) = MsChap::read(&packet(&octets)) else { panic!("version 2") };
    assert_eq!((v2.ident, v2.challenge), (9, &challenge));
    // Another vendor's are none of Microsoft's.
    let other = [&[0, 0, 1, 56], &inside[4..]].concat();
    let both = Attribute { kind: AttributeType::VENDOR_SPECIFIC, value: &other };
    let octets = write_unsigned(1, 1, &[5; 16], [both]).expect("it fits");
    assert_eq!(MsChap::read(&packet(&octets)).err(), Some(MsChapError::NoResponse));
}

#[test]
fn version_1_is_recognised_and_only_its_lengths_are_looked_at() {
    // R-56: it goes to a home server or nowhere.
    let response = (kind::MS_CHAP_RESPONSE, [1; 50].as_slice());
    let challenge = |length| (kind::MS_CHAP_CHALLENGE, &[3; 16][..length]);
    let octets = request(&[challenge(8), response]);
    assert!(matches!(MsChap::read(&packet(&octets)), Ok(MsChap::V1)));
    assert_eq!(refused(&[challenge(16), response]), Some(MsChapError::Challenge));
    assert_eq!(refused(&[challenge(8), (kind::MS_CHAP_RESPONSE, &[1; 49])]), Some(MsChapError::Response));
}

#[test]
fn a_change_of_password_is_recognised_when_it_is_whole() {
    // R-58, RFC 2548 sections 2.1.4 and 2.3.4
    let (change, pieces) = password_change();
    let with = |change: &[u8], pieces: &[Vec<u8>]| {
        let mut attributes = vec![(kind::MS_CHAP_CHALLENGE, [3; 16].as_slice()), (kind::MS_CHAP2_CPW, change)];
        attributes.extend(pieces.iter().map(|piece| (kind::MS_CHAP_NT_ENC_PW, piece.as_slice())));
        request(&attributes)
    };
    let octets = with(&change, &pieces);
    assert!(matches!(MsChap::read(&packet(&octets)), Ok(MsChap::PasswordChange { ident: 9 })));
    assert_eq!(ident(&packet(&octets)), 9);
    let altered = |at: usize, octet| {
        let mut altered = change.clone();
        altered[at] = octet;
        altered
    };
    for wrong in [altered(0, 6), altered(1, 8), altered(66, 1), altered(67, 1), change[..67].to_vec()] {
        assert_eq!(MsChap::read(&packet(&with(&wrong, &pieces))).err(), Some(MsChapError::PasswordChange));
    }
    let mut other = pieces.clone();
    other[1][0] = 7;
    for pieces in [&pieces[..2], &other, &[], &[vec![6, 9, 0]]] {
        assert_eq!(MsChap::read(&packet(&with(&change, pieces))).err(), Some(MsChapError::PasswordChange));
    }
}

#[test]
fn each_of_the_three_is_one_kind_of_credentials() {
    // R-20: beside another kind it is one too many.
    let secret = Secret::new("xyzzy5461").expect("not empty");
    let read = |kind, password| {
        let value = attribute(kind, &[0; 50]).expect("it fits");
        let name = Attribute { kind: AttributeType::USER_NAME, value: b"ann" };
        let proof = Attribute { kind: AttributeType::VENDOR_SPECIFIC, value: &value };
        let code = RequestCode::AccessRequest;
        let request = Request { code, identifier: 1, authenticator: [5; 16], attributes: &[name, proof], password };
        let octets = request.write(&secret).expect("it fits");
        let request = verify_request(packet(&octets), (&secret).into(), Rules::default()).expect("genuine");
        AccessRequest::read(&request).map(|access| match access.credentials {
            Credentials::MsChap => "ms-chap",
            Credentials::Absent => "none",
            _ => "others",
        })
    };
    for kind in [kind::MS_CHAP_RESPONSE, kind::MS_CHAP2_RESPONSE, kind::MS_CHAP2_CPW] {
        assert_eq!(read(kind, None), Ok("ms-chap"));
        assert_eq!(read(kind, Some("sesame")), Err(RequestError::SeveralCredentials));
    }
    assert_eq!(read(kind::MS_CHAP_NT_ENC_PW, None), Ok("none"));
}

#[test]
fn a_domain_before_the_name_is_left_out_of_the_hash() {
    // R-57, B-27: the domain form is a normal login.
    assert_eq!(without_domain(r"ACME\ann"), "ann");
    assert_eq!(without_domain(r"ACME\an\n"), r"an\n");
    assert_eq!(without_domain("ann@acme.example"), "ann@acme.example");
    assert_eq!(client(r"ACME\ann").nt_response(), client("ann").nt_response());
    assert_ne!(client("ann").nt_response(), client("Ann").nt_response());
}

#[test]
fn an_error_of_ours_never_invites_another_try() {
    // R-58, RFC 2759 section 6
    let challenge = [0xa5; 16];
    let value = failure(9, FailureCode::AuthenticationFailure, &challenge, "No.").expect("it fits");
    assert_eq!(value, b"\x09E=691 R=0 C=A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5 V=3 M=No.");
    for number in [646, 647, 648, 649, 691, 709] {
        assert!(!matches!(FailureCode::from(number), FailureCode::Other(_)));
        assert_eq!(FailureCode::from(number).number(), number);
    }
    let longest = "m".repeat(247 - 52);
    let value = failure(9, FailureCode::PasswordExpired, &challenge, &longest).expect("it fits");
    assert_eq!((value.len(), attribute(kind::MS_CHAP_ERROR, &value).expect("it fits").len()), (247, 253));
    let too_long = Err(WriteError::ValueTooLong(AttributeType::VENDOR_SPECIFIC));
    assert_eq!(failure(9, FailureCode::PasswordExpired, &challenge, &format!("{longest}m")), too_long);
    assert_eq!(attribute(kind::MS_CHAP_ERROR, &[0; 248]), too_long);
}

#[test]
fn an_error_of_a_home_server_is_read_as_far_as_it_can_be() {
    let read = Failure::read(b"\x01E=648 R=1 C=000102030405060708090a0B0c0D0e0f V=3 M=Passwort abgelaufen");
    let challenge = std::array::from_fn(|position| position as u8);
    assert_eq!(
        read,
        Some(Failure {
            ident: 1,
            code: FailureCode::PasswordExpired,
            may_retry: true,
            challenge: Some(challenge),
            message: b"Passwort abgelaufen"
        })
    );
    // FreeRADIUS leaves the message out; version 1 has a challenge of eight octets.
    let read = Failure::read(b"\x00E=691 R=0 C=0001020304050607 V=2").expect("a code");
    assert_eq!((read.code, read.challenge, read.message), (FailureCode::AuthenticationFailure, None, b"".as_slice()));
    let read = Failure::read(b"\x00E=5").expect("a code");
    assert_eq!(read.code, FailureCode::Other(5));
    for none in [b"".as_slice(), b"\x01", b"\x01R=0", b"\x01E=", b"\x01E=+5", b"\x01E=99999999999", b"\x01M=E=691"] {
        assert_eq!(Failure::read(none), None, "{none:?}");
    }
}

#[test]
fn a_client_is_told_to_use_128_bits() {
    // RFC 2548 sections 2.4.4 and 2.4.5
    assert_eq!(EncryptionPolicy::Allowed.value(), [0, 0, 0, 1]);
    assert_eq!(EncryptionPolicy::Required.value(), [0, 0, 0, 2]);
    assert_eq!(ENCRYPTION_TYPES, [0, 0, 0, 4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn client_and_server_agree_when_they_know_the_same_password(password in "\\PC{0,40}", other in "\\PC{0,40}", name in "[^\\\\\0]{1,30}", domain in "[A-Z]{0,8}", challenge: [u8; 16], peer_challenge: [u8; 16], number: u8) {
        // RFC 2759 sections 8.1, 8.7 and 8.8; RFC 3079 section 3.3
        let client = Client { user_name: &name, challenge, peer_challenge, hash: PasswordHash::of(&password) };
        let octets = request(&[(kind::MS_CHAP_CHALLENGE, &challenge), (kind::MS_CHAP2_RESPONSE, &client.response(number))]);
        let read = MsChap::read(&packet(&octets));
        let Ok(MsChap::V2(v2)) = read else { panic!("version 2") };
        prop_assert_eq!((v2.ident, v2.challenge, v2.peer_challenge), (number, &challenge, &peer_challenge));
        prop_assert_eq!(ident(&packet(&octets)), number);
        // The server was told the name with a domain.
        let typed = format!("{domain}\\{name}");
        let right = |v2: &V2<'_>, password: &str| {
            PasswordHash::of(password).challenge_response(&v2.challenge_hash(&typed)) == *v2.nt_response
        };
        prop_assert!(right(&v2, &password));
        prop_assert_eq!(right(&v2, &other), password == other);
        let hash = PasswordHash::of(&password).hash();
        let success = v2.success(&typed, &hash);
        prop_assert!(client.accepts(number, &success));
        prop_assert!(!client.accepts(number.wrapping_add(1), &success));
        prop_assert!(!client.accepts(number, &success[..42]));
        let impostor = v2.success(&typed, &PasswordHashHash::new([0; 16]));
        prop_assert!(!client.accepts(number, &impostor));
        let (ours, theirs) = (v2.keys(&hash), client.keys());
        prop_assert!(*ours.send == *theirs.send && *ours.recv == *theirs.recv && *ours.send != *ours.recv);
    }

    #[test]
    fn an_error_is_read_as_it_was_written(number: u8, code: u32, challenge: [u8; 16], message in "\\PC{0,40}") {
        let code = FailureCode::from(code);
        let value = failure(number, code, &challenge, &message).expect("it fits");
        let expected = Failure { ident: number, code, may_retry: false, challenge: Some(challenge), message: message.as_bytes() };
        prop_assert_eq!(Failure::read(&value), Some(expected));
    }

    #[test]
    fn random_attributes_of_microsoft_never_panic(attributes in prop::collection::vec((1u8..30, prop::collection::vec(any::<u8>(), 0..80)), 0..5)) {
        let attributes: Vec<_> = attributes.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
        let octets = request(&attributes);
        let _none = MsChap::read(&packet(&octets));
        ident(&packet(&octets));
    }
}
