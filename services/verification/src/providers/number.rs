//! Which numbers may be sent to at all (V-18): what a number is, said by its shape and the numbering plans of the countries.
//!
//! Pure. Counting against the caps is the store's.

use domain::PhoneNumber;
use domain::settings::Settings;
use phonenumber::{Type, country, metadata::DATABASE};

/// What may be said about a number that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// A telephone of the Internet: it proves less (V-17). Allowed, and counted.
    pub voip: bool,
}

/// A number as somebody or some provider wrote it: international, or national of `country` (ISO 3166, two letters).
pub fn parse(raw: &str, country: &str) -> Option<PhoneNumber> {
    if let Ok(number) = PhoneNumber::new(raw) {
        return Some(number);
    }
    let country: Option<country::Id> = country.to_ascii_uppercase().parse().ok();
    let number = phonenumber::parse(Some(country?), raw.trim()).ok()?;
    PhoneNumber::new(&number.format().mode(phonenumber::Mode::E164).to_string()).ok()
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

/// All but the last four digits: what the caps count by (V-18).
pub fn prefix(number: &PhoneNumber) -> &str {
    let number = number.expose();
    &number[..number.len() - 4]
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn numbers_are_read_as_people_and_providers_write_them() {
        let read = |raw: &str, country: &str| parse(raw, country).map(String::from);
        assert_eq!(read("+49 151 234-56789", "").as_deref(), Some("+4915123456789"));
        assert_eq!(read("0151 23456789", "de").as_deref(), Some("+4915123456789"));
        assert_eq!(read("0151 23456789", ""), None);
        assert_eq!(read("0151 23456789", "XX"), None);
        assert_eq!(read("hello", "DE"), None);
        assert_eq!(from_provider("4915123456789").map(String::from).as_deref(), Some("+4915123456789"));
        assert_eq!(from_provider("+4915123456789").map(String::from).as_deref(), Some("+4915123456789"));
        assert_eq!(from_provider("004915123456789").map(String::from).as_deref(), Some("+4915123456789"));
        assert_eq!(from_provider("Twinlock"), None);
    }

    #[test]
    fn the_prefix_is_all_but_the_last_four_digits() {
        assert_eq!(prefix(&PhoneNumber::new("+4915123456789").expect("a number")), "+491512345");
    }
}
