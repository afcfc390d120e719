//! The value of an attribute as people write it, and as octets.
//!
//! Encoding is strict: what does not fit the type is an error and never something else. A text with a line break or any
//! other control character is refused here; whether that fails the login or the text is cleaned first, the caller
//! decides. No error repeats the value: it may be a secret.

use crate::dictionary::{Definition, ValueType, parse_number};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a text is no value of an attribute. The fault of whoever wrote the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// An attribute without octets is not sent (RFC 2865 section 5).
    #[error("the value is empty")]
    Empty,
    /// NUL ends texts in some devices, and a line break begins a new line in their files.
    #[error("the value has control characters")]
    Control,
    #[error("the value has {octets} octets, at most {octets_max} are possible")]
    TooLong { octets: usize, octets_max: usize },
    #[error("the value has {octets} octets, exactly {expected} are possible")]
    Size { octets: usize, expected: usize },
    #[error("the value is no number from {min} to {max}")]
    Number { min: i64, max: u64 },
    /// As [`Self::Number`], where numbers have names.
    #[error("the value is neither a number from {min} to {max} nor one of the names of the dictionary, as {example}")]
    NumberOrName { min: i64, max: u64, example: String },
    #[error("the value is not of the form {allowed}")]
    Form { allowed: &'static str },
}

impl Definition {
    /// The octets of a clear value, without tag and without what surrounds it.
    ///
    /// Octets are written as `0x` and hexadecimal digits, or as text that does not begin with `0x`.
    pub fn encode(&self, text: &str) -> Result<Vec<u8>, ValueError> {
        let octets = self.encode_type(text)?;
        if octets.is_empty() {
            return Err(ValueError::Empty);
        }
        if octets.len() > self.value_octets_max() {
            return Err(ValueError::TooLong { octets: octets.len(), octets_max: self.value_octets_max() });
        }
        Ok(octets)
    }

    fn encode_type(&self, text: &str) -> Result<Vec<u8>, ValueError> {
        let form = |allowed| ValueError::Form { allowed };
        match self.value_type() {
            ValueType::String => characters(text),
            ValueType::Octets(size) => sized(octets(text)?, size),
            ValueType::Byte => self.number(text, u8::MAX.into()).map(|number| number.to_be_bytes()[7..].to_vec()),
            ValueType::Short => self.number(text, u16::MAX.into()).map(|number| number.to_be_bytes()[6..].to_vec()),
            // The tag takes the first octet (RFC 2868 section 3.1).
            ValueType::Integer if self.has_tag() => {
                self.number(text, TAGGED_MAX).map(|number| number.to_be_bytes()[4..].to_vec())
            }
            ValueType::Integer => self.number(text, u32::MAX.into()).map(|number| number.to_be_bytes()[4..].to_vec()),
            ValueType::Integer64 => self.number(text, u64::MAX).map(|number| number.to_be_bytes().to_vec()),
            ValueType::Signed => self.signed(text).map(|number| number.to_be_bytes().to_vec()),
            ValueType::Date => self.date(text),
            ValueType::IpAddr => ipv4(text).map(|address| address.octets().to_vec()),
            ValueType::Ipv6Addr => ipv6(text).map(|address| address.octets().to_vec()),
            ValueType::ComboIp => match text.parse::<IpAddr>().map_err(|_| form("192.0.2.1 or 2001:db8::1"))? {
                IpAddr::V4(address) => Ok(address.octets().to_vec()),
                IpAddr::V6(address) => Ok(address.octets().to_vec()),
            },
            ValueType::Ipv4Prefix => {
                const FORM: &str = "192.0.2.0/24, with nothing but zeros behind the prefix";
                let (address, bits) = prefix(text, 32).ok_or(form(FORM))?;
                let address = ipv4(address).map_err(|_| form(FORM))?.octets();
                if !zero_behind(&address, bits) {
                    return Err(form(FORM));
                }
                Ok([&[0, bits], address.as_slice()].concat())
            }
            ValueType::Ipv6Prefix => {
                const FORM: &str = "2001:db8::/32, with nothing but zeros behind the prefix";
                let (address, bits) = prefix(text, 128).ok_or(form(FORM))?;
                let address = ipv6(address).map_err(|_| form(FORM))?.octets();
                if !zero_behind(&address, bits) {
                    return Err(form(FORM));
                }
                Ok([&[0, bits], address.as_slice()].concat())
            }
            ValueType::Ifid => ifid(text).ok_or(form("0011:2233:4455:6677")),
            ValueType::Ether => ether(text).ok_or(form("00:11:22:33:44:55")),
            ValueType::Abinary | ValueType::Tlv => hexadecimal(text),
            // The type behind it, or vendor and type.
            ValueType::Extended => at_least(hexadecimal(text)?, 2),
            ValueType::LongExtended => at_least(hexadecimal(text)?, 3),
            ValueType::Vsa | ValueType::Evs => at_least(hexadecimal(text)?, 6),
        }
    }

