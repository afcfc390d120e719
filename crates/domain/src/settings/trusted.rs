//! Whether a directory includes the other domains that it lists (FD-02): as it is written, else wherever nothing stands against it.

use super::{BindKind, Directory, Preset, QueryBind, WindowsMechanism};
use crate::ObjectId;
use std::fmt;

/// What keeps a directory to its own domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confined {
    /// Nothing but a domain of Active Directory lists others.
    Kind,
    /// FD-31: two domains may each have written the same.
    Id,
    /// FD-18: no name belongs to another domain.
    StripDomain,
    /// FD-06, FD-08: the query account is none elsewhere.
    Account,
}

impl Directory {
    pub fn includes_trusted_domains(&self) -> bool {
        match self.trusted_domains {
            Some(included) => included && self.preset == Preset::ActiveDirectory,
            None => self.confined_by().is_empty(),
        }
    }

    /// Whatever stands against other domains.
    pub fn confined_by(&self) -> Vec<Confined> {
        let all = [
            (Confined::Kind, self.preset != Preset::ActiveDirectory),
            (Confined::Id, ObjectId::known_type(self.id_attribute()).is_none()),
            (Confined::StripDomain, self.strip_domain),
            (Confined::Account, self.is_known_at_home_only(&self.query_bind)),
        ];
        all.into_iter().filter(|(_, holds)| *holds).map(|(confined, _)| confined).collect()
    }

    /// Other domains know no anonymous account, and take no ticket of this one.
    pub(super) fn is_known_at_home_only(&self, bind: &QueryBind) -> bool {
        let by_ticket = bind.is_by_keytab() || self.windows_mechanism == WindowsMechanism::Kerberos;
        bind.kind == BindKind::Anonymous || (bind.kind == BindKind::Windows && by_ticket)
    }
}

/// As the second half of a sentence.
impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "only a domain of Active Directory lists others",
            Self::Id => {
                "attributes.id is handed out by no server, so that somebody of another domain may have the same and would be the same person"
            }
            Self::StripDomain => {
                "with strip_domain any domain counts as this directory's own, so that no name belongs to another"
            }
            Self::Account => {
                "other domains know no anonymous account, and none that shows a Kerberos ticket of this one"
            }
        })
    }
}

impl Confined {
    /// For whoever wants them all the same.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Kind => "leave it out",
            Self::Id => "leave attributes.id out, or write a directory for each domain",
            Self::StripDomain => "leave one of them out",
            Self::Account => {
                "write query_bind.kind = \"tls\", or \"windows\" with name and password and a windows_mechanism that includes NTLM"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(text: &str) -> Directory {
        let bind = if text.contains("query_bind") { "" } else { "query_bind = { kind = \"tls\", name = \"cn=q\" }\n" };
        toml::from_str(&format!("name = \"corp\"\nurls = [\"ldaps://dc\"]\n{bind}{text}")).expect("a directory")
    }

    #[test]
    fn other_domains_are_included_where_nothing_is_written_unless_something_stands_against_it() {
        // FD-02: on in Active Directory
        for (text, confined) in [
            ("", None),
            ("preset = \"active_directory\"", None),
            ("attributes = { id = \"objectguid\" }", None),
            ("query_bind = { kind = \"windows\", name = 'CORP\\q' }", None),
            ("preset = \"ad_lds\"", Some(Confined::Kind)),
            ("preset = \"openldap\"", Some(Confined::Kind)),
            ("strip_domain = true", Some(Confined::StripDomain)),
            ("attributes = { id = \"employeeID\" }", Some(Confined::Id)),
            ("query_bind = { kind = \"anonymous\" }", Some(Confined::Account)),
            ("query_bind = { kind = \"windows\" }", Some(Confined::Account)),
            (
                "query_bind = { kind = \"windows\", name = 'CORP\\q' }\nwindows_mechanism = \"kerberos\"",
                Some(Confined::Account),
            ),
        ] {
            let found = directory(text);
            assert_eq!(found.confined_by(), Vec::from_iter(confined), "{text}");
            assert_eq!(found.includes_trusted_domains(), confined.is_none(), "{text}");
            let off = directory(&format!("trusted_domains = false\n{text}"));
            assert!(!off.includes_trusted_domains(), "{text}");
            let kept: Directory = toml::from_str(&toml::to_string(&off).expect("text")).expect("as it was written");
            assert_eq!(kept.trusted_domains, Some(false), "what is written stays written");
        }
        assert!(!directory("preset = \"generic\"\ntrusted_domains = true").includes_trusted_domains());
    }

    #[test]
    fn synchronisation_includes_them_where_the_directory_does_whatever_account_it_reads_with() {
        // FD-02, FD-09: where it stood apart, people of other domains would be gone
        let keytab = "sync_bind = { kind = \"windows\" }";
        assert!(directory(keytab).as_synchronised().includes_trusted_domains());
        let sync = "query_bind = { kind = \"anonymous\" }\nsync_bind = { kind = \"tls\", name = \"cn=s\" }";
        assert!(!directory(sync).as_synchronised().includes_trusted_domains());
    }
}
