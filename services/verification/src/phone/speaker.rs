//! Who speaks: a device that the store knows, by a signature of its key over what it asks for and when.

use super::device_key::DeviceKey;
use crate::Service;
use crate::budget::Budget;
use domain::Reason;
use proto::user_store::{GetDeviceRequest, PushDevice};
use proto::verification::DeviceProof;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::Status;

/// How far a phone's clock, with the way to us, may be away.
const CLOCK_MS: i64 = 60_000;
const ID_BYTES_MAX: usize = 64;

pub struct Speaker {
    pub device: PushDevice,
    pub key: DeviceKey,
    pub user_id: String,
}

/// The device of a proof. A device that nobody knows and a wrong signature are one refusal; a phone with a wrong clock hears that
/// it comes too late, and can ask again with the server's time.
pub async fn authenticate(
    service: &Service,
    proof: Option<DeviceProof>,
    what: &str,
    budget: Budget,
) -> Result<Result<Speaker, Reason>, Status> {
    let Some(proof) = proof.filter(|proof| !proof.device_id.is_empty() && proof.device_id.len() <= ID_BYTES_MAX) else {
        return Ok(Err(Reason::NotEnrolled));
    };
    if !is_now(&proof.timestamp, service.clock.now_ms()) {
        return Ok(Err(Reason::ChallengeGone));
    }
    let get = GetDeviceRequest { device_id: proof.device_id.clone(), serial: String::new() };
    let commit = &service.committer.commit;
    let found =
        budget.ask("get device", service_kit::grpc::idempotent(get), |request| commit.get_device(request)).await?;
    let known =
        found.device.filter(|device| device.kind == "web" && matches!(device.state.as_str(), "pending" | "active"));
    let Some((device, key)) = known.and_then(|device| DeviceKey::from_jwk(&device.public_key).map(|key| (device, key)))
    else {
        return Ok(Err(Reason::NotEnrolled));
    };
    if !key.verify(signed(&proof, what).as_bytes(), &proof.signature) {
        tracing::warn!(device = device.device_id, "a phone's request has a wrong signature");
        return Ok(Err(Reason::NotEnrolled));
    }
    Ok(if found.enabled { Ok(Speaker { device, key, user_id: found.user_id }) } else { Err(Reason::Blocked) })
}

fn signed(proof: &DeviceProof, what: &str) -> String {
    format!("twinlock-device|{}|{}|{what}", proof.device_id, proof.timestamp)
}

fn is_now(timestamp: &str, now_unix_ms: i64) -> bool {
    let Ok(at) = OffsetDateTime::parse(timestamp, &Rfc3339) else { return false };
    let at = at.unix_timestamp_nanos() / 1_000_000;
    (at - i128::from(now_unix_ms)).abs() <= i128::from(CLOCK_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_of_now_within_a_minute() {
        let now = 1_790_000_000_000;
        for (timestamp, fits) in [
            ("2026-09-21T14:13:20Z", true),
            ("2026-09-21T14:12:20.000Z", true),
            ("2026-09-21T14:14:20.000Z", true),
            ("2026-09-21T16:13:20+02:00", true),
            ("2026-09-21T14:12:19.999Z", false),
            ("2026-09-21T14:14:20.001Z", false),
            ("2026-09-21", false),
            ("", false),
            ("9999-12-31T23:59:59Z", false),
        ] {
            assert_eq!(is_now(timestamp, now), fits, "{timestamp}");
        }
    }
}
