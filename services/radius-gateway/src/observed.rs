//! What this node sees of its clients, for the administrator who sets one up: what it sends, how it repeats itself and how long it waits
//! and who would be cut off by a stricter rule. Numbers only; in memory, of the last day, so that of a device that was
//! mended nothing is said any more the day after.

use proto::user_store::ClientReport;
use radius_wire::ms_chap::kind::{MS_CHAP_RESPONSE, MS_CHAP2_CPW, MS_CHAP2_RESPONSE};
use radius_wire::{AttributeType, Code, Lesson, Packet, Vendor};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// By client. Bounded by the clients of the settings: [`Observed::keep`]. `now` is the time since the start of the process.
#[derive(Default)]
pub(crate) struct Observed {
    clients: HashMap<Box<str>, Seen>,
    changed: bool,
}

#[derive(Default)]
struct Seen {
    last_unix_ms: i64,
    /// When each was seen last.
    protocols: BTreeMap<&'static str, Duration>,
    /// The latest gaps between a request and its repetition, in milliseconds.
    gaps: VecDeque<u32>,
    /// The latest last, [`HOURS_KEPT`] of them at most.
    hours: VecDeque<Hour>,
}

/// What was seen in an hour.
#[derive(Default)]
struct Hour {
    number: u64,
    signed: u64,
    unsigned: u64,
    unsigned_with_proxy_state: u64,
    /// The longest that it was seen to wait, and after which it was seen to have given up.
    waited_ms: u32,
    gave_up_ms: u32,
    anew: bool,
    elsewhere: bool,
    dropped: BTreeMap<&'static str, u64>,
}

/// The median is over so many gaps: a changed setting shows soon.
const GAPS_MAX: usize = 63;
const HOURS_KEPT: u64 = 24;
const HOUR_SECONDS: u64 = 3_600;
/// How a device asks is remembered longer: who looks on Monday is told what was tried on Friday.
const PROTOCOLS_KEPT: Duration = Duration::from_secs(7 * 24 * HOUR_SECONDS);

impl Observed {
    /// A genuine packet.
    pub(crate) fn packet(
        &mut self,
        client: &str,
        packet: &Packet<'_>,
        lesson: Lesson,
        now_unix_ms: i64,
        now: Duration,
    ) {
        let proxied = packet.has(AttributeType::PROXY_STATE);
        let seen = self.seen(client);
        seen.last_unix_ms = now_unix_ms;
        seen.protocols.insert(protocol(packet), now);
        match lesson {
            Lesson::Yes => seen.hour(now).signed += 1,
            Lesson::NoOnceThePasswordIsAccepted => seen.hour(now).unsigned(proxied),
            Lesson::Nothing => {}
        }
    }

    /// A packet of its address that got no answer. `unprotected`: it had a Proxy-State and no signature, and was refused for that.
    pub(crate) fn dropped(&mut self, client: &str, drop: &'static str, unprotected: bool, now: Duration) {
        let hour = self.seen(client).hour(now);
        *hour.dropped.entry(drop).or_default() += 1;
        if unprotected {
            hour.unsigned(true);
        }
    }

    /// It has repeated itself, so long after the first time: it waits still.
    pub(crate) fn repeats(&mut self, client: &str, gap: Duration, waited: Duration, now: Duration) {
        let seen = self.seen(client);
        if seen.gaps.len() == GAPS_MAX {
            seen.gaps.pop_front();
        }
        seen.gaps.push_back(milliseconds(gap));
        let hour = seen.hour(now);
        hour.waited_ms = hour.waited_ms.max(milliseconds(waited));
    }

    /// It had given up, so long after it had asked, before its answer went out.
    pub(crate) fn gives_up(&mut self, client: &str, after: Duration, now: Duration) {
        let hour = self.seen(client).hour(now);
        hour.gave_up_ms = hour.gave_up_ms.max(milliseconds(after));
    }

    /// It repeats itself in new requests.
    pub(crate) fn repeats_anew(&mut self, client: &str, now: Duration) {
        self.seen(client).hour(now).anew = true;
    }

    /// It repeats itself at another node than the one that works on its request.
    pub(crate) fn repeats_elsewhere(&mut self, client: &str, now: Duration) {
        self.seen(client).hour(now).elsewhere = true;
    }

