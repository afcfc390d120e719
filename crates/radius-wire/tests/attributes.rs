//! Every block of tests/vectors/radius_attributes.vec, written, read and hidden anew; and what holds for any attributes.
//! The file explains its own form.

use proptest::prelude::*;
use radius_wire::{
    Attribute, AttributeType, Definition, Dictionary, Hiding, HidingError, HidingKey, Item, OwnedAttribute, Pair,
    PairFault, Rehide, RehideError, Salts, Secret, ValueError, ValueType,
};
use std::borrow::Cow;
use std::error::Error;
use std::sync::LazyLock;

const LOCAL: &str = "
VENDOR Aone 99001 format=2,2
BEGIN-VENDOR Aone
ATTRIBUTE Aone-Zone 258 string
ATTRIBUTE Aone-Level 772 integer
END-VENDOR Aone
VENDOR Btwo 99002 format=4,0
BEGIN-VENDOR Btwo
ATTRIBUTE Btwo-Zone 0x00020304 string
END-VENDOR Btwo
VENDOR Cthree 99003 format=2,1
BEGIN-VENDOR Cthree
ATTRIBUTE Cthree-Signed 1 signed
ATTRIBUTE Cthree-Short 2 short
ATTRIBUTE Cthree-Byte 3 byte
ATTRIBUTE Cthree-Long 4 integer64
END-VENDOR Cthree
VENDOR Dfour 99004 format=1,1,c
BEGIN-VENDOR Dfour
ATTRIBUTE Dfour-Zone 1 string
END-VENDOR Dfour
VENDOR FreeRADIUS 11344
BEGIN-VENDOR FreeRADIUS format=Extended-Vendor-Specific-5
ATTRIBUTE FreeRADIUS-802.1X-Anonce 1 octets
ATTRIBUTE FreeRADIUS-802.1X-EAPoL-Key-Msg 2 octets
END-VENDOR FreeRADIUS
ATTRIBUTE Local-Long-Secret 246.60 octets encrypt=2
ATTRIBUTE Local-Combo 241.201 combo-ip
ATTRIBUTE Local-Tagged 241.202 octets has_tag
ATTRIBUTE Local-Box 245.203 tlv
ATTRIBUTE Local-Box-Inner 245.203.1 tlv
ATTRIBUTE Local-Box-Number 245.203.1.1 integer
ATTRIBUTE Local-Box-Text 245.203.2 string
";

static DICTIONARY: LazyLock<Dictionary> =
    LazyLock::new(|| Dictionary::shipped().with("local", LOCAL).unwrap_or_else(|error| panic!("{error}")));
static SECRET: LazyLock<Secret> = LazyLock::new(|| Secret::new("xyzzy5461").expect("not empty"));
static NEXT_SECRET: LazyLock<Secret> = LazyLock::new(|| Secret::new("the next hop's").expect("not empty"));
const NEXT_AUTHENTICATOR: [u8; 16] = [7; 16];

fn next_key() -> HidingKey<'static> {
    HidingKey { secret: &NEXT_SECRET, authenticator: &NEXT_AUTHENTICATOR }
}

#[test]
fn every_vector_becomes_what_it_says() {
    let vectors = vectors();
    assert!(vectors.len() > 55, "only {} vectors were found", vectors.len());
    for vector in &vectors {
        assert!(!vector.all("cite").is_empty(), "[{}] cites nothing", vector.name);
        let authenticator =
            vector.all("authenticator").first().map_or([0; 16], |hex| octets(hex).try_into().expect("16 octets"));
        let key = HidingKey { secret: &SECRET, authenticator: &authenticator };
        let octets = octets(vector.all("attributes").first().expect("attributes"));
        let attributes = split(&octets);
        if vector.all("pair").is_empty() {
            vector.check_items(&attributes);
            vector.check_rehide(&attributes, key);
        } else {
            vector.check_pairs(&attributes, key);
        }
    }
}

