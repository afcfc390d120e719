//! TOTP: codes by the clock (RFC 6238), around the drift that a token was seen to have (V-10 to V-12).

use crate::matching::{Verdict, last_match};
use domain::{CodeForm, PresentedCode, Secret};

/// Steps accepted before and after the expected one: the transmission delay that RFC 6238 section 5.2 recommends (V-10).
pub const WINDOW: u64 = 1;
/// A token is followed no further than this many steps, either way (V-12).
pub const DRIFT_MAX: i32 = 10;

/// Compares a code with those of the steps around `now_unix_ms` as the token's clock reads it: `drift` steps ahead of ours.
/// `last_step` is the last accepted step.
pub fn verify(
    seed: &Secret,
    form: CodeForm,
    presented: &PresentedCode,
    now_unix_ms: i64,
    drift: i32,
    last_step: u64,
) -> Verdict {
    let drift = i64::from(drift.clamp(-DRIFT_MAX, DRIFT_MAX));
    let expected = step_at(form, now_unix_ms).saturating_add_signed(drift);
    let steps = expected.saturating_sub(WINDOW)..=expected.saturating_add(WINDOW);
    match last_match(seed, form.algorithm(), form.digits(), presented, steps) {
        None => Verdict::NoMatch,
        Some(step) if step > last_step => Verdict::Match(step),
        Some(step) => Verdict::Reused(step),
    }
}

/// The time step (RFC 6238 section 4.2, T0 = 0). A clock before 1970 stands at the first one.
pub fn step_at(form: CodeForm, now_unix_ms: i64) -> u64 {
    u64::try_from(now_unix_ms).unwrap_or(0) / 1000 / form.period_seconds()
}

/// The drift to expect after a success at `step`: one step nearer to what was seen, so that a code typed late moves it little and a
/// token that shows the right time brings it back to nothing.
pub fn learned_drift(form: CodeForm, now_unix_ms: i64, drift: i32, step: u64) -> i32 {
    let seen = i128::from(step) - i128::from(step_at(form, now_unix_ms));
    let towards = (seen - i128::from(drift)).signum() as i32;
    (drift + towards).clamp(-DRIFT_MAX, DRIFT_MAX)
}
