//! The app of a phone that speaks the protocol of the privacyIDEA Authenticator, written from the facts of its protocol: it
//! scans, enrols, polls, shows and answers, and is as strict as the app about what it is sent. RSA by another implementation than the
//! product's.

use data_encoding::{BASE32, BASE64};
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::pkcs1v15::{Signature, SigningKey, VerifyingKey};
use rsa::pkcs8::{DecodePrivateKey, EncodePublicKey};
use rsa::sha2::Sha256;
use rsa::signature::{SignatureEncoding, Signer, Verifier};
use rsa::{PrivateKey, PublicKey};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// A request: GET with a query, or POST with a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: &'static str,
    pub fields: BTreeMap<String, String>,
}

impl Request {
    fn new(method: &'static str, fields: &[(&str, &str)]) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { method, fields }
    }

    /// The same with one field changed after it was signed.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.fields.insert(name.into(), value.into());
        changed
    }

    pub fn form(&self) -> String {
        super::http::write_form(&self.fields)
    }
}

/// A prompt as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub nonce: String,
    pub title: String,
    pub question: String,
    /// Numbers to choose from; empty = none are asked for.
    pub choices: Vec<String>,
    /// The server takes a reason with a refusal.
    pub takes_reasons: bool,
}

/// The app, with one token.
pub struct Phone {
    pub serial: String,
    /// Where the QR code says.
    pub url: String,
    pub label: String,
    pub issuer: String,
    credential: String,
    key: PrivateKey,
    server: Option<PublicKey>,
    seen: HashSet<String>,
}

impl Phone {
    /// Scans a QR code. The phone's key is PKCS#8 in PEM: making one takes long.
    pub fn scan(text: &str, key_pem: &str) -> Self {
        let rest = text.strip_prefix("otpauth://pipush/").expect("a push token");
        let (label, query) = rest.split_once('?').expect("a query");
        let query = super::http::read_form(query);
        let field = |name: &str| query.get(name).unwrap_or_else(|| panic!("no {name}")).clone();
        assert_eq!((field("v").as_str(), field("poll_only").as_str(), field("sslverify").as_str()), ("1", "True", "1"));
        assert!(field("ttl").parse::<u32>().expect("minutes") > 0);
        assert_eq!(field("enrollment_credential").len(), 40);
        Self {
            serial: field("serial"),
            url: field("url"),
            label: super::http::read_form(&format!("label={label}")).remove("label").expect("a label"),
            issuer: field("issuer"),
            credential: field("enrollment_credential"),
            key: PrivateKey::from_pkcs8_pem(key_pem).expect("a key"),
            server: None,
            seen: HashSet::new(),
        }
    }

