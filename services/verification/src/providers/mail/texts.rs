//! What mails say, by kind and language: subject, text, and the same text as HTML (FN-03, FN-05, FN-06).
//!
//! Values are escaped where they become HTML; nothing of them becomes markup.

use crate::providers::words;
use catalogue::{BadText, Catalogue, Variables};
use domain::Language;
use domain::settings::Settings;
use std::sync::LazyLock;

static TEXTS: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::new(&[
        ("en", include_str!("../../../texts/en/mail.ftl")),
        ("de", include_str!("../../../texts/de/mail.ftl")),
    ])
});

/// A text that uses them all, to measure others by.
static ANY: LazyLock<Catalogue> = LazyLock::new(|| {
    let all: Vec<String> = VARIABLES.iter().map(|name| format!("{{ ${name} }}")).collect();
    Catalogue::new(&[("en", &format!("any = {}\n", all.join(" ")))])
});

/// Every variable a mail may use (FN-06). One that is not given is empty.
const VARIABLES: [&str; 19] = [
    "first_name",
    "last_name",
    "username",
    "company",
    "application",
    "method",
    "phone",
    "phone_masked",
    "backup_phone_masked",
    "portal_url",
    "link",
    "link_expires",
    "initial_pin",
    "time",
    "place",
    "admin",
    "reason",
    "until",
    "detail",
];
/// A value is a name, an address, a sentence.
const VALUE_CHARS_MAX: usize = 2000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// Whom a mail speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    User,
    Administrators,
}

/// `None`: there is no such kind.
pub fn render(
    kind: &str,
    audience: Audience,
    language: &Language,
    values: &Variables<'_>,
    settings: &Settings,
) -> Option<Rendered> {
    let stem = stem(kind, audience);
    let clean: Vec<(&str, String)> = VARIABLES
        .iter()
        .map(|name| {
            let value = values.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value);
            (*name, value.chars().filter(|sign| *sign == '\n' || !sign.is_control()).take(VALUE_CHARS_MAX).collect())
        })
        .collect();
    let variables: Vec<(&str, &str)> = clean.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let application = values.iter().find(|(name, _)| *name == "application").map_or("", |(_, value)| value);
    let part = |part: &str| {
        let key = format!("{stem}-{part}");
        let own = own(settings, &key, language, application);
        TEXTS.text_or(own.as_deref(), language, &key, &variables)
    };
    let subject = part("subject")?.replace('\n', " ");
    let text = part("text")?;
    let html = html(&text, language);
    Some(Rendered { subject, text, html })
}

/// The first part of a kind's keys. What a user and the administrators are told of in different words has two texts.
fn stem(kind: &str, audience: Audience) -> String {
    let stem = format!("mail-{}", kind.replace('_', "-"));
    let theirs = format!("{stem}-admins");
    let has = |stem: &str| TEXTS.text(&Language::english(), &format!("{stem}-subject"), &[]).is_some();
    if audience == Audience::Administrators && has(&theirs) { theirs } else { stem }
}

/// An administrator's text, if it can be used.
fn own(settings: &Settings, key: &str, language: &Language, application: &str) -> Option<String> {
    let found = words::own(settings, key, language, application)?;
    match check_text(key, &found.text) {
        Ok(()) => Some(words::understood(&found.text)),
        Err(error) => {
            tracing::warn!(key, error = %error, "a text of the settings cannot be used; the shipped one is");
            None
        }
    }
}

/// May this text take the place of the shipped one? Every variable of mails may be used, whatever ours uses.
pub fn check_text(key: &str, text: &str) -> Result<(), BadText> {
    if TEXTS.text(&Language::english(), key, &[]).is_none() {
        return Err(BadText::UnknownKey { key: key.to_owned() });
    }
    ANY.check("any", &words::understood(text))
}

/// Paragraphs, line ends and links; everything else is text.
fn html(text: &str, language: &Language) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"{language}\"><head><meta charset=\"utf-8\"></head><body style=\"font-family:sans-serif\">"
    );
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        html.push_str("<p>");
        for (place, line) in paragraph.trim().lines().enumerate() {
            if place > 0 {
                html.push_str("<br>");
            }
            for (place, word) in line.split(' ').enumerate() {
                if place > 0 {
                    html.push(' ');
                }
                push_word(word, &mut html);
            }
        }
        html.push_str("</p>");
    }
    html.push_str("</body></html>");
    html
}

