//! Which domains there are beside a directory's own, as Active Directory itself lists them (FD-02).
//!
//! ```text
//! root DSE ─┬─ CN=Partitions of the configuration: crossRef ─────> the other domains of the forest   MS-ADTS section 6.1.1.2.1.1
//!           └─ CN=System of the own domain: trustedDomain ───────> trusted domains and forests       MS-ADTS section 6.1.6.7
//! ```
//!
//! A domain is used where trust goes both ways: its people are trusted here, and our query account is trusted there.

use crate::directory::Directory;
use crate::read::{Incomplete, Query, Reader};
use domain::settings::{self, BindKind, QueryBind, TrustedServers, WindowsMechanism, is_domain_name};
use ldap_wire::{Dn, Filter, Scope, SearchResultEntry};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// A domain that the directory lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedDomain {
    /// In lower case: `child.corp.example`.
    pub dns_name: String,
    /// What stands before a backslash: `CHILD`. Empty where none is listed that one could type.
    pub netbios_name: String,
    pub base: Dn,
    pub kind: TrustKind,
    pub usable: Result<(), NotUsed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustKind {
    /// Of the same forest.
    Forest,
    /// The root of another forest. Its other domains are not listed here.
    OtherForest,
    /// Trusted by itself.
    External,
}

/// Why nobody is looked for there. Prints as the reason, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotUsed {
    #[error("the directory does not trust its people: the trust is incoming only, or switched off")]
    NotTrusted,
    #[error(
        "it does not trust the query account, as the trust is outgoing only; make it a directory of its own, with an account of its own"
    )]
    NotTrusting,
    /// TRUST_ATTRIBUTE_CROSS_ORGANIZATION: which of its people may come is said of each computer, and we are none.
    #[error(
        "its people are trusted at chosen computers only (selective authentication); make it a directory of its own"
    )]
    Selective,
    #[error("it is no domain of Active Directory")]
    NotActiveDirectory,
    #[error(
        "query_bind is no account that could be shown to it: that takes one with a password, by a TLS bind or by NTLM"
    )]
    NoAccount,
    #[error("the directory lists more than the {DOMAINS_MAX} that can be used")]
    TooMany,
}

/// All that the directory says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub domains: Vec<TrustedDomain>,
    /// The query account as another domain knows it: `CORP\twinlock`.
    account: String,
    /// What stands before a backslash for the own domain: `CORP`. Empty where none is listed that one could type.
    own_short: String,
}

/// So many are used. What the directory lists beyond is told of.
pub(crate) const DOMAINS_MAX: usize = 256;
/// Entries of one place: each domain has one, partitions that are no domains too.
const LISTED_MAX: usize = 4096;

/// Asks the directory, on a connection of its own. What it does not show to an account that lost a right is no answer (S-41): so what
/// every domain controller has is looked for, too.
pub(crate) async fn list(directory: &Directory) -> Result<Listed, Incomplete> {
    directory.ready().await?;
    let reader = directory.reader();
    let root = entries(&reader, "", Scope::Base, Filter::present("objectClass"), &[DEFAULT, CONFIGURATION]).await?;
    let context = |attribute| {
        let context = root.first().and_then(|root| root.first_text(attribute));
        context.ok_or(Incomplete::Hidden { what: "the naming contexts of its root DSE" })
    };
    let (home, configuration) = (context(DEFAULT)?, context(CONFIGURATION)?);
    let partitions = format!("CN=Partitions,{configuration}");
    let attributes = ["nCName", "nETBIOSName", "systemFlags", "enabled"];
    let references = entries(&reader, &partitions, Scope::One, of_class("crossRef"), &attributes).await?;
    let dn: Option<Dn> = home.parse().ok();
    // The configuration has one, too, and lies within.
    let is_own = |it: &&SearchResultEntry| {
        let context: Option<Dn> = it.first_text("nCName").and_then(|context| context.parse().ok());
        dn.as_ref().zip(context).is_some_and(|(home, context)| context.key() == home.key())
    };
    let reference =
        references.iter().find(is_own).ok_or(Incomplete::Hidden { what: "the crossRef of its own domain" })?;
    if number(reference, "systemFlags") & IS_DOMAIN != IS_DOMAIN {
        return Err(Incomplete::Hidden { what: "the systemFlags of the crossRef of its own domain" });
    }
    if references.iter().any(|reference| reference.first_text("nCName").is_none()) {
        return Err(Incomplete::Hidden { what: "the nCName of a crossRef" });
    }
    let own = dn.and_then(|dn| dn.dns_domain()).unwrap_or_default();
    let forest = references.iter().filter_map(of_forest);
    let trusts = trusts(&reader, home).await?;
    let domains = others(&own, forest, trusts.iter().filter_map(of_trust));
    let account = match domains.iter().any(|domain| domain.usable.is_ok()) {
        true => account(directory, &reader, reference).await?,
        false => None,
    };
    let own_short = reference.first_text("nETBIOSName").filter(is_plain).unwrap_or_default().to_owned();
    Ok(Listed { own_short, ..Listed::of(domains, account) })
}

