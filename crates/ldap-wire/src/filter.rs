//! Search filters: built typed, never by pasting strings (L-24); to and from BER (RFC 4511 section 4.5.1.7) and text (RFC 4515).
//!
//! All three directions keep to the bounds of L-03, so a `Filter` that came from outside is never deep enough to hurt.

use crate::ber::{self, BerError, Element, Reader, Writer};
use crate::message::{self, DecodeError, Limit};
use bytes::Bytes;
use std::fmt;
use std::str::FromStr;

/// L-03.
pub const DEPTH_MAX: usize = 64;
/// L-03.
pub const NODES_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Equal { attribute: String, value: Vec<u8> },
    Substrings { attribute: String, initial: Option<Vec<u8>>, any: Vec<Vec<u8>>, last: Option<Vec<u8>> },
    GreaterOrEqual { attribute: String, value: Vec<u8> },
    LessOrEqual { attribute: String, value: Vec<u8> },
    Present(String),
    Approximate { attribute: String, value: Vec<u8> },
    Extensible { rule: Option<String>, attribute: Option<String>, value: Vec<u8>, dn_attributes: bool },
}

impl Filter {
    pub fn and(filters: impl IntoIterator<Item = Self>) -> Self {
        Self::And(filters.into_iter().collect())
    }

    pub fn or(filters: impl IntoIterator<Item = Self>) -> Self {
        Self::Or(filters.into_iter().collect())
    }

    #[expect(clippy::should_implement_trait, reason = "named after the filter it makes, like its siblings")]
    pub fn not(filter: Self) -> Self {
        Self::Not(Box::new(filter))
    }

    /// The value is taken as it is, whatever octets it has.
    pub fn equal(attribute: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self::Equal { attribute: attribute.into(), value: value.into() }
    }

    pub fn present(attribute: impl Into<String>) -> Self {
        Self::Present(attribute.into())
    }

    /// The attributes it asks about, each as often as it does.
    pub fn attributes(&self) -> Vec<&str> {
        match self {
            Self::And(filters) | Self::Or(filters) => filters.iter().flat_map(Self::attributes).collect(),
            Self::Not(filter) => filter.attributes(),
            Self::Extensible { attribute, .. } => attribute.as_deref().into_iter().collect(),
            Self::Present(attribute)
            | Self::Equal { attribute, .. }
            | Self::Substrings { attribute, .. }
            | Self::GreaterOrEqual { attribute, .. }
            | Self::LessOrEqual { attribute, .. }
            | Self::Approximate { attribute, .. } => vec![attribute],
        }
    }

    /// The values it compares an attribute with for equality, such as the object classes it is about.
    pub fn values_of(&self, wanted: &str) -> Vec<&[u8]> {
        match self {
            Self::And(filters) | Self::Or(filters) => filters.iter().flat_map(|it| it.values_of(wanted)).collect(),
            Self::Not(filter) => filter.values_of(wanted),
            Self::Equal { attribute, value } if attribute.eq_ignore_ascii_case(wanted) => vec![value],
            _ => Vec::new(),
        }
    }

