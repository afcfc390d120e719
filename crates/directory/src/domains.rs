//! Other domains in use: who is asked for a name that belongs to one of them (FD-02).
//!
//! ```text
//! name ─> which domain? ─┬─ a directory of the settings is that domain ─> it answers, by its own settings
//!                        └─ none is ───────────────────────────────────> a directory made of the home's settings, kept
//! ```
//!
//! Each has connections of its own, opened when the first name belongs to it: one that is silent delays nobody of another.

use crate::directory::Directory;
use crate::name::{Kind, TypedName, is_domain_of_base};
use crate::read::Incomplete;
use crate::resolve::{ACCOUNT, ResolveError};
use crate::trusted::{self, Listed, TrustedDomain};
use domain::settings;
use ldap_wire::Dn;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What the directory listed is good for so long, and then asked for again.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);
/// After a question without an answer.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The other domains of one directory.
#[derive(Default)]
pub(crate) struct Domains {
    last: Mutex<Option<Last>>,
    /// Held by who asks.
    asking: tokio::sync::Mutex<()>,
    /// By their long names; no more than are listed.
    made: Mutex<HashMap<String, Arc<Directory>>>,
}

#[derive(Clone)]
struct Last {
    due: Instant,
    listed: Result<Arc<Listed>, Arc<Incomplete>>,
}

impl Domains {
    /// One asks; the others wait for it only while nothing is known. Where there is no answer, what was known before stays.
    pub async fn listed(&self, home: &Directory) -> Result<Arc<Listed>, Arc<Incomplete>> {
        let last = self.last();
        let _asking = match last {
            Some(last) if Instant::now() < last.due => return last.listed,
            Some(Last { listed: Ok(before), .. }) => match self.asking.try_lock() {
                Ok(asking) => asking,
                Err(_) => return Ok(before),
            },
            _ => self.asking.lock().await,
        };
        // Whoever waited may have been told meanwhile.
        let before = match self.last() {
            Some(last) if Instant::now() < last.due => return last.listed,
            last => last.and_then(|last| last.listed.ok()),
        };
        // Cancel safety: nothing has changed if whoever asks is dropped here, and the next one asks again.
        let (listed, good_for) = match trusted::list(home).await {
            Ok(listed) => (Ok(Arc::new(listed)), GOOD_FOR),
            Err(error) => {
                tracing::warn!(directory = %home.name(), error = %crate::pool::chain(&error), "other domains could not be listed");
                (before.ok_or(Arc::new(error)), AGAIN_AFTER)
            }
        };
        if let Ok(listed) = &listed {
            let usable = |name: &String| listed.domains.iter().any(|it| it.dns_name == *name && it.usable.is_ok());
            self.made.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| usable(name));
        }
        let last = Last { due: Instant::now() + good_for, listed: listed.clone() };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
        listed
    }

    /// As it was listed last; nobody is asked.
    pub fn known(&self) -> Option<Arc<Listed>> {
        self.last().and_then(|last| last.listed.ok())
    }

    fn last(&self) -> Option<Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The directory that stands for a listed domain which the settings do not have.
    pub fn of(
        &self,
        home: &Directory,
        listed: &Listed,
        domain: &TrustedDomain,
    ) -> Result<Arc<Directory>, ResolveError> {
        let settings = listed.settings_of(domain, &home.core().settings);
        let before_backslash = listed.before_backslash(domain, home.settings());
        let is_it =
            |it: &&Arc<Directory>| it.core().settings == settings && it.before_backslash() == Some(before_backslash);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(&domain.dns_name).filter(is_it) {
            return Ok(Arc::clone(known));
        }
        let directory = home.beside(settings, before_backslash).map_err(|error| {
            tracing::error!(directory = %home.name(), domain = domain.dns_name, error = %crate::pool::chain(&error), "a trusted domain cannot be used");
            ResolveError::Unusable { directory: home.name().clone() }
        })?;
        let directory = Arc::new(directory);
        made.insert(domain.dns_name.clone(), Arc::clone(&directory));
        Ok(directory)
    }
}

