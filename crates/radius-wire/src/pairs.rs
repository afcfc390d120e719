//! From names and texts to attributes, for what a target's rules add to a reply.

use crate::attribute::{AttributeType, OwnedAttribute};
use crate::dictionary::{ATTRIBUTE_OCTETS_MAX, Definition, Dictionary, Hiding, LONG_PIECE_OCTETS, ValueType};
use crate::hidden::{HidingError, HidingKey, Salts};
use crate::items::TAG_MAX;
use crate::nested::MORE;
use crate::value::ValueError;
use zeroize::Zeroizing;

/// A name of the dictionary, with a colon and a tag where it has one (`Tunnel-Type:1`), and the value as text.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// Why a pair is no attribute. The fault of whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {fault}")]
pub struct PairError {
    pub name: String,
    #[source]
    pub fault: PairFault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairFault {
    #[error("no dictionary knows this name{}", .nearest.as_ref().map(|near| format!(", but {near}")).unwrap_or_default())]
    Unknown { nearest: Option<String> },
    #[error("this attribute has no tags")]
    NoTags,
    #[error("a tag is a number from 0 to {TAG_MAX}")]
    Tag,
    #[error(transparent)]
    Value(ValueError),
    /// The value is a secret, and there is nothing to hide it with.
    #[error("this attribute is hidden, and there is no shared secret here")]
    NoKey,
    #[error(transparent)]
    Hiding(HidingError),
    /// Together with what surrounds it.
    #[error("the attribute exceeds {ATTRIBUTE_OCTETS_MAX} octets")]
    TooLong,
}

impl Dictionary {
    /// The attributes for these pairs, in their order. TLVs of the same attribute that follow each other share it, as
    /// far as they fit; all other values have an attribute of their own, long ones several without a gap.
    pub fn attributes(
        &self,
        pairs: &[Pair<'_>],
        key: Option<HidingKey<'_>>,
        salts: &mut Salts,
    ) -> Result<Vec<OwnedAttribute>, PairError> {
        let fail = |name: &str, fault| PairError { name: name.to_owned(), fault };
        let mut values = Vec::with_capacity(pairs.len());
        for pair in pairs {
            values.push(self.value_of(pair, key, salts).map_err(|fault| fail(pair.name, fault))?);
        }
        let mut attributes = Vec::with_capacity(values.len());
        let mut rest = values.as_slice();
        while let Some(first) = rest.first() {
            let (count, content) = self.share(rest);
            let content = content.ok_or_else(|| fail(first.definition.name(), PairFault::TooLong))?;
            self.surround(first, content, &mut attributes).map_err(|fault| fail(first.definition.name(), fault))?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(attributes)
    }

    fn value_of(&self, pair: &Pair<'_>, key: Option<HidingKey<'_>>, salts: &mut Salts) -> Result<Value<'_>, PairFault> {
        let (name, tag) = match pair.name.rsplit_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (pair.name, None),
        };
        let unknown = || PairFault::Unknown { nearest: self.nearest(name).map(str::to_owned) };
        let definition = self.by_name(name).ok_or_else(unknown)?;
        if tag.is_some() && !definition.has_tag() {
            return Err(PairFault::NoTags);
        }
        let tag = match tag.map(str::parse) {
            Some(Ok(tag @ 0..=TAG_MAX)) => Some(tag),
            Some(_) => return Err(PairFault::Tag),
            None => None,
        };
        let clear = Zeroizing::new(definition.encode(pair.text).map_err(PairFault::Value)?);
        let octets = match definition.hiding() {
            None => clear.to_vec(),
            Some(hiding) => hiding.hide(&clear, key.ok_or(PairFault::NoKey)?, salts).map_err(PairFault::Hiding)?,
        };
        let octets = if definition.has_tag() { tagged(definition, tag, octets) } else { octets };
        Ok(Value { definition, head: self.head(definition), octets })
    }

    /// How many numbers lead to the outermost thing that has a type and a length of its own.
    fn head(&self, definition: &Definition) -> usize {
        let place = definition.place();
        let type_at = |count| place.get(..count).and_then(|place| self.by_place(place)).map(Definition::value_type);
        match (place, type_at(1)) {
            (&[26, _, _, ..], _) => 3,
            (_, Some(ValueType::Extended | ValueType::LongExtended)) if place.len() > 1 => match type_at(2) {
                Some(ValueType::Evs) if place.len() > 3 => 4,
                _ => 2,
            },
            _ => 1,
        }
    }

