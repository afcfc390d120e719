use super::*;

fn read(text: &str) -> Result<Dictionary, DictionaryError> {
    Dictionary::shipped().with("mine", text)
}

fn fault(text: &str) -> String {
    read(text).err().map_or_else(|| panic!("{text} was taken"), |error| error.to_string())
}

#[test]
fn what_ships_knows_the_rfcs_and_the_vendors() {
    // One attribute of each file, and of each RFC of the standard one: place, type and flags.
    let shipped = Dictionary::shipped();
    for (name, place, value_type) in [
        ("User-Name", &[1][..], ValueType::String),                   // RFC 2865
        ("Acct-Status-Type", &[40], ValueType::Integer),              // RFC 2866
        ("Acct-Tunnel-Connection", &[68], ValueType::String),         // RFC 2867
        ("Tunnel-Type", &[64], ValueType::Integer),                   // RFC 2868
        ("EAP-Message", &[79], ValueType::Octets(None)),              // RFC 2869
        ("Framed-Interface-Id", &[96], ValueType::Ifid),              // RFC 3162
        ("Framed-IPv6-Prefix", &[97], ValueType::Ipv6Prefix),         // RFC 3162
        ("Error-Cause", &[101], ValueType::Integer),                  // RFC 3576
        ("EAP-Key-Name", &[102], ValueType::Octets(None)),            // RFC 4072
        ("Chargeable-User-Identity", &[89], ValueType::Octets(None)), // RFC 4372
        ("Egress-VLANID", &[56], ValueType::Integer),                 // RFC 4675
        ("Delegated-IPv6-Prefix", &[123], ValueType::Ipv6Prefix),     // RFC 4818
        ("Digest-Response", &[103], ValueType::String),               // RFC 5090
        ("Operator-Name", &[126], ValueType::String),                 // RFC 5580
        ("Framed-IPv6-Address", &[168], ValueType::Ipv6Addr),         // RFC 6911
        ("Extended-Vendor-Specific-5", &[245, 26], ValueType::Evs),   // RFC 6929
        ("Mobility-Domain-Id", &[177], ValueType::Integer),           // RFC 7268
        ("IP-Port-Limit", &[241, 5, 2], ValueType::Integer),          // RFC 8045
        ("MS-MPPE-Send-Key", &[26, 311, 16], ValueType::Octets(None)),
        ("Cisco-AVPair", &[26, 9, 1], ValueType::String),
        ("ASA-Group-Policy", &[26, 3076, 25], ValueType::String),
        ("Airespace-Wlan-Id", &[26, 14179, 1], ValueType::Integer),
        ("Fortinet-Group-Name", &[26, 12356, 1], ValueType::String),
        ("PaloAlto-Admin-Role", &[26, 25461, 1], ValueType::String),
        ("Juniper-Local-User-Name", &[26, 2636, 1], ValueType::String),
        ("NS-Admin-Privilege", &[26, 3224, 1], ValueType::Integer),
        ("Aruba-User-Role", &[26, 14823, 1], ValueType::String),
        ("Ruckus-DPSK-Cipher", &[26, 25053, 153, 2], ValueType::Byte),
        ("UBNT-Data-Rate-DL", &[26, 41112, 1], ValueType::Integer64),
        ("Mikrotik-Group", &[26, 14988, 3], ValueType::String),
        ("F5-LTM-User-Role", &[26, 3375, 1], ValueType::Integer),
        ("SonicWall-User-Group", &[26, 8741, 3], ValueType::String),
        ("CP-Gaia-User-Role", &[26, 2620, 229], ValueType::String),
        ("HP-Privilege-Level", &[26, 11, 1], ValueType::Integer),
        ("Huawei-Exec-Privilege", &[26, 2011, 29], ValueType::Integer),
        ("WISPr-Bandwidth-Max-Up", &[26, 14122, 7], ValueType::Integer),
        ("Ascend-Data-Filter", &[26, 529, 242], ValueType::Abinary),
    ] {
        let known = shipped.by_name(&name.to_uppercase()).unwrap_or_else(|| panic!("{name} is unknown"));
        assert_eq!((known.name(), known.place(), known.value_type()), (name, place, value_type));
        assert!(shipped.by_place(place).is_some(), "{name}");
    }
    let flags = |name: &str| shipped.by_name(name).map(|known| (known.hiding(), known.has_tag(), known.concat()));
    assert_eq!(flags("User-Password"), Some((Some(Hiding::UserPassword), false, false)));
    assert_eq!(flags("MS-CHAP-MPPE-Keys"), Some((Some(Hiding::UserPassword), false, false)));
    assert_eq!(flags("Tunnel-Password"), Some((Some(Hiding::TunnelPassword), true, false)));
    assert_eq!(flags("MS-MPPE-Recv-Key"), Some((Some(Hiding::TunnelPassword), false, false)));
    assert_eq!(flags("Ascend-Send-Secret"), Some((Some(Hiding::AscendSecret), false, false)));
    assert_eq!(flags("EAP-Message"), Some((None, false, true)));
}

