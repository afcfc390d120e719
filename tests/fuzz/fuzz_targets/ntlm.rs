//! A server's NTLM challenge, and what it says it has sealed.
//!
//! Properties: a challenge that was read is answered, with every field inside the message; what was not sealed by whoever has the key is
//! not read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ntlm::{Account, Challenge, ChannelBinding, Fresh, Layer};

fuzz_target!(|octets: &[u8]| {
    let Some((&part, input)) = octets.split_first() else { return };
    let layer = if part & 1 == 0 { Layer::None } else { Layer::Sealed };
    let Ok(challenge) = Challenge::parse(input, layer) else { return };
    let account = Account { user: "ann", domain: "lab.test", password: "sesame" };
    let fresh = Fresh { client_challenge: [part; 8], session_key: [part; 16].into(), time: 0 };
    let binding = ChannelBinding::tls_server_end_point(&[part; 32]);
    let answer = challenge.answer(&account, "ldap/dc", Some(&binding), layer, &fresh).expect("short names");
    let fields = answer.message.get(12..60).expect("six fields").as_chunks::<8>().0;
    let end = fields.iter().fold(88, |at, [a, b, _, _, offset @ ..]| {
        assert_eq!(u32::from_le_bytes(*offset) as usize, at);
        at + usize::from(u16::from_le_bytes([*a, *b]))
    });
    assert_eq!(end, answer.message.len());
    assert_eq!(answer.session.is_some(), layer == Layer::Sealed);
    if let Some(mut session) = answer.session {
        assert!(session.unseal(&mut input.to_vec()).is_err());
        assert!(session.check_mic(b"mechanisms", input).is_err());
    }
});
