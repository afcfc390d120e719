//! Distinguished names as text (RFC 4514): parsed, compared and built; never compared or pasted as strings (L-20, L-21, S-55).

use crate::ber::{self, Reader};
use crate::filter::hex;
use std::fmt::{self, Write};
use std::str::FromStr;

/// A parsed name: relative names from the leaf to the root. Equality is of what was written; `key` compares names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dn {
    pub rdns: Vec<Rdn>,
}

/// A relative name: one assertion, or several joined by `+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rdn {
    pub assertions: Vec<Assertion>,
}

/// `attribute=value` inside a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// As written, without an `OID.` before a number.
    pub attribute: String,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Unescaped; UTF-8 unless the name was made by somebody careless.
    Text(Vec<u8>),
    /// Written as `#` and hexadecimal BER, of a type that is no string.
    Ber(Vec<u8>),
}

/// What is equal for two texts that name the same entry: case, white space, escapes, attribute aliases and the order inside a
/// relative name are folded away. Unicode forms (RFC 4518 section 2.3) are not: who grants something goes by the directory's
/// immutable id, never by a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DnKey(String);

impl DnKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Dn {
    /// The name of a child.
    #[must_use]
    pub fn child(&self, attribute: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        let assertion = Assertion { attribute: attribute.into(), value: Value::Text(value.into()) };
        let mut rdns = vec![Rdn { assertions: vec![assertion] }];
        rdns.extend(self.rdns.iter().cloned());
        Self { rdns }
    }

    pub fn key(&self) -> DnKey {
        let mut key = String::new();
        for (place, rdn) in self.rdns.iter().enumerate() {
            if place > 0 {
                key.push(',');
            }
            match rdn.assertions.as_slice() {
                [alone] => alone.push_key(&mut key),
                _ => key.push_str(&rdn.key()),
            }
        }
        DnKey(key)
    }

    /// The same name with the short names of attribute types, which every server reads (RFC 4514 section 3).
    pub fn to_short_string(&self) -> String {
        self.written(|attribute| short_name(&attribute.to_ascii_lowercase()).unwrap_or(attribute))
    }

    fn written<'a>(&'a self, attribute: impl Fn(&'a str) -> &'a str) -> String {
        let mut text = String::new();
        for (index, rdn) in self.rdns.iter().enumerate() {
            for (inner, assertion) in rdn.assertions.iter().enumerate() {
                text.push_str(match (index, inner) {
                    (0, 0) => "",
                    (_, 0) => ",",
                    _ => "+",
                });
                text.push_str(attribute(&assertion.attribute));
                text.push('=');
                match &assertion.value {
                    Value::Text(octets) => push_escaped(&mut text, octets),
                    Value::Ber(octets) => push_hex(&mut text, octets),
                }
            }
        }
        text
    }

    /// The domain that the name lies in, in lower case: `corp.example` of `OU=x,DC=corp,DC=example` (RFC 2247 section 3).
    pub fn dns_domain(&self) -> Option<String> {
        let key = self.key();
        let parts: Vec<&str> = key.as_str().split(',').filter_map(|rdn| rdn.strip_prefix("dc=")).collect();
        (!parts.is_empty()).then(|| parts.join("."))
    }

    /// Is this name `base` itself or below it?
    pub fn is_within(&self, base: &Self) -> bool {
        let Some(above) = self.rdns.len().checked_sub(base.rdns.len()) else { return false };
        // As written, nearly always: a key is made for what is written otherwise.
        self.rdns.iter().skip(above).zip(&base.rdns).all(|(ours, theirs)| ours == theirs || ours.key() == theirs.key())
    }
}

impl Rdn {
    fn key(&self) -> String {
        let mut keys: Vec<String> = self.assertions.iter().map(Assertion::key).collect();
        keys.sort();
        keys.join("+")
    }
}

impl Assertion {
    fn key(&self) -> String {
        let mut key = String::new();
        self.push_key(&mut key);
        key
    }

