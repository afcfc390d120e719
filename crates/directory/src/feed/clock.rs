//! What time it is at a server, and how servers write times.

use super::link::Link;
use super::root::Root;
use crate::read::Incomplete;
use std::time::{SystemTime, UNIX_EPOCH};
use time::{Date, Month, OffsetDateTime, Time};

/// Seconds since 1970 at the server; where it does not tell, here.
pub(super) async fn now(link: &mut Link, root: &Root) -> Result<i64, Incomplete> {
    Ok(told(link, root).await?.unwrap_or_else(ours))
}

/// Seconds since 1970 at the server, where it tells them.
pub(super) async fn told(link: &mut Link, root: &Root) -> Result<Option<i64>, Incomplete> {
    if let Some(time) = root.text("currentTime").and_then(seconds) {
        return Ok(Some(time));
    }
    // 389 Directory Server; OpenLDAP, where it has a monitor and the query account may see it.
    for (dn, attribute) in [("cn=monitor", "currentTime"), ("cn=Current,cn=Time,cn=Monitor", "monitorTimestamp")] {
        let (entry, _) = link.entry(dn, &[attribute]).await?;
        if let Some(time) = entry.and_then(|entry| seconds(entry.first_text(attribute)?)) {
            return Ok(Some(time));
        }
    }
    Ok(None)
}

/// Seconds since 1970 here.
pub(super) fn ours() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Out of GeneralizedTime (RFC 4517 section 3.3.13) in the form all servers write: `20261129154503Z`, perhaps with a fraction.
pub fn seconds(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z')?;
    let (digits, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    if digits.len() != 14 || !all_digits(digits) || !all_digits(fraction) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to)?.parse::<u8>().ok();
    let month = Month::try_from(part(4, 6)?).ok()?;
    let date = Date::from_calendar_date(digits.get(..4)?.parse().ok()?, month, part(6, 8)?).ok()?;
    // A leap second is the last one of its minute.
    let time = Time::from_hms(part(8, 10)?, part(10, 12)?, part(12, 14)?.min(59)).ok()?;
    Some(date.with_time(time).assume_utc().unix_timestamp())
}

/// As GeneralizedTime without its `Z`, so that a fraction can follow.
pub(super) fn written(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds.max(0)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}{:02}{day:02}{hour:02}{minute:02}{second:02}", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_servers_write_them() {
        for (text, expected) in [
            ("19700101000000Z", Some(0)),
            ("20261129154503Z", Some(1_795_967_103)),
            ("20261129154503.0Z", Some(1_795_967_103)),
            ("20261129154503.000012Z", Some(1_795_967_103)),
            ("20161231235960Z", Some(1_483_228_799)),
            ("20240229000000Z", Some(1_709_164_800)),
            ("20230229000000Z", None),
            ("20261129154503", None),
            ("20261129154503+0100", None),
            ("202611291545Z", None),
            ("2026112915450xZ", None),
            ("20261329154503Z", None),
            ("+0261129154503Z", None),
            ("2026112915450\u{e9}Z", None),
            ("20261129154503.xZ", None),
            ("Z", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
            let again = expected.map(written);
            assert_eq!(again.and_then(|text| seconds(&(text + "Z"))), expected);
        }
        assert_eq!(written(-5), "19700101000000");
    }
}
