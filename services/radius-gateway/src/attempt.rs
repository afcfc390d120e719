//! What is known of one attempt: told to verification, written to the log when it ends.

use crate::affinity::{Parked, Whose};
use crate::metrics::{Metrics, Phase};
use crate::reply::No;
use crate::settings::Client;
use crate::verify::Allow;
use crate::windows::Proven;
use domain::{DirectoryRef, Method, NameForm, Reason, ResultClass, TransactionId};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One attempt to log in, from the first packet to the last answer.
#[derive(Clone)]
pub(crate) struct Attempt {
    pub(crate) transaction: TransactionId,
    pub(crate) client: Arc<Client>,
    pub(crate) client_ip: IpAddr,
    /// What a copy of it has in common with it, and a look-alike, where those may go on with it.
    pub(crate) likeness: [u8; 32],
    pub(crate) calling_station: Option<Box<str>>,
    /// The person's own address, as the client's rule reads it (V-54).
    pub(crate) person_ip: Option<IpAddr>,
    /// The name as typed, escaped.
    pub(crate) typed: Box<str>,
    pub(crate) person: Option<Person>,
    /// The name that nobody has, as the target's directory has proven, where that lets in whom the target does.
    pub(crate) absent: Option<Box<str>>,
    /// When its first packet came, where that was here.
    pub(crate) begun: Instant,
    pub(crate) first: Option<First>,
    pub(crate) second: Option<Duration>,
    /// What the second step is or was, as far as is known.
    pub(crate) method: Option<Method>,
    /// Stands for the password that was right (V-32); empty where nobody wants it.
    pub(crate) password_digest: Box<[u8]>,
    /// Whether a question can go with the answer: only a password's request takes one.
    pub(crate) asks: bool,
    /// What a No is written with.
    pub(crate) no: No,
    /// A home server's Accept that waits for the second factor.
    pub(crate) parked: Option<Box<Parked>>,
    /// What the Windows domain proved, for the answer to MS-CHAPv2.
    pub(crate) proven: Option<Proven>,
    /// A home server is asked to take another password, and verification has not been told that it did (V-52).
    pub(crate) change_untold: bool,
    pub(crate) rounds: u32,
    /// Verification has heard of it, so it may have something open that has to be closed.
    pub(crate) known_to_verification: bool,
    /// Verification has recorded how it ended.
    pub(crate) recorded: bool,
}

/// Who is meant, as the directory says.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) subject: DirectoryRef,
    pub(crate) username: Box<str>,
    pub(crate) name_form: NameForm,
    /// Stands for when the directory says that the password was changed (V-52). Small: tens of thousands may wait.
    pub(crate) password_stamp: Option<[u8; 3]>,
}

/// The first lock: name and password.
#[derive(Clone)]
pub(crate) struct First {
    pub(crate) via: Option<Box<str>>,
    pub(crate) refused: Option<Reason>,
    pub(crate) took: Duration,
}

/// How an attempt ended, for log and metrics.
pub(crate) struct Ended<'a> {
    pub(crate) reason: Reason,
    pub(crate) allow: Option<&'a Allow>,
    /// What the client was sent.
    pub(crate) reply: &'static str,
    pub(crate) duplicates: u32,
}

impl Attempt {
    /// Whose an Accept is that waits for the second factor of this very request, or of one that takes it over.
    pub(crate) fn whose(&self) -> Whose<'_> {
        Whose { client: &self.client.settings.name, typed: &self.typed, request: Some(&self.likeness) }
    }

    /// The one line of an attempt, and its metrics.
    pub(crate) fn end(&self, ended: &Ended<'_>, metrics: &Metrics) {
        let (client, result) = (self.client.name(), ended.reason.class());
        let total = self.begun.elapsed();
        let method = ended.allow.map_or(self.method, |allow| allow.method).map(Method::code);
        metrics.attempt(client, method.unwrap_or("none"), ended.reason);
        metrics.duration(client, Phase::Total, result, total);
        let class = |refused: Option<Reason>| refused.map_or(ResultClass::Success, Reason::class);
        if let Some(first) = &self.first {
            metrics.duration(client, Phase::First, class(first.refused), first.took);
        }
        if let Some(second) = self.second {
            metrics.duration(client, Phase::Second, result, second);
        }
        let factor_failed = matches!(result, ResultClass::Failed | ResultClass::Denied | ResultClass::Fraud);
        if self.second.is_some() && factor_failed && self.first.as_ref().is_none_or(|first| first.refused.is_none()) {
            metrics.password_ok_factor_failed(client);
        }
        tracing::info!(
            service = crate::NAME,
            event = "authentication",
            request_id = %self.transaction,
            "ref" = self.transaction.short(),
            protocol = "radius",
            client,
            client_ip = %self.client_ip,
            calling_station = self.calling_station.as_deref(),
            user = self.person.as_ref().map(|person| &*person.username),
            name_form = self.person.as_ref().map(|person| person.name_form.code()),
            result = result.code(),
            reason = ended.reason.code(),
            "first.result" = self.first.as_ref().map(|first| first.refused.map_or("ok", Reason::code)),
            "first.via" = self.first.as_ref().and_then(|first| first.via.as_deref()),
            "first.ms" = self.first.as_ref().map(|first| milliseconds(first.took)),
            "second.method" = self.second.and(method),
            "second.ms" = self.second.map(milliseconds),
            assurance = ended.allow.and_then(|allow| allow.assurance).map(|assurance| assurance.code()),
            source = ended.allow.and_then(|allow| allow.source).map(|source| source.code()),
            rounds = self.rounds,
            duplicates = ended.duplicates,
            reply = ended.reply,
            ms = milliseconds(total),
        );
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// A value of a packet as one line of plain text: no control characters, nothing that changes the direction of writing, at most
/// 253 octets before escaping because an attribute holds no more (R-24, V-61).
pub(crate) fn escaped(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for sign in String::from_utf8_lossy(octets).chars() {
        match sign {
            sign if sign.is_control() || changes_direction(sign) => text.extend(sign.escape_unicode()),
            sign => text.push(sign),
        }
    }
    text
}

/// Unicode's bidirectional controls (UAX 9, section 2): a name could show as another.
fn changes_direction(sign: char) -> bool {
    matches!(sign, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_packet_says_is_plain_text_before_anybody_reads_it() {
        // R-24, B-21
        for (octets, text) in [
            (b"alice".as_slice(), "alice"),
            (b"al\r\nice\x1b[31m", "al\\u{d}\\u{a}ice\\u{1b}[31m"),
            ("ali\u{202e}ce".as_bytes(), "ali\\u{202e}ce"),
            (b"\xff", "\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(escaped(octets), text);
        }
    }
}
