//! The words of a challenge, in the person's language: what is asked, and what came of the answer before (FR-13, FR-18, R-40).
//!
//! Texts ship in `texts/<language>/challenge.ftl`; an administrator's own go before them (FN-09).

use crate::verify::Ask;
use catalogue::{Catalogue, Variables};
use domain::settings::TextOverride;
use domain::{Language, Method, Reason};
use proto::verification::AskKind;
use radius_wire::Prompt;
use std::sync::LazyLock;

/// Every text of a challenge begins so.
const KEYS: &str = "challenge-";
/// Devices show little, and a packet holds 4096 octets in all.
const OCTETS_MAX: usize = 1_500;

static SHIPPED: LazyLock<Catalogue> = LazyLock::new(|| {
    Catalogue::new(&[
        ("en", include_str!("../texts/en/challenge.ftl")),
        ("de", include_str!("../texts/de/challenge.ftl")),
    ])
});

/// The administrator's own texts, as far as they are spoken here.
pub(crate) fn own_texts(all: Vec<TextOverride>) -> Vec<TextOverride> {
    all.into_iter().filter(|text| text.key.starts_with(KEYS)).collect()
}

/// Whether a device that shows a line and takes one can ask this at all.
pub(crate) fn can_be_shown(kind: AskKind) -> bool {
    match kind {
        AskKind::Code
        | AskKind::CodeAndPin
        | AskKind::NewPin
        | AskKind::NewPinAgain
        | AskKind::Choice
        | AskKind::Approval => true,
        AskKind::Passkey | AskKind::Questions | AskKind::Unspecified => false,
    }
}

/// A PIN stays; a one-time code is worth nothing to who looks over a shoulder, and is easier to type when seen.
pub(crate) fn prompt(kind: AskKind) -> Prompt {
    match kind {
        AskKind::CodeAndPin | AskKind::NewPin | AskKind::NewPinAgain => Prompt::NoEcho,
        _ => Prompt::Echo,
    }
}

/// For the log of a round.
pub(crate) fn asked(kind: AskKind) -> Reason {
    match kind {
        AskKind::Choice => Reason::ChoiceAsked,
        AskKind::NewPin | AskKind::NewPinAgain => Reason::NewPinAsked,
        AskKind::Approval => Reason::ApprovalAsked,
        _ => Reason::CodeAsked,
    }
}

/// What the device shows.
pub(crate) fn text(ask: &Ask, application: &str, own: &[TextOverride]) -> String {
    let speaker = Speaker { language: &ask.language, application, own };
    let mut text = match ask.previous.map(|reason| before(ask, reason)) {
        None => question(ask, &speaker),
        // Says already what to do next.
        Some("challenge-after-reused-code") if ask.kind == AskKind::Code => {
            speaker.say("challenge-after-reused-code", &[])
        }
        Some(key) => format!("{} {}", speaker.say(key, &[]), question(ask, &speaker)),
    };
    text.truncate(text.floor_char_boundary(OCTETS_MAX));
    text
}

fn question(ask: &Ask, speaker: &Speaker<'_>) -> String {
    let destination = ask.destination.as_str();
    let (key, variables): (&str, &Variables<'_>) = match (ask.kind, ask.method) {
        (AskKind::CodeAndPin, Some(Method::Sms)) if !destination.is_empty() => {
            ("challenge-code-and-pin-sms", &[("destination", destination)])
        }
        (AskKind::CodeAndPin, _) => ("challenge-code-and-pin", &[]),
        (AskKind::NewPin, _) => ("challenge-new-pin", &[]),
        (AskKind::NewPinAgain, _) => ("challenge-new-pin-again", &[]),
        (AskKind::Choice, _) => return choice(ask, speaker),
        (AskKind::Approval, _) if !ask.number.is_empty() => ("challenge-approval-number", &[("number", &ask.number)]),
        (AskKind::Approval, Some(Method::Call)) if !destination.is_empty() => {
            ("challenge-approval-call", &[("destination", destination)])
        }
        (AskKind::Approval, Some(Method::SmsReply)) if !destination.is_empty() => {
            ("challenge-approval-sms-reply", &[("destination", destination)])
        }
        (AskKind::Approval, _) => ("challenge-approval", &[]),
        (_, Some(Method::Sms)) if !destination.is_empty() => ("challenge-code-sms", &[("destination", destination)]),
        (_, Some(Method::Recovery)) => ("challenge-code-recovery", &[]),
        _ => ("challenge-code", &[]),
    };
    speaker.say(key, variables)
}