    pub fn to_ber(&self) -> Bytes {
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.into_vec().into()
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Self::And(filters) => w.nested(AND, |w| filters.iter().for_each(|filter| filter.write(w))),
            Self::Or(filters) => w.nested(OR, |w| filters.iter().for_each(|filter| filter.write(w))),
            Self::Not(filter) => w.nested(NOT, |w| filter.write(w)),
            Self::Equal { attribute, value } => assertion(w, EQUAL, attribute, value),
            Self::GreaterOrEqual { attribute, value } => assertion(w, GREATER_OR_EQUAL, attribute, value),
            Self::LessOrEqual { attribute, value } => assertion(w, LESS_OR_EQUAL, attribute, value),
            Self::Approximate { attribute, value } => assertion(w, APPROXIMATE, attribute, value),
            Self::Present(attribute) => w.octets(PRESENT, attribute.as_bytes()),
            Self::Substrings { attribute, initial, any, last } => w.nested(SUBSTRINGS, |w| {
                w.octet_string(attribute.as_bytes());
                w.nested(ber::SEQUENCE, |w| {
                    initial.iter().for_each(|part| w.octets(INITIAL, part));
                    any.iter().for_each(|part| w.octets(ANY, part));
                    last.iter().for_each(|part| w.octets(FINAL, part));
                });
            }),
            Self::Extensible { rule, attribute, value, dn_attributes } => w.nested(EXTENSIBLE, |w| {
                rule.iter().for_each(|rule| w.octets(RULE, rule.as_bytes()));
                attribute.iter().for_each(|attribute| w.octets(TYPE, attribute.as_bytes()));
                w.octets(VALUE, value);
                if *dn_attributes {
                    w.boolean(DN_ATTRIBUTES, true);
                }
            }),
        }
    }

    pub fn from_ber(octets: &[u8]) -> Result<Self, DecodeError> {
        check(octets)?; // bounds the recursion below
        let mut reader = Reader::new(octets);
        let filter = Self::read(reader.element()?)?;
        reader.finish()?;
        Ok(filter)
    }

    fn read(element: Element<'_>) -> Result<Self, DecodeError> {
        let mut reader = element.reader();
        let filter = match element.tag {
            AND => Self::And(read_all(&mut reader)?),
            OR => Self::Or(read_all(&mut reader)?),
            NOT => Self::Not(Box::new(Self::read(reader.element()?)?)),
            EQUAL => {
                let (attribute, value) = read_assertion(&mut reader)?;
                Self::Equal { attribute, value }
            }
            GREATER_OR_EQUAL => {
                let (attribute, value) = read_assertion(&mut reader)?;
                Self::GreaterOrEqual { attribute, value }
            }
            LESS_OR_EQUAL => {
                let (attribute, value) = read_assertion(&mut reader)?;
                Self::LessOrEqual { attribute, value }
            }
            APPROXIMATE => {
                let (attribute, value) = read_assertion(&mut reader)?;
                Self::Approximate { attribute, value }
            }
            PRESENT => return Ok(Self::Present(description(element.content)?)),
            SUBSTRINGS => read_substrings(&mut reader)?,
            EXTENSIBLE => read_extensible(&mut reader)?,
            found => return Err(BerError::UnexpectedTag { expected: AND, found }.into()),
        };
        reader.finish()?;
        Ok(filter)
    }
}

const AND: u8 = 0xa0;
const OR: u8 = 0xa1;
const NOT: u8 = 0xa2;
const EQUAL: u8 = 0xa3;
const SUBSTRINGS: u8 = 0xa4;
const GREATER_OR_EQUAL: u8 = 0xa5;
const LESS_OR_EQUAL: u8 = 0xa6;
const PRESENT: u8 = 0x87;
const APPROXIMATE: u8 = 0xa8;
const EXTENSIBLE: u8 = 0xa9;
const INITIAL: u8 = 0x80;
const ANY: u8 = 0x81;
const FINAL: u8 = 0x82;
const RULE: u8 = 0x81;
const TYPE: u8 = 0x82;
const VALUE: u8 = 0x83;
const DN_ATTRIBUTES: u8 = 0x84;

/// Checks the shape and the bounds of an encoded filter without building it and without recursion.
/// Leaves are not looked into, so kinds of filter from later standards pass.
pub fn check(octets: &[u8]) -> Result<(), DecodeError> {
    let mut open: Vec<Reader> = vec![Reader::new(octets)];
    let mut nodes = 0;
    while let Some(reader) = open.last_mut() {
        if reader.is_empty() {
            open.pop();
            continue;
        }
        let element = reader.element()?;
        nodes += 1;
        if nodes > NODES_MAX {
            return Err(DecodeError::Limit(Limit::FilterNodes));
        }
        if element.tag & 0xc0 != 0x80 {
            return Err(BerError::UnexpectedTag { expected: AND, found: element.tag }.into());
        }
        // The outermost reader is not a level of the filter.
        if open.len() > DEPTH_MAX {
            return Err(DecodeError::Limit(Limit::FilterDepth));
        }
        match element.tag {
            AND | OR => open.push(element.reader()),
            NOT => {
                let mut inner = element.reader();
                inner.element()?;
                inner.finish()?;
                open.push(element.reader());
            }
            _ => {}
        }
    }
    Ok(())
}