impl Vector {
    /// FreeRADIUS's octets are ours, ours are FreeRADIUS's, and what is hidden opens.
    fn check_pairs(&self, attributes: &[Attribute<'_>], key: HidingKey<'_>) {
        let pairs: Vec<Pair<'_>> = self.all("pair").iter().map(|pair| parse_pair(pair)).collect();
        let written = write(&pairs, key);
        let salted = attributes.iter().any(|attribute| read_one(*attribute).any(|item| is_salted(&item)));
        if !salted {
            let written: Vec<_> = written.iter().map(OwnedAttribute::attribute).collect();
            assert_eq!(written, attributes, "[{}]", self.name);
        }
        for attributes in [attributes.to_vec(), written.iter().map(OwnedAttribute::attribute).collect()] {
            let items = DICTIONARY.items(attributes.iter().copied());
            let found: Vec<_> = items.iter().map(|item| shown(item, Some(key))).collect();
            assert_eq!(found, self.all("pair"), "[{}]", self.name);
            let forwarded = rehide(&attributes, key, next_key()).unwrap_or_else(|error| panic!("{error}"));
            let items = DICTIONARY.items(forwarded.iter().map(OwnedAttribute::attribute));
            let found: Vec<_> = items.iter().map(|item| shown(item, Some(next_key()))).collect();
            assert_eq!(found, self.all("pair"), "[{}] at the next hop", self.name);
        }
    }

    fn check_items(&self, attributes: &[Attribute<'_>]) {
        let items = DICTIONARY.items(attributes.iter().copied());
        let found: Vec<_> = items.iter().map(|item| shown(item, None)).collect();
        assert_eq!(found, self.all("item"), "[{}]", self.name);
    }

    fn check_rehide(&self, attributes: &[Attribute<'_>], key: HidingKey<'_>) {
        let forwarded = rehide(attributes, key, next_key());
        let found = match &forwarded {
            Ok(forwarded) if forwarded.iter().map(OwnedAttribute::attribute).eq(attributes.iter().copied()) => {
                "unchanged".to_owned()
            }
            Ok(_) => "anew".to_owned(),
            Err(error) => format!("{}: {}", error.name, error.cause),
        };
        assert_eq!(found, self.all("rehide").join("\n"), "[{}]", self.name);
        if let Ok(forwarded) = forwarded {
            let forwarded: Vec<_> = forwarded.iter().map(OwnedAttribute::attribute).collect();
            same_but_for_what_is_hidden(attributes, &forwarded, key);
        }
    }
}

/// Every octet that is not hidden is what it was, and what is hidden has the same clear text.
fn same_but_for_what_is_hidden(before: &[Attribute<'_>], after: &[Attribute<'_>], key: HidingKey<'_>) {
    let (before, after) = (DICTIONARY.items(before.iter().copied()), DICTIONARY.items(after.iter().copied()));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.place, before.tag), (after.place, after.tag));
        match before.definition.and_then(Definition::hiding) {
            None => assert_eq!(before.octets, after.octets),
            Some(hiding) => {
                let clear = hiding.reveal(&before.octets, key).unwrap_or_else(|error| panic!("{error}"));
                let again = hiding.reveal(&after.octets, next_key()).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(clear, again);
                assert_ne!(before.octets, after.octets);
            }
        }
    }
}

#[test]
fn what_a_user_controls_ends_as_an_error_or_as_text() {
    // a name with a line break and an attribute behind it.
    let refused = |name, text| {
        let pairs = [Pair { name, text }];
        DICTIONARY.attributes(&pairs, None, &mut Salts::new(0)).err().map(|error| error.fault)
    };
    for text in ["x\r\nService-Type=6", "x\nService-Type=6", "x\0", "x\u{85}y", "\u{7f}"] {
        for name in ["Reply-Message", "Class", "Cisco-AVPair", "Tunnel-Private-Group-Id:1"] {
            assert_eq!(refused(name, text), Some(PairFault::Value(ValueError::Control)), "{name} = {text:?}");
        }
    }
    let written = write(&[Pair { name: "Filter-Id", text: "x, Service-Type=6\\n" }], next_key());
    let filter_id = [OwnedAttribute { kind: AttributeType(11), value: b"x, Service-Type=6\\n".to_vec() }];
    assert_eq!(written, filter_id, "one attribute, as plain text");
}

