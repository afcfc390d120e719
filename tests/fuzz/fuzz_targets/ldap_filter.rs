//! A search filter: the first octet says whether it is text (RFC 4515) or BER (RFC 4511 section 4.5.1.7).
//!
//! Properties: a filter that was understood is the same when it is printed or encoded and read again, and is within the bounds;
//! the check that builds nothing refuses nothing that can be built.
#![no_main]

use ldap_wire::Filter;
use ldap_wire::filter::{DEPTH_MAX, check};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, input)) = input.split_first() else { return };
    let filter = match (kind % 2, std::str::from_utf8(input)) {
        (0, Ok(text)) => text.parse::<Filter>().ok(),
        (0, Err(_)) => return,
        _ => Filter::from_ber(input).ok(),
    };
    let checked = check(input);
    let Some(filter) = filter else { return };
    assert!(kind % 2 == 0 || checked.is_ok());
    assert!(depth(&filter) <= DEPTH_MAX);
    assert_eq!(filter.to_string().parse::<Filter>().as_ref(), Ok(&filter));
    assert_eq!(Filter::from_ber(&filter.to_ber()), Ok(filter));
});

fn depth(filter: &Filter) -> usize {
    1 + match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().map(depth).max().unwrap_or(0),
        Filter::Not(filter) => depth(filter),
        _ => 0,
    }
}
