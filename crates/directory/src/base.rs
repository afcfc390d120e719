//! Where all searches start, where the settings leave that to the server: what its root DSE says (FD-05, RFC 4512 section 5.1).

use crate::connection::Connection;
use crate::directory::Core;
use crate::query::{self, QueryError};
use ldap_wire::SearchResultEntry;
use std::collections::BTreeSet;

/// The last two name contexts of Active Directory and AD LDS that hold no people (MS-ADTS section 3.1.1.3.2).
const ATTRIBUTES: [&str; 4] =
    ["defaultNamingContext", "namingContexts", "configurationNamingContext", "schemaNamingContext"];
/// Of contexts that are told, and of the signs of each: whatever the server sends, it fits a line.
const TOLD_MAX: usize = 16;
const SIGNS_MAX: usize = 200;

/// Asks over a bound connection, unless the base is known: from the settings, or from a server that came first.
pub(crate) async fn learn(core: &Core, connection: &mut Connection) -> Result<(), QueryError> {
    if core.knows_base() {
        return Ok(());
    }
    let (root, _) = query::entry(connection, String::new(), &ATTRIBUTES).await?;
    let found = root.as_ref().map_or_else(Vec::new, of);
    match found.as_slice() {
        [base] if core.learn_base(base).is_ok() => Ok(()),
        _ => {
            let found = found.iter().take(TOLD_MAX).map(|text| shown(text)).collect();
            Err(QueryError::NoBase { server: connection.server().clone(), found })
        }
    }
}

/// The default one where there is one (Active Directory, 389 DS), else all that may hold people.
fn of(root: &SearchResultEntry) -> Vec<String> {
    if let Some(default) = root.first_text("defaultNamingContext").filter(|text| !text.is_empty()) {
        return vec![default.to_owned()];
    }
    let [configuration, schema] = ["configurationNamingContext", "schemaNamingContext"].map(|it| root.first_text(it));
    let texts = root.values("namingContexts").iter().filter_map(|value| std::str::from_utf8(value).ok());
    let may_hold = |text: &&str| !text.is_empty() && Some(*text) != configuration && Some(*text) != schema;
    texts.filter(may_hold).map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

fn shown(text: &str) -> String {
    text.chars().filter(|sign| !sign.is_control()).take(SIGNS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ldap_wire::Attribute;

    #[test]
    fn the_default_context_counts_before_the_only_one_that_may_hold_people() {
        // FD-05
        let root = |attributes: &[(&str, &[&'static str])]| {
            let one = |(name, values): &(&str, &[&'static str])| {
                Attribute::new(*name, values.iter().map(|value| Bytes::from_static(value.as_bytes())).collect())
            };
            of(&SearchResultEntry { dn: Bytes::new(), attributes: attributes.iter().map(one).collect() })
        };
        let (corp, configuration) = ("DC=corp", "CN=Configuration,DC=corp");
        let contexts: &[_] = &[configuration, corp, "DC=DomainDnsZones,DC=corp"];
        assert_eq!(root(&[("namingContexts", contexts), ("defaultNamingContext", &[corp])]), [corp]);
        assert_eq!(root(&[("namingContexts", &["dc=one"])]), ["dc=one"]);
        assert_eq!(root(&[("namingContexts", &["o=b", "o=a", "o=b", ""])]), ["o=a", "o=b"]);
        let lds: &[_] = &["CN=Configuration,CN={1}", "CN=Schema,CN=Configuration,CN={1}", "o=app"];
        let own =
            [("namingContexts", lds), ("configurationNamingContext", &lds[..1]), ("schemaNamingContext", &lds[1..2])];
        assert_eq!(root(&own), ["o=app"]);
        assert_eq!(root(&[]), [""; 0]);
    }
}
