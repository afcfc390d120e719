//! Dictionary text to definitions. The text is an administrator's: whatever it says ends in a dictionary or in an
//! error that names file, line, what stands there and what may stand there.

use super::{Definition, Dictionary, DictionaryVendor, Flags, Hiding, ValueType, VendorFormat};
use crate::attribute::AttributeType;
use std::sync::Arc;

/// What is wrong with a dictionary, and where. The fault of whoever wrote the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} line {line}: {fault}")]
pub struct DictionaryError {
    pub file: String,
    /// From 1.
    pub line: usize,
    pub fault: DictionaryFault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DictionaryFault {
    #[error("{found} is no keyword; allowed: {KEYWORDS}")]
    Keyword { found: String },
    #[error("too many or too few fields; the form is: {form}")]
    Fields { form: &'static str },
    #[error("the name {found} is not 1 to 128 of the characters A-Z a-z 0-9 - _ . / +")]
    Name { found: String },
    #[error(
        "{found} is no number; allowed: decimal, 0x with hexadecimal digits, for attributes also with dots between"
    )]
    Number { found: String },
    #[error("the number {found} is out of range; allowed here: {min} to {max}")]
    Range { found: u64, min: u64, max: u64 },
    #[error("more than {PLACE_NUMBERS_MAX} numbers lead to the attribute")]
    Depth,
    #[error(
        "nothing that can hold attributes is defined as {parent}; allowed: tlv, extended, long-extended, defined before"
    )]
    Parent { parent: String },
    #[error("{found} is no type; allowed: {TYPES}")]
    Type { found: String },
    #[error("{found} is no flag; allowed: encrypt=1, encrypt=2, encrypt=3, has_tag, concat, array, secret")]
    Flag { found: String },
    #[error("{flag} does not go with the type {found}; allowed: {allowed}")]
    FlagOfType { flag: &'static str, found: String, allowed: &'static str },
    #[error("the name {name} belongs to attribute {place} already; another name is allowed")]
    NameTaken { name: String, place: String },
    #[error(
        "attribute {place} is {name}, and how it is hidden cannot be changed; allowed: the same encrypt=, or another number"
    )]
    HidingChanged { name: String, place: String },
    #[error("no attribute is called {found}{}", .nearest.as_ref().map(|near| format!("; {near} is")).unwrap_or_default())]
    UnknownAttribute { found: String, nearest: Option<String> },
    #[error(
        "{attribute} is no number, so its values have no names; allowed: byte, short, integer, integer64, signed, date"
    )]
    ValueOfType { attribute: String },
    #[error("the vendor name {found} belongs to number {id} already; another name is allowed")]
    VendorNameTaken { found: String, id: u32 },
    #[error("vendor {id} has attributes already, so its format cannot change; allowed: the same format")]
    VendorFormatChanged { id: u32 },
    #[error(
        "attribute {place} is {name}, which holds others, so its type cannot change; allowed: the same type, or another number"
    )]
    TypeChanged { name: String, place: String },
    #[error("no vendor is called {found}; a VENDOR line comes first")]
    UnknownVendor { found: String },
    #[error("{found} is no vendor format; allowed: format=t,l or format=t,l,c with t 1, 2 or 4 and l 0, 1 or 2")]
    VendorFormat { found: String },
    #[error(
        "{found} is not where vendors can be; allowed: parent= or format= with the name of an attribute of type evs"
    )]
    VendorParent { found: String },
    #[error("{found} is no attribute of type tlv, defined before")]
    NotATlv { found: String },
    #[error("{found} ends what is not open; open is {open}")]
    Nesting { found: String, open: String },
    #[error("the file ends inside {open}")]
    Open { open: String },
    #[error("{found} may not be included here; put its lines into this file")]
    Include { found: String },
    #[error("{found} includes itself, or more than {INCLUDE_DEPTH_MAX} files deep or {INCLUDES_MAX} in all")]
    Includes { found: String },
    #[error("more than {DEFINITIONS_MAX} attributes or values")]
    TooMany,
}

