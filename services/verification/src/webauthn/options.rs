//! What a browser is asked (sections 5.4 and 5.5), as JSON with octets in base64url: `parseCreationOptionsFromJSON` reads it.

use super::{Credential, RelyingParty};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A passkey to be made.
pub struct NewPasskey<'a> {
    /// The company, as the browser shows it.
    pub party_name: &'a str,
    /// What makes this key one of its own: an authenticator replaces a key of the same party and user.
    pub handle: &'a str,
    pub user_name: &'a str,
    pub challenge: &'a [u8],
    /// This very device, and not one beside it.
    pub of_this_device: bool,
    /// An authenticator that holds one of these makes no second one.
    pub exclude: &'a [Credential],
    pub timeout_ms: u32,
}

pub fn creation_options(party: &RelyingParty, new: &NewPasskey<'_>) -> String {
    let mut selection =
        json!({ "residentKey": "discouraged", "requireResidentKey": false, "userVerification": "required" });
    if new.of_this_device {
        selection["authenticatorAttachment"] = "platform".into();
    }
    json!({
        "rp": { "id": party.id, "name": new.party_name },
        // The handle must not tell who the user is (section 14.6.1).
        "user": {
            "id": BASE64URL_NOPAD.encode(&Sha256::digest(new.handle.as_bytes())),
            "name": new.user_name,
            "displayName": new.user_name,
        },
        "challenge": BASE64URL_NOPAD.encode(new.challenge),
        // ES256
        "pubKeyCredParams": [{ "type": "public-key", "alg": -7 }],
        "timeout": new.timeout_ms,
        "excludeCredentials": descriptors(new.exclude),
        "authenticatorSelection": selection,
        "attestation": "none",
    })
    .to_string()
}

/// An assertion of one of these. Without a challenge, the page makes it: from the transaction that it shows.
pub fn request_options(
    party: &RelyingParty,
    challenge: Option<&[u8]>,
    credentials: &[Credential],
    timeout_ms: u32,
) -> String {
    let mut options = json!({
        "rpId": party.id,
        "allowCredentials": descriptors(credentials),
        "userVerification": "required",
        "timeout": timeout_ms,
    });
    if let Some(challenge) = challenge {
        options["challenge"] = BASE64URL_NOPAD.encode(challenge).into();
    }
    options.to_string()
}

fn descriptors(credentials: &[Credential]) -> Vec<Value> {
    let descriptor = |credential: &Credential| {
        let mut it = json!({ "type": "public-key", "id": BASE64URL_NOPAD.encode(credential.id()) });
        if !credential.transports().is_empty() {
            it["transports"] = credential.transports().into();
        }
        it
    };
    credentials.iter().map(descriptor).collect()
}
