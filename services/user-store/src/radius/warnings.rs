//! What an administrator should know or change about a client, in words. Pure.

use super::reports::Known;
use crate::users::time_text;
use domain::settings::{Client, ClientProtocol, HomeServer, MessageAuthenticator, RefuseOrPass, Settings, Transport};
use proto::user_store::NodeReport;
use std::collections::BTreeSet;

const DAY_MS: i64 = 24 * 3_600_000;
const UNSEEN_MS: i64 = 7 * DAY_MS;
/// What a report counts is of the day before it, and a node that sees nothing new reports again as that day passes: what is older is of a
/// node that is gone.
const COUNTED_MS: i64 = 25 * 3_600_000;
/// The same of how a client asks, which is remembered for a week.
const PROTOCOLS_MS: i64 = 8 * DAY_MS;
/// One wrong signature may be a packet of somebody else; so many are another secret.
const WRONG_MANY: u64 = 3;
/// What a device should wait beyond Twinlock, so that the answer arrives.
const SPARE_SECONDS: u32 = 5;
const WAIT_SECONDS_MIN: u32 = 10;

/// In one sentence.
pub struct Warning {
    pub text: String,
    /// It says what the client lets through: people without a second factor, or packets that somebody may have forged.
    pub weakens: bool,
}

/// In the order in which they are told.
#[derive(Default)]
struct Found(Vec<Warning>);

impl Found {
    fn push(&mut self, text: String) {
        self.0.push(Warning { text, weakens: false });
    }

    fn weakens(&mut self, text: String) {
        self.0.push(Warning { text, weakens: true });
    }
}

/// The most important first; empty = all is well.
pub fn warnings(settings: &Settings, client: &Client, known: &Known, now_ms: i64) -> Vec<Warning> {
    let mut found = Found::default();
    without_second_factor(client, now_ms, &mut found);
    if client.protocol != ClientProtocol::Radius {
        return found.0;
    }
    let seen = Seen::of(&known.reports, now_ms);
    secret(known, &seen, now_ms, &mut found);
    signature(client, known, &seen, &mut found);
    patience(client, &seen, &mut found);
    methods(settings, client, &seen, &mut found);
    match known.last_seen_ms {
        None => {
            found.push("was never seen: does the device send to this host, and from an address in sources?".to_owned())
        }
        Some(at_ms) if now_ms - at_ms > UNSEEN_MS => {
            found.push(format!("was not seen for {} days, since {}", (now_ms - at_ms) / DAY_MS, time_text(at_ms)));
        }
        Some(_) => {}
    }
    found.0
}

/// The same of a RADIUS server that we are a client of. What its settings alone tell, their check says.
pub fn of_home_server(server: &HomeServer, learned: Option<bool>) -> Vec<String> {
    let unsigned = server.transport == Transport::Udp && learned == Some(false);
    let text = "answers without Message-Authenticator: who stands between can forge its answers (CVE-2024-3596); update it, then \
                write message_authenticator = \"yes\"";
    unsigned.then(|| text.to_owned()).into_iter().collect()
}

/// What all nodes saw together.
#[derive(Default)]
struct Seen<'a> {
    protocols: BTreeSet<&'a str>,
    signed: u64,
    unsigned: u64,
    unsigned_with_proxy_state: u64,
    waits_ms: u32,
    retries_anew: bool,
    retries_elsewhere: bool,
    ma_missing: u64,
    ma_bad: u64,
}

impl<'a> Seen<'a> {
    fn of(reports: &'a [NodeReport], now_ms: i64) -> Self {
        let mut seen = Self::default();
        let reports =
            reports.iter().filter_map(|node| Some((now_ms.saturating_sub(node.at_unix_ms), node.report.as_ref()?)));
        for (age_ms, report) in reports {
            if age_ms < PROTOCOLS_MS {
                seen.protocols.extend(report.protocols.iter().map(String::as_str));
            }
            if age_ms >= COUNTED_MS {
                continue;
            }
            seen.signed = seen.signed.saturating_add(report.signed);
            seen.unsigned = seen.unsigned.saturating_add(report.unsigned);
            seen.unsigned_with_proxy_state =
                seen.unsigned_with_proxy_state.saturating_add(report.unsigned_with_proxy_state);
            seen.waits_ms = seen.waits_ms.max(report.waits_ms);
            seen.retries_anew |= report.retries_anew;
            seen.retries_elsewhere |= report.retries_elsewhere;
            let dropped = |code: &str| report.dropped.get(code).copied().unwrap_or(0);
            seen.ma_missing = seen.ma_missing.saturating_add(dropped("ma_missing"));
            seen.ma_bad = seen.ma_bad.saturating_add(dropped("ma_bad"));
        }
        seen
    }
}

fn unix_ms(text: &str) -> Option<i64> {
    let at = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    Some(at.unix_timestamp().saturating_mul(1000))
}

