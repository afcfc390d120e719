//! The grammar of a code after the password, for LDAP and RADIUS alike: where the password ends (L-50, L-51).
//!
//! ```text
//! required   match: bind with the head, then check the code        no match: refuse, no bind
//! optional   match: check the code, bind with the head             no match: the whole is the password
//! off        the whole is the password
//! ```
//!
//! At most one bind follows from an answer, and never one without a password (L-10, L-52).

use domain::PresentedCode;
use domain::presented::decimal_digit;
use domain::settings::{Appended, AppendedForm, Client};

/// A client's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub appended: Appended,
    pub form: AppendedForm,
}

impl From<&Client> for Rule {
    fn from(client: &Client) -> Self {
        Self { appended: client.appended, form: client.appended_form }
    }
}

/// What a typed password is. No `Debug`: it borrows the password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Split<'a> {
    /// The password, never empty, and the code as it was typed.
    Code { head: &'a [u8], code: &'a [u8] },
    /// All of it is the password.
    Whole,
    /// The client demands a code and there is none: refuse without a bind.
    NoMatch,
    /// Nothing, or nothing before the code: refuse without a bind (`empty_password`).
    EmptyPassword,
}

/// Splits a password by the client's rule. `code_digits` are the lengths of the codes of the *resolved* user's tokens.
///
/// Who has no token can have appended no code, so that all of it is the password, whatever the rule (L-51); verification
/// then decides about a user without a factor.
pub fn split<'a>(rule: Rule, code_digits: &[u32], typed: &'a [u8]) -> Split<'a> {
    if typed.is_empty() {
        return Split::EmptyPassword;
    }
    if rule.appended == Appended::Off || code_digits.is_empty() {
        return Split::Whole;
    }
    let found = match rule.form {
        AppendedForm::Separator { sign } => at_separator(sign, code_digits, typed),
        AppendedForm::LastDigits => at_last_digits(code_digits, typed),
    };
    match found {
        Some(([], _)) => Split::EmptyPassword,
        Some((head, code)) => Split::Code { head, code },
        None if rule.appended == Appended::Required => Split::NoMatch,
        None => Split::Whole,
    }
}

/// At the last separator, if what follows is a code as long as one of the user's.
fn at_separator<'a>(sign: char, code_digits: &[u32], typed: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut buffer = [0; 4];
    let sign = sign.encode_utf8(&mut buffer).as_bytes();
    // The password need not be UTF-8; what is sought is, and cannot begin inside another sign of it.
    let at = typed.windows(sign.len()).rposition(|window| window == sign)?;
    let (head, rest) = typed.split_at(at);
    let (_, tail) = rest.split_at(sign.len());
    let digits = PresentedCode::parse(tail)?.digits();
    code_digits.iter().any(|length| usize::try_from(*length) == Ok(digits)).then_some((head, tail))
}

/// Before as many of the digits at the end as a code of the user has; where the user's codes have several lengths, the
/// longest that fits.
fn at_last_digits<'a>(code_digits: &[u32], typed: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let longest = *code_digits.iter().max()?;
    let mut code = None;
    let mut start = typed.len();
    let digits = utf8_end(typed).chars().rev().take_while(|sign| decimal_digit(*sign).is_some());
    for (sign, length) in digits.zip(1_u32..=longest) {
        start -= sign.len_utf8();
        if code_digits.contains(&length) {
            code = typed.split_at_checked(start);
        }
    }
    code
}

/// The end of the password that is UTF-8.
fn utf8_end(typed: &[u8]) -> &str {
    typed.utf8_chunks().last().filter(|chunk| chunk.invalid().is_empty()).map_or("", |chunk| chunk.valid())
}
