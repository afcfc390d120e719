//! A code that a person types: of a token, a recovery or a temporary one.
//!
//! ```text
//! after the password   token: compared -> the store counts the try and, if that is granted and the code right, lets in: at once
//! before it (L-53)     token: the store counts the try -> compared
//! either               recovery and temporary codes: the store counts the try and compares
//! ```
//!
//! What a code was worth is told and used by nobody before the store has counted the try (V-14), so that no parallelism gets more tries
//! than the store gives.

use crate::Service;
use crate::attempt::Origin;
use crate::budget::Budget;
use crate::challenges::{Round, Spent};
use crate::clock_check::ClockCheck;
use crate::commit::{CodeTried, Ending, PresentedSecret, Proven, Secreted, UsedCode};
use crate::facts::{KnownUser, Token, TokenKind};
use crate::login::{Login, Step};
use domain::presented::Presented;
use domain::{Method, PresentedCode, Reason, Secret};
use otp::Verdict;
use policy::{CodeCheck, Grant, Typed};
use proto::user_store::{SecretKind, TryKind};
use tonic::Status;

/// What a presented code turned out to be.
pub enum Checked {
    /// Right. Whether it was used before, and by whom, the store alone knows for certain.
    Right(Box<Right>),
    Wrong,
    /// Not looked at. When the next try is open; 0 = after an unlock.
    Throttled {
        until_unix_ms: i64,
    },
}

/// A code that was right.
pub struct Right {
    pub grant: Grant,
    pub proven: Proven,
}

impl Right {
    /// What a conversation keeps of it until the password is known.
    pub fn spent(&self) -> Spent {
        match &self.proven.code {
            Some(code) => Spent::Code { factor_id: code.factor_id.clone(), step: code.step, drift: code.drift },
            None => Spent::Secret { method: self.grant.method(), handle: self.proven.secret_handle.clone() },
        }
    }
}

/// What came of something that was typed after the password.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub enum Tried {
    /// Right: let in, or refused by the store, which alone knows whether it was used before.
    Right(Step),
    Wrong,
    /// Not looked at. When the next try is open; 0 = after an unlock.
    Throttled {
        until_unix_ms: i64,
    },
}

/// What something that was typed may be, by its form and by what the user may type.
enum Meant<'a> {
    /// Compared by the store, which has its hash.
    Kept {
        kind: SecretKind,
        secret: Secret,
        grant: Grant,
    },
    /// `None`: it has not the form of a code, which is a wrong one.
    Token(Option<PresentedCode>, &'a CodeCheck),
    Nothing,
}

fn meant<'a>(presented: &Secret, typed: &'a Typed, now_unix_ms: i64) -> Meant<'a> {
    match (Presented::parse(presented.expose()), typed) {
        (Some(Presented::Temporary(code)), Typed { temporary: Some(check), .. }) => {
            let (kind, grant) = (SecretKind::Temporary, check.clone().right(now_unix_ms));
            Meant::Kept { kind, secret: code.expose().clone(), grant }
        }
        (Some(Presented::Recovery(code)), Typed { recovery: Some(check), .. }) => {
            let (kind, grant) = (SecretKind::Recovery, check.clone().right(now_unix_ms));
            Meant::Kept { kind, secret: code.expose().clone(), grant }
        }
        (Some(Presented::Code(code)), Typed { code: Some(check), .. }) => Meant::Token(Some(code), check),
        (_, Typed { code: Some(check), .. }) => Meant::Token(None, check),
        _ => Meant::Nothing,
    }
}

