//! Every word a page shows, in one place. A language is one more value of [`Texts`]: a missing sentence does not compile.

use domain::{Method, Reason};

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

    pub invitation_title: &'static str,
    pub invitation_lead: &'static str,
    pub invitation: &'static str,
    pub invitation_help: &'static str,

    pub off_title: &'static str,
    pub off_lead: &'static str,

    pub enrol_title: &'static str,
    pub enrol_lead: &'static str,
    pub enrol_steps: [&'static str; 3],
    pub enrol_apps: &'static str,
    pub enrol_show: &'static str,
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
    pub add_code: &'static str,
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
    months: [&'static str; 12],
}

pub(crate) const ENGLISH: Texts = Texts {
    language: "en",
    error: "Error",
    reference: "Ref",
    reference_help: "If it keeps failing, give this reference to your help desk.",
    footer: "Protected by Twinlock",
    signed_in_as: "Signed in as",
    sign_out: "Sign out",

    sign_in_title: "Sign in",
    sign_in_lead: "Use the name and password you have at work.",
    name: "User name",
    password: "Password",
    next: "Continue",
    signed_out: "You have signed out.",

    code_title: "Enter your code",
    code_lead: "Open your authenticator app and type the code it shows now.",
    code: "Code",
    code_help: "Codes change every 30 or 60 seconds. This page waits two minutes; after that, sign in again.",
    verify: "Verify",
    start_again: "Start again",

    invitation_title: "Enter your invitation code",
    invitation_lead: "Your password is right. To add your first sign-in method you also need the invitation code from your administrator or help desk.",
    invitation: "Invitation code",
    invitation_help: "You can type it with or without dashes. It works once, and only for a limited time.",

    off_title: "Not available here",
    off_lead: "Your password is right, but you have no second sign-in method yet, and it cannot be added on this page. Ask your administrator or help desk to add one for you.",

    enrol_title: "Set up your authenticator app",
    enrol_lead: "An authenticator app on your phone shows a new code every 30 seconds. You will type one whenever you sign in.",
    enrol_steps: [
        "Install an authenticator app on your phone, if you have none.",
        "Scan a QR code with it.",
        "Type one code to prove that it works.",
    ],
    enrol_apps: "Any app for time-based codes will do: Aegis, FreeOTP+, Google Authenticator, Microsoft Authenticator, 1Password and others.",
    enrol_show: "Show the QR code",
    enrol_again: "Show a new QR code",
    cancel: "Cancel",
    scan_title: "Connect your authenticator app",
    scan_step: "Scan this QR code",
    scan_help: "Use your authenticator app, not the camera. The code is shown only this once, and nobody else should see it.",
    scan_qr: "QR code for your authenticator app. The same secret stands below as text.",
    scan_open: "On this phone? Open it in your authenticator app",
    scan_by_hand: "Cannot scan it? Type this secret into the app:",
    scan_secret: "Secret",
    scan_form: "Time-based (TOTP), SHA-1, 6 digits, 30 seconds",
    prove_step: "Type the code it shows",
    prove_again: "Type the code that your app shows",
    prove_help: "The app counts as a sign-in method once one code was right.",
    prove_confirm: "Confirm",
    done_title: "Your app is ready",
    done_lead: "From now on you sign in with your password and a code from this app. The code you just typed is used up: wait for the next one.",
    done_next: "Go to your account",

    account_title: "Your account",
    account_lead: "These are the ways in which you can confirm a sign-in.",
    methods: "Sign-in methods",
    method_code: "Authenticator app",
    added: "Added",
    last_used: "Last used",
    never_used: "Not used yet",
    add_code: "Add another authenticator app",
    lost_phone: "A phone is lost, or you see a method you do not know? Tell your help desk at once: they can remove it.",

    not_found_title: "Page not found",
    not_found_lead: "There is nothing at this address.",
    expired_title: "This page is out of date",
    expired_lead: "It was open for too long, or in more than one window. Nothing was changed.",
    unavailable_title: "Not available right now",
    unavailable_lead: "Something that is needed here does not answer. Nothing was changed. Try again in a few minutes.",
    to_start: "Go to the start page",

    sign_in_failed: "Sign-in failed. Check your name and password, wait a minute, and try again.",
    enrolment_failed: "The method could not be added. Try again in a few minutes.",
    wrong_code: "That code was not right. Check that the time on your phone is set automatically, and type the code shown now.",
    reused_code: "That code was used before. Wait until the app shows the next one.",
    invitation_refused: "That invitation code was not accepted. It may be mistyped, used or too old.",
    challenge_gone: "That answer came too late, twice, or for another sign-in. Sign in again.",
    no_answer: "No answer came in time. Sign in again.",
    not_enrolled: "You have no second sign-in method yet. Ask your help desk.",
    no_usable_method: "None of your sign-in methods is allowed here. Ask your help desk.",
    blocked: "Your account is blocked here. Ask your help desk.",
    locked_out: "There were too many wrong codes. Wait before you try again, or ask your help desk.",
    rate_limited: "There were too many tries in a short time. Wait a minute and try again.",
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
};

impl Texts {
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
            _ => self.sign_in_failed,
        }
    }

    /// The same for a code that should prove a new method.
    pub fn not_confirmed(&self, reason: Reason) -> &'static str {
        match reason {
            Reason::WrongCode | Reason::ReusedCode | Reason::LockedOut | Reason::RateLimited => self.refused(reason),
            _ => self.enrolment_failed,
        }
    }

    pub fn invitation_refused(&self) -> &'static str {
        self.invitation_refused
    }

    pub fn method(&self, method: Method) -> &'static str {
        match method {
            Method::Code => self.method_code,
            _ => method.code(),
        }
    }

    /// `20 November 2026, 16:45 UTC`
    pub fn time(&self, at: time::OffsetDateTime) -> String {
        let month = self.months[usize::from(u8::from(at.month())) - 1];
        format!("{} {month} {}, {:02}:{:02} UTC", at.day(), at.year(), at.hour(), at.minute())
    }
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
    fn a_time_reads_as_people_write_it() {
        let at = time::OffsetDateTime::from_unix_timestamp(1_795_193_102).expect("a time");
        assert_eq!(ENGLISH.time(at), "20 November 2026, 16:45 UTC");
    }
}
