//! The other domains that the directory lists, and which of them would serve (FD-02).

use super::{About, Directory, Judgement};
use crate::pool::chain;
use crate::probe;
use crate::read::Incomplete;
use crate::trusted::{self, Listed, NotUsed, TrustedDomain};
use domain::settings::{Confined, Preset};
use futures::StreamExt;

#[derive(Debug, Default)]
pub struct OtherDomains {
    /// `trusted_domains` of the settings, or what holds without.
    pub included: bool,
    /// Why it is off though nothing is written.
    pub confined: Vec<Confined>,
    pub found: Vec<OtherDomain>,
}

/// The directory could not be asked for them.
#[derive(Debug)]
pub struct Unlisted {
    /// As of [`OtherDomains`].
    pub included: bool,
    pub why: Incomplete,
}

#[derive(Debug)]
pub struct OtherDomain {
    pub domain: TrustedDomain,
    /// What its best server said: in a sentence. `None` where none was asked.
    pub tried: Option<Result<String, String>>,
}

/// Domains that are asked at the same time.
const AT_ONCE: usize = 8;

const UNLISTED: &str = " Until they can, sign-in by a mail address or an alternate name may be refused, and no run of synchronisation is complete: \
                        let the account read CN=Partitions of the configuration and CN=System of the domain, or write \
                        trusted_domains = false.";

/// Asks the servers of each that is included, on connections that end with it.
pub(super) async fn other(directory: &Directory) -> Result<OtherDomains, Unlisted> {
    if directory.settings().preset != Preset::ActiveDirectory {
        return Ok(OtherDomains::default());
    }
    let included = directory.includes_trusted_domains();
    let settings = directory.settings();
    let confined = if settings.trusted_domains.is_none() { settings.confined_by() } else { Vec::new() };
    let listed = match trusted::list(directory).await {
        // Nobody wants to know what they are.
        Err(_) if !included && !confined.is_empty() => Listed::default(),
        listed => listed.map_err(|why| Unlisted { included, why })?,
    };
    let of = |domain: TrustedDomain| {
        let settings = listed.settings_of(&domain, directory.settings());
        async move {
            let tried = match directory.draft_beside(settings) {
                _ if !included || domain.usable.is_err() => None,
                Err(error) => Some(Err(chain(&error))),
                Ok(other) => Some(serves(&other).await),
            };
            OtherDomain { domain, tried }
        }
    };
    let found = futures::stream::iter(listed.domains.clone()).map(of).buffered(AT_ONCE).collect().await;
    Ok(OtherDomains { included, confined, found })
}

/// One that does is enough.
async fn serves(other: &Directory) -> Result<String, String> {
    let mut said = Vec::new();
    for probe::Probed { server, outcome, .. } in other.probe().await {
        match outcome {
            Ok(found) => return Ok(format!("{server}: {found}")),
            Err(error) => said.push(format!("{server}: {error}")),
        }
    }
    Err(said.join(" "))
}

/// What people there could do is no fault of the directory: it serves its own whatever they say. That nobody knows who they are is:
/// then names of its own may be theirs, and no run is complete.
pub(super) fn tell(other: &Result<OtherDomains, Unlisted>, tell: &mut impl FnMut(About, Judgement, String)) {
    let about = About::Domains;
    let OtherDomains { included, confined, found } = match other {
        Ok(other) => other,
        Err(Unlisted { included, why }) => {
            let (judgement, harm) = match included {
                true => (Judgement::Bad, UNLISTED),
                false => (Judgement::Doubtful, ""),
            };
            tell(about, judgement, format!("Other domains could not be listed: {}.{harm}", chain(why)));
            return;
        }
    };
    if !included {
        let names: Vec<String> = found.iter().map(|OtherDomain { domain, .. }| domain.to_string()).collect();
        let (why, names) = (confined.iter().map(ToString::to_string).collect::<Vec<_>>(), names.join("; "));
        if !why.is_empty() {
            tell(about, Judgement::Good, format!("Other domains are not included, since {}.", why.join("; and ")));
        }
        match (why.is_empty(), names.is_empty()) {
            (_, true) => {}
            (true, false) => tell(
                about,
                Judgement::Good,
                format!("Other domains, which trusted_domains = true would include: {names}."),
            ),
            (false, false) => tell(about, Judgement::Good, format!("Other domains: {names}.")),
        }
        return;
    }
    if found.is_empty() {
        tell(about, Judgement::Good, "There is no other domain.".into());
    }
    let (beyond, found): (Vec<_>, Vec<_>) = found.iter().partition(|it| it.domain.usable == Err(NotUsed::TooMany));
    if !beyond.is_empty() {
        let (count, why) = (beyond.len(), NotUsed::TooMany);
        tell(about, Judgement::Doubtful, format!("{count} other domains are not used, since {why}."));
    }
    for OtherDomain { domain, tried } in found {
        match (&domain.usable, tried) {
            (Err(why), _) => tell(about, Judgement::Doubtful, format!("{domain}: not used, since {why}.")),
            (Ok(()), Some(Err(why))) => tell(
                about,
                Judgement::Doubtful,
                format!(
                    "{domain}: cannot be asked now, and its people do not sign in unless it is a directory of its own. {why}"
                ),
            ),
            (Ok(()), Some(Ok(found))) => tell(about, Judgement::Good, format!("{domain}: {found}.")),
            (Ok(()), None) => tell(about, Judgement::Good, format!("{domain}.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trusted::TrustKind;

    #[test]
    fn that_domains_cannot_be_listed_is_a_fault_where_they_are_included() {
        // FD-02, FD-11
        for (included, expected) in [(true, Judgement::Bad), (false, Judgement::Doubtful)] {
            let mut lines = Vec::new();
            let why = Incomplete::Hidden { what: "what lies in CN=System of its own domain" };
            tell(&Err(Unlisted { included, why }), &mut |_, judgement, text| lines.push((judgement, text)));
            assert_eq!(lines.len(), 1, "{lines:?}");
            let (judgement, text) = &lines[0];
            assert!(*judgement == expected && text.starts_with("Other domains could not be listed: "), "{lines:?}");
            assert_eq!(text.contains("trusted_domains = false"), included, "{text}");
        }
    }

    #[test]
    fn domains_beyond_what_can_be_used_are_told_by_their_number() {
        // FD-02, FD-11
        let of = |name: &str, usable| OtherDomain {
            domain: TrustedDomain {
                dns_name: format!("{name}.test"),
                netbios_name: String::new(),
                base: format!("DC={name},DC=test").parse().expect("a DN"),
                kind: TrustKind::External,
                usable,
            },
            tried: None,
        };
        let too_many = Err(NotUsed::TooMany);
        let found = vec![of("a", Ok(())), of("b", too_many), of("c", too_many)];
        let mut lines = Vec::new();
        let other = Ok(OtherDomains { included: true, confined: Vec::new(), found });
        tell(&other, &mut |_, judgement, text| lines.push((judgement, text)));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].0 == Judgement::Doubtful && lines[0].1.starts_with("2 other domains are not used"),
            "{lines:?}"
        );
    }
}