impl Service {
    /// Checks what was typed before the password against what the user may type. A guess, counted as such (L-54).
    pub(crate) async fn check_typed(
        &self,
        origin: &Origin,
        user: &KnownUser,
        typed: &Typed,
        presented: &Secret,
        budget: Budget,
    ) -> Result<Checked, Status> {
        let now = self.clock.now_ms();
        match meant(presented, typed, now) {
            Meant::Kept { kind, secret, grant } => {
                self.check_kept(origin, user, (kind, &secret), grant, TryKind::Unverified, budget).await
            }
            Meant::Token(code, check) => Ok(match self.check_token(origin, user, code, budget).await? {
                TokenChecked::Right(code) => Checked::Right(Box::new(Right {
                    grant: check.clone().right(now),
                    proven: Proven { code: Some(code), ..Proven::default() },
                })),
                TokenChecked::Wrong => Checked::Wrong,
                TokenChecked::Throttled { until_unix_ms } => Checked::Throttled { until_unix_ms },
            }),
            Meant::Nothing => Ok(Checked::Wrong),
        }
    }

    /// The same after the password: what is right lets in.
    pub(crate) async fn try_typed(&self, login: &Login, typed: &Typed, presented: &Secret) -> Result<Tried, Status> {
        let now = self.clock.now_ms();
        match meant(presented, typed, now) {
            Meant::Kept { kind, secret, grant } => {
                let (origin, user, budget) = (login.origin(), &login.user, login.budget);
                let checked = self.check_kept(origin, user, (kind, &secret), grant, TryKind::AfterPassword, budget);
                Ok(match checked.await? {
                    Checked::Right(right) => Tried::Right(self.let_in(login, right.grant, right.proven).await?),
                    Checked::Wrong => Tried::Wrong,
                    Checked::Throttled { until_unix_ms } => Tried::Throttled { until_unix_ms },
                })
            }
            Meant::Token(code, check) => self.try_token(login, code, &check.clone().right(now)).await,
            Meant::Nothing => Ok(Tried::Wrong),
        }
    }

    async fn check_kept(
        &self,
        origin: &Origin,
        user: &KnownUser,
        (kind, secret): (SecretKind, &Secret),
        grant: Grant,
        try_kind: TryKind,
        budget: Budget,
    ) -> Result<Checked, Status> {
        let presented = PresentedSecret { kind, secret, questions: &[], answers: &[], try_kind };
        Ok(match self.committer.check_secret(origin, &user.id, presented, budget).await? {
            Secreted::Right { handle } => {
                let proven = Proven { secret_handle: handle, ..Proven::default() };
                Checked::Right(Box::new(Right { grant, proven }))
            }
            Secreted::Wrong | Secreted::None => Checked::Wrong,
            Secreted::Locked { until_unix_ms } => Checked::Throttled { until_unix_ms },
        })
    }

    /// The token that a try is counted on: the one used last. What is no code at all counts as a try too.
    ///
    /// One try counts once: counted on each, tokens a person does not use would be locked by the logins with the one they use. The Allow
    /// names that token, so that a success sets its count back whichever token the code was of.
    fn counted_token<'a>(&self, tokens: &[&'a Token]) -> Result<Option<&'a Token>, Status> {
        // Another node may know better; nobody's try is counted for it.
        let by_clock = |token: &&Token| matches!(token.kind, TokenKind::Timed { .. });
        if !tokens.is_empty() && !self.clock_check.is_fit() && tokens.iter().all(by_clock) {
            return Err(Status::unavailable(Reason::VerificationUnavailable.code()));
        }
        Ok(tokens.first().copied())
    }

    /// A code against the tokens in force, before the password.
    async fn check_token(
        &self,
        origin: &Origin,
        user: &KnownUser,
        code: Option<PresentedCode>,
        budget: Budget,
    ) -> Result<TokenChecked, Status> {
        let tokens = user.tokens_in_force();
        let Some(counted) = self.counted_token(&tokens)? else { return Ok(TokenChecked::Wrong) };
        let (kind, source) = (TryKind::Unverified, origin.source());
        let reserved = self.committer.reserve_try(&user.id, &counted.factor_id, kind, source, budget).await?;
        if let Err(until_unix_ms) = reserved {
            return Ok(TokenChecked::Throttled { until_unix_ms });
        }
        let used = compare(&tokens, code.as_ref(), self.clock.now_ms(), &self.clock_check)?;
        Ok(used.map_or(TokenChecked::Wrong, TokenChecked::Right))
    }

    /// The same after the password. Compared before the try is counted, which the store does in the transaction that lets in. Where the
    /// try is not granted the answer is one whatever the code was worth, and so is the work, up to the row of another token of the user.
    async fn try_token(&self, login: &Login, code: Option<PresentedCode>, grant: &Grant) -> Result<Tried, Status> {
        let user = &login.user;
        let tokens = user.tokens_in_force();
        let Some(counted) = self.counted_token(&tokens)? else { return Ok(Tried::Wrong) };
        let compared = compare(&tokens, code.as_ref(), self.clock.now_ms(), &self.clock_check);
        let used = compared.as_ref().ok().and_then(Option::as_ref);
        let right = used.map(|used| Proven { code: Some(used.clone()), ..Proven::default() });
        let right = right.map(|proven| self.granted(login, grant, proven));
        let tried = self.committer.try_code(login.origin(), &user.id, &counted.factor_id, right, login.budget).await?;
        Ok(match tried {
            CodeTried::Decided(committed) => Tried::Right(self.committed(login, grant, committed).await),
            CodeTried::Wrong => compared.map(|_| Tried::Wrong)?,
            CodeTried::Throttled { until_unix_ms } => Tried::Throttled { until_unix_ms },
        })
    }
}

