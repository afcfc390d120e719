//! When a directory is run by itself. Pure: the moment is an argument.

use domain::ObjectName;
use domain::settings::Settings;
use std::time::Duration;
use tokio::time::Instant;

/// A run that the store did not let begin or go on is tried again after this, whatever the interval.
pub(crate) const RETRY: Duration = Duration::from_secs(15);
/// Who was missed is looked for once more after this, and not before: what hid them, a right or a server that was away for a moment,
/// may be over by then (S-43). No interval is shorter.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What this term of leadership has done so far with one directory.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    started: Option<Instant>,
    retry_from: Option<Instant>,
    again: Option<Instant>,
    missed: Option<Instant>,
}

impl Schedule {
    /// The directory is run now.
    pub(crate) fn started(&mut self, now: Instant) {
        *self = Self { started: Some(now), ..Self::default() };
    }

    /// The store did not take it.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.retry_from = Some(now);
    }

    /// There is something to do at once.
    pub(crate) fn again(&mut self, now: Instant) {
        self.again = Some(now);
    }

    /// A run missed somebody.
    pub(crate) fn missed(&mut self, now: Instant) {
        self.missed = Some(now);
    }

    /// When the directory is run next: counted from start to start, so that an overrun is followed at once (S-00). A new leader begins
    /// at once, because it cannot know how far the last one came. `None` = not by itself (FS-01).
    pub(crate) fn due(&self, settings: &Settings, directory: &ObjectName, now: Instant) -> Option<Instant> {
        if !settings.sync.enabled || !is_on(settings, directory) {
            return None;
        }
        let interval = interval(settings);
        let regular = self.started.map_or(now, |started| started + interval);
        let regular = self.missed.map_or(regular, |missed| missed + LOOK_AGAIN);
        let sooner = self.again.into_iter().chain(self.retry_from.map(|failed| failed + RETRY)).min();
        Some(sooner.map_or(regular, |sooner| regular.min(sooner)))
    }
}

pub(crate) fn interval(settings: &Settings) -> Duration {
    Duration::from_secs(60) * settings.sync.interval_minutes.max(1)
}

/// It has an item which is on.
pub(crate) fn is_on(settings: &Settings, directory: &ObjectName) -> bool {
    settings.sync_items.iter().any(|item| item.is_read(false) && item.directory == *directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text).expect("a name")
    }

    fn settings(enabled: bool, items: &[(&str, &str)]) -> Settings {
        let item = |(place, (directory, state)): (usize, &(&str, &str))| {
            serde_json::json!({
                "name": format!("item{place}"), "directory": directory, "state": state, "source": { "kind": "domain" },
            })
        };
        let items: Vec<_> = items.iter().enumerate().map(item).collect();
        serde_json::from_value(serde_json::json!({
            "sync": { "enabled": enabled, "interval_minutes": 5 }, "sync_item": items,
        }))
        .expect("settings")
    }

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    #[test]
    fn runs_are_counted_from_start_to_start_and_an_overrun_is_followed_at_once() {
        // S-00, FS-02
        let start = Instant::now();
        let (on, corp) = (settings(true, &[("corp", "on")]), name("corp"));
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(&on, &corp, start), Some(start), "a new leader begins at once");
        schedule.started(start);
        assert_eq!(schedule.due(&on, &corp, start + minutes(1)), Some(start + minutes(5)));
        let late = start + minutes(12);
        assert!(schedule.due(&on, &corp, late).is_some_and(|due| due <= late), "a longer run is followed at once");
        schedule.started(late);
        assert_eq!(schedule.due(&on, &corp, late), Some(late + minutes(5)), "and missed runs are not made up for");
    }

    #[test]
    fn nothing_runs_by_itself_when_it_is_off_or_no_item_of_the_directory_is_on() {
        // FS-01
        let now = Instant::now();
        for settings in [
            settings(false, &[("corp", "on")]),
            settings(true, &[("corp", "off"), ("branch", "on")]),
            settings(true, &[("corp", "preview")]),
            Settings::default(),
        ] {
            assert_eq!(Schedule::default().due(&settings, &name("corp"), now), None);
        }
    }

    #[test]
    fn who_was_missed_is_looked_for_after_a_minute_and_not_before() {
        // S-43
        let start = Instant::now();
        let on = settings(true, &[("corp", "on")]);
        let due = |schedule: &Schedule| schedule.due(&on, &name("corp"), start).map(|due| due - start);
        let mut schedule = Schedule::default();
        schedule.started(start);
        for seconds in [1, 298] {
            schedule.missed(start + Duration::from_secs(seconds));
            assert_eq!(due(&schedule), Some(Duration::from_secs(seconds) + LOOK_AGAIN), "whatever the interval says");
        }
        schedule.started(start + minutes(6));
        assert_eq!(due(&schedule), Some(minutes(11)), "once");
        schedule.missed(start + minutes(6));
        schedule.again(start + minutes(6));
        assert_eq!(due(&schedule), Some(minutes(6)), "what is doubtful is read at once");
    }

    #[test]
    fn what_the_store_did_not_take_is_tried_again_soon() {
        let start = Instant::now();
        let on = settings(true, &[("corp", "on")]);
        let due = |schedule: &Schedule, now| schedule.due(&on, &name("corp"), now);
        let mut schedule = Schedule::default();
        schedule.started(start);
        schedule.failed(start);
        assert_eq!(due(&schedule, start), Some(start + RETRY));
        schedule.started(start + RETRY);
        assert_eq!(due(&schedule, start + RETRY), Some(start + RETRY + minutes(5)));
        schedule.again(start + minutes(1));
        assert_eq!(due(&schedule, start + minutes(1)), Some(start + minutes(1)), "or at once");
        schedule.started(start + minutes(1));
        assert_eq!(due(&schedule, start + minutes(1)), Some(start + minutes(6)), "once");
    }
}