const DEFAULT: &str = "defaultNamingContext";
const CONFIGURATION: &str = "configurationNamingContext";
/// There is one in the `CN=System` of every domain, and nobody can delete it.
const IN_EVERY_SYSTEM: &str = "rIDManager";

/// An account that may not list what lies in `CN=System` is shown nothing there, with success: no trust looks the same as that.
async fn trusts(reader: &Reader, home: &str) -> Result<Vec<SearchResultEntry>, Incomplete> {
    let attributes = ["objectClass", "trustPartner", "flatName", "trustDirection", "trustType", "trustAttributes"];
    let filter = Filter::or(["trustedDomain", IN_EVERY_SYSTEM].map(of_class));
    let found = entries(reader, &format!("CN=System,{home}"), Scope::One, filter, &attributes).await?;
    let is_of = |entry: &SearchResultEntry, class: &str| {
        entry.values("objectClass").iter().any(|value| value.eq_ignore_ascii_case(class.as_bytes()))
    };
    if !found.iter().any(|entry| is_of(entry, IN_EVERY_SYSTEM)) {
        return Err(Incomplete::Hidden { what: "what lies in CN=System of its own domain" });
    }
    let trusts: Vec<_> = found.into_iter().filter(|entry| is_of(entry, "trustedDomain")).collect();
    match trusts.iter().all(|trust| trust.first_text("trustPartner").is_some()) {
        true => Ok(trusts),
        false => Err(Incomplete::Hidden { what: "the trustPartner of a trust" }),
    }
}

fn of_class(class: &str) -> Filter {
    Filter::equal("objectClass", class)
}

async fn entries(
    reader: &Reader,
    base: &str,
    scope: Scope,
    filter: Filter,
    attributes: &[&str],
) -> Result<Vec<SearchResultEntry>, Incomplete> {
    reader.read(Query { entries_max: LISTED_MAX, ..Query::new(base, scope, filter, attributes) }).collect().await
}

/// The query account by its own domain, where it has one that others understand; of a DN only the own domain knows whose it is.
async fn account(
    directory: &Directory,
    reader: &Reader,
    own: &SearchResultEntry,
) -> Result<Option<String>, Incomplete> {
    let settings = directory.settings();
    let QueryBind { kind, name, .. } = &settings.query_bind;
    let by_ntlm = settings.windows_mechanism != WindowsMechanism::Kerberos && !settings.query_bind.is_by_keytab();
    let found = match kind {
        BindKind::Anonymous => return Ok(None),
        BindKind::Windows => return Ok(by_ntlm.then(|| name.clone())),
        BindKind::Simple | BindKind::Tls if !ldap_wire::dn::is_dn_shaped(name) => None,
        BindKind::Simple | BindKind::Tls => {
            let any = Filter::present("objectClass");
            Some(entries(reader, name, Scope::Base, any, &["sAMAccountName"]).await?)
        }
    };
    let account = match &found {
        None if name.contains(['\\', '@']) => return Ok(Some(name.clone())),
        None => Some(name.as_str()),
        Some(found) => found.first().and_then(|entry| entry.first_text("sAMAccountName")),
    };
    let account = account.ok_or(Incomplete::Hidden { what: "the sAMAccountName of the query account" })?;
    let domain = own.first_text("nETBIOSName").filter(is_plain);
    let domain = domain.ok_or(Incomplete::Hidden { what: "the nETBIOSName of its own domain" })?;
    Ok(Some(format!(r"{domain}\{account}")))
}