#[test]
fn a_pair_that_is_no_attribute_says_why() {
    let fault = |name, text| {
        let pairs = [Pair { name: "Filter-Id", text: "before" }, Pair { name, text }];
        match DICTIONARY.attributes(&pairs, None, &mut Salts::new(0)) {
            Ok(attributes) => panic!("{name} = {text} became {attributes:?}"),
            Err(error) => {
                assert_eq!(error.name, name);
                error.to_string()
            }
        }
    };
    let long = "x".repeat(254);
    for (name, text, expected) in [
        ("Sevice-Type", "6", "Sevice-Type: no dictionary knows this name, but Service-Type"),
        ("Nothing-Like-It-Anywhere", "6", "Nothing-Like-It-Anywhere: no dictionary knows this name"),
        ("Filter-Id:1", "x", "Filter-Id:1: this attribute has no tags"),
        ("Tunnel-Type:32", "VLAN", "Tunnel-Type:32: a tag is a number from 0 to 31"),
        ("Tunnel-Type:", "VLAN", "Tunnel-Type:: a tag is a number from 0 to 31"),
        (
            "Tunnel-Type:1",
            "16777216",
            "Tunnel-Type:1: the value is neither a number from 0 to 16777215 nor one of the names",
        ),
        (
            "Service-Type",
            "Framed",
            "Service-Type: the value is neither a number from 0 to 4294967295 nor one of the names of the dictionary, as Login-User",
        ),
        ("Framed-IP-Address", "192.0.2.256", "Framed-IP-Address: the value is not of the form 192.0.2.1"),
        ("Filter-Id", "", "Filter-Id: the value is empty"),
        ("Filter-Id", &long, "Filter-Id: the value has 254 octets, at most 253 are possible"),
        ("Cisco-AVPair", &long[..248], "Cisco-AVPair: the value has 248 octets, at most 247 are possible"),
        (
            "Tunnel-Private-Group-Id",
            &long[..253],
            "Tunnel-Private-Group-Id: the value has 253 octets, at most 252 are possible",
        ),
        ("User-Password", "x", "User-Password: this attribute is hidden, and there is no shared secret here"),
        ("Class", "0x123", "Class: the value is not of the form 0x00ff, two hexadecimal digits for each octet"),
        ("MS-CHAP-MPPE-Keys", "0x00", "MS-CHAP-MPPE-Keys: the value has 1 octets, exactly 24 are possible"),
    ] {
        let found = fault(name, text);
        assert!(found.starts_with(expected), "found {found}, expected {expected}");
        assert!(text.len() < 8 || !found.contains(text), "an error repeats no value");
    }
}

#[test]
fn the_largest_value_of_every_attribute_fits_and_is_read_again() {
    // the length check knows vendor, tag, salt and TLV around the value.
    let authenticator = [9; 16];
    let key = HidingKey { secret: &SECRET, authenticator: &authenticator };
    let mut seen = 0;
    for definition in DICTIONARY.definitions() {
        let text = match definition.value_type() {
            ValueType::String => "x".repeat(definition.value_octets_max()),
            ValueType::Octets(None) => format!("0x{}", "ab".repeat(definition.value_octets_max())),
            _ => continue,
        };
        seen += 1;
        let known = DICTIONARY.by_place(definition.place()).expect("it has a place");
        let pairs = [Pair { name: definition.name(), text: &text }];
        let attributes = write(&pairs, key);
        let items = DICTIONARY.items(attributes.iter().map(OwnedAttribute::attribute));
        // Of two names for one place the later is read.
        if known == definition {
            let found: Vec<_> = items.iter().map(|item| shown(item, Some(key))).collect();
            assert_eq!(found, [format!("{} = {text}", definition.name())]);
        }
        let longer = if text.starts_with("0x") { format!("{text}00") } else { format!("{text}x") };
        let pairs = [Pair { name: definition.name(), text: &longer }];
        let error = DICTIONARY.attributes(&pairs, Some(key), &mut Salts::new(1)).err().map(|error| error.fault);
        assert!(
            matches!(error, Some(PairFault::Value(ValueError::TooLong { .. }))),
            "{}: {error:?}",
            definition.name()
        );
    }
    assert!(seen > 700, "only {seen}");
}