const KEYWORDS: &str =
    "ATTRIBUTE, VALUE, VENDOR, BEGIN-VENDOR, END-VENDOR, BEGIN-TLV, END-TLV, $INCLUDE, FLAGS (ignored)";
const TYPES: &str = "string, octets, octets[n], byte, short, integer, integer64, signed, date, ipaddr, ipv4prefix, \
    ipv6addr, ipv6prefix, combo-ip, ifid, ether, abinary, tlv, vsa, extended, long-extended, evs";
/// The bounds of what a file may ask for, far beyond all dictionaries of FreeRADIUS together.
const DEFINITIONS_MAX: usize = 100_000;
const INCLUDE_DEPTH_MAX: usize = 8;
const INCLUDES_MAX: usize = 500;
pub(crate) const PLACE_NUMBERS_MAX: usize = 8;

/// What an attribute can hold (RFC 2865 section 5).
pub(crate) const ATTRIBUTE_OCTETS_MAX: usize = 253;
/// The most attributes of full size in one packet beside its header and Message-Authenticator: a longer value cannot be
/// sent, in however many pieces.
pub(crate) const PIECES_MAX: usize = 15;
/// What a piece of a long-extended attribute can hold (RFC 6929 section 2.2).
pub(crate) const LONG_PIECE_OCTETS: usize = 251;

pub(super) fn add(
    dictionary: Dictionary,
    file: &str,
    text: &str,
    include: impl FnMut(&str) -> Option<String>,
) -> Result<Dictionary, DictionaryError> {
    let mut parser = Parser { dictionary, include, including: Vec::new(), includes: 0, entries: 0, values: Vec::new() };
    parser.file(file, text)?;
    parser.name_values()?;
    Ok(parser.dictionary)
}

struct Parser<I> {
    dictionary: Dictionary,
    include: I,
    /// The files that are open, to see one that includes itself.
    including: Vec<Arc<str>>,
    includes: usize,
    entries: usize,
    /// Named at the end: a VALUE may stand before its ATTRIBUTE.
    values: Vec<Value>,
}

struct Value {
    file: Arc<str>,
    line: usize,
    attribute: String,
    name: String,
    number: u64,
}

/// What BEGIN- opened.
struct Block {
    kind: &'static str,
    name: String,
    place: Vec<u32>,
}

/// Where in the text we are, within one file.
#[derive(Default)]
struct Position {
    blocks: Vec<Block>,
    /// What a number that begins with a dot continues.
    last: Vec<u32>,
}

impl Position {
    fn place(&self) -> &[u32] {
        self.blocks.last().map_or(&[], |block| &block.place)
    }
}

impl<I: FnMut(&str) -> Option<String>> Parser<I> {
    fn file(&mut self, file: &str, text: &str) -> Result<(), DictionaryError> {
        let name: Arc<str> = file.into();
        self.including.push(name.clone());
        let mut position = Position::default();
        let mut lines = 0;
        let error = |line: usize, fault| DictionaryError { file: file.to_owned(), line, fault };
        for (index, line) in text.lines().enumerate() {
            lines = index + 1;
            let line = line.split('#').next().unwrap_or_default();
            let fields: Vec<&str> = line.split_whitespace().collect();
            let Some((keyword, fields)) = fields.split_first() else { continue };
            if keyword.eq_ignore_ascii_case("$INCLUDE") {
                let (found, text) = self.included(fields).map_err(|fault| error(lines, fault))?;
                self.file(&found, &text)?;
            } else {
                self.line(&name, lines, keyword, fields, &mut position).map_err(|fault| error(lines, fault))?;
            }
        }
        if let Some(open) = position.blocks.last() {
            let open = format!("BEGIN-{} {}", open.kind, open.name);
            return Err(error(lines, DictionaryFault::Open { open }));
        }
        self.including.pop();
        Ok(())
    }

