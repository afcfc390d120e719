//! The only place where the end of a bind becomes an LDAP answer (B5).

use domain::Reason;
use ldap_wire::{Control, LdapResult, ResultCode, Style, oid};

/// Why a bind does not succeed, as far as the client's answer depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A No that nobody can tell from a wrong password: wrong password, unknown user, every second-factor No (L-40).
    No(Reason),
    /// The directory refused for another reason than the password, before any second factor: its own words (B5).
    Primary { reason: Reason, result: LdapResult, controls: Vec<Control> },
    /// No decision could be had.
    Unavailable(Reason),
    /// Shaped like a DN, but none (RFC 4513 section 5.1.3).
    BadName,
    /// The client insists on a control that its directory does not know (RFC 4511 section 4.1.11).
    UnknownControl,
}

impl Refusal {
    pub fn reason(&self) -> Reason {
        match self {
            Self::No(reason) | Self::Primary { reason, .. } | Self::Unavailable(reason) => *reason,
            Self::BadName => Reason::UnknownUser,
            Self::UnknownControl => Reason::ProtocolUnsupported,
        }
    }
}

/// What the rules of the client and the wishes of its request make of it.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    pub style: Style,
    /// 52, or 49 for hosts that would let a cached password in (B5).
    pub unavailable_code: u8,
    /// The request bore a password-policy control.
    pub asked_policy: bool,
}

impl Manner {
    pub fn answer(self, refusal: Refusal) -> (LdapResult, Vec<Control>) {
        match refusal {
            Refusal::No(_) => self.no(),
            Refusal::Primary { result, controls, .. } => (LdapResult { referral: None, ..result }, controls),
            Refusal::Unavailable(_) if self.unavailable_code == 49 => self.no(),
            Refusal::Unavailable(_) => (unavailable(), Vec::new()),
            Refusal::BadName => (LdapResult::of(ResultCode::INVALID_DN_SYNTAX), Vec::new()),
            Refusal::UnknownControl => (LdapResult::of(ResultCode::UNAVAILABLE_CRITICAL_EXTENSION), Vec::new()),
        }
    }

    /// The same octets for every reason. Where the client asked for the password policy it gets an empty word on it, as from a
    /// directory that has nothing to say about a wrong password: its absence would tell a second-factor No apart (L-40).
    fn no(self) -> (LdapResult, Vec<Control>) {
        // An empty SEQUENCE: neither warning nor error.
        const NOTHING_TO_SAY: &[u8] = &[0x30, 0x00];
        let policy = || Control::new(oid::PASSWORD_POLICY, false, Some(NOTHING_TO_SAY.into()));
        (self.style.invalid_credentials(), self.asked_policy.then(policy).into_iter().collect())
    }
}

/// For everything that has nobody to ask.
pub fn unavailable() -> LdapResult {
    LdapResult::with_diagnostic(ResultCode::UNAVAILABLE, "unavailable")
}

/// What a node that stops says to whoever still wants something, and last of all.
pub fn shutting_down() -> LdapResult {
    LdapResult::with_diagnostic(ResultCode::UNAVAILABLE, "shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ResultClass;

    const MANNER: Manner = Manner { style: Style::ActiveDirectory, unavailable_code: 52, asked_policy: true };

    #[test]
    fn every_no_has_the_same_answer_whatever_its_reason() {
        // L-40, D7
        for style in [Style::ActiveDirectory, Style::Plain] {
            let manner = Manner { style, ..MANNER };
            let expected = manner.answer(Refusal::No(Reason::BadPassword));
            assert_eq!(expected.0.code, ResultCode::INVALID_CREDENTIALS);
            for reason in Reason::ALL.iter().filter(|it| !matches!(it.class(), ResultClass::Success)) {
                assert_eq!(manner.answer(Refusal::No(*reason)), expected, "{reason:?}");
            }
        }
    }

    #[test]
    fn unavailable_is_52_or_by_the_client_the_same_49_as_every_no() {
        let (result, controls) = MANNER.answer(Refusal::Unavailable(Reason::StoreUnavailable));
        assert_eq!((result.code, controls.len()), (ResultCode::UNAVAILABLE, 0));
        let manner = Manner { unavailable_code: 49, ..MANNER };
        let no = manner.answer(Refusal::No(Reason::WrongCode));
        assert_eq!(manner.answer(Refusal::Unavailable(Reason::StoreUnavailable)), no);
    }

    #[test]
    fn the_directory_speaks_for_itself_but_leads_nobody_elsewhere() {
        // B5, L-17
        let own = LdapResult {
            diagnostic: "80090308: LdapErr: ..., data 773, v4563".into(),
            ..LdapResult::of(ResultCode::INVALID_CREDENTIALS)
        };
        let said = LdapResult { referral: Some(vec!["ldap://dc1/".into()]), ..own.clone() };
        let refusal = Refusal::Primary { reason: Reason::MustChangePassword, result: said, controls: Vec::new() };
        assert_eq!(MANNER.answer(refusal), (own, Vec::new()));
    }
}
