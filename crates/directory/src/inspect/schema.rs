//! Which attributes of the settings the directory's schema does not have (FD-17). A misspelt name reads as an empty value for ever.

use crate::directory::Directory;
use crate::read::{Incomplete, Query};
use domain::settings;
use ldap_wire::{Filter, Scope, SearchResultEntry};
use std::collections::HashSet;

/// By key of the settings. Nobody is accused by a directory that shows no schema.
pub(super) async fn unknown(directory: &Directory) -> Result<Vec<(String, String)>, Incomplete> {
    let root = read(directory, "", Filter::present("objectClass"), "subschemaSubentry").await?;
    let Some(schema) = root.first().and_then(|root| root.first_text("subschemaSubentry")) else {
        return Ok(Vec::new());
    };
    // RFC 4512 section 4.4: it answers to this filter, and to be asked for by name.
    let schema = read(directory, schema, Filter::equal("objectClass", "subschema"), "attributeTypes").await?;
    let types = schema.iter().flat_map(|schema| schema.values("attributeTypes"));
    let known: HashSet<String> = types
        .filter_map(|it| std::str::from_utf8(it).ok())
        .flat_map(names)
        .map(|name| name.to_ascii_lowercase())
        .collect();
    let is_unknown = |attribute: &str| !known.is_empty() && !is_oid(attribute) && !known.contains(&bare(attribute));
    let unknown = mapped(directory.settings()).into_iter().filter(|(_, attribute)| is_unknown(attribute));
    Ok(unknown.map(|(key, attribute)| (key, attribute.to_owned())).collect())
}

/// Containers have what the presets call them by or not; what is written is meant.
fn mapped(settings: &settings::Directory) -> Vec<(String, &str)> {
    let mut mapped = settings.attributes_of_people();
    mapped.push(("id".to_owned(), settings.id_attribute()));
    if settings.attributes.container_name.is_some() {
        mapped.extend(settings.container_name_attributes().map(|it| ("container_name".to_owned(), it)));
    }
    mapped.extend(settings.group_name_attributes().map(|it| ("group_name".to_owned(), it)));
    mapped
}

async fn read(
    directory: &Directory,
    dn: &str,
    filter: Filter,
    attribute: &str,
) -> Result<Vec<SearchResultEntry>, Incomplete> {
    directory.read(Query::new(dn, Scope::Base, filter, &[attribute])).collect().await
}

/// Without options such as `;lang-de`.
fn bare(attribute: &str) -> String {
    attribute.split(';').next().unwrap_or_default().to_ascii_lowercase()
}

fn is_oid(attribute: &str) -> bool {
    attribute.starts_with(|first: char| first.is_ascii_digit())
}

/// RFC 4512 section 4.1.2: `( 2.5.4.3 NAME ( 'cn' 'commonName' ) SUP name )`, or one name without the inner brackets.
fn names(definition: &str) -> Vec<&str> {
    let Some((_, rest)) = definition.split_once(" NAME ") else { return Vec::new() };
    let rest = rest.trim_start();
    let list = match rest.strip_prefix('(') {
        Some(list) => list.split(')').next().unwrap_or_default(),
        None => rest.get(..rest.match_indices('\'').nth(1).map_or(0, |(end, _)| end + 1)).unwrap_or_default(),
    };
    list.split('\'').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_an_attribute_are_read_from_its_definition() {
        for (definition, expected) in [
            (
                "( 2.5.4.3 NAME ( 'cn' 'commonName' ) DESC 'RFC4519: common name(s)' SUP name )",
                &["cn", "commonName"][..],
            ),
            ("( 0.9.2342 NAME 'mail' DESC 'it NAME ''x'' SUP y' EQUALITY caseIgnoreIA5Match )", &["mail"]),
            ("( 1.2 NAME ('a'  'b') )", &["a", "b"]),
            ("( 1.2 DESC 'nameless' )", &[]),
            ("( 1.2 NAME 'open", &[]),
            ("( 1.2 NAME ( )", &[]),
            ("", &[]),
        ] {
            assert_eq!(names(definition), expected, "{definition}");
        }
        assert_eq!(bare("Department;lang-en"), "department");
    }
}
