//! The `[radius]` section, and the configuration of the gateway as a process of its own.

use serde::Deserialize;
use service_kit::config::{BusSection, GrpcSection, LogSection, ManagementSection, ShutdownSection, TelemetrySection};
use service_kit::grpc::Endpoints;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// `[radius]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RadiusSection {
    /// Where Access-Request and Status-Server are taken.
    pub listen: Vec<SocketAddr>,
    /// No Access-Reject leaves earlier than this after its request (R-07).
    pub reject_delay_ms: Ranged<500, 5_000>,
    /// How long a reply is kept for copies of its request (R-31).
    pub reply_kept_seconds: Ranged<5, 30>,
    /// A packet with more attributes is dropped (A1 step 7).
    pub attributes_max: Ranged<20, 2_000>,
    /// Packets of one source address a second; as many again may come at once (A1 step 3).
    pub packets_per_second_max: Ranged<10, 1_000_000>,
    /// Requests in work, in all. What is new beyond it is dropped; the last tenth is kept for answers to challenges (R-38).
    pub in_work_max: Ranged<10, 1_000_000>,
    /// Requests in work for one client.
    pub in_work_per_client_max: Ranged<10, 1_000_000>,
    /// A directory that outlives the process: there stands who was let in while verification and store were down, until the store
    /// takes it (V-40). Without one nobody is let in then.
    pub spool_dir: Option<PathBuf>,
}

impl Default for RadiusSection {
    fn default() -> Self {
        const PORT: u16 = 1812; // RFC 2865 section 3
        Self {
            listen: vec![(Ipv4Addr::UNSPECIFIED, PORT).into(), (Ipv6Addr::UNSPECIFIED, PORT).into()],
            reject_delay_ms: Ranged(1_000),
            reply_kept_seconds: Ranged(30),
            attributes_max: Ranged(radius_wire::ATTRIBUTES_MAX as u64),
            packets_per_second_max: Ranged(20_000),
            in_work_max: Ranged(65_536),
            in_work_per_client_max: Ranged(32_768),
            spool_dir: None,
        }
    }
}

impl RadiusSection {
    pub(crate) fn reject_delay(&self) -> Duration {
        Duration::from_millis(self.reject_delay_ms.0)
    }

    pub(crate) fn reply_kept(&self) -> Duration {
        Duration::from_secs(self.reply_kept_seconds.0)
    }
}

/// Of the program that holds this part alone. A process that holds several embeds [`RadiusSection`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    pub log: LogSection,
    #[serde(default)]
    pub telemetry: TelemetrySection,
    #[serde(default)]
    pub management: ManagementSection,
    #[serde(default)]
    pub shutdown: ShutdownSection,
    #[serde(default)]
    pub bus: BusSection,
    pub grpc: GrpcSection,
    pub endpoints: EndpointsSection,
    #[serde(default)]
    pub radius: RadiusSection,
}

/// `[endpoints]`: the parts this one calls.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointsSection {
    pub user_store: Endpoints,
    pub verification: Endpoints,
}

/// A whole number within bounds that are part of its type, so that a value out of range is refused where it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Ranged<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Ranged<MIN, MAX> {
    pub fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<const MIN: u64, const MAX: u64> TryFrom<u64> for Ranged<MIN, MAX> {
    type Error = String;
    fn try_from(value: u64) -> Result<Self, String> {
        match (MIN..=MAX).contains(&value) {
            true => Ok(Self(value)),
            false => Err(format!("found {value}; allowed are {MIN} to {MAX}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_range_and_an_unknown_key_are_refused() {
        let read = |json: &str| serde_json::from_str::<RadiusSection>(json);
        assert_eq!(read("{}").expect("all keys have defaults"), RadiusSection::default());
        for bad in [r#"{"reject_delay_ms":499}"#, r#"{"reply_kept_seconds":31}"#, r#"{"listen_on":["0.0.0.0:1812"]}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read(r#"{"reject_delay_ms":500}"#).expect("the least").reject_delay(), Duration::from_millis(500));
    }
}
