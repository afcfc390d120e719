//! From attributes to octets. Everything we originate is signed, with Message-Authenticator first.

use crate::attribute::{Attribute, AttributeType, Walk};
use crate::authenticator::{Secret, Sent, digest, message_mac};
use crate::forward::Rewrite;
use crate::packet::{Code, HEADER_OCTETS, PACKET_OCTETS_MAX};
use hmac::Mac;

/// Why a packet cannot be written. Nothing is ever cut to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// More than 4096 octets in all. With fewer attributes it may fit.
    #[error("the packet would exceed 4096 octets")]
    PacketTooLong,
    /// More than 253 octets in one attribute.
    #[error("the value of attribute {} exceeds 253 octets", .0.0)]
    ValueTooLong(AttributeType),
    /// A type that is not the caller's to set: 0, or one this crate writes itself.
    #[error("attribute {} is not set by hand", .0.0)]
    Reserved(AttributeType),
    /// More than 128 octets of password.
    #[error("the password exceeds 128 octets")]
    PasswordTooLong,
    /// A challenge whose answer could not be recognised.
    #[error("a challenge needs a State")]
    StateEmpty,
    /// Status-Server is for the next hop only; replies do not go on as requests.
    #[error("only Access-Request and Accounting-Request are forwarded")]
    NotForwarded,
    /// The User-Password that was to be hidden anew is missing or is not one.
    #[error("the request has no User-Password that could be hidden anew")]
    NoPassword,
    /// An answer about accounting to who asked to be let in, or the other way round.
    #[error("the reply does not answer this kind of request")]
    OtherKindOfRequest,
    /// What a home server answered contradicts itself: Access-Reject is what is sent instead (B-26).
    #[error("the home server's reply contradicts itself")]
    Contradiction,
}

/// Attributes in the order in which they are sent.
#[derive(Default, Clone)]
pub(crate) struct AttributeOctets(Vec<u8>);

impl AttributeOctets {
    pub(crate) fn push(&mut self, kind: AttributeType, value: &[u8]) -> Result<(), WriteError> {
        let length = u8::try_from(value.len() + 2).map_err(|_| WriteError::ValueTooLong(kind))?;
        self.0.extend([kind.0, length]);
        self.0.extend(value);
        Ok(())
    }

    /// One attribute of a vendor in the usual form (RFC 2865 section 5.26).
    pub(crate) fn push_vendor(&mut self, vendor: u32, kind: u8, value: &[u8]) -> Result<(), WriteError> {
        let length =
            u8::try_from(value.len() + 2).map_err(|_| WriteError::ValueTooLong(AttributeType::VENDOR_SPECIFIC))?;
        self.push(AttributeType::VENDOR_SPECIFIC, &[&vendor.to_be_bytes(), [kind, length].as_slice(), value].concat())
    }

