//! Answers to security questions (FV-10, FP-09): what counts of what is typed, and which answers are none.

use domain::Secret;
use std::collections::BTreeSet;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

const QUESTIONS: std::ops::RangeInclusive<usize> = 3..=10;
const QUESTION_CHARACTERS: std::ops::RangeInclusive<usize> = 5..=256;
const ANSWER_CHARACTERS_MIN: usize = 3;
const ANSWER_OCTETS_MAX: usize = 256;

/// An answer as it is compared: without case, spaces, accents and punctuation.
pub fn folded(answer: &Secret) -> Secret {
    let text = zeroize::Zeroizing::new(String::from_utf8_lossy(answer.expose()).into_owned());
    Secret::from(fold(&text))
}

fn fold(text: &str) -> String {
    let signs = text.nfkd().filter(|sign| !is_combining_mark(*sign)).flat_map(char::to_lowercase);
    signs.filter(|sign| sign.is_alphanumeric()).collect::<String>().replace('ß', "ss")
}

/// What is wrong with a set; it names the question, never the answer.
pub fn problem(questions: &[String], answers: &[Secret]) -> Option<String> {
    if questions.len() != answers.len() {
        return Some("answers: one for each question".into());
    }
    if !QUESTIONS.contains(&questions.len()) {
        let (least, most) = (QUESTIONS.start(), QUESTIONS.end());
        return Some(format!("questions: found {}; allowed are {least} to {most}", questions.len()));
    }
    let (mut asked, mut given) = (BTreeSet::new(), BTreeSet::new());
    for (question, answer) in questions.iter().zip(answers) {
        if !QUESTION_CHARACTERS.contains(&question.chars().count()) || question.chars().any(char::is_control) {
            return Some("questions: a question has 5 to 256 characters".into());
        }
        if !asked.insert(fold(question)) {
            return Some(format!("questions: {question:?} stands twice"));
        }
        let text = folded(answer);
        let text = zeroize::Zeroizing::new(String::from_utf8_lossy(text.expose()).into_owned());
        if answer.len() > ANSWER_OCTETS_MAX || text.chars().count() < ANSWER_CHARACTERS_MIN {
            return Some(format!(
                "answers: the answer to {question:?} has fewer than 3 letters and digits, or is too long"
            ));
        }
        if fold(question).contains(text.as_str()) {
            return Some(format!("answers: the answer to {question:?} stands in the question"));
        }
        if !given.insert(text.to_string()) {
            return Some(format!("answers: the answer to {question:?} was given before"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_takes_for_the_same_answer_is_the_same() {
        // FP-09
        for (one, other) in [
            ("Saint-Étienne", "saint etienne"),
            ("  REX ", "rex"),
            ("Müller", "Mu\u{308}ller"),
            ("Straße 5", "STRASSE5"),
        ] {
            assert_eq!(fold(one), fold(other), "{one}");
        }
        assert_ne!(fold("rex"), fold("max"));
    }

    #[test]
    fn answers_that_anybody_could_give_are_refused() {
        // FP-09
        let good = [("First pet?", "Rex Maximus"), ("Town of birth?", "Ulm an der Donau"), ("Best friend?", "Toni")];
        let checked = |set: &[(&str, &str)]| {
            let questions: Vec<String> = set.iter().map(|(question, _)| (*question).into()).collect();
            let answers: Vec<Secret> = set.iter().map(|(_, answer)| Secret::from(*answer)).collect();
            problem(&questions, &answers)
        };
        assert_eq!(checked(&good), None);
        for (name, place, pair, expected) in [
            ("too short", 0, ("First pet?", "R !x"), "fewer than 3"),
            ("part of the question", 0, ("First pet?", "first PET"), "stands in the question"),
            ("doubled", 0, ("First pet?", "toni"), "was given before"),
            ("asked twice", 0, ("best friend", "Rex"), "stands twice"),
            ("no question", 0, ("?", "Rex"), "5 to 256"),
        ] {
            let mut set = good;
            set[place] = pair;
            let found = checked(&set).expect(name);
            assert!(found.contains(expected) && !found.contains("toni"), "{name}: {found}");
        }
        assert!(checked(&good[..2]).expect("too few").contains("found 2"));
        assert!(problem(&["First pet?".into()], &[]).expect("none").contains("one for each"));
    }
}
