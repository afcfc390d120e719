//! What attributes are called and how their values are written (R-70).
//!
//! A dictionary knows names and places. A place is the numbers on the way to a value, as they stand on the wire:
//!
//! ```text
//! [6]                   Service-Type, an attribute of its own       [26, 9, 1]         Cisco-AVPair, inside Vendor-Specific
//! [241, 5, 2]           IP-Port-Limit, a TLV in an extended one     [245, 26, 11344, 1]  a vendor's, inside an extended one
//! ```
//!
//! It decides nothing: what no dictionary knows is carried on as it came (R-04).

mod parse;
mod shipped;

pub(crate) use parse::{ATTRIBUTE_OCTETS_MAX, LONG_PIECE_OCTETS, PIECES_MAX, PLACE_NUMBERS_MAX, parse_number};
pub use parse::{DictionaryError, DictionaryFault};

use std::collections::HashMap;

/// Names, places and values. Later definitions of a name or a place win over earlier ones.
#[derive(Clone, Default)]
pub struct Dictionary {
    definitions: Vec<Definition>,
    /// By name in lower case.
    by_name: HashMap<String, usize>,
    by_place: HashMap<Box<[u32]>, usize>,
    vendors: Vec<DictionaryVendor>,
}

impl Dictionary {
    /// The RFCs and the vendors that ship with Twinlock. Read once.
    pub fn shipped() -> &'static Self {
        shipped::dictionary()
    }

    /// This dictionary with an administrator's file on top. `file` is its name in errors. It may not include others.
    pub fn with(&self, file: &str, text: &str) -> Result<Self, DictionaryError> {
        self.with_includes(file, text, |_| None)
    }

    /// As [`Self::with`]; `include` gives the text of what `$INCLUDE` names, or None where it may not be read.
    pub fn with_includes(
        &self,
        file: &str,
        text: &str,
        include: impl FnMut(&str) -> Option<String>,
    ) -> Result<Self, DictionaryError> {
        parse::add(self.clone(), file, text, include)
    }

    /// Names are the same in upper and lower case.
    pub fn by_name(&self, name: &str) -> Option<&Definition> {
        self.definitions.get(*self.by_name.get(&name.to_ascii_lowercase())?)
    }

    pub fn by_place(&self, place: &[u32]) -> Option<&Definition> {
        self.definitions.get(*self.by_place.get(place)?)
    }

    /// The format of a vendor's own attributes; the usual one where the vendor is unknown (RFC 2865 section 5.26).
    pub fn vendor_format(&self, vendor: u32) -> VendorFormat {
        self.vendors.iter().rev().find(|known| known.id == vendor).map_or(VendorFormat::USUAL, |known| known.format)
    }

    pub fn vendors(&self) -> &[DictionaryVendor] {
        &self.vendors
    }

    /// Everything, in the order in which it was defined.
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// The known name that is most like this one, for an error message. None where nothing is near.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        const LENGTH_MAX: usize = 64; // longer ones are no slip of the pen, and the search is quadratic in it
        if name.len() > LENGTH_MAX {
            return None;
        }
        let name = name.to_ascii_lowercase();
        let edits_max = (name.len() / 4).max(1);
        let near = |known: &Definition| {
            let known = known.name.to_ascii_lowercase();
            let possible = known.len().abs_diff(name.len()) <= edits_max;
            possible.then(|| edits(name.as_bytes(), known.as_bytes())).filter(|edits| *edits <= edits_max)
        };
        let nearest = self.definitions.iter().filter_map(|known| Some((near(known)?, known)));
        nearest.min_by_key(|(edits, _)| *edits).map(|(_, known)| known.name.as_str())
    }
}

/// How many octets must be put in, taken out or changed to make one of the other.
fn edits(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, octet) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, candidate) in other.iter().enumerate() {
            let changed = diagonal + usize::from(octet != candidate);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// One attribute: what it is called, where it stands and what its value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    name: String,
    place: Box<[u32]>,
    value_type: ValueType,
    flags: Flags,
    value_octets_max: usize,
    /// In the order of the file; of two names for one number the later is shown.
    values: Vec<(String, u64)>,
}

