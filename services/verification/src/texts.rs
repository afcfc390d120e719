//! What a login says to people outside the client: the text message with its code.

use catalogue::Catalogue;
use domain::Language;
use std::sync::LazyLock;

static LOGIN: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::new(&[("en", include_str!("../texts/en/login.ftl")), ("de", include_str!("../texts/de/login.ftl"))])
});

/// The text of a code by text message. `own`: an administrator's text in the place of ours; without the code in it, ours is sent
/// (FN-09). The last line lets phones fill the code in (experience 12).
pub fn sms_code(language: &Language, code: &str, application: &str, portal_host: &str, own: Option<&str>) -> String {
    let said = with_code("sms-code", language, code, application, own);
    if portal_host.is_empty() { said } else { format!("{said}\n\n@{portal_host} #{code}") }
}

/// The question of a text message that is answered (FV-04).
pub fn sms_reply(language: &Language, code: &str, application: &str, pin: bool, own: Option<&str>) -> String {
    with_code(if pin { "sms-reply-pin" } else { "sms-reply" }, language, code, application, own)
}

/// In an administrator's words or ours; what does not say the code is not sent (FN-09).
fn with_code(key: &str, language: &Language, code: &str, application: &str, own: Option<&str>) -> String {
    let variables = [("code", code), ("application", application)];
    LOGIN
        .text_or(own, language, key, &variables)
        .filter(|text| text.contains(code))
        .or_else(|| LOGIN.text(language, key, &variables))
        .expect("the catalogue has the key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_code_and_application_in_the_persons_language() {
        // FN-09, experience 12
        let german = Language::new("de-AT").expect("valid");
        let english = Language::english();
        assert!(LOGIN.gaps().is_empty(), "{:?}", LOGIN.gaps());
        for language in [&german, &english] {
            let text = sms_code(language, "012345", "VPN", "mfa.example.com", None);
            assert!(text.contains("VPN") && text.ends_with("\n\n@mfa.example.com #012345"), "{text}");
        }
        assert!(sms_code(&german, "012345", "VPN", "", None).contains("Ihr Code"));
        assert_eq!(sms_code(&english, "012345", "VPN", "", Some("Use { $code }")), "Use 012345");
        let without = sms_code(&english, "012345", "VPN", "", Some("Use your code"));
        assert!(without.contains("012345"), "a text without the code is not sent: {without}");
    }
}