/// A numbered list; the number is the answer.
fn choice(ask: &Ask, speaker: &Speaker<'_>) -> String {
    let mut text = speaker.say("challenge-choice", &[]);
    for (place, method) in ask.choices.iter().enumerate() {
        let key = match method {
            Method::Push => "challenge-choice-push",
            Method::Call => "challenge-choice-call",
            Method::Sms => "challenge-choice-sms",
            Method::SmsReply => "challenge-choice-sms-reply",
            Method::Recovery => "challenge-choice-recovery",
            Method::Code | Method::Passkey | Method::Questions => "challenge-choice-code",
        };
        text.push_str(&format!("\n{}. {}", place + 1, speaker.say(key, &[])));
    }
    text
}

/// The key of what came of the answer before.
fn before(ask: &Ask, reason: Reason) -> &'static str {
    match (ask.kind, reason) {
        (AskKind::NewPin | AskKind::NewPinAgain, _) => "challenge-after-new-pin",
        (_, Reason::WrongCode) if ask.kind == AskKind::Choice => "challenge-after-choice",
        (_, Reason::WrongCode) => "challenge-after-wrong-code",
        (_, Reason::ReusedCode) => "challenge-after-reused-code",
        (_, Reason::WrongPin) => "challenge-after-wrong-pin",
        (_, Reason::NoAnswer | Reason::NoKeysPressed | Reason::HungUp) => "challenge-after-no-answer",
        (_, Reason::Busy | Reason::Voicemail | Reason::Unreachable) => "challenge-after-no-contact",
        (_, Reason::ProviderError) => "challenge-after-provider-error",
        _ => "challenge-after-other",
    }
}

struct Speaker<'a> {
    language: &'a Language,
    application: &'a str,
    own: &'a [TextOverride],
}

