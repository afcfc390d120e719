//! What the mapping of a directory names, with what the preset says where it names nothing (FD-30 to FD-41).

use super::{Directory, LanguageAttributes, PhoneKind, Preset};
use std::collections::BTreeSet;
use std::iter;

/// Each attribute of one key, in order: the first that has a value counts. `mail;otherMailbox` is two; an option stays with the
/// attribute before it, and those of an attribute of a directory are `lang-...` (RFC 3866 section 2.1) and `binary` (RFC 4522 section 3).
pub fn each_attribute(written: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(written);
    iter::from_fn(move || {
        let text = rest?;
        let ends = text.match_indices(';').map(|(end, _)| text.split_at(end));
        let cut = ends.map(|(attribute, more)| (attribute, &more[1..])).find(|(_, more)| !begins_with_option(more));
        rest = cut.map(|(_, more)| more);
        Some(cut.map_or(text, |(attribute, _)| attribute).trim())
    })
}

fn begins_with_option(text: &str) -> bool {
    let word = text.split(';').next().unwrap_or_default().trim();
    let language = word.get(..5).is_some_and(|head| head.eq_ignore_ascii_case("lang-"));
    language || word.eq_ignore_ascii_case("binary")
}

/// Whatever the case of letters: naming one twice is not everywhere taken well.
pub fn each_once<'a>(attributes: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    attributes.into_iter().filter(|attribute| seen.insert(attribute.to_ascii_lowercase())).collect()
}

/// The mapped ones, else the preset's; an empty name is none.
fn mapped<'a>(written: &'a Option<String>, preset: &'a str) -> impl Iterator<Item = &'a str> {
    each_attribute(written.as_deref().unwrap_or(preset)).filter(|name| !name.is_empty())
}

fn of_key<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = (String, &'a str)> {
    names.map(move |name| (key.to_owned(), name))
}

impl Directory {
    /// Attributes a bare name is looked up in, the first one naming the user (FD-34).
    pub fn username_attributes(&self) -> Vec<&str> {
        match (&self.attributes.username, self.preset) {
            (Some(list), _) => {
                list.iter().flat_map(|names| each_attribute(names)).filter(|name| !name.is_empty()).collect()
            }
            (None, Preset::ActiveDirectory) => vec!["userPrincipalName", "sAMAccountName"],
            (None, Preset::AdLds) => vec!["userPrincipalName"],
            (None, _) => vec!["uid"],
        }
    }

    /// The attribute a name is looked for in when it is nobody's username (FD-19).
    pub fn alternate_attribute(&self) -> Option<&str> {
        self.attributes.alternate.as_deref()
    }

    pub fn first_name_attributes(&self) -> impl Iterator<Item = &str> {
        mapped(&self.attributes.first_name, "givenName")
    }

    pub fn last_name_attributes(&self) -> impl Iterator<Item = &str> {
        mapped(&self.attributes.last_name, "sn")
    }

    pub fn mail_attributes(&self) -> impl Iterator<Item = &str> {
        mapped(&self.attributes.mail, "mail")
    }

    /// The entry's own DN, where it is not taken as the server writes it (FD-32).
    pub fn distinguished_name_attributes(&self) -> impl Iterator<Item = &str> {
        mapped(&self.attributes.distinguished_name, "")
    }

    pub fn description_attributes(&self) -> impl Iterator<Item = &str> {
        mapped(&self.attributes.description, "description")
    }

    pub fn user_group_attributes(&self) -> impl Iterator<Item = &str> {
        mapped(&self.attributes.user_group, "")
    }

    pub fn extension_attributes(&self) -> impl Iterator<Item = &str> {
        mapped(&self.attributes.extension, "")
    }

    /// Where numbers of this kind stand (FD-39, FD-40).
    pub fn phone_attributes(&self, kind: PhoneKind) -> impl Iterator<Item = &str> {
        let phones = &self.attributes.phones;
        let (written, preset) = match kind {
            PhoneKind::Business => (&phones.business, "telephoneNumber"),
            PhoneKind::Home => (&phones.home, "homePhone"),
            PhoneKind::Pager => (&phones.pager, "pager"),
            PhoneKind::Mobile => (&phones.mobile, "mobile"),
            PhoneKind::Fax => (&phones.fax, "facsimileTelephoneNumber"),
            PhoneKind::Ip => (&phones.ip, if self.preset.is_microsoft() { "ipPhone" } else { "" }),
            PhoneKind::Custom => (&phones.custom, ""),
        };
        mapped(written, preset)
    }

    /// What a container is called (FD-33).
    pub fn container_name_attributes(&self) -> impl Iterator<Item = &str> {
        mapped(&self.attributes.container_name, if self.preset.is_microsoft() { "name" } else { "ou;cn" })
    }

    /// What a group is called (FD-33).
    pub fn group_name_attributes(&self) -> impl Iterator<Item = &str> {
        mapped(&self.attributes.group_name, if self.preset.is_microsoft() { "name" } else { "cn" })
    }

    /// Where the language of what is said over a channel stands (FD-38).
    pub fn language_attributes(&self, channel: &str) -> impl Iterator<Item = &str> {
        let of_channel = self.attributes.languages.by_channel().into_iter().find(|(name, _)| *name == channel);
        of_channel.into_iter().flat_map(|(_, written)| mapped(written, ""))
    }

    /// Every attribute of people that is read for a key of the mapping, with that key, in the order in which they are shown.
    pub fn attributes_of_people(&self) -> Vec<(String, &str)> {
        let mut all = Vec::new();
        all.extend(of_key("username", self.username_attributes().into_iter()));
        all.extend(of_key("alternate", self.alternate_attribute().into_iter()));
        all.extend(of_key("first_name", self.first_name_attributes()));
        all.extend(of_key("last_name", self.last_name_attributes()));
        all.extend(of_key("mail", self.mail_attributes()));
        all.extend(of_key("distinguished_name", self.distinguished_name_attributes()));
        all.extend(of_key("description", self.description_attributes()));
        for kind in PhoneKind::ALL {
            all.extend(of_key(&format!("phones.{}", kind.code()), self.phone_attributes(kind)));
        }
        all.extend(of_key("extension", self.extension_attributes()));
        all.extend(of_key("user_group", self.user_group_attributes()));
        for (channel, _) in self.attributes.languages.by_channel() {
            all.extend(of_key(&format!("languages.{channel}"), self.language_attributes(channel)));
        }
        all
    }
}

impl LanguageAttributes {
    fn by_channel(&self) -> [(&'static str, &Option<String>); 4] {
        [("call", &self.call), ("text", &self.text), ("app", &self.app), ("code", &self.code)]
    }
}
