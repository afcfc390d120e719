//! A distinguished name as text (RFC 4514), as clients type it.
//!
//! Properties: a name that was understood is the same when it is printed and read again; its key is a name with the same key;
//! it is within itself and within its parent, never within its child.
#![no_main]

use ldap_wire::Dn;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = ldap_wire::dn::is_dn_shaped(text);
    let Ok(dn) = text.parse::<Dn>() else { return };
    let again = dn.to_string().parse::<Dn>();
    assert_eq!(again.as_ref().map(Dn::key), Ok(dn.key()));
    let key: Dn = dn.key().as_str().parse().expect("a key is a name");
    assert_eq!(key.key(), dn.key());
    assert_eq!(again.as_ref(), Ok(&dn));
    let child = dn.child("cn", input);
    assert!(dn.is_within(&dn) && child.is_within(&dn) && !dn.is_within(&child));
    assert_eq!(child.to_string().parse::<Dn>().map(|child| child.key()), Ok(child.key()));
});