#[test]
fn tlvs_share_an_attribute_as_far_as_they_fit() {
    let text = "x".repeat(200);
    let numbers = [("Local-Box-Number", "1"), ("Local-Box-Number", "2"), ("Local-Box-Text", "a")];
    let attributes = write(&numbers.map(|(name, text)| Pair { name, text }), next_key());
    let expected = b"\xcb\x00\x01\x0e\x01\x06\0\0\0\x01\x01\x06\0\0\0\x02\x02\x03a".to_vec();
    assert_eq!(attributes, [OwnedAttribute { kind: AttributeType(245), value: expected }]);
    let two = [Pair { name: "IP-Port-Local-Id", text: &text }; 2];
    assert_eq!(write(&two, next_key()).len(), 2, "both together exceed 253 octets");
    let divided = ["Local-Box-Text", "Class", "Local-Box-Text"].map(|name| Pair { name, text: "a" });
    let kinds: Vec<_> = write(&divided, next_key()).iter().map(|attribute| attribute.kind.0).collect();
    assert_eq!(kinds, [245, 25, 245], "the order is the caller's");
    let many = [Pair { name: "Local-Box-Text", text: &text }; 10];
    assert_eq!(write(&many, next_key()).len(), 9, "2020 octets of TLVs in pieces of 251");
}

#[test]
fn a_value_without_tag_is_not_mistaken_for_one_with_tag() {
    // RFC 2868 section 3.3: an octet up to 0x1f at the beginning is a tag.
    for (name, value, octets) in
        [("Local-Tagged", "0x05ff", "f1 06 ca 00 05 ff"), ("Local-Tagged:5", "0xff", "f1 05 ca 05 ff")]
    {
        let attributes = write(&[Pair { name, text: value }], next_key());
        let expected = self::octets(octets);
        assert_eq!(attributes.iter().map(OwnedAttribute::attribute).collect::<Vec<_>>(), split(&expected));
        let items = DICTIONARY.items(attributes.iter().map(OwnedAttribute::attribute));
        assert_eq!(items.iter().map(|item| shown(item, None)).collect::<Vec<_>>(), [format!("{name} = {value}")]);
    }
}

#[test]
fn every_piece_of_a_hidden_value_is_refused_and_what_follows_is_not() {
    // also the last piece, which alone looks like a whole value.
    let piece = [&[60, 0x80], [7; 251].as_slice()].concat();
    let salted = [&[60, 0, 0x80, 1], [7; 16].as_slice()].concat();
    let mut rehide = Rehide::new(&DICTIONARY, next_key(), next_key(), Salts::new(0));
    let mut cause = |value: &[u8]| {
        let attribute = Attribute { kind: AttributeType(246), value };
        rehide.value(attribute).err().map(|error| error.cause)
    };
    assert_eq!(cause(&piece), Some(HidingError::Fragmented));
    assert_eq!(cause(&salted), Some(HidingError::Fragmented));
    assert_ne!(cause(&salted), Some(HidingError::Fragmented), "the value before has ended");
}

