//! What a browser sends: `RegistrationResponseJSON` and `AuthenticationResponseJSON` (section 5.1). Bounded before it is looked at.

use super::Refused;
use super::authenticator_data::cbor;
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

/// An attestation may bring certificates; nothing else is long.
const JSON_BYTES_MAX: usize = 24 * 1024;

pub struct RegistrationJson {
    pub id: Vec<u8>,
    pub client_data: Vec<u8>,
    pub attestation: Vec<u8>,
    pub transports: Vec<String>,
}

pub struct AssertionJson {
    pub id: Vec<u8>,
    pub client_data: Vec<u8>,
    pub authenticator_data: Vec<u8>,
    pub signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Envelope<R> {
    #[serde(rename = "rawId")]
    raw_id: String,
    #[serde(rename = "type")]
    kind: String,
    response: R,
}

#[derive(Deserialize)]
struct Registration {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    #[serde(rename = "attestationObject")]
    attestation: String,
    #[serde(default)]
    transports: Vec<String>,
}

#[derive(Deserialize)]
struct Signed {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    #[serde(rename = "authenticatorData")]
    authenticator_data: String,
    signature: String,
}

impl RegistrationJson {
    pub fn read(json: &str) -> Result<Self, Refused> {
        let sent: Envelope<Registration> = envelope(json)?;
        Ok(Self {
            id: octets(&sent.raw_id)?,
            client_data: octets(&sent.response.client_data)?,
            attestation: octets(&sent.response.attestation)?,
            transports: sent.response.transports,
        })
    }
}

impl AssertionJson {
    pub fn read(json: &str) -> Result<Self, Refused> {
        let sent: Envelope<Signed> = envelope(json)?;
        Ok(Self {
            id: octets(&sent.raw_id)?,
            client_data: octets(&sent.response.client_data)?,
            authenticator_data: octets(&sent.response.authenticator_data)?,
            signature: octets(&sent.response.signature)?,
        })
    }
}

/// The authenticator's data in an attestation object (section 6.5.4). What attests it is not looked at.
pub fn attested(mut object: &[u8]) -> Result<Vec<u8>, Refused> {
    let malformed = Refused::Malformed("the attestation object");
    let value = cbor(&mut object).filter(|_| object.is_empty()).ok_or(malformed)?;
    let entries = value.into_map().map_err(|_| malformed)?;
    let mut found = entries.into_iter().filter(|(name, _)| name.as_text() == Some("authData")).map(|(_, data)| data);
    match (found.next(), found.next()) {
        (Some(data), None) => data.into_bytes().map_err(|_| malformed),
        _ => Err(malformed),
    }
}

fn envelope<R: for<'de> Deserialize<'de>>(json: &str) -> Result<Envelope<R>, Refused> {
    let malformed = Refused::Malformed("the credential");
    if json.len() > JSON_BYTES_MAX {
        return Err(malformed);
    }
    let sent: Envelope<R> = serde_json::from_str(json).map_err(|_| malformed)?;
    if sent.kind == "public-key" { Ok(sent) } else { Err(malformed) }
}

fn octets(text: &str) -> Result<Vec<u8>, Refused> {
    // Browsers leave the padding out; some libraries in pages do not.
    BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).map_err(|_| Refused::Malformed("base64url"))
}
