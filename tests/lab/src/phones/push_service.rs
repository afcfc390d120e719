//! A push service (RFC 8030) with the browsers behind it: it takes messages as the vendors' do, checks who sends them (RFC 8292), and
//! hands them to a browser, which alone can read them (RFC 8291). Written from the RFCs, apart from the product's sender.
//!
//! Control: it can be late, break off, deliver twice, refuse for good or for a while, and say that it took what it threw away.

use super::http::{self, Request};
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes128Gcm, Nonce};
use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64URL_NOPAD;
use hkdf::Hkdf;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::{PublicKey, SecretKey};
use serde_json::Value;
use sha2::Sha256;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// RFC 8030 section 7.2 lets a service refuse more.
const MESSAGE_BYTES_MAX: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(10);

/// How it behaves from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushMood {
    Accept,
    /// So many milliseconds late.
    Delay(u64),
    /// Breaks the connection off.
    Drop,
    /// Delivers everything twice.
    Double,
    Refuse(u16),
    /// Once, with so many seconds to wait; accepts afterwards.
    RefuseOnce(u16, u32),
    /// Says that it took the message, and throws it away.
    Lie,
}

/// A message as it came in.
#[derive(Debug, Clone)]
pub struct Pushed {
    pub path: String,
    pub ttl: u32,
    pub urgency: String,
    pub topic: String,
    pub body: Vec<u8>,
}

pub struct PushService {
    /// `http://127.0.0.1:PORT`
    pub origin: String,
    desk: Arc<Desk>,
    messages: tokio::sync::Mutex<mpsc::UnboundedReceiver<Pushed>>,
    server: tokio::task::JoinHandle<()>,
}

struct Desk {
    origin: String,
    mood: Mutex<PushMood>,
    requests: AtomicUsize,
    delivered: mpsc::UnboundedSender<Pushed>,
}

impl Drop for PushService {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl PushService {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let (delivered, messages) = mpsc::unbounded_channel();
        let mood = Mutex::new(PushMood::Accept);
        let desk = Arc::new(Desk { origin: origin.clone(), mood, requests: AtomicUsize::new(0), delivered });
        let serving = desk.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let desk = serving.clone();
                tokio::spawn(async move { desk.serve(stream).await });
            }
        });
        Ok(Self { origin, desk, messages: tokio::sync::Mutex::new(messages), server })
    }

    pub fn set_mood(&self, mood: PushMood) {
        *self.desk.mood.lock().expect("whole") = mood;
    }

    /// Requests of any kind so far.
    pub fn requests(&self) -> usize {
        self.desk.requests.load(Ordering::SeqCst)
    }

    /// The next message that was delivered.
    pub async fn next(&self) -> Result<Pushed> {
        let next = async { self.messages.lock().await.recv().await };
        tokio::time::timeout(PATIENCE, next).await.context("no message came")?.context("the push service is gone")
    }

    /// Nothing was delivered that nobody has asked for.
    pub async fn is_quiet(&self) -> bool {
        self.messages.lock().await.try_recv().is_err()
    }

    /// A browser that subscribes here.
    pub fn subscribe(&self, name: &str) -> BrowserSide {
        let mut key = [0x5a; 32];
        for (octet, sign) in key.iter_mut().zip(name.bytes()) {
            *octet ^= sign;
        }
        let key = SecretKey::from_slice(&key).expect("a number below the order of the curve");
        BrowserSide { endpoint: format!("{}/push/{name}", self.origin), key, auth: *b"sixteen octets !" }
    }
}

