//! How many users a run may disable, remove or exempt by itself (S-40, S-42, S-46, FS-06). Pure.

use domain::settings::SyncSchedule;

/// Fewer than this are no mass removal, whatever their share.
const SHARE_COUNTS_FROM: u64 = 3;

/// What a complete run found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Users it would disable, remove or exempt.
    pub users: u64,
    /// Users there were before the run; asked for where [`share_counts`].
    pub known: u64,
    /// An item that had users has none now.
    pub emptied: bool,
}

/// Does it depend on how many users there are? They are not counted for nothing.
pub fn share_counts(schedule: &SyncSchedule, users: u64) -> bool {
    schedule.approval_over_percent > 0 && users >= SHARE_COUNTS_FROM && users <= u64::from(schedule.approval_over_users)
}

/// Must these wait for an administrator?
pub fn must_wait(schedule: &SyncSchedule, found: Found) -> bool {
    if found.users == 0 {
        return false;
    }
    let too_many = found.users > u64::from(schedule.approval_over_users);
    let share = found.users * 100 > u64::from(schedule.approval_over_percent) * found.known;
    found.emptied || too_many || (share && share_counts(schedule, found.users))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_leave_by_themselves_and_six_wait() {
        // S-40, S-42, FS-06
        let schedule = SyncSchedule::default();
        for (known, users, emptied, waits) in [
            (1000, 0, false, false),
            (1000, 5, false, false),
            (1000, 6, false, true),
            (100, 5, false, false),
            (99, 5, false, true),
            (40, 3, false, true),
            (60, 3, false, false),
            (3, 2, false, false),
            (3, 3, true, true),
            (1, 1, true, true),
            (0, 0, true, false),
        ] {
            let found = Found { users, known, emptied };
            assert_eq!(must_wait(&schedule, found), waits, "{found:?}");
        }
        let few = |approval_over_users, approval_over_percent, users, known| {
            let schedule = SyncSchedule { approval_over_users, approval_over_percent, ..SyncSchedule::default() };
            must_wait(&schedule, Found { users, known, emptied: false })
        };
        assert!(!few(999, 100, 999, 999));
        assert!(few(999, 100, 1000, 1000));
        assert!(!few(999, 0, 999, 1000), "no share: the number alone decides");
        assert!(few(999, 1, 11, 1000) && !few(999, 1, 10, 1000));
    }
}
