//! What this node sees of its clients, for the administrator who sets one up: what it sends, how it repeats itself and how long it waits
//! and who would be cut off by a stricter rule. Numbers only; in memory, since the start.

use proto::user_store::ClientReport;
use radius_wire::ms_chap::kind::{MS_CHAP_RESPONSE, MS_CHAP2_CPW, MS_CHAP2_RESPONSE};
use radius_wire::{AttributeType, Code, Lesson, Packet, Vendor};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// By client. Bounded by the clients of the settings: [`Observed::keep`].
#[derive(Default)]
pub(crate) struct Observed {
    clients: HashMap<Box<str>, Seen>,
    changed: bool,
}

#[derive(Default)]
struct Seen {
    last_unix_ms: i64,
    protocols: BTreeSet<&'static str>,
    signed: u64,
    unsigned: u64,
    unsigned_with_proxy_state: u64,
    /// The latest gaps between a request and its repetition, in milliseconds.
    gaps: VecDeque<u32>,
    waits_ms: u32,
    anew: bool,
    dropped: BTreeMap<&'static str, u64>,
}

/// The median is over so many gaps: a changed setting shows soon.
const GAPS_MAX: usize = 63;

impl Observed {
    /// A genuine packet.
    pub(crate) fn packet(&mut self, client: &str, packet: &Packet<'_>, lesson: Lesson, now_unix_ms: i64) {
        let proxied = packet.has(AttributeType::PROXY_STATE);
        let seen = self.seen(client);
        seen.last_unix_ms = now_unix_ms;
        seen.protocols.insert(protocol(packet));
        match lesson {
            Lesson::Yes => seen.signed += 1,
            Lesson::NoOnceThePasswordIsAccepted => seen.unsigned(proxied),
            Lesson::Nothing => {}
        }
    }

    /// A packet of its address that got no answer. `unprotected`: it had a Proxy-State and no signature, and was refused for that.
    pub(crate) fn dropped(&mut self, client: &str, drop: &'static str, unprotected: bool) {
        let seen = self.seen(client);
        *seen.dropped.entry(drop).or_default() += 1;
        if unprotected {
            seen.unsigned(true);
        }
    }

    /// It has repeated itself.
    pub(crate) fn repeats(&mut self, client: &str, gap: Duration, waited: Duration) {
        let milliseconds = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let seen = self.seen(client);
        if seen.gaps.len() == GAPS_MAX {
            seen.gaps.pop_front();
        }
        seen.gaps.push_back(milliseconds(gap));
        seen.waits_ms = seen.waits_ms.max(milliseconds(waited.saturating_add(gap)));
    }

    /// It repeats itself in new requests.
    pub(crate) fn repeats_anew(&mut self, client: &str) {
        self.seen(client).anew = true;
    }

    /// Forgets clients that are gone.
    pub(crate) fn keep<'a>(&mut self, clients: impl Iterator<Item = &'a str>) {
        let clients: BTreeSet<&str> = clients.collect();
        self.clients.retain(|name, _| clients.contains(name.as_ref()));
    }

    /// All of it, if anything is new.
    pub(crate) fn take_changed(&mut self) -> Option<Vec<ClientReport>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut reports: Vec<_> = self.clients.iter().map(|(client, seen)| seen.report(client)).collect();
        reports.sort_by(|one, other| one.client.cmp(&other.client));
        Some(reports)
    }

    /// It was not heard: it is told again.
    pub(crate) fn not_told(&mut self) {
        self.changed = true;
    }

    fn seen(&mut self, client: &str) -> &mut Seen {
        self.changed = true;
        if !self.clients.contains_key(client) {
            self.clients.insert(client.into(), Seen::default());
        }
        self.clients.get_mut(client).expect("it is there now")
    }
}

impl Seen {
    fn unsigned(&mut self, proxied: bool) {
        self.unsigned += 1;
        self.unsigned_with_proxy_state += u64::from(proxied);
    }

    fn report(&self, client: &str) -> ClientReport {
        let mut gaps: Vec<_> = self.gaps.iter().copied().collect();
        gaps.sort_unstable();
        ClientReport {
            client: client.to_owned(),
            last_seen_unix_ms: self.last_unix_ms,
            protocols: self.protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
            signed: self.signed,
            unsigned: self.unsigned,
            unsigned_with_proxy_state: self.unsigned_with_proxy_state,
            retry_interval_ms: gaps.get(gaps.len() / 2).copied().unwrap_or_default(),
            waits_ms: self.waits_ms,
            retries_anew: self.anew,
            dropped: self.dropped.iter().map(|(drop, packets)| ((*drop).to_owned(), *packets)).collect(),
        }
    }
}

