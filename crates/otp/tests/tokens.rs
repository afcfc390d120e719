//! Tokens as they behave in pockets: clocks that run away, buttons pressed for nothing, codes in a row. `oathtool` as an oracle that
//! is not ours.

use domain::{CodeAlgorithm, CodeForm, PresentedCode, Secret};
use otp::{
    BEHIND, DRIFT_MAX, LOOK_AHEAD, RESYNC_WINDOW, Verdict, first_of_row, hotp, learned_drift, resync_counted,
    resync_timed, second_of_row, step_at, verify, verify_counted,
};
use proptest::prelude::*;
use std::process::Command;

const NOW: i64 = 1_790_000_000_000;
const SHA1: CodeAlgorithm = CodeAlgorithm::Sha1;

fn seed() -> Secret {
    Secret::new(b"12345678901234567890".as_slice())
}

fn shown(counter: u64) -> PresentedCode {
    PresentedCode::parse(&hotp(&seed(), SHA1, counter, 6)[..6]).expect("a code")
}

fn row(from: u64, length: u64) -> Vec<PresentedCode> {
    (from..from + length).map(shown).collect()
}

#[test]
fn a_token_that_runs_away_slowly_is_followed_to_ten_steps_and_no_further() {
    // V-12: it loses a step between any two logins
    let form = CodeForm::COMMON;
    let (mut drift, mut last, mut followed) = (0, 0, 0);
    for login in 1..=20_i64 {
        let now = NOW + login * 86_400_000;
        let step = step_at(form, now).saturating_add_signed(-login);
        match verify(&seed(), form, &shown(step), now, drift, last) {
            Verdict::Match(matched) => {
                assert_eq!(matched, step);
                drift = learned_drift(form, now, drift, matched);
                last = matched;
                followed = login;
            }
            _ => break,
        }
    }
    assert_eq!((drift, followed), (-DRIFT_MAX, i64::from(DRIFT_MAX) + 1), "one more is in the window, and no more");
}

#[test]
fn a_drift_that_is_gone_decays() {
    // V-12: a code typed late moves it by one step; codes in time bring it back
    let form = CodeForm::COMMON;
    let present = step_at(form, NOW);
    let mut drift = learned_drift(form, NOW, 0, present - 1);
    assert_eq!(drift, -1);
    assert_eq!(learned_drift(form, NOW, 5, present), 4);
    drift = learned_drift(form, NOW, drift, present);
    assert_eq!(drift, 0);
    for wild in [i32::MIN + 1, -1000, 1000, i32::MAX - 1] {
        assert!(learned_drift(form, NOW, wild, present).abs() <= DRIFT_MAX);
    }
}

#[test]
fn a_counter_may_run_ahead_by_ten_and_never_back() {
    // V-13, RFC 4226 section 7.4
    let next = 100;
    for (counter, expected) in [
        (next, Verdict::Match(next)),
        (next + LOOK_AHEAD - 1, Verdict::Match(next + LOOK_AHEAD - 1)),
        (next + LOOK_AHEAD, Verdict::NoMatch),
        (next - 1, Verdict::Reused(next - 1)),
        (next - BEHIND, Verdict::Reused(next - BEHIND)),
        (next - BEHIND - 1, Verdict::NoMatch),
    ] {
        assert_eq!(verify_counted(&seed(), SHA1, 6, &shown(counter), next), expected, "{counter}");
    }
    assert_eq!(verify_counted(&seed(), SHA1, 6, &shown(0), 0), Verdict::Match(0), "the first code of a new token");
    assert_eq!(verify_counted(&seed(), SHA1, 6, &shown(u64::MAX - 1), u64::MAX - 1), Verdict::Match(u64::MAX - 1));
}

#[test]
fn codes_in_a_row_find_a_counter_within_a_hundred() {
    // V-13: two or three
    let next = 7;
    for (start, length, found) in [
        (next, 2, Some(next + 1)),
        (next + RESYNC_WINDOW, 2, Some(next + RESYNC_WINDOW + 1)),
        (next + RESYNC_WINDOW, 3, Some(next + RESYNC_WINDOW + 2)),
        (next + RESYNC_WINDOW + 1, 2, None),
        (next - 1, 2, None),
        (next + 5, 1, None),
        (next + 5, 4, None),
    ] {
        assert_eq!(resync_counted(&seed(), SHA1, 6, &row(start, length), next), found, "{start} {length}");
    }
    let apart = [shown(next + 3), shown(next + 5)];
    assert_eq!(resync_counted(&seed(), SHA1, 6, &apart, next), None, "codes that are not in a row");
    assert_eq!(resync_counted(&seed(), SHA1, 6, &[shown(next + 3), shown(next + 3)], next), None, "the same twice");
}

