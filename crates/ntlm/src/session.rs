//! What follows the logon, signed and sealed (MS-NLMP sections 3.4.3 and 3.4.4, extended session security with keys of 128 bits).

use crate::answer::hmac_md5;
use md5::{Digest, Md5};
use rc4::{KeyInit, Rc4, StreamCipher};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The client's end. Both directions count their messages, so that none can be left out, repeated or exchanged.
pub struct Session {
    ours: Direction,
    theirs: Direction,
}

/// What came is not what the server sealed: somebody else wrote it, or something is missing. Nothing more can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    #[error("a sealed message is shorter than its signature")]
    TooShort,
    #[error("a sealed message has a wrong signature")]
    WrongSignature,
}

struct Direction {
    sign: Zeroizing<[u8; 16]>,
    seal: Rc4,
    /// What `seal` began with.
    key: Zeroizing<[u8; 16]>,
    number: u32,
}

impl Session {
    /// Octets in front of each sealed message.
    pub const SIGNATURE: usize = 16;

    /// What stands for a MIC where nothing is signed: what Windows writes then, whatever it is over.
    pub const NO_MIC: [u8; Self::SIGNATURE] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    pub(crate) fn of_client(key: &[u8; 16]) -> Self {
        Self { ours: Direction::new(key, "client-to-server"), theirs: Direction::new(key, "server-to-client") }
    }

    /// The signature, and behind it the message so that only the server can read it.
    pub fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        let mut sealed = [&[0; Self::SIGNATURE], message].concat();
        let (place, content) = sealed.split_at_mut(Self::SIGNATURE);
        self.ours.seal.apply_keystream(content);
        place.copy_from_slice(&self.ours.signature(message));
        sealed
    }

    /// Over the mechanisms that SPNEGO was offered (RFC 4178 section 5). It takes a number of its own, and the cipher begins anew behind
    /// it (MS-SPNG section 3.3.5.1).
    pub fn mic(&mut self, mechanisms: &[u8]) -> [u8; Self::SIGNATURE] {
        self.ours.mic(mechanisms)
    }

    /// The server's.
    pub fn check_mic(&mut self, mechanisms: &[u8], mic: &[u8]) -> Result<(), SessionError> {
        same(&self.theirs.mic(mechanisms), mic)
    }

    /// In place; what is behind the signature is the message then.
    pub fn unseal(&mut self, sealed: &mut [u8]) -> Result<(), SessionError> {
        let (signature, content) = sealed.split_at_mut_checked(Self::SIGNATURE).ok_or(SessionError::TooShort)?;
        self.theirs.seal.apply_keystream(content);
        same(&self.theirs.signature(content), signature)
    }
}

fn same(expected: &[u8], found: &[u8]) -> Result<(), SessionError> {
    if bool::from(expected.ct_eq(found)) { Ok(()) } else { Err(SessionError::WrongSignature) }
}

impl Direction {
    fn new(key: &[u8; 16], which: &str) -> Self {
        let derived = |what: &str| {
            let magic = format!("session key to {which} {what} key magic constant\0");
            Zeroizing::new(<[u8; 16]>::from(Md5::new().chain_update(key).chain_update(magic).finalize()))
        };
        let key = derived("sealing");
        Self { sign: derived("signing"), seal: cipher(&key), key, number: 0 }
    }

    fn mic(&mut self, octets: &[u8]) -> [u8; 16] {
        let mic = self.signature(octets);
        self.seal = cipher(&self.key);
        mic
    }

    /// Of the next message, whose content has gone through the cipher already.
    fn signature(&mut self, message: &[u8]) -> [u8; 16] {
        let number = self.number.to_le_bytes();
        self.number = self.number.wrapping_add(1);
        let mut checksum = hmac_md5(self.sign.as_slice(), &[&number, message]);
        let (checksum, _) = checksum.split_at_mut(8);
        self.seal.apply_keystream(checksum);
        let mut signature = [0; 16];
        signature[0] = 1; // the version
        signature[4..12].copy_from_slice(checksum);
        signature[12..].copy_from_slice(&number);
        signature
    }
}

fn cipher(key: &[u8; 16]) -> Rc4 {
    Rc4::new_from_slice(key).expect("16 octets are a key")
}

#[cfg(test)]
impl Session {
    /// The other end.
    fn of_server(key: &[u8; 16]) -> Self {
        let Self { ours, theirs } = Self::of_client(key);
        Self { ours: theirs, theirs: ours }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_ms_nlmp_comes_out() {
        // MS-NLMP section 4.2.4.4: GSS_WrapEx
        let plain: Vec<u8> = "Plaintext".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let sealed = Session::of_client(&[0x55; 16]).seal(&plain);
        assert_eq!(
            HEXLOWER.encode(&sealed),
            "010000007fb38ec5c55d497600000000\
             54e50165bf1936dc996020c1811b0f06fb5f"
        );
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_read_once_in_order_and_unchanged(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 1..4),
            at: prop::sample::Index,
        ) {
            let (mut client, mut server) = (Session::of_client(&[9; 16]), Session::of_server(&[9; 16]));
            let mic = server.mic(b"mechanisms");
            prop_assert_eq!(client.check_mic(b"mechanisms", &mic), Ok(()));
            let sealed: Vec<Vec<u8>> = messages.iter().map(|message| server.seal(message)).collect();
            for (message, sealed) in messages.iter().zip(&sealed) {
                let mut octets = sealed.clone();
                prop_assert_eq!(client.unseal(&mut octets), Ok(()));
                prop_assert_eq!(&octets[Session::SIGNATURE..], message.as_slice());
            }
            prop_assert_eq!(client.check_mic(b"mechanisms", &mic), Err(SessionError::WrongSignature), "it has a number");
            let mut again = sealed[0].clone();
            prop_assert_eq!(client.unseal(&mut again), Err(SessionError::WrongSignature));
            let mut changed = sealed[0].clone();
            let place = at.index(changed.len());
            changed[place] ^= 1;
            prop_assert_eq!(Session::of_client(&[9; 16]).unseal(&mut changed), Err(SessionError::WrongSignature));
        }
    }
}
