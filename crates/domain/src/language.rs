//! The language somebody is spoken to in.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A language tag (BCP 47): two or three letters, perhaps a region. `en`, `de`, `de-CH`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Language(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}; a language is written en, de or de-CH")]
pub struct BadLanguage {
    pub found: String,
}

impl Language {
    pub fn new(text: &str) -> Result<Self, BadLanguage> {
        let bad = || BadLanguage { found: text.to_owned() };
        let text = text.replace('_', "-");
        let (language, region) = text.split_once('-').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
        let letters = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
            lengths.contains(&part.len()) && part.bytes().all(|sign| sign.is_ascii_alphabetic())
        };
        match region {
            _ if !letters(language, 2..=3) => Err(bad()),
            None => Ok(Self(language.to_ascii_lowercase())),
            Some(region) if letters(region, 2..=2) => {
                Ok(Self(format!("{}-{}", language.to_ascii_lowercase(), region.to_ascii_uppercase())))
            }
            Some(_) => Err(bad()),
        }
    }

    pub fn english() -> Self {
        Self("en".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without the region: where `de-CH` is not spoken, `de` is.
    pub fn broad(&self) -> &str {
        self.0.split('-').next().unwrap_or(&self.0)
    }
}

impl TryFrom<String> for Language {
    type Error = BadLanguage;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.0
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_language_perhaps_with_a_region() {
        for (typed, tag) in [
            ("en", Some("en")),
            ("DE-ch", Some("de-CH")),
            ("de_AT", Some("de-AT")),
            ("", None),
            ("english", None),
            ("de-", None),
            ("de-Latn-CH", None),
            ("../x", None),
        ] {
            assert_eq!(Language::new(typed).ok().as_ref().map(Language::as_str), tag, "{typed}");
        }
        assert_eq!(Language::new("de-CH").expect("valid").broad(), "de");
    }
}
