//! The published vectors of RFC 4226 and RFC 6238, and what must hold for every seed, time and code.

use domain::{CodeAlgorithm, CodeForm, PresentedCode, Secret};
use otp::{Verdict, WINDOW, hotp, step_at, verify};
use proptest::prelude::*;

const VECTORS: &str = include_str!("../../../tests/vectors/otp.vec");

#[test]
fn codes_are_those_of_rfc_4226_and_rfc_6238() {
    let (mut counted, mut timed) = (0, 0);
    for line in VECTORS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["hotp", seed, counter, digits, code] => {
                let made = hotp(&hex(seed), CodeAlgorithm::Sha1, number(counter), number(digits) as u8);
                assert_eq!(text(&made), code, "{line}");
                counted += 1;
            }
            ["totp", algorithm, seed, seconds, code] => {
                let algorithm = CodeAlgorithm::from_code(algorithm).expect("a known algorithm");
                let form = CodeForm::new(algorithm, 8, 30).expect("valid");
                let now_ms = number(seconds) as i64 * 1000;
                let step = number(seconds) / 30;
                assert_eq!(step_at(form, now_ms), step, "{line}");
                assert_eq!(text(&hotp(&hex(seed), algorithm, step, 8)), code, "{line}");
                assert_eq!(verify(&hex(seed), form, &typed(code), now_ms, 0, 0), Verdict::Match(step), "{line}");
                timed += 1;
            }
            _ => panic!("not a vector: {line}"),
        }
    }
    assert_eq!((counted, timed), (10, 18), "a vector is missing");
}

#[test]
fn the_code_before_and_after_is_accepted_and_the_second_next_is_not() {
    // V-10
    let (seed, form, now_ms) = (seed(), CodeForm::COMMON, 1_790_000_000_000);
    let present = step_at(form, now_ms);
    for (offset, accepted) in [(-2_i64, false), (-1, true), (0, true), (1, true), (2, false)] {
        let step = present.saturating_add_signed(offset);
        let expected = if accepted { Verdict::Match(step) } else { Verdict::NoMatch };
        assert_eq!(verify(&seed, form, &code_of(&seed, form, step), now_ms, 0, 0), expected, "offset {offset}");
    }
}

#[test]
fn a_code_of_a_spent_step_is_reused_however_it_is_written() {
    // V-11, B-81
    let (seed, form, now_ms) = (seed(), CodeForm::COMMON, 1_790_000_000_000);
    let step = step_at(form, now_ms);
    let code = text(&hotp(&seed, form.algorithm(), step, 6)).to_owned();
    let full_width: String =
        code.bytes().map(|digit| char::from_u32(0xff10 + u32::from(digit - b'0')).expect("a digit")).collect();
    for variant in [code.clone(), format!(" {code} "), format!("{}-{}", &code[..3], &code[3..]), full_width] {
        let presented = typed(&variant);
        assert_eq!(verify(&seed, form, &presented, now_ms, 0, step - 1), Verdict::Match(step), "{variant}");
        assert_eq!(verify(&seed, form, &presented, now_ms, 0, step), Verdict::Reused(step), "{variant}");
        // the next step's mark spends this one too
        assert_eq!(verify(&seed, form, &presented, now_ms, 0, step + 1), Verdict::Reused(step), "{variant}");
    }
}

#[test]
fn a_code_of_another_length_never_matches() {
    // B-81
    let (seed, now_ms) = (seed(), 1_790_000_000_000);
    for digits in 6..=8 {
        let form = CodeForm::new(CodeAlgorithm::Sha1, digits, 30).expect("valid");
        let right = text(&hotp(&seed, form.algorithm(), step_at(form, now_ms), form.digits())).to_owned();
        for wrong in [&right[1..], &right[..right.len() - 1]] {
            assert_eq!(verify(&seed, form, &typed(wrong), now_ms, 0, 0), Verdict::NoMatch);
        }
        if digits < 8 {
            assert_eq!(verify(&seed, form, &typed(&format!("0{right}")), now_ms, 0, 0), Verdict::NoMatch);
        }
    }
}

