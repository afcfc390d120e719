//! Packets that get no answer: why, and one line of log now and then.

use radius_wire::DropReason;
use std::collections::HashMap;
use std::time::Duration;

/// Why a packet gets no answer: the drop codes of A1, and those of a node that takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Drop {
    Packet(DropReason),
    /// As much is in work as there is room for.
    Full,
    /// More logins come than can be worked on, and nothing was heard of this one while it waited for its turn (T-10).
    Late,
    /// This node takes no new conversation: it is stopping.
    Draining,
    /// Status-Server while this node cannot serve: silence sends the client to another.
    NotServing,
    /// Accounting of a client whose accounting is off.
    AccountingOff,
    /// Accounting that the store has not taken: silence makes the client send it again.
    NotStored,
    /// Accounting that no server behind us has taken.
    NotForwarded,
    /// A connection by TLS whose certificate belongs to no client of the settings.
    UnknownCertificate,
    /// A connection by TLS for which there is no room.
    Connections,
}

impl From<DropReason> for Drop {
    fn from(reason: DropReason) -> Self {
        Self::Packet(reason)
    }
}

impl Drop {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Packet(reason) => reason.as_str(),
            Self::Full => "full",
            Self::Late => "late",
            Self::Draining => "draining",
            Self::NotServing => "not_serving",
            Self::AccountingOff => "accounting_off",
            Self::NotStored => "not_stored",
            Self::NotForwarded => "not_forwarded",
            Self::UnknownCertificate => "unknown_certificate",
            Self::Connections => "connections",
        }
    }

    /// What an administrator can do about it, for those that are usually a setting.
    pub(crate) fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::Packet(DropReason::UnknownClient) => "no client of the settings has this address among its sources",
            Self::Packet(DropReason::MaMissing) => {
                "the device sends no Message-Authenticator: update it, or set message_authenticator of this client"
            }
            Self::Packet(DropReason::MaBad) => "the shared secret of the device is another one",
            Self::Packet(DropReason::Blast) => "Proxy-State without Message-Authenticator, the shape of CVE-2024-3596",
            Self::Late => {
                "more logins come than can be worked on: look at the directory and at verification, or add gateways"
            }
            Self::AccountingOff => {
                "this client's accounting is off: let the device send none, or set accounting of the client"
            }
            Self::UnknownCertificate => {
                "no client of the settings with transport = \"tls\" lists this certificate, or not for this address"
            }
            Self::Connections => "this address has as many connections as one may have, or all together have",
            _ => return None,
        })
    }
}

/// Lets through the first line of a kind, then at most one in [`QUIET`], which says how many there were.
#[derive(Default)]
pub(crate) struct DropLog {
    kinds: HashMap<(Option<Box<str>>, Drop), Kind>,
}

struct Kind {
    logged: Duration,
    since: u64,
}

/// At most one line of a kind in this time.
const QUIET: Duration = Duration::from_secs(10);

impl DropLog {
    /// How many packets the line to be written now stands for; `None`: no line. The kinds are bounded by the clients of the
    /// settings. `now` is the time since any fixed moment.
    pub(crate) fn count(&mut self, client: Option<&str>, drop: Drop, now: Duration) -> Option<u64> {
        let mut first = false;
        let kind = self.kinds.entry((client.map(Box::from), drop)).or_insert_with(|| {
            first = true;
            Kind { logged: now, since: 0 }
        });
        kind.since += 1;
        if !first && now.saturating_sub(kind.logged) < QUIET {
            return None;
        }
        kind.logged = now;
        Some(std::mem::take(&mut kind.since))
    }

    /// Forgets kinds that have been quiet, clients that are gone among them.
    pub(crate) fn forget_old(&mut self, now: Duration) {
        self.kinds.retain(|_, kind| kind.since > 0 || now.saturating_sub(kind.logged) < QUIET);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_bad_packets_is_one_line_in_ten_seconds_and_the_line_counts_them() {
        let mut log = DropLog::default();
        let (bad, second) = (Drop::from(DropReason::MaBad), Duration::from_secs);
        assert_eq!(log.count(Some("vpn"), bad, second(0)), Some(1));
        assert_eq!((0..1_000).filter_map(|_| log.count(Some("vpn"), bad, second(9))).count(), 0);
        assert_eq!(log.count(Some("wifi"), bad, second(9)), Some(1), "another client has its own line");
        assert_eq!(log.count(Some("vpn"), bad, second(10)), Some(1_001));
        log.forget_old(second(30));
        assert!(log.kinds.is_empty());
    }
}
