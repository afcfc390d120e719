//! MS-CHAPv2 (RFC 2759, RFC 2548 section 2, RFC 3079): what a request proves, what an answer must prove in return, and
//! the keys both sides then share.
//!
//! Who checks the response is not decided here: a home server gets the attributes as they are, a Windows domain gets
//! challenge hash and response, and gives the hash of the password hash for a right one (R-56). That hash is enough for
//! everything an Access-Accept needs (R-57):
//!
//! ```text
//! packet -> MsChap::read -> V2 -> challenge_hash, nt_response -> the domain
//!                            |                                      | PasswordHashHash
//!                            '-> success, MppeKeys <----------------'
//! ```
//!
//! MD4 and DES are what the protocol is made of, and a recorded exchange is worth one DES key (R-59). Nothing else uses
//! them. MS-CHAPv1 is recognised, to be relayed.

use crate::attribute::{AttributeType, Vendor};
use crate::packet::Packet;
use crate::write::WriteError;
use des::Des;
use des::cipher::{Array, BlockCipherEncrypt, KeyInit};
use md4::Md4;
use sha1::{Digest, Sha1};
use std::fmt::Write as _;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Microsoft's own attribute numbers (RFC 2548 section 2).
pub mod kind {
    pub const MS_CHAP_RESPONSE: u8 = 1;
    pub const MS_CHAP_ERROR: u8 = 2;
    pub const MS_CHAP_NT_ENC_PW: u8 = 6;
    pub const MS_MPPE_ENCRYPTION_POLICY: u8 = 7;
    pub const MS_MPPE_ENCRYPTION_TYPES: u8 = 8;
    pub const MS_CHAP_CHALLENGE: u8 = 11;
    pub const MS_MPPE_SEND_KEY: u8 = 16;
    pub const MS_MPPE_RECV_KEY: u8 = 17;
    pub const MS_CHAP2_RESPONSE: u8 = 25;
    pub const MS_CHAP2_SUCCESS: u8 = 26;
    pub const MS_CHAP2_CPW: u8 = 27;
}

/// What a request with one of Microsoft's proofs brings.
#[derive(Clone, Copy)]
pub enum MsChap<'a> {
    /// MS-CHAPv1: for a home server, never for us.
    V1,
    V2(V2<'a>),
    /// A new password, after an [`FailureCode::PasswordExpired`]. For a home server (R-58).
    PasswordChange {
        ident: u8,
    },
}

impl<'a> MsChap<'a> {
    /// Every length is checked; of what must be there once, nothing is there twice (B-27).
    pub fn read(packet: &Packet<'a>) -> Result<Self, MsChapError> {
        let challenge = at_most_one(packet, kind::MS_CHAP_CHALLENGE).ok_or(MsChapError::Several)?;
        let mut proofs = microsoft(packet).filter(|(kind, _)| is_proof(*kind));
        let (kind, value) = proofs.next().ok_or(MsChapError::NoResponse)?;
        if proofs.next().is_some() {
            return Err(MsChapError::Several);
        }
        match kind {
            kind::MS_CHAP_RESPONSE => {
                let _: &[u8; 8] = of_length(challenge).ok_or(MsChapError::Challenge)?;
                let _: &[u8; 50] = value.try_into().map_err(|_| MsChapError::Response)?;
                Ok(Self::V1)
            }
            kind::MS_CHAP2_RESPONSE => {
                V2::new(of_length(challenge).ok_or(MsChapError::Challenge)?, value).map(Self::V2)
            }
            _ => {
                let _: &[u8; 16] = of_length(challenge).ok_or(MsChapError::Challenge)?;
                password_change(packet, value)
            }
        }
    }
}

/// The octet that an MS-CHAP-Error must repeat, also where the rest was not understood. 0 where there is none.
pub fn ident(packet: &Packet<'_>) -> u8 {
    let mut proofs = microsoft(packet).filter(|(kind, _)| is_proof(*kind));
    let Some((kind, value)) = proofs.next() else { return 0 };
    // RFC 2548 section 2.3.4: in a change of password a code comes first.
    let at = usize::from(kind == kind::MS_CHAP2_CPW);
    value.get(at).copied().unwrap_or_default()
}

