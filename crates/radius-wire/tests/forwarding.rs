//! A request on its way to a home server and the answer on its way back, read at each end by who would read it there.

use proptest::prelude::*;
use radius_wire::{
    AccessRequest, Attribute, AttributeType, Charset, Code, Credentials, DropReason, Forward, HomeReply, LoopTag,
    Packet, Port, Relay, Reply, Request, RequestCode, Rewrite, Rule, Rules, Secret, Sent, Verdict, WriteError, eap,
    verify_reply, verify_request, write_unsigned,
};

const FROM_CLIENT: Sent = Sent { identifier: 77, authenticator: [3; 16] };
const OURS: &[u8] = b"our own mark";
const OPEN: Rules = Rules { message_authenticator: Rule::No, limit_proxy_state: Rule::No };

const CLIENT_SECRET: &[u8] = b"between client and us";
const HOME_SECRET: &[u8] = b"between us and the home server";

fn client_secret() -> Secret {
    Secret::new(CLIENT_SECRET).expect("not empty")
}

fn home_secret() -> Secret {
    Secret::new(HOME_SECRET).expect("not empty")
}

type Attributes = Vec<(u8, Vec<u8>)>;

fn borrowed(attributes: &[(u8, Vec<u8>)]) -> Vec<Attribute<'_>> {
    attributes.iter().map(|(kind, value)| Attribute { kind: AttributeType(*kind), value }).collect()
}

fn listed(packet: &Packet<'_>) -> Attributes {
    packet.attributes().map(|attribute| (attribute.kind.0, attribute.value.to_vec())).collect()
}

fn keep(_: Attribute<'_>) -> Rewrite {
    Rewrite::Keep
}

/// The client's request, signed or not.
fn from_client(attributes: &[(u8, Vec<u8>)], password: Option<&str>, signed: bool) -> Vec<u8> {
    let attributes = borrowed(attributes);
    let Sent { identifier, authenticator } = FROM_CLIENT;
    if signed {
        let code = RequestCode::AccessRequest;
        let request = Request { code, identifier, authenticator, attributes: &attributes, password };
        return request.write(&client_secret()).expect("it fits");
    }
    assert!(password.is_none(), "only signed requests have one here");
    write_unsigned(1, identifier, &authenticator, attributes).expect("it fits")
}

