//! May a prompt go out now (V-23)? Pure: the user's prompts of the last day and the limits in, a no with its end out.
//!
//! What interrupts a person for nothing counts as refused, whoever gave up: an attacker who hangs up before the answer would
//! otherwise ring the phone as often as he likes. A code still works all the while.

use proto::user_store::{OpenPromptRequest, PromptResult};

pub const DAY_MS: i64 = 24 * 3_600_000;
const HOUR_MS: i64 = 3_600_000;
/// So many for nothing, ...
const FOR_NOTHING_MAX: usize = 3;
/// ... within this time, ...
const FOR_NOTHING_WINDOW_MS: i64 = 10 * 60_000;
/// ... and none for this time after the last of them.
const FOR_NOTHING_QUIET_MS: i64 = 15 * 60_000;
/// Where a caller names no limit: the defaults of FV-24.
const PER_DAY_DEFAULT: u32 = 50;
const CALLS_PER_HOUR_DEFAULT: u32 = 10;

/// A prompt of the past.
#[derive(Debug, Clone)]
pub struct Past {
    pub is_call: bool,
    /// Empty while open.
    pub outcome: String,
    pub begun_ms: i64,
    pub answered_ms: i64,
    pub expires_ms: i64,
}

pub struct Limits {
    cool_down_ms: i64,
    per_day: usize,
    /// Where this one is a call.
    calls_per_hour: Option<usize>,
}

impl Limits {
    pub fn of(request: &OpenPromptRequest, is_call: bool) -> Self {
        let or = |given: u32, default: u32| usize::try_from(if given == 0 { default } else { given });
        Self {
            cool_down_ms: i64::from(request.cool_down_seconds) * 1000,
            per_day: or(request.prompts_per_day, PER_DAY_DEFAULT).unwrap_or(usize::MAX),
            calls_per_hour: is_call.then(|| or(request.calls_per_hour, CALLS_PER_HOUR_DEFAULT).unwrap_or(usize::MAX)),
        }
    }

    /// `past` are the prompts of the last day, the newest first; one that is open past its time counts as expired.
    pub fn refuse(&self, past: &mut [Past], now_ms: i64) -> Option<(PromptResult, i64)> {
        for it in past.iter_mut().filter(|it| it.outcome.is_empty()) {
            if it.expires_ms > now_ms {
                return Some((PromptResult::Pending, it.expires_ms));
            }
            it.outcome = "expired".into();
            it.answered_ms = it.expires_ms;
        }
        let refused = past.iter().filter(|it| matches!(it.outcome.as_str(), "denied" | "fraud"));
        let quiet_ms = refused.map(|it| it.answered_ms.saturating_add(self.cool_down_ms)).max();
        let quiet_ms = quiet_ms.into_iter().chain(quiet_after_nothing(past)).max();
        if let Some(until_ms) = quiet_ms.filter(|until_ms| *until_ms > now_ms) {
            return Some((PromptResult::CoolingDown, until_ms));
        }
        let calls = past.iter().filter(|it| it.is_call).map(|it| it.begun_ms);
        let calls = self.calls_per_hour.and_then(|most| full(calls, most, HOUR_MS, now_ms));
        let all = full(past.iter().map(|it| it.begun_ms), self.per_day, DAY_MS, now_ms);
        calls.max(all).map(|until_ms| (PromptResult::RateLimited, until_ms))
    }
}

/// The end of the quiet after too many for nothing.
fn quiet_after_nothing(past: &[Past]) -> Option<i64> {
    let mut ends: Vec<i64> = past.iter().filter(|it| is_for_nothing(&it.outcome)).map(|it| it.answered_ms).collect();
    ends.sort_unstable();
    let crowded =
        ends.windows(FOR_NOTHING_MAX).filter(|ends| ends[FOR_NOTHING_MAX - 1] - ends[0] <= FOR_NOTHING_WINDOW_MS);
    crowded.map(|ends| ends[FOR_NOTHING_MAX - 1].saturating_add(FOR_NOTHING_QUIET_MS)).max()
}

/// The person was interrupted and nothing came of it. What never reached them does not count, nor a sign-in they cancelled. A telephone
/// that is busy may be one whose owner pressed the call away, and behind an answering machine it rang. What its device withdrew to ask
/// anew rang as well: whoever has the password could do that all day.
fn is_for_nothing(outcome: &str) -> bool {
    matches!(
        outcome,
        "denied"
            | "fraud"
            | "wrong_number"
            | "expired"
            | "withdrawn"
            | "no_answer"
            | "no_keys_pressed"
            | "hung_up"
            | "busy"
            | "voicemail"
    )
}

