//! Encryption of what must not be read from the database: seeds, shared secrets, bind passwords, sessions (V-30).
//!
//! ```text
//! master key (file, 0600) --wraps--> data keys (table data_keys) --seal--> fields, each bound to its place
//! ```
//!
//! A sealed field is `version | data key id | nonce | ciphertext`. Its place (owner, record type, field, version) is
//! authenticated with it: a ciphertext moved to another user opens for nobody. The canary is a known text sealed like
//! any field: a wrong master key is found before anything else is read. The master key is changed by putting a new line on
//! top of its file and starting again: the data keys are wrapped anew, no field is touched.

use crate::sql::{Database, OpenError, Session, args};
use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use domain::Secret;
use hmac::{Hmac, Mac};
use service_kit::secret::KeyFile;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE_OCTETS: usize = 12;
const HEADER_OCTETS: usize = 1 + 4 + NONCE_OCTETS;
const CANARY: &[u8] = b"twinlock canary 1";

/// Where a sealed field stands. What is opened at another place does not open.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The id or name of the record's owner.
    pub owner: &'a str,
    /// `factor`, `secret`, `key_ring`, `session`, `canary`
    pub record: &'static str,
    pub field: &'static str,
}

/// A sealed field that does not open: altered, moved, or of a key that is gone. Never an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealed field of the store does not open")]
pub struct SealBroken;

/// The data keys, open.
pub struct Seal {
    keys: BTreeMap<u32, Aes256Gcm>,
    current: u32,
    /// For keyed hashes of what people type; never leaves the process.
    pepper: Zeroizing<[u8; 32]>,
}

impl Seal {
    /// Opens the data keys of a store, or makes the first one of an empty store. `now_ms` is written beside a new key.
    pub async fn open(database: &Database, file: &KeyFile, now_ms: i64) -> Result<Self, OpenError> {
        let failed = |cause| OpenError::Database { database: "of store.url".into(), cause };
        let mut session = database.write_alone().await.map_err(failed)?;
        let rows = session.rows("SELECT key_id, master, wrapped FROM data_keys ORDER BY key_id", args![]).await;
        let rows = rows.map_err(failed)?;
        let seal = if rows.is_empty() {
            if holds_data(&mut session).await.map_err(failed)? {
                return Err(OpenError::KeysMissing);
            }
            let master = Master::read(file.read_or_create()?);
            Self::first(&mut session, &master, now_ms).await.map_err(failed)?
        } else {
            if !file.path().exists() {
                return Err(OpenError::MasterKeyMissing { path: file.path().to_owned() });
            }
            let master = Master::read(file.read()?);
            let wrong = || OpenError::WrongMasterKey { path: file.path().to_owned() };
            let mut keys = BTreeMap::new();
            let mut pepper = None;
            for row in &rows {
                let key_id: i64 = row.get("key_id").map_err(failed)?;
                let wrapped: Vec<u8> = row.get("wrapped").map_err(failed)?;
                let key_id = u32::try_from(key_id).map_err(|_| wrong())?;
                let key = master.unwrap(key_id, &wrapped).ok_or_else(wrong)?;
                if row.get::<String>("master").map_err(failed)? != master.current_id() {
                    let wrapped = master.wrap(key_id, &key);
                    let sql = "UPDATE data_keys SET master = $1, wrapped = $2 WHERE key_id = $3";
                    session.execute(sql, args![master.current_id(), wrapped, key_id]).await.map_err(failed)?;
                    tracing::info!(key_id, "data key wrapped with the new master key");
                }
                // From the oldest key: a new data key leaves the hashes as they are.
                pepper.get_or_insert_with(|| self::pepper(&key));
                keys.insert(key_id, cipher(&key));
            }
            let current = *keys.keys().next_back().expect("there is a row");
            let seal = Self { keys, current, pepper: pepper.expect("there is a row") };
            let canary = session.row("SELECT sealed FROM canary WHERE id = 1", args![]).await.map_err(failed)?;
            let canary: Vec<u8> = canary.ok_or_else(wrong)?.get("sealed").map_err(failed)?;
            let opened = seal.open_field(CANARY_PLACE, &canary).map_err(|SealBroken| wrong())?;
            if opened.expose() != CANARY {
                return Err(wrong());
            }
            seal
        };
        session.commit().await.map_err(failed)?;
        Ok(seal)
    }

