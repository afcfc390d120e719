//! Accounting-Requests: what a device reports of its sessions (R-86, FR-19). Acknowledged only when somebody has it for good; else
//! silence, and the device sends it again. What is missing or absurd in a report is no reason for that (B-31).
//!
//! ```text
//! the client's rule   forward: to its target, whose answer is the device's
//!                     store:   into the store, then acknowledged
//!                     discard: acknowledged
//!                     off:     dropped
//! ```
//! A copy to another node is known there by the map of requests, as a login's is. Where the bus is away it is recorded once more: for
//! the store it is the same record, and the acknowledgement is the same.

use crate::attempt::escaped;
use crate::home::{self, About, Envelope};
use crate::listener::{self, Drop};
use crate::{Gateway, relay};
use domain::settings::Accounting;
use proto::user_store::{AccountingRecord, RecordAccountingRequest};
use radius_wire::{AccountingRequest, AcctStatus, AttributeType, Forward, Packet, Reply, Verdict, Verified};
use service_kit::grpc::{idempotent, with_deadline};
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::time::Instant;

/// A device asks again after a few seconds, and then is told of the same record.
const STORE_LIMIT: Duration = Duration::from_secs(5);
/// As long as it is sent on while the device waits (RFC 5080 section 2.2.1).
const FORWARD_LIMIT: Duration = Duration::from_secs(30);

/// Whether anything comes of it, so that it matters whether it is done once.
pub(crate) fn has_effect(request: &listener::Request) -> bool {
    matches!(request.client.accounting, Accounting::Store | Accounting::Forward)
}

/// The acknowledgement, when somebody has the report for good. May be dropped at any await: a record that is already on its way is
/// recorded, or is not; the device hears nothing and tells it again.
pub(crate) async fn answer(gateway: &Gateway, request: &listener::Request) -> Result<Vec<u8>, Drop> {
    match request.client.accounting {
        Accounting::Off => return Err(Drop::AccountingOff), // it was dropped before; the settings are of that moment
        Accounting::Discard => {}
        Accounting::Store => store(gateway, request).await?,
        Accounting::Forward => return forward(gateway, request).await.ok_or(Drop::NotForwarded),
    }
    Reply::Recorded.write(&request.verified()).map_err(|error| {
        tracing::error!(service = crate::NAME, client = request.client.name(), error = %error, "a report cannot be acknowledged");
        Drop::NotStored
    })
}

/// The answer of the client's target; none where no server gave one, and the device sends its report again (R-86).
async fn forward(gateway: &Gateway, request: &listener::Request) -> Option<Vec<u8>> {
    let home = gateway.settings.home_target(&request.client.settings.target)?;
    let verified = request.verified();
    if gateway.has_sent(verified.packet()) {
        return None; // B-33
    }
    let (mark, dictionary) = (gateway.loop_mark(), gateway.settings.dictionary());
    let write = |envelope: &Envelope<'_>| {
        let forward = Forward {
            request: &verified,
            identifier: envelope.identifier,
            authenticator: envelope.authenticator,
            secret: envelope.secret,
            proxy_state: &mark,
            password: None,
        };
        forward.write(&mut relay::hidden_anew(&dictionary, &verified, envelope))
    };
    let station = home::station(verified.packet());
    let answered = home.ask(About::Accounting, &write, None, station, Instant::now() + FORWARD_LIMIT).await.ok()?;
    if answered.reply.verdict() != Verdict::Recorded {
        return None;
    }
    // Nothing in an Accounting-Response is for the device but that it came (RFC 2866 section 4.2).
    Reply::Recorded.write(&verified).ok()
}

async fn store(gateway: &Gateway, request: &listener::Request) -> Result<(), Drop> {
    let record = record(&request.verified(), request.client.name(), request.path.peer.ip(), gateway.clock.now_ms());
    let message = RecordAccountingRequest { record: Some(record) };
    let call = gateway.store.record_accounting(with_deadline(idempotent(message), STORE_LIMIT));
    match tokio::time::timeout(STORE_LIMIT, call).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Drop::NotStored),
    }
}

// RFC 2865 and 2866 section 5, RFC 2869 section 5.3, RFC 6911 section 3.1
const FRAMED_IP_ADDRESS: AttributeType = AttributeType(8);
const ACCT_DELAY_TIME: AttributeType = AttributeType(41);
const ACCT_TERMINATE_CAUSE: AttributeType = AttributeType(49);
const EVENT_TIMESTAMP: AttributeType = AttributeType(55);
const FRAMED_IPV6_ADDRESS: AttributeType = AttributeType(168);