/// What is sent to the home server for that request.
fn forwarded(
    request: &[u8],
    password: Option<&[u8]>,
    rewrite: &mut dyn FnMut(Attribute<'_>) -> Rewrite,
) -> Result<Vec<u8>, WriteError> {
    let secret = client_secret();
    let port = if request.first() == Some(&4) { Port::Accounting } else { Port::Authentication };
    let packet = Packet::parse(request, port).expect("well formed");
    let verified = verify_request(packet, (&secret).into(), OPEN).unwrap_or_else(|reason| panic!("{reason}"));
    Forward {
        request: &verified,
        identifier: 200,
        authenticator: [8; 16],
        secret: &home_secret(),
        proxy_state: OURS,
        password,
    }
    .write(rewrite)
}

/// What the home server reads. It demands a signature where it may.
fn at_home<T>(octets: &[u8], look: impl FnOnce(&Packet<'_>, Option<AccessRequest<'_>>) -> T) -> T {
    let secret = home_secret();
    let port = if octets.first() == Some(&4) { Port::Accounting } else { Port::Authentication };
    let packet = Packet::parse(octets, port).expect("well formed");
    let verified =
        verify_request(packet, (&secret).into(), Rules::default()).unwrap_or_else(|reason| panic!("{reason}"));
    look(&packet, AccessRequest::read(&verified).ok())
}

fn password_at_home(octets: &[u8]) -> Option<String> {
    at_home(octets, |_, access| match access?.credentials {
        Credentials::Pap(hidden) => Some(hidden.reveal(Charset::Utf8).ok()?.expose().to_owned()),
        _ => None,
    })
}

#[test]
fn a_password_is_hidden_anew_and_everything_else_goes_on_in_order() {
    //
    let attributes = vec![
        (1, b"nemo".to_vec()),
        (33, b"first hop".to_vec()),
        (24, b"state".to_vec()),
        (33, b"first hop".to_vec()),
        (26, b"\0\0\x01\x37opaque".to_vec()),
        (4, b"wrong size".to_vec()),
    ];
    let request = from_client(&attributes, Some("arctangent"), true);
    let octets = forwarded(&request, None, &mut keep).expect("it fits");
    assert_eq!((octets[0], octets[1], octets[20], octets[21]), (1, 200, 80, 18));
    assert_eq!(octets[4..20], [8; 16]);
    assert_eq!(password_at_home(&octets).as_deref(), Some("arctangent"));
    at_home(&octets, |packet, _| {
        let all = listed(packet);
        assert_eq!(all[1..7], attributes);
        assert_eq!(all[7].0, 2);
        assert_eq!(all[8..], [(33, OURS.to_vec())]);
    });
}

#[test]
fn passwords_of_every_length_arrive_and_a_broken_one_is_refused() {
    //
    for length in [1, 15, 16, 17, 127, 128] {
        let password = "p".repeat(length);
        let request = from_client(&[(1, b"nemo".to_vec())], Some(&password), true);
        let octets = forwarded(&request, None, &mut keep).expect("it fits");
        assert_eq!(password_at_home(&octets), Some(password));
    }
    for length in [0, 15, 17, 144] {
        let request = from_client(&[(1, b"nemo".to_vec()), (2, vec![7; length])], None, false);
        assert_eq!(forwarded(&request, None, &mut keep), Err(WriteError::NoPassword), "{length}");
    }
}

#[test]
fn a_password_without_its_appended_code_takes_the_place_of_the_whole() {
    // B7, R-23
    let request = from_client(&[(1, b"nemo".to_vec())], Some("arctangent123456"), true);
    let octets = forwarded(&request, Some(b"arctangent"), &mut keep).expect("it fits");
    assert_eq!(password_at_home(&octets).as_deref(), Some("arctangent"));
    assert_eq!(forwarded(&request, Some(&[b'p'; 129]), &mut keep), Err(WriteError::PasswordTooLong));
    let chap = from_client(&[(1, b"nemo".to_vec()), (3, vec![1; 17])], None, true);
    assert_eq!(forwarded(&chap, Some(b"arctangent"), &mut keep), Err(WriteError::NoPassword));
}

#[test]
fn chap_keeps_the_challenge_it_answered() {
    // with the authenticator as challenge, and with one of its own.
    let chap = (3, vec![1; 17]);
    let octets = forwarded(&from_client(std::slice::from_ref(&chap), None, true), None, &mut keep).expect("it fits");
    at_home(&octets, |packet, _| {
        assert_eq!(listed(packet)[1..], [chap.clone(), (60, vec![3; 16]), (33, OURS.to_vec())]);
    });
    let own = [(60, vec![9; 20]), chap];
    let octets = forwarded(&from_client(&own, None, true), None, &mut keep).expect("it fits");
    at_home(&octets, |packet, _| assert_eq!(listed(packet)[1..3], own));
}

#[test]
fn a_forwarded_request_has_the_secrets_that_another_proxy_would_write() {
    // the same requests of radclient, forwarded by FreeRADIUS 3.2.1, which adds a Proxy-State of its own too.
    const PAP: &str = "01150052e44a5ece3e739838c716285513afdfee01136e656d6f406261636b2e6578616d706c6502\
        12de7acd5bc495ea01723f59ebd7763f6b2107666972737450129cb1cd60b684c710664de4d30469\
        b528";
    const PAP_FORWARDED: &str = "01fb0049bfa0245662a81949085bc8cdb62facc601066e656d6f021262d71bb751372f7d320f3f63\
        cf7b45302107666972737450123dba7eefe864cc2e14d1cf49c008bf4921043231";
    const CHAP: &str = "0129005367dba6fbe90cd9e5fe192bbfdcefb19a01136e656d6f406261636b2e6578616d706c6503\
        13e6b315c03fd2e84ee03bd32e25008b2af62107666972737450124cc6ca30b99808d95d0cf8a329\
        4a5d7f";
    const CHAP_FORWARDED: &str = "016b005cfcc7f203b61690cb6f0d4524070a709d01066e656d6f0313e6b315c03fd2e84ee03bd32e\
        25008b2af6210766697273745012cf3dac3f6d2b21d377328f8442aeafc03c1267dba6fbe90cd9e5\
        fe192bbfdcefb19a21043431";
    let (client, home) =
        (Secret::new("xyzzy5461").expect("not empty"), Secret::new("between two hops").expect("not empty"));
    for (request, theirs) in [(PAP, PAP_FORWARDED), (CHAP, CHAP_FORWARDED)] {
        let (request, theirs) = (octets(request), octets(theirs));
        let packet = Packet::parse(&request, Port::Authentication).expect("well formed");
        let verified = verify_request(packet, (&client).into(), Rules::default()).unwrap_or_else(|r| panic!("{r}"));
        let theirs = Packet::parse(&theirs, Port::Authentication).expect("well formed");
        let ours = Forward {
            request: &verified,
            identifier: theirs.identifier(),
            authenticator: *theirs.authenticator(),
            secret: &home,
            proxy_state: theirs.all(AttributeType::PROXY_STATE).last().expect("it has one"),
            password: None,
        };
        let ours = ours.write(&mut keep).expect("it fits");
        let ours = Packet::parse(&ours, Port::Authentication).expect("well formed");
        for kind in [2, 3, 60, 33].map(AttributeType) {
            assert!(ours.all(kind).eq(theirs.all(kind)), "{kind:?}");
        }
    }
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

#[test]
fn an_accounting_request_is_signed_by_its_authenticator() {
    // R-86, RFC 2866 section 3
    let attributes = vec![(1, b"nemo".to_vec()), (40, vec![0, 0, 0, 1]), (44, vec![]), (33, b"hop".to_vec())];
    let request = accounting_request(&attributes);
    let octets = forwarded(&request, None, &mut keep).expect("it fits");
    assert_eq!((octets[0], octets[1]), (4, 200));
    at_home(&octets, |packet, access| {
        assert!(access.is_none());
        assert_eq!(listed(packet), [attributes, vec![(33, OURS.to_vec())]].concat());
    });
}

/// As a device without Message-Authenticator makes it.
fn accounting_request(attributes: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut octets = write_unsigned(4, FROM_CLIENT.identifier, &[0; 16], borrowed(attributes)).expect("it fits");
    put_authenticator(&mut octets, CLIENT_SECRET);
    octets
}

/// The digest over what stands there.
fn put_authenticator(octets: &mut [u8], secret: &[u8]) {
    use md5::{Digest, Md5};
    let authenticator = Md5::new().chain_update(&*octets).chain_update(secret).finalize();
    octets[4..20].copy_from_slice(&authenticator);
}

/// The Message-Authenticator, which is the first attribute.
fn put_signature(octets: &mut [u8], secret: &[u8]) {
    use hmac::{Hmac, KeyInit, Mac};
    let signature = Hmac::<md5::Md5>::new_from_slice(secret).expect("any key").chain_update(&*octets).finalize();
    octets[22..38].copy_from_slice(&signature.into_bytes());
}

#[test]
fn a_signed_accounting_request_stays_a_signed_one() {
    // with an EAP-Message, which has no business there, the next hop demands a signature (RFC 3579 section 3.1).
    let attributes = [(80, vec![0; 16]), (79, vec![]), (44, b"17".to_vec())];
    let mut request = write_unsigned(4, FROM_CLIENT.identifier, &[0; 16], borrowed(&attributes)).expect("it fits");
    put_signature(&mut request, CLIENT_SECRET);
    put_authenticator(&mut request, CLIENT_SECRET);
    let octets = forwarded(&request, None, &mut keep).expect("it fits");
    assert_eq!(octets[20..22], [80, 18]);
    at_home(&octets, |packet, _| assert_eq!(packet.attributes().count(), 4));
}

#[test]
fn status_server_is_never_forwarded() {
    //
    let Sent { identifier, authenticator } = FROM_CLIENT;
    let code = RequestCode::StatusServer;
    let request = Request { code, identifier, authenticator, attributes: &[], password: None }
        .write(&client_secret())
        .expect("it fits");
    assert_eq!(forwarded(&request, None, &mut keep), Err(WriteError::NotForwarded));
}

#[test]
fn an_attribute_is_rewritten_or_dropped_where_the_hook_says_so() {
    // What is not the hook's to judge it never sees.
    let attributes =
        vec![(69, b"hidden".to_vec()), (25, b"class".to_vec()), (6, vec![0, 0, 0, 6]), (33, b"hop".to_vec())];
    let request = from_client(&attributes, Some("arctangent"), true);
    let mut asked = Vec::new();
    let octets = forwarded(&request, None, &mut |attribute| {
        asked.push(attribute.kind.0);
        match attribute.kind.0 {
            69 => Rewrite::Value(b"hidden anew".to_vec()),
            6 => Rewrite::Drop,
            _ => Rewrite::Keep,
        }
    });
    assert_eq!(asked, [69, 25, 6]);
    at_home(&octets.expect("it fits"), |packet, _| {
        let kept = [(69, b"hidden anew".to_vec()), (25, b"class".to_vec()), (33, b"hop".to_vec())];
        assert_eq!(listed(packet)[1..4], kept);
    });
    let too_long = forwarded(&request, None, &mut |_| Rewrite::Value(vec![1; 254]));
    assert_eq!(too_long, Err(WriteError::ValueTooLong(AttributeType(69))));
}

#[test]
fn a_request_that_outgrows_a_packet_is_an_error() {
    //
    let with_class = |length| {
        let attributes = [vec![(33, vec![1; 253]); 15], vec![(25, vec![1; length])]].concat();
        forwarded(&from_client(&attributes, Some("p"), true), None, &mut keep).map(|octets| octets.len())
    };
    assert_eq!(with_class(199), Ok(4096));
    assert_eq!(with_class(200), Err(WriteError::PacketTooLong), "our mark does not fit any more");
}

#[test]
fn a_request_that_came_round_in_a_circle_is_recognised() {
    // B-33
    let tag = LoopTag::new(&[5; 32]);
    let on = |tag: &LoopTag, value: &[u8]| {
        let octets = from_client(&[(33, b"hop".to_vec()), (33, value.to_vec()), (33, vec![])], None, false);
        tag.is_on(&Packet::parse(&octets, Port::Authentication).expect("well formed"))
    };
    let mark = tag.mark([1; 8]);
    assert!(on(&tag, &mark));
    assert!(on(&LoopTag::new(&[5; 32]), &mark), "any node of ours");
    assert!(!on(&LoopTag::new(&[6; 32]), &mark));
    assert!(!on(&tag, &mark[..LoopTag::OCTETS - 1]));
    assert!(!on(&tag, &[&mark[..], &[0]].concat()));
    for bit in 0..LoopTag::OCTETS * 8 {
        let mut changed = mark;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!on(&tag, &changed), "bit {bit}");
    }
}

/// The request that a home server answers here.
const TO_HOME: Sent = Sent { identifier: 200, authenticator: [8; 16] };

/// A home server's answer, signed as such.
fn home_reply(code: Code, attributes: &[(u8, Vec<u8>)]) -> HomeReply {
    let octets = home_octets(code, attributes);
    let port = if code == Code::AccountingResponse { Port::AccountingReplies } else { Port::AuthenticationReplies };
    let packet = Packet::parse(&octets, port).expect("well formed");
    HomeReply::verify(&packet, TO_HOME, &home_secret(), Rule::Yes).unwrap_or_else(|reason| panic!("{reason}"))
}

fn home_octets(code: Code, attributes: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let all = [vec![(80, vec![0; 16])], attributes.to_vec()].concat();
    let Sent { identifier, authenticator } = TO_HOME;
    let mut octets = write_unsigned(code as u8, identifier, &authenticator, borrowed(&all)).expect("it fits");
    put_signature(&mut octets, HOME_SECRET);
    put_authenticator(&mut octets, HOME_SECRET);
    octets
}

/// What the client reads when the home server's answer is relayed to it. It has verified.
fn at_client(
    request: &[u8],
    reply: &HomeReply,
    relay: impl Fn(&radius_wire::Relayed) -> Result<Vec<u8>, WriteError>,
) -> Result<Attributes, WriteError> {
    let octets = relay(&reply.relayed(&mut keep)?)?;
    let accounting = request[0] == 4;
    let port = if accounting { Port::AccountingReplies } else { Port::AuthenticationReplies };
    let packet = Packet::parse(&octets, port).expect("well formed");
    let sent = Sent::of(request).expect("a packet");
    assert_eq!(verify_reply(&packet, &sent, &client_secret(), Rule::Yes), Ok(()));
    assert_eq!(packet.code(), reply.packet().code());
    let mut all = listed(&packet);
    if !accounting {
        assert_eq!(all.remove(0).0, 80, "R-11");
    }
    Ok(all)
}

fn answer(request: &[u8], reply: Reply<'_>) -> Result<Vec<u8>, WriteError> {
    let secret = client_secret();
    let port = if request.first() == Some(&4) { Port::Accounting } else { Port::Authentication };
    let packet = Packet::parse(request, port).expect("well formed");
    let verified = verify_request(packet, (&secret).into(), OPEN).unwrap_or_else(|reason| panic!("{reason}"));
    reply.write(&verified)
}

fn plain<'a>(relayed: &'a radius_wire::Relayed) -> Relay<'a> {
    Relay { relayed, message: None, added: &[] }
}

