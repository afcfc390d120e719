//! Principal names across the domains of a forest (S-53). Active Directory wants them unique there and does not see to it.
//!
//! Which directories are domains of one forest is told by their names alone: `child.corp.example` belongs to `corp.example`, and both
//! to whatever else belongs to either. A forest may have trees of other names: those are not compared.

use super::{rows, source};
use crate::rpc::StoreError;
use crate::sql::Session;
use domain::settings::{Directory, Preset, Settings};
use ldap_wire::Dn;
use std::collections::{BTreeSet, HashMap};

/// Of these names the principal names that somebody of another domain of the forest has, and still has.
pub async fn names_elsewhere<'a>(
    session: &mut Session,
    settings: &Settings,
    directory: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeSet<String>, StoreError> {
    let found = source::bases(session).await?;
    let others = others(settings, &found, directory);
    if others.is_empty() {
        return Ok(BTreeSet::new());
    }
    let principals = names.filter(|name| name.contains('@'));
    let holders = rows::with_names(session, &others, principals).await?;
    Ok(holders.into_iter().filter(|it| !it.gives_way(settings)).map(|it| it.username_key).collect())
}

/// The directories that are other domains of the forest of this one. Two directories of one domain read the same people. `found` = by
/// directory, where its searches start, for those whose settings leave that to the servers (FD-05).
fn others<'a>(settings: &'a Settings, found: &HashMap<String, String>, directory: &str) -> Vec<&'a str> {
    let of_active_directory = settings.directories.iter().filter(|it| it.preset == Preset::ActiveDirectory);
    let domain = |it: &Directory| {
        let base = if it.base.is_empty() { found.get(it.name.as_str())? } else { &it.base };
        base.parse::<Dn>().ok()?.dns_domain()
    };
    let domains: Vec<(&str, String)> =
        of_active_directory.filter_map(|it| Some((it.name.as_str(), domain(it)?))).collect();
    let Some((_, own)) = domains.iter().find(|(name, _)| *name == directory) else { return Vec::new() };
    let mut forest: BTreeSet<&str> = BTreeSet::from([own.as_str()]);
    loop {
        let related = |domain: &str| forest.iter().any(|known| is_below(domain, known) || is_below(known, domain));
        let more: Vec<&str> = domains
            .iter()
            .map(|(_, domain)| domain.as_str())
            .filter(|domain| !forest.contains(domain) && related(domain))
            .collect();
        if more.is_empty() {
            break;
        }
        forest.extend(more);
    }
    let other = |(_, domain): &&(&str, String)| domain != own && forest.contains(domain.as_str());
    domains.iter().filter(other).map(|(name, _)| *name).collect()
}

fn is_below(domain: &str, above: &str) -> bool {
    domain.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forest_is_what_its_names_hold_together() {
        // S-53
        let mut document = String::new();
        for (name, preset, base) in [
            ("corp", "active_directory", "DC=corp,DC=example"),
            ("staff", "active_directory", "OU=Staff,DC=corp,DC=example"),
            ("west", "active_directory", "OU=x,DC=West,DC=corp,DC=example"),
            ("east", "active_directory", "DC=east,DC=corp,DC=example"),
            ("deep", "active_directory", "DC=deep,DC=east,DC=corp,DC=example"),
            ("notcorp", "active_directory", "DC=notcorp,DC=example"),
            ("partner", "active_directory", "DC=partner,DC=example"),
            ("lab", "openldap", "DC=lab,DC=corp,DC=example"),
            ("open", "active_directory", ""),
            ("found", "active_directory", ""),
        ] {
            document += &format!(
                "[[directory]]\nname = \"{name}\"\npreset = \"{preset}\"\nurls = [\"ldaps://dc\"]\nbase = \"{base}\"\n\
                 query_bind = {{ kind = \"anonymous\" }}\n"
            );
        }
        let settings: Settings = toml::from_str(&document).expect("valid");
        let found = [("found", "DC=found,DC=corp,DC=example"), ("corp", "DC=elsewhere,DC=example")];
        let found = found.map(|(name, base)| (name.to_owned(), base.to_owned())).into();
        let others = |directory| others(&settings, &found, directory);
        assert_eq!(others("corp"), ["west", "east", "deep", "found"], "what the settings say comes first");
        assert_eq!(others("deep"), ["corp", "staff", "west", "east", "found"]);
        assert_eq!(others("found"), ["corp", "staff", "west", "east", "deep"]);
        for alone in ["notcorp", "partner", "lab", "open", "nobody"] {
            assert_eq!(others(alone), [""; 0], "{alone}: no run has found out yet, or it is no domain of the forest");
        }
    }
}
