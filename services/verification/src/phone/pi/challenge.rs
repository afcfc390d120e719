//! One prompt as one token is shown it: made and signed once, when the prompt is opened, and kept in its record. Pure.
//!
//! The app drops a nonce it has seen, so that the same challenge may be sent at every poll. The nonce names the prompt, for answers that
//! come when it is over, and is unique for ever by its random part.

use super::keys::{BadServerKey, ServerKey};
use data_encoding::{BASE32, BASE32_NOPAD};
use proto::user_store::Prompt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Numbers to choose from, the right one among them.
const CHOICES: usize = 6;
const RANDOM_OCTETS: usize = 24;
const UUID_OCTETS: usize = 16;
/// What the record of a prompt calls these.
const PLACE: &str = "pi";

/// What a token was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    pub nonce: String,
    /// As the app gets it.
    pub challenge: Value,
}

/// The challenge for one token.
pub struct Asked<'a> {
    pub prompt_id: Uuid,
    /// Where the app reaches us, in the form of [`endpoint`].
    pub url: &'a str,
    pub serial: &'a str,
    pub title: &'a str,
    pub question: &'a str,
    /// Two digits that the other screen shows; empty = approve only.
    pub number: &'a str,
    pub random: [u8; RANDOM_OCTETS],
}

impl Asked<'_> {
    pub fn sign(&self, key: &ServerKey) -> Result<Shown, BadServerKey> {
        let (nonce_random, seed) = self.random.split_at(RANDOM_OCTETS - 8);
        let nonce = BASE32.encode(&[self.prompt_id.as_bytes(), nonce_random].concat());
        let (title, question) = (without_bars(self.title), without_bars(self.question));
        let Self { url, serial, .. } = self;
        let mut text = format!("{nonce}|{url}|{serial}|{question}|{title}|1");
        let mut challenge = json!({
            "nonce": nonce, "url": url, "serial": serial, "question": question, "title": title, "sslverify": "1",
        });
        if !self.number.is_empty() {
            let choices = choices(self.number, seed).join(",");
            text = format!("{text}|{choices}");
            challenge["require_presence"] = choices.into();
            challenge["version"] = "2".into();
        }
        challenge["signature"] = key.sign(&text)?.into();
        // RFC 8785: names in order, nothing between; there is no number whose form would matter.
        let capabilities = json!({ "capabilities": { "decline_reason": true }, "nonce": nonce }).to_string();
        challenge["capabilities"] = json!({ "decline_reason": true });
        challenge["capabilities_signature"] = key.sign(&capabilities)?.into();
        Ok(Shown { nonce, challenge })
    }
}

/// The prompt that a nonce names.
pub fn prompt_of(nonce: &str) -> Option<Uuid> {
    let octets = BASE32_NOPAD.decode(nonce.trim_end_matches('=').as_bytes()).ok()?;
    octets.get(..UUID_OCTETS).and_then(|octets| Uuid::from_slice(octets).ok())
}

/// What the token was shown of this prompt.
pub fn shown(prompt: &Prompt, device_id: &str) -> Option<Shown> {
    let state: Value = serde_json::from_str(&prompt.state_json).ok()?;
    serde_json::from_value(state.get(PLACE)?.get(device_id)?.clone()).ok()
}

/// The prompt's record with one token's challenge added; what others keep there stays.
pub fn with_shown(prompt: &Prompt, device_id: &str, shown: &Shown) -> String {
    let state = serde_json::from_str::<Map<String, Value>>(&prompt.state_json);
    let mut state = Value::Object(state.unwrap_or_default());
    state[PLACE][device_id] = json!(shown);
    state.to_string()
}

/// The address as the app will write it when it rebuilds the signed text from what it has parsed: host in lower case without a dot at
/// its end, no port that goes without saying.
pub fn endpoint(portal_url: &str) -> Option<String> {
    let mut url = reqwest::Url::parse(&format!("{portal_url}/push/pi")).ok()?;
    if let Some(host) = url.host_str().and_then(|host| host.strip_suffix('.')).map(str::to_owned) {
        url.set_host(Some(&host)).ok()?;
    }
    Some(url.to_string())
}

/// A bar divides the signed text; a line break would divide what is shown.
pub fn without_bars(text: &str) -> String {
    text.chars().filter(|sign| *sign != '|').map(|sign| if sign.is_control() { ' ' } else { sign }).collect()
}

