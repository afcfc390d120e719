//! A token that ran away: codes in a row show where it is (RFC 4226 section 7.4, RFC 6238 section 6; V-12, V-13).

use crate::matching::last_match;
use crate::timed::{DRIFT_MAX, step_at};
use domain::{CodeAlgorithm, CodeForm, PresentedCode, Secret};

/// So far ahead a counter is sought.
pub const RESYNC_WINDOW: u64 = 100;

/// Where `codes`, two or three in a row, end: the counter of the last one. `next` is the counter of the next code that counts.
pub fn resync_counted(
    seed: &Secret,
    algorithm: CodeAlgorithm,
    digits: u8,
    codes: &[PresentedCode],
    next: u64,
) -> Option<u64> {
    in_a_row(seed, algorithm, digits, codes, next..=next.saturating_add(RESYNC_WINDOW))
}

/// The same by the clock: the step of the last code, and how many steps the token runs ahead.
pub fn resync_timed(
    seed: &Secret,
    form: CodeForm,
    codes: &[PresentedCode],
    now_unix_ms: i64,
    last_step: u64,
) -> Option<(u64, i32)> {
    let present = step_at(form, now_unix_ms);
    let reach = DRIFT_MAX.unsigned_abs().into();
    let earliest = present.saturating_sub(reach).max(last_step.saturating_add(1));
    let step = in_a_row(seed, form.algorithm(), form.digits(), codes, earliest..=present.saturating_add(reach))?;
    let drift = i128::from(step) - i128::from(present);
    Some((step, (drift as i32).clamp(-DRIFT_MAX, DRIFT_MAX)))
}

/// The counter whose code this is, where it may be the first of a row: one such code proves nothing yet.
pub fn first_of_row(
    seed: &Secret,
    algorithm: CodeAlgorithm,
    digits: u8,
    code: &PresentedCode,
    next: u64,
) -> Option<u64> {
    last_match(seed, algorithm, digits, code, next..=next.saturating_add(RESYNC_WINDOW))
}

/// The counter after `first`, if this is its code.
pub fn second_of_row(
    seed: &Secret,
    algorithm: CodeAlgorithm,
    digits: u8,
    code: &PresentedCode,
    first: u64,
) -> Option<u64> {
    last_match(seed, algorithm, digits, code, std::iter::once(first.checked_add(1)?))
}

/// The last counter of the row that begins within `starts`; the first such row. One code alone is no row: among a hundred counters it
/// would match by chance too often.
fn in_a_row(
    seed: &Secret,
    algorithm: CodeAlgorithm,
    digits: u8,
    codes: &[PresentedCode],
    starts: std::ops::RangeInclusive<u64>,
) -> Option<u64> {
    if !(2..=3).contains(&codes.len()) {
        return None;
    }
    let mut found = None;
    for start in starts {
        let end = start.saturating_add(codes.len() as u64 - 1);
        let all = codes.iter().zip(start..=end).fold(true, |all, (code, counter)| {
            all & last_match(seed, algorithm, digits, code, std::iter::once(counter)).is_some()
        });
        if all && found.is_none() {
            found = Some(end);
        }
    }
    found
}