fn assertion(w: &mut Writer, tag: u8, attribute: &str, value: &[u8]) {
    w.nested(tag, |w| {
        w.octet_string(attribute.as_bytes());
        w.octet_string(value);
    });
}

fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Filter>, DecodeError> {
    let mut filters = Vec::new();
    while !reader.is_empty() {
        filters.push(Filter::read(reader.element()?)?);
    }
    Ok(filters)
}

fn read_assertion(reader: &mut Reader<'_>) -> Result<(String, Vec<u8>), DecodeError> {
    Ok((description(reader.octet_string()?)?, reader.octet_string()?.to_vec()))
}

fn read_substrings(reader: &mut Reader<'_>) -> Result<Filter, DecodeError> {
    let attribute = description(reader.octet_string()?)?;
    let mut parts = reader.expect(ber::SEQUENCE)?.reader();
    let initial = parts.optional(INITIAL)?.map(|part| part.content.to_vec());
    let mut any = Vec::new();
    while let Some(part) = parts.optional(ANY)? {
        any.push(part.content.to_vec());
    }
    let last = parts.optional(FINAL)?.map(|part| part.content.to_vec());
    parts.finish()?;
    let empty = |part: &Vec<u8>| part.is_empty();
    if initial.iter().chain(&any).chain(&last).any(empty) || (initial.is_none() && any.is_empty() && last.is_none()) {
        return Err(DecodeError::Value("substring"));
    }
    Ok(Filter::Substrings { attribute, initial, any, last })
}

fn read_extensible(reader: &mut Reader<'_>) -> Result<Filter, DecodeError> {
    let rule = reader.optional(RULE)?.map(|part| description(part.content)).transpose()?;
    let attribute = reader.optional(TYPE)?.map(|part| description(part.content)).transpose()?;
    let value = reader.expect(VALUE)?.content.to_vec();
    let dn_attributes = reader.optional(DN_ATTRIBUTES)?.map_or(Ok(false), |part| ber::boolean(part.content))?;
    if rule.is_none() && attribute.is_none() {
        return Err(DecodeError::Value("matching rule"));
    }
    Ok(Filter::Extensible { rule, attribute, value, dn_attributes })
}

fn description(octets: &[u8]) -> Result<String, DecodeError> {
    let text = message::text(octets, "attribute description")?;
    if is_description(&text) { Ok(text) } else { Err(DecodeError::Value("attribute description")) }
}

/// RFC 4512 section 2.5, with the underscore that some schemas use.
fn is_description(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_description_octet)
}

fn is_description_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b';' | b'_')
}

/// RFC 4515, with every octet escaped that is not plain text.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(filters) => write_list(f, '&', filters),
            Self::Or(filters) => write_list(f, '|', filters),
            Self::Not(filter) => write!(f, "(!{filter})"),
            Self::Equal { attribute, value } => write!(f, "({attribute}={})", Escaped(value)),
            Self::GreaterOrEqual { attribute, value } => write!(f, "({attribute}>={})", Escaped(value)),
            Self::LessOrEqual { attribute, value } => write!(f, "({attribute}<={})", Escaped(value)),
            Self::Approximate { attribute, value } => write!(f, "({attribute}~={})", Escaped(value)),
            Self::Present(attribute) => write!(f, "({attribute}=*)"),
            Self::Substrings { attribute, initial, any, last } => {
                write!(f, "({attribute}=")?;
                initial.iter().try_for_each(|part| Escaped(part).fmt(f))?;
                f.write_str("*")?;
                any.iter().try_for_each(|part| write!(f, "{}*", Escaped(part)))?;
                last.iter().try_for_each(|part| Escaped(part).fmt(f))?;
                f.write_str(")")
            }
            Self::Extensible { rule, attribute, value, dn_attributes } => {
                write!(f, "({}", attribute.as_deref().unwrap_or_default())?;
                f.write_str(if *dn_attributes { ":dn" } else { "" })?;
                rule.iter().try_for_each(|rule| write!(f, ":{rule}"))?;
                write!(f, ":={})", Escaped(value))
            }
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, sign: char, filters: &[Filter]) -> fmt::Result {
    write!(f, "({sign}")?;
    filters.iter().try_for_each(|filter| write!(f, "{filter}"))?;
    f.write_str(")")
}

