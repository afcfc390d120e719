//! What an Accounting-Request tells, for who stores it himself (RFC 2866). Everything in it may be missing or absurd, and
//! nothing of that is a reason not to acknowledge it (B-31, CVE-2004-0131).

use crate::access_request::RequestError;
use crate::attribute::AttributeType;
use crate::authenticator::Verified;
use crate::packet::{Code, Packet};

/// A verified report of a device.
#[derive(Debug, Clone, Copy)]
pub struct AccountingRequest<'a> {
    /// None where it is missing, empty or not a number.
    pub status: Option<AcctStatus>,
    /// 1 to 253 octets, not always text.
    pub session_id: Option<&'a [u8]>,
    pub user_name: Option<&'a [u8]>,
    /// With the gigawords of RFC 2869 sections 5.1 and 5.2.
    pub input_octets: Option<u64>,
    pub output_octets: Option<u64>,
    pub session_seconds: Option<u32>,
}

/// RFC 2866 section 5.1. Tunnel and vendors' values are kept as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcctStatus {
    Start,
    Stop,
    InterimUpdate,
    On,
    Off,
    Other(u32),
}

impl<'a> AccountingRequest<'a> {
    pub fn read(request: &Verified<'a>) -> Result<Self, RequestError> {
        let packet = request.packet();
        if packet.code() != Code::AccountingRequest {
            return Err(RequestError::NotAnAccountingRequest);
        }
        let some = |kind| packet.first(kind).filter(|value| !value.is_empty());
        Ok(Self {
            status: integer(packet, AttributeType::ACCT_STATUS_TYPE).map(AcctStatus::from),
            session_id: some(AttributeType::ACCT_SESSION_ID),
            user_name: some(AttributeType::USER_NAME),
            input_octets: octets(packet, AttributeType::ACCT_INPUT_OCTETS, AttributeType::ACCT_INPUT_GIGAWORDS),
            output_octets: octets(packet, AttributeType::ACCT_OUTPUT_OCTETS, AttributeType::ACCT_OUTPUT_GIGAWORDS),
            session_seconds: integer(packet, AttributeType::ACCT_SESSION_TIME),
        })
    }
}

impl From<u32> for AcctStatus {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Start,
            2 => Self::Stop,
            3 => Self::InterimUpdate,
            7 => Self::On,
            8 => Self::Off,
            other => Self::Other(other),
        }
    }
}

fn integer(packet: &Packet<'_>, kind: AttributeType) -> Option<u32> {
    packet.attributes().find(|attribute| attribute.kind == kind)?.integer()
}

/// The lower 32 bits, and how often they wrapped around. Gigawords alone count nothing.
fn octets(packet: &Packet<'_>, low: AttributeType, high: AttributeType) -> Option<u64> {
    let low = integer(packet, low)?;
    let high = integer(packet, high).unwrap_or(0);
    Some(u64::from(high) << 32 | u64::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attribute, Port, Rules, Secret, WriteError, verify_request};

    fn read<T>(attributes: &[(u8, &[u8])], look: impl FnOnce(AccountingRequest<'_>) -> T) -> Result<T, WriteError> {
        let secret = Secret::new("xyzzy5461").expect("not empty");
        let mut octets = crate::write::AttributeOctets::default();
        for (kind, value) in attributes {
            octets.push(AttributeType(*kind), value)?;
        }
        let octets = octets.into_accounting_request(7, &secret, false)?;
        let packet = Packet::parse(&octets, Port::Accounting).expect("well formed");
        let verified = verify_request(packet, (&secret).into(), Rules::default()).unwrap_or_else(|r| panic!("{r}"));
        Ok(look(AccountingRequest::read(&verified).unwrap_or_else(|error| panic!("{error}"))))
    }

    #[test]
    fn whatever_is_missing_or_empty_is_none_and_nothing_crashes() {
        // B-31, R-86
        let stop: &[(u8, &[u8])] = &[(1, b"nemo"), (40, &[0, 0, 0, 2]), (44, b"17"), (46, &[0, 0, 1, 0])];
        read(stop, |request| {
            assert_eq!(request.status, Some(AcctStatus::Stop));
            assert_eq!((request.session_id, request.user_name), (Some(&b"17"[..]), Some(&b"nemo"[..])));
            assert_eq!((request.session_seconds, request.input_octets), (Some(256), None));
        })
        .expect("it fits");
        let empty: &[(u8, &[u8])] =
            &[(1, b""), (40, b""), (44, b""), (46, b""), (42, b""), (43, &[1]), (52, b""), (53, b"")];
        for attributes in [empty, &[]] {
            read(attributes, |request| {
                assert_eq!((request.status, request.session_id, request.user_name), (None, None, None));
                assert_eq!((request.input_octets, request.output_octets, request.session_seconds), (None, None, None));
            })
            .expect("it fits");
        }
        let odd = read(&[(40, &[0, 0, 0, 15])], |request| request.status).expect("it fits");
        assert_eq!(odd, Some(AcctStatus::Other(15)));
    }

    #[test]
    fn gigawords_are_the_upper_half() {
        // B-31, RFC 2869 sections 5.1 and 5.2
        const MAX: &[u8] = &[0xff; 4];
        let count = |attributes: &[(u8, &[u8])]| {
            read(attributes, |request| (request.input_octets, request.output_octets)).expect("it fits")
        };
        assert_eq!(count(&[(42, MAX), (52, MAX), (43, MAX)]), (Some(u64::MAX), Some(u64::from(u32::MAX))));
        assert_eq!(count(&[(53, &[0, 0, 0, 1]), (43, &[0; 4]), (52, &[0, 0, 0, 1])]), (None, Some(1 << 32)));
    }

    #[test]
    fn an_access_request_is_no_report() {
        let secret = Secret::new("xyzzy5461").expect("not empty");
        let octets = crate::Request {
            code: crate::RequestCode::AccessRequest,
            identifier: 1,
            authenticator: [1; 16],
            attributes: &[Attribute { kind: AttributeType::ACCT_STATUS_TYPE, value: &[0, 0, 0, 1] }],
            password: None,
        }
        .write(&secret)
        .expect("it fits");
        let packet = Packet::parse(&octets, Port::Authentication).expect("well formed");
        let verified = verify_request(packet, (&secret).into(), Rules::default()).unwrap_or_else(|r| panic!("{r}"));
        assert_eq!(AccountingRequest::read(&verified).err(), Some(RequestError::NotAnAccountingRequest));
    }
}