impl Desk {
    async fn serve(&self, mut stream: TcpStream) {
        let Some(request) = http::read(&mut stream).await else { return };
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().expect("whole");
        let mut more = String::new();
        let refused = match mood {
            PushMood::Drop => return,
            PushMood::Delay(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                None
            }
            PushMood::Refuse(status) => Some(status),
            PushMood::RefuseOnce(status, seconds) => {
                more = format!("retry-after: {seconds}\r\n");
                *self.mood.lock().expect("whole") = PushMood::Accept;
                Some(status)
            }
            PushMood::Accept | PushMood::Double | PushMood::Lie => None,
        };
        let status = refused.unwrap_or_else(|| match self.read(&request) {
            Ok(pushed) => {
                let copies = match mood {
                    PushMood::Lie => 0,
                    PushMood::Double => 2,
                    _ => 1,
                };
                for _ in 0..copies {
                    let _ = self.delivered.send(pushed.clone());
                }
                201
            }
            Err(status) => status,
        });
        let reply = format!("HTTP/1.1 {status} X\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(reply.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    /// What vendors look at before they take a message.
    fn read(&self, request: &Request) -> Result<Pushed, u16> {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        if request.method != "POST" || !request.path().starts_with("/push/") {
            return Err(404);
        }
        if !self.knows(header("authorization").ok_or(401_u16)?) {
            return Err(403);
        }
        let ttl = header("ttl").and_then(|ttl| ttl.parse().ok()).ok_or(400_u16)?;
        let topic = header("topic").unwrap_or_default();
        // RFC 8030 section 5.4
        let in_alphabet = topic.bytes().all(|sign| sign.is_ascii_alphanumeric() || sign == b'-' || sign == b'_');
        if header("content-encoding") != Some("aes128gcm") || topic.len() > 32 || !in_alphabet {
            return Err(400);
        }
        if request.body.len() > MESSAGE_BYTES_MAX {
            return Err(413);
        }
        let urgency = header("urgency").unwrap_or_default().to_owned();
        Ok(Pushed {
            path: request.path().to_owned(),
            ttl,
            urgency,
            topic: topic.to_owned(),
            body: request.body.clone(),
        })
    }

    /// RFC 8292: a token for us, signed by the key beside it.
    fn knows(&self, authorization: &str) -> bool {
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        let check = || -> Option<bool> {
            let (token, key) = authorization.strip_prefix("vapid t=")?.split_once(", k=")?;
            let (signed, signature) = token.rsplit_once('.')?;
            let key = VerifyingKey::from_sec1_bytes(&decode(key)?).ok()?;
            key.verify(signed.as_bytes(), &Signature::from_slice(&decode(signature)?).ok()?).ok()?;
            let claims: Value = serde_json::from_slice(&decode(signed.split_once('.')?.1)?).ok()?;
            let contact = claims["sub"].as_str()?;
            Some(claims["aud"] == self.origin.as_str() && claims["exp"].is_i64() && contact.starts_with("mailto:"))
        };
        check().unwrap_or(false)
    }
}

/// A browser that subscribed, with the key that it gave to nobody.
#[derive(Clone)]
pub struct BrowserSide {
    pub endpoint: String,
    key: SecretKey,
    auth: [u8; 16],
}

impl BrowserSide {
    /// `PushSubscription.toJSON()`
    pub fn subscription(&self) -> Value {
        let text = |octets: &[u8]| BASE64URL_NOPAD.encode(octets);
        serde_json::json!({
            "endpoint": self.endpoint,
            "expirationTime": null,
            "keys": { "p256dh": text(&self.key.public_key().to_sec1_bytes()), "auth": text(&self.auth) },
        })
    }

    /// RFC 8188 section 2.1 and RFC 8291 section 3.4, as a browser reads a message of one record.
    pub fn open(&self, body: &[u8]) -> Result<Vec<u8>> {
        ensure!(body.len() > 21 + 65 + 16, "too short");
        let (salt, rest) = body.split_at(16);
        let (size, rest) = rest.split_at(4);
        ensure!(body.len() <= 86 + u32::from_be_bytes(size.try_into()?) as usize, "more than one record");
        let (length, rest) = rest.split_at(1);
        ensure!(length == [65], "the sender's key has {} octets", length[0]);
        let (sender, sealed) = rest.split_at(65);
        let public = self.key.public_key().to_sec1_bytes();
        let shared = self.key.diffie_hellman(&PublicKey::from_sec1_bytes(sender).context("no point")?);
        let derive = |salt: &[u8], input: &[u8], info: &[u8], length: usize| {
            let mut out = vec![0; length];
            Hkdf::<Sha256>::new(Some(salt), input).expand(info, &mut out).expect("few octets");
            out
        };
        let info = [b"WebPush: info\0", &public[..], sender].concat();
        let input = derive(&self.auth, shared.raw_secret_bytes(), &info, 32);
        let key = derive(salt, &input, b"Content-Encoding: aes128gcm\0", 16);
        let nonce: [u8; 12] = derive(salt, &input, b"Content-Encoding: nonce\0", 12).as_slice().try_into()?;
        let cipher = Aes128Gcm::new_from_slice(&key).context("a key")?;
        let Ok(mut plain) = cipher.decrypt(&Nonce::from(nonce), sealed) else { bail!("it is for somebody else") };
        while plain.last() == Some(&0) {
            plain.pop();
        }
        ensure!(plain.pop() == Some(2), "it is not the last record");
        Ok(plain)
    }
}
