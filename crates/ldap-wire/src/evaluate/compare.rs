//! Values compared as every server does that has the rule: where servers may differ, such as in accents, spaces or hyphens, it is not
//! said here.

use crate::dirsync::plain_dn;
use crate::dn::{Assertion, Dn, Rdn, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    Same,
    Different,
    /// By one server's rules the same, by another's not, or of a form that only the server reads.
    Unclear,
}

impl Likeness {
    pub(super) fn of(same: Option<bool>) -> Self {
        same.map_or(Self::Unclear, |same| if same { Self::Same } else { Self::Different })
    }
}

/// How large an integer the server keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// Its highest bit is the sign: a group type of security groups is negative, and asked for as 2147483648.
    Bits32,
    Bits64,
}

impl Number {
    pub(super) fn bits(self, octets: &[u8]) -> Option<u64> {
        let number = integer(octets)?;
        match self {
            Self::Bits64 => Some(number.cast_unsigned()),
            Self::Bits32 => {
                let signed = i32::try_from(number).map(i32::cast_unsigned);
                signed.or_else(|_| u32::try_from(number)).ok().map(u64::from)
            }
        }
    }
}

/// Written as everybody writes it.
pub(super) fn integer(octets: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(octets).ok()?;
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

/// A generalized time of whole seconds in UTC, as a number that grows with it.
pub(super) fn time(octets: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(octets).ok()?;
    let digits = text.strip_suffix(".0Z").or_else(|| text.strip_suffix('Z'))?;
    if digits.len() != 14 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: i64 = digits.parse().ok()?;
    let part = |place: u32| number / 10_i64.pow(place) % 100;
    let year = number / 10_i64.pow(10);
    let days = match part(8) {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => return None,
    };
    let sound = (1..=days).contains(&part(6)) && part(4) < 24 && part(2) < 60 && part(0) < 60;
    sound.then_some(number)
}

pub(super) fn booleans(value: &[u8], asserted: &[u8]) -> Likeness {
    let read = |octets: &[u8]| match octets {
        b"TRUE" => Some(true),
        b"FALSE" => Some(false),
        _ => None,
    };
    Likeness::of(read(value).zip(read(asserted)).map(|(value, asserted)| value == asserted))
}

/// Texts whose case does not matter.
pub(super) fn texts(value: &[u8], asserted: &[u8]) -> Likeness {
    let (Ok(value), Ok(asserted)) = (std::str::from_utf8(value), std::str::from_utf8(asserted)) else {
        return Likeness::Unclear;
    };
    // Of nothing but spaces and signs an empty value may be made.
    if !asserted.chars().any(char::is_alphanumeric) {
        return Likeness::Unclear;
    }
    if value == asserted || is_printable(value) && is_printable(asserted) && value.eq_ignore_ascii_case(asserted) {
        return Likeness::Same;
    }
    let differs = first_difference(loose(value), loose(asserted)).is_some_and(|(one, other)| {
        let graphic = |sign: Option<char>| sign.is_none_or(|sign| sign.is_ascii_graphic());
        graphic(one) && graphic(other)
    });
    if differs { Likeness::Different } else { Likeness::Unclear }
}

/// Up to it they are the same, and plain; `None` of an end. No rule makes two plain signs equal.
fn first_difference(
    mut one: impl Iterator<Item = char>,
    mut other: impl Iterator<Item = char>,
) -> Option<(Option<char>, Option<char>)> {
    loop {
        match (one.next(), other.next()) {
            (None, None) => return None,
            (Some(sign), Some(same)) if sign == same && sign.is_ascii_graphic() => {}
            signs => return Some(signs),
        }
    }
}

/// Without what some rules pass over.
fn loose(text: &str) -> impl DoubleEndedIterator<Item = char> + '_ {
    text.chars().filter(|sign| !matches!(sign, ' ' | '-')).map(|sign| sign.to_ascii_lowercase())
}

fn is_printable(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b' '..=b'~'))
}

/// No space that a rule adds, drops or makes one of several.
fn is_tidy(text: &str) -> bool {
    is_printable(text) && !text.starts_with(' ') && !text.ends_with(' ') && !text.contains("  ")
}

/// Of a filter with `*`.
pub(super) struct Parts<'a> {
    pub(super) initial: Option<&'a [u8]>,
    pub(super) any: &'a [Vec<u8>],
    pub(super) last: Option<&'a [u8]>,
}