    /// Forgets clients that are gone.
    pub(crate) fn keep<'a>(&mut self, clients: impl Iterator<Item = &'a str>) {
        let clients: BTreeSet<&str> = clients.collect();
        self.clients.retain(|name, _| clients.contains(name.as_ref()));
    }

    /// All of it, if anything is new, or too old to be told still.
    pub(crate) fn take_changed(&mut self, now: Duration) -> Option<Vec<ClientReport>> {
        for seen in self.clients.values_mut() {
            self.changed |= seen.forgets_old(now);
        }
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
    fn hour(&mut self, now: Duration) -> &mut Hour {
        let number = now.as_secs() / HOUR_SECONDS;
        if self.hours.back().is_none_or(|hour| hour.number < number) {
            self.forgets_old(now);
            self.hours.push_back(Hour { number, ..Hour::default() });
        }
        self.hours.back_mut().expect("it is there now")
    }

    /// Whether anything was.
    fn forgets_old(&mut self, now: Duration) -> bool {
        let before = self.hours.len() + self.protocols.len();
        let number = now.as_secs() / HOUR_SECONDS;
        while self.hours.front().is_some_and(|hour| hour.number + HOURS_KEPT <= number) {
            self.hours.pop_front();
        }
        self.protocols.retain(|_, last| now.saturating_sub(*last) < PROTOCOLS_KEPT);
        self.hours.len() + self.protocols.len() != before
    }

    fn report(&self, client: &str) -> ClientReport {
        let mut gaps: Vec<_> = self.gaps.iter().copied().collect();
        gaps.sort_unstable();
        let mut report = ClientReport {
            client: client.to_owned(),
            last_seen_unix_ms: self.last_unix_ms,
            protocols: self.protocols.keys().map(|protocol| (*protocol).to_owned()).collect(),
            retry_interval_ms: gaps.get(gaps.len() / 2).copied().unwrap_or_default(),
            ..ClientReport::default()
        };
        let (mut waited_ms, mut gave_up_ms) = (0, 0);
        for hour in &self.hours {
            report.signed += hour.signed;
            report.unsigned += hour.unsigned;
            report.unsigned_with_proxy_state += hour.unsigned_with_proxy_state;
            report.retries_anew |= hour.anew;
            report.retries_elsewhere |= hour.elsewhere;
            (waited_ms, gave_up_ms) = (hour.waited_ms.max(waited_ms), hour.gave_up_ms.max(gave_up_ms));
            for (drop, packets) in &hour.dropped {
                *report.dropped.entry((*drop).to_owned()).or_default() += packets;
            }
        }
        // That it waited for twelve seconds does not say that it would not have waited for sixty.
        report.waits_ms = if gave_up_ms > 0 { gave_up_ms.max(waited_ms) } else { 0 };
        report
    }
}

