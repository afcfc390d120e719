//! What holds for any octets and any values.

use proptest::prelude::*;
use radius_wire::{
    AccessRequest, Attribute, AttributeType, Charset, Credentials, Datagram, ExchangeKey, Fingerprint, KeyRing, Packet,
    PasswordError, Port, Reply, Request, RequestCode, Rule, Rules, Secret, State, Transport, verify_request,
    write_unsigned,
};

const PORTS: [Port; 4] = [Port::Authentication, Port::Accounting, Port::AuthenticationReplies, Port::AccountingReplies];

/// Everything that can be done with octets from anybody.
fn use_it_all(octets: &[u8], port: Port) {
    let Ok(packet) = Datagram::new(octets).and_then(|datagram| datagram.packet(port, 200)) else { return };
    for attribute in packet.attributes() {
        attribute.integer();
        attribute.vendor().map(|vendor| vendor.attributes().count());
    }
    packet.nas_ip_address();
    packet.nas_ipv6_address();
    let secret = Secret::new("xyzzy5461").expect("not empty");
    let open = Rules { message_authenticator: Rule::No, limit_proxy_state: Rule::No };
    let Ok(verified) = verify_request(packet, (&secret).into(), open) else { return };
    let _too_long = Reply::Reject { message: "no" }.write(&verified);
    if let Ok(AccessRequest { credentials: Credentials::Pap(hidden), .. }) = AccessRequest::read(&verified) {
        let _wrong = hidden.reveal(Charset::Utf8);
    }
}

fn any_attributes() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    prop::collection::vec((1u8..=255, prop::collection::vec(any::<u8>(), 0..=253)), 0..14)
        .prop_map(|attributes| attributes.into_iter().filter(|(kind, _)| *kind != 80).collect())
}

fn borrowed(attributes: &[(u8, Vec<u8>)]) -> Vec<Attribute<'_>> {
    attributes.iter().map(|(kind, value)| Attribute { kind: AttributeType(*kind), value }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..300), port in 0usize..4) {
        //
        use_it_all(&octets, PORTS[port]);
    }

    #[test]
    fn octets_with_a_plausible_header_never_panic(mut octets in prop::collection::vec(any::<u8>(), 20..400), code in 0u8..14, port in 0usize..4) {
        // random octets seldom get past the Length.
        let [high, low] = (octets.len() as u16).to_be_bytes();
        octets[..4].copy_from_slice(&[code, 1, high, low]);
        use_it_all(&octets, PORTS[port]);
    }

    #[test]
    fn what_is_written_is_read_and_written_again_the_same(attributes in any_attributes(), identifier: u8, authenticator: [u8; 16], padding in prop::collection::vec(any::<u8>(), 0..40)) {
        // unknown and malformed values pass byte for byte. Step 5: padding is ignored.
        let attributes = borrowed(&attributes);
        let written = write_unsigned(1, identifier, &authenticator, attributes.iter().copied()).expect("it fits");
        let padded = [written.as_slice(), &padding].concat();
        let packet = Packet::parse(&padded, Port::Authentication).expect("well formed");
        prop_assert_eq!(packet.octets(), &written);
        prop_assert_eq!(packet.identifier(), identifier);
        prop_assert!(packet.attributes().eq(attributes));
        let again = write_unsigned(packet.code() as u8, packet.identifier(), packet.authenticator(), packet.attributes());
        prop_assert_eq!(again, Ok(written));
    }

    #[test]
    fn a_password_comes_out_as_it_went_in(password in "[^\0]{0,40}", secret in "[ -~]{1,40}", authenticator: [u8; 16]) {
        // RFC 2865 section 5.2, R-23
        let secret = Secret::new(secret).expect("not empty");
        let attributes = [Attribute { kind: AttributeType::USER_NAME, value: b"nemo" }];
        let request = Request { code: RequestCode::AccessRequest, identifier: 1, authenticator, attributes: &attributes, password: Some(&password) };
        if password.len() > 128 {
            prop_assert!(request.write(&secret).is_err());
            return Ok(());
        }
        let octets = request.write(&secret).expect("it fits");
        prop_assert_eq!(octets.get(20..22), Some([80u8, 18].as_slice()));
        let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
        let Ok(verified) = verify_request(packet, (&secret).into(), Rules::default()) else { panic!("it is signed") };
        let Ok(AccessRequest { credentials: Credentials::Pap(hidden), .. }) = AccessRequest::read(&verified) else { panic!("it has a password") };
        let Ok(revealed) = hidden.reveal(Charset::Utf8) else { panic!("it opens") };
        prop_assert_eq!(revealed.expose(), password.as_str());
        prop_assert_eq!(revealed.is_empty(), password.is_empty());
    }

    #[test]
    fn a_hidden_password_of_another_size_than_blocks_is_refused(octets in prop::collection::vec(any::<u8>(), 0..=253)) {
        //
        let secret = Secret::new("xyzzy5461").expect("not empty");
        let attributes = [(1, b"nemo".to_vec()), (2, octets.clone())];
        let written = write_unsigned(1, 1, &[0; 16], borrowed(&attributes)).expect("it fits");
        let packet = Packet::parse(&written, Port::Authentication).expect("well formed");
        let open = Rules { message_authenticator: Rule::No, limit_proxy_state: Rule::No };
        let Ok(verified) = verify_request(packet, (&secret).into(), open) else { panic!("nothing is required") };
        let Ok(AccessRequest { credentials: Credentials::Pap(hidden), .. }) = AccessRequest::read(&verified) else { panic!("it has a password") };
        let allowed = (16..=128).contains(&octets.len()) && octets.len() % 16 == 0;
        prop_assert_eq!(hidden.reveal(Charset::Latin1).err() == Some(PasswordError::Length), !allowed);
    }

    #[test]
    fn a_state_opens_only_unaltered_and_at_its_client(transaction: [u8; 16], user: [u8; 16], step: u16, expires in 1u64.., nonce: [u8; 12], client: Vec<u8>, other: Vec<u8>, bit in 0usize..75 * 8) {
        //
        let ring = KeyRing::new(1, &[7; 32]);
        let state = State { transaction, user, step, expires_unix_seconds: expires };
        let mut sealed = ring.seal(&state, &client, nonce);
        prop_assert_eq!(ring.open(&sealed, &client, expires - 1), Ok(state));
        prop_assert!(client == other || ring.open(&sealed, &other, expires - 1).is_err());
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(ring.open(&sealed, &client, expires - 1).is_err());
    }
}

#[test]
fn an_ipv4_address_in_ipv6_form_is_the_same_source() {
    // A1 step 2: a dual-stack socket must not make a duplicate look new.
    let secret = Secret::new("xyzzy5461").expect("not empty");
    let status = Request {
        code: RequestCode::StatusServer,
        identifier: 9,
        authenticator: [1; 16],
        attributes: &[],
        password: None,
    };
    let octets = status.write(&secret).expect("it fits");
    let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
    let Ok(verified) = verify_request(packet, (&secret).into(), Rules::default()) else { panic!("it is signed") };
    let listener = "[::]:1812".parse().expect("an address");
    let key = |source: &str| ExchangeKey::new(listener, Transport::Udp, source.parse().expect("an address"), &verified);
    assert_eq!(key("[::ffff:192.0.2.1]:1645"), key("192.0.2.1:1645"));
    assert_eq!(key("192.0.2.1:1645").shared(), "udp-c0000201-1645-12-9");
    assert_eq!(Fingerprint::of(&verified).authenticator, [1; 16]);
}
