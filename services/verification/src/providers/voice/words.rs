//! The words of a call, in the language of who is called: those that ship, or an administrator's own (FN-09, FN-10).

use super::flow::Slot;
use crate::providers::words::{own, understood};
use crate::settings::Known;
use catalogue::Catalogue;
use domain::Language;
use std::sync::LazyLock;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::new(&[
        ("en", include_str!("../../../texts/en/voice.ftl")),
        ("de", include_str!("../../../texts/de/voice.ftl")),
    ])
});

/// One slot, ready to be heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoken {
    Words(String),
    /// A recording of the administrators' own: where the provider finds it.
    Recording(String),
}

/// What a slot says in this call.
pub fn spoken(known: &Known, slot: Slot, language: &Language, application: &str) -> Spoken {
    let key = format!("voice-{}", slot.name());
    let own = own(&known.settings, &key, language, application).map(|own| understood(&own.text));
    if let Some(recording) = own.as_deref().filter(|own| is_recording(own)) {
        return Spoken::Recording(recording.trim().to_owned());
    }
    let own = own.filter(|own| CATALOGUE.check(&key, own).inspect_err(|error| refused(&key, error)).is_ok());
    // One digit after the other: nobody presses "ninety-nine".
    let fraud_code: Vec<String> = known.settings.voice.fraud_code.chars().map(String::from).collect();
    let variables = [
        ("company", known.settings.portal.company.as_str()),
        ("application", application),
        ("fraud_code", &fraud_code.join(" ")),
    ];
    let words = CATALOGUE.text_or(own.as_deref(), language, &key, &variables);
    Spoken::Words(words.expect("every slot has words: a test goes through them all"))
}

fn refused(key: &str, error: &catalogue::BadText) {
    tracing::warn!(key, error = %error, "a text of the settings cannot be spoken; the shipped one is");
}

/// A web address for providers that fetch it, a `sound:` of the PBX for Asterisk.
fn is_recording(text: &str) -> bool {
    let text = text.trim();
    let address = text.starts_with("https://") || text.starts_with("sound:");
    address && !text.chars().any(|sign| sign.is_whitespace() || sign.is_control())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn known(document: serde_json::Value) -> Known {
        let settings = serde_json::from_value(document).expect("valid settings");
        Known::of(settings, "https://mfa.example.com")
    }

    fn said(known: &Known, slot: Slot, language: &str, application: &str) -> String {
        match spoken(known, slot, &Language::new(language).expect("valid"), application) {
            Spoken::Words(words) => words,
            Spoken::Recording(recording) => format!("recording {recording}"),
        }
    }

    #[test]
    fn every_slot_has_words_in_every_language_and_fills_them_in() {
        // FN-10
        assert_eq!(CATALOGUE.gaps(), Vec::<String>::new());
        let known = known(serde_json::json!({ "portal": { "company": "Corp" }, "voice": { "fraud_code": "99" } }));
        for slot in Slot::ALL {
            for language in ["en", "de", "de-CH", "fr"] {
                let words = said(&known, slot, language, "VPN");
                assert!(words.len() > 10 && !words.contains(['{', '}', '$']), "{slot:?} {language}: {words}");
            }
        }
        assert_eq!(said(&known, Slot::FraudHint, "en", ""), "If this is not you, press 9 9.");
        assert!(said(&known, Slot::Greeting, "de", "VPN").contains("bei VPN an"));
    }

    #[test]
    fn words_of_ones_own_go_by_application_then_language_and_bad_ones_are_not_spoken() {
        // FN-09
        let text = |language: &str, application: Option<&str>, text: &str| {
            let mut entry = serde_json::json!({ "key": "voice-success", "language": language, "text": text });
            if let Some(application) = application {
                entry["application"] = application.into();
            }
            entry
        };
        let known = known(serde_json::json!({ "text": [
            text("en", None, "Thanks."),
            text("en", Some("VPN"), "Thanks for the VPN."),
            text("de", Some("VPN"), "https://media.example.com/danke.wav"),
            text("fr", None, "Merci { $seed }"),
            text("it", None, "https://media.example.com/a b.wav"),
            { "key": "voice-greeting", "language": "en", "text": "Is that you at <$application_name$>?" },
        ]}));
        let shipped = "Thank you. The sign-in is confirmed. Goodbye.";
        for (language, application, heard) in [
            ("en", "Mail", "Thanks."),
            ("en-GB", "Mail", "Thanks."),
            ("en", "VPN", "Thanks for the VPN."),
            ("de-CH", "VPN", "recording https://media.example.com/danke.wav"),
            ("fr", "VPN", shipped),
        ] {
            assert_eq!(said(&known, Slot::Success, language, application), heard, "{language} {application}");
        }
        assert_eq!(said(&known, Slot::Greeting, "en", "VPN"), "Is that you at VPN?", "FN-06");
        assert!(said(&known, Slot::Success, "it", "VPN").contains("a b.wav"), "words, not an address");
    }
}
