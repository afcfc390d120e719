//! What an authenticator says and signs (section 6.1), and the key in it (RFC 9053 section 7.1.1).

use super::Refused;
use ciborium::Value;
use p256::ecdsa::VerifyingKey;

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const ATTESTED: u8 = 0x40;
const EXTENSIONS: u8 = 0x80;
/// Section 4: at most so many octets.
const CREDENTIAL_ID_BYTES_MAX: usize = 1023;
/// Keys and extensions are flat maps.
const CBOR_DEPTH_MAX: usize = 8;

/// A P-256 point, uncompressed (SEC 1 section 2.3.3).
pub type PublicKey = [u8; 65];

pub struct AuthenticatorData<'a> {
    pub rp_id_hash: [u8; 32],
    pub user_present: bool,
    pub user_verified: bool,
    pub sign_count: u32,
    pub attested: Option<Attested<'a>>,
}

pub struct Attested<'a> {
    pub credential_id: &'a [u8],
    pub public_key: PublicKey,
}

impl<'a> AuthenticatorData<'a> {
    pub fn read(data: &'a [u8]) -> Result<Self, Refused> {
        let malformed = || Refused::Malformed("the authenticator's data");
        let (rp_id_hash, rest) = data.split_first_chunk::<32>().ok_or_else(malformed)?;
        let (&[flags], rest) = rest.split_first_chunk::<1>().ok_or_else(malformed)?;
        let (count, mut rest) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
        let attested = match flags & ATTESTED {
            0 => None,
            _ => Some(attested(&mut rest)?),
        };
        if flags & EXTENSIONS != 0 {
            let extensions = cbor(&mut rest).ok_or_else(malformed)?;
            extensions.is_map().then_some(()).ok_or_else(malformed)?;
        }
        if !rest.is_empty() {
            return Err(malformed());
        }
        Ok(Self {
            rp_id_hash: *rp_id_hash,
            user_present: flags & USER_PRESENT != 0,
            user_verified: flags & USER_VERIFIED != 0,
            sign_count: u32::from_be_bytes(*count),
            attested,
        })
    }
}

fn attested<'a>(rest: &mut &'a [u8]) -> Result<Attested<'a>, Refused> {
    let malformed = || Refused::Malformed("the attested credential");
    // The model of the authenticator: unproven without attestation, so of no use.
    let (_aaguid, after) = rest.split_first_chunk::<16>().ok_or_else(malformed)?;
    let (length, after) = after.split_first_chunk::<2>().ok_or_else(malformed)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length == 0 || length > CREDENTIAL_ID_BYTES_MAX {
        return Err(malformed());
    }
    let (credential_id, after) = after.split_at_checked(length).ok_or_else(malformed)?;
    *rest = after;
    let key = cbor(rest).ok_or_else(malformed)?;
    Ok(Attested { credential_id, public_key: es256_key(&key).ok_or(Refused::Key)? })
}

/// One item, and what follows it.
pub fn cbor(rest: &mut &[u8]) -> Option<Value> {
    ciborium::de::from_reader_with_recursion_limit(rest, CBOR_DEPTH_MAX).ok()
}

/// A COSE key of kind EC2 for ES256 on P-256, whose point is on the curve.
fn es256_key(key: &Value) -> Option<PublicKey> {
    let field = |label: i64| {
        let entries = key.as_map()?;
        let mut found = entries.iter().filter(|(name, _)| name.as_integer() == Some(label.into()));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    };
    let number = |label: i64| field(label)?.as_integer();
    // kty EC2, alg ES256, crv P-256
    if number(1) != Some(2.into()) || number(3) != Some((-7).into()) || number(-1) != Some(1.into()) {
        return None;
    }
    let coordinate = |label: i64| <[u8; 32]>::try_from(field(label)?.as_bytes()?.as_slice()).ok();
    let mut point = [4; 65];
    point[1..33].copy_from_slice(&coordinate(-2)?);
    point[33..].copy_from_slice(&coordinate(-3)?);
    VerifyingKey::from_sec1_bytes(&point).ok().map(|_| point)
}
