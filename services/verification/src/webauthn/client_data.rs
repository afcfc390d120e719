//! What the browser says about where and what for (section 5.8.1). The authenticator signs its hash.

use super::{Refused, RelyingParty};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ceremony {
    Create,
    Get,
}

#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: bool,
    #[serde(default, rename = "topOrigin")]
    top_origin: Option<String>,
}

pub fn check(
    json: &[u8],
    ceremony: Ceremony,
    party: &RelyingParty,
    is_ours: impl FnOnce(&[u8]) -> bool,
) -> Result<(), Refused> {
    let data: ClientData = serde_json::from_slice(json).map_err(|_| Refused::Malformed("the client data"))?;
    let kind = match ceremony {
        Ceremony::Create => "webauthn.create",
        Ceremony::Get => "webauthn.get",
    };
    if data.kind != kind {
        return Err(Refused::OtherCeremony);
    }
    let challenge = BASE64URL_NOPAD.decode(data.challenge.as_bytes()).map_err(|_| Refused::Challenge)?;
    if !is_ours(&challenge) {
        return Err(Refused::Challenge);
    }
    if data.origin != party.origin || data.cross_origin || data.top_origin.is_some() {
        return Err(Refused::Origin);
    }
    Ok(())
}