impl Speaker<'_> {
    /// A key that is missing is a fault of the build, found by the test below: the key itself is shown then.
    fn say(&self, key: &str, variables: &Variables<'_>) -> String {
        SHIPPED.text_or(self.own(key), self.language, key, variables).unwrap_or_else(|| key.to_owned())
    }

    /// The nearest of the administrator's own: for this application before for all, in this language before in its broader form.
    fn own(&self, key: &str) -> Option<&str> {
        let fits = |text: &&TextOverride| {
            let language = text.language == *self.language || text.language.as_str() == self.language.broad();
            let application = text.application.as_deref().is_none_or(|application| application == self.application);
            text.key == key && language && application
        };
        let nearness = |text: &&TextOverride| (text.application.is_some(), text.language == *self.language);
        self.own.iter().filter(fits).max_by_key(nearness).map(|text| text.text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn ask(kind: AskKind, method: Option<Method>) -> Ask {
        Ask {
            method,
            kind,
            step: 1,
            expires_unix_ms: 0,
            user: Uuid::nil(),
            previous: None,
            number: String::new(),
            choices: Vec::new(),
            destination: String::new(),
            language: Language::english(),
        }
    }

    fn english(ask: &Ask) -> String {
        text(ask, "VPN", &[])
    }

    #[test]
    fn every_text_ships_in_every_language() {
        assert_eq!(SHIPPED.gaps(), Vec::<String>::new());
    }

    #[test]
    fn a_round_is_logged_as_what_it_waits_for() {
        for (kind, reason) in [
            (AskKind::Code, "code_asked"),
            (AskKind::CodeAndPin, "code_asked"),
            (AskKind::Choice, "choice_asked"),
            (AskKind::NewPin, "new_pin_asked"),
            (AskKind::NewPinAgain, "new_pin_asked"),
            (AskKind::Approval, "approval_asked"),
        ] {
            assert_eq!(asked(kind).code(), reason, "{kind:?}");
        }
    }

    #[test]
    fn every_kind_of_question_has_its_words_and_its_echo() {
        // FR-13, FV-03, R-40, R-47, V-22
        let to = |ask: Ask| Ask { destination: "…17".into(), ..ask };
        let choices = vec![Method::Push, Method::Sms, Method::Code];
        for (ask, shown, echo) in [
            (ask(AskKind::Code, Some(Method::Code)), "Enter your code", Prompt::Echo),
            (to(ask(AskKind::Code, Some(Method::Sms))), "Enter the code sent to …17", Prompt::Echo),
            (ask(AskKind::Code, Some(Method::Sms)), "Enter your code", Prompt::Echo),
            (ask(AskKind::Code, Some(Method::Recovery)), "Enter one of your recovery codes", Prompt::Echo),
            (
                ask(AskKind::CodeAndPin, Some(Method::Code)),
                "Enter your code and directly behind it your PIN",
                Prompt::NoEcho,
            ),
            (
                to(ask(AskKind::CodeAndPin, Some(Method::Sms))),
                "Enter the code sent to …17 and directly behind it your PIN",
                Prompt::NoEcho,
            ),
            (ask(AskKind::NewPin, None), "Choose a new PIN", Prompt::NoEcho),
            (ask(AskKind::NewPinAgain, None), "Enter the new PIN again", Prompt::NoEcho),
            (
                Ask { choices, ..ask(AskKind::Choice, None) },
                "How do you want to sign in? Enter a number\n1. Approve in the app\n2. Text message\n3. Code of the app or token",
                Prompt::Echo,
            ),
            (
                Ask { number: "42".into(), ..ask(AskKind::Approval, Some(Method::Push)) },
                "Choose 42 in your app, then press Enter",
                Prompt::Echo,
            ),
            (
                ask(AskKind::Approval, Some(Method::Push)),
                "Approve the sign-in on your phone, then press Enter",
                Prompt::Echo,
            ),
            (
                to(ask(AskKind::Approval, Some(Method::Call))),
                "We are calling …17. Answer, then press Enter",
                Prompt::Echo,
            ),
        ] {
            assert_eq!((english(&ask).as_str(), prompt(ask.kind)), (shown, echo));
            assert!(can_be_shown(ask.kind));
        }
        assert!(!can_be_shown(AskKind::Passkey) && !can_be_shown(AskKind::Questions));
    }

    #[test]
    fn the_answer_before_is_said_first() {
        let after = |kind, reason| english(&Ask { previous: Some(reason), ..ask(kind, Some(Method::Code)) });
        assert_eq!(after(AskKind::Code, Reason::WrongCode), "The code was wrong. Enter your code");
        let reused = "This code was used before. Wait for the next one and enter it";
        assert_eq!(after(AskKind::Code, Reason::ReusedCode), reused);
        assert_eq!(
            after(AskKind::CodeAndPin, Reason::WrongPin),
            "The PIN was wrong. Enter your code and directly behind it your PIN"
        );
        assert_eq!(
            after(AskKind::NewPin, Reason::WrongPin),
            "This PIN cannot be used, or the two were not the same. Choose a new PIN"
        );
        // FR-06: the phone did not work, and a code is asked for instead.
        assert_eq!(after(AskKind::Code, Reason::Voicemail), "Your phone could not be reached. Enter your code");
        assert_eq!(after(AskKind::Code, Reason::InternalError), "That did not work. Enter your code");
    }

    #[test]
    fn every_question_fits_one_reply_message_in_every_language() {
        // 253 octets; most devices show the first message only. A list may be longer.
        for language in SHIPPED.languages() {
            let language = Language::new(language).expect("a tag");
            let pins = [AskKind::CodeAndPin, AskKind::NewPin, AskKind::NewPinAgain];
            for kind in pins.into_iter().chain([AskKind::Code, AskKind::Approval]) {
                for method in Method::ALL.iter().copied() {
                    for previous in Reason::ALL.iter().copied() {
                        let (language, destination) = (language.clone(), "+49 ••• ••••••17".to_owned());
                        let ask = Ask { previous: Some(previous), destination, language, ..ask(kind, Some(method)) };
                        let shown = english(&ask);
                        assert!(shown.len() <= 253 && !shown.contains("challenge-"), "{shown}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_text_of_the_administrators_own_goes_first_and_is_cut_where_it_is_endless() {
        // FN-09
        let own = |language: &str, application: Option<&str>, text: &str| TextOverride {
            key: "challenge-code".into(),
            language: Language::new(language).expect("a tag"),
            application: application.map(str::to_owned),
            text: text.into(),
        };
        let texts = [
            own("en", None, "Code of the day"),
            own("de", None, "Kode"),
            own("de-CH", None, "Kode, bitte"),
            own("en", Some("VPN"), "Code for the VPN"),
        ];
        let said = |language: &str, application: &str| {
            let language = Language::new(language).expect("a tag");
            text(&Ask { language, ..ask(AskKind::Code, Some(Method::Code)) }, application, &texts)
        };
        assert_eq!(said("en", "VPN"), "Code for the VPN");
        assert_eq!(said("en", "Wi-Fi"), "Code of the day");
        assert_eq!(said("de-AT", "VPN"), "Kode");
        assert_eq!(said("de-CH", "VPN"), "Kode, bitte");
        let endless = [own("en", None, &"é".repeat(10_000))];
        let shown = text(&ask(AskKind::Code, Some(Method::Code)), "VPN", &endless);
        assert!(shown.len() <= OCTETS_MAX && shown.chars().all(|sign| sign == 'é'));
    }
}
