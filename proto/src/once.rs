//! Keys of mails that more than one part may write: the same key is the same mail.

const WINDOW_MS: i64 = 600_000;
const DAY_MS: i64 = 24 * 3_600_000;

/// "A factor of yours is locked": told by the store when it locks, and by verification when an attempt meets the lock. One mail for
/// a lock: it is known by its end; one without an end, or whose end nobody knows, is told once a day. `whose`: `user`,
/// `administrators`.
pub fn locked(whose: &str, user_id: &str, until_unix_ms: i64, now_unix_ms: i64) -> String {
    let lock = match until_unix_ms {
        ..=0 => format!("day {}", now_unix_ms.div_euclid(DAY_MS)),
        // Pauses of a code come one after the other: those that end together are told together.
        until => format!("until {}", until.div_euclid(WINDOW_MS)),
    };
    format!("locked/{whose}/{user_id}/{lock}")
}

/// "A gateway lets people in while verification is down": one mail for a client in ten minutes.
pub fn fail_open(client: &str, at_unix_ms: i64) -> String {
    format!("fail_open/{client}/{}", at_unix_ms.div_euclid(WINDOW_MS))
}

#[cfg(test)]
mod tests {
    use super::{fail_open, locked};

    #[test]
    fn one_lock_has_one_key_for_whoever_meets_it_whenever() {
        let (hour, minute) = (3_600_000, 60_000);
        assert_eq!(locked("user", "ann", hour, 0), locked("user", "ann", hour, 59 * minute));
        assert_ne!(locked("user", "ann", hour, 0), locked("user", "ann", 3 * hour, 2 * hour), "the next lock");
        assert_ne!(locked("user", "ann", hour, 0), locked("administrators", "ann", hour, 0));
        assert_ne!(locked("user", "ann", hour, 0), locked("user", "bob", hour, 0));
        assert_eq!(locked("user", "ann", -1, 0), locked("user", "ann", 0, hour), "without an end");
        assert_ne!(locked("user", "ann", -1, 0), locked("user", "ann", -1, 25 * hour));
    }

    #[test]
    fn an_outage_has_one_key_in_ten_minutes_for_each_client() {
        let minute = 60_000;
        assert_eq!(fail_open("vpn", 0), fail_open("vpn", 10 * minute - 1));
        assert_ne!(fail_open("vpn", 0), fail_open("vpn", 10 * minute));
        assert_ne!(fail_open("vpn", 0), fail_open("mail", 0));
    }
}