/// Why it proves nothing. The client's fault; answered with E=691 R=0, whatever it was (B-27).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MsChapError {
    #[error("no MS-CHAP-Response")]
    NoResponse,
    #[error("more than one MS-CHAP-Challenge or response")]
    Several,
    /// 8 octets in version 1, 16 in version 2.
    #[error("MS-CHAP-Challenge is missing or of the wrong length")]
    Challenge,
    #[error("the response is not of 50 octets")]
    Response,
    #[error("the flags of the response are not zero")]
    Flags,
    #[error("MS-CHAP2-CPW and MS-CHAP-NT-Enc-PW are not a change of password")]
    PasswordChange,
}

/// MS-CHAP2-Response with its challenge (RFC 2548 section 2.3.2).
#[derive(Clone, Copy)]
pub struct V2<'a> {
    pub ident: u8,
    pub challenge: &'a [u8; 16],
    pub peer_challenge: &'a [u8; 16],
    pub nt_response: &'a [u8; 24],
}

impl<'a> V2<'a> {
    /// `value` is ident, flags, peer challenge, 8 reserved octets, response.
    fn new(challenge: &'a [u8; 16], value: &'a [u8]) -> Result<Self, MsChapError> {
        let value: &[u8; 50] = value.try_into().map_err(|_| MsChapError::Response)?;
        let ([ident, flags], rest) = value.split_first_chunk().ok_or(MsChapError::Response)?;
        let (peer_challenge, rest) = rest.split_first_chunk().ok_or(MsChapError::Response)?;
        let nt_response = rest.last_chunk().ok_or(MsChapError::Response)?;
        if *flags != 0 {
            return Err(MsChapError::Flags);
        }
        Ok(Self { ident: *ident, challenge, peer_challenge, nt_response })
    }

    /// The eight octets that the response encrypts: what the domain is given as its challenge. `user_name` as it was sent.
    pub fn challenge_hash(&self, user_name: &str) -> [u8; 8] {
        challenge_hash(self.peer_challenge, self.challenge, user_name)
    }

    /// The value of MS-CHAP2-Success: it tells the client that we, too, know the password.
    pub fn success(&self, user_name: &str, hash: &PasswordHashHash) -> [u8; 43] {
        let mut value = [0; 43];
        let [ident, text @ ..] = &mut value;
        *ident = self.ident;
        text.copy_from_slice(&authenticator_response(hash, self.nt_response, &self.challenge_hash(user_name)));
        value
    }

    /// The keys of the connection, for MS-MPPE-Send-Key and MS-MPPE-Recv-Key.
    pub fn keys(&self, hash: &PasswordHashHash) -> MppeKeys {
        MppeKeys::new(hash, self.nt_response)
    }
}

/// What a client makes of a password: for our own test client and load generator.
pub struct Client<'a> {
    pub user_name: &'a str,
    pub challenge: [u8; 16],
    pub peer_challenge: [u8; 16],
    pub hash: PasswordHash,
}

impl Client<'_> {
    pub fn nt_response(&self) -> [u8; 24] {
        self.hash.challenge_response(&self.challenge_hash())
    }

    /// The value of MS-CHAP2-Response.
    pub fn response(&self, ident: u8) -> [u8; 50] {
        let mut value = [0; 50];
        value[0] = ident;
        value[2..18].copy_from_slice(&self.peer_challenge);
        value[26..].copy_from_slice(&self.nt_response());
        value
    }

    /// Whether a MS-CHAP2-Success comes from somebody who knows the password.
    pub fn accepts(&self, ident: u8, success: &[u8]) -> bool {
        let expected = authenticator_response(&self.hash.hash(), &self.nt_response(), &self.challenge_hash());
        success.split_first().is_some_and(|(first, text)| *first == ident && text.ct_eq(&expected).into())
    }

    /// As the server sees them: its send key is what this client receives with.
    pub fn keys(&self) -> MppeKeys {
        MppeKeys::new(&self.hash.hash(), &self.nt_response())
    }

    fn challenge_hash(&self) -> [u8; 8] {
        challenge_hash(&self.peer_challenge, &self.challenge, self.user_name)
    }
}

