//! Words for people, by key and language: Fluent messages compiled into the program that speaks them.
//!
//! Knows languages and fallback, not what is said. Each service keeps the texts it speaks in its own folder; administrators may
//! put their own in the place of one (FN-09), checked by [`check`] before it is saved.

use domain::Language;
use fluent_bundle::{FluentArgs, FluentResource, FluentValue, concurrent::FluentBundle};
use fluent_syntax::ast::{Entry, Expression, InlineExpression, Pattern, PatternElement};
use std::collections::{BTreeMap, BTreeSet};

/// Messages of one kind (SMS, voice, mail ...) in every language that ships.
pub struct Catalogue {
    /// By language; the first language given is the one that others fall back to.
    languages: Vec<(&'static str, Spoken)>,
}

struct Spoken {
    bundle: FluentBundle<FluentResource>,
    /// Key and the variables it uses.
    keys: BTreeMap<String, BTreeSet<String>>,
}

/// A text that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    #[error("no shipped text has the key {key:?}")]
    UnknownKey { key: String },
    #[error("cannot be read: {error}")]
    Syntax { error: String },
    #[error("uses the variable ${variable}; this text knows {}", known_list(.known))]
    UnknownVariable { variable: String, known: BTreeSet<String> },
}

fn known_list(known: &BTreeSet<String>) -> String {
    match known.is_empty() {
        true => "none".to_owned(),
        false => known.iter().map(|name| format!("${name}")).collect::<Vec<_>>().join(", "),
    }
}

/// The variables of a text.
pub type Variables<'a> = [(&'a str, &'a str)];

impl Catalogue {
    /// From sources in Fluent syntax, the fallback first. What does not parse is a fault of the build, found by the first test.
    pub fn new(sources: &[(&'static str, &str)]) -> Self {
        let languages = sources.iter().map(|(language, source)| (*language, Spoken::new(language, source))).collect();
        Self { languages }
    }

    /// The text in the person's language, its broader form, or the fallback. `None`: there is no such key.
    pub fn text(&self, language: &Language, key: &str, variables: &Variables<'_>) -> Option<String> {
        self.candidates(language).find_map(|spoken| spoken.text(key, variables))
    }

    /// The same with an administrator's own text in the place of the shipped one.
    pub fn text_or(
        &self,
        own: Option<&str>,
        language: &Language,
        key: &str,
        variables: &Variables<'_>,
    ) -> Option<String> {
        let own = own.and_then(|source| Spoken::parsed(language.as_str(), &as_message(key, source)).ok());
        own.and_then(|spoken| spoken.text(key, variables)).or_else(|| self.text(language, key, variables))
    }

    /// May an administrator put this text in the place of a shipped one?
    pub fn check(&self, key: &str, source: &str) -> Result<(), BadText> {
        let known = self.languages.iter().find_map(|(_, spoken)| spoken.keys.get(key));
        let known = known.ok_or_else(|| BadText::UnknownKey { key: key.to_owned() })?;
        let own = Spoken::parsed("en", &as_message(key, source)).map_err(|error| BadText::Syntax { error })?;
        let Some(used) = own.keys.get(key) else {
            return Err(BadText::Syntax { error: "it is no single message".into() });
        };
        match used.difference(known).next() {
            Some(variable) => Err(BadText::UnknownVariable { variable: variable.clone(), known: known.clone() }),
            None => Ok(()),
        }
    }

    /// What ships.
    pub fn languages(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.languages.iter().map(|(language, _)| *language)
    }

    /// What a translation lacks, has too much, or says with other variables than the fallback. Empty = complete.
    pub fn gaps(&self) -> Vec<String> {
        let Some(((_, first), others)) = self.languages.split_first() else { return vec!["no language".into()] };
        let mut gaps = Vec::new();
        for (language, spoken) in others {
            for (key, variables) in &first.keys {
                match spoken.keys.get(key) {
                    None => gaps.push(format!("{language}: {key} is missing")),
                    Some(theirs) if theirs != variables => gaps.push(format!(
                        "{language}: {key} uses {}, not {}",
                        known_list(theirs),
                        known_list(variables)
                    )),
                    Some(_) => {}
                }
            }
            gaps.extend(
                spoken
                    .keys
                    .keys()
                    .filter(|key| !first.keys.contains_key(*key))
                    .map(|key| format!("{language}: {key} is unknown")),
            );
        }
        gaps
    }

    fn candidates<'a>(&'a self, language: &'a Language) -> impl Iterator<Item = &'a Spoken> + 'a {
        let exact = self.languages.iter().filter(|(name, _)| *name == language.as_str());
        let broad = self.languages.iter().filter(|(name, _)| *name == language.broad());
        exact.chain(broad).chain(self.languages.first()).map(|(_, spoken)| spoken)
    }
}

impl Spoken {
    fn new(language: &str, source: &str) -> Self {
        Self::parsed(language, source).unwrap_or_else(|error| panic!("the texts for {language}: {error}"))
    }

