//! WebAuthn as a relying party needs it (W3C Web Authentication Level 3, sections 7.1 and 7.2): what a browser is asked to make or to
//! sign, and whether what it sent is just that. Pure: challenges and what is kept are arguments.
//!
//! Two uses: the key by which a phone approves, and passkeys for the portal (FV-08). ES256 alone; user verification
//! always; attestation is not asked for, and ignored where it comes (V-20).

// With their paths, so that a fuzz target can include this file.
#[path = "webauthn/authenticator_data.rs"]
mod authenticator_data;
#[path = "webauthn/ceremony.rs"]
mod ceremony;
#[path = "webauthn/client_data.rs"]
mod client_data;
#[path = "webauthn/credential.rs"]
mod credential;
#[path = "webauthn/options.rs"]
mod options;
#[path = "webauthn/response.rs"]
mod response;

pub use ceremony::Ceremonies;
pub use credential::Credential;
pub use options::{NewPasskey, creation_options, request_options};

use authenticator_data::AuthenticatorData;
use client_data::Ceremony;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use response::{AssertionJson, RegistrationJson};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Whom passkeys are bound to: the host, and the origin, of the portal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    pub id: String,
    pub origin: String,
}

/// What a browser sent is not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0} cannot be read")]
    Malformed(&'static str),
    #[error("it belongs to the other ceremony")]
    OtherCeremony,
    #[error("the challenge is another one, or too old")]
    Challenge,
    #[error("it was made on a page of another origin, or inside one")]
    Origin,
    #[error("it was made for another relying party")]
    RelyingParty,
    #[error("nobody was there, or was not verified")]
    NotVerified,
    #[error("the key is of no kind that was offered")]
    Key,
    #[error("the credential is not one of these")]
    UnknownCredential,
    #[error("the signature is wrong")]
    Signature,
    #[error("the counter of signatures went back: the key may have been copied")]
    Counter,
}

/// An assertion that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// The credential that signed, with its counter as it is now: to be kept in the place of the old one.
    pub credential: Credential,
    /// Its place in the list that was given.
    pub place: usize,
}

impl RelyingParty {
    /// Of the portal's address, as the store keeps it. `None`: no portal ever told one.
    pub fn of(portal_url: &str) -> Option<Self> {
        let address: http::Uri = portal_url.parse().ok()?;
        let (scheme, authority) = (address.scheme_str()?, address.authority()?);
        let id = authority.host().to_ascii_lowercase();
        let origin = format!("{scheme}://{}", authority.as_str().to_ascii_lowercase());
        (!id.is_empty() && !authority.as_str().contains('@')).then_some(Self { id, origin })
    }

    fn id_hash(&self) -> [u8; 32] {
        Sha256::digest(self.id.as_bytes()).into()
    }
}

/// A new credential, from `navigator.credentials.create` as JSON (section 7.1). `is_ours` knows the challenge.
pub fn verify_registration(
    party: &RelyingParty,
    json: &str,
    is_ours: impl FnOnce(&[u8]) -> bool,
) -> Result<Credential, Refused> {
    let sent = RegistrationJson::read(json)?;
    client_data::check(&sent.client_data, Ceremony::Create, party, is_ours)?;
    let data = response::attested(&sent.attestation)?;
    let data = AuthenticatorData::read(&data)?;
    check_presence(party, &data)?;
    let attested = data.attested.ok_or(Refused::Malformed("the attested credential"))?;
    // What the browser says beside the signed part must agree with it.
    if attested.credential_id != sent.id {
        return Err(Refused::Malformed("the credential's id"));
    }
    Ok(Credential::new(attested.credential_id, attested.public_key, data.sign_count, &sent.transports))
}

/// An assertion of one of these credentials over this challenge, from `navigator.credentials.get` as JSON (section 7.2).
pub fn verify_assertion(
    party: &RelyingParty,
    challenge: &[u8],
    credentials: &[Credential],
    json: &str,
) -> Result<Assertion, Refused> {
    let sent = AssertionJson::read(json)?;
    let place = credentials.iter().position(|known| known.id() == sent.id).ok_or(Refused::UnknownCredential)?;
    let known = &credentials[place];
    client_data::check(&sent.client_data, Ceremony::Get, party, |found| found.ct_eq(challenge).into())?;
    let data = AuthenticatorData::read(&sent.authenticator_data)?;
    check_presence(party, &data)?;
    let key = VerifyingKey::from_sec1_bytes(&known.public_key()).map_err(|_| Refused::Key)?;
    let signature = Signature::from_der(&sent.signature).map_err(|_| Refused::Signature)?;
    let signed = [&sent.authenticator_data[..], &Sha256::digest(&sent.client_data)].concat();
    key.verify(&signed, &signature).map_err(|_| Refused::Signature)?;
    // Passkeys that are synchronised count nothing, and say 0 for ever.
    let counted = data.sign_count != 0 || known.sign_count() != 0;
    if counted && data.sign_count <= known.sign_count() {
        return Err(Refused::Counter);
    }
    Ok(Assertion { credential: known.with_count(data.sign_count), place })
}

fn check_presence(party: &RelyingParty, data: &AuthenticatorData<'_>) -> Result<(), Refused> {
    if data.rp_id_hash != party.id_hash() {
        return Err(Refused::RelyingParty);
    }
    if data.user_present && data.user_verified { Ok(()) } else { Err(Refused::NotVerified) }
}

#[cfg(test)]
mod tests;
