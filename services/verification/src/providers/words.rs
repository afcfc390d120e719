//! An administrator's own words in the place of ours (FN-09): which of them speak here.

use domain::Language;
use domain::settings::{Settings, TextOverride};

/// The override for this place: the nearest language, and one for the application before one for all.
pub fn own<'s>(settings: &'s Settings, key: &str, language: &Language, application: &str) -> Option<&'s TextOverride> {
    let fits = |it: &&TextOverride| {
        it.key == key
            && (it.language == *language || it.language.as_str() == language.broad())
            && it.application.as_deref().is_none_or(|listed| listed == application)
    };
    let rank = |it: &&TextOverride| (it.application.is_some(), it.language == *language);
    settings.texts.iter().filter(fits).max_by_key(rank)
}

/// The places of Azure MFA Server's texts are understood (FN-06).
pub fn understood(text: &str) -> String {
    text.replace("<$otp$>", "{ $code }").replace("<$application_name$>", "{ $application }")
}
