//! From octets to a packet of the right shape: steps 1 and 4 to 8 of A1, in that order.
//!
//! Nothing here is proven yet: a [`Packet`] may be forged. It borrows the datagram and allocates nothing.

use crate::attribute::{Attribute, AttributeType, Walk};
use crate::drop_reason::DropReason;
use std::net::{Ipv4Addr, Ipv6Addr};

/// RFC 2865 section 3.
pub const PACKET_OCTETS_MAX: usize = 4096;
/// The usual bound of step 7; the gateway may be set to another.
pub const ATTRIBUTES_MAX: usize = 200;
pub(crate) const HEADER_OCTETS: usize = 20;

/// A datagram that is long enough to have a header (step 1). Whose it is, and whether that source may send more,
/// is asked before anything else is looked at (steps 2 and 3).
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    octets: &'a [u8],
    header: &'a [u8; HEADER_OCTETS],
}

impl<'a> Datagram<'a> {
    pub fn new(octets: &'a [u8]) -> Result<Self, DropReason> {
        let header = octets.first_chunk().ok_or(DropReason::Short)?;
        Ok(Self { octets, header })
    }

    /// Steps 4 to 8. Octets beyond the Length field are padding and not looked at.
    pub fn packet(&self, port: Port, attributes_max: usize) -> Result<Packet<'a>, DropReason> {
        let [code, identifier, high, low, authenticator @ ..] = self.header;
        let code = Code::taken_by(port, *code).ok_or(DropReason::Code)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(HEADER_OCTETS..=PACKET_OCTETS_MAX).contains(&length) {
            return Err(DropReason::Len);
        }
        let octets = self.octets.get(..length).ok_or(DropReason::Len)?;
        let attributes = octets.get(HEADER_OCTETS..).ok_or(DropReason::Len)?;
        check_attributes(attributes, attributes_max)?;
        Ok(Packet { code, identifier: *identifier, port, authenticator, octets, attributes })
    }
}

fn check_attributes(attributes: &[u8], attributes_max: usize) -> Result<(), DropReason> {
    let (mut count, mut message_authenticators, mut wrong_size) = (0, 0, false);
    for attribute in Walk::over(attributes) {
        let attribute = attribute.map_err(|_| DropReason::Attr)?;
        count += 1;
        if attribute.kind == AttributeType::MESSAGE_AUTHENTICATOR {
            message_authenticators += 1;
            wrong_size |= attribute.value.len() != 16; // RFC 3579 section 3.2
        }
    }
    if count > attributes_max {
        return Err(DropReason::TooMany);
    }
    if message_authenticators > 1 || wrong_size {
        return Err(DropReason::MaForm);
    }
    Ok(())
}

/// What a socket is for, which decides the Codes it takes (step 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    /// Where clients send Access-Request.
    Authentication,
    /// Where clients send Accounting-Request.
    Accounting,
    /// Where answers to our own Access-Request and Status-Server arrive.
    AuthenticationReplies,
    /// Where answers to our own Accounting-Request and Status-Server arrive.
    AccountingReplies,
}

/// The Codes that mean something to us. All others are dropped unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Code {
    AccessRequest = 1,
    AccessAccept = 2,
    AccessReject = 3,
    AccountingRequest = 4,
    AccountingResponse = 5,
    AccessChallenge = 11,
    StatusServer = 12, // RFC 5997
}

impl Code {
    /// What others may ask of us.
    pub(crate) const REQUESTS: [Self; 3] = [Self::AccessRequest, Self::AccountingRequest, Self::StatusServer];

    fn taken_by(port: Port, octet: u8) -> Option<Self> {
        Some(match (port, octet) {
            (Port::Authentication, 1) => Self::AccessRequest,
            (Port::AuthenticationReplies, 2) => Self::AccessAccept,
            (Port::AuthenticationReplies, 3) => Self::AccessReject,
            (Port::AuthenticationReplies, 11) => Self::AccessChallenge,
            (Port::Accounting, 4) => Self::AccountingRequest,
            (Port::AccountingReplies, 5) => Self::AccountingResponse,
            (Port::Authentication | Port::Accounting, 12) => Self::StatusServer,
            _ => return None,
        })
    }
}

/// A packet of the right shape, not yet verified.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    code: Code,
    identifier: u8,
    port: Port,
    authenticator: &'a [u8; 16],
    octets: &'a [u8],
    attributes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// All of steps 1 and 4 to 8 at once, for who knows the sender already.
    pub fn parse(datagram: &'a [u8], port: Port) -> Result<Self, DropReason> {
        Datagram::new(datagram)?.packet(port, ATTRIBUTES_MAX)
    }

    pub fn code(&self) -> Code {
        self.code
    }

    pub fn identifier(&self) -> u8 {
        self.identifier
    }

    pub fn port(&self) -> Port {
        self.port
    }

    pub fn authenticator(&self) -> &'a [u8; 16] {
        self.authenticator
    }

    /// The packet as received, without padding.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// All attributes, in order, unknown ones included.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        self.walk().map_while(Result::ok)
    }

    /// The values of all attributes of one type, in order.
    pub fn all(&self, kind: AttributeType) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.attributes().filter(move |attribute| attribute.kind == kind).map(|attribute| attribute.value)
    }

    pub fn first(&self, kind: AttributeType) -> Option<&'a [u8]> {
        self.all(kind).next()
    }

    pub fn has(&self, kind: AttributeType) -> bool {
        self.first(kind).is_some()
    }

    pub fn calling_station_id(&self) -> Option<&'a [u8]> {
        self.first(AttributeType::CALLING_STATION_ID)
    }

    pub fn nas_identifier(&self) -> Option<&'a [u8]> {
        self.first(AttributeType::NAS_IDENTIFIER)
    }

    /// None also where the value has the wrong size: such an attribute is ignored, not refused.
    pub fn nas_ip_address(&self) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.first(AttributeType::NAS_IP_ADDRESS)?.try_into().ok()?;
        Some(octets.into())
    }

    /// None also where the value has the wrong size.
    pub fn nas_ipv6_address(&self) -> Option<Ipv6Addr> {
        let octets: [u8; 16] = self.first(AttributeType::NAS_IPV6_ADDRESS)?.try_into().ok()?;
        Some(octets.into())
    }

    /// None also where the value has the wrong size.
    pub fn service_type(&self) -> Option<u32> {
        self.attributes().find(|attribute| attribute.kind == AttributeType::SERVICE_TYPE)?.integer()
    }

    pub(crate) fn walk(&self) -> Walk<'a> {
        Walk::over(self.attributes)
    }

    /// Code, Identifier and Length: what every authenticator begins with.
    pub(crate) fn start(&self) -> [u8; 4] {
        let [high, low] = (self.octets.len() as u16).to_be_bytes(); // at most 4096
        [self.code as u8, self.identifier, high, low]
    }

    pub(crate) fn attribute_octets(&self) -> &'a [u8] {
        self.attributes
    }
}
