//! What entries are by the filters of the directory and of the items, said here as far as an entry alone can tell; of the rest the
//! directory is asked (S-14, FD-14). Who looks at an entry knows with what it was asked for: see [`Look`].

use crate::plan;
use crate::source::Source;
use directory::Directory;
use domain::ObjectId;
use domain::settings::{Preset, each_once};
use ldap_wire::{Filter, Fit, Rules, SearchResultEntry, Seen};
use std::collections::HashMap;

/// An account can be of many groups: that is more than the answer of the directory to a page of people, so it is asked for of a few only.
const LARGE: &str = "memberOf";
/// Tells whether an entry was written between two parts of what is large (S-51).
const REVISION: &str = "uSNChanged";

/// What entries are asked for, to be kept as users and to be judged by filters.
pub(crate) struct Look<'a> {
    rules: Rules,
    pub(crate) attributes: Vec<&'a str>,
}

impl<'a> Look<'a> {
    /// At whoever fits the user filter, page by page: the items' filters are left. What is large is asked for where it is mapped only.
    pub(crate) fn at_users(directory: &'a Directory, source: &'a Source) -> Self {
        let of_items = source.filters().map(|(_, filter)| filter);
        let mut look = Self::by(directory, of_items);
        let is_large = |attribute: &&str| attribute.eq_ignore_ascii_case(LARGE);
        if !plan::user_attributes(directory.settings()).iter().any(is_large) {
            look.attributes.retain(|attribute| !is_large(attribute));
        }
        look
    }

    /// At some objects, whatever they are.
    pub(crate) fn at_some(directory: &'a Directory, source: &'a Source) -> Self {
        let of_directory = [directory.user_filter(), directory.group_filter(), directory.container_filter()];
        Self::by(directory, of_directory.into_iter().chain(source.filters().map(|(_, filter)| filter)))
    }

    fn by(directory: &'a Directory, filters: impl Iterator<Item = &'a Filter>) -> Self {
        let settings = directory.settings();
        let rules = rules(settings.preset);
        let mut attributes = plan::user_attributes(settings);
        // An entry that does not show it is hidden, and what it has is nobody's to say.
        attributes.push("objectClass");
        for attribute in filters.flat_map(|filter| filter.attributes_to_evaluate(rules)) {
            if rules == Rules::Microsoft && attribute.eq_ignore_ascii_case(LARGE) {
                attributes.push(REVISION);
            }
            attributes.push(attribute);
        }
        Self { rules, attributes: each_once(attributes) }
    }

    pub(crate) fn fit(&self, filter: &Filter, entry: &SearchResultEntry) -> Fit {
        filter.fit(entry, &Seen { rules: self.rules, asked: &self.attributes })
    }
}

fn rules(preset: Preset) -> Rules {
    match preset {
        Preset::ActiveDirectory | Preset::AdLds => Rules::Microsoft,
        Preset::Ds389 => Rules::Ds389,
        Preset::OpenLdap => Rules::Standard,
        Preset::EDirectory | Preset::Generic => Rules::Other,
    }
}

/// Entries by their ids; more than one where somebody writes the ids (FD-31).
pub(crate) type Found = HashMap<ObjectId, Vec<SearchResultEntry>>;

/// Those that fit a filter, and the ids of those of which only the directory can say it.
pub(crate) fn fitting(look: &Look<'_>, filter: &Filter, found: &Found) -> (Found, Vec<ObjectId>) {
    let (mut fitting, mut unclear) = (Found::new(), Vec::new());
    for (id, entries) in found {
        let fits: Vec<Fit> = entries.iter().map(|entry| look.fit(filter, entry)).collect();
        if fits.contains(&Fit::Unknown) {
            unclear.push(id.clone());
        } else if fits.contains(&Fit::Yes) {
            let both = entries.iter().zip(fits).filter(|(_, fit)| *fit == Fit::Yes);
            fitting.insert(id.clone(), both.map(|(entry, _)| entry.clone()).collect());
        }
    }
    (fitting, unclear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use directory::Options;
    use ldap_wire::Attribute;

    fn directory(preset: &str, more: &str) -> Directory {
        let text = format!(
            r#"{{ "name": "corp", "preset": "{preset}", "urls": ["ldaps://127.0.0.1:1"], "base": "dc=corp",
                 "query_bind": {{ "kind": "anonymous" }} {more} }}"#
        );
        Directory::new(serde_json::from_str(&text).expect("settings"), None, Options::default()).expect("a directory")
    }

    fn entry(class: &'static str) -> SearchResultEntry {
        let class = Attribute::new("objectClass", vec![Bytes::from_static(class.as_bytes())]);
        SearchResultEntry { dn: Bytes::from_static(b"cn=x"), attributes: vec![class] }
    }

    #[tokio::test]
    async fn what_filters_look_at_is_asked_for_but_for_secrets_and_of_many_what_is_large() {
        // S-14
        let filter = r#", "user_filter": "(&(objectClass=user)(memberOf=cn=x)(unicodePwd=*)(company=ACME)(acme=1))""#;
        let directory = directory("active_directory", filter);
        let source = Source::filtered("(&(memberOf=cn=y)(employeeID=1)(userPassword=*))");
        let has = |look: &Look<'_>, name: &str| look.attributes.contains(&name);
        let (some, many) = (Look::at_some(&directory, &source), Look::at_users(&directory, &source));
        for (name, of_some, of_many) in [
            ("objectGUID", true, true),
            ("employeeID", true, true),
            ("company", true, false),
            ("memberOf", true, false),
            ("unicodePwd", false, false),
            ("userPassword", false, false),
            ("acme", false, false),
        ] {
            assert_eq!((has(&some, name), has(&many, name)), (of_some, of_many), "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_large_is_asked_for_of_many_where_somebody_maps_it() {
        // FS-34
        let source = Source::filtered("(memberOf=cn=y)");
        for (mapped, asked_for) in [("", false), (r#", "attributes": { "user_group": "memberof" }"#, true)] {
            let directory = directory("active_directory", mapped);
            let look = Look::at_users(&directory, &source);
            let found = look.attributes.iter().filter(|attribute| attribute.eq_ignore_ascii_case(LARGE)).count();
            assert_eq!(found, usize::from(asked_for), "{mapped}");
        }
    }

    #[tokio::test]
    async fn of_entries_with_one_id_the_directory_is_asked_where_one_is_unclear() {
        // FD-31
        let directory = directory("openldap", "");
        let source = Source::filtered("(cn=x)");
        let look = Look::at_some(&directory, &source);
        let id = |number: u8| -> ObjectId {
            format!("entryUUID:00000000-0000-0000-0000-0000000000{number:02}").parse().expect("an id")
        };
        let (person, group, strange) = (entry("inetOrgPerson"), entry("groupOfNames"), entry("acmePerson"));
        let found = Found::from([
            (id(1), vec![person.clone(), group.clone(), person.clone()]),
            (id(2), vec![group.clone()]),
            (id(3), vec![person, strange]),
        ]);
        let (users, unclear) = fitting(&look, directory.user_filter(), &found);
        assert_eq!(users.iter().map(|(id, entries)| (id.clone(), entries.len())).collect::<Vec<_>>(), [(id(1), 2)]);
        assert_eq!(unclear, [id(3)]);
    }
}
