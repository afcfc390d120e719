//! Letters to SMTP servers, in the order of the settings: STARTTLS, TLS, logins, private authorities (FN-01).

use super::super::ask::{Asking, Attempt, Kind, Noted, Refusal};
use super::super::http::trust;
use super::super::{Accepted, SendFailure, Shared, Steps};
use crate::settings::Known;
use async_trait::async_trait;
use domain::Secret;
use domain::settings::{Adapter, Channel, Provider, SmtpTls};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use service_kit::Process;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// For one command; the whole is bounded by the provider's timeout.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// One mail to one address.
#[derive(Clone)]
pub struct Letter {
    /// Ours, unique: the same letter sent twice has one Message-ID.
    pub id: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: Option<String>,
}

/// The SMTP providers, as this node knows them.
pub struct Letters {
    asking: Asking,
    made: Mutex<HashMap<String, Made>>,
}

struct Made {
    provider: Provider,
    secret: Secret,
    post: Result<Arc<Post>, Refusal>,
}

/// A way to one server, and what stands in every letter that takes it.
struct Post {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    sender: Mailbox,
    reply_to: Option<Mailbox>,
}

impl Letters {
    pub fn new(shared: &Shared, process: &Process) -> Self {
        Self { asking: Asking::new(Channel::Mail, shared.clone(), process), made: Mutex::default() }
    }

    /// Hands a letter to the first provider that takes it, and notes it.
    pub async fn send(
        &self,
        known: &Known,
        only: &str,
        letter: &Letter,
        until: Instant,
        user_id: &str,
        steps: &mut Steps,
    ) -> Result<Accepted, Unsent> {
        let noted = Noted { user_id: user_id.into(), destination: masked(&letter.to), ..Noted::default() };
        let way = Way { letters: self, known, letter, heard: Mutex::default() };
        let asked = self.asking.ask(&known.settings.providers, only, until, &noted, steps, &way).await;
        asked.map_err(|failure| match failure {
            SendFailure::Refused { .. } if way.is_final() => Unsent::Refused,
            SendFailure::NoProvider => Unsent::NoProvider,
            _ => Unsent::NotNow,
        })
    }

    /// The same for an adapter that notes its message itself.
    pub async fn first_that_takes(&self, known: &Known, letter: &Letter, until: Instant) -> Result<(), Refusal> {
        let providers = known.settings.providers.iter().filter(|it| it.enabled && it.channel == Channel::Mail);
        let mut last = Refusal::new(Kind::Misconfigured, "the settings name no mail provider");
        for provider in providers {
            let way = Way { letters: self, known, letter, heard: Mutex::default() };
            let limit = until.min(Instant::now() + Duration::from_secs(provider.timeout_seconds.clamp(1, 30).into()));
            match tokio::time::timeout_at(limit, way.attempt(provider, &letter.id, limit)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(refusal)) => last = refusal,
                Err(_) => last = Refusal::new(Kind::Late, "no answer in time"),
            }
        }
        Err(last)
    }

    /// Is there anybody to hand a letter to?
    pub fn any(known: &Known) -> bool {
        known.settings.providers.iter().any(|it| it.enabled && it.channel == Channel::Mail)
    }

    /// Forgets providers that left the settings.
    pub fn keep_only(&self, known: &Known) {
        let providers = &known.settings.providers;
        let wanted = |name: &str| providers.iter().any(|it| it.enabled && it.name.as_str() == name);
        self.made.lock().expect("nobody panics while holding the posts").retain(|name, _| wanted(name));
        self.asking.keep_only(providers);
    }

    fn post(&self, provider: &Provider, known: &Known) -> Result<Arc<Post>, Refusal> {
        let name = provider.name.as_str();
        let secret = known.provider_secret(provider, "secret").cloned().unwrap_or_default();
        let mut made = self.made.lock().expect("nobody panics while holding the posts");
        match made.get(name) {
            Some(found) if found.provider == *provider && found.secret == secret => found.post.clone(),
            _ => {
                let post = Post::new(provider, &secret).map(Arc::new);
                let fresh = Made { provider: provider.clone(), secret, post: post.clone() };
                made.insert(name.to_owned(), fresh);
                post
            }
        }
    }
}

