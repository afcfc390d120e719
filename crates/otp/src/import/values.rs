//! Single values as files write them.

use super::{Kind, RowError};
use data_encoding::{BASE64, Encoding, HEXLOWER_PERMISSIVE, Specification};
use domain::{CodeAlgorithm, Secret};
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// Base32 whose last character may hold bits that stand for nothing: seeds are typed by people too.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
    specification.check_trailing_bits = false;
    specification.encoding().expect("32 different symbols")
});

/// Any case, with spaces, dashes and padding.
pub fn base32(text: &str) -> Result<Secret, RowError> {
    let plain = without_space(text, |sign| matches!(sign, '-' | '='));
    let decoded = BASE32.decode(plain.to_ascii_uppercase().as_bytes());
    seed(decoded.map_err(|_| RowError::Encoding("Base32")))
}

pub fn hex(text: &str) -> Result<Secret, RowError> {
    let decoded = HEXLOWER_PERMISSIVE.decode(without_space(text, |_| false).as_bytes());
    seed(decoded.map_err(|_| RowError::Encoding("hexadecimal")))
}

/// As XML wraps it.
pub fn base64(text: &str) -> Result<Secret, RowError> {
    let decoded = BASE64.decode(without_space(text, |_| false).as_bytes());
    seed(decoded.map_err(|_| RowError::Encoding("Base64")))
}

fn seed(decoded: Result<Vec<u8>, RowError>) -> Result<Secret, RowError> {
    match decoded? {
        empty if empty.is_empty() => Err(RowError::Missing("the secret")),
        octets => Ok(Secret::new(octets)),
    }
}

fn without_space(text: &str, also: impl Fn(char) -> bool) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    plain.extend(text.chars().filter(|sign| !sign.is_whitespace() && !also(*sign)));
    plain
}

/// One line of text, not empty.
pub fn line(what: &'static str, text: &str, octets_max: usize) -> Result<String, RowError> {
    match text.trim() {
        "" => Err(RowError::Missing(what)),
        text => optional_line(what, text, octets_max),
    }
}

pub fn optional_line(what: &'static str, text: &str, octets_max: usize) -> Result<String, RowError> {
    let text = text.trim();
    if text.len() > octets_max || text.chars().any(char::is_control) {
        return Err(RowError::Text(what));
    }
    Ok(text.to_owned())
}

/// A name for the verdict, whatever stands there.
pub fn shown(text: &str) -> String {
    text.trim().chars().filter(|sign| !sign.is_control()).take(64).collect()
}

/// A number, or `otherwise` where nothing stands.
pub fn number<N: std::str::FromStr>(what: &'static str, text: &str, otherwise: N) -> Result<N, RowError> {
    match text.trim() {
        "" => Ok(otherwise),
        // `from_str` would take a plus sign.
        digits if digits.bytes().all(|sign| sign.is_ascii_digit()) => {
            digits.parse().map_err(|_| RowError::Number(what))
        }
        _ => Err(RowError::Number(what)),
    }
}

/// HOTP where nothing stands: the older one.
pub fn kind(text: &str) -> Result<Kind, RowError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "hotp" | "hmac" => Ok(Kind::Hotp),
        "totp" => Ok(Kind::Totp),
        _ => Err(RowError::Kind),
    }
}

/// `sha256`, `SHA-256`, `HMAC-SHA256`, `HmacSHA256`; SHA-1 where nothing stands.
pub fn algorithm(text: &str) -> Result<CodeAlgorithm, RowError> {
    let name: String = text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_uppercase();
    match name.strip_prefix("HMAC").unwrap_or(&name) {
        "" => Ok(CodeAlgorithm::Sha1),
        name => CodeAlgorithm::from_code(name).ok_or(RowError::Hash),
    }
}