    fn included(&mut self, fields: &[&str]) -> Result<(String, String), DictionaryFault> {
        let &[found] = fields else { return Err(DictionaryFault::Fields { form: "$INCLUDE file" }) };
        self.includes += 1;
        let again = self.including.iter().any(|open| **open == *found);
        if again || self.including.len() > INCLUDE_DEPTH_MAX || self.includes > INCLUDES_MAX {
            return Err(DictionaryFault::Includes { found: shown(found) });
        }
        let printable = !found.chars().any(char::is_control); // it stands in errors
        let text = if printable { (self.include)(found) } else { None };
        let text = text.ok_or_else(|| DictionaryFault::Include { found: shown(found) })?;
        Ok((found.to_owned(), text))
    }

    fn line(
        &mut self,
        file: &Arc<str>,
        line: usize,
        keyword: &str,
        fields: &[&str],
        position: &mut Position,
    ) -> Result<(), DictionaryFault> {
        match keyword.to_ascii_uppercase().as_str() {
            "ATTRIBUTE" => self.attribute(fields, position),
            "VALUE" => {
                let &[attribute, name, number] = fields else {
                    return Err(DictionaryFault::Fields { form: "VALUE attribute name number" });
                };
                self.count()?;
                let (attribute, name, number) = (attribute.to_owned(), value_name(name)?, self::number(number)?);
                self.values.push(Value { file: file.clone(), line, attribute, name, number });
                Ok(())
            }
            "VENDOR" => self.vendor(fields),
            "BEGIN-VENDOR" => self.begin_vendor(fields, position),
            "BEGIN-TLV" => self.begin_tlv(fields, position),
            "END-VENDOR" => end(fields, "VENDOR", "END-VENDOR vendor", position),
            "END-TLV" => end(fields, "TLV", "END-TLV attribute", position),
            "FLAGS" => Ok(()), // says what a name without numbers means, in dictionaries of other protocols
            _ => Err(DictionaryFault::Keyword { found: shown(keyword) }),
        }
    }

    fn count(&mut self) -> Result<(), DictionaryFault> {
        self.entries += 1;
        if self.entries > DEFINITIONS_MAX { Err(DictionaryFault::TooMany) } else { Ok(()) }
    }

    fn attribute(&mut self, fields: &[&str], position: &mut Position) -> Result<(), DictionaryFault> {
        let &[name, numbers, type_name, ref flags @ ..] = fields else {
            return Err(DictionaryFault::Fields { form: "ATTRIBUTE name number type [flags]" });
        };
        self.count()?;
        let name = self::name(name)?;
        let value_type = value_type(type_name)?;
        let (flags, vendor) = self.flags(flags)?;
        let place = match (numbers.strip_prefix('.'), vendor) {
            (Some(numbers), _) => [position.last.as_slice(), &dotted(numbers)?].concat(),
            (None, Some(vendor)) => {
                [&[AttributeType::VENDOR_SPECIFIC.0.into(), vendor], dotted(numbers)?.as_slice()].concat()
            }
            (None, None) => [position.place(), &dotted(numbers)?].concat(),
        };
        if place.len() > PLACE_NUMBERS_MAX {
            return Err(DictionaryFault::Depth);
        }
        fits_type(flags, value_type, type_name)?;
        let value_octets_max = octets_max(flags, self.room(&place)?);
        if !numbers.starts_with('.') {
            position.last.clone_from(&place);
        }
        self.define(Definition { name, place: place.into(), value_type, flags, value_octets_max, values: Vec::new() })
    }

