//! Every word a page shows. A language is one more value of [`Texts`], in a file of its own: a missing sentence does not compile.

mod english;
mod german;

use domain::{Language, Method, Reason};
use english::ENGLISH;
use german::GERMAN;
use http::HeaderMap;
use http::header::ACCEPT_LANGUAGE;

pub(crate) struct Texts {
    /// BCP 47, for the page's `lang`.
    pub language: &'static str,
    pub error: &'static str,
    /// Before the eight signs that a person reads out to the help desk.
    pub reference: &'static str,
    pub reference_help: &'static str,
    pub footer: &'static str,
    pub signed_in_as: &'static str,
    pub sign_out: &'static str,

    pub sign_in_title: &'static str,
    pub sign_in_lead: &'static str,
    pub name: &'static str,
    pub password: &'static str,
    pub next: &'static str,
    pub signed_out: &'static str,

    pub code_title: &'static str,
    pub code_lead: &'static str,
    pub code: &'static str,
    pub code_help: &'static str,
    pub verify: &'static str,
    pub start_again: &'static str,

    pub code_sent: &'static str,
    pub code_sms_help: &'static str,
    pub code_resend: &'static str,
    pub code_and_pin: &'static str,
    pub code_and_pin_help: &'static str,
    pub new_pin_title: &'static str,
    pub new_pin_lead: &'static str,
    pub new_pin: &'static str,
    pub new_pin_again_title: &'static str,
    pub new_pin_again: &'static str,
    pub choice_title: &'static str,
    pub choice_lead: &'static str,
    pub approve_title: &'static str,
    pub approve_number: &'static str,
    pub approve_lead: &'static str,
    pub call_title: &'static str,
    pub call_lead: &'static str,
    pub approve_waiting: &'static str,
    pub approve_answered: &'static str,
    pub passkey_title: &'static str,
    pub passkey_lead: &'static str,
    pub passkey_use: &'static str,
    pub passkey_impossible: &'static str,
    pub passkey_new_title: &'static str,
    pub passkey_new_lead: &'static str,
    pub passkey_new_name: &'static str,
    pub passkey_new_make: &'static str,
    pub passkey_new_impossible: &'static str,
    pub questions_title: &'static str,
    pub questions_lead: &'static str,