/// A code of a counter that was too far ahead to count may be the first of two in a row, which put the token right (V-13). Nobody hears
/// that it may; whoever presses the button of a token again has the next one. A clock is put right at the help desk alone: there two
/// codes of some minutes ago would be as good as two of now.
pub struct RowBegun {
    pub factor_id: String,
    /// The counter whose code it was.
    pub first: u64,
}

impl RowBegun {
    pub fn round(self) -> Round {
        Round::NextCode { factor_id: self.factor_id, first: self.first }
    }
}

impl Service {
    /// For a code that was wrong, and counted as a try: whether the next one could show where the token is.
    pub(crate) fn row_begun(&self, user: &KnownUser, typed: &Typed, presented: &Secret) -> Option<RowBegun> {
        let (Some(Presented::Code(code)), Some(_)) = (Presented::parse(presented.expose()), &typed.code) else {
            return None;
        };
        user.tokens_in_force().into_iter().find_map(|token| {
            let TokenKind::Counted { algorithm, digits, next } = token.kind else { return None };
            let first = otp::first_of_row(&token.seed, algorithm, digits, &code, next)?;
            Some(RowBegun { factor_id: token.factor_id.clone(), first })
        })
    }

    /// The code after the one before: right, and the token is where it says. Counted as a try already.
    pub(crate) fn row_ended(
        &self,
        user: &KnownUser,
        typed: &Typed,
        begun: &RowBegun,
        presented: &Secret,
    ) -> Option<Right> {
        let (Some(Presented::Code(code)), Some(check)) = (Presented::parse(presented.expose()), &typed.code) else {
            return None;
        };
        let tokens = user.tokens_in_force();
        let token = tokens.iter().find(|token| token.factor_id == begun.factor_id)?;
        let TokenKind::Counted { algorithm, digits, .. } = token.kind else { return None };
        let step = otp::second_of_row(&token.seed, algorithm, digits, &code, begun.first)?;
        let counted_factor_id = tokens.first()?.factor_id.clone();
        let code = UsedCode { factor_id: begun.factor_id.clone(), step, counted_factor_id, ..UsedCode::default() };
        let grant = check.clone().right(self.clock.now_ms());
        Some(Right { grant, proven: Proven { code: Some(code), ..Proven::default() } })
    }

