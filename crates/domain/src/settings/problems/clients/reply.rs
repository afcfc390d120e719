//! Rules about the attributes of an Access-Accept. Whether the dictionary knows them is asked where the dictionary is.

use super::{Findings, Key};
use crate::settings::{Client, GroupForm, OneOrMany, ReplyRule};

const RULES_MAX: usize = 256;
/// Values of one attribute in one rule.
const VALUES_MAX: usize = 32;
/// An extended attribute in pieces can be longer than 253 octets; nobody writes more than this by hand.
const VALUE_CHARACTERS_MAX: usize = 4096;

pub(super) fn problems(findings: &mut Findings, client: &Client, key: Key<'_>) {
    if client.reply.len() > RULES_MAX {
        findings.error(key("reply"), format!("found {} rules; allowed are {RULES_MAX}", client.reply.len()));
    }
    for (place, rule) in client.reply.iter().enumerate() {
        for text in wrong(rule) {
            findings.error(key("reply"), format!("rule {}: {text}", place + 1));
        }
        if let Some(GroupForm::Name(name)) =
            rule.when_group.as_deref().map(GroupForm::of).filter(|_| !is_nameless(rule))
        {
            findings.warning(
                key("reply"),
                format!(
                    "rule {}: when_group = {name:?} is the name of any group with this cn: whoever may make groups somewhere in the \
                     directory can grant these attributes; write the group's id, such as objectGUID:..., its SID or its DN",
                    place + 1
                ),
            );
        }
    }
}

fn wrong(rule: &ReplyRule) -> Vec<String> {
    let mut found = Vec::new();
    if is_nameless(rule) {
        found.push("when_group is empty; name the group, or leave the key out for everybody".to_owned());
    }
    if rule.set.is_empty() {
        found.push("set is empty; write at least one attribute, such as { Filter-Id = \"staff\" }".to_owned());
    }
    for (name, value) in &rule.set {
        if name.is_empty() {
            found.push("set holds an attribute without a name".to_owned());
        }
        let values: Vec<&str> = match value {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Number(_) => continue,
            OneOrMany::Many(texts) => texts.iter().map(String::as_str).collect(),
        };
        if !(1..=VALUES_MAX).contains(&values.len()) {
            found.push(format!("{name} has {} values; allowed are 1 to {VALUES_MAX}", values.len()));
        }
        found.extend(values.iter().filter_map(|text| Some(format!("{name} = {text:?}: {}", wrong_value(text)?))));
    }
    found
}

fn is_nameless(rule: &ReplyRule) -> bool {
    rule.when_group.as_ref().is_some_and(|group| group.trim().is_empty())
}

fn wrong_value(text: &str) -> Option<&'static str> {
    if text.is_empty() || text.chars().count() > VALUE_CHARACTERS_MAX {
        return Some("allowed are 1 to 4096 characters");
    }
    if text.chars().any(char::is_control) {
        return Some("holds control characters");
    }
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((attribute, behind)) = after.split_once('}') else { return Some("a { has no }") };
        if !is_directory_attribute(attribute) {
            return Some("between { and } stands the name of a directory attribute, such as {mail}");
        }
        rest = behind;
    }
    None
}

/// A descriptor of RFC 4512 section 1.4, with options.
fn is_directory_attribute(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|sign: char| sign.is_ascii_alphabetic())
        && name.bytes().all(|sign| sign.is_ascii_alphanumeric() || b"-;".contains(&sign))
}