#[test]
fn one_code_may_begin_a_row_and_the_next_one_ends_it() {
    // V-13: the same reach as two codes that come together
    let next = 7;
    for (counter, begins) in
        [(next, true), (next + RESYNC_WINDOW, true), (next + RESYNC_WINDOW + 1, false), (next - 1, false)]
    {
        let first = first_of_row(&seed(), SHA1, 6, &shown(counter), next);
        assert_eq!(first, begins.then_some(counter), "{counter}");
    }
    for (counter, ends) in [(9, false), (10, true), (11, false)] {
        assert_eq!(second_of_row(&seed(), SHA1, 6, &shown(counter), 9), ends.then_some(counter));
    }
    assert_eq!(second_of_row(&seed(), SHA1, 6, &shown(0), u64::MAX), None);
}

#[test]
fn codes_in_a_row_find_a_clock_within_ten_steps_and_spend_nothing_twice() {
    // V-12, RFC 6238 section 6
    let form = CodeForm::COMMON;
    let present = step_at(form, NOW);
    for (offset, last, found) in [
        (0_i64, 0, Some((present + 1, 1))),
        (-8, 0, Some((present - 7, -7))),
        (9, 0, Some((present + 10, 10))),
        // Found, but followed no further than ten steps.
        (10, 0, Some((present + 11, 10))),
        (11, 0, None),
        (-11, 0, None),
        (-3, present - 3, None),
        (-3, present - 4, Some((present - 2, -2))),
    ] {
        let codes = row(present.saturating_add_signed(offset), 2);
        assert_eq!(resync_timed(&seed(), form, &codes, NOW, last), found, "{offset}");
    }
}

proptest! {
    #[test]
    fn a_resync_never_goes_back_and_ends_at_the_last_code(next in 0_u64..1_000_000, ahead in 0_u64..=RESYNC_WINDOW) {
        // V-13
        let found = resync_counted(&seed(), SHA1, 6, &row(next + ahead, 3), next).expect("within the window");
        prop_assert!(found >= next + 2 && found <= next + ahead + 2);
        // after it, the next code counts and the last one does not
        prop_assert_eq!(verify_counted(&seed(), SHA1, 6, &shown(found + 1), found + 1), Verdict::Match(found + 1));
        let again = verify_counted(&seed(), SHA1, 6, &shown(found), found + 1);
        prop_assert!(!matches!(again, Verdict::Match(counter) if counter <= found));
    }
}

#[test]
fn oathtool_shows_the_same_codes() {
    // RFC 4226, RFC 6238: an implementation that is not ours
    let hex = "3132333435363738393031323334353637383930";
    let long = format!("{}{}", hex, &hex[..24]);
    let oath = |arguments: &[&str]| {
        let output = Command::new("oathtool").args(arguments).output().expect("oathtool is installed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("ASCII").trim().to_owned()
    };
    let ours = |seed: &str, algorithm, counter, digits: u8| {
        let seed = Secret::new(data_encoding::HEXLOWER.decode(seed.as_bytes()).expect("hexadecimal"));
        String::from_utf8(hotp(&seed, algorithm, counter, digits)[..usize::from(digits)].to_vec()).expect("ASCII")
    };
    for digits in 6..=8_u8 {
        for counter in [0, 1, 99, 4_294_967_296, 9_000_000_000] {
            let (digit_text, counter_text) = (digits.to_string(), counter.to_string());
            let theirs = oath(&["--hotp", "-d", &digit_text, "-c", &counter_text, hex]);
            assert_eq!(ours(hex, SHA1, counter, digits), theirs, "{digits} {counter}");
        }
    }
    for (name, algorithm, seed) in [
        ("sha1", CodeAlgorithm::Sha1, hex),
        ("sha256", CodeAlgorithm::Sha256, &long),
        ("sha512", CodeAlgorithm::Sha512, &long),
    ] {
        for period in [30_u64, 60] {
            for seconds in [0_u64, 59, 1_111_111_111, 1_790_000_000] {
                let form = CodeForm::new(algorithm, 8, period as u32).expect("valid");
                let (mode, step, now) = (format!("--totp={name}"), format!("{period}s"), format!("@{seconds}"));
                let theirs = oath(&[&mode, "-d", "8", "-s", &step, "-N", &now, seed]);
                let counter = step_at(form, seconds as i64 * 1000);
                assert_eq!(ours(seed, algorithm, counter, 8), theirs, "{name} {period} {seconds}");
            }
        }
    }
}