fn relayed(request: &[u8], reply: &HomeReply) -> Result<Attributes, WriteError> {
    at_client(request, reply, |relayed| answer(request, Reply::Relay(plain(relayed))))
}

const EAP_SUCCESS: [u8; 4] = [3, 9, 0, 4];
const EAP_REQUEST: [u8; 6] = [1, 9, 0, 6, 13, 32];

#[test]
fn an_accept_goes_on_as_it_came_with_the_proxy_states_of_the_client() {
    // order and copies kept, our mark gone, the client's marks back, equal ones included.
    let marks = [(33, b"a".to_vec()), (33, vec![7; 253]), (33, b"a".to_vec())];
    let request = from_client(&marks, None, true);
    let inside = vec![(25, b"two".to_vec()), (6, vec![0, 0, 0, 2]), (25, b"one".to_vec()), (25, b"one".to_vec())];
    let home = [inside.clone(), marks.to_vec(), vec![(33, OURS.to_vec()), (24, b"state".to_vec())]].concat();
    let found = relayed(&request, &home_reply(Code::AccessAccept, &home)).expect("it fits");
    assert_eq!(found, [inside, vec![(24, b"state".to_vec())], marks.to_vec()].concat());
    // A server that brings none back changes nothing for the client.
    let found = relayed(&request, &home_reply(Code::AccessAccept, &[(25, b"one".to_vec())])).expect("it fits");
    assert_eq!(found, [vec![(25, b"one".to_vec())], marks.to_vec()].concat());
}

