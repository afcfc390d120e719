//! One attribute and the walk over many. The walk checks every length itself, whoever calls it.

/// An attribute type, by the names of the RFCs. Unknown types are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u8);

impl AttributeType {
    // RFC 2865 section 5
    pub const USER_NAME: Self = Self(1);
    pub const USER_PASSWORD: Self = Self(2);
    pub const CHAP_PASSWORD: Self = Self(3);
    pub const NAS_IP_ADDRESS: Self = Self(4);
    pub const NAS_PORT: Self = Self(5);
    pub const SERVICE_TYPE: Self = Self(6);
    pub const REPLY_MESSAGE: Self = Self(18);
    pub const STATE: Self = Self(24);
    pub const CLASS: Self = Self(25);
    pub const VENDOR_SPECIFIC: Self = Self(26);
    pub const SESSION_TIMEOUT: Self = Self(27);
    pub const CALLED_STATION_ID: Self = Self(30);
    pub const CALLING_STATION_ID: Self = Self(31);
    pub const NAS_IDENTIFIER: Self = Self(32);
    pub const PROXY_STATE: Self = Self(33);
    pub const CHAP_CHALLENGE: Self = Self(60);
    // RFC 2866 section 5
    pub const ACCT_STATUS_TYPE: Self = Self(40);
    pub const ACCT_INPUT_OCTETS: Self = Self(42);
    pub const ACCT_OUTPUT_OCTETS: Self = Self(43);
    pub const ACCT_SESSION_ID: Self = Self(44);
    pub const ACCT_SESSION_TIME: Self = Self(46);
    // RFC 2869 section 5
    pub const ACCT_INPUT_GIGAWORDS: Self = Self(52);
    pub const ACCT_OUTPUT_GIGAWORDS: Self = Self(53);
    pub const ARAP_PASSWORD: Self = Self(70);
    pub const PROMPT: Self = Self(76);
    pub const EAP_MESSAGE: Self = Self(79);
    pub const MESSAGE_AUTHENTICATOR: Self = Self(80);
    // RFC 3162 section 2.1
    pub const NAS_IPV6_ADDRESS: Self = Self(95);
    // RFC 3576 section 3.5
    pub const ERROR_CAUSE: Self = Self(101);
}

/// A type and its value, borrowed from the packet. The value is 0 to 253 octets and not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub kind: AttributeType,
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The inside of a Vendor-Specific attribute in the usual form (RFC 2865 section 5.26). None where it is not one
    /// or its inside is not well formed: it is then an opaque value and never a reason to refuse the packet.
    pub fn vendor(&self) -> Option<Vendor<'a>> {
        if self.kind != AttributeType::VENDOR_SPECIFIC {
            return None;
        }
        let (id, inside) = self.value.split_first_chunk::<4>()?;
        let well_formed = !inside.is_empty() && Walk::over(inside).all(|attribute| attribute.is_ok());
        well_formed.then_some(Vendor { id: u32::from_be_bytes(*id), inside })
    }

    /// The value as a 32-bit number. None where it is not four octets: ignored, not refused.
    pub fn integer(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }
}

/// An attribute that belongs to nobody's packet yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedAttribute {
    pub kind: AttributeType,
    pub value: Vec<u8>,
}

impl OwnedAttribute {
    pub fn attribute(&self) -> Attribute<'_> {
        Attribute { kind: self.kind, value: &self.value }
    }
}

impl From<Attribute<'_>> for OwnedAttribute {
    fn from(attribute: Attribute<'_>) -> Self {
        Self { kind: attribute.kind, value: attribute.value.to_vec() }
    }
}

/// A vendor and its own attributes, whose numbers mean something only together with the vendor's.
#[derive(Debug, Clone, Copy)]
pub struct Vendor<'a> {
    pub id: u32,
    inside: &'a [u8],
}

impl<'a> Vendor<'a> {
    pub const MICROSOFT: u32 = 311; // RFC 2548

    pub const MS_CHAP_ERROR: u8 = 2; // RFC 2548 section 2.1.5

    /// MS-CHAP-Error and nothing else in the same attribute.
    pub(crate) fn is_ms_chap_error(&self) -> bool {
        self.id == Self::MICROSOFT && self.attributes().all(|(kind, _)| kind == Self::MS_CHAP_ERROR)
    }

    /// The vendor's attributes as (type, value).
    pub fn attributes(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        Walk::over(self.inside).map_while(Result::ok).map(|attribute| (attribute.kind.0, attribute.value))
    }
}

/// The octets from here on are no attribute.
#[derive(Debug)]
pub(crate) struct Malformed;

/// Walks type-length-value triples. After the first malformed one it yields nothing more, so it always ends.
#[derive(Debug, Clone)]
pub(crate) struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    pub(crate) fn over(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    fn step(octets: &'a [u8]) -> Option<(Attribute<'a>, &'a [u8])> {
        let (&[kind, length], after) = octets.split_first_chunk::<2>()?;
        let (value, rest) = after.split_at_checked(usize::from(length).checked_sub(2)?)?;
        (kind != 0).then_some((Attribute { kind: AttributeType(kind), value }, rest))
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((attribute, rest)) = Self::step(self.rest) else {
            self.rest = &[];
            return Some(Err(Malformed));
        };
        self.rest = rest;
        Some(Ok(attribute))
    }
}
