//! Leadership of one among many, as a key of a map that dies unless it is renewed. A lease chooses who works; it does not fence: the
//! store's epoch does.

use crate::Shutdown;
use crate::bus::Map;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A place to stand for. The map's time to live must equal `ttl`.
pub struct Lease {
    pub map: Arc<dyn Map>,
    pub key: String,
    /// Who we are, for people who look: it stands in the map.
    pub me: String,
    pub ttl: Duration,
}

/// One term of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The revision under which the lease was taken.
    pub token: u64,
}

impl Lease {
    /// Stands for leadership until the process drains; runs `lead` once a term. The future is dropped when the term is lost or the
    /// process drains; when it ends by itself the lease is given back and stood for again.
    pub async fn run<F, Work>(self, shutdown: Shutdown, mut lead: F)
    where
        F: FnMut(Leadership) -> Work + Send,
        Work: Future<Output = ()> + Send,
    {
        let _ = (shutdown, &mut lead, self.key, self.me, self.ttl, self.map);
        todo!()
    }
}