    /// The old way to name a vendor is as a flag.
    fn flags(&self, fields: &[&str]) -> Result<(Flags, Option<u32>), DictionaryFault> {
        let (mut flags, mut vendor) = (Flags::default(), None);
        for flag in fields.iter().flat_map(|field| field.split(',')).filter(|flag| !flag.is_empty()) {
            match flag {
                "encrypt=1" => flags.hiding = Some(Hiding::UserPassword),
                "encrypt=2" => flags.hiding = Some(Hiding::TunnelPassword),
                "encrypt=3" => flags.hiding = Some(Hiding::AscendSecret),
                "has_tag" => flags.has_tag = true,
                "concat" => flags.concat = true,
                "array" | "secret" => {} // several values in one, and what a log prints: neither changes the octets
                other => match self.vendor_named(other) {
                    Some(known) => vendor = Some(known.id),
                    None => return Err(DictionaryFault::Flag { found: shown(other) }),
                },
            }
        }
        Ok((flags, vendor))
    }

    /// How many octets the place of an attribute has for it, and whether there is such a place.
    fn room(&self, place: &[u32]) -> Result<usize, DictionaryFault> {
        let Some((&last, parent)) = place.split_last() else { return Err(DictionaryFault::Depth) };
        let holder = |place: &[u32]| self.dictionary.by_place(place).map(|holder| (holder.value_type, holder));
        if parent.is_empty() {
            return in_range(last, 1, 255).map(|()| ATTRIBUTE_OCTETS_MAX);
        }
        // Type 0 is no attribute (RFC 2865), but vendors have used it inside their own.
        if let &[26, vendor] = parent {
            let format = self.dictionary.vendor_format(vendor);
            in_range(vendor, 1, VENDOR_MAX)?;
            in_range(last, 0, u32::MAX >> (32 - 8 * u32::from(format.type_octets)))?;
            return Ok(ATTRIBUTE_OCTETS_MAX - 4 - format.header_octets());
        }
        in_range(last, 0, 255)?;
        if let Some((&vendor, above)) = parent.split_last()
            && let Some((ValueType::Evs, evs)) = holder(above)
        {
            return in_range(vendor, 1, VENDOR_MAX).map(|()| evs.value_octets_max.saturating_sub(5));
        }
        match holder(parent) {
            Some((ValueType::Tlv, tlv)) => Ok(tlv.value_octets_max.min(255).saturating_sub(2)),
            Some((ValueType::Extended, _)) => Ok(ATTRIBUTE_OCTETS_MAX - 1),
            Some((ValueType::LongExtended, _)) => Ok(PIECES_MAX * LONG_PIECE_OCTETS),
            _ => Err(DictionaryFault::Parent { parent: dots(parent) }),
        }
    }

    fn define(&mut self, definition: Definition) -> Result<(), DictionaryFault> {
        let dictionary = &mut self.dictionary;
        if let Some(known) = dictionary.by_place(&definition.place) {
            let names = || (known.name.clone(), dots(&known.place));
            if known.flags.hiding != definition.flags.hiding {
                // Or a secret would travel on under the wrong key, or as clear text.
                let (name, place) = names();
                return Err(DictionaryFault::HidingChanged { name, place });
            }
            if known.value_type.holds_others() && known.value_type != definition.value_type {
                let (name, place) = names();
                return Err(DictionaryFault::TypeChanged { name, place });
            }
        }
        let key = definition.name.to_ascii_lowercase();
        if let Some(index) = dictionary.by_name.get(&key).copied() {
            let known = &mut dictionary.definitions[index]; // by_name holds indices of definitions
            if known.place != definition.place {
                let (name, place) = (definition.name, dots(&known.place));
                return Err(DictionaryFault::NameTaken { name, place });
            }
            *known = Definition { values: std::mem::take(&mut known.values), ..definition };
            dictionary.by_place.insert(known.place.clone(), index);
            return Ok(());
        }
        let index = dictionary.definitions.len();
        dictionary.by_name.insert(key, index);
        dictionary.by_place.insert(definition.place.clone(), index);
        dictionary.definitions.push(definition);
        Ok(())
    }