    fn parsed(language: &str, source: &str) -> Result<Self, String> {
        let resource = FluentResource::try_new(source.to_owned())
            .map_err(|(_, errors)| errors.first().map_or_else(String::new, ToString::to_string))?;
        let mut keys = BTreeMap::new();
        for entry in resource.entries() {
            if let Entry::Message(message) = entry {
                let mut variables = BTreeSet::new();
                if let Some(value) = &message.value {
                    variables_of(value, &mut variables);
                }
                keys.insert(message.id.name.to_owned(), variables);
            }
        }
        let language = language.parse().map_err(|_| format!("{language} is no language"))?;
        let mut bundle = FluentBundle::new_concurrent(vec![language]);
        // Marks around values would be read out, and count as signs of a text message.
        bundle.set_use_isolating(false);
        bundle.add_resource(resource).map_err(|errors| errors.first().map_or_else(String::new, ToString::to_string))?;
        Ok(Self { bundle, keys })
    }

    fn text(&self, key: &str, variables: &Variables<'_>) -> Option<String> {
        let pattern = self.bundle.get_message(key)?.value()?;
        let mut arguments = FluentArgs::new();
        for (name, value) in variables {
            arguments.set(*name, FluentValue::from(*value));
        }
        let mut errors = Vec::new();
        Some(self.bundle.format_pattern(pattern, Some(&arguments), &mut errors).into_owned())
    }
}

/// A text of several lines is indented, as Fluent wants it.
fn as_message(key: &str, source: &str) -> String {
    let mut message = format!("{key} =");
    for line in source.lines() {
        message.push_str("\n    ");
        message.push_str(line);
    }
    message.push('\n');
    message
}

fn variables_of(pattern: &Pattern<&str>, found: &mut BTreeSet<String>) {
    for element in &pattern.elements {
        if let PatternElement::Placeable { expression } = element {
            variables_in(expression, found);
        }
    }
}

fn variables_in(expression: &Expression<&str>, found: &mut BTreeSet<String>) {
    match expression {
        Expression::Inline(inline) => variable_of(inline, found),
        Expression::Select { selector, variants } => {
            variable_of(selector, found);
            for variant in variants {
                variables_of(&variant.value, found);
            }
        }
    }
}

fn variable_of(inline: &InlineExpression<&str>, found: &mut BTreeSet<String>) {
    match inline {
        InlineExpression::VariableReference { id } => {
            found.insert(id.name.to_owned());
        }
        InlineExpression::Placeable { expression } => variables_in(expression, found),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        Catalogue::new(&[
            (
                "en",
                "code = Your code is { $code }.\nleft = { $left ->\n    [1] one code is left\n   *[other] { $left } codes are left\n }\n",
            ),
            ("de", "code = Ihr Code lautet { $code }.\n"),
        ])
    }

    #[test]
    fn the_nearest_language_speaks() {
        let catalogue = catalogue();
        let said = |tag: &str| {
            let language = Language::new(tag).expect("valid");
            catalogue.text(&language, "code", &[("code", "123456")]).expect("a key")
        };
        assert_eq!(said("de"), "Ihr Code lautet 123456.");
        assert_eq!(said("de-CH"), "Ihr Code lautet 123456.");
        assert_eq!(said("fr"), "Your code is 123456.");
        assert_eq!(catalogue.text(&Language::english(), "nothing", &[]), None);
    }

    #[test]
    fn a_gap_in_a_translation_is_named() {
        assert_eq!(catalogue().gaps(), ["de: left is missing"]);
        let other = Catalogue::new(&[("en", "a = { $x }\n"), ("de", "a = { $y }\nb = b\n")]);
        assert_eq!(other.gaps(), ["de: a uses $y, not $x", "de: b is unknown"]);
    }

    #[test]
    fn a_text_of_ones_own_takes_the_place_of_a_shipped_one_if_it_is_good() {
        let catalogue = catalogue();
        let english = Language::english();
        let own = catalogue.text_or(Some("{ $code } it is,\ntoday"), &english, "code", &[("code", "1")]);
        assert_eq!(own.as_deref(), Some("1 it is,\ntoday"));
        assert_eq!(catalogue.check("code", "Use { $code }"), Ok(()));
        assert!(matches!(catalogue.check("nope", "x"), Err(BadText::UnknownKey { .. })));
        assert!(matches!(catalogue.check("code", "Use { $seed }"), Err(BadText::UnknownVariable { .. })));
        assert!(matches!(catalogue.check("code", "Use { $code"), Err(BadText::Syntax { .. })));
        // What cannot be read is not spoken: the shipped text is.
        assert_eq!(
            catalogue.text_or(Some("{ $"), &english, "code", &[("code", "1")]).as_deref(),
            Some("Your code is 1.")
        );
    }
}
