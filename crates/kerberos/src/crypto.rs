//! Encryption and checksums: aes128-cts-hmac-sha1-96 and aes256-cts-hmac-sha1-96 (RFC 3961, RFC 3962), and nothing weaker.

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt};
use aes::{Aes128, Aes256};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::ops::Range;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// By its number (RFC 3962 section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encryption {
    Aes128 = 17,
    Aes256 = 18,
}

impl Encryption {
    /// Strongest first.
    pub const ALL: [Self; 2] = [Self::Aes256, Self::Aes128];

    pub fn of_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|encryption| encryption.number() == number)
    }

    pub fn number(self) -> i32 {
        self as i32
    }

    /// Of the checksum that belongs to it (RFC 3962 section 7).
    pub(crate) fn checksum_number(self) -> i32 {
        match self {
            Self::Aes128 => 15,
            Self::Aes256 => 16,
        }
    }

    fn key_octets(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes256 => 32,
        }
    }
}

/// Fills its argument with octets that nobody can guess.
pub type Random = fn(&mut [u8]);

const BLOCK: usize = 16;
/// Random octets in front of what is encrypted.
pub(crate) const CONFOUNDER: usize = BLOCK;
/// Of a checksum, and behind what is encrypted.
pub(crate) const MAC: usize = 12;

/// What was encrypted is not what somebody with the key has encrypted for this purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was not encrypted with this key, or changed on the way")]
pub struct WrongKey;

/// A key of an account, of a session, or of one direction. Cannot be printed.
#[derive(Clone)]
pub struct Key {
    encryption: Encryption,
    octets: Zeroizing<Vec<u8>>,
}

impl Key {
    /// `None` where the length is not that of such a key.
    pub fn new(encryption: Encryption, octets: &[u8]) -> Option<Self> {
        (octets.len() == encryption.key_octets()).then(|| Self { encryption, octets: Zeroizing::new(octets.to_vec()) })
    }

    pub(crate) fn random(encryption: Encryption, random: Random) -> Self {
        let mut octets = Zeroizing::new(vec![0; encryption.key_octets()]);
        random(&mut octets);
        Self { encryption, octets }
    }

    /// string-to-key (RFC 3962 section 4).
    pub fn of_password(encryption: Encryption, password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut octets = Zeroizing::new(vec![0; encryption.key_octets()]);
        pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut octets);
        Self { encryption, octets }.derived(b"kerberos")
    }

    pub fn encryption(&self) -> Encryption {
        self.encryption
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// DK (RFC 3961 section 5.1): the key of this key for `constant`.
    fn derived(&self, constant: &[u8]) -> Self {
        let cipher = Cipher::new(self);
        let mut block = Zeroizing::new(n_fold(constant));
        let mut octets = Zeroizing::new(Vec::with_capacity(self.encryption.key_octets()));
        while octets.len() < self.encryption.key_octets() {
            cipher.encrypt_block(&mut block);
            octets.extend_from_slice(block.as_slice());
        }
        Self { encryption: self.encryption, octets }
    }

    fn for_usage(&self, usage: u32, what: u8) -> Self {
        let [a, b, c, d] = usage.to_be_bytes();
        self.derived(&[a, b, c, d, what])
    }

    /// A keyed checksum (RFC 3961 section 5.4).
    pub(crate) fn checksum(&self, usage: u32, parts: &[&[u8]]) -> [u8; MAC] {
        mac(&self.for_usage(usage, 0x99), parts)
    }

    pub(crate) fn check(&self, usage: u32, parts: &[&[u8]], checksum: &[u8]) -> Result<(), WrongKey> {
        if bool::from(self.checksum(usage, parts).ct_eq(checksum)) { Ok(()) } else { Err(WrongKey) }
    }

    pub(crate) fn sealing(&self, usage: u32) -> Sealing {
        Sealing { cipher: Cipher::new(&self.for_usage(usage, 0xaa)), integrity: self.for_usage(usage, 0x55) }
    }

    pub(crate) fn encrypt(&self, usage: u32, plain: &[u8], random: Random) -> Vec<u8> {
        self.sealing(usage).encrypt(&[plain], random)
    }

    pub(crate) fn decrypt(&self, usage: u32, encrypted: &[u8]) -> Result<Zeroizing<Vec<u8>>, WrongKey> {
        let mut octets = Zeroizing::new(encrypted.to_vec());
        let plain = self.sealing(usage).decrypt(&mut octets)?;
        Ok(Zeroizing::new(octets.get(plain).unwrap_or_default().to_vec()))
    }
}

