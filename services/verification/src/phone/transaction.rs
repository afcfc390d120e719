//! What a phone signs (V-21): the whole transaction, written in one way. Rebuilt from our own record, never taken from the phone.

use proto::user_store::Prompt;
use serde::Serialize;
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Approve,
    Deny,
    Fraud,
}

impl Decision {
    pub fn from_code(code: &str) -> Option<Self> {
        match code {
            "approve" => Some(Self::Approve),
            "deny" => Some(Self::Deny),
            "fraud" => Some(Self::Fraud),
            _ => None,
        }
    }

    pub fn code(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Fraud => "fraud",
        }
    }
}

/// RFC 8785: members in the order of their names, no space, whole numbers as they are. `serde_json` escapes as ECMAScript does,
/// so that `JSON.stringify` over the same members in the same order gives the same octets.
#[derive(Serialize)]
pub struct Transaction<'a> {
    application: &'a str,
    client_ip: &'a str,
    decision: &'static str,
    expires: i64,
    id: &'a str,
    number: &'a str,
    user: &'a str,
    v: u8,
}

impl<'a> Transaction<'a> {
    /// A refusal carries no number; an approval the one that was typed.
    pub fn new(prompt: &'a Prompt, decision: Decision, number: &'a str) -> Self {
        Self {
            application: &prompt.application,
            client_ip: &prompt.place,
            decision: decision.code(),
            expires: prompt.expires_unix_ms,
            id: &prompt.prompt_id,
            number: if decision == Decision::Approve { number } else { "" },
            user: &prompt.username,
            v: 1,
        }
    }

    /// What the device key signs.
    pub fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers can be written")
    }

    /// What the passkey signs as its challenge.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.canonical()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt() -> Prompt {
        Prompt {
            prompt_id: "p-1".into(),
            application: "VPN \"north\"".into(),
            username: "zo\u{eb}\\ann\u{1f}\u{2028}".into(),
            place: "203.0.113.9".into(),
            number: "42".into(),
            expires_unix_ms: 1_790_000_000_123,
            ..Prompt::default()
        }
    }

    #[test]
    fn the_signed_text_is_canonical_json_to_the_octet() {
        // RFC 8785 section 3.2: what a browser's JSON.stringify gives for the same members.
        let expected = "{\"application\":\"VPN \\\"north\\\"\",\"client_ip\":\"203.0.113.9\",\"decision\":\"approve\",\
                        \"expires\":1790000000123,\"id\":\"p-1\",\"number\":\"42\",\
                        \"user\":\"zo\u{eb}\\\\ann\\u001f\u{2028}\",\"v\":1}";
        let prompt = prompt();
        let text = Transaction::new(&prompt, Decision::Approve, "42").canonical();
        assert_eq!(String::from_utf8(text).expect("UTF-8"), expected);
    }

    #[test]
    fn every_member_is_covered_and_a_refusal_carries_no_number() {
        // V-21: B-84
        let good = prompt();
        let digest = Transaction::new(&good, Decision::Approve, "42").digest();
        let others = [
            Prompt { prompt_id: "p-2".into(), ..prompt() },
            Prompt { application: "VPN".into(), ..prompt() },
            Prompt { username: "ann".into(), ..prompt() },
            Prompt { place: "203.0.113.8".into(), ..prompt() },
            Prompt { expires_unix_ms: 1_790_000_000_124, ..prompt() },
        ];
        for other in &others {
            assert_ne!(Transaction::new(other, Decision::Approve, "42").digest(), digest);
        }
        assert_ne!(Transaction::new(&good, Decision::Approve, "24").digest(), digest);
        let deny = Transaction::new(&good, Decision::Deny, "42").digest();
        assert_ne!(deny, digest);
        assert_ne!(deny, Transaction::new(&good, Decision::Fraud, "42").digest());
        assert_eq!(deny, Transaction::new(&good, Decision::Deny, "").digest());
    }
}
