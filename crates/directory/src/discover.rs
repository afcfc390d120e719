//! The servers of a domain, as its DNS names them (FD-03): `ldaps+srv://corp.example` stands for whatever
//! `_ldap._tcp.dc._msdcs.corp.example` lists (MS-ADTS section 6.3.2.3), in the order of RFC 2782.
//!
//! Who answers for the DNS could name a server of their own, with a certificate that is as good as any for *its* name: only hosts of the
//! domain itself are taken.

use crate::server::{ServerName, Servers};
use domain::settings::is_domain_name;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::{Resolver, TokioResolver};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// An entry of `urls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Server(ServerName),
    /// Asked for in the DNS of this domain.
    Domain {
        domain: String,
        ldaps: bool,
    },
}

impl Place {
    pub fn parse(url: &str) -> Option<Self> {
        let domain = |scheme: &str| {
            let (head, rest) = url.split_at_checked(scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then(|| rest.strip_suffix('/').unwrap_or(rest))
        };
        let (domain, ldaps) = match (domain("ldaps+srv://"), domain("ldap+srv://")) {
            (Some(domain), _) => (domain, true),
            (None, Some(domain)) => (domain, false),
            (None, None) => return ServerName::parse(url).map(Self::Server),
        };
        is_domain_name(domain).then(|| Self::Domain { domain: domain.to_owned(), ldaps })
    }

    /// The server; of a domain one that stands for those that are not known yet.
    pub fn server(&self) -> ServerName {
        match self {
            Self::Server(server) => server.clone(),
            Self::Domain { domain, ldaps } => ServerName::new(domain, if *ldaps { 636 } else { 389 }, *ldaps),
        }
    }
}

/// Found servers are good for so long, and then asked for again.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);
/// After a question without an answer.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// One question, all tries together.
const PATIENCE: Duration = Duration::from_secs(5);
/// All servers of a directory (FD-03).
const SERVERS_MAX: usize = 16;

pub(crate) struct Discovery {
    places: Vec<Place>,
    /// Which servers of the DNS to ask; none: those of the host.
    name_servers: Vec<SocketAddr>,
    /// Held by who asks.
    asked: Mutex<Asked>,
    /// There was an answer once.
    known: AtomicBool,
}

#[derive(Default)]
struct Asked {
    /// When to ask next.
    due: Option<Instant>,
    /// It was said that there is no answer.
    told: bool,
}

/// The DNS gave no server, or no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFound {
    #[error("the DNS names no server of the domain {domain}")]
    Nowhere { domain: String, source: hickory_resolver::net::NetError },
    #[error("the DNS did not say within {} s which servers the domain {domain} has", PATIENCE.as_secs())]
    Silent { domain: String },
    #[error("the DNS names only servers outside of the domain {domain}, which are not used")]
    Elsewhere { domain: String },
}

impl Discovery {
    pub fn new(places: Vec<Place>, name_servers: Vec<SocketAddr>) -> Self {
        Self { places, name_servers, asked: Mutex::default(), known: AtomicBool::new(false) }
    }

    /// Is there anything to ask the DNS for?
    pub fn is_needed(&self) -> bool {
        self.places.iter().any(|place| matches!(place, Place::Domain { .. }))
    }

    /// Puts in `servers` whom the DNS names now, if that is not known or too long ago. One asks; the others wait for it only while no
    /// server is known. Where there is no answer, those that were there before stay.
    pub async fn refresh(&self, directory: &domain::ObjectName, servers: &Servers) {
        if !self.is_needed() {
            return;
        }
        let mut asked = match self.known.load(Ordering::Relaxed) {
            true => match self.asked.try_lock() {
                Ok(asked) => asked,
                Err(_) => return,
            },
            false => self.asked.lock().await,
        };
        if asked.due.is_some_and(|due| Instant::now() < due) {
            return;
        }
        // Whoever asks may be dropped while waiting.
        asked.due = Some(Instant::now() + AGAIN_AFTER);
        let mut found = Vec::new();
        let mut complete = true;
        for place in &self.places {
            match place {
                Place::Server(server) => found.push(server.clone()),
                Place::Domain { domain, ldaps } => match self.servers_of(domain, *ldaps).await {
                    Ok(servers) => found.extend(servers),
                    Err(error) => {
                        if !asked.told {
                            tracing::warn!(%directory, error = %crate::pool::chain(&error), "servers of the directory were not found");
                        }
                        complete = false;
                    }
                },
            }
        }
        if !complete {
            found.extend(servers.names());
        }
        servers.replace(found, SERVERS_MAX);
        asked.told = !complete;
        if complete {
            self.known.store(true, Ordering::Relaxed);
            asked.due = Some(Instant::now() + GOOD_FOR);
        }
    }