#[test]
fn the_edges_of_time_are_steps_like_any_other() {
    // B-86: 1970 and before, 2038, 2106, far beyond
    let (seed, form) = (seed(), CodeForm::COMMON);
    for seconds in [-1, 0, 29, 30, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000, i64::MAX / 1000] {
        let now_ms = seconds * 1000;
        let step = step_at(form, now_ms);
        let verdict = verify(&seed, form, &code_of(&seed, form, step), now_ms, 0, 0);
        // step 0 counts as spent from the start: "no code accepted yet" is written 0
        let expected = if step == 0 { Verdict::Reused(0) } else { Verdict::Match(step) };
        assert_eq!(verdict, expected, "{seconds} s");
    }
}

proptest! {
    #[test]
    fn what_matches_lies_in_the_window_and_shows_the_presented_digits(
        seed in proptest::collection::vec(any::<u8>(), 16..64),
        algorithm in proptest::sample::select(CodeAlgorithm::ALL.to_vec()),
        digits in 6_u32..=8,
        period in proptest::sample::select(vec![30_u32, 60]),
        now_ms in 0_i64..8_000_000_000_000,
        last_step in 0_u64..300_000_000,
        offset in -3_i64..=3,
        drift in -12_i32..=12,
    ) {
        let seed = Secret::new(seed);
        let form = CodeForm::new(algorithm, digits, period).expect("valid");
        let followed = i64::from(drift.clamp(-10, 10));
        let expected = step_at(form, now_ms).saturating_add_signed(followed);
        let shown = code_of(&seed, form, expected.saturating_add_signed(offset));
        match verify(&seed, form, &shown, now_ms, drift, last_step) {
            Verdict::Match(step) => {
                prop_assert!(step > last_step && step.abs_diff(expected) <= WINDOW);
                prop_assert_eq!(&hotp(&seed, algorithm, step, form.digits()), shown.expose_padded());
            }
            Verdict::Reused(step) => prop_assert!(step <= last_step && step.abs_diff(expected) <= WINDOW),
            Verdict::NoMatch => {
                let step = expected.saturating_add_signed(offset);
                prop_assert!(step.abs_diff(expected) > WINDOW, "a code of the window was not found");
            }
        }
    }

    #[test]
    fn accepting_a_code_spends_it(
        now_ms in 60_000_i64..8_000_000_000_000,
        offset in -1_i64..=1,
        later_ms in 0_i64..120_000,
    ) {
        // V-11: with the matched step as the mark, the same digits never match again by that step
        let (seed, form) = (seed(), CodeForm::COMMON);
        let shown = code_of(&seed, form, step_at(form, now_ms).saturating_add_signed(offset));
        let Verdict::Match(step) = verify(&seed, form, &shown, now_ms, 0, 0) else { panic!("a fresh code matches") };
        match verify(&seed, form, &shown, now_ms + later_ms, 0, step) {
            // the same six digits may come up again by chance, for a later step
            Verdict::Match(again) => prop_assert!(again > step),
            Verdict::Reused(_) | Verdict::NoMatch => {}
        }
    }
}

fn seed() -> Secret {
    Secret::new(b"12345678901234567890".as_slice())
}

fn code_of(seed: &Secret, form: CodeForm, step: u64) -> PresentedCode {
    typed(text(&hotp(seed, form.algorithm(), step, form.digits())))
}

fn typed(code: &str) -> PresentedCode {
    PresentedCode::parse(code.as_bytes()).expect("a code")
}

fn text(code: &[u8; 8]) -> &str {
    std::str::from_utf8(code).expect("ASCII").trim_end_matches('\0')
}

fn hex(text: &str) -> Secret {
    Secret::new(data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal"))
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}
