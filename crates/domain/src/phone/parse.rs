//! Numbers as directories have them, read into one form (S-57).
//!
//! ```text
//! "tel:+49 (0)30/90 18-20 ext. 12"  →  clean  →  extension "12"  →  one number?  →  digits  →  "+4930901820"
//! ```
//!
//! With a country every number ends in international form. Without one, a number that names no country is kept as its digits, and
//! whoever dials it adds the country then (`verification.country`). Whether a number is in use is not asked here: the plans of all
//! countries are larger than everything else in this crate, and verification has them.

use super::PhoneNumber;
use super::countries::{self, Country};
use std::fmt;

/// Longer texts are read by nobody.
const OCTETS_MAX: usize = 256;
const EXTENSION_DIGITS_MAX: usize = 7;
/// Of a number that names no country.
const DIGITS_MIN: usize = 5;
/// ITU-T E.164, section 6.
const DIGITS_MAX: usize = 15;
/// A number that stands for itself has at least so many, what stands before a slash within one has fewer.
const WHOLE_DIGITS: usize = 7;

/// What a text says. Printing shows the last two digits only.
#[derive(Clone, PartialEq, Eq)]
pub struct Parsed {
    /// International form, `+4930901820`; digits as they are dialled at home where no country was known, `030901820`.
    pub number: String,
    /// 1-7 digits; empty = none.
    pub extension: String,
}

/// Why a text is no number. Says nothing of the text itself, so that it may stand in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadPhone {
    #[error("there is no number in it")]
    Empty,
    #[error("it has letters")]
    Letters,
    #[error("it has a sign that no number has")]
    Sign,
    #[error("it is too short for a number")]
    TooShort,
    #[error("it is too long for a number")]
    TooLong,
    #[error("there is more than one number in it")]
    Several,
    #[error("its international prefix is that of no country")]
    NoSuchCountry,
    #[error("its extension has more than 7 digits")]
    Extension,
}

/// Reads a number. `country` (ISO 3166, two letters) is that of numbers without an international prefix; one that nobody knows
/// counts as none.
///
/// ```
/// use domain::phone::{BadPhone, parse};
/// let parsed = parse("(555) 123-4567 x890", None).expect("a number");
/// assert_eq!((parsed.number.as_str(), parsed.extension.as_str()), ("5551234567", "890"));
/// assert_eq!(parse("030/90 18 20", Some("DE")).expect("a number").number, "+4930901820");
/// assert_eq!(parse("0171 2345678 / 030 901820", Some("DE")), Err(BadPhone::Several));
/// ```
pub fn parse(text: &str, country: Option<&str>) -> Result<Parsed, BadPhone> {
    if text.len() > OCTETS_MAX {
        return Err(BadPhone::TooLong);
    }
    let cleaned = clean(text);
    let (written, extension) = split_extension(without_scheme(&cleaned))?;
    let written = written.trim_matches(|sign: char| sign == ' ' || ";,-/.".contains(sign));
    one_number(written)?;
    let number = number(written, country.and_then(Country::of))?;
    Ok(Parsed { number, extension: extension.to_owned() })
}

/// Lower case, digits of every script as `0-9`, every kind of blank, dash and bracket as the common one, no invisible signs. The
/// end of a line is written `;`: what follows is another number.
fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for sign in text.trim().chars() {
        match sign {
            '\n' | '\r' | '\u{2028}' | '\u{2029}' => cleaned.push(';'),
            _ if sign.is_whitespace() => cleaned.push(' '),
            // Marks of joining and of the direction of writing come along when a number is copied.
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {}
            '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => cleaned.push('-'),
            '[' | '{' => cleaned.push('('),
            ']' | '}' => cleaned.push(')'),
            // The wide forms of Chinese and Japanese keyboards.
            '\u{ff01}'..='\u{ff5e}' => {
                let plain = char::from_u32(u32::from(sign) - 0xfee0).unwrap_or(sign);
                cleaned.extend(plain.to_lowercase());
            }
            _ => match decimal(sign) {
                Some(digit) => cleaned.push(digit),
                None => cleaned.extend(sign.to_lowercase()),
            },
        }
    }
    cleaned
}

/// The digits of Unicode (general category Nd) in living scripts, each ten in a row from its zero.
fn decimal(sign: char) -> Option<char> {
    const ZEROS: [u32; 18] = [
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0xf20,
        0x1040, 0x17e0,
    ];
    let value = ZEROS.iter().find_map(|zero| u32::from(sign).checked_sub(*zero).filter(|value| *value < 10))?;
    char::from_digit(value, 10)
}

/// RFC 3966, and as people write it before a number: `Tel.: `.
fn without_scheme(text: &str) -> &str {
    let Some(rest) = text.strip_prefix("tel") else { return text };
    match rest.trim_start_matches(['.', ':', ' ']) {
        number if number.len() < rest.len() => number,
        _ => text,
    }
}

