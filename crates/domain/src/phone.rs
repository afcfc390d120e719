//! Numbers of the telephone network.
//!
//! ```text
//! parse        a number as a directory or a person wrote it (S-57)
//! countries    calling codes and what is dialled before a number at home
//! ```

mod countries;
mod parse;

pub use parse::{BadPhone, Parsed, parse};

use serde::{Deserialize, Serialize};
use std::fmt;

/// A number in international form, `+` and 8 to 15 digits (ITU-T E.164, section 6). Whether it is in use, and of what kind, is not
/// said.
///
/// Printing shows the last two digits only: more of it belongs in no log.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneNumber(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a phone number is written + and 8 to 15 digits, such as +4930901820")]
pub struct BadPhoneNumber;

impl PhoneNumber {
    /// Spaces, dots, slashes, dashes and brackets between the digits are dropped.
    pub fn new(text: &str) -> Result<Self, BadPhoneNumber> {
        let digits = text.trim().strip_prefix('+').ok_or(BadPhoneNumber)?;
        let digits: String = digits.chars().filter(|sign| !matches!(sign, ' ' | '.' | '/' | '-' | '(' | ')')).collect();
        let good = (8..=15).contains(&digits.len())
            && digits.bytes().all(|sign| sign.is_ascii_digit())
            && !digits.starts_with('0');
        if good { Ok(Self(format!("+{digits}"))) } else { Err(BadPhoneNumber) }
    }

    /// The whole number. For the network and its owner only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `•••• 4321`: what its owner recognises (FN-06, V-17).
    pub fn masked(&self) -> String {
        masked(&self.0)
    }
}

/// The same of a number that may lack the country, as a directory or an administrator wrote it. One too short to hide anything is
/// not shown.
pub fn masked(number: &str) -> String {
    let signs: Vec<char> = number.chars().filter(|sign| sign.is_ascii_digit()).collect();
    let shown = if signs.len() >= 8 { 4 } else { 0 };
    format!("•••• {}", signs[signs.len() - shown..].iter().collect::<String>()).trim_end().to_owned()
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "…{}", &self.0[self.0.len() - 2..])
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl TryFrom<String> for PhoneNumber {
    type Error = BadPhoneNumber;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<PhoneNumber> for String {
    fn from(number: PhoneNumber) -> Self {
        number.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_international_or_none() {
        for (typed, number) in [
            ("+4930901820", Some("+4930901820")),
            (" +49 (30) 90-18.20/0 ", Some("+49309018200")),
            ("004930901820", None),
            ("030 901820", None),
            ("+0301234567", None),
            ("+1234567", None),
            ("+1234567890123456", None),
            ("+49 30 x12", None),
            ("", None),
        ] {
            assert_eq!(PhoneNumber::new(typed).ok().as_ref().map(PhoneNumber::expose), number, "{typed}");
        }
    }

    #[test]
    fn what_is_printed_names_nobody() {
        let number = PhoneNumber::new("+4930901234").expect("valid");
        assert_eq!((format!("{number} {number:?}"), number.masked()), ("…34 …34".into(), "•••• 1234".into()));
        for (written, shown) in
            [("030 90 12-34", "•••• 1234"), ("(030) 901820 / 17", "•••• 2017"), ("1234", "••••"), ("", "••••")]
        {
            assert_eq!(masked(written), shown, "{written}");
        }
    }
}
