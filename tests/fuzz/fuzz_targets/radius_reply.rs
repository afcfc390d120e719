//! A request goes on to a home server and its answer comes back. The first octet chooses the Code of the answer and how much
//! of the input is the request; the rest are attributes, taken as they are and signed as the two ends would.
//!
//! Nothing is lost, added or put in another order on either way, and nothing leaves that a reply of that Code must not carry.
#![no_main]

use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use md5::{Digest, Md5};
use radius_wire::{
    AccountingRequest, Attribute, AttributeType, Code, Datagram, Forward, HomeReply, LoopTag, Packet, Port, Relay,
    Reply, Rewrite, Rule, Rules, Secret, Sent, Verdict, Verified, WriteError, eap, verify_reply, verify_request,
};

const CLIENT: &[u8] = b"between client and us";
const HOME: &[u8] = b"between us and the home server";

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, cut], octets)) = input.split_first_chunk::<2>() else { return };
    let (of_request, of_reply) = octets.split_at((usize::from(cut) * 8).min(octets.len()));
    let accounting = kind & 4 != 0;
    let request = signed(if accounting { 4 } else { 1 }, of_request, &[0; 16], CLIENT);
    let port = if accounting { Port::Accounting } else { Port::Authentication };
    let Ok(packet) = Datagram::new(&request).and_then(|datagram| datagram.packet(port, 2000)) else { return };
    let secret = secret(CLIENT);
    let verified = verify_request(packet, (&secret).into(), Rules::default()).expect("it was signed");
    if accounting {
        let report = AccountingRequest::read(&verified).expect("it is one");
        assert_ne!(report.session_id, Some(&[][..]));
    }
    let Some(sent) = forward(&verified) else { return };
    let code = match (accounting, kind & 3) {
        (true, _) => Code::AccountingResponse,
        (false, 0) => Code::AccessReject,
        (false, 1) => Code::AccessChallenge,
        (false, _) => Code::AccessAccept,
    };
    relay(&verified, code, of_reply, sent);
});

/// To the home server. None where it refuses to be written.
fn forward(request: &Verified<'_>) -> Option<Sent> {
    let tag = LoopTag::new(&[5; 32]);
    let mark = tag.mark([6; 8]);
    let home = secret(HOME);
    let forward =
        Forward { request, identifier: 9, authenticator: [8; 16], secret: &home, proxy_state: &mark, password: None };
    let octets = forward.write(&mut |_| Rewrite::Keep).ok()?;
    let packet = request.packet();
    let found = Datagram::new(&octets).and_then(|datagram| datagram.packet(packet.port(), 2000)).expect("well formed");
    let at_home = verify_request(found, (&home).into(), Rules::default()).expect("the home server believes it");
    assert!(tag.is_on(at_home.packet()) && !tag.is_on(packet));
    let own = |packet: &Packet<'_>| -> Vec<(u8, Vec<u8>)> {
        let others = packet.attributes().filter(|attribute| ![2, 60, 80].contains(&attribute.kind.0));
        others.map(|attribute| (attribute.kind.0, attribute.value.to_vec())).collect()
    };
    let mut expected = own(packet);
    expected.push((33, mark.to_vec()));
    assert_eq!(own(&found), expected);
    Sent::of(&octets)
}

/// And back.
fn relay(request: &Verified<'_>, code: Code, attributes: &[u8], sent: Sent) {
    let octets = signed(code as u8, attributes, &sent.authenticator, HOME);
    let octets = [&[octets[0], sent.identifier], &octets[2..]].concat();
    let octets = answered(octets, &sent.authenticator, HOME);
    let port = if code == Code::AccountingResponse { Port::AccountingReplies } else { Port::AuthenticationReplies };
    let Ok(packet) = Datagram::new(&octets).and_then(|datagram| datagram.packet(port, 2000)) else { return };
    let reply = HomeReply::verify(&packet, sent, &secret(HOME), Rule::Yes).expect("it was signed");
    let _any = (reply.user_name(), reply.eap_identifier(), eap::message(&packet));
    let relayed = match (reply.relayed(&mut |_| Rewrite::Keep), reply.verdict()) {
        (Err(error), Verdict::Contradiction | Verdict::NotRecorded) => {
            return assert_eq!(error, WriteError::Contradiction);
        }
        (Err(error), _) => panic!("{error}"),
        (Ok(relayed), verdict) => {
            assert!(!matches!(verdict, Verdict::Contradiction | Verdict::NotRecorded));
            relayed
        }
    };
    let class = [Attribute { kind: AttributeType::CLASS, value: &[1; 253] }; 3];
    let added = if code == Code::AccessAccept { &class[..] } else { &[] };
    let write = |added| Reply::Relay(Relay { relayed: &relayed, message: None, added }).write(request);
    let written = match write(added) {
        Err(WriteError::PacketTooLong) => write(&[]),
        written => written,
    };
    let octets = match written {
        Err(WriteError::PacketTooLong) => return,
        written => written.expect("what came in goes out"),
    };
    let found = Datagram::new(&octets).and_then(|datagram| datagram.packet(port, 2000)).expect("well formed");
    let to_client = Sent::of(request.packet().octets()).expect("a packet");
    assert_eq!(verify_reply(&found, &to_client, &secret(CLIENT), Rule::Yes), Ok(()));
    assert!(
        found.all(AttributeType::PROXY_STATE).eq(request.packet().all(AttributeType::PROXY_STATE)),
        "the client's own, all of them"
    );
    let has_eap = found.has(AttributeType::EAP_MESSAGE);
    assert!(!(has_eap && found.has(AttributeType::REPLY_MESSAGE)), "R-54");
    let only = |allowed: &[u8]| found.attributes().all(|attribute| allowed.contains(&attribute.kind.0));
    match code {
        Code::AccessReject => assert!(only(&[18, 26, 33, 79, 80, 101]), "R-66"),
        Code::AccountingResponse => assert!(only(&[26, 33]), "RFC 2866 section 5.13"),
        _ => {
            for kind in [AttributeType::STATE, AttributeType::EAP_MESSAGE] {
                assert!(found.all(kind).eq(packet.all(kind)));
            }
        }
    }
}

/// A packet with these attributes behind a Message-Authenticator. An Accounting-Request is computed over zeros.
fn signed(code: u8, attributes: &[u8], authenticator: &[u8; 16], secret: &[u8]) -> Vec<u8> {
    let length = 38 + attributes.len();
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let octets = [&[code, 9, high, low], &authenticator[..], &[80, 18], &[0; 16], attributes].concat();
    if code == 4 { answered(octets, &[0; 16], secret) } else { with_signature(octets, secret) }
}

/// Signature, then the authenticator: that of a reply or of an Accounting-Request.
fn answered(mut octets: Vec<u8>, authenticator: &[u8; 16], secret: &[u8]) -> Vec<u8> {
    octets[4..20].copy_from_slice(authenticator);
    octets[22..38].fill(0);
    let mut octets = with_signature(octets, secret);
    let digest = Md5::new().chain_update(&octets).chain_update(secret).finalize();
    octets[4..20].copy_from_slice(&digest);
    octets
}

fn with_signature(mut octets: Vec<u8>, secret: &[u8]) -> Vec<u8> {
    let signature = Hmac::<Md5>::new_from_slice(secret).expect("any key").chain_update(&octets).finalize();
    octets[22..38].copy_from_slice(&signature.into_bytes());
    octets
}

fn secret(octets: &[u8]) -> Secret {
    Secret::new(octets).expect("not empty")
}