#[test]
fn salts_of_a_packet_differ_and_have_their_first_bit() {
    // RFC 2868 section 3.5, RFC 2548 section 2.4.2: from any beginning, also where the counter turns over.
    for random in [0, 0x7ffe, 0x8000, 0xffff] {
        let mut salts = Salts::new(random);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            let hidden = Hiding::TunnelPassword.hide(b"key", next_key(), &mut salts).expect("short");
            assert!(hidden[0] & 0x80 != 0 && seen.insert([hidden[0], hidden[1]]));
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test measures")]
fn octets_without_end_are_read_in_linear_time() {
    // B-10, B-11: pieces that never end, one EAP packet in many, vendors full of the smallest. Ten megabytes, which
    // quadratic work would copy some thousand times.
    let piece = [&[26, 0x80], [7; 251].as_slice()].concat();
    let eap = vec![1; 253];
    let vendor = [b"\0\0\0\x09".as_slice(), &[1, 2].repeat(124)].concat();
    for (kind, value, count) in [(245, &piece, 40_000), (79, &eap, 40_000), (26, &vendor, 2_000)] {
        let attributes = std::iter::repeat_n(Attribute { kind: AttributeType(kind), value }, count);
        let started = std::time::Instant::now();
        assert!(!DICTIONARY.items(attributes).is_empty());
        assert!(started.elapsed().as_secs() < 10, "type {kind} takes {:?}", started.elapsed());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_hidden_comes_out_as_it_went_in(clear in prop::collection::vec(any::<u8>(), 0..=239), authenticator: [u8; 16], secret in "[ -~]{1,40}", salt: u16) {
        //
        let secret = Secret::new(secret).expect("not empty");
        let key = HidingKey { secret: &secret, authenticator: &authenticator };
        for (hiding, octets_max) in [(Hiding::UserPassword, 128), (Hiding::TunnelPassword, 239), (Hiding::AscendSecret, 16)] {
            let hidden = hiding.hide(&clear, key, &mut Salts::new(salt));
            prop_assert_eq!(hidden.is_ok(), clear.len() <= octets_max);
            let Ok(hidden) = hidden else { continue };
            let Ok(revealed) = hiding.reveal(&hidden, key) else { panic!("it opens") };
            let (value, padding) = revealed.split_at(clear.len());
            prop_assert_eq!(value, clear.as_slice());
            prop_assert!(padding.iter().all(|octet| *octet == 0));
            prop_assert!(hiding != Hiding::TunnelPassword || padding.is_empty());
        }
    }

    #[test]
    fn a_value_is_read_as_it_was_written(which: prop::sample::Index, number: u64, octets: [u8; 16], text in "[^\\p{Cc}]{1,60}", bits in 0u8..=32) {
        // encode, decode, encode, for every attribute of the dictionary.
        let definition = which.get(DICTIONARY.definitions());
        let [a, b, c, d, e, f, ..] = octets;
        let v4 = std::net::Ipv4Addr::from([a, b, c, d]);
        let v6 = std::net::Ipv6Addr::from(octets);
        let written = match definition.value_type() {
            ValueType::String => text,
            ValueType::Octets(None) => format!("0x{number:016x}"),
            ValueType::Octets(Some(size)) => format!("0x{}", "ab".repeat(size.into())),
            ValueType::Byte => (number & 0xff).to_string(),
            ValueType::Short => (number & 0xffff).to_string(),
            ValueType::Integer if definition.has_tag() => (number & 0xff_ffff).to_string(),
            ValueType::Integer | ValueType::Date => (number & 0xffff_ffff).to_string(),
            ValueType::Integer64 => number.to_string(),
            ValueType::Signed => i32::from_be_bytes([a, b, c, d]).to_string(),
            ValueType::IpAddr => v4.to_string(),
            ValueType::Ipv6Addr => v6.to_string(),
            ValueType::ComboIp => if bits & 1 == 0 { v4.to_string() } else { v6.to_string() },
            ValueType::Ipv4Prefix => {
                let network = u32::from(v4) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                format!("{}/{bits}", std::net::Ipv4Addr::from(network))
            }
            ValueType::Ipv6Prefix => {
                let network = u128::from(v6) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                format!("{}/{bits}", std::net::Ipv6Addr::from(network))
            }
            ValueType::Ifid => format!("{a:02x}{b:02x}:{c:02x}{d:02x}:{e:02x}{f:02x}:1"),
            ValueType::Ether => format!("{a:02x}:{b:02x}:{c:02x}-{d:02x}:{e:02x}:{f:02x}").replace('-', ":"),
            _ => "0x0102030405060708".to_owned(),
        };
        let octets = match definition.encode(&written) {
            Err(ValueError::TooLong { octets, octets_max }) => {
                prop_assert!(octets > octets_max);
                return Ok(());
            }
            other => other.unwrap_or_else(|error| panic!("{}: {written}: {error}", definition.name())),
        };
        let read = definition.decode(&octets).expect("it is a value of its type");
        prop_assert_eq!(definition.encode(&read), Ok(octets), "{} = {}", definition.name(), read);
    }

    #[test]
    fn any_attributes_are_read_whole_and_hidden_anew_or_not_at_all(attributes in hostile_attributes(), authenticator: [u8; 16], salt: u16) {
        // no panic, nothing lost, nothing changed but what is hidden.
        let borrowed: Vec<_> = attributes.iter().map(OwnedAttribute::attribute).collect();
        let key = HidingKey { secret: &SECRET, authenticator: &authenticator };
        for item in DICTIONARY.items(borrowed.iter().copied()) {
            let (_name, _text) = (item.name(), item.text());
        }
        let mut forward = Rehide::new(&DICTIONARY, key, next_key(), Salts::new(salt));
        let mut back = Rehide::new(&DICTIONARY, next_key(), key, Salts::new(salt));
        for attribute in borrowed {
            let Ok(value) = forward.value(attribute) else { continue };
            prop_assert_eq!(value.len(), attribute.value.len());
            let hidden = DICTIONARY.items([attribute]).iter().any(|item| item.definition.is_some_and(|known| known.hiding().is_some()));
            prop_assert!(hidden || value.as_ref() == attribute.value);
            prop_assert!(matches!(value, Cow::Borrowed(_)) || hidden);
            let again = back.value(Attribute { kind: attribute.kind, value: &value });
            prop_assert!(again.is_ok(), "what was hidden anew opens");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_text_is_a_dictionary_or_an_error(text in "([A-Z$-]{1,12}[ \\t][ -~]{0,30}\\n){0,6}", words in prop::collection::vec(dictionary_word(), 0..40)) {
        let _either = Dictionary::shipped().with("hostile", &text);
        let _either = Dictionary::shipped().with("hostile", &words.join(" "));
    }
}

fn dictionary_word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "\nATTRIBUTE",
        "\nVALUE",
        "\nVENDOR Aone 99001",
        "\nBEGIN-VENDOR Aone",
        "\nEND-VENDOR Aone",
        "\nBEGIN-TLV",
        "\nEND-TLV",
        "format=2,2",
        "format=4,0",
        "parent=Extended-Vendor-Specific-5",
        "Aone",
        "Box",
        "1",
        "0x20",
        "241.1",
        ".2",
        "241.26.9.1.1",
        "tlv",
        "string",
        "octets[20]",
        "integer",
        "has_tag",
        "encrypt=2",
        "concat",
        "#",
        "\n",
        "$INCLUDE x",
        "99999999999999999999",
        "É",
    ])
}

/// Mostly of types that mean something, and with insides that are nearly well formed.
fn hostile_attributes() -> impl Strategy<Value = Vec<OwnedAttribute>> {
    let kind = prop::sample::select(vec![1u8, 2, 6, 64, 69, 79, 81, 173, 241, 245, 246]);
    let any_octets = || prop::collection::vec(any::<u8>(), 0..=253);
    let vendor = prop::sample::select(vec![9u32, 311, 529, 4874, 41112, 99001, 99002, 99004, 1]);
    let sub = (
        prop::sample::select(vec![1u8, 5, 12, 16, 17, 61, 214, 2]),
        prop::collection::vec(any::<u8>(), 0..50),
        -1i8..=1,
    );
    let of_vendor = (vendor, prop::collection::vec(sub, 0..4)).prop_map(|(vendor, subs)| {
        let mut value = vendor.to_be_bytes().to_vec();
        for (number, octets, wrong) in subs {
            value.extend([number, (octets.len() as u8 + 2).wrapping_add_signed(if wrong == 1 { 1 } else { 0 })]);
            value.extend(octets);
        }
        value.truncate(253);
        OwnedAttribute { kind: AttributeType::VENDOR_SPECIFIC, value }
    });
    let tunnel = (any::<u8>(), 0x80u8.., any::<[u8; 17]>()).prop_map(|(tag, salt, block)| OwnedAttribute {
        kind: AttributeType(69),
        value: [&[tag, salt], block.as_slice()].concat(),
    });
    let piece =
        (prop::sample::select(vec![26u8, 60, 203]), any::<bool>(), any::<u8>()).prop_map(|(number, more, octet)| {
            let value = [&[number, if more { 0x80 } else { 0 }], vec![octet; 251].as_slice()].concat();
            OwnedAttribute { kind: AttributeType(245 + u8::from(number == 60)), value }
        });
    let plain = (kind, any_octets()).prop_map(|(kind, value)| OwnedAttribute { kind: AttributeType(kind), value });
    let wild = (1u8.., any_octets()).prop_map(|(kind, value)| OwnedAttribute { kind: AttributeType(kind), value });
    prop::collection::vec(prop_oneof![of_vendor, tunnel, piece, plain, wild], 0..12)
}

fn write(pairs: &[Pair<'_>], key: HidingKey<'_>) -> Vec<OwnedAttribute> {
    DICTIONARY
        .attributes(pairs, Some(key), &mut Salts::new(77))
        .unwrap_or_else(|error| panic!("{error}: {:?}", error.source()))
}

fn rehide(
    attributes: &[Attribute<'_>],
    from: HidingKey<'_>,
    to: HidingKey<'_>,
) -> Result<Vec<OwnedAttribute>, RehideError> {
    let mut rehide = Rehide::new(&DICTIONARY, from, to, Salts::new(0x1234));
    let anew = |attribute: &Attribute<'_>| {
        Ok(OwnedAttribute { kind: attribute.kind, value: rehide.value(*attribute)?.into_owned() })
    };
    attributes.iter().map(anew).collect()
}

fn read_one(attribute: Attribute<'_>) -> impl Iterator<Item = Item<'_, '_>> {
    DICTIONARY.items([attribute]).into_iter()
}

fn is_salted(item: &Item<'_, '_>) -> bool {
    item.definition.is_some_and(|known| known.hiding() == Some(Hiding::TunnelPassword))
}

/// As a pair is written. A hidden value is opened with the key, where there is one.
fn shown(item: &Item<'_, '_>, key: Option<HidingKey<'_>>) -> String {
    let clear = key.zip(item.definition).and_then(|(key, known)| {
        let clear =
            known.hiding()?.reveal(&item.octets, key).unwrap_or_else(|error| panic!("{}: {error}", item.name()));
        let clear = match known.value_type() {
            ValueType::Octets(Some(size)) => &clear[..size.into()],
            ValueType::String => clear.trim_ascii_end_nul(),
            _ => &clear,
        };
        known.decode(clear)
    });
    let text = clear.or_else(|| item.text()).unwrap_or_else(|| "<hidden>".to_owned());
    let tag = item.tag.map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("{}{tag} = {text}", item.name())
}

trait Padded {
    fn trim_ascii_end_nul(&self) -> &[u8];
}

impl Padded for [u8] {
    fn trim_ascii_end_nul(&self) -> &[u8] {
        let end = self.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        &self[..end]
    }
}

fn parse_pair(text: &str) -> Pair<'_> {
    let (name, text) = text.split_once(" = ").expect("name = value");
    Pair { name, text }
}

fn split(mut octets: &[u8]) -> Vec<Attribute<'_>> {
    let mut attributes = Vec::new();
    while let [kind, length, ..] = *octets {
        let (attribute, rest) = octets.split_at(length.into());
        attributes.push(Attribute { kind: AttributeType(kind), value: &attribute[2..] });
        octets = rest;
    }
    attributes
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// One block of the file. A key may stand several times.
struct Vector {
    name: String,
    keys: Vec<(String, Vec<String>)>,
}

impl Vector {
    fn all(&self, key: &str) -> &[String] {
        self.keys.iter().find(|(known, _)| known == key).map_or(&[], |(_, values)| values)
    }
}

fn vectors() -> Vec<Vector> {
    const KEYS: [&str; 6] = ["cite", "pair", "attributes", "authenticator", "item", "rehide"];
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/radius_attributes.vec");
    let text = std::fs::read_to_string(file).expect("the vectors are in the repository");
    let mut vectors: Vec<Vector> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').expect("[name]").to_owned();
            assert!(vectors.iter().all(|vector| vector.name != name), "[{name}] stands twice");
            vectors.push(Vector { name, keys: Vec::new() });
            continue;
        }
        let keys = &mut vectors.last_mut().expect("a [name] comes first").keys;
        if line.starts_with(' ') {
            let (_, values) = keys.last_mut().expect("a continuation follows its key");
            values.last_mut().expect("the key has a value").push_str(line.trim());
            continue;
        }
        let (key, value) = line.split_once(':').expect("key: value");
        assert!(KEYS.contains(&key), "no key is called {key}");
        match keys.iter_mut().find(|(known, _)| known == key) {
            Some((_, values)) => values.push(value.trim_start().to_owned()),
            None => keys.push((key.to_owned(), vec![value.trim_start().to_owned()])),
        }
    }
    vectors
}
