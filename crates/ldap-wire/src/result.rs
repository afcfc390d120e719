//! LDAPResult (RFC 4511 section 4.1.9), and the results we give ourselves (B5).

use crate::ber::{self, Reader, Writer};
use crate::control::Control;
use crate::message::{self, DecodeError, Message, MessageId, Op};
use crate::oid;
use bytes::Bytes;
use std::fmt;

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LdapResult {
    pub code: ResultCode,
    pub matched_dn: Bytes,
    pub diagnostic: Bytes,
    /// URLs; present if and only if the server sent the referral field, even an empty one.
    pub referral: Option<Vec<Bytes>>,
}

impl LdapResult {
    pub fn of(code: ResultCode) -> Self {
        Self { code, matched_dn: Bytes::new(), diagnostic: Bytes::new(), referral: None }
    }

    pub fn with_diagnostic(code: ResultCode, diagnostic: &'static str) -> Self {
        Self { diagnostic: Bytes::from_static(diagnostic.as_bytes()), ..Self::of(code) }
    }

    /// Code 0 and nothing else: a success that refers elsewhere is none (L-33, B-60).
    pub fn is_success(&self) -> bool {
        self.code == ResultCode::SUCCESS && self.referral.is_none()
    }

    /// The diagnostic message as text, whatever its octets.
    pub fn diagnostic_text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.diagnostic)
    }

    /// The result out of any response that has one: all but entries, references and intermediate responses.
    pub fn decode(response: &Message) -> Result<Self, DecodeError> {
        match response.op() {
            Op::BindResponse
            | Op::SearchResultDone
            | Op::ModifyResponse
            | Op::AddResponse
            | Op::DelResponse
            | Op::ModifyDnResponse
            | Op::CompareResponse
            | Op::ExtendedResponse => Self::read(response.content(), &mut Reader::new(response.content())),
            found => Err(DecodeError::WrongOperation { expected: Op::SearchResultDone, found }),
        }
    }

    /// A response of kind `response` that holds only this result.
    pub fn encode(&self, id: MessageId, response: Op, controls: &[Control]) -> Bytes {
        message::build(id, controls, |w| w.nested(response.tag(), |w| self.write(w)))
    }

    pub(crate) fn read(octets: &Bytes, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let code = message::unsigned(reader.integer(ber::ENUMERATED)?, "result code")?;
        let matched_dn = octets.slice_ref(reader.octet_string()?);
        let diagnostic = octets.slice_ref(reader.octet_string()?);
        let mut referral: Option<Vec<Bytes>> = None;
        // Out of its place, or a second one, a client might still follow it (L-17).
        let mut rest = reader.clone();
        while !rest.is_empty() {
            let element = rest.element()?;
            if element.tag == REFERRAL {
                let urls = referral.get_or_insert_default();
                let mut reader = element.reader();
                while !reader.is_empty() {
                    urls.push(octets.slice_ref(reader.octet_string()?));
                }
            }
        }
        reader.optional(REFERRAL)?;
        Ok(Self { code: ResultCode(code), matched_dn, diagnostic, referral })
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.integer(ber::ENUMERATED, self.code.0.into());
        w.octet_string(&self.matched_dn);
        w.octet_string(&self.diagnostic);
        if let Some(urls) = &self.referral {
            w.nested(REFERRAL, |w| urls.iter().for_each(|url| w.octet_string(url)));
        }
    }
}

const REFERRAL: u8 = 0xa3;
const RESPONSE_NAME: u8 = 0x8a;

/// The server's last word before it closes (RFC 4511 section 4.4.1).
pub fn notice_of_disconnection(result: &LdapResult) -> Bytes {
    message::build(MessageId::UNSOLICITED, &[], |w| {
        w.nested(Op::ExtendedResponse.tag(), |w| {
            result.write(w);
            w.octets(RESPONSE_NAME, oid::NOTICE_OF_DISCONNECTION.as_bytes());
        });
    })
}

/// A result code. Open ended: Active Directory sends codes of its own, such as 8224.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResultCode(pub u32);

impl ResultCode {
    pub const SUCCESS: Self = Self(0);
    pub const OPERATIONS_ERROR: Self = Self(1);
    pub const PROTOCOL_ERROR: Self = Self(2);
    pub const TIME_LIMIT_EXCEEDED: Self = Self(3);
    pub const SIZE_LIMIT_EXCEEDED: Self = Self(4);
    pub const COMPARE_FALSE: Self = Self(5);
    pub const COMPARE_TRUE: Self = Self(6);
    pub const AUTH_METHOD_NOT_SUPPORTED: Self = Self(7);
    pub const STRONGER_AUTH_REQUIRED: Self = Self(8);
    pub const REFERRAL: Self = Self(10);
    pub const ADMIN_LIMIT_EXCEEDED: Self = Self(11);
    pub const UNAVAILABLE_CRITICAL_EXTENSION: Self = Self(12);
    pub const CONFIDENTIALITY_REQUIRED: Self = Self(13);
    pub const SASL_BIND_IN_PROGRESS: Self = Self(14);
    pub const NO_SUCH_OBJECT: Self = Self(32);
    pub const INVALID_DN_SYNTAX: Self = Self(34);
    pub const INAPPROPRIATE_AUTHENTICATION: Self = Self(48);
    pub const INVALID_CREDENTIALS: Self = Self(49);
    pub const INSUFFICIENT_ACCESS_RIGHTS: Self = Self(50);
    pub const BUSY: Self = Self(51);
    pub const UNAVAILABLE: Self = Self(52);
    pub const UNWILLING_TO_PERFORM: Self = Self(53);
    pub const AFFECTS_MULTIPLE_DSAS: Self = Self(71);
    /// RFC 3909.
    pub const CANCELED: Self = Self(118);
    pub const NO_SUCH_OPERATION: Self = Self(119);
    pub const TOO_LATE: Self = Self(120);
    pub const CANNOT_CANCEL: Self = Self(121);
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose manner of speaking our own answers follow, so that clients find the words they parse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    ActiveDirectory,
    #[default]
    Plain,
}

impl Style {
    /// The one answer for a wrong password, an unknown user and every second-factor No (L-40). Data 52e starts no
    /// password-change dialogue.
    pub fn invalid_credentials(self) -> LdapResult {
        LdapResult::with_diagnostic(
            ResultCode::INVALID_CREDENTIALS,
            match self {
                Self::ActiveDirectory => {
                    "80090308: LdapErr: DSID-00000000, comment: AcceptSecurityContext error, data 52e, v0"
                }
                Self::Plain => "invalid credentials",
            },
        )
    }

    /// For an operation that needs a bind first (L-10).
    pub fn bind_required(self) -> LdapResult {
        match self {
            Self::ActiveDirectory => LdapResult::with_diagnostic(
                ResultCode::OPERATIONS_ERROR,
                "000004DC: LdapErr: DSID-00000000, comment: In order to perform this operation a successful bind must be \
                 completed on the connection., data 0, v0",
            ),
            Self::Plain => LdapResult::of(ResultCode::INSUFFICIENT_ACCESS_RIGHTS),
        }
    }
}
