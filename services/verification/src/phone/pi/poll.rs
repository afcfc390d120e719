//! A phone asks what is open for it, or tells us a new token of a push service.

use super::wire::{self, Poll, TokenChange};
use super::{Token, challenge, signer};
use crate::Service;
use crate::budget::Budget;
use proto::user_store::{PushDevice, PutDeviceRequest, TouchDeviceRequest, UserPromptsRequest};
use proto::verification::PiReply;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use tonic::Status;

/// How far a phone's clock may be away.
const POLL_CLOCK_MS: i64 = 60_000;
const CHANGE_CLOCK_MS: i64 = 300_000;
/// That a phone was seen is kept to the minute.
const SEEN_MS: i64 = 60_000;

pub async fn poll(service: &Service, poll: Poll<'_>, budget: Budget) -> Result<Option<PiReply>, Status> {
    let now = service.clock.now_ms();
    if !is_near(poll.timestamp, now, POLL_CLOCK_MS) {
        return Ok(None);
    }
    if !service.phones.pi.polls.take(poll.serial, Instant::now()) {
        return Ok(Some(wire::too_often()));
    }
    let Some(token) = signer(service, poll.serial, &poll.signed(), poll.signature, budget).await? else {
        return Ok(None);
    };
    seen(service, &token, &poll.capabilities, now, budget).await?;
    // Who may not log in is asked nothing.
    if !token.enabled {
        return Ok(Some(wire::value(json!([]), json!({}))));
    }
    let request = UserPromptsRequest { user_id: token.user_id, method: "push".into(), now_unix_ms: now };
    let commit = service.committer.commit.as_ref();
    let open = budget.ask("user prompts", request, |request| commit.user_prompts(request)).await?.prompts;
    let shown = open.iter().filter(|prompt| prompt.outcome.is_empty() && prompt.expires_unix_ms > now);
    let shown = shown.filter_map(|prompt| challenge::shown(prompt, &token.device.device_id));
    let challenges: Vec<_> = shown.map(|shown| shown.challenge).collect();
    Ok(Some(wire::value(json!(challenges), json!({}))))
}

/// Apps that poll send it too. There is nothing to keep.
pub async fn token_change(
    service: &Service,
    change: TokenChange<'_>,
    budget: Budget,
) -> Result<Option<PiReply>, Status> {
    if !is_near(change.timestamp, service.clock.now_ms(), CHANGE_CLOCK_MS) {
        return Ok(None);
    }
    let token = signer(service, change.serial, &change.signed(), change.signature, budget).await?;
    Ok(token.map(|_| wire::value(json!(true), json!({}))))
}

async fn seen(service: &Service, token: &Token, capabilities: &str, now: i64, budget: Budget) -> Result<(), Status> {
    let Token { device, user_id, .. } = token;
    let commit = service.committer.commit.as_ref();
    if !capabilities.is_empty() && device.capabilities != capabilities {
        let put = PutDeviceRequest {
            user_id: user_id.clone(),
            device: Some(PushDevice { capabilities: capabilities.into(), last_seen_unix_ms: now, ..device.clone() }),
            now_unix_ms: now,
            actor: "self".into(),
            ..PutDeviceRequest::default()
        };
        budget.ask("put device", put, |request| commit.put_device(request)).await?;
    } else if now - device.last_seen_unix_ms >= SEEN_MS {
        let touch = TouchDeviceRequest {
            user_id: user_id.clone(),
            device_id: device.device_id.clone(),
            now_unix_ms: now,
            ..TouchDeviceRequest::default()
        };
        budget.ask("touch device", touch, |request| commit.touch_device(request)).await?;
    }
    Ok(())
}

/// ISO 8601 as phones write it: UTC, with three, six or no decimals.
fn is_near(timestamp: &str, now_unix_ms: i64, within_ms: i64) -> bool {
    let Ok(at) = OffsetDateTime::parse(timestamp, &Rfc3339) else { return false };
    let at = at.unix_timestamp_nanos() / 1_000_000;
    (at - i128::from(now_unix_ms)).abs() <= i128::from(within_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_near_or_the_request_is_none() {
        // A minute for polls, five for token changes
        let now = 1_790_000_000_000;
        for (timestamp, poll, change) in [
            ("2026-09-21T14:13:20Z", true, true),
            ("2026-09-21T14:13:20.123Z", true, true),
            ("2026-09-21T14:12:20.000000Z", true, true),
            ("2026-09-21T14:12:19.000000Z", false, true),
            ("2026-09-21T14:18:20.000Z", false, true),
            ("2026-09-21T14:18:21.000Z", false, false),
            ("2026-09-21 14:13:20", false, false),
            ("1790000000", false, false),
            ("", false, false),
        ] {
            assert_eq!(is_near(timestamp, now, POLL_CLOCK_MS), poll, "{timestamp}");
            assert_eq!(is_near(timestamp, now, CHANGE_CLOCK_MS), change, "{timestamp}");
        }
    }
}
