//! Any attributes, read by name and hidden anew for the next hop. Input: a Request Authenticator, then attributes.
//!
//! Nothing is lost on the way, nothing but what is hidden changes, and what was hidden anew opens at the next hop.
#![no_main]

use libfuzzer_sys::fuzz_target;
use radius_wire::{
    Attribute, AttributeType, Definition, Dictionary, HidingKey, Item, OwnedAttribute, Rehide, Salts, Secret,
};
use std::sync::LazyLock;

static DICTIONARY: LazyLock<Dictionary> = LazyLock::new(|| {
    let text = "VENDOR Aone 99001 format=2,2\n\
        BEGIN-VENDOR Aone\n\
        ATTRIBUTE Aone-Zone 258 string\n\
        END-VENDOR Aone\n\
        VENDOR Btwo 99002 format=4,0\n\
        BEGIN-VENDOR Btwo\n\
        ATTRIBUTE Btwo-Secret 0x00020304 octets encrypt=2\n\
        END-VENDOR Btwo\n\
        VENDOR Dfour 99004 format=1,1,c\n\
        BEGIN-VENDOR Dfour\n\
        ATTRIBUTE Dfour-Zone 1 string\n\
        ATTRIBUTE Dfour-Secret 2 octets encrypt=2\n\
        END-VENDOR Dfour\n\
        ATTRIBUTE Local-Long-Secret 246.60 octets encrypt=2\n\
        ATTRIBUTE Local-Box 245.203 tlv\n\
        ATTRIBUTE Local-Box-Inner 245.203.1 tlv\n\
        ATTRIBUTE Local-Box-Secret 245.203.1.1 octets has_tag,encrypt=2\n";
    Dictionary::shipped().with("local", text).expect("a dictionary")
});

fuzz_target!(|octets: &[u8]| {
    let Some((authenticator, rest)) = octets.split_first_chunk::<16>() else { return };
    let (secret, next_secret) = (Secret::new("xyzzy5461").expect("not empty"), Secret::new("next").expect("not empty"));
    let from = HidingKey { secret: &secret, authenticator };
    let to = HidingKey { secret: &next_secret, authenticator: &[7; 16] };
    let attributes = attributes(rest);
    let items = DICTIONARY.items(attributes.iter().copied());
    for item in &items {
        let (_name, text) = (item.name(), item.text());
        assert!(!text.is_some_and(|text| text.chars().any(char::is_control)), "a log line stays one line");
    }
    assert!(items.len() <= rest.len(), "no more values than octets");
    let mut rehide = Rehide::new(&DICTIONARY, from, to, Salts::new(0x7ff0));
    let anew = |attribute: &Attribute<'_>| {
        let value = rehide.value(*attribute).ok()?.into_owned();
        Some(OwnedAttribute { kind: attribute.kind, value })
    };
    let Some(forwarded) = attributes.iter().map(anew).collect::<Option<Vec<_>>>() else { return };
    let forwarded: Vec<_> = forwarded.iter().map(OwnedAttribute::attribute).collect();
    assert!(forwarded.iter().map(size).eq(attributes.iter().map(size)));
    let after = DICTIONARY.items(forwarded.iter().copied());
    assert_eq!(items.len(), after.len());
    items.iter().zip(&after).for_each(|(before, after)| same(before, after, from, to));
});

fn same(before: &Item<'_, '_>, after: &Item<'_, '_>, from: HidingKey<'_>, to: HidingKey<'_>) {
    assert_eq!((before.place, before.tag), (after.place, after.tag));
    match before.definition.and_then(Definition::hiding) {
        None => assert_eq!(before.octets, after.octets),
        Some(hiding) => {
            let clear = hiding.reveal(&before.octets, from).expect("it was opened once");
            assert!(hiding.reveal(&after.octets, to).is_ok_and(|again| again == clear));
        }
    }
}

fn size(attribute: &Attribute<'_>) -> (AttributeType, usize) {
    (attribute.kind, attribute.value.len())
}

fn attributes(mut octets: &[u8]) -> Vec<Attribute<'_>> {
    let mut attributes = Vec::new();
    while let Some((&[kind, length], rest)) = octets.split_first_chunk::<2>() {
        let Some((value, rest)) = rest.split_at_checked(usize::from(length).saturating_sub(2)) else { break };
        attributes.push(Attribute { kind: AttributeType(kind), value });
        octets = rest;
    }
    attributes
}