    pub fn enrol(&self) -> Request {
        let public = PublicKey::from(&self.key).to_public_key_der().expect("a key");
        let key = BASE64.encode(public.as_bytes());
        let fields = [
            ("enrollment_credential", self.credential.as_str()),
            ("serial", &self.serial),
            ("fbtoken", "no_firebase_token"),
            ("pubkey", &key),
            ("capabilities", r#"["decline_reason"]"#),
        ];
        Request::new("POST", &fields)
    }

    /// The server's key of a reply to [`Phone::enrol`].
    pub fn enrolled(&mut self, reply: &Value) {
        assert_eq!(reply["result"]["value"], true, "{reply}");
        let key = reply["detail"]["public_key"].as_str().expect("a key");
        let der = BASE64.decode(key.as_bytes()).expect("Base64");
        self.server = Some(PublicKey::from_pkcs1_der(&der).expect("PKCS#1, not SubjectPublicKeyInfo"));
    }

    pub fn poll(&self, timestamp: &str) -> Request {
        let signature = self.sign(&format!("{}|{timestamp}", self.serial));
        Request::new("GET", &[("serial", &self.serial), ("timestamp", timestamp), ("signature", &signature)])
    }

    /// What a poll's reply shows that was not shown before; every signature is checked, over what the app rebuilds.
    pub fn show(&mut self, reply: &Value) -> Vec<Shown> {
        assert!(reply.get("time").is_none() && reply.get("version").is_none(), "the app's reader breaks: {reply}");
        let challenges = reply["result"]["value"].as_array().expect("an array of challenges");
        let shown = challenges.iter().map(|challenge| self.checked(challenge));
        let shown: Vec<_> = shown.collect();
        shown.into_iter().filter(|shown| self.seen.insert(shown.nonce.clone())).collect()
    }

    fn checked(&self, challenge: &Value) -> Shown {
        let field = |name: &str| challenge[name].as_str().unwrap_or_else(|| panic!("{name} is no text: {challenge}"));
        assert_eq!((field("sslverify"), field("serial")), ("1", self.serial.as_str()));
        assert!(challenge.get("display_code").is_none(), "another signed form");
        // As it was parsed, not as it was written.
        let url = parsed(field("url"));
        let (nonce, question, title) = (field("nonce"), field("question"), field("title"));
        let mut text = format!("{nonce}|{url}|{}|{question}|{title}|1", self.serial);
        let choices = challenge.get("require_presence").map(|choices| choices.as_str().expect("a text").to_owned());
        if let Some(choices) = &choices {
            assert_eq!(field("version"), "2");
            text = format!("{text}|{choices}");
        }
        self.verify(&text, field("signature"));
        let capabilities = match &challenge["capabilities"] {
            Value::String(text) => serde_json::from_str(text).expect("JSON"),
            given => given.clone(),
        };
        assert!(capabilities.is_object());
        let signed = serde_json::json!({ "capabilities": capabilities, "nonce": nonce }).to_string();
        self.verify(&signed, field("capabilities_signature"));
        Shown {
            nonce: nonce.into(),
            title: title.into(),
            question: question.into(),
            choices: choices.map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default(),
            takes_reasons: capabilities["decline_reason"] == true,
        }
    }

    pub fn accept(&self, nonce: &str, choice: Option<&str>) -> Request {
        let text = format!("{nonce}|{}", self.serial);
        let text = choice.map_or(text.clone(), |choice| format!("{text}|{choice}"));
        let signature = self.sign(&text);
        let request = Request::new("POST", &[("serial", &self.serial), ("nonce", nonce), ("signature", &signature)]);
        choice.map_or(request.clone(), |choice| request.with("presence_answer", choice))
    }

    pub fn decline(&self, nonce: &str, reason: Option<&str>) -> Request {
        let text = format!("{nonce}|{}|decline", self.serial);
        let text = reason.map_or(text.clone(), |reason| format!("{text}|{reason}"));
        let signature = self.sign(&text);
        let fields = [("serial", self.serial.as_str()), ("nonce", nonce), ("decline", "1"), ("signature", &signature)];
        let request = Request::new("POST", &fields);
        reason.map_or(request.clone(), |reason| request.with("decline_reason", reason))
    }

    pub fn change_token(&self, token: &str, timestamp: &str) -> Request {
        let signature = self.sign(&format!("{token}|{}|{timestamp}", self.serial));
        let fields = [
            ("new_fb_token", token),
            ("serial", &self.serial),
            ("timestamp", timestamp),
            ("signature", &signature),
            ("capabilities", r#"["decline_reason"]"#),
        ];
        Request::new("POST", &fields)
    }

    fn sign(&self, text: &str) -> String {
        let signature: Signature = SigningKey::<Sha256>::new(self.key.clone()).sign(text.as_bytes());
        BASE32.encode(&signature.to_bytes())
    }

    fn verify(&self, text: &str, signature: &str) {
        let signature = BASE32.decode(signature.as_bytes()).expect("Base32 with padding");
        let signature = Signature::try_from(signature.as_slice()).expect("a signature");
        let key = VerifyingKey::<Sha256>::new(self.server.clone().expect("enrolled"));
        key.verify(text.as_bytes(), &signature).unwrap_or_else(|_| panic!("not signed: {text}"));
    }
}

/// An address as the app's parser writes it: scheme and host in lower case, no port that goes without saying.
fn parsed(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").expect("an address");
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    let authority = authority.to_lowercase();
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    format!("{}://{authority}/{path}", scheme.to_lowercase())
}
