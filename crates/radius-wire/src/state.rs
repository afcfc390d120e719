//! The State of our own challenges: sealed, so that any node with the same keys can go on and nobody else can (R-43).
//!
//! ```text
//! version 1 | key id 4 | nonce 12 | AES-256-GCM { transaction 16, user 16, step 2, expires 8 } | tag 16
//! ```
//! The client's id is authenticated with it, so a State taken from one client opens at no other. A State proves that we
//! made it, not that it is unused: steps are counted elsewhere (R-44).

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit, Tag};
use std::collections::BTreeMap;

const VERSION: u8 = 1;
const HEADER_OCTETS: usize = 5;
const NONCE_OCTETS: usize = 12;
const CLEAR_OCTETS: usize = 16 + 16 + 2 + 8;
const TAG_OCTETS: usize = 16;

/// The size of every State of ours, well below the 253 an attribute holds.
pub const SEALED_STATE_OCTETS: usize = HEADER_OCTETS + NONCE_OCTETS + CLEAR_OCTETS + TAG_OCTETS;

/// What a conversation is remembered by. No password and no code is in it (R-46).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub transaction: [u8; 16],
    pub user: [u8; 16],
    pub step: u16,
    pub expires_unix_seconds: u64,
}

/// The keys of all nodes: one seals, all of them open, so that a rotated key serves until its last State expired.
pub struct KeyRing {
    sealing_key: u32,
    keys: BTreeMap<u32, Aes256Gcm>,
}

impl KeyRing {
    pub fn new(key_id: u32, key: &[u8; 32]) -> Self {
        Self { sealing_key: key_id, keys: BTreeMap::from([(key_id, Aes256Gcm::new(key.into()))]) }
    }

    /// A further key that only opens. The sealing key is not replaced by it.
    pub fn also_opening(mut self, key_id: u32, key: &[u8; 32]) -> Self {
        self.keys.entry(key_id).or_insert_with(|| Aes256Gcm::new(key.into()));
        self
    }

    /// `nonce` must be random: the same one twice under one key gives the key away.
    pub fn seal(&self, state: &State, client_id: &[u8], nonce: [u8; NONCE_OCTETS]) -> [u8; SEALED_STATE_OCTETS] {
        let key = self.keys.get(&self.sealing_key).expect("the ring was made with its sealing key");
        let header = header(self.sealing_key);
        let mut clear = state.to_octets();
        let tag = key
            .encrypt_inout_detached((&nonce).into(), &associated_data(header, client_id), clear.as_mut_slice().into())
            .expect("42 octets are not too long for AES-GCM");
        let mut sealed = [0; SEALED_STATE_OCTETS];
        let parts = header.iter().chain(&nonce).chain(&clear).chain(tag.iter());
        sealed.iter_mut().zip(parts).for_each(|(octet, part)| *octet = *part);
        sealed
    }

    /// Ours, unaltered, of this client and not expired: or why not.
    pub fn open(&self, sealed: &[u8], client_id: &[u8], now_unix_seconds: u64) -> Result<State, StateError> {
        let sealed: &[u8; SEALED_STATE_OCTETS] = sealed.try_into().map_err(|_| StateError::NotOurs)?;
        let (version_and_key, rest) = sealed.split_first_chunk::<HEADER_OCTETS>().ok_or(StateError::NotOurs)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_OCTETS>().ok_or(StateError::NotOurs)?;
        let (clear, tag) = rest.split_first_chunk::<CLEAR_OCTETS>().ok_or(StateError::NotOurs)?;
        let tag = Tag::try_from(tag).map_err(|_| StateError::NotOurs)?;
        let [version, key_id @ ..] = *version_and_key;
        if version != VERSION {
            return Err(StateError::NotOurs);
        }
        let key = self.keys.get(&u32::from_be_bytes(key_id)).ok_or(StateError::NotOurs)?;
        let mut clear = *clear;
        key.decrypt_inout_detached(
            nonce.into(),
            &associated_data(*version_and_key, client_id),
            clear.as_mut_slice().into(),
            &tag,
        )
        .map_err(|_| StateError::Altered)?;
        let state = State::from_octets(clear);
        if now_unix_seconds >= state.expires_unix_seconds {
            return Err(StateError::Expired(state));
        }
        Ok(state)
    }
}

/// Why a State is refused. Each ends in Access-Reject, except that one not ours may be a home server's (R-42).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Another form, or a key this node does not have (any more).
    #[error("the State is not ours")]
    NotOurs,
    /// It looks like ours but was changed, or belongs to another client.
    #[error("the State was altered or belongs to another client")]
    Altered,
    /// Ours and genuine, but too late. What it says may be used for the audit, never to go on.
    #[error("the State has expired")]
    Expired(State),
}

impl State {
    fn to_octets(self) -> [u8; CLEAR_OCTETS] {
        let mut octets = [0; CLEAR_OCTETS];
        let (step, expires) = (self.step.to_be_bytes(), self.expires_unix_seconds.to_be_bytes());
        let fields = self.transaction.iter().chain(&self.user).chain(&step).chain(&expires);
        octets.iter_mut().zip(fields).for_each(|(octet, field)| *octet = *field);
        octets
    }

