//! What a KDC, or somebody in its place, answers; and a keytab.
//!
//! Properties: nobody without the account's key gives a ticket, whatever they send; one proof of the key is sent and no second one; a keytab
//! that was read has a key for its account.
#![no_main]

use kerberos::{Credential, Encryption, Key, Keytab, Login, Principal, Step, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let Some((&part, input)) = octets.split_first() else { return };
    if let Ok(keytab) = Keytab::parse(input) {
        assert!(!keytab.keys(keytab.principal()).is_empty());
    }
    let keys = Encryption::ALL.into_iter().filter_map(|encryption| {
        let length = if encryption == Encryption::Aes256 { 32 } else { 16 };
        Key::new(encryption, &vec![part; length])
    });
    let credential = Credential::Keys(keys.collect());
    let mut login = Login::new(Principal::user("ann", "LAB.TEST"), credential, |octets| octets.fill(7));
    let now = Timestamp { seconds: 1_800_000_000, micros: 5 };
    let (first, second) = input.split_at(input.len().min(usize::from(part) * 8));
    let mut proofs = 0;
    for reply in [input, first, second, input] {
        match login.next(reply, now) {
            Ok(Step::Granted(_)) => panic!("nobody here knows the key"),
            Ok(Step::Ask(_)) => proofs += 1,
            Err(error) => drop(error.to_string()),
        }
    }
    assert!(proofs <= 1);
});
