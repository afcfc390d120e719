//! An attempt as a caller describes it, parsed once. Texts that end in the audit lose what could forge a line of it (V-61).

use domain::{DirectoryRef, Protocol, TransactionId};
use policy::Shows;
use proto::verification as wire;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use tonic::Status;

/// An attempt that can be decided about.
#[derive(Clone, Serialize, Deserialize)]
pub struct Attempt {
    pub origin: Origin,
    /// `None`: the directory has proven that nobody has the name, and the target found the password right all the same.
    pub subject: Option<DirectoryRef>,
    pub client_ip: Option<IpAddr>,
    /// Where the person is; `None` = not known (V-54).
    pub person_ip: Option<IpAddr>,
    pub can_challenge: bool,
    pub dialogue: bool,
    pub as_service_account: bool,
    /// Password and entry under a key of the gateways; empty = the client's rule has no use for it (V-32). It is worth something only
    /// together with the ring "remembered", and is not kept in a conversation.
    #[serde(skip)]
    pub password_digest: Vec<u8>,
    /// When the directory says that the password was changed; empty = it does not say (V-52). Of the request, as the digest is.
    #[serde(skip)]
    pub password_stamp: String,
}

impl Attempt {
    pub fn shows(&self) -> Shows {
        match (self.dialogue, self.can_challenge) {
            (true, _) => Shows::Dialogue,
            (false, true) => Shows::Text,
            (false, false) => Shows::Nothing,
        }
    }

    /// Who is meant, where somebody has to be.
    pub fn somebody(&self) -> Result<&DirectoryRef, Status> {
        self.subject.as_ref().ok_or_else(|| Status::invalid_argument("attempt.subject is missing"))
    }

    /// Is this the attempt of that conversation?
    pub fn is_same(&self, other: &Self) -> bool {
        self.origin.client == other.origin.client
            && self.origin.protocol == other.origin.protocol
            && self.subject == other.subject
    }
}

/// Where an attempt comes from: what the audit keeps of it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Origin {
    pub transaction: TransactionId,
    pub client: String,
    pub protocol: Protocol,
    pub username: String,
    pub client_ip: String,
    pub calling_station: String,
    /// The client says that the first factor was right; nobody else has seen it (FC-05).
    #[serde(default)]
    pub vouched: bool,
}

impl Origin {
    /// The place a person tries from, for the reserve of V-15.
    pub fn source(&self) -> &str {
        if self.calling_station.is_empty() { &self.client_ip } else { &self.calling_station }
    }
}

impl TryFrom<Option<wire::Attempt>> for Attempt {
    type Error = Status;
    fn try_from(attempt: Option<wire::Attempt>) -> Result<Self, Status> {
        let attempt = attempt.ok_or_else(|| Status::invalid_argument("attempt is missing"))?;
        let subject = match (attempt.subject.clone(), attempt.proven_absent) {
            (Some(subject), false) => Some(
                DirectoryRef::try_from(subject)
                    .map_err(|_| Status::invalid_argument("attempt.subject is not valid"))?,
            ),
            (None, true) => None,
            (Some(_), true) => return Err(Status::invalid_argument("attempt.proven_absent: somebody is meant")),
            (None, false) => return Err(Status::invalid_argument("attempt.subject is missing")),
        };
        Ok(Self {
            subject,
            client_ip: attempt.client_ip.parse().ok(),
            person_ip: attempt.person_ip.parse().ok(),
            dialogue: attempt.dialogue,
            password_digest: attempt.password_digest.clone(),
            password_stamp: attempt.password_stamp.clone(),
            can_challenge: attempt.can_challenge,
            as_service_account: attempt.service_account,
            origin: attempt.try_into()?,
        })
    }
}

impl TryFrom<wire::Attempt> for Origin {
    type Error = Status;
    fn try_from(attempt: wire::Attempt) -> Result<Self, Status> {
        Ok(Self {
            transaction: transaction(&attempt.transaction_id)?,
            client: line(&attempt.client, 64),
            protocol: Protocol::from_code(&attempt.protocol)
                .ok_or_else(|| Status::invalid_argument("attempt.protocol is not known"))?,
            username: line(&attempt.username, 256),
            client_ip: line(&attempt.client_ip, 64),
            calling_station: line(&attempt.calling_station, 256),
            vouched: false,
        })
    }
}

pub fn transaction(id: &str) -> Result<TransactionId, Status> {
    id.parse().map_err(|_| Status::invalid_argument("transaction_id is no UUID"))
}

/// At most `longest` signs, each that could start a line, hide or turn around what follows replaced: not dropped, so that
/// two names never become one.
pub fn line(text: &str, longest: usize) -> String {
    if text.len() <= longest && text.bytes().all(|octet| matches!(octet, b' '..=b'~')) {
        return text.to_owned();
    }
    let harmless = |sign: char| match sign {
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        sign if sign.is_control() => '\u{fffd}',
        sign => sign,
    };
    text.chars().take(longest).map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn no_name_can_forge_a_line_of_the_audit() {
        // V-61, B-21
        for (typed, kept) in [
            ("ann@corp.example", "ann@corp.example"),
            ("ann\r\nroot", "ann\u{fffd}\u{fffd}root"),
            ("\u{1b}[31mann", "\u{fffd}[31mann"),
            ("a\0b\u{85}\u{2028}", "a\u{fffd}b\u{fffd}\u{fffd}"),
            ("\u{202e}nna", "\u{fffd}nna"),
            ("Zoë Söderström", "Zoë Söderström"),
        ] {
            assert_eq!(line(typed, 256), kept);
        }
        assert_eq!(line(&"é".repeat(300), 256).chars().count(), 256);
    }
}
