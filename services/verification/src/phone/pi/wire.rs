//! The five requests, read and bounded, with the texts that phones sign; and our replies. Pure.

use proto::verification::{PiReply, PiRequest};
use serde_json::{Value, json};

/// Of a key of 8192 bits, in Base32; a key of 4096 bits has 824.
const SIGNATURE_MAX: usize = 1_700;
const KEY_MAX: usize = 2_048;
const CAPABILITIES_MAX: usize = 1_024;
const SHORT_MAX: usize = 256;
/// Of a new token of a push service that we do not use.
const TOKEN_MAX: usize = 4_096;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    Enrol(Enrol<'a>),
    Poll(Poll<'a>),
    Answer(Answer<'a>),
    TokenChange(TokenChange<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Enrol<'a> {
    pub credential: &'a str,
    pub serial: &'a str,
    pub public_key: &'a str,
    pub capabilities: String,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Poll<'a> {
    pub serial: &'a str,
    pub timestamp: &'a str,
    pub signature: &'a str,
    pub capabilities: String,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    pub serial: &'a str,
    pub nonce: &'a str,
    pub signature: &'a str,
    pub decision: Decision<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// With the number that was chosen, where one was asked for.
    Accept {
        number: Option<&'a str>,
    },
    Decline {
        reason: Option<&'a str>,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub struct TokenChange<'a> {
    pub token: &'a str,
    pub serial: &'a str,
    pub timestamp: &'a str,
    pub signature: &'a str,
}

/// Why a request is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Unread {
    /// A POST without a field.
    Empty,
    Malformed,
}

impl Poll<'_> {
    pub fn signed(&self) -> String {
        format!("{}|{}", self.serial, self.timestamp)
    }
}

impl Answer<'_> {
    pub fn signed(&self) -> String {
        let Self { nonce, serial, .. } = self;
        match self.decision {
            Decision::Accept { number: None } => format!("{nonce}|{serial}"),
            Decision::Accept { number: Some(number) } => format!("{nonce}|{serial}|{number}"),
            Decision::Decline { reason: None } => format!("{nonce}|{serial}|decline"),
            Decision::Decline { reason: Some(reason) } => format!("{nonce}|{serial}|decline|{reason}"),
        }
    }
}

impl TokenChange<'_> {
    pub fn signed(&self) -> String {
        format!("{}|{}|{}", self.token, self.serial, self.timestamp)
    }
}

/// Which request it is goes by its fields, in this order.
pub fn read(request: &PiRequest) -> Result<Said<'_>, Unread> {
    let fields = Fields(request);
    match request.method.as_str() {
        "GET" => fields.poll().map(Said::Poll),
        "POST" if request.fields.is_empty() => return Err(Unread::Empty),
        "POST" if fields.has("fbtoken") && fields.has("pubkey") => fields.enrol().map(Said::Enrol),
        "POST" if fields.has("signature") && !fields.has("new_fb_token") => fields.answer().map(Said::Answer),
        "POST" if fields.has("new_fb_token") => fields.token_change().map(Said::TokenChange),
        _ => None,
    }
    .ok_or(Unread::Malformed)
}

struct Fields<'a>(&'a PiRequest);

impl<'a> Fields<'a> {
    fn has(&self, name: &str) -> bool {
        self.0.fields.contains_key(name)
    }

