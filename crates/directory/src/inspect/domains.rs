//! The other domains that the directory lists, and which of them would serve (FD-02).

use super::{About, Directory, Judgement};
use crate::pool::chain;
use crate::probe;
use crate::read::Incomplete;
use crate::trusted::{self, TrustedDomain};
use domain::settings::Preset;
use futures::StreamExt;

#[derive(Debug, Default)]
pub struct OtherDomains {
    /// `trusted_domains` of the settings.
    pub included: bool,
    pub found: Vec<OtherDomain>,
}

#[derive(Debug)]
pub struct OtherDomain {
    pub domain: TrustedDomain,
    /// What its best server said: in a sentence. `None` where none was asked.
    pub tried: Option<Result<String, String>>,
}

/// Domains that are asked at the same time.
const AT_ONCE: usize = 8;

/// Asks the servers of each that is included, on connections that end with it.
pub(super) async fn other(directory: &Directory) -> Result<OtherDomains, Incomplete> {
    if directory.settings().preset != Preset::ActiveDirectory {
        return Ok(OtherDomains::default());
    }
    let included = directory.includes_trusted_domains();
    let listed = trusted::list(directory).await?;
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
    Ok(OtherDomains { included, found })
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

/// What people there could do is no fault of the directory: it serves its own whatever they say.
pub(super) fn tell(other: &Result<OtherDomains, Incomplete>, tell: &mut impl FnMut(About, Judgement, String)) {
    let about = About::Domains;
    let OtherDomains { included, found } = match other {
        Ok(other) => other,
        Err(why) => {
            tell(about, Judgement::Doubtful, format!("Other domains could not be listed: {}.", chain(why)));
            return;
        }
    };
    if !included {
        let names: Vec<String> = found.iter().map(|OtherDomain { domain, .. }| domain.to_string()).collect();
        if !names.is_empty() {
            let text = format!("Other domains, which trusted_domains = true would include: {}.", names.join("; "));
            tell(about, Judgement::Good, text);
        }
        return;
    }
    if found.is_empty() {
        tell(about, Judgement::Good, "There is no other domain.".into());
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