/// Two-digit numbers in random order. `seed` decides both.
fn choices(right: &str, seed: &[u8]) -> Vec<String> {
    let octets = Sha256::digest(seed);
    let (numbers, order) = octets.split_at(octets.len() - CHOICES);
    let mut choices = vec![right.to_owned()];
    let (mut number, mut draws) = (0, numbers.iter().map(|octet| u32::from(*octet)).cycle());
    while choices.len() < CHOICES {
        number = (number + draws.next().unwrap_or_default() + 1) % 90;
        let choice = (number + 10).to_string();
        if !choices.contains(&choice) {
            choices.push(choice);
        }
    }
    // Where the right one stands must not show.
    for (place, draw) in (1..choices.len()).rev().zip(order) {
        choices.swap(place, usize::from(*draw) % (place + 1));
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::super::keys::tests::{der, vectors};
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn asked<'a>(number: &'a str, random: [u8; RANDOM_OCTETS]) -> Asked<'a> {
        Asked {
            prompt_id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
            url: "https://mfa.example.com/push/pi",
            serial: "TWLK0123456789ABCDEF",
            title: "Corp | Example",
            question: "Sign in to VPN\nas ann|ben?",
            number,
            random,
        }
    }

    fn key() -> ServerKey {
        ServerKey::from_pkcs8(&der(&vectors(), "server_key_pkcs8_pem")).expect("a key")
    }

    #[test]
    fn a_challenge_is_strings_that_are_signed_in_their_order() {
        let key = key();
        let shown = asked("", [7; RANDOM_OCTETS]).sign(&key).expect("signed");
        let field = |name: &str| shown.challenge[name].as_str().expect(name).to_owned();
        let (nonce, title, question) = (field("nonce"), field("title"), field("question"));
        assert_eq!((title.as_str(), question.as_str()), ("Corp  Example", "Sign in to VPN as annben?"));
        let text = format!("{nonce}|https://mfa.example.com/push/pi|TWLK0123456789ABCDEF|{question}|{title}|1");
        assert_eq!(field("signature"), key.sign(&text).expect("signed"));
        let capabilities = format!("{{\"capabilities\":{{\"decline_reason\":true}},\"nonce\":\"{nonce}\"}}");
        assert_eq!(field("capabilities_signature"), key.sign(&capabilities).expect("signed"));
        assert_eq!(shown.challenge["capabilities"], json!({ "decline_reason": true }));
        assert_eq!(field("sslverify"), "1");
        for absent in ["require_presence", "version", "display_code", "time"] {
            assert!(shown.challenge.get(absent).is_none(), "{absent}");
        }
        assert_eq!(prompt_of(&nonce), Some(asked("", [0; RANDOM_OCTETS]).prompt_id));
    }

    #[test]
    fn the_number_is_one_of_five_or_more_of_two_digits_and_stands_anywhere() {
        // V-22
        let mut places = HashMap::new();
        for seed in 0..512_u16 {
            let choices = choices("42", &seed.to_be_bytes());
            assert!(choices.len() >= 5 && choices.iter().all(|choice| choice.len() == 2 && !choice.starts_with('0')));
            assert_eq!(choices.iter().collect::<HashSet<_>>().len(), choices.len(), "{choices:?}");
            *places.entry(choices.iter().position(|choice| choice == "42").expect("the right one")).or_insert(0) += 1;
        }
        assert!(places.len() == CHOICES && places.values().all(|times| *times > 40), "{places:?}");
        let shown = asked("42", [7; RANDOM_OCTETS]).sign(&key()).expect("signed");
        let choices = shown.challenge["require_presence"].as_str().expect("choices");
        assert_eq!(shown.challenge["version"], "2");
        let nonce = &shown.nonce;
        let text = format!(
            "{nonce}|https://mfa.example.com/push/pi|TWLK0123456789ABCDEF|Sign in to VPN as annben?|Corp  Example|1|{choices}"
        );
        assert_eq!(shown.challenge["signature"], key().sign(&text).expect("signed"));
    }

    #[test]
    fn the_address_is_in_the_form_in_which_the_app_will_write_it() {
        // The app rebuilds the signed text from its parsed URL.
        for (portal, written) in [
            ("https://mfa.example.com", Some("https://mfa.example.com/push/pi")),
            ("https://MFA.Example.com:443", Some("https://mfa.example.com/push/pi")),
            ("https://mfa.example.com.", Some("https://mfa.example.com/push/pi")),
            ("https://mfa.example.com:8443", Some("https://mfa.example.com:8443/push/pi")),
            ("", None),
        ] {
            assert_eq!(endpoint(portal).as_deref(), written, "{portal}");
        }
    }

    #[test]
    fn the_record_keeps_each_tokens_challenge_and_what_others_wrote() {
        let (one, two) = (asked("", [1; RANDOM_OCTETS]).sign(&key()), asked("", [2; RANDOM_OCTETS]).sign(&key()));
        let (one, two) = (one.expect("signed"), two.expect("signed"));
        let mut prompt = Prompt { state_json: r#"{"other":1}"#.into(), ..Prompt::default() };
        prompt.state_json = with_shown(&prompt, "d1", &one);
        prompt.state_json = with_shown(&prompt, "d2", &two);
        assert_eq!((shown(&prompt, "d1"), shown(&prompt, "d2"), shown(&prompt, "d3")), (Some(one), Some(two), None));
        assert!(prompt.state_json.contains("\"other\":1"));
        for broken in ["", "[]", "{\"pi\":7}", "not JSON"] {
            assert_eq!(shown(&Prompt { state_json: broken.into(), ..Prompt::default() }, "d1"), None);
        }
    }

    #[test]
    fn a_nonce_that_names_no_prompt_is_none() {
        for nonce in ["", "A", "AAAAAAAA", "not base32!", "ÄÄÄÄ"] {
            assert_eq!(prompt_of(nonce), None, "{nonce}");
        }
    }
}
