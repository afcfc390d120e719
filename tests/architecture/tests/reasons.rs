//! A reason that no test expects may never be given, or be given for something else, and nobody would see it.

use architecture::{files, root};
use domain::Reason;
use std::{collections::BTreeSet, fs, path::Path};

/// What a source has of tests. Fakes say whatever they are told to: that a reason stands there proves nothing.
fn tests_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root()).expect("inside the workspace");
    let folder = |name: &str| inside.iter().any(|part| part == name);
    let file = |name: &str| inside.file_name().is_some_and(|file| file == name);
    if folder("fakes") || folder("support") || file("support.rs") || folder("architecture") {
        return None;
    }
    let text = fs::read_to_string(path).expect("a source is UTF-8");
    match folder("tests") || file("tests.rs") || file("story.rs") {
        true => Some(text),
        false => text.split_once("\nmod tests {").map(|(_, tests)| tests.to_owned()),
    }
}

/// The reasons it names: as a value, or as a word of a text.
fn named(tests: &str, found: &mut BTreeSet<&'static str>) {
    let sign = |sign: char| sign.is_ascii_alphanumeric() || sign == '_' || sign == ':';
    for line in tests.lines() {
        let code = line.split("//").next().unwrap_or_default();
        let quoted = code.split('"').skip(1).step_by(2).flat_map(|text| text.split(|it| !sign(it)));
        let words: BTreeSet<&str> = quoted.collect();
        let values: BTreeSet<&str> = code.split(|it| !sign(it)).filter_map(|it| it.strip_prefix("Reason::")).collect();
        let hit = |reason: &&Reason| words.contains(reason.code()) || values.contains(format!("{reason:?}").as_str());
        found.extend(Reason::ALL.iter().filter(hit).map(|reason| reason.code()));
    }
}

#[test]
fn every_reason_is_expected_by_a_test() {
    let mut found = Vec::new();
    for folder in ["crates", "services", "tests"] {
        files(&root().join(folder), "rs", &mut found);
    }
    let mut expected = BTreeSet::new();
    let tests: Vec<String> = found.iter().filter_map(|path| tests_of(path)).collect();
    assert!(tests.len() > 50, "found too few tests: the path filter is wrong");
    tests.iter().for_each(|tests| named(tests, &mut expected));
    let lacking: Vec<&str> =
        Reason::ALL.iter().map(|reason| reason.code()).filter(|code| !expected.contains(code)).collect();
    assert!(lacking.is_empty(), "no test expects: {}", lacking.join(", "));
}

#[test]
fn a_comment_and_a_longer_word_name_no_reason() {
    let mut found = BTreeSet::new();
    named("let x = 1; // \"wrong_code\"\nlet y = \"no_wrong_pin\";\nlet z = Reason::BusyBee;", &mut found);
    assert_eq!(found, BTreeSet::new());
    named("assert_eq!(said, \"deny wrong_pin\");\nassert_eq!(reason, Reason::Busy);", &mut found);
    assert_eq!(found, BTreeSet::from(["busy", "wrong_pin"]));
}