    pub choose_title: &'static str,
    pub choose_lead: &'static str,
    pub choose_code: &'static str,
    pub choose_code_help: &'static str,
    pub choose_push: &'static str,
    pub choose_push_help: &'static str,
    pub choose_pi: &'static str,
    pub choose_pi_help: &'static str,
    pub choose_sms: &'static str,
    pub choose_sms_help: &'static str,
    pub choose_call: &'static str,
    pub choose_call_help: &'static str,
    pub choose_passkey: &'static str,
    pub choose_passkey_help: &'static str,
    pub choose_recovery: &'static str,
    pub choose_recovery_help: &'static str,
    pub device_title: &'static str,
    pub device_lead: &'static str,
    pub device_steps: [&'static str; 3],
    pub device_open: &'static str,
    pub pi_title: &'static str,
    pub pi_lead: &'static str,
    pub device_check: &'static str,
    pub device_not_yet: &'static str,
    pub device_prove_title: &'static str,
    pub device_prove_lead: &'static str,
    pub device_prove: &'static str,
    pub device_done_lead: &'static str,
    pub passkey_done_lead: &'static str,
    /// With `{n}`.
    too_many_devices: &'static str,
    pub phone_title: &'static str,
    pub phone_lead_sms: &'static str,
    pub phone_lead_call: &'static str,
    pub phone_number: &'static str,
    pub phone_number_help: &'static str,
    pub phone_extension: &'static str,
    pub phone_send: &'static str,
    pub phone_call: &'static str,
    pub phone_done_lead: &'static str,
    pub recovery_title: &'static str,
    pub recovery_lead: &'static str,
    pub recovery_print: &'static str,
    pub method_push: &'static str,
    pub method_call: &'static str,
    pub method_sms: &'static str,
    pub method_sms_reply: &'static str,
    pub method_recovery: &'static str,
    pub method_passkey: &'static str,
    pub method_questions: &'static str,
    pub method_pi: &'static str,
    pub recovery_left: &'static str,
    pub add_method: &'static str,

    pub invitation_title: &'static str,
    pub invitation_lead: &'static str,
    pub invitation: &'static str,
    pub invitation_help: &'static str,

    pub off_title: &'static str,
    pub off_lead: &'static str,

    pub enrol_apps: &'static str,
    pub enrol_again: &'static str,
    pub cancel: &'static str,
    pub scan_title: &'static str,
    pub scan_step: &'static str,
    pub scan_help: &'static str,
    pub scan_qr: &'static str,
    pub scan_open: &'static str,
    pub scan_by_hand: &'static str,
    pub scan_secret: &'static str,
    pub scan_form: &'static str,
    pub prove_step: &'static str,
    pub prove_again: &'static str,
    pub prove_help: &'static str,
    pub prove_confirm: &'static str,
    pub done_title: &'static str,
    pub done_lead: &'static str,
    pub done_next: &'static str,

    pub account_title: &'static str,
    pub account_lead: &'static str,
    pub methods: &'static str,
    pub method_code: &'static str,
    pub added: &'static str,
    pub last_used: &'static str,
    pub never_used: &'static str,
    pub answers_stronger: &'static str,
    pub answers_invitation: &'static str,
    pub lost_phone: &'static str,

    pub not_found_title: &'static str,
    pub not_found_lead: &'static str,
    pub expired_title: &'static str,
    pub expired_lead: &'static str,
    pub unavailable_title: &'static str,
    pub unavailable_lead: &'static str,
    pub to_start: &'static str,

    /// For every No of which the person may not see the reason: always the same words.
    pub sign_in_failed: &'static str,
    pub enrolment_failed: &'static str,
    wrong_code: &'static str,
    reused_code: &'static str,
    invitation_refused: &'static str,
    challenge_gone: &'static str,
    no_answer: &'static str,
    not_enrolled: &'static str,
    no_usable_method: &'static str,
    blocked: &'static str,
    locked_out: &'static str,
    rate_limited: &'static str,
    wrong_pin: &'static str,
    bad_pin: &'static str,
    wrong_number: &'static str,
    user_denied: &'static str,
    reported_fraud: &'static str,
    unreachable: &'static str,
    no_keys_pressed: &'static str,
    cooling_down: &'static str,
    prompt_pending: &'static str,
    bad_number: &'static str,
    /// `20.` or `20`
    day_ends_with: &'static str,
    months: [&'static str; 12],
}

/// Every language that ships; the first one is spoken where nobody knows better.
pub(crate) const LANGUAGES: [&Texts; 2] = [&ENGLISH, &GERMAN];

impl Texts {
    /// What the browser asks for (RFC 9110 section 12.5.4), else the company's language.
    pub fn preferred(headers: &HeaderMap, company: Option<&Language>) -> &'static Self {
        let asked = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut asked: Vec<(u16, &str)> = asked.split(',').take(32).filter_map(weighted).collect();
        // The browser's order where weights are equal.
        asked.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        let spoken = asked.iter().find_map(|(_, tag)| Self::of(&Language::new(tag).ok()?));
        spoken.or_else(|| company.and_then(Self::of)).unwrap_or(LANGUAGES[0])
    }

    /// `None`: nobody here speaks it.
    pub fn of(language: &Language) -> Option<&'static Self> {
        LANGUAGES.into_iter().find(|texts| texts.language == language.broad())
    }