    /// A field that is there, is not too long, and is one line.
    fn text(&self, name: &str, length_max: usize) -> Option<&'a str> {
        let text = self.0.fields.get(name)?.as_str();
        let good = (1..=length_max).contains(&text.len()) && !text.chars().any(char::is_control);
        good.then_some(text)
    }

    fn serial(&self) -> Option<&'a str> {
        self.text("serial", 40).filter(|serial| serial.bytes().all(|sign| sign.is_ascii_alphanumeric()))
    }

    /// Without `|`, which would make one signed text of two.
    fn part(&self, name: &str) -> Option<&'a str> {
        self.text(name, SHORT_MAX).filter(|text| !text.contains('|'))
    }

    /// A field that may be absent; one that is there and is no such part makes the request none.
    fn perhaps(&self, name: &str) -> Option<Option<&'a str>> {
        if self.has(name) { self.part(name).map(Some) } else { Some(None) }
    }

    fn enrol(&self) -> Option<Enrol<'a>> {
        let credential = self.text("enrollment_credential", 40)?;
        let hexadecimal = credential.len() == 40 && credential.bytes().all(|sign| sign.is_ascii_hexdigit());
        Some(Enrol {
            credential: hexadecimal.then_some(credential)?,
            serial: self.serial()?,
            public_key: self.text("pubkey", KEY_MAX)?,
            capabilities: self.capabilities(),
        })
    }

    fn poll(&self) -> Option<Poll<'a>> {
        Some(Poll {
            serial: self.serial()?,
            timestamp: self.part("timestamp")?,
            signature: self.text("signature", SIGNATURE_MAX)?,
            capabilities: self.capabilities(),
        })
    }

    fn answer(&self) -> Option<Answer<'a>> {
        let decision = match self.0.fields.get("decline").map(String::as_str) {
            None => Decision::Accept { number: self.perhaps("presence_answer")? },
            Some("1") => Decision::Decline { reason: self.perhaps("decline_reason")? },
            Some(_) => return None,
        };
        Some(Answer {
            serial: self.serial()?,
            nonce: self.part("nonce")?,
            signature: self.text("signature", SIGNATURE_MAX)?,
            decision,
        })
    }

    fn token_change(&self) -> Option<TokenChange<'a>> {
        Some(TokenChange {
            token: self.text("new_fb_token", TOKEN_MAX)?,
            serial: self.serial()?,
            timestamp: self.part("timestamp")?,
            signature: self.text("signature", SIGNATURE_MAX)?,
        })
    }

    /// What the app says it can, as a JSON array of names; whatever else stands there says nothing. No reason to fail.
    fn capabilities(&self) -> String {
        let said = self.0.fields.get("capabilities").filter(|said| said.len() <= CAPABILITIES_MAX);
        let names: Option<Vec<String>> = said.and_then(|said| serde_json::from_str(said).ok());
        let good = |name: &String| {
            (1..=32).contains(&name.len())
                && name.bytes().all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, b'_' | b'-'))
        };
        let names: Vec<_> = names.unwrap_or_default().into_iter().filter(good).take(16).collect();
        if names.is_empty() { String::new() } else { json!(names).to_string() }
    }
}

/// A reply with a value. Without `time` and `version`: the app's reader stumbles over both.
pub fn value(value: Value, detail: Value) -> PiReply {
    let json = json!({ "jsonrpc": "2.0", "id": 1, "result": { "status": true, "value": value }, "detail": detail });
    PiReply { status: 200, json: json.to_string() }
}

/// The one answer to whatever is malformed, unknown or not signed.
pub fn refused() -> PiReply {
    error(400, 905, "The request cannot be accepted.")
}

/// Too often.
pub fn too_often() -> PiReply {
    error(429, 906, "Please wait a moment.")
}