/// What somebody of another domain is called: people there have no bare name here, which may be somebody else's (FS-17). So does
/// synchronisation call them.
pub(crate) fn username(
    settings: &settings::Directory,
    before_backslash: &str,
    value: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let is_account = |attribute: &&str| [ACCOUNT, "uid"].iter().any(|it| it.eq_ignore_ascii_case(attribute));
    let mut principal = settings.username_attributes().into_iter().filter(|attribute| !is_account(attribute));
    let principal = principal.find_map(|attribute| value(attribute).filter(|name| name.contains('@')));
    principal.or_else(|| Some(format!(r"{before_backslash}\{}", value(ACCOUNT)?)))
}

/// Where a name of another domain is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// At home, by the form of the name alone.
    Home,
    /// In the domain.
    There,
}

/// What in a name says to which domain it belongs.
pub(crate) enum Belongs<'a> {
    /// `CHILD\user`, `child.corp.example/People/Ann`
    Before {
        domain: &'a str,
        rest: &'a str,
    },
    /// `user@child.corp.example`
    Behind {
        domain: &'a str,
    },
    Within(&'a Dn),
}

impl<'a> Belongs<'a> {
    /// None for what names no domain: that means the home domain and nobody else's people. An application that is told a bare name
    /// takes whoever has it for its own user.
    pub fn of(name: &'a TypedName, home: &settings::Directory) -> Option<Self> {
        match &name.kind {
            Kind::Foreign | Kind::ServicePrincipal => {
                let (domain, rest) = name.as_str().split_once(['\\', '/'])?;
                Some(Self::Before { domain, rest })
            }
            Kind::Upn { domain, .. } if is_domain_of_base(domain, home) => None,
            Kind::Upn { domain, .. } => Some(Self::Behind { domain }),
            // The home base may have other domains below it.
            Kind::Dn(dn) => {
                let ours = home.base.parse::<Dn>().ok().and_then(|base| base.dns_domain());
                dn.dns_domain().is_some_and(|domain| Some(domain) != ours).then_some(Self::Within(dn))
            }
            Kind::Bare | Kind::Netbios { .. } | Kind::Guid(_) | Kind::Sid(_) | Kind::Canonical { .. } => None,
        }
    }

    /// One after the other, the next only when there is nobody: whoever has it as their principal name at home comes before the domain,
    /// whose own people come before those that it is a service principal name of.
    pub fn places(&self) -> [Place; 2] {
        match self {
            Self::Behind { .. } => [Place::Home, Place::There],
            Self::Before { .. } | Self::Within(_) => [Place::There, Place::Home],
        }
    }

    /// The one domain that is meant.
    pub fn find<'d>(&self, domains: &'d [TrustedDomain]) -> Result<Option<&'d TrustedDomain>, ResolveError> {
        let is_it = |domain: &&TrustedDomain| match self {
            Self::Before { domain: typed, .. } => {
                let short = !domain.netbios_name.is_empty() && typed.eq_ignore_ascii_case(&domain.netbios_name);
                short || typed.eq_ignore_ascii_case(&domain.dns_name)
            }
            Self::Behind { domain: typed } => typed.eq_ignore_ascii_case(&domain.dns_name),
            Self::Within(dn) => dn.dns_domain().is_some_and(|name| name == domain.dns_name),
        };
        let mut found = domains.iter().filter(is_it);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(ResolveError::Ambiguous),
            (one, _) => Ok(one),
        }
    }

    /// The name as a directory of that domain reads it, whatever its settings call the domain.
    pub fn text(&self, name: &TypedName, domain: &TrustedDomain) -> String {
        match self {
            Self::Before { domain: typed, rest } => {
                let separator = name.as_str().get(typed.len()..).and_then(|text| text.chars().next());
                let canonical = separator == Some('/') && typed.eq_ignore_ascii_case(&domain.dns_name);
                format!("{}{}{rest}", domain.dns_name, if canonical { '/' } else { '\\' })
            }
            Self::Behind { .. } | Self::Within(_) => name.as_str().to_owned(),
        }
    }
}
