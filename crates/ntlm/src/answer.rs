//! The client's answer to a challenge (MS-NLMP sections 2.2.1.3 and 3.3.2).

use crate::challenge::{Attribute, Challenge};
use crate::session::Session;
use crate::{AUTHENTICATE, Layer, SIGNATURE, flag, flags, negotiate};
use hmac::{Hmac, KeyInit, Mac};
use md4::Md4;
use md5::{Digest, Md5};
use rc4::{Rc4, StreamCipher};
use zeroize::Zeroizing;

/// Who logs on.
pub struct Account<'a> {
    /// `alice`, or with an empty domain `alice@corp.example`.
    pub user: &'a str,
    /// `CORP` or `corp.example`.
    pub domain: &'a str,
    pub password: &'a str,
}

/// What must be new for each answer.
pub struct Fresh {
    pub client_challenge: [u8; 8],
    /// What a session is sealed with.
    pub session_key: Zeroizing<[u8; 16]>,
    /// 100 ns steps since 1601, for a server that does not tell its time.
    pub time: u64,
}

/// The third message, and what follows it.
pub struct Answer {
    /// Whoever has it can try passwords on it.
    pub message: Zeroizing<Vec<u8>>,
    /// With [`Layer::Sealed`] only.
    pub session: Option<Session>,
}

/// The account's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    #[error("a name is longer than any account's")]
    NameTooLong,
}

/// The channel around the logon: its response is good for no other (MS-NLMP section 2.2.2.1, MsvAvChannelBindings).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelBinding([u8; 16]);

impl ChannelBinding {
    /// `tls-server-end-point` of RFC 5929 section 4: the hash of the server's certificate, made with the hash function of its
    /// signature.
    pub fn tls_server_end_point(hash: &[u8]) -> Self {
        const PREFIX: &[u8] = b"tls-server-end-point:";
        let length = (PREFIX.len() + hash.len()) as u32;
        // gss_channel_bindings_struct, RFC 2744 section 3.11: neither address has a type or a length.
        let parts = [&[0; 16], &length.to_le_bytes()[..], PREFIX, hash];
        Self(Md5::digest(parts.concat()).into())
    }

