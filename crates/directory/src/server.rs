//! The servers of one directory and which of them to ask next (FD-04). Pure: `now` is an argument.

use domain::settings::ServerOrder;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// One server as the settings name it. Cheap to clone; prints as its URL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServerName(Arc<Parts>);

#[derive(PartialEq, Eq, Hash)]
struct Parts {
    host: String,
    port: u16,
    ldaps: bool,
}

impl ServerName {
    /// `ldaps://HOST[:PORT]` or `ldap://HOST[:PORT]`; an IPv6 address stands in brackets.
    pub fn parse(url: &str) -> Option<Self> {
        let (ldaps, rest) = match (strip_scheme(url, "ldaps://"), strip_scheme(url, "ldap://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return None,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']')?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            Some(text) => text.parse().ok().filter(|port| *port != 0)?,
            None if ldaps => 636,
            None => 389,
        };
        let sound = !host.is_empty() && host.bytes().all(|sign| sign.is_ascii_graphic() && !b"/?#@".contains(&sign));
        sound.then(|| Self(Arc::new(Parts { host: host.to_owned(), port, ldaps })))
    }

    /// Of a host name that is known to be one.
    pub(crate) fn new(host: &str, port: u16, ldaps: bool) -> Self {
        Self(Arc::new(Parts { host: host.to_owned(), port, ldaps }))
    }

    /// What the certificate must name, and the `server.address` of spans.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// TLS from the first octet.
    pub fn is_ldaps(&self) -> bool {
        self.0.ldaps
    }
}

fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = url.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.0.ldaps { "ldaps" } else { "ldap" };
        let (open, close) = if self.0.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.0.host, self.0.port)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// So many failures ...
const FAILURES: usize = 3;
/// ... in so short a time ...
const WINDOW: Duration = Duration::from_secs(10);
/// ... set a server aside for so long: it is the last to be tried.
const ASIDE: Duration = Duration::from_secs(30);

/// So much shorter has a round trip to be ...
const NEARER_BY: Duration = Duration::from_millis(2);
/// ... and by so large a part of the other, before who comes first changes: as servers in one house are to each other, nobody is.
const NEARER_PART: u32 = 3;

fn is_nearer_by_far(one: Option<Duration>, other: Option<Duration>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    other.checked_sub(one).is_some_and(|less| less > NEARER_BY && less > other / NEARER_PART)
}

/// What is remembered of each server, in the order of the settings.
pub(crate) struct Servers {
    order: ServerOrder,
    all: RwLock<Vec<Arc<Server>>>,
}

struct Server {
    name: ServerName,
    record: Mutex<Record>,
}

#[derive(Clone, Default)]
struct Record {
    /// The last `FAILURES` of them.
    failures: VecDeque<Instant>,
    aside_until: Option<Instant>,
    /// So said whoever looked last (L-37).
    unwell: bool,
    round_trip: Option<Duration>,
    /// Of the last ones, the latest counting most: one slow answer moves nobody.
    usual_round_trip: Option<Duration>,
    /// Its place among the others, where the nearest comes first.
    rank: Option<usize>,
    answered: bool,
    /// It has not connected since it last failed.
    failing: bool,
    last_error: Option<String>,
}

impl Servers {
    pub fn new(names: Vec<ServerName>, order: ServerOrder) -> Self {
        let server = |name| Arc::new(Server { name, record: Mutex::default() });
        Self { order, all: RwLock::new(names.into_iter().map(server).collect()) }
    }

    /// Others, each once and so many at most. What is known of those that stay is kept.
    pub fn replace(&self, names: Vec<ServerName>, most: usize) {
        let before = self.all();
        let mut after: Vec<Arc<Server>> = Vec::new();
        for name in names {
            if after.len() < most && !after.iter().any(|server| server.name == name) {
                let known = before.iter().find(|server| server.name == name).cloned();
                after.push(known.unwrap_or_else(|| Arc::new(Server { name, record: Mutex::default() })));
            }
        }
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = after;
    }

