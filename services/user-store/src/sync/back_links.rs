//! Filters that look at groups from their members' side (FD-14, FS-22). Pure.
//!
//! `memberOf` is a back link: the server keeps it, and no change feed tells of it (S-17, S-36). Whom such a filter fits changes when
//! a group does, so all who came into the group or went from it are read again.

use super::members::{Group, dn_key};
use domain::settings::{Directory, SyncItem};
use ldap_wire::{Dn, Filter};
use std::collections::BTreeSet;

/// Names of the attribute: AD, OpenLDAP and 389 DS; the same by its number; DSEE and OpenDJ.
const MEMBER_OF: [&str; 3] = ["memberOf", "1.2.840.113556.1.2.102", "isMemberOf"];
/// MS-ADTS 3.1.1.3.4.4.3 LDAP_MATCHING_RULE_TRANSITIVE_EVAL: through groups in groups.
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";

/// How far filters look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// At no group.
    #[default]
    Nowhere,
    /// At the groups that name somebody.
    Members,
    /// At groups in groups, too.
    Within,
}

/// At which groups the filters of a directory and of its items look, and how far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    pub depth: Depth,
    /// Those they name, as DNs are compared.
    named: BTreeSet<String>,
    /// At whatever group there is: not all of them are named one by one.
    any: bool,
}

impl Reach {
    pub fn of(directory: Option<&Directory>, items: &[&SyncItem]) -> Self {
        let Some(directory) = directory else { return Self::default() };
        let texts = std::iter::once(directory.user_filter()).chain(items.iter().map(|item| item.filter.as_str()));
        let mut reach = Self::default();
        texts.filter_map(|text| text.parse::<Filter>().ok()).for_each(|filter| reach.read(&filter));
        // Where it is no back link of the server's but a plug-in's, it has those of groups in groups, too (389 DS).
        if reach.depth == Depth::Members && !directory.preset.is_microsoft() {
            reach.depth = Depth::Within;
        }
        reach
    }

    /// Is this one of the groups they look at?
    pub fn names(&self, group: &Group) -> bool {
        self.any || self.named.contains(&group.dn_key)
    }

    fn read(&mut self, filter: &Filter) {
        let looks = |attribute: &str| MEMBER_OF.iter().any(|name| name.eq_ignore_ascii_case(attribute));
        match filter {
            Filter::And(filters) | Filter::Or(filters) => filters.iter().for_each(|filter| self.read(filter)),
            Filter::Not(filter) => self.read(filter),
            Filter::Extensible { rule: Some(rule), attribute, value, .. } if rule == IN_CHAIN => {
                let of_groups = attribute.as_deref().is_some_and(looks);
                self.looks_at(Depth::Within, Some(value.as_slice()).filter(|_| of_groups));
            }
            Filter::Equal { attribute, value } if looks(attribute) => self.looks_at(Depth::Members, Some(value)),
            Filter::Extensible { attribute: Some(attribute), .. }
            | Filter::Present(attribute)
            | Filter::Substrings { attribute, .. }
            | Filter::GreaterOrEqual { attribute, .. }
            | Filter::LessOrEqual { attribute, .. }
            | Filter::Approximate { attribute, .. }
                if looks(attribute) =>
            {
                self.looks_at(Depth::Members, None);
            }
            _ => {}
        }
    }

    fn looks_at(&mut self, depth: Depth, value: Option<&[u8]>) {
        self.depth = self.depth.max(depth);
        let name = value.and_then(|value| std::str::from_utf8(value).ok()).filter(|name| name.parse::<Dn>().is_ok());
        match name {
            Some(name) => drop(self.named.insert(dn_key(name))),
            None => self.any = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::settings::Settings;

    #[test]
    fn a_filter_looks_at_groups_by_its_attribute_or_by_its_rule() {
        // FD-14, FS-22
        let reach = |preset: &str, user_filter: &str, filter: &str| {
            let text = format!(
                "[[directory]]\nname = \"corp\"\npreset = \"{preset}\"\nurls = [\"ldaps://dc1.example\"]\n\
                 base = \"dc=example\"\nuser_filter = \"{user_filter}\"\nquery_bind = {{ kind = \"anonymous\" }}\n\
                 [[sync_item]]\nname = \"all\"\ndirectory = \"corp\"\nsource = {{ kind = \"domain\" }}\nfilter = \"{filter}\"\n"
            );
            let settings: Settings = toml::from_str(&text).expect("valid");
            Reach::of(settings.directory("corp"), &settings.sync_items.iter().collect::<Vec<_>>()).depth
        };
        for (preset, user_filter, filter, expected) in [
            ("active_directory", "", "", Depth::Nowhere),
            ("active_directory", "", "(userAccountControl:1.2.840.113556.1.4.803:=2)", Depth::Nowhere),
            ("active_directory", "", "(memberOf=CN=VPN,DC=example)", Depth::Members),
            ("active_directory", "(&(objectClass=user)(!(MEMBEROF=CN=Off,DC=example)))", "", Depth::Members),
            ("active_directory", "", "(1.2.840.113556.1.2.102=CN=VPN,DC=example)", Depth::Members),
            ("active_directory", "", "(|(l=x)(memberOf:1.2.840.113556.1.4.1941:=CN=VPN,DC=example))", Depth::Within),
            ("active_directory", "(memberOf:1.2.840.113556.1.4.1941:=CN=A)", "(memberOf=CN=B)", Depth::Within),
            ("openldap", "", "(employeeType=staff)", Depth::Nowhere),
            ("openldap", "", "(memberOf=cn=vpn,dc=example)", Depth::Within),
            ("389ds", "", "(memberOf=*)", Depth::Within),
            ("generic", "", "(isMemberOf=cn=vpn,dc=example)", Depth::Within),
        ] {
            assert_eq!(reach(preset, user_filter, filter), expected, "{preset} {user_filter} {filter}");
        }
    }

    #[test]
    fn a_filter_names_its_groups_or_looks_at_any() {
        let group = |dn: &str| Group { dn_key: dn_key(dn), ..Group::default() };
        for (filter, vpn, other) in [
            ("(memberOf=CN=VPN,DC=example)", true, false),
            ("(!(memberof:1.2.840.113556.1.4.1941:=cn=vpn, dc=example))", true, false),
            ("(|(memberOf=cn=vpn,dc=example)(l=x))", true, false),
            ("(|(memberOf=cn=vpn,dc=example)(memberOf=*))", true, true),
            ("(memberOf=<GUID=0123>)", true, true),
            ("(memberOf=*vpn*)", true, true),
            ("(manager:1.2.840.113556.1.4.1941:=cn=vpn,dc=example)", true, true),
            ("(cn=vpn)", false, false),
        ] {
            let mut reach = Reach::default();
            reach.read(&filter.parse().expect("a filter"));
            let names = (reach.names(&group("CN=vpn,dc=example")), reach.names(&group("cn=other,dc=example")));
            assert_eq!(names, (vpn, other), "{filter}");
        }
    }
}