/// As the store's reports name it.
pub(crate) fn protocol(packet: &Packet<'_>) -> &'static str {
    match packet.code() {
        Code::StatusServer => return "status_server",
        Code::AccountingRequest => return "accounting",
        _ => {}
    }
    let proof = packet.attributes().find_map(|attribute| match attribute.kind {
        AttributeType::USER_PASSWORD => Some("pap"),
        AttributeType::CHAP_PASSWORD => Some("chap"),
        AttributeType::EAP_MESSAGE => Some("eap"),
        AttributeType::ARAP_PASSWORD => Some("arap"),
        AttributeType::VENDOR_SPECIFIC => {
            let vendor = attribute.vendor().filter(|vendor| vendor.id == Vendor::MICROSOFT)?;
            vendor.attributes().find_map(|(kind, _)| match kind {
                MS_CHAP_RESPONSE => Some("ms_chap"),
                MS_CHAP2_RESPONSE | MS_CHAP2_CPW => Some("ms_chap2"),
                _ => None,
            })
        }
        _ => None,
    });
    proof.unwrap_or("none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use radius_wire::{Attribute, Port, write_unsigned};

    fn seen(observed: &mut Observed) -> ClientReport {
        observed.take_changed().expect("something is new").pop().expect("of one client")
    }

    fn packet(observed: &mut Observed, attributes: &[(u8, &[u8])], lesson: Lesson) {
        let attributes = attributes.iter().map(|(kind, value)| Attribute { kind: AttributeType(*kind), value });
        let octets = write_unsigned(1, 1, &[0; 16], attributes).expect("it fits");
        let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
        observed.packet("vpn", &packet, lesson, 7);
    }

    #[test]
    fn what_a_client_sends_is_named_and_counted() {
        //
        const PROXY_STATE: (u8, &[u8]) = (33, b"p");
        let mut observed = Observed::default();
        let no = Lesson::NoOnceThePasswordIsAccepted;
        packet(&mut observed, &[(2, &[1; 16])], Lesson::Yes);
        packet(&mut observed, &[(2, &[1; 16])], Lesson::Yes);
        packet(&mut observed, &[(3, &[1; 17])], no);
        packet(&mut observed, &[PROXY_STATE, (26, &[0, 0, 1, 55, 25, 2])], no);
        packet(&mut observed, &[(26, &[0, 0, 0, 9, 1, 2]), (26, &[0, 0, 1, 55, 1, 2])], no);
        packet(&mut observed, &[(70, &[1; 16])], Lesson::Nothing);
        packet(&mut observed, &[(1, b"ann")], Lesson::Nothing);
        packet(&mut observed, &[PROXY_STATE, (79, &[2, 1, 0, 5, 1])], Lesson::Nothing);
        packet(&mut observed, &[], Lesson::Nothing);
        observed.dropped("vpn", "blast", true);
        observed.dropped("vpn", "ma_bad", false);
        observed.dropped("vpn", "ma_bad", false);
        let report = seen(&mut observed);
        assert_eq!(report.protocols, ["arap", "chap", "eap", "ms_chap", "ms_chap2", "none", "pap"]);
        assert_eq!((report.signed, report.unsigned, report.unsigned_with_proxy_state), (2, 4, 2));
        assert_eq!(report.dropped, HashMap::from([("blast".to_owned(), 1), ("ma_bad".to_owned(), 2)]));
        assert_eq!((report.last_seen_unix_ms, report.retry_interval_ms, report.waits_ms), (7, 0, 0));
        assert!(!report.retries_anew);
    }

    #[test]
    fn the_retry_interval_is_the_median_of_the_latest_gaps_and_the_wait_the_longest() {
        // a device that sends every 5 s for 15 s waits for 20 s; one late packet does not change the picture
        let mut observed = Observed::default();
        let second = Duration::from_secs;
        for (gap, waited) in [(5, 5), (5, 10), (5, 15), (9, 9), (1, 3)] {
            observed.repeats("vpn", second(gap), second(waited));
        }
        let report = seen(&mut observed);
        assert_eq!((report.retry_interval_ms, report.waits_ms), (5_000, 20_000));
        for _ in 0..1_000 {
            observed.repeats("vpn", second(2), second(2));
        }
        let report = seen(&mut observed);
        assert_eq!((report.retry_interval_ms, report.waits_ms), (2_000, 20_000));
        assert_eq!(observed.clients["vpn"].gaps.len(), GAPS_MAX);
        observed.repeats("vpn", Duration::MAX, Duration::MAX);
        assert_eq!(seen(&mut observed).waits_ms, u32::MAX);
    }

    #[test]
    fn it_is_told_when_something_is_new_and_again_when_it_was_not_heard() {
        let mut observed = Observed::default();
        assert_eq!(observed.take_changed(), None);
        observed.repeats_anew("vpn");
        observed.repeats_anew("wifi");
        let reports = observed.take_changed().expect("new");
        assert_eq!(
            reports.iter().map(|it| (it.client.as_str(), it.retries_anew)).collect::<Vec<_>>(),
            [("vpn", true), ("wifi", true)]
        );
        assert_eq!(observed.take_changed(), None);
        observed.not_told();
        assert_eq!(observed.take_changed(), Some(reports));
        observed.keep(["wifi"].into_iter());
        observed.not_told();
        assert_eq!(seen(&mut observed).client, "wifi");
        assert_eq!(observed.clients.len(), 1);
    }
}
