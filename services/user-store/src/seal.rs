//! Encryption of what must not be read from the database: seeds, shared secrets, bind passwords, sessions (V-30).
//!
//! ```text
//! master key (file, 0600) --wraps--> data keys (table data_keys) --seal--> fields, each bound to its place
//! ```
//!
//! A sealed field is `version | data key id | nonce | ciphertext`. Its place (owner, record type, field, version) is
//! authenticated with it: a ciphertext moved to another user opens for nobody. The canary is a known text sealed like
//! any field: a wrong master key is found before anything else is read. The master key is changed by putting a new line on
//! top of its file and starting again: the data keys are wrapped anew, no field is touched. A data key is changed while all
//! nodes work: a new one is written beside the others, seals when every node has read it, and what the old one sealed is
//! sealed anew ([`reseal`]).

mod master;
pub mod reseal;

use crate::rpc::{StoreError, chain};
use crate::sql::{Database, OpenError, Session, args};
use aes_gcm::{
    Aes256Gcm, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use domain::Secret;
use hmac::{Hmac, Mac};
use master::Master;
use service_kit::secret::KeyFile;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE_OCTETS: usize = 12;
const HEADER_OCTETS: usize = 1 + 4 + NONCE_OCTETS;
/// A new data key seals when every node has had time to read it: they look three times as often.
pub const NOTICE_MS: i64 = 30_000;
/// The ring the pepper is kept in. It is no part's.
pub const PEPPER: &str = "pepper";
const PEPPER_PLACE: Place<'static> = Place { owner: "pepper/1", record: "key_ring", field: "key" };
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

/// Whether a key of this node is still one of the store's is not known: what it sealed now might open for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data keys of the store were not read for more than {} s", NOTICE_MS / 1000)]
pub struct KeysStale;

/// The data keys, open.
pub struct Seal {
    keys: RwLock<Arc<DataKeys>>,
    file: KeyFile,
    /// For keyed hashes of what people type; never leaves the process.
    pepper: Zeroizing<[u8; 32]>,
    /// A field named a key that is not known here, or they were not read in time: they are read again at once.
    wanted: Notify,
}

struct DataKeys {
    keys: BTreeMap<u32, DataKey>,
    /// The one that seals. All open.
    current: u32,
    /// When they were asked for. A key is taken away well after every node that reads in time has stopped sealing with it.
    read: Instant,
}

#[derive(Clone)]
struct DataKey {
    cipher: Aes256Gcm,
    created_ms: i64,
}

impl DataKeys {
    /// The newest key that every node has had time to read seals; a single one seals from the beginning.
    fn at(keys: BTreeMap<u32, DataKey>, now_ms: i64, read: Instant) -> Self {
        let known = keys.iter().rev().find(|(_, key)| now_ms - key.created_ms >= NOTICE_MS);
        let current = known.or(keys.first_key_value()).map_or(0, |(id, _)| *id);
        Self { keys, current, read }
    }

    /// The one that seals, if it is still known to be among the store's.
    fn sealing(&self) -> Result<&Aes256Gcm, KeysStale> {
        let in_time = self.read.elapsed() <= Duration::from_millis(NOTICE_MS.unsigned_abs());
        self.keys.get(&self.current).filter(|_| in_time).map(|key| &key.cipher).ok_or(KeysStale)
    }
}

impl Seal {
    /// Opens the data keys of a store, or makes the first one of an empty store. `now_ms` is written beside a new key.
    pub async fn open(database: &Database, file: &KeyFile, now_ms: i64) -> Result<Self, OpenError> {
        let failed = |cause| OpenError::Database { database: "of store.url".into(), cause };
        let fresh = |KeysStale| OpenError::Slow;
        let mut session = database.write_alone().await.map_err(failed)?;
        let read = Instant::now();
        let rows = session.rows(DATA_KEYS, args![]).await.map_err(failed)?;
        let (keys, oldest) = if rows.is_empty() {
            if holds_data(&mut session).await.map_err(failed)? {
                return Err(OpenError::KeysMissing);
            }
            let master = Master::read(file.read_or_create()?);
            let key = Zeroizing::new(random::<32>());
            insert(&mut session, &master, 1, &key, now_ms).await.map_err(failed)?;
            (BTreeMap::from([(1, DataKey { cipher: cipher(&key), created_ms: now_ms })]), key)
        } else {
            if !file.path().exists() {
                return Err(OpenError::MasterKeyMissing { path: file.path().to_owned() });
            }
            let master = Master::read(file.read()?);
            let wrong = || OpenError::WrongMasterKey { path: file.path().to_owned() };
            let mut keys = BTreeMap::new();
            let mut oldest = None;
            for row in &rows {
                let key_id = u32::try_from(row.get::<i64>("key_id").map_err(failed)?).map_err(|_| wrong())?;
                let wrapped: Vec<u8> = row.get("wrapped").map_err(failed)?;
                let key = master.unwrap(key_id, &wrapped).ok_or_else(wrong)?;
                if row.get::<String>("master").map_err(failed)? != master.current_id() {
                    let wrapped = master.wrap(key_id, &key);
                    let sql = "UPDATE data_keys SET master = $1, wrapped = $2 WHERE key_id = $3";
                    session.execute(sql, args![master.current_id(), wrapped, key_id]).await.map_err(failed)?;
                    tracing::info!(key_id, "data key wrapped with the new master key");
                }
                let created_ms = row.get("created_ms").map_err(failed)?;
                keys.insert(key_id, DataKey { cipher: cipher(&key), created_ms });
                oldest.get_or_insert(key);
            }
            (keys, oldest.expect("there is a row"))
        };
        let new = rows.is_empty();
        let mut seal = Self {
            keys: RwLock::new(Arc::new(DataKeys::at(keys, now_ms, read))),
            file: file.clone(),
            pepper: Zeroizing::new([0; 32]),
            wanted: Notify::new(),
        };
        match new {
            true => {
                let canary = seal.seal_field(CANARY_PLACE, CANARY).map_err(fresh)?;
                let sql = "INSERT INTO canary (id, sealed) VALUES ($1, $2)";
                session.execute(sql, args![1_i64, canary]).await.map_err(failed)?;
            }
            false => seal
                .check_canary(&mut session)
                .await
                .map_err(failed)?
                .map_err(|SealBroken| OpenError::WrongMasterKey { path: file.path().to_owned() })?,
        }
        seal.pepper = match seal.read_pepper(&mut session, &oldest, now_ms).await {
            Ok(pepper) => pepper,
            Err(StoreError::Database(cause)) => return Err(failed(cause)),
            Err(StoreError::KeysStale(stale)) => return Err(fresh(stale)),
            Err(_) => return Err(OpenError::WrongMasterKey { path: file.path().to_owned() }),
        };
        session.commit().await.map_err(failed)?;
        Ok(seal)
    }

    async fn check_canary(&self, session: &mut Session) -> Result<Result<(), SealBroken>, sqlx::Error> {
        let Some(row) = session.row("SELECT sealed FROM canary WHERE id = 1", args![]).await? else {
            return Ok(Err(SealBroken));
        };
        let opened = self.open_field(CANARY_PLACE, &row.get::<Vec<u8>>("sealed")?);
        Ok(opened.and_then(|text| if text.expose() == CANARY { Ok(()) } else { Err(SealBroken) }))
    }

    /// The pepper outlives every data key, so it is kept sealed like any field. A store of before has the one that its oldest
    /// data key makes.
    async fn read_pepper(
        &self,
        session: &mut Session,
        oldest: &[u8; 32],
        now_ms: i64,
    ) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let sql = "SELECT sealed FROM key_rings WHERE purpose = $1 AND key_id = 1";
        if let Some(row) = session.row(sql, args![PEPPER]).await? {
            let opened = self.open_field(PEPPER_PLACE, &row.get::<Vec<u8>>("sealed")?)?;
            return Ok(Zeroizing::new(<[u8; 32]>::try_from(opened.expose()).map_err(|_| SealBroken)?));
        }
        let pepper = self::pepper(oldest);
        let sealed = self.seal_field(PEPPER_PLACE, &*pepper)?;
        let sql = "INSERT INTO key_rings (purpose, key_id, sealed, created_ms) VALUES ($1, 1, $2, $3)";
        session.execute(sql, args![PEPPER, sealed, now_ms]).await?;
        Ok(pepper)
    }

    /// Reads the data keys again: new ones are opened, those that are gone forgotten, and the one that seals is the newest that
    /// every node knows. One that does not open here keeps none of the others from being read.
    pub async fn refresh(&self, database: &Database, now_ms: i64) -> Result<(), StoreError> {
        let read = Instant::now();
        let rows = database.read().await?.rows(DATA_KEYS, args![]).await?;
        let known = self.keys();
        let mut keys = BTreeMap::new();
        let mut master = None;
        let mut shut = None;
        for row in &rows {
            let key_id = crate::users::small(row, "key_id")?;
            if let Some(key) = known.keys.get(&key_id) {
                keys.insert(key_id, key.clone());
                continue;
            }
            if master.is_none() {
                master = Some(self.master()?);
            }
            let opened = master.as_ref().and_then(|it| it.unwrap(key_id, &row.get::<Vec<u8>>("wrapped").ok()?));
            let Some(key) = opened else {
                let file = self.file.path().display();
                tracing::warn!(key_id, %file, "a data key is wrapped by a master key that is not in this node's file: add its line");
                shut = Some(key_id);
                continue;
            };
            keys.insert(key_id, DataKey { cipher: cipher(&key), created_ms: row.get("created_ms")? });
        }
        if keys.is_empty() {
            return Err(StoreError::Broken("no data key of the store opens"));
        }
        let mut keys = DataKeys::at(keys, now_ms, read);
        // The others go over to a newer key, and take away the one that seals here. Rows are in rising order.
        if shut.is_some_and(|key_id| key_id > keys.current) {
            keys.read = known.read;
        }
        *self.keys.write().expect("nobody panics while holding the keys") = Arc::new(keys);
        Ok(())
    }

    fn master(&self) -> Result<Master, StoreError> {
        let keys = self.file.read().map_err(|error| {
            tracing::error!(error = %chain(&error), "the master key file cannot be read");
            StoreError::Broken("the master key file cannot be read")
        })?;
        Ok(Master::read(keys))
    }

    /// A new data key beside the others. It seals when every node has had time to read it.
    pub async fn add_key(&self, session: &mut Session, key_id: u32, now_ms: i64) -> Result<(), StoreError> {
        let key = Zeroizing::new(random::<32>());
        Ok(insert(session, &self.master()?, key_id, &key, now_ms).await?)
    }

    /// Returns when the keys are to be read again at once.
    pub async fn reading_wanted(&self) {
        self.wanted.notified().await;
    }

    /// The key that seals, since when it exists, and how many there are.
    pub fn current(&self) -> (u32, i64, usize) {
        let keys = self.keys();
        let created_ms = keys.keys.get(&keys.current).map_or(0, |key| key.created_ms);
        (keys.current, created_ms, keys.keys.len())
    }

    fn keys(&self) -> Arc<DataKeys> {
        self.keys.read().expect("nobody panics while holding the keys").clone()
    }

    pub fn pepper(&self) -> &[u8] {
        &*self.pepper
    }

    /// Refuses where the keys were not read in time (V-30): they are read at once then.
    pub fn seal_field(&self, place: Place<'_>, clear: &[u8]) -> Result<Vec<u8>, KeysStale> {
        let keys = self.keys();
        let cipher = keys.sealing().inspect_err(|KeysStale| self.wanted.notify_one())?;
        let nonce = random::<NONCE_OCTETS>();
        let payload = Payload { msg: clear, aad: &place.authenticated() };
        let sealed = cipher.encrypt(&Nonce::from(nonce), payload).expect("a field is far below AES-GCM's limit");
        let mut field = Vec::with_capacity(HEADER_OCTETS + sealed.len());
        field.extend(prefix(keys.current));
        field.extend(nonce);
        field.extend(sealed);
        Ok(field)
    }

    /// Whether a field names a data key that is not known here: it may open later, or elsewhere.
    pub fn may_open_later(&self, field: &[u8]) -> bool {
        let id = field.strip_prefix(&[VERSION]).and_then(<[u8]>::first_chunk::<4>);
        id.is_some_and(|id| !self.keys().keys.contains_key(&u32::from_be_bytes(*id)))
    }

    pub fn open_field(&self, place: Place<'_>, field: &[u8]) -> Result<Secret, SealBroken> {
        let (header, sealed) = field.split_at_checked(HEADER_OCTETS).ok_or(SealBroken)?;
        let (id, nonce) = header[1..].split_at(4);
        let id = u32::from_be_bytes(id.try_into().expect("four octets"));
        let nonce: [u8; NONCE_OCTETS] = nonce.try_into().expect("the rest of the header");
        if header[0] != VERSION {
            return Err(SealBroken);
        }
        let keys = self.keys();
        let Some(DataKey { cipher, .. }) = keys.keys.get(&id) else {
            self.wanted.notify_one();
            return Err(SealBroken);
        };
        let payload = Payload { msg: sealed, aad: &place.authenticated() };
        cipher.decrypt(&Nonce::from(nonce), payload).map(Secret::new).map_err(|_| SealBroken)
    }
}

