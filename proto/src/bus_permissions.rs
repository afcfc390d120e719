//! Which part may publish and hear what on the bus (V-72), the second half of the table of [`subjects`](crate::subjects).
//! The NATS server's users are made from it: allow-lists of exact subjects, an inbox of its own for each part, and of the
//! JetStream API only the calls on the streams and maps that the part uses. What is not listed is refused by the server.

use crate::permissions::part::{DIRECTORY_SYNC, LDAP_GATEWAY, PORTAL, RADIUS_GATEWAY, USER_STORE, VERIFICATION};
use crate::subjects::{
    AFFINITY_MAP, AUTH_EVENTS, CHALLENGE_RESOLVED, CHALLENGES_MAP, EVENTS_STREAM, LEASES_MAP, REPLIES_MAP,
    REQUESTS_MAP, SETTINGS_CHANGED, SYNC_REQUESTED, SYNC_STREAM, USER_CHANGED,
};

/// The parts that have a user at the bus. The command line has none.
pub const PARTS: [&str; 6] = [LDAP_GATEWAY, RADIUS_GATEWAY, VERIFICATION, USER_STORE, DIRECTORY_SYNC, PORTAL];

/// What is told once to whoever listens.
struct Told {
    subject: &'static str,
    by: &'static [&'static str],
    to: &'static [&'static str],
}

/// What is kept until it was read.
struct Kept {
    stream: &'static str,
    subject: &'static str,
    by: &'static [&'static str],
    /// Who reads it. The durable consumer has the part's name.
    to: &'static [&'static str],
}

/// A key-value map. A watched one tells its changes.
struct Map {
    name: &'static str,
    of: &'static str,
    watched: bool,
}

const TOLD: [Told; 3] = [
    Told { subject: CHALLENGE_RESOLVED, by: &[VERIFICATION], to: &[VERIFICATION] },
    Told { subject: USER_CHANGED, by: &[USER_STORE], to: &[LDAP_GATEWAY] },
    Told {
        subject: SETTINGS_CHANGED,
        by: &[USER_STORE],
        to: &[LDAP_GATEWAY, RADIUS_GATEWAY, VERIFICATION, DIRECTORY_SYNC, PORTAL],
    },
];

const KEPT: [Kept; 2] = [
    Kept { stream: SYNC_STREAM, subject: SYNC_REQUESTED, by: &[USER_STORE], to: &[DIRECTORY_SYNC] },
    Kept { stream: EVENTS_STREAM, subject: AUTH_EVENTS, by: &[USER_STORE], to: &[] },
];

const MAPS: [Map; 5] = [
    Map { name: CHALLENGES_MAP, of: VERIFICATION, watched: false },
    Map { name: REPLIES_MAP, of: VERIFICATION, watched: false },
    Map { name: REQUESTS_MAP, of: RADIUS_GATEWAY, watched: false },
    Map { name: AFFINITY_MAP, of: RADIUS_GATEWAY, watched: false },
    Map { name: LEASES_MAP, of: DIRECTORY_SYNC, watched: true },
];

/// Everything a part may do on the bus; patterns as NATS has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
}

impl Grants {
    pub fn of(part: &str) -> Self {
        let mut grants = Self::default();
        if !PARTS.contains(&part) {
            return grants;
        }
        grants.subscribe.push(format!("_INBOX_{part}.>"));
        for told in &TOLD {
            if told.by.contains(&part) {
                grants.publish.push(told.subject.into());
            }
            if told.to.contains(&part) {
                grants.subscribe.push(told.subject.into());
            }
        }
        for kept in &KEPT {
            grants.kept(kept, part);
        }
        for map in MAPS.iter().filter(|map| map.of == part) {
            grants.map(map);
        }
        grants
    }

    fn kept(&mut self, kept: &Kept, part: &str) {
        let (stream, reads) = (kept.stream, kept.to.contains(&part));
        if kept.by.contains(&part) {
            self.publish.push(kept.subject.into());
        }
        if kept.by.contains(&part) || reads {
            self.stream(stream);
        }
        if reads {
            self.publish.extend([
                format!("$JS.API.CONSUMER.INFO.{stream}.{part}"),
                format!("$JS.API.CONSUMER.CREATE.{stream}.{part}"),
                format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{part}"),
                format!("$JS.ACK.{stream}.{part}.>"),
            ]);
        }
    }

    fn map(&mut self, map: &Map) {
        let stream = format!("KV_{}", map.name);
        self.stream(&stream);
        self.publish.push(format!("$KV.{}.>", map.name));
        self.publish.push(format!("$JS.API.DIRECT.GET.{stream}.>"));
        if map.watched {
            self.publish.push(format!("$JS.API.CONSUMER.CREATE.{stream}"));
            self.publish.push(format!("$JS.FC.{stream}.>"));
        }
    }

    /// Whoever comes first makes it.
    fn stream(&mut self, stream: &str) {
        self.publish.push(format!("$JS.API.STREAM.INFO.{stream}"));
        self.publish.push(format!("$JS.API.STREAM.CREATE.{stream}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_wholesale() {
        // V-72: a `>` only below a name of ours, nothing of the system account, no API call without its stream.
        for part in PARTS {
            let grants = Grants::of(part);
            for subject in grants.publish.iter().chain(&grants.subscribe) {
                assert!(!subject.starts_with("$SYS") && !subject.starts_with(['*', '>']), "{part}: {subject}");
                if subject.starts_with("$JS.") {
                    assert!(subject.contains("TWINLOCK_") || subject.contains("KV_twinlock_"), "{part}: {subject}");
                }
                if let Some(parent) = subject.strip_suffix(".>") {
                    assert!(
                        parent.split('.').next_back().is_some_and(|word| !word.starts_with('$')),
                        "{part}: {subject}"
                    );
                    assert_ne!(parent, "$JS.API", "{part}");
                }
            }
        }
    }

    #[test]
    fn nobody_but_the_parts_has_grants_and_no_inbox_is_shared() {
        // V-72, B-90
        for nobody in ["admin", "mallory", ""] {
            assert_eq!(Grants::of(nobody), Grants::default(), "{nobody}");
        }
        for part in PARTS {
            let inboxes: Vec<String> =
                Grants::of(part).subscribe.into_iter().filter(|subject| subject.starts_with("_INBOX")).collect();
            assert_eq!(inboxes, [format!("_INBOX_{part}.>")]);
        }
    }

    #[test]
    fn a_map_belongs_to_one_part() {
        for map in &MAPS {
            let users =
                PARTS.iter().filter(|part| Grants::of(part).publish.iter().any(|subject| subject.contains(map.name)));
            assert_eq!(users.collect::<Vec<_>>(), [&map.of]);
        }
    }
}