/// The two keys of one purpose (RFC 3961 section 5.3), made once where much is sealed.
pub(crate) struct Sealing {
    cipher: Cipher,
    integrity: Key,
}

impl Sealing {
    pub fn encrypt(&self, parts: &[&[u8]], random: Random) -> Vec<u8> {
        let length = CONFOUNDER + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut octets = Vec::with_capacity(length + MAC);
        octets.resize(CONFOUNDER, 0);
        random(&mut octets);
        parts.iter().for_each(|part| octets.extend_from_slice(part));
        let mac = mac(&self.integrity, &[&octets]);
        self.cipher.encrypt(&mut octets);
        octets.extend_from_slice(&mac);
        octets
    }

    /// In place; where the plain text is then.
    pub fn decrypt(&self, octets: &mut [u8]) -> Result<Range<usize>, WrongKey> {
        let end = octets.len().checked_sub(MAC).filter(|end| *end >= CONFOUNDER).ok_or(WrongKey)?;
        let (content, found) = octets.split_at_mut(end);
        self.cipher.decrypt(content);
        if !bool::from(mac(&self.integrity, &[content]).ct_eq(found)) {
            return Err(WrongKey);
        }
        Ok(CONFOUNDER..end)
    }
}

fn mac(key: &Key, parts: &[&[u8]]) -> [u8; MAC] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key.octets()).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    let whole: [u8; 20] = mac.finalize().into_bytes().into();
    *whole.first_chunk().expect("12 of 20 octets")
}

/// Repeats the octets, each time 13 bits further to the right, and adds what stands one above the other in 128 bits (RFC 3961
/// section 5.1).
fn n_fold(octets: &[u8]) -> [u8; BLOCK] {
    let whole = octets.len() * BLOCK / gcd(octets.len(), BLOCK);
    let bits = octets.len() * 8;
    let bit = |at: usize| octets.get(at / 8).map_or(0, |octet| octet >> (7 - at % 8) & 1);
    // Octet `at` of the row of copies: copy number n is rotated by 13 n.
    let octet = |at: usize| {
        let (copy, place) = (at / octets.len(), at % octets.len() * 8);
        let from = |index: usize| (place + index + bits * 13 - 13 * copy % bits) % bits;
        (0..8).fold(0_u8, |value, index| value << 1 | bit(from(index)))
    };
    let mut sum = [0_u8; BLOCK];
    let mut carry = 0_u32;
    for column in (0..BLOCK).rev() {
        let rows = (column..whole).step_by(BLOCK).map(|at| u32::from(octet(at)));
        carry += rows.sum::<u32>();
        sum[column] = carry as u8;
        carry >>= 8;
    }
    // In one's complement what runs over comes in again on the right.
    for place in sum.iter_mut().rev() {
        carry += u32::from(*place);
        *place = carry as u8;
        carry >>= 8;
    }
    sum
}

fn gcd(one: usize, other: usize) -> usize {
    if other == 0 { one } else { gcd(other, one % other) }
}

enum Cipher {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
}

impl Cipher {
    fn new(key: &Key) -> Self {
        const LENGTH: &str = "a key has the length of its encryption";
        match key.encryption {
            Encryption::Aes128 => Self::Aes128(Box::new(KeyInit::new_from_slice(key.octets()).expect(LENGTH))),
            Encryption::Aes256 => Self::Aes256(Box::new(KeyInit::new_from_slice(key.octets()).expect(LENGTH))),
        }
    }

    fn encrypt_block(&self, block: &mut [u8; BLOCK]) {
        match self {
            Self::Aes128(cipher) => cipher.encrypt_block(block.into()),
            Self::Aes256(cipher) => cipher.encrypt_block(block.into()),
        }
    }

