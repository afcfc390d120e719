//! The key of a web app on a phone: made by WebCrypto, P-256, its private part not extractable.

use data_encoding::BASE64URL_NOPAD;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

/// More than any such key takes, with what browsers write beside it.
const JWK_BYTES_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceKey(VerifyingKey);

/// RFC 7518 section 6.2.1.
#[derive(Serialize, Deserialize)]
struct Jwk {
    crv: String,
    kty: String,
    x: String,
    y: String,
    /// The private part: who sends it has given it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d: Option<String>,
}

impl DeviceKey {
    /// `None`: no P-256 public key, or more than the public part of one.
    pub fn from_jwk(json: &str) -> Option<Self> {
        let jwk: Jwk = serde_json::from_str(json).ok().filter(|_| json.len() <= JWK_BYTES_MAX)?;
        let coordinate = |text: &str| <[u8; 32]>::try_from(BASE64URL_NOPAD.decode(text.as_bytes()).ok()?).ok();
        if jwk.kty != "EC" || jwk.crv != "P-256" || jwk.d.is_some() {
            return None;
        }
        let mut point = [4; 65];
        point[1..33].copy_from_slice(&coordinate(&jwk.x)?);
        point[33..].copy_from_slice(&coordinate(&jwk.y)?);
        VerifyingKey::from_sec1_bytes(&point).ok().map(Self)
    }

    /// The same key reads the same, whatever a browser wrote beside it.
    pub fn to_jwk(&self) -> String {
        let point = self.0.to_sec1_bytes();
        let text = |octets: &[u8]| BASE64URL_NOPAD.encode(octets);
        let (x, y) = (text(&point[1..33]), text(&point[33..65]));
        serde_json::to_string(&Jwk { crv: "P-256".into(), kty: "EC".into(), x, y, d: None })
            .expect("text can be written")
    }

    /// ECDSA with SHA-256 as WebCrypto writes it: r and s, 32 octets each, in base64url.
    pub fn verify(&self, text: &[u8], signature: &str) -> bool {
        let octets = BASE64URL_NOPAD.decode(signature.as_bytes()).ok().filter(|octets| octets.len() == 64);
        let signature = octets.and_then(|octets| Signature::from_slice(&octets).ok());
        signature.is_some_and(|signature| self.0.verify(text, &signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::Signer;

    fn signer() -> SigningKey {
        SigningKey::from_slice(&[9; 32]).expect("a key")
    }

    #[test]
    fn a_public_key_is_read_as_browsers_write_it_and_written_one_way() {
        let jwk = DeviceKey(*signer().verifying_key()).to_jwk();
        let mut browser: serde_json::Value = serde_json::from_str(&jwk).expect("JSON");
        browser["key_ops"] = serde_json::json!(["verify"]);
        browser["ext"] = true.into();
        assert_eq!(DeviceKey::from_jwk(&browser.to_string()).expect("a key").to_jwk(), jwk);
        for (name, value) in [("kty", "RSA"), ("crv", "P-384"), ("x", "AA"), ("y", "!"), ("d", "AA")] {
            let mut bent = browser.clone();
            bent[name] = value.into();
            assert_eq!(DeviceKey::from_jwk(&bent.to_string()), None, "{name}");
        }
        let mut off_the_curve = browser.clone();
        off_the_curve["y"] = browser["x"].clone();
        assert_eq!(DeviceKey::from_jwk(&off_the_curve.to_string()), None);
        assert_eq!(DeviceKey::from_jwk(&format!("{{\"x\":\"{}\"}}", "A".repeat(2000))), None);
    }

    #[test]
    fn a_signature_counts_for_its_text_and_its_key() {
        let key = DeviceKey(*signer().verifying_key());
        let sign = |text: &[u8]| {
            let signature: Signature = signer().sign(text);
            BASE64URL_NOPAD.encode(&signature.to_bytes())
        };
        assert!(key.verify(b"yes", &sign(b"yes")));
        assert!(!key.verify(b"no", &sign(b"yes")));
        let stranger = DeviceKey(*SigningKey::from_slice(&[8; 32]).expect("a key").verifying_key());
        assert!(!stranger.verify(b"yes", &sign(b"yes")));
        let good = sign(b"yes");
        let der: Signature = signer().sign(b"yes");
        for bad in ["", "AA", &good[1..], &format!("{good}AA"), &BASE64URL_NOPAD.encode(der.to_der().as_bytes())] {
            assert!(!key.verify(b"yes", bad), "{bad}");
        }
    }
}
