//! L-50, L-51, L-55, B-62 as a table. The bind that follows from an answer is the oracle: at most one, never an empty one.

use domain::Method;
use domain::settings::{Appended, AppendedForm};
use policy::appended::{Forms, Rule, Split, split};
use proptest::prelude::*;

const COMMA: AppendedForm = AppendedForm::Separator { sign: ',' };
const LAST: AppendedForm = AppendedForm::LastDigits;
const SIX: &[u32] = &[6];

fn tokens(digits: &[u32]) -> Forms {
    Forms { code_digits: digits.to_vec(), ..Forms::default() }
}

/// What the password would be bound as, and what stands behind it.
fn read(appended: Appended, form: AppendedForm, digits: &[u32], typed: &[u8]) -> Found {
    read_forms(Rule { appended, form, keywords: false }, &tokens(digits), typed)
}

fn read_forms(rule: Rule, forms: &Forms, typed: &[u8]) -> Found {
    match split(rule, forms, typed) {
        Split::Code { head, code } => Found::Code(head.to_vec(), code.to_vec()),
        Split::Method { head, wanted } => Found::Method(head.to_vec(), wanted),
        Split::Whole => Found::Whole,
        Split::NoMatch => Found::NoMatch,
        Split::EmptyPassword => Found::Empty,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Code(Vec<u8>, Vec<u8>),
    Method(Vec<u8>, Option<Method>),
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
fn a_keyword_chooses_a_method_where_the_client_and_the_user_have_it() {
    // L-51, L-55, B-62, FL-13: a password equal to a keyword, ending like one, or really holding the separator
    let phone = Forms { keywords: vec![Method::Push, Method::Call], ..tokens(SIX) };
    let chosen = |head: &str, method| Found::Method(head.as_bytes().to_vec(), method);
    let cases: &[(&str, Found)] = &[
        ("p,push", chosen("p", Some(Method::Push))),
        ("p,PUSH ", chosen("p", Some(Method::Push))),
        ("p,call", chosen("p", Some(Method::Call))),
        ("p,Phone", chosen("p", Some(Method::Call))),
        ("p,auto", chosen("p", None)),
        ("a,b,push", chosen("a,b", Some(Method::Push))),
        ("p,,push", chosen("p,", Some(Method::Push))),
        ("p,123456,push", chosen("p,123456", Some(Method::Push))),
        ("p,123456", code("p", "123456")),
        (",push", Found::Empty),
        // The user has no phone for text messages.
        ("p,sms", Found::Whole),
        ("p,passkey", Found::Whole),
        ("p,pushed", Found::Whole),
        ("p,pu sh", Found::Whole),
        ("p,ｐｕｓｈ", Found::Whole),
        ("push", Found::Whole),
        ("ppush", Found::Whole),
        ("p,push,", Found::Whole),
    ];
    for (typed, found) in cases {
        for (appended, keywords) in [
            (Appended::Optional, true),
            (Appended::Required, true),
            (Appended::Optional, false),
            (Appended::Required, false),
        ] {
            let mut expected = match found {
                Found::Method(..) if !keywords => &Found::Whole,
                found => found,
            };
            if typed == &",push" && !keywords {
                expected = &Found::Whole;
            }
            if appended == Appended::Required && *expected == Found::Whole {
                expected = &Found::NoMatch;
            }
            let rule = Rule { appended, form: COMMA, keywords };
            assert_eq!(read_forms(rule, &phone, typed.as_bytes()), *expected, "{appended:?} {keywords} {typed:?}");
        }
        let off = Rule { appended: Appended::Off, form: COMMA, keywords: true };
        assert_eq!(read_forms(off, &phone, typed.as_bytes()), Found::Whole, "off {typed:?}");
        // Without a separator no word can be told from a password that ends in it.
        let last = Rule { appended: Appended::Optional, form: LAST, keywords: true };
        assert!(!matches!(read_forms(last, &phone, typed.as_bytes()), Found::Method(..)), "last digits {typed:?}");
    }
    // Somebody without a token, but with a phone: a code that is demanded may be a word.
    let only_push = Forms { keywords: vec![Method::Push], ..Forms::default() };
    let demanded = Rule { appended: Appended::Required, form: COMMA, keywords: true };
    assert_eq!(read_forms(demanded, &only_push, b"p,push"), chosen("p", Some(Method::Push)));
    assert_eq!(read_forms(demanded, &only_push, b"p"), Found::NoMatch);
    // Where no word counts that person has nothing to append.
    let silent = Rule { keywords: false, ..demanded };
    assert_eq!(read_forms(silent, &only_push, b"p,push"), Found::Whole);
}

#[test]
fn who_needs_no_code_may_type_the_password_alone_where_one_is_demanded() {
    // FV-28, FV-42, FB-04: what was appended is taken off all the same
    let needs_none = Forms { code_optional: true, ..tokens(SIX) };
    for (form, typed, found, who_needs_one) in [
        (COMMA, "p", Found::Whole, Found::NoMatch),
        (COMMA, "p,12345", Found::Whole, Found::NoMatch),
        (COMMA, "p,123456", code("p", "123456"), code("p", "123456")),
        (COMMA, ",123456", Found::Empty, Found::Empty),
        (COMMA, "", Found::Empty, Found::Empty),
        (LAST, "p", Found::Whole, Found::NoMatch),
        (LAST, "p123456", code("p", "123456"), code("p", "123456")),
    ] {
        let rule = Rule { appended: Appended::Required, form, keywords: false };
        assert_eq!(read_forms(rule, &needs_none, typed.as_bytes()), found, "{typed:?}");
        assert_eq!(read_forms(rule, &tokens(SIX), typed.as_bytes()), who_needs_one, "{typed:?}");
    }
}

#[test]
fn temporary_and_recovery_codes_count_for_who_has_them() {
    // L-51 (a static code of another length must be recognised), V-53, FV-09
    let temporary = Forms { temporary_code: true, ..tokens(SIX) };
    let recovery = Forms { recovery_code: true, ..Forms::default() };
    let cases: &[(&Forms, AppendedForm, &str, Found)] = &[
        (&temporary, COMMA, "p,123456789", code("p", "123456789")),
        (&temporary, COMMA, "p,123 456 789", code("p", "123 456 789")),
        (&temporary, COMMA, "p, 123-456-789 ", code("p", " 123-456-789 ")),
        (&temporary, COMMA, "p,１２３４５６７８９", code("p", "１２３４５６７８９")),
        (&temporary, COMMA, "p,123456", code("p", "123456")),
        (&temporary, COMMA, "p,12345678", Found::Whole),
        (&temporary, COMMA, "p,1234567890", Found::Whole),
        (&temporary, COMMA, "p,x123456789", Found::Whole),
        (&temporary, LAST, "p123456789", code("p", "123456789")),
        (&temporary, LAST, "p23456789", code("p23", "456789")),
        (&temporary, LAST, "123456789", Found::Empty),
        (&recovery, COMMA, "p,abcde-fghij", code("p", "abcde-fghij")),
        (&recovery, COMMA, "p,ABCDE12345", code("p", "ABCDE12345")),
        (&recovery, COMMA, "p,1234567890", code("p", "1234567890")),
        (&recovery, COMMA, "p,abcde fghij ", code("p", "abcde fghij ")),
        (&recovery, COMMA, "p,abcde-fghi", Found::Whole),
        (&recovery, COMMA, "p,abcde-fghijk", Found::Whole),
        (&recovery, COMMA, "p,abcde_fghij", Found::Whole),
        (&recovery, COMMA, "p,äbcdefghij", Found::Whole),
        (&recovery, COMMA, "p,123456", Found::Whole),
        (&recovery, COMMA, ",abcde-fghij", Found::Empty),
        // Letters at the end are a password's as often as a code's.
        (&recovery, LAST, "pabcdefghij", Found::Whole),
    ];
    for (forms, form, typed, found) in cases {
        for appended in [Appended::Optional, Appended::Required] {
            let expected =
                if appended == Appended::Required && *found == Found::Whole { &Found::NoMatch } else { found };
            let rule = Rule { appended, form: *form, keywords: false };
            assert_eq!(read_forms(rule, forms, typed.as_bytes()), *expected, "{appended:?} {typed:?}");
        }
    }
    assert_eq!(read(Appended::Optional, COMMA, SIX, b"p,123456789"), Found::Whole, "no temporary code is open");
    assert_eq!(read(Appended::Optional, COMMA, SIX, b"p,abcde-fghij"), Found::Whole, "no recovery code is left");
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
        let rule = Rule { appended, form, keywords: true };
        if let Split::Code { head, code } = split(rule, &tokens(&digits), &typed) {
            prop_assert!(!head.is_empty());
            let shown = domain::PresentedCode::parse(code).expect("a code");
            prop_assert!(digits.contains(&(shown.digits() as u32)));
            let between: &[u8] = if last { b"" } else { b"," };
            prop_assert_eq!([head, between, code].concat(), typed);
        }
    }
}