/// What stands behind the type of an ATTRIBUTE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Flags {
    hiding: Option<Hiding>,
    has_tag: bool,
    concat: bool,
}

impl Definition {
    /// What it is called, as the dictionary writes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The numbers that lead to it. Never empty.
    pub fn place(&self) -> &[u32] {
        &self.place
    }

    pub fn value_type(&self) -> ValueType {
        self.value_type
    }

    /// How the value is hidden from those who listen (`encrypt=`).
    pub fn hiding(&self) -> Option<Hiding> {
        self.flags.hiding
    }

    /// Whether a tag groups it with others (RFC 2868 section 3.1).
    pub fn has_tag(&self) -> bool {
        self.flags.has_tag
    }

    /// Whether a long value continues in the next attribute of the same type.
    pub fn concat(&self) -> bool {
        self.flags.concat
    }

    /// The most octets a value can have, clear, without tag, salt and what surrounds it.
    pub fn value_octets_max(&self) -> usize {
        self.value_octets_max
    }

    /// The names of numbers.
    pub fn values(&self) -> impl Iterator<Item = (&str, u64)> {
        self.values.iter().map(|(name, number)| (name.as_str(), *number))
    }

    /// Names are the same in upper and lower case.
    pub fn value_named(&self, name: &str) -> Option<u64> {
        self.values.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| *number)
    }

    pub fn value_name(&self, number: u64) -> Option<&str> {
        self.values.iter().rev().find(|(_, known)| *known == number).map(|(name, _)| name.as_str())
    }
}

/// How a hidden value is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hiding {
    /// `encrypt=1`: as User-Password (RFC 2865 section 5.2) and MS-CHAP-MPPE-Keys (RFC 2548 section 2.4.1).
    UserPassword,
    /// `encrypt=2`: salted, as Tunnel-Password (RFC 2868 section 3.5) and MS-MPPE-Send-Key (RFC 2548 section 2.4.2).
    TunnelPassword,
    /// `encrypt=3`: one block, as Ascend-Send-Secret.
    AscendSecret,
}

/// What a value is, by the names of FreeRADIUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    String,
    /// Any octets; of exactly this number where one is given.
    Octets(Option<u8>),
    Byte,
    Short,
    Integer,
    Integer64,
    Signed,
    Date,
    IpAddr,
    Ipv4Prefix,
    Ipv6Addr,
    Ipv6Prefix,
    /// IPv4 or IPv6.
    ComboIp,
    Ifid,
    Ether,
    /// The binary filters of Ascend. Written as octets.
    Abinary,
    // Those that hold others. By name they are written as octets.
    Tlv,
    Vsa,
    Extended,
    LongExtended,
    Evs,
}

impl ValueType {
    fn holds_others(self) -> bool {
        matches!(self, Self::Tlv | Self::Vsa | Self::Extended | Self::LongExtended | Self::Evs)
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Byte | Self::Short | Self::Integer | Self::Integer64 | Self::Signed | Self::Date)
    }
}

/// A VENDOR line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DictionaryVendor {
    pub name: String,
    pub id: u32,
    pub format: VendorFormat,
}

/// How a vendor writes types and lengths (`format=t,l[,c]`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VendorFormat {
    /// 1, 2 or 4.
    pub type_octets: u8,
    /// 0, 1 or 2. With 0 the value goes on to the end.
    pub length_octets: u8,
    /// Whether an octet after the length says that the value goes on in the next attribute (WiMAX).
    pub continuation: bool,
}

impl VendorFormat {
    /// RFC 2865 section 5.26.
    pub const USUAL: Self = Self { type_octets: 1, length_octets: 1, continuation: false };

    pub(crate) fn header_octets(self) -> usize {
        usize::from(self.type_octets) + usize::from(self.length_octets) + usize::from(self.continuation)
    }
}

#[cfg(test)]
mod tests;
