//! Which PINs may be chosen (FV-20). Pure; that a PIN was used before is found by hash elsewhere.

use domain::Secret;
use domain::settings::Settings;

const LENGTH_MAX: usize = 10;

/// The rule a PIN breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinRule {
    /// Not digits alone, too few or too many of them.
    Length,
    /// One digit all along.
    Repeated,
    /// Up or down by one, like 1234 or 9876.
    Run,
    /// One pair all along, like 1212.
    Pairs,
    /// The end of a number the user is reached at.
    Phone,
    /// What is pressed to say "this was not me".
    FraudCode,
    /// One of the last ones.
    History,
}

impl PinRule {
    pub fn code(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Repeated => "repeated",
            Self::Run => "run",
            Self::Pairs => "pairs",
            Self::Phone => "phone",
            Self::FraudCode => "fraud_code",
            Self::History => "history",
        }
    }
}

/// The first rule this PIN breaks. `numbers` are the user's phones and extensions, written in any way.
pub fn broken(pin: &Secret, settings: &Settings, numbers: &[&str]) -> Option<PinRule> {
    let digits = pin.expose();
    let shortest = usize::try_from(settings.pin.length_min).unwrap_or(LENGTH_MAX).clamp(4, LENGTH_MAX);
    if !(shortest..=LENGTH_MAX).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Some(PinRule::Length);
    }
    // The code may be longer than the shortest PIN, and must not be a PIN then.
    if digits == settings.voice.fraud_code.as_bytes() {
        return Some(PinRule::FraudCode);
    }
    if digits.windows(2).all(|pair| pair[0] == pair[1]) {
        return Some(PinRule::Repeated);
    }
    let by = |step: u8| digits.windows(2).all(|pair| (pair[1] + 10 - pair[0]) % 10 == step);
    if by(1) || by(9) {
        return Some(PinRule::Run);
    }
    if digits.windows(3).all(|three| three[0] == three[2]) {
        return Some(PinRule::Pairs);
    }
    let ends = |number: &&&str| {
        let number: Vec<u8> = number.bytes().filter(u8::is_ascii_digit).collect();
        number.ends_with(digits)
    };
    numbers.iter().find(ends).map(|_| PinRule::Phone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn easy_pins_are_refused_with_the_rule_they_break() {
        // FV-20
        let mut settings = Settings::default();
        settings.voice.fraud_code = "0813".into();
        let numbers = ["+49 (30) 90-18.2047", "x5512", ""];
        for (pin, rule) in [
            ("", Some(PinRule::Length)),
            ("491", Some(PinRule::Length)),
            ("49183047261", Some(PinRule::Length)),
            ("49a1", Some(PinRule::Length)),
            ("٤٩١٧", Some(PinRule::Length)),
            ("7777", Some(PinRule::Repeated)),
            ("1234", Some(PinRule::Run)),
            ("7890123", Some(PinRule::Run)),
            ("9876", Some(PinRule::Run)),
            ("210987", Some(PinRule::Run)),
            ("1212", Some(PinRule::Pairs)),
            ("90909", Some(PinRule::Pairs)),
            ("2047", Some(PinRule::Phone)),
            ("182047", Some(PinRule::Phone)),
            ("5512", Some(PinRule::Phone)),
            ("0813", Some(PinRule::FraudCode)),
            ("4917", None),
            ("1235", None),
            ("1221", None),
            ("2048", None),
            ("4918304726", None),
        ] {
            assert_eq!(broken(&Secret::from(pin), &settings, &numbers), rule, "{pin}");
        }
        settings.pin.length_min = 6;
        assert_eq!(broken(&Secret::from("49172"), &settings, &[]), Some(PinRule::Length));
        assert_eq!(broken(&Secret::from("491726"), &settings, &[]), None);
    }
}