    fn push_key(&self, key: &mut String) {
        push_attribute_key(key, &self.attribute);
        key.push('=');
        match &self.value {
            Value::Text(octets) => push_folded(key, octets),
            Value::Ber(octets) => push_hex(key, octets),
        }
    }
}

fn push_folded(key: &mut String, octets: &[u8]) {
    // Nearly always: nothing to escape, and case alone to fold.
    if let Some(text) = plain(octets).filter(|text| text.is_ascii() && !text.contains("  ")) {
        return push_lower(key, text);
    }
    match std::str::from_utf8(octets) {
        Ok(text) => push_escaped(key, fold(text).as_bytes()),
        Err(_) => push_escaped(key, octets),
    }
}

fn push_lower(key: &mut String, text: &str) {
    let start = key.len();
    key.push_str(text);
    key[start..].make_ascii_lowercase();
}

/// Case folded, space at the ends dropped, space inside made one (RFC 4518 sections 2.2 and 2.6.1).
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        match word.is_ascii() {
            true => folded.extend(word.chars().map(|sign| sign.to_ascii_lowercase())),
            // By way of upper case, so that both forms of sigma, and sharp s and ss, meet.
            false => folded.push_str(&word.to_uppercase().to_lowercase()),
        }
    }
    folded
}

/// Lower case, and one spelling for attributes with several (RFC 4514 section 3, RFC 4519).
fn push_attribute_key(key: &mut String, attribute: &str) {
    let start = key.len();
    push_lower(key, attribute);
    if let Some(short) = short_name(&key[start..]) {
        key.truncate(start);
        key.push_str(short);
    }
}

/// Of a type that has other spellings; they are compared in lower case.
fn short_name(lower: &str) -> Option<&'static str> {
    Some(match lower {
        "2.5.4.3" | "commonname" => "cn",
        "2.5.4.4" | "surname" => "sn",
        "2.5.4.5" => "serialnumber",
        "2.5.4.6" | "countryname" => "c",
        "2.5.4.7" | "localityname" => "l",
        "2.5.4.8" | "stateorprovincename" => "st",
        "2.5.4.9" | "streetaddress" => "street",
        "2.5.4.10" | "organizationname" => "o",
        "2.5.4.11" | "organizationalunitname" => "ou",
        "2.5.4.12" => "title",
        "2.5.4.42" | "gn" => "givenname",
        "0.9.2342.19200300.100.1.1" | "userid" => "uid",
        "0.9.2342.19200300.100.1.3" | "rfc822mailbox" => "mail",
        "0.9.2342.19200300.100.1.25" | "domaincomponent" => "dc",
        _ => return None,
    })
}

/// Does this bind name look like a DN, so that a syntax error in it is to be reported as such (B5)?
pub fn is_dn_shaped(name: &str) -> bool {
    name.split_once('=').is_some_and(|(attribute, _)| parse_attribute(attribute.trim_matches(' ')).is_some())
}

/// A value escaped for use inside a DN (RFC 4514 section 2.4).
pub fn escape_value(value: &[u8]) -> String {
    let mut escaped = String::with_capacity(value.len());
    push_escaped(&mut escaped, value);
    escaped
}

fn push_escaped(out: &mut String, value: &[u8]) {
    if let Some(plain) = plain(value) {
        return out.push_str(plain);
    }
    let end = value.len();
    let mut at = 0;
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            let (first, last) = (at == 0, at + character.len_utf8() == end);
            at += character.len_utf8();
            match character {
                ' ' if first || last => out.push_str("\\ "),
                '#' if first => out.push_str("\\#"),
                '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => {
                    out.push('\\');
                    out.push(character);
                }
                '\0'..='\x1f' | '\x7f' => push_hex_pair(out, '\\', character as u8),
                plain => out.push(plain),
            }
        }
        for octet in chunk.invalid() {
            at += 1;
            push_hex_pair(out, '\\', *octet);
        }
    }
}

