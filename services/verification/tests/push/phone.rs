//! The web app on a phone, as its page and browser behave: a key of the browser, a passkey, and requests signed by them.

use crate::prompts::{NOW, PORTAL, USER, World};
use ciborium::Value as Cbor;
use data_encoding::BASE64URL_NOPAD;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use proto::user_store::Prompt;
use proto::verification::enrolment_server::Enrolment;
use proto::verification::phone_server::Phone;
use proto::verification::{
    BeginActivationRequest, DecideReply, DecideRequest, DevicePrompt, DeviceProof, FinishActivationRequest,
    OpenPromptsRequest, StartDeviceReply, StartDeviceRequest, UpdateDeviceRequest,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::Request;
use verification::Service;

pub fn base64url(octets: &[u8]) -> String {
    BASE64URL_NOPAD.encode(octets)
}

/// Settings with a push service on this host.
pub fn settings() -> Value {
    json!({ "push": { "hosts": ["127.0.0.1"], "contact": "mailto:ops@example.com" }, "portal": { "company": "Example" } })
}

pub async fn start_device(node: &Service) -> StartDeviceReply {
    let request = StartDeviceRequest { user_id: USER.into(), kind: "web".into(), actor: "self".into() };
    node.start_device(Request::new(request)).await.expect("answered").into_inner()
}

pub fn code_of(started: &StartDeviceReply) -> String {
    String::from_utf8(started.code.clone().expect("a code").value.clone()).expect("text")
}

#[derive(Clone)]
pub struct WebPhone {
    pub device_id: String,
    pub key: SigningKey,
    pub passkey: Option<Passkey>,
    pub subscription: Option<Value>,
    /// What its clock shows.
    pub now_ms: i64,
}

#[derive(Clone)]
pub struct Passkey {
    key: SigningKey,
    id: Vec<u8>,
    pub count: u32,
}

impl Passkey {
    pub fn new(seed: u8) -> Self {
        let key = SigningKey::from_slice(&[seed; 32]).expect("a key");
        Self { key, id: vec![seed; 16], count: 1 }
    }

    fn authenticator_data(&self, attested: bool) -> Vec<u8> {
        let mut data = Sha256::digest(b"mfa.example.com").to_vec();
        data.push(if attested { 0x45 } else { 0x05 });
        data.extend(self.count.to_be_bytes());
        if attested {
            data.extend([0; 16]);
            data.extend((self.id.len() as u16).to_be_bytes());
            data.extend(&self.id);
            let point = self.key.verifying_key().to_sec1_bytes();
            let entry = |label: i64, value: Cbor| (Cbor::from(label), value);
            let key = Cbor::Map(vec![
                entry(1, 2.into()),
                entry(3, (-7).into()),
                entry(-1, 1.into()),
                entry(-2, Cbor::Bytes(point[1..33].to_vec())),
                entry(-3, Cbor::Bytes(point[33..65].to_vec())),
            ]);
            ciborium::into_writer(&key, &mut data).expect("writes");
        }
        data
    }

    fn client_data(kind: &str, challenge: &str) -> Vec<u8> {
        json!({ "type": kind, "challenge": challenge, "origin": PORTAL, "crossOrigin": false }).to_string().into_bytes()
    }

    /// What `navigator.credentials.create` gives for these options.
    pub fn create(&self, options: &str) -> Value {
        let options: Value = serde_json::from_str(options).expect("options");
        assert_eq!(options["rp"]["id"], "mfa.example.com");
        let client = Self::client_data("webauthn.create", options["challenge"].as_str().expect("a challenge"));
        let object = Cbor::Map(vec![
            ("fmt".into(), "none".into()),
            ("attStmt".into(), Cbor::Map(vec![])),
            ("authData".into(), Cbor::Bytes(self.authenticator_data(true))),
        ]);
        let mut attestation = Vec::new();
        ciborium::into_writer(&object, &mut attestation).expect("writes");
        json!({
            "id": base64url(&self.id), "rawId": base64url(&self.id), "type": "public-key",
            "response": { "clientDataJSON": base64url(&client), "attestationObject": base64url(&attestation) },
        })
    }

    /// What `navigator.credentials.get` gives over this challenge.
    pub fn get(&mut self, challenge: &[u8]) -> Value {
        self.count += 1;
        let client = Self::client_data("webauthn.get", &base64url(challenge));
        let data = self.authenticator_data(false);
        let signature: Signature = self.key.sign(&[&data[..], &Sha256::digest(&client)].concat());
        json!({
            "id": base64url(&self.id), "rawId": base64url(&self.id), "type": "public-key",
            "response": {
                "clientDataJSON": base64url(&client), "authenticatorData": base64url(&data),
                "signature": base64url(signature.to_der().as_bytes()),
            },
        })
    }
}

/// What the page shows, or the reason why nothing.
pub type Open = Result<Vec<DevicePrompt>, String>;

impl WebPhone {
    pub fn new(seed: u8) -> Self {
        let key = SigningKey::from_slice(&[seed; 32]).expect("a key");
        Self { device_id: String::new(), key, passkey: Some(Passkey::new(seed)), subscription: None, now_ms: NOW }
    }

    pub fn without_passkey(seed: u8) -> Self {
        Self { passkey: None, ..Self::new(seed) }
    }

    /// Activated and proven.
    pub async fn connected(self, world: &World, node: &Service) -> Self {
        let started = start_device(node).await;
        let mut phone = self;
        assert_eq!(phone.activate(node, &code_of(&started)).await, "");
        let open = phone.look(node).await.expect("its own");
        assert_eq!(phone.decide(node, &open[0], "approve", "").await, "taken");
        let state = world.store.lock().devices.last().expect("a device").1.state.clone();
        assert_eq!(state, "active");
        phone
    }

    pub fn jwk(&self) -> String {
        let point = self.key.verifying_key().to_sec1_bytes();
        json!({
            "kty": "EC", "crv": "P-256", "x": base64url(&point[1..33]), "y": base64url(&point[33..65]),
            "ext": true, "key_ops": ["verify"],
        })
        .to_string()
    }

    /// Both rounds; the reason, empty where it worked.
    pub async fn activate(&mut self, node: &Service, code: &str) -> String {
        let begin = BeginActivationRequest { code: Some(secret(code)), address: "203.0.113.9".into() };
        let begun = node.begin_activation(Request::new(begin)).await.expect("answered").into_inner();
        if !begun.reason.is_empty() {
            return begun.reason;
        }
        self.device_id = begun.device_id;
        let finish = self.finish(code, &begun.passkey_json);
        node.finish_activation(Request::new(finish)).await.expect("answered").into_inner().reason
    }

    pub fn finish(&self, code: &str, options: &str) -> FinishActivationRequest {
        let text = |value: Option<Value>| value.map(|value| value.to_string()).unwrap_or_default();
        FinishActivationRequest {
            code: Some(secret(code)),
            device_id: self.device_id.clone(),
            name: "Ann's phone".into(),
            device_key_jwk: self.jwk(),
            credential_json: text(self.passkey.as_ref().map(|passkey| passkey.create(options))),
            subscription_json: text(self.subscription.clone()),
            address: "203.0.113.9".into(),
        }
    }

    pub fn sign(&self, text: &[u8]) -> String {
        let signature: Signature = self.key.sign(text);
        base64url(&signature.to_bytes())
    }

    pub fn prove(&self, what: &str) -> Option<DeviceProof> {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.now_ms) * 1_000_000).expect("a time");
        let timestamp = at.format(&Rfc3339).expect("written");
        let signature = self.sign(format!("twinlock-device|{}|{timestamp}|{what}", self.device_id).as_bytes());
        Some(DeviceProof { device_id: self.device_id.clone(), timestamp, signature })
    }

    pub async fn look(&self, node: &Service) -> Open {
        let request = OpenPromptsRequest { proof: self.prove("prompts") };
        let reply = node.open_prompts(Request::new(request)).await.expect("answered").into_inner();
        if reply.reason.is_empty() { Ok(reply.prompts) } else { Err(reply.reason) }
    }

    pub async fn update(&self, node: &Service, subscription: &str) -> String {
        let what = format!("update|{}", base64url(&Sha256::digest(subscription.as_bytes())));
        let request = UpdateDeviceRequest { proof: self.prove(&what), subscription_json: subscription.into() };
        node.update_device(Request::new(request)).await.expect("answered").into_inner().reason
    }

    /// The request of a decision, signed as the page does.
    pub fn answer(&mut self, prompt: &DevicePrompt, decision: &str, number: &str) -> DecideRequest {
        let number = if decision == "approve" { number } else { "" };
        let text = transaction(prompt, decision, number);
        let (mut assertion_json, mut signature) = (String::new(), String::new());
        match &mut self.passkey {
            Some(passkey) if decision == "approve" => {
                let options: Value = serde_json::from_str(&prompt.passkey_json).expect("options");
                assert_eq!(options["allowCredentials"][0]["id"], base64url(&passkey.id));
                assertion_json = passkey.get(&Sha256::digest(&text)).to_string();
            }
            _ => signature = self.sign(&text),
        }
        DecideRequest {
            proof: self.prove(&format!("decide|{}|{decision}|{number}", prompt.prompt_id)),
            prompt_id: prompt.prompt_id.clone(),
            decision: decision.into(),
            number: number.into(),
            pin: None,
            assertion_json,
            signature,
        }
    }

    /// `taken`, or the reason why not.
    pub async fn decide(&mut self, node: &Service, prompt: &DevicePrompt, decision: &str, number: &str) -> String {
        let request = self.answer(prompt, decision, number);
        send(node, request).await
    }
}

