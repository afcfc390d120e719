//! The keys of `[[directory]]` as fields of a form, and what an empty one stands for.

use super::keys::{FieldOf, Group, Kind};
use crate::console::form::{Choice, Entry, Form, Part, Shape};
use domain::settings::{Directory, PhoneKind, Preset};
use serde_json::json;

/// A longer text is cut off at the end of its field.
const SEEN_IN_A_FIELD: usize = 30;

impl Group {
    /// With the texts that stand in its fields.
    fn part(&self, text: impl Fn(&str) -> String, preset: Preset) -> Part {
        let shown = self.fields.iter().filter(|field| field.is_of(preset));
        let entry = |field: &FieldOf| {
            let stands_for = stands_for(field.key, preset);
            let help = match stands_for.chars().count() > SEEN_IN_A_FIELD {
                true => format!("{} Empty: {stands_for}", field.help),
                false => field.help.to_owned(),
            };
            Entry::new(field.key, field.label, field.kind.shape(text(field.key), stands_for), help)
        };
        Part { title: self.title, entries: shown.map(entry).collect() }
    }
}

impl FieldOf {
    fn is_of(&self, preset: Preset) -> bool {
        !self.only_ad || preset == Preset::ActiveDirectory
    }
}

impl Kind {
    pub fn is_attribute(self) -> bool {
        matches!(self, Self::Attribute | Self::Attributes | Self::Unless)
    }

    fn shape(self, value: String, placeholder: String) -> Shape {
        let choices = |list: &[(&str, &str)]| list.iter().map(|(value, label)| Choice::new(*value, *label)).collect();
        match self {
            Self::Text | Self::Number => Shape::Line { value, placeholder, suggestions: Vec::new() },
            Self::Lines | Self::Domains | Self::Pem => Shape::Lines { value, placeholder },
            Self::Attribute | Self::Attributes | Self::Unless => Shape::Attribute { value, placeholder, doubt: None },
            Self::Check(_) => Shape::Check { checked: value == "yes" },
            Self::YesNo => {
                let options = [("", placeholder.as_str()), ("true", "Yes"), ("false", "No")];
                Shape::Choice { value, options: choices(&options) }
            }
            Self::Choice(list) => Shape::Choice { value, options: choices(list) },
            Self::Password => Shape::Secret { placeholder: String::new() },
        }
    }
}

/// Parts with a field at least.
pub(super) fn form_of(groups: &[Group], text: impl Fn(&str) -> String, preset: Preset) -> Form {
    let parts = groups.iter().map(|group| group.part(&text, preset));
    // For whoever goes back to the preset that has them.
    let hidden = groups.iter().flat_map(|group| group.fields).filter(|field| !field.is_of(preset));
    Form {
        parts: parts.filter(|part| !part.entries.is_empty()).collect(),
        hidden: hidden.map(|field| (field.key, text(field.key))).collect(),
        failures: Vec::new(),
    }
}

/// FD-01: what such a directory is called.
pub(super) fn called(preset: Preset) -> &'static str {
    match preset {
        Preset::ActiveDirectory => "Active Directory",
        _ => "LDAP",
    }
}

pub(super) fn preset_of(code: &str) -> Preset {
    serde_json::from_value(code.into()).unwrap_or_default()
}

pub(super) fn code_of(preset: Preset) -> String {
    serde_json::to_value(preset).ok().and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A directory of which nothing is said but its preset.
pub(super) fn blank(preset: Preset) -> Directory {
    let text = json!({"name": "new", "preset": preset, "urls": [], "query_bind": {"kind": "tls"}});
    serde_json::from_value(text).expect("all that must be there is there")
}

/// What an empty field stands for.
pub(super) fn stands_for(key: &str, preset: Preset) -> String {
    let blank = blank(preset);
    let phone = |kind| written(blank.phone_attributes(kind));
    let of_preset = match key {
        "user_filter" => blank.user_filter().to_owned(),
        "group_filter" => blank.group_filter().to_owned(),
        "container_filter" => blank.container_filter().to_owned(),
        "attributes.id" => blank.id_attribute().to_owned(),
        "attributes.username" => blank.username_attributes().join(" "),
        "attributes.first_name" => written(blank.first_name_attributes()),
        "attributes.last_name" => written(blank.last_name_attributes()),
        "attributes.mail" => written(blank.mail_attributes()),
        "attributes.container_name" => written(blank.container_name_attributes()),
        "attributes.group_name" => written(blank.group_name_attributes()),
        "attributes.description" => written(blank.description_attributes()),
        "attributes.distinguished_name" => "the entry's own".to_owned(),
        "attributes.phones.business" => phone(PhoneKind::Business),
        "attributes.phones.home" => phone(PhoneKind::Home),
        "attributes.phones.pager" => phone(PhoneKind::Pager),
        "attributes.phones.mobile" => phone(PhoneKind::Mobile),
        "attributes.phones.fax" => phone(PhoneKind::Fax),
        "attributes.phones.ip" => phone(PhoneKind::Ip),
        "connect_timeout_seconds" => return blank.connect_timeout_seconds.to_string(),
        "timeout_seconds" => return blank.timeout_seconds.to_string(),
        "page_size" => return blank.page_size.to_string(),
        "full_every_hours" => return blank.full_every_hours.to_string(),
        "size_limit" => return blank.size_limit.to_string(),
        "lockout_guard.wrong_passwords" | "lockout_guard.window_minutes" => return "not limited".to_owned(),
        key if key.starts_with("attributes.") => String::new(),
        // FD-02: of one that has a name, the account and the rest may say otherwise.
        "trusted_domains" => return "yes, if its account is known there".to_owned(),
        "sign_in_by_mail" if blank.signs_in_by_mail() => "yes".to_owned(),
        "sign_in_by_mail" => "no".to_owned(),
        _ => return String::new(),
    };
    match of_preset.as_str() {
        "" => "none".to_owned(),
        text => format!("preset's: {text}"),
    }
}

/// As it would be typed.
fn written<'a>(attributes: impl Iterator<Item = &'a str>) -> String {
    attributes.collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_field_says_what_the_preset_has() {
        // FD-01, FD-14, FD-34
        let (ad, ldap) = (Preset::ActiveDirectory, Preset::OpenLdap);
        assert_eq!(stands_for("user_filter", ad), "preset's: (&(objectCategory=person)(objectClass=user))");
        assert_eq!(stands_for("attributes.username", ad), "preset's: userPrincipalName sAMAccountName");
        assert_eq!(stands_for("attributes.username", ldap), "preset's: uid");
        assert_eq!((stands_for("attributes.phones.ip", ldap).as_str(), called(ldap)), ("none", "LDAP"));
        assert_eq!(stands_for("page_size", ldap), "1000");
        assert!(stands_for("trusted_domains", ad).starts_with("yes"), "FD-02");
        assert_eq!((preset_of("389ds"), code_of(Preset::Ds389).as_str()), (Preset::Ds389, "389ds"));
    }
}