/// MD4 of the password in UTF-16: as good as the password itself.
pub struct PasswordHash(Zeroizing<[u8; 16]>);

impl PasswordHash {
    pub fn of(password: &str) -> Self {
        let mut octets = Zeroizing::new(Vec::with_capacity(password.len() * 2)); // never grows, so no copy is left behind
        octets.extend(password.encode_utf16().flat_map(u16::to_le_bytes));
        Self(md4(&octets))
    }

    pub fn hash(&self) -> PasswordHashHash {
        PasswordHashHash(md4(self.0.as_slice()))
    }

    /// The challenge under three DES keys (RFC 2759 section 8.5).
    pub fn challenge_response(&self, challenge_hash: &[u8; 8]) -> [u8; 24] {
        let mut keys = Zeroizing::new([0; 21]);
        keys[..16].copy_from_slice(self.0.as_slice());
        let mut response = [0; 24];
        for (key, block) in keys.as_chunks().0.iter().zip(response.as_chunks_mut().0) {
            *block = encrypted(key, challenge_hash);
        }
        response
    }
}

/// MD4 of the password hash: what a domain calls the user session key, and a helper prints as `User-Session-Key`.
pub struct PasswordHashHash(Zeroizing<[u8; 16]>);

impl PasswordHashHash {
    pub fn new(octets: [u8; 16]) -> Self {
        Self(Zeroizing::new(octets))
    }
}

/// The master keys of a connection in both directions, seen from the NAS (RFC 3079 section 3.4, RFC 2548 section 2.4).
/// They travel hidden, each with its own salt.
pub struct MppeKeys {
    /// MS-MPPE-Send-Key: what the NAS encrypts with.
    pub send: Zeroizing<[u8; 16]>,
    /// MS-MPPE-Recv-Key: what the client encrypts with.
    pub recv: Zeroizing<[u8; 16]>,
}

impl MppeKeys {
    fn new(hash: &PasswordHashHash, nt_response: &[u8; 24]) -> Self {
        const SERVER_SENDS: &[u8] =
            b"On the client side, this is the receive key; on the server side, it is the send key.";
        const SERVER_RECEIVES: &[u8] =
            b"On the client side, this is the send key; on the server side, it is the receive key.";
        let master = master_key(hash, nt_response);
        Self { send: start_key(&master, SERVER_SENDS), recv: start_key(&master, SERVER_RECEIVES) }
    }
}

/// Whether a client must encrypt: the value of MS-MPPE-Encryption-Policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncryptionPolicy {
    Allowed,
    Required,
}

impl EncryptionPolicy {
    // RFC 2548 section 2.4.4
    pub fn value(self) -> [u8; 4] {
        match self {
            Self::Allowed => 1_u32.to_be_bytes(),
            Self::Required => 2_u32.to_be_bytes(),
        }
    }
}

/// The value of MS-MPPE-Encryption-Types: 128 bits and nothing weaker (RFC 2548 section 2.4.5).
pub const ENCRYPTION_TYPES: [u8; 4] = 4_u32.to_be_bytes();

/// Why not, in the words of the protocol (RFC 2759 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureCode {
    RestrictedLogonHours,
    AccountDisabled,
    PasswordExpired,
    NoDialinPermission,
    AuthenticationFailure,
    ChangingPassword,
    /// Somebody else's.
    Other(u32),
}

impl FailureCode {
    pub fn number(self) -> u32 {
        match self {
            Self::RestrictedLogonHours => 646,
            Self::AccountDisabled => 647,
            Self::PasswordExpired => 648,
            Self::NoDialinPermission => 649,
            Self::AuthenticationFailure => 691,
            Self::ChangingPassword => 709,
            Self::Other(number) => number,
        }
    }
}