#[test]
fn every_file_that_ships_is_read_and_adds_something() {
    let mut dictionary = Dictionary::default();
    for (file, text) in shipped::FILES {
        let before = dictionary.definitions().len();
        dictionary = dictionary.with(file, text).unwrap_or_else(|error| panic!("{error}"));
        assert!(dictionary.definitions().len() > before, "{file} adds nothing");
    }
    assert_eq!(dictionary.definitions(), Dictionary::shipped().definitions());
}

#[test]
fn an_administrator_adds_vendors_of_every_format() {
    // format=t,l, dotted and relative numbers, hexadecimal, TLVs both ways, vendors inside extended attributes.
    let dictionary = read(
        "VENDOR Acme 99001 format=2,2   # a comment\n\
         BEGIN-VENDOR Acme\n\
         ATTRIBUTE Acme-Zone 0x1000 string\n\
         ATTRIBUTE Acme-Box 7 tlv\n\
         ATTRIBUTE Acme-Box-Colour .1 byte\n\
         VALUE Acme-Box-Colour red 1\n\
         BEGIN-TLV Acme-Box\n\
         ATTRIBUTE Acme-Box-Size 2 integer\n\
         END-TLV Acme-Box\n\
         END-VENDOR Acme\n\
         BEGIN-VENDOR Acme parent=Extended-Vendor-Specific-5\n\
         ATTRIBUTE Acme-Long 3 octets\n\
         END-VENDOR Acme\n\
         attribute Acme-Old 9 Integer Acme\n\
         FLAGS internal\n\
         ATTRIBUTE Acme-Extended 241.200 string has_tag,encrypt=2\n",
    )
    .unwrap_or_else(|error| panic!("{error}"));
    let format = VendorFormat { type_octets: 2, length_octets: 2, continuation: false };
    assert_eq!(dictionary.vendor_format(99001), format);
    assert_eq!(dictionary.vendor_format(99002), VendorFormat::USUAL);
    for (name, place, octets_max) in [
        ("Acme-Zone", &[26, 99001, 0x1000][..], 245),
        ("Acme-Box-Colour", &[26, 99001, 7, 1], 243),
        ("Acme-Box-Size", &[26, 99001, 7, 2], 243),
        ("Acme-Long", &[245, 26, 99001, 3], 3760),
        ("Acme-Old", &[26, 99001, 9], 245),
        ("Acme-Extended", &[241, 200], 239),
    ] {
        let known = dictionary.by_place(place).unwrap_or_else(|| panic!("{name} is not at its place"));
        assert_eq!((known.name(), known.value_octets_max()), (name, octets_max));
    }
    let colour = dictionary.by_name("acme-box-colour").expect("defined");
    assert_eq!(colour.values().collect::<Vec<_>>(), [("red", 1)]);
    assert!(Dictionary::shipped().by_name("Acme-Zone").is_none(), "what ships does not change");
}

