//! What stands inside an attribute: vendors' attributes, TLVs, extended attributes (R-03, B-09, B-10).
//!
//! What is not well formed stays one opaque value. No step reads an octet twice at the same depth, the depth is bounded
//! by [`Place`], and each step ends behind where it began; so no input makes it long.

use crate::attribute::{Attribute, AttributeType};
use crate::dictionary::{
    ATTRIBUTE_OCTETS_MAX, Definition, Dictionary, LONG_PIECE_OCTETS, PLACE_NUMBERS_MAX, ValueType, VendorFormat,
};
use std::ops::{Deref, Range};

/// The numbers that lead to a value. See [`Dictionary`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    numbers: [u32; PLACE_NUMBERS_MAX],
    count: usize,
}

impl Place {
    pub(crate) fn of(kind: AttributeType) -> Self {
        let mut numbers = [0; PLACE_NUMBERS_MAX];
        numbers[0] = kind.0.into();
        Self { numbers, count: 1 }
    }

    /// None where it would become too deep.
    fn with(mut self, more: &[u32]) -> Option<Self> {
        self.numbers.get_mut(self.count..self.count + more.len())?.copy_from_slice(more);
        self.count += more.len();
        Some(self)
    }
}

impl Deref for Place {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        self.numbers.get(..self.count).unwrap_or_default()
    }
}

/// A value that holds no others.
pub(crate) struct Leaf<'d> {
    pub(crate) place: Place,
    pub(crate) definition: Option<&'d Definition>,
    /// Where in the octets given.
    pub(crate) range: Range<usize>,
}

/// All values in one attribute, in order. One in several pieces is an opaque one here.
pub(crate) fn leaves<'d>(dictionary: &'d Dictionary, attribute: Attribute<'_>, mut visit: impl FnMut(Leaf<'d>)) {
    leaves_at(dictionary, Place::of(attribute.kind), attribute.value, 0, &mut visit);
}

/// All values in the value at `place`, which stands at `start`.
pub(crate) fn leaves_at<'d>(
    dictionary: &'d Dictionary,
    place: Place,
    octets: &[u8],
    start: usize,
    visit: &mut impl FnMut(Leaf<'d>),
) {
    let definition = dictionary.by_place(&place);
    let opaque = Leaf { place, definition, range: start..start + octets.len() };
    let Some(inside) = inside(dictionary, &place, definition, octets) else { return visit(opaque) };
    let walk = Parts { rest: octets.get(inside.from..).unwrap_or_default(), at: inside.from, format: inside.parts };
    let well_formed = |part: Option<Part<'_>>| part.is_some_and(|part| !part.more);
    let deep_enough = inside.place.with(&[0; 1]).is_some() || inside.parts == Form::One;
    if !deep_enough || !walk.clone().all(well_formed) {
        return visit(opaque);
    }
    for part in walk.flatten() {
        let place = match part.number {
            Some(number) => inside.place.with(&[number]),
            None => Some(inside.place),
        };
        if let Some(place) = place {
            leaves_at(dictionary, place, part.value, start + part.at, visit);
        }
    }
}

/// What holds others.
struct Inside {
    /// Where the parts begin.
    from: usize,
    /// What leads to them, but for their own number.
    place: Place,
    parts: Form,
}

/// How the parts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One part without type and length: all of it.
    One,
    /// As in RFC 6929 section 2.3.
    Tlv,
    Vendor(VendorFormat),
}

fn inside(dictionary: &Dictionary, place: &Place, definition: Option<&Definition>, octets: &[u8]) -> Option<Inside> {
    if **place == [u32::from(AttributeType::VENDOR_SPECIFIC.0)] {
        let (vendor, rest) = octets.split_first_chunk::<4>()?;
        let vendor = u32::from_be_bytes(*vendor);
        let parts = Form::Vendor(dictionary.vendor_format(vendor));
        return (!rest.is_empty()).then_some(Inside { from: 4, place: place.with(&[vendor])?, parts });
    }
    let one = |from, numbers: &[u32]| Some(Inside { from, place: place.with(numbers)?, parts: Form::One });
    match (definition?.value_type(), octets) {
        (ValueType::Tlv, [_, ..]) => Some(Inside { from: 0, place: *place, parts: Form::Tlv }),
        (ValueType::Extended, [number, _, ..]) => one(1, &[u32::from(*number)]),
        (ValueType::LongExtended, [number, flags, _, ..]) if flags & MORE == 0 => one(2, &[u32::from(*number)]),
        (ValueType::Evs, [a, b, c, d, number, _, ..]) => {
            one(5, &[u32::from_be_bytes([*a, *b, *c, *d]), u32::from(*number)])
        }
        _ => None,
    }
}