fn push_word(word: &str, html: &mut String) {
    let escaped = escape(word);
    if word.starts_with("https://") {
        html.push_str(&format!("<a href=\"{escaped}\">{escaped}</a>"));
    } else {
        html.push_str(&escaped);
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            sign => escaped.push(sign),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::settings::TextOverride;

    /// FN-05, and the trial of an administrator.
    const KINDS: &[&str] = &[
        "welcome_call",
        "welcome_call_pin",
        "welcome_sms",
        "welcome_sms_pin",
        "welcome_push",
        "welcome_push_pin",
        "welcome_code",
        "welcome_code_pin",
        "welcome_enrol",
        "welcome_enrol_pin",
        "updated",
        "invitation",
        "initial_pin",
        "pin_reset",
        "method_added",
        "method_removed",
        "phone_changed",
        "bypass_issued",
        "blocked",
        "unblocked",
        "locked",
        "recovery_low",
        "password_known",
        "sync_approval",
        "sync_failed",
        "sync_phone_back",
        "sync_enabled_again",
        "sync_name_doubled",
        "fraud",
        "fail_open",
        "test",
    ];

    fn language(tag: &str) -> Language {
        Language::new(tag).expect("valid")
    }

    #[test]
    fn every_kind_of_mail_is_there_in_every_language_and_without_a_hole() {
        // FN-05
        assert_eq!(TEXTS.gaps(), Vec::<String>::new());
        let values: Vec<(&str, &str)> = VARIABLES.iter().map(|name| (*name, "VALUE")).collect();
        for kind in KINDS {
            for (tag, audience) in [
                ("en", Audience::User),
                ("de", Audience::User),
                ("en", Audience::Administrators),
                ("de", Audience::Administrators),
            ] {
                let mail = render(kind, audience, &language(tag), &values, &Settings::default());
                let mail = mail.unwrap_or_else(|| panic!("{tag} {kind} is missing"));
                assert!(!mail.subject.is_empty() && !mail.subject.contains('\n'), "{tag} {kind}");
                assert!(mail.text.len() > 20 && !mail.text.contains("{ $"), "{tag} {kind}: {}", mail.text);
            }
        }
        assert_eq!(render("nothing", Audience::User, &language("en"), &[], &Settings::default()), None);
    }

    #[test]
    fn values_are_text_in_html_whatever_they_hold() {
        // V-85
        let values =
            [("username", "<script>alert(1)</script>"), ("link", "https://x/?a=1&b=\"><b>"), ("company", "A & B")];
        let mail =
            render("invitation", Audience::User, &language("en"), &values, &Settings::default()).expect("a kind");
        assert!(!mail.html.contains("<script") && !mail.html.contains("<b>"), "{}", mail.html);
        assert!(mail.html.contains("<a href=\"https://x/?a=1&amp;b=&quot;&gt;&lt;b&gt;\">"), "{}", mail.html);
        assert!(mail.text.contains("https://x/?a=1&b=\"><b>"));
        let split =
            render("invitation", Audience::User, &language("en"), &[("company", "A\r\nBcc: x")], &Settings::default());
        assert!(!split.expect("a kind").subject.contains('\n'));
    }

    #[test]
    fn an_administrators_words_take_the_place_of_ours_if_they_can_be_used() {
        // FN-03, FN-06
        let mut settings = Settings::default();
        settings.texts.push(TextOverride {
            key: "mail-blocked-text".into(),
            language: language("en"),
            application: None,
            text: "Dear { $first_name }, ask { $admin } of <$application_name$>".into(),
        });
        let said = |settings: &Settings| {
            let values = [("first_name", "Ann"), ("admin", "Ben"), ("application", "VPN")];
            render("blocked", Audience::User, &language("en"), &values, settings).expect("a kind").text
        };
        assert_eq!(said(&settings), "Dear Ann, ask Ben of VPN");
        settings.texts[0].text = "{ $password }".into();
        assert_eq!(said(&settings), said(&Settings::default()));
        assert!(check_text("mail-blocked-text", "{ $admin } { $password }").is_err());
        assert!(check_text("mail-blocked-text", "{ $admin }").is_ok());
        assert!(check_text("mail-nothing-text", "x").is_err());
    }
}
