//! What a client sends, for our own test client and load generator. Identifier and authenticator are the caller's to
//! choose: fresh and random for each request.

use crate::attribute::{Attribute, AttributeType};
use crate::authenticator::{Secret, Sent};
use crate::packet::Code;
use crate::password;
use crate::write::{AttributeOctets, WriteError};

/// A request of our own, signed with Message-Authenticator as its first attribute.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub code: RequestCode,
    pub identifier: u8,
    /// Not used for an Accounting-Request, whose authenticator is a digest (RFC 2866 section 3).
    pub authenticator: [u8; 16],
    pub attributes: &'a [Attribute<'a>],
    /// Sent as User-Password, behind the attributes.
    pub password: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestCode {
    AccessRequest,
    /// Signed by its authenticator; what its reply is checked against is [`Sent::of`] its octets.
    AccountingRequest,
    StatusServer,
}

impl Request<'_> {
    pub fn write(&self, secret: &Secret) -> Result<Vec<u8>, WriteError> {
        let octets = self.octets(secret)?;
        let code = match self.code {
            RequestCode::AccessRequest => Code::AccessRequest,
            RequestCode::AccountingRequest => return octets.into_accounting_request(self.identifier, secret, false),
            RequestCode::StatusServer => Code::StatusServer,
        };
        octets.into_request(code as u8, self.identifier, &self.authenticator, secret)
    }

    /// An Access-Request as devices send it that know no Message-Authenticator: only where one of them is played.
    pub fn write_unsigned(&self, secret: &Secret) -> Result<Vec<u8>, WriteError> {
        let octets = self.octets(secret)?;
        octets.into_unsigned_request(Code::AccessRequest as u8, self.identifier, &self.authenticator)
    }

    fn octets(&self, secret: &Secret) -> Result<AttributeOctets, WriteError> {
        let mut octets = AttributeOctets::default();
        octets.push_all(self.attributes, &[AttributeType::MESSAGE_AUTHENTICATOR, AttributeType::USER_PASSWORD])?;
        if let Some(password) = self.password {
            let hidden =
                password::hide(password.as_bytes(), &self.authenticator, secret).ok_or(WriteError::PasswordTooLong)?;
            octets.push(AttributeType::USER_PASSWORD, &hidden)?;
        }
        Ok(octets)
    }

    /// What the reply is to be checked against.
    pub fn sent(&self) -> Sent {
        Sent { identifier: self.identifier, authenticator: self.authenticator }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Packet, Port};

    #[test]
    fn all_but_accounting_begins_with_its_signature() {
        // also a Status-Server, and whatever stands first in the list
        let secret = Secret::new("xyzzy5461").expect("not empty");
        let attributes = [Attribute { kind: AttributeType::NAS_IDENTIFIER, value: b"twinlock" }];
        for code in [RequestCode::StatusServer, RequestCode::AccessRequest] {
            let request =
                Request { code, identifier: 3, authenticator: [1; 16], attributes: &attributes, password: None };
            let octets = request.write(&secret).expect("it fits");
            assert_eq!(octets[20..22], [80, 18], "{code:?}");
            let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
            assert!(crate::verify_request(packet, (&secret).into(), crate::Rules::default()).is_ok(), "{code:?}");
        }
    }

    #[test]
    fn a_password_is_refused_rather_than_cut() {
        // 128 octets go out whole, 129 not at all.
        let secret = Secret::new("xyzzy5461").expect("not empty");
        let with = |password: &str| {
            let code = RequestCode::AccessRequest;
            Request { code, identifier: 0, authenticator: [1; 16], attributes: &[], password: Some(password) }
                .write(&secret)
        };
        let octets = with(&"p".repeat(128)).expect("it fits");
        let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
        assert_eq!(packet.first(AttributeType::USER_PASSWORD).map(<[u8]>::len), Some(128));
        assert_eq!(with(&"p".repeat(129)), Err(WriteError::PasswordTooLong));
    }
}
