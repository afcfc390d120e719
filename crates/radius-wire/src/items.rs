//! A packet's attributes by name, for logs and rules: each value with its definition, tag and octets.
//!
//! What belongs together is put together: the pieces of a long-extended attribute and of one that continues, if they
//! follow each other without a gap. What is unknown or not well formed stays as it came, in its place.

use crate::attribute::{Attribute, AttributeType};
use crate::dictionary::{Definition, Dictionary, Hiding, LONG_PIECE_OCTETS, PIECES_MAX, ValueType};
use crate::nested::{self, Place};
use crate::value::as_hexadecimal;
use std::borrow::Cow;

/// One value of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<'d, 'p> {
    /// None where no dictionary knows the place.
    pub definition: Option<&'d Definition>,
    pub place: Place,
    /// 1 to 31, of an attribute that has tags.
    pub tag: Option<u8>,
    /// The value without its tag. A hidden one is still hidden.
    pub octets: Cow<'p, [u8]>,
}

impl Item<'_, '_> {
    /// The name of the dictionary, or `Attr-` and the place.
    pub fn name(&self) -> Cow<'_, str> {
        match self.definition {
            Some(known) => Cow::Borrowed(known.name()),
            None => {
                let numbers: Vec<_> = self.place.iter().map(u32::to_string).collect();
                Cow::Owned(format!("Attr-{}", numbers.join(".")))
            }
        }
    }

    /// The value as text: by its type where it is one, else as octets. None for a hidden value.
    pub fn text(&self) -> Option<String> {
        match self.definition {
            Some(known) if known.hiding().is_some() => None,
            known => known.and_then(|known| known.decode(&self.octets)).or_else(|| Some(as_hexadecimal(&self.octets))),
        }
    }
}

impl Dictionary {
    /// All values of these attributes, in order. Costs no more than some steps an octet, whatever they say (B-09 to B-11).
    pub fn items<'p>(&self, attributes: impl IntoIterator<Item = Attribute<'p>>) -> Vec<Item<'_, 'p>> {
        let mut reader = Reader { dictionary: self, items: Vec::new(), pieces: Vec::new(), continued: None };
        attributes.into_iter().for_each(|attribute| reader.attribute(attribute));
        reader.give_up_pieces();
        reader.items
    }
}

struct Reader<'d, 'p> {
    dictionary: &'d Dictionary,
    items: Vec<Item<'d, 'p>>,
    /// The pieces so far of a value that goes on at `continued`, and the attributes they came in.
    pieces: Vec<(Attribute<'p>, &'p [u8])>,
    continued: Option<Place>,
}

impl<'p> Reader<'_, 'p> {
    fn attribute(&mut self, attribute: Attribute<'p>) {
        let Some(fragment) = nested::fragment(self.dictionary, attribute) else {
            self.give_up_pieces();
            return self.whole(attribute);
        };
        let continues = self.continued == Some(fragment.place);
        if !continues {
            self.give_up_pieces();
        }
        match (continues, fragment.more) {
            (_, true) => {
                self.continued = Some(fragment.place);
                self.pieces.push((attribute, fragment.value));
            }
            (true, false) => {
                self.pieces.push((attribute, fragment.value));
                self.join_pieces(fragment.place);
            }
            (false, false) => self.whole(attribute),
        }
    }

    fn join_pieces(&mut self, place: Place) {
        if self.pieces.len() > PIECES_MAX {
            return self.give_up_pieces();
        }
        let mut value = Vec::with_capacity(PIECES_MAX * LONG_PIECE_OCTETS);
        self.pieces.drain(..).for_each(|(_, piece)| value.extend(piece));
        self.continued = None;
        nested::leaves_at(self.dictionary, place, &value, 0, &mut |leaf| {
            let octets = value.get(leaf.range).unwrap_or_default().to_vec();
            self.items.push(item(leaf.place, leaf.definition, octets.into()));
        });
    }

    /// The end never came, or too late: each is an attribute that says nothing (RFC 6929 section 2.8).
    fn give_up_pieces(&mut self) {
        self.continued = None;
        for (attribute, _) in self.pieces.drain(..) {
            let place = Place::of(attribute.kind);
            self.items.push(item(place, self.dictionary.by_place(&place), attribute.value.into()));
        }
    }

    fn whole(&mut self, attribute: Attribute<'p>) {
        if attribute.kind != AttributeType::VENDOR_SPECIFIC
            && let Some(last) = self.items.last_mut()
            && *last.place == [u32::from(attribute.kind.0)]
            && last.definition.is_some_and(Definition::concat)
        {
            return last.octets.to_mut().extend(attribute.value);
        }
        nested::leaves(self.dictionary, attribute, |leaf| {
            let octets = attribute.value.get(leaf.range).unwrap_or_default();
            self.items.push(item(leaf.place, leaf.definition, octets.into()));
        });
    }
}

fn item<'d, 'p>(place: Place, definition: Option<&'d Definition>, octets: Cow<'p, [u8]>) -> Item<'d, 'p> {
    let first = octets.first().copied().filter(|_| definition.is_some_and(Definition::has_tag));
    let is_tag = |octet: u8| match definition.map(|known| (known.value_type(), known.hiding())) {
        Some((_, Some(Hiding::TunnelPassword))) => true, // always there (RFC 2868 section 3.5)
        Some((ValueType::Integer, _)) => octet <= TAG_MAX && octets.len() == 4,
        _ => octet <= TAG_MAX, // above, it is the first octet of the value (RFC 2868 section 3.3)
    };
    match first.filter(|octet| is_tag(*octet)) {
        None => Item { definition, place, tag: None, octets },
        Some(tag) => {
            let octets = match octets {
                Cow::Borrowed(octets) => Cow::Borrowed(octets.get(1..).unwrap_or_default()),
                Cow::Owned(mut octets) => {
                    octets.remove(0);
                    Cow::Owned(octets)
                }
            };
            Item { definition, place, tag: (1..=TAG_MAX).contains(&tag).then_some(tag), octets }
        }
    }
}

/// RFC 2868 section 3.1.
pub(crate) const TAG_MAX: u8 = 0x1f;