/// A value as RFC 4515 section 3 writes it.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '*' | '(' | ')' | '\\' | '\0'..='\x1f' | '\x7f' => write!(f, "\\{:02x}", u32::from(character))?,
                    plain => write!(f, "{plain}")?,
                }
            }
            chunk.invalid().iter().try_for_each(|octet| write!(f, "\\{octet:02x}"))?;
        }
        Ok(())
    }
}

/// Where and why a text is not a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at position {position}")]
pub struct FilterError {
    /// Octets from the start of the text.
    pub position: usize,
    pub kind: FilterErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterErrorKind {
    #[error("'(' expected")]
    OpenExpected,
    #[error("')' expected")]
    CloseExpected,
    #[error("attribute name expected")]
    AttributeExpected,
    #[error("one of = ~= >= <= := expected")]
    ComparisonExpected,
    #[error("two hexadecimal digits expected after '\\'")]
    EscapeExpected,
    #[error("this character must be escaped")]
    UnescapedCharacter,
    #[error("nothing between two '*'")]
    EmptySubstring,
    #[error("more levels or components than accepted")]
    TooLarge,
    #[error("text after the filter")]
    TrailingText,
}

/// RFC 4515. White space around the parts is skipped, because administrators break long filters into lines.
impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut parser = Parser { text: text.as_bytes(), position: 0, nodes: 0 };
        let filter = parser.filter(1)?;
        match parser.peek() {
            None => Ok(filter),
            Some(_) => parser.fail(FilterErrorKind::TrailingText),
        }
    }
}

struct Parser<'a> {
    text: &'a [u8],
    position: usize,
    nodes: usize,
}

