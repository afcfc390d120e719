//! RADIUS attributes in a document: their names, and values that are written out, by the dictionaries that ship and the
//! document's own. What stands in braces is known at the login only. Pure.

use domain::settings::{Client, OneOrMany, Problem, Settings, Severity, TargetKind};
use radius_wire::Dictionary;

/// Named by a document they would break what they belong to: passwords, State, Proxy-State, EAP-Message, Message-Authenticator.
const OWN: [u32; 6] = [2, 3, 24, 33, 79, 80];
/// RFC 2868 section 3.1.
const TAG_MAX: u8 = 0x1f;

pub fn problems(settings: &Settings) -> Vec<Problem> {
    let mut found = Vec::new();
    let dictionary = with_own(settings, &mut found);
    let mut error = |key: String, text: String| found.push(Problem { severity: Severity::Error, key, text });
    for target in settings.targets.iter().filter(|target| target.kind == TargetKind::Radius) {
        let name = target.identity_attribute.as_str();
        if !name.is_empty() && dictionary.by_name(name).is_none() {
            error(format!("target.{}.identity_attribute", target.name), unknown(&dictionary, name));
        }
    }
    for client in &settings.clients {
        let names = client.target_attributes.iter().filter(|name| !name.is_empty() && *name != "*");
        for name in names.filter(|name| dictionary.by_name(name).is_none()) {
            error(format!("client.{}.target_attributes", client.name), unknown(&dictionary, name));
        }
        for text in wrong_replies(&dictionary, client) {
            error(format!("client.{}.reply", client.name), text);
        }
    }
    found
}

/// What ships, and on top of it the document's own in their order.
fn with_own(settings: &Settings, found: &mut Vec<Problem>) -> Dictionary {
    let mut dictionary = Dictionary::shipped().clone();
    for own in &settings.dictionaries {
        match dictionary.with(own.name.as_str(), &own.text) {
            Ok(more) => dictionary = more,
            Err(error) => {
                let key = format!("dictionary.{}.text", own.name);
                found.push(Problem {
                    severity: Severity::Error,
                    key,
                    text: format!("line {}: {}", error.line, error.fault),
                });
            }
        }
    }
    dictionary
}

fn unknown(dictionary: &Dictionary, name: &str) -> String {
    let near = dictionary.nearest(name).map(|near| format!("; {near} is")).unwrap_or_default();
    format!("found {name:?}, which is no attribute of a dictionary{near}")
}

fn wrong_replies(dictionary: &Dictionary, client: &Client) -> Vec<String> {
    let mut found = Vec::new();
    for (place, rule) in client.reply.iter().enumerate() {
        let sets = rule.set.iter().filter(|(name, _)| !name.is_empty());
        found.extend(sets.flat_map(|(name, value)| wrong_set(dictionary, place + 1, name, value)));
    }
    found
}

fn wrong_set(dictionary: &Dictionary, rule: usize, written: &str, value: &OneOrMany) -> Vec<String> {
    let (name, tag) = match written.split_once(':') {
        Some((name, tag)) => (name, Some(tag)),
        None => (written, None),
    };
    let Some(definition) = dictionary.by_name(name) else {
        return vec![format!("rule {rule}: {}", unknown(dictionary, name))];
    };
    if let [number] = definition.place()
        && OWN.contains(number)
    {
        return vec![format!("rule {rule}: {name} belongs to the protocol and cannot be set")];
    }
    let good_tag = |tag: &str| tag.parse::<u8>().is_ok_and(|tag| (1..=TAG_MAX).contains(&tag));
    if let Some(tag) = tag.filter(|tag| !definition.has_tag() || !good_tag(tag)) {
        let allowed = match definition.has_tag() {
            true => format!("allowed are 1 to {TAG_MAX}"),
            false => format!("{name} has no tags"),
        };
        return vec![format!("rule {rule}: {written}: found the tag {tag:?}; {allowed}")];
    }
    let wrong = |text: &str| {
        let error = definition.encode(text).err()?;
        Some(format!("rule {rule}: {written} = {text:?}: {error}"))
    };
    match value {
        OneOrMany::One(text) => written_out(text).and_then(wrong).into_iter().collect(),
        OneOrMany::Number(number) => wrong(&number.to_string()).into_iter().collect(),
        OneOrMany::Many(texts) => texts.iter().filter_map(|text| wrong(written_out(text)?)).collect(),
    }
}

/// A value that is known now. The form of others, and of empty ones, was looked at before.
fn written_out(text: &str) -> Option<&str> {
    (!text.is_empty() && !text.contains('{') && !text.chars().any(char::is_control)).then_some(text)
}