impl From<u32> for FailureCode {
    fn from(number: u32) -> Self {
        match number {
            646 => Self::RestrictedLogonHours,
            647 => Self::AccountDisabled,
            648 => Self::PasswordExpired,
            649 => Self::NoDialinPermission,
            691 => Self::AuthenticationFailure,
            709 => Self::ChangingPassword,
            other => Self::Other(other),
        }
    }
}

/// MS-CHAP-Error, as a home server sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure<'a> {
    pub ident: u8,
    pub code: FailureCode,
    /// `R=1`: the client may try again at once. Never said by us.
    pub may_retry: bool,
    /// For the next response. Version 1 sends eight octets, which are none of ours.
    pub challenge: Option<[u8; 16]>,
    pub message: &'a [u8],
}

impl<'a> Failure<'a> {
    /// None where there is no code. What else is missing or unknown is not looked for.
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let (&ident, mut rest) = value.split_first()?;
        let (mut code, mut may_retry, mut challenge) = (None, false, None);
        loop {
            rest = rest.trim_ascii_start();
            if let Some(message) = rest.strip_prefix(b"M=") {
                return Some(Self { ident, code: code?, may_retry, challenge, message });
            }
            if rest.is_empty() {
                return Some(Self { ident, code: code?, may_retry, challenge, message: rest });
            }
            let end = rest.iter().position(|octet| *octet == b' ').unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            match field.split_first_chunk() {
                Some((b"E=", number)) => code = Some(FailureCode::from(decimal(number)?)),
                Some((b"R=", flag)) => may_retry = flag == b"1",
                Some((b"C=", hex)) => challenge = from_hex(hex),
                _ => {}
            }
            rest = after;
        }
    }
}

/// The value of an MS-CHAP-Error of ours. Always `R=0`: with 1 a client asks for the password again and again (R-58).
/// `challenge` is fresh and random.
pub fn failure(ident: u8, code: FailureCode, challenge: &[u8; 16], message: &str) -> Result<Vec<u8>, WriteError> {
    let mut text = format!("E={} R=0 C=", code.number());
    push_hex(&mut text, challenge);
    text.push_str(" V=3 M=");
    text.push_str(message);
    if text.len() >= VALUE_OCTETS_MAX {
        return Err(WriteError::ValueTooLong(AttributeType::VENDOR_SPECIFIC));
    }
    Ok([&[ident], text.as_bytes()].concat())
}

/// The value of a Vendor-Specific attribute with one of Microsoft's in it.
pub fn attribute(kind: u8, value: &[u8]) -> Result<Vec<u8>, WriteError> {
    let length = u8::try_from(value.len() + 2).ok().filter(|_| value.len() <= VALUE_OCTETS_MAX);
    let length = length.ok_or(WriteError::ValueTooLong(AttributeType::VENDOR_SPECIFIC))?;
    Ok([&Vendor::MICROSOFT.to_be_bytes(), [kind, length].as_slice(), value].concat())
}

/// An attribute's 253, less the vendor's number and the inner type and length.
const VALUE_OCTETS_MAX: usize = 247;

/// The name without a domain before it, which both sides leave out (RFC 2759 section 8.2).
pub fn without_domain(user_name: &str) -> &str {
    user_name.split_once('\\').map_or(user_name, |(_, name)| name)
}

/// One of the three ways to prove a password in Microsoft's attributes.
pub fn is_proof(kind: u8) -> bool {
    matches!(kind, kind::MS_CHAP_RESPONSE | kind::MS_CHAP2_RESPONSE | kind::MS_CHAP2_CPW)
}

