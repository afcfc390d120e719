//! What a phone shows before it is unlocked: that somebody signs in, and nothing more (V-24). No button in it decides anything.

use crate::providers::Shared;
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
    let words = |key: &str| {
        let own = known.settings.texts.iter().find(|text| {
            text.key == key
                && text.language == language
                && text.application.as_ref().is_none_or(|it| *it == prompt.client)
        });
        let said = TEXTS.text_or(own.map(|own| own.text.as_str()), &language, key, &[]);
        said.unwrap_or_default().chars().take(WORDS_SIGNS_MAX).collect::<String>()
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_says_everything() {
        assert_eq!(TEXTS.gaps(), Vec::<String>::new());
    }
}