impl Hour {
    fn unsigned(&mut self, proxied: bool) {
        self.unsigned += 1;
        self.unsigned_with_proxy_state += u64::from(proxied);
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
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

    const NOW: Duration = Duration::from_secs(1_000);
    const HOUR: Duration = Duration::from_secs(HOUR_SECONDS);

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(observed: &mut Observed, now: Duration) -> ClientReport {
        observed.take_changed(now).expect("something is new").pop().expect("of one client")
    }

    fn packet(observed: &mut Observed, attributes: &[(u8, &[u8])], lesson: Lesson, now: Duration) {
        let attributes = attributes.iter().map(|(kind, value)| Attribute { kind: AttributeType(*kind), value });
        let octets = write_unsigned(1, 1, &[0; 16], attributes).expect("it fits");
        let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
        observed.packet("vpn", &packet, lesson, 7, now);
    }

    #[test]
    fn what_a_client_sends_is_named_and_counted() {
        //
        const PROXY_STATE: (u8, &[u8]) = (33, b"p");
        let mut observed = Observed::default();
        let no = Lesson::NoOnceThePasswordIsAccepted;
        packet(&mut observed, &[(2, &[1; 16])], Lesson::Yes, NOW);
        packet(&mut observed, &[(2, &[1; 16])], Lesson::Yes, NOW);
        packet(&mut observed, &[(3, &[1; 17])], no, NOW);
        packet(&mut observed, &[PROXY_STATE, (26, &[0, 0, 1, 55, 25, 2])], no, NOW);
        packet(&mut observed, &[(26, &[0, 0, 0, 9, 1, 2]), (26, &[0, 0, 1, 55, 1, 2])], no, NOW + HOUR);
        packet(&mut observed, &[(70, &[1; 16])], Lesson::Nothing, NOW);
        packet(&mut observed, &[(1, b"ann")], Lesson::Nothing, NOW);
        packet(&mut observed, &[PROXY_STATE, (79, &[2, 1, 0, 5, 1])], Lesson::Nothing, NOW);
        packet(&mut observed, &[], Lesson::Nothing, NOW);
        observed.dropped("vpn", "blast", true, NOW + HOUR);
        observed.dropped("vpn", "ma_bad", false, NOW + HOUR);
        observed.dropped("vpn", "ma_bad", false, NOW + HOUR * 2);
        let report = seen(&mut observed, NOW + HOUR * 2);
        assert_eq!(report.protocols, ["arap", "chap", "eap", "ms_chap", "ms_chap2", "none", "pap"]);
        assert_eq!((report.signed, report.unsigned, report.unsigned_with_proxy_state), (2, 4, 2));
        assert_eq!(report.dropped, HashMap::from([("blast".to_owned(), 1), ("ma_bad".to_owned(), 2)]));
        assert_eq!((report.last_seen_unix_ms, report.retry_interval_ms, report.waits_ms), (7, 0, 0));
        assert!(!report.retries_anew && !report.retries_elsewhere);
    }

    #[test]
    fn the_retry_interval_is_the_median_of_the_latest_gaps() {
        // one late packet does not change the picture
        let mut observed = Observed::default();
        for (gap, waited) in [(5, 5), (5, 10), (5, 15), (9, 9), (1, 3)] {
            observed.repeats("vpn", second(gap), second(waited), NOW);
        }
        assert_eq!(seen(&mut observed, NOW).retry_interval_ms, 5_000);
        for _ in 0..1_000 {
            observed.repeats("vpn", second(2), second(2), NOW);
        }
        assert_eq!(seen(&mut observed, NOW).retry_interval_ms, 2_000);
        assert_eq!(observed.clients["vpn"].gaps.len(), GAPS_MAX);
    }

    #[test]
    fn how_long_a_device_waits_is_known_once_it_was_seen_to_give_up() {
        // that somebody approved at 12 s says nothing; then it gives up at 20 s, and by another setting later
        let mut observed = Observed::default();
        observed.repeats("vpn", second(5), second(10), NOW);
        assert_eq!(seen(&mut observed, NOW).waits_ms, 0);
        observed.gives_up("vpn", second(20), NOW);
        observed.gives_up("vpn", second(15), NOW);
        assert_eq!(seen(&mut observed, NOW).waits_ms, 20_000);
        observed.repeats("vpn", second(5), second(45), NOW + HOUR);
        assert_eq!(seen(&mut observed, NOW + HOUR).waits_ms, 45_000, "it still waited then");
        observed.gives_up("vpn", Duration::MAX, NOW + HOUR);
        assert_eq!(seen(&mut observed, NOW + HOUR).waits_ms, u32::MAX);
    }

    #[test]
    fn what_was_seen_is_forgotten_after_a_day_and_how_it_asks_after_a_week() {
        // a device that was mended is told of no longer, also where it says nothing any more
        let mut observed = Observed::default();
        let no = Lesson::NoOnceThePasswordIsAccepted;
        packet(&mut observed, &[(26, &[0, 0, 1, 55, 25, 2])], no, NOW);
        observed.dropped("vpn", "ma_missing", false, NOW);
        observed.dropped("vpn", "ma_bad", false, NOW);
        observed.gives_up("vpn", second(15), NOW);
        observed.repeats_anew("vpn", NOW);
        observed.repeats_elsewhere("vpn", NOW);
        packet(&mut observed, &[(2, &[1; 16])], Lesson::Yes, NOW + HOUR * 2);
        let before = seen(&mut observed, NOW + HOUR * 23);
        assert_eq!((before.signed, before.unsigned, before.waits_ms, before.dropped.len()), (1, 1, 15_000, 2));
        assert!(before.retries_anew && before.retries_elsewhere);
        let after = seen(&mut observed, NOW + HOUR * 24);
        assert_eq!((after.signed, after.unsigned, after.waits_ms, after.dropped.len()), (1, 0, 0, 0));
        assert!(!after.retries_anew && !after.retries_elsewhere);
        assert_eq!(after.protocols, ["ms_chap2", "pap"]);
        assert_eq!(seen(&mut observed, NOW + HOUR * 27).signed, 0);
        assert_eq!(seen(&mut observed, NOW + HOUR * 24 * 7).protocols, ["pap"]);
        for hours in 0..1_000 {
            observed.gives_up("vpn", second(15), NOW + HOUR * hours);
        }
        assert_eq!(observed.clients["vpn"].hours.len(), 24);
    }

    #[test]
    fn it_is_told_when_something_is_new_and_again_when_it_was_not_heard() {
        let mut observed = Observed::default();
        assert_eq!(observed.take_changed(NOW), None);
        observed.repeats_anew("vpn", NOW);
        observed.repeats_anew("wifi", NOW);
        let reports = observed.take_changed(NOW).expect("new");
        assert_eq!(
            reports.iter().map(|it| (it.client.as_str(), it.retries_anew)).collect::<Vec<_>>(),
            [("vpn", true), ("wifi", true)]
        );
        assert_eq!(observed.take_changed(NOW), None);
        observed.not_told();
        assert_eq!(observed.take_changed(NOW), Some(reports));
        observed.keep(["wifi"].into_iter());
        observed.not_told();
        assert_eq!(seen(&mut observed, NOW).client, "wifi");
        assert_eq!(observed.clients.len(), 1);
    }
}