#[test]
fn eap_goes_on_untouched_and_no_text_stands_beside_it() {
    //
    let long: Vec<u8> = [&[1, 9, 3, 232][..], &[13; 996]].concat();
    let pieces: Attributes = eap::attributes(&long).map(|piece| (79, piece.value.to_vec())).collect();
    let home = [vec![(18, b"hello".to_vec()), (24, vec![5; 253])], pieces.clone()].concat();
    let request = from_client(&[(79, vec![])], None, true);
    let challenge = home_reply(Code::AccessChallenge, &home);
    let expected = [vec![(24, vec![5; 253])], pieces].concat();
    assert_eq!(relayed(&request, &challenge), Ok(expected.clone()));
    let with_text = |relayed: &radius_wire::Relayed| {
        answer(&request, Reply::Relay(Relay { message: Some("ours"), ..plain(relayed) }))
    };
    assert_eq!(at_client(&request, &challenge, with_text), Ok(expected));
}

#[test]
fn the_hook_cannot_touch_state_class_and_eap() {
    // RFC 2865 section 2.3
    let home = vec![(24, b"s".to_vec()), (25, b"c".to_vec()), (79, EAP_SUCCESS.to_vec()), (6, vec![0, 0, 0, 6])];
    let reply = home_reply(Code::AccessAccept, &home);
    let relayed = reply.relayed(&mut |_| Rewrite::Drop).expect("it fits");
    let octets = answer(&from_client(&[], None, true), Reply::Relay(plain(&relayed))).expect("it fits");
    let packet = Packet::parse(&octets, Port::AuthenticationReplies).expect("well formed");
    assert_eq!(listed(&packet)[1..], home[..3]);
}