/// `times`, the newest first: if there are as many as allowed within `window_ms`, when the next one may be.
fn full(times: impl Iterator<Item = i64>, most: usize, window_ms: i64, now_ms: i64) -> Option<i64> {
    let inside = times.filter(|time| time.saturating_add(window_ms) > now_ms);
    inside.take(most).nth(most.checked_sub(1)?).map(|oldest| oldest.saturating_add(window_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_000 * DAY_MS;
    const SECOND_MS: i64 = 1000;
    const MINUTE_MS: i64 = 60 * SECOND_MS;

    fn limits(is_call: bool) -> Limits {
        let request = OpenPromptRequest {
            cool_down_seconds: 60,
            prompts_per_day: 50,
            calls_per_hour: 10,
            ..OpenPromptRequest::default()
        };
        Limits::of(&request, is_call)
    }

    /// Answered so long ago, begun half a minute before that.
    fn past(outcome: &str, ago_ms: i64) -> Past {
        let answered_ms = NOW_MS - ago_ms;
        let begun_ms = answered_ms - 30 * SECOND_MS;
        Past { is_call: false, outcome: outcome.into(), begun_ms, answered_ms, expires_ms: begun_ms + 110 * SECOND_MS }
    }

    #[test]
    fn an_open_prompt_stands_until_its_time_is_over_and_counts_as_expired_then() {
        // V-23
        let open = |expires_ms| Past { expires_ms, answered_ms: 0, ..past("", 0) };
        let refused = limits(false).refuse(&mut [open(NOW_MS + 1)], NOW_MS);
        assert_eq!(refused, Some((PromptResult::Pending, NOW_MS + 1)));
        assert_eq!(limits(false).refuse(&mut [open(NOW_MS)], NOW_MS), None);
        let mut third = [open(NOW_MS), past("expired", MINUTE_MS), past("withdrawn", 2 * MINUTE_MS)];
        let refused = limits(false).refuse(&mut third, NOW_MS);
        assert_eq!(refused, Some((PromptResult::CoolingDown, NOW_MS + 15 * MINUTE_MS)));
    }

    #[test]
    fn after_a_refusal_it_is_quiet_for_the_cool_down() {
        // FV-24
        for (outcome, quiet) in
            [("denied", true), ("fraud", true), ("approved", false), ("cancelled", false), ("expired", false)]
        {
            let refused = limits(false).refuse(&mut [past(outcome, 59_999)], NOW_MS);
            assert_eq!(refused, quiet.then_some((PromptResult::CoolingDown, NOW_MS + 1)), "{outcome}");
            assert_eq!(limits(false).refuse(&mut [past(outcome, 60_000)], NOW_MS), None, "{outcome}");
        }
        let none = Limits { cool_down_ms: 0, ..limits(false) };
        assert_eq!(none.refuse(&mut [past("denied", 1)], NOW_MS), None);
    }

    #[test]
    fn three_for_nothing_within_ten_minutes_are_followed_by_fifteen_of_quiet() {
        // V-23
        let three = |outcomes: [&str; 3], first_ago_ms: i64| {
            let mut past =
                [past(outcomes[0], MINUTE_MS), past(outcomes[1], 5 * MINUTE_MS), past(outcomes[2], first_ago_ms)];
            limits(false).refuse(&mut past, NOW_MS)
        };
        let quiet = Some((PromptResult::CoolingDown, NOW_MS + 14 * MINUTE_MS));
        for outcomes in [
            ["expired", "expired", "expired"],
            ["withdrawn", "denied", "wrong_number"],
            ["no_answer", "hung_up", "no_keys_pressed"],
            ["busy", "voicemail", "busy"],
        ] {
            assert_eq!(three(outcomes, 11 * MINUTE_MS), quiet, "{outcomes:?}");
            assert_eq!(three(outcomes, 11 * MINUTE_MS + 1), None, "{outcomes:?}");
        }
        for outcomes in [["expired", "approved", "expired"], ["unreachable", "unreachable", "provider_error"]] {
            assert_eq!(three(outcomes, 9 * MINUTE_MS), None, "{outcomes:?}");
        }
    }

    #[test]
    fn calls_of_an_hour_and_prompts_of_a_day_have_an_end() {
        // FV-24
        let mut calls: Vec<Past> =
            (0..10).map(|at| Past { is_call: true, ..past("approved", at * MINUTE_MS) }).collect();
        let oldest_ms = calls[9].begun_ms;
        assert_eq!(limits(true).refuse(&mut calls, NOW_MS), Some((PromptResult::RateLimited, oldest_ms + HOUR_MS)));
        assert_eq!(limits(false).refuse(&mut calls, NOW_MS), None, "a push is no call");
        assert_eq!(limits(true).refuse(&mut calls[..9], NOW_MS), None);
        let mut day: Vec<Past> = (0..50).map(|at| past("approved", at * 20 * MINUTE_MS)).collect();
        let oldest_ms = day[49].begun_ms;
        assert_eq!(limits(false).refuse(&mut day, NOW_MS), Some((PromptResult::RateLimited, oldest_ms + DAY_MS)));
        assert_eq!(limits(false).refuse(&mut day[1..], NOW_MS), None);
    }

    #[test]
    fn a_flood_of_right_passwords_asks_three_times_in_ten_minutes() {
        // V-23, B-85: 1000 requests, each client hangs up at once, or waits and nobody answers
        for outcome in ["withdrawn", "expired", "denied"] {
            let mut history: Vec<Past> = Vec::new();
            for request in 0..1000 {
                let now_ms = NOW_MS + request * 600;
                if limits(false).refuse(&mut history, now_ms).is_none() {
                    let new = Past {
                        is_call: false,
                        outcome: outcome.into(),
                        begun_ms: now_ms,
                        answered_ms: now_ms + 500,
                        expires_ms: now_ms + 110_000,
                    };
                    history.insert(0, new);
                }
            }
            assert!(history.len() <= 3, "{outcome}: {}", history.len());
        }
    }
}
