//! Passwords that were refused a moment ago (FB-02): a device that repeats itself must not use up a person's tries.

use domain::{DirectoryRef, Secret};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

const KEPT: Duration = Duration::from_secs(10);
/// Beyond it nothing more is kept, and a repetition costs a bind, as without this.
const KEPT_MAX: usize = 50_000;

/// What this process has seen refused. Of a password it keeps a digest under a key that nobody else has.
pub struct WrongPasswords {
    key: Secret,
    seen: Mutex<HashMap<[u8; 32], Instant>>,
}

/// One password of one person, from one place.
#[derive(Clone, Copy)]
pub struct Attempted<'a> {
    /// Whatever tells places apart, each part on its own: client, station, address.
    pub source: &'a [&'a str],
    pub subject: &'a DirectoryRef,
    pub password: &'a Secret,
}

impl WrongPasswords {
    /// `key` must be random.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key: Secret::new(key), seen: Mutex::default() }
    }

    /// Whether this very password was refused to this person, from there, in the last ten seconds: the answer is the same, and nobody
    /// has to be asked for it.
    pub fn was_refused(&self, attempted: Attempted<'_>, now: Instant) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&self.mark(attempted)).is_some_and(|at| now.duration_since(*at) < KEPT)
    }

    /// The directory has refused it.
    pub fn refused(&self, attempted: Attempted<'_>, now: Instant) {
        let mark = self.mark(attempted);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= KEPT_MAX {
            seen.retain(|_, at| now.duration_since(*at) < KEPT);
        }
        if seen.len() < KEPT_MAX {
            // A repetition does not make it last: after ten seconds the directory is asked again.
            let at = seen.entry(mark).or_insert(now);
            if now.duration_since(*at) >= KEPT {
                *at = now;
            }
        }
    }

    /// Each field behind its length, so that no two read the same.
    fn mark(&self, attempted: Attempted<'_>) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.expose()).expect("HMAC takes a key of any length");
        let id = attempted.subject.id.to_string();
        let whose = [attempted.subject.directory.as_str().as_bytes(), id.as_bytes(), attempted.password.expose()];
        for field in attempted.source.iter().map(|part| part.as_bytes()).chain(whose) {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(id: u8) -> DirectoryRef {
        DirectoryRef {
            directory: "corp".parse().expect("a name"),
            id: format!("entryUUID:00000000-0000-0000-0000-0000000000{id:02}").parse().expect("an id"),
        }
    }

    #[test]
    fn the_same_password_of_the_same_person_from_the_same_place_is_known_for_ten_seconds() {
        // FB-02
        let wrong = WrongPasswords::new([7; 32]);
        let (ann, bob) = (subject(1), subject(2));
        let (typed, other) = (Secret::new("sesame"), Secret::new("sesame2"));
        let tried = Attempted { source: &["vpn", "00-11"], subject: &ann, password: &typed };
        let begun = Instant::now();
        assert!(!wrong.was_refused(tried, begun));
        wrong.refused(tried, begun);
        assert!(wrong.was_refused(tried, begun + KEPT - Duration::from_millis(1)));
        for different in [
            Attempted { source: &["vpn", "00-12"], ..tried },
            Attempted { source: &["vpn0", "0-11"], ..tried },
            Attempted { source: &["wlan", "00-11"], ..tried },
            Attempted { subject: &bob, ..tried },
            Attempted { password: &other, ..tried },
        ] {
            assert!(!wrong.was_refused(different, begun));
        }
        // Heard again meanwhile, it does not last longer.
        wrong.refused(tried, begun + Duration::from_secs(9));
        assert!(!wrong.was_refused(tried, begun + KEPT));
        wrong.refused(tried, begun + KEPT);
        assert!(wrong.was_refused(tried, begun + KEPT + Duration::from_secs(9)));
    }

    #[test]
    fn a_flood_of_wrong_passwords_costs_no_more_than_it_may() {
        let wrong = WrongPasswords::new([7; 32]);
        let (ann, begun) = (subject(1), Instant::now());
        let passwords: Vec<_> = (0..=KEPT_MAX).map(|number| Secret::new(number.to_string())).collect();
        let tried = |number: usize| Attempted { source: &[], subject: &ann, password: &passwords[number] };
        (0..=KEPT_MAX).for_each(|number| wrong.refused(tried(number), begun));
        assert!(wrong.was_refused(tried(KEPT_MAX - 1), begun) && !wrong.was_refused(tried(KEPT_MAX), begun));
        wrong.refused(tried(KEPT_MAX), begun + KEPT);
        assert!(wrong.was_refused(tried(KEPT_MAX), begun + KEPT), "what is old makes room");
    }
}