#[test]
fn a_reject_carries_only_what_a_reject_may() {
    //
    let ms_chap_error = (26, b"\0\0\x01\x37\x02\x10\x01E=648 R=0 V=3".to_vec());
    let home = vec![
        (1, b"nemo".to_vec()),
        (24, b"state".to_vec()),
        (25, b"class".to_vec()),
        (18, b"account locked".to_vec()),
        ms_chap_error.clone(),
        (26, b"\0\0\x01\x37\x10\x06keys".to_vec()),
        (26, b"\0\0\x01\x37\x02\x03E\x10\x06keys".to_vec()),
        (101, vec![0, 0, 1, 0xf4]),
        (27, vec![0, 0, 0, 9]),
    ];
    let request = from_client(&[(33, b"hop".to_vec())], None, true);
    let reject = home_reply(Code::AccessReject, &home);
    let (cause, hop) = ((101, vec![0, 0, 1, 0xf4]), (33, b"hop".to_vec()));
    let message = (18, b"account locked".to_vec());
    assert_eq!(relayed(&request, &reject), Ok(vec![message, ms_chap_error.clone(), cause.clone(), hop.clone()]));
    // Our uniform text in place of what the server said.
    let uniform = |relayed: &radius_wire::Relayed| {
        answer(&request, Reply::Relay(Relay { message: Some("no"), ..plain(relayed) }))
    };
    assert_eq!(at_client(&request, &reject, uniform), Ok(vec![ms_chap_error, cause, (18, b"no".to_vec()), hop]));
}