    fn decrypt_block(&self, block: &mut [u8; BLOCK]) {
        match self {
            Self::Aes128(cipher) => cipher.decrypt_block(block.into()),
            Self::Aes256(cipher) => cipher.decrypt_block(block.into()),
        }
    }

    /// CBC with the last two blocks exchanged and the last one cut (RFC 3962 section 5), from a vector of zeros. Of one block at least.
    fn encrypt(&self, octets: &mut [u8]) {
        let rest = octets.len() % BLOCK;
        let (blocks, tail) = octets.as_chunks_mut::<BLOCK>();
        let mut last = [0; BLOCK];
        for block in blocks.iter_mut() {
            xor(block, &last);
            self.encrypt_block(block);
            last = *block;
        }
        match (blocks, tail) {
            ([.., one, other], []) => std::mem::swap(one, other),
            ([.., block], tail) if rest > 0 => {
                let mut end = [0; BLOCK];
                end.iter_mut().zip(tail.iter()).for_each(|(place, octet)| *place = *octet);
                xor(&mut end, &last);
                self.encrypt_block(&mut end);
                tail.iter_mut().zip(block.iter()).for_each(|(place, octet)| *place = *octet);
                *block = end;
            }
            _ => {}
        }
    }

    fn decrypt(&self, octets: &mut [u8]) {
        let (blocks, tail) = octets.as_chunks_mut::<BLOCK>();
        let (plain, ends) = match (blocks, tail) {
            ([plain @ .., one, other], []) => (plain, Some((one, other.as_mut_slice()))),
            ([plain @ .., one], tail) if !tail.is_empty() => (plain, Some((one, tail))),
            (blocks, _) => (blocks, None),
        };
        let mut before = [0; BLOCK];
        for block in plain {
            let sent = *block;
            self.decrypt_block(block);
            xor(block, &before);
            before = sent;
        }
        let Some((one, other)) = ends else { return };
        // What the last block was before it was cut: its end is that of the block that came before it is added.
        self.decrypt_block(one);
        let mut cut = *one;
        cut.iter_mut().zip(other.iter()).for_each(|(place, octet)| *place = *octet);
        other.iter_mut().zip(one.iter()).for_each(|(place, octet)| *place ^= octet);
        self.decrypt_block(&mut cut);
        xor(&mut cut, &before);
        *one = cut;
    }
}