    fn all(&self) -> Vec<Arc<Server>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whom to try, best first: in their order, after them those that failed a moment ago, and last those that are set aside or were
    /// found unwell. Nobody is refused before all have been tried. Where all have failed, whoever did so longest ago comes first: it
    /// is the likeliest to be well again.
    pub fn candidates(&self, now: Instant) -> Vec<ServerName> {
        let mut records = self.in_order();
        match records.iter().any(|(_, record)| !record.is_out(now) && !record.failed_lately(now)) {
            true => records.sort_by_key(|(_, record)| (record.is_out(now), record.failed_lately(now))),
            false => {
                records.sort_by_key(|(_, record)| (record.unwell, record.failing, record.failures.back().copied()))
            }
        }
        records.into_iter().map(|(server, _)| server.name.clone()).collect()
    }

    /// As the settings want it.
    fn in_order(&self) -> Vec<(Arc<Server>, Record)> {
        let servers = self.all();
        let mut records: Vec<_> = servers.into_iter().map(|server| (server.snapshot(), server)).collect();
        if self.order == ServerOrder::Nearest {
            records.sort_by_key(|(record, _)| record.rank.unwrap_or(usize::MAX));
        }
        records.into_iter().map(|(record, server)| (server, record)).collect()
    }

    /// Whoever is nearer by far takes the place of the one before; two that are about as near stay as they are.
    fn rank(&self) {
        let mut order = self.in_order();
        for place in (1..order.len()).rev() {
            if is_nearer_by_far(order[place].1.usual_round_trip, order[place - 1].1.usual_round_trip) {
                order.swap(place, place - 1);
            }
        }
        for (rank, (server, _)) in order.iter().enumerate() {
            server.record.lock().unwrap_or_else(PoisonError::into_inner).rank = Some(rank);
        }
    }

    /// Set aside, or found unwell.
    pub fn is_out(&self, name: &ServerName, now: Instant) -> bool {
        self.all().iter().any(|server| server.name == *name && server.snapshot().is_out(now))
    }

    pub fn failed(&self, name: &ServerName, error: &dyn fmt::Display, now: Instant) {
        self.with(name, |record| {
            record.last_error = Some(error.to_string());
            record.failing = true;
            record.failures.push_back(now);
            while record.failures.len() > FAILURES {
                record.failures.pop_front();
            }
            let oldest = record.failures.front().filter(|_| record.failures.len() == FAILURES);
            if oldest.is_some_and(|oldest| now.duration_since(*oldest) <= WINDOW) {
                record.aside_until = Some(now + ASIDE);
            }
        });
    }

    /// It works: back in its place.
    pub fn answered(&self, name: &ServerName) {
        self.with(name, |record| {
            (record.answered, record.failing) = (true, false);
            record.aside_until = None;
        });
    }

    /// Somebody looked, and it serves. If it did not before, all is forgotten; what failures at work led to while it looked well has
    /// its time all the same.
    pub fn is_well(&self, name: &ServerName, round_trip: Duration) {
        self.with(name, |record| {
            if std::mem::replace(&mut record.unwell, false) {
                record.failures.clear();
                record.failing = false;
                record.aside_until = None;
            }
            (record.answered, record.round_trip) = (true, Some(round_trip));
            let usual = record.usual_round_trip.map_or(round_trip, |usual| (usual * 3 + round_trip) / 4);
            record.usual_round_trip = Some(usual);
        });
        if self.order == ServerOrder::Nearest {
            self.rank();
        }
    }

    /// Somebody looked, and it does not serve. It comes last until somebody sees that it does.
    pub fn is_unwell(&self, name: &ServerName, error: &dyn fmt::Display) {
        self.with(name, |record| (record.unwell, record.last_error) = (true, Some(error.to_string())));
    }

    pub fn is_known_unwell(&self, name: &ServerName) -> bool {
        self.all().iter().any(|server| server.name == *name && server.snapshot().unwell)
    }