    /// The hash of the gss_channel_bindings_struct, which Kerberos sends, too (RFC 4121 section 4.1.1.2).
    pub fn octets(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Octets of a name in UTF-16: 256 characters, and a domain in front.
const NAME_OCTETS_MAX: usize = 1024;
/// Where what the fields point at begins: behind the MIC.
const PAYLOAD: usize = 88;
const MIC: std::ops::Range<usize> = 72..88;

impl Challenge {
    /// `target` is the service as its own domain knows it, such as `ldap/dc1.corp.example`.
    pub fn answer(
        &self,
        account: &Account<'_>,
        target: &str,
        binding: Option<&ChannelBinding>,
        layer: Layer,
        fresh: &Fresh,
    ) -> Result<Answer, AnswerError> {
        let (user, domain, target) = (utf16(account.user), utf16(account.domain), utf16(target));
        if [&user, &domain, &target].iter().any(|name| name.len() > NAME_OCTETS_MAX) {
            return Err(AnswerError::NameTooLong);
        }
        let proof = Proof::new(&response_key(account), self, &self.answered(&target, binding), fresh);
        let flags = self.flags & flags(layer);
        let exchanges = flags & flag::KEY_EXCHANGE != 0;
        let (key, sent) = match exchanges {
            true => (fresh.session_key.clone(), rc4_once(&proof.session_base_key, fresh.session_key.as_slice())),
            false => (proof.session_base_key.clone(), Vec::new()),
        };
        let mut message = Zeroizing::new(written(flags, &proof.response, &domain, &user, &sent));
        let mic = hmac_md5(key.as_slice(), &[&negotiate(layer), &self.whole, &message]);
        if let Some(place) = message.get_mut(MIC) {
            place.copy_from_slice(&mic);
        }
        let session = (layer == Layer::Sealed).then(|| Session::of_client(&key));
        Ok(Answer { message, session })
    }

    /// What the server said of itself, and what we say to it.
    fn answered(&self, target: &[u8], binding: Option<&ChannelBinding>) -> Vec<u8> {
        /// There is a MIC.
        const MIC_PROVIDED: u32 = 2;
        let told = self.attribute(Attribute::FLAGS).and_then(|value| value.first_chunk().copied());
        let ours = [Attribute::FLAGS, Attribute::TARGET_NAME, Attribute::CHANNEL_BINDINGS];
        let theirs = self.target.iter().filter(|(attribute, _)| !ours.contains(attribute));
        let mut octets = Vec::new();
        let mut write = |attribute: Attribute, value: &[u8]| {
            octets.extend(attribute.0.to_le_bytes());
            octets.extend((value.len() as u16).to_le_bytes());
            octets.extend(value);
        };
        theirs.for_each(|(attribute, value)| write(*attribute, value));
        write(Attribute::FLAGS, &(told.map_or(0, u32::from_le_bytes) | MIC_PROVIDED).to_le_bytes());
        write(Attribute::CHANNEL_BINDINGS, &binding.map_or([0; 16], |binding| binding.0));
        write(Attribute::TARGET_NAME, target);
        write(Attribute::END, &[]);
        octets
    }
}

/// The response of version 2, and the key that comes with it (MS-NLMP section 3.3.2).
struct Proof {
    response: Zeroizing<Vec<u8>>,
    session_base_key: Zeroizing<[u8; 16]>,
}

impl Proof {
    fn new(key: &[u8; 16], challenge: &Challenge, answered: &[u8], fresh: &Fresh) -> Self {
        let told = challenge.attribute(Attribute::TIMESTAMP).and_then(|value| value.first_chunk::<8>().copied());
        let time = told.unwrap_or(fresh.time.to_le_bytes());
        let blob = [&[1, 1, 0, 0, 0, 0, 0, 0], &time[..], &fresh.client_challenge, &[0; 4], answered, &[0; 4]].concat();
        let proof = hmac_md5(key, &[&challenge.challenge, &blob]);
        let response = Zeroizing::new([&proof[..], &blob].concat());
        Self { response, session_base_key: Zeroizing::new(hmac_md5(key, &[&proof])) }
    }
}

/// NTOWFv2: as good as the password, for this account.
fn response_key(account: &Account<'_>) -> Zeroizing<[u8; 16]> {
    let mut password = Zeroizing::new(Vec::with_capacity(account.password.len() * 2)); // never grows, so no copy is left behind
    password.extend(account.password.encode_utf16().flat_map(u16::to_le_bytes));
    let hash: Zeroizing<[u8; 16]> = Zeroizing::new(Md4::digest(&password).into());
    let user: String = account.user.chars().map(in_upper_case).collect();
    Zeroizing::new(hmac_md5(hash.as_slice(), &[&utf16(&user), &utf16(account.domain)]))
}

/// As Windows does it: one character for one, or as it was (`ß`).
fn in_upper_case(sign: char) -> char {
    let mut upper = sign.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => one,
        _ => sign,
    }
}

fn written(flags: u32, response: &[u8], domain: &[u8], user: &[u8], key: &[u8]) -> Vec<u8> {
    const NO_LM_RESPONSE: [u8; 24] = [0; 24];
    let fields: [&[u8]; 6] = [&NO_LM_RESPONSE, response, domain, user, &[], key];
    let room = PAYLOAD + fields.iter().map(|field| field.len()).sum::<usize>();
    let mut message = Vec::with_capacity(room);
    message.extend(SIGNATURE);
    message.extend(AUTHENTICATE.to_le_bytes());
    let mut offset = PAYLOAD;
    for field in fields {
        // Names are bounded, and so is what the server may say of itself.
        let length = (field.len() as u16).to_le_bytes();
        message.extend([length, length].concat());
        message.extend((offset as u32).to_le_bytes());
        offset += field.len();
    }
    message.extend(flags.to_le_bytes());
    message.extend([0; 8]); // no version
    message.extend([0; MIC.end - MIC.start]);
    fields.iter().for_each(|field| message.extend(*field));
    message
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

pub(crate) fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn rc4_once(key: &[u8; 16], octets: &[u8]) -> Vec<u8> {
    let mut out = octets.to_vec();
    <Rc4 as rc4::KeyInit>::new_from_slice(key).expect("16 octets are a key").apply_keystream(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::tests::message;
    use data_encoding::HEXLOWER_PERMISSIVE as HEX;

    const ACCOUNT: Account<'_> = Account { user: "User", domain: "Domain", password: "Password" };

    fn fresh() -> Fresh {
        Fresh { client_challenge: [0xaa; 8], session_key: Zeroizing::new([0x55; 16]), time: 0 }
    }

    fn hex(text: &str) -> Vec<u8> {
        HEX.decode(text.replace(' ', "").as_bytes()).expect("hexadecimal")
    }

    #[test]
    fn the_example_of_ms_nlmp_comes_out() {
        // MS-NLMP section 4.2.4: NTLM version 2 authentication
        let target = hex("02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000");
        let challenge = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        let challenge =
            Challenge::parse(&message(0xe28a_8233, challenge, &target), Layer::Sealed).expect("a challenge");
        let key = response_key(&ACCOUNT);
        assert_eq!(key.to_vec(), hex("0c868a403bfd7a93a3001ef22ef02e3f"));
        let proof = Proof::new(&key, &challenge, &target, &fresh());
        assert_eq!(proof.response.get(..16), Some(&hex("68cd0ab851e51c96aabc927bebef6a1c")[..]));
        assert_eq!(proof.session_base_key.to_vec(), hex("8de40ccadbc14a82f15cb0ad0de95ca3"));
        let sent = rc4_once(&proof.session_base_key, fresh().session_key.as_slice());
        assert_eq!(sent, hex("c5dad2544fc9799094ce1ce90bc9d03e"));
    }

    #[test]
    fn a_channel_is_named_by_the_md5_of_its_gss_structure() {
        // RFC 2744 section 3.11, RFC 5929 section 4; the sum made by Python's struct and hashlib.
        let binding = ChannelBinding::tls_server_end_point(&[7; 32]);
        assert_eq!(binding.0.to_vec(), hex("b1a3c6580100729194d4b9487c9edceb"));
    }

    #[test]
    fn what_is_sent_says_what_the_server_said_and_who_it_is_for() {
        let target = hex("07000800 0102030405060708 06000400 01000000 0a000200 ffff 00000000");
        let challenge = Challenge::parse(&message(flags(Layer::None), [1; 8], &target), Layer::None).expect("good");
        let binding = ChannelBinding::tls_server_end_point(&[7; 32]);
        let answered = challenge.answered(&utf16("ldap/dc"), Some(&binding));
        let expected = [
            hex("07000800 0102030405060708 06000400 03000000 0a001000"),
            binding.0.to_vec(),
            hex("09000e00 6c0064006100 70002f00 64006300 00000000"),
        ];
        assert_eq!(answered, expected.concat());
        let answer = challenge.answer(&ACCOUNT, "ldap/dc", Some(&binding), Layer::None, &fresh()).expect("short names");
        assert!(answer.session.is_none());
        // MS-NLMP section 3.1.5.1.2: the server's time is the response's.
        assert_eq!(answer.message.get(PAYLOAD + 24 + 24..PAYLOAD + 24 + 32), Some(&[1, 2, 3, 4, 5, 6, 7, 8][..]));
        let long = "x".repeat(600);
        let account = Account { user: &long, ..ACCOUNT };
        let refused = challenge.answer(&account, "ldap/dc", None, Layer::None, &fresh()).err();
        assert_eq!(refused, Some(AnswerError::NameTooLong));
    }

    #[test]
    fn a_name_is_written_large_one_sign_for_one() {
        assert_eq!("jörg.groß ǆ".chars().map(in_upper_case).collect::<String>(), "JÖRG.GROß Ǆ");
    }
}
