//! What the phone's pages say.

use catalogue::Catalogue;
use domain::Language;
use std::sync::LazyLock;

static TEXTS: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::new(&[
        ("en", include_str!("../../texts/en/phone.ftl")),
        ("de", include_str!("../../texts/de/phone.ftl")),
    ])
});

/// One language of them.
pub(super) struct Words(Language);

impl Words {
    pub fn of(language: &str) -> Self {
        Self(Language::new(language).unwrap_or_else(|_| Language::english()))
    }

    pub fn language(&self) -> &str {
        self.0.as_str()
    }

    /// Keys stand in templates: one that is missing is found by the first test of its page.
    pub fn say(&self, key: &str) -> String {
        TEXTS.text(&self.0, key, &[]).unwrap_or_else(|| panic!("no text is called {key}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_says_everything() {
        assert_eq!(TEXTS.gaps(), Vec::<String>::new());
    }
}
