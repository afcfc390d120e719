//! `[[policy]]`: ordered rules that go before the client's own values; the first that fits decides (FV-43).

use crate::facts::User;
use crate::request::{Request, within};
use domain::Method;
use domain::settings::{Client, PolicyRule, TimeOfWeek, When};

/// The first rule that fits.
pub fn first_fitting<'a>(request: &Request<'a>, user: Option<&User<'_>>, now_unix_ms: i64) -> Option<&'a PolicyRule> {
    request.policies.iter().find(|rule| fits(&rule.when, request, user, now_unix_ms))
}

/// All that is named must hold; what is not known does not.
fn fits(when: &When, request: &Request<'_>, user: Option<&User<'_>>, now_unix_ms: i64) -> bool {
    let groups = when.groups.is_empty() || user.is_some_and(|user| in_one_of(user.groups, &when.groups));
    let clients = when.clients.is_empty() || when.clients.iter().any(|client| client.as_str() == request.client.name);
    let networks = when.networks.is_empty() || request.person_ip.is_some_and(|ip| within(&when.networks, ip));
    let time = when.time.as_ref().is_none_or(|time| is_now(time, now_unix_ms));
    groups && clients && networks && time
}

/// May some application ask this user for a PIN beside an approval? Where a rule also names networks or times, it may.
pub fn may_ask_pin(clients: &[Client], policies: &[PolicyRule], user: &User<'_>) -> bool {
    let of_user = |groups: &[String]| groups.is_empty() || in_one_of(user.groups, groups);
    let client = |client: &Client| client.pin && client.methods.contains(&Method::Push) && of_user(&client.groups);
    let rule = |rule: &PolicyRule| rule.then.pin == Some(true) && of_user(&rule.when.groups);
    user.pin.required || clients.iter().any(client) || policies.iter().any(rule)
}

/// Is the user in one of these groups?
pub fn in_one_of(groups: &[String], wanted: &[String]) -> bool {
    wanted.iter().any(|wanted| {
        let wanted = folded(wanted);
        groups.iter().any(|group| folded(group) == wanted)
    })
}

/// As two writings of one object id or DN compare: without regard to case, and to space around what divides a DN.
fn folded(group: &str) -> String {
    let mut folded = String::with_capacity(group.len());
    let mut after_divider = false;
    for sign in group.trim().chars().flat_map(char::to_lowercase) {
        if sign == ' ' && after_divider {
            continue;
        }
        after_divider = matches!(sign, ',' | '=');
        if after_divider {
            folded.truncate(folded.trim_end_matches(' ').len());
        }
        folded.push(sign);
    }
    folded
}

const MINUTES_OF_DAY: i64 = 24 * 60;

/// A time that cannot be read is never now: such a rule is refused where it is saved.
fn is_now(time: &TimeOfWeek, now_unix_ms: i64) -> bool {
    let (Some(from), Some(to)) = (minute_of_day(&time.from), minute_of_day(&time.to)) else { return false };
    let local = now_unix_ms.div_euclid(60_000) + i64::from(time.utc_offset_minutes);
    let minute = local.rem_euclid(MINUTES_OF_DAY);
    // 1970 began on a Thursday.
    let day = (local.div_euclid(MINUTES_OF_DAY) + 3).rem_euclid(7) + 1;
    let on = |day: i64| time.days.is_empty() || time.days.iter().any(|listed| i64::from(*listed) == day);
    let yesterday = if day == 1 { 7 } else { day - 1 };
    if from < to {
        on(day) && (from..to).contains(&minute)
    } else {
        on(day) && minute >= from || on(yesterday) && minute < to
    }
}

/// `08:00`, to `24:00`.
fn minute_of_day(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |part: &str| {
        part.parse::<i64>().ok().filter(|_| part.len() == 2 && part.bytes().all(|sign| sign.is_ascii_digit()))
    };
    let minute = number(hours)? * 60 + number(minutes).filter(|minutes| *minutes < 60)?;
    (minute <= MINUTES_OF_DAY).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 3 January 2000, 00:00 UTC.
    const MONDAY: i64 = 946_857_600_000;
    const HOUR: i64 = 3_600_000;

    fn time(days: &[u8], from: &str, to: &str, utc_offset_minutes: i32) -> TimeOfWeek {
        TimeOfWeek { days: days.to_vec(), from: from.into(), to: to.into(), utc_offset_minutes }
    }

    #[test]
    fn a_part_of_the_week_is_by_the_clock_of_its_zone() {
        // FV-43: rule, hours after Monday 00:00 UTC, does it fit?
        let office = time(&[1, 2, 3, 4, 5], "08:00", "18:00", 0);
        let berlin = time(&[1], "08:00", "18:00", 60);
        let night = time(&[7], "22:00", "06:00", 0);
        let always = time(&[], "00:00", "00:00", 0);
        let west = time(&[7], "16:00", "17:00", -480);
        for (rule, hours, fits) in [
            (&office, 7, false),
            (&office, 8, true),
            (&office, 17, true),
            (&office, 18, false),
            (&office, 5 * 24 + 10, false),
            (&berlin, 7, true),
            (&berlin, 17, false),
            (&night, 23, false),
            (&night, 5, true),
            (&night, 6, false),
            (&night, 6 * 24 + 22, true),
            (&night, 6 * 24 + 21, false),
            (&always, 0, true),
            (&always, 100, true),
            (&west, 0, true),
            (&west, 1, false),
        ] {
            assert_eq!(is_now(rule, MONDAY + hours * HOUR), fits, "{rule:?} {hours}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_is_never_now() {
        for (from, to) in [("8:00", "18:00"), ("08:00", "18:60"), ("08.00", "18:00"), ("", ""), ("+8:00", "25:00")] {
            for hour in 0..24 {
                assert!(!is_now(&time(&[], from, to, 0), MONDAY + hour * HOUR), "{from} {to}");
            }
        }
    }

    #[test]
    fn two_writings_of_one_group_are_one_group() {
        let groups = ["cn=vpn users,ou=groups,dc=corp".to_owned(), "objectGUID:7f1c".to_owned()];
        for (wanted, found) in [
            ("CN=VPN Users, OU = Groups,DC=corp", true),
            ("objectguid:7F1C", true),
            ("cn=vpnusers,ou=groups,dc=corp", false),
            ("cn=vpn users", false),
            ("", false),
        ] {
            assert_eq!(in_one_of(&groups, &[wanted.to_owned()]), found, "{wanted}");
        }
    }
}