#[test]
fn an_error_says_where_what_stands_there_and_what_may() {
    let vendor = "VENDOR Acme 99001\nBEGIN-VENDOR Acme\n";
    for (text, expected) in [
        ("\n\nATRIBUTE A 1 string", "mine line 3: ATRIBUTE is no keyword; allowed: ATTRIBUTE, VALUE, VENDOR, "),
        ("ATTRIBUTE A 1", "mine line 1: too many or too few fields; the form is: ATTRIBUTE name number type [flags]"),
        ("ATTRIBUTE A:1 1 string", "mine line 1: the name A:1 is not 1 to 128 of the characters "),
        ("ATTRIBUTE A -1 string", "mine line 1: -1 is no number; allowed: decimal, 0x "),
        ("ATTRIBUTE A 256 string", "mine line 1: the number 256 is out of range; allowed here: 1 to 255"),
        ("ATTRIBUTE A 0 string", "mine line 1: the number 0 is out of range; allowed here: 1 to 255"),
        ("ATTRIBUTE A 99999999999 string", "mine line 1: the number 99999999999 is out of range"),
        ("ATTRIBUTE A 241.1.1.1.1.1.1.1.1 string", "mine line 1: more than 8 numbers lead to the attribute"),
        ("ATTRIBUTE A 1.5 string", "mine line 1: nothing that can hold attributes is defined as 1; allowed: tlv, "),
        ("ATTRIBUTE A 200 text32", "mine line 1: text32 is no type; allowed: string, octets, octets[n], byte, "),
        ("ATTRIBUTE A 200 octets[254]", "mine line 1: the number 254 is out of range; allowed here: 1 to 253"),
        ("ATTRIBUTE A 200 string encrypt=4", "mine line 1: encrypt=4 is no flag; allowed: encrypt=1, "),
        ("ATTRIBUTE A 200 ipaddr has_tag", "mine line 1: has_tag does not go with the type ipaddr; allowed: string, "),
        ("ATTRIBUTE A 200 tlv encrypt=2", "mine line 1: encrypt= does not go with the type tlv; allowed: "),
        ("ATTRIBUTE A 200 integer encrypt=1", "mine line 1: encrypt=1 or encrypt=3 does not go with the type integer"),
        ("ATTRIBUTE A 200 byte concat", "mine line 1: concat does not go with the type byte; allowed: "),
        ("ATTRIBUTE user-name 200 string", "mine line 1: the name user-name belongs to attribute 1 already; "),
        (
            "ATTRIBUTE Mine 2 string",
            "mine line 1: attribute 2 is User-Password, and how it is hidden cannot be changed",
        ),
        ("VALUE Sevice-Type X 1", "mine line 1: no attribute is called Sevice-Type; Service-Type is"),
        ("VALUE Nothing-Like-It X 1", "mine line 1: no attribute is called Nothing-Like-It"),
        ("VALUE User-Name X 1", "mine line 1: User-Name is no number, so its values have no names; "),
        ("VALUE Service-Type X 0x100000000", "mine line 1: the number 4294967296 is out of range; allowed here: 0 to "),
        ("VENDOR Acme 99001 format=3,1", "mine line 1: format=3,1 is no vendor format; allowed: format=t,l or "),
        ("VENDOR Acme 99001 format=4,0,c", "mine line 1: format=4,0,c is no vendor format; "),
        (
            "ATTRIBUTE Mine 241.5 octets",
            "mine line 1: attribute 241.5 is IP-Port-Limit-Info, which holds others, so its type",
        ),
        ("VENDOR cisco 10", "mine line 1: the vendor name cisco belongs to number 9 already; another name is allowed"),
        ("VENDOR Other 9 format=2,1", "mine line 1: vendor 9 has attributes already, so its format cannot change; "),
        ("VENDOR Acme 0x1000000", "mine line 1: the number 16777216 is out of range; allowed here: 1 to 16777215"),
        ("BEGIN-VENDOR Acme", "mine line 1: no vendor is called Acme; a VENDOR line comes first"),
        ("BEGIN-VENDOR Cisco parent=Class", "mine line 1: parent=Class is not where vendors can be; allowed: "),
        ("BEGIN-TLV User-Name", "mine line 1: User-Name is no attribute of type tlv, defined before"),
        (vendor, "mine line 2: the file ends inside BEGIN-VENDOR Acme"),
        ("END-VENDOR Acme", "mine line 1: END-VENDOR Acme ends what is not open; open is nothing"),
        ("$INCLUDE other", "mine line 1: other may not be included here; put its lines into this file"),
    ] {
        let found = fault(text);
        assert!(found.starts_with(expected), "{text}: found {found}, expected {expected}");
    }
    assert!(fault(&format!("{vendor}END-VENDOR Cisco")).ends_with("open is VENDOR Acme"));
    assert!(fault(&format!("{vendor}BEGIN-VENDOR Cisco")).ends_with("open is VENDOR Acme"));
    assert!(fault(&format!("{vendor}ATTRIBUTE A 256 string")).ends_with("allowed here: 0 to 255"));
    for text in ["\u{1b}[2J x", "$INCLUDE \u{1b}[2J", "ATTRIBUTE A 200 integer \u{1b}[2J", "VENDOR Acme 1 \u{1b}[2J"] {
        assert!(!fault(text).contains('\u{1b}'), "an error cannot command a terminal");
    }
    let escaped = Dictionary::shipped().with_includes("mine", "$INCLUDE \u{1b}[2J", |_| Some("X".to_owned()));
    assert!(escaped.is_err_and(|error| !error.to_string().contains('\u{1b}')), "nor can the name of a file");
}