    /// How many of the values share one attribute, and what stands in it. None where not even one fits.
    fn share(&self, values: &[Value<'_>]) -> (usize, Option<Vec<u8>>) {
        let Some(first) = values.first() else { return (0, None) };
        let (head, inside) = first.path();
        if inside.is_empty() {
            return (1, Some(first.octets.clone()));
        }
        let same = |value: &&Value<'_>| matches!(value.path(), (other, [_, ..]) if other == head);
        let room = self.by_place(head).map_or(ATTRIBUTE_OCTETS_MAX, Definition::value_octets_max);
        let mut shared = (1, tlvs(values.get(..1).unwrap_or_default(), 0, room));
        // Each step fits into one attribute, so there are few of them.
        for count in 2..=values.iter().take_while(same).count() {
            match tlvs(values.get(..count).unwrap_or_default(), 0, room) {
                Some(content) => shared = (count, Some(content)),
                None => break,
            }
        }
        shared
    }

    fn surround(
        &self,
        first: &Value<'_>,
        content: Vec<u8>,
        attributes: &mut Vec<OwnedAttribute>,
    ) -> Result<(), PairFault> {
        let head = first.definition.place().get(..first.head).unwrap_or_default();
        let octet = |number: u32| u8::try_from(number).map_err(|_| PairFault::TooLong);
        let mut push = |kind: u8, value: Vec<u8>| {
            if value.len() > ATTRIBUTE_OCTETS_MAX {
                return Err(PairFault::TooLong);
            }
            attributes.push(OwnedAttribute { kind: AttributeType(kind), value });
            Ok(())
        };
        match *head {
            [kind] if first.definition.concat() => {
                content.chunks(ATTRIBUTE_OCTETS_MAX).try_for_each(|piece| push(octet(kind)?, piece.to_vec()))
            }
            [kind] => push(octet(kind)?, content),
            [26, vendor, number] => push(26, self.of_vendor(vendor, number, &content)?),
            [kind, number, ref vendor @ ..] => {
                let content = match *vendor {
                    [vendor, of_vendor] => [&vendor.to_be_bytes(), [octet(of_vendor)?].as_slice(), &content].concat(),
                    _ => content,
                };
                let (kind, number) = (octet(kind)?, octet(number)?);
                let outermost = self.by_place(&[kind.into()]).map(Definition::value_type);
                if outermost != Some(ValueType::LongExtended) {
                    return push(kind, [&[number], content.as_slice()].concat());
                }
                let mut pieces = content.chunks(LONG_PIECE_OCTETS).peekable();
                while let Some(piece) = pieces.next() {
                    let more = if pieces.peek().is_some() { MORE } else { 0 };
                    push(kind, [&[number, more], piece].concat())?;
                }
                Ok(())
            }
            [] => Err(PairFault::TooLong), // no definition has an empty place
        }
    }

    fn of_vendor(&self, vendor: u32, number: u32, content: &[u8]) -> Result<Vec<u8>, PairFault> {
        let format = self.vendor_format(vendor);
        let length = u16::try_from(format.header_octets() + content.len()).map_err(|_| PairFault::TooLong)?;
        let mut value = Vec::with_capacity(ATTRIBUTE_OCTETS_MAX);
        value.extend(vendor.to_be_bytes());
        value.extend(last(&number.to_be_bytes(), format.type_octets));
        value.extend(last(&length.to_be_bytes(), format.length_octets));
        value.extend(format.continuation.then_some(0));
        value.extend(content);
        Ok(value)
    }
}

/// What a pair became: its octets with tag, hidden where they have to be, but without what surrounds them.
struct Value<'d> {
    definition: &'d Definition,
    head: usize,
    octets: Vec<u8>,
}

impl Value<'_> {
    fn path(&self) -> (&[u32], &[u32]) {
        self.definition.place().split_at(self.head)
    }
}

fn tagged(definition: &Definition, tag: Option<u8>, mut octets: Vec<u8>) -> Vec<u8> {
    let always = definition.hiding() == Some(Hiding::TunnelPassword); // RFC 2868 section 3.5
    if definition.value_type() == ValueType::Integer && !always {
        if let Some(first) = octets.first_mut() {
            *first = tag.unwrap_or_default(); // the number leaves it free
        }
        return octets;
    }
    let mistaken = octets.first().is_some_and(|first| *first <= TAG_MAX); // would be read as a tag
    if tag.is_some() || always || mistaken {
        octets.insert(0, tag.unwrap_or_default());
    }
    octets
}

/// TLVs for what stands `depth` deep inside; those that lead the same way are one.
fn tlvs(values: &[Value<'_>], depth: usize, room: usize) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let mut rest = values;
    while let Some(first) = rest.first() {
        let (_, inside) = first.path();
        let number = u8::try_from(*inside.get(depth)?).ok()?;
        let is_last = |value: &Value<'_>| value.path().1.len() == depth + 1;
        let same = |value: &&Value<'_>| value.path().1.get(depth) == inside.get(depth) && !is_last(value);
        let count = if is_last(first) { 1 } else { rest.iter().take_while(same).count() };
        let (group, behind) = rest.split_at_checked(count)?;
        let nested;
        let octets = if is_last(first) {
            &first.octets
        } else {
            nested = tlvs(group, depth + 1, room)?;
            &nested
        };
        content.extend([number, u8::try_from(octets.len() + 2).ok()?]);
        content.extend(octets);
        rest = behind;
    }
    (content.len() <= room).then_some(content)
}

fn last(octets: &[u8], count: u8) -> &[u8] {
    octets.get(octets.len().saturating_sub(count.into())..).unwrap_or_default()
}