    fn vendor_named(&self, name: &str) -> Option<&DictionaryVendor> {
        self.dictionary.vendors.iter().rev().find(|known| known.name.eq_ignore_ascii_case(name))
    }

    fn vendor(&mut self, fields: &[&str]) -> Result<(), DictionaryFault> {
        let (name, id, format) = match *fields {
            [name, id] => (name, id, VendorFormat::USUAL),
            [name, id, format] => (name, id, vendor_format(format)?),
            _ => return Err(DictionaryFault::Fields { form: "VENDOR name number [format=t,l]" }),
        };
        self.count()?;
        let (name, id) = (self::name(name)?, number_in(id, 1, VENDOR_MAX)?);
        if let Some(known) = self.vendor_named(&name).filter(|known| known.id != id) {
            return Err(DictionaryFault::VendorNameTaken { found: name, id: known.id });
        }
        let inside = [AttributeType::VENDOR_SPECIFIC.0.into(), id];
        let changed = format != self.dictionary.vendor_format(id);
        if changed && self.dictionary.definitions.iter().any(|known| known.place.starts_with(&inside)) {
            // Or numbers that were checked against the old format would be cut by the new one.
            return Err(DictionaryFault::VendorFormatChanged { id });
        }
        let vendors = &mut self.dictionary.vendors;
        vendors.retain(|known| !known.name.eq_ignore_ascii_case(&name));
        vendors.push(DictionaryVendor { name, id, format });
        Ok(())
    }

    fn begin_vendor(&mut self, fields: &[&str], position: &mut Position) -> Result<(), DictionaryFault> {
        let (name, parent) = match *fields {
            [name] => (name, None),
            [name, parent] => (name, Some(parent)),
            _ => return Err(DictionaryFault::Fields { form: "BEGIN-VENDOR vendor [parent=attribute]" }),
        };
        if let Some(open) = position.blocks.last() {
            let (found, open) = (format!("BEGIN-VENDOR {}", shown(name)), format!("{} {}", open.kind, open.name));
            return Err(DictionaryFault::Nesting { found, open });
        }
        let Some(vendor) = self.vendor_named(name) else {
            return Err(DictionaryFault::UnknownVendor { found: shown(name) });
        };
        let mut place = match parent {
            None => vec![AttributeType::VENDOR_SPECIFIC.0.into()],
            Some(parent) => self
                .vendor_parent(parent)
                .ok_or_else(|| DictionaryFault::VendorParent { found: shown(parent) })?
                .to_vec(),
        };
        place.push(vendor.id);
        position.blocks.push(Block { kind: "VENDOR", name: vendor.name.clone(), place });
        Ok(())
    }

    fn vendor_parent(&self, field: &str) -> Option<&[u32]> {
        let name = field.strip_prefix("parent=").or_else(|| field.strip_prefix("format="))?;
        let evs = self.dictionary.by_name(name)?;
        (evs.value_type == ValueType::Evs).then_some(evs.place())
    }

    fn begin_tlv(&mut self, fields: &[&str], position: &mut Position) -> Result<(), DictionaryFault> {
        let &[name] = fields else { return Err(DictionaryFault::Fields { form: "BEGIN-TLV attribute" }) };
        let tlv = self.dictionary.by_name(name).filter(|found| found.value_type == ValueType::Tlv);
        let Some(tlv) = tlv else { return Err(DictionaryFault::NotATlv { found: shown(name) }) };
        position.blocks.push(Block { kind: "TLV", name: tlv.name.clone(), place: tlv.place.to_vec() });
        Ok(())
    }

    fn name_values(&mut self) -> Result<(), DictionaryError> {
        for value in std::mem::take(&mut self.values) {
            let (file, line) = (value.file.clone(), value.line);
            self.name_value(value).map_err(|fault| DictionaryError { file: file.as_ref().to_owned(), line, fault })?;
        }
        Ok(())
    }