    /// What a code of a token is worth, neither counted nor spent. Only for notes: nothing that anybody sees may depend on it (V-14).
    pub(crate) fn note_code(&self, user: &KnownUser, presented: &Secret) -> Noted {
        let Some(Presented::Code(code)) = Presented::parse(presented.expose()) else { return Noted::NotCompared };
        let (tokens, now) = (user.tokens_in_force(), self.clock.now_ms());
        let verdicts: Vec<_> = tokens.iter().map(|token| verdict(token, &code, now, &self.clock_check)).collect();
        let any = |wanted: fn(&Option<Verdict>) -> bool| verdicts.iter().any(wanted);
        match () {
            () if any(|it| matches!(it, Some(Verdict::Match(_)))) => Noted::Right,
            () if any(|it| matches!(it, Some(Verdict::Reused(_)))) => Noted::Reused,
            () if any(Option::is_none) => Noted::NotCompared,
            () => Noted::Wrong,
        }
    }

    /// Is this a code of a token? Counted as a guess without the password, and not spent. Recovery and temporary codes cannot be looked
    /// at without being used up: they are none.
    pub(crate) async fn look_at_code(
        &self,
        origin: &Origin,
        user: &KnownUser,
        typed: &Typed,
        presented: &Secret,
        budget: Budget,
    ) -> Result<bool, Status> {
        let (Some(Presented::Code(code)), Some(_)) = (Presented::parse(presented.expose()), &typed.code) else {
            return Ok(false);
        };
        let checked = self.check_token(origin, user, Some(code), budget).await?;
        Ok(matches!(checked, TokenChecked::Right(_)))
    }
}

/// What is noted of a code where the password decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    Right,
    Reused,
    Wrong,
    /// Only the store can compare it, which would use it up; or this node's clock is not fit.
    NotCompared,
}

impl Noted {
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Right => Reason::ValidCode.code(),
            Self::Reused => Reason::ReusedCode.code(),
            Self::Wrong => Reason::WrongCode.code(),
            Self::NotCompared => "not compared",
        }
    }
}

enum TokenChecked {
    Right(UsedCode),
    Wrong,
    Throttled { until_unix_ms: i64 },
}

/// Whose code it is. Every token is compared, whichever matches; a fresh match is preferred to a spent one.
fn compare(
    tokens: &[&Token],
    code: Option<&PresentedCode>,
    now_unix_ms: i64,
    clock: &ClockCheck,
) -> Result<Option<UsedCode>, Status> {
    let Some(code) = code else { return Ok(None) };
    let (mut fresh, mut spent, mut unfit) = (None, None, false);
    for token in tokens {
        match verdict(token, code, now_unix_ms, clock) {
            Some(Verdict::Match(step)) => fresh = Some((token, step)),
            Some(Verdict::Reused(step)) => spent = Some((token, step)),
            Some(Verdict::NoMatch) => {}
            None => unfit = true,
        }
    }
    match fresh.or(spent) {
        Some((token, step)) => Ok(Some(UsedCode {
            factor_id: token.factor_id.clone(),
            step,
            drift: drift_after(token, now_unix_ms, step),
            ..UsedCode::default()
        })),
        // Another node may know better.
        None if unfit => Err(Status::unavailable(Reason::VerificationUnavailable.code())),
        None => Ok(None),
    }
}

/// What a code is worth against one token. `None`: this node's clock is not fit to say (V-43).
pub fn verdict(token: &Token, code: &PresentedCode, now_unix_ms: i64, clock: &ClockCheck) -> Option<Verdict> {
    match token.kind {
        TokenKind::Timed { .. } if !clock.is_fit() => None,
        TokenKind::Timed { form, last_step, drift } => {
            Some(otp::verify(&token.seed, form, code, now_unix_ms, drift, last_step))
        }
        TokenKind::Counted { algorithm, digits, next } => {
            Some(otp::verify_counted(&token.seed, algorithm, digits, code, next))
        }
    }
}

fn drift_after(token: &Token, now_unix_ms: i64, step: u64) -> i32 {
    match token.kind {
        TokenKind::Timed { form, drift, .. } => otp::learned_drift(form, now_unix_ms, drift, step),
        TokenKind::Counted { .. } => 0,
    }
}

/// How a wrong or throttled code ends an attempt.
pub fn locked(until_unix_ms: i64) -> Ending {
    Ending::of(Reason::LockedOut, Method::Code).until(until_unix_ms)
}
