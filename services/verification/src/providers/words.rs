//! An administrator's own words in the place of ours (FN-09): which of them speak here.

use domain::Language;
use domain::settings::{Settings, TextOverride};

/// The override for this place: one for the application before one for all, and of those the nearest language.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_text_of_the_settings_speaks() {
        // FN-09
        let language = |tag: &str| Language::new(tag).expect("valid");
        let mut settings = Settings::default();
        let mut put = |tag: &str, application: Option<&str>, text: &str| {
            settings.texts.push(TextOverride {
                key: "sms-code".into(),
                language: language(tag),
                application: application.map(str::to_owned),
                text: text.into(),
            });
        };
        put("de", None, "all");
        put("de-CH", None, "swiss");
        put("de", Some("VPN"), "vpn");
        let said = |key: &str, tag: &str, application: &str| {
            own(&settings, key, &language(tag), application).map(|found| found.text.clone())
        };
        assert_eq!(said("sms-code", "de", "Mail").as_deref(), Some("all"));
        assert_eq!(said("sms-code", "de-CH", "Mail").as_deref(), Some("swiss"));
        assert_eq!(said("sms-code", "de-CH", "VPN").as_deref(), Some("vpn"));
        assert_eq!([said("sms-code", "en", "VPN"), said("sms-reply", "de", "VPN")], [None, None]);
    }
}