/// What a field begins with that this key sealed.
pub fn prefix(key_id: u32) -> [u8; 5] {
    let [a, b, c, d] = key_id.to_be_bytes();
    [VERSION, a, b, c, d]
}

const DATA_KEYS: &str = "SELECT key_id, master, wrapped, created_ms FROM data_keys ORDER BY key_id";

async fn insert(
    session: &mut Session,
    master: &Master,
    key_id: u32,
    key: &[u8; 32],
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO data_keys (key_id, master, wrapped, created_ms) VALUES ($1, $2, $3, $4)";
    session.execute(sql, args![key_id, master.current_id(), master.wrap(key_id, key), now_ms]).await.map(drop)
}

pub const CANARY_PLACE: Place<'static> = Place { owner: "store", record: "canary", field: "text" };

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

/// So many decimal digits, each as likely as any other.
pub fn digits<const N: usize>() -> Secret {
    let mut digits = Vec::with_capacity(N);
    while digits.len() < N {
        // 250 is the largest multiple of ten in an octet: what is above would make small digits likelier.
        digits.extend(random::<32>().into_iter().filter(|octet| *octet < 250).map(|octet| b'0' + octet % 10));
        digits.truncate(N);
    }
    Secret::new(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        let keys = BTreeMap::from([(7, DataKey { cipher: cipher(&[9; 32]), created_ms: 0 })]);
        Seal {
            keys: RwLock::new(Arc::new(DataKeys::at(keys, 0, Instant::now()))),
            file: KeyFile::new("/nowhere/master.key").expect("a path"),
            pepper: pepper(&[9; 32]),
            wanted: Notify::new(),
        }
    }

    const ANN: Place<'static> = Place { owner: "ann", record: "factor", field: "seed" };

    #[test]
    fn a_field_opens_at_its_own_place_only() {
        // V-30: swapping two users' ciphertexts
        let sealed = seal().seal_field(ANN, b"seed").expect("fresh");
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
        let sealed = seal().seal_field(ANN, b"seed").expect("fresh");
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
    fn a_new_key_seals_when_every_node_has_had_time_to_read_it_and_the_old_one_opens_all_along() {
        // V-30
        let key = |octet: u8, created_ms| DataKey { cipher: cipher(&[octet; 32]), created_ms };
        let keys = || BTreeMap::from([(1, key(1, 1000)), (2, key(2, 500_000))]);
        for (now_ms, current) in [(0, 1), (500_000, 1), (529_999, 1), (530_000, 2), (i64::MAX, 2)] {
            assert_eq!(DataKeys::at(keys(), now_ms, Instant::now()).current, current, "{now_ms}");
        }
        let seal = seal();
        let set = |now_ms| *seal.keys.write().expect("free") = Arc::new(DataKeys::at(keys(), now_ms, Instant::now()));
        set(500_000);
        let old = seal.seal_field(ANN, b"seed").expect("fresh");
        set(530_000);
        let new = seal.seal_field(ANN, b"seed").expect("fresh");
        assert_eq!((&old[..5], &new[..5]), (&prefix(1)[..], &prefix(2)[..]));
        for field in [old, new] {
            assert_eq!(seal.open_field(ANN, &field).expect("either key").expose(), b"seed");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_were_not_read_in_time_open_and_seal_no_more() {
        // V-30: a key may be taken away 90 s after the one that follows it was made
        let seal = seal();
        let sealed = seal.seal_field(ANN, b"seed").expect("just read");
        tokio::time::advance(Duration::from_secs(30)).await;
        seal.seal_field(ANN, b"seed").expect("read in time");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(seal.seal_field(ANN, b"seed"), Err(KeysStale));
        assert_eq!(seal.open_field(ANN, &sealed).expect("it opens all along").expose(), b"seed");
        tokio::time::timeout(Duration::from_secs(1), seal.reading_wanted()).await.expect("they are read at once");
    }
}
