//! Phone numbers as directories and people write them, made diallable. Whether a number may be used is the carriers' rule (V-18).

use domain::PhoneNumber;

/// The number cannot be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDialable {
    #[error("there is no number")]
    Missing,
    /// Written without `+`, and the settings name no country it could belong to.
    #[error("the number has no international prefix, and verification.country is not set")]
    NoCountry,
    #[error("it is no valid number")]
    Invalid,
}

/// In international form. A number without `+` or `00` belongs to `country` (ISO 3166, two letters; FS-29).
pub fn dialable(raw: &str, country: &str) -> Result<PhoneNumber, NotDialable> {
    let raw = raw.trim();
    if raw.is_empty() {
        return Err(NotDialable::Missing);
    }
    // What the directory keeps can be anything: bounded before it is read.
    if raw.len() > 64 {
        return Err(NotDialable::Invalid);
    }
    let international = match raw.strip_prefix("00") {
        Some(rest) if !rest.starts_with('0') => Some(format!("+{rest}")),
        _ => raw.starts_with('+').then(|| raw.to_owned()),
    };
    let region = country.parse::<phonenumber::country::Id>().ok();
    let parsed = match (&international, region) {
        (Some(text), _) => phonenumber::parse(None, text),
        (None, Some(region)) => phonenumber::parse(Some(region), raw),
        (None, None) => return Err(NotDialable::NoCountry),
    };
    let number = parsed.map_err(|_| NotDialable::Invalid)?;
    if !phonenumber::is_valid(&number) {
        return Err(NotDialable::Invalid);
    }
    PhoneNumber::new(&number.format().mode(phonenumber::Mode::E164).to_string()).map_err(|_| NotDialable::Invalid)
}

/// All but the last four digits: what the caps of V-18 are counted by.
pub fn prefix(number: &PhoneNumber) -> &str {
    let digits = number.expose();
    &digits[..digits.len() - 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_in_the_country_of_the_settings() {
        // FS-29
        for (raw, country, expected) in [
            ("+49 30 901820", "", Ok("+4930901820")),
            ("0049 30 901820", "", Ok("+4930901820")),
            ("030 901820", "DE", Ok("+4930901820")),
            ("(030) 90-18 20", "DE", Ok("+4930901820")),
            ("030 901820", "", Err(NotDialable::NoCountry)),
            ("030 901820", "XX", Err(NotDialable::NoCountry)),
            ("+1 201 555 0123", "DE", Ok("+12015550123")),
            ("", "DE", Err(NotDialable::Missing)),
            ("ext 12", "DE", Err(NotDialable::Invalid)),
            ("+49 1", "DE", Err(NotDialable::Invalid)),
            ("+999 12345678", "DE", Err(NotDialable::Invalid)),
        ] {
            let read = dialable(raw, country);
            assert_eq!(read.as_ref().map(PhoneNumber::expose).map_err(|error| *error), expected, "{raw} {country}");
        }
        assert_eq!(dialable(&"1".repeat(65), "DE"), Err(NotDialable::Invalid));
    }

    #[test]
    fn the_prefix_leaves_out_the_last_four_digits() {
        // V-18
        assert_eq!(prefix(&PhoneNumber::new("+4930901820").expect("valid")), "+493090");
    }
}
