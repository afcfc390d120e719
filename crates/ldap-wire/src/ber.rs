//! The part of BER that LDAP allows (RFC 4511 section 5.1): definite lengths, one-octet tags, primitive strings.
//!
//! `Reader` walks octets it does not own and never allocates; `Writer` builds with the shortest lengths.
//! Lengths need not be minimal on read, because Active Directory writes `84 xx xx xx xx` everywhere, but four octets are the end.

pub const BOOLEAN: u8 = 0x01;
pub const INTEGER: u8 = 0x02;
pub const OCTET_STRING: u8 = 0x04;
pub const ENUMERATED: u8 = 0x0a;
pub const SEQUENCE: u8 = 0x30;
pub const SET: u8 = 0x31;

const CONSTRUCTED: u8 = 0x20;
const CONSTRUCTED_OCTET_STRING: u8 = OCTET_STRING | CONSTRUCTED;
const TAG_NUMBER: u8 = 0x1f;

/// Why octets are not the BER of RFC 4511 section 5.1. Always the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BerError {
    #[error("an element ends before its length says")]
    Truncated,
    #[error("indefinite length")]
    IndefiniteLength,
    #[error("length written in {0} octets, more than 4")]
    LongLength(u8),
    #[error("tag of more than one octet")]
    MultiOctetTag,
    #[error("tag {found:#04x} where {expected:#04x} was due")]
    UnexpectedTag { expected: u8, found: u8 },
    #[error("string in constructed form")]
    ConstructedString,
    #[error("integer of {0} octets")]
    IntegerSize(usize),
    #[error("boolean of {0} octets")]
    BooleanSize(usize),
    #[error("octets after the last element")]
    TrailingOctets,
    #[error("elements nested deeper than {0}")]
    TooDeep(usize),
}

/// One element: its tag, its content, and both together as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    pub whole: &'a [u8],
}

impl<'a> Element<'a> {
    pub fn reader(&self) -> Reader<'a> {
        Reader::new(self.content)
    }
}

/// Reads elements one after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn peek_tag(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub fn element(&mut self) -> Result<Element<'a>, BerError> {
        let header = header(self.rest)?.ok_or(BerError::Truncated)?;
        let total = header.total().ok_or(BerError::Truncated)?;
        let (whole, rest) = self.rest.split_at_checked(total).ok_or(BerError::Truncated)?;
        let content = whole.get(header.octets..).ok_or(BerError::Truncated)?;
        self.rest = rest;
        Ok(Element { tag: header.tag, content, whole })
    }

    pub fn expect(&mut self, tag: u8) -> Result<Element<'a>, BerError> {
        match self.peek_tag() {
            None => Err(BerError::Truncated),
            Some(found) if found == tag => self.element(),
            Some(found) if found == tag | CONSTRUCTED => Err(BerError::ConstructedString),
            Some(found) => Err(BerError::UnexpectedTag { expected: tag, found }),
        }
    }

    /// The next element if it has this tag: how OPTIONAL and DEFAULT are read.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, BerError> {
        if self.peek_tag() == Some(tag) { self.element().map(Some) } else { Ok(None) }
    }

    pub fn octet_string(&mut self) -> Result<&'a [u8], BerError> {
        Ok(self.expect(OCTET_STRING)?.content)
    }

    pub fn integer(&mut self, tag: u8) -> Result<i32, BerError> {
        integer(self.expect(tag)?.content)
    }

    pub fn boolean(&mut self) -> Result<bool, BerError> {
        boolean(self.expect(BOOLEAN)?.content)
    }

    pub fn finish(self) -> Result<(), BerError> {
        if self.rest.is_empty() { Ok(()) } else { Err(BerError::TrailingOctets) }
    }
}

/// A signed integer of one to four octets; no field of LDAP needs more (RFC 4511 section 4.1.1, maxInt).
pub fn integer(content: &[u8]) -> Result<i32, BerError> {
    let first = match content {
        [first, ..] if content.len() <= 4 => *first,
        _ => return Err(BerError::IntegerSize(content.len())),
    };
    let sign = if first & 0x80 == 0 { 0 } else { -1 };
    Ok(content.iter().fold(sign, |value: i32, octet| (value << 8) | i32::from(*octet)))
}

/// Any octet but 0 is true: senders of 01 exist, although RFC 4511 section 5.1 wants FF.
pub fn boolean(content: &[u8]) -> Result<bool, BerError> {
    match content {
        [octet] => Ok(*octet != 0),
        _ => Err(BerError::BooleanSize(content.len())),
    }
}

/// Tag and length of an element whose content may not have arrived yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub tag: u8,
    pub octets: usize,
    pub content: usize,
}

impl Header {
    pub fn total(&self) -> Option<usize> {
        self.octets.checked_add(self.content)
    }
}

/// `None` while more octets are needed to know.
pub(crate) fn header(input: &[u8]) -> Result<Option<Header>, BerError> {
    let Some(&tag) = input.first() else { return Ok(None) };
    if tag & TAG_NUMBER == TAG_NUMBER {
        return Err(BerError::MultiOctetTag);
    }
    let Some(&first) = input.get(1) else { return Ok(None) };
    let count = match first {
        0x00..=0x7f => return Ok(Some(Header { tag, octets: 2, content: usize::from(first) })),
        0x80 => return Err(BerError::IndefiniteLength),
        0x81..=0x84 => usize::from(first & 0x7f),
        _ => return Err(BerError::LongLength(first & 0x7f)),
    };
    let octets = 2 + count;
    let Some(length) = input.get(2..octets) else { return Ok(None) };
    let content = length.iter().fold(0usize, |value, octet| (value << 8) | usize::from(*octet));
    Ok(Some(Header { tag, octets, content }))
}

