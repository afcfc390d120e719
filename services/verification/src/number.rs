//! Phone numbers: as directories, people and providers write them, made diallable, and which may be sent to at all (V-18).
//!
//! Pure. Counting against the caps is the store's.

use domain::PhoneNumber;
use domain::settings::Settings;
use phonenumber::{Type, country, metadata::DATABASE};

/// The number cannot be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDialable {
    #[error("there is no number")]
    Missing,
    /// Written without `+`, and the settings name no country it could belong to.
    #[error("the number has no international prefix, and verification.country is not set")]
    NoCountry,
    #[error("it is no telephone number: write it with + and 8 to 15 digits")]
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
    let region = country.to_ascii_uppercase().parse::<country::Id>().ok();
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

/// What may be said about a number that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// A telephone of the Internet: it proves less (V-17). Allowed, and counted.
    pub voip: bool,
}

/// A number as a provider wrote it that always writes international ones, perhaps without the plus.
pub fn from_provider(raw: &str) -> Option<PhoneNumber> {
    let raw = raw.trim();
    let digits = raw.strip_prefix("00").unwrap_or(raw);
    PhoneNumber::new(raw).or_else(|_| PhoneNumber::new(&format!("+{digits}"))).ok()
}

/// May a message go there? `Err` says why not, for a log and an administrator.
pub fn allowed(number: &PhoneNumber, settings: &Settings) -> Result<Allowed, &'static str> {
    let parsed = phonenumber::parse(None, number.expose()).map_err(|_| "it is no telephone number")?;
    if !parsed.is_valid() {
        return Err("no numbering plan has it");
    }
    let home = std::slice::from_ref(&settings.verification.country);
    let countries = if settings.sms.countries.is_empty() { home } else { &settings.sms.countries };
    // Several countries may share a code; the plan says whose the number is.
    let its_own = parsed.country().id().ok_or("it belongs to no country")?;
    if !countries.iter().any(|listed| listed.eq_ignore_ascii_case(its_own.as_ref())) {
        return Err("its country is not on the list");
    }
    match parsed.number_type(&DATABASE) {
        Type::Mobile | Type::FixedLine | Type::FixedLineOrMobile => Ok(Allowed { voip: false }),
        Type::Voip => Ok(Allowed { voip: true }),
        Type::PremiumRate => Err("it is a premium rate number"),
        Type::SharedCost => Err("it is a shared cost number"),
        _ => Err("it is no number of a person"),
    }
}

/// Reads the numbering plans, which are kept from then on.
pub fn prepare() {
    let _ = phonenumber::parse(Some(country::Id::DE), "0");
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
            ("0151 23456789", "de", Ok("+4915123456789")),
            ("hello", "DE", Err(NotDialable::Invalid)),
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

    fn settings(country: &str, countries: &[&str]) -> Settings {
        let mut settings = Settings::default();
        settings.verification.country = country.into();
        settings.sms.countries = countries.iter().map(|&it| it.to_owned()).collect();
        settings
    }

    fn judged(number: &str, settings: &Settings) -> Result<bool, &'static str> {
        allowed(&PhoneNumber::new(number).expect("a number"), settings).map(|allowed| allowed.voip)
    }

    #[test]
    fn only_ordinary_numbers_of_the_listed_countries_are_sent_to() {
        // V-18, FN-07: example numbers of the published numbering plans
        let german = settings("DE", &[]);
        let listed = settings("DE", &["de", "GB", "AT"]);
        let foreign = Err("its country is not on the list");
        let found: Vec<_> = [
            ("+4915123456789", &german, Ok(false)),
            ("+4930123456", &german, Ok(false)),
            ("+447400123456", &german, foreign),
            ("+447400123456", &listed, Ok(false)),
            ("+12015550123", &listed, foreign),
            ("+447400123456", &settings("", &[]), foreign),
            ("+449012345678", &listed, Err("it is a premium rate number")),
            ("+499001234567", &listed, Err("it is a premium rate number")),
            ("+4918012345", &listed, Err("it is a shared cost number")),
            ("+448001234567", &listed, Err("it is no number of a person")),
            ("+445612345678", &listed, Ok(true)),
            // A range for films, and a country code that nobody has.
            ("+447700900123", &listed, Err("no numbering plan has it")),
            ("+99912345678", &listed, Err("it is no telephone number")),
        ]
        .into_iter()
        .filter(|(number, rules, expected)| judged(number, rules) != *expected)
        .map(|(number, rules, expected)| (number, judged(number, rules), expected))
        .collect();
        assert_eq!(found, []);
    }

    #[test]
    fn providers_may_leave_the_plus_out() {
        let read = |raw| from_provider(raw).map(String::from);
        for raw in ["4915123456789", "+4915123456789", "004915123456789"] {
            assert_eq!(read(raw).as_deref(), Some("+4915123456789"), "{raw}");
        }
        assert_eq!(read("Twinlock"), None);
    }
}