/// RFC 2548 sections 2.1.4 and 2.3.4: code 7, ident, encrypted hash, peer challenge, 8 reserved, response, flags; and the
/// new password, 516 octets in numbered pieces.
fn password_change<'a>(packet: &Packet<'a>, value: &'a [u8]) -> Result<MsChap<'a>, MsChapError> {
    const CODE: u8 = 7;
    const PIECE_CODE: u8 = 6;
    const PASSWORD_OCTETS: usize = 516;
    let value: &[u8; 68] = value.try_into().map_err(|_| MsChapError::PasswordChange)?;
    let [CODE, ident, .., 0, 0] = *value else { return Err(MsChapError::PasswordChange) };
    let mut octets = 0;
    for (_, piece) in microsoft(packet).filter(|(kind, _)| *kind == kind::MS_CHAP_NT_ENC_PW) {
        // The two octets between are the piece's number: who puts them together looks at it.
        let Some((&[PIECE_CODE, of, _, _], password)) = piece.split_first_chunk() else {
            return Err(MsChapError::PasswordChange);
        };
        if of != ident {
            return Err(MsChapError::PasswordChange);
        }
        octets += password.len();
    }
    if octets != PASSWORD_OCTETS {
        return Err(MsChapError::PasswordChange);
    }
    Ok(MsChap::PasswordChange { ident })
}

fn microsoft<'a>(packet: &Packet<'a>) -> impl Iterator<Item = (u8, &'a [u8])> {
    packet
        .attributes()
        .filter_map(|attribute| attribute.vendor())
        .filter(|vendor| vendor.id == Vendor::MICROSOFT)
        .flat_map(|vendor| vendor.attributes())
}

/// None for two or more, Some(None) for none at all.
fn at_most_one<'a>(packet: &Packet<'a>, kind: u8) -> Option<Option<&'a [u8]>> {
    let mut all = microsoft(packet).filter(|(found, _)| *found == kind).map(|(_, value)| value);
    let first = all.next();
    all.next().is_none().then_some(first)
}

fn of_length<const N: usize>(value: Option<&[u8]>) -> Option<&[u8; N]> {
    value?.try_into().ok()
}

/// RFC 2759 section 8.2
fn challenge_hash(peer_challenge: &[u8; 16], challenge: &[u8; 16], user_name: &str) -> [u8; 8] {
    let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _]: [u8; 20] = Sha1::new()
        .chain_update(peer_challenge)
        .chain_update(challenge)
        .chain_update(without_domain(user_name))
        .finalize()
        .into();
    first
}

/// `S=` and 40 digits (RFC 2759 section 8.7).
fn authenticator_response(hash: &PasswordHashHash, nt_response: &[u8; 24], challenge_hash: &[u8; 8]) -> [u8; 42] {
    let digest = Sha1::new()
        .chain_update(hash.0.as_slice())
        .chain_update(nt_response)
        .chain_update(b"Magic server to client signing constant")
        .finalize();
    let digest: [u8; 20] = Sha1::new()
        .chain_update(digest)
        .chain_update(challenge_hash)
        .chain_update(b"Pad to make it do more than one iteration")
        .finalize()
        .into();
    let mut text = [0; 42];
    let [s, equals, digits @ ..] = &mut text;
    (*s, *equals) = (b'S', b'=');
    for (octet, pair) in digest.iter().zip(digits.as_chunks_mut().0) {
        *pair = hex_digits(*octet);
    }
    text
}

/// RFC 3079 section 3.4
fn master_key(hash: &PasswordHashHash, nt_response: &[u8; 24]) -> Zeroizing<[u8; 16]> {
    first_of_sha1(&[hash.0.as_slice(), nt_response, b"This is the MPPE Master Key"])
}

/// RFC 3079 section 3.4
fn start_key(master: &[u8; 16], direction: &[u8]) -> Zeroizing<[u8; 16]> {
    first_of_sha1(&[master, &[0; 40], direction, &[0xf2; 40]])
}

fn first_of_sha1(pieces: &[&[u8]]) -> Zeroizing<[u8; 16]> {
    let mut sha1 = Sha1::new();
    pieces.iter().for_each(|piece| sha1.update(piece));
    let mut digest: [u8; 20] = sha1.finalize().into();
    let mut first = Zeroizing::new([0; 16]);
    first.copy_from_slice(&digest[..16]);
    digest.zeroize();
    first
}

fn md4(octets: &[u8]) -> Zeroizing<[u8; 16]> {
    Zeroizing::new(Md4::digest(octets).into())
}

