//! What a search of a client may bring and last, where it is we who say so (L-18).

use crate::connection::{Cleared, Policy};
use crate::search::{SearchHead, SearchRequest};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// A search that a limit of ours has ended, before the directory did (L-18).
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Limited {
    /// Send this to the client; its code is 11.
    pub answer: Bytes,
    /// Send this on the upstream connection: nobody waits for the rest.
    pub abandon: Option<Cleared>,
}

/// Our limits of one search; none where it asks for no more.
#[derive(Clone, Copy, Default)]
pub(crate) struct OwnLimit {
    entries_left: Option<u32>,
    seconds: Option<u32>,
    ends: Option<Instant>,
    /// Reached, and the client knows: what the upstream still says is for nobody.
    pub reached: bool,
}

impl OwnLimit {
    pub fn of(asked: SearchHead, policy: &Policy) -> Self {
        let ours = |asked: u32, ours: u32| (ours != 0 && (asked == 0 || asked > ours)).then_some(ours);
        Self {
            entries_left: ours(asked.size_limit, policy.size_limit),
            seconds: ours(asked.time_limit_seconds, policy.time_limit_seconds),
            ..Self::default()
        }
    }

    pub fn is_none(&self) -> bool {
        self.entries_left.is_none() && self.seconds.is_none()
    }

    /// The search with room for one more, so that whoever reaches a limit is known: what the directory then says is about its own.
    pub fn within(&self, search: SearchRequest) -> SearchRequest {
        let size_limit = self.entries_left.map_or(search.size_limit, one_more);
        let time_limit_seconds = self.seconds.map_or(search.time_limit_seconds, one_more);
        SearchRequest { size_limit, time_limit_seconds, ..search }
    }

    /// The search begins now.
    pub fn begin(&mut self, now: Instant) {
        self.ends = self.seconds.map(|seconds| now + Duration::from_secs(seconds.into()));
    }

    /// When it has to be over, if it is not.
    pub fn ends(&self) -> Option<Instant> {
        self.ends.filter(|_| !self.reached)
    }

    /// Whether one more entry may be brought.
    pub fn takes_entry(&mut self) -> bool {
        let Some(left) = &mut self.entries_left else { return true };
        match left.checked_sub(1) {
            Some(less) => *left = less,
            None => return false,
        }
        true
    }
}

/// RFC 4511 section 4.1.1: maxInt.
fn one_more(limit: u32) -> u32 {
    limit.saturating_add(1).min(0x7fff_ffff)
}
