//! Whoever reads `R-42` in a comment finds it in docs/rules.md.

use architecture::{files, root};
use std::{collections::BTreeSet, fs};

/// `R-42`, and `r_42` at the head of a test's name.
fn cited(text: &str, prefixes: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for word in text.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '-' && sign != '_') {
        if let Some((prefix, number)) = word.split_once('-') {
            found.extend(rule(prefix, number, prefixes));
        }
        if let Some((prefix, rest)) = word.split_once('_') {
            let number = rest.split('_').next().unwrap_or_default();
            found.extend(rule(&prefix.to_ascii_uppercase(), number, prefixes));
        }
    }
    found
}

fn rule(prefix: &str, number: &str, prefixes: &BTreeSet<String>) -> Option<String> {
    let digits = number.len() == 2 && number.bytes().all(|sign| sign.is_ascii_digit());
    (digits && prefixes.contains(prefix)).then(|| format!("{prefix}-{number}"))
}

/// The first column of every table; `P-01 to P-14` is each of them.
fn rows(page: &str) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for name in page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()) {
        let Some((first, last)) = name.split_once(" to ") else {
            rows.insert(name.to_owned());
            continue;
        };
        let numbered = first.split_once('-').zip(last.split_once('-'));
        let ((prefix, from), (_, to)) = numbered.expect("a range is of numbers");
        let number = |text: &str| text.parse::<u32>().expect("a number");
        rows.extend((number(from)..=number(to)).map(|number| format!("{prefix}-{number:02}")));
    }
    rows
}

#[test]
fn every_rule_that_is_cited_stands_in_the_page_of_rules() {
    let page = fs::read_to_string(root().join("docs/rules.md")).expect("the page is there");
    let rows = rows(&page);
    let prefixes: BTreeSet<String> =
        rows.iter().filter_map(|row| row.split_once('-')).map(|(prefix, _)| prefix.to_owned()).collect();
    let mut sources = Vec::new();
    for extension in ["rs", "proto", "sql", "sh", "md"] {
        files(root(), extension, &mut sources);
    }
    assert!(sources.len() > 100 && prefixes.len() > 10, "found too little: the filters are wrong");
    let mut lacking = BTreeSet::new();
    for source in sources.iter().filter(|path| !path.ends_with("architecture/tests/rules.rs")) {
        let text = fs::read_to_string(source).expect("a source is UTF-8");
        let unknown = cited(&text, &prefixes).into_iter().filter(|rule| !rows.contains(rule));
        lacking.extend(unknown.map(|rule| format!("{}: {rule}", source.display())));
    }
    assert!(lacking.is_empty(), "docs/rules.md lacks:\n{}", lacking.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_rule_is_known_by_its_form() {
    let prefixes = BTreeSet::from(["R", "FV"].map(str::to_owned));
    let text = "// R-42: as FV-07 says, not RFC-42, R-423, S-1-5 or r_4\nfn r_43_is_kept() {} fn for_fv_44() {}";
    assert_eq!(cited(text, &prefixes), BTreeSet::from(["FV-07", "R-42", "R-43"].map(str::to_owned)));
    let page = "| rule | meaning |\n|---|---|\n| R-01 | x |\n| R-08 to R-10 | y |\n";
    let expected = ["R-01", "R-08", "R-09", "R-10", "rule"].map(str::to_owned);
    assert_eq!(rows(page), BTreeSet::from(expected));
}
