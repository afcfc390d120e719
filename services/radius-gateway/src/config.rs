//! The `[radius]` section, and the configuration of the gateway as a process of its own.

use crate::home::OurSide;
use serde::{Deserialize, Deserializer, de::Error};
use service_kit::config::{
    BusSection, GrpcSection, InputFile, LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection,
};
use service_kit::grpc::Endpoints;
use service_kit::secret::SecretFile;
use service_kit::tls::Identity;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// `[radius]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RadiusSection {
    /// Where Access-Request and Status-Server are taken.
    pub listen: Vec<SocketAddr>,
    /// Where Accounting-Request and Status-Server are taken; empty = nowhere.
    pub accounting_listen: Vec<SocketAddr>,
    /// Where both are taken by TLS, from clients with a certificate (RadSec); empty = nowhere.
    pub radsec_listen: Vec<SocketAddr>,
    /// Who signs the certificates of those clients.
    pub radsec_client_ca_file: Option<InputFile>,
    /// What those who sign have revoked: a list (CRL) of each, in PEM. New lists are taken up while running (R-90).
    pub radsec_crl_file: Option<InputFile>,
    /// The same of the authorities of home servers that are asked by TLS and name theirs.
    pub radsec_server_crl_file: Option<InputFile>,
    /// What we show by TLS, to those clients and to servers: the chain in PEM, ours first. New files are taken up while running.
    pub tls_certificate_file: Option<InputFile>,
    pub tls_key_file: Option<SecretFile>,
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
    /// Samba's program that asks the Windows domain this host has joined, with `wbinfo` beside it (FR-08). Only targets of kind
    /// `windows_domain` need it.
    pub ntlm_auth: PathBuf,
}

impl Default for RadiusSection {
    fn default() -> Self {
        const PORT: u16 = 1812; // RFC 2865 section 3
        const ACCOUNTING_PORT: u16 = 1813; // RFC 2866 section 3
        let everywhere = |port| vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()];
        Self {
            listen: everywhere(PORT),
            accounting_listen: everywhere(ACCOUNTING_PORT),
            radsec_listen: Vec::new(),
            radsec_client_ca_file: None,
            radsec_crl_file: None,
            radsec_server_crl_file: None,
            tls_certificate_file: None,
            tls_key_file: None,
            reject_delay_ms: Ranged(1_000),
            reply_kept_seconds: Ranged(30),
            attributes_max: Ranged(radius_wire::ATTRIBUTES_MAX as u64),
            packets_per_second_max: Ranged(20_000),
            in_work_max: Ranged(65_536),
            in_work_per_client_max: Ranged(32_768),
            spool_dir: None,
            ntlm_auth: "/usr/bin/ntlm_auth".into(),
        }
    }
}

/// Keys of `[radius]` that do not go together. The operator's to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRadiusSection {
    #[error("radius.tls_certificate_file and radius.tls_key_file belong together; one of them is missing")]
    HalfIdentity,
    #[error(
        "radius.radsec_listen needs radius.tls_certificate_file, radius.tls_key_file and radius.radsec_client_ca_file"
    )]
    NoCertificates,
}

impl RadiusSection {
    /// For the field of a configuration: what does not go together is refused where it is written.
    pub fn deserialize_checked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let section = Self::deserialize(deserializer)?;
        section.check().map(|()| section).map_err(D::Error::custom)
    }

    /// What keys say together, and what no single type can say.
    pub fn check(&self) -> Result<(), BadRadiusSection> {
        if self.tls_certificate_file.is_some() != self.tls_key_file.is_some() {
            return Err(BadRadiusSection::HalfIdentity);
        }
        match self.radsec_listen.is_empty() || self.radsec().is_some() {
            true => Ok(()),
            false => Err(BadRadiusSection::NoCertificates),
        }
    }

    /// Who we are by TLS.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let (certificate, key) = (self.tls_certificate_file.clone()?, self.tls_key_file.clone()?);
        Some(Identity { certificate, key })
    }

    /// What we bring to home servers that are asked by TLS.
    pub(crate) fn our_side(&self) -> OurSide {
        OurSide { identity: self.identity(), revocation_lists: self.radsec_server_crl_file.clone() }
    }

    /// Who we are, and who signs for those that may come.
    pub(crate) fn radsec(&self) -> Option<(Identity, InputFile)> {
        self.identity().zip(self.radsec_client_ca_file.clone())
    }

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
    pub tls: TlsSection,
    #[serde(default)]
    pub management: ManagementSection,
    #[serde(default)]
    pub shutdown: ShutdownSection,
    #[serde(default)]
    pub bus: BusSection,
    pub grpc: GrpcSection,
    pub endpoints: EndpointsSection,
    #[serde(default, deserialize_with = "RadiusSection::deserialize_checked")]
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

    #[test]
    fn keys_of_tls_that_do_not_go_together_are_refused() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let file = || Some(InputFile::new(here).expect("this crate"));
        let listens = RadiusSection { radsec_listen: vec![([127, 0, 0, 1], 2083).into()], ..RadiusSection::default() };
        assert_eq!(listens.check(), Err(BadRadiusSection::NoCertificates));
        let half = RadiusSection { tls_certificate_file: file(), ..RadiusSection::default() };
        assert_eq!(half.check(), Err(BadRadiusSection::HalfIdentity));
        assert_eq!(RadiusSection::default().check(), Ok(()));
    }
}
