//! What an apply would change, in the words of the document: added, changed old -> new, removed. Pure.

use domain::settings::Settings;
use serde_json::Value;
use std::collections::BTreeMap;

/// Sections that are lists of objects with a name; elsewhere a list is a value.
const NAMED: [&str; 8] = ["directory", "target", "dictionary", "client", "sync_item", "policy", "provider", "text"];
/// Of those, the ones whose order decides: which item owns a user, which rule fits first, which provider is asked first.
const ORDERED: [&str; 3] = ["sync_item", "policy", "provider"];

/// Longer ones are shown by their beginning.
const VALUE_CHARACTERS_MAX: usize = 1024;

/// `client.vpn` -> (`wait_seconds` -> `55`)
pub type Objects = BTreeMap<String, BTreeMap<String, Value>>;

/// One line a change, in a stable order. A secret is shown as the word in the document, never as its value.
pub fn changes(old: &Settings, new: &Settings) -> Vec<String> {
    let (before, after) = (objects(old), objects(new));
    let mut lines: Vec<String> =
        after.keys().filter(|name| !before.contains_key(*name)).map(|name| format!("added {name}")).collect();
    for (name, new_fields) in &after {
        let Some(old_fields) = before.get(name) else { continue };
        let mut fields: Vec<&String> = old_fields.keys().chain(new_fields.keys()).collect();
        fields.sort();
        fields.dedup();
        for field in fields {
            let (was, is) = (old_fields.get(field), new_fields.get(field));
            if was != is {
                let shown = |value: Option<&Value>| {
                    value.map_or_else(|| "not set".to_owned(), |value| short(&value.to_string()))
                };
                lines.push(format!("changed {name}.{field}: {} -> {}", shown(was), shown(is)));
            }
        }
    }
    lines.extend(before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("removed {name}")));
    for section in ORDERED {
        let (was, is) = (names(old, section), names(new, section));
        let shared = |one: &[String], other: &[String]| -> Vec<String> {
            one.iter().filter(|name| other.contains(name)).cloned().collect()
        };
        let (was, is) = (shared(&was, &is), shared(&is, &was));
        if was != is {
            lines.push(format!("changed the order of {section}: {} -> {}", was.join(", "), is.join(", ")));
        }
    }
    lines
}

/// A dictionary or a certificate would fill the audit.
fn short(value: &str) -> String {
    let characters = value.chars().count();
    match characters > VALUE_CHARACTERS_MAX {
        true => format!("{}... ({characters} characters)", value.chars().take(32).collect::<String>()),
        false => value.to_owned(),
    }
}

/// The objects of a section in their order.
fn names(settings: &Settings, section: &str) -> Vec<String> {
    match section {
        "sync_item" => settings.sync_items.iter().map(|item| item.name.to_string()).collect(),
        "policy" => settings.policies.iter().map(|rule| rule.name.to_string()).collect(),
        _ => settings.providers.iter().map(|provider| provider.name.to_string()).collect(),
    }
}

/// What an object is called among those of its section. A text has no name of its own.
fn name_of(section: &str, object: &Value) -> String {
    let field = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    match section {
        "text" if field("application").is_empty() => format!("{}.{}", field("key"), field("language")),
        "text" => format!("{}.{}.{}", field("key"), field("language"), field("application")),
        _ => field("name").to_owned(),
    }
}

/// All that the settings hold, by object and key.
pub fn objects(settings: &Settings) -> Objects {
    let mut settings = settings.clone().with_secrets_kept();
    settings.revision = None;
    let document = serde_json::to_value(&settings).expect("settings are plain data");
    let mut objects = Objects::new();
    for (section, value) in document.as_object().into_iter().flatten() {
        match value {
            Value::Array(list) if NAMED.contains(&section.as_str()) => {
                for object in list {
                    let name = name_of(section, object);
                    flatten("", object, objects.entry(format!("{section}.{name}")).or_default());
                }
            }
            value => flatten("", value, objects.entry(section.clone()).or_default()),
        }
    }
    // Not written where it says nothing, and there all the same.
    objects.entry("ldap".to_owned()).or_default();
    objects
}

/// The fields of a table and of the tables in it.
pub fn fields(table: &Value) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    flatten("", table, &mut fields);
    fields
}