/// Each once, without the own one. What is both of the forest and trusted is of the forest, and comes first where there are too many.
fn others(
    own: &str,
    forest: impl Iterator<Item = TrustedDomain>,
    trusts: impl Iterator<Item = TrustedDomain>,
) -> Vec<TrustedDomain> {
    let mut known = HashSet::from([own.to_owned()]);
    let mut domains: Vec<_> = forest.chain(trusts).filter(|domain| known.insert(domain.dns_name.clone())).collect();
    let beyond = domains.iter_mut().filter(|domain| domain.usable.is_ok()).skip(DOMAINS_MAX);
    beyond.for_each(|domain| domain.usable = Err(NotUsed::TooMany));
    domains
}

impl Listed {
    fn of(mut domains: Vec<TrustedDomain>, account: Option<String>) -> Self {
        if account.is_none() {
            domains.iter_mut().for_each(|domain| domain.usable = domain.usable.and(Err(NotUsed::NoAccount)));
        }
        Self { domains, account: account.unwrap_or_default(), ..Self::default() }
    }

    /// Is it the own domain's short name, which no setting has to say (FD-18)?
    pub fn is_own_short(&self, domain: &str) -> bool {
        !self.own_short.is_empty() && self.own_short.eq_ignore_ascii_case(domain)
    }

    /// What stands before a backslash and means this domain alone: its short name, or the long one where others have that, too.
    pub fn before_backslash<'d>(&self, domain: &'d TrustedDomain, home: &settings::Directory) -> &'d str {
        let short = domain.netbios_name.as_str();
        let others = self.domains.iter().filter(|other| other.dns_name != domain.dns_name);
        let mut taken = others
            .map(|other| other.netbios_name.as_str())
            .chain([home.netbios_domain.as_str(), self.own_short.as_str()]);
        let is_its_own = !short.is_empty() && !taken.any(|name| name.eq_ignore_ascii_case(short));
        if is_its_own { short } else { &domain.dns_name }
    }

    /// How that domain is spoken to: as the directory, where nothing else is said.
    pub fn settings_of(&self, domain: &TrustedDomain, home: &settings::Directory) -> settings::Directory {
        let by_hand = home.trusted.iter().find(|(name, _)| name.eq_ignore_ascii_case(&domain.dns_name));
        let ldaps = home.urls.first().is_none_or(|url| url.to_ascii_lowercase().starts_with("ldaps"));
        let scheme = if ldaps { "ldaps+srv" } else { "ldap+srv" };
        let by_dns = || vec![format!("{scheme}://{}", domain.dns_name)];
        // Where our account comes from, tickets are not asked for: its KDC is not the domain's.
        let windows_mechanism = match home.query_bind.kind {
            BindKind::Windows => WindowsMechanism::Ntlm,
            _ => WindowsMechanism::default(),
        };
        settings::Directory {
            urls: by_hand.map_or_else(by_dns, |(_, TrustedServers { urls })| urls.clone()),
            base: domain.base.to_string(),
            netbios_domain: domain.netbios_name.clone(),
            query_bind: QueryBind { name: self.account.clone(), ..home.query_bind.clone() },
            windows_mechanism,
            default_domain: String::new(),
            alternate_directories: Vec::new(),
            trusted_domains: Some(false),
            trusted: BTreeMap::new(),
            ..home.clone()
        }
    }
}