    /// Each server with: ever answered, set aside now, failed a moment ago, the last error.
    pub fn states(&self, now: Instant) -> Vec<(ServerName, State)> {
        let state = |server: &Arc<Server>| {
            let record = server.snapshot();
            State {
                answered: record.answered,
                aside: record.is_out(now),
                round_trip: record.round_trip,
                failed_lately: record.failed_lately(now),
                last_error: record.last_error,
            }
        };
        self.all().iter().map(|server| (server.name.clone(), state(server))).collect()
    }

    pub fn names(&self) -> Vec<ServerName> {
        self.all().iter().map(|server| server.name.clone()).collect()
    }

    fn with(&self, name: &ServerName, change: impl FnOnce(&mut Record)) {
        if let Some(server) = self.all().iter().find(|server| server.name == *name) {
            change(&mut server.record.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

pub(crate) struct State {
    pub answered: bool,
    pub aside: bool,
    pub round_trip: Option<Duration>,
    pub failed_lately: bool,
    pub last_error: Option<String>,
}

impl Server {
    fn snapshot(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Record {
    fn is_out(&self, now: Instant) -> bool {
        self.unwell || self.aside_until.is_some_and(|until| now < until)
    }

    fn failed_lately(&self, now: Instant) -> bool {
        self.failures.back().is_some_and(|last| now.duration_since(*last) <= WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str) -> ServerName {
        ServerName::parse(&format!("ldaps://{host}")).expect("a valid URL")
    }

    fn hosts(servers: &Servers, now: Instant) -> Vec<String> {
        servers.candidates(now).iter().map(|server| server.host().to_owned()).collect()
    }

    #[test]
    fn a_url_names_host_port_and_whether_tls_comes_first() {
        for (url, printed) in [
            ("ldaps://dc1.corp.example", "ldaps://dc1.corp.example:636"),
            ("ldap://dc2.corp.example/", "ldap://dc2.corp.example:389"),
            ("LDAP://dc2:1389", "ldap://dc2:1389"),
            ("ldap://[::1]:3389", "ldap://[::1]:3389"),
            ("ldaps://[2001:db8::1]", "ldaps://[2001:db8::1]:636"),
        ] {
            assert_eq!(ServerName::parse(url).map(|server| server.to_string()), Some(printed.to_owned()), "{url}");
        }
        for url in [
            "",
            "dc1",
            "http://dc1",
            "ldap://",
            "ldap://:389",
            "ldap://dc1:0",
            "ldap://dc1:70000",
            "ldap://a b",
            "ldap://[::1",
        ] {
            assert_eq!(ServerName::parse(url), None, "{url}");
        }
    }

    #[test]
    fn three_failures_in_ten_seconds_set_a_server_aside_for_thirty() {
        // FD-04
        let servers = Servers::new(vec![name("one"), name("two")], ServerOrder::Listed);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        servers.failed(&name("one"), &"refused", at(0));
        assert_eq!(hosts(&servers, at(0)), ["two", "one"], "one failure: the other goes first for a moment");
        assert_eq!(hosts(&servers, at(11)), ["one", "two"], "and after that the order is as before");
        servers.failed(&name("one"), &"refused", at(11));
        servers.failed(&name("one"), &"refused", at(12));
        assert_eq!(hosts(&servers, at(12)), ["two", "one"], "three failures, but not in ten seconds");
        servers.failed(&name("one"), &"refused", at(13));
        assert_eq!(hosts(&servers, at(13)), ["two", "one"], "the last to be tried");
        assert_eq!(hosts(&servers, at(42)), ["two", "one"]);
        assert_eq!(hosts(&servers, at(43)), ["one", "two"]);
    }

    #[test]
    fn where_all_are_set_aside_all_are_tried_and_an_answer_brings_one_back() {
        let servers = Servers::new(vec![name("one"), name("two")], ServerOrder::Listed);
        let now = Instant::now();
        for host in ["one", "two"] {
            (0..3).for_each(|_| servers.failed(&name(host), &"refused", now));
        }
        assert_eq!(hosts(&servers, now), ["one", "two"]);
        servers.answered(&name("two"));
        assert_eq!(hosts(&servers, now), ["two", "one"]);
    }

    #[test]
    fn where_nobody_is_well_whoever_failed_longest_ago_is_tried_first() {
        // FD-04: it has had the longest time to come back.
        let servers = Servers::new(vec![name("one"), name("two"), name("three")], ServerOrder::Listed);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        (0..3).for_each(|_| servers.failed(&name("two"), &"refused", at(0)));
        servers.is_unwell(&name("three"), &"silent");
        assert_eq!(hosts(&servers, at(20)), ["one", "two", "three"]);
        servers.failed(&name("one"), &"result code 52", at(20));
        assert_eq!(hosts(&servers, at(20)), ["two", "one", "three"]);
        servers.answered(&name("one"));
        assert_eq!(hosts(&servers, at(20)), ["one", "two", "three"], "but not before one that has answered since");
    }

    #[test]
    fn the_nearest_comes_first_where_that_is_wanted_and_servers_about_as_near_do_not_take_turns() {
        // L-37
        let order = |order| Servers::new(vec![name("one"), name("two"), name("three")], order);
        let now = Instant::now();
        let measured = |servers: &Servers, host: &str, micros: &[u64]| {
            micros.iter().for_each(|it| servers.is_well(&name(host), Duration::from_micros(*it)));
        };
        let listed = order(ServerOrder::Listed);
        measured(&listed, "one", &[90_000]);
        measured(&listed, "two", &[300]);
        assert_eq!(hosts(&listed, now), ["one", "two", "three"]);

        let nearest = order(ServerOrder::Nearest);
        measured(&nearest, "one", &[90_000]);
        measured(&nearest, "two", &[300]);
        assert_eq!(hosts(&nearest, now), ["two", "one", "three"]);
        measured(&nearest, "three", &[250, 200, 200]);
        assert_eq!(hosts(&nearest, now), ["two", "three", "one"], "in the same house as the first");
        let mut seen = Vec::new();
        for (two, three) in [(300, 1_900), (1_900, 300), (2_000, 100), (100, 2_000), (300, 100)] {
            measured(&nearest, "two", &[two]);
            measured(&nearest, "three", &[three]);
            seen.push(hosts(&nearest, now));
        }
        assert!(seen.iter().all(|order| *order == ["two", "three", "one"]), "{seen:?}");
        measured(&nearest, "two", &[7_000]);
        assert_eq!(hosts(&nearest, now)[0], "two", "one slow answer is none");
        measured(&nearest, "two", &[40_000; 4]);
        assert_eq!(hosts(&nearest, now), ["three", "two", "one"]);
        (0..3).for_each(|_| nearest.failed(&name("three"), &"refused", now));
        assert_eq!(hosts(&nearest, now), ["two", "one", "three"], "far away is better than set aside");
    }

    #[test]
    fn who_was_found_unwell_is_left_out_until_found_well_and_an_open_port_is_no_sign_of_it() {
        // L-37
        let servers = Servers::new(vec![name("one"), name("two")], ServerOrder::Listed);
        let now = Instant::now();
        servers.is_unwell(&name("one"), &"silent");
        servers.answered(&name("one"));
        assert_eq!(hosts(&servers, now), ["two", "one"]);
        servers.is_unwell(&name("two"), &"silent");
        assert_eq!(hosts(&servers, now), ["one", "two"], "all are tried where all are out");
        servers.is_well(&name("one"), Duration::from_millis(1));
        assert_eq!(hosts(&servers, now), ["one", "two"]);
        (0..3).for_each(|_| servers.failed(&name("one"), &"refused", now));
        servers.is_well(&name("two"), Duration::from_millis(1));
        servers.is_well(&name("one"), Duration::from_millis(1));
        assert_eq!(hosts(&servers, now), ["two", "one"], "failures at work have their thirty seconds");
    }
}