impl Parts<'_> {
    pub(super) fn are_in(&self, value: &[u8]) -> Likeness {
        let all = || self.initial.into_iter().chain(self.any.iter().map(Vec::as_slice)).chain(self.last);
        let sound = |part: &[u8]| std::str::from_utf8(part).is_ok_and(is_printable);
        // Signs alone may be nothing to the server.
        let says_something = |part: &[u8]| part.iter().any(u8::is_ascii_alphanumeric);
        let Ok(value) = std::str::from_utf8(value) else { return Likeness::Unclear };
        if !all().all(sound) || !all().any(says_something) {
            return Likeness::Unclear;
        }
        if !is_printable(value) {
            return if self.differ_at_an_end(value) { Likeness::Different } else { Likeness::Unclear };
        }
        let tidy = |part: &[u8]| std::str::from_utf8(part).is_ok_and(is_tidy) && says_something(part);
        let as_written = |text: &str| text.to_ascii_lowercase();
        if is_tidy(value) && all().all(tidy) && self.found(value, as_written) {
            return Likeness::Same;
        }
        let loosely = |text: &str| loose(text).collect::<String>();
        if self.found(value, loosely) { Likeness::Unclear } else { Likeness::Different }
    }

    /// Does the value begin or end with another plain sign, before any that is not?
    fn differ_at_an_end(&self, value: &str) -> bool {
        let text = |part: Option<&'_ [u8]>| {
            part.and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default().to_owned()
        };
        let plain = |signs| matches!(signs, Some((Some(one), Some(other))) if char::is_ascii_graphic(&one) && char::is_ascii_graphic(&other));
        let (initial, last) = (text(self.initial), text(self.last));
        plain(first_difference(loose(value), loose(&initial)))
            || plain(first_difference(loose(value).rev(), loose(&last).rev()))
    }

    /// Do they stand in it in their order, all changed alike?
    fn found(&self, value: &str, changed: impl Fn(&str) -> String) -> bool {
        let part = |octets: &[u8]| changed(std::str::from_utf8(octets).unwrap_or_default());
        let value = changed(value);
        let Some(mut rest) = value.strip_prefix(&self.initial.map(part).unwrap_or_default()) else { return false };
        for wanted in self.any {
            let Some((_, after)) = rest.split_once(&part(wanted)) else { return false };
            rest = after;
        }
        rest.ends_with(&self.last.map(part).unwrap_or_default())
    }
}

/// Names of entries, the value perhaps as the control for extended DNs writes it.
pub(super) fn names(value: &[u8], asserted: &[u8]) -> Likeness {
    let plain = |octets| std::str::from_utf8(octets).ok().map(plain_dn);
    let parsed = |text: Option<&str>| text.and_then(|text| text.parse::<Dn>().ok()).filter(|dn| !dn.rdns.is_empty());
    let (Some(value), Some(asserted)) = (parsed(plain(value)), parsed(std::str::from_utf8(asserted).ok())) else {
        return Likeness::Unclear;
    };
    if value == asserted {
        return Likeness::Same;
    }
    let (Some(value), Some(asserted)) = (texts_of(&value), texts_of(&asserted)) else { return Likeness::Unclear };
    if value.len() != asserted.len() {
        return Likeness::Different;
    }
    let mut likeness = Likeness::Same;
    for ((attribute, text), (other, wanted)) in value.into_iter().zip(asserted) {
        match texts(text, wanted) {
            Likeness::Same if attribute.eq_ignore_ascii_case(other) => {}
            Likeness::Unclear if attribute.eq_ignore_ascii_case(other) => likeness = Likeness::Unclear,
            _ => return Likeness::Different,
        }
    }
    likeness
}

/// What names are mostly made of, by the one name that servers write it with: all are compared as texts.
const OF_NAMES: [&str; 7] = ["cn", "ou", "dc", "o", "uid", "l", "st"];

/// The attribute and the value of each relative name, of a name that is made of those alone.
fn texts_of(dn: &Dn) -> Option<Vec<(&str, &[u8])>> {
    dn.rdns.iter().map(text_of).collect()
}

fn text_of(rdn: &Rdn) -> Option<(&str, &[u8])> {
    match rdn.assertions.as_slice() {
        [Assertion { attribute, value: Value::Text(text) }] => {
            let known = OF_NAMES.iter().any(|name| attribute.eq_ignore_ascii_case(name));
            known.then_some((attribute.as_str(), text.as_slice()))
        }
        _ => None,
    }
}