fn flatten(prefix: &str, value: &Value, fields: &mut BTreeMap<String, Value>) {
    for (field, value) in value.as_object().into_iter().flatten() {
        let key = if prefix.is_empty() { field.clone() } else { format!("{prefix}.{field}") };
        match value {
            Value::Object(_) => flatten(&key, value, fields),
            value => drop(fields.insert(key, value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        toml::from_str(text).expect("a valid document")
    }

    const ONE: &str = r#"
        [[directory]]
        name = "corp"
        urls = ["ldaps://dc1"]
        base = "dc=corp"
        query_bind = { kind = "anonymous" }
        [[client]]
        name = "vpn.north"
        protocol = "radius"
        sources = ["10.0.0.1/32"]
        target = "corp"
        secret = "keep"
    "#;

    #[test]
    fn each_change_is_one_line_with_old_and_new_value() {
        let changed = ONE.replace("10.0.0.1/32", "10.0.0.2/32") + "wait_seconds = 60\n";
        let changed = changed.replace("name = \"corp\"", "name = \"corp\"\n page_size = 500");
        assert_eq!(
            changes(&settings(ONE), &settings(&changed)),
            [
                "changed client.vpn.north.sources: [\"10.0.0.1/32\"] -> [\"10.0.0.2/32\"]",
                "changed client.vpn.north.wait_seconds: 55 -> 60",
                "changed directory.corp.page_size: 1000 -> 500",
            ]
        );
    }

    #[test]
    fn what_is_spoken_is_not_written_where_it_is_the_default_and_its_change_is_named() {
        // FL-01, FR-01: an earlier build refuses keys that it does not know
        let (on, off) = (ONE.to_owned(), format!("{ONE}\n[ldap]\nenabled = false\n[radius]\nenabled = false\n"));
        let (on, off) = (settings(&on), settings(&off));
        let written = toml::to_string(&on).expect("it can be written");
        assert!(!written.contains("[ldap]"), "{written}");
        let radius = written.split("[radius]").nth(1).and_then(|text| text.split('[').next()).expect("a table");
        assert!(!radius.contains("enabled") && radius.contains("accounting_days"), "{radius}");
        for document in [&on, &off] {
            let written = toml::to_string(document).expect("it can be written");
            assert_eq!(&settings(&written), document);
        }
        let named = ["changed ldap.enabled: not set -> false", "changed radius.enabled: not set -> false"];
        assert_eq!(changes(&on, &off), named);
        let named = ["changed ldap.enabled: false -> not set", "changed radius.enabled: false -> not set"];
        assert_eq!(changes(&off, &on), named);
    }

    #[test]
    fn what_comes_and_goes_is_named_and_nothing_is_said_of_what_stays() {
        let other = ONE.replace("vpn.north", "vpn.south");
        assert_eq!(changes(&settings(ONE), &settings(&other)), ["added client.vpn.south", "removed client.vpn.north"]);
        assert_eq!(changes(&settings(ONE), &settings(ONE)), [""; 0]);
    }

    #[test]
    fn a_new_order_of_sync_items_is_a_change() {
        let item = |name: &str| {
            format!("[[sync_item]]\nname = \"{name}\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\n")
        };
        let (ab, ba) = (item("a") + &item("b"), item("b") + &item("a"));
        let lines = changes(&settings(&(ONE.to_owned() + &ab)), &settings(&(ONE.to_owned() + &ba)));
        assert_eq!(lines, ["changed the order of sync_item: a, b -> b, a"]);
    }

    #[test]
    fn targets_and_dictionaries_are_named_and_a_long_text_is_shown_by_its_beginning() {
        let dictionary = |text: &str| format!("[[dictionary]]\nname = \"own\"\ntext = \"{text}\"\n");
        let target = |window: u32| {
            format!(
                "[[target]]\nname = \"home\"\nkind = \"radius\"\ndirectory = \"corp\"\nresponse_window_seconds = {window}\n"
            )
        };
        let (old, new) = (dictionary("VENDOR A 1") + &target(10), dictionary(&"x".repeat(2000)) + &target(20));
        let lines = changes(&settings(&old), &settings(&new));
        assert_eq!(lines[1], "changed target.home.response_window_seconds: 10 -> 20");
        let shown = format!("changed dictionary.own.text: \"VENDOR A 1\" -> \"{}... (2002 characters)", "x".repeat(31));
        assert_eq!(lines[0], shown);
    }

    #[test]
    fn policies_providers_and_texts_are_named_one_by_one() {
        let rule = |name: &str| format!("[[policy]]\nname = \"{name}\"\nthen = {{ exempt = true }}\n");
        let text = |words: &str| {
            format!("[[text]]\nkey = \"sms-code\"\nlanguage = \"de\"\napplication = \"VPN\"\ntext = \"{words}\"\n")
        };
        let mail = |host: &str| {
            format!(
                "[[provider]]\nname = \"relay\"\nchannel = \"mail\"\n\
                 adapter = {{ kind = \"smtp\", host = \"{host}\", sender = \"a@b.example\" }}\n"
            )
        };
        let old = rule("a") + &rule("b") + &text("one") + &mail("mx1");
        let new = rule("b") + &rule("a") + &text("two") + &mail("mx2");
        assert_eq!(
            changes(&settings(&old), &settings(&new)),
            [
                "changed provider.relay.adapter.host: \"mx1\" -> \"mx2\"",
                "changed text.sms-code.de.VPN.text: \"one\" -> \"two\"",
                "changed the order of policy: a, b -> b, a",
            ]
        );
    }
}
