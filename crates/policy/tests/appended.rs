//! L-50, L-51, L-55, B-62 as a table. The bind that follows from an answer is the oracle: at most one, never an empty one.

use domain::settings::{Appended, AppendedForm};
use policy::appended::{Rule, Split, split};
use proptest::prelude::*;

const COMMA: AppendedForm = AppendedForm::Separator { sign: ',' };
const LAST: AppendedForm = AppendedForm::LastDigits;
const SIX: &[u32] = &[6];

/// What the password would be bound as, and the code. `None`: no bind.
fn read(appended: Appended, form: AppendedForm, digits: &[u32], typed: &[u8]) -> Found {
    match split(Rule { appended, form }, digits, typed) {
        Split::Code { head, code } => Found::Code(head.to_vec(), code.to_vec()),
        Split::Whole => Found::Whole,
        Split::NoMatch => Found::NoMatch,
        Split::EmptyPassword => Found::Empty,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Code(Vec<u8>, Vec<u8>),
    Whole,
    NoMatch,
    Empty,
}

fn code(head: impl AsRef<[u8]>, code: impl AsRef<[u8]>) -> Found {
    Found::Code(head.as_ref().to_vec(), code.as_ref().to_vec())
}

#[test]
fn a_separator_splits_at_its_last_place_if_a_code_of_the_user_follows() {
    // L-51, B-62: (typed, found). `Whole` stands for no match, which `required` turns into a refusal.
    let six_and_eight: &[u32] = &[6, 8];
    let cases: &[(AppendedForm, &[u32], &str, Found)] = &[
        (COMMA, SIX, "p,123456", code("p", "123456")),
        (COMMA, SIX, "p,,123456", code("p,", "123456")),
        (COMMA, SIX, "a,b,123456", code("a,b", "123456")),
        (COMMA, SIX, "p,111111,123456", code("p,111111", "123456")),
        (COMMA, SIX, ",123456", Found::Empty),
        (COMMA, SIX, ",,123456", code(",", "123456")),
        (COMMA, SIX, "123456", Found::Whole),
        (COMMA, SIX, "p,push", Found::Whole),
        (COMMA, SIX, "p,PUSH ", Found::Whole),
        (COMMA, SIX, "p,１２３４５６", code("p", "１２３４５６")),
        (COMMA, SIX, "p,٠١٢٣٤٥", code("p", "٠١٢٣٤٥")),
        (COMMA, SIX, "p, 123 456 ", code("p", " 123 456 ")),
        (COMMA, SIX, "p ,123456", code("p ", "123456")),
        (COMMA, SIX, "pässwörd,123456", code("pässwörd", "123456")),
        (COMMA, SIX, "p，123456", Found::Whole),
        (COMMA, SIX, "p,12345", Found::Whole),
        (COMMA, SIX, "p,1234567", Found::Whole),
        (COMMA, SIX, "p,12345678", Found::Whole),
        (COMMA, SIX, "p,12345é", Found::Whole),
        (COMMA, SIX, "p,123456x", Found::Whole),
        (COMMA, SIX, "p,123456,", Found::Whole),
        (COMMA, SIX, "p,", Found::Whole),
        (COMMA, SIX, ",", Found::Whole),
        (COMMA, SIX, "p,123456\0", Found::Whole),
        (COMMA, six_and_eight, "p,12345678", code("p", "12345678")),
        (COMMA, six_and_eight, "p,123456", code("p", "123456")),
        (COMMA, six_and_eight, "p,1234567", Found::Whole),
        (AppendedForm::Separator { sign: '-' }, SIX, "p-123456", code("p", "123456")),
        (AppendedForm::Separator { sign: '-' }, SIX, "p-123-456", Found::Whole),
        (AppendedForm::Separator { sign: '€' }, SIX, "p€€123456", code("p€", "123456")),
    ];
    for (form, digits, typed, found) in cases {
        assert_eq!(read(Appended::Optional, *form, digits, typed.as_bytes()), *found, "optional {typed:?}");
        let required = if *found == Found::Whole { &Found::NoMatch } else { found };
        assert_eq!(read(Appended::Required, *form, digits, typed.as_bytes()), *required, "required {typed:?}");
        assert_eq!(read(Appended::Off, *form, digits, typed.as_bytes()), Found::Whole, "off {typed:?}");
    }
}

#[test]
fn the_last_digits_are_a_code_if_the_user_has_codes_of_that_length() {
    // L-55: passwords of only digits, really ending in digits, non-ASCII
    let (eight, both): (&[u32], &[u32]) = (&[8], &[6, 8]);
    let cases: &[(&[u32], &str, Found)] = &[
        (SIX, "password123456", code("password", "123456")),
        (SIX, "password42123456", code("password42", "123456")),
        (SIX, "secret2024", Found::Whole),
        (SIX, "12345678", code("12", "345678")),
        (SIX, "123456", Found::Empty),
        (SIX, "12345", Found::Whole),
        (SIX, "pässwörd123456", code("pässwörd", "123456")),
        (SIX, "p１２３４５６", code("p", "１２３４５６")),
        (SIX, "p,123456", code("p,", "123456")),
        (SIX, "p123456 ", Found::Whole),
        (SIX, "p123 456", Found::Whole),
        (SIX, "p12345é", Found::Whole),
        (SIX, "push", Found::Whole),
        (eight, "p123456", Found::Whole),
        (eight, "p12345678", code("p", "12345678")),
        (both, "p123456", code("p", "123456")),
        (both, "p1234567", code("p1", "234567")),
        (both, "p12345678", code("p", "12345678")),
        (both, "p123456789", code("p1", "23456789")),
        (both, "12345678", Found::Empty),
    ];
    for (digits, typed, found) in cases {
        assert_eq!(read(Appended::Optional, LAST, digits, typed.as_bytes()), *found, "optional {typed:?}");
        let required = if *found == Found::Whole { &Found::NoMatch } else { found };
        assert_eq!(read(Appended::Required, LAST, digits, typed.as_bytes()), *required, "required {typed:?}");
        assert_eq!(read(Appended::Off, LAST, digits, typed.as_bytes()), Found::Whole, "off {typed:?}");
    }
}

#[test]
fn an_empty_password_is_refused_under_every_rule() {
    // L-10, R-27
    for appended in [Appended::Off, Appended::Optional, Appended::Required] {
        for form in [COMMA, LAST] {
            for digits in [&[][..], SIX] {
                assert_eq!(read(appended, form, digits, b""), Found::Empty);
            }
        }
    }
}

#[test]
fn who_has_no_token_appended_no_code() {
    // L-51; FV-40 and FV-41 stay reachable where a code is demanded
    for appended in [Appended::Optional, Appended::Required] {
        assert_eq!(read(appended, COMMA, &[], b"p,123456"), Found::Whole);
        assert_eq!(read(appended, LAST, &[], b"p123456"), Found::Whole);
    }
}

#[test]
fn a_password_that_is_not_utf_8_is_split_all_the_same() {
    // L-55
    assert_eq!(read(Appended::Required, COMMA, SIX, b"p\xff\xfe,123456"), code(b"p\xff\xfe", "123456"));
    assert_eq!(read(Appended::Required, LAST, SIX, b"p\xff123456"), code(b"p\xff", "123456"));
    assert_eq!(read(Appended::Required, COMMA, SIX, b"p,12345\xff"), Found::NoMatch);
    assert_eq!(read(Appended::Required, LAST, SIX, b"p123456\xff"), Found::NoMatch);
    // cut in the middle of a full-width digit
    assert_eq!(read(Appended::Required, LAST, SIX, b"p12345\xef\xbc"), Found::NoMatch);
}

#[test]
fn the_longest_radius_password_is_split() {
    // L-55: 127 and 128 octets, the limit of RFC 2865 section 5.2
    for length in [127, 128] {
        let head = "x".repeat(length - 7);
        assert_eq!(read(Appended::Required, COMMA, SIX, format!("{head},123456").as_bytes()), code(&head, "123456"));
    }
}

proptest! {
    #[test]
    fn a_split_loses_nothing_and_never_leaves_an_empty_password(
        typed in proptest::collection::vec(prop_oneof![3 => b'0'..=b'9', 1 => Just(b','), 2 => any::<u8>()], 0..24),
        required in any::<bool>(),
        last in any::<bool>(),
        digits in proptest::sample::subsequence(vec![6_u32, 7, 8], 0..=3),
    ) {
        let appended = if required { Appended::Required } else { Appended::Optional };
        let form = if last { LAST } else { COMMA };
        if let Split::Code { head, code } = split(Rule { appended, form }, &digits, &typed) {
            prop_assert!(!head.is_empty());
            let shown = domain::PresentedCode::parse(code).expect("a code");
            prop_assert!(digits.contains(&(shown.digits() as u32)));
            let between: &[u8] = if last { b"" } else { b"," };
            prop_assert_eq!([head, between, code].concat(), typed);
        }
    }
}
