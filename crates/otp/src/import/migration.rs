//! `google-export`: what an authenticator app shows to take its accounts elsewhere, `otpauth-migration://offline?data=` and a Protocol
//! Buffers message in Base64, one part a line. The few fields that count are read by hand.
//!
//! Such an account has no serial. It gets one from its seed, so that the same file brings the same serials again.

use super::{FileError, Kind, Parts, Row, RowError, Token, push, values};
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXUPPER};
use domain::{CodeAlgorithm, Secret};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use zeroize::Zeroizing;

/// An app shows some ten accounts in a picture; more would fit none.
const PARTS_MAX: u32 = 1000;

pub fn read(text: &str) -> Result<Vec<Row<Token>>, FileError> {
    let mut rows = Vec::new();
    let mut found = BTreeSet::new();
    let mut parts = 1;
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = || FileError::NotMigration { line: u32::try_from(index + 1).unwrap_or(u32::MAX) };
        let message = data(line.trim()).ok_or_else(bad)?;
        let (mut part, mut of) = (0, 1);
        for field in Fields(&message) {
            match field.ok_or_else(bad)? {
                (1, Value::Octets(account)) => {
                    let row = u32::try_from(rows.len() + 1).unwrap_or(u32::MAX);
                    let (name, content) = account_of(account);
                    push(&mut rows, Row { row, name, content })?;
                }
                (3, Value::Number(count)) => of = u32::try_from(count).map_err(|_| bad())?,
                (4, Value::Number(place)) => part = u32::try_from(place).map_err(|_| bad())?,
                _ => {}
            }
        }
        if of > PARTS_MAX || part >= of.max(1) {
            return Err(bad());
        }
        found.insert(part);
        parts = parts.max(of);
    }
    match (0..parts).find(|part| !found.contains(part)) {
        Some(missing) if !rows.is_empty() => Err(FileError::PartMissing { part: missing + 1, of: parts }),
        _ => Ok(rows),
    }
}

/// The message in the address.
fn data(line: &str) -> Option<Zeroizing<Vec<u8>>> {
    let query = line.strip_prefix("otpauth-migration://offline?")?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix("data="))?;
    let plain = Zeroizing::new(percent_decoded(value)?);
    let plain = plain.trim_end_matches('=').as_bytes();
    let decoded = BASE64_NOPAD.decode(plain).or_else(|_| BASE64URL_NOPAD.decode(plain)).ok()?;
    Some(Zeroizing::new(decoded))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).filter(|code| code.bytes().all(|sign| sign.is_ascii_hexdigit()))?;
        decoded.push(char::from(u8::from_str_radix(code, 16).ok().filter(u8::is_ascii)?));
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

fn account_of(message: &[u8]) -> (String, Result<Token, RowError>) {
    let mut name = String::new();
    let token = token(message, &mut name);
    (name, token)
}

fn token(message: &[u8], shown: &mut String) -> Result<Token, RowError> {
    let (mut seed, mut name, mut issuer) = (&[][..], "", "");
    let (mut hash, mut digits, mut kind, mut counter) = (0, 0, 0, 0);
    for field in Fields(message) {
        match field.ok_or(RowError::Encoding("what an app writes"))? {
            (1, Value::Octets(octets)) => seed = octets,
            (2, Value::Octets(octets)) => name = std::str::from_utf8(octets).unwrap_or_default(),
            (3, Value::Octets(octets)) => issuer = std::str::from_utf8(octets).unwrap_or_default(),
            (4, Value::Number(number)) => hash = number,
            (5, Value::Number(number)) => digits = number,
            (6, Value::Number(number)) => kind = number,
            (7, Value::Number(number)) => counter = number,
            _ => {}
        }
    }
    // `Issuer:account`, as in the label of an otpauth address.
    let account = name.rsplit_once(':').map_or(name, |(_, account)| account).trim();
    *shown = values::shown(&format!("{issuer}:{account}"));
    if seed.is_empty() {
        return Err(RowError::Missing("the secret"));
    }
    let serial = format!("APP-{}", HEXUPPER.encode(&Sha256::digest(seed)[..8]));
    Parts {
        serial: &serial,
        seed: Secret::new(seed),
        kind: match kind {
            0 | 2 => Kind::Totp,
            1 => Kind::Hotp,
            _ => return Err(RowError::Kind),
        },
        algorithm: match hash {
            0 | 1 => CodeAlgorithm::Sha1,
            2 => CodeAlgorithm::Sha256,
            3 => CodeAlgorithm::Sha512,
            _ => return Err(RowError::Hash),
        },
        digits: match digits {
            0 | 1 => 6,
            2 => 8,
            _ => return Err(RowError::Number("the number of digits")),
        },
        period_seconds: 30,
        counter,
        username: account,
        manufacturer: issuer,
        model: "",
    }
    .token()
}

enum Value<'a> {
    Number(u64),
    Octets(&'a [u8]),
    Other,
}

/// The fields of a message; `None` once, where it is broken off.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Octets(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let octet = *self.take(1)?.first()?;
            number |= u64::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}
