//! What a phone shows before it is unlocked: that somebody signs in, and nothing more (V-24). No button in it decides anything.

use crate::providers::Shared;
use crate::providers::words::{own, understood};
use crate::settings::Known;
use catalogue::Catalogue;
use domain::Language;
use proto::user_store::Prompt;
use serde_json::json;
use std::sync::LazyLock;

/// Longer words of an administrator's own are cut.
const WORDS_SIGNS_MAX: usize = 120;

static TEXTS: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::new(&[
        ("en", include_str!("../../../../texts/en/push.ftl")),
        ("de", include_str!("../../../../texts/de/push.ftl")),
    ])
});

/// Declarative Web Push: what a browser shows by itself, and the service worker reads in the others.
pub fn write(shared: &Shared, known: &Known, prompt: &Prompt) -> Vec<u8> {
    let language = Language::new(&prompt.language).unwrap_or_else(|_| known.settings.verification.language.clone());
    let words = |key| words(known, key, &language, &prompt.application);
    let left = prompt.expires_unix_ms - shared.clock.now_ms();
    json!({
        "web_push": 8030,
        "notification": {
            "title": words("push-title"),
            "body": words("push-body"),
            "lang": language.as_str(),
            "navigate": format!("{}/phone?prompt={}", known.portal_url, prompt.prompt_id),
        },
        // For the service worker: after this there is nothing to decide.
        "left_ms": left.max(0),
    })
    .to_string()
    .into_bytes()
}

fn words(known: &Known, key: &str, language: &Language, application: &str) -> String {
    let own = own(&known.settings, key, language, application).map(|own| understood(&own.text));
    let own = own.filter(|own| TEXTS.check(key, own).inspect_err(|error| refused(key, error)).is_ok());
    let said = TEXTS.text_or(own.as_deref(), language, key, &[]);
    said.unwrap_or_default().chars().take(WORDS_SIGNS_MAX).collect()
}

fn refused(key: &str, error: &catalogue::BadText) {
    tracing::warn!(key, error = %error, "a text of the settings cannot be shown; the shipped one is");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_ones_own_go_by_application_and_by_the_nearest_language() {
        // FN-09; V-24: none of them says what for
        let document = json!({ "text": [
            { "key": "push-title", "language": "de", "text": "Anmeldung bei uns" },
            { "key": "push-title", "language": "de", "application": "VPN", "text": "Ins Netz" },
            { "key": "push-title", "language": "en", "text": "Somebody at <$application_name$>" },
        ]});
        let known = Known::of(serde_json::from_value(document).expect("valid settings"), "https://mfa.example.com");
        let said = |tag: &str, application: &str| {
            words(&known, "push-title", &Language::new(tag).expect("valid"), application)
        };
        assert_eq!(said("de-CH", "Mail"), "Anmeldung bei uns");
        assert_eq!(said("de-CH", "VPN"), "Ins Netz");
        assert_eq!(said("en", "VPN"), "Sign-in request");
    }

    #[test]
    fn every_language_says_everything() {
        assert_eq!(TEXTS.gaps(), Vec::<String>::new());
    }
}
