//! Any octets in any pieces: what comes out of the stream is what the Lengths say, however it was cut, and nothing after the
//! first wrong one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use radius_wire::{
    AccessRequest, AccountingRequest, BrokenStream, Packet, PacketStream, Port, Rules, Secret, verify_request,
};

fuzz_target!(|input: &[u8]| {
    let Some((&cut, octets)) = input.split_first() else { return };
    let (mut stream, mut found, mut broken) = (PacketStream::default(), Vec::new(), false);
    let mut rest = octets;
    let mut size = usize::from(cut);
    while !rest.is_empty() {
        size = size * 7 % 509 + 1; // pieces of all sizes
        let (mut piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        loop {
            match stream.next(&mut piece) {
                Ok(Some(packet)) => {
                    assert!(!broken);
                    read(packet);
                    found.push(packet.to_vec());
                }
                Ok(None) => break,
                Err(BrokenStream) => {
                    broken = true;
                    break;
                }
            }
        }
        assert!(broken || piece.is_empty(), "all of it was taken");
    }
    let (expected, left, wrong) = at_once(octets);
    assert_eq!((&found, broken), (&expected, wrong));
    assert!(broken || stream.is_inside_packet() == (left > 0));
});

/// As the connection does with what comes out.
fn read(octets: &[u8]) {
    for port in [Port::Authentication, Port::Accounting, Port::AuthenticationReplies] {
        let Ok(packet) = Packet::parse(octets, port) else { continue };
        assert_eq!(packet.octets(), octets, "a packet of a stream has no padding");
        if let Ok(request) = verify_request(packet, (&Secret::radsec()).into(), Rules::default()) {
            let _any = (AccessRequest::read(&request).is_ok(), AccountingRequest::read(&request).is_ok());
        }
    }
}

/// The same with everything at hand: the packets, the octets that are left, whether a Length was wrong.
fn at_once(mut octets: &[u8]) -> (Vec<Vec<u8>>, usize, bool) {
    let mut packets = Vec::new();
    while let [_, _, high, low, ..] = *octets {
        let length = usize::from(high) << 8 | usize::from(low);
        if !(20..=4096).contains(&length) {
            return (packets, octets.len(), true);
        }
        let Some((packet, rest)) = octets.split_at_checked(length) else { break };
        packets.push(packet.to_vec());
        octets = rest;
    }
    (packets, octets.len(), false)
}
