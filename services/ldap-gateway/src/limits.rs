//! How many connections there may be: in all, of one client, and before a bind from one address, in IPv6 from one /64 (L-05, FL-20).

use service_kit::net::one_source;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// The counts of one process. A connection holds a [`Seat`] as long as it lives.
#[derive(Debug)]
pub struct Limits {
    all_max: usize,
    client_max: usize,
    source_max: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    clients: HashMap<String, usize>,
    unbound: HashMap<IpAddr, usize>,
}

/// Which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    All,
    Client,
    Source,
}

impl Limits {
    pub fn new(all_max: usize, client_max: usize, source_max: usize) -> Arc<Self> {
        Arc::new(Self { all_max, client_max, source_max, counts: Mutex::default() })
    }

    /// A seat for one connection, not bound yet.
    pub fn sit(self: &Arc<Self>, client: &str, source: IpAddr) -> Result<Seat, Full> {
        let source = one_source(source);
        let mut counts = self.counts.lock().expect("nobody panics while counting");
        if counts.all >= self.all_max {
            return Err(Full::All);
        }
        if counts.clients.get(client).is_some_and(|count| *count >= self.client_max) {
            return Err(Full::Client);
        }
        if counts.unbound.get(&source).is_some_and(|count| *count >= self.source_max) {
            return Err(Full::Source);
        }
        counts.all += 1;
        *counts.clients.entry(client.to_owned()).or_default() += 1;
        *counts.unbound.entry(source).or_default() += 1;
        Ok(Seat { limits: Arc::clone(self), client: client.to_owned(), source, bound: false })
    }

    /// A place for a connection of a balancer, until it has said for whom: it counts to nobody but to all.
    pub fn wait(self: &Arc<Self>) -> Result<Waiting, Full> {
        let mut counts = self.counts.lock().expect("nobody panics while counting");
        if counts.all >= self.all_max {
            return Err(Full::All);
        }
        counts.all += 1;
        Ok(Waiting(Arc::clone(self)))
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().expect("nobody panics while counting"));
    }
}

/// The place of a connection that is nobody's yet.
#[derive(Debug)]
pub struct Waiting(Arc<Limits>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.change(|counts| counts.all -= 1);
    }
}

/// One connection's place in the counts.
#[derive(Debug)]
pub struct Seat {
    limits: Arc<Limits>,
    client: String,
    source: IpAddr,
    bound: bool,
}

impl Seat {
    pub fn set_bound(&mut self, bound: bool) {
        if std::mem::replace(&mut self.bound, bound) == bound {
            return;
        }
        // A connection that loses its bind counts again, over the bound if need be: it is there already.
        self.limits.change(|counts| match bound {
            true => leave(&mut counts.unbound, &self.source),
            false => *counts.unbound.entry(self.source).or_default() += 1,
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.limits.change(|counts| {
            counts.all -= 1;
            leave(&mut counts.clients, self.client.as_str());
            if !self.bound {
                leave(&mut counts.unbound, &self.source);
            }
        });
    }
}

fn leave<K, Q>(counts: &mut HashMap<K, usize>, key: &Q)
where
    K: Eq + Hash + std::borrow::Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    let Some(count) = counts.get_mut(key) else { return };
    *count -= 1;
    if *count == 0 {
        counts.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_bound_connection_makes_room_for_its_source_and_a_closed_one_for_everybody() {
        // FL-20, L-05
        let limits = Limits::new(3, 2, 1);
        let mut first = limits.sit("gitlab", HERE).expect("the first one");
        assert_eq!(limits.sit("gitlab", HERE).err(), Some(Full::Source));
        first.set_bound(true);
        let second = limits.sit("gitlab", HERE).expect("the first one is bound");
        assert_eq!(limits.sit("gitlab", "10.0.0.1".parse().expect("an address")).err(), Some(Full::Client));
        let other = limits.sit("other", "10.0.0.1".parse().expect("an address")).expect("another client");
        assert_eq!(limits.sit("third", "10.0.0.2".parse().expect("an address")).err(), Some(Full::All));
        drop((first, second, other));
        let counts = limits.counts.lock().expect("counts");
        assert!(counts.all == 0 && counts.clients.is_empty() && counts.unbound.is_empty());
    }

    #[test]
    fn whoever_is_not_named_yet_counts_to_all_and_to_no_source() {
        // L-05, FB-10
        let limits = Limits::new(2, 2, 1);
        let waiting = [limits.wait().expect("the first"), limits.wait().expect("the second")];
        assert_eq!(limits.wait().err(), Some(Full::All));
        drop(waiting);
        let seat = limits.sit("gitlab", HERE).expect("nobody has a seat");
        assert_eq!(limits.sit("gitlab", HERE).err(), Some(Full::Source));
        drop((seat, limits.wait().expect("one more in all")));
        assert_eq!(limits.counts.lock().expect("counts").all, 0);
    }

    #[test]
    fn a_host_of_ipv6_counts_once_whatever_addresses_it_takes() {
        // L-05
        let limits = Limits::new(10, 10, 2);
        let sit = |address: &str| limits.sit("gitlab", address.parse().expect("an address"));
        let mut seats = vec![sit("2001:db8::1").expect("a seat"), sit("2001:db8::2").expect("another")];
        assert_eq!(sit("2001:db8::ffff:1").err(), Some(Full::Source));
        seats.push(sit("2001:db8:0:1::1").expect("another network"));
        seats[0].set_bound(true);
        seats.push(sit("2001:db8::3").expect("one of them is bound"));
        assert_eq!(sit("2001:db8::1").err(), Some(Full::Source));
        drop(seats);
        assert!(limits.counts.lock().expect("counts").unbound.is_empty());
    }

    #[test]
    fn a_connection_that_loses_its_bind_counts_to_its_source_again() {
        let limits = Limits::new(10, 10, 1);
        let mut seat = limits.sit("gitlab", HERE).expect("a seat");
        seat.set_bound(true);
        seat.set_bound(false);
        assert_eq!(limits.sit("gitlab", HERE).err(), Some(Full::Source));
    }
}
