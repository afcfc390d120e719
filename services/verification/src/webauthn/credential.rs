//! What is kept of a credential. No secret: the private part never left the authenticator.

use super::authenticator_data::PublicKey;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

/// Ways to an authenticator that browsers know (section 5.8.4). Others are left out: they are only a hint.
const TRANSPORTS: [&str; 6] = ["usb", "nfc", "ble", "smart-card", "hybrid", "internal"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    id: Vec<u8>,
    public_key: PublicKey,
    sign_count: u32,
    transports: Vec<String>,
}

/// As it stands in the store.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    public_key: String,
    sign_count: u32,
    #[serde(default)]
    transports: Vec<String>,
}

impl Credential {
    pub(super) fn new(id: &[u8], public_key: PublicKey, sign_count: u32, transports: &[String]) -> Self {
        let known = TRANSPORTS.iter().filter(|known| transports.iter().any(|transport| transport == *known));
        Self { id: id.to_vec(), public_key, sign_count, transports: known.map(ToString::to_string).collect() }
    }

    /// `None`: it is nothing that [`Credential::to_json`] wrote.
    pub fn from_json(json: &str) -> Option<Self> {
        let kept: Kept = serde_json::from_str(json).ok()?;
        let octets = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        let public_key = octets(&kept.public_key)?.try_into().ok()?;
        Some(Self { id: octets(&kept.id)?, public_key, sign_count: kept.sign_count, transports: kept.transports })
    }

    pub fn to_json(&self) -> String {
        let kept = Kept {
            id: BASE64URL_NOPAD.encode(&self.id),
            public_key: BASE64URL_NOPAD.encode(&self.public_key),
            sign_count: self.sign_count,
            transports: self.transports.clone(),
        };
        serde_json::to_string(&kept).expect("text and numbers can be written")
    }

    pub fn id(&self) -> &[u8] {
        &self.id
    }

    pub fn sign_count(&self) -> u32 {
        self.sign_count
    }

    /// For a signature that cannot do anything any more: its count is not compared.
    pub fn uncounted(&self) -> Self {
        self.with_count(0)
    }

    pub(super) fn public_key(&self) -> PublicKey {
        self.public_key
    }

    pub(super) fn transports(&self) -> &[String] {
        &self.transports
    }

    pub(super) fn with_count(&self, sign_count: u32) -> Self {
        Self { sign_count, ..self.clone() }
    }
}
