//! The grammar of a code or a keyword after the password, for LDAP and RADIUS alike: where the password ends (L-50, L-51).
//!
//! ```text
//! required   match: bind with the head, then check the code        no match: refuse, no bind; who needs no code: as optional
//! optional   match: check the code, bind with the head             no match: the whole is the password
//! off        the whole is the password
//! ```
//!
//! A keyword is nothing that can be checked, so that it splits the same way under both rules; it has to follow a separator,
//! because many a password ends in `push`. At most one bind follows from an answer, and never one without a password (L-10, L-52).

use domain::presented::decimal_digit;
use domain::settings::{Appended, AppendedForm, Client};
use domain::{Method, PresentedCode};

/// A client's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub appended: Appended,
    pub form: AppendedForm,
    /// Words that choose a method count, too.
    pub keywords: bool,
}

impl From<&Client> for Rule {
    fn from(client: &Client) -> Self {
        Self { appended: client.appended, form: client.appended_form, keywords: client.appended_keywords }
    }
}

/// What the *resolved* user could have appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forms {
    /// Lengths of the codes of the user's tokens.
    pub code_digits: Vec<u32>,
    /// A temporary code of the help desk is open: nine digits (V-53).
    pub temporary_code: bool,
    /// Recovery codes are left: ten letters and digits (FV-09).
    pub recovery_code: bool,
    /// Methods that a word chooses here.
    pub keywords: Vec<Method>,
    /// The user needs no code here now: a rule lets in on the password, or the client is only observed. Where nothing was appended all
    /// of it is the password, also where a code is demanded.
    pub code_optional: bool,
}

impl Forms {
    /// Everything anybody could have appended: where nobody can say what this user has.
    pub fn any() -> Self {
        let keywords = vec![Method::Push, Method::Call, Method::Sms];
        Self { code_digits: vec![6, 7, 8], temporary_code: true, recovery_code: true, keywords, code_optional: false }
    }

    fn counting(&self, rule: Rule) -> Counted<'_> {
        let spoken = rule.keywords && matches!(rule.form, AppendedForm::Separator { .. });
        Counted { forms: self, keywords: if spoken { &self.keywords } else { &[] } }
    }
}

/// The forms, as far as the client's rule lets them count.
#[derive(Clone, Copy)]
struct Counted<'f> {
    forms: &'f Forms,
    keywords: &'f [Method],
}

const TEMPORARY_DIGITS: u32 = 9;
const RECOVERY_SIGNS: usize = 10;

/// What a typed password is. No `Debug`: it borrows the password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Split<'a> {
    /// The password, never empty, and the code as it was typed.
    Code { head: &'a [u8], code: &'a [u8] },
    /// The password, never empty, and the method that is wanted; `None` is `auto`, whichever the rules choose.
    Method { head: &'a [u8], wanted: Option<Method> },
    /// All of it is the password.
    Whole,
    /// The client demands a code and there is none: refuse without a bind.
    NoMatch,
    /// Nothing, or nothing before the code: refuse without a bind (`empty_password`).
    EmptyPassword,
}

/// Splits a password by the client's rule.
///
/// Who has nothing to append can have appended nothing, so that all of it is the password, whatever the rule (L-51); verification
/// then decides about a user without a factor.
pub fn split<'a>(rule: Rule, forms: &Forms, typed: &'a [u8]) -> Split<'a> {
    if typed.is_empty() {
        return Split::EmptyPassword;
    }
    let counted = forms.counting(rule);
    if rule.appended == Appended::Off || counted.is_empty() {
        return Split::Whole;
    }
    let found = match rule.form {
        AppendedForm::Separator { sign } => at_separator(sign, counted, typed),
        AppendedForm::LastDigits => at_last_digits(counted, typed).map(|(head, code)| (head, Tail::Code(code))),
    };
    match found {
        Some(([], _)) => Split::EmptyPassword,
        Some((head, Tail::Code(code))) => Split::Code { head, code },
        Some((head, Tail::Keyword(wanted))) => Split::Method { head, wanted },
        None if rule.appended == Appended::Required && !forms.code_optional => Split::NoMatch,
        None => Split::Whole,
    }
}