pub async fn send(node: &Service, request: DecideRequest) -> String {
    let DecideReply { taken, reason, .. } = node.decide(Request::new(request)).await.expect("answered").into_inner();
    assert_eq!(taken, reason.is_empty(), "{reason}");
    if taken { "taken".into() } else { reason }
}

/// RFC 8785, as `JSON.stringify` writes these members in this order.
pub fn transaction(prompt: &DevicePrompt, decision: &str, number: &str) -> Vec<u8> {
    let text = |text: &str| Value::from(text).to_string();
    format!(
        r#"{{"application":{},"client_ip":{},"decision":{},"expires":{},"id":{},"number":{},"user":{},"v":1}}"#,
        text(&prompt.application),
        text(&prompt.place),
        text(decision),
        prompt.expires_unix_ms,
        text(&prompt.prompt_id),
        text(number),
        text(&prompt.username)
    )
    .into_bytes()
}

/// A login's prompt as this phone sees it.
pub async fn asked(world: &World, node: &Service, phone: &WebPhone, change: impl FnOnce(&mut Prompt)) -> DevicePrompt {
    let id = world.prompt("push").prompt_id;
    {
        let mut state = world.store.lock();
        change(state.prompts.iter_mut().find(|prompt| prompt.prompt_id == id).expect("it"));
    }
    let open = phone.look(node).await.expect("its own");
    open.into_iter().find(|prompt| prompt.prompt_id == id).expect("it is shown")
}

pub fn secret(text: &str) -> proto::common::Secret {
    domain::Secret::from(text).into()
}