#[test]
fn what_contradicts_itself_is_never_relayed() {
    // B-26, R-53, RFC 3579 section 2.6.3
    let state = (24, b"s".to_vec());
    let eap = |packet: &[u8]| (79, packet.to_vec());
    let failure = eap::failure(9);
    for (code, attributes, expected) in [
        (Code::AccessAccept, vec![], Verdict::Accept),
        (Code::AccessAccept, vec![eap(&EAP_SUCCESS)], Verdict::Accept),
        (Code::AccessAccept, vec![eap(&failure)], Verdict::Contradiction),
        (Code::AccessAccept, vec![eap(&EAP_REQUEST)], Verdict::Contradiction),
        (Code::AccessAccept, vec![eap(&[3, 9, 0, 5])], Verdict::Contradiction),
        (Code::AccessAccept, vec![eap(&[])], Verdict::Contradiction),
        (Code::AccessChallenge, vec![state.clone(), eap(&EAP_REQUEST)], Verdict::Challenge),
        (Code::AccessChallenge, vec![state.clone()], Verdict::Challenge),
        (Code::AccessChallenge, vec![], Verdict::Contradiction),
        (Code::AccessChallenge, vec![state.clone(), state.clone()], Verdict::Contradiction),
        (Code::AccessChallenge, vec![state.clone(), eap(&EAP_SUCCESS)], Verdict::Contradiction),
        (Code::AccessChallenge, vec![state, eap(&failure)], Verdict::Contradiction),
        (Code::AccessReject, vec![], Verdict::Reject),
        (Code::AccessReject, vec![eap(&failure)], Verdict::Reject),
        (Code::AccessReject, vec![eap(&EAP_SUCCESS)], Verdict::Contradiction),
        (Code::AccountingResponse, vec![], Verdict::Recorded),
    ] {
        let reply = home_reply(code, &attributes);
        assert_eq!(reply.verdict(), expected, "{code:?} {attributes:?}");
        let contradiction = reply.relayed(&mut keep).err() == Some(WriteError::Contradiction);
        assert_eq!(contradiction, expected == Verdict::Contradiction);
    }
}

#[test]
fn a_no_after_an_eap_success_is_an_eap_failure_and_nothing_else() {
    // Identifier of the parked EAP-Success; no key, no text.
    let accept =
        home_reply(Code::AccessAccept, &[(79, EAP_SUCCESS.to_vec()), (26, b"\0\0\x01\x37\x10\x06keys".to_vec())]);
    let identifier = accept.eap_identifier().expect("it has one");
    let octets = answer(&from_client(&[(33, b"hop".to_vec())], None, true), Reply::RejectEap { identifier });
    let octets = octets.expect("it fits");
    let packet = Packet::parse(&octets, Port::AuthenticationReplies).expect("well formed");
    assert_eq!(packet.code(), Code::AccessReject);
    assert_eq!(listed(&packet)[1..], [(79, vec![4, 9, 0, 4]), (33, b"hop".to_vec())]);
}

#[test]
fn a_no_to_ms_chap_has_its_error() {
    //
    let reply = Reply::RejectMsChap { error: b"\x01E=691 R=0 V=3", message: "no" };
    let octets = answer(&from_client(&[], None, true), reply).expect("it fits");
    let packet = Packet::parse(&octets, Port::AuthenticationReplies).expect("well formed");
    let expected = [(26, b"\0\0\x01\x37\x02\x10\x01E=691 R=0 V=3".to_vec()), (18, b"no".to_vec())];
    assert_eq!((packet.code(), &listed(&packet)[1..]), (Code::AccessReject, &expected[..]));
}

