//! Comparing a code with those of several counters, in constant time over all of them.

use crate::hotp;
use domain::{CodeAlgorithm, PresentedCode, Secret};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// What a presented code is worth against one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The code of this step or counter, which is later than the last accepted one.
    Match(u64),
    /// The code of this one, which is already spent (V-11).
    Reused(u64),
    NoMatch,
}

/// The last of `counters` whose code this is.
///
/// Every candidate is computed and compared in constant time, whichever one matches (V-16). Where two show the same digits the
/// later one counts, so that accepting the code spends both.
pub(crate) fn last_match(
    seed: &Secret,
    algorithm: CodeAlgorithm,
    digits: u8,
    presented: &PresentedCode,
    counters: impl Iterator<Item = u64>,
) -> Option<u64> {
    let mut found = Choice::from(0);
    let mut last = 0;
    for candidate in counters {
        let expected = hotp(seed, algorithm, candidate, digits);
        let equal = expected.ct_eq(presented.expose_padded());
        last.conditional_assign(&candidate, equal);
        found |= equal;
    }
    bool::from(found).then_some(last)
}
