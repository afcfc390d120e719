//! Every packet of tests/vectors/radius.vec and what becomes of it. The file explains its own form.

use radius_wire::{
    AccessRequest, Charset, Credentials, DropReason, HiddenPassword, Packet, PasswordError, Port, Rule, Rules, Secret,
    Secrets, Sent, verify_reply, verify_request,
};
use std::collections::BTreeMap;

#[test]
fn every_vector_becomes_what_it_says() {
    let vectors = vectors();
    assert!(vectors.len() > 150, "only {} vectors were found", vectors.len());
    let mut failures = Vec::new();
    for vector in &vectors {
        assert!(!vector.one("cite").is_empty(), "[{}] cites nothing", vector.name);
        let found = std::panic::catch_unwind(|| vector.check());
        if let Err(difference) = found.unwrap_or_else(|_| Err("panicked".to_owned())) {
            failures.push(format!("[{}] ({}): {difference}", vector.name, vector.one("cite")));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn the_catalogue_of_bad_input_is_covered_row_by_row() {
    // Rows B-01 to B-25 as far as a packet alone decides them; B-15 in part (wrong address and port are the socket's).
    let vectors = vectors();
    for row in (1..=25).map(|row| format!("B-{row:02} ")) {
        assert!(
            vectors.iter().any(|vector| format!("{} {}:", vector.name, vector.one("cite")).contains(row.trim())),
            "no vector for {row}"
        );
    }
}

#[test]
fn every_drop_code_that_a_packet_can_earn_is_earned() {
    let vectors = vectors();
    for reason in DropReason::ALL {
        // Steps 2 and 3 are about the sender, not the packet.
        let of_the_gateway = matches!(reason, DropReason::UnknownClient | DropReason::Rate);
        let expectation = format!("drop {reason}");
        assert_eq!(vectors.iter().any(|vector| vector.one("expect") == expectation), !of_the_gateway, "{expectation}");
    }
}

type Check = Result<(), String>;

impl Vector {
    fn check(&self) -> Check {
        let datagram = octets(self.one("packet"));
        let (current, previous) =
            (secret(self.maybe("secret").unwrap_or("xyzzy5461")), self.maybe("previous").map(secret));
        let secrets = Secrets { current: &current, previous: previous.as_ref() };
        let rules = Rules {
            message_authenticator: self
                .maybe("message_authenticator")
                .map_or(Rules::default().message_authenticator, rule),
            limit_proxy_state: self.maybe("limit_proxy_state").map_or(Rules::default().limit_proxy_state, rule),
        };
        let port = match self.one("port") {
            "authentication" => Port::Authentication,
            "accounting" => Port::Accounting,
            "authentication-replies" => Port::AuthenticationReplies,
            "accounting-replies" => Port::AccountingReplies,
            other => panic!("no port is called {other}"),
        };
        let packet = match (Packet::parse(&datagram, port), self.one("expect").strip_prefix("drop ")) {
            (Err(reason), expected) => return equal("dropped", Some(reason.as_str()), expected),
            (Ok(packet), _) => packet,
        };
        let verified = match self.maybe("answers") {
            Some(answers) => {
                verify_reply(&packet, &sent(answers), &current, rules.message_authenticator).map(|()| None)
            }
            None => verify_request(packet, secrets, rules).map(Some),
        };
        let verified = match (verified, self.one("expect").strip_prefix("drop ")) {
            (Err(reason), expected) => return equal("dropped", Some(reason.as_str()), expected),
            (Ok(verified), None) => verified,
            (Ok(_), Some(reason)) => return Err(format!("verified, expected drop {reason}")),
        };
        self.check_attributes(&packet)?;
        match verified.map(|verified| AccessRequest::read(&verified)) {
            Some(Ok(access)) => self.check_access_request(&access),
            Some(Err(error)) if self.maybe("refused").is_some() => {
                equal("refused", Some(format!("{error:?}").as_str()), self.maybe("refused"))
            }
            // Anything else that can be said about an Access-Request must not have been said.
            refused => match ["user_name", "credentials", "password", "password_error", "refused"]
                .iter()
                .find(|key| self.maybe(key).is_some())
            {
                Some(key) => {
                    Err(format!("{key} expected of what is no Access-Request ({:?})", refused.map(|r| r.err())))
                }
                None => Ok(()),
            },
        }
    }

    fn check_attributes(&self, packet: &Packet<'_>) -> Check {
        if let Some(expected) = self.keys.get("attribute") {
            let found: Vec<_> = packet.attributes().collect();
            equal("number of attributes", found.len(), expected.len())?;
            for (attribute, expected) in found.iter().zip(expected) {
                let (kind, value) = expected.split_once('=').expect("type = value");
                equal("type", attribute.kind.0.to_string().as_str(), kind.trim())?;
                if value.trim() != "*" {
                    equal("value", attribute.value.to_vec(), octets(value.trim()))?;
                }
            }
        }
        if let Some(expected) = self.maybe("vendor") {
            let vendor =
                packet.attributes().filter(|attribute| attribute.kind.0 == 26).find_map(|attribute| attribute.vendor());
            let text = vendor.map_or("opaque".to_owned(), |vendor| {
                let inside: Vec<_> = vendor
                    .attributes()
                    .map(|(kind, value)| format!("{kind} = {}", hex(value)).trim().to_owned())
                    .collect();
                format!("{}: {}", vendor.id, inside.join(", "))
            });
            equal("vendor", text.as_str(), expected)?;
        }
        if let Some(expected) = self.maybe("nas_ip_address") {
            equal(
                "nas_ip_address",
                packet.nas_ip_address().map_or("none".to_owned(), |address| address.to_string()).as_str(),
                expected,
            )?;
        }
        if let Some(expected) = self.maybe("calling_station_id") {
            equal("calling_station_id", packet.calling_station_id(), Some(expected.as_bytes()))?;
        }
        if let Some(expected) = self.maybe("state") {
            equal("state", packet.first(radius_wire::AttributeType::STATE), Some(octets(expected).as_slice()))?;
        }
        Ok(())
    }

    fn check_access_request(&self, access: &AccessRequest<'_>) -> Check {
        if let Some(refused) = self.maybe("refused") {
            return Err(format!("accepted, expected {refused}"));
        }
        if let Some(expected) = self.maybe("user_name") {
            let expected = expected.strip_prefix("hex ").map_or(expected.as_bytes().to_vec(), octets);
            equal("user_name", access.user_name.as_bytes(), &expected)?;
        }
        if let Some(expected) = self.maybe("state") {
            equal("state of the request", access.state, Some(octets(expected).as_slice()))?;
        }
        let (kind, password) = match access.credentials {
            Credentials::Pap(hidden) => ("pap", Some(hidden)),
            Credentials::Chap => ("chap", None),
            Credentials::Eap => ("eap", None),
            Credentials::MsChap => ("ms-chap", None),
            Credentials::Arap => ("arap", None),
            Credentials::Absent => ("none", None),
        };
        if let Some(expected) = self.maybe("credentials") {
            equal("credentials", kind, expected)?;
        }
        self.check_password("password", "password_error", password, Charset::Utf8)?;
        self.check_password("latin1_password", "latin1_password_error", password, Charset::Latin1)
    }

    fn check_password(
        &self,
        key: &str,
        error_key: &str,
        hidden: Option<HiddenPassword<'_>>,
        charset: Charset,
    ) -> Check {
        if self.maybe(key).is_none() && self.maybe(error_key).is_none() {
            return Ok(());
        }
        let revealed = hidden.expect("a password was expected of something else than PAP").reveal(charset);
        equal(error_key, revealed.as_ref().err().map(|error| name(*error)), self.maybe(error_key))?;
        equal(key, revealed.as_ref().ok().map(|password| password.expose()), self.maybe(key).map(unquote))
    }
}

fn name(error: PasswordError) -> &'static str {
    match error {
        PasswordError::Length => "Length",
        PasswordError::SecretMismatch => "SecretMismatch",
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Check {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

fn secret(text: &str) -> Secret {
    Secret::new(text).expect("not empty")
}

fn rule(text: &str) -> Rule {
    match text {
        "yes" => Rule::Yes,
        "auto" => Rule::Auto,
        "no" => Rule::No,
        other => panic!("no rule is called {other}"),
    }
}

fn sent(text: &str) -> Sent {
    let octets = octets(text);
    Sent { identifier: octets[0], authenticator: octets[1..].try_into().expect("an identifier and 16 octets") }
}

fn unquote(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Hex in any grouping; `(..)xN` stands for N times.
fn octets(text: &str) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (group, times, after) = match rest.strip_prefix('(') {
            Some(group) => {
                let (group, after) = group.split_once(")x").expect("(..)xN");
                let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
                (group, after[..digits].parse().expect("a number"), &after[digits..])
            }
            None => {
                let end = rest.find('(').unwrap_or(rest.len());
                (&rest[..end], 1, &rest[end..])
            }
        };
        let digits: Vec<u8> =
            group.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).expect("hex") as u8).collect();
        let group: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        all.extend(group.repeat(times));
        rest = after.trim();
    }
    all
}

/// One block of the file. A key may stand several times.
struct Vector {
    name: String,
    keys: BTreeMap<String, Vec<String>>,
}

impl Vector {
    fn maybe(&self, key: &str) -> Option<&str> {
        self.keys.get(key).and_then(|values| values.first()).map(String::as_str)
    }

    fn one(&self, key: &str) -> &str {
        self.maybe(key).unwrap_or_else(|| panic!("[{}] has no {key}", self.name))
    }
}

fn vectors() -> Vec<Vector> {
    const KEYS: [&str; 21] = [
        "cite",
        "port",
        "secret",
        "previous",
        "message_authenticator",
        "limit_proxy_state",
        "answers",
        "packet",
        "expect",
        "attribute",
        "refused",
        "user_name",
        "credentials",
        "state",
        "password",
        "latin1_password",
        "password_error",
        "latin1_password_error",
        "nas_ip_address",
        "calling_station_id",
        "vendor",
    ];
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/radius.vec");
    let text = std::fs::read_to_string(file).expect("the vectors are in the repository");
    let mut vectors: Vec<Vector> = Vec::new();
    let mut key = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').expect("[name]").to_owned();
            assert!(vectors.iter().all(|vector| vector.name != name), "[{name}] stands twice");
            vectors.push(Vector { name, keys: BTreeMap::new() });
            continue;
        }
        let vector = vectors.last_mut().expect("a [name] comes first");
        if line.starts_with(' ') {
            let values = vector.keys.get_mut(&key).expect("a continuation follows its key");
            values.last_mut().expect("the key has a value").push_str(line);
            continue;
        }
        let (found, value) = line.split_once(':').expect("key: value");
        assert!(KEYS.contains(&found), "[{}]: no key is called {found}", vector.name);
        key = found.to_owned();
        vector.keys.entry(key.clone()).or_default().push(value.trim().to_owned());
    }
    vectors
}
