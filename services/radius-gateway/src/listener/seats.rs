//! How many connections there may be: in all, and from one address, in IPv6 from one /64, of which a single host has every address.

use service_kit::net::one_source;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Half-open ones among them: a handshake has ten seconds.
const CONNECTIONS_MAX: usize = 4_096;
const PER_SOURCE_MAX: usize = 64;

#[derive(Default)]
pub(crate) struct Seats(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    all: usize,
    of_source: HashMap<IpAddr, usize>,
}

/// The place of one connection, as long as it lives.
pub(super) struct Seat {
    seats: Arc<Seats>,
    source: IpAddr,
}

impl Seats {
    /// None: there is no room.
    pub(super) fn sit(self: &Arc<Self>, source: IpAddr) -> Option<Seat> {
        let source = one_source(source);
        let mut counts = self.lock();
        let of_source = counts.of_source.get(&source).copied().unwrap_or_default();
        if counts.all >= CONNECTIONS_MAX || of_source >= PER_SOURCE_MAX {
            return None;
        }
        counts.all += 1;
        counts.of_source.insert(source, of_source + 1);
        drop(counts);
        Some(Seat { seats: self.clone(), source })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.seats.lock();
        counts.all -= 1;
        if let Some(of_source) = counts.of_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                counts.of_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_all_together_have_an_end() {
        // R-91, B-34
        let seats = Arc::new(Seats::default());
        let sit = |source: u32| seats.sit(IpAddr::V4(source.into()));
        let mut taken: Vec<_> = (0..PER_SOURCE_MAX).map(|_| sit(1).expect("room")).collect();
        assert!(sit(1).is_none());
        taken.extend((2..).map_while(sit));
        assert_eq!(taken.len(), CONNECTIONS_MAX);
        taken.swap_remove(0);
        assert!(sit(1).is_some());
        taken.clear();
        assert!(seats.lock().of_source.is_empty() && seats.lock().all == 0);
        let sit = |host: u128| seats.sit(IpAddr::V6((0x2001_0db8_u128 << 96 | host).into()));
        let _taken: Vec<_> = (0..PER_SOURCE_MAX as u128).map(|host| sit(host).expect("room")).collect();
        assert!(sit(0xffff).is_none(), "of the same /64");
        assert!(sit(1 << 64).is_some());
    }
}