    fn name_value(&mut self, value: Value) -> Result<(), DictionaryFault> {
        let dictionary = &mut self.dictionary;
        let Some(index) = dictionary.by_name.get(&value.attribute.to_ascii_lowercase()).copied() else {
            let nearest = dictionary.nearest(&value.attribute).map(str::to_owned);
            return Err(DictionaryFault::UnknownAttribute { found: shown(&value.attribute), nearest });
        };
        let definition = &mut dictionary.definitions[index]; // by_name holds indices of definitions
        if !definition.value_type.is_number() {
            return Err(DictionaryFault::ValueOfType { attribute: definition.name.clone() });
        }
        let max = match definition.value_type {
            ValueType::Byte => u8::MAX.into(),
            ValueType::Short => u16::MAX.into(),
            ValueType::Integer64 => u64::MAX,
            _ => u32::MAX.into(),
        };
        if value.number > max {
            return Err(DictionaryFault::Range { found: value.number, min: 0, max });
        }
        definition.values.push((value.name, value.number));
        Ok(())
    }
}

fn end(fields: &[&str], kind: &str, form: &'static str, position: &mut Position) -> Result<(), DictionaryFault> {
    let &[name] = fields else { return Err(DictionaryFault::Fields { form }) };
    match position.blocks.pop() {
        Some(open) if open.kind == kind && open.name.eq_ignore_ascii_case(name) => Ok(()),
        open => {
            let open = open.map_or("nothing".to_owned(), |open| format!("{} {}", open.kind, open.name));
            Err(DictionaryFault::Nesting { found: format!("END-{kind} {}", shown(name)), open })
        }
    }
}

/// RFC 2865 section 5.26: the high-order octet is 0.
const VENDOR_MAX: u32 = 0x00ff_ffff;

fn in_range(number: u32, min: u32, max: u32) -> Result<(), DictionaryFault> {
    if (min..=max).contains(&number) {
        return Ok(());
    }
    Err(DictionaryFault::Range { found: number.into(), min: min.into(), max: max.into() })
}

/// The most octets of a clear value in a place with this room.
fn octets_max(flags: Flags, room: usize) -> usize {
    let room = if flags.has_tag { room - 1 } else { room };
    match flags.hiding {
        _ if flags.concat => PIECES_MAX * ATTRIBUTE_OCTETS_MAX,
        None => room,
        Some(Hiding::UserPassword) => (room & !15).min(128), // RFC 2865 section 5.2
        Some(Hiding::TunnelPassword) => (room.saturating_sub(2) & !15).min(240).saturating_sub(1), // salt, and its length inside
        Some(Hiding::AscendSecret) => 16,
    }
}

fn fits_type(flags: Flags, value_type: ValueType, found: &str) -> Result<(), DictionaryFault> {
    let text = matches!(value_type, ValueType::String | ValueType::Octets(_));
    let refuse = |flag, allowed| Err(DictionaryFault::FlagOfType { flag, found: found.to_owned(), allowed });
    if flags.has_tag && !text && value_type != ValueType::Integer {
        return refuse("has_tag", "string, octets, integer");
    }
    if flags.concat && !(text && flags.hiding.is_none() && !flags.has_tag) {
        return refuse("concat", "string or octets without has_tag and encrypt=");
    }
    match flags.hiding {
        Some(_) if value_type.holds_others() => refuse("encrypt=", "types that hold no other attributes"),
        Some(Hiding::UserPassword | Hiding::AscendSecret) if flags.has_tag || !text => {
            refuse("encrypt=1 or encrypt=3", "string or octets without has_tag")
        }
        _ => Ok(()),
    }
}

