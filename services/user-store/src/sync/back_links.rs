//! Filters that look at groups from their members' side (FD-14, FS-22). Pure.
//!
//! `memberOf` is a back link: the server keeps it, and no change feed tells of it (S-17, S-36). Whom such a filter fits changes when
//! a group does, so all who came into the group or went from it are read again.

use domain::settings::{Directory, SyncItem};
use ldap_wire::Filter;

/// Names of the attribute: AD, OpenLDAP and 389 DS; the same by its number; DSEE and OpenDJ.
const MEMBER_OF: [&str; 3] = ["memberOf", "1.2.840.113556.1.2.102", "isMemberOf"];
/// MS-ADTS 3.1.1.3.4.4.3 LDAP_MATCHING_RULE_TRANSITIVE_EVAL: through groups in groups.
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";

/// How far the filters of a directory and of its items look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// At no group.
    #[default]
    Nowhere,
    /// At the groups that name somebody.
    Members,
    /// At groups in groups, too.
    Within,
}

impl Reach {
    pub fn of(directory: Option<&Directory>, items: &[&SyncItem]) -> Self {
        let Some(directory) = directory else { return Self::Nowhere };
        let texts = std::iter::once(directory.user_filter()).chain(items.iter().map(|item| item.filter.as_str()));
        let filters = texts.filter_map(|text| text.parse::<Filter>().ok());
        match filters.map(|filter| reach(&filter)).max().unwrap_or_default() {
            // Where it is no back link of the server's but a plug-in's, it has those of groups in groups, too (389 DS).
            Self::Members if !directory.preset.is_microsoft() => Self::Within,
            reach => reach,
        }
    }
}

fn reach(filter: &Filter) -> Reach {
    let of = |attribute: &str| match MEMBER_OF.iter().any(|name| name.eq_ignore_ascii_case(attribute)) {
        true => Reach::Members,
        false => Reach::Nowhere,
    };
    match filter {
        Filter::And(filters) | Filter::Or(filters) => filters.iter().map(reach).max().unwrap_or_default(),
        Filter::Not(filter) => reach(filter),
        Filter::Extensible { rule: Some(rule), .. } if rule == IN_CHAIN => Reach::Within,
        Filter::Extensible { attribute, .. } => attribute.as_deref().map(of).unwrap_or_default(),
        Filter::Present(attribute)
        | Filter::Equal { attribute, .. }
        | Filter::Substrings { attribute, .. }
        | Filter::GreaterOrEqual { attribute, .. }
        | Filter::LessOrEqual { attribute, .. }
        | Filter::Approximate { attribute, .. } => of(attribute),
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
            Reach::of(settings.directory("corp"), &settings.sync_items.iter().collect::<Vec<_>>())
        };
        for (preset, user_filter, filter, expected) in [
            ("active_directory", "", "", Reach::Nowhere),
            ("active_directory", "", "(userAccountControl:1.2.840.113556.1.4.803:=2)", Reach::Nowhere),
            ("active_directory", "", "(memberOf=CN=VPN,DC=example)", Reach::Members),
            ("active_directory", "(&(objectClass=user)(!(MEMBEROF=CN=Off,DC=example)))", "", Reach::Members),
            ("active_directory", "", "(1.2.840.113556.1.2.102=CN=VPN,DC=example)", Reach::Members),
            ("active_directory", "", "(|(l=x)(memberOf:1.2.840.113556.1.4.1941:=CN=VPN,DC=example))", Reach::Within),
            ("active_directory", "(memberOf:1.2.840.113556.1.4.1941:=CN=A)", "(memberOf=CN=B)", Reach::Within),
            ("openldap", "", "(employeeType=staff)", Reach::Nowhere),
            ("openldap", "", "(memberOf=cn=vpn,dc=example)", Reach::Within),
            ("389ds", "", "(memberOf=*)", Reach::Within),
            ("generic", "", "(isMemberOf=cn=vpn,dc=example)", Reach::Within),
        ] {
            assert_eq!(reach(preset, user_filter, filter), expected, "{preset} {user_filter} {filter}");
        }
    }
}
