//! Is this person in one of these groups, as the directory says now? Asked with the gateway's own query account.

use directory::{Directory, Entry, Incomplete, Query};
use domain::settings::Preset;
use ldap_wire::{Filter, ResultCode, Scope};

/// The directory did not say everything that was asked.
#[derive(Debug, thiserror::Error)]
#[error("the groups of a person could not be read")]
pub(crate) struct Unreadable(#[source] Incomplete);

/// LDAP_MATCHING_RULE_IN_CHAIN, MS-ADTS 3.1.1.3.4.4: groups within groups.
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";
/// "No attributes", RFC 4511 section 4.5.1.8.
const NO_ATTRIBUTES: &[&str] = &["1.1"];

/// Directly, or on Active Directory through other groups. `groups` are DNs.
pub(crate) async fn is_member(directory: &Directory, entry: &Entry, groups: &[String]) -> Result<bool, Unreadable> {
    let named = groups.iter().map(|group| names_group(directory.settings().preset, group));
    if finds(directory, &entry.dn, Filter::or(named)).await? {
        return Ok(true);
    }
    // Not every directory writes memberOf.
    let mut unreadable = None;
    for group in groups {
        match finds(directory, group, names_member(entry)).await {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            // A group that is gone has no members.
            Err(Unreadable(Incomplete::Refused { code: ResultCode::NO_SUCH_OBJECT, .. })) => {}
            Err(error) => unreadable = Some(error),
        }
    }
    unreadable.map_or(Ok(false), Err)
}

fn names_group(preset: Preset, group: &str) -> Filter {
    match preset {
        Preset::ActiveDirectory => Filter::Extensible {
            rule: Some(IN_CHAIN.into()),
            attribute: Some("memberOf".into()),
            value: group.into(),
            dn_attributes: false,
        },
        Preset::AdLds | Preset::OpenLdap | Preset::Ds389 | Preset::EDirectory | Preset::Generic => {
            Filter::equal("memberOf", group)
        }
    }
}

fn names_member(entry: &Entry) -> Filter {
    let (dn, name) = (entry.dn.as_str(), entry.username.as_str());
    Filter::or([Filter::equal("member", dn), Filter::equal("uniqueMember", dn), Filter::equal("memberUid", name)])
}

/// Whether the one entry at `base` matches.
async fn finds(directory: &Directory, base: &str, filter: Filter) -> Result<bool, Unreadable> {
    let query = Query { entries_max: 1, ..Query::new(base, Scope::Base, filter, NO_ATTRIBUTES) };
    directory.read(query).collect().await.map(|found| !found.is_empty()).map_err(Unreadable)
}