/// The text, where nothing in it is to be escaped: nearly always.
fn plain(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let escaped = |octet: u8| matches!(octet, b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' | 0..=0x1f | 0x7f);
    let edges = text.starts_with([' ', '#']) || text.ends_with(' ');
    (!edges && !value.iter().copied().any(escaped)).then_some(text)
}

fn push_hex(out: &mut String, octets: &[u8]) {
    out.push('#');
    for octet in octets {
        let _ = write!(out, "{octet:02x}"); // a String takes everything
    }
}

fn push_hex_pair(out: &mut String, before: char, octet: u8) {
    let _ = write!(out, "{before}{octet:02x}"); // a String takes everything
}

impl fmt::Display for Dn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(|attribute| attribute))
    }
}

/// Where and why a text is not a DN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at position {position}")]
pub struct DnError {
    /// Octets from the start of the text.
    pub position: usize,
    pub kind: DnErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnErrorKind {
    #[error("attribute type expected")]
    AttributeExpected,
    #[error("'=' expected")]
    EqualsExpected,
    #[error("this character must be escaped")]
    UnescapedCharacter,
    #[error("a character to escape or two hexadecimal digits expected after '\\'")]
    EscapeExpected,
    #[error("hexadecimal BER expected after '#'")]
    BerExpected,
}

/// RFC 4514, and of the older RFC 2253 the spaces around separators, `;` for `,`, and `OID.` before a number.
impl FromStr for Dn {
    type Err = DnError;

    fn from_str(text: &str) -> Result<Self, DnError> {
        let mut parser = Parser { text: text.as_bytes(), position: 0 };
        let mut dn = Self::default();
        if text.is_empty() {
            return Ok(dn);
        }
        let mut assertions = Vec::new();
        loop {
            assertions.push(parser.assertion()?);
            let separator = parser.peek();
            parser.position += 1;
            if separator == Some(b'+') {
                continue;
            }
            dn.rdns.push(Rdn { assertions: std::mem::take(&mut assertions) });
            if separator.is_none() {
                return Ok(dn);
            }
        }
    }
}

struct Parser<'a> {
    text: &'a [u8],
    position: usize,
}

