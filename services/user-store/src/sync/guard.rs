//! How many users a run may disable, remove or exempt by itself (S-40, S-42, S-46, FS-06). Pure.

use domain::settings::SyncSchedule;
use std::fmt::{Display, Formatter};

/// Fewer than this are no mass removal, whatever their share.
const SHARE_COUNTS_FROM: u64 = 3;
/// Items that a reason names.
const ITEMS_NAMED: usize = 5;

/// What a complete run found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Users it would disable, remove or exempt.
    pub users: u64,
    /// And those that runs of the hour before disabled or removed.
    pub lately: u64,
    /// Users there were before the run; asked for where [`share_counts`].
    pub known: u64,
    /// Items that had users and have none now.
    pub emptied: Vec<String>,
}

/// Why they wait for an administrator: the first that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// These items have nobody any more.
    Emptied {
        items: Vec<String>,
    },
    Number {
        users: u64,
        lately: u64,
        allowed: u32,
    },
    Share {
        users: u64,
        lately: u64,
        known: u64,
        percent: u32,
    },
}

impl Display for Reason {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Emptied { items } => {
                let named = items.iter().take(ITEMS_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
                match items.len() {
                    1 => write!(out, "the sync item {named} has nobody any more"),
                    ..=ITEMS_NAMED => write!(out, "the sync items {named} have nobody any more"),
                    all => write!(out, "the sync items {named} and {} more have nobody any more", all - ITEMS_NAMED),
                }
            }
            Self::Number { users, lately, allowed } => {
                write!(out, "{} are more than the {allowed} of sync.approval_over_users", Users(*users, *lately))
            }
            Self::Share { users, lately, known, percent } => {
                let users = Users(*users, *lately);
                write!(out, "{users} are more than the {percent} % of {known} of sync.approval_over_percent")
            }
        }
    }
}

/// Of a run, and of the hour before it.
struct Users(u64, u64);

impl Display for Users {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        let Self(users, lately) = self;
        write!(out, "{users} user{}", if *users == 1 { "" } else { "s" })?;
        if *lately > 0 { write!(out, " with {lately} of the hour before") } else { Ok(()) }
    }
}

/// Does it depend on how many users there are? They are not counted for nothing.
pub fn share_counts(schedule: &SyncSchedule, users: u64) -> bool {
    schedule.approval_over_percent > 0 && users >= SHARE_COUNTS_FROM && users <= u64::from(schedule.approval_over_users)
}

/// Must these wait for an administrator, and why?
pub fn must_wait(schedule: &SyncSchedule, found: Found) -> Option<Reason> {
    let Found { users, lately, known, emptied } = found;
    if users == 0 {
        return None;
    }
    let (allowed, percent) = (schedule.approval_over_users, schedule.approval_over_percent);
    let counted = users + lately;
    if !emptied.is_empty() {
        return Some(Reason::Emptied { items: emptied });
    }
    if counted > u64::from(allowed) {
        return Some(Reason::Number { users, lately, allowed });
    }
    let share = counted * 100 > u64::from(percent) * known;
    (share && share_counts(schedule, counted)).then_some(Reason::Share { users, lately, known, percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_leave_by_themselves_and_six_wait() {
        // S-40, S-42, FS-06
        let schedule = SyncSchedule::default();
        for (known, users, emptied, waits) in [
            (1000, 0, false, ""),
            (1000, 5, false, ""),
            (1000, 6, false, "6 users are more than the 5 of sync.approval_over_users"),
            (100, 5, false, ""),
            (99, 5, false, "5 users are more than the 5 % of 99 of sync.approval_over_percent"),
            (40, 3, false, "3 users are more than the 5 % of 40 of sync.approval_over_percent"),
            (60, 3, false, ""),
            (3, 2, false, ""),
            (3, 3, true, "the sync item staff has nobody any more"),
            (1, 1, true, "the sync item staff has nobody any more"),
            (0, 0, true, ""),
        ] {
            let emptied = if emptied { vec!["staff".to_owned()] } else { Vec::new() };
            let found = Found { users, known, emptied, ..Found::default() };
            let why = must_wait(&schedule, found.clone()).map(|why| why.to_string()).unwrap_or_default();
            assert_eq!(why, waits, "{found:?}");
        }
        let few = |approval_over_users, approval_over_percent, users, known| {
            let schedule = SyncSchedule { approval_over_users, approval_over_percent, ..SyncSchedule::default() };
            must_wait(&schedule, Found { users, known, ..Found::default() }).is_some()
        };
        assert!(!few(999, 100, 999, 999));
        assert!(few(999, 100, 1000, 1000));
        assert!(!few(999, 0, 999, 1000), "no share: the number alone decides");
        assert!(few(999, 1, 11, 1000) && !few(999, 1, 10, 1000));
    }

    #[test]
    fn a_reason_says_what_counted() {
        // S-40, S-42
        let schedule = SyncSchedule::default();
        let lately = |users, lately, known| Found { users, lately, known, emptied: Vec::new() };
        let emptied = |count| {
            let emptied = (1..=count).map(|number| format!("item{number}")).collect();
            Found { users: 9, emptied, ..Found::default() }
        };
        for (found, expected) in [
            (lately(1, 5, 1000), "1 user with 5 of the hour before are more than the 5 of sync.approval_over_users"),
            (
                lately(2, 1, 40),
                "2 users with 1 of the hour before are more than the 5 % of 40 of sync.approval_over_percent",
            ),
            (emptied(2), "the sync items item1, item2 have nobody any more"),
            (emptied(5), "the sync items item1, item2, item3, item4, item5 have nobody any more"),
            (emptied(7), "the sync items item1, item2, item3, item4, item5 and 2 more have nobody any more"),
        ] {
            assert_eq!(must_wait(&schedule, found).map(|why| why.to_string()).as_deref(), Some(expected));
        }
        assert_eq!(must_wait(&schedule, lately(0, 9, 1000)), None, "what was done is done");
    }
}