    async fn first(session: &mut Session, master: &Master, now_ms: i64) -> Result<Self, sqlx::Error> {
        let key = Zeroizing::new(random::<32>());
        let sql = "INSERT INTO data_keys (key_id, master, wrapped, created_ms) VALUES ($1, $2, $3, $4)";
        session.execute(sql, args![1_i64, master.current_id(), master.wrap(1, &key), now_ms]).await?;
        let seal = Self { keys: BTreeMap::from([(1, cipher(&key))]), current: 1, pepper: pepper(&key) };
        let canary = seal.seal_field(CANARY_PLACE, CANARY);
        session.execute("INSERT INTO canary (id, sealed) VALUES ($1, $2)", args![1_i64, canary]).await?;
        Ok(seal)
    }

    pub fn pepper(&self) -> &[u8] {
        &*self.pepper
    }

    pub fn seal_field(&self, place: Place<'_>, clear: &[u8]) -> Vec<u8> {
        let cipher = self.keys.get(&self.current).expect("the current key is among the keys");
        let nonce = random::<NONCE_OCTETS>();
        let payload = Payload { msg: clear, aad: &place.authenticated() };
        let sealed = cipher.encrypt(&Nonce::from(nonce), payload).expect("a field is far below AES-GCM's limit");
        let mut field = Vec::with_capacity(HEADER_OCTETS + sealed.len());
        field.push(VERSION);
        field.extend(self.current.to_be_bytes());
        field.extend(nonce);
        field.extend(sealed);
        field
    }

    pub fn open_field(&self, place: Place<'_>, field: &[u8]) -> Result<Secret, SealBroken> {
        let (header, sealed) = field.split_at_checked(HEADER_OCTETS).ok_or(SealBroken)?;
        let (id, nonce) = header[1..].split_at(4);
        let id = u32::from_be_bytes(id.try_into().expect("four octets"));
        let nonce: [u8; NONCE_OCTETS] = nonce.try_into().expect("the rest of the header");
        let cipher = self.keys.get(&id).filter(|_| header[0] == VERSION).ok_or(SealBroken)?;
        let payload = Payload { msg: sealed, aad: &place.authenticated() };
        cipher.decrypt(&Nonce::from(nonce), payload).map(Secret::new).map_err(|_| SealBroken)
    }
}

const CANARY_PLACE: Place<'static> = Place { owner: "store", record: "canary", field: "text" };

impl Place<'_> {
    /// Length-prefixed, so that no two places are the same octets.
    fn authenticated(&self) -> Vec<u8> {
        let mut octets = vec![VERSION];
        for part in [self.owner, self.record, self.field] {
            octets.extend((part.len() as u64).to_be_bytes());
            octets.extend(part.as_bytes());
        }
        octets
    }
}

/// The master keys of the file: the first wraps, all unwrap.
struct Master(Vec<MasterKey>);

struct MasterKey {
    id: String,
    cipher: Aes256Gcm,
}

impl Master {
    fn read(keys: Vec<service_kit::secret::Secret>) -> Self {
        let keys = keys.iter().map(|key| {
            // A name for the key that tells nothing about it: the digest of a random key cannot be searched.
            let digest = Sha256::new().chain_update(b"twinlock master key id").chain_update(key.expose()).finalize();
            let octets: [u8; 32] = key.expose().try_into().expect("the file's keys have 32 octets");
            let octets = Zeroizing::new(octets);
            MasterKey { id: data_encoding::HEXLOWER.encode(&digest[..8]), cipher: cipher(&octets) }
        });
        Self(keys.collect())
    }

    fn current(&self) -> &MasterKey {
        self.0.first().expect("a key file holds at least one key")
    }