/// Levels that `check_structure` needs no memory for.
const NEAR_LEVELS: usize = 16;

/// Walks every element at every level without recursion and refuses what RFC 4511 section 5.1 forbids.
/// Content of primitive elements (control values, extended values) is opaque and not looked into.
pub fn check_structure(octets: &[u8], depth_max: usize) -> Result<(), BerError> {
    // What is left of the elements that the one being read lies in. Requests are rarely deeper than the first places.
    let mut outer: [Reader; NEAR_LEVELS] = std::array::from_fn(|_| Reader::new(&[]));
    let mut further: Vec<Reader> = Vec::new();
    let mut depth = 0;
    let mut reader = Reader::new(octets);
    loop {
        if reader.is_empty() {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            reader = match outer.get(depth) {
                Some(parent) => parent.clone(),
                None => further.pop().unwrap_or(Reader::new(&[])),
            };
            continue;
        }
        let element = reader.element()?;
        if element.tag == CONSTRUCTED_OCTET_STRING {
            return Err(BerError::ConstructedString);
        }
        if element.tag & CONSTRUCTED != 0 {
            if depth + 1 >= depth_max {
                return Err(BerError::TooDeep(depth_max));
            }
            let parent = std::mem::replace(&mut reader, element.reader());
            match outer.get_mut(depth) {
                Some(place) => *place = parent,
                None => further.push(parent),
            }
            depth += 1;
        }
    }
}

/// Builds BER with the shortest lengths.
#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    /// With room for everything to come, so that a secret written is not left behind by a reallocation.
    pub fn with_capacity(octets: usize) -> Self {
        Self { out: Vec::with_capacity(octets) }
    }

    pub fn into_vec(self) -> Vec<u8> {
        self.out
    }

    /// An element whose content is written by `content`.
    pub fn nested(&mut self, tag: u8, content: impl FnOnce(&mut Self)) {
        self.out.push(tag);
        let start = self.out.len();
        content(self);
        let (length, used) = length_octets(self.out.len() - start);
        let end = self.out.len();
        self.out.resize(end + used, 0);
        self.out.copy_within(start..end, start + used);
        for (place, octet) in self.out.iter_mut().skip(start).zip(length.iter().take(used)) {
            *place = *octet;
        }
    }

    pub fn octets(&mut self, tag: u8, content: &[u8]) {
        self.out.push(tag);
        let (length, used) = length_octets(content.len());
        self.out.extend(length.iter().take(used));
        self.out.extend_from_slice(content);
    }

    pub fn octet_string(&mut self, content: &[u8]) {
        self.octets(OCTET_STRING, content);
    }

    pub fn integer(&mut self, tag: u8, value: i64) {
        let octets = value.to_be_bytes();
        // The shortest two's complement: drop a leading octet while the next one says the same sign.
        let skip = octets
            .iter()
            .zip(octets.iter().skip(1))
            .take_while(|(first, next)| matches!((**first, **next), (0x00, 0x00..=0x7f) | (0xff, 0x80..=0xff)))
            .count();
        self.octets(tag, octets.get(skip..).unwrap_or(&octets));
    }

    pub fn boolean(&mut self, tag: u8, value: bool) {
        self.octets(tag, &[if value { 0xff } else { 0x00 }]);
    }

    /// Octets that are BER already.
    pub fn raw(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }
}

/// The length octets and how many of them count.
fn length_octets(length: usize) -> ([u8; 9], usize) {
    let mut octets = [0; 9];
    let big_endian = (length as u64).to_be_bytes();
    let skip = big_endian.iter().take_while(|octet| **octet == 0).count().min(7);
    let used = 8 - skip;
    if length < 0x80 {
        octets[0] = length as u8;
        return (octets, 1);
    }
    octets[0] = 0x80 | used as u8;
    for (place, octet) in octets.iter_mut().skip(1).zip(big_endian.iter().skip(skip)) {
        *place = *octet;
    }
    (octets, 1 + used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_written_in_the_fewest_octets_and_read_back() {
        let cases: [(i64, &[u8]); 8] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x00, 0x80]),
            (-1, &[0xff]),
            (-128, &[0x80]),
            (-129, &[0xff, 0x7f]),
            (256_000, &[0x03, 0xe8, 0x00]),
            (0x7fff_ffff, &[0x7f, 0xff, 0xff, 0xff]),
        ];
        for (value, content) in cases {
            let mut writer = Writer::new();
            writer.integer(INTEGER, value);
            let written = writer.into_vec();
            assert_eq!(written, [&[INTEGER, content.len() as u8], content].concat(), "{value}");
            assert_eq!(Reader::new(&written).integer(INTEGER).map(i64::from), Ok(value));
        }
    }

    #[test]
    fn lengths_at_each_border_are_read_as_written() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 20_000_000] {
            let mut writer = Writer::new();
            writer.nested(SEQUENCE, |w| w.raw(&vec![0; length]));
            let written = writer.into_vec();
            let element = Reader::new(&written).element().expect("own encoding");
            assert_eq!((element.content.len(), element.whole.len()), (length, written.len()));
        }
    }

    #[test]
    fn a_structure_of_depth_128_passes_and_129_does_not() {
        // L-03.
        let nested = |depth: usize| {
            (0..depth).fold(Vec::new(), |inner, _| {
                let mut writer = Writer::new();
                writer.octets(SEQUENCE, &inner);
                writer.into_vec()
            })
        };
        assert_eq!(check_structure(&nested(127), 128), Ok(()));
        assert_eq!(check_structure(&nested(129), 128), Err(BerError::TooDeep(128)));
    }
}
