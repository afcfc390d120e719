//! When the leader runs a directory by itself. Pure: the moment is an argument.

use domain::ObjectName;
use domain::settings::{Settings, SyncState};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// A run that the store did not let begin or go on is tried again after this, whatever the interval.
const RETRY: Duration = Duration::from_secs(15);
/// Who was missed is looked for once more after this, and not before: what hid them, a right or a server that was away for a moment,
/// may be over by then (S-43). No interval is shorter.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What this term of leadership has done so far, by directory.
#[derive(Debug, Default)]
pub(crate) struct Schedule(HashMap<ObjectName, Runs>);

#[derive(Debug, Default, Clone, Copy)]
struct Runs {
    started: Option<Instant>,
    retry_from: Option<Instant>,
    again: Option<Instant>,
    missed: Option<Instant>,
}

impl Schedule {
    /// A directory is run now.
    pub(crate) fn started(&mut self, directory: &ObjectName, now: Instant) {
        self.0.insert(directory.clone(), Runs { started: Some(now), ..Runs::default() });
    }

    /// The store did not take it.
    pub(crate) fn failed(&mut self, directory: &ObjectName, now: Instant) {
        self.0.entry(directory.clone()).or_default().retry_from = Some(now);
    }

    /// There is something to do at once.
    pub(crate) fn again(&mut self, directory: &ObjectName, now: Instant) {
        self.0.entry(directory.clone()).or_default().again = Some(now);
    }

    /// A run missed somebody.
    pub(crate) fn missed(&mut self, directory: &ObjectName, now: Instant) {
        self.0.entry(directory.clone()).or_default().missed = Some(now);
    }

    /// The directory that is run next, and when: counted from start to start, so that an overrun is followed at once (S-00). A new
    /// leader begins at once, because it cannot know how far the last one came. `None` = nothing by itself (FS-01).
    pub(crate) fn due(&self, settings: &Settings, now: Instant) -> Option<(Instant, ObjectName)> {
        if !settings.sync.enabled {
            return None;
        }
        let interval = Duration::from_secs(60) * settings.sync.interval_minutes.max(1);
        let due = |directory: ObjectName| {
            let runs = self.0.get(&directory).copied().unwrap_or_default();
            let regular = runs.started.map_or(now, |started| started + interval);
            let regular = runs.missed.map_or(regular, |missed| missed + LOOK_AGAIN);
            let sooner = runs.again.into_iter().chain(runs.retry_from.map(|failed| failed + RETRY)).min();
            (sooner.map_or(regular, |sooner| regular.min(sooner)), directory)
        };
        directories(settings).into_iter().map(due).min_by_key(|(due, _)| *due)
    }
}

/// The directories that have an item which is on, in the order of the items.
pub(crate) fn directories(settings: &Settings) -> Vec<ObjectName> {
    let mut directories: Vec<ObjectName> = Vec::new();
    for item in settings.sync_items.iter().filter(|item| item.state == SyncState::On) {
        if !directories.contains(&item.directory) {
            directories.push(item.directory.clone());
        }
    }
    directories
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
        let on = settings(true, &[("corp", "on")]);
        let mut schedule = Schedule::default();
        let due = |schedule: &Schedule, now| schedule.due(&on, now).map(|(due, _)| due);
        assert_eq!(due(&schedule, start), Some(start), "a new leader begins at once");
        schedule.started(&name("corp"), start);
        assert_eq!(due(&schedule, start + minutes(1)), Some(start + minutes(5)));
        let late = start + minutes(12);
        assert!(due(&schedule, late).is_some_and(|due| due <= late), "a longer run is followed at once");
        schedule.started(&name("corp"), late);
        assert_eq!(due(&schedule, late), Some(late + minutes(5)), "and missed runs are not made up for");
    }

    #[test]
    fn each_directory_has_its_own_turn() {
        let start = Instant::now();
        let on = settings(true, &[("corp", "on"), ("lab", "off"), ("branch", "on"), ("corp", "on")]);
        assert_eq!(directories(&on), [name("corp"), name("branch")]);
        let mut schedule = Schedule::default();
        schedule.started(&name("corp"), start);
        assert_eq!(schedule.due(&on, start), Some((start, name("branch"))));
        schedule.started(&name("branch"), start + minutes(1));
        assert_eq!(schedule.due(&on, start + minutes(1)), Some((start + minutes(5), name("corp"))));
    }

    #[test]
    fn nothing_runs_by_itself_when_it_is_off_or_no_item_is_on() {
        // FS-01
        let now = Instant::now();
        for settings in [
            settings(false, &[("corp", "on")]),
            settings(true, &[("corp", "off")]),
            settings(true, &[("corp", "preview")]),
            Settings::default(),
        ] {
            assert_eq!(Schedule::default().due(&settings, now), None);
        }
    }

    #[test]
    fn who_was_missed_is_looked_for_after_a_minute_and_not_before() {
        // S-43
        let start = Instant::now();
        let on = settings(true, &[("corp", "on")]);
        let due = |schedule: &Schedule| schedule.due(&on, start).map(|(due, _)| due - start);
        let mut schedule = Schedule::default();
        schedule.started(&name("corp"), start);
        for seconds in [1, 298] {
            schedule.missed(&name("corp"), start + Duration::from_secs(seconds));
            assert_eq!(due(&schedule), Some(Duration::from_secs(seconds) + LOOK_AGAIN), "whatever the interval says");
        }
        schedule.started(&name("corp"), start + minutes(6));
        assert_eq!(due(&schedule), Some(minutes(11)), "once");
        schedule.missed(&name("corp"), start + minutes(6));
        schedule.again(&name("corp"), start + minutes(6));
        assert_eq!(due(&schedule), Some(minutes(6)), "what is doubtful is read at once");
    }

    #[test]
    fn what_the_store_did_not_take_is_tried_again_soon() {
        let start = Instant::now();
        let on = settings(true, &[("corp", "on")]);
        let mut schedule = Schedule::default();
        schedule.started(&name("corp"), start);
        schedule.failed(&name("corp"), start);
        assert_eq!(schedule.due(&on, start), Some((start + RETRY, name("corp"))));
        schedule.started(&name("corp"), start + RETRY);
        assert_eq!(schedule.due(&on, start + RETRY), Some((start + RETRY + minutes(5), name("corp"))));
        schedule.again(&name("corp"), start + minutes(1));
        assert_eq!(schedule.due(&on, start + minutes(1)), Some((start + minutes(1), name("corp"))), "or at once");
        schedule.started(&name("corp"), start + minutes(1));
        assert_eq!(schedule.due(&on, start + minutes(1)), Some((start + minutes(6), name("corp"))), "once");
    }
}
