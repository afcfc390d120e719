//! A client's request on its way to a home server: another Identifier, another authenticator, another secret, and for the
//! rest the same attributes in the same order (R-51, R-67).
//!
//! ```text
//! from the client   Message-Authenticator? | attributes, User-Password, Proxy-States of others
//! to the server     Message-Authenticator  | attributes, User-Password hidden anew, Proxy-States of others | ours
//! ```

use crate::attribute::{Attribute, AttributeType};
use crate::authenticator::{Secret, Verified};
use crate::packet::{Code, Packet};
use crate::password::{self, HiddenPassword};
use crate::write::{AttributeOctets, WriteError};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A request as it goes on. Identifier and authenticator are fresh for each server it is sent to (R-82).
#[derive(Clone, Copy)]
pub struct Forward<'a> {
    pub request: &'a Verified<'a>,
    pub identifier: u8,
    /// Random. Not used for an Accounting-Request, whose authenticator is a digest (RFC 2866 section 3).
    pub authenticator: [u8; 16],
    /// The home server's.
    pub secret: &'a Secret,
    /// Goes last and comes back with the reply: [`LoopTag::mark`].
    pub proxy_state: &'a [u8],
    /// Sent in place of the client's password, which may have had a code appended.
    pub password: Option<&'a [u8]>,
}

impl Forward<'_> {
    /// The octets to send. `rewrite` is asked about every attribute that this crate does not write itself.
    pub fn write(&self, rewrite: &mut dyn FnMut(Attribute<'_>) -> Rewrite) -> Result<Vec<u8>, WriteError> {
        let packet = self.request.packet();
        let accounting = match packet.code() {
            Code::AccessRequest => false,
            Code::AccountingRequest => true,
            _ => return Err(WriteError::NotForwarded), // R-84
        };
        if self.password.is_some() && !packet.has(AttributeType::USER_PASSWORD) {
            return Err(WriteError::NoPassword);
        }
        let mut octets = AttributeOctets::default();
        for attribute in packet.attributes() {
            match attribute.kind {
                AttributeType::MESSAGE_AUTHENTICATOR => {}
                // Others' marks are theirs: neither hidden nor ours to judge.
                AttributeType::PROXY_STATE => octets.push(attribute.kind, attribute.value)?,
                AttributeType::USER_PASSWORD => octets.push(attribute.kind, &self.hide(attribute.value)?)?,
                AttributeType::CHAP_PASSWORD => {
                    octets.push(attribute.kind, attribute.value)?;
                    // R-26: the challenge was the authenticator, and that one does not go on.
                    if !packet.has(AttributeType::CHAP_CHALLENGE) {
                        octets.push(AttributeType::CHAP_CHALLENGE, packet.authenticator())?;
                    }
                }
                _ => octets.push_rewritten(attribute, rewrite(attribute))?,
            }
        }
        octets.push(AttributeType::PROXY_STATE, self.proxy_state)?;
        if accounting {
            return octets.into_accounting_request(self.identifier, self.secret, self.request.signed());
        }
        octets.into_request(packet.code() as u8, self.identifier, &self.authenticator, self.secret)
    }

    fn hide(&self, received: &[u8]) -> Result<Vec<u8>, WriteError> {
        let hidden = match self.password {
            Some(password) => password::hide(password, &self.authenticator, self.secret),
            None => {
                let clear = HiddenPassword::new(received, self.request).octets().map_err(|_| WriteError::NoPassword)?;
                password::hide(&clear, &self.authenticator, self.secret)
            }
        };
        hidden.ok_or(WriteError::PasswordTooLong)
    }
}

/// What becomes of an attribute on its way through.
pub enum Rewrite {
    /// It goes on as it came.
    Keep,
    /// The same attribute with another value: hidden with the next secret.
    Value(Vec<u8>),
    Drop,
}

/// The Proxy-State by which we know a request that we have sent ourselves: it came round in a circle (B-33).
///
/// All nodes have the same key. Nobody else can make a mark, so nobody can have another's requests refused.
pub struct LoopTag {
    key: Zeroizing<[u8; 32]>,
}

impl LoopTag {
    pub const OCTETS: usize = NONCE_OCTETS + PROOF_OCTETS;

    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: Zeroizing::new(*key) }
    }

    /// A mark for one request. `nonce` is random.
    pub fn mark(&self, nonce: [u8; 8]) -> [u8; Self::OCTETS] {
        let mut mark = [0; Self::OCTETS];
        let (head, proof) = mark.split_at_mut(NONCE_OCTETS);
        head.copy_from_slice(&nonce);
        let full = self.mac(&nonce).finalize().into_bytes();
        proof.iter_mut().zip(full).for_each(|(octet, full)| *octet = full);
        mark
    }

    /// Whether one of the packet's Proxy-States is a mark of ours.
    pub fn is_on(&self, packet: &Packet<'_>) -> bool {
        packet.all(AttributeType::PROXY_STATE).any(|value| self.made(value))
    }

    fn made(&self, value: &[u8]) -> bool {
        value.len() == Self::OCTETS
            && value
                .split_first_chunk::<NONCE_OCTETS>()
                .is_some_and(|(nonce, proof)| self.mac(nonce).verify_truncated_left(proof).is_ok())
    }

    fn mac(&self, nonce: &[u8; NONCE_OCTETS]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(self.key.as_slice()).expect("HMAC takes a key of any length");
        mac.chain_update(b"twinlock proxy-state").chain_update(nonce)
    }
}

const NONCE_OCTETS: usize = 8;
const PROOF_OCTETS: usize = 16;