    pub(crate) fn walk(&self) -> impl Iterator<Item = Attribute<'_>> {
        Walk::over(&self.0).map_while(Result::ok)
    }

    /// The caller's attributes, except the types that are not his to set.
    pub(crate) fn push_all(
        &mut self,
        attributes: &[Attribute<'_>],
        reserved: &[AttributeType],
    ) -> Result<(), WriteError> {
        for attribute in attributes {
            if attribute.kind.0 == 0 || reserved.contains(&attribute.kind) {
                return Err(WriteError::Reserved(attribute.kind));
            }
            self.push(attribute.kind, attribute.value)?;
        }
        Ok(())
    }

    pub(crate) fn push_rewritten(&mut self, attribute: Attribute<'_>, rewrite: Rewrite) -> Result<(), WriteError> {
        match rewrite {
            Rewrite::Keep => self.push(attribute.kind, attribute.value),
            Rewrite::Value(value) => self.push(attribute.kind, &value),
            Rewrite::Drop => Ok(()),
        }
    }

    /// A request: the Message-Authenticator is computed over our own random authenticator.
    pub(crate) fn into_request(
        self,
        code: u8,
        identifier: u8,
        authenticator: &[u8; 16],
        secret: &Secret,
    ) -> Result<Vec<u8>, WriteError> {
        let (start, signature) = self.sign(code, identifier, authenticator, secret)?;
        Ok(assemble(start, authenticator, &signature, &self.0))
    }

    pub(crate) fn into_unsigned_request(
        self,
        code: u8,
        identifier: u8,
        authenticator: &[u8; 16],
    ) -> Result<Vec<u8>, WriteError> {
        let start = start(code, identifier, self.0.len())?;
        Ok(assemble(start, authenticator, &[], &self.0))
    }

    /// An Accounting-Request is signed by its authenticator, a digest over zeros (RFC 2866 section 3). It has a
    /// Message-Authenticator where the one it stands for had one (`signed`).
    pub(crate) fn into_accounting_request(
        self,
        identifier: u8,
        secret: &Secret,
        signed: bool,
    ) -> Result<Vec<u8>, WriteError> {
        let (code, zeros) = (Code::AccountingRequest as u8, [0; 16]);
        if signed {
            return self.into_reply(code, identifier, &zeros, secret);
        }
        self.into_unsigned_reply(code, identifier, &zeros, secret)
    }

    /// An Accounting-Response: signed by its authenticator alone.
    pub(crate) fn into_unsigned_reply(
        self,
        code: u8,
        identifier: u8,
        request_authenticator: &[u8; 16],
        secret: &Secret,
    ) -> Result<Vec<u8>, WriteError> {
        let start = start(code, identifier, self.0.len())?;
        let authenticator = digest(start, request_authenticator, &[&self.0], secret);
        Ok(assemble(start, &authenticator, &[], &self.0))
    }

    /// A reply: first the Message-Authenticator over the request's authenticator, then the Response Authenticator over all.
    pub(crate) fn into_reply(
        self,
        code: u8,
        identifier: u8,
        request_authenticator: &[u8; 16],
        secret: &Secret,
    ) -> Result<Vec<u8>, WriteError> {
        let (start, signature) = self.sign(code, identifier, request_authenticator, secret)?;
        let authenticator = digest(start, request_authenticator, &[&signature, &self.0], secret);
        Ok(assemble(start, &authenticator, &signature, &self.0))
    }

    fn sign(
        &self,
        code: u8,
        identifier: u8,
        authenticator: &[u8; 16],
        secret: &Secret,
    ) -> Result<([u8; 4], [u8; SIGNATURE_OCTETS]), WriteError> {
        let start = start(code, identifier, SIGNATURE_OCTETS + self.0.len())?;
        let mut signature = [0; SIGNATURE_OCTETS];
        let [kind, length, value @ ..] = &mut signature;
        (*kind, *length) = (AttributeType::MESSAGE_AUTHENTICATOR.0, SIGNATURE_OCTETS as u8);
        let mut mac = message_mac(start, authenticator, secret);
        mac.update(&[*kind, *length]);
        mac.update(value);
        mac.update(&self.0);
        value.copy_from_slice(&mac.finalize().into_bytes());
        Ok((start, signature))
    }
}

/// Message-Authenticator with its type and length.
const SIGNATURE_OCTETS: usize = 18;

/// A packet with exactly these attributes, nothing added and nothing signed: for tests that play a foreign device.
pub fn write_unsigned<'a>(
    code: u8,
    identifier: u8,
    authenticator: &[u8; 16],
    attributes: impl IntoIterator<Item = Attribute<'a>>,
) -> Result<Vec<u8>, WriteError> {
    let mut octets = AttributeOctets::default();
    attributes.into_iter().try_for_each(|attribute| octets.push(attribute.kind, attribute.value))?;
    Ok(assemble(start(code, identifier, octets.0.len())?, authenticator, &[], &octets.0))
}

/// A reply with exactly these attributes, whatever its Code may carry: for tests that play a foreign server.
/// `with_signature`: Message-Authenticator comes before them.
pub fn write_reply(
    code: u8,
    sent: Sent,
    attributes: &[Attribute<'_>],
    secret: &Secret,
    with_signature: bool,
) -> Result<Vec<u8>, WriteError> {
    let mut octets = AttributeOctets::default();
    attributes.iter().try_for_each(|attribute| octets.push(attribute.kind, attribute.value))?;
    match with_signature {
        true => octets.into_reply(code, sent.identifier, &sent.authenticator, secret),
        false => octets.into_unsigned_reply(code, sent.identifier, &sent.authenticator, secret),
    }
}

fn start(code: u8, identifier: u8, attributes_len: usize) -> Result<[u8; 4], WriteError> {
    let length = HEADER_OCTETS + attributes_len;
    if length > PACKET_OCTETS_MAX {
        return Err(WriteError::PacketTooLong);
    }
    let [high, low] = (length as u16).to_be_bytes();
    Ok([code, identifier, high, low])
}

fn assemble(start: [u8; 4], authenticator: &[u8; 16], signature: &[u8], attributes: &[u8]) -> Vec<u8> {
    [&start, authenticator.as_slice(), signature, attributes].concat()
}
