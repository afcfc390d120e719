//! The person's own address, from the one place the client's rule names (V-54). Whatever is missing, doubled, or not written the one
//! plain way is no address, and no address is on no list of trusted networks.

use domain::settings::PersonAddress;
use radius_wire::{AttributeType, Packet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const FRAMED_IP_ADDRESS: AttributeType = AttributeType(8); // RFC 2865 section 5.8
const TUNNEL_CLIENT_ENDPOINT: AttributeType = AttributeType(66); // RFC 2868 section 3.3
const FRAMED_IPV6_ADDRESS: AttributeType = AttributeType(168); // RFC 6911 section 3.1

/// `peer` is who sent the packet.
pub(crate) fn read(rule: PersonAddress, packet: &Packet<'_>, peer: IpAddr) -> Option<IpAddr> {
    let address = match rule {
        PersonAddress::Peer => Some(peer),
        PersonAddress::CallingStationId => text(only(packet, AttributeType::CALLING_STATION_ID)?),
        PersonAddress::FramedAddress => match (only(packet, FRAMED_IP_ADDRESS), only(packet, FRAMED_IPV6_ADDRESS)) {
            (Some(octets), None) => <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into()),
            (None, Some(octets)) => <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into()),
            _ => None,
        },
        PersonAddress::TunnelClientEndpoint => text(without_tag(only(packet, TUNNEL_CLIENT_ENDPOINT)?)),
    };
    // 255.255.255.254 and .255 in Framed-IP-Address ask for an address instead of naming one (RFC 2865 section 5.8).
    address.map(|address| address.to_canonical()).filter(|address| match address {
        IpAddr::V4(address) => !address.is_unspecified() && !matches!(address.octets(), [255, 255, 255, 254 | 255]),
        IpAddr::V6(address) => !address.is_unspecified(),
    })
}

/// The value of an attribute that is there once.
fn only<'a>(packet: &Packet<'a>, kind: AttributeType) -> Option<&'a [u8]> {
    let mut all = packet.all(kind);
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

/// Dotted decimal without leading zeros, or RFC 4291: no octal, no hexadecimal or short IPv4, no zone, no port, no space.
fn text(octets: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(octets).ok()?.parse().ok()
}

/// RFC 2868 section 3.3: a first octet up to 0x1F is the tag of the tunnel.
fn without_tag(octets: &[u8]) -> &[u8] {
    match octets {
        [..=0x1f, rest @ ..] => rest,
        all => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use radius_wire::{Attribute, Port, write_unsigned};

    const PEER: &str = "192.0.2.1";

    fn person(rule: PersonAddress, attributes: &[(AttributeType, &[u8])]) -> Option<String> {
        let attributes = attributes.iter().map(|(kind, value)| Attribute { kind: *kind, value });
        let octets = write_unsigned(1, 1, &[5; 16], attributes).expect("it fits");
        let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
        read(rule, &packet, PEER.parse().expect("an address")).map(|address| address.to_string())
    }

    #[test]
    fn an_address_is_canonical_or_none() {
        // V-54, B-94
        const STATION: AttributeType = AttributeType::CALLING_STATION_ID;
        for (written, read) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("2001:DB8::1", Some("2001:db8::1")),
            ("2001:db8:0:0:0:0:0:1", Some("2001:db8::1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("::FFFF:0a00:0001", Some("10.0.0.1")),
            ("0x0a000001", None),
            ("0x0a.0.0.1", None),
            ("10.1", None),
            ("10.0.1", None),
            ("167772161", None),
            ("010.0.0.1", None),
            ("012.0.0.1", None),
            ("10.0.0.01", None),
            ("10.0.0.256", None),
            ("10.0.0.1.", None),
            ("10.0.0.1:1812", None),
            ("10.0.0.1/32", None),
            (" 10.0.0.1", None),
            ("10.0.0.1\0", None),
            ("10.0.0.1,10.0.0.2", None),
            ("[2001:db8::1]", None),
            ("fe80::1%eth0", None),
            ("fe80::1%251", None),
            ("00-11-22-33-44-55", None),
            ("+49 30 123456", None),
            ("0.0.0.0", None),
            ("::", None),
            ("１０.0.0.1", None),
            ("", None),
        ] {
            let found = person(PersonAddress::CallingStationId, &[(STATION, written.as_bytes())]);
            assert_eq!(found.as_deref(), read, "{written:?}");
        }
        assert_eq!(person(PersonAddress::CallingStationId, &[]), None, "absent");
        let two = person(PersonAddress::CallingStationId, &[(STATION, b"10.0.0.1"), (STATION, b"10.0.0.1")]);
        assert_eq!(two, None, "which of the two?");
        let noise = person(PersonAddress::CallingStationId, &[(STATION, b"\xff10.0.0.1")]);
        assert_eq!(noise, None);
    }

    #[test]
    fn each_rule_reads_its_own_attribute_and_no_other() {
        // V-54
        const ALL: [(AttributeType, &[u8]); 3] = [
            (AttributeType::CALLING_STATION_ID, b"10.0.0.1"),
            (FRAMED_IP_ADDRESS, &[10, 0, 0, 2]),
            (TUNNEL_CLIENT_ENDPOINT, b"10.0.0.3"),
        ];
        for (rule, address) in [
            (PersonAddress::Peer, PEER),
            (PersonAddress::CallingStationId, "10.0.0.1"),
            (PersonAddress::FramedAddress, "10.0.0.2"),
            (PersonAddress::TunnelClientEndpoint, "10.0.0.3"),
        ] {
            assert_eq!(person(rule, &ALL).as_deref(), Some(address));
            if rule != PersonAddress::Peer {
                assert_eq!(person(rule, &[]), None, "{rule:?}: the peer does not stand in for it");
            }
        }
        let framed = |kind, octets: &[u8]| person(PersonAddress::FramedAddress, &[(kind, octets)]);
        let mut six = [0; 16];
        six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(framed(FRAMED_IPV6_ADDRESS, &six).as_deref(), Some("2001:db8::"));
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 9];
        assert_eq!(framed(FRAMED_IPV6_ADDRESS, &mapped).as_deref(), Some("10.0.0.9"));
        assert_eq!(framed(FRAMED_IP_ADDRESS, &[255, 255, 255, 254]), None, "the device wants one");
        assert_eq!(framed(FRAMED_IP_ADDRESS, &[255; 4]), None, "the person may choose");
        assert_eq!(framed(FRAMED_IP_ADDRESS, b"10.0.0.1"), None, "no text");
        let both: [(AttributeType, &[u8]); 2] = [(FRAMED_IP_ADDRESS, &[10, 0, 0, 2]), (FRAMED_IPV6_ADDRESS, &six)];
        assert_eq!(person(PersonAddress::FramedAddress, &both), None, "which of the two?");
        let tunnel = |value: &[u8]| person(PersonAddress::TunnelClientEndpoint, &[(TUNNEL_CLIENT_ENDPOINT, value)]);
        assert_eq!(tunnel(b"\x0110.0.0.3").as_deref(), Some("10.0.0.3"), "tagged");
        assert_eq!(tunnel(b"\x0010.0.0.3").as_deref(), Some("10.0.0.3"), "tagged with zero");
        assert_eq!(tunnel(b"gateway.example"), None, "names are not looked up");
    }
}
