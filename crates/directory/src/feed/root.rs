//! What a server says of itself in its root DSE (RFC 4512 section 5.1).

use super::link::Link;
use crate::read::Incomplete;
use ldap_wire::{Dn, SearchResultEntry, oid};
use std::sync::Arc;

pub(super) struct Root(SearchResultEntry);

const ATTRIBUTES: &[&str] = &[
    "objectClass",
    "vendorName",
    "vendorVersion",
    "namingContexts",
    "configurationNamingContext",
    "supportedControl",
    "supportedCapabilities",
    "dnsHostName",
    "dsServiceName",
    "highestCommittedUSN",
    "currentTime",
    "changeLog",
    "firstChangeNumber",
    "lastChangeNumber",
];

impl Root {
    pub async fn read(link: &mut Link) -> Result<Self, Incomplete> {
        let (entry, result) = link.entry("", ATTRIBUTES).await?;
        entry.map(Self).ok_or(Incomplete::Refused { server: link.server(), code: result.code })
    }

    pub fn text(&self, attribute: &str) -> Option<&str> {
        self.0.first_text(attribute)
    }

    pub fn number(&self, attribute: &str) -> Option<u64> {
        self.text(attribute)?.parse().ok()
    }

    /// What a domain controller calls itself: the DN of its own settings, of no other one's.
    pub fn dc(&self) -> Option<&str> {
        self.text("dsServiceName")
    }

    fn has(&self, attribute: &str, value: &str) -> bool {
        self.0.values(attribute).iter().any(|found| found.eq_ignore_ascii_case(value.as_bytes()))
    }

    pub fn is_openldap(&self) -> bool {
        self.has("objectClass", "OpenLDAProotDSE")
    }

    pub fn is_389(&self) -> bool {
        ["vendorName", "vendorVersion"]
            .iter()
            .any(|attribute| self.text(attribute).is_some_and(|it| it.contains("389")))
    }

    pub fn is_active_directory(&self) -> bool {
        self.has("supportedCapabilities", oid::CAPABILITY_ACTIVE_DIRECTORY)
            || self.has("supportedCapabilities", oid::CAPABILITY_AD_LDS)
    }

    pub fn has_control(&self, oid: &str) -> bool {
        self.has("supportedControl", oid)
    }

    /// The part of the directory that an entry lies in, as the server writes it: DirSync knows no smaller one (S-10).
    pub fn naming_context_of(&self, dn: &Dn) -> Option<&str> {
        self.naming_contexts()
            .filter(|(_, context)| dn.is_within(context))
            .max_by_key(|(_, it)| it.rdns.len())
            .map(|(text, _)| text)
    }

    /// Up to which changes OpenLDAP has the part of the directory that the base lies in, one for each server that takes writes, as
    /// `20261129154503.000012Z#000000#000#000000`. None where the account may not see them.
    pub async fn context_csns(&self, link: &mut Link) -> Result<Vec<String>, Incomplete> {
        let core = Arc::clone(&link.core);
        let Some(context) = self.naming_context_of(core.base()) else { return Ok(Vec::new()) };
        let (entry, _) = link.entry(context, &["contextCSN"]).await?;
        let csns = entry.iter().flat_map(|entry| entry.values("contextCSN"));
        Ok(csns.filter_map(|csn| std::str::from_utf8(csn).ok().map(str::to_owned)).collect())
    }

    pub fn has_naming_context(&self, dn: &str) -> bool {
        self.0.values("namingContexts").iter().any(|context| context.eq_ignore_ascii_case(dn.as_bytes()))
    }

    fn naming_contexts(&self) -> impl Iterator<Item = (&str, Dn)> {
        let texts = self.0.values("namingContexts").iter().filter_map(|value| std::str::from_utf8(value).ok());
        texts.filter_map(|text| Some((text, text.parse().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ldap_wire::Attribute;

    #[test]
    fn an_entry_lies_in_the_smallest_naming_context_above_it() {
        // S-10
        let contexts = ["DC=corp,DC=test", "CN=Configuration,DC=corp,DC=test", "DC=eu,DC=corp,DC=test", "no dn"];
        let values = contexts.iter().map(|context| Bytes::from_static(context.as_bytes())).collect();
        let root =
            Root(SearchResultEntry { dn: Bytes::new(), attributes: vec![Attribute::new("namingContexts", values)] });
        for (dn, context) in [
            ("ou=people,dc=corp,dc=test", Some("DC=corp,DC=test")),
            ("dc=corp, dc=test", Some("DC=corp,DC=test")),
            ("ou=x,dc=eu,dc=corp,dc=test", Some("DC=eu,DC=corp,DC=test")),
            ("dc=test", None),
            ("dc=other", None),
        ] {
            assert_eq!(root.naming_context_of(&dn.parse().expect("a DN")), context, "{dn}");
        }
    }
}