fn xor(block: &mut [u8; BLOCK], with: &[u8; BLOCK]) {
    block.iter_mut().zip(with).for_each(|(place, octet)| *place ^= octet);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    /// Not random, so that what comes out can be compared.
    pub(crate) fn counted(octets: &mut [u8]) {
        (1..).zip(octets).for_each(|(number, place)| *place = number);
    }

    #[test]
    fn folding_is_that_of_rfc_3961() {
        // Appendix A.1, those of 128 bits
        for (input, folded) in
            [("kerberos", "6b65726265726f737b9b5b2b93132b93"), ("Q", "518a54a215a8452a518a54a215a8452a")]
        {
            assert_eq!(HEXLOWER.encode(&n_fold(input.as_bytes())), folded, "{input}");
        }
    }

    #[test]
    fn keys_of_passwords_are_those_of_rfc_3962() {
        // Appendix B
        let salt = b"ATHENA.MIT.EDUraeburn".as_slice();
        let long = ["X".repeat(64), "X".repeat(65)];
        let clef = "\u{1d11e}".as_bytes();
        for (iterations, password, salt, short, whole) in [
            (
                1,
                b"password".as_slice(),
                salt,
                "42263c6e89f4fc28b8df68ee09799f15",
                "fe697b52bc0d3ce14432ba036a92e65bbb52280990a2fa27883998d72af30161",
            ),
            (
                2,
                b"password",
                salt,
                "c651bf29e2300ac27fa469d693bdda13",
                "a2e16d16b36069c135d5e9d2e25f896102685618b95914b467c67622225824ff",
            ),
            (
                1200,
                b"password",
                salt,
                "4c01cd46d632d01e6dbe230a01ed642a",
                "55a6ac740ad17b4846941051e1e8b0a7548d93b0ab30a8bc3ff16280382b8c2a",
            ),
            (
                5,
                b"password",
                &[0x12, 0x34, 0x56, 0x78, 0x78, 0x56, 0x34, 0x12],
                "e9b23d52273747dd5c35cb55be619d8e",
                "97a4e786be20d81a382d5ebc96d5909cabcdadc87ca48f574504159f16c36e31",
            ),
            (
                1200,
                long[0].as_bytes(),
                b"pass phrase equals block size",
                "59d1bb789a828b1aa54ef9c2883f69ed",
                "89adee3608db8bc71f1bfbfe459486b05618b70cbae22092534e56c553ba4b34",
            ),
            (
                1200,
                long[1].as_bytes(),
                b"pass phrase exceeds block size",
                "cb8005dc5f90179a7f02104c0018751d",
                "d78c5c9cb872a8c9dad4697f0bb5b2d21496c82beb2caeda2112fceea057401b",
            ),
            (
                50,
                clef,
                b"EXAMPLE.COMpianist",
                "f149c1f2e154a73452d43e7fe62a56e5",
                "4b6d9839f84406df1f09cc166db4b83c571848b784a3d6bdc346589a3e393f9e",
            ),
        ] {
            let key = |encryption| HEXLOWER.encode(Key::of_password(encryption, password, salt, iterations).octets());
            assert_eq!(key(Encryption::Aes128), short, "{iterations}");
            assert_eq!(key(Encryption::Aes256), whole, "{iterations}");
        }
    }

    #[test]
    fn ciphertext_is_stolen_as_in_rfc_3962() {
        // Appendix B
        let cipher = Cipher::new(&Key::new(Encryption::Aes128, b"chicken teriyaki").expect("16 octets"));
        let text = b"I would like the General Gau's Chicken, please, and wonton soup.";
        for (length, encrypted) in [
            (17, "c6353568f2bf8cb4d8a580362da7ff7f97"),
            (31, "fc00783e0efdb2c1d445d4c8eff7ed2297687268d6ecccc0c07b25e25ecfe5"),
            (32, "39312523a78662d5be7fcbcc98ebf5a897687268d6ecccc0c07b25e25ecfe584"),
            (47, "97687268d6ecccc0c07b25e25ecfe584b3fffd940c16a18c1b5549d2f838029e39312523a78662d5be7fcbcc98ebf5"),
            (48, "97687268d6ecccc0c07b25e25ecfe5849dad8bbb96c4cdc03bc103e1a194bbd839312523a78662d5be7fcbcc98ebf5a8"),
            (
                64,
                "97687268d6ecccc0c07b25e25ecfe58439312523a78662d5be7fcbcc98ebf5a84807efe836ee89a526730dbc2f7bc8409dad8bbb96c4cdc03bc103e1a194bbd8",
            ),
        ] {
            let mut octets = text[..length].to_vec();
            cipher.encrypt(&mut octets);
            assert_eq!(HEXLOWER.encode(&octets), encrypted);
            cipher.decrypt(&mut octets);
            assert_eq!(octets, text[..length]);
        }
    }

    #[test]
    fn keys_have_the_length_of_their_encryption() {
        assert!(Key::new(Encryption::Aes256, &[1; 16]).is_none() && Key::new(Encryption::Aes128, &[1; 32]).is_none());
        assert_eq!(Encryption::of_number(23), None, "RC4");
    }

    proptest! {
        #[test]
        fn what_is_encrypted_is_read_with_the_key_for_the_purpose_and_unchanged(
            plain in proptest::collection::vec(any::<u8>(), 0..100),
            usage: u32,
            at: prop::sample::Index,
        ) {
            for encryption in Encryption::ALL {
                let key = Key::random(encryption, counted);
                let sealed = key.encrypt(usage, &plain, counted);
                prop_assert_eq!(key.decrypt(usage, &sealed).map(|it| it.to_vec()), Ok(plain.clone()));
                prop_assert!(key.decrypt(usage.wrapping_add(1), &sealed).is_err());
                let mut changed = sealed.clone();
                changed[at.index(sealed.len())] ^= 1;
                prop_assert!(key.decrypt(usage, &changed).is_err());
                prop_assert!(key.decrypt(usage, &sealed[..at.index(sealed.len())]).is_err());
            }
        }
    }
}