fn record(request: &Verified<'_>, client: &str, source: IpAddr, now_unix_ms: i64) -> AccountingRecord {
    let packet = request.packet();
    let Ok(read) = AccountingRequest::read(request) else { return AccountingRecord::default() };
    let text = |kind| packet.first(kind).map(escaped).unwrap_or_default();
    let delay_seconds = number(packet, ACCT_DELAY_TIME).unwrap_or_default();
    AccountingRecord {
        client: client.to_owned(),
        at_unix_ms: now_unix_ms.saturating_sub(i64::from(delay_seconds) * 1_000),
        digest: digest(packet, client),
        status: read.status.map(status).unwrap_or_default(),
        session_id: text(AttributeType::ACCT_SESSION_ID),
        username: text(AttributeType::USER_NAME),
        calling_station: text(AttributeType::CALLING_STATION_ID),
        nas: nas(packet, source),
        framed_address: framed_address(packet),
        session_seconds: read.session_seconds.map(u64::from).unwrap_or_default(),
        input_octets: read.input_octets.unwrap_or_default(),
        output_octets: read.output_octets.unwrap_or_default(),
        terminate_cause: number(packet, ACCT_TERMINATE_CAUSE).map(terminate_cause).unwrap_or_default(),
    }
}

/// What makes two packets copies: all but what a device changes when it sends a report again.
fn digest(packet: &Packet<'_>, client: &str) -> Vec<u8> {
    let mut digest = Sha256::new();
    let mut add = |octets: &[u8]| {
        digest.update((octets.len() as u64).to_be_bytes());
        digest.update(octets);
    };
    add(client.as_bytes());
    for attribute in packet.attributes() {
        match attribute.kind {
            ACCT_DELAY_TIME | EVENT_TIMESTAMP | AttributeType::PROXY_STATE | AttributeType::MESSAGE_AUTHENTICATOR => {}
            kind => {
                add(&[kind.0]);
                add(attribute.value);
            }
        }
    }
    digest.finalize().to_vec()
}

fn number(packet: &Packet<'_>, kind: AttributeType) -> Option<u32> {
    packet.attributes().find(|attribute| attribute.kind == kind)?.integer()
}

fn nas(packet: &Packet<'_>, source: IpAddr) -> String {
    let named = packet.nas_identifier().filter(|name| !name.is_empty()).map(escaped);
    let address = || {
        let v4 = packet.nas_ip_address().map(IpAddr::from);
        v4.or_else(|| packet.nas_ipv6_address().map(IpAddr::from)).unwrap_or(source.to_canonical()).to_string()
    };
    named.unwrap_or_else(address)
}

fn framed_address(packet: &Packet<'_>) -> String {
    let octets = |kind| packet.first(kind);
    let v4 = octets(FRAMED_IP_ADDRESS).and_then(|octets| <[u8; 4]>::try_from(octets).ok());
    let v6 = octets(FRAMED_IPV6_ADDRESS).and_then(|octets| <[u8; 16]>::try_from(octets).ok());
    let v4 = v4.map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let v6 = v6.map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    v4.or(v6).map(|address| address.to_string()).unwrap_or_default()
}

/// By its name in RFC 2866 section 5.1.
fn status(status: AcctStatus) -> String {
    match status {
        AcctStatus::Start => "Start".into(),
        AcctStatus::Stop => "Stop".into(),
        AcctStatus::InterimUpdate => "Interim-Update".into(),
        AcctStatus::On => "Accounting-On".into(),
        AcctStatus::Off => "Accounting-Off".into(),
        AcctStatus::Other(number) => number.to_string(),
    }
}

