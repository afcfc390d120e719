//! What text messages say, by language, with an administrator's own words in the place of ours (FN-09).

use super::gsm::{self, Alphabet};
use crate::providers::words::{own, understood};
use catalogue::{BadText, Catalogue, Variables};
use domain::Language;
use domain::settings::Settings;
use std::sync::LazyLock;

static TEXTS: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::new(&[
        ("en", include_str!("../../../texts/en/sms.ftl")),
        ("de", include_str!("../../../texts/de/sms.ftl")),
    ])
});

/// Which text it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A code that is typed where the person signs in.
    Code,
    /// ... followed by the PIN.
    CodeAndPin,
    /// A code that is sent back.
    Reply,
    /// ... followed by the PIN.
    ReplyAndPin,
    /// A code that proves a number.
    Proof,
}

impl Kind {
    pub fn key(self) -> &'static str {
        match self {
            Self::Code => "sms-code",
            Self::CodeAndPin => "sms-code-pin",
            Self::Reply => "sms-reply",
            Self::ReplyAndPin => "sms-reply-pin",
            Self::Proof => "sms-proof",
        }
    }
}

/// What a text is about.
pub struct About<'a> {
    pub code: &'a str,
    pub application: &'a str,
    pub company: &'a str,
    /// The host on which the code is typed into a page, so that phones fill it in; empty = it is typed elsewhere.
    pub fill_in_host: &'a str,
}

/// A text with a code, in the words of the settings or ours.
pub fn code(kind: Kind, language: &Language, about: &About<'_>, settings: &Settings) -> String {
    let own = own(settings, kind.key(), language, about.application);
    spoken(kind, language, about, own.map(|own| own.text.as_str()))
}

/// A code that is typed, with a text of one's own or ours.
pub fn sms_code(language: &Language, code: &str, application: &str, portal_host: &str, own: Option<&str>) -> String {
    let about = About { code, application, company: application, fill_in_host: portal_host };
    spoken(Kind::Code, language, &about, own)
}

pub fn trial(language: &Language, company: &str) -> String {
    TEXTS.text(language, "sms-trial", &[("company", company)]).expect("it ships")
}

/// May this text take the place of the shipped one? One that does not say the code is refused (FN-09).
pub fn check_text(key: &str, text: &str) -> Result<(), BadText> {
    let text = understood(text);
    TEXTS.check(key, &text)?;
    const PROBE: &str = "90417263";
    let probe: Vec<(&str, &str)> = ["code", "application", "company", "host"].map(|name| (name, PROBE)).to_vec();
    let silent: Vec<(&str, &str)> =
        probe.iter().map(|&(name, _)| (name, if name == "code" { PROBE } else { "" })).collect();
    let ships = TEXTS.text(&Language::english(), key, &silent).is_some_and(|shipped| shipped.contains(PROBE));
    let says = TEXTS.text_or(Some(&text), &Language::english(), key, &silent).is_some_and(|own| own.contains(PROBE));
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

fn spoken(kind: Kind, language: &Language, about: &About<'_>, own: Option<&str>) -> String {
    let variables: &Variables<'_> =
        &[("code", about.code), ("application", about.application), ("company", about.company)];
    let own = own.filter(|text| match check_text(kind.key(), text) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(key = kind.key(), error = %error, "a text of the settings cannot be used; the shipped one is");
            false
        }
    });
    let own = own.map(understood);
    let mut text = TEXTS.text_or(own.as_deref(), language, kind.key(), variables).expect("it ships");
    if !about.fill_in_host.is_empty() {
        let line = TEXTS.text(language, "sms-fill-in", &[("host", about.fill_in_host), ("code", about.code)]);
        text.push('\n');
        text.push_str(&line.expect("it ships"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::settings::TextOverride;

    fn language(tag: &str) -> Language {
        Language::new(tag).expect("valid")
    }

    #[test]
    fn every_language_says_everything() {
        // FN-09
        assert_eq!(TEXTS.gaps(), Vec::<String>::new());
        for kind in [Kind::Code, Kind::CodeAndPin, Kind::Reply, Kind::ReplyAndPin, Kind::Proof] {
            for tag in ["en", "de"] {
                let about = About { code: "123456", application: "VPN", company: "Example", fill_in_host: "" };
                let text = code(kind, &language(tag), &about, &Settings::default());
                assert!(text.contains("123456"), "{tag} {kind:?}: {text}");
                assert_eq!(length_warning(&text), None, "{tag} {kind:?}: {text}");
            }
        }
    }

    #[test]
    fn the_line_that_phones_fill_in_stands_last_and_only_where_it_is_wanted() {
        // experience 12
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
    fn the_nearest_text_of_the_settings_speaks() {
        let mut settings = Settings::default();
        let mut put = |tag: &str, application: Option<&str>, text: &str| {
            settings.texts.push(TextOverride {
                key: "sms-code".into(),
                language: language(tag),
                application: application.map(str::to_owned),
                text: text.into(),
            });
        };
        put("de", None, "all {$code}");
        put("de-CH", None, "swiss {$code}");
        put("de", Some("VPN"), "vpn {$code}");
        let said = |tag: &str, application: &str| {
            let about = About { code: "1", application, company: "", fill_in_host: "" };
            code(Kind::Code, &language(tag), &about, &settings)
        };
        assert_eq!(said("de", "Mail"), "all 1");
        assert_eq!(said("de-CH", "Mail"), "swiss 1");
        assert_eq!(said("de-CH", "VPN"), "vpn 1");
        assert!(said("en", "VPN").starts_with("1 is your code"));
    }

    #[test]
    fn an_administrator_hears_what_a_long_text_costs() {
        assert_eq!(length_warning(&"a".repeat(160)), None);
        assert!(length_warning(&"a".repeat(161)).is_some_and(|warning| warning.contains("so 2 are sent")));
        assert!(length_warning(&"я".repeat(71)).is_some_and(|warning| warning.starts_with("has 71 signs, one of")));
    }
}