fn without_second_factor(client: &Client, now_ms: i64, found: &mut Found) {
    let open = |until: &Option<String>| until.as_deref().and_then(unix_ms).is_none_or(|until| until > now_ms);
    if let Some(until) = client.observe_until.as_ref().filter(|_| open(&client.observe_until)) {
        found.weakens(format!(
            "is only observed until {until}: the password alone lets people in; `twinlock client observe {} off` ends it",
            client.name
        ));
    }
    if client.when_unavailable == RefuseOrPass::Pass && open(&client.when_unavailable_until) {
        let whom = if client.when_unavailable_groups.is_empty() { "everybody" } else { "members of some groups" };
        let until = client.when_unavailable_until.as_ref().map(|until| format!(", until {until}")).unwrap_or_default();
        found.weakens(format!("lets {whom} in on the password while verification is down (when_unavailable){until}"));
    }
}

fn secret(known: &Known, seen: &Seen<'_>, now_ms: i64, found: &mut Found) {
    if seen.ma_bad >= WRONG_MANY {
        found.push(format!(
            "{} packets had a wrong Message-Authenticator and were dropped: the device has another shared secret",
            seen.ma_bad
        ));
    }
    if let Some(until_ms) = known.previous_until_ms {
        let days = (until_ms - now_ms + DAY_MS - 1) / DAY_MS;
        let days = if days == 1 { "within a day".to_owned() } else { format!("within {days} days") };
        found.push(format!(
            "the secret before the present one ends {days}, at {}: give the device the new one by then",
            time_text(until_ms)
        ));
    }
}

fn signature(client: &Client, known: &Known, seen: &Seen<'_>, found: &mut Found) {
    if client.transport == Transport::Tls {
        return;
    }
    let demanded = match client.message_authenticator {
        MessageAuthenticator::Yes => true,
        MessageAuthenticator::Auto => known.learned == Some(true),
        MessageAuthenticator::No => false,
    };
    if seen.ma_missing > 0 {
        found.push(format!(
            "{} packets had no Message-Authenticator and were dropped: switch it on at the device, or update the device",
            seen.ma_missing
        ));
    }
    if !demanded && seen.unsigned > 0 {
        let all = seen.signed.saturating_add(seen.unsigned);
        found.weakens(format!(
            "{} of {all} requests had no Message-Authenticator: switch it on at the device, then write \
             message_authenticator = \"yes\" (CVE-2024-3596)",
            seen.unsigned
        ));
    }
    if !demanded && seen.unsigned_with_proxy_state > 0 {
        found.weakens(format!(
            "{} requests without Message-Authenticator came through a proxy: limit_proxy_state refuses such",
            seen.unsigned_with_proxy_state
        ));
    }
    if !demanded && client.limit_proxy_state == MessageAuthenticator::No {
        found.weakens(
            "both protections against forged answers are off (CVE-2024-3596): who stands between can let anybody in"
                .to_owned(),
        );
    }
}

fn patience(client: &Client, seen: &Seen<'_>, found: &mut Found) {
    let waits = seen.waits_ms / 1000;
    // One that goes on at another node has not given up where it stopped.
    if seen.waits_ms > 0 && !seen.retries_elsewhere && waits < client.wait_seconds {
        let wanted = client.wait_seconds + SPARE_SECONDS;
        let shorter = waits.saturating_sub(SPARE_SECONDS);
        let or = match shorter >= WAIT_SECONDS_MIN {
            true => format!(", or wait_seconds to {shorter}"),
            false => String::new(),
        };
        found.push(format!(
            "gives up after {waits} s, but a login may take {} s (wait_seconds): set the device's timeout to {wanted} s in \
             all with few retries{or}",
            client.wait_seconds
        ));
    }
    if seen.retries_anew {
        found.push(
            "tries again with new requests: they are known for copies only where they carry Calling-Station-Id; else each \
             is a login of its own, and is refused while the first one's question is open (prompt_pending)"
                .to_owned(),
        );
    }
}

fn methods(settings: &Settings, client: &Client, seen: &Seen<'_>, found: &mut Found) {
    let ms_chap = seen.protocols.contains("ms_chap") || seen.protocols.contains("ms_chap2");
    if ms_chap {
        //
        found.push(
            "uses MS-CHAP: over UDP the password can be found from a recording of one login, and Windows 11 24H2 and Server \
             2025 give its single sign-on up; use PAP over TLS, or EAP"
                .to_owned(),
        );
    }
    if settings.directory(client.target.as_str()).is_none() {
        return;
    }
    let hidden: Vec<&str> = [("ms_chap", "MS-CHAP"), ("ms_chap2", "MS-CHAPv2"), ("chap", "CHAP"), ("eap", "EAP")]
        .into_iter()
        .filter(|(protocol, _)| seen.protocols.contains(protocol))
        .map(|(_, name)| name)
        .collect();
    if !hidden.is_empty() {
        //
        found.push(format!(
            "asks by {}, which the directory {} cannot check: set the device to PAP, or let a RADIUS target check its passwords",
            hidden.join(", "),
            client.target
        ));
    }
}

#[cfg(test)]
mod tests;
