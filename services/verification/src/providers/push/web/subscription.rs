//! Where a browser can be woken. It says so itself, so it is believed only for push services of the list: no request of ours goes
//! anywhere else.

use super::encryption::Receiver;
use data_encoding::BASE64URL_NOPAD;
use p256::PublicKey;
use reqwest::Url;
use serde::{Deserialize, Serialize};

const JSON_BYTES_MAX: usize = 4096;

#[derive(Clone)]
pub struct Subscription {
    endpoint: Url,
    receiver: Receiver,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSubscription {
    #[error("the subscription cannot be read")]
    Malformed,
    #[error("the push service {host} is not on the list")]
    NotListed { host: String },
    #[error("the push service {host} is not called by https on its own port")]
    NotHttps { host: String },
}

/// `PushSubscription.toJSON()`.
#[derive(Serialize, Deserialize)]
struct Json {
    endpoint: String,
    keys: Keys,
}

#[derive(Serialize, Deserialize)]
struct Keys {
    p256dh: String,
    auth: String,
}

impl Subscription {
    /// Of a browser or of the store. The list is looked at each time: a host that was taken off is called no more.
    pub fn read(json: &str, hosts: &[String]) -> Result<Self, BadSubscription> {
        let malformed = || BadSubscription::Malformed;
        let sent: Json =
            serde_json::from_str(json).ok().filter(|_| json.len() <= JSON_BYTES_MAX).ok_or_else(malformed)?;
        // Browsers leave the padding out; RFC 8291 allows it in what they give to pages.
        let octets = |text: &str| BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok();
        let public = octets(&sent.keys.p256dh).and_then(|point| PublicKey::from_sec1_bytes(&point).ok());
        let auth = octets(&sent.keys.auth).and_then(|auth| auth.try_into().ok());
        let receiver = Receiver { public: public.ok_or_else(malformed)?, auth: auth.ok_or_else(malformed)? };
        Ok(Self { endpoint: endpoint(&sent.endpoint, hosts)?, receiver })
    }

    /// Only what is used, for the store.
    pub fn to_json(&self) -> String {
        let text = |octets: &[u8]| BASE64URL_NOPAD.encode(octets);
        let keys = Keys { p256dh: text(&self.receiver.public.to_sec1_bytes()), auth: text(&self.receiver.auth) };
        let json = Json { endpoint: self.endpoint.to_string(), keys };
        serde_json::to_string(&json).expect("text can be written")
    }

    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// RFC 8292 section 2: whom the token is for.
    pub fn origin(&self) -> String {
        self.endpoint.origin().ascii_serialization()
    }

    pub fn host(&self) -> &str {
        self.endpoint.host_str().unwrap_or_default()
    }

    pub fn receiver(&self) -> &Receiver {
        &self.receiver
    }
}

fn endpoint(text: &str, hosts: &[String]) -> Result<Url, BadSubscription> {
    let url = Url::parse(text).map_err(|_| BadSubscription::Malformed)?;
    let host = url.host_str().filter(|_| url.username().is_empty() && url.password().is_none());
    let host = host.ok_or(BadSubscription::Malformed)?.to_owned();
    if !hosts.iter().any(|listed| is_listed(&host, listed)) {
        return Err(BadSubscription::NotListed { host });
    }
    // A push service of one's own on this very host needs no certificate.
    let here = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
    match (url.scheme(), url.port()) {
        ("https", None) => Ok(url),
        ("https" | "http", _) if here => Ok(url),
        _ => Err(BadSubscription::NotHttps { host }),
    }
}

/// `*.example.net` is everything below `example.net`, and not itself.
fn is_listed(host: &str, listed: &str) -> bool {
    match listed.strip_prefix('*') {
        Some(below) => {
            below.starts_with('.') && host.len() > below.len() && host.ends_with(&below.to_ascii_lowercase())
        }
        None => host.eq_ignore_ascii_case(listed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = r#""keys":{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}"#;

    fn read(endpoint: &str) -> Result<String, BadSubscription> {
        let hosts = ["push.example.com", "*.notify.example.net", "127.0.0.1"].map(str::to_owned);
        let json = format!(r#"{{"endpoint":"{endpoint}","expirationTime":null,{KEYS}}}"#);
        Subscription::read(&json, &hosts).map(|subscription| subscription.endpoint().to_string())
    }

    #[test]
    fn only_listed_push_services_are_called_and_only_by_https() {
        for good in [
            "https://push.example.com/send/abc",
            "https://PUSH.example.com:443/send/abc",
            "https://db5.notify.example.net/?token=x",
            "http://127.0.0.1:8123/push/1",
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        for elsewhere in [
            "https://notify.example.net/",
            "https://evilnotify.example.net/",
            "https://push.example.com.evil.example/",
            "https://169.254.169.254/latest/meta-data",
            "https://localhost/",
            "https://[::1]/",
            "https://2130706433.example/",
        ] {
            assert!(matches!(read(elsewhere), Err(BadSubscription::NotListed { .. })), "{elsewhere}");
        }
        for plain in ["http://push.example.com/", "https://push.example.com:22/", "ftp://push.example.com/"] {
            assert!(matches!(read(plain), Err(BadSubscription::NotHttps { .. })), "{plain}");
        }
        for bad in
            ["", "push.example.com", "https://ann@push.example.com/", "https://ann:x@push.example.com/", "data:x"]
        {
            assert_eq!(read(bad), Err(BadSubscription::Malformed), "{bad}");
        }
        // Written in another way it is the same address, and it is listed.
        assert!(read("http://2130706433:8123/").is_ok());
    }

    #[test]
    fn a_subscription_without_good_keys_is_none_and_a_good_one_survives_the_store() {
        let hosts = ["push.example.com".to_owned()];
        let good = format!(r#"{{"endpoint":"https://push.example.com/1",{KEYS}}}"#);
        let kept = Subscription::read(&good, &hosts).expect("good").to_json();
        assert_eq!(Subscription::read(&kept, &hosts).expect("good").to_json(), kept);
        for bad in [
            good.replace("BCVx", "BCVy"),
            good.replace("BTBZ", ""),
            good.replace("auth", "other"),
            "[]".into(),
            format!("{good}{}", " ".repeat(5000)),
        ] {
            assert_eq!(Subscription::read(&bad, &hosts).err(), Some(BadSubscription::Malformed), "{bad}");
        }
    }
}