    fn current_id(&self) -> &str {
        &self.current().id
    }

    fn wrap(&self, key_id: u32, key: &[u8; 32]) -> Vec<u8> {
        let nonce = random::<NONCE_OCTETS>();
        let payload = Payload { msg: key, aad: &wrapped_place(key_id) };
        let sealed = self.current().cipher.encrypt(&Nonce::from(nonce), payload).expect("a key is short");
        [nonce.as_slice(), &sealed].concat()
    }

    fn unwrap(&self, key_id: u32, wrapped: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let (nonce, sealed) = wrapped.split_at_checked(NONCE_OCTETS)?;
        let nonce: [u8; NONCE_OCTETS] = nonce.try_into().ok()?;
        self.0.iter().find_map(|master| {
            let payload = Payload { msg: sealed, aad: &wrapped_place(key_id) };
            let key = Zeroizing::new(master.cipher.decrypt(&Nonce::from(nonce), payload).ok()?);
            Some(Zeroizing::new(<[u8; 32]>::try_from(key.as_slice()).ok()?))
        })
    }
}

fn wrapped_place(key_id: u32) -> Vec<u8> {
    [b"twinlock data key".as_slice(), &key_id.to_be_bytes()].concat()
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(&(*key).into())
}

fn pepper(key: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(b"twinlock pepper 1");
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// A store without data keys must be a new one: keys that were lost are not made again over data they sealed.
async fn holds_data(session: &mut Session) -> Result<bool, sqlx::Error> {
    for sql in [
        "SELECT id FROM canary LIMIT 1",
        "SELECT 1 AS id FROM secrets LIMIT 1",
        "SELECT 1 AS id FROM factors LIMIT 1",
        "SELECT 1 AS id FROM key_rings LIMIT 1",
        "SELECT 1 AS id FROM audit LIMIT 1",
    ] {
        if session.row(sql, args![]).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Octets from the kernel.
pub fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).expect("the kernel gives random octets");
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal { keys: BTreeMap::from([(7, cipher(&[9; 32]))]), current: 7, pepper: pepper(&[9; 32]) }
    }

    const ANN: Place<'static> = Place { owner: "ann", record: "factor", field: "seed" };

    #[test]
    fn a_field_opens_at_its_own_place_only() {
        // V-30: swapping two users' ciphertexts
        let sealed = seal().seal_field(ANN, b"seed");
        assert_eq!(seal().open_field(ANN, &sealed).expect("its own place").expose(), b"seed");
        for other in [
            Place { owner: "bob", ..ANN },
            Place { record: "secret", ..ANN },
            Place { field: "pin", ..ANN },
            Place { owner: "", record: "annfactor", field: "seed" },
        ] {
            assert_eq!(seal().open_field(other, &sealed), Err(SealBroken));
        }
    }

    #[test]
    fn any_changed_bit_and_any_cut_closes_the_field() {
        // V-30
        let sealed = seal().seal_field(ANN, b"seed");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal().open_field(ANN, &changed), Err(SealBroken), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(seal().open_field(ANN, &sealed[..length]), Err(SealBroken), "{length} octets");
        }
    }

    #[test]
    fn a_data_key_is_unwrapped_by_any_key_of_the_file_and_under_its_own_number_only() {
        let old = Master(vec![MasterKey { id: "old".into(), cipher: cipher(&[1; 32]) }]);
        let wrapped = old.wrap(1, &[5; 32]);
        let new = MasterKey { id: "new".into(), cipher: cipher(&[2; 32]) };
        let both = Master(vec![new, MasterKey { id: "old".into(), cipher: cipher(&[1; 32]) }]);
        assert_eq!(both.unwrap(1, &wrapped).as_deref(), Some(&[5; 32]));
        assert_eq!(both.unwrap(2, &wrapped).as_deref(), None);
        assert_eq!(
            Master(vec![MasterKey { id: "x".into(), cipher: cipher(&[3; 32]) }]).unwrap(1, &wrapped).as_deref(),
            None
        );
    }
}
