//! What an Access-Request asks for: who, with which kind of credentials, in answer to which State (A3).

use crate::attribute::AttributeType;
use crate::authenticator::Verified;
use crate::drop_reason::DropReason;
use crate::ms_chap;
use crate::packet::{Code, Packet};
use crate::password::HiddenPassword;

/// A request that can be worked on.
#[derive(Clone, Copy)]
pub struct AccessRequest<'a> {
    /// As sent, 1 to 253 octets of UTF-8 without control characters. It still has to be resolved to an identity.
    pub user_name: &'a str,
    pub credentials: Credentials<'a>,
    /// The answer to a challenge, where there is one. Then the password is no password.
    pub state: Option<&'a [u8]>,
}

impl<'a> AccessRequest<'a> {
    pub fn read(request: &Verified<'a>) -> Result<Self, RequestError> {
        let packet = request.packet();
        if packet.code() != Code::AccessRequest {
            return Err(RequestError::NotAnAccessRequest);
        }
        let credentials = Credentials::of(request)?;
        let user_name = user_name(packet)?;
        let state = at_most_one(packet, AttributeType::STATE).ok_or(RequestError::SeveralStates)?;
        Ok(Self { user_name, credentials, state })
    }
}

/// The kind of proof, of which a request carries exactly one (RFC 3579 section 3.3, note 1).
#[derive(Clone, Copy)]
pub enum Credentials<'a> {
    Pap(HiddenPassword<'a>),
    Chap,
    Eap,
    /// MS-CHAP-Response, MS-CHAP2-Response or MS-CHAP2-CPW (RFC 2548). [`ms_chap::MsChap`] reads them.
    MsChap,
    Arap,
    /// None at all, in a signed request: a device that has checked the person itself asks so (RD Gateway). Refused by R-20 unless a
    /// client may do that.
    Absent,
}

impl<'a> Credentials<'a> {
    fn of(request: &Verified<'a>) -> Result<Self, RequestError> {
        let mut found: Option<Self> = None;
        for attribute in request.packet().attributes() {
            let credentials = match attribute.kind {
                AttributeType::USER_PASSWORD => Self::Pap(HiddenPassword::new(attribute.value, request)),
                AttributeType::CHAP_PASSWORD => Self::Chap,
                AttributeType::EAP_MESSAGE => Self::Eap,
                AttributeType::ARAP_PASSWORD => Self::Arap,
                AttributeType::VENDOR_SPECIFIC
                    if attribute.vendor().is_some_and(|vendor| vendor.has_ms_chap_proof()) =>
                {
                    Self::MsChap
                }
                _ => continue,
            };
            match (found, credentials) {
                (None, _) => found = Some(credentials),
                (Some(Self::Eap), Self::Eap) => {} // one EAP packet in several attributes
                _ => return Err(RequestError::SeveralCredentials),
            }
        }
        found.map_or_else(|| no_credentials(request), Ok)
    }
}

impl crate::attribute::Vendor<'_> {
    fn has_ms_chap_proof(&self) -> bool {
        self.id == Self::MICROSOFT && self.attributes().any(|(kind, _)| ms_chap::is_proof(kind))
    }
}

/// Why a genuine packet cannot be worked on. The client's fault; sending it again changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Status-Server or accounting: nobody asks to be let in.
    #[error("the packet is no Access-Request")]
    NotAnAccessRequest,
    /// The other way round.
    #[error("the packet is no Accounting-Request")]
    NotAnAccountingRequest,
    #[error("more than one kind of credentials")]
    SeveralCredentials,
    /// Call-Check or Authorize-Only without any: Access-Reject (RFC 5080 section 2.1.1).
    #[error("no credentials")]
    NoCredentials,
    /// No answer at all: neither credentials nor a Message-Authenticator, so nobody proved anything (RFC 3579 section 3.3).
    #[error("no credentials and no Message-Authenticator")]
    NothingToAnswer,
    #[error("no User-Name, or more than one")]
    NotOneUserName,
    /// Empty, not UTF-8, or with control characters, which no directory name needs and every log and terminal fears.
    #[error("the User-Name is empty, not UTF-8 or has control characters")]
    UserNameForm,
    #[error("more than one State")]
    SeveralStates,
}

impl RequestError {
    /// The silent ones; all others are answered with Access-Reject.
    pub fn drop_reason(self) -> Option<DropReason> {
        (self == Self::NothingToAnswer).then_some(DropReason::MaMissing)
    }
}

/// R-20, last sentence.
fn no_credentials<'a>(request: &Verified<'a>) -> Result<Credentials<'a>, RequestError> {
    const CALL_CHECK: u32 = 10; // RFC 2865 section 5.6
    const AUTHORIZE_ONLY: u32 = 17; // RFC 5176 section 3.5
    match request.packet().service_type() {
        Some(CALL_CHECK | AUTHORIZE_ONLY) => Err(RequestError::NoCredentials),
        _ if request.signed() => Ok(Credentials::Absent),
        _ => Err(RequestError::NothingToAnswer),
    }
}

///
fn user_name<'a>(packet: &Packet<'a>) -> Result<&'a str, RequestError> {
    let octets = at_most_one(packet, AttributeType::USER_NAME).flatten().ok_or(RequestError::NotOneUserName)?;
    let name = std::str::from_utf8(octets).map_err(|_| RequestError::UserNameForm)?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(RequestError::UserNameForm);
    }
    Ok(name)
}

/// None for two or more, Some(None) for none at all.
fn at_most_one<'a>(packet: &Packet<'a>, kind: AttributeType) -> Option<Option<&'a [u8]>> {
    let mut all = packet.all(kind);
    let first = all.next();
    all.next().is_none().then_some(first)
}
