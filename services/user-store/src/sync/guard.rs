//! How many users a run may disable or remove by itself (S-40, S-42, FS-06). Pure.

use domain::settings::SyncSchedule;

/// Fewer leavers than this are no mass removal, whatever their share.
const SHARE_COUNTS_FROM: u64 = 3;

/// What a complete run found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Users the item had before the run.
    pub known: u64,
    /// Users of the item the run saw.
    pub seen: u64,
    /// Users it would disable or remove.
    pub leavers: u64,
}

/// Must these leavers wait for an administrator?
pub fn must_wait(schedule: &SyncSchedule, found: Found) -> bool {
    if found.leavers == 0 {
        return false;
    }
    let nobody_seen = found.seen == 0;
    let too_many = found.leavers > u64::from(schedule.approval_over_users);
    let share = found.leavers * 100 > u64::from(schedule.approval_over_percent) * found.known;
    nobody_seen || too_many || (share && found.leavers >= SHARE_COUNTS_FROM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_leave_by_themselves_and_six_wait() {
        // S-40, S-42, FS-06
        let schedule = SyncSchedule::default();
        for (known, seen, leavers, waits) in [
            (1000, 1000, 0, false),
            (1000, 995, 5, false),
            (1000, 994, 6, true),
            (100, 95, 5, false),
            (99, 94, 5, true),
            (40, 37, 3, true),
            (60, 57, 3, false),
            (3, 1, 2, false),
            (3, 0, 3, true),
            (1, 0, 1, true),
            (0, 0, 0, false),
        ] {
            assert_eq!(
                must_wait(&schedule, Found { known, seen, leavers }),
                waits,
                "{leavers} of {known}, {seen} seen"
            );
        }
        let generous = SyncSchedule { approval_over_users: 999, approval_over_percent: 100, ..SyncSchedule::default() };
        assert!(!must_wait(&generous, Found { known: 999, seen: 1, leavers: 999 }));
        assert!(must_wait(&generous, Found { known: 1000, seen: 1, leavers: 1000 }));
    }
}