/// What stands behind the password.
enum Tail<'a> {
    Code(&'a [u8]),
    Keyword(Option<Method>),
}

impl Counted<'_> {
    fn is_empty(self) -> bool {
        self.lengths().next().is_none() && !self.forms.recovery_code && self.keywords.is_empty()
    }

    /// How many digits a code of this user may have.
    fn lengths(self) -> impl Iterator<Item = u32> {
        let temporary = self.forms.temporary_code.then_some(TEMPORARY_DIGITS);
        self.forms.code_digits.iter().copied().chain(temporary)
    }

    fn tail<'a>(self, typed: &'a [u8]) -> Option<Tail<'a>> {
        let digits = digits_of(typed);
        let is_code = digits.is_some_and(|digits| self.lengths().any(|length| usize::try_from(length) == Ok(digits)));
        if is_code || (self.forms.recovery_code && is_recovery_code(typed)) {
            return Some(Tail::Code(typed));
        }
        let word = std::str::from_utf8(typed).ok()?.trim();
        let wanted = match word {
            _ if word.eq_ignore_ascii_case("auto") => None,
            _ if word.eq_ignore_ascii_case("push") => Some(Method::Push),
            _ if word.eq_ignore_ascii_case("call") || word.eq_ignore_ascii_case("phone") => Some(Method::Call),
            _ if word.eq_ignore_ascii_case("sms") => Some(Method::Sms),
            _ => return None,
        };
        let offered = match wanted {
            Some(method) => self.keywords.contains(&method),
            None => !self.keywords.is_empty(),
        };
        offered.then_some(Tail::Keyword(wanted))
    }
}

/// At the last separator, if what follows is something of the user's.
fn at_separator<'a>(sign: char, counted: Counted<'_>, typed: &'a [u8]) -> Option<(&'a [u8], Tail<'a>)> {
    let mut buffer = [0; 4];
    let sign = sign.encode_utf8(&mut buffer).as_bytes();
    // The password need not be UTF-8; what is sought is, and cannot begin inside another sign of it.
    let at = typed.windows(sign.len()).rposition(|window| window == sign)?;
    let (head, rest) = typed.split_at(at);
    let (_, tail) = rest.split_at(sign.len());
    Some((head, counted.tail(tail)?))
}

/// Before as many of the digits at the end as a code of the user has; where the user's codes have several lengths, the
/// longest that fits.
fn at_last_digits<'a>(counted: Counted<'_>, typed: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let longest = counted.lengths().max()?;
    let mut code = None;
    let mut start = typed.len();
    let digits = utf8_end(typed).chars().rev().take_while(|sign| decimal_digit(*sign).is_some());
    for (sign, length) in digits.zip(1_u32..=longest) {
        start -= sign.len_utf8();
        if counted.lengths().any(|wanted| wanted == length) {
            code = typed.split_at_checked(start);
        }
    }
    code
}

/// How many digits a code has, however it is written; `None` for what is no code. A [`PresentedCode`] is a token's and has no room
/// for the nine digits of a temporary one, so that the first of them is read apart.
fn digits_of(typed: &[u8]) -> Option<usize> {
    if let Some(code) = PresentedCode::parse(typed) {
        return Some(code.digits());
    }
    let text = std::str::from_utf8(typed).ok()?;
    let (at, first) = text.char_indices().find(|(_, sign)| decimal_digit(*sign).is_some())?;
    let (begin, rest) = text.split_at(at + first.len_utf8());
    Some(PresentedCode::parse(begin.as_bytes())?.digits() + PresentedCode::parse(rest.as_bytes())?.digits())
}

/// Ten letters and digits, in groups or not.
fn is_recovery_code(typed: &[u8]) -> bool {
    let signs = typed.trim_ascii().iter().filter(|sign| !matches!(sign, b'-' | b' '));
    let mut count = 0;
    for sign in signs {
        if !sign.is_ascii_alphanumeric() {
            return false;
        }
        count += 1;
    }
    count == RECOVERY_SIGNS
}

/// The end of the password that is UTF-8.
fn utf8_end(typed: &[u8]) -> &str {
    typed.utf8_chunks().last().filter(|chunk| chunk.invalid().is_empty()).map_or("", |chunk| chunk.valid())
}