/// `FLAG_CR_NTDS_NC` and `FLAG_CR_NTDS_DOMAIN` of `systemFlags`: MS-ADTS section 2.2.10.
const IS_DOMAIN: u32 = 0x0000_0001 | 0x0000_0002;

fn of_forest(reference: &SearchResultEntry) -> Option<TrustedDomain> {
    let is_domain = number(reference, "systemFlags") & IS_DOMAIN == IS_DOMAIN;
    let enabled = reference.first_text("enabled") != Some("FALSE");
    let base: Dn = reference.first_text("nCName").filter(|_| is_domain && enabled)?.parse().ok()?;
    domain(base, reference.first_text("nETBIOSName"), TrustKind::Forest, Ok(()))
}

/// MS-ADTS section 6.1.6.7.12: they trust us, we trust them.
const INBOUND: u32 = 0x0000_0001;
const OUTBOUND: u32 = 0x0000_0002;
/// MS-ADTS section 6.1.6.7.15: `TRUST_TYPE_UPLEVEL`.
const ACTIVE_DIRECTORY: u32 = 2;
/// MS-ADTS section 6.1.6.7.9.
const FOREST_TRANSITIVE: u32 = 0x0000_0008;
const CROSS_ORGANIZATION: u32 = 0x0000_0010;

fn of_trust(trust: &SearchResultEntry) -> Option<TrustedDomain> {
    let (direction, attributes) = (number(trust, "trustDirection"), number(trust, "trustAttributes"));
    let usable = match direction {
        _ if number(trust, "trustType") != ACTIVE_DIRECTORY => Err(NotUsed::NotActiveDirectory),
        _ if direction & OUTBOUND == 0 => Err(NotUsed::NotTrusted),
        _ if attributes & CROSS_ORGANIZATION != 0 => Err(NotUsed::Selective),
        _ if direction & INBOUND == 0 => Err(NotUsed::NotTrusting),
        _ => Ok(()),
    };
    let kind = if attributes & FOREST_TRANSITIVE == 0 { TrustKind::External } else { TrustKind::OtherForest };
    let partner = trust.first_text("trustPartner").filter(|name| is_domain_name(name))?;
    let base: Vec<String> = partner.split('.').map(|label| format!("DC={label}")).collect();
    domain(base.join(",").parse().ok()?, trust.first_text("flatName"), kind, usable)
}

/// With names that can be asked for and shown, or none.
fn domain(base: Dn, netbios_name: Option<&str>, kind: TrustKind, usable: Result<(), NotUsed>) -> Option<TrustedDomain> {
    let dns_name = base.dns_domain().filter(|name| is_domain_name(name))?.to_ascii_lowercase();
    Some(TrustedDomain {
        dns_name,
        netbios_name: netbios_name.filter(is_plain).unwrap_or_default().to_owned(),
        base,
        kind,
        usable,
    })
}

/// A short name that one could type before a backslash.
fn is_plain(name: &&str) -> bool {
    (1..=64).contains(&name.len()) && !name.chars().any(|sign| sign.is_control() || r"\/@".contains(sign))
}

/// They are kept as signed ones.
fn number(entry: &SearchResultEntry, attribute: &str) -> u32 {
    let value: Option<i32> = entry.first_text(attribute).and_then(|text| text.parse().ok());
    value.unwrap_or_default().cast_unsigned()
}