/// The number and the extension that stands at its end.
fn split_extension(text: &str) -> Result<(&str, &str), BadPhone> {
    const WORDS: [&str; 4] = [";ext=", "extension", "ext", "x"];
    const SIGNS: [&str; 2] = ["#", ","];
    // Dialled by a machine, the extension may end with a number sign.
    let ended = text.trim_end_matches(['#', ' ']);
    let before = ended.trim_end_matches(|sign: char| sign.is_ascii_digit());
    let extension = &ended[before.len()..];
    let before = before.trim_end();
    let marked = WORDS.iter().find_map(|word| before.trim_end_matches(['.', ':', ' ']).strip_suffix(word));
    let marked = marked.or_else(|| SIGNS.iter().find_map(|sign| before.strip_suffix(sign)));
    match marked {
        Some(_) if extension.is_empty() => Ok((text, "")),
        Some(number) if extension.len() <= EXTENSION_DIGITS_MAX => Ok((number, extension)),
        // After a comma it is a number of its own; one_number says so.
        Some(_) if before.ends_with(',') => Ok((text, "")),
        Some(_) => Err(BadPhone::Extension),
        None => Ok((text, "")),
    }
}

/// Refuses what is no number, or more than one.
fn one_number(written: &str) -> Result<(), BadPhone> {
    if !written.contains(|sign: char| sign.is_ascii_digit()) {
        return Err(if written.contains(char::is_alphabetic) { BadPhone::Letters } else { BadPhone::Empty });
    }
    if written.contains(char::is_alphabetic) {
        return Err(BadPhone::Letters);
    }
    let later_plus = written.trim_start_matches(['(', ' ', '+']).contains('+');
    if later_plus || written.contains([';', ',', '|', '&']) || several_by_slash(written) {
        return Err(BadPhone::Several);
    }
    let known = |sign: char| sign.is_ascii_digit() || " -./()+_".contains(sign);
    if written.chars().all(known) { Ok(()) } else { Err(BadPhone::Sign) }
}

/// `030/901820` is one number, `030 901820 / 0171 2345678` are two: on both sides stands enough for a whole one.
fn several_by_slash(written: &str) -> bool {
    let whole = |part: &&str| {
        let digits = digits_of(part);
        let international = if part.contains('+') { Some(digits.as_str()) } else { digits.strip_prefix("00") };
        let country = international.and_then(|digits| Country::calling(digits).map(|it| (digits, it)));
        let own = country.map_or(digits.len(), |(digits, country)| digits.len() - country.calling_code.len());
        own >= WHOLE_DIGITS
    };
    written.split('/').filter(whole).count() > 1
}

/// One number, cleaned, in the form in which it is kept.
fn number(written: &str, country: Option<&'static Country>) -> Result<String, BadPhone> {
    let digits = digits_of(written);
    let plus = written.trim_start_matches(['(', ' ']).starts_with('+');
    let prefix = if plus { Some("") } else { international_prefix(&digits, country) };
    match (prefix, country) {
        (Some(prefix), _) => international(&digits[prefix.len()..], bracketed_zero(written, prefix)),
        (None, Some(country)) => national(&digits, country),
        (None, None) if digits.len() < DIGITS_MIN => Err(BadPhone::TooShort),
        (None, None) if digits.len() > DIGITS_MAX => Err(BadPhone::TooLong),
        (None, None) => Ok(digits),
    }
}

fn international_prefix(digits: &str, country: Option<&'static Country>) -> Option<&'static str> {
    let own = country.and_then(Country::international_prefix);
    own.into_iter().chain(["00"]).find(|prefix| digits.starts_with(prefix))
}

/// The digits of the country's code where `(0)` stands right behind them: `+44 (0)20` is dialled 020 there and +44 20 from abroad.
fn bracketed_zero(written: &str, prefix: &str) -> Option<String> {
    let signs: String = written.chars().filter(|sign| sign.is_ascii_digit() || "()".contains(*sign)).collect();
    let (before, _) = signs.split_once("(0)")?;
    digits_of(before).strip_prefix(prefix).map(str::to_owned)
}

fn international(digits: &str, zero_after: Option<String>) -> Result<String, BadPhone> {
    if countries::of_no_country(digits) {
        return e164(digits);
    }
    let country = Country::calling(digits).ok_or(BadPhone::NoSuchCountry)?;
    let mut own = &digits[country.calling_code.len()..];
    if zero_after.as_deref() == Some(country.calling_code) && !country.zero_leads() {
        own = own.strip_prefix('0').unwrap_or(own);
    }
    with_code(country, country.without_trunk(own))
}

fn national(digits: &str, country: &Country) -> Result<String, BadPhone> {
    let own = country.without_trunk(digits);
    // The international form without its plus: known only by the digits that are too many.
    let without_plus = digits.strip_prefix(country.calling_code).map(|rest| country.without_trunk(rest));
    let fits = |own: &str| (country.digits_min..=country.digits_max).contains(&own.len());
    match without_plus {
        Some(rest) if own.len() > country.digits_max && fits(rest) => with_code(country, rest),
        _ => with_code(country, own),
    }
}

fn with_code(country: &Country, own: &str) -> Result<String, BadPhone> {
    // Plans grow, so that a number longer than today's is let through; they never shrink.
    if own.len() < country.digits_min {
        return Err(BadPhone::TooShort);
    }
    e164(&format!("{}{own}", country.calling_code))
}

fn e164(digits: &str) -> Result<String, BadPhone> {
    if digits.len() > DIGITS_MAX {
        return Err(BadPhone::TooLong);
    }
    PhoneNumber::new(&format!("+{digits}")).map(String::from).map_err(|_| BadPhone::TooShort)
}

fn digits_of(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.number.get(self.number.len().saturating_sub(2)..).unwrap_or_default();
        write!(f, "…{shown}{}", if self.extension.is_empty() { "" } else { " x…" })
    }
}
