//! A filter and an entry: an octet of rules, the filter as text (RFC 4515) up to an octet of zero, then `name=value` up to zeros.
//!
//! Properties: nothing panics; of a filter and its negation at most one is said to fit, and where one fits the other does not; who fits
//! one of two fits either of them; what is said without knowing what was asked for is said with it, too.
#![no_main]

use bytes::Bytes;
use ldap_wire::{Attribute, Filter, Fit, Rules, SearchResultEntry, Seen};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&kind, input)) = input.split_first() else { return };
    let mut parts = input.split(|octet| *octet == 0);
    let Some(filter) = parts.next().and_then(|text| std::str::from_utf8(text).ok()?.parse::<Filter>().ok()) else {
        return;
    };
    let rules = [Rules::Microsoft, Rules::Ds389, Rules::Standard, Rules::Other][usize::from(kind % 4)];
    let mut entry = SearchResultEntry { dn: Bytes::new(), attributes: Vec::new() };
    for part in parts {
        let Some(at) = part.iter().position(|octet| *octet == b'=') else { continue };
        let Ok(name) = std::str::from_utf8(&part[..at]) else { continue };
        let value = Bytes::copy_from_slice(&part[at + 1..]);
        match entry.attributes.iter_mut().find(|it| it.description == name) {
            Some(attribute) => attribute.values.push(value),
            None => entry.attributes.push(Attribute::new(name, vec![value])),
        }
    }
    let asked = filter.attributes_to_evaluate(rules);
    let seen = Seen { rules, asked: &asked };
    let fit = filter.fit(&entry, &seen);
    let negated = Filter::not(filter.clone()).fit(&entry, &seen);
    assert!(fit != Fit::Yes || negated == Fit::No, "{filter}");
    assert!(negated != Fit::Yes || fit == Fit::No, "{filter}");
    let either = Filter::or([filter.clone(), Filter::present("cn")]).fit(&entry, &seen);
    assert!(fit != Fit::Yes || either == Fit::Yes, "{filter}");
    let both = Filter::and([filter.clone(), Filter::present("cn")]).fit(&entry, &seen);
    assert!(fit != Fit::No || both == Fit::No, "{filter}");
    // Nobody was asked: what is absent is not known to be.
    let unasked = filter.fit(&entry, &Seen { rules, asked: &[] });
    assert!(unasked == Fit::Unknown || unasked == fit, "{filter}");
});