    fn from_octets(octets: [u8; CLEAR_OCTETS]) -> Self {
        let (transaction, rest) = octets.split_first_chunk().expect("42 octets");
        let (user, rest) = rest.split_first_chunk().expect("26 octets");
        let (step, expires) = rest.split_first_chunk().expect("10 octets");
        Self {
            transaction: *transaction,
            user: *user,
            step: u16::from_be_bytes(*step),
            expires_unix_seconds: u64::from_be_bytes(expires.try_into().expect("8 octets")),
        }
    }
}

fn header(key_id: u32) -> [u8; HEADER_OCTETS] {
    let [a, b, c, d] = key_id.to_be_bytes();
    [VERSION, a, b, c, d]
}

/// The header has a fixed size, so no two pairs of header and client id read the same.
fn associated_data(header: [u8; HEADER_OCTETS], client_id: &[u8]) -> Vec<u8> {
    [&header, client_id].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: State =
        State { transaction: [0xa1; 16], user: [0xb2; 16], step: 2, expires_unix_seconds: 1_800_000_000 };
    const BEFORE: u64 = 1_799_999_999;

    fn ring() -> KeyRing {
        KeyRing::new(7, &[1; 32])
    }

    #[test]
    fn a_state_opens_at_every_node_with_the_key() {
        // R-43, R-45
        let sealed = ring().seal(&STATE, b"vpn", [9; 12]);
        assert_eq!(KeyRing::new(7, &[1; 32]).open(&sealed, b"vpn", BEFORE), Ok(STATE));
        const { assert!(SEALED_STATE_OCTETS <= 253) };
    }

    #[test]
    fn a_state_of_the_build_before_opens() {
        // T-11, R-43: nodes of two builds answer each other's challenges while they are exchanged one by one
        let written = "010000000709090909090909090909090965ae866f6f91a760def5ebee0f7c24b62b75cc48862d865485ea82fb5ce54d4f6b47f9d8a0f50e71ae04a1a87514b817f3d647f8d378cd3f957b";
        let sealed = data_encoding::HEXLOWER.decode(written.as_bytes()).expect("hex");
        assert_eq!(ring().open(&sealed, b"vpn", BEFORE), Ok(STATE));
        assert_eq!(data_encoding::HEXLOWER.encode(&ring().seal(&STATE, b"vpn", [9; 12])), written);
    }

    #[test]
    fn a_flip_of_any_bit_is_refused() {
        // R-42, B-23
        let sealed = ring().seal(&STATE, b"vpn", [9; 12]);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(ring().open(&changed, b"vpn", BEFORE).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_state_cut_short_or_lengthened_is_not_ours() {
        // R-42, B-23: every truncation, one octet more, one octet, 253 octets.
        let sealed = ring().seal(&STATE, b"vpn", [9; 12]);
        for length in 0..sealed.len() {
            assert_eq!(ring().open(&sealed[..length], b"vpn", BEFORE), Err(StateError::NotOurs));
        }
        assert_eq!(ring().open(&[sealed.as_slice(), &[0]].concat(), b"vpn", BEFORE), Err(StateError::NotOurs));
        assert_eq!(ring().open(&[1; 253], b"vpn", BEFORE), Err(StateError::NotOurs));
    }

    #[test]
    fn the_state_of_one_client_is_worth_nothing_at_another() {
        // R-42: bound to the client.
        let sealed = ring().seal(&STATE, b"vpn", [9; 12]);
        for client in [b"".as_slice(), b"vp", b"vpn2", b"VPN"] {
            assert_eq!(ring().open(&sealed, client, BEFORE), Err(StateError::Altered));
        }
    }

    #[test]
    fn a_state_expires_at_its_second() {
        // R-42. Even then it says whose it was, for the audit.
        let sealed = ring().seal(&STATE, b"vpn", [9; 12]);
        assert_eq!(ring().open(&sealed, b"vpn", 1_800_000_000), Err(StateError::Expired(STATE)));
        assert_eq!(ring().open(&sealed, b"vpn", u64::MAX), Err(StateError::Expired(STATE)));
    }

    #[test]
    fn a_rotated_key_opens_until_it_is_taken_off_the_ring() {
        // R-42: old key id valid until expiry.
        let old = ring().seal(&STATE, b"vpn", [9; 12]);
        let rotated = KeyRing::new(8, &[2; 32]).also_opening(7, &[1; 32]);
        assert_eq!(rotated.open(&old, b"vpn", BEFORE), Ok(STATE));
        let new = rotated.seal(&STATE, b"vpn", [9; 12]);
        assert_eq!(ring().open(&new, b"vpn", BEFORE), Err(StateError::NotOurs));
        assert_eq!(KeyRing::new(8, &[2; 32]).open(&old, b"vpn", BEFORE), Err(StateError::NotOurs));
        // Another key under the same id: made elsewhere, or forged.
        assert_eq!(KeyRing::new(7, &[3; 32]).open(&old, b"vpn", BEFORE), Err(StateError::Altered));
    }

    #[test]
    fn nothing_of_the_state_is_readable() {
        let sealed = ring().seal(&STATE, b"vpn", [9; 12]);
        assert!(!sealed.windows(4).any(|window| window == [0xa1; 4] || window == [0xb2; 4]));
    }
}