fn error(status: u32, code: u32, message: &str) -> PiReply {
    let error = json!({ "code": code, "message": message });
    let json = json!({ "jsonrpc": "2.0", "id": 1, "result": { "status": false, "error": error } });
    PiReply { status, json: json.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, fields: &[(&str, &str)]) -> PiRequest {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        PiRequest { method: method.into(), fields, address: String::new() }
    }

    const SERIAL: (&str, &str) = ("serial", "TWLK0123456789ABCDEF");
    const CREDENTIAL: (&str, &str) = ("enrollment_credential", "89e495e7941cf9e40e6980d14a16bf023ccd4c91");

    #[test]
    fn what_a_request_is_goes_by_its_fields_in_the_protocols_order() {
        let kind = |method: &str, fields: &[(&str, &str)]| match read(&request(method, fields)) {
            Ok(Said::Enrol(_)) => "enrol",
            Ok(Said::Poll(_)) => "poll",
            Ok(Said::Answer(_)) => "answer",
            Ok(Said::TokenChange(_)) => "token change",
            Err(Unread::Empty) => "empty",
            Err(Unread::Malformed) => "malformed",
        };
        let (signature, time, nonce) = (("signature", "ABC"), ("timestamp", "2026-11-20T12:00:00Z"), ("nonce", "N"));
        let (fbtoken, key, new) =
            (("fbtoken", "no_firebase_token"), ("pubkey", "MII"), ("new_fb_token", "no_firebase_token"));
        for (method, fields, expected) in [
            ("POST", vec![], "empty"),
            ("GET", vec![], "malformed"),
            ("POST", vec![CREDENTIAL, SERIAL, fbtoken, key], "enrol"),
            // both: the first that fits
            ("POST", vec![CREDENTIAL, SERIAL, fbtoken, key, signature, nonce], "enrol"),
            ("POST", vec![SERIAL, nonce, signature], "answer"),
            ("POST", vec![SERIAL, nonce, signature, ("decline", "1")], "answer"),
            ("POST", vec![SERIAL, nonce, signature, new, time], "token change"),
            ("GET", vec![SERIAL, time, signature], "poll"),
            ("POST", vec![SERIAL, time, signature], "malformed"),
            ("PUT", vec![SERIAL, nonce, signature], "malformed"),
            ("POST", vec![SERIAL, nonce], "malformed"),
            ("POST", vec![SERIAL, nonce, signature, ("decline", "yes")], "malformed"),
            ("POST", vec![SERIAL, nonce, signature, ("presence_answer", "4|2")], "malformed"),
            ("POST", vec![SERIAL, nonce, signature, ("presence_answer", "")], "malformed"),
            ("POST", vec![("serial", "a|b"), nonce, signature], "malformed"),
            ("POST", vec![SERIAL, ("nonce", "a|b"), signature], "malformed"),
            ("POST", vec![("enrollment_credential", "short"), SERIAL, fbtoken, key], "malformed"),
            ("POST", vec![("x", "y")], "malformed"),
        ] {
            assert_eq!(kind(method, &fields), expected, "{method} {fields:?}");
        }
        let long = "A".repeat(SIGNATURE_MAX + 1);
        assert_eq!(kind("POST", &[SERIAL, nonce, ("signature", &long)]), "malformed");
    }

    #[test]
    fn the_signed_text_is_that_of_the_protocol() {
        // The table of requests; the golden vectors have the same texts
        let signed = |fields: &[(&str, &str)]| {
            let request = request("POST", &[&[SERIAL, ("nonce", "N"), ("signature", "S")], fields].concat());
            match read(&request) {
                Ok(Said::Answer(answer)) => answer.signed(),
                other => panic!("{other:?}"),
            }
        };
        let serial = SERIAL.1;
        assert_eq!(signed(&[]), format!("N|{serial}"));
        assert_eq!(signed(&[("presence_answer", "42")]), format!("N|{serial}|42"));
        assert_eq!(signed(&[("decline", "1")]), format!("N|{serial}|decline"));
        assert_eq!(
            signed(&[("decline", "1"), ("decline_reason", "unknown_trigger")]),
            format!("N|{serial}|decline|unknown_trigger")
        );
    }

    #[test]
    fn capabilities_are_read_with_care_and_never_a_reason_to_fail() {
        for (said, kept) in [
            (r#"["decline_reason"]"#, r#"["decline_reason"]"#),
            (r#"["a","b c","",7]"#, ""),
            (r#"["a","b c",""]"#, r#"["a"]"#),
            (r#"{"decline_reason":true}"#, ""),
            ("not JSON", ""),
            ("[]", ""),
            ("", ""),
        ] {
            let request = request("GET", &[SERIAL, ("timestamp", "t"), ("signature", "S"), ("capabilities", said)]);
            match read(&request) {
                Ok(Said::Poll(poll)) => assert_eq!(poll.capabilities, kept, "{said}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_reply_has_a_value_or_an_error_and_nothing_the_app_stumbles_over() {
        let good: Value = serde_json::from_str(&value(json!(true), json!({})).json).expect("JSON");
        assert_eq!(
            good,
            json!({ "jsonrpc": "2.0", "id": 1, "result": { "status": true, "value": true }, "detail": {} })
        );
        for bad in [refused(), too_often()] {
            let read: Value = serde_json::from_str(&bad.json).expect("JSON");
            assert!((400..500).contains(&bad.status));
            assert!(read["result"].get("value").is_none() && read["result"]["error"]["code"].is_u64());
            assert!(read.get("time").is_none() && read.get("version").is_none());
        }
    }
}
