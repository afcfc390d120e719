//! A key of this part that must survive and be the same on every node: 32 random octets, made at the first need and kept sealed in
//! the store, where the first one that was put stays.

use crate::budget::{Budget, not_understood};
use domain::Secret;
use proto::user_store::{GetSealedRequest, PutSealedRequest, commit_server::Commit};
use tokio::sync::OnceCell;
use tonic::Status;
use zeroize::Zeroizing;

pub const KEY_BYTES: usize = 32;
/// A random number is no key of its curve once in 2^32 times.
const DRAWS_MAX: usize = 8;

pub struct SealedKey {
    name: &'static str,
    fits: fn(&[u8; KEY_BYTES]) -> bool,
    known: OnceCell<Zeroizing<[u8; KEY_BYTES]>>,
}

impl SealedKey {
    /// `fits`: which octets are a key.
    pub const fn new(name: &'static str, fits: fn(&[u8; KEY_BYTES]) -> bool) -> Self {
        Self { name, fits, known: OnceCell::const_new() }
    }

    /// The key, made now if there is none. Asked of the store once in the life of the process.
    pub async fn of(
        &self,
        commit: &dyn Commit,
        randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
        budget: Budget,
    ) -> Result<&[u8; KEY_BYTES], Status> {
        let known = self.known.get_or_try_init(|| self.kept(commit, randomness, budget)).await?;
        Ok(known)
    }

    async fn kept(
        &self,
        commit: &dyn Commit,
        randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
        budget: Budget,
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, Status> {
        let get = service_kit::grpc::idempotent(GetSealedRequest { name: self.name.to_owned() });
        let found = budget.ask("get sealed", get, |request| commit.get_sealed(request)).await?;
        if let Some(value) = found.value {
            return self.read(value.into());
        }
        let new = Secret::new(self.drawn(randomness)?.to_vec());
        let put = PutSealedRequest { name: self.name.to_owned(), value: Some(new.into()) };
        let kept = budget.ask("put sealed", put, |request| commit.put_sealed(request)).await?;
        tracing::info!(key = self.name, "a key was made");
        self.read(kept.value.unwrap_or_default().into())
    }

    fn drawn(
        &self,
        randomness: fn(&mut [u8]) -> Result<(), getrandom::Error>,
    ) -> Result<Zeroizing<[u8; KEY_BYTES]>, Status> {
        let mut octets = Zeroizing::new([0; KEY_BYTES]);
        for _ in 0..DRAWS_MAX {
            randomness(octets.as_mut()).map_err(|error| no_key(self.name, &error.to_string()))?;
            if (self.fits)(&octets) {
                return Ok(octets);
            }
        }
        Err(no_key(self.name, "the random octets are no key, again and again"))
    }

    fn read(&self, value: Secret) -> Result<Zeroizing<[u8; KEY_BYTES]>, Status> {
        let octets: Option<[u8; KEY_BYTES]> = value.expose().try_into().ok();
        octets.filter(self.fits).map(Zeroizing::new).ok_or_else(|| not_understood("sealed key"))
    }
}

fn no_key(key: &'static str, error: &str) -> Status {
    tracing::error!(key, error, "a key could not be made");
    Status::internal(domain::Reason::InternalError.code())
}