/// Nobody took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// Every server said no for good: the address is not there.
    Refused,
    /// Later, perhaps.
    NotNow,
    NoProvider,
}

struct Way<'a> {
    letters: &'a Letters,
    known: &'a Known,
    letter: &'a Letter,
    /// By server: what it said.
    heard: Mutex<Vec<Kind>>,
}

impl Way<'_> {
    /// Nothing but final refusals was heard.
    fn is_final(&self) -> bool {
        let heard = self.heard.lock().expect("nobody panics while holding it");
        !heard.is_empty() && heard.iter().all(|kind| *kind == Kind::Refused)
    }
}

#[async_trait]
impl Attempt for Way<'_> {
    async fn attempt(&self, provider: &Provider, _: &str, _: Instant) -> Result<String, Refusal> {
        // What is late is heard as such before it is over.
        let heard = |kind| self.heard.lock().expect("nobody panics while holding it").push(kind);
        let sent = async {
            let post = self.letters.post(provider, self.known)?;
            let message = post.message(self.letter)?;
            post.transport.send(message).await.map_err(refusal)
        };
        heard(Kind::Late);
        let sent = sent.await;
        let kind = sent.as_ref().map_or_else(|refusal| refusal.kind, |_| Kind::Late);
        if let Some(last) = self.heard.lock().expect("nobody panics while holding it").last_mut() {
            *last = kind;
        }
        sent.map(|_| String::new())
    }
}

impl Post {
    fn new(provider: &Provider, secret: &Secret) -> Result<Self, Refusal> {
        let wrong = |detail: &str| Refusal::new(Kind::Misconfigured, detail);
        let Adapter::Smtp { host, port, tls, user, sender, reply_to, ca } = &provider.adapter else {
            return Err(wrong("it is no SMTP provider"));
        };
        let sender: Mailbox = sender.parse().map_err(|_| wrong("its sender is no mail address"))?;
        let reply_to = match reply_to.as_str() {
            "" => None,
            address => Some(address.parse().map_err(|_| wrong("its reply_to is no mail address"))?),
        };
        let parameters = || {
            let mut builder = TlsParameters::builder(host.clone());
            if !ca.is_empty() {
                // Stricter than the builder, which takes a text without a certificate and then trusts nobody.
                trust(ca).map_err(|error| wrong(&error.to_string()))?;
                let authorities = Certificate::from_pem(ca.as_bytes()).map_err(|_| wrong("its ca is no PEM text"))?;
                builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authorities);
            }
            builder.build().map_err(|_| wrong("its ca cannot be used"))
        };
        let tls = match tls {
            SmtpTls::StartTls => Tls::Required(parameters()?),
            SmtpTls::Tls => Tls::Wrapper(parameters()?),
            SmtpTls::DangerNone => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(*port)
            .tls(tls)
            .hello_name(ClientId::Domain(sender.email.domain().to_owned()))
            .timeout(Some(COMMAND_TIMEOUT));
        if !user.is_empty() {
            let password = secret.expose_str().ok_or_else(|| wrong("its secret is no text"))?;
            builder = builder.credentials(Credentials::new(user.clone(), password.to_owned()));
        }
        Ok(Self { transport: builder.build(), sender, reply_to })
    }