#[test]
fn a_later_definition_of_a_place_wins_and_both_names_are_known() {
    let dictionary =
        read("ATTRIBUTE Login-Class 25 string\nVALUE Service-Type Ours 2\n").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(dictionary.by_place(&[25]).map(Definition::name), Some("Login-Class"));
    assert_eq!(dictionary.by_name("Class").map(Definition::place), Some(&[25][..]));
    let service_type = dictionary.by_name("Service-Type").expect("standard");
    assert_eq!(service_type.value_name(2), Some("Ours"));
    assert_eq!((service_type.value_named("framed-user"), service_type.value_named("OURS")), (Some(2), Some(2)));
}

#[test]
fn includes_are_asked_for_and_bounded() {
    // B-96: a file that includes itself, directly or in a circle, or a tree of files without end.
    let shipped = Dictionary::shipped();
    let files = |name: &str| {
        Some(match name {
            "one" => "$INCLUDE two\nATTRIBUTE One 201 string".to_owned(),
            "two" => "ATTRIBUTE Two 202 string".to_owned(),
            "broken" => "\nATTRIBUTE".to_owned(),
            "circle" => "$INCLUDE back".to_owned(),
            "back" => "$INCLUDE circle".to_owned(),
            deeper => match deeper.strip_prefix("deep-") {
                Some(depth) => {
                    let next = depth.parse::<u32>().expect("a number") + 1;
                    format!("$INCLUDE deep-{next}\n$INCLUDE deep-{next}")
                }
                None => return None,
            },
        })
    };
    let dictionary = shipped.with_includes("mine", "$INCLUDE one", files).unwrap_or_else(|error| panic!("{error}"));
    assert!(dictionary.by_name("One").is_some() && dictionary.by_name("Two").is_some());
    let error = |text: &str| shipped.with_includes("mine", text, files).err().map(|error| error.to_string());
    assert!(error("$INCLUDE broken").is_some_and(|text| text.starts_with("broken line 2: too many or too few")));
    assert!(error("$INCLUDE circle").is_some_and(|text| text.starts_with("back line 1: circle includes itself")));
    assert!(error("$INCLUDE mine").is_some_and(|text| text.starts_with("mine line 1: mine includes itself")));
    assert!(error("$INCLUDE deep-1").is_some_and(|text| text.starts_with("deep-8 line 1: deep-9 includes itself, or")));
    let wide = "$INCLUDE two\n".repeat(501);
    assert!(error(&wide).is_some_and(|text| text.starts_with("mine line 501: two includes itself, or more than")));
}