/// RFC 6929 section 2.2, and WiMAX.
pub(crate) const MORE: u8 = 0x80;

struct Part<'a> {
    number: Option<u32>,
    more: bool,
    value: &'a [u8],
    at: usize,
}

/// Yields None once where the octets are not well formed, and then nothing.
#[derive(Clone)]
struct Parts<'a> {
    rest: &'a [u8],
    at: usize,
    format: Form,
}

impl<'a> Parts<'a> {
    fn step(&self) -> Option<(Part<'a>, &'a [u8])> {
        let format = match self.format {
            Form::One => return Some((Part { number: None, more: false, value: self.rest, at: self.at }, &[])),
            Form::Tlv => VendorFormat::USUAL,
            Form::Vendor(format) => format,
        };
        let (number, behind) = self.rest.split_at_checked(format.type_octets.into())?;
        let (length, behind) = behind.split_at_checked(format.length_octets.into())?;
        let flags_octets = usize::from(format.continuation);
        let (flags, behind) = behind.split_at_checked(flags_octets)?;
        let value_octets = match length {
            [] => behind.len(),
            length => usize::try_from(big_endian(length)).ok()?.checked_sub(format.header_octets())?,
        };
        let (value, rest) = behind.split_at_checked(value_octets)?;
        let more = flags.first().is_some_and(|flags| flags & MORE != 0);
        let at = self.at + format.header_octets();
        Some((Part { number: Some(big_endian(number)), more, value, at }, rest))
    }
}

/// Of at most four octets.
fn big_endian(octets: &[u8]) -> u32 {
    octets.iter().fold(0, |number, octet| number << 8 | u32::from(*octet))
}

impl<'a> Iterator for Parts<'a> {
    type Item = Option<Part<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((part, rest)) = self.step() else {
            self.rest = &[];
            return Some(None);
        };
        self.at += self.rest.len() - rest.len();
        self.rest = rest;
        Some(Some(part))
    }
}

/// A piece of a value that may go on in the next attribute.
pub(crate) struct Fragment<'a> {
    pub(crate) place: Place,
    pub(crate) more: bool,
    pub(crate) value: &'a [u8],
}

/// The attribute as a piece: a long-extended one, or that of a vendor whose format has a continuation octet. None for
/// all others, and where it is not well formed.
pub(crate) fn fragment<'a>(dictionary: &Dictionary, attribute: Attribute<'a>) -> Option<Fragment<'a>> {
    let place = Place::of(attribute.kind);
    if attribute.kind == AttributeType::VENDOR_SPECIFIC {
        let (vendor, rest) = attribute.value.split_first_chunk::<4>()?;
        let vendor = u32::from_be_bytes(*vendor);
        let format = dictionary.vendor_format(vendor);
        let mut parts = Parts { rest, at: 4, format: Form::Vendor(format) };
        let part = parts.next().flatten().filter(|_| format.continuation && parts.rest.is_empty())?;
        return Some(Fragment { place: place.with(&[vendor, part.number?])?, more: part.more, value: part.value });
    }
    let long = dictionary.by_place(&place)?.value_type() == ValueType::LongExtended;
    let &[number, flags, ref value @ ..] = attribute.value else { return None };
    let more = flags & MORE != 0;
    // RFC 6929 section 2.2: only an attribute of full size may say that there is more.
    let possible = if more { value.len() == LONG_PIECE_OCTETS } else { !value.is_empty() };
    debug_assert_eq!(LONG_PIECE_OCTETS + 2, ATTRIBUTE_OCTETS_MAX);
    (long && possible).then_some(Fragment { place: place.with(&[number.into()])?, more, value })
}

/// The name of an attribute that is hidden, at this place or inside.
pub(crate) fn hidden_below<'d>(dictionary: &'d Dictionary, place: &Place) -> Option<&'d str> {
    let mut hidden = dictionary.definitions().iter().filter(|known| known.hiding().is_some());
    hidden.find(|known| known.place().starts_with(place)).map(Definition::name)
}
