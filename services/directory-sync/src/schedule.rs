//! When the leader runs by itself. Pure: the moment is an argument.

use domain::settings::{Settings, SyncState};
use std::time::Duration;
use tokio::time::Instant;

/// A run that the store did not let begin or go on is tried again after this, whatever the interval.
const RETRY: Duration = Duration::from_secs(15);

/// What this term of leadership has done so far.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Schedule {
    started: Option<Instant>,
    retry_from: Option<Instant>,
}

impl Schedule {
    /// All items are run now.
    pub(crate) fn started(&mut self, now: Instant) {
        *self = Self { started: Some(now), retry_from: None };
    }

    /// The store did not take it.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.retry_from = Some(now);
    }

    /// When all items are run next: counted from start to start, so that an overrun is followed at once (S-00). A new leader
    /// begins at once, because it cannot know how far the last one came. `None` = not by itself (FS-01).
    pub(crate) fn due(&self, settings: &Settings, now: Instant) -> Option<Instant> {
        let something = settings.sync_items.iter().any(|item| item.state == SyncState::On);
        if !settings.sync.enabled || !something {
            return None;
        }
        let interval = Duration::from_secs(60) * settings.sync.interval_minutes.max(1);
        let regular = self.started.map_or(now, |started| started + interval);
        Some(self.retry_from.map_or(regular, |failed| regular.min(failed + RETRY)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(enabled: bool, state: &str) -> Settings {
        let item = serde_json::json!({
            "name": "staff", "directory": "corp", "state": state, "source": { "kind": "domain" },
        });
        serde_json::from_value(serde_json::json!({
            "sync": { "enabled": enabled, "interval_minutes": 5 }, "sync_item": [item],
        }))
        .expect("settings")
    }

    #[test]
    fn runs_are_counted_from_start_to_start_and_an_overrun_is_followed_at_once() {
        // S-00, FS-02
        let start = Instant::now();
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let on = settings(true, "on");
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(&on, start), Some(start), "a new leader begins at once");
        schedule.started(start);
        assert_eq!(schedule.due(&on, start + minutes(1)), Some(start + minutes(5)));
        let late = start + minutes(12);
        assert!(schedule.due(&on, late).is_some_and(|due| due <= late), "a longer run is followed at once");
        schedule.started(late);
        assert_eq!(schedule.due(&on, late), Some(late + minutes(5)), "and missed runs are not made up for");
    }

    #[test]
    fn nothing_runs_by_itself_when_it_is_off_or_no_item_is_on() {
        // FS-01
        let now = Instant::now();
        assert_eq!(Schedule::default().due(&settings(false, "on"), now), None);
        assert_eq!(Schedule::default().due(&settings(true, "off"), now), None);
        assert_eq!(Schedule::default().due(&Settings::default(), now), None);
    }

    #[test]
    fn what_the_store_did_not_take_is_tried_again_soon() {
        let start = Instant::now();
        let on = settings(true, "on");
        let mut schedule = Schedule::default();
        schedule.started(start);
        schedule.failed(start);
        assert_eq!(schedule.due(&on, start), Some(start + RETRY));
        schedule.started(start + RETRY);
        assert_eq!(schedule.due(&on, start + RETRY), Some(start + RETRY + Duration::from_secs(300)));
    }
}