/// By its name in RFC 2866 section 5.10.
fn terminate_cause(number: u32) -> String {
    const NAMES: [&str; 18] = [
        "User-Request",
        "Lost-Carrier",
        "Lost-Service",
        "Idle-Timeout",
        "Session-Timeout",
        "Admin-Reset",
        "Admin-Reboot",
        "Port-Error",
        "NAS-Error",
        "NAS-Request",
        "NAS-Reboot",
        "Port-Unneeded",
        "Port-Preempted",
        "Port-Suspended",
        "Service-Unavailable",
        "Callback",
        "User-Error",
        "Host-Request",
    ];
    let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    place.and_then(|place| NAMES.get(place)).map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use radius_wire::{Attribute, Port, Request, RequestCode, Rules, Secret, verify_request};

    const NOW: i64 = 1_790_000_000_000;

    fn of(attributes: &[(u8, &[u8])]) -> AccountingRecord {
        let secret = Secret::new("xyzzy5461").expect("not empty");
        let attributes: Vec<_> =
            attributes.iter().map(|(kind, value)| Attribute { kind: AttributeType(*kind), value }).collect();
        let code = RequestCode::AccountingRequest;
        let request = Request { code, identifier: 1, authenticator: [0; 16], attributes: &attributes, password: None };
        let octets = request.write(&secret).expect("it fits");
        let packet = Packet::parse(&octets, Port::Accounting).expect("well formed");
        let verified = verify_request(packet, (&secret).into(), Rules::default()).expect("genuine");
        record(&verified, "vpn", IpAddr::from([192, 0, 2, 1]), NOW)
    }

    #[test]
    fn a_whole_report_is_recorded_with_names() {
        let report = of(&[
            (1, b"ann"),
            (4, &[10, 0, 0, 7]),
            (8, &[10, 8, 0, 2]),
            (31, b"198.51.100.7"),
            (40, &[0, 0, 0, 2]),
            (41, &[0, 0, 0, 3]),
            (42, &[0, 0, 0, 1]),
            (44, b"s-17"),
            (46, &[0, 0, 1, 0]),
            (49, &[0, 0, 0, 1]),
            (52, &[0, 0, 0, 2]),
        ]);
        let expected = AccountingRecord {
            client: "vpn".into(),
            at_unix_ms: NOW - 3_000,
            digest: report.digest.clone(),
            status: "Stop".into(),
            session_id: "s-17".into(),
            username: "ann".into(),
            calling_station: "198.51.100.7".into(),
            nas: "10.0.0.7".into(),
            framed_address: "10.8.0.2".into(),
            session_seconds: 256,
            input_octets: (2 << 32) + 1,
            output_octets: 0,
            terminate_cause: "User-Request".into(),
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn what_is_missing_or_absurd_is_recorded_as_far_as_it_goes() {
        // B-31, CVE-2004-0131, R-24
        let nothing = of(&[]);
        assert_eq!((nothing.status.as_str(), nothing.session_id.as_str(), nothing.nas.as_str()), ("", "", "192.0.2.1"));
        let absurd = of(&[
            (1, b"ann\r\n\x1b[2J"),
            (8, &[1, 2, 3]),
            (32, b"edge-1"),
            (40, b""),
            (41, &[0xff; 4]),
            (44, b"\xff\0"),
            (49, &[0xff; 4]),
        ]);
        assert_eq!(absurd.username, "ann\\u{d}\\u{a}\\u{1b}[2J");
        assert_eq!((absurd.session_id.as_str(), absurd.nas.as_str()), ("\u{fffd}\\u{0}", "edge-1"));
        assert_eq!((absurd.status.as_str(), absurd.framed_address.as_str()), ("", ""));
        assert_eq!(absurd.at_unix_ms, NOW - i64::from(u32::MAX) * 1_000);
        assert_eq!(absurd.terminate_cause, u32::MAX.to_string());
        assert_eq!(of(&[(40, &[0, 0, 0, 15])]).status, "15");
        for (number, name) in [(1, "User-Request"), (18, "Host-Request"), (19, "19"), (0, "0")] {
            assert_eq!(terminate_cause(number), name);
        }
    }

    #[test]
    fn a_report_sent_again_is_the_same_record_and_any_other_is_not() {
        // R-86, FR-19
        let first = of(&[(1, b"ann"), (40, &[0, 0, 0, 1]), (44, b"17")]).digest;
        let again =
            [(1, &b"ann"[..]), (40, &[0, 0, 0, 1]), (41, &[0, 0, 0, 9]), (44, b"17"), (55, &[1; 4]), (33, b"p")];
        assert_eq!(of(&again).digest, first);
        for other in [
            &[(1, &b"bob"[..]), (40, &[0, 0, 0, 1]), (44, b"17")][..],
            &[(1, b"ann"), (40, &[0, 0, 0, 2]), (44, b"17")],
            &[(1, b"ann"), (40, &[0, 0, 0, 1]), (44, b"1"), (44, b"7")],
            &[(1, b"ann"), (40, &[0, 0, 0, 1])],
        ] {
            assert_ne!(of(other).digest, first);
        }
    }
}
