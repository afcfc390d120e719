//! HOTP: codes by a counter (RFC 4226), which runs ahead when the button is pressed for nothing (V-13).

use crate::matching::{Verdict, last_match};
use domain::{CodeAlgorithm, PresentedCode, Secret};

/// Codes after the expected one that count too (RFC 4226 section 7.4).
pub const LOOK_AHEAD: u64 = 10;
/// Spent codes that are known as such, so that a person hears "used before", not "wrong".
pub const BEHIND: u64 = 5;

/// Compares a code with those of the counters from `next` on. The counter never goes back.
pub fn verify_counted(
    seed: &Secret,
    algorithm: CodeAlgorithm,
    digits: u8,
    presented: &PresentedCode,
    next: u64,
) -> Verdict {
    let counters = next.saturating_sub(BEHIND)..next.saturating_add(LOOK_AHEAD);
    match last_match(seed, algorithm, digits, presented, counters) {
        None => Verdict::NoMatch,
        Some(counter) if counter >= next => Verdict::Match(counter),
        Some(counter) => Verdict::Reused(counter),
    }
}
