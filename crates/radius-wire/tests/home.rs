//! Any order of requests, answers, losses, forgeries and waits against a home server's port (R-81 to R-85, B-15).

#[path = "model/home.rs"]
mod model;

use proptest::prelude::*;

/// Octets for [`model::run`]: mostly asking, answering and letting time pass, as it is in life.
fn any_history() -> impl Strategy<Value = Vec<u8>> {
    let step =
        (prop::sample::select(vec![0u8, 0, 0, 0, 0, 0, 1, 2, 2, 2, 3, 3, 4, 4, 4, 4, 4, 5, 5, 5, 6, 7]), any::<u8>());
    (0u8..32, prop::collection::vec(step, 0..120))
        .prop_map(|(kind, steps)| [kind].into_iter().chain(steps.into_iter().flat_map(|(a, b)| [a, b])).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_request_ends_once_and_only_what_is_genuine_counts(history in any_history()) {
        model::run(&history);
    }
}