impl Parser<'_> {
    fn filter(&mut self, depth: usize) -> Result<Filter, FilterError> {
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return self.fail(FilterErrorKind::TooLarge);
        }
        self.skip_space();
        self.take(b'(', FilterErrorKind::OpenExpected)?;
        self.skip_space();
        let filter = match self.peek() {
            Some(b'&') => Filter::And(self.list(depth)?),
            Some(b'|') => Filter::Or(self.list(depth)?),
            Some(b'!') => {
                self.position += 1;
                Filter::not(self.filter(depth + 1)?)
            }
            _ => self.item()?,
        };
        self.take(b')', FilterErrorKind::CloseExpected)?;
        self.skip_space();
        Ok(filter)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Filter>, FilterError> {
        self.position += 1;
        self.skip_space();
        let mut filters = Vec::new();
        while self.peek() == Some(b'(') {
            filters.push(self.filter(depth + 1)?);
        }
        Ok(filters)
    }

    fn item(&mut self) -> Result<Filter, FilterError> {
        let attribute = self.name();
        if self.peek() == Some(b':') {
            return self.extensible(attribute);
        }
        let Some(attribute) = attribute else { return self.fail(FilterErrorKind::AttributeExpected) };
        let sign = self.peek();
        match sign {
            Some(b'=') => {
                self.position += 1;
                self.equality(attribute)
            }
            Some(b'~' | b'>' | b'<') => {
                self.position += 1;
                self.take(b'=', FilterErrorKind::ComparisonExpected)?;
                let value = self.value()?;
                Ok(match sign {
                    Some(b'~') => Filter::Approximate { attribute, value },
                    Some(b'>') => Filter::GreaterOrEqual { attribute, value },
                    _ => Filter::LessOrEqual { attribute, value },
                })
            }
            _ => self.fail(FilterErrorKind::ComparisonExpected),
        }
    }

    /// What follows `attribute=`: a value, `*` alone, or parts with `*` between.
    fn equality(&mut self, attribute: String) -> Result<Filter, FilterError> {
        let first = self.value()?;
        if self.peek() != Some(b'*') {
            return Ok(Filter::Equal { attribute, value: first });
        }
        let mut parts = Vec::new();
        while self.peek() == Some(b'*') {
            self.position += 1;
            let part = self.value()?;
            if part.is_empty() && self.peek() == Some(b'*') {
                return self.fail(FilterErrorKind::EmptySubstring);
            }
            parts.push(part);
        }
        let last = parts.pop().filter(|part| !part.is_empty());
        let initial = Some(first).filter(|part| !part.is_empty());
        if initial.is_none() && parts.is_empty() && last.is_none() {
            return Ok(Filter::Present(attribute));
        }
        Ok(Filter::Substrings { attribute, initial, any: parts, last })
    }

    /// What follows the attribute in `attribute:dn:rule:=value`.
    fn extensible(&mut self, attribute: Option<String>) -> Result<Filter, FilterError> {
        let (mut dn_attributes, mut rule) = (false, None);
        loop {
            self.take(b':', FilterErrorKind::ComparisonExpected)?;
            if self.peek() == Some(b'=') {
                self.position += 1;
                break;
            }
            match self.name() {
                Some(name) if name.eq_ignore_ascii_case("dn") && !dn_attributes && rule.is_none() => {
                    dn_attributes = true
                }
                Some(name) if rule.is_none() => rule = Some(name),
                _ => return self.fail(FilterErrorKind::ComparisonExpected),
            }
        }
        if attribute.is_none() && rule.is_none() {
            return self.fail(FilterErrorKind::AttributeExpected);
        }
        Ok(Filter::Extensible { rule, attribute, value: self.value()?, dn_attributes })
    }

    fn name(&mut self) -> Option<String> {
        let start = self.position;
        while self.peek().is_some_and(is_description_octet) {
            self.position += 1;
        }
        let name = self.text.get(start..self.position)?;
        std::str::from_utf8(name).ok().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// Octets up to an unescaped `*` or `)`.
    fn value(&mut self) -> Result<Vec<u8>, FilterError> {
        let mut value = Vec::new();
        loop {
            match self.peek() {
                Some(b'\\') => {
                    let digits = self.text.get(self.position + 1..self.position + 3);
                    let octet = digits.and_then(hex);
                    let Some(octet) = octet else { return self.fail(FilterErrorKind::EscapeExpected) };
                    value.push(octet);
                    self.position += 3;
                }
                Some(b'(' | 0) => return self.fail(FilterErrorKind::UnescapedCharacter),
                Some(b'*' | b')') | None => return Ok(value),
                Some(octet) => {
                    value.push(octet);
                    self.position += 1;
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn take(&mut self, octet: u8, otherwise: FilterErrorKind) -> Result<(), FilterError> {
        if self.peek() != Some(octet) {
            return self.fail(otherwise);
        }
        self.position += 1;
        Ok(())
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|octet| octet.is_ascii_whitespace()) {
            self.position += 1;
        }
    }

    fn fail<T>(&self, kind: FilterErrorKind) -> Result<T, FilterError> {
        Err(FilterError { position: self.position, kind })
    }
}

/// Two hexadecimal digits as an octet.
pub(crate) fn hex(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let digit = |octet: u8| char::from(octet).to_digit(16);
    u8::try_from((digit(*high)? << 4) | digit(*low)?).ok()
}
