//! The server's message (MS-NLMP section 2.2.1.2). Hostile until proven otherwise: every offset and length is looked at.

use crate::{CHALLENGE, Layer, NEEDED, NEEDED_TO_SEAL, SIGNATURE};

/// What the server asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// As it came: the MIC is over it.
    pub(crate) whole: Vec<u8>,
    pub(crate) flags: u32,
    pub(crate) challenge: [u8; 8],
    /// In the order of the server, without the end.
    pub(crate) target: Vec<(Attribute, Vec<u8>)>,
}

/// The number of an attribute of the target (MS-NLMP section 2.2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute(pub u16);

impl Attribute {
    pub const END: Self = Self(0);
    pub const FLAGS: Self = Self(6);
    pub const TIMESTAMP: Self = Self(7);
    pub const TARGET_NAME: Self = Self(9);
    pub const CHANNEL_BINDINGS: Self = Self(10);
}

/// The server's fault, or it is no server of NTLM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChallengeError {
    #[error("it is no challenge of NTLM")]
    NotAChallenge,
    #[error("a field lies outside of the message")]
    Truncated,
    #[error("it is longer than any server needs")]
    TooLong,
    #[error("it offers no NTLM version 2 with extended session security")]
    TooWeak,
    #[error("it offers no sealing with keys of 128 bits")]
    NoSealing,
}

/// Names of a domain and a server, a time, flags: a few hundred octets.
const TARGET_OCTETS_MAX: usize = 8 << 10;

impl Challenge {
    pub fn parse(message: &[u8], layer: Layer) -> Result<Self, ChallengeError> {
        let at =
            |offset: usize| message.get(offset..).and_then(<[u8]>::first_chunk::<4>).map(|it| u32::from_le_bytes(*it));
        if !message.starts_with(&SIGNATURE) || at(8) != Some(CHALLENGE) {
            return Err(ChallengeError::NotAChallenge);
        }
        let flags = at(20).ok_or(ChallengeError::Truncated)?;
        let challenge = *message.get(24..).and_then(<[u8]>::first_chunk::<8>).ok_or(ChallengeError::Truncated)?;
        if flags & NEEDED != NEEDED {
            return Err(ChallengeError::TooWeak);
        }
        if layer == Layer::Sealed && flags & NEEDED_TO_SEAL != NEEDED_TO_SEAL {
            return Err(ChallengeError::NoSealing);
        }
        let target = attributes(field(message, 40).ok_or(ChallengeError::Truncated)?)?;
        Ok(Self { whole: message.to_vec(), flags, challenge, target })
    }

    pub(crate) fn attribute(&self, wanted: Attribute) -> Option<&[u8]> {
        self.target.iter().find(|(attribute, _)| *attribute == wanted).map(|(_, value)| value.as_slice())
    }
}

/// What a field of length, room and offset points at.
fn field(message: &[u8], at: usize) -> Option<&[u8]> {
    let [a, b, _, _, w, x, y, z] = *message.get(at..)?.first_chunk::<8>()?;
    let length = usize::from(u16::from_le_bytes([a, b]));
    let offset = usize::try_from(u32::from_le_bytes([w, x, y, z])).ok()?;
    message.get(offset..)?.get(..length)
}

fn attributes(mut octets: &[u8]) -> Result<Vec<(Attribute, Vec<u8>)>, ChallengeError> {
    if octets.len() > TARGET_OCTETS_MAX {
        return Err(ChallengeError::TooLong);
    }
    let mut attributes = Vec::new();
    // A server of version 1 has none; the end may be missing, but nothing may be cut off.
    while let Some((&[a, b, c, d], rest)) = octets.split_first_chunk() {
        let (attribute, length) = (Attribute(u16::from_le_bytes([a, b])), u16::from_le_bytes([c, d]));
        if attribute == Attribute::END {
            return Ok(attributes);
        }
        let (value, rest) = rest.split_at_checked(length.into()).ok_or(ChallengeError::Truncated)?;
        attributes.push((attribute, value.to_vec()));
        octets = rest;
    }
    if octets.is_empty() { Ok(attributes) } else { Err(ChallengeError::Truncated) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::flag;
    use proptest::prelude::*;

    /// As a server writes it, its target information behind the header.
    pub(crate) fn message(flags: u32, challenge: [u8; 8], target: &[u8]) -> Vec<u8> {
        let mut message = SIGNATURE.to_vec();
        message.extend(CHALLENGE.to_le_bytes());
        message.extend([0, 0, 0, 0, 48, 0, 0, 0]); // no target name
        message.extend(flags.to_le_bytes());
        message.extend(challenge);
        message.extend([0; 8]);
        let length = (target.len() as u16).to_le_bytes();
        message.extend([length, length].concat());
        message.extend(48_u32.to_le_bytes());
        message.extend(target);
        message
    }

    #[test]
    fn what_is_weak_or_points_elsewhere_is_refused() {
        let sealed = crate::flags(Layer::Sealed);
        let good = message(sealed, [1; 8], &[1, 0, 2, 0, b'D', 0, 0, 0, 0, 0]);
        let parsed = Challenge::parse(&good, Layer::Sealed).expect("good");
        assert_eq!((parsed.challenge, parsed.attribute(Attribute(1))), ([1; 8], Some(&b"D\0"[..])));
        for (broken, why) in [
            (good[..40].to_vec(), ChallengeError::Truncated),
            (good[..good.len() - 5].to_vec(), ChallengeError::Truncated),
            (message(sealed, [1; 8], &[1, 0, 3, 0, b'D', 0]), ChallengeError::Truncated),
            (message(sealed, [1; 8], &[7; 9000]), ChallengeError::TooLong),
            (message(sealed & !flag::EXTENDED_SESSION_SECURITY, [1; 8], &[]), ChallengeError::TooWeak),
            (message(sealed & !flag::SEAL, [1; 8], &[]), ChallengeError::NoSealing),
            (message(sealed & !flag::KEYS_OF_128_BITS, [1; 8], &[]), ChallengeError::NoSealing),
            (crate::negotiate(Layer::Sealed), ChallengeError::NotAChallenge),
            (Vec::new(), ChallengeError::NotAChallenge),
        ] {
            assert_eq!(Challenge::parse(&broken, Layer::Sealed), Err(why));
        }
        assert!(Challenge::parse(&message(sealed & !flag::SEAL, [1; 8], &[]), Layer::None).is_ok());
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(target in proptest::collection::vec(any::<u8>(), 0..200), at in 8usize..60, with: u8) {
            let mut octets = message(crate::flags(Layer::Sealed), [3; 8], &target);
            if let Some(octet) = octets.get_mut(at) {
                *octet = with;
            }
            let _ = Challenge::parse(&octets, Layer::Sealed);
            let _ = Challenge::parse(&target, Layer::None);
        }
    }
}