    /// The value as text, as [`Self::encode`] takes it. None where the octets are no value of the type: they are then
    /// shown as octets and mean nothing.
    pub fn decode(&self, octets: &[u8]) -> Option<String> {
        let named = |number: u64| self.value_name(number).map_or_else(|| number.to_string(), str::to_owned);
        Some(match self.value_type() {
            ValueType::String => {
                let text = std::str::from_utf8(octets).ok()?;
                (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())?
            }
            ValueType::Octets(Some(size)) if octets.len() != usize::from(size) => return None,
            ValueType::Octets(_)
            | ValueType::Abinary
            | ValueType::Tlv
            | ValueType::Vsa
            | ValueType::Extended
            | ValueType::LongExtended
            | ValueType::Evs => as_hexadecimal(octets),
            ValueType::Byte => named(u8::from_be_bytes(octets.try_into().ok()?).into()),
            ValueType::Short => named(u16::from_be_bytes(octets.try_into().ok()?).into()),
            ValueType::Integer => match *octets {
                [one, two, three] if self.has_tag() => named(u32::from_be_bytes([0, one, two, three]).into()),
                _ => named(u32::from_be_bytes(octets.try_into().ok()?).into()),
            },
            ValueType::Integer64 => named(u64::from_be_bytes(octets.try_into().ok()?)),
            ValueType::Signed => {
                let number = i32::from_be_bytes(octets.try_into().ok()?);
                u64::try_from(number).map_or_else(|_| number.to_string(), named)
            }
            ValueType::Date => as_date(u32::from_be_bytes(octets.try_into().ok()?)),
            ValueType::IpAddr => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).to_string(),
            ValueType::Ipv6Addr => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_string(),
            ValueType::ComboIp => match <[u8; 4]>::try_from(octets) {
                Ok(octets) => Ipv4Addr::from(octets).to_string(),
                Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_string(),
            },
            ValueType::Ipv4Prefix => {
                let &[0, bits, ref address @ ..] = octets else { return None };
                let address = <[u8; 4]>::try_from(address).ok()?;
                (bits <= 32 && zero_behind(&address, bits)).then(|| format!("{}/{bits}", Ipv4Addr::from(address)))?
            }
            ValueType::Ipv6Prefix => {
                // RFC 3162 section 2.3: only as many octets as the prefix needs may be there.
                let &[0, bits, ref short @ ..] = octets else { return None };
                let mut address = [0; 16];
                address.get_mut(..short.len())?.copy_from_slice(short);
                let there = usize::from(bits) <= short.len() * 8;
                (there && zero_behind(&address, bits)).then(|| format!("{}/{bits}", Ipv6Addr::from(address)))?
            }
            ValueType::Ifid => {
                let [a, b, c, d, e, f, g, h] = <[u8; 8]>::try_from(octets).ok()?;
                format!("{a:02x}{b:02x}:{c:02x}{d:02x}:{e:02x}{f:02x}:{g:02x}{h:02x}")
            }
            ValueType::Ether => {
                let [a, b, c, d, e, f] = <[u8; 6]>::try_from(octets).ok()?;
                format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
            }
        })
    }

    fn number(&self, text: &str, max: u64) -> Result<u64, ValueError> {
        let found = parse_number(text).or_else(|| self.value_named(text)).filter(|number| *number <= max);
        found.ok_or_else(|| self.no_number(0, max))
    }

    fn signed(&self, text: &str) -> Result<i32, ValueError> {
        let named = || i32::try_from(parse_number(text).or_else(|| self.value_named(text))?).ok();
        let found = if text.starts_with('-') { text.parse().ok() } else { named() };
        found.ok_or_else(|| self.no_number(i32::MIN.into(), i32::MAX as u64))
    }

    fn no_number(&self, min: i64, max: u64) -> ValueError {
        match self.values().next() {
            Some((example, _)) => ValueError::NumberOrName { min, max, example: example.to_owned() },
            None => ValueError::Number { min, max },
        }
    }

    fn date(&self, text: &str) -> Result<Vec<u8>, ValueError> {
        let seconds = self.number(text, u32::MAX.into()).ok().or_else(|| date(text));
        let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
        let seconds = seconds.ok_or(ValueError::Form { allowed: "2026-01-31T12:00:00Z, 1970 to 2106, or seconds" })?;
        Ok(seconds.to_be_bytes().to_vec())
    }
}

const TAGGED_MAX: u64 = 0x00ff_ffff;

fn characters(text: &str) -> Result<Vec<u8>, ValueError> {
    if text.chars().any(char::is_control) {
        return Err(ValueError::Control);
    }
    Ok(text.as_bytes().to_vec())
}