impl fmt::Display for TrustedDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dns_name)?;
        if !self.netbios_name.is_empty() {
            write!(f, " ({})", self.netbios_name)?;
        }
        f.write_str(match self.kind {
            TrustKind::Forest => ", of the same forest",
            TrustKind::OtherForest => ", the root of another forest",
            TrustKind::External => ", trusted by itself",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ldap_wire::Attribute;

    fn entry(attributes: &[(&str, &str)]) -> SearchResultEntry {
        let one = |(name, value): &(&str, &str)| Attribute::new(*name, vec![Bytes::copy_from_slice(value.as_bytes())]);
        SearchResultEntry { dn: Bytes::new(), attributes: attributes.iter().map(one).collect() }
    }

    fn trust(partner: &str, direction: &str, attributes: &str) -> Option<TrustedDomain> {
        of_trust(&entry(&[
            ("trustPartner", partner),
            ("flatName", "OTHER"),
            ("trustDirection", direction),
            ("trustType", "2"),
            ("trustAttributes", attributes),
        ]))
    }

    #[test]
    fn only_domains_of_the_forest_are_taken_from_its_partitions() {
        // FD-02
        let reference = |name: &str, flags: &str, enabled: &str| {
            of_forest(&entry(&[
                ("nCName", name),
                ("nETBIOSName", "CHILD"),
                ("systemFlags", flags),
                ("enabled", enabled),
            ]))
        };
        let child = reference("DC=Child,DC=corp,DC=example", "3", "TRUE").expect("a domain");
        assert_eq!((child.dns_name.as_str(), child.netbios_name.as_str()), ("child.corp.example", "CHILD"));
        assert_eq!((child.kind, child.usable), (TrustKind::Forest, Ok(())));
        assert_eq!(reference("CN=Configuration,DC=corp,DC=example", "1", "TRUE"), None, "no domain");
        assert_eq!(reference("DC=DomainDnsZones,DC=corp,DC=example", "5", "TRUE"), None, "an application's");
        assert_eq!(reference("DC=child,DC=corp,DC=example", "3", "FALSE"), None, "switched off");
        for name in ["nonsense", "O=corp", "DC=a b,DC=corp", ""] {
            assert_eq!(reference(name, "3", "TRUE"), None, "{name:?}");
        }
    }

    #[test]
    fn a_trust_is_used_where_it_goes_both_ways_and_for_everybody() {
        // FD-02, MS-ADTS section 6.1.6.7
        let usable = |direction: &str, attributes: &str| trust("other.test", direction, attributes).map(|it| it.usable);
        assert_eq!(usable("3", "0"), Some(Ok(())));
        assert_eq!(usable("3", "8"), Some(Ok(())));
        assert_eq!(usable("2", "8"), Some(Err(NotUsed::NotTrusting)));
        for direction in ["1", "0", "", "x"] {
            assert_eq!(usable(direction, "8"), Some(Err(NotUsed::NotTrusted)), "{direction:?}");
        }
        assert_eq!(usable("3", "24"), Some(Err(NotUsed::Selective)));
        let realm = of_trust(&entry(&[("trustPartner", "krb.test"), ("trustDirection", "3"), ("trustType", "3")]));
        assert_eq!(realm.map(|it| it.usable), Some(Err(NotUsed::NotActiveDirectory)));
        let kinds = ["8", "4"].map(|attributes| trust("other.test", "3", attributes).map(|it| it.kind));
        assert_eq!(kinds, [Some(TrustKind::OtherForest), Some(TrustKind::External)]);
        let base = trust("Other.Test", "3", "8").map(|it| (it.base.to_string(), it.dns_name));
        assert_eq!(base, Some(("DC=Other,DC=Test".to_owned(), "other.test".to_owned())));
        for partner in ["", "a..b", "a b", "x,DC=evil", "x)(cn=*"] {
            assert_eq!(trust(partner, "3", "8"), None, "{partner:?}");
        }
    }

    #[test]
    fn each_domain_is_listed_once_and_the_own_one_never() {
        let forest = |name: &str| {
            of_forest(&entry(&[("nCName", name), ("nETBIOSName", "X"), ("systemFlags", "3")])).expect("a domain")
        };
        let parts = || vec![forest("DC=corp,DC=example"), forest("DC=child,DC=corp,DC=example")];
        let trusts = || ["child.corp.example", "other.test"].into_iter().filter_map(|name| trust(name, "3", "32"));
        let all = || others("corp.example", parts().into_iter(), trusts());
        let listed = Listed::of(all(), Some(r"CORP\twinlock".into()));
        let names: Vec<String> = listed.domains.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["child.corp.example (X), of the same forest", "other.test (OTHER), trusted by itself"]);
        let nobody = Listed::of(all(), None);
        assert!(nobody.domains.iter().all(|domain| domain.usable == Err(NotUsed::NoAccount)));
    }

    #[test]
    fn domains_beyond_what_can_be_used_are_told_of() {
        // FD-02: those whose people are not looked for anyway count for nothing
        let names: Vec<String> = (0..300).map(|number| format!("d{number}.test")).collect();
        let trusts = || {
            let one = |(place, name): (usize, &String)| trust(name, if place < 10 { "2" } else { "3" }, "8");
            names.iter().enumerate().filter_map(one)
        };
        let listed = Listed::of(others("corp.example", std::iter::empty(), trusts()), Some(r"CORP\twinlock".into()));
        let count = |usable| listed.domains.iter().filter(|domain| domain.usable == usable).count();
        assert_eq!((count(Ok(())), count(Err(NotUsed::NotTrusting)), count(Err(NotUsed::TooMany))), (256, 10, 34));
        assert_eq!(listed.domains.last().map(|it| it.usable), Some(Err(NotUsed::TooMany)), "in the order of the list");
    }

    #[test]
    fn a_short_name_that_others_have_too_gives_way_to_the_long_one() {
        // FD-02
        let one = |partner: &str, name: &str| TrustedDomain {
            netbios_name: name.to_owned(),
            ..trust(partner, "3", "8").expect("a domain")
        };
        let domains = vec![one("a.test", "A"), one("b.test", "Same"), one("c.test", "same"), one("d.test", "")];
        let listed = Listed { domains, ..Listed::default() };
        let named = |netbios_domain: &str| {
            let mut home = crate::directory::tests::settings(&["ldaps://dc1.corp.example"]);
            home.netbios_domain = netbios_domain.to_owned();
            let names = listed.domains.iter().map(|domain| listed.before_backslash(domain, &home).to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(named("CORP"), ["A", "b.test", "c.test", "d.test"]);
        assert_eq!(named("a"), ["a.test", "b.test", "c.test", "d.test"]);
        assert_eq!(named(""), ["A", "b.test", "c.test", "d.test"]);
    }

    #[test]
    fn a_domain_is_spoken_to_as_the_directory_is_with_an_account_that_it_knows() {
        let mut home = crate::directory::tests::settings(&["ldaps://dc1.corp.example"]);
        (home.query_bind.kind, home.query_bind.name) = (BindKind::Tls, "CN=q,DC=corp,DC=example".into());
        home.ca = Some("a certificate".into());
        home.alternate_directories = vec![home.name.clone()];
        let listed = Listed { account: r"CORP\q".into(), ..Listed::default() };
        let other = trust("other.test", "3", "8").expect("a domain");
        let of = |home: &settings::Directory| listed.settings_of(&other, home);
        let made = of(&home);
        assert_eq!(
            (made.urls.as_slice(), made.base.as_str()),
            (["ldaps+srv://other.test".into()].as_slice(), "DC=other,DC=test")
        );
        assert_eq!((made.query_bind.name.as_str(), made.netbios_domain.as_str()), (r"CORP\q", "OTHER"));
        assert_eq!((&made.name, &made.ca, made.query_bind.kind), (&home.name, &home.ca, BindKind::Tls));
        assert!(made.trusted_domains == Some(false) && made.alternate_directories.is_empty());
        home.urls = vec!["ldap://dc1.corp.example".into()];
        assert_eq!(of(&home).urls, ["ldap+srv://other.test"]);
        home.trusted.insert("Other.TEST".into(), TrustedServers { urls: vec!["ldaps://dc9.other.test".into()] });
        assert_eq!(of(&home).urls, ["ldaps://dc9.other.test"]);
    }
}