impl Parser<'_> {
    /// Up to the next separator or the end.
    fn assertion(&mut self) -> Result<Assertion, DnError> {
        self.skip_space();
        let start = self.position;
        while self.peek().is_some_and(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_')) {
            self.position += 1;
        }
        let written = self.text.get(start..self.position).and_then(|octets| std::str::from_utf8(octets).ok());
        let Some(attribute) = written.and_then(parse_attribute) else {
            return Err(DnError { position: start, kind: DnErrorKind::AttributeExpected });
        };
        let attribute = attribute.to_owned();
        self.skip_space();
        if self.peek() != Some(b'=') {
            return self.fail(DnErrorKind::EqualsExpected);
        }
        self.position += 1;
        self.skip_space();
        let value = if self.peek() == Some(b'#') { self.ber()? } else { Value::Text(self.string()?) };
        Ok(Assertion { attribute, value })
    }

    fn string(&mut self) -> Result<Vec<u8>, DnError> {
        let mut value = Vec::new();
        let mut end = 0; // of what is not an unescaped space at the end
        loop {
            match self.peek() {
                None | Some(b',' | b';' | b'+') => break,
                Some(b'\\') => {
                    value.push(self.escape()?);
                    end = value.len();
                }
                // RFC 4514 wants `=` bare or escaped, the others escaped.
                Some(b'"' | b'<' | b'>' | 0) => return self.fail(DnErrorKind::UnescapedCharacter),
                Some(b' ') => {
                    value.push(b' ');
                    self.position += 1;
                }
                Some(_) => {
                    let rest = self.text.get(self.position..).unwrap_or_default();
                    let run = rest.iter().position(|octet| ENDS_A_RUN.contains(octet)).unwrap_or(rest.len());
                    value.extend(rest.iter().take(run));
                    self.position += run;
                    end = value.len();
                }
            }
        }
        value.truncate(end);
        Ok(value)
    }

    fn escape(&mut self) -> Result<u8, DnError> {
        match self.text.get(self.position + 1) {
            Some(octet @ (b' ' | b'"' | b'#' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\')) => {
                self.position += 2;
                Ok(*octet)
            }
            _ => match self.text.get(self.position + 1..self.position + 3).and_then(hex) {
                Some(octet) => {
                    self.position += 3;
                    Ok(octet)
                }
                None => self.fail(DnErrorKind::EscapeExpected),
            },
        }
    }

    fn ber(&mut self) -> Result<Value, DnError> {
        let start = self.position;
        self.position += 1;
        let mut octets = Vec::new();
        while let Some(octet) = self.text.get(self.position..self.position + 2).and_then(hex) {
            octets.push(octet);
            self.position += 2;
        }
        self.skip_space();
        let mut reader = Reader::new(&octets);
        let element = reader.element().ok().filter(|_| reader.is_empty());
        match (element, self.peek()) {
            (Some(element), None | Some(b',' | b';' | b'+')) => {
                // A string says the same whichever way it is written.
                let string = STRINGS.contains(&element.tag);
                Ok(if string { Value::Text(element.content.to_vec()) } else { Value::Ber(octets) })
            }
            _ => Err(DnError { position: start, kind: DnErrorKind::BerExpected }),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(b' ') {
            self.position += 1;
        }
    }

    fn fail<T>(&self, kind: DnErrorKind) -> Result<T, DnError> {
        Err(DnError { position: self.position, kind })
    }
}

/// What the reading of a value stops at: separators, what must be escaped, and spaces.
const ENDS_A_RUN: &[u8] = b",;+\\\"<>\0 ";
/// OCTET STRING, UTF8String, PrintableString, IA5String.
const STRINGS: [u8; 4] = [ber::OCTET_STRING, 0x0c, 0x13, 0x16];

/// A name of letters, digits and hyphens, or a dotted number, perhaps after `OID.`; without that prefix.
fn parse_attribute(written: &str) -> Option<&str> {
    let number = match written.split_at_checked(4) {
        Some((prefix, number)) if prefix.eq_ignore_ascii_case("oid.") => number,
        _ => written,
    };
    if number.starts_with(|first: char| first.is_ascii_digit()) {
        let part = |part: &str| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
        return number.split('.').all(part).then_some(number);
    }
    let name = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    let sound = written.starts_with(|first: char| first.is_ascii_alphabetic()) && written.bytes().all(name);
    sound.then_some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_has_nothing_to_escape_is_folded_as_all_others_are() {
        let values: [&[u8]; 14] = [
            b"",
            b"a",
            b"Ann Archer",
            b"ann  archer",
            b" a",
            b"a ",
            b"#a",
            b"a,b",
            b"a\tb",
            b"a\x7f",
            b"A-Z_09.@'/",
            "\u{c4}\u{df}".as_bytes(),
            b"\xff\x41",
            b"  ",
        ];
        for value in values {
            let mut slow = String::from("x");
            match std::str::from_utf8(value) {
                Ok(text) => push_escaped(&mut slow, fold(text).as_bytes()),
                Err(_) => push_escaped(&mut slow, value),
            }
            let mut key = String::from("x");
            push_folded(&mut key, value);
            assert_eq!(key, slow, "{value:?}");
        }
    }

    #[test]
    fn an_attribute_has_one_key_however_it_is_spelled() {
        // RFC 4514 section 3: what stands before it stays.
        for (written, key) in
            [("CN", "cn"), ("commonName", "cn"), ("2.5.4.3", "cn"), ("X-Own", "x-own"), ("UserID", "uid")]
        {
            let mut own = String::from("OU=,");
            push_attribute_key(&mut own, written);
            assert_eq!(own, format!("OU=,{key}"));
        }
    }
}