    /// Why a sign-in was refused, to a person whose password was right. What they may not see reads like any other failure.
    pub fn refused(&self, reason: Reason) -> &'static str {
        if !reason.person_may_see() {
            return self.sign_in_failed;
        }
        match reason {
            Reason::WrongCode => self.wrong_code,
            Reason::ReusedCode => self.reused_code,
            Reason::ChallengeGone => self.challenge_gone,
            Reason::NoAnswer => self.no_answer,
            Reason::NotEnrolled => self.not_enrolled,
            Reason::NoUsableMethod => self.no_usable_method,
            Reason::Blocked => self.blocked,
            Reason::LockedOut => self.locked_out,
            Reason::RateLimited => self.rate_limited,
            Reason::WrongPin => self.wrong_pin,
            Reason::NewPinAsked => self.bad_pin,
            Reason::WrongNumber => self.wrong_number,
            Reason::UserDenied | Reason::UserCancelled => self.user_denied,
            Reason::ReportedFraud => self.reported_fraud,
            Reason::Unreachable | Reason::Busy | Reason::Voicemail | Reason::ProviderError => self.unreachable,
            Reason::NoKeysPressed | Reason::HungUp => self.no_keys_pressed,
            Reason::CoolingDown => self.cooling_down,
            Reason::PromptPending => self.prompt_pending,
            _ => self.sign_in_failed,
        }
    }

    /// The same for a code that should prove a new method.
    pub fn not_confirmed(&self, reason: Reason) -> &'static str {
        match reason {
            Reason::StoreUnavailable | Reason::InternalError | Reason::NotEnrolled | Reason::Blocked => {
                self.enrolment_failed
            }
            reason if reason.person_may_see() => self.refused(reason),
            _ => self.enrolment_failed,
        }
    }

    /// The user has as many phones as allowed.
    pub fn too_many_devices(&self, devices_max: u32) -> String {
        self.too_many_devices.replace("{n}", &devices_max.to_string())
    }

    /// A number that cannot be called or texted.
    pub fn bad_number(&self) -> &'static str {
        self.bad_number
    }

    pub fn invitation_refused(&self) -> &'static str {
        self.invitation_refused
    }

    pub fn method(&self, method: Method) -> &'static str {
        match method {
            Method::Push => self.method_push,
            Method::Call => self.method_call,
            Method::Sms => self.method_sms,
            Method::SmsReply => self.method_sms_reply,
            Method::Code => self.method_code,
            Method::Recovery => self.method_recovery,
            Method::Passkey => self.method_passkey,
            Method::Questions => self.method_questions,
        }
    }

    /// `20 November 2026, 16:45 UTC`
    pub fn time(&self, at: time::OffsetDateTime) -> String {
        let month = self.months[usize::from(u8::from(at.month())) - 1];
        format!("{}{} {month} {}, {:02}:{:02} UTC", at.day(), self.day_ends_with, at.year(), at.hour(), at.minute())
    }
}

/// `de-CH;q=0.7`: a tag and how much it is wanted, in thousandths. What is not wanted at all is dropped.
fn weighted(part: &str) -> Option<(u16, &str)> {
    let (tag, parameter) = part.split_once(';').unwrap_or((part, "q=1"));
    let weight: f32 = parameter.trim().strip_prefix("q=")?.trim().parse().ok()?;
    let thousandths = (weight.clamp(0.0, 1.0) * 1000.0) as u16;
    (thousandths > 0).then_some((thousandths, tag.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_may_not_see_reads_like_any_other_failure() {
        // V-87
        for reason in Reason::ALL.iter().filter(|reason| !reason.person_may_see()) {
            assert_eq!(ENGLISH.refused(*reason), ENGLISH.sign_in_failed, "{}", reason.code());
        }
        assert_ne!(ENGLISH.refused(Reason::WrongCode), ENGLISH.sign_in_failed);
    }

    #[test]
    fn the_browser_chooses_among_the_languages_that_ship() {
        let german = Language::new("de").expect("valid");
        for (asked, company, spoken) in [
            ("de-CH,de;q=0.9,en;q=0.8", None, "de"),
            ("fr,en;q=0.3,de;q=0.8", None, "de"),
            ("fr, it", None, "en"),
            ("fr, it", Some(&german), "de"),
            ("", Some(&german), "de"),
            ("de;q=0, en", Some(&german), "en"),
            ("*;q=x,;;;,\u{7f}", None, "en"),
        ] {
            let mut headers = HeaderMap::new();
            if let Ok(value) = asked.parse() {
                headers.insert(ACCEPT_LANGUAGE, value);
            }
            assert_eq!(Texts::preferred(&headers, company).language, spoken, "{asked}");
        }
    }

    #[test]
    fn no_german_sentence_is_left_in_english() {
        // Names and words that are the same in both stand in the list.
        let same = ["Code", "Passkey", "Ref", "privacyIDEA Authenticator", "April", "August", "September", "November"];
        let literals = |source: &'static str| source.split('"').skip(1).step_by(2).collect::<Vec<_>>();
        let (english, german) = (literals(include_str!("texts/english.rs")), literals(include_str!("texts/german.rs")));
        assert!(english.len() > 100 && english.len() == german.len(), "{} {}", english.len(), german.len());
        for (english, german) in english.iter().zip(&german) {
            assert!(english != german || same.contains(english), "{english}");
        }
    }

    #[test]
    fn a_time_reads_as_people_write_it() {
        let at = time::OffsetDateTime::from_unix_timestamp(1_795_193_102).expect("a time");
        assert_eq!(ENGLISH.time(at), "20 November 2026, 16:45 UTC");
        assert_eq!(GERMAN.time(at), "20. November 2026, 16:45 UTC");
    }
}