    async fn servers_of(&self, domain: &str, ldaps: bool) -> Result<Vec<ServerName>, NotFound> {
        let nowhere = |source| NotFound::Nowhere { domain: domain.to_owned(), source };
        let resolver = self.resolver().map_err(nowhere)?;
        let asked = resolver.srv_lookup(format!("_ldap._tcp.dc._msdcs.{domain}."));
        let answer = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer.map_err(nowhere)?,
            Err(_) => return Err(NotFound::Silent { domain: domain.to_owned() }),
        };
        let records = answer.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(record) => Some(record.clone()),
            _ => None,
        });
        let mut found = Vec::new();
        for record in in_order(records.collect(), random) {
            let host = record.target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
            match is_of(&host, domain) {
                true => found.push(ServerName::new(&host, if ldaps { 636 } else { record.port }, ldaps)),
                false => {
                    tracing::warn!(host, domain, "the DNS names a server that is not of the domain; it is not used")
                }
            }
        }
        if found.is_empty() { Err(NotFound::Elsewhere { domain: domain.to_owned() }) } else { Ok(found) }
    }

    fn resolver(&self) -> Result<TokioResolver, hickory_resolver::net::NetError> {
        if self.name_servers.is_empty() {
            return Resolver::builder_tokio()?.build();
        }
        let server = |address: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            server.connections.iter_mut().for_each(|it: &mut ConnectionConfig| it.port = address.port());
            server
        };
        let servers = self.name_servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
    }
}

fn is_of(host: &str, domain: &str) -> bool {
    let domain = domain.to_ascii_lowercase();
    host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

/// Lower priorities first; among equal ones each next is drawn by weight (RFC 2782). `draw` gives a number below its argument.
fn in_order(mut records: Vec<SRV>, mut draw: impl FnMut(u64) -> u64) -> Vec<SRV> {
    records.sort_by_key(|record| record.priority);
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let same = records.iter().take_while(|record| record.priority == priority);
        // One without a weight has a small chance.
        let weights: Vec<u64> = same.map(|record| u64::from(record.weight) * 100 + 1).collect();
        let mut drawn = draw(weights.iter().sum());
        let place = weights.iter().position(|weight| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        ordered.push(records.remove(place.unwrap_or_default()));
    }
    ordered
}

fn random(below: u64) -> u64 {
    let mut octets = [0; 8];
    getrandom::fill(&mut octets).expect("the kernel gives random octets");
    u64::from_le_bytes(octets) % below.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::Name;

    #[test]
    fn a_domain_stands_where_a_server_could() {
        let of = |domain: &str, ldaps| Some(Place::Domain { domain: domain.into(), ldaps });
        assert_eq!(Place::parse("ldaps+srv://corp.example"), of("corp.example", true));
        assert_eq!(Place::parse("LDAP+SRV://corp.example/"), of("corp.example", false));
        assert!(matches!(Place::parse("ldaps://dc1"), Some(Place::Server(_))));
        for none in [
            "ldaps+srv://",
            "ldap+srv://a..b",
            "ldap+srv://corp:389",
            "ldap+srv://a b",
            "srv://corp",
            "ldaps+srv://[::1]",
        ] {
            assert_eq!(Place::parse(none), None, "{none}");
        }
    }

    #[test]
    fn only_hosts_of_the_domain_are_its_servers() {
        // FD-03
        for host in ["corp.example", "dc1.corp.example", "dc1.site.corp.example"] {
            assert!(is_of(host, "Corp.Example"), "{host}");
        }
        for host in ["evil.example", "evilcorp.example", "corp.example.evil.test", "example", ""] {
            assert!(!is_of(host, "corp.example"), "{host}");
        }
    }

    #[test]
    fn servers_come_by_priority_and_then_by_weight() {
        let record =
            |priority, weight, host: &str| SRV::new(priority, weight, 389, Name::from_ascii(host).expect("a name"));
        let records = || vec![record(10, 1, "late."), record(0, 0, "rare."), record(0, 100, "often.")];
        let hosts = |draw: fn(u64) -> u64| -> Vec<String> {
            in_order(records(), draw).iter().map(|record| record.target.to_ascii()).collect()
        };
        assert_eq!(hosts(|_| 0), ["rare.", "often.", "late."]);
        assert_eq!(hosts(|below| below - 1), ["often.", "rare.", "late."]);
        let first = (0..200).filter(|_| in_order(records(), random)[0].weight == 100).count();
        assert!(first > 150, "{first} of 200");
    }
}