#[test]
fn what_does_not_fit_is_said_and_nothing_is_left_out() {
    // R-06, B-29: 4096 - 20 - 18 - 14 * 255 = 488 octets for the rest.
    let request = from_client(&vec![(33, vec![1; 253]); 14], None, true);
    let accept = home_reply(Code::AccessAccept, &[(25, vec![2; 198]), (24, vec![3; 98])]); // 300
    let value = [4; 92]; // 94 octets with its head: two fit
    let mapped = |kind| Attribute { kind: AttributeType(kind), value: &value };
    let write = |added: &[Attribute<'_>]| {
        let kinds = |all: Attributes| all.iter().map(|(kind, _)| *kind).filter(|kind| *kind != 33).collect::<Vec<_>>();
        at_client(&request, &accept, |relayed| answer(&request, Reply::Relay(Relay { added, ..plain(relayed) })))
            .map(kinds)
    };
    assert_eq!(write(&[mapped(11), mapped(12)]), Ok(vec![25, 24, 11, 12]));
    assert_eq!(write(&[mapped(11), mapped(12), mapped(13)]), Err(WriteError::PacketTooLong));
}

#[test]
fn no_text_is_added_beside_eap() {
    // R-54, RFC 3579 section 2.6.5: one mapped from a group
    let added = [(18, &b"welcome"[..]), (25, b"staff")];
    let added = added.map(|(kind, value)| Attribute { kind: AttributeType(kind), value });
    let request = from_client(&[], None, true);
    let success = (79, EAP_SUCCESS.to_vec());
    for (attributes, kinds) in [(vec![success], vec![79, 25]), (vec![], vec![18, 25])] {
        let accept = home_reply(Code::AccessAccept, &attributes);
        let all = at_client(&request, &accept, |relayed| {
            answer(&request, Reply::Relay(Relay { added: &added, ..plain(relayed) }))
        });
        let found: Vec<_> = all.expect("it fits").iter().map(|(kind, _)| *kind).collect();
        assert_eq!(found, kinds);
    }
}

#[test]
fn only_an_accept_gets_more_attributes() {
    //
    let class = [Attribute { kind: AttributeType::CLASS, value: b"x" }];
    let request = from_client(&[], None, true);
    for (code, attributes) in [(Code::AccessReject, vec![]), (Code::AccessChallenge, vec![(24, b"s".to_vec())])] {
        let relayed = home_reply(code, &attributes).relayed(&mut keep).expect("it fits");
        let relay = Relay { added: &class, ..plain(&relayed) };
        assert_eq!(answer(&request, Reply::Relay(relay)), Err(WriteError::Reserved(AttributeType::CLASS)));
    }
}

#[test]
fn an_accounting_response_is_signed_by_its_authenticator_alone() {
    //
    let request = accounting_request(&[(44, b"17".to_vec()), (33, b"hop".to_vec())]);
    let recorded = home_reply(Code::AccountingResponse, &[(33, OURS.to_vec())]);
    assert_eq!(relayed(&request, &recorded), Ok(vec![(33, b"hop".to_vec())]));
    let octets = answer(&request, Reply::Recorded).expect("it fits");
    let packet = Packet::parse(&octets, Port::AccountingReplies).expect("well formed");
    let sent = Sent::of(&request).expect("a packet");
    assert_eq!(verify_reply(&packet, &sent, &client_secret(), Rule::Yes), Ok(()));
    assert_eq!(listed(&packet), [(33, b"hop".to_vec())]);
}

#[test]
fn an_accounting_response_takes_along_what_a_vendor_says_and_nothing_else() {
    // RFC 2866 section 5.13. An EAP-Message would also ask for a Message-Authenticator, which ours does not carry.
    let request = accounting_request(&[(44, b"17".to_vec())]);
    let vendor = (26, vec![0, 0, 0, 9, 1, 3, b'x']);
    let others =
        [(79, vec![4, 1, 0, 4]), (18, b"hello".to_vec()), (25, b"c".to_vec()), (24, b"s".to_vec()), vendor.clone()];
    assert_eq!(relayed(&request, &home_reply(Code::AccountingResponse, &others)), Ok(vec![vendor]));
}

