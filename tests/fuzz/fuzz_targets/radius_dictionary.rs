//! Any text as a dictionary file. What is taken is consistent: every name and place leads somewhere, every value that
//! can be written is read again at the same place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use radius_wire::{Dictionary, HidingKey, OwnedAttribute, Pair, PairFault, Salts, Secret};
use std::sync::LazyLock;

/// Small, because it is copied for every input.
static BASE: LazyLock<Dictionary> = LazyLock::new(|| {
    let text = "ATTRIBUTE User-Password 2 string encrypt=1\n\
        ATTRIBUTE Service-Type 6 integer\n\
        ATTRIBUTE Vendor-Specific 26 vsa\n\
        ATTRIBUTE Extended-Attribute-1 241 extended\n\
        ATTRIBUTE Extended-Attribute-5 245 long-extended\n\
        ATTRIBUTE Extended-Vendor-Specific-1 241.26 evs\n\
        ATTRIBUTE Extended-Vendor-Specific-5 245.26 evs\n\
        VENDOR Cisco 9\n";
    Dictionary::default().with("base", text).expect("a dictionary")
});

fuzz_target!(|octets: &[u8]| {
    let text = String::from_utf8_lossy(octets);
    // The second half can be included by the first, and by itself.
    let (first, second) = text.split_once("$$").unwrap_or((&text, ""));
    match BASE.with_includes("fuzz", first, |name| (name != "absent").then(|| second.to_owned())) {
        Ok(dictionary) => consistent(&dictionary),
        Err(error) => {
            assert!(error.line >= 1 && error.line <= text.lines().count().max(1));
            assert!(!error.to_string().chars().any(char::is_control), "an error commands no terminal");
        }
    }
});

fn consistent(dictionary: &Dictionary) {
    let secret = Secret::new("xyzzy5461").expect("not empty");
    let key = HidingKey { secret: &secret, authenticator: &[5; 16] };
    for definition in dictionary.definitions() {
        assert_eq!(dictionary.by_name(&definition.name().to_uppercase()), Some(definition));
        let read = dictionary.by_place(definition.place()).expect("its place is known");
        assert_eq!(definition.hiding(), read.hiding(), "hiding is the same by any name");
        for text in ["1", "192.0.2.1", "2001:db8::/32", "0x0102030405060708", "0:1:2:3", "00:01:02:03:04:05"] {
            let pairs = [Pair { name: definition.name(), text }; 2];
            let attributes = match dictionary.attributes(&pairs, Some(key), &mut Salts::new(3)) {
                Ok(attributes) => attributes,
                Err(error) => {
                    assert!(matches!(error.fault, PairFault::Value(_)), "{error}");
                    continue;
                }
            };
            assert!(attributes.iter().all(|attribute| attribute.value.len() <= 253));
            let items = dictionary.items(attributes.iter().map(OwnedAttribute::attribute));
            if read == definition && !definition.concat() && definition.values().next().is_none() {
                holds_them(definition, text, &items);
            }
        }
    }
}

fn holds_them(definition: &radius_wire::Definition, text: &str, items: &[radius_wire::Item<'_, '_>]) {
    use radius_wire::ValueType::{Evs, Extended, LongExtended, Tlv, Vsa};
    // These are written as octets, and read as what is inside.
    if matches!(definition.value_type(), Evs | Extended | LongExtended | Tlv | Vsa) {
        return;
    }
    assert_eq!(items.len(), 2, "{} = {text}: {items:?}", definition.name());
    for item in items {
        assert_eq!(*item.place, *definition.place());
        if definition.hiding().is_none() {
            let written = definition.encode(text).expect("it was written");
            let read = item.text().expect("it is not hidden");
            assert_eq!(definition.encode(&read), Ok(written), "{} = {text}", definition.name());
        }
    }
}
