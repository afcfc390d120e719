//! Telephone numbers as directories have them: `phones.txt`, and what holds for every text.

use domain::phone::{Parsed, parse};
use proptest::prelude::*;

struct Row {
    written: String,
    country: Option<String>,
    /// Number and extension, or words of the reason.
    expected: Result<(String, String), String>,
}

/// Columns are read from the right: what is written may hold the sign between them.
fn rows() -> Vec<Row> {
    let lines = include_str!("phones.txt").lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (rest, expected) = match line.rsplit_once('!') {
                Some((rest, reason)) => (rest.trim_end().trim_end_matches('|'), Err(reason.trim().to_owned())),
                None => {
                    let (rest, extension) = line.rsplit_once('|').expect("four columns");
                    let (rest, number) = rest.rsplit_once('|').expect("four columns");
                    (rest, Ok((number.trim().to_owned(), extension.trim().to_owned())))
                }
            };
            let (written, country) = rest.rsplit_once('|').expect("a country, or none");
            let country = Some(country.trim().to_owned()).filter(|country| !country.is_empty());
            Row { written: visible(written.trim()), country, expected }
        })
        .collect()
}

/// `<U+00A0>` as the sign it names.
fn visible(text: &str) -> String {
    let mut pieces = text.split("<U+");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        let (code, rest) = piece.split_once('>').expect("a code ends with >");
        let sign = u32::from_str_radix(code, 16).ok().and_then(char::from_u32).expect("a code of Unicode");
        format!("{text}{sign}{rest}")
    })
}

#[test]
fn numbers_of_real_life_are_read_or_refused_with_a_reason() {
    // S-57
    let rows = rows();
    assert!(rows.len() >= 100, "{}", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let read = parse(&row.written, row.country.as_deref()).map(|it| (it.number, it.extension));
        let same = match (&read, &row.expected) {
            (Err(found), Err(words)) => found.to_string().contains(words.as_str()),
            (Ok(found), Ok(expected)) => found == expected,
            _ => false,
        };
        if !same {
            wrong.push(format!("{:?} {:?}: {read:?}, expected {:?}", row.written, row.country, row.expected));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn what_is_printed_of_a_number_names_nobody() {
    let parsed = parse("+49 30 901820 x890", None).expect("a number");
    assert_eq!(format!("{parsed:?}"), "…20 x…");
}

/// Anything, and what looks much like a number.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-+0-9 ()/.,;x#]{0,24}",
        "(tel:)?\\+?[0-9 ()]{5,20}( ?(x|ext\\.|#|;ext=|,)[0-9]{1,9})?"
    ]
}

fn countries() -> impl Strategy<Value = Option<&'static str>> {
    let some = prop::sample::select(vec!["DE", "US", "IT", "RU", "HU", "BY", "LT", "CI", "GB", "JP", "XX", ""]);
    prop::option::of(some)
}

proptest! {
    #[test]
    fn a_number_that_was_read_is_read_as_itself(text in texts(), country in countries()) {
        if let Ok(Parsed { number, extension }) = parse(&text, country) {
            let digits = number.trim_start_matches('+');
            prop_assert!((5..=15).contains(&digits.len()) && digits.bytes().all(|sign| sign.is_ascii_digit()));
            prop_assert!(extension.len() <= 7 && extension.bytes().all(|sign| sign.is_ascii_digit()));
            let again = parse(&number, country).map(|it| (it.number, it.extension));
            prop_assert_eq!(again, Ok((number.clone(), String::new())));
            if !extension.is_empty() {
                let both = parse(&format!("{number} x{extension}"), country).map(|it| (it.number, it.extension));
                prop_assert_eq!(both, Ok((number, extension)));
            }
        }
    }

    #[test]
    fn blanks_and_dashes_change_nothing(digits in "\\+49[1-9][0-9]{6,10}", place in 1_usize..9, sign in "[-. /]") {
        let mut written = digits.clone();
        written.insert_str(place, &sign);
        let read = |text: &str| parse(text, None).map(|it| it.number);
        prop_assert_eq!(read(&written), read(&digits));
    }
}