    fn message(&self, letter: &Letter) -> Result<Message, Refusal> {
        // An address or a subject with line ends does not get this far: both are parsed here.
        let unfit = |_| Refusal::new(Kind::Refused, "no mail can be made of it");
        let to: Mailbox = letter.to.parse().map_err(|_| Refusal::new(Kind::Refused, "its address is none"))?;
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let mut builder = Message::builder()
            .message_id(Some(format!("<{}@{}>", letter.id, self.sender.email.domain())))
            .from(self.sender.clone())
            .to(to)
            .subject(letter.subject.replace(char::is_control, " "))
            // RFC 3834: nobody's absence is answered to us.
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        match &letter.html {
            Some(html) => {
                builder.multipart(MultiPart::alternative_plain_html(letter.text.clone(), html.clone())).map_err(unfit)
            }
            None => {
                let part = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(letter.text.clone());
                builder.singlepart(part).map_err(unfit)
            }
        }
    }
}

/// The server's words are not told: they repeat addresses.
fn refusal(error: lettre::transport::smtp::Error) -> Refusal {
    let status = error.status().map(u16::from);
    match status {
        Some(code) if error.is_permanent() => {
            // 53x is about us, not about the letter (RFC 4954 section 6).
            let kind = if (530..=538).contains(&code) { Kind::Misconfigured } else { Kind::Refused };
            Refusal::new(kind, format!("SMTP {code}"))
        }
        Some(code) => Refusal::new(Kind::Busy, format!("SMTP {code}")),
        None if error.is_timeout() => Refusal::new(Kind::Late, "no answer in time"),
        None if error.is_tls() => Refusal::new(Kind::Unreachable, "no TLS, or no trust in its certificate"),
        None if error.is_client() => Refusal::new(Kind::Misconfigured, "it offers no login that is known, or no TLS"),
        None => Refusal::new(Kind::Unreachable, "no connection, or it broke"),
    }
}

/// `a•••@example.com`
pub fn masked(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    format!("{}•••@{domain}", local.chars().next().map(String::from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(more: serde_json::Value) -> Provider {
        let mut adapter = serde_json::json!({"kind": "smtp", "host": "mx", "sender": "Twinlock <mfa@example.com>"});
        adapter.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        serde_json::from_value(serde_json::json!({"name": "mx", "channel": "mail", "adapter": adapter})).expect("valid")
    }

    fn letter(to: &str, subject: &str) -> Letter {
        Letter {
            id: "7".into(),
            to: to.into(),
            subject: subject.into(),
            text: "Grüße".into(),
            html: Some("<p>".into()),
        }
    }

    #[test]
    fn what_the_settings_have_wrong_is_said() {
        let wrong = |more| Post::new(&provider(more), &Secret::default()).err().map(|refusal| refusal.detail);
        assert_eq!(wrong(serde_json::json!({})), None);
        assert_eq!(wrong(serde_json::json!({"sender": "x"})).as_deref(), Some("its sender is no mail address"));
        assert_eq!(wrong(serde_json::json!({"reply_to": "x"})).as_deref(), Some("its reply_to is no mail address"));
        assert_eq!(
            wrong(serde_json::json!({"ca": "hello"})).as_deref(),
            Some("its ca is no PEM text with certificates")
        );
    }

    #[test]
    fn nothing_of_a_letter_becomes_a_header_of_its_own() {
        let post = Post::new(&provider(serde_json::json!({})), &Secret::default()).expect("good");
        let written = |letter: &Letter| {
            post.message(letter).map(|message| String::from_utf8_lossy(&message.formatted()).into_owned())
        };
        let mail = written(&letter("ann@example.com", "Hi\r\nBcc: eve@example.com")).expect("a mail");
        assert!(!mail.contains("\r\nBcc:"), "{mail}");
        assert!(mail.contains("Message-ID: <7@example.com>") && mail.contains("Auto-Submitted: auto-generated"));
        assert!(mail.contains("multipart/alternative"));
        for address in ["ann@example.com\r\nBcc: eve@example.com", "nobody", "", "a b@example.com"] {
            assert!(written(&letter(address, "Hi")).is_err(), "{address:?}");
        }
    }

    #[test]
    fn an_address_is_masked_where_it_is_noted() {
        assert_eq!(masked("ann.archer@example.com"), "a•••@example.com");
        assert_eq!(masked("nothing"), "n•••@");
    }
}
