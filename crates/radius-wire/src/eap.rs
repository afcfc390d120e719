//! EAP as far as a relay must know it: which Code, which Identifier, is the Length true (R-51, B-24). What it says is
//! between the device and the home server.

use crate::attribute::{Attribute, AttributeType};
use crate::packet::Packet;

/// The EAP packet of a RADIUS packet, out of all its EAP-Messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eap {
    /// An EAP-Message without a value: the device asks the server to begin (RFC 3579 section 2.1).
    Start,
    Packet {
        code: EapCode,
        identifier: u8,
    },
    /// A Length that is not the length, or an unknown Code. Never a reason to look further into it.
    Malformed,
}

/// RFC 3748 section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EapCode {
    Request = 1,
    Response = 2,
    Success = 3,
    Failure = 4,
}

impl Eap {
    /// None where the packet has no EAP-Message.
    pub fn of(packet: &Packet<'_>) -> Option<Self> {
        message(packet).map(|octets| Self::read(&octets))
    }

    fn read(octets: &[u8]) -> Self {
        if octets.is_empty() {
            return Self::Start;
        }
        let Some(([code, identifier, high, low], rest)) = octets.split_first_chunk() else { return Self::Malformed };
        let code = match code {
            1 => EapCode::Request,
            2 => EapCode::Response,
            3 => EapCode::Success,
            4 => EapCode::Failure,
            _ => return Self::Malformed,
        };
        // Request and Response have a Type, the two others nothing (RFC 3748 sections 4.1 and 4.2).
        let has_type = !rest.is_empty();
        if usize::from(u16::from_be_bytes([*high, *low])) != octets.len()
            || has_type != matches!(code, EapCode::Request | EapCode::Response)
        {
            return Self::Malformed;
        }
        Self::Packet { code, identifier: *identifier }
    }

    pub fn identifier(self) -> Option<u8> {
        match self {
            Self::Packet { identifier, .. } => Some(identifier),
            Self::Start | Self::Malformed => None,
        }
    }

    pub(crate) fn is(self, expected: EapCode) -> bool {
        matches!(self, Self::Packet { code, .. } if code == expected)
    }
}

/// All EAP-Messages of a packet, put together in order. None where there is none.
pub fn message(packet: &Packet<'_>) -> Option<Vec<u8>> {
    packet.has(AttributeType::EAP_MESSAGE).then(|| packet.all(AttributeType::EAP_MESSAGE).collect::<Vec<_>>().concat())
}

/// An EAP packet in as many EAP-Messages as it needs, in order.
pub fn attributes(packet: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    const VALUE_OCTETS_MAX: usize = 253;
    packet.chunks(VALUE_OCTETS_MAX).map(|value| Attribute { kind: AttributeType::EAP_MESSAGE, value })
}

/// The EAP-Failure that ends a conversation (RFC 3748 section 4.2). `identifier` is that of the EAP-Success it replaces,
/// or of the Response it answers.
pub fn failure(identifier: u8) -> [u8; 4] {
    [EapCode::Failure as u8, identifier, 0, 4]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Port, write_unsigned};

    fn read(pieces: &[&[u8]]) -> Option<Eap> {
        let attributes = pieces.iter().map(|value| Attribute { kind: AttributeType::EAP_MESSAGE, value });
        let octets = write_unsigned(1, 1, &[0; 16], attributes).expect("it fits");
        Eap::of(&Packet::parse(&octets, Port::Authentication).expect("well formed"))
    }

    #[test]
    fn only_code_and_length_are_looked_at() {
        // B-24
        let long = |length: u16| {
            let mut packet = vec![2, 9, 0, 0];
            packet[2..].copy_from_slice(&length.to_be_bytes());
            packet.resize(3900, 13);
            packet
        };
        let response = Eap::Packet { code: EapCode::Response, identifier: 9 };
        let (good, lying) = (long(3900), long(4000));
        for (octets, expected) in [
            (&[][..], Eap::Start),
            (&[2], Eap::Malformed),
            (&[2, 9, 0], Eap::Malformed),
            (&[2, 9, 0, 5, 1], response),
            (&[2, 9, 0, 4, 1], Eap::Malformed),
            (&[2, 9, 0, 6, 1], Eap::Malformed),
            (&[2, 9, 1, 5, 1], Eap::Malformed),
            (&[2, 9, 0, 4], Eap::Malformed),
            (&[0, 9, 0, 5, 1], Eap::Malformed),
            (&[5, 9, 0, 5, 1], Eap::Malformed),
            (&[1, 9, 0, 5, 1], Eap::Packet { code: EapCode::Request, identifier: 9 }),
            (&[3, 9, 0, 4], Eap::Packet { code: EapCode::Success, identifier: 9 }),
            (&[4, 9, 0, 4], Eap::Packet { code: EapCode::Failure, identifier: 9 }),
            (&[3, 9, 0, 5, 1], Eap::Malformed),
            (&good, response),
            (&lying, Eap::Malformed),
        ] {
            let pieces: Vec<_> = if octets.is_empty() { vec![octets] } else { octets.chunks(253).collect() };
            assert_eq!(read(&pieces), Some(expected), "{:?}", octets.get(..5));
        }
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn a_packet_in_pieces_is_the_packet() {
        let packet: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let pieces: Vec<_> = attributes(&packet).collect();
        assert_eq!(pieces.iter().map(|piece| piece.value.len()).collect::<Vec<_>>(), [253, 253, 253, 241]);
        let octets = write_unsigned(1, 1, &[0; 16], pieces).expect("it fits");
        assert_eq!(message(&Packet::parse(&octets, Port::Authentication).expect("well formed")), Some(packet));
    }

    #[test]
    fn a_failure_is_four_octets_with_the_given_identifier() {
        //
        assert_eq!(failure(200), [4, 200, 0, 4]);
        assert_eq!(read(&[&failure(200)]), Some(Eap::Packet { code: EapCode::Failure, identifier: 200 }));
    }
}