/// DES under a key of 56 bits, of which every seven get a parity bit that nobody looks at (RFC 2759 section 8.6).
fn encrypted(key: &[u8; 7], clear: &[u8; 8]) -> [u8; 8] {
    let bits = key.iter().fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
    let mut key = Zeroizing::new([0; 8]);
    for (position, octet) in (0..).zip(key.iter_mut()) {
        let [.., low] = (bits >> (49 - 7 * position)).to_be_bytes();
        *octet = low << 1;
    }
    let mut block = Array::from(*clear);
    Des::new((&*key).into()).encrypt_block(&mut block);
    block.into()
}

fn hex_digits(octet: u8) -> [u8; 2] {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    [DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]]
}

fn push_hex(text: &mut String, octets: &[u8]) {
    for octet in octets {
        write!(text, "{octet:02X}").expect("writing to a string");
    }
}

fn from_hex(hex: &[u8]) -> Option<[u8; 16]> {
    let (pairs, []) = hex.as_chunks::<2>() else { return None };
    let mut octets = [0; 16];
    if pairs.len() != octets.len() {
        return None;
    }
    for (octet, [high, low]) in octets.iter_mut().zip(pairs) {
        *octet = digit(*high)? << 4 | digit(*low)?;
    }
    Some(octets)
}

fn digit(octet: u8) -> Option<u8> {
    u8::try_from(char::from(octet).to_digit(16)?).ok()
}

fn decimal(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|octet| octet.is_ascii_digit()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXUPPER_PERMISSIVE as HEX;

    const CHALLENGE: &str = "5B5D7C7D7B3F2F3E3C2C602132262628";
    const PEER_CHALLENGE: &str = "21402324255E262A28295F2B3A337C7E";
    const NT_RESPONSE: &str = "82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF";

    fn octets<const N: usize>(hex: &str) -> [u8; N] {
        HEX.decode(hex.as_bytes()).expect("hex").try_into().expect("its length")
    }

    #[test]
    fn the_example_of_rfc_2759_comes_out_octet_by_octet() {
        // RFC 2759 section 9.2, R-57
        let (challenge, peer_challenge, nt_response) =
            (octets(CHALLENGE), octets(PEER_CHALLENGE), octets::<24>(NT_RESPONSE));
        let hash = PasswordHash::of("clientPass");
        assert_eq!(*hash.0, octets("44EBBA8D5312B8D611474411F56989AE"));
        assert_eq!(*hash.hash().0, octets("41C00C584BD2D91C4017A2A12FA59F3F"));
        assert_eq!(challenge_hash(&peer_challenge, &challenge, "User"), octets("D02E4386BCE91226"));
        let client = Client { user_name: "User", challenge, peer_challenge, hash };
        assert_eq!(client.nt_response(), nt_response);
        let v2 = V2 { ident: 7, challenge: &challenge, peer_challenge: &peer_challenge, nt_response: &nt_response };
        let success = v2.success("User", &client.hash.hash());
        assert_eq!(success, *b"\x07S=407A5589115FD0D6209F510FE9C04566932CDA56");
        assert!(client.accepts(7, &success));
    }

    #[test]
    fn the_example_of_rfc_3079_comes_out_octet_by_octet() {
        // RFC 3079 section 3.5.3: what the server sends with. The other direction is its mirror, without an example.
        let (hash, nt_response) = (PasswordHash::of("clientPass").hash(), octets(NT_RESPONSE));
        let master = master_key(&hash, &nt_response);
        assert_eq!(*master, octets("FDECE3717A8C838CB388E527AE3CDD31"));
        assert_eq!(*MppeKeys::new(&hash, &nt_response).send, octets("8B7CDC149B993A1BA118CB153F56DCCB"));
    }

    #[test]
    fn des_agrees_with_its_standard() {
        // FIPS 81, table B1: the key 0123456789abcdef without its parity bits.
        let key = octets("00451338957377");
        assert_eq!(encrypted(&key, b"Now is t"), octets("3FA40E8A984D4815"));
    }
}
