//! Hostile octets against the SMPP codec: whatever reads is written, and reads the same again; a frame is never longer than allowed.
#![no_main]

#[allow(dead_code)]
#[path = "../../../services/verification/src/providers/sms/pdu.rs"]
mod pdu;

use libfuzzer_sys::fuzz_target;
use pdu::{HEADER_BYTES, PDU_BYTES_MAX, Pdu, frame};

fuzz_target!(|octets: &[u8]| {
    // As they come: the length field is the fuzzer's to get right.
    if let Ok(Some(length)) = frame(octets) {
        assert!((HEADER_BYTES..=PDU_BYTES_MAX).contains(&length));
    }
    reads_as_written(octets);
    // With a length that is right, so that most runs reach the fields.
    let Some((command, rest)) = octets.split_first() else { return };
    let mut whole = (HEADER_BYTES as u32 + rest.len() as u32).to_be_bytes().to_vec();
    whole.extend([command & 0x80, 0, 0, command & 0x1f, 0, 0, 0, 0, 0, 0, 0, 1]);
    whole.extend(rest);
    reads_as_written(&whole);
});

fn reads_as_written(octets: &[u8]) {
    if let Ok(pdu) = Pdu::decode(octets) {
        assert_eq!(Pdu::decode(&pdu.encode()), Ok(pdu));
    }
}
