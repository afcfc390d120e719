//! A one-time code: the try is counted in the store, then the code is compared (V-14), so that no parallelism gets more
//! tries than the store gives.

use crate::budget::Budget;
use crate::commit::Committer;
use crate::facts::{KnownUser, Token};
use domain::{PresentedCode, Secret};
use otp::Verdict;
use proto::user_store::TryKind;
use tonic::Status;

/// What a presented code turned out to be.
pub enum Checked {
    /// The code of this token and step. Whether it was used before, and by whom, the store alone knows for certain.
    Right {
        factor_id: String,
        step: u64,
    },
    Wrong,
    /// Not looked at.
    Throttled,
}

/// Checks a code against the tokens in force.
///
/// One try counts once, on the token used last: counted on each, tokens a person does not use would be locked by the
/// logins with the one they use.
pub async fn check(
    committer: &Committer,
    user: &KnownUser,
    presented: &Secret,
    kind: TryKind,
    source: &str,
    budget: Budget,
) -> Result<Checked, Status> {
    let tokens = user.tokens_in_force();
    let Some(counted) = tokens.first() else { return Ok(Checked::Wrong) };
    if !committer.reserve_try(&user.id, &counted.factor_id, kind, source, budget).await? {
        return Ok(Checked::Throttled);
    }
    Ok(compare(&tokens, presented, committer.now_ms()))
}

/// Every token is compared, whichever matches; a fresh match is preferred to a spent one.
fn compare(tokens: &[&Token], presented: &Secret, now_unix_ms: i64) -> Checked {
    let Some(code) = PresentedCode::parse(presented.expose()) else { return Checked::Wrong };
    let right = |token: &Token, step| Checked::Right { factor_id: token.factor_id.clone(), step };
    let (mut fresh, mut spent) = (None, None);
    for token in tokens {
        match otp::verify(&token.seed, token.form, &code, now_unix_ms, token.last_step, otp::WINDOW) {
            Verdict::Match(step) => fresh = Some(right(token, step)),
            Verdict::Reused(step) => spent = Some(right(token, step)),
            Verdict::NoMatch => {}
        }
    }
    fresh.or(spent).unwrap_or(Checked::Wrong)
}