#[test]
fn an_accounting_response_with_an_error_acknowledges_nothing() {
    // R-86, RFC 6614 section 2.5: 406, Unsupported Extension
    let request = accounting_request(&[(44, b"17".to_vec())]);
    let error = home_reply(Code::AccountingResponse, &[(101, vec![0, 0, 1, 0x96])]);
    assert_eq!(error.verdict(), Verdict::NotRecorded);
    assert_eq!(relayed(&request, &error), Err(WriteError::Contradiction));
}

#[test]
fn an_answer_of_the_other_kind_cannot_be_written() {
    let (access, accounting) = (from_client(&[], None, true), accounting_request(&[]));
    let recorded = home_reply(Code::AccountingResponse, &[]).relayed(&mut keep).expect("it fits");
    let accept = home_reply(Code::AccessAccept, &[]).relayed(&mut keep).expect("it fits");
    let other = Err(WriteError::OtherKindOfRequest);
    assert_eq!(answer(&access, Reply::Recorded), other);
    assert_eq!(answer(&access, Reply::Relay(plain(&recorded))), other);
    assert_eq!(answer(&accounting, Reply::Relay(plain(&accept))), other);
    assert_eq!(answer(&accounting, Reply::Reject { message: "no" }), other);
}

#[test]
fn a_reply_counts_only_when_signed_and_for_that_very_request() {
    // R-12, B-14
    let octets = home_octets(Code::AccessAccept, &[]);
    let packet = Packet::parse(&octets, Port::AuthenticationReplies).expect("well formed");
    let verify = |sent, secret: &Secret| HomeReply::verify(&packet, sent, secret, Rule::Yes).err();
    assert_eq!(verify(TO_HOME, &home_secret()), None);
    assert_eq!(verify(TO_HOME, &client_secret()), Some(DropReason::MaBad));
    assert_eq!(verify(Sent { authenticator: [9; 16], ..TO_HOME }, &home_secret()), Some(DropReason::MaBad));
    assert_eq!(verify(Sent { identifier: 1, ..TO_HOME }, &home_secret()), Some(DropReason::RaBad));
}

#[test]
fn the_home_server_says_who_was_let_in_or_nobody_does() {
    //
    let said = |names: &[&[u8]]| {
        let attributes: Attributes = names.iter().map(|name| (1, name.to_vec())).collect();
        home_reply(Code::AccessAccept, &attributes).user_name()
    };
    assert_eq!(said(&[b"victim@example.org"]).as_deref(), Some("victim@example.org"));
    assert_eq!((said(&[]), said(&[b"one", b"two"])), (None, None));
    for name in ["".as_bytes(), b"a\0b", b"a\x1bb", b"\xff"] {
        assert_eq!(said(&[name]), None);
    }
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    prop::collection::vec((1u8..=255, prop::collection::vec(any::<u8>(), 0..=253)), 0..12)
        .prop_map(|attributes| attributes.into_iter().filter(|(kind, _)| ![2, 3, 60, 79, 80].contains(kind)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_goes_on_arrives_in_order_and_verifies(attributes in any_attributes(), password in "[^\0]{1,30}") {
        //
        let request = from_client(&attributes, Some(&password), true);
        let octets = forwarded(&request, None, &mut keep).expect("it fits");
        prop_assert_eq!(octets.get(20..22), Some([80u8, 18].as_slice()));
        at_home(&octets, |packet, _| {
            let all = listed(packet);
            assert_eq!(all[1..=attributes.len()], attributes);
            assert_eq!(all[attributes.len() + 2..], [(33, OURS.to_vec())]);
        });
    }

    #[test]
    fn whatever_comes_back_is_relayed_in_order_and_verifies(inside in any_attributes(), marks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8)) {
        let marks: Attributes = marks.into_iter().map(|mark| (33, mark)).collect();
        let request = from_client(&marks, None, true);
        let expected = [inside.iter().filter(|(kind, _)| *kind != 33).cloned().collect(), marks.clone()].concat();
        let home = [inside, vec![(33, OURS.to_vec())]].concat();
        prop_assert_eq!(relayed(&request, &home_reply(Code::AccessAccept, &home)), Ok(expected));
    }
}
