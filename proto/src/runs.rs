//! A run of the synchronisation that somebody asked for, as whoever waits for it sees it.

use crate::user_store::SyncRun;

impl SyncRun {
    /// Somebody asked for it, or for the one that it comes before (FS-09).
    pub fn is_asked_for(&self) -> bool {
        matches!(self.trigger.as_str(), "request" | "check" | "draft")
    }

    /// Nothing more comes of what was asked for. After a list that is the same still comes the run that writes it, and after a leader
    /// that was replaced the next one takes the request up again.
    pub fn has_ended(&self) -> bool {
        match self.state.as_str() {
            "running" | "abandoned" => false,
            "done" => self.trigger != "check",
            _ => true,
        }
    }

    /// Nothing was written, because the list is another one than somebody looked at.
    pub fn list_has_changed(&self) -> bool {
        self.state == "changed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_waits_past_the_list_that_is_compared_first_unless_it_is_another() {
        // FS-09
        for (trigger, state, asked_for, ended) in [
            ("request", "running", true, false),
            ("request", "abandoned", true, false),
            ("request", "done", true, true),
            ("request", "parked", true, true),
            ("check", "running", true, false),
            ("check", "done", true, false),
            ("check", "changed", true, true),
            ("check", "incomplete", true, true),
            ("draft", "done", true, true),
            ("schedule", "done", false, true),
            ("follow", "done", false, true),
        ] {
            let run = SyncRun { trigger: trigger.into(), state: state.into(), ..SyncRun::default() };
            assert_eq!((run.is_asked_for(), run.has_ended()), (asked_for, ended), "{trigger} {state}");
        }
    }
}