fn octets(text: &str) -> Result<Vec<u8>, ValueError> {
    if text.starts_with("0x") { hexadecimal(text) } else { characters(text) }
}

fn hexadecimal(text: &str) -> Result<Vec<u8>, ValueError> {
    let digits = text.strip_prefix("0x").and_then(hex_octets);
    digits.ok_or(ValueError::Form { allowed: "0x00ff, two hexadecimal digits for each octet" })
}

fn hex_octets(digits: &str) -> Option<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let octets = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect::<Option<_>>()?;
    rest.is_empty().then_some(octets)
}

/// Octets as [`Definition::encode`] takes them.
pub(crate) fn as_hexadecimal(octets: &[u8]) -> String {
    let mut text = String::with_capacity(2 + octets.len() * 2);
    text.push_str("0x");
    for octet in octets {
        write!(text, "{octet:02x}").expect("a String takes everything");
    }
    text
}

fn sized(octets: Vec<u8>, size: Option<u8>) -> Result<Vec<u8>, ValueError> {
    match size.map(usize::from) {
        Some(expected) if expected != octets.len() => Err(ValueError::Size { octets: octets.len(), expected }),
        _ => Ok(octets),
    }
}

fn at_least(octets: Vec<u8>, octets_min: usize) -> Result<Vec<u8>, ValueError> {
    if octets.len() < octets_min {
        return Err(ValueError::Form { allowed: "0x with the numbers that lead to a value, and the value" });
    }
    Ok(octets)
}

fn ipv4(text: &str) -> Result<Ipv4Addr, ValueError> {
    text.parse().map_err(|_| ValueError::Form { allowed: "192.0.2.1" })
}

fn ipv6(text: &str) -> Result<Ipv6Addr, ValueError> {
    text.parse().map_err(|_| ValueError::Form { allowed: "2001:db8::1" })
}

fn prefix(text: &str, bits_max: u8) -> Option<(&str, u8)> {
    let (address, bits) = text.split_once('/')?;
    let bits = u8::try_from(parse_number(bits)?).ok().filter(|bits| *bits <= bits_max)?;
    Some((address, bits))
}

fn zero_behind(address: &[u8], bits: u8) -> bool {
    let (whole, part) = (usize::from(bits / 8), bits % 8);
    let mut behind = address.iter().skip(whole);
    let of_part = part == 0 || behind.next().is_none_or(|octet| octet << part == 0);
    of_part && behind.all(|octet| *octet == 0)
}

fn ifid(text: &str) -> Option<Vec<u8>> {
    let group = |group: &str| {
        let digits = (1..=4).contains(&group.len()) && group.bytes().all(|octet| octet.is_ascii_hexdigit());
        digits.then(|| u16::from_str_radix(group, 16).ok())?
    };
    let groups: Vec<u16> = text.splitn(5, ':').map(group).collect::<Option<_>>()?;
    (groups.len() == 4).then(|| groups.iter().flat_map(|group| group.to_be_bytes()).collect())
}

fn ether(text: &str) -> Option<Vec<u8>> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let group = |group: &str| hex_octets(group).filter(|octets| octets.len() == 1);
    let groups: Vec<Vec<u8>> = text.splitn(7, separator).map(group).collect::<Option<_>>()?;
    (groups.len() == 6).then(|| groups.concat())
}

/// Seconds since 1970 of the one form of RFC 3339 that has no alternatives: UTC, whole seconds.
fn date(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator: char, widths: [usize; 3]| -> Option<[u64; 3]> {
        let parts: [&str; 3] = text.splitn(4, separator).collect::<Vec<_>>().try_into().ok()?;
        let digits = parts
            .iter()
            .zip(widths)
            .all(|(part, width)| part.len() == width && part.bytes().all(|octet| octet.is_ascii_digit()));
        digits.then(|| parts.map(|part| part.parse().unwrap_or_default()))
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let possible = year >= 1970 && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !possible || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    let days = (1970..year).map(days_of_year).sum::<u64>() + (1..month).map(|month| days_of(year, month)).sum::<u64>();
    Some((days + day - 1) * DAY_SECONDS + hour * 3600 + minute * 60 + second)
}

fn as_date(seconds: u32) -> String {
    let (mut days, time) = (u64::from(seconds) / DAY_SECONDS, u64::from(seconds) % DAY_SECONDS);
    let (mut year, mut month) = (1970, 1);
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
    }
    format!("{year}-{month:02}-{:02}T{:02}:{:02}:{:02}Z", days + 1, time / 3600, time / 60 % 60, time % 60)
}

const DAY_SECONDS: u64 = 86_400;

fn days_of_year(year: u64) -> u64 {
    (1..=12).map(|month| days_of(year, month)).sum()
}

fn days_of(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
