//! Which controls a directory says it knows (RFC 4512 section 5.1). Kept for a minute: binds ask for it, and the answer is the servers'.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const GOOD_FOR: Duration = Duration::from_secs(60);

/// What was heard last. A question without an answer is not kept.
#[derive(Default)]
pub(crate) struct Controls(Mutex<Option<Heard>>);

struct Heard {
    until: Instant,
    oids: Arc<BTreeSet<String>>,
}

impl Controls {
    pub fn known(&self, now: Instant) -> Option<Arc<BTreeSet<String>>> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.as_ref().filter(|heard| now < heard.until).map(|heard| Arc::clone(&heard.oids))
    }

    pub fn heard(&self, oids: &Arc<BTreeSet<String>>, now: Instant) {
        let heard = Heard { until: now + GOOD_FOR, oids: Arc::clone(oids) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_good_for_a_minute() {
        let (controls, now) = (Controls::default(), Instant::now());
        assert!(controls.known(now).is_none());
        controls.heard(&Arc::new(BTreeSet::from(["1.2.3".to_owned()])), now);
        let after = |seconds| controls.known(now + Duration::from_secs(seconds));
        assert!(after(59).is_some_and(|known| known.contains("1.2.3")));
        assert!(after(60).is_none());
    }
}
