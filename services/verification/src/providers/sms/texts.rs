//! What text messages say, by language, with an administrator's own words in the place of ours (FN-09).

use super::gsm::{self, Alphabet};
use crate::providers::words::understood;
use catalogue::{BadText, Catalogue, Variables};
use domain::Language;
use std::sync::LazyLock;

static TEXTS: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::new(&[
        ("en", include_str!("../../../texts/en/sms.ftl")),
        ("de", include_str!("../../../texts/de/sms.ftl")),
    ])
});

/// A code that is typed where the person signs in. `host`: where it is typed into a page of this host, phones fill it in; empty =
/// it is typed elsewhere. `own`: an administrator's text in the place of ours.
pub fn sms_code(language: &Language, code: &str, application: &str, host: &str, own: Option<&str>) -> String {
    filled_in(spoken("sms-code", language, code, application, own), language, code, host)
}

/// The same, followed by the PIN in one field (FV-03).
pub fn sms_code_pin(language: &Language, code: &str, application: &str, host: &str, own: Option<&str>) -> String {
    filled_in(spoken("sms-code-pin", language, code, application, own), language, code, host)
}

/// A code that is sent back (FV-04), with the PIN after it or without.
pub fn sms_reply(language: &Language, code: &str, application: &str, pin: bool, own: Option<&str>) -> String {
    spoken(if pin { "sms-reply-pin" } else { "sms-reply" }, language, code, application, own)
}

/// A code that proves a number.
pub fn sms_proof(language: &Language, code: &str, company: &str, own: Option<&str>) -> String {
    spoken("sms-proof", language, code, company, own)
}

pub fn trial(language: &Language, company: &str) -> String {
    TEXTS.text(language, "sms-trial", &[("company", company)]).expect("it ships")
}

/// May this text take the place of the shipped one? One that does not say the code is refused (FN-09).
pub fn check_text(key: &str, text: &str) -> Result<(), BadText> {
    let text = understood(text);
    TEXTS.check(key, &text)?;
    // Digits that no text has of itself. The code alone is probed: another variable's value must not stand in for it.
    const PROBE: &str = "90417263";
    let probe: &Variables<'_> = &[("code", PROBE), ("application", ""), ("company", ""), ("host", "")];
    let english = Language::english();
    let ships = TEXTS.text(&english, key, probe).is_some_and(|shipped| shipped.contains(PROBE));
    let says = TEXTS.text_or(Some(&text), &english, key, probe).is_some_and(|own| own.contains(PROBE));
    if ships && !says {
        return Err(BadText::Syntax { error: "it does not say { $code }".into() });
    }
    Ok(())
}

/// What an administrator is told about a text that is good but costs more: `None` where it is one message.
pub fn length_warning(text: &str) -> Option<String> {
    let length = gsm::length(text);
    let (unit, room) = match length.alphabet {
        Alphabet::Gsm7 => ("signs of the GSM alphabet", 160),
        Alphabet::Ucs2 => ("signs, one of them outside of the GSM alphabet", 70),
    };
    (length.units > room).then(|| {
        format!("has {} {unit}; {room} fit into one message, so {} are sent and charged", length.units, length.parts)
    })
}

/// In an administrator's words or ours. Whatever they are, they say the code.
fn spoken(key: &str, language: &Language, code: &str, of: &str, own: Option<&str>) -> String {
    let variables: &Variables<'_> = &[("code", code), ("application", of), ("company", of)];
    let own = own.filter(|text| match check_text(key, text) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(key, error = %error, "a text of the settings cannot be used; the shipped one is");
            false
        }
    });
    let own = own.map(understood);
    let said = TEXTS.text_or(own.as_deref(), language, key, variables).filter(|text| text.contains(code));
    said.or_else(|| TEXTS.text(language, key, variables)).expect("it ships")
}

fn filled_in(mut text: String, language: &Language, code: &str, host: &str) -> String {
    if !host.is_empty() {
        let line = TEXTS.text(language, "sms-fill-in", &[("host", host), ("code", code)]);
        text.push('\n');
        text.push_str(&line.expect("it ships"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(tag: &str) -> Language {
        Language::new(tag).expect("valid")
    }

    #[test]
    fn every_language_says_everything_in_one_message() {
        // FN-09
        assert_eq!(TEXTS.gaps(), Vec::<String>::new());
        for tag in ["en", "de"] {
            let language = language(tag);
            for text in [
                sms_code(&language, "123456", "VPN", "mfa.example.com", None),
                sms_code_pin(&language, "123456", "VPN", "", None),
                sms_reply(&language, "123456", "VPN", false, None),
                sms_reply(&language, "123456", "VPN", true, None),
                sms_proof(&language, "123456", "Example", None),
            ] {
                assert!(text.contains("123456"), "{tag}: {text}");
                assert_eq!(length_warning(&text), None, "{tag}: {text}");
            }
        }
    }

    #[test]
    fn the_line_that_phones_fill_in_stands_last_and_only_where_it_is_wanted() {
        let text = sms_code(&language("de-CH"), "123456", "VPN", "mfa.example.com", None);
        assert!(text.ends_with("\n@mfa.example.com #123456") && text.starts_with("123456 ist"), "{text}");
        assert!(!sms_code(&language("de"), "123456", "VPN", "", None).contains('@'));
    }

    #[test]
    fn a_text_of_ones_own_without_the_code_is_refused_and_the_shipped_one_sent() {
        // FN-09
        assert_eq!(check_text("sms-code", "Use { $code } at { $application }"), Ok(()));
        assert_eq!(check_text("sms-code", "Use <$otp$> at <$application_name$>"), Ok(()));
        assert_eq!(check_text("sms-trial", "Hello from { $company }"), Ok(()));
        for bad in ["Hello", "Hello { $application }", "{ $code", "{ $password } { $code }"] {
            assert!(check_text("sms-code", bad).is_err(), "{bad}");
        }
        // Saying it in one case of two is not saying it.
        let sometimes = "{ $application ->\n    [x] { $code }\n   *[other] hello\n}";
        assert!(check_text("sms-code", sometimes).is_err());
        assert_eq!(sms_code(&language("en"), "1", "VPN", "", Some("Hi <$otp$>")), "Hi 1");
        assert!(sms_code(&language("en"), "1", "VPN", "", Some("Hi")).starts_with("1 is your code for VPN"));
    }

    #[test]
    fn an_administrator_hears_what_a_long_text_costs() {
        assert_eq!(length_warning(&"a".repeat(160)), None);
        assert!(length_warning(&"a".repeat(161)).is_some_and(|warning| warning.contains("so 2 are sent")));
        assert!(length_warning(&"я".repeat(71)).is_some_and(|warning| warning.starts_with("has 71 signs, one of")));
    }
}