fn vendor_format(field: &str) -> Result<VendorFormat, DictionaryFault> {
    let fault = || DictionaryFault::VendorFormat { found: shown(field) };
    let mut parts = field.strip_prefix("format=").ok_or_else(fault)?.split(',');
    let type_octets = match parts.next() {
        Some("1") => 1,
        Some("2") => 2,
        Some("4") => 4,
        _ => return Err(fault()),
    };
    let length_octets = match parts.next() {
        Some("0") => 0,
        Some("1") => 1,
        Some("2") => 2,
        _ => return Err(fault()),
    };
    let continuation = match (parts.next(), parts.next()) {
        (None, None) => false,
        (Some("c"), None) if length_octets > 0 => true,
        _ => return Err(fault()),
    };
    Ok(VendorFormat { type_octets, length_octets, continuation })
}

fn value_type(name: &str) -> Result<ValueType, DictionaryFault> {
    let lower = name.to_ascii_lowercase();
    if let Some(number) = lower.strip_prefix("octets[").and_then(|rest| rest.strip_suffix(']')) {
        let number = number_in(number, 1, 253)?;
        return Ok(ValueType::Octets(u8::try_from(number).ok()));
    }
    Ok(match lower.as_str() {
        "string" | "text" => ValueType::String,
        "octets" => ValueType::Octets(None),
        "byte" | "uint8" => ValueType::Byte,
        "short" | "uint16" => ValueType::Short,
        "integer" | "uint32" => ValueType::Integer,
        "integer64" | "uint64" => ValueType::Integer64,
        "signed" | "int32" => ValueType::Signed,
        "date" => ValueType::Date,
        "ipaddr" => ValueType::IpAddr,
        "ipv4prefix" => ValueType::Ipv4Prefix,
        "ipv6addr" => ValueType::Ipv6Addr,
        "ipv6prefix" => ValueType::Ipv6Prefix,
        "combo-ip" => ValueType::ComboIp,
        "ifid" => ValueType::Ifid,
        "ether" => ValueType::Ether,
        "abinary" => ValueType::Abinary,
        "tlv" => ValueType::Tlv,
        "vsa" => ValueType::Vsa,
        "extended" => ValueType::Extended,
        "long-extended" => ValueType::LongExtended,
        "evs" => ValueType::Evs,
        _ => return Err(DictionaryFault::Type { found: shown(name) }),
    })
}

/// A colon is not among them: behind it stands a tag.
fn name(found: &str) -> Result<String, DictionaryFault> {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-_./+".contains(&octet);
    if found.len() > 128 || !found.bytes().all(allowed) {
        return Err(DictionaryFault::Name { found: shown(found) });
    }
    Ok(found.to_owned())
}

/// The names of values are freer: `IP-over-"X"` occurs. They are never split.
fn value_name(found: &str) -> Result<String, DictionaryFault> {
    if found.len() > 128 || found.chars().any(char::is_control) {
        return Err(DictionaryFault::Name { found: shown(found) });
    }
    Ok(found.to_owned())
}

fn number(text: &str) -> Result<u64, DictionaryFault> {
    parse_number(text).ok_or_else(|| DictionaryFault::Number { found: shown(text) })
}

pub(crate) fn parse_number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = digits.map_or((text, 10), |digits| (digits, 16));
    let unsigned = digits.bytes().all(|octet| octet.is_ascii_hexdigit()); // the standard parser takes a sign
    u64::from_str_radix(digits, radix).ok().filter(|_| unsigned)
}

fn number_in(text: &str, min: u32, max: u32) -> Result<u32, DictionaryFault> {
    let found = number(text)?;
    let range = || DictionaryFault::Range { found, min: min.into(), max: max.into() };
    u32::try_from(found).ok().filter(|found| (min..=max).contains(found)).ok_or_else(range)
}

fn dotted(text: &str) -> Result<Vec<u32>, DictionaryFault> {
    if text.split('.').count() > PLACE_NUMBERS_MAX {
        return Err(DictionaryFault::Depth);
    }
    text.split('.').map(|number| number_in(number, 0, u32::MAX)).collect()
}

fn dots(place: &[u32]) -> String {
    place.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

/// What was found, for an error: short and without what a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(64).collect()
}
